// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings: a buffer or a region in the address space of one process
 *
 * The ioctl makes the virtual region itself and enters all pages before it
 * returns, so nothing faults later. Each mapping has an inode of its own, so
 * that exactly its pages can be taken away. Its VMAs hold an internal file on
 * that inode, never the handle's: closing the handle always ends the mapping.
 *
 * File offsets are aligned like the source's pages, see kosdma_mapping_pos().
 */
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/security.h>
#include <linux/slab.h>

#include "kosdma.h"
#include "trace.h"

/* Room for a guard below. */
#define KOSDMA_MAP_BASE PMD_SIZE

/* --- pages ----------------------------------------------------------------- */

static bool kosdma_mapping_is_buffer(const struct kosdma_mapping *mapping)
{
	return mapping->use.obj->ops->type == KOSDMA_HANDLE_BUFFER;
}

/* A piece of the source that is physically contiguous. */
struct kosdma_piece {
	unsigned long pfn;
	u64 bytes;
};

/* Where in the list of blocks one was, so that the next is not sought from the head. */
struct kosdma_cursor {
	struct scatterlist *sg;
	u64 base;	/* offset of the block in the source */
};

/* The piece that starts at @offset in the source, with at most @max bytes. */
static struct kosdma_piece kosdma_mapping_piece(struct kosdma_mapping *mapping,
						struct kosdma_cursor *cursor, u64 offset, u64 max)
{
	if (!kosdma_mapping_is_buffer(mapping)) {
		struct kosdma_region *region = to_region(mapping->use.obj);

		return (struct kosdma_piece) {
			.pfn = (region->start + offset) >> PAGE_SHIFT,
			.bytes = max,
		};
	}

	if (!cursor->sg || offset < cursor->base)
		*cursor = (struct kosdma_cursor) { to_buffer(mapping->use.obj)->sgt.sgl };
	while (offset - cursor->base >= cursor->sg->length) {
		cursor->base += cursor->sg->length;
		cursor->sg = sg_next(cursor->sg);
	}
	offset -= cursor->base;
	return (struct kosdma_piece) {
		.pfn = page_to_pfn(sg_page(cursor->sg)) + (offset >> PAGE_SHIFT),
		.bytes = min(max, cursor->sg->length - offset),
	};
}

struct kosdma_fill {
	struct mm_struct *mm;
	unsigned long pfn;
	pgprot_t prot;
};

static int kosdma_fill_pte(pte_t *pte, unsigned long addr, void *data)
{
	struct kosdma_fill *fill = data;

	/* Present: a racing fault has entered it. A marker of userfaultfd's gives way. */
	if (!pte_present(*pte))
		set_pte_at(fill->mm, addr, pte, pte_mkspecial(pfn_pte(fill->pfn, fill->prot)));
	fill->pfn++;
	return 0;
}

/*
 * Enter the piece at @addr in a PFN map. The page table's lock is taken once
 * for each of its pages, and the memory type is the one that the source was
 * given for sure, so no entry has to ask for it.
 */
static int kosdma_fill_special(struct vm_area_struct *vma, unsigned long addr,
			       struct kosdma_piece piece)
{
	struct kosdma_fill fill = {
		.mm = vma->vm_mm,
		.pfn = piece.pfn,
		.prot = vma->vm_page_prot,
	};

	return apply_to_page_range(vma->vm_mm, addr, piece.bytes, kosdma_fill_pte, &fill);
}

/* Enter the piece at @addr as ordinary pages, which the kernel can pin for I/O. */
static int kosdma_fill_pages(struct vm_area_struct *vma, unsigned long addr,
			     struct kosdma_piece piece)
{
	struct page *page = pfn_to_page(piece.pfn);
	u64 done;
	int ret;

	for (done = 0; done < piece.bytes; done += PAGE_SIZE, addr += PAGE_SIZE, page++) {
		ret = vm_insert_page(vma, addr, page);
		if (ret && ret != -EBUSY)
			return ret;
	}
	return 0;
}

/*
 * The file offset of the mapping's first usable byte: as far behind a multiple
 * of the size of a huge entry as the memory itself, so that the address will be.
 */
