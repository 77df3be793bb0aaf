// SPDX-License-Identifier: MIT
/*
 * Objects: lists of them, and pages in quarantine
 *
 * Each noun is a row of a table: the operation that dumps it, and its columns,
 * each of which knows the attribute that it shows and how.
 */
#define _GNU_SOURCE
#include "kosctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kosdma.h>

struct word {
	uint32_t value;
	const char *word;
};

static const struct word attrs_known[] = {
	{ KOSDMA_ATTR_TO_DEVICE, "to-device" },
	{ KOSDMA_ATTR_FROM_DEVICE, "from-device" },
	{ KOSDMA_ATTR_ZONE_DMA32, "dma32" },
	{ KOSDMA_ATTR_WRITE_BACK, "write-back" },
	{ KOSDMA_ATTR_WRITE_THROUGH, "write-through" },
	{ KOSDMA_ATTR_CACHE_DISABLE, "uncached" },
	{ KOSDMA_ATTR_WRITE_COMBINE, "write-combining" },
	{ 0 },
};

static const struct word maps_known[] = {
	{ KOSDMA_MAP_READ, "read" },
	{ KOSDMA_MAP_WRITE, "write" },
	{ KOSDMA_MAP_LOW_GUARD, "low-guard" },
	{ KOSDMA_MAP_HIGH_GUARD, "high-guard" },
	{ KOSDMA_MAP_IO, "io" },
	{ 0 },
};

static const struct word shares_known[] = {
	{ KOSDMA_REGION_K_SHARED, "kernel-shared" },
	{ KOSDMA_REGION_U_SHARED, "user-shared" },
	{ 0 },
};

static const struct word buffer_rights[] = {
	{ KOSDMA_RIGHT_TRANSFER, "transfer" }, { KOSDMA_RIGHT_COPY, "copy" },
	{ KOSDMA_RIGHT_GET_SID, "get-sid" },   { KOSDMA_RIGHT_DMA_READ, "read" },
	{ KOSDMA_RIGHT_DMA_WRITE, "write" },   { KOSDMA_RIGHT_DMA_BEGIN, "begin" },
	{ KOSDMA_RIGHT_DMA_MODIFY, "modify" }, { KOSDMA_RIGHT_DMA_IO, "io" },
	{ 0 },
};

static const struct word types_known[] = {
	{ KOSDMA_HANDLE_BUFFER, "buffer" }, { KOSDMA_HANDLE_MAPPING, "mapping" },
	{ KOSDMA_HANDLE_ACCESS, "access" }, { KOSDMA_HANDLE_DOMAIN, "domain" },
	{ KOSDMA_HANDLE_REGION, "region" }, { KOSDMA_HANDLE_BADGE, "badge" },
	{ 0 },
};

/* From the number that an enum begins with. */
static const char *const states_known[] = { "live",	 "ended",	"revoked",
					    "lingering", "quarantined", "closed" };
static const char *const modes_known[] = { "none", "translated", "direct" };

#define NR(a) (sizeof(a) / sizeof((a)[0]))

static const char *words_of(const struct word *known, uint32_t bits)
{
	static char text[160];

	text[0] = '\0';
	for (; known->word; known++) {
		if (bits & known->value) {
			strcat(text, text[0] ? "," : "");
			strcat(text, known->word);
		}
	}
	return text;
}

const char *attr_words(uint32_t attr)
{
	return words_of(attrs_known, attr);
}

const char *map_words(uint32_t flags)
{
	return words_of(maps_known, flags);
}

const char *mode_word(uint32_t mode)
{
	return mode < NR(modes_known) ? modes_known[mode] : "unknown";
}

const char *state_word(uint32_t state)
{
	return state < NR(states_known) ? states_known[state] : "unknown";
}

const char *type_word(uint32_t type)
{
	const struct word *known;

	for (known = types_known; known->word; known++)
		if (known->value == type)
			return known->word;
	return "unknown";
}

/* ---- columns ---- */

