// SPDX-License-Identifier: GPL-2.0-only
/*
 * Storms of bounded length, from several threads and processes at once. What
 * single calls answer in them is of no interest as long as it is documented;
 * the ends are: no splat, nothing left, and no access that outlives its revoke.
 *
 * STRESS_SECONDS sets the length of each storm, STRESS_SEED its numbers.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE

enum { SECONDS = 8, TIMEOUT = 240, MIN_ROUNDS = 6 };

static unsigned int setting(const char *name, unsigned int otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 0) : otherwise;
}

static time_t storm_end(void)
{
	return time(NULL) + setting("STRESS_SECONDS", SECONDS);
}

struct random {
	uint64_t state;
};

static struct random random_new(unsigned int stream)
{
	uint64_t seed = setting("STRESS_SEED", 1) * 1000003ull + stream;

	return (struct random){ seed * 0x9e3779b97f4a7c15 + 1 };
}

static unsigned int random_below(struct random *r, unsigned int n)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return (r->state >> 32) % n;
}

/* A code that the calls of a storm may answer. */
static bool is_expected(Retcode rc)
{
	switch (rc) {
	case rcOk:
	case rcInvalidArgument: /* another thread put another kind there */
	case rcResourceNotFound: /* or closed it */
	case rcHandleRevoked:
	case rcNoCapability:
	case rcBusy:
	case rcInvalidOperation:
	case rcAlreadyExists:
	case rcQuotaExceeded:
		return true;
	default:
		return false;
	}
}

