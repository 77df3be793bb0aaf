// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accesses: a buffer open for the devices of a domain (Begin)
 *
 * Placed means: it has an address. In a translated domain that is a range of
 * the domain's space, maybe a part of a span (span.c), entered in every hardware
 * domain there is; in a direct one the physical address, entered in the DMA API
 * for every device there is.
 *
 * Once an access is closed, an IOMMU has cut devices off, and the pages may be
 * freed. Without one they linger in the domain until its devices have proven
 * quiet; those of a device that does not are quarantined. They linger, too, if
 * the IOMMU's driver has failed to unmap: until all devices are detached.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <linux/kosdma_netlink.h>

#include "inject.h"
#include "kosdma.h"
#include "trace.h"

/* --- addresses -------------------------------------------------------------- */

/* Page sizes that every hardware domain of the domain has. */
unsigned long kosdma_access_pgsizes(struct kosdma_domain *domain)
{
	unsigned long pgsizes = ULONG_MAX;
	struct kosdma_hwdom *hwdom;

	list_for_each_entry(hwdom, &domain->hwdoms, node)
		pgsizes &= hwdom->iommu->pgsize_bitmap;
	return pgsizes;
}

/* The blocks lie largest first, so the first one decides. */
u64 kosdma_access_align(const struct kosdma_access *access, unsigned long pgsizes)
{
	struct kosdma_buffer *buffer = access->buffer;

	return kosdma_blocks_align(buffer->order, buffer->sgt.sgl->length, pgsizes);
}

/* The last I/O address that it may have. */
u64 kosdma_access_limit(const struct kosdma_access *access)
{
	u64 limit = access->domain->limit;

	if (access->buffer->attr & KOSDMA_ATTR_ZONE_DMA32)
		limit = min_t(u64, limit, DMA_BIT_MASK(32));
	return limit;
}

/* What devices may do, as the IOMMU API has it. */
int kosdma_access_prot(const struct kosdma_access *access)
{
	int prot = IOMMU_CACHE;

	if (access->attr & KOSDMA_ATTR_TO_DEVICE)
		prot |= IOMMU_READ;
	if (access->attr & KOSDMA_ATTR_FROM_DEVICE)
		prot |= IOMMU_WRITE;
	return prot;
}

/* Less was unmapped than should have been. */
static void kosdma_hwdom_set_stale(struct kosdma_hwdom *hwdom, u64 start, u64 bytes)
{
	if (!hwdom->stale)
		pr_err_ratelimited("the IOMMU driver fails to unmap [%#llx-%#llx]: closed buffers are kept until devices are detached\n",
				   start, start + bytes - 1);
	hwdom->stale = true;
}

/* Take out at once the part of a range that could be entered. */
void kosdma_hwdom_undo(struct kosdma_hwdom *hwdom, u64 start, u64 bytes)
{
	if (iommu_unmap(hwdom->iommu, start, bytes) != bytes)
		kosdma_hwdom_set_stale(hwdom, start, bytes);
}

/*
 * How much of a range one call of the driver enters: pages of one size, the largest
 * that fits, up to where a still larger one might.
 */
static unsigned long kosdma_hwdom_run(const struct kosdma_hwdom *hwdom, unsigned long addr,
				      phys_addr_t start, unsigned long bytes)
{
	unsigned long sizes = hwdom->iommu->pgsize_bitmap, size, larger;

	/* No I/O address is 0. */
	size = BIT(__fls(sizes & GENMASK(min(__fls(bytes), __ffs(addr | start)), 0)));
	larger = sizes & ~(size | (size - 1));
	if (larger) {
		larger = BIT(__ffs(larger));
		bytes = min(bytes, larger - (addr & (larger - 1)));
	}
	return bytes & ~(size - 1);
}

/**
 * kosdma_hwdom_map() - enter memory in a hardware domain
 * @hwdom: has nothing in the range
 * @addr: the first I/O address
 * @sgt: what is entered, on pages' borders
 * @prot: what devices may do, as the IOMMU API has it
 *
 * If that fails, the kernel takes out what it has entered, and does not tell if that
 * fails, too. Where it may, each call is one of the driver's, of which nothing is left.
 *
 * Return: how many bytes have been entered, or an errno; then nothing has.
 */
ssize_t kosdma_hwdom_map(struct kosdma_hwdom *hwdom, u64 addr, struct sg_table *sgt, int prot)
{
	struct scatterlist *sg;
	ssize_t mapped = 0;
	unsigned int i;

	if (!hwdom->unmap_may_fail && sgt->orig_nents > 1)
		return kosdma_iommu_map_sgtable(hwdom->iommu, addr, sgt, prot);
	for_each_sgtable_sg(sgt, sg, i) {
		unsigned long done, bytes;

		for (done = 0; done < sg->length; done += bytes) {
			phys_addr_t start = sg_phys(sg) + done;
			int ret;

			bytes = sg->length - done;
			if (hwdom->unmap_may_fail) {
				bytes = kosdma_hwdom_run(hwdom, addr + mapped, start, bytes);
				cond_resched();
			}
			ret = kosdma_iommu_map(hwdom->iommu, addr + mapped, start, bytes, prot);
			if (ret)
				return mapped ?: ret;
			mapped += bytes;
		}
	}
	return mapped;
}

