// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the netlink family shows: objects, numbers, events, and what keeps a
 * device from being attached; to whom, and at which cost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/kosdma.h>
#include <linux/netlink.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/fdinfo.h"
#include "lib/netlink.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define PCI "/sys/bus/pci"
#define TELL_MS "/sys/module/kosdma/parameters/inject_tell_ms"
#define FAULT "/sys/module/kosdma/parameters/inject_fault"

enum {
	USER = 4321,
	OTHER_USER = 4322,
	NOWHERE = 0xfff8,
	NR_MANY = 100000,
};

/* ---- requests ---- */

struct seen {
	int nr;
	uint32_t last; /* sid */
	bool order; /* each sid is larger than the one before */
	uint32_t sid; /* wanted; 0: any */
	struct netlink_reply reply; /* the last one that was wanted */
};

static void see(const struct netlink_reply *reply, void *arg)
{
	struct seen *seen = arg;
	uint32_t sid = reply->number[KOSDMA_A_BUFFER_SID];

	seen->order = (!seen->nr || seen->order) && sid > seen->last;
	seen->last = sid;
	if (seen->sid && seen->sid != sid)
		return;
	seen->nr++;
	seen->reply = *reply;
}

/* All of a kind that the caller sees, made by @pid if it is not 0. */
static struct netlink_result dump(uint8_t cmd, uint32_t pid, struct seen *seen)
{
	struct netlink_request req;
	struct netlink_result result;
	int sock = netlink_open();

	netlink_request(&req, cmd, true);
	if (pid)
		netlink_u32(&req, KOSDMA_A_BUFFER_PID, pid);
	result = netlink_send(sock, &req, see, seen);
	close(sock);
	return result;
}

static int count(uint8_t cmd, uint32_t pid)
{
	struct seen seen = { 0 };

	EXPECT_EQ(0, dump(cmd, pid, &seen).error);
	return seen.nr;
}

static int count_reached(uint8_t cmd, uint32_t address)
{
	struct netlink_request req;
	struct netlink_result result;
	int sock = netlink_open();

	netlink_request(&req, cmd, true);
	netlink_u32(&req, KOSDMA_A_BUFFER_PID, getpid());
	netlink_u32(&req, KOSDMA_A_BUFFER_DEVICE, address);
	result = netlink_send(sock, &req, NULL, NULL);
	close(sock);
	EXPECT_EQ(0, result.error);
	return result.replies;
}

static void take(const struct netlink_reply *reply, void *arg)
{
	*(struct netlink_reply *)arg = *reply;
}

static struct netlink_reply stats(void)
{
	struct netlink_reply reply = { 0 };
	struct netlink_request req;
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_STATS_GET, false);
	EXPECT_EQ(0, netlink_send(sock, &req, take, &reply).error);
	close(sock);
	return reply;
}

static void become(uid_t uid)
{
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(uid, uid, uid));
	ASSERT_EQ(0, setresuid(uid, uid, uid));
}

/* ---- the device ---- */

FIXTURE(observe)
{
	struct edu edu;
	bool translated;
};

static void set_driver(const struct edu *edu, const char *name)
{
	const char *device = strrchr(edu->path, '/') + 1;
	char driver[64], path[128];

	probe_driver(edu->path, driver);
	if (driver[0]) {
		snprintf(path, sizeof(path), PCI "/drivers/%s/unbind", driver);
		ASSERT_TRUE(probe_write_file(path, device));
	}
	snprintf(path, sizeof(path), "%s/driver_override", edu->path);
	ASSERT_TRUE(probe_write_file(path, *name ? name : "\n"));
	if (*name)
		probe_write_file(PCI "/drivers_probe", device);
	probe_driver(edu->path, driver);
	ASSERT_STREQ(name, driver);
}

FIXTURE_SETUP(observe)
{
	probe_require_module();
	if (geteuid())
		SKIP("needs root");
	edu_require(&self->edu, 0);
	/* Some kernels give a device its IOMMU group when a driver first comes. */
	set_driver(&self->edu, "kosdma");
	self->translated = edu_translated(&self->edu);
	device_warm_up();
	device_make_public();
}

FIXTURE_TEARDOWN(observe)
{
	if (!access(TELL_MS, W_OK))
		EXPECT_TRUE(probe_write_file(TELL_MS, "0"));
	device_restore();
	set_driver(&self->edu, "");
}

/* ---- objects ---- */

