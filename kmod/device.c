// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices: PCI functions bound to kosdma, and who holds them
 *
 * Held, by one process and with the whole IOMMU group, means: DMA ownership
 * claimed, power on, reset once, memory decode on, bus mastering off. Attached
 * means, besides: in a domain, bus mastering on. Held begins with the first
 * attachment or BAR region and ends with the last of them.
 *
 * On the way down the order is always: bus mastering off, drained, reset (at
 * the end of held), unmapped and flushed, freed.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include <linux/kosdma_netlink.h>

#include "inject.h"
#include "kosdma.h"
#include "trace.h"

static bool allow_direct = true;
module_param(allow_direct, bool, 0444);
MODULE_PARM_DESC(allow_direct, "let CAP_SYS_RAWIO attach devices without an IOMMU (taints)");

static bool allow_unsafe_interrupts;
module_param(allow_unsafe_interrupts, bool, 0644);
MODULE_PARM_DESC(allow_unsafe_interrupts,
		 "attach devices whose interrupts the IOMMU does not remap (taints)");

/* PCI class of an IOMMU: system peripheral, 06h; pci_ids.h has no name for it. */
#define KOSDMA_CLASS_IOMMU 0x0806
/* The virtio IOMMU has no class of its own. */
#define KOSDMA_DEVICE_VIRTIO_IOMMU 0x1057

/* Attempts to reset a device whose lock somebody else has, and the time between them. */
#define KOSDMA_RESET_TRIES 20
#define KOSDMA_RESET_DELAY_MS 20

/* Attempts to look at the driver of a function, and the time between them. */
#define KOSDMA_DRIVER_TRIES 50
#define KOSDMA_DRIVER_DELAY_MS 20

static DEFINE_MUTEX(kosdma_devices_lock);	/* leaf: guards both tables */
static DEFINE_XARRAY(kosdma_devices);		/* address -> kosdma_device */
static LIST_HEAD(kosdma_groups);

/* Does an IOMMU translate for any device of this machine? */
bool kosdma_machine_translates(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (device_iommu_mapped(&pdev->dev)) {
			pci_dev_put(pdev);
			return true;
		}
	}
	return false;
}

/*
 * Can every IOMMU of this machine let a device write what it may not read?
 * Intel's cannot: its driver sets the read bit of every entry that is present.
 */
bool kosdma_machine_write_only(void)
{
	return !kosdma_intel_iommu();
}

bool kosdma_direct_allowed(void)
{
	return allow_direct;
}

bool kosdma_unsafe_interrupts_allowed(void)
{
	return READ_ONCE(allow_unsafe_interrupts);
}

/* --- references ----------------------------------------------------------- */

static void kosdma_group_free(struct kref *ref)
{
	struct kosdma_group *group = container_of(ref, struct kosdma_group, ref);

	list_del(&group->node);
	mutex_unlock(&kosdma_devices_lock);
	WARN_ON_ONCE(group->holds || group->attached || group->holder);
	if (group->iommu)
		iommu_group_put(group->iommu);
	mutex_destroy(&group->lock);
	kfree(group);
}

void kosdma_group_put(struct kosdma_group *group)
{
	kref_put_mutex(&group->ref, kosdma_group_free, &kosdma_devices_lock);
}

/* What we know an IOMMU group by, with a reference, or NULL; devices without IOMMU share none. */
static struct kosdma_group *kosdma_group_find_locked(struct iommu_group *iommu)
{
	struct kosdma_group *group;

	lockdep_assert_held(&kosdma_devices_lock);
	if (!iommu)
		return NULL;
	list_for_each_entry(group, &kosdma_groups, node) {
		if (group->iommu == iommu) {
			kref_get(&group->ref);
			return group;
		}
	}
	return NULL;
}

struct kosdma_group *kosdma_group_find(struct iommu_group *iommu)
{
	struct kosdma_group *group;

	mutex_lock(&kosdma_devices_lock);
	group = kosdma_group_find_locked(iommu);
	mutex_unlock(&kosdma_devices_lock);
	return group;
}