#define EXPECT_KNOWN(call)                                                     \
	({                                                                     \
		Retcode _rc = (call);                                          \
		if (!is_expected(_rc))                                         \
			test_failed(false, __FILE__, __LINE__, "%s from %s",   \
				    test_rc_name(_rc), #call);                 \
		_rc;                                                           \
	})

/* Touches that may come too late. Each thread has its own way out. */
static __thread sigjmp_buf too_late;
static __thread volatile bool touching;

static void on_fault(int sig)
{
	if (!touching) {
		signal(sig, SIG_DFL);
		return;
	}
	siglongjmp(too_late, sig);
}

static void catch_faults(void)
{
	struct sigaction act = { .sa_handler = on_fault };

	sigaction(SIGBUS, &act, NULL);
	sigaction(SIGSEGV, &act, NULL);
}

/* The signal that it dies of, or 0. */
static int touch(volatile uint8_t *addr)
{
	int sig = sigsetjmp(too_late, 1);

	if (!sig) {
		touching = true;
		(void)*addr;
	}
	touching = false;
	return sig;
}

struct machine {
	struct edu edu;
	bool have_edu;
	long memory;
	int fds;
};

FIXTURE(storm)
{
	struct machine m;
};

static void warm_up(void)
{
	IN_CHILD {
		Handle mapping;

		buffer_map(buffer_create(0, MiB(4), DMA_DIR_BIDIR), MiB(4),
			   &mapping);
	}
}

FIXTURE_SETUP(storm)
{
	probe_require_module();
	self->m.have_edu = edu_find(&self->m.edu, 0);
	warm_up();
	/* Descriptors that stay: libkos's and that of the tests. */
	ASSERT_RC(rcResourceNotFound, KnHandleClose(NONE));
	ASSERT_EQ(EBADF, probe_handle(NONE, NULL, NULL));
	self->m.fds = probe_nr_fds();
	self->m.memory = probe_free_memory();
}

/* The end of every storm: nothing is left of it. */
FIXTURE_TEARDOWN(storm)
{
	uint64_t start, last;

	test_context("after the storm");
	if (self->m.have_edu) {
		EXPECT_OK(KnIommuAttachDevice(self->m.edu.bdf));
		EXPECT_OK(KnIommuDetachDevice(self->m.edu.bdf));
		EXPECT_FALSE(probe_bus_master(self->m.edu.path));
	}
	EXPECT_FALSE(probe_iomem_find("kosdma", 0, &start, &last));
	EXPECT_EQ(self->m.fds, probe_nr_fds());
	EXPECT_TRUE(probe_memory_returns(self->m.memory, KiB(8)));
}

/* ---- threads on shared handles ---- */

enum { SLOTS = 24, THREADS = 4 };

/* Handles and addresses that all threads of a process take from and put to. */
static _Atomic Handle slots[SLOTS];
static _Atomic uintptr_t places[SLOTS];
static time_t deadline;
static Handle shared_domain, shared_badge;

static void put(struct random *r, Handle h)
{
	Handle old = atomic_exchange(&slots[random_below(r, SLOTS)], h);

	if (old != NONE)
		EXPECT_KNOWN(KnHandleClose(old));
}

static void one_step(struct random *r)
{
	static const uint32_t rights[] = {
		OCAP_DMA_FULL, OCAP_DMA_READ | OCAP_DMA_WRITE | OCAP_DMA_BEGIN,
		OCAP_DMA_FULL & ~OCAP_HANDLE_COPY, 0,
	};
	Handle h = atomic_load(&slots[random_below(r, SLOTS)]), out = NONE;
	DmaInfo *info;
	void *addr;
	uint32_t sid;
	Retcode rc;

	switch (random_below(r, 14)) {
	case 0:
		rc = KnIoDmaCreate(0, PAGES(1 + random_below(r, 64)), 0, &out);
		break;
	case 1:
	case 2:
		rc = KnIoDmaMap(h, 0, PAGE, NULL, VMM_READ_WRITE, &addr, &out);
		if (rc == rcOk)
			atomic_store(&places[random_below(r, SLOTS)],
				     (uintptr_t)addr);
		break;
	case 3:
		rc = KnIoDmaBegin(h, &out);
		break;
	case 4:
		rc = KnIoDmaBeginEx(h, shared_domain, &out);
		break;
	case 5:
	case 6:
		rc = KnHandleCopy(h, rights[random_below(r, 4)],
				  random_below(r, 2) ? shared_badge : NONE,
				  &out);
		break;
	case 7:
		rc = KnHandleRevokeEx(h, rtl_false);
		break;
	case 8:
		rc = KnHandleRevokeSubtree(h, shared_badge);
		break;
	case 9:
		rc = KnHandleGetSidByHandle(h, &sid);
		break;
	case 10:
		rc = KnIoDmaGetInfo(h, &info);
		if (rc == rcOk)
			KosMemFree(info);
		break;
	case 11:
		rc = KnIoDmaModify(h, random_below(r, 2) ?
				      DMA_ATTR_WRITE_COMBINE :
				      DMA_ATTR_WRITE_BACK);
		break;
	case 12:
		touch((void *)atomic_load(&places[random_below(r, SLOTS)]));
		return;
	default:
		put(r, NONE);
		return;
	}
	EXPECT_KNOWN(rc);
	if (out != NONE)
		put(r, out);
}

static void *thread_storm(void *arg)
{
	struct random r = random_new((uintptr_t)arg);

	while (time(NULL) < deadline)
		one_step(&r);
	return NULL;
}

static void process_storm(unsigned int stream)
{
	pthread_t threads[THREADS];

	catch_faults();
	for (int i = 0; i < SLOTS; i++) {
		slots[i] = NONE;
		places[i] = (uintptr_t)slots;
	}
	shared_domain = domain_create();
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &shared_badge));
	for (uintptr_t i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, thread_storm,
					    (void *)(stream * THREADS + i)));
	for (int i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
}

TEST_F_TIMEOUT(storm, threads_of_one_process, TIMEOUT)
{
	deadline = storm_end();
	IN_CHILD {
		if (self->m.have_edu)
			ASSERT_OK(KnIommuAttachDevice(self->m.edu.bdf));
		process_storm(0);
		/* Closed one by one: nothing is left to the process's end. */
		for (int i = 0; i < SLOTS; i++)
			if (slots[i] != NONE)
				EXPECT_KNOWN(KnHandleClose(slots[i]));
	}
}

