// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA truth with a device that has queues of its own: an NVMe controller reads
 * its commands, lists of pages and data from memory, and writes data and
 * answers there, many at a time.
 *
 * The second namespace is one that takes its time (tests/vm/check says how):
 * what is read from it is under way for seconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/nvme.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE

enum { FAST = 1, SLOW = 2 };

/* ---- memory, page by page as the device sees it ---- */

struct area {
	Handle buffer, access, mapping;
	uint8_t *mem;
	size_t size;
	uint64_t *pages;
	uint32_t nr;
};

static void area_locate(struct area *a)
{
	DmaInfo *info = buffer_info(a->access);
	uint32_t nr = 0;

	for (size_t i = 0; i < info->count; i++)
		for (size_t k = 0; k < (size_t)1 << info->descriptors[i].order;
		     k++)
			if (nr < a->nr)
				a->pages[nr++] =
					(info->descriptors[i].frame + k)
					<< PAGE_SHIFT;
	KosMemFree(info);
	ASSERT_EQ(a->nr, nr);
}

static void area_begin(struct area *a, Handle buffer, size_t size,
		       Handle domain)
{
	*a = (struct area){ .buffer = buffer, .size = size, .mapping = NONE };
	a->access = domain == NONE ? access_begin(buffer) :
				     access_begin_in(buffer, domain);
	a->nr = size / PAGE;
	a->pages = calloc(a->nr, sizeof(*a->pages));
	ASSERT_NOT_NULL(a->pages);
	area_locate(a);
}

static void area_open(struct area *a, uint32_t order, size_t size, DmaAttr attr,
		      Handle domain)
{
	area_begin(a, buffer_create(order, size, attr), size, domain);
	a->mem = buffer_map(a->buffer, size, &a->mapping);
}

static void area_end_access(struct area *a)
{
	EXPECT_OK(KnHandleClose(a->access));
	a->access = NONE;
}

static void area_close(struct area *a)
{
	if (a->mapping != NONE)
		EXPECT_OK(KnHandleClose(a->mapping));
	if (a->access != NONE)
		EXPECT_OK(KnHandleClose(a->access));
	EXPECT_OK(KnHandleClose(a->buffer));
	free(a->pages);
}

/* Commands of a whole area; what the device says must be success. */
static void area_write(struct nvme *n, struct area *a, uint64_t offset)
{
	EXPECT_EQ(0, nvme_io(n, FAST, true, offset, a->pages, a->nr));
}

static void area_read(struct nvme *n, struct area *a, uint64_t offset)
{
	EXPECT_EQ(0, nvme_io(n, FAST, false, offset, a->pages, a->nr));
}

/* A pattern to the namespace and back, through memory of its own. */
static void round_trip(struct nvme *n, size_t size, uint32_t order,
		       DmaAttr attr, uint32_t seed)
{
	struct area from, to;

	area_open(&from, order, size, attr, n->domain);
	area_open(&to, order, size, attr, n->domain);
	pattern_fill(from.mem, size, seed);
	area_write(n, &from, 0);
	memset(to.mem, 0xee, size);
	area_read(n, &to, 0);
	pattern_check(to.mem, size, seed);
	pattern_check(from.mem, size, seed);
	area_close(&to);
	area_close(&from);
}

/* So many bytes of the namespace, from @offset on, are @value. */
static void load(struct nvme *n, uint64_t offset, size_t size, uint8_t value)
{
	struct area a;

	area_open(&a, 0, size, 0, n->domain);
	memset(a.mem, value, size);
	area_write(n, &a, offset);
	area_close(&a);
}

FIXTURE(nvme)
{
	struct nvme n;
	bool translated;
};

FIXTURE_SETUP(nvme)
{
	device_warm_up();
	nvme_require(&self->n);
	self->translated = nvme_translated(&self->n);
}

/* Whatever happened to it, the next process has it at once, and it works. */
FIXTURE_TEARDOWN(nvme)
{
	/* A test that failed or skipped may have it still. */
	KnIoMemHandlesClose(&self->n.handles);
	nvme_detach(&self->n);
	test_context("the next process");
	IN_CHILD
	{
		struct nvme next;

		ASSERT_TRUE(nvme_find(&next));
		nvme_open(&next, NONE);
		round_trip(&next, MiB(1), 0, 0, 99);
		nvme_close(&next);
	}
	test_context("%s", "");
}

/* ---- what works ---- */

