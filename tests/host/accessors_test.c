// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: accessors and buffer accessors move the right bytes, each of the
 * buffer ones at one address only; sources for 1.1 take three arguments.
 */
#define KOS_API_VERSION 0x0101
#include <coresrv/io/io_api.h>

#include <stdio.h>
#include <string.h>

static int failures;

#define CHECK(what) \
	do { \
		if (!(what)) { \
			printf("# line %d: %s does not hold\n", __LINE__, #what); \
			failures++; \
		} \
	} while (0)

#define ROUND_TRIP(bits, value) \
	do { \
		memset(mem, 0xee, sizeof(mem)); \
		IoWriteMmReg##bits(mem + 8, (rtl_uint##bits##_t)(value)); \
		CHECK(IoReadMmReg##bits(mem + 8) == (rtl_uint##bits##_t)(value)); \
		CHECK(mem[7] == 0xee && mem[8 + bits / 8] == 0xee); \
	} while (0)

#define BUFFER(bits) \
	do { \
		const rtl_uint##bits##_t src[] = { 1, 2, 3 }; \
		rtl_uint##bits##_t dst[] = { 9, 9, 9, 9 }; \
\
		memset(mem, 0xee, sizeof(mem)); \
		IoWriteMmBuffer##bits(mem + 8, src, 0); \
		CHECK(mem[8] == 0xee); \
		IoWriteMmBuffer##bits(mem + 8, src, 3); \
		CHECK(mem[8] == 3 && mem[8 + bits / 8] == 0xee); \
		IoReadMmBuffer##bits(mem + 8, dst, 0); \
		CHECK(dst[0] == 9); \
		IoReadMmBuffer##bits(mem + 8, dst, 3); \
		CHECK(dst[0] == 3 && dst[1] == 3 && dst[2] == 3 && dst[3] == 9); \
	} while (0)

int main(void)
{
	static unsigned char mem[32] __attribute__((aligned(16)));
	Retcode (*three)(rtl_uint64_t, rtl_size_t, Handle *) = KnRegisterPhyMem;

	ROUND_TRIP(8, 0x12);
	ROUND_TRIP(16, 0x1234);
	ROUND_TRIP(32, 0x12345678);
	ROUND_TRIP(64, 0x123456789abcdef0);
	BUFFER(8);
	BUFFER(16);
	BUFFER(32);
	CHECK(three(0, PAGE_SIZE, NULL) == rcInvalidArgument);
	CHECK(KnRegisterPhyMem(0, PAGE_SIZE, NULL) == rcInvalidArgument);
	return failures != 0;
}
