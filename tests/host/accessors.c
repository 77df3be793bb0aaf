// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each function must compile to one access, see the check in run.
 */
#include <coresrv/io/mmio.h>

#define PROBE(bits) \
	rtl_uint##bits##_t read##bits(volatile void *reg); \
	void write##bits(volatile void *reg, rtl_uint##bits##_t data); \
	rtl_uint##bits##_t read##bits(volatile void *reg) \
	{ \
		return IoReadMmReg##bits(reg); \
	} \
	void write##bits(volatile void *reg, rtl_uint##bits##_t data) \
	{ \
		IoWriteMmReg##bits(reg, data); \
	}

PROBE(8)
PROBE(16)
PROBE(32)
PROBE(64)

/* Not merged, not dropped, and behind the store to memory: four accesses. */
void keep(volatile void *reg, double *memory);
void keep(volatile void *reg, double *memory)
{
	*memory = 1;
	IoWriteMmReg32(reg, 1);
	IoWriteMmReg32(reg, 1);
	*memory = 2;
	(void)IoReadMmReg32(reg);
	(void)IoReadMmReg32(reg);
}
