// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices that are taken away: unplugged, removed, unbound from kosdma, or
 * suspended. Whoever had it is told, nothing of it can be used, all else goes
 * on, and it can come back.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/machine.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define DRIVER "/sys/bus/pci/drivers/kosdma"
#define PROBE "/sys/bus/pci/drivers_probe"

/* Where tests/vm/check leaves a slot free: the root port "rp". */
#define PORT "/sys/bus/pci/devices/0000:00:13.0"

/* ---- the ways ---- */

/* The edu in the slot, if there is one. */
static bool find_hot(struct edu *edu)
{
	for (int n = 0; edu_find(edu, n); n++) {
		char path[PATH_MAX];

		if (realpath(edu->path, path) &&
		    strstr(path, strrchr(PORT, '/')))
			return true;
	}
	return false;
}

/* It can be seen some time before the kernel lets drivers have it. */
static bool slot_is_full(void *arg)
{
	struct edu *edu = arg;
	char driver[64];

	bool ready;

	if (!find_hot(edu))
		return false;
	probe_write_file(pci_attribute(edu->path, "driver_override"), "kosdma");
	probe_write_file(PROBE, pci_name(edu->path));
	probe_driver(edu->path, driver);
	if (strcmp(driver, "kosdma"))
		return false;
	/* Behind a virtio IOMMU it has no group before it has had a driver. */
	ready = edu_translated(edu) == machine_translates() && edu->bar;
	/* A thread that attaches it may bind it again at once. */
	probe_write_file(pci_attribute(edu->path, "driver_override"), "\n");
	probe_write_file(DRIVER "/unbind", pci_name(edu->path));
	return ready;
}

/* The kernel finds a function for a moment after its entry in sysfs has gone. */
static bool is_away(void *arg)
{
	const struct edu *edu = arg;
	unsigned int bdf;
	bool found = false;
	char line[1024];
	FILE *f;

	if (pci_exists(edu->path))
		return false;
	f = fopen("/proc/bus/pci/devices", "re");
	ASSERT_NOT_NULL(f);
	while (fgets(line, sizeof(line), f))
		found |= sscanf(line, "%x", &bdf) == 1 && bdf == edu->bdf;
	fclose(f);
	return !found;
}

/* The answer to @command must be empty; QEMU may ask for patience. */
static void monitor_do(const char *command)
{
	const char *answer;

	for (int tries = 0; *(answer = monitor_command("%s", command));
	     tries++) {
		if (strstr(answer, "Bus 'rp' not found"))
			SKIP("%s: %s", command, answer);
		if (tries == 60)
			TEST_FAILED_(true, "%s: %s", command, answer);
		usleep(250 * 1000);
	}
}

/* Handles stay as they are; registers may have got another address. */
static void plug(struct edu *edu)
{
	struct edu found;

	monitor_do(machine_translates() ?
			   "device_add edu,bus=rp,id=hot" :
			   "device_add edu,bus=rp,id=hot,dma_mask=0xffffffffffffffff");
	ASSERT_TRUE(wait_until(slot_is_full, &found, 30));
	snprintf(edu->path, sizeof(edu->path), "%s", found.path);
	edu->bdf = found.bdf;
	edu->bar = found.bar;
}

static void unplug(struct edu *edu)
{
	monitor_do("device_del hot");
	ASSERT_TRUE(wait_until(is_away, edu, 60));
}

static void find_unplugged(struct edu *edu, struct edu *other)
{
	monitor_require();
	if (!pci_exists(PORT))
		SKIP("needs a root port at %s", pci_name(PORT));
	edu_require(other, 0);
	if (find_hot(edu)) /* of a test that failed */
		unplug(edu);
	memset(edu, 0, sizeof(*edu));
	KnIoMemHandlesClear(&edu->handles);
	plug(edu);
}

static void away(struct edu *edu)
{
	if (find_hot(edu))
		unplug(edu);
}

/* As if unplugged, by the driver core: the device itself is still there. */
static void remove_it(struct edu *edu)
{
	ASSERT_TRUE(probe_write_file(pci_attribute(edu->path, "remove"), "1"));
	ASSERT_TRUE(wait_until(is_away, edu, 10));
}

