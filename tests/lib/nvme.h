/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A driver of QEMU's NVMe controller for tests, over libkos: the queue of
 * commands that administer, one pair of queues for blocks, PRP lists, polling.
 * Tests write to its namespaces, so its serial number must be "kosdma".
 *
 * QEMU's controller looks addresses up when it begins a command, all of them,
 * and stores to where they led when the command ends, whatever has become of
 * the IOMMU's tables and of bus mastering meanwhile. What no device does is no
 * fault of ours: tests of commands under way need the reset that ends them, and
 * others ask the controller after it was cut off.
 */
#ifndef TESTS_LIB_NVME_H
#define TESTS_LIB_NVME_H

#include <stdbool.h>
#include <stdint.h>

#include <coresrv/io/io_api.h>
#include <coresrv/iommu/iommu_api.h>
#include <rtl/retcode.h>

#include "probe.h"

enum {
	NVME_DEPTH = 32, /* of each queue; one entry stays free */
	NVME_PAGES_MAX = 1024, /* of a command */
	NVME_NAMESPACES = 2,
	NVME_NO_ANSWER = -1, /* instead of a status */
};

struct nvme_queue {
	struct begun sq, cq;
	uint16_t id, tail, head;
	bool phase;
};

struct nvme {
	char path[64]; /* in sysfs */
	rtl_uint16_t bdf;
	uint64_t bar, bar_size;
	IoMemHandles handles;
	void *regs;

	Handle domain; /* INVALID_HANDLE: the automatic one */
	bool has_memory;
	struct nvme_queue admin, io;
	struct begun lists; /* of PRPs: some pages for each command */
	struct begun identified;
	uint16_t next_id;

	/* From the controller, by nvme_start(): */
	char model[41];
	uint32_t max_pages; /* of a command */
	uint64_t size[NVME_NAMESPACES]; /* in bytes; 0: there is none */
	uint32_t block[NVME_NAMESPACES];
};

/* The first controller of this machine in order of address, or false. */
bool nvme_find(struct nvme *n);

/* The same; skip the test if there is none, or if the kernel has it. */
void nvme_require(struct nvme *n);

/* Whether an IOMMU translates for it, and skipping the test if none does. */
bool nvme_translated(const struct nvme *n);
void nvme_require_translation(const struct nvme *n);

Retcode nvme_map_registers(struct nvme *n);
Retcode nvme_attach(struct nvme *n); /* to n->domain */
Retcode nvme_detach(struct nvme *n);

/*
 * Reset the controller and set it up, with memory in n->domain; the test ends
 * if that fails. nvme_stop() resets it and leaves the memory open.
 */
void nvme_start(struct nvme *n);
void nvme_stop(struct nvme *n);
void nvme_free(struct nvme *n);

/* All of it, in the domain or in the automatic one; and back. */
void nvme_open(struct nvme *n, Handle domain);
void nvme_close(struct nvme *n);

/*
 * Begin to read or write blocks of a namespace (1 or 2) at a byte offset into
 * it: whole pages, at these addresses. At most NVME_DEPTH - 1 may be under way.
 */
void nvme_submit(struct nvme *n, uint32_t nsid, bool write, uint64_t offset,
		 const uint64_t *pages, uint32_t nr);

/*
 * Wait for the end of a command: its status, 0 for success, or NVME_NO_ANSWER.
 */
int nvme_wait(struct nvme *n, unsigned int seconds);

/* Whether an answer is there already. */
bool nvme_answered(const struct nvme *n);

/* Both, for commands that must be answered. */
int nvme_io(struct nvme *n, uint32_t nsid, bool write, uint64_t offset,
	    const uint64_t *pages, uint32_t nr);

#endif /* TESTS_LIB_NVME_H */
