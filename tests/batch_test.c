// SPDX-License-Identifier: GPL-2.0-only
/* Many accesses in one call: all or none begin, and all that can be are closed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define POISON ((Handle)0x12345)

enum { SOME = 5 };

FIXTURE(batch) {
	struct edu edu;
	bool have_edu;
	Handle buffer[SOME]; /* of different sizes */
	KosDmaBeginItem items[KOS_BATCH_MAX + 1];
	Handle handles[KOS_BATCH_MAX + 1];
	int fds;
};

FIXTURE_SETUP(batch)
{
	static const size_t pages[SOME] = { 1, 3, 1024, 16, 515 };

	device_warm_up();
	self->have_edu = edu_find(&self->edu, 0);
	if (self->have_edu)
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	for (int i = 0; i < SOME; i++)
		self->buffer[i] = buffer_create(0, PAGES(pages[i]), 0);
	self->fds = probe_nr_fds();
}

/* Nothing begun is left: the cache type could not be changed otherwise. */
static void expect_unused(struct fixture_data_batch *self)
{
	EXPECT_EQ(self->fds, probe_nr_fds());
	/* Without an IOMMU the pages linger until the device has gone. */
	if (self->have_edu && !machine_translates())
		return;
	for (int i = 0; i < SOME; i++)
		EXPECT_OK(KnIoDmaModify(self->buffer[i], 0));
}

FIXTURE_TEARDOWN(batch)
{
	if (self->have_edu)
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	self->have_edu = false;
	expect_unused(self);
	for (int i = 0; i < SOME; i++)
		EXPECT_OK(KnHandleClose(self->buffer[i]));
}

static void fill(struct fixture_data_batch *self, size_t count)
{
	for (size_t i = 0; i < count; i++)
		self->items[i] = (KosDmaBeginItem){
			.rid = self->buffer[i % SOME],
			.handle = POISON,
			.addr = 1,
		};
}

static void begin_many(struct fixture_data_batch *self, Handle domain,
		       size_t count)
{
	rtl_size_t failed = 12345;

	fill(self, count);
	ASSERT_OK(KosDmaBeginMany(domain, self->items, count, &failed));
	EXPECT_EQ(count, failed);
	for (size_t i = 0; i < count; i++) {
		EXPECT_EQ(self->buffer[i % SOME], self->items[i].rid);
		self->handles[i] = self->items[i].handle;
	}
}

/* The call fails so, names that item, and changes nothing. */
static void expect_begin(struct fixture_data_batch *self, Retcode rc,
			 Handle domain, size_t count, size_t item)
{
	rtl_size_t failed = 12345;
	int fds = probe_nr_fds();

	EXPECT_RC(rc, KosDmaBeginMany(domain, self->items, count, &failed));
	EXPECT_EQ(item, failed);
	EXPECT_EQ(fds, probe_nr_fds());
	for (size_t i = 0; i < count; i++) {
		EXPECT_EQ(INVALID_HANDLE, self->items[i].handle);
		EXPECT_EQ(0, self->items[i].addr);
	}
}

/* ---- begin ---- */

TEST_F(batch, each_item_is_an_access_of_its_own)
{
	for (size_t count = 1; count <= KOS_BATCH_MAX; count += 51) {
		begin_many(self, NONE, count);
		EXPECT_EQ(self->fds + (int)count, probe_nr_fds());
		for (size_t i = 0; i < count; i++) {
			DmaInfo *info = buffer_info(self->handles[i]);
			DmaAddr addr = 0;
			Retcode rc = KnIoDmaContinuousGetDmaAddr(
				self->handles[i], &addr);

			EXPECT_TRUE(rc == rcOk || rc == rcInvalidOperation);
			EXPECT_EQ(addr, self->items[i].addr);
			KosMemFree(info);
			for (size_t j = 0; machine_translates() && j < i; j++)
				EXPECT_NE(addr, self->items[j].addr);
		}
		EXPECT_OK(KosHandleCloseMany(self->handles, count));
		EXPECT_EQ(self->fds, probe_nr_fds());
	}
}

