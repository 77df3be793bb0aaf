// SPDX-License-Identifier: GPL-2.0-only
/*
 * The allocator of I/O addresses (kmod/iova.c) against two models: a bitmap of
 * a small space, wherever it lies, and a list of ranges for all of 2^64.
 */
#include <string.h>

#include "iova.h"
#include "logic.h"

#define MAX_RANGES 256
#define ADDRESS_MAX ((1ULL << 63) - 1)

/* The space under test, and what is in it: ranges[] are live up to @count. */
static struct kosdma_iova_space space;
static struct kosdma_iova *ranges[MAX_RANGES];
static unsigned int count;

static struct kosdma_iova *to_iova(struct rb_node *rb)
{
	return rb_entry(rb, struct kosdma_iova, rb);
}

/*
 * Each range has memory of its own, so that a sanitizer sees one that is used too
 * long. It holds what the last one left there, as when an access is placed again.
 */
static struct kosdma_iova left_there;

static void start_space(u64 first)
{
	count = 0;
	memset(&left_there, 0xa5, sizeof(left_there));
	kosdma_iova_init(&space, first);
}

static struct kosdma_iova *new_range(void)
{
	struct kosdma_iova *iova = malloc(sizeof(*iova));

	CHECK(iova);
	*iova = left_there;
	return iova;
}

static void drop_range(unsigned int i)
{
	kosdma_iova_remove(&space, ranges[i]);
	left_there = *ranges[i];
	free(ranges[i]);
	ranges[i] = ranges[--count];
}

static void end_space(void)
{
	while (count)
		drop_range(0);
	CHECK(!space.root.rb_node);
}

static bool alloc(u64 size, u64 guard, u64 align, u64 limit)
{
	struct kosdma_iova *iova = new_range();

	if (!kosdma_iova_alloc(&space, iova, size, guard, align, limit)) {
		free(iova);
		return false;
	}
	CHECK(!iova->reserved);
	ranges[count++] = iova;
	return true;
}

static void insert(u64 start, u64 last)
{
	struct kosdma_iova *iova = new_range();

	iova->start = start;
	iova->last = last;
	iova->reserved = true;
	kosdma_iova_insert(&space, iova);
	ranges[count++] = iova;
}

/* The lowest range that overlaps, from the plain array. */
static struct kosdma_iova *find_overlap(u64 start, u64 last)
{
	struct kosdma_iova *found = NULL;
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (ranges[i]->start <= last && ranges[i]->last >= start &&
		    (!found || ranges[i]->start < found->start))
			found = ranges[i];
	}
	return found;
}

/* Reserve what is free of @start..@last, as kosdma_domain_reserve() does. */
static void reserve(u64 start, u64 last)
{
	while (start <= last && count < MAX_RANGES) {
		struct kosdma_iova *taken = kosdma_iova_overlap(&space, start, last);

		CHECK(taken == find_overlap(start, last));
		if (!taken || taken->start > start)
			insert(start, taken ? taken->start - 1 : last);
		if (!taken || taken->last >= last)
			break;
		start = taken->last + 1;
	}
}

/* The largest gap in a subtree, after the subtree has been checked. */
static u64 check_max_gap(struct rb_node *rb)
{
	struct kosdma_iova *iova = to_iova(rb);
	u64 max = iova->gap;

	if (rb->rb_left) {
		u64 left = check_max_gap(rb->rb_left);

		max = left > max ? left : max;
	}
	if (rb->rb_right) {
		u64 right = check_max_gap(rb->rb_right);

		max = right > max ? right : max;
	}
	CHECK(iova->max_gap == max);
	return max;
}

/* The tree is sorted, without overlap, complete, and knows its gaps. */
static void check_tree(void)
{
	struct rb_node *rb;
	unsigned int n = 0;
	u64 behind = space.first;

	for (rb = rb_first(&space.root); rb; rb = rb_next(rb)) {
		struct kosdma_iova *iova = to_iova(rb);

		CHECK(iova->start >= behind);
		CHECK(iova->last >= iova->start);
		CHECK(iova->gap == iova->start - behind);
		behind = iova->last + 1;
		n++;
		CHECK(behind || !rb_next(rb));
	}
	CHECK(n == count);
	if (space.root.rb_node)
		check_max_gap(space.root.rb_node);
}

/* --- a bitmap of a small space ------------------------------------------------ */

/* Units that may be given out, and those above the limit, where only guards lie. */
#define MAX_UNITS 4096
#define MARGIN 512

