// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes: what their end, exec and fork do to what they had, and the limits
 * on how much they may have.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define POISON_HANDLE ((Handle)0xcccc)
#define MAX_OBJECTS "/sys/module/kosdma/parameters/max_objects"

enum { EDU_COPY_MS = 100 }; /* from its start to its end */

static void kill_and_wait(pid_t pid)
{
	int status;

	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	/* And not of a failed check before. */
	ASSERT_TRUE(WIFSIGNALED(status));
}

static bool is_ended(void *arg)
{
	return probe_sid(*(Handle *)arg) == rcResourceNotFound;
}

/* ---- death ---- */

/* Copies in both directions until it is killed. */
static void driver_storm(Handle shared, int sync)
{
	struct begun from;
	Handle access, extra[8], mapping[8], domain;
	struct edu edu;

	edu_open(&edu, 0);
	begun_open(&from, MiB(1), NONE);
	access = access_begin(shared);
	for (size_t i = 0; i < ARRAY_SIZE(extra); i++) {
		extra[i] = buffer_create(0, MiB(1), DMA_DIR_BIDIR);
		buffer_map(extra[i], MiB(1), &mapping[i]);
		access_begin(extra[i]);
	}
	domain = domain_create();
	access_begin_in(from.buffer, domain);
	probe_signal(sync);
	for (unsigned int i = 0;; i++) {
		memset((void *)from.mem, i, PAGE);
		edu_copy_in(&edu, from.addr, 0, EDU_COPY_MAX);
		edu_copy_out(&edu, 0, access_addr(access), EDU_COPY_MAX);
		edu_copy_out(&edu, 0, from.addr + PAGE, EDU_COPY_MAX);
	}
}

TEST_TIMEOUT(killed_driver_leaves_device_and_memory_to_the_next, 300)
{
	enum { ROUNDS = 8 };
	Handle shared, mapping;
	volatile uint8_t *mem;
	struct edu edu;
	long before = 0;

	probe_require_module();
	edu_require(&edu, 0);
	shared = buffer_create(0, PAGES(2), DMA_DIR_BIDIR);
	mem = buffer_map(shared, PAGES(2), &mapping);
	for (int round = 0; round < ROUNDS; round++) {
		struct begun b;
		int sync[2];
		pid_t pid;

		test_context("round %d", round);
		if (round == 1)
			before = probe_free_memory();
		ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
		pid = test_fork();
		if (!pid)
			driver_storm(shared, sync[1]);
		probe_await(sync[0]);
		usleep(round * 70 * 1000);
		kill_and_wait(pid);
		close(sync[0]);
		close(sync[1]);

		/* At once, and it works. */
		EXPECT_FALSE(probe_bus_master(edu.path));
		/*
		 * edu cannot be reset: what it was told goes on when it masters
		 * the bus again. Only an IOMMU keeps that off.
		 */
		if (!edu_translated(&edu))
			usleep(3 * EDU_COPY_MS * 1000);
		memset((void *)mem, 0x31, PAGES(2));
		edu_open(&edu, 0);
		/* The copy under way is not ours. */
		ASSERT_TRUE(edu_copy_wait(&edu));
		begun_open(&b, PAGE, NONE);
		EXPECT_TRUE(probe_lands(&edu, &b, b.addr + 512, b.mem + 512));
		begun_close(&b);
		edu_unmap_registers(&edu);
		EXPECT_OK(KnIommuDetachDevice(edu.bdf));
		/* What others hold lives on, and nobody writes it any more. */
		EXPECT_EQ(PAGES(2), first_not((void *)mem, PAGES(2), 0x31));
	}
	test_context("%s", "");
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(shared));
}

/*
 * A copy that was started before the death does not land after it: bus
 * mastering is off, with or without an IOMMU.
 */