TEST_F(batch, small_buffers_lie_back_to_back_before_one_guard_page)
{
	DmaAddr first, other;
	Handle access;

	if (!self->have_edu || !machine_translates())
		SKIP("no IOMMU");
	for (int i = 0; i < 64; i++)
		self->items[i].rid = self->buffer[0];
	ASSERT_OK(KosDmaBeginMany(NONE, self->items, 64, NULL));
	first = self->items[0].addr;
	for (int i = 0; i < 64; i++) {
		self->handles[i] = self->items[i].handle;
		EXPECT_EQ(first + PAGES(i), self->items[i].addr);
		EXPECT_EQ(first + PAGES(i), access_addr(self->handles[i]));
	}
	access = access_begin(self->buffer[0]);
	other = access_addr(access);
	EXPECT_TRUE(other + PAGE < first || other > first + PAGES(64));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KosHandleCloseMany(self->handles, 64));
}

TEST_F(batch, the_count_is_bounded)
{
	static const size_t counts[] = { 0, KOS_BATCH_MAX + 1, SIZE_MAX };
	struct kosdma_access_begin_many begin = {
		.size = sizeof(begin),
		.items = (uintptr_t)self->items,
		.domain = KOSDMA_NO_HANDLE,
	};
	struct kosdma_handle_close_many close = {
		.size = sizeof(close),
		.handles = (uintptr_t)self->handles,
	};

	fill(self, KOS_BATCH_MAX + 1);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		rtl_size_t failed = 12345;

		EXPECT_RC(rcInvalidArgument,
			  KosDmaBeginMany(NONE, self->items, counts[i],
					  &failed));
		EXPECT_EQ(counts[i], failed);
		EXPECT_EQ(POISON, self->items[0].handle);
		self->handles[0] = self->buffer[0];
		EXPECT_RC(rcInvalidArgument,
			  KosHandleCloseMany(self->handles, counts[i]));
		begin.count = counts[i];
		EXPECT_ERRNO(EINVAL,
			     probe_ioctl(KOSDMA_ACCESS_BEGIN_MANY, &begin));
		close.count = counts[i];
		EXPECT_ERRNO(EINVAL,
			     probe_ioctl(KOSDMA_HANDLE_CLOSE_MANY, &close));
	}
	EXPECT_RC(rcInvalidArgument, KosDmaBeginMany(NONE, NULL, 1, NULL));
	EXPECT_RC(rcInvalidArgument, KosHandleCloseMany(NULL, 1));
}

TEST_F(batch, begin_is_all_or_nothing_wherever_an_item_is_wrong)
{
	Handle weak = buffer_copy(self->buffer[0],
				  OCAP_DMA_READ | OCAP_DMA_WRITE);
	Handle nothing = buffer_copy(self->buffer[0], OCAP_DMA_BEGIN);
	Handle parent = buffer_copy(self->buffer[0],
				    OCAP_DMA_FULL | OCAP_HANDLE_COPY);
	Handle revoked = buffer_copy(parent, OCAP_DMA_FULL);
	Handle access = access_begin(self->buffer[1]);
	Handle closed = buffer_copy(self->buffer[0], OCAP_DMA_FULL);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct {
		Handle handle;
		Retcode rc;
	} wrong[] = {
		{ weak, rcNoCapability },
		{ nothing, rcNoCapability },
		{ revoked, rcHandleRevoked },
		{ access, rcInvalidArgument },
		{ closed, rcResourceNotFound },
		{ null, rcResourceNotFound },
		{ NONE, rcResourceNotFound },
	};

	ASSERT_OK(KnHandleRevokeEx(parent, rtl_false));
	ASSERT_OK(KnHandleClose(closed));
	for (size_t w = 0; w < ARRAY_SIZE(wrong); w++)
		for (size_t at = 0; at < 64; at += 21) {
			test_context("wrong %zu at %zu", w, at);
			fill(self, 64);
			self->items[at].rid = wrong[w].handle;
			expect_begin(self, wrong[w].rc, NONE, 64, at);
		}
	test_context("%s", "");
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(revoked));
	EXPECT_OK(KnHandleClose(parent));
	EXPECT_OK(KnHandleClose(nothing));
	EXPECT_OK(KnHandleClose(weak));
	close(null);
}

