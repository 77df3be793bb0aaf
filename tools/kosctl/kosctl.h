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
};

struct options {
	unsigned int present; /* enum option_bit */
	uint32_t bdf; /* of --bdf, or the operand */
	uint32_t uid;
	uint32_t gid;
};

/* "segment:bus:device.function" */
struct bdf_name {
	char text[sizeof("ffff:ff:1f.7")];
};

struct bdf_name bdf_name(uint32_t address);

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
/* In order of the first column. Frees the table. */
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

#endif /* KOSCTL_H */
