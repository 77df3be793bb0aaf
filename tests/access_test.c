// SPDX-License-Identifier: GPL-2.0-only
/* Begin objects: when a buffer has addresses, which, and for whom. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define POISON ((Handle)0x12345)

static void expect_begin(Retcode expected, Handle buffer)
{
	int fds = probe_nr_fds();
	Handle access = POISON;

	EXPECT_RC(expected, KnIoDmaBegin(buffer, &access));
	EXPECT_EQ(INVALID_HANDLE, access);
	EXPECT_EQ(fds, probe_nr_fds());
}

static void expect_begin_ex(Retcode expected, Handle buffer, Handle domain)
{
	int fds = probe_nr_fds();
	Handle access = POISON;

	EXPECT_RC(expected, KnIoDmaBeginEx(buffer, domain, &access));
	EXPECT_EQ(INVALID_HANDLE, access);
	EXPECT_EQ(fds, probe_nr_fds());
}

/* That no device can reach it yet, or any more. */
static void expect_no_addresses(Handle handle, size_t size, uint32_t order)
{
	DmaInfo *info = buffer_info(handle);
	DmaAddr addr = 1;

	EXPECT_EQ(0, info->count);
	EXPECT_EQ(order, info->orderMin);
	EXPECT_EQ(size, info->size);
	KosMemFree(info);
	EXPECT_RC(rcInvalidOperation, KnIoDmaContinuousGetDmaAddr(handle,
								  &addr));
	EXPECT_EQ(0, addr);
}

static bool info_equal(Handle a, Handle b)
{
	DmaInfo *one = buffer_info(a), *two = buffer_info(b);
	bool equal = one->flags == two->flags && one->size == two->size &&
		     one->orderMin == two->orderMin &&
		     one->count == two->count &&
		     !memcmp(one->descriptors, two->descriptors,
			     one->count * sizeof(one->descriptors[0]));

	KosMemFree(one);
	KosMemFree(two);
	return equal;
}

/* First address and the end of the listed blocks, lowest to highest. */
static void access_range(Handle access, uint64_t *start, uint64_t *end)
{
	DmaInfo *info = buffer_info(access);

	*start = UINT64_MAX;
	*end = 0;
	for (size_t i = 0; i < info->count; i++) {
		uint64_t first = (uint64_t)info->descriptors[i].frame
				 << PAGE_SHIFT;
		uint64_t last = first +
				(PAGE_SIZE << info->descriptors[i].order);

		if (first < *start)
			*start = first;
		if (last > *end)
			*end = last;
	}
	KosMemFree(info);
}

/* ---- the descriptor ---- */

static void leave_flag(int fd)
{
	ASSERT_ERRNO(0, fcntl(fd, F_SETFL, O_NONBLOCK));
}

static void leave_owner(int fd)
{
	ASSERT_ERRNO(0, fcntl(fd, F_SETOWN, getpid()));
}

static void leave_signal(int fd)
{
	ASSERT_ERRNO(0, fcntl(fd, F_SETSIG, SIGUSR1));
}

static void leave_lock(int fd)
{
	ASSERT_ERRNO(0, flock(fd, LOCK_SH | LOCK_NB));
}

static int epoll = -1;

