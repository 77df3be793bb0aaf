// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of Documentation/handles.md: a test for each line, named after it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define EXEC_MARK "KOSDMA_RULES_TEST_EXEC"
#define NONE INVALID_HANDLE
#define MARK 0x42

/* ---- what is looked at ---- */

enum { MAPPING, ACCESS, DOMAIN, BADGE, NR_PRIVATE };

static const char *const private_names[NR_PRIVATE] = { "mapping", "access",
						       "domain", "badge" };

FIXTURE(rules) {
	Handle root, buffer; /* the second descends from the first */
	Handle own[NR_PRIVATE];
	uint8_t *mem;
	int sock[2], go[2], done[2];
};

FIXTURE_SETUP(rules)
{
	device_warm_up();
	device_make_public();
	self->root = buffer_create(0, PAGES(4), 0);
	self->buffer = buffer_copy(self->root, OCAP_DMA_FULL);
	self->mem = buffer_map(self->buffer, PAGES(4), &self->own[MAPPING]);
	self->own[DOMAIN] = domain_create();
	self->own[ACCESS] = access_begin_in(self->buffer, self->own[DOMAIN]);
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &self->own[BADGE]));
	self->mem[0] = MARK;
	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   self->sock));
	ASSERT_ERRNO(0, pipe2(self->go, O_CLOEXEC));
	ASSERT_ERRNO(0, pipe2(self->done, O_CLOEXEC));
}

FIXTURE_TEARDOWN(rules)
{
	for (int i = 0; i < NR_PRIVATE; i++)
		if (probe_is_open(self->own[i]))
			EXPECT_OK(KnHandleClose(self->own[i]));
	if (probe_is_open(self->buffer))
		EXPECT_OK(KnHandleClose(self->buffer));
	if (probe_is_open(self->root))
		EXPECT_OK(KnHandleClose(self->root));
	device_restore();
}

static Retcode sid_rc(Handle handle)
{
	uint32_t sid;

	return KnHandleGetSidByHandle(handle, &sid);
}

static uint32_t sid_of(Handle handle)
{
	uint32_t sid = 0;

	EXPECT_OK(KnHandleGetSidByHandle(handle, &sid));
	return sid;
}

/* Whether the memory of a buffer's handle can be mapped and begins so. */
static void expect_memory(Handle buffer, uint8_t first)
{
	Handle mapping, access;
	uint8_t *mem = buffer_map(buffer, PAGES(4), &mapping);

	EXPECT_EQ(first, mem[0]);
	ASSERT_OK(KnIoDmaBegin(buffer, &access));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(mapping));
}

static void expect_private_rc(const Handle *own, Retcode rc)
{
	for (int i = 0; i < NR_PRIVATE; i++) {
		test_context("%s", private_names[i]);
		EXPECT_RC(rc, sid_rc(own[i]));
	}
	test_context("%s", "");
}

/* All of this process is as the setup left it. */
static void expect_untouched(struct fixture_data_rules *self)
{
	expect_private_rc(self->own, rcOk);
	EXPECT_OK(sid_rc(self->buffer));
	EXPECT_EQ(0, probe_write(self->mem + 64));
	EXPECT_EQ(MARK, self->mem[0]);
	expect_memory(self->buffer, MARK);
}

/* Not by this process' handles: a private one cannot be used in any way. */
static void expect_private_useless(struct fixture_data_rules *self,
				   const Handle *got)
{
	Handle out;
	DmaInfo *info;

	expect_private_rc(got, rcNoCapability);
	EXPECT_RC(rcNoCapability, KnIoDmaGetInfo(got[ACCESS], &info));
	EXPECT_RC(rcNoCapability,
		  KnIoDmaBeginEx(self->buffer, got[DOMAIN], &out));
	EXPECT_RC(rcNoCapability, KnHandleCopy(self->buffer, OCAP_DMA_READ,
					       got[BADGE], &out));
	EXPECT_RC(rcNoCapability, KnHandleRevoke(got[ACCESS]));
	for (int i = 0; i < NR_PRIVATE; i++) {
		EXPECT_OK(KnHandleClose(got[i]));
		EXPECT_FALSE(probe_is_open(got[i]));
	}
}

/* ---- the same process ---- */

static void *use_all(void *arg)
{
	struct fixture_data_rules *self = arg;

	expect_untouched(self);
	return self;
}

TEST_F(rules, R1_threads_share_all_handles)
{
	pthread_t thread;
	void *ret = NULL;

	ASSERT_EQ(0, pthread_create(&thread, NULL, use_all, self));
	pthread_join(thread, &ret);
	EXPECT_EQ((void *)self, ret);
}

TEST_F(rules, R2_dup_of_a_transferable_handle_is_the_same)
{
	Handle twin = dup(self->buffer), child;

	EXPECT_EQ(sid_of(self->buffer), sid_of(twin));
	child = buffer_copy(twin, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(twin));
	expect_memory(self->buffer, MARK);
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_RC(rcHandleRevoked, sid_rc(child));
	EXPECT_OK(KnHandleClose(child));
	expect_untouched(self);
}

