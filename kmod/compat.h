/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place for differences between kernel versions
 *
 * The module is written for the newest supported kernel. An older one gets an
 * inline with the newest name, or one of ours with the prefix kosdma_.
 */
#ifndef KOSDMA_COMPAT_H
#define KOSDMA_COMPAT_H

#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/workqueue.h>

/* 6.3: locks have a header of their own */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#include <linux/filelock.h>
#endif

#include <net/genetlink.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "kosdma needs Linux 6.1 or newer"
#endif

/* 6.8: MAX_PAGE_ORDER, inclusive; 6.4: MAX_ORDER inclusive; before: exclusive */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define KOSDMA_MAX_BLOCK_ORDER (MAX_ORDER - 1)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define KOSDMA_MAX_BLOCK_ORDER MAX_ORDER
#else
#define KOSDMA_MAX_BLOCK_ORDER MAX_PAGE_ORDER
#endif

/* 7.0: DMA_API_DEBUG can be told that memory is mapped more than once on purpose */
#ifndef DMA_ATTR_DEBUGGING_IGNORE_CACHELINES
#define DMA_ATTR_DEBUGGING_IGNORE_CACHELINES 0
#endif

/* 6.3: vm_flags became read-only */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif /* < 6.3 */

/* 6.3: iommu_map() and iommu_map_sg() got their gfp argument */
static inline int kosdma_iommu_map(struct iommu_domain *domain, unsigned long iova,
				   phys_addr_t start, size_t bytes, int prot)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return iommu_map(domain, iova, start, bytes, prot);
#else
	return iommu_map(domain, iova, start, bytes, prot, GFP_KERNEL_ACCOUNT);
#endif
}

static inline ssize_t kosdma_iommu_map_sgtable(struct iommu_domain *domain, unsigned long iova,
					       struct sg_table *sgt, int prot)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return iommu_map_sg(domain, iova, sgt->sgl, sgt->orig_nents, prot);
#else
	return iommu_map_sg(domain, iova, sgt->sgl, sgt->orig_nents, prot, GFP_KERNEL_ACCOUNT);
#endif
}

/* 6.11: a domain is made for a device, and fails with an error pointer */
static inline struct iommu_domain *kosdma_iommu_domain_alloc(struct device *dev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	struct iommu_domain *domain = iommu_domain_alloc(dev->bus);

	return domain ?: ERR_PTR(-ENOMEM);
#else
	return iommu_paging_domain_alloc(dev);
#endif
}

/* 6.3: whether interrupt messages are isolated is asked of the group */
static inline int kosdma_device_remaps(struct device *dev, void *data)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return device_iommu_capable(dev, IOMMU_CAP_INTR_REMAP);
#else
	return 0;
#endif
}

static inline bool kosdma_group_remaps(struct iommu_group *group)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return irq_domain_check_msi_remap() ||
	       iommu_group_for_each_dev(group, NULL, kosdma_device_remaps);
#else
	return iommu_group_has_isolated_msi(group);
#endif
}

/* Exported by every version, declared for modules by none: does Intel's driver translate? */
#if IS_ENABLED(CONFIG_INTEL_IOMMU)
extern int intel_iommu_enabled;
#define kosdma_intel_iommu() (intel_iommu_enabled != 0)
#else
#define kosdma_intel_iommu() false
#endif

/* 7.0: alloc_contig_pages() is exported */
static inline struct page *kosdma_alloc_contig(unsigned int order, gfp_t gfp)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0) || !defined(CONFIG_CONTIG_ALLOC)
	return NULL;
#else
	return alloc_contig_pages(1UL << order, gfp, numa_node_id(), NULL);
#endif
}

static inline void kosdma_free_contig(struct page *page, unsigned int order)
{
#ifdef CONFIG_CONTIG_ALLOC
	free_contig_range(page_to_pfn(page), 1UL << order);
#endif
}

