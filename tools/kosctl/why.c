// SPDX-License-Identifier: MIT
/* What keeps the caller from attaching a device, and what would change it. */
#define _GNU_SOURCE
#include "kosctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NR(a) (sizeof(a) / sizeof((a)[0]))

static const struct nla_policy why_policy[KOSDMA_A_WHY_MAX + 1] = {
	[KOSDMA_A_WHY_ADDRESS] = { .type = NLA_U32 },
	[KOSDMA_A_WHY_REASON] = { .type = NLA_NESTED },
};

static const struct nla_policy reason_policy[KOSDMA_A_REASON_MAX + 1] = {
	[KOSDMA_A_REASON_OBSTACLE] = { .type = NLA_U32 },
	[KOSDMA_A_REASON_ADDRESS] = { .type = NLA_U32 },
	[KOSDMA_A_REASON_DRIVER] = { .type = NLA_NUL_STRING },
	[KOSDMA_A_REASON_PID] = { .type = NLA_U32 },
	[KOSDMA_A_REASON_UID] = { .type = NLA_U32 },
	[KOSDMA_A_REASON_START] = { .type = NLA_U64 },
	[KOSDMA_A_REASON_LAST] = { .type = NLA_U64 },
};

/* In the texts, %b is the function, %d its driver, %p the process; in this order. */
static const struct {
	const char *word;
	const char *text;
	const char *command;
} obstacles[] = {
	[KOSDMA_NL_OBSTACLE_MACHINE] = { "machine",
		"%b is a part of the machine itself, such as a bridge", NULL },
	[KOSDMA_NL_OBSTACLE_DRIVER] = { "driver",
		"driver %d has %b", "kosctl bind %b --force" },
	[KOSDMA_NL_OBSTACLE_UNBOUND] = { "unbound",
		"%b is bound to no driver", "kosctl bind %b" },
	[KOSDMA_NL_OBSTACLE_GRANT] = { "grant",
		"no grant lets you have %b", "kosctl grant %b --user %u" },
	[KOSDMA_NL_OBSTACLE_HELD] = { "held",
		"%p holds the group of %b", "kosctl unbind %b --force; kosctl bind %b" },
	[KOSDMA_NL_OBSTACLE_MEMBER] = { "member",
		"driver %d has %b, which is in the same IOMMU group",
		"kosctl bind %b --force" },
	[KOSDMA_NL_OBSTACLE_OWNER] = { "owner",
		"another part of the kernel, such as VFIO, has the group of %b", NULL },
	[KOSDMA_NL_OBSTACLE_DIRECT_FORBIDDEN] = { "direct-forbidden",
		"no IOMMU translates for %b, and direct access is forbidden",
		"modprobe -r kosdma; modprobe kosdma allow_direct=1" },
	[KOSDMA_NL_OBSTACLE_DIRECT_PRIVILEGE] = { "direct-privilege",
		"no IOMMU translates for %b, and you lack CAP_SYS_RAWIO", NULL },
	[KOSDMA_NL_OBSTACLE_DIRECT_LOCKDOWN] = { "direct-lockdown",
		"no IOMMU translates for %b, and the kernel is locked down", NULL },
	[KOSDMA_NL_OBSTACLE_INTERRUPTS] = { "interrupts",
		"the IOMMU of %b does not remap interrupts",
		"echo Y > /sys/module/kosdma/parameters/allow_unsafe_interrupts" },
	[KOSDMA_NL_OBSTACLE_RESERVED] = { "reserved",
		"the firmware needs memory mapped for %b", NULL },
};

struct reasons {
	const struct options *options;
	int nr;
};

/* Grants are for users of the initial user namespace: its number for who runs this, one namespace further in. */
static unsigned int outer_uid(void)
{
	unsigned int uid = geteuid(), first, outer, count;
	FILE *f = fopen("/proc/self/uid_map", "re");

	while (f && fscanf(f, "%u %u %u", &first, &outer, &count) == 3) {
		if (uid - first < count) {
			uid += outer - first;
			break;
		}
	}
	if (f)
		fclose(f);
	return uid;
}

