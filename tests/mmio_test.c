// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device registers: claiming ranges, mapping them, and accessing them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/pci.h"
#include "lib/probe.h"

#define POISON_PTR ((void *)0xcccccccccccccccc)
#define POISON_HANDLE ((Handle)0xcccc)
#define NONE INVALID_HANDLE

FIXTURE(bar)
{
	struct edu edu;
};

FIXTURE_SETUP(bar)
{
	probe_require_module();
	edu_require(&self->edu, 0);
}

FIXTURE_TEARDOWN(bar)
{
}

/* Register pages [first, first + nr) of the BAR. */
static Retcode claim(struct fixture_data_bar *self, int first, int nr,
		     Handle *out)
{
	return KnRegisterPhyMem(self->edu.bar + PAGES(first), PAGES(nr), 0,
				out);
}

static bool is_claimed(struct fixture_data_bar *self, int first, int nr)
{
	return probe_iomem(self->edu.bar + PAGES(first),
			   self->edu.bar + PAGES(first + nr) - 1, "kosdma");
}

static bool anything_claimed(void)
{
	uint64_t start, last;

	return probe_iomem_find("kosdma", 0, &start, &last);
}

/* ---- KnRegisterPhyMem: arguments ---- */

TEST_F(bar, wrong_address_or_size_is_rcInvalidArgument)
{
	const uint64_t bar = self->edu.bar;
	const struct {
		uint64_t addr;
		size_t size;
	} rows[] = {
		{ bar + 1, PAGE },
		{ bar + 8, PAGE },
		{ bar + PAGE / 2, PAGE },
		{ bar + PAGE - 1, PAGE },
		{ bar, 0 },
		{ bar, 1 },
		{ bar, PAGE - 1 },
		{ bar, PAGE + 1 },
		{ bar, EDU_BAR_SIZE - 8 },
		{ bar, SIZE_MAX },
		{ bar, SIZE_MAX & ~(PAGE_SIZE - 1) }, /* wraps */
		{ bar, 0 - bar }, /* ends at 2^64 */
		{ UINT64_MAX & ~(PAGE_SIZE - 1), PAGE }, /* the last page */
		{ UINT64_MAX & ~(PAGE_SIZE - 1), PAGES(2) }, /* wraps to 0 */
		{ 1ull << 63, PAGE },
		{ UINT64_MAX, PAGE },
		{ UINT64_MAX, 0 },
	};
	int fds = probe_nr_fds();

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		Handle out = POISON_HANDLE;

		test_context("row %zu", i);
		EXPECT_RC(rcInvalidArgument,
			  KnRegisterPhyMem(rows[i].addr, rows[i].size, 0,
					   &out));
		EXPECT_EQ(NONE, out);
	}
	test_context("%s", "");
	EXPECT_FALSE(anything_claimed());
	/* But for what libkos opens once. */
	EXPECT_LE(probe_nr_fds(), fds + 1);
}

TEST_F(bar, registration_to_nowhere_is_rcInvalidArgument)
{
	EXPECT_RC(rcInvalidArgument,
		  KnRegisterPhyMem(self->edu.bar, PAGE, 0, NULL));
	EXPECT_FALSE(anything_claimed());
}

TEST_F(bar, unknown_flags_are_rcInvalidArgument)
{
	for (int bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;
		Handle out = POISON_HANDLE;

		if (flag & (MMIO_K_SHARED | MMIO_U_SHARED))
			continue;
		test_context("flag %#x", flag);
		EXPECT_RC(rcInvalidArgument,
			  KnRegisterPhyMem(self->edu.bar, PAGE, flag, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rcInvalidArgument,
			  KnRegisterPhyMem(self->edu.bar, PAGE,
					   flag | MMIO_U_SHARED, &out));
	}
}

/* ---- exclusive claims ---- */

TEST_F(bar, every_overlap_is_rcAlreadyExists_and_nothing_else_is)
{
	static const struct {
		int first, nr;
		bool overlaps;
	} rows[] = {
		/* against pages 8 to 15 */
		{ 8, 8, true },	   { 10, 2, true },   { 8, 1, true },
		{ 15, 1, true },   { 7, 2, true },    { 15, 2, true },
		{ 0, 256, true },  { 4, 16, true },   { 8, 9, true },
		{ 7, 9, true },	   { 0, 9, true },    { 0, 8, false },
		{ 16, 8, false },  { 7, 1, false },   { 16, 1, false },
		{ 255, 1, false }, { 16, 240, false },
	};
	Handle held, out;

	ASSERT_OK(claim(self, 8, 8, &held));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		test_context("pages %d to %d", rows[i].first,
			     rows[i].first + rows[i].nr - 1);
		out = POISON_HANDLE;
		EXPECT_RC(rows[i].overlaps ? rcAlreadyExists : rcOk,
			  claim(self, rows[i].first, rows[i].nr, &out));
		if (rows[i].overlaps)
			EXPECT_EQ(NONE, out);
		else
			EXPECT_OK(KnHandleClose(out));
	}
	test_context("%s", "");
	EXPECT_TRUE(is_claimed(self, 8, 8));
	EXPECT_OK(KnHandleClose(held));
	EXPECT_OK(claim(self, 0, 256, &out));
	EXPECT_OK(KnHandleClose(out));
	EXPECT_FALSE(anything_claimed());
}

