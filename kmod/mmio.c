// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: claimed ranges of device registers
 *
 * A region is in the pages of one BAR of a device that is bound to kosdma, which
 * it then holds; or anywhere else where neither memory nor the machine itself
 * is, for CAP_SYS_RAWIO ("raw"). claim.c decides who has claimed what.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/ioport.h>
#include <linux/security.h>
#include <linux/slab.h>

#include "kosdma.h"
#include "trace.h"

/* --- the claim -------------------------------------------------------------- */

static void kosdma_region_unclaim(struct kosdma_region *region)
{
	kosdma_claim_remove(&region->tail);
	kosdma_claim_remove(&region->claim);
}

static int kosdma_region_try_claim(struct kosdma_region *region, struct kosdma_claimant *other,
				   struct kosdma_object **owner)
{
	int ret = kosdma_claim_add(&region->claim, other, owner);

	if (!ret && region->tail.range.start) {
		ret = kosdma_claim_add(&region->tail, other, owner);
		if (ret)
			kosdma_claim_remove(&region->claim);
	}
	return ret;
}

/* The process that has the region mapped, if it is dead; with a reference. */
static struct kosdma_process *kosdma_region_dead_mapper(struct kosdma_region *region)
{
	struct kosdma_process *process = NULL;

	mutex_lock(&region->lock);
	if (region->mapping && READ_ONCE(region->mapping->process->dead))
		process = kosdma_process_get(region->mapping->process);
	mutex_unlock(&region->lock);
	return process;
}

/*
 * The kernel's entry of a claim is below that of the BAR or bridge that it is in,
 * and has to go first. So a claim in a BAR of ours is on the list of its device
 * before the device lock is let go. On success the device is held.
 */
static int kosdma_region_claim_device(struct kosdma_region *region,
				      struct kosdma_claimant *other, struct kosdma_object **owner,
				      struct kosdma_process **died)
{
	struct kosdma_device *dev = region->dev;
	struct kosdma_process *process, *holder;
	int ret;

	process = kosdma_process_current();
	if (IS_ERR(process))
		return PTR_ERR(process);
	mutex_lock(&dev->group->lock);
	ret = dev->gone ? -ENODEV : kosdma_region_try_claim(region, other, owner);
	if (ret)
		goto out;
	holder = dev->group->holder;
	if (!holder || holder == process) {
		ret = kosdma_device_hold(dev, process);
	} else {
		ret = -EBUSY;
		if (READ_ONCE(holder->dead))
			*died = kosdma_process_get(holder);
	}
	if (ret)
		kosdma_region_unclaim(region);
	else
		list_add_tail(&region->dev_node, &dev->regions);
out:
	mutex_unlock(&dev->group->lock);
	kosdma_process_put(process);
	return ret;
}

/*
 * All other claims have their entry where nothing can be unplugged, if they have
 * one. @driven: in a BAR of another driver's device, which is refused unless it is
 * shared with the kernel, even if nobody has claimed the range.
 */
static int kosdma_region_claim_raw(struct kosdma_region *region, bool driven,
				   struct kosdma_claimant *other, struct kosdma_object **owner)
{
	bool shared = region->claim.flags & KOSDMA_REGION_K_SHARED;
	bool refused = driven && !shared;
	bool entry = !shared || region->tail.range.start;
	int ret = 0;

	pci_lock_rescan_remove();
	if ((entry || !driven) && !refused &&
	    !kosdma_range_stays(region->start, region->start + region->length - 1, driven))
		ret = -EPERM;
	if (!ret)
		ret = kosdma_region_try_claim(region, other, owner);
	if (!ret && refused) {
		kosdma_region_unclaim(region);
		ret = -EBUSY;
	}
	pci_unlock_rescan_remove();
	return ret;
}

/*
 * Claim the region's range, and hold the device whose BAR it is in. A process
 * that died just now may still have either, and is given the time to let go.
 * @driver is the driver that has the registers, if one is known.
 */