static u64 kosdma_mapping_pos(struct kosdma_mapping *mapping)
{
	return KOSDMA_MAP_BASE + mapping->offset;
}

/* Where the mapping's first usable byte is. */
unsigned long kosdma_mapping_start(const struct kosdma_mapping *mapping)
{
	return mapping->base + (mapping->flags & KOSDMA_MAP_LOW_GUARD ? PAGE_SIZE : 0);
}

/* Offset in the source of the address @addr, if it is no guard. */
static bool kosdma_mapping_offset(struct kosdma_mapping *mapping, struct vm_area_struct *vma,
				  unsigned long addr, u64 *offset)
{
	u64 pos = ((u64)vma->vm_pgoff << PAGE_SHIFT) + (addr - vma->vm_start);
	u64 first = kosdma_mapping_pos(mapping);

	if (pos < first || pos >= first + mapping->length)
		return false;
	*offset = pos - first + mapping->offset;
	return true;
}

/* Is there a huge entry at @addr? Stable while the mapping makes no new ones. */
static bool kosdma_huge_entry(struct mm_struct *mm, unsigned long addr)
{
#if KOSDMA_HUGE_PFNMAP
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d = pgd_none(READ_ONCE(*pgd)) ? NULL : p4d_offset(pgd, addr);
	pud_t *pud = !p4d || p4d_none(READ_ONCE(*p4d)) ? NULL : pud_offset(p4d, addr);
	pmd_t *pmd = !pud || pud_none(READ_ONCE(*pud)) ? NULL : pmd_offset(pud, addr);

	return pmd && pmd_leaf(READ_ONCE(*pmd));
#else
	return false;
#endif
}

/*
 * Enter the pages of [@start, @end) of a VMA of the mapping, where no guard is.
 * Where huge entries are possible, it is a part of one such entry's range.
 */
static int kosdma_mapping_fill(struct kosdma_mapping *mapping, struct vm_area_struct *vma,
			       struct kosdma_cursor *cursor, unsigned long start,
			       unsigned long end)
{
	u64 offset;
	int ret;

	lockdep_assert_held(&mapping->rwsem);
	if (kosdma_huge_entry(vma->vm_mm, start))
		return 0;
	while (start < end) {
		struct kosdma_piece piece;

		if (WARN_ON_ONCE(!kosdma_mapping_offset(mapping, vma, start, &offset)))
			return -EFAULT;
		piece = kosdma_mapping_piece(mapping, cursor, offset, end - start);
		if (mapping->flags & KOSDMA_MAP_IO)
			ret = kosdma_fill_pages(vma, start, piece);
		else
			ret = kosdma_fill_special(vma, start, piece);
		if (ret)
			return ret;
		start += piece.bytes;
	}
	return 0;
}

static vm_fault_t kosdma_mapping_dead(struct kosdma_mapping *mapping)
{
	return mapping->state == KOSDMA_REVOKED ? VM_FAULT_SIGBUS : VM_FAULT_SIGSEGV;
}

/* Do the VMA and the usable part of the mapping hold the whole range of a huge entry? */
static bool kosdma_huge_fits(struct kosdma_mapping *mapping, struct vm_area_struct *vma,
			     unsigned long addr)
{
	u64 offset;

	return addr >= vma->vm_start && vma->vm_end - addr >= PMD_SIZE &&
	       kosdma_mapping_offset(mapping, vma, addr, &offset) &&
	       mapping->offset + mapping->length - offset >= PMD_SIZE;
}