TEST_F(observe, objects_are_shown_with_what_they_are)
{
	struct seen seen = { 0 };
	struct begun b;
	uint32_t buffer;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	begun_open(&b, PAGES(4), NONE);

	EXPECT_EQ(0, dump(KOSDMA_CMD_BUFFER_GET, getpid(), &seen).error);
	EXPECT_EQ(1, seen.nr);
	buffer = seen.last;
	EXPECT_EQ(getpid(), seen.reply.number[KOSDMA_A_BUFFER_PID]);
	EXPECT_EQ(0, seen.reply.number[KOSDMA_A_BUFFER_UID]);
	EXPECT_EQ(KOSDMA_NL_OBJECT_LIVE, seen.reply.number[KOSDMA_A_BUFFER_STATE]);
	EXPECT_EQ(PAGES(4), seen.reply.number[KOSDMA_A_BUFFER_LENGTH]);
	EXPECT_EQ(4, seen.reply.number[KOSDMA_A_BUFFER_PAGES]);
	EXPECT_EQ(2, seen.reply.number[KOSDMA_A_BUFFER_USERS]);

	memset(&seen, 0, sizeof(seen));
	EXPECT_EQ(0, dump(KOSDMA_CMD_MAPPING_GET, getpid(), &seen).error);
	EXPECT_EQ(1, seen.nr);
	EXPECT_EQ(buffer, seen.reply.number[KOSDMA_A_MAPPING_SOURCE]);
	EXPECT_EQ(KOSDMA_HANDLE_BUFFER, seen.reply.number[KOSDMA_A_MAPPING_SOURCE_TYPE]);
	EXPECT_EQ((uint32_t)(uintptr_t)b.mem, seen.reply.number[KOSDMA_A_MAPPING_ADDRESS]);
	EXPECT_EQ(PAGES(4), seen.reply.number[KOSDMA_A_MAPPING_LENGTH]);

	memset(&seen, 0, sizeof(seen));
	EXPECT_EQ(0, dump(KOSDMA_CMD_ACCESS_GET, getpid(), &seen).error);
	EXPECT_EQ(1, seen.nr);
	EXPECT_EQ(buffer, seen.reply.number[KOSDMA_A_ACCESS_BUFFER]);
	EXPECT_EQ((uint32_t)b.addr, seen.reply.number[KOSDMA_A_ACCESS_IOVA]);
	EXPECT_EQ(self->translated ? KOSDMA_NL_DOMAIN_TRANSLATED : KOSDMA_NL_DOMAIN_DIRECT,
		  seen.reply.number[KOSDMA_A_ACCESS_MODE]);

	memset(&seen, 0, sizeof(seen));
	EXPECT_EQ(0, dump(KOSDMA_CMD_DOMAIN_GET, getpid(), &seen).error);
	EXPECT_EQ(1, seen.nr);
	EXPECT_TRUE(seen.reply.has[KOSDMA_A_DOMAIN_AUTOMATIC]);
	EXPECT_EQ(1, seen.reply.number[KOSDMA_A_DOMAIN_PLACED]);
	EXPECT_EQ(self->edu.bdf, seen.reply.number[KOSDMA_A_DOMAIN_MEMBER]);

	/* The buffer's, the mapping's, the access'. */
	EXPECT_EQ(3, count(KOSDMA_CMD_HANDLE_GET, getpid()));
	EXPECT_EQ(0, count(KOSDMA_CMD_REGION_GET, getpid()));
	EXPECT_EQ(0, count(KOSDMA_CMD_QUARANTINE_GET, getpid()));

	EXPECT_EQ(1, count_reached(KOSDMA_CMD_BUFFER_GET, self->edu.bdf));
	EXPECT_EQ(1, count_reached(KOSDMA_CMD_MAPPING_GET, self->edu.bdf));
	EXPECT_EQ(1, count_reached(KOSDMA_CMD_ACCESS_GET, self->edu.bdf));
	EXPECT_EQ(1, count_reached(KOSDMA_CMD_DOMAIN_GET, self->edu.bdf));
	EXPECT_EQ(0, count_reached(KOSDMA_CMD_BUFFER_GET, NOWHERE));
	ASSERT_OK(edu_map_registers(&self->edu));
	EXPECT_EQ(1, count_reached(KOSDMA_CMD_REGION_GET, self->edu.bdf));
	EXPECT_EQ(2, count_reached(KOSDMA_CMD_MAPPING_GET, self->edu.bdf));
	edu_unmap_registers(&self->edu);

	begun_close(&b);
	EXPECT_EQ(0, count(KOSDMA_CMD_MAPPING_GET, getpid()));
	EXPECT_EQ(0, count(KOSDMA_CMD_REGION_GET, getpid()));
	EXPECT_EQ(0, count(KOSDMA_CMD_HANDLE_GET, getpid()));
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_EQ(0, count(KOSDMA_CMD_BUFFER_GET, getpid()));
	EXPECT_EQ(0, count(KOSDMA_CMD_ACCESS_GET, getpid()));
}

TEST_F(observe, handles_are_shown_as_a_tree_with_tombstones)
{
	Handle root = buffer_create(0, PAGE, 0);
	Handle child = buffer_copy(root, OCAP_DMA_READ | OCAP_HANDLE_COPY);
	Handle grandchild = buffer_copy(child, OCAP_DMA_READ);
	struct seen seen = { 0 };

	ASSERT_OK(KnHandleClose(child));
	EXPECT_EQ(0, dump(KOSDMA_CMD_HANDLE_GET, getpid(), &seen).error);
	EXPECT_EQ(3, seen.nr);
	EXPECT_EQ(3, seen.reply.number[KOSDMA_A_HANDLE_NUMBER]);
	EXPECT_EQ(2, seen.reply.number[KOSDMA_A_HANDLE_PARENT]);
	EXPECT_EQ(KOSDMA_RIGHT_DMA_READ, seen.reply.number[KOSDMA_A_HANDLE_RIGHTS] &
						 (KOSDMA_RIGHT_DMA_READ | KOSDMA_RIGHT_DMA_WRITE));
	EXPECT_EQ(KOSDMA_NL_OBJECT_LIVE, seen.reply.number[KOSDMA_A_HANDLE_STATE]);
	ASSERT_OK(KnHandleClose(grandchild));
	EXPECT_EQ(1, count(KOSDMA_CMD_HANDLE_GET, getpid()));
	ASSERT_OK(KnHandleClose(root));
	EXPECT_EQ(0, count(KOSDMA_CMD_HANDLE_GET, getpid()));
}