/* The text with its %b, %d, %p and %u put in. */
static const char *fill(const char *text, struct nlattr **a, char *to, size_t size)
{
	const char *driver = a[KOSDMA_A_REASON_DRIVER] ? nla_get_string(a[KOSDMA_A_REASON_DRIVER]) :
							 "?";
	size_t len = 0;

	if (!text)
		return NULL;
	for (to[0] = '\0'; *text && len + 64 < size; len += strlen(to + len)) {
		size_t plain = strcspn(text, "%");

		snprintf(to + len, size - len, "%.*s", (int)plain, text);
		len += plain;
		text += plain;
		if (!*text)
			break;
		if (text[1] == 'b' && a[KOSDMA_A_REASON_ADDRESS])
			snprintf(to + len, size - len, "%s",
				 bdf_name(nla_get_u32(a[KOSDMA_A_REASON_ADDRESS])).text);
		else if (text[1] == 'd')
			snprintf(to + len, size - len, "%.60s", driver);
		else if (text[1] == 'p' && a[KOSDMA_A_REASON_PID])
			snprintf(to + len, size - len, "process %u",
				 nla_get_u32(a[KOSDMA_A_REASON_PID]));
		else if (text[1] == 'u')
			snprintf(to + len, size - len, "%u", outer_uid());
		else
			snprintf(to + len, size - len, "%s", text[1] == 'p' ? "a process" : "?");
		text += 2;
	}
	return to;
}

static void print_reason(struct reasons *reasons, struct nlattr **a)
{
	uint32_t obstacle = nla_get_u32(a[KOSDMA_A_REASON_OBSTACLE]);
	char text[256], command[256];
	const char *said, *cure = NULL;

	said = "something that this kosctl does not know";
	if (obstacle < NR(obstacles)) {
		said = fill(obstacles[obstacle].text, a, text, sizeof(text));
		cure = fill(obstacles[obstacle].command, a, command, sizeof(command));
	}
	if (!(reasons->options->present & OPTION_JSON)) {
		fputs(said, stdout);
		if (a[KOSDMA_A_REASON_LAST] && a[KOSDMA_A_REASON_START])
			printf(": %#" PRIx64 "-%#" PRIx64, nla_get_u64(a[KOSDMA_A_REASON_START]),
			       nla_get_u64(a[KOSDMA_A_REASON_LAST]));
		putchar('\n');
		if (cure)
			printf("  %s\n", cure);
		reasons->nr++;
		return;
	}
	printf("%s\n{\"obstacle\":", reasons->nr++ ? "," : "[");
	print_json_string(obstacle < NR(obstacles) ? obstacles[obstacle].word : "unknown");
	printf(",\"bdf\":");
	print_json_string(a[KOSDMA_A_REASON_ADDRESS] ?
				  bdf_name(nla_get_u32(a[KOSDMA_A_REASON_ADDRESS])).text : NULL);
	printf(",\"driver\":");
	print_json_string(a[KOSDMA_A_REASON_DRIVER] ? nla_get_string(a[KOSDMA_A_REASON_DRIVER]) :
						      NULL);
	if (a[KOSDMA_A_REASON_PID])
		printf(",\"pid\":%u", nla_get_u32(a[KOSDMA_A_REASON_PID]));
	else
		printf(",\"pid\":null");
	printf(",\"text\":");
	print_json_string(said);
	printf(",\"command\":");
	print_json_string(cure);
	putchar('}');
}

static void why_reply(struct nlattr **attrs, void *arg)
{
	struct nlmsghdr *hdr = reply_message();
	struct genlmsghdr *genl = nlmsg_data(hdr);
	struct nlattr *reason[KOSDMA_A_REASON_MAX + 1], *pos;
	int left;

	if (!attrs)
		return;
	nla_for_each_attr(pos, genlmsg_attrdata(genl, 0), genlmsg_attrlen(genl, 0), left)
		if (nla_type(pos) == KOSDMA_A_WHY_REASON &&
		    !nla_parse_nested(reason, KOSDMA_A_REASON_MAX, pos,
				      (struct nla_policy *)reason_policy) &&
		    reason[KOSDMA_A_REASON_OBSTACLE])
			print_reason(arg, reason);
}

int why(const struct options *options)
{
	struct nl_msg *msg = request_new(KOSDMA_CMD_WHY_GET, false);
	struct reasons reasons = { .options = options };
	bool json = options->present & OPTION_JSON;
	int ret;

	nla_put_u32(msg, KOSDMA_A_WHY_ADDRESS, options->bdf);
	ret = request_send(msg, why_policy, KOSDMA_A_WHY_MAX, why_reply, &reasons);
	if (ret)
		return ret;
	if (json)
		puts(reasons.nr ? "\n]" : "[\n]");
	else if (!reasons.nr)
		printf("%s can be attached\n", bdf_name(options->bdf).text);
	return reasons.nr ? EXIT_REFUSED : 0;
}
