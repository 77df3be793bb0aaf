// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings against a hostile owner: whatever it does to its address space,
 * closing and revoking take away all of the mapping, and nothing else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/io_uring.h>
#include <linux/kosdma.h>
#include <linux/userfaultfd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define GUARDS (VMM_FLAG_LOW_GUARD | VMM_FLAG_HIGH_GUARD)
#define FOREIGN 0x77

/* Newer than some headers. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

/* ---- a mapping of each sort ---- */

/*
 * @root names the memory or the registers; @source descends from it, so that a
 * revoke of @root takes the mapping. @ref is another view of a buffer, which
 * nothing in these tests touches.
 */
FIXTURE(hostile) {
	Handle root, source, mapping, ref_mapping;
	uint8_t *mem, *ref;
	size_t size;
	bool writable;
	int fds, maps;
};

FIXTURE_VARIANT(hostile) {
	uint32_t flags;
	uint32_t order;
	size_t size;
	bool mmio;
};

FIXTURE_VARIANT_ADD(hostile, plain) {
	.flags = VMM_READ_WRITE, .size = PAGES(16),
};
FIXTURE_VARIANT_ADD(hostile, guarded) {
	.flags = VMM_READ_WRITE | GUARDS, .size = PAGES(16),
};
FIXTURE_VARIANT_ADD(hostile, readonly) {
	.flags = VMM_FLAG_READ, .size = PAGES(16),
};
FIXTURE_VARIANT_ADD(hostile, huge) {
	.flags = VMM_READ_WRITE, .order = 9, .size = MiB(4),
};
FIXTURE_VARIANT_ADD(hostile, io) {
	.flags = VMM_READ_WRITE | VMM_FLAG_IO, .size = PAGES(16),
};
FIXTURE_VARIANT_ADD(hostile, io_blocks) {
	.flags = VMM_READ_WRITE | VMM_FLAG_IO | GUARDS, .order = 4,
	.size = PAGES(16),
};
FIXTURE_VARIANT_ADD(hostile, io_readonly) {
	.flags = VMM_FLAG_READ | VMM_FLAG_IO, .size = PAGES(16),
};
FIXTURE_VARIANT_ADD(hostile, mmio) {
	.flags = VMM_READ_WRITE, .size = PAGES(16), .mmio = true,
};

#define IS_IO (variant->flags & VMM_FLAG_IO)
#define IS_WRITABLE (variant->flags & VMM_FLAG_WRITE)
#define IS_GUARDED (variant->flags & VMM_FLAG_LOW_GUARD)
#define NR_PAGES (variant->size / PAGE)

static uint64_t tag_of(size_t page)
{
	return 0x6b6f73646d610000 + page;
}

/* A tag at the start and at the end of each page. */
static void tag_pages(uint8_t *mem, size_t size)
{
	for (size_t i = 0; i < size / PAGE; i++) {
		uint64_t tag = tag_of(i);

		memcpy(mem + PAGES(i), &tag, sizeof(tag));
		memcpy(mem + PAGES(i + 1) - sizeof(tag), &tag, sizeof(tag));
	}
}

static bool is_tagged(const uint8_t *page, size_t i)
{
	uint64_t tag = tag_of(i);

	return !memcmp(page, &tag, sizeof(tag)) &&
	       !memcmp(page + PAGE - sizeof(tag), &tag, sizeof(tag));
}

typedef const struct fixture_variant_hostile Variant;
typedef struct fixture_data_hostile Hostile;

static Retcode try_map(Handle source, Variant *variant, void *hint,
		       uint8_t **mem, Handle *mapping)
{
	void *addr = NULL;
	Retcode rc;

	if (variant->mmio)
		rc = KnIoMapMem(source, variant->flags, 0, &addr, mapping);
	else
		rc = KnIoDmaMap(source, 0, variant->size, hint, variant->flags,
				&addr, mapping);
	*mem = addr;
	return rc;
}

static void map_again(Hostile *self, Variant *variant)
{
	ASSERT_OK(try_map(self->source, variant, NULL, &self->mem,
			  &self->mapping));
}

FIXTURE_SETUP(hostile)
{
	device_warm_up();
	self->size = variant->size;
	self->writable = IS_WRITABLE;
	self->ref_mapping = INVALID_HANDLE;
	if (variant->mmio) {
		struct edu edu;

		edu_require(&edu, 0);
		ASSERT_OK(KnRegisterPhyMem(edu.bar, self->size, 0,
					   &self->root));
	} else {
		self->root = buffer_create(variant->order, self->size, 0);
		self->ref = buffer_map(self->root, self->size,
				       &self->ref_mapping);
		tag_pages(self->ref, self->size);
	}
	self->source = buffer_copy(self->root,
				   variant->mmio ? OCAP_MMIO_FULL :
						   OCAP_DMA_FULL);
	self->fds = probe_nr_fds();
	self->maps = probe_nr_maps();
	map_again(self, variant);
}

/* The test has closed the mapping; the memory is what it was. */
FIXTURE_TEARDOWN(hostile)
{
	EXPECT_EQ(self->fds, probe_nr_fds());
	if (probe_is_open(self->source))
		EXPECT_OK(KnHandleClose(self->source));
	for (size_t i = 0; self->ref && i < NR_PAGES; i++)
		EXPECT_TRUE(is_tagged(self->ref + PAGES(i), i));
	if (self->ref)
		EXPECT_OK(KnHandleClose(self->ref_mapping));
	EXPECT_OK(KnHandleClose(self->root));
}

/* The page can be used as it was mapped to be. */
static void expect_live(Hostile *self, Variant *variant, size_t page)
{
	uint8_t *p = self->mem + PAGES(page);
	int sig = probe_read(p);

	if (sig) {
		test_failed(false, __FILE__, __LINE__,
			    "page %zu cannot be read: signal %d", page, sig);
		return;
	}
	if (variant->mmio) {
		if (!page)
			EXPECT_EQ(0xed, *(volatile uint32_t *)p & 0xff);
		return;
	}
	if (!is_tagged(p, page))
		test_failed(false, __FILE__, __LINE__,
			    "page %zu has another content", page);
	EXPECT_EQ(IS_WRITABLE ? 0 : SIGSEGV, probe_write(p + 64));
	if (IS_WRITABLE && self->ref)
		EXPECT_EQ(0x5a, self->ref[PAGES(page) + 64]);
}

static void expect_all_live(Hostile *self, Variant *variant)
{
	for (size_t i = 0; i < NR_PAGES; i++)
		expect_live(self, variant, i);
	if (IS_GUARDED) {
		EXPECT_EQ(SIGSEGV, probe_read(self->mem - 1));
		EXPECT_EQ(SIGSEGV, probe_read(self->mem + self->size));
	}
}

static void expect_dead(Hostile *self, size_t page, int sig)
{
	EXPECT_EQ(sig, probe_read(self->mem + PAGES(page)));
	EXPECT_EQ(self->writable ? sig : SIGSEGV,
		  probe_write(self->mem + PAGES(page)));
}

static bool is_free(const void *addr, size_t size)
{
	void *p = mmap((void *)addr, size, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		       0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, size);
	return true;
}

