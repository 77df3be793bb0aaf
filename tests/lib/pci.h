/* SPDX-License-Identifier: GPL-2.0-only */
/* PCI functions of this machine, by sysfs. */
#ifndef TESTS_LIB_PCI_H
#define TESTS_LIB_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_DEVICES "/sys/bus/pci/devices"

enum {
	PCI_STD_BARS = 6,
	PCI_ROM = 6,
};

struct pci {
	char path[64]; /* in sysfs */
	char name[24]; /* 0000:00:08.0 */
	uint16_t bdf;
};

struct pci_bar {
	uint64_t start, last;
	uint64_t flags;
};

/* The n-th function of segment 0 in order of address. */
bool pci_nth(struct pci *pci, int n);
/* The n-th one of this kind; or skip the test. */
bool pci_find(struct pci *pci, uint16_t vendor, uint16_t device, int n);
void pci_require(struct pci *pci, uint16_t vendor, uint16_t device, int n,
		 const char *what);

/* The i-th memory range of "resource", if it has one. */
bool pci_bar(const struct pci *pci, int i, struct pci_bar *bar);
void pci_require_bar(const struct pci *pci, int i, struct pci_bar *bar);

/* The n-th range that a driver of the kernel's has claimed, and whose. */
bool pci_driven_bar(int n, struct pci *pci, struct pci_bar *bar,
		    char driver[64]);

/* Away from its driver. */
void pci_unbind(const struct pci *pci);
/* Away from the machine, and all that is not there back to it. */
void pci_remove(const struct pci *pci);
void pci_rescan(void);

/* QEMU's, which the guests of tests/vm/check have. */
#define PCI_IVSHMEM 0x1af4, 0x1110 /* BAR 0: 256 bytes, 2: memory, 4 MiB */
#define PCI_TESTDEV 0x1b36, 0x0005 /* BAR 2: large, 64-bit, prefetchable */
#define PCI_SDHCI 0x1b36, 0x0007 /* BAR 0: 256 bytes */
enum {
	IVSHMEM_MEMORY = 2,
	TESTDEV_MEMORY = 2,
};

#endif /* TESTS_LIB_PCI_H */
