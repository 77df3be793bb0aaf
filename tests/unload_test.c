// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unloading the module: when it is refused, and what it leaves behind.
 *
 * The processes of these tests that unload never call libkos: its descriptor of
 * /dev/kosdma would keep the module. KOSDMA_MODULE names the module's file;
 * else it is where guests have it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/netlink.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define SYS_MODULE "/sys/module/kosdma"
#define MODULE_IN_GUEST "/kos/kosdma.ko"

static const char *module_file(void)
{
	const char *file = getenv("KOSDMA_MODULE");

	return file ? file : MODULE_IN_GUEST;
}

static bool is_loaded(void)
{
	return !access(SYS_MODULE, F_OK);
}

/* What the module was loaded with, as far as it tells. */
static char parameters[1024];

static void remember_parameters(void)
{
	DIR *dir = opendir(SYS_MODULE "/parameters");
	struct dirent *entry;
	size_t len = 0;

	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX], value[128] = "";
		FILE *f;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), SYS_MODULE "/parameters/%s",
			 entry->d_name);
		f = fopen(path, "re");
		if (f && fgets(value, sizeof(value), f)) {
			value[strcspn(value, "\n")] = '\0';
			len += snprintf(parameters + len,
					sizeof(parameters) - len, "%s=%s ",
					entry->d_name, value);
		}
		if (f)
			fclose(f);
		ASSERT_LT(len, sizeof(parameters));
	}
	if (dir)
		closedir(dir);
}

/* 0 or an errno */
static int unload(void)
{
	return syscall(SYS_delete_module, "kosdma", O_NONBLOCK) ? errno : 0;
}

static int load(void)
{
	int fd = open(module_file(), O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return errno;
	err = syscall(SYS_finit_module, fd, parameters, 0) ? errno : 0;
	close(fd);
	return err;
}

/* Processes that ended a moment ago may still be given back. */
static int unload_soon(void)
{
	int err = EAGAIN;

	for (unsigned int i = 0; i < test_seconds(100) && err == EAGAIN; i++) {
		if (i)
			usleep(50 * 1000);
		err = unload();
	}
	return err;
}

static bool unloads_soon(void)
{
	int err = unload_soon();

	EXPECT_EQ(0, err);
	return !err;
}

FIXTURE(module)
{
	struct edu edu;
	bool have_edu;
};

FIXTURE_SETUP(module)
{
	if (!is_loaded())
		SKIP("needs the module loaded");
	if (access(module_file(), R_OK))
		SKIP("needs the module's file: set KOSDMA_MODULE");
	remember_parameters();
	self->have_edu = edu_find(&self->edu, 0);
	/* Somebody else on this machine may be using it. */
	if (unload_soon())
		SKIP("the module is in use, or may not be unloaded here");
	ASSERT_EQ(0, load());
}

FIXTURE_TEARDOWN(module)
{
	if (!is_loaded())
		EXPECT_EQ(0, load());
}

/* ---- refused ---- */

/* Descriptors of /dev/kosdma, libkos's own among them. */
static void close_devices(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char link[64], target[64];
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (!strcmp(target, KOSDMA_DEVICE))
			close(fd);
	}
}

static void hold_device(struct fixture_data_module *self)
{
	(void)self;
	ASSERT_GE(open(KOSDMA_DEVICE, O_RDWR), 0);
}

static void hold_buffer(struct fixture_data_module *self)
{
	(void)self;
	buffer_create(0, PAGE, DMA_DIR_BIDIR);
	close_devices();
}

static void hold_copy(struct fixture_data_module *self)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);

	(void)self;
	buffer_copy(buffer, 0);
	ASSERT_OK(KnHandleClose(buffer));
	close_devices();
}

static void hold_revoked(struct fixture_data_module *self)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);

	(void)self;
	buffer_copy(buffer, 0);
	ASSERT_OK(KnHandleRevoke(buffer));
	close_devices();
}

static void hold_mapping(struct fixture_data_module *self)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR), mapping;

	(void)self;
	buffer_map(buffer, PAGE, &mapping);
	ASSERT_OK(KnHandleClose(buffer));
	close_devices();
}

