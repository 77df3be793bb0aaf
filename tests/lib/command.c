// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>

#include <coresrv/iommu/iommu_api.h>

#include "../harness.h"
#include "command.h"
#include "probe.h"

void must_close(Handle handle)
{
	struct kosdma_handle_close arg = {
		.size = sizeof(arg),
		.handle = handle,
	};

	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_HANDLE_CLOSE, &arg));
}

void must_attach(struct command_world *w, bool attach)
{
	struct kosdma_device_attach arg = {
		.size = sizeof(arg),
		.address = w->edu.bdf,
		.domain = w->domain,
	};

	ASSERT_ERRNO(0, probe_ioctl(attach ? KOSDMA_DEVICE_ATTACH :
					     KOSDMA_DEVICE_DETACH, &arg));
}

static void fill_info(struct command_world *w, union command_argument *arg)
{
	(void)w;
	(void)arg;
}

static void fill_buffer_create(struct command_world *w,
			       union command_argument *arg)
{
	(void)w;
	arg->buffer_create.flags = 0;
	arg->buffer_create.length = PAGE;
	arg->buffer_create.order = 0;
	arg->buffer_create.attr = KOSDMA_ATTR_TO_DEVICE;
	arg->buffer_create.__reserved = 0;
}

static void undo_buffer_create(struct command_world *w,
			       union command_argument *arg)
{
	(void)w;
	must_close(arg->buffer_create.out_handle);
}

/* A buffer of its own: the one at hand has an access. */
static void fill_buffer_modify(struct command_world *w,
			       union command_argument *arg)
{
	struct kosdma_buffer_create create = {
		.size = sizeof(create),
		.length = PAGE,
	};

	(void)w;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_CREATE, &create));
	arg->buffer_modify.handle = create.out_handle;
	arg->buffer_modify.attr = 0;
	arg->buffer_modify.__reserved = 0;
}

static void undo_buffer_modify(struct command_world *w,
			       union command_argument *arg)
{
	(void)w;
	must_close(arg->buffer_modify.handle);
}

static void fill_buffer_map(struct command_world *w, union command_argument *arg)
{
	arg->buffer_map.handle = w->buffer;
	arg->buffer_map.flags = KOSDMA_MAP_READ;
	arg->buffer_map.__reserved = 0;
	arg->buffer_map.offset = 0;
	arg->buffer_map.length = PAGE;
	arg->buffer_map.hint = 0;
	arg->buffer_map.__reserved2 = 0;
}

static void undo_buffer_map(struct command_world *w, union command_argument *arg)
{
	(void)w;
	EXPECT_EQ(0, probe_read((void *)(uintptr_t)arg->buffer_map.out_addr));
	must_close(arg->buffer_map.out_handle);
}

static void fill_access_begin(struct command_world *w,
			      union command_argument *arg)
{
	arg->access_begin.handle = w->buffer;
	arg->access_begin.domain = w->domain;
}

static void undo_access_begin(struct command_world *w,
			      union command_argument *arg)
{
	(void)w;
	must_close(arg->access_begin.out_handle);
}

static void fill_access_info(struct command_world *w, union command_argument *arg)
{
	arg->access_info.handle = w->access;
	arg->access_info.flags = 0;
	arg->access_info.capacity = 0;
	arg->access_info.blocks = 0;
}

static void fill_domain_create(struct command_world *w,
			       union command_argument *arg)
{
	(void)w;
	(void)arg;
}

static void undo_domain_create(struct command_world *w,
			       union command_argument *arg)
{
	(void)w;
	must_close(arg->domain_create.out_handle);
}

static void fill_device_attach(struct command_world *w,
			       union command_argument *arg)
{
	arg->device_attach.address = w->edu.bdf;
	arg->device_attach.domain = w->domain;
	arg->device_attach.__reserved = 0;
}

static void undo_device_attach(struct command_world *w,
			       union command_argument *arg)
{
	(void)arg;
	must_attach(w, false);
}

static void fill_device_detach(struct command_world *w,
			       union command_argument *arg)
{
	must_attach(w, true);
	fill_device_attach(w, arg);
}

static void fill_device_set_dma_mask(struct command_world *w,
				     union command_argument *arg)
{
	must_attach(w, true);
	arg->device_set_dma_mask.address = w->edu.bdf;
	arg->device_set_dma_mask.mask = UINT64_MAX;
}

static void fill_device_info(struct command_world *w, union command_argument *arg)
{
	arg->device_info.address = w->edu.bdf;
	arg->device_info.__reserved = 0;
}

static void fill_region_register(struct command_world *w,
				 union command_argument *arg)
{
	arg->region_register.flags = 0;
	arg->region_register.addr = w->edu.bar + PAGE;
	arg->region_register.length = PAGE;
	arg->region_register.__reserved = 0;
}

static void undo_region_register(struct command_world *w,
				 union command_argument *arg)
{
	(void)w;
	must_close(arg->region_register.out_handle);
}

static void fill_region_map(struct command_world *w, union command_argument *arg)
{
	arg->region_map.handle = w->region;
	arg->region_map.flags = KOSDMA_MAP_READ;
	arg->region_map.attr = 0;
	arg->region_map.__reserved = 0;
}

