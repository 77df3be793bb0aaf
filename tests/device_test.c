// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices: who may attach them, binding and giving back, bus mastering, and
 * what happens to them when their holder or their driver goes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/machine.h"
#include "lib/netlink.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define DRIVER "/sys/bus/pci/drivers/kosdma"

FIXTURE(device)
{
	struct edu edu;
	const char *name; /* such as 0000:00:08.0 */
};

FIXTURE_SETUP(device)
{
	probe_require_module();
	edu_require(&self->edu, 0);
	self->name = strrchr(self->edu.path, '/') + 1;
	pci_make_driverless(self->edu.path);
}

FIXTURE_TEARDOWN(device)
{
	pci_make_driverless(self->edu.path);
}

/* ---- interrupt remapping ---- */

#define UNSAFE "/sys/module/kosdma/parameters/allow_unsafe_interrupts"

static bool interrupts_unsafe(void)
{
	char line[1024] = "";
	FILE *f = fopen("/proc/cmdline", "re");

	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	return strstr(line, "intremap=off");
}

static bool is_tainted_by_user(void)
{
	unsigned long taint = 0;
	FILE *f = fopen("/proc/sys/kernel/tainted", "re");

	if (f && fscanf(f, "%lu", &taint) != 1)
		taint = 0;
	if (f)
		fclose(f);
	return taint & 1UL << 6;
}

TEST_F(device, attach_without_interrupt_remapping_is_rcSecurityDisallow)
{
	Handle region;

	if (!interrupts_unsafe())
		SKIP("this guest's interrupts are remapped (kernel parameter intremap=)");
	edu_require_translation(&self->edu);
	EXPECT_FALSE(is_tainted_by_user());
	EXPECT_RC(rcSecurityDisallow, KnIommuAttachDevice(self->edu.bdf));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_FALSE(is_tainted_by_user());
	/* Without bus mastering it can send no message: its registers may be had. */
	EXPECT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	EXPECT_OK(KnHandleClose(region));

	ASSERT_TRUE(probe_write_file(UNSAFE, "1"));
	EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_TRUE(is_tainted_by_user());
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_TRUE(probe_write_file(UNSAFE, "0"));
	EXPECT_RC(rcSecurityDisallow, KnIommuAttachDevice(self->edu.bdf));
}

TEST_F(device, attach_with_interrupt_remapping_needs_no_permission)
{
	if (interrupts_unsafe() || access("/sys/class/iommu/dmar0", F_OK))
		SKIP("needs an Intel IOMMU that remaps interrupts");
	ASSERT_TRUE(probe_write_file(UNSAFE, "0"));
	EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_FALSE(is_tainted_by_user());
}

/* ---- binding ---- */

