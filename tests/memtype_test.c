// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory types: what is asked for is what the page tables and the kernel's list
 * of types say, or the call is refused. And large BARs: how they are mapped,
 * and how they go away.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/pagetype.h"
#include "lib/pci.h"
#include "lib/probe.h"

#define POISON_PTR ((void *)0xcccccccccccccccc)
#define POISON_HANDLE ((Handle)0xcccc)
#define NONE INVALID_HANDLE

static const struct memtype {
	uint32_t attr;
	const char *name, *type;
	/* Ineffective where a range register says uncached. */
	bool needs_cacheable;
} memtypes[] = {
	{ VMM_FLAG_CACHE_DISABLE, "CACHE_DISABLE", "UC-", false },
	{ VMM_FLAG_WRITE_COMBINE, "WRITE_COMBINE", "WC", false },
	{ VMM_FLAG_WRITE_THROUGH, "WRITE_THROUGH", "WT", true },
	{ VMM_FLAG_WRITE_BACK, "WRITE_BACK", "WB", true },
};

/* ---- device registers ---- */

FIXTURE(registers)
{
	uint64_t start;
	size_t size;
	bool memory; /* what is written can be read back */
	bool cacheable; /* range registers leave it so */
};

FIXTURE_VARIANT(registers)
{
	enum { EDU, IVSHMEM, TESTDEV, HOLE } what;
};

FIXTURE_VARIANT_ADD(registers, edu) { .what = EDU };
FIXTURE_VARIANT_ADD(registers, ivshmem) { .what = IVSHMEM };
FIXTURE_VARIANT_ADD(registers, testdev) { .what = TESTDEV };
FIXTURE_VARIANT_ADD(registers, hole) { .what = HOLE };

FIXTURE_SETUP(registers)
{
	struct pci_bar bar = { 0 };
	struct edu edu;
	struct pci pci;

	probe_require_module();
	pagetype_require();
	switch (variant->what) {
	case EDU:
		edu_require(&edu, 0);
		bar.start = edu.bar;
		bar.last = edu.bar + EDU_BAR_SIZE - 1;
		break;
	case IVSHMEM:
		pci_require(&pci, PCI_IVSHMEM, 0, "ivshmem-plain");
		pci_require_bar(&pci, IVSHMEM_MEMORY, &bar);
		self->memory = true;
		break;
	case TESTDEV:
		pci_require(&pci, PCI_TESTDEV, 0, "pci-testdev");
		pci_require_bar(&pci, TESTDEV_MEMORY, &bar);
		break;
	case HOLE:
		if (!probe_free_range(PAGES(16), &bar.start))
			SKIP("this machine has no free range in a window for PCI");
		bar.last = bar.start + PAGES(16) - 1;
		break;
	}
	self->start = bar.start;
	self->size = bar.last + 1 - bar.start;
	self->cacheable = !pagetype_mtrr_uncached(bar.start, bar.last);
}

FIXTURE_TEARDOWN(registers)
{
	const char *type;

	EXPECT_EQ(0, pagetype_list(self->start, self->start + self->size - 1,
				   &type));
}

struct mapped {
	Handle region, mapping;
	volatile uint8_t *addr;
};

static Retcode map_part(struct fixture_data_registers *self, size_t offset,
			size_t size, uint32_t attr, struct mapped *m)
{
	void *addr = POISON_PTR;
	Retcode rc;

	m->mapping = POISON_HANDLE;
	ASSERT_OK(KnRegisterPhyMem(self->start + offset, size, MMIO_U_SHARED,
				   &m->region));
	rc = KnIoMapMem(m->region, VMM_READ_WRITE, attr, &addr, &m->mapping);
	if (rc != rcOk) {
		EXPECT_NULL(addr);
		EXPECT_EQ(NONE, m->mapping);
		EXPECT_OK(KnHandleClose(m->region));
	}
	m->addr = addr;
	return rc;
}

static void unmap_part(struct mapped *m)
{
	EXPECT_OK(KnHandleClose(m->mapping));
	EXPECT_OK(KnHandleClose(m->region));
}

static Retcode want(const struct fixture_data_registers *self,
		    const struct memtype *t)
{
	return t->needs_cacheable && !self->cacheable ? rcUnimplemented : rcOk;
}

