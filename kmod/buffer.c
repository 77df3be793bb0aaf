// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers: memory that is born as a few large blocks
 *
 * The pages belong to the module from creation until nobody can reach the
 * buffer and no device may still write it. To begin or map it pins none of them.
 */
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "inject.h"
#include "kosdma.h"
#include "trace.h"

/* Largest block that one scatterlist entry can describe and still be a power of two. */
#define KOSDMA_MAX_SG_ORDER (31 - PAGE_SHIFT)

#define KOSDMA_ATTR_ALL (KOSDMA_ATTR_DIRECTION | KOSDMA_ATTR_ZONE_DMA32 | KOSDMA_ATTR_CACHE)

static struct device *kosdma_dev;	/* for dma_alloc_coherent() */

/* --- cache types ----------------------------------------------------------- */

static int kosdma_block_set_cache(struct scatterlist *sg, u32 cache)
{
	return kosdma_memtype_ram_set(sg_page(sg), sg->length >> PAGE_SHIFT, cache);
}

/*
 * Give the blocks the type @cache in the kernel's own mapping, which is what
 * every other mapping of them must agree with. All or nothing: on failure they
 * have the type @old; if even that fails, the buffer is mixed, and useless.
 */
static int kosdma_buffer_set_cache(struct kosdma_buffer *buffer, u32 old, u32 cache)
{
	struct scatterlist *sg;
	unsigned int i, done;
	int ret = 0;

	if (old == cache && !buffer->mixed)
		return 0;
	for_each_sg(buffer->sgt.sgl, sg, buffer->sgt.orig_nents, i) {
		/* From one type to another only by way of write-back. */
		if (old != KOSDMA_ATTR_WRITE_BACK || buffer->mixed)
			ret = kosdma_block_set_cache(sg, KOSDMA_ATTR_WRITE_BACK);
		if (!ret && cache != KOSDMA_ATTR_WRITE_BACK)
			ret = kosdma_block_set_cache(sg, cache);
		if (ret)
			break;
		cond_resched();
	}
	if (!ret) {
		buffer->mixed = false;
		return 0;
	}

	done = i + 1;
	for_each_sg(buffer->sgt.sgl, sg, done, i) {
		if (kosdma_block_set_cache(sg, KOSDMA_ATTR_WRITE_BACK) ||
		    (old != KOSDMA_ATTR_WRITE_BACK && kosdma_block_set_cache(sg, old))) {
			buffer->mixed = true;
			break;
		}
	}
	return -ENOMEM;
}

/* --- blocks ---------------------------------------------------------------- */

/* While blocks are collected, the page's own fields chain them. */
static void kosdma_block_add(struct list_head *blocks, struct page *page, unsigned int order)
{
	set_page_private(page, order);
	list_add_tail(&page->lru, blocks);
}

static unsigned int kosdma_block_take(struct page *page)
{
	unsigned int order = page_private(page);

	list_del(&page->lru);
	set_page_private(page, 0);
	return order;
}

/*
 * The page allocator takes back all but the first page even if somebody, looking for a
 * page that was here before, holds that for a moment; then a cgroup stays charged with
 * the others. It has to come between the look for pins and here.
 */
static void kosdma_block_free(struct page *page, unsigned int order)
{
	if (order > KOSDMA_MAX_BLOCK_ORDER)
		kosdma_free_contig(page, order);
	else
		__free_pages(page, order);
}

/* Does anybody but us hold a page of the block? */
static bool kosdma_block_pinned(struct page *page, unsigned int order, bool split)
{
	unsigned long i, npages = split ? 1UL << order : 1;

	for (i = 0; i < npages; i++) {
		if (page_ref_count(page + i) > 1)
			return true;
	}
	return false;
}

static void kosdma_block_free_split(struct page *page, unsigned int order)
{
	unsigned long i;

	for (i = 0; i < 1UL << order; i++)
		__free_page(page + i);
}

