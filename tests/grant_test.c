// SPDX-License-Identifier: GPL-2.0-only
/*
 * Grants, and the netlink family that gives and shows them: who may have a
 * device, who may say so, and who may see it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/netlink.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define PCI "/sys/bus/pci"
/* By tests/vm/init: what the device node was when the module had just been loaded. */
#define NODE_AT_BOOT "/run/kosdma-node"

enum {
	USER = 4321,
	OTHER_USER = 4322,
	GROUP = 1234,
	OTHER_GROUP = 1235,
	NOWHERE = 0xfff8, /* ff:1f.0 of segment 0 */
	NOBODYS_ID = -1,
};

/* ---- requests ---- */

static int grant_request(uint8_t cmd, uint32_t address, int attr, uint32_t id)
{
	struct netlink_request req;

	netlink_request(&req, cmd, false);
	netlink_u32(&req, KOSDMA_A_GRANT_ADDRESS, address);
	if (attr)
		netlink_u32(&req, attr, id);
	return netlink_call(&req);
}

static int grant_user(uint32_t address, uint32_t uid)
{
	return grant_request(KOSDMA_CMD_GRANT_ADD, address, KOSDMA_A_GRANT_UID, uid);
}

static int grant_group(uint32_t address, uint32_t gid)
{
	return grant_request(KOSDMA_CMD_GRANT_ADD, address, KOSDMA_A_GRANT_GID, gid);
}

static int revoke_user(uint32_t address, uint32_t uid)
{
	return grant_request(KOSDMA_CMD_GRANT_DEL, address, KOSDMA_A_GRANT_UID, uid);
}

static int revoke_all(uint32_t address)
{
	return grant_request(KOSDMA_CMD_GRANT_DEL, address, 0, 0);
}

/* How many grants the caller sees; @result may be NULL. */
static int count_grants(struct netlink_result *result)
{
	struct netlink_request req;
	struct netlink_result own;
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_GRANT_GET, true);
	own = netlink_send(sock, &req, NULL, NULL);
	close(sock);
	EXPECT_EQ(0, own.error);
	if (result)
		*result = own;
	return own.replies;
}

static void take_reply(const struct netlink_reply *reply, void *arg)
{
	*(struct netlink_reply *)arg = *reply;
}

static struct netlink_reply device_get(uint32_t address)
{
	struct netlink_reply reply = { 0 };
	struct netlink_request req;
	struct netlink_result result;
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_DEVICE_GET, false);
	netlink_u32(&req, KOSDMA_A_DEVICE_ADDRESS, address);
	result = netlink_send(sock, &req, take_reply, &reply);
	close(sock);
	EXPECT_EQ(0, result.error);
	return reply;
}

/* ---- the device ---- */

FIXTURE(grant)
{
	struct edu edu;
	bool translated;
};

static const char *device_name(const struct edu *edu)
{
	return strrchr(edu->path, '/') + 1;
}

static void unbind_device(const struct edu *edu)
{
	char driver[64], path[128];

	probe_driver(edu->path, driver);
	if (driver[0]) {
		snprintf(path, sizeof(path), PCI "/drivers/%s/unbind", driver);
		ASSERT_TRUE(probe_write_file(path, device_name(edu)));
	}
}

static void bind_device(const struct edu *edu)
{
	char driver[64], path[128];

	snprintf(path, sizeof(path), "%s/driver_override", edu->path);
	ASSERT_TRUE(probe_write_file(path, "kosdma"));
	probe_write_file(PCI "/drivers_probe", device_name(edu));
	probe_driver(edu->path, driver);
	ASSERT_STREQ("kosdma", driver);
}

static void give_back(const struct edu *edu)
{
	char path[128];

	unbind_device(edu);
	snprintf(path, sizeof(path), "%s/driver_override", edu->path);
	ASSERT_TRUE(probe_write_file(path, "\n"));
}

FIXTURE_SETUP(grant)
{
	probe_require_module();
	if (geteuid())
		SKIP("needs root");
	edu_require(&self->edu, 0);
	self->translated = edu_translated(&self->edu);
	unbind_device(&self->edu);
	bind_device(&self->edu);
	revoke_all(self->edu.bdf);
	device_make_public();
}

FIXTURE_TEARDOWN(grant)
{
	device_restore();
	revoke_all(self->edu.bdf);
	give_back(&self->edu);
}

