/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What operations cost, of kosdma and of its peers. A function measures one
 * operation of one contender; table.c lists them all. See bench.c for how they
 * are run, Documentation/performance.md for what comes out.
 *
 *	void kosdma_create(struct run *run, size_t size)
 *	{
 *		Handle buffer;
 *
 *		while (run_again(run, 10)) {
 *			ASSERT_OK(KnIoDmaCreate(0, size, 0, &buffer));
 *			run_part(run, "create");
 *			ASSERT_OK(KnHandleClose(buffer));
 *			run_part(run, "destroy");
 *		}
 *	}
 *
 * It has a process of its own; a check of harness.h that fails ends it.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../lib/pci.h"

struct run;

/* Again? So many times in this process. Starts the clock. */
bool run_again(struct run *run, unsigned int times);
/* Start the clock again: what came before does not count. */
void run_start(struct run *run);
/*
 * So much has passed since the clock started, or since the part before. The
 * parts of a round are also summed up.
 */
void run_part(struct run *run, const char *part);
/* It was done @n times; each of them costs that. No part of a sum. */
void run_each(struct run *run, const char *what, unsigned int n);
/* A number that is no time. */
void run_value(struct run *run, const char *what, int64_t value);
/* The machine or the kernel lacks something: ends the process. */
void run_unavailable(const char *why) __attribute__((noreturn));

/* What a function is called with, one after the other. */
struct args {
	enum { ARGS_NONE, ARGS_BYTES, ARGS_COUNT } unit;
	size_t values[8]; /* up to the first 0; ARGS_NONE: one call */
};

struct operation {
	const char *name;
	const char *contender; /* "kosdma" comes first: others are compared with it */
	void (*measure)(struct run *run, size_t arg);
	const struct args *args;
	const struct args *smoke; /* what `make check` calls it with; NULL: not */
	int variant; /* of a contender: enum pages */
};

extern const struct operation operations[];
extern const size_t nr_operations;

int run_variant(const struct run *run);

/* memory.c: what memory peers are given */
enum pages { PAGES_4K, PAGES_THP, PAGES_HUGETLB };
/* Not touched yet. Huge pages are aligned; hugetlb's must be there. */
void *memory_map(enum pages pages, size_t size);
void memory_unmap(void *memory, enum pages pages, size_t size);
/* One byte of each page is written. */
void memory_touch(volatile void *memory, size_t size);
/* Page faults of this process. */
int64_t memory_faults(void);

/* measure.c: what several contenders measure in the same way */
/* Registers of a device are mapped at @regs: what an access costs. */
void registers_measure(struct run *run, volatile void *regs);
/* The large BAR of a pci-testdev, by mmap() of a file. */
void bar_measure(struct run *run, int fd, uint64_t offset, size_t size);
void bar_touch(struct run *run, const volatile uint8_t *bar, size_t size);
size_t bar_size(const struct pci *pci);
/* How many requests the IOMMU's driver has sent to its IOMMUs since the start. */
void flushes_start(void);
int64_t flushes_stop(void);
/* Run @thread in so many threads with elements of an array, and wait for all. */
void threads_run(void *(*thread)(void *), void *array, size_t size, size_t nr);
/* Processes: killed when they have done @prepare. Parts "dead" and "device free". */
void kill_measure(struct run *run, size_t nr, void (*prepare)(struct run *run, size_t nr),
		  void (*again)(struct run *run));

/* kosdma.c */
enum {
	EDU_OF_KOSDMA = 0, /* that one and the following 15 */
	EDU_OF_VFIO = 16, /* that one and the following ones */
};

#define OPERATION(name) void name(struct run *run, size_t arg)

OPERATION(kosdma_null);
OPERATION(kosdma_create);
OPERATION(kosdma_map);
OPERATION(kosdma_open);
OPERATION(kosdma_open_batch);
OPERATION(kosdma_chain);
OPERATION(kosdma_domains);
OPERATION(kosdma_info);
OPERATION(kosdma_attach);
OPERATION(kosdma_send);
OPERATION(kosdma_revoke);
OPERATION(kosdma_registers);
OPERATION(kosdma_bar);
OPERATION(kosdma_open_beside);
OPERATION(kosdma_create_beside);
OPERATION(kosdma_map_beside);
OPERATION(kosdma_threads_private);
OPERATION(kosdma_threads_shared);
OPERATION(kosdma_kill);
OPERATION(kosdma_memory);
OPERATION(kosdma_flushes);
OPERATION(kosdma_faults);
OPERATION(kosdma_open_traced);
OPERATION(kosdma_open_listened);

/* vfio.c */
OPERATION(vfio_null);
OPERATION(vfio_open);
OPERATION(vfio_chain);
OPERATION(vfio_domains);
OPERATION(vfio_attach);
OPERATION(vfio_registers);
OPERATION(vfio_bar);
OPERATION(vfio_open_beside);
OPERATION(vfio_threads_shared);
OPERATION(vfio_kill);
OPERATION(vfio_memory);
OPERATION(vfio_flushes);

/* iommufd.c */
OPERATION(iommufd_null);
OPERATION(iommufd_open);
OPERATION(iommufd_chain);
OPERATION(iommufd_open_beside);
OPERATION(iommufd_memory);

/* memory.c */
OPERATION(linux_null);
OPERATION(linux_create);
OPERATION(linux_map);
OPERATION(linux_clear);
OPERATION(linux_send);

/* dmabuf.c */
OPERATION(udmabuf_create);
OPERATION(udmabuf_map);
OPERATION(heap_create);
OPERATION(heap_map);

/* sysfs.c: what uio gives, too */
OPERATION(sysfs_registers);
OPERATION(sysfs_bar);

#endif /* TESTS_BENCH_BENCH_H */
