// SPDX-License-Identifier: GPL-2.0-only
/*
 * What fails within a call: its 1st allocation or copy from and to user space,
 * the 2nd, the 3rd ..., until nothing is left that could. A call either
 * succeeds or changes nothing; and calls that release always succeed.
 *
 * Rows are all ioctls of lib/command.c, and all functions of libkos that make
 * system calls (the host's tests compare with libkos.map).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/command.h"
#include "lib/machine.h"
#include "lib/netlink.h"
#include "lib/pci.h"
#include "lib/probe.h"

#define DEBUGFS "/sys/kernel/debug/"
#define NONE INVALID_HANDLE

enum {
	SECONDS = 20, /* until all that is freed later is freed */
	FAULTS_MAX = 5000, /* more than any call has */
	BLOCKS = 5, /* pages of a buffer of two blocks */
	BATCH = 4, /* buffers of one block, begun at once */
	ORDER = 8, /* of the block: two of them fill a page table */
	TIMEOUT = 600,
};

/* ---- faults ---- */

static int nth_fd = -1, probability_fd = -1;

static void must_write(const char *path, const char *text)
{
	if (!probe_write_file(path, text))
		SKIP("needs to write %s", path);
}

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

enum which {
	EVERYTHING, /* all that the kernel does for a call */
	ALLOCATIONS, /* no copies from and to user space */
	MODULE, /* what the module does, or is done for it */
};

/* Only what has a caller in this range fails. */
static void set_callers(const char *kind, unsigned long start, unsigned long end)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), DEBUGFS "%s/require-start", kind);
	snprintf(text, sizeof(text), "%#lx", start);
	must_write(path, text);
	snprintf(path, sizeof(path), DEBUGFS "%s/require-end", kind);
	snprintf(text, sizeof(text), "%#lx", end);
	must_write(path, text);
}

static unsigned long read_number(const char *path)
{
	unsigned long number = 0;
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_GT(read(fd, text, sizeof(text) - 1), 0);
	close(fd);
	number = strtoul(text, NULL, 0);
	ASSERT_NE(0, number);
	return number;
}

