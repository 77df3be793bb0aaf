// SPDX-License-Identifier: MIT
/*
 * kos-ls: the PCI devices that a driver could attach, and what stands in the way
 *
 * Everything is read from sysfs, so it needs neither privilege nor the module.
 */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRIVER "kosdma"
#define CONTROL_DEVICE "/dev/kosdma"

/* PCI: header type, class codes, the standard BARs, the flags of "resource". */
#define PCI_HEADER_TYPE 0x0e
#define PCI_HEADER_TYPE_MASK 0x7f
#define PCI_CLASS_BRIDGE 0x06
#define PCI_CLASS_IOMMU 0x0806
#define PCI_BAR_COUNT 6
#define RESOURCE_IO 0x100ul
#define RESOURCE_MEM 0x200ul
#define RESOURCE_PREFETCH 0x2000ul
#define RESOURCE_MEM_64 0x100000ul

#define NAME_SIZE 64

struct bar {
	unsigned long long start;
	unsigned long long size;
	unsigned long flags;
};

struct device {
	char name[NAME_SIZE]; /* as in sysfs: ssss:bb:dd.f */
	unsigned int vendor;
	unsigned int id;
	unsigned int class;
	unsigned int header; /* header type */
	char driver[NAME_SIZE]; /* empty: none */
	char group[NAME_SIZE]; /* empty: no IOMMU */
	struct bar bars[PCI_BAR_COUNT];
};

static const char *sysfs = "/sys";

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "kos-ls: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* Reading sysfs. */

static void device_path(char *path, size_t size, const char *device, const char *attribute)
{
	snprintf(path, size, "%s/bus/pci/devices/%s/%s", sysfs, device, attribute);
}

static FILE *open_attribute(const char *device, const char *attribute)
{
	char path[PATH_MAX];

	device_path(path, sizeof(path), device, attribute);
	return fopen(path, "r");
}

static unsigned int read_hex(const char *device, const char *attribute)
{
	FILE *file = open_attribute(device, attribute);
	unsigned int value = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%x", &value) != 1)
		value = 0;
	fclose(file);
	return value;
}

static void set_name(char name[NAME_SIZE], const char *text)
{
	snprintf(name, NAME_SIZE, "%.*s", NAME_SIZE - 1, text);
}

/* The header type, from the part of the configuration space that anybody may read. */
static unsigned int read_header(const char *device)
{
	FILE *file = open_attribute(device, "config");
	int byte = 0;

	if (!file)
		return 0;
	if (fseek(file, PCI_HEADER_TYPE, SEEK_SET) == 0)
		byte = fgetc(file);
	fclose(file);
	return byte == EOF ? 0 : (unsigned int)byte;
}

/* The last component of what a link points to, or "" if there is no such link. */
static void read_link(const char *device, const char *attribute, char name[NAME_SIZE])
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *last;
	ssize_t length;

	name[0] = '\0';
	device_path(path, sizeof(path), device, attribute);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return;
	target[length] = '\0';
	last = strrchr(target, '/');
	set_name(name, last ? last + 1 : target);
}

static void read_bars(struct device *device)
{
	FILE *file = open_attribute(device->name, "resource");
	unsigned long long start, last;
	unsigned long flags;

	if (!file)
		return;
	for (int i = 0; i < PCI_BAR_COUNT; i++) {
		if (fscanf(file, "%llx %llx %lx", &start, &last, &flags) != 3)
			break;
		if (flags)
			device->bars[i] = (struct bar){ start, last - start + 1, flags };
	}
	fclose(file);
}

static void read_device(struct device *device, const char *name)
{
	*device = (struct device){ 0 };
	set_name(device->name, name);
	device->vendor = read_hex(name, "vendor");
	device->id = read_hex(name, "device");
	device->class = read_hex(name, "class");
	device->header = read_header(name);
	read_link(name, "driver", device->driver);
	read_link(name, "iommu_group", device->group);
	read_bars(device);
}

static int is_name(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* What stands in the way. */

/* Bridges proper have a configuration space of another shape than devices. */
static bool is_bridge(const struct device *device)
{
	return device->header & PCI_HEADER_TYPE_MASK;
}

/* Can be attached like a device, but the machine lives on it. */
static bool is_machinery(const struct device *device)
{
	return device->class >> 16 == PCI_CLASS_BRIDGE || device->class >> 8 == PCI_CLASS_IOMMU;
}

/* Drivers that leave the DMA of their group to others, as ours does. */
static bool shares_group(const char *driver)
{
	static const char *const names[] = { "", DRIVER, "pcieport", "pci-stub", "vfio-pci" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(driver, names[i]) == 0)
			return true;
	}
	return false;
}

/* A member of the device's group whose driver keeps the group from us. */
static bool find_obstacle(const struct device *device, char member[NAME_SIZE],
			  char driver[NAME_SIZE])
{
	struct dirent **members = NULL;
	char path[PATH_MAX];
	bool found = false;
	int count;

	device_path(path, sizeof(path), device->name, "iommu_group/devices");
	count = scandir(path, &members, is_name, alphasort);
	for (int i = 0; i < count; i++) {
		if (!found && strcmp(members[i]->d_name, device->name) != 0) {
			read_link(members[i]->d_name, "driver", driver);
			found = !shares_group(driver);
			if (found)
				set_name(member, members[i]->d_name);
		}
		free(members[i]);
	}
	free(members);
	return found;
}

