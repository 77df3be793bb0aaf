// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA truth: what a real device reads is what the CPU wrote, what it writes
 * lands where it should, and nowhere else, and not after it was cut off.
 *
 * A copy takes 100 ms: tests make few.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

/* A buffer of any shape that is begun and mapped. */
struct memory {
	Handle buffer, access, mapping;
	uint8_t *mem;
	size_t size;
};

static void memory_open_in(struct memory *m, uint32_t order, size_t size,
			   DmaAttr attr, Handle domain)
{
	m->size = size;
	m->buffer = buffer_create(order, size, attr);
	m->access = domain == INVALID_HANDLE ?
			    access_begin(m->buffer) :
			    access_begin_in(m->buffer, domain);
	m->mem = buffer_map(m->buffer, size, &m->mapping);
}

static void memory_open(struct memory *m, uint32_t order, size_t size,
			DmaAttr attr)
{
	memory_open_in(m, order, size, attr, INVALID_HANDLE);
}

static void memory_close(struct memory *m)
{
	EXPECT_OK(KnHandleClose(m->mapping));
	if (m->access != INVALID_HANDLE)
		EXPECT_OK(KnHandleClose(m->access));
	EXPECT_OK(KnHandleClose(m->buffer));
}

/*
 * The address at an offset into the buffer, and how far the buffer goes on from
 * there without a jump, as a driver finds out.
 */
static uint64_t device_addr(Handle access, size_t offset, size_t *run)
{
	DmaInfo *info = buffer_info(access);
	uint64_t addr = 0;
	size_t end = 0;
	bool found = false;

	*run = 0;
	for (size_t i = 0; i < info->count; i++) {
		uint64_t start = (uint64_t)info->descriptors[i].frame
				 << PAGE_SHIFT;
		size_t length = PAGE_SIZE << info->descriptors[i].order;

		if (found && start == addr + *run) {
			*run += length;
		} else if (found) {
			break;
		} else if (offset < end + length) {
			found = true;
			addr = start + (offset - end);
			*run = length - (offset - end);
		}
		end += length;
	}
	KosMemFree(info);
	ASSERT_TRUE(found);
	return addr;
}

/* From or to the device's buffer, in as many copies as it takes. */
static void copy(struct edu *edu, Handle access, size_t offset, uint32_t inside,
		 uint32_t count, bool to_device)
{
	while (count) {
		size_t run;
		uint64_t addr = device_addr(access, offset, &run);
		uint32_t part = run < count ? run : count;

		if (to_device)
			edu_copy_in(edu, addr, inside, part);
		else
			edu_copy_out(edu, inside, addr, part);
		offset += part;
		inside += part;
		count -= part;
	}
}

static void send(struct edu *edu, struct memory *m, size_t offset,
		 uint32_t inside, uint32_t count)
{
	copy(edu, m->access, offset, inside, count, true);
}

static void fetch(struct edu *edu, struct memory *m, size_t offset,
		  uint32_t inside, uint32_t count)
{
	copy(edu, m->access, offset, inside, count, false);
}

/* To the device and back to where it was, which was overwritten meanwhile. */
static void round_trip(struct edu *edu, struct memory *m, size_t offset,
		       uint32_t inside, uint32_t count, uint32_t seed)
{
	test_context("%u bytes at %#zx of %#zx", count, offset, m->size);
	pattern_fill(m->mem + offset, count, seed);
	send(edu, m, offset, inside, count);
	memset(m->mem + offset, 0xee, count);
	if (offset)
		m->mem[offset - 1] = 0x11;
	if (offset + count < m->size)
		m->mem[offset + count] = 0x22;
	fetch(edu, m, offset, inside, count);
	pattern_check(m->mem + offset, count, seed);
	if (offset)
		EXPECT_EQ(0x11, m->mem[offset - 1]);
	if (offset + count < m->size)
		EXPECT_EQ(0x22, m->mem[offset + count]);
	test_context("%s", "");
}

/* Fill the device's buffer, through memory that is good for it. */
static void load(struct edu *edu, uint8_t value)
{
	struct memory m;

	memory_open(&m, 0, PAGE_SIZE, 0);
	memset(m.mem, value, PAGE_SIZE);
	send(edu, &m, 0, 0, EDU_COPY_MAX);
	memory_close(&m);
}

