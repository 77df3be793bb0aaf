// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory types: what the CPU's caches do with a page
 *
 * x86 must not see one page with two types. For RAM, the kernel's own mapping
 * decides, and is changed. For device registers, the kernel tracks the types of
 * its own mappings; we make one, for as long as a process maps the registers,
 * and give the process what it says. Either what was asked for is what is
 * given, or the call is refused.
 */
#include <linux/io.h>
#include <linux/mm.h>
#if IS_ENABLED(CONFIG_X86)
#include <asm/memtype.h>
#include <asm/set_memory.h>
#endif

#include "kosdma.h"

/* The cache type named by @attr, as one bit; @fallback if it names none; 0 if it names several. */
u32 kosdma_attr_cache(u32 attr, u32 fallback)
{
	u32 cache = attr & KOSDMA_ATTR_CACHE;

	if (!cache)
		return fallback;
	return is_power_of_2(cache) ? cache : 0;
}

/**
 * kosdma_memtype_name() - for people
 * @cache: one bit of enum kosdma_attr
 *
 * Return: the name.
 */
const char *kosdma_memtype_name(u32 cache)
{
	switch (cache) {
	case KOSDMA_ATTR_WRITE_BACK:
		return "write-back";
	case KOSDMA_ATTR_WRITE_THROUGH:
		return "write-through";
	case KOSDMA_ATTR_WRITE_COMBINE:
		return "write-combining";
	default:
		return "uncached";
	}
}

/* --- RAM --------------------------------------------------------------------- */

/**
 * kosdma_memtype_ram_supported() - can RAM have a type on this machine?
 * @cache: one bit of enum kosdma_attr
 */
bool kosdma_memtype_ram_supported(u32 cache)
{
	switch (cache) {
	case KOSDMA_ATTR_WRITE_BACK:
		return true;
#if IS_ENABLED(CONFIG_X86)
	case KOSDMA_ATTR_WRITE_COMBINE:
		return pat_enabled();
	case KOSDMA_ATTR_CACHE_DISABLE:
		return true;
#endif
	default:
		/* The tracked memory type of RAM has no write-through on x86. */
		return false;
	}
}

/**
 * kosdma_memtype_ram_set() - change the type of pages in the kernel's mapping
 * @page: first page
 * @npages: how many
 * @cache: supported; from one type to another only by way of write-back
 *
 * Return: 0 or an errno.
 */
int kosdma_memtype_ram_set(struct page *page, int npages, u32 cache)
{
#if IS_ENABLED(CONFIG_X86)
	unsigned long addr = (unsigned long)page_address(page);

	switch (cache) {
	case KOSDMA_ATTR_WRITE_COMBINE:
		return set_memory_wc(addr, npages);
	case KOSDMA_ATTR_CACHE_DISABLE:
		return set_memory_uc(addr, npages);
	default:
		return set_memory_wb(addr, npages);
	}
#else
	return -EOPNOTSUPP;
#endif
}

/**
 * kosdma_memtype_ram_prot() - what a page table entry of RAM gets
 * @prot: protection
 * @cache: the type that the pages have
 */
pgprot_t kosdma_memtype_ram_prot(pgprot_t prot, u32 cache)
{
	switch (cache) {
	case KOSDMA_ATTR_WRITE_COMBINE:
		return pgprot_writecombine(prot);
	case KOSDMA_ATTR_CACHE_DISABLE:
		return pgprot_noncached(prot);
	default:
		return prot;
	}
}

/* --- device registers ---------------------------------------------------------- */

#if IS_ENABLED(CONFIG_X86)
/* The cache bits of the kernel's mapping, as those of a small page. */
static bool kosdma_memtype_bits(void __iomem *addr, pgprotval_t *bits)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)addr, &level);
	pgprot_t prot;

	if (!pte || !(pte_flags(*pte) & _PAGE_PRESENT))
		return false;
	prot = __pgprot(pte_flags(*pte));
	/* A large one has a bit of its type where small ones have the address. */
	if (level != PG_LEVEL_4K)
		prot = pgprot_large_2_4k(__pgprot(pgprot_val(prot) |
						  (pte_val(*pte) & _PAGE_PAT_LARGE)));
	*bits = pgprot_val(prot) & _PAGE_CACHE_MASK;
	return true;
}

