// SPDX-License-Identifier: GPL-2.0-only
/*
 * Why: who may have a device, and what keeps the others from it
 *
 * An attach stops at the first obstacle and names it in the kernel's log; a
 * request of the netlink family is told all of them.
 */
#include <linux/capability.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/ratelimit.h>
#include <linux/security.h>

#include <linux/kosdma_netlink.h>

#include "kosdma.h"

/* --- may ------------------------------------------------------------------ */

/* Neither a grant nor privilege lets the caller have the function. */
static bool kosdma_address_forbidden(u32 address)
{
	return !kosdma_grant_allows(current_cred(), address) && !capable(CAP_SYS_ADMIN);
}

/*
 * May the caller not have a device? Its group is held as a whole, and nothing
 * but bus mastering keeps its members apart. So all that are bound to kosdma
 * must be granted: one that is not is meant for somebody else, and is @address.
 */
static bool kosdma_device_forbidden(struct kosdma_device *dev, u32 *address)
{
	struct kosdma_group *group = dev->group;
	struct kosdma_device *member;
	bool forbidden;

	/* The device itself may have left the group by now. */
	*address = dev->address;
	forbidden = kosdma_address_forbidden(dev->address);
	mutex_lock(&group->lock);
	list_for_each_entry(member, &group->members, member_node) {
		if (forbidden)
			break;
		*address = member->address;
		forbidden = kosdma_address_forbidden(member->address);
	}
	mutex_unlock(&group->lock);
	return forbidden;
}

/* What keeps the caller from devices without an IOMMU: an enum kosdma_nl_obstacle, or -1. */
int kosdma_direct_obstacle(void)
{
	if (!kosdma_direct_allowed())
		return KOSDMA_NL_OBSTACLE_DIRECT_FORBIDDEN;
	if (!capable(CAP_SYS_RAWIO))
		return KOSDMA_NL_OBSTACLE_DIRECT_PRIVILEGE;
	if (security_locked_down(LOCKDOWN_PCI_ACCESS))
		return KOSDMA_NL_OBSTACLE_DIRECT_LOCKDOWN;
	return -1;
}

/* May the caller attach the device or have its registers? */
int kosdma_device_may_hold(struct kosdma_device *dev)
{
	int obstacle;
	u32 address;

	if (kosdma_device_forbidden(dev, &address))
		return -EPERM;
	if (!dev->group->iommu) {
		obstacle = kosdma_direct_obstacle();
		if (obstacle >= 0)
			return obstacle == KOSDMA_NL_OBSTACLE_DIRECT_FORBIDDEN ? -EOPNOTSUPP :
										 -EPERM;
	}
	return 0;
}

/* --- members of the group ------------------------------------------------- */

/* What the driver of a member of a group means for who wants the group. */
enum kosdma_member {
	KOSDMA_MEMBER_FREE,	/* none, ours, a bridge's; or it comes or goes just now */
	KOSDMA_MEMBER_MANAGES,	/* may have claimed the group for its users, as VFIO does */
	KOSDMA_MEMBER_BLOCKS,	/* keeps the group from us */
};

/* Asks what a member's driver means; if it has one that does something, its name is @name. */
static enum kosdma_member kosdma_member_ask(struct device *member, char name[KOSDMA_NAME_LEN])
{
	enum kosdma_member means = KOSDMA_MEMBER_BLOCKS;

	/* A try: whoever has the lock may wait for the group, which is locked. */
	if (!device_trylock(member))
		return KOSDMA_MEMBER_FREE;
	if (!member->driver || member->driver->owner == THIS_MODULE)
		means = KOSDMA_MEMBER_FREE;
	else if (dev_is_pci(member) && to_pci_driver(member->driver)->driver_managed_dma)
		means = kosdma_pci_is_machine(to_pci_dev(member)) ? KOSDMA_MEMBER_FREE :
								    KOSDMA_MEMBER_MANAGES;
	if (means != KOSDMA_MEMBER_FREE)
		strscpy(name, member->driver->name, KOSDMA_NAME_LEN);
	device_unlock(member);
	return means;
}

