/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A driver of QEMU's educational device (1234:11e8) for tests, over libkos.
 *
 * The device copies between memory and a 4 KiB buffer of its own. It is slow:
 * each copy takes 100 ms of guest time. It masks addresses to 28 bits unless
 * the guest was started with another dma_mask.
 */
#ifndef TESTS_LIB_EDU_H
#define TESTS_LIB_EDU_H

#include <stdbool.h>
#include <stdint.h>

#include <coresrv/io/io_api.h>
#include <coresrv/iommu/iommu_api.h>
#include <rtl/retcode.h>

enum {
	EDU_REG_ID = 0x00, /* 0xRRrr00ed */
	EDU_REG_LIVENESS = 0x04, /* reads back the inverse of what was written */
	EDU_REG_FACTORIAL = 0x08,
	EDU_REG_STATUS = 0x20, /* bit 0: computing a factorial */
	EDU_REG_DMA_SRC = 0x80,
	EDU_REG_DMA_DST = 0x88,
	EDU_REG_DMA_COUNT = 0x90,
	EDU_REG_DMA_CMD = 0x98,
};

enum {
	EDU_BAR_SIZE = 0x100000,
	EDU_BUFFER = 0x40000, /* device-side address of its buffer */
	EDU_COPY_MAX = 0xfff, /* its last byte cannot be used */
};

struct edu {
	char path[64]; /* in sysfs */
	rtl_uint16_t bdf;
	uint64_t bar; /* physical address of BAR 0 */
	IoMemHandles handles;
	void *regs;
};

/* The n-th edu of this machine in order of address, or false. */
bool edu_find(struct edu *edu, int n);

/* The same, or skip the test. */
void edu_require(struct edu *edu, int n);

/* Whether an IOMMU translates for the device. */
bool edu_translated(const struct edu *edu);

/* Skip the test unless the device is behind an IOMMU. */
void edu_require_translation(const struct edu *edu);

/* Find, attach to the automatic domain, map the registers; or end the test. */
void edu_open(struct edu *edu, int n);

/* Register and map BAR 0, and undo it. */
Retcode edu_map_registers(struct edu *edu);
void edu_unmap_registers(struct edu *edu);

uint32_t edu_read(struct edu *edu, uint32_t reg);
void edu_write(struct edu *edu, uint32_t reg, uint32_t value);

/*
 * Start a copy between memory at @addr, as the device sees it, and the device's
 * buffer at @offset, and wait for its end. All ends come, refused copies' too:
 * the test fails if one does not.
 */
void edu_copy_in(struct edu *edu, uint64_t addr, uint32_t offset,
		 uint32_t count); /* memory to device */
void edu_copy_out(struct edu *edu, uint32_t offset, uint64_t addr,
		  uint32_t count); /* device to memory */

/* Start one only. edu_copy_wait() returns whether it ended in time. */
void edu_copy_out_start(struct edu *edu, uint32_t offset, uint64_t addr,
			uint32_t count);
bool edu_copy_wait(struct edu *edu);

#endif /* TESTS_LIB_EDU_H */
