// SPDX-License-Identifier: MIT
/*
 * kos-edu: a user-space driver for edu, the teaching device of QEMU
 *
 * It is written as a driver for KasperskyOS is: against the SDK's headers and
 * libc, with no Linux header. It looks at the device, has it compute, moves
 * data by DMA, and shows what becomes of a device that writes to memory which
 * it may no longer reach. Each step is one function; steps[] is their order.
 */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <coresrv/handle/handle_api.h>
#include <coresrv/io/dma.h>
#include <coresrv/io/mmio.h>
#include <coresrv/iommu/iommu_api.h>
#include <kos/alloc.h>
#include <rtl/retcode.h>
#include <rtl/retcode_hr.h>

/* The device, from QEMU's docs/specs/edu. */
#define EDU_VENDOR 0x1234
#define EDU_DEVICE 0x11e8

#define EDU_REG_ID 0x00
#define EDU_REG_LIVENESS 0x04
#define EDU_REG_FACTORIAL 0x08
#define EDU_REG_STATUS 0x20
#define EDU_REG_DMA_SOURCE 0x80
#define EDU_REG_DMA_TARGET 0x88
#define EDU_REG_DMA_COUNT 0x90
#define EDU_REG_DMA_COMMAND 0x98

#define EDU_ID_MASK 0x0000ffffu
#define EDU_ID_VALUE 0x000000edu
#define EDU_STATUS_COMPUTING 0x01u
#define EDU_DMA_START 0x01u
#define EDU_DMA_TO_MEMORY 0x02u

/*
 * The device's own memory, as its DMA engine addresses it. It has one byte more,
 * but QEMU stops at a transfer that ends there.
 */
#define EDU_MEMORY_BASE 0x40000u
#define EDU_MEMORY_SIZE 4095u

/* How many address bits the device drives, unless QEMU was told otherwise. */
#define EDU_DMA_BITS 28u

/* Six pages are no power of two, so the buffer has two blocks at the least. */
#define BUFFER_PAGES 6u
#define BUFFER_SIZE ((size_t)BUFFER_PAGES * PAGE_SIZE)

#define POLL_INTERVAL_MS 1
#define POLL_LIMIT_MS 5000

#define PCI_DEVICES "/sys/bus/pci/devices"

struct edu {
	/* where the device is */
	rtl_uint16_t bdf;
	rtl_uint64_t bar;
	char name[16];
	bool translated; /* an IOMMU stands between it and memory */
	unsigned int dma_bits;

	/* what this driver holds */
	bool attached;
	IoMemHandles registers;
	unsigned char *regs;
	Handle buffer;
	Handle access;
	Handle mapping;
	unsigned char *memory; /* the buffer, as the CPU sees it */
	DmaInfo *info; /* the buffer, as the device sees it */
	unsigned char *expected; /* what the buffer should hold */

	unsigned int comparisons;
};

/* A part of the buffer that is one piece to the device. */
struct span {
	DmaAddr address;
	size_t length;
};

enum direction { TO_DEVICE, TO_MEMORY };

/* Reporting. */

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;

	printf("   ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

__attribute__((format(printf, 1, 2))) static bool fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "kos-edu: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return false;
}

static const char *advice(Retcode rc)
{
	switch (rc) {
	case rcNotConnected:
		return "is kosdma.ko loaded, and may this user open /dev/kosdma?";
	case rcNotReady:
		return "the device has no driver; as root it is bound to kosdma by itself";
	case rcBusy:
		return "somebody else has the device; kos-ls tells who";
	case rcSecurityDisallow:
		return "a privilege is missing; try as root";
	case rcQuotaExceeded:
		return "a limit was hit, or the buffer is out of the device's reach (see -m)";
	default:
		return NULL;
	}
}

/* True if the call went well; otherwise tell what it answered. */
static bool worked(const char *call, Retcode rc)
{
	const char *hint = advice(rc);

	if (rc == rcOk)
		return true;
	fail("%s: " RETCODE_HR_FMT, call, RETCODE_HR_PARAMS(rc));
	if (hint)
		fail("(%s)", hint);
	return false;
}

/* Finding the device in the list that Linux keeps in the file system. */

static FILE *open_attribute(const char *device, const char *attribute)
{
	char path[128];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", device, attribute);
	return fopen(path, "r");
}

static unsigned long read_id(const char *device, const char *attribute)
{
	FILE *file = open_attribute(device, attribute);
	unsigned long id = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lx", &id) != 1)
		id = 0;
	fclose(file);
	return id;
}

