// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who is charged for what, how often, and until when: locked memory of a user,
 * the memory cgroup, the number of objects.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE
#define MAX_OBJECTS "/sys/module/kosdma/parameters/max_objects"

enum {
	MEMLOCK_PAGES = 512,
	OTHER_USER = 65533,
	SIZE_PAGES = 64,
};

#define MEMLOCK PAGES(MEMLOCK_PAGES)
#define SIZE PAGES(SIZE_PAGES)

/* ---- locked memory of a user ---- */

static void become(uid_t uid)
{
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(uid, uid, uid));
	ASSERT_EQ(0, setresuid(uid, uid, uid));
}

/* An ordinary user with MEMLOCK, of which others may use some. */
static void become_limited(void)
{
	set_limit(RLIMIT_MEMLOCK, MEMLOCK);
	become(NOBODY);
}

static bool fits(size_t pages)
{
	Handle buffer;
	Retcode rc;

	if (!pages)
		return true;
	rc = KnIoDmaCreate(0, PAGES(pages), 0, &buffer);
	if (rc == rcOk)
		EXPECT_OK(KnHandleClose(buffer));
	else
		EXPECT_RC(rcQuotaExceeded, rc);
	return rc == rcOk;
}

/* Pages that the user of this process is charged for, if it has the limit. */
static size_t charged(void)
{
	size_t low = 0, high = MEMLOCK_PAGES;

	while (low < high) {
		size_t middle = (low + high + 1) / 2;

		if (fits(middle))
			low = middle;
		else
			high = middle - 1;
	}
	return MEMLOCK_PAGES - low;
}

static bool charged_is(void *pages)
{
	return charged() == *(size_t *)pages;
}

/* It may take a moment: other processes' ends. */
static void await_charged(size_t pages)
{
	if (!wait_until(charged_is, &pages, 5))
		EXPECT_EQ(pages, charged());
}

/* The same, of the user nobody, by another process. */
static void expect_nobody_charged(size_t pages)
{
	IN_CHILD {
		become_limited();
		await_charged(pages);
	}
}

FIXTURE(locked) {
	int sock[2], go[2], done[2];
};

FIXTURE_VARIANT(locked) {
	uint32_t order;
	size_t size;
	size_t pages; /* that are charged */
	bool continuous;
};

FIXTURE_VARIANT_ADD(locked, pages) { .size = SIZE, .pages = SIZE_PAGES };
FIXTURE_VARIANT_ADD(locked, rounded) {
	.order = 5, .size = PAGES(33), .pages = 64,
};
FIXTURE_VARIANT_ADD(locked, continuous) {
	.size = PAGES(33), .pages = 64, .continuous = true,
};

FIXTURE_SETUP(locked)
{
	device_warm_up();
	device_make_public();
	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   self->sock));
	ASSERT_ERRNO(0, pipe2(self->go, O_CLOEXEC));
	ASSERT_ERRNO(0, pipe2(self->done, O_CLOEXEC));
}

/* Nothing is left of any test. */
FIXTURE_TEARDOWN(locked)
{
	close(self->sock[0]);
	close(self->sock[1]);
	expect_nobody_charged(0);
	device_restore();
}

static Handle create(const struct fixture_variant_locked *variant)
{
	Handle buffer = NONE;

	if (variant->continuous)
		ASSERT_OK(KnIoDmaCreateContinuous(variant->size, 0, &buffer));
	else
		ASSERT_OK(KnIoDmaCreate(variant->order, variant->size, 0,
					&buffer));
	return buffer;
}

TEST_F(locked, one_charge_however_it_is_used)
{
	IN_CHILD {
		Handle buffer, map[4], copy[4], domain[3], access[4];
		int twin;

		become_limited();
		await_charged(0);
		buffer = create(variant);
		EXPECT_EQ(variant->pages, charged());
		for (int i = 0; i < 4; i++) {
			copy[i] = buffer_copy(buffer, OCAP_DMA_FULL);
			buffer_map(copy[i], variant->size, &map[i]);
		}
		for (int i = 0; i < 3; i++) {
			domain[i] = domain_create();
			access[i] = access_begin_in(copy[i], domain[i]);
		}
		access[3] = access_begin(buffer);
		twin = dup(buffer);
		EXPECT_EQ(variant->pages, charged());
		IN_CHILD {
			Handle mapping;

			/* A process more, of the same user. */
			buffer_map(buffer, variant->size, &mapping);
			access_begin(buffer);
			EXPECT_EQ(variant->pages, charged());
		}
		EXPECT_OK(KnHandleClose(buffer));
		for (int i = 0; i < 4; i++)
			EXPECT_OK(KnHandleClose(copy[i]));
		close(twin);
		EXPECT_EQ(variant->pages, charged());
		/* To the last use, of whatever kind it is. */
		for (int i = 0; i < 4; i++)
			EXPECT_OK(KnHandleClose(access[i]));
		for (int i = 0; i < 3; i++)
			EXPECT_OK(KnHandleClose(domain[i]));
		for (int i = 0; i < 4; i++) {
			EXPECT_EQ(variant->pages, charged());
			EXPECT_OK(KnHandleClose(map[i]));
		}
		/* At once, and not some time later. */
		EXPECT_EQ(0, charged());
	}
}