/* The region lives while its handle does; only then is it nothing. */
static void hold_dead_twin(struct fixture_data_module *self)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR), mapping;

	(void)self;
	buffer_map(buffer, PAGE, &mapping);
	ASSERT_GE(dup(mapping), 0);
	ASSERT_OK(KnHandleClose(mapping));
	ASSERT_OK(KnHandleClose(buffer));
	close_devices();
}

static void hold_access(struct fixture_data_module *self)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	Handle domain = domain_create();

	(void)self;
	access_begin_in(buffer, domain);
	ASSERT_OK(KnHandleClose(domain));
	ASSERT_OK(KnHandleClose(buffer));
	close_devices();
}

static void hold_domain(struct fixture_data_module *self)
{
	(void)self;
	domain_create();
	close_devices();
}

static void hold_badge(struct fixture_data_module *self)
{
	Handle badge;

	(void)self;
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
	close_devices();
}

static void hold_queued(struct fixture_data_module *self)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	int sock[2];

	(void)self;
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_OK(KosHandleSend(sock[0], buffer, 0));
	ASSERT_OK(KnHandleClose(buffer));
	close_devices();
}

static void hold_region(struct fixture_data_module *self)
{
	Handle region;

	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	close_devices();
}

static void hold_region_mapping(struct fixture_data_module *self)
{
	Handle region, mapping;
	void *addr;

	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	ASSERT_OK(KnHandleClose(region));
	close_devices();
}

static void hold_attached(struct fixture_data_module *self)
{
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	close_devices();
}

/* The automatic domain has no handle, and lives as long as the process. */
static void hold_automatic_domain(struct fixture_data_module *self)
{
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	close_devices();
}

/* Its first message is in the socket, and nobody reads it. */
static void hold_dump(struct fixture_data_module *self)
{
	struct netlink_request req;
	int sock = netlink_open();

	(void)self;
	netlink_request(&req, KOSDMA_CMD_DEVICE_GET, true);
	ASSERT_EQ((ssize_t)req.len, send(sock, req.data, req.len, 0));
}

TEST_F(module, unload_is_refused_while_anything_is_in_use)
{
	static const struct {
		const char *name;
		void (*hold)(struct fixture_data_module *self);
		bool needs_edu;
	} rows[] = {
		{ "the device is open", hold_device, false },
		{ "a buffer", hold_buffer, false },
		{ "a copy", hold_copy, false },
		{ "a revoked handle", hold_revoked, false },
		{ "a mapping", hold_mapping, false },
		{ "a dead copy of a mapping's handle", hold_dead_twin, false },
		{ "an access of a closed domain", hold_access, false },
		{ "a domain", hold_domain, false },
		{ "a badge", hold_badge, false },
		{ "a handle in a socket", hold_queued, false },
		{ "a region", hold_region, true },
		{ "a region's mapping", hold_region_mapping, true },
		{ "an attached device", hold_attached, true },
		{ "an automatic domain", hold_automatic_domain, true },
		{ "a dump", hold_dump, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int sync[2];
		pid_t pid;

		if (rows[i].needs_edu && !self->have_edu)
			continue;
		test_context("%s", rows[i].name);
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
					sync));
		pid = test_fork();
		if (!pid) {
			rows[i].hold(self);
			probe_signal(sync[1]);
			probe_await(sync[1]);
			test_child_exit();
		}
		probe_await(sync[0]);
		for (int tries = 0; tries < 3; tries++)
			EXPECT_EQ(EAGAIN, unload());
		EXPECT_TRUE(is_loaded());
		EXPECT_EQ(0, access(KOSDMA_DEVICE, F_OK));
		/* It still works, for others as well. */
		IN_CHILD {
			Handle mapping;

			buffer_map(buffer_create(0, PAGE, DMA_DIR_BIDIR), PAGE,
				   &mapping);
		}
		probe_signal(sync[0]);
		test_wait(pid);
		close(sync[0]);
		close(sync[1]);
		/* And goes with the process. */
		ASSERT_TRUE(unloads_soon());
		EXPECT_FALSE(is_loaded());
		ASSERT_EQ(0, load());
	}
}

