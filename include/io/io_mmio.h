/* SPDX-License-Identifier: MIT */
/*
 * Types and flags of device registers in memory
 */
#ifndef IO_IO_MMIO_H
#define IO_IO_MMIO_H

#include <kos/types.h>
#include <rtl/retcode.h>

/* Flags of KnRegisterPhyMem(). */
#define MMIO_K_SHARED 0x0001U /* kernel code uses the range too */
#define MMIO_U_SHARED 0x0002U /* others may register it too */

/**
 * struct IoMemHandles - the two handles that mapped registers need
 * @region: handle from KnRegisterPhyMem(), or INVALID_HANDLE
 * @mapping: handle from KnIoMapMem(), or INVALID_HANDLE
 *
 * kosdma (the guide names the functions, not the fields).
 */
typedef struct IoMemHandles {
	Handle region;
	Handle mapping;
} IoMemHandles;

#endif /* IO_IO_MMIO_H */
