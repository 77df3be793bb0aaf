// SPDX-License-Identifier: GPL-2.0-only
/*
 * How buffers are made of blocks and listed in blocks (kmod/blocks.h), against
 * the definition of what a block is: a node of the binary tree over all frames.
 */
#include "blocks.h"
#include "logic.h"

#define MAX_BLOCKS 2048
#define FRAME_BITS 52	/* of a block in the ABI */
#define MAX_ORDER (63 - PAGE_SHIFT)
#define MAX_SG_ORDER (31 - PAGE_SHIFT)

/* Blocks as the model lists them. */
static u64 expected[MAX_BLOCKS];
static unsigned int expected_count;

/* The nodes that lie in @from..@to - 1, and whose parents do not, left to right. */
static void list_node(u64 frame, unsigned int order, u64 from, u64 to)
{
	if (frame >= to || frame + (1ULL << order) <= from)
		return;
	if (frame >= from && frame + (1ULL << order) <= to) {
		CHECK(expected_count < MAX_BLOCKS);
		expected[expected_count++] = frame << KOSDMA_BLOCK_ORDER_BITS | order;
		return;
	}
	list_node(frame, order - 1, from, to);
	list_node(frame + (1ULL << (order - 1)), order - 1, from, to);
}

static u64 next_expected;

static void list_range(struct kosdma_blocks *blocks)
{
	while (blocks->left) {
		u64 block = kosdma_blocks_next(blocks);

		CHECK(next_expected < expected_count);
		CHECK(block == expected[next_expected]);
		next_expected++;
	}
}

/* List pieces of memory as kosdma_list_physical() does; compare with the model. */
static void check_list(const u64 *frames, const u64 *npages, unsigned int count)
{
	struct kosdma_blocks blocks;
	unsigned int i, ranges = 0;
	u32 order_min = U32_MAX;
	u64 from = 0, to = 0;

	expected_count = 0;
	for (i = 0; i < count; i++) {
		if (!i || frames[i] != to) {
			list_node(0, FRAME_BITS, from, to);
			from = frames[i];
			ranges++;
		}
		to = frames[i] + npages[i];
	}
	list_node(0, FRAME_BITS, from, to);

	next_expected = 0;
	kosdma_blocks_init(&blocks);
	for (i = 0; i < count; i++) {
		struct kosdma_blocks before = blocks;

		if (kosdma_blocks_add(&blocks, frames[i], npages[i]))
			continue;
		CHECK(blocks.frame == before.frame && blocks.left == before.left);
		list_range(&blocks);
		CHECK(kosdma_blocks_add(&blocks, frames[i], npages[i]));
	}
	list_range(&blocks);

	CHECK(next_expected == expected_count);
	CHECK(blocks.count == expected_count);
	CHECK(blocks.ranges == ranges);
	for (i = 0; i < expected_count; i++) {
		u32 order = expected[i] & ((1 << KOSDMA_BLOCK_ORDER_BITS) - 1);

		order_min = order < order_min ? order : order_min;
	}
	CHECK(blocks.order_min == order_min);
}

/* What the alignment must be: the smallest power of two that is large enough. */
static u64 model_align(unsigned int order, u64 largest, u64 pgsizes)
{
	u64 align = (u64)PAGE_SIZE << order;
	u64 size;

	for (size = 1; size && size <= largest; size <<= 1) {
		if (pgsizes & size && align < size)
			align = size;
	}
	return align;
}

/*
 * Allocate, as kosdma_buffer_alloc_scatter() does, from an allocator that gives
 * less than it is asked for as it likes; place it, physically and in an I/O
 * address space; list it.
 */
static void buffer_scenario(struct bytes *bytes)
{
	static u64 frames[MAX_BLOCKS], npages[MAX_BLOCKS];
	unsigned int max = take_below(bytes, MAX_SG_ORDER + 1);
	unsigned int min = take_below(bytes, max + 1);
	/* A multiple of the smallest block; few enough of them for the arrays. */
	u64 pages = (1 + take_below(bytes, MAX_BLOCKS)) << min;
	u64 left = pages, behind = 0, align, pgsizes, iova;
	unsigned int count = 0, last = max;

	while (left) {
		unsigned int order = kosdma_blocks_order(left, last), less;

		/* Largest first; never more than is left; the smallest block always fits. */
		CHECK(order >= min && order <= last);
		CHECK(1ULL << order <= left);
		CHECK(order == last || 2ULL << order > left);
		for (less = take(bytes); less & 1 && order > min; less >>= 1)
			order--;
		/* Right behind the block before, if it is aligned there, or anywhere. */
		if (count && !(behind & ((1ULL << order) - 1)) && take(bytes) & 1)
			frames[count] = behind;
		else
			frames[count] = take64(bytes) >> (64 - FRAME_BITS + 1) >> order << order;
		npages[count] = 1ULL << order;
		behind = frames[count] + npages[count];
		left -= npages[count];
		last = order;
		count++;
	}
	check_list(frames, npages, count);

	pgsizes = take_below(bytes, 4) ? 1ULL << 12 | 1ULL << 21 | 1ULL << 30 : take64(bytes);
	align = kosdma_blocks_align(min, npages[0] << PAGE_SHIFT, pgsizes);
	CHECK(align == model_align(min, npages[0] << PAGE_SHIFT, pgsizes));

	/* Aligned so, it is listed in blocks of at least what was asked for. */
	iova = take64(bytes) >> (64 - 48) >> PAGE_SHIFT;
	iova -= iova % (align >> PAGE_SHIFT);
	check_list(&iova, &pages, 1);
	for (count = 0; count < expected_count; count++)
		CHECK((expected[count] & ((1 << KOSDMA_BLOCK_ORDER_BITS) - 1)) >= min);
}