/* It stands for no address, and must not be taken for it. */
TEST_F(observe, the_address_that_no_device_has_names_no_device)
{
	static const uint8_t cmds[] = {
		KOSDMA_CMD_BUFFER_GET, KOSDMA_CMD_MAPPING_GET, KOSDMA_CMD_ACCESS_GET,
		KOSDMA_CMD_DOMAIN_GET, KOSDMA_CMD_REGION_GET, KOSDMA_CMD_HANDLE_GET,
	};
	struct netlink_request req;
	int sock = netlink_open();

	for (size_t i = 0; i < ARRAY_SIZE(cmds); i++) {
		test_context("command %u", cmds[i]);
		netlink_request(&req, cmds[i], true);
		netlink_u32(&req, KOSDMA_A_BUFFER_DEVICE, UINT32_MAX);
		EXPECT_EQ(ENODEV, netlink_send(sock, &req, NULL, NULL).error);
	}
	test_context("release");
	netlink_request(&req, KOSDMA_CMD_QUARANTINE_RELEASE, false);
	netlink_u32(&req, KOSDMA_A_QUARANTINE_DEVICE, UINT32_MAX);
	EXPECT_EQ(ENOENT, netlink_send(sock, &req, NULL, NULL).error);
	close(sock);
}

enum { NR_COPIES = 3000 };

struct churn {
	Handle *copies;
	int nr, gone;
	uint32_t last;
	bool order;
};

/* At the first handle that is seen, every other copy goes, wherever the dump has stopped. */
static void close_odd_copies(const struct netlink_reply *reply, void *arg)
{
	struct churn *churn = arg;
	uint32_t number = reply->number[KOSDMA_A_HANDLE_NUMBER];

	churn->order = churn->order && number > churn->last;
	churn->last = number;
	for (int i = 0; !churn->nr && i < NR_COPIES; i += 2) {
		ASSERT_OK(KnHandleClose(churn->copies[i]));
		churn->gone++;
	}
	churn->nr++;
}

TEST_F(observe, handles_that_go_while_they_are_dumped_harm_nothing)
{
	struct rlimit limit = { 2 * NR_COPIES, 2 * NR_COPIES };
	Handle root = buffer_create(0, PAGE, 0), copies[NR_COPIES];
	struct churn churn = { .copies = copies, .order = true };
	struct netlink_request req;
	struct netlink_result result;
	int sock = netlink_open();

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	for (int i = 0; i < NR_COPIES; i++)
		copies[i] = buffer_copy(root, OCAP_DMA_READ);
	netlink_request(&req, KOSDMA_CMD_HANDLE_GET, true);
	netlink_u32(&req, KOSDMA_A_HANDLE_PID, getpid());
	result = netlink_send(sock, &req, close_odd_copies, &churn);
	EXPECT_EQ(0, result.error);
	EXPECT_TRUE(result.interrupted);
	EXPECT_TRUE(churn.order);
	/* The root, all that stayed, and those of the others that had been put into a message. */
	EXPECT_EQ(NR_COPIES / 2, churn.gone);
	EXPECT_GE(churn.nr, 1 + NR_COPIES - churn.gone);
	EXPECT_LT(churn.nr, 1 + NR_COPIES);
	for (int i = 1; i < NR_COPIES; i += 2)
		ASSERT_OK(KnHandleClose(copies[i]));
	EXPECT_EQ(1, count(KOSDMA_CMD_HANDLE_GET, getpid()));
	ASSERT_OK(KnHandleClose(root));
	close(sock);
}

/* Two dumps stop among the handles of one object; it ends, and they are read on, or never. */
TEST_F(observe, an_object_that_ends_while_its_handles_are_dumped_harms_nothing)
{
	struct rlimit limit = { 2 * NR_COPIES, 2 * NR_COPIES };
	struct netlink_reply before = stats(), now;
	Handle root = buffer_create(0, PAGE, 0), copies[NR_COPIES];
	struct netlink_request req;
	int socks[2] = { netlink_open(), netlink_open() };
	struct seen seen = { 0 };

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	for (int i = 0; i < NR_COPIES; i++)
		copies[i] = buffer_copy(root, OCAP_DMA_READ);
	netlink_request(&req, KOSDMA_CMD_HANDLE_GET, true);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ((ssize_t)req.len, send(socks[i], req.data, req.len, 0));
	for (int i = 0; i < NR_COPIES; i++)
		ASSERT_OK(KnHandleClose(copies[i]));
	ASSERT_OK(KnHandleClose(root));
	EXPECT_EQ(before.number[KOSDMA_A_STATS_PAGES], stats().number[KOSDMA_A_STATS_PAGES]);
	EXPECT_EQ(0, netlink_receive(socks[0], see, &seen).error);
	/* Those that were in its first message. */
	EXPECT_GE(seen.nr, 1);
	EXPECT_LT(seen.nr, NR_COPIES);
	close(socks[0]);
	close(socks[1]);
	/* Closing a socket returns before its dump is given back. */
	for (int i = 0; i < 100; i++) {
		now = stats();
		if (now.number[KOSDMA_A_STATS_BUFFERS] == before.number[KOSDMA_A_STATS_BUFFERS])
			break;
		usleep(10000);
	}
	EXPECT_EQ(before.number[KOSDMA_A_STATS_BUFFERS], now.number[KOSDMA_A_STATS_BUFFERS]);
	EXPECT_EQ(before.number[KOSDMA_A_STATS_HANDLES], now.number[KOSDMA_A_STATS_HANDLES]);
}

/* ---- who sees what ---- */

