// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/kosdma.yaml */
/* YNL-GEN kernel source */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "netlink-gen.h"

#include <uapi/linux/kosdma_netlink.h>

/* KOSDMA_CMD_DEVICE_GET - do */
static const struct nla_policy kosdma_device_get_nl_policy[KOSDMA_A_DEVICE_ADDRESS + 1] = {
	[KOSDMA_A_DEVICE_ADDRESS] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_GRANT_ADD - do */
static const struct nla_policy kosdma_grant_add_nl_policy[KOSDMA_A_GRANT_GID + 1] = {
	[KOSDMA_A_GRANT_ADDRESS] = { .type = NLA_U32, },
	[KOSDMA_A_GRANT_UID] = { .type = NLA_U32, },
	[KOSDMA_A_GRANT_GID] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_GRANT_DEL - do */
static const struct nla_policy kosdma_grant_del_nl_policy[KOSDMA_A_GRANT_GID + 1] = {
	[KOSDMA_A_GRANT_ADDRESS] = { .type = NLA_U32, },
	[KOSDMA_A_GRANT_UID] = { .type = NLA_U32, },
	[KOSDMA_A_GRANT_GID] = { .type = NLA_U32, },
};

/* Ops table for kosdma */
const struct genl_split_ops kosdma_nl_ops[5] = {
	{
		.cmd		= KOSDMA_CMD_DEVICE_GET,
		.doit		= kosdma_nl_device_get_doit,
		.policy		= kosdma_device_get_nl_policy,
		.maxattr	= KOSDMA_A_DEVICE_ADDRESS,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= KOSDMA_CMD_DEVICE_GET,
		.start	= kosdma_nl_dump_start,
		.dumpit	= kosdma_nl_device_get_dumpit,
		.done	= kosdma_nl_dump_done,
		.flags	= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_GRANT_ADD,
		.doit		= kosdma_nl_grant_add_doit,
		.policy		= kosdma_grant_add_nl_policy,
		.maxattr	= KOSDMA_A_GRANT_GID,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KOSDMA_CMD_GRANT_DEL,
		.doit		= kosdma_nl_grant_del_doit,
		.policy		= kosdma_grant_del_nl_policy,
		.maxattr	= KOSDMA_A_GRANT_GID,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= KOSDMA_CMD_GRANT_GET,
		.start	= kosdma_nl_dump_start,
		.dumpit	= kosdma_nl_grant_get_dumpit,
		.done	= kosdma_nl_dump_done,
		.flags	= GENL_CMD_CAP_DUMP,
	},
};
