// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domains: an I/O address space and the devices that see it
 *
 * The IOVA space is ours, and so is the knowledge of what is mapped. IOMMU page
 * tables (hardware domains) exist only while a device is attached: the first
 * attach makes one and replays every access into it, and so does a later one
 * whose IOMMU cannot share it.
 *
 * Without an IOMMU ("direct"), addresses are physical.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/slab.h>

#include <linux/kosdma_netlink.h>

#include "kosdma.h"
#include "trace.h"

/* Beyond 2^48 no IOMMU page table of four levels reaches, whatever its driver says. */
#define KOSDMA_IOVA_MAX ((1ULL << 48) - 1)

/* --- hardware domains -------------------------------------------------------- */

/* Does every placed access lie where the hardware domain can have it? */
static bool kosdma_hwdom_fits(struct kosdma_domain *domain, struct kosdma_hwdom *hwdom)
{
	u64 end = hwdom->iommu->geometry.aperture_end;
	struct kosdma_access *access;

	list_for_each_entry(access, &domain->accesses, domain_node) {
		if (access->placed && kosdma_access_last(access) > end)
			return false;
	}
	return true;
}

/* Enter @start..@last as reserved, as far as it is not reserved already. */
static int kosdma_domain_reserve(struct kosdma_domain *domain, u64 start, u64 last)
{
	start = max_t(u64, start, PAGE_SIZE);
	last = min(last, KOSDMA_IOVA_MAX);

	while (start <= last) {
		struct kosdma_iova *taken = kosdma_iova_overlap(&domain->space, start, last);
		struct kosdma_iova *iova;

		if (!taken || taken->start > start) {
			iova = kzalloc(sizeof(*iova), GFP_KERNEL_ACCOUNT);
			if (!iova)
				return -ENOMEM;
			iova->start = start;
			iova->last = taken ? taken->start - 1 : last;
			iova->reserved = true;
			kosdma_iova_insert(&domain->space, iova);
		}
		if (!taken)
			break;
		start = taken->last + 1;
	}
	return 0;
}

/* Is a placed access in the way of a reserved range? Its guard page is a part of it. */
static bool kosdma_domain_in_the_way(struct kosdma_domain *domain, u64 start, u64 last)
{
	while (start <= last) {
		struct kosdma_iova *taken = kosdma_iova_overlap(&domain->space, start, last);

		if (!taken)
			return false;
		if (!taken->reserved)
			return true;
		if (taken->last >= last)
			return false;
		start = taken->last + 1;
	}
	return false;
}

static const struct iommu_resv_region *kosdma_firmware_region(const struct list_head *regions)
{
	const struct iommu_resv_region *region;

	list_for_each_entry(region, regions, list) {
		if (region->type == IOMMU_RESV_DIRECT && region->length)
			return region;
	}
	return NULL;
}

/**
 * kosdma_firmware_range() - does the firmware need memory mapped for a group?
 * @iommu: the group
 * @start: gets the first physical address of such a range
 * @last: gets the last one
 *
 * Return: whether it does, as far as there is memory to look; then no domain of
 * ours can have the group.
 */
bool kosdma_firmware_range(struct iommu_group *iommu, u64 *start, u64 *last)
{
	const struct iommu_resv_region *region = NULL;
	LIST_HEAD(regions);
	bool found;

	if (!iommu_get_group_resv_regions(iommu, &regions))
		region = kosdma_firmware_region(&regions);
	if (region) {
		*start = region->start;
		*last = region->start + region->length - 1;
	}
	found = region;
	iommu_put_resv_regions(NULL, &regions);
	return found;
}

/*
 * Keep the ranges that the group's IOMMU reserves out of the space. They stay
 * out for as long as the domain lives.
 */