struct kosdma_explain {
	struct kosdma_device *dev;
	enum kosdma_member wanted;
	bool told;
};

static int kosdma_explain_member(struct device *member, void *data)
{
	struct kosdma_explain *explain = data;
	char name[KOSDMA_NAME_LEN];

	if (member == &explain->dev->pdev->dev ||
	    kosdma_member_ask(member, name) != explain->wanted)
		return 0;
	explain->told = true;
	/* These lines are part of the API. */
	pci_notice(explain->dev->pdev, "cannot be attached: %sdriver %s has %s of its group\n",
		   explain->wanted == KOSDMA_MEMBER_BLOCKS ? "" :
		   "another owner has its group's DMA, and ", name, dev_name(member));
	return 0;
}

/**
 * kosdma_group_explain() - say why a group's DMA cannot be claimed
 * @dev: for it the group was wanted
 * @error: what the IOMMU core answered
 *
 * Drivers are in the way, or may be, or neither.
 */
void kosdma_group_explain(struct kosdma_device *dev, int error)
{
	struct kosdma_explain explain = { .dev = dev, .wanted = KOSDMA_MEMBER_BLOCKS };
	static DEFINE_RATELIMIT_STATE(limit, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);
	bool owned = error == -EPERM;

	if (!__ratelimit(&limit))
		return;
	for (; owned && !explain.told && explain.wanted != KOSDMA_MEMBER_FREE; explain.wanted--)
		iommu_group_for_each_dev(dev->group->iommu, &explain, kosdma_explain_member);
	if (!explain.told)
		pci_notice(dev->pdev, "cannot be attached: %s (error %d)\n",
			   owned ? "another owner has its group's DMA" :
				   "its group's DMA cannot be claimed", error);
}

/* --- all of it ------------------------------------------------------------ */

struct kosdma_why {
	kosdma_reason_fn *tell;
	void *data;
	struct pci_dev *pdev;
	u32 address;
	bool blocked;
};

static void kosdma_why_tell(const struct kosdma_why *why, u32 obstacle)
{
	struct kosdma_reason reason = { .obstacle = obstacle, .address = why->address };

	why->tell(&reason, why->data);
}

static int kosdma_why_member(struct device *member, void *data)
{
	struct kosdma_reason reason = { .obstacle = KOSDMA_NL_OBSTACLE_MEMBER };
	struct kosdma_why *why = data;

	if (kosdma_member_ask(member, reason.driver) != KOSDMA_MEMBER_BLOCKS)
		return 0;
	why->blocked = true;
	/* That the function's own driver stands in the way has been said. */
	if (member == &why->pdev->dev)
		return 0;
	if (!dev_is_pci(member) || !kosdma_pci_address(to_pci_dev(member), &reason.address))
		reason.address = KOSDMA_NO_ADDRESS;
	why->tell(&reason, why->data);
	return 0;
}

/* What is in the way of the IOMMU group; @held: a process has claimed it through us. */
static void kosdma_why_group(struct kosdma_why *why, struct iommu_group *iommu, bool held)
{
	struct kosdma_reason reason = {
		.obstacle = KOSDMA_NL_OBSTACLE_RESERVED,
		.address = why->address,
	};

	if (!held && iommu_group_dma_owner_claimed(iommu)) {
		iommu_group_for_each_dev(iommu, why, kosdma_why_member);
		if (!why->blocked)
			kosdma_why_tell(why, KOSDMA_NL_OBSTACLE_OWNER);
	}
	if (kosdma_interrupts_unsafe(iommu))
		kosdma_why_tell(why, KOSDMA_NL_OBSTACLE_INTERRUPTS);
	if (kosdma_firmware_range(iommu, &reason.start, &reason.last))
		why->tell(&reason, why->data);
}

