// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Begin and close of an access cost. In a guest that counts instructions
 * (tests/vm/run -c) a nanosecond is one:
 *
 *	tests/vm/run -c -- begin [ROUNDS [EVENTS]]
 *
 * EVENTS is what to write to events/kosdma/enable of tracefs before: 1 or 0.
 * Prints the least and the median of each: of Begin, of close, of a refused
 * call, and of asking for the time, which is part of the others.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "../lib/edu.h"

enum { BEGIN, CLOSE, REFUSED, CLOCK, KINDS };

static const char *const names[KINDS] = { "begin", "close", "refused", "clock" };

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000;
	int dev = open("/dev/kosdma", O_RDWR | O_CLOEXEC);
	struct kosdma_buffer_create create = {
		.size = sizeof(create),
		.length = 16 << 12,
		.order = 4,
	};
	uint64_t *times[KINDS];
	struct edu edu;

	if (dev < 0 || rounds < 1 || ioctl(dev, KOSDMA_BUFFER_CREATE, &create)) {
		perror("begin");
		return 1;
	}
	if (argc > 2) {
		int fd = open("/sys/kernel/tracing/events/kosdma/enable",
			      O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, argv[2], strlen(argv[2])) < 0)
			perror("events");
		close(fd);
	}
	if (edu_find(&edu, 0) && KnIommuAttachDevice(edu.bdf) != rcOk)
		fprintf(stderr, "begin: without a device\n");
	for (int i = 0; i < KINDS; i++)
		times[i] = calloc(rounds, sizeof(*times[i]));

	for (int i = 0; i < rounds; i++) {
		struct kosdma_access_begin begin = {
			.size = sizeof(begin),
			.handle = create.out_handle,
			.domain = KOSDMA_NO_HANDLE,
		};
		struct kosdma_handle_close end = { .size = sizeof(end) };
		struct kosdma_handle_close bad = {
			.size = sizeof(bad),
			.handle = -1,
		};
		uint64_t t0 = now(), t1, t2, t3, t4;

		if (ioctl(dev, KOSDMA_ACCESS_BEGIN, &begin)) {
			perror("begin");
			return 1;
		}
		t1 = now();
		end.handle = begin.out_handle;
		if (ioctl(dev, KOSDMA_HANDLE_CLOSE, &end)) {
			perror("close");
			return 1;
		}
		t2 = now();
		if (!ioctl(dev, KOSDMA_HANDLE_CLOSE, &bad))
			return 1;
		t3 = now();
		t4 = now();
		times[BEGIN][i] = t1 - t0;
		times[CLOSE][i] = t2 - t1;
		times[REFUSED][i] = t3 - t2;
		times[CLOCK][i] = t4 - t3;
	}
	for (int i = 0; i < KINDS; i++) {
		qsort(times[i], rounds, sizeof(*times[i]), compare);
		printf("%-8s least %8llu  median %8llu\n", names[i],
		       (unsigned long long)times[i][0],
		       (unsigned long long)times[i][rounds / 2]);
	}
	return 0;
}