TEST_F(registers, type_is_what_was_asked_for_or_rcUnimplemented)
{
	for (size_t i = 0; i < ARRAY_SIZE(memtypes); i++) {
		const struct memtype *t = &memtypes[i];
		const char *listed;
		struct mapped m;

		test_context("%s", t->name);
		EXPECT_RC(want(self, t),
			  map_part(self, 0, self->size, t->attr, &m));
		if (m.mapping == NONE) {
			EXPECT_EQ(0, pagetype_list(self->start,
						   self->start + self->size - 1,
						   &listed));
			continue;
		}
		/* Each page, or the first and last of large ones. */
		for (size_t at = 0; at < self->size;
		     at += self->size > MiB(4) ? self->size - PAGE : PAGE) {
			struct pagetype page = pagetype_of(m.addr + at);

			EXPECT_STREQ(t->type, page.type);
			EXPECT_STREQ("", page.linear);
			if (test_nr_failures())
				break;
		}
		EXPECT_GE(pagetype_list(self->start,
					self->start + self->size - 1, &listed),
			  1);
		EXPECT_STREQ(t->type, listed);
		unmap_part(&m);
		EXPECT_EQ(0, pagetype_list(self->start,
					   self->start + self->size - 1,
					   &listed));
	}
	test_context("%s", "");
}

TEST_F(registers, no_type_is_uncached)
{
	struct mapped m;

	ASSERT_OK(map_part(self, 0, PAGE, 0, &m));
	EXPECT_STREQ("UC-", pagetype_of(m.addr).type);
	unmap_part(&m);
}

/* One range has one type at a time. */
TEST_F(registers, second_type_while_one_is_mapped_is_rcUnimplemented)
{
	for (size_t i = 0; i < 4 * ARRAY_SIZE(memtypes); i++) {
		const struct memtype *first = &memtypes[i / 4];
		const struct memtype *second = &memtypes[i % 4];
		struct mapped a, b;

		test_context("%s, then %s", first->name, second->name);
		if (want(self, first) != rcOk)
			continue;
		ASSERT_OK(map_part(self, 0, PAGES(2), first->attr, &a));
		/* The same range, and one that shares a page with it. */
		for (int page = 0; page < 2; page++) {
			EXPECT_RC(first == second ? rcOk : rcUnimplemented,
				  map_part(self, PAGES(page), PAGES(2),
					   second->attr, &b));
			if (b.mapping != NONE) {
				EXPECT_STREQ(first->type,
					     pagetype_of(b.addr).type);
				unmap_part(&b);
			}
		}
		EXPECT_STREQ(first->type, pagetype_of(a.addr).type);
		/* A page further it is free. */
		if (want(self, second) == rcOk) {
			ASSERT_OK(map_part(self, PAGES(2), PAGES(2),
					   second->attr, &b));
			EXPECT_STREQ(second->type, pagetype_of(b.addr).type);
			unmap_part(&b);
		}
		unmap_part(&a);
		/* And so it is when the first is gone. */
		if (want(self, second) == rcOk) {
			ASSERT_OK(map_part(self, 0, PAGES(2), second->attr,
					   &b));
			EXPECT_STREQ(second->type, pagetype_of(b.addr).type);
			unmap_part(&b);
		}
	}
	test_context("%s", "");
}

TEST_F(registers, type_stays_until_its_last_mapping_goes)
{
	struct mapped a, b, c;
	const char *listed;

	ASSERT_OK(map_part(self, 0, PAGES(2), VMM_FLAG_WRITE_COMBINE, &a));
	ASSERT_OK(map_part(self, 0, PAGES(2), VMM_FLAG_WRITE_COMBINE, &b));
	unmap_part(&a);
	EXPECT_RC(rcUnimplemented,
		  map_part(self, 0, PAGES(2), VMM_FLAG_CACHE_DISABLE, &c));
	EXPECT_STREQ("WC", pagetype_of(b.addr).type);
	EXPECT_EQ(1, pagetype_list(self->start, self->start + PAGES(2) - 1,
				   &listed));
	EXPECT_STREQ("WC", listed);
	unmap_part(&b);
	ASSERT_OK(map_part(self, 0, PAGES(2), VMM_FLAG_CACHE_DISABLE, &c));
	unmap_part(&c);
}

