/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the netlink family share. */
#ifndef KOSDMA_NETLINK_H
#define KOSDMA_NETLINK_H

#include <net/genetlink.h>

#include "kosdma.h"
#include "netlink-gen.h"

/**
 * struct kosdma_viewer - who asks, and what it may see
 * @cred: its credentials, with a reference; NULL if it may only see what
 *	anybody may
 * @admin: it may see everything
 * @pids: it is in the initial PID namespace, where the numbers mean something
 * @raw: it may see physical addresses
 */
struct kosdma_viewer {
	const struct cred *cred;
	bool admin;
	bool pids;
	bool raw;
};

bool kosdma_viewer_owns(const struct kosdma_viewer *viewer, kuid_t uid);

/**
 * struct kosdma_dump - a dump in progress, in the context of its callback
 * @viewer: for whom
 * @cursor: handles: where the walk is; else NULL
 * @grant: grants: the last one that was looked at
 * @index: devices: how many were looked at
 * @number: events: the last one
 * @sid: objects: the last one that was looked at
 * @pid: objects: only those that this one made, or 0
 * @domain: objects: only what is in or seen from this domain, if @address
 * @address: objects: only those that this function reaches, or
 *	KOSDMA_NO_ADDRESS
 */
struct kosdma_dump {
	struct kosdma_viewer viewer;
	struct kosdma_handle *cursor;
	union {
		struct kosdma_grant_key grant;
		unsigned int index;
		u64 number;
		struct {
			u32 sid;
			u32 pid;
			u32 domain;
			u32 address;
		};
	};
};

static_assert(sizeof(struct kosdma_dump) <= sizeof_field(struct netlink_callback, ctx));

static inline struct kosdma_dump *kosdma_dump(struct netlink_callback *cb)
{
	return (struct kosdma_dump *)cb->ctx;
}

void *kosdma_dump_put(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd);
int kosdma_put_owner(struct sk_buff *skb, const struct kosdma_viewer *viewer, int pid_attr,
		     pid_t pid, int uid_attr, kuid_t uid);
int kosdma_event_fill(struct sk_buff *skb, const struct kosdma_event *event);

/**
 * struct kosdma_object_event - something happened to an object
 * @time: ns since boot
 * @sid: the object
 * @pid: thread group that made it
 * @uid: its effective user
 * @kind: an enum kosdma_nl_event
 * @type: type of the object
 */
struct kosdma_object_event {
	u64 time;
	u32 sid;
	pid_t pid;
	kuid_t uid;
	u8 kind;
	u8 type;
};

/* --- for event.c ------------------------------------------------------------ */

extern struct genl_family kosdma_nl_family;

/* The family is there. Groups of one that is not have numbers that may be those of others. */
extern bool kosdma_nl_on;

static inline bool kosdma_netlink_listens(unsigned int group)
{
	return READ_ONCE(kosdma_nl_on) && genl_has_listeners(&kosdma_nl_family, &init_net, group);
}

void kosdma_event_object_tell(u32 kind, struct kosdma_object *obj);

/**
 * kosdma_event_object() - something happened to an object
 * @kind: an enum kosdma_nl_event
 * @obj: object
 */
static inline void kosdma_event_object(u32 kind, struct kosdma_object *obj)
{
	if (unlikely(kosdma_netlink_listens(KOSDMA_NLGRP_OBJECTS)))
		kosdma_event_object_tell(kind, obj);
}

/**
 * struct kosdma_message - events on their way to one group, zeroed at first
 * @skb: as many as fit, or NULL
 * @group: for which
 */
struct kosdma_message {
	struct sk_buff *skb;
	unsigned int group;
};

void kosdma_netlink_tell(struct kosdma_message *message, const struct kosdma_event *event);
void kosdma_netlink_tell_object(struct kosdma_message *message,
				const struct kosdma_object_event *event);
void kosdma_netlink_flush(struct kosdma_message *message);
void kosdma_netlink_lost(bool objects);

#endif /* KOSDMA_NETLINK_H */