static void become(uid_t uid, gid_t gid)
{
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(gid, gid, gid));
	ASSERT_EQ(0, setresuid(uid, uid, uid));
}

/* Become the user but keep one capability. */
static void become_with(uid_t uid, int cap)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	ASSERT_EQ(0, prctl(PR_SET_KEEPCAPS, 1));
	become(uid, uid);
	data[0].permitted = 1U << cap;
	data[0].effective = 1U << cap;
	ASSERT_EQ(0, syscall(SYS_capset, &hdr, data));
}

/* Both ways to a device answer the same. */
static void expect_use(const struct edu *edu, Retcode rc)
{
	Handle region = NONE;

	EXPECT_RC(rc, KnIommuAttachDevice(edu->bdf));
	if (rc == rcOk)
		EXPECT_OK(KnIommuDetachDevice(edu->bdf));
	EXPECT_RC(rc, KnRegisterPhyMem(edu->bar, PAGE, 0, &region));
	if (rc == rcOk)
		EXPECT_OK(KnHandleClose(region));
}

/* What a granted user without capabilities gets. */
static Retcode granted_rc(const struct fixture_data_grant *self)
{
	return self->translated ? rcOk : rcSecurityDisallow;
}

/* ---- who may have the device ---- */

/* Without udev, and before a test changes them. */
TEST(node_is_everybodys_to_open_from_the_first)
{
	char text[64] = "";
	FILE *f;

	probe_require_module();
	if (geteuid())
		SKIP("needs root");
	f = fopen(NODE_AT_BOOT, "re");
	if (!f)
		SKIP("needs a guest's record of the node at boot");
	EXPECT_NOT_NULL(fgets(text, sizeof(text), f));
	fclose(f);
	EXPECT_STREQ("666 0:0 character special file\n", text);
	IN_CHILD {
		int fd;

		probe_become_nobody();
		fd = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
		EXPECT_GE(fd, 0);
		EXPECT_OK(KnHandleClose(domain_create()));
	}
}

TEST_F(grant, user_without_a_grant_is_rcSecurityDisallow)
{
	IN_CHILD {
		become(USER, USER);
		expect_use(&self->edu, rcSecurityDisallow);
	}
	EXPECT_FALSE(probe_bus_master(self->edu.path));
}

TEST_F(grant, granted_user_may_attach_and_register)
{
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	IN_CHILD {
		become(USER, GROUP);
		expect_use(&self->edu, granted_rc(self));
	}
	IN_CHILD {
		become(OTHER_USER, USER);
		expect_use(&self->edu, rcSecurityDisallow);
	}
}

TEST_F(grant, granted_group_may_attach_and_register)
{
	ASSERT_EQ(0, grant_group(self->edu.bdf, GROUP));
	IN_CHILD {
		become(USER, GROUP);
		expect_use(&self->edu, granted_rc(self));
	}
	IN_CHILD {
		gid_t groups[] = { OTHER_GROUP, GROUP };

		ASSERT_EQ(0, setgroups(2, groups));
		ASSERT_EQ(0, setresgid(OTHER_GROUP, OTHER_GROUP, OTHER_GROUP));
		ASSERT_EQ(0, setresuid(USER, USER, USER));
		expect_use(&self->edu, granted_rc(self));
	}
	IN_CHILD {
		become(GROUP, OTHER_GROUP);
		expect_use(&self->edu, rcSecurityDisallow);
	}
}

TEST_F(grant, effective_identity_counts)
{
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	ASSERT_EQ(0, grant_group(self->edu.bdf, GROUP));
	IN_CHILD {
		ASSERT_EQ(0, setgroups(0, NULL));
		ASSERT_EQ(0, setresgid(GROUP, OTHER_GROUP, GROUP));
		ASSERT_EQ(0, setresuid(USER, OTHER_USER, USER));
		expect_use(&self->edu, rcSecurityDisallow);
	}
	IN_CHILD {
		ASSERT_EQ(0, setgroups(0, NULL));
		ASSERT_EQ(0, setresgid(OTHER_GROUP, OTHER_GROUP, OTHER_GROUP));
		ASSERT_EQ(0, setresuid(OTHER_USER, USER, OTHER_USER));
		expect_use(&self->edu, granted_rc(self));
	}
}

