// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "pci.h"
#include "probe.h"

bool pci_nth(struct pci *pci, int n)
{
	struct dirent **names;
	int nr = scandir(PCI_DEVICES, &names, NULL, alphasort);
	bool found = false;

	for (int i = 0; i < nr; i++) {
		unsigned int seg, bus, dev, fn;
		const char *name = names[i]->d_name;

		if (!found &&
		    sscanf(name, "%x:%x:%x.%x", &seg, &bus, &dev, &fn) == 4 &&
		    !seg && !n--) {
			found = true;
			snprintf(pci->name, sizeof(pci->name), "%.20s", name);
			snprintf(pci->path, sizeof(pci->path),
				 PCI_DEVICES "/%.20s", name);
			pci->bdf = bus << 8 | dev << 3 | fn;
		}
		free(names[i]);
	}
	if (nr >= 0)
		free(names);
	return found;
}

static unsigned int read_id(const struct pci *pci, const char *attribute)
{
	char path[128];
	unsigned int value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", pci->path, attribute);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%x", &value) != 1)
		value = 0;
	fclose(f);
	return value;
}

bool pci_find(struct pci *pci, uint16_t vendor, uint16_t device, int n)
{
	for (int i = 0; pci_nth(pci, i); i++)
		if (read_id(pci, "vendor") == vendor &&
		    read_id(pci, "device") == device && !n--)
			return true;
	return false;
}

void pci_require(struct pci *pci, uint16_t vendor, uint16_t device, int n,
		 const char *what)
{
	if (!pci_find(pci, vendor, device, n))
		SKIP("needs %d of QEMU's device %s", n + 1, what);
}

bool pci_bar(const struct pci *pci, int i, struct pci_bar *bar)
{
	unsigned long long start = 0, last = 0, flags = 0;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/resource", pci->path);
	f = fopen(path, "re");
	if (!f)
		return false;
	for (int line = 0; line <= i; line++)
		if (fscanf(f, "%llx %llx %llx", &start, &last, &flags) != 3)
			flags = 0;
	fclose(f);
	*bar = (struct pci_bar){ .start = start, .last = last, .flags = flags };
	return flags & 0x200 && start;
}

void pci_require_bar(const struct pci *pci, int i, struct pci_bar *bar)
{
	if (!pci_bar(pci, i, bar))
		SKIP("%s has no memory at BAR %d", pci->name, i);
}

/* The one that is a PCI function: a part of the machine, and no driver's. */
static bool is_iommu(const struct pci *pci)
{
	return read_id(pci, "vendor") == 0x1af4 &&
	       read_id(pci, "device") == 0x1057;
}

bool pci_driven_bar(int n, struct pci *pci, struct pci_bar *bar,
		    char driver[64])
{
	for (int i = 0; pci_nth(pci, i); i++) {
		probe_driver(pci->path, driver);
		if (!driver[0] || !strcmp(driver, "kosdma") || is_iommu(pci))
			continue;
		for (int b = 0; b < PCI_STD_BARS; b++)
			if (pci_bar(pci, b, bar) &&
			    !((bar->last + 1 - bar->start) % PAGE) &&
			    probe_iomem(bar->start, bar->last, driver) && !n--)
				return true;
	}
	return false;
}

void pci_unbind(const struct pci *pci)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/driver/unbind", pci->path);
	ASSERT_TRUE(probe_write_file(path, pci->name));
}

void pci_remove(const struct pci *pci)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/remove", pci->path);
	ASSERT_TRUE(probe_write_file(path, "1"));
}

void pci_rescan(void)
{
	ASSERT_TRUE(probe_write_file("/sys/bus/pci/rescan", "1"));
}
