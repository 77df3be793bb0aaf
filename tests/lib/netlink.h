/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests to the generic netlink family of kosdma, by hand: tests send what
 * no library would.
 */
#ifndef TESTS_LIB_NETLINK_H
#define TESTS_LIB_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kosdma_netlink.h>

enum {
	NETLINK_ATTRS_MAX = 20,
};

struct netlink_request {
	uint32_t len;
	uint8_t data[512];
};

/* One message of an answer; numbers by the type of the attribute. */
struct netlink_reply {
	uint8_t cmd;
	bool has[NETLINK_ATTRS_MAX];
	uint32_t number[NETLINK_ATTRS_MAX]; /* the low half of a u64 */
	uint64_t wide[NETLINK_ATTRS_MAX];
	char text[NETLINK_ATTRS_MAX][64];
	uint32_t nested; /* bits by the number that each nested attribute begins with */
};

/* How it ended. */
struct netlink_result {
	int error; /* 0 or an errno */
	char words[256]; /* of the extended acknowledgment */
	int replies;
	bool interrupted; /* the dump is not consistent */
};

typedef void netlink_reply_fn(const struct netlink_reply *reply, void *arg);

/* A socket with extended acknowledgments and strict checks. */
int netlink_open(void);

/* The family's number, or minus an errno. */
int netlink_family(int sock);

/* The number of one of its multicast groups, or minus an errno. */
int netlink_group(int sock, const char *name);

/* Join that group; returns 0 or an errno. */
int netlink_join(int sock, int group);

/* The next message of the socket's groups. Returns 0 or an errno; EAGAIN: there is none. */
int netlink_event(int sock, struct netlink_reply *reply);

/* A request of the family, asked for at a socket of its own. */
void netlink_request(struct netlink_request *req, uint8_t cmd, bool dump);
void netlink_attr(struct netlink_request *req, uint16_t type, const void *data, uint16_t len);
void netlink_u32(struct netlink_request *req, uint16_t type, uint32_t value);

/* Send it as it is, and receive to the end of the answer. */
struct netlink_result netlink_send(int sock, const struct netlink_request *req,
				   netlink_reply_fn *reply, void *arg);

/* Only receive, for a request that was sent by hand. */
struct netlink_result netlink_receive(int sock, netlink_reply_fn *reply, void *arg);

/* The same at a socket opened for it; returns 0 or an errno. */
int netlink_call(const struct netlink_request *req);

/* What keeps the caller from attaching the function: bits of enum kosdma_nl_obstacle. */
uint32_t netlink_why(uint32_t address);

#endif /* TESTS_LIB_NETLINK_H */
