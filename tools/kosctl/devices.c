// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "kosctl.h"

#include <stdio.h>
#include <string.h>

static const struct nla_policy policy[KOSDMA_A_DEVICE_MAX + 1] = {
	[KOSDMA_A_DEVICE_ADDRESS] = { .type = NLA_U32 },
	[KOSDMA_A_DEVICE_STATE] = { .type = NLA_U32 },
	[KOSDMA_A_DEVICE_DRIVER] = { .type = NLA_NUL_STRING },
	[KOSDMA_A_DEVICE_IOMMU_GROUP] = { .type = NLA_U32 },
	[KOSDMA_A_DEVICE_OWNER_PID] = { .type = NLA_U32 },
	[KOSDMA_A_DEVICE_OWNER_UID] = { .type = NLA_U32 },
};

static const struct {
	uint32_t bit;
	const char *word;
} states[] = {
	{ KOSDMA_NL_DEVICE_BOUND, "bound" },
	{ KOSDMA_NL_DEVICE_HELD, "held" },
	{ KOSDMA_NL_DEVICE_ATTACHED, "attached" },
	{ KOSDMA_NL_DEVICE_TRANSLATED, "translated" },
	{ KOSDMA_NL_DEVICE_GRANTED, "granted" },
};

static const struct column columns[] = {
	{ "BDF", "bdf", COLUMN_STRING },	{ "DRIVER", "driver", COLUMN_STRING },
	{ "GROUP", "iommu_group", COLUMN_NUMBER }, { "PID", "owner_pid", COLUMN_NUMBER },
	{ "UID", "owner_uid", COLUMN_NUMBER },	{ "STATE", "state", COLUMN_WORDS },
};

static bool take_number(struct nlattr *attr, uint32_t *number)
{
	if (attr)
		*number = nla_get_u32(attr);
	return attr;
}

static void take_device(struct nlattr **attrs, struct device *device)
{
	*device = (struct device){ 0 };
	device->known = take_number(attrs[KOSDMA_A_DEVICE_ADDRESS], &device->address);
	take_number(attrs[KOSDMA_A_DEVICE_STATE], &device->state);
	if (attrs[KOSDMA_A_DEVICE_DRIVER])
		nla_strlcpy(device->driver, attrs[KOSDMA_A_DEVICE_DRIVER], sizeof(device->driver));
	device->has_group = take_number(attrs[KOSDMA_A_DEVICE_IOMMU_GROUP], &device->group);
	device->has_pid = take_number(attrs[KOSDMA_A_DEVICE_OWNER_PID], &device->pid);
	device->has_uid = take_number(attrs[KOSDMA_A_DEVICE_OWNER_UID], &device->uid);
}

static void number_cell(struct table *table, bool known, uint32_t number)
{
	table_cell(table, known ? "%u" : NULL, number);
}

static void add_device(struct table *table, const struct device *device)
{
	char words[128] = "";
	size_t i;

	if (!device->known)
		return;
	for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (device->state & states[i].bit) {
			strcat(words, words[0] ? "," : "");
			strcat(words, states[i].word);
		}
	}
	table_cell(table, "%s", bdf_name(device->address).text);
	table_cell(table, device->driver[0] ? "%s" : NULL, device->driver);
	number_cell(table, device->has_group, device->group);
	number_cell(table, device->has_pid, device->pid);
	number_cell(table, device->has_uid, device->uid);
	table_cell(table, "%s", words);
}

static void list_reply(struct nlattr **attrs, void *arg)
{
	struct device device;

	if (!attrs) {
		table_clear(arg);
		return;
	}
	take_device(attrs, &device);
	add_device(arg, &device);
}

static void get_reply(struct nlattr **attrs, void *arg)
{
	if (attrs)
		take_device(attrs, arg);
}

int device_get(uint32_t address, struct device *device)
{
	struct nl_msg *msg = request_new(KOSDMA_CMD_DEVICE_GET, false);

	device->known = false;
	nla_put_u32(msg, KOSDMA_A_DEVICE_ADDRESS, address);
	return request_send(msg, policy, KOSDMA_A_DEVICE_MAX, get_reply, device);
}

int list_devices(const struct options *options)
{
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	struct device device;
	int ret;

	if (options->present & OPTION_BDF) {
		ret = device_get(options->bdf, &device);
		if (!ret)
			add_device(table, &device);
	} else {
		ret = request_send(request_new(KOSDMA_CMD_DEVICE_GET, true), policy,
				   KOSDMA_A_DEVICE_MAX, list_reply, table);
		/* They come as they were found. */
		table_sort(table);
	}
	if (!ret)
		table_print(table, options->present & OPTION_JSON);
	return ret;
}

struct siblings {
	const struct device *device;
	const char *what;
};

static void sibling_reply(struct nlattr **attrs, void *arg)
{
	const struct siblings *siblings = arg;
	struct device other;

	if (!attrs)
		return;
	take_device(attrs, &other);
	if (other.known && other.has_group && other.group == siblings->device->group &&
	    other.address != siblings->device->address)
		complain("note: %s is in the same IOMMU group: %s", bdf_name(other.address).text,
			 siblings->what);
}

void note_group(uint32_t address, const char *what)
{
	struct device device;
	struct siblings siblings = { &device, what };

	if (!device_get(address, &device) && device.has_group)
		request_send(request_new(KOSDMA_CMD_DEVICE_GET, true), policy, KOSDMA_A_DEVICE_MAX,
			     sibling_reply, &siblings);
}
