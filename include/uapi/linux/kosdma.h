/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR MIT */
/*
 * kosdma: the ioctl ABI of /dev/kosdma
 */
#ifndef _UAPI_LINUX_KOSDMA_H
#define _UAPI_LINUX_KOSDMA_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KOSDMA_TYPE 0xB5

/**
 * DOC: General ioctl format
 *
 * Every ioctl is made on a descriptor of /dev/kosdma and acts for the calling
 * process, which is its address space (mm): the descriptor itself carries no
 * state, may be inherited and passed on, and confers nothing but the way in.
 * Objects are named by handles, which are descriptors of their own.
 *
 * Every struct starts with its size as user space knows it. A shorter struct
 * than this kernel's is zero-extended; a longer one is accepted if the part
 * that this kernel does not know is zero. The number of an ioctl does not
 * encode the size (_IO), so that a struct may grow at its end and keep its
 * number. Flags and reserved fields that this kernel does not know must be 0.
 * Results are in fields named out_*, which are written on success only, unless
 * it says otherwise.
 * There are no pointers and no longs: 32-bit user space shares this ABI.
 *
 * An errno has one meaning for all ioctls:
 *
 * ======================= =====================================================
 * ENOTTY                  no such ioctl
 * E2BIG                   the struct has non-zero bytes that this kernel does
 *                         not know
 * EFAULT                  the struct or a buffer it names cannot be read or
 *                         written
 * EINVAL                  bad size, alignment, offset, hint, order, protection;
 *                         unknown flag or non-zero reserved field; a struct
 *                         that is too short; a handle of the wrong type
 * EBADF                   the descriptor is not open, is no kosdma handle, or
 *                         its object has been ended
 * EKEYREVOKED             the handle was revoked
 * EACCES                  the handle lacks the right, or may not be used by
 *                         this process
 * EPERM                   policy: privilege, grant, physical range, lockdown
 * EEXIST                  the range is claimed already; a mapping hint is taken
 * EBUSY                   in use now: device held by a driver or attached,
 *                         region mapped
 * EBADFD                  right call, wrong moment
 * ENODEV                  no such device
 * EUNATCH                 the device is bound to no driver
 * ENOMEM                  memory is short
 * EDQUOT                  a limit was reached: locked memory, cgroup, objects,
 *                         IOVA window, DMA mask
 * EMFILE, ENFILE          no descriptor left in the process, in the system
 * ENOSPC                  the caller's array is too short for the result
 * EFBIG                   more than this machine can ever give
 * EOPNOTSUPP              this kernel, CPU or build cannot do it
 * ETIMEDOUT               a device or a teardown did not finish in time
 * ENOTCONN                the calling process is ending
 * ======================= =====================================================
 *
 * The lists below leave out what every ioctl can answer: EFAULT, E2BIG and
 * EINVAL for its struct; and for a handle in it EBADF, EKEYREVOKED, EINVAL and
 * EACCES, checked in this order: is it one and alive, is it revoked, is it of
 * the right type, may this process use it, has it the right.
 */

/* Values of a handle field that names no handle. */
#define KOSDMA_NO_HANDLE (-1)

enum {
	KOSDMA_CMD_INFO = 0x00,
	KOSDMA_CMD_BUFFER_CREATE,
	KOSDMA_CMD_BUFFER_MODIFY,
	KOSDMA_CMD_BUFFER_MAP,
	KOSDMA_CMD_ACCESS_BEGIN,
	KOSDMA_CMD_ACCESS_INFO,
	KOSDMA_CMD_DOMAIN_CREATE,
	KOSDMA_CMD_DEVICE_ATTACH,
	KOSDMA_CMD_DEVICE_DETACH,
	KOSDMA_CMD_DEVICE_SET_DMA_MASK,
	KOSDMA_CMD_REGION_REGISTER,
	KOSDMA_CMD_REGION_MAP,
	KOSDMA_CMD_HANDLE_CLOSE,
	KOSDMA_CMD_HANDLE_REVOKE,
	KOSDMA_CMD_HANDLE_COPY,
	KOSDMA_CMD_HANDLE_INFO,
	KOSDMA_CMD_BADGE_CREATE,
	KOSDMA_CMD_DEVICE_INFO,
	KOSDMA_CMD_ACCESS_BEGIN_MANY,
	KOSDMA_CMD_HANDLE_CLOSE_MANY,
};

