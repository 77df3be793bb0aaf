// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups: functions that an IOMMU cannot tell apart go to one process, and to
 * one domain.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/machine.h"
#include "lib/netlink.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define DRIVER "/sys/bus/pci/drivers/kosdma"
/* A driver of the kernel's that does DMA, for a device that needs no module. */
#define KERNEL_DRIVER "virtio-pci"
/* One that hands the DMA of a whole group to a process. */
#define OTHER_DRIVER "vfio-pci"

#define BIT(name) (1U << KOSDMA_NL_OBSTACLE_##name)

FIXTURE(group)
{
	struct edu one, two;
	/* A third member, which is no edu; "" if there is none. */
	char third[64];
	char members[PATH_MAX];
};

static bool group_of(const struct edu *edu, char path[PATH_MAX])
{
	return realpath(pci_attribute(edu->path, "iommu_group/devices"), path);
}

static bool is_endpoint(const char *path)
{
	FILE *f = fopen(pci_attribute(path, "class"), "re");
	unsigned int class;
	bool is = f && fscanf(f, "%x", &class) == 1 && class >> 16 != 6;

	if (f)
		fclose(f);
	return is;
}

/* What else there is gets no driver. */
static void find_third(struct fixture_data_group *self)
{
	DIR *dir = opendir(self->members);
	struct dirent *entry;

	ASSERT_NOT_NULL(dir);
	while ((entry = readdir(dir))) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.16s",
			 entry->d_name);
		if (entry->d_name[0] == '.' || !is_endpoint(path) ||
		    !strcmp(path, self->one.path) ||
		    !strcmp(path, self->two.path))
			continue;
		pci_make_driverless(path);
		snprintf(self->third, sizeof(self->third), "%s", path);
	}
	closedir(dir);
}

FIXTURE_SETUP(group)
{
	struct edu *one = &self->one, *two = &self->two;
	bool found = false;

	probe_require_module();
	for (int i = 0; !found && edu_find(one, i); i++)
		for (int j = i + 1; !found && edu_find(two, j); j++) {
			char other[PATH_MAX];

			found = group_of(one, self->members) &&
				group_of(two, other) &&
				!strcmp(self->members, other);
		}
	if (!found)
		SKIP("needs an IOMMU group with two edu devices");
	find_third(self);
	pci_make_bound(one->path, "kosdma");
	pci_make_bound(two->path, "kosdma");
}

FIXTURE_TEARDOWN(group)
{
	pci_make_driverless(self->one.path);
	pci_make_driverless(self->two.path);
	if (self->third[0])
		pci_make_driverless(self->third);
}

static Retcode attach(const struct edu *edu, Handle domain)
{
	return domain == NONE ? KnIommuAttachDevice(edu->bdf) :
				KnIommuAttachDeviceToDomain(edu->bdf, domain);
}

static Retcode detach(const struct edu *edu, Handle domain)
{
	return domain == NONE ?
		       KnIommuDetachDevice(edu->bdf) :
		       KnIommuDetachDeviceFromDomain(edu->bdf, domain);
}

static void own_both(struct fixture_data_group *self, Handle domain,
		     struct begun *b)
{
	ASSERT_OK(attach(&self->one, domain));
	ASSERT_OK(attach(&self->two, domain));
	ASSERT_OK(edu_map_registers(&self->one));
	ASSERT_OK(edu_map_registers(&self->two));
	begun_open(b, PAGES(2), domain);
	/* Nothing resets an edu: a copy of a former owner's goes on inside. */
	ASSERT_TRUE(edu_copy_wait(&self->one));
	ASSERT_TRUE(edu_copy_wait(&self->two));
}

static void disown_registers(struct fixture_data_group *self)
{
	edu_unmap_registers(&self->one);
	edu_unmap_registers(&self->two);
}

static void expect_landing(struct edu *edu, struct begun *b, size_t offset)
{
	EXPECT_TRUE(probe_lands(edu, b, b->addr + offset, b->mem + offset));
}

