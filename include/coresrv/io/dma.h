/* SPDX-License-Identifier: MIT */
/*
 * DMA buffers
 */
#ifndef CORESRV_IO_DMA_H
#define CORESRV_IO_DMA_H

#include <handle/handletype.h>
#include <io/io_dma.h>
#include <rtl/retcode.h>
#include <vmm/flags.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * KnIoDmaCreate() - create a DMA buffer of one or more blocks
 * @order: log2 of the pages in the smallest block allowed
 * @size: size in bytes, a positive multiple of the page size
 * @flags: DMA_DIR_*, DMA_ZONE_DMA32, one DMA_ATTR_*; no direction means both,
 *	no cache type means write-back
 * @outRid: the buffer's handle, with OCAP_DMA_FULL; INVALID_HANDLE on failure
 *
 * KasperskyOS guide: each block has 2^k pages, k at least @order, and all
 * together hold @size. kosdma: blocks are few and as large as they can be,
 * zeroed, and never handed on uncleared; memory is rounded up to whole blocks;
 * it is charged to the caller's user until every handle, mapping and access is
 * gone. With a translating IOMMU a block that memory cannot give in one
 * physical piece is made of smaller ones; devices see it whole.
 *
 * The handle can be transferred.
 *
 * Return: rcOk; rcInvalidArgument (@order beyond any address space, @size,
 * unknown flag, two cache types, NULL @outRid); rcOutOfMemory; rcBufferTooLarge
 * (more than the machine has, a block larger than it can make);
 * rcQuotaExceeded (locked memory, cgroup, objects, descriptors);
 * rcUnimplemented (a cache type that this CPU has not for memory);
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaCreate(rtl_uint32_t order, rtl_size_t size, DmaAttr flags,
		      Handle *outRid);

