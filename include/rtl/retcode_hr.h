/* SPDX-License-Identifier: MIT */
/*
 * Retcode in human-readable form
 */
#ifndef RTL_RETCODE_HR_H
#define RTL_RETCODE_HR_H

#include <rtl/retcode.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * KosRetcodeName() - the name of a code
 * @rc: any value
 *
 * kosdma. Needs no device, never fails.
 *
 * Return: "rcOk" or the name of an error of rtl/retcode.h; "unknown" for any
 * other value. The string is constant and lives as long as the library.
 */
const char *KosRetcodeName(Retcode rc);

#ifdef __cplusplus
}
#endif

/*
 * printf("failed: " RETCODE_HR_FMT "\n", RETCODE_HR_PARAMS(rc)) prints
 * "failed: rcBusy (0x80000011: customer 0, space 0, facility 0, code 17)".
 * The argument of RETCODE_HR_PARAMS is evaluated several times.
 */
#define RETCODE_HR_FMT \
	"%s (0x%08x: customer %u, space %u, facility %u, code %u)"
#define RETCODE_HR_PARAMS(rc) \
	KosRetcodeName(rc), (unsigned int)(rc), \
	(unsigned int)RC_GET_CUSTOMER(rc), (unsigned int)RC_GET_SPACE(rc), \
	(unsigned int)RC_GET_FACILITY(rc), (unsigned int)RC_GET_CODE(rc)

#endif /* RTL_RETCODE_HR_H */
