// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "pagetype.h"

#define DEVICE "/dev/pagetype"
#define PHYSICAL (1ull << 62)
#define LIST "/sys/kernel/debug/x86/pat_memtype_list"
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Linux's own setting of the register, by PAT, PCD and PWT. */
static const char *const pat[8] = { "WB", "WC", "UC-", "UC",
				    "WB", "WP", "UC-", "WT" };

enum {
	BIT_PWT = 3,
	BIT_PCD = 4,
	BIT_PAT_4K = 7,
	BIT_PAT_LARGE = 12,
};

static const char *decode(uint64_t entry, enum pagetype_level level)
{
	int bit = level == LEVEL_4K ? BIT_PAT_4K : BIT_PAT_LARGE;

	if (level == LEVEL_NONE || !entry)
		return "";
	return pat[(entry >> bit & 1) << 2 | (entry >> BIT_PCD & 1) << 1 |
		   (entry >> BIT_PWT & 1)];
}

void pagetype_require(void)
{
	if (access(DEVICE, R_OK))
		SKIP("needs the module tests/kmod/pagetype.ko: there is no " DEVICE);
}

static void ask(uint64_t at, uint64_t answer[3])
{
	int fd = open(DEVICE, O_RDONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(24, pread(fd, answer, 24, at));
	close(fd);
}

struct pagetype pagetype_of(const volatile void *addr)
{
	struct pagetype page;
	uint64_t answer[3], linear[3] = { 0 };

	ask((uintptr_t)addr, answer);
	page.entry = answer[0];
	page.level = answer[1];
	page.type = decode(page.entry, page.level);
	page.linear = "";
	if (answer[2]) {
		/* With its level. */
		ask(PHYSICAL | (answer[0] & 0xffffffffff000), linear);
		page.linear = decode(linear[0], linear[1]);
	}
	return page;
}

struct pagetype pagetype_linear(uint64_t phys)
{
	struct pagetype page;
	uint64_t answer[3];

	ask(PHYSICAL | phys, answer);
	page.entry = answer[0];
	page.level = answer[1];
	page.type = page.linear = decode(page.entry, page.level);
	return page;
}

static const char *list_name(const char *name)
{
	static const struct {
		const char *kernel, *ours;
	} names[] = {
		{ "write-back", "WB" },	    { "write-combining", "WC" },
		{ "uncached-minus", "UC-" }, { "uncached", "UC" },
		{ "write-through", "WT" },   { "write-protected", "WP" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i].kernel, name))
			return names[i].ours;
	return "?";
}

int pagetype_list(uint64_t start, uint64_t last, const char **type)
{
	FILE *f = fopen(LIST, "re");
	unsigned long long first, end;
	char line[128], name[32];
	int nr = 0;

	if (!f)
		SKIP("needs " LIST);
	*type = "";
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "PAT: [mem %llx-%llx] %31s", &first, &end,
			   name) != 3 ||
		    first > last || end <= start)
			continue;
		if (!nr++)
			*type = list_name(name);
		else if (strcmp(*type, list_name(name)))
			*type = "";
	}
	fclose(f);
	return nr;
}

bool pagetype_mtrr_uncached(uint64_t start, uint64_t last)
{
	FILE *f = fopen("/proc/mtrr", "re");
	unsigned long long base, size;
	char line[128];
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "reg%*d: base=%llx (%*dMB), size=%lluMB",
			   &base, &size) == 2 &&
		    strstr(line, "uncachable") && base <= last &&
		    base + (size << 20) > start)
			found = true;
	if (f)
		fclose(f);
	return found;
}
