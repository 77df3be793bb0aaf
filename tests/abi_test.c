// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctl ABI itself: sizes that do not fit, bits and fields that must be
 * zero, numbers that do not exist, memory that cannot be read or written, and
 * what libkos never passes. One table lists all ioctls.
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

/* ---- the table of all ioctls ---- */

enum { CMD_LAST = KOSDMA_CMD_HANDLE_CLOSE_MANY, FIELDS_MAX = 4, POISON = 0xcc };

#define BUFFER_RIGHTS                                                          \
	(KOSDMA_RIGHT_TRANSFER | KOSDMA_RIGHT_COPY | KOSDMA_RIGHT_GET_SID |    \
	 KOSDMA_RIGHT_DMA_READ | KOSDMA_RIGHT_DMA_WRITE |                      \
	 KOSDMA_RIGHT_DMA_BEGIN | KOSDMA_RIGHT_DMA_MODIFY |                    \
	 KOSDMA_RIGHT_DMA_IO)
#define CACHE_TYPES                                                            \
	(KOSDMA_ATTR_WRITE_BACK | KOSDMA_ATTR_WRITE_THROUGH |                  \
	 KOSDMA_ATTR_CACHE_DISABLE | KOSDMA_ATTR_WRITE_COMBINE)
#define BUFFER_ATTRS                                                           \
	(KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE |                     \
	 KOSDMA_ATTR_ZONE_DMA32 | CACHE_TYPES)

union argument {
	uint32_t size;
	struct kosdma_info info;
	struct kosdma_buffer_create buffer_create;
	struct kosdma_buffer_modify buffer_modify;
	struct kosdma_buffer_map buffer_map;
	struct kosdma_access_begin access_begin;
	struct kosdma_access_begin_many access_begin_many;
	struct kosdma_access_info access_info;
	struct kosdma_domain_create domain_create;
	struct kosdma_device_attach device_attach;
	struct kosdma_device_set_dma_mask device_set_dma_mask;
	struct kosdma_device_info device_info;
	struct kosdma_region_register region_register;
	struct kosdma_region_map region_map;
	struct kosdma_handle_close handle_close;
	struct kosdma_handle_close_many handle_close_many;
	struct kosdma_handle_revoke handle_revoke;
	struct kosdma_handle_copy handle_copy;
	struct kosdma_handle_info handle_info;
	struct kosdma_badge_create badge_create;
};

/* What calls are made with; the device is bound to kosdma and not attached. */
FIXTURE(abi)
{
	struct edu edu;
	Handle buffer;
	Handle access;
	Handle domain;
	Handle region;
	int closed; /* a number that is not open */
};

struct word {
	const char *name;
	unsigned int offset;
	uint32_t known; /* bits that may be set; 0: a reserved field */
};

struct command {
	const char *name;
	unsigned int cmd;
	unsigned int size;
	bool has_results;
	/* Fill in an argument (poisoned before) that makes the call succeed. */
	void (*fill)(struct fixture_data_abi *self, union argument *arg);
	/* Take back what the call did; NULL: nothing. */
	void (*undo)(struct fixture_data_abi *self, union argument *arg);
	/* Take back what fill did if the call did not succeed; NULL: nothing. */
	void (*cancel)(struct fixture_data_abi *self, union argument *arg);
	struct word words[FIELDS_MAX];
	/* Offsets of the fields that name a handle; 0 ends. */
	unsigned int handles[2];
};

static void must_close(Handle handle)
{
	struct kosdma_handle_close arg = {
		.size = sizeof(arg),
		.handle = handle,
	};

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_HANDLE_CLOSE, &arg));
}

static void must_attach(struct fixture_data_abi *self, bool attach)
{
	struct kosdma_device_attach arg = {
		.size = sizeof(arg),
		.address = self->edu.bdf,
		.domain = self->domain,
	};

	ASSERT_ERRNO(0, probe_ioctl(attach ? KOSDMA_DEVICE_ATTACH :
					     KOSDMA_DEVICE_DETACH, &arg));
}

static void fill_info(struct fixture_data_abi *self, union argument *arg)
{
	(void)self;
	(void)arg;
}

static void fill_buffer_create(struct fixture_data_abi *self,
			       union argument *arg)
{
	(void)self;
	arg->buffer_create.flags = 0;
	arg->buffer_create.length = PAGE;
	arg->buffer_create.order = 0;
	arg->buffer_create.attr = KOSDMA_ATTR_TO_DEVICE;
	arg->buffer_create.__reserved = 0;
}

