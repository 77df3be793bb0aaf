// SPDX-License-Identifier: GPL-2.0-only
/* Buffers: creation, what they are charged to, attributes, physical blocks. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/probe.h"

#define POISON ((Handle)0x12345)
#define CACHE_ATTRS \
	(DMA_ATTR_WRITE_BACK | DMA_ATTR_WRITE_THROUGH | \
	 DMA_ATTR_CACHE_DISABLE | DMA_ATTR_WRITE_COMBINE)

/* Check that the call fails so, and leaves nothing. */
static void expect_create(Retcode expected, uint32_t order, size_t size,
			  DmaAttr attr)
{
	int fds = probe_nr_fds();
	Handle buffer = POISON;

	test_context("order %u, size %#zx, attr %#x", order, size, attr);
	EXPECT_RC(expected, KnIoDmaCreate(order, size, attr, &buffer));
	EXPECT_EQ(INVALID_HANDLE, buffer);
	EXPECT_EQ(fds, probe_nr_fds());
	test_context("%s", "");
}

static void expect_create_continuous(Retcode expected, size_t size,
				     DmaAttr attr)
{
	int fds = probe_nr_fds();
	Handle buffer = POISON;

	test_context("size %#zx, attr %#x", size, attr);
	EXPECT_RC(expected, KnIoDmaCreateContinuous(size, attr, &buffer));
	EXPECT_EQ(INVALID_HANDLE, buffer);
	EXPECT_EQ(fds, probe_nr_fds());
	test_context("%s", "");
}

static DmaInfo *phys_info(Handle buffer)
{
	DmaInfo *info = NULL;

	ASSERT_OK(KnIoDmaGetPhysInfo(buffer, &info));
	ASSERT_NOT_NULL(info);
	return info;
}

static size_t phys_bytes(Handle buffer)
{
	DmaInfo *info = phys_info(buffer);
	size_t sum = 0;

	for (size_t i = 0; i < info->count; i++)
		sum += (size_t)PAGE_SIZE << info->descriptors[i].order;
	KosMemFree(info);
	return sum;
}

static void check_zeroed(Handle buffer, size_t size)
{
	Handle mapping;
	void *mem = buffer_map(buffer, size, &mapping);

	EXPECT_EQ(size, first_not(mem, size, 0));
	EXPECT_OK(KnHandleClose(mapping));
}

static void fill(Handle buffer, size_t size, uint8_t value)
{
	Handle mapping;

	memset(buffer_map(buffer, size, &mapping), value, size);
	EXPECT_OK(KnHandleClose(mapping));
}

FIXTURE(buffer) {
	int fds;
};

FIXTURE_SETUP(buffer)
{
	device_warm_up();
	device_make_public();
	self->fds = probe_nr_fds();
}

FIXTURE_TEARDOWN(buffer)
{
	EXPECT_EQ(self->fds, probe_nr_fds());
	device_restore();
}

/* ---- sizes and orders ---- */

