// SPDX-License-Identifier: GPL-2.0-only
/* What KasperskyOS 1.1 had and 1.4 has not, as its sources use it. */
#define KOS_API_VERSION 0x0101
#include <coresrv/handle/handle_api.h>
#include <coresrv/io/io_api.h>

#include "harness.h"
#include "lib/probe.h"

TEST(registration_takes_three_arguments)
{
	struct edu edu;
	Handle region = 77, second = 77, mapping;
	void *addr;

	probe_require_module();
	edu_require(&edu, 0);
	EXPECT_RC(rcInvalidArgument, KnRegisterPhyMem(edu.bar + 1, PAGE,
						      &region));
	EXPECT_EQ(INVALID_HANDLE, region);
	ASSERT_OK(KnRegisterPhyMem(edu.bar, PAGE, &region));
	/* It is exclusive. */
	EXPECT_RC(rcAlreadyExists, KnRegisterPhyMem(edu.bar, PAGE, &second));
	EXPECT_EQ(INVALID_HANDLE, second);
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, VMM_FLAG_CACHE_DISABLE,
			     &addr, &mapping));
	EXPECT_EQ(0xed, IoReadMmReg32(addr) & 0xff);
	EXPECT_OK(KnIoClose(mapping));
	EXPECT_OK(KnIoClose(region));
	EXPECT_RC(rcResourceNotFound, KnIoClose(region));
}

TEST_HARNESS_MAIN