TEST_F(nvme, identify_data_lands)
{
	nvme_open(&self->n, NONE);
	EXPECT_EQ(0, strncmp(self->n.model, "QEMU NVMe Ctrl", 14));
	EXPECT_GT(self->n.size[0], MiB(1));
	EXPECT_EQ(0, self->n.size[0] % self->n.block[0]);
	/* Nothing but the answer has been changed. */
	for (size_t i = 1024; i < PAGE; i++)
		ASSERT_NE(0xee, self->n.identified.mem[i]);
	nvme_close(&self->n);
}

TEST_F(nvme, a_mebibyte_through_a_scatter_buffer)
{
	static const DmaAttr attrs[] = { DMA_ATTR_WRITE_BACK,
					 DMA_ATTR_WRITE_COMBINE,
					 DMA_ATTR_CACHE_DISABLE };

	nvme_open(&self->n, NONE);
	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		test_context("attributes %#x", attrs[i]);
		round_trip(&self->n, MiB(1), 0, attrs[i], i);
	}
	test_context("%s", "");
	round_trip(&self->n, MiB(1), 8, DMA_DIR_BIDIR, 7);
	nvme_close(&self->n);
}

TEST_F(nvme, each_length_of_a_list)
{
	static const uint32_t lengths[] = { 1,	 2,   3,    511, 512,
					    513, 514, 1023, 1024 };

	nvme_open(&self->n, NONE);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		test_context("%u pages", lengths[i]);
		if (lengths[i] <= self->n.max_pages)
			round_trip(&self->n, PAGES(lengths[i]), 0, 0, i);
	}
	nvme_close(&self->n);
}

TEST_F(nvme, pages_in_any_order)
{
	enum { NR = 64 };
	uint64_t pages[NR];
	struct area a;

	nvme_open(&self->n, NONE);
	area_open(&a, 0, PAGES(NR), 0, NONE);
	for (int i = 0; i < NR; i++) {
		pattern_fill(a.mem + PAGES(i), PAGE, i);
		pages[i] = a.pages[NR - 1 - i];
	}
	area_write(&self->n, &a, 0);
	memset(a.mem, 0xee, a.size);
	ASSERT_EQ(0, nvme_io(&self->n, FAST, false, 0, pages, NR));
	for (int i = 0; i < NR; i++)
		pattern_check(a.mem + PAGES(NR - 1 - i), PAGE, i);
	area_close(&a);
	nvme_close(&self->n);
}

/* A full queue, all answered, each with its own data. */
TEST_F(nvme, many_commands_at_once)
{
	enum { NR = NVME_DEPTH - 1, EACH = 16 };
	struct area a;

	nvme_open(&self->n, NONE);
	area_open(&a, 0, PAGES(NR * EACH), 0, NONE);
	for (int round = 0; round < 3; round++) {
		for (int write = 1; write >= 0; write--) {
			if (write)
				pattern_fill(a.mem, a.size, round);
			else
				memset(a.mem, 0xee, a.size);
			for (int i = 0; i < NR; i++)
				nvme_submit(&self->n, FAST, write,
					    PAGES(i * EACH), a.pages + i * EACH,
					    EACH);
			for (int i = 0; i < NR; i++)
				ASSERT_EQ(0, nvme_wait(&self->n, 60));
		}
		pattern_check(a.mem, a.size, round);
	}
	area_close(&a);
	nvme_close(&self->n);
}

/* From the device to a file, and no copy between. */
TEST_F(nvme, from_the_device_to_a_file_through_an_io_mapping)
{
	const char *path = "/tmp/kosdma-nvme";
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC,
		      0600);
	struct statfs fs;
	struct area a;
	Handle mapping;
	void *addr;

	unlink(path);
	if (fd < 0)
		SKIP("needs O_DIRECT in /tmp: %s", strerror(errno));
	ASSERT_ERRNO(0, fstatfs(fd, &fs));
	if (fs.f_type == TMPFS_MAGIC)
		SKIP("needs a /tmp on a disk: tmpfs copies, whatever it is told");
	nvme_open(&self->n, NONE);
	area_open(&a, 0, MiB(1), 0, NONE);
	ASSERT_OK(KnIoDmaMap(a.buffer, 0, a.size, NULL,
			     VMM_READ_WRITE | VMM_FLAG_IO, &addr, &mapping));
	pattern_fill(a.mem, a.size, 11);
	area_write(&self->n, &a, 0);
	memset(a.mem, 0, a.size);
	area_read(&self->n, &a, 0);
	EXPECT_EQ(a.size, pwrite(fd, addr, a.size, 0));
	/* And back, into what the device reads. */
	memset(a.mem, 0, a.size);
	EXPECT_EQ(a.size, pread(fd, addr, a.size, 0));
	area_write(&self->n, &a, MiB(1));
	memset(a.mem, 0, a.size);
	area_read(&self->n, &a, MiB(1));
	pattern_check(a.mem, a.size, 11);
	close(fd);
	EXPECT_OK(KnHandleClose(mapping));
	area_close(&a);
	nvme_close(&self->n);
}