TEST_F(observe, one_sees_ones_own_objects_and_the_administrator_all)
{
	int sync[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		become(USER);
		buffer_create(0, PAGE, 0);
		domain_create();
		EXPECT_EQ(1, count(KOSDMA_CMD_BUFFER_GET, 0));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		test_child_exit();
	}
	probe_await(sync[0]);
	EXPECT_EQ(1, count(KOSDMA_CMD_BUFFER_GET, pid));
	EXPECT_EQ(1, count(KOSDMA_CMD_DOMAIN_GET, pid));
	EXPECT_EQ(2, count(KOSDMA_CMD_HANDLE_GET, pid));
	IN_CHILD {
		become(USER);
		EXPECT_EQ(1, count(KOSDMA_CMD_BUFFER_GET, pid));
		EXPECT_EQ(2, count(KOSDMA_CMD_HANDLE_GET, 0));
	}
	IN_CHILD {
		become(OTHER_USER);
		EXPECT_EQ(0, count(KOSDMA_CMD_BUFFER_GET, 0));
		EXPECT_EQ(0, count(KOSDMA_CMD_DOMAIN_GET, pid));
		EXPECT_EQ(0, count(KOSDMA_CMD_HANDLE_GET, 0));
	}
	probe_signal(sync[0]);
	test_wait(pid);
}

TEST_F(observe, root_of_a_user_namespace_sees_its_own_and_releases_and_hears_nothing)
{
	Handle buffer = buffer_create(0, PAGE, 0);

	IN_CHILD {
		struct netlink_request req;
		int sock;

		become(USER);
		ASSERT_EQ(0, prctl(PR_SET_DUMPABLE, 1));
		if (unshare(CLONE_NEWUSER))
			SKIP("user namespaces are not for ordinary users here");
		EXPECT_TRUE(probe_write_file("/proc/self/setgroups", "deny"));
		EXPECT_TRUE(probe_write_file("/proc/self/uid_map", "0 4321 1"));
		EXPECT_EQ(0, geteuid());
		EXPECT_EQ(0, count(KOSDMA_CMD_BUFFER_GET, 0));
		buffer_create(0, PAGE, 0);
		EXPECT_EQ(1, count(KOSDMA_CMD_BUFFER_GET, 0));
		netlink_request(&req, KOSDMA_CMD_QUARANTINE_RELEASE, false);
		EXPECT_EQ(EPERM, netlink_call(&req));
		netlink_request(&req, KOSDMA_CMD_EVENT_GET, true);
		EXPECT_EQ(EPERM, netlink_call(&req));
		sock = netlink_open();
		EXPECT_EQ(EPERM, netlink_join(sock, netlink_group(sock, "objects")));
	}
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(observe, events_and_releases_are_for_the_administrator)
{
	static const char *const groups[] = { "objects", "devices", "faults" };
	struct netlink_request req;
	int sock;

	IN_CHILD {
		become(USER);
		sock = netlink_open();
		for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
			EXPECT_EQ(EPERM, netlink_join(sock, netlink_group(sock, groups[i])));
		netlink_request(&req, KOSDMA_CMD_EVENT_GET, true);
		EXPECT_EQ(EPERM, netlink_call(&req));
		netlink_request(&req, KOSDMA_CMD_QUARANTINE_RELEASE, false);
		EXPECT_EQ(EPERM, netlink_call(&req));
		EXPECT_TRUE(stats().has[KOSDMA_A_STATS_PAGES]);
	}
	netlink_request(&req, KOSDMA_CMD_QUARANTINE_RELEASE, false);
	EXPECT_EQ(ENOENT, netlink_call(&req));
}

/* ---- numbers ---- */

TEST_F(observe, numbers_follow_what_is_done)
{
	struct netlink_reply before = stats(), now;
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	begun_open(&b, PAGES(8), NONE);
	now = stats();
#define GREW(name, n)                                                                              \
	EXPECT_EQ(n, now.number[KOSDMA_A_STATS_##name] - before.number[KOSDMA_A_STATS_##name])
	GREW(PAGES, 8);
	GREW(BUFFERS, 1);
	GREW(MAPPINGS, 1);
	GREW(ACCESSES, 1);
	GREW(HANDLES, 3);
	GREW(MAPS, 1);
	GREW(BEGINS, 1);
	GREW(PLACES, 1);
	GREW(UNPLACES, 0);
	GREW(IOVA_BYTES, self->translated ? PAGES(8) : 0);
	begun_close(&b);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	now = stats();
	GREW(PAGES, 0);
	GREW(BUFFERS, 0);
	GREW(HANDLES, 0);
	GREW(MAPS, 1);
	GREW(UNPLACES, 1);
	GREW(IOVA_BYTES, 0);
	GREW(LINGERING, 0);
#undef GREW
}

/* ---- why ---- */

static int attach(uint32_t address)
{
	struct kosdma_device_attach cmd = {
		.size = sizeof(cmd), .address = address, .domain = KOSDMA_NO_HANDLE,
	};
	int ret = probe_ioctl(KOSDMA_DEVICE_ATTACH, &cmd) ? errno : 0;

	if (!ret)
		EXPECT_ERRNO(0, probe_ioctl(KOSDMA_DEVICE_DETACH, &cmd));
	return ret;
}

/* Exactly these things are in the way, and attach fails, or does not if there are none. */
static void expect_why(uint32_t address, uint32_t wanted, int error)
{
	EXPECT_EQ(wanted, netlink_why(address));
	EXPECT_EQ(error, attach(address));
}

#define BIT(name) (1U << KOSDMA_NL_OBSTACLE_##name)

TEST_F(observe, why_and_attach_agree)
{
	uint32_t direct = self->translated ? 0 : BIT(DIRECT_PRIVILEGE);
	int sync[2];
	pid_t pid;

	if (netlink_why(self->edu.bdf) & BIT(INTERRUPTS)) {
		expect_why(self->edu.bdf, BIT(INTERRUPTS), EPERM);
		return;
	}
	test_context("%s", "bound");
	expect_why(self->edu.bdf, 0, 0);
	test_context("%s", "not granted");
	IN_CHILD {
		become(USER);
		expect_why(self->edu.bdf, BIT(GRANT) | direct, EPERM);
	}
	test_context("%s", "held");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		EXPECT_EQ(BIT(HELD), netlink_why(self->edu.bdf));
		EXPECT_EQ(EBUSY, attach(self->edu.bdf));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		test_child_exit();
	}
	probe_await(sync[0]);
	expect_why(self->edu.bdf, BIT(HELD), EBUSY);
	IN_CHILD {
		become(USER);
		EXPECT_EQ(BIT(HELD) | BIT(GRANT) | direct, netlink_why(self->edu.bdf));
	}
	probe_signal(sync[0]);
	test_wait(pid);
	test_context("%s", "unbound");
	set_driver(&self->edu, "");
	expect_why(self->edu.bdf, BIT(UNBOUND), EUNATCH);
	test_context("%s", "of another driver");
	if (!access(PCI "/drivers/pci-stub", F_OK) || !system("modprobe pci-stub 2>/dev/null")) {
		set_driver(&self->edu, "pci-stub");
		expect_why(self->edu.bdf, BIT(DRIVER), EBUSY);
	}
	set_driver(&self->edu, "kosdma");
	test_context("%s", "");
}

/* Bridges are in groups of their own, or with others; what else is in the way differs. */
TEST_F(observe, a_part_of_the_machine_is_told)
{
	if (access(PCI "/devices/0000:00:00.0", F_OK))
		SKIP("needs a host bridge at 00:00.0");
	EXPECT_TRUE(netlink_why(0) & BIT(MACHINE));
	EXPECT_NE(0, attach(0));
}

/* ---- events ---- */

/* The next event, or an errno; EAGAIN: for two seconds there was none. */
static int await_event(int sock, struct netlink_reply *reply)
{
	int ret = EAGAIN;

	for (int tries = 0; tries < 200; tries++) {
		ret = netlink_event(sock, reply);
		if (ret != EAGAIN)
			break;
		usleep(10000);
	}
	return ret;
}

/* The next event of a kind about an object or a device; false: there is none. */
static bool next_event(int sock, uint32_t kind, struct netlink_reply *reply)
{
	while (!await_event(sock, reply)) {
		if (reply->number[KOSDMA_A_EVENT_EVENT] == kind &&
		    reply->number[KOSDMA_A_EVENT_PID] == (uint32_t)getpid())
			return true;
	}
	return false;
}

TEST_F(observe, events_of_objects_are_told)
{
	struct netlink_reply reply;
	uint32_t sid;
	Handle buffer, copy;
	int sock = netlink_open();

	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "objects")));
	buffer = buffer_create(0, PAGE, 0);
	ASSERT_TRUE(next_event(sock, KOSDMA_NL_EVENT_CREATE, &reply));
	EXPECT_EQ(KOSDMA_CMD_OBJECT_NTF, reply.cmd);
	EXPECT_EQ(KOSDMA_HANDLE_BUFFER, reply.number[KOSDMA_A_EVENT_TYPE]);
	EXPECT_TRUE(reply.has[KOSDMA_A_EVENT_TIME]);
	sid = reply.number[KOSDMA_A_EVENT_SID];
	copy = buffer_copy(buffer, OCAP_DMA_READ);
	ASSERT_OK(KnHandleRevokeEx(buffer, false));
	ASSERT_TRUE(next_event(sock, KOSDMA_NL_EVENT_REVOKE, &reply));
	EXPECT_EQ(sid, reply.number[KOSDMA_A_EVENT_SID]);
	KnHandleClose(copy);
	ASSERT_OK(KnHandleClose(buffer));
	ASSERT_TRUE(next_event(sock, KOSDMA_NL_EVENT_END, &reply));
	EXPECT_EQ(sid, reply.number[KOSDMA_A_EVENT_SID]);
	/* A private object ends once, however it does. */
	ASSERT_OK(KnHandleClose(domain_create()));
	EXPECT_TRUE(next_event(sock, KOSDMA_NL_EVENT_END, &reply));
	EXPECT_EQ(KOSDMA_HANDLE_DOMAIN, reply.number[KOSDMA_A_EVENT_TYPE]);
	EXPECT_EQ(EAGAIN, netlink_event(sock, &reply));
	close(sock);
}