static bool taken[MAX_UNITS + MARGIN];
static unsigned int units, shift;

static u64 unit_address(unsigned int unit)
{
	return space.first + ((u64)unit << shift);
}

static bool free_units(unsigned int unit, unsigned int n)
{
	return !memchr(taken + unit, true, n);
}

/* First unit of the lowest place that fits; @units if there is none. */
static unsigned int bitmap_find(unsigned int n, unsigned int guard, u64 align, u64 limit)
{
	unsigned int unit;

	for (unit = 0; unit < units; unit++) {
		u64 address = unit_address(unit);

		if (address % align)
			continue;
		if (address > limit || limit - address < ((u64)n << shift) - 1)
			return units;
		if (free_units(unit, n + guard))
			return unit;
	}
	return units;
}

static void bitmap_check(void)
{
	static bool seen[MAX_UNITS + MARGIN];
	unsigned int i;

	check_tree();
	memset(seen, false, sizeof(seen));
	for (i = 0; i < count; i++) {
		u64 from = (ranges[i]->start - space.first) >> shift;
		u64 to = (ranges[i]->last - space.first) >> shift;

		CHECK(to < units + MARGIN);
		memset(seen + from, true, to - from + 1);
	}
	CHECK(!memcmp(seen, taken, units + MARGIN));
}

static void bitmap_alloc(struct bytes *bytes)
{
	unsigned int n = 1 + take_below(bytes, take_below(bytes, 4) ? 16 : units);
	unsigned int guard = take_below(bytes, take_below(bytes, 4) ? 3 : MARGIN);
	unsigned int align_log = take(bytes), unit;
	u64 end = unit_address(units) - 1;
	u64 align, limit;

	/* From smaller than a unit to larger than the space. */
	align = 1ULL << (align_log & 0x80 ? align_log & 63 : (shift + (align_log & 7)) & 63);
	switch (take_below(bytes, 4)) {
	case 0:
		limit = unit_address(take_below(bytes, units + 1)) - take_below(bytes, 3);
		break;
	case 1:
		limit = take_edge(bytes);
		break;
	default:
		limit = end;
	}
	limit = limit > end ? end : limit;

	unit = bitmap_find(n, guard, align, limit);
	CHECK(alloc((u64)n << shift, (u64)guard << shift, align, limit) == (unit < units));
	if (unit == units)
		return;
	CHECK(ranges[count - 1]->start == unit_address(unit));
	CHECK(ranges[count - 1]->last == unit_address(unit + n + guard) - 1);
	memset(taken + unit, true, n + guard);
}

static void bitmap_scenario(struct bytes *bytes)
{
	static const u64 lowest[] = {
		0x1000, 0, 1ULL << 20, (1ULL << 32) - 0x8000, 1ULL << 39, (1ULL << 48) - 0x40000,
	};
	unsigned int base = take_below(bytes, 8);
	struct kosdma_iova *found;
	unsigned int unit, last, n;

	switch (take_below(bytes, 4)) {
	case 0:
		shift = 0;
		break;
	case 1:
		shift = 21;
		break;
	default:
		shift = 12;
	}
	if (take_below(bytes, 4))
		units = 16 + take_below(bytes, 256);
	else
		units = 256 + take_below(bytes, MAX_UNITS - 256);
	switch (base) {
	case 6:		/* ends at 2^48 */
		start_space((1ULL << 48) - ((u64)units << shift));
		break;
	case 7:		/* ends at the highest address that is given out */
		start_space(ADDRESS_MAX + 1 - ((u64)units << shift));
		break;
	default:	/* on a unit, as then all addresses are that the allocator chooses */
		start_space((lowest[base] + (1ULL << shift) - 1) >> shift << shift);
	}
	memset(taken, false, sizeof(taken));

	while (bytes->left && count < MAX_RANGES - 1) {
		switch (take_below(bytes, 8)) {
		default:
			bitmap_alloc(bytes);
			break;
		case 4:
		case 5:
			if (!count)
				break;
			n = take_below(bytes, count);
			unit = (ranges[n]->start - space.first) >> shift;
			last = (ranges[n]->last - space.first) >> shift;
			memset(taken + unit, false, last - unit + 1);
			drop_range(n);
			break;
		case 6:
			unit = take_below(bytes, units);
			n = 1 + take_below(bytes, 32);
			reserve(unit_address(unit), unit_address(unit + n) - 1);
			/* As far as there were ranges left for it. */
			if (count == MAX_RANGES)
				goto out;
			memset(taken + unit, true, n);
			break;
		case 7:
			unit = take_below(bytes, units);
			n = 1 + take_below(bytes, 64);
			found = kosdma_iova_overlap(&space, unit_address(unit),
						    unit_address(unit + n) - 1);
			CHECK(found == find_overlap(unit_address(unit),
						    unit_address(unit + n) - 1));
			CHECK(!found == free_units(unit, n));
		}
		bitmap_check();
	}
out:
	end_space();
}