/**
 * kosdma_access_map_hwdom() - enter a placed access in a hardware domain
 * @access: has its IOVA
 * @hwdom: one that does not have it
 *
 * Return: 0 or an errno; then nothing is mapped.
 */
int kosdma_access_map_hwdom(struct kosdma_access *access, struct kosdma_hwdom *hwdom)
{
	u64 bytes = kosdma_buffer_bytes(access->buffer);
	int prot = kosdma_access_prot(access);
	ssize_t mapped;

	lockdep_assert_held(&access->domain->lock);
	mapped = kosdma_hwdom_map(hwdom, access->iova.start, &access->buffer->sgt, prot);
	if (mapped == bytes)
		return 0;
	if (mapped > 0)
		kosdma_hwdom_undo(hwdom, access->iova.start, mapped);
	return mapped == -EOPNOTSUPP ? mapped : -ENOMEM;
}

/* Until kosdma_domain_flush(), devices may still reach the range. */
static void kosdma_hwdom_unmap(struct kosdma_hwdom *hwdom, u64 start, u64 bytes)
{
	struct iommu_iotlb_gather *gather = &hwdom->gather;

	/*
	 * One range that spans all, guards and what lies between included: drivers
	 * flush at once what does not continue the range or has another page size.
	 * The page size is of use to those of other machines only.
	 */
	iommu_iotlb_gather_add_range(gather, start, bytes);
	if (IS_ENABLED(CONFIG_X86))
		gather->pgsize = 0;
	if (iommu_unmap_fast(hwdom->iommu, start, bytes, gather) != bytes)
		kosdma_hwdom_set_stale(hwdom, start, bytes);
}

/* Take a range out of the page tables that come before @end; NULL: out of all. */
void kosdma_hwdoms_unmap(struct kosdma_domain *domain, const struct kosdma_hwdom *end, u64 start,
			 u64 bytes)
{
	struct kosdma_hwdom *hwdom;

	list_for_each_entry(hwdom, &domain->hwdoms, node) {
		if (hwdom == end)
			break;
		kosdma_hwdom_unmap(hwdom, start, bytes);
	}
}

/* Take an access out of every page table; its range and those who count it stay. */
void kosdma_access_unmap(struct kosdma_access *access)
{
	kosdma_hwdoms_unmap(access->domain, NULL, access->iova.start,
			    kosdma_buffer_bytes(access->buffer));
}

/* Nothing is copied or flushed, and what is begun twice is mapped twice. */
#define KOSDMA_MAP_ATTRS (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_DEBUGGING_IGNORE_CACHELINES)

static enum dma_data_direction kosdma_access_direction(const struct kosdma_access *access)
{
	switch (access->attr) {
	case KOSDMA_ATTR_TO_DEVICE:
		return DMA_TO_DEVICE;
	case KOSDMA_ATTR_FROM_DEVICE:
		return DMA_FROM_DEVICE;
	default:
		return DMA_BIDIRECTIONAL;
	}
}

/* Take the first @count blocks of an access from the DMA API's view of a device. */
static void kosdma_access_unmap_blocks(struct kosdma_access *access, struct kosdma_device *dev,
				       unsigned int count)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sg(access->buffer->sgt.sgl, sg, count, i) {
		dma_unmap_page_attrs(&dev->pdev->dev, sg_phys(sg), sg->length,
				     kosdma_access_direction(access), KOSDMA_MAP_ATTRS);
		cond_resched();
	}
}

/**
 * kosdma_access_map_device() - enter an access for a device without IOMMU
 * @access: in a direct domain
 * @dev: one of its devices
 *
 * Return: 0; -EOPNOTSUPP if the device would see another address than the
 * physical one (a bounce buffer, say); then nothing is mapped.
 */
int kosdma_access_map_device(struct kosdma_access *access, struct kosdma_device *dev)
{
	struct scatterlist *sg;
	unsigned int i;
	dma_addr_t addr;

	lockdep_assert_held(&access->domain->lock);
	for_each_sg(access->buffer->sgt.sgl, sg, access->buffer->sgt.orig_nents, i) {
		addr = dma_map_page_attrs(&dev->pdev->dev, sg_page(sg), 0, sg->length,
					  kosdma_access_direction(access), KOSDMA_MAP_ATTRS);
		if (dma_mapping_error(&dev->pdev->dev, addr))
			goto err_unmap;
		if (addr != sg_phys(sg)) {
			dma_unmap_page_attrs(&dev->pdev->dev, addr, sg->length,
					     kosdma_access_direction(access), KOSDMA_MAP_ATTRS);
			goto err_unmap;
		}
		cond_resched();
	}
	return 0;

err_unmap:
	kosdma_access_unmap_blocks(access, dev, i);
	return -EOPNOTSUPP;
}

/* Undo kosdma_access_map_device(). */
void kosdma_access_unmap_device(struct kosdma_access *access, struct kosdma_device *dev)
{
	kosdma_access_unmap_blocks(access, dev, access->buffer->sgt.orig_nents);
}

