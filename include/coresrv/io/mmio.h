/* SPDX-License-Identifier: MIT */
/*
 * Registers of devices in memory
 */
#ifndef CORESRV_IO_MMIO_H
#define CORESRV_IO_MMIO_H

#include <handle/handletype.h>
#include <io/io_mmio.h>
#include <rtl/retcode.h>
#include <vmm/flags.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * KnRegisterPhyMem() - register a range of device registers
 * @addr: physical address, page aligned
 * @size: bytes, a positive multiple of the page size
 * @flags: 0, MMIO_K_SHARED, MMIO_U_SHARED or both
 * @outRid: the region's handle, with OCAP_MMIO_FULL; INVALID_HANDLE on failure
 *
 * KasperskyOS guide: without flags the first claimant, kernel or user, keeps
 * the range alone; MMIO_U_SHARED is needed on every registration of a shared
 * range. kosdma: overlap counts as the same range; it must lie in a memory BAR
 * of a device that the caller holds or may hold, or else the caller needs
 * CAP_SYS_RAWIO and a kernel that is not locked down; MMIO_K_SHARED needs
 * CAP_SYS_RAWIO, and so does every registration without an IOMMU. The claim
 * lives until the last handle and the last mapping are gone. A device without
 * a driver is bound to kosdma, as KnIommuAttachDevice() does.
 *
 * The handle can be transferred.
 *
 * With KOS_API_VERSION defined as 0x0101 before the first SDK header, this
 * name takes three arguments, as in KasperskyOS 1.1: @addr, @size, @outRid, and
 * @flags is 0.
 *
 * Return: rcOk; rcInvalidArgument (@addr, @size, unknown flag, NULL @outRid);
 * rcSecurityDisallow (the range is not the caller's to have);
 * rcAlreadyExists (claimed by user code or a kernel driver); rcBusy (the device
 * is held by another process); rcNotReady (the device is bound to no driver and
 * the caller may not bind it); rcTimeout (its last holder's teardown or another
 * process's binding, did not end); rcDeviceNotFound (the device is being
 * removed); rcUnimplemented (as for KnIommuAttachDevice());
 * rcQuotaExceeded (objects, descriptors; devices that a process can bind);
 * rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnRegisterPhyMem(rtl_uint64_t addr, rtl_size_t size, rtl_uint32_t flags,
			 Handle *outRid);

/**
 * KnIoMapMem() - map a region of device registers into this process
 * @rid: the region's handle
 * @prot: VMM_FLAG_READ, VMM_FLAG_WRITE or both, which need OCAP_MMIO_READ and
 *	OCAP_MMIO_WRITE
 * @attr: VMM_FLAG_CACHE_DISABLE (recommended), VMM_FLAG_WRITE_BACK,
 *	VMM_FLAG_WRITE_THROUGH or VMM_FLAG_WRITE_COMBINE; 0:
 *	VMM_FLAG_CACHE_DISABLE
 * @addr: address of the first byte; NULL on failure
 * @handle: the mapping's handle; INVALID_HANDLE on failure
 *
 * KasperskyOS guide: a region is mapped into one virtual region of one process
 * at a time. kosdma: the second map is refused; a touch after the device is
 * gone, or after the region's handle was revoked, is SIGBUS.
 *
 * The handle cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (@prot, @attr, NULL @addr or @handle, @rid is
 * no region); rcResourceNotFound (@rid is not open or no kosdma handle);
 * rcHandleRevoked; rcNoCapability (rights); rcBusy (mapped already);
 * rcUnimplemented (a cache type that this range cannot have);
 * rcDeviceNotFound (the device is gone); rcQuotaExceeded (objects,
 * descriptors); rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoMapMem(Handle rid, rtl_uint32_t prot, rtl_uint32_t attr,
		   void **addr, Handle *handle);

/**
 * KnIoMemHandlesClear() - name no handles
 * @handles: both fields become INVALID_HANDLE; NULL does nothing
 *
 * KasperskyOS guide. Closes nothing, needs no device.
 */
void KnIoMemHandlesClear(IoMemHandles *handles);

/**
 * KnIoMemHandlesClose() - close a mapping and its region
 * @handles: handles to close, INVALID_HANDLE where there is none; afterwards
 *	both are INVALID_HANDLE
 *
 * KasperskyOS guide: the mapping first, then the region. kosdma: the region is
 * closed also when closing the mapping failed, and the first failure is
 * returned.
 *
 * Return: rcOk, also for none; rcInvalidArgument (NULL @handles);
 * rcResourceNotFound (a field is not open or no kosdma handle);
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnIoMemHandlesClose(IoMemHandles *handles);

#if defined(KOS_API_VERSION) && KOS_API_VERSION == 0x0101
/**
 * KosRegisterPhyMem1_1() - KnRegisterPhyMem() of KasperskyOS 1.1
 * @addr: as there
 * @size: as there
 * @outRid: as there
 *
 * KasperskyOS guide 1.1 (arguments); kosdma (this name, which sources do not
 * use).
 *
 * Return: as KnRegisterPhyMem() with @flags 0.
 */
static inline Retcode KosRegisterPhyMem1_1(rtl_uint64_t addr, rtl_size_t size,
					   Handle *outRid)
{
	return KnRegisterPhyMem(addr, size, 0, outRid);
}
#define KnRegisterPhyMem KosRegisterPhyMem1_1
#endif

/**
 * DOC: Register accessors
 *
 * Each is one aligned access of exactly its width, which the compiler neither
 * tears, merges, moves nor repeats. All are ordered against each other and
 * against normal memory as readl() and writel() in the kernel are: a write to a
 * DMA buffer before a register write is seen by the device that the register
 * write starts, and what a register read announces is there to be read. The
 * address must be a multiple of the width. There are no 64-bit accesses for
 * 32-bit programs.
 */

#if defined(__x86_64__) || defined(__i386__)
/* Uncached accesses are in order; the compiler is what needs to be told. */
#define KOS_MMIO_LOAD(insn, constraint, data, reg) \
	__asm__ volatile(insn " %1, %0" \
			 : constraint(data) : "m"(*(reg)) : "memory")
#define KOS_MMIO_STORE(insn, constraint, data, reg) \
	__asm__ volatile(insn " %0, %1" \
			 : : constraint(data), "m"(*(reg)) : "memory")
#define KOS_MMIO_LOAD8(data, reg) KOS_MMIO_LOAD("movb", "=q", data, reg)
#define KOS_MMIO_LOAD16(data, reg) KOS_MMIO_LOAD("movw", "=r", data, reg)
#define KOS_MMIO_LOAD32(data, reg) KOS_MMIO_LOAD("movl", "=r", data, reg)
#define KOS_MMIO_LOAD64(data, reg) KOS_MMIO_LOAD("movq", "=r", data, reg)
#define KOS_MMIO_STORE8(data, reg) KOS_MMIO_STORE("movb", "q", data, reg)
#define KOS_MMIO_STORE16(data, reg) KOS_MMIO_STORE("movw", "r", data, reg)
#define KOS_MMIO_STORE32(data, reg) KOS_MMIO_STORE("movl", "r", data, reg)
#define KOS_MMIO_STORE64(data, reg) KOS_MMIO_STORE("movq", "r", data, reg)
#elif defined(__aarch64__)
/* A load before what follows it, a store behind what precedes it. */
#define KOS_MMIO_LOAD(insn, data, reg) \
	__asm__ volatile(insn ", [%1]\n\tdmb oshld" \
			 : "=r"(data) : "r"(reg) : "memory")
#define KOS_MMIO_STORE(insn, data, reg) \
	__asm__ volatile("dmb oshst\n\t" insn ", [%1]" \
			 : : "rZ"(data), "r"(reg) : "memory")
#define KOS_MMIO_LOAD8(data, reg) KOS_MMIO_LOAD("ldrb %w0", data, reg)
#define KOS_MMIO_LOAD16(data, reg) KOS_MMIO_LOAD("ldrh %w0", data, reg)
#define KOS_MMIO_LOAD32(data, reg) KOS_MMIO_LOAD("ldr %w0", data, reg)
#define KOS_MMIO_LOAD64(data, reg) KOS_MMIO_LOAD("ldr %x0", data, reg)
#define KOS_MMIO_STORE8(data, reg) KOS_MMIO_STORE("strb %w0", data, reg)
#define KOS_MMIO_STORE16(data, reg) KOS_MMIO_STORE("strh %w0", data, reg)
#define KOS_MMIO_STORE32(data, reg) KOS_MMIO_STORE("str %w0", data, reg)
#define KOS_MMIO_STORE64(data, reg) KOS_MMIO_STORE("str %x0", data, reg)
#else
#error "kosdma: no register accessors for this architecture"
#endif

/**
 * IoReadMmReg8() - read a 8-bit register
 * @reg: its address, any
 *
 * KasperskyOS guide; kosdma (order, see Register accessors).
 *
 * Return: the value read.
 */
static inline rtl_uint8_t IoReadMmReg8(volatile void *reg)
{
	rtl_uint8_t data;

	KOS_MMIO_LOAD8(data, (volatile rtl_uint8_t *)reg);
	return data;
}

/**
 * IoWriteMmReg8() - write a 8-bit register
 * @reg: its address, any
 * @data: the value to write
 *
 * KasperskyOS guide; kosdma (order, see Register accessors).
 */
static inline void IoWriteMmReg8(volatile void *reg, rtl_uint8_t data)
{
	KOS_MMIO_STORE8(data, (volatile rtl_uint8_t *)reg);
}

/**
 * IoReadMmReg16() - read a 16-bit register
 * @reg: its address, a multiple of 2
 *
 * KasperskyOS guide; kosdma (order, see Register accessors).
 *
 * Return: the value read.
 */
static inline rtl_uint16_t IoReadMmReg16(volatile void *reg)
{
	rtl_uint16_t data;

	KOS_MMIO_LOAD16(data, (volatile rtl_uint16_t *)reg);
	return data;
}

/**
 * IoWriteMmReg16() - write a 16-bit register
 * @reg: its address, a multiple of 2
 * @data: the value to write
 *
 * KasperskyOS guide; kosdma (order, see Register accessors).
 */
static inline void IoWriteMmReg16(volatile void *reg, rtl_uint16_t data)
{
	KOS_MMIO_STORE16(data, (volatile rtl_uint16_t *)reg);
}

/**
 * IoReadMmReg32() - read a 32-bit register
 * @reg: its address, a multiple of 4
 *
 * KasperskyOS guide; kosdma (order, see Register accessors).
 *
 * Return: the value read.
 */
static inline rtl_uint32_t IoReadMmReg32(volatile void *reg)
{
	rtl_uint32_t data;

	KOS_MMIO_LOAD32(data, (volatile rtl_uint32_t *)reg);
	return data;
}

/**
 * IoWriteMmReg32() - write a 32-bit register
 * @reg: its address, a multiple of 4
 * @data: the value to write
 *
 * KasperskyOS guide; kosdma (order, see Register accessors).
 */
static inline void IoWriteMmReg32(volatile void *reg, rtl_uint32_t data)
{
	KOS_MMIO_STORE32(data, (volatile rtl_uint32_t *)reg);
}

#if UINTPTR_MAX > 0xffffffffU
/**
 * IoReadMmReg64() - read a 64-bit register
 * @reg: its address, a multiple of 8
 *
 * kosdma (order: see Register accessors).
 *
 * Return: the value read.
 */
static inline rtl_uint64_t IoReadMmReg64(volatile void *reg)
{
	rtl_uint64_t data;

	KOS_MMIO_LOAD64(data, (volatile rtl_uint64_t *)reg);
	return data;
}

/**
 * IoWriteMmReg64() - write a 64-bit register
 * @reg: its address, a multiple of 8
 * @data: the value to write
 *
 * kosdma (order: see Register accessors).
 */
static inline void IoWriteMmReg64(volatile void *reg, rtl_uint64_t data)
{
	KOS_MMIO_STORE64(data, (volatile rtl_uint64_t *)reg);
}
#endif

/**
 * IoReadMmBuffer8() - read a 8-bit register several times
 * @baseReg: its address, any
 * @dst: where the values go, in order
 * @cnt: how many; 0 reads nothing
 *
 * KasperskyOS guide 1.1; kosdma: the address stays the same.
 */
static inline void IoReadMmBuffer8(volatile void *baseReg, rtl_uint8_t *dst,
				    rtl_size_t cnt)
{
	while (cnt--)
		*dst++ = IoReadMmReg8(baseReg);
}

/**
 * IoWriteMmBuffer8() - write a 8-bit register several times
 * @baseReg: its address, any
 * @src: the values, in order
 * @cnt: how many; 0 writes nothing
 *
 * KasperskyOS guide 1.1; kosdma: the address stays the same.
 */
static inline void IoWriteMmBuffer8(volatile void *baseReg,
				     const rtl_uint8_t *src, rtl_size_t cnt)
{
	while (cnt--)
		IoWriteMmReg8(baseReg, *src++);
}

/**
 * IoReadMmBuffer16() - read a 16-bit register several times
 * @baseReg: its address, a multiple of 2
 * @dst: where the values go, in order
 * @cnt: how many; 0 reads nothing
 *
 * KasperskyOS guide 1.1; kosdma: the address stays the same.
 */
static inline void IoReadMmBuffer16(volatile void *baseReg, rtl_uint16_t *dst,
				    rtl_size_t cnt)
{
	while (cnt--)
		*dst++ = IoReadMmReg16(baseReg);
}

/**
 * IoWriteMmBuffer16() - write a 16-bit register several times
 * @baseReg: its address, a multiple of 2
 * @src: the values, in order
 * @cnt: how many; 0 writes nothing
 *
 * KasperskyOS guide 1.1; kosdma: the address stays the same.
 */
static inline void IoWriteMmBuffer16(volatile void *baseReg,
				     const rtl_uint16_t *src, rtl_size_t cnt)
{
	while (cnt--)
		IoWriteMmReg16(baseReg, *src++);
}

/**
 * IoReadMmBuffer32() - read a 32-bit register several times
 * @baseReg: its address, a multiple of 4
 * @dst: where the values go, in order
 * @cnt: how many; 0 reads nothing
 *
 * KasperskyOS guide 1.1; kosdma: the address stays the same.
 */
static inline void IoReadMmBuffer32(volatile void *baseReg, rtl_uint32_t *dst,
				    rtl_size_t cnt)
{
	while (cnt--)
		*dst++ = IoReadMmReg32(baseReg);
}

/**
 * IoWriteMmBuffer32() - write a 32-bit register several times
 * @baseReg: its address, a multiple of 4
 * @src: the values, in order
 * @cnt: how many; 0 writes nothing
 *
 * KasperskyOS guide 1.1; kosdma: the address stays the same.
 */
static inline void IoWriteMmBuffer32(volatile void *baseReg,
				     const rtl_uint32_t *src, rtl_size_t cnt)
{
	while (cnt--)
		IoWriteMmReg32(baseReg, *src++);
}

#ifdef __cplusplus
}
#endif

#endif /* CORESRV_IO_MMIO_H */