/* The first line of "resource" is the first and last address of BAR 0. */
static rtl_uint64_t read_bar(const char *device)
{
	FILE *file = open_attribute(device, "resource");
	unsigned long long first = 0, last = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%llx %llx", &first, &last) != 2 || last - first + 1 < PAGE_SIZE)
		first = 0;
	fclose(file);
	return first;
}

static bool behind_iommu(const char *device)
{
	char path[128];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/iommu_group", device);
	return access(path, F_OK) == 0;
}

/* This API's address of a device has no PCI segment, so it is segment 0. */
static bool parse_bdf(const char *text, rtl_uint16_t *bdf)
{
	unsigned int bus, device, function;
	int end = 0;

	if (strncmp(text, "0000:", 5) == 0)
		text += 5;
	if (sscanf(text, "%2x:%2x.%1u%n", &bus, &device, &function, &end) != 3 || text[end])
		return false;
	if (device > 31 || function > 7)
		return false;
	*bdf = (rtl_uint16_t)(bus << 8 | device << 3 | function);
	return true;
}

static void set_address(struct edu *edu, rtl_uint16_t bdf)
{
	edu->bdf = bdf;
	snprintf(edu->name, sizeof(edu->name), "0000:%02x:%02x.%x", bdf >> 8, bdf >> 3 & 31,
		 bdf & 7);
}

static bool is_edu(const char *device)
{
	return read_id(device, "vendor") == EDU_VENDOR && read_id(device, "device") == EDU_DEVICE;
}

static int names_edu(const struct dirent *entry)
{
	return is_edu(entry->d_name);
}

static bool search_bus(struct edu *edu)
{
	struct dirent **found = NULL;
	int count = scandir(PCI_DEVICES, &found, names_edu, alphasort);
	bool known = false;
	rtl_uint16_t bdf;

	for (int i = 0; i < count; i++) {
		if (!known && parse_bdf(found[i]->d_name, &bdf)) {
			set_address(edu, bdf);
			known = true;
		}
		free(found[i]);
	}
	free(found);
	return known;
}

/* Registers and the device's DMA engine. */

static rtl_uint32_t read_register(const struct edu *edu, size_t offset)
{
	return IoReadMmReg32(edu->regs + offset);
}

static void write_register(const struct edu *edu, size_t offset, rtl_uint32_t value)
{
	IoWriteMmReg32(edu->regs + offset, value);
}

/* Wait, with a bound, until the bits of a register are clear. */
static bool wait_clear(const struct edu *edu, size_t offset, rtl_uint32_t bits)
{
	const struct timespec interval = { .tv_nsec = POLL_INTERVAL_MS * 1000000L };

	for (int waited = 0; waited < POLL_LIMIT_MS; waited += POLL_INTERVAL_MS) {
		if (!(read_register(edu, offset) & bits))
			return true;
		nanosleep(&interval, NULL);
	}
	return fail("the device is still busy after %d ms", POLL_LIMIT_MS);
}

/*
 * One run of the DMA engine. It must never be told to go beyond the device's
 * own memory: not every QEMU checks. The buffer is below 4 GiB, which is why
 * 32 bits of each address register are enough.
 */
static bool run_dma(const struct edu *edu, enum direction direction, struct span span,
		    size_t device_offset)
{
	rtl_uint32_t memory = (rtl_uint32_t)span.address;
	rtl_uint32_t device = EDU_MEMORY_BASE + (rtl_uint32_t)device_offset;

	if (device_offset > EDU_MEMORY_SIZE || span.length > EDU_MEMORY_SIZE - device_offset)
		return fail("a transfer would leave the device's memory");

	write_register(edu, EDU_REG_DMA_SOURCE, direction == TO_DEVICE ? memory : device);
	write_register(edu, EDU_REG_DMA_TARGET, direction == TO_DEVICE ? device : memory);
	write_register(edu, EDU_REG_DMA_COUNT, (rtl_uint32_t)span.length);
	write_register(edu, EDU_REG_DMA_COMMAND,
		       EDU_DMA_START | (direction == TO_MEMORY ? EDU_DMA_TO_MEMORY : 0));
	return wait_clear(edu, EDU_REG_DMA_COMMAND, EDU_DMA_START);
}