TEST_F(rules, R3_dup_of_a_private_handle_ends_with_it)
{
	for (int i = 0; i < NR_PRIVATE; i++) {
		Handle twin = dup(self->own[i]), third = dup(twin);

		test_context("%s", private_names[i]);
		ASSERT_ERRNO(0, close(third));
		EXPECT_OK(sid_rc(self->own[i]));
		EXPECT_OK(KnHandleClose(twin));
		EXPECT_RC(rcResourceNotFound, sid_rc(self->own[i]));
		EXPECT_TRUE(probe_is_open(self->own[i]));
		EXPECT_OK(KnHandleClose(self->own[i]));
	}
	EXPECT_EQ(SIGSEGV, probe_read(self->mem));
	/* The last close(2) ends it as well. */
	self->own[ACCESS] = access_begin(self->buffer);
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(self->buffer, DMA_ATTR_WRITE_BACK));
	ASSERT_ERRNO(0, close(self->own[ACCESS]));
	EXPECT_OK(KnIoDmaModify(self->buffer, DMA_ATTR_WRITE_BACK));
}

static void *close_in_own_table(void *arg)
{
	struct fixture_data_rules *self = arg;

	ASSERT_ERRNO(0, unshare(CLONE_FILES));
	expect_untouched(self);
	for (int i = 0; i < NR_PRIVATE; i++)
		EXPECT_OK(KnHandleClose(self->own[i]));
	EXPECT_OK(KnHandleClose(self->buffer));
	return self;
}

TEST_F(rules, R4_thread_with_descriptors_of_its_own)
{
	pthread_t thread;
	void *ret = NULL;

	ASSERT_EQ(0, pthread_create(&thread, NULL, close_in_own_table, self));
	pthread_join(thread, &ret);
	EXPECT_EQ((void *)self, ret);
	for (int i = 0; i < NR_PRIVATE; i++)
		EXPECT_TRUE(probe_is_open(self->own[i]));
	expect_private_rc(self->own, rcResourceNotFound);
	EXPECT_EQ(SIGSEGV, probe_read(self->mem));
	/* A transferable one is closed there only. */
	expect_memory(self->buffer, MARK);
}

/* ---- to other processes ---- */

/* Do so in another process, which gets these descriptors raw. */
static pid_t start_receiver(struct fixture_data_rules *self, int *got, int nr)
{
	pid_t pid;

	probe_send_fds(self->sock[0], got, nr);
	pid = test_fork();
	if (pid)
		return pid;
	/* Only what was received. */
	for (int i = 0; i < NR_PRIVATE; i++)
		close(self->own[i]);
	close(self->buffer);
	close(self->root);
	ASSERT_EQ(nr, probe_receive_fds(self->sock[1], got, nr));
	return 0;
}

/*
 * The end of R5, R9 and R11: a process that has the same handle maps it, and
 * says so; it keeps it when the handle is revoked, and loses it by the root.
 */
static void same_handle_child(struct fixture_data_rules *self, Handle handle)
{
	Handle mapping;
	uint8_t *mem;

	expect_memory(handle, MARK);
	mem = buffer_map(handle, PAGES(4), &mapping);
	mem[1] = 0x17;
	probe_signal(self->done[1]);
	probe_await(self->go[0]);
	/* The other has revoked the handle's descendants, and this is none. */
	EXPECT_EQ(0, probe_read(mem));
	EXPECT_OK(sid_rc(handle));
	probe_signal(self->done[1]);
	probe_await(self->go[0]);
	EXPECT_EQ(SIGBUS, probe_read(mem));
	EXPECT_RC(rcHandleRevoked, sid_rc(handle));
	test_child_exit();
}

static void same_handle_parent(struct fixture_data_rules *self, pid_t pid)
{
	probe_await(self->done[0]);
	EXPECT_EQ(0x17, self->mem[1]);
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	probe_signal(self->go[1]);
	probe_await(self->done[0]);
	expect_untouched(self);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_EQ(SIGBUS, probe_read(self->mem));
	EXPECT_RC(rcHandleRevoked, sid_rc(self->buffer));
	probe_signal(self->go[1]);
	test_wait(pid);
}

TEST_F(rules, R5_raw_transferable_descriptor_is_the_same_handle)
{
	int got = self->buffer;
	pid_t pid = start_receiver(self, &got, 1);

	if (!pid)
		same_handle_child(self, got);
	same_handle_parent(self, pid);
}

TEST_F(rules, R6_raw_private_descriptor_is_of_no_use)
{
	int fds[NR_PRIVATE + 1];
	pid_t pid;

	for (int i = 0; i < NR_PRIVATE; i++)
		fds[i] = self->own[i];
	fds[NR_PRIVATE] = self->buffer;
	pid = start_receiver(self, fds, NR_PRIVATE + 1);
	if (!pid) {
		Handle got[NR_PRIVATE];

		self->buffer = fds[NR_PRIVATE];
		for (int i = 0; i < NR_PRIVATE; i++)
			got[i] = fds[i];
		expect_private_useless(self, got);
		test_child_exit();
	}
	test_wait(pid);
	expect_untouched(self);
}

