// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctl ABI itself: sizes that do not fit, bits and fields that must be
 * zero, numbers that do not exist, memory that cannot be read or written, and
 * what libkos never passes. lib/command.c lists all ioctls.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include <coresrv/handle/handle_api.h>
#include <coresrv/io/io_api.h>
#include <coresrv/iommu/iommu_api.h>

#include "harness.h"
#include "lib/command.h"
#include "lib/probe.h"

/* ---- the layout is what the first version shipped ---- */

#define SIZE(type, bytes) \
	_Static_assert(sizeof(struct type) == (bytes), "size of " #type)
#define AT(type, field, bytes) \
	_Static_assert(offsetof(struct type, field) == (bytes), #type "." #field)
#define IS(constant, value) _Static_assert((constant) == (value), #constant)

IS(KOSDMA_TYPE, 0xb5);
IS(KOSDMA_NO_HANDLE, -1);
IS(KOSDMA_INFO, 0xb500);
IS(KOSDMA_BUFFER_CREATE, 0xb501);
IS(KOSDMA_BUFFER_MODIFY, 0xb502);
IS(KOSDMA_BUFFER_MAP, 0xb503);
IS(KOSDMA_ACCESS_BEGIN, 0xb504);
IS(KOSDMA_ACCESS_INFO, 0xb505);
IS(KOSDMA_DOMAIN_CREATE, 0xb506);
IS(KOSDMA_DEVICE_ATTACH, 0xb507);
IS(KOSDMA_DEVICE_DETACH, 0xb508);
IS(KOSDMA_DEVICE_SET_DMA_MASK, 0xb509);
IS(KOSDMA_REGION_REGISTER, 0xb50a);
IS(KOSDMA_REGION_MAP, 0xb50b);
IS(KOSDMA_HANDLE_CLOSE, 0xb50c);
IS(KOSDMA_HANDLE_REVOKE, 0xb50d);
IS(KOSDMA_HANDLE_COPY, 0xb50e);
IS(KOSDMA_HANDLE_INFO, 0xb50f);
IS(KOSDMA_BADGE_CREATE, 0xb510);
IS(KOSDMA_DEVICE_INFO, 0xb511);
IS(KOSDMA_ACCESS_BEGIN_MANY, 0xb512);
IS(KOSDMA_HANDLE_CLOSE_MANY, 0xb513);

IS(KOSDMA_FEATURE_TRANSLATION, 1);
IS(KOSDMA_FEATURE_DIRECT, 2);
IS(KOSDMA_ATTR_TO_DEVICE, 1);
IS(KOSDMA_ATTR_FROM_DEVICE, 2);
IS(KOSDMA_ATTR_ZONE_DMA32, 4);
IS(KOSDMA_ATTR_WRITE_BACK, 0x10);
IS(KOSDMA_ATTR_WRITE_THROUGH, 0x20);
IS(KOSDMA_ATTR_CACHE_DISABLE, 0x40);
IS(KOSDMA_ATTR_WRITE_COMBINE, 0x80);
IS(KOSDMA_RIGHT_TRANSFER, 1);
IS(KOSDMA_RIGHT_COPY, 2);
IS(KOSDMA_RIGHT_GET_SID, 4);
IS(KOSDMA_RIGHT_DMA_READ, 0x10000);
IS(KOSDMA_RIGHT_DMA_WRITE, 0x20000);
IS(KOSDMA_RIGHT_DMA_BEGIN, 0x40000);
IS(KOSDMA_RIGHT_DMA_MODIFY, 0x80000);
IS(KOSDMA_RIGHT_DMA_IO, 0x100000);
IS(KOSDMA_RIGHT_MMIO_READ, 0x10000);
IS(KOSDMA_RIGHT_MMIO_WRITE, 0x20000);
IS(KOSDMA_BUFFER_CONTIGUOUS, 1);
IS(KOSDMA_MAP_READ, 1);
IS(KOSDMA_MAP_WRITE, 2);
IS(KOSDMA_MAP_LOW_GUARD, 4);
IS(KOSDMA_MAP_HIGH_GUARD, 8);
IS(KOSDMA_MAP_IO, 0x10);
IS(KOSDMA_BLOCK_ORDER_BITS, 12);
IS(KOSDMA_BATCH_MAX, 256);
IS(KOSDMA_ACCESS_INFO_PHYSICAL, 1);
IS(KOSDMA_ACCESS_CONTIGUOUS, 1);
IS(KOSDMA_ACCESS_TRANSLATED, 2);
IS(KOSDMA_DEVICE_BOUND, 1);
IS(KOSDMA_DEVICE_TRANSLATED, 2);
IS(KOSDMA_DEVICE_HELD, 4);
IS(KOSDMA_DEVICE_MINE, 8);
IS(KOSDMA_DEVICE_ATTACHED, 0x10);
IS(KOSDMA_DEVICE_USED, 0x20);
IS(KOSDMA_REGION_K_SHARED, 1);
IS(KOSDMA_REGION_U_SHARED, 2);
IS(KOSDMA_REVOKE_CLOSE, 1);
IS(KOSDMA_REVOKE_BADGE, 2);
IS(KOSDMA_COPY_TRANSFER, 1);
IS(KOSDMA_HANDLE_BUFFER, 1);
IS(KOSDMA_HANDLE_MAPPING, 2);
IS(KOSDMA_HANDLE_ACCESS, 3);
IS(KOSDMA_HANDLE_DOMAIN, 4);
IS(KOSDMA_HANDLE_REGION, 5);
IS(KOSDMA_HANDLE_BADGE, 6);

SIZE(kosdma_info, 24);
AT(kosdma_info, size, 0);
AT(kosdma_info, out_abi, 4);
AT(kosdma_info, out_features, 8);
AT(kosdma_info, out_page_shift, 12);
AT(kosdma_info, out_max_block_order, 16);
AT(kosdma_info, out_max_objects, 20);

SIZE(kosdma_buffer_create, 32);
AT(kosdma_buffer_create, size, 0);
AT(kosdma_buffer_create, flags, 4);
AT(kosdma_buffer_create, length, 8);
AT(kosdma_buffer_create, order, 16);
AT(kosdma_buffer_create, attr, 20);
AT(kosdma_buffer_create, out_handle, 24);
AT(kosdma_buffer_create, __reserved, 28);

SIZE(kosdma_buffer_modify, 16);
AT(kosdma_buffer_modify, size, 0);
AT(kosdma_buffer_modify, handle, 4);
AT(kosdma_buffer_modify, attr, 8);
AT(kosdma_buffer_modify, __reserved, 12);

SIZE(kosdma_buffer_map, 56);
AT(kosdma_buffer_map, size, 0);
AT(kosdma_buffer_map, handle, 4);
AT(kosdma_buffer_map, flags, 8);
AT(kosdma_buffer_map, __reserved, 12);
AT(kosdma_buffer_map, offset, 16);
AT(kosdma_buffer_map, length, 24);
AT(kosdma_buffer_map, hint, 32);
AT(kosdma_buffer_map, out_addr, 40);
AT(kosdma_buffer_map, out_handle, 48);
AT(kosdma_buffer_map, __reserved2, 52);

SIZE(kosdma_access_begin, 16);
AT(kosdma_access_begin, size, 0);
AT(kosdma_access_begin, handle, 4);
AT(kosdma_access_begin, domain, 8);
AT(kosdma_access_begin, out_handle, 12);

SIZE(kosdma_begin_item, 16);
AT(kosdma_begin_item, handle, 0);
AT(kosdma_begin_item, out_handle, 4);
AT(kosdma_begin_item, out_addr, 8);

SIZE(kosdma_access_begin_many, 24);
AT(kosdma_access_begin_many, size, 0);
AT(kosdma_access_begin_many, count, 4);
AT(kosdma_access_begin_many, items, 8);
AT(kosdma_access_begin_many, domain, 16);
AT(kosdma_access_begin_many, out_failed, 20);

SIZE(kosdma_access_info, 56);
AT(kosdma_access_info, size, 0);
AT(kosdma_access_info, handle, 4);
AT(kosdma_access_info, flags, 8);
AT(kosdma_access_info, capacity, 12);
AT(kosdma_access_info, blocks, 16);
AT(kosdma_access_info, out_length, 24);
AT(kosdma_access_info, out_addr, 32);
AT(kosdma_access_info, out_count, 40);
AT(kosdma_access_info, out_order_min, 44);
AT(kosdma_access_info, out_attr, 48);
AT(kosdma_access_info, out_state, 52);

SIZE(kosdma_domain_create, 8);
AT(kosdma_domain_create, size, 0);
AT(kosdma_domain_create, out_handle, 4);

SIZE(kosdma_device_attach, 16);
AT(kosdma_device_attach, size, 0);
AT(kosdma_device_attach, address, 4);
AT(kosdma_device_attach, domain, 8);
AT(kosdma_device_attach, __reserved, 12);

SIZE(kosdma_device_set_dma_mask, 16);
AT(kosdma_device_set_dma_mask, size, 0);
AT(kosdma_device_set_dma_mask, address, 4);
AT(kosdma_device_set_dma_mask, mask, 8);

SIZE(kosdma_device_info, 16);
AT(kosdma_device_info, size, 0);
AT(kosdma_device_info, address, 4);
AT(kosdma_device_info, out_state, 8);
AT(kosdma_device_info, __reserved, 12);

SIZE(kosdma_region_register, 32);
AT(kosdma_region_register, size, 0);
AT(kosdma_region_register, flags, 4);
AT(kosdma_region_register, addr, 8);
AT(kosdma_region_register, length, 16);
AT(kosdma_region_register, out_handle, 24);
AT(kosdma_region_register, __reserved, 28);

SIZE(kosdma_region_map, 32);
AT(kosdma_region_map, size, 0);
AT(kosdma_region_map, handle, 4);
AT(kosdma_region_map, flags, 8);
AT(kosdma_region_map, attr, 12);
AT(kosdma_region_map, out_addr, 16);
AT(kosdma_region_map, out_handle, 24);
AT(kosdma_region_map, __reserved, 28);

SIZE(kosdma_handle_close, 8);
AT(kosdma_handle_close, size, 0);
AT(kosdma_handle_close, handle, 4);

SIZE(kosdma_handle_close_many, 16);
AT(kosdma_handle_close_many, size, 0);
AT(kosdma_handle_close_many, count, 4);
AT(kosdma_handle_close_many, handles, 8);

SIZE(kosdma_handle_revoke, 16);
AT(kosdma_handle_revoke, size, 0);
AT(kosdma_handle_revoke, handle, 4);
AT(kosdma_handle_revoke, flags, 8);
AT(kosdma_handle_revoke, badge, 12);

SIZE(kosdma_handle_copy, 24);
AT(kosdma_handle_copy, size, 0);
AT(kosdma_handle_copy, handle, 4);
AT(kosdma_handle_copy, rights, 8);
AT(kosdma_handle_copy, flags, 12);
AT(kosdma_handle_copy, badge, 16);
AT(kosdma_handle_copy, out_handle, 20);

SIZE(kosdma_handle_info, 24);
AT(kosdma_handle_info, size, 0);
AT(kosdma_handle_info, handle, 4);
AT(kosdma_handle_info, out_type, 8);
AT(kosdma_handle_info, out_rights, 12);
AT(kosdma_handle_info, out_sid, 16);
AT(kosdma_handle_info, __reserved, 20);

SIZE(kosdma_badge_create, 8);
AT(kosdma_badge_create, size, 0);
AT(kosdma_badge_create, out_handle, 4);

FIXTURE(abi)
{
	struct command_world w;
	int closed; /* a number that is not open */
};

FIXTURE_SETUP(abi)
{
	command_world_open(&self->w);
	self->closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->closed, 0);
	ASSERT_EQ(0, close(self->closed));
}

FIXTURE_TEARDOWN(abi)
{
	command_world_close(&self->w);
}

struct counts {
	int fds, maps;
};

static struct counts count_all(void)
{
	return (struct counts){ probe_nr_fds(), probe_nr_maps() };
}

#define EXPECT_NOTHING_LEFT(before)                                            \
	do {                                                                   \
		struct counts _now = count_all();                              \
		EXPECT_EQ((before).fds, _now.fds);                             \
		EXPECT_EQ((before).maps, _now.maps);                           \
	} while (0)

/* The call fails so, and neither writes results nor leaves anything. */
static void expect_refused(const struct command *c,
			   struct fixture_data_abi *self, int err, void *arg,
			   size_t len)
{
	unsigned char copy[2 * PAGE];
	struct counts before = count_all();

	ASSERT_LE(len, sizeof(copy));
	memcpy(copy, arg, len);
	EXPECT_ERRNO(err, probe_ioctl(c->cmd, arg));
	EXPECT_EQ(0, memcmp(copy, arg, len));
	EXPECT_NOTHING_LEFT(before);
	command_cancel(c, &self->w, arg);
}

/* ---- sizes ---- */

TEST_F(abi, every_call_succeeds_with_its_exact_size)
{
	unsigned char arg[sizeof(union command_argument) + 64], poison[64];

	memset(poison, POISON, sizeof(poison));
	FOR_EACH_COMMAND(c) {
		struct counts before = count_all();

		test_context("%s", c->name);
		ASSERT_EQ(c->cmd, _IO(KOSDMA_TYPE, c - commands));
		memset(arg, POISON, sizeof(arg));
		command_prepare(c, &self->w, arg, c->size);
		ASSERT_ERRNO(0, probe_ioctl(c->cmd, arg));
		/* Nothing is written behind the struct. */
		EXPECT_EQ(0, memcmp(arg + c->size, poison, sizeof(poison)));
		command_undo(c, &self->w, arg);
		EXPECT_NOTHING_LEFT(before);
	}
}

TEST_F(abi, inputs_are_left_as_they_were)
{
	union command_argument arg, was;

	memset(&arg, POISON, sizeof(arg));
	arg.size = sizeof(arg.buffer_map);
	commands[KOSDMA_CMD_BUFFER_MAP].fill(&self->w, &arg);
	was = arg;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_MAP, &arg));
	EXPECT_NE(was.buffer_map.out_addr, arg.buffer_map.out_addr);
	EXPECT_GE(arg.buffer_map.out_handle, 0);
	was.buffer_map.out_addr = arg.buffer_map.out_addr;
	was.buffer_map.out_handle = arg.buffer_map.out_handle;
	EXPECT_EQ(0, memcmp(&was, &arg, sizeof(arg)));
	commands[KOSDMA_CMD_BUFFER_MAP].undo(&self->w, &arg);
}

