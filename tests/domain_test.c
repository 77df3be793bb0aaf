// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domains: automatic and created ones, what devices reach in them, moving
 * between them, closing them, and the limit of a device's addresses.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/machine.h"
#include "lib/probe.h"

#define POISON_HANDLE ((Handle)0xcccc)
#define NONE INVALID_HANDLE
#define NO_SUCH_BDF 0xfff8

/* ---- created domains, without a device ---- */

TEST(create_to_nowhere_is_rcInvalidArgument)
{
	int fds;

	probe_require_module();
	fds = probe_nr_fds();
	EXPECT_RC(rcInvalidArgument, KnIommuCreateDomain(NULL));
	EXPECT_EQ(fds, probe_nr_fds());
}

TEST(a_process_may_own_many_domains)
{
	Handle domain[40], buffer, access[40];

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	for (size_t i = 0; i < ARRAY_SIZE(domain); i++) {
		domain[i] = domain_create();
		access[i] = access_begin_in(buffer, domain[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(domain); i++) {
		EXPECT_OK(KnHandleClose(domain[i]));
		EXPECT_OK(KnHandleClose(access[i]));
	}
	EXPECT_OK(KnHandleClose(buffer));
}

TEST(begin_in_a_closed_domain_is_rcResourceNotFound)
{
	Handle domain, buffer, out = POISON_HANDLE;

	probe_require_module();
	domain = domain_create();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_RC(rcResourceNotFound, KnIoDmaBeginEx(buffer, domain, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_RC(rcResourceNotFound, KnIoDmaBeginEx(buffer, NONE, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- with a device ---- */

FIXTURE(domain)
{
	struct edu edu;
	Handle a, b; /* domains */
};

FIXTURE_SETUP(domain)
{
	probe_require_module();
	edu_require(&self->edu, 0);
	self->a = domain_create();
	self->b = domain_create();
	ASSERT_OK(edu_map_registers(&self->edu));
}

FIXTURE_TEARDOWN(domain)
{
	edu_unmap_registers(&self->edu);
	if (probe_is_open(self->a))
		EXPECT_OK(KnHandleClose(self->a));
	if (probe_is_open(self->b))
		EXPECT_OK(KnHandleClose(self->b));
}

static Retcode attach_to(struct fixture_data_domain *self, Handle domain)
{
	return KnIommuAttachDeviceToDomain(self->edu.bdf, domain);
}

static Retcode detach_from(struct fixture_data_domain *self, Handle domain)
{
	return KnIommuDetachDeviceFromDomain(self->edu.bdf, domain);
}

/* Where a device can reach a buffer that was begun before its attach. */
static void begun_locate(struct begun *b)
{
	b->addr = access_addr(b->access);
}

static size_t nr_blocks(Handle access)
{
	DmaInfo *info = buffer_info(access);
	size_t count = info->count;

	KosMemFree(info);
	return count;
}

TEST_F(domain, unknown_device_is_rcDeviceNotFound)
{
	static const uint16_t bdfs[] = { NO_SUCH_BDF, 0xffff, 0x00ff, 0x7f00 };

	for (size_t i = 0; i < ARRAY_SIZE(bdfs); i++) {
		test_context("bdf %#x", bdfs[i]);
		EXPECT_RC(rcDeviceNotFound, KnIommuAttachDevice(bdfs[i]));
		EXPECT_RC(rcDeviceNotFound, KnIommuDetachDevice(bdfs[i]));
		EXPECT_RC(rcDeviceNotFound,
			  KnIommuAttachDeviceToDomain(bdfs[i], self->a));
		EXPECT_RC(rcDeviceNotFound,
			  KnIommuDetachDeviceFromDomain(bdfs[i], self->a));
		EXPECT_RC(rcDeviceNotFound,
			  KosIommuSetDmaMask(bdfs[i], UINT64_MAX));
	}
}

TEST_F(domain, ex_variants_take_the_segment)
{
	uint32_t here = self->edu.bdf, elsewhere = 1u << 16 | self->edu.bdf;

	EXPECT_RC(rcDeviceNotFound, KosIommuAttachDeviceEx(elsewhere));
	EXPECT_RC(rcDeviceNotFound, KosIommuDetachDeviceEx(elsewhere));
	EXPECT_RC(rcDeviceNotFound,
		  KosIommuAttachDeviceToDomainEx(elsewhere, self->a));
	EXPECT_RC(rcDeviceNotFound,
		  KosIommuDetachDeviceFromDomainEx(elsewhere, self->a));
	EXPECT_RC(rcDeviceNotFound,
		  KosIommuSetDmaMaskEx(elsewhere, UINT64_MAX));
	EXPECT_RC(rcDeviceNotFound, KosIommuAttachDeviceEx(0xffff0000 | here));

	EXPECT_OK(KosIommuAttachDeviceEx(here));
	EXPECT_OK(KosIommuSetDmaMaskEx(here, UINT64_MAX));
	EXPECT_RC(rcBusy, KnIommuAttachDevice(here));
	EXPECT_OK(KosIommuDetachDeviceEx(here));
	EXPECT_OK(KosIommuAttachDeviceToDomainEx(here, self->a));
	EXPECT_RC(rcBusy, attach_to(self, self->a));
	EXPECT_OK(KosIommuDetachDeviceFromDomainEx(here, self->a));
	EXPECT_RC(rcInvalidOperation, detach_from(self, self->a));
}

TEST_F(domain, second_attach_is_rcBusy_whoever_asks)
{
	/* 0: automatic; 1: created */
	for (int created = 0; created < 2; created++) {
		test_context(created ? "created" : "automatic");
		if (created)
			ASSERT_OK(attach_to(self, self->a));
		else
			ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
		EXPECT_RC(rcBusy, attach_to(self, self->a));
		EXPECT_RC(rcBusy, attach_to(self, self->b));
		IN_CHILD {
			Handle theirs = domain_create();

			EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
			EXPECT_RC(rcBusy, attach_to(self, theirs));
		}
		/* Nothing has changed. */
		EXPECT_TRUE(probe_bus_master(self->edu.path));
		if (created)
			EXPECT_OK(detach_from(self, self->a));
		else
			EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
}

TEST_F(domain, detach_of_what_is_not_attached_there_is_rcInvalidOperation)
{
	/* Not attached at all; no automatic domain exists yet. */
	EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(self->edu.bdf));
	EXPECT_RC(rcInvalidOperation, detach_from(self, self->a));

	ASSERT_OK(attach_to(self, self->a));
	EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(self->edu.bdf));
	EXPECT_RC(rcInvalidOperation, detach_from(self, self->b));
	IN_CHILD {
		Handle theirs = domain_create();

		EXPECT_RC(rcInvalidOperation,
			  KnIommuDetachDevice(self->edu.bdf));
		EXPECT_RC(rcInvalidOperation, detach_from(self, theirs));
	}
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_RC(rcInvalidOperation, detach_from(self, self->a));

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_RC(rcInvalidOperation, detach_from(self, self->a));
	IN_CHILD {
		EXPECT_RC(rcInvalidOperation,
			  KnIommuDetachDevice(self->edu.bdf));
	}
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(self->edu.bdf));
}

TEST_F(domain, of_another_process_is_rcNoCapability)
{
	int sock[2], fd = self->a;
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	probe_send_fds(sock[0], &fd, 1);
	IN_CHILD {
		Handle out = POISON_HANDLE;
		int theirs;

		ASSERT_EQ(1, probe_receive_fds(sock[1], &theirs, 1));
		EXPECT_RC(rcNoCapability, attach_to(self, theirs));
		EXPECT_RC(rcNoCapability, detach_from(self, theirs));
		EXPECT_RC(rcNoCapability, KnIoDmaBeginEx(buffer, theirs, &out));
		EXPECT_EQ(NONE, out);
		/* Closing it there does not close the domain. */
		EXPECT_OK(KnHandleClose(theirs));
	}
	EXPECT_OK(attach_to(self, self->a));
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(domain, attached_device_reaches_what_was_and_will_be_begun)
{
	/* 0: automatic; 1: created */
	for (int created = 0; created < 2; created++) {
		Handle domain = created ? self->a : NONE;
		struct begun early, late;

		test_context(created ? "created" : "automatic");
		begun_open(&early, PAGES(2), domain);
		EXPECT_EQ(0, nr_blocks(early.access));
		if (created)
			ASSERT_OK(attach_to(self, domain));
		else
			ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		begun_locate(&early);
		begun_open(&late, PAGES(2), domain);
		ASSERT_NE(0, late.addr);
		EXPECT_TRUE(probe_lands(&self->edu, &early, late.addr + 100,
					late.mem + 100));
		EXPECT_TRUE(probe_lands(&self->edu, &late,
					early.addr + PAGE - 8,
					early.mem + PAGE - 8));
		if (created)
			EXPECT_OK(detach_from(self, domain));
		else
			EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		begun_close(&early);
		begun_close(&late);
	}
}

TEST_F(domain, block_list_is_empty_until_the_first_attach_and_then_fixed)
{
	struct begun b;
	DmaAddr addr = 0xcccc;

	begun_open(&b, PAGES(4), self->a);
	EXPECT_EQ(0, nr_blocks(b.access));
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaContinuousGetDmaAddr(b.access, &addr));
	EXPECT_EQ(0, addr);
	/* A device in another domain is none of its business. */
	ASSERT_OK(attach_to(self, self->b));
	EXPECT_EQ(0, nr_blocks(b.access));
	EXPECT_OK(detach_from(self, self->b));

	ASSERT_OK(attach_to(self, self->a));
	EXPECT_EQ(1, nr_blocks(b.access));
	begun_locate(&b);
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_EQ(1, nr_blocks(b.access));
	EXPECT_EQ(b.addr, access_addr(b.access));
	ASSERT_OK(attach_to(self, self->a));
	EXPECT_EQ(b.addr, access_addr(b.access));
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_OK(detach_from(self, self->a));
	begun_close(&b);
}

TEST_F(domain, detached_device_reaches_nothing)
{
	struct begun b;

	begun_open(&b, PAGE, self->a);
	ASSERT_OK(attach_to(self, self->a));
	begun_locate(&b);
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + 64, b.mem + 64));
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_FALSE(probe_lands(&self->edu, &b, b.addr + 128, b.mem + 128));
	begun_close(&b);
}

/* Addresses start alike in every domain: what is there differs. */
TEST_F(domain, device_moves_between_domains_and_reaches_one_at_a_time)
{
	struct begun a, b;

	edu_require_translation(&self->edu);
	begun_open(&a, PAGES(2), self->a);
	begun_open(&b, PAGES(2), self->b);
	ASSERT_OK(attach_to(self, self->a));
	begun_locate(&a);
	EXPECT_TRUE(probe_lands(&self->edu, &a, a.addr + PAGE, a.mem + PAGE));
	EXPECT_OK(detach_from(self, self->a));
	ASSERT_OK(attach_to(self, self->b));
	begun_locate(&b);
	EXPECT_EQ(a.addr, b.addr);
	EXPECT_FALSE(probe_lands(&self->edu, &b, a.addr + PAGE, a.mem + PAGE));
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_OK(detach_from(self, self->b));

	ASSERT_OK(attach_to(self, self->a));
	EXPECT_FALSE(probe_lands(&self->edu, &a, b.addr + PAGE, b.mem + PAGE));
	EXPECT_TRUE(probe_lands(&self->edu, &a, a.addr + PAGE, a.mem + PAGE));
	EXPECT_OK(detach_from(self, self->a));

	/* And the automatic one is a third. */
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	memset((void *)a.mem, 0x31, PAGES(2));
	memset((void *)b.mem, 0x31, PAGES(2));
	edu_copy_out(&self->edu, 0, a.addr, 64);
	EXPECT_EQ(PAGES(2), first_not((void *)a.mem, PAGES(2), 0x31));
	EXPECT_EQ(PAGES(2), first_not((void *)b.mem, PAGES(2), 0x31));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	begun_close(&a);
	begun_close(&b);
}

TEST_F(domain, automatic_domain_outlives_its_devices)
{
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	begun_open(&b, PAGE, NONE);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(attach_to(self, self->a));
	EXPECT_OK(detach_from(self, self->a));
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_EQ(b.addr, access_addr(b.access));
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + 64, b.mem + 64));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	begun_close(&b);
}

/* ---- closing ---- */

TEST_F(domain, close_cuts_off_its_devices_and_releases_them)
{
	struct begun a, b;

	begun_open(&a, PAGE, self->a);
	begun_open(&b, PAGE, self->b);
	ASSERT_OK(attach_to(self, self->a));
	begun_locate(&a);
	EXPECT_TRUE(probe_lands(&self->edu, &a, a.addr + 64, a.mem + 64));

	EXPECT_OK(KnHandleClose(self->a));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_FALSE(probe_lands(&self->edu, &a, a.addr + 128, a.mem + 128));
	/* Its Begin object stays open, and reaches nobody. */
	EXPECT_EQ(0, nr_blocks(a.access));
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaContinuousGetDmaAddr(a.access, &(DmaAddr){ 0 }));
	EXPECT_OK(probe_sid(a.access));

	/* The device is free, and works elsewhere. */
	ASSERT_OK(attach_to(self, self->b));
	begun_locate(&b);
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + 64, b.mem + 64));
	memset((void *)a.mem, 0x31, PAGE);
	if (edu_translated(&self->edu)) {
		EXPECT_FALSE(probe_lands(&self->edu, &b, a.addr + 256,
					 a.mem + 256));
		EXPECT_EQ(PAGE, first_not((void *)a.mem, PAGE, 0x31));
	}
	EXPECT_OK(detach_from(self, self->b));
	begun_close(&a);
	begun_close(&b);
}

