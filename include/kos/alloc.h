/* SPDX-License-Identifier: MIT */
/*
 * Memory that the library allocates for its caller
 */
#ifndef KOS_ALLOC_H
#define KOS_ALLOC_H

#include <kos/types.h>
#include <rtl/retcode.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * KosMemFree() - free memory that a call of this library allocated
 * @ptr: what the call returned, such as the DmaInfo of KnIoDmaGetInfo(); or
 *	NULL, which does nothing
 *
 * kosdma.
 */
void KosMemFree(void *ptr);

#ifdef __cplusplus
}
#endif

#endif /* KOS_ALLOC_H */