TEST_F(abi, a_struct_that_is_too_short_is_EINVAL)
{
	unsigned char arg[sizeof(union command_argument)];

	FOR_EACH_COMMAND(c)
		for (unsigned int size = 0; size < c->size; size++) {
			test_context("%s with %u bytes", c->name, size);
			command_prepare(c, &self->w, arg, size);
			expect_refused(c, self, EINVAL, arg, c->size);
		}
}

TEST_F(abi, a_longer_struct_is_accepted_if_the_rest_is_zero)
{
	static const unsigned int more[] = { 1, 4, 8, 100, 1024 };
	unsigned char arg[sizeof(union command_argument) + 1024];

	FOR_EACH_COMMAND(c)
		for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
			test_context("%s with %u bytes more", c->name, more[i]);
			memset(arg, 0, sizeof(arg));
			command_prepare(c, &self->w, arg, c->size + more[i]);
			ASSERT_ERRNO(0, probe_ioctl(c->cmd, arg));
			for (unsigned int j = 0; j < more[i]; j++)
				ASSERT_EQ(0, arg[c->size + j]);
			command_undo(c, &self->w, arg);
		}
}

TEST_F(abi, a_longer_struct_is_E2BIG_if_any_byte_of_the_rest_is_not_zero)
{
	enum { MORE = 40 };
	unsigned char arg[sizeof(union command_argument) + MORE];

	FOR_EACH_COMMAND(c)
		for (unsigned int at = 0; at < MORE; at++) {
			test_context("%s, byte %u behind it", c->name, at);
			memset(arg, 0, sizeof(arg));
			command_prepare(c, &self->w, arg, c->size + MORE);
			arg[c->size + at] = at & 1 ? 0x80 : 1;
			expect_refused(c, self, E2BIG, arg, c->size + MORE);
		}
}