enum show {
	SHOW_U32,
	SHOW_U64,
	SHOW_HEX, /* u64; a string in JSON, whose numbers are too small for it */
	SHOW_BDF,
	SHOW_MEMBERS, /* addresses of devices, as often as they come */
	SHOW_FLAG,
	SHOW_STATE,
	SHOW_MODE,
	SHOW_TYPE,
	SHOW_ATTR,
	SHOW_MAP,
	SHOW_SHARES,
	SHOW_RIGHTS,
};

struct field {
	enum show show;
	int attr;
};

#define FIELDS_MAX 13

struct noun_row {
	uint8_t cmd;
	int maxattr;
	int nr;
	struct column columns[FIELDS_MAX];
	struct field fields[FIELDS_MAX];
};

#define N COLUMN_NUMBER
#define S COLUMN_STRING
#define W COLUMN_WORDS
#define A(noun, name) KOSDMA_A_##noun##_##name

static const struct noun_row nouns[NR_NOUNS] = {
	[NOUN_BUFFERS] = {
		KOSDMA_CMD_BUFFER_GET, KOSDMA_A_BUFFER_MAX, 10,
		{ { "SID", "sid", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "STATE", "state", S }, { "BYTES", "length", N }, { "PAGES", "pages", N },
		  { "BLOCKS", "blocks", N }, { "ORDER", "order", N }, { "USERS", "users", N },
		  { "ATTRIBUTES", "attributes", W } },
		{ { SHOW_U32, A(BUFFER, SID) }, { SHOW_U32, A(BUFFER, PID) },
		  { SHOW_U32, A(BUFFER, UID) }, { SHOW_STATE, A(BUFFER, STATE) },
		  { SHOW_U64, A(BUFFER, LENGTH) }, { SHOW_U64, A(BUFFER, PAGES) },
		  { SHOW_U32, A(BUFFER, BLOCKS) }, { SHOW_U32, A(BUFFER, ORDER) },
		  { SHOW_U32, A(BUFFER, USERS) }, { SHOW_ATTR, A(BUFFER, ATTR) } },
	},
	[NOUN_MAPPINGS] = {
		KOSDMA_CMD_MAPPING_GET, KOSDMA_A_MAPPING_MAX, 11,
		{ { "SID", "sid", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "STATE", "state", S }, { "OF", "source_type", S }, { "SOURCE", "source", N },
		  { "ADDRESS", "address", S }, { "OFFSET", "offset", N },
		  { "BYTES", "length", N }, { "FLAGS", "flags", W }, { "CACHE", "cache", S } },
		{ { SHOW_U32, A(MAPPING, SID) }, { SHOW_U32, A(MAPPING, PID) },
		  { SHOW_U32, A(MAPPING, UID) }, { SHOW_STATE, A(MAPPING, STATE) },
		  { SHOW_TYPE, A(MAPPING, SOURCE_TYPE) }, { SHOW_U32, A(MAPPING, SOURCE) },
		  { SHOW_HEX, A(MAPPING, ADDRESS) }, { SHOW_U64, A(MAPPING, OFFSET) },
		  { SHOW_U64, A(MAPPING, LENGTH) }, { SHOW_MAP, A(MAPPING, FLAGS) },
		  { SHOW_ATTR, A(MAPPING, CACHE) } },
	},
	[NOUN_ACCESSES] = {
		KOSDMA_CMD_ACCESS_GET, KOSDMA_A_ACCESS_MAX, 10,
		{ { "SID", "sid", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "STATE", "state", S }, { "BUFFER", "buffer", N }, { "DOMAIN", "domain", N },
		  { "MODE", "mode", S }, { "ADDRESS", "address", S }, { "BYTES", "length", N },
		  { "DIRECTIONS", "directions", W } },
		{ { SHOW_U32, A(ACCESS, SID) }, { SHOW_U32, A(ACCESS, PID) },
		  { SHOW_U32, A(ACCESS, UID) }, { SHOW_STATE, A(ACCESS, STATE) },
		  { SHOW_U32, A(ACCESS, BUFFER) }, { SHOW_U32, A(ACCESS, DOMAIN) },
		  { SHOW_MODE, A(ACCESS, MODE) }, { SHOW_HEX, A(ACCESS, IOVA) },
		  { SHOW_U64, A(ACCESS, LENGTH) }, { SHOW_ATTR, A(ACCESS, ATTR) } },
	},
	[NOUN_DOMAINS] = {
		KOSDMA_CMD_DOMAIN_GET, KOSDMA_A_DOMAIN_MAX, 12,
		{ { "SID", "sid", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "STATE", "state", S }, { "MODE", "mode", S }, { "AUTOMATIC", "automatic", N },
		  { "ACCESSES", "accesses", N }, { "PLACED", "placed", N },
		  { "IOVA", "iova_bytes", N }, { "LINGERING", "lingering_pages", N },
		  { "FAULTS", "faults", N }, { "DEVICES", "devices", W } },
		{ { SHOW_U32, A(DOMAIN, SID) }, { SHOW_U32, A(DOMAIN, PID) },
		  { SHOW_U32, A(DOMAIN, UID) }, { SHOW_STATE, A(DOMAIN, STATE) },
		  { SHOW_MODE, A(DOMAIN, MODE) }, { SHOW_FLAG, A(DOMAIN, AUTOMATIC) },
		  { SHOW_U32, A(DOMAIN, ACCESSES) }, { SHOW_U32, A(DOMAIN, PLACED) },
		  { SHOW_U64, A(DOMAIN, IOVA_BYTES) }, { SHOW_U64, A(DOMAIN, LINGERING) },
		  { SHOW_U64, A(DOMAIN, FAULTS) }, { SHOW_MEMBERS, A(DOMAIN, MEMBER) } },
	},
	[NOUN_REGIONS] = {
		KOSDMA_CMD_REGION_GET, KOSDMA_A_REGION_MAX, 9,
		{ { "SID", "sid", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "STATE", "state", S }, { "BDF", "bdf", S }, { "ADDRESS", "address", S },
		  { "BYTES", "length", N }, { "MAPPING", "mapping", N }, { "FLAGS", "flags", W } },
		{ { SHOW_U32, A(REGION, SID) }, { SHOW_U32, A(REGION, PID) },
		  { SHOW_U32, A(REGION, UID) }, { SHOW_STATE, A(REGION, STATE) },
		  { SHOW_BDF, A(REGION, DEVICE) }, { SHOW_HEX, A(REGION, ADDRESS) },
		  { SHOW_U64, A(REGION, LENGTH) }, { SHOW_U32, A(REGION, MAPPING) },
		  { SHOW_SHARES, A(REGION, FLAGS) } },
	},
	[NOUN_HANDLES] = {
		KOSDMA_CMD_HANDLE_GET, KOSDMA_A_HANDLE_MAX, 10,
		{ { "SID", "sid", N }, { "TYPE", "type", S }, { "NUMBER", "number", N },
		  { "PARENT", "parent", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "STATE", "state", S }, { "USES", "uses", N }, { "BADGE", "badge", N },
		  { "RIGHTS", "rights", W } },
		{ { SHOW_U32, A(HANDLE, SID) }, { SHOW_TYPE, A(HANDLE, TYPE) },
		  { SHOW_U32, A(HANDLE, NUMBER) }, { SHOW_U32, A(HANDLE, PARENT) },
		  { SHOW_U32, A(HANDLE, PID) }, { SHOW_U32, A(HANDLE, UID) },
		  { SHOW_STATE, A(HANDLE, STATE) }, { SHOW_U32, A(HANDLE, USES) },
		  { SHOW_U32, A(HANDLE, BADGE) }, { SHOW_RIGHTS, A(HANDLE, RIGHTS) } },
	},
	[NOUN_QUARANTINE] = {
		KOSDMA_CMD_QUARANTINE_GET, KOSDMA_A_QUARANTINE_MAX, 6,
		{ { "SID", "sid", N }, { "PID", "pid", N }, { "UID", "uid", N },
		  { "BUFFER", "buffer", N }, { "PAGES", "pages", N }, { "BDF", "bdf", S } },
		{ { SHOW_U32, A(QUARANTINE, SID) }, { SHOW_U32, A(QUARANTINE, PID) },
		  { SHOW_U32, A(QUARANTINE, UID) }, { SHOW_U32, A(QUARANTINE, BUFFER) },
		  { SHOW_U64, A(QUARANTINE, PAGES) }, { SHOW_BDF, A(QUARANTINE, DEVICE) } },
	},
};

