// SPDX-License-Identifier: GPL-2.0-only
/*
 * The runner behind harness.h.
 *
 * The parent forks one child per test; child and parent share one page with
 * the result. In the child, a failed ASSERT jumps back to run_child(), so that
 * the teardown runs; processes and threads that the test made have no way back
 * and end themselves.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"

enum { NAME_MAX_LEN = 160, FILTERS_MAX = 32, KMSG_RECORD_MAX = 8192 };

struct result {
	char skip_reason[256];
};

static struct test_case *cases;
static struct test_variant *variants;
static const char *filters[FILTERS_MAX];
static int nr_filters;

static struct result *result;
static char context[256];

/* Of the process that runs the test: */
static pid_t test_pid, test_tid;
static sigjmp_buf test_end;
static int failures; /* of this process: a forked child starts at 0 */

/* Constructors run in no particular order: keep the order of the source. */
void test_register_case(struct test_case *t)
{
	struct test_case **p = &cases;

	while (*p && (*p)->line < t->line)
		p = &(*p)->next;
	t->next = *p;
	*p = t;
}

void test_register_variant(struct test_variant *v)
{
	struct test_variant **p = &variants;

	while (*p && (*p)->line < v->line)
		p = &(*p)->next;
	v->next = *p;
	*p = v;
}

static void vlog(const char *prefix, const char *fmt, va_list ap)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "# %s", prefix);

	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* One write, unbuffered: children must not flush it twice. */
	if (write(STDOUT_FILENO, line, n) < 0)
		_exit(TEST_EXIT_FAIL);
}

void test_log(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog("", fmt, ap);
	va_end(ap);
}

void test_context(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
}

static bool in_test_process(void)
{
	return getpid() == test_pid;
}

static void end_here(void)
{
	if (!in_test_process())
		_exit(TEST_EXIT_FAIL);
	if (gettid() != test_tid)
		pthread_exit(NULL);
	siglongjmp(test_end, 1);
}

void test_failed(bool fatal, const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	char prefix[512];
	va_list ap;

	snprintf(prefix, sizeof(prefix), "%s:%d: %s%s%s",
		 base ? base + 1 : file, line, context[0] ? "[" : "", context,
		 context[0] ? "] " : "");
	va_start(ap, fmt);
	vlog(prefix, fmt, ap);
	va_end(ap);
	__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
	if (fatal)
		end_here();
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(result->skip_reason, sizeof(result->skip_reason), fmt, ap);
	va_end(ap);
	if (!in_test_process())
		_exit(TEST_EXIT_SKIP);
	siglongjmp(test_end, 1);
}

pid_t test_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		test_failed(true, __FILE__, __LINE__, "fork: %m");
	if (!pid)
		failures = 0;
	return pid;
}

int test_nr_failures(void)
{
	return failures;
}

void test_child_exit(void)
{
	_exit(failures ? TEST_EXIT_FAIL : TEST_EXIT_PASS);
}

void test_wait_at(pid_t pid, const char *file, int line)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			test_failed(true, file, line, "waitpid: %m");
	if (WIFSIGNALED(status))
		test_failed(true, file, line, "a child died of signal %d (%s)",
			    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == TEST_EXIT_SKIP && result->skip_reason[0])
		end_here();
	else if (WEXITSTATUS(status))
		test_failed(true, file, line, "a child failed (status %d)",
			    WEXITSTATUS(status));
}

int test_in_child_begin(const char *file, int line)
{
	pid_t pid = test_fork();

	if (!pid)
		return 1;
	test_wait_at(pid, file, line);
	return 0;
}

int test_in_child_end(void)
{
	test_child_exit();
}

const char *test_rc_name(Retcode rc)
{
	static const struct {
		Retcode rc;
		const char *name;
	} names[] = {
#define RC(name, code) { name, #name },
		{ rcOk, "rcOk" },
		KOS_RETCODES(RC)
#undef RC
	};
	static char unknown[2][32];
	static int turn;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].rc == rc)
			return names[i].name;
	turn ^= 1;
	snprintf(unknown[turn], sizeof(unknown[turn]), "unknown code %#x",
		 (unsigned int)rc);
	return unknown[turn];
}

/* ---- the kernel's log ---- */

static int kmsg_open(const char *name)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int out = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	if (out >= 0) {
		char line[NAME_MAX_LEN + 32];
		int n = snprintf(line, sizeof(line), "kosdma test: %s\n", name);

		/* Not dprintf(): that seeks, and /dev/kmsg refuses it. */
		if (write(out, line, n) != n)
			test_log("/dev/kmsg: %m");
		close(out);
	}
	return fd;
}

/* Return whether the log holds a splat since kmsg_open(), and show it. */
static bool kmsg_has_splat(int fd)
{
	static const char *const splats[] = {
		"------------[ cut here ]", "BUG: ", "Oops: ", "KASAN: ",
		"UBSAN: ", "WARNING: ", "general protection fault",
		"page allocation failure", "DMA-API: ", "invoked oom-killer",
		"blocked for more than", "detected stall", "scheduling while",
	};
	char record[KMSG_RECORD_MAX + 1];
	bool found = false;
	ssize_t n;

	if (fd < 0)
		return false;
	while ((n = read(fd, record, KMSG_RECORD_MAX)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		char *text;

		if (n < 0)
			continue;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text || strtoul(record, NULL, 10) >> 3)
			continue; /* facility not kern: written by user space */
		text++;
		text[strcspn(text, "\n")] = '\0';
		if (strstr(text, "KCSAN: ") && !strstr(text, "kosdma"))
			continue; /* the kernel has data races of its own */
		for (size_t i = 0; i < sizeof(splats) / sizeof(splats[0]); i++)
			if (strstr(text, splats[i])) {
				test_log("kernel log: %s", text);
				found = true;
				break;
			}
	}
	close(fd);
	return found;
}

