// SPDX-License-Identifier: GPL-2.0-only
/* What several contenders measure in the same way. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/edu.h"
#include "../lib/probe.h"
#include "bench.h"

enum { ACCESSES = 1000 };

void registers_measure(struct run *run, volatile void *regs)
{
	uint32_t sum = 0;

	ASSERT_EQ(0xed, IoReadMmReg32((char *)regs + EDU_REG_ID) & 0xff);
	while (run_again(run, 10)) {
		for (int i = 0; i < ACCESSES; i++)
			sum += IoReadMmReg32((char *)regs + EDU_REG_LIVENESS);
		run_each(run, "read", ACCESSES);
		for (int i = 0; i < ACCESSES; i++)
			IoWriteMmReg32((char *)regs + EDU_REG_LIVENESS, sum);
		run_each(run, "write", ACCESSES);
	}
}

size_t bar_size(const struct pci *pci)
{
	struct pci_bar bar;

	ASSERT_TRUE(pci_bar(pci, TESTDEV_MEMORY, &bar));
	return bar.last + 1 - bar.start;
}

static void touch(const volatile uint8_t *bar, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += PAGE)
		(void)bar[at];
}

void bar_touch(struct run *run, const volatile uint8_t *bar, size_t size)
{
	touch(bar, 0, PAGE);
	run_part(run, "first touch");
	touch(bar, PAGE, size);
	run_part(run, "other touches");
}

void bar_measure(struct run *run, int fd, uint64_t offset, size_t size)
{
	while (run_again(run, 3)) {
		void *bar = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

		ASSERT_NE(MAP_FAILED, bar);
		run_part(run, "map");
		bar_touch(run, bar, size);
		munmap(bar, size);
		run_part(run, "unmap");
	}
}

#define TRACING "/sys/kernel/tracing/"
#define QI_SUBMIT TRACING "events/intel_iommu/qi_submit/enable"

/* The driver of Intel's IOMMU has a tracepoint for each request, the others have none. */
void flushes_start(void)
{
	if (!probe_write_file(QI_SUBMIT, "1"))
		run_unavailable("only Intel's IOMMU tells");
	close(open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
}

int64_t flushes_stop(void)
{
	FILE *trace = fopen(TRACING "trace", "re");
	char line[256];
	int64_t n = 0;

	ASSERT_NOT_NULL(trace);
	probe_write_file(QI_SUBMIT, "0");
	while (fgets(line, sizeof(line), trace))
		n += line[0] != '#' && strstr(line, "qi_submit:") && strstr(line, "iotlb");
	fclose(trace);
	return n;
}

void threads_run(void *(*thread)(void *), void *array, size_t size, size_t nr)
{
	pthread_t ids[16];

	ASSERT_LE(nr, ARRAY_SIZE(ids));
	for (size_t i = 0; i < nr; i++)
		ASSERT_EQ(0, pthread_create(&ids[i], NULL, thread, (char *)array + i * size));
	for (size_t i = 0; i < nr; i++)
		pthread_join(ids[i], NULL);
}

void kill_measure(struct run *run, size_t nr, void (*prepare)(struct run *run, size_t nr),
		  void (*again)(struct run *run))
{
	int ready[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	pid = test_fork();
	if (!pid) {
		prepare(run, nr);
		probe_signal(ready[1]);
		pause();
	}
	probe_await(ready[0]);
	while (run_again(run, 1)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		run_part(run, "dead");
		again(run);
		run_part(run, "device free");
	}
}