TEST_F(device, attach_binds_a_driverless_device)
{
	char driver[64];

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("kosdma", driver);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

TEST_F(device, registration_binds_a_driverless_device)
{
	char driver[64];
	Handle region;

	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("kosdma", driver);
	EXPECT_OK(KnHandleClose(region));
}

/* exit() runs what libkos left to be done; tests end by _exit(). */
static void exit_after_use(struct fixture_data_device *self, bool detach)
{
	pid_t pid = test_fork();

	if (!pid) {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		if (detach)
			ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
		exit(0);
	}
	test_wait(pid);
}

TEST_F(device, regular_end_of_the_process_unbinds_what_it_bound)
{
	for (int detach = 0; detach < 2; detach++) {
		char driver[64], override[64];

		test_context(detach ? "detached" : "attached");
		exit_after_use(self, detach);
		probe_driver(self->edu.path, driver);
		EXPECT_STREQ("", driver);
		pci_get_override(self->edu.path, override);
		EXPECT_TRUE(!override[0] || !strcmp(override, "(null)"));
		EXPECT_FALSE(probe_bus_master(self->edu.path));
	}
}

TEST_F(device, regular_end_leaves_what_others_bound)
{
	char driver[64];

	pci_make_bound(self->edu.path, "kosdma");
	for (int detach = 0; detach < 2; detach++) {
		exit_after_use(self, detach);
		probe_driver(self->edu.path, driver);
		EXPECT_STREQ("kosdma", driver);
		EXPECT_FALSE(probe_bus_master(self->edu.path));
	}
}

/* Bound by one, which released it; held by another by now. */
TEST_F(device, regular_end_leaves_a_device_that_another_process_holds)
{
	int sync[2];
	char driver[64];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		exit(0);
	}
	probe_await(sync[0]);
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	probe_signal(sync[0]);
	test_wait(pid);
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("kosdma", driver);
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

TEST_F(device, killed_process_leaves_the_device_bound_and_usable)
{
	int sync[2];
	char driver[64];
	pid_t pid;

	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		probe_signal(sync[1]);
		pause();
	}
	probe_await(sync[0]);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("kosdma", driver);
	EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

TEST_F(device, driverless_device_is_rcNotReady_for_who_may_not_bind_it)
{
	char driver[64];

	device_make_public();
	IN_CHILD {
		Handle out = 77;

		probe_become_nobody();
		EXPECT_RC(rcNotReady, KnIommuAttachDevice(self->edu.bdf));
		EXPECT_RC(rcNotReady,
			  KnIommuAttachDeviceToDomain(self->edu.bdf,
						      domain_create()));
		EXPECT_RC(rcNotReady,
			  KnRegisterPhyMem(self->edu.bar, PAGE, 0, &out));
		EXPECT_EQ(NONE, out);
	}
	device_restore();
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("", driver);
}

/* An administrator has other plans with it. */
TEST_F(device, device_meant_for_another_driver_is_rcNotReady)
{
	char text[64];

	ASSERT_TRUE(probe_write_file(pci_attribute(self->edu.path,
						   "driver_override"),
				     "vfio-pci"));
	EXPECT_RC(rcNotReady, KnIommuAttachDevice(self->edu.bdf));
	pci_get_override(self->edu.path, text);
	EXPECT_STREQ("vfio-pci", text);
	probe_driver(self->edu.path, text);
	EXPECT_STREQ("", text);
}

TEST_F(device, detach_binds_nothing)
{
	char driver[64];

	EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(self->edu.bdf));
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("", driver);
}

/* ---- policy ---- */

