/* SPDX-License-Identifier: MIT */
/*
 * Private to libkos
 *
 * The library has two pieces of state: the descriptor of /dev/kosdma
 * (device.c), which carries none itself, and the list of devices that this
 * process bound to the driver (bind.c).
 */
#ifndef LIBKOS_H
#define LIBKOS_H

/* What the SDK's headers declare is exported, all else is hidden. */
#pragma GCC visibility push(default)
#include <coresrv/handle/handle_api.h>
#include <coresrv/io/dma.h>
#include <coresrv/io/io_api.h>
#include <coresrv/io/mmio.h>
#include <coresrv/iommu/iommu_api.h>
#include <kos/alloc.h>
#include <rtl/retcode.h>
#include <rtl/retcode_hr.h>
#pragma GCC visibility pop

#include <assert.h>
#include <linux/kosdma.h>

static inline int kos_fd(Handle handle)
{
	return (int)handle;
}

static inline Handle kos_handle(int fd)
{
	return (Handle)fd;
}

/* device.c */
int kos_ioctl(unsigned long request, void *arg);
Retcode kos_call(unsigned long request, void *arg);
Retcode kos_device_check(void);

/* retcode.c */
Retcode kos_retcode(int error);

/* bind.c */
Retcode kos_call_bound(unsigned long request, void *arg, rtl_uint32_t address);
Retcode kos_call_bound_range(unsigned long request, void *arg,
			     rtl_uint64_t addr, rtl_uint64_t size);

#endif /* LIBKOS_H */