/**
 * KnIoDmaCreateContinuous() - create a DMA buffer of one block
 * @size: size in bytes, a positive multiple of the page size
 * @flags: as for KnIoDmaCreate()
 * @outRid: the buffer's handle, with OCAP_DMA_FULL; INVALID_HANDLE on failure
 *
 * KasperskyOS guide (name); kosdma: one block of the next power of two pages.
 *
 * The handle can be transferred.
 *
 * Return: rcOk; rcInvalidArgument (@size, unknown flag, two cache types, NULL
 * @outRid); rcOutOfMemory; rcBufferTooLarge (more than the machine has, a block
 * larger than it can make); rcQuotaExceeded (locked memory, cgroup, objects,
 * descriptors); rcUnimplemented (a cache type that this CPU has not for
 * memory); rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaCreateContinuous(rtl_size_t size, DmaAttr flags, Handle *outRid);

/**
 * KnIoDmaMap() - map a part of a DMA buffer into this process
 * @rid: the buffer's handle
 * @offset: start in the buffer in bytes, page aligned
 * @length: bytes, a positive multiple of the page size, at most the buffer's
 *	size - @offset
 * @hint: address of the first usable byte, page aligned; NULL: any
 * @vmflags: VMM_FLAG_READ, VMM_FLAG_WRITE or both, which need OCAP_DMA_READ and
 *	OCAP_DMA_WRITE (VMM_FLAG_WRITE alone needs both where the CPU cannot
 *	express it, as on x86); VMM_FLAG_LOW_GUARD, VMM_FLAG_HIGH_GUARD;
 *	VMM_FLAG_IO
 * @addr: address of the first usable byte; NULL on failure
 * @handle: the mapping's handle; INVALID_HANDLE on failure
 *
 * KasperskyOS guide: a buffer may be mapped many times, by every process that
 * holds a handle to it; closing @handle with KnHandleClose() frees the virtual
 * region. kosdma: guard pages lie outside @length; a @hint that cannot be
 * honoured is refused, and nothing is ever replaced; execution is never
 * permitted; all pages are entered before the call returns; the buffer's
 * memory lives while a mapping does; a touch of a guard page or of a closed
 * mapping is SIGSEGV, of a revoked one SIGBUS. VMM_FLAG_IO makes the mapping
 * work with O_DIRECT, io_uring and send: for write-back buffers of
 * KnIoDmaCreate(), with OCAP_DMA_IO.
 *
 * The handle cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (@offset, @length, @hint, @vmflags, NULL
 * @addr or @handle, @rid is no buffer); rcResourceNotFound (@rid is not open or
 * no kosdma handle); rcHandleRevoked; rcNoCapability (rights);
 * rcAlreadyExists (@hint is taken); rcUnimplemented (VMM_FLAG_IO on a buffer
 * that cannot); rcOutOfMemory; rcQuotaExceeded (objects, descriptors);
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaMap(Handle rid, rtl_size_t offset, rtl_size_t length, void *hint,
		   int vmflags, void **addr, Handle *handle);

/**
 * KnIoDmaModify() - change the cache type of a DMA buffer
 * @rid: the buffer's handle, with OCAP_DMA_MODIFY
 * @newAttr: one DMA_ATTR_*, or 0 for write-back; direction and zone bits, if
 *	any are given, must be the buffer's own
 *
 * KasperskyOS guide (name); kosdma: only while the buffer has no mapping and
 * no Begin object.
 *
 * Return: rcOk; rcInvalidArgument (@newAttr, @rid is no buffer);
 * rcResourceNotFound (@rid is not open or no kosdma handle); rcHandleRevoked;
 * rcNoCapability (rights); rcInvalidOperation (mapped or begun);
 * rcUnimplemented (a cache type that this CPU has not for memory);
 * rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaModify(Handle rid, DmaAttr newAttr);

/**
 * KnIoDmaBegin() - make a DMA buffer reachable by this process's devices
 * @rid: the buffer's handle, with OCAP_DMA_BEGIN
 * @handle: the Begin handle; INVALID_HANDLE on failure
 *
 * KasperskyOS guide: devices of the process's automatic domain, those attached
 * now and later, reach the buffer until @handle is closed; it holds the block
 * addresses, see KnIoDmaGetInfo(). kosdma: devices may do what the buffer's
 * direction and the rights of @rid (OCAP_DMA_READ: read, OCAP_DMA_WRITE: write)
 * both allow; where an IOMMU has no write-only pages (Intel's), OCAP_DMA_READ is
 * needed in any case. Beginning before any device is attached succeeds. Where an IOMMU
 * translates, the devices are cut off when KnHandleClose() returns; without one
 * closing cannot stop a device.
 *
 * The handle cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (NULL @handle, @rid is no buffer);
 * rcResourceNotFound (@rid is not open or no kosdma handle); rcHandleRevoked;
 * rcNoCapability (rights; nothing is left for devices to do);
 * rcSecurityDisallow (no translation and no privilege); rcInvalidOperation (no
 * translation, and the blocks are not physical); rcUnimplemented (no
 * translation, and DMA addresses are not physical ones);
 * rcQuotaExceeded (IOVA window, DMA mask, objects, descriptors);
 * rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaBegin(Handle rid, Handle *handle);

/**
 * KnIoDmaBeginEx() - make a DMA buffer reachable by the devices of a domain
 * @rid: the buffer's handle, with OCAP_DMA_BEGIN
 * @domain: handle from KnIommuCreateDomain(), of this process
 * @handle: the Begin handle; INVALID_HANDLE on failure
 *
 * KasperskyOS guide (name); kosdma: as KnIoDmaBegin() in all else. The handle
 * outlives the domain, but reaches nobody then.
 *
 * The handle cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (NULL @handle, @rid is no buffer, @domain is
 * no domain); rcResourceNotFound (@rid or @domain is not open or no kosdma
 * handle); rcHandleRevoked; rcNoCapability (rights; nothing is left for devices
 * to do; @domain belongs to another process); rcSecurityDisallow (no
 * translation and no privilege); rcInvalidOperation (no translation, and the
 * blocks are not physical); rcUnimplemented (no translation, and DMA addresses
 * are not physical ones); rcQuotaExceeded (IOVA window, DMA mask, objects,
 * descriptors); rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaBeginEx(Handle rid, Handle domain, Handle *handle);

/**
 * struct KosDmaBeginItem - one Begin of KosDmaBeginMany()
 * @rid: the buffer's handle, with OCAP_DMA_BEGIN; the same may come again
 * @handle: the Begin handle; INVALID_HANDLE on failure
 * @addr: address of the first byte as devices see it, if they see the whole
 *	buffer as one range: behind an IOMMU they do once a device is attached,
 *	without one if it is one block; else 0
 */
typedef struct KosDmaBeginItem {
	Handle rid;
	Handle handle;
	DmaAddr addr;
} KosDmaBeginItem;