TEST_F(rules, R7_sent_handle_is_a_descendant)
{
	pid_t pid = test_fork();

	if (!pid) {
		Handle got, mapping;
		uint32_t rights;
		void *mem;

		ASSERT_OK(KosHandleReceive(self->sock[1], &got));
		EXPECT_EQ(0, probe_handle(got, NULL, &rights));
		EXPECT_EQ(OCAP_DMA_READ | OCAP_DMA_BEGIN, rights);
		ASSERT_OK(KnIoDmaMap(got, 0, PAGES(4), NULL, VMM_FLAG_READ,
				     &mem, &mapping));
		EXPECT_EQ(MARK, *(uint8_t *)mem);
		probe_signal(self->done[1]);
		probe_await(self->go[0]);
		EXPECT_EQ(SIGBUS, probe_read(mem));
		EXPECT_RC(rcHandleRevoked,
			  KnIoDmaMap(got, 0, PAGES(4), NULL, VMM_FLAG_READ,
				     &mem, &mapping));
		test_child_exit();
	}
	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer,
				OCAP_DMA_READ | OCAP_DMA_BEGIN));
	probe_await(self->done[0]);
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	probe_signal(self->go[1]);
	test_wait(pid);
	expect_untouched(self);
}

TEST_F(rules, R8_private_handles_are_neither_sent_nor_copied)
{
	char byte;

	for (int i = 0; i < NR_PRIVATE; i++) {
		Handle out;

		test_context("%s", private_names[i]);
		EXPECT_RC(rcNoCapability,
			  KosHandleSend(self->sock[0], self->own[i],
					OCAP_HANDLE_GET_SID));
		EXPECT_ERRNO(EAGAIN, recv(self->sock[1], &byte, 1,
					  MSG_DONTWAIT));
		EXPECT_RC(rcNoCapability,
			  KnHandleCopy(self->own[i], OCAP_HANDLE_GET_SID, NONE,
				       &out));
		EXPECT_EQ(NONE, out);
	}
}

TEST_F(rules, R9_pidfd_getfd_is_like_a_raw_descriptor)
{
	pid_t parent = getpid(), pid;

	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	pid = test_fork();
	if (!pid) {
		int pidfd = syscall(SYS_pidfd_open, parent, 0);
		Handle got[NR_PRIVATE], buffer;

		ASSERT_GE(pidfd, 0);
		for (int i = 0; i < NR_PRIVATE; i++) {
			got[i] = syscall(SYS_pidfd_getfd, pidfd, self->own[i],
					 0);
			ASSERT_GE((int)got[i], 0);
		}
		buffer = syscall(SYS_pidfd_getfd, pidfd, self->buffer, 0);
		ASSERT_GE((int)buffer, 0);
		self->buffer = buffer;
		expect_private_useless(self, got);
		same_handle_child(self, buffer);
	}
	same_handle_parent(self, pid);
}

TEST_F(rules, R10_handles_are_not_opened_again)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)self->buffer);
	EXPECT_ERRNO(ENXIO, open(path, O_RDWR | O_CLOEXEC));
	for (int i = 0; i < NR_PRIVATE; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d",
			 (int)self->own[i]);
		EXPECT_ERRNO(ENXIO, open(path, O_RDWR | O_CLOEXEC));
	}
	expect_untouched(self);
}

/* ---- fork ---- */

TEST_F(rules, R11_fork_child_has_the_same_transferable_handle)
{
	pid_t pid = test_fork();

	if (!pid)
		same_handle_child(self, self->buffer);
	same_handle_parent(self, pid);
}

TEST_F(rules, R12_fork_child_cannot_use_private_handles)
{
	IN_CHILD {
		int sig = probe_read(self->mem);

		EXPECT_TRUE(sig == SIGSEGV || sig == SIGBUS);
		expect_private_useless(self, self->own);
	}
	expect_untouched(self);
}

/* Of the only access that a process has through its automatic domain. */
static uint64_t automatic_addr(Handle buffer)
{
	DmaAddr addr = 0;

	return KnIoDmaContinuousGetDmaAddr(buffer, &addr) == rcOk ? addr : 0;
}

TEST_F(rules, R13_fork_child_has_an_automatic_domain_of_its_own)
{
	struct edu edu;
	Handle access;

	edu_require(&edu, 0);
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	EXPECT_OK(KnHandleClose(self->own[ACCESS]));
	access = access_begin(self->buffer);
	EXPECT_NE(0, automatic_addr(access));
	IN_CHILD {
		/* It has the device in its parent's, and not in the child's. */
		Handle mine = access_begin(self->buffer);

		EXPECT_EQ(0, automatic_addr(mine));
		EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
		EXPECT_RC(rcInvalidOperation, KnIommuDetachDevice(edu.bdf));
	}
	EXPECT_NE(0, automatic_addr(access));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	EXPECT_OK(KnHandleClose(access));
}

