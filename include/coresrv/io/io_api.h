/* SPDX-License-Identifier: MIT */
/*
 * Input and output: everything
 */
#ifndef CORESRV_IO_IO_API_H
#define CORESRV_IO_IO_API_H

#include <coresrv/io/dma.h>
#include <coresrv/io/mmio.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * KnIoClose() - close a handle, as KasperskyOS 1.1 spelled it
 * @rid: any handle
 *
 * KasperskyOS guide 1.1; kosdma: the same as KnHandleClose().
 *
 * Return: rcOk; rcResourceNotFound (not open, or no kosdma handle; nothing was
 * closed); rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoClose(Handle rid);

#ifdef __cplusplus
}
#endif

#endif /* CORESRV_IO_IO_API_H */