static void find_again(struct edu *edu)
{
	struct edu found;
	int n = 0;

	do
		ASSERT_TRUE(edu_find(&found, n++));
	while (strcmp(found.path, edu->path));
	edu->bar = found.bar;
}

static void rescan(struct edu *edu)
{
	ASSERT_TRUE(probe_write_file("/sys/bus/pci/rescan", "1"));
	find_again(edu);
}

/* The second, because others expect the first at its place. */
static void find_bound(struct edu *edu, struct edu *other)
{
	edu_require(edu, 1);
	edu_require(other, 0);
	pci_make_bound(edu->path, "kosdma");
}

static void make_driverless(struct edu *edu)
{
	if (!pci_exists(edu->path))
		rescan(edu);
	pci_make_driverless(edu->path);
}

static void unbind_it(struct edu *edu)
{
	ASSERT_TRUE(probe_write_file(DRIVER "/unbind", pci_name(edu->path)));
}

static void bind_it(struct edu *edu)
{
	pci_make_bound(edu->path, "kosdma");
}

#define PM_TEST "/sys/power/pm_test"
#define PM_DELAY "/sys/module/suspend/parameters/pm_test_delay"

static void find_suspended(struct edu *edu, struct edu *other)
{
	if (access(PM_TEST, W_OK))
		SKIP("needs a kernel that can test suspend (CONFIG_PM_SLEEP_DEBUG)");
	if (probe_virtio_iommu())
		SKIP("Linux resets a virtio IOMMU on resume and does not set it up again");
	find_bound(edu, other);
}

/* All but the last steps, and then back: nobody has to wake the guest. */
static void suspend_to(const char *state)
{
	bool done = false;

	ASSERT_TRUE(probe_write_file(PM_DELAY, "0"));
	ASSERT_TRUE(probe_write_file(PM_TEST, "devices"));
	/* A wakeup event that is under way is in its way. */
	for (int tries = 0; tries < 20 && !done; tries++) {
		done = probe_write_file("/sys/power/state", state);
		if (!done)
			usleep(250 * 1000);
	}
	ASSERT_TRUE(probe_write_file(PM_TEST, "none"));
	ASSERT_TRUE(done);
}

static void suspend(struct edu *edu)
{
	static int times;

	(void)edu;
	suspend_to(times++ & 1 ? "mem" : "freeze");
}

static void nothing(struct edu *edu)
{
	(void)edu;
}

/* Above the BARs of what is behind it, a bridge's memory window is nobody's. */
static uint64_t window_of_a_bridge(void)
{
	unsigned long long start, end, flags, found = 0;
	char path[PATH_MAX], line[128], class[16] = "";
	struct dirent *entry;
	DIR *dir = opendir("/sys/bus/pci/devices");
	FILE *f;

	ASSERT_NOT_NULL(dir);
	while (!found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class",
			 entry->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (!fgets(class, sizeof(class), f))
			class[0] = '\0';
		fclose(f);
		if (strncmp(class, "0x0604", 6))
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource",
			 entry->d_name);
		f = fopen(path, "re");
		ASSERT_NOT_NULL(f);
		/* 13: of I/O ports; 14: of memory. */
		for (int i = 0; i < 15 && fgets(line, sizeof(line), f); i++)
			if (i == 14 &&
			    sscanf(line, "%llx %llx %llx", &start, &end,
				   &flags) == 3 &&
			    end > start)
				found = end + 1 - PAGE;
		fclose(f);
	}
	closedir(dir);
	return found;
}

TEST(what_is_behind_a_bridge_can_be_unplugged_and_is_no_raw_range)
{
	Handle region = INVALID_HANDLE;
	uint64_t addr;

	probe_require_module();
	if (geteuid())
		SKIP("needs root, for a range that is in no BAR");
	addr = window_of_a_bridge();
	if (!addr)
		SKIP("needs a PCI bridge with a memory window");
	EXPECT_RC(rcSecurityDisallow,
		  KnRegisterPhyMem(addr, PAGE, 0, &region));
}

FIXTURE(taken)
{
	struct edu edu; /* is taken away */
	struct edu other; /* is not, but for suspend */
};

