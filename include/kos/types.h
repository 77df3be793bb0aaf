/* SPDX-License-Identifier: MIT */
/*
 * The types that every header of the SDK brings. Private: include any of the
 * SDK's own headers instead.
 */
#ifndef KOS_TYPES_H
#define KOS_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef int8_t rtl_int8_t;
typedef int16_t rtl_int16_t;
typedef int32_t rtl_int32_t;
typedef int64_t rtl_int64_t;
typedef uint8_t rtl_uint8_t;
typedef uint16_t rtl_uint16_t;
typedef uint32_t rtl_uint32_t;
typedef uint64_t rtl_uint64_t;
typedef size_t rtl_size_t;
typedef intptr_t rtl_intptr_t;
typedef uintptr_t rtl_uintptr_t;

#define RTL_NULL NULL

#ifdef __cplusplus
typedef bool rtl_bool;
#define rtl_true true
#define rtl_false false
#else
typedef _Bool rtl_bool;
#define rtl_true ((rtl_bool)1)
#define rtl_false ((rtl_bool)0)
#endif

/* A code of success or failure, see rtl/retcode.h. */
typedef rtl_int32_t Retcode;

/* An object's handle: on Linux, a file descriptor of this process. */
typedef rtl_uint32_t Handle;

/* Names no handle, and is never a valid one. */
#define INVALID_HANDLE ((Handle)-1)

/*
 * The same tokens as in the C library's sys/user.h, so that both may be
 * included. Where pages are larger (some arm64 kernels), say so with
 * -DPAGE_SHIFT=14 or 16.
 */
#ifndef PAGE_SHIFT
#define PAGE_SHIFT 12
#endif
#ifndef PAGE_SIZE
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#endif

/**
 * rtl_roundup_order() - log2 of a number, rounded up
 * @n: any number
 *
 * KasperskyOS guide (name); kosdma (0 for @n == 0). The order of a DMA buffer
 * is rtl_roundup_order(size >> PAGE_SHIFT).
 *
 * Return: the smallest k with 2^k >= @n; 0 for 0 and 1.
 */
static inline rtl_uint32_t rtl_roundup_order(rtl_size_t n)
{
	rtl_uint32_t order = 0;

	if (n > 1)
		for (n--; n; n >>= 1)
			order++;
	return order;
}

/**
 * rtl_align_up() - the next multiple of an alignment
 * @value: any number
 * @align: a power of two
 *
 * KasperskyOS guide (name); kosdma (overflow).
 *
 * Return: the smallest multiple of @align that is not below @value; 0 when
 * there is none.
 */
static inline rtl_size_t rtl_align_up(rtl_size_t value, rtl_size_t align)
{
	return (value + (align - 1)) & ~(align - 1);
}

#endif /* KOS_TYPES_H */