static void undo_buffer_create(struct fixture_data_abi *self,
			       union argument *arg)
{
	(void)self;
	must_close(arg->buffer_create.out_handle);
}

/* A buffer of its own: the one at hand has an access. */
static void fill_buffer_modify(struct fixture_data_abi *self,
			       union argument *arg)
{
	struct kosdma_buffer_create create = {
		.size = sizeof(create),
		.length = PAGE,
	};

	(void)self;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_CREATE, &create));
	arg->buffer_modify.handle = create.out_handle;
	arg->buffer_modify.attr = 0;
	arg->buffer_modify.__reserved = 0;
}

static void undo_buffer_modify(struct fixture_data_abi *self,
			       union argument *arg)
{
	(void)self;
	must_close(arg->buffer_modify.handle);
}

static void fill_buffer_map(struct fixture_data_abi *self, union argument *arg)
{
	arg->buffer_map.handle = self->buffer;
	arg->buffer_map.flags = KOSDMA_MAP_READ;
	arg->buffer_map.__reserved = 0;
	arg->buffer_map.offset = 0;
	arg->buffer_map.length = PAGE;
	arg->buffer_map.hint = 0;
	arg->buffer_map.__reserved2 = 0;
}

static void undo_buffer_map(struct fixture_data_abi *self, union argument *arg)
{
	(void)self;
	EXPECT_EQ(0, probe_read((void *)(uintptr_t)arg->buffer_map.out_addr));
	must_close(arg->buffer_map.out_handle);
}

static void fill_access_begin(struct fixture_data_abi *self,
			      union argument *arg)
{
	arg->access_begin.handle = self->buffer;
	arg->access_begin.domain = self->domain;
}

static void undo_access_begin(struct fixture_data_abi *self,
			      union argument *arg)
{
	(void)self;
	must_close(arg->access_begin.out_handle);
}

static void fill_access_info(struct fixture_data_abi *self, union argument *arg)
{
	arg->access_info.handle = self->access;
	arg->access_info.flags = 0;
	arg->access_info.capacity = 0;
	arg->access_info.blocks = 0;
}

static void fill_domain_create(struct fixture_data_abi *self,
			       union argument *arg)
{
	(void)self;
	(void)arg;
}

static void undo_domain_create(struct fixture_data_abi *self,
			       union argument *arg)
{
	(void)self;
	must_close(arg->domain_create.out_handle);
}

static void fill_device_attach(struct fixture_data_abi *self,
			       union argument *arg)
{
	arg->device_attach.address = self->edu.bdf;
	arg->device_attach.domain = self->domain;
	arg->device_attach.__reserved = 0;
}

static void undo_device_attach(struct fixture_data_abi *self,
			       union argument *arg)
{
	(void)arg;
	must_attach(self, false);
}

static void fill_device_detach(struct fixture_data_abi *self,
			       union argument *arg)
{
	must_attach(self, true);
	fill_device_attach(self, arg);
}

static void fill_device_set_dma_mask(struct fixture_data_abi *self,
				     union argument *arg)
{
	must_attach(self, true);
	arg->device_set_dma_mask.address = self->edu.bdf;
	arg->device_set_dma_mask.mask = UINT64_MAX;
}

static void fill_device_info(struct fixture_data_abi *self, union argument *arg)
{
	arg->device_info.address = self->edu.bdf;
	arg->device_info.__reserved = 0;
}

static void fill_region_register(struct fixture_data_abi *self,
				 union argument *arg)
{
	arg->region_register.flags = 0;
	arg->region_register.addr = self->edu.bar + PAGE;
	arg->region_register.length = PAGE;
	arg->region_register.__reserved = 0;
}

static void undo_region_register(struct fixture_data_abi *self,
				 union argument *arg)
{
	(void)self;
	must_close(arg->region_register.out_handle);
}

static void fill_region_map(struct fixture_data_abi *self, union argument *arg)
{
	arg->region_map.handle = self->region;
	arg->region_map.flags = KOSDMA_MAP_READ;
	arg->region_map.attr = 0;
	arg->region_map.__reserved = 0;
}

static void undo_region_map(struct fixture_data_abi *self, union argument *arg)
{
	volatile uint32_t *id = (void *)(uintptr_t)arg->region_map.out_addr;

	(void)self;
	EXPECT_EQ(0xed, *id & 0xff);
	must_close(arg->region_map.out_handle);
}