TEST(copy_under_way_does_not_land_after_death)
{
	Handle shared, mapping;
	volatile uint8_t *mem;
	struct edu edu;
	int sync[2];
	pid_t pid;

	probe_require_module();
	edu_require(&edu, 0);
	shared = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	mem = buffer_map(shared, PAGE, &mapping);
	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	for (int round = 0; round < 4; round++) {
		memset((void *)mem, 0, PAGE);
		pid = test_fork();
		if (!pid) {
			struct begun from;
			uint64_t addr;

			edu_open(&edu, 0);
			begun_open(&from, PAGE, NONE);
			addr = access_addr(access_begin(shared));
			memset((void *)from.mem, 0xdd, PAGE);
			edu_copy_in(&edu, from.addr, 0, EDU_COPY_MAX);
			edu_copy_out_start(&edu, 0, addr, EDU_COPY_MAX);
			probe_signal(sync[1]);
			pause();
		}
		probe_await(sync[0]);
		usleep(round * 10 * 1000);
		kill_and_wait(pid);
		/* It may have ended before: these bytes are overwritten. */
		memset((void *)mem, 0x31, PAGE);
		usleep(3 * EDU_COPY_MS * 1000);
		EXPECT_EQ(PAGE, first_not((void *)mem, PAGE, 0x31));
	}
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(shared));
}

TEST(buffer_outlives_the_process_that_created_it)
{
	Handle handle, mapping;
	volatile uint8_t *mem;
	int sock[2];
	pid_t pid;

	probe_require_module();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	pid = test_fork();
	if (!pid) {
		Handle buffer = buffer_create(0, MiB(1), DMA_DIR_BIDIR);
		void *p = buffer_map(buffer, MiB(1), &mapping);

		pattern_fill(p, MiB(1), 5);
		access_begin(buffer);
		ASSERT_OK(KosHandleSend(sock[1], buffer, OCAP_DMA_FULL));
		pause();
	}
	ASSERT_OK(KosHandleReceive(sock[0], &handle));
	mem = buffer_map(handle, MiB(1), &mapping);
	kill_and_wait(pid);
	pattern_check((void *)mem, MiB(1), 5);
	EXPECT_OK(KnHandleClose(mapping));
	mem = buffer_map(handle, MiB(1), &mapping);
	pattern_check((void *)mem, MiB(1), 5);
	/* Its access is gone: the buffer may be modified but for the map. */
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnIoDmaModify(handle, DMA_ATTR_WRITE_BACK));
	EXPECT_OK(KnHandleClose(handle));
}

TEST(creators_death_leaves_its_borrowers_driver_working)
{
	struct edu edu;
	int sock[2], sync[2];
	pid_t pid;

	probe_require_module();
	edu_require(&edu, 0);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);

		ASSERT_OK(KosHandleSend(sock[1], buffer, OCAP_DMA_FULL));
		pause();
	}
	{
		Handle handle, access, mapping;
		volatile uint8_t *mem;
		struct begun from;

		ASSERT_OK(KosHandleReceive(sock[0], &handle));
		edu_open(&edu, 0);
		begun_open(&from, PAGE, NONE);
		access = access_begin(handle);
		mem = buffer_map(handle, PAGE, &mapping);
		kill_and_wait(pid);
		EXPECT_TRUE(probe_lands(&edu, &from, access_addr(access), mem));
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(handle));
		begun_close(&from);
		edu_unmap_registers(&edu);
		EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	}
}