TEST_F(locked, processes_of_a_user_share_the_limit)
{
	pid_t pid[2];

	/* One after the other: asking for the charge charges for a moment. */
	for (int i = 0; i < 2; i++) {
		pid[i] = test_fork();
		if (!pid[i]) {
			become_limited();
			await_charged(i * variant->pages);
			create(variant);
			EXPECT_EQ((i + 1) * variant->pages, charged());
			probe_signal(self->done[1]);
			probe_await(self->go[0]);
			test_child_exit();
		}
		probe_await(self->done[0]);
	}
	expect_nobody_charged(2 * variant->pages);
	IN_CHILD {
		/* Another user has its own. */
		set_limit(RLIMIT_MEMLOCK, MEMLOCK);
		become(OTHER_USER);
		EXPECT_EQ(0, charged());
	}
	for (int i = 0; i < 2; i++)
		probe_signal(self->go[1]);
	for (int i = 0; i < 2; i++)
		test_wait(pid[i]);
}

/* The user nobody, with this capability alone. */
static void become_nobody_with(unsigned int cap)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = { 0 };

	ASSERT_ERRNO(0, prctl(PR_SET_KEEPCAPS, 1));
	become_limited();
	data[cap / 32].effective = data[cap / 32].permitted = 1U << cap % 32;
	ASSERT_ERRNO(0, syscall(SYS_capset, &header, data));
}

TEST_F(locked, who_may_lock_memory_is_charged_without_a_limit)
{
	pid_t pid = test_fork();

	if (!pid) {
		become_nobody_with(CAP_IPC_LOCK);
		/* Twice the limit. */
		buffer_create(0, MEMLOCK, 0);
		buffer_create(0, MEMLOCK, 0);
		create(variant);
		probe_signal(self->done[1]);
		probe_await(self->go[0]);
		test_child_exit();
	}
	probe_await(self->done[0]);
	IN_CHILD {
		Handle out;

		/* Those of this user who may not find the limit used up. */
		become_limited();
		EXPECT_RC(rcQuotaExceeded, KnIoDmaCreate(0, PAGE, 0, &out));
	}
	probe_signal(self->go[1]);
	test_wait(pid);
}

TEST_F(locked, creator_pays_for_what_it_sent)
{
	Handle out;
	pid_t pid = test_fork();

	if (!pid) {
		become_limited();
		await_charged(0);
		ASSERT_OK(KosHandleSend(self->sock[0], create(variant),
					OCAP_DMA_FULL));
		EXPECT_EQ(variant->pages, charged());
		probe_signal(self->done[1]);
		probe_await(self->go[0]);
		test_child_exit();
	}
	probe_await(self->done[0]);
	/* In the queue, and held by another user. */
	expect_nobody_charged(variant->pages);
	IN_CHILD {
		Handle got, mapping;

		set_limit(RLIMIT_MEMLOCK, MEMLOCK);
		become(OTHER_USER);
		ASSERT_OK(KosHandleReceive(self->sock[1], &got));
		memset(buffer_map(got, variant->size, &mapping), 1,
		       variant->size);
		access_begin(got);
		EXPECT_EQ(0, charged());
		/* Nor does a limit of its own keep it from using it. */
		set_limit(RLIMIT_MEMLOCK, 0);
		EXPECT_RC(rcQuotaExceeded, KnIoDmaCreate(0, PAGE, 0, &out));
		EXPECT_OK(KnHandleClose(mapping));
		buffer_map(got, variant->size, &mapping);
	}
	expect_nobody_charged(variant->pages);
	probe_signal(self->go[1]);
	test_wait(pid);
}

