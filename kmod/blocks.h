/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Blocks of 2^k pages: how a buffer is made of them, how a device's view of it
 * is listed in them
 *
 * Pure logic, so that the file also compiles in user space. A frame is an
 * address, physical or of an I/O address space, divided by the page size.
 */
#ifndef KOSDMA_BLOCKS_H
#define KOSDMA_BLOCKS_H

#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/types.h>

#include <linux/kosdma.h>

/**
 * kosdma_blocks_order() - order of the block to allocate next
 * @left: pages that the buffer still lacks, not 0; a multiple of its smallest
 *	block
 * @max: largest order allowed: that of the block before, so that the blocks
 *	come largest first
 *
 * Return: the order; no less than that of the smallest block if @max is not.
 */
static inline unsigned int kosdma_blocks_order(u64 left, unsigned int max)
{
	return min_t(unsigned int, max, ilog2(left));
}

/**
 * kosdma_blocks_align() - alignment of a buffer's first address in an I/O
 *	address space
 * @order: that of the blocks that were asked for; they can be listed then
 * @largest: bytes of the buffer's largest block, a power of two
 * @pgsizes: page sizes of the IOMMU: a bit for each; the largest that fills no
 *	more than a block counts
 *
 * Return: the alignment in bytes, a power of two.
 */
static inline u64 kosdma_blocks_align(unsigned int order, u64 largest, u64 pgsizes)
{
	u64 align = (u64)PAGE_SIZE << order;

	pgsizes &= (largest - 1) | largest;
	return pgsizes ? max_t(u64, align, 1ULL << ilog2(pgsizes)) : align;
}

/**
 * struct kosdma_blocks - a list of blocks in the making
 * @frame: first frame of the range under way
 * @left: its pages that are not listed yet; 0: there is none under way
 * @order_max: largest order that is listed
 * @ranges: ranges so far
 * @count: blocks listed
 * @order_min: smallest order among them; U32_MAX if there is none
 */
struct kosdma_blocks {
	u64 frame;
	u64 left;
	u32 order_max;
	u32 ranges;
	u32 count;
	u32 order_min;
};

/* An empty list. */
static inline void kosdma_blocks_init(struct kosdma_blocks *blocks)
{
	*blocks = (struct kosdma_blocks) { .order_max = U32_MAX, .order_min = U32_MAX };
}

/**
 * kosdma_blocks_add() - add pages to the range under way, or begin one
 * @blocks: the list
 * @frame: their first
 * @npages: how many, not 0
 *
 * Return: false, and nothing has happened, if they do not continue the range
 * under way; then it must be listed first.
 */
static inline bool kosdma_blocks_add(struct kosdma_blocks *blocks, u64 frame, u64 npages)
{
	if (!blocks->left) {
		blocks->frame = frame;
		blocks->ranges++;
	} else if (frame != blocks->frame + blocks->left) {
		return false;
	}
	blocks->left += npages;
	return true;
}

/**
 * kosdma_blocks_next() - list the next block of the range under way
 * @blocks: a list with a range under way
 *
 * Return: the block, as large as its alignment and the range permit, in the
 * format of the ABI.
 */
static inline u64 kosdma_blocks_next(struct kosdma_blocks *blocks)
{
	u64 frame = blocks->frame;
	u32 order = min_t(u32, ilog2(blocks->left), blocks->order_max);

	/* The lowest bit of the frame is the largest block that may start there. */
	if (frame)
		order = min_t(u32, order, ilog2(frame & -frame));
	blocks->frame += 1ULL << order;
	blocks->left -= 1ULL << order;
	blocks->count++;
	blocks->order_min = min(blocks->order_min, order);
	return frame << KOSDMA_BLOCK_ORDER_BITS | order;
}

#endif /* KOSDMA_BLOCKS_H */