/* Who has claimed a group through us; @dev, or NULL, is the device. Returns if somebody has. */
static bool kosdma_why_held(struct kosdma_why *why, struct kosdma_group *group,
			    const struct kosdma_device *dev)
{
	const struct kosdma_device *member;
	struct kosdma_process *holder;
	u32 held = why->address;

	mutex_lock(&group->lock);
	holder = group->holder;
	/* A sibling of it, if it does not itself. */
	list_for_each_entry(member, &group->members, member_node) {
		if (!member->holds)
			continue;
		held = member->address;
		if (held == why->address)
			break;
	}
	/*
	 * An attach waits for the teardown of a dead holder. If that is over and the
	 * group is still held, then by registers that another process inherited.
	 */
	if (holder && ((dev && dev->attached) || !kosdma_process_is_current(holder)) &&
	    (!READ_ONCE(holder->dead) || READ_ONCE(holder->gone))) {
		struct kosdma_reason reason = {
			.obstacle = KOSDMA_NL_OBSTACLE_HELD,
			.address = held,
			.pid = READ_ONCE(holder->dead) ? 0 : holder->pid,
			.uid = holder->uid,
		};

		why->tell(&reason, why->data);
	}
	mutex_unlock(&group->lock);
	return holder;
}

/* What is in the way of a function that kosdma does not have: its @driver, or that it has none. */
static void kosdma_why_unbound(struct kosdma_why *why, const char *driver)
{
	struct kosdma_reason reason = { .address = why->address };

	/* Nothing changes that. */
	if (kosdma_pci_is_machine(why->pdev)) {
		kosdma_why_tell(why, KOSDMA_NL_OBSTACLE_MACHINE);
		return;
	}
	strscpy(reason.driver, driver, sizeof(reason.driver));
	reason.obstacle = *driver ? KOSDMA_NL_OBSTACLE_DRIVER : KOSDMA_NL_OBSTACLE_UNBOUND;
	why->tell(&reason, why->data);
	if (kosdma_address_forbidden(why->address))
		kosdma_why_tell(why, KOSDMA_NL_OBSTACLE_GRANT);
}

/**
 * kosdma_device_why() - what keeps the caller from attaching a function
 * @address: the function
 * @tell: called for each thing that does, maybe below locks: it must not
 *	sleep
 * @data: for @tell
 *
 * By the same checks as attach, but all of them. What is not asked is what only
 * a try can tell: whether it can be powered up and reset, and whether the
 * addresses that a domain has given out already suit it.
 *
 * Return: 0, or -ENODEV if there is no such function.
 */
int kosdma_device_why(u32 address, kosdma_reason_fn *tell, void *data)
{
	struct kosdma_why why = { .tell = tell, .data = data, .address = address };
	struct kosdma_device *dev;
	char driver[KOSDMA_NAME_LEN];
	struct kosdma_reason reason = { .obstacle = KOSDMA_NL_OBSTACLE_GRANT };
	struct kosdma_group *group;
	struct iommu_group *iommu;
	bool held = false;
	int obstacle;

	why.pdev = kosdma_pci_dev_get(address);
	if (!why.pdev)
		return -ENODEV;
	kosdma_driver_name(why.pdev, driver);
	dev = kosdma_device_find_of(why.pdev);
	if (!dev)
		kosdma_why_unbound(&why, driver);
	else if (kosdma_device_forbidden(dev, &reason.address))
		tell(&reason, data);
	iommu = iommu_group_get(&why.pdev->dev);
	group = dev ? dev->group : kosdma_group_find(iommu);
	if (group)
		held = kosdma_why_held(&why, group, dev);
	if (dev)
		kosdma_device_put(dev);
	else if (group)
		kosdma_group_put(group);
	if (iommu) {
		kosdma_why_group(&why, iommu, held);
		iommu_group_put(iommu);
	} else {
		obstacle = kosdma_direct_obstacle();
		if (obstacle >= 0)
			kosdma_why_tell(&why, obstacle);
	}
	pci_dev_put(why.pdev);
	return 0;
}
