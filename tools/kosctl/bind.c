// SPDX-License-Identifier: MIT
/*
 * Give a device to kosdma and back, through sysfs
 *
 * What is done is said, one line for each file that is written, and nothing
 * more is done than is said.
 */
#define _GNU_SOURCE
#include "kosctl.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PCI "/sys/bus/pci"
#define DRIVER "kosdma"

struct target {
	struct bdf_name bdf;
	bool dry_run;
};

static char *path_of(const struct target *target, const char *file)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI "/devices/%s/%s", target->bdf.text, file);
	return path;
}

/* The driver's name, or "". */
static void get_driver(const struct target *target, char *name, size_t size)
{
	char link[PATH_MAX];
	ssize_t len = readlink(path_of(target, "driver"), link, sizeof(link) - 1);
	const char *slash;

	name[0] = '\0';
	if (len <= 0)
		return;
	link[len] = '\0';
	slash = strrchr(link, '/');
	snprintf(name, size, "%.*s", (int)size - 1, slash ? slash + 1 : link);
}

/* One line of a file, or "". */
static void get_line(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(text, (int)size, f))
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (f)
		fclose(f);
}

/* Say it, and do it unless this is a rehearsal. Returns 0 or an errno. */
static int write_file(const struct target *target, const char *path, const char *text)
{
	ssize_t len = (ssize_t)strlen(text);
	int fd, ret = 0;

	printf("%s '%s' to %s\n", target->dry_run ? "would write" : "writing",
	       *text == '\n' ? "" : text, path);
	if (target->dry_run)
		return 0;
	fflush(stdout);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		ret = errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

static int write_or_complain(const struct target *target, const char *path, const char *text)
{
	int ret = write_file(target, path, text);

	if (ret)
		complain("%s: %s", path, strerror(ret));
	return ret;
}

/* --- disks ---------------------------------------------------------------- */

/* Does the line of /proc/self/mountinfo or /proc/swaps name this block device? */
static bool line_names(const char *line, bool swaps, const char *name, const char *devno)
{
	char word[PATH_MAX];

	if (swaps)
		return sscanf(line, "/dev/%4095s", word) == 1 && !strcmp(word, name);
	return sscanf(line, "%*s %*s %4095s", word) == 1 && !strcmp(word, devno);
}

static bool file_names(const char *file, bool swaps, const char *name, const char *devno)
{
	char *line = NULL;
	size_t room = 0;
	bool found = false;
	FILE *f = fopen(file, "re");

	while (f && !found && getline(&line, &room, f) > 0)
		found = line_names(line, swaps, name, devno);
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* A directory of sysfs that stands for a block device: is it, or what lies on it, in use? */
static bool block_in_use(const char *dir, const char *name, int depth);

static bool entries_in_use(const char *dir, const char *sub, const char *prefix, int depth)
{
	char path[PATH_MAX], child[PATH_MAX];
	const struct dirent *entry;
	bool used = false;
	DIR *d;

	if (snprintf(path, sizeof(path), "%s%s", dir, sub) >= (int)sizeof(path))
		return true;
	d = opendir(path);
	while (d && !used && (entry = readdir(d))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		if (snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) >=
		    (int)sizeof(child))
			used = true;
		else
			used = block_in_use(child, entry->d_name, depth + 1);
	}
	if (d)
		closedir(d);
	return used;
}

static bool block_in_use(const char *dir, const char *name, int depth)
{
	char path[PATH_MAX], devno[32];

	/* Whatever is stacked higher than this is in use. */
	if (depth > 8 || snprintf(path, sizeof(path), "%s/dev", dir) >= (int)sizeof(path))
		return true;
	get_line(path, devno, sizeof(devno));
	if (!devno[0])
		return false;
	if (file_names("/proc/self/mountinfo", false, name, devno) ||
	    file_names("/proc/swaps", true, name, devno)) {
		complain("%s is in use: it is mounted or swapped on", name);
		return true;
	}
	/* Partitions, and what device mapper or RAID made of it. */
	return entries_in_use(dir, "", name, depth) || entries_in_use(dir, "/holders", "", depth);
}

static bool disk_in_use(const struct target *target)
{
	char path[PATH_MAX], place[PATH_MAX], part[sizeof("/") + sizeof(target->bdf) + 1];
	const struct dirent *entry;
	bool used = false;
	DIR *d = opendir("/sys/block");

	snprintf(part, sizeof(part), "/%s/", target->bdf.text);
	while (d && !used && (entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s", entry->d_name);
		if (!realpath(path, place) || !strstr(place, part))
			continue;
		used = block_in_use(place, entry->d_name, 0);
	}
	if (d)
		closedir(d);
	return used;
}

/* --- commands --------------------------------------------------------------- */

static int find_target(struct target *target, const struct options *options)
{
	target->bdf = bdf_name(options->bdf);
	target->dry_run = options->present & OPTION_DRY_RUN;
	if (access(path_of(target, ""), F_OK)) {
		complain("there is no PCI function %s", target->bdf.text);
		return EXIT_REFUSED;
	}
	return 0;
}

/* kosdma has it, or complain. */
static int check_bound(const struct target *target)
{
	char driver[64];

	if (target->dry_run)
		return 0;
	get_driver(target, driver, sizeof(driver));
	if (!strcmp(driver, DRIVER))
		return 0;
	complain("%s was not bound: %s has it", target->bdf.text, driver[0] ? driver : "no driver");
	return EXIT_REFUSED;
}

int bind_device(const struct options *options)
{
	bool force = options->present & OPTION_FORCE, refuse = false;
	char driver[64], override[64];
	struct target target;
	int ret;

	ret = find_target(&target, options);
	if (ret)
		return ret;
	get_driver(&target, driver, sizeof(driver));
	if (!strcmp(driver, DRIVER)) {
		printf("%s is bound to kosdma already\n", target.bdf.text);
		return 0;
	}
	if (access(PCI "/drivers/" DRIVER, F_OK)) {
		complain("kosdma is not loaded");
		return EXIT_NO_MODULE;
	}
	if (driver[0]) {
		complain("%s is in use: driver %s has it", target.bdf.text, driver);
		refuse = true;
	}
	if (disk_in_use(&target))
		refuse = true;
	if (refuse && !force) {
		complain("%s is left as it is; --force takes it nevertheless", target.bdf.text);
		return EXIT_REFUSED;
	}

	get_line(path_of(&target, "driver_override"), override, sizeof(override));
	if (!strcmp(override, "(null)"))
		override[0] = '\0';
	if (write_or_complain(&target, path_of(&target, "driver_override"), DRIVER))
		return EXIT_REFUSED;
	if (driver[0] &&
	    write_or_complain(&target, path_of(&target, "driver/unbind"), target.bdf.text))
		goto undo;
	/* It fails for reasons that are better seen by the result. */
	write_file(&target, PCI "/drivers_probe", target.bdf.text);
	if (!check_bound(&target)) {
		note_group(options->bdf, "one process at a time has both");
		return 0;
	}
undo:
	write_file(&target, path_of(&target, "driver_override"), override[0] ? override : "\n");
	if (driver[0])
		write_file(&target, PCI "/drivers_probe", target.bdf.text);
	return EXIT_REFUSED;
}

int unbind_device(const struct options *options)
{
	bool force = options->present & OPTION_FORCE;
	struct device device;
	struct target target;
	char driver[64];
	int ret;

	ret = find_target(&target, options);
	if (ret)
		return ret;
	get_driver(&target, driver, sizeof(driver));
	if (strcmp(driver, DRIVER)) {
		complain("%s is not bound to kosdma: %s has it", target.bdf.text,
			 driver[0] ? driver : "no driver");
		return EXIT_REFUSED;
	}
	ret = device_get(options->bdf, &device);
	if (ret)
		return ret;
	if (device.state & KOSDMA_NL_DEVICE_HELD) {
		if (device.has_pid)
			complain("%s is in use: process %u holds its group", target.bdf.text,
				 device.pid);
		else
			complain("%s is in use: a process holds its group", target.bdf.text);
		if (!force) {
			complain("%s is left as it is; --force takes it nevertheless",
				 target.bdf.text);
			return EXIT_REFUSED;
		}
	}
	if (write_or_complain(&target, PCI "/drivers/" DRIVER "/unbind", target.bdf.text) ||
	    write_or_complain(&target, path_of(&target, "driver_override"), "\n"))
		return EXIT_REFUSED;
	/* The kernel may have a driver for it, or none. */
	write_file(&target, PCI "/drivers_probe", target.bdf.text);
	return 0;
}