/* VM_FAULT_FALLBACK: there can be no huge entry here. */
#if KOSDMA_HUGE_PFNMAP
static vm_fault_t kosdma_vma_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct vm_area_struct *vma = vmf->vma;
	struct kosdma_mapping *mapping = vma->vm_private_data;
	unsigned long addr = vmf->address & PMD_MASK;
	vm_fault_t ret = VM_FAULT_FALLBACK;
	struct kosdma_cursor cursor = {};
	struct kosdma_piece piece;
	u64 offset;

	if (order != PMD_ORDER || vma->vm_mm != mapping->process->mm ||
	    (KOSDMA_HUGE_BY_FAULT && !pmd_none(READ_ONCE(*vmf->pmd))) ||
	    !kosdma_huge_fits(mapping, vma, addr) ||
	    !kosdma_mapping_offset(mapping, vma, addr, &offset))
		return VM_FAULT_FALLBACK;

	down_read(&mapping->rwsem);
	if (mapping->state) {
		ret = kosdma_mapping_dead(mapping);
	} else if (mapping->huge) {
		piece = kosdma_mapping_piece(mapping, &cursor, offset, PMD_SIZE);
		if (piece.bytes == PMD_SIZE && IS_ALIGNED(piece.pfn, PTRS_PER_PTE))
			ret = kosdma_insert_pfn_pmd(vmf, piece.pfn, vma->vm_flags & VM_WRITE);
	}
	up_read(&mapping->rwsem);
	return ret;
}
#else
static vm_fault_t kosdma_vma_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	return VM_FAULT_FALLBACK;
}
#endif

/*
 * All pages were entered at once, so a fault means that the owner dropped some
 * (a partial munmap, say), touches a guard or comes too late.
 */
static vm_fault_t kosdma_vma_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct kosdma_mapping *mapping = vma->vm_private_data;
	unsigned long addr = vmf->address & PAGE_MASK;
	vm_fault_t ret = VM_FAULT_NOPAGE;
	struct kosdma_cursor cursor = {};
	u64 offset;
	int err;

	if (vma->vm_mm != mapping->process->mm ||
	    !kosdma_mapping_offset(mapping, vma, addr, &offset))
		return VM_FAULT_SIGSEGV;

	if (KOSDMA_HUGE_BY_FAULT && READ_ONCE(mapping->huge)) {
		ret = kosdma_vma_huge_fault(vmf, PMD_ORDER);
		if (ret != VM_FAULT_FALLBACK)
			return ret;
		ret = VM_FAULT_NOPAGE;
	}
	/* There can be no huge entry here: then no more of them. */
	if (READ_ONCE(mapping->huge) && kosdma_huge_fits(mapping, vma, addr & PMD_MASK)) {
		down_write(&mapping->rwsem);
		WRITE_ONCE(mapping->huge, false);
		up_write(&mapping->rwsem);
	}

	down_read(&mapping->rwsem);
	if (mapping->state) {
		ret = kosdma_mapping_dead(mapping);
	} else {
		err = kosdma_mapping_fill(mapping, vma, &cursor, addr, addr + PAGE_SIZE);
		if (err)
			ret = err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	}
	up_read(&mapping->rwsem);
	return ret;
}

/*
 * A fork child gets nothing, whatever madvise() has said before. Depending on
 * the kernel, pages are copied after this or were copied before it; then the
 * parent finds its own again by faults.
 */
static void kosdma_vma_open(struct vm_area_struct *vma)
{
	struct kosdma_mapping *mapping = vma->vm_private_data;

	if (vma->vm_mm == mapping->process->mm)
		return;
	vm_flags_set(vma, VM_WIPEONFORK);
	unmap_mapping_range(vma->vm_file->f_mapping, 0, 0, 1);
}

/* The region belongs where it was made: it does not move. */
static int kosdma_vma_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

static const struct vm_operations_struct kosdma_vma_ops = {
	.open = kosdma_vma_open,
	.fault = kosdma_vma_fault,
	.mremap = kosdma_vma_mremap,
#if KOSDMA_HUGE_PFNMAP && !KOSDMA_HUGE_BY_FAULT
	.huge_fault = kosdma_vma_huge_fault,
#endif
};

/* What a page table entry with the protection @prot gets besides. */
static pgprot_t kosdma_mapping_prot(struct kosdma_mapping *mapping, pgprot_t prot)
{
	if (kosdma_mapping_is_buffer(mapping))
		return kosdma_memtype_ram_prot(prot, mapping->cache);
	return kosdma_memtype_prot(&mapping->memtype, prot, mapping->cache);
}

/* --- the internal file ------------------------------------------------------ */