TEST_F(bar, disjoint_parts_are_claimed_and_mapped_side_by_side)
{
	Handle region[4], mapping[4];
	void *addr[4];

	for (int i = 0; i < 4; i++) {
		ASSERT_OK(claim(self, i, 1, &region[i]));
		ASSERT_OK(KnIoMapMem(region[i], VMM_FLAG_READ, 0, &addr[i],
				     &mapping[i]));
	}
	EXPECT_EQ(0xed, IoReadMmReg32(addr[0]) & 0xff);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, probe_read(addr[i]));
	EXPECT_OK(KnHandleClose(mapping[2]));
	EXPECT_OK(KnHandleClose(region[2]));
	EXPECT_EQ(SIGSEGV, probe_read(addr[2]));
	EXPECT_EQ(0, probe_read(addr[1]));
	EXPECT_EQ(0, probe_read(addr[3]));
}

TEST_F(bar, another_process_is_refused_what_is_claimed)
{
	Handle held;

	ASSERT_OK(claim(self, 4, 4, &held));
	IN_CHILD {
		Handle out = POISON_HANDLE;

		EXPECT_RC(rcAlreadyExists, claim(self, 4, 4, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rcAlreadyExists, claim(self, 0, 5, &out));
		EXPECT_RC(rcAlreadyExists, claim(self, 5, 1, &out));
		/* The rest belongs to a device that somebody else holds. */
		EXPECT_RC(rcBusy, claim(self, 0, 4, &out));
		EXPECT_EQ(NONE, out);
		/* A copy that the child has is no use, and cannot be either. */
		EXPECT_OK(KnHandleClose(held));
	}
	EXPECT_TRUE(is_claimed(self, 4, 4));
	EXPECT_OK(KnHandleClose(held));
	IN_CHILD {
		EXPECT_OK(claim(self, 4, 4, &held));
	}
}

TEST_F(bar, claim_is_listed_in_iomem_while_it_lives)
{
	Handle region, copy;

	ASSERT_OK(claim(self, 2, 3, &region));
	EXPECT_TRUE(is_claimed(self, 2, 3));
	ASSERT_OK(KnHandleCopy(region, OCAP_MMIO_READ, NONE, &copy));
	EXPECT_OK(KnHandleClose(region));
	/* The copy keeps it. */
	EXPECT_TRUE(is_claimed(self, 2, 3));
	EXPECT_RC(rcAlreadyExists, claim(self, 2, 3, &region));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_FALSE(anything_claimed());
}

TEST_F(bar, mapping_keeps_the_claim)
{
	Handle region, mapping, out;
	void *addr;

	ASSERT_OK(claim(self, 0, 2, &region));
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_TRUE(is_claimed(self, 0, 2));
	EXPECT_RC(rcAlreadyExists, claim(self, 1, 1, &out));
	EXPECT_EQ(0xed, IoReadMmReg32(addr) & 0xff);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_FALSE(anything_claimed());
	EXPECT_EQ(SIGSEGV, probe_read(addr));
	EXPECT_OK(claim(self, 1, 1, &out));
	EXPECT_OK(KnHandleClose(out));
}

/* The kernel, asked by way of sysfs, does not map what is claimed. */
TEST_F(bar, claimed_range_cannot_be_mapped_by_sysfs)
{
	char path[128];
	Handle region;
	void *p;
	int fd;

	ASSERT_OK(claim(self, 0, 1, &region));
	snprintf(path, sizeof(path), "%s/resource0", self->edu.path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_OK(KnHandleClose(region));
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	EXPECT_NE(MAP_FAILED, p);
	close(fd);
}

TEST_F(bar, claim_of_a_dead_process_is_free_at_once)
{
	for (int round = 0; round < 5; round++) {
		int sync[2];
		Handle out;
		pid_t pid;
		char byte;

		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			Handle region, mapping;
			void *addr;

			ASSERT_OK(claim(self, 0, 256, &region));
			ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr,
					     &mapping));
			probe_signal(sync[1]);
			pause();
			test_child_exit();
		}
		close(sync[1]);
		probe_await(sync[0]);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		EXPECT_EQ(0, read(sync[0], &byte, 1));
		close(sync[0]);
		ASSERT_OK(claim(self, 0, 256, &out));
		EXPECT_OK(KnHandleClose(out));
	}
}

