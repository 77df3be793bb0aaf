/* SPDX-License-Identifier: MIT */
/*
 * kosctl: what its files share
 *
 * main.c finds the command and its options by tables; netlink.c talks to the
 * kernel; print.c writes tables and JSON by the same calls; one file for each
 * noun has the commands.
 */
#ifndef KOSCTL_H
#define KOSCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <linux/kosdma_netlink.h>

enum {
	EXIT_REFUSED = 1, /* the kernel, or kosctl itself, refused or failed */
	EXIT_USAGE = 2,
	EXIT_NO_MODULE = 3, /* the kernel has no family "kosdma" */
};

/* ---- main.c ---- */

/* Options of all commands; main.c checks which of them a command takes. */
enum option_bit {
	OPTION_JSON = 1 << 0,
	OPTION_BDF = 1 << 1,
	OPTION_USER = 1 << 2,
	OPTION_GROUP = 1 << 3,
	OPTION_ALL = 1 << 4,
	OPTION_FORCE = 1 << 5,
	OPTION_DRY_RUN = 1 << 6,
	OPTION_PID = 1 << 7,
	OPTION_WAIT = 1 << 8,
	OPTION_SINCE_BOOT = 1 << 9,
};

struct options {
	unsigned int present; /* enum option_bit */
	uint32_t bdf; /* of --bdf, or the operand */
	uint32_t uid;
	uint32_t gid;
	uint32_t pid;
	uint32_t wait; /* seconds */
	const char *word; /* an operand that may be other than a BDF */
};

/* "segment:bus:device.function" */
struct bdf_name {
	char text[sizeof("ffff:ff:1f.7")];
};

struct bdf_name bdf_name(uint32_t address);
bool parse_bdf(const char *text, uint32_t *address);

/* A line "kosctl: ..." on standard error. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- netlink.c ---- */

/* A request in the making. Ends the program if there is no kernel module to ask. */
struct nl_msg *request_new(uint8_t cmd, bool dump);

/* One message's attributes; NULL: forget those before, all come again. */
typedef void reply_fn(struct nlattr **attrs, void *arg);

/*
 * Send the request, free it, and call @reply for each message that comes back,
 * its attributes parsed by @policy. Returns 0, or an exit status, having
 * complained.
 */
int request_send(struct nl_msg *msg, const struct nla_policy *policy, int maxattr, reply_fn *reply,
		 void *arg);

/* All of the message whose attributes a reply_fn has: for those that come several times. */
struct nlmsghdr *reply_message(void);

/*
 * Join the multicast groups, then call @ready, then @event for each message,
 * for ever, and @lost when some did not find room. Returns only having failed.
 */
int listen_events(const struct nla_policy *policy, int maxattr, reply_fn *event,
		  int (*ready)(void *arg), void (*lost)(void *arg), void *arg);

/* ---- print.c ---- */

enum column_type {
	COLUMN_STRING,
	COLUMN_NUMBER,
	COLUMN_WORDS, /* separated by commas; in JSON an array of strings */
};

struct column {
	const char *head; /* of the table */
	const char *key; /* in JSON */
	enum column_type type;
};

struct table;

struct table *table_new(const struct column *columns, int nr);
/* The next cell; NULL: nothing is known. Shown as "-", null in JSON. */
void table_cell(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Forget all rows: they are read again. */
void table_clear(struct table *table);
/* Is standard output a terminal that shall have colours? */
bool print_colours(void);
/* A string of JSON, or null. */
void print_json_string(const char *text);
/* By the first cell, which no row lacks and no two have the same. */
void table_sort(struct table *table);
/* Frees it. */
void table_print(struct table *table, bool json);

/* ---- devices.c ---- */

struct device {
	bool known;
	uint32_t address;
	uint32_t state; /* enum kosdma_nl_device_state */
	char driver[64];
	bool has_group, has_pid, has_uid;
	uint32_t group, pid, uid;
};

int device_get(uint32_t address, struct device *device);
int list_devices(const struct options *options);

/* ---- grants.c ---- */

int grant(const struct options *options);
int revoke_grant(const struct options *options);
int list_grants(const struct options *options);

/* ---- bind.c ---- */

int bind_device(const struct options *options);
int unbind_device(const struct options *options);
/* A line on standard error for each other function of the device's IOMMU group. */
void note_group(uint32_t address, const char *what);

/* ---- objects.c ---- */

/* One of any noun; what it does not have is 0. */
struct object {
	uint32_t sid, pid, uid, state;
	bool has_pid;
	bool has_device; /* "device" */
	uint32_t device;
	uint32_t type; /* of the object of a handle, or of the source of a mapping */
	uint32_t buffer, domain; /* of an access; the former is the source of a mapping, too */
	uint32_t flags; /* attributes, protection or rights */
	uint32_t mode, number, parent, blocks;
	bool automatic, has_start;
	uint64_t start, length;
	uint32_t *members; /* of a domain, each a PCI address */
	size_t nr_members;
};

struct objects {
	struct object *object;
	size_t nr;
};

enum noun {
	NOUN_BUFFERS,
	NOUN_MAPPINGS,
	NOUN_ACCESSES,
	NOUN_DOMAINS,
	NOUN_REGIONS,
	NOUN_HANDLES,
	NOUN_QUARANTINE,
	NR_NOUNS,
};

/* All that the caller may see. Ends the program if the kernel refuses. */
struct objects objects_load(enum noun noun);
/* Words for the bits of @flags that are known, separated by commas. */
const char *attr_words(uint32_t attr);
const char *map_words(uint32_t flags);
const char *mode_word(uint32_t mode);
const char *state_word(uint32_t state);
const char *type_word(uint32_t type);

int list_buffers(const struct options *options);
int list_mappings(const struct options *options);
int list_accesses(const struct options *options);
int list_domains(const struct options *options);
int list_regions(const struct options *options);
int list_handles(const struct options *options);
int list_quarantine(const struct options *options);
int release(const struct options *options);

/* ---- tree.c ---- */

int tree(const struct options *options);
int who(const struct options *options);

/* ---- monitor.c ---- */

int monitor(const struct options *options);
int stat_numbers(const struct options *options);

/* ---- why.c ---- */

int why(const struct options *options);

#endif /* KOSCTL_H */