/* Where the device finds byte @offset of the buffer, and how far that block goes on. */
static struct span device_span(const DmaInfo *info, size_t offset)
{
	for (rtl_size_t i = 0; i < info->count; i++) {
		DmaAddr start = (DmaAddr)info->descriptors[i].frame << PAGE_SHIFT;
		size_t length = (size_t)PAGE_SIZE << info->descriptors[i].order;

		if (offset < length)
			return (struct span){ start + offset, length - offset };
		offset -= length;
	}
	return (struct span){ 0, 0 };
}

/* Move a part of the buffer, one run for each block that it touches. */
static bool transfer(const struct edu *edu, enum direction direction, size_t offset, size_t length,
		     size_t device_offset)
{
	while (length) {
		struct span span = device_span(edu->info, offset);

		if (!span.length)
			return fail("the device cannot reach byte %zu of the buffer", offset);
		if (span.length > length)
			span.length = length;
		if (!run_dma(edu, direction, span, device_offset))
			return false;
		offset += span.length;
		device_offset += span.length;
		length -= span.length;
	}
	return true;
}

/* Bytes that differ from one place to the next and from one seed to another. */
static void fill_pattern(unsigned char *bytes, size_t length, unsigned int seed)
{
	for (size_t i = 0; i < length; i++) {
		seed = seed * 1103515245u + 12345u;
		bytes[i] = (unsigned char)(seed >> 16);
	}
}

static bool memory_is_as_expected(struct edu *edu)
{
	edu->comparisons++;
	return memcmp(edu->memory, edu->expected, BUFFER_SIZE) == 0;
}

static bool compare_register(struct edu *edu, const char *what, rtl_uint32_t value,
			     rtl_uint32_t expected)
{
	edu->comparisons++;
	if (value != expected)
		return fail("%s is 0x%08x, not 0x%08x", what, (unsigned int)value,
			    (unsigned int)expected);
	return true;
}

/* The steps. */

static bool find_device(struct edu *edu)
{
	if (!edu->name[0] && !search_bus(edu))
		return fail("there is no edu device; start QEMU with -device edu");
	if (!edu->bar) {
		if (!is_edu(edu->name))
			return fail("%s is no edu device", edu->name);
		edu->bar = read_bar(edu->name);
	}
	if (!edu->bar)
		return fail("the registers of %s have no address", edu->name);
	edu->translated = behind_iommu(edu->name);

	say("Device %s, BDF 0x%04x; its registers are at 0x%llx.", edu->name, edu->bdf,
	    (unsigned long long)edu->bar);
	if (edu->translated) {
		say("An IOMMU translates for it: it reaches what this driver opens, nothing else.");
	} else {
		say("No IOMMU translates for it. The calls are the same, the protection is missing:");
		say("attached, this device can read and write all memory of the machine.");
	}
	return true;
}

static bool attach_device(struct edu *edu)
{
	rtl_uint64_t highest = ~(rtl_uint64_t)0 >> (64 - edu->dma_bits);

	if (!worked("KnIommuAttachDevice", KnIommuAttachDevice(edu->bdf)))
		return false;
	edu->attached = true;
	if (!worked("KosIommuSetDmaMask", KosIommuSetDmaMask(edu->bdf, highest)))
		return false;
	say("Attached to the I/O address space of this process.");
	if (edu->dma_bits < 64)
		say("It drives %u address bits, so no buffer for it may lie above 0x%llx.",
		    edu->dma_bits, (unsigned long long)highest);
	return true;
}

static bool map_registers(struct edu *edu)
{
	IoMemHandles *io = &edu->registers;
	void *regs;

	if (!worked("KnRegisterPhyMem", KnRegisterPhyMem(edu->bar, PAGE_SIZE, 0, &io->region)) ||
	    !worked("KnIoMapMem", KnIoMapMem(io->region, VMM_FLAG_READ | VMM_FLAG_WRITE,
					     VMM_FLAG_CACHE_DISABLE, &regs, &io->mapping)))
		return false;
	edu->regs = regs;
	say("Registered 0x%llx, %lu bytes, for this driver alone; mapped at %p, uncached.",
	    (unsigned long long)edu->bar, (unsigned long)PAGE_SIZE, regs);
	return true;
}

