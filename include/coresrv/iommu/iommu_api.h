/* SPDX-License-Identifier: MIT */
/*
 * Devices and the domains in which they may do DMA
 */
#ifndef CORESRV_IOMMU_IOMMU_API_H
#define CORESRV_IOMMU_IOMMU_API_H

#include <handle/handletype.h>
#include <rtl/retcode.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * DOC: Device addresses
 *
 * A bdf is bus << 8 | device << 3 | function, in PCI segment 0. The Kos...Ex
 * calls (kosdma) take the segment as well: segment << 16 | bdf.
 */

/**
 * DOC: Devices without a driver
 *
 * A device that no kernel driver holds is bound to kosdma by the first attach
 * (or registration of its registers), where the caller may write the sysfs
 * files driver_override and drivers_probe; else rcNotReady. The process that
 * bound it gives it back at its regular end, unless another process holds it
 * by then; a process that was killed leaves it bound, which harms nothing.
 */

/**
 * KnIommuAttachDevice() - attach a device to this process's automatic domain
 * @bdf: the device, in segment 0
 *
 * KasperskyOS guide: the device may do DMA, to the buffers that were or will be
 * opened with KnIoDmaBegin() and to no others. The first call makes the
 * automatic domain, which lives as long as the process. Without an IOMMU the
 * call succeeds as well, and the device can reach all memory. kosdma: switches
 * bus mastering on; refuses a device that another process or a kernel driver
 * has.
 *
 * Return: rcOk; rcDeviceNotFound; rcSecurityDisallow (not granted to the
 * caller; no IOMMU and no privilege); rcNotReady (bound to no driver, and the
 * caller may not bind it); rcBusy (held by a kernel driver; attached by anyone;
 * its IOMMU group is held by another process or attached to another domain);
 * rcInvalidOperation (an address already reported would have to change);
 * rcQuotaExceeded (IOVA window; devices that a process can bind); rcTimeout
 * (its last holder's teardown, or another process's binding, did not end);
 * rcUnimplemented (direct mode is forbidden or impossible); rcOutOfMemory;
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnIommuAttachDevice(rtl_uint16_t bdf);

/**
 * KnIommuDetachDevice() - detach a device from the automatic domain
 * @bdf: the device, in segment 0
 *
 * KasperskyOS guide: the device can do no DMA any more. kosdma: switches bus
 * mastering off and waits until the device is quiet.
 *
 * Return: rcOk; rcDeviceNotFound; rcInvalidOperation (not attached to this
 * process's automatic domain); rcNotConnected (no /dev/kosdma).
 */
Retcode KnIommuDetachDevice(rtl_uint16_t bdf);

/**
 * KnIommuCreateDomain() - create a domain
 * @domain: the domain's handle; INVALID_HANDLE on failure
 *
 * KasperskyOS guide (name); kosdma: a domain belongs to the process that made
 * it. Closing it takes DMA from its devices at once and releases them; its
 * Begin objects stay open and reach nobody.
 *
 * The handle cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (NULL @domain); rcQuotaExceeded (objects,
 * descriptors); rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnIommuCreateDomain(Handle *domain);

/**
 * KnIommuAttachDeviceToDomain() - attach a device to a created domain
 * @bdf: the device, in segment 0
 * @domain: handle from KnIommuCreateDomain(), of this process
 *
 * KasperskyOS guide (name); kosdma: as KnIommuAttachDevice(), for the buffers
 * opened with KnIoDmaBeginEx() in @domain.
 *
 * Return: rcOk; rcInvalidArgument (@domain is no domain); rcResourceNotFound
 * (@domain is not open or no kosdma handle); rcNoCapability (@domain belongs to
 * another process); rcDeviceNotFound; rcSecurityDisallow (not granted to the
 * caller; no IOMMU and no privilege); rcNotReady (bound to no driver, and the
 * caller may not bind it); rcBusy (held by a kernel driver; attached by anyone;
 * its IOMMU group is held by another process or attached to another domain);
 * rcInvalidOperation (an address already reported would have to change);
 * rcQuotaExceeded (IOVA window; devices that a process can bind); rcTimeout
 * (its last holder's teardown, or another process's binding, did not end);
 * rcUnimplemented (direct mode is forbidden or impossible); rcOutOfMemory;
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnIommuAttachDeviceToDomain(rtl_uint16_t bdf, Handle domain);

/**
 * KnIommuDetachDeviceFromDomain() - detach a device from a created domain
 * @bdf: the device, in segment 0
 * @domain: handle from KnIommuCreateDomain(), of this process
 *
 * KasperskyOS guide (name); kosdma: as KnIommuDetachDevice().
 *
 * Return: rcOk; rcInvalidArgument (@domain is no domain); rcResourceNotFound
 * (@domain is not open or no kosdma handle); rcNoCapability (@domain belongs to
 * another process); rcDeviceNotFound; rcInvalidOperation (not attached to
 * @domain); rcNotConnected (no /dev/kosdma).
 */
Retcode KnIommuDetachDeviceFromDomain(rtl_uint16_t bdf, Handle domain);

/**
 * KosIommuSetDmaMask() - declare the highest address that a device can emit
 * @bdf: a device that this process has attached, in segment 0
 * @mask: 2^n - 1, at least two pages - 1
 *
 * kosdma: applies to every later Begin in the device's domain.
 *
 * Return: rcOk; rcInvalidArgument (@mask); rcDeviceNotFound;
 * rcInvalidOperation (not attached by this process; something begun already
 * lies above @mask); rcNotConnected (no /dev/kosdma).
 */
Retcode KosIommuSetDmaMask(rtl_uint16_t bdf, rtl_uint64_t mask);

/**
 * KosIommuAttachDeviceEx() - KnIommuAttachDevice() in any PCI segment
 * @address: segment << 16 | bdf
 *
 * kosdma.
 *
 * Return: as KnIommuAttachDevice().
 */
Retcode KosIommuAttachDeviceEx(rtl_uint32_t address);

/**
 * KosIommuDetachDeviceEx() - KnIommuDetachDevice() in any PCI segment
 * @address: segment << 16 | bdf
 *
 * kosdma.
 *
 * Return: as KnIommuDetachDevice().
 */
Retcode KosIommuDetachDeviceEx(rtl_uint32_t address);

/**
 * KosIommuAttachDeviceToDomainEx() - the same in any PCI segment
 * @address: segment << 16 | bdf
 * @domain: handle from KnIommuCreateDomain(), of this process
 *
 * kosdma.
 *
 * Return: as KnIommuAttachDeviceToDomain().
 */
Retcode KosIommuAttachDeviceToDomainEx(rtl_uint32_t address, Handle domain);

/**
 * KosIommuDetachDeviceFromDomainEx() - the same in any PCI segment
 * @address: segment << 16 | bdf
 * @domain: handle from KnIommuCreateDomain(), of this process
 *
 * kosdma.
 *
 * Return: as KnIommuDetachDeviceFromDomain().
 */
Retcode KosIommuDetachDeviceFromDomainEx(rtl_uint32_t address, Handle domain);

/**
 * KosIommuSetDmaMaskEx() - KosIommuSetDmaMask() in any PCI segment
 * @address: segment << 16 | bdf
 * @mask: 2^n - 1, at least two pages - 1
 *
 * kosdma.
 *
 * Return: as KosIommuSetDmaMask().
 */
Retcode KosIommuSetDmaMaskEx(rtl_uint32_t address, rtl_uint64_t mask);

#ifdef __cplusplus
}
#endif

#endif /* CORESRV_IOMMU_IOMMU_API_H */