TEST_F(grant, without_an_iommu_raw_io_is_needed_as_well)
{
	if (self->translated)
		SKIP("needs a machine without an IOMMU");
	IN_CHILD {
		become_with(USER, CAP_SYS_RAWIO);
		expect_use(&self->edu, rcSecurityDisallow);
	}
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	IN_CHILD {
		become(USER, USER);
		expect_use(&self->edu, rcSecurityDisallow);
	}
	IN_CHILD {
		become_with(USER, CAP_SYS_RAWIO);
		expect_use(&self->edu, rcOk);
	}
}

TEST_F(grant, administrator_needs_none)
{
	IN_CHILD
		expect_use(&self->edu, rcOk);
}

/* Two edu devices that an IOMMU cannot tell apart. */
static bool find_pair(struct edu pair[2])
{
	for (int i = 0; edu_find(&pair[0], i); i++) {
		struct netlink_reply one = device_get(pair[0].bdf);

		for (int j = i + 1; edu_find(&pair[1], j); j++) {
			struct netlink_reply two = device_get(pair[1].bdf);

			if (one.has[KOSDMA_A_DEVICE_IOMMU_GROUP] &&
			    two.has[KOSDMA_A_DEVICE_IOMMU_GROUP] &&
			    one.number[KOSDMA_A_DEVICE_IOMMU_GROUP] ==
				    two.number[KOSDMA_A_DEVICE_IOMMU_GROUP])
				return true;
		}
	}
	return false;
}

/* Whoever has one function of a group has power over the others. */
TEST_F(grant, ungranted_member_of_the_group_keeps_the_others_from_its_user)
{
	struct edu pair[2];

	if (!find_pair(pair))
		SKIP("needs two edu devices in one IOMMU group");
	for (int i = 0; i < 2; i++) {
		unbind_device(&pair[i]);
		bind_device(&pair[i]);
		revoke_all(pair[i].bdf);
	}
	ASSERT_EQ(0, grant_user(pair[0].bdf, USER));
	IN_CHILD {
		become(USER, USER);
		expect_use(&pair[0], rcSecurityDisallow);
		expect_use(&pair[1], rcSecurityDisallow);
	}
	EXPECT_EQ(0, grant_user(pair[1].bdf, USER));
	IN_CHILD {
		become(USER, USER);
		expect_use(&pair[0], rcOk);
		expect_use(&pair[1], rcOk);
	}
	/* One that nobody can have through kosdma does not count. */
	EXPECT_EQ(0, revoke_all(pair[1].bdf));
	give_back(&pair[1]);
	IN_CHILD {
		become(USER, USER);
		expect_use(&pair[0], rcOk);
	}
	EXPECT_EQ(0, revoke_all(pair[0].bdf));
	give_back(&pair[0]);
}

/* ---- how long ---- */

TEST_F(grant, survives_unbinding)
{
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	unbind_device(&self->edu);
	EXPECT_EQ(1, count_grants(NULL));
	bind_device(&self->edu);
	IN_CHILD {
		become(USER, USER);
		expect_use(&self->edu, granted_rc(self));
	}
}

static void remove_function(const struct edu *edu)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/remove", edu->path);
	ASSERT_TRUE(probe_write_file(path, "1"));
}

TEST_F(grant, dies_with_the_function)
{
	struct edu again;

	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	ASSERT_EQ(0, grant_group(self->edu.bdf, GROUP));
	remove_function(&self->edu);
	EXPECT_EQ(0, count_grants(NULL));
	EXPECT_EQ(ENODEV, grant_user(self->edu.bdf, USER));
	ASSERT_TRUE(probe_write_file(PCI "/rescan", "1"));
	ASSERT_TRUE(edu_find(&again, 0));
	ASSERT_EQ(self->edu.bdf, again.bdf);
	bind_device(&again);
	EXPECT_EQ(0, count_grants(NULL));
	IN_CHILD {
		become(USER, GROUP);
		expect_use(&again, rcSecurityDisallow);
	}
	EXPECT_EQ(0, grant_user(self->edu.bdf, USER));
	IN_CHILD {
		become(USER, GROUP);
		expect_use(&again, granted_rc(self));
	}
}

