// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Begin and close cost, with nobody listening for events and with a
 * listener, who may not make it much more. Under tests/vm/run -c a nanosecond is
 * an instruction:
 *
 *	tests/vm/run -c -- events
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/netlink.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/edu.h"
#include "../lib/netlink.h"
#include "../lib/probe.h"

enum {
	ROUNDS = 10,
	BATCH = 2000, /* long enough that the work item that tells events is counted as well */
	ROOM = 8 << 20, /* for the events of a round */
	MORE = 10, /* per cent */
};

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The quickest round: the others were interrupted. */
static uint64_t measure(Handle buffer, int listener)
{
	struct netlink_reply reply;
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begin = nanoseconds(), cost;

		for (int i = 0; i < BATCH; i++)
			ASSERT_OK(KnHandleClose(access_begin(buffer)));
		cost = (nanoseconds() - begin) / BATCH;
		if (cost < best)
			best = cost;
		while (listener >= 0 && !netlink_event(listener, &reply))
			;
	}
	return best;
}

static void compare(const char *what, Handle buffer)
{
	uint64_t alone = measure(buffer, -1), listened = 0;
	int sock = netlink_open(), room = ROOM;
	int group = netlink_group(sock, "objects");

	setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (group > 0 && !netlink_join(sock, group))
		listened = measure(buffer, sock);
	close(sock);
	printf("%s: %llu, with a listener %llu\n", what, (unsigned long long)alone,
	       (unsigned long long)listened);
	fflush(stdout);
	EXPECT_GT(listened, alone);
	EXPECT_LT(listened, alone + alone * MORE / 100);
}

TEST(events)
{
	static const size_t sizes[] = { KiB(4), KiB(64), MiB(4) };
	char what[64];
	struct edu edu;

	probe_require_module();
	edu_require(&edu, 0);
	device_warm_up();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		Handle buffer = buffer_create(0, sizes[i], 0);

		snprintf(what, sizeof(what), "%zu KiB, no device", sizes[i] >> 10);
		compare(what, buffer);
		ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		snprintf(what, sizeof(what), "%zu KiB, a device", sizes[i] >> 10);
		compare(what, buffer);
		ASSERT_OK(KnIommuDetachDevice(edu.bdf));
		ASSERT_OK(KnHandleClose(buffer));
	}
}

TEST_HARNESS_MAIN