TEST_F_TIMEOUT(storm, threads_of_several_processes_that_are_killed, TIMEOUT)
{
	enum { PROCESSES = 3 };
	struct random r = random_new(100);
	pid_t pid[PROCESSES] = { 0 };
	unsigned int stream = 0;

	deadline = storm_end();
	while (time(NULL) < deadline || stream < MIN_ROUNDS) {
		int victim = random_below(&r, PROCESSES);

		if (pid[victim]) {
			ASSERT_EQ(0, kill(pid[victim], SIGKILL));
			ASSERT_EQ(pid[victim], waitpid(pid[victim], NULL, 0));
		}
		stream++;
		pid[victim] = test_fork();
		if (!pid[victim]) {
			process_storm(stream);
			pause();
		}
		usleep((20 + random_below(&r, 200)) * 1000);
	}
	for (int i = 0; i < PROCESSES; i++)
		if (pid[i]) {
			kill(pid[i], SIGKILL);
			ASSERT_EQ(pid[i], waitpid(pid[i], NULL, 0));
		}
}

/* ---- handles that go round ---- */

enum { RING = 4 };

static void ring_process(int self, int sock[RING][2])
{
	struct random r = random_new(200 + self);
	int in = sock[self][0], out = sock[(self + 1) % RING][1];
	Handle held[8];

	catch_faults();
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		held[i] = NONE;
	while (time(NULL) < deadline) {
		Handle *h = &held[random_below(&r, ARRAY_SIZE(held))];
		Handle got, use;
		void *addr;

		switch (random_below(&r, 8)) {
		case 0:
			if (*h == NONE)
				*h = buffer_create(0, PAGES(16), 0);
			break;
		case 1:
		case 2:
			if (*h != NONE)
				EXPECT_KNOWN(KosHandleSend(out, *h,
							   OCAP_DMA_FULL));
			break;
		case 3:
		case 4:
			if (EXPECT_KNOWN(KosHandleReceive(in, &got)) != rcOk)
				break;
			if (*h != NONE)
				EXPECT_KNOWN(KnHandleClose(*h));
			*h = got;
			break;
		case 5:
			if (*h == NONE ||
			    EXPECT_KNOWN(KnIoDmaMap(*h, 0, PAGES(16), NULL,
						    VMM_READ_WRITE, &addr,
						    &use)) != rcOk)
				break;
			/* Maybe revoked meanwhile, never anything else. */
			EXPECT_NE(SIGSEGV, touch(addr));
			EXPECT_NE(SIGSEGV,
				  touch((uint8_t *)addr + PAGES(15)));
			EXPECT_OK(KnHandleClose(use));
			break;
		case 6:
			if (*h != NONE &&
			    EXPECT_KNOWN(KnIoDmaBegin(*h, &use)) == rcOk)
				EXPECT_OK(KnHandleClose(use));
			break;
		default:
			if (*h == NONE)
				break;
			EXPECT_KNOWN(KnHandleRevokeEx(*h, random_below(&r, 2)));
			if (probe_is_open(*h))
				EXPECT_OK(KnHandleClose(*h));
			*h = NONE;
		}
	}
}

TEST_F_TIMEOUT(storm, handles_sent_round_a_ring_of_processes, TIMEOUT)
{
	int sock[RING][2];
	pid_t pid[RING];

	deadline = storm_end();
	for (int i = 0; i < RING; i++)
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET |
					SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
					sock[i]));
	for (int i = 0; i < RING; i++) {
		pid[i] = test_fork();
		if (!pid[i]) {
			ring_process(i, sock);
			test_child_exit();
		}
	}
	for (int i = 0; i < RING; i++)
		test_wait(pid[i]);
	/* What is still on its way goes with the sockets. */
	for (int i = 0; i < RING; i++) {
		close(sock[i][0]);
		close(sock[i][1]);
	}
}

/* ---- every call against every other, on the same handles ---- */

static struct {
	Handle buffer, domain, access, mapping;
	int sock[2];
	uint16_t bdf;
	bool have_edu;
	pthread_barrier_t start;
} common;

static Retcode close_result(Retcode rc, Handle out)
{
	if (rc == rcOk)
		EXPECT_KNOWN(KnHandleClose(out));
	return rc;
}

static Retcode call_map(void)
{
	Handle out;
	void *addr;
	Retcode rc = KnIoDmaMap(common.buffer, 0, PAGES(2), NULL,
				VMM_READ_WRITE, &addr, &out);

	return close_result(rc, out);
}

static Retcode call_begin(void)
{
	Handle out;
	Retcode rc = KnIoDmaBeginEx(common.buffer, common.domain, &out);

	return close_result(rc, out);
}