static void kosdma_device_free(struct kref *ref)
{
	struct kosdma_device *dev = container_of(ref, struct kosdma_device, ref);

	WARN_ON_ONCE(dev->holds || dev->attached);
	kosdma_group_put(dev->group);
	pci_dev_put(dev->pdev);
	kfree(dev);
}

void kosdma_device_put(struct kosdma_device *dev)
{
	kref_put(&dev->ref, kosdma_device_free);
}

/* The device of an address, with a reference, or NULL if kosdma is not bound to it. */
struct kosdma_device *kosdma_device_find(u32 address)
{
	struct kosdma_device *dev;

	mutex_lock(&kosdma_devices_lock);
	dev = xa_load(&kosdma_devices, address);
	if (dev)
		kref_get(&dev->ref);
	mutex_unlock(&kosdma_devices_lock);
	return dev;
}

/* Bridges and IOMMUs are a part of the machine itself, and no device of a driver's. */
bool kosdma_pci_is_machine(struct pci_dev *pdev)
{
	return pdev->hdr_type != PCI_HEADER_TYPE_NORMAL ||
	       pdev->class >> 16 == PCI_BASE_CLASS_BRIDGE ||
	       pdev->class >> 8 == KOSDMA_CLASS_IOMMU ||
	       (pdev->vendor == PCI_VENDOR_ID_REDHAT_QUMRANET &&
		pdev->device == KOSDMA_DEVICE_VIRTIO_IOMMU);
}

/* The function at an address, with a reference, or NULL. */
struct pci_dev *kosdma_pci_dev_get(u32 address)
{
	return pci_get_domain_bus_and_slot(address >> 16, address >> 8 & 0xff, address & 0xff);
}

/*
 * The address of a function, if it has one: a segment that the kernel made up is
 * too long, and the last function of the last segment has that of none.
 */
bool kosdma_pci_address(struct pci_dev *pdev, u32 *address)
{
	if (pci_domain_nr(pdev->bus) > U16_MAX)
		return false;
	*address = (u32)pci_domain_nr(pdev->bus) << 16 | pci_dev_id(pdev);
	return *address != KOSDMA_NO_ADDRESS;
}

/* The function's device, with a reference, or NULL if kosdma is not bound to it. */
struct kosdma_device *kosdma_device_find_of(struct pci_dev *pdev)
{
	struct kosdma_device *dev = NULL;
	u32 address;

	if (kosdma_pci_address(pdev, &address))
		dev = kosdma_device_find(address);
	if (dev && dev->pdev != pdev) {
		kosdma_device_put(dev);
		dev = NULL;
	}
	return dev;
}

/**
 * kosdma_device_get_bound() - the device of a PCI function, if kosdma has it
 * @pdev: function
 * @name: gets the name of the driver that has it
 *
 * Return: the device, with a reference; -EUNATCH if no driver has it; -EBUSY if
 * another one has.
 */
struct kosdma_device *kosdma_device_get_bound(struct pci_dev *pdev, char name[KOSDMA_NAME_LEN])
{
	struct kosdma_device *dev = kosdma_device_find_of(pdev);

	if (dev)
		return dev;
	/* Under this lock nobody binds or unbinds it: the driver and our table agree. */
	device_lock(&pdev->dev);
	dev = kosdma_device_find_of(pdev);
	if (!dev && pdev->dev.driver) {
		strscpy(name, pdev->dev.driver->name, KOSDMA_NAME_LEN);
		dev = ERR_PTR(-EBUSY);
	} else if (!dev) {
		dev = ERR_PTR(-EUNATCH);
	}
	device_unlock(&pdev->dev);
	return dev;
}

/**
 * kosdma_driver_name() - the driver that a function has
 * @pdev: function
 * @name: gets its name; empty: none, or for a second it was just coming or going
 *
 * For those who answer a request of the netlink family. Meanwhile nobody can
 * register another family; a driver that is being bound may wait for one that
 * does, so this does not wait for the driver.
 */
