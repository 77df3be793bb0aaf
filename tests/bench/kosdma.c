// SPDX-License-Identifier: GPL-2.0-only
/* kosdma: by libkos, as drivers use it, with an edu in the automatic domain. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "../harness.h"
#include "../lib/buffer.h"
#include "../lib/edu.h"
#include "../lib/machine.h"
#include "../lib/netlink.h"
#include "../lib/pci.h"
#include "../lib/probe.h"
#include "bench.h"

/* The n-th device, bound to kosdma for good, so that no process binds it again. */
static struct edu find(int n)
{
	char driver[64];
	struct edu edu;

	if (access(KOSDMA_DEVICE, F_OK))
		run_unavailable("no module");
	if (n >= EDU_OF_VFIO || !edu_find(&edu, EDU_OF_KOSDMA + n))
		run_unavailable("no device left");
	probe_driver(edu.path, driver);
	if (strcmp(driver, "kosdma"))
		pci_make_bound(edu.path, "kosdma");
	return edu;
}

static struct edu attach(void)
{
	struct edu edu = find(0);

	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	return edu;
}

static Handle create(size_t size)
{
	Handle buffer;

	ASSERT_OK(KnIoDmaCreate(0, size, 0, &buffer));
	return buffer;
}

static void *map(Handle buffer, size_t size, Handle *mapping)
{
	void *memory;

	ASSERT_OK(KnIoDmaMap(buffer, 0, size, NULL, VMM_READ_WRITE, &memory, mapping));
	return memory;
}

static void close_all(const Handle *handles, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		ASSERT_OK(KnHandleClose(handles[i]));
}

static Handle *many(size_t nr)
{
	Handle *handles = calloc(nr, sizeof(*handles));

	ASSERT_NOT_NULL(handles);
	return handles;
}

/* --- calls -------------------------------------------------------------------- */

void kosdma_null(struct run *run, size_t arg)
{
	struct kosdma_handle_close nothing = {
		.size = sizeof(nothing),
		.handle = KOSDMA_NO_HANDLE,
	};
	struct kosdma_info info = { .size = sizeof(info) };
	int dev = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);

	(void)arg;
	ASSERT_GE(dev, 0);
	while (run_again(run, 20)) {
		for (int i = 0; i < 100; i++)
			ioctl(dev, KOSDMA_INFO, &info);
		run_each(run, "call", 100);
		for (int i = 0; i < 100; i++)
			ioctl(dev, KOSDMA_HANDLE_CLOSE, &nothing);
		run_each(run, "refused", 100);
	}
}

/* --- memory ------------------------------------------------------------------- */

void kosdma_create(struct run *run, size_t size)
{
	Handle buffer;

	find(0);
	while (run_again(run, size < MiB(64) ? 20 : 2)) {
		ASSERT_OK(KnIoDmaCreate(0, size, 0, &buffer));
		run_part(run, "create");
		ASSERT_OK(KnHandleClose(buffer));
		run_part(run, "destroy");
	}
}

void kosdma_map(struct run *run, size_t size)
{
	Handle buffer = create(size), mapping;
	void *memory;

	while (run_again(run, size < MiB(64) ? 20 : 3)) {
		memory = map(buffer, size, &mapping);
		run_part(run, "map");
		memory_touch(memory, size);
		run_part(run, "touch");
		ASSERT_OK(KnHandleClose(mapping));
		run_part(run, "unmap");
	}
}

void kosdma_faults(struct run *run, size_t size)
{
	Handle buffer = create(size), mapping;
	volatile uint8_t *memory;
	int64_t before;

	while (run_again(run, 3)) {
		memory = map(buffer, size, &mapping);
		before = memory_faults();
		memory_touch(memory, size);
		run_value(run, "faults", memory_faults() - before);
		ASSERT_OK(KnHandleClose(mapping));
	}
}

/* --- devices' access ----------------------------------------------------------- */

static void open_and_close(struct run *run, Handle buffer, unsigned int times)
{
	Handle access;

	while (run_again(run, times)) {
		ASSERT_OK(KnIoDmaBegin(buffer, &access));
		run_part(run, "open");
		ASSERT_OK(KnHandleClose(access));
		run_part(run, "close");
	}
}

void kosdma_open(struct run *run, size_t size)
{
	attach();
	open_and_close(run, create(size), size < MiB(64) ? 20 : 10);
}

/* So many at once; what is told is one of them. */
void kosdma_open_batch(struct run *run, size_t nr)
{
	KosDmaBeginItem items[KOS_BATCH_MAX];
	Handle buffer = create(PAGE_SIZE), handles[KOS_BATCH_MAX];

	attach();
	while (run_again(run, 10)) {
		for (size_t i = 0; i < nr; i++)
			items[i].rid = buffer;
		run_start(run);
		ASSERT_OK(KosDmaBeginMany(INVALID_HANDLE, items, nr, NULL));
		run_each(run, "open", nr);
		for (size_t i = 0; i < nr; i++)
			handles[i] = items[i].handle;
		run_start(run);
		ASSERT_OK(KosHandleCloseMany(handles, nr));
		run_each(run, "close", nr);
	}
}