TEST_F(registers, refused_type_leaves_the_region_free_to_be_mapped)
{
	struct mapped a;
	Handle region, mapping;
	void *addr;

	ASSERT_OK(map_part(self, 0, PAGE, VMM_FLAG_CACHE_DISABLE, &a));
	ASSERT_OK(KnRegisterPhyMem(self->start, PAGE, MMIO_U_SHARED, &region));
	EXPECT_RC(rcUnimplemented,
		  KnIoMapMem(region, VMM_FLAG_READ, VMM_FLAG_WRITE_COMBINE,
			     &addr, &mapping));
	EXPECT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
	unmap_part(&a);
}

TEST_F(registers, type_goes_with_the_process)
{
	const char *listed;

	IN_CHILD {
		struct mapped m;

		ASSERT_OK(map_part(self, 0, PAGES(2), VMM_FLAG_WRITE_COMBINE,
				   &m));
	}
	for (int i = 0; i < 100; i++) {
		if (!pagetype_list(self->start, self->start + PAGES(2) - 1,
				   &listed))
			break;
		usleep(20 * 1000);
	}
	EXPECT_EQ(0, pagetype_list(self->start, self->start + PAGES(2) - 1,
				   &listed));
}

TEST_F(registers, memory_is_written_and_read_back_through_each_type)
{
	if (!self->memory)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(memtypes); i++) {
		const struct memtype *t = &memtypes[i];
		struct mapped m;

		test_context("%s", t->name);
		if (want(self, t) != rcOk)
			continue;
		ASSERT_OK(map_part(self, 0, self->size, t->attr, &m));
		if (i)
			pattern_check((void *)m.addr, KiB(64), i - 1);
		pattern_fill((void *)m.addr, KiB(64), i);
		pattern_check((void *)m.addr, KiB(64), i);
		IoWriteMmReg64(m.addr + self->size - 8, i + 1);
		EXPECT_EQ(i + 1, IoReadMmReg64(m.addr + self->size - 8));
		EXPECT_STREQ(t->type, pagetype_of(m.addr).type);
		unmap_part(&m);
	}
	test_context("%s", "");
}

/* Where a driver of the kernel's has mapped its registers, these have its type. */
TEST(registers_of_a_driver_have_the_type_that_it_gave_them)
{
	Handle region, mapping;
	struct pci_bar bar;
	char driver[64];
	const char *type;
	struct pci pci;
	void *addr;
	int seen = 0;

	probe_require_module();
	pagetype_require();
	for (int n = 0; pci_driven_bar(n, &pci, &bar, driver); n++) {
		if (!pagetype_list(bar.start, bar.start + PAGE - 1, &type) ||
		    strcmp(type, "UC-"))
			continue;
		test_context("%s, BAR at %#llx", driver,
			     (unsigned long long)bar.start);
		ASSERT_OK(KnRegisterPhyMem(bar.start, PAGE, MMIO_K_SHARED,
					   &region));
		for (size_t i = 0; i < ARRAY_SIZE(memtypes); i++) {
			Retcode want = i ? rcUnimplemented : rcOk;

			EXPECT_RC(want, KnIoMapMem(region, VMM_FLAG_READ,
						   memtypes[i].attr, &addr,
						   &mapping));
			if (mapping == NONE)
				continue;
			EXPECT_STREQ("UC-", pagetype_of(addr).type);
			EXPECT_OK(KnHandleClose(mapping));
		}
		EXPECT_OK(KnHandleClose(region));
		seen++;
	}
	test_context("%s", "");
	if (!seen)
		SKIP("no driver of the kernel's has mapped registers here");
}

/* ---- buffers ---- */

static const struct ramtype {
	DmaAttr attr;
	const char *name, *type;
} ramtypes[] = {
	{ DMA_ATTR_WRITE_BACK, "WRITE_BACK", "WB" },
	{ DMA_ATTR_WRITE_COMBINE, "WRITE_COMBINE", "WC" },
	{ DMA_ATTR_CACHE_DISABLE, "CACHE_DISABLE", "UC-" },
};

enum { FRAMES_MAX = 64 };

static size_t frames_of(Handle buffer, uint64_t frames[FRAMES_MAX])
{
	DmaInfo *info;
	size_t nr = 0;

	ASSERT_OK(KnIoDmaGetPhysInfo(buffer, &info));
	for (size_t i = 0; i < info->count; i++)
		for (uint64_t k = 0; k < 1ull << info->descriptors[i].order;
		     k++)
			if (nr < FRAMES_MAX)
				frames[nr++] = info->descriptors[i].frame + k;
	KosMemFree(info);
	return nr;
}