/* Close it; then nothing of it is left. */
static void close_all(Hostile *self, Variant *variant)
{
	size_t guard = IS_GUARDED ? PAGE : 0;

	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_TRUE(is_free(self->mem - guard, self->size + 2 * guard));
	EXPECT_EQ(self->maps, probe_nr_maps());
}

/* The setup has mapped it already. */
#define SKIP_CLOSED(...)                                                       \
	do {                                                                   \
		EXPECT_OK(KnHandleClose(self->mapping));                       \
		SKIP(__VA_ARGS__);                                             \
	} while (0)

/* Somebody else's memory, over whatever is there. */
static uint8_t *foreign_over(void *addr, size_t size)
{
	uint8_t *p = mmap(addr, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT_EQ(addr, p);
	memset(p, FOREIGN, size);
	return p;
}

static void expect_foreign(const uint8_t *p, size_t size)
{
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(0, probe_read(p + size - 1));
	EXPECT_EQ(size, first_not(p, size, FOREIGN));
}

/* ---- munmap ---- */

TEST_F(hostile, munmap_of_a_page_takes_that_page)
{
	size_t pages[] = { 0, NR_PAGES / 2, NR_PAGES - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		test_context("page %zu", pages[i]);
		if (i)
			map_again(self, variant);
		ASSERT_ERRNO(0, munmap(self->mem + PAGES(pages[i]), PAGE));
		expect_dead(self, pages[i], SIGSEGV);
		for (size_t k = 0; k < NR_PAGES; k++)
			if (k != pages[i])
				expect_live(self, variant, k);
		close_all(self, variant);
	}
}

TEST_F(hostile, munmap_of_all_page_by_page)
{
	/* Every second one first: as many pieces as there can be. */
	for (size_t i = 1; i < NR_PAGES; i += 2)
		ASSERT_ERRNO(0, munmap(self->mem + PAGES(i), PAGE));
	for (size_t i = 0; i < NR_PAGES; i += 2)
		expect_live(self, variant, i);
	for (size_t i = 0; i < NR_PAGES; i += 2)
		ASSERT_ERRNO(0, munmap(self->mem + PAGES(i), PAGE));
	EXPECT_EQ(0, probe_handle(self->mapping, NULL, NULL));
	close_all(self, variant);
}

TEST_F(hostile, pieces_that_are_left_are_revoked)
{
	ASSERT_ERRNO(0, munmap(self->mem + PAGES(3), PAGES(2)));
	foreign_over(self->mem + PAGES(3), PAGES(2));
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	for (size_t i = 0; i < NR_PAGES; i++)
		if (i != 3 && i != 4)
			expect_dead(self, i, SIGBUS);
	expect_foreign(self->mem + PAGES(3), PAGES(2));
	EXPECT_OK(KnHandleClose(self->mapping));
	expect_foreign(self->mem + PAGES(3), PAGES(2));
	munmap(self->mem + PAGES(3), PAGES(2));
}

/* One munmap() takes the end of a mapping and the start of the next. */
TEST_F(hostile, munmap_across_two_mappings)
{
	Handle other;
	uint8_t *second;

	if (variant->mmio)
		SKIP_CLOSED("not for registers: they are mapped once, without a hint");
	for (int first = 0; first < 2; first++) {
		void *place = mmap(NULL, 2 * self->size + PAGES(4), PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		test_context("round %d", first);
		if (first)
			map_again(self, variant);
		ASSERT_OK(KnHandleClose(self->mapping));
		munmap(place, 2 * self->size + PAGES(4));
		ASSERT_OK(try_map(self->source, variant, place + PAGE,
				  &self->mem, &self->mapping));
		ASSERT_OK(try_map(self->source, variant,
				  place + PAGE + self->size +
					  (IS_GUARDED ? PAGES(2) : 0),
				  &second, &other));
		ASSERT_ERRNO(0, munmap(self->mem + self->size - PAGES(2),
				       second + PAGES(2) - self->mem -
					       self->size + PAGES(2)));
		expect_live(self, variant, NR_PAGES - 3);
		EXPECT_TRUE(is_tagged(second + PAGES(2), 2));
		EXPECT_OK(KnHandleClose(first ? other : self->mapping));
		if (first) {
			expect_live(self, variant, 0);
			EXPECT_EQ(SIGSEGV, probe_read(second + PAGES(2)));
			EXPECT_OK(KnHandleClose(self->mapping));
		} else {
			expect_dead(self, 0, SIGSEGV);
			EXPECT_TRUE(is_tagged(second + PAGES(2), 2));
			EXPECT_OK(KnHandleClose(other));
		}
		EXPECT_TRUE(is_free(self->mem, 2 * self->size));
	}
}

/* Its place taken by another mapping of this module. */
TEST_F(hostile, close_leaves_a_mapping_that_took_its_place)
{
	uint8_t *second;
	Handle other;

	if (variant->mmio)
		SKIP_CLOSED("not for registers: they are mapped once, without a hint");
	ASSERT_ERRNO(0, munmap(self->mem - (IS_GUARDED ? PAGE : 0),
			       self->size + (IS_GUARDED ? PAGES(2) : 0)));
	ASSERT_OK(try_map(self->source, variant, self->mem, &second, &other));
	ASSERT_EQ(self->mem, second);
	EXPECT_OK(KnHandleClose(self->mapping));
	expect_all_live(self, variant);
	self->mapping = other;
	close_all(self, variant);
}

/* ---- MAP_FIXED ---- */

TEST_F(hostile, close_leaves_what_was_mapped_over_it)
{
	size_t guard = IS_GUARDED ? PAGE : 0;
	int fd = memfd_create("foreign", MFD_CLOEXEC);
	uint8_t *start = foreign_over(self->mem - guard, PAGE + guard);
	uint8_t *middle = self->mem + PAGES(5);
	uint8_t *end = foreign_over(self->mem + self->size - PAGE,
				    PAGE + guard);

	ASSERT_GE(fd, 0);
	ASSERT_ERRNO(0, ftruncate(fd, PAGES(3)));
	ASSERT_EQ(middle, mmap(middle, PAGES(3), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, fd, 0));
	memset(middle, FOREIGN, PAGES(3));
	expect_live(self, variant, 1);
	expect_live(self, variant, 8);
	EXPECT_OK(KnHandleClose(self->mapping));
	expect_foreign(start, PAGE + guard);
	expect_foreign(middle, PAGES(3));
	expect_foreign(end, PAGE + guard);
	expect_dead(self, 1, SIGSEGV);
	expect_dead(self, 8, SIGSEGV);
	munmap(start, PAGE + guard);
	munmap(middle, PAGES(3));
	munmap(end, PAGE + guard);
	close(fd);
	EXPECT_EQ(self->maps, probe_nr_maps());
}

/* ---- mremap ---- */

TEST_F(hostile, mremap_neither_moves_nor_grows_it)
{
	size_t size = self->size;
	uint8_t *place = mmap(NULL, 2 * size, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, place);
	munmap(place, 2 * size);
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, size, 2 * size, 0));
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, size, 2 * size,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, size, size,
				     MREMAP_MAYMOVE | MREMAP_FIXED, place));
	EXPECT_EQ(MAP_FAILED, mremap(self->mem + PAGE, PAGE, PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, place));
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, size, size,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, place));
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, size, size,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP |
					     MREMAP_FIXED, place));
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, 0, size, MREMAP_MAYMOVE));
	EXPECT_TRUE(is_free(place, 2 * size));
	expect_all_live(self, variant);
	close_all(self, variant);
}