struct shared {
	struct fixture_data_rules *self;
	int device;
	uint32_t address;
	int attach_errno, mapping_errno, made_errno;
	Handle made;
};

/* Raw ioctls alone: it shares libc's state with a parent that waits. */
static int shared_main(void *arg)
{
	struct shared *s = arg;
	struct kosdma_handle_info info = { .size = sizeof(info),
					   .handle = s->self->own[MAPPING] };
	struct kosdma_access_begin begin = { .size = sizeof(begin),
					     .handle = s->self->buffer,
					     .domain = KOSDMA_NO_HANDLE };
	struct kosdma_device_attach attach = { .size = sizeof(attach),
					       .address = s->address,
					       .domain = KOSDMA_NO_HANDLE };

	s->mapping_errno = ioctl(s->device, KOSDMA_HANDLE_INFO, &info) ? errno :
									 0;
	s->self->mem[2] = 0x33;
	s->made_errno = ioctl(s->device, KOSDMA_ACCESS_BEGIN, &begin) ? errno :
									0;
	s->made = begin.out_handle;
	if (s->address)
		s->attach_errno = ioctl(s->device, KOSDMA_DEVICE_ATTACH,
					&attach) ? errno : 0;
	return 0;
}

static void run_shared(struct shared *s, int flags)
{
	const size_t size = KiB(64);
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, stack);
	s->device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_GE(s->device, 0);
	pid = clone(shared_main, stack + size, flags | SIGCHLD, s);
	ASSERT_GT(pid, 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(s->device);
	munmap(stack, size);
}

static bool can_attach(void *edu)
{
	return KnIommuAttachDevice(((struct edu *)edu)->bdf) == rcOk;
}

TEST_F(rules, R14_automatic_domain_is_the_process_and_ends_with_it)
{
	struct edu edu;
	struct shared s = { .self = self };
	int status;
	pid_t pid;

	edu_require(&edu, 0);
	/* Another process has it, with the device, and ends. */
	pid = test_fork();
	if (!pid) {
		ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		probe_signal(self->done[1]);
		pause();
	}
	probe_await(self->done[0]);
	EXPECT_RC(rcBusy, KnIommuAttachDevice(edu.bdf));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(wait_until(can_attach, &edu, 10));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));

	/* A child that shares the memory attaches to the parent's. */
	s.address = edu.bdf;
	run_shared(&s, CLONE_VM | CLONE_VFORK | CLONE_FILES);
	EXPECT_EQ(0, s.made_errno);
	EXPECT_EQ(0, s.attach_errno);
	EXPECT_NE(0, automatic_addr(s.made));
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
	EXPECT_OK(KnHandleClose(s.made));
}

/* ---- exec ---- */

struct verdict {
	bool open[2];
	Retcode buffer, own, closed;
	uint8_t first;
};

static bool is_settled(void *arg)
{
	return sid_rc(*(Handle *)arg) != rcNoCapability;
}

/* The program that exec runs: this one, with a mark in its environment. */
static void __attribute__((constructor)) be_the_executed(void)
{
	const char *mark = getenv(EXEC_MARK);
	struct verdict v = { 0 };
	Handle mapping, own;
	int say, buffer, handle;
	void *mem;

	if (!mark || sscanf(mark, "%d,%d,%d", &say, &buffer, &handle) != 3)
		return;
	v.open[0] = probe_is_open(buffer);
	v.open[1] = probe_is_open(handle);
	v.buffer = KnIoDmaMap(buffer, 0, PAGES(4), NULL, VMM_FLAG_READ, &mem,
			      &mapping);
	if (v.buffer == rcOk)
		v.first = *(uint8_t *)mem;
	own = handle;
	v.own = sid_rc(own);
	if (v.own == rcNoCapability && getenv("SETTLE")) {
		wait_until(is_settled, &own, 10);
		v.own = sid_rc(own);
	}
	v.closed = v.open[1] ? KnHandleClose(own) : rcOk;
	_exit(write(say, &v, sizeof(v)) != sizeof(v));
}

static void exec_self(int say, Handle buffer, Handle own, bool settle)
{
	char mark[64];
	char *argv[] = { "rules_test", NULL };
	char *envp[] = { mark, settle ? "SETTLE=1" : NULL, NULL };

	snprintf(mark, sizeof(mark), EXEC_MARK "=%d,%d,%d", say, (int)buffer,
		 (int)own);
	execve("/proc/self/exe", argv, envp);
	_exit(TEST_EXIT_FAIL);
}

/* A child makes its own private objects, keeps descriptors so, and execs. */
static void run_exec(struct fixture_data_rules *self, struct verdict *v,
		     bool keep, int kind)
{
	pid_t pid = test_fork();

	if (!pid) {
		Handle own[NR_PRIVATE];

		buffer_map(self->buffer, PAGES(4), &own[MAPPING]);
		own[ACCESS] = access_begin(self->buffer);
		own[DOMAIN] = domain_create();
		ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &own[BADGE]));
		fcntl(self->done[1], F_SETFD, 0);
		if (keep) {
			fcntl(self->buffer, F_SETFD, 0);
			for (int i = 0; i < NR_PRIVATE; i++)
				fcntl(own[i], F_SETFD, 0);
		}
		exec_self(self->done[1], self->buffer, own[kind], true);
	}
	ASSERT_EQ(sizeof(*v), read(self->done[0], v, sizeof(*v)));
	test_wait(pid);
}