/*
 * Reached by the vm_mmap() of kosdma_mapping_place() only: no descriptor ever
 * names this file. It enters no page, because unmap_mapping_range() cannot find
 * the VMA yet.
 */
static int kosdma_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct kosdma_mapping *mapping = file->private_data;
	vm_flags_t flags = VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY;

	if (!kosdma_process_is_current(mapping->process))
		return -EACCES;
	/* Once: remap_file_pages() would come here again, with an offset of its caller's. */
	if (mapping->base)
		return -EINVAL;
	mapping->base = vma->vm_start;
	vm_flags_clear(vma, VM_EXEC | VM_MAYEXEC);
	if (!(mapping->flags & KOSDMA_MAP_READ))
		vm_flags_clear(vma, VM_MAYREAD);
	if (!(mapping->flags & KOSDMA_MAP_WRITE))
		vm_flags_clear(vma, VM_MAYWRITE);
	flags |= mapping->flags & KOSDMA_MAP_IO ? VM_MIXEDMAP | VM_WIPEONFORK : VM_IO | VM_PFNMAP;
	vm_flags_set(vma, flags);
	vma->vm_page_prot = kosdma_mapping_prot(mapping, vm_get_page_prot(vma->vm_flags));
	vma->vm_private_data = mapping;
	vma->vm_ops = &kosdma_vma_ops;
	return 0;
}

static int kosdma_file_release(struct inode *inode, struct file *file)
{
	struct kosdma_mapping *mapping = file->private_data;

	kosdma_object_put(&mapping->obj);
	return 0;
}

static const struct file_operations kosdma_file_fops = {
	.owner = THIS_MODULE,
	.mmap = kosdma_file_mmap,
	.release = kosdma_file_release,
	.get_unmapped_area = thp_get_unmapped_area,
};

static int kosdma_fs_init_context(struct fs_context *fc)
{
	return init_pseudo(fc, 0x6b6f7364 /* "kosd" */) ? 0 : -ENOMEM;
}

static struct file_system_type kosdma_fs_type = {
	.name = "kosdma",
	.owner = THIS_MODULE,
	.init_fs_context = kosdma_fs_init_context,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *kosdma_mnt;
static int kosdma_mnt_count;

/*
 * The file system is there while a mapping lives, and, as to mount it costs as much
 * as a mapping, while a descriptor of the device is open.
 */
int kosdma_mapping_fs_get(void)
{
	return simple_pin_fs(&kosdma_fs_type, &kosdma_mnt, &kosdma_mnt_count);
}

void kosdma_mapping_fs_put(void)
{
	simple_release_fs(&kosdma_mnt, &kosdma_mnt_count);
}

/* Its file takes a reference on it. The file system is pinned until the object is freed. */
static int kosdma_mapping_open(struct kosdma_mapping *mapping)
{
	struct inode *inode;
	struct file *file;
	int ret;

	inode = alloc_anon_inode(kosdma_mnt->mnt_sb);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	/* The last fput() puts the module; alloc_file_pseudo() does not take it. */
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, kosdma_mnt, "kosdma", O_RDWR, &kosdma_file_fops);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		module_put(THIS_MODULE);
		iput(inode);
		return ret;
	}
	kosdma_object_get(&mapping->obj);
	file->private_data = mapping;
	/* With all that the file is: pairs with kosdma_mapping_revoke(). */
	smp_store_release(&mapping->file, file);
	return 0;
}

/* --- life ------------------------------------------------------------------ */

/**
 * kosdma_mapping_revoke() - take the pages away
 * @mapping: its pages are gone from the address space when this returns
 * @how: decides what a later touch is: SIGBUS if revoked, else SIGSEGV
 *
 * The device lock may be held.
 */
void kosdma_mapping_revoke(struct kosdma_mapping *mapping, enum kosdma_end how)
{
	struct file *file;

	down_write(&mapping->rwsem);
	if (!mapping->state) {
		mapping->state = how;
		/* Pairs with kosdma_mapping_open(). */
		file = smp_load_acquire(&mapping->file);
		if (file)
			unmap_mapping_range(file->f_mapping, 0, 0, 1);
		kosdma_memtype_release(&mapping->memtype);
		trace_mapping_end(mapping, how);
	}
	up_write(&mapping->rwsem);
	kosdma_object_set_ended(&mapping->obj, how);
}