TEST_F(locked, charge_outlives_its_creator_until_the_last_holder_is_gone)
{
	static const char *const ends[] = { "close", "exit", "kill" };

	for (size_t how = 0; how < ARRAY_SIZE(ends); how++) {
		Handle got, mapping;
		int status;
		pid_t pid = test_fork();

		test_context("the last holder ends by %s", ends[how]);
		if (!pid) {
			become_limited();
			await_charged(0);
			ASSERT_OK(KosHandleSend(self->sock[0], create(variant),
						OCAP_DMA_FULL));
			kill(getpid(), SIGKILL);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		expect_nobody_charged(variant->pages);
		ASSERT_OK(KosHandleReceive(self->sock[1], &got));
		pid = test_fork();
		if (!pid) {
			buffer_map(got, variant->size, &mapping);
			probe_signal(self->done[1]);
			probe_await(self->go[0]);
			if (how == 2)
				kill(getpid(), SIGKILL);
			if (how == 0) {
				EXPECT_OK(KnHandleClose(got));
				EXPECT_OK(KnHandleClose(mapping));
				probe_signal(self->done[1]);
				probe_await(self->go[0]);
			}
			test_child_exit();
		}
		probe_await(self->done[0]);
		EXPECT_OK(KnHandleClose(got));
		expect_nobody_charged(variant->pages);
		probe_signal(self->go[1]);
		if (how == 0) {
			probe_await(self->done[0]);
			expect_nobody_charged(0);
			probe_signal(self->go[1]);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		expect_nobody_charged(0);
	}
}

TEST_F(locked, death_of_the_only_holder_gives_back)
{
	for (int how = 0; how < 3; how++) {
		int status;
		pid_t pid = test_fork();

		test_context("way %d", how);
		if (!pid) {
			Handle buffer, mapping;

			become_limited();
			await_charged(0);
			buffer = create(variant);
			buffer_map(buffer, variant->size, &mapping);
			access_begin_in(buffer, domain_create());
			buffer_copy(buffer, OCAP_DMA_FULL);
			EXPECT_EQ(variant->pages, charged());
			if (how == 0)
				kill(getpid(), SIGKILL);
			if (how == 1)
				abort();
			execl("/bin/true", "true", NULL);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		expect_nobody_charged(0);
	}
}

TEST_F(locked, revoke_and_close_give_back)
{
	IN_CHILD {
		Handle root, copy, mapping;

		become_limited();
		await_charged(0);
		for (int i = 0; i < 5; i++) {
			root = create(variant);
			copy = buffer_copy(root, OCAP_DMA_FULL);
			buffer_map(copy, variant->size, &mapping);
			/* Revoked uses keep no memory, open or not. */
			EXPECT_OK(KnHandleRevoke(root));
			EXPECT_EQ(0, charged());
			EXPECT_RC(rcHandleRevoked,
				  KnIoDmaMap(copy, 0, PAGE, NULL,
					     VMM_READ_WRITE, (void *[1]){ 0 },
					     (Handle[1]){ 0 }));
			EXPECT_OK(KnHandleClose(copy));
			EXPECT_OK(KnHandleClose(mapping));
		}
		EXPECT_EQ(0, charged());
	}
}

static int create_errno(void *arg)
{
	return probe_ioctl(KOSDMA_BUFFER_CREATE, arg) ? errno : 0;
}

TEST_F(locked, failed_creation_gives_back)
{
	IN_CHILD {
		struct kosdma_buffer_create good = {
			.size = sizeof(good),
			.length = variant->size,
			.order = variant->order,
			.flags = variant->continuous ?
					 KOSDMA_BUFFER_CONTIGUOUS : 0,
		}, bad, *arg;
		struct rlimit none, files;
		int fds;

		become_limited();
		await_charged(0);
		arg = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, arg);
		*arg = good;
		ASSERT_ERRNO(0, mprotect(arg, PAGE, PROT_READ));
		ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &files));
		none = files;
		none.rlim_cur = 0;
		fds = probe_nr_fds();
		for (int i = 0; i < 20; i++) {
			/* A result that cannot be delivered. */
			EXPECT_EQ(EFAULT, create_errno(arg));
			/* No descriptor for it. */
			setrlimit(RLIMIT_NOFILE, &none);
			bad = good;
			EXPECT_EQ(EMFILE, create_errno(&bad));
			setrlimit(RLIMIT_NOFILE, &files);
			/* More than the user may have. */
			bad = good;
			bad.length = MEMLOCK + PAGE;
			EXPECT_EQ(EDQUOT, create_errno(&bad));
			/* What no memory can be. */
			bad = good;
			bad.attr = KOSDMA_ATTR_WRITE_THROUGH;
			EXPECT_EQ(EOPNOTSUPP, create_errno(&bad));
		}
		EXPECT_EQ(fds, probe_nr_fds());
		EXPECT_EQ(0, charged());
	}
}

