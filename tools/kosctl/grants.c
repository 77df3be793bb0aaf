// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "kosctl.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>

static const struct nla_policy policy[KOSDMA_A_GRANT_MAX + 1] = {
	[KOSDMA_A_GRANT_ADDRESS] = { .type = NLA_U32 },
	[KOSDMA_A_GRANT_UID] = { .type = NLA_U32 },
	[KOSDMA_A_GRANT_GID] = { .type = NLA_U32 },
};

static const struct column columns[] = {
	{ "BDF", "bdf", COLUMN_STRING },
	{ "KIND", "kind", COLUMN_STRING },
	{ "ID", "id", COLUMN_NUMBER },
	{ "NAME", "name", COLUMN_STRING },
};

struct listing {
	struct table *table;
	const struct options *options;
};

static void list_reply(struct nlattr **attrs, void *arg)
{
	const struct listing *listing = arg;
	const char *name = NULL;
	struct nlattr *id;
	uint32_t address;
	bool user;

	if (!attrs) {
		table_clear(listing->table);
		return;
	}
	user = attrs[KOSDMA_A_GRANT_UID];
	id = attrs[user ? KOSDMA_A_GRANT_UID : KOSDMA_A_GRANT_GID];
	if (!attrs[KOSDMA_A_GRANT_ADDRESS] || !id)
		return;
	address = nla_get_u32(attrs[KOSDMA_A_GRANT_ADDRESS]);
	if (listing->options->present & OPTION_BDF && listing->options->bdf != address)
		return;
	if (user) {
		const struct passwd *passwd = getpwuid(nla_get_u32(id));

		name = passwd ? passwd->pw_name : NULL;
	} else {
		const struct group *group = getgrgid(nla_get_u32(id));

		name = group ? group->gr_name : NULL;
	}
	table_cell(listing->table, "%s", bdf_name(address).text);
	table_cell(listing->table, user ? "user" : "group");
	table_cell(listing->table, "%u", nla_get_u32(id));
	table_cell(listing->table, name ? "%s" : NULL, name);
}

int list_grants(const struct options *options)
{
	struct listing listing = {
		.table = table_new(columns, sizeof(columns) / sizeof(columns[0])),
		.options = options,
	};
	int ret;

	ret = request_send(request_new(KOSDMA_CMD_GRANT_GET, true), policy, KOSDMA_A_GRANT_MAX,
			   list_reply, &listing);
	if (!ret)
		table_print(listing.table, options->present & OPTION_JSON);
	return ret;
}

static int send_grant(uint8_t cmd, const struct options *options)
{
	struct nl_msg *msg = request_new(cmd, false);

	nla_put_u32(msg, KOSDMA_A_GRANT_ADDRESS, options->bdf);
	if (options->present & OPTION_USER)
		nla_put_u32(msg, KOSDMA_A_GRANT_UID, options->uid);
	if (options->present & OPTION_GROUP)
		nla_put_u32(msg, KOSDMA_A_GRANT_GID, options->gid);
	return request_send(msg, NULL, 0, NULL, NULL);
}

int grant(const struct options *options)
{
	int ret = send_grant(KOSDMA_CMD_GRANT_ADD, options);

	if (!ret)
		note_group(options->bdf, "if it is bound to kosdma, it must be granted as well");
	return ret;
}

int revoke_grant(const struct options *options)
{
	struct device device;
	int ret = send_grant(KOSDMA_CMD_GRANT_DEL, options);

	if (!ret && !device_get(options->bdf, &device) && device.state & KOSDMA_NL_DEVICE_HELD)
		complain("note: a process holds %s and keeps it; 'kosctl unbind --force' takes it away",
			 bdf_name(options->bdf).text);
	return ret;
}