static bool can_modify(void *buffer)
{
	return KnIoDmaModify(*(Handle *)buffer, DMA_ATTR_WRITE_BACK) == rcOk;
}

TEST_F(rules, R15_exec_closes_and_ends_all)
{
	struct verdict v;

	EXPECT_OK(KnHandleClose(self->own[MAPPING]));
	EXPECT_OK(KnHandleClose(self->own[ACCESS]));
	for (int kind = 0; kind < NR_PRIVATE; kind++) {
		run_exec(self, &v, false, kind);
		EXPECT_FALSE(v.open[0]);
		EXPECT_FALSE(v.open[1]);
		EXPECT_RC(rcResourceNotFound, v.buffer);
		EXPECT_RC(rcResourceNotFound, v.own);
		/* Nothing of it uses the buffer. */
		EXPECT_TRUE(wait_until(can_modify, &self->buffer, 10));
	}
}

TEST_F(rules, R16_transferable_handle_is_kept_over_exec)
{
	struct verdict v;

	run_exec(self, &v, true, ACCESS);
	EXPECT_TRUE(v.open[0]);
	EXPECT_OK(v.buffer);
	EXPECT_EQ(MARK, v.first);
	EXPECT_OK(KnHandleClose(self->own[MAPPING]));
	EXPECT_OK(KnHandleClose(self->own[ACCESS]));
	EXPECT_TRUE(wait_until(can_modify, &self->buffer, 10));
}

TEST_F(rules, R17_private_handle_that_is_kept_over_exec_has_ended)
{
	struct verdict v;

	for (int kind = 0; kind < NR_PRIVATE; kind++) {
		test_context("%s", private_names[kind]);
		run_exec(self, &v, true, kind);
		EXPECT_TRUE(v.open[1]);
		EXPECT_RC(kind == BADGE ? rcNoCapability : rcResourceNotFound,
			  v.own);
		EXPECT_OK(v.closed);
	}
	expect_untouched(self);
}

/* ---- vfork, threads, credentials ---- */

TEST_F(rules, R18_child_that_shares_the_memory_is_the_same_process)
{
	static const int flags[] = { CLONE_VM | CLONE_VFORK, CLONE_VM,
				     CLONE_VM | CLONE_VFORK | CLONE_FILES };

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct shared s = { .self = self, .made_errno = -1,
				    .mapping_errno = -1 };

		test_context("flags %#x", flags[i]);
		run_shared(&s, flags[i]);
		EXPECT_EQ(0, s.mapping_errno);
		EXPECT_EQ(0, s.made_errno);
		EXPECT_EQ(0x33, self->mem[2]);
		self->mem[2] = 0;
		if (flags[i] & CLONE_FILES) {
			EXPECT_OK(sid_rc(s.made));
			EXPECT_OK(KnHandleClose(s.made));
		} else {
			EXPECT_FALSE(probe_is_open(s.made));
		}
		expect_untouched(self);
	}
}

TEST_F(rules, R19_vfork_child_that_execs_ends_nothing)
{
	struct verdict v;
	volatile int kind;

	for (kind = 0; kind < NR_PRIVATE; kind++) {
		pid_t pid;

		test_context("%s", private_names[kind]);
		fcntl(self->done[1], F_SETFD, 0);
		fcntl(self->own[kind], F_SETFD, 0);
		fcntl(self->buffer, F_SETFD, 0);
		pid = vfork();
		if (!pid)
			exec_self(self->done[1], self->buffer, self->own[kind],
				  false);
		ASSERT_GT(pid, 0);
		ASSERT_EQ(sizeof(v), read(self->done[0], &v, sizeof(v)));
		test_wait(pid);
		EXPECT_OK(v.buffer);
		EXPECT_RC(rcNoCapability, v.own);
		EXPECT_OK(v.closed);
		expect_untouched(self);
	}
}

static void *outlive(void *arg)
{
	struct fixture_data_rules *self = arg;
	Handle mapping;

	probe_await(self->go[0]);
	/* The first thread is a zombie by now, or soon. */
	usleep(100 * 1000);
	EXPECT_EQ(0x44, *(volatile uint8_t *)(self->mem + 3));
	buffer_map(self->buffer, PAGES(4), &mapping);
	EXPECT_OK(sid_rc(self->own[MAPPING]));
	test_child_exit();
	return NULL;
}