static int kosdma_region_claim(struct kosdma_region *region, const char *driver)
{
	struct kosdma_claimant other = {};
	bool again = true;
	int ret;

	for (;;) {
		struct kosdma_process *holder = NULL, *mapper = NULL;
		struct kosdma_object *owner = NULL;

		if (region->dev)
			ret = kosdma_region_claim_device(region, &other, &owner, &holder);
		else
			ret = kosdma_region_claim_raw(region, driver[0], &other, &owner);
		if (ret == -EEXIST && owner) {
			mapper = kosdma_region_dead_mapper(to_region(owner));
			kosdma_object_put(owner);
		}
		if (holder) {
			ret = kosdma_process_wait_unheld(region->dev->group, holder);
			kosdma_process_put(holder);
			if (ret)
				return ret;
		} else if (mapper) {
			ret = kosdma_process_wait_gone(mapper);
			kosdma_process_put(mapper);
			if (ret)
				return ret;
			/* One of its threads may still be at it. */
			if (fatal_signal_pending(current))
				return -EINTR;
			cond_resched();
		} else if (ret != -EEXIST) {
			return ret;
		} else if (again) {
			again = false;	/* it may have let go just now */
		} else {
			break;
		}
	}
	/* These lines are part of the API. */
	if (other.comm[0])
		pr_notice_ratelimited("%s[%d] wants [mem %#llx-%#llx], but %s[%d] has claimed it\n",
				      current->comm, task_tgid_nr(current), region->start,
				      region->start + region->length - 1, other.comm, other.pid);
	else
		pr_notice_ratelimited("%s[%d] wants [mem %#llx-%#llx], but %s%s has claimed it\n",
				      current->comm, task_tgid_nr(current), region->start,
				      region->start + region->length - 1,
				      driver[0] ? "driver " : "the kernel", driver);
	return ret;
}

/* Local APICs and the messages of interrupts, which not every kernel lists. */
#define KOSDMA_APIC_START	0xfee00000UL
#define KOSDMA_APIC_LAST	0xfeefffffUL

static int kosdma_region_forbidden(struct resource *entry, void *data)
{
	return -EPERM;
}

/*
 * A range outside the BARs of our devices: is it any that user code may have?
 * RAM is not, nor is what the firmware keeps for itself: chipset registers and
 * tables. What somebody else has claimed is found by the claim; and here for a
 * range that is shared with the kernel, but is in no BAR that a driver has.
 */
static int kosdma_region_check_raw(const struct kosdma_region *region, bool driven)
{
	static const struct {
		unsigned long flags;
		unsigned long desc;
	} forbidden[] = {
		{ IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE },
		{ IORESOURCE_MEM, IORES_DESC_RESERVED },
		{ IORESOURCE_MEM, IORES_DESC_ACPI_TABLES },
		{ IORESOURCE_MEM, IORES_DESC_ACPI_NV_STORAGE },
	};
	u64 start = region->start, last = start + region->length - 1;
	unsigned int i;

	if (!capable(CAP_SYS_RAWIO) || security_locked_down(LOCKDOWN_DEV_MEM))
		return -EPERM;
	if (IS_ENABLED(CONFIG_X86) && start <= KOSDMA_APIC_LAST && last >= KOSDMA_APIC_START)
		return -EPERM;
	for (i = 0; i < ARRAY_SIZE(forbidden); i++) {
		if (walk_iomem_res_desc(forbidden[i].desc, forbidden[i].flags, start, last, NULL,
					kosdma_region_forbidden) == -EPERM)
			return -EPERM;
	}
	if (region->claim.flags & KOSDMA_REGION_K_SHARED && !driven &&
	    !kosdma_claim_shareable(start, last))
		return -EPERM;
	return 0;
}

/* --- the object -------------------------------------------------------------- */

