// SPDX-License-Identifier: GPL-2.0-only
/*
 * What rights permit (kmod/rights.h), against what they mean: a model of who
 * can read and write what, right by right.
 *
 * Compiled with CONFIG_X86, whose CPUs have no write-only pages, and without.
 */
#include "logic.h"
#include "rights.h"

#ifdef CONFIG_X86
#define WRITER_READS true
#else
#define WRITER_READS false
#endif

static bool has(u32 rights, u32 right)
{
	return (rights & right) == right;
}

/* --- mappings --------------------------------------------------------------------- */

/* May a handle with @rights make a mapping with @flags, by what its process could do then? */
static bool model_map(u32 rights, u32 flags, u32 read, u32 write)
{
	bool writes = flags & KOSDMA_MAP_WRITE;
	bool reads = flags & KOSDMA_MAP_READ || (writes && WRITER_READS);

	return (!reads || has(rights, read)) && (!writes || has(rights, write));
}

static void check_map(u32 rights, u32 flags, u32 read, u32 write)
{
	u32 needed = kosdma_rights_map(flags, read, write);

	/* No right that has nothing to do with it. */
	CHECK(!(needed & ~(read | write)));
	CHECK(has(rights, needed) == model_map(rights, flags, read, write));
}

/* --- devices ---------------------------------------------------------------------- */

static void check_begin(u32 rights, u32 attr)
{
	u32 direction = kosdma_rights_begin(rights, attr, true);
	bool readable = has(rights, KOSDMA_RIGHT_DMA_READ);

	CHECK(!(direction & ~(KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE)));
	CHECK(!!(direction & KOSDMA_ATTR_TO_DEVICE) ==
	      (attr & KOSDMA_ATTR_TO_DEVICE && has(rights, KOSDMA_RIGHT_DMA_READ)));
	CHECK(!!(direction & KOSDMA_ATTR_FROM_DEVICE) ==
	      (attr & KOSDMA_ATTR_FROM_DEVICE && has(rights, KOSDMA_RIGHT_DMA_WRITE)));
	/* A device that reads whatever it writes may do neither without that right. */
	CHECK(kosdma_rights_begin(rights, attr, false) == (readable ? direction : 0));
}

/* --- copies ----------------------------------------------------------------------- */

/* Right by right: one that the kind does not know comes before one that the handle lacks. */
static int model_copy(u32 rights, u32 known, u32 flags, u32 wanted)
{
	int ret = 0, bit;

	for (bit = 0; bit < 32; bit++) {
		u32 right = 1U << bit;
		bool common = right == KOSDMA_RIGHT_TRANSFER || right == KOSDMA_RIGHT_COPY ||
			      right == KOSDMA_RIGHT_GET_SID;

		if (!has(wanted, right))
			continue;
		if (!common && !has(known, right))
			return -EINVAL;
		if (!has(rights, right))
			ret = -EACCES;
	}
	if (flags == KOSDMA_COPY_TRANSFER && !has(rights, KOSDMA_RIGHT_TRANSFER))
		ret = -EACCES;
	if (flags == 0 && !has(rights, KOSDMA_RIGHT_COPY))
		ret = -EACCES;
	return ret;
}

static int check_copy(u32 rights, u32 known, u32 flags, u32 wanted)
{
	int ret = kosdma_rights_copy(rights, known, flags, wanted);

	CHECK(ret == model_copy(rights, known, flags, wanted));
	return ret;
}

/* --- a tree of handles --------------------------------------------------------------- */

#define MAX_HANDLES 64

static const u32 buffer_rights = KOSDMA_RIGHT_DMA_READ | KOSDMA_RIGHT_DMA_WRITE |
				 KOSDMA_RIGHT_DMA_BEGIN | KOSDMA_RIGHT_DMA_MODIFY |
				 KOSDMA_RIGHT_DMA_IO;
static const u32 region_rights = KOSDMA_RIGHT_MMIO_READ | KOSDMA_RIGHT_MMIO_WRITE;
static const u32 common_rights = KOSDMA_RIGHT_TRANSFER | KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_GET_SID;

/* Rights from one byte; most often some that a handle can have. */
static u32 take_rights(struct bytes *bytes)
{
	unsigned int how = take(bytes);
	u32 high;

	switch (how & 3) {
	case 0:
		return take64(bytes);
	case 1:
		return ~(1U << (how >> 3));
	default:
		high = take(bytes) & 0x1f;
		return high << 16 | (take(bytes) & 7);
	}
}

/*
 * Whoever has only descendants of a handle can do nothing that the handle does
 * not permit, whatever they copy.
 */
