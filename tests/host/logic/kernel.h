/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kmod/ has from the kernel and the kernel's own tools/include does not
 * give to user space. Included before everything else.
 */
#ifndef LOGIC_KERNEL_H
#define LOGIC_KERNEL_H

#include <stdint.h>

#include <linux/kconfig.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define U32_MAX UINT32_MAX
#define U64_MAX UINT64_MAX

#endif /* LOGIC_KERNEL_H */