/* The first byte of the device's buffer. */
static uint8_t loaded(struct edu *edu)
{
	struct memory m;
	uint8_t value;

	memory_open(&m, 0, PAGE_SIZE, 0);
	memset(m.mem, 0xbb, PAGE_SIZE);
	fetch(edu, &m, 0, 0, 16);
	value = m.mem[0];
	EXPECT_EQ(16, first_not(m.mem, 16, value));
	memory_close(&m);
	return value;
}

FIXTURE(dma) {
	struct edu edu;
	bool translated;
};

FIXTURE_SETUP(dma)
{
	device_warm_up();
	edu_open(&self->edu, 0);
	self->translated = edu_translated(&self->edu);
}

FIXTURE_TEARDOWN(dma)
{
	/* Whatever was refused, the device goes on working. */
	Retcode rc = KnIommuAttachDevice(self->edu.bdf);

	EXPECT_TRUE(rc == rcOk || rc == rcBusy);
	if (rc == rcOk || rc == rcBusy) {
		struct memory m;

		memory_open(&m, 0, PAGE_SIZE, 0);
		round_trip(&self->edu, &m, 1, 0, 100, 99);
		memory_close(&m);
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
	edu_unmap_registers(&self->edu);
}

/* ---- what works ---- */

TEST_F(dma, odd_lengths_and_offsets)
{
	static const struct {
		size_t offset;
		uint32_t inside, count;
	} cases[] = {
		{ 0, 0, 1 },	     { 1, 3, 1 },	{ 3, 5, 7 },
		{ 4095, 0, 2 },	     { 12345, 77, 1001 }, { 4093, 1, 4094 },
		{ 8191, 0, 4095 },   { 16384 - 13, 4082, 13 },
	};
	struct memory m;

	memory_open(&m, 2, PAGES(4), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		round_trip(&self->edu, &m, cases[i].offset, cases[i].inside,
			   cases[i].count, i);
	memory_close(&m);
}

TEST_F(dma, nothing_beside_the_copy_changes)
{
	struct memory m;

	memory_open(&m, 0, PAGES(5), 0);
	load(&self->edu, 0x42);
	memset(m.mem, 0x17, m.size);
	fetch(&self->edu, &m, 4099, 0, 4001);
	EXPECT_EQ(4099, first_not(m.mem, 4099, 0x17));
	EXPECT_EQ(4001, first_not(m.mem + 4099, 4001, 0x42));
	EXPECT_EQ(m.size - 8100, first_not(m.mem + 8100, m.size - 8100, 0x17));
	memory_close(&m);
}

TEST_F(dma, each_cache_attribute)
{
	static const DmaAttr attrs[] = { DMA_ATTR_WRITE_BACK,
					 DMA_ATTR_WRITE_COMBINE,
					 DMA_ATTR_CACHE_DISABLE };

	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		struct memory m;

		memory_open(&m, 1, PAGES(4), attrs[i]);
		round_trip(&self->edu, &m, 4090, 9, 777, i);
		memory_close(&m);
	}
}

TEST_F(dma, each_direction)
{
	struct memory to, from, low;

	memory_open(&to, 0, PAGES(2), DMA_DIR_TO_DEVICE);
	memory_open(&from, 0, PAGES(2), DMA_DIR_FROM_DEVICE);
	memory_open(&low, 0, PAGES(2), DMA_ZONE_DMA32);
	pattern_fill(to.mem, PAGES(2), 1);
	send(&self->edu, &to, 101, 0, 4000);
	fetch(&self->edu, &from, 77, 0, 4000);
	fetch(&self->edu, &low, 4091, 0, 4000);
	EXPECT_EQ(0, memcmp(to.mem + 101, from.mem + 77, 4000));
	EXPECT_EQ(0, memcmp(to.mem + 101, low.mem + 4091, 4000));
	EXPECT_EQ(77, first_not(from.mem, 77, 0));
	memory_close(&low);
	memory_close(&from);
	memory_close(&to);
}

TEST_F(dma, a_continuous_buffer)
{
	struct memory m = { .size = MiB(1) };

	ASSERT_OK(KnIoDmaCreateContinuous(m.size, 0, &m.buffer));
	m.access = access_begin(m.buffer);
	m.mem = buffer_map(m.buffer, m.size, &m.mapping);
	round_trip(&self->edu, &m, 0, 0, 4095, 1);
	round_trip(&self->edu, &m, m.size / 2 - 50, 0, 101, 2);
	round_trip(&self->edu, &m, m.size - 99, 0, 99, 3);
	memory_close(&m);
}

FIXTURE(sized) {
	struct edu edu;
};

FIXTURE_VARIANT(sized) {
	uint32_t order;
	size_t size;
	bool needs_translation;
};

FIXTURE_VARIANT_ADD(sized, one_page) { .size = PAGES(1) };
FIXTURE_VARIANT_ADD(sized, seven_pages) { .size = PAGES(7) };
FIXTURE_VARIANT_ADD(sized, seven_blocks) { .order = 2, .size = PAGES(28) };
FIXTURE_VARIANT_ADD(sized, kib_64) { .order = 4, .size = KiB(64) };
FIXTURE_VARIANT_ADD(sized, mib_1) { .size = MiB(1) };
FIXTURE_VARIANT_ADD(sized, mib_4) { .order = 10, .size = MiB(4) };
FIXTURE_VARIANT_ADD(sized, mib_5) { .size = MiB(5) };
FIXTURE_VARIANT_ADD(sized, mib_64) { .size = MiB(64) };
FIXTURE_VARIANT_ADD(sized, mib_64_one_block) {
	.order = 14, .size = MiB(64), .needs_translation = true
};

FIXTURE_SETUP(sized)
{
	device_warm_up();
	if (variant->needs_translation) {
		edu_require(&self->edu, 0);
		edu_require_translation(&self->edu);
	}
	edu_open(&self->edu, 0);
}

FIXTURE_TEARDOWN(sized)
{
	edu_unmap_registers(&self->edu);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

enum { BORDERS_MAX = 4 };

/* Offsets at which one block ends and the next begins, some of them. */
static int borders(DmaInfo *info, size_t *offsets)
{
	size_t step = (info->count + BORDERS_MAX - 1) / BORDERS_MAX, end = 0;
	int n = 0;

	for (size_t i = 0; i + 1 < info->count; i++) {
		end += PAGE_SIZE << info->descriptors[i].order;
		if (i % step == 0 && n < BORDERS_MAX && end < info->size)
			offsets[n++] = end;
	}
	KosMemFree(info);
	return n;
}

/*
 * QEMU's virtio IOMMU takes the last byte of a mapping for one of the mapping
 * that follows it at once, when a copy starts there: it would hit the byte
 * before that one's memory, which is somebody else's.
 */
static size_t bytes_before_border(void)
{
	return probe_virtio_iommu() ? 2 : 1;
}

TEST_F(sized, first_and_last_bytes_and_across_block_borders)
{
	const size_t before = bytes_before_border();
	size_t offsets[BORDERS_MAX];
	struct memory m;
	DmaInfo *info;
	int n;

	memory_open(&m, variant->order, variant->size, 0);
	round_trip(&self->edu, &m, 0, 0, 61, 1);
	round_trip(&self->edu, &m, m.size - 63, 0, 63, 2);
	/* Of the physical blocks, then of those that the device sees. */
	ASSERT_OK(KnIoDmaGetPhysInfo(m.buffer, &info));
	n = borders(info, offsets);
	for (int i = 0; i < n; i++)
		round_trip(&self->edu, &m, offsets[i] - 33, 5, 65, 3 + i);
	n = borders(buffer_info(m.access), offsets);
	for (int i = 0; i < n; i++)
		round_trip(&self->edu, &m, offsets[i] - before, 7, before + 2,
			   13 + i);
	memory_close(&m);
}

TEST_F(sized, the_device_reads_what_lies_where_the_blocks_say)
{
	struct memory m, result;

	/* Each page holds its number: a wrong block order would show. */
	memory_open(&m, variant->order, variant->size, 0);
	memory_open(&result, 0, PAGE_SIZE, 0);
	for (size_t page = 0; page < m.size / PAGE_SIZE; page++)
		*(uint64_t *)(m.mem + PAGES(page)) = page + 1;
	for (size_t i = 0; i < 5; i++) {
		size_t page = (m.size / PAGE_SIZE - 1) * i / 4;

		send(&self->edu, &m, PAGES(page), 0, 8);
		fetch(&self->edu, &result, 0, 0, 8);
		test_context("page %zu", page);
		EXPECT_EQ(page + 1, *(volatile uint64_t *)result.mem);
	}
	test_context("%s", "");
	memory_close(&result);
	memory_close(&m);
}

/* ---- who reaches what, when ---- */

TEST_F(dma, a_device_attached_later_reaches_what_was_begun_before)
{
	struct memory early, m;

	memory_open(&early, 0, PAGES(3), 0);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	memory_open(&m, 0, PAGES(3), 0);
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	round_trip(&self->edu, &early, 5000, 0, 333, 1);
	round_trip(&self->edu, &m, 4000, 0, 333, 2);
	memory_close(&m);
	memory_close(&early);
}

TEST_F(dma, a_buffer_begun_before_the_first_attach)
{
	Handle domain = domain_create();
	struct memory m;

	memory_open_in(&m, 0, PAGES(3), 0, domain);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
	round_trip(&self->edu, &m, 4000, 0, 333, 1);
	ASSERT_OK(KnIommuDetachDeviceFromDomain(self->edu.bdf, domain));
	memory_close(&m);
	EXPECT_OK(KnHandleClose(domain));
}

TEST_F(dma, one_buffer_in_two_domains)
{
	Handle domain = domain_create(), there;
	struct memory m, alias;

	memory_open(&m, 0, PAGES(3), 0);
	there = access_begin_in(m.buffer, domain);
	alias = m;
	alias.access = there;
	round_trip(&self->edu, &m, 4000, 0, 333, 1);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
	round_trip(&self->edu, &alias, 4000, 0, 333, 2);
	/* Leaving one does not take it from the other. */
	EXPECT_OK(KnHandleClose(m.access));
	m.access = INVALID_HANDLE;
	round_trip(&self->edu, &alias, 4000, 0, 333, 3);
	ASSERT_OK(KnIommuDetachDeviceFromDomain(self->edu.bdf, domain));
	EXPECT_OK(KnHandleClose(there));
	EXPECT_OK(KnHandleClose(domain));
	memory_close(&m);
}

TEST_F(dma, two_devices_share_a_buffer)
{
	struct edu second;
	struct memory m;

	edu_require(&second, 1);
	ASSERT_OK(KnIommuAttachDevice(second.bdf));
	ASSERT_OK(edu_map_registers(&second));
	memory_open(&m, 0, PAGES(3), 0);
	round_trip(&self->edu, &m, 100, 0, 333, 1);
	round_trip(&second, &m, 100, 0, 333, 2);
	/* From one device to the other. */
	pattern_fill(m.mem, PAGES(1), 3);
	send(&self->edu, &m, 0, 0, 1000);
	fetch(&self->edu, &m, 5000, 0, 1000);
	send(&second, &m, 5000, 0, 1000);
	fetch(&second, &m, 9000, 0, 1000);
	pattern_check(m.mem + 9000, 1000, 3);
	/* One that leaves does not take it from the other. */
	edu_unmap_registers(&second);
	ASSERT_OK(KnIommuDetachDevice(second.bdf));
	round_trip(&self->edu, &m, 100, 0, 333, 4);
	memory_close(&m);
}

TEST_F(dma, two_devices_in_two_domains_do_not_meet)
{
	Handle domain;
	struct edu second;
	struct memory m;
	size_t run;

	edu_require_translation(&self->edu);
	edu_require(&second, 1);
	domain = domain_create();
	ASSERT_OK(KnIommuAttachDeviceToDomain(second.bdf, domain));
	ASSERT_OK(edu_map_registers(&second));
	memory_open(&m, 0, PAGES(1), 0);
	memset(m.mem, 0x33, m.size);
	load(&self->edu, 0x44);
	/* The same address means nothing in the other domain. */
	edu_copy_out(&second, 0, device_addr(m.access, 0, &run), 64);
	EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x33));
	edu_unmap_registers(&second);
	ASSERT_OK(KnIommuDetachDeviceFromDomain(second.bdf, domain));
	EXPECT_OK(KnHandleClose(domain));
	memory_close(&m);
}