void kosdma_driver_name(struct pci_dev *pdev, char name[KOSDMA_NAME_LEN])
{
	int tries;

	name[0] = '\0';
	for (tries = 0; tries < KOSDMA_DRIVER_TRIES; tries++) {
		if (device_trylock(&pdev->dev)) {
			if (pdev->dev.driver)
				strscpy(name, pdev->dev.driver->name, KOSDMA_NAME_LEN);
			device_unlock(&pdev->dev);
			return;
		}
		if (msleep_interruptible(KOSDMA_DRIVER_DELAY_MS))
			return;
	}
}

/* The device of an address, with a reference, for an attach. */
static struct kosdma_device *kosdma_device_get(u32 address)
{
	struct kosdma_device *dev = kosdma_device_find(address);
	char name[KOSDMA_NAME_LEN];
	struct pci_dev *pdev;

	if (dev)
		return dev;
	pdev = kosdma_pci_dev_get(address);
	if (!pdev)
		return ERR_PTR(-ENODEV);
	dev = kosdma_device_get_bound(pdev, name);
	/* This line is part of the API. */
	if (dev == ERR_PTR(-EBUSY))
		dev_notice_ratelimited(&pdev->dev,
				       "kosdma: %s[%d] cannot attach it: driver %s has it\n",
				       current->comm, task_tgid_nr(current), name);
	pci_dev_put(pdev);
	return dev;
}

/* A device that kosdma is not bound to is attached to nothing, if it exists. */
static int kosdma_device_not_attached(u32 address)
{
	struct pci_dev *pdev = kosdma_pci_dev_get(address);

	if (!pdev)
		return -ENODEV;
	pci_dev_put(pdev);
	return -EBADFD;
}

/* --- held ------------------------------------------------------------------ */

/*
 * kosdma_device_lock_for() - take the device lock for a process
 * @dev: device
 * @process: the calling process
 *
 * Return: 0, with the lock held, if the process holds the device's group or
 * nobody does; -EBUSY, -ENODEV, and for a holder that died those of
 * kosdma_process_wait_unheld().
 */
static int kosdma_device_lock_for(struct kosdma_device *dev, struct kosdma_process *process)
{
	struct kosdma_group *group = dev->group;
	struct kosdma_process *holder;
	int ret;

	for (;;) {
		mutex_lock(&group->lock);
		ret = dev->gone ? -ENODEV : -EBUSY;
		holder = group->holder;
		if (!dev->gone && (!holder || holder == process))
			return 0;
		if (dev->gone || !READ_ONCE(holder->dead))
			break;
		kosdma_process_get(holder);
		mutex_unlock(&group->lock);
		ret = kosdma_process_wait_unheld(group, holder);
		kosdma_process_put(holder);
		if (ret)
			return ret;
	}
	mutex_unlock(&group->lock);
	return ret;
}

static void kosdma_device_unlock(struct kosdma_device *dev)
{
	mutex_unlock(&dev->group->lock);
}

/* Reset the function, if it can be. -ENOTTY if it cannot. */
static int kosdma_device_reset(struct kosdma_device *dev)
{
	int tries, ret;

	for (tries = 0; tries < KOSDMA_RESET_TRIES; tries++) {
		ret = dev->core_locked ? pci_reset_function_locked(dev->pdev) :
					 pci_try_reset_function(dev->pdev);
		if (ret != -EAGAIN || dev->core_locked)
			break;
		msleep(KOSDMA_RESET_DELAY_MS);
	}
	trace_device_reset(dev, ret);
	return ret;
}

/*
 * Bus mastering off, and drained; reset if wanted. Returns whether the device
 * is proven quiet: it is gone, or was reset, or has stopped by its own account.
 */
static bool kosdma_device_quiesce(struct kosdma_device *dev, bool reset)
{
	struct pci_dev *pdev = dev->pdev;
	u16 command;
	bool quiet;

	lockdep_assert_held(&dev->group->lock);
	pci_clear_master(pdev);
	if (kosdma_inject(unquiet))
		return false;
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	quiet = !pci_device_is_present(pdev) ||
		(!(command & PCI_COMMAND_MASTER) && pci_wait_for_pending_transaction(pdev));
	if (reset) {
		if (pci_device_is_present(pdev) && !kosdma_device_reset(dev))
			quiet = true;
		dev->reset = true;
	}
	if (quiet)
		kosdma_quarantine_release(pdev);
	return quiet;
}

