// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "edu.h"
#include "pci.h"

enum {
	CMD_START = 1 << 0,
	CMD_TO_MEMORY = 1 << 1,
	POLL_US = 5 * 1000,
	WAIT_SECONDS = 30, /* of 0.1: the host may be busy */
};

bool edu_find(struct edu *edu, int n)
{
	struct pci pci;
	struct pci_bar bar;

	*edu = (struct edu){ 0 };
	KnIoMemHandlesClear(&edu->handles);
	if (!pci_find(&pci, 0x1234, 0x11e8, n))
		return false;
	memcpy(edu->path, pci.path, sizeof(edu->path));
	edu->bdf = pci.bdf;
	if (pci_bar(&pci, 0, &bar))
		edu->bar = bar.start;
	return true;
}

void edu_require(struct edu *edu, int n)
{
	if (!edu_find(edu, n))
		SKIP("needs %d edu device(s) of QEMU (1234:11e8)", n + 1);
}

bool edu_translated(const struct edu *edu)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/iommu_group", edu->path);
	return !access(path, F_OK);
}

void edu_require_translation(const struct edu *edu)
{
	if (!edu_translated(edu))
		SKIP("needs an IOMMU: without one nothing confines the device");
}

Retcode edu_map_registers(struct edu *edu)
{
	Retcode rc;

	rc = KnRegisterPhyMem(edu->bar, EDU_BAR_SIZE, 0, &edu->handles.region);
	if (rc != rcOk)
		return rc;
	rc = KnIoMapMem(edu->handles.region, VMM_FLAG_READ | VMM_FLAG_WRITE,
			VMM_FLAG_CACHE_DISABLE, &edu->regs,
			&edu->handles.mapping);
	if (rc != rcOk)
		KnIoMemHandlesClose(&edu->handles);
	return rc;
}

void edu_unmap_registers(struct edu *edu)
{
	EXPECT_OK(KnIoMemHandlesClose(&edu->handles));
	edu->regs = NULL;
}

void edu_open(struct edu *edu, int n)
{
	edu_require(edu, n);
	ASSERT_OK(KnIommuAttachDevice(edu->bdf));
	ASSERT_OK(edu_map_registers(edu));
	ASSERT_EQ(0xed, edu_read(edu, EDU_REG_ID) & 0xff);
}

uint32_t edu_read(struct edu *edu, uint32_t reg)
{
	return IoReadMmReg32((char *)edu->regs + reg);
}

void edu_write(struct edu *edu, uint32_t reg, uint32_t value)
{
	IoWriteMmReg32((char *)edu->regs + reg, value);
}

#if UINTPTR_MAX > UINT32_MAX
static void write_wide(struct edu *edu, uint32_t reg, uint64_t value)
{
	IoWriteMmReg64((char *)edu->regs + reg, value);
}

static uint64_t read_wide(struct edu *edu, uint32_t reg)
{
	return IoReadMmReg64((char *)edu->regs + reg);
}
#else
/* Programs of 32 bits have no wider accesses; the device takes narrow ones for small values. */
static void write_wide(struct edu *edu, uint32_t reg, uint64_t value)
{
	ASSERT_LE(value, UINT32_MAX);
	edu_write(edu, reg, (uint32_t)value);
}

static uint64_t read_wide(struct edu *edu, uint32_t reg)
{
	return edu_read(edu, reg);
}
#endif

static void copy_start(struct edu *edu, uint64_t src, uint64_t dst,
		       uint32_t count, uint32_t cmd)
{
	uint64_t inside = cmd & CMD_TO_MEMORY ? src : dst;

	/*
	 * QEMU aborts at a copy that reaches the end of the buffer, or overruns
	 * its own memory at worse ones.
	 */
	ASSERT_GT(count, 0);
	ASSERT_LE(count, EDU_COPY_MAX);
	ASSERT_GE(inside, EDU_BUFFER);
	ASSERT_LE(inside + count, EDU_BUFFER + EDU_COPY_MAX);

	write_wide(edu, EDU_REG_DMA_SRC, src);
	write_wide(edu, EDU_REG_DMA_DST, dst);
	write_wide(edu, EDU_REG_DMA_COUNT, count);
	write_wide(edu, EDU_REG_DMA_CMD, cmd | CMD_START);
}

bool edu_copy_wait(struct edu *edu)
{
	time_t end = time(NULL) + WAIT_SECONDS;

	while (read_wide(edu, EDU_REG_DMA_CMD) & CMD_START) {
		if (time(NULL) > end)
			return false;
		usleep(POLL_US);
	}
	return true;
}

void edu_copy_in(struct edu *edu, uint64_t addr, uint32_t offset,
		 uint32_t count)
{
	copy_start(edu, addr, (uint64_t)EDU_BUFFER + offset, count, 0);
	ASSERT_TRUE(edu_copy_wait(edu));
}

void edu_copy_out_start(struct edu *edu, uint32_t offset, uint64_t addr,
			uint32_t count)
{
	copy_start(edu, (uint64_t)EDU_BUFFER + offset, addr, count,
		   CMD_TO_MEMORY);
}

void edu_copy_out(struct edu *edu, uint32_t offset, uint64_t addr,
		  uint32_t count)
{
	edu_copy_out_start(edu, offset, addr, count);
	ASSERT_TRUE(edu_copy_wait(edu));
}