TEST_F(dma, one_of_two_accesses_closed_leaves_the_other)
{
	struct memory m, again;

	memory_open(&m, 0, PAGES(3), 0);
	again = m;
	again.access = access_begin(m.buffer);
	round_trip(&self->edu, &m, 10, 0, 333, 1);
	EXPECT_OK(KnHandleClose(m.access));
	m.access = INVALID_HANDLE;
	round_trip(&self->edu, &again, 10, 0, 333, 2);
	EXPECT_OK(KnHandleClose(again.access));
	memory_close(&m);
}

TEST_F(dma, the_access_keeps_memory_whose_handles_are_closed)
{
	Handle buffer = buffer_create(0, PAGES(2), 0);
	Handle access = access_begin(buffer), other[4];
	struct memory result;
	Handle mapping;

	pattern_fill(buffer_map(buffer, PAGES(2), &mapping), PAGES(2), 5);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(buffer));
	for (int i = 0; i < 4; i++)
		other[i] = buffer_create(0, PAGES(2), 0);
	memory_open(&result, 0, PAGES(2), 0);
	copy(&self->edu, access, 0, 0, 4000, true);
	fetch(&self->edu, &result, 0, 0, 4000);
	pattern_check(result.mem, 4000, 5);
	memory_close(&result);
	EXPECT_OK(KnHandleClose(access));
	for (int i = 0; i < 4; i++)
		EXPECT_OK(KnHandleClose(other[i]));
}

