// SPDX-License-Identifier: GPL-2.0-only
/* Mappings of buffers into the process. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/probe.h"

#define POISON ((Handle)0x12345)

enum { BUFFER_PAGES = 16 };

/* Regions of this process that are of mappings: the heap may grow as it likes. */
static int nr_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	ASSERT_NOT_NULL(f);
	while (fgets(line, sizeof(line), f))
		n += !!strstr(line, " /kosdma (deleted)");
	fclose(f);
	return n;
}

FIXTURE(mapping) {
	Handle buffer;
	size_t size;
	int fds, maps;
};

FIXTURE_VARIANT(mapping) {
	int flags;
};

/* Both kinds of mapping obey the same rules. */
FIXTURE_VARIANT_ADD(mapping, plain) { .flags = 0 };
FIXTURE_VARIANT_ADD(mapping, io) { .flags = VMM_FLAG_IO };

FIXTURE_SETUP(mapping)
{
	device_warm_up();
	self->size = PAGES(BUFFER_PAGES);
	self->buffer = buffer_create(0, self->size, 0);
	self->maps = nr_mappings();
	self->fds = probe_nr_fds();
}

FIXTURE_TEARDOWN(mapping)
{
	EXPECT_EQ(self->fds, probe_nr_fds());
	EXPECT_EQ(self->maps, nr_mappings());
	EXPECT_OK(KnHandleClose(self->buffer));
}

/* Map so, or end the test. */
static uint8_t *map_part(Handle buffer, size_t offset, size_t length, int flags,
			 Handle *mapping)
{
	void *addr = NULL;

	ASSERT_OK(KnIoDmaMap(buffer, offset, length, NULL, flags, &addr,
			     mapping));
	ASSERT_NOT_NULL(addr);
	ASSERT_NE(INVALID_HANDLE, *mapping);
	return addr;
}

static void expect_map(Retcode expected, Handle buffer, size_t offset,
		       size_t length, void *hint, int flags)
{
	int maps = nr_mappings(), fds = probe_nr_fds();
	Handle mapping = POISON;
	void *addr = &maps;

	test_context("offset %#zx, length %#zx, hint %p, flags %#x", offset,
		     length, hint, flags);
	EXPECT_RC(expected, KnIoDmaMap(buffer, offset, length, hint, flags,
				       &addr, &mapping));
	EXPECT_NULL(addr);
	EXPECT_EQ(INVALID_HANDLE, mapping);
	EXPECT_EQ(maps, nr_mappings());
	EXPECT_EQ(fds, probe_nr_fds());
	test_context("%s", "");
}

/* Take some address space, and leave it: its start is a free place. */
static uint8_t *free_place(size_t size)
{
	void *place = mmap(NULL, size, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT_NE(MAP_FAILED, place);
	ASSERT_ERRNO(0, munmap(place, size));
	return place;
}

/* Put memory at a place that must be free. */
static uint8_t *foreign_map(void *place, size_t size)
{
	void *addr = mmap(place, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			  0);

	ASSERT_EQ(place, addr);
	memset(addr, 0x77, size);
	return addr;
}

static bool is_free(void *place, size_t size)
{
	void *addr = mmap(place, size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			  0);

	if (addr == MAP_FAILED)
		return false;
	munmap(addr, size);
	return addr == place;
}

/* ---- what is mapped where ---- */

TEST_F(mapping, each_part_of_the_buffer_can_be_mapped)
{
	Handle whole, part;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &whole);

	EXPECT_EQ(self->size, first_not(mem, self->size, 0));
	EXPECT_EQ(self->maps + 1, nr_mappings());
	pattern_fill(mem, self->size, 1);
	for (size_t first = 0; first < BUFFER_PAGES; first++)
		for (size_t end = first + 1; end <= BUFFER_PAGES;
		     end += 1 + first % 3) {
			size_t length = PAGES(end - first);
			uint8_t *p = map_part(self->buffer, PAGES(first),
					      length,
					      VMM_FLAG_READ | variant->flags,
					      &part);

			test_context("pages %zu to %zu", first, end);
			EXPECT_EQ(0, (uintptr_t)p % PAGE_SIZE);
			EXPECT_EQ(0, memcmp(mem + PAGES(first), p, length));
			EXPECT_OK(KnHandleClose(part));
		}
	pattern_check(mem, self->size, 1);
	EXPECT_OK(KnHandleClose(whole));
}

TEST_F(mapping, mappings_of_one_buffer_are_one_memory)
{
	Handle handles[8];
	uint8_t *mem[8];

	for (int i = 0; i < 8; i++)
		mem[i] = map_part(self->buffer, 0, self->size,
				  VMM_READ_WRITE | variant->flags, &handles[i]);
	for (int i = 0; i < 8; i++) {
		mem[i][PAGES(i) + i] = i + 1;
		for (int j = 0; j < 8; j++)
			EXPECT_EQ(i + 1, mem[j][PAGES(i) + i]);
	}
	for (int i = 0; i < 8; i++)
		EXPECT_OK(KnHandleClose(handles[i]));
}