/* ---- policy ---- */

static void expect_refused(uint64_t addr, size_t size)
{
	Handle out = POISON_HANDLE;

	EXPECT_RC(rcSecurityDisallow, KnRegisterPhyMem(addr, size, 0, &out));
	EXPECT_EQ(NONE, out);
}

TEST(ram_is_rcSecurityDisallow)
{
	uint64_t start, last;
	int n = 0;

	probe_require_module();
	for (; probe_iomem_find("System RAM", n, &start, &last); n++) {
		uint64_t first = rtl_align_up(start, PAGE_SIZE);
		uint64_t end = (last + 1) & ~(PAGE_SIZE - 1);

		test_context("RAM from %#llx", (unsigned long long)start);
		ASSERT_NE(0, last); /* not privileged enough to see */
		expect_refused(first, PAGE);
		expect_refused(first, end - first);
		expect_refused(first + (end - first) / 2 / PAGE * PAGE, PAGE);
		expect_refused(end - PAGE, PAGE);
		/* One page of it is enough. */
		expect_refused(end - PAGE, PAGES(2));
		if (first)
			expect_refused(first - PAGE, PAGES(2));
	}
	test_context("%s", "");
	EXPECT_GT(n, 0);
	for (n = 0; n < 3; n++) {
		static const char *const parts[] = { "Kernel code",
						     "Kernel data",
						     "Kernel bss" };

		if (probe_iomem_find(parts[n], 0, &start, &last))
			expect_refused(start & ~(PAGE_SIZE - 1), PAGE);
	}
	EXPECT_FALSE(anything_claimed());
}

TEST(memory_of_buffers_is_rcSecurityDisallow)
{
	Handle buffer;
	DmaInfo *info;

	probe_require_module();
	buffer = buffer_create(0, PAGES(4), DMA_DIR_BIDIR);
	ASSERT_OK(KnIoDmaGetPhysInfo(buffer, &info));
	ASSERT_GT(info->count, 0);
	for (size_t i = 0; i < info->count; i++)
		expect_refused((uint64_t)info->descriptors[i].frame
				       << PAGE_SHIFT,
			       PAGE);
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(buffer));
}

/* What the machine itself runs by is nobody's, whatever it is listed as. */
TEST(interrupt_controllers_timers_and_iommus_are_refused)
{
	static const char *const names[] = {
		"IOAPIC", "Local APIC", "HPET", "MMCONFIG", "ECAM", "dmar",
		"amd_iommu", "PNP0103", "Reserved",
	};
	uint64_t start, last;
	int nr = 0;

	probe_require_module();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		for (int n = 0; probe_iomem_find(names[i], n, &start, &last);
		     n++) {
			Handle out = POISON_HANDLE;
			Retcode rc;

			test_context("%s at %#llx", names[i],
				     (unsigned long long)start);
			rc = KnRegisterPhyMem(start & ~(PAGE_SIZE - 1), PAGE, 0,
					      &out);
			EXPECT_TRUE(rc == rcSecurityDisallow ||
				    rc == rcAlreadyExists);
			EXPECT_EQ(NONE, out);
			nr++;
		}
	test_context("%s", "");
	EXPECT_GT(nr, 2);
	/* The fixed places, in case nothing lists them. */
	EXPECT_NE(rcOk, KnRegisterPhyMem(0xfec00000, PAGE, 0, &(Handle){ 0 }));
	EXPECT_NE(rcOk, KnRegisterPhyMem(0xfee00000, PAGE, 0, &(Handle){ 0 }));
}

