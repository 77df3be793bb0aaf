// SPDX-License-Identifier: MIT
/*
 * kosctl: see and steer what kosdma has
 *
 * Each command is a row of a table: its words, its operand, the options that it
 * takes, and those of which it needs one.
 */
#define _GNU_SOURCE
#include "kosctl.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
	const char *words[2];
	bool operand; /* a BDF */
	bool word; /* the operand may be something else */
	bool optional; /* or is missing */
	unsigned int takes; /* enum option_bit */
	unsigned int needs; /* exactly one of these */
	int (*run)(const struct options *options);
	const char *synopsis;
	const char *help;
};

static const struct command commands[] = {
	{
		.words = { "list", "devices" },
		.takes = OPTION_BDF | OPTION_JSON,
		.run = list_devices,
		.synopsis = "[--bdf BDF] [-j]",
		.help = "PCI functions, their drivers, groups and owners",
	},
#define LIST(noun, text)                                                                           \
	{                                                                                          \
		.words = { "list", #noun },                                                        \
		.takes = OPTION_PID | OPTION_BDF | OPTION_JSON,                                    \
		.run = list_##noun,                                                                \
		.synopsis = "[--pid P] [--bdf BDF] [-j]",                                          \
		.help = text,                                                                      \
	}
	LIST(buffers, "memory for devices"),
	LIST(mappings, "buffers and registers in the address spaces of processes"),
	LIST(accesses, "buffers open for devices, and where"),
	LIST(domains, "I/O address spaces and their devices"),
	LIST(regions, "claimed registers"),
	LIST(handles, "what names all of these, and what descends from what"),
	LIST(quarantine, "pages that a device may still write"),
#undef LIST
	{
		.words = { "list" },
		.takes = OPTION_PID | OPTION_BDF | OPTION_JSON,
		.run = list_all,
		.synopsis = "[--pid P] [--bdf BDF] [-j]",
		.help = "all of these",
	},
	{
		.words = { "tree" },
		.run = tree,
		.synopsis = "",
		.help = "processes, their domains, devices and buffers",
	},
	{
		.words = { "monitor" },
		.takes = OPTION_SINCE_BOOT | OPTION_JSON,
		.run = monitor,
		.synopsis = "[--since-boot] [-j]",
		.help = "events as they come",
	},
	{
		.words = { "stat" },
		.takes = OPTION_WAIT | OPTION_JSON,
		.run = stat_numbers,
		.synopsis = "[-w SECONDS] [-j]",
		.help = "memory, I/O addresses, maps, faults",
	},
	{
		.words = { "why" },
		.operand = true,
		.takes = OPTION_JSON,
		.run = why,
		.synopsis = "BDF [-j]",
		.help = "what keeps you from attaching a device, and what would change it",
	},
	{
		.words = { "who" },
		.operand = true,
		.word = true,
		.takes = OPTION_JSON,
		.run = who,
		.synopsis = "BUFFER|ADDRESS|BDF [-j]",
		.help = "who can read or write it",
	},
	{
		.words = { "release" },
		.operand = true,
		.optional = true,
		.takes = OPTION_ALL,
		.run = release,
		.synopsis = "{BDF | --all}",
		.help = "free the pages that a device kept: it is quiet",
	},
	{
		.words = { "grants" },
		.takes = OPTION_BDF | OPTION_JSON,
		.run = list_grants,
		.synopsis = "[--bdf BDF] [-j]",
		.help = "who may have which device",
	},
	{
		.words = { "grant" },
		.operand = true,
		.takes = OPTION_USER | OPTION_GROUP,
		.needs = OPTION_USER | OPTION_GROUP,
		.run = grant,
		.synopsis = "BDF {--user U | --group G}",
		.help = "let a user or a group have a device",
	},
	{
		.words = { "revoke-grant" },
		.operand = true,
		.takes = OPTION_USER | OPTION_GROUP | OPTION_ALL,
		.needs = OPTION_USER | OPTION_GROUP | OPTION_ALL,
		.run = revoke_grant,
		.synopsis = "BDF {--user U | --group G | --all}",
		.help = "take a grant back; who holds the device keeps it",
	},
	{
		.words = { "bind" },
		.operand = true,
		.takes = OPTION_FORCE | OPTION_DRY_RUN,
		.run = bind_device,
		.synopsis = "BDF [--force] [--dry-run]",
		.help = "give a device to kosdma",
	},
	{
		.words = { "unbind" },
		.operand = true,
		.takes = OPTION_FORCE | OPTION_DRY_RUN,
		.run = unbind_device,
		.synopsis = "BDF [--force] [--dry-run]",
		.help = "give a device back to the kernel",
	},
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* The value of a long option is its bit. */
static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "bdf", required_argument, NULL, OPTION_BDF },
	{ "user", required_argument, NULL, OPTION_USER },
	{ "group", required_argument, NULL, OPTION_GROUP },
	{ "all", no_argument, NULL, OPTION_ALL },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "pid", required_argument, NULL, OPTION_PID },
	{ "wait", required_argument, NULL, OPTION_WAIT },
	{ "since-boot", no_argument, NULL, OPTION_SINCE_BOOT },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