/* --- a list of ranges, in numbers that cannot overflow ------------------------- */

typedef unsigned __int128 u128;

static int by_start(const void *a, const void *b)
{
	const struct kosdma_iova *const *x = a, *const *y = b;

	return (*x)->start < (*y)->start ? -1 : (*x)->start > (*y)->start;
}

/* The lowest address that fits; false if there is none. */
static bool list_find(u128 size, u128 guard, u128 align, u128 limit, u64 *out)
{
	u128 from = space.first;
	unsigned int i;

	if (!size || guard > ADDRESS_MAX)
		return false;
	if (limit > ADDRESS_MAX)
		limit = ADDRESS_MAX;
	qsort(ranges, count, sizeof(*ranges), by_start);
	for (i = 0; i <= count; i++) {
		u128 end = i < count ? ranges[i]->start : (u128)1 << 64;
		u128 start = (from + align - 1) / align * align;

		if (start + size - 1 <= limit && start + size + guard <= end) {
			*out = start;
			return true;
		}
		from = i < count ? (u128)ranges[i]->last + 1 : end;
	}
	return false;
}

static void list_scenario(struct bytes *bytes)
{
	u64 a, b, align, limit, address;

	start_space(take_below(bytes, 2) ? 0x1000 : take_edge(bytes));
	while (bytes->left && count < MAX_RANGES - 1) {
		switch (take_below(bytes, 8)) {
		default:
			a = take_edge(bytes);
			b = take_below(bytes, 4) ? 0x1000 : take_edge(bytes);
			align = 1ULL << (take(bytes) & 63);
			limit = take_edge(bytes);
			if (list_find(a, b, align, limit, &address)) {
				CHECK(alloc(a, b, align, limit));
				CHECK(ranges[count - 1]->start == address);
				CHECK(ranges[count - 1]->last == address + (a - 1) + b);
			} else {
				CHECK(!alloc(a, b, align, limit));
			}
			break;
		case 4:
			if (count)
				drop_range(take_below(bytes, count));
			break;
		case 5:
		case 6:
			a = take_edge(bytes);
			b = a + take_edge(bytes);
			if (b < a)
				b = U64_MAX;
			if (a < space.first)
				break;
			reserve(a, b);
			break;
		case 7:
			a = take_edge(bytes);
			b = take_edge(bytes);
			b = a > b ? a : b;
			CHECK(kosdma_iova_overlap(&space, a, b) == find_overlap(a, b));
		}
		check_tree();
	}
	end_space();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { .next = data, .left = size };

	if (take(&bytes) & 3)
		bitmap_scenario(&bytes);
	else
		list_scenario(&bytes);
	return 0;
}

/* --- cases ---------------------------------------------------------------------- */

/* The next allocation gets @address. */
#define GETS(address, size, guard, align, limit) \
	do { \
		CHECK(alloc(size, guard, align, limit)); \
		CHECK(ranges[count - 1]->start == (address)); \
		check_tree(); \
	} while (0)

#define FAILS(size, guard, align, limit) \
	do { \
		CHECK(!alloc(size, guard, align, limit)); \
		check_tree(); \
	} while (0)

static void first_page_is_never_given_out(void)
{
	start_space(0x1000);
	GETS(0x1000, 1, 0, 1, U64_MAX);
	GETS(0x2000, 0x1000, 0, 0x1000, U64_MAX);
	end_space();

	start_space(0x1000);
	FAILS(0x1000, 0, 0x1000, 0x1ffe);
	GETS(0x1000, 0x1000, 0, 0x1000, 0x1fff);
	end_space();
}

