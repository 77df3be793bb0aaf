// SPDX-License-Identifier: GPL-2.0-only
/*
 * Spans: accesses that were begun in one batch and lie back to back
 *
 * One range of the domain's space for all, and behind an IOMMU one call to enter
 * them and one to take them out. If they do not end together, the span is split,
 * and each of the others gets its part of the range as its own.
 *
 * Invariant: while the domain is not locked, each member is placed.
 */
#include <linux/iommu.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "kosdma.h"

/**
 * struct kosdma_span - some accesses of one domain, under its lock
 * @iova: their range in domain->space, with the guard behind the last one
 * @bytes: that they take of it
 * @node: in ending->spans while @ended is not 0
 * @nr: how many members
 * @ended: how many of them end with the flush to come, and are still entered
 * @members: in order of address; each is one block
 */
struct kosdma_span {
	struct kosdma_iova iova;
	u64 bytes;
	struct list_head node;
	unsigned int nr;
	unsigned int ended;
	struct kosdma_access *members[];
};

/* How many of @count accesses, from the first on, can be a span; below 2: none. */
static unsigned int kosdma_span_fit(const struct kosdma_begin *begins, unsigned int count)
{
	struct kosdma_access *first = begins[0].access;
	unsigned long pgsizes = kosdma_access_pgsizes(first->domain);
	u64 most = kosdma_access_align(first, pgsizes), align;
	u64 limit = kosdma_access_limit(first);
	unsigned int i;
	u64 bytes = 0;

	for (i = 0; i < count; i++) {
		struct kosdma_access *access = begins[i].access;

		if (access->buffer->sgt.orig_nents != 1 || access->attr != first->attr ||
		    kosdma_access_limit(access) != limit)
			break;
		align = kosdma_access_align(access, pgsizes);
		if (align > most || !IS_ALIGNED(bytes, align))
			break;
		bytes += kosdma_buffer_bytes(access->buffer);
	}
	return i;
}

/*
 * Are two neighbours also neighbours in memory? The IOMMU API would enter them as
 * one, and could not take out one of them alone.
 */
static bool kosdma_span_breaks(struct scatterlist *sg)
{
	return sg_phys(sg - 1) + sg[-1].length == sg_phys(sg);
}

static int kosdma_span_map_hwdom(struct kosdma_span *span, struct kosdma_hwdom *hwdom,
				 struct scatterlist *sg)
{
	u64 start = span->iova.start, addr = start;
	unsigned int i, end;
	ssize_t mapped;

	for (i = 0; i < span->nr; i = end) {
		struct sg_table run = { .sgl = sg + i };
		u64 bytes = 0;

		for (end = i; end < span->nr; end++) {
			if (end > i && kosdma_span_breaks(sg + end))
				break;
			bytes += sg[end].length;
		}
		run.orig_nents = end - i;
		mapped = kosdma_hwdom_map(hwdom, addr, &run, kosdma_access_prot(span->members[0]));
		if (mapped > 0)
			addr += mapped;
		if (mapped != bytes) {
			if (addr > start)
				kosdma_hwdom_undo(hwdom, start, addr - start);
			return -ENOMEM;
		}
	}
	return 0;
}

static int kosdma_span_map(struct kosdma_span *span, struct kosdma_domain *domain,
			   struct scatterlist *sg)
{
	struct kosdma_hwdom *hwdom;
	int ret;

	list_for_each_entry(hwdom, &domain->hwdoms, node) {
		ret = kosdma_span_map_hwdom(span, hwdom, sg);
		if (ret)
			goto err_unmap;
	}
	return 0;

err_unmap:
	kosdma_hwdoms_unmap(domain, hwdom, span->iova.start, span->bytes);
	kosdma_domain_flush(domain);
	return ret;
}

/**
 * kosdma_span_place() - give accesses of a batch their addresses, together
 * @domain: locked, translated; has a device
 * @begins: accesses without address
 * @count: how many, not 0
 *
 * Return: how many have one now, from the first on; 0 if the first one cannot lie
 * back to back with the next; an errno if there is no room or memory for that, which
 * says nothing about one alone.
 */
