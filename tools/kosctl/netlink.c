// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "kosctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/netlink.h>
#include <netlink/cache.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/family.h>
#include <netlink/msg.h>

enum {
	DUMP_TRIES = 10, /* a dump that the kernel calls inconsistent is read again */
	MAX_ATTRS = 63,
	RECEIVE_ROOM = 64 * 1024,
	EVENTS_ROOM = 8 * 1024 * 1024,
};

struct exchange {
	const struct nla_policy *policy;
	int maxattr;
	reply_fn *reply;
	void *arg;
	bool done;
	int error; /* errno of the kernel's refusal */
	char text[256]; /* and its words */
};

static struct nl_sock *sock;
static int family;
static struct nlmsghdr *message;

struct nlmsghdr *reply_message(void)
{
	return message;
}

/* Connect, once. Returns 0 or an exit status, having complained. */
static int connect_family(void)
{
	struct nl_cache *families;
	struct genl_family *kosdma;
	int on = 1, ret;

	if (sock)
		return 0;
	sock = nl_socket_alloc();
	if (!sock || genl_connect(sock)) {
		complain("cannot open a netlink socket: %m");
		return EXIT_REFUSED;
	}
	ret = genl_ctrl_alloc_cache(sock, &families);
	if (ret) {
		complain("netlink: %s", nl_geterror(ret));
		return EXIT_REFUSED;
	}
	kosdma = genl_ctrl_search_by_name(families, KOSDMA_FAMILY_NAME);
	if (kosdma) {
		family = (int)genl_family_get_id(kosdma);
		genl_family_put(kosdma);
	}
	nl_cache_free(families);
	if (!kosdma) {
		complain("kosdma is not loaded, or this is not the initial network namespace");
		nl_socket_free(sock);
		sock = NULL;
		return EXIT_NO_MODULE;
	}
	/* Old kernels lack these; refusals are then told by their errno only. */
	setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	/* The kernel fills its messages as far as the reader has room. */
	nl_socket_set_msg_buf_size(sock, RECEIVE_ROOM);
	return 0;
}

struct nl_msg *request_new(uint8_t cmd, bool dump)
{
	struct nl_msg *msg = nlmsg_alloc();
	int ret = connect_family();

	if (ret) {
		nlmsg_free(msg);
		exit(ret);
	}
	if (!msg || !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0,
				 dump ? NLM_F_DUMP : NLM_F_ACK, cmd, KOSDMA_FAMILY_VERSION)) {
		complain("out of memory");
		exit(EXIT_REFUSED);
	}
	return msg;
}

