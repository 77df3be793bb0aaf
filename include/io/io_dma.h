/* SPDX-License-Identifier: MIT */
/*
 * Types and attributes of DMA buffers
 */
#ifndef IO_IO_DMA_H
#define IO_IO_DMA_H

#include <kos/types.h>
#include <rtl/retcode.h>

/* Attributes of a DMA buffer, DMA_*. */
typedef rtl_uint32_t DmaAttr;

/* An address as a device sees it: an IOVA, or physical without an IOMMU. */
typedef rtl_uint64_t DmaAddr;

/* What devices do with it. None given means both (kosdma). */
#define DMA_DIR_TO_DEVICE 0x0001U /* they read it */
#define DMA_DIR_FROM_DEVICE 0x0002U /* they write it */
#define DMA_DIR_BIDIR (DMA_DIR_TO_DEVICE | DMA_DIR_FROM_DEVICE)

/* Memory, and IOVAs too (kosdma), in the first 4 GiB only. */
#define DMA_ZONE_DMA32 0x0004U

/* The CPU's cache type: one. None given means write-back (kosdma). */
#define DMA_ATTR_WRITE_BACK 0x0010U
#define DMA_ATTR_WRITE_THROUGH 0x0020U
#define DMA_ATTR_CACHE_DISABLE 0x0040U
#define DMA_ATTR_WRITE_COMBINE 0x0080U

/* Bits of a block's order and of its page number. */
#define DMA_FRAME_ORDER_BITS 12
#define DMA_FRAME_BASE_BITS 52

/* No list of blocks is longer. */
#define DMA_FRAMES_COUNT_MAX 0xffffffffU

/**
 * struct DmaInfo - a DMA buffer and its blocks
 * @flags: attributes of the buffer, DMA_*
 * @orderMin: smallest order in the list of blocks; the order asked for while
 *	the list is empty
 * @size: size of the buffer as asked for, in bytes
 * @count: blocks in the list; 0 while no device can reach the buffer
 * @descriptors: the blocks, really @count entries
 *
 * A block is 2^order pages, aligned to its size; its address is frame x page
 * size. In raw, order is in the low DMA_FRAME_ORDER_BITS bits.
 *
 * KasperskyOS guide (fields); kosdma (values while @count is 0, raw).
 */
typedef struct DmaInfo {
	DmaAttr flags;
	rtl_size_t orderMin;
	rtl_size_t size;
	rtl_size_t count;
	/* private: kernel-doc cannot read what follows */
	union DmaFrameDescriptor {
		__extension__ struct {
			DmaAddr order : DMA_FRAME_ORDER_BITS;
			DmaAddr frame : DMA_FRAME_BASE_BITS;
		};
		DmaAddr raw;
	/* public: */
	} descriptors[1];
} DmaInfo;

#endif /* IO_IO_DMA_H */
