/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/kosdma.yaml */
/* YNL-GEN kernel header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _LINUX_KOSDMA_GEN_H
#define _LINUX_KOSDMA_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/kosdma_netlink.h>

/* Ops table for kosdma */
extern const struct genl_split_ops kosdma_nl_ops[16];

int kosdma_nl_dump_start(struct netlink_callback *cb);
int kosdma_nl_object_dump_start(struct netlink_callback *cb);
int kosdma_nl_handle_dump_start(struct netlink_callback *cb);
int kosdma_nl_dump_done(struct netlink_callback *cb);

int kosdma_nl_device_get_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_device_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_grant_add_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_grant_del_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_grant_get_dumpit(struct sk_buff *skb,
			       struct netlink_callback *cb);
int kosdma_nl_buffer_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_mapping_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb);
int kosdma_nl_access_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_domain_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_region_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_handle_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_quarantine_get_dumpit(struct sk_buff *skb,
				    struct netlink_callback *cb);
int kosdma_nl_quarantine_release_doit(struct sk_buff *skb,
				      struct genl_info *info);
int kosdma_nl_stats_get_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_why_get_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_event_get_dumpit(struct sk_buff *skb,
			       struct netlink_callback *cb);

enum {
	KOSDMA_NLGRP_OBJECTS,
	KOSDMA_NLGRP_DEVICES,
	KOSDMA_NLGRP_FAULTS,
};

#endif /* _LINUX_KOSDMA_GEN_H */