/* ---- one domain ---- */

TEST_F(group, members_share_a_domain_and_both_reach_it)
{
	for (int created = 0; created < 2; created++) {
		Handle domain = created ? domain_create() : NONE;
		struct begun b;

		test_context(created ? "created domain" : "automatic domain");
		own_both(self, domain, &b);
		expect_landing(&self->one, &b, PAGE);
		expect_landing(&self->two, &b, PAGE + 64);
		disown_registers(self);
		EXPECT_OK(detach(&self->one, domain));
		EXPECT_OK(detach(&self->two, domain));
		begun_close(&b);
		if (created)
			EXPECT_OK(KnHandleClose(domain));
	}
}

TEST_F(group, members_are_attached_one_by_one)
{
	struct begun b;

	begun_open(&b, PAGE, NONE);
	ASSERT_OK(edu_map_registers(&self->two));
	ASSERT_OK(attach(&self->one, NONE));
	b.addr = access_addr(b.access);
	EXPECT_TRUE(probe_bus_master(self->one.path));
	EXPECT_FALSE(probe_bus_master(self->two.path));
	EXPECT_RC(rcInvalidOperation, detach(&self->two, NONE));
	EXPECT_FALSE(probe_lands(&self->two, &b, b.addr + 64, b.mem + 64));
	ASSERT_OK(attach(&self->two, NONE));
	EXPECT_EQ(b.addr, access_addr(b.access));
	expect_landing(&self->two, &b, 64);
	EXPECT_RC(rcBusy, attach(&self->one, NONE));
	EXPECT_RC(rcBusy, attach(&self->two, NONE));
	edu_unmap_registers(&self->two);
	begun_close(&b);
}

TEST_F(group, another_domain_is_rcBusy_for_a_second_member)
{
	Handle a = domain_create(), b = domain_create();

	ASSERT_OK(attach(&self->one, a));
	EXPECT_RC(rcBusy, attach(&self->two, b));
	EXPECT_RC(rcBusy, attach(&self->two, NONE));
	EXPECT_FALSE(probe_bus_master(self->two.path));
	EXPECT_TRUE(probe_bus_master(self->one.path));
	ASSERT_OK(attach(&self->two, a));
	EXPECT_OK(detach(&self->one, a));
	EXPECT_RC(rcBusy, attach(&self->one, b));
	EXPECT_OK(detach(&self->two, a));
	/* None is attached: they may move, together. */
	EXPECT_OK(attach(&self->one, b));
	EXPECT_RC(rcBusy, attach(&self->two, a));
	EXPECT_OK(attach(&self->two, b));
	EXPECT_OK(KnHandleClose(b));
	EXPECT_FALSE(probe_bus_master(self->one.path));
	EXPECT_FALSE(probe_bus_master(self->two.path));
	EXPECT_OK(attach(&self->two, a));
	EXPECT_OK(KnHandleClose(a));
}

/* Whichever goes first, the other goes on, with its addresses. */
TEST_F(group, members_are_detached_in_any_order)
{
	for (int order = 0; order < 2; order++) {
		struct edu *first = order ? &self->two : &self->one;
		struct edu *last = order ? &self->one : &self->two;
		Handle domain = domain_create();
		struct begun b;

		test_context(order ? "the last first" : "the first first");
		own_both(self, domain, &b);
		EXPECT_OK(detach(first, domain));
		EXPECT_FALSE(probe_bus_master(first->path));
		EXPECT_FALSE(probe_lands(first, &b, b.addr + PAGE,
					 b.mem + PAGE));
		expect_landing(last, &b, PAGE);
		ASSERT_OK(attach(first, domain));
		expect_landing(first, &b, PAGE + 32);
		EXPECT_OK(detach(last, domain));
		expect_landing(first, &b, PAGE + 64);
		EXPECT_OK(detach(first, domain));
		EXPECT_FALSE(probe_lands(first, &b, b.addr + PAGE,
					 b.mem + PAGE));
		EXPECT_FALSE(probe_lands(last, &b, b.addr + PAGE,
					 b.mem + PAGE));
		disown_registers(self);
		begun_close(&b);
		EXPECT_OK(KnHandleClose(domain));
	}
}