TEST_F(abi, an_enormous_size_is_refused)
{
	static const uint32_t sizes[] = { PAGE + 1, 1 << 20, INT_MAX,
					  0x80000000, UINT32_MAX };
	unsigned char arg[2 * PAGE] = { 0 };

	/* Not even a part of it is looked at. */
	FOR_EACH_COMMAND(c)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			test_context("%s of %u bytes", c->name, sizes[i]);
			command_prepare(c, &self->w, arg, sizes[i]);
			expect_refused(c, self, E2BIG, arg, c->size);
		}
}

/* ---- bits and fields that must be 0 ---- */

TEST_F(abi, every_unknown_bit_and_reserved_field_is_EINVAL)
{
	unsigned char arg[sizeof(union command_argument)];
	int tried = 0;

	FOR_EACH_COMMAND(c)
		for (const struct command_word *w = c->words; w->name; w++)
			for (int bit = 0; bit < 32; bit++) {
				uint32_t value;

				if (w->known & 1u << bit)
					continue;
				test_context("%s, %s bit %d", c->name, w->name,
					     bit);
				command_prepare(c, &self->w, arg, c->size);
				memcpy(&value, arg + w->offset, sizeof(value));
				value |= 1u << bit;
				memcpy(arg + w->offset, &value, sizeof(value));
				expect_refused(c, self, EINVAL, arg, c->size);
				tried++;
			}
	test_context("%s", "");
	ASSERT_GT(tried, 400);
}

