// SPDX-License-Identifier: GPL-2.0-only
/*
 * An I/O address space: an rbtree of taken ranges, augmented with the gaps
 * between them, so that the lowest fitting gap is found without visiting the
 * ranges that are in the way.
 */
#include <linux/kernel.h>
#include <linux/rbtree_augmented.h>

#include "iova.h"

static inline u64 iova_gap(struct kosdma_iova *iova)
{
	return iova->gap;
}

RB_DECLARE_CALLBACKS_MAX(static, iova_callbacks, struct kosdma_iova, rb, u64, max_gap, iova_gap);

static struct kosdma_iova *to_iova(struct rb_node *rb)
{
	return rb ? rb_entry(rb, struct kosdma_iova, rb) : NULL;
}

/* First free address behind @prev. */
static u64 iova_behind(struct kosdma_iova_space *space, struct kosdma_iova *prev)
{
	return prev ? prev->last + 1 : space->first;
}

/* The gap before @iova begins at @behind now. */
static void iova_set_gap(struct kosdma_iova *iova, u64 behind)
{
	iova->gap = iova->start - behind;
	iova_callbacks_propagate(&iova->rb, NULL);
}

/* Take the range, which lies in the gap before @next (NULL: behind all others). */
static void iova_link(struct kosdma_iova_space *space, struct kosdma_iova *iova,
		      struct kosdma_iova *next)
{
	struct rb_node *parent = next ? &next->rb : rb_last(&space->root);
	struct rb_node **link = &space->root.rb_node;
	u64 behind = next ? next->start - next->gap : iova_behind(space, to_iova(parent));

	if (next && !next->rb.rb_left) {
		link = &next->rb.rb_left;
	} else if (parent) {
		if (next)
			parent = rb_prev(&next->rb);
		link = &parent->rb_right;
	}
	rb_link_node(&iova->rb, parent, link);
	/* A fresh node counts for nothing until its gap has been told upwards. */
	iova->max_gap = 0;
	iova_set_gap(iova, behind);
	if (next)
		iova_set_gap(next, iova->last + 1);
	rb_insert_augmented(&iova->rb, &space->root, &iova_callbacks);
}

/**
 * kosdma_iova_init() - an empty address space
 * @space: to be initialised
 * @first: lowest address that may be given out
 */
void kosdma_iova_init(struct kosdma_iova_space *space, u64 first)
{
	space->root = RB_ROOT;
	space->first = first;
}

/**
 * kosdma_iova_insert() - take a given range
 * @space: address space
 * @iova: @iova->start and @iova->last are set, at or above the space's first
 *	address, and overlap nothing
 */
void kosdma_iova_insert(struct kosdma_iova_space *space, struct kosdma_iova *iova)
{
	iova_link(space, iova, kosdma_iova_overlap(space, iova->start, U64_MAX));
}

/**
 * kosdma_iova_remove() - give a range back
 * @space: address space
 * @iova: a range in it
 */
void kosdma_iova_remove(struct kosdma_iova_space *space, struct kosdma_iova *iova)
{
	struct kosdma_iova *next = to_iova(rb_next(&iova->rb));

	rb_erase_augmented(&iova->rb, &space->root, &iova_callbacks);
	if (next)
		iova_set_gap(next, iova->start - iova->gap);
}

/**
 * kosdma_iova_overlap() - the lowest range that overlaps another
 * @space: address space
 * @start: first address
 * @last: last address, inclusive
 *
 * Return: the range, or NULL.
 */
struct kosdma_iova *kosdma_iova_overlap(struct kosdma_iova_space *space, u64 start, u64 last)
{
	struct rb_node *rb = space->root.rb_node;
	struct kosdma_iova *found = NULL;

	while (rb) {
		struct kosdma_iova *iova = to_iova(rb);

		if (iova->last < start) {
			rb = rb->rb_right;
		} else {
			if (iova->start <= last)
				found = iova;
			rb = rb->rb_left;
		}
	}
	return found;
}

/* Neither an address that is given out nor a guard exceeds this: no sum of two overflows. */
#define IOVA_MAX ((1ULL << 63) - 1)

/* What kosdma_iova_alloc() looks for. */
struct iova_want {
	u64 size;
	u64 guard;
	u64 align;
	u64 limit;
};

/*
 * Does the gap from @start, in front of @end (0: endless), fit? Then *out is
 * where.
 */
static bool iova_fits(const struct iova_want *want, u64 start, u64 end, u64 *out)
{
	u64 aligned = (start + want->align - 1) & ~(want->align - 1);

	if (aligned < start || aligned > want->limit || want->limit - aligned < want->size - 1)
		return false;
	if (end && end - start < aligned - start + want->size + want->guard)
		return false;
	*out = aligned;
	return true;
}

/* The lowest address that fits, and the range behind it, or NULL. */
static bool iova_search(struct kosdma_iova_space *space, const struct iova_want *want, u64 *out,
			struct kosdma_iova **next)
{
	u64 need = want->size + want->guard;
	struct rb_node *rb = space->root.rb_node;
	struct kosdma_iova *iova;

	if (!rb || to_iova(rb)->max_gap < need)
		goto tail;
	for (;;) {
		if (rb->rb_left && to_iova(rb->rb_left)->max_gap >= need) {
			rb = rb->rb_left;
			continue;
		}
visit:
		iova = to_iova(rb);
		if (iova->start - iova->gap > want->limit)
			return false;
		*next = iova;
		if (iova->gap >= need && iova_fits(want, iova->start - iova->gap, iova->start, out))
			return true;
		if (rb->rb_right && to_iova(rb->rb_right)->max_gap >= need) {
			rb = rb->rb_right;
			continue;
		}
		for (;;) {
			struct rb_node *child = rb;

			rb = rb_parent(rb);
			if (!rb)
				goto tail;
			if (child == rb->rb_left)
				goto visit;
		}
	}
tail:
	iova = to_iova(rb_last(&space->root));
	if (iova && iova->last == U64_MAX)
		return false;
	*next = NULL;
	return iova_fits(want, iova_behind(space, iova), 0, out);
}

/**
 * kosdma_iova_alloc() - take the lowest free range of a size
 * @space: address space
 * @iova: becomes the range; its @last includes the guard
 * @size: bytes, not 0
 * @guard: bytes behind it that stay free; they may lie above @limit
 * @align: alignment of the start, a power of two
 * @limit: last address that the range itself may touch; 2^63 - 1 if it is more
 *
 * Return: false if nothing fits.
 */
bool kosdma_iova_alloc(struct kosdma_iova_space *space, struct kosdma_iova *iova, u64 size,
		       u64 guard, u64 align, u64 limit)
{
	const struct iova_want want = {
		.size = size, .guard = guard, .align = align, .limit = min_t(u64, limit, IOVA_MAX),
	};

	struct kosdma_iova *next;

	if (size - 1 > want.limit || guard > IOVA_MAX ||
	    !iova_search(space, &want, &iova->start, &next))
		return false;
	iova->last = iova->start + size + guard - 1;
	iova->reserved = false;
	iova_link(space, iova, next);
	return true;
}