static struct page *kosdma_block_alloc_contig(unsigned int order, u32 attr)
{
	struct page *page;
	unsigned long i;

	if (order > KOSDMA_MAX_SG_ORDER || attr & KOSDMA_ATTR_ZONE_DMA32)
		return NULL;
	page = kosdma_alloc_contig(order, GFP_KERNEL | __GFP_NOWARN);
	if (!page)
		return NULL;
	for (i = 0; i < 1UL << order; i++) {
		clear_highpage(page + i);
		cond_resched();
	}
	return page;
}

/*
 * Who refused: the cgroup, or is memory short? The counters say it. To try again
 * without a charge would not: others free memory in between.
 */
static bool kosdma_cgroup_has_no_room(unsigned long npages)
{
	bool full = false;
#ifdef CONFIG_MEMCG
	struct mem_cgroup *memcg;

	if (mem_cgroup_disabled())
		return false;
	rcu_read_lock();
	memcg = mem_cgroup_from_task(current);
	for (; memcg && !full; memcg = parent_mem_cgroup(memcg))
		full = page_counter_read(&memcg->memory) + npages > READ_ONCE(memcg->memory.max);
	rcu_read_unlock();
#endif
	return full;
}

/*
 * One block of @max pages-log2 or as much less as it takes, but no less than
 * @min. Never invokes the OOM killer.
 */
static struct page *kosdma_block_alloc(unsigned int min, unsigned int max, u32 attr,
				       unsigned int *order)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
	struct page *page;

	if (attr & KOSDMA_ATTR_ZONE_DMA32)
		gfp |= GFP_DMA32;

	for (*order = max; *order > min; (*order)--) {
		page = alloc_pages(gfp | __GFP_NORETRY, *order);
		if (page)
			return page;
	}
	page = alloc_pages(gfp | __GFP_RETRY_MAYFAIL, min);
	if (page)
		return page;
	return ERR_PTR(kosdma_cgroup_has_no_room(1UL << min) ? -EDQUOT : -ENOMEM);
}