FIXTURE_VARIANT(taken)
{
	void (*find)(struct edu *edu, struct edu *other);
	void (*take)(struct edu *edu);
	void (*give)(struct edu *edu);
	void (*end)(struct edu *edu);
	bool exists; /* while it is away */
};

FIXTURE_VARIANT_ADD(taken, unbind) {
	.find = find_bound,
	.take = unbind_it,
	.give = bind_it,
	.end = make_driverless,
	.exists = true,
};

FIXTURE_VARIANT_ADD(taken, remove) {
	.find = find_bound,
	.take = remove_it,
	.give = rescan,
	.end = make_driverless,
};

FIXTURE_VARIANT_ADD(taken, suspend) {
	.find = find_suspended,
	.take = suspend,
	.give = nothing,
	.end = make_driverless,
	.exists = true,
};

FIXTURE_VARIANT_ADD(taken, unplug) {
	.find = find_unplugged,
	.take = unplug,
	.give = plug,
	.end = away,
};

FIXTURE_SETUP(taken)
{
	probe_require_module();
	variant->find(&self->edu, &self->other);
}

FIXTURE_TEARDOWN(taken)
{
	variant->end(&self->edu);
}

/* ---- what is seen ---- */

static short polled(Handle h)
{
	struct pollfd pfd = { .fd = h, .events = POLLIN | POLLPRI };

	ASSERT_GE(poll(&pfd, 1, 0), 0);
	return pfd.revents;
}