/* Last address of a placed access. */
u64 kosdma_access_last(const struct kosdma_access *access)
{
	struct scatterlist *sg;
	unsigned int i;
	u64 last = 0;

	if (access->domain->mode == KOSDMA_MODE_TRANSLATED)
		return access->iova.start + kosdma_buffer_bytes(access->buffer) - 1;
	for_each_sg(access->buffer->sgt.sgl, sg, access->buffer->sgt.orig_nents, i) {
		last = max_t(u64, last, sg_phys(sg) + sg->length - 1);
		cond_resched();
	}
	return last;
}

static int kosdma_access_place_translated(struct kosdma_access *access)
{
	struct kosdma_domain *domain = access->domain;
	unsigned long pgsizes = kosdma_access_pgsizes(domain);
	struct kosdma_hwdom *hwdom;
	int ret;

	if (kosdma_domain_stale(domain))
		return -ENOMEM;
	if (!kosdma_iova_alloc(&domain->space, &access->iova, kosdma_buffer_bytes(access->buffer),
			       PAGE_SIZE, kosdma_access_align(access, pgsizes),
			       kosdma_access_limit(access)))
		return -EDQUOT;

	list_for_each_entry(hwdom, &domain->hwdoms, node) {
		ret = kosdma_access_map_hwdom(access, hwdom);
		if (ret)
			goto err_unmap;
	}
	return 0;

err_unmap:
	kosdma_hwdoms_unmap(domain, hwdom, access->iova.start, kosdma_buffer_bytes(access->buffer));
	kosdma_domain_flush(domain);
	kosdma_iova_remove(&domain->space, &access->iova);
	return ret;
}

static int kosdma_access_place_direct(struct kosdma_access *access)
{
	struct kosdma_domain *domain = access->domain;
	struct kosdma_device *dev, *undo;
	int ret;

	if (!access->buffer->physical)
		return -EBADFD;
	if (kosdma_access_last(access) > domain->limit)
		return -EDQUOT;
	list_for_each_entry(dev, &domain->devices, domain_node) {
		ret = kosdma_access_map_device(access, dev);
		if (ret)
			goto err_unmap;
	}
	return 0;

err_unmap:
	list_for_each_entry(undo, &domain->devices, domain_node) {
		if (undo == dev)
			break;
		kosdma_access_unmap_device(access, undo);
	}
	return ret;
}

/* It has its address: everybody who counts is told. */
void kosdma_access_placed(struct kosdma_access *access)
{
	struct kosdma_domain *domain = access->domain;

	access->placed = true;
	access->reached = domain->mode == KOSDMA_MODE_DIRECT;
	domain->placed++;
	if (domain->mode == KOSDMA_MODE_TRANSLATED) {
		domain->iova_bytes += kosdma_buffer_bytes(access->buffer);
		kosdma_stat_add(KOSDMA_STAT_IOVA_BYTES, kosdma_buffer_bytes(access->buffer));
	}
	trace_access_place(access);
	kosdma_stat_add(KOSDMA_STAT_PLACES, 1);
}

/* The reverse. */
void kosdma_access_unplaced(struct kosdma_access *access)
{
	struct kosdma_domain *domain = access->domain;

	access->placed = false;
	domain->placed--;
	if (domain->mode == KOSDMA_MODE_TRANSLATED) {
		domain->iova_bytes -= kosdma_buffer_bytes(access->buffer);
		kosdma_stat_add(KOSDMA_STAT_IOVA_BYTES,
				-(s64)kosdma_buffer_bytes(access->buffer));
	}
	trace_access_unplace(access);
	kosdma_stat_add(KOSDMA_STAT_UNPLACES, 1);
}

/**
 * kosdma_access_place() - give an access its address
 * @access: without one; its domain has a device
 *
 * Return: 0 or an errno; then it still has none.
 */
int kosdma_access_place(struct kosdma_access *access)
{
	struct kosdma_domain *domain = access->domain;
	int ret;

	lockdep_assert_held(&domain->lock);
	if (domain->mode == KOSDMA_MODE_TRANSLATED)
		ret = kosdma_access_place_translated(access);
	else
		ret = kosdma_access_place_direct(access);
	if (!ret)
		kosdma_access_placed(access);
	return ret;
}

/**
 * kosdma_access_unplace() - take an access' address away
 * @access: placed
 * @spans: for kosdma_span_finish(); NULL if the access is known to have no span
 *
 * Behind an IOMMU, no device reaches the buffer through it after
 * kosdma_span_finish() and the next kosdma_domain_flush(), which come before the
 * lock is let go.
 */
void kosdma_access_unplace(struct kosdma_access *access, struct list_head *spans)
{
	struct kosdma_domain *domain = access->domain;
	struct kosdma_device *dev;

	lockdep_assert_held(&domain->lock);
	if (access->span) {
		kosdma_span_unplace(access, spans);
	} else if (domain->mode == KOSDMA_MODE_TRANSLATED) {
		kosdma_access_unmap(access);
		kosdma_iova_remove(&domain->space, &access->iova);
	} else {
		list_for_each_entry(dev, &domain->devices, domain_node)
			kosdma_access_unmap_device(access, dev);
	}
	kosdma_access_unplaced(access);
}