/**
 * kosdma_mapping_end() - take the pages away, and let go of the source
 * @mapping: a mapping that was enlisted in its process
 * @how: as for kosdma_mapping_revoke()
 *
 * Called without locks.
 */
void kosdma_mapping_end(struct kosdma_mapping *mapping, enum kosdma_end how)
{
	struct file *file = NULL;

	kosdma_mapping_revoke(mapping, how);
	mutex_lock(&mapping->process->lock);
	if (!mapping->done) {
		mapping->done = true;
		file = mapping->file;
		mapping->file = NULL;
		list_del_init(&mapping->node);
		if (kosdma_mapping_is_buffer(mapping))
			kosdma_buffer_unuse(to_buffer(mapping->use.obj));
	}
	mutex_unlock(&mapping->process->lock);
	if (file)
		fput(file);
	kosdma_use_del(&mapping->use);
	/* Last: whoever waits for the claim finds out by it whom to wait for. */
	if (!kosdma_mapping_is_buffer(mapping))
		kosdma_region_clear_mapping(to_region(mapping->use.obj), mapping);
}

static void kosdma_mapping_object_end(struct kosdma_object *obj, enum kosdma_end how)
{
	kosdma_mapping_end(to_mapping(obj), how);
}

/*
 * Remove the mapping's VMAs from the caller's address space: those that are
 * left of it, and nothing else that may lie between them by now.
 */
static void kosdma_mapping_close(struct kosdma_object *obj)
{
	struct kosdma_mapping *mapping = to_mapping(obj);
	struct mm_struct *mm = current->mm;
	unsigned long addr = mapping->base;
	unsigned long end = addr + mapping->length + 2 * PAGE_SIZE;

	kosdma_mapping_end(mapping, KOSDMA_ENDED);
	while (addr && addr < end) {
		struct vm_area_struct *vma;
		unsigned long start = 0;

		mmap_read_lock(mm);
		vma = find_vma(mm, addr);
		if (vma && vma->vm_start < end) {
			addr = vma->vm_end;
			if (vma->vm_ops == &kosdma_vma_ops && vma->vm_private_data == mapping)
				start = vma->vm_start;
		} else {
			addr = end;
		}
		mmap_read_unlock(mm);
		if (start)
			vm_munmap(start, addr - start);
	}
}

static void kosdma_mapping_drop(struct kosdma_object *obj)
{
	struct kosdma_mapping *mapping = to_mapping(obj);

	if (mapping->use.obj)
		kosdma_object_put(mapping->use.obj);
	kosdma_process_put(mapping->process);
	kosdma_mapping_fs_put();
}

static void kosdma_mapping_show(struct seq_file *m, struct kosdma_object *obj)
{
	struct kosdma_mapping *mapping = to_mapping(obj);

	seq_printf(m, "kosdma-source:\t%u\n", mapping->use.obj->sid);
	seq_printf(m, "kosdma-start:\t%#lx\n", kosdma_mapping_start(mapping));
	seq_printf(m, "kosdma-offset:\t%llu\n", mapping->offset);
	seq_printf(m, "kosdma-length:\t%llu\n", mapping->length);
	seq_printf(m, "kosdma-flags:\t%#x\n", mapping->flags);
	seq_printf(m, "kosdma-cache:\t%s\n", kosdma_memtype_name(mapping->cache));
}

static const struct kosdma_object_ops kosdma_mapping_ops = {
	.type = KOSDMA_HANDLE_MAPPING,
	.name = "[kosdma-mapping]",
	.close = kosdma_mapping_close,
	.end = kosdma_mapping_object_end,
	.drop = kosdma_mapping_drop,
	.show = kosdma_mapping_show,
};

