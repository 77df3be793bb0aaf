/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Rights: what a handle's rights permit
 *
 * Pure logic, so that the file also compiles in user space.
 */
#ifndef KOSDMA_RIGHTS_H
#define KOSDMA_RIGHTS_H

#include <linux/errno.h>
#include <linux/kconfig.h>
#include <linux/types.h>

#include <linux/kosdma.h>

#define KOSDMA_RIGHTS_COMMON	(KOSDMA_RIGHT_TRANSFER | KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_GET_SID)
#define KOSDMA_ATTR_DIRECTION	(KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE)

/**
 * kosdma_rights_map() - rights that a mapping needs
 * @flags: see enum kosdma_map_flags
 * @read: the source's right to be read
 * @write: the source's right to be written
 *
 * Return: the rights.
 */
static inline u32 kosdma_rights_map(u32 flags, u32 read, u32 write)
{
	u32 rights = 0;

	if (flags & KOSDMA_MAP_READ)
		rights |= read;
	if (flags & KOSDMA_MAP_WRITE)
		rights |= write;
	/* A CPU that has no write-only pages lets the process read as well. */
	if (IS_ENABLED(CONFIG_X86) && flags & KOSDMA_MAP_WRITE)
		rights |= read;
	return rights;
}

/**
 * kosdma_rights_begin() - what devices may do with a buffer
 * @rights: of the handle through which it is opened for them
 * @attr: of the buffer
 * @write_only: an IOMMU can let a device write what it may not read
 *
 * Return: direction bits of enum kosdma_attr; 0: nothing.
 */
static inline u32 kosdma_rights_begin(u32 rights, u32 attr, bool write_only)
{
	attr &= KOSDMA_ATTR_DIRECTION;
	/* Where it cannot, the right to write is of no use alone. */
	if (!(rights & KOSDMA_RIGHT_DMA_READ))
		attr &= write_only ? ~KOSDMA_ATTR_TO_DEVICE : 0;
	if (!(rights & KOSDMA_RIGHT_DMA_WRITE))
		attr &= ~KOSDMA_ATTR_FROM_DEVICE;
	return attr;
}

/**
 * kosdma_rights_copy() - may a handle be copied?
 * @rights: of the handle, whose kind is transferable
 * @known: those that handles of its kind can have, without the common ones
 * @flags: see enum kosdma_copy_flags
 * @wanted: rights of the copy
 *
 * Return: 0, -EINVAL if the kind has no such right, -EACCES.
 */
static inline int kosdma_rights_copy(u32 rights, u32 known, u32 flags, u32 wanted)
{
	u32 right = flags & KOSDMA_COPY_TRANSFER ? KOSDMA_RIGHT_TRANSFER : KOSDMA_RIGHT_COPY;

	if (wanted & ~(KOSDMA_RIGHTS_COMMON | known))
		return -EINVAL;
	return (wanted | right) & ~rights ? -EACCES : 0;
}

#endif /* KOSDMA_RIGHTS_H */