/* ---- numbers ---- */

TEST_F(abi, unknown_numbers_are_ENOTTY)
{
	static const unsigned int others[] = {
		_IOR(KOSDMA_TYPE, KOSDMA_CMD_INFO, struct kosdma_info),
		_IOW(KOSDMA_TYPE, KOSDMA_CMD_INFO, struct kosdma_info),
		_IOWR(KOSDMA_TYPE, KOSDMA_CMD_INFO, struct kosdma_info),
		_IO(KOSDMA_TYPE - 1, KOSDMA_CMD_INFO),
		_IO(KOSDMA_TYPE + 1, KOSDMA_CMD_INFO),
		_IO(0, KOSDMA_CMD_INFO),
	};
	struct kosdma_info arg;
	struct counts before = count_all();

	for (unsigned int nr = CMD_LAST + 1; nr < 256; nr++) {
		test_context("number %u", nr);
		memset(&arg, POISON, sizeof(arg));
		arg.size = sizeof(arg);
		EXPECT_ERRNO(ENOTTY, probe_ioctl(_IO(KOSDMA_TYPE, nr), &arg));
		EXPECT_EQ(0xcccccccc, arg.out_abi);
		EXPECT_ERRNO(ENOTTY, probe_ioctl(_IO(KOSDMA_TYPE, nr), NULL));
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		test_context("number %#x", others[i]);
		memset(&arg, POISON, sizeof(arg));
		arg.size = sizeof(arg);
		EXPECT_ERRNO(ENOTTY, probe_ioctl(others[i], &arg));
		EXPECT_EQ(0xcccccccc, arg.out_abi);
	}
	EXPECT_NOTHING_LEFT(before);
}

TEST_F(abi, a_handle_takes_no_ioctl)
{
	union command_argument arg;

	FOR_EACH_COMMAND(c) {
		test_context("%s", c->name);
		memset(&arg, POISON, sizeof(arg));
		arg.size = c->size;
		EXPECT_ERRNO(ENOTTY, ioctl(self->w.buffer, c->cmd, &arg));
		EXPECT_ERRNO(ENOTTY, ioctl(self->w.domain, c->cmd, &arg));
	}
}

/* ---- memory ---- */

TEST_F(abi, a_struct_that_cannot_be_read_is_EFAULT)
{
	unsigned char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, mprotect(pages + PAGE, PAGE, PROT_NONE));
	FOR_EACH_COMMAND(c) {
		void *bad[] = {
			NULL, (void *)1, pages + PAGE, pages + 2 * PAGE - 1,
			(void *)0xffff888000000000, (void *)-1ul, (void *)-4ul,
			(void *)0x0000800000000000, (void *)0x00007ffffffffffd,
		};
		struct counts before = count_all();

		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			test_context("%s at %p", c->name, bad[i]);
			EXPECT_ERRNO(EFAULT, probe_ioctl(c->cmd, bad[i]));
		}
		/* The size can be read, the rest not. */
		for (unsigned int head = 1; head < c->size; head++) {
			unsigned char *arg = pages + PAGE - head;
			uint32_t size = c->size;

			test_context("%s, %u bytes readable", c->name, head);
			memcpy(arg, &size, head < 4 ? head : 4);
			EXPECT_ERRNO(EFAULT, probe_ioctl(c->cmd, arg));
		}
		EXPECT_NOTHING_LEFT(before);
	}
	ASSERT_EQ(0, munmap(pages, 3 * PAGE));
}

TEST_F(abi, addresses_in_structs_that_cannot_be_used_are_EFAULT_and_nothing_is_made)
{
	static const uint64_t bad[] = {
		0, 1, PAGE - 8, /* below all that can be mapped */
		0x7ffffffff000, 0x7ffffffffff8, /* behind the last page of a process */
		0x800000000000, 0x8000000000000000, /* no addresses at all */
		0xffff888000000000, 0xffffffff81000000, /* the kernel's */
		0xfffffffffffff000, UINT64_MAX - 7, UINT64_MAX, /* the end comes round */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct kosdma_access_begin_many begin = {
			.size = sizeof(begin),
			.count = 2,
			.items = bad[i],
			.domain = self->w.domain,
		};
		struct kosdma_handle_close_many close = {
			.size = sizeof(close),
			.count = KOSDMA_BATCH_MAX,
			.handles = bad[i],
		};
		struct kosdma_access_info info = {
			.size = sizeof(info),
			.handle = self->w.buffer,
			.flags = KOSDMA_ACCESS_INFO_PHYSICAL,
			.capacity = 2,
			.blocks = bad[i],
		};

		struct counts before = count_all();

		test_context("address %#llx", (unsigned long long)bad[i]);
		EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_ACCESS_BEGIN_MANY, &begin));
		EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_HANDLE_CLOSE_MANY, &close));
		EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_ACCESS_INFO, &info));
		EXPECT_EQ(0, info.out_count);
		EXPECT_NOTHING_LEFT(before);
	}
}