/* Somebody else's copy of the descriptor keeps no private object alive. */
TEST(private_objects_end_with_their_process_whoever_has_their_descriptor)
{
	enum { MAPPING, ACCESS, DOMAIN, BADGE, NR };
	int sock[2], fds[NR];
	struct edu edu;
	Handle buffer;
	pid_t pid;

	probe_require_module();
	edu_require(&edu, 0);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	pid = test_fork();
	if (!pid) {
		Handle mapping, badge;

		buffer_map(buffer, PAGE, &mapping);
		fds[MAPPING] = mapping;
		fds[DOMAIN] = domain_create();
		fds[ACCESS] = access_begin_in(buffer, fds[DOMAIN]);
		ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
		fds[BADGE] = badge;
		ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, fds[DOMAIN]));
		probe_send_fds(sock[1], fds, NR);
		pause();
	}
	ASSERT_EQ(NR, probe_receive_fds(sock[0], fds, NR));
	EXPECT_RC(rcNoCapability, probe_sid(fds[ACCESS]));
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(buffer, DMA_ATTR_WRITE_BACK));
	EXPECT_TRUE(probe_bus_master(edu.path));
	kill_and_wait(pid);
	EXPECT_FALSE(probe_bus_master(edu.path));
	/* The call that wants the device waits for the teardown. */
	EXPECT_OK(KnIommuAttachDevice(edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	EXPECT_OK(KnIoDmaModify(buffer, DMA_ATTR_WRITE_BACK));
	for (int i = 0; i < NR; i++) {
		Handle h = fds[i];

		test_context("descriptor %d of %d", i, NR);
		if (i == BADGE) {
			/* It has nothing to give back. */
			EXPECT_NE(rcOk, probe_sid(h));
		} else {
			struct pollfd pfd = { .fd = h };

			EXPECT_TRUE(wait_until(is_ended, &h, 5));
			EXPECT_EQ(1, poll(&pfd, 1, 0));
			EXPECT_EQ(POLLHUP, pfd.revents);
		}
		EXPECT_OK(KnHandleClose(h));
		EXPECT_FALSE(probe_is_open(h));
	}
	test_context("%s", "");
	EXPECT_OK(KnHandleClose(buffer));
}

TEST(handles_on_their_way_die_with_the_socket)
{
	long before = 0;

	probe_require_module();
	for (int round = 0; round < 12; round++) {
		int sock[2];

		if (round == 4)
			before = probe_free_memory();
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC,
					0, sock));
		IN_CHILD {
			Handle buffer = buffer_create(0, MiB(8), DMA_DIR_BIDIR);

			for (int i = 0; i < 5; i++)
				ASSERT_OK(KosHandleSend(sock[1], buffer,
							OCAP_DMA_FULL));
		}
		/* The sender is dead, nobody has received. */
		close(sock[0]);
		close(sock[1]);
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(8)));
}