/* --- death -------------------------------------------------------------------- */

/* It has ended, but a device may still reach the pages. */
static void kosdma_access_keep(struct kosdma_access *access)
{
	lockdep_assert_held(&access->domain->lock);
	kosdma_object_get(&access->obj);
	kosdma_object_pin(&access->buffer->obj);
	list_add_tail(&access->domain_node, &access->domain->lingering);
	access->domain->lingering_pages += access->buffer->npages;
	access->lingers = true;
	kosdma_stat_add(KOSDMA_STAT_LINGERING, access->buffer->npages);
}

/**
 * kosdma_access_settle() - decide about the lingering accesses of a domain
 * @domain: locked; devices may have left it
 * @done: gets those whose pages nobody writes any more, for
 *	kosdma_access_release()
 *
 * While the domain has devices, they linger on. When it has none, they are done,
 * or quarantined if a device left without proof that it is quiet.
 */
void kosdma_access_settle(struct kosdma_domain *domain, struct list_head *done)
{
	struct kosdma_access *access, *next;
	struct kosdma_device *unquiet;

	lockdep_assert_held(&domain->lock);
	if (!list_empty(&domain->devices))
		return;
	unquiet = kosdma_domain_unquiet(domain);
	list_for_each_entry(access, &domain->lingering, domain_node) {
		access->lingers = false;
		domain->lingering_pages -= access->buffer->npages;
		kosdma_stat_add(KOSDMA_STAT_LINGERING, -(s64)access->buffer->npages);
		cond_resched();
	}
	if (!unquiet) {
		list_splice_init(&domain->lingering, done);
		return;
	}
	list_for_each_entry_safe(access, next, &domain->lingering, domain_node) {
		if (!kosdma_quarantine_add(access, unquiet, domain->unquiet_more))
			list_move_tail(&access->domain_node, done);
		cond_resched();
	}
}

/* Let go of the pages of accesses that linger no longer. */
void kosdma_access_release(struct list_head *done)
{
	struct kosdma_access *access, *next;

	list_for_each_entry_safe(access, next, done, domain_node) {
		list_del(&access->domain_node);
		kosdma_buffer_unuse(access->buffer);
		kosdma_object_unpin(&access->buffer->obj);
		kosdma_object_put(&access->obj);
		cond_resched();
	}
}

/* Nothing to end yet. */
void kosdma_ending_init(struct kosdma_ending *ending, enum kosdma_end how)
{
	ending->domain = NULL;
	ending->how = how;
	INIT_LIST_HEAD(&ending->accesses);
	INIT_LIST_HEAD(&ending->spans);
	INIT_LIST_HEAD(&ending->released);
}

/* With its domain locked. Has it ended already, it was flushed before that lock was let go. */
static bool kosdma_ending_add_locked(struct kosdma_ending *ending, struct kosdma_access *access)
{
	struct kosdma_domain *domain = access->domain;
	struct kosdma_buffer *buffer = access->buffer;

	lockdep_assert_held(&domain->lock);
	if (access->done)
		return false;
	access->kept = access->reached && (access->placed || kosdma_domain_unquiet(domain));
	access->done = true;
	if (access->placed)
		kosdma_access_unplace(access, &ending->spans);
	list_del(&access->domain_node);
	domain->nr_accesses--;
	mutex_lock(&buffer->lock);
	list_del(&access->buffer_node);
	mutex_unlock(&buffer->lock);
	kosdma_object_get(&access->obj);
	list_add_tail(&access->buffer_node, &ending->accesses);
	return true;
}

/**
 * kosdma_ending_add() - close an access, together with others
 * @ending: locks the domain of the access, if it is not locked already; those of
 *	another domain are finished first
 * @access: any
 *
 * Called with no other lock. Never touches the device.
 *
 * Return: false if it has ended already, or somebody else is at it.
 */
bool kosdma_ending_add(struct kosdma_ending *ending, struct kosdma_access *access)
{
	if (ending->domain != access->domain) {
		kosdma_ending_finish(ending);
		kosdma_object_get(&access->domain->obj);
		mutex_lock(&access->domain->lock);
		ending->domain = access->domain;
	}
	return kosdma_ending_add_locked(ending, access);
}

/**
 * kosdma_ending_finish() - close the accesses that were added
 * @ending: empty again when this returns; behind an IOMMU, devices are cut off, or
 *	what they still reach is kept
 */
