// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "../harness.h"
#include "buffer.h"
#include "probe.h"

Handle buffer_create(uint32_t order, size_t size, DmaAttr attr)
{
	Handle buffer = INVALID_HANDLE;

	ASSERT_OK(KnIoDmaCreate(order, size, attr, &buffer));
	ASSERT_NE(INVALID_HANDLE, buffer);
	return buffer;
}

void *buffer_map(Handle buffer, size_t size, Handle *mapping)
{
	void *addr = NULL;

	ASSERT_OK(KnIoDmaMap(buffer, 0, size, NULL, VMM_READ_WRITE, &addr,
			     mapping));
	ASSERT_NOT_NULL(addr);
	return addr;
}

Handle buffer_copy(Handle buffer, uint32_t rights)
{
	Handle copy = INVALID_HANDLE;

	ASSERT_OK(KnHandleCopy(buffer, rights, INVALID_HANDLE, &copy));
	return copy;
}

DmaInfo *buffer_info(Handle handle)
{
	DmaInfo *info = NULL;

	ASSERT_OK(KnIoDmaGetInfo(handle, &info));
	ASSERT_NOT_NULL(info);
	return info;
}

uint64_t buffer_frame(Handle buffer)
{
	DmaInfo *info;
	uint64_t frame;

	ASSERT_OK(KnIoDmaGetPhysInfo(buffer, &info));
	ASSERT_EQ(1, info->count);
	frame = info->descriptors[0].frame;
	KosMemFree(info);
	return frame;
}

Handle access_begin(Handle buffer)
{
	Handle access = INVALID_HANDLE;

	ASSERT_OK(KnIoDmaBegin(buffer, &access));
	ASSERT_NE(INVALID_HANDLE, access);
	return access;
}

Handle access_begin_in(Handle buffer, Handle domain)
{
	Handle access = INVALID_HANDLE;

	ASSERT_OK(KnIoDmaBeginEx(buffer, domain, &access));
	ASSERT_NE(INVALID_HANDLE, access);
	return access;
}

uint64_t access_addr(Handle access)
{
	DmaAddr addr = 0;

	ASSERT_OK(KnIoDmaContinuousGetDmaAddr(access, &addr));
	return addr;
}

Handle domain_create(void)
{
	Handle domain = INVALID_HANDLE;

	ASSERT_OK(KnIommuCreateDomain(&domain));
	return domain;
}

void check_blocks(const DmaInfo *info, size_t size, uint32_t order)
{
	size_t sum = 0, order_min = SIZE_MAX;

	EXPECT_EQ(size, info->size);
	ASSERT_GT(info->count, 0);
	ASSERT_LE(info->count, DMA_FRAMES_COUNT_MAX);
	for (size_t i = 0; i < info->count; i++) {
		uint64_t k = info->descriptors[i].order;
		uint64_t frame = info->descriptors[i].frame;

		test_context("block %zu of %zu", i, info->count);
		EXPECT_GE(k, order);
		ASSERT_LT(k, 52);
		EXPECT_EQ(0, frame & ((1ULL << k) - 1));
		EXPECT_NE(0, frame);
		sum += (size_t)PAGE_SIZE << k;
		if (k < order_min)
			order_min = k;
	}
	test_context("%s", "");
	EXPECT_GE(sum, size);
	EXPECT_EQ(order_min, info->orderMin);
}

static uint8_t pattern_byte(size_t i, uint32_t seed)
{
	uint32_t x = (uint32_t)(i + 1) * 2654435761u ^ seed * 0x9e3779b9u;

	return (x >> 24) ^ (x >> 11);
}

void pattern_fill(void *p, size_t size, uint32_t seed)
{
	uint8_t *byte = p;

	for (size_t i = 0; i < size; i++)
		byte[i] = pattern_byte(i, seed);
}

void pattern_check(const void *p, size_t size, uint32_t seed)
{
	const uint8_t *byte = p;

	for (size_t i = 0; i < size; i++)
		if (byte[i] != pattern_byte(i, seed)) {
			test_failed(false, __FILE__, __LINE__,
				    "byte %zu of %zu is %#x, not %#x", i, size,
				    byte[i], pattern_byte(i, seed));
			return;
		}
}

size_t first_not(const void *p, size_t size, uint8_t value)
{
	const uint8_t *byte = p;
	size_t i = 0;

	if (!size || byte[0] != value)
		return 0;
	/* All equal if each byte equals the next. */
	if (!memcmp(byte, byte + 1, size - 1))
		return size;
	while (byte[i] == value)
		i++;
	return i;
}

static struct kosdma_info machine_info(void)
{
	struct kosdma_info info = { .size = sizeof(info) };

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_INFO, &info));
	return info;
}

bool machine_translates(void)
{
	return machine_info().out_features & KOSDMA_FEATURE_TRANSLATION;
}

uint32_t machine_max_objects(void)
{
	return machine_info().out_max_objects;
}

void device_warm_up(void)
{
	probe_require_module();
	machine_info();
	EXPECT_OK(KnHandleClose(buffer_create(0, PAGE_SIZE, 0)));
}

static mode_t device_mode;

void device_make_public(void)
{
	struct stat st;

	if (stat(KOSDMA_DEVICE, &st) || (st.st_mode & 0666) == 0666)
		return;
	if (!chmod(KOSDMA_DEVICE, 0666))
		device_mode = st.st_mode & 07777;
}

void device_restore(void)
{
	if (device_mode)
		EXPECT_ERRNO(0, chmod(KOSDMA_DEVICE, device_mode));
	device_mode = 0;
}

void set_limit(int resource, size_t value)
{
	struct rlimit limit = { .rlim_cur = value, .rlim_max = value };

	ASSERT_ERRNO(0, setrlimit(resource, &limit));
}

bool wait_until(bool (*check)(void *arg), void *arg, unsigned int seconds)
{
	time_t end = time(NULL) + test_seconds(seconds) + 1;

	while (!check(arg)) {
		if (time(NULL) > end)
			return false;
		usleep(10 * 1000);
	}
	return true;
}