/* A mapping that is not anywhere yet, with one reference. */
static struct kosdma_mapping *kosdma_mapping_new(u64 offset, u64 length, u32 flags)
{
	struct kosdma_mapping *mapping;
	int ret;

	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);
	if (!mapping)
		return ERR_PTR(-ENOMEM);
	mapping->offset = offset;
	mapping->length = length;
	mapping->flags = flags;
	mapping->huge = KOSDMA_HUGE_PFNMAP && !(flags & KOSDMA_MAP_IO);
	init_rwsem(&mapping->rwsem);
	INIT_LIST_HEAD(&mapping->node);

	mapping->process = kosdma_process_current();
	if (IS_ERR(mapping->process)) {
		ret = PTR_ERR(mapping->process);
		goto err_free;
	}
	ret = kosdma_mapping_fs_get();
	if (ret)
		goto err_process;
	ret = kosdma_object_init(&mapping->obj, &kosdma_mapping_ops, NULL);
	if (ret)
		goto err_fs;
	return mapping;

err_fs:
	kosdma_mapping_fs_put();
err_process:
	kosdma_process_put(mapping->process);
err_free:
	kfree(mapping);
	return ERR_PTR(ret);
}

/* The VMA of the mapping at @addr in the caller's address space, or NULL. */
static struct vm_area_struct *kosdma_mapping_vma(struct kosdma_mapping *mapping,
						 unsigned long addr)
{
	struct vm_area_struct *vma;

	mmap_assert_locked(current->mm);
	vma = find_vma(current->mm, addr);
	if (!vma || vma->vm_start > addr || vma->vm_ops != &kosdma_vma_ops ||
	    vma->vm_private_data != mapping)
		return NULL;
	return vma;
}

/* Enter all pages, by huge entries where they fit. */
static int kosdma_mapping_populate(struct kosdma_mapping *mapping)
{
	unsigned int fault = mapping->flags & KOSDMA_MAP_WRITE ? FAULT_FLAG_WRITE : 0;
	unsigned long addr = kosdma_mapping_start(mapping);
	unsigned long end = addr + mapping->length;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma = NULL;
	struct kosdma_cursor cursor = {};
	int ret = 0;

	mmap_read_lock(mm);
	while (addr < end && !ret) {
		unsigned long next;

		if (!vma || addr == vma->vm_end)
			vma = kosdma_mapping_vma(mapping, addr);
		/* Another thread has removed it already: its own loss. */
		if (!vma || fatal_signal_pending(current)) {
			ret = -ENOMEM;
			break;
		}
		/* One huge entry at most; and whoever revokes need not wait for more. */
		next = min3(end, vma->vm_end, ALIGN(addr + 1, PMD_SIZE));
		if (READ_ONCE(mapping->huge) && kosdma_huge_fits(mapping, vma, addr))
			ret = fixup_user_fault(mm, addr, fault, NULL);

		down_read(&mapping->rwsem);
		if (mapping->state)
			ret = -EKEYREVOKED;
		else if (!ret)
			ret = kosdma_mapping_fill(mapping, vma, &cursor, addr, next);
		up_read(&mapping->rwsem);
		addr = next;
		cond_resched();
	}
	mmap_read_unlock(mm);
	return ret && ret != -EKEYREVOKED ? -ENOMEM : ret;
}

/*
 * Put the mapping into the caller's address space, at @hint if it is not 0, and
 * enter its pages.
 */