static bool identify(struct edu *edu)
{
	const rtl_uint32_t probe = 0x12345678;
	rtl_uint32_t id = read_register(edu, EDU_REG_ID);
	rtl_uint32_t answer;

	say("Identification: 0x%08x, version %u.%u.", (unsigned int)id, (unsigned int)(id >> 24),
	    (unsigned int)(id >> 16 & 0xff));
	if (!compare_register(edu, "the identification", id & EDU_ID_MASK, EDU_ID_VALUE))
		return false;

	write_register(edu, EDU_REG_LIVENESS, probe);
	answer = read_register(edu, EDU_REG_LIVENESS);
	if (!compare_register(edu, "the inverse", answer, ~probe))
		return false;
	say("Liveness: wrote 0x%08x, read its inverse, 0x%08x.", (unsigned int)probe,
	    (unsigned int)answer);
	return true;
}

static bool compute_factorial(struct edu *edu)
{
	const rtl_uint32_t n = 10;
	rtl_uint32_t expected = 1, result;

	for (rtl_uint32_t i = 2; i <= n; i++)
		expected *= i;

	write_register(edu, EDU_REG_FACTORIAL, n);
	if (!wait_clear(edu, EDU_REG_STATUS, EDU_STATUS_COMPUTING))
		return false;
	result = read_register(edu, EDU_REG_FACTORIAL);
	say("The device says: %u! = %u.", (unsigned int)n, (unsigned int)result);
	return compare_register(edu, "the factorial", result, expected);
}

static void list_blocks(const struct edu *edu)
{
	for (rtl_size_t i = 0; i < edu->info->count; i++) {
		unsigned int pages = 1u << edu->info->descriptors[i].order;
		unsigned long long frame = edu->info->descriptors[i].frame;

		say("   block %lu: %u page%s at %s address 0x%llx", (unsigned long)i, pages,
		    pages > 1 ? "s" : "", edu->translated ? "I/O" : "physical",
		    frame << PAGE_SHIFT);
	}
}

/* Let the device reach the buffer, and learn where it finds it. */
static bool open_for_device(struct edu *edu)
{
	KosMemFree(edu->info);
	edu->info = NULL;
	return worked("KnIoDmaBegin", KnIoDmaBegin(edu->buffer, &edu->access)) &&
	       worked("KnIoDmaGetInfo", KnIoDmaGetInfo(edu->access, &edu->info));
}

/* The order that the SDK's guide recommends: create, begin, map. */
static bool make_buffer(struct edu *edu)
{
	const DmaAttr attributes = DMA_DIR_BIDIR | DMA_ZONE_DMA32 | DMA_ATTR_WRITE_BACK;
	const int prot = VMM_FLAG_READ | VMM_FLAG_WRITE;
	void *memory;

	edu->expected = calloc(1, BUFFER_SIZE);
	if (!edu->expected)
		return fail("out of memory");

	if (!worked("KnIoDmaCreate", KnIoDmaCreate(0, BUFFER_SIZE, attributes, &edu->buffer)) ||
	    !open_for_device(edu) ||
	    !worked("KnIoDmaMap",
		    KnIoDmaMap(edu->buffer, 0, BUFFER_SIZE, NULL, prot, &memory, &edu->mapping)))
		return false;
	edu->memory = memory;

	say("Created %u pages, begun for the device, mapped at %p.", BUFFER_PAGES, memory);
	say("The device sees them as %lu block%s:", (unsigned long)edu->info->count,
	    edu->info->count == 1 ? "" : "s");
	list_blocks(edu);
	if (!memory_is_as_expected(edu))
		return fail("the buffer did not arrive zeroed");
	say("All of it is zero, as new memory must be.");
	return true;
}

struct round_trip {
	const char *what;
	size_t offset;
	size_t length;
	size_t device_offset;
};

static const struct round_trip round_trips[] = {
	{ "as much as the device holds", 0, EDU_MEMORY_SIZE, 0 },
	{ "one byte", 1, 1, EDU_MEMORY_SIZE - 1 },
	{ "across a page border", PAGE_SIZE - 3, 7, 5 },
	{ "an odd length at an odd offset", 2 * PAGE_SIZE + 17, 1001, 3 },
	{ "across the end of the fourth page", 4 * PAGE_SIZE - 1027, 2053, 11 },
	{ "up to the last byte", BUFFER_SIZE - 4093, 4093, 2 },
};

/*
 * There and back: fill a part of the buffer, have the device fetch it, wipe
 * the part, have the device return it. Then the part must be as it was filled,
 * and every other byte of the buffer as it was before.
 */
