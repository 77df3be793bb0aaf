// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the page tables of x86 say, for tests: /dev/pagetype
 *
 * A read of 24 bytes at a virtual address of the reader's gives three numbers
 * of 64 bits: the entry for that address, its level (1: 4 KiB, 2: 2 MiB,
 * 3: 1 GiB; 0: there is none), and the entry of the kernel's linear map for the
 * same memory, which is 0 for what is no RAM. At PAGETYPE_PHYSICAL + a physical
 * address, entry and level are those of the linear map.
 *
 * Not a part of kosdma: it tells physical addresses to whoever opens it.
 */
#include <linux/bits.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#define PAGETYPE_PHYSICAL BIT_ULL(62)

struct pagetype_answer {
	u64 entry;
	u64 level;
	u64 linear;
};

static void pagetype_set(struct pagetype_answer *type, u64 entry, unsigned int level)
{
	type->entry = entry;
	type->level = level;
}

/* The page tables of this process; other threads of it hold still, or its test is wrong. */
static void pagetype_user(struct mm_struct *mm, unsigned long addr, struct pagetype_answer *type)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pte_t *pte;

	if (pgd_none(*pgd))
		return;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return;
	pud = pud_offset(p4d, addr);
	if (!pud_present(*pud))
		return;
	if (pud_val(*pud) & _PAGE_PSE) {
		pagetype_set(type, pud_val(*pud), PG_LEVEL_1G);
		return;
	}
	pmd = pmd_offset(pud, addr);
	if (!pmd_present(*pmd))
		return;
	if (pmd_val(*pmd) & _PAGE_PSE) {
		pagetype_set(type, pmd_val(*pmd), PG_LEVEL_2M);
		return;
	}
	pte = pte_offset_kernel(pmd, addr);
	if (pte_present(*pte))
		pagetype_set(type, pte_val(*pte), PG_LEVEL_4K);
}

static u64 pagetype_physical(const struct pagetype_answer *type, unsigned long addr)
{
	u64 size = 1ULL << (PAGE_SHIFT + 9 * (type->level - 1));

	return (type->entry & PTE_PFN_MASK & ~(size - 1)) | (addr & (size - 1) & PAGE_MASK);
}

static u64 pagetype_linear(u64 phys, unsigned int *level)
{
	pte_t *pte;

	if (!page_is_ram(phys >> PAGE_SHIFT))
		return 0;
	pte = lookup_address((unsigned long)__va(phys), level);
	return pte ? pte_val(*pte) : 0;
}

static ssize_t pagetype_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	struct pagetype_answer type = {};
	unsigned int level = 0;
	u64 at = *pos;

	if (count != sizeof(type))
		return -EINVAL;
	if (at & PAGETYPE_PHYSICAL) {
		type.linear = pagetype_linear(at & ~PAGETYPE_PHYSICAL, &level);
		pagetype_set(&type, type.linear, level);
	} else {
		if (at >= TASK_SIZE || !current->mm)
			return -EINVAL;
		mmap_read_lock(current->mm);
		pagetype_user(current->mm, at, &type);
		mmap_read_unlock(current->mm);
		if (type.level)
			type.linear = pagetype_linear(pagetype_physical(&type, at), &level);
	}
	return copy_to_user(buf, &type, sizeof(type)) ? -EFAULT : sizeof(type);
}

static const struct file_operations pagetype_fops = {
	.owner = THIS_MODULE,
	.read = pagetype_read,
	.llseek = default_llseek,
};

static struct miscdevice pagetype_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &pagetype_fops,
	.mode = 0600,
};
module_misc_device(pagetype_device);

MODULE_DESCRIPTION("Page table entries, for the tests of kosdma");
MODULE_LICENSE("GPL");