TEST_F(batch, the_domain_is_nobodys_fault)
{
	Handle gone = domain_create();

	ASSERT_OK(KnHandleClose(gone));
	fill(self, 3);
	expect_begin(self, rcResourceNotFound, gone, 3, 3);
	expect_begin(self, rcInvalidArgument, self->buffer[0], 3, 3);
}

TEST_F(batch, a_domain_of_its_own)
{
	Handle domain = domain_create();

	begin_many(self, domain, 7);
	for (int i = 0; i < 7; i++)
		EXPECT_EQ(0, self->items[i].addr);
	EXPECT_OK(KosHandleCloseMany(self->handles, 7));
	EXPECT_OK(KnHandleClose(domain));
}

TEST_F(batch, a_full_window_undoes_what_had_found_room)
{
	/* Pages 1 to 3, back to back. */
	const uint64_t mask = PAGES(4) - 1;

	if (!self->have_edu || !machine_translates())
		SKIP("no IOMMU");
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, mask));
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 4; i++)
			self->items[i].rid = self->buffer[0];
		/* Nor one by one: then there is a guard behind each. */
		expect_begin(self, rcQuotaExceeded, NONE, 4, 2);
		ASSERT_OK(KosDmaBeginMany(NONE, self->items, 3, NULL));
		for (int i = 0; i < 3; i++) {
			EXPECT_EQ(PAGES(1 + i), self->items[i].addr);
			self->handles[i] = self->items[i].handle;
		}
		EXPECT_OK(KosHandleCloseMany(self->handles, 3));
	}
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
}

TEST_F(batch, no_descriptor_left_undoes_what_had_one)
{
	struct rlimit old, few;
	int first = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(first);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	few = old;
	few.rlim_cur = first + 10;
	fill(self, 20);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
	EXPECT_RC(rcQuotaExceeded,
		  KosDmaBeginMany(NONE, self->items, 20, NULL));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	expect_unused(self);
}

TEST_F(batch, memory_that_cannot_be_read_or_written)
{
	KosDmaBeginItem *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	KosDmaBeginItem *last = (void *)((char *)page + PAGE -
					 2 * sizeof(*page));
	struct kosdma_access_begin_many begin = {
		.size = sizeof(begin),
		.count = 4,
		.domain = KOSDMA_NO_HANDLE,
		.out_failed = 77,
	};
	struct kosdma_handle_close_many close = {
		.size = sizeof(close),
		.count = 4,
	};

	ASSERT_NE(MAP_FAILED, (void *)page);
	for (int i = 0; i < 4; i++)
		last[i].rid = self->buffer[i];
	/* Readable, but the second half cannot be written. */
	ASSERT_EQ(0, mprotect((char *)page + PAGE, PAGE, PROT_READ));
	begin.items = (uintptr_t)last;
	EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_ACCESS_BEGIN_MANY, &begin));
	expect_unused(self);
	ASSERT_EQ(0, mprotect((char *)page + PAGE, PAGE, PROT_NONE));
	EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_ACCESS_BEGIN_MANY, &begin));
	EXPECT_EQ(77, begin.out_failed);
	expect_unused(self);
	/* Nothing is closed if the list cannot be read to its end. */
	for (int i = 0; i < 2; i++)
		((int32_t *)last)[2 + i] = self->buffer[i];
	close.handles = (uintptr_t)last + 2 * sizeof(*page) -
			2 * sizeof(int32_t);
	EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_HANDLE_CLOSE_MANY, &close));
	expect_unused(self);
	munmap(page, 2 * PAGE);
}

/* ---- close ---- */

