// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "../harness.h"
#include "netlink.h"

enum {
	ANSWER_MAX = 64 * 1024,
	SEQ = 77,
};

int netlink_open(void)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	int on = 1;

	ASSERT_GE(sock, 0);
	ASSERT_ERRNO(0, setsockopt(sock, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)));
	ASSERT_ERRNO(0, setsockopt(sock, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)));
	ASSERT_ERRNO(0, setsockopt(sock, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)));
	return sock;
}

static void request_begin(struct netlink_request *req, uint16_t type, uint8_t cmd, uint8_t version,
			  bool dump)
{
	struct nlmsghdr *hdr = (struct nlmsghdr *)req->data;
	struct genlmsghdr *genl = NLMSG_DATA(hdr);

	memset(req, 0, sizeof(*req));
	req->len = NLMSG_LENGTH(GENL_HDRLEN);
	hdr->nlmsg_len = req->len;
	hdr->nlmsg_type = type;
	hdr->nlmsg_flags = NLM_F_REQUEST | (dump ? NLM_F_DUMP : NLM_F_ACK);
	hdr->nlmsg_seq = SEQ;
	genl->cmd = cmd;
	genl->version = version;
}

void netlink_attr(struct netlink_request *req, uint16_t type, const void *data, uint16_t len)
{
	struct nlmsghdr *hdr = (struct nlmsghdr *)req->data;
	struct nlattr *attr = (struct nlattr *)(req->data + req->len);

	ASSERT_LE(req->len + NLA_HDRLEN + NLA_ALIGN(len), sizeof(req->data));
	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + len;
	memcpy((char *)attr + NLA_HDRLEN, data, len);
	req->len += NLA_ALIGN(attr->nla_len);
	hdr->nlmsg_len = req->len;
}

void netlink_u32(struct netlink_request *req, uint16_t type, uint32_t value)
{
	netlink_attr(req, type, &value, sizeof(value));
}

static void take_attrs(const void *data, int len, struct netlink_reply *reply)
{
	const struct nlattr *attr = data;

	while (len >= NLA_HDRLEN && attr->nla_len >= NLA_HDRLEN && attr->nla_len <= len) {
		unsigned int type = attr->nla_type & NLA_TYPE_MASK;
		int size = attr->nla_len - NLA_HDRLEN;
		const char *value = (const char *)attr + NLA_HDRLEN;

		if (type < NETLINK_ATTRS_MAX) {
			reply->has[type] = true;
			memcpy(&reply->number[type], value,
			       size < 4 ? (size_t)size : 4);
			memcpy(&reply->wide[type], value, size < 8 ? (size_t)size : 8);
			if (attr->nla_type & NLA_F_NESTED && size >= NLA_HDRLEN + 4)
				reply->nested |= 1U << (*(const uint32_t *)(value + NLA_HDRLEN) &
							31);
			snprintf(reply->text[type], sizeof(reply->text[type]), "%.*s", size, value);
		}
		len -= NLA_ALIGN(attr->nla_len);
		attr = (const struct nlattr *)((const char *)attr + NLA_ALIGN(attr->nla_len));
	}
}

/* An acknowledgment, or the end of a dump: both begin with a number. */
static void take_end(const struct nlmsghdr *hdr, struct netlink_result *result)
{
	int skip = hdr->nlmsg_type == NLMSG_DONE ? (int)sizeof(int) : (int)sizeof(struct nlmsgerr);
	struct netlink_reply words = { 0 };
	struct nlmsgerr err = { 0 };

	memcpy(&err.error, NLMSG_DATA(hdr), sizeof(err.error));
	result->error = -err.error;
	if (hdr->nlmsg_type == NLMSG_ERROR && !(hdr->nlmsg_flags & NLM_F_CAPPED)) {
		memcpy(&err, NLMSG_DATA(hdr), sizeof(err));
		skip += NLMSG_ALIGN(err.msg.nlmsg_len) - NLMSG_HDRLEN;
	}
	if (hdr->nlmsg_flags & NLM_F_ACK_TLVS)
		take_attrs((const char *)NLMSG_DATA(hdr) + skip,
			   (int)NLMSG_PAYLOAD(hdr, 0) - skip, &words);
	/* Type 1 is the text; longer than other attributes of tests. */
	snprintf(result->words, sizeof(result->words), "%s", words.text[NLMSGERR_ATTR_MSG]);
}

struct netlink_result netlink_receive(int sock, netlink_reply_fn *reply, void *arg)
{
	char answer[ANSWER_MAX]; /* not static: @reply may ask for more */
	struct netlink_result result = { 0 };

	for (;;) {
		ssize_t len = recv(sock, answer, sizeof(answer), 0);
		struct nlmsghdr *hdr = (struct nlmsghdr *)answer;

		if (len < 0)
			test_failed(true, __FILE__, __LINE__, "recv: %m");
		for (; NLMSG_OK(hdr, (uint32_t)len); hdr = NLMSG_NEXT(hdr, len)) {
			struct netlink_reply one = { 0 };

			if (hdr->nlmsg_flags & NLM_F_DUMP_INTR)
				result.interrupted = true;
			if (hdr->nlmsg_type == NLMSG_ERROR || hdr->nlmsg_type == NLMSG_DONE) {
				take_end(hdr, &result);
				return result;
			}
			result.replies++;
			one.cmd = ((struct genlmsghdr *)NLMSG_DATA(hdr))->cmd;
			take_attrs((char *)NLMSG_DATA(hdr) + GENL_HDRLEN,
				   (int)NLMSG_PAYLOAD(hdr, GENL_HDRLEN), &one);
			if (reply)
				reply(&one, arg);
		}
	}
}

