/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An I/O address space: which ranges are taken
 *
 * Pure logic, without locks and without allocation, so that giving a range
 * back cannot fail and the file also compiles in user space.
 */
#ifndef KOSDMA_IOVA_H
#define KOSDMA_IOVA_H

#include <linux/rbtree.h>
#include <linux/types.h>

/**
 * struct kosdma_iova - a range that is taken; embedded in its user
 * @rb: in kosdma_iova_space::root, by address
 * @start: first address
 * @last: last address, inclusive
 * @gap: free bytes between the range before it and @start
 * @max_gap: largest @gap in the subtree of @rb
 * @reserved: nobody's memory: a range that the IOMMU keeps for itself
 */
struct kosdma_iova {
	struct rb_node rb;
	u64 start;
	u64 last;
	u64 gap;
	u64 max_gap;
	bool reserved;
};

/**
 * struct kosdma_iova_space - an I/O address space
 * @root: the ranges that are taken; they do not overlap
 * @first: lowest address that may be given out
 */
struct kosdma_iova_space {
	struct rb_root root;
	u64 first;
};

void kosdma_iova_init(struct kosdma_iova_space *space, u64 first);
bool kosdma_iova_alloc(struct kosdma_iova_space *space, struct kosdma_iova *iova, u64 size,
		       u64 guard, u64 align, u64 limit);
void kosdma_iova_insert(struct kosdma_iova_space *space, struct kosdma_iova *iova);
void kosdma_iova_remove(struct kosdma_iova_space *space, struct kosdma_iova *iova);
struct kosdma_iova *kosdma_iova_overlap(struct kosdma_iova_space *space, u64 start, u64 last);

#endif /* KOSDMA_IOVA_H */