TEST_F(rules, R20_end_of_the_first_thread_ends_nothing)
{
	pid_t pid = test_fork();

	if (!pid) {
		pthread_t thread;

		self->mem = buffer_map(self->buffer, PAGES(4),
				       &self->own[MAPPING]);
		self->mem[3] = 0x44;
		ASSERT_EQ(0, pthread_create(&thread, NULL, outlive, self));
		probe_signal(self->go[1]);
		syscall(SYS_exit, 0);
	}
	test_wait(pid);
}

TEST_F(rules, R21_rights_are_the_handles_not_the_users)
{
	IN_CHILD {
		Handle own[NR_PRIVATE];

		self->mem = buffer_map(self->buffer, PAGES(4), &own[MAPPING]);
		own[ACCESS] = access_begin(self->buffer);
		own[DOMAIN] = domain_create();
		ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &own[BADGE]));
		probe_become_nobody();
		expect_private_rc(own, rcOk);
		EXPECT_EQ(0, probe_write(self->mem + 64));
		expect_memory(self->buffer, MARK);
		for (int i = 0; i < NR_PRIVATE; i++)
			EXPECT_OK(KnHandleClose(own[i]));
	}
}

/* ---- death ---- */

/* A child with objects of its own sends descriptors raw, and is killed. */
static void receive_from_the_dead(struct fixture_data_rules *self, int *fds)
{
	int status;
	pid_t pid = test_fork();

	if (!pid) {
		Handle buffer = buffer_create(0, PAGES(4), 0), mapping;
		uint8_t *mem = buffer_map(buffer, PAGES(4), &mapping);

		mem[0] = 0x55;
		fds[NR_PRIVATE] = buffer;
		fds[MAPPING] = mapping;
		fds[ACCESS] = access_begin(buffer);
		fds[DOMAIN] = domain_create();
		ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL,
					      (Handle *)&fds[BADGE]));
		probe_send_fds(self->sock[0], fds, NR_PRIVATE + 1);
		probe_await(self->go[0]);
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(NR_PRIVATE + 1, probe_receive_fds(self->sock[1], fds,
						    NR_PRIVATE + 1));
	expect_memory(fds[NR_PRIVATE], 0x55);
	for (int i = 0; i < NR_PRIVATE; i++)
		EXPECT_RC(rcNoCapability, sid_rc(fds[i]));
	probe_signal(self->go[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
}

TEST_F(rules, R22_transferable_handle_outlives_its_owner)
{
	int fds[NR_PRIVATE + 1];
	Handle mapping;
	uint8_t *mem;

	receive_from_the_dead(self, fds);
	expect_memory(fds[NR_PRIVATE], 0x55);
	mem = buffer_map(fds[NR_PRIVATE], PAGES(4), &mapping);
	EXPECT_OK(KnHandleClose(fds[NR_PRIVATE]));
	EXPECT_EQ(0x55, mem[0]);
	EXPECT_OK(KnHandleClose(mapping));
	for (int i = 0; i < NR_PRIVATE; i++)
		close(fds[i]);
}

TEST_F(rules, R23_private_object_ends_with_its_owner)
{
	int fds[NR_PRIVATE + 1];

	receive_from_the_dead(self, fds);
	for (int i = 0; i < NR_PRIVATE; i++) {
		struct pollfd pfd = { .fd = fds[i], .events = POLLIN };
		Handle handle = fds[i];

		test_context("%s", private_names[i]);
		if (i != BADGE) {
			EXPECT_EQ(1, poll(&pfd, 1, 10000));
			EXPECT_EQ(POLLHUP, pfd.revents);
			EXPECT_RC(rcResourceNotFound, sid_rc(handle));
		} else {
			EXPECT_RC(rcNoCapability, sid_rc(handle));
		}
		EXPECT_OK(KnHandleClose(handle));
	}
	test_context("%s", "");
	/* Nothing but this descriptor uses the buffer. */
	EXPECT_OK(KnIoDmaModify(fds[NR_PRIVATE], DMA_ATTR_WRITE_BACK));
	EXPECT_OK(KnHandleClose(fds[NR_PRIVATE]));
}

TEST_F(rules, R24_death_of_a_holder)
{
	Handle passed, mapping;
	int status;
	uint8_t *mem;
	pid_t pid = test_fork();

	if (!pid) {
		Handle got;

		ASSERT_OK(KosHandleReceive(self->sock[1], &got));
		buffer_map(got, PAGES(4), &mapping);
		access_begin(got);
		ASSERT_OK(KosHandleSend(self->sock[1], got, OCAP_DMA_FULL));
		probe_signal(self->done[1]);
		pause();
	}
	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, OCAP_DMA_FULL));
	probe_await(self->done[0]);
	ASSERT_OK(KosHandleReceive(self->sock[0], &passed));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	expect_untouched(self);
	mem = buffer_map(passed, PAGES(4), &mapping);
	EXPECT_EQ(MARK, mem[0]);
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_EQ(SIGBUS, probe_read(mem));
	EXPECT_RC(rcHandleRevoked, sid_rc(passed));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(passed));
	expect_untouched(self);
	EXPECT_OK(KnHandleClose(self->own[MAPPING]));
	EXPECT_OK(KnHandleClose(self->own[ACCESS]));
	EXPECT_TRUE(wait_until(can_modify, &self->buffer, 10));
}