void kosdma_ending_finish(struct kosdma_ending *ending)
{
	struct kosdma_domain *domain = ending->domain;
	struct kosdma_access *access, *next;
	bool stale;

	if (!domain)
		return;
	kosdma_span_finish(domain, &ending->spans);
	kosdma_domain_flush(domain);
	stale = kosdma_domain_stale(domain);
	list_for_each_entry(access, &ending->accesses, buffer_node) {
		access->kept |= stale;
		trace_access_end(access, ending->how, access->kept);
		if (access->kept)
			kosdma_access_keep(access);
		else
			kosdma_buffer_unuse(access->buffer);
	}
	kosdma_access_settle(domain, &ending->released);
	mutex_unlock(&domain->lock);
	ending->domain = NULL;

	list_for_each_entry_safe(access, next, &ending->accesses, buffer_node) {
		kosdma_object_set_ended(&access->obj, ending->how);
		kosdma_use_del(&access->use);
		kosdma_object_put(&access->obj);
		cond_resched();
	}
	INIT_LIST_HEAD(&ending->accesses);
	kosdma_access_release(&ending->released);
	kosdma_domain_put(domain);
}

/**
 * kosdma_access_end() - close an access
 * @access: behind an IOMMU, devices are cut off when this returns, or its pages
 *	are kept
 * @how: why
 *
 * Called without locks. Never touches the device.
 */
void kosdma_access_end(struct kosdma_access *access, enum kosdma_end how)
{
	struct kosdma_ending ending;

	/* Set behind the flush. */
	if (!smp_load_acquire(&access->obj.ended)) {
		kosdma_ending_init(&ending, how);
		kosdma_ending_add(&ending, access);
		kosdma_ending_finish(&ending);
		kosdma_object_set_ended(&access->obj, how);
	}
	/* Whoever ended it may not have come so far yet. */
	kosdma_use_del(&access->use);
}

static void kosdma_access_object_end(struct kosdma_object *obj, enum kosdma_end how)
{
	kosdma_access_end(to_access(obj), how);
}

static void kosdma_access_drop(struct kosdma_object *obj)
{
	struct kosdma_access *access = to_access(obj);

	kosdma_object_put(&access->buffer->obj);
	kosdma_domain_put(access->domain);
}

static void kosdma_access_show(struct seq_file *m, struct kosdma_object *obj)
{
	struct kosdma_access *access = to_access(obj);
	struct kosdma_domain *domain = access->domain;

	seq_printf(m, "kosdma-buffer:\t%u\n", access->buffer->obj.sid);
	seq_printf(m, "kosdma-domain:\t%u\n", domain->obj.sid);
	seq_printf(m, "kosdma-length:\t%llu\n", access->buffer->length);
	seq_printf(m, "kosdma-attr:\t%#x\n", access->attr);
	mutex_lock(&domain->lock);
	seq_printf(m, "kosdma-mode:\t%s\n",
		   kosdma_mode_name(access->placed ? domain->mode : KOSDMA_MODE_NONE));
	if (access->placed && domain->mode == KOSDMA_MODE_TRANSLATED)
		seq_printf(m, "kosdma-iova:\t%#llx-%#llx\n", access->iova.start,
			   kosdma_access_last(access));
	mutex_unlock(&domain->lock);
}

static const struct kosdma_object_ops kosdma_access_ops = {
	.type = KOSDMA_HANDLE_ACCESS,
	.name = "[kosdma-access]",
	.end = kosdma_access_object_end,
	.drop = kosdma_access_drop,
	.show = kosdma_access_show,
};

/* --- ioctls -------------------------------------------------------------------- */

/* An access that is not open yet, with one reference. */
static struct kosdma_access *kosdma_access_new(struct kosdma_ucmd *ucmd,
					       struct kosdma_domain *domain,
					       struct kosdma_buffer *buffer, u32 attr)
{
	struct kosdma_access *access;
	int ret;

	access = kosdma_spare_take(ucmd);
	if (access)
		memset(access, 0, sizeof(*access));
	else
		access = kzalloc(sizeof(*access), GFP_KERNEL_ACCOUNT);
	if (!access)
		return ERR_PTR(-ENOMEM);
	ret = kosdma_object_init(&access->obj, &kosdma_access_ops, domain->obj.user);
	if (ret) {
		kfree(access);
		return ERR_PTR(ret);
	}
	kosdma_object_get(&domain->obj);
	access->domain = domain;
	kosdma_object_get(&buffer->obj);
	access->buffer = buffer;
	access->attr = attr;
	access->done = true;
	return access;
}

/* Open it, without an address yet. If that fails half-way, whoever ends it closes it. */
static int kosdma_access_open(struct kosdma_access *access, struct kosdma_handle *source)
{
	struct kosdma_domain *domain = access->domain;
	struct kosdma_buffer *buffer = access->buffer;
	int ret;

	lockdep_assert_held(&domain->lock);
	if (domain->closed)
		return -EBADF;
	if (domain->mode == KOSDMA_MODE_DIRECT && !list_empty(&domain->devices) &&
	    !capable(CAP_SYS_RAWIO))
		return -EPERM;
	/*
	 * Recorded first: whatever the domain may place, a revoke finds. One that
	 * comes now waits for the domain's lock.
	 */
	ret = kosdma_use_add(&access->use, &access->obj, source);
	if (ret)
		return ret;
	mutex_lock(&buffer->lock);
	ret = kosdma_buffer_use(buffer);
	if (!ret)
		list_add_tail(&access->buffer_node, &buffer->accesses);
	mutex_unlock(&buffer->lock);
	if (ret)
		return ret;
	access->done = false;
	list_add_tail(&access->domain_node, &domain->accesses);
	domain->nr_accesses++;
	trace_access_begin(access);
	return 0;
}

