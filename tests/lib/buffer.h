/* SPDX-License-Identifier: GPL-2.0-only */
/* Buffers, accesses and what the tests of them need of the machine. */
#ifndef TESTS_LIB_BUFFER_H
#define TESTS_LIB_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coresrv/handle/handle_api.h>
#include <coresrv/io/io_api.h>
#include <coresrv/iommu/iommu_api.h>
#include <kos/alloc.h>
#include <services/ocap.h>

#define KiB(n) ((size_t)(n) << 10)
#define MiB(n) ((size_t)(n) << 20)
#define PAGES(n) ((size_t)(n) * PAGE_SIZE)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define VMM_READ_WRITE (VMM_FLAG_READ | VMM_FLAG_WRITE)

/* What the call must give, or the test ends. */
Handle buffer_create(uint32_t order, size_t size, DmaAttr attr);
void *buffer_map(Handle buffer, size_t size, Handle *mapping);
Handle buffer_copy(Handle buffer, uint32_t rights);
DmaInfo *buffer_info(Handle handle); /* free it with KosMemFree() */
uint64_t buffer_frame(Handle buffer); /* of its only block, in memory */
Handle access_begin(Handle buffer);
Handle access_begin_in(Handle buffer, Handle domain);
uint64_t access_addr(Handle access);
Handle domain_create(void);

/* What holds for every list of blocks: alignment, sum, orderMin. */
void check_blocks(const DmaInfo *info, size_t size, uint32_t order);

/* A pattern that differs at each place and for each seed. */
void pattern_fill(void *p, size_t size, uint32_t seed);
/* Compare; if it differs, fail and say where. */
void pattern_check(const void *p, size_t size, uint32_t seed);
/* The offset of the first byte that is not @value, or @size. */
size_t first_not(const void *p, size_t size, uint8_t value);

/* What KOSDMA_INFO says. */
bool machine_translates(void);
uint32_t machine_max_objects(void);

/*
 * Skip the test unless the module is there; open the device, here and in
 * libkos, so that it is not taken for a leak later.
 */
void device_warm_up(void);

/* Let every user open the module's device node, and take that back. */
void device_make_public(void);
void device_restore(void);

void set_limit(int resource, size_t value);

/* Call @check each 10 ms until it is true; false after so many seconds. */
bool wait_until(bool (*check)(void *arg), void *arg, unsigned int seconds);

#endif /* TESTS_LIB_BUFFER_H */