/* ---- running ---- */

static void test_name(char *name, const struct test_case *t,
		      const struct test_variant *v)
{
	snprintf(name, NAME_MAX_LEN, "%s%s%s%s%s",
		 t->fixture ? t->fixture->name : "", t->fixture ? "." : "",
		 v ? v->name : "", v ? "." : "", t->name);
}

static bool selected(const char *name)
{
	for (int i = 0; i < nr_filters; i++)
		if (strstr(name, filters[i]) ||
		    !fnmatch(filters[i], name, 0))
			return true;
	return !nr_filters;
}

/* Run one step of a test; return whether it ran to its end. */
static bool run_step(void (*step)(void *self, const void *variant), void *self,
		     const void *variant)
{
	if (sigsetjmp(test_end, 1))
		return false;
	step(self, variant);
	return true;
}

static void run_child(const struct test_case *t, const struct test_variant *v)
{
	const struct test_fixture *fixture = t->fixture;
	const void *data = v ? v->data : NULL;
	void *self = NULL;

	test_pid = getpid();
	test_tid = gettid();
	if (fixture)
		self = calloc(1, fixture->size + 1);
	if (!fixture || run_step(fixture->setup, self, data)) {
		run_step(t->run, self, data);
		context[0] = '\0';
		if (fixture)
			run_step(fixture->teardown, self, data);
	}
	if (failures)
		_exit(TEST_EXIT_FAIL);
	_exit(result->skip_reason[0] ? TEST_EXIT_SKIP : TEST_EXIT_PASS);
}

/* Wait for the child for so long; return its status or -1. */
static int wait_timeout(pid_t pid, unsigned int seconds)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int status = -1, ready;

	do
		ready = poll(&pfd, 1, seconds * 1000);
	while (ready < 0 && errno == EINTR);
	close(pidfd);
	if (ready <= 0)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	kill(-pid, SIGKILL); /* strays */
	return ready > 0 ? status : -1;
}

unsigned int test_seconds(unsigned int seconds)
{
	const char *scale = getenv("TEST_TIMEOUT_SCALE");

	return seconds * (scale ? atoi(scale) : 1);
}

static int run_one(const struct test_case *t, const struct test_variant *v,
		   const char *name)
{
	unsigned int timeout = test_seconds(t->timeout);
	int kmsg = kmsg_open(name);
	int status, ret = TEST_EXIT_FAIL;
	pid_t pid;

	result->skip_reason[0] = '\0';
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		test_log("fork: %m");
		return TEST_EXIT_FAIL;
	}
	if (!pid) {
		setpgid(0, 0);
		if (kmsg >= 0)
			close(kmsg);
		run_child(t, v);
	}
	setpgid(pid, pid);
	status = wait_timeout(pid, timeout);
	if (status == -1)
		test_log("no end after %u seconds: killed", timeout);
	else if (WIFSIGNALED(status))
		test_log("died of signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		ret = WEXITSTATUS(status);
	if (kmsg_has_splat(kmsg))
		ret = TEST_EXIT_FAIL;
	return ret;
}

struct totals {
	int nr, pass, fail, skip;
};

static void run_listed(const struct test_case *t, const struct test_variant *v,
		       bool list, bool run, struct totals *totals)
{
	char name[NAME_MAX_LEN];
	int ret;

	test_name(name, t, v);
	if (!selected(name))
		return;
	totals->nr++;
	if (list)
		printf("%s\n", name);
	if (!run)
		return;
	ret = run_one(t, v, name);
	if (ret == TEST_EXIT_PASS) {
		totals->pass++;
		printf("ok %d %s\n", totals->nr, name);
	} else if (ret == TEST_EXIT_SKIP) {
		totals->skip++;
		printf("ok %d %s # SKIP %s\n", totals->nr, name,
		       result->skip_reason);
	} else {
		totals->fail++;
		printf("not ok %d %s\n", totals->nr, name);
	}
	fflush(stdout);
}

static void walk_tests(bool list, bool run, struct totals *totals)
{
	memset(totals, 0, sizeof(*totals));
	for (struct test_case *t = cases; t; t = t->next) {
		bool any = false;

		for (struct test_variant *v = variants; v; v = v->next)
			if (t->fixture && v->fixture == t->fixture) {
				any = true;
				run_listed(t, v, list, run, totals);
			}
		if (!any)
			run_listed(t, NULL, list, run, totals);
	}
}

int test_main(int argc, char **argv)
{
	struct totals totals;
	bool list = false;
	int opt;

	while ((opt = getopt(argc, argv, "lt:h")) != -1) {
		if (opt == 'l') {
			list = true;
		} else if (opt == 't' && nr_filters < FILTERS_MAX) {
			filters[nr_filters++] = optarg;
		} else {
			fprintf(stderr, "usage: %s [-l] [-t PATTERN]...\n",
				argv[0]);
			return TEST_EXIT_FAIL;
		}
	}
	if (list) {
		walk_tests(true, false, &totals);
		return TEST_EXIT_PASS;
	}

	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED) {
		perror("mmap");
		return TEST_EXIT_FAIL;
	}
	walk_tests(false, false, &totals);
	if (!totals.nr) {
		fprintf(stderr, "%s: no such test\n", argv[0]);
		return TEST_EXIT_FAIL;
	}
	printf("TAP version 13\n1..%d\n", totals.nr);
	walk_tests(false, true, &totals);
	printf("# Totals: pass:%d fail:%d skip:%d\n", totals.pass, totals.fail,
	       totals.skip);
	if (totals.fail)
		return TEST_EXIT_FAIL;
	return totals.pass ? TEST_EXIT_PASS : TEST_EXIT_SKIP;
}