/**
 * enum kosdma_feature - what this machine and kernel offer
 * @KOSDMA_FEATURE_TRANSLATION: an IOMMU translates for at least one PCI device
 * @KOSDMA_FEATURE_DIRECT: devices without a translating IOMMU may be attached
 */
enum kosdma_feature {
	KOSDMA_FEATURE_TRANSLATION = 1 << 0,
	KOSDMA_FEATURE_DIRECT = 1 << 1,
};

/**
 * struct kosdma_info - ioctl(KOSDMA_INFO)
 * @size: sizeof(struct kosdma_info)
 * @out_abi: version of this ABI: 1
 * @out_features: see enum kosdma_feature
 * @out_page_shift: log2 of the page size in bytes
 * @out_max_block_order: log2 of the pages in the largest physical block that
 *	the page allocator gives
 * @out_max_objects: how many objects and handles one user may have
 *
 * Ask what the module offers. Does nothing else.
 */
struct kosdma_info {
	__u32 size;
	__u32 out_abi;
	__u32 out_features;
	__u32 out_page_shift;
	__u32 out_max_block_order;
	__u32 out_max_objects;
};
#define KOSDMA_INFO _IO(KOSDMA_TYPE, KOSDMA_CMD_INFO)

/**
 * enum kosdma_attr - attributes of a buffer
 * @KOSDMA_ATTR_TO_DEVICE: devices may read it
 * @KOSDMA_ATTR_FROM_DEVICE: devices may write it
 * @KOSDMA_ATTR_ZONE_DMA32: memory and IOVA below 4 GiB
 * @KOSDMA_ATTR_WRITE_BACK: CPU cache type write-back
 * @KOSDMA_ATTR_WRITE_THROUGH: CPU cache type write-through (refused where
 *	the CPU's memory-type tracking has none for RAM, as on x86)
 * @KOSDMA_ATTR_CACHE_DISABLE: CPU cache type uncached
 * @KOSDMA_ATTR_WRITE_COMBINE: CPU cache type write-combining
 *
 * No direction means both. No cache type means write-back; two are an error.
 */
enum kosdma_attr {
	KOSDMA_ATTR_TO_DEVICE = 1 << 0,
	KOSDMA_ATTR_FROM_DEVICE = 1 << 1,
	KOSDMA_ATTR_ZONE_DMA32 = 1 << 2,
	KOSDMA_ATTR_WRITE_BACK = 1 << 4,
	KOSDMA_ATTR_WRITE_THROUGH = 1 << 5,
	KOSDMA_ATTR_CACHE_DISABLE = 1 << 6,
	KOSDMA_ATTR_WRITE_COMBINE = 1 << 7,
};

/**
 * enum kosdma_right - what a handle permits
 * @KOSDMA_RIGHT_TRANSFER: send a descendant to another process
 * @KOSDMA_RIGHT_COPY: make a descendant
 * @KOSDMA_RIGHT_GET_SID: learn the identity of the object
 * @KOSDMA_RIGHT_DMA_READ: buffer: map readable; let devices read
 * @KOSDMA_RIGHT_DMA_WRITE: buffer: map writable; let devices write
 * @KOSDMA_RIGHT_DMA_BEGIN: buffer: open for devices
 * @KOSDMA_RIGHT_DMA_MODIFY: buffer: change the cache type
 * @KOSDMA_RIGHT_DMA_IO: buffer: map for kernel I/O (KOSDMA_MAP_IO)
 * @KOSDMA_RIGHT_MMIO_READ: region: map readable
 * @KOSDMA_RIGHT_MMIO_WRITE: region: map writable
 *
 * The low half is common to all types, the high half belongs to the type.
 * Rights are fixed when a handle is made, and a descendant has no more of them
 * than its parent.
 */
enum kosdma_right {
	KOSDMA_RIGHT_TRANSFER = 1 << 0,
	KOSDMA_RIGHT_COPY = 1 << 1,
	KOSDMA_RIGHT_GET_SID = 1 << 2,
	KOSDMA_RIGHT_DMA_READ = 1 << 16,
	KOSDMA_RIGHT_DMA_WRITE = 1 << 17,
	KOSDMA_RIGHT_DMA_BEGIN = 1 << 18,
	KOSDMA_RIGHT_DMA_MODIFY = 1 << 19,
	KOSDMA_RIGHT_DMA_IO = 1 << 20,
	KOSDMA_RIGHT_MMIO_READ = 1 << 16,
	KOSDMA_RIGHT_MMIO_WRITE = 1 << 17,
};

