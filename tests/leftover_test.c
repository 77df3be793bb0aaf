// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the programs that ran before left behind: nothing. It means most when it
 * is the last one to run, and then, by unloading, the module has its own say.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/netlink.h"
#include "lib/probe.h"

#define MAX_OBJECTS "/sys/module/kosdma/parameters/max_objects"
/* Where guests, which nobody else uses, have the module's file. */
#define MODULE_IN_GUEST "/kos/kosdma.ko"

enum { LIMIT_PAGES = 64, SECONDS = 10 };

FIXTURE(user) {
	char max_objects[32];
};

FIXTURE_VARIANT(user) {
	uid_t uid;
	bool ours; /* on any machine */
};

FIXTURE_VARIANT_ADD(user, root) { .uid = 0 };
FIXTURE_VARIANT_ADD(user, nobody) { .uid = NOBODY, .ours = true };
/* account_test's other one */
FIXTURE_VARIANT_ADD(user, other) { .uid = 65533, .ours = true };

FIXTURE_SETUP(user)
{
	device_warm_up();
	if (geteuid())
		SKIP("needs root");
	if (!variant->ours && access(MODULE_IN_GUEST, F_OK))
		SKIP("others may be using this user's limits here");
	device_make_public();
	snprintf(self->max_objects, sizeof(self->max_objects), "%u",
		 machine_max_objects());
}

FIXTURE_TEARDOWN(user)
{
	EXPECT_TRUE(probe_write_file(MAX_OBJECTS, self->max_objects));
	device_restore();
}

/* That user, with a limit and no right to exceed it. */
static void become_limited(uid_t uid)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[2] = { 0 };

	set_limit(RLIMIT_MEMLOCK, PAGES(LIMIT_PAGES));
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(uid, uid, uid));
	ASSERT_EQ(0, setresuid(uid, uid, uid));
	ASSERT_ERRNO(0, syscall(SYS_capset, &header, none));
}

static Retcode create(size_t pages)
{
	Handle buffer;
	Retcode rc = KnIoDmaCreate(0, PAGES(pages), 0, &buffer);

	if (rc == rcOk)
		EXPECT_OK(KnHandleClose(buffer));
	return rc;
}

static bool can_create(void *pages)
{
	return create(*(size_t *)pages) == rcOk;
}

/* All of the limit can be had: so nothing of it is charged. */
TEST_F(user, is_charged_for_no_page)
{
	IN_CHILD {
		size_t pages = LIMIT_PAGES;

		become_limited(variant->uid);
		EXPECT_TRUE(wait_until(can_create, &pages, SECONDS));
		EXPECT_RC(rcQuotaExceeded, create(LIMIT_PAGES + 1));
	}
}

/* A buffer and its handle, where there may be two. */
TEST_F(user, has_no_object)
{
	size_t page = 1;

	if (!probe_write_file(MAX_OBJECTS, "2"))
		SKIP("needs to write " MAX_OBJECTS);
	IN_CHILD {
		become_limited(variant->uid);
		EXPECT_TRUE(wait_until(can_create, &page, SECONDS));
	}
	ASSERT_TRUE(probe_write_file(MAX_OBJECTS, "1"));
	IN_CHILD {
		become_limited(variant->uid);
		EXPECT_RC(rcQuotaExceeded, create(page));
	}
}

static bool no_bus_master(void *path)
{
	return !probe_bus_master(path);
}

TEST(no_device_is_a_bus_master)
{
	struct edu edu;

	edu_require(&edu, 0);
	for (int i = 0; edu_find(&edu, i); i++) {
		test_context("edu device %d", i);
		EXPECT_TRUE(wait_until(no_bus_master, edu.path, SECONDS));
	}
}

TEST(no_page_is_in_quarantine)
{
	probe_require_module();
	EXPECT_EQ(0, probe_quarantined());
}

static void take(const struct netlink_reply *reply, void *arg)
{
	*(struct netlink_reply *)arg = *reply;
}

/* Of what is charged, mapped by an IOMMU, listed or late. */
static bool nothing_is_counted(void *arg)
{
	static const int gauges[] = {
		KOSDMA_A_STATS_PAGES, KOSDMA_A_STATS_LINGERING, KOSDMA_A_STATS_QUARANTINED,
		KOSDMA_A_STATS_IOVA_BYTES, KOSDMA_A_STATS_BUFFERS, KOSDMA_A_STATS_MAPPINGS,
		KOSDMA_A_STATS_ACCESSES, KOSDMA_A_STATS_DOMAINS, KOSDMA_A_STATS_REGIONS,
		KOSDMA_A_STATS_HANDLES,
	};
	struct netlink_request req;
	struct netlink_reply reply = { 0 };
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_STATS_GET, false);
	ASSERT_EQ(0, netlink_send(sock, &req, take, &reply).error);
	close(sock);
	for (size_t i = 0; i < ARRAY_SIZE(gauges); i++) {
		ASSERT_TRUE(reply.has[gauges[i]]);
		*(int *)arg = gauges[i];
		if (reply.number[gauges[i]])
			return false;
	}
	*(int *)arg = 0;
	return true;
}

TEST(nothing_is_counted_any_more)
{
	int gauge = 0;

	probe_require_module();
	if (geteuid())
		SKIP("needs root: others see their own objects alone");
	if (access(MODULE_IN_GUEST, F_OK))
		SKIP("others may be using the module here");
	wait_until(nothing_is_counted, &gauge, SECONDS);
	EXPECT_EQ(0, gauge);
}

TEST(no_register_is_claimed)
{
	uint64_t start, last;

	probe_require_module();
	EXPECT_FALSE(probe_iomem_find("kosdma", 0, &start, &last));
}

TEST_HARNESS_MAIN
