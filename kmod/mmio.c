// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: claimed ranges of device registers
 *
 * User against user is decided in the claim table, user against kernel in the
 * kernel's resource tree, where a claim is a busy, exclusive entry. A claim
 * inside a BAR also holds the device.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/ioport.h>
#include <linux/security.h>
#include <linux/slab.h>

#include "kosdma.h"

static DEFINE_MUTEX(kosdma_claims_lock);
static struct rb_root_cached kosdma_claims = RB_ROOT_CACHED;

/* --- the claim -------------------------------------------------------------- */

/* Claim the region's range against everybody. On failure, *owner says who has it. */
static int kosdma_region_try_claim(struct kosdma_region *region, const char **owner)
{
	unsigned long start = region->claim.start;
	unsigned long last = region->claim.last;
	int ret = -EEXIST;

	mutex_lock(&kosdma_claims_lock);
	*owner = "user code";
	if (interval_tree_iter_first(&kosdma_claims, start, last))
		goto out;
	*owner = "the kernel or a driver";
	if (!request_mem_region_exclusive(start, last - start + 1, KBUILD_MODNAME))
		goto out;
	interval_tree_insert(&region->claim, &kosdma_claims);
	region->claimed = true;
	ret = 0;
out:
	mutex_unlock(&kosdma_claims_lock);
	return ret;
}

/* The same, but a process that died just now is given the time to let go. */
static int kosdma_region_claim(struct kosdma_region *region)
{
	const char *owner;
	int ret;

	ret = kosdma_region_try_claim(region, &owner);
	if (ret) {
		ret = kosdma_process_wait_teardowns();
		if (!ret)
			ret = kosdma_region_try_claim(region, &owner);
	}
	/* This line is part of the API. */
	if (ret)
		pr_notice_ratelimited("%s[%d] wants [mem %#lx-%#lx], which %s has claimed\n",
				      current->comm, task_tgid_nr(current), region->claim.start,
				      region->claim.last, owner);
	return ret;
}

static void kosdma_region_unclaim(struct kosdma_region *region)
{
	mutex_lock(&kosdma_claims_lock);
	if (region->claimed) {
		interval_tree_remove(&region->claim, &kosdma_claims);
		release_mem_region(region->claim.start,
				   region->claim.last - region->claim.start + 1);
		region->claimed = false;
	}
	mutex_unlock(&kosdma_claims_lock);
}

/* Local APICs and the messages of interrupts, which not every kernel lists. */
#define KOSDMA_APIC_START	0xfee00000UL
#define KOSDMA_APIC_LAST	0xfeefffffUL

/*
 * A range outside the BARs of our devices: is it any that user code may have?
 * RAM is not, nor is what the firmware keeps for itself: chipset registers and
 * tables. What a driver or the kernel has claimed is found by the claim.
 */
static int kosdma_region_check_raw(u64 start, u64 last)
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
	unsigned int i;

	if (!capable(CAP_SYS_RAWIO) || security_locked_down(LOCKDOWN_DEV_MEM))
		return -EPERM;
	if (IS_ENABLED(CONFIG_X86) && start <= KOSDMA_APIC_LAST && last >= KOSDMA_APIC_START)
		return -EPERM;
	for (i = 0; i < ARRAY_SIZE(forbidden); i++) {
		if (region_intersects(start, last - start + 1, forbidden[i].flags,
				      forbidden[i].desc) != REGION_DISJOINT)
			return -EPERM;
	}
	return 0;
}

/* Hold the device whose BAR the region is in. */
static int kosdma_region_hold(struct kosdma_region *region)
{
	struct kosdma_device *dev = region->dev;
	struct kosdma_process *process;
	int ret;

	process = kosdma_process_current();
	if (IS_ERR(process))
		return PTR_ERR(process);
	ret = kosdma_device_lock_for(dev, process);
	if (ret)
		goto out;
	ret = kosdma_device_hold(dev, process);
	if (!ret)
		list_add_tail(&region->dev_node, &dev->regions);
	kosdma_device_unlock(dev);
out:
	kosdma_process_put(process);
	return ret;
}