TEST_F(mapping, length_is_that_of_the_buffer_not_of_its_blocks)
{
	Handle buffer = buffer_create(4, PAGES(5), 0);

	/* The block has 16 pages; the buffer has 5. */
	expect_map(rcInvalidArgument, buffer, 0, PAGES(6), NULL,
		   VMM_READ_WRITE | variant->flags);
	expect_map(rcInvalidArgument, buffer, PAGES(5), PAGES(1), NULL,
		   VMM_READ_WRITE | variant->flags);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(mapping, bad_offsets_and_lengths_are_invalid)
{
	const struct {
		size_t offset, length;
	} bad[] = {
		{ 0, 0 },
		{ 0, 1 },
		{ 0, PAGE_SIZE - 1 },
		{ 0, PAGE_SIZE + 1 },
		{ 1, PAGE_SIZE },
		{ PAGE_SIZE / 2, PAGE_SIZE },
		{ PAGE_SIZE - 1, PAGE_SIZE },
		{ 0, self->size + PAGE_SIZE },
		{ PAGE_SIZE, self->size },
		{ self->size, PAGE_SIZE },
		{ self->size, 0 },
		{ self->size + PAGE_SIZE, PAGE_SIZE },
		{ 0, SIZE_MAX },
		{ 0, SIZE_MAX & ~(PAGE_SIZE - 1) },
		{ PAGE_SIZE, SIZE_MAX & ~(PAGE_SIZE - 1) },
		{ SIZE_MAX & ~(PAGE_SIZE - 1), PAGE_SIZE },
		{ SIZE_MAX & ~(PAGE_SIZE - 1), PAGES(2) },
		{ SIZE_MAX, PAGE_SIZE },
		{ (size_t)1 << 63, (size_t)1 << 63 },
		{ (size_t)1 << 32, PAGE_SIZE },
		{ 0, ((size_t)1 << 32) + PAGE_SIZE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_map(rcInvalidArgument, self->buffer, bad[i].offset,
			   bad[i].length, NULL,
			   VMM_READ_WRITE | variant->flags);
}

TEST_F(mapping, null_results_are_invalid)
{
	Handle mapping = POISON;
	void *addr = &addr;

	EXPECT_RC(rcInvalidArgument,
		  KnIoDmaMap(self->buffer, 0, PAGE_SIZE, NULL,
			     VMM_FLAG_READ | variant->flags, NULL, &mapping));
	EXPECT_EQ(INVALID_HANDLE, mapping);
	EXPECT_RC(rcInvalidArgument,
		  KnIoDmaMap(self->buffer, 0, PAGE_SIZE, NULL,
			     VMM_FLAG_READ | variant->flags, &addr, NULL));
	EXPECT_NULL(addr);
}

TEST_F(mapping, no_protection_is_invalid)
{
	expect_map(rcInvalidArgument, self->buffer, 0, PAGE_SIZE, NULL,
		   variant->flags);
	expect_map(rcInvalidArgument, self->buffer, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_LOW_GUARD | VMM_FLAG_HIGH_GUARD | variant->flags);
}

TEST_F(mapping, unknown_flags_are_invalid)
{
	const unsigned int known = VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
				   VMM_FLAG_HIGH_GUARD | VMM_FLAG_IO;

	/* Those of KnIoMapMem's attributes among them. */
	for (int bit = 0; bit < 32; bit++)
		if (!(known & 1U << bit))
			expect_map(rcInvalidArgument, self->buffer, 0,
				   PAGE_SIZE, NULL,
				   (int)(VMM_READ_WRITE | 1U << bit |
					 (unsigned int)variant->flags));
}

TEST_F(mapping, handles_that_are_no_buffer)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	Handle closed = buffer_create(0, PAGE_SIZE, 0);
	Handle domain, mapping, access = access_begin(self->buffer);

	EXPECT_OK(KnHandleClose(closed));
	expect_map(rcResourceNotFound, closed, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_READ);
	expect_map(rcResourceNotFound, null, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_READ);
	expect_map(rcResourceNotFound, INVALID_HANDLE, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_READ);
	close(null);

	domain = domain_create();
	map_part(self->buffer, 0, PAGE_SIZE, VMM_FLAG_READ, &mapping);
	expect_map(rcInvalidArgument, domain, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_READ);
	expect_map(rcInvalidArgument, mapping, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_READ);
	expect_map(rcInvalidArgument, access, 0, PAGE_SIZE, NULL,
		   VMM_FLAG_READ);
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(access));
}

TEST_F(mapping, address_space_that_runs_out_is_no_memory)
{
	Handle buffer = buffer_create(0, MiB(32), 0);

	IN_CHILD {
		Handle mapping = POISON;
		void *addr = &addr;

		set_limit(RLIMIT_AS, MiB(16));
		EXPECT_RC(rcOutOfMemory,
			  KnIoDmaMap(buffer, 0, MiB(32), NULL,
				     VMM_READ_WRITE | variant->flags, &addr,
				     &mapping));
		EXPECT_NULL(addr);
		EXPECT_EQ(INVALID_HANDLE, mapping);
	}
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(mapping, no_descriptor_left_is_a_limit)
{
	IN_CHILD {
		int fd = dup(0);

		close(fd);
		set_limit(RLIMIT_NOFILE, fd);
		for (int i = 0; i < 20; i++) {
			Handle mapping = POISON;
			void *addr = &addr;

			EXPECT_RC(rcQuotaExceeded,
				  KnIoDmaMap(self->buffer, 0, PAGE_SIZE, NULL,
					     VMM_FLAG_READ | variant->flags,
					     &addr, &mapping));
			EXPECT_NULL(addr);
			EXPECT_EQ(INVALID_HANDLE, mapping);
		}
	}
}

/* ---- hints ---- */

TEST_F(mapping, a_free_hint_is_taken_exactly)
{
	uint8_t *place = free_place(self->size + PAGES(2));
	Handle mapping;
	void *addr;

	ASSERT_OK(KnIoDmaMap(self->buffer, 0, self->size, place,
			     VMM_READ_WRITE | variant->flags, &addr, &mapping));
	EXPECT_EQ(place, addr);
	memset(addr, 1, self->size);
	EXPECT_OK(KnHandleClose(mapping));

	/* With guards it is still the first usable byte. */
	ASSERT_OK(KnIoDmaMap(self->buffer, 0, self->size, place + PAGE_SIZE,
			     VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
			     VMM_FLAG_HIGH_GUARD | variant->flags,
			     &addr, &mapping));
	EXPECT_EQ(place + PAGE_SIZE, addr);
	EXPECT_EQ(self->size, first_not(addr, self->size, 1));
	EXPECT_EQ(SIGSEGV, probe_read(place));
	EXPECT_EQ(SIGSEGV, probe_read(place + PAGE_SIZE + self->size));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(mapping, a_taken_hint_exists_already_and_stays_untouched)
{
	uint8_t *place = free_place(PAGES(8));
	uint8_t *foreign = foreign_map(place + PAGES(3), PAGES(2));

	for (int page = 0; page <= 4; page++) {
		uint8_t *hint = place + PAGES(page);

		/* Pages 0 to 1 and 5 to 7 are free. */
		if (page >= 2)
			expect_map(rcAlreadyExists, self->buffer, 0, PAGES(2),
				   hint, VMM_READ_WRITE | variant->flags);
	}
	expect_map(rcAlreadyExists, self->buffer, 0, PAGES(8), place,
		   VMM_READ_WRITE | variant->flags);
	/* It is a guard that has no room. */
	expect_map(rcAlreadyExists, self->buffer, 0, PAGES(2), place + PAGES(1),
		   VMM_READ_WRITE | VMM_FLAG_HIGH_GUARD | variant->flags);
	expect_map(rcAlreadyExists, self->buffer, 0, PAGES(2), place + PAGES(5),
		   VMM_READ_WRITE | VMM_FLAG_LOW_GUARD | variant->flags);
	EXPECT_EQ(PAGES(2), first_not(foreign, PAGES(2), 0x77));
	memset(foreign, 0x78, PAGES(2));
	ASSERT_ERRNO(0, munmap(foreign, PAGES(2)));
}

TEST_F(mapping, an_own_mapping_is_not_replaced_either)
{
	Handle first, second;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &first);
	Handle other = buffer_create(0, self->size, 0);

	memset(mem, 0x33, self->size);
	expect_map(rcAlreadyExists, other, 0, self->size, mem,
		   VMM_READ_WRITE | variant->flags);
	EXPECT_EQ(self->size, first_not(mem, self->size, 0x33));
	/* It is free again once closed. */
	EXPECT_OK(KnHandleClose(first));
	ASSERT_OK(KnIoDmaMap(other, 0, self->size, mem,
			     VMM_READ_WRITE | variant->flags, (void **)&mem,
			     &second));
	EXPECT_EQ(self->size, first_not(mem, self->size, 0));
	EXPECT_OK(KnHandleClose(second));
	EXPECT_OK(KnHandleClose(other));
}

TEST_F(mapping, unaligned_hints_are_invalid)
{
	uint8_t *place = free_place(self->size);
	static const size_t off[] = { 1, 8, 512, 4095 };

	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		expect_map(rcInvalidArgument, self->buffer, 0, PAGE_SIZE,
			   place + off[i], VMM_READ_WRITE | variant->flags);
}

TEST_F(mapping, hints_outside_of_user_space_cannot_be_honoured)
{
	static const uintptr_t hints[] = {
		0x0100000000000000, /* 56 bits are the most that a CPU gives */
		0x8000000000000000,
		0xffff888000000000,
		0xffffffffff600000, /* vsyscall */
		0xfffffffffffff000,
	};

	for (size_t i = 0; i < ARRAY_SIZE(hints); i++) {
		expect_map(rcAlreadyExists, self->buffer, 0, PAGES(2),
			   (void *)hints[i], VMM_READ_WRITE | variant->flags);
		expect_map(rcAlreadyExists, self->buffer, 0, PAGES(2),
			   (void *)hints[i],
			   VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
			   VMM_FLAG_HIGH_GUARD | variant->flags);
	}
	/* No room for the guard below. */
	expect_map(rcAlreadyExists, self->buffer, 0, PAGES(2),
		   (void *)PAGE_SIZE,
		   VMM_READ_WRITE | VMM_FLAG_LOW_GUARD | variant->flags);
}

/* ---- guards and protection ---- */

TEST_F(mapping, guard_pages_fault)
{
	for (int guards = 0; guards < 4; guards++) {
		int flags = VMM_READ_WRITE | variant->flags;
		Handle mapping;
		uint8_t *mem, *end;

		if (guards & 1)
			flags |= VMM_FLAG_LOW_GUARD;
		if (guards & 2)
			flags |= VMM_FLAG_HIGH_GUARD;
		test_context("guards %d", guards);
		mem = map_part(self->buffer, 0, self->size, flags, &mapping);
		end = mem + self->size;
		EXPECT_EQ(self->size, first_not(mem, self->size, guards));
		EXPECT_EQ(0, probe_write(mem));
		EXPECT_EQ(0, probe_write(end - 1));
		if (guards & 1) {
			EXPECT_EQ(SIGSEGV, probe_read(mem - 1));
			EXPECT_EQ(SIGSEGV, probe_write(mem - 1));
			EXPECT_EQ(SIGSEGV, probe_read(mem - PAGE_SIZE));
			EXPECT_FALSE(is_free(mem - PAGE_SIZE, PAGE_SIZE));
		}
		if (guards & 2) {
			EXPECT_EQ(SIGSEGV, probe_read(end));
			EXPECT_EQ(SIGSEGV, probe_write(end));
			EXPECT_EQ(SIGSEGV, probe_read(end + PAGE_SIZE - 1));
			EXPECT_FALSE(is_free(end, PAGE_SIZE));
		}
		memset(mem, guards + 1, self->size);
		EXPECT_OK(KnHandleClose(mapping));
		/* The guards go with it. */
		EXPECT_TRUE(is_free(mem - (guards & 1 ? PAGE_SIZE : 0),
				    self->size + (guards & 1 ? PAGE_SIZE : 0) +
					    (guards & 2 ? PAGE_SIZE : 0)));
	}
}

TEST_F(mapping, a_guard_cannot_be_unprotected)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, PAGES(1), PAGES(2),
				VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
				VMM_FLAG_HIGH_GUARD | variant->flags,
				&mapping);

	mprotect(mem - PAGE_SIZE, PAGES(4), PROT_READ | PROT_WRITE);
	EXPECT_EQ(0, probe_read(mem));
	EXPECT_EQ(SIGSEGV, probe_read(mem - 1));
	EXPECT_EQ(SIGSEGV, probe_write(mem - 1));
	EXPECT_EQ(SIGSEGV, probe_read(mem + PAGES(2)));
	EXPECT_EQ(SIGSEGV, probe_write(mem + PAGES(2)));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(mapping, read_only_is_not_writable)
{
	Handle rw, ro;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &rw);
	uint8_t *p = map_part(self->buffer, 0, self->size,
			      VMM_FLAG_READ | variant->flags, &ro);

	mem[5] = 9;
	EXPECT_EQ(9, p[5]);
	EXPECT_EQ(SIGSEGV, probe_write(p + 5));
	EXPECT_EQ(9, mem[5]);
	EXPECT_ERRNO(EACCES, mprotect(p, self->size, PROT_READ | PROT_WRITE));
	EXPECT_ERRNO(EACCES, mprotect(p, self->size, PROT_WRITE));
	EXPECT_EQ(SIGSEGV, probe_write(p + 5));
	EXPECT_EQ(9, mem[5]);
	EXPECT_OK(KnHandleClose(ro));
	EXPECT_OK(KnHandleClose(rw));
}