/**
 * enum kosdma_buffer_flags - flags of KOSDMA_BUFFER_CREATE
 * @KOSDMA_BUFFER_CONTIGUOUS: one block of the next power of two pages; @order
 *	of struct kosdma_buffer_create must be 0
 */
enum kosdma_buffer_flags {
	KOSDMA_BUFFER_CONTIGUOUS = 1 << 0,
};

/**
 * struct kosdma_buffer_create - ioctl(KOSDMA_BUFFER_CREATE)
 * @size: sizeof(struct kosdma_buffer_create)
 * @flags: see enum kosdma_buffer_flags
 * @length: bytes, a positive multiple of the page size
 * @order: log2 of the pages in the smallest block allowed, at most 51
 * @attr: see enum kosdma_attr
 * @out_handle: the buffer, with every right
 * @__reserved: must be 0
 *
 * Allocate zeroed memory as a few blocks of 2^k pages, k at least @order,
 * largest first, and charge it to the caller's user and cgroup. @length is
 * rounded up to whole blocks; what was asked for stays the buffer's length.
 *
 * Errors: EINVAL (length, order, attr, flags), EFBIG (more than the machine
 * has, or a block that it cannot make), ENOMEM, EDQUOT (RLIMIT_MEMLOCK,
 * cgroup, objects), EOPNOTSUPP (cache type), EMFILE, ENFILE.
 */
struct kosdma_buffer_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__u32 order;
	__u32 attr;
	__s32 out_handle;
	__u32 __reserved;
};
#define KOSDMA_BUFFER_CREATE _IO(KOSDMA_TYPE, KOSDMA_CMD_BUFFER_CREATE)

/**
 * struct kosdma_buffer_modify - ioctl(KOSDMA_BUFFER_MODIFY)
 * @size: sizeof(struct kosdma_buffer_modify)
 * @handle: a buffer, with KOSDMA_RIGHT_DMA_MODIFY
 * @attr: the new cache type, one of enum kosdma_attr's or 0 (write-back);
 *	direction and zone bits, if any are given, must be the buffer's own
 * @__reserved: must be 0
 *
 * Errors: EBADFD (the buffer has a mapping or an access), EOPNOTSUPP (cache
 * type), EINVAL, EACCES, ENOMEM.
 */
struct kosdma_buffer_modify {
	__u32 size;
	__s32 handle;
	__u32 attr;
	__u32 __reserved;
};
#define KOSDMA_BUFFER_MODIFY _IO(KOSDMA_TYPE, KOSDMA_CMD_BUFFER_MODIFY)

/**
 * enum kosdma_map_flags - protection and shape of a mapping
 * @KOSDMA_MAP_READ: readable
 * @KOSDMA_MAP_WRITE: writable
 * @KOSDMA_MAP_LOW_GUARD: an inaccessible page before it
 * @KOSDMA_MAP_HIGH_GUARD: an inaccessible page behind it
 * @KOSDMA_MAP_IO: usable for O_DIRECT, io_uring and send (buffers only)
 */
enum kosdma_map_flags {
	KOSDMA_MAP_READ = 1 << 0,
	KOSDMA_MAP_WRITE = 1 << 1,
	KOSDMA_MAP_LOW_GUARD = 1 << 2,
	KOSDMA_MAP_HIGH_GUARD = 1 << 3,
	KOSDMA_MAP_IO = 1 << 4,
};

/**
 * struct kosdma_buffer_map - ioctl(KOSDMA_BUFFER_MAP)
 * @size: sizeof(struct kosdma_buffer_map)
 * @handle: a buffer
 * @flags: see enum kosdma_map_flags; at least one of READ and WRITE
 * @__reserved: must be 0
 * @offset: bytes into the buffer, page aligned
 * @length: bytes, a positive multiple of the page size, at most the buffer's
 *	length - @offset
 * @hint: page-aligned address of the first usable byte, or 0: any
 * @out_addr: address of the first usable byte
 * @out_handle: the mapping; belongs to this process alone
 * @__reserved2: must be 0
 *
 * Make a virtual region of the calling process, with all its pages entered.
 * WRITE alone needs both rights where the CPU cannot express it (x86).
 *
 * Errors: EINVAL, EEXIST (the hint cannot be honoured), EACCES (rights),
 * EOPNOTSUPP (KOSDMA_MAP_IO on a buffer that cannot), EDQUOT (objects),
 * ENOMEM, EMFILE, ENFILE.
 */
