// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters behind inject.h, and inject_fault, which does what it tells
 */
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/limits.h>
#include <linux/moduleparam.h>

#include "inject.h"
#include "kosdma.h"

bool kosdma_inject_unquiet;
module_param_named(inject_unquiet, kosdma_inject_unquiet, bool, 0600);

uint kosdma_inject_block_order = UINT_MAX;
module_param_named(inject_block_order, kosdma_inject_block_order, uint, 0600);

uint kosdma_inject_teardown_ms;
module_param_named(inject_teardown_ms, kosdma_inject_teardown_ms, uint, 0600);

uint kosdma_inject_tell_ms;
module_param_named(inject_tell_ms, kosdma_inject_tell_ms, uint, 0600);

/* Under the domain's lock: tell of a fault as its IOMMU's driver does, from an interrupt. */
static int kosdma_inject_fault_in(struct kosdma_domain *domain, u32 address)
{
	struct device *culprit = NULL;
	struct kosdma_device *dev;
	struct kosdma_hwdom *hwdom;
	unsigned long flags;
	int ret;

	hwdom = list_first_entry_or_null(&domain->hwdoms, struct kosdma_hwdom, node);
	list_for_each_entry(dev, &domain->devices, domain_node) {
		if (dev->address == address) {
			culprit = &dev->pdev->dev;
			hwdom = dev->group->hwdom;
		}
	}
	if (!hwdom || (!culprit && address != KOSDMA_NO_ADDRESS))
		return -ENODEV;
	local_irq_save(flags);
	ret = report_iommu_fault(hwdom->iommu, culprit, PAGE_SIZE, IOMMU_FAULT_WRITE);
	local_irq_restore(flags);
	/* Whatever else it says, the driver does not log the fault, or found nobody to tell. */
	return ret == -EFAULT ? 0 : -EIO;
}

/* "SID [ADDRESS]": a fault of a domain's device, or of one that the driver cannot name. */
static int kosdma_inject_fault(const char *text, const struct kernel_param *param)
{
	u32 wanted, sid, address = KOSDMA_NO_ADDRESS;
	struct kosdma_object *obj;
	int ret = -ENOENT;

	if (sscanf(text, "%u %x", &wanted, &address) < 1)
		return -EINVAL;
	sid = wanted;
	obj = kosdma_object_next(&sid, BIT(KOSDMA_HANDLE_DOMAIN));
	if (!obj)
		return -ENOENT;
	if (sid == wanted) {
		struct kosdma_domain *domain = to_domain(obj);

		mutex_lock(&domain->lock);
		ret = kosdma_inject_fault_in(domain, address);
		mutex_unlock(&domain->lock);
	}
	kosdma_object_put(obj);
	return ret;
}

static const struct kernel_param_ops kosdma_inject_fault_ops = { .set = kosdma_inject_fault };
module_param_cb(inject_fault, &kosdma_inject_fault_ops, NULL, 0200);