TEST_F(mapping, write_alone_is_legal)
{
	Handle rw, wo;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &rw);
	uint8_t *p = map_part(self->buffer, 0, self->size,
			      VMM_FLAG_WRITE | variant->flags, &wo);

	EXPECT_EQ(0, probe_write(p + 7));
	EXPECT_EQ(0x5a, mem[7]);
	EXPECT_OK(KnHandleClose(wo));
	EXPECT_OK(KnHandleClose(rw));
}

TEST_F(mapping, execution_is_never_permitted)
{
	static const int flags[] = { VMM_FLAG_READ, VMM_FLAG_WRITE,
				     VMM_READ_WRITE };

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		Handle mapping;
		uint8_t *mem = map_part(self->buffer, 0, self->size,
					flags[i] | variant->flags, &mapping);
		pid_t pid;
		int status;

		test_context("flags %#x", flags[i]);
		EXPECT_ERRNO(EACCES, mprotect(mem, self->size,
					      PROT_READ | PROT_EXEC));
		EXPECT_ERRNO(EACCES, mprotect(mem, self->size, PROT_EXEC));
		EXPECT_ERRNO(EACCES, mprotect(mem + PAGE_SIZE, PAGE_SIZE,
					      PROT_READ | PROT_WRITE |
						      PROT_EXEC));
		EXPECT_OK(KnHandleClose(mapping));

		pid = test_fork();
		if (!pid) {
			mem = map_part(self->buffer, 0, self->size,
				       VMM_READ_WRITE | variant->flags,
				       &mapping);
			memset(mem, 0xc3, self->size); /* ret */
			signal(SIGSEGV, SIG_DFL);
			((void (*)(void))(uintptr_t)mem)();
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
}

TEST_F(mapping, protection_can_be_reduced_and_given_back)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);

	memset(mem, 4, self->size);
	ASSERT_ERRNO(0, mprotect(mem, self->size, PROT_READ));
	EXPECT_EQ(SIGSEGV, probe_write(mem));
	EXPECT_EQ(self->size, first_not(mem, self->size, 4));
	ASSERT_ERRNO(0, mprotect(mem + PAGES(2), PAGES(2), PROT_NONE));
	EXPECT_EQ(SIGSEGV, probe_read(mem + PAGES(3)));
	ASSERT_ERRNO(0, mprotect(mem, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(self->size, first_not(mem, self->size, 4));
	EXPECT_EQ(0, probe_write(mem));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_TRUE(is_free(mem, self->size));
}

TEST_F(mapping, needs_the_rights_of_its_protection)
{
	static const struct {
		uint32_t rights;
		int flags;
		Retcode rc;
	} cases[] = {
		{ OCAP_DMA_READ, VMM_FLAG_READ, rcOk },
		{ OCAP_DMA_READ, VMM_FLAG_WRITE, rcNoCapability },
		{ OCAP_DMA_READ, VMM_READ_WRITE, rcNoCapability },
		{ OCAP_DMA_WRITE, VMM_FLAG_READ, rcNoCapability },
		{ OCAP_DMA_WRITE, VMM_READ_WRITE, rcNoCapability },
#ifdef __x86_64__
		/* Whoever can write can read there. */
		{ OCAP_DMA_WRITE, VMM_FLAG_WRITE, rcNoCapability },
#endif
		{ OCAP_DMA_READ | OCAP_DMA_WRITE, VMM_FLAG_WRITE, rcOk },
		{ OCAP_DMA_READ | OCAP_DMA_WRITE, VMM_READ_WRITE, rcOk },
		{ OCAP_DMA_FULL & ~OCAP_DMA_READ, VMM_FLAG_READ,
		  rcNoCapability },
		{ OCAP_DMA_FULL & ~OCAP_DMA_WRITE, VMM_READ_WRITE,
		  rcNoCapability },
		{ 0, VMM_FLAG_READ, rcNoCapability },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t io = variant->flags ? OCAP_DMA_IO : 0;
		Handle copy = buffer_copy(self->buffer, cases[i].rights | io);
		int flags = cases[i].flags | variant->flags;
		Handle mapping;
		void *addr;

		if (cases[i].rc == rcOk) {
			test_context("case %zu", i);
			EXPECT_OK(KnIoDmaMap(copy, 0, PAGE_SIZE, NULL, flags,
					     &addr, &mapping));
			EXPECT_OK(KnHandleClose(mapping));
		} else {
			expect_map(cases[i].rc, copy, 0, PAGE_SIZE, NULL,
				   flags);
		}
		EXPECT_OK(KnHandleClose(copy));
	}
}

TEST_F(mapping, protection_beyond_the_right_stays_refused)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_READ | OCAP_DMA_IO);
	Handle mapping;
	uint8_t *mem = map_part(copy, 0, self->size,
				VMM_FLAG_READ | variant->flags, &mapping);

	EXPECT_ERRNO(EACCES, mprotect(mem, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(SIGSEGV, probe_write(mem));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(copy));
}