static void undo_region_map(struct command_world *w, union command_argument *arg)
{
	volatile uint32_t *id = (void *)(uintptr_t)arg->region_map.out_addr;

	(void)w;
	EXPECT_EQ(0xed, *id & 0xff);
	must_close(arg->region_map.out_handle);
}

static void fill_handle_close(struct command_world *w,
			      union command_argument *arg)
{
	struct kosdma_badge_create create = { .size = sizeof(create) };

	(void)w;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &create));
	arg->handle_close.handle = create.out_handle;
}

static void cancel_handle_close(struct command_world *w,
				union command_argument *arg)
{
	(void)w;
	must_close(arg->handle_close.handle);
}

/* Where the calls that take arrays find theirs; a successful call writes it. */
static struct kosdma_begin_item begin_items[2];
static int32_t close_handles[2];

static void fill_access_begin_many(struct command_world *w,
				   union command_argument *arg)
{
	for (size_t i = 0; i < 2; i++)
		begin_items[i] = (struct kosdma_begin_item){
			.handle = w->buffer,
			.out_handle = -1,
		};
	arg->access_begin_many.count = 2;
	arg->access_begin_many.items = (uintptr_t)begin_items;
	arg->access_begin_many.domain = w->domain;
}

static void undo_access_begin_many(struct command_world *w,
				   union command_argument *arg)
{
	(void)w;
	(void)arg;
	for (size_t i = 0; i < 2; i++)
		must_close(begin_items[i].out_handle);
}

static void fill_handle_close_many(struct command_world *w,
				   union command_argument *arg)
{
	struct kosdma_badge_create create = { .size = sizeof(create) };

	(void)w;
	for (size_t i = 0; i < 2; i++) {
		ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BADGE_CREATE, &create));
		close_handles[i] = create.out_handle;
	}
	arg->handle_close_many.count = 2;
	arg->handle_close_many.handles = (uintptr_t)close_handles;
}

static void cancel_handle_close_many(struct command_world *w,
				     union command_argument *arg)
{
	(void)w;
	(void)arg;
	for (size_t i = 0; i < 2; i++)
		must_close(close_handles[i]);
}

static void fill_handle_revoke(struct command_world *w,
			       union command_argument *arg)
{
	arg->handle_revoke.handle = w->buffer;
	arg->handle_revoke.flags = 0;
	arg->handle_revoke.badge = KOSDMA_NO_HANDLE;
}

static void fill_handle_copy(struct command_world *w, union command_argument *arg)
{
	arg->handle_copy.handle = w->buffer;
	arg->handle_copy.rights = KOSDMA_RIGHT_DMA_READ;
	arg->handle_copy.flags = 0;
	arg->handle_copy.badge = KOSDMA_NO_HANDLE;
}

static void undo_handle_copy(struct command_world *w, union command_argument *arg)
{
	(void)w;
	must_close(arg->handle_copy.out_handle);
}

static void fill_handle_info(struct command_world *w, union command_argument *arg)
{
	arg->handle_info.handle = w->buffer;
	arg->handle_info.__reserved = 0;
}

static void fill_badge_create(struct command_world *w,
			      union command_argument *arg)
{
	(void)w;
	(void)arg;
}

static void undo_badge_create(struct command_world *w,
			      union command_argument *arg)
{
	(void)w;
	must_close(arg->badge_create.out_handle);
}

#define COMMAND(nr, noun)                                                      \
	[KOSDMA_CMD_##nr] = {                                                  \
	.name = #nr, .cmd = KOSDMA_##nr, .size = sizeof(struct kosdma_##noun)
#define WORD(noun, field, bits)                                                \
	{ #field, offsetof(struct kosdma_##noun, field), bits }
#define HANDLE(noun, field) offsetof(struct kosdma_##noun, field)

const struct command commands[CMD_LAST + 1] = {
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

void command_world_open(struct command_world *w)
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
	edu_require(&w->edu, 0);
	/* The first use binds the device, which the ioctls leave to libkos. */
	ASSERT_OK(KnIommuAttachDevice(w->edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(w->edu.bdf));
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_BUFFER_CREATE, &buffer));
	w->buffer = buffer.out_handle;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_DOMAIN_CREATE, &domain));
	w->domain = domain.out_handle;
	begin.handle = w->buffer;
	begin.domain = w->domain;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_ACCESS_BEGIN, &begin));
	w->access = begin.out_handle;
	region.addr = w->edu.bar;
	ASSERT_ERRNO(0, probe_ioctl(KOSDMA_REGION_REGISTER, &region));
	w->region = region.out_handle;
}

void command_world_close(struct command_world *w)
{
	must_close(w->region);
	must_close(w->access);
	must_close(w->domain);
	must_close(w->buffer);
}


void command_prepare(const struct command *c, struct command_world *w, void *arg,
		     unsigned int size)
{
	union command_argument valid;

	memset(&valid, POISON, sizeof(valid));
	valid.size = size;
	c->fill(w, &valid);
	memcpy(arg, &valid, c->size);
}

void command_cancel(const struct command *c, struct command_world *w, void *arg)
{
	union command_argument valid;

	memcpy(&valid, arg, c->size);
	if (c->cancel)
		c->cancel(w, &valid);
}

void command_undo(const struct command *c, struct command_world *w, void *arg)
{
	union command_argument result;

	memcpy(&result, arg, c->size);
	if (c->undo)
		c->undo(w, &result);
}