static const char *const noun_names[] = { "buffers", "mappings", "accesses", "domains",
					  "regions", "handles",  "quarantine" };

/* Policies follow from how a field is shown. What has the same number has the same type. */
static const struct nla_policy *noun_policy(const struct noun_row *row)
{
	static struct nla_policy policy[32];
	int i;

	memset(policy, 0, sizeof(policy));
	for (i = 0; i < row->nr; i++) {
		switch (row->fields[i].show) {
		case SHOW_U64:
		case SHOW_HEX:
			policy[row->fields[i].attr].type = NLA_U64;
			break;
		case SHOW_FLAG:
			policy[row->fields[i].attr].type = NLA_FLAG;
			break;
		default:
			policy[row->fields[i].attr].type = NLA_U32;
		}
	}
	return policy;
}

/* Each value of an attribute that may come several times. */
static size_t members(int attr, uint32_t *to, size_t room)
{
	struct nlmsghdr *hdr = reply_message();
	struct genlmsghdr *genl = nlmsg_data(hdr);
	struct nlattr *pos;
	size_t nr = 0;
	int left;

	nla_for_each_attr(pos, genlmsg_attrdata(genl, 0), genlmsg_attrlen(genl, 0), left) {
		if (nla_type(pos) != attr || nla_len(pos) != sizeof(uint32_t))
			continue;
		if (nr < room)
			to[nr] = nla_get_u32(pos);
		nr++;
	}
	return nr;
}