TEST_F(grant, revoked_is_refused_from_then_on_and_who_holds_the_device_keeps_it)
{
	int sync[2];
	pid_t pid;

	if (!self->translated)
		SKIP("needs an IOMMU: without one a grant is not enough");
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		become(USER, USER);
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		EXPECT_TRUE(probe_bus_master(self->edu.path));
		EXPECT_OK(KosIommuSetDmaMask(self->edu.bdf, 0xfffffff));
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		expect_use(&self->edu, rcSecurityDisallow);
		test_child_exit();
	}
	probe_await(sync[0]);
	EXPECT_EQ(0, revoke_user(self->edu.bdf, USER));
	probe_signal(sync[0]);
	test_wait(pid);
}

TEST_F(grant, what_does_not_exist_is_refused)
{
	EXPECT_EQ(ENODEV, grant_user(NOWHERE, USER));
	EXPECT_EQ(ENODEV, grant_user(0x10000 | self->edu.bdf, USER));
	EXPECT_EQ(ENOENT, revoke_user(self->edu.bdf, USER));
	EXPECT_EQ(ENOENT, revoke_all(self->edu.bdf));
	EXPECT_EQ(ENOENT, revoke_all(NOWHERE));
	EXPECT_EQ(0, count_grants(NULL));
}

TEST_F(grant, duplicate_is_refused_and_a_user_is_no_group)
{
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	EXPECT_EQ(EEXIST, grant_user(self->edu.bdf, USER));
	EXPECT_EQ(0, grant_group(self->edu.bdf, USER));
	EXPECT_EQ(2, count_grants(NULL));
	EXPECT_EQ(0, revoke_user(self->edu.bdf, USER));
	EXPECT_EQ(ENOENT, revoke_user(self->edu.bdf, USER));
	EXPECT_EQ(1, count_grants(NULL));
	EXPECT_EQ(0, revoke_all(self->edu.bdf));
	EXPECT_EQ(0, count_grants(NULL));
}

/* ---- who may administer ---- */

TEST_F(grant, administration_is_refused_without_privilege)
{
	ASSERT_EQ(0, grant_user(self->edu.bdf, OTHER_USER));
	IN_CHILD {
		become(USER, USER);
		EXPECT_EQ(EPERM, grant_user(self->edu.bdf, USER));
		EXPECT_EQ(EPERM, revoke_user(self->edu.bdf, OTHER_USER));
		EXPECT_EQ(EPERM, revoke_all(self->edu.bdf));
		EXPECT_EQ(EPERM, grant_user(NOWHERE, USER));
	}
	IN_CHILD {
		become_with(USER, CAP_NET_ADMIN);
		EXPECT_EQ(EPERM, grant_user(self->edu.bdf, USER));
	}
	IN_CHILD {
		become_with(USER, CAP_SYS_ADMIN);
		EXPECT_EQ(0, grant_user(self->edu.bdf, USER));
	}
	EXPECT_EQ(2, count_grants(NULL));
}

TEST_F(grant, root_of_a_user_namespace_is_no_administrator)
{
	IN_CHILD {
		become(USER, USER);
		/* The files of a process that was root are root's. */
		ASSERT_EQ(0, prctl(PR_SET_DUMPABLE, 1));
		if (unshare(CLONE_NEWUSER))
			SKIP("user namespaces are not for ordinary users here");
		EXPECT_TRUE(probe_write_file("/proc/self/setgroups", "deny"));
		EXPECT_TRUE(probe_write_file("/proc/self/uid_map", "0 4321 1"));
		EXPECT_EQ(0, geteuid());
		EXPECT_EQ(EPERM, grant_user(self->edu.bdf, USER));
		expect_use(&self->edu, rcSecurityDisallow);
	}
	EXPECT_EQ(0, count_grants(NULL));
}