struct kept {
	uint32_t address, pid, wanted, found;
	uint32_t last;
	bool order;
};

static void see_kept(const struct netlink_reply *reply, void *arg)
{
	uint32_t number = reply->number[KOSDMA_A_EVENT_NUMBER];
	struct kept *kept = arg;

	kept->order = kept->order && number > kept->last;
	kept->last = number;
	if (reply->number[KOSDMA_A_EVENT_DEVICE] == kept->address &&
	    reply->number[KOSDMA_A_EVENT_PID] == kept->pid)
		kept->found |= 1U << reply->number[KOSDMA_A_EVENT_EVENT];
}

TEST_F(observe, events_of_devices_are_told_and_kept)
{
	struct kept kept = { .address = self->edu.bdf, .pid = getpid(), .order = true };
	struct netlink_reply reply;
	struct netlink_request req;
	int sock = netlink_open();

	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "devices")));
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_TRUE(next_event(sock, KOSDMA_NL_EVENT_ATTACH, &reply));
	EXPECT_EQ(KOSDMA_CMD_DEVICE_NTF, reply.cmd);
	EXPECT_EQ(self->edu.bdf, reply.number[KOSDMA_A_EVENT_DEVICE]);
	EXPECT_EQ(EBUSY, attach(self->edu.bdf));
	ASSERT_TRUE(next_event(sock, KOSDMA_NL_EVENT_REFUSE, &reply));
	EXPECT_EQ(EBUSY, reply.number[KOSDMA_A_EVENT_ERROR]);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_TRUE(next_event(sock, KOSDMA_NL_EVENT_DETACH, &reply));
	close(sock);

	sock = netlink_open();
	netlink_request(&req, KOSDMA_CMD_EVENT_GET, true);
	EXPECT_EQ(0, netlink_send(sock, &req, see_kept, &kept).error);
	EXPECT_TRUE(kept.order);
	EXPECT_EQ(1U << KOSDMA_NL_EVENT_ATTACH | 1U << KOSDMA_NL_EVENT_DETACH |
			  1U << KOSDMA_NL_EVENT_REFUSE,
		  kept.found);
	close(sock);
}