TEST(process_that_closes_nothing_leaves_nothing)
{
	uint64_t start, last;
	struct edu edu;
	long before = 0;

	probe_require_module();
	edu_require(&edu, 0);
	for (int round = 0; round < 10; round++) {
		if (round == 2)
			before = probe_free_memory();
		IN_CHILD {
			Handle buffer[16], mapping, copy, badge;
			Handle domain = domain_create();

			edu_open(&edu, 0);
			ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
			for (int i = 0; i < 16; i++) {
				buffer[i] = buffer_create(0, MiB(1),
							  DMA_DIR_BIDIR);
				buffer_map(buffer[i], MiB(1), &mapping);
				access_begin(buffer[i]);
				access_begin_in(buffer[i], domain);
				ASSERT_OK(KnHandleCopy(buffer[i], OCAP_DMA_FULL,
						       badge, &copy));
				buffer_map(copy, MiB(1), &mapping);
			}
		}
		EXPECT_FALSE(probe_iomem_find("kosdma", 0, &start, &last));
		EXPECT_FALSE(probe_bus_master(edu.path));
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
}

TEST(many_objects_of_a_killed_process_go_soon)
{
	enum { NR = 500 };
	struct timespec start, end;
	struct edu edu;
	int sync[2];
	pid_t pid;

	probe_require_module();
	edu_require(&edu, 0);
	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		Handle buffer = buffer_create(0, PAGES(4), DMA_DIR_BIDIR);
		Handle mapping;

		set_limit(RLIMIT_NOFILE, 4 * NR);
		ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		for (int i = 0; i < NR; i++) {
			access_begin(buffer);
			buffer_map(buffer, PAGES(4), &mapping);
		}
		probe_signal(sync[1]);
		pause();
	}
	probe_await(sync[0]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	kill_and_wait(pid);
	EXPECT_OK(KnIommuAttachDevice(edu.bdf));
	clock_gettime(CLOCK_MONOTONIC, &end);
	EXPECT_LT(end.tv_sec - start.tv_sec, (time_t)test_seconds(8));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
}

/* ---- threads ---- */

struct leaderless {
	struct edu edu;
	int sync;
};

static void *survivor(void *arg)
{
	struct leaderless *l = arg;
	struct begun b;

	usleep(200 * 1000);
	/* The first thread is a zombie; the process goes on. */
	ASSERT_OK(edu_map_registers(&l->edu));
	begun_open(&b, PAGE, NONE);
	EXPECT_TRUE(probe_lands(&l->edu, &b, b.addr + 64, b.mem + 64));
	test_child_exit();
}

TEST(end_of_the_first_thread_is_not_the_end_of_the_process)
{
	struct leaderless l;
	pid_t pid;

	probe_require_module();
	edu_require(&l.edu, 0);
	pid = test_fork();
	if (!pid) {
		pthread_t thread;

		ASSERT_OK(KnIommuAttachDevice(l.edu.bdf));
		ASSERT_EQ(0, pthread_create(&thread, NULL, survivor, &l));
		/* pthread_exit() wants a library that may be missing. */
		syscall(SYS_exit, 0);
	}
	test_wait(pid);
	EXPECT_FALSE(probe_bus_master(l.edu.path));
}

/* A process is an address space: CLONE_VM shares all it has. */
static struct {
	Handle access, buffer;
	Retcode rc[3];
} shared_vm;

static int share_vm(void *arg)
{
	Handle access;

	(void)arg;
	shared_vm.rc[0] = probe_sid(shared_vm.access);
	shared_vm.rc[1] = KnIoDmaBegin(shared_vm.buffer, &access);
	shared_vm.rc[2] = KnHandleClose(access);
	return 0;
}

TEST(child_that_shares_the_address_space_is_the_same_process)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	pid_t pid;

	probe_require_module();
	shared_vm.buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	shared_vm.access = access_begin(shared_vm.buffer);
	pid = clone(share_vm, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	ASSERT_GT(pid, 0);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	for (int i = 0; i < 3; i++)
		EXPECT_RC(rcOk, shared_vm.rc[i]);
	/* Its end is not the process's. */
	EXPECT_OK(probe_sid(shared_vm.access));
	EXPECT_OK(KnHandleClose(shared_vm.access));
	EXPECT_OK(KnHandleClose(shared_vm.buffer));
}

/* ---- fork and exec ---- */

TEST(fork_child_has_a_context_of_its_own)
{
	struct edu edu;
	struct begun b;

	probe_require_module();
	edu_require(&edu, 0);
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	begun_open(&b, PAGE, NONE);
	ASSERT_NE(0, b.addr);
	IN_CHILD {
		Handle access;
		DmaInfo *info;

		/* Not its device, not its access, not its mapping. */
		EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(edu.bdf));
		EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
		EXPECT_RC(rcNoCapability, KnIoDmaGetInfo(b.access, &info));
		EXPECT_EQ(SIGSEGV, probe_read(b.mem));
		/* Its buffer: of which it has no Begin object. */
		info = buffer_info(b.buffer);
		EXPECT_EQ(0, info->count);
		KosMemFree(info);
		/* Its own automatic domain has no device. */
		access = access_begin(b.buffer);
		info = buffer_info(access);
		EXPECT_EQ(0, info->count);
		KosMemFree(info);
		EXPECT_OK(KnHandleClose(access));
		/* And it can close what it inherited. */
		EXPECT_OK(KnHandleClose(b.access));
		EXPECT_OK(KnHandleClose(b.mapping));
		EXPECT_OK(KnHandleClose(b.buffer));
	}
	EXPECT_EQ(b.addr, access_addr(b.access));
	EXPECT_EQ(0, probe_write(b.mem));
	begun_close(&b);
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
}

