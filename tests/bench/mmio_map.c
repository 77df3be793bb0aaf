// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to map a large BAR and to touch all of its pages: by kosdma, by
 * vfio-pci and by sysfs. Run it with tests/vm/run -c, where a nanosecond is an
 * instruction; Documentation/performance.md says how.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/pci.h"
#include "../lib/probe.h"

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

struct times {
	uint64_t map, first, rest, again, unmap;
};

static uint64_t touch(const volatile uint8_t *mem, size_t from, size_t to)
{
	uint64_t begin = now();

	for (size_t at = from; at < to; at += PAGE)
		(void)mem[at];
	return now() - begin;
}

static void touch_all(struct times *t, const volatile uint8_t *mem, size_t size)
{
	t->first = touch(mem, 0, PAGE);
	t->rest = touch(mem, PAGE, size);
	t->again = touch(mem, 0, size);
}

/* What the touches themselves cost is the second round's. */
static void report(const char *what, const struct times *t)
{
	printf("%-10s map %9llu  first touch %9llu  all touches %9llu  unmap %9llu  sum %9llu\n",
	       what, (unsigned long long)t->map, (unsigned long long)t->first,
	       (unsigned long long)(t->first + t->rest > t->again ?
				    t->first + t->rest - t->again : 0),
	       (unsigned long long)t->unmap,
	       (unsigned long long)(t->map + t->unmap +
				    (t->first + t->rest > t->again ?
				     t->first + t->rest - t->again : 0)));
}

static void by_kosdma(const struct pci_bar *bar, size_t size, struct times *t)
{
	Handle region, mapping;
	uint64_t begin;
	void *addr;

	ASSERT_OK(KnRegisterPhyMem(bar->start, size, 0, &region));
	begin = now();
	ASSERT_OK(KnIoMapMem(region, VMM_READ_WRITE, 0, &addr, &mapping));
	t->map = now() - begin;
	touch_all(t, addr, size);
	begin = now();
	ASSERT_OK(KnHandleClose(mapping));
	t->unmap = now() - begin;
	ASSERT_OK(KnHandleClose(region));
}

static void by_mmap(int fd, off_t offset, size_t size, struct times *t)
{
	uint64_t begin = now();
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			  offset);

	t->map = now() - begin;
	ASSERT_NE(MAP_FAILED, addr);
	touch_all(t, addr, size);
	begin = now();
	munmap(addr, size);
	t->unmap = now() - begin;
}

static void bind_to(const struct pci *pci, const char *driver)
{
	char path[128], name[64];

	probe_driver(pci->path, name);
	if (name[0])
		pci_unbind(pci);
	snprintf(path, sizeof(path), "%s/driver_override", pci->path);
	ASSERT_TRUE(probe_write_file(path, driver));
	ASSERT_TRUE(probe_write_file("/sys/bus/pci/drivers_probe", pci->name));
}

static bool by_vfio(const struct pci *pci, size_t size, struct times *t)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_BAR0_REGION_INDEX + TESTDEV_MEMORY,
	};
	int container, group, device;
	char path[128], link[256];
	ssize_t n;

	if (system("modprobe vfio_iommu_type1 2>/dev/null && modprobe vfio_pci 2>/dev/null"))
		return false;
	snprintf(path, sizeof(path), "%s/iommu_group", pci->path);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = '\0';
	bind_to(pci, "vfio-pci");
	snprintf(path, sizeof(path), "/dev/vfio/%.16s", strrchr(link, '/') + 1);
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	group = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(container, 0);
	ASSERT_GE(group, 0);
	ASSERT_EQ(0, ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	ASSERT_EQ(0, ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, pci->name);
	ASSERT_GE(device, 0);
	ASSERT_EQ(0, ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
	by_mmap(device, info.offset, size, t);
	close(device);
	close(group);
	close(container);
	bind_to(pci, "\n");
	return true;
}

TEST_TIMEOUT(map, 600)
{
	struct times kosdma, vfio, sysfs;
	struct pci_bar bar;
	struct pci pci;
	char path[128];
	size_t size;
	int fd;

	probe_require_module();
	pci_require(&pci, PCI_TESTDEV, 0, "pci-testdev");
	pci_require_bar(&pci, TESTDEV_MEMORY, &bar);
	size = bar.last + 1 - bar.start;
	printf("# instructions (with tests/vm/run -c), %zu MiB\n", size >> 20);
	/* Twice: the first time, some code and tables are cold. */
	for (int i = 0; i < 2; i++) {
		by_kosdma(&bar, size, &kosdma);
		snprintf(path, sizeof(path), "%s/resource%d", pci.path,
			 TESTDEV_MEMORY);
		fd = open(path, O_RDWR | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		by_mmap(fd, 0, size, &sysfs);
		close(fd);
		vfio.map = 0;
		if (!by_vfio(&pci, size, &vfio))
			test_log("no vfio-pci here");
	}
	report("# kosdma", &kosdma);
	report("# sysfs", &sysfs);
	if (vfio.map)
		report("# vfio-pci", &vfio);
}

TEST_HARNESS_MAIN