/* UC and UC- are the same for RAM: no range register makes it write-combining. */
static const char *uncached(const char *type)
{
	return strcmp(type, "UC") ? type : "UC-";
}

static void expect_linear(const uint64_t *frames, size_t nr, const char *type)
{
	for (size_t i = 0; i < nr; i++)
		EXPECT_STREQ(type, uncached(pagetype_linear(frames[i] *
							    PAGE_SIZE).type));
}

static void expect_buffer(Handle buffer, size_t size, const char *type)
{
	uint64_t frames[FRAMES_MAX];
	size_t nr = frames_of(buffer, frames);
	Handle mapping;
	char *mem;

	expect_linear(frames, nr, type);
	mem = buffer_map(buffer, size, &mapping);
	for (size_t at = 0; at < size; at += PAGE) {
		struct pagetype page = pagetype_of(mem + at);

		EXPECT_EQ(LEVEL_4K, page.level);
		EXPECT_STREQ(type, uncached(page.type));
		EXPECT_STREQ(type, uncached(page.linear));
	}
	EXPECT_EQ(size, first_not(mem, size, 0));
	pattern_fill(mem, size, 1);
	pattern_check(mem, size, 1);
	memset(mem, 0, size);
	EXPECT_OK(KnHandleClose(mapping));
}

static const struct {
	uint32_t order;
	size_t pages;
} sizes[] = { { 0, 1 }, { 2, 4 }, { 0, 7 }, { 1, 40 } };

TEST(buffers_have_the_type_that_they_were_created_with)
{
	device_warm_up();
	pagetype_require();
	for (size_t i = 0; i < ARRAY_SIZE(ramtypes) * ARRAY_SIZE(sizes); i++) {
		const struct ramtype *t = &ramtypes[i / ARRAY_SIZE(sizes)];
		size_t size = PAGES(sizes[i % ARRAY_SIZE(sizes)].pages);
		uint64_t frames[FRAMES_MAX];
		Handle buffer;
		size_t nr;

		test_context("%s, %zu pages", t->name, size / PAGE);
		buffer = buffer_create(sizes[i % ARRAY_SIZE(sizes)].order, size,
				       t->attr);
		expect_buffer(buffer, size, t->type);
		nr = frames_of(buffer, frames);
		EXPECT_OK(KnHandleClose(buffer));
		/* Whoever gets these pages next finds them as they were. */
		expect_linear(frames, nr, "WB");
	}
	test_context("%s", "");
}

TEST(buffers_get_the_type_that_they_are_modified_to)
{
	const size_t size = PAGES(7);
	uint64_t frames[FRAMES_MAX];
	Handle buffer;
	size_t nr;

	device_warm_up();
	pagetype_require();
	buffer = buffer_create(0, size, DMA_DIR_BIDIR);
	nr = frames_of(buffer, frames);
	for (size_t i = 0; i < 9; i++) {
		const struct ramtype *from = &ramtypes[i / 3];
		const struct ramtype *to = &ramtypes[i % 3];

		test_context("from %s to %s", from->name, to->name);
		ASSERT_OK(KnIoDmaModify(buffer, from->attr));
		expect_buffer(buffer, size, from->type);
		ASSERT_OK(KnIoDmaModify(buffer, to->attr));
		expect_buffer(buffer, size, to->type);
	}
	test_context("none");
	ASSERT_OK(KnIoDmaModify(buffer, DMA_ATTR_CACHE_DISABLE));
	ASSERT_OK(KnIoDmaModify(buffer, 0));
	expect_buffer(buffer, size, "WB");
	ASSERT_OK(KnIoDmaModify(buffer, DMA_ATTR_WRITE_COMBINE));
	EXPECT_OK(KnHandleClose(buffer));
	expect_linear(frames, nr, "WB");
	test_context("%s", "");
}

TEST(memory_has_no_write_through)
{
	Handle buffer = POISON_HANDLE;
	uint64_t frames[FRAMES_MAX];

	device_warm_up();
	pagetype_require();
	EXPECT_RC(rcUnimplemented,
		  KnIoDmaCreate(0, PAGE, DMA_ATTR_WRITE_THROUGH, &buffer));
	EXPECT_EQ(NONE, buffer);
	buffer = buffer_create(0, PAGE, DMA_ATTR_WRITE_COMBINE);
	EXPECT_RC(rcUnimplemented,
		  KnIoDmaModify(buffer, DMA_ATTR_WRITE_THROUGH));
	expect_linear(frames, frames_of(buffer, frames), "WC");
	EXPECT_OK(KnHandleClose(buffer));
}