/* ---- the first and the last address ---- */

static unsigned int bits_of_the_iommu(void)
{
	unsigned long long cap = 0;
	FILE *f = fopen("/sys/class/iommu/dmar0/intel-iommu/cap", "re");

	if (f && fscanf(f, "%llx", &cap) != 1)
		cap = 0;
	if (f)
		fclose(f);
	return cap ? (cap >> 16 & 0x3f) + 1 : 64;
}

/* Begin a buffer as often as there is room, and close it; where the last ends. */
static uint64_t fill_space(Handle buffer, size_t size, unsigned int *nr)
{
	Handle access;
	uint64_t end = 0;
	Retcode rc;

	while ((rc = KnIoDmaBegin(buffer, &access)) == rcOk) {
		uint64_t addr = access_addr(access);

		ASSERT_LT(++*nr, 4000);
		if (addr + size > end)
			end = addr + size;
	}
	EXPECT_RC(rcQuotaExceeded, rc);
	EXPECT_OK(KnHandleClose(buffer));
	return end;
}

/* The device reaches the last page of the space, and nothing behind it. */
TEST_F_TIMEOUT(nvme, last_page_of_39_bits_is_reached_and_none_behind, 300)
{
	const uint64_t limit = 1ull << 39;
	const uint64_t beyond[] = { limit, 1ull << 48, 1ull << 57, 1ull << 63,
				    UINT64_MAX & ~(PAGE - 1ull) };
	struct rlimit files = { 8192, 8192 };
	const uint64_t top = limit - PAGE;
	Handle buffer, mapping;
	unsigned int nr = 0;
	uint64_t end;
	uint8_t *mem;
	size_t size;

	nvme_require_translation(&self->n);
	ASSERT_ERRNO(0, setrlimit(RLIMIT_NOFILE, &files));
	nvme_open(&self->n, NONE);
	if (bits_of_the_iommu() != 39)
		ASSERT_OK(KosIommuSetDmaMask(self->n.bdf, limit - 1));
	load(&self->n, 0, PAGE, 0x42);
	end = fill_space(buffer_create(10, MiB(512), 0), MiB(512), &nr);
	/* Behind a guard page, and aligned as the order asks for. */
	end = (end / MiB(4) + 1) * MiB(4);
	ASSERT_LT(end, limit);
	size = limit - end;
	buffer = buffer_create(10, size, 0);
	mem = buffer_map(buffer, size, &mapping);
	EXPECT_EQ(limit, fill_space(buffer, size, &nr));
	test_log("%u times begun, the last with %zu KiB", nr, size >> 10);
	ASSERT_EQ(0, nvme_io(&self->n, FAST, false, 0, &top, 1));
	EXPECT_EQ(PAGE, first_not(mem + size - PAGE, PAGE, 0x42));
	memset(mem, 0x5c, size);
	for (size_t i = 0; i < ARRAY_SIZE(beyond); i++) {
		/* QEMU's AMD IOMMU drops bits that its page table lacks. */
		if (beyond[i] % limit &&
		    !access("/sys/class/iommu/ivhd0", F_OK))
			continue;
		test_context("address %#llx", (unsigned long long)beyond[i]);
		nvme_io(&self->n, FAST, false, 0, &beyond[i], 1);
		EXPECT_EQ(size, first_not(mem, size, 0x5c));
	}
	test_context("%s", "");
	EXPECT_OK(KnHandleClose(mapping));
	nvme_close(&self->n);
}

/* ---- who reaches what, when ---- */

enum { STALE = 4 }; /* pages */

/*
 * The device reads and writes at addresses that are no longer good: the memory
 * that was there is neither changed nor read.
 */
static void expect_cut_off(struct nvme *n, const uint64_t *pages,
			   volatile uint8_t *mem)
{
	struct area seen;

	load(n, 0, PAGES(STALE), 0xa3);
	memset((void *)mem, 0x5c, PAGES(STALE));
	nvme_io(n, FAST, false, 0, pages, STALE);
	EXPECT_EQ(PAGES(STALE), first_not((void *)mem, PAGES(STALE), 0x5c));
	nvme_io(n, FAST, true, 0, pages, STALE);
	area_open(&seen, 0, PAGES(STALE), 0, n->domain);
	area_read(n, &seen, 0);
	for (int i = 0; i < STALE; i++)
		EXPECT_NE(PAGE, first_not(seen.mem + PAGES(i), PAGE, 0x5c));
	area_close(&seen);
}