/* --- the object -------------------------------------------------------------- */

/* The last handle and the last mapping are gone: so is the claim. Runs once. */
static void kosdma_region_end(struct kosdma_object *obj, enum kosdma_end how)
{
	struct kosdma_region *region = to_region(obj);
	struct kosdma_device *dev = region->dev;

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

static void kosdma_region_free(struct kosdma_object *obj)
{
	struct kosdma_region *region = to_region(obj);

	if (region->dev)
		kosdma_device_put(region->dev);
	mutex_destroy(&region->lock);
	kfree(region);
}

static void kosdma_region_show(struct seq_file *m, struct kosdma_object *obj)
{
	struct kosdma_region *region = to_region(obj);

	seq_printf(m, "kosdma-range:\t%#lx-%#lx\n", region->claim.start, region->claim.last);
}

static const struct kosdma_object_ops kosdma_region_ops = {
	.type = KOSDMA_HANDLE_REGION,
	.rights = KOSDMA_RIGHT_MMIO_READ | KOSDMA_RIGHT_MMIO_WRITE,
	.transferable = true,
	.name = "[kosdma-region]",
	.end = kosdma_region_end,
	.free = kosdma_region_free,
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
 * kosdma_region_device_gone() - a device is unbound: its registers go away
 * @dev: marked gone, under the device lock
 *
 * When this returns, no page of its BARs is mapped, and no region holds it.
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
		list_del_init(&region->dev_node);
		kosdma_device_unhold(dev);
	}
}

int kosdma_ioctl_region_register(struct kosdma_ucmd *ucmd)
{
	struct kosdma_region_register *cmd = ucmd->cmd;
	struct kosdma_region *region;
	struct kosdma_device *dev;
	int ret, held;
	u64 last;

	if (cmd->flags & ~(KOSDMA_REGION_K_SHARED | KOSDMA_REGION_U_SHARED) || cmd->__reserved ||
	    !cmd->length || !IS_ALIGNED(cmd->addr | cmd->length, PAGE_SIZE) ||
	    check_add_overflow(cmd->addr, cmd->length - 1, &last) ||
	    last > iomem_resource.end)
		return -EINVAL;
	if (cmd->flags)
		return -EOPNOTSUPP;

	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return -ENOMEM;
	region->claim.start = cmd->addr;
	region->claim.last = last;
	mutex_init(&region->lock);
	INIT_LIST_HEAD(&region->dev_node);
	ret = kosdma_object_init(&region->obj, &kosdma_region_ops);
	if (ret) {
		kfree(region);
		return ret;
	}

	dev = kosdma_device_find_bar(cmd->addr, last);
	ret = PTR_ERR_OR_ZERO(dev);
	if (ret == -EUNATCH)
		goto err_put;
	region->dev = ret ? NULL : dev;
	held = ret;

	ret = region->dev ? kosdma_device_may_hold(region->dev) :
			    kosdma_region_check_raw(cmd->addr, last);
	if (!ret)
		ret = kosdma_region_claim(region);
	if (ret)
		goto err_put;
	/* Another driver has the device, even if it has not claimed the range. */
	ret = held;
	if (region->dev)
		ret = kosdma_region_hold(region);
	if (ret)
		goto err_end;
	ret = kosdma_handle_create(ucmd, &region->obj,
				   kosdma_region_ops.rights | KOSDMA_RIGHT_TRANSFER |
					   KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_GET_SID,
				   NULL, NULL, &cmd->out_handle);
	if (ret)
		goto err_end;
	kosdma_object_put(&region->obj);	/* the handle has its own */
	return 0;

err_end:
	kosdma_region_end(&region->obj, KOSDMA_ENDED);
err_put:
	kosdma_object_put(&region->obj);
	return ret;
}