static void fill_handle_close(struct fixture_data_abi *self,
			      union argument *arg)
{
	struct kosdma_badge_create create = { .size = sizeof(create) };

	(void)self;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &create));
	arg->handle_close.handle = create.out_handle;
}

static void cancel_handle_close(struct fixture_data_abi *self,
				union argument *arg)
{
	(void)self;
	must_close(arg->handle_close.handle);
}

/* Where the calls that take arrays find theirs; a successful call writes it. */
static struct kosdma_begin_item begin_items[2];
static int32_t close_handles[2];

static void fill_access_begin_many(struct fixture_data_abi *self,
				   union argument *arg)
{
	for (size_t i = 0; i < 2; i++)
		begin_items[i] = (struct kosdma_begin_item){
			.handle = self->buffer,
			.out_handle = -1,
		};
	arg->access_begin_many.count = 2;
	arg->access_begin_many.items = (uintptr_t)begin_items;
	arg->access_begin_many.domain = self->domain;
}

static void undo_access_begin_many(struct fixture_data_abi *self,
				   union argument *arg)
{
	(void)self;
	(void)arg;
	for (size_t i = 0; i < 2; i++)
		must_close(begin_items[i].out_handle);
}

static void fill_handle_close_many(struct fixture_data_abi *self,
				   union argument *arg)
{
	struct kosdma_badge_create create = { .size = sizeof(create) };

	(void)self;
	for (size_t i = 0; i < 2; i++) {
		ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &create));
		close_handles[i] = create.out_handle;
	}
	arg->handle_close_many.count = 2;
	arg->handle_close_many.handles = (uintptr_t)close_handles;
}

static void cancel_handle_close_many(struct fixture_data_abi *self,
				     union argument *arg)
{
	(void)self;
	(void)arg;
	for (size_t i = 0; i < 2; i++)
		must_close(close_handles[i]);
}

static void fill_handle_revoke(struct fixture_data_abi *self,
			       union argument *arg)
{
	arg->handle_revoke.handle = self->buffer;
	arg->handle_revoke.flags = 0;
	arg->handle_revoke.badge = KOSDMA_NO_HANDLE;
}

static void fill_handle_copy(struct fixture_data_abi *self, union argument *arg)
{
	arg->handle_copy.handle = self->buffer;
	arg->handle_copy.rights = KOSDMA_RIGHT_DMA_READ;
	arg->handle_copy.flags = 0;
	arg->handle_copy.badge = KOSDMA_NO_HANDLE;
}

static void undo_handle_copy(struct fixture_data_abi *self, union argument *arg)
{
	(void)self;
	must_close(arg->handle_copy.out_handle);
}

static void fill_handle_info(struct fixture_data_abi *self, union argument *arg)
{
	arg->handle_info.handle = self->buffer;
	arg->handle_info.__reserved = 0;
}

static void fill_badge_create(struct fixture_data_abi *self,
			      union argument *arg)
{
	(void)self;
	(void)arg;
}

static void undo_badge_create(struct fixture_data_abi *self,
			      union argument *arg)
{
	(void)self;
	must_close(arg->badge_create.out_handle);
}