/* The same when it is no bus master any more: it cannot even be told. */
static void expect_deaf(struct nvme *n, struct area *a)
{
	EXPECT_FALSE(probe_bus_master(n->path));
	memset(a->mem, 0x5c, a->size);
	nvme_submit(n, FAST, false, 0, a->pages, a->nr);
	EXPECT_EQ(NVME_NO_ANSWER, nvme_wait(n, 1));
	EXPECT_EQ(a->size, first_not(a->mem, a->size, 0x5c));
}

/* With an area that the device has reached, as all of it tells. */
static void open_with_stale(struct nvme *n, struct area *a, Handle domain)
{
	nvme_open(n, domain);
	load(n, 0, PAGES(STALE), 0x42);
	area_open(a, 0, PAGES(STALE), 0, domain);
	area_read(n, a, 0);
	EXPECT_EQ(a->size, first_not(a->mem, a->size, 0x42));
}

TEST_F(nvme, closing_the_access_cuts_it_off)
{
	struct area a;

	nvme_require_translation(&self->n);
	open_with_stale(&self->n, &a, NONE);
	area_end_access(&a);
	expect_cut_off(&self->n, a.pages, a.mem);
	area_close(&a);
	nvme_close(&self->n);
}

/* The middle one of three is gone; the others are not. */
TEST_F(nvme, a_list_with_a_closed_buffer_in_it_reaches_the_others)
{
	struct area a[3];
	uint64_t pages[3];

	nvme_require_translation(&self->n);
	nvme_open(&self->n, NONE);
	load(&self->n, 0, PAGES(3), 0x42);
	for (int i = 0; i < 3; i++) {
		area_open(&a[i], 0, PAGE, 0, NONE);
		memset(a[i].mem, 0x5c, PAGE);
		pages[i] = a[i].pages[0];
	}
	area_end_access(&a[1]);
	nvme_io(&self->n, FAST, false, 0, pages, 3);
	EXPECT_EQ(PAGE, first_not(a[1].mem, PAGE, 0x5c));
	/* What a device does after a refused page is its own matter. */
	ASSERT_EQ(0, nvme_io(&self->n, FAST, false, 0, &pages[0], 1));
	ASSERT_EQ(0, nvme_io(&self->n, FAST, false, 0, &pages[2], 1));
	EXPECT_EQ(PAGE, first_not(a[0].mem, PAGE, 0x42));
	EXPECT_EQ(PAGE, first_not(a[2].mem, PAGE, 0x42));
	for (int i = 0; i < 3; i++)
		area_close(&a[i]);
	nvme_close(&self->n);
}

/*
 * The owner of a buffer lends it to a driver in another process and takes it
 * back. The driver goes on.
 */
static void borrowing_driver(int sock)
{
	struct nvme n;
	struct area a;
	Handle lent;

	nvme_open(&n, NONE);
	load(&n, 0, PAGES(STALE), 0x42);
	ASSERT_OK(KosHandleReceive(sock, &lent));
	area_begin(&a, lent, PAGES(STALE), NONE);
	area_read(&n, &a, 0);
	probe_signal(sock);
	probe_await(sock);
	/* Taken back. */
	EXPECT_RC(rcHandleRevoked, probe_sid(lent));
	nvme_io(&n, FAST, false, 0, a.pages, a.nr);
	nvme_io(&n, FAST, true, PAGES(STALE), a.pages, a.nr);
	probe_signal(sock);
	probe_await(sock);
	area_close(&a);
	nvme_close(&n);
}