/* ---- lifetime ---- */

TEST_F(mapping, memory_lives_while_a_mapping_lives)
{
	Handle buffer = buffer_create(0, MiB(1), 0), mapping, others[8];
	uint8_t *mem = map_part(buffer, 0, MiB(1),
				VMM_READ_WRITE | variant->flags, &mapping);

	pattern_fill(mem, MiB(1), 3);
	EXPECT_OK(KnHandleClose(buffer));
	for (int i = 0; i < 8; i++) {
		Handle other;

		others[i] = buffer_create(0, MiB(1), 0);
		memset(buffer_map(others[i], MiB(1), &other), 0xee, MiB(1));
		EXPECT_OK(KnHandleClose(other));
	}
	pattern_check(mem, MiB(1), 3);
	EXPECT_EQ(0, probe_write(mem));
	EXPECT_OK(KnHandleClose(mapping));
	for (int i = 0; i < 8; i++)
		EXPECT_OK(KnHandleClose(others[i]));
}

TEST_F(mapping, closing_takes_the_region_away)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);

	memset(mem, 1, self->size);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
	EXPECT_EQ(SIGSEGV, probe_write(mem + self->size - 1));
	EXPECT_TRUE(is_free(mem, self->size));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(mapping));
}

TEST_F(mapping, a_bare_close_takes_the_pages_away)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);

	memset(mem, 1, self->size);
	ASSERT_ERRNO(0, close(mapping));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
	EXPECT_EQ(SIGSEGV, probe_write(mem + self->size - 1));
	munmap(mem, self->size);
}