/* Claim the group's DMA for the process. The IOMMU core then blocks all of it. */
static int kosdma_group_claim(struct kosdma_device *dev, struct kosdma_process *process)
{
	struct kosdma_group *group = dev->group;
	int ret;

	if (group->iommu) {
		ret = iommu_group_claim_dma_owner(group->iommu, group);
		if (ret == -ENOMEM)
			return ret;
		if (ret) {
			kosdma_group_explain(dev, ret);
			return -EBUSY;
		}
	}
	WRITE_ONCE(group->holder, kosdma_process_get(process));
	return 0;
}

static void kosdma_group_unclaim(struct kosdma_group *group)
{
	struct kosdma_process *holder = group->holder;

	if (group->iommu)
		iommu_group_release_dma_owner(group->iommu);
	WRITE_ONCE(group->holder, NULL);
	kosdma_process_unheld();
	kosdma_process_put(holder);
}

/* From bound to held: power, decode, one reset; no bus mastering. */
static int kosdma_device_open(struct kosdma_device *dev)
{
	struct pci_dev *pdev = dev->pdev;
	int ret;

	pci_clear_master(pdev);
	ret = pci_enable_device(pdev);
	if (ret)
		return -EOPNOTSUPP;
	ret = kosdma_device_reset(dev);
	if (ret && ret != -ENOTTY) {
		pci_disable_device(pdev);
		return -ETIMEDOUT;
	}
	if (!ret)
		kosdma_quarantine_release(pdev);
	/* Which addresses the device can emit is ours to watch, not the DMA API's. */
	if (!dev->group->iommu)
		dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	dev->reset = false;
	return 0;
}

/**
 * kosdma_device_hold() - one reason more to hold a device
 * @dev: locked by kosdma_device_lock_for()
 * @process: the same
 *
 * Return: 0; -EBUSY (its group is not ours to have), -ETIMEDOUT (the reset
 * failed), -EOPNOTSUPP (it cannot be enabled), -ENOMEM.
 */
int kosdma_device_hold(struct kosdma_device *dev, struct kosdma_process *process)
{
	struct kosdma_group *group = dev->group;
	int ret;

	lockdep_assert_held(&group->lock);
	if (!group->holds) {
		ret = kosdma_group_claim(dev, process);
		if (ret)
			return ret;
	}
	if (!dev->holds) {
		ret = kosdma_device_open(dev);
		if (ret) {
			if (!group->holds)
				kosdma_group_unclaim(group);
			return ret;
		}
		trace_device_hold(dev);
	}
	dev->holds++;
	group->holds++;
	return 0;
}

/* Undo kosdma_device_hold(). */
void kosdma_device_unhold(struct kosdma_device *dev)
{
	struct kosdma_group *group = dev->group;

	lockdep_assert_held(&group->lock);
	if (!--dev->holds) {
		if (!dev->reset)
			kosdma_device_quiesce(dev, true);
		pci_disable_device(dev->pdev);
		trace_device_unhold(dev);
	}
	if (!--group->holds)
		kosdma_group_unclaim(group);
}

/* --- attached --------------------------------------------------------------- */

static int kosdma_device_attach(struct kosdma_device *dev, struct kosdma_domain *domain)
{
	struct kosdma_process *process = domain->process;
	struct kosdma_group *group = dev->group;
	int ret;

	lockdep_assert_held(&group->lock);
	if (dev->attached || (group->attached && group->domain != domain))
		return -EBUSY;
	ret = kosdma_device_hold(dev, process);
	if (ret)
		return ret;
	ret = kosdma_domain_add(domain, dev);
	if (ret) {
		kosdma_device_unhold(dev);
		return ret;
	}
	dev->reset = false;
	mutex_lock(&process->lock);
	list_add_tail(&dev->process_node, &process->devices);
	mutex_unlock(&process->lock);
	pci_set_master(dev->pdev);
	trace_device_attach(dev, domain);
	kosdma_event_device(KOSDMA_NL_EVENT_ATTACH, dev->address, process, domain->obj.sid);
	return 0;
}