TEST_F(nvme, revoke_by_another_process_cuts_it_off)
{
	Handle buffer, mapping;
	uint8_t *mem;
	int sock[2];
	pid_t pid;

	nvme_require_translation(&self->n);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	buffer = buffer_create(0, PAGES(STALE), 0);
	mem = buffer_map(buffer, PAGES(STALE), &mapping);
	pid = test_fork();
	if (!pid) {
		borrowing_driver(sock[1]);
		test_child_exit();
	}
	ASSERT_OK(KosHandleSend(sock[0], buffer, OCAP_DMA_FULL));
	probe_await(sock[0]);
	EXPECT_EQ(PAGES(STALE), first_not(mem, PAGES(STALE), 0x42));
	ASSERT_OK(KnHandleRevokeEx(buffer, rtl_false));
	memset(mem, 0x5c, PAGES(STALE));
	probe_signal(sock[0]);
	probe_await(sock[0]);
	EXPECT_EQ(PAGES(STALE), first_not(mem, PAGES(STALE), 0x5c));
	probe_signal(sock[0]);
	test_wait(pid);
	EXPECT_EQ(PAGES(STALE), first_not(mem, PAGES(STALE), 0x5c));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(nvme, detaching_cuts_it_off)
{
	struct area a;

	open_with_stale(&self->n, &a, NONE);
	ASSERT_OK(nvme_detach(&self->n));
	expect_deaf(&self->n, &a);
	/* What it had begun is there again when it returns. */
	ASSERT_OK(nvme_attach(&self->n));
	nvme_start(&self->n);
	area_read(&self->n, &a, 0);
	EXPECT_EQ(a.size, first_not(a.mem, a.size, 0x42));
	area_close(&a);
	nvme_close(&self->n);
}

TEST_F(nvme, closing_the_domain_cuts_it_off)
{
	Handle domain = domain_create();
	struct area a;

	open_with_stale(&self->n, &a, domain);
	EXPECT_OK(KnHandleClose(domain));
	expect_deaf(&self->n, &a);
	nvme_free(&self->n);
	self->n.domain = NONE;
	ASSERT_OK(nvme_attach(&self->n));
	nvme_start(&self->n);
	/* Nor in the next domain. */
	if (self->translated)
		expect_cut_off(&self->n, a.pages, a.mem);
	area_close(&a);
	nvme_close(&self->n);
}

TEST_F(nvme, neighbours_are_out_of_reach)
{
	struct area a, b;
	uint64_t around[5];

	nvme_require_translation(&self->n);
	nvme_open(&self->n, NONE);
	load(&self->n, 0, PAGES(8), 0xa3);
	area_open(&a, 0, PAGE, 0, NONE);
	area_open(&b, 0, PAGE, 0, NONE);
	memset(a.mem, 0x5c, PAGE);
	memset(b.mem, 0x5d, PAGE);
	ASSERT_NE(a.pages[0] + PAGE, b.pages[0]);
	ASSERT_NE(b.pages[0] + PAGE, a.pages[0]);
	around[0] = a.pages[0] + PAGE;
	around[1] = b.pages[0] + PAGE;
	around[2] = b.pages[0] + PAGES(2);
	around[3] = b.pages[0] + MiB(16);
	around[4] = 0;
	for (int i = 0; i < 5; i++) {
		test_context("address %#llx", (unsigned long long)around[i]);
		nvme_io(&self->n, FAST, false, 0, &around[i], 1);
		EXPECT_EQ(PAGE, first_not(a.mem, PAGE, 0x5c));
		EXPECT_EQ(PAGE, first_not(b.mem, PAGE, 0x5d));
	}
	test_context("%s", "");
	/* And what is not around is within reach, all at once. */
	around[1] = a.pages[0];
	around[2] = b.pages[0];
	EXPECT_EQ(0, nvme_io(&self->n, FAST, false, 0, &around[1], 2));
	EXPECT_EQ(PAGE, first_not(a.mem, PAGE, 0xa3));
	EXPECT_EQ(PAGE, first_not(b.mem, PAGE, 0xa3));
	area_close(&b);
	area_close(&a);
	nvme_close(&self->n);
}

TEST_F(nvme, a_to_device_buffer_is_not_written)
{
	struct area a, b;

	nvme_require_translation(&self->n);
	nvme_open(&self->n, NONE);
	load(&self->n, 0, PAGES(STALE), 0xa3);
	area_open(&a, 0, PAGES(STALE), DMA_DIR_TO_DEVICE, NONE);
	area_open(&b, 0, PAGES(STALE), DMA_DIR_FROM_DEVICE, NONE);
	pattern_fill(a.mem, a.size, 3);
	nvme_io(&self->n, FAST, false, 0, a.pages, a.nr);
	pattern_check(a.mem, a.size, 3);
	/* It is read. */
	area_write(&self->n, &a, MiB(1));
	area_read(&self->n, &b, MiB(1));
	pattern_check(b.mem, b.size, 3);
	area_close(&b);
	area_close(&a);
	nvme_close(&self->n);
}

/* One address, two devices, two domains: each has its own memory there. */
TEST_F(nvme, the_same_address_in_two_domains_is_two_places)
{
	Handle domain = domain_create();
	struct area mine, theirs, from;
	struct edu edu;

	nvme_require_translation(&self->n);
	edu_require(&edu, 0);
	self->n.domain = domain;
	ASSERT_OK(nvme_attach(&self->n));
	ASSERT_OK(nvme_map_registers(&self->n));
	edu_open(&edu, 0);
	area_open(&mine, 0, PAGE, 0, domain);
	area_open(&theirs, 0, PAGE, 0, NONE);
	ASSERT_EQ(mine.pages[0], theirs.pages[0]);
	nvme_start(&self->n);
	area_open(&from, 0, PAGE, 0, NONE);

	memset(mine.mem, 0x11, PAGE);
	memset(theirs.mem, 0x22, PAGE);
	load(&self->n, 0, PAGE, 0x33);
	EXPECT_EQ(0, nvme_io(&self->n, FAST, false, 0, theirs.pages, 1));
	EXPECT_EQ(PAGE, first_not(mine.mem, PAGE, 0x33));
	EXPECT_EQ(PAGE, first_not(theirs.mem, PAGE, 0x22));
	memset(from.mem, 0x44, PAGE);
	edu_copy_in(&edu, from.pages[0], 0, 64);
	edu_copy_out(&edu, 0, mine.pages[0], 64);
	EXPECT_EQ(PAGE, first_not(mine.mem, PAGE, 0x33));
	EXPECT_EQ(64, first_not(theirs.mem, PAGE, 0x44));
	/* What is read is one's own, too. */
	area_write(&self->n, &mine, MiB(1));
	memset(mine.mem, 0, PAGE);
	area_read(&self->n, &mine, MiB(1));
	EXPECT_EQ(PAGE, first_not(mine.mem, PAGE, 0x33));
	/* Closed in one, it is nobody's there, and untouched in the other. */
	memset(theirs.mem, 0x22, PAGE);
	area_end_access(&mine);
	nvme_io(&self->n, FAST, false, 0, theirs.pages, 1);
	EXPECT_EQ(PAGE, first_not(theirs.mem, PAGE, 0x22));
	EXPECT_EQ(PAGE, first_not(mine.mem, PAGE, 0x33));

	edu_unmap_registers(&edu);
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	area_close(&from);
	area_close(&theirs);
	area_close(&mine);
	nvme_close(&self->n);
	EXPECT_OK(KnHandleClose(domain));
}

/* ---- commands under way ---- */

enum {
	READS = 24,
	READ_PAGES = 256,
	READS_SECONDS = 9, /* 24 MiB at 4 MiB/s, and some */
	GRABBED_MAX = 1024,
};

/* Buffers of the same shape, as many as it takes to get the same memory. */
struct grabbed {
	Handle buffer, mapping;
	uint8_t *mem;
};

/*
 * Grab memory and fill what was among @frames. Return how many of them were
 * had; the filled ones are the first in @grabbed.
 */
static int grab(const uint64_t *frames, struct grabbed *grabbed)
{
	static Handle others[GRABBED_MAX];
	struct rlimit files = { 4096, 4096 };
	int nr = 0, nr_others = 0;

	ASSERT_ERRNO(0, setrlimit(RLIMIT_NOFILE, &files));
	while (nr < READS && nr_others < GRABBED_MAX &&
	       probe_meminfo("MemFree") > KiB(192)) {
		Handle buffer;
		uint64_t frame;
		bool same = false;

		if (KnIoDmaCreate(8, PAGES(READ_PAGES), 0, &buffer) != rcOk)
			break;
		frame = buffer_frame(buffer);
		for (int i = 0; i < READS; i++)
			same |= frame == frames[i];
		if (!same) {
			others[nr_others++] = buffer;
			continue;
		}
		grabbed[nr].buffer = buffer;
		grabbed[nr].mem = buffer_map(buffer, PAGES(READ_PAGES),
					     &grabbed[nr].mapping);
		memset(grabbed[nr].mem, 0xa5, PAGES(READ_PAGES));
		nr++;
	}
	for (int i = 0; i < nr_others; i++)
		EXPECT_OK(KnHandleClose(others[i]));
	return nr;
}

/* Return with all but the first reads of the slow namespace under way. */
static void start_reads(struct nvme *n, struct area *areas)
{
	if (n->size[SLOW - 1] < PAGES(READ_PAGES) * READS ||
	    n->max_pages < READ_PAGES)
		SKIP("needs a second namespace, and reads of 1 MiB");
	for (int i = 0; i < READS; i++)
		area_open(&areas[i], 8, PAGES(READ_PAGES), 0, n->domain);
	for (int i = 0; i < READS; i++)
		nvme_submit(n, SLOW, false, PAGES(READ_PAGES) * i,
			    areas[i].pages, READ_PAGES);
	ASSERT_EQ(0, nvme_wait(n, 60));
	if (nvme_answered(n))
		SKIP("the second namespace is too quick");
}

static uint32_t device_state(uint16_t bdf)
{
	struct kosdma_device_info arg = { .size = sizeof(arg), .address = bdf };

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_DEVICE_INFO, &arg));
	return arg.out_state;
}