/* ---- what is refused ---- */

/*
 * The device's write to and read from an address: neither has any effect. The
 * lowest addresses are in use here: @addr must lie above the first free page.
 */
static void expect_cut_off(struct edu *edu, uint64_t addr, uint8_t *mem,
			   size_t size)
{
	uint8_t value;

	/* The device must hold nothing that is also in the memory. */
	memset(mem, 0x5c, size);
	load(edu, 0xa3);
	edu_copy_out(edu, 0, addr, 64);
	EXPECT_EQ(size, first_not(mem, size, 0x5c));
	edu_copy_in(edu, addr, 0, 64);
	value = loaded(edu);
	EXPECT_NE(0x5c, value);
}

TEST_F(dma, closing_the_access_cuts_the_device_off)
{
	struct memory m;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&m, 0, PAGES(2), 0);
	addr = device_addr(m.access, 0, &run);
	round_trip(&self->edu, &m, 0, 0, 100, 1);
	EXPECT_OK(KnHandleClose(m.access));
	m.access = INVALID_HANDLE;
	expect_cut_off(&self->edu, addr + PAGE_SIZE, m.mem, m.size);
	memory_close(&m);
}

TEST_F(dma, a_copy_under_way_does_not_land_after_close)
{
	struct memory m;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	load(&self->edu, 0xa3);
	for (int i = 0; i < 3; i++) {
		memory_open(&m, 0, PAGES(2), 0);
		addr = device_addr(m.access, 0, &run);
		memset(m.mem, 0x5c, m.size);
		edu_copy_out_start(&self->edu, 0, addr, 4000);
		EXPECT_OK(KnHandleClose(m.access));
		m.access = INVALID_HANDLE;
		/* What it had written, it had written before: now is after. */
		memset(m.mem, 0x5c, m.size);
		ASSERT_TRUE(edu_copy_wait(&self->edu));
		EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x5c));
		memory_close(&m);
	}
}