/* Those of objects and those of devices wait in different places. */
static void expect_order_of_time(struct fixture_data_observe *self)
{
	struct netlink_reply reply;
	int sock = netlink_open(), nr = 0, kinds = 0;
	uint64_t last = 0;

	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "objects")));
	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "devices")));
	for (int i = 0; i < 5; i++) {
		ASSERT_OK(KnHandleClose(domain_create()));
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		ASSERT_OK(KnHandleClose(domain_create()));
		ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
	while (!await_event(sock, &reply)) {
		EXPECT_GE(reply.wide[KOSDMA_A_EVENT_TIME], last);
		last = reply.wide[KOSDMA_A_EVENT_TIME];
		kinds |= 1 << reply.number[KOSDMA_A_EVENT_EVENT];
		nr++;
	}
	EXPECT_GE(nr, 5 * 6);
	EXPECT_EQ(1 << KOSDMA_NL_EVENT_CREATE | 1 << KOSDMA_NL_EVENT_END |
			  1 << KOSDMA_NL_EVENT_ATTACH | 1 << KOSDMA_NL_EVENT_DETACH,
		  kinds);
	close(sock);
}

TEST_F(observe, events_come_in_order_of_time)
{
	expect_order_of_time(self);
}

/* Whoever tells them sleeps between its looks at the one place and the other. */
TEST_F(observe, events_come_in_order_of_time_whenever_they_are_told)
{
	if (access(TELL_MS, W_OK))
		SKIP("this is not the test build of the module");
	ASSERT_TRUE(probe_write_file(TELL_MS, "100"));
	expect_order_of_time(self);
}

/* An IOMMU's driver tells of a fault in a domain: by a device, or one without a name (""). */
static bool inject_fault(Handle domain, const char *device)
{
	char text[64];

	snprintf(text, sizeof(text), "%llu %s", fdinfo_number(domain, "sid"), device);
	return probe_write_file(FAULT, text);
}

static void require_faults(void)
{
	if (access(FAULT, W_OK))
		SKIP("this is not the test build of the module");
}

static uint32_t netlink_faults(Handle domain)
{
	struct seen seen = { .sid = fdinfo_number(domain, "sid") };

	EXPECT_EQ(0, dump(KOSDMA_CMD_DOMAIN_GET, getpid(), &seen).error);
	EXPECT_EQ(1, seen.nr);
	return seen.reply.number[KOSDMA_A_DOMAIN_FAULTS];
}

static void expect_faults(Handle domain, uint32_t number)
{
	EXPECT_EQ(number, fdinfo_number(domain, "faults"));
	EXPECT_EQ(number, netlink_faults(domain));
}

/* The next event is a fault in the domain, by the device; 0: by one that is not named. */
static void expect_fault(int sock, Handle domain, uint32_t device)
{
	struct netlink_reply reply;

	ASSERT_EQ(0, await_event(sock, &reply));
	EXPECT_EQ(KOSDMA_CMD_FAULT_NTF, reply.cmd);
	EXPECT_EQ(KOSDMA_NL_EVENT_FAULT, reply.number[KOSDMA_A_EVENT_EVENT]);
	EXPECT_EQ(fdinfo_number(domain, "sid"), reply.number[KOSDMA_A_EVENT_SID]);
	EXPECT_EQ(KOSDMA_HANDLE_DOMAIN, reply.number[KOSDMA_A_EVENT_TYPE]);
	EXPECT_EQ(getpid(), reply.number[KOSDMA_A_EVENT_PID]);
	EXPECT_EQ(geteuid(), reply.number[KOSDMA_A_EVENT_UID]);
	EXPECT_EQ(device != 0, reply.has[KOSDMA_A_EVENT_DEVICE]);
	EXPECT_EQ(device, reply.number[KOSDMA_A_EVENT_DEVICE]);
	EXPECT_TRUE(reply.has[KOSDMA_A_EVENT_TIME]);
	EXPECT_TRUE(reply.has[KOSDMA_A_EVENT_NUMBER]);
}