/* A program can be started with a descriptor that is not its own. */
TEST_F(grant, sender_and_opener_must_both_be_privileged)
{
	struct netlink_request req;
	int sync[2], pair[2], sock;
	struct netlink_result result;
	pid_t pid;

	netlink_request(&req, KOSDMA_CMD_GRANT_ADD, false);
	netlink_u32(&req, KOSDMA_A_GRANT_ADDRESS, self->edu.bdf);
	netlink_u32(&req, KOSDMA_A_GRANT_UID, USER);

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		become(USER, USER);
		sock = netlink_open();
		probe_send_fds(pair[1], &sock, 1);
		probe_await(sync[1]);
		test_child_exit();
	}
	ASSERT_EQ(1, probe_receive_fds(pair[0], &sock, 1));
	result = netlink_send(sock, &req, NULL, NULL);
	EXPECT_EQ(EPERM, result.error);
	EXPECT_NE('\0', result.words[0]);
	probe_signal(sync[0]);
	test_wait(pid);
	close(sock);

	sock = netlink_open();
	IN_CHILD {
		become(USER, USER);
		result = netlink_send(sock, &req, NULL, NULL);
		EXPECT_EQ(EPERM, result.error);
	}
	EXPECT_EQ(0, count_grants(NULL));
	EXPECT_EQ(0, netlink_send(sock, &req, NULL, NULL).error);
	EXPECT_EQ(1, count_grants(NULL));
	close(sock);
}

TEST_F(grant, family_is_in_the_initial_network_namespace_only)
{
	int sock = netlink_open();

	EXPECT_GT(netlink_family(sock), 0);
	close(sock);
	IN_CHILD {
		ASSERT_EQ(0, unshare(CLONE_NEWNET));
		sock = netlink_open();
		EXPECT_EQ(-ENOENT, netlink_family(sock));
	}
}

/* ---- malformed requests ---- */

TEST_F(grant, malformed_requests_are_refused_with_words_and_change_nothing)
{
	static const struct {
		const char *what;
		uint8_t cmd;
		bool dump;
		int error;
		struct {
			uint16_t type, len;
			uint32_t value;
		} attrs[3];
	} requests[] = {
#define ADDRESS { KOSDMA_A_GRANT_ADDRESS, 4, 0x40 }
		{ "no attributes", KOSDMA_CMD_GRANT_ADD, false, EINVAL, { { 0 } } },
		{ "no address", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { { KOSDMA_A_GRANT_UID, 4, USER } } },
		{ "to nobody", KOSDMA_CMD_GRANT_ADD, false, EINVAL, { ADDRESS } },
		{ "to both", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 4, USER }, { KOSDMA_A_GRANT_GID, 4, GROUP } } },
		{ "no user's number", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 4, NOBODYS_ID } } },
		{ "no group's number", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_GID, 4, NOBODYS_ID } } },
		{ "a short uid", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 2, USER } } },
		{ "an empty uid", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 0, USER } } },
		{ "a nested uid", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID | NLA_F_NESTED, 4, USER } } },
		{ "an unknown attribute", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 4, USER }, { KOSDMA_A_GRANT_MAX + 1, 4, 0 } } },
		{ "attribute 0", KOSDMA_CMD_GRANT_ADD, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 4, USER }, { NLA_F_NET_BYTEORDER, 4, 1 } } },
		{ "revoke from both", KOSDMA_CMD_GRANT_DEL, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_GRANT_UID, 4, USER }, { KOSDMA_A_GRANT_GID, 4, GROUP } } },
		{ "revoke nothing", KOSDMA_CMD_GRANT_DEL, false, EINVAL, { { 0 } } },
		{ "grants of a device", KOSDMA_CMD_GRANT_GET, true, EINVAL, { ADDRESS } },
		{ "one grant", KOSDMA_CMD_GRANT_GET, false, EOPNOTSUPP, { ADDRESS } },
		{ "a dump of additions", KOSDMA_CMD_GRANT_ADD, true, EOPNOTSUPP, { ADDRESS } },
		{ "no device", KOSDMA_CMD_DEVICE_GET, false, EINVAL, { { 0 } } },
		{ "an unknown device", KOSDMA_CMD_DEVICE_GET, false, ENODEV,
		  { { KOSDMA_A_DEVICE_ADDRESS, 4, NOWHERE } } },
		{ "a device by its driver", KOSDMA_CMD_DEVICE_GET, false, EINVAL,
		  { ADDRESS, { KOSDMA_A_DEVICE_DRIVER, 4, 0 } } },
		{ "all devices at an address", KOSDMA_CMD_DEVICE_GET, true, EINVAL, { ADDRESS } },
		{ "command 0", 0, false, EOPNOTSUPP, { { 0 } } },
		{ "an unknown command", KOSDMA_CMD_MAX + 1, false, EOPNOTSUPP, { { 0 } } },
