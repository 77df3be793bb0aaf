// SPDX-License-Identifier: GPL-2.0-only
/* dma-buf: buffers made of a memfd (udmabuf), buffers of the system heap. No device sees them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/machine.h"
#include "bench.h"

static int open_device(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		run_unavailable("this kernel does not have it");
	return fd;
}

static int open_udmabuf(void)
{
	pci_modprobe("udmabuf");
	return open_device("/dev/udmabuf");
}

/* The memfd's pages are in use while the buffer is. */
static int udmabuf(int dev, size_t size)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = size };
	int buffer;

	create.memfd = memfd_create("bench", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	ASSERT_GE(create.memfd, 0);
	ASSERT_EQ(0, ftruncate(create.memfd, size));
	ASSERT_EQ(0, fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	buffer = ioctl(dev, UDMABUF_CREATE, &create);
	close(create.memfd);
	return buffer;
}

static int heap(int dev, size_t size)
{
	struct dma_heap_allocation_data create = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	ASSERT_EQ(0, ioctl(dev, DMA_HEAP_IOCTL_ALLOC, &create));
	return create.fd;
}

static void measure_create(struct run *run, int dev, size_t size,
			   int (*create)(int dev, size_t size))
{
	while (run_again(run, size < MiB(64) ? 10 : 1)) {
		int buffer = create(dev, size);

		if (buffer < 0)
			run_unavailable("more than size_limit_mb");
		run_part(run, "create");
		close(buffer);
		run_part(run, "destroy");
	}
}

static void measure_map(struct run *run, int dev, size_t size,
			int (*create)(int dev, size_t size))
{
	int buffer = create(dev, size);
	void *memory;

	if (buffer < 0)
		run_unavailable("more than size_limit_mb");
	while (run_again(run, 5)) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, buffer, 0);
		ASSERT_NE(MAP_FAILED, memory);
		run_part(run, "map");
		memory_touch(memory, size);
		run_part(run, "touch");
		munmap(memory, size);
		run_part(run, "unmap");
	}
}

void udmabuf_create(struct run *run, size_t size)
{
	measure_create(run, open_udmabuf(), size, udmabuf);
}

void udmabuf_map(struct run *run, size_t size)
{
	measure_map(run, open_udmabuf(), size, udmabuf);
}

void heap_create(struct run *run, size_t size)
{
	measure_create(run, open_device("/dev/dma_heap/system"), size, heap);
}

void heap_map(struct run *run, size_t size)
{
	measure_map(run, open_device("/dev/dma_heap/system"), size, heap);
}