/* Any pieces at all. */
static void list_scenario(struct bytes *bytes)
{
	u64 frames[16], npages[16], behind = 0;
	unsigned int i, count = take_below(bytes, 17);

	for (i = 0; i < count; i++) {
		frames[i] = take(bytes) & 1 ? behind : take_edge(bytes) >> 13;
		npages[i] = 1 + (take_edge(bytes) >> 14);
		behind = frames[i] + npages[i];
		if (behind > 1ULL << FRAME_BITS)
			return;
	}
	check_list(frames, npages, count);
}

static void align_scenario(struct bytes *bytes)
{
	unsigned int order = take_below(bytes, MAX_ORDER + 1);
	u64 largest = 1ULL << (PAGE_SHIFT + take_below(bytes, 64 - PAGE_SHIFT));
	u64 pgsizes = take_edge(bytes);

	CHECK(kosdma_blocks_align(order, largest, pgsizes) == model_align(order, largest, pgsizes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { .next = data, .left = size };

	switch (take_below(&bytes, 4)) {
	case 0:
		list_scenario(&bytes);
		break;
	case 1:
		align_scenario(&bytes);
		break;
	default:
		buffer_scenario(&bytes);
	}
	return 0;
}

/* --- cases ---------------------------------------------------------------------- */

static u64 block(u64 frame, unsigned int order)
{
	return frame << KOSDMA_BLOCK_ORDER_BITS | order;
}

static void empty_list_has_no_block(void)
{
	struct kosdma_blocks blocks;

	kosdma_blocks_init(&blocks);
	CHECK(!blocks.left && !blocks.count && !blocks.ranges && blocks.order_min == U32_MAX);
	check_list(NULL, NULL, 0);
}

static void range_is_listed_in_the_largest_blocks(void)
{
	/* 0x1..0x12: what grows from the left, shrinks to the right */
	static const u64 want[] = { 0x1, 0x2, 0x4, 0x8, 0x10, 0x12 };
	static const unsigned int orders[] = { 0, 1, 2, 3, 1, 0 };
	struct kosdma_blocks blocks;
	unsigned int i;

	kosdma_blocks_init(&blocks);
	CHECK(kosdma_blocks_add(&blocks, 1, 0x12));
	for (i = 0; i < 6; i++)
		CHECK(kosdma_blocks_next(&blocks) == block(want[i], orders[i]));
	CHECK(!blocks.left && blocks.count == 6 && blocks.ranges == 1 && !blocks.order_min);

	/* Frame 0 is aligned to everything. */
	kosdma_blocks_init(&blocks);
	CHECK(kosdma_blocks_add(&blocks, 0, 1ULL << 51));
	CHECK(kosdma_blocks_next(&blocks) == block(0, 51));
	CHECK(!blocks.left && blocks.order_min == 51);

	/* The last frame of all */
	kosdma_blocks_init(&blocks);
	CHECK(kosdma_blocks_add(&blocks, (1ULL << FRAME_BITS) - 1, 1));
	CHECK(kosdma_blocks_next(&blocks) == block((1ULL << FRAME_BITS) - 1, 0));
}

static void neighbours_are_one_range(void)
{
	struct kosdma_blocks blocks;

	kosdma_blocks_init(&blocks);
	CHECK(kosdma_blocks_add(&blocks, 4, 2));
	CHECK(kosdma_blocks_add(&blocks, 6, 2));
	CHECK(!kosdma_blocks_add(&blocks, 9, 1));
	CHECK(!kosdma_blocks_add(&blocks, 4, 1));
	CHECK(kosdma_blocks_next(&blocks) == block(4, 2));
	CHECK(kosdma_blocks_add(&blocks, 9, 1));
	CHECK(blocks.ranges == 2);
}

static void alignment_is_that_of_the_largest_page_that_fits(void)
{
	const u64 pgsizes = 1ULL << 12 | 1ULL << 21 | 1ULL << 30;

	CHECK(kosdma_blocks_align(0, 0x1000, pgsizes) == 0x1000);
	CHECK(kosdma_blocks_align(0, 0x100000, pgsizes) == 0x1000);
	CHECK(kosdma_blocks_align(0, 0x200000, pgsizes) == 0x200000);
	CHECK(kosdma_blocks_align(0, 0x20000000, pgsizes) == 0x200000);
	CHECK(kosdma_blocks_align(0, 0x40000000, pgsizes) == 0x40000000);
	CHECK(kosdma_blocks_align(10, 0x400000, pgsizes) == 0x400000);
	CHECK(kosdma_blocks_align(MAX_ORDER, 0x1000, pgsizes) == 1ULL << 63);
	CHECK(kosdma_blocks_align(1, 0x2000, 0) == 0x2000);
	CHECK(kosdma_blocks_align(1, 0x2000, U64_MAX) == 0x2000);
}

void logic_cases(void)
{
	empty_list_has_no_block();
	range_is_listed_in_the_largest_blocks();
	neighbours_are_one_range();
	alignment_is_that_of_the_largest_page_that_fits();
}