static Retcode call_begin_many(void)
{
	KosDmaBeginItem items[3] = {
		{ .rid = common.buffer },
		{ .rid = common.buffer },
		{ .rid = common.buffer },
	};
	Handle handles[3];
	Retcode rc = KosDmaBeginMany(common.domain, items, 3, NULL);

	if (rc != rcOk)
		return rc;
	for (int i = 0; i < 3; i++)
		handles[i] = items[i].handle;
	return KosHandleCloseMany(handles, 3);
}

static Retcode call_close_many(void)
{
	const Handle handles[] = { common.access, common.mapping,
				   common.access };

	return KosHandleCloseMany(handles, 3);
}

static Retcode call_copy(void)
{
	Handle out;
	Retcode rc = KnHandleCopy(common.buffer, OCAP_DMA_FULL, NONE, &out);

	return close_result(rc, out);
}

static Retcode call_send(void)
{
	Handle out;
	Retcode rc = KosHandleSend(common.sock[0], common.buffer,
				   OCAP_DMA_FULL);

	/* The copy that it sends may have the number that the other thread closes again. */
	if (rc == rcTransferError)
		return rcResourceNotFound;
	if (rc != rcOk)
		return rc;
	/* The other thread may have taken it. */
	rc = KosHandleReceive(common.sock[1], &out);
	return close_result(rc, out);
}

static Retcode call_info(void)
{
	DmaInfo *info;
	Retcode rc = KnIoDmaGetInfo(common.buffer, &info);

	if (rc == rcOk)
		KosMemFree(info);
	return rc;
}

static Retcode call_access_info(void)
{
	DmaInfo *info;
	Retcode rc = KnIoDmaGetInfo(common.access, &info);

	if (rc == rcOk)
		KosMemFree(info);
	return rc;
}

static Retcode call_modify(void)
{
	return KnIoDmaModify(common.buffer, DMA_ATTR_WRITE_COMBINE);
}

static Retcode call_revoke(void)
{
	return KnHandleRevokeEx(common.buffer, rtl_false);
}

static Retcode call_attach(void)
{
	return common.have_edu ? KnIommuAttachDeviceToDomain(common.bdf,
							     common.domain) :
				 rcOk;
}

static Retcode call_detach(void)
{
	return common.have_edu ? KnIommuDetachDeviceFromDomain(common.bdf,
							       common.domain) :
				 rcOk;
}

static Retcode call_mask(void)
{
	return common.have_edu ? KosIommuSetDmaMask(common.bdf, 0xfffffff) :
				 rcOk;
}

static Retcode call_close_access(void)
{
	return KnHandleClose(common.access);
}

static Retcode call_close_mapping(void)
{
	return KnHandleClose(common.mapping);
}

static Retcode call_close_domain(void)
{
	return KnHandleClose(common.domain);
}

static Retcode call_close_buffer(void)
{
	return KnHandleClose(common.buffer);
}

static const struct call {
	const char *name;
	Retcode (*call)(void);
} calls[] = {
	{ "map", call_map },
	{ "begin", call_begin },
	{ "begin many", call_begin_many },
	{ "copy", call_copy },
	{ "send", call_send },
	{ "info", call_info },
	{ "access info", call_access_info },
	{ "modify", call_modify },
	{ "revoke", call_revoke },
	{ "attach", call_attach },
	{ "detach", call_detach },
	{ "mask", call_mask },
	{ "close access", call_close_access },
	{ "close many", call_close_many },
	{ "close mapping", call_close_mapping },
	{ "close domain", call_close_domain },
	{ "close buffer", call_close_buffer },
};

static void *call_thread(void *arg)
{
	const struct call *c = arg;

	pthread_barrier_wait(&common.start);
	for (int i = 0; i < 3; i++)
		EXPECT_KNOWN(c->call());
	return NULL;
}