static bool round_trip(struct edu *edu, const struct round_trip *trip, unsigned int seed)
{
	unsigned char *part = edu->memory + trip->offset;

	fill_pattern(part, trip->length, seed);
	memcpy(edu->expected + trip->offset, part, trip->length);
	if (!transfer(edu, TO_DEVICE, trip->offset, trip->length, trip->device_offset))
		return false;
	memset(part, 0, trip->length);
	if (!transfer(edu, TO_MEMORY, trip->offset, trip->length, trip->device_offset))
		return false;
	if (!memory_is_as_expected(edu))
		return fail("%s: what came back is not what was sent", trip->what);
	say("%4zu bytes at offset %5zu, %s: came back unchanged.", trip->length, trip->offset,
	    trip->what);
	return true;
}

static bool send_and_receive(struct edu *edu)
{
	for (unsigned int i = 0; i < sizeof(round_trips) / sizeof(round_trips[0]); i++) {
		if (!round_trip(edu, &round_trips[i], i + 1))
			return false;
	}
	return true;
}

static bool close_handle(const char *what, Handle *handle)
{
	Retcode rc = rcOk;

	if (*handle != INVALID_HANDLE)
		rc = KnHandleClose(*handle);
	*handle = INVALID_HANDLE;
	return worked(what, rc);
}

static void explain_write(const struct edu *edu, DmaAddr address)
{
	if (edu->translated) {
		say("The IOMMU refused it: the memory is intact.");
		say("The kernel log tells of it, with the address 0x%llx: a DMAR line (Intel), or an",
		    (unsigned long long)address);
		say("AMD-Vi line (AMD; QEMU's model of that one reports no faults).");
		return;
	}
	say("It landed: without an IOMMU, nothing can refuse a device's write.");
	say("It hurt nobody here, because the buffer is still this driver's. And kosdma gives");
	say("the pages of a closed Begin to nobody else before the device is quiet. But it cannot");
	say("keep the device from any address: a faulty driver can overwrite all memory.");
}

/* What the device's memory holds in the last two steps, and where it goes. */
#define LAST_SEED 0xdeadu

static struct span last_target(const struct edu *edu)
{
	struct span span = device_span(edu->info, 0);

	if (span.length > EDU_MEMORY_SIZE)
		span.length = EDU_MEMORY_SIZE;
	return span;
}

/*
 * The Begin handle is closed, and with it the device's way to the buffer. The
 * buffer itself stays ours, so the write does no harm wherever it lands.
 */
static bool write_after_close(struct edu *edu)
{
	struct span old = last_target(edu);

	fill_pattern(edu->memory, old.length, LAST_SEED);
	if (!run_dma(edu, TO_DEVICE, old, 0))
		return false;
	memset(edu->memory, 0, old.length);

	if (!close_handle("KnHandleClose (Begin)", &edu->access))
		return false;
	say("Closed. Now the device writes %zu bytes to the old address 0x%llx.", old.length,
	    (unsigned long long)old.address);
	if (!run_dma(edu, TO_MEMORY, old, 0))
		return false;

	if (edu->translated)
		memset(edu->expected, 0, old.length);
	else
		fill_pattern(edu->expected, old.length, LAST_SEED);
	if (!memory_is_as_expected(edu))
		return fail("the write %s", edu->translated ? "was not refused" : "did not land");
	explain_write(edu, old.address);
	return true;
}

/* The counter-check: it was the closed handle that made the difference. */
static bool write_after_reopening(struct edu *edu)
{
	struct span target;

	if (!open_for_device(edu))
		return false;
	target = last_target(edu);
	memset(edu->memory, 0, target.length);
	if (!run_dma(edu, TO_MEMORY, target, 0))
		return false;
	fill_pattern(edu->expected, target.length, LAST_SEED);
	if (!memory_is_as_expected(edu))
		return fail("the write did not land");
	say("The same write, to 0x%llx, lands.", (unsigned long long)target.address);
	return true;
}