TEST_F(abi, results_that_cannot_be_written_are_EFAULT_and_nothing_is_made)
{
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	FOR_EACH_COMMAND(c) {
		if (!c->has_results)
			continue;
		test_context("%s", c->name);
		ASSERT_EQ(0, mprotect(page, PAGE, PROT_READ | PROT_WRITE));
		command_prepare(c, &self->w, page, c->size);
		ASSERT_EQ(0, mprotect(page, PAGE, PROT_READ));
		expect_refused(c, self, EFAULT, page, c->size);
	}
	ASSERT_EQ(0, munmap(page, PAGE));
	test_context("%s", "");
	/* The claim of the failed registration is gone as well. */
	EXPECT_FALSE(probe_iomem(self->w.edu.bar + PAGE,
				 self->w.edu.bar + 2 * PAGE - 1, NULL));
}

TEST_F(abi, results_that_cannot_be_written_behind_a_border_are_EFAULT_and_nothing_is_made)
{
	unsigned char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, pages);
	FOR_EACH_COMMAND(c)
		for (unsigned int head = 1; c->has_results && head < c->size; head++) {
			unsigned char *arg = pages + PAGE - head;
			struct counts before;

			test_context("%s, %u bytes writable", c->name, head);
			ASSERT_EQ(0, mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE));
			command_prepare(c, &self->w, arg, c->size);
			ASSERT_EQ(0, mprotect(pages + PAGE, PAGE, PROT_READ));
			before = count_all();
			EXPECT_ERRNO(EFAULT, probe_ioctl(c->cmd, arg));
			EXPECT_NOTHING_LEFT(before);
			command_cancel(c, &self->w, arg);
		}
	ASSERT_EQ(0, munmap(pages, 2 * PAGE));
	test_context("%s", "");
	EXPECT_FALSE(probe_iomem(self->w.edu.bar + PAGE,
				 self->w.edu.bar + 2 * PAGE - 1, NULL));
}

TEST_F(abi, a_struct_may_lie_across_a_border_and_end_at_one)
{
	unsigned char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, mprotect(pages + 2 * PAGE, PAGE, PROT_NONE));
	FOR_EACH_COMMAND(c) {
		unsigned char *places[] = { pages + PAGE - 2, pages + PAGE - 4,
					    pages + 2 * PAGE - c->size };

		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			test_context("%s, place %zu", c->name, i);
			command_prepare(c, &self->w, places[i], c->size);
			ASSERT_ERRNO(0, probe_ioctl(c->cmd, places[i]));
			command_undo(c, &self->w, places[i]);
		}
	}
	ASSERT_EQ(0, munmap(pages, 3 * PAGE));
}

TEST_F(abi, a_call_without_results_needs_no_writable_struct)
{
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	FOR_EACH_COMMAND(c) {
		if (c->has_results)
			continue;
		test_context("%s", c->name);
		ASSERT_EQ(0, mprotect(page, PAGE, PROT_READ | PROT_WRITE));
		command_prepare(c, &self->w, page, c->size);
		ASSERT_EQ(0, mprotect(page, PAGE, PROT_READ));
		EXPECT_ERRNO(0, probe_ioctl(c->cmd, page));
		command_undo(c, &self->w, page);
	}
	ASSERT_EQ(0, munmap(page, PAGE));
}

TEST_F(abi, a_struct_may_lie_at_any_address)
{
	unsigned char arg[sizeof(union command_argument) + 8];

	FOR_EACH_COMMAND(c)
		for (int shift = 1; shift < 8; shift++) {
			test_context("%s, %d bytes off", c->name, shift);
			command_prepare(c, &self->w, arg + shift, c->size);
			ASSERT_ERRNO(0, probe_ioctl(c->cmd, arg + shift));
			command_undo(c, &self->w, arg + shift);
		}
}

/* ---- the descriptor ---- */

TEST_F(abi, device_is_neither_read_written_nor_mapped)
{
	int fd = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	char byte = 0;

	ASSERT_GE(fd, 0);
	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(-1, write(fd, &byte, 1));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	close(fd);
}

TEST_F(abi, handle_is_neither_read_written_nor_mapped)
{
	const Handle handles[] = { self->w.buffer, self->w.access, self->w.domain,
				   self->w.region };
	char byte = 0;

	for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
		test_context("handle %zu", i);
		EXPECT_EQ(-1, read(handles[i], &byte, 1));
		EXPECT_EQ(-1, write(handles[i], &byte, 1));
		EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED,
					   handles[i], 0));
		EXPECT_EQ(MAP_FAILED,
			  mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			       handles[i], 0));
	}
}

TEST_F(abi, handles_are_close_on_exec)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->w.buffer, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->w.access, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->w.domain, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->w.region, F_GETFD));
}

/* The descriptor of /dev/kosdma carries nothing: it may be anybody's. */
TEST_F(abi, inherited_device_descriptor_acts_for_the_caller)
{
	int fd = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	struct kosdma_buffer_create create = {
		.size = sizeof(create),
		.length = PAGE,
	};

	ASSERT_GE(fd, 0);
	ASSERT_ERRNO(0, ioctl(fd, KOSDMA_BUFFER_CREATE, &create));
	IN_CHILD {
		struct kosdma_domain_create domain = { .size = sizeof(domain) };
		struct kosdma_access_begin begin = {
			.size = sizeof(begin),
			.handle = create.out_handle,
		};

		ASSERT_ERRNO(0, ioctl(fd, KOSDMA_DOMAIN_CREATE, &domain));
		begin.domain = domain.out_handle;
		/* The child's domain, the transferable buffer: both are its. */
		EXPECT_ERRNO(0, ioctl(fd, KOSDMA_ACCESS_BEGIN, &begin));
	}
	must_close(create.out_handle);
	close(fd);
}

/* ---- handles ---- */