struct kosdma_buffer_map {
	__u32 size;
	__s32 handle;
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 hint;
	__aligned_u64 out_addr;
	__s32 out_handle;
	__u32 __reserved2;
};
#define KOSDMA_BUFFER_MAP _IO(KOSDMA_TYPE, KOSDMA_CMD_BUFFER_MAP)

/**
 * struct kosdma_access_begin - ioctl(KOSDMA_ACCESS_BEGIN)
 * @size: sizeof(struct kosdma_access_begin)
 * @handle: a buffer, with KOSDMA_RIGHT_DMA_BEGIN
 * @domain: a domain of this process, or KOSDMA_NO_HANDLE: its automatic domain
 * @out_handle: the access; belongs to this process alone
 *
 * Make the buffer reachable by the devices of a domain, now and attached
 * later. Devices may do what the buffer's direction and the handle's rights
 * DMA_READ and DMA_WRITE both allow. DMA_READ is needed in any case where an
 * IOMMU has no write-only pages (Intel's).
 *
 * Errors: EACCES (rights; nothing is left to allow), EDQUOT (IOVA window, DMA
 * mask, objects), EPERM (no translation and no CAP_SYS_RAWIO), EBADFD (the
 * domain does not translate and the buffer's blocks are not physical),
 * EOPNOTSUPP (the DMA address is not the physical one), ENOMEM, EMFILE,
 * ENFILE.
 */
struct kosdma_access_begin {
	__u32 size;
	__s32 handle;
	__s32 domain;
	__s32 out_handle;
};
#define KOSDMA_ACCESS_BEGIN _IO(KOSDMA_TYPE, KOSDMA_CMD_ACCESS_BEGIN)

/* How many items KOSDMA_ACCESS_BEGIN_MANY and KOSDMA_HANDLE_CLOSE_MANY take. */
#define KOSDMA_BATCH_MAX 256

/**
 * struct kosdma_begin_item - one access of KOSDMA_ACCESS_BEGIN_MANY
 * @handle: a buffer, with KOSDMA_RIGHT_DMA_BEGIN; the same may come again
 * @out_handle: the access; belongs to this process alone
 * @out_addr: first address of the buffer as devices see it, if it is one range
 *	for them, which it always is behind an IOMMU; 0 if it is several, or no
 *	device is attached yet
 */
struct kosdma_begin_item {
	__s32 handle;
	__s32 out_handle;
	__aligned_u64 out_addr;
};

/**
 * struct kosdma_access_begin_many - ioctl(KOSDMA_ACCESS_BEGIN_MANY)
 * @size: sizeof(struct kosdma_access_begin_many)
 * @count: how many, 1 to KOSDMA_BATCH_MAX
 * @items: address of an array of struct kosdma_begin_item
 * @domain: as for KOSDMA_ACCESS_BEGIN, the same for all
 * @out_failed: index of the item at fault, written if there is one
 *
 * As KOSDMA_ACCESS_BEGIN for each item, but all or none: if one fails, none is
 * begun and no item is written. Handles and rights of all items are looked at
 * before the first one is begun. Behind an IOMMU, items whose buffers are one
 * block may lie back to back, without a guard page in between.
 *
 * Errors: those of KOSDMA_ACCESS_BEGIN; EINVAL (count), EFAULT (items).
 */
struct kosdma_access_begin_many {
	__u32 size;
	__u32 count;
	__aligned_u64 items;
	__s32 domain;
	__u32 out_failed;
};
#define KOSDMA_ACCESS_BEGIN_MANY _IO(KOSDMA_TYPE, KOSDMA_CMD_ACCESS_BEGIN_MANY)

/**
 * DOC: Blocks
 *
 * A block is one __u64: its first page number (address / page size) in the
 * upper 52 bits, log2 of its pages in the lower 12. A block is aligned to its
 * size.
 */
#define KOSDMA_BLOCK_ORDER_BITS 12