static void faults_open(enum which which)
{
	unsigned long start = 0, end = -1ul;

	if (which == MODULE) {
		start = read_number("/sys/module/kosdma/sections/.text");
		end = start + read_number("/sys/module/kosdma/coresize");
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		set_callers(kinds[i], start, end);
	/* There is no such caller. */
	if (which == ALLOCATIONS)
		set_callers("fail_usercopy", 1, 2);
	nth_fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	ASSERT_GE(nth_fd, 0);
	probability_fd = open(DEBUGFS "failslab/probability", O_RDWR | O_CLOEXEC);
	ASSERT_GE(probability_fd, 0);
}

static void faults_require(void)
{
	char path[128];

	if (access("/proc/self/fail-nth", F_OK) || access(DEBUGFS "fail_usercopy", F_OK))
		SKIP("needs a kernel with fault injection");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s/verbose", kinds[i]);
		must_write(path, "0");
	}
	/* Those that may wait as well, and single pages. */
	must_write(DEBUGFS "failslab/ignore-gfp-wait", "N");
	must_write(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N");
	must_write(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N");
	must_write(DEBUGFS "fail_page_alloc/min-order", "0");
}

static void faults_arm(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	ASSERT_EQ(len, pwrite(nth_fd, text, len, 0));
}

/* Whether the fault came before this. */
static bool faults_disarm(void)
{
	char text[16] = "";
	ssize_t n = pread(nth_fd, text, sizeof(text) - 1, 0);

	if (n < 0) {
		/* It came in the very question. */
		ASSERT_EQ(EFAULT, errno);
		return false;
	}
	ASSERT_GT(n, 0);
	/* It may come in this instead, and then there is none any more. */
	if (pwrite(nth_fd, "0", 1, 0) != 1)
		ASSERT_EQ(EFAULT, errno);
	return !atoi(text);
}

/*
 * The nth allocation fails, and then all small ones of this process: when the nth has
 * come, what the files of the kind ask for counts.
 */
static void faults_arm_from(unsigned int n)
{
	must_write("/proc/self/make-it-fail", "1");
	must_write(DEBUGFS "failslab/task-filter", "Y");
	must_write(DEBUGFS "failslab/times", "-1");
	ASSERT_EQ(3, write(probability_fd, "100", 3));
	/* This needs no memory. */
	faults_arm(n);
}

/* Whether they came before this. */
static bool faults_disarm_from(void)
{
	bool failed = faults_disarm();

	ASSERT_EQ(1, write(probability_fd, "0", 1));
	must_write("/proc/self/make-it-fail", "0");
	return failed;
}

/* ---- what must not change ---- */

/* All of the module's, so that no other process may be using it. */
static const int gauges[] = {
	KOSDMA_A_STATS_PAGES, KOSDMA_A_STATS_LINGERING, KOSDMA_A_STATS_QUARANTINED,
	KOSDMA_A_STATS_IOVA_BYTES, KOSDMA_A_STATS_BUFFERS, KOSDMA_A_STATS_MAPPINGS,
	KOSDMA_A_STATS_ACCESSES, KOSDMA_A_STATS_DOMAINS, KOSDMA_A_STATS_REGIONS,
	KOSDMA_A_STATS_HANDLES,
};

struct state {
	int fds, maps;
	uint32_t stats[ARRAY_SIZE(gauges)];
	char fdinfo[4][1024]; /* of the world's handles */
	char driver[64], override[64]; /* of the device */
	bool bus_master;
};

static void take(const struct netlink_reply *reply, void *arg)
{
	*(struct netlink_reply *)arg = *reply;
}

static struct netlink_reply stats(void)
{
	static struct netlink_request req;
	static int sock = -1;
	struct netlink_reply reply = { 0 };

	if (sock < 0) {
		netlink_request(&req, KOSDMA_CMD_STATS_GET, false);
		sock = netlink_open();
	}
	ASSERT_EQ(0, netlink_send(sock, &req, take, &reply).error);
	return reply;
}

static void read_fdinfo(Handle handle, char *text, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", handle);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	n = read(fd, text, size - 1);
	ASSERT_GT(n, 0);
	text[n] = '\0';
	close(fd);
}

static struct state state_get(const struct command_world *w)
{
	const Handle handles[] = { w->buffer, w->access, w->domain, w->region };
	struct netlink_reply reply = stats();
	struct state now = { .fds = probe_nr_fds(), .maps = probe_nr_maps() };

	for (size_t i = 0; i < ARRAY_SIZE(gauges); i++) {
		ASSERT_TRUE(reply.has[gauges[i]]);
		now.stats[i] = reply.number[gauges[i]];
	}
	for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
		if (handles[i] != NONE)
			read_fdinfo(handles[i], now.fdinfo[i], sizeof(now.fdinfo[i]));
	probe_driver(w->edu.path, now.driver);
	pci_get_override(w->edu.path, now.override);
	now.bus_master = probe_bus_master(w->edu.path);
	return now;
}

struct comparison {
	const struct command_world *w;
	const struct state *before;
};

static bool is_as_before(void *arg)
{
	struct comparison *c = arg;
	struct state now = state_get(c->w);

	return now.fds == c->before->fds && now.maps == c->before->maps &&
	       !memcmp(now.stats, c->before->stats, sizeof(now.stats)) &&
	       !memcmp(now.fdinfo, c->before->fdinfo, sizeof(now.fdinfo)) &&
	       !strcmp(now.driver, c->before->driver) &&
	       !strcmp(now.override, c->before->override) &&
	       now.bus_master == c->before->bus_master;
}

static void expect_as_before(const struct command_world *w, const struct state *before)
{
	struct comparison c = { w, before };
	struct state now;

	if (wait_until(is_as_before, &c, SECONDS))
		return;
	now = state_get(w);
	EXPECT_EQ(before->fds, now.fds);
	EXPECT_EQ(before->maps, now.maps);
	for (size_t i = 0; i < ARRAY_SIZE(gauges); i++)
		if (before->stats[i] != now.stats[i])
			test_failed(false, __FILE__, __LINE__, "statistic %d was %u and is %u",
				    gauges[i], before->stats[i], now.stats[i]);
	for (size_t i = 0; i < ARRAY_SIZE(now.fdinfo); i++)
		EXPECT_STREQ(before->fdinfo[i], now.fdinfo[i]);
	EXPECT_STREQ(before->driver, now.driver);
	EXPECT_STREQ(before->override, now.override);
	EXPECT_EQ(before->bus_master, now.bus_master);
}

/* ---- calls ---- */

struct scene {
	struct command_world w;
	Handle handle, second, made;
	Handle buffers[BATCH], batch[BATCH];
	IoMemHandles memory;
	DmaInfo *info;
	int socks[2];
	const struct command *command;
	union command_argument arg;
};

struct chain {
	const char *name;
	void (*setup)(struct scene *s);
	Retcode (*call)(struct scene *s);
	void (*undo)(struct scene *s); /* what a call that succeeded did */
	void (*cleanup)(struct scene *s); /* what setup did, and the call did not end */
	bool releases; /* must succeed, whatever fails */
	void (*cancel)(struct scene *s); /* after a call that failed */
};

#define CHAIN(_name, _setup, _call, _undo, _cleanup)                           \
	{                                                                      \
		.name = _name, .setup = _setup, .call = _call, .undo = _undo,  \
		.cleanup = _cleanup,                                           \
	}
#define RELEASE(_name, _setup, _call, _cleanup)                                \
	{                                                                      \
		.name = _name, .setup = _setup, .call = _call,                 \
		.cleanup = _cleanup, .releases = true,                         \
	}

static void attempt(const struct chain *chain, struct scene *s)
{
	struct state before = state_get(&s->w), prepared;
	unsigned int n, refused = 0;
	bool failed = true;

	for (n = 1; failed && n < FAULTS_MAX && !test_nr_failures(); n++) {
		Retcode rc;

		test_context("%s, fault %u", chain->name, n);
		if (chain->setup)
			chain->setup(s);
		prepared = state_get(&s->w);
		faults_arm(n);
		rc = chain->call(s);
		failed = faults_disarm();
		if (chain->releases || !failed)
			EXPECT_OK(rc);
		if (rc == rcOk) {
			if (chain->undo)
				chain->undo(s);
		} else {
			refused++;
			expect_as_before(&s->w, &prepared);
			if (chain->cancel)
				chain->cancel(s);
		}
		if (chain->cleanup)
			chain->cleanup(s);
		expect_as_before(&s->w, &before);
	}
	EXPECT_LT(n, FAULTS_MAX);
	/* Otherwise nothing was injected: each call copies its argument at least. */
	if (!chain->releases)
		EXPECT_GT(n, 2);
	test_context("%s", "");
	test_log("%s: %u faults, %u refusals", chain->name, n - 2, refused);
}

FIXTURE(fault)
{
	struct scene s;
};

FIXTURE_SETUP(fault)
{
	struct command_world *w = &self->s.w;

	probe_require_module();
	faults_require();
	command_world_open(w);
	/* The first attach decides what addresses mean in a domain. */
	must_attach(w, true);
	must_attach(w, false);
	stats();
}

FIXTURE_TEARDOWN(fault)
{
	command_world_close(&self->s.w);
}

/* ---- each ioctl ---- */

static void setup_command(struct scene *s)
{
	command_prepare(s->command, &s->w, &s->arg, s->command->size);
}

static Retcode call_command(struct scene *s)
{
	return probe_ioctl(s->command->cmd, &s->arg) ? rcFail : rcOk;
}

static void undo_command(struct scene *s)
{
	command_undo(s->command, &s->w, &s->arg);
}

static void cancel_command(struct scene *s)
{
	command_cancel(s->command, &s->w, &s->arg);
}

TEST_F_TIMEOUT(fault, every_ioctl_succeeds_or_changes_nothing, TIMEOUT)
{
	faults_open(EVERYTHING);
	FOR_EACH_COMMAND(c) {
		struct chain chain = {
			.name = c->name,
			.setup = setup_command,
			.call = call_command,
			.undo = undo_command,
			.cancel = cancel_command,
		};

		ASSERT_EQ(c->cmd, _IO(KOSDMA_TYPE, c - commands));
		self->s.command = c;
		attempt(&chain, &self->s);
	}
}

/* ---- each call of libkos ---- */

static void attach_auto(struct scene *s)
{
	ASSERT_OK(KnIommuAttachDevice(s->w.edu.bdf));
}

static void detach_auto(struct scene *s)
{
	ASSERT_OK(KnIommuDetachDevice(s->w.edu.bdf));
}

static void make_buffer(struct scene *s)
{
	s->handle = buffer_create(0, PAGES(BLOCKS), 0);
}

static void make_begun(struct scene *s)
{
	make_buffer(s);
	s->second = access_begin_in(s->handle, s->w.domain);
}

static void close_buffer(struct scene *s)
{
	must_close(s->handle);
}

static void close_begun(struct scene *s)
{
	must_close(s->second);
	must_close(s->handle);
}

static void close_made(struct scene *s)
{
	must_close(s->made);
}

static void free_info(struct scene *s)
{
	KosMemFree(s->info);
}

static Retcode do_create(struct scene *s)
{
	return KnIoDmaCreate(0, PAGES(BLOCKS), DMA_ATTR_CACHE_DISABLE, &s->made);
}

static Retcode do_create_continuous(struct scene *s)
{
	return KnIoDmaCreateContinuous(PAGES(4), 0, &s->made);
}

static Retcode do_modify(struct scene *s)
{
	return KnIoDmaModify(s->handle, DMA_ATTR_CACHE_DISABLE);
}

static Retcode do_map(struct scene *s)
{
	void *addr;

	return KnIoDmaMap(s->handle, 0, PAGES(BLOCKS), NULL,
			  VMM_READ_WRITE | VMM_FLAG_LOW_GUARD | VMM_FLAG_HIGH_GUARD, &addr,
			  &s->made);
}

static Retcode do_begin(struct scene *s)
{
	return KnIoDmaBegin(s->handle, &s->made);
}

static Retcode do_begin_ex(struct scene *s)
{
	return KnIoDmaBeginEx(s->handle, s->w.domain, &s->made);
}

static Retcode do_begin_many(struct scene *s)
{
	KosDmaBeginItem items[] = { { .rid = s->handle }, { .rid = s->w.buffer } };
	Retcode rc = KosDmaBeginMany(s->w.domain, items, ARRAY_SIZE(items), NULL);

	s->made = items[0].handle;
	s->second = items[1].handle;
	return rc;
}

static void close_many(struct scene *s)
{
	must_close(s->made);
	must_close(s->second);
}

static void make_buffers(struct scene *s)
{
	for (int i = 0; i < BATCH; i++)
		s->buffers[i] = buffer_create(ORDER, PAGES(1 << ORDER), 0);
}

static Retcode do_begin_batch(struct scene *s)
{
	KosDmaBeginItem items[BATCH] = { 0 };
	Retcode rc;

	for (int i = 0; i < BATCH; i++)
		items[i].rid = s->buffers[i];
	rc = KosDmaBeginMany(s->w.domain, items, BATCH, NULL);
	for (int i = 0; i < BATCH; i++)
		s->batch[i] = items[i].handle;
	return rc;
}

static void make_batch(struct scene *s)
{
	make_buffers(s);
	ASSERT_OK(do_begin_batch(s));
}

static void close_each(const Handle *handles, int count)
{
	for (int i = 0; i < count; i++)
		must_close(handles[i]);
}

static void end_batch(struct scene *s)
{
	close_each(s->batch, BATCH);
}

static void close_buffers(struct scene *s)
{
	close_each(s->buffers, BATCH);
}

static void close_batch(struct scene *s)
{
	end_batch(s);
	close_buffers(s);
}

static Retcode do_get_info(struct scene *s)
{
	return KnIoDmaGetInfo(s->second, &s->info);
}

static Retcode do_get_phys_info(struct scene *s)
{
	return KnIoDmaGetPhysInfo(s->handle, &s->info);
}

static void begin_one_block(struct scene *s)
{
	must_attach(&s->w, true);
	s->handle = buffer_create(2, PAGES(4), 0);
	s->second = access_begin_in(s->handle, s->w.domain);
}

static void end_one_block(struct scene *s)
{
	close_begun(s);
	must_attach(&s->w, false);
}

static Retcode do_get_addr(struct scene *s)
{
	DmaAddr addr;

	return KnIoDmaContinuousGetDmaAddr(s->second, &addr);
}

static Retcode do_register(struct scene *s)
{
	return KnRegisterPhyMem(s->w.edu.bar + PAGE, PAGES(4), 0, &s->made);
}

static Retcode do_map_mem(struct scene *s)
{
	void *addr;

	return KnIoMapMem(s->w.region, VMM_READ_WRITE, VMM_FLAG_CACHE_DISABLE, &addr, &s->made);
}

static Retcode do_attach(struct scene *s)
{
	return KnIommuAttachDevice(s->w.edu.bdf);
}

static Retcode do_attach_ex(struct scene *s)
{
	return KosIommuAttachDeviceEx(s->w.edu.bdf);
}

static Retcode do_attach_to(struct scene *s)
{
	return KnIommuAttachDeviceToDomain(s->w.edu.bdf, s->w.domain);
}

static Retcode do_attach_to_ex(struct scene *s)
{
	return KosIommuAttachDeviceToDomainEx(s->w.edu.bdf, s->w.domain);
}

static void attach_to(struct scene *s)
{
	ASSERT_OK(do_attach_to(s));
}

static void detach_from(struct scene *s)
{
	ASSERT_OK(KnIommuDetachDeviceFromDomain(s->w.edu.bdf, s->w.domain));
}

static Retcode do_mask(struct scene *s)
{
	return KosIommuSetDmaMask(s->w.edu.bdf, UINT64_MAX);
}

static Retcode do_mask_ex(struct scene *s)
{
	return KosIommuSetDmaMaskEx(s->w.edu.bdf, UINT64_MAX);
}

static Retcode do_create_domain(struct scene *s)
{
	return KnIommuCreateDomain(&s->made);
}

static Retcode do_copy(struct scene *s)
{
	return KnHandleCopy(s->w.buffer, KOSDMA_RIGHT_DMA_READ, s->handle, &s->made);
}

static void make_badge(struct scene *s)
{
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &s->handle));
}