static void expect_shortage(void *order)
{
	size_t ram = (size_t)probe_meminfo("MemTotal") << 10;
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit some = { MEMLOCK, RLIM_INFINITY };
	Handle out;

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &all));
	become(NOBODY);
	EXPECT_RC(rcOutOfMemory,
		  KnIoDmaCreate(*(uint32_t *)order,
				(ram - MiB(16)) & ~(PAGE_SIZE - 1), 0, &out));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &some));
	EXPECT_EQ(0, charged());
}

/* What the machine does not have is not charged either. */
TEST_F(locked, shortage_gives_back)
{
	uint32_t order = variant->order;

	if (probe_meminfo("MemTotal") > 8 << 20)
		SKIP("would take all memory of a large machine");
	if (variant->continuous)
		SKIP("continuous buffers fail earlier");
	probe_shortage(expect_shortage, &order);
}

/* The design: charged until the pages are free. A pin keeps them. */
TEST_F(locked, pinned_pages_stay_charged)
{
	int pin[2];

	if (variant->continuous)
		SKIP("continuous buffers cannot be pinned");
	ASSERT_ERRNO(0, pipe2(pin, O_CLOEXEC | O_NONBLOCK));
	IN_CHILD {
		Handle buffer, mapping;
		struct iovec iov = { .iov_len = PAGE };
		void *memory;

		become_limited();
		await_charged(0);
		buffer = create(variant);
		ASSERT_OK(KnIoDmaMap(buffer, 0, variant->size, NULL,
				     VMM_READ_WRITE | VMM_FLAG_IO, &memory,
				     &mapping));
		/* The last page of its block, whatever that is. */
		iov.iov_base = (char *)memory + variant->size - PAGE;
		ASSERT_EQ(PAGE, vmsplice(pin[1], &iov, 1, SPLICE_F_NONBLOCK));
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(buffer));
		EXPECT_GE(charged(), 1);
	}
	IN_CHILD {
		become_limited();
		EXPECT_GE(charged(), 1);
	}
	close(pin[0]);
	close(pin[1]);
	expect_nobody_charged(0);
}

/* ---- the memory cgroup ---- */

FIXTURE(cgroup) {
	char dir[64];
};

static long group_read(const char *dir, const char *file, const char *key)
{
	char path[128], line[128];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			value = strtol(line + strlen(key), NULL, 10);
	fclose(f);
	return value;
}

static void group_write(const char *dir, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	if (!probe_write_file(path, text))
		test_failed(true, __FILE__, __LINE__, "%s: %s", path,
			    strerror(errno));
}

static long current(struct fixture_data_cgroup *self)
{
	return group_read(self->dir, "memory.current", "");
}

FIXTURE_SETUP(cgroup)
{
	device_warm_up();
	strcpy(self->dir, "/sys/fs/cgroup/kosdma-account");
	mkdir(self->dir, 0755);
	if (current(self) < 0) {
		rmdir(self->dir);
		SKIP("needs cgroup2 with the memory controller at /sys/fs/cgroup");
	}
}

static bool try_rmdir(void *dir)
{
	return !rmdir(dir);
}

FIXTURE_TEARDOWN(cgroup)
{
	EXPECT_EQ(0, group_read(self->dir, "memory.events", "oom_kill "));
	EXPECT_TRUE(wait_until(try_rmdir, self->dir, 10));
}