TEST(type_of_a_buffer_goes_with_the_process)
{
	uint64_t frames[FRAMES_MAX];
	int pipes[2];
	size_t nr;

	device_warm_up();
	pagetype_require();
	ASSERT_EQ(0, pipe(pipes));
	IN_CHILD {
		Handle buffer = buffer_create(0, PAGES(5),
					      DMA_ATTR_CACHE_DISABLE), mapping;

		buffer_map(buffer, PAGES(5), &mapping);
		nr = frames_of(buffer, frames);
		expect_linear(frames, nr, "UC-");
		ASSERT_EQ(sizeof(nr), write(pipes[1], &nr, sizeof(nr)));
		ASSERT_EQ(nr * 8, write(pipes[1], frames, nr * 8));
	}
	ASSERT_EQ(sizeof(nr), read(pipes[0], &nr, sizeof(nr)));
	ASSERT_LE(nr, FRAMES_MAX);
	ASSERT_EQ(nr * 8, read(pipes[0], frames, nr * 8));
	for (int i = 0; i < 100; i++) {
		bool all = true;

		for (size_t k = 0; k < nr; k++)
			all = all && !strcmp("WB", pagetype_linear(frames[k] *
							PAGE_SIZE).type);
		if (all)
			break;
		usleep(20 * 1000);
	}
	expect_linear(frames, nr, "WB");
}

/* ---- large BARs ---- */

FIXTURE(large)
{
	struct pci pci;
	struct pci_bar bar;
	size_t size;
	Handle region, mapping;
	volatile uint8_t *addr;
};

FIXTURE_VARIANT(large)
{
	int n;
};

FIXTURE_VARIANT_ADD(large, first) { .n = 0 };
FIXTURE_VARIANT_ADD(large, second) { .n = 1 };

static void large_map(struct fixture_data_large *self, uint32_t attr)
{
	void *addr;

	ASSERT_OK(KnIoMapMem(self->region, VMM_READ_WRITE, attr, &addr,
			     &self->mapping));
	self->addr = addr;
}

FIXTURE_SETUP(large)
{
	probe_require_module();
	pagetype_require();
	pci_require(&self->pci, PCI_TESTDEV, variant->n, "pci-testdev");
	pci_require_bar(&self->pci, TESTDEV_MEMORY, &self->bar);
	self->size = self->bar.last + 1 - self->bar.start;
	ASSERT_OK(KnRegisterPhyMem(self->bar.start, self->size, 0,
				   &self->region));
	self->mapping = NONE;
}

FIXTURE_TEARDOWN(large)
{
	const char *type;

	if (self->mapping != NONE)
		EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(self->region));
	EXPECT_EQ(0, pagetype_list(self->bar.start, self->bar.last, &type));
}

TEST_F(large, bar_is_mapped_at_once)
{
	for (size_t i = 0; i < 2; i++) {
		const struct memtype *t = &memtypes[i];

		test_context("%s", t->name);
		large_map(self, t->attr);
		/* Before any touch. */
		for (size_t at = 0; at < self->size; at += self->size / 16) {
			struct pagetype page = pagetype_of(self->addr + at);

			EXPECT_EQ(LEVEL_4K, page.level);
			EXPECT_STREQ(t->type, page.type);
		}
		EXPECT_EQ(LEVEL_4K,
			  pagetype_of(self->addr + self->size - 1).level);
		EXPECT_EQ(0, probe_read(self->addr));
		EXPECT_EQ(0, probe_write(self->addr + self->size - 1));
		EXPECT_EQ(0, probe_read(self->addr + self->size / 2));
		EXPECT_EQ(LEVEL_NONE,
			  pagetype_of(self->addr + self->size).level);
		EXPECT_OK(KnHandleClose(self->mapping));
		EXPECT_EQ(SIGSEGV, probe_read(self->addr));
		EXPECT_EQ(SIGSEGV, probe_read(self->addr + self->size - 1));
		self->mapping = NONE;
	}
	test_context("%s", "");
}