TEST_F(domain, bare_close_does_the_same)
{
	struct begun a;

	begun_open(&a, PAGE, self->a);
	ASSERT_OK(attach_to(self, self->a));
	ASSERT_EQ(0, close(self->a));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_EQ(0, nr_blocks(a.access));
	EXPECT_OK(attach_to(self, self->b));
	EXPECT_OK(detach_from(self, self->b));
	begun_close(&a);
}

/* Another descriptor of it keeps no device attached. */
TEST_F(domain, close_ends_it_for_every_copy)
{
	Handle twin = dup(self->a);

	ASSERT_OK(attach_to(self, self->a));
	EXPECT_OK(KnHandleClose(self->a));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_RC(rcResourceNotFound, attach_to(self, twin));
	EXPECT_RC(rcResourceNotFound, detach_from(self, twin));
	EXPECT_OK(attach_to(self, self->b));
	EXPECT_OK(KnHandleClose(twin));
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	EXPECT_OK(detach_from(self, self->b));
}

TEST_F(domain, buffer_of_a_closed_domain_can_be_begun_elsewhere_and_modified)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR), access, again;

	access = access_begin_in(buffer, self->a);
	ASSERT_OK(attach_to(self, self->a));
	EXPECT_OK(KnHandleClose(self->a));
	/* Still a Begin object, so not to be modified. */
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(buffer, DMA_ATTR_WRITE_BACK));
	again = access_begin_in(buffer, self->b);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(again));
	EXPECT_OK(KnIoDmaModify(buffer, DMA_ATTR_WRITE_BACK));
	EXPECT_OK(KnHandleClose(buffer));
}