TEST_F(cgroup, usage_rises_and_returns)
{
	static const uint32_t orders[] = { 0, 4, 10 };

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		test_context("order %u", orders[i]);
		IN_CHILD {
			long before;
			Handle buffer, mapping;

			group_write(self->dir, "cgroup.procs", "0");
			EXPECT_OK(KnHandleClose(buffer_create(0, MiB(1), 0)));
			before = current(self);
			buffer = buffer_create(orders[i], MiB(32), 0);
			EXPECT_GE(current(self), before + (long)MiB(31));
			EXPECT_LE(current(self), before + (long)MiB(34));
			/* Once: also when it is mapped and touched. */
			memset(buffer_map(buffer, MiB(32), &mapping), 1,
			       MiB(32));
			EXPECT_LE(current(self), before + (long)MiB(34));
			EXPECT_OK(KnHandleClose(buffer));
			EXPECT_GE(current(self), before + (long)MiB(31));
			EXPECT_OK(KnHandleClose(mapping));
			EXPECT_LE(current(self), before + (long)MiB(2));
		}
	}
}

struct at_most {
	struct fixture_data_cgroup *group;
	long value;
};

static bool is_at_most(void *arg)
{
	struct at_most *m = arg;

	return current(m->group) <= m->value;
}

TEST_F(cgroup, death_gives_back_and_a_holder_elsewhere_does_not)
{
	struct at_most few = { self, MiB(4) };
	int sock[2], status;
	Handle got;
	pid_t pid;

	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   sock));
	pid = test_fork();
	if (!pid) {
		group_write(self->dir, "cgroup.procs", "0");
		buffer_create(0, MiB(16), 0);
		ASSERT_OK(KosHandleSend(sock[0], buffer_create(0, MiB(16), 0),
					OCAP_DMA_FULL));
		EXPECT_GE(current(self), (long)MiB(32));
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	few.value += MiB(16);
	EXPECT_TRUE(wait_until(is_at_most, &few, 10));
	EXPECT_GE(current(self), (long)MiB(16));
	ASSERT_OK(KosHandleReceive(sock[1], &got));
	EXPECT_OK(KnHandleClose(got));
	few.value = MiB(4);
	EXPECT_TRUE(wait_until(is_at_most, &few, 10));
}

/* Whatever the steps in which the limit is reached. */
TEST_F(cgroup, limit_is_a_quota)
{
	static const size_t steps[] = { KiB(64), MiB(1), MiB(5), MiB(40) };

	group_write(self->dir, "memory.max", "33554432");
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		test_context("steps of %zu KiB", steps[i] >> 10);
		IN_CHILD {
			static Handle buffers[600];
			size_t n = 0;
			Retcode rc = rcOk;

			group_write(self->dir, "cgroup.procs", "0");
			while (n < ARRAY_SIZE(buffers) && rc == rcOk) {
				rc = KnIoDmaCreate(0, steps[i], 0, &buffers[n]);
				n += rc == rcOk;
			}
			EXPECT_RC(rcQuotaExceeded, rc);
			EXPECT_LE(n * steps[i], MiB(32));
			EXPECT_GE((n + 1) * steps[i], MiB(24));
			while (n)
				EXPECT_OK(KnHandleClose(buffers[--n]));
			/* The refusals have used up nothing. */
			for (int k = 0; k < 5; k++) {
				EXPECT_RC(rcQuotaExceeded,
					  KnIoDmaCreate(9, MiB(40), 0,
							&buffers[0]));
				buffers[0] = buffer_create(0, MiB(16), 0);
				EXPECT_OK(KnHandleClose(buffers[0]));
			}
		}
		EXPECT_EQ(0, group_read(self->dir, "memory.events",
					"oom_kill "));
	}
}

/* ---- the number of objects ---- */

FIXTURE(objects) {
	char old[32];
	Handle buffer, domain, region;
	struct edu edu;
	bool have_edu;
	int sock[2];
};

static void set_max(unsigned int max)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", max);
	if (!probe_write_file(MAX_OBJECTS, text))
		test_failed(true, __FILE__, __LINE__, MAX_OBJECTS ": %s",
			    strerror(errno));
}

FIXTURE_SETUP(objects)
{
	Handle access;

	device_warm_up();
	device_make_public();
	snprintf(self->old, sizeof(self->old), "%u", machine_max_objects());
	if (!probe_write_file(MAX_OBJECTS, self->old))
		SKIP("needs to write " MAX_OBJECTS ": %s", strerror(errno));
	self->buffer = buffer_create(0, PAGE, 0);
	self->domain = domain_create();
	/* The automatic domain is there from now on. */
	access = access_begin(self->buffer);
	EXPECT_OK(KnHandleClose(access));
	self->have_edu = edu_find(&self->edu, 0) &&
			 KnRegisterPhyMem(self->edu.bar, PAGE, 0,
					  &self->region) == rcOk;
	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   self->sock));
}