#undef ADDRESS
	};
	int sock = netlink_open();

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct netlink_request req;
		struct netlink_result result;

		test_context("%s", requests[i].what);
		netlink_request(&req, requests[i].cmd, requests[i].dump);
		/* Unused ones have no type. */
		for (int j = 0; j < 3 && requests[i].attrs[j].type; j++)
			netlink_attr(&req, requests[i].attrs[j].type, &requests[i].attrs[j].value,
				     requests[i].attrs[j].len);
		result = netlink_send(sock, &req, NULL, NULL);
		EXPECT_EQ(requests[i].error, result.error);
		EXPECT_EQ(0, result.replies);
		/* A command that there is not is refused by the core, which has no words. */
		if (result.error != EOPNOTSUPP)
			EXPECT_NE('\0', result.words[0]);
		EXPECT_EQ(0, count_grants(NULL));
	}
	test_context("%s", "");
	close(sock);
}

TEST_F(grant, reserved_bits_of_the_header_are_refused)
{
	struct netlink_request req;
	struct genlmsghdr *genl = NLMSG_DATA((struct nlmsghdr *)req.data);

	netlink_request(&req, KOSDMA_CMD_GRANT_ADD, false);
	netlink_u32(&req, KOSDMA_A_GRANT_ADDRESS, self->edu.bdf);
	netlink_u32(&req, KOSDMA_A_GRANT_UID, USER);
	genl->reserved = 1;
	EXPECT_EQ(EINVAL, netlink_call(&req));
	EXPECT_EQ(0, count_grants(NULL));
}

/* ---- who may see ---- */

TEST_F(grant, grants_are_shown_to_whom_they_name)
{
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	ASSERT_EQ(0, grant_user(self->edu.bdf, OTHER_USER));
	ASSERT_EQ(0, grant_group(self->edu.bdf, GROUP));
	EXPECT_EQ(3, count_grants(NULL));
	IN_CHILD {
		become(USER, USER);
		EXPECT_EQ(1, count_grants(NULL));
	}
	IN_CHILD {
		become(USER, GROUP);
		EXPECT_EQ(2, count_grants(NULL));
	}
	IN_CHILD {
		become(NOBODY, NOBODY);
		EXPECT_EQ(0, count_grants(NULL));
	}
}

TEST_F(grant, device_tells_its_state_and_its_owner_to_whom_it_may)
{
	struct netlink_reply reply = device_get(self->edu.bdf);
	uint32_t translated = self->translated ? KOSDMA_NL_DEVICE_TRANSLATED : 0;
	int sync[2];
	pid_t pid;

	EXPECT_EQ(KOSDMA_CMD_DEVICE_GET, reply.cmd);
	EXPECT_EQ(self->edu.bdf, reply.number[KOSDMA_A_DEVICE_ADDRESS]);
	EXPECT_EQ(KOSDMA_NL_DEVICE_BOUND | translated, reply.number[KOSDMA_A_DEVICE_STATE]);
	EXPECT_STREQ("kosdma", reply.text[KOSDMA_A_DEVICE_DRIVER]);
	EXPECT_EQ(self->translated, reply.has[KOSDMA_A_DEVICE_IOMMU_GROUP]);
	EXPECT_FALSE(reply.has[KOSDMA_A_DEVICE_OWNER_PID]);
	EXPECT_FALSE(reply.has[KOSDMA_A_DEVICE_OWNER_UID]);

	if (!self->translated)
		SKIP("needs an IOMMU: without one a grant is not enough");
	ASSERT_EQ(0, grant_user(self->edu.bdf, USER));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		become(USER, USER);
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		reply = device_get(self->edu.bdf);
		EXPECT_EQ(getpid(), reply.number[KOSDMA_A_DEVICE_OWNER_PID]);
		EXPECT_EQ(KOSDMA_NL_DEVICE_BOUND | KOSDMA_NL_DEVICE_HELD |
				  KOSDMA_NL_DEVICE_ATTACHED | KOSDMA_NL_DEVICE_GRANTED | translated,
			  reply.number[KOSDMA_A_DEVICE_STATE]);
		test_child_exit();
	}
	probe_await(sync[0]);
	reply = device_get(self->edu.bdf);
	EXPECT_EQ(pid, reply.number[KOSDMA_A_DEVICE_OWNER_PID]);
	EXPECT_EQ(USER, reply.number[KOSDMA_A_DEVICE_OWNER_UID]);
	EXPECT_FALSE(reply.number[KOSDMA_A_DEVICE_STATE] & KOSDMA_NL_DEVICE_GRANTED);
	IN_CHILD {
		become(OTHER_USER, OTHER_USER);
		reply = device_get(self->edu.bdf);
		EXPECT_TRUE(reply.number[KOSDMA_A_DEVICE_STATE] & KOSDMA_NL_DEVICE_HELD);
		EXPECT_FALSE(reply.has[KOSDMA_A_DEVICE_OWNER_PID]);
		EXPECT_FALSE(reply.has[KOSDMA_A_DEVICE_OWNER_UID]);
	}
	probe_signal(sync[0]);
	test_wait(pid);
}