TEST_F(mapping, closing_kills_the_copies_of_the_descriptor)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);
	int copy = dup(mapping);

	/* One of two copies closed barely ends nothing. */
	ASSERT_ERRNO(0, close(mapping));
	EXPECT_EQ(0, probe_write(mem));
	mapping = dup(copy);
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
	EXPECT_EQ(EBADF, probe_handle(mapping, NULL, NULL));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(mapping, closing_after_munmap_is_fine)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
				variant->flags, &mapping);
	uint8_t *foreign;

	ASSERT_ERRNO(0, munmap(mem - PAGE_SIZE, self->size + PAGE_SIZE));
	foreign = foreign_map(mem - PAGE_SIZE, self->size + PAGE_SIZE);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(self->size, first_not(foreign, self->size, 0x77));
	munmap(foreign, self->size + PAGE_SIZE);
}

TEST_F(mapping, closing_after_partial_munmap_hurts_no_foreign_mapping)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);
	uint8_t *hole, *start;

	memset(mem, 5, self->size);
	ASSERT_ERRNO(0, munmap(mem + PAGES(4), PAGES(2)));
	ASSERT_ERRNO(0, munmap(mem, PAGES(1)));
	hole = foreign_map(mem + PAGES(4), PAGES(2));
	start = foreign_map(mem, PAGES(1));
	/* The rest of it still works. */
	EXPECT_EQ(PAGES(3), first_not(mem + PAGES(1), PAGES(3), 5));
	EXPECT_EQ(PAGES(10), first_not(mem + PAGES(6), PAGES(10), 5));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(PAGES(2), first_not(hole, PAGES(2), 0x77));
	EXPECT_EQ(PAGES(1), first_not(start, PAGES(1), 0x77));
	EXPECT_EQ(SIGSEGV, probe_read(mem + PAGES(1)));
	EXPECT_EQ(SIGSEGV, probe_read(mem + PAGES(6)));
	EXPECT_EQ(SIGSEGV, probe_read(mem + self->size - 1));
	munmap(hole, PAGES(2));
	munmap(start, PAGES(1));
	EXPECT_TRUE(is_free(mem, self->size));
}

TEST_F(mapping, mremap_is_refused)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);
	uint8_t *place = free_place(self->size * 2);

	memset(mem, 5, self->size);
	EXPECT_EQ(MAP_FAILED, mremap(mem, self->size, self->size * 2,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(mem, self->size, self->size * 2, 0));
	EXPECT_EQ(MAP_FAILED, mremap(mem, self->size, self->size,
				     MREMAP_MAYMOVE | MREMAP_FIXED, place));
	EXPECT_EQ(MAP_FAILED, mremap(mem + PAGES(1), PAGES(2), PAGES(2),
				     MREMAP_MAYMOVE | MREMAP_FIXED, place));
	EXPECT_EQ(MAP_FAILED, mremap(mem, self->size, self->size,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, place));
	/* A size of 0 would make a second view of shared memory. */
	EXPECT_EQ(MAP_FAILED, mremap(mem, 0, self->size, MREMAP_MAYMOVE));
	EXPECT_EQ(self->size, first_not(mem, self->size, 5));
	EXPECT_TRUE(is_free(place, self->size * 2));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_TRUE(is_free(mem, self->size));
}

TEST_F(mapping, a_forked_child_has_no_access)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);

	memset(mem, 5, self->size);
	IN_CHILD {
		int sig = probe_read(mem);

		EXPECT_TRUE(sig == SIGSEGV || sig == SIGBUS);
		sig = probe_write(mem + self->size - 1);
		EXPECT_TRUE(sig == SIGSEGV || sig == SIGBUS);
	}
	EXPECT_EQ(self->size, first_not(mem, self->size, 5));

	/* Whatever the process asks of its own children. */
	madvise(mem, self->size, MADV_DOFORK);
	madvise(mem, self->size, MADV_KEEPONFORK);
	IN_CHILD {
		int sig = probe_write(mem);

		EXPECT_TRUE(sig == SIGSEGV || sig == SIGBUS);
	}
	EXPECT_EQ(self->size, first_not(mem, self->size, 5));
	EXPECT_EQ(0, probe_write(mem));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_TRUE(is_free(mem, self->size));
}

TEST_F(mapping, madvise_loses_nothing)
{
	static const int advices[] = { MADV_DONTNEED, MADV_FREE, MADV_REMOVE,
				       MADV_COLD, MADV_PAGEOUT,
				       MADV_HUGEPAGE, MADV_MERGEABLE,
				       MADV_DODUMP, MADV_WIPEONFORK };
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		test_context("advice %d", advices[i]);
		pattern_fill(mem, self->size, i);
		madvise(mem, self->size, advices[i]);
		EXPECT_EQ(0, probe_read(mem));
		pattern_check(mem, self->size, i);
	}
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_TRUE(is_free(mem, self->size));
}

/* The line "VmFlags:" of the region that holds the address. */
static void vm_flags(const void *p, char *flags, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false;
	char line[512];

	ASSERT_NOT_NULL(f);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)p >= start && (uintptr_t)p < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, size, "%s", line + 8);
	}
	fclose(f);
}

TEST_F(mapping, core_dumps_skip_it)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);
	char flags[512];

	vm_flags(mem, flags, sizeof(flags));
	EXPECT_NOT_NULL(strstr(flags, " rd wr "));
	EXPECT_NULL(strstr(flags, " ex"));
	EXPECT_NOT_NULL(strstr(flags, " dd"));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(mapping, a_process_that_locks_all_memory_can_map)
{
	IN_CHILD {
		Handle mapping;
		uint8_t *mem;

		ASSERT_ERRNO(0, mlockall(MCL_CURRENT | MCL_FUTURE));
		mem = map_part(self->buffer, 0, self->size,
			       VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
			       VMM_FLAG_HIGH_GUARD | variant->flags, &mapping);
		memset(mem, 1, self->size);
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_TRUE(is_free(mem, self->size));
	}
}

