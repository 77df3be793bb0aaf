/* SPDX-License-Identifier: MIT */
/*
 * Retcode: what every call of the API returns
 */
#ifndef RTL_RETCODE_H
#define RTL_RETCODE_H

#include <kos/types.h>

/**
 * DOC: Layout of a Retcode
 *
 * The KasperskyOS guide names the fields and gives 0 for success; positions,
 * widths and numbers are kosdma's own, so code must use names, never numbers.
 *
 * ======= ========= ==========================================================
 * bits    field     meaning
 * ======= ========= ==========================================================
 * 31      Severity  1: an error, which makes every error negative
 * 30      Customer  1: defined by a solution's developer, 0: by the SDK
 * 29..22  Space     global identifier: who defines the code
 * 21..12  Facility  local identifier: a part of that space
 * 11..0   Code      the error, never 0
 * ======= ========= ==========================================================
 *
 * Success is 0 in all fields. The codes of this header are of customer 0,
 * space RC_SPACE_GENERAL, facility 0: each has one meaning for all calls.
 */

#define RC_SEVERITY_SHIFT 31
#define RC_CUSTOMER_SHIFT 30
#define RC_SPACE_SHIFT 22
#define RC_FACILITY_SHIFT 12
#define RC_CODE_SHIFT 0

#define RC_SPACE_MASK 0xff
#define RC_FACILITY_MASK 0x3ff
#define RC_CODE_MASK 0xfff

#define RC_CUSTOMER_FALSE 0
#define RC_CUSTOMER_TRUE 1

#define RC_SPACE_GENERAL 0
#define RC_SPACE_KERNEL 1
#define RC_SPACE_DRIVERS 2
#define RC_SPACE_APPS 3

/*
 * An error of one's own, a constant expression. The description is for the
 * reader of the source.
 */
#define MAKE_RETCODE(customer, space, facility, code, description) \
	((Retcode)(-0x7fffffff - 1 + \
		   (((customer) & 1) << RC_CUSTOMER_SHIFT | \
		    ((space) & RC_SPACE_MASK) << RC_SPACE_SHIFT | \
		    ((facility) & RC_FACILITY_MASK) << RC_FACILITY_SHIFT | \
		    ((code) & RC_CODE_MASK) << RC_CODE_SHIFT)))

#define RC_GET_SEVERITY(rc) ((rtl_uint32_t)(rc) >> RC_SEVERITY_SHIFT)
#define RC_GET_CUSTOMER(rc) ((rtl_uint32_t)(rc) >> RC_CUSTOMER_SHIFT & 1U)
#define RC_GET_SPACE(rc) \
	((rtl_uint32_t)(rc) >> RC_SPACE_SHIFT & (rtl_uint32_t)RC_SPACE_MASK)
#define RC_GET_FACILITY(rc) \
	((rtl_uint32_t)(rc) >> RC_FACILITY_SHIFT & \
	 (rtl_uint32_t)RC_FACILITY_MASK)
#define RC_GET_CODE(rc) \
	((rtl_uint32_t)(rc) >> RC_CODE_SHIFT & (rtl_uint32_t)RC_CODE_MASK)

/*
 * Every error with its number in the Code field. A number, once given, stays.
 * The comment tells what a call of this library means by it; "-" is a name
 * that the guides have and that this library never returns.
 */
#define KOS_RETCODES(X) \
	X(rcInvalidArgument, 1)     /* an argument is wrong */ \
	X(rcNotConnected, 2)        /* no /dev/kosdma; the peer is gone */ \
	X(rcOutOfMemory, 3)         /* memory is short */ \
	X(rcBufferTooSmall, 4)      /* the result does not fit */ \
	X(rcInternalError, 5)       /* kosdma broke its own contract */ \
	X(rcTransferError, 6)       /* KosHandleSend: the socket failed */ \
	X(rcReceiveError, 7)        /* KosHandleReceive: the socket failed */ \
	X(rcSourceFault, 8)         /* - */ \
	X(rcTargetFault, 9)         /* - */ \
	X(rcIpcInterrupt, 10)       /* - */ \
	X(rcRestart, 11)            /* - */ \
	X(rcFail, 12)               /* an error that has no code */ \
	X(rcNoCapability, 13)       /* the handle lacks the right */ \
	X(rcNotReady, 14)           /* the device is bound to no driver */ \
	X(rcUnimplemented, 15)      /* this kernel or build cannot do it */ \
	X(rcBufferTooLarge, 16)     /* more than this machine can give */ \
	X(rcBusy, 17)               /* in use now */ \
	X(rcResourceNotFound, 18)   /* no kosdma handle */ \
	X(rcTimeout, 19)            /* did not end in time */ \
	X(rcSecurityDisallow, 20)   /* policy refuses */ \
	X(rcFutexWouldBlock, 21)    /* - */ \
	X(rcAbort, 22)              /* - */ \
	X(rcInvalidThreadState, 23) /* - */ \
	X(rcAlreadyExists, 24)      /* claimed already; the hint is taken */ \
	X(rcInvalidOperation, 25)   /* right call, wrong moment */ \
	X(rcHandleRevoked, 26)      /* the handle was revoked */ \
	X(rcQuotaExceeded, 27)      /* a limit was reached */ \
	X(rcDeviceNotFound, 28)     /* no such device */

/* Constants of the type Retcode in C++, of the type int, the same, in C. */
#ifdef __cplusplus
#define KOS_RETCODE_DEFINE(name, code) \
	static constexpr Retcode name = \
		MAKE_RETCODE(RC_CUSTOMER_FALSE, RC_SPACE_GENERAL, 0, code, "");
static constexpr Retcode rcOk = 0;
KOS_RETCODES(KOS_RETCODE_DEFINE)
#else
#define KOS_RETCODE_DEFINE(name, code) \
	name = MAKE_RETCODE(RC_CUSTOMER_FALSE, RC_SPACE_GENERAL, 0, code, ""),
enum {
	rcOk = 0,
	KOS_RETCODES(KOS_RETCODE_DEFINE)
};
#endif
#undef KOS_RETCODE_DEFINE

#endif /* RTL_RETCODE_H */