static Retcode do_create_badge(struct scene *s)
{
	(void)s;
	return KnHandleCreateBadge(NONE, 0, NULL, &s->made);
}

static Retcode do_get_sid(struct scene *s)
{
	return probe_sid(s->w.buffer);
}

static void make_sockets(struct scene *s)
{
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->socks));
}

static void close_sockets(struct scene *s)
{
	close(s->socks[0]);
	close(s->socks[1]);
}

static Retcode do_send(struct scene *s)
{
	return KosHandleSend(s->socks[0], s->w.buffer, KOSDMA_RIGHT_DMA_READ);
}

/* The kernel frees what is under way with the sockets. */
static void take_sent(struct scene *s)
{
	ASSERT_OK(KosHandleReceive(s->socks[1], &s->made));
	must_close(s->made);
}

static void make_sent(struct scene *s)
{
	make_sockets(s);
	ASSERT_OK(do_send(s));
}

static Retcode do_receive(struct scene *s)
{
	return KosHandleReceive(s->socks[1], &s->made);
}

static const struct chain chains[] = {
	CHAIN("KnIoDmaCreate", NULL, do_create, close_made, NULL),
	CHAIN("KnIoDmaCreateContinuous", NULL, do_create_continuous, close_made, NULL),
	CHAIN("KnIoDmaModify", make_buffer, do_modify, NULL, close_buffer),
	CHAIN("KnIoDmaMap", make_buffer, do_map, close_made, close_buffer),
	CHAIN("KnIoDmaBegin", make_buffer, do_begin, close_made, close_buffer),
	CHAIN("KnIoDmaBeginEx", make_buffer, do_begin_ex, close_made, close_buffer),
	CHAIN("KosDmaBeginMany", make_buffer, do_begin_many, close_many, close_buffer),
	CHAIN("KnIoDmaGetInfo", make_begun, do_get_info, free_info, close_begun),
	CHAIN("KnIoDmaGetPhysInfo", make_buffer, do_get_phys_info, free_info, close_buffer),
	CHAIN("KnIoDmaContinuousGetDmaAddr", begin_one_block, do_get_addr, NULL, end_one_block),
	CHAIN("KnRegisterPhyMem", NULL, do_register, close_made, NULL),
	CHAIN("KnIoMapMem", NULL, do_map_mem, close_made, NULL),
	CHAIN("KnIommuCreateDomain", NULL, do_create_domain, close_made, NULL),
	CHAIN("KnHandleCopy", make_badge, do_copy, close_made, close_buffer),
	CHAIN("KnHandleCreateBadge", NULL, do_create_badge, close_made, NULL),
	CHAIN("KnHandleGetSidByHandle", NULL, do_get_sid, NULL, NULL),
	CHAIN("KosHandleSend", make_sockets, do_send, take_sent, close_sockets),
};