/* ---- one process ---- */

TEST_F(group, a_sibling_is_rcBusy_for_another_process)
{
	Handle region;

	/* 0: one is attached; 1: only its registers are registered */
	for (int registers = 0; registers < 2; registers++) {
		test_context(registers ? "registers" : "attached");
		if (registers)
			ASSERT_OK(KnRegisterPhyMem(self->one.bar, PAGE, 0,
						   &region));
		else
			ASSERT_OK(attach(&self->one, NONE));
		IN_CHILD {
			Handle theirs = domain_create(), out = 77;

			EXPECT_RC(rcBusy, attach(&self->two, NONE));
			EXPECT_RC(rcBusy, attach(&self->two, theirs));
			EXPECT_RC(rcBusy, KnRegisterPhyMem(self->two.bar, PAGE,
							   0, &out));
			EXPECT_EQ(NONE, out);
		}
		if (registers)
			EXPECT_OK(KnHandleClose(region));
		else
			EXPECT_OK(detach(&self->one, NONE));
		IN_CHILD {
			EXPECT_OK(attach(&self->two, NONE));
			EXPECT_OK(KnRegisterPhyMem(self->two.bar, PAGE, 0,
						   &region));
		}
	}
}

/* The library bound it for the attach; that a sibling is held does not need it bound. */
TEST_F(group, a_refused_attach_gives_an_unbound_member_back)
{
	char driver[64];

	ASSERT_OK(attach(&self->one, NONE));
	pci_make_driverless(self->two.path);
	IN_CHILD {
		EXPECT_RC(rcBusy, attach(&self->two, NONE));
		probe_driver(self->two.path, driver);
		EXPECT_STREQ("", driver);
	}
	probe_driver(self->two.path, driver);
	EXPECT_STREQ("", driver);
	pci_make_bound(self->two.path, "kosdma");
	EXPECT_OK(detach(&self->one, NONE));
}

TEST_F(group, death_of_its_process_frees_all_members)
{
	for (int round = 0; round < 4; round++) {
		siginfo_t info;
		struct begun b;
		int sync[2];
		pid_t pid;

		test_context("round %d", round);
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid) {
			own_both(self, round & 1 ? domain_create() : NONE, &b);
			edu_copy_out_start(&self->one, 0, b.addr, 256);
			edu_copy_out_start(&self->two, 0, b.addr + PAGE, 256);
			probe_signal(sync[1]);
			pause();
		}
		probe_await(sync[0]);
		close(sync[0]);
		close(sync[1]);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
		EXPECT_FALSE(probe_bus_master(self->one.path));
		EXPECT_FALSE(probe_bus_master(self->two.path));
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		IN_CHILD {
			own_both(self, NONE, &b);
			expect_landing(&self->one, &b, PAGE);
			expect_landing(&self->two, &b, PAGE + 64);
		}
	}
}

/* ---- drivers ---- */

static short polled(Handle h)
{
	struct pollfd pfd = { .fd = h, .events = POLLPRI };

	ASSERT_GE(poll(&pfd, 1, 0), 0);
	return pfd.revents;
}

