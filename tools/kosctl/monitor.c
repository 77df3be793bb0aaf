// SPDX-License-Identifier: MIT
/* What happens: events one by one, and numbers in the manner of vmstat. */
#define _GNU_SOURCE
#include "kosctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const events[] = {
	"create", "end",  "revoke",	"attach",  "detach", "bind",
	"unbind", "lost", "quarantine", "release", "refuse", "fault",
};

#define NR(a) (sizeof(a) / sizeof((a)[0]))

static const struct nla_policy event_policy[KOSDMA_A_EVENT_MAX + 1] = {
	[KOSDMA_A_EVENT_EVENT] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_TIME] = { .type = NLA_U64 },
	[KOSDMA_A_EVENT_NUMBER] = { .type = NLA_U64 },
	[KOSDMA_A_EVENT_SID] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_TYPE] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_PID] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_UID] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_DEVICE] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_ERROR] = { .type = NLA_U32 },
	[KOSDMA_A_EVENT_PAGES] = { .type = NLA_U64 },
};

struct monitor {
	const struct options *options;
	uint64_t number; /* of the last one of those that are counted */
};

static void event_as_text(struct nlattr **a, uint64_t time, const char *word)
{
	printf("[%5" PRIu64 ".%06" PRIu64 "] %-10s", time / 1000000000, time / 1000 % 1000000,
	       word);
	if (a[KOSDMA_A_EVENT_DEVICE])
		printf(" %s", bdf_name(nla_get_u32(a[KOSDMA_A_EVENT_DEVICE])).text);
	if (a[KOSDMA_A_EVENT_SID])
		printf(" %s %u",
		       a[KOSDMA_A_EVENT_TYPE] ? type_word(nla_get_u32(a[KOSDMA_A_EVENT_TYPE])) :
						"object",
		       nla_get_u32(a[KOSDMA_A_EVENT_SID]));
	if (a[KOSDMA_A_EVENT_PAGES])
		printf(" %" PRIu64 " pages", nla_get_u64(a[KOSDMA_A_EVENT_PAGES]));
	if (a[KOSDMA_A_EVENT_PID])
		printf(" pid %u", nla_get_u32(a[KOSDMA_A_EVENT_PID]));
	if (a[KOSDMA_A_EVENT_UID])
		printf(" uid %u", nla_get_u32(a[KOSDMA_A_EVENT_UID]));
	if (a[KOSDMA_A_EVENT_ERROR])
		printf(": %s", strerror((int)nla_get_u32(a[KOSDMA_A_EVENT_ERROR])));
	putchar('\n');
}

static void json_number(const char *key, const struct nlattr *attr)
{
	if (!attr)
		printf(",\"%s\":null", key);
	else if (nla_len(attr) == 8)
		printf(",\"%s\":%" PRIu64, key, nla_get_u64(attr));
	else
		printf(",\"%s\":%u", key, nla_get_u32(attr));
}

static void event_as_json(struct nlattr **a, uint64_t time, const char *word)
{
	const struct nlattr *error = a[KOSDMA_A_EVENT_ERROR];

	printf("{\"time_ns\":%" PRIu64 ",\"event\":", time);
	print_json_string(word);
	printf(",\"type\":");
	print_json_string(a[KOSDMA_A_EVENT_TYPE] ? type_word(nla_get_u32(a[KOSDMA_A_EVENT_TYPE])) :
						   NULL);
	json_number("sid", a[KOSDMA_A_EVENT_SID]);
	printf(",\"bdf\":");
	print_json_string(a[KOSDMA_A_EVENT_DEVICE] ?
				  bdf_name(nla_get_u32(a[KOSDMA_A_EVENT_DEVICE])).text : NULL);
	json_number("pid", a[KOSDMA_A_EVENT_PID]);
	json_number("uid", a[KOSDMA_A_EVENT_UID]);
	json_number("pages", a[KOSDMA_A_EVENT_PAGES]);
	printf(",\"error\":");
	print_json_string(error ? strerrorname_np((int)nla_get_u32(error)) : NULL);
	puts("}");
}

/* Those that were kept come again if the dump was slow: then they are behind us. */
static void on_event(struct nlattr **attrs, void *arg)
{
	struct monitor *monitor = arg;
	uint64_t number = 0, time = 0;
	const char *word = "unknown";
	uint32_t event;

	if (!attrs || !attrs[KOSDMA_A_EVENT_EVENT])
		return;
	if (attrs[KOSDMA_A_EVENT_NUMBER])
		number = nla_get_u64(attrs[KOSDMA_A_EVENT_NUMBER]);
	if (number && number <= monitor->number)
		return;
	if (number)
		monitor->number = number;
	if (attrs[KOSDMA_A_EVENT_TIME])
		time = nla_get_u64(attrs[KOSDMA_A_EVENT_TIME]);
	event = nla_get_u32(attrs[KOSDMA_A_EVENT_EVENT]);
	if (event < NR(events))
		word = events[event];
	if (monitor->options->present & OPTION_JSON)
		event_as_json(attrs, time, word);
	else
		event_as_text(attrs, time, word);
	fflush(stdout);
}