TEST_F(hostile, memory_policies_change_nothing)
{
	enum { MPOL_BIND = 2, MPOL_INTERLEAVE, MPOL_MF_STRICT = 1, MPOL_MF_MOVE = 2 };
	unsigned long nodes = 1;

	for (int policy = MPOL_BIND; policy <= MPOL_INTERLEAVE; policy++)
		for (unsigned int flags = 0; flags <= (MPOL_MF_STRICT | MPOL_MF_MOVE); flags++)
			for (size_t len = PAGE; len <= self->size; len *= 2)
				syscall(SYS_mbind, self->mem, len, policy, &nodes, 2UL, flags);
	expect_all_live(self, variant);
	close_all(self, variant);
}

TEST_F(hostile, mremap_that_shrinks_is_munmap)
{
	uint8_t *p = mremap(self->mem, self->size, PAGES(2), 0);

	if (p == MAP_FAILED) {
		/* Refused is as good. */
		expect_all_live(self, variant);
	} else {
		EXPECT_EQ(self->mem, p);
		expect_live(self, variant, 1);
		expect_dead(self, 2, SIGSEGV);
		foreign_over(self->mem + PAGES(2), PAGE);
		/* It does not grow back. */
		EXPECT_EQ(MAP_FAILED, mremap(p, PAGES(2), self->size, 0));
		EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
		expect_dead(self, 1, SIGBUS);
		expect_foreign(self->mem + PAGES(2), PAGE);
		munmap(self->mem + PAGES(2), PAGE);
	}
	close_all(self, variant);
}

TEST_F(hostile, close_leaves_what_was_moved_over_it)
{
	uint8_t *from = mmap(NULL, PAGES(2), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *to = self->mem + PAGES(4);

	ASSERT_NE(MAP_FAILED, from);
	memset(from, FOREIGN, PAGES(2));
	ASSERT_EQ(to, mremap(from, PAGES(2), PAGES(2),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	expect_live(self, variant, 3);
	expect_live(self, variant, 6);
	EXPECT_OK(KnHandleClose(self->mapping));
	expect_foreign(to, PAGES(2));
	munmap(to, PAGES(2));
	EXPECT_TRUE(is_free(self->mem, self->size));
}

/* ---- another view of the internal file ---- */

/* File offset of the line of /proc/self/maps that starts at the address. */
static unsigned long file_offset(const void *addr)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end, offset, found = -1UL;
	char line[512];

	ASSERT_NOT_NULL(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) ==
			    3 &&
		    start == (uintptr_t)addr)
			found = offset;
	fclose(f);
	return found;
}

/*
 * remap_file_pages() maps the file again, at an offset of the caller's choice:
 * the guard could become memory, or the end of a region what is behind it.
 */
TEST_F(hostile, remap_file_pages_shows_nothing_new)
{
	uint8_t *base = self->mem - (IS_GUARDED ? PAGE : 0);
	unsigned long offset = file_offset(base) / PAGE;
	long off_page = 3;
	uint8_t *first = IS_GUARDED ? base : self->mem;

	ASSERT_NE(-1UL / PAGE, offset);
	syscall(SYS_remap_file_pages, first, PAGE, 0, offset + off_page, 0);
	if (IS_GUARDED)
		EXPECT_EQ(SIGSEGV, probe_read(first));
	else if (!probe_read(first) && !variant->mmio)
		EXPECT_TRUE(is_tagged(first, 0));
	syscall(SYS_remap_file_pages, self->mem + self->size - PAGES(2),
		PAGES(2), 0, offset + NR_PAGES - 1 + (IS_GUARDED ? 1 : 0), 0);
	if (!variant->mmio && !probe_read(self->mem + self->size - PAGE))
		EXPECT_TRUE(is_tagged(self->mem + self->size - PAGE,
				      NR_PAGES - 1));
	expect_live(self, variant, 4);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	expect_dead(self, 4, SIGBUS);
	syscall(SYS_remap_file_pages, self->mem + PAGES(4), PAGE, 0,
		offset + 4, 0);
	EXPECT_NE(0, probe_read(self->mem + PAGES(4)));
	close_all(self, variant);
}

TEST_F(hostile, the_internal_file_cannot_be_opened)
{
	unsigned long start = (uintptr_t)self->mem - (IS_GUARDED ? PAGE : 0);
	unsigned long end = (uintptr_t)self->mem + self->size +
			    (IS_GUARDED ? PAGE : 0);
	char path[128], target[256];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", start,
		 end);
	if (readlink(path, target, sizeof(target)) < 0)
		SKIP_CLOSED("needs /proc/self/map_files: %s", strerror(errno));
	EXPECT_EQ(-1, open(path, O_RDWR | O_CLOEXEC));
	EXPECT_EQ(-1, open(path, O_RDONLY | O_CLOEXEC));
	close_all(self, variant);
}

/* ---- madvise ---- */

static const struct {
	int advice;
	const char *name;
} advices[] = {
#define ADVICE(a) { a, #a }
	ADVICE(MADV_DONTFORK),	    ADVICE(MADV_DOFORK),
	ADVICE(MADV_WIPEONFORK),    ADVICE(MADV_KEEPONFORK),
	ADVICE(MADV_DONTNEED),	    ADVICE(MADV_DONTNEED_LOCKED),
	ADVICE(MADV_REMOVE),	    ADVICE(MADV_FREE),
	ADVICE(MADV_COLD),	    ADVICE(MADV_PAGEOUT),
	ADVICE(MADV_HUGEPAGE),	    ADVICE(MADV_NOHUGEPAGE),
	ADVICE(MADV_COLLAPSE),	    ADVICE(MADV_MERGEABLE),
	ADVICE(MADV_UNMERGEABLE),   ADVICE(MADV_DODUMP),
	ADVICE(MADV_DONTDUMP),	    ADVICE(MADV_POPULATE_READ),
	ADVICE(MADV_POPULATE_WRITE), ADVICE(MADV_WILLNEED),
	ADVICE(MADV_RANDOM),	    ADVICE(MADV_SEQUENTIAL),
#undef ADVICE
};

static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS;
}

TEST_F(hostile, no_advice_loses_or_shows_a_page)
{
	size_t guard = IS_GUARDED ? PAGE : 0;

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		test_context("%s", advices[i].name);
		/* A part of it, and all with its guards. */
		madvise(self->mem + PAGE, PAGES(2), advices[i].advice);
		madvise(self->mem - guard, self->size + 2 * guard,
			advices[i].advice);
		expect_live(self, variant, 0);
		expect_live(self, variant, 2);
		expect_live(self, variant, NR_PAGES - 1);
		if (guard)
			EXPECT_EQ(SIGSEGV, probe_read(self->mem - 1));
	}
	test_context("%s", "");
	expect_all_live(self, variant);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		test_context("%s, revoked", advices[i].name);
		madvise(self->mem, self->size, advices[i].advice);
		expect_dead(self, 1, SIGBUS);
	}
	test_context("%s", "");
	close_all(self, variant);
}