/*
 * Can the range be mapped cached: do the range registers (MTRR) and its other
 * mappings allow it? The kernel asks the registers about write-back only; but
 * where they say uncached, the CPU takes write-through for uncached as well.
 */
static bool kosdma_memtype_cacheable(u64 start, u64 length)
{
	void __iomem *addr = ioremap_cache(start, length);
	pgprotval_t bits;
	bool cacheable;

	if (!addr)
		return false;
	/* Write-through by another mapping of ours, which was asked the same. */
	cacheable = kosdma_memtype_bits(addr, &bits) &&
		    (bits == 0 || bits == pgprot_val(pgprot_writethrough(__pgprot(0))));
	iounmap(addr);
	return cacheable;
}

/* Is what the tracked type makes of it what was asked for? */
static bool kosdma_memtype_is(pgprotval_t bits, u32 cache)
{
	const pgprot_t none = __pgprot(0);

	switch (cache) {
	case KOSDMA_ATTR_WRITE_BACK:
		return bits == 0;
	case KOSDMA_ATTR_WRITE_THROUGH:
		return pat_enabled() && bits == pgprot_val(pgprot_writethrough(none));
	case KOSDMA_ATTR_WRITE_COMBINE:
		return pat_enabled() && bits == pgprot_val(pgprot_writecombine(none));
	default:
		/* Uncached, whether or not a range register may make it write-combining. */
		return bits == pgprot_val(pgprot_noncached(none)) ||
		       bits == cachemode2protval(_PAGE_CACHE_MODE_UC);
	}
}
#else
static bool kosdma_memtype_cacheable(u64 start, u64 length)
{
	return false;
}
#endif

static void __iomem *kosdma_memtype_ioremap(u64 start, u64 length, u32 cache)
{
	switch (cache) {
	case KOSDMA_ATTR_WRITE_COMBINE:
		return ioremap_wc(start, length);
	case KOSDMA_ATTR_CACHE_DISABLE:
		return ioremap(start, length);
#if IS_ENABLED(CONFIG_X86)
	case KOSDMA_ATTR_WRITE_THROUGH:
		return kosdma_memtype_cacheable(start, length) ? ioremap_wt(start, length) : NULL;
	case KOSDMA_ATTR_WRITE_BACK:
		return ioremap_cache(start, length);
#endif
	default:
		return NULL;
	}
}

/**
 * kosdma_memtype_reserve() - give device registers a type
 * @type: filled in; it has none
 * @start: physical address
 * @length: bytes
 * @cache: one bit of enum kosdma_attr
 *
 * Return: 0; -EOPNOTSUPP if the range cannot have this type: the CPU, its range
 * registers (MTRR) or another mapping of the range give it another one.
 */
int kosdma_memtype_reserve(struct kosdma_memtype *type, u64 start, u64 length, u32 cache)
{
	void __iomem *addr = kosdma_memtype_ioremap(start, length, cache);

	/* Uncached is refused for want of memory, or because the range is mapped cached. */
	if (!addr)
		return cache == KOSDMA_ATTR_CACHE_DISABLE &&
		       !kosdma_memtype_cacheable(start, length) ? -ENOMEM : -EOPNOTSUPP;
#if IS_ENABLED(CONFIG_X86)
	if (!kosdma_memtype_bits(addr, &type->bits) || !kosdma_memtype_is(type->bits, cache)) {
		iounmap(addr);
		return -EOPNOTSUPP;
	}
#endif
	type->addr = addr;
	return 0;
}

/* The range has no mapping of this type any more. */
void kosdma_memtype_release(struct kosdma_memtype *type)
{
	if (type->addr)
		iounmap(type->addr);
	type->addr = NULL;
}

/**
 * kosdma_memtype_prot() - what a page table entry of device registers gets
 * @type: reserved
 * @prot: protection
 * @cache: as it was reserved
 */
pgprot_t kosdma_memtype_prot(const struct kosdma_memtype *type, pgprot_t prot, u32 cache)
{
	prot = pgprot_decrypted(prot);
#if IS_ENABLED(CONFIG_X86)
	return __pgprot((pgprot_val(prot) & ~_PAGE_CACHE_MASK) | type->bits);
#else
	return kosdma_memtype_ram_prot(prot, cache);
#endif
}
