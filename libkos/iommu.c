// SPDX-License-Identifier: MIT
/*
 * Devices and the domains in which they may do DMA
 */
#include "libkos.h"

static Retcode attach(rtl_uint32_t address, int domain)
{
	struct kosdma_device_attach arg = {
		.size = sizeof(arg),
		.address = address,
		.domain = domain,
	};

	return kos_call_bound(KOSDMA_DEVICE_ATTACH, &arg, address);
}

static Retcode detach(rtl_uint32_t address, int domain)
{
	struct kosdma_device_attach arg = {
		.size = sizeof(arg),
		.address = address,
		.domain = domain,
	};

	return kos_call(KOSDMA_DEVICE_DETACH, &arg);
}

/* To the kernel INVALID_HANDLE would name the automatic domain. */
static Retcode check_domain(Handle domain)
{
	Retcode rc = kos_device_check();

	if (rc == rcOk && domain == INVALID_HANDLE)
		rc = rcResourceNotFound;
	return rc;
}

Retcode KosIommuAttachDeviceEx(rtl_uint32_t address)
{
	return attach(address, KOSDMA_NO_HANDLE);
}

Retcode KosIommuDetachDeviceEx(rtl_uint32_t address)
{
	return detach(address, KOSDMA_NO_HANDLE);
}

Retcode KosIommuAttachDeviceToDomainEx(rtl_uint32_t address, Handle domain)
{
	Retcode rc = check_domain(domain);

	return rc == rcOk ? attach(address, kos_fd(domain)) : rc;
}

Retcode KosIommuDetachDeviceFromDomainEx(rtl_uint32_t address, Handle domain)
{
	Retcode rc = check_domain(domain);

	return rc == rcOk ? detach(address, kos_fd(domain)) : rc;
}

Retcode KosIommuSetDmaMaskEx(rtl_uint32_t address, rtl_uint64_t mask)
{
	struct kosdma_device_set_dma_mask arg = {
		.size = sizeof(arg),
		.address = address,
		.mask = mask,
	};

	return kos_call(KOSDMA_DEVICE_SET_DMA_MASK, &arg);
}

Retcode KnIommuCreateDomain(Handle *domain)
{
	struct kosdma_domain_create arg = { .size = sizeof(arg) };
	Retcode rc;

	if (!domain)
		return rcInvalidArgument;
	*domain = INVALID_HANDLE;
	rc = kos_call(KOSDMA_DOMAIN_CREATE, &arg);
	if (rc == rcOk)
		*domain = kos_handle(arg.out_handle);
	return rc;
}

Retcode KnIommuAttachDevice(rtl_uint16_t bdf)
{
	return KosIommuAttachDeviceEx(bdf);
}

Retcode KnIommuDetachDevice(rtl_uint16_t bdf)
{
	return KosIommuDetachDeviceEx(bdf);
}

Retcode KnIommuAttachDeviceToDomain(rtl_uint16_t bdf, Handle domain)
{
	return KosIommuAttachDeviceToDomainEx(bdf, domain);
}

Retcode KnIommuDetachDeviceFromDomain(rtl_uint16_t bdf, Handle domain)
{
	return KosIommuDetachDeviceFromDomainEx(bdf, domain);
}

Retcode KosIommuSetDmaMask(rtl_uint16_t bdf, rtl_uint64_t mask)
{
	return KosIommuSetDmaMaskEx(bdf, mask);
}