/* What needs no lock, and the reserved descriptor of the handle. */
static int kosdma_begin_prepare(struct kosdma_ucmd *ucmd, struct kosdma_domain *domain,
				struct kosdma_begin *begin, s32 *out_handle)
{
	struct kosdma_buffer *buffer = to_buffer(begin->source->obj);
	struct kosdma_access *access;
	u32 attr;

	attr = kosdma_rights_begin(begin->source->rights, READ_ONCE(buffer->attr),
				   kosdma_machine_write_only());
	if (!attr)
		return -EACCES;
	access = kosdma_access_new(ucmd, domain, buffer, attr);
	if (IS_ERR(access))
		return PTR_ERR(access);
	begin->access = access;
	return kosdma_handle_create(ucmd, &access->obj, KOSDMA_RIGHT_GET_SID, NULL, NULL,
				    out_handle);
}

/* Give those that are open their addresses. *@placed gets how many it went well for. */
static int kosdma_begin_place(struct kosdma_domain *domain, struct kosdma_begin *begins,
			      unsigned int count, unsigned int *placed)
{
	bool spans = domain->mode == KOSDMA_MODE_TRANSLATED;
	unsigned int i;
	int ret, nr;

	for (i = 0; i < count; i += nr) {
		*placed = i;
		if (fatal_signal_pending(current))
			return -EINTR;
		nr = spans ? kosdma_span_place(domain, begins + i, count - i) : 0;
		/* A little less would not fare better. */
		if (nr < 0)
			spans = false;
		if (nr <= 0) {
			ret = kosdma_access_place(begins[i].access);
			if (ret)
				return ret;
			nr = 1;
		}
		cond_resched();
	}
	*placed = count;
	return 0;
}

/*
 * Open accesses that are prepared, all or none. If it fails, *@failed gets the
 * one at fault, and all are closed again.
 */
static int kosdma_begin_open(struct kosdma_domain *domain, struct kosdma_begin *begins,
			     unsigned int count, unsigned int *failed)
{
	struct kosdma_ending ending;
	unsigned int opened, undo;
	int ret = 0;

	mutex_lock(&domain->lock);
	/* Not to be opened only to be closed again: that would linger. */
	if (kosdma_domain_stale(domain)) {
		mutex_unlock(&domain->lock);
		*failed = 0;
		return -ENOMEM;
	}
	for (opened = 0; opened < count; opened++) {
		ret = fatal_signal_pending(current) ? -EINTR :
		      kosdma_access_open(begins[opened].access, begins[opened].source);
		if (ret)
			break;
		cond_resched();
	}
	*failed = opened;
	if (!ret && !list_empty(&domain->devices))
		ret = kosdma_begin_place(domain, begins, count, failed);
	if (!ret) {
		kosdma_stat_add(KOSDMA_STAT_BEGINS, count);
		mutex_unlock(&domain->lock);
		return 0;
	}

	kosdma_ending_init(&ending, KOSDMA_ENDED);
	kosdma_object_get(&domain->obj);
	ending.domain = domain;
	for (undo = 0; undo < opened; undo++)
		kosdma_ending_add_locked(&ending, begins[undo].access);
	kosdma_ending_finish(&ending);
	/* One that failed before it was open has a use all the same. */
	if (opened < count)
		kosdma_use_del(&begins[opened].access->use);
	return ret;
}

/* Let go of what the call needed. What it made belongs to the handle's file, if there is one. */
static void kosdma_begin_put(struct kosdma_begin *begin)
{
	if (begin->access)
		kosdma_object_put(&begin->access->obj);
	if (begin->source)
		fput(begin->source->file);
}

int kosdma_ioctl_access_begin(struct kosdma_ucmd *ucmd)
{
	struct kosdma_access_begin *cmd = ucmd->cmd;
	struct kosdma_begin begin = {};
	struct kosdma_domain *domain;
	unsigned int failed;
	int ret;

	begin.source = kosdma_handle_look(cmd->handle, BIT(KOSDMA_HANDLE_BUFFER),
					  KOSDMA_RIGHT_DMA_BEGIN);
	if (IS_ERR(begin.source))
		return PTR_ERR(begin.source);
	domain = kosdma_domain_get(ucmd, cmd->domain);
	if (IS_ERR(domain)) {
		ret = PTR_ERR(domain);
		goto out_begin;
	}
	ret = kosdma_begin_prepare(ucmd, domain, &begin, &cmd->out_handle);
	if (!ret)
		ret = kosdma_begin_open(domain, &begin, 1, &failed);
	kosdma_domain_put(domain);
out_begin:
	kosdma_begin_put(&begin);
	return ret;
}

