/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a test can do and learn beside libkos: the ioctls themselves, the
 * process, the machine, and whether a device's copy lands.
 */
#ifndef TESTS_LIB_PROBE_H
#define TESTS_LIB_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <coresrv/handle/handle_api.h>
#include <coresrv/io/io_api.h>
#include <rtl/retcode.h>

#include "edu.h"

#define KOSDMA_DEVICE "/dev/kosdma"

enum {
	NOBODY = 65534,
	PAGE = 4096,
};

/* Skip the test unless /dev/kosdma is there. */
void probe_require_module(void);

/* ioctl() on a descriptor of /dev/kosdma of this process. */
int probe_ioctl(unsigned int cmd, void *arg);

/* The handle's identity, as a code: to ask for no more than that it is good. */
Retcode probe_sid(Handle handle);

/* 0 or an errno; the type and the rights that the handle has. */
int probe_handle(Handle handle, uint32_t *type, uint32_t *rights);

bool probe_is_open(int fd);
int probe_nr_fds(void);
int probe_nr_maps(void);

/* Of /proc/meminfo, in KiB. */
long probe_meminfo(const char *key);

/*
 * Memory that nobody uses, in KiB; and whether as much as @before is free
 * again, but for @tolerance, after waiting for it.
 */
long probe_free_memory(void);
bool probe_memory_returns(long before, long tolerance);

/* The signal that a one-byte access dies of; 0: none. */
int probe_read(const volatile void *addr);
int probe_write(volatile void *addr);

/* Become the user nobody, with no capability. */
void probe_become_nobody(void);

/* Whether /proc/iomem lists exactly this range, under this name (NULL: any). */
bool probe_iomem(uint64_t start, uint64_t last, const char *name);
/* The n-th range of /proc/iomem whose name contains @name. */
bool probe_iomem_find(const char *name, int n, uint64_t *start, uint64_t *last);

/* All of them, in order of address; returns their number, which may exceed @max. */
struct probe_range {
	uint64_t start, last;
};
int probe_iomem_all(const char *name, struct probe_range *ranges, int max);

/* So many bytes from a page on in a hole for PCI devices that nothing is at. */
bool probe_free_range(uint64_t size, uint64_t *start);

/* The kernel's log from here on, and how many lines more have all these texts. */
int probe_log_open(void);
int probe_log_count(int log, const char *text, const char *second,
		    const char *third);

/* Of a device: "path" as in struct edu. */
bool probe_bus_master(const char *path);
bool probe_memory_decode(const char *path);
bool probe_is_iommu(const char *path);
/* The driver's name, or "" */
void probe_driver(const char *path, char name[64]);
bool probe_write_file(const char *path, const char *text);

/* Whether an IOMMU of this machine's can let a device write and not read. */
bool probe_write_only(void);
/* Whether this machine's IOMMU is virtio's. */
bool probe_virtio_iommu(void);

/* Pages in quarantine. */
long probe_quarantined(void);

/* Descriptors in one message, as they are. Receive returns their number. */
void probe_send_fds(int sock, const int *fds, int nr);
int probe_receive_fds(int sock, int *fds, int max);

/*
 * Run @test in a child, which takes all memory. Should something else of the
 * machine want some at that moment, the kernel kills the child and no other
 * process; then once more, a few times.
 */
void probe_shortage(void (*test)(void *arg), void *arg);

/* One byte through a pipe or socket: to let processes wait for each other. */
void probe_signal(int fd);
void probe_await(int fd);

/* A page-sized or larger buffer that is begun and mapped. */
struct begun {
	Handle buffer;
	Handle access;
	Handle mapping;
	volatile uint8_t *mem;
	uint64_t addr; /* as devices of the domain see it */
	size_t size;
};

/* In the domain, or in the automatic one: INVALID_HANDLE. One block. */
void begun_open(struct begun *b, size_t size, Handle domain);
void begun_close(struct begun *b);

/*
 * Whether the device, by a copy from its buffer to @addr, changes the memory at
 * @mem, which that address stands for. @from is a begun buffer in the device's
 * domain that holds the new content.
 */
bool probe_lands(struct edu *edu, const struct begun *from, uint64_t addr,
		 volatile uint8_t *mem);

#endif /* TESTS_LIB_PROBE_H */