TEST(exec_ends_the_process)
{
	Handle buffer;
	struct edu edu;
	int sync[2];
	pid_t pid;
	char byte;

	probe_require_module();
	edu_require(&edu, 0);
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	ASSERT_EQ(0, pipe2(sync, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		Handle mapping;

		edu_open(&edu, 0);
		access_begin(buffer);
		buffer_map(buffer, PAGE, &mapping);
		execlp("sleep", "sleep", "60", NULL);
		execlp("/bin/sh", "sh", "-c", "sleep 60", NULL);
		_exit(1);
	}
	close(sync[1]);
	/* Closed by exec: then the old address space is gone. */
	ASSERT_EQ(0, read(sync[0], &byte, 1));
	ASSERT_EQ(0, kill(pid, 0));
	EXPECT_FALSE(probe_bus_master(edu.path));
	EXPECT_OK(KnIommuAttachDevice(edu.bdf));
	EXPECT_OK(KnIoDmaModify(buffer, DMA_ATTR_WRITE_BACK));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	ASSERT_EQ(0, kill(pid, 0));
	kill_and_wait(pid);
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- limits ---- */

static char max_objects[32];

static void read_max_objects(void)
{
	FILE *f = fopen(MAX_OBJECTS, "re");

	if (!f)
		SKIP("this build lets nobody change the limit on objects");
	ASSERT_NOT_NULL(fgets(max_objects, sizeof(max_objects), f));
	fclose(f);
}

static void forbid_objects(void)
{
	ASSERT_TRUE(probe_write_file(MAX_OBJECTS, "0"));
}

static void allow_objects(void)
{
	ASSERT_TRUE(probe_write_file(MAX_OBJECTS, max_objects));
}

/* Every call that makes a handle, and what it needs. */
FIXTURE(limits)
{
	struct edu edu;
	Handle buffer, domain, region;
	int sock[2];
	bool have_region;
};

FIXTURE_SETUP(limits)
{
	probe_require_module();
	self->have_region = edu_find(&self->edu, 0);
	self->buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	self->domain = domain_create();
	if (self->have_region)
		ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0,
					   &self->region));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				self->sock));
}

FIXTURE_TEARDOWN(limits)
{
	if (max_objects[0])
		allow_objects();
	if (self->have_region)
		EXPECT_OK(KnHandleClose(self->region));
	EXPECT_OK(KnHandleClose(self->domain));
	EXPECT_OK(KnHandleClose(self->buffer));
}

enum { NR_MAKERS = 10 };

static const char *const maker_names[NR_MAKERS] = {
	"KnIoDmaCreate", "KnIoDmaCreateContinuous", "KnIoDmaMap",
	"KnIoDmaBegin", "KnIoDmaBeginEx", "KnIommuCreateDomain",
	"KnHandleCopy", "KnHandleCreateBadge", "KnRegisterPhyMem",
	"KnIoMapMem",
};

static Retcode make(struct fixture_data_limits *self, int maker, Handle *out)
{
	void *addr = NULL;
	Retcode rc;

	*out = POISON_HANDLE;
	switch (maker) {
	case 0:
		return KnIoDmaCreate(0, MiB(1), 0, out);
	case 1:
		return KnIoDmaCreateContinuous(MiB(1), 0, out);
	case 2:
		rc = KnIoDmaMap(self->buffer, 0, PAGE, NULL, VMM_FLAG_READ,
				&addr, out);
		EXPECT_EQ(rc == rcOk, !!addr);
		return rc;
	case 3:
		return KnIoDmaBegin(self->buffer, out);
	case 4:
		return KnIoDmaBeginEx(self->buffer, self->domain, out);
	case 5:
		return KnIommuCreateDomain(out);
	case 6:
		return KnHandleCopy(self->buffer, 0, NONE, out);
	case 7:
		return KnHandleCreateBadge(NONE, 0, NULL, out);
	case 8:
		return KnRegisterPhyMem(self->edu.bar + PAGE, PAGE, 0, out);
	default:
		rc = KnIoMapMem(self->region, VMM_FLAG_READ, 0, &addr, out);
		EXPECT_EQ(rc == rcOk, !!addr);
		return rc;
	}
}