static const int fork_advices[] = { 0, MADV_DONTFORK, MADV_DOFORK,
				    MADV_KEEPONFORK, MADV_WIPEONFORK };

/* Whatever was advised, alone or after the one before it. */
TEST_F(hostile, no_advice_gives_a_child_a_page)
{
	for (size_t i = 0; i < ARRAY_SIZE(fork_advices); i++) {
		test_context("after advice %d", fork_advices[i]);
		if (fork_advices[i]) {
			madvise(self->mem, self->size, MADV_DOFORK);
			madvise(self->mem, self->size, MADV_KEEPONFORK);
			madvise(self->mem, PAGES(3), fork_advices[i]);
		}
		IN_CHILD {
			size_t pages[] = { 0, 2, 3, NR_PAGES - 1 };

			for (size_t k = 0; k < ARRAY_SIZE(pages); k++) {
				uint8_t *p = self->mem + PAGES(pages[k]);

				EXPECT_TRUE(is_fault(probe_read(p)));
				mprotect(p, PAGE, PROT_READ | PROT_WRITE);
				madvise(p, PAGE, MADV_KEEPONFORK);
				EXPECT_TRUE(is_fault(probe_read(p)));
				EXPECT_TRUE(is_fault(probe_write(p)));
			}
			/* Nor has its own child. */
			IN_CHILD
				EXPECT_TRUE(is_fault(probe_read(self->mem)));
			munmap(self->mem, self->size);
		}
		expect_all_live(self, variant);
	}
	test_context("%s", "");
	close_all(self, variant);
}

/* The child's region is nothing to the parent's mapping, whoever ends first. */
TEST_F(hostile, revoke_and_close_with_a_child_that_inherited_the_region)
{
	int go[2], done[2];
	pid_t pid;

	madvise(self->mem, self->size, MADV_DOFORK);
	madvise(self->mem, self->size, MADV_KEEPONFORK);
	ASSERT_ERRNO(0, pipe2(go, O_CLOEXEC));
	ASSERT_ERRNO(0, pipe2(done, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		for (int i = 0; i < 3; i++) {
			EXPECT_TRUE(is_fault(probe_read(self->mem)));
			probe_signal(done[1]);
			probe_await(go[0]);
		}
		EXPECT_TRUE(is_fault(probe_read(self->mem)));
		test_child_exit();
	}
	probe_await(done[0]);
	expect_all_live(self, variant);
	probe_signal(go[1]);
	probe_await(done[0]);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	expect_dead(self, 0, SIGBUS);
	probe_signal(go[1]);
	probe_await(done[0]);
	close(go[0]);
	close(done[0]);
	close(done[1]);
	close_all(self, variant);
	probe_signal(go[1]);
	test_wait(pid);
	close(go[1]);
}

/* ---- mprotect ---- */

TEST_F(hostile, mprotect_grants_nothing)
{
	size_t guard = IS_GUARDED ? PAGE : 0;
	uint8_t *base = self->mem - guard;
	size_t total = self->size + 2 * guard;

	EXPECT_ERRNO(EACCES, mprotect(self->mem, self->size,
				      PROT_READ | PROT_EXEC));
	EXPECT_ERRNO(EACCES, mprotect(self->mem + PAGE, PAGE, PROT_EXEC));
	if (!IS_WRITABLE) {
		EXPECT_ERRNO(EACCES, mprotect(self->mem, self->size,
					      PROT_READ | PROT_WRITE));
		EXPECT_ERRNO(EACCES, mprotect(self->mem + PAGE, PAGE,
					      PROT_WRITE));
	}
	expect_all_live(self, variant);
	/* Page by page, so that each is a piece of its own, and back. */
	for (size_t i = 0; i < 8; i += 2)
		EXPECT_ERRNO(0, mprotect(self->mem + PAGES(i), PAGE,
					 PROT_NONE));
	expect_dead(self, 2, SIGSEGV);
	expect_live(self, variant, 3);
	EXPECT_ERRNO(0, mprotect(base, total,
				 IS_WRITABLE ? PROT_READ | PROT_WRITE :
					       PROT_READ));
	expect_all_live(self, variant);
	EXPECT_ERRNO(0, mprotect(self->mem, self->size, PROT_NONE));
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_ERRNO(0, mprotect(base, total, PROT_READ));
	EXPECT_EQ(SIGBUS, probe_read(self->mem));
	EXPECT_EQ(SIGBUS, probe_read(self->mem + self->size - 1));
	close_all(self, variant);
}

/* ---- mlock ---- */

static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	long kib = -1;

	ASSERT_NOT_NULL(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kib);
	fclose(f);
	return kib;
}

TEST_F(hostile, mlock_keeps_nothing)
{
	/* Memory that the module owns is charged once, and not for this. */
	mlock(self->mem, self->size);
	mlock2(self->mem, self->size, MLOCK_ONFAULT);
	EXPECT_EQ(0, locked_kib());
	expect_all_live(self, variant);
	madvise(self->mem, self->size, MADV_DONTNEED_LOCKED);
	expect_all_live(self, variant);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	expect_dead(self, 0, SIGBUS);
	close_all(self, variant);
}

TEST_F(hostile, mlockall_before_and_after)
{
	static const int modes[] = { MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT,
				     MCL_CURRENT | MCL_FUTURE };

	EXPECT_OK(KnHandleClose(self->mapping));
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		test_context("mode %d", modes[i]);
		IN_CHILD {
			long before;

			self->ref = NULL; /* not a child's */
			device_warm_up();
			ASSERT_ERRNO(0, mlockall(modes[i]));
			before = locked_kib();
			map_again(self, variant);
			EXPECT_EQ(before, locked_kib());
			expect_all_live(self, variant);
			ASSERT_ERRNO(0, mlockall(modes[i] | MCL_CURRENT));
			expect_live(self, variant, 1);
			EXPECT_OK(KnHandleClose(self->mapping));
			EXPECT_EQ(SIGSEGV, probe_read(self->mem));
			ASSERT_ERRNO(0, munlockall());
			EXPECT_EQ(0, locked_kib());
		}
	}
}

/* ---- core dumps ---- */

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

TEST_F(hostile, is_marked_for_no_core_dump)
{
	char flags[512];

	EXPECT_ERRNO(EINVAL, madvise(self->mem, self->size, MADV_DODUMP));
	vm_flags(self->mem, flags, sizeof(flags));
	EXPECT_NOT_NULL(strstr(flags, " dd"));
	EXPECT_NOT_NULL(strstr(flags, " dc"));
	EXPECT_NOT_NULL(strstr(flags, IS_IO ? " mm" : " pf"));
	EXPECT_NULL(strstr(flags, " lo"));
	close_all(self, variant);
}

#define CORE_PATTERN "/proc/sys/kernel/core_pattern"
#define CORE_FILE "/dev/shm/kosdma.core"