int kosdma_span_place(struct kosdma_domain *domain, const struct kosdma_begin *begins,
		      unsigned int count)
{
	struct kosdma_access *first = begins[0].access;
	struct kosdma_span *span;
	struct scatterlist *sg;
	int ret = -ENOMEM;
	unsigned int i;
	u64 start;

	lockdep_assert_held(&domain->lock);
	if (kosdma_domain_stale(domain))
		return -ENOMEM;
	count = kosdma_span_fit(begins, count);
	if (count < 2)
		return 0;
	span = kzalloc(struct_size(span, members, count), GFP_KERNEL_ACCOUNT);
	sg = kmalloc_array(count, sizeof(*sg), GFP_KERNEL_ACCOUNT);
	if (!span || !sg)
		goto err_free;
	span->nr = count;
	sg_init_table(sg, count);
	for (i = 0; i < count; i++) {
		struct scatterlist *block = begins[i].access->buffer->sgt.sgl;

		span->members[i] = begins[i].access;
		span->bytes += block->length;
		sg_set_page(&sg[i], sg_page(block), block->length, 0);
	}
	ret = -EDQUOT;
	if (!kosdma_iova_alloc(&domain->space, &span->iova, span->bytes, PAGE_SIZE,
			       kosdma_access_align(first, kosdma_access_pgsizes(domain)),
			       kosdma_access_limit(first)))
		goto err_free;
	ret = kosdma_span_map(span, domain, sg);
	if (ret)
		goto err_remove;
	kfree(sg);

	start = span->iova.start;
	for (i = 0; i < count; i++) {
		struct kosdma_access *access = span->members[i];

		access->span = span;
		access->iova.start = start;
		start += kosdma_buffer_bytes(access->buffer);
		access->iova.last = start - 1;
		access->iova.reserved = false;
		kosdma_access_placed(access);
	}
	span->members[count - 1]->iova.last = span->iova.last;
	return count;

err_remove:
	kosdma_iova_remove(&domain->space, &span->iova);
err_free:
	kfree(sg);
	kfree(span);
	return ret;
}

/* Each member that does not end is on its own from now on. */
static void kosdma_span_split(struct kosdma_span *span, struct kosdma_domain *domain)
{
	unsigned int i;

	kosdma_iova_remove(&domain->space, &span->iova);
	for (i = 0; i < span->nr; i++) {
		struct kosdma_access *access = span->members[i];

		if (access->placed)
			kosdma_iova_insert(&domain->space, &access->iova);
		else
			kosdma_access_unmap(access);
		cond_resched();
	}
}

static void kosdma_span_end(struct kosdma_span *span, struct kosdma_domain *domain)
{
	kosdma_hwdoms_unmap(domain, NULL, span->iova.start, span->bytes);
	kosdma_iova_remove(&domain->space, &span->iova);
}

/**
 * kosdma_span_unplace() - take the address of a member away, maybe with those of others
 * @access: has a span; the caller goes on as if it were out of the page tables
 * @spans: gets its span, for kosdma_span_finish()
 */
void kosdma_span_unplace(struct kosdma_access *access, struct list_head *spans)
{
	struct kosdma_span *span = access->span;

	lockdep_assert_held(&access->domain->lock);
	if (!span->ended++)
		list_add_tail(&span->node, spans);
}

/**
 * kosdma_span_finish() - take out of the page tables what has been unplaced
 * @domain: locked; the next thing to do is kosdma_domain_flush()
 * @spans: of kosdma_span_unplace(); empty when this returns
 */
void kosdma_span_finish(struct kosdma_domain *domain, struct list_head *spans)
{
	struct kosdma_span *span, *next;
	unsigned int i;

	lockdep_assert_held(&domain->lock);
	list_for_each_entry_safe(span, next, spans, node) {
		if (span->ended < span->nr)
			kosdma_span_split(span, domain);
		else
			kosdma_span_end(span, domain);
		for (i = 0; i < span->nr; i++)
			span->members[i]->span = NULL;
		kfree(span);
	}
	INIT_LIST_HEAD(spans);
}