void complain(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("kosctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

struct bdf_name bdf_name(uint32_t address)
{
	struct bdf_name name;

	snprintf(name.text, sizeof(name.text), "%04x:%02x:%02x.%x", address >> 16,
		 address >> 8 & 0xff, address >> 3 & 0x1f, address & 7);
	return name;
}

/* Hexadecimal digits up to @end, as a number of at most @max. */
static bool parse_hex(const char **text, char end, unsigned int max, uint32_t *value)
{
	char *rest;
	unsigned long number;

	if (!isxdigit((unsigned char)**text))
		return false;
	number = strtoul(*text, &rest, 16);
	if (*rest != end || rest - *text > 4 || number > max)
		return false;
	*text = end ? rest + 1 : rest;
	*value = (uint32_t)number;
	return true;
}

bool parse_bdf(const char *text, uint32_t *address)
{
	const char *colon = strchr(text, ':'), *rest = text;
	uint32_t segment = 0, bus, device, function;

	if (colon && strchr(colon + 1, ':') && !parse_hex(&rest, ':', 0xffff, &segment))
		return false;
	if (!parse_hex(&rest, ':', 0xff, &bus) || !parse_hex(&rest, '.', 0x1f, &device) ||
	    !parse_hex(&rest, '\0', 7, &function))
		return false;
	*address = segment << 16 | bus << 8 | device << 3 | function;
	return true;
}

/* A number, if the text is one. (uint32_t)-1 is nobody's. */
static bool parse_id(const char *text, uint32_t *id)
{
	char *end;
	unsigned long long number;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (*end || errno || number >= UINT32_MAX)
		return false;
	*id = (uint32_t)number;
	return true;
}

static bool parse_user(const char *text, uint32_t *uid)
{
	const struct passwd *user;

	if (parse_id(text, uid))
		return true;
	user = getpwnam(text);
	if (user)
		*uid = user->pw_uid;
	return user;
}

static bool parse_group(const char *text, uint32_t *gid)
{
	const struct group *group;

	if (parse_id(text, gid))
		return true;
	group = getgrnam(text);
	if (group)
		*gid = group->gr_gid;
	return group;
}

static void print_synopsis(FILE *to, const char *before, const struct command *command)
{
	const char *second = command->words[1] ? command->words[1] : "";

	fprintf(to, "%skosctl %s%s%s%s%s\n", before, command->words[0], *second ? " " : "", second,
		*command->synopsis ? " " : "", command->synopsis);
}

static void usage(FILE *to)
{
	size_t i;

	fputs("usage: kosctl COMMAND\n\n", to);
	for (i = 0; i < NR_COMMANDS; i++) {
		const struct command *command = &commands[i];

		print_synopsis(to, "  ", command);
		fprintf(to, "\t%s\n", command->help);
	}
	fputs("\nBDF is [SEGMENT:]BUS:DEVICE.FUNCTION, such as 0000:00:08.0 or 00:08.0.\n"
	      "-j, --json prints JSON. Exit status: 0 done, 1 refused or failed, 2 usage,\n"
	      "3 kosdma is not loaded. kosctl(1) tells more.\n", to);
}

static int usage_of(const struct command *command)
{
	print_synopsis(stderr, "usage: ", command);
	return EXIT_USAGE;
}

static const char *option_name(unsigned int bit)
{
	const struct option *option;

	for (option = long_options; option->name; option++)
		if ((unsigned int)option->val == bit)
			return option->name;
	return "?";
}

/* One option with its argument. Returns whether it makes sense. */
static bool take_option(struct options *options, int value, const char *text)
{
	if (options->present & (unsigned int)value) {
		complain("--%s is given twice", option_name((unsigned int)value));
		return false;
	}
	options->present |= (unsigned int)value;
	if (value == OPTION_BDF && !parse_bdf(text, &options->bdf)) {
		complain("'%s' is no PCI address", text);
		return false;
	}
	if (value == OPTION_USER && !parse_user(text, &options->uid)) {
		complain("there is no user '%s'", text);
		return false;
	}
	if (value == OPTION_PID && (!parse_id(text, &options->pid) || !options->pid)) {
		complain("'%s' is no process", text);
		return false;
	}
	if (value == OPTION_WAIT && (!parse_id(text, &options->wait) || !options->wait)) {
		complain("'%s' is no number of seconds", text);
		return false;
	}
	if (value == OPTION_GROUP && !parse_group(text, &options->gid)) {
		complain("there is no group '%s'", text);
		return false;
	}
	return true;
}

static bool check_options(const struct command *command, const struct options *options)
{
	unsigned int wrong = options->present & ~command->takes;
	unsigned int needed = options->present & command->needs;

	if (wrong) {
		complain("'%s' takes no --%s", command->words[0], option_name(wrong & -wrong));
		return false;
	}
	if (command->needs && (!needed || needed & (needed - 1))) {
		complain("'%s' needs exactly one of its options", command->words[0]);
		return false;
	}
	return true;
}

/* getopt_long() takes abbreviations of long options; no script shall. */
static bool abbreviates(const char *word)
{
	size_t len = strcspn(word + 2, "=");
	const struct option *option;

	for (option = long_options; option->name; option++)
		if (!strncmp(word + 2, option->name, len) && !option->name[len])
			return false;
	return len;
}

/* Exact words only: an abbreviation that works today is ambiguous tomorrow. */
static const struct command *find_command(char **words, int nr, int *used)
{
	bool first = false;
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++) {
		const struct command *command = &commands[i];

		if (nr < 1 || strcmp(words[0], command->words[0]))
			continue;
		*used = command->words[1] ? 2 : 1;
		/* A word behind "list" is a noun; that there is none has the last row. */
		if (command->words[1] ? nr > 1 && !strcmp(words[1], command->words[1]) :
					!first || nr == 1)
			return command;
		first = true;
	}
	if (!nr)
		complain("which command?");
	else if (first)
		complain("'%s' what? there is no '%s'", words[0], words[1]);
	else
		complain("there is no command '%s'", words[0]);
	return NULL;
}

int main(int argc, char **argv)
{
	const struct command *command;
	struct options options = { 0 };
	int value, used = 0, nr;
	char **operands;

	for (value = 1; value < argc; value++) {
		if (!strncmp(argv[value], "--", 2) && abbreviates(argv[value])) {
			complain("there is no option '%s'", argv[value]);
			return EXIT_USAGE;
		}
	}
	while ((value = getopt_long(argc, argv, "jhw:", long_options, NULL)) != -1) {
		if (value == '?')
			return EXIT_USAGE;
		if (value == 'h') {
			usage(stdout);
			return 0;
		}
		if (value == 'w')
			value = OPTION_WAIT;
		if (!take_option(&options, value == 'j' ? OPTION_JSON : value, optarg))
			return EXIT_USAGE;
	}
	command = find_command(argv + optind, argc - optind, &used);
	if (!command) {
		fputs("'kosctl --help' lists them\n", stderr);
		return EXIT_USAGE;
	}
	operands = argv + optind + used;
	nr = argc - optind - used;
	if (nr > command->operand) {
		complain("'%s' is one word too many", operands[command->operand]);
		return usage_of(command);
	}
	if (nr < command->operand && !command->optional) {
		complain(command->word ? "'%s' needs a buffer, an address or a device" :
					 "'%s' needs the address of a device",
			 command->words[0]);
		return usage_of(command);
	}
	if (command->optional && !nr == !(options.present & OPTION_ALL)) {
		complain("'%s' needs either the address of a device or --all", command->words[0]);
		return usage_of(command);
	}
	options.word = nr ? operands[0] : NULL;
	if (nr && !command->word && !parse_bdf(operands[0], &options.bdf)) {
		complain("'%s' is no PCI address", operands[0]);
		return EXIT_USAGE;
	}
	if (!check_options(command, &options))
		return usage_of(command);

	value = command->run(&options);
	if (fflush(stdout) || ferror(stdout)) {
		complain("cannot write: %m");
		return EXIT_REFUSED;
	}
	return value;
}