static int kosdma_domain_reserve_for(struct kosdma_domain *domain, struct kosdma_group *group)
{
	const struct iommu_resv_region *firmware;
	struct iommu_resv_region *region;
	LIST_HEAD(regions);
	int ret;

	ret = iommu_get_group_resv_regions(group->iommu, &regions);
	if (ret) {
		ret = ret == -ENOMEM ? ret : -EOPNOTSUPP;
		goto out;
	}
	firmware = kosdma_firmware_region(&regions);
	if (firmware) {
		pr_notice_ratelimited("group %d: the firmware needs [mem %#llx-%#llx] mapped for a device\n",
				      iommu_group_id(group->iommu), (u64)firmware->start,
				      (u64)firmware->start + firmware->length - 1);
		ret = -EPERM;
		goto out;
	}
	list_for_each_entry(region, &regions, list) {
		u64 last = region->start + region->length - 1;

		/* The firmware wants it mapped one to one only until a driver takes over. */
		if (region->type == IOMMU_RESV_DIRECT_RELAXABLE || !region->length)
			continue;
		if (kosdma_domain_in_the_way(domain, region->start, last)) {
			ret = -EBADFD;
			break;
		}
		ret = kosdma_domain_reserve(domain, region->start, last);
		if (ret)
			break;
	}
out:
	iommu_put_resv_regions(NULL, &regions);
	return ret;
}

static void kosdma_hwdom_destroy(struct kosdma_hwdom *hwdom)
{
	list_del(&hwdom->node);
	iommu_domain_free(hwdom->iommu);
	kfree(hwdom);
}

/* Best effort: few drivers call it, and in any context. They log the fault if it is not handled. */
static int kosdma_hwdom_fault(struct iommu_domain *iommu, struct device *dev, unsigned long iova,
			      int flags, void *data)
{
	struct kosdma_domain *domain = data;
	u32 address;

	if (!dev || !dev_is_pci(dev) || !kosdma_pci_address(to_pci_dev(dev), &address))
		address = KOSDMA_NO_ADDRESS;
	atomic64_inc(&domain->faults);
	kosdma_event_fault(&domain->obj, address);
	return -EFAULT;
}

/* Only the driver of the virtio IOMMU needs memory to unmap. */
static bool kosdma_iommu_unmap_may_fail(struct device *dev)
{
	const struct device *iommu = dev->iommu->iommu_dev->dev;

	return iommu && iommu->parent && iommu->parent->bus &&
	       !strcmp(iommu->parent->bus->name, "virtio");
}

/* A new page table for @dev, attached to its group, and empty. */
static struct kosdma_hwdom *kosdma_hwdom_create(struct kosdma_domain *domain,
						struct kosdma_device *dev)
{
	struct kosdma_hwdom *hwdom;
	int ret;

	hwdom = kzalloc(sizeof(*hwdom), GFP_KERNEL_ACCOUNT);
	if (!hwdom)
		return ERR_PTR(-ENOMEM);
	hwdom->iommu = kosdma_iommu_domain_alloc(&dev->pdev->dev);
	if (IS_ERR(hwdom->iommu)) {
		ret = PTR_ERR(hwdom->iommu);
		goto err_free;
	}
	hwdom->unmap_may_fail = kosdma_iommu_unmap_may_fail(&dev->pdev->dev);
	iommu_iotlb_gather_init(&hwdom->gather);
	iommu_set_fault_handler(hwdom->iommu, kosdma_hwdom_fault, domain);
	ret = iommu_attach_group(hwdom->iommu, dev->group->iommu);
	if (ret)
		goto err_domain;
	list_add_tail(&hwdom->node, &domain->hwdoms);
	return hwdom;

err_domain:
	iommu_domain_free(hwdom->iommu);
err_free:
	kfree(hwdom);
	/* Busy: another member of the group is being reset. */
	return ERR_PTR(ret == -ENOMEM || ret == -EBUSY ? ret : -EOPNOTSUPP);
}

/* Attach the group to a page table of the domain that its IOMMU can use, or to a new one. */
static int kosdma_domain_attach_hwdom(struct kosdma_domain *domain, struct kosdma_device *dev)
{
	struct kosdma_group *group = dev->group;
	struct kosdma_access *access;
	struct kosdma_hwdom *hwdom;
	bool new = true;
	int ret;

	list_for_each_entry(hwdom, &domain->hwdoms, node) {
		if (!iommu_attach_group(hwdom->iommu, group->iommu)) {
			new = false;
			break;
		}
	}
	if (new) {
		hwdom = kosdma_hwdom_create(domain, dev);
		if (IS_ERR(hwdom))
			return PTR_ERR(hwdom);
	}

	/* Only an attached domain tells the truth about its geometry and page sizes. */
	ret = -EOPNOTSUPP;
	if (!(hwdom->iommu->pgsize_bitmap & PAGE_SIZE))
		goto err_detach;
	ret = -EBADFD;
	if (!kosdma_hwdom_fits(domain, hwdom))
		goto err_detach;
	ret = kosdma_domain_reserve_for(domain, group);
	if (ret)
		goto err_detach;
	if (new) {
		list_for_each_entry(access, &domain->accesses, domain_node) {
			if (access->placed)
				ret = kosdma_access_map_hwdom(access, hwdom);
			if (ret)
				goto err_detach;
			cond_resched();
		}
	}
	hwdom->groups++;
	group->hwdom = hwdom;
	return 0;

err_detach:
	iommu_detach_group(hwdom->iommu, group->iommu);
	if (new)
		kosdma_hwdom_destroy(hwdom);
	return ret;
}