TEST_F_TIMEOUT(fault, every_call_succeeds_or_changes_nothing, TIMEOUT)
{
	faults_open(EVERYTHING);
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
		attempt(&chains[i], &self->s);
}

static void attach_and_make_buffers(struct scene *s)
{
	attach_to(s);
	make_buffers(s);
}

static void close_buffers_and_detach(struct scene *s)
{
	close_buffers(s);
	detach_from(s);
}

/* Its last MiB needs a page table that nothing else needs. */
static void attach_and_make_large(struct scene *s)
{
	attach_to(s);
	s->second = s->handle;
	s->handle = buffer_create(0, MiB(3), 0);
}

static void close_large_and_detach(struct scene *s)
{
	close_buffer(s);
	s->handle = s->second;
	detach_from(s);
}

static const struct chain device_chains[] = {
	CHAIN("KnIommuAttachDevice", NULL, do_attach, detach_auto, NULL),
	CHAIN("KosIommuAttachDeviceEx", NULL, do_attach_ex, detach_auto, NULL),
	CHAIN("KnIommuAttachDeviceToDomain", NULL, do_attach_to, detach_from, NULL),
	CHAIN("KosIommuAttachDeviceToDomainEx", NULL, do_attach_to_ex, detach_from, NULL),
	CHAIN("KosIommuSetDmaMask", attach_auto, do_mask, NULL, detach_auto),
	CHAIN("KosIommuSetDmaMaskEx", attach_auto, do_mask_ex, NULL, detach_auto),
	/* Into a domain that has a device: page tables, addresses and flushes. */
	CHAIN("KnIoDmaBeginEx", attach_to, do_begin_ex, close_made, detach_from),
	CHAIN("KnIoDmaBeginEx of 3 MiB", attach_and_make_large, do_begin_ex, close_made,
	      close_large_and_detach),
	CHAIN("KosDmaBeginMany", attach_and_make_buffers, do_begin_batch, end_batch,
	      close_buffers_and_detach),
	CHAIN("KnIommuAttachDeviceToDomain with a batch", make_batch, do_attach_to, detach_from,
	      close_batch),
};

