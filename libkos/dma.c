// SPDX-License-Identifier: MIT
/*
 * DMA buffers
 */
#include "libkos.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

static_assert(DMA_DIR_TO_DEVICE == KOSDMA_ATTR_TO_DEVICE, "attr");
static_assert(DMA_DIR_FROM_DEVICE == KOSDMA_ATTR_FROM_DEVICE, "attr");
static_assert(DMA_ZONE_DMA32 == KOSDMA_ATTR_ZONE_DMA32, "attr");
static_assert(DMA_ATTR_WRITE_BACK == KOSDMA_ATTR_WRITE_BACK, "attr");
static_assert(DMA_ATTR_WRITE_THROUGH == KOSDMA_ATTR_WRITE_THROUGH, "attr");
static_assert(DMA_ATTR_CACHE_DISABLE == KOSDMA_ATTR_CACHE_DISABLE, "attr");
static_assert(DMA_ATTR_WRITE_COMBINE == KOSDMA_ATTR_WRITE_COMBINE, "attr");

static_assert(VMM_FLAG_READ == KOSDMA_MAP_READ, "flag");
static_assert(VMM_FLAG_WRITE == KOSDMA_MAP_WRITE, "flag");
static_assert(VMM_FLAG_LOW_GUARD == KOSDMA_MAP_LOW_GUARD, "flag");
static_assert(VMM_FLAG_HIGH_GUARD == KOSDMA_MAP_HIGH_GUARD, "flag");
static_assert(VMM_FLAG_IO == KOSDMA_MAP_IO, "flag");

static_assert(DMA_FRAME_ORDER_BITS == KOSDMA_BLOCK_ORDER_BITS, "block");
static_assert(DMA_FRAME_ORDER_BITS + DMA_FRAME_BASE_BITS == 64, "block");
static_assert(sizeof(union DmaFrameDescriptor) == sizeof(__u64), "block");
static_assert(DMA_FRAMES_COUNT_MAX == (__u32)-1, "count");

/* As many blocks as a list is asked for at the first try. */
#define FEW_BLOCKS 8

static Retcode create(rtl_uint32_t order, rtl_size_t size, DmaAttr attr,
		      rtl_uint32_t flags, Handle *out)
{
	struct kosdma_buffer_create arg = {
		.size = sizeof(arg),
		.flags = flags,
		.length = size,
		.order = order,
		.attr = attr,
	};
	Retcode rc;

	if (!out)
		return rcInvalidArgument;
	*out = INVALID_HANDLE;
	rc = kos_call(KOSDMA_BUFFER_CREATE, &arg);
	if (rc == rcOk)
		*out = kos_handle(arg.out_handle);
	return rc;
}

Retcode KnIoDmaCreate(rtl_uint32_t order, rtl_size_t size, DmaAttr flags,
		      Handle *outRid)
{
	return create(order, size, flags, 0, outRid);
}

Retcode KnIoDmaCreateContinuous(rtl_size_t size, DmaAttr flags, Handle *outRid)
{
	return create(0, size, flags, KOSDMA_BUFFER_CONTIGUOUS, outRid);
}

Retcode KnIoDmaMap(Handle rid, rtl_size_t offset, rtl_size_t length, void *hint,
		   int vmflags, void **addr, Handle *handle)
{
	struct kosdma_buffer_map arg = {
		.size = sizeof(arg),
		.handle = kos_fd(rid),
		.flags = (__u32)vmflags,
		.offset = offset,
		.length = length,
		.hint = (uintptr_t)hint,
	};
	Retcode rc;

	if (addr)
		*addr = NULL;
	if (handle)
		*handle = INVALID_HANDLE;
	if (!addr || !handle)
		return rcInvalidArgument;
	rc = kos_call(KOSDMA_BUFFER_MAP, &arg);
	if (rc == rcOk) {
		*addr = (void *)(uintptr_t)arg.out_addr;
		*handle = kos_handle(arg.out_handle);
	}
	return rc;
}

Retcode KnIoDmaModify(Handle rid, DmaAttr newAttr)
{
	struct kosdma_buffer_modify arg = {
		.size = sizeof(arg),
		.handle = kos_fd(rid),
		.attr = newAttr,
	};

	return kos_call(KOSDMA_BUFFER_MODIFY, &arg);
}

static Retcode begin(Handle rid, int domain, Handle *handle)
{
	struct kosdma_access_begin arg = {
		.size = sizeof(arg),
		.handle = kos_fd(rid),
		.domain = domain,
	};
	Retcode rc;

	rc = kos_call(KOSDMA_ACCESS_BEGIN, &arg);
	if (rc == rcOk)
		*handle = kos_handle(arg.out_handle);
	return rc;
}

Retcode KnIoDmaBegin(Handle rid, Handle *handle)
{
	if (!handle)
		return rcInvalidArgument;
	*handle = INVALID_HANDLE;
	return begin(rid, KOSDMA_NO_HANDLE, handle);
}

Retcode KnIoDmaBeginEx(Handle rid, Handle domain, Handle *handle)
{
	Retcode rc;

	if (!handle)
		return rcInvalidArgument;
	*handle = INVALID_HANDLE;
	rc = kos_device_check();
	if (rc != rcOk)
		return rc;
	/* To the kernel it would name the automatic domain. */
	if (domain == INVALID_HANDLE)
		return rcResourceNotFound;
	return begin(rid, kos_fd(domain), handle);
}