static int unload(void)
{
	return syscall(SYS_delete_module, "kosdma", O_NONBLOCK) ? errno : 0;
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

/* Attached, its registers mapped, and a buffer begun. */
static void own(struct edu *edu, Handle domain, struct begun *b)
{
	ASSERT_OK(attach(edu, domain));
	ASSERT_OK(edu_map_registers(edu));
	begun_open(b, PAGES(4), domain);
	/* Nothing resets an edu: a copy of a former owner's goes on inside. */
	ASSERT_TRUE(edu_copy_wait(edu));
	EXPECT_TRUE(probe_lands(edu, b, b->addr + PAGE, b->mem + PAGE));
}

static void expect_codes_of_the_gone(struct fixture_data_taken *self,
				     const struct fixture_variant_taken *variant,
				     Handle domain)
{
	Retcode rc = variant->exists ? rcInvalidOperation : rcDeviceNotFound;

	EXPECT_RC(rc, detach(&self->edu, domain));
	EXPECT_RC(rc, KosIommuSetDmaMask(self->edu.bdf, UINT64_MAX));
	if (!variant->exists)
		EXPECT_RC(rcDeviceNotFound, attach(&self->edu, domain));
}

/* The region is open, and can be closed; that is all. */
static void expect_dead_registers(struct edu *edu)
{
	Handle mapping = 77;
	void *addr = &mapping;

	EXPECT_EQ(POLLHUP, polled(edu->handles.region));
	EXPECT_EQ(POLLHUP, polled(edu->handles.mapping));
	EXPECT_EQ(SIGBUS, probe_read(edu->regs));
	EXPECT_EQ(SIGBUS, probe_write((char *)edu->regs + EDU_BAR_SIZE - 1));
	EXPECT_OK(probe_sid(edu->handles.region));
	EXPECT_FALSE(probe_iomem(edu->bar, edu->bar + EDU_BAR_SIZE - 1,
				 "kosdma"));
	EXPECT_OK(KnHandleClose(edu->handles.mapping));
	edu->handles.mapping = INVALID_HANDLE;
	EXPECT_RC(rcDeviceNotFound,
		  KnIoMapMem(edu->handles.region, VMM_FLAG_READ, 0, &addr,
			     &mapping));
	EXPECT_NULL(addr);
	EXPECT_EQ(NONE, mapping);
	edu_unmap_registers(edu);
}

/* Memory is nobody's business but its owner's. */
static void expect_living_buffer(struct begun *b)
{
	Handle again;

	EXPECT_EQ(0, polled(b->buffer));
	EXPECT_EQ(0, polled(b->mapping));
	memset((void *)b->mem, 0x77, b->size);
	EXPECT_EQ(b->size, first_not((void *)b->mem, b->size, 0x77));
	EXPECT_OK(probe_sid(b->access));
	EXPECT_EQ(b->addr, access_addr(b->access));
	again = access_begin(b->buffer);
	EXPECT_OK(KnHandleClose(again));
}

/* ---- tests ---- */

TEST_F(taken, its_owner_is_told_and_has_it_no_more)
{
	/* 0: automatic domain; 1: created */
	for (int created = 0; created < 2; created++) {
		Handle domain = created ? domain_create() : NONE;
		struct begun b;

		test_context(created ? "created domain" : "automatic domain");
		own(&self->edu, domain, &b);
		EXPECT_EQ(0, polled(self->edu.handles.region));
		EXPECT_EQ(0, polled(self->edu.handles.mapping));
		EXPECT_EQ(0, polled(b.access));
		if (created)
			EXPECT_EQ(0, polled(domain));
		memset((void *)b.mem, 0x31, b.size);
		edu_copy_out_start(&self->edu, 0, b.addr, 256);

		variant->take(&self->edu);
		if (variant->exists)
			EXPECT_FALSE(probe_bus_master(self->edu.path));
		EXPECT_EQ(POLLPRI, polled(b.access));
		if (created)
			EXPECT_EQ(POLLPRI, polled(domain));
		expect_codes_of_the_gone(self, variant, domain);
		expect_dead_registers(&self->edu);
		/* The copy that was under way has ended somehow by now. */
		usleep(300 * 1000);
		expect_living_buffer(&b);
		usleep(300 * 1000);
		EXPECT_EQ(b.size, first_not((void *)b.mem, b.size, 0x77));
		EXPECT_EQ(EAGAIN, unload());
		begun_close(&b);
		if (created)
			EXPECT_OK(KnHandleClose(domain));
		variant->give(&self->edu);
	}
}

TEST_F(taken, it_comes_back_to_its_owner)
{
	for (int created = 0; created < 2; created++) {
		Handle domain = created ? domain_create() : NONE;
		struct begun b, late;

		test_context(created ? "created domain" : "automatic domain");
		own(&self->edu, domain, &b);
		for (int round = 0; round < 2; round++) {
			uint64_t addr = b.addr;

			variant->take(&self->edu);
			edu_unmap_registers(&self->edu);
			EXPECT_EQ(POLLPRI, polled(b.access));
			/* Begun while it was away. */
			begun_open(&late, PAGE, domain);
			variant->give(&self->edu);
			EXPECT_EQ(POLLPRI, polled(b.access));

			ASSERT_OK(attach(&self->edu, domain));
			EXPECT_EQ(0, polled(b.access));
			EXPECT_EQ(0, polled(late.access));
			if (created)
				EXPECT_EQ(0, polled(domain));
			EXPECT_EQ(addr, access_addr(b.access));
			late.addr = access_addr(late.access);
			ASSERT_OK(edu_map_registers(&self->edu));
			EXPECT_TRUE(probe_lands(&self->edu, &late,
						addr + PAGE, b.mem + PAGE));
			EXPECT_TRUE(probe_lands(&self->edu, &b, late.addr + 64,
						late.mem + 64));
			begun_close(&late);
		}
		begun_close(&b);
		edu_unmap_registers(&self->edu);
		EXPECT_OK(detach(&self->edu, domain));
		if (created)
			EXPECT_OK(KnHandleClose(domain));
	}
}

/* Its former owner lives, and has its handles. */
TEST_F(taken, it_comes_back_to_another_process)
{
	struct edu edu = self->edu;
	struct begun b;

	own(&edu, NONE, &b);
	variant->take(&self->edu);
	variant->give(&self->edu);
	IN_CHILD {
		struct begun theirs;

		own(&self->edu, NONE, &theirs);
	}
	EXPECT_EQ(POLLPRI, polled(b.access));
	expect_dead_registers(&edu);
	own(&self->edu, NONE, &b);
	edu_unmap_registers(&self->edu);
}

TEST_F(taken, it_goes_through_many_cycles)
{
	struct begun b;
	long before = 0;

	begun_open(&b, PAGES(4), NONE);
	for (int i = 0; i < 6; i++) {
		test_context("cycle %d", i);
		if (i == 1)
			before = probe_free_memory();
		ASSERT_OK(attach(&self->edu, NONE));
		b.addr = access_addr(b.access);
		ASSERT_OK(edu_map_registers(&self->edu));
		EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + PAGE,
					b.mem + PAGE));
		variant->take(&self->edu);
		EXPECT_EQ(POLLPRI, polled(b.access));
		edu_unmap_registers(&self->edu);
		variant->give(&self->edu);
	}
	begun_close(&b);
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
}

