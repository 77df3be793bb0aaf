// SPDX-License-Identifier: GPL-2.0-only
/*
 * What answers rcUnimplemented: the rows of the table "Never implemented" of
 * Documentation/api.md, in their words. A check on the host compares both.
 */
#include <stdlib.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define POISON_HANDLE ((Handle)0xcccc)
#define POISON_PTR ((void *)0xcccccccccccccccc)

static Retcode create_with(DmaAttr attr, bool contiguous)
{
	Handle out = POISON_HANDLE;
	Retcode rc = contiguous ? KnIoDmaCreateContinuous(PAGE, attr, &out) :
				  KnIoDmaCreate(0, PAGE, attr, &out);

	if (rc == rcOk)
		EXPECT_OK(KnHandleClose(out));
	else
		EXPECT_EQ(NONE, out);
	return rc;
}

static Retcode map_for_io(Handle buffer)
{
	void *addr = POISON_PTR;
	Handle out = POISON_HANDLE;
	int maps = probe_nr_maps();
	Retcode rc = KnIoDmaMap(buffer, 0, PAGE, NULL,
				VMM_FLAG_READ | VMM_FLAG_IO, &addr, &out);

	if (rc != rcOk) {
		EXPECT_NULL(addr);
		EXPECT_EQ(NONE, out);
		EXPECT_EQ(maps, probe_nr_maps());
	}
	/* Without the flag it can be mapped. */
	EXPECT_OK(KnIoDmaMap(buffer, 0, PAGE, NULL, VMM_FLAG_READ, &addr,
			     &out));
	EXPECT_OK(KnHandleClose(out));
	EXPECT_OK(KnHandleClose(buffer));
	return rc;
}

static Retcode create_write_through(void)
{
	return create_with(DMA_ATTR_WRITE_THROUGH, false);
}

static Retcode create_contiguous_write_through(void)
{
	return create_with(DMA_ATTR_WRITE_THROUGH, true);
}

static Retcode modify_to_write_through(void)
{
	Handle buffer = buffer_create(0, PAGE, 0);
	DmaInfo *info;
	Retcode rc = KnIoDmaModify(buffer, DMA_ATTR_WRITE_THROUGH);

	info = buffer_info(buffer);
	EXPECT_TRUE(info->flags & DMA_ATTR_WRITE_BACK);
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(buffer));
	return rc;
}

static Retcode map_contiguous_for_io(void)
{
	Handle buffer;

	ASSERT_OK(KnIoDmaCreateContinuous(PAGE, 0, &buffer));
	return map_for_io(buffer);
}

static Retcode map_uncached_for_io(void)
{
	static const DmaAttr attrs[] = { DMA_ATTR_CACHE_DISABLE,
					 DMA_ATTR_WRITE_COMBINE };
	Retcode rc = rcOk;

	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		rc = map_for_io(buffer_create(0, PAGE, attrs[i]));
		if (rc != rcUnimplemented)
			break;
	}
	return rc;
}

static Retcode create_badge_with_notice(void)
{
	Handle out = POISON_HANDLE;
	Retcode rc = KnHandleCreateBadge(0, 0, NULL, &out);

	EXPECT_EQ(NONE, out);
	return rc;
}

enum { ANYWHERE, ON_X86 };

static const struct {
	const char *call, *condition;
	Retcode (*make)(void);
	int needs;
} rows[] = {
	{ "KnIoDmaCreate", "DMA_ATTR_WRITE_THROUGH on x86",
	  create_write_through, ON_X86 },
	{ "KnIoDmaCreateContinuous", "DMA_ATTR_WRITE_THROUGH on x86",
	  create_contiguous_write_through, ON_X86 },
	{ "KnIoDmaModify", "DMA_ATTR_WRITE_THROUGH on x86",
	  modify_to_write_through, ON_X86 },
	{ "KnIoDmaMap", "VMM_FLAG_IO on a buffer of KnIoDmaCreateContinuous",
	  map_contiguous_for_io, ANYWHERE },
	{ "KnIoDmaMap", "VMM_FLAG_IO on a buffer that is not write-back",
	  map_uncached_for_io, ANYWHERE },
	{ "KnHandleCreateBadge", "notice other than INVALID_HANDLE",
	  create_badge_with_notice, ANYWHERE },
};

static bool on_x86(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return true;
#else
	return false;
#endif
}

static void check_rows(int needs)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].needs != needs)
			continue;
		test_context("%s, %s", rows[i].call, rows[i].condition);
		EXPECT_RC(rcUnimplemented, rows[i].make());
	}
	test_context("%s", "");
}

TEST(rows_of_the_table_are_rcUnimplemented_and_change_nothing)
{
	probe_require_module();
	check_rows(ANYWHERE);
	if (on_x86())
		check_rows(ON_X86);
}

TEST_HARNESS_MAIN