static void kosdma_domain_detach_hwdom(struct kosdma_group *group)
{
	struct kosdma_hwdom *hwdom = group->hwdom;

	/* Back to the blocking domain of the group's owner. */
	iommu_detach_group(hwdom->iommu, group->iommu);
	group->hwdom = NULL;
	if (!--hwdom->groups)
		kosdma_hwdom_destroy(hwdom);
}

/**
 * kosdma_domain_stale() - can devices reach what was unmapped?
 * @domain: locked
 *
 * Return: whether an unmap has failed. That lasts until the groups have left; new
 * accesses get no address meanwhile, because it may be one of those.
 */
bool kosdma_domain_stale(struct kosdma_domain *domain)
{
	struct kosdma_hwdom *hwdom;

	lockdep_assert_held(&domain->lock);
	list_for_each_entry(hwdom, &domain->hwdoms, node) {
		if (hwdom->stale)
			return true;
	}
	return false;
}

/**
 * kosdma_domain_flush() - make the IOMMUs forget what was unmapped
 * @domain: since the last call nothing has happened in it but that accesses were
 *	taken out of the page tables, under the lock that is held
 *
 * No device reaches through what was unmapped when this returns, if it was all
 * unmapped (kosdma_domain_stale()).
 */
void kosdma_domain_flush(struct kosdma_domain *domain)
{
	struct kosdma_hwdom *hwdom;

	lockdep_assert_held(&domain->lock);
	list_for_each_entry(hwdom, &domain->hwdoms, node) {
		u64 start = hwdom->gather.start, last = hwdom->gather.end;

		if (!last)
			continue;
		iommu_iotlb_sync(hwdom->iommu, &hwdom->gather);
		trace_domain_flush(domain, start, last);
	}
}

/* --- devices ------------------------------------------------------------------- */

/* The last address that every device of the domain can emit and every IOMMU can map. */
static void kosdma_domain_update_limit(struct kosdma_domain *domain)
{
	struct kosdma_device *dev;
	struct kosdma_hwdom *hwdom;
	u64 limit = U64_MAX;

	lockdep_assert_held(&domain->lock);
	if (domain->mode == KOSDMA_MODE_TRANSLATED)
		limit = KOSDMA_IOVA_MAX;
	list_for_each_entry(hwdom, &domain->hwdoms, node)
		limit = min_t(u64, limit, hwdom->iommu->geometry.aperture_end);
	list_for_each_entry(dev, &domain->devices, domain_node)
		limit = min(limit, dev->mask);
	domain->limit = limit;
}

/* Direct mode: the kernel cannot protect itself from the device. */
static int kosdma_domain_check_direct(struct kosdma_device *dev)
{
	int obstacle = kosdma_direct_obstacle();

	if (obstacle >= 0)
		return obstacle == KOSDMA_NL_OBSTACLE_DIRECT_FORBIDDEN ? -EOPNOTSUPP : -EPERM;
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
	pci_warn(dev->pdev, "attached by %s[%d] without an IOMMU: it can write all memory\n",
		 current->comm, task_tgid_nr(current));
	return 0;
}

/* Can a group write interrupt messages of others, and is that a reason to refuse it? */
bool kosdma_interrupts_unsafe(struct iommu_group *iommu)
{
	return !kosdma_group_remaps(iommu) && !kosdma_unsafe_interrupts_allowed();
}