TEST_F_TIMEOUT(fault, every_call_for_a_device_succeeds_or_changes_nothing, TIMEOUT)
{
	struct scene *s = &self->s;

	faults_open(EVERYTHING);
	make_buffer(s);
	for (size_t i = 0; i < ARRAY_SIZE(device_chains); i++)
		attempt(&device_chains[i], s);
	close_buffer(s);
}

/* ---- what releases ---- */

static Retcode do_close(struct scene *s)
{
	return KnHandleClose(s->handle);
}

static Retcode do_close_many(struct scene *s)
{
	const Handle handles[] = { s->handle, s->second };

	return KosHandleCloseMany(handles, ARRAY_SIZE(handles));
}

static Retcode do_io_close(struct scene *s)
{
	return KnIoClose(s->handle);
}

static Retcode do_revoke(struct scene *s)
{
	return KnHandleRevoke(s->handle);
}

static Retcode do_revoke_and_keep(struct scene *s)
{
	return KnHandleRevokeEx(s->handle, rtl_false);
}

static Retcode do_revoke_subtree(struct scene *s)
{
	return KnHandleRevokeSubtree(s->handle, s->made);
}

/* An access, a mapping of all pages and a copy, opened through a badged copy. */
static void make_used(struct scene *s)
{
	Handle copy, access, mapping;

	make_buffer(s);
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &s->made));
	ASSERT_OK(KnHandleCopy(s->handle, BUFFER_RIGHTS, s->made, &copy));
	ASSERT_OK(KnIoDmaBeginEx(copy, s->w.domain, &access));
	buffer_map(copy, PAGES(BLOCKS), &mapping);
	s->second = copy;
	s->memory = (IoMemHandles){ .region = access, .mapping = mapping };
}