static void leave_epoll(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	ASSERT_ERRNO(0, epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

static void leave_copy(int fd)
{
	/* Closed by the next close of all. */
	ASSERT_GE(fcntl(fd, F_DUPFD_CLOEXEC, 500), 500);
}

static void leave_nothing(int fd)
{
	(void)fd;
}

/* The kernel may use the file of an old handle again, but nobody must see it. */
TEST(a_new_access_knows_nothing_of_an_old_one)
{
	static void (*const leave[])(int fd) = {
		leave_nothing, leave_flag,  leave_owner, leave_signal,
		leave_lock,    leave_epoll, leave_copy,
	};
	const struct timespec no_time = { 0 };
	Handle buffer, access, other, many[3];
	struct epoll_event event;

	device_warm_up();
	buffer = buffer_create(0, PAGE_SIZE, 0);
	other = access_begin(buffer);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_GE(epoll, 0);
	for (size_t round = 0; round < 3 * ARRAY_SIZE(leave); round++) {
		size_t i = round % ARRAY_SIZE(leave);
		uint32_t type = 0;

		test_context("%zu", i);
		for (int j = 0; j < 3; j++) {
			many[j] = access_begin(buffer);
			leave[i](many[j]);
		}
		if (round & 1)
			EXPECT_OK(KosHandleCloseMany(many, 3));
		for (int j = 0; !(round & 1) && j < 3; j++)
			EXPECT_OK(KnHandleClose(many[j]));
		for (int j = 0; j < 3; j++) {
			struct pollfd p;

			access = access_begin(buffer);
			p = (struct pollfd){ .fd = access, .events = POLLIN };
			EXPECT_EQ(0, probe_handle(access, &type, NULL));
			EXPECT_EQ(KOSDMA_HANDLE_ACCESS, type);
			EXPECT_EQ(O_RDWR, fcntl(access, F_GETFL) & ~O_LARGEFILE);
			EXPECT_EQ(FD_CLOEXEC, fcntl(access, F_GETFD));
			EXPECT_EQ(0, fcntl(access, F_GETOWN));
			EXPECT_EQ(0, fcntl(access, F_GETSIG));
			EXPECT_EQ(0, ppoll(&p, 1, &no_time, NULL));
			EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
			/* All these files have one inode, and so one lock. */
			EXPECT_ERRNO(0, flock(other, LOCK_EX | LOCK_NB));
			EXPECT_ERRNO(0, flock(other, LOCK_UN));
			many[j] = access;
		}
		EXPECT_OK(KosHandleCloseMany(many, 3));
		for (int fd = 500; fd < 510; fd++) {
			if (!probe_is_open(fd))
				continue;
			EXPECT_EQ(EBADF, probe_handle(fd, NULL, NULL));
			close(fd);
		}
	}
	close(epoll);
	EXPECT_OK(KnHandleClose(other));
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- before any device ---- */

FIXTURE(unattached) {
	Handle buffer;
	size_t size;
	int fds;
};

FIXTURE_SETUP(unattached)
{
	device_warm_up();
	self->fds = probe_nr_fds();
	self->size = PAGES(12);
	self->buffer = buffer_create(2, self->size, 0);
}

FIXTURE_TEARDOWN(unattached)
{
	EXPECT_OK(KnHandleClose(self->buffer));
	EXPECT_EQ(self->fds, probe_nr_fds());
}

TEST_F(unattached, begin_succeeds_and_has_no_addresses)
{
	Handle domain = domain_create(), in_domain;
	Handle access = access_begin(self->buffer);

	expect_no_addresses(access, self->size, 2);
	expect_no_addresses(self->buffer, self->size, 2);
	EXPECT_OK(KnHandleClose(access));
	in_domain = access_begin_in(self->buffer, domain);
	expect_no_addresses(in_domain, self->size, 2);
	expect_no_addresses(self->buffer, self->size, 2);
	EXPECT_OK(KnHandleClose(in_domain));
	EXPECT_OK(KnHandleClose(domain));
}

TEST_F(unattached, a_buffer_that_is_not_begun_has_no_addresses)
{
	expect_no_addresses(self->buffer, self->size, 2);
}

TEST_F(unattached, asking_the_buffer_needs_a_single_access)
{
	Handle first = access_begin(self->buffer), second;
	DmaInfo *info = (DmaInfo *)&first;
	DmaAddr addr = 1;

	EXPECT_TRUE(info_equal(self->buffer, first));
	second = access_begin(self->buffer);
	EXPECT_RC(rcInvalidOperation, KnIoDmaGetInfo(self->buffer, &info));
	EXPECT_NULL(info);
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaContinuousGetDmaAddr(self->buffer, &addr));
	EXPECT_EQ(0, addr);
	EXPECT_TRUE(info_equal(first, second));
	EXPECT_OK(KnHandleClose(first));
	EXPECT_TRUE(info_equal(self->buffer, second));
	EXPECT_OK(KnHandleClose(second));
	EXPECT_OK(KnIoDmaGetInfo(self->buffer, &info));
	KosMemFree(info);
}

TEST_F(unattached, accesses_through_copies_count_as_the_buffers)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);
	Handle first = access_begin(self->buffer);
	Handle second = access_begin(copy);
	DmaInfo *info;

	EXPECT_RC(rcInvalidOperation, KnIoDmaGetInfo(self->buffer, &info));
	EXPECT_RC(rcInvalidOperation, KnIoDmaGetInfo(copy, &info));
	EXPECT_OK(KnHandleClose(first));
	EXPECT_TRUE(info_equal(self->buffer, second));
	EXPECT_TRUE(info_equal(copy, second));
	EXPECT_OK(KnHandleClose(second));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(unattached, rights_and_direction_decide_what_is_left)
{
	const uint32_t r = OCAP_DMA_READ, w = OCAP_DMA_WRITE;
	const uint32_t begin = OCAP_DMA_BEGIN;
	const Retcode write_only = probe_write_only() ? rcOk : rcNoCapability;
	const struct {
		DmaAttr direction;
		uint32_t rights;
		Retcode rc;
	} cases[] = {
		{ DMA_DIR_BIDIR, begin | r | w, rcOk },
		{ DMA_DIR_BIDIR, begin | r, rcOk },
		{ DMA_DIR_BIDIR, begin | w, write_only },
		{ DMA_DIR_BIDIR, begin, rcNoCapability },
		{ DMA_DIR_BIDIR, r | w, rcNoCapability },
		{ DMA_DIR_BIDIR, OCAP_DMA_FULL & ~begin, rcNoCapability },
		{ 0, begin | w, write_only },
		{ DMA_DIR_TO_DEVICE, begin | r, rcOk },
		{ DMA_DIR_TO_DEVICE, begin | w, rcNoCapability },
		{ DMA_DIR_TO_DEVICE, begin | r | w, rcOk },
		{ DMA_DIR_FROM_DEVICE, begin | r, rcNoCapability },
		{ DMA_DIR_FROM_DEVICE, begin | w, write_only },
		{ DMA_DIR_FROM_DEVICE, begin | r | w, rcOk },
	};
	Handle domain = domain_create();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Handle buffer = buffer_create(0, PAGE_SIZE,
					      cases[i].direction);
		Handle copy = buffer_copy(buffer, cases[i].rights);

		test_context("case %zu", i);
		if (cases[i].rc == rcOk) {
			EXPECT_OK(KnHandleClose(access_begin(copy)));
			EXPECT_OK(KnHandleClose(access_begin_in(copy, domain)));
		} else {
			expect_begin(cases[i].rc, copy);
			expect_begin_ex(cases[i].rc, copy, domain);
		}
		EXPECT_OK(KnHandleClose(copy));
		EXPECT_OK(KnHandleClose(buffer));
	}
	EXPECT_OK(KnHandleClose(domain));
}