TEST_F(taken, pollers_wake_up)
{
	struct pollfd pfds[3];
	struct begun b;
	pid_t pid;

	own(&self->edu, NONE, &b);
	pfds[0].fd = self->edu.handles.region;
	pfds[1].fd = self->edu.handles.mapping;
	pfds[2].fd = b.access;
	for (int i = 0; i < 3; i++) {
		pfds[i].events = POLLPRI;
		pfds[i].revents = 0;
	}
	pid = test_fork();
	if (!pid) {
		usleep(200 * 1000);
		variant->take(&self->edu);
		test_child_exit();
	}
	/* Of all three, one after the other, whichever comes first. */
	for (int open = 3; open; ) {
		ASSERT_GT(poll(pfds, 3, 90 * 1000), 0);
		for (int i = 0; i < 3; i++) {
			if (!pfds[i].revents)
				continue;
			EXPECT_EQ(i == 2 ? POLLPRI : POLLHUP, pfds[i].revents);
			pfds[i].fd = -1;
			pfds[i].revents = 0;
			open--;
		}
	}
	test_wait(pid);
}

/* No attachment: its registers are all that its owner has. */
TEST_F(taken, who_has_its_registers_only_is_told)
{
	struct begun b;

	begun_open(&b, PAGE, NONE);
	ASSERT_OK(edu_map_registers(&self->edu));
	EXPECT_EQ(0xed, edu_read(&self->edu, EDU_REG_ID) & 0xff);
	variant->take(&self->edu);
	expect_dead_registers(&self->edu);
	EXPECT_EQ(0, polled(b.access));
	variant->give(&self->edu);
	ASSERT_OK(edu_map_registers(&self->edu));
	EXPECT_EQ(0xed, edu_read(&self->edu, EDU_REG_ID) & 0xff);
	edu_unmap_registers(&self->edu);
	begun_close(&b);
}

/* A process that was sent the region, and knows nothing of the device. */
TEST_F(taken, a_client_that_maps_its_registers_is_told)
{
	int sock[2];
	Handle region;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	pid = test_fork();
	if (!pid) {
		struct edu *edu = &self->edu;

		ASSERT_OK(KosHandleReceive(sock[1], &edu->handles.region));
		ASSERT_OK(KnIoMapMem(edu->handles.region, VMM_READ_WRITE, 0,
				     &edu->regs, &edu->handles.mapping));
		EXPECT_EQ(0, probe_read(edu->regs));
		probe_signal(sock[1]);
		probe_await(sock[1]);
		expect_dead_registers(edu);
		test_child_exit();
	}
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, EDU_BAR_SIZE, 0, &region));
	ASSERT_OK(KosHandleSend(sock[0], region, OCAP_MMIO_FULL));
	EXPECT_OK(KnHandleClose(region));
	probe_await(sock[0]);
	variant->take(&self->edu);
	probe_signal(sock[0]);
	test_wait(pid);
	variant->give(&self->edu);
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, EDU_BAR_SIZE, 0, &region));
	EXPECT_OK(KnHandleClose(region));
}

