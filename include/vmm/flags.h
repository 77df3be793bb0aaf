/* SPDX-License-Identifier: MIT */
/*
 * Flags of mappings
 */
#ifndef VMM_FLAGS_H
#define VMM_FLAGS_H

#include <kos/types.h>
#include <rtl/retcode.h>

/* Protection: at least one. */
#define VMM_FLAG_READ 0x0001
#define VMM_FLAG_WRITE 0x0002

/* KnIoDmaMap(): an inaccessible page before, after the mapping. */
#define VMM_FLAG_LOW_GUARD 0x0004
#define VMM_FLAG_HIGH_GUARD 0x0008

/* KnIoDmaMap(): usable for O_DIRECT, io_uring and send (kosdma). */
#define VMM_FLAG_IO 0x0010

/* KnIoMapMem(), attr: one cache type. */
#define VMM_FLAG_WRITE_BACK 0x1000
#define VMM_FLAG_WRITE_THROUGH 0x2000
#define VMM_FLAG_CACHE_DISABLE 0x4000
#define VMM_FLAG_WRITE_COMBINE 0x8000

#endif /* VMM_FLAGS_H */