#define COMMAND(nr, noun)                                                      \
	[KOSDMA_CMD_##nr] = {                                                  \
	.name = #nr, .cmd = KOSDMA_##nr, .size = sizeof(struct kosdma_##noun)
#define WORD(noun, field, bits)                                                \
	{ #field, offsetof(struct kosdma_##noun, field), bits }
#define HANDLE(noun, field) offsetof(struct kosdma_##noun, field)

static const struct command commands[CMD_LAST + 1] = {
	COMMAND(INFO, info), .has_results = true, .fill = fill_info },
	COMMAND(BUFFER_CREATE, buffer_create), .has_results = true,
		.fill = fill_buffer_create, .undo = undo_buffer_create,
		.words = {
			WORD(buffer_create, flags, KOSDMA_BUFFER_CONTIGUOUS),
			WORD(buffer_create, attr, BUFFER_ATTRS),
			WORD(buffer_create, __reserved, 0),
		} },
	COMMAND(BUFFER_MODIFY, buffer_modify),
		.fill = fill_buffer_modify, .undo = undo_buffer_modify,
		.cancel = undo_buffer_modify,
		.words = {
			WORD(buffer_modify, attr, BUFFER_ATTRS),
			WORD(buffer_modify, __reserved, 0),
		} },
	COMMAND(BUFFER_MAP, buffer_map), .has_results = true,
		.fill = fill_buffer_map, .undo = undo_buffer_map,
		.words = {
			WORD(buffer_map, flags,
			     KOSDMA_MAP_READ | KOSDMA_MAP_WRITE |
			     KOSDMA_MAP_LOW_GUARD | KOSDMA_MAP_HIGH_GUARD |
			     KOSDMA_MAP_IO),
			WORD(buffer_map, __reserved, 0),
			WORD(buffer_map, __reserved2, 0),
		},
		.handles = { HANDLE(buffer_map, handle) } },
	COMMAND(ACCESS_BEGIN, access_begin), .has_results = true,
		.fill = fill_access_begin, .undo = undo_access_begin,
		.handles = { HANDLE(access_begin, handle),
			     HANDLE(access_begin, domain) } },
	COMMAND(ACCESS_INFO, access_info), .has_results = true,
		.fill = fill_access_info,
		.words = {
			WORD(access_info, flags, KOSDMA_ACCESS_INFO_PHYSICAL),
		},
		.handles = { HANDLE(access_info, handle) } },
	COMMAND(DOMAIN_CREATE, domain_create), .has_results = true,
		.fill = fill_domain_create, .undo = undo_domain_create },
	COMMAND(DEVICE_ATTACH, device_attach),
		.fill = fill_device_attach, .undo = undo_device_attach,
		.words = { WORD(device_attach, __reserved, 0) },
		.handles = { HANDLE(device_attach, domain) } },
	COMMAND(DEVICE_DETACH, device_attach),
		.fill = fill_device_detach, .cancel = undo_device_attach,
		.words = { WORD(device_attach, __reserved, 0) } },
	COMMAND(DEVICE_SET_DMA_MASK, device_set_dma_mask),
		.fill = fill_device_set_dma_mask, .undo = undo_device_attach,
		.cancel = undo_device_attach },
	COMMAND(REGION_REGISTER, region_register), .has_results = true,
		.fill = fill_region_register, .undo = undo_region_register,
		.words = {
			WORD(region_register, flags, KOSDMA_REGION_K_SHARED |
						     KOSDMA_REGION_U_SHARED),
			WORD(region_register, __reserved, 0),
		} },
	COMMAND(REGION_MAP, region_map), .has_results = true,
		.fill = fill_region_map, .undo = undo_region_map,
		.words = {
			WORD(region_map, flags,
			     KOSDMA_MAP_READ | KOSDMA_MAP_WRITE),
			WORD(region_map, attr, CACHE_TYPES),
			WORD(region_map, __reserved, 0),
		},
		.handles = { HANDLE(region_map, handle) } },
	COMMAND(HANDLE_CLOSE, handle_close),
		.fill = fill_handle_close, .cancel = cancel_handle_close },
	COMMAND(HANDLE_REVOKE, handle_revoke),
		.fill = fill_handle_revoke,
		.words = {
			WORD(handle_revoke, flags,
			     KOSDMA_REVOKE_CLOSE | KOSDMA_REVOKE_BADGE),
		},
		.handles = { HANDLE(handle_revoke, handle) } },
	COMMAND(HANDLE_COPY, handle_copy), .has_results = true,
		.fill = fill_handle_copy, .undo = undo_handle_copy,
		.words = {
			WORD(handle_copy, rights, BUFFER_RIGHTS),
			WORD(handle_copy, flags, KOSDMA_COPY_TRANSFER),
		},
		.handles = { HANDLE(handle_copy, handle),
			     HANDLE(handle_copy, badge) } },
	COMMAND(HANDLE_INFO, handle_info), .has_results = true,
		.fill = fill_handle_info,
		.words = { WORD(handle_info, __reserved, 0) },
		.handles = { HANDLE(handle_info, handle) } },
	COMMAND(BADGE_CREATE, badge_create), .has_results = true,
		.fill = fill_badge_create, .undo = undo_badge_create },
	COMMAND(DEVICE_INFO, device_info), .has_results = true,
		.fill = fill_device_info,
		.words = { WORD(device_info, __reserved, 0) } },
	COMMAND(ACCESS_BEGIN_MANY, access_begin_many), .has_results = true,
		.fill = fill_access_begin_many, .undo = undo_access_begin_many,
		.handles = { HANDLE(access_begin_many, domain) } },
	COMMAND(HANDLE_CLOSE_MANY, handle_close_many),
		.fill = fill_handle_close_many,
		.cancel = cancel_handle_close_many },
};

