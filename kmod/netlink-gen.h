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
extern const struct genl_split_ops kosdma_nl_ops[5];

int kosdma_nl_dump_start(struct netlink_callback *cb);
int kosdma_nl_dump_done(struct netlink_callback *cb);

int kosdma_nl_device_get_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_device_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int kosdma_nl_grant_add_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_grant_del_doit(struct sk_buff *skb, struct genl_info *info);
int kosdma_nl_grant_get_dumpit(struct sk_buff *skb,
			       struct netlink_callback *cb);

#endif /* _LINUX_KOSDMA_GEN_H */
