// SPDX-License-Identifier: MIT
/*
 * Registers of devices in memory
 */
#include "libkos.h"

static_assert(MMIO_K_SHARED == KOSDMA_REGION_K_SHARED, "flag");
static_assert(MMIO_U_SHARED == KOSDMA_REGION_U_SHARED, "flag");

/* The cache type of a mapping is the attribute of a buffer, shifted. */
#define CACHE_SHIFT 8
#define CACHE_MASK \
	(VMM_FLAG_WRITE_BACK | VMM_FLAG_WRITE_THROUGH | \
	 VMM_FLAG_CACHE_DISABLE | VMM_FLAG_WRITE_COMBINE)

static_assert(VMM_FLAG_WRITE_BACK >> CACHE_SHIFT == KOSDMA_ATTR_WRITE_BACK,
	      "cache");
static_assert(VMM_FLAG_WRITE_THROUGH >> CACHE_SHIFT ==
		      KOSDMA_ATTR_WRITE_THROUGH,
	      "cache");
static_assert(VMM_FLAG_CACHE_DISABLE >> CACHE_SHIFT ==
		      KOSDMA_ATTR_CACHE_DISABLE,
	      "cache");
static_assert(VMM_FLAG_WRITE_COMBINE >> CACHE_SHIFT ==
		      KOSDMA_ATTR_WRITE_COMBINE,
	      "cache");

Retcode KnRegisterPhyMem(rtl_uint64_t addr, rtl_size_t size, rtl_uint32_t flags,
			 Handle *outRid)
{
	struct kosdma_region_register arg = {
		.size = sizeof(arg),
		.flags = flags,
		.addr = addr,
		.length = size,
	};
	Retcode rc;

	if (!outRid)
		return rcInvalidArgument;
	*outRid = INVALID_HANDLE;
	rc = kos_call_bound_range(KOSDMA_REGION_REGISTER, &arg, addr, size);
	if (rc == rcOk)
		*outRid = kos_handle(arg.out_handle);
	return rc;
}

Retcode KnIoMapMem(Handle rid, rtl_uint32_t prot, rtl_uint32_t attr,
		   void **addr, Handle *handle)
{
	struct kosdma_region_map arg = {
		.size = sizeof(arg),
		.handle = kos_fd(rid),
		.flags = prot,
		.attr = attr >> CACHE_SHIFT,
	};
	Retcode rc;

	if (addr)
		*addr = NULL;
	if (handle)
		*handle = INVALID_HANDLE;
	if (!addr || !handle || attr & ~(rtl_uint32_t)CACHE_MASK)
		return rcInvalidArgument;
	rc = kos_call(KOSDMA_REGION_MAP, &arg);
	if (rc == rcOk) {
		*addr = (void *)(uintptr_t)arg.out_addr;
		*handle = kos_handle(arg.out_handle);
	}
	return rc;
}

void KnIoMemHandlesClear(IoMemHandles *handles)
{
	if (!handles)
		return;
	handles->region = INVALID_HANDLE;
	handles->mapping = INVALID_HANDLE;
}

Retcode KnIoMemHandlesClose(IoMemHandles *handles)
{
	Retcode rc = rcOk, rc2 = rcOk;

	if (!handles)
		return rcInvalidArgument;
	if (handles->mapping != INVALID_HANDLE)
		rc = KnHandleClose(handles->mapping);
	if (handles->region != INVALID_HANDLE)
		rc2 = KnHandleClose(handles->region);
	KnIoMemHandlesClear(handles);
	return rc != rcOk ? rc : rc2;
}