/* The words of an extended acknowledgment, whose attributes begin at @data. */
static void take_words(struct exchange *exchange, void *data, int len)
{
	struct nlattr *attrs[NLMSGERR_ATTR_MAX + 1];

	if (!nla_parse(attrs, NLMSGERR_ATTR_MAX, data, len, NULL) && attrs[NLMSGERR_ATTR_MSG])
		nla_strlcpy(exchange->text, attrs[NLMSGERR_ATTR_MSG], sizeof(exchange->text));
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *err, void *arg)
{
	struct nlmsghdr *hdr = (struct nlmsghdr *)((char *)err - NLMSG_HDRLEN);
	struct exchange *exchange = arg;
	int skip = sizeof(*err);

	(void)from;
	exchange->done = true;
	exchange->error = -err->error;
	if (!(hdr->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(err->msg.nlmsg_len) - NLMSG_HDRLEN;
	if (hdr->nlmsg_flags & NLM_F_ACK_TLVS && nlmsg_datalen(hdr) > skip)
		take_words(exchange, (char *)nlmsg_data(hdr) + skip, nlmsg_datalen(hdr) - skip);
	return NL_STOP;
}

/* A dump ends with a number that says whether it failed. */
static int on_finish(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	struct exchange *exchange = arg;
	int error;

	exchange->done = true;
	if (nlmsg_datalen(hdr) < (int)sizeof(error))
		return NL_OK;
	memcpy(&error, nlmsg_data(hdr), sizeof(error));
	if (error < 0) {
		exchange->error = -error;
		if (hdr->nlmsg_flags & NLM_F_ACK_TLVS)
			take_words(exchange, (char *)nlmsg_data(hdr) + sizeof(error),
				   nlmsg_datalen(hdr) - (int)sizeof(error));
	}
	return NL_OK;
}

static int on_ack(struct nl_msg *msg, void *arg)
{
	struct exchange *exchange = arg;

	(void)msg;
	exchange->done = true;
	return NL_STOP;
}

static int on_valid(struct nl_msg *msg, void *arg)
{
	struct nlattr *attrs[MAX_ATTRS + 1];
	struct exchange *exchange = arg;

	message = nlmsg_hdr(msg);
	if (exchange->reply && !genlmsg_parse(nlmsg_hdr(msg), 0, attrs, exchange->maxattr,
					      (struct nla_policy *)exchange->policy))
		exchange->reply(attrs, exchange->arg);
	return NL_OK;
}

/* Send, and receive until the end or the acknowledgment. Returns a code of libnl. */
static int exchange_once(struct nl_msg *msg, struct nl_cb *cb, struct exchange *exchange)
{
	int ret;

	nlmsg_hdr(msg)->nlmsg_seq = NL_AUTO_SEQ;
	exchange->done = false;
	ret = nl_send_auto(sock, msg);
	while (ret >= 0 && !exchange->done)
		ret = nl_recvmsgs(sock, cb);
	return ret;
}

int request_send(struct nl_msg *msg, const struct nla_policy *policy, int maxattr, reply_fn *reply,
		 void *arg)
{
	struct exchange exchange = {
		.policy = policy, .maxattr = maxattr, .reply = reply, .arg = arg,
	};
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int ret, tries = 0;

	if (!cb || maxattr > MAX_ATTRS) {
		complain("out of memory");
		exit(EXIT_REFUSED);
	}
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_finish, &exchange);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, &exchange);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, &exchange);
	do {
		if (tries && reply)
			reply(NULL, arg);
		ret = exchange_once(msg, cb, &exchange);
	} while (ret == -NLE_DUMP_INTR && ++tries < DUMP_TRIES);
	nl_cb_put(cb);
	nlmsg_free(msg);

	if (exchange.error && exchange.text[0])
		complain("%s (%s)", exchange.text, strerror(exchange.error));
	else if (exchange.error)
		complain("%s", strerror(exchange.error));
	else if (ret == -NLE_DUMP_INTR)
		complain("note: it changes faster than it can be read");
	else if (ret < 0)
		complain("netlink: %s", nl_geterror(ret));
	/* Of a dump that was overtaken, each that was there all the time is there once. */
	return exchange.error || (ret < 0 && ret != -NLE_DUMP_INTR) ? EXIT_REFUSED : 0;
}

static int no_sequence(struct nl_msg *msg, void *arg)
{
	(void)msg;
	(void)arg;
	return NL_OK;
}

/* A socket of its own, on which nothing is asked: an event would be taken for the answer. */
static struct nl_sock *open_events(void)
{
	static const char *const groups[] = { "objects", "devices", "faults" };
	struct nl_sock *events = nl_socket_alloc();
	int group, ret = 0, room = EVENTS_ROOM;
	size_t i;

	if (!events || genl_connect(events)) {
		complain("cannot open a netlink socket: %m");
		return NULL;
	}
	for (i = 0; i < sizeof(groups) / sizeof(groups[0]) && ret >= 0; i++) {
		group = genl_ctrl_resolve_grp(sock, KOSDMA_FAMILY_NAME, groups[i]);
		ret = group < 0 ? group : nl_socket_add_membership(events, group);
	}
	if (ret < 0) {
		complain("events are for CAP_SYS_ADMIN in the initial user namespace (%s)",
			 nl_geterror(ret));
		nl_socket_free(events);
		return NULL;
	}
	nl_socket_set_msg_buf_size(events, RECEIVE_ROOM);
	/* As much as one gets: events come in bursts. */
	if (setsockopt(nl_socket_get_fd(events), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(nl_socket_get_fd(events), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	return events;
}

int listen_events(const struct nla_policy *policy, int maxattr, reply_fn *event,
		  int (*ready)(void *arg), void (*lost)(void *arg), void *arg)
{
	struct exchange exchange = {
		.policy = policy, .maxattr = maxattr, .reply = event, .arg = arg,
	};
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	struct nl_sock *events;
	int ret = connect_family();

	if (ret)
		return ret;
	events = open_events();
	if (!cb || !events)
		return EXIT_REFUSED;
	ret = ready(arg);
	if (ret)
		return ret;
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
	nl_cb_set(cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, no_sequence, NULL);
	for (;;) {
		ret = nl_recvmsgs(events, cb);
		/* The socket had no room: libnl's word for ENOBUFS. */
		if (ret == -NLE_NOMEM)
			lost(arg);
		else if (ret < 0 && ret != -NLE_INTR)
			break;
	}
	complain("netlink: %s", nl_geterror(ret));
	return EXIT_REFUSED;
}