TEST_F(taken, nobody_has_it)
{
	struct begun b;

	pci_make_bound(self->edu.path, "kosdma");
	for (int round = 0; round < 2; round++) {
		/* Not yet, and not any more. */
		variant->take(&self->edu);
		expect_codes_of_the_gone(self, variant, NONE);
		variant->give(&self->edu);
		own(&self->edu, NONE, &b);
		begun_close(&b);
		edu_unmap_registers(&self->edu);
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
}

TEST_F(taken, another_device_of_the_domain_goes_on)
{
	bool both = variant->take == suspend;

	for (int created = 0; created < 2; created++) {
		Handle domain = created ? domain_create() : NONE;
		struct begun b;

		test_context(created ? "created domain" : "automatic domain");
		own(&self->edu, domain, &b);
		ASSERT_OK(attach(&self->other, domain));
		ASSERT_OK(edu_map_registers(&self->other));
		variant->take(&self->edu);
		EXPECT_EQ(POLLPRI, polled(b.access));
		edu_unmap_registers(&self->edu);
		if (both) {
			expect_dead_registers(&self->other);
			EXPECT_RC(rcInvalidOperation,
				  detach(&self->other, domain));
			ASSERT_OK(attach(&self->other, domain));
			ASSERT_OK(edu_map_registers(&self->other));
		}
		EXPECT_TRUE(probe_bus_master(self->other.path));
		EXPECT_TRUE(probe_lands(&self->other, &b, b.addr + PAGE,
					b.mem + PAGE));
		variant->give(&self->edu);
		ASSERT_OK(attach(&self->edu, domain));
		EXPECT_EQ(0, polled(b.access));
		ASSERT_OK(edu_map_registers(&self->edu));
		EXPECT_TRUE(probe_lands(&self->edu, &b, b.addr + 64,
					b.mem + 64));
		EXPECT_TRUE(probe_lands(&self->other, &b, b.addr + 128,
					b.mem + 128));
		begun_close(&b);
		edu_unmap_registers(&self->other);
		edu_unmap_registers(&self->edu);
		EXPECT_OK(detach(&self->other, domain));
		EXPECT_OK(detach(&self->edu, domain));
		if (created)
			EXPECT_OK(KnHandleClose(domain));
	}
}

/* The domain is closed while its device is away. */
TEST_F(taken, its_domain_may_be_closed_meanwhile)
{
	Handle domain = domain_create();
	struct begun b;

	own(&self->edu, domain, &b);
	variant->take(&self->edu);
	edu_unmap_registers(&self->edu);
	EXPECT_OK(KnHandleClose(domain));
	variant->give(&self->edu);
	begun_close(&b);
	own(&self->edu, NONE, &b);
	edu_unmap_registers(&self->edu);
	begun_close(&b);
}

/* Whichever comes first. */
TEST_F(taken, its_owner_dies_at_the_same_time)
{
	for (int round = 0; round < 5; round++) {
		pid_t owner, taker;
		int sync[2];
		struct begun b;

		test_context("round %d", round);
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		owner = test_fork();
		if (!owner) {
			own(&self->edu, round & 1 ? domain_create() : NONE, &b);
			edu_copy_out_start(&self->edu, 0, b.addr, 256);
			probe_signal(sync[1]);
			pause();
		}
		probe_await(sync[0]);
		close(sync[0]);
		close(sync[1]);
		if (!round)
			kill(owner, SIGKILL);
		taker = test_fork();
		if (!taker) {
			variant->take(&self->edu);
			test_child_exit();
		}
		usleep(round * round * 1500);
		kill(owner, SIGKILL);
		ASSERT_EQ(owner, waitpid(owner, NULL, 0));
		test_wait(taker);
		variant->give(&self->edu);
		own(&self->edu, NONE, &b);
		edu_unmap_registers(&self->edu);
		begun_close(&b);
		EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
	}
}

/* Without an IOMMU: pages that it might still have written are free then. */
TEST_F(taken, pages_that_waited_for_it_are_freed)
{
	Handle buffer, access;
	long before;

	if (edu_translated(&self->edu))
		SKIP("behind an IOMMU no page waits for a device");
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	before = probe_free_memory();
	buffer = buffer_create(0, MiB(64), DMA_DIR_BIDIR);
	access = access_begin(buffer);
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(buffer));
	EXPECT_FALSE(probe_memory_returns(before, KiB(4)));
	variant->take(&self->edu);
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
	EXPECT_EQ(0, probe_quarantined());
	variant->give(&self->edu);
	EXPECT_OK(KnIommuAttachDevice(self->edu.bdf));
}

/* ---- against calls that are under way ---- */

struct storm {
	struct fixture_data_taken *self;
	bool stop;
	int attached, mapped, begun;
};

static bool stopped(struct storm *s)
{
	return __atomic_load_n(&s->stop, __ATOMIC_ACQUIRE);
}

