// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every operation that is measured, and who does it. To add one, add a line;
 * lines of the same name take turns. bench.h says what a function looks like.
 */
#include "../lib/buffer.h"
#include "bench.h"

#define ARGS(name, ...) static const struct args name = { __VA_ARGS__ }

ARGS(once, ARGS_NONE, { 0 });
ARGS(sizes, ARGS_BYTES, { KiB(4), KiB(64), MiB(2), MiB(64), MiB(1024) });
ARGS(sizes_64m, ARGS_BYTES, { KiB(4), KiB(64), MiB(2), MiB(64) });
ARGS(huge_sizes, ARGS_BYTES, { MiB(2), MiB(64), MiB(1024) });
ARGS(size_4k, ARGS_BYTES, { KiB(4) });
ARGS(size_4m, ARGS_BYTES, { MiB(4) });
ARGS(size_1g, ARGS_BYTES, { MiB(1024) });
/* Of one block: where more of them lie depends on what else the guest does. */
ARGS(blocks_of_pages, ARGS_BYTES, { KiB(4), MiB(4) });
ARGS(batches, ARGS_COUNT, { 1, 4, 16, 64, 256 });
ARGS(batch_64, ARGS_COUNT, { 64 });
ARGS(nth, ARGS_COUNT, { 1, 2, 4, 16 });
ARGS(few_nth, ARGS_COUNT, { 1, 2, 4 });
ARGS(blocks, ARGS_COUNT, { 1, 1000, 100000 });
ARGS(one, ARGS_COUNT, { 1 });
ARGS(holders, ARGS_COUNT, { 1, 10, 100, 1000 });
ARGS(ten, ARGS_COUNT, { 10 });
ARGS(live, ARGS_COUNT, { 10, 1000, 100000 });
ARGS(live_maps, ARGS_COUNT, { 10, 1000, 50000 });
ARGS(threads, ARGS_COUNT, { 1, 2 });