TEST_F(dma, revoking_the_handle_cuts_the_device_off)
{
	struct memory m;
	Handle copied;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&m, 0, PAGES(2), 0);
	EXPECT_OK(KnHandleClose(m.access));
	copied = buffer_copy(m.buffer, OCAP_DMA_FULL);
	m.access = access_begin(copied);
	round_trip(&self->edu, &m, 0, 0, 100, 1);
	addr = device_addr(m.access, 0, &run);
	EXPECT_OK(KnHandleRevokeEx(m.buffer, rtl_false));
	expect_cut_off(&self->edu, addr + PAGE_SIZE, m.mem, m.size);
	EXPECT_OK(KnHandleClose(copied));
	memory_close(&m);
}

TEST_F(dma, closing_the_domain_cuts_the_device_off)
{
	Handle domain = domain_create();
	struct memory m;
	uint64_t addr;
	size_t run;

	memory_open_in(&m, 0, PAGES(2), 0, domain);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
	round_trip(&self->edu, &m, 0, 0, 100, 1);
	addr = device_addr(m.access, 0, &run);
	memset(m.mem, 0x5c, m.size);
	EXPECT_OK(KnHandleClose(domain));
	/* The domain had it: it is nowhere now, and no bus master. */
	edu_copy_out(&self->edu, 0, addr, 64);
	EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x5c));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	if (self->translated) {
		/* Nor in the next domain. */
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		expect_cut_off(&self->edu, addr + PAGE_SIZE, m.mem, m.size);
	}
	memory_close(&m);
}