TEST_F(observe, a_fault_is_counted_for_its_domain_and_told)
{
	uint32_t before = stats().number[KOSDMA_A_STATS_FAULTS];
	Handle one = domain_create(), two = domain_create();
	int sock = netlink_open(), other = netlink_open();
	struct netlink_reply reply;
	char first[16], second[16];
	struct edu edu;

	require_faults();
	edu_require_translation(&self->edu);
	edu_require(&edu, 1);
	snprintf(first, sizeof(first), "%x", self->edu.bdf);
	snprintf(second, sizeof(second), "%x", edu.bdf);
	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "faults")));
	ASSERT_EQ(0, netlink_join(other, netlink_group(other, "devices")));
	/* Where no device is, there is no page table. */
	EXPECT_FALSE(inject_fault(one, ""));
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, one));
	ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, two));
	EXPECT_FALSE(inject_fault(one, second));
	expect_faults(one, 0);

	for (uint32_t n = 1; n <= 3; n++) {
		test_context("fault %u of the first", n);
		ASSERT_TRUE(inject_fault(one, first));
		expect_fault(sock, one, self->edu.bdf);
		expect_faults(one, n);
		expect_faults(two, 0);
	}
	test_context("of the second");
	ASSERT_TRUE(inject_fault(two, second));
	expect_fault(sock, two, edu.bdf);
	test_context("of no device");
	ASSERT_TRUE(inject_fault(two, ""));
	expect_fault(sock, two, 0);
	test_context("%s", "");
	expect_faults(one, 3);
	expect_faults(two, 2);
	EXPECT_EQ(5, stats().number[KOSDMA_A_STATS_FAULTS] - before);
	EXPECT_EQ(EAGAIN, await_event(sock, &reply));
	while (!netlink_event(other, &reply))
		EXPECT_EQ(KOSDMA_CMD_DEVICE_NTF, reply.cmd);

	/* They stay with the domain, whatever becomes of the device and its page table. */
	ASSERT_OK(KnIommuDetachDeviceFromDomain(self->edu.bdf, one));
	EXPECT_FALSE(inject_fault(one, ""));
	expect_faults(one, 3);
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, one));
	ASSERT_TRUE(inject_fault(one, first));
	expect_fault(sock, one, self->edu.bdf);
	expect_faults(one, 4);
	EXPECT_OK(KnHandleClose(one));
	EXPECT_OK(KnHandleClose(two));
	close(sock);
	close(other);
	set_driver(&edu, "");
}

/* The automatic domain has no handle to read fdinfo of. */
static void see_automatic(const struct netlink_reply *reply, void *arg)
{
	if (reply->has[KOSDMA_A_DOMAIN_AUTOMATIC])
		*(struct netlink_reply *)arg = *reply;
}

static struct netlink_reply automatic_domain(void)
{
	struct netlink_reply reply = { 0 };
	struct netlink_request req;
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_DOMAIN_GET, true);
	netlink_u32(&req, KOSDMA_A_DOMAIN_PID, getpid());
	EXPECT_EQ(0, netlink_send(sock, &req, see_automatic, &reply).error);
	EXPECT_NE(0, reply.number[KOSDMA_A_DOMAIN_SID]);
	close(sock);
	return reply;
}

static void see_fault(const struct netlink_reply *reply, void *arg)
{
	*(int *)arg += reply->number[KOSDMA_A_EVENT_EVENT] == KOSDMA_NL_EVENT_FAULT &&
		       reply->number[KOSDMA_A_EVENT_PID] == (uint32_t)getpid();
}

/* At most 100 in five seconds; here more than two such times need more than ten. */
TEST_F(observe, faults_too_many_to_be_told_are_counted)
{
	enum { NR = 500 };
	int sock = netlink_open(), told = 0, kept = 0;
	struct netlink_reply reply;
	struct netlink_request req;
	char text[64];

	require_faults();
	edu_require_translation(&self->edu);
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "faults")));
	snprintf(text, sizeof(text), "%u %x",
		 automatic_domain().number[KOSDMA_A_DOMAIN_SID], self->edu.bdf);
	for (int i = 0; i < NR; i++)
		ASSERT_TRUE(probe_write_file(FAULT, text));
	EXPECT_EQ(NR, automatic_domain().number[KOSDMA_A_DOMAIN_FAULTS]);
	while (!await_event(sock, &reply))
		see_fault(&reply, &told);
	EXPECT_GT(told, 50);
	EXPECT_LT(told, NR);
	close(sock);
	sock = netlink_open();
	netlink_request(&req, KOSDMA_CMD_EVENT_GET, true);
	EXPECT_EQ(0, netlink_send(sock, &req, see_fault, &kept).error);
	EXPECT_EQ(told, kept);
	close(sock);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

/* It loses events and is told so; nobody else notices. */
TEST_F(observe, slow_listener_is_told_that_it_missed_some)
{
	struct netlink_reply reply;
	int sock = netlink_open(), quick = netlink_open(), small = 1, lost = 0;

	ASSERT_EQ(0, netlink_join(sock, netlink_group(sock, "objects")));
	ASSERT_EQ(0, setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)));
	ASSERT_EQ(0, netlink_join(quick, netlink_group(quick, "objects")));
	for (int i = 0; i < 1000; i++) {
		ASSERT_OK(KnHandleClose(domain_create()));
		/* What comes together is told together. */
		if (i % 100 == 99) {
			for (int n = 0; n < 200; n++)
				EXPECT_EQ(0, await_event(quick, &reply));
		}
	}
	for (;;) {
		int ret = netlink_event(sock, &reply);

		if (ret == EAGAIN)
			break;
		if (ret) {
			EXPECT_EQ(ENOBUFS, ret);
			lost++;
		}
	}
	EXPECT_GE(lost, 1);
	ASSERT_OK(KnHandleClose(domain_create()));
	EXPECT_EQ(0, await_event(sock, &reply));
	close(sock);
	close(quick);
}

/* ---- malformed requests ---- */