static void close_used(struct scene *s)
{
	must_close(s->memory.mapping);
	must_close(s->memory.region);
	must_close(s->second);
	must_close(s->made);
}

static void close_used_and_buffer(struct scene *s)
{
	close_used(s);
	must_close(s->handle);
}

static void make_access(struct scene *s)
{
	s->second = buffer_create(0, PAGES(BLOCKS), 0);
	s->handle = access_begin_in(s->second, s->w.domain);
}

static void make_mapping(struct scene *s)
{
	s->second = buffer_create(0, PAGES(BLOCKS), 0);
	buffer_map(s->second, PAGES(BLOCKS), &s->handle);
}

static void make_domain(struct scene *s)
{
	s->second = buffer_create(0, PAGES(BLOCKS), 0);
	s->handle = domain_create();
}

static void close_second(struct scene *s)
{
	must_close(s->second);
}

static void make_memory(struct scene *s)
{
	void *addr;

	KnIoMemHandlesClear(&s->memory);
	ASSERT_OK(KnRegisterPhyMem(s->w.edu.bar + PAGE, PAGES(4), 0, &s->memory.region));
	ASSERT_OK(KnIoMapMem(s->memory.region, VMM_READ_WRITE, VMM_FLAG_CACHE_DISABLE, &addr,
			     &s->memory.mapping));
}

static Retcode do_close_memory(struct scene *s)
{
	return KnIoMemHandlesClose(&s->memory);
}

static Retcode do_detach(struct scene *s)
{
	return KnIommuDetachDevice(s->w.edu.bdf);
}

static Retcode do_detach_ex(struct scene *s)
{
	return KosIommuDetachDeviceEx(s->w.edu.bdf);
}

static Retcode do_detach_from(struct scene *s)
{
	return KnIommuDetachDeviceFromDomain(s->w.edu.bdf, s->w.domain);
}

static Retcode do_detach_from_ex(struct scene *s)
{
	return KosIommuDetachDeviceFromDomainEx(s->w.edu.bdf, s->w.domain);
}

/* The rest is on its own from then on. */
static Retcode do_close_part(struct scene *s)
{
	const Handle handles[] = { s->batch[0], s->batch[2] };

	return KosHandleCloseMany(handles, ARRAY_SIZE(handles));
}

static void close_rest_of_batch(struct scene *s)
{
	must_close(s->batch[1]);
	must_close(s->batch[3]);
}

static void close_rest(struct scene *s)
{
	close_rest_of_batch(s);
	close_buffers(s);
}

static Retcode do_close_batch(struct scene *s)
{
	return KosHandleCloseMany(s->batch, BATCH);
}

static void make_uncached(struct scene *s)
{
	s->handle = buffer_create(0, PAGES(BLOCKS), DMA_ATTR_CACHE_DISABLE);
}

static const struct chain releases[] = {
	RELEASE("KnHandleClose", make_buffer, do_close, NULL),
	RELEASE("KnHandleClose of uncached memory", make_uncached, do_close, NULL),
	RELEASE("KnHandleClose of an access", make_access, do_close, close_second),
	RELEASE("KnHandleClose of a mapping", make_mapping, do_close, close_second),
	RELEASE("KnHandleClose of a domain", make_domain, do_close, close_second),
	RELEASE("KosHandleCloseMany", make_access, do_close_many, NULL),
	RELEASE("KosHandleCloseMany of a batch", make_batch, do_close_batch, close_buffers),
	RELEASE("KosHandleCloseMany of a part of a batch", make_batch, do_close_part, close_rest),
	RELEASE("KnIoClose", make_buffer, do_io_close, NULL),
	RELEASE("KnIoMemHandlesClose", make_memory, do_close_memory, NULL),
	RELEASE("KnHandleRevoke", make_used, do_revoke, close_used),
	RELEASE("KnHandleRevokeEx", make_used, do_revoke_and_keep, close_used_and_buffer),
	RELEASE("KnHandleRevokeSubtree", make_used, do_revoke_subtree, close_used_and_buffer),
	RELEASE("KnIommuDetachDevice", attach_auto, do_detach, NULL),
	RELEASE("KosIommuDetachDeviceEx", attach_auto, do_detach_ex, NULL),
	RELEASE("KnIommuDetachDeviceFromDomain", attach_to, do_detach_from, NULL),
	RELEASE("KosIommuDetachDeviceFromDomainEx", attach_to, do_detach_from_ex, NULL),
};