static void tree_scenario(struct bytes *bytes)
{
	bool buffer = take(bytes) & 1;
	u32 known = buffer ? buffer_rights : region_rights;
	u32 rights[MAX_HANDLES] = { known | common_rights };
	unsigned int parents[MAX_HANDLES] = { 0 }, count = 1, above, flags;

	while (bytes->left && count < MAX_HANDLES) {
		unsigned int parent = take_below(bytes, count);
		u32 wanted = take_rights(bytes);
		u32 transfer = take(bytes) & 1 ? KOSDMA_COPY_TRANSFER : 0;

		if (take(bytes) & 1)
			wanted &= rights[parent];
		if (check_copy(rights[parent], known, transfer, wanted))
			continue;
		rights[count] = wanted;
		parents[count] = parent;
		for (above = parent;; above = parents[above]) {
			CHECK(!(wanted & ~rights[above]));
			for (flags = 0; flags < 32; flags++) {
				u32 needed = kosdma_rights_map(flags, KOSDMA_RIGHT_DMA_READ,
							       KOSDMA_RIGHT_DMA_WRITE);

				CHECK(!has(wanted, needed) || has(rights[above], needed));
			}
			CHECK(!(kosdma_rights_begin(wanted, KOSDMA_ATTR_DIRECTION, true) &
				~kosdma_rights_begin(rights[above], KOSDMA_ATTR_DIRECTION, true)));
			if (!above)
				break;
		}
		count++;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { .next = data, .left = size };
	unsigned int how = take(&bytes);
	u32 rights;

	if (how & 1) {
		tree_scenario(&bytes);
		return 0;
	}
	while (bytes.left) {
		rights = take_rights(&bytes);
		check_begin(rights, take64(&bytes) >> 32);
		check_map(rights, take(&bytes), KOSDMA_RIGHT_DMA_READ, KOSDMA_RIGHT_DMA_WRITE);
		check_map(rights, take64(&bytes), KOSDMA_RIGHT_MMIO_READ, KOSDMA_RIGHT_MMIO_WRITE);
		check_copy(rights, how & 2 ? buffer_rights : region_rights,
			   how & 4 ? KOSDMA_COPY_TRANSFER : 0, take_rights(&bytes));
	}
	return 0;
}

/* --- cases ---------------------------------------------------------------------- */

/* Every mapping flag, and every set of rights that a buffer can have. */
static void each_set_of_rights(void)
{
	const u32 read = KOSDMA_RIGHT_DMA_READ, write = KOSDMA_RIGHT_DMA_WRITE;
	u32 low, high, flags, attr, rights;

	for (low = 0; low < 8; low++) {
		for (high = 0; high < 32; high++) {
			rights = low | high << 16;
			for (flags = 0; flags < 32; flags++)
				check_map(rights, flags, read, write);
			for (attr = 0; attr < 256; attr++)
				check_begin(rights, attr);
			check_copy(rights, buffer_rights, 0, rights);
			check_copy(rights, buffer_rights, KOSDMA_COPY_TRANSFER, rights);
			check_copy(rights, buffer_rights, 0, KOSDMA_RIGHT_GET_SID);
			check_copy(rights, region_rights, 0, rights);
		}
	}
}

static void writing_reads_where_the_cpu_cannot_tell(void)
{
	const u32 read = KOSDMA_RIGHT_DMA_READ, write = KOSDMA_RIGHT_DMA_WRITE;

	CHECK(kosdma_rights_map(KOSDMA_MAP_WRITE, read, write) ==
	      (WRITER_READS ? read | write : write));
	CHECK(kosdma_rights_map(KOSDMA_MAP_READ, read, write) == read);
}

static void copy_codes(void)
{
	const u32 all = buffer_rights | common_rights;
	const u32 copy = KOSDMA_RIGHT_COPY, transfer = KOSDMA_COPY_TRANSFER;

	CHECK(kosdma_rights_copy(all, buffer_rights, 0, all) == 0);
	CHECK(kosdma_rights_copy(all, buffer_rights, transfer, all) == 0);
	CHECK(kosdma_rights_copy(all, region_rights, 0, KOSDMA_RIGHT_DMA_IO) == -EINVAL);
	CHECK(kosdma_rights_copy(0, buffer_rights, 0, 1U << 31) == -EINVAL);
	CHECK(kosdma_rights_copy(copy, buffer_rights, 0, 0) == 0);
	CHECK(kosdma_rights_copy(copy, buffer_rights, transfer, 0) == -EACCES);
	CHECK(kosdma_rights_copy(KOSDMA_RIGHT_TRANSFER, buffer_rights, 0, 0) == -EACCES);
	CHECK(kosdma_rights_copy(copy, buffer_rights, 0, KOSDMA_RIGHT_DMA_READ) == -EACCES);
}

void logic_cases(void)
{
	each_set_of_rights();
	writing_reads_where_the_cpu_cannot_tell();
	copy_codes();
}
