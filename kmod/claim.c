// SPDX-License-Identifier: GPL-2.0-only
/*
 * Claims: which physical ranges user code has, and against whom
 *
 * User against user is decided in the claim table. User against kernel is
 * decided in the kernel's resource tree, where each connected union of claims
 * is one busy, exclusive entry; claims that are shared with the kernel make
 * none. Overlapping claims are connected, neighbours are not.
 *
 * An entry changes without a moment in which a part of it is free: the new one
 * is inserted above the old ones, or these are requested inside of it, and only
 * then what is superfluous goes. Each claim brings the memory for one entry, so
 * giving up a claim allocates nothing. The claim whose memory is used for the
 * union's entry is its leader.
 */
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "kosdma.h"

static DEFINE_MUTEX(kosdma_claims_lock);
static struct rb_root_cached kosdma_claims = RB_ROOT_CACHED;

static struct kosdma_claim *to_claim(struct interval_tree_node *node)
{
	return node ? container_of(node, struct kosdma_claim, range) : NULL;
}

/* The claims that share a byte with a range, by their first address. */
static struct kosdma_claim *kosdma_claim_first(unsigned long start, unsigned long last)
{
	return to_claim(interval_tree_iter_first(&kosdma_claims, start, last));
}

static struct kosdma_claim *kosdma_claim_next(struct kosdma_claim *claim, unsigned long start,
					      unsigned long last)
{
	return to_claim(interval_tree_iter_next(&claim->range, start, last));
}

#define for_each_claim(claim, start, last)					\
	for (claim = kosdma_claim_first(start, last); claim;			\
	     claim = kosdma_claim_next(claim, start, last))

/* @claim if the kernel is kept out of it, or the next such one. */
static struct kosdma_claim *kosdma_claim_exclusive(struct kosdma_claim *claim,
						   unsigned long start, unsigned long last)
{
	while (claim && claim->flags & KOSDMA_REGION_K_SHARED)
		claim = kosdma_claim_next(claim, start, last);
	return claim;
}

#define for_each_exclusive_claim(claim, start, last)				\
	for (claim = kosdma_claim_exclusive(kosdma_claim_first(start, last), start, last); claim; \
	     claim = kosdma_claim_exclusive(kosdma_claim_next(claim, start, last), start, last))

/* --- the kernel's resource tree ----------------------------------------------- */

static void kosdma_entry_init(struct resource *entry, unsigned long start, unsigned long last)
{
	*entry = (struct resource) {
		.start = start,
		.end = last,
		.name = KBUILD_MODNAME,
		.flags = IORESOURCE_MEM | IORESOURCE_BUSY | IORESOURCE_EXCLUSIVE,
	};
}

static struct resource *kosdma_gap_request(unsigned long start, unsigned long last)
{
	return request_mem_region_exclusive(start, last - start + 1, KBUILD_MODNAME);
}

static void kosdma_gap_release(struct resource *parent, unsigned long start, unsigned long last)
{
	__release_region(parent, start, last - start + 1);
}

/* The first part of [*@start, @last] that no entry of ours covers; false if there is none. */
static bool kosdma_gap_find(unsigned long *start, unsigned long last, unsigned long *gap_last)
{
	struct kosdma_claim *claim;

	for_each_exclusive_claim(claim, *start, last) {
		struct resource *entry = &claim->leader->entry;

		if (entry->start > *start) {
			*gap_last = entry->start - 1;
			return true;
		}
		if (entry->end >= last)
			return false;
		*start = max_t(unsigned long, *start, entry->end + 1);
	}
	*gap_last = last;
	return true;
}

/* Give back the gaps of [@start, @last], as they were requested: with the same claims around. */
static void kosdma_gaps_release(struct resource *parent, unsigned long start, unsigned long last)
{
	unsigned long gap_last;

	while (start <= last && kosdma_gap_find(&start, last, &gap_last)) {
		kosdma_gap_release(parent, start, gap_last);
		start = gap_last + 1;
	}
}

/*
 * Keep the kernel out of the claim's range as well, which makes one entry of
 * its own and of those that it connects. All or nothing.
 */
static int kosdma_union_join(struct kosdma_claim *new)
{
	unsigned long start = new->range.start, last = new->range.last;
	unsigned long pos = start, gap_last;
	struct resource *parent = NULL, *gap;
	struct kosdma_claim *claim;

	kosdma_entry_init(&new->entry, start, last);
	for_each_exclusive_claim(claim, start, last) {
		struct resource *entry = &claim->leader->entry;

		if (entry->start <= start && entry->end >= last) {
			new->leader = claim->leader;
			return 0;
		}
		new->entry.start = min(new->entry.start, entry->start);
		new->entry.end = max(new->entry.end, entry->end);
		parent = entry->parent;
	}

	while (pos <= last && kosdma_gap_find(&pos, last, &gap_last)) {
		gap = kosdma_gap_request(pos, gap_last);
		if (!gap)
			goto err_release;
		parent = gap->parent;
		pos = gap_last + 1;
	}
	/* Above what is there already: its own old entries, and the gaps. */
	if (insert_resource(parent, &new->entry))
		goto err_release;

	kosdma_gaps_release(&new->entry, start, last);
	for_each_exclusive_claim(claim, new->entry.start, new->entry.end) {
		if (claim->leader->entry.parent == &new->entry)
			release_resource(&claim->leader->entry);
		claim->leader = new;
	}
	new->leader = new;
	return 0;

err_release:
	if (pos > start)
		kosdma_gaps_release(&iomem_resource, start, pos - 1);
	return -EEXIST;
}

/* One connected part of a union that falls apart. */
struct kosdma_part {
	unsigned long start, last;
	struct kosdma_claim *spare;	/* a member whose memory is not used, or NULL */
};