TEST_F_TIMEOUT(fault, what_releases_succeeds_whatever_fails, TIMEOUT)
{
	faults_open(ALLOCATIONS);
	for (size_t i = 0; i < ARRAY_SIZE(releases); i++)
		attempt(&releases[i], &self->s);
}

/* Needs the IOMMU's driver memory to unmap? Only virtio's does. */
static bool unmap_can_fail(const struct edu *edu)
{
	char path[128], link[256] = "";

	snprintf(path, sizeof(path), "%s/iommu", edu->path);
	return readlink(path, link, sizeof(link) - 1) > 0 && strstr(link, "virtio");
}

/* The same with a device in the domain, which is cut off. */
TEST_F_TIMEOUT(fault, what_cuts_a_device_off_succeeds_whatever_fails, TIMEOUT)
{
	if (unmap_can_fail(&self->s.w.edu))
		SKIP("the IOMMU's driver needs memory to unmap; another test is about that");
	faults_open(ALLOCATIONS);
	attach_to(&self->s);
	for (size_t i = 0; i < ARRAY_SIZE(releases); i++)
		if (releases[i].setup != attach_auto && releases[i].setup != attach_to)
			attempt(&releases[i], &self->s);
	detach_from(&self->s);
}

/* ---- an IOMMU driver that needs memory to unmap ---- */

static uint32_t lingering(void)
{
	struct netlink_reply reply = stats();

	ASSERT_TRUE(reply.has[KOSDMA_A_STATS_LINGERING]);
	return reply.number[KOSDMA_A_STATS_LINGERING];
}

static Retcode do_close_second(struct scene *s)
{
	return KnHandleClose(s->second);
}

struct cut {
	void (*setup)(struct scene *s);
	Retcode (*call)(struct scene *s);
	void (*rest)(struct scene *s); /* accesses that are still open */
	void (*cleanup)(struct scene *s);
	unsigned int pages; /* that the call cuts off */
};

static const struct cut cuts[] = {
	{ make_begun, do_close_second, NULL, close_buffer, BLOCKS },
	{ make_batch, do_close_batch, NULL, close_buffers, BATCH << ORDER },
	{ make_batch, do_close_part, close_rest_of_batch, close_buffers, 2 << ORDER },
};

/* How many of its faults left something in the page table. */
static unsigned int try_cut(struct scene *s, const struct cut *cut)
{
	struct state before = state_get(&s->w);
	unsigned int n, stale = 0;
	bool failed = true;
	uint32_t left;

	for (n = 1; failed && n < FAULTS_MAX && !test_nr_failures(); n++) {
		test_context("fault %u", n);
		attach_to(s);
		cut->setup(s);
		faults_arm(n);
		EXPECT_OK(cut->call(s));
		failed = faults_disarm();
		left = lingering();
		if (left) {
			stale++;
			EXPECT_EQ(cut->pages, left);
			/* Its address may be one that the device still has. */
			EXPECT_EQ(rcOutOfMemory,
				  KnIoDmaBeginEx(s->w.buffer, s->w.domain, &s->made));
			EXPECT_EQ(left, lingering());
		}
		if (cut->rest)
			cut->rest(s);
		cut->cleanup(s);
		EXPECT_GE(lingering(), left);
		detach_from(s);
		expect_as_before(&s->w, &before);
	}
	EXPECT_LT(n, FAULTS_MAX);
	test_context("%s", "");
	/* A fresh page table knows nothing of it. */
	attach_to(s);
	EXPECT_OK(KnIoDmaBeginEx(s->w.buffer, s->w.domain, &s->made));
	close_made(s);
	detach_from(s);
	expect_as_before(&s->w, &before);
	return stale;
}

TEST_F_TIMEOUT(fault, what_cannot_be_unmapped_is_kept_until_the_device_leaves, TIMEOUT)
{
	struct scene *s = &self->s;

	edu_require_translation(&s->w.edu);
	faults_open(ALLOCATIONS);
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		unsigned int stale = try_cut(s, &cuts[i]);

		if (unmap_can_fail(&s->w.edu))
			EXPECT_LT(0, stale);
		else
			EXPECT_EQ(0, stale);
	}
}

