/* SPDX-License-Identifier: GPL-2.0-only */
/* What /proc/PID/fdinfo tells of a handle. */
#ifndef TESTS_LIB_FDINFO_H
#define TESTS_LIB_FDINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
	FDINFO_LINES_MAX = 24,
};

/* The lines whose key begins with "kosdma-", which is cut off. */
struct fdinfo {
	int count;
	char text[4096];
	const char *key[FDINFO_LINES_MAX];
	const char *value[FDINFO_LINES_MAX];
};

/* @pid 0: of this process. Returns 0 or an errno; a line out of shape is EPROTO. */
int fdinfo_read(struct fdinfo *info, pid_t pid, int fd);

/* The first value of a key, or NULL. */
const char *fdinfo_find(const struct fdinfo *info, const char *key);

/* Of this process' handle; the test ends if there is no such key. */
unsigned long long fdinfo_number(int fd, const char *key);

#endif /* TESTS_LIB_FDINFO_H */
