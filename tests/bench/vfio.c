// SPDX-License-Identifier: GPL-2.0-only
/* VFIO: a container of type 1, with memory of the process. Its device is an edu beyond kosdma's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/edu.h"
#include "../lib/machine.h"
#include "../lib/pci.h"
#include "../lib/probe.h"
#include "bench.h"

#define IOVA MiB(16)
#define ENTRY_LIMIT "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"

struct vfio {
	int container, group, device;
};

static void bind(const char *path)
{
	char driver[64];

	if (!pci_modprobe("vfio_iommu_type1") || !pci_modprobe("vfio_pci"))
		run_unavailable("no vfio-pci");
	probe_driver(path, driver);
	if (strcmp(driver, "vfio-pci"))
		pci_make_bound(path, "vfio-pci");
	ASSERT_TRUE(probe_write_file(ENTRY_LIMIT, "1000000"));
}

/* A container with that device, as QEMU or DPDK opens it. */
static void vfio_open_device(struct vfio *vfio, const char *path)
{
	char link[256], group[64];
	ssize_t n = readlink(pci_attribute(path, "iommu_group"), link, sizeof(link) - 1);

	if (n < 0)
		run_unavailable("no IOMMU");
	link[n] = '\0';
	snprintf(group, sizeof(group), "/dev/vfio/%.16s", strrchr(link, '/') + 1);
	vfio->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	vfio->group = open(group, O_RDWR | O_CLOEXEC);
	ASSERT_GE(vfio->container, 0);
	ASSERT_GE(vfio->group, 0);
	ASSERT_EQ(0, ioctl(vfio->group, VFIO_GROUP_SET_CONTAINER, &vfio->container));
	ASSERT_EQ(0, ioctl(vfio->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	vfio->device = ioctl(vfio->group, VFIO_GROUP_GET_DEVICE_FD, pci_name(path));
	ASSERT_GE(vfio->device, 0);
}

static void vfio_close_device(struct vfio *vfio)
{
	close(vfio->device);
	close(vfio->group);
	close(vfio->container);
}

static void find(struct edu *edu, int n)
{
	if (!edu_find(edu, EDU_OF_VFIO + n))
		run_unavailable("no device left");
	bind(edu->path);
}

static void vfio_start(struct vfio *vfio, int n)
{
	struct edu edu;

	find(&edu, n);
	vfio_open_device(vfio, edu.path);
}

static void vfio_map(struct vfio *vfio, void *memory, size_t size, uint64_t iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};

	ASSERT_EQ(0, ioctl(vfio->container, VFIO_IOMMU_MAP_DMA, &map));
}

static void vfio_unmap(struct vfio *vfio, size_t size, uint64_t iova)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	ASSERT_EQ(0, ioctl(vfio->container, VFIO_IOMMU_UNMAP_DMA, &unmap));
}

static void *touched(struct run *run, size_t size)
{
	void *memory = memory_map(run_variant(run), size);

	memory_touch(memory, size);
	return memory;
}

void vfio_null(struct run *run, size_t arg)
{
	struct vfio vfio;

	(void)arg;
	vfio_start(&vfio, 0);
	while (run_again(run, 20)) {
		for (int i = 0; i < 100; i++)
			ioctl(vfio.container, VFIO_GET_API_VERSION);
		run_each(run, "call", 100);
	}
}

void vfio_open(struct run *run, size_t size)
{
	void *memory = touched(run, size);
	struct vfio vfio;

	vfio_start(&vfio, 0);
	while (run_again(run, size < MiB(64) ? 20 : 3)) {
		vfio_map(&vfio, memory, size, IOVA);
		run_part(run, "open");
		vfio_unmap(&vfio, size, IOVA);
		run_part(run, "close");
	}
}

void vfio_chain(struct run *run, size_t size)
{
	enum pages pages = run_variant(run);
	struct vfio vfio;

	vfio_start(&vfio, 0);
	while (run_again(run, size < MiB(64) ? 10 : 2)) {
		void *memory = memory_map(pages, size);

		run_part(run, "create");
		memory_touch(memory, size);
		run_part(run, "touch");
		vfio_map(&vfio, memory, size, IOVA);
		run_part(run, "open");
		vfio_unmap(&vfio, size, IOVA);
		run_part(run, "close");
		memory_unmap(memory, pages, size);
		run_part(run, "destroy");
	}
}

/* A container is what a domain is. */
void vfio_domains(struct run *run, size_t nr)
{
	size_t size = MiB(4);
	void *memory = touched(run, size);
	struct vfio vfio[16];

	for (size_t i = 0; i < nr; i++) {
		vfio_start(&vfio[i], i);
		if (i + 1 < nr)
			vfio_map(&vfio[i], memory, size, IOVA);
	}
	while (run_again(run, 10)) {
		vfio_map(&vfio[nr - 1], memory, size, IOVA);
		run_part(run, "open");
		vfio_unmap(&vfio[nr - 1], size, IOVA);
		run_part(run, "close");
	}
}

