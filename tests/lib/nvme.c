// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "buffer.h"
#include "nvme.h"

#define PCI_DEVICES "/sys/bus/pci/devices"
#define SERIAL "kosdma"

/* NVM Express base specification 1.4, sections 3 (registers) and 4 to 6. */
enum {
	REG_CAP = 0x00,
	REG_CC = 0x14,
	REG_CSTS = 0x1c,
	REG_AQA = 0x24,
	REG_ASQ = 0x28,
	REG_ACQ = 0x30,
	REG_DOORBELLS = 0x1000,

	CC_ENABLE = 1 << 0,
	CC_ENTRY_SIZES = 6 << 16 | 4 << 20, /* 64 and 16 bytes */
	CSTS_READY = 1 << 0,

	ADMIN_CREATE_SQ = 0x01,
	ADMIN_CREATE_CQ = 0x05,
	ADMIN_IDENTIFY = 0x06,
	IO_WRITE = 0x01,
	IO_READ = 0x02,

	IDENTIFY_NAMESPACE = 0,
	IDENTIFY_CONTROLLER = 1,
	QUEUE_IS_CONTIGUOUS = 1 << 0,

	LIST_ENTRIES = PAGE / 8,
	LIST_PAGES = 3, /* for NVME_PAGES_MAX, with links */
	WAIT_SECONDS = 60, /* the host may be busy */
	POLL_US = 1000,
};

struct command {
	uint8_t opcode, flags;
	uint16_t id;
	uint32_t nsid;
	uint64_t reserved;
	uint64_t metadata;
	uint64_t prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq_id;
	uint16_t id;
	uint16_t status; /* bit 0: phase */
};

static bool read_line(const char *path, const char *attribute, const char *fmt,
		      void *a, void *b)
{
	char file[512];
	bool ok = false;
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", path, attribute);
	f = fopen(file, "re");
	if (f) {
		ok = fscanf(f, fmt, a, b) >= 1;
		fclose(f);
	}
	return ok;
}

bool nvme_find(struct nvme *n)
{
	struct dirent **names;
	int nr = scandir(PCI_DEVICES, &names, NULL, alphasort);
	bool found = false;

	*n = (struct nvme){ .domain = INVALID_HANDLE };
	KnIoMemHandlesClear(&n->handles);
	for (int i = 0; i < nr; i++) {
		unsigned int seg, bus, dev, fn, vendor = 0, device = 0;
		unsigned long long start = 0, last = 0;
		const char *name = names[i]->d_name;
		char path[64];

		snprintf(path, sizeof(path), PCI_DEVICES "/%.16s", name);
		if (!found &&
		    sscanf(name, "%x:%x:%x.%x", &seg, &bus, &dev, &fn) == 4 &&
		    !seg && read_line(path, "vendor", "%x", &vendor, NULL) &&
		    read_line(path, "device", "%x", &device, NULL) &&
		    vendor == 0x1b36 && device == 0x0010 &&
		    read_line(path, "resource", "%llx %llx", &start, &last)) {
			found = true;
			memcpy(n->path, path, sizeof(path));
			n->bdf = bus << 8 | dev << 3 | fn;
			n->bar = start;
			n->bar_size = last - start + 1;
		}
		free(names[i]);
	}
	if (nr >= 0)
		free(names);
	return found;
}

void nvme_require(struct nvme *n)
{
	char driver[64];

	if (!nvme_find(n))
		SKIP("needs an NVMe controller of QEMU (1b36:0010)");
	probe_driver(n->path, driver);
	if (driver[0] && strcmp(driver, "kosdma"))
		SKIP("the kernel's driver %s has the NVMe controller", driver);
}

bool nvme_translated(const struct nvme *n)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/iommu_group", n->path);
	return !access(path, F_OK);
}

void nvme_require_translation(const struct nvme *n)
{
	if (!nvme_translated(n))
		SKIP("needs an IOMMU: without one nothing confines the device");
}

Retcode nvme_map_registers(struct nvme *n)
{
	Retcode rc;

	rc = KnRegisterPhyMem(n->bar, n->bar_size, 0, &n->handles.region);
	if (rc != rcOk)
		return rc;
	rc = KnIoMapMem(n->handles.region, VMM_FLAG_READ | VMM_FLAG_WRITE,
			VMM_FLAG_CACHE_DISABLE, &n->regs, &n->handles.mapping);
	if (rc != rcOk)
		KnIoMemHandlesClose(&n->handles);
	return rc;
}

Retcode nvme_attach(struct nvme *n)
{
	return n->domain == INVALID_HANDLE ?
		       KnIommuAttachDevice(n->bdf) :
		       KnIommuAttachDeviceToDomain(n->bdf, n->domain);
}