TEST_F(mapping, a_revoked_mapping_is_a_bus_error)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL), mapping, own;
	uint8_t *mem = map_part(copy, 0, self->size,
				VMM_READ_WRITE | VMM_FLAG_HIGH_GUARD |
				variant->flags, &mapping);
	uint8_t *mine = map_part(self->buffer, 0, self->size,
				 VMM_READ_WRITE | variant->flags, &own);

	memset(mem, 8, self->size);
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_EQ(SIGBUS, probe_read(mem));
	EXPECT_EQ(SIGBUS, probe_write(mem + self->size - 1));
	EXPECT_EQ(SIGSEGV, probe_read(mem + self->size));
	expect_map(rcHandleRevoked, copy, 0, self->size, NULL,
		   VMM_READ_WRITE | variant->flags);
	/* What was opened through the handle itself stays. */
	EXPECT_EQ(self->size, first_not(mine, self->size, 8));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
	EXPECT_TRUE(is_free(mem, self->size + PAGE_SIZE));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(own));
}

/* ---- pinning: VMM_FLAG_IO ---- */

/* How many bytes the kernel takes from @mem by reference. */
static ssize_t splice_from(const void *mem, size_t size, int pipe_end)
{
	struct iovec iov = { .iov_base = (void *)mem, .iov_len = size };

	return vmsplice(pipe_end, &iov, 1, SPLICE_F_NONBLOCK);
}

/* Read by another process: the kernel pins the pages for it. */
static ssize_t vm_read(const void *mem, void *copy, size_t size)
{
	struct iovec local = { .iov_base = copy, .iov_len = size };
	struct iovec remote = { .iov_base = (void *)mem, .iov_len = size };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

TEST_F(mapping, only_an_io_mapping_can_be_pinned)
{
	Handle mapping;
	uint8_t *mem = map_part(self->buffer, 0, self->size,
				VMM_READ_WRITE | variant->flags, &mapping);
	static uint8_t copy[PAGE];
	int fds[2];

	ASSERT_ERRNO(0, pipe2(fds, O_CLOEXEC));
	pattern_fill(mem, self->size, 6);
	if (variant->flags & VMM_FLAG_IO) {
		ASSERT_EQ(PAGE, splice_from(mem + PAGES(2), PAGE, fds[1]));
		ASSERT_EQ(PAGE, read(fds[0], copy, PAGE));
		EXPECT_EQ(0, memcmp(copy, mem + PAGES(2), PAGE));
		memset(copy, 0, PAGE);
		ASSERT_EQ(PAGE, vm_read(mem + PAGES(3), copy, PAGE));
		EXPECT_EQ(0, memcmp(copy, mem + PAGES(3), PAGE));
	} else {
		EXPECT_ERRNO(EFAULT, splice_from(mem, PAGE, fds[1]));
		EXPECT_ERRNO(EFAULT, vm_read(mem, copy, PAGE));
	}
	/* What the kernel copies works for both. */
	ASSERT_EQ(PAGE, write(fds[1], mem, PAGE));
	ASSERT_EQ(PAGE, read(fds[0], mem + PAGES(1), PAGE));
	EXPECT_EQ(0, memcmp(mem, mem + PAGES(1), PAGE));
	close(fds[0]);
	close(fds[1]);
	EXPECT_OK(KnHandleClose(mapping));
}

/* Whoever gets the page could have it in a page table, with another type. */
TEST(cache_type_stays_while_a_page_is_pinned)
{
	Handle buffer = buffer_create(0, PAGES(4), DMA_DIR_BIDIR), mapping;
	uint8_t *mem = map_part(buffer, 0, PAGES(4),
				VMM_READ_WRITE | VMM_FLAG_IO, &mapping);
	static uint8_t copy[PAGE];
	int fds[2];

	ASSERT_ERRNO(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ(PAGE, splice_from(mem + PAGES(2), PAGE, fds[1]));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(buffer, DMA_ATTR_WRITE_COMBINE));
	ASSERT_EQ(PAGE, read(fds[0], copy, PAGE));
	EXPECT_OK(KnIoDmaModify(buffer, DMA_ATTR_WRITE_COMBINE));
	close(fds[0]);
	close(fds[1]);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(mapping, direct_io_to_a_file)
{
	const char *path = "/tmp/kosdma-direct";
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC,
		      0600);
	struct statfs fs;
	Handle mapping;
	uint8_t *mem;

	unlink(path);
	if (fd < 0)
		SKIP("needs O_DIRECT in /tmp: %s", strerror(errno));
	ASSERT_ERRNO(0, fstatfs(fd, &fs));
	if (fs.f_type == TMPFS_MAGIC) {
		close(fd);
		SKIP("needs a /tmp on a disk: tmpfs copies, whatever it is told");
	}
	mem = map_part(self->buffer, 0, self->size,
		       VMM_READ_WRITE | variant->flags, &mapping);
	pattern_fill(mem, self->size, 6);
	if (variant->flags & VMM_FLAG_IO) {
		EXPECT_EQ(self->size, pwrite(fd, mem, self->size, 0));
		memset(mem, 0, self->size);
		EXPECT_EQ(self->size, pread(fd, mem, self->size, 0));
	} else {
		EXPECT_ERRNO(EFAULT, pwrite(fd, mem, self->size, 0));
	}
	pattern_check(mem, self->size, 6);
	close(fd);
	EXPECT_OK(KnHandleClose(mapping));
}

/* A disk that can be read past the page cache, or -1. Nothing is written. */
static int open_disk(void)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	char path[300];
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		if (fd >= 0 && lseek(fd, 0, SEEK_END) < PAGE) {
			close(fd);
			fd = -1;
		}
	}
	if (dir)
		closedir(dir);
	return fd;
}