/* How often the tag of page 1 is in the file. */
static int count_tag(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), found = 0;
	static uint64_t words[PAGE / sizeof(uint64_t)];
	ssize_t n;

	if (fd < 0)
		return -1;
	while ((n = read(fd, words, sizeof(words))) > 0)
		for (size_t i = 0; i < n / sizeof(words[0]); i++)
			found += words[i] == tag_of(1);
	close(fd);
	return found;
}

TEST_F(hostile, core_dump_does_not_hold_it)
{
	char old[256] = "";
	int fd = open(CORE_PATTERN, O_RDONLY | O_CLOEXEC), status;
	pid_t pid;

	if (fd < 0 || read(fd, old, sizeof(old) - 1) <= 0 ||
	    !probe_write_file(CORE_PATTERN, CORE_FILE))
		SKIP_CLOSED("needs to write " CORE_PATTERN);
	close(fd);
	EXPECT_OK(KnHandleClose(self->mapping));
	pid = test_fork();
	if (!pid) {
		/* So that the test knows that it would find it. */
		volatile uint64_t *known = mmap(NULL, PAGE,
						PROT_READ | PROT_WRITE,
						MAP_PRIVATE | MAP_ANONYMOUS, -1,
						0);

		*known = tag_of(1);
		map_again(self, variant);
		madvise(self->mem, self->size, MADV_DODUMP);
		madvise(self->mem, self->size, MADV_DOFORK);
		set_limit(RLIMIT_CORE, MiB(64));
		probe_write_file("/proc/self/coredump_filter", "0x7f");
		abort();
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(probe_write_file(CORE_PATTERN, old));
	EXPECT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status));
	EXPECT_EQ(1, count_tag(CORE_FILE));
	unlink(CORE_FILE);
}

/* ---- userfaultfd ---- */

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int uffd_register(int fd, void *addr, size_t size, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = size },
		.mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

TEST_F(hostile, userfaultfd_is_refused)
{
	static const uint64_t modes[] = { UFFDIO_REGISTER_MODE_MISSING,
					  UFFDIO_REGISTER_MODE_WP,
					  UFFDIO_REGISTER_MODE_MISSING |
						  UFFDIO_REGISTER_MODE_WP,
					  UFFDIO_REGISTER_MODE_MINOR };
	int fd = uffd_open(0);

	if (fd < 0)
		SKIP_CLOSED("needs userfaultfd: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		test_context("mode %d", (int)modes[i]);
		EXPECT_EQ(-1, uffd_register(fd, self->mem, self->size,
					    modes[i]));
	}
	test_context("%s", "");
	expect_all_live(self, variant);
	close(fd);
	close_all(self, variant);
}

/*
 * Early kernels with asynchronous write protection (6.7) have it for every
 * region, and nobody can refuse it. It leaves marks in empty entries, for which
 * a fault handler must not take them.
 */