void vfio_attach(struct run *run, size_t arg)
{
	struct vfio vfio;
	struct edu edu;

	(void)arg;
	find(&edu, 0);
	while (run_again(run, 5)) {
		vfio_open_device(&vfio, edu.path);
		run_part(run, "attach");
		vfio_close_device(&vfio);
		run_part(run, "detach");
	}
}

static void *vfio_region(struct vfio *vfio, int bar, size_t size, uint64_t *offset)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_BAR0_REGION_INDEX + bar,
	};

	ASSERT_EQ(0, ioctl(vfio->device, VFIO_DEVICE_GET_REGION_INFO, &info));
	*offset = info.offset;
	if (!size)
		return NULL;
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vfio->device, info.offset);
}

void vfio_registers(struct run *run, size_t arg)
{
	struct vfio vfio;
	uint64_t offset;
	void *regs;

	(void)arg;
	vfio_start(&vfio, 0);
	regs = vfio_region(&vfio, 0, PAGE_SIZE, &offset);
	ASSERT_NE(MAP_FAILED, regs);
	registers_measure(run, regs);
}

void vfio_bar(struct run *run, size_t arg)
{
	struct vfio vfio;
	uint64_t offset;
	struct pci pci;

	(void)arg;
	if (!pci_find(&pci, PCI_TESTDEV, 0))
		run_unavailable("no pci-testdev");
	bind(pci.path);
	vfio_open_device(&vfio, pci.path);
	vfio_region(&vfio, TESTDEV_MEMORY, 0, &offset);
	bar_measure(run, vfio.device, offset, bar_size(&pci));
	vfio_close_device(&vfio);
	pci_make_driverless(pci.path);
}

/* The same memory at many addresses; one entry for each. */
static void fill(struct vfio *vfio, void *memory, size_t nr)
{
	for (size_t i = 1; i <= nr; i++)
		vfio_map(vfio, memory, PAGE_SIZE, IOVA + i * 2 * PAGE_SIZE);
}

void vfio_open_beside(struct run *run, size_t nr)
{
	void *memory = touched(run, PAGE_SIZE);
	struct vfio vfio;

	vfio_start(&vfio, 0);
	fill(&vfio, memory, nr);
	while (run_again(run, 20)) {
		vfio_map(&vfio, memory, PAGE_SIZE, IOVA);
		run_part(run, "open");
		vfio_unmap(&vfio, PAGE_SIZE, IOVA);
		run_part(run, "close");
	}
}

enum { PAIRS = 2000 };

struct thread {
	struct vfio *vfio;
	void *memory;
	uint64_t iova;
};

static void *thread(void *data)
{
	struct thread *t = data;

	for (int i = 0; i < PAIRS; i++) {
		vfio_map(t->vfio, t->memory, PAGE_SIZE, t->iova);
		vfio_unmap(t->vfio, PAGE_SIZE, t->iova);
	}
	return NULL;
}

void vfio_threads_shared(struct run *run, size_t nr)
{
	void *memory = touched(run, PAGE_SIZE);
	struct thread threads[16];
	struct vfio vfio;

	vfio_start(&vfio, 0);
	for (size_t i = 0; i < nr; i++)
		threads[i] = (struct thread){ &vfio, memory, IOVA + i * MiB(2) };
	while (run_again(run, 2)) {
		threads_run(thread, threads, sizeof(threads[0]), nr);
		run_each(run, "pair", nr * PAIRS);
	}
}

static void open_many(struct run *run, size_t nr)
{
	void *memory = touched(run, PAGE_SIZE);
	struct vfio vfio;

	vfio_start(&vfio, 0);
	fill(&vfio, memory, nr);
}

static void open_once(struct run *run)
{
	struct vfio vfio;

	(void)run;
	vfio_start(&vfio, 0);
	vfio_close_device(&vfio);
}

void vfio_kill(struct run *run, size_t nr)
{
	open_once(run);
	kill_measure(run, nr, open_many, open_once);
}

void vfio_memory(struct run *run, size_t size)
{
	void *memory = touched(run, size);
	struct vfio vfio;
	int64_t before;

	vfio_start(&vfio, 0);
	while (run_again(run, 1)) {
		before = probe_free_memory();
		vfio_map(&vfio, memory, size, MiB(1024));
		run_value(run, "open: KiB", before - probe_free_memory());
		vfio_unmap(&vfio, size, MiB(1024));
	}
}

void vfio_flushes(struct run *run, size_t size)
{
	void *memory = touched(run, size);
	struct vfio vfio;

	vfio_start(&vfio, 0);
	while (run_again(run, 3)) {
		flushes_start();
		vfio_map(&vfio, memory, size, IOVA);
		run_value(run, "open", flushes_stop());
		flushes_start();
		vfio_unmap(&vfio, size, IOVA);
		run_value(run, "close", flushes_stop());
	}
}