/* Some events are in its socket, some are just to be told. */
TEST_F(module, unload_does_not_wait_for_a_listener)
{
	int sock = netlink_open(), group = netlink_group(sock, "objects");
	struct netlink_reply reply;

	ASSERT_EQ(0, netlink_join(sock, group));
	for (int i = 0; i < 2; i++) {
		IN_CHILD {
			for (int n = 0; n < 20; n++)
				ASSERT_OK(KnHandleClose(domain_create()));
		}
		usleep(i ? 0 : 100 * 1000);
	}
	ASSERT_TRUE(unloads_soon());
	for (int n = 0; n < 2 * 20; n++)
		EXPECT_EQ(0, netlink_event(sock, &reply));
	ASSERT_EQ(0, load());
	/* Another family; whoever listened to the old one hears nothing of it. */
	while (!netlink_event(sock, &reply))
		;
	IN_CHILD
		domain_create();
	usleep(100 * 1000);
	EXPECT_EQ(EAGAIN, netlink_event(sock, &reply));
	close(sock);
}

/* Bound is not in use. */
TEST_F(module, unload_unbinds_devices_that_nobody_holds)
{
	char driver[64];

	if (!self->have_edu)
		SKIP("needs an edu device of QEMU (1234:11e8)");
	IN_CHILD {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("kosdma", driver);
	ASSERT_TRUE(unloads_soon());
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("", driver);
	EXPECT_FALSE(probe_bus_master(self->edu.path));
}

/* ---- nothing stays ---- */

static bool file_has(const char *path, const char *text)
{
	FILE *f = fopen(path, "re");
	char line[512];
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, text))
			found = true;
	if (f)
		fclose(f);
	return found;
}

/* Everything that the module can do, in a process of its own. */
static void use_everything(struct fixture_data_module *self)
{
	IN_CHILD {
		Handle buffer, copy, mapping, badge, access, domain;
		struct begun b;

		if (self->have_edu) {
			edu_open(&self->edu, 0);
			begun_open(&b, MiB(1), NONE);
			EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + 4096,
						b.mem + 4096));
		}
		buffer = buffer_create(0, MiB(16), DMA_DIR_BIDIR);
		buffer_map(buffer, MiB(16), &mapping);
		domain = domain_create();
		access = access_begin_in(buffer, domain);
		ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
		ASSERT_OK(KnHandleCopy(buffer, OCAP_DMA_FULL, badge, &copy));
		buffer_map(copy, MiB(16), &mapping);
		ASSERT_OK(KnHandleRevokeSubtree(buffer, badge));
		ASSERT_OK(KnHandleClose(access));
		ASSERT_OK(KnIoDmaCreateContinuous(MiB(1), DMA_ATTR_WRITE_COMBINE,
						  &buffer));
		buffer_map(buffer, MiB(1), &mapping);
	}
}

TEST_F(module, unload_leaves_nothing_behind)
{
	use_everything(self);
	ASSERT_TRUE(unloads_soon());
	EXPECT_FALSE(is_loaded());
	EXPECT_NE(0, access(KOSDMA_DEVICE, F_OK));
	EXPECT_NE(0, access("/sys/bus/pci/drivers/kosdma", F_OK));
	EXPECT_FALSE(file_has("/proc/iomem", "kosdma"));
	EXPECT_FALSE(file_has("/proc/modules", "kosdma"));
	EXPECT_FALSE(file_has("/proc/misc", "kosdma"));
	EXPECT_FALSE(file_has("/proc/filesystems", "kosdma"));
	EXPECT_FALSE(file_has("/proc/slabinfo", "kosdma"));
	EXPECT_FALSE(file_has("/proc/self/mountinfo", "kosdma"));
	/* And can come back. */
	ASSERT_EQ(0, load());
	use_everything(self);
}

