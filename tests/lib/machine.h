/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI functions and their drivers, by sysfs; what the kernel's log says of
 * them; and QEMU's monitor, by which they are plugged and unplugged.
 *
 * A path is as in struct edu: /sys/bus/pci/devices/0000:00:08.0
 */
#ifndef TESTS_LIB_MACHINE_H
#define TESTS_LIB_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

/* The last part of the path. */
const char *pci_name(const char *path);
bool pci_exists(const char *path);

/* A file of the function. The answer is valid until the next call. */
const char *pci_attribute(const char *path, const char *name);
void pci_get_override(const char *path, char text[64]);

/* No driver, and none wished for: as a device without one is found. */
void pci_make_driverless(const char *path);
/* Bound to that driver, whatever it was before. */
void pci_make_bound(const char *path, const char *driver);

bool pci_modprobe(const char *module);

/* The kernel's log from here on; whether it has a record with both texts. */
int pci_log_open(void);
bool pci_log_has(int log, const char *a, const char *b);
/* Whether an IOMMU has reported a fault. */
bool pci_log_has_fault(int log);

/* Skip the test unless tests/vm/run -m started this guest. */
void monitor_require(void);

/*
 * Give QEMU's monitor (HMP) a command, and get what it says, without prompt and
 * echo; mostly nothing. The answer is valid until the next call.
 */
const char *monitor_command(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

#endif /* TESTS_LIB_MACHINE_H */