/* The part that begins at or behind @from; false if there is none. */
static bool kosdma_part_find(unsigned long from, unsigned long last, struct kosdma_claim *leader,
			     struct kosdma_part *part)
{
	struct kosdma_claim *claim;
	bool found = false;

	for_each_exclusive_claim(claim, from, last) {
		if (found && claim->range.start > part->last)
			break;
		if (!found)
			*part = (struct kosdma_part) { .start = claim->range.start };
		found = true;
		part->last = max(part->last, claim->range.last);
		if (claim != leader)
			part->spare = claim;
	}
	return found;
}

static void kosdma_part_set_leader(const struct kosdma_part *part, struct kosdma_claim *leader)
{
	struct kosdma_claim *claim;

	for_each_exclusive_claim(claim, part->start, part->last)
		claim->leader = leader;
}

/* A claim goes, and is in the table no longer: what it connected falls apart. */
static void kosdma_union_leave(struct kosdma_claim *old)
{
	struct kosdma_claim *leader = old->leader;
	unsigned long start = leader->entry.start, last = leader->entry.end, pos;
	struct kosdma_part part, alone = {};

	if (leader != old && kosdma_part_find(start, last, leader, &part) &&
	    part.start == start && part.last == last)
		return;

	for (pos = start; kosdma_part_find(pos, last, leader, &part); pos = part.last + 1) {
		/* The leader's memory is in use until its entry goes; ours is not. */
		struct kosdma_claim *spare = part.spare ?: old;

		if (!part.spare)
			alone = part;
		kosdma_entry_init(&spare->entry, part.start, part.last);
		WARN_ON_ONCE(request_resource(&leader->entry, &spare->entry));
		kosdma_part_set_leader(&part, spare);
		if (part.last >= last)
			break;
	}
	/* Its children take its place. */
	remove_resource(&leader->entry);

	if (alone.last) {
		kosdma_entry_init(&leader->entry, alone.start, alone.last);
		WARN_ON_ONCE(insert_resource(old->entry.parent, &leader->entry));
		release_resource(&old->entry);
		kosdma_part_set_leader(&alone, leader);
	}
}

/* --- the table ------------------------------------------------------------------ */

/**
 * kosdma_claim_add() - claim a range
 * @claim: range and flags are set; it is not claimed
 * @other: on -EEXIST: the user code that is in the way; an empty name: the
 *	kernel
 * @owner: on -EEXIST: the object of the claim in the way, with a reference;
 *	NULL: the kernel's
 *
 * Return: 0 or -EEXIST.
 */
int kosdma_claim_add(struct kosdma_claim *claim, struct kosdma_claimant *other,
		     struct kosdma_object **owner)
{
	unsigned long start = claim->range.start, last = claim->range.last;
	struct kosdma_claim *old;
	int ret = 0;

	get_task_comm(claim->claimant.comm, current);
	claim->claimant.pid = task_tgid_nr(current);

	mutex_lock(&kosdma_claims_lock);
	for_each_claim(old, start, last) {
		if (!(claim->flags & old->flags & KOSDMA_REGION_U_SHARED)) {
			*other = old->claimant;
			/* It ends, and is freed, only after it has given its claim up. */
			*owner = kosdma_object_get(old->owner);
			ret = -EEXIST;
			goto out;
		}
	}
	if (!(claim->flags & KOSDMA_REGION_K_SHARED))
		ret = kosdma_union_join(claim);
	if (ret) {
		other->comm[0] = '\0';
		*owner = NULL;
	} else {
		interval_tree_insert(&claim->range, &kosdma_claims);
		claim->claimed = true;
	}
out:
	mutex_unlock(&kosdma_claims_lock);
	return ret;
}

/**
 * kosdma_claim_remove() - give a range up
 * @claim: may be claimed
 */
void kosdma_claim_remove(struct kosdma_claim *claim)
{
	mutex_lock(&kosdma_claims_lock);
	if (claim->claimed) {
		interval_tree_remove(&claim->range, &kosdma_claims);
		if (!(claim->flags & KOSDMA_REGION_K_SHARED))
			kosdma_union_leave(claim);
		claim->claimed = false;
	}
	mutex_unlock(&kosdma_claims_lock);
}

/* What is taken and is no driver's BAR may be an interrupt controller, a timer or an IOMMU. */
static int kosdma_claim_taken(struct resource *entry, void *data)
{
	lockdep_assert_held(&kosdma_claims_lock);
	return kosdma_claim_exclusive(kosdma_claim_first(entry->start, entry->end), entry->start,
				      entry->end) ? 0 : -EPERM;
}

/* And so may what is listed only, unless it is a host bridge's window for devices. */
static int kosdma_claim_listed(struct resource *entry, void *data)
{
	return entry->flags & IORESOURCE_WINDOW ? 0 : kosdma_claim_taken(entry, data);
}

/**
 * kosdma_claim_shareable() - may a range that is in no BAR be shared with the kernel?
 * @start: first physical address
 * @last: last physical address, inclusive
 *
 * Under the lock, an entry in the resource tree is either one of ours, with its
 * claims in the table, or the kernel's.
 */
bool kosdma_claim_shareable(unsigned long start, unsigned long last)
{
	bool shareable;

	mutex_lock(&kosdma_claims_lock);
	/* A walk does not enter what it has found: a window hides what is taken in it. */
	shareable = walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM | IORESOURCE_BUSY, start,
					last, NULL, kosdma_claim_taken) != -EPERM &&
		    walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, start, last, NULL,
					kosdma_claim_listed) != -EPERM;
	mutex_unlock(&kosdma_claims_lock);
	return shareable;
}