static bool is_given_back(void *arg)
{
	struct nvme *n = arg;

	return !(device_state(n->bdf) & KOSDMA_DEVICE_HELD);
}

/*
 * The owner is killed while its device writes. Who gets the memory next is not
 * written: not the same second, and not when the reads would have ended.
 */
TEST_F_TIMEOUT(nvme, reads_under_way_do_not_hit_memory_after_the_death, 300)
{
	static struct grabbed grabbed[READS];
	time_t begin = time(NULL);
	uint64_t *frames;
	int sync[2], nr;
	pid_t pid;

	frames = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, frames);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		struct area areas[READS];

		close(sync[0]);
		nvme_open(&self->n, NONE);
		start_reads(&self->n, areas);
		for (int i = 0; i < READS; i++)
			frames[i] = buffer_frame(areas[i].buffer);
		probe_signal(sync[1]);
		pause();
	}
	close(sync[1]);
	{
		char byte;

		/* It may have skipped the test instead. */
		if (read(sync[0], &byte, 1) != 1)
			test_wait(pid);
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_FALSE(probe_bus_master(self->n.path));
	/* Attaching would do this too, but also reset the device. */
	ASSERT_TRUE(wait_until(is_given_back, &self->n, 60));
	nr = grab(frames, grabbed);
	test_log("%d of %d MiB are in other hands after %d s", nr, READS,
		 (int)(time(NULL) - begin));
	EXPECT_GT(nr, 0);
	while (time(NULL) < begin + READS_SECONDS)
		usleep(100 * 1000);
	for (int i = 0; i < nr; i++) {
		EXPECT_EQ(PAGES(READ_PAGES),
			  first_not(grabbed[i].mem, PAGES(READ_PAGES), 0xa5));
		EXPECT_OK(KnHandleClose(grabbed[i].mapping));
		EXPECT_OK(KnHandleClose(grabbed[i].buffer));
	}
}