TEST_F(device, without_privilege_is_rcSecurityDisallow)
{
	pci_make_bound(self->edu.path, "kosdma");
	device_make_public();
	IN_CHILD {
		Handle domain, out = 77;

		probe_become_nobody();
		domain = domain_create();
		EXPECT_RC(rcSecurityDisallow,
			  KnIommuAttachDevice(self->edu.bdf));
		EXPECT_RC(rcSecurityDisallow,
			  KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
		EXPECT_RC(rcSecurityDisallow,
			  KnRegisterPhyMem(self->edu.bar, PAGE, 0, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rcInvalidOperation,
			  KnIommuDetachDevice(self->edu.bdf));
		EXPECT_RC(rcInvalidOperation,
			  KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
		EXPECT_RC(rcDeviceNotFound, KnIommuAttachDevice(0xfff8));
	}
	device_restore();
	EXPECT_FALSE(probe_bus_master(self->edu.path));
}

/* Bound to pci-stub, a driver of the kernel's as good as any. */
TEST_F(device, device_of_a_kernel_driver_is_rcBusy_and_a_line_names_the_driver)
{
	int log = pci_log_open();
	Handle domain, out = 77;
	char driver[64];

	if (access("/sys/bus/pci/drivers/pci-stub", F_OK) &&
	    !pci_modprobe("pci-stub"))
		SKIP("needs the kernel's pci-stub driver");
	pci_make_bound(self->edu.path, "pci-stub");
	domain = domain_create();
	EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
	/* Lines are limited in rate, so it may be a later try that leaves one. */
	for (int tries = 0; !pci_log_has(log, self->name, "pci-stub"); tries++) {
		ASSERT_LT(tries, 10);
		sleep(1);
		EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
	}
	EXPECT_RC(rcBusy, KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
	EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(self->edu.bdf));
	/* It has not claimed the registers, and has them all the same. */
	EXPECT_RC(rcBusy, KnRegisterPhyMem(self->edu.bar, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	probe_driver(self->edu.path, driver);
	EXPECT_STREQ("pci-stub", driver);
	EXPECT_OK(KnHandleClose(domain));
}

/* Any device that came with a driver in this machine. */
TEST(devices_of_kernel_drivers_are_rcBusy)
{
	struct dirent **names;
	int nr = scandir("/sys/bus/pci/devices", &names, NULL, alphasort);
	int seen = 0;

	probe_require_module();
	for (int i = 0; i < nr; i++) {
		unsigned int seg, bus, dev, fn;
		char path[300], driver[64], after[64];

		if (sscanf(names[i]->d_name, "%x:%x:%x.%x", &seg, &bus, &dev,
			   &fn) != 4)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s",
			 names[i]->d_name);
		probe_driver(path, driver);
		if (!driver[0] || !strcmp(driver, "kosdma"))
			continue;
		test_context("%s with driver %s", names[i]->d_name, driver);
		EXPECT_RC(rcBusy,
			  KosIommuAttachDeviceEx(seg << 16 | bus << 8 |
						 dev << 3 | fn));
		probe_driver(path, after);
		EXPECT_STREQ(driver, after);
		seen++;
	}
	test_context("%s", "");
	if (!seen)
		SKIP("no device of this machine has a driver of the kernel's");
}

/* ---- bus mastering ---- */

TEST_F(device, masters_the_bus_only_while_attached)
{
	const char *path = self->edu.path;
	Handle domain, region;

	pci_make_bound(self->edu.path, "kosdma");
	EXPECT_FALSE(probe_bus_master(path));
	for (int round = 0; round < 3; round++) {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		EXPECT_TRUE(probe_bus_master(path));
		EXPECT_TRUE(probe_memory_decode(path));
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		EXPECT_FALSE(probe_bus_master(path));
	}
	domain = domain_create();
	ASSERT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, domain));
	EXPECT_TRUE(probe_bus_master(path));
	/* Registers do not need it, nor do they take it away. */
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	EXPECT_TRUE(probe_bus_master(path));
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_FALSE(probe_bus_master(path));
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_TRUE(probe_bus_master(path));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_TRUE(probe_bus_master(path));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_FALSE(probe_bus_master(path));
}

TEST_F(device, refused_attach_leaves_bus_mastering_off)
{
	pci_make_bound(self->edu.path, "kosdma");
	device_make_public();
	IN_CHILD {
		probe_become_nobody();
		EXPECT_RC(rcSecurityDisallow,
			  KnIommuAttachDevice(self->edu.bdf));
	}
	device_restore();
	EXPECT_FALSE(probe_bus_master(self->edu.path));
}

/* Whoever binds a device that masters the bus takes that away. */
TEST_F(device, binding_grants_no_bus_mastering)
{
	Handle region;

	pci_make_bound(self->edu.path, "kosdma");
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_TRUE(probe_memory_decode(self->edu.path));
	EXPECT_OK(KnHandleClose(region));
}

#define TEARDOWN_MS "/sys/module/kosdma/parameters/inject_teardown_ms"

/* A test build cleans up late: so this is what ends it. */
TEST_F(device, death_of_its_process_ends_bus_mastering_at_once)
{
	bool late = probe_write_file(TEARDOWN_MS, "500");

	for (int created = 0; created < 2; created++) {
		int sync[2];
		siginfo_t info;
		pid_t pid;

		test_context(created ? "created domain" : "automatic domain");
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			uint16_t bdf = self->edu.bdf;
			Handle domain = domain_create();

			if (created)
				ASSERT_OK(KnIommuAttachDeviceToDomain(bdf,
								      domain));
			else
				ASSERT_OK(KnIommuAttachDevice(bdf));
			probe_signal(sync[1]);
			pause();
		}
		probe_await(sync[0]);
		EXPECT_TRUE(probe_bus_master(self->edu.path));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
		EXPECT_FALSE(probe_bus_master(self->edu.path));
		/* Nobody has to reap it first. */
		EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
	if (late)
		EXPECT_TRUE(probe_write_file(TEARDOWN_MS, "0"));
}

/*
 * What no reset stops goes on as soon as it masters the bus again: only the
 * kernel keeps it from that, whichever way its holder goes.
 */
TEST_F(device, device_that_cannot_be_reset_masters_no_bus_after_its_holder)
{
	static const char *const ways[] = { "detach", "exit", "exec", "kill",
					    "unbind" };

	if (!access(pci_attribute(self->edu.path, "reset"), F_OK))
		SKIP("this edu device can be reset");
	for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
		int sync[2];
		pid_t pid;

		test_context("%s", ways[way]);
		pci_make_bound(self->edu.path, "kosdma");
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
					sync));
		pid = test_fork();
		if (!pid) {
			ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
			probe_signal(sync[1]);
			probe_await(sync[1]);
			if (way == 0)
				ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
			else if (way == 2)
				execlp("sleep", "sleep", "1000", NULL);
			else if (way >= 3)
				pause();
			exit(0);
		}
		probe_await(sync[0]);
		EXPECT_TRUE(probe_bus_master(self->edu.path));
		probe_signal(sync[0]);
		if (way < 2) {
			test_wait(pid);
		} else if (way == 2) {
			char byte;

			/* Its end of the socket is closed by exec. */
			close(sync[1]);
			ASSERT_EQ(0, read(sync[0], &byte, 1));
		} else if (way == 4) {
			ASSERT_TRUE(probe_write_file(DRIVER "/unbind",
						     self->name));
		}
		if (way != 4)
			kill(pid, SIGKILL);
		if (way == 3)
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		EXPECT_FALSE(probe_bus_master(self->edu.path));
		if (way == 4)
			kill(pid, SIGKILL);
		close(sync[0]);
		close(sync[1]);
	}
}