TEST(registers_that_a_kernel_driver_has_claimed_are_rcAlreadyExists)
{
	struct pci_bar bar;
	char driver[64];
	struct pci pci;
	int n;

	probe_require_module();
	for (n = 0; pci_driven_bar(n, &pci, &bar, driver); n++) {
		Handle out = POISON_HANDLE;
		/* An IOMMU's are nobody's, whoever drives it. */
		Retcode rc = probe_is_iommu(pci.path) ? rcSecurityDisallow :
							rcAlreadyExists;

		test_context("%s, driver %s, BAR at %#llx", pci.name, driver,
			     (unsigned long long)bar.start);
		EXPECT_RC(rc, KnRegisterPhyMem(bar.start, PAGE, 0, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rc, KnRegisterPhyMem(bar.start,
					       bar.last + 1 - bar.start, 0,
					       &out));
		EXPECT_EQ(NONE, out);
		EXPECT_TRUE(probe_iomem(bar.start, bar.last, driver));
	}
	test_context("%s", "");
	if (!n)
		SKIP("no driver of the kernel's has claimed registers here");
	EXPECT_FALSE(anything_claimed());
}

TEST_F(bar, range_that_leaves_the_bar_is_refused)
{
	static const struct {
		int first, nr;
	} rows[] = { { -1, 2 }, { 255, 2 }, { -1, 258 }, { 0, 257 } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		Handle out = POISON_HANDLE;
		Retcode rc = claim(self, rows[i].first, rows[i].nr, &out);

		test_context("pages %d to %d", rows[i].first,
			     rows[i].first + rows[i].nr - 1);
		EXPECT_TRUE(rc == rcSecurityDisallow || rc == rcAlreadyExists);
		EXPECT_EQ(NONE, out);
	}
	test_context("%s", "");
	EXPECT_FALSE(anything_claimed());
}

TEST_F(bar, without_privilege_is_rcSecurityDisallow)
{
	Handle region;
	uint64_t start, last;

	/* Binds the device: otherwise the user would be told rcNotReady. */
	ASSERT_OK(claim(self, 0, 1, &region));
	EXPECT_OK(KnHandleClose(region));
	ASSERT_TRUE(probe_iomem_find("System RAM", 0, &start, &last));
	device_make_public();
	IN_CHILD {
		probe_become_nobody();
		expect_refused(self->edu.bar, PAGE);
		expect_refused(self->edu.bar, EDU_BAR_SIZE);
		expect_refused(rtl_align_up(start, PAGE_SIZE), PAGE);
		expect_refused(0xb0000000, PAGE);
		expect_refused(0xf00000000, PAGE);
	}
	device_restore();
	EXPECT_FALSE(anything_claimed());
}

TEST(free_range_that_is_no_bar_is_for_the_privileged)
{
	Handle region, mapping, out = POISON_HANDLE;
	uint64_t page;
	void *addr;

	probe_require_module();
	if (!probe_free_range(PAGE, &page))
		SKIP("this machine has no free page in a window for PCI");
	test_context("page %#llx", (unsigned long long)page);
	ASSERT_OK(KnRegisterPhyMem(page, PAGE, 0, &region));
	EXPECT_TRUE(probe_iomem(page, page + PAGE - 1, "kosdma"));
	EXPECT_RC(rcAlreadyExists, KnRegisterPhyMem(page, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ | VMM_FLAG_WRITE, 0, &addr,
			     &mapping));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_FALSE(anything_claimed());
	device_make_public();
	IN_CHILD {
		probe_become_nobody();
		expect_refused(page, PAGE);
	}
	device_restore();
}

/* ---- KnIoMapMem ---- */

FIXTURE(region)
{
	struct fixture_data_bar bar;
	Handle region;
};

FIXTURE_SETUP(region)
{
	probe_require_module();
	edu_require(&self->bar.edu, 0);
	ASSERT_OK(claim(&self->bar, 0, 2, &self->region));
}

FIXTURE_TEARDOWN(region)
{
	if (probe_is_open(self->region))
		EXPECT_OK(KnHandleClose(self->region));
}

TEST_F(region, wrong_map_arguments_are_rcInvalidArgument)
{
	static const struct {
		uint32_t prot, attr;
	} rows[] = {
		{ 0, 0 },
		{ 0, VMM_FLAG_CACHE_DISABLE },
		{ VMM_FLAG_READ | VMM_FLAG_LOW_GUARD, 0 },
		{ VMM_FLAG_READ | VMM_FLAG_HIGH_GUARD, 0 },
		{ VMM_FLAG_READ | VMM_FLAG_IO, 0 },
		{ VMM_FLAG_READ | 1u << 31, 0 },
		{ VMM_FLAG_READ | VMM_FLAG_CACHE_DISABLE, 0 },
		{ ~0u, 0 },
		{ VMM_FLAG_READ, VMM_FLAG_READ },
		{ VMM_FLAG_READ, 1 },
		{ VMM_FLAG_READ, 1u << 31 },
		{ VMM_FLAG_READ, VMM_FLAG_CACHE_DISABLE | VMM_FLAG_WRITE },
		{ VMM_FLAG_READ, VMM_FLAG_CACHE_DISABLE |
				 VMM_FLAG_WRITE_COMBINE },
		{ VMM_FLAG_READ, VMM_FLAG_WRITE_BACK | VMM_FLAG_WRITE_THROUGH },
		{ VMM_FLAG_READ, ~0u },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		void *addr = POISON_PTR;
		Handle mapping = POISON_HANDLE;

		test_context("row %zu", i);
		EXPECT_RC(rcInvalidArgument,
			  KnIoMapMem(self->region, rows[i].prot, rows[i].attr,
				     &addr, &mapping));
		EXPECT_NULL(addr);
		EXPECT_EQ(NONE, mapping);
	}
}

TEST_F(region, map_to_nowhere_is_rcInvalidArgument)
{
	void *addr = POISON_PTR;
	Handle mapping = POISON_HANDLE;
	int maps = probe_nr_maps();

	EXPECT_RC(rcInvalidArgument, KnIoMapMem(self->region, VMM_FLAG_READ, 0,
						NULL, &mapping));
	EXPECT_EQ(NONE, mapping);
	EXPECT_RC(rcInvalidArgument, KnIoMapMem(self->region, VMM_FLAG_READ, 0,
						&addr, NULL));
	EXPECT_NULL(addr);
	EXPECT_EQ(maps, probe_nr_maps());
	/* And the region is not taken to be mapped. */
	EXPECT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(region, no_cache_type_and_cache_disable_both_map)
{
	static const uint32_t attrs[] = { 0, VMM_FLAG_CACHE_DISABLE };

	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		Handle mapping;
		void *addr;

		ASSERT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, attrs[i],
				     &addr, &mapping));
		EXPECT_EQ(0xed, IoReadMmReg32(addr) & 0xff);
		EXPECT_OK(KnHandleClose(mapping));
	}
}