/*
 * 6.2: struct genl_split_ops, an entry for a do and one for a dump. Before, they
 * share one, and the policy of the do.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct genl_split_ops {
	int (*doit)(struct sk_buff *skb, struct genl_info *info);
	int (*start)(struct netlink_callback *cb);
	int (*dumpit)(struct sk_buff *skb, struct netlink_callback *cb);
	int (*done)(struct netlink_callback *cb);
	const struct nla_policy *policy;
	unsigned int maxattr;
	u8 cmd;
	u8 internal_flags;
	u8 flags;
	u8 validate;
};

static inline int kosdma_genl_register(struct genl_family *family,
				       const struct genl_split_ops *split, unsigned int nsplit)
{
	struct genl_ops *ops, *op;
	unsigned int i;
	int ret;

	ops = kcalloc(nsplit, sizeof(*ops), GFP_KERNEL);
	if (!ops)
		return -ENOMEM;
	for (i = 0, op = ops; i < nsplit; i++) {
		if (i && split[i].cmd != op->cmd)
			op++;
		op->cmd = split[i].cmd;
		op->flags |= split[i].flags & ~(GENL_CMD_CAP_DO | GENL_CMD_CAP_DUMP);
		op->validate |= split[i].validate;
		if (split[i].doit || !op->policy) {
			op->policy = split[i].policy;
			op->maxattr = split[i].maxattr;
		}
		if (split[i].doit)
			op->doit = split[i].doit;
		if (split[i].dumpit) {
			op->start = split[i].start;
			op->dumpit = split[i].dumpit;
			op->done = split[i].done;
		}
	}
	family->ops = ops;
	family->n_ops = op - ops + 1;
	ret = genl_register_family(family);
	if (ret)
		kfree(ops);
	return ret;
}

static inline void kosdma_genl_unregister(struct genl_family *family)
{
	genl_unregister_family(family);
	kfree(family->ops);
}
#else
static inline int kosdma_genl_register(struct genl_family *family,
				       const struct genl_split_ops *split, unsigned int nsplit)
{
	family->split_ops = split;
	family->n_split_ops = nsplit;
	return genl_register_family(family);
}

static inline void kosdma_genl_unregister(struct genl_family *family)
{
	genl_unregister_family(family);
}
#endif /* split_ops */

/* 6.12: a file's owner for signals is allocated when it is set */
static inline bool kosdma_file_has_owner(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return READ_ONCE(file->f_owner.pid) || READ_ONCE(file->f_owner.signum);
#else
	return file_f_owner(file);
#endif
}

/* 6.18: the queue that schedule_delayed_work() uses was renamed */
static inline void kosdma_hurry(struct delayed_work *work)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	mod_delayed_work(system_wq, work, 0);
#else
	mod_delayed_work(system_percpu_wq, work, 0);
#endif
}

/* 6.6: the attributes of a dump are where those of a do are */
static inline struct nlattr **kosdma_dump_attrs(struct netlink_callback *cb)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	return genl_dumpit_info(cb)->attrs;
#else
	return genl_info_dump(cb)->attrs;
#endif
}

/*
 * Huge entries in PFN maps.
 * 6.12: huge_fault is called for them. Before, only fault is, and there is no bit
 * that keeps get_user_pages_fast() away: an entry that says that it belongs to a
 * device has it look for the device's struct pages, find none, and give up.
 * 6.17: vmf_insert_pfn_pmd() takes a plain page frame number.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#ifdef CONFIG_ARCH_SUPPORTS_PMD_PFNMAP
#define KOSDMA_HUGE_PFNMAP 1
#else
#define KOSDMA_HUGE_PFNMAP 0
#endif
#define KOSDMA_HUGE_BY_FAULT 0
#else
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && defined(CONFIG_ARCH_HAS_PTE_DEVMAP) && \
	defined(CONFIG_ZONE_DEVICE)
#define KOSDMA_HUGE_PFNMAP 1
#else
#define KOSDMA_HUGE_PFNMAP 0
#endif
#define KOSDMA_HUGE_BY_FAULT KOSDMA_HUGE_PFNMAP
#define PMD_ORDER (PMD_SHIFT - PAGE_SHIFT)
#endif

#if KOSDMA_HUGE_PFNMAP
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#include <linux/pfn_t.h>
#endif
static inline vm_fault_t kosdma_insert_pfn_pmd(struct vm_fault *vmf, unsigned long pfn, bool write)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return vmf_insert_pfn_pmd(vmf, __pfn_to_pfn_t(pfn, PFN_DEV | PFN_MAP), write);
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
	return vmf_insert_pfn_pmd(vmf, __pfn_to_pfn_t(pfn, PFN_DEV), write);
#else
	return vmf_insert_pfn_pmd(vmf, pfn, write);
#endif
}
#endif /* huge PFN maps */

#endif /* KOSDMA_COMPAT_H */