/* A device that may write can write interrupt messages: is it kept from those of others? */
static int kosdma_domain_check_interrupts(struct kosdma_device *dev)
{
	if (kosdma_group_remaps(dev->group->iommu))
		return 0;
	/* These lines are part of the API. */
	if (kosdma_interrupts_unsafe(dev->group->iommu)) {
		dev_notice_ratelimited(&dev->pdev->dev,
				       "kosdma: %s[%d] cannot attach it: no interrupt remapping (allow_unsafe_interrupts)\n",
				       current->comm, task_tgid_nr(current));
		return -EPERM;
	}
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
	pci_warn(dev->pdev, "attached by %s[%d] without interrupt remapping: it can raise any interrupt\n",
		 current->comm, task_tgid_nr(current));
	return 0;
}

/*
 * Give every access that has no address yet one, now that a device is there,
 * and let the device reach those that had one (direct mode; behind an IOMMU its
 * page table has them). All or nothing: the lock is held, so nobody has seen a
 * fresh address that is taken back.
 */
static int kosdma_domain_place_all(struct kosdma_domain *domain, struct kosdma_device *dev)
{
	bool direct = domain->mode == KOSDMA_MODE_DIRECT;
	struct kosdma_access *access, *stop;
	int ret = 0;

	list_for_each_entry(access, &domain->accesses, domain_node) {
		access->fresh = !access->placed;
		if (access->fresh)
			ret = kosdma_access_place(access);
		else if (direct)
			ret = kosdma_access_map_device(access, dev);
		if (ret)
			break;
		cond_resched();
	}
	if (!ret)
		return 0;

	stop = access;
	list_for_each_entry(access, &domain->accesses, domain_node) {
		if (access == stop)
			break;
		if (access->fresh)
			kosdma_access_unplace(access, NULL);
		else if (direct)
			kosdma_access_unmap_device(access, dev);
		cond_resched();
	}
	kosdma_domain_flush(domain);
	return ret;
}

/* The automatic domain has no handle, so those of its accesses have the events as well. */
static void kosdma_domain_set_events(struct kosdma_domain *domain, __poll_t events)
{
	struct kosdma_access *access;

	lockdep_assert_held(&domain->lock);
	kosdma_object_set_events(&domain->obj, events);
	list_for_each_entry(access, &domain->accesses, domain_node)
		kosdma_object_set_events(&access->obj, events);
}

/* A device was taken away from the domain. Pollers hear of it until another is attached. */
void kosdma_domain_lost_device(struct kosdma_domain *domain)
{
	mutex_lock(&domain->lock);
	kosdma_domain_set_events(domain, EPOLLPRI);
	mutex_unlock(&domain->lock);
}

/**
 * kosdma_domain_add() - let a device see the domain
 * @domain: of the calling process
 * @dev: not attached; its group is locked, held, and empty or in this domain
 *
 * Bus mastering is off. Return: 0 or an errno; then nothing has changed.
 */
int kosdma_domain_add(struct kosdma_domain *domain, struct kosdma_device *dev)
{
	struct kosdma_group *group = dev->group;
	enum kosdma_mode mode = group->iommu ? KOSDMA_MODE_TRANSLATED : KOSDMA_MODE_DIRECT;
	enum kosdma_mode old_mode;
	bool first = !group->attached;
	int ret;

	lockdep_assert_held(&group->lock);
	mutex_lock(&domain->lock);
	old_mode = domain->mode;
	ret = -EBADF;
	if (domain->closed)
		goto err_unlock;
	ret = -EBADFD;
	if (old_mode != mode &&
	    (!list_empty(&domain->devices) || domain->placed || kosdma_domain_unquiet(domain)))
		goto err_unlock;
	ret = mode == KOSDMA_MODE_DIRECT ? kosdma_domain_check_direct(dev) :
					   kosdma_domain_check_interrupts(dev);
	if (ret)
		goto err_unlock;
	domain->mode = mode;

	if (first) {
		if (mode == KOSDMA_MODE_TRANSLATED) {
			ret = kosdma_domain_attach_hwdom(domain, dev);
			if (ret)
				goto err_mode;
		}
		list_add_tail(&group->domain_node, &domain->groups);
		group->domain = domain;
		kosdma_object_get(&domain->obj);
	}
	list_add_tail(&dev->domain_node, &domain->devices);
	dev->mask = U64_MAX;
	kosdma_domain_update_limit(domain);
	ret = kosdma_domain_place_all(domain, dev);
	if (ret)
		goto err_remove;
	dev->attached = true;
	group->attached++;
	kosdma_domain_set_events(domain, 0);
	mutex_unlock(&domain->lock);
	return 0;

err_remove:
	list_del(&dev->domain_node);
	if (first) {
		list_del(&group->domain_node);
		group->domain = NULL;
		if (mode == KOSDMA_MODE_TRANSLATED)
			kosdma_domain_detach_hwdom(group);
		kosdma_object_put(&domain->obj);	/* not the last: the caller's */
	}
err_mode:
	domain->mode = old_mode;
	kosdma_domain_update_limit(domain);
err_unlock:
	mutex_unlock(&domain->lock);
	return ret;
}