TEST_F(unattached, null_results_are_invalid)
{
	Handle domain = domain_create(), access = access_begin(self->buffer);

	EXPECT_RC(rcInvalidArgument, KnIoDmaBegin(self->buffer, NULL));
	EXPECT_RC(rcInvalidArgument,
		  KnIoDmaBeginEx(self->buffer, domain, NULL));
	EXPECT_RC(rcInvalidArgument, KnIoDmaGetInfo(access, NULL));
	EXPECT_RC(rcInvalidArgument, KnIoDmaContinuousGetDmaAddr(access, NULL));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(domain));
}

TEST_F(unattached, wrong_handles)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	Handle closed = buffer_create(0, PAGE_SIZE, 0);
	Handle domain = domain_create(), gone = domain_create();
	Handle access = access_begin(self->buffer), mapping;
	DmaInfo *info;

	buffer_map(self->buffer, self->size, &mapping);
	EXPECT_OK(KnHandleClose(closed));
	EXPECT_OK(KnHandleClose(gone));

	expect_begin(rcResourceNotFound, closed);
	expect_begin(rcResourceNotFound, null);
	expect_begin(rcResourceNotFound, INVALID_HANDLE);
	expect_begin(rcInvalidArgument, access);
	expect_begin(rcInvalidArgument, domain);
	expect_begin(rcInvalidArgument, mapping);

	expect_begin_ex(rcResourceNotFound, closed, domain);
	expect_begin_ex(rcResourceNotFound, self->buffer, gone);
	expect_begin_ex(rcResourceNotFound, self->buffer, null);
	/* Which names the automatic domain in the ioctl, not here. */
	expect_begin_ex(rcResourceNotFound, self->buffer, INVALID_HANDLE);
	expect_begin_ex(rcInvalidArgument, self->buffer, self->buffer);
	expect_begin_ex(rcInvalidArgument, self->buffer, access);
	expect_begin_ex(rcInvalidArgument, domain, domain);

	EXPECT_RC(rcInvalidArgument, KnIoDmaGetInfo(mapping, &info));
	EXPECT_RC(rcInvalidArgument, KnIoDmaGetInfo(domain, &info));
	EXPECT_RC(rcInvalidArgument, KnIoDmaGetPhysInfo(access, &info));
	EXPECT_RC(rcInvalidArgument, KnIoDmaModify(access, 0));

	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_RC(rcResourceNotFound, KnIoDmaGetInfo(access, &info));
	EXPECT_NULL(info);
	EXPECT_OK(KnHandleClose(domain));
	close(null);
}

TEST_F(unattached, an_access_of_a_closed_domain_reaches_nobody)
{
	Handle domain = domain_create();
	Handle access = access_begin_in(self->buffer, domain);

	EXPECT_OK(KnHandleClose(domain));
	expect_no_addresses(access, self->size, 2);
	expect_begin_ex(rcResourceNotFound, self->buffer, domain);
	EXPECT_OK(KnHandleClose(access));
}

TEST_F(unattached, a_revoked_access)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);
	Handle access = access_begin(copy);
	DmaInfo *info = (DmaInfo *)&copy;
	DmaAddr addr;

	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_RC(rcHandleRevoked, KnIoDmaGetInfo(access, &info));
	EXPECT_NULL(info);
	EXPECT_RC(rcHandleRevoked, KnIoDmaContinuousGetDmaAddr(access, &addr));
	expect_begin(rcHandleRevoked, copy);
	expect_no_addresses(self->buffer, self->size, 2);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(copy));
	/* The buffer itself can be begun again. */
	EXPECT_OK(KnHandleClose(access_begin(self->buffer)));
}

TEST_F(unattached, no_descriptor_left_is_a_limit)
{
	Handle domain = domain_create();

	IN_CHILD {
		int fd = dup(0);

		close(fd);
		set_limit(RLIMIT_NOFILE, fd);
		for (int i = 0; i < 20; i++) {
			Handle access = POISON;

			EXPECT_RC(rcQuotaExceeded,
				  KnIoDmaBegin(self->buffer, &access));
			EXPECT_EQ(INVALID_HANDLE, access);
		}
	}
	EXPECT_OK(KnHandleClose(domain));
}

/* ---- with a device ---- */

FIXTURE(access) {
	struct edu edu;
	Handle domain;
	bool translated;
	int fds;
};

FIXTURE_VARIANT(access) {
	bool created; /* a domain of its own, not the automatic one */
};

FIXTURE_VARIANT_ADD(access, automatic) { .created = false };
FIXTURE_VARIANT_ADD(access, created) { .created = true };

FIXTURE_SETUP(access)
{
	device_warm_up();
	edu_require(&self->edu, 0);
	self->translated = edu_translated(&self->edu);
	self->domain = INVALID_HANDLE;
	self->fds = probe_nr_fds();
	if (variant->created)
		self->domain = domain_create();
}

FIXTURE_TEARDOWN(access)
{
	if (variant->created)
		EXPECT_OK(KnHandleClose(self->domain));
	EXPECT_EQ(self->fds, probe_nr_fds());
}

static Handle begin_here(const struct fixture_data_access *self, Handle buffer)
{
	if (self->domain == INVALID_HANDLE)
		return access_begin(buffer);
	return access_begin_in(buffer, self->domain);
}

static Retcode try_begin(const struct fixture_data_access *self, Handle buffer,
			 Handle *access)
{
	if (self->domain == INVALID_HANDLE)
		return KnIoDmaBegin(buffer, access);
	return KnIoDmaBeginEx(buffer, self->domain, access);
}

static Retcode try_attach(const struct fixture_data_access *self)
{
	if (self->domain == INVALID_HANDLE)
		return KnIommuAttachDevice(self->edu.bdf);
	return KnIommuAttachDeviceToDomain(self->edu.bdf, self->domain);
}