TEST_F(region, second_map_is_rcBusy_until_the_first_is_closed)
{
	void *addr, *second = POISON_PTR;
	Handle mapping, out = POISON_HANDLE, copy;

	ASSERT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_RC(rcBusy, KnIoMapMem(self->region, VMM_FLAG_READ, 0, &second,
				     &out));
	EXPECT_NULL(second);
	EXPECT_EQ(NONE, out);
	/* By any handle. */
	ASSERT_OK(KnHandleCopy(self->region, OCAP_MMIO_FULL, NONE, &copy));
	EXPECT_RC(rcBusy, KnIoMapMem(copy, VMM_FLAG_READ, 0, &second, &out));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnIoMapMem(copy, VMM_FLAG_READ, 0, &second, &out));
	EXPECT_OK(KnHandleClose(out));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(region, rights_decide_how_it_may_be_mapped)
{
	static const struct {
		uint32_t rights, prot;
		Retcode rc;
	} rows[] = {
		{ 0, VMM_FLAG_READ, rcNoCapability },
		{ 0, VMM_FLAG_WRITE, rcNoCapability },
		{ OCAP_MMIO_READ, VMM_FLAG_READ, rcOk },
		{ OCAP_MMIO_READ, VMM_FLAG_WRITE, rcNoCapability },
		{ OCAP_MMIO_READ, VMM_READ_WRITE, rcNoCapability },
		{ OCAP_MMIO_WRITE, VMM_FLAG_READ, rcNoCapability },
		{ OCAP_MMIO_WRITE, VMM_READ_WRITE, rcNoCapability },
		{ OCAP_MMIO_READ | OCAP_MMIO_WRITE, VMM_FLAG_READ, rcOk },
		{ OCAP_MMIO_READ | OCAP_MMIO_WRITE, VMM_FLAG_WRITE, rcOk },
		{ OCAP_MMIO_READ | OCAP_MMIO_WRITE, VMM_READ_WRITE, rcOk },
#ifdef __x86_64__
		/* This CPU has no write-only pages. */
		{ OCAP_MMIO_WRITE, VMM_FLAG_WRITE, rcNoCapability },
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		Handle copy, mapping = POISON_HANDLE;
		void *addr = POISON_PTR;

		test_context("rights %#x, protection %#x", rows[i].rights,
			     rows[i].prot);
		ASSERT_OK(KnHandleCopy(self->region, rows[i].rights, NONE,
				       &copy));
		EXPECT_RC(rows[i].rc, KnIoMapMem(copy, rows[i].prot, 0, &addr,
						 &mapping));
		if (rows[i].rc == rcOk) {
			EXPECT_OK(KnHandleClose(mapping));
		} else {
			EXPECT_NULL(addr);
			EXPECT_EQ(NONE, mapping);
		}
		EXPECT_OK(KnHandleClose(copy));
	}
}