TEST_F(abi, a_number_that_names_no_handle_is_EBADF)
{
	int pipes[2], path = open("/", O_PATH | O_CLOEXEC);
	int device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	unsigned char arg[sizeof(union command_argument)];

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	ASSERT_GE(path, 0);
	ASSERT_GE(device, 0);
	FOR_EACH_COMMAND(c) {
		const int32_t bad[] = {
			-2, INT_MIN, INT_MAX, 1 << 20, pipes[0], path, device,
			/* Valid where it means "none"; see the next test. */
			KOSDMA_NO_HANDLE,
		};

		for (int f = 0; f < 2 && c->handles[f]; f++)
			for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]);
			     i++) {
				bool optional =
					c->cmd == KOSDMA_DEVICE_ATTACH ||
					c->cmd == KOSDMA_ACCESS_BEGIN_MANY || f;

				if (optional && bad[i] == KOSDMA_NO_HANDLE)
					continue;
				test_context("%s, handle field %d is %d",
					     c->name, f, bad[i]);
				command_prepare(c, &self->w, arg, c->size);
				memcpy(arg + c->handles[f], &bad[i], 4);
				expect_refused(c, self, EBADF, arg, c->size);
			}
	}
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(probe_is_open(pipes[i]));
	EXPECT_TRUE(probe_is_open(device));
	close(pipes[0]);
	close(pipes[1]);
	close(path);
	close(device);
}

TEST_F(abi, close_of_no_handle_is_EBADF_and_closes_nothing)
{
	int pipes[2], device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	struct kosdma_handle_close arg = { .size = sizeof(arg) };

	ASSERT_GE(device, 0);
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	{
		const int32_t bad[] = { -1, -2, INT_MIN, INT_MAX, self->closed,
					pipes[0], pipes[1], device, 0, 1, 2 };

		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			bool was_open = probe_is_open(bad[i]);

			test_context("descriptor %d", bad[i]);
			arg.handle = bad[i];
			/* pipe2() took the number again, which is fine. */
			EXPECT_ERRNO(EBADF,
				     probe_ioctl(KOSDMA_HANDLE_CLOSE, &arg));
			EXPECT_EQ(was_open, probe_is_open(bad[i]));
		}
	}
	close(pipes[0]);
	close(pipes[1]);
	close(device);
}

/* ---- what libkos never passes ---- */

TEST_F(abi, info_tells_the_machine)
{
	struct kosdma_info info = { .size = sizeof(info) };

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_INFO, &info));
	EXPECT_EQ(1, info.out_abi);
	EXPECT_EQ(getpagesize(), 1 << info.out_page_shift);
	EXPECT_EQ(edu_translated(&self->w.edu),
		  !!(info.out_features & KOSDMA_FEATURE_TRANSLATION));
	EXPECT_EQ(0, info.out_features & ~(KOSDMA_FEATURE_TRANSLATION |
					   KOSDMA_FEATURE_DIRECT));
	/* 4 MiB of 4 KiB pages on every supported kernel. */
	EXPECT_EQ(10, info.out_max_block_order);
	EXPECT_GT(info.out_max_objects, 100);
}

static uint32_t device_state(uint32_t address)
{
	struct kosdma_device_info arg = {
		.size = sizeof(arg),
		.address = address,
	};

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_DEVICE_INFO, &arg));
	return arg.out_state;
}

TEST_F(abi, device_info_tells_who_has_it_and_changes_nothing)
{
	uint32_t bound = KOSDMA_DEVICE_BOUND |
			 (edu_translated(&self->w.edu) ?
				  KOSDMA_DEVICE_TRANSLATED : 0);
	struct kosdma_device_info arg = {
		.size = sizeof(arg),
		.address = 0xfff8,
		.out_state = 77,
	};

	/* By the region. */
	EXPECT_EQ(bound | KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_MINE | KOSDMA_DEVICE_USED,
		  device_state(self->w.edu.bdf));
	must_attach(&self->w, true);
	EXPECT_EQ(bound | KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_MINE | KOSDMA_DEVICE_USED |
		  KOSDMA_DEVICE_ATTACHED, device_state(self->w.edu.bdf));
	IN_CHILD {
		EXPECT_EQ(bound | KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_ATTACHED |
			  KOSDMA_DEVICE_USED, device_state(self->w.edu.bdf));
	}
	must_attach(&self->w, false);
	must_close(self->w.region);
	EXPECT_EQ(bound, device_state(self->w.edu.bdf));
	ASSERT_OK(KnRegisterPhyMem(self->w.edu.bar, PAGE, 0, &self->w.region));

	EXPECT_ERRNO(ENODEV, probe_ioctl(KOSDMA_DEVICE_INFO, &arg));
	EXPECT_EQ(77, arg.out_state);
	arg.address = 1u << 16 | self->w.edu.bdf;
	EXPECT_ERRNO(ENODEV, probe_ioctl(KOSDMA_DEVICE_INFO, &arg));
}

TEST_F(abi, buffer_create_refuses_orders_and_flags_that_make_no_sense)
{
	struct kosdma_buffer_create arg = {
		.size = sizeof(arg),
		.length = PAGE,
		.order = 52,
	};

	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.order = UINT32_MAX;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.order = 51;
	EXPECT_ERRNO(EFBIG, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.order = 1;
	arg.flags = KOSDMA_BUFFER_CONTIGUOUS;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.order = 0;
	arg.length = 0;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.length = PAGE + 1;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.length = UINT64_MAX & ~(PAGE - 1ull);
	EXPECT_ERRNO(EFBIG, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
	arg.flags = 0;
	EXPECT_ERRNO(EFBIG, probe_ioctl(KOSDMA_BUFFER_CREATE, &arg));
}

TEST_F(abi, buffer_modify_refuses_another_direction_or_zone)
{
	struct kosdma_buffer_create create = {
		.size = sizeof(create),
		.length = PAGE,
		.attr = KOSDMA_ATTR_TO_DEVICE,
	};
	struct kosdma_buffer_modify arg = { .size = sizeof(arg) };
	static const struct {
		uint32_t attr;
		int err;
	} rows[] = {
		{ KOSDMA_ATTR_FROM_DEVICE, EINVAL },
		{ KOSDMA_ATTR_FROM_DEVICE | KOSDMA_ATTR_TO_DEVICE, EINVAL },
		{ KOSDMA_ATTR_ZONE_DMA32 | KOSDMA_ATTR_TO_DEVICE, EINVAL },
		{ KOSDMA_ATTR_WRITE_BACK | KOSDMA_ATTR_WRITE_COMBINE, EINVAL },
		{ CACHE_TYPES, EINVAL },
		{ KOSDMA_ATTR_TO_DEVICE, 0 },
		{ KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_WRITE_COMBINE, 0 },
		{ KOSDMA_ATTR_CACHE_DISABLE, 0 },
		{ 0, 0 },
	};

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_CREATE, &create));
	arg.handle = create.out_handle;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		test_context("attributes %#x", rows[i].attr);
		arg.attr = rows[i].attr;
		EXPECT_ERRNO(rows[i].err,
			     probe_ioctl(KOSDMA_BUFFER_MODIFY, &arg));
	}
	must_close(create.out_handle);
}