static int kosdma_mapping_place(struct kosdma_mapping *mapping, unsigned long hint)
{
	unsigned long low = mapping->flags & KOSDMA_MAP_LOW_GUARD ? PAGE_SIZE : 0;
	unsigned long high = mapping->flags & KOSDMA_MAP_HIGH_GUARD ? PAGE_SIZE : 0;
	unsigned long total, addr, prot = 0, flags = MAP_SHARED;
	struct file *file;

	if (check_add_overflow((unsigned long)mapping->length, low + high, &total))
		return -ENOMEM;
	if (hint) {
		if (hint <= low || hint - low > TASK_SIZE || TASK_SIZE - (hint - low) < total)
			return -EEXIST;
		hint -= low;
		flags |= MAP_FIXED_NOREPLACE;
	}
	if (mapping->flags & KOSDMA_MAP_READ)
		prot |= PROT_READ;
	if (mapping->flags & KOSDMA_MAP_WRITE)
		prot |= PROT_WRITE;

	/* A revoke may end the mapping any time and drop its file. */
	mutex_lock(&mapping->process->lock);
	file = mapping->file;
	if (file)
		get_file(file);
	mutex_unlock(&mapping->process->lock);
	if (!file)
		return -EKEYREVOKED;
	addr = vm_mmap(file, hint, total, prot, flags,
		       kosdma_mapping_pos(mapping) - low);
	fput(file);
	/* Below the lowest address of user space, a hint cannot be honoured either. */
	if (IS_ERR_VALUE(addr))
		return hint && ((long)addr == -EEXIST || (long)addr == -EPERM) ? -EEXIST : -ENOMEM;
	return kosdma_mapping_populate(mapping);
}

/* Enter it into its process, so that it ends with it. */
static void kosdma_mapping_enlist(struct kosdma_mapping *mapping)
{
	mutex_lock(&mapping->process->lock);
	list_add_tail(&mapping->node, &mapping->process->mappings);
	mutex_unlock(&mapping->process->lock);
}

/*
 * What both kinds of map have in common, after the source is set up: record the
 * use, place the mapping and make its handle. Consumes the reference.
 */
static int kosdma_mapping_finish(struct kosdma_mapping *mapping, struct kosdma_handle *source,
				 u64 hint, struct kosdma_ucmd *ucmd, u64 *out_addr,
				 s32 *out_handle)
{
	int ret;

	kosdma_mapping_enlist(mapping);
	ret = kosdma_mapping_open(mapping);
	if (!ret)
		ret = kosdma_use_add(&mapping->use, &mapping->obj, source);
	if (!ret)
		ret = kosdma_mapping_place(mapping, hint);
	if (!ret)
		ret = kosdma_handle_create(ucmd, &mapping->obj, KOSDMA_RIGHT_GET_SID, NULL, NULL,
					   out_handle);
	if (ret) {
		kosdma_mapping_close(&mapping->obj);
	} else {
		*out_addr = kosdma_mapping_start(mapping);
		trace_mapping_map(mapping, *out_addr);
		kosdma_stat_add(KOSDMA_STAT_MAPS, 1);
	}
	kosdma_object_put(&mapping->obj);
	return ret;
}

/* --- ioctls ------------------------------------------------------------------ */

/* Take the buffer as the source of @mapping, if it is fit for it. */
static int kosdma_mapping_set_buffer(struct kosdma_mapping *mapping, struct kosdma_buffer *buffer)
{
	u32 cache;
	int ret;

	if (mapping->offset > buffer->length ||
	    mapping->length > buffer->length - mapping->offset)
		return -EINVAL;

	mutex_lock(&buffer->lock);
	cache = kosdma_attr_cache(buffer->attr, 0);
	if (mapping->flags & KOSDMA_MAP_IO &&
	    (buffer->contiguous || buffer->order > KOSDMA_MAX_BLOCK_ORDER ||
	     cache != KOSDMA_ATTR_WRITE_BACK))
		ret = -EOPNOTSUPP;
	else
		ret = kosdma_buffer_use(buffer);
	if (!ret && mapping->flags & KOSDMA_MAP_IO)
		kosdma_buffer_split(buffer);
	mutex_unlock(&buffer->lock);
	if (ret)
		return ret;

	mapping->use.obj = kosdma_object_get(&buffer->obj);
	mapping->cache = cache;
	return 0;
}