#define FOR_EACH_COMMAND(c)                                                    \
	for (const struct command *c = commands; c <= &commands[CMD_LAST]; c++)

FIXTURE_SETUP(abi)
{
	struct kosdma_buffer_create buffer = {
		.size = sizeof(buffer),
		.length = 3 * PAGE, /* two blocks: four pages are not given */
	};
	struct kosdma_domain_create domain = { .size = sizeof(domain) };
	struct kosdma_access_begin begin = { .size = sizeof(begin) };
	struct kosdma_region_register region = {
		.size = sizeof(region),
		.length = PAGE,
	};

	probe_require_module();
	edu_require(&self->edu, 0);
	/* The first use binds the device, which the ioctls leave to libkos. */
	ASSERT_OK(KnIommuAttachDevice(self->edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(self->edu.bdf));
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_CREATE, &buffer));
	self->buffer = buffer.out_handle;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_DOMAIN_CREATE, &domain));
	self->domain = domain.out_handle;
	begin.handle = self->buffer;
	begin.domain = self->domain;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_BEGIN, &begin));
	self->access = begin.out_handle;
	region.addr = self->edu.bar;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_REGION_REGISTER, &region));
	self->region = region.out_handle;
	self->closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->closed, 0);
	ASSERT_EQ(0, close(self->closed));
}

FIXTURE_TEARDOWN(abi)
{
	must_close(self->region);
	must_close(self->access);
	must_close(self->domain);
	must_close(self->buffer);
}

/* @arg gets a valid argument of @size bytes, behind it is poison. */
static void prepare(const struct command *c, struct fixture_data_abi *self,
		    void *arg, unsigned int size)
{
	union argument valid;

	memset(&valid, POISON, sizeof(valid));
	valid.size = size;
	c->fill(self, &valid);
	memcpy(arg, &valid, c->size);
}

static void cancel(const struct command *c, struct fixture_data_abi *self,
		   void *arg)
{
	union argument valid;

	memcpy(&valid, arg, c->size);
	if (c->cancel)
		c->cancel(self, &valid);
}

static void undo(const struct command *c, struct fixture_data_abi *self,
		 void *arg)
{
	union argument result;

	memcpy(&result, arg, c->size);
	if (c->undo)
		c->undo(self, &result);
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
	cancel(c, self, arg);
}

/* ---- sizes ---- */

TEST_F(abi, every_call_succeeds_with_its_exact_size)
{
	unsigned char arg[sizeof(union argument) + 64], poison[64];

	memset(poison, POISON, sizeof(poison));
	FOR_EACH_COMMAND(c) {
		struct counts before = count_all();

		test_context("%s", c->name);
		ASSERT_EQ(c->cmd, _IO(KOSDMA_TYPE, c - commands));
		memset(arg, POISON, sizeof(arg));
		prepare(c, self, arg, c->size);
		ASSERT_ERRNO(0, probe_ioctl(c->cmd, arg));
		/* Nothing is written behind the struct. */
		EXPECT_EQ(0, memcmp(arg + c->size, poison, sizeof(poison)));
		undo(c, self, arg);
		EXPECT_NOTHING_LEFT(before);
	}
}

TEST_F(abi, inputs_are_left_as_they_were)
{
	union argument arg, was;

	memset(&arg, POISON, sizeof(arg));
	arg.size = sizeof(arg.buffer_map);
	fill_buffer_map(self, &arg);
	was = arg;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_MAP, &arg));
	EXPECT_NE(was.buffer_map.out_addr, arg.buffer_map.out_addr);
	EXPECT_GE(arg.buffer_map.out_handle, 0);
	was.buffer_map.out_addr = arg.buffer_map.out_addr;
	was.buffer_map.out_handle = arg.buffer_map.out_handle;
	EXPECT_EQ(0, memcmp(&was, &arg, sizeof(arg)));
	undo_buffer_map(self, &arg);
}

