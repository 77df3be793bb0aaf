// SPDX-License-Identifier: GPL-2.0-only
/*
 * BARs: where the registers of PCI functions lie
 */
#include <linux/pci.h>

#include "kosdma.h"

/* Does the function decode addresses by this register: a BAR, its ROM, or those of SR-IOV? */
static bool kosdma_is_bar(const struct pci_dev *pdev, int i)
{
	const struct resource *bar = &pdev->resource[i];

	return bar->flags & IORESOURCE_MEM && !(bar->flags & IORESOURCE_UNSET) &&
	       resource_size(bar) && bar->start;
}

/**
 * kosdma_bar_find() - the BAR in whose pages a range lies
 * @start: first physical address, page aligned
 * @last: last physical address, inclusive, the last of a page
 * @found: the function and its BAR, with a reference; put by pci_dev_put()
 *
 * A page belongs to a BAR if the BAR begins with it or before it, reaches into
 * it, and no other BAR of the machine does.
 *
 * Return: 0 (in a BAR); -ENOENT (no BAR is touched); -EPERM: the range touches
 * BARs, but is not in the pages of exactly one; @found is one that is touched.
 */
int kosdma_bar_find(u64 start, u64 last, struct kosdma_bar *found)
{
	struct pci_dev *pdev = NULL;
	int ret = -ENOENT, i;

	for_each_pci_dev(pdev) {
		for (i = 0; i < PCI_BRIDGE_RESOURCES; i++) {
			const struct resource *bar = &pdev->resource[i];

			if (!kosdma_is_bar(pdev, i) || bar->start > last || bar->end < start)
				continue;
			if (ret == -ENOENT) {
				*found = (struct kosdma_bar) {
					.pdev = pci_dev_get(pdev),
					.start = bar->start,
					.last = bar->end,
				};
				if (i < PCI_STD_NUM_BARS && !kosdma_pci_is_machine(pdev) &&
				    bar->start <= start && last <= (bar->end | ~PAGE_MASK))
					ret = 0;
				else
					ret = -EPERM;
			} else {
				/* Of two, the one to name is not the one that was wanted. */
				if (!ret) {
					pci_dev_put(found->pdev);
					found->pdev = pci_dev_get(pdev);
					found->start = bar->start;
					found->last = bar->end;
				}
				ret = -EPERM;
			}
		}
	}
	return ret;
}

/**
 * kosdma_range_stays() - is a range where nothing can be unplugged?
 * @start: first physical address
 * @last: last physical address, inclusive
 * @driven: it may be in a BAR
 *
 * Under pci_lock_rescan_remove(). Return: whether it is outside all that bridges
 * forward, and all BARs.
 */
bool kosdma_range_stays(u64 start, u64 last, bool driven)
{
	struct pci_dev *pdev = NULL;
	int i;

	for_each_pci_dev(pdev) {
		for (i = driven ? PCI_BRIDGE_RESOURCES : 0; i < PCI_NUM_RESOURCES; i++) {
			const struct resource *res = &pdev->resource[i];

			if (kosdma_is_bar(pdev, i) && res->start <= last && res->end >= start) {
				pci_dev_put(pdev);
				return false;
			}
		}
	}
	return true;
}