int kosdma_ioctl_buffer_map(struct kosdma_ucmd *ucmd)
{
	struct kosdma_buffer_map *cmd = ucmd->cmd;
	struct kosdma_mapping *mapping;
	struct kosdma_handle *source;
	u32 rights;
	int ret;

	if (cmd->flags & ~(KOSDMA_MAP_PROT | KOSDMA_MAP_LOW_GUARD | KOSDMA_MAP_HIGH_GUARD |
			   KOSDMA_MAP_IO) ||
	    !(cmd->flags & KOSDMA_MAP_PROT) || cmd->__reserved || cmd->__reserved2 ||
	    !cmd->length || !IS_ALIGNED(cmd->offset | cmd->length | cmd->hint, PAGE_SIZE))
		return -EINVAL;
	rights = kosdma_rights_map(cmd->flags, KOSDMA_RIGHT_DMA_READ, KOSDMA_RIGHT_DMA_WRITE);
	if (cmd->flags & KOSDMA_MAP_IO)
		rights |= KOSDMA_RIGHT_DMA_IO;
	source = kosdma_handle_get(cmd->handle, KOSDMA_HANDLE_BUFFER, rights);
	if (IS_ERR(source))
		return PTR_ERR(source);

	mapping = kosdma_mapping_new(cmd->offset, cmd->length, cmd->flags);
	if (IS_ERR(mapping)) {
		ret = PTR_ERR(mapping);
		goto out_source;
	}
	ret = kosdma_mapping_set_buffer(mapping, to_buffer(source->obj));
	if (ret) {
		kosdma_object_put(&mapping->obj);
		goto out_source;
	}
	ret = kosdma_mapping_finish(mapping, source, cmd->hint, ucmd, &cmd->out_addr,
				    &cmd->out_handle);
out_source:
	kosdma_handle_put(source);
	return ret;
}

/* Take the region as the source of @mapping, with the memory type @cache. */
static int kosdma_mapping_set_region(struct kosdma_mapping *mapping, struct kosdma_region *region,
				     u32 cache)
{
	int ret;

	ret = kosdma_region_set_mapping(region, mapping);
	if (ret)
		return ret;
	/* From now on the device may go, and take the mapping along. */
	down_write(&mapping->rwsem);
	if (mapping->state)
		ret = -ENODEV;
	else
		ret = kosdma_memtype_reserve(&mapping->memtype, region->start, region->length,
					     cache);
	up_write(&mapping->rwsem);
	if (ret) {
		kosdma_region_clear_mapping(region, mapping);
		return ret;
	}
	WRITE_ONCE(mapping->use.obj, kosdma_object_get(&region->obj));
	mapping->cache = cache;
	/* They have no struct page, and mbind() asks a huge entry for it without a second look. */
	mapping->huge = false;
	return 0;
}

int kosdma_ioctl_region_map(struct kosdma_ucmd *ucmd)
{
	struct kosdma_region_map *cmd = ucmd->cmd;
	u32 cache = kosdma_attr_cache(cmd->attr, KOSDMA_ATTR_CACHE_DISABLE);
	struct kosdma_mapping *mapping;
	struct kosdma_handle *source;
	struct kosdma_region *region;
	int ret;

	if (cmd->flags & ~KOSDMA_MAP_PROT || !cmd->flags || cmd->__reserved ||
	    cmd->attr & ~KOSDMA_ATTR_CACHE || !cache)
		return -EINVAL;
	source = kosdma_handle_get(cmd->handle, KOSDMA_HANDLE_REGION,
				   kosdma_rights_map(cmd->flags, KOSDMA_RIGHT_MMIO_READ,
						     KOSDMA_RIGHT_MMIO_WRITE));
	if (IS_ERR(source))
		return PTR_ERR(source);
	region = to_region(source->obj);

	mapping = kosdma_mapping_new(0, region->length, cmd->flags);
	if (IS_ERR(mapping)) {
		ret = PTR_ERR(mapping);
		goto out_source;
	}
	ret = kosdma_mapping_set_region(mapping, region, cache);
	if (ret) {
		kosdma_object_put(&mapping->obj);
		goto out_source;
	}
	ret = kosdma_mapping_finish(mapping, source, 0, ucmd, &cmd->out_addr, &cmd->out_handle);
	if (ret == -EKEYREVOKED) {
		/* Perhaps not by whoever gave the handle: the device was taken away. */
		mutex_lock(&region->lock);
		if (region->gone)
			ret = -ENODEV;
		mutex_unlock(&region->lock);
	}
out_source:
	kosdma_handle_put(source);
	return ret;
}