/* Begun, attached, closed, and again: nothing must stay. */
TEST_F(domain, memory_returns_after_many_domains)
{
	long before = 0;

	for (int i = 0; i < 24; i++) {
		Handle domain = domain_create(), access, buffer;

		if (i == 4)
			before = probe_free_memory();
		buffer = buffer_create(0, MiB(2), DMA_DIR_BIDIR);
		access = access_begin_in(buffer, domain);
		ASSERT_OK(attach_to(self, domain));
		if (i & 1)
			ASSERT_OK(detach_from(self, domain));
		EXPECT_OK(KnHandleClose(domain));
		EXPECT_OK(KnHandleClose(buffer));
		EXPECT_OK(KnHandleClose(access));
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
}

/* ---- several devices ---- */

TEST(two_devices_share_a_domain)
{
	struct edu one, two;
	struct begun b;
	Handle domain;

	probe_require_module();
	edu_require(&one, 0);
	edu_require(&two, 1);
	domain = domain_create();
	ASSERT_OK(edu_map_registers(&one));
	ASSERT_OK(edu_map_registers(&two));
	begun_open(&b, PAGES(2), domain);
	ASSERT_OK(KnIommuAttachDeviceToDomain(one.bdf, domain));
	begun_locate(&b);
	EXPECT_TRUE(probe_lands(&one, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_FALSE(probe_bus_master(two.path));
	ASSERT_OK(KnIommuAttachDeviceToDomain(two.bdf, domain));
	EXPECT_EQ(b.addr, access_addr(b.access));
	EXPECT_TRUE(probe_lands(&two, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_OK(KnIommuDetachDeviceFromDomain(one.bdf, domain));
	EXPECT_FALSE(probe_bus_master(one.path));
	EXPECT_TRUE(probe_lands(&two, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_FALSE(probe_bus_master(two.path));
	begun_close(&b);
	edu_unmap_registers(&one);
	edu_unmap_registers(&two);
}

/* One behind the IOMMU and one that no IOMMU translates for; or skip. */
static void require_both_kinds(struct edu *translated, struct edu *direct)
{
	struct edu edu;
	bool found[2] = {};

	for (int i = 0; edu_find(&edu, i); i++) {
		bool kind = edu_translated(&edu);

		*(kind ? translated : direct) = edu;
		found[kind] = true;
	}
	if (!found[0] || !found[1])
		SKIP("needs a device behind an IOMMU and one without");
}

TEST(domain_has_devices_behind_an_iommu_or_without_one_never_both)
{
	struct edu translated, direct;
	Handle domain, other, access;
	struct begun b;

	probe_require_module();
	require_both_kinds(&translated, &direct);
	domain = domain_create();
	other = domain_create();
	ASSERT_OK(edu_map_registers(&translated));
	ASSERT_OK(edu_map_registers(&direct));
	ASSERT_OK(KnIommuAttachDeviceToDomain(translated.bdf, domain));
	begun_open(&b, PAGES(2), domain);

	EXPECT_RC(rcInvalidOperation, KnIommuAttachDeviceToDomain(direct.bdf, domain));
	EXPECT_FALSE(probe_bus_master(direct.path));
	EXPECT_EQ(b.addr, access_addr(b.access));
	EXPECT_TRUE(probe_lands(&translated, &b, b.addr, b.mem));

	/* Each in its own, the same buffer in both. */
	ASSERT_OK(KnIommuAttachDeviceToDomain(direct.bdf, other));
	access = access_begin_in(b.buffer, other);
	EXPECT_NE(b.addr, access_addr(access));
	memset((void *)b.mem, 0xa5, 16);
	edu_copy_in(&translated, b.addr, 0, 16);
	memset((void *)b.mem, 0x5a, 16);
	edu_copy_in(&direct, access_addr(access), 0, 16);
	memset((void *)b.mem, 0, PAGES(2));
	edu_copy_out(&direct, 0, access_addr(access) + PAGE, 16);
	EXPECT_EQ(0x5a, b.mem[PAGE]);
	edu_copy_out(&translated, 0, b.addr, 16);
	EXPECT_EQ(0xa5, b.mem[0]);

	/* An address of the one kind keeps the other kind out, and nothing else does. */
	EXPECT_OK(KnIommuDetachDeviceFromDomain(direct.bdf, other));
	EXPECT_OK(KnIommuDetachDeviceFromDomain(translated.bdf, domain));
	EXPECT_RC(rcInvalidOperation, KnIommuAttachDeviceToDomain(direct.bdf, domain));
	EXPECT_OK(KnHandleClose(b.access));
	EXPECT_OK(KnIommuAttachDeviceToDomain(direct.bdf, domain));
	b.access = access_begin_in(b.buffer, domain);
	b.addr = access_addr(b.access);
	EXPECT_TRUE(probe_lands(&direct, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnIommuAttachDeviceToDomain(translated.bdf, other));
	access = access_begin_in(b.buffer, other);
	b.addr = access_addr(access);
	EXPECT_TRUE(probe_lands(&translated, &b, b.addr + PAGE, b.mem + PAGE));

	EXPECT_OK(KnHandleClose(access));
	begun_close(&b);
	EXPECT_OK(KnHandleClose(other));
	EXPECT_OK(KnHandleClose(domain));
	edu_unmap_registers(&translated);
	edu_unmap_registers(&direct);
}

/* ---- KosIommuSetDmaMask ---- */

TEST_F(domain, mask_that_is_none_is_rcInvalidArgument)
{
	static const uint64_t masks[] = {
		0,	 1,	     PAGE - 1,	      PAGE,
		0x1ffe,	 0x2fff,     0xfffffffe,      0x80000000,
		1ull << 63, UINT64_MAX - 1, 0xffff0000ffffffff,
	};

	ASSERT_OK(attach_to(self, self->a));
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		test_context("mask %#llx", (unsigned long long)masks[i]);
		EXPECT_RC(rcInvalidArgument,
			  KosIommuSetDmaMask(self->edu.bdf, masks[i]));
	}
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, PAGES(2) - 1));
	EXPECT_OK(detach_from(self, self->a));
}

TEST_F(domain, mask_of_a_device_that_is_not_attached_is_rcInvalidOperation)
{
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	ASSERT_OK(attach_to(self, self->a));
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	IN_CHILD {
		EXPECT_RC(rcInvalidOperation,
			  KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	}
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
}

TEST_F(domain, mask_below_what_is_begun_is_rcInvalidOperation)
{
	struct begun b;

	ASSERT_OK(attach_to(self, self->a));
	begun_open(&b, PAGES(32), self->a);
	ASSERT_NE(0, b.addr);
	/* It ends behind the first 64 KiB in both modes. */
	ASSERT_GT(b.addr + b.size, 0x10000);
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, 0xffff));
	/* The old limit still holds, that is, none. */
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + PAGE, b.mem + PAGE));
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX >> 1));
	begun_close(&b);
	EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, 0xffff));
	EXPECT_OK(detach_from(self, self->a));
}