TEST_F(dma, detaching_cuts_the_device_off)
{
	struct memory m;
	uint64_t addr;
	size_t run;

	memory_open(&m, 0, PAGES(2), 0);
	round_trip(&self->edu, &m, 0, 0, 100, 1);
	addr = device_addr(m.access, 0, &run);
	memset(m.mem, 0x5c, m.size);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	edu_copy_out(&self->edu, 0, addr, 64);
	EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x5c));
	/* And what it had begun is there again when it returns. */
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	round_trip(&self->edu, &m, 0, 0, 100, 2);
	memory_close(&m);
}

TEST_F(dma, a_copy_under_way_does_not_land_after_detach)
{
	struct memory m;
	uint64_t addr;
	size_t run;

	load(&self->edu, 0xa3);
	memory_open(&m, 0, PAGES(2), 0);
	addr = device_addr(m.access, 0, &run);
	edu_copy_out_start(&self->edu, 0, addr, 4000);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	memset(m.mem, 0x5c, m.size);
	ASSERT_TRUE(edu_copy_wait(&self->edu));
	EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x5c));
	memory_close(&m);
}

TEST_F(dma, neighbours_are_out_of_reach)
{
	struct memory a, b;
	uint64_t at_a, at_b, end;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&a, 0, PAGES(1), 0);
	memory_open(&b, 0, PAGES(1), 0);
	at_a = device_addr(a.access, 0, &run);
	at_b = device_addr(b.access, 0, &run);
	ASSERT_NE(at_a + PAGE_SIZE, at_b);
	ASSERT_NE(at_b + PAGE_SIZE, at_a);
	end = at_a + PAGE_SIZE;
	load(&self->edu, 0xa3);
	memset(a.mem, 0x5c, a.size);
	memset(b.mem, 0x5d, b.size);
	/* Into the gap, and over the end of the first. */
	edu_copy_out(&self->edu, 0, end, 64);
	edu_copy_out(&self->edu, 0, end + PAGE_SIZE - 64, 64);
	EXPECT_EQ(a.size, first_not(a.mem, a.size, 0x5c));
	EXPECT_EQ(b.size, first_not(b.mem, b.size, 0x5d));
	edu_copy_out(&self->edu, 0, end - 64, EDU_COPY_MAX);
	EXPECT_EQ(a.size - 64, first_not(a.mem, a.size - 64, 0x5c));
	EXPECT_EQ(b.size, first_not(b.mem, b.size, 0x5d));
	/* Page 0 is nobody's. */
	edu_copy_out(&self->edu, 0, 0, 64);
	edu_copy_out(&self->edu, 0, 0x1000000, 64);
	EXPECT_EQ(b.size, first_not(b.mem, b.size, 0x5d));
	memory_close(&b);
	memory_close(&a);
}

TEST_F(dma, a_to_device_buffer_is_read_only_for_the_device)
{
	struct memory m;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&m, 0, PAGES(2), DMA_DIR_TO_DEVICE);
	addr = device_addr(m.access, 0, &run);
	load(&self->edu, 0xa3);
	memset(m.mem, 0x5c, m.size);
	edu_copy_out(&self->edu, 0, addr + 4000, 200);
	EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x5c));
	/* It can be read. */
	edu_copy_in(&self->edu, addr, 0, 64);
	EXPECT_EQ(0x5c, loaded(&self->edu));
	memory_close(&m);
}

/*
 * Linux's VT-d driver sets the lowest bit of every entry: present in one format
 * of the page table, but readable in the other.
 */
static void expect_unreadable(struct edu *edu, bool readable)
{
	char path[128], iommu[256];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/iommu", edu->path);
	n = readlink(path, iommu, sizeof(iommu) - 1);
	iommu[n < 0 ? 0 : n] = '\0';
	if (readable && strstr(iommu, "/dmar"))
		SKIP("this kernel's VT-d driver lets devices read all they can write");
	EXPECT_FALSE(readable);
}