/*
 * mbind() takes the frame of a large entry for memory that has a struct page, and
 * registers have none: a kernel that maps them so dies of this.
 */
TEST_F(large, a_memory_policy_finds_no_memory)
{
	enum { MPOL_BIND = 2, MPOL_MF_STRICT = 1, MPOL_MF_MOVE = 2 };
	unsigned long nodes = 1;

	if (access("/proc/self/numa_maps", F_OK))
		SKIP("needs a kernel with NUMA");
	large_map(self, VMM_FLAG_WRITE_COMBINE);
	for (size_t len = PAGE; len <= MiB(4); len *= 2)
		for (unsigned int flags = 0; flags <= (MPOL_MF_STRICT | MPOL_MF_MOVE); flags++)
			syscall(SYS_mbind, self->addr, len, MPOL_BIND, &nodes, 2UL, flags);
	EXPECT_EQ(0, probe_write(self->addr));
	EXPECT_EQ(0, probe_write(self->addr + self->size - 1));
}

static void expect_gone(struct fixture_data_large *self)
{
	EXPECT_EQ(LEVEL_NONE, pagetype_of(self->addr).level);
	EXPECT_EQ(LEVEL_NONE, pagetype_of(self->addr + self->size - 1).level);
	EXPECT_EQ(SIGBUS, probe_read(self->addr));
	EXPECT_EQ(SIGBUS, probe_write(self->addr + self->size / 2));
	EXPECT_EQ(SIGBUS, probe_read(self->addr + self->size - 1));
}

TEST_F(large, revoke_takes_the_map_away_at_once)
{
	Handle copy;
	void *addr;

	ASSERT_OK(KnHandleCopy(self->region, OCAP_MMIO_FULL, NONE, &copy));
	ASSERT_OK(KnIoMapMem(copy, VMM_READ_WRITE, 0, &addr, &self->mapping));
	self->addr = addr;
	EXPECT_EQ(0, probe_read(self->addr));
	EXPECT_OK(KnHandleRevokeEx(self->region, rtl_false));
	expect_gone(self);
	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(copy));
	large_map(self, VMM_FLAG_WRITE_COMBINE);
	EXPECT_EQ(0, probe_read(self->addr));
}

/* The device goes, by unbinding it or out of the machine, and comes back. */
static void check_goes(struct fixture_data_large *self, bool unplugged)
{
	Handle mapping = POISON_HANDLE, again;
	void *addr = POISON_PTR;
	struct pci_bar bar;
	const char *type;

	large_map(self, 0);
	EXPECT_EQ(0, probe_read(self->addr));
	if (unplugged)
		pci_remove(&self->pci);
	else
		pci_unbind(&self->pci);
	expect_gone(self);
	EXPECT_EQ(0, pagetype_list(self->bar.start, self->bar.last, &type));
	EXPECT_FALSE(probe_iomem(self->bar.start, self->bar.last, "kosdma"));
	/* Even if the mapping is closed now, the region's device is gone. */
	EXPECT_OK(KnHandleClose(self->mapping));
	self->mapping = NONE;
	EXPECT_RC(rcDeviceNotFound, KnIoMapMem(self->region, VMM_FLAG_READ, 0,
					       &addr, &mapping));
	EXPECT_NULL(addr);
	EXPECT_EQ(NONE, mapping);

	if (unplugged)
		pci_rescan();
	pci_require_bar(&self->pci, TESTDEV_MEMORY, &bar);
	self->bar = bar;
	/* The old handle is open, and in nobody's way. */
	ASSERT_OK(KnRegisterPhyMem(bar.start, self->size, 0, &again));
	EXPECT_RC(rcDeviceNotFound, KnIoMapMem(self->region, VMM_FLAG_READ, 0,
					       &addr, &mapping));
	ASSERT_OK(KnIoMapMem(again, VMM_READ_WRITE, VMM_FLAG_WRITE_COMBINE,
			     &addr, &mapping));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(self->region));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_TRUE(probe_iomem(bar.start, bar.last, "kosdma"));
	EXPECT_OK(KnHandleClose(mapping));
	self->region = again;
}

TEST_F(large, unbinding_takes_the_map_away_at_once)
{
	check_goes(self, false);
}

TEST_F(large, unplugging_takes_the_map_away_at_once)
{
	check_goes(self, true);
}

TEST_HARNESS_MAIN