static int access_info(Handle rid, __u32 flags, __u32 capacity,
		       rtl_uint64_t *blocks, struct kosdma_access_info *arg)
{
	*arg = (struct kosdma_access_info){
		.size = sizeof(*arg),
		.handle = kos_fd(rid),
		.flags = flags,
		.capacity = capacity,
		.blocks = (uintptr_t)blocks,
	};
	return kos_ioctl(KOSDMA_ACCESS_INFO, arg);
}

static DmaInfo *alloc_info(rtl_size_t count)
{
	const rtl_size_t head = offsetof(DmaInfo, descriptors);
	const rtl_size_t each = sizeof(union DmaFrameDescriptor);

	if (count > (SIZE_MAX - head) / each)
		return NULL;
	/* Never less than the type's own size, one entry included. */
	return calloc(1, head + (count ? count : 1) * each);
}

static void fill_info(DmaInfo *info, const struct kosdma_access_info *arg)
{
	info->flags = arg->out_attr;
	info->orderMin = arg->out_order_min;
	info->size = (rtl_size_t)arg->out_length;
	info->count = arg->out_count;
}

static_assert(sizeof(KosDmaBeginItem) == sizeof(struct kosdma_begin_item), "item");
static_assert(offsetof(KosDmaBeginItem, rid) == offsetof(struct kosdma_begin_item, handle), "item");
static_assert(offsetof(KosDmaBeginItem, handle) == offsetof(struct kosdma_begin_item, out_handle), "item");
static_assert(offsetof(KosDmaBeginItem, addr) == offsetof(struct kosdma_begin_item, out_addr), "item");
static_assert(KOS_BATCH_MAX == KOSDMA_BATCH_MAX, "batch");

Retcode KosDmaBeginMany(Handle domain, KosDmaBeginItem *items, rtl_size_t count,
			rtl_size_t *failed)
{
	struct kosdma_access_begin_many arg = {
		.size = sizeof(arg),
		.count = (__u32)count,
		.items = (uintptr_t)items,
		.domain = kos_fd(domain),
		.out_failed = (__u32)count,
	};
	Retcode rc;
	size_t i;

	if (failed)
		*failed = count;
	if (!items || !count || count > KOS_BATCH_MAX)
		return rcInvalidArgument;
	for (i = 0; i < count; i++) {
		items[i].handle = INVALID_HANDLE;
		items[i].addr = 0;
	}
	rc = kos_call(KOSDMA_ACCESS_BEGIN_MANY, &arg);
	if (failed)
		*failed = arg.out_failed;
	return rc;
}

static Retcode get_few(Handle rid, __u32 flags, DmaInfo **out)
{
	rtl_uint64_t blocks[FEW_BLOCKS];
	struct kosdma_access_info arg;
	rtl_size_t i;
	DmaInfo *info;
	int error;

	error = access_info(rid, flags, FEW_BLOCKS, blocks, &arg);
	if (error)
		return kos_retcode(error);
	if (arg.out_count > FEW_BLOCKS)
		return rcInternalError;
	info = alloc_info(arg.out_count);
	if (!info)
		return rcOutOfMemory;
	fill_info(info, &arg);
	for (i = 0; i < info->count; i++)
		info->descriptors[i].raw = blocks[i];
	*out = info;
	return rcOk;
}

/*
 * The list may grow between the question for its length and the one for its
 * entries: the handle may be a buffer's, whose access another thread replaces.
 */
static Retcode get_many(Handle rid, __u32 flags, DmaInfo **out)
{
	struct kosdma_access_info arg;
	DmaInfo *info;
	__u32 capacity;
	int error;

	for (;;) {
		error = access_info(rid, flags, 0, NULL, &arg);
		if (error)
			return kos_retcode(error);
		capacity = arg.out_count ? arg.out_count : 1;
		info = alloc_info(capacity);
		if (!info)
			return rcOutOfMemory;
		error = access_info(rid, flags, capacity,
				    &info->descriptors[0].raw, &arg);
		if (!error && arg.out_count <= capacity)
			break;
		free(info);
		if (!error)
			return rcInternalError;
		if (error != ENOSPC)
			return kos_retcode(error);
	}
	fill_info(info, &arg);
	*out = info;
	return rcOk;
}

static Retcode get_info(Handle rid, __u32 flags, DmaInfo **out)
{
	Retcode rc;

	if (!out)
		return rcInvalidArgument;
	*out = NULL;
	rc = get_few(rid, flags, out);
	if (rc == rcBufferTooSmall)
		rc = get_many(rid, flags, out);
	return rc;
}

Retcode KnIoDmaGetInfo(Handle rid, DmaInfo **outInfo)
{
	return get_info(rid, 0, outInfo);
}

Retcode KnIoDmaGetPhysInfo(Handle rid, DmaInfo **outInfo)
{
	return get_info(rid, KOSDMA_ACCESS_INFO_PHYSICAL, outInfo);
}

Retcode KnIoDmaContinuousGetDmaAddr(Handle rid, DmaAddr *addr)
{
	struct kosdma_access_info arg;
	int error;

	if (!addr)
		return rcInvalidArgument;
	*addr = 0;
	error = access_info(rid, 0, 0, NULL, &arg);
	if (error)
		return kos_retcode(error);
	if (!arg.out_count || !(arg.out_state & KOSDMA_ACCESS_CONTIGUOUS))
		return rcInvalidOperation;
	*addr = arg.out_addr;
	return rcOk;
}