static void guard_separates_neighbours_and_may_lie_above_the_limit(void)
{
	start_space(0x1000);
	GETS(0x1000, 0x1000, 0x1000, 0x1000, 0x4fff);
	GETS(0x3000, 0x2000, 0x1000, 0x1000, 0x4fff);
	CHECK(kosdma_iova_overlap(&space, 0x2000, 0x2fff));
	CHECK(kosdma_iova_overlap(&space, 0x5fff, 0x5fff));
	CHECK(!kosdma_iova_overlap(&space, 0x6000, U64_MAX));
	FAILS(1, 0, 1, 0x5fff);
	end_space();

	/* Two pages are free below a reserved range: one, and its guard. */
	start_space(0x1000);
	insert(0x3000, 0x3fff);
	GETS(0x4000, 0x2000, 0x1000, 0x1000, U64_MAX);
	GETS(0x1000, 0x1000, 0x1000, 0x1000, U64_MAX);
	end_space();
}

static void space_of_48_bits_is_used_to_its_last_byte(void)
{
	const u64 limit = (1ULL << 48) - 1;

	start_space(0x1000);
	FAILS(1ULL << 48, 0x1000, 0x1000, limit);
	FAILS((1ULL << 48) - 0xfff, 0x1000, 0x1000, limit);
	GETS(0x1000, (1ULL << 48) - 0x1000, 0x1000, 0x1000, limit);
	FAILS(1, 0, 1, limit);
	end_space();

	start_space(0x1000);
	insert(0x1000, limit - 0x2000);
	FAILS(0x1000, 0x1000, 0x1000, limit - 0x1001);
	GETS(limit + 1 - 0x2000, 0x1000, 0x1000, 0x1000, limit);
	FAILS(0x1000, 0x1000, 0x1000, limit);
	end_space();

	start_space(0x1000);
	insert(0x1000, limit - 0x2000);
	GETS(limit + 1 - 0x2000, 0x2000, 0x1000, 0x1000, limit);
	end_space();
}

static void msi_window_is_avoided(void)
{
	start_space(0x1000);
	insert(0xfee00000, 0xfeefffff);
	GETS(0x100000000, 0x100000000, 0x1000, 0x40000000, U64_MAX);
	GETS(0x40000000, 0x40000000, 0x1000, 0x40000000, 0xffffffff);
	end_space();

	start_space(0xfec00000);
	insert(0xfee00000, 0xfeefffff);
	GETS(0xfef00000, 0x200000, 0x1000, 0x100000, 0xffffffff);
	GETS(0xfec00000, 0x1ff000, 0x1000, 0x100000, 0xffffffff);
	end_space();
}

static void alignment_beyond_the_space_fits_nowhere(void)
{
	start_space(0x1000);
	FAILS(0x1000, 0, 1ULL << 48, (1ULL << 48) - 1);
	FAILS(0x1000, 0, 1ULL << 63, U64_MAX);
	GETS(1ULL << 48, 0x1000, 0, 1ULL << 48, 1ULL << 49);
	end_space();

	/* The gap that is large enough is no longer, once aligned. */
	start_space(0x1000);
	insert(0x5000, 0x5fff);
	GETS(0x8000, 0x2000, 0, 0x4000, U64_MAX);
	GETS(0x4000, 0x1000, 0, 0x4000, U64_MAX);
	end_space();
}

static void nothing_overflows(void)
{
	start_space(0x1000);
	FAILS(0, 0, 1, U64_MAX);
	FAILS(U64_MAX, 0x1000, 0x1000, U64_MAX);
	FAILS(U64_MAX, U64_MAX, 1ULL << 63, U64_MAX);
	FAILS(0x1000, U64_MAX, 0x1000, U64_MAX);
	FAILS(1ULL << 63, 0, 1, U64_MAX);
	GETS(0x1000, ADDRESS_MAX - 0xfff, ADDRESS_MAX, 1, U64_MAX);
	end_space();

	start_space(0x1000);
	insert(1ULL << 40, U64_MAX);
	FAILS(1ULL << 40, 0, 1, U64_MAX);
	GETS(0x1000, (1ULL << 40) - 0x1000, 0, 1, U64_MAX);
	FAILS(1, 0, 1, U64_MAX);
	end_space();

	start_space(0);
	insert(0, U64_MAX);
	FAILS(1, 0, 1, U64_MAX);
	end_space();
}

void logic_cases(void)
{
	first_page_is_never_given_out();
	guard_separates_neighbours_and_may_lie_above_the_limit();
	space_of_48_bits_is_used_to_its_last_byte();
	msi_window_is_avoided();
	alignment_beyond_the_space_fits_nowhere();
	nothing_overflows();
}