TEST_F(batch, close_takes_handles_of_every_kind)
{
	Handle domain = domain_create(), mapping, badge;
	volatile uint8_t *mem = buffer_map(self->buffer[0], PAGE, &mapping);
	Handle copy = buffer_copy(self->buffer[0], OCAP_DMA_FULL);

	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
	begin_many(self, NONE, 2);
	self->handles[2] = mapping;
	self->handles[3] = access_begin_in(self->buffer[3], domain);
	self->handles[4] = access_begin(self->buffer[2]);
	self->handles[5] = domain;
	self->handles[6] = copy;
	self->handles[7] = badge;
	EXPECT_OK(KosHandleCloseMany(self->handles, 8));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
}

TEST_F(batch, a_wrong_handle_keeps_no_other_from_being_closed)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	begin_many(self, NONE, 6);
	self->handles[6] = self->handles[2]; /* a second time */
	self->handles[7] = self->handles[0];
	self->handles[0] = null;
	self->handles[8] = NONE;
	EXPECT_RC(rcResourceNotFound, KosHandleCloseMany(self->handles, 9));
	EXPECT_TRUE(probe_is_open(null));
	close(null);
	EXPECT_EQ(self->fds, probe_nr_fds());
	/* Once more: none is left. */
	EXPECT_RC(rcResourceNotFound, KosHandleCloseMany(self->handles, 9));
}

TEST_F(batch, closing_ends_what_other_descriptors_name)
{
	Handle dup;

	begin_many(self, NONE, 3);
	dup = fcntl(self->handles[1], F_DUPFD_CLOEXEC, 0);
	EXPECT_OK(KosHandleCloseMany(self->handles, 3));
	EXPECT_EQ(EBADF, probe_handle(dup, NULL, NULL));
	EXPECT_OK(KosHandleCloseMany(&dup, 1));
}

TEST_F(batch, another_process_closes_descriptors_only)
{
	int status;
	pid_t pid;

	begin_many(self, NONE, 3);
	pid = fork();
	if (!pid) {
		int fds = probe_nr_fds();

		_exit(KosHandleCloseMany(self->handles, 3) == rcOk &&
			      probe_nr_fds() == fds - 3 ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, probe_handle(self->handles[i], NULL, NULL));
	EXPECT_OK(KosHandleCloseMany(self->handles, 3));
}

TEST_F(batch, devices_are_cut_off_when_it_returns)
{
	enum { NR = 8 };
	struct begun from, b[NR];
	KosDmaBeginItem items[NR];
	Handle again[NR];

	if (!self->have_edu || !machine_translates())
		SKIP("no IOMMU");
	ASSERT_OK(edu_map_registers(&self->edu));
	begun_open(&from, PAGE, NONE);
	/* Of several sizes, so that the IOMMU uses entries of several sizes. */
	for (int i = 0; i < NR; i++) {
		begun_open(&b[i], i & 1 ? MiB(2) : PAGE, NONE);
		items[i].rid = b[i].buffer;
	}
	ASSERT_OK(KosDmaBeginMany(NONE, items, NR, NULL));
	for (int i = 0; i < NR; i++) {
		EXPECT_TRUE(probe_lands(&self->edu, &from, items[i].addr + 64,
					b[i].mem + 64));
		again[i] = items[i].handle;
	}
	EXPECT_OK(KosHandleCloseMany(again, NR));
	for (int i = 0; i < NR; i++) {
		EXPECT_FALSE(probe_lands(&self->edu, &from, items[i].addr + 64,
					 b[i].mem + 64));
		/* The other access of the same buffer goes on. */
		EXPECT_TRUE(probe_lands(&self->edu, &from, b[i].addr + 128,
					b[i].mem + 128));
	}
	for (int i = 0; i < NR; i++)
		begun_close(&b[i]);
	begun_close(&from);
	edu_unmap_registers(&self->edu);
}

/* ---- without an IOMMU ---- */

/*
 * Two that devices see above @mask, and one below it: buffers are made until
 * there are. Each has been begun, and is not any more when the device has left.
 */
struct above_and_below {
	Handle buffer[280];
	size_t count;
	Handle above[2];
	Handle below;
	uint64_t mask;
};

static bool above_and_below(struct above_and_below *s)
{
	/* The guest's memory ends below 2 GiB. */
	s->mask = ((uint64_t)1 << 30) - 1;
	s->below = NONE;
	for (size_t above = 0; s->count < ARRAY_SIZE(s->buffer);) {
		Handle buffer = NONE, access;
		DmaAddr addr;

		if (KnIoDmaCreate(10, MiB(4), DMA_DIR_BIDIR, &buffer) != rcOk)
			return false;
		s->buffer[s->count++] = buffer;
		access = access_begin(buffer);
		ASSERT_OK(KnIoDmaContinuousGetDmaAddr(access, &addr));
		EXPECT_OK(KnHandleClose(access));
		if (addr + MiB(4) - 1 <= s->mask)
			s->below = buffer;
		else if (addr > s->mask && above < 2)
			s->above[above++] = buffer;
		if (above == 2 && s->below != NONE)
			return true;
	}
	return false;
}

TEST_F_TIMEOUT(batch, without_an_iommu_each_address_is_checked, 120)
{
	struct above_and_below s = { 0 };
	bool found;

	if (!self->have_edu || machine_translates())
		SKIP("needs a device without IOMMU");
	found = above_and_below(&s);
	if (found) {
		/* What was begun lingers until the device has left. */
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
		EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, s.mask));
		self->items[0].rid = s.below;
		self->items[1].rid = s.above[0];
		self->items[2].rid = s.above[1];
		self->fds = probe_nr_fds();
		expect_begin(self, rcQuotaExceeded, NONE, 3, 1);
	}
	for (size_t i = 0; i < s.count; i++)
		EXPECT_OK(KnHandleClose(s.buffer[i]));
	self->fds = probe_nr_fds();
	if (!found)
		SKIP("memory is all above or below 1 GiB");
}