/**
 * KosDmaBeginMany() - make several DMA buffers reachable at once
 * @domain: handle from KnIommuCreateDomain(), of this process; INVALID_HANDLE:
 *	this process's automatic domain
 * @items: buffers, and what becomes of them
 * @count: how many, 1 to KOS_BATCH_MAX
 * @failed: index of the item at fault, or @count if it is none of them; may be
 *	NULL
 *
 * kosdma. As KnIoDmaBegin() or KnIoDmaBeginEx() for each item, but all or none,
 * and for much less than so many calls. KosHandleCloseMany() closes them.
 * Behind an IOMMU, those buffers of a batch that are one block lie back to
 * back, without a guard page in between.
 *
 * The handles cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (NULL @items, @count, an item is no buffer,
 * @domain is no domain); rcResourceNotFound (an item or @domain is not open or
 * no kosdma handle); rcHandleRevoked; rcNoCapability (rights of an item; nothing
 * is left for devices to do; @domain belongs to another process);
 * rcSecurityDisallow (no translation and no privilege); rcInvalidOperation (no
 * translation, and the blocks are not physical); rcUnimplemented (no
 * translation, and DMA addresses are not physical ones); rcQuotaExceeded (IOVA
 * window, DMA mask, objects, descriptors); rcOutOfMemory; rcNotConnected (no
 * /dev/kosdma).
 */
Retcode KosDmaBeginMany(Handle domain, KosDmaBeginItem *items, rtl_size_t count,
			rtl_size_t *failed);

/**
 * KnIoDmaGetInfo() - the attributes and blocks of a DMA buffer
 * @rid: a Begin handle; or a buffer's handle, when this process has at most one
 *	Begin object on the buffer
 * @outInfo: the description, to be freed with KosMemFree(); NULL on failure
 *
 * KasperskyOS guide: blocks as devices see them, IOVAs or physical addresses.
 * kosdma: the list is empty until the domain's first device is attached, then
 * fixed for the life of the Begin handle; it is empty again when the domain was
 * closed, and for a buffer that is not begun.
 *
 * Return: rcOk; rcInvalidArgument (NULL @outInfo, @rid is neither a Begin nor a
 * buffer handle); rcResourceNotFound (@rid is not open or no kosdma handle);
 * rcHandleRevoked; rcNoCapability (@rid belongs to another process);
 * rcInvalidOperation (a buffer with several Begin objects); rcOutOfMemory;
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaGetInfo(Handle rid, DmaInfo **outInfo);

/**
 * KnIoDmaContinuousGetDmaAddr() - the one address of a contiguous DMA buffer
 * @rid: as for KnIoDmaGetInfo()
 * @addr: address of the first byte as devices see it; 0 on failure
 *
 * KasperskyOS guide (name); kosdma: works whenever devices see the whole buffer
 * as one contiguous range, which behind an IOMMU is always, once a device is
 * attached.
 *
 * Return: rcOk; rcInvalidArgument (NULL @addr, @rid is neither a Begin nor a
 * buffer handle); rcResourceNotFound (@rid is not open or no kosdma handle);
 * rcHandleRevoked; rcNoCapability (@rid belongs to another process);
 * rcInvalidOperation (several blocks; no device was attached yet; not begun, or
 * begun several times); rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoDmaContinuousGetDmaAddr(Handle rid, DmaAddr *addr);

/**
 * KnIoDmaGetPhysInfo() - the physical blocks of a DMA buffer
 * @rid: the buffer's handle
 * @outInfo: the description, to be freed with KosMemFree(); NULL on failure
 *
 * KasperskyOS guide 1.1; kosdma: needs CAP_SYS_RAWIO and a kernel that is not
 * locked down. A driver wants KnIoDmaGetInfo().
 *
 * Return: rcOk; rcInvalidArgument (NULL @outInfo, @rid is no buffer);
 * rcResourceNotFound (@rid is not open or no kosdma handle); rcHandleRevoked;
 * rcSecurityDisallow (no privilege, lockdown); rcOutOfMemory; rcNotConnected
 * (no /dev/kosdma).
 */
Retcode KnIoDmaGetPhysInfo(Handle rid, DmaInfo **outInfo);

#ifdef __cplusplus
}
#endif

#endif /* CORESRV_IO_DMA_H */