TEST_F_TIMEOUT(module, twenty_unloads_return_all_memory, 300)
{
	long before = 0;

	for (int round = 0; round < 22; round++) {
		test_context("round %d", round);
		ASSERT_TRUE(unloads_soon());
		/* Without the module, after it has been here once or twice. */
		if (round == 2)
			before = probe_free_memory();
		if (round == 21)
			break;
		ASSERT_EQ(0, load());
		use_everything(self);
	}
	test_context("%s", "");
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
}

/* ---- at an awkward moment ---- */

TEST_F(module, unload_while_a_killed_process_is_given_back)
{
	for (int round = 0; round < 6; round++) {
		int sync[2];
		pid_t pid;

		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			Handle mapping;

			for (int i = 0; i < 16; i++) {
				Handle buffer = buffer_create(0, MiB(4),
							      DMA_DIR_BIDIR);

				buffer_map(buffer, MiB(4), &mapping);
				if (self->have_edu)
					access_begin(buffer);
			}
			if (self->have_edu)
				ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
			probe_signal(sync[1]);
			pause();
		}
		probe_await(sync[0]);
		close(sync[0]);
		close(sync[1]);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		if (round & 1)
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		ASSERT_TRUE(unloads_soon());
		if (!(round & 1))
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		if (self->have_edu)
			EXPECT_FALSE(probe_bus_master(self->edu.path));
		ASSERT_EQ(0, load());
	}
}

/* A living process that used it, and has nothing left, is in nobody's way. */
TEST_F(module, unload_while_a_process_that_is_done_with_it_lives)
{
	int sync[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
		Handle domain = domain_create(), mapping, access;

		buffer_map(buffer, PAGE, &mapping);
		access = access_begin_in(buffer, domain);
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(domain));
		EXPECT_OK(KnHandleClose(buffer));
		close_devices();
		probe_signal(sync[1]);
		probe_await(sync[1]);
		/* Unloaded: a failure, and no more. */
		EXPECT_RC(rcNotConnected,
			  KnIoDmaCreate(0, PAGE, 0, &buffer));
		EXPECT_EQ(NONE, buffer);
		probe_signal(sync[1]);
		probe_await(sync[1]);
		/* Loaded again: works again. */
		buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
		buffer_map(buffer, PAGE, &mapping);
		test_child_exit();
	}
	probe_await(sync[0]);
	ASSERT_TRUE(unloads_soon());
	probe_signal(sync[0]);
	probe_await(sync[0]);
	ASSERT_EQ(0, load());
	/* Its end, with a process of the former module's, is harmless. */
	probe_signal(sync[0]);
	test_wait(pid);
	ASSERT_TRUE(unloads_soon());
}

TEST_F(module, unload_storm_against_users_hurts_neither)
{
	enum { USERS = 3, SECONDS = 5 };
	time_t end = time(NULL) + SECONDS;
	pid_t pid[USERS];
	int unloaded = 0;

	for (int i = 0; i < USERS; i++) {
		pid[i] = test_fork();
		if (pid[i])
			continue;
		while (time(NULL) < end) {
			Handle buffer, mapping;
			void *addr;
			Retcode rc = KnIoDmaCreate(0, PAGE, 0, &buffer);

			close_devices();
			if (rc == rcNotConnected)
				continue;
			ASSERT_RC(rcOk, rc);
			rc = KnIoDmaMap(buffer, 0, PAGE, NULL, VMM_READ_WRITE,
					&addr, &mapping);
			/* It cannot go away: there is a buffer. */
			ASSERT_RC(rcOk, rc);
			EXPECT_EQ(0, probe_write(addr));
			ASSERT_OK(KnHandleClose(mapping));
			ASSERT_OK(KnHandleClose(buffer));
			close_devices();
			usleep(1000 * i);
		}
		test_child_exit();
	}
	while (time(NULL) < end) {
		int err = unload();

		EXPECT_TRUE(!err || err == EAGAIN);
		if (!err) {
			unloaded++;
			ASSERT_EQ(0, load());
		}
	}
	for (int i = 0; i < USERS; i++)
		test_wait(pid[i]);
	test_log("unloaded %d times between calls", unloaded);
	ASSERT_TRUE(unloads_soon());
}

TEST_HARNESS_MAIN
