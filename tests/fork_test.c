// SPDX-License-Identifier: GPL-2.0-only
/* What a process is: fork, vfork and clone, exec, death. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define EXEC_MARK "KOSDMA_FORK_TEST_EXEC"

/*
 * The program that tests exec: this one, with a mark in its environment that
 * names two descriptors. It says that it runs, and then waits for leave.
 */
static void __attribute__((constructor)) be_the_executed(void)
{
	const char *mark = getenv(EXEC_MARK);
	int say, wait;
	char byte;

	if (!mark || sscanf(mark, "%d,%d", &say, &wait) != 2)
		return;
	if (write(say, "", 1) != 1 || read(wait, &byte, 1) != 1)
		_exit(1);
	_exit(0);
}

static void exec_self(int say, int wait)
{
	char mark[64];
	char *argv[] = { "fork_test", NULL }, *envp[] = { mark, NULL };

	snprintf(mark, sizeof(mark), EXEC_MARK "=%d,%d", say, wait);
	execve("/proc/self/exe", argv, envp);
	_exit(TEST_EXIT_FAIL);
}

FIXTURE(fork) {
	Handle buffer, mapping, access, domain;
	uint8_t *mem;
	int go[2], done[2]; /* not closed by exec */
	int device;
};

FIXTURE_SETUP(fork)
{
	device_warm_up();
	ASSERT_ERRNO(0, pipe(self->go));
	ASSERT_ERRNO(0, pipe(self->done));
	self->device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->device, 0);
	self->buffer = buffer_create(0, PAGES(4), 0);
	self->mem = buffer_map(self->buffer, PAGES(4), &self->mapping);
	self->domain = domain_create();
	self->access = access_begin_in(self->buffer, self->domain);
	memset(self->mem, 0x21, PAGES(4));
}

static void expect_alive(struct fixture_data_fork *self)
{
	EXPECT_EQ(0, probe_handle(self->mapping, NULL, NULL));
	EXPECT_EQ(0, probe_handle(self->access, NULL, NULL));
	EXPECT_EQ(0, probe_handle(self->domain, NULL, NULL));
	EXPECT_EQ(0, probe_handle(self->buffer, NULL, NULL));
	KosMemFree(buffer_info(self->access));
	EXPECT_EQ(0, probe_read(self->mem));
	EXPECT_EQ(0, probe_write(self->mem + PAGES(4) - 1));
}

FIXTURE_TEARDOWN(fork)
{
	expect_alive(self);
	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(self->access));
	EXPECT_OK(KnHandleClose(self->domain));
	EXPECT_OK(KnHandleClose(self->buffer));
}

/* ---- a child is another process ---- */

TEST_F(fork, private_handles_of_the_parent_are_not_the_childs)
{
	IN_CHILD {
		Handle out = 1;
		DmaInfo *info = (DmaInfo *)&out;
		DmaAddr addr = 1;

		EXPECT_RC(rcNoCapability, KnIoDmaGetInfo(self->access, &info));
		EXPECT_NULL(info);
		EXPECT_RC(rcNoCapability,
			  KnIoDmaContinuousGetDmaAddr(self->access, &addr));
		EXPECT_EQ(0, addr);
		EXPECT_RC(rcNoCapability, KnIoDmaBeginEx(self->buffer,
							 self->domain, &out));
		EXPECT_EQ(INVALID_HANDLE, out);
		EXPECT_EQ(EACCES, probe_handle(self->mapping, NULL, NULL));
		EXPECT_EQ(EACCES, probe_handle(self->access, NULL, NULL));
		EXPECT_EQ(EACCES, probe_handle(self->domain, NULL, NULL));
		EXPECT_RC(rcNoCapability, KnHandleRevoke(self->access));
	}
}

TEST_F(fork, the_parents_domain_takes_no_device_of_the_child)
{
	struct edu edu;

	edu_require(&edu, 0);
	IN_CHILD {
		EXPECT_RC(rcNoCapability,
			  KnIommuAttachDeviceToDomain(edu.bdf, self->domain));
	}
	ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, self->domain));
	IN_CHILD {
		EXPECT_RC(rcNoCapability,
			  KnIommuDetachDeviceFromDomain(edu.bdf, self->domain));
		EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(edu.bdf));
		EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
	}
	EXPECT_TRUE(probe_bus_master(edu.path));
	ASSERT_OK(KnIommuDetachDeviceFromDomain(edu.bdf, self->domain));
}