/* ---- held by one process at a time ---- */

TEST_F(device, registers_of_one_process_keep_others_from_attaching)
{
	Handle region, copy;

	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	IN_CHILD {
		EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
		EXPECT_RC(rcInvalidOperation,
			  KnIommuDetachDevice(self->edu.bdf));
	}
	/* Not the holder itself. */
	EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnHandleCopy(region, 0, NONE, &copy));
	EXPECT_OK(KnHandleClose(region));
	IN_CHILD {
		EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
	}
	EXPECT_OK(KnHandleClose(copy));
	IN_CHILD {
		EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	}
}

TEST_F(device, attachment_of_one_process_keeps_others_from_its_registers)
{
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	IN_CHILD {
		Handle out = 77;

		EXPECT_RC(rcBusy,
			  KnRegisterPhyMem(self->edu.bar, PAGE, 0, &out));
		EXPECT_EQ(NONE, out);
	}
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	IN_CHILD {
		Handle region;

		EXPECT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
	}
}

TEST_F(device, is_attachable_at_once_after_each_death_of_its_holder)
{
	for (int round = 0; round < 10; round++) {
		int sync[2];
		pid_t pid;

		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			struct begun b;

			ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
			begun_open(&b, MiB(1), NONE);
			ASSERT_OK(edu_map_registers(&self->edu));
			probe_signal(sync[1]);
			if (round & 1)
				_exit(0);
			pause();
		}
		probe_await(sync[0]);
		kill(pid, SIGKILL);
		/* The very next call, while the death is under way. */
		if (round & 2)
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		for (;;) {
			Retcode rc = KnIommuAttachDevice(self->edu.bdf);

			if (rc == rcOk)
				break;
			/* Not dead yet: only who was waited for is. */
			ASSERT_EQ(0, round & 2);
			ASSERT_RC(rcBusy, rc);
		}
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
		if (!(round & 2))
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		close(sync[0]);
		close(sync[1]);
	}
}