static void kosdma_device_detach(struct kosdma_device *dev)
{
	struct kosdma_group *group = dev->group;
	bool quiet;

	lockdep_assert_held(&group->lock);
	kosdma_event_device(KOSDMA_NL_EVENT_DETACH, dev->address, group->holder,
			    group->domain->obj.sid);
	/* From here on its holder's death leaves the command register alone: it may be in reset. */
	mutex_lock(&group->holder->lock);
	list_del(&dev->process_node);
	mutex_unlock(&group->holder->lock);
	quiet = kosdma_device_quiesce(dev, dev->holds == 1);
	trace_device_detach(dev, group->domain, quiet);
	kosdma_domain_remove(group->domain, dev, quiet);
	kosdma_device_unhold(dev);
}

/**
 * kosdma_group_detach() - detach every member of a group from a domain
 * @group: with a reference of the caller's, and without its lock
 * @domain: where the members may be
 */
void kosdma_group_detach(struct kosdma_group *group, struct kosdma_domain *domain)
{
	struct kosdma_device *dev;

	mutex_lock(&group->lock);
	list_for_each_entry(dev, &group->members, member_node) {
		if (group->domain != domain)
			break;
		if (dev->attached)
			kosdma_device_detach(dev);
	}
	mutex_unlock(&group->lock);
}

/* Identity of the domain where a function is attached, or 0. */
u32 kosdma_device_domain(u32 address)
{
	struct kosdma_device *dev = kosdma_device_find(address);
	u32 sid = 0;

	if (!dev)
		return 0;
	mutex_lock(&dev->group->lock);
	if (dev->attached)
		sid = dev->group->domain->obj.sid;
	mutex_unlock(&dev->group->lock);
	kosdma_device_put(dev);
	return sid;
}

/* --- ioctls ------------------------------------------------------------------ */

int kosdma_ioctl_device_attach(struct kosdma_ucmd *ucmd)
{
	struct kosdma_device_attach *cmd = ucmd->cmd;
	struct kosdma_domain *domain;
	struct kosdma_device *dev;
	int ret;

	if (cmd->__reserved)
		return -EINVAL;
	dev = kosdma_device_get(cmd->address);
	if (IS_ERR(dev)) {
		kosdma_event_refuse(cmd->address, -PTR_ERR(dev));
		return PTR_ERR(dev);
	}
	ret = kosdma_device_may_hold(dev);
	if (ret)
		goto out_device;
	domain = kosdma_domain_get(ucmd, cmd->domain);
	if (IS_ERR(domain)) {
		ret = PTR_ERR(domain);
		goto out_device;
	}
	ret = kosdma_device_lock_for(dev, domain->process);
	if (!ret) {
		ret = kosdma_device_attach(dev, domain);
		kosdma_device_unlock(dev);
	}
	kosdma_domain_put(domain);
out_device:
	if (ret)
		kosdma_event_refuse(dev->address, -ret);
	kosdma_device_put(dev);
	return ret;
}

int kosdma_ioctl_device_detach(struct kosdma_ucmd *ucmd)
{
	struct kosdma_device_attach *cmd = ucmd->cmd;
	struct kosdma_domain *domain;
	struct kosdma_device *dev;
	int ret;

	if (cmd->__reserved)
		return -EINVAL;
	dev = kosdma_device_find(cmd->address);
	if (!dev)
		return kosdma_device_not_attached(cmd->address);
	domain = kosdma_domain_get(ucmd, cmd->domain);
	if (IS_ERR(domain)) {
		ret = PTR_ERR(domain);
		goto out_device;
	}
	mutex_lock(&dev->group->lock);
	if (dev->attached && dev->group->domain == domain) {
		kosdma_device_detach(dev);
		ret = 0;
	} else {
		ret = -EBADFD;
	}
	mutex_unlock(&dev->group->lock);
	kosdma_domain_put(domain);
out_device:
	kosdma_device_put(dev);
	return ret;
}