/* The last handle and the last mapping are gone: so is the claim. Runs once. */
static void kosdma_region_end(struct kosdma_object *obj, enum kosdma_end how)
{
	struct kosdma_region *region = to_region(obj);
	struct kosdma_device *dev = region->dev;

	trace_region_end(region);
	kosdma_region_unclaim(region);
	if (!dev)
		return;
	mutex_lock(&dev->group->lock);
	if (!list_empty(&region->dev_node)) {
		list_del_init(&region->dev_node);
		kosdma_device_unhold(dev);
	}
	mutex_unlock(&dev->group->lock);
}

static void kosdma_region_drop(struct kosdma_object *obj)
{
	struct kosdma_region *region = to_region(obj);

	if (region->dev)
		kosdma_device_put(region->dev);
	mutex_destroy(&region->lock);
}

static void kosdma_region_show(struct seq_file *m, struct kosdma_object *obj)
{
	struct kosdma_region *region = to_region(obj);
	u32 mapping;
	bool gone;

	mutex_lock(&region->lock);
	mapping = region->mapping ? region->mapping->obj.sid : 0;
	gone = region->gone;
	mutex_unlock(&region->lock);
	seq_printf(m, "kosdma-length:\t%llu\n", region->length);
	seq_printf(m, "kosdma-range:\t%#llx-%#llx\n", region->start,
		   region->start + region->length - 1);
	seq_printf(m, "kosdma-flags:\t%#x\n", region->claim.flags);
	seq_printf(m, "kosdma-mapping:\t%u\n", mapping);
	if (region->dev) {
		seq_printf(m, "kosdma-device:\t%s\n", pci_name(region->dev->pdev));
		seq_printf(m, "kosdma-lost:\t%u\n", gone);
	}
}

static const struct kosdma_object_ops kosdma_region_ops = {
	.type = KOSDMA_HANDLE_REGION,
	.rights = KOSDMA_RIGHT_MMIO_READ | KOSDMA_RIGHT_MMIO_WRITE,
	.transferable = true,
	.name = "[kosdma-region]",
	.end = kosdma_region_end,
	.drop = kosdma_region_drop,
	.show = kosdma_region_show,
};

/**
 * kosdma_region_set_mapping() - a region has room for one mapping
 * @region: reachable by the caller
 * @mapping: the mapping that wants it
 *
 * Return: 0, -EBUSY, -ENODEV (the device is gone).
 */
int kosdma_region_set_mapping(struct kosdma_region *region, struct kosdma_mapping *mapping)
{
	int ret = 0;

	mutex_lock(&region->lock);
	if (region->gone)
		ret = -ENODEV;
	else if (region->mapping)
		ret = -EBUSY;
	else
		region->mapping = mapping;
	mutex_unlock(&region->lock);
	return ret;
}

/* The mapping has ended. */
void kosdma_region_clear_mapping(struct kosdma_region *region, struct kosdma_mapping *mapping)
{
	mutex_lock(&region->lock);
	if (region->mapping == mapping)
		region->mapping = NULL;
	mutex_unlock(&region->lock);
}

/**
 * kosdma_region_device_gone() - a device is taken away, and its registers with it
 * @dev: its group is locked
 *
 * When this returns, no page of its BARs is mapped, none is claimed, and no
 * region holds it.
 */
void kosdma_region_device_gone(struct kosdma_device *dev)
{
	struct kosdma_region *region, *next;

	lockdep_assert_held(&dev->group->lock);
	list_for_each_entry_safe(region, next, &dev->regions, dev_node) {
		struct kosdma_mapping *mapping;

		/* On the list, so not ended: that needs the device lock. */
		mutex_lock(&region->lock);
		region->gone = true;
		mapping = region->mapping;
		if (mapping && !kref_get_unless_zero(&mapping->obj.ref))
			mapping = NULL;
		mutex_unlock(&region->lock);
		if (mapping) {
			kosdma_mapping_revoke(mapping, KOSDMA_REVOKED);
			kosdma_object_put(&mapping->obj);
		}
		kosdma_region_unclaim(region);
		kosdma_object_set_events(&region->obj, EPOLLHUP);
		list_del_init(&region->dev_node);
		kosdma_device_unhold(dev);
	}
}