TEST_F(abi, a_struct_that_is_too_short_is_EINVAL)
{
	unsigned char arg[sizeof(union argument)];

	FOR_EACH_COMMAND(c)
		for (unsigned int size = 0; size < c->size; size++) {
			test_context("%s with %u bytes", c->name, size);
			prepare(c, self, arg, size);
			expect_refused(c, self, EINVAL, arg, c->size);
		}
}

TEST_F(abi, a_longer_struct_is_accepted_if_the_rest_is_zero)
{
	static const unsigned int more[] = { 1, 4, 8, 100, 1024 };
	unsigned char arg[sizeof(union argument) + 1024];

	FOR_EACH_COMMAND(c)
		for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
			test_context("%s with %u bytes more", c->name, more[i]);
			memset(arg, 0, sizeof(arg));
			prepare(c, self, arg, c->size + more[i]);
			ASSERT_ERRNO(0, probe_ioctl(c->cmd, arg));
			for (unsigned int j = 0; j < more[i]; j++)
				ASSERT_EQ(0, arg[c->size + j]);
			undo(c, self, arg);
		}
}

TEST_F(abi, a_longer_struct_is_E2BIG_if_any_byte_of_the_rest_is_not_zero)
{
	enum { MORE = 40 };
	unsigned char arg[sizeof(union argument) + MORE];

	FOR_EACH_COMMAND(c)
		for (unsigned int at = 0; at < MORE; at++) {
			test_context("%s, byte %u behind it", c->name, at);
			memset(arg, 0, sizeof(arg));
			prepare(c, self, arg, c->size + MORE);
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
			prepare(c, self, arg, sizes[i]);
			expect_refused(c, self, E2BIG, arg, c->size);
		}
}

/* ---- bits and fields that must be 0 ---- */

TEST_F(abi, every_unknown_bit_and_reserved_field_is_EINVAL)
{
	unsigned char arg[sizeof(union argument)];
	int tried = 0;

	FOR_EACH_COMMAND(c)
		for (const struct word *w = c->words; w->name; w++)
			for (int bit = 0; bit < 32; bit++) {
				uint32_t value;

				if (w->known & 1u << bit)
					continue;
				test_context("%s, %s bit %d", c->name, w->name,
					     bit);
				prepare(c, self, arg, c->size);
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
	union argument arg;

	FOR_EACH_COMMAND(c) {
		test_context("%s", c->name);
		memset(&arg, POISON, sizeof(arg));
		arg.size = c->size;
		EXPECT_ERRNO(ENOTTY, ioctl(self->buffer, c->cmd, &arg));
		EXPECT_ERRNO(ENOTTY, ioctl(self->domain, c->cmd, &arg));
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
		prepare(c, self, page, c->size);
		ASSERT_EQ(0, mprotect(page, PAGE, PROT_READ));
		expect_refused(c, self, EFAULT, page, c->size);
	}
	ASSERT_EQ(0, munmap(page, PAGE));
	test_context("%s", "");
	/* The claim of the failed registration is gone as well. */
	EXPECT_FALSE(probe_iomem(self->edu.bar + PAGE,
				 self->edu.bar + 2 * PAGE - 1, NULL));
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
		prepare(c, self, page, c->size);
		ASSERT_EQ(0, mprotect(page, PAGE, PROT_READ));
		EXPECT_ERRNO(0, probe_ioctl(c->cmd, page));
		undo(c, self, page);
	}
	ASSERT_EQ(0, munmap(page, PAGE));
}