/**
 * enum kosdma_access_info_flags - flags of KOSDMA_ACCESS_INFO
 * @KOSDMA_ACCESS_INFO_PHYSICAL: list the physical blocks of a buffer handle
 *	instead; needs CAP_SYS_RAWIO and a kernel that is not locked down
 */
enum kosdma_access_info_flags {
	KOSDMA_ACCESS_INFO_PHYSICAL = 1 << 0,
};

/**
 * enum kosdma_access_state - what out_state of KOSDMA_ACCESS_INFO tells
 * @KOSDMA_ACCESS_CONTIGUOUS: out_addr is the start of one range that holds
 *	the whole buffer
 * @KOSDMA_ACCESS_TRANSLATED: addresses are IOVAs
 */
enum kosdma_access_state {
	KOSDMA_ACCESS_CONTIGUOUS = 1 << 0,
	KOSDMA_ACCESS_TRANSLATED = 1 << 1,
};

/**
 * struct kosdma_access_info - ioctl(KOSDMA_ACCESS_INFO)
 * @size: sizeof(struct kosdma_access_info)
 * @handle: an access; or a buffer of which this process has at most one
 * @flags: see enum kosdma_access_info_flags
 * @capacity: blocks that fit at @blocks; 0 asks for the count only
 * @blocks: address of an array of __u64, see "Blocks"
 * @out_length: the buffer's length in bytes, as asked for
 * @out_addr: first address, valid with KOSDMA_ACCESS_CONTIGUOUS
 * @out_count: blocks in the list; 0 while no device can reach the buffer
 * @out_order_min: smallest order in the list; the order asked for if it is
 *	empty
 * @out_attr: the buffer's attributes
 * @out_state: see enum kosdma_access_state
 *
 * Errors: ENOSPC (@capacity is not 0 and less than the count), EBADFD (a buffer
 * with several accesses of this process), EPERM, EINVAL, ENOMEM.
 */
struct kosdma_access_info {
	__u32 size;
	__s32 handle;
	__u32 flags;
	__u32 capacity;
	__aligned_u64 blocks;
	__aligned_u64 out_length;
	__aligned_u64 out_addr;
	__u32 out_count;
	__u32 out_order_min;
	__u32 out_attr;
	__u32 out_state;
};
#define KOSDMA_ACCESS_INFO _IO(KOSDMA_TYPE, KOSDMA_CMD_ACCESS_INFO)

/**
 * struct kosdma_domain_create - ioctl(KOSDMA_DOMAIN_CREATE)
 * @size: sizeof(struct kosdma_domain_create)
 * @out_handle: the domain; belongs to this process alone
 *
 * Errors: EDQUOT (objects), ENOMEM, EMFILE, ENFILE.
 */
struct kosdma_domain_create {
	__u32 size;
	__s32 out_handle;
};
#define KOSDMA_DOMAIN_CREATE _IO(KOSDMA_TYPE, KOSDMA_CMD_DOMAIN_CREATE)

/**
 * struct kosdma_device_attach - ioctl(KOSDMA_DEVICE_ATTACH), ioctl(KOSDMA_DEVICE_DETACH)
 * @size: sizeof(struct kosdma_device_attach)
 * @address: PCI segment << 16 | bus << 8 | device << 3 | function
 * @domain: a domain of this process, or KOSDMA_NO_HANDLE: its automatic domain
 * @__reserved: must be 0
 *
 * Attach a device to a domain and switch its bus mastering on; detach switches
 * it off and waits until the device is quiet.
 *
 * Errors of attach: ENODEV, EPERM (neither CAP_SYS_ADMIN nor a grant for it and
 * for the members of its group; without an IOMMU, no CAP_SYS_RAWIO; the
 * firmware wants its memory reached), EUNATCH (bound to no driver), EBUSY (a
 * kernel driver has it or a member of its group; it is attached; another
 * process holds its group; a member of its group is in another domain), EBADFD
 * (an address already reported would have to change), EDQUOT (IOVA window),
 * EOPNOTSUPP (direct mode is forbidden or impossible), ETIMEDOUT (a former
 * holder's teardown), ENOMEM.
 * Errors of detach: ENODEV, EBADFD (not attached to that domain).
 */