/* Every maker fails so, changes nothing, and works with the limit lifted. */
static void expect_quota(struct fixture_data_limits *self,
			 void (*restrict_)(void), void (*lift)(void))
{
	for (int maker = 0; maker < NR_MAKERS; maker++) {
		int fds, maps;
		long before;
		Handle out;

		if (maker >= 8 && !self->have_region)
			continue;
		test_context("%s", maker_names[maker]);
		ASSERT_OK(make(self, maker, &out));
		ASSERT_OK(KnHandleClose(out));
		fds = probe_nr_fds();
		maps = probe_nr_maps();
		before = probe_free_memory();
		restrict_();
		for (int i = 0; i < 20; i++) {
			Retcode rc = make(self, maker, &out);

			if (rc != rcQuotaExceeded || out != NONE) {
				lift();
				EXPECT_RC(rcQuotaExceeded, rc);
				EXPECT_EQ(NONE, out);
				restrict_();
				break;
			}
		}
		lift();
		EXPECT_EQ(fds, probe_nr_fds());
		EXPECT_EQ(maps, probe_nr_maps());
		EXPECT_TRUE(probe_memory_returns(before, KiB(4)));
		EXPECT_OK(make(self, maker, &out));
		EXPECT_OK(KnHandleClose(out));
	}
	test_context("%s", "");
}

static struct rlimit nofile;

static void forbid_descriptors(void)
{
	struct rlimit none = { .rlim_cur = 0, .rlim_max = nofile.rlim_max };

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
}

static void allow_descriptors(void)
{
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &nofile));
}

TEST_F(limits, no_descriptor_left_is_rcQuotaExceeded_and_leaks_nothing)
{
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &nofile));
	expect_quota(self, forbid_descriptors, allow_descriptors);
}

TEST_F(limits, no_object_left_is_rcQuotaExceeded_and_leaks_nothing)
{
	read_max_objects();
	expect_quota(self, forbid_objects, allow_objects);
}

TEST_F(limits, send_is_rcQuotaExceeded_too)
{
	char byte;
	Retcode rc;

	read_max_objects();
	forbid_objects();
	rc = KosHandleSend(self->sock[0], self->buffer, 0);
	allow_objects();
	EXPECT_RC(rcQuotaExceeded, rc);
	EXPECT_ERRNO(EAGAIN, recv(self->sock[1], &byte, 1, MSG_DONTWAIT));
	EXPECT_OK(KosHandleSend(self->sock[0], self->buffer, 0));
}

FIXTURE(quota)
{
	int unused;
};

FIXTURE_SETUP(quota)
{
	probe_require_module();
	read_max_objects();
}

FIXTURE_TEARDOWN(quota)
{
	allow_objects();
}

TEST_F(quota, objects_are_counted_by_user_and_given_back)
{
	enum { LIMIT = 60 };
	Handle badge[LIMIT], more = POISON_HANDLE;
	int nr = 0;
	Retcode rc = rcOk;

	ASSERT_TRUE(probe_write_file(MAX_OBJECTS, "60"));
	for (; nr < LIMIT && rc == rcOk; nr += rc == rcOk)
		rc = KnHandleCreateBadge(NONE, 0, NULL, &badge[nr]);
	EXPECT_RC(rcQuotaExceeded, rc);
	/* A badge and its handle are two; nobody else has any here. */
	EXPECT_EQ(LIMIT / 2, nr);
	IN_CHILD {
		/* The same user's other process. */
		EXPECT_RC(rcQuotaExceeded,
			  KnHandleCreateBadge(NONE, 0, NULL, &more));
		EXPECT_EQ(NONE, more);
	}
	device_make_public();
	IN_CHILD {
		/* Another user has its own count. */
		probe_become_nobody();
		EXPECT_OK(KnHandleCreateBadge(NONE, 0, NULL, &more));
	}
	device_restore();
	EXPECT_OK(KnHandleClose(badge[0]));
	EXPECT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge[0]));
	while (nr--)
		EXPECT_OK(KnHandleClose(badge[nr]));
	/* All are given back, by death as well. */
	for (int round = 0; round < 5; round++)
		IN_CHILD {
			for (int i = 0; i < LIMIT / 2; i++)
				EXPECT_OK(KnHandleCreateBadge(NONE, 0, NULL,
							      &more));
		}
}

TEST_HARNESS_MAIN