TEST_F(abi, a_struct_may_lie_at_any_address)
{
	unsigned char arg[sizeof(union argument) + 8];

	FOR_EACH_COMMAND(c)
		for (int shift = 1; shift < 8; shift++) {
			test_context("%s, %d bytes off", c->name, shift);
			prepare(c, self, arg + shift, c->size);
			ASSERT_ERRNO(0, probe_ioctl(c->cmd, arg + shift));
			undo(c, self, arg + shift);
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
	const Handle handles[] = { self->buffer, self->access, self->domain,
				   self->region };
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
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->buffer, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->access, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->domain, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->region, F_GETFD));
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
	unsigned char arg[sizeof(union argument)];

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
				prepare(c, self, arg, c->size);
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
	EXPECT_EQ(edu_translated(&self->edu),
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
			 (edu_translated(&self->edu) ?
				  KOSDMA_DEVICE_TRANSLATED : 0);
	struct kosdma_device_info arg = {
		.size = sizeof(arg),
		.address = 0xfff8,
		.out_state = 77,
	};

	/* By the region. */
	EXPECT_EQ(bound | KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_MINE,
		  device_state(self->edu.bdf));
	must_attach(self, true);
	EXPECT_EQ(bound | KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_MINE |
		  KOSDMA_DEVICE_ATTACHED, device_state(self->edu.bdf));
	IN_CHILD {
		EXPECT_EQ(bound | KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_ATTACHED,
			  device_state(self->edu.bdf));
	}
	must_attach(self, false);
	must_close(self->region);
	EXPECT_EQ(bound, device_state(self->edu.bdf));
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &self->region));

	EXPECT_ERRNO(ENODEV, probe_ioctl(KOSDMA_DEVICE_INFO, &arg));
	EXPECT_EQ(77, arg.out_state);
	arg.address = 1u << 16 | self->edu.bdf;
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
		.handle = self->access,
		.flags = 0,
	};
	uint64_t blocks[4];

	arg.blocks = (uintptr_t)blocks;
	must_attach(self, true);

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	EXPECT_EQ(3 * PAGE, arg.out_length);
	EXPECT_EQ(2, arg.out_count);
	EXPECT_EQ(0, arg.out_order_min);
	EXPECT_EQ(KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE |
		  KOSDMA_ATTR_WRITE_BACK, arg.out_attr);
	EXPECT_EQ(edu_translated(&self->edu),
		  !!(arg.out_state & KOSDMA_ACCESS_TRANSLATED));
	if (edu_translated(&self->edu))
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
	must_attach(self, false);
}

TEST_F(abi, physical_blocks_are_for_the_privileged_and_of_buffers)
{
	struct kosdma_access_info arg = {
		.size = sizeof(arg),
		.handle = self->buffer,
		.flags = KOSDMA_ACCESS_INFO_PHYSICAL,
		.capacity = 4,
	};
	uint64_t blocks[4] = { 0 };

	arg.blocks = (uintptr_t)blocks;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	EXPECT_EQ(2, arg.out_count);
	EXPECT_NE(0, blocks[0] >> 12);
	EXPECT_EQ(0, arg.out_state & KOSDMA_ACCESS_TRANSLATED);
	arg.handle = self->access;
	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_ACCESS_INFO, &arg));
	arg.handle = self->buffer;
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
		.handle = self->buffer,
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
	EXPECT_EQ(0, probe_handle(self->buffer, NULL, NULL));
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
			.handle = self->buffer,
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
	union argument map = { 0 };
	uint32_t type, rights;

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &badge));
	map.size = sizeof(map.buffer_map);
	fill_buffer_map(self, &map);
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_MAP, &map));
	{
		const struct {
			Handle handle;
			uint32_t type, rights;
		} rows[] = {
			{ self->buffer, KOSDMA_HANDLE_BUFFER, BUFFER_RIGHTS },
			{ map.buffer_map.out_handle, KOSDMA_HANDLE_MAPPING,
			  KOSDMA_RIGHT_GET_SID },
			{ self->access, KOSDMA_HANDLE_ACCESS,
			  KOSDMA_RIGHT_GET_SID },
			{ self->domain, KOSDMA_HANDLE_DOMAIN,
			  KOSDMA_RIGHT_GET_SID },
			{ self->region, KOSDMA_HANDLE_REGION,
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
	undo_buffer_map(self, &map);
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
		unsigned char arg[sizeof(union argument)];
		bool makes_handle = c->undo && c->has_results;

		if (!makes_handle)
			continue;
		test_context("%s", c->name);
		prepare(c, self, arg, c->size);
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
		EXPECT_ERRNO(EMFILE, probe_ioctl(c->cmd, arg));
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
		EXPECT_NOTHING_LEFT(before);
	}
	test_context("%s", "");
	EXPECT_FALSE(probe_iomem(self->edu.bar + PAGE,
				 self->edu.bar + 2 * PAGE - 1, NULL));
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
		prepare(c, self, arg, c->size);
		ASSERT_EQ(0, int80(IOCTL_32, fd, c->cmd, (long)arg));
		undo(c, self, arg);
		EXPECT_NOTHING_LEFT(before);

		for (const struct word *w = c->words; w->name; w++) {
			prepare(c, self, arg, c->size);
			arg[w->offset + 3] |= 0x80;
			EXPECT_EQ(-EINVAL, int80(IOCTL_32, fd, c->cmd,
						 (long)arg));
			cancel(c, self, arg);
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