/*
 * Nothing stops the device when there is no IOMMU: so nobody gets the memory
 * while it is attached.
 */
TEST_F_TIMEOUT(nvme, memory_of_reads_under_way_lingers_without_an_iommu, 300)
{
	static struct grabbed grabbed[READS];
	struct area areas[READS];
	uint64_t frames[READS];
	long before;

	if (self->translated)
		SKIP("an IOMMU cuts the device off: nothing lingers");
	nvme_open(&self->n, NONE);
	before = probe_free_memory();
	start_reads(&self->n, areas);
	for (int i = 0; i < READS; i++) {
		frames[i] = buffer_frame(areas[i].buffer);
		area_close(&areas[i]);
	}
	EXPECT_EQ(0, grab(frames, grabbed));
	for (int i = 1; i < READS; i++)
		ASSERT_EQ(0, nvme_wait(&self->n, 60));
	EXPECT_EQ(0, grab(frames, grabbed));
	/* Quiet, and then it is free. */
	nvme_close(&self->n);
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
}

/* ---- the device goes, and comes back ---- */

static void on_bus_error(int sig)
{
	(void)sig;
	test_child_exit();
}

/*
 * A driver that asks for a page that nobody has, again and again. One page at a
 * time: QEMU stops when it resets a controller that has done a part of a
 * command.
 */
static void fault_storm(int sync)
{
	struct sigaction act = { .sa_handler = on_bus_error };
	const uint64_t nowhere = MiB(64);
	struct nvme n;

	sigaction(SIGBUS, &act, NULL);
	nvme_open(&n, NONE);
	nvme_io(&n, FAST, false, 0, &nowhere, 1);
	probe_signal(sync);
	for (;;) {
		nvme_submit(&n, FAST, false, 0, &nowhere, 1);
		/* Not answered any more? Then it is gone: this is the end. */
		while (nvme_wait(&n, 0) == NVME_NO_ANSWER)
			nvme_stop(&n);
	}
}

TEST_F_TIMEOUT(nvme, removal_while_it_faults, 300)
{
	char remove[128];

	nvme_require_translation(&self->n);
	for (int round = 0; round < 6; round++) {
		struct nvme gone;
		int sync[2];
		pid_t pid;

		test_context("round %d", round);
		ASSERT_TRUE(nvme_find(&self->n));
		snprintf(remove, sizeof(remove), "%s/remove", self->n.path);
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid)
			fault_storm(sync[1]);
		probe_await(sync[0]);
		usleep(round * 20 * 1000);
		ASSERT_TRUE(probe_write_file(remove, "1"));
		EXPECT_FALSE(nvme_find(&gone));
		/* The next touch of its registers ends it. */
		test_wait(pid);
		ASSERT_TRUE(probe_write_file("/sys/bus/pci/rescan", "1"));
		close(sync[0]);
		close(sync[1]);
	}
	test_context("%s", "");
	ASSERT_TRUE(nvme_find(&self->n));
}