TEST_F(hostile, asynchronous_write_protection_changes_nothing)
{
	int fd = uffd_open(UFFD_FEATURE_WP_ASYNC);
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)self->mem, .len = self->size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (fd < 0)
		SKIP_CLOSED("needs a kernel with UFFD_FEATURE_WP_ASYNC");
	if (uffd_register(fd, self->mem, self->size, UFFDIO_REGISTER_MODE_WP)) {
		test_log("not registered: %s", strerror(errno));
		close(fd);
		close_all(self, variant);
		return;
	}
	/* A fault that nobody ends goes on for ever; end that here. */
	alarm(20);
	for (int round = 0; round < 2; round++) {
		test_context("round %d", round);
		ASSERT_ERRNO(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
		expect_all_live(self, variant);
		ASSERT_ERRNO(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
		madvise(self->mem, self->size, MADV_DONTNEED);
		expect_all_live(self, variant);
		ASSERT_ERRNO(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
		madvise(self->mem, self->size, MADV_DOFORK);
		IN_CHILD {
			alarm(20);
			EXPECT_TRUE(is_fault(probe_read(self->mem)));
		}
		expect_all_live(self, variant);
	}
	test_context("%s", "");
	ASSERT_ERRNO(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	expect_dead(self, 0, SIGBUS);
	expect_dead(self, NR_PAGES - 1, SIGBUS);
	alarm(0);
	close(fd);
	expect_dead(self, 0, SIGBUS);
	close_all(self, variant);
}

/* ---- through the kernel, from outside ---- */

static ssize_t vm_copy(pid_t pid, void *local, void *remote, size_t size,
		       bool write)
{
	struct iovec l = { .iov_base = local, .iov_len = size };
	struct iovec r = { .iov_base = remote, .iov_len = size };

	return write ? process_vm_writev(pid, &l, 1, &r, 1, 0) :
		       process_vm_readv(pid, &l, 1, &r, 1, 0);
}

/* A process of its own has the mapping, and this one looks at it. */
struct victim {
	pid_t pid;
	int go[2], done[2];
};

static void victim_start(struct victim *v, Hostile *self, Variant *variant)
{
	uint8_t *mem;

	EXPECT_OK(KnHandleClose(self->mapping));
	ASSERT_ERRNO(0, pipe2(v->go, O_CLOEXEC));
	ASSERT_ERRNO(0, pipe2(v->done, O_CLOEXEC));
	v->pid = test_fork();
	if (!v->pid) {
		map_again(self, variant);
		ASSERT_EQ(sizeof(self->mem), write(v->done[1], &self->mem,
						   sizeof(self->mem)));
		probe_await(v->go[0]);
		EXPECT_EQ(SIGBUS, probe_read(self->mem));
		EXPECT_OK(KnHandleClose(self->mapping));
		probe_signal(v->done[1]);
		probe_await(v->go[0]);
		test_child_exit();
	}
	ASSERT_EQ(sizeof(mem), read(v->done[0], &mem, sizeof(mem)));
	self->mem = mem;
}

static void victim_end(struct victim *v)
{
	probe_signal(v->go[1]);
	test_wait(v->pid);
	for (int i = 0; i < 2; i++) {
		close(v->go[i]);
		close(v->done[i]);
	}
}

TEST_F(hostile, process_vm_reaches_io_mappings_alone)
{
	uint8_t *at = self->mem + PAGES(1);
	uint64_t word = 0, tag = tag_of(1);
	struct victim v;

	victim_start(&v, self, variant);
	at = self->mem + PAGES(1);
	if (IS_IO) {
		EXPECT_EQ(sizeof(word),
			  vm_copy(v.pid, &word, at, sizeof(word), false));
		EXPECT_EQ(tag, word);
	} else {
		EXPECT_ERRNO(EFAULT, vm_copy(v.pid, &word, at, sizeof(word),
					     false));
	}
	if (IS_IO && IS_WRITABLE) {
		word = 0x1234;
		EXPECT_EQ(sizeof(word), vm_copy(v.pid, &word, at + 64,
						sizeof(word), true));
		EXPECT_EQ(0, memcmp(self->ref + PAGE + 64, &word,
				    sizeof(word)));
	} else {
		EXPECT_ERRNO(EFAULT, vm_copy(v.pid, &word, at + 64,
					     sizeof(word), true));
	}
	if (IS_GUARDED)
		EXPECT_ERRNO(EFAULT, vm_copy(v.pid, &word, self->mem - 64,
					     sizeof(word), false));
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_ERRNO(EFAULT, vm_copy(v.pid, &word, at, sizeof(word), false));
	EXPECT_ERRNO(EFAULT, vm_copy(v.pid, &word, at, sizeof(word), true));
	probe_signal(v.go[1]);
	probe_await(v.done[0]);
	EXPECT_ERRNO(EFAULT, vm_copy(v.pid, &word, at, sizeof(word), false));
	victim_end(&v);
}

/* A debugger that stops its owner does not keep a revoke from ending. */
TEST_F(hostile, ptrace_reaches_io_mappings_alone)
{
	struct victim v;
	char path[64];
	uint64_t word = 0;
	uint8_t *at;
	int mem, status;
	long peeked;

	victim_start(&v, self, variant);
	at = self->mem + PAGES(1);
	ASSERT_ERRNO(0, ptrace(PTRACE_ATTACH, v.pid, NULL, NULL));
	ASSERT_EQ(v.pid, waitpid(v.pid, &status, 0));
	snprintf(path, sizeof(path), "/proc/%d/mem", v.pid);
	mem = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(mem, 0);

	errno = 0;
	peeked = ptrace(PTRACE_PEEKDATA, v.pid, at, NULL);
	EXPECT_EQ(IS_IO ? 0 : EIO, errno);
	EXPECT_EQ(IS_IO ? (long)tag_of(1) : -1, peeked);
	EXPECT_ERRNO(IS_IO && IS_WRITABLE ? 0 : EIO,
		     ptrace(PTRACE_POKEDATA, v.pid, at + 64, 0x4321L));
	if (IS_IO) {
		EXPECT_EQ(sizeof(word), pread(mem, &word, sizeof(word),
					      (uintptr_t)at));
		EXPECT_EQ(tag_of(1), word);
	} else {
		EXPECT_ERRNO(EIO, pread(mem, &word, sizeof(word),
					(uintptr_t)at));
	}
	/* Not even by force. */
	if (!IS_IO || !IS_WRITABLE)
		EXPECT_ERRNO(EIO, pwrite(mem, &word, sizeof(word),
					 (uintptr_t)at));

	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	errno = 0;
	ptrace(PTRACE_PEEKDATA, v.pid, at, NULL);
	EXPECT_EQ(EIO, errno);
	EXPECT_ERRNO(EIO, pread(mem, &word, sizeof(word), (uintptr_t)at));
	EXPECT_ERRNO(EIO, pwrite(mem, &word, sizeof(word), (uintptr_t)at));
	ASSERT_ERRNO(0, ptrace(PTRACE_DETACH, v.pid, NULL, NULL));
	probe_signal(v.go[1]);
	probe_await(v.done[0]);
	EXPECT_ERRNO(EIO, pread(mem, &word, sizeof(word), (uintptr_t)at));
	close(mem);
	victim_end(&v);
}

TEST_F(hostile, proc_self_mem_is_like_ptrace)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	off_t at = (uintptr_t)self->mem + PAGE;
	uint64_t word = 0;

	ASSERT_GE(mem, 0);
	if (IS_IO) {
		EXPECT_EQ(sizeof(word), pread(mem, &word, sizeof(word), at));
		EXPECT_EQ(tag_of(1), word);
		EXPECT_ERRNO(IS_WRITABLE ? 0 : EIO,
			     pwrite(mem, &word, sizeof(word), at));
	} else {
		EXPECT_ERRNO(EIO, pread(mem, &word, sizeof(word), at));
		EXPECT_ERRNO(EIO, pwrite(mem, &word, sizeof(word), at));
	}
	if (IS_GUARDED)
		EXPECT_ERRNO(EIO, pread(mem, &word, sizeof(word),
					(uintptr_t)self->mem - 64));
	expect_all_live(self, variant);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_ERRNO(EIO, pread(mem, &word, sizeof(word), at));
	EXPECT_ERRNO(EIO, pwrite(mem, &word, sizeof(word), at));
	close(mem);
	close_all(self, variant);
}

/* ---- sealed: the kernel itself cannot unmap it any more ---- */

TEST_F(hostile, sealed_mapping_is_closed_without_its_region)
{
	/* In a child: the region stays until the process ends. */
	EXPECT_OK(KnHandleClose(self->mapping));
	IN_CHILD {
		self->ref = NULL;
		map_again(self, variant);
		if (syscall(SYS_mseal, self->mem, self->size, 0UL))
			SKIP("needs a kernel with mseal()");
		expect_all_live(self, variant);
		EXPECT_OK(KnHandleClose(self->mapping));
		expect_dead(self, 0, SIGSEGV);
		expect_dead(self, NR_PAGES - 1, SIGSEGV);
		map_again(self, variant);
		expect_all_live(self, variant);
		EXPECT_OK(KnHandleClose(self->mapping));
	}
}

/* ---- threads ---- */

static __thread sigjmp_buf thread_fault;
static __thread volatile bool thread_catches;

static void on_thread_fault(int sig)
{
	if (!thread_catches)
		_exit(TEST_EXIT_FAIL);
	siglongjmp(thread_fault, sig);
}

static void catch_faults(void)
{
	struct sigaction act = { .sa_handler = on_thread_fault,
				 .sa_flags = SA_NODEFER };

	ASSERT_EQ(0, sigaction(SIGSEGV, &act, NULL));
	ASSERT_EQ(0, sigaction(SIGBUS, &act, NULL));
}

struct toucher {
	uint8_t *volatile mem;
	size_t size;
	bool write, mmio;
	volatile int round; /* mapped for this round; -1: end */
	volatile int over; /* the last round that was ended */
	volatile int busy; /* the round in which it touches */
	unsigned long touches, faults, late, other;
	int expected;
};

/* Touches until it faults, and then once more, to see it stay so. */
static void *toucher_main(void *arg)
{
	struct toucher *t = arg;
	volatile int seen = 0;

	while (t->round >= 0) {
		volatile size_t i = 0;
		int sig, round = t->round;
		volatile int over;

		if (round <= seen) {
			sched_yield();
			continue;
		}
		t->busy = round;
		over = t->over;
		thread_catches = true;
		sig = sigsetjmp(thread_fault, 0);
		while (!sig) {
			volatile uint8_t *p = t->mem + i % t->size;

			over = t->over;
			if (t->write && !t->mmio)
				p[128] = 1;
			else if (t->mmio)
				(void)*(volatile uint32_t *)t->mem;
			else
				(void)*p;
			t->touches++;
			if (over >= round) {
				t->late++;
				break;
			}
			i += PAGE;
		}
		thread_catches = false;
		if (sig)
			t->faults++;
		if (sig && sig != t->expected)
			t->other++;
		seen = round;
		__sync_synchronize();
		t->busy = 0;
	}
	return NULL;
}

static void touch_while(Hostile *self, Variant *variant, bool revoke)
{
	enum { ROUNDS = 40, TOUCHERS = 2 };
	struct toucher t[TOUCHERS];
	pthread_t thread[TOUCHERS];

	catch_faults();
	EXPECT_OK(KnHandleClose(self->mapping));
	for (int i = 0; i < TOUCHERS; i++) {
		t[i] = (struct toucher){
			.size = self->size,
			.write = IS_WRITABLE && i,
			.mmio = variant->mmio,
			.expected = revoke ? SIGBUS : SIGSEGV,
		};
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, toucher_main,
					    &t[i]));
	}
	for (int round = 1; round <= ROUNDS; round++) {
		map_again(self, variant);
		for (int i = 0; i < TOUCHERS; i++) {
			t[i].mem = self->mem;
			__sync_synchronize();
			t[i].round = round;
		}
		while (t[0].busy != round || t[1].busy != round)
			sched_yield();
		usleep(round % 4 * 500);
		if (revoke)
			EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
		else
			EXPECT_OK(KnHandleClose(self->mapping));
		for (int i = 0; i < TOUCHERS; i++)
			t[i].over = round;
		while (t[0].busy || t[1].busy)
			sched_yield();
		if (!revoke)
			continue;
		EXPECT_OK(KnHandleClose(self->mapping));
		EXPECT_OK(KnHandleClose(self->source));
		self->source = buffer_copy(self->root,
					   variant->mmio ? OCAP_MMIO_FULL :
							   OCAP_DMA_FULL);
	}
	for (int i = 0; i < TOUCHERS; i++) {
		t[i].round = -1;
		pthread_join(thread[i], NULL);
		EXPECT_EQ(ROUNDS, t[i].faults);
		EXPECT_EQ(0, t[i].late);
		EXPECT_EQ(0, t[i].other);
		EXPECT_GE(t[i].touches, 1);
	}
}