TEST_F(observe, malformed_requests_are_refused_with_words)
{
	static const struct {
		const char *what;
		uint8_t cmd;
		bool dump;
		int error;
		uint16_t type, len;
	} requests[] = {
		{ "one buffer", KOSDMA_CMD_BUFFER_GET, false, EOPNOTSUPP, 0, 0 },
		{ "a filter by sid", KOSDMA_CMD_BUFFER_GET, true, EINVAL, KOSDMA_A_BUFFER_SID, 4 },
		{ "a short pid", KOSDMA_CMD_BUFFER_GET, true, EINVAL, KOSDMA_A_BUFFER_PID, 2 },
		{ "no mapping's attribute", KOSDMA_CMD_MAPPING_GET, true, EINVAL,
		  KOSDMA_A_MAPPING_MAX + 1, 4 },
		{ "accesses by state", KOSDMA_CMD_ACCESS_GET, true, EINVAL, KOSDMA_A_ACCESS_STATE,
		  4 },
		{ "domains by an empty device", KOSDMA_CMD_DOMAIN_GET, true, EINVAL,
		  KOSDMA_A_DOMAIN_DEVICE, 0 },
		{ "regions by address", KOSDMA_CMD_REGION_GET, true, EINVAL,
		  KOSDMA_A_REGION_ADDRESS, 8 },
		{ "handles by a nested pid", KOSDMA_CMD_HANDLE_GET, true, EINVAL,
		  KOSDMA_A_HANDLE_PID | NLA_F_NESTED, 4 },
		{ "quarantine by pages", KOSDMA_CMD_QUARANTINE_GET, true, EINVAL,
		  KOSDMA_A_QUARANTINE_PAGES, 8 },
		{ "a release by pid", KOSDMA_CMD_QUARANTINE_RELEASE, false, EINVAL,
		  KOSDMA_A_QUARANTINE_PID, 4 },
		{ "a release of what is not there", KOSDMA_CMD_QUARANTINE_RELEASE, false, ENOENT,
		  KOSDMA_A_QUARANTINE_DEVICE, 4 },
		{ "a dump of releases", KOSDMA_CMD_QUARANTINE_RELEASE, true, EOPNOTSUPP, 0, 0 },
		{ "a dump of numbers", KOSDMA_CMD_STATS_GET, true, EOPNOTSUPP, 0, 0 },
		{ "why nothing", KOSDMA_CMD_WHY_GET, false, EINVAL, 0, 0 },
		{ "why by reason", KOSDMA_CMD_WHY_GET, false, EINVAL, KOSDMA_A_WHY_REASON, 4 },
		{ "why a short address", KOSDMA_CMD_WHY_GET, false, EINVAL, KOSDMA_A_WHY_ADDRESS,
		  2 },
		{ "why what is not there", KOSDMA_CMD_WHY_GET, false, ENODEV, KOSDMA_A_WHY_ADDRESS,
		  4 },
		{ "events by kind", KOSDMA_CMD_EVENT_GET, true, EINVAL, KOSDMA_A_EVENT_EVENT, 4 },
		{ "one event", KOSDMA_CMD_EVENT_GET, false, EOPNOTSUPP, 0, 0 },
		{ "numbers by name", KOSDMA_CMD_STATS_GET, false, EINVAL, KOSDMA_A_STATS_PAGES, 8 },
		{ "numbers with what nobody knows", KOSDMA_CMD_STATS_GET, false, EINVAL, 99, 4 },
		{ "a notification", KOSDMA_CMD_OBJECT_NTF, false, EOPNOTSUPP, 0, 0 },
	};
	int sock = netlink_open();

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		uint64_t value = NOWHERE;
		struct netlink_request req;
		struct netlink_result result;

		test_context("%s", requests[i].what);
		netlink_request(&req, requests[i].cmd, requests[i].dump);
		if (requests[i].type)
			netlink_attr(&req, requests[i].type, &value, requests[i].len);
		result = netlink_send(sock, &req, NULL, NULL);
		EXPECT_EQ(requests[i].error, result.error);
		EXPECT_EQ(0, result.replies);
		if (result.error != EOPNOTSUPP)
			EXPECT_NE('\0', result.words[0]);
	}
	test_context("%s", "");
	close(sock);
}

/* ---- many ---- */

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void change_once(const struct netlink_reply *reply, void *arg)
{
	struct seen *seen = arg;

	if (!seen->nr)
		domain_create();
	see(reply, arg);
}

TEST_F_TIMEOUT(observe, dump_of_100000_objects_is_complete_ordered_and_quick, 400)
{
	struct rlimit limit = { NR_MANY + 100, NR_MANY + 100 };
	struct seen seen = { 0 };
	struct netlink_result result;
	struct netlink_request req;
	double begin;
	int sock;

	if (machine_max_objects() < 2 * NR_MANY + 100 || setrlimit(RLIMIT_NOFILE, &limit))
		SKIP("needs %d objects", NR_MANY);
	IN_CHILD {
		for (int i = 0; i < NR_MANY; i++)
			domain_create();
		begin = seconds();
		result = dump(KOSDMA_CMD_DOMAIN_GET, getpid(), &seen);
		printf("# %d objects in %.2f s\n", NR_MANY, seconds() - begin);
		EXPECT_EQ(0, result.error);
		EXPECT_FALSE(result.interrupted);
		EXPECT_EQ(NR_MANY, seen.nr);
		EXPECT_TRUE(seen.order);
		EXPECT_LT(seconds() - begin, 60);

		begin = seconds();
		EXPECT_EQ(NR_MANY, count(KOSDMA_CMD_HANDLE_GET, getpid()));
		printf("# %d handles in %.2f s\n", NR_MANY, seconds() - begin);
		begin = seconds();
		EXPECT_EQ(0, count(KOSDMA_CMD_BUFFER_GET, getpid()));
		printf("# none of them in %.2f s\n", seconds() - begin);

		/* One more comes meanwhile: that is told, and nothing is twice. */
		memset(&seen, 0, sizeof(seen));
		sock = netlink_open();
		netlink_request(&req, KOSDMA_CMD_DOMAIN_GET, true);
		result = netlink_send(sock, &req, change_once, &seen);
		EXPECT_EQ(0, result.error);
		EXPECT_TRUE(result.interrupted);
		EXPECT_TRUE(seen.order);
		EXPECT_GE(seen.nr, NR_MANY);
		close(sock);
	}
}

TEST_HARNESS_MAIN