/* ---- the kernel's own driver ---- */

static void run(const char *program, const char *argument)
{
	pid_t pid = test_fork();

	if (!pid) {
		execlp(program, program, argument, NULL);
		_exit(TEST_EXIT_FAIL);
	}
	test_wait(pid);
}

static void unbind(struct nvme *n)
{
	char driver[64], path[128];

	snprintf(path, sizeof(path), "%s/driver_override", n->path);
	ASSERT_TRUE(probe_write_file(path, "\n"));
	probe_driver(n->path, driver);
	if (!driver[0])
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/unbind", driver);
	ASSERT_TRUE(probe_write_file(path, strrchr(n->path, '/') + 1));
	probe_driver(n->path, driver);
	ASSERT_STREQ("", driver);
}

/*
 * The node of the first namespace: which is not always the first node. The
 * kernel sets the controller up in its own time.
 */
struct disk {
	struct nvme *n;
	char node[64];
};

static bool disk_is_there(void *arg)
{
	struct disk *disk = arg;
	char pattern[128];
	glob_t found;

	disk->node[0] = '\0';
	snprintf(pattern, sizeof(pattern), "%s/nvme/nvme*/nvme*n*/nsid",
		 disk->n->path);
	if (glob(pattern, 0, NULL, &found))
		return false;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "re");
		unsigned int nsid = 0;

		if (f && fscanf(f, "%u", &nsid) != 1)
			nsid = 0;
		if (f)
			fclose(f);
		if (nsid != FAST)
			continue;
		*strrchr(found.gl_pathv[i], '/') = '\0';
		snprintf(disk->node, sizeof(disk->node), "/dev/%.40s",
			 strrchr(found.gl_pathv[i], '/') + 1);
	}
	globfree(&found);
	return disk->node[0] && !access(disk->node, R_OK | W_OK);
}

static void use_disk(const char *node, uint32_t expected, uint32_t seed)
{
	int fd = open(node, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint8_t *mem = mmap(NULL, MiB(1), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_GE(fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(MiB(1), pread(fd, mem, MiB(1), 0));
	pattern_check(mem, MiB(1), expected);
	pattern_fill(mem, MiB(1), seed);
	ASSERT_EQ(MiB(1), pwrite(fd, mem, MiB(1), 0));
	munmap(mem, MiB(1));
	close(fd);
}

/* What is there is @expected; @seed is left behind. */
static void use_driver(uint32_t expected, uint32_t seed)
{
	IN_CHILD
	{
		struct nvme n;
		struct area a;

		nvme_open(&n, NONE);
		area_open(&a, 0, MiB(1), 0, NONE);
		area_read(&n, &a, 0);
		if (expected)
			pattern_check(a.mem, a.size, expected);
		pattern_fill(a.mem, a.size, seed);
		area_write(&n, &a, 0);
		area_close(&a);
		nvme_close(&n);
	}
}

TEST_F_TIMEOUT(nvme, goes_to_the_kernels_driver_and_back, 300)
{
	const char *name = strrchr(self->n.path, '/') + 1;
	struct disk disk = { .n = &self->n };

	for (uint32_t round = 0; round < 2; round++) {
		Handle out = 77;

		test_context("round %u", round);
		use_driver(round ? 2 : 0, 1);
		unbind(&self->n);
		if (access("/sys/bus/pci/drivers/nvme", F_OK))
			run("modprobe", "nvme");
		probe_write_file("/sys/bus/pci/drivers_probe", name);
		ASSERT_TRUE(wait_until(disk_is_there, &disk, 60));
		use_disk(disk.node, 1, 2);
		/* It is the kernel's. */
		EXPECT_RC(rcBusy, KnIommuAttachDevice(self->n.bdf));
		EXPECT_RC(rcAlreadyExists,
			  KnRegisterPhyMem(self->n.bar, PAGE, 0, &out));
		EXPECT_EQ(NONE, out);
		use_disk(disk.node, 2, 2);
		unbind(&self->n);
	}
	test_context("%s", "");
	use_driver(2, 3);
	/* As it was: nobody else's tests expect that driver. */
	EXPECT_ERRNO(0, syscall(SYS_delete_module, "nvme", O_NONBLOCK));
}

TEST_HARNESS_MAIN