/* A device leaves a direct domain, and may write on. */
static void kosdma_domain_set_unquiet(struct kosdma_domain *domain, struct kosdma_device *dev)
{
	struct kosdma_device *old = kosdma_domain_unquiet(domain);

	kosdma_quarantine_suspect(dev);
	if (old && old->pdev != dev->pdev) {
		domain->unquiet_more = true;
		return;
	}
	/* Bound anew, a function is another device: the last one is the one to ask about. */
	kref_get(&dev->ref);
	domain->unquiet = dev;
	if (old)
		kosdma_device_put(old);
}

/**
 * kosdma_domain_unquiet() - may a device that has left still write?
 * @domain: locked
 *
 * Return: the device; NULL if each that left has been proven quiet.
 */
struct kosdma_device *kosdma_domain_unquiet(struct kosdma_domain *domain)
{
	lockdep_assert_held(&domain->lock);
	if (domain->unquiet &&
	    !kosdma_quarantine_is_suspect(domain->unquiet_more ? NULL : domain->unquiet)) {
		kosdma_device_put(domain->unquiet);
		domain->unquiet = NULL;
		domain->unquiet_more = false;
	}
	return domain->unquiet;
}

/**
 * kosdma_domain_remove() - the device sees the domain no longer
 * @domain: where it is attached
 * @dev: bus mastering off and drained; its group is locked
 * @quiet: it is known to write no more
 */
void kosdma_domain_remove(struct kosdma_domain *domain, struct kosdma_device *dev, bool quiet)
{
	struct kosdma_group *group = dev->group;
	struct kosdma_access *access;
	bool last;
	LIST_HEAD(done);

	lockdep_assert_held(&group->lock);
	mutex_lock(&domain->lock);
	dev->attached = false;
	list_del(&dev->domain_node);
	last = !--group->attached;
	if (domain->mode == KOSDMA_MODE_DIRECT) {
		list_for_each_entry(access, &domain->accesses, domain_node) {
			if (access->placed)
				kosdma_access_unmap_device(access, dev);
			cond_resched();
		}
		if (!quiet)
			kosdma_domain_set_unquiet(domain, dev);
	}
	if (last) {
		list_del(&group->domain_node);
		group->domain = NULL;
		if (group->hwdom)
			kosdma_domain_detach_hwdom(group);
	}
	kosdma_domain_update_limit(domain);
	kosdma_access_settle(domain, &done);
	mutex_unlock(&domain->lock);

	kosdma_access_release(&done);
	if (last)
		kosdma_domain_put(domain);
}

/**
 * kosdma_domain_set_mask() - declare what a device can address
 * @domain: where it is attached
 * @dev: its group is locked
 * @mask: last address
 *
 * Return: 0, or -EBADFD if an access lies above it already.
 */
int kosdma_domain_set_mask(struct kosdma_domain *domain, struct kosdma_device *dev, u64 mask)
{
	struct kosdma_access *access;
	int ret = 0;

	lockdep_assert_held(&dev->group->lock);
	mutex_lock(&domain->lock);
	list_for_each_entry(access, &domain->accesses, domain_node) {
		if (access->placed && kosdma_access_last(access) > mask) {
			ret = -EBADFD;
			break;
		}
	}
	if (!ret) {
		dev->mask = mask;
		kosdma_domain_update_limit(domain);
	}
	mutex_unlock(&domain->lock);
	return ret;
}

/* --- the object ---------------------------------------------------------------- */

/**
 * kosdma_domain_end() - close a domain
 * @domain: its devices are cut off and released when this returns; its
 *	accesses stay open and reach nobody
 *
 * Called without locks.
 */