TEST_F(hostile, no_touch_succeeds_after_a_close_in_another_thread)
{
	touch_while(self, variant, false);
}

TEST_F(hostile, no_touch_succeeds_after_a_revoke_in_another_thread)
{
	touch_while(self, variant, true);
}

struct meddler {
	uint8_t *volatile mem;
	size_t size;
	unsigned long offset; /* in the file, pages */
	volatile bool stop;
	unsigned long done;
};

/* Punches holes into the region all the time. */
static void *meddler_main(void *arg)
{
	struct meddler *m = arg;

	for (unsigned int i = 0; !m->stop; i++) {
		uint8_t *mem = m->mem;

		if (!mem) {
			sched_yield();
			continue;
		}
		switch (i % 4) {
		case 0:
			munmap(mem + PAGES(i % 16), PAGE);
			break;
		case 1:
			mprotect(mem, PAGES(1 + i % 7), PROT_READ);
			break;
		case 2:
			madvise(mem, m->size, MADV_DONTNEED);
			break;
		default:
			mremap(mem, m->size, PAGES(8), 0);
			break;
		}
		m->done++;
	}
	return NULL;
}

/* What the owner breaks is broken, but the module does not stumble. */
TEST_F(hostile, another_thread_breaks_the_region_while_it_is_closed)
{
	struct meddler m = { .size = self->size };
	pthread_t thread;

	EXPECT_OK(KnHandleClose(self->mapping));
	ASSERT_EQ(0, pthread_create(&thread, NULL, meddler_main, &m));
	for (int round = 0; round < 100; round++) {
		unsigned long done = m.done;
		Retcode rc = try_map(self->source, variant, NULL, &self->mem,
				     &self->mapping);

		/* The address may be the last round's: broken while entered. */
		if (rc != rcOk) {
			EXPECT_RC(rcOutOfMemory, rc);
			continue;
		}
		m.mem = self->mem;
		for (int i = 0; i < 1000 && m.done - done < 1 + round % 5; i++)
			sched_yield();
		EXPECT_OK(KnHandleClose(self->mapping));
	}
	m.mem = NULL;
	m.stop = true;
	pthread_join(thread, NULL);
	EXPECT_GT(m.done, 0);
}

/*
 * Moves the view of the file as soon as the region is there: before the module
 * has entered its pages.
 */
static void *remapper_main(void *arg)
{
	struct meddler *m = arg;

	while (!m->stop) {
		if (!m->mem)
			sched_yield();
		else if (!syscall(SYS_remap_file_pages, m->mem, m->size, 0,
				  m->offset + m->size / PAGE - 1, 0))
			m->done++;
	}
	return NULL;
}

TEST_F(hostile, another_thread_remaps_the_region_while_it_is_mapped)
{
	struct meddler m = { .size = self->size };
	pthread_t thread;
	int mapped = 0, fds[2];
	uint64_t word;

	ASSERT_ERRNO(0, pipe2(fds, O_CLOEXEC));
	m.offset = file_offset(self->mem - (IS_GUARDED ? PAGE : 0)) / PAGE;
	/* Before the region is free, or its stack would take the place. */
	ASSERT_EQ(0, pthread_create(&thread, NULL, remapper_main, &m));
	m.mem = self->mem;
	EXPECT_OK(KnHandleClose(self->mapping));
	for (int round = 0; round < 300; round++) {
		Retcode rc = try_map(self->source, variant,
				     variant->mmio ? NULL : m.mem, &self->mem,
				     &self->mapping);

		if (rc != rcOk) {
			EXPECT_RC(rcOutOfMemory, rc);
			continue;
		}
		mapped++;
		/* Only ever the page that belongs there, if any is left. */
		if (!variant->mmio &&
		    write(fds[1], self->mem + self->size - sizeof(word),
			  sizeof(word)) == sizeof(word)) {
			ASSERT_EQ(sizeof(word), read(fds[0], &word,
						     sizeof(word)));
			EXPECT_EQ(tag_of(NR_PAGES - 1), word);
		}
		EXPECT_OK(KnHandleClose(self->mapping));
	}
	m.stop = true;
	pthread_join(thread, NULL);
	close(fds[0]);
	close(fds[1]);
	EXPECT_GT(mapped, 0);
	/* The module lets nobody do that. */
	EXPECT_EQ(0, m.done);
}

/* ---- pins ---- */

FIXTURE(pins) {
	Handle root, source, mapping;
	uint8_t *mem;
	size_t size;
	int pipe[2];
	long before;
};

FIXTURE_VARIANT(pins) {
	uint32_t order;
	size_t size;
};

FIXTURE_VARIANT_ADD(pins, pages) { .order = 0, .size = PAGES(8) };
FIXTURE_VARIANT_ADD(pins, blocks) { .order = 9, .size = MiB(16) };

FIXTURE_SETUP(pins)
{
	void *mem;

	device_warm_up();
	ASSERT_ERRNO(0, pipe2(self->pipe, O_CLOEXEC | O_NONBLOCK));
	self->size = variant->size;
	self->before = probe_free_memory();
	self->root = buffer_create(variant->order, self->size, 0);
	self->source = buffer_copy(self->root, OCAP_DMA_FULL);
	ASSERT_OK(KnIoDmaMap(self->source, 0, self->size, NULL,
			     VMM_READ_WRITE | VMM_FLAG_IO, &mem,
			     &self->mapping));
	self->mem = mem;
	tag_pages(self->mem, self->size);
}