static void attach(const struct fixture_data_access *self)
{
	ASSERT_OK(try_attach(self));
}

static void detach(const struct fixture_data_access *self)
{
	if (self->domain == INVALID_HANDLE)
		ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	else
		ASSERT_OK(KnIommuDetachDeviceFromDomain(self->edu.bdf,
							self->domain));
}

TEST_F(access, addresses_come_with_the_first_attach_and_stay)
{
	Handle buffer = buffer_create(2, PAGES(12), 0), early, late;
	uint64_t start, end, again, again_end;

	early = begin_here(self, buffer);
	expect_no_addresses(early, PAGES(12), 2);
	attach(self);
	access_range(early, &start, &end);
	EXPECT_LT(start, end);
	detach(self);
	access_range(early, &again, &again_end);
	EXPECT_EQ(start, again);
	EXPECT_EQ(end, again_end);
	/* One more, while nobody is attached. */
	late = begin_here(self, buffer);
	access_range(early, &again, &again_end);
	EXPECT_EQ(start, again);
	attach(self);
	access_range(early, &again, &again_end);
	EXPECT_EQ(start, again);
	EXPECT_EQ(end, again_end);
	access_range(late, &again, &again_end);
	EXPECT_LT(again, again_end);
	EXPECT_OK(KnHandleClose(late));
	EXPECT_OK(KnHandleClose(early));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, blocks_are_those_asked_for)
{
	static const struct {
		uint32_t order;
		size_t size;
		DmaAttr attr;
	} cases[] = {
		{ 0, PAGES(1), 0 },
		{ 0, PAGES(3), 0 },
		{ 0, PAGES(1000), 0 },
		{ 0, PAGES(2047), 0 },
		{ 4, PAGES(17), 0 },
		{ 4, PAGES(16), DMA_ATTR_WRITE_COMBINE },
		{ 5, PAGES(1), DMA_DIR_TO_DEVICE },
		{ 9, MiB(6), DMA_DIR_FROM_DEVICE },
		{ 10, MiB(4), DMA_ZONE_DMA32 },
		{ 0, MiB(5), DMA_ATTR_CACHE_DISABLE },
	};

	attach(self);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Handle buffer = buffer_create(cases[i].order, cases[i].size,
					      cases[i].attr);
		Handle access = begin_here(self, buffer);
		DmaInfo *info = buffer_info(access);
		DmaAddr addr;

		test_context("case %zu", i);
		EXPECT_NE(0, info->count);
		check_blocks(info, cases[i].size, cases[i].order);
		EXPECT_TRUE(info_equal(access, buffer));
		if (self->translated || info->count == 1) {
			ASSERT_OK(KnIoDmaContinuousGetDmaAddr(access, &addr));
			EXPECT_EQ((uint64_t)info->descriptors[0].frame
					  << PAGE_SHIFT, addr);
			/* They follow one another. */
			for (size_t j = 0; j < info->count; j++) {
				EXPECT_EQ(addr >> PAGE_SHIFT,
					  info->descriptors[j].frame);
				addr += PAGE_SIZE <<
					info->descriptors[j].order;
			}
		}
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(access, blocks_of_one_page_are_as_many_as_its_pages_or_fewer)
{
	Handle buffer = buffer_create(0, PAGES(7), 0), access;
	DmaInfo *info;

	attach(self);
	access = begin_here(self, buffer);
	info = buffer_info(access);
	EXPECT_GE(info->count, 1);
	EXPECT_LE(info->count, 7);
	check_blocks(info, PAGES(7), 0);
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, a_continuous_buffer_is_one_block)
{
	static const size_t pages[] = { 1, 2, 3, 100, 512, 1024 };

	attach(self);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		uint32_t order = rtl_roundup_order(pages[i]);
		Handle buffer, access;
		DmaInfo *info;

		test_context("%zu pages", pages[i]);
		ASSERT_OK(KnIoDmaCreateContinuous(PAGES(pages[i]), 0, &buffer));
		access = begin_here(self, buffer);
		info = buffer_info(access);
		EXPECT_EQ(1, info->count);
		EXPECT_EQ(order, info->orderMin);
		EXPECT_EQ(PAGES(pages[i]), info->size);
		EXPECT_EQ(order, info->descriptors[0].order);
		EXPECT_EQ((uint64_t)info->descriptors[0].frame << PAGE_SHIFT,
			  access_addr(access));
		EXPECT_EQ(0, access_addr(access) % (PAGE_SIZE << order));
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(access, a_block_beyond_the_page_allocators_limit_is_one_for_devices)
{
	enum { ORDER = 14 }; /* 64 MiB */

	edu_require_translation(&self->edu);
	attach(self);
	for (int continuous = 0; continuous < 2; continuous++) {
		Handle buffer, access;
		DmaInfo *info;

		test_context("continuous %d", continuous);
		if (continuous)
			ASSERT_OK(KnIoDmaCreateContinuous(PAGES(1 << ORDER), 0,
							  &buffer));
		else
			ASSERT_OK(KnIoDmaCreate(ORDER, PAGES(1 << ORDER), 0,
						&buffer));
		access = begin_here(self, buffer);
		info = buffer_info(access);
		EXPECT_EQ(1, info->count);
		check_blocks(info, PAGES(1 << ORDER), ORDER);
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(access, a_buffer_in_pieces_cannot_be_begun_without_translation)
{
	Handle buffer, access = POISON;
	Retcode rc;

	if (self->translated)
		SKIP("this device is behind an IOMMU");
	/* On a machine without any IOMMU there is no such buffer. */
	rc = KnIoDmaCreate(14, PAGES(1 << 14), 0, &buffer);
	if (rc != rcOk)
		SKIP("this machine makes no block that is not physical");
	attach(self);
	rc = try_begin(self, buffer, &access);
	if (rc == rcOk) {
		DmaInfo *info = buffer_info(access);

		EXPECT_EQ(1, info->count);
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(access));
	} else {
		EXPECT_RC(rcInvalidOperation, rc);
		EXPECT_EQ(INVALID_HANDLE, access);
	}
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, several_blocks_without_translation_have_no_one_address)
{
	Handle buffer, access;
	DmaAddr addr = 1;
	DmaInfo *info;

	if (self->translated)
		SKIP("behind an IOMMU every buffer is contiguous");
	attach(self);
	buffer = buffer_create(0, PAGES(3), 0);
	access = begin_here(self, buffer);
	info = buffer_info(access);
	if (info->count > 1 &&
	    info->descriptors[0].frame + (1ULL << info->descriptors[0].order) !=
		    info->descriptors[1].frame) {
		EXPECT_RC(rcInvalidOperation,
			  KnIoDmaContinuousGetDmaAddr(access, &addr));
		EXPECT_EQ(0, addr);
	}
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, begin_without_translation_is_for_the_privileged)
{
	Handle buffer;

	if (self->translated)
		SKIP("this device is behind an IOMMU");
	buffer = buffer_create(0, PAGES(2), 0);
	device_make_public();
	IN_CHILD {
		Handle domain = domain_create();

		ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
		probe_become_nobody();
		expect_begin_ex(rcSecurityDisallow, buffer, domain);
	}
	device_restore();
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, physical_addresses_are_those_of_the_memory_without_translation)
{
	Handle buffer, access;
	DmaInfo *info, *phys;

	if (self->translated)
		SKIP("behind an IOMMU, addresses are its own");
	buffer = buffer_create(3, PAGES(40), 0);
	attach(self);
	access = begin_here(self, buffer);
	info = buffer_info(access);
	ASSERT_OK(KnIoDmaGetPhysInfo(buffer, &phys));
	ASSERT_EQ(phys->count, info->count);
	EXPECT_EQ(0, memcmp(phys->descriptors, info->descriptors,
			    info->count * sizeof(info->descriptors[0])));
	KosMemFree(phys);
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, begun_twice_is_two_ranges)
{
	Handle buffer = buffer_create(1, PAGES(6), 0), first, second;
	uint64_t start[2], end[2];
	DmaInfo *info;

	attach(self);
	first = begin_here(self, buffer);
	EXPECT_TRUE(info_equal(first, buffer));
	second = begin_here(self, buffer);
	access_range(first, &start[0], &end[0]);
	access_range(second, &start[1], &end[1]);
	if (self->translated)
		EXPECT_TRUE(end[0] <= start[1] || end[1] <= start[0]);
	EXPECT_RC(rcInvalidOperation, KnIoDmaGetInfo(buffer, &info));
	EXPECT_OK(KnHandleClose(first));
	EXPECT_TRUE(info_equal(second, buffer));
	EXPECT_OK(KnHandleClose(second));
	expect_no_addresses(buffer, PAGES(6), 1);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, neighbours_have_a_gap_and_page_0_is_never_used)
{
	enum { NR = 24 };
	Handle buffers[NR], accesses[NR];
	uint64_t start[NR], end[NR];

	edu_require_translation(&self->edu);
	attach(self);
	for (int i = 0; i < NR; i++) {
		buffers[i] = buffer_create(i % 4, PAGES(1 + i), 0);
		accesses[i] = begin_here(self, buffers[i]);
		access_range(accesses[i], &start[i], &end[i]);
		EXPECT_GE(start[i], PAGE_SIZE);
		for (int j = 0; j < i; j++) {
			test_context("%d and %d", j, i);
			EXPECT_TRUE(end[i] + PAGE_SIZE <= start[j] ||
				    end[j] + PAGE_SIZE <= start[i]);
		}
		test_context("%s", "");
	}
	for (int i = 0; i < NR; i++) {
		EXPECT_OK(KnHandleClose(accesses[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
}

TEST_F(access, the_lowest_address_that_fits_is_given)
{
	Handle buffers[6], accesses[6];
	uint64_t addr[6], again;

	edu_require_translation(&self->edu);
	attach(self);
	for (int i = 0; i < 6; i++) {
		buffers[i] = buffer_create(0, PAGE_SIZE, 0);
		accesses[i] = begin_here(self, buffers[i]);
		addr[i] = access_addr(accesses[i]);
		if (i)
			EXPECT_EQ(addr[i - 1] + PAGES(2), addr[i]);
	}
	EXPECT_LT(addr[0], MiB(1));
	/* A hole is filled first. */
	EXPECT_OK(KnHandleClose(accesses[3]));
	EXPECT_OK(KnHandleClose(accesses[1]));
	accesses[1] = begin_here(self, buffers[1]);
	again = access_addr(accesses[1]);
	EXPECT_EQ(addr[1], again);
	accesses[3] = begin_here(self, buffers[3]);
	again = access_addr(accesses[3]);
	EXPECT_EQ(addr[3], again);
	for (int i = 0; i < 6; i++) {
		EXPECT_OK(KnHandleClose(accesses[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
}

/* A close that closes nothing says so, and its neighbours keep what they have. */
TEST_F(access, second_close_is_rcResourceNotFound_and_changes_nothing)
{
	Handle buffers[3], accesses[3], copy;
	uint64_t addr[3];

	attach(self);
	for (int i = 0; i < 3; i++) {
		buffers[i] = buffer_create(0, PAGE_SIZE, 0);
		accesses[i] = begin_here(self, buffers[i]);
		addr[i] = access_addr(accesses[i]);
	}
	copy = dup(accesses[1]);
	ASSERT_GE(copy, 0);
	EXPECT_OK(KnHandleClose(accesses[1]));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(accesses[1]));
	for (int i = 0; i < 3; i += 2)
		EXPECT_EQ(addr[i], access_addr(accesses[i]));
	/* Somebody else's by now: the dead copy does not end it. */
	accesses[1] = begin_here(self, buffers[1]);
	EXPECT_EQ(addr[1], access_addr(accesses[1]));
	EXPECT_RC(rcResourceNotFound, probe_sid(copy));
	EXPECT_OK(KnHandleClose(copy));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(addr[i], access_addr(accesses[i]));
		EXPECT_OK(KnHandleClose(accesses[i]));
		EXPECT_RC(rcResourceNotFound, KnHandleClose(accesses[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
	detach(self);
	attach(self);
	detach(self);
}

TEST_F(access, addresses_are_aligned_to_the_asked_block)
{
	Handle first, odd;

	edu_require_translation(&self->edu);
	attach(self);
	odd = buffer_create(0, PAGE_SIZE, 0);
	first = begin_here(self, odd);
	for (uint32_t order = 0; order <= 12; order++) {
		Handle buffer = buffer_create(order, PAGE_SIZE << order, 0);
		Handle access = begin_here(self, buffer);

		test_context("order %u", order);
		EXPECT_EQ(0, access_addr(access) % (PAGE_SIZE << order));
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(buffer));
	}
	EXPECT_OK(KnHandleClose(first));
	EXPECT_OK(KnHandleClose(odd));
}

TEST_F(access, zone_dma32_keeps_addresses_below_4_gib)
{
	Handle buffers[20], accesses[20];

	attach(self);
	for (int i = 0; i < 20; i++) {
		uint64_t start, end;

		buffers[i] = buffer_create(0, MiB(2), DMA_ZONE_DMA32);
		accesses[i] = begin_here(self, buffers[i]);
		access_range(accesses[i], &start, &end);
		EXPECT_LE(end, 1ULL << 32);
	}
	for (int i = 0; i < 20; i++) {
		EXPECT_OK(KnHandleClose(accesses[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
}

TEST_F(access, each_domain_gives_its_own_addresses)
{
	Handle buffer = buffer_create(0, PAGES(4), 0), other, here, there;

	attach(self);
	other = domain_create();
	here = begin_here(self, buffer);
	there = access_begin_in(buffer, other);
	expect_no_addresses(there, PAGES(4), 0);
	EXPECT_NE(0, access_addr(here));
	EXPECT_OK(KnHandleClose(other));
	expect_no_addresses(there, PAGES(4), 0);
	EXPECT_OK(KnHandleClose(there));
	EXPECT_TRUE(info_equal(here, buffer));
	EXPECT_OK(KnHandleClose(here));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, closing_the_domain_empties_the_list)
{
	Handle buffer, access;

	if (!variant->created)
		SKIP("the automatic domain is never closed");
	buffer = buffer_create(0, PAGES(4), 0);
	attach(self);
	access = begin_here(self, buffer);
	EXPECT_NE(0, access_addr(access));
	EXPECT_OK(KnHandleClose(self->domain));
	expect_no_addresses(access, PAGES(4), 0);
	expect_begin_ex(rcResourceNotFound, buffer, self->domain);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
	self->domain = domain_create();
}

TEST_F(access, the_buffers_memory_lives_while_it_is_begun)
{
	Handle buffer = buffer_create(0, PAGES(4), 0), access;
	uint64_t addr;

	attach(self);
	access = begin_here(self, buffer);
	addr = access_addr(access);
	EXPECT_OK(KnHandleClose(buffer));
	EXPECT_EQ(addr, access_addr(access));
	EXPECT_OK(KnHandleClose(access));
}

TEST_F(access, a_bare_close_ends_it_too)
{
	Handle buffer = buffer_create(0, PAGES(4), 0), access;
	int copy;

	attach(self);
	access = begin_here(self, buffer);
	copy = dup(access);
	ASSERT_ERRNO(0, close(access));
	EXPECT_NE(0, access_addr(copy));
	ASSERT_ERRNO(0, close(copy));
	expect_no_addresses(buffer, PAGES(4), 0);
	/* KnHandleClose() ends it whatever copies there are. */
	access = begin_here(self, buffer);
	copy = dup(access);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_EQ(EBADF, probe_handle(copy, NULL, NULL));
	expect_no_addresses(buffer, PAGES(4), 0);
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- the declared DMA mask ---- */

TEST_F(access, a_declared_mask_bounds_what_is_begun_later)
{
	enum { NR = 16 };
	Handle buffers[NR], accesses[NR];
	uint64_t start, end;
	int n = 0;

	edu_require_translation(&self->edu);
	attach(self);
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, 0xffffff)); /* 16 MiB */
	for (; n < NR; n++) {
		Retcode rc;

		buffers[n] = buffer_create(9, MiB(2), 0);
		rc = try_begin(self, buffers[n], &accesses[n]);
		if (rc != rcOk) {
			EXPECT_RC(rcQuotaExceeded, rc);
			EXPECT_EQ(INVALID_HANDLE, accesses[n]);
			EXPECT_OK(KnHandleClose(buffers[n]));
			break;
		}
		access_range(accesses[n], &start, &end);
		EXPECT_LE(end, 0x1000000);
	}
	/* 2 MiB each and a gap, aligned: every other 2 MiB, not the first. */
	EXPECT_GE(n, 3);
	ASSERT_LE(n, 7);
	EXPECT_OK(KnHandleClose(accesses[1]));
	accesses[1] = begin_here(self, buffers[1]);
	access_range(accesses[1], &start, &end);
	EXPECT_LE(end, 0x1000000);
	for (int i = 0; i < n; i++) {
		EXPECT_OK(KnHandleClose(accesses[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
}

TEST_F(access, a_window_of_28_bits_can_be_filled)
{
	enum { NR = 64 };
	Handle buffer, accesses[NR];
	uint64_t start, end;
	int n = 0;

	edu_require_translation(&self->edu);
	buffer = buffer_create(0, MiB(16), 0);
	attach(self);
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, 0xfffffff));
	while (n < NR) {
		Retcode rc = try_begin(self, buffer, &accesses[n]);

		if (rc != rcOk) {
			EXPECT_RC(rcQuotaExceeded, rc);
			break;
		}
		access_range(accesses[n], &start, &end);
		EXPECT_LE(end, 0x10000000);
		n++;
	}
	/* 16 would leave no room for page 0 and the gaps. */
	EXPECT_GE(n, 10);
	EXPECT_LE(n, 15);
	EXPECT_OK(KnHandleClose(accesses[n / 2]));
	accesses[n / 2] = begin_here(self, buffer);
	for (int i = 0; i < n; i++)
		EXPECT_OK(KnHandleClose(accesses[i]));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, zone_dma32_has_the_first_4_gib_of_addresses_alone)
{
	enum { NR = 128 };
	Handle buffer, low, accesses[NR], access = POISON;
	uint64_t start, end = 0;
	int n = 0;

	edu_require_translation(&self->edu);
	buffer = buffer_create(9, MiB(64), 0);
	low = buffer_create(9, MiB(64), DMA_ZONE_DMA32);
	attach(self);
	while (n < NR && end <= 1ULL << 32) {
		accesses[n] = begin_here(self, buffer);
		access_range(accesses[n++], &start, &end);
	}
	EXPECT_GT(end, 1ULL << 32);
	EXPECT_RC(rcQuotaExceeded, try_begin(self, low, &access));
	EXPECT_EQ(INVALID_HANDLE, access);
	EXPECT_OK(KnHandleClose(accesses[n / 2]));
	accesses[n / 2] = begin_here(self, low);
	access_range(accesses[n / 2], &start, &end);
	EXPECT_LE(end, 1ULL << 32);
	while (n--)
		EXPECT_OK(KnHandleClose(accesses[n]));
	EXPECT_OK(KnHandleClose(low));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, without_translation_memory_above_the_mask_is_refused)
{
	Handle buffer, access = POISON;

	if (self->translated)
		SKIP("behind an IOMMU there are addresses below any mask");
	attach(self);
	/* 8 KiB: no machine has free memory in its first pages. */
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, 0x1fff));
	buffer = buffer_create(0, PAGES(4), 0);
	EXPECT_RC(rcQuotaExceeded, try_begin(self, buffer, &access));
	EXPECT_EQ(INVALID_HANDLE, access);
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	EXPECT_OK(KnHandleClose(begin_here(self, buffer)));
	EXPECT_OK(KnHandleClose(buffer));
}

static bool bounce_buffers_forced(void)
{
	char line[1024] = "";
	FILE *f = fopen("/proc/cmdline", "re");

	ASSERT_NOT_NULL(f);
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	return strstr(line, "swiotlb=force");
}

TEST_F(access, where_the_dma_address_is_not_the_physical_one_begin_is_refused)
{
	Handle buffer, access = POISON;

	if (self->translated || !bounce_buffers_forced())
		SKIP("needs a machine without IOMMU, booted with swiotlb=force");
	attach(self);
	buffer = buffer_create(0, PAGES(4), 0);
	EXPECT_RC(rcUnimplemented, try_begin(self, buffer, &access));
	EXPECT_EQ(INVALID_HANDLE, access);
	expect_no_addresses(buffer, PAGES(4), 0);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, the_smallest_window_holds_one_page)
{
	Handle buffer, access, second = POISON;

	edu_require_translation(&self->edu);
	buffer = buffer_create(0, PAGE_SIZE, 0);
	attach(self);
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, 0x1fff));
	access = begin_here(self, buffer);
	EXPECT_EQ(PAGE_SIZE, access_addr(access));
	EXPECT_RC(rcQuotaExceeded, try_begin(self, buffer, &second));
	EXPECT_EQ(INVALID_HANDLE, second);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(begin_here(self, buffer)));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, a_mask_below_what_is_begun_is_refused)
{
	Handle buffer = buffer_create(9, MiB(2), 0), access;
	uint64_t start, end;

	attach(self);
	access = begin_here(self, buffer);
	access_range(access, &start, &end);
	/* Not its last byte; then all of it. */
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, 0x1fff));
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, 0xfffff));
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	if (end <= 1ULL << 32)
		EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT32_MAX));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, bad_masks_are_invalid)
{
	static const uint64_t masks[] = {
		0, 1, 0xfff, 0x1000, 0x1ffe, 0x2000, 0xfffe, 0xf0ff,
		0xfffffffe, 0x100000000, 1ULL << 63, UINT64_MAX - 1,
	};
	Handle buffer = buffer_create(0, PAGE_SIZE, 0);

	attach(self);
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		test_context("mask %#llx", (unsigned long long)masks[i]);
		EXPECT_RC(rcInvalidArgument,
			  KosIommuSetDmaMask(self->edu.bdf, masks[i]));
	}
	EXPECT_OK(KnHandleClose(begin_here(self, buffer)));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, a_mask_is_for_an_attached_device)
{
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, UINT32_MAX));
	EXPECT_RC(rcDeviceNotFound, KosIommuSetDmaMask(0xfff7, UINT32_MAX));
	attach(self);
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT32_MAX));
	detach(self);
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, UINT32_MAX));
	attach(self);
	/* By another process: */
	IN_CHILD {
		EXPECT_RC(rcInvalidOperation,
			  KosIommuSetDmaMask(self->edu.bdf, UINT32_MAX));
	}
}