/*
 * Find out whose registers they are and whether the caller may have them. Sets
 * region->dev, with a reference, and how the range is divided into claims.
 */
static int kosdma_region_check(struct kosdma_region *region, char driver[KOSDMA_NAME_LEN])
{
	u64 last = region->start + region->length - 1;
	struct kosdma_device *dev;
	struct kosdma_bar bar;
	int ret;

	ret = kosdma_bar_find(region->start, last, &bar);
	if (ret == -ENOENT)
		return kosdma_region_check_raw(region, false);
	if (ret) {
		pr_notice_ratelimited("%s[%d] wants [mem %#llx-%#llx], but these are not the pages of one BAR: %s has [mem %#llx-%#llx]\n",
				      current->comm, task_tgid_nr(current), region->start, last,
				      pci_name(bar.pdev), bar.start, bar.last);
		goto out;
	}

	dev = kosdma_device_get_bound(bar.pdev, driver);
	ret = PTR_ERR_OR_ZERO(dev);
	if (!ret) {
		region->dev = dev;
		ret = kosdma_device_may_hold(dev);
	} else if (ret == -EBUSY) {
		ret = kosdma_region_check_raw(region, true);
	}
	/* Behind the end of a small BAR, the page is nobody's, and shall stay so. */
	if (last > bar.last) {
		region->claim.range.last = bar.last;
		region->tail.range.start = bar.last + 1;
		region->tail.range.last = last;
	}
out:
	pci_dev_put(bar.pdev);
	return ret;
}

int kosdma_ioctl_region_register(struct kosdma_ucmd *ucmd)
{
	struct kosdma_region_register *cmd = ucmd->cmd;
	char driver[KOSDMA_NAME_LEN] = "";
	struct kosdma_region *region;
	int ret;
	u64 last;

	if (cmd->flags & ~(KOSDMA_REGION_K_SHARED | KOSDMA_REGION_U_SHARED) || cmd->__reserved ||
	    !cmd->length || !IS_ALIGNED(cmd->addr | cmd->length, PAGE_SIZE) ||
	    check_add_overflow(cmd->addr, cmd->length - 1, &last) ||
	    last > iomem_resource.end)
		return -EINVAL;
	if (cmd->flags & KOSDMA_REGION_K_SHARED && !capable(CAP_SYS_RAWIO))
		return -EPERM;

	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return -ENOMEM;
	region->start = cmd->addr;
	region->length = cmd->length;
	region->claim.range.start = cmd->addr;
	region->claim.range.last = last;
	region->claim.flags = cmd->flags;
	region->claim.owner = &region->obj;
	/* There is nothing in it that the kernel could share. */
	region->tail.flags = cmd->flags & ~KOSDMA_REGION_K_SHARED;
	region->tail.owner = &region->obj;
	mutex_init(&region->lock);
	INIT_LIST_HEAD(&region->dev_node);
	ret = kosdma_object_init(&region->obj, &kosdma_region_ops, NULL);
	if (ret) {
		kfree(region);
		return ret;
	}

	ret = kosdma_region_check(region, driver);
	if (!ret)
		ret = kosdma_region_claim(region, driver);
	if (ret)
		goto err_put;
	trace_region_create(region);
	ret = kosdma_handle_create(ucmd, &region->obj,
				   kosdma_region_ops.rights | KOSDMA_RIGHT_TRANSFER |
					   KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_GET_SID,
				   NULL, NULL, &cmd->out_handle);
	if (!ret) {
		kosdma_object_put(&region->obj);	/* the handle has its own */
		return 0;
	}
	kosdma_region_end(&region->obj, KOSDMA_ENDED);
err_put:
	kosdma_event_refuse(region->dev ? region->dev->address : KOSDMA_NO_ADDRESS, -ret);
	kosdma_object_put(&region->obj);
	return ret;
}