static bool is_one_of(Retcode rc, const Retcode *codes)
{
	while (*codes != rcOk && *codes != rc)
		codes++;
	return *codes == rc;
}

#define EXPECT_ONE_OF(codes, rc)                                               \
	do {                                                                   \
		Retcode _seen = (rc);                                          \
		if (!is_one_of(_seen, codes))                                  \
			TEST_FAILED_(false, "unexpected %s", test_rc_name(_seen)); \
	} while (0)

static void *storm_attach(void *arg)
{
	static const Retcode attach_codes[] = { rcDeviceNotFound, rcNotReady,
						rcTimeout, rcOk };
	static const Retcode detach_codes[] = { rcDeviceNotFound,
						rcInvalidOperation, rcOk };
	struct storm *s = arg;

	while (!stopped(s)) {
		Retcode rc = KnIommuAttachDevice(s->self->edu.bdf);

		EXPECT_ONE_OF(attach_codes, rc);
		s->attached += rc == rcOk;
		EXPECT_ONE_OF(detach_codes,
			      KosIommuSetDmaMask(s->self->edu.bdf, UINT64_MAX));
		EXPECT_ONE_OF(detach_codes,
			      KnIommuDetachDevice(s->self->edu.bdf));
	}
	return NULL;
}

/* Away, its registers are a hole that a privileged process may register. */
static void *storm_map(void *arg)
{
	static const Retcode register_codes[] = {
		rcDeviceNotFound, rcNotReady, rcTimeout, rcSecurityDisallow,
		rcAlreadyExists, rcOk
	};
	static const Retcode map_codes[] = { rcDeviceNotFound, rcOk };
	struct storm *s = arg;

	while (!stopped(s)) {
		struct edu edu = s->self->edu;
		Retcode rc;

		rc = KnRegisterPhyMem(edu.bar, EDU_BAR_SIZE, 0,
				      &edu.handles.region);
		EXPECT_ONE_OF(register_codes, rc);
		if (rc != rcOk)
			continue;
		rc = KnIoMapMem(edu.handles.region, VMM_READ_WRITE, 0,
				&edu.regs, &edu.handles.mapping);
		EXPECT_ONE_OF(map_codes, rc);
		if (rc == rcOk) {
			probe_read(edu.regs);
			probe_read((char *)edu.regs + EDU_BAR_SIZE - 1);
			s->mapped++;
		}
		EXPECT_OK(KnIoMemHandlesClose(&edu.handles));
	}
	return NULL;
}

static void *storm_begin(void *arg)
{
	struct storm *s = arg;
	Handle buffer = buffer_create(0, KiB(64), DMA_DIR_BIDIR);

	while (!stopped(s)) {
		Handle access;

		ASSERT_OK(KnIoDmaBegin(buffer, &access));
		polled(access);
		EXPECT_OK(KnHandleClose(access));
		s->begun++;
	}
	EXPECT_OK(KnHandleClose(buffer));
	return NULL;
}

TEST_F_TIMEOUT(taken, calls_under_way_end_well, 240)
{
	static void *(*const loops[])(void *) = { storm_attach, storm_map,
						  storm_begin };
	struct storm s = { .self = self };
	pthread_t threads[ARRAY_SIZE(loops)];
	struct begun b;

	for (size_t i = 0; i < ARRAY_SIZE(loops); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, loops[i], &s));
	for (int round = 0; round < 6; round++) {
		usleep((100 + 37 * round) * 1000);
		if (variant->take == unbind_it) {
			/* Attaching it binds it, at any time. */
			probe_write_file(DRIVER "/unbind",
					 pci_name(self->edu.path));
			usleep(20 * 1000);
			probe_write_file(PROBE, pci_name(self->edu.path));
		} else {
			variant->take(&self->edu);
			usleep(20 * 1000);
			variant->give(&self->edu);
		}
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < ARRAY_SIZE(loops); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	test_log("attached %d times, mapped %d, begun %d", s.attached, s.mapped,
		 s.begun);
	EXPECT_GT(s.begun, 0);
	own(&self->edu, NONE, &b);
	edu_unmap_registers(&self->edu);
	begun_close(&b);
}

TEST_HARNESS_MAIN