struct kosdma_device_attach {
	__u32 size;
	__u32 address;
	__s32 domain;
	__u32 __reserved;
};
#define KOSDMA_DEVICE_ATTACH _IO(KOSDMA_TYPE, KOSDMA_CMD_DEVICE_ATTACH)
#define KOSDMA_DEVICE_DETACH _IO(KOSDMA_TYPE, KOSDMA_CMD_DEVICE_DETACH)

/**
 * struct kosdma_device_set_dma_mask - ioctl(KOSDMA_DEVICE_SET_DMA_MASK)
 * @size: sizeof(struct kosdma_device_set_dma_mask)
 * @address: as in struct kosdma_device_attach
 * @mask: the highest address that the device can emit, 2^n - 1, at least two
 *	pages - 1
 *
 * Declare an attached device's limit, for every later access in its domain.
 *
 * Errors: EINVAL (mask), ENODEV, EBADFD (not attached by this process; an
 * access lies above the mask already).
 */
struct kosdma_device_set_dma_mask {
	__u32 size;
	__u32 address;
	__aligned_u64 mask;
};
#define KOSDMA_DEVICE_SET_DMA_MASK _IO(KOSDMA_TYPE, KOSDMA_CMD_DEVICE_SET_DMA_MASK)

/**
 * enum kosdma_device_state - what out_state of KOSDMA_DEVICE_INFO tells
 * @KOSDMA_DEVICE_BOUND: bound to kosdma
 * @KOSDMA_DEVICE_TRANSLATED: an IOMMU translates for it
 * @KOSDMA_DEVICE_HELD: a process holds its group
 * @KOSDMA_DEVICE_MINE: that process is the caller
 * @KOSDMA_DEVICE_ATTACHED: attached to a domain
 * @KOSDMA_DEVICE_USED: itself, and not only a sibling, is attached or has
 *	registers that are registered
 *
 * Of a device that is not bound, only KOSDMA_DEVICE_TRANSLATED is told.
 */
enum kosdma_device_state {
	KOSDMA_DEVICE_BOUND = 1 << 0,
	KOSDMA_DEVICE_TRANSLATED = 1 << 1,
	KOSDMA_DEVICE_HELD = 1 << 2,
	KOSDMA_DEVICE_MINE = 1 << 3,
	KOSDMA_DEVICE_ATTACHED = 1 << 4,
	KOSDMA_DEVICE_USED = 1 << 5,
};

/**
 * struct kosdma_device_info - ioctl(KOSDMA_DEVICE_INFO)
 * @size: sizeof(struct kosdma_device_info)
 * @address: as in struct kosdma_device_attach
 * @out_state: see enum kosdma_device_state
 * @__reserved: must be 0
 *
 * Tell the state of a device, and change nothing.
 *
 * Errors: EINVAL, ENODEV.
 */
struct kosdma_device_info {
	__u32 size;
	__u32 address;
	__u32 out_state;
	__u32 __reserved;
};
#define KOSDMA_DEVICE_INFO _IO(KOSDMA_TYPE, KOSDMA_CMD_DEVICE_INFO)

/**
 * enum kosdma_region_flags - flags of KOSDMA_REGION_REGISTER
 * @KOSDMA_REGION_K_SHARED: kernel code uses the range too
 * @KOSDMA_REGION_U_SHARED: others may register it too
 */
enum kosdma_region_flags {
	KOSDMA_REGION_K_SHARED = 1 << 0,
	KOSDMA_REGION_U_SHARED = 1 << 1,
};

/**
 * struct kosdma_region_register - ioctl(KOSDMA_REGION_REGISTER)
 * @size: sizeof(struct kosdma_region_register)
 * @flags: see enum kosdma_region_flags
 * @addr: physical address, page aligned
 * @length: bytes, a positive multiple of the page size
 * @out_handle: the region, with every right
 * @__reserved: must be 0
 *
 * Claim a range of device registers: one that lies in a memory BAR of a device
 * that the caller holds or may hold, or any that is neither RAM nor in use,
 * with CAP_SYS_RAWIO and no lockdown.
 *
 * Errors: EINVAL, EPERM (as for attach, or a range that nobody may have),
 * EEXIST (claimed by user code or a kernel driver), EBUSY (the device is held
 * by another process), EUNATCH (bound to no driver), ENODEV (it is being
 * removed), EOPNOTSUPP (as for attach), EDQUOT (objects), ETIMEDOUT, ENOMEM,
 * EMFILE, ENFILE.
 */