TEST_F(dma, a_from_device_buffer_is_write_only_for_the_device)
{
	bool readable;
	struct memory m;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&m, 0, PAGES(2), DMA_DIR_FROM_DEVICE);
	addr = device_addr(m.access, 0, &run);
	load(&self->edu, 0xa3);
	memset(m.mem, 0x5c, m.size);
	edu_copy_in(&self->edu, addr, 0, 64);
	readable = loaded(&self->edu) == 0x5c;
	/* It can be written. */
	load(&self->edu, 0xa4);
	edu_copy_out(&self->edu, 0, addr, 64);
	EXPECT_EQ(64, first_not(m.mem, m.size, 0xa4));
	memory_close(&m);
	expect_unreadable(&self->edu, readable);
}

TEST_F(dma, a_handle_without_the_right_to_write_binds_the_device)
{
	struct memory m;
	Handle copied;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&m, 0, PAGES(2), DMA_DIR_BIDIR);
	EXPECT_OK(KnHandleClose(m.access));
	load(&self->edu, 0xa3);
	copied = buffer_copy(m.buffer, OCAP_DMA_BEGIN | OCAP_DMA_READ);
	m.access = access_begin(copied);
	addr = device_addr(m.access, 0, &run);
	memset(m.mem, 0x5c, m.size);
	edu_copy_out(&self->edu, 0, addr, 64);
	EXPECT_EQ(m.size, first_not(m.mem, m.size, 0x5c));
	edu_copy_in(&self->edu, addr, 0, 64);
	EXPECT_EQ(0x5c, loaded(&self->edu));
	EXPECT_OK(KnHandleClose(copied));
	memory_close(&m);
}

TEST_F(dma, a_handle_without_the_right_to_read_binds_the_device)
{
	bool readable;
	struct memory m;
	Handle copied;
	uint64_t addr;
	size_t run;

	edu_require_translation(&self->edu);
	memory_open(&m, 0, PAGES(2), DMA_DIR_BIDIR);
	EXPECT_OK(KnHandleClose(m.access));
	load(&self->edu, 0xa3);
	copied = buffer_copy(m.buffer, OCAP_DMA_BEGIN | OCAP_DMA_WRITE);
	if (!probe_write_only()) {
		/* It could read, so it does not even come that far. */
		EXPECT_RC(rcNoCapability, KnIoDmaBegin(copied, &m.access));
		EXPECT_OK(KnHandleClose(copied));
		return;
	}
	m.access = access_begin(copied);
	addr = device_addr(m.access, 0, &run);
	memset(m.mem, 0x5c, m.size);
	edu_copy_in(&self->edu, addr, 0, 64);
	readable = loaded(&self->edu) == 0x5c;
	EXPECT_OK(KnHandleClose(copied));
	memory_close(&m);
	expect_unreadable(&self->edu, readable);
}

/*
 * Behind an IOMMU a stale address is nobody's. Without one it still is that of
 * the pages, which linger: nobody else may get them while the device is there.
 */
TEST_F(dma, a_stale_address_never_hits_memory_of_others)
{
	enum { NR = 64 };
	static Handle buffers[NR], mappings[NR];
	static uint8_t *mem[NR];
	struct memory m;
	uint64_t addr;
	size_t run;

	load(&self->edu, 0xa3);
	memory_open(&m, 0, PAGES(8), 0);
	addr = device_addr(m.access, 0, &run);
	memory_close(&m);
	for (int i = 0; i < NR; i++) {
		buffers[i] = buffer_create(0, PAGES(8), 0);
		mem[i] = buffer_map(buffers[i], PAGES(8), &mappings[i]);
	}
	edu_copy_out(&self->edu, 0, addr, 4000);
	for (int i = 0; i < NR; i++) {
		EXPECT_EQ(PAGES(8), first_not(mem[i], PAGES(8), 0));
		EXPECT_OK(KnHandleClose(mappings[i]));
		EXPECT_OK(KnHandleClose(buffers[i]));
	}
}

/* Without an IOMMU, what lingers is let go when the device is quiet. */
TEST_F(dma, memory_of_closed_accesses_comes_back)
{
	long before;
	struct memory m;

	memory_open(&m, 0, MiB(1), 0);
	memory_close(&m);
	before = probe_free_memory();
	for (int i = 0; i < 8; i++) {
		memory_open(&m, 0, MiB(8), 0);
		memory_close(&m);
	}
	if (self->translated)
		EXPECT_TRUE(probe_memory_returns(before, 16 << 10));
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_TRUE(probe_memory_returns(before, 16 << 10));
}

TEST_HARNESS_MAIN