/* ---- dumps ---- */

static void find_device(const struct netlink_reply *reply, void *arg)
{
	uint32_t *wanted = arg;

	if (reply->number[KOSDMA_A_DEVICE_ADDRESS] == *wanted)
		*wanted = UINT32_MAX;
}

TEST_F(grant, dump_of_devices_needs_no_privilege_and_has_them_all)
{
	uint32_t wanted = self->edu.bdf;
	struct netlink_request req;

	IN_CHILD {
		int sock;

		become(NOBODY, NOBODY);
		sock = netlink_open();
		netlink_request(&req, KOSDMA_CMD_DEVICE_GET, true);
		EXPECT_EQ(0, netlink_send(sock, &req, find_device, &wanted).error);
		EXPECT_EQ(UINT32_MAX, wanted);
	}
}

struct order {
	uint32_t last;
	int wrong;
};

static void check_order(const struct netlink_reply *reply, void *arg)
{
	struct order *order = arg;
	uint32_t uid = reply->number[KOSDMA_A_GRANT_UID];

	if (!reply->has[KOSDMA_A_GRANT_UID] || uid <= order->last)
		order->wrong++;
	order->last = uid;
}

TEST_F(grant, dump_of_many_grants_is_complete_and_in_order)
{
	enum { MANY = 3000 };
	struct order order = { 0 };
	struct netlink_result result;
	struct netlink_request req;
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_GRANT_ADD, false);
	netlink_u32(&req, KOSDMA_A_GRANT_ADDRESS, self->edu.bdf);
	netlink_u32(&req, KOSDMA_A_GRANT_UID, 0);
	for (uint32_t i = 0; i < MANY; i++) {
		/* Not in order: 1009 and 3000 have no divisor in common. */
		uint32_t uid = i * 1009 % MANY + 1;

		memcpy(req.data + req.len - sizeof(uid), &uid, sizeof(uid));
		ASSERT_EQ(0, netlink_send(sock, &req, NULL, NULL).error);
	}
	netlink_request(&req, KOSDMA_CMD_GRANT_GET, true);
	result = netlink_send(sock, &req, check_order, &order);
	EXPECT_EQ(0, result.error);
	EXPECT_FALSE(result.interrupted);
	EXPECT_EQ(MANY, result.replies);
	EXPECT_EQ(0, order.wrong);
	EXPECT_EQ(MANY, order.last);
	close(sock);
}

/* A change in the middle is told, and the dump ends nevertheless. */
static void change_once(const struct netlink_reply *reply, void *arg)
{
	int *count = arg;

	if (!(*count)++) {
		uint32_t address = reply->number[KOSDMA_A_GRANT_ADDRESS];

		EXPECT_EQ(0, grant_group(address, GROUP));
	}
}

TEST_F(grant, dump_that_is_overtaken_by_a_change_says_so)
{
	struct netlink_result result;
	struct netlink_request req;
	int count = 0, sock = netlink_open();

	for (uint32_t uid = 1; uid <= 2000; uid++)
		ASSERT_EQ(0, grant_user(self->edu.bdf, uid));
	netlink_request(&req, KOSDMA_CMD_GRANT_GET, true);
	result = netlink_send(sock, &req, change_once, &count);
	EXPECT_EQ(0, result.error);
	EXPECT_TRUE(result.interrupted);
	EXPECT_EQ(2001, result.replies);
	close(sock);
}

TEST_HARNESS_MAIN
