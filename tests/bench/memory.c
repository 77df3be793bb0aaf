// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel itself costs: a system call, memory of a process, a
 * descriptor that is sent. And the memory that peers are given.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/probe.h"
#include "bench.h"

#define HUGE_PAGE MiB(2)

void *memory_map(enum pages pages, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t more = pages == PAGES_THP && size >= HUGE_PAGE ? HUGE_PAGE : 0;
	uintptr_t start, at;
	void *memory;

	if (pages == PAGES_HUGETLB)
		flags |= MAP_HUGETLB;
	memory = mmap(NULL, size + more, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory == MAP_FAILED && pages == PAGES_HUGETLB)
		run_unavailable("no huge pages are reserved");
	ASSERT_NE(MAP_FAILED, memory);
	if (!more) {
		if (pages == PAGES_4K)
			madvise(memory, size, MADV_NOHUGEPAGE);
		return memory;
	}
	start = (uintptr_t)memory;
	at = (start + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	if (at > start)
		munmap(memory, at - start);
	munmap((void *)(at + size), start + more - at);
	madvise((void *)at, size, MADV_HUGEPAGE);
	return (void *)at;
}

void memory_unmap(void *memory, enum pages pages, size_t size)
{
	(void)pages;
	munmap(memory, size);
}

void memory_touch(volatile void *memory, size_t size)
{
	volatile uint8_t *byte = memory, *end = byte + size;

	/* By the pointer alone: the loop is no part of what is measured. */
	for (; byte < end; byte += PAGE)
		*byte = 1;
}

int64_t memory_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

void linux_null(struct run *run, size_t arg)
{
	(void)arg;
	while (run_again(run, 20)) {
		for (int i = 0; i < 100; i++)
			syscall(SYS_getppid);
		run_each(run, "call", 100);
	}
}

void linux_create(struct run *run, size_t size)
{
	enum pages pages = run_variant(run);
	void *memory;

	while (run_again(run, size < MiB(64) ? 10 : 1)) {
		memory = memory_map(pages, size);
		memory_touch(memory, size);
		run_part(run, "create");
		memory_unmap(memory, pages, size);
		run_part(run, "destroy");
	}
}

/* The kernel clears a page by a string instruction of so many rounds. */
void linux_clear(struct run *run, size_t size)
{
	uint8_t *memory = memory_map(PAGES_THP, size);

	memory_touch(memory, size);
	while (run_again(run, 3)) {
		void *at = memory;
		size_t words = size / 8;

		__asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
		run_part(run, "clear");
	}
}

/* The peers' memory: mapped, and entered at the first touch. */
void linux_map(struct run *run, size_t size)
{
	enum pages pages = run_variant(run);

	while (run_again(run, size < MiB(64) ? 10 : 2)) {
		void *memory = memory_map(pages, size);

		run_part(run, "map");
		memory_touch(memory, size);
		run_part(run, "touch");
		memory_unmap(memory, pages, size);
		run_part(run, "unmap");
	}
}

void linux_send(struct run *run, size_t arg)
{
	int socks[2], fd = memfd_create("bench", MFD_CLOEXEC), got;

	(void)arg;
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks));
	while (run_again(run, 20)) {
		probe_send_fds(socks[0], &fd, 1);
		run_part(run, "send");
		ASSERT_EQ(1, probe_receive_fds(socks[1], &got, 1));
		run_part(run, "receive");
		close(got);
	}
}
