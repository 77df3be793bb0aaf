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

/* KOSDMA_CMD_BUFFER_GET - dump */
static const struct nla_policy kosdma_buffer_get_nl_policy[KOSDMA_A_BUFFER_DEVICE + 1] = {
	[KOSDMA_A_BUFFER_PID] = { .type = NLA_U32, },
	[KOSDMA_A_BUFFER_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_MAPPING_GET - dump */
static const struct nla_policy kosdma_mapping_get_nl_policy[KOSDMA_A_MAPPING_DEVICE + 1] = {
	[KOSDMA_A_MAPPING_PID] = { .type = NLA_U32, },
	[KOSDMA_A_MAPPING_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_ACCESS_GET - dump */
static const struct nla_policy kosdma_access_get_nl_policy[KOSDMA_A_ACCESS_DEVICE + 1] = {
	[KOSDMA_A_ACCESS_PID] = { .type = NLA_U32, },
	[KOSDMA_A_ACCESS_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_DOMAIN_GET - dump */
static const struct nla_policy kosdma_domain_get_nl_policy[KOSDMA_A_DOMAIN_DEVICE + 1] = {
	[KOSDMA_A_DOMAIN_PID] = { .type = NLA_U32, },
	[KOSDMA_A_DOMAIN_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_REGION_GET - dump */
static const struct nla_policy kosdma_region_get_nl_policy[KOSDMA_A_REGION_DEVICE + 1] = {
	[KOSDMA_A_REGION_PID] = { .type = NLA_U32, },
	[KOSDMA_A_REGION_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_HANDLE_GET - dump */
static const struct nla_policy kosdma_handle_get_nl_policy[KOSDMA_A_HANDLE_DEVICE + 1] = {
	[KOSDMA_A_HANDLE_PID] = { .type = NLA_U32, },
	[KOSDMA_A_HANDLE_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_QUARANTINE_GET - dump */
static const struct nla_policy kosdma_quarantine_get_nl_policy[KOSDMA_A_QUARANTINE_DEVICE + 1] = {
	[KOSDMA_A_QUARANTINE_PID] = { .type = NLA_U32, },
	[KOSDMA_A_QUARANTINE_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_QUARANTINE_RELEASE - do */
static const struct nla_policy kosdma_quarantine_release_nl_policy[KOSDMA_A_QUARANTINE_DEVICE + 1] = {
	[KOSDMA_A_QUARANTINE_DEVICE] = { .type = NLA_U32, },
};

/* KOSDMA_CMD_WHY_GET - do */
static const struct nla_policy kosdma_why_get_nl_policy[KOSDMA_A_WHY_ADDRESS + 1] = {
	[KOSDMA_A_WHY_ADDRESS] = { .type = NLA_U32, },
};

/* Ops table for kosdma */
const struct genl_split_ops kosdma_nl_ops[16] = {
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
	{
		.cmd		= KOSDMA_CMD_BUFFER_GET,
		.start		= kosdma_nl_object_dump_start,
		.dumpit		= kosdma_nl_buffer_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_buffer_get_nl_policy,
		.maxattr	= KOSDMA_A_BUFFER_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_MAPPING_GET,
		.start		= kosdma_nl_object_dump_start,
		.dumpit		= kosdma_nl_mapping_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_mapping_get_nl_policy,
		.maxattr	= KOSDMA_A_MAPPING_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_ACCESS_GET,
		.start		= kosdma_nl_object_dump_start,
		.dumpit		= kosdma_nl_access_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_access_get_nl_policy,
		.maxattr	= KOSDMA_A_ACCESS_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_DOMAIN_GET,
		.start		= kosdma_nl_object_dump_start,
		.dumpit		= kosdma_nl_domain_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_domain_get_nl_policy,
		.maxattr	= KOSDMA_A_DOMAIN_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_REGION_GET,
		.start		= kosdma_nl_object_dump_start,
		.dumpit		= kosdma_nl_region_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_region_get_nl_policy,
		.maxattr	= KOSDMA_A_REGION_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_HANDLE_GET,
		.start		= kosdma_nl_handle_dump_start,
		.dumpit		= kosdma_nl_handle_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_handle_get_nl_policy,
		.maxattr	= KOSDMA_A_HANDLE_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_QUARANTINE_GET,
		.start		= kosdma_nl_object_dump_start,
		.dumpit		= kosdma_nl_quarantine_get_dumpit,
		.done		= kosdma_nl_dump_done,
		.policy		= kosdma_quarantine_get_nl_policy,
		.maxattr	= KOSDMA_A_QUARANTINE_DEVICE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KOSDMA_CMD_QUARANTINE_RELEASE,
		.doit		= kosdma_nl_quarantine_release_doit,
		.policy		= kosdma_quarantine_release_nl_policy,
		.maxattr	= KOSDMA_A_QUARANTINE_DEVICE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= KOSDMA_CMD_STATS_GET,
		.doit	= kosdma_nl_stats_get_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KOSDMA_CMD_WHY_GET,
		.doit		= kosdma_nl_why_get_doit,
		.policy		= kosdma_why_get_nl_policy,
		.maxattr	= KOSDMA_A_WHY_ADDRESS,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= KOSDMA_CMD_EVENT_GET,
		.start	= kosdma_nl_dump_start,
		.dumpit	= kosdma_nl_event_get_dumpit,
		.done	= kosdma_nl_dump_done,
		.flags	= GENL_CMD_CAP_DUMP,
	},
};

static const struct genl_multicast_group kosdma_nl_mcgrps[] = {
	[KOSDMA_NLGRP_OBJECTS] = { "objects", },
	[KOSDMA_NLGRP_DEVICES] = { "devices", },
	[KOSDMA_NLGRP_FAULTS] = { "faults", },
};