/* Where devices see the buffer of an open access, if that is one range; else 0. */
static u64 kosdma_begin_addr(struct kosdma_access *access)
{
	struct sg_table *sgt = &access->buffer->sgt;

	lockdep_assert_held(&access->domain->lock);
	if (access->placed && access->domain->mode == KOSDMA_MODE_TRANSLATED)
		return access->iova.start;
	if (access->placed && sgt->orig_nents == 1)
		return sg_phys(sgt->sgl);
	return 0;
}

/* With @begins zeroed. If it fails, @failed gets the item at fault. */
static int kosdma_begin_many(struct kosdma_ucmd *ucmd, struct kosdma_domain *domain,
			     struct kosdma_begin_item *items, struct kosdma_begin *begins,
			     u32 count, u32 *failed)
{
	unsigned int i;
	int ret;

	ucmd->tell = true;
	for (i = 0; i < count; i++) {
		struct kosdma_handle *source;

		*failed = i;
		if (fatal_signal_pending(current))
			return -EINTR;
		source = kosdma_handle_look(items[i].handle, BIT(KOSDMA_HANDLE_BUFFER),
					    KOSDMA_RIGHT_DMA_BEGIN);
		if (IS_ERR(source))
			return PTR_ERR(source);
		begins[i].source = source;
		ret = kosdma_begin_prepare(ucmd, domain, &begins[i], &items[i].out_handle);
		if (ret)
			return ret;
		cond_resched();
	}
	ret = kosdma_begin_open(domain, begins, count, failed);
	if (ret)
		return ret;
	ucmd->tell = false;
	mutex_lock(&domain->lock);
	for (i = 0; i < count; i++)
		items[i].out_addr = kosdma_begin_addr(begins[i].access);
	mutex_unlock(&domain->lock);
	return 0;
}

int kosdma_ioctl_access_begin_many(struct kosdma_ucmd *ucmd)
{
	struct kosdma_access_begin_many *cmd = ucmd->cmd;
	void __user *to = u64_to_user_ptr(cmd->items);
	struct kosdma_begin_item *items;
	struct kosdma_begin *begins;
	struct kosdma_domain *domain;
	struct kosdma_ending ending;
	size_t bytes;
	u32 failed, i;
	int ret;

	if (!cmd->count || cmd->count > KOSDMA_BATCH_MAX)
		return -EINVAL;
	bytes = cmd->count * sizeof(*items);
	items = memdup_user(to, bytes);
	if (IS_ERR(items))
		return PTR_ERR(items);
	begins = kcalloc(cmd->count, sizeof(*begins), GFP_KERNEL_ACCOUNT);
	ret = -ENOMEM;
	if (!begins)
		goto out_items;
	domain = kosdma_domain_get(ucmd, cmd->domain);
	if (IS_ERR(domain)) {
		ret = PTR_ERR(domain);
		goto out_begins;
	}
	ret = kosdma_begin_many(ucmd, domain, items, begins, cmd->count, &failed);
	kosdma_domain_put(domain);
	if (ret)
		cmd->out_failed = failed;
	if (!ret && copy_to_user(to, items, bytes)) {
		kosdma_ending_init(&ending, KOSDMA_ENDED);
		for (i = 0; i < cmd->count; i++)
			kosdma_ending_add(&ending, begins[i].access);
		kosdma_ending_finish(&ending);
		ret = -EFAULT;
	}
	for (i = 0; i < cmd->count; i++)
		kosdma_begin_put(&begins[i]);
out_begins:
	kfree(begins);
out_items:
	kfree(items);
	return ret;
}

/* A list of blocks in the making, at @to, or (NULL) only counted. */
struct kosdma_list {
	u64 *to;
	struct kosdma_blocks blocks;
};

/* List what is left of the range under way. */
static void kosdma_list_range(struct kosdma_list *list)
{
	while (list->blocks.left) {
		u64 block = kosdma_blocks_next(&list->blocks);

		if (list->to)
			list->to[list->blocks.count - 1] = block;
	}
}

static void kosdma_list_add(struct kosdma_list *list, u64 start, u64 bytes)
{
	u64 frame = start >> PAGE_SHIFT;
	u64 npages = bytes >> PAGE_SHIFT;

	if (kosdma_blocks_add(&list->blocks, frame, npages))
		return;
	kosdma_list_range(list);
	kosdma_blocks_add(&list->blocks, frame, npages);
}

/* List the physical blocks of a buffer; neighbours count as one range. */
static void kosdma_list_physical(struct kosdma_list *list, struct kosdma_buffer *buffer)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sg(buffer->sgt.sgl, sg, buffer->sgt.orig_nents, i) {
		kosdma_list_add(list, sg_phys(sg), sg->length);
		cond_resched();
	}
}

/* Where an access was when it was looked at; the blocks follow from that. */
struct kosdma_where {
	struct kosdma_buffer *buffer;	/* its object is held */
	enum kosdma_mode mode;		/* none: no device reaches it */
	u64 start;			/* translated: first address */
};

static void kosdma_list_where(struct kosdma_list *list, const struct kosdma_where *where,
			      u32 order_max, u64 *to)
{
	list->to = to;
	kosdma_blocks_init(&list->blocks);
	list->blocks.order_max = order_max;
	if (where->mode == KOSDMA_MODE_TRANSLATED)
		kosdma_list_add(list, where->start, kosdma_buffer_bytes(where->buffer));
	else if (where->mode == KOSDMA_MODE_DIRECT)
		kosdma_list_physical(list, where->buffer);
	kosdma_list_range(list);
}