FIXTURE_TEARDOWN(objects)
{
	EXPECT_TRUE(probe_write_file(MAX_OBJECTS, self->old));
	if (self->have_edu)
		EXPECT_OK(KnHandleClose(self->region));
	EXPECT_OK(KnHandleClose(self->domain));
	EXPECT_OK(KnHandleClose(self->buffer));
	device_restore();
}

enum { CREATE, CONTINUOUS, MAP, BEGIN, BEGIN_EX, DOMAIN, COPY, SEND, BADGE,
       REGISTER, MAP_MEM, NR_CALLS };

/* How many objects and handles each makes. */
static const struct {
	const char *name;
	unsigned int cost;
	bool edu;
} calls[NR_CALLS] = {
	[CREATE] = { "KnIoDmaCreate", 2, false },
	[CONTINUOUS] = { "KnIoDmaCreateContinuous", 2, false },
	[MAP] = { "KnIoDmaMap", 2, false },
	[BEGIN] = { "KnIoDmaBegin", 2, false },
	[BEGIN_EX] = { "KnIoDmaBeginEx", 2, false },
	[DOMAIN] = { "KnIommuCreateDomain", 2, false },
	[COPY] = { "KnHandleCopy", 1, false },
	[SEND] = { "KosHandleSend", 1, false },
	[BADGE] = { "KnHandleCreateBadge", 2, false },
	[REGISTER] = { "KnRegisterPhyMem", 2, true },
	[MAP_MEM] = { "KnIoMapMem", 2, true },
};

static Retcode call(struct fixture_data_objects *self, int which, Handle *out)
{
	void *addr;
	Retcode rc;

	*out = NONE;
	switch (which) {
	case CREATE:
		return KnIoDmaCreate(0, PAGE, 0, out);
	case CONTINUOUS:
		return KnIoDmaCreateContinuous(PAGE, 0, out);
	case MAP:
		return KnIoDmaMap(self->buffer, 0, PAGE, NULL, VMM_READ_WRITE,
				  &addr, out);
	case BEGIN:
		return KnIoDmaBegin(self->buffer, out);
	case BEGIN_EX:
		return KnIoDmaBeginEx(self->buffer, self->domain, out);
	case DOMAIN:
		return KnIommuCreateDomain(out);
	case COPY:
		return KnHandleCopy(self->buffer, OCAP_DMA_FULL, NONE, out);
	case SEND:
		rc = KosHandleSend(self->sock[0], self->buffer, OCAP_DMA_FULL);
		if (rc == rcOk)
			ASSERT_OK(KosHandleReceive(self->sock[1], out));
		return rc;
	case BADGE:
		return KnHandleCreateBadge(NONE, 0, NULL, out);
	case REGISTER:
		return KnRegisterPhyMem(self->edu.bar + PAGE, PAGE, 0, out);
	default:
		return KnIoMapMem(self->region, VMM_READ_WRITE, 0, &addr, out);
	}
}

/* How many objects and handles this user has. */
static unsigned int count_objects(struct fixture_data_objects *self)
{
	for (unsigned int max = 0; max < 1000; max++) {
		Handle copy;
		Retcode rc;

		set_max(max + 1);
		rc = KnHandleCopy(self->buffer, OCAP_DMA_FULL, NONE, &copy);
		if (rc == rcOk) {
			EXPECT_OK(KnHandleClose(copy));
			return max;
		}
		EXPECT_RC(rcQuotaExceeded, rc);
	}
	test_failed(true, __FILE__, __LINE__, "more than 1000 objects");
	return 0;
}

TEST_F(objects, each_call_is_counted_and_limited)
{
	for (int i = 0; i < NR_CALLS; i++) {
		unsigned int count;
		Handle out;

		if (calls[i].edu && !self->have_edu) {
			test_log("%s needs an edu device", calls[i].name);
			continue;
		}
		test_context("%s", calls[i].name);
		count = count_objects(self);
		for (unsigned int free = 0; free < calls[i].cost; free++) {
			set_max(count + free);
			EXPECT_RC(rcQuotaExceeded, call(self, i, &out));
			EXPECT_EQ(NONE, out);
		}
		EXPECT_EQ(count, count_objects(self));
		set_max(count + calls[i].cost);
		ASSERT_OK(call(self, i, &out));
		EXPECT_EQ(count + calls[i].cost, count_objects(self));
		EXPECT_OK(KnHandleClose(out));
		EXPECT_EQ(count, count_objects(self));
	}
}

