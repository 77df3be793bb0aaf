// SPDX-License-Identifier: GPL-2.0-only
/*
 * iommufd: an I/O address space, with memory of the process and a device of
 * vfio-pci. Debian's stock kernels lack it; the debug kernel has it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/edu.h"
#include "../lib/machine.h"
#include "../lib/probe.h"
#include "bench.h"

/* Debian 12's headers are older. */
struct iommufd_ioas_alloc {
	uint32_t size, flags, out_id;
};

struct iommufd_ioas_map {
	uint32_t size, flags, id, reserved;
	uint64_t memory, length, iova;
};

struct iommufd_ioas_unmap {
	uint32_t size, id;
	uint64_t iova, length;
};

struct vfio_bind {
	uint32_t argsz, flags;
	int32_t iommufd;
	uint32_t out_id;
};

struct vfio_attach {
	uint32_t argsz, flags, id;
};

#define IOMMUFD_IOAS_ALLOC _IO(';', 0x81)
#define IOMMUFD_IOAS_MAP _IO(';', 0x85)
#define IOMMUFD_IOAS_UNMAP _IO(';', 0x86)
#define IOMMUFD_MAP_FLAGS 7 /* at that address, writable, readable */
#define VFIO_BIND _IO(VFIO_TYPE, VFIO_BASE + 18)
#define VFIO_ATTACH _IO(VFIO_TYPE, VFIO_BASE + 19)

#define IOVA MiB(16)

struct iommufd {
	int fd;
	uint32_t ioas;
};

static int open_cdev(const char *path)
{
	char dir[128], name[256];
	struct dirent *entry;
	int fd = -1;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/vfio-dev", path);
	d = opendir(dir);
	while (d && fd < 0 && (entry = readdir(d))) {
		snprintf(name, sizeof(name), "/dev/vfio/devices/%.200s", entry->d_name);
		if (entry->d_name[0] != '.')
			fd = open(name, O_RDWR | O_CLOEXEC);
	}
	if (d)
		closedir(d);
	return fd;
}

static struct iommufd start(void)
{
	struct iommufd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct vfio_bind bind = { .argsz = sizeof(bind) };
	struct vfio_attach attach = { .argsz = sizeof(attach) };
	char driver[64];
	struct edu edu;
	int device;

	if (!pci_modprobe("iommufd") || !pci_modprobe("vfio_pci"))
		run_unavailable("this kernel does not have it");
	if (!edu_find(&edu, EDU_OF_VFIO))
		run_unavailable("no device left");
	probe_driver(edu.path, driver);
	if (strcmp(driver, "vfio-pci"))
		pci_make_bound(edu.path, "vfio-pci");
	bind.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	device = open_cdev(edu.path);
	if (bind.iommufd < 0 || device < 0)
		run_unavailable("this kernel does not have it");
	ASSERT_EQ(0, ioctl(device, VFIO_BIND, &bind));
	ASSERT_EQ(0, ioctl(bind.iommufd, IOMMUFD_IOAS_ALLOC, &alloc));
	attach.id = alloc.out_id;
	ASSERT_EQ(0, ioctl(device, VFIO_ATTACH, &attach));
	return (struct iommufd){ bind.iommufd, alloc.out_id };
}

static void map(struct iommufd *iommufd, void *memory, size_t size, uint64_t iova)
{
	struct iommufd_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMUFD_MAP_FLAGS,
		.id = iommufd->ioas,
		.memory = (uintptr_t)memory,
		.length = size,
		.iova = iova,
	};

	ASSERT_EQ(0, ioctl(iommufd->fd, IOMMUFD_IOAS_MAP, &map));
}

static void unmap(struct iommufd *iommufd, size_t size, uint64_t iova)
{
	struct iommufd_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.id = iommufd->ioas,
		.iova = iova,
		.length = size,
	};

	ASSERT_EQ(0, ioctl(iommufd->fd, IOMMUFD_IOAS_UNMAP, &unmap));
}

static void *touched(struct run *run, size_t size)
{
	void *memory = memory_map(run_variant(run), size);

	memory_touch(memory, size);
	return memory;
}

/* An identifier that does not exist. */
void iommufd_null(struct run *run, size_t arg)
{
	struct iommufd_ioas_unmap unmap = { .size = sizeof(unmap), .id = -1, .length = PAGE_SIZE };
	struct iommufd iommufd = start();

	(void)arg;
	while (run_again(run, 20)) {
		for (int i = 0; i < 100; i++)
			ioctl(iommufd.fd, IOMMUFD_IOAS_UNMAP, &unmap);
		run_each(run, "refused", 100);
	}
}

void iommufd_open(struct run *run, size_t size)
{
	void *memory = touched(run, size);
	struct iommufd iommufd = start();

	while (run_again(run, size < MiB(64) ? 20 : 3)) {
		map(&iommufd, memory, size, IOVA);
		run_part(run, "open");
		unmap(&iommufd, size, IOVA);
		run_part(run, "close");
	}
}

void iommufd_chain(struct run *run, size_t size)
{
	enum pages pages = run_variant(run);
	struct iommufd iommufd = start();

	while (run_again(run, size < MiB(64) ? 10 : 2)) {
		void *memory = memory_map(pages, size);

		run_part(run, "create");
		memory_touch(memory, size);
		run_part(run, "touch");
		map(&iommufd, memory, size, IOVA);
		run_part(run, "open");
		unmap(&iommufd, size, IOVA);
		run_part(run, "close");
		memory_unmap(memory, pages, size);
		run_part(run, "destroy");
	}
}

void iommufd_open_beside(struct run *run, size_t nr)
{
	void *memory = touched(run, PAGE_SIZE);
	struct iommufd iommufd = start();

	for (size_t i = 1; i <= nr; i++)
		map(&iommufd, memory, PAGE_SIZE, IOVA + i * 2 * PAGE_SIZE);
	while (run_again(run, 20)) {
		map(&iommufd, memory, PAGE_SIZE, IOVA);
		run_part(run, "open");
		unmap(&iommufd, PAGE_SIZE, IOVA);
		run_part(run, "close");
	}
}

void iommufd_memory(struct run *run, size_t size)
{
	void *memory = touched(run, size);
	struct iommufd iommufd = start();
	int64_t before;

	while (run_again(run, 1)) {
		before = probe_free_memory();
		map(&iommufd, memory, size, MiB(1024));
		run_value(run, "open: KiB", before - probe_free_memory());
		unmap(&iommufd, size, MiB(1024));
	}
}
