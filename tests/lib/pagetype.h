/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory type of a page, as the page tables of this x86 say it and as the
 * kernel has written it down.
 */
#ifndef TESTS_LIB_PAGETYPE_H
#define TESTS_LIB_PAGETYPE_H

#include <stdbool.h>
#include <stdint.h>

enum pagetype_level {
	LEVEL_NONE, /* no entry */
	LEVEL_4K,
	LEVEL_2M,
	LEVEL_1G,
};

struct pagetype {
	uint64_t entry;
	enum pagetype_level level;
	const char *type; /* "WB", "WC", "UC-", "UC", "WP", "WT"; "" for none */
	const char *linear; /* of the kernel's linear map; "" for no RAM */
};

/* Skip the test unless the module of tests/kmod is loaded. */
void pagetype_require(void);
/* The page of this process at @addr. */
struct pagetype pagetype_of(const volatile void *addr);
/* The linear map's entry of RAM at a physical address. */
struct pagetype pagetype_linear(uint64_t phys);

/*
 * How many entries of the kernel's list of memory types (PAT) share a byte with
 * the range; *@type is the type of all of them, or "" if they differ or if
 * there are none. The names are those of struct pagetype.
 */
int pagetype_list(uint64_t start, uint64_t last, const char **type);

/* Does a range register (MTRR) make any of the range uncached? */
bool pagetype_mtrr_uncached(uint64_t start, uint64_t last);

#endif /* TESTS_LIB_PAGETYPE_H */