int kosdma_ioctl_device_set_dma_mask(struct kosdma_ucmd *ucmd)
{
	struct kosdma_device_set_dma_mask *cmd = ucmd->cmd;
	struct kosdma_device *dev;
	int ret = -EBADFD;

	if (cmd->mask < 2 * PAGE_SIZE - 1 || cmd->mask & (cmd->mask + 1))
		return -EINVAL;
	dev = kosdma_device_find(cmd->address);
	if (!dev)
		return kosdma_device_not_attached(cmd->address);
	mutex_lock(&dev->group->lock);
	if (dev->attached && kosdma_process_is_current(dev->group->holder))
		ret = kosdma_domain_set_mask(dev->group->domain, dev, cmd->mask);
	mutex_unlock(&dev->group->lock);
	kosdma_device_put(dev);
	return ret;
}

int kosdma_ioctl_device_info(struct kosdma_ucmd *ucmd)
{
	struct kosdma_device_info *cmd = ucmd->cmd;
	struct kosdma_device *dev;
	struct pci_dev *pdev;

	if (cmd->__reserved)
		return -EINVAL;
	cmd->out_state = 0;
	dev = kosdma_device_find(cmd->address);
	if (dev) {
		struct kosdma_group *group = dev->group;

		mutex_lock(&group->lock);
		if (!dev->gone)
			cmd->out_state |= KOSDMA_DEVICE_BOUND;
		if (group->iommu)
			cmd->out_state |= KOSDMA_DEVICE_TRANSLATED;
		if (group->holder)
			cmd->out_state |= KOSDMA_DEVICE_HELD;
		if (group->holder && kosdma_process_is_current(group->holder))
			cmd->out_state |= KOSDMA_DEVICE_MINE;
		if (dev->attached)
			cmd->out_state |= KOSDMA_DEVICE_ATTACHED;
		if (dev->holds)
			cmd->out_state |= KOSDMA_DEVICE_USED;
		mutex_unlock(&group->lock);
		kosdma_device_put(dev);
		return 0;
	}

	pdev = kosdma_pci_dev_get(cmd->address);
	if (!pdev)
		return -ENODEV;
	if (device_iommu_mapped(&pdev->dev))
		cmd->out_state |= KOSDMA_DEVICE_TRANSLATED;
	pci_dev_put(pdev);
	return 0;
}

/* --- the PCI driver ------------------------------------------------------------ */

/* The group of a device that is being bound, with a reference. */
static struct kosdma_group *kosdma_group_get_for(struct pci_dev *pdev)
{
	struct kosdma_group *group, *new;
	struct iommu_group *iommu;

	new = kzalloc(sizeof(*new), GFP_KERNEL);
	if (!new)
		return NULL;
	iommu = iommu_group_get(&pdev->dev);

	mutex_lock(&kosdma_devices_lock);
	group = kosdma_group_find_locked(iommu);
	if (group)
		goto found;
	group = new;
	new = NULL;
	kref_init(&group->ref);
	mutex_init(&group->lock);
	INIT_LIST_HEAD(&group->members);
	group->iommu = iommu;
	iommu = NULL;
	list_add_tail(&group->node, &kosdma_groups);
found:
	mutex_unlock(&kosdma_devices_lock);
	if (iommu)
		iommu_group_put(iommu);
	kfree(new);
	return group;
}

static int kosdma_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct kosdma_device *dev;
	u32 address;
	int ret;

	/* Without an address nobody could name it, or worse, it would have that of another. */
	if (kosdma_pci_is_machine(pdev) || !kosdma_pci_address(pdev, &address))
		return -EINVAL;
	dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	if (!dev)
		return -ENOMEM;
	kref_init(&dev->ref);
	dev->group = kosdma_group_get_for(pdev);
	if (!dev->group) {
		kfree(dev);
		return -ENOMEM;
	}
	dev->pdev = pci_dev_get(pdev);
	dev->address = address;
	INIT_LIST_HEAD(&dev->regions);
	INIT_LIST_HEAD(&dev->suspect_node);
	pci_set_drvdata(pdev, dev);

	mutex_lock(&dev->group->lock);
	list_add_tail(&dev->member_node, &dev->group->members);
	mutex_unlock(&dev->group->lock);
	mutex_lock(&kosdma_devices_lock);
	ret = xa_insert(&kosdma_devices, dev->address, dev, GFP_KERNEL);
	/* Before somebody attaches it. */
	if (!ret)
		kosdma_event_device(KOSDMA_NL_EVENT_BIND, address, NULL, 0);
	mutex_unlock(&kosdma_devices_lock);
	if (!ret)
		return 0;

	mutex_lock(&dev->group->lock);
	list_del(&dev->member_node);
	mutex_unlock(&dev->group->lock);
	kosdma_device_put(dev);
	return ret;
}