static void race_calls(const struct call *a, const struct call *b, bool attached)
{
	int before = probe_nr_fds();
	pthread_t threads[2];
	Handle left[4];
	void *addr;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK |
				SOCK_CLOEXEC, 0, common.sock));
	common.buffer = buffer_create(0, PAGES(4), 0);
	common.domain = domain_create();
	common.access = access_begin_in(common.buffer, common.domain);
	ASSERT_OK(KnIoDmaMap(common.buffer, 0, PAGES(4), NULL, VMM_READ_WRITE,
			     &addr, &common.mapping));
	if (attached)
		ASSERT_OK(call_attach());
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, call_thread, (void *)a));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, call_thread, (void *)b));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	left[0] = common.mapping;
	left[1] = common.access;
	left[2] = common.domain;
	left[3] = common.buffer;
	for (int i = 0; i < 4; i++)
		EXPECT_KNOWN(KnHandleClose(left[i]));
	/* With what is on its way. */
	close(common.sock[0]);
	close(common.sock[1]);
	EXPECT_EQ(before, probe_nr_fds());
}

TEST_F_TIMEOUT(storm, every_pair_of_calls_on_the_same_handles, 2 * TIMEOUT)
{
	enum { ROUNDS = 2 }; /* without a device and with one */

	common.have_edu = self->m.have_edu;
	common.bdf = self->m.edu.bdf;
	ASSERT_EQ(0, pthread_barrier_init(&common.start, NULL, 2));
	for (size_t a = 0; a < ARRAY_SIZE(calls); a++)
		for (size_t b = a; b < ARRAY_SIZE(calls); b++)
			for (int round = 0; round < ROUNDS; round++) {
				test_context("%s against %s, round %d",
					     calls[a].name, calls[b].name,
					     round);
				race_calls(&calls[a], &calls[b], round & 1);
			}
	test_context("%s", "");
}

/* ---- against a revoke ---- */

enum race { RACE_MAP, RACE_BEGIN, RACE_BEGIN_MANY, RACE_COPY };

enum { WON_MAX = 400 }; /* two threads' must fit into 1,024 */

static struct {
	enum race what;
	Handle child;
	_Atomic bool go, stop;
	struct {
		Handle handle;
		volatile uint8_t *mem;
	} won[2][WON_MAX];
	int nr[2];
} race;

/* Two at once; the first is closed again. */
static Retcode begin_pair(Handle buffer, Handle *out)
{
	KosDmaBeginItem items[2] = { { .rid = buffer }, { .rid = buffer } };
	Retcode rc = KosDmaBeginMany(NONE, items, 2, NULL);

	if (rc == rcOk)
		EXPECT_OK(KosHandleCloseMany(&items[0].handle, 1));
	*out = items[1].handle;
	return rc;
}

static void *racer(void *arg)
{
	int self = (uintptr_t)arg;

	while (!race.go)
		;
	while (!race.stop && race.nr[self] < WON_MAX) {
		Handle out = NONE;
		void *addr = NULL;
		Retcode rc;

		if (race.what == RACE_MAP)
			rc = KnIoDmaMap(race.child, 0, PAGE, NULL,
					VMM_READ_WRITE, &addr, &out);
		else if (race.what == RACE_BEGIN)
			rc = KnIoDmaBegin(race.child, &out);
		else if (race.what == RACE_BEGIN_MANY)
			rc = begin_pair(race.child, &out);
		else
			rc = KnHandleCopy(race.child, OCAP_DMA_FULL, NONE,
					  &out);
		if (rc == rcHandleRevoked)
			break;
		if (rc != rcOk) {
			EXPECT_RC(rcOk, rc);
			break;
		}
		race.won[self][race.nr[self]].handle = out;
		race.won[self][race.nr[self]++].mem = addr;
	}
	return NULL;
}