struct kosdma_region_register {
	__u32 size;
	__u32 flags;
	__aligned_u64 addr;
	__aligned_u64 length;
	__s32 out_handle;
	__u32 __reserved;
};
#define KOSDMA_REGION_REGISTER _IO(KOSDMA_TYPE, KOSDMA_CMD_REGION_REGISTER)

/**
 * struct kosdma_region_map - ioctl(KOSDMA_REGION_MAP)
 * @size: sizeof(struct kosdma_region_map)
 * @handle: a region
 * @flags: KOSDMA_MAP_READ, KOSDMA_MAP_WRITE or both
 * @attr: one cache type of enum kosdma_attr, or 0: KOSDMA_ATTR_CACHE_DISABLE
 * @out_addr: address of the first byte
 * @out_handle: the mapping; belongs to this process alone
 * @__reserved: must be 0
 *
 * Errors: EBUSY (the region is mapped already), EINVAL, EACCES (rights),
 * EOPNOTSUPP (cache type), ENODEV (the device is gone), EDQUOT (objects),
 * ENOMEM, EMFILE, ENFILE.
 */
struct kosdma_region_map {
	__u32 size;
	__s32 handle;
	__u32 flags;
	__u32 attr;
	__aligned_u64 out_addr;
	__s32 out_handle;
	__u32 __reserved;
};
#define KOSDMA_REGION_MAP _IO(KOSDMA_TYPE, KOSDMA_CMD_REGION_MAP)

/**
 * struct kosdma_handle_close - ioctl(KOSDMA_HANDLE_CLOSE)
 * @size: sizeof(struct kosdma_handle_close)
 * @handle: any handle
 *
 * Close the descriptor. A mapping, an access, a domain and a badge of this
 * process are ended first, and when the call returns devices are cut off; other
 * copies of the descriptor name nothing any more. In another process, only the
 * descriptor is closed.
 *
 * Errors: EBADF. It cannot fail otherwise.
 */
struct kosdma_handle_close {
	__u32 size;
	__s32 handle;
};
#define KOSDMA_HANDLE_CLOSE _IO(KOSDMA_TYPE, KOSDMA_CMD_HANDLE_CLOSE)

/**
 * struct kosdma_handle_close_many - ioctl(KOSDMA_HANDLE_CLOSE_MANY)
 * @size: sizeof(struct kosdma_handle_close_many)
 * @count: how many, 1 to KOSDMA_BATCH_MAX
 * @handles: address of an array of __s32, any handles
 *
 * As KOSDMA_HANDLE_CLOSE for each handle in turn. One that is none, or comes a
 * second time, keeps the others from nothing: all are closed, and the answer is
 * EBADF. Accesses of one domain that follow each other are cut off by one flush
 * of the IOMMU's TLB.
 *
 * Errors: EINVAL (count) and EFAULT (handles), then nothing is closed; EBADF.
 */
struct kosdma_handle_close_many {
	__u32 size;
	__u32 count;
	__aligned_u64 handles;
};
#define KOSDMA_HANDLE_CLOSE_MANY _IO(KOSDMA_TYPE, KOSDMA_CMD_HANDLE_CLOSE_MANY)

/**
 * enum kosdma_revoke_flags - flags of KOSDMA_HANDLE_REVOKE
 * @KOSDMA_REVOKE_CLOSE: close the handle itself as well
 * @KOSDMA_REVOKE_BADGE: only the subtrees whose copy or transfer was marked
 *	with @badge
 */
enum kosdma_revoke_flags {
	KOSDMA_REVOKE_CLOSE = 1 << 0,
	KOSDMA_REVOKE_BADGE = 1 << 1,
};

/**
 * struct kosdma_handle_revoke - ioctl(KOSDMA_HANDLE_REVOKE)
 * @size: sizeof(struct kosdma_handle_revoke)
 * @handle: any handle; no right is needed
 * @flags: see enum kosdma_revoke_flags; not both
 * @badge: a badge with KOSDMA_REVOKE_BADGE, else KOSDMA_NO_HANDLE
 *
 * Make every descendant of the handle useless and end every mapping and access
 * opened through one. Finished when it returns: pages gone from every address
 * space, accesses out of the IOMMU with its IOTLB flushed.
 *
 * Errors: EBADF, EKEYREVOKED, EINVAL (flags, no badge), EACCES (a handle or
 * badge of another process).
 */