Retcode nvme_detach(struct nvme *n)
{
	return n->domain == INVALID_HANDLE ?
		       KnIommuDetachDevice(n->bdf) :
		       KnIommuDetachDeviceFromDomain(n->bdf, n->domain);
}

static uint32_t get(struct nvme *n, uint32_t reg)
{
	return IoReadMmReg32((char *)n->regs + reg);
}

static void set(struct nvme *n, uint32_t reg, uint32_t value)
{
	IoWriteMmReg32((char *)n->regs + reg, value);
}

static void set_address(struct nvme *n, uint32_t reg, uint64_t value)
{
	set(n, reg, value);
	set(n, reg + 4, value >> 32);
}

static void ring(struct nvme *n, struct nvme_queue *q, bool completions,
		 uint16_t value)
{
	uint32_t stride = 4 << (get(n, REG_CAP + 4) & 0xf);

	set(n, REG_DOORBELLS + (2 * q->id + completions) * stride, value);
}

static void queue_reset(struct nvme_queue *q, uint16_t id)
{
	q->id = id;
	q->tail = 0;
	q->head = 0;
	q->phase = true;
	memset((void *)q->sq.mem, 0, q->sq.size);
	memset((void *)q->cq.mem, 0, q->cq.size);
}

static void submit(struct nvme *n, struct nvme_queue *q, struct command *c)
{
	c->id = n->next_id++;
	memcpy((void *)(q->sq.mem + q->tail * sizeof(*c)), c, sizeof(*c));
	q->tail = (q->tail + 1) % NVME_DEPTH;
	ring(n, q, false, q->tail);
}

static uint16_t next_status(const struct nvme_queue *q)
{
	volatile struct completion *c =
		(volatile struct completion *)q->cq.mem + q->head;

	return c->status;
}

static bool answered(const struct nvme_queue *q)
{
	return (next_status(q) & 1) == q->phase;
}