TEST_F(region, read_only_mapping_cannot_be_written)
{
	Handle mapping;
	void *addr;

	ASSERT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_EQ(SIGSEGV, probe_write(addr));
	EXPECT_EQ(-1, mprotect(addr, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, mprotect(addr, PAGE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(SIGSEGV, probe_write(addr));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(region, mapping_has_exactly_the_size_of_the_region)
{
	Handle mapping;
	char *addr;
	int maps = probe_nr_maps();

	ASSERT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, (void **)&addr,
			     &mapping));
	EXPECT_EQ(0, (uintptr_t)addr % PAGE);
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_EQ(0, probe_read(addr + PAGES(2) - 1));
	/* One VMA of two pages. */
	EXPECT_EQ(maps + 1, probe_nr_maps());
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(maps, probe_nr_maps());
	EXPECT_EQ(SIGSEGV, probe_read(addr));
	EXPECT_EQ(SIGSEGV, probe_read(addr + PAGE));
}

TEST_F(region, mapping_is_not_inherited)
{
	Handle mapping;
	void *addr;

	ASSERT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, &mapping));
	IN_CHILD {
		EXPECT_EQ(SIGSEGV, probe_read(addr));
	}
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(region, another_owner_maps_it_after_the_first_closed)
{
	int sock[2], sync[2];
	Handle mapping;
	void *addr;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	ASSERT_OK(KosHandleSend(sock[0], self->region,
				OCAP_MMIO_READ | OCAP_MMIO_WRITE));
	ASSERT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, &mapping));
	pid = test_fork();
	if (!pid) {
		Handle theirs, out;
		void *regs;

		ASSERT_OK(KosHandleReceive(sock[1], &theirs));
		EXPECT_RC(rcBusy, KnIoMapMem(theirs, VMM_FLAG_READ, 0, &regs,
					     &out));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		/* Closed there, and not even the handle is left. */
		ASSERT_OK(KnIoMapMem(theirs, VMM_READ_WRITE, 0, &regs, &out));
		EXPECT_EQ(0xed, IoReadMmReg32(regs) & 0xff);
		IoWriteMmReg32((char *)regs + EDU_REG_LIVENESS, 0x12345678);
		EXPECT_EQ(~0x12345678u,
			  IoReadMmReg32((char *)regs + EDU_REG_LIVENESS));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		test_child_exit();
	}
	probe_await(sync[0]);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(self->region));
	probe_signal(sync[0]);
	probe_await(sync[0]);
	/* The claim is the child's now. */
	EXPECT_TRUE(is_claimed(&self->bar, 0, 2));
	EXPECT_RC(rcAlreadyExists, claim(&self->bar, 0, 2, &self->region));
	probe_signal(sync[0]);
	test_wait(pid);
	/* And ends with it. */
	EXPECT_OK(claim(&self->bar, 0, 2, &self->region));
	EXPECT_OK(KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(region, death_of_the_mapper_lets_others_map)
{
	int sock[2], sync[2];
	Handle mapping;
	void *addr;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	ASSERT_OK(KosHandleSend(sock[0], self->region, OCAP_MMIO_FULL));
	pid = test_fork();
	if (!pid) {
		Handle theirs;

		ASSERT_OK(KosHandleReceive(sock[1], &theirs));
		ASSERT_OK(KnIoMapMem(theirs, VMM_FLAG_READ, 0, &addr,
				     &mapping));
		probe_signal(sync[1]);
		pause();
	}
	probe_await(sync[0]);
	EXPECT_RC(rcBusy, KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr,
				     &mapping));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	/* Its end waits for nobody, but it may take a moment. */
	for (int i = 0; i < 100; i++) {
		Retcode rc = KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr,
					&mapping);

		if (rc == rcOk)
			break;
		ASSERT_RC(rcBusy, rc);
		usleep(20 * 1000);
	}
	ASSERT_NOT_NULL(addr);
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(mapping));
}

/* ---- registers of a device ---- */

FIXTURE(registers)
{
	struct edu edu;
	char *regs;
};

FIXTURE_SETUP(registers)
{
	probe_require_module();
	edu_require(&self->edu, 0);
	ASSERT_OK(edu_map_registers(&self->edu));
	self->regs = self->edu.regs;
}

FIXTURE_TEARDOWN(registers)
{
	edu_unmap_registers(&self->edu);
}

TEST_F(registers, are_mapped_without_attaching_and_without_bus_mastering)
{
	EXPECT_TRUE(probe_memory_decode(self->edu.path));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_EQ(0xed, IoReadMmReg32(self->regs) & 0xff);
}

TEST_F(registers, read_and_write_32_bits)
{
	static const uint32_t values[] = { 0, 1, 0x80000000, 0xffffffff,
					   0x12345678 };

	EXPECT_EQ(0x010000ed, IoReadMmReg32(self->regs + EDU_REG_ID));
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		IoWriteMmReg32(self->regs + EDU_REG_LIVENESS, values[i]);
		EXPECT_EQ(~values[i],
			  IoReadMmReg32(self->regs + EDU_REG_LIVENESS));
	}
}