/* The table of @nents blocks, from the list, in its order. */
static int kosdma_buffer_set_blocks(struct kosdma_buffer *buffer, struct list_head *blocks,
				    unsigned int nents)
{
	struct scatterlist *sg;
	struct page *page, *next;
	int ret;

	ret = sg_alloc_table(&buffer->sgt, nents, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;
	sg = buffer->sgt.sgl;
	list_for_each_entry_safe(page, next, blocks, lru) {
		sg_set_page(sg, page, PAGE_SIZE << kosdma_block_take(page), 0);
		sg = sg_next(sg);
		cond_resched();
	}
	return 0;
}

/* Blocks of at most 2^@max and at least 2^@min pages, largest first. */
static int kosdma_buffer_alloc_scatter(struct kosdma_buffer *buffer, unsigned int min,
				       unsigned int max)
{
	unsigned long left = buffer->npages;
	struct page *page, *next;
	unsigned int nents = 0;
	LIST_HEAD(blocks);
	int ret;

	max = max(min, min(max, kosdma_inject(block_order)));
	while (left) {
		unsigned int order = kosdma_blocks_order(left, max);

		page = NULL;
		if (order > KOSDMA_MAX_BLOCK_ORDER) {
			page = kosdma_block_alloc_contig(order, buffer->attr);
			ret = -EFBIG;
		} else {
			page = kosdma_block_alloc(min, order, buffer->attr, &order);
			ret = PTR_ERR_OR_ZERO(page);
		}
		if (IS_ERR_OR_NULL(page))
			goto err_free;
		kosdma_block_add(&blocks, page, order);
		nents++;
		left -= 1UL << order;
		max = order;
		if (fatal_signal_pending(current)) {
			ret = -ENOMEM;
			goto err_free;
		}
		cond_resched();
	}
	ret = kosdma_buffer_set_blocks(buffer, &blocks, nents);
	if (!ret)
		return 0;
err_free:
	list_for_each_entry_safe(page, next, &blocks, lru) {
		kosdma_block_free(page, kosdma_block_take(page));
		cond_resched();
	}
	return ret;
}

/* One block from the kernel's allocator of contiguous DMA memory. */
static int kosdma_buffer_alloc_coherent(struct kosdma_buffer *buffer)
{
	size_t bytes = kosdma_buffer_bytes(buffer);
	int ret;

	/* The module is being loaded, and somebody was quick. */
	if (!READ_ONCE(kosdma_dev))
		return -ENODEV;
	if (buffer->order > KOSDMA_MAX_SG_ORDER || buffer->attr & KOSDMA_ATTR_ZONE_DMA32)
		return -EOPNOTSUPP;
	/* Beyond the page allocator there is only CMA. */
	if (buffer->order > KOSDMA_MAX_BLOCK_ORDER && !IS_ENABLED(CONFIG_DMA_CMA))
		return -EFBIG;
	ret = sg_alloc_table(&buffer->sgt, 1, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;
	buffer->coherent = dma_alloc_coherent(kosdma_dev, bytes, &buffer->coherent_dma,
					      GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
	if (!buffer->coherent) {
		sg_free_table(&buffer->sgt);
		return -ENOMEM;
	}
	/* Only memory in the kernel's linear map has the pages that we hand out. */
	if (is_vmalloc_addr(buffer->coherent) ||
	    !IS_ALIGNED(page_to_phys(virt_to_page(buffer->coherent)), bytes)) {
		dma_free_coherent(kosdma_dev, bytes, buffer->coherent, buffer->coherent_dma);
		buffer->coherent = NULL;
		sg_free_table(&buffer->sgt);
		return -EOPNOTSUPP;
	}
	sg_set_page(buffer->sgt.sgl, virt_to_page(buffer->coherent), bytes, 0);
	return 0;
}

/*
 * The buffer's memory. Where an IOMMU translates, the blocks that a device sees
 * need not be physical, so smaller ones will do if memory is fragmented.
 */
static int kosdma_buffer_alloc(struct kosdma_buffer *buffer)
{
	unsigned int order = buffer->order;
	int ret;

	buffer->physical = true;
	if (buffer->contiguous && !kosdma_buffer_alloc_coherent(buffer))
		return 0;
	if (order > KOSDMA_MAX_BLOCK_ORDER) {
		ret = kosdma_buffer_alloc_scatter(buffer, order, order);
		if (!ret || !kosdma_machine_translates())
			return ret;
		buffer->physical = false;
		return kosdma_buffer_alloc_scatter(buffer, 0, KOSDMA_MAX_BLOCK_ORDER);
	}

	ret = kosdma_buffer_alloc_scatter(buffer, order, KOSDMA_MAX_BLOCK_ORDER);
	if (ret != -ENOMEM || !order || !kosdma_machine_translates())
		return ret;
	buffer->physical = false;
	return kosdma_buffer_alloc_scatter(buffer, 0, order);
}

/* How soon, and how often at least, blocks that the kernel has pinned for I/O are looked at. */
#define KOSDMA_PINNED_SOON	(HZ / 20)
#define KOSDMA_PINNED_LATE	(2 * HZ)

/*
 * Free and uncharge the blocks that nobody but us holds. Returns whether these
 * were all. Nothing of ours maps the others any more, so whoever has them can only
 * hand them on.
 */
static bool kosdma_buffer_free_blocks(struct kosdma_buffer *buffer)
{
	struct scatterlist *sg;
	bool all = true;
	unsigned int i;

	if (buffer->coherent) {
		dma_free_coherent(kosdma_dev, kosdma_buffer_bytes(buffer), buffer->coherent,
				  buffer->coherent_dma);
		kosdma_user_uncharge(buffer->obj.user, buffer->npages);
		sg_free_table(&buffer->sgt);
		return true;
	}
	for_each_sg(buffer->sgt.sgl, sg, buffer->sgt.orig_nents, i) {
		unsigned long npages = sg->length >> PAGE_SHIFT;

		if (!npages)
			continue;
		if (kosdma_block_pinned(sg_page(sg), ilog2(npages), buffer->split)) {
			all = false;
			continue;
		}
		if (buffer->split)
			kosdma_block_free_split(sg_page(sg), ilog2(npages));
		else
			kosdma_block_free(sg_page(sg), ilog2(npages));
		sg->length = 0;
		kosdma_user_uncharge(buffer->obj.user, npages);
		cond_resched();
	}
	if (all)
		sg_free_table(&buffer->sgt);
	return all;
}

/* Look again at the blocks that were pinned when their buffer ended. */
static void kosdma_buffer_free_pinned(struct work_struct *work)
{
	struct kosdma_buffer *buffer = container_of(to_delayed_work(work), struct kosdma_buffer,
						    pinned);

	if (!kosdma_buffer_free_blocks(buffer)) {
		buffer->pinned_delay = min(2 * buffer->pinned_delay, KOSDMA_PINNED_LATE);
		kosdma_queue_later(&buffer->pinned, buffer->pinned_delay);
		return;
	}
	trace_buffer_free(buffer);
	kosdma_object_put(&buffer->obj);
	module_put(THIS_MODULE);
}

/* --- the object ------------------------------------------------------------ */

/**
 * kosdma_buffer_use() - a mapping or an access begins to depend on the pages
 * @buffer: reachable by the caller
 *
 * Return: 0, or -EBADFD if an attempt to change the cache type failed halfway
 * and could not be undone.
 */
int kosdma_buffer_use(struct kosdma_buffer *buffer)
{
	lockdep_assert_held(&buffer->lock);
	if (buffer->mixed)
		return -EBADFD;
	WRITE_ONCE(buffer->users, buffer->users + 1);
	return 0;
}

/**
 * kosdma_buffer_split() - let each page be held by itself
 * @buffer: in use; its blocks are of the page allocator
 *
 * Until then nobody can: the blocks are not compound, and only their first pages
 * are counted. It lasts. The allocator is quicker with whole blocks.
 */
void kosdma_buffer_split(struct kosdma_buffer *buffer)
{
	struct scatterlist *sg;
	unsigned int i;

	lockdep_assert_held(&buffer->lock);
	if (buffer->split)
		return;
	for_each_sg(buffer->sgt.sgl, sg, buffer->sgt.orig_nents, i) {
		split_page(sg_page(sg), get_order(sg->length));
		cond_resched();
	}
	buffer->split = true;
}

/* Undo kosdma_buffer_use(). */
void kosdma_buffer_unuse(struct kosdma_buffer *buffer)
{
	mutex_lock(&buffer->lock);
	WARN_ON_ONCE(!buffer->users);
	WRITE_ONCE(buffer->users, buffer->users - 1);
	mutex_unlock(&buffer->lock);
}

/* Nobody reaches the buffer, and no device can: free the pages. Runs once. */
static void kosdma_buffer_end(struct kosdma_object *obj, enum kosdma_end how)
{
	struct kosdma_buffer *buffer = to_buffer(obj);
	u32 cache = kosdma_attr_cache(buffer->attr, KOSDMA_ATTR_WRITE_BACK);

	WARN_ON_ONCE(buffer->users);
	/*
	 * Pages that cannot be made write-back again must not get to anybody:
	 * they stay charged, and with the module, for good.
	 */
	if (kosdma_buffer_set_cache(buffer, cache, KOSDMA_ATTR_WRITE_BACK)) {
		__module_get(THIS_MODULE);
		pr_warn_ratelimited("kosdma: %lu pages lost: their cache type cannot be restored\n",
				    buffer->npages);
		return;
	}
	if (!kosdma_buffer_free_blocks(buffer)) {
		kosdma_object_get(obj);
		__module_get(THIS_MODULE);
		buffer->pinned_delay = KOSDMA_PINNED_SOON;
		kosdma_queue_later(&buffer->pinned, buffer->pinned_delay);
		return;
	}
	trace_buffer_free(buffer);
}

static void kosdma_buffer_drop(struct kosdma_object *obj)
{
	struct kosdma_buffer *buffer = to_buffer(obj);

	mutex_destroy(&buffer->lock);
}

static void kosdma_buffer_show(struct seq_file *m, struct kosdma_object *obj)
{
	struct kosdma_buffer *buffer = to_buffer(obj);
	u32 attr = READ_ONCE(buffer->attr);

	seq_printf(m, "kosdma-length:\t%llu\n", buffer->length);
	seq_printf(m, "kosdma-pages:\t%lu\n", buffer->npages);
	seq_printf(m, "kosdma-blocks:\t%u\n", kosdma_buffer_nr_blocks(buffer));
	seq_printf(m, "kosdma-order:\t%u\n", buffer->order);
	seq_printf(m, "kosdma-attr:\t%#x\n", attr);
	seq_printf(m, "kosdma-cache:\t%s\n", kosdma_memtype_name(kosdma_attr_cache(attr, 0)));
	seq_printf(m, "kosdma-users:\t%u\n", READ_ONCE(buffer->users));
}

static const struct kosdma_object_ops kosdma_buffer_ops = {
	.type = KOSDMA_HANDLE_BUFFER,
	.rights = KOSDMA_RIGHT_DMA_READ | KOSDMA_RIGHT_DMA_WRITE | KOSDMA_RIGHT_DMA_BEGIN |
		  KOSDMA_RIGHT_DMA_MODIFY | KOSDMA_RIGHT_DMA_IO,
	.transferable = true,
	.name = "[kosdma-buffer]",
	.end = kosdma_buffer_end,
	.drop = kosdma_buffer_drop,
	.show = kosdma_buffer_show,
};

/* Direction and cache type spelled out; 0 if @attr is not valid. */
static u32 kosdma_attr_complete(u32 attr)
{
	u32 cache = kosdma_attr_cache(attr, KOSDMA_ATTR_WRITE_BACK);

	if (attr & ~KOSDMA_ATTR_ALL || !cache)
		return 0;
	if (!(attr & KOSDMA_ATTR_DIRECTION))
		attr |= KOSDMA_ATTR_DIRECTION;
	return attr | cache;
}

int kosdma_ioctl_buffer_create(struct kosdma_ucmd *ucmd)
{
	struct kosdma_buffer_create *cmd = ucmd->cmd;
	bool contiguous = cmd->flags & KOSDMA_BUFFER_CONTIGUOUS;
	u64 npages = cmd->length >> PAGE_SHIFT;
	unsigned int order = cmd->order;
	struct kosdma_buffer *buffer;
	u32 attr, cache;
	int ret;

	attr = kosdma_attr_complete(cmd->attr);
	if (cmd->flags & ~KOSDMA_BUFFER_CONTIGUOUS || cmd->__reserved || !attr ||
	    !npages || !IS_ALIGNED(cmd->length, PAGE_SIZE) ||
	    order > KOSDMA_MAX_ORDER || (contiguous && order))
		return -EINVAL;
	cache = kosdma_attr_cache(attr, 0);
	if (!kosdma_memtype_ram_supported(cache))
		return -EOPNOTSUPP;
	if (npages > totalram_pages())
		return -EFBIG;
	if (contiguous)
		order = order_base_2(npages);
	npages = round_up(npages, 1ULL << order);
	if (npages > totalram_pages())
		return -EFBIG;

	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);
	if (!buffer)
		return -ENOMEM;
	buffer->length = cmd->length;
	buffer->npages = npages;
	buffer->order = order;
	buffer->contiguous = contiguous;
	buffer->attr = attr;
	mutex_init(&buffer->lock);
	INIT_LIST_HEAD(&buffer->accesses);
	INIT_DELAYED_WORK(&buffer->pinned, kosdma_buffer_free_pinned);
	ret = kosdma_object_init(&buffer->obj, &kosdma_buffer_ops, NULL);
	if (ret) {
		kfree(buffer);
		return ret;
	}

	ret = kosdma_user_charge(buffer->obj.user, npages);
	if (ret)
		goto err_put;
	ret = kosdma_buffer_alloc(buffer);
	if (ret)
		goto err_uncharge;
	trace_buffer_create(buffer);
	/* Cleared already, so that no dirty line is written back later. */
	ret = kosdma_buffer_set_cache(buffer, KOSDMA_ATTR_WRITE_BACK, cache);
	if (ret) {
		buffer->attr = (attr & ~KOSDMA_ATTR_CACHE) | KOSDMA_ATTR_WRITE_BACK;
		goto err_end;
	}
	ret = kosdma_handle_create(ucmd, &buffer->obj,
				   kosdma_buffer_ops.rights | KOSDMA_RIGHT_TRANSFER |
					   KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_GET_SID,
				   NULL, NULL, &cmd->out_handle);
	if (ret)
		goto err_end;
	kosdma_object_put(&buffer->obj);	/* the handle has its own */
	return 0;

err_end:
	kosdma_buffer_end(&buffer->obj, KOSDMA_ENDED);
	goto err_put;
err_uncharge:
	kosdma_user_uncharge(buffer->obj.user, npages);
err_put:
	kosdma_object_put(&buffer->obj);
	return ret;
}

/*
 * Does the kernel hold pages that it once pinned through a VMM_FLAG_IO mapping?
 * It may map them for somebody, who would have them with another cache type.
 */
static bool kosdma_buffer_is_pinned(const struct kosdma_buffer *buffer)
{
	struct scatterlist *sg;
	unsigned int i;

	lockdep_assert_held(&buffer->lock);
	if (!buffer->split)
		return false;
	for_each_sg(buffer->sgt.sgl, sg, buffer->sgt.orig_nents, i) {
		if (kosdma_block_pinned(sg_page(sg), ilog2(sg->length >> PAGE_SHIFT), true))
			return true;
		cond_resched();
	}
	return false;
}

int kosdma_ioctl_buffer_modify(struct kosdma_ucmd *ucmd)
{
	struct kosdma_buffer_modify *cmd = ucmd->cmd;
	u32 cache = kosdma_attr_cache(cmd->attr, KOSDMA_ATTR_WRITE_BACK);
	struct kosdma_handle *handle;
	struct kosdma_buffer *buffer;
	int ret;

	if (cmd->attr & ~KOSDMA_ATTR_ALL || !cache || cmd->__reserved)
		return -EINVAL;
	handle = kosdma_handle_get(cmd->handle, KOSDMA_HANDLE_BUFFER, KOSDMA_RIGHT_DMA_MODIFY);
	if (IS_ERR(handle))
		return PTR_ERR(handle);
	buffer = to_buffer(handle->obj);

	mutex_lock(&buffer->lock);
	if (cmd->attr & ~KOSDMA_ATTR_CACHE &&
	    (cmd->attr ^ buffer->attr) & ~KOSDMA_ATTR_CACHE)
		ret = -EINVAL;
	else if (!kosdma_memtype_ram_supported(cache))
		ret = -EOPNOTSUPP;
	else if (buffer->users || kosdma_buffer_is_pinned(buffer))
		ret = -EBADFD;
	else
		ret = kosdma_buffer_set_cache(buffer, kosdma_attr_cache(buffer->attr, 0), cache);
	if (!ret)
		WRITE_ONCE(buffer->attr, (buffer->attr & ~KOSDMA_ATTR_CACHE) | cache);
	mutex_unlock(&buffer->lock);

	kosdma_handle_put(handle);
	return ret;
}

/**
 * kosdma_buffer_init() - prepare the device in whose name memory is allocated
 * @dev: the module's own; it does no DMA
 */
void kosdma_buffer_init(struct device *dev)
{
	if (!dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)))
		WRITE_ONCE(kosdma_dev, dev);
}