struct netlink_result netlink_send(int sock, const struct netlink_request *req,
				   netlink_reply_fn *reply, void *arg)
{
	if (send(sock, req->data, req->len, 0) != (ssize_t)req->len)
		test_failed(true, __FILE__, __LINE__, "send: %m");
	return netlink_receive(sock, reply, arg);
}

static void take_family(const struct netlink_reply *reply, void *arg)
{
	*(int *)arg = (uint16_t)reply->number[CTRL_ATTR_FAMILY_ID];
}

int netlink_family(int sock)
{
	struct netlink_request req;
	struct netlink_result result;
	int family = 0;

	request_begin(&req, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, false);
	netlink_attr(&req, CTRL_ATTR_FAMILY_NAME, KOSDMA_FAMILY_NAME, sizeof(KOSDMA_FAMILY_NAME));
	result = netlink_send(sock, &req, take_family, &family);
	return result.error ? -result.error : family;
}

/* The groups are a list of lists of name and number. */
static int find_group(const char *data, int len, const char *name)
{
	while (len >= NLA_HDRLEN) {
		const struct nlattr *attr = (const struct nlattr *)data;
		struct netlink_reply one = { 0 };

		take_attrs(data + NLA_HDRLEN, attr->nla_len - NLA_HDRLEN, &one);
		if (!strcmp(one.text[CTRL_ATTR_MCAST_GRP_NAME], name))
			return (int)one.number[CTRL_ATTR_MCAST_GRP_ID];
		len -= NLA_ALIGN(attr->nla_len);
		data += NLA_ALIGN(attr->nla_len);
	}
	return -ENOENT;
}

int netlink_group(int sock, const char *name)
{
	struct nlmsghdr *hdr;
	char answer[ANSWER_MAX];
	struct netlink_request req;
	struct nlattr *attr;
	ssize_t len;
	int group = -ENOENT;

	request_begin(&req, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, false);
	netlink_attr(&req, CTRL_ATTR_FAMILY_NAME, KOSDMA_FAMILY_NAME, sizeof(KOSDMA_FAMILY_NAME));
	((struct nlmsghdr *)req.data)->nlmsg_flags = NLM_F_REQUEST;
	ASSERT_EQ((ssize_t)req.len, send(sock, req.data, req.len, 0));
	len = recv(sock, answer, sizeof(answer), 0);
	ASSERT_GT(len, NLMSG_LENGTH(GENL_HDRLEN));
	hdr = (struct nlmsghdr *)answer;
	if (hdr->nlmsg_type == NLMSG_ERROR)
		return -ENOENT;
	len = (ssize_t)hdr->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);
	attr = (struct nlattr *)(answer + NLMSG_LENGTH(GENL_HDRLEN));
	while (len >= NLA_HDRLEN) {
		if ((attr->nla_type & NLA_TYPE_MASK) == CTRL_ATTR_MCAST_GROUPS)
			group = find_group((char *)attr + NLA_HDRLEN, attr->nla_len - NLA_HDRLEN,
					   name);
		len -= NLA_ALIGN(attr->nla_len);
		attr = (struct nlattr *)((char *)attr + NLA_ALIGN(attr->nla_len));
	}
	return group;
}

int netlink_join(int sock, int group)
{
	return setsockopt(sock, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) ?
		       errno : 0;
}

int netlink_event(int sock, struct netlink_reply *reply)
{
	static struct {
		char data[8192];
		ssize_t len, pos;
	} received[64];
	struct nlmsghdr *hdr;

	ASSERT_LT((size_t)sock, sizeof(received) / sizeof(received[0]));
	/* Many come in one datagram. */
	if (received[sock].pos >= received[sock].len) {
		received[sock].pos = 0;
		received[sock].len = recv(sock, received[sock].data, sizeof(received[sock].data),
					  MSG_DONTWAIT);
		if (received[sock].len < 0)
			return errno;
	}
	hdr = (struct nlmsghdr *)(received[sock].data + received[sock].pos);
	memset(reply, 0, sizeof(*reply));
	ASSERT_TRUE(NLMSG_OK(hdr, (uint32_t)(received[sock].len - received[sock].pos)));
	received[sock].pos += NLMSG_ALIGN(hdr->nlmsg_len);
	reply->cmd = ((struct genlmsghdr *)NLMSG_DATA(hdr))->cmd;
	take_attrs((char *)NLMSG_DATA(hdr) + GENL_HDRLEN, (int)NLMSG_PAYLOAD(hdr, GENL_HDRLEN),
		   reply);
	return 0;
}

void netlink_request(struct netlink_request *req, uint8_t cmd, bool dump)
{
	int sock = netlink_open();
	int family = netlink_family(sock);

	close(sock);
	ASSERT_GT(family, 0);
	request_begin(req, (uint16_t)family, cmd, KOSDMA_FAMILY_VERSION, dump);
}

int netlink_call(const struct netlink_request *req)
{
	int sock = netlink_open();
	struct netlink_result result = netlink_send(sock, req, NULL, NULL);

	close(sock);
	return result.error;
}

static void take_reply(const struct netlink_reply *reply, void *arg)
{
	*(struct netlink_reply *)arg = *reply;
}

uint32_t netlink_why(uint32_t address)
{
	struct netlink_reply reply = { 0 };
	struct netlink_request req;
	int sock = netlink_open();

	netlink_request(&req, KOSDMA_CMD_WHY_GET, false);
	netlink_u32(&req, KOSDMA_A_WHY_ADDRESS, address);
	EXPECT_EQ(0, netlink_send(sock, &req, take_reply, &reply).error);
	EXPECT_EQ(address, reply.number[KOSDMA_A_WHY_ADDRESS]);
	close(sock);
	return reply.nested;
}