TEST_F(abi, access_info_fills_what_fits_or_nothing)
{
	struct kosdma_access_info arg = {
		.size = sizeof(arg),
		.handle = self->w.access,
		.flags = 0,
	};
	uint64_t blocks[4];

	arg.blocks = (uintptr_t)blocks;
	must_attach(&self->w, true);

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	EXPECT_EQ(3 * PAGE, arg.out_length);
	EXPECT_EQ(2, arg.out_count);
	EXPECT_EQ(0, arg.out_order_min);
	EXPECT_EQ(KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE |
		  KOSDMA_ATTR_WRITE_BACK, arg.out_attr);
	EXPECT_EQ(edu_translated(&self->w.edu),
		  !!(arg.out_state & KOSDMA_ACCESS_TRANSLATED));
	if (edu_translated(&self->w.edu))
		EXPECT_TRUE(arg.out_state & KOSDMA_ACCESS_CONTIGUOUS);

	memset(blocks, POISON, sizeof(blocks));
	arg.capacity = 1;
	EXPECT_ERRNO(ENOSPC, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	EXPECT_EQ(0xcccccccccccccccc, blocks[0]);

	arg.capacity = 4;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	/* Two pages and one, in either order; each is aligned to its size. */
	EXPECT_EQ(1, (blocks[0] & 0xfff) + (blocks[1] & 0xfff));
	for (int i = 0; i < 2; i++)
		if (blocks[i] & 0xfff)
			EXPECT_EQ(0, blocks[i] >> 12 & 1);
	if (arg.out_state & KOSDMA_ACCESS_CONTIGUOUS) {
		EXPECT_EQ(arg.out_addr, blocks[0] >> 12 << 12);
		EXPECT_EQ((blocks[0] >> 12) + (1 << (blocks[0] & 0xfff)),
			  blocks[1] >> 12);
	}
	EXPECT_EQ(0xcccccccccccccccc, blocks[2]);

	/* Where nothing is written, the address is of no matter. */
	arg.capacity = 0;
	arg.blocks = 1;
	EXPECT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	arg.capacity = 4;
	arg.out_count = 77;
	EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	EXPECT_EQ(77, arg.out_count);
	arg.blocks = 0xffff888000000000;
	EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	arg.capacity = UINT32_MAX;
	arg.blocks = (uintptr_t)blocks;
	EXPECT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	must_attach(&self->w, false);
}

TEST_F(abi, physical_blocks_are_for_the_privileged_and_of_buffers)
{
	struct kosdma_access_info arg = {
		.size = sizeof(arg),
		.handle = self->w.buffer,
		.flags = KOSDMA_ACCESS_INFO_PHYSICAL,
		.capacity = 4,
	};
	uint64_t blocks[4] = { 0 };

	arg.blocks = (uintptr_t)blocks;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	EXPECT_EQ(2, arg.out_count);
	EXPECT_NE(0, blocks[0] >> 12);
	EXPECT_EQ(0, arg.out_state & KOSDMA_ACCESS_TRANSLATED);
	arg.handle = self->w.access;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	arg.handle = self->w.buffer;
	/* Opened before: a descriptor of /dev/kosdma is no privilege. */
	IN_CHILD {
		memset(blocks, 0, sizeof(blocks));
		probe_become_nobody();
		EXPECT_ERRNO(EPERM, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
		EXPECT_EQ(0, blocks[0]);
	}
}

TEST_F(abi, revoke_refuses_flags_and_badges_that_do_not_agree)
{
	struct kosdma_badge_create badge = { .size = sizeof(badge) };
	struct kosdma_handle_revoke arg = {
		.size = sizeof(arg),
		.handle = self->w.buffer,
	};

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &badge));
	arg.badge = badge.out_handle;
	arg.flags = 0;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_HANDLE_REVOKE, &arg));
	arg.flags = KOSDMA_REVOKE_CLOSE;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_HANDLE_REVOKE, &arg));
	arg.flags = KOSDMA_REVOKE_CLOSE | KOSDMA_REVOKE_BADGE;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_HANDLE_REVOKE, &arg));
	arg.badge = KOSDMA_NO_HANDLE;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_HANDLE_REVOKE, &arg));
	arg.flags = KOSDMA_REVOKE_BADGE;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_HANDLE_REVOKE, &arg));
	EXPECT_EQ(0, probe_handle(self->w.buffer, NULL, NULL));
	must_close(badge.out_handle);
}

