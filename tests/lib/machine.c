// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/serial.h>

#include "../harness.h"
#include "machine.h"
#include "probe.h"

#define PCI_DRIVERS "/sys/bus/pci/drivers"
#define PCI_PROBE "/sys/bus/pci/drivers_probe"

const char *pci_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

bool pci_exists(const char *path)
{
	return !access(path, F_OK);
}

const char *pci_attribute(const char *path, const char *name)
{
	static char file[128];

	snprintf(file, sizeof(file), "%s/%s", path, name);
	return file;
}

void pci_get_override(const char *path, char text[64])
{
	FILE *f = fopen(pci_attribute(path, "driver_override"), "re");

	text[0] = '\0';
	if (f && fgets(text, 64, f))
		text[strcspn(text, "\n")] = '\0';
	if (f)
		fclose(f);
}

void pci_make_driverless(const char *path)
{
	char driver[64], unbind[128];

	probe_driver(path, driver);
	if (driver[0]) {
		snprintf(unbind, sizeof(unbind), PCI_DRIVERS "/%s/unbind",
			 driver);
		ASSERT_TRUE(probe_write_file(unbind, pci_name(path)));
	}
	ASSERT_TRUE(probe_write_file(pci_attribute(path, "driver_override"),
				     "\n"));
	probe_driver(path, driver);
	ASSERT_STREQ("", driver);
}

void pci_make_bound(const char *path, const char *driver)
{
	char now[64];

	pci_make_driverless(path);
	ASSERT_TRUE(probe_write_file(pci_attribute(path, "driver_override"),
				     driver));
	probe_write_file(PCI_PROBE, pci_name(path));
	probe_driver(path, now);
	ASSERT_STREQ(driver, now);
}

bool pci_modprobe(const char *module)
{
	pid_t pid = test_fork();
	int status;

	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		execlp("modprobe", "modprobe", module, NULL);
		_exit(1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	return !status;
}

/* ---- the kernel's log ---- */

int pci_log_open(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	ASSERT_GE(log, 0);
	lseek(log, 0, SEEK_END);
	return log;
}

static bool log_has(int log, const char *const *texts, const char *and)
{
	char record[8192];
	bool found = false;
	ssize_t n;

	while ((n = read(log, record, sizeof(record) - 1)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		record[n] = '\0';
		for (const char *const *text = texts; *text; text++)
			if (strstr(record, *text) && strstr(record, and))
				found = true;
	}
	return found;
}

bool pci_log_has(int log, const char *a, const char *b)
{
	return log_has(log, (const char *const[]){ a, NULL }, b);
}

bool pci_log_has_fault(int log)
{
	static const char *const faults[] = {
		"DRHD: handling fault", /* Intel */
		"Event logged", /* AMD */
		"page fault", /* virtio */
		NULL,
	};

	return log_has(log, faults, "");
}

/* ---- QEMU's monitor ---- */

#define MONITOR "/dev/ttyS3"
#define PROMPT "(qemu) "

enum { ANSWER_MS = 30 * 1000 };

static int monitor_open(void)
{
	struct serial_struct serial;
	int fd = open(MONITOR, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

	/* The node is there on every machine, the line perhaps not. */
	if (fd >= 0 &&
	    (ioctl(fd, TIOCGSERIAL, &serial) || serial.type == PORT_UNKNOWN)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

void monitor_require(void)
{
	int fd = monitor_open();

	if (fd < 0)
		SKIP("needs QEMU's monitor: tests/vm/run -m");
	close(fd);
}

/*
 * What the monitor says between the echo of @command, which is redrawn with
 * each character, and the prompt; NULL: it has not said all.
 */
static char *monitor_answer(char *text, size_t len, const char *command)
{
	char *answer = strstr(text, command);

	if (answer)
		answer = strchr(answer, '\n');
	if (!answer || len < strlen(PROMPT) ||
	    strcmp(text + len - strlen(PROMPT), PROMPT))
		return NULL;
	text[len - strlen(PROMPT)] = '\0';
	return answer + 1;
}

const char *monitor_command(const char *fmt, ...)
{
	static char text[32768];
	char command[256], *answer = NULL;
	struct pollfd pfd = { .fd = monitor_open(), .events = POLLIN };
	size_t len = 0;
	va_list ap;
	int n;

	ASSERT_GE(pfd.fd, 0);
	va_start(ap, fmt);
	n = vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	ASSERT_LT(n, sizeof(command));

	/* The first end of line is for whatever was begun before. */
	ASSERT_EQ(1, write(pfd.fd, "\n", 1));
	ASSERT_EQ(n, write(pfd.fd, command, n));
	ASSERT_EQ(1, write(pfd.fd, "\n", 1));
	while (!answer) {
		ssize_t got;

		ASSERT_EQ(1, poll(&pfd, 1, ANSWER_MS));
		got = read(pfd.fd, text + len, sizeof(text) - 1 - len);
		ASSERT_GT(got, 0);
		len += got;
		text[len] = '\0';
		answer = monitor_answer(text, len, command);
		/* What is interesting comes last. */
		if (!answer && len > sizeof(text) / 2) {
			memmove(text, text + len / 2, len - len / 2 + 1);
			len -= len / 2;
		}
	}
	close(pfd.fd);
	return answer;
}