TEST_F(registers, compute_a_factorial)
{
	IoWriteMmReg32(self->regs + EDU_REG_FACTORIAL, 10);
	for (int i = 0; IoReadMmReg32(self->regs + EDU_REG_STATUS) & 1; i++) {
		ASSERT_LT(i, 1000);
		usleep(1000);
	}
	EXPECT_EQ(3628800, IoReadMmReg32(self->regs + EDU_REG_FACTORIAL));
}

/* The device takes 8 bytes at once from 0x80 on; nothing is started here. */
TEST_F(registers, read_and_write_64_bits_in_one_access)
{
	static const uint64_t values[] = { 0, 0x0123456789abcdef,
					   0xfedcba9876543210, UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		IoWriteMmReg64(self->regs + EDU_REG_DMA_SRC, values[i]);
		/* A torn write would leave the half that was written last. */
		EXPECT_EQ(values[i],
			  IoReadMmReg64(self->regs + EDU_REG_DMA_SRC));
		EXPECT_EQ((uint32_t)values[i],
			  IoReadMmReg32(self->regs + EDU_REG_DMA_SRC));
	}
	IoWriteMmReg64(self->regs + EDU_REG_DMA_SRC, 0);
}

/* Below 0x80 the device answers to 4 bytes only: 8 are not cut in two. */
TEST_F(registers, do_not_split_a_64_bit_access)
{
	IoWriteMmReg32(self->regs + EDU_REG_LIVENESS, 0x55);
	IoWriteMmReg64(self->regs + EDU_REG_ID, 0x1122334455667788);
	EXPECT_EQ(~0x55u, IoReadMmReg32(self->regs + EDU_REG_LIVENESS));
	EXPECT_NE(0x010000ed, (uint32_t)IoReadMmReg64(self->regs));
}

/* Nor does it answer to narrower ones: they are not widened. */
TEST_F(registers, do_not_widen_8_and_16_bit_accesses)
{
	IoWriteMmReg32(self->regs + EDU_REG_LIVENESS, 0x55);
	IoWriteMmReg8(self->regs + EDU_REG_LIVENESS, 0xaa);
	EXPECT_EQ(~0x55u, IoReadMmReg32(self->regs + EDU_REG_LIVENESS));
	IoWriteMmReg16(self->regs + EDU_REG_LIVENESS, 0xaaaa);
	EXPECT_EQ(~0x55u, IoReadMmReg32(self->regs + EDU_REG_LIVENESS));
	EXPECT_NE(0xed, IoReadMmReg8(self->regs));
	EXPECT_NE(0xed, IoReadMmReg16(self->regs));
}

TEST_F(registers, are_read_and_written_several_times_by_buffers)
{
	uint32_t from[4] = { 1, 2, 3, 0xf0f0f0f0 }, to[5];

	IoWriteMmBuffer32(self->regs + EDU_REG_LIVENESS, from, 4);
	memset(to, 0, sizeof(to));
	IoReadMmBuffer32(self->regs + EDU_REG_LIVENESS, to, 4);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0x0f0f0f0f, to[i]);
	EXPECT_EQ(0, to[4]);
	/* None at all is nothing. */
	IoWriteMmBuffer32(self->regs + EDU_REG_LIVENESS, from, 0);
	EXPECT_EQ(0x0f0f0f0f, IoReadMmReg32(self->regs + EDU_REG_LIVENESS));
}

