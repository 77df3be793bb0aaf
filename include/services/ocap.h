/* SPDX-License-Identifier: MIT */
/*
 * Rights masks of handles
 */
#ifndef SERVICES_OCAP_H
#define SERVICES_OCAP_H

#include <kos/types.h>
#include <rtl/retcode.h>

/* The general part, for handles of every type (KasperskyOS guide). */
#define OCAP_HANDLE_TRANSFER 0x00000001U /* KosHandleSend() */
#define OCAP_HANDLE_COPY 0x00000002U /* KnHandleCopy() */
#define OCAP_HANDLE_GET_SID 0x00000004U /* KnHandleGetSidByHandle() */

/* DMA buffers (kosdma). */
#define OCAP_DMA_READ 0x00010000U /* map it readable; devices may read it */
#define OCAP_DMA_WRITE 0x00020000U /* map it writable; devices may write it */
#define OCAP_DMA_BEGIN 0x00040000U /* open it for devices */
#define OCAP_DMA_MODIFY 0x00080000U /* KnIoDmaModify() */
#define OCAP_DMA_IO 0x00100000U /* map it with VMM_FLAG_IO */
#define OCAP_DMA_FULL \
	(OCAP_HANDLE_TRANSFER | OCAP_HANDLE_COPY | OCAP_HANDLE_GET_SID | \
	 OCAP_DMA_READ | OCAP_DMA_WRITE | OCAP_DMA_BEGIN | OCAP_DMA_MODIFY | \
	 OCAP_DMA_IO)

/* Registers of devices (kosdma). */
#define OCAP_MMIO_READ 0x00010000U /* map it readable */
#define OCAP_MMIO_WRITE 0x00020000U /* map it writable */
#define OCAP_MMIO_FULL \
	(OCAP_HANDLE_TRANSFER | OCAP_HANDLE_COPY | OCAP_HANDLE_GET_SID | \
	 OCAP_MMIO_READ | OCAP_MMIO_WRITE)

#endif /* SERVICES_OCAP_H */