struct kosdma_handle_revoke {
	__u32 size;
	__s32 handle;
	__u32 flags;
	__s32 badge;
};
#define KOSDMA_HANDLE_REVOKE _IO(KOSDMA_TYPE, KOSDMA_CMD_HANDLE_REVOKE)

/**
 * enum kosdma_copy_flags - flags of KOSDMA_HANDLE_COPY
 * @KOSDMA_COPY_TRANSFER: the copy is made to be sent: KOSDMA_RIGHT_TRANSFER is
 *	needed in the place of KOSDMA_RIGHT_COPY
 */
enum kosdma_copy_flags {
	KOSDMA_COPY_TRANSFER = 1 << 0,
};

/**
 * struct kosdma_handle_copy - ioctl(KOSDMA_HANDLE_COPY)
 * @size: sizeof(struct kosdma_handle_copy)
 * @handle: a handle that may be transferred
 * @rights: rights of the descendant, none that @handle lacks
 * @flags: see enum kosdma_copy_flags
 * @badge: a badge to mark the copy with, or KOSDMA_NO_HANDLE
 * @out_handle: the descendant
 *
 * Errors: EBADF, EKEYREVOKED, EINVAL (unknown right), EACCES (rights; the type
 * may not be copied), EDQUOT (objects), ENOMEM, EMFILE, ENFILE.
 */
struct kosdma_handle_copy {
	__u32 size;
	__s32 handle;
	__u32 rights;
	__u32 flags;
	__s32 badge;
	__s32 out_handle;
};
#define KOSDMA_HANDLE_COPY _IO(KOSDMA_TYPE, KOSDMA_CMD_HANDLE_COPY)

/**
 * enum kosdma_handle_type - what a handle names
 * @KOSDMA_HANDLE_BUFFER: from KOSDMA_BUFFER_CREATE; may be transferred
 * @KOSDMA_HANDLE_MAPPING: from KOSDMA_BUFFER_MAP or KOSDMA_REGION_MAP
 * @KOSDMA_HANDLE_ACCESS: from KOSDMA_ACCESS_BEGIN
 * @KOSDMA_HANDLE_DOMAIN: from KOSDMA_DOMAIN_CREATE
 * @KOSDMA_HANDLE_REGION: from KOSDMA_REGION_REGISTER; may be transferred
 * @KOSDMA_HANDLE_BADGE: from KOSDMA_BADGE_CREATE
 */
enum kosdma_handle_type {
	KOSDMA_HANDLE_BUFFER = 1,
	KOSDMA_HANDLE_MAPPING,
	KOSDMA_HANDLE_ACCESS,
	KOSDMA_HANDLE_DOMAIN,
	KOSDMA_HANDLE_REGION,
	KOSDMA_HANDLE_BADGE,
};

/**
 * struct kosdma_handle_info - ioctl(KOSDMA_HANDLE_INFO)
 * @size: sizeof(struct kosdma_handle_info)
 * @handle: any handle
 * @out_type: see enum kosdma_handle_type
 * @out_rights: see enum kosdma_right
 * @out_sid: identity of the object, equal for equal objects in all processes
 *	and never 0; 0 if the handle lacks KOSDMA_RIGHT_GET_SID
 * @__reserved: must be 0
 *
 * Errors: EBADF, EKEYREVOKED, EACCES (not of this process).
 */
struct kosdma_handle_info {
	__u32 size;
	__s32 handle;
	__u32 out_type;
	__u32 out_rights;
	__u32 out_sid;
	__u32 __reserved;
};
#define KOSDMA_HANDLE_INFO _IO(KOSDMA_TYPE, KOSDMA_CMD_HANDLE_INFO)

/**
 * struct kosdma_badge_create - ioctl(KOSDMA_BADGE_CREATE)
 * @size: sizeof(struct kosdma_badge_create)
 * @out_handle: the badge; belongs to this process alone
 *
 * Errors: EDQUOT (objects), ENOMEM, EMFILE, ENFILE.
 */
struct kosdma_badge_create {
	__u32 size;
	__s32 out_handle;
};
#define KOSDMA_BADGE_CREATE _IO(KOSDMA_TYPE, KOSDMA_CMD_BADGE_CREATE)

#endif /* _UAPI_LINUX_KOSDMA_H */