static const struct step {
	const char *title;
	bool (*run)(struct edu *edu);
} steps[] = {
	{ "Find the device", find_device },
	{ "Attach it", attach_device },
	{ "Register and map its registers", map_registers },
	{ "Check that it is the right one, and alive", identify },
	{ "Have it compute", compute_factorial },
	{ "Make a buffer that both can reach", make_buffer },
	{ "Send data to the device and back, by DMA", send_and_receive },
	{ "Close the Begin handle, then let the device write", write_after_close },
	{ "Begin again, then let the device write", write_after_reopening },
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* Give everything back, in the reverse order of taking it. */
static bool release(struct edu *edu)
{
	bool clean = true;

	KosMemFree(edu->info);
	clean &= close_handle("KnHandleClose (mapping)", &edu->mapping);
	clean &= close_handle("KnHandleClose (Begin)", &edu->access);
	clean &= close_handle("KnHandleClose (buffer)", &edu->buffer);
	free(edu->expected);
	clean &= worked("KnIoMemHandlesClose", KnIoMemHandlesClose(&edu->registers));
	if (edu->attached)
		clean &= worked("KnIommuDetachDevice", KnIommuDetachDevice(edu->bdf));
	return clean;
}

/* Run the steps up to the first that fails; the number of those that went well. */
static unsigned int run_steps(struct edu *edu)
{
	unsigned int done;

	for (done = 0; done < STEPS; done++) {
		printf("%u. %s\n", done + 1, steps[done].title);
		if (!steps[done].run(edu))
			break;
	}
	return done;
}

static bool run_driver(struct edu *edu)
{
	unsigned int done = run_steps(edu);
	bool clean = release(edu);

	if (done < STEPS)
		printf("FAILED at step %u: %s.\n", done + 1, steps[done].title);
	else if (!clean)
		printf("FAILED: not everything could be given back.\n");
	else if (edu->translated)
		printf("PASSED: %u comparisons held; the IOMMU refused the write after close.\n",
		       edu->comparisons);
	else
		printf("PASSED: %u comparisons held; without an IOMMU, nothing is refused.\n",
		       edu->comparisons);
	return done == STEPS && clean;
}

static void print_usage(FILE *out)
{
	fprintf(out,
		"Usage: kos-edu [-h] [-m BITS] [BDF [BAR]]\n"
		"Drive QEMU's edu device (%04x:%04x) from user space and check what it does.\n"
		"\n"
		"  BDF      the device, as bb:dd.f (default: the first in " PCI_DEVICES ")\n"
		"  BAR      physical address of its registers, in hex (default: from there)\n"
		"  -m BITS  address bits that the device drives, 13 to 64; default %u, as QEMU's\n"
		"           unless its property dma_mask says more. Without an IOMMU it must be\n"
		"           true: the device drops higher bits, and would write elsewhere.\n"
		"  -h       print this\n"
		"\n"
		"Exit status: 0 if every comparison held, 1 if not, 2 for wrong arguments.\n",
		EDU_VENDOR, EDU_DEVICE, EDU_DMA_BITS);
}

static int usage_error(const char *problem, const char *argument)
{
	fail("%s: '%s' (kos-edu -h explains)", problem, argument);
	return 2;
}

static bool parse_number(const char *text, int base, unsigned long long *number)
{
	char *end;

	*number = strtoull(text, &end, base);
	return text[0] != '-' && end != text && !*end;
}

/* What the arguments say goes into @edu. An exit status, or -1: go on. */
static int parse_arguments(struct edu *edu, int argc, char **argv)
{
	unsigned long long number;
	rtl_uint16_t bdf;
	int option;

	while ((option = getopt(argc, argv, "hm:")) != -1) {
		switch (option) {
		case 'h':
			print_usage(stdout);
			return 0;
		case 'm':
			if (!parse_number(optarg, 10, &number) || number < 13 || number > 64)
				return usage_error("not a number of bits from 13 to 64", optarg);
			edu->dma_bits = (unsigned int)number;
			break;
		default:
			print_usage(stderr);
			return 2;
		}
	}
	argc -= optind;
	argv += optind;
	if (argc > 2)
		return usage_error("one argument too many", argv[2]);
	if (argc > 0) {
		if (!parse_bdf(argv[0], &bdf))
			return usage_error("not a device address (bb:dd.f)", argv[0]);
		set_address(edu, bdf);
	}
	if (argc > 1) {
		if (!parse_number(argv[1], 16, &number) || !number || number % PAGE_SIZE)
			return usage_error("not the address of a page of registers", argv[1]);
		edu->bar = number;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct edu edu = {
		.dma_bits = EDU_DMA_BITS,
		.buffer = INVALID_HANDLE,
		.access = INVALID_HANDLE,
		.mapping = INVALID_HANDLE,
	};
	int status;

	/* Whole lines, so that both streams stay readable where they meet. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stderr, NULL, _IOLBF, 0);
	KnIoMemHandlesClear(&edu.registers);
	status = parse_arguments(&edu, argc, argv);
	if (status >= 0)
		return status;
	return run_driver(&edu) ? 0 : 1;
}