static void members_cell(struct table *table, int attr)
{
	size_t nr = members(attr, NULL, 0), i;
	uint32_t *list = calloc(nr + 1, sizeof(*list));
	char *text = calloc(nr + 1, sizeof(struct bdf_name) + 1);

	if (!list || !text) {
		complain("out of memory");
		exit(EXIT_REFUSED);
	}
	members(attr, list, nr);
	for (i = 0; i < nr; i++)
		sprintf(text + strlen(text), "%s%s", i ? "," : "", bdf_name(list[i]).text);
	table_cell(table, "%s", text);
	free(text);
	free(list);
}

static void show_cell(struct table *table, const struct field *field, struct nlattr **attrs)
{
	struct nlattr *attr = attrs[field->attr];

	if (field->show == SHOW_FLAG) {
		table_cell(table, "%d", !!attr);
		return;
	}
	if (field->show == SHOW_MEMBERS) {
		members_cell(table, field->attr);
		return;
	}
	if (!attr) {
		table_cell(table, NULL);
		return;
	}
	switch (field->show) {
	case SHOW_U64:
		table_cell(table, "%" PRIu64, nla_get_u64(attr));
		break;
	case SHOW_HEX:
		table_cell(table, "%#" PRIx64, nla_get_u64(attr));
		break;
	case SHOW_BDF:
		table_cell(table, "%s", bdf_name(nla_get_u32(attr)).text);
		break;
	case SHOW_STATE:
		table_cell(table, "%s", state_word(nla_get_u32(attr)));
		break;
	case SHOW_MODE:
		table_cell(table, "%s", mode_word(nla_get_u32(attr)));
		break;
	case SHOW_TYPE:
		table_cell(table, "%s", type_word(nla_get_u32(attr)));
		break;
	case SHOW_ATTR:
		table_cell(table, "%s", attr_words(nla_get_u32(attr)));
		break;
	case SHOW_MAP:
		table_cell(table, "%s", map_words(nla_get_u32(attr)));
		break;
	case SHOW_SHARES:
		table_cell(table, "%s", words_of(shares_known, nla_get_u32(attr)));
		break;
	case SHOW_RIGHTS:
		table_cell(table, "%s", words_of(buffer_rights, nla_get_u32(attr)));
		break;
	default:
		table_cell(table, "%u", nla_get_u32(attr));
	}
}

/* ---- lists ---- */

struct listing {
	const struct noun_row *row;
	struct table *table;
};