void kosdma_flushes(struct run *run, size_t size)
{
	Handle buffer = create(size), access;

	attach();
	while (run_again(run, 3)) {
		flushes_start();
		ASSERT_OK(KnIoDmaBegin(buffer, &access));
		run_value(run, "open", flushes_stop());
		flushes_start();
		ASSERT_OK(KnHandleClose(access));
		run_value(run, "close", flushes_stop());
	}
}

void kosdma_open_traced(struct run *run, size_t size)
{
	static const char enable[] = "/sys/kernel/tracing/events/kosdma/enable";

	attach();
	if (!probe_write_file(enable, "1"))
		run_unavailable("no tracepoints");
	open_and_close(run, create(size), 20);
	probe_write_file(enable, "0");
}

/* Long enough that the work item that tells events is counted as well. */
enum { EVENT_PAIRS = 2000, EVENT_ROOM = 8 << 20 };

void kosdma_open_listened(struct run *run, size_t size)
{
	int sock = netlink_open(), room = EVENT_ROOM, group = netlink_group(sock, "objects");
	Handle buffer = create(size), access;
	struct netlink_reply reply;

	attach();
	setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	ASSERT_GT(group, 0);
	ASSERT_EQ(0, netlink_join(sock, group));
	while (run_again(run, 3)) {
		for (int i = 0; i < EVENT_PAIRS; i++) {
			ASSERT_OK(KnIoDmaBegin(buffer, &access));
			ASSERT_OK(KnHandleClose(access));
		}
		run_each(run, "sum", EVENT_PAIRS);
		while (!netlink_event(sock, &reply))
			;
	}
}

void kosdma_chain(struct run *run, size_t size)
{
	Handle buffer, mapping, access;
	void *memory;

	attach();
	while (run_again(run, size < MiB(64) ? 10 : 2)) {
		ASSERT_OK(KnIoDmaCreate(0, size, 0, &buffer));
		memory = map(buffer, size, &mapping);
		run_part(run, "create");
		memory_touch(memory, size);
		run_part(run, "touch");
		ASSERT_OK(KnIoDmaBegin(buffer, &access));
		run_part(run, "open");
		ASSERT_OK(KnHandleClose(access));
		run_part(run, "close");
		ASSERT_OK(KnHandleClose(mapping));
		ASSERT_OK(KnHandleClose(buffer));
		run_part(run, "destroy");
	}
}

/* A domain with a device of its own: it has a page table. */
static Handle domain(int n)
{
	struct edu edu = find(n);
	Handle domain;

	ASSERT_OK(KnIommuCreateDomain(&domain));
	ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, domain));
	return domain;
}

/* The last of @nr domains. */
void kosdma_domains(struct run *run, size_t nr)
{
	Handle buffer = create(MiB(4)), access, last = INVALID_HANDLE;

	for (size_t i = 0; i < nr; i++) {
		last = domain(i);
		if (i + 1 < nr)
			ASSERT_OK(KnIoDmaBeginEx(buffer, last, &access));
	}
	while (run_again(run, 10)) {
		ASSERT_OK(KnIoDmaBeginEx(buffer, last, &access));
		run_part(run, "open");
		ASSERT_OK(KnHandleClose(access));
		run_part(run, "close");
	}
}

/* The test build of the module makes and lists single pages, if told so. */
void kosdma_info(struct run *run, size_t nr)
{
	static const char limit[] = "/sys/module/kosdma/parameters/inject_block_order";
	Handle access;
	DmaInfo *info;

	attach();
	if (nr > 1 && !probe_write_file(limit, "0"))
		run_unavailable("not a test build");
	ASSERT_OK(KnIoDmaBegin(create(nr * PAGE_SIZE), &access));
	while (run_again(run, 10)) {
		ASSERT_OK(KnIoDmaGetInfo(access, &info));
		run_part(run, "info");
		ASSERT_EQ(nr, info->count);
		KosMemFree(info);
	}
}

void kosdma_attach(struct run *run, size_t arg)
{
	struct edu edu = find(0);

	(void)arg;
	while (run_again(run, 5)) {
		ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		run_part(run, "attach");
		ASSERT_OK(KnIommuDetachDevice(edu.bdf));
		run_part(run, "detach");
	}
}

/* --- handles -------------------------------------------------------------------- */

void kosdma_send(struct run *run, size_t arg)
{
	Handle buffer = create(PAGE_SIZE), received;
	int socks[2];

	(void)arg;
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks));
	while (run_again(run, 20)) {
		ASSERT_OK(KosHandleSend(socks[0], buffer, OCAP_DMA_READ));
		run_part(run, "send");
		ASSERT_OK(KosHandleReceive(socks[1], &received));
		run_part(run, "receive");
		ASSERT_OK(KnHandleClose(received));
	}
}