void kosdma_domain_end(struct kosdma_domain *domain)
{
	struct kosdma_access *access;
	LIST_HEAD(spans);

	mutex_lock(&domain->lock);
	if (!domain->closed)
		trace_domain_end(domain);
	domain->closed = true;
	while (!list_empty(&domain->groups)) {
		struct kosdma_group *group = list_first_entry(&domain->groups,
							      struct kosdma_group, domain_node);

		/* The device lock comes first. The group stays: its members are attached. */
		kref_get(&group->ref);
		mutex_unlock(&domain->lock);
		kosdma_group_detach(group, domain);
		kosdma_group_put(group);
		mutex_lock(&domain->lock);
	}
	list_for_each_entry(access, &domain->accesses, domain_node) {
		if (access->placed)
			kosdma_access_unplace(access, &spans);
		cond_resched();
	}
	kosdma_span_finish(domain, &spans);
	kosdma_domain_flush(domain);
	mutex_unlock(&domain->lock);
	kosdma_object_set_ended(&domain->obj, KOSDMA_ENDED);
}

/* End the accesses of a closed domain, because its process is dead. */
void kosdma_domain_end_accesses(struct kosdma_domain *domain)
{
	mutex_lock(&domain->lock);
	while (!list_empty(&domain->accesses)) {
		struct kosdma_access *access = list_first_entry(&domain->accesses,
								struct kosdma_access,
								domain_node);

		kosdma_object_get(&access->obj);
		mutex_unlock(&domain->lock);
		kosdma_access_end(access, KOSDMA_ENDED);
		kosdma_object_put(&access->obj);
		cond_resched();
		mutex_lock(&domain->lock);
	}
	mutex_unlock(&domain->lock);
}

static void kosdma_domain_object_end(struct kosdma_object *obj, enum kosdma_end how)
{
	kosdma_domain_end(to_domain(obj));
}

static void kosdma_domain_drop(struct kosdma_object *obj)
{
	struct kosdma_domain *domain = to_domain(obj);
	struct rb_node *rb;

	/* Closed or not, the process could find its accesses through it until now. */
	mutex_lock(&domain->process->lock);
	list_del_init(&domain->process_node);
	mutex_unlock(&domain->process->lock);
	WARN_ON_ONCE(!list_empty(&domain->hwdoms) || !list_empty(&domain->groups) ||
		     !list_empty(&domain->devices) || !list_empty(&domain->accesses) ||
		     !list_empty(&domain->lingering) || domain->nr_accesses ||
		     domain->lingering_pages);
	while ((rb = rb_first(&domain->space.root))) {
		struct kosdma_iova *iova = rb_entry(rb, struct kosdma_iova, rb);

		kosdma_iova_remove(&domain->space, iova);
		if (!WARN_ON_ONCE(!iova->reserved))
			kfree(iova);
	}
	if (domain->unquiet)
		kosdma_device_put(domain->unquiet);
	mutex_destroy(&domain->lock);
	kosdma_process_put(domain->process);
}

/* As fdinfo has it. */
const char *kosdma_mode_name(enum kosdma_mode mode)
{
	static const char * const names[] = { "none", "translated", "direct" };

	return names[mode];
}

static void kosdma_domain_show(struct seq_file *m, struct kosdma_object *obj)
{
	struct kosdma_domain *domain = to_domain(obj);
	struct kosdma_device *dev;

	mutex_lock(&domain->lock);
	seq_printf(m, "kosdma-mode:\t%s\n", kosdma_mode_name(domain->mode));
	if (!list_empty(&domain->devices))
		seq_printf(m, "kosdma-limit:\t%#llx\n", domain->limit);
	seq_printf(m, "kosdma-placed:\t%u\n", domain->placed);
	seq_printf(m, "kosdma-faults:\t%lld\n", (long long)atomic64_read(&domain->faults));
	list_for_each_entry(dev, &domain->devices, domain_node)
		seq_printf(m, "kosdma-device:\t%s\n", pci_name(dev->pdev));
	mutex_unlock(&domain->lock);
}

static const struct kosdma_object_ops kosdma_domain_ops = {
	.type = KOSDMA_HANDLE_DOMAIN,
	.name = "[kosdma-domain]",
	.end = kosdma_domain_object_end,
	.drop = kosdma_domain_drop,
	.show = kosdma_domain_show,
};

/* A domain without handle, and maybe for ever (@lone), with one reference. */
static struct kosdma_domain *kosdma_domain_new(struct kosdma_process *process, bool lone)
{
	struct kosdma_domain *domain;
	int ret;