/* The debug kernel sees what was not mapped but unmapped, or freed and used. */
TEST_F(batch, without_an_iommu_members_end_one_by_one)
{
	if (!self->have_edu || machine_translates())
		SKIP("needs a device without IOMMU");
	for (int round = 0; round < 3; round++) {
		Handle some[] = { 2, 5, 6 };

		begin_many(self, NONE, 8);
		for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
			EXPECT_OK(KnHandleClose(self->handles[some[i]]));
			self->handles[some[i]] = NONE;
		}
		for (int i = 0; i < 8; i++)
			if (self->handles[i] != NONE)
				EXPECT_OK(KnHandleClose(self->handles[i]));
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	}
}

/* ---- one by one ---- */

enum { MEMBERS = 8 };

/* Buffers, begun together, and one that the device copies from. */
FIXTURE(members) {
	struct edu edu;
	struct begun from;
	Handle buffer[MEMBERS];
	Handle mapping[MEMBERS];
	volatile uint8_t *mem[MEMBERS];
	KosDmaBeginItem items[MEMBERS];
	bool open[MEMBERS];
};

FIXTURE_SETUP(members)
{
	edu_require(&self->edu, 0);
	edu_require_translation(&self->edu);
	edu_open(&self->edu, 0);
	begun_open(&self->from, PAGE, NONE);
	for (int i = 0; i < MEMBERS; i++) {
		self->buffer[i] = buffer_create(0, PAGE, DMA_DIR_BIDIR);
		self->mem[i] = buffer_map(self->buffer[i], PAGE,
					  &self->mapping[i]);
	}
}