static void print_status(const struct device *device)
{
	bool bound = strcmp(device->driver, DRIVER) == 0;
	char member[NAME_SIZE], driver[NAME_SIZE];

	if (is_bridge(device)) {
		printf("a bridge: cannot be attached");
		return;
	}
	if (is_machinery(device)) {
		printf("a part of the machine itself: leave it alone");
		return;
	}
	if (device->driver[0] && !bound) {
		printf("driver %s has it", device->driver);
		return;
	}
	if (find_obstacle(device, member, driver)) {
		printf("driver %s has %s of its group", driver, member);
		return;
	}
	printf(bound ? "ready" : "ready, once bound to " DRIVER " (done at attach for root)");
	if (!device->group[0])
		printf("; no IOMMU: needs CAP_SYS_RAWIO");
	if (strncmp(device->name, "0000:", 5) != 0)
		printf("; not in segment 0: Kos...Ex calls only");
}

/* Output. */

static void print_size(unsigned long long size)
{
	static const char units[] = "BKMGTPE";
	int unit = 0;

	while (size >= 1024 && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	printf("%llu%c", size, units[unit]);
}

static void print_bars(const struct device *device)
{
	for (int i = 0; i < PCI_BAR_COUNT; i++) {
		const struct bar *bar = &device->bars[i];

		if (!(bar->flags & (RESOURCE_MEM | RESOURCE_IO)))
			continue;
		printf("    BAR %d: %s 0x%llx, ", i, bar->flags & RESOURCE_MEM ? "memory" : "ports",
		       bar->start);
		print_size(bar->size);
		if (bar->flags & RESOURCE_MEM_64)
			printf(", 64 bits");
		if (bar->flags & RESOURCE_PREFETCH)
			printf(", prefetchable");
		putchar('\n');
	}
}

static void print_header(void)
{
	printf("%-12s  %-9s  %-6s  %-5s  %-12s  %s\n", "DEVICE", "ID", "CLASS", "GROUP", "DRIVER",
	       "STATUS");
}

static void print_device(const struct device *device)
{
	printf("%-12s  %04x:%04x  %06x  %-5s  %-12s  ", device->name, device->vendor, device->id,
	       device->class, device->group[0] ? device->group : "-",
	       device->driver[0] ? device->driver : "-");
	print_status(device);
	putchar('\n');
	print_bars(device);
}

/* Devices of the command line, with and without the segment. */

static bool same_address(const char *name, const char *wanted)
{
	return strcmp(name, wanted) == 0 ||
	       (strncmp(name, "0000:", 5) == 0 && strcmp(name + 5, wanted) == 0);
}

static bool is_wanted(const char *name, char **wanted, int count)
{
	for (int i = 0; i < count; i++) {
		if (same_address(name, wanted[i]))
			return true;
	}
	return count == 0;
}

static bool is_address(const char *text)
{
	unsigned int segment, bus, device, function;
	int end = 0;

	if (sscanf(text, "%x:%2x:%2x.%1x%n", &segment, &bus, &device, &function, &end) == 4 &&
	    !text[end])
		return true;
	end = 0;
	return sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) == 3 && !text[end];
}

static bool report_missing(struct dirent **names, int count, char **wanted, int wanted_count)
{
	bool missing = false;

	for (int i = 0; i < wanted_count; i++) {
		bool found = false;

		for (int j = 0; j < count && !found; j++)
			found = same_address(names[j]->d_name, wanted[i]);
		if (!found) {
			complain("%s: no such device", wanted[i]);
			missing = true;
		}
	}
	return missing;
}

static int list_devices(char **wanted, int wanted_count)
{
	struct dirent **names = NULL;
	struct device device;
	char path[PATH_MAX];
	bool missing;
	int count;

	snprintf(path, sizeof(path), "%s/bus/pci/devices", sysfs);
	count = scandir(path, &names, is_name, alphasort);
	if (count < 0) {
		complain("%s: %s", path, strerror(errno));
		return 1;
	}

	missing = report_missing(names, count, wanted, wanted_count);
	print_header();
	for (int i = 0; i < count; i++) {
		if (is_wanted(names[i]->d_name, wanted, wanted_count)) {
			read_device(&device, names[i]->d_name);
			print_device(&device);
		}
		free(names[i]);
	}
	free(names);
	if (access(CONTROL_DEVICE, F_OK) != 0)
		printf("\n" CONTROL_DEVICE " is missing: load kosdma.ko before attaching anything.\n");
	return missing ? 1 : 0;
}

static void print_usage(FILE *out)
{
	fprintf(out,
		"Usage: kos-ls [-h] [-s DIR] [BDF...]\n"
		"List the PCI devices that a driver could attach with KnIommuAttachDevice:\n"
		"their BARs, IOMMU group and driver, and what stands in the way.\n"
		"\n"
		"  BDF     only this device, as bb:dd.f or ssss:bb:dd.f\n"
		"  -s DIR  where sysfs is mounted (default: /sys)\n"
		"  -h      print this\n"
		"\n"
		"Exit status: 0 if all was listed, 1 if a device or sysfs is missing,\n"
		"2 for wrong arguments.\n");
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "hs:")) != -1) {
		switch (option) {
		case 'h':
			print_usage(stdout);
			return 0;
		case 's':
			sysfs = optarg;
			break;
		default:
			print_usage(stderr);
			return 2;
		}
	}
	for (int i = optind; i < argc; i++) {
		if (!is_address(argv[i])) {
			complain("not a device address: '%s' (kos-ls -h explains)", argv[i]);
			return 2;
		}
	}
	return list_devices(argv + optind, argc - optind);
}