/* ---- on the way ---- */

TEST_F(rules, R25_sender_dies_while_the_handle_is_queued)
{
	Handle got, far;
	int status;
	pid_t pid = test_fork();

	if (!pid) {
		Handle buffer = buffer_create(0, PAGES(4), 0), mapping;

		memset(buffer_map(buffer, PAGES(4), &mapping), 0x66, 1);
		ASSERT_OK(KosHandleSend(self->sock[0], buffer, OCAP_DMA_FULL));
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	usleep(100 * 1000);
	ASSERT_OK(KosHandleReceive(self->sock[1], &got));
	expect_memory(got, 0x66);
	far = buffer_copy(got, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleRevoke(got));
	EXPECT_RC(rcHandleRevoked, sid_rc(far));
	EXPECT_OK(KnHandleClose(far));
}

TEST_F(rules, R26_revoked_while_it_is_queued)
{
	int fds = probe_nr_fds();
	Handle got;
	char byte;

	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, OCAP_DMA_FULL));
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_RC(rcHandleRevoked, KosHandleReceive(self->sock[1], &got));
	EXPECT_EQ(NONE, got);
	EXPECT_ERRNO(EAGAIN, recv(self->sock[1], &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(fds, probe_nr_fds());
}

TEST_F(rules, R27_closed_socket_closes_what_is_queued)
{
	long before = probe_free_memory();

	for (int side = 0; side < 2; side++) {
		int sock[2];
		Handle buffer = buffer_create(0, MiB(32), 0);

		test_context("side %d", side);
		ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					   0, sock));
		ASSERT_OK(KosHandleSend(sock[0], buffer, OCAP_DMA_FULL));
		EXPECT_OK(KnHandleClose(buffer));
		EXPECT_FALSE(before - probe_free_memory() < KiB(24));
		close(sock[side]);
		close(sock[!side]);
		EXPECT_TRUE(probe_memory_returns(before, KiB(8)));
	}
}

TEST_F(rules, R28_collected_sockets_close_what_is_queued)
{
	long before = probe_free_memory();
	Handle buffer = buffer_create(0, MiB(32), 0);
	int sock[2], more[2];

	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				   sock));
	ASSERT_OK(KosHandleSend(sock[0], buffer, OCAP_DMA_FULL));
	/* Each in the queue of the other. */
	probe_send_fds(sock[0], &sock[0], 1);
	probe_send_fds(sock[1], &sock[1], 1);
	probe_send_fds(sock[0], &sock[1], 1);
	EXPECT_OK(KnHandleClose(buffer));
	close(sock[0]);
	close(sock[1]);
	/* Closing a socket makes the kernel collect. */
	for (int i = 0; i < 3; i++) {
		ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					   0, more));
		probe_send_fds(more[0], &more[0], 1);
		close(more[0]);
		close(more[1]);
		usleep(50 * 1000);
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(8)));
}

/* ---- who pays ---- */

enum { MEMLOCK = MiB(1) };

static void become_limited(void)
{
	set_limit(RLIMIT_MEMLOCK, MEMLOCK);
	probe_become_nobody();
}

static bool nobody_has(void *arg)
{
	Handle buffer;

	if (KnIoDmaCreate(0, *(size_t *)arg, 0, &buffer) != rcOk)
		return false;
	EXPECT_OK(KnHandleClose(buffer));
	return true;
}

static bool nobody_has_all(void)
{
	size_t all = MEMLOCK;

	return wait_until(nobody_has, &all, 10);
}