FIXTURE_TEARDOWN(members)
{
	for (int i = 0; i < MEMBERS; i++) {
		if (self->open[i])
			EXPECT_OK(KnHandleClose(self->items[i].handle));
		EXPECT_OK(KnHandleClose(self->mapping[i]));
		/* Not begun any more. */
		EXPECT_OK(KnIoDmaModify(self->buffer[i], 0));
		EXPECT_OK(KnHandleClose(self->buffer[i]));
	}
	begun_close(&self->from);
	edu_unmap_registers(&self->edu);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

static void members_begin(struct fixture_data_members *self)
{
	for (int i = 0; i < MEMBERS; i++)
		self->items[i].rid = self->buffer[i];
	ASSERT_OK(KosDmaBeginMany(NONE, self->items, MEMBERS, NULL));
	for (int i = 0; i < MEMBERS; i++) {
		EXPECT_EQ(self->items[0].addr + PAGES(i), self->items[i].addr);
		self->open[i] = true;
	}
}

/* Close those whose bits are set, in one call. */
static void members_close(struct fixture_data_members *self, unsigned int set)
{
	Handle handles[MEMBERS];
	size_t count = 0;

	for (int i = 0; i < MEMBERS; i++) {
		if (!(set & 1U << i))
			continue;
		handles[count++] = self->items[i].handle;
		self->open[i] = false;
	}
	EXPECT_OK(KosHandleCloseMany(handles, count));
}

/* The device reaches those that are open, each where it said, and no other. */
static void members_check(struct fixture_data_members *self)
{
	for (int i = 0; i < MEMBERS; i++) {
		test_context("member %d", i);
		EXPECT_EQ(self->open[i],
			  probe_lands(&self->edu, &self->from,
				      self->items[i].addr + 100,
				      self->mem[i] + 100));
	}
	test_context("%s", "");
}

TEST_F_TIMEOUT(members, some_end_and_the_others_go_on, 120)
{
	/* What is closed first, and then. */
	static const unsigned int sets[][2] = {
		{ 0x01, 0x80 }, { 0x80, 0x7e }, { 0x18, 0x24 }, { 0x55, 0xa0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		members_begin(self);
		members_check(self);
		members_close(self, sets[i][0]);
		members_check(self);
		members_close(self, sets[i][1]);
		members_check(self);
		members_close(self, 0xff & ~(sets[i][0] | sets[i][1]));
		members_check(self);
	}
}

/*
 * Neighbours in memory become neighbours for devices, aligned alike: the IOMMU's
 * driver could join them to a larger page, and then neither ends alone.
 */
TEST_F_TIMEOUT(members, neighbours_in_memory_end_one_by_one, 120)
{
	enum { NR = 2048 };
	static Handle pool[NR];
	static uint64_t frames[NR];
	struct rlimit files = { NR + 100, NR + 100 };
	Handle old[MEMBERS];
	uint64_t first, run = 0;
	int found = 0;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	members_begin(self);
	first = self->items[0].addr >> PAGE_SHIFT;
	members_close(self, 0xff);
	for (int i = 0; i < NR; i++) {
		pool[i] = buffer_create(0, PAGE, DMA_DIR_BIDIR);
		frames[i] = buffer_frame(pool[i]);
	}
	/* A run of frames that lies to larger pages as the addresses do. */
	for (int i = 0; i < NR && found < MEMBERS; i++) {
		if ((frames[i] - first) % MEMBERS)
			continue;
		run = frames[i];
		found = 0;
		for (int j = 0; j < NR; j++)
			found += frames[j] - run < MEMBERS;
	}
	for (int i = 0; i < MEMBERS; i++)
		old[i] = self->buffer[i];
	for (int i = 0; found == MEMBERS && i < NR; i++) {
		uint64_t at = frames[i] - run;

		if (at >= MEMBERS)
			continue;
		EXPECT_OK(KnHandleClose(self->mapping[at]));
		self->buffer[at] = pool[i];
		self->mem[at] = buffer_map(pool[i], PAGE, &self->mapping[at]);
		pool[i] = old[at];
	}
	if (found == MEMBERS) {
		members_begin(self);
		EXPECT_EQ(first, self->items[0].addr >> PAGE_SHIFT);
		members_close(self, 0x55);
		members_check(self);
		members_close(self, 0x82);
		members_check(self);
		members_close(self, 0x28);
	}
	for (int i = 0; i < NR; i++)
		EXPECT_OK(KnHandleClose(pool[i]));
	if (found < MEMBERS)
		SKIP("memory is in pieces: no %d pages in a row", MEMBERS);
}

TEST_F(members, one_is_revoked)
{
	Handle parent = self->buffer[3];

	self->buffer[3] = buffer_copy(parent, OCAP_DMA_FULL);
	members_begin(self);
	ASSERT_OK(KnHandleRevokeEx(parent, rtl_false));
	self->open[3] = false;
	members_check(self);
	EXPECT_EQ(EKEYREVOKED, probe_handle(self->items[3].handle, NULL, NULL));
	EXPECT_OK(KnHandleClose(self->items[3].handle));
	EXPECT_OK(KnHandleClose(self->buffer[3]));
	self->buffer[3] = parent;
}

TEST_F(members, the_device_leaves_and_comes_again)
{
	members_begin(self);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	members_close(self, 0x0c);
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	members_check(self);
	members_close(self, 0xf3);
	members_check(self);

	members_begin(self);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	members_check(self);
	members_close(self, 0xff);
	members_check(self);
}

TEST_F(members, the_domain_ends_while_they_are_open)
{
	Handle domain = domain_create();

	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
	for (int i = 0; i < MEMBERS; i++)
		self->items[i].rid = self->buffer[i];
	ASSERT_OK(KosDmaBeginMany(domain, self->items, MEMBERS, NULL));
	EXPECT_OK(KnHandleClose(self->items[2].handle));
	EXPECT_OK(KnHandleClose(domain));
	/* They are closed at the end: first of all they reach nobody. */
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	members_check(self);
	for (int i = 0; i < MEMBERS; i++)
		self->open[i] = i != 2;
}

TEST_F(members, the_place_of_one_is_used_again)
{
	Handle one, another;

	/* Room for all of them, and the one that is there, with its guard. */
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, PAGES(16) - 1));
	members_begin(self);
	members_close(self, 0x1c);
	one = access_begin(self->buffer[7]);
	EXPECT_EQ(self->items[2].addr, access_addr(one));
	another = access_begin(self->buffer[7]);
	EXPECT_LT(self->items[7].addr + PAGE, access_addr(another));
	members_check(self);
	EXPECT_OK(KnHandleClose(another));
	EXPECT_OK(KnHandleClose(one));
	members_close(self, 0xe3);
	members_begin(self);
	members_check(self);
	members_close(self, 0xff);
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
}