TEST_F(buffer, sizes_of_any_number_of_pages)
{
	static const size_t pages[] = { 1, 2, 3, 5, 16, 17, 255, 1000, 1025 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		size_t size = PAGES(pages[i]);
		Handle buffer = buffer_create(0, size, 0);
		DmaInfo *info = buffer_info(buffer);

		test_context("%zu pages", pages[i]);
		EXPECT_EQ(size, info->size);
		EXPECT_EQ(0, info->orderMin);
		EXPECT_EQ(0, info->count);
		KosMemFree(info);

		info = phys_info(buffer);
		check_blocks(info, size, 0);
		KosMemFree(info);
		EXPECT_EQ(size, phys_bytes(buffer));
		check_zeroed(buffer, size);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(buffer, blocks_are_of_the_asked_order_or_more)
{
	static const struct {
		uint32_t order;
		size_t pages, memory;
	} cases[] = {
		{ 0, 1, 1 },	{ 1, 2, 2 },	{ 3, 64, 64 },
		{ 4, 16, 16 },	{ 4, 5, 16 },	{ 4, 17, 32 },
		{ 9, 512, 512 }, { 9, 1, 512 }, { 9, 1500, 1536 },
		{ 10, 1024, 1024 }, { 10, 2049, 3072 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t size = PAGES(cases[i].pages);
		uint32_t order = cases[i].order;
		Handle buffer = buffer_create(order, size, 0);
		DmaInfo *info = buffer_info(buffer);

		test_context("order %u, %zu pages", order, cases[i].pages);
		EXPECT_EQ(size, info->size);
		EXPECT_EQ(order, info->orderMin);
		KosMemFree(info);

		/* Behind an IOMMU, a block may have smaller physical parts. */
		info = phys_info(buffer);
		check_blocks(info, size, machine_translates() ? 0 : order);
		KosMemFree(info);
		EXPECT_EQ(PAGES(cases[i].memory), phys_bytes(buffer));
		check_zeroed(buffer, size);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(buffer, few_large_blocks_rather_than_many_small)
{
	Handle buffer = buffer_create(0, MiB(32), 0);
	DmaInfo *info = phys_info(buffer);

	/* Pages alone would be 8192. */
	EXPECT_LE(info->count, 1024);
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(buffer, a_buffer_that_one_block_holds_is_one_block)
{
	for (uint32_t order = 0; order <= 10; order++) {
		Handle buffer = buffer_create(order, PAGE_SIZE << order, 0);
		DmaInfo *info = phys_info(buffer);

		test_context("order %u", order);
		if (order <= 3 || !machine_translates())
			EXPECT_EQ(1, info->count);
		EXPECT_EQ(PAGE_SIZE << order, phys_bytes(buffer));
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(buffer, info_tells_attributes)
{
	static const struct {
		DmaAttr asked, told;
	} cases[] = {
		{ 0, DMA_DIR_BIDIR | DMA_ATTR_WRITE_BACK },
		{ DMA_DIR_TO_DEVICE, DMA_DIR_TO_DEVICE | DMA_ATTR_WRITE_BACK },
		{ DMA_DIR_FROM_DEVICE | DMA_ATTR_WRITE_BACK,
		  DMA_DIR_FROM_DEVICE | DMA_ATTR_WRITE_BACK },
		{ DMA_DIR_BIDIR | DMA_ATTR_WRITE_COMBINE,
		  DMA_DIR_BIDIR | DMA_ATTR_WRITE_COMBINE },
		{ DMA_ZONE_DMA32 | DMA_ATTR_CACHE_DISABLE,
		  DMA_ZONE_DMA32 | DMA_DIR_BIDIR | DMA_ATTR_CACHE_DISABLE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Handle buffer = buffer_create(0, PAGES(4), cases[i].asked);
		DmaInfo *info = buffer_info(buffer);

		test_context("asked %#x", cases[i].asked);
		EXPECT_EQ(cases[i].told, info->flags);
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(buffer, zone_dma32_is_below_4_gib)
{
	for (uint32_t order = 0; order <= 9; order += 9) {
		Handle buffer = buffer_create(order, MiB(8), DMA_ZONE_DMA32);
		DmaInfo *info = phys_info(buffer);

		check_blocks(info, MiB(8), machine_translates() ? 0 : order);
		for (size_t i = 0; i < info->count; i++)
			EXPECT_LE((info->descriptors[i].frame << PAGE_SHIFT) +
				  (PAGE_SIZE << info->descriptors[i].order),
				  1ULL << 32);
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

/* ---- content ---- */

TEST_F(buffer, memory_is_zeroed_when_reused)
{
	static const struct {
		uint32_t order;
		size_t size;
		DmaAttr attr;
	} cases[] = {
		{ 0, MiB(16), 0 },
		{ 10, MiB(16), 0 },
		{ 0, MiB(4), DMA_ATTR_WRITE_COMBINE },
		{ 4, MiB(4), DMA_ATTR_CACHE_DISABLE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (int round = 0; round < 3; round++) {
			Handle buffer = buffer_create(cases[i].order,
						      cases[i].size,
						      cases[i].attr);

			test_context("case %zu, round %d", i, round);
			check_zeroed(buffer, cases[i].size);
			fill(buffer, cases[i].size, 0xa5);
			EXPECT_OK(KnHandleClose(buffer));
		}
}

TEST_F(buffer, continuous_memory_is_zeroed_when_reused)
{
	for (int round = 0; round < 3; round++) {
		Handle buffer;

		test_context("round %d", round);
		ASSERT_OK(KnIoDmaCreateContinuous(MiB(2), 0, &buffer));
		check_zeroed(buffer, MiB(2));
		fill(buffer, MiB(2), 0xa5);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(buffer, two_buffers_share_no_memory)
{
	Handle buffers[8], mappings[8];
	void *mem[8];

	for (int i = 0; i < 8; i++) {
		buffers[i] = buffer_create(i % 5, PAGES(33), 0);
		mem[i] = buffer_map(buffers[i], PAGES(33), &mappings[i]);
		memset(mem[i], i + 1, PAGES(33));
	}
	for (int i = 0; i < 8; i++) {
		test_context("buffer %d", i);
		EXPECT_EQ(PAGES(33), first_not(mem[i], PAGES(33), i + 1));
		EXPECT_OK(KnHandleClose(mappings[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
}

/* ---- refusals ---- */

TEST_F(buffer, bad_sizes_are_invalid)
{
	static const size_t sizes[] = {
		0, 1, 4095, 4097, MiB(1) + 1, SIZE_MAX, SIZE_MAX - 4096,
		((size_t)1 << 63) + 512,
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		expect_create(rcInvalidArgument, 0, sizes[i], 0);
		expect_create(rcInvalidArgument, 9, sizes[i], 0);
		expect_create_continuous(rcInvalidArgument, sizes[i], 0);
	}
}

TEST_F(buffer, sizes_beyond_the_machine_are_too_large)
{
	size_t ram = (size_t)probe_meminfo("MemTotal") << 10;
	const size_t sizes[] = {
		SIZE_MAX & ~(PAGE_SIZE - 1),
		(size_t)1 << 63,
		((size_t)1 << 63) + PAGE_SIZE,
		(size_t)1 << 52,
		(size_t)1 << 44,
		rtl_align_up(ram, PAGE_SIZE) * 2,
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		expect_create(rcBufferTooLarge, 0, sizes[i], 0);
		expect_create(rcBufferTooLarge, 10, sizes[i], 0);
		expect_create(rcBufferTooLarge, 0, sizes[i], DMA_ZONE_DMA32);
		expect_create_continuous(rcBufferTooLarge, sizes[i], 0);
	}
}

TEST_F(buffer, orders_beyond_an_address_space_are_invalid)
{
	static const uint32_t orders[] = { 52, 53, 63, 64, 65, 4096, 1U << 31,
					   UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
		expect_create(rcInvalidArgument, orders[i], PAGE_SIZE, 0);
}

TEST_F(buffer, orders_beyond_the_machine_are_too_large)
{
	static const uint32_t orders[] = { 51, 50, 40, 32, 31 };

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		expect_create(rcBufferTooLarge, orders[i], PAGE_SIZE, 0);
		expect_create(rcBufferTooLarge, orders[i],
			      SIZE_MAX & ~(PAGE_SIZE - 1), 0);
	}
}

TEST_F(buffer, unknown_attributes_are_invalid)
{
	for (int bit = 0; bit < 32; bit++) {
		DmaAttr attr = 1U << bit;

		if (attr & (DMA_DIR_BIDIR | DMA_ZONE_DMA32 | CACHE_ATTRS))
			continue;
		expect_create(rcInvalidArgument, 0, PAGE_SIZE, attr);
		expect_create_continuous(rcInvalidArgument, PAGE_SIZE, attr);
	}
}

TEST_F(buffer, two_cache_attributes_are_invalid)
{
	for (DmaAttr attr = 0; attr <= CACHE_ATTRS; attr++) {
		if (attr & ~CACHE_ATTRS || !(attr & (attr - 1)))
			continue;
		expect_create(rcInvalidArgument, 0, PAGE_SIZE, attr);
		expect_create_continuous(rcInvalidArgument, PAGE_SIZE, attr);
	}
}

TEST_F(buffer, write_through_memory_is_unimplemented)
{
	expect_create(rcUnimplemented, 0, PAGE_SIZE, DMA_ATTR_WRITE_THROUGH);
	expect_create_continuous(rcUnimplemented, PAGE_SIZE,
				 DMA_ATTR_WRITE_THROUGH);
}

TEST_F(buffer, null_results_are_invalid)
{
	Handle buffer = buffer_create(0, PAGE_SIZE, 0);

	EXPECT_RC(rcInvalidArgument, KnIoDmaCreate(0, PAGE_SIZE, 0, NULL));
	EXPECT_RC(rcInvalidArgument,
		  KnIoDmaCreateContinuous(PAGE_SIZE, 0, NULL));
	EXPECT_RC(rcInvalidArgument, KnIoDmaGetInfo(buffer, NULL));
	EXPECT_RC(rcInvalidArgument, KnIoDmaGetPhysInfo(buffer, NULL));
	EXPECT_RC(rcInvalidArgument, KnIoDmaContinuousGetDmaAddr(buffer, NULL));
	EXPECT_OK(KnHandleClose(buffer));
}

static void expect_no_info(Retcode expected, Handle handle)
{
	DmaInfo *info = (DmaInfo *)&info;
	DmaAddr addr = 1;

	EXPECT_RC(expected, KnIoDmaGetInfo(handle, &info));
	EXPECT_NULL(info);
	info = (DmaInfo *)&info;
	EXPECT_RC(expected, KnIoDmaGetPhysInfo(handle, &info));
	EXPECT_NULL(info);
	EXPECT_RC(expected, KnIoDmaContinuousGetDmaAddr(handle, &addr));
	EXPECT_EQ(0, addr);
	EXPECT_RC(expected, KnIoDmaModify(handle, DMA_ATTR_WRITE_BACK));
}

TEST_F(buffer, handles_that_are_none_are_not_found)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	Handle closed = buffer_create(0, PAGE_SIZE, 0);

	EXPECT_OK(KnHandleClose(closed));
	expect_no_info(rcResourceNotFound, closed);
	expect_no_info(rcResourceNotFound, null);
	expect_no_info(rcResourceNotFound, INVALID_HANDLE);
	expect_no_info(rcResourceNotFound, 0x7fffffff);
	expect_no_info(rcResourceNotFound, 0x80000000u);
	close(null);
}

TEST_F(buffer, handles_of_other_types_are_invalid)
{
	Handle buffer = buffer_create(0, PAGE_SIZE, 0);
	Handle domain = domain_create(), mapping;

	buffer_map(buffer, PAGE_SIZE, &mapping);
	test_context("%s", "domain");
	expect_no_info(rcInvalidArgument, domain);
	test_context("%s", "mapping");
	expect_no_info(rcInvalidArgument, mapping);
	test_context("%s", "");
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(buffer, closing_twice_finds_nothing)
{
	Handle buffer = buffer_create(0, PAGE_SIZE, 0);

	EXPECT_OK(KnIoClose(buffer));
	EXPECT_RC(rcResourceNotFound, KnIoClose(buffer));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(buffer));
}

TEST_F(buffer, physical_blocks_are_for_the_privileged)
{
	Handle buffer = buffer_create(0, PAGE_SIZE, 0);

	IN_CHILD {
		DmaInfo *info = (DmaInfo *)&info;

		probe_become_nobody();
		EXPECT_RC(rcSecurityDisallow, KnIoDmaGetPhysInfo(buffer, &info));
		EXPECT_NULL(info);
	}
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- one block ---- */

TEST_F(buffer, continuous_is_one_block_of_the_next_power_of_two)
{
	static const size_t pages[] = { 1, 2, 3, 5, 100, 512, 1000, 1024 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		size_t size = PAGES(pages[i]);
		uint32_t order = rtl_roundup_order(pages[i]);
		DmaInfo *info;
		Handle buffer;

		test_context("%zu pages", pages[i]);
		ASSERT_OK(KnIoDmaCreateContinuous(size, 0, &buffer));
		info = buffer_info(buffer);
		EXPECT_EQ(size, info->size);
		EXPECT_EQ(order, info->orderMin);
		EXPECT_EQ(0, info->count);
		KosMemFree(info);
		EXPECT_EQ(PAGE_SIZE << order, phys_bytes(buffer));
		if (!machine_translates()) {
			info = phys_info(buffer);
			EXPECT_EQ(1, info->count);
			check_blocks(info, size, order);
			KosMemFree(info);
		}
		check_zeroed(buffer, size);
		EXPECT_OK(KnHandleClose(buffer));
	}
}

/* What the page allocator cannot give in one piece, an IOMMU can show as one. */
static void check_large_block(Retcode rc, Handle buffer, size_t size)
{
	if (machine_translates())
		EXPECT_RC(rcOk, rc);
	else if (rc != rcOk)
		EXPECT_TRUE(rc == rcOutOfMemory || rc == rcBufferTooLarge);
	if (rc != rcOk) {
		EXPECT_EQ(INVALID_HANDLE, buffer);
		return;
	}
	EXPECT_EQ(size, phys_bytes(buffer));
	if (!machine_translates()) {
		DmaInfo *info = phys_info(buffer);

		EXPECT_EQ(1, info->count);
		KosMemFree(info);
	}
	check_zeroed(buffer, size);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(buffer, a_block_beyond_the_page_allocators_limit_needs_an_iommu)
{
	for (uint32_t order = 11; order <= 14; order++) {
		size_t size = PAGE_SIZE << order;
		Handle buffer = POISON;
		Retcode rc;

		test_context("order %u", order);
		rc = KnIoDmaCreate(order, size, 0, &buffer);
		check_large_block(rc, buffer, size);
		buffer = POISON;
		rc = KnIoDmaCreateContinuous(size, 0, &buffer);
		check_large_block(rc, buffer, size);
	}
}

/* ---- charges and limits ---- */

enum { MEMLOCK = 1 << 20 };

/* An ordinary user with a small limit of locked memory. */
static void become_limited(void)
{
	set_limit(RLIMIT_MEMLOCK, MEMLOCK);
	probe_become_nobody();
}

static bool can_create_limit(void *arg)
{
	Handle buffer;

	if (KnIoDmaCreate(0, MEMLOCK, 0, &buffer) != rcOk)
		return false;
	EXPECT_OK(KnHandleClose(buffer));
	(void)arg;
	return true;
}

/* Memory of other tests' processes of this user comes back soon. */
static void await_uncharged(void)
{
	ASSERT_TRUE(wait_until(can_create_limit, NULL, 10));
}

TEST_F(buffer, an_ordinary_user_has_a_limit_of_locked_memory)
{
	IN_CHILD {
		Handle half, other;

		become_limited();
		await_uncharged();
		half = buffer_create(0, MEMLOCK / 2, 0);
		other = buffer_create(0, MEMLOCK / 2, 0);
		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
		expect_create_continuous(rcQuotaExceeded, PAGE_SIZE, 0);
		EXPECT_OK(KnHandleClose(other));
		expect_create(rcQuotaExceeded, 0, MEMLOCK / 2 + PAGE_SIZE, 0);
		other = buffer_create(0, MEMLOCK / 2, 0);
		EXPECT_OK(KnHandleClose(other));
		EXPECT_OK(KnHandleClose(half));
		await_uncharged();
	}
}

TEST_F(buffer, what_is_charged_is_whole_blocks)
{
	IN_CHILD {
		Handle buffer;

		become_limited();
		await_uncharged();
		/* 2 MiB for one page. */
		expect_create(rcQuotaExceeded, 9, PAGE_SIZE, 0);
		buffer = buffer_create(8, PAGE_SIZE, 0);
		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
		EXPECT_OK(KnHandleClose(buffer));
		/* 129 pages are charged as 256. */
		ASSERT_OK(KnIoDmaCreateContinuous(PAGES(129), 0, &buffer));
		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
		EXPECT_OK(KnHandleClose(buffer));
		await_uncharged();
	}
}

TEST_F(buffer, a_buffer_is_charged_once_until_its_memory_is_free)
{
	IN_CHILD {
		Handle buffer, mappings[20], access;

		become_limited();
		await_uncharged();
		buffer = buffer_create(0, MEMLOCK, 0);
		for (size_t i = 0; i < ARRAY_SIZE(mappings); i++)
			buffer_map(buffer, MEMLOCK, &mappings[i]);
		EXPECT_OK(KnHandleClose(buffer));
		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
		for (size_t i = 0; i < ARRAY_SIZE(mappings); i++) {
			expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
			EXPECT_OK(KnHandleClose(mappings[i]));
		}
		EXPECT_TRUE(can_create_limit(NULL));

		buffer = buffer_create(0, MEMLOCK, 0);
		access = access_begin(buffer);
		EXPECT_OK(KnHandleClose(buffer));
		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
		EXPECT_OK(KnHandleClose(access));
		EXPECT_TRUE(can_create_limit(NULL));
	}
}

TEST_F(buffer, all_processes_of_a_user_share_its_limit)
{
	int go[2], done[2];
	pid_t pid;

	ASSERT_ERRNO(0, pipe2(go, O_CLOEXEC));
	ASSERT_ERRNO(0, pipe2(done, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		become_limited();
		await_uncharged();
		buffer_create(0, MEMLOCK, 0);
		probe_signal(done[1]);
		probe_await(go[0]);
		test_child_exit(); /* with the buffer open */
	}
	probe_await(done[0]);
	IN_CHILD {
		become_limited();
		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
	}
	probe_signal(go[1]);
	test_wait(pid);
	IN_CHILD {
		become_limited();
		await_uncharged();
	}
	close(go[0]);
	close(go[1]);
	close(done[0]);
	close(done[1]);
}

TEST_F(buffer, a_failed_creation_is_not_charged)
{
	IN_CHILD {
		Handle buffer;

		become_limited();
		await_uncharged();
		for (int i = 0; i < 300; i++) {
			ASSERT_NE(rcOk, KnIoDmaCreate(0, MEMLOCK + PAGE_SIZE, 0,
						      &buffer));
			ASSERT_NE(rcOk, KnIoDmaCreate(0, PAGE_SIZE,
						      DMA_ATTR_WRITE_THROUGH,
						      &buffer));
		}
		EXPECT_TRUE(can_create_limit(NULL));
	}
}

TEST_F(buffer, the_privilege_to_lock_memory_lifts_the_limit)
{
	IN_CHILD {
		set_limit(RLIMIT_MEMLOCK, 0);
		EXPECT_OK(KnHandleClose(buffer_create(0, MiB(2), 0)));
	}
}

TEST_F(buffer, no_descriptor_left_is_a_limit)
{
	IN_CHILD {
		size_t ram = probe_free_memory();
		int fd = dup(0);

		close(fd);
		set_limit(RLIMIT_NOFILE, fd);
		for (int i = 0; i < 20; i++) {
			Handle buffer = POISON;

			EXPECT_RC(rcQuotaExceeded,
				  KnIoDmaCreate(0, MiB(8), 0, &buffer));
			EXPECT_EQ(INVALID_HANDLE, buffer);
		}
		set_limit(RLIMIT_NOFILE, fd + 10);
		EXPECT_TRUE(probe_memory_returns(ram, 32 << 10));
	}
}

/* Where the kernel's own memory is at least 16 MiB. */
static void expect_shortage(void *unused)
{
	size_t ram = (size_t)probe_meminfo("MemTotal") << 10;

	(void)unused;
	expect_create(rcOutOfMemory, 0, (ram - MiB(16)) & ~(PAGE_SIZE - 1), 0);
	EXPECT_OK(KnHandleClose(buffer_create(0, MiB(64), 0)));
}

TEST_F_TIMEOUT(buffer, real_shortage_is_no_quota_and_kills_nobody, 300)
{
	if (probe_meminfo("MemTotal") > 8 << 20)
		SKIP("would take all memory of a large machine");
	probe_shortage(expect_shortage, NULL);
}

/* When memory is short, another process gives its own back, page after page. */
TEST_F_TIMEOUT(buffer, shortage_is_no_quota_while_others_free_memory, 300)
{
	const size_t size = MiB(128);
	char *memory;
	pid_t pid;

	if (probe_meminfo("MemTotal") > 8 << 20)
		SKIP("would take all memory of a large machine");
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, memory);
	pid = test_fork();
	if (!pid) {
		/* Until that, the pages are shared with the parent as well. */
		for (int ms = 0; ms < 60000 && probe_meminfo("MemFree") > 100000;
		     ms++)
			usleep(1000);
		for (size_t i = 0; i < size; i += PAGE_SIZE)
			madvise(memory + i, PAGE_SIZE, MADV_DONTNEED);
		test_child_exit();
	}
	ASSERT_ERRNO(0, munmap(memory, size));
	probe_shortage(expect_shortage, NULL);
	test_wait(pid);
}

/* ---- the number of objects ---- */

#define MAX_OBJECTS "/sys/module/kosdma/parameters/max_objects"

FIXTURE(objects) {
	char old[32], new[32];
	uint32_t max;
};

FIXTURE_SETUP(objects)
{
	device_warm_up();
	device_make_public();
	snprintf(self->old, sizeof(self->old), "%u", machine_max_objects());
	self->max = 300;
	snprintf(self->new, sizeof(self->new), "%u", self->max);
	if (!probe_write_file(MAX_OBJECTS, self->new))
		SKIP("needs to write " MAX_OBJECTS ": %s", strerror(errno));
	EXPECT_EQ(self->max, machine_max_objects());
}

FIXTURE_TEARDOWN(objects)
{
	EXPECT_TRUE(probe_write_file(MAX_OBJECTS, self->old));
	device_restore();
}

static bool can_create_one(void *arg)
{
	Handle buffer;

	if (KnIoDmaCreate(0, PAGE_SIZE, 0, &buffer) != rcOk)
		return false;
	EXPECT_OK(KnHandleClose(buffer));
	(void)arg;
	return true;
}

TEST_F(objects, each_kind_counts_against_the_users_limit)
{
	IN_CHILD {
		static Handle buffers[1000];
		Handle out = POISON, mapping, access;
		void *addr = &addr;
		uint32_t n = 0;

		set_limit(RLIMIT_NOFILE, 2000);
		set_limit(RLIMIT_MEMLOCK, MiB(64));
		probe_become_nobody();
		buffers[n++] = buffer_create(0, PAGE_SIZE, 0);
		buffer_map(buffers[0], PAGE_SIZE, &mapping);
		access = access_begin(buffers[0]);
		for (; n <= self->max; n++) {
			Retcode rc = KnIoDmaCreate(0, PAGE_SIZE, 0,
						   &buffers[n]);

			if (rc != rcOk) {
				EXPECT_RC(rcQuotaExceeded, rc);
				EXPECT_EQ(INVALID_HANDLE, buffers[n]);
				break;
			}
		}
		/* An object and its handle may be counted apart. */
		EXPECT_LE(n, self->max - 2);
		EXPECT_GE(n, self->max / 2 - 8);

		expect_create(rcQuotaExceeded, 0, PAGE_SIZE, 0);
		expect_create_continuous(rcQuotaExceeded, PAGE_SIZE, 0);
		EXPECT_RC(rcQuotaExceeded,
			  KnIoDmaMap(buffers[0], 0, PAGE_SIZE, NULL,
				     VMM_READ_WRITE, &addr, &out));
		EXPECT_NULL(addr);
		EXPECT_EQ(INVALID_HANDLE, out);
		out = POISON;
		EXPECT_RC(rcQuotaExceeded, KnIoDmaBegin(buffers[0], &out));
		EXPECT_EQ(INVALID_HANDLE, out);

		/* What is closed is counted no longer. */
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(access));
		EXPECT_TRUE(can_create_one(NULL));
		while (n--)
			EXPECT_OK(KnHandleClose(buffers[n]));
		for (int i = 0; i < 1000; i++)
			ASSERT_TRUE(can_create_one(NULL));
	}
	/* Root has a count of its own. */
	EXPECT_OK(KnHandleClose(buffer_create(0, PAGE_SIZE, 0)));
}

TEST_F(objects, a_process_that_dies_gives_its_own_back)
{
	for (int round = 0; round < 3; round++)
		IN_CHILD {
			Handle buffer = INVALID_HANDLE;

			set_limit(RLIMIT_NOFILE, 2000);
			set_limit(RLIMIT_MEMLOCK, MiB(64));
			probe_become_nobody();
			EXPECT_TRUE(wait_until(can_create_one, NULL, 10));
			while (KnIoDmaCreate(0, PAGE_SIZE, 0, &buffer) == rcOk)
				;
			EXPECT_FALSE(can_create_one(NULL));
		}
	IN_CHILD {
		probe_become_nobody();
		EXPECT_TRUE(wait_until(can_create_one, NULL, 10));
	}
}

/* ---- the memory cgroup ---- */

FIXTURE(cgroup) {
	char root[64], dir[128];
	bool mounted;
};

static void cgroup_write(const char *dir, const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	test_context("%s", path);
	ASSERT_TRUE(probe_write_file(path, text));
	test_context("%s", "");
}

/* A number of a file, or of the line of it that starts with @key. */
static size_t cgroup_read(const char *dir, const char *file, const char *key)
{
	char path[256], line[128];
	size_t value = SIZE_MAX, len = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "re");
	ASSERT_NOT_NULL(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len)) {
			value = strtoul(line + len, NULL, 10);
			break;
		}
	fclose(f);
	ASSERT_NE(SIZE_MAX, value);
	return value;
}

static bool cgroup_has_memory(const char *root)
{
	char path[256], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	return strstr(line, "memory");
}

FIXTURE_SETUP(cgroup)
{
	device_warm_up();
	if (geteuid())
		SKIP("needs root, to make a cgroup");
	strcpy(self->root, "/sys/fs/cgroup");
	if (!cgroup_has_memory(self->root)) {
		strcpy(self->root, "/tmp/kosdma-cgroup");
		mkdir("/tmp", 01777);
		mkdir(self->root, 0755);
		if (mount("none", self->root, "cgroup2", 0, NULL))
			SKIP("needs cgroup2: %s", strerror(errno));
		self->mounted = true;
		if (!cgroup_has_memory(self->root)) {
			umount(self->root);
			SKIP("needs the memory controller in cgroup2");
		}
	}
	cgroup_write(self->root, "cgroup.subtree_control", "+memory");
	snprintf(self->dir, sizeof(self->dir), "%s/kosdma-test", self->root);
	rmdir(self->dir);
	ASSERT_ERRNO(0, mkdir(self->dir, 0755));
}

static bool try_rmdir(void *dir)
{
	return !rmdir(dir);
}

FIXTURE_TEARDOWN(cgroup)
{
	EXPECT_TRUE(wait_until(try_rmdir, self->dir, 10));
	if (self->mounted) {
		EXPECT_ERRNO(0, umount(self->root));
		rmdir(self->root);
	}
}

TEST_F(cgroup, buffers_are_charged_to_the_memory_cgroup)
{
	IN_CHILD {
		size_t before, during;
		Handle buffer;

		cgroup_write(self->dir, "cgroup.procs", "0");
		EXPECT_OK(KnHandleClose(buffer_create(0, MiB(1), 0)));
		before = cgroup_read(self->dir, "memory.current", "");
		buffer = buffer_create(0, MiB(32), 0);
		during = cgroup_read(self->dir, "memory.current", "");
		EXPECT_GE(during, before + MiB(31));
		EXPECT_OK(KnHandleClose(buffer));
		EXPECT_LE(cgroup_read(self->dir, "memory.current", ""),
			  before + MiB(8));
	}
}

TEST_F(cgroup, its_limit_is_a_quota_and_kills_nobody)
{
	cgroup_write(self->dir, "memory.max", "16777216");
	IN_CHILD {
		Handle buffer;

		device_warm_up();
		cgroup_write(self->dir, "cgroup.procs", "0");
		for (int i = 0; i < 5; i++) {
			expect_create(rcQuotaExceeded, 0, MiB(32), 0);
			expect_create(rcQuotaExceeded, 9, MiB(32), 0);
		}
		buffer = buffer_create(0, MiB(4), 0);
		EXPECT_OK(KnHandleClose(buffer));
	}
	EXPECT_EQ(0, cgroup_read(self->dir, "memory.events", "oom_kill "));
}

/* ---- Modify ---- */

FIXTURE(modify) {
	Handle buffer;
	size_t size;
};

FIXTURE_VARIANT(modify) {
	bool continuous;
	size_t size;
	uint32_t order;
};

FIXTURE_VARIANT_ADD(modify, pages) { .size = PAGES(7) };
FIXTURE_VARIANT_ADD(modify, blocks) { .size = MiB(4), .order = 4 };
FIXTURE_VARIANT_ADD(modify, continuous) { .size = MiB(1), .continuous = true };

FIXTURE_SETUP(modify)
{
	device_warm_up();
	self->size = variant->size;
	if (variant->continuous)
		ASSERT_OK(KnIoDmaCreateContinuous(self->size, 0,
						  &self->buffer));
	else
		self->buffer = buffer_create(variant->order, self->size, 0);
}

FIXTURE_TEARDOWN(modify)
{
	EXPECT_OK(KnHandleClose(self->buffer));
}

static DmaAttr attributes(Handle buffer)
{
	DmaInfo *info = buffer_info(buffer);
	DmaAttr attr = info->flags;

	KosMemFree(info);
	return attr;
}

TEST_F(modify, changes_the_cache_attribute_and_keeps_the_data)
{
	static const DmaAttr attrs[] = {
		DMA_ATTR_WRITE_COMBINE, DMA_ATTR_CACHE_DISABLE,
		DMA_ATTR_WRITE_BACK, DMA_ATTR_CACHE_DISABLE,
		DMA_ATTR_WRITE_COMBINE, DMA_ATTR_WRITE_COMBINE,
	};
	Handle mapping;
	void *mem = buffer_map(self->buffer, self->size, &mapping);

	pattern_fill(mem, self->size, 0);
	EXPECT_OK(KnHandleClose(mapping));
	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		test_context("step %zu, attribute %#x", i, attrs[i]);
		ASSERT_OK(KnIoDmaModify(self->buffer, attrs[i]));
		EXPECT_EQ(DMA_DIR_BIDIR | attrs[i], attributes(self->buffer));
		mem = buffer_map(self->buffer, self->size, &mapping);
		pattern_check(mem, self->size, i);
		pattern_fill(mem, self->size, i + 1);
		pattern_check(mem, self->size, i + 1);
		EXPECT_OK(KnHandleClose(mapping));
	}
	/* None means write-back. */
	EXPECT_OK(KnIoDmaModify(self->buffer, 0));
	EXPECT_EQ(DMA_DIR_BIDIR | DMA_ATTR_WRITE_BACK,
		  attributes(self->buffer));
}

TEST_F(modify, write_through_is_unimplemented_and_changes_nothing)
{
	EXPECT_RC(rcUnimplemented,
		  KnIoDmaModify(self->buffer, DMA_ATTR_WRITE_THROUGH));
	EXPECT_EQ(DMA_DIR_BIDIR | DMA_ATTR_WRITE_BACK,
		  attributes(self->buffer));
}

TEST_F(modify, refused_while_mapped)
{
	Handle mapping;

	buffer_map(self->buffer, self->size, &mapping);
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(self->buffer, DMA_ATTR_WRITE_COMBINE));
	EXPECT_EQ(DMA_DIR_BIDIR | DMA_ATTR_WRITE_BACK,
		  attributes(self->buffer));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnIoDmaModify(self->buffer, DMA_ATTR_WRITE_COMBINE));
}

TEST_F(modify, refused_while_begun)
{
	Handle access = access_begin(self->buffer);

	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(self->buffer, DMA_ATTR_CACHE_DISABLE));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnIoDmaModify(self->buffer, DMA_ATTR_CACHE_DISABLE));
}

TEST_F(modify, bad_attributes_are_invalid)
{
	const DmaAttr bad[] = {
		DMA_ATTR_WRITE_BACK | DMA_ATTR_WRITE_COMBINE,
		DMA_ATTR_WRITE_COMBINE | DMA_ATTR_CACHE_DISABLE,
		CACHE_ATTRS,
		1U << 3,
		1U << 8,
		1U << 31,
		DMA_ATTR_WRITE_COMBINE | 1U << 30,
		/* not the buffer's own: */
		DMA_DIR_TO_DEVICE | DMA_ATTR_WRITE_COMBINE,
		DMA_DIR_FROM_DEVICE,
		DMA_ZONE_DMA32 | DMA_ATTR_WRITE_COMBINE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		test_context("attribute %#x", bad[i]);
		EXPECT_RC(rcInvalidArgument,
			  KnIoDmaModify(self->buffer, bad[i]));
		EXPECT_EQ(DMA_DIR_BIDIR | DMA_ATTR_WRITE_BACK,
			  attributes(self->buffer));
	}
	EXPECT_OK(KnIoDmaModify(self->buffer,
				DMA_DIR_BIDIR | DMA_ATTR_WRITE_COMBINE));
}

TEST_F(modify, needs_its_right)
{
	Handle copy = buffer_copy(self->buffer,
				  OCAP_DMA_FULL & ~OCAP_DMA_MODIFY);

	EXPECT_RC(rcNoCapability, KnIoDmaModify(copy, DMA_ATTR_WRITE_COMBINE));
	EXPECT_OK(KnHandleClose(copy));
	copy = buffer_copy(self->buffer, OCAP_DMA_MODIFY);
	EXPECT_OK(KnIoDmaModify(copy, DMA_ATTR_WRITE_COMBINE));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(modify, revoked_handle)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);

	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	expect_no_info(rcHandleRevoked, copy);
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(modify, memory_of_any_attribute_goes_back_write_back)
{
	static const DmaAttr attrs[] = { DMA_ATTR_WRITE_COMBINE,
					 DMA_ATTR_CACHE_DISABLE };

	/* A kernel that got it back otherwise splats, or reads stale lines. */
	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		Handle buffer = buffer_create(0, MiB(8), attrs[i]);

		fill(buffer, MiB(8), 0xc3);
		EXPECT_OK(KnHandleClose(buffer));
		buffer = buffer_create(0, MiB(8), 0);
		check_zeroed(buffer, MiB(8));
		EXPECT_OK(KnIoDmaModify(buffer, attrs[i]));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

/* ---- all at once ---- */

static void *create_and_close(void *arg)
{
	unsigned int seed = (uintptr_t)arg;

	for (int i = 0; i < 100; i++) {
		size_t size = PAGES(1 + rand_r(&seed) % 64);
		uint32_t order = rand_r(&seed) % 5;
		Handle buffer, mapping;
		uint8_t *mem;

		ASSERT_OK(KnIoDmaCreate(order, size, 0, &buffer));
		mem = buffer_map(buffer, size, &mapping);
		EXPECT_EQ(size, first_not(mem, size, 0));
		memset(mem, 0xff, size);
		EXPECT_OK(KnHandleClose(buffer));
		EXPECT_EQ(size, first_not(mem, size, 0xff));
		EXPECT_OK(KnHandleClose(mapping));
	}
	return NULL;
}

TEST_F(buffer, threads_create_and_close_at_the_same_time)
{
	long before = probe_free_memory();
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, create_and_close,
					    (void *)(i + 1)));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_TRUE(probe_memory_returns(before, 16 << 10));
}

TEST_HARNESS_MAIN