/* The only access of the calling process to a buffer, with a reference, or NULL. */
static struct kosdma_access *kosdma_buffer_access(struct kosdma_buffer *buffer)
{
	struct kosdma_access *access, *found = NULL;

	mutex_lock(&buffer->lock);
	list_for_each_entry(access, &buffer->accesses, buffer_node) {
		if (!kosdma_process_is_current(access->domain->process))
			continue;
		if (found) {
			kosdma_object_put(&found->obj);
			found = ERR_PTR(-EBADFD);
			break;
		}
		kosdma_object_get(&access->obj);
		found = access;
	}
	mutex_unlock(&buffer->lock);
	return found;
}

/*
 * Where is it? If anywhere, the buffer is pinned until kosdma_object_unpin():
 * its list of blocks outlives an end of the access that comes meanwhile.
 */
static void kosdma_access_where(struct kosdma_access *access, struct kosdma_where *where)
{
	mutex_lock(&access->domain->lock);
	if (access->placed) {
		where->mode = access->domain->mode;
		if (where->mode == KOSDMA_MODE_TRANSLATED)
			where->start = access->iova.start;
		else
			where->start = sg_phys(where->buffer->sgt.sgl);
		kosdma_object_pin(&where->buffer->obj);
	}
	mutex_unlock(&access->domain->lock);
}

int kosdma_ioctl_access_info(struct kosdma_ucmd *ucmd)
{
	struct kosdma_access_info *cmd = ucmd->cmd;
	bool physical = cmd->flags & KOSDMA_ACCESS_INFO_PHYSICAL;
	struct kosdma_where where = { .mode = KOSDMA_MODE_NONE };
	struct kosdma_access *access = NULL;
	u32 order_max = kosdma_inject(block_order);
	u64 few[32], *blocks = few;
	struct kosdma_handle *handle;
	struct kosdma_list list;
	int ret;

	if (cmd->flags & ~KOSDMA_ACCESS_INFO_PHYSICAL)
		return -EINVAL;
	handle = kosdma_handle_get_types(cmd->handle,
					 BIT(KOSDMA_HANDLE_BUFFER) |
						 (physical ? 0 : BIT(KOSDMA_HANDLE_ACCESS)), 0);
	if (IS_ERR(handle))
		return PTR_ERR(handle);

	if (handle->obj->ops->type == KOSDMA_HANDLE_ACCESS) {
		access = to_access(handle->obj);
		kosdma_object_get(&access->obj);
		where.buffer = access->buffer;
	} else {
		where.buffer = to_buffer(handle->obj);
	}
	if (physical) {
		ret = -EPERM;
		if (!capable(CAP_SYS_RAWIO) || security_locked_down(LOCKDOWN_DEV_MEM))
			goto out;
		where.mode = KOSDMA_MODE_DIRECT;
		where.start = sg_phys(where.buffer->sgt.sgl);
	} else if (!access) {
		access = kosdma_buffer_access(where.buffer);
		if (IS_ERR(access)) {
			ret = PTR_ERR(access);
			goto out;
		}
	}
	if (access)
		kosdma_access_where(access, &where);

	/* Count first, so that a list that does not fit changes nothing. */
	kosdma_list_where(&list, &where, order_max, NULL);
	ret = 0;
	if (cmd->capacity && cmd->capacity < list.blocks.count) {
		ret = -ENOSPC;
	} else if (cmd->capacity) {
		if (list.blocks.count > ARRAY_SIZE(few))
			blocks = kvmalloc_array(list.blocks.count, sizeof(*blocks),
						GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (blocks)
			kosdma_list_where(&list, &where, order_max, blocks);
		else
			ret = -ENOMEM;
	}
	cmd->out_addr = where.start;
	cmd->out_length = where.buffer->length;
	cmd->out_attr = READ_ONCE(where.buffer->attr);
	cmd->out_count = list.blocks.count;
	cmd->out_order_min = list.blocks.count ? list.blocks.order_min : where.buffer->order;
	cmd->out_state = 0;
	if (where.mode == KOSDMA_MODE_TRANSLATED)
		cmd->out_state |= KOSDMA_ACCESS_TRANSLATED;
	if (list.blocks.ranges == 1)
		cmd->out_state |= KOSDMA_ACCESS_CONTIGUOUS;
	if (access) {
		if (where.mode != KOSDMA_MODE_NONE)
			kosdma_object_unpin(&where.buffer->obj);
		kosdma_object_put(&access->obj);
	}
out:
	kosdma_handle_put(handle);
	/* Last, and without a hold on anything: the caller decides how long it takes. */
	if (!ret && cmd->capacity &&
	    copy_to_user(u64_to_user_ptr(cmd->blocks), blocks, list.blocks.count * sizeof(*blocks)))
		ret = -EFAULT;
	if (blocks != few)
		kvfree(blocks);
	return ret;
}
