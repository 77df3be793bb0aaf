// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the operations of table.c and prints what they cost, as CSV:
 *
 *	tests/vm/run -c -- bench [-s] [-l] [-r ROUNDS] [-a ARG] [PATTERN...]
 *
 *	-s		the few that `make check` compares with a record
 *	-l		only list them
 *	-r ROUNDS	how often each is run (3)
 *	-a ARG		only with this argument, in bytes or a number
 *	PATTERN		only operations whose name, or "name: contender",
 *			matches a shell pattern
 *
 * The contenders of an operation take turns, each in a process of its own. What
 * is printed are the median and the extremes of all that was measured. In a
 * guest that counts instructions a nanosecond is one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "bench.h"

enum { PARTS_MAX = 12, SAMPLES_MAX = 256, REST_US = 200 * 1000 };

struct part {
	char name[24];
	unsigned int n;
	int64_t samples[SAMPLES_MAX];
};

/* What one operation with one argument has given; processes share it. */
struct results {
	struct part parts[PARTS_MAX];
	char why[80]; /* it is unavailable */
};

struct run {
	const struct operation *operation;
	struct results *results;
	unsigned int round;
	unsigned int parts; /* in this round */
	int64_t sum;
	int64_t start, clock;
};

static struct results *current;

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What it costs to ask for the time: a part of all that is measured. */
static int64_t clock_cost(void)
{
	int64_t best = INT64_MAX;

	for (int i = 0; i < 100; i++) {
		int64_t start = now(), cost = now() - start;

		if (cost < best)
			best = cost;
	}
	return best;
}

static void record(struct run *run, const char *name, int64_t value)
{
	for (int i = 0; i < PARTS_MAX; i++) {
		struct part *part = &run->results->parts[i];

		if (part->n && strcmp(part->name, name))
			continue;
		snprintf(part->name, sizeof(part->name), "%s", name);
		if (part->n < SAMPLES_MAX)
			part->samples[part->n++] = value;
		return;
	}
}

bool run_again(struct run *run, unsigned int times)
{
	if (run->parts > 1)
		record(run, "sum", run->sum);
	run->parts = 0;
	run->sum = 0;
	if (run->round++ >= times)
		return false;
	run_start(run);
	return true;
}

void run_start(struct run *run)
{
	run->start = now();
}

void run_part(struct run *run, const char *part)
{
	int64_t cost = now() - run->start - run->clock;

	record(run, part, cost);
	run->parts++;
	run->sum += cost;
	run_start(run);
}

void run_each(struct run *run, const char *what, unsigned int n)
{
	record(run, what, (now() - run->start - run->clock) / n);
	run_start(run);
}

void run_value(struct run *run, const char *what, int64_t value)
{
	record(run, what, value);
}

int run_variant(const struct run *run)
{
	return run->operation->variant;
}

void run_unavailable(const char *why)
{
	snprintf(current->why, sizeof(current->why), "%s", why);
	_exit(0);
}

/* One process. Returns false if it failed. */
static bool run_once(const struct operation *operation, size_t arg,
		     struct results *results)
{
	pid_t pid;
	int status;

	current = results;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct run run = {
			.operation = operation,
			.results = results,
			.clock = clock_cost(),
		};

		operation->measure(&run, arg);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	/* What the kernel does behind it is not to be the next one's. */
	usleep(REST_US);
	return !status;
}

static int compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static const char *argument(const struct args *args, size_t value)
{
	static char text[32];

	if (args->unit == ARGS_NONE)
		return "";
	if (args->unit == ARGS_COUNT)
		snprintf(text, sizeof(text), "%zu", value);
	else if (value >= MiB(1024))
		snprintf(text, sizeof(text), "%zu GiB", value / MiB(1024));
	else if (value >= MiB(1))
		snprintf(text, sizeof(text), "%zu MiB", value / MiB(1));
	else
		snprintf(text, sizeof(text), "%zu KiB", value / KiB(1));
	return text;
}

static void print(const char *kernel, const struct operation *operation,
		  const char *arg, struct results *results)
{
	if (results->why[0])
		printf("# %s: %s: %s\n", operation->name, operation->contender,
		       results->why);
	for (int i = 0; i < PARTS_MAX && results->parts[i].n; i++) {
		struct part *part = &results->parts[i];

		qsort(part->samples, part->n, sizeof(part->samples[0]), compare);
		printf("%s,%s,%s,%s,%s,%lld,%lld,%lld,%u\n", kernel,
		       operation->name, arg, part->name, operation->contender,
		       (long long)part->samples[part->n / 2],
		       (long long)part->samples[0],
		       (long long)part->samples[part->n - 1], part->n);
	}
	fflush(stdout);
}