static void list_reply(struct nlattr **attrs, void *arg)
{
	const struct listing *listing = arg;
	int i;

	if (!attrs) {
		table_clear(listing->table);
		return;
	}
	for (i = 0; i < listing->row->nr; i++)
		show_cell(listing->table, &listing->row->fields[i], attrs);
}

static int list_noun(enum noun noun, const struct options *options)
{
	struct listing listing = { .row = &nouns[noun] };
	struct nl_msg *msg = request_new(listing.row->cmd, true);
	int ret;

	listing.table = table_new(listing.row->columns, listing.row->nr);
	if (options->present & OPTION_PID)
		nla_put_u32(msg, KOSDMA_A_BUFFER_PID, options->pid);
	if (options->present & OPTION_BDF)
		nla_put_u32(msg, KOSDMA_A_BUFFER_DEVICE, options->bdf);
	ret = request_send(msg, noun_policy(listing.row), listing.row->maxattr, list_reply,
			   &listing);
	if (!ret)
		table_print(listing.table, options->present & OPTION_JSON);
	return ret;
}

int list_buffers(const struct options *options)
{
	return list_noun(NOUN_BUFFERS, options);
}

int list_mappings(const struct options *options)
{
	return list_noun(NOUN_MAPPINGS, options);
}

int list_accesses(const struct options *options)
{
	return list_noun(NOUN_ACCESSES, options);
}

int list_domains(const struct options *options)
{
	return list_noun(NOUN_DOMAINS, options);
}

int list_regions(const struct options *options)
{
	return list_noun(NOUN_REGIONS, options);
}

int list_handles(const struct options *options)
{
	return list_noun(NOUN_HANDLES, options);
}

int list_quarantine(const struct options *options)
{
	return list_noun(NOUN_QUARANTINE, options);
}

static void print_noun(const char *name, bool first, bool json)
{
	if (json)
		printf("%c\"%s\":", first ? '{' : ',', name);
	else
		printf("%s%s:\n", first ? "" : "\n", name);
}

/* A device is nothing that a process made. */
int list_all(const struct options *options)
{
	bool json = options->present & OPTION_JSON, devices = !(options->present & OPTION_PID);
	int noun, ret = 0;

	if (devices) {
		print_noun("devices", true, json);
		ret = list_devices(options);
	}
	for (noun = 0; noun < NR_NOUNS && !ret; noun++) {
		print_noun(noun_names[noun], !devices && !noun, json);
		ret = list_noun((enum noun)noun, options);
	}
	if (json)
		puts("}");
	return ret;
}

/* ---- for tree and who ---- */

struct loading {
	enum noun noun;
	struct objects objects;
	size_t room;
};

static uint32_t get32(struct nlattr **attrs, int attr)
{
	return attrs[attr] ? nla_get_u32(attrs[attr]) : 0;
}

static uint64_t get64(struct nlattr **attrs, int attr)
{
	return attrs[attr] ? nla_get_u64(attrs[attr]) : 0;
}

static void take_members(struct object *object)
{
	object->nr_members = members(KOSDMA_A_DOMAIN_MEMBER, NULL, 0);
	object->members = calloc(object->nr_members + 1, sizeof(*object->members));
	if (!object->members) {
		complain("out of memory");
		exit(EXIT_REFUSED);
	}
	members(KOSDMA_A_DOMAIN_MEMBER, object->members, object->nr_members);
}

