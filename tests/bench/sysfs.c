// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registers by the files of sysfs. What /dev/uio has is mapped in the same way:
 * all pages by remap_pfn_range() in mmap().
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/edu.h"
#include "../lib/pci.h"
#include "bench.h"

static int open_bar(const char *path, int bar)
{
	char name[128];
	int fd;

	snprintf(name, sizeof(name), "%s/resource%d", path, bar);
	fd = open(name, O_RDWR | O_SYNC | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	return fd;
}

void sysfs_registers(struct run *run, size_t arg)
{
	struct edu edu;
	void *regs;

	(void)arg;
	if (!edu_find(&edu, EDU_OF_VFIO))
		run_unavailable("no device");
	regs = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    open_bar(edu.path, 0), 0);
	ASSERT_NE(MAP_FAILED, regs);
	registers_measure(run, regs);
}

void sysfs_bar(struct run *run, size_t arg)
{
	struct pci pci;

	(void)arg;
	if (!pci_find(&pci, PCI_TESTDEV, 0))
		run_unavailable("no pci-testdev");
	bar_measure(run, open_bar(pci.path, TESTDEV_MEMORY), 0, bar_size(&pci));
}