/* There is no memory to map all of a buffer, and none to take out again what was mapped of it. */
TEST_F_TIMEOUT(fault, what_a_failed_begin_leaves_is_kept_until_the_device_leaves, TIMEOUT)
{
	struct scene *s = &self->s;
	struct state before;
	bool failed = true;
	unsigned int n, stale = 0;

	edu_require_translation(&s->w.edu);
	faults_open(ALLOCATIONS);
	before = state_get(&s->w);
	for (n = 1; failed && n < FAULTS_MAX && !test_nr_failures(); n++) {
		Retcode rc;

		test_context("from fault %u on", n);
		attach_to(s);
		make_buffer(s);
		faults_arm_from(n);
		rc = do_begin_ex(s);
		failed = faults_disarm_from();
		if (rc == rcOk)
			close_made(s);
		if (lingering()) {
			stale++;
			EXPECT_EQ(BLOCKS, lingering());
			EXPECT_EQ(rcOutOfMemory, do_begin_ex(s));
		} else {
			EXPECT_OK(do_begin_ex(s));
			close_made(s);
		}
		close_buffer(s);
		detach_from(s);
		expect_as_before(&s->w, &before);
	}
	EXPECT_LT(n, FAULTS_MAX);
	test_context("%s", "");
	if (unmap_can_fail(&s->w.edu))
		EXPECT_LT(0, stale);
	else
		EXPECT_EQ(0, stale);
}

/* What the kernel put into the descriptor table is closed with the message. */
TEST_F_TIMEOUT(fault, a_handle_is_received_or_gone, TIMEOUT)
{
	struct scene *s = &self->s;
	struct state before;
	bool failed = true;
	unsigned int n;

	faults_open(EVERYTHING);
	before = state_get(&s->w);
	for (n = 1; failed && n < FAULTS_MAX; n++) {
		test_context("KosHandleReceive, fault %u", n);
		make_sent(s);
		faults_arm(n);
		if (do_receive(s) == rcOk) {
			failed = faults_disarm();
			must_close(s->made);
		} else {
			failed = faults_disarm();
			EXPECT_TRUE(failed);
		}
		close_sockets(s);
		expect_as_before(&s->w, &before);
	}
	EXPECT_FALSE(failed);
	EXPECT_GT(n, 2);
}

/* ---- the first use by a process ---- */

FIXTURE(first)
{
	struct command_world w;
	char driver[64];
};

FIXTURE_VARIANT(first)
{
	enum which which;
	Retcode (*call)(const struct command_world *w);
};

static Retcode create_and_begin(const struct command_world *w)
{
	Handle buffer, access;
	Retcode rc;

	(void)w;
	rc = KnIoDmaCreate(0, PAGES(BLOCKS), 0, &buffer);
	return rc == rcOk ? KnIoDmaBegin(buffer, &access) : rc;
}

static Retcode bind_and_attach(const struct command_world *w)
{
	return KnIommuAttachDevice(w->edu.bdf);
}

FIXTURE_VARIANT_ADD(first, of_memory) {
	.which = EVERYTHING,
	.call = create_and_begin,
};
FIXTURE_VARIANT_ADD(first, of_a_device) {
	/* Binding goes through much of the kernel that is not ours. */
	.which = MODULE,
	.call = bind_and_attach,
};

FIXTURE_SETUP(first)
{
	struct pci pci;

	probe_require_module();
	faults_require();
	/*
	 * It has no interrupt pin. To route one the kernel runs the firmware's code, with
	 * thousands of allocations, and does not survive all of their failures.
	 */
	pci_require(&pci, PCI_IVSHMEM, 0, "ivshmem");
	memcpy(self->w.edu.path, pci.path, sizeof(pci.path));
	self->w.edu.bdf = pci.bdf;
	self->w.buffer = self->w.access = self->w.domain = self->w.region = NONE;
	/* It is bound by the first call, and given back by the process that bound it. */
	probe_driver(self->w.edu.path, self->driver);
	pci_make_driverless(self->w.edu.path);
}

FIXTURE_TEARDOWN(first)
{
	if (self->driver[0])
		pci_make_bound(self->w.edu.path, self->driver);
}

/* In a new process. Returns whether the fault came. */
static bool fails_at(unsigned int n, const struct fixture_variant_first *variant,
		     const struct command_world *w)
{
	enum { CAME = 10, SUCCEEDED, REFUSED };
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		Retcode rc;

		faults_open(variant->which);
		faults_arm(n);
		rc = variant->call(w);
		exit(faults_disarm() ? CAME : rc == rcOk ? SUCCEEDED : REFUSED);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_NE(REFUSED, WEXITSTATUS(status));
	return WEXITSTATUS(status) == CAME;
}

TEST_F_TIMEOUT(first, use_by_a_process_leaves_nothing, TIMEOUT)
{
	struct state before;
	unsigned int n = 0;

	/* Here for the socket that it keeps. */
	stats();
	before = state_get(&self->w);
	do {
		test_context("fault %u", ++n);
		ASSERT_LT(n, FAULTS_MAX);
	} while (fails_at(n, variant, &self->w));
	test_context("%s", "");
	expect_as_before(&self->w, &before);
	EXPECT_GT(n, 1);
	test_log("%u faults", n - 1);
}

TEST_HARNESS_MAIN