/* ---- the ioctl's array ---- */

static int raw_info(Handle handle, uint32_t flags, void *blocks,
		    uint32_t capacity, struct kosdma_access_info *info)
{
	*info = (struct kosdma_access_info){
		.size = sizeof(*info),
		.handle = handle,
		.flags = flags,
		.capacity = capacity,
		.blocks = (uintptr_t)blocks,
	};
	return probe_ioctl(KOSDMA_ACCESS_INFO, info);
}

TEST_F(access, the_ioctl_fills_the_callers_array)
{
	Handle buffer = buffer_create(0, PAGES(7), 0), access;
	struct kosdma_access_info info;
	DmaInfo *list;
	uint64_t *blocks;
	size_t count;

	attach(self);
	access = begin_here(self, buffer);
	list = buffer_info(access);
	count = list->count;
	ASSERT_GT(count, 0);
	blocks = mmap(NULL, PAGES(2), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, blocks);
	memset(blocks, 0xcc, PAGES(2));

	/* No room: the count alone. */
	ASSERT_ERRNO(0, raw_info(access, 0, NULL, 0, &info));
	EXPECT_EQ(count, info.out_count);
	EXPECT_EQ(PAGES(7), info.out_length);
	EXPECT_EQ(list->orderMin, info.out_order_min);
	EXPECT_EQ(list->flags, info.out_attr);
	EXPECT_EQ(self->translated, !!(info.out_state &
				       KOSDMA_ACCESS_TRANSLATED));
	if (self->translated) {
		EXPECT_TRUE(info.out_state & KOSDMA_ACCESS_CONTIGUOUS);
		EXPECT_EQ(access_addr(access), info.out_addr);
	}

	/* Room enough: the list and nothing behind it. */
	ASSERT_ERRNO(0, raw_info(access, 0, blocks, count, &info));
	EXPECT_EQ(0, memcmp(blocks, list->descriptors,
			    count * sizeof(blocks[0])));
	EXPECT_EQ(PAGES(2) - count * 8,
		  first_not(blocks + count, PAGES(2) - count * 8, 0xcc));
	memset(blocks, 0xcc, PAGES(2));
	ASSERT_ERRNO(0, raw_info(access, 0, blocks, 1000, &info));
	EXPECT_EQ(0, memcmp(blocks, list->descriptors,
			    count * sizeof(blocks[0])));
	EXPECT_EQ(PAGES(2) - count * 8,
		  first_not(blocks + count, PAGES(2) - count * 8, 0xcc));

	/* Too little room: nothing. */
	if (count > 1) {
		memset(blocks, 0xcc, PAGES(2));
		EXPECT_ERRNO(ENOSPC,
			     raw_info(access, 0, blocks, count - 1, &info));
		EXPECT_EQ(PAGES(2), first_not(blocks, PAGES(2), 0xcc));
		EXPECT_EQ(0, info.out_count);
	}

	/* No such memory. */
	EXPECT_ERRNO(EFAULT, raw_info(access, 0, NULL, count, &info));
	EXPECT_ERRNO(EFAULT, raw_info(access, 0, (void *)~0xfffUL, count,
				      &info));
	ASSERT_ERRNO(0, munmap((char *)blocks + PAGE_SIZE, PAGE_SIZE));
	EXPECT_ERRNO(EFAULT, raw_info(access, 0,
				      (char *)blocks + PAGE_SIZE - 4, count,
				      &info));
	EXPECT_EQ(0, info.out_count);

	/* Unknown flags; physical blocks of what is no buffer. */
	for (int bit = 1; bit < 32; bit++)
		EXPECT_ERRNO(EINVAL,
			     raw_info(access, 1U << bit, NULL, 0, &info));
	EXPECT_ERRNO(EINVAL, raw_info(access, KOSDMA_ACCESS_INFO_PHYSICAL, NULL,
				      0, &info));
	ASSERT_ERRNO(0, raw_info(buffer, KOSDMA_ACCESS_INFO_PHYSICAL, NULL, 0,
				 &info));
	EXPECT_GT(info.out_count, 0);

	KosMemFree(list);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(access, the_ioctl_begins_in_the_automatic_domain_without_a_handle)
{
	Handle buffer = buffer_create(0, PAGES(4), 0);
	struct kosdma_access_begin begin = {
		.size = sizeof(begin),
		.handle = buffer,
		.domain = self->domain == INVALID_HANDLE ?
				  KOSDMA_NO_HANDLE : (int)self->domain,
		.out_handle = -7,
	};

	attach(self);
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_BEGIN, &begin));
	EXPECT_NE(0, access_addr(begin.out_handle));
	EXPECT_OK(KnHandleClose(begin.out_handle));
	begin.domain = -2;
	begin.out_handle = -7;
	EXPECT_ERRNO(EBADF, probe_ioctl(KOSDMA_ACCESS_BEGIN, &begin));
	EXPECT_EQ(-7, begin.out_handle);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_HARNESS_MAIN