FIXTURE_TEARDOWN(pins)
{
	if (probe_is_open(self->source))
		EXPECT_OK(KnHandleClose(self->source));
	if (probe_is_open(self->root))
		EXPECT_OK(KnHandleClose(self->root));
	EXPECT_TRUE(probe_memory_returns(self->before, KiB(6)));
	close(self->pipe[0]);
	close(self->pipe[1]);
}

/* The page in the middle of each eighth of it. */
static uint8_t *eighth(struct fixture_data_pins *self, int i)
{
	return self->mem + self->size / 8 * i + self->size / 16 / PAGE * PAGE;
}

static void pin_eighths(struct fixture_data_pins *self)
{
	for (int i = 0; i < 8; i++) {
		struct iovec iov = { .iov_base = eighth(self, i),
				     .iov_len = PAGE };

		ASSERT_EQ(PAGE, vmsplice(self->pipe[1], &iov, 1,
					 SPLICE_F_NONBLOCK));
	}
}

/* Whoever takes memory now writes it all over. */
static void scribble(void)
{
	static Handle buffers[24];
	const size_t size = MiB(4);

	for (size_t i = 0; i < ARRAY_SIZE(buffers); i++) {
		Handle mapping;

		buffers[i] = buffer_create(i % 2 ? 0 : 9, size, 0);
		memset(buffer_map(buffers[i], size, &mapping), 0xdd, size);
		EXPECT_OK(KnHandleClose(mapping));
	}
	for (size_t i = 0; i < ARRAY_SIZE(buffers); i++)
		EXPECT_OK(KnHandleClose(buffers[i]));
	for (int i = 0; i < 500; i++) {
		void *p = mmap(NULL, PAGES(4), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
			       0);

		ASSERT_NE(MAP_FAILED, p);
		memset(p, 0xdd, PAGES(4));
	}
}

TEST_F(pins, spliced_page_is_nobody_elses_until_it_is_read)
{
	static uint8_t page[PAGE];

	pin_eighths(self);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_EQ(SIGBUS, probe_read(self->mem));
	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(self->source));
	EXPECT_OK(KnHandleClose(self->root));
	IN_CHILD
		scribble();
	for (int i = 0; i < 8; i++) {
		size_t n = (eighth(self, i) - self->mem) / PAGE;

		test_context("page %zu", n);
		ASSERT_EQ(PAGE, read(self->pipe[0], page, PAGE));
		EXPECT_TRUE(is_tagged(page, n));
	}
	test_context("%s", "");
}

/* Revoked, but not freed: it is the same page for those who still have it. */
TEST_F(pins, spliced_page_is_still_the_buffers)
{
	static uint8_t page[PAGE];
	Handle mapping;
	uint8_t *mine = buffer_map(self->root, self->size, &mapping);

	pin_eighths(self);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_OK(KnHandleClose(self->mapping));
	mine[eighth(self, 0) - self->mem + 64] = 0x99;
	ASSERT_EQ(PAGE, read(self->pipe[0], page, PAGE));
	EXPECT_EQ(0x99, page[64]);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(self->root));
	/* The rest ends with the pipe. */
	close(self->pipe[0]);
	close(self->pipe[1]);
	ASSERT_ERRNO(0, pipe2(self->pipe, O_CLOEXEC));
}

TEST_F(pins, pages_of_a_dead_process_return_with_the_last_pin)
{
	EXPECT_OK(KnHandleClose(self->mapping));
	for (int i = 0; i < 3; i++) {
		pid_t pid = test_fork();
		int status;

		if (!pid) {
			void *mem;

			ASSERT_OK(KnIoDmaMap(self->source, 0, self->size, NULL,
					     VMM_READ_WRITE | VMM_FLAG_IO, &mem,
					     &self->mapping));
			self->mem = mem;
			pin_eighths(self);
			kill(getpid(), SIGKILL);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		close(self->pipe[0]);
		close(self->pipe[1]);
		ASSERT_ERRNO(0, pipe2(self->pipe, O_CLOEXEC));
	}
}

/* The pin for io_uring's registered buffers lasts as long as the ring. */
TEST_F(pins, registered_buffer_of_io_uring_returns_with_the_ring)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { .iov_base = self->mem, .iov_len = PAGES(4) };
	int ring = syscall(SYS_io_uring_setup, 2, &params), other;

	if (ring < 0)
		SKIP_CLOSED("needs io_uring: %s", strerror(errno));
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov,
		    1)) {
		/* A kernel may refuse to pin these for so long. */
		test_log("not registered: %s", strerror(errno));
	}
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	other = syscall(SYS_io_uring_setup, 2, &params);
	ASSERT_GE(other, 0);
	EXPECT_EQ(-1, syscall(SYS_io_uring_register, other,
			      IORING_REGISTER_BUFFERS, &iov, 1));
	close(other);
	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(self->source));
	EXPECT_OK(KnHandleClose(self->root));
	IN_CHILD
		scribble();
	close(ring);
}

struct writer {
	int file;
	uint8_t *volatile mem;
	size_t size;
	volatile bool stop;
	unsigned long good, refused, odd;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;

	while (!w->stop) {
		ssize_t n = pwrite(w->file, w->mem, w->size, 0);

		if (n == (ssize_t)w->size)
			w->good++;
		else if (n >= 0 || errno == EFAULT)
			w->refused++;
		else
			w->odd++;
		sched_yield();
	}
	return NULL;
}

/* A write that is refused or not, and never another's memory in the file. */
TEST_F(pins, direct_writes_while_it_is_revoked)
{
	const char *path = "/tmp/kosdma-hostile";
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC,
		      0600);
	static uint8_t page[PAGE] __attribute__((aligned(PAGE)));
	struct writer w = { .file = fd, .mem = self->mem };
	pthread_t thread;

	unlink(path);
	if (fd < 0)
		SKIP_CLOSED("needs O_DIRECT at %s: %s", path, strerror(errno));
	w.size = self->size < PAGES(64) ? self->size : PAGES(64);
	ASSERT_EQ(w.size, pwrite(fd, self->mem, w.size, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer_main, &w));
	for (int round = 0; round < 10; round++) {
		void *mem;

		usleep(2000);
		EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
		EXPECT_ERRNO(EFAULT, pwrite(fd, self->mem, PAGE, 0));
		EXPECT_OK(KnHandleClose(self->mapping));
		EXPECT_OK(KnHandleClose(self->source));
		self->source = buffer_copy(self->root, OCAP_DMA_FULL);
		ASSERT_OK(KnIoDmaMap(self->source, 0, self->size, NULL,
				     VMM_READ_WRITE | VMM_FLAG_IO, &mem,
				     &self->mapping));
		self->mem = w.mem = mem;
	}
	w.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, w.odd);
	for (size_t i = 0; i < w.size / PAGE; i++) {
		ASSERT_EQ(PAGE, pread(fd, page, PAGE, PAGES(i)));
		EXPECT_TRUE(is_tagged(page, i));
	}
	EXPECT_OK(KnHandleClose(self->mapping));
	close(fd);
}

TEST_HARNESS_MAIN