/* Before it and taken away, or after it and refused: there is no third. */
static void race_against_revoke(enum race what)
{
	time_t end = storm_end();
	unsigned int patience = 3000; /* us; slow kernels need more */
	int won = 0, rounds = 0;

	catch_faults();
	race.what = what;
	while (time(NULL) < end || (!won && rounds < 100)) {
		struct random r = random_new(300 + rounds++);
		Handle root = buffer_create(0, PAGE, DMA_DIR_BIDIR);
		pthread_t threads[2];

		race.child = buffer_copy(root, OCAP_DMA_FULL);
		race.nr[0] = 0;
		race.nr[1] = 0;
		race.go = false;
		race.stop = false;
		for (uintptr_t i = 0; i < 2; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, racer,
						    (void *)i));
		race.go = true;
		usleep(random_below(&r, patience));
		ASSERT_OK(KnHandleRevokeEx(root, rtl_false));
		race.stop = true;
		for (int i = 0; i < 2; i++)
			ASSERT_EQ(0, pthread_join(threads[i], NULL));
		for (int i = 0; i < 2; i++)
			for (int j = 0; j < race.nr[i]; j++) {
				Handle h = race.won[i][j].handle;

				if (what == RACE_MAP)
					EXPECT_EQ(SIGBUS,
						  touch(race.won[i][j].mem));
				EXPECT_EQ(EKEYREVOKED,
					  probe_handle(h, NULL, NULL));
				EXPECT_OK(KnHandleClose(h));
				won++;
			}
		EXPECT_OK(KnHandleClose(race.child));
		EXPECT_OK(KnHandleClose(root));
		if (!won)
			patience += patience / 8;
	}
	test_log("%d rounds, %d times before the revoke", rounds, won);
	EXPECT_GT(won, 0);
}

TEST_F_TIMEOUT(storm, map_against_revoke, TIMEOUT)
{
	race_against_revoke(RACE_MAP);
}

TEST_F_TIMEOUT(storm, begin_against_revoke, TIMEOUT)
{
	race_against_revoke(RACE_BEGIN);
}

TEST_F_TIMEOUT(storm, begin_many_against_revoke, TIMEOUT)
{
	race_against_revoke(RACE_BEGIN_MANY);
}

TEST_F_TIMEOUT(storm, copy_against_revoke, TIMEOUT)
{
	race_against_revoke(RACE_COPY);
}

/*
 * Calls under way on what is revoked, while nobody else keeps the memory: they
 * must not find it freed. (A debug kernel sees if they do.)
 */
static struct {
	Handle child, access;
	_Atomic bool stop;
} victim;

static void *questioner(void *arg)
{
	DmaInfo *info;
	DmaAddr addr;

	(void)arg;
	while (!victim.stop) {
		if (EXPECT_KNOWN(KnIoDmaGetInfo(victim.access, &info)) == rcOk)
			KosMemFree(info);
		if (EXPECT_KNOWN(KnIoDmaGetPhysInfo(victim.child, &info)) ==
		    rcOk)
			KosMemFree(info);
		EXPECT_KNOWN(KnIoDmaContinuousGetDmaAddr(victim.access, &addr));
		EXPECT_KNOWN(KnIoDmaModify(victim.child, DMA_ATTR_WRITE_BACK));
	}
	return NULL;
}

static void *modifier(void *arg)
{
	(void)arg;
	while (!victim.stop) {
		EXPECT_KNOWN(KnIoDmaModify(victim.child,
					   DMA_ATTR_WRITE_COMBINE));
		EXPECT_KNOWN(KnIoDmaModify(victim.child, DMA_ATTR_WRITE_BACK));
	}
	return NULL;
}

TEST_F_TIMEOUT(storm, calls_under_way_against_revoke_of_the_last_handle,
	       TIMEOUT)
{
	time_t end = storm_end();
	unsigned int round = 0;

	if (self->m.have_edu)
		ASSERT_OK(KnIommuAttachDevice(self->m.edu.bdf));
	for (; time(NULL) < end || round < MIN_ROUNDS; round++) {
		struct random r = random_new(700 + round);
		/* Of eight blocks: a list that takes a while. */
		Handle root = buffer_create(0, PAGES(255), 0);
		pthread_t threads[2];

		victim.child = buffer_copy(root, OCAP_DMA_FULL);
		victim.access = access_begin(victim.child);
		victim.stop = false;
		ASSERT_EQ(0, pthread_create(&threads[0], NULL, questioner,
					    NULL));
		ASSERT_EQ(0, pthread_create(&threads[1], NULL, modifier, NULL));
		usleep(random_below(&r, 5000));
		/* With the access open there is no modifying, without there is. */
		if (round & 1)
			EXPECT_OK(KnHandleClose(victim.access));
		usleep(random_below(&r, 2000));
		ASSERT_OK(KnHandleRevoke(root));
		usleep(random_below(&r, 2000));
		victim.stop = true;
		for (int i = 0; i < 2; i++)
			ASSERT_EQ(0, pthread_join(threads[i], NULL));
		if (!(round & 1))
			EXPECT_OK(KnHandleClose(victim.access));
		EXPECT_OK(KnHandleClose(victim.child));
	}
	if (self->m.have_edu)
		EXPECT_OK(KnIommuDetachDevice(self->m.edu.bdf));
}