/* Where every width works: on memory. */
TEST(accessors_touch_exactly_their_width)
{
	union {
		uint8_t bytes[24];
		uint64_t align;
	} mem;
	uint8_t bytes[3] = { 1, 2, 3 };
	uint16_t words[3] = { 0x101, 0x202, 0x303 };

#define CHECK_WIDTH(bits, at, value)                                           \
	do {                                                                   \
		uint##bits##_t _v = (uint##bits##_t)(value);                   \
		memset(&mem, 0x11, sizeof(mem));                               \
		IoWriteMmReg##bits(mem.bytes + (at), _v);                      \
		EXPECT_EQ(0, memcmp(mem.bytes + (at), &_v, sizeof(_v)));       \
		EXPECT_EQ(_v, IoReadMmReg##bits(mem.bytes + (at)));            \
		for (size_t i = 0; i < sizeof(mem.bytes); i++)                 \
			if (i < (at) || i >= (at) + sizeof(_v))                \
				EXPECT_EQ(0x11, mem.bytes[i]);                 \
	} while (0)
	for (size_t at = 0; at < 16; at++)
		CHECK_WIDTH(8, at, 0xf1);
	for (size_t at = 0; at < 16; at += 2)
		CHECK_WIDTH(16, at, 0xf1f2);
	for (size_t at = 0; at < 16; at += 4)
		CHECK_WIDTH(32, at, 0xf1f2f3f4);
	for (size_t at = 0; at < 16; at += 8)
		CHECK_WIDTH(64, at, 0xf1f2f3f4f5f6f7f8);

	memset(&mem, 0, sizeof(mem));
	IoWriteMmBuffer8(mem.bytes, bytes, 3);
	EXPECT_EQ(3, mem.bytes[0]); /* the same place, three times */
	EXPECT_EQ(0, mem.bytes[1]);
	IoReadMmBuffer8(mem.bytes, bytes, 2);
	EXPECT_EQ(3, bytes[0]);
	EXPECT_EQ(3, bytes[1]);
	IoWriteMmBuffer16(mem.bytes, words, 3);
	EXPECT_EQ(3, mem.bytes[0]);
	EXPECT_EQ(3, mem.bytes[1]);
	EXPECT_EQ(0, mem.bytes[2]);
	IoReadMmBuffer16(mem.bytes, words, 2);
	EXPECT_EQ(0x303, words[0]);
	EXPECT_EQ(0x303, words[1]);
	EXPECT_EQ(0x303, words[2]);
}

/* ---- KnIoMemHandlesClear, KnIoMemHandlesClose ---- */

TEST(handles_clear_names_none_and_closes_nothing)
{
	IoMemHandles handles = { .region = 0, .mapping = 1 };

	KnIoMemHandlesClear(&handles);
	EXPECT_EQ(NONE, handles.region);
	EXPECT_EQ(NONE, handles.mapping);
	EXPECT_TRUE(probe_is_open(0));
	KnIoMemHandlesClear(NULL);
}

TEST_F(bar, handles_close_closes_mapping_and_region)
{
	IoMemHandles handles;
	void *addr;

	KnIoMemHandlesClear(&handles);
	ASSERT_OK(claim(self, 0, 1, &handles.region));
	ASSERT_OK(KnIoMapMem(handles.region, VMM_FLAG_READ, 0, &addr,
			     &handles.mapping));
	EXPECT_OK(KnIoMemHandlesClose(&handles));
	EXPECT_EQ(NONE, handles.region);
	EXPECT_EQ(NONE, handles.mapping);
	EXPECT_EQ(SIGSEGV, probe_read(addr));
	EXPECT_FALSE(anything_claimed());
	/* Again is nothing. */
	EXPECT_OK(KnIoMemHandlesClose(&handles));

	/* A region alone; a mapping alone. */
	ASSERT_OK(claim(self, 0, 1, &handles.region));
	EXPECT_OK(KnIoMemHandlesClose(&handles));
	EXPECT_FALSE(anything_claimed());
	ASSERT_OK(claim(self, 0, 1, &handles.region));
	ASSERT_OK(KnIoMapMem(handles.region, VMM_FLAG_READ, 0, &addr,
			     &handles.mapping));
	ASSERT_OK(KnHandleClose(handles.region));
	handles.region = NONE;
	EXPECT_OK(KnIoMemHandlesClose(&handles));
	EXPECT_EQ(NONE, handles.mapping);
	EXPECT_FALSE(anything_claimed());
}

TEST_F(bar, handles_close_closes_what_it_can)
{
	IoMemHandles handles;
	void *addr;

	EXPECT_RC(rcInvalidArgument, KnIoMemHandlesClose(NULL));
	ASSERT_OK(claim(self, 0, 1, &handles.region));
	handles.mapping = 1 << 20;
	EXPECT_RC(rcResourceNotFound, KnIoMemHandlesClose(&handles));
	EXPECT_EQ(NONE, handles.region);
	EXPECT_EQ(NONE, handles.mapping);
	EXPECT_FALSE(anything_claimed());

	ASSERT_OK(claim(self, 0, 1, &handles.region));
	ASSERT_OK(KnIoMapMem(handles.region, VMM_FLAG_READ, 0, &addr,
			     &handles.mapping));
	ASSERT_OK(KnHandleClose(handles.region));
	handles.region = 1 << 20;
	EXPECT_RC(rcResourceNotFound, KnIoMemHandlesClose(&handles));
	EXPECT_EQ(NONE, handles.region);
	EXPECT_EQ(NONE, handles.mapping);
	EXPECT_FALSE(anything_claimed());
}

TEST_HARNESS_MAIN