TEST_F(domain, full_window_is_rcQuotaExceeded_and_frees_up_again)
{
	enum { MASK = 0xffff, MAX = 32 };
	Handle buffer, access[MAX], out = POISON_HANDLE;
	DmaAddr addr;
	int nr = 0;
	Retcode rc;

	edu_require_translation(&self->edu);
	ASSERT_OK(attach_to(self, self->a));
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, MASK));
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	while (nr < MAX) {
		rc = KnIoDmaBeginEx(buffer, self->a, &access[nr]);
		if (rc != rcOk)
			break;
		addr = access_addr(access[nr]);
		EXPECT_LE(addr + PAGE - 1, MASK);
		EXPECT_GE(addr, PAGE);
		nr++;
	}
	EXPECT_RC(rcQuotaExceeded, rc);
	/* 16 pages, without the first, and with a guard behind each. */
	EXPECT_GE(nr, 5);
	EXPECT_LE(nr, 8);
	EXPECT_RC(rcQuotaExceeded, KnIoDmaBeginEx(buffer, self->a, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_OK(KnHandleClose(access[2]));
	EXPECT_OK(KnIoDmaBeginEx(buffer, self->a, &access[2]));
	for (int i = 0; i < nr; i++)
		EXPECT_OK(KnHandleClose(access[i]));
	/* Another domain has its own. */
	out = access_begin_in(buffer, self->b);
	EXPECT_OK(KnHandleClose(out));
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_OK(KnHandleClose(buffer));
}

/* Of an edu in a guest: what does not fit is refused, and nothing else fails. */
TEST_F(domain, window_of_28_bits_is_usable_to_its_end_without_a_fault)
{
	enum { MASK = 0xfffffff, MAX = 16 };
	Handle buffer, access[MAX], out = POISON_HANDLE;
	uint64_t addr[MAX], highest = 0;
	int log, nr = 0;
	struct begun b;
	Retcode rc;
	uint8_t *mem;

	edu_require_translation(&self->edu);
	log = pci_log_open();
	ASSERT_OK(attach_to(self, self->a));
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, MASK));
	begun_open(&b, PAGE, self->a);
	buffer = buffer_create(0, MiB(30), DMA_DIR_BIDIR);
	mem = buffer_map(buffer, MiB(30), &out);
	for (; nr < MAX; nr++) {
		rc = KnIoDmaBeginEx(buffer, self->a, &access[nr]);
		if (rc != rcOk)
			break;
		addr[nr] = access_addr(access[nr]);
		EXPECT_LE(addr[nr] + MiB(30) - 1, MASK);
		if (addr[nr] > highest)
			highest = addr[nr];
	}
	EXPECT_RC(rcQuotaExceeded, rc);
	EXPECT_GE(nr, 6);
	EXPECT_GT(highest + MiB(64), MASK);
	/* Each is the same memory, at another address. */
	for (int i = 0; i < nr; i++) {
		test_context("access %d at %#llx", i,
			     (unsigned long long)addr[i]);
		EXPECT_TRUE(probe_lands(&self->edu, &b, addr[i], mem));
		EXPECT_TRUE(probe_lands(&self->edu, &b,
					addr[i] + MiB(30) - 16,
					mem + MiB(30) - 16));
	}
	test_context("%s", "");
	EXPECT_FALSE(pci_log_has_fault(log));
	for (int i = 0; i < nr; i++)
		EXPECT_OK(KnHandleClose(access[i]));
	EXPECT_OK(detach_from(self, self->a));
	begun_close(&b);
	EXPECT_OK(KnHandleClose(out));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(domain, buffer_larger_than_the_mask_is_rcQuotaExceeded)
{
	Handle buffer = buffer_create(0, PAGES(16), DMA_DIR_BIDIR);
	Handle out = POISON_HANDLE;

	ASSERT_OK(attach_to(self, self->a));
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, 0xffff));
	EXPECT_RC(rcQuotaExceeded, KnIoDmaBeginEx(buffer, self->a, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_OK(detach_from(self, self->a));
	EXPECT_OK(KnHandleClose(buffer));
}

/* Of two processes, each has what it declared. */
TEST_F(domain, mask_ends_with_the_attachment)
{
	Handle buffer = buffer_create(4, PAGES(16), DMA_DIR_BIDIR), access;

	ASSERT_OK(attach_to(self, self->a));
	ASSERT_OK(KosIommuSetDmaMask(self->edu.bdf, 0xffff));
	EXPECT_RC(rcQuotaExceeded, KnIoDmaBeginEx(buffer, self->a, &access));
	EXPECT_OK(detach_from(self, self->a));
	ASSERT_OK(attach_to(self, self->b));
	access = access_begin_in(buffer, self->b);
	EXPECT_NE(0, access_addr(access));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(detach_from(self, self->b));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_HARNESS_MAIN