TEST_F(mapping, direct_io_from_a_disk)
{
	uint8_t *expected, *mem;
	int fd = open_disk();
	Handle mapping;

	if (fd < 0)
		SKIP("needs a disk that can be read with O_DIRECT");
	expected = aligned_alloc(PAGE, PAGE);
	ASSERT_EQ(PAGE, pread(fd, expected, PAGE, 0));
	mem = map_part(self->buffer, 0, self->size,
		       VMM_READ_WRITE | variant->flags, &mapping);
	memset(mem, 0x55, self->size);
	if (variant->flags & VMM_FLAG_IO) {
		EXPECT_EQ(PAGE, pread(fd, mem + PAGES(3), PAGE, 0));
		EXPECT_EQ(0, memcmp(mem + PAGES(3), expected, PAGE));
		memset(mem + PAGES(3), 0x55, PAGE);
	} else {
		EXPECT_ERRNO(EFAULT, pread(fd, mem + PAGES(3), PAGE, 0));
	}
	EXPECT_EQ(self->size, first_not(mem, self->size, 0x55));
	free(expected);
	close(fd);
	EXPECT_OK(KnHandleClose(mapping));
}

FIXTURE(io) {
	int fds;
};

FIXTURE_SETUP(io)
{
	device_warm_up();
	self->fds = probe_nr_fds();
}

FIXTURE_TEARDOWN(io)
{
	EXPECT_EQ(self->fds, probe_nr_fds());
}

