// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a dump costs for each object, of few and of many: it must not grow. The
 * kernel's part, and that of recv(); nothing is parsed. Under tests/vm/run -c a
 * nanosecond is an instruction:
 *
 *	tests/vm/run -c -- dumps
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/netlink.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/machine.h"
#include "../lib/netlink.h"
#include "../lib/probe.h"

enum {
	FEW = 1000,
	MANY = 100000,
	TOLERANCE = 20, /* per cent */
	TEN = 10,
	ROUNDS = 5,
	ROOM = 32 * 1024,
};

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* All @nr objects that this process made. */
static uint64_t measure(uint8_t cmd, unsigned int nr)
{
	static char answer[ROOM] __attribute__((aligned(8)));
	struct netlink_request req;
	unsigned int seen = 0;
	bool done = false;
	uint64_t begin;
	int sock = netlink_open();

	netlink_request(&req, cmd, true);
	netlink_u32(&req, KOSDMA_A_BUFFER_PID, getpid());
	begin = nanoseconds();
	ASSERT_EQ((ssize_t)req.len, send(sock, req.data, req.len, 0));
	while (!done) {
		ssize_t len = recv(sock, answer, sizeof(answer), 0);
		struct nlmsghdr *hdr = (struct nlmsghdr *)answer;

		ASSERT_GT(len, 0);
		for (; NLMSG_OK(hdr, (uint32_t)len); hdr = NLMSG_NEXT(hdr, len)) {
			ASSERT_NE(NLMSG_ERROR, hdr->nlmsg_type);
			done = hdr->nlmsg_type == NLMSG_DONE;
			seen += !done;
		}
	}
	begin = nanoseconds() - begin;
	close(sock);
	ASSERT_EQ(nr, seen);
	return begin;
}

static void compare(const char *what, uint64_t few, uint64_t many)
{
	few /= FEW;
	many /= MANY;
	printf("%s: %llu of %d, %llu of %d\n", what, (unsigned long long)few, FEW,
	       (unsigned long long)many, MANY);
	fflush(stdout);
	EXPECT_LE(many, few + few * TOLERANCE / 100);
}

static void raise_limit(void)
{
	struct rlimit limit = { MANY + 100, MANY + 100 };

	probe_require_module();
	if (machine_max_objects() < 2 * MANY + 100 || setrlimit(RLIMIT_NOFILE, &limit))
		SKIP("needs %d objects", MANY);
}

TEST_TIMEOUT(domains_and_their_handles, 600)
{
	uint64_t domains, handles;
	int i;

	raise_limit();
	for (i = 0; i < FEW; i++)
		domain_create();
	domains = measure(KOSDMA_CMD_DOMAIN_GET, FEW);
	handles = measure(KOSDMA_CMD_HANDLE_GET, FEW);
	for (; i < MANY; i++)
		domain_create();
	compare("a domain", domains, measure(KOSDMA_CMD_DOMAIN_GET, MANY));
	compare("a handle of each", handles, measure(KOSDMA_CMD_HANDLE_GET, MANY));
	printf("an object that is passed over: %llu\n",
	       (unsigned long long)measure(KOSDMA_CMD_BUFFER_GET, 0) / MANY);
}

/* Where a dump of one object's handles stopped, the next message goes on. */
TEST_TIMEOUT(handles_of_one_buffer, 600)
{
	uint64_t few;
	Handle root;
	int i;

	raise_limit();
	root = buffer_create(0, PAGE, 0);
	for (i = 1; i < FEW; i++)
		buffer_copy(root, OCAP_DMA_READ);
	few = measure(KOSDMA_CMD_HANDLE_GET, FEW);
	for (; i < MANY; i++)
		buffer_copy(root, OCAP_DMA_READ);
	compare("a handle of one buffer", few, measure(KOSDMA_CMD_HANDLE_GET, MANY));
}

/*
 * What the only domain adds to a dump: that of mappings, of which there are none,
 * passes over the same objects. The quietest of some rounds.
 */
static uint64_t measure_domain(void)
{
	uint64_t domains = UINT64_MAX, others = UINT64_MAX;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t cost = measure(KOSDMA_CMD_DOMAIN_GET, 1);

		if (cost < domains)
			domains = cost;
		cost = measure(KOSDMA_CMD_MAPPING_GET, 0);
		if (cost < others)
			others = cost;
	}
	return domains > others ? domains - others : 0;
}

/* Nothing is done for each of its accesses: not one instruction. */
TEST_TIMEOUT(a_domain_with_accesses, 600)
{
	Handle buffer, domain;
	uint64_t few, many;
	int i;

	raise_limit();
	buffer = buffer_create(0, PAGE, 0);
	domain = domain_create();
	for (i = 0; i < TEN; i++)
		access_begin_in(buffer, domain);
	few = measure_domain();
	for (; i < MANY; i++)
		access_begin_in(buffer, domain);
	many = measure_domain();
	printf("a domain: %llu with %d accesses, %llu with %d\n", (unsigned long long)few, TEN,
	       (unsigned long long)many, MANY);
	fflush(stdout);
	EXPECT_GT(few, 0);
	EXPECT_LT(many, few + MANY);
}

TEST_HARNESS_MAIN