TEST_F(fork, closing_them_in_the_child_closes_its_descriptors_alone)
{
	IN_CHILD {
		EXPECT_OK(KnHandleClose(self->mapping));
		EXPECT_OK(KnHandleClose(self->access));
		EXPECT_OK(KnHandleClose(self->domain));
		EXPECT_FALSE(probe_is_open(self->mapping));
		EXPECT_FALSE(probe_is_open(self->access));
		EXPECT_FALSE(probe_is_open(self->domain));
	}
	expect_alive(self);
}

TEST_F(fork, a_child_that_ends_ends_nothing_of_the_parent)
{
	for (int i = 0; i < 3; i++) {
		pid_t pid = test_fork();

		if (!pid)
			_exit(0);
		test_wait(pid);
		expect_alive(self);
	}
}

TEST_F(fork, the_mapping_is_not_the_childs)
{
	IN_CHILD {
		EXPECT_EQ(SIGSEGV, probe_read(self->mem));
		EXPECT_EQ(SIGSEGV, probe_write(self->mem));
		/* And its place is free there. */
		EXPECT_EQ(self->mem,
			  mmap(self->mem, PAGES(4), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS |
				       MAP_FIXED_NOREPLACE, -1, 0));
		memset(self->mem, 0x99, PAGES(4));
		/* Which a close of the parent's handle leaves alone. */
		EXPECT_OK(KnHandleClose(self->mapping));
		EXPECT_EQ(PAGES(4), first_not(self->mem, PAGES(4), 0x99));
	}
	EXPECT_EQ(PAGES(4), first_not(self->mem, PAGES(4), 0x21));
}

TEST_F(fork, a_buffer_handle_works_in_the_child)
{
	IN_CHILD {
		Handle mapping, access;
		uint8_t *mem = buffer_map(self->buffer, PAGES(4), &mapping);
		DmaInfo *info;

		EXPECT_EQ(PAGES(4), first_not(mem, PAGES(4), 0x21));
		mem[100] = 0x22;
		/* Accesses are counted for each process. */
		info = buffer_info(self->buffer);
		EXPECT_EQ(0, info->count);
		KosMemFree(info);
		if (machine_translates() || !geteuid()) {
			access = access_begin(self->buffer);
			KosMemFree(buffer_info(access));
			KosMemFree(buffer_info(self->buffer));
			EXPECT_OK(KnHandleClose(access));
		}
		EXPECT_OK(KnHandleClose(mapping));
		/* The parent's copy of the handle stays open. */
		EXPECT_OK(KnHandleClose(self->buffer));
	}
	EXPECT_EQ(0x22, self->mem[100]);
	self->mem[100] = 0x21;
}

TEST_F(fork, the_child_starts_with_a_context_of_its_own)
{
	IN_CHILD {
		Handle buffer = buffer_create(0, PAGES(2), 0), mapping;
		Handle domain = domain_create();
		Handle access = access_begin_in(buffer, domain);

		memset(buffer_map(buffer, PAGES(2), &mapping), 1, PAGES(2));
		/* And so does its own child. */
		IN_CHILD {
			EXPECT_EQ(EACCES, probe_handle(access, NULL, NULL));
			EXPECT_EQ(EACCES, probe_handle(self->access, NULL,
						       NULL));
			EXPECT_OK(KnHandleClose(buffer_create(0, PAGES(1),
							      0)));
		}
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(access));
		EXPECT_OK(KnHandleClose(domain));
		EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(fork, parent_and_child_have_each_an_automatic_domain)
{
	Handle mine = access_begin(self->buffer);
	struct edu edu;

	edu_require(&edu, 0);
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	EXPECT_NE(0, buffer_info(mine)->count);
	IN_CHILD {
		Handle access = access_begin(self->buffer);
		DmaInfo *info = buffer_info(access);

		/* No device is attached to the child's. */
		EXPECT_EQ(0, info->count);
		EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
		EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(edu.bdf));
		KosMemFree(info);
	}
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	IN_CHILD {
		ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
	}
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	EXPECT_OK(KnHandleClose(mine));
}