TEST_F(abi, copy_to_be_sent_needs_the_other_right)
{
	static const struct {
		uint32_t rights;
		int copy, transfer;
	} rows[] = {
		{ KOSDMA_RIGHT_COPY, 0, EACCES },
		{ KOSDMA_RIGHT_TRANSFER, EACCES, 0 },
		{ KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_TRANSFER, 0, 0 },
		{ KOSDMA_RIGHT_DMA_READ, EACCES, EACCES },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kosdma_handle_copy arg = {
			.size = sizeof(arg),
			.handle = self->w.buffer,
			.rights = rows[i].rights,
			.badge = KOSDMA_NO_HANDLE,
		};
		Handle source;

		test_context("rights %#x", rows[i].rights);
		ASSERT_ERRNO(0, probe_ioctl(KOSDMA_HANDLE_COPY, &arg));
		source = arg.out_handle;
		arg.handle = source;
		arg.rights = 0;
		EXPECT_ERRNO(rows[i].copy,
			     probe_ioctl(KOSDMA_HANDLE_COPY, &arg));
		if (!rows[i].copy)
			must_close(arg.out_handle);
		arg.flags = KOSDMA_COPY_TRANSFER;
		EXPECT_ERRNO(rows[i].transfer,
			     probe_ioctl(KOSDMA_HANDLE_COPY, &arg));
		if (!rows[i].transfer)
			must_close(arg.out_handle);
		must_close(source);
	}
}

TEST_F(abi, handle_info_tells_type_and_rights)
{
	struct kosdma_badge_create badge = { .size = sizeof(badge) };
	union command_argument map = { 0 };
	uint32_t type, rights;

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &badge));
	map.size = sizeof(map.buffer_map);
	commands[KOSDMA_CMD_BUFFER_MAP].fill(&self->w, &map);
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_MAP, &map));
	{
		const struct {
			Handle handle;
			uint32_t type, rights;
		} rows[] = {
			{ self->w.buffer, KOSDMA_HANDLE_BUFFER, BUFFER_RIGHTS },
			{ map.buffer_map.out_handle, KOSDMA_HANDLE_MAPPING,
			  KOSDMA_RIGHT_GET_SID },
			{ self->w.access, KOSDMA_HANDLE_ACCESS,
			  KOSDMA_RIGHT_GET_SID },
			{ self->w.domain, KOSDMA_HANDLE_DOMAIN,
			  KOSDMA_RIGHT_GET_SID },
			{ self->w.region, KOSDMA_HANDLE_REGION,
			  KOSDMA_RIGHT_TRANSFER | KOSDMA_RIGHT_COPY |
			  KOSDMA_RIGHT_GET_SID | KOSDMA_RIGHT_MMIO_READ |
			  KOSDMA_RIGHT_MMIO_WRITE },
			{ badge.out_handle, KOSDMA_HANDLE_BADGE,
			  KOSDMA_RIGHT_GET_SID },
		};

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			test_context("type %u", rows[i].type);
			EXPECT_EQ(0, probe_handle(rows[i].handle, &type,
						  &rights));
			EXPECT_EQ(rows[i].type, type);
			EXPECT_EQ(rows[i].rights, rights);
		}
	}
	commands[KOSDMA_CMD_BUFFER_MAP].undo(&self->w, &map);
	must_close(badge.out_handle);
}

TEST_F(abi, no_descriptor_left_is_EMFILE_and_nothing_is_made)
{
	struct counts before = count_all();
	struct rlimit limit, none;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	probe_ioctl(KOSDMA_INFO, NULL); /* opens the device */
	none = limit;
	none.rlim_cur = 0;
	FOR_EACH_COMMAND(c) {
		unsigned char arg[sizeof(union command_argument)];
		bool makes_handle = c->undo && c->has_results;

		if (!makes_handle)
			continue;
		test_context("%s", c->name);
		command_prepare(c, &self->w, arg, c->size);
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
		EXPECT_ERRNO(EMFILE, probe_ioctl(c->cmd, arg));
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
		EXPECT_NOTHING_LEFT(before);
	}
	test_context("%s", "");
	EXPECT_FALSE(probe_iomem(self->w.edu.bar + PAGE,
				 self->w.edu.bar + 2 * PAGE - 1, NULL));
}

/* ---- 32-bit user space on a 64-bit kernel ---- */

#ifdef __x86_64__
static long int80(long nr, long a, long b, long c)
{
	long ret;

	asm volatile("int $0x80"
		     : "=a"(ret)
		     : "a"(nr), "b"(a), "c"(b), "d"(c)
		     : "r8", "r9", "r10", "r11", "memory");
	return (int)ret;
}

TEST_F(abi, calls_of_32_bit_programs_are_the_same)
{
	enum { GETPID_32 = 20, IOCTL_32 = 54 };
	unsigned char *arg = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
				  0);
	int fd = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC), status;
	pid_t pid = fork();

	if (!pid)
		_exit(int80(GETPID_32, 0, 0, 0) != getpid());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	if (status)
		SKIP("this kernel runs no 32-bit programs");
	ASSERT_NE(MAP_FAILED, arg);
	ASSERT_GE(fd, 0);
	FOR_EACH_COMMAND(c) {
		struct counts before = count_all();

		test_context("%s", c->name);
		memset(arg, POISON, PAGE);
		command_prepare(c, &self->w, arg, c->size);
		ASSERT_EQ(0, int80(IOCTL_32, fd, c->cmd, (long)arg));
		command_undo(c, &self->w, arg);
		EXPECT_NOTHING_LEFT(before);

		for (const struct command_word *w = c->words; w->name; w++) {
			command_prepare(c, &self->w, arg, c->size);
			arg[w->offset + 3] |= 0x80;
			EXPECT_EQ(-EINVAL, int80(IOCTL_32, fd, c->cmd,
						 (long)arg));
			command_cancel(c, &self->w, arg);
		}
		EXPECT_EQ(-EFAULT, int80(IOCTL_32, fd, c->cmd, 0));
	}
	EXPECT_EQ(-ENOTTY, int80(IOCTL_32, fd, _IO(KOSDMA_TYPE, CMD_LAST + 1),
				 (long)arg));
	test_context("%s", "");
	close(fd);
	munmap(arg, PAGE);
}
#endif

TEST_HARNESS_MAIN