/* A region is inherited, and holds its device in the name of the process that registered it. */
TEST_F_TIMEOUT(device, registers_that_outlive_their_process_keep_the_device, 240)
{
	int ready[2], over[2];
	pid_t pid, waiter;
	Handle region;
	time_t killed;
	int status;

	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(over, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &region));
		if (!test_fork()) {
			close(over[1]);
			probe_signal(ready[1]);
			probe_await(over[0]);
			_exit(0);
		}
		_exit(0);
	}
	probe_await(ready[0]);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));

	/* Who waits for the device can be killed. */
	waiter = test_fork();
	if (!waiter) {
		KnIommuAttachDevice(self->edu.bdf);
		_exit(1);
	}
	usleep(300 * 1000);
	killed = time(NULL);
	ASSERT_EQ(0, kill(waiter, SIGKILL));
	ASSERT_EQ(waiter, waitpid(waiter, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_LT(time(NULL) - killed, 8); /* of ten that it would wait */

	EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
	EXPECT_RC(rcBusy, KnRegisterPhyMem(self->edu.bar + PAGE, PAGE, 0, &region));
	EXPECT_TRUE(netlink_why(self->edu.bdf) & 1u << KOSDMA_NL_OBSTACLE_HELD);
	probe_signal(over[1]);
	EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

/* ---- reset ---- */

/*
 * QEMU's nvme controller, which has a function level reset; an edu has none.
 * No other is touched: there may be data on it.
 */
struct nvme {
	char path[64];
	uint16_t bdf;
	uint64_t bar;
	IoMemHandles handles;
	void *regs;
};

enum {
	NVME_BAR_SIZE = 0x4000,
	NVME_CC = 0x14, /* bit 0: enable */
	NVME_CSTS = 0x1c, /* bit 0: ready */
	NVME_AQA = 0x24,
	NVME_ASQ = 0x28,
	NVME_ACQ = 0x30,
};

static uint64_t attribute_value(const char *path, const char *name)
{
	FILE *f = fopen(pci_attribute(path, name), "re");
	unsigned long long value = 0;

	if (f && fscanf(f, "%llx", &value) != 1)
		value = 0;
	if (f)
		fclose(f);
	return value;
}

static void nvme_require(struct nvme *nvme)
{
	struct dirent **names;
	int nr = scandir("/sys/bus/pci/devices", &names, NULL, alphasort);
	bool found = false;

	for (int i = 0; i < nr && !found; i++) {
		unsigned int seg, bus, dev, fn;
		char driver[64];

		snprintf(nvme->path, sizeof(nvme->path),
			 "/sys/bus/pci/devices/%.16s", names[i]->d_name);
		if (sscanf(names[i]->d_name, "%x:%x:%x.%x", &seg, &bus, &dev,
			   &fn) != 4 || seg ||
		    attribute_value(nvme->path, "vendor") != 0x1b36 ||
		    attribute_value(nvme->path, "device") != 0x0010)
			continue;
		probe_driver(nvme->path, driver);
		found = !driver[0] || !strcmp(driver, "kosdma");
		nvme->bdf = bus << 8 | dev << 3 | fn;
		nvme->bar = attribute_value(nvme->path, "resource");
	}
	if (!found)
		SKIP("needs an nvme controller of QEMU's, without driver");
	KnIoMemHandlesClear(&nvme->handles);
}

static void nvme_map(struct nvme *nvme)
{
	ASSERT_OK(KnRegisterPhyMem(nvme->bar, NVME_BAR_SIZE, 0,
				   &nvme->handles.region));
	ASSERT_OK(KnIoMapMem(nvme->handles.region, VMM_READ_WRITE, 0,
			     &nvme->regs, &nvme->handles.mapping));
}

static uint32_t nvme_read(struct nvme *nvme, uint32_t reg)
{
	return IoReadMmReg32((char *)nvme->regs + reg);
}

static void nvme_write(struct nvme *nvme, uint32_t reg, uint32_t value)
{
	IoWriteMmReg32((char *)nvme->regs + reg, value);
}

/* As after power on. */
static void expect_nvme_reset(struct nvme *nvme)
{
	EXPECT_EQ(0, nvme_read(nvme, NVME_CC) & 1);
	EXPECT_EQ(0, nvme_read(nvme, NVME_CSTS) & 1);
}

static void nvme_enable(struct nvme *nvme)
{
	struct begun b;

	begun_open(&b, PAGES(2), NONE);
	ASSERT_NE(0, b.addr);
	nvme_write(nvme, NVME_AQA, 0x001f001f);
	nvme_write(nvme, NVME_ASQ, b.addr);
	nvme_write(nvme, NVME_ASQ + 4, b.addr >> 32);
	nvme_write(nvme, NVME_ACQ, b.addr + PAGE);
	nvme_write(nvme, NVME_ACQ + 4, (b.addr + PAGE) >> 32);
	nvme_write(nvme, NVME_CC, 0x00460001);
	for (int i = 0; !(nvme_read(nvme, NVME_CSTS) & 1); i++) {
		ASSERT_LT(i, 200);
		usleep(10 * 1000);
	}
}

/* What one owner has set up is no other's. */
TEST(device_that_can_be_reset_is_as_new_for_each_owner)
{
	struct nvme nvme;

	probe_require_module();
	nvme_require(&nvme);
	/* It ends by a release, by a regular exit, and by a kill. */
	for (int how = 0; how < 3; how++) {
		int sync[2];
		pid_t pid;

		test_context("way %d", how);
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			ASSERT_OK(KnIommuAttachDevice(nvme.bdf));
			nvme_map(&nvme);
			expect_nvme_reset(&nvme);
			nvme_enable(&nvme);
			/* Attach and detach do not reset it: it is held. */
			ASSERT_OK(KnIommuDetachDevice(nvme.bdf));
			EXPECT_EQ(1, nvme_read(&nvme, NVME_CC) & 1);
			ASSERT_OK(KnIommuAttachDevice(nvme.bdf));
			EXPECT_EQ(1, nvme_read(&nvme, NVME_CC) & 1);
			if (!how) {
				EXPECT_OK(KnIoMemHandlesClose(&nvme.handles));
				EXPECT_OK(KnIommuDetachDevice(nvme.bdf));
				/* The next one holds it anew. */
				nvme_map(&nvme);
				expect_nvme_reset(&nvme);
			}
			probe_signal(sync[1]);
			if (how == 2)
				pause();
			test_child_exit();
		}
		probe_await(sync[0]);
		close(sync[0]);
		close(sync[1]);
		if (how == 2) {
			kill(pid, SIGKILL);
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		} else {
			test_wait(pid);
		}
		/* By the attach of a new owner at the latest. */
		IN_CHILD {
			ASSERT_OK(KnIommuAttachDevice(nvme.bdf));
			nvme_map(&nvme);
			expect_nvme_reset(&nvme);
			EXPECT_TRUE(probe_memory_decode(nvme.path));
		}
		EXPECT_FALSE(probe_bus_master(nvme.path));
	}
	pci_make_driverless(nvme.path);
}

TEST_F(device, that_cannot_be_reset_is_attached_all_the_same)
{
	if (!access(pci_attribute(self->edu.path, "reset_method"), F_OK))
		SKIP("this edu can be reset by its bus");
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

/* ---- a process is its address space ---- */

static void *attach_thread(void *arg)
{
	return (void *)(intptr_t)KnIommuAttachDevice(*(uint16_t *)arg);
}

TEST_F(device, threads_of_a_process_share_it)
{
	pthread_t thread;
	void *rc;

	ASSERT_EQ(0, pthread_create(&thread, NULL, attach_thread,
				    &self->edu.bdf));
	ASSERT_EQ(0, pthread_join(thread, &rc));
	ASSERT_RC(rcOk, (intptr_t)rc);
	/* The thread is gone, the process has it. */
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	EXPECT_RC(rcBusy, KnIommuAttachDevice(self->edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

static Retcode vfork_rc;

TEST_F(device, vfork_child_is_the_same_process)
{
	pid_t pid;
	int status;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	pid = vfork();
	if (!pid) {
		vfork_rc = KnIommuDetachDevice(self->edu.bdf);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_RC(rcOk, vfork_rc);
	/* Its end is not the process's. */
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	pid = vfork();
	if (!pid)
		_exit(0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(probe_bus_master(self->edu.path));
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

/* ---- the driver goes ---- */

TEST_F(device, unbinding_takes_it_from_its_holder)
{
	struct begun b;
	Handle out;

	pci_make_bound(self->edu.path, "kosdma");
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_OK(edu_map_registers(&self->edu));
	begun_open(&b, PAGE, NONE);
	EXPECT_EQ(0, probe_read(self->edu.regs));

	ASSERT_TRUE(probe_write_file(DRIVER "/unbind", self->name));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
	EXPECT_EQ(SIGBUS, probe_read(self->edu.regs));
	EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(self->edu.bdf));
	EXPECT_RC(rcInvalidOperation,
		  KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	edu_unmap_registers(&self->edu);

	/* Bound again, it works again, in the same domain. */
	pci_make_bound(self->edu.path, "kosdma");
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_OK(edu_map_registers(&self->edu));
	EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + 64, b.mem + 64));
	edu_unmap_registers(&self->edu);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	begun_close(&b);

	/* A region of the old binding is of no use. */
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &out));
	ASSERT_TRUE(probe_write_file(DRIVER "/unbind", self->name));
	{
		Handle mapping = 77;
		void *addr = &mapping;

		EXPECT_RC(rcDeviceNotFound,
			  KnIoMapMem(out, VMM_FLAG_READ, 0, &addr, &mapping));
		EXPECT_NULL(addr);
		EXPECT_EQ(NONE, mapping);
	}
	EXPECT_OK(KnHandleClose(out));
}

static volatile uint32_t last_read;

static void registers_are_gone(int sig)
{
	EXPECT_EQ(SIGBUS, sig);
	EXPECT_EQ(0x010000ed, last_read);
	test_child_exit();
}

/* A register reads as what it is, and then not at all: never as all ones. */
TEST_F(device, register_loop_ends_with_SIGBUS_when_the_device_is_removed)
{
	for (int round = 0; round < 4; round++) {
		int sync[2];
		pid_t pid;

		test_context("round %d", round);
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			signal(SIGBUS, registers_are_gone);
			ASSERT_OK(edu_map_registers(&self->edu));
			last_read = edu_read(&self->edu, EDU_REG_ID);
			probe_signal(sync[1]);
			while (last_read == 0x010000ed)
				last_read = edu_read(&self->edu, EDU_REG_ID);
			EXPECT_EQ(0x010000ed, last_read);
			test_child_exit();
		}
		probe_await(sync[0]);
		usleep(round * 5 * 1000);
		ASSERT_TRUE(probe_write_file(pci_attribute(self->edu.path, "remove"), "1"));
		test_wait(pid);
		ASSERT_TRUE(probe_write_file("/sys/bus/pci/rescan", "1"));
		ASSERT_TRUE(edu_find(&self->edu, 0));
		close(sync[0]);
		close(sync[1]);
	}
}

TEST_F(device, binding_and_unbinding_many_times_leaves_nothing)
{
	long before = 0;

	for (int i = 0; i < 60; i++) {
		if (i == 10)
			before = probe_free_memory();
		pci_make_bound(self->edu.path, "kosdma");
		if (i % 3 == 0) {
			ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
			if (i & 1)
				ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
		}
		pci_make_driverless(self->edu.path);
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(2)));
}

TEST_HARNESS_MAIN