const struct operation operations[] = {
	/* name, contender, function, arguments, of these in the smoke test, variant */
	{ "null call", "kosdma", kosdma_null, &once, &once, 0 },
	{ "null call", "VFIO", vfio_null, &once, NULL, 0 },
	{ "null call", "iommufd", iommufd_null, &once, NULL, 0 },
	{ "null call", "Linux", linux_null, &once, NULL, 0 },

	{ "memory", "kosdma", kosdma_create, &sizes, &blocks_of_pages, 0 },
	{ "memory", "own 4 KiB", linux_create, &sizes_64m, NULL, PAGES_4K },
	{ "memory", "own THP", linux_create, &huge_sizes, NULL, PAGES_THP },
	{ "memory", "udmabuf", udmabuf_create, &sizes, NULL, 0 },
	{ "memory", "dma-heap", heap_create, &sizes, NULL, 0 },
	{ "memory", "cleared", linux_clear, &huge_sizes, NULL, 0 },

	{ "map and touch", "kosdma", kosdma_map, &sizes, &blocks_of_pages, 0 },
	{ "map and touch", "own 4 KiB", linux_map, &sizes_64m, NULL, PAGES_4K },
	{ "map and touch", "own THP", linux_map, &huge_sizes, NULL, PAGES_THP },
	{ "map and touch", "udmabuf", udmabuf_map, &sizes_64m, NULL, 0 },
	{ "map and touch", "dma-heap", heap_map, &sizes_64m, NULL, 0 },

	{ "open", "kosdma", kosdma_open, &sizes, &blocks_of_pages, 0 },
	{ "open", "VFIO 4 KiB", vfio_open, &sizes_64m, NULL, PAGES_4K },
	{ "open", "VFIO THP", vfio_open, &huge_sizes, NULL, PAGES_THP },
	{ "open", "VFIO hugetlb", vfio_open, &huge_sizes, NULL, PAGES_HUGETLB },
	{ "open", "iommufd 4 KiB", iommufd_open, &sizes_64m, NULL, PAGES_4K },
	{ "open", "iommufd THP", iommufd_open, &huge_sizes, NULL, PAGES_THP },

	{ "open 4 KiB in batches of", "kosdma", kosdma_open_batch, &batches, &batch_64, 0 },

	{ "chain", "kosdma", kosdma_chain, &sizes, &size_4m, 0 },
	{ "chain", "VFIO 4 KiB", vfio_chain, &sizes_64m, NULL, PAGES_4K },
	{ "chain", "VFIO THP", vfio_chain, &huge_sizes, NULL, PAGES_THP },
	{ "chain", "VFIO hugetlb", vfio_chain, &huge_sizes, NULL, PAGES_HUGETLB },
	{ "chain", "iommufd 4 KiB", iommufd_chain, &sizes_64m, NULL, PAGES_4K },
	{ "chain", "iommufd THP", iommufd_chain, &huge_sizes, NULL, PAGES_THP },

	{ "open in the nth domain", "kosdma", kosdma_domains, &nth, NULL, 0 },
	{ "open in the nth domain", "VFIO THP", vfio_domains, &few_nth, NULL, PAGES_THP },

	{ "open beside others", "kosdma", kosdma_open_beside, &live, &ten, 0 },
	{ "open beside others", "VFIO 4 KiB", vfio_open_beside, &live, NULL, PAGES_4K },
	{ "open beside others", "iommufd 4 KiB", iommufd_open_beside, &live, NULL, PAGES_4K },
	{ "create beside others", "kosdma", kosdma_create_beside, &live, NULL, 0 },
	{ "map beside others", "kosdma", kosdma_map_beside, &live_maps, NULL, 0 },

	{ "threads with a domain each", "kosdma", kosdma_threads_private, &threads, NULL, 0 },
	{ "threads with one domain", "kosdma", kosdma_threads_shared, &threads, NULL, 0 },
	{ "threads with one domain", "VFIO 4 KiB", vfio_threads_shared, &threads, NULL, PAGES_4K },

	{ "open with tracepoints on", "kosdma", kosdma_open_traced, &size_4k, NULL, 0 },
	{ "open with a listener", "kosdma", kosdma_open_listened, &size_4k, NULL, 0 },

	{ "list of blocks", "kosdma", kosdma_info, &blocks, &one, 0 },
	{ "attach", "kosdma", kosdma_attach, &once, NULL, 0 },
	{ "attach", "VFIO", vfio_attach, &once, NULL, 0 },
	{ "send a handle", "kosdma", kosdma_send, &once, &once, 0 },
	{ "send a handle", "Linux", linux_send, &once, NULL, 0 },
	{ "revoke from holders", "kosdma", kosdma_revoke, &holders, &ten, 0 },
	{ "SIGKILL of one with many", "kosdma", kosdma_kill, &live, NULL, 0 },
	{ "SIGKILL of one with many", "VFIO 4 KiB", vfio_kill, &live, NULL, PAGES_4K },

	{ "register", "kosdma", kosdma_registers, &once, &once, 0 },
	{ "register", "VFIO", vfio_registers, &once, NULL, 0 },
	{ "register", "sysfs or uio", sysfs_registers, &once, NULL, 0 },
	{ "BAR of 64 MiB", "kosdma", kosdma_bar, &once, NULL, 0 },
	{ "BAR of 64 MiB", "VFIO", vfio_bar, &once, NULL, 0 },
	{ "BAR of 64 MiB", "sysfs or uio", sysfs_bar, &once, NULL, 0 },

	/* Numbers that are no times. */
	{ "kernel memory", "kosdma", kosdma_memory, &size_1g, NULL, 0 },
	{ "kernel memory", "VFIO 4 KiB", vfio_memory, &size_1g, NULL, PAGES_4K },
	{ "kernel memory", "VFIO THP", vfio_memory, &size_1g, NULL, PAGES_THP },
	{ "kernel memory", "iommufd 4 KiB", iommufd_memory, &size_1g, NULL, PAGES_4K },
	{ "kernel memory", "iommufd THP", iommufd_memory, &size_1g, NULL, PAGES_THP },
	{ "faults when touched", "kosdma", kosdma_faults, &sizes_64m, &blocks_of_pages, 0 },
	{ "requests to the IOMMU", "kosdma", kosdma_flushes, &sizes_64m, &blocks_of_pages, 0 },
	{ "requests to the IOMMU", "VFIO 4 KiB", vfio_flushes, &sizes_64m, NULL, PAGES_4K },
	{ "requests to the IOMMU", "VFIO THP", vfio_flushes, &huge_sizes, NULL, PAGES_THP },
};

const size_t nr_operations = ARRAY_SIZE(operations);