TEST_F(group, unbinding_one_leaves_its_sibling_attached)
{
	for (int order = 0; order < 2; order++) {
		struct edu *gone = order ? &self->two : &self->one;
		struct edu *left = order ? &self->one : &self->two;
		struct begun b;

		test_context(order ? "the last" : "the first");
		own_both(self, NONE, &b);
		ASSERT_TRUE(probe_write_file(DRIVER "/unbind",
					     pci_name(gone->path)));
		EXPECT_EQ(POLLPRI, polled(b.access));
		EXPECT_FALSE(probe_bus_master(gone->path));
		EXPECT_EQ(SIGBUS, probe_read(gone->regs));
		EXPECT_TRUE(probe_bus_master(left->path));
		EXPECT_EQ(0, polled(left->handles.region));
		expect_landing(left, &b, PAGE);
		edu_unmap_registers(gone);
		/* Still one process's: the other is attached. */
		pci_make_bound(gone->path, "kosdma");
		IN_CHILD {
			EXPECT_RC(rcBusy, attach(gone, NONE));
		}
		ASSERT_OK(attach(gone, NONE));
		EXPECT_EQ(0, polled(b.access));
		ASSERT_OK(edu_map_registers(gone));
		expect_landing(gone, &b, PAGE + 64);
		disown_registers(self);
		EXPECT_OK(detach(&self->one, NONE));
		EXPECT_OK(detach(&self->two, NONE));
		begun_close(&b);
	}
}

/* A member without driver, or one that kosdma has and nobody wants. */
TEST_F(group, members_that_nobody_uses_are_in_nobodys_way)
{
	pci_make_driverless(self->two.path);
	EXPECT_OK(attach(&self->one, NONE));
	EXPECT_OK(detach(&self->one, NONE));
	/* The library binds it when it is wanted. */
	EXPECT_OK(attach(&self->two, NONE));
	EXPECT_OK(attach(&self->one, NONE));
}

static void require_third(struct fixture_data_group *self)
{
	char driver[64];

	if (!self->third[0])
		SKIP("needs a third member, for %s", KERNEL_DRIVER);
	if (access("/sys/bus/pci/drivers/" KERNEL_DRIVER, F_OK) &&
	    !pci_modprobe("virtio_pci"))
		SKIP("needs the kernel's driver %s", KERNEL_DRIVER);
	/* Loading the driver has bound it. */
	probe_driver(self->third, driver);
	if (driver[0])
		pci_make_driverless(self->third);
}