TEST_F(fork, a_dead_parents_private_handles_name_nothing)
{
	int hold[2];
	pid_t parent;

	ASSERT_ERRNO(0, pipe(hold));
	parent = test_fork();
	if (!parent) {
		Handle buffer = buffer_create(0, PAGES(1), 0), mapping;
		Handle domain = domain_create();
		Handle access = access_begin_in(buffer, domain);

		buffer_map(buffer, PAGES(1), &mapping);
		if (!test_fork()) {
			/* Its descriptors live on here. */
			close(hold[1]);
			probe_await(self->go[0]);
			EXPECT_EQ(EBADF, probe_handle(mapping, NULL, NULL));
			EXPECT_EQ(EBADF, probe_handle(access, NULL, NULL));
			EXPECT_EQ(EBADF, probe_handle(domain, NULL, NULL));
			EXPECT_EQ(0, probe_handle(buffer, NULL, NULL));
			EXPECT_OK(KnHandleClose(mapping));
			EXPECT_OK(KnHandleClose(access));
			EXPECT_OK(KnHandleClose(domain));
			memset(buffer_map(buffer, PAGES(1), &mapping), 1,
			       PAGES(1));
			/* Nobody waits for this process: say it. */
			dprintf(self->done[1], "%c",
				test_nr_failures() ? 'f' : 'p');
			_exit(0);
		}
		_exit(0);
	}
	test_wait(parent);
	/* The teardown runs after the death, not in it. */
	usleep(200 * 1000);
	probe_signal(self->go[1]);
	{
		char verdict = '?';

		ASSERT_EQ(1, read(self->done[0], &verdict, 1));
		EXPECT_EQ('p', verdict);
	}
	close(hold[0]);
	close(hold[1]);
}

/* ---- one that shares the memory is the same process ---- */

struct shared {
	struct fixture_data_fork *self;
	int mapping_errno, access_errno, domain_errno;
	Handle buffer;
};

/* Raw ioctls alone: the child shares libc's state with a parent that waits. */
static int handle_errno(int device, Handle handle)
{
	struct kosdma_handle_info info = {
		.size = sizeof(info),
		.handle = handle,
	};

	return ioctl(device, KOSDMA_HANDLE_INFO, &info) ? errno : 0;
}

static int use_handles(void *arg)
{
	struct shared *shared = arg;
	struct fixture_data_fork *self = shared->self;
	struct kosdma_buffer_create create = {
		.size = sizeof(create),
		.length = PAGE_SIZE,
	};

	shared->mapping_errno = handle_errno(self->device, self->mapping);
	shared->access_errno = handle_errno(self->device, self->access);
	shared->domain_errno = handle_errno(self->device, self->domain);
	self->mem[9] = 0x77;
	if (!ioctl(self->device, KOSDMA_BUFFER_CREATE, &create))
		shared->buffer = create.out_handle;
	return 0;
}

static void run_shared(int (*fn)(void *arg), struct shared *shared, int flags)
{
	const size_t size = KiB(64);
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, stack);
	pid = clone(fn, stack + size, flags | SIGCHLD, shared);
	ASSERT_GT(pid, 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	munmap(stack, size);
}

TEST_F(fork, siblings_that_share_memory_are_the_same_process)
{
	static const int flags[] = {
		CLONE_VM | CLONE_VFORK,
		CLONE_VM | CLONE_VFORK | CLONE_FILES,
		CLONE_VM | CLONE_FILES | CLONE_FS,
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct shared shared = {
			.self = self,
			.mapping_errno = -1,
			.access_errno = -1,
			.domain_errno = -1,
			.buffer = INVALID_HANDLE,
		};

		test_context("flags %#x", flags[i]);
		run_shared(use_handles, &shared, flags[i]);
		EXPECT_EQ(0, shared.mapping_errno);
		EXPECT_EQ(0, shared.access_errno);
		EXPECT_EQ(0, shared.domain_errno);
		EXPECT_EQ(0x77, self->mem[9]);
		self->mem[9] = 0x21;
		ASSERT_NE(INVALID_HANDLE, shared.buffer);
		if (flags[i] & CLONE_FILES)
			EXPECT_OK(KnHandleClose(shared.buffer));
		else
			EXPECT_FALSE(probe_is_open(shared.buffer));
		/* It ended; this process did not. */
		expect_alive(self);
	}
}

