// SPDX-License-Identifier: MIT
/*
 * Codes: names, and what an errno of the kernel means
 */
#include "libkos.h"

#include <errno.h>

/* One line for each errno of the ABI, see linux/kosdma.h. */
static const struct {
	int error;
	Retcode rc;
} codes[] = {
	{ EINVAL, rcInvalidArgument },
	{ EFAULT, rcInvalidArgument },
	{ EBADF, rcResourceNotFound },
	{ EKEYREVOKED, rcHandleRevoked },
	{ EACCES, rcNoCapability },
	{ EPERM, rcSecurityDisallow },
	{ EEXIST, rcAlreadyExists },
	{ EBUSY, rcBusy },
	{ EBADFD, rcInvalidOperation },
	{ ENODEV, rcDeviceNotFound },
	{ EUNATCH, rcNotReady },
	{ ENOMEM, rcOutOfMemory },
	{ EDQUOT, rcQuotaExceeded },
	{ EMFILE, rcQuotaExceeded },
	{ ENFILE, rcQuotaExceeded },
	{ ENOSPC, rcBufferTooSmall },
	{ EFBIG, rcBufferTooLarge },
	{ EOPNOTSUPP, rcUnimplemented },
	{ ENOTTY, rcUnimplemented },
	{ E2BIG, rcUnimplemented },
	{ ETIMEDOUT, rcTimeout },
	{ ENOTCONN, rcNotConnected },
};

#define NAME(name, code) [code] = #name,
static const char *const names[] = { KOS_RETCODES(NAME) };

/**
 * kos_retcode() - the code for an errno of the kernel
 * @error: 0 or a positive errno
 *
 * Return: rcOk for 0; rcFail for what the ABI does not have.
 */
Retcode kos_retcode(int error)
{
	size_t i;

	if (!error)
		return rcOk;
	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].error == error)
			return codes[i].rc;
	return rcFail;
}

const char *KosRetcodeName(Retcode rc)
{
	rtl_uint32_t code = RC_GET_CODE(rc);

	if (rc == rcOk)
		return "rcOk";
	if (code >= sizeof(names) / sizeof(names[0]) || !names[code] ||
	    rc != MAKE_RETCODE(RC_CUSTOMER_FALSE, RC_SPACE_GENERAL, 0,
			       (int)code, ""))
		return "unknown";
	return names[code];
}
