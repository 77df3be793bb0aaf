/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All ioctls, each with an argument that makes it succeed, what it may not be
 * given, and how to take back what it did.
 */
#ifndef TESTS_LIB_COMMAND_H
#define TESTS_LIB_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kosdma.h>

#include <coresrv/handle/handle_api.h>

#include "edu.h"

enum { CMD_LAST = KOSDMA_CMD_HANDLE_CLOSE_MANY, COMMAND_WORDS_MAX = 4, POISON = 0xcc };

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

union command_argument {
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
struct command_world {
	struct edu edu;
	Handle buffer;
	Handle access;
	Handle domain;
	Handle region;
};

struct command_word {
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
	void (*fill)(struct command_world *w, union command_argument *arg);
	/* Take back what the call did; NULL: nothing. */
	void (*undo)(struct command_world *w, union command_argument *arg);
	/* Take back what fill did if the call did not succeed; NULL: nothing. */
	void (*cancel)(struct command_world *w, union command_argument *arg);
	struct command_word words[COMMAND_WORDS_MAX];
	/* Offsets of the fields that name a handle; 0 ends. */
	unsigned int handles[2];
};

extern const struct command commands[CMD_LAST + 1]; /* by number */

#define FOR_EACH_COMMAND(c)                                                    \
	for (const struct command *c = commands; c <= &commands[CMD_LAST]; c++)

/* Skip the test unless there are the module and the device. */
void command_world_open(struct command_world *w);
void command_world_close(struct command_world *w);

void must_close(Handle handle);
void must_attach(struct command_world *w, bool attach);

/* @arg gets a valid argument of @size bytes, behind it is what was there. */
void command_prepare(const struct command *c, struct command_world *w, void *arg,
		     unsigned int size);
/* After a call that failed, and one that did not. */
void command_cancel(const struct command *c, struct command_world *w, void *arg);
void command_undo(const struct command *c, struct command_world *w, void *arg);

#endif /* TESTS_LIB_COMMAND_H */