/* The first attach or Begin makes the automatic domain: one object. */
TEST_F(objects, automatic_domain_is_counted_and_ends_with_its_process)
{
	unsigned int count = count_objects(self);
	unsigned int parents = count;

	IN_CHILD {
		Handle access;

		count = count_objects(self);
		EXPECT_EQ(parents, count);
		for (unsigned int free = 0; free < 3; free++) {
			set_max(count + free);
			EXPECT_RC(rcQuotaExceeded,
				  KnIoDmaBegin(self->buffer, &access));
		}
		set_max(count + 3);
		EXPECT_OK(KnIoDmaBegin(self->buffer, &access));
		EXPECT_EQ(count + 3, count_objects(self));
		EXPECT_OK(KnHandleClose(access));
		EXPECT_EQ(count + 1, count_objects(self));
	}
	for (int i = 0; i < 100 && count_objects(self) != parents; i++)
		usleep(20 * 1000);
	EXPECT_EQ(parents, count_objects(self));
}

/* A closed handle counts as long as it stays in the tree. */
TEST_F(objects, tombstone_counts_until_it_goes)
{
	unsigned int count = count_objects(self);
	Handle copy, below, mapping;

	set_max(count + 10);
	copy = buffer_copy(self->buffer, OCAP_DMA_FULL);
	below = buffer_copy(copy, OCAP_DMA_FULL);
	buffer_map(copy, PAGE, &mapping);
	EXPECT_EQ(count + 4, count_objects(self));
	set_max(count + 10);
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_EQ(count + 4, count_objects(self));
	EXPECT_OK(KnHandleClose(below));
	EXPECT_EQ(count + 3, count_objects(self));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(count, count_objects(self));
}

/* ---- and all is back ---- */

FIXTURE(rounds) {
	struct fixture_data_objects objects;
};

FIXTURE_SETUP(rounds)
{
	fixture_setup_objects(&self->objects, NULL);
}

FIXTURE_TEARDOWN(rounds)
{
	fixture_teardown_objects(&self->objects, NULL);
}

/* All that can be made, left in the way that @how says. */
static void one_round(struct fixture_data_objects *self, int how)
{
	Handle root, copy, map, io, access, domain, badge;
	void *mem;

	root = buffer_create(how % 5, MiB(2), 0);
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
	ASSERT_OK(KnHandleCopy(root, OCAP_DMA_FULL, badge, &copy));
	memset(buffer_map(copy, MiB(2), &map), how, MiB(2));
	ASSERT_OK(KnIoDmaMap(copy, 0, MiB(1), NULL,
			     VMM_READ_WRITE | VMM_FLAG_IO, &mem, &io));
	domain = domain_create();
	access = access_begin_in(copy, domain);
	ASSERT_OK(KosHandleSend(self->sock[0], copy, OCAP_DMA_FULL));
	if (how % 4 == 0)
		kill(getpid(), SIGKILL);
	if (how % 4 == 1)
		test_child_exit();
	if (how % 4 == 2)
		EXPECT_OK(KnHandleRevokeEx(root, rtl_false));
	EXPECT_OK(KnHandleClose(root));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(map));
	EXPECT_OK(KnHandleClose(io));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_OK(KnHandleClose(badge));
	test_child_exit();
}

TEST_F(rounds, leave_no_memory_and_no_object)
{
	unsigned int count = count_objects(&self->objects);
	long before = 0;

	EXPECT_TRUE(probe_write_file(MAX_OBJECTS, self->objects.old));
	for (int round = 0; round < 60; round++) {
		int status, sock[2];
		Handle got;
		pid_t pid;

		/* What the kernel itself keeps is there after some. */
		if (round == 12)
			before = probe_free_memory();
		ASSERT_ERRNO(0, socketpair(AF_UNIX,
					   SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
					   sock));
		memcpy(self->objects.sock, sock, sizeof(sock));
		pid = test_fork();
		if (!pid)
			one_round(&self->objects, round);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		if (round % 4)
			EXPECT_EQ(0, status);
		/* Take what was sent, or let it go with the socket. */
		if (round % 3 == 0 &&
		    KosHandleReceive(sock[1], &got) == rcOk)
			EXPECT_OK(KnHandleClose(got));
		close(sock[0]);
		close(sock[1]);
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(3)));
	EXPECT_EQ(count, count_objects(&self->objects));
}

TEST_HARNESS_MAIN