TEST_F(members, what_devices_may_do_is_said_by_each_ones_rights)
{
	Handle full = self->buffer[4];

	/* Not to be written: a span of its own, or none. */
	self->buffer[4] = buffer_copy(full, OCAP_DMA_BEGIN | OCAP_DMA_READ);
	for (int i = 0; i < MEMBERS; i++) {
		self->items[i].rid = self->buffer[i];
		self->open[i] = i != 4;
	}
	ASSERT_OK(KosDmaBeginMany(NONE, self->items, MEMBERS, NULL));
	members_check(self);
	members_close(self, 0xff);
	members_check(self);
	EXPECT_OK(KnHandleClose(self->buffer[4]));
	self->buffer[4] = full;
}

/* ---- killed in the middle ---- */

TEST_F_TIMEOUT(batch, killed_at_any_point_it_leaves_nothing, 120)
{
	long pages = probe_quarantined();

	for (int round = 0; round < 40; round++) {
		int status;
		pid_t pid = fork();

		if (!pid) {
			/* A process of its own: the parent has the device. */
			for (;;) {
				fill(self, KOS_BATCH_MAX);
				if (KosDmaBeginMany(NONE, self->items,
						    KOS_BATCH_MAX, NULL) !=
				    rcOk)
					_exit(1);
				for (int i = 0; i < KOS_BATCH_MAX; i++)
					self->handles[i] =
						self->items[i].handle;
				if (KosHandleCloseMany(self->handles,
						       KOS_BATCH_MAX) != rcOk)
					_exit(2);
			}
		}
		usleep(500 * round);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
	}
	EXPECT_EQ(pages, probe_quarantined());
	/* All accesses are gone when the last dead process is torn down. */
	for (int i = 0; i < SOME; i++) {
		Retcode rc = rcFail;

		for (int patience = 0; rc != rcOk && patience < 1000; patience++) {
			usleep(10000);
			rc = KnIoDmaModify(self->buffer[i], 0);
		}
		EXPECT_RC(rcOk, rc);
	}
}

TEST_HARNESS_MAIN
