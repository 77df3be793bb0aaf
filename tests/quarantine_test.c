// SPDX-License-Identifier: GPL-2.0-only
/*
 * Quarantine: pages that a device may still write when nothing cuts it off are
 * kept, charged and shown, until it is proven quiet. No emulated device refuses
 * to be quiet, so the test build of the module lies about it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define UNQUIET "/sys/module/kosdma/parameters/inject_unquiet"
#define NR_PAGES 16

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[2] = { 0 };

	ASSERT_ERRNO(0, syscall(SYS_capset, &header, none));
}

FIXTURE(quarantine)
{
	struct edu edu;
	long before;
};

static void be_unquiet(bool on)
{
	ASSERT_TRUE(probe_write_file(UNQUIET, on ? "1" : "0"));
}

/* Attached and detached without the lie, so proven quiet. */
static void calm(struct edu *edu)
{
	be_unquiet(false);
	ASSERT_OK(KnIommuAttachDevice(edu->bdf));
	ASSERT_OK(KnIommuDetachDevice(edu->bdf));
}

FIXTURE_SETUP(quarantine)
{
	probe_require_module();
	if (access(UNQUIET, W_OK))
		SKIP("this is not the test build of the module");
	edu_require(&self->edu, 0);
	if (edu_translated(&self->edu))
		SKIP("an IOMMU cuts the device off, quiet or not");
	calm(&self->edu);
	ASSERT_EQ(0, probe_quarantined());
}

FIXTURE_TEARDOWN(quarantine)
{
	calm(&self->edu);
	EXPECT_EQ(0, probe_quarantined());
}

/* Open a buffer for the attached device, as one that it may write. */
static void open_for_device(struct begun *b)
{
	begun_open(b, PAGES(NR_PAGES), INVALID_HANDLE);
	memset((void *)b->mem, 0x5a, b->size);
}

TEST_F(quarantine, pages_of_an_unquiet_device_are_kept_until_it_is_quiet)
{
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	open_for_device(&b);
	be_unquiet(true);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	/* Still open: its owner has the pages, nobody else can get them. */
	EXPECT_EQ(0, probe_quarantined());
	begun_close(&b);
	EXPECT_EQ(NR_PAGES, probe_quarantined());
	calm(&self->edu);
	EXPECT_EQ(0, probe_quarantined());
}

TEST_F(quarantine, what_was_closed_before_the_detach_is_kept)
{
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	open_for_device(&b);
	begun_close(&b);
	/* It lingers in the domain. */
	EXPECT_EQ(0, probe_quarantined());
	be_unquiet(true);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_EQ(NR_PAGES, probe_quarantined());
}

TEST_F(quarantine, what_no_device_could_reach_is_not_kept)
{
	Handle buffer, access;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	be_unquiet(true);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	buffer = buffer_create(0, PAGES(NR_PAGES), 0);
	access = access_begin(buffer);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
	EXPECT_EQ(0, probe_quarantined());
}

TEST_F(quarantine, pages_of_a_killed_process_are_kept_and_stay_charged)
{
	const struct rlimit limit = { PAGES(NR_PAGES), PAGES(NR_PAGES) };
	int sync[2];
	pid_t pid;

	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		struct begun b;

		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		open_for_device(&b);
		probe_signal(sync[1]);
		pause();
	}
	probe_await(sync[0]);
	be_unquiet(true);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	for (int i = 0; i < 500 && probe_quarantined() != NR_PAGES; i++)
		usleep(10 * 1000);
	EXPECT_EQ(NR_PAGES, probe_quarantined());
	/* Charged to root, whom nothing but a capability exempts. */
	IN_CHILD {
		Handle out;

		ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
		drop_capabilities();
		EXPECT_RC(rcQuotaExceeded, KnIoDmaCreate(0, PAGE, 0, &out));
	}
	calm(&self->edu);
	EXPECT_EQ(0, probe_quarantined());
	IN_CHILD {
		Handle out;

		ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
		drop_capabilities();
		EXPECT_OK(KnIoDmaCreate(0, PAGE, 0, &out));
	}
}

/* The fault of an owner is nobody else's: another domain's pages are its own matter. */
TEST_F(quarantine, a_later_owner_of_the_device_frees_them_by_resetting_it)
{
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	open_for_device(&b);
	begun_close(&b);
	be_unquiet(true);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	EXPECT_EQ(NR_PAGES, probe_quarantined());
	be_unquiet(false);
	IN_CHILD {
		ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
		ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
	EXPECT_EQ(0, probe_quarantined());
}

/* That one of two is quiet proves nothing about the other. */
TEST_F(quarantine, pages_of_two_unquiet_devices_wait_for_both)
{
	struct edu second;
	struct begun b;

	edu_require(&second, 1);
	calm(&second);
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuAttachDevice(second.bdf));
	open_for_device(&b);
	be_unquiet(true);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(second.bdf));
	/* While its pages are open, the first proves to be quiet. */
	calm(&self->edu);
	begun_close(&b);
	EXPECT_EQ(NR_PAGES, probe_quarantined());
	calm(&self->edu);
	EXPECT_EQ(NR_PAGES, probe_quarantined());
	calm(&second);
	EXPECT_EQ(0, probe_quarantined());
}

/* Unbound while suspect, and then taken out: nobody is told but the bus. */
TEST_F(quarantine, unbinding_does_not_free_them_and_binding_again_can)
{
	const char *name = strrchr(self->edu.path, '/') + 1;
	struct begun b;

	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	open_for_device(&b);
	begun_close(&b);
	be_unquiet(true);
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_TRUE(probe_write_file("/sys/bus/pci/drivers/kosdma/unbind", name));
	EXPECT_EQ(NR_PAGES, probe_quarantined());
	/* The teardown binds and attaches it again. */
}

TEST_HARNESS_MAIN