TEST_F(io, any_order_of_the_page_allocator)
{
	for (uint32_t order = 0; order <= 10; order += 2) {
		size_t size = PAGE_SIZE << order;
		Handle buffer = buffer_create(order, size, 0), mapping;
		uint8_t *mem, copy[64];

		test_context("order %u", order);
		mem = map_part(buffer, 0, size, VMM_READ_WRITE | VMM_FLAG_IO,
			       &mapping);
		pattern_fill(mem, size, order);
		ASSERT_EQ(64, vm_read(mem + size - 64, copy, 64));
		EXPECT_EQ(0, memcmp(mem + size - 64, copy, 64));
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(io, continuous_buffers_are_unimplemented)
{
	Handle buffer;

	ASSERT_OK(KnIoDmaCreateContinuous(PAGES(2), 0, &buffer));
	expect_map(rcUnimplemented, buffer, 0, PAGES(2), NULL,
		   VMM_READ_WRITE | VMM_FLAG_IO);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(io, other_memory_than_write_back_is_unimplemented)
{
	static const DmaAttr attrs[] = { DMA_ATTR_WRITE_COMBINE,
					 DMA_ATTR_CACHE_DISABLE };

	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		Handle buffer = buffer_create(0, PAGES(2), attrs[i]), mapping;

		expect_map(rcUnimplemented, buffer, 0, PAGES(2), NULL,
			   VMM_READ_WRITE | VMM_FLAG_IO);
		/* Of today, not of its birth. */
		EXPECT_OK(KnIoDmaModify(buffer, DMA_ATTR_WRITE_BACK));
		map_part(buffer, 0, PAGES(2), VMM_READ_WRITE | VMM_FLAG_IO,
			 &mapping);
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(io, needs_its_right)
{
	Handle buffer = buffer_create(0, PAGES(2), 0);
	Handle copy = buffer_copy(buffer, OCAP_DMA_FULL & ~OCAP_DMA_IO);

	expect_map(rcNoCapability, copy, 0, PAGES(2), NULL,
		   VMM_READ_WRITE | VMM_FLAG_IO);
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(buffer));
}

/* Pages that the kernel has pinned are nobody else's until it lets go. */
TEST_F(io, pinned_pages_outlive_mapping_and_buffer)
{
	enum { SIZE = 8 * PAGE };
	Handle buffer = buffer_create(0, SIZE, 0), mapping, others[16];
	uint8_t *mem = map_part(buffer, 0, SIZE, VMM_READ_WRITE | VMM_FLAG_IO,
				&mapping);
	static uint8_t copy[SIZE];
	int fds[2];

	ASSERT_ERRNO(0, pipe2(fds, O_CLOEXEC));
	pattern_fill(mem, SIZE, 9);
	ASSERT_EQ(SIZE, splice_from(mem, SIZE, fds[1]));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(buffer));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		others[i] = buffer_create(0, SIZE, 0);
		memset(map_part(others[i], 0, SIZE, VMM_READ_WRITE, &mapping),
		       0xdd, SIZE);
		EXPECT_OK(KnHandleClose(mapping));
	}
	ASSERT_EQ(SIZE, read(fds[0], copy, SIZE));
	pattern_check(copy, SIZE, 9);
	close(fds[0]);
	close(fds[1]);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		EXPECT_OK(KnHandleClose(others[i]));
}

TEST_F(io, revoke_stops_new_pins)
{
	Handle buffer = buffer_create(0, PAGES(4), 0), mapping;
	Handle copy = buffer_copy(buffer, OCAP_DMA_FULL);
	uint8_t *mem = map_part(copy, 0, PAGES(4),
				VMM_READ_WRITE | VMM_FLAG_IO, &mapping);
	static uint8_t bytes[PAGE];
	int fds[2];

	ASSERT_ERRNO(0, pipe2(fds, O_CLOEXEC));
	memset(mem, 1, PAGES(4));
	ASSERT_EQ(PAGE, splice_from(mem, PAGE, fds[1]));
	EXPECT_OK(KnHandleRevokeEx(buffer, rtl_false));
	EXPECT_ERRNO(EFAULT, splice_from(mem + PAGE, PAGE, fds[1]));
	EXPECT_ERRNO(EFAULT, vm_read(mem, bytes, PAGE));
	/* The one from before ends by itself. */
	ASSERT_EQ(PAGE, read(fds[0], bytes, PAGE));
	EXPECT_EQ(PAGE, first_not(bytes, PAGE, 1));
	close(fds[0]);
	close(fds[1]);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- much of it ---- */

FIXTURE(large) {
	int maps;
};

FIXTURE_SETUP(large)
{
	device_warm_up();
	self->maps = nr_mappings();
}

FIXTURE_TEARDOWN(large)
{
	EXPECT_EQ(self->maps, nr_mappings());
}

static long page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

TEST_F(large, no_page_fault_after_map)
{
	static const struct {
		uint32_t order;
		int flags;
		DmaAttr attr;
	} cases[] = {
		{ 0, VMM_READ_WRITE, 0 },
		{ 10, VMM_READ_WRITE, 0 },
		{ 0, VMM_READ_WRITE | VMM_FLAG_IO, 0 },
		{ 0, VMM_READ_WRITE, DMA_ATTR_WRITE_COMBINE },
		{ 9, VMM_FLAG_READ | VMM_FLAG_LOW_GUARD, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Handle buffer = buffer_create(cases[i].order, MiB(64),
					      cases[i].attr);
		volatile uint8_t *mem;
		uint8_t sum = 0;
		Handle mapping;
		long before;

		test_context("case %zu", i);
		mem = map_part(buffer, 0, MiB(64), cases[i].flags, &mapping);
		page_faults(); /* the stack */
		before = page_faults();
		for (size_t page = 0; page < MiB(64); page += PAGE_SIZE)
			if (cases[i].flags & VMM_FLAG_WRITE)
				mem[page] = 1;
			else
				sum |= mem[page];
		EXPECT_EQ(before, page_faults());
		EXPECT_EQ(0, sum);
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

/* Fast and slow ways of the kernel's to pin; a huge entry must stop both. */
TEST_F(large, pages_of_large_blocks_cannot_be_pinned)
{
	const size_t size = MiB(8);
	Handle buffer = buffer_create(10, size, 0), mapping;
	uint8_t *mem = map_part(buffer, 0, size, VMM_READ_WRITE, &mapping);
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC | O_NONBLOCK));
	for (size_t page = 0; page < size / PAGE_SIZE; page += 37) {
		mem[PAGES(page)] = 1;
		EXPECT_ERRNO(EFAULT, splice_from(mem + PAGES(page), PAGE_SIZE,
						 fds[1]));
	}
	close(fds[0]);
	close(fds[1]);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(buffer));
}

/* Which may be mapped by huge entries: they have to be taken apart. */
TEST_F(large, parts_of_large_blocks_can_be_protected_and_unmapped)
{
	static const int flags[] = { VMM_READ_WRITE,
				     VMM_READ_WRITE | VMM_FLAG_LOW_GUARD,
				     VMM_READ_WRITE | VMM_FLAG_IO };
	const size_t size = MiB(8);

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		Handle buffer = buffer_create(10, size, 0), mapping;
		uint8_t *mem = map_part(buffer, 0, size, flags[i], &mapping);

		test_context("flags %#x", flags[i]);
		for (size_t page = 0; page < size; page += PAGE_SIZE)
			memset(mem + page, page / PAGE_SIZE % 251, PAGE_SIZE);

		ASSERT_ERRNO(0, mprotect(mem + PAGES(5), PAGES(2), PROT_READ));
		ASSERT_ERRNO(0, mprotect(mem + PAGES(700), PAGES(1),
					 PROT_NONE));
		EXPECT_EQ(SIGSEGV, probe_write(mem + PAGES(6)));
		EXPECT_EQ(SIGSEGV, probe_read(mem + PAGES(700)));
		EXPECT_EQ(0, probe_write(mem + PAGES(7)));
		EXPECT_EQ(0, probe_write(mem + PAGES(699)));
		mem[PAGES(7)] = 7;
		mem[PAGES(699)] = 699 % 251;

		ASSERT_ERRNO(0, munmap(mem + PAGES(1100), PAGES(3)));
		EXPECT_EQ(SIGSEGV, probe_read(mem + PAGES(1101)));
		EXPECT_EQ(0, probe_write(mem + PAGES(1103)));
		mem[PAGES(1103)] = 1103 % 251;

		for (size_t page = 0; page < size / PAGE_SIZE; page++) {
			if (page == 700 || (page >= 1100 && page < 1103))
				continue;
			if (first_not(mem + PAGES(page), PAGE_SIZE,
				      page % 251) == PAGE_SIZE)
				continue;
			test_context("flags %#x, page %zu", flags[i], page);
			ASSERT_EQ(page % 251, mem[PAGES(page)]);
			EXPECT_TRUE(false);
		}
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_EQ(SIGSEGV, probe_read(mem));
		EXPECT_EQ(SIGSEGV, probe_read(mem + size - 1));
		EXPECT_TRUE(is_free(mem, size));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(large, a_thousand_mappings)
{
	enum { NR = 1000 };
	Handle buffer = buffer_create(0, PAGES(NR), 0);

	IN_CHILD {
		static Handle handles[NR];
		static uint8_t *mem[NR];
		int maps = nr_mappings();

		set_limit(RLIMIT_NOFILE, NR + 100);
		for (int i = 0; i < NR; i++) {
			size_t pages = 1 + i % (NR - i);

			mem[i] = map_part(buffer, PAGES(i), PAGES(pages),
					  VMM_READ_WRITE, &handles[i]);
			*(int *)mem[i] = i;
		}
		for (int i = 0; i < NR; i++)
			EXPECT_EQ(i, *(int *)mem[i]);
		for (int i = 0; i < NR; i++)
			EXPECT_OK(KnHandleClose(handles[i * 7 % NR]));
		EXPECT_EQ(maps, nr_mappings());
	}
	EXPECT_OK(KnHandleClose(buffer));
}

static Handle shared_buffer;

static void *map_and_close(void *arg)
{
	int index = (uintptr_t)arg;

	for (int i = 0; i < 100; i++) {
		Handle mapping;
		uint8_t *mem = map_part(shared_buffer, PAGES(index), PAGES(1),
					VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
					(i & 1 ? VMM_FLAG_IO : 0), &mapping);

		EXPECT_EQ((uint8_t)i, mem[0]);
		mem[0] = i + 1;
		EXPECT_OK(KnHandleClose(mapping));
	}
	return NULL;
}

TEST_F(large, threads_map_and_close_at_the_same_time)
{
	shared_buffer = buffer_create(0, PAGES(4), 0);
	IN_CHILD { /* libc's arenas of the threads go with it */
		pthread_t threads[4];

		for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL,
						    map_and_close, (void *)i));
		for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
			ASSERT_EQ(0, pthread_join(threads[i], NULL));
	}
	EXPECT_OK(KnHandleClose(shared_buffer));
}

TEST_HARNESS_MAIN