/* What only the sibling's table of descriptors names. */
static int close_handles(void *arg)
{
	struct shared *shared = arg;
	struct kosdma_handle_close close = { .size = sizeof(close) };

	close.handle = shared->self->access;
	return ioctl(shared->self->device, KOSDMA_HANDLE_CLOSE, &close) ? 1 : 0;
}

TEST_F(fork, a_sibling_ends_objects_like_the_process_itself)
{
	struct shared shared = { .self = self };

	run_shared(close_handles, &shared, CLONE_VM | CLONE_VFORK);
	/* The object is ended; the descriptor here is a dead copy. */
	EXPECT_EQ(EBADF, probe_handle(self->access, NULL, NULL));
	EXPECT_OK(KnHandleClose(self->access));
	self->access = access_begin_in(self->buffer, self->domain);
}

TEST_F(fork, a_vfork_child_that_execs_ends_nothing)
{
	volatile pid_t pid = vfork();

	if (!pid)
		exec_self(self->done[1], self->go[0]);
	ASSERT_GT(pid, 0);
	probe_await(self->done[0]);
	expect_alive(self);
	probe_signal(self->go[1]);
	test_wait(pid);
	expect_alive(self);
}

/* ---- exec and death end a process ---- */

TEST_F(fork, exec_ends_the_attachments)
{
	struct edu edu;
	pid_t pid;

	edu_require(&edu, 0);
	pid = test_fork();
	if (!pid) {
		ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		probe_signal(self->done[1]);
		probe_await(self->go[0]);
		exec_self(self->done[1], self->go[0]);
	}
	probe_await(self->done[0]);
	EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
	EXPECT_TRUE(probe_bus_master(edu.path));
	probe_signal(self->go[1]);
	/* The process lives on as another program. */
	probe_await(self->done[0]);
	EXPECT_OK(KnIommuAttachDevice(edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	probe_signal(self->go[1]);
	test_wait(pid);
}

/* A descriptor that exec leaves open names an ended object. */
TEST_F(fork, exec_ends_objects_whatever_descriptors_it_leaves)
{
	struct edu edu;
	pid_t pid;

	edu_require(&edu, 0);
	pid = test_fork();
	if (!pid) {
		Handle domain = domain_create();
		Handle access = access_begin_in(self->buffer, domain);

		ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, domain));
		fcntl(domain, F_SETFD, 0);
		fcntl(access, F_SETFD, 0);
		exec_self(self->done[1], self->go[0]);
	}
	probe_await(self->done[0]);
	EXPECT_OK(KnIommuAttachDevice(edu.bdf));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	/* Its access no longer holds the buffer: */
	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(self->access));
	EXPECT_OK(KnIoDmaModify(self->buffer, DMA_ATTR_WRITE_COMBINE));
	self->mem = buffer_map(self->buffer, PAGES(4), &self->mapping);
	self->access = access_begin_in(self->buffer, self->domain);
	probe_signal(self->go[1]);
	test_wait(pid);
}

TEST_F(fork, death_gives_the_device_back_at_once)
{
	struct edu edu;

	edu_require(&edu, 0);
	for (int i = 0; i < 3; i++) {
		pid_t pid = test_fork();
		int status;

		if (!pid) {
			Handle access = access_begin(self->buffer);

			ASSERT_OK(edu_map_registers(&edu));
			ASSERT_OK(KnIommuAttachDevice(edu.bdf));
			EXPECT_NE(INVALID_HANDLE, access);
			probe_signal(self->done[1]);
			pause();
		}
		probe_await(self->done[0]);
		EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_OK(KnIommuAttachDevice(edu.bdf));
		EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	}
}

TEST_F(fork, death_of_the_creator_leaves_the_buffer_to_other_holders)
{
	int status;
	pid_t pid;

	/* A child maps it and dies in the middle of everything. */
	for (int i = 0; i < 3; i++) {
		pid = test_fork();
		if (!pid) {
			Handle mapping;
			uint8_t *mem = buffer_map(self->buffer, PAGES(4),
						  &mapping);

			access_begin(self->buffer);
			mem[1] = i;
			kill(getpid(), SIGKILL);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(i, self->mem[1]);
	}
	self->mem[1] = 0x21;
}

TEST_HARNESS_MAIN