static int await(struct nvme *n, struct nvme_queue *q, unsigned int seconds)
{
	time_t end = time(NULL) + seconds + 1;
	uint16_t status;

	while (!answered(q)) {
		if (time(NULL) > end)
			return NVME_NO_ANSWER;
		usleep(POLL_US);
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	status = next_status(q);
	q->head = (q->head + 1) % NVME_DEPTH;
	if (!q->head)
		q->phase = !q->phase;
	ring(n, q, true, q->head);
	return status >> 1;
}

static void administer(struct nvme *n, struct command c)
{
	submit(n, &n->admin, &c);
	ASSERT_EQ(0, await(n, &n->admin, WAIT_SECONDS));
}

static bool becomes_ready(struct nvme *n, bool ready)
{
	time_t end = time(NULL) + WAIT_SECONDS;

	while (!!(get(n, REG_CSTS) & CSTS_READY) != ready) {
		if (time(NULL) > end)
			return false;
		usleep(POLL_US);
	}
	return true;
}

void nvme_stop(struct nvme *n)
{
	set(n, REG_CC, 0);
	ASSERT_TRUE(becomes_ready(n, false));
}

static void identify(struct nvme *n, uint32_t nsid, uint32_t what)
{
	memset((void *)n->identified.mem, 0xee, n->identified.size);
	administer(n, (struct command){
			      .opcode = ADMIN_IDENTIFY,
			      .nsid = nsid,
			      .prp1 = n->identified.addr,
			      .cdw10 = what,
		      });
}

static void identify_all(struct nvme *n)
{
	const uint8_t *data = (const uint8_t *)n->identified.mem;
	uint32_t namespaces;

	identify(n, 0, IDENTIFY_CONTROLLER);
	memcpy(n->model, data + 24, 40);
	/* Tests write to it. */
	if (memcmp(data + 4, SERIAL, strlen(SERIAL)))
		SKIP("the serial number of this NVMe controller is not %s",
		     SERIAL);
	n->max_pages = NVME_PAGES_MAX;
	/* The power of two of pages that a command may transfer; 0: no limit */
	if (data[77] && data[77] < 10)
		n->max_pages = 1u << data[77];
	memcpy(&namespaces, data + 516, 4);
	for (uint32_t i = 0; i < NVME_NAMESPACES; i++) {
		uint64_t blocks;
		uint32_t format;

		n->size[i] = 0;
		if (i >= namespaces)
			continue;
		identify(n, i + 1, IDENTIFY_NAMESPACE);
		memcpy(&blocks, data, 8);
		memcpy(&format, data + 128 + 4 * (data[26] & 0xf), 4);
		n->block[i] = 1u << (format >> 16 & 0xff);
		n->size[i] = blocks * n->block[i];
	}
}

static void memory_open(struct nvme *n)
{
	struct begun *memory[] = { &n->admin.sq, &n->admin.cq, &n->io.sq,
				   &n->io.cq, &n->identified };

	for (size_t i = 0; i < ARRAY_SIZE(memory); i++)
		begun_open(memory[i], PAGE, n->domain);
	begun_open(&n->lists, PAGES(128), n->domain);
	n->has_memory = true;
}

void nvme_start(struct nvme *n)
{
	_Static_assert(NVME_DEPTH * LIST_PAGES <= 128, "lists");
	_Static_assert(sizeof(struct command) == 64, "layout");
	_Static_assert(sizeof(struct completion) == 16, "layout");

	nvme_stop(n);
	if (!n->has_memory)
		memory_open(n);
	queue_reset(&n->admin, 0);
	queue_reset(&n->io, 1);
	set(n, REG_AQA, (NVME_DEPTH - 1) << 16 | (NVME_DEPTH - 1));
	set_address(n, REG_ASQ, n->admin.sq.addr);
	set_address(n, REG_ACQ, n->admin.cq.addr);
	set(n, REG_CC, CC_ENTRY_SIZES | CC_ENABLE);
	ASSERT_TRUE(becomes_ready(n, true));
	identify_all(n);
	administer(n, (struct command){
			      .opcode = ADMIN_CREATE_CQ,
			      .prp1 = n->io.cq.addr,
			      .cdw10 = (NVME_DEPTH - 1) << 16 | n->io.id,
			      .cdw11 = QUEUE_IS_CONTIGUOUS,
		      });
	administer(n, (struct command){
			      .opcode = ADMIN_CREATE_SQ,
			      .prp1 = n->io.sq.addr,
			      .cdw10 = (NVME_DEPTH - 1) << 16 | n->io.id,
			      .cdw11 = n->io.id << 16 | QUEUE_IS_CONTIGUOUS,
		      });
}

void nvme_free(struct nvme *n)
{
	struct begun *memory[] = { &n->admin.sq, &n->admin.cq,	 &n->io.sq,
				   &n->io.cq,	 &n->identified, &n->lists };

	for (size_t i = 0; i < ARRAY_SIZE(memory); i++)
		begun_close(memory[i]);
	n->has_memory = false;
}

void nvme_open(struct nvme *n, Handle domain)
{
	nvme_require(n);
	n->domain = domain;
	ASSERT_OK(nvme_attach(n));
	ASSERT_OK(nvme_map_registers(n));
	nvme_start(n);
}

void nvme_close(struct nvme *n)
{
	nvme_stop(n);
	nvme_free(n);
	EXPECT_OK(KnIoMemHandlesClose(&n->handles));
	EXPECT_OK(nvme_detach(n));
}

/*
 * The first page in the command, a second one too; more in lists, whose last
 * entry is the address of the next list if they do not fit.
 */
static void set_pages(struct nvme *n, struct command *c, uint32_t slot,
		      const uint64_t *pages, uint32_t nr)
{
	size_t offset = PAGES(slot * LIST_PAGES);
	volatile uint64_t *list = (volatile uint64_t *)(n->lists.mem + offset);
	uint64_t addr = n->lists.addr + offset;
	uint32_t used = 0;

	c->prp1 = pages[0];
	if (nr <= 2) {
		c->prp2 = nr == 2 ? pages[1] : 0;
		return;
	}
	c->prp2 = addr;
	for (uint32_t i = 1; i < nr; i++) {
		if (used == LIST_ENTRIES - 1 && nr - i > 1) {
			addr += PAGE;
			list[used] = addr;
			list += LIST_ENTRIES;
			used = 0;
		}
		list[used++] = pages[i];
	}
}

void nvme_submit(struct nvme *n, uint32_t nsid, bool write, uint64_t offset,
		 const uint64_t *pages, uint32_t nr)
{
	uint32_t block = n->block[nsid - 1];
	uint64_t first = offset / block;
	struct command c = {
		.opcode = write ? IO_WRITE : IO_READ,
		.nsid = nsid,
		.cdw10 = first,
		.cdw11 = first >> 32,
		.cdw12 = PAGES(nr) / block - 1,
	};

	ASSERT_GT(nr, 0);
	ASSERT_LE(nr, n->max_pages);
	ASSERT_LE(offset + PAGES(nr), n->size[nsid - 1]);
	set_pages(n, &c, n->io.tail, pages, nr);
	submit(n, &n->io, &c);
}

int nvme_wait(struct nvme *n, unsigned int seconds)
{
	return await(n, &n->io, seconds);
}

bool nvme_answered(const struct nvme *n)
{
	return answered(&n->io);
}

int nvme_io(struct nvme *n, uint32_t nsid, bool write, uint64_t offset,
	    const uint64_t *pages, uint32_t nr)
{
	int status;

	nvme_submit(n, nsid, write, offset, pages, nr);
	status = nvme_wait(n, WAIT_SECONDS);
	ASSERT_NE(NVME_NO_ANSWER, status);
	return status;
}
