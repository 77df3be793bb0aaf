// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../harness.h"
#include "fdinfo.h"

static int parse(struct fdinfo *info)
{
	char *save, *line;

	for (line = strtok_r(info->text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value;

		if (strncmp(line, "kosdma-", 7))
			continue;
		value = strstr(line, ":\t");
		if (!value || !value[2] || info->count == FDINFO_LINES_MAX)
			return EPROTO;
		*value = '\0';
		info->key[info->count] = line + 7;
		info->value[info->count++] = value + 2;
	}
	return 0;
}

int fdinfo_read(struct fdinfo *info, pid_t pid, int fd)
{
	size_t len = 0;
	char path[64];
	ssize_t n;
	int file;

	info->count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid ?: getpid(), fd);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return errno;
	while (len < sizeof(info->text) - 1 &&
	       (n = read(file, info->text + len, sizeof(info->text) - 1 - len)) > 0)
		len += n;
	n = n < 0 ? errno : 0;
	close(file);
	info->text[len] = '\0';
	return n ?: parse(info);
}

const char *fdinfo_find(const struct fdinfo *info, const char *key)
{
	for (int i = 0; i < info->count; i++)
		if (!strcmp(info->key[i], key))
			return info->value[i];
	return NULL;
}

unsigned long long fdinfo_number(int fd, const char *key)
{
	struct fdinfo info;
	const char *value;

	ASSERT_EQ(0, fdinfo_read(&info, 0, fd));
	value = fdinfo_find(&info, key);
	ASSERT_NOT_NULL(value);
	return strtoull(value, NULL, 0);
}