/* So many holders of a copy, each of which has opened it for a device. */
void kosdma_revoke(struct run *run, size_t nr)
{
	const uint32_t rights = OCAP_DMA_READ | OCAP_DMA_WRITE | OCAP_DMA_BEGIN;
	Handle buffer = create(PAGE_SIZE), *copies = many(nr), *accesses = many(nr);

	attach();
	while (run_again(run, 3)) {
		for (size_t i = 0; i < nr; i++) {
			ASSERT_OK(KnHandleCopy(buffer, rights, INVALID_HANDLE, &copies[i]));
			ASSERT_OK(KnIoDmaBegin(copies[i], &accesses[i]));
		}
		run_start(run);
		ASSERT_OK(KnHandleRevokeEx(buffer, rtl_false));
		run_part(run, "revoke");
		close_all(accesses, nr);
		close_all(copies, nr);
	}
}

/* --- registers ------------------------------------------------------------------ */

void kosdma_registers(struct run *run, size_t arg)
{
	struct edu edu = attach();

	(void)arg;
	ASSERT_OK(edu_map_registers(&edu));
	registers_measure(run, edu.regs);
}

void kosdma_bar(struct run *run, size_t arg)
{
	struct pci_bar bar;
	Handle region, mapping;
	struct pci pci;
	void *memory;
	size_t size;

	(void)arg;
	if (!pci_find(&pci, PCI_TESTDEV, 0) || !pci_bar(&pci, TESTDEV_MEMORY, &bar))
		run_unavailable("no pci-testdev");
	size = bar_size(&pci);
	ASSERT_OK(KnRegisterPhyMem(bar.start, size, 0, &region));
	while (run_again(run, 3)) {
		ASSERT_OK(KnIoMapMem(region, VMM_READ_WRITE, 0, &memory, &mapping));
		run_part(run, "map");
		bar_touch(run, memory, size);
		ASSERT_OK(KnHandleClose(mapping));
		run_part(run, "unmap");
	}
	ASSERT_OK(KnHandleClose(region));
}

/* --- beside many others --------------------------------------------------------- */

static void begin_many(Handle buffer, size_t nr)
{
	Handle access;

	for (size_t i = 0; i < nr; i++)
		ASSERT_OK(KnIoDmaBegin(buffer, &access));
}

void kosdma_open_beside(struct run *run, size_t nr)
{
	Handle buffer = create(PAGE_SIZE);

	attach();
	begin_many(buffer, nr);
	open_and_close(run, buffer, 20);
}

void kosdma_create_beside(struct run *run, size_t nr)
{
	Handle buffer;

	for (size_t i = 0; i < nr; i++)
		create(PAGE_SIZE);
	while (run_again(run, 20)) {
		buffer = create(PAGE_SIZE);
		run_part(run, "create");
		ASSERT_OK(KnHandleClose(buffer));
		run_part(run, "destroy");
	}
}

void kosdma_map_beside(struct run *run, size_t nr)
{
	Handle buffer = create(PAGE_SIZE), mapping;

	for (size_t i = 0; i < nr; i++)
		map(buffer, PAGE_SIZE, &mapping);
	while (run_again(run, 20)) {
		map(buffer, PAGE_SIZE, &mapping);
		run_part(run, "map");
		ASSERT_OK(KnHandleClose(mapping));
		run_part(run, "unmap");
	}
}

enum { PAIRS = 2000 };

struct thread {
	Handle buffer, domain;
};

static void *thread(void *data)
{
	struct thread *t = data;
	Handle access;

	for (int i = 0; i < PAIRS; i++) {
		ASSERT_OK(KnIoDmaBeginEx(t->buffer, t->domain, &access));
		ASSERT_OK(KnHandleClose(access));
	}
	return NULL;
}

static void threads(struct run *run, size_t nr, bool shared)
{
	struct thread threads[16];

	for (size_t i = 0; i < nr; i++) {
		threads[i].buffer = create(PAGE_SIZE);
		threads[i].domain = shared && i ? threads[0].domain : domain(i);
	}
	while (run_again(run, 2)) {
		threads_run(thread, threads, sizeof(threads[0]), nr);
		run_each(run, "pair", nr * PAIRS);
	}
}

void kosdma_threads_private(struct run *run, size_t nr)
{
	threads(run, nr, false);
}

void kosdma_threads_shared(struct run *run, size_t nr)
{
	threads(run, nr, true);
}

static void open_many(struct run *run, size_t nr)
{
	(void)run;
	attach();
	begin_many(create(PAGE_SIZE), nr);
}

/* It waits for what a dead process had. */
static void open_once(struct run *run)
{
	struct edu edu = attach();

	(void)run;
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
}

void kosdma_kill(struct run *run, size_t nr)
{
	open_once(run);
	kill_measure(run, nr, open_many, open_once);
}

void kosdma_memory(struct run *run, size_t size)
{
	Handle buffer, access, mapping;
	int64_t before;

	attach();
	while (run_again(run, 1)) {
		before = probe_free_memory() - (int64_t)(size >> 10);
		buffer = create(size);
		run_value(run, "create: KiB", before - probe_free_memory());
		before = probe_free_memory();
		ASSERT_OK(KnIoDmaBegin(buffer, &access));
		run_value(run, "open: KiB", before - probe_free_memory());
		before = probe_free_memory();
		map(buffer, size, &mapping);
		run_value(run, "map: KiB", before - probe_free_memory());
	}
}