TEST_F(group, a_member_of_a_kernel_driver_is_rcBusy_and_a_line_names_both)
{
	int log = pci_log_open();
	Handle domain, out = 77;

	require_third(self);
	pci_make_bound(self->third, KERNEL_DRIVER);
	domain = domain_create();
	EXPECT_RC(rcBusy, attach(&self->one, NONE));
	/* Nobody else, kosdma itself least of all. */
	ASSERT_TRUE(pci_log_has(log, KERNEL_DRIVER, pci_name(self->third)));
	EXPECT_RC(rcBusy, attach(&self->two, domain));
	EXPECT_RC(rcBusy, KnRegisterPhyMem(self->one.bar, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_FALSE(pci_log_has(log, "driver kosdma", ""));
	EXPECT_FALSE(probe_bus_master(self->one.path));
	EXPECT_FALSE(probe_bus_master(self->two.path));
	/* Without it, all is well. */
	pci_make_driverless(self->third);
	EXPECT_OK(attach(&self->one, NONE));
	EXPECT_OK(detach(&self->one, NONE));
	EXPECT_OK(attach(&self->two, domain));
	EXPECT_OK(KnHandleClose(domain));
}

TEST_F(group, a_kernel_driver_gets_no_member_while_another_is_held)
{
	char driver[64];
	struct begun b;

	require_third(self);
	own_both(self, NONE, &b);
	ASSERT_TRUE(probe_write_file(pci_attribute(self->third,
						   "driver_override"),
				     KERNEL_DRIVER));
	probe_write_file("/sys/bus/pci/drivers_probe", pci_name(self->third));
	probe_driver(self->third, driver);
	EXPECT_STREQ("", driver);
	expect_landing(&self->one, &b, PAGE);
	disown_registers(self);
	EXPECT_OK(detach(&self->one, NONE));
	EXPECT_OK(detach(&self->two, NONE));
	pci_make_bound(self->third, KERNEL_DRIVER);
	EXPECT_RC(rcBusy, attach(&self->one, NONE));
	begun_close(&b);
}

/* The group of a member is VFIO's from the time when it is in a container. */
static bool vfio_take(const char *path, int fds[2])
{
	char link[PATH_MAX], group[32];

	ASSERT_TRUE(realpath(pci_attribute(path, "iommu_group"), link));
	snprintf(group, sizeof(group), "/dev/vfio/%.16s", strrchr(link, '/') + 1);
	fds[0] = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	fds[1] = open(group, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fds[0], 0);
	ASSERT_GE(fds[1], 0);
	return !ioctl(fds[1], VFIO_GROUP_SET_CONTAINER, &fds[0]);
}

static void vfio_give_back(const int fds[2])
{
	close(fds[1]);
	close(fds[0]);
}

static void require_vfio(struct fixture_data_group *self)
{
	require_third(self);
	if (!pci_modprobe(OTHER_DRIVER) || !pci_modprobe("vfio_iommu_type1"))
		SKIP("needs the kernel's driver %s", OTHER_DRIVER);
	if (access("/dev/vfio/vfio", F_OK))
		SKIP("needs containers of VFIO");
	pci_make_bound(self->third, OTHER_DRIVER);
}

TEST_F(group, a_member_that_vfio_has_is_rcBusy_and_a_line_names_it)
{
	static const char owned[] =
		"another owner has its group's DMA, and driver " OTHER_DRIVER;
	int log = probe_log_open(), fds[2];
	Handle out = 77;

	require_vfio(self);
	/* To be bound to that driver is nothing yet. */
	EXPECT_EQ(0, netlink_why(self->one.bdf));
	EXPECT_OK(attach(&self->one, NONE));
	EXPECT_OK(detach(&self->one, NONE));
	ASSERT_EQ(0, probe_log_count(log, "cannot be attached", "", ""));

	ASSERT_TRUE(vfio_take(self->third, fds));
	EXPECT_EQ(BIT(OWNER), netlink_why(self->one.bdf));
	EXPECT_RC(rcBusy, attach(&self->one, NONE));
	EXPECT_EQ(1, probe_log_count(log, pci_name(self->one.path), owned,
				     pci_name(self->third)));
	EXPECT_RC(rcBusy, KnRegisterPhyMem(self->two.bar, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	/* Not the edu that kosdma has, nor a bridge. */
	EXPECT_EQ(1, probe_log_count(log, "cannot be attached", "", ""));
	EXPECT_FALSE(probe_bus_master(self->one.path));
	EXPECT_FALSE(probe_bus_master(self->two.path));

	vfio_give_back(fds);
	EXPECT_EQ(0, netlink_why(self->one.bdf));
	EXPECT_OK(attach(&self->one, NONE));
	EXPECT_EQ(0, probe_log_count(log, "cannot be attached", "", ""));
	/* And it is ours alone. */
	EXPECT_FALSE(vfio_take(self->third, fds));
	vfio_give_back(fds);
	EXPECT_OK(detach(&self->one, NONE));
	EXPECT_TRUE(vfio_take(self->third, fds));
	vfio_give_back(fds);
}

TEST_F(group, refusals_without_end_write_few_lines)
{
	enum { NR = 200 };
	int log = probe_log_open(), lines;

	require_third(self);
	pci_make_bound(self->third, KERNEL_DRIVER);
	for (int i = 0; i < NR; i++)
		ASSERT_RC(rcBusy, attach(&self->one, NONE));
	lines = probe_log_count(log, "cannot be attached", KERNEL_DRIVER,
				pci_name(self->third));
	EXPECT_GE(lines, 1);
	EXPECT_LT(lines, NR / 2);
	/* Whoever comes next wants to be heard: the limit is for five seconds. */
	sleep(6);
}

TEST_HARNESS_MAIN
