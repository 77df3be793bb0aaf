// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: layout, names and printing of codes; the helpers of kos/types.h.
 */
#include <coresrv/io/dma.h>
#include <rtl/retcode_hr.h>

#include <assert.h>
#include <stdio.h>
#include <string.h>

static_assert(rcOk == 0, "success is 0");
static_assert(sizeof(Retcode) == 4, "32 bits");
static_assert(INVALID_HANDLE == 0xffffffff, "no descriptor");
static_assert(sizeof(union DmaFrameDescriptor) == 8, "one word");
static_assert(offsetof(DmaInfo, descriptors) % 8 == 0, "aligned");

#define NEGATIVE(name, code) static_assert(name < 0, #name);
KOS_RETCODES(NEGATIVE)

/* A constant expression, usable by a switch, of a solution's own. */
#define MINE MAKE_RETCODE(RC_CUSTOMER_TRUE, RC_SPACE_DRIVERS, 0x155, 0xabc, "")

static int failures;

#define CHECK(what) \
	do { \
		if (!(what)) { \
			printf("# line %d: %s does not hold\n", __LINE__, #what); \
			failures++; \
		} \
	} while (0)

static const struct {
	Retcode rc;
	const char *name;
} all[] = {
	{ rcOk, "rcOk" },
#define ENTRY(name, code) { name, #name },
	KOS_RETCODES(ENTRY)
};

static void layout(void)
{
	size_t i, j;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		Retcode rc = all[i].rc;

		CHECK(!strcmp(KosRetcodeName(rc), all[i].name));
		CHECK(RC_GET_SEVERITY(rc) == (i ? 1 : 0));
		CHECK(RC_GET_CUSTOMER(rc) == RC_CUSTOMER_FALSE);
		CHECK(RC_GET_SPACE(rc) == RC_SPACE_GENERAL);
		CHECK(RC_GET_FACILITY(rc) == 0);
		CHECK(!RC_GET_CODE(rc) == !i);
		for (j = 0; j < i; j++)
			CHECK(all[j].rc != rc);
	}
	CHECK(sizeof(all) / sizeof(all[0]) == 29);
	switch ((Retcode)MINE) {
	case MINE:
		break;
	default:
		CHECK(!"a case");
	}
	CHECK(MINE < 0);
	CHECK(RC_GET_SEVERITY(MINE) == 1);
	CHECK(RC_GET_CUSTOMER(MINE) == RC_CUSTOMER_TRUE);
	CHECK(RC_GET_SPACE(MINE) == RC_SPACE_DRIVERS);
	CHECK(RC_GET_FACILITY(MINE) == 0x155);
	CHECK(RC_GET_CODE(MINE) == 0xabc);
	CHECK(!strcmp(KosRetcodeName(MINE), "unknown"));
	CHECK(!strcmp(KosRetcodeName(1), "unknown"));
	CHECK(!strcmp(KosRetcodeName(-1), "unknown"));
	CHECK(!strcmp(KosRetcodeName(0x7fffffff), "unknown"));
	CHECK(!strcmp(KosRetcodeName(-0x7fffffff - 1), "unknown"));
}

static void print(void)
{
	char text[128];
	Retcode rc = rcBusy;

	snprintf(text, sizeof(text), "failed: " RETCODE_HR_FMT,
		 RETCODE_HR_PARAMS(rc));
	CHECK(!strcmp(text, "failed: rcBusy (0x80000011: customer 0, space 0, "
			    "facility 0, code 17)"));
}

static void helpers(void)
{
	union DmaFrameDescriptor block;

	CHECK(rtl_roundup_order(0) == 0);
	CHECK(rtl_roundup_order(1) == 0);
	CHECK(rtl_roundup_order(2) == 1);
	CHECK(rtl_roundup_order(3) == 2);
	CHECK(rtl_roundup_order(4) == 2);
	CHECK(rtl_roundup_order(5) == 3);
	CHECK(rtl_roundup_order((size_t)1 << 31) == 31);
	CHECK(rtl_roundup_order((SIZE_MAX >> 1) + 1) == sizeof(size_t) * 8 - 1);
	CHECK(rtl_roundup_order(SIZE_MAX) == sizeof(size_t) * 8);
	CHECK(rtl_align_up(0, PAGE_SIZE) == 0);
	CHECK(rtl_align_up(1, PAGE_SIZE) == PAGE_SIZE);
	CHECK(rtl_align_up(PAGE_SIZE, PAGE_SIZE) == PAGE_SIZE);
	CHECK(rtl_align_up(PAGE_SIZE + 1, PAGE_SIZE) == 2 * PAGE_SIZE);
	CHECK(rtl_align_up(SIZE_MAX, PAGE_SIZE) == 0);

	block.raw = (DmaAddr)0xabcde << 12 | 9;
	CHECK(block.order == 9 && block.frame == 0xabcde);
}

int main(void)
{
	layout();
	print();
	helpers();
	return failures != 0;
}