static bool smoke;
static size_t only = SIZE_MAX; /* this argument */

static const struct args *args_of(const struct operation *operation)
{
	return smoke ? operation->smoke : operation->args;
}

static bool has_arg(const struct operation *operation, size_t arg)
{
	const struct args *args = args_of(operation);

	if (!args || (only != SIZE_MAX && only != arg))
		return false;
	if (args->unit == ARGS_NONE)
		return !arg;
	for (size_t i = 0; i < ARRAY_SIZE(args->values); i++)
		if (arg && args->values[i] == arg)
			return true;
	return false;
}

static bool wanted(const struct operation *operation, char **patterns, int nr)
{
	char name[128];

	snprintf(name, sizeof(name), "%s: %s", operation->name,
		 operation->contender);
	for (int i = 0; i < nr; i++)
		if (!fnmatch(patterns[i], operation->name, 0) ||
		    !fnmatch(patterns[i], name, 0))
			return true;
	return !nr;
}

/* Lines of the table that have the same name take turns. */
static bool run_group(const struct operation *first, size_t nr, size_t arg,
		      int rounds, char **patterns, int nr_patterns)
{
	struct results *results = mmap(NULL, nr * sizeof(*results),
				       PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct utsname kernel;
	bool ok = true;

	ASSERT_NE(MAP_FAILED, results);
	uname(&kernel);
	for (int round = 0; round < rounds; round++)
		for (size_t i = 0; i < nr; i++)
			if (has_arg(&first[i], arg) && !results[i].why[0] &&
			    wanted(&first[i], patterns, nr_patterns) &&
			    !run_once(&first[i], arg, &results[i])) {
				printf("# %s: %s: failed\n", first[i].name,
				       first[i].contender);
				ok = false;
			}
	for (size_t i = 0; i < nr; i++)
		if (has_arg(&first[i], arg))
			print(kernel.release, &first[i],
			      argument(args_of(&first[i]), arg), &results[i]);
	munmap(results, nr * sizeof(*results));
	return ok;
}

/* All arguments that a line of the group has, smallest first. */
static bool run_args(const struct operation *first, size_t nr, int rounds,
		     char **patterns, int nr_patterns)
{
	size_t arg = 0;
	bool ok = true;

	for (;;) {
		size_t next = SIZE_MAX;
		bool any = false;

		for (size_t i = 0; i < nr; i++) {
			const struct args *args = args_of(&first[i]);

			any |= has_arg(&first[i], arg) &&
			       wanted(&first[i], patterns, nr_patterns);
			for (size_t k = 0; args && k < ARRAY_SIZE(args->values); k++)
				if (args->values[k] > arg && args->values[k] < next)
					next = args->values[k];
		}
		if (any)
			ok &= run_group(first, nr, arg, rounds, patterns, nr_patterns);
		if (next == SIZE_MAX)
			return ok;
		arg = next;
	}
}

int main(int argc, char **argv)
{
	struct rlimit files = { 1 << 20, 1 << 20 };
	int opt, rounds = 3;
	bool list = false, ok = true;

	while ((opt = getopt(argc, argv, "slr:a:")) != -1) {
		switch (opt) {
		case 's':
			smoke = true;
			break;
		case 'l':
			list = true;
			break;
		case 'r':
			rounds = atoi(optarg);
			break;
		case 'a':
			only = strtoull(optarg, NULL, 0);
			break;
		default:
			return 2;
		}
	}
	setrlimit(RLIMIT_NOFILE, &files);
	if (!list)
		printf("kernel,operation,argument,part,contender,median,least,most,samples\n");
	for (size_t i = 0, nr; i < nr_operations; i += nr) {
		const struct operation *first = &operations[i];

		for (nr = 1; i + nr < nr_operations; nr++)
			if (strcmp(first->name, first[nr].name))
				break;
		for (size_t k = 0; list && k < nr; k++)
			if (args_of(&first[k]))
				printf("%s: %s\n", first[k].name, first[k].contender);
		if (!list)
			ok &= run_args(first, nr, rounds, argv + optind, argc - optind);
	}
	return ok ? 0 : 1;
}