static void take_object(enum noun noun, struct nlattr **a, struct object *object)
{
	*object = (struct object){
		.sid = get32(a, KOSDMA_A_BUFFER_SID),
		.pid = get32(a, KOSDMA_A_BUFFER_PID),
		.has_pid = a[KOSDMA_A_BUFFER_PID],
		.uid = get32(a, KOSDMA_A_BUFFER_UID),
		.state = get32(a, KOSDMA_A_BUFFER_STATE),
		.has_device = a[KOSDMA_A_BUFFER_DEVICE],
		.device = get32(a, KOSDMA_A_BUFFER_DEVICE),
	};
	switch (noun) {
	case NOUN_BUFFERS:
		object->length = get64(a, KOSDMA_A_BUFFER_LENGTH);
		object->blocks = get32(a, KOSDMA_A_BUFFER_BLOCKS);
		object->flags = get32(a, KOSDMA_A_BUFFER_ATTR);
		break;
	case NOUN_MAPPINGS:
		object->buffer = get32(a, KOSDMA_A_MAPPING_SOURCE);
		object->type = get32(a, KOSDMA_A_MAPPING_SOURCE_TYPE);
		object->start = get64(a, KOSDMA_A_MAPPING_ADDRESS);
		object->has_start = true;
		object->length = get64(a, KOSDMA_A_MAPPING_LENGTH);
		object->flags = get32(a, KOSDMA_A_MAPPING_FLAGS);
		break;
	case NOUN_ACCESSES:
		object->buffer = get32(a, KOSDMA_A_ACCESS_BUFFER);
		object->domain = get32(a, KOSDMA_A_ACCESS_DOMAIN);
		object->flags = get32(a, KOSDMA_A_ACCESS_ATTR);
		object->start = get64(a, KOSDMA_A_ACCESS_IOVA);
		object->has_start = a[KOSDMA_A_ACCESS_IOVA];
		object->length = get64(a, KOSDMA_A_ACCESS_LENGTH);
		object->mode = get32(a, KOSDMA_A_ACCESS_MODE);
		break;
	case NOUN_DOMAINS:
		object->mode = get32(a, KOSDMA_A_DOMAIN_MODE);
		object->automatic = a[KOSDMA_A_DOMAIN_AUTOMATIC];
		take_members(object);
		break;
	case NOUN_REGIONS:
		object->start = get64(a, KOSDMA_A_REGION_ADDRESS);
		object->has_start = a[KOSDMA_A_REGION_ADDRESS];
		object->length = get64(a, KOSDMA_A_REGION_LENGTH);
		break;
	case NOUN_HANDLES:
		object->type = get32(a, KOSDMA_A_HANDLE_TYPE);
		object->number = get32(a, KOSDMA_A_HANDLE_NUMBER);
		object->parent = get32(a, KOSDMA_A_HANDLE_PARENT);
		object->flags = get32(a, KOSDMA_A_HANDLE_RIGHTS);
		break;
	default:
		object->buffer = get32(a, KOSDMA_A_QUARANTINE_BUFFER);
		object->length = get64(a, KOSDMA_A_QUARANTINE_PAGES);
	}
}

static void load_reply(struct nlattr **attrs, void *arg)
{
	struct loading *loading = arg;
	struct objects *objects = &loading->objects;

	if (!attrs) {
		while (objects->nr)
			free(objects->object[--objects->nr].members);
		return;
	}
	if (objects->nr == loading->room) {
		loading->room = loading->room ? 2 * loading->room : 64;
		objects->object = reallocarray(objects->object, loading->room,
					       sizeof(*objects->object));
		if (!objects->object) {
			complain("out of memory");
			exit(EXIT_REFUSED);
		}
	}
	take_object(loading->noun, attrs, &objects->object[objects->nr++]);
}

struct objects objects_load(enum noun noun)
{
	struct loading loading = { .noun = noun };
	const struct noun_row *row = &nouns[noun];
	int ret;

	ret = request_send(request_new(row->cmd, true), noun_policy(row), row->maxattr, load_reply,
			   &loading);
	if (ret) {
		complain("%s cannot be listed", noun_names[noun]);
		exit(ret);
	}
	return loading.objects;
}

/* ---- quarantine ---- */

static void release_reply(struct nlattr **attrs, void *arg)
{
	if (attrs)
		*(uint64_t *)arg = get64(attrs, KOSDMA_A_QUARANTINE_PAGES);
}

int release(const struct options *options)
{
	struct nl_msg *msg = request_new(KOSDMA_CMD_QUARANTINE_RELEASE, false);
	uint64_t pages = 0;
	int ret;

	if (options->word)
		nla_put_u32(msg, KOSDMA_A_QUARANTINE_DEVICE, options->bdf);
	ret = request_send(msg, noun_policy(&nouns[NOUN_QUARANTINE]), KOSDMA_A_QUARANTINE_MAX,
			   release_reply, &pages);
	if (!ret)
		printf("%" PRIu64 " pages released\n", pages);
	return ret;
}