/* Whoever has the device loses it now, and is told. */
static void kosdma_device_take_away(struct kosdma_device *dev)
{
	lockdep_assert_held(&dev->group->lock);
	if (dev->holds) {
		trace_device_lost(dev);
		kosdma_event_device(KOSDMA_NL_EVENT_LOST, dev->address, dev->group->holder, 0);
	}
	if (dev->attached) {
		struct kosdma_domain *domain = dev->group->domain;

		kosdma_object_get(&domain->obj);
		kosdma_device_detach(dev);
		kosdma_domain_lost_device(domain);
		kosdma_domain_put(domain);
	}
	kosdma_region_device_gone(dev);
}

/* Unbound by an administrator, or unplugged. */
static void kosdma_pci_remove(struct pci_dev *pdev)
{
	struct kosdma_device *dev = pci_get_drvdata(pdev);

	mutex_lock(&kosdma_devices_lock);
	xa_erase(&kosdma_devices, dev->address);
	mutex_unlock(&kosdma_devices_lock);

	mutex_lock(&dev->group->lock);
	dev->gone = true;
	dev->core_locked = true;
	kosdma_device_take_away(dev);
	list_del(&dev->member_node);
	mutex_unlock(&dev->group->lock);
	kosdma_event_device(KOSDMA_NL_EVENT_UNBIND, dev->address, NULL, 0);
	if (!pci_device_is_present(pdev))
		kosdma_quarantine_release(pdev);
	kosdma_device_put(dev);
}

/* It forgets what its driver has set up, which only its driver could restore. */
static int kosdma_pci_suspend(struct device *device)
{
	struct kosdma_device *dev = dev_get_drvdata(device);

	mutex_lock(&dev->group->lock);
	dev->core_locked = true;
	kosdma_device_take_away(dev);
	dev->core_locked = false;
	mutex_unlock(&dev->group->lock);
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(kosdma_pci_pm_ops, kosdma_pci_suspend, NULL);

/* A function is unplugged that nobody may have had since it left a domain. */
static int kosdma_pci_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (action == BUS_NOTIFY_REMOVED_DEVICE && !pci_device_is_present(pdev))
		kosdma_quarantine_release(pdev);
	return NOTIFY_DONE;
}

static struct notifier_block kosdma_pci_nb = {
	.notifier_call = kosdma_pci_notify,
};

/* Matches any device, but only one whose driver_override says so. */
static const struct pci_device_id kosdma_pci_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};

static struct pci_driver kosdma_pci_driver = {
	.name = "kosdma",
	.id_table = kosdma_pci_ids,
	.probe = kosdma_pci_probe,
	.remove = kosdma_pci_remove,
	.driver_managed_dma = true,
	.driver.pm = pm_sleep_ptr(&kosdma_pci_pm_ops),
};

int kosdma_device_init(void)
{
	int ret;

	ret = bus_register_notifier(&pci_bus_type, &kosdma_pci_nb);
	if (ret)
		return ret;
	ret = pci_register_driver(&kosdma_pci_driver);
	if (ret)
		bus_unregister_notifier(&pci_bus_type, &kosdma_pci_nb);
	return ret;
}

void kosdma_device_exit(void)
{
	pci_unregister_driver(&kosdma_pci_driver);
	bus_unregister_notifier(&pci_bus_type, &kosdma_pci_nb);
	xa_destroy(&kosdma_devices);
}