static int on_ready(void *arg)
{
	struct monitor *monitor = arg;
	int ret = 0;

	if (monitor->options->present & OPTION_SINCE_BOOT)
		ret = request_send(request_new(KOSDMA_CMD_EVENT_GET, true), event_policy,
				   KOSDMA_A_EVENT_MAX, on_event, monitor);
	fflush(stdout);
	return ret;
}

static void on_lost(void *arg)
{
	const struct monitor *monitor = arg;

	if (monitor->options->present & OPTION_JSON)
		puts("{\"event\":\"overrun\"}");
	complain("events were lost: they come faster than they are read");
}

int monitor(const struct options *options)
{
	struct monitor monitor = { .options = options };

	return listen_events(event_policy, KOSDMA_A_EVENT_MAX, on_event, on_ready, on_lost,
			     &monitor);
}

/* ---- numbers ---- */

/* In order of their attributes, which begin after the padding. */
static const struct {
	const char *key;
	const char *head; /* NULL: not in the table */
	bool rate; /* it only grows: what counts is how fast */
} numbers[] = {
	{ "pages", "pages", false },
	{ "lingering_pages", "linger", false },
	{ "quarantined_pages", "quarant", false },
	{ "iova_bytes", "iova-kB", false },
	{ "buffers", "buf", false },
	{ "mappings", "map", false },
	{ "accesses", "acc", false },
	{ "domains", "dom", false },
	{ "regions", "reg", false },
	{ "handles", "hdl", false },
	{ "maps", "maps", true },
	{ "begins", "begins", true },
	{ "places", "place", true },
	{ "unplaces", "unplace", true },
	{ "revokes", "revoke", true },
	{ "refusals", "refuse", true },
	{ "faults", "fault", true },
};

static void stats_reply(struct nlattr **attrs, void *arg)
{
	uint64_t *values = arg;
	size_t i;

	for (i = 0; attrs && i < NR(numbers); i++) {
		const struct nlattr *attr = attrs[KOSDMA_A_STATS_PAGES + i];

		values[i] = attr ? nla_get_u64(attr) : 0;
	}
}

static int stats_get(uint64_t values[NR(numbers)])
{
	static struct nla_policy policy[KOSDMA_A_STATS_MAX + 1];
	size_t i;

	for (i = KOSDMA_A_STATS_PAGES; i <= KOSDMA_A_STATS_MAX; i++)
		policy[i].type = NLA_U64;
	return request_send(request_new(KOSDMA_CMD_STATS_GET, false), policy, KOSDMA_A_STATS_MAX,
			    stats_reply, values);
}

static void print_heads(void)
{
	size_t i;

	if (print_colours())
		fputs("\033[1m", stdout);
	for (i = 0; i < NR(numbers); i++)
		printf("%s%8s", i ? " " : "", numbers[i].head);
	puts(print_colours() ? "\033[0m" : "");
}

static void print_numbers(const uint64_t *now, const uint64_t *before, uint32_t seconds, bool json)
{
	size_t i;

	for (i = 0; i < NR(numbers); i++) {
		uint64_t value = now[i];

		if (json) {
			printf("%s\"%s\":%" PRIu64, i ? "," : "{", numbers[i].key, value);
			continue;
		}
		if (before && numbers[i].rate)
			value = (value - before[i]) / seconds;
		if (!strcmp(numbers[i].key, "iova_bytes"))
			value /= 1024;
		printf("%s%8" PRIu64, i ? " " : "", value);
	}
	puts(json ? "}" : "");
	fflush(stdout);
}

int stat_numbers(const struct options *options)
{
	uint64_t now[NR(numbers)] = { 0 }, before[NR(numbers)];
	bool json = options->present & OPTION_JSON;
	unsigned int line;
	int ret;

	ret = stats_get(now);
	if (ret)
		return ret;
	if (!json)
		print_heads();
	print_numbers(now, NULL, 0, json);
	for (line = 1; options->present & OPTION_WAIT && !ferror(stdout); line++) {
		struct timespec wait = { .tv_sec = options->wait };

		memcpy(before, now, sizeof(now));
		nanosleep(&wait, NULL);
		ret = stats_get(now);
		if (ret)
			return ret;
		if (!json && line % 20 == 0)
			print_heads();
		print_numbers(now, before, options->wait, json);
	}
	return 0;
}