/* ---- devices ---- */

/* Several processes want the device; who has it uses it. */
static void rival(struct edu *edu, unsigned int stream)
{
	struct random r = random_new(400 + stream);

	while (time(NULL) < deadline) {
		Handle domain = NONE;
		struct begun b;
		Retcode rc;

		if (random_below(&r, 2)) {
			domain = domain_create();
			rc = KnIommuAttachDeviceToDomain(edu->bdf, domain);
		} else {
			rc = KnIommuAttachDevice(edu->bdf);
		}
		if (EXPECT_KNOWN(rc) == rcOk) {
			EXPECT_TRUE(probe_bus_master(edu->path));
			begun_open(&b, PAGES(1 + random_below(&r, 32)), domain);
			EXPECT_NE(0, b.addr);
			/* Some only attach, some do it all. */
			if (!random_below(&r, 4) &&
			    edu_map_registers(edu) == rcOk) {
				EXPECT_TRUE(edu_copy_wait(edu));
				EXPECT_TRUE(probe_lands(edu, &b, b.addr + 512,
							b.mem + 512));
				edu_unmap_registers(edu);
			}
			begun_close(&b);
			if (domain == NONE)
				EXPECT_OK(KnIommuDetachDevice(edu->bdf));
		} else {
			EXPECT_RC(rcBusy, rc);
		}
		/* Or by closing the domain. */
		if (domain != NONE)
			EXPECT_OK(KnHandleClose(domain));
	}
}

TEST_F_TIMEOUT(storm, processes_that_want_one_device, TIMEOUT)
{
	enum { RIVALS = 3 };
	pid_t pid[RIVALS];

	edu_require(&self->m.edu, 0);
	deadline = storm_end();
	for (int i = 0; i < RIVALS; i++) {
		pid[i] = test_fork();
		if (!pid[i]) {
			rival(&self->m.edu, i);
			test_child_exit();
		}
	}
	for (int i = 0; i < RIVALS; i++)
		test_wait(pid[i]);
}

/* A driver with a device that works, killed at any point. */
static void doomed_driver(struct edu *edu, unsigned int stream)
{
	struct random r = random_new(500 + stream);
	struct begun b;
	Handle domain, extra;

	ASSERT_OK(KnIommuAttachDevice(edu->bdf));
	ASSERT_OK(edu_map_registers(edu));
	begun_open(&b, PAGES(4), NONE);
	domain = domain_create();
	edu_copy_out_start(edu, 0, b.addr, 64);
	for (;;) {
		extra = buffer_create(0, PAGES(1 + random_below(&r, 512)), 0);
		access_begin(extra);
		access_begin_in(extra, domain);
		buffer_copy(extra, OCAP_DMA_FULL);
		if (random_below(&r, 2))
			ASSERT_OK(KnHandleRevoke(extra));
		if (random_below(&r, 8))
			continue;
		ASSERT_OK(KnIommuDetachDevice(edu->bdf));
		ASSERT_OK(KnIommuAttachDeviceToDomain(edu->bdf, domain));
		ASSERT_OK(KnIommuDetachDeviceFromDomain(edu->bdf, domain));
		ASSERT_OK(KnIommuAttachDevice(edu->bdf));
	}
}

TEST_F_TIMEOUT(storm, drivers_killed_at_any_point, TIMEOUT)
{
	struct random r = random_new(600);
	time_t end = storm_end();
	unsigned int round = 0;

	edu_require(&self->m.edu, 0);
	for (; time(NULL) < end || round < MIN_ROUNDS; round++) {
		pid_t pid = test_fork();
		int status;

		if (!pid)
			doomed_driver(&self->m.edu, round);
		usleep(random_below(&r, 150) * 1000);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		EXPECT_FALSE(probe_bus_master(self->m.edu.path));
		/* edu cannot be reset: its copy would go on, see process_test. */
		if (!edu_translated(&self->m.edu))
			usleep(300 * 1000);
	}
}

TEST_HARNESS_MAIN