TEST_F(rules, R29_memory_is_charged_to_its_creator_until_it_is_free)
{
	Handle got, mapping, out;
	pid_t pid = test_fork();
	int status;

	if (!pid) {
		become_limited();
		ASSERT_TRUE(nobody_has_all());
		got = buffer_create(0, MEMLOCK, 0);
		ASSERT_OK(KosHandleSend(self->sock[0], got, OCAP_DMA_FULL));
		/* Whoever has it: it is still charged, and once. */
		probe_await(self->go[0]);
		EXPECT_RC(rcQuotaExceeded, KnIoDmaCreate(0, PAGE, 0, &out));
		kill(getpid(), SIGKILL);
	}
	ASSERT_OK(KosHandleReceive(self->sock[1], &got));
	buffer_map(got, MEMLOCK, &mapping);
	out = access_begin(got);
	probe_signal(self->go[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	IN_CHILD {
		/* The creator is dead, its user still pays. */
		become_limited();
		EXPECT_RC(rcQuotaExceeded, KnIoDmaCreate(0, PAGE, 0, &got));
	}
	EXPECT_OK(KnHandleClose(got));
	EXPECT_OK(KnHandleClose(out));
	IN_CHILD {
		become_limited();
		EXPECT_RC(rcQuotaExceeded, KnIoDmaCreate(0, PAGE, 0, &got));
	}
	EXPECT_OK(KnHandleClose(mapping));
	IN_CHILD {
		become_limited();
		EXPECT_TRUE(nobody_has_all());
	}
}

static long cgroup_current(const char *dir)
{
	char path[128];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.current", dir);
	f = fopen(path, "re");
	if (f && fscanf(f, "%ld", &value) != 1)
		value = -1;
	if (f)
		fclose(f);
	return value;
}

static bool try_rmdir(void *dir)
{
	return !rmdir(dir);
}

TEST_F(rules, R30_cgroup_of_the_creator_pays)
{
	static const char *const dirs[2] = { "/sys/fs/cgroup/kosdma-rules-a",
					     "/sys/fs/cgroup/kosdma-rules-b" };
	long a, b;

	for (int i = 0; i < 2; i++) {
		mkdir(dirs[i], 0755);
		if (cgroup_current(dirs[i]) < 0) {
			rmdir(dirs[0]);
			rmdir(dirs[i]);
			SKIP("needs cgroup2 with the memory controller");
		}
	}
	IN_CHILD {
		Handle buffer, mapping;

		ASSERT_TRUE(probe_write_file(
			"/sys/fs/cgroup/kosdma-rules-a/cgroup.procs", "0"));
		EXPECT_OK(KnHandleClose(buffer_create(0, MiB(1), 0)));
		a = cgroup_current(dirs[0]);
		buffer = buffer_create(0, MiB(16), 0);
		EXPECT_GE(cgroup_current(dirs[0]), a + (long)MiB(15));
		ASSERT_TRUE(probe_write_file(
			"/sys/fs/cgroup/kosdma-rules-b/cgroup.procs", "0"));
		b = cgroup_current(dirs[1]);
		memset(buffer_map(buffer, MiB(16), &mapping), 1, MiB(16));
		EXPECT_GE(cgroup_current(dirs[0]), a + (long)MiB(15));
		EXPECT_LE(cgroup_current(dirs[1]), b + (long)MiB(4));
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(buffer));
		EXPECT_LE(cgroup_current(dirs[0]), a + (long)MiB(4));
	}
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(wait_until(try_rmdir, (void *)dirs[i], 10));
}

#define MAX_OBJECTS "/sys/module/kosdma/parameters/max_objects"

TEST_F(rules, R31_objects_are_charged_to_who_makes_them)
{
	char old[32];
	Handle got, out, more[8];
	int nr = 0, fd;
	void *mem;

	snprintf(old, sizeof(old), "%u", machine_max_objects());
	fd = open(MAX_OBJECTS, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		SKIP("needs to write " MAX_OBJECTS);
	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, OCAP_DMA_FULL));
	IN_CHILD {
		probe_become_nobody();
		/* Nothing of nobody's but what it makes here. */
		ASSERT_EQ(1, pwrite(fd, "4", 1, 0));
		EXPECT_OK(KosHandleReceive(self->sock[1], &got));
		/* One for a copy. */
		for (; nr < 8; nr++)
			if (KnHandleCopy(got, OCAP_DMA_FULL, NONE,
					 &more[nr]) != rcOk)
				break;
		EXPECT_EQ(4, nr);
		/* A mapping is two, and counts here. */
		EXPECT_RC(rcQuotaExceeded,
			  KnIoDmaMap(got, 0, PAGE, NULL, VMM_READ_WRITE, &mem,
				     &out));
		EXPECT_OK(KnHandleClose(more[0]));
		EXPECT_RC(rcQuotaExceeded,
			  KnIoDmaMap(got, 0, PAGE, NULL, VMM_READ_WRITE, &mem,
				     &out));
		EXPECT_OK(KosHandleSend(self->sock[0], got, OCAP_DMA_FULL));
		EXPECT_RC(rcQuotaExceeded,
			  KosHandleSend(self->sock[0], got, OCAP_DMA_FULL));
		EXPECT_OK(KnHandleClose(more[1]));
		EXPECT_OK(KosHandleSend(self->sock[0], got, OCAP_DMA_FULL));
		EXPECT_RC(rcQuotaExceeded,
			  KosHandleSend(self->sock[0], got, OCAP_DMA_FULL));
		ASSERT_EQ((int)strlen(old), pwrite(fd, old, strlen(old), 0));
	}
	EXPECT_EQ((int)strlen(old), pwrite(fd, old, strlen(old), 0));
	/* The process is gone; what it has sent is still its user's. */
	usleep(200 * 1000);
	IN_CHILD {
		ASSERT_EQ(1, pwrite(fd, "2", 1, 0));
		probe_become_nobody();
		EXPECT_RC(rcQuotaExceeded,
			  KnHandleCopy(self->buffer, 0, NONE, &out));
		EXPECT_OK(KosHandleReceive(self->sock[1], &got));
		EXPECT_OK(KnHandleClose(got));
		EXPECT_OK(KnHandleCopy(self->buffer, 0, NONE, &out));
	}
	EXPECT_EQ((int)strlen(old), pwrite(fd, old, strlen(old), 0));
	close(fd);
}

TEST_HARNESS_MAIN