	domain = kzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);
	if (!domain)
		return ERR_PTR(-ENOMEM);
	domain->obj.lone = lone;
	ret = kosdma_object_init(&domain->obj, &kosdma_domain_ops, NULL);
	if (ret) {
		kfree(domain);
		return ERR_PTR(ret);
	}
	domain->process = kosdma_process_get(process);
	mutex_init(&domain->lock);
	/* Page 0 is never given out: a device that was given no address reaches nothing. */
	kosdma_iova_init(&domain->space, PAGE_SIZE);
	INIT_LIST_HEAD(&domain->hwdoms);
	INIT_LIST_HEAD(&domain->groups);
	INIT_LIST_HEAD(&domain->devices);
	INIT_LIST_HEAD(&domain->accesses);
	INIT_LIST_HEAD(&domain->lingering);
	INIT_LIST_HEAD(&domain->process_node);
	return domain;
}

/* Enter a new domain into its process, so that it ends with it. */
static void kosdma_domain_enlist_locked(struct kosdma_domain *domain)
{
	lockdep_assert_held(&domain->process->lock);
	list_add_tail(&domain->process_node, &domain->process->domains);
	trace_domain_create(domain);
}

/* The process' automatic domain, made if need be, with a reference. */
static struct kosdma_domain *kosdma_domain_automatic(struct kosdma_process *process)
{
	struct kosdma_domain *domain, *new = NULL;

	mutex_lock(&process->lock);
	domain = process->automatic;
	if (!domain) {
		mutex_unlock(&process->lock);
		new = kosdma_domain_new(process, true);
		if (IS_ERR(new))
			return new;
		mutex_lock(&process->lock);
		domain = process->automatic;
		if (!domain) {
			/* It has no file to keep the module; the process' teardown puts it. */
			__module_get(THIS_MODULE);
			domain = new;
			WRITE_ONCE(process->automatic, domain);
			kosdma_domain_enlist_locked(domain);
			kosdma_object_list(&domain->obj);
			new = NULL;
		}
	}
	kosdma_object_get(&domain->obj);
	mutex_unlock(&process->lock);
	if (new)
		kosdma_domain_put(new);
	return domain;
}

/**
 * kosdma_domain_get() - the domain that an ioctl of the caller names
 * @ucmd: the ioctl
 * @fd: its handle, or KOSDMA_NO_HANDLE: the automatic domain
 *
 * Return: the domain, which is one of the calling process, with a reference, or an
 * error pointer.
 */
struct kosdma_domain *kosdma_domain_get(struct kosdma_ucmd *ucmd, int fd)
{
	struct kosdma_process *process;
	struct kosdma_handle *handle;
	struct kosdma_domain *domain;

	if (fd == KOSDMA_NO_HANDLE) {
		process = kosdma_ucmd_process(ucmd);
		return IS_ERR(process) ? ERR_CAST(process) : kosdma_domain_automatic(process);
	}
	handle = kosdma_handle_get(fd, KOSDMA_HANDLE_DOMAIN, 0);
	if (IS_ERR(handle))
		return ERR_CAST(handle);
	domain = to_domain(handle->obj);
	kosdma_object_get(&domain->obj);
	kosdma_handle_put(handle);
	return domain;
}

void kosdma_domain_put(struct kosdma_domain *domain)
{
	kosdma_object_put(&domain->obj);
}

int kosdma_ioctl_domain_create(struct kosdma_ucmd *ucmd)
{
	struct kosdma_domain_create *cmd = ucmd->cmd;
	struct kosdma_process *process;
	struct kosdma_domain *domain;
	int ret;

	process = kosdma_ucmd_process(ucmd);
	if (IS_ERR(process))
		return PTR_ERR(process);
	domain = kosdma_domain_new(process, false);
	if (IS_ERR(domain))
		return PTR_ERR(domain);
	mutex_lock(&domain->process->lock);
	kosdma_domain_enlist_locked(domain);
	mutex_unlock(&domain->process->lock);

	ret = kosdma_handle_create(ucmd, &domain->obj, KOSDMA_RIGHT_GET_SID, NULL, NULL,
				   &cmd->out_handle);
	if (ret)
		kosdma_domain_end(domain);
	kosdma_domain_put(domain);
	return ret;
}
