// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handles: closing, copying, sending, identity, revocation, and which copy of a
 * descriptor works where.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define POISON_PTR ((void *)0xcccccccccccccccc)
#define POISON_HANDLE ((Handle)0xcccc)
#define NONE INVALID_HANDLE

#define OCAP_DMA_DEVICE (OCAP_DMA_BEGIN | OCAP_DMA_READ | OCAP_DMA_WRITE)

/* ---- one handle of each kind ---- */

enum kind {
	BUFFER,
	MAPPING,
	ACCESS,
	DOMAIN,
	REGION,
	REGION_MAPPING,
	BADGE,
	NR_KINDS,
};

#define BIT(kind) (1u << (kind))
#define ALL_KINDS (BIT(NR_KINDS) - 1)
#define TRANSFERABLE (BIT(BUFFER) | BIT(REGION))

static const char *const kind_names[NR_KINDS] = {
	"buffer", "mapping", "access", "domain", "region", "region's mapping",
	"badge",
};

FIXTURE(kinds)
{
	struct edu edu;
	Handle h[NR_KINDS];
	volatile uint8_t *mem;
	volatile uint32_t *regs;
	int sock[2];
};

FIXTURE_SETUP(kinds)
{
	void *addr;

	probe_require_module();
	edu_require(&self->edu, 0);
	self->h[BUFFER] = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	self->mem = buffer_map(self->h[BUFFER], PAGE, &self->h[MAPPING]);
	self->h[DOMAIN] = domain_create();
	self->h[ACCESS] = access_begin_in(self->h[BUFFER], self->h[DOMAIN]);
	ASSERT_OK(KnRegisterPhyMem(self->edu.bar, PAGE, 0, &self->h[REGION]));
	ASSERT_OK(KnIoMapMem(self->h[REGION], VMM_FLAG_READ, 0, &addr,
			     &self->h[REGION_MAPPING]));
	self->regs = addr;
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &self->h[BADGE]));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				self->sock));
}

/* What a test ended is ended. */
FIXTURE_TEARDOWN(kinds)
{
	static const enum kind order[] = { REGION_MAPPING, REGION,  MAPPING,
					   ACCESS,	   DOMAIN, BUFFER,
					   BADGE };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (probe_is_open(self->h[order[i]]))
			EXPECT_OK(KnHandleClose(self->h[order[i]]));
}

/* Every call that takes a handle; NR_KINDS in all stands for "any type". */

static Retcode call_map(struct fixture_data_kinds *self, Handle h)
{
	void *addr = POISON_PTR;
	Handle out = POISON_HANDLE;
	Retcode rc = KnIoDmaMap(h, 0, PAGE, NULL, VMM_FLAG_READ, &addr, &out);

	(void)self;
	if (rc != rcOk) {
		EXPECT_NULL(addr);
		EXPECT_EQ(NONE, out);
	}
	return rc;
}

static Retcode call_modify(struct fixture_data_kinds *self, Handle h)
{
	(void)self;
	return KnIoDmaModify(h, DMA_ATTR_WRITE_BACK);
}

/* A call with one handle as its result. */
#define EXPECT_NO_RESULT(rc, out)                                              \
	do {                                                                   \
		if ((rc) != rcOk)                                              \
			EXPECT_EQ(NONE, out);                                  \
	} while (0)

static Retcode call_begin(struct fixture_data_kinds *self, Handle h)
{
	Handle out = POISON_HANDLE;
	Retcode rc = KnIoDmaBegin(h, &out);

	(void)self;
	EXPECT_NO_RESULT(rc, out);
	return rc;
}

static Retcode call_begin_ex(struct fixture_data_kinds *self, Handle h)
{
	Handle out = POISON_HANDLE;
	Retcode rc = KnIoDmaBeginEx(h, self->h[DOMAIN], &out);

	EXPECT_NO_RESULT(rc, out);
	return rc;
}

static Retcode call_begin_ex_domain(struct fixture_data_kinds *self, Handle h)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	Handle out = POISON_HANDLE;
	Retcode rc = KnIoDmaBeginEx(buffer, h, &out);

	(void)self;
	EXPECT_NO_RESULT(rc, out);
	EXPECT_OK(KnHandleClose(buffer));
	return rc;
}

static Retcode call_get_info(struct fixture_data_kinds *self, Handle h)
{
	DmaInfo *info = POISON_PTR;
	Retcode rc = KnIoDmaGetInfo(h, &info);

	(void)self;
	if (rc == rcOk)
		KosMemFree(info);
	else
		EXPECT_NULL(info);
	return rc;
}

static Retcode call_get_phys_info(struct fixture_data_kinds *self, Handle h)
{
	DmaInfo *info = POISON_PTR;
	Retcode rc = KnIoDmaGetPhysInfo(h, &info);

	(void)self;
	if (rc == rcOk)
		KosMemFree(info);
	else
		EXPECT_NULL(info);
	return rc;
}

static Retcode call_get_addr(struct fixture_data_kinds *self, Handle h)
{
	DmaAddr addr = 0xcccc;
	Retcode rc = KnIoDmaContinuousGetDmaAddr(h, &addr);

	(void)self;
	if (rc != rcOk)
		EXPECT_EQ(0, addr);
	return rc;
}

static Retcode call_attach(struct fixture_data_kinds *self, Handle h)
{
	return KnIommuAttachDeviceToDomain(self->edu.bdf, h);
}

static Retcode call_detach(struct fixture_data_kinds *self, Handle h)
{
	return KnIommuDetachDeviceFromDomain(self->edu.bdf, h);
}

static Retcode call_map_mem(struct fixture_data_kinds *self, Handle h)
{
	void *addr = POISON_PTR;
	Handle out = POISON_HANDLE;
	Retcode rc = KnIoMapMem(h, VMM_FLAG_READ, 0, &addr, &out);

	(void)self;
	if (rc != rcOk) {
		EXPECT_NULL(addr);
		EXPECT_EQ(NONE, out);
	}
	return rc;
}

static Retcode call_copy(struct fixture_data_kinds *self, Handle h)
{
	Handle out = POISON_HANDLE;
	Retcode rc = KnHandleCopy(h, 0, NONE, &out);

	(void)self;
	EXPECT_NO_RESULT(rc, out);
	return rc;
}

static Retcode call_copy_badge(struct fixture_data_kinds *self, Handle h)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	Handle out = POISON_HANDLE;
	Retcode rc = KnHandleCopy(buffer, 0, h, &out);

	(void)self;
	EXPECT_NO_RESULT(rc, out);
	EXPECT_OK(KnHandleClose(buffer));
	return rc;
}

static Retcode call_send(struct fixture_data_kinds *self, Handle h)
{
	Retcode rc = KosHandleSend(self->sock[0], h, 0);
	char byte;

	if (rc != rcOk)
		EXPECT_ERRNO(EAGAIN, recv(self->sock[1], &byte, 1,
					  MSG_DONTWAIT));
	return rc;
}

static Retcode call_get_sid(struct fixture_data_kinds *self, Handle h)
{
	rtl_uint32_t sid = 0xcccc;
	Retcode rc = KnHandleGetSidByHandle(h, &sid);

	(void)self;
	if (rc != rcOk)
		EXPECT_EQ(0, sid);
	return rc;
}

static Retcode call_revoke(struct fixture_data_kinds *self, Handle h)
{
	bool was_open = probe_is_open(h);
	Retcode rc = KnHandleRevoke(h);

	(void)self;
	if (rc != rcOk)
		EXPECT_EQ(was_open, probe_is_open(h));
	return rc;
}

static Retcode call_revoke_ex(struct fixture_data_kinds *self, Handle h)
{
	(void)self;
	return KnHandleRevokeEx(h, rtl_false);
}

static Retcode call_revoke_subtree(struct fixture_data_kinds *self, Handle h)
{
	Handle badge;
	Retcode rc;

	(void)self;
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
	rc = KnHandleRevokeSubtree(h, badge);
	EXPECT_OK(KnHandleClose(badge));
	return rc;
}

static Retcode call_revoke_badge(struct fixture_data_kinds *self, Handle h)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	Retcode rc = KnHandleRevokeSubtree(buffer, h);

	(void)self;
	EXPECT_OK(KnHandleClose(buffer));
	return rc;
}

static const struct {
	const char *name;
	Retcode (*call)(struct fixture_data_kinds *self, Handle h);
	unsigned int accepts; /* kinds that are not of the wrong type */
} calls[] = {
	{ "KnIoDmaMap", call_map, BIT(BUFFER) },
	{ "KnIoDmaModify", call_modify, BIT(BUFFER) },
	{ "KnIoDmaBegin", call_begin, BIT(BUFFER) },
	{ "KnIoDmaBeginEx", call_begin_ex, BIT(BUFFER) },
	{ "KnIoDmaBeginEx (domain)", call_begin_ex_domain, BIT(DOMAIN) },
	{ "KnIoDmaGetInfo", call_get_info, BIT(BUFFER) | BIT(ACCESS) },
	{ "KnIoDmaGetPhysInfo", call_get_phys_info, BIT(BUFFER) },
	{ "KnIoDmaContinuousGetDmaAddr", call_get_addr,
	  BIT(BUFFER) | BIT(ACCESS) },
	{ "KnIommuAttachDeviceToDomain", call_attach, BIT(DOMAIN) },
	{ "KnIommuDetachDeviceFromDomain", call_detach, BIT(DOMAIN) },
	{ "KnIoMapMem", call_map_mem, BIT(REGION) },
	{ "KnHandleCopy (badge)", call_copy_badge, BIT(BADGE) },
	{ "KnHandleRevokeSubtree (badge)", call_revoke_badge, BIT(BADGE) },
	{ "KnHandleCopy", call_copy, ALL_KINDS },
	{ "KosHandleSend", call_send, ALL_KINDS },
	{ "KnHandleGetSidByHandle", call_get_sid, ALL_KINDS },
	{ "KnHandleRevokeEx", call_revoke_ex, ALL_KINDS },
	{ "KnHandleRevokeSubtree", call_revoke_subtree, ALL_KINDS },
	{ "KnHandleRevoke", call_revoke, ALL_KINDS },
};

/*
 * Make every call on a handle of that kind: those that accept the kind answer
 * @right, the others @wrong. rcOk instead of a code: do not make these calls.
 */
static void expect_calls(struct fixture_data_kinds *self, enum kind kind,
			 Handle h, Retcode right, Retcode wrong)
{
	int fds = probe_nr_fds();

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		bool accepts = calls[i].accepts & BIT(kind);

		test_context("%s on a %s", calls[i].name, kind_names[kind]);
		if (accepts && right != rcOk)
			EXPECT_RC(right, calls[i].call(self, h));
		if (!accepts && wrong != rcOk)
			EXPECT_RC(wrong, calls[i].call(self, h));
		EXPECT_EQ(fds, probe_nr_fds());
	}
	test_context("%s", "");
}

TEST_F(kinds, wrong_type_is_rcInvalidArgument_for_every_call)
{
	for (int kind = 0; kind < NR_KINDS; kind++)
		expect_calls(self, kind, self->h[kind], rcOk,
			     rcInvalidArgument);
	/* And everything still works. */
	EXPECT_EQ(0, probe_read(self->mem));
	EXPECT_EQ(0xed, *self->regs & 0xff);
}

TEST_F(kinds, number_that_is_not_open_is_rcResourceNotFound_for_every_call)
{
	expect_calls(self, BUFFER, 1 << 20, rcResourceNotFound,
		     rcResourceNotFound);
	expect_calls(self, BUFFER, (Handle)-2, rcResourceNotFound,
		     rcResourceNotFound);
}

TEST_F(kinds, descriptor_that_is_no_handle_is_rcResourceNotFound_for_every_call)
{
	int device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC), pipes[2];

	ASSERT_GE(device, 0);
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	expect_calls(self, BUFFER, device, rcResourceNotFound,
		     rcResourceNotFound);
	expect_calls(self, BUFFER, pipes[0], rcResourceNotFound,
		     rcResourceNotFound);
	EXPECT_TRUE(probe_is_open(device));
	EXPECT_TRUE(probe_is_open(pipes[0]));
}

/* INVALID_HANDLE means "none" or "automatic" to some calls. */
TEST_F(kinds, invalid_handle_is_rcResourceNotFound)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		test_context("%s", calls[i].name);
		if (calls[i].call == call_copy_badge)
			continue;
		EXPECT_RC(calls[i].call == call_revoke_badge ?
				  rcInvalidArgument : rcResourceNotFound,
			  calls[i].call(self, NONE));
	}
}

/* ---- KnHandleClose ---- */

TEST_F(kinds, close_frees_the_descriptor_of_every_kind)
{
	static const enum kind order[] = { REGION_MAPPING, REGION,  MAPPING,
					   ACCESS,	   DOMAIN, BUFFER,
					   BADGE };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		Handle h = self->h[order[i]];

		test_context("%s", kind_names[order[i]]);
		EXPECT_OK(KnHandleClose(h));
		EXPECT_FALSE(probe_is_open(h));
		EXPECT_RC(rcResourceNotFound, KnHandleClose(h));
	}
}

TEST_F(kinds, KnIoClose_closes_every_kind)
{
	for (int kind = NR_KINDS - 1; kind >= 0; kind--) {
		test_context("%s", kind_names[kind]);
		EXPECT_OK(KnIoClose(self->h[kind]));
		EXPECT_FALSE(probe_is_open(self->h[kind]));
		EXPECT_RC(rcResourceNotFound, KnIoClose(self->h[kind]));
	}
}

TEST(close_of_what_is_not_open_is_rcResourceNotFound)
{
	probe_require_module();
	EXPECT_RC(rcResourceNotFound, KnHandleClose(NONE));
	EXPECT_RC(rcResourceNotFound, KnHandleClose((Handle)-2));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(0x7fffffff));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(1 << 20));
}

TEST(close_of_what_is_no_handle_is_rcResourceNotFound_and_closes_nothing)
{
	int device, pipes[2], sock;

	probe_require_module();
	device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_GE(device, 0);
	ASSERT_GE(sock, 0);
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	{
		const int fds[] = { 0, 1, 2, device, sock, pipes[0], pipes[1] };

		for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
			if (!probe_is_open(fds[i]))
				continue;
			test_context("descriptor %d", fds[i]);
			EXPECT_RC(rcResourceNotFound, KnHandleClose(fds[i]));
			EXPECT_TRUE(probe_is_open(fds[i]));
		}
	}
	test_context("%s", "");
	/* The pipe still works. */
	probe_signal(pipes[1]);
	probe_await(pipes[0]);
}

/* ---- KnHandleCopy ---- */

/* What a handle to a buffer may do, by its rights. */
static void expect_rights(Handle h, uint32_t rights)
{
	bool readable = rights & OCAP_DMA_READ;
	bool writable = readable && rights & OCAP_DMA_WRITE;
	bool device = readable ||
		      (rights & OCAP_DMA_WRITE && probe_write_only());
	Handle out;
	uint32_t sid, seen;
	void *addr;
	Retcode rc;
	int sock[2];

#define EXPECT_RIGHT(right, call)                                              \
	do {                                                                   \
		rc = (call);                                                   \
		EXPECT_RC((right) ? rcOk : rcNoCapability, rc);                \
	} while (0)
#define EXPECT_RIGHT_TO_HANDLE(right, call)                                    \
	do {                                                                   \
		EXPECT_RIGHT(right, call);                                     \
		if (rc == rcOk)                                                \
			EXPECT_OK(KnHandleClose(out));                         \
		else                                                           \
			EXPECT_EQ(NONE, out);                                  \
	} while (0)

	EXPECT_EQ(0, probe_handle(h, NULL, &seen));
	EXPECT_EQ(rights, seen);
	EXPECT_RIGHT(rights & OCAP_DMA_MODIFY,
		     KnIoDmaModify(h, DMA_ATTR_WRITE_BACK));
	EXPECT_RIGHT_TO_HANDLE(readable, KnIoDmaMap(h, 0, PAGE, NULL,
						    VMM_FLAG_READ, &addr,
						    &out));
	EXPECT_RIGHT_TO_HANDLE(writable, KnIoDmaMap(h, 0, PAGE, NULL,
						    VMM_READ_WRITE, &addr,
						    &out));
	EXPECT_RIGHT_TO_HANDLE(readable && rights & OCAP_DMA_IO,
			       KnIoDmaMap(h, 0, PAGE, NULL,
					  VMM_FLAG_READ | VMM_FLAG_IO, &addr,
					  &out));
	EXPECT_RIGHT_TO_HANDLE(rights & OCAP_DMA_BEGIN && device,
			       KnIoDmaBegin(h, &out));
	EXPECT_RIGHT_TO_HANDLE(rights & OCAP_HANDLE_COPY,
			       KnHandleCopy(h, 0, NONE, &out));
	EXPECT_RIGHT(rights & OCAP_HANDLE_GET_SID,
		     KnHandleGetSidByHandle(h, &sid));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	EXPECT_RIGHT(rights & OCAP_HANDLE_TRANSFER,
		     KosHandleSend(sock[0], h, 0));
	close(sock[0]);
	close(sock[1]);
}

TEST(create_gives_every_right)
{
	Handle buffer;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	expect_rights(buffer, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(buffer));
	EXPECT_OK(KnIoDmaCreateContinuous(PAGE, 0, &buffer));
	EXPECT_EQ(0, probe_handle(buffer, NULL, &(uint32_t){ 0 }));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST(copy_has_the_rights_asked_for_and_no_others)
{
	static const uint32_t masks[] = {
		0,
		OCAP_HANDLE_TRANSFER,
		OCAP_HANDLE_COPY,
		OCAP_HANDLE_GET_SID,
		OCAP_DMA_READ,
		OCAP_DMA_WRITE,
		OCAP_DMA_BEGIN,
		OCAP_DMA_MODIFY,
		OCAP_DMA_IO,
		OCAP_DMA_READ | OCAP_DMA_WRITE,
		OCAP_DMA_READ | OCAP_DMA_BEGIN,
		OCAP_DMA_WRITE | OCAP_DMA_BEGIN,
		OCAP_DMA_READ | OCAP_DMA_IO,
		OCAP_DMA_READ | OCAP_HANDLE_COPY,
		OCAP_DMA_FULL & ~OCAP_DMA_WRITE,
		OCAP_DMA_FULL & ~OCAP_DMA_READ,
		OCAP_DMA_FULL & ~OCAP_HANDLE_COPY,
		OCAP_DMA_FULL & ~OCAP_HANDLE_TRANSFER,
		OCAP_DMA_FULL,
	};
	Handle buffer, copy;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		test_context("rights %#x", masks[i]);
		ASSERT_OK(KnHandleCopy(buffer, masks[i], NONE, &copy));
		EXPECT_NE(buffer, copy);
		expect_rights(copy, masks[i]);
		EXPECT_OK(KnHandleClose(copy));
	}
	EXPECT_OK(KnHandleClose(buffer));
}

TEST(copy_with_a_right_that_the_source_lacks_is_rcNoCapability)
{
	Handle buffer, source, out;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	for (int bit = 0; bit < 32; bit++) {
		uint32_t right = 1u << bit;

		if (!(OCAP_DMA_FULL & right) || right == OCAP_HANDLE_COPY)
			continue;
		test_context("right %#x", right);
		ASSERT_OK(KnHandleCopy(buffer, OCAP_DMA_FULL & ~right, NONE,
				       &source));
		out = POISON_HANDLE;
		EXPECT_RC(rcNoCapability, KnHandleCopy(source, right, NONE,
						       &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rcNoCapability, KnHandleCopy(source, OCAP_DMA_FULL,
						       NONE, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_OK(KnHandleClose(source));
	}
	EXPECT_OK(KnHandleClose(buffer));
}

TEST(copy_without_the_right_to_copy_is_rcNoCapability)
{
	Handle buffer, source, out = POISON_HANDLE;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	source = buffer_copy(buffer, OCAP_DMA_FULL & ~OCAP_HANDLE_COPY);
	EXPECT_RC(rcNoCapability, KnHandleCopy(source, OCAP_DMA_READ, NONE,
					       &out));
	EXPECT_EQ(NONE, out);
	EXPECT_RC(rcNoCapability, KnHandleCopy(source, 0, NONE, &out));
	EXPECT_RC(rcNoCapability, KnHandleCopy(source, OCAP_HANDLE_COPY, NONE,
					       &out));
	EXPECT_OK(KnHandleClose(source));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(kinds, copy_with_an_unknown_right_is_rcInvalidArgument)
{
	static const struct {
		enum kind kind;
		uint32_t all;
	} rows[] = {
		{ BUFFER, OCAP_DMA_FULL },
		{ REGION, OCAP_MMIO_FULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int bit = 0; bit < 32; bit++) {
			Handle out = POISON_HANDLE;

			if (rows[i].all & 1u << bit)
				continue;
			test_context("%s, bit %d", kind_names[rows[i].kind],
				     bit);
			EXPECT_RC(rcInvalidArgument,
				  KnHandleCopy(self->h[rows[i].kind], 1u << bit,
					       NONE, &out));
			EXPECT_EQ(NONE, out);
			EXPECT_RC(rcInvalidArgument,
				  KnHandleCopy(self->h[rows[i].kind],
					       rows[i].all | 1u << bit, NONE,
					       &out));
			EXPECT_RC(rcInvalidArgument,
				  KosHandleSend(self->sock[0],
						self->h[rows[i].kind],
						1u << bit));
		}
}

TEST_F(kinds, copy_to_nowhere_is_rcInvalidArgument)
{
	int fds = probe_nr_fds();

	EXPECT_RC(rcInvalidArgument,
		  KnHandleCopy(self->h[BUFFER], OCAP_DMA_READ, NONE, NULL));
	EXPECT_RC(rcInvalidArgument,
		  KnHandleCreateBadge(NONE, 0, NULL, NULL));
	EXPECT_RC(rcInvalidArgument,
		  KnHandleGetSidByHandle(self->h[BUFFER], NULL));
	EXPECT_RC(rcInvalidArgument, KosHandleReceive(self->sock[0], NULL));
	EXPECT_EQ(fds, probe_nr_fds());
}

TEST_F(kinds, private_kinds_are_neither_copied_nor_sent)
{
	for (int kind = 0; kind < NR_KINDS; kind++) {
		Handle out = POISON_HANDLE;

		if (TRANSFERABLE & BIT(kind))
			continue;
		test_context("%s", kind_names[kind]);
		EXPECT_RC(rcNoCapability,
			  KnHandleCopy(self->h[kind], 0, NONE, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rcNoCapability,
			  KnHandleCopy(self->h[kind], OCAP_HANDLE_GET_SID, NONE,
				       &out));
		EXPECT_RC(rcNoCapability,
			  KosHandleSend(self->sock[0], self->h[kind], 0));
		/* Its identity is all that it tells. */
		EXPECT_EQ(0, probe_handle(self->h[kind], NULL, &out));
		EXPECT_EQ(OCAP_HANDLE_GET_SID, out);
	}
}

TEST(copy_outlives_its_source)
{
	Handle buffer, copy, grandchild, mapping;
	volatile uint8_t *mem;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	mem = buffer_map(buffer, PAGE, &mapping);
	mem[17] = 0x17;
	EXPECT_OK(KnHandleClose(mapping));
	copy = buffer_copy(buffer, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(buffer));
	grandchild = buffer_copy(copy, OCAP_DMA_READ | OCAP_DMA_WRITE);
	EXPECT_OK(KnHandleClose(copy));
	mem = buffer_map(grandchild, PAGE, &mapping);
	EXPECT_EQ(0x17, mem[17]);
	EXPECT_OK(KnHandleClose(grandchild));
	/* Memory lives while a mapping lives. */
	EXPECT_EQ(0x17, mem[17]);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
}

TEST(closing_one_copy_leaves_source_and_siblings)
{
	Handle buffer, a, b;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	a = buffer_copy(buffer, OCAP_DMA_FULL);
	b = buffer_copy(buffer, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(a));
	expect_rights(b, OCAP_DMA_FULL);
	expect_rights(buffer, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(b));
	expect_rights(buffer, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- badges ---- */

TEST(badge_with_a_notice_is_rcUnimplemented)
{
	Handle badge = POISON_HANDLE;

	probe_require_module();
	EXPECT_RC(rcUnimplemented, KnHandleCreateBadge(0, 0, NULL, &badge));
	EXPECT_EQ(NONE, badge);
	EXPECT_RC(rcUnimplemented, KnHandleCreateBadge(3, 1, &badge, &badge));
	EXPECT_EQ(NONE, badge);
	/* The rest is of no use without one. */
	EXPECT_OK(KnHandleCreateBadge(NONE, 77, &badge, &badge));
	EXPECT_OK(KnHandleClose(badge));
}

FIXTURE(badge)
{
	Handle buffer;
	Handle badge, other;
};

FIXTURE_SETUP(badge)
{
	probe_require_module();
	self->buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &self->badge));
	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &self->other));
}

FIXTURE_TEARDOWN(badge)
{
	EXPECT_OK(KnHandleClose(self->buffer));
	if (probe_is_open(self->badge))
		EXPECT_OK(KnHandleClose(self->badge));
	EXPECT_OK(KnHandleClose(self->other));
}

static bool revoked(Handle h)
{
	int err = probe_handle(h, NULL, NULL);

	EXPECT_TRUE(!err || err == EKEYREVOKED);
	return err == EKEYREVOKED;
}

TEST_F(badge, revokes_the_subtrees_that_it_marks_and_no_others)
{
	Handle marked[2], below[2], plain, other;

	for (int i = 0; i < 2; i++) {
		ASSERT_OK(KnHandleCopy(self->buffer, OCAP_DMA_FULL, self->badge,
				       &marked[i]));
		below[i] = buffer_copy(marked[i], OCAP_DMA_FULL);
	}
	plain = buffer_copy(self->buffer, OCAP_DMA_FULL);
	ASSERT_OK(KnHandleCopy(self->buffer, OCAP_DMA_FULL, self->other,
			       &other));

	ASSERT_OK(KnHandleRevokeSubtree(self->buffer, self->badge));
	for (int i = 0; i < 2; i++) {
		EXPECT_TRUE(revoked(marked[i]));
		EXPECT_TRUE(revoked(below[i]));
	}
	EXPECT_FALSE(revoked(plain));
	EXPECT_FALSE(revoked(other));
	EXPECT_FALSE(revoked(self->buffer));

	ASSERT_OK(KnHandleRevokeSubtree(self->buffer, self->other));
	EXPECT_TRUE(revoked(other));
	EXPECT_FALSE(revoked(plain));
	for (int i = 0; i < 2; i++) {
		EXPECT_OK(KnHandleClose(marked[i]));
		EXPECT_OK(KnHandleClose(below[i]));
	}
	EXPECT_OK(KnHandleClose(plain));
	EXPECT_OK(KnHandleClose(other));
}

TEST_F(badge, reaches_marks_further_down)
{
	Handle child = buffer_copy(self->buffer, OCAP_DMA_FULL);
	Handle marked, below;

	ASSERT_OK(KnHandleCopy(child, OCAP_DMA_FULL, self->badge, &marked));
	below = buffer_copy(marked, OCAP_DMA_FULL);
	/* The handle itself is not under itself. */
	EXPECT_OK(KnHandleRevokeSubtree(marked, self->badge));
	EXPECT_FALSE(revoked(marked));
	EXPECT_FALSE(revoked(below));
	EXPECT_OK(KnHandleRevokeSubtree(self->buffer, self->badge));
	EXPECT_TRUE(revoked(marked));
	EXPECT_TRUE(revoked(below));
	EXPECT_FALSE(revoked(child));
	EXPECT_OK(KnHandleClose(below));
	EXPECT_OK(KnHandleClose(marked));
	EXPECT_OK(KnHandleClose(child));
}

TEST_F(badge, marks_also_what_descends_from_a_closed_copy)
{
	Handle marked, below;

	ASSERT_OK(KnHandleCopy(self->buffer, OCAP_DMA_FULL, self->badge,
			       &marked));
	below = buffer_copy(marked, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(marked));
	EXPECT_FALSE(revoked(below));
	EXPECT_OK(KnHandleRevokeSubtree(self->buffer, self->badge));
	EXPECT_TRUE(revoked(below));
	EXPECT_OK(KnHandleClose(below));
}

TEST_F(badge, that_marks_nothing_is_rcOk)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);
	Handle elsewhere = buffer_create(0, PAGE, DMA_DIR_BIDIR), marked;

	EXPECT_OK(KnHandleRevokeSubtree(self->buffer, self->badge));
	EXPECT_FALSE(revoked(copy));
	/* It marks a copy of another buffer. */
	ASSERT_OK(KnHandleCopy(elsewhere, OCAP_DMA_FULL, self->badge, &marked));
	EXPECT_OK(KnHandleRevokeSubtree(self->buffer, self->badge));
	EXPECT_FALSE(revoked(copy));
	EXPECT_FALSE(revoked(marked));
	EXPECT_OK(KnHandleClose(marked));
	EXPECT_OK(KnHandleClose(elsewhere));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(badge, that_is_closed_leaves_its_copies)
{
	Handle marked;

	ASSERT_OK(KnHandleCopy(self->buffer, OCAP_DMA_FULL, self->badge,
			       &marked));
	EXPECT_OK(KnHandleClose(self->badge));
	EXPECT_FALSE(revoked(marked));
	EXPECT_RC(rcResourceNotFound,
		  KnHandleRevokeSubtree(self->buffer, self->badge));
	EXPECT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_TRUE(revoked(marked));
	EXPECT_OK(KnHandleClose(marked));
}

TEST_F(badge, invalid_or_no_badge_is_refused)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);
	Handle out = POISON_HANDLE;

	EXPECT_RC(rcInvalidArgument,
		  KnHandleRevokeSubtree(self->buffer, NONE));
	EXPECT_RC(rcInvalidArgument, KnHandleRevokeSubtree(self->buffer, copy));
	EXPECT_RC(rcResourceNotFound,
		  KnHandleRevokeSubtree(self->buffer, 1 << 20));
	EXPECT_RC(rcResourceNotFound,
		  KnHandleRevokeSubtree(1 << 20, self->badge));
	EXPECT_RC(rcInvalidArgument, KnHandleCopy(self->buffer, 0, copy, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_RC(rcResourceNotFound,
		  KnHandleCopy(self->buffer, 0, 1 << 20, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_FALSE(revoked(copy));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(badge, of_another_process_is_rcNoCapability)
{
	int sock[2], fd = self->badge;
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	probe_send_fds(sock[0], &fd, 1);
	IN_CHILD {
		Handle out;

		ASSERT_EQ(1, probe_receive_fds(sock[1], &fd, 1));
		EXPECT_RC(rcNoCapability,
			  KnHandleRevokeSubtree(self->buffer, fd));
		EXPECT_RC(rcNoCapability,
			  KnHandleCopy(self->buffer, 0, fd, &out));
	}
	EXPECT_FALSE(revoked(copy));
	EXPECT_OK(KnHandleClose(copy));
}

/* ---- KosHandleSend, KosHandleReceive ---- */

FIXTURE(carrier)
{
	int sock[2];
	Handle buffer;
	int fds;
};

FIXTURE_VARIANT(carrier)
{
	int type;
};

FIXTURE_VARIANT_ADD(carrier, stream) { .type = SOCK_STREAM };
FIXTURE_VARIANT_ADD(carrier, seqpacket) { .type = SOCK_SEQPACKET };

FIXTURE_SETUP(carrier)
{
	probe_require_module();
	ASSERT_EQ(0, socketpair(AF_UNIX, variant->type | SOCK_CLOEXEC, 0,
				self->sock));
	self->buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	EXPECT_EQ(0, probe_handle(self->buffer, NULL, NULL));
	self->fds = probe_nr_fds(); /* those that stay open are */
}

FIXTURE_TEARDOWN(carrier)
{
	EXPECT_EQ(self->fds, probe_nr_fds());
	EXPECT_OK(KnHandleClose(self->buffer));
	close(self->sock[0]);
	close(self->sock[1]);
}

static void expect_nothing_came(int sock)
{
	char byte;

	EXPECT_ERRNO(EAGAIN, recv(sock, &byte, 1, MSG_DONTWAIT));
}

TEST_F(carrier, delivers_a_descendant_to_another_process)
{
	Handle mapping;
	volatile uint8_t *mem = buffer_map(self->buffer, PAGE, &mapping);

	mem[0] = 0x11;
	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer,
				OCAP_DMA_READ | OCAP_DMA_WRITE |
				OCAP_HANDLE_GET_SID));
	IN_CHILD {
		Handle handle = POISON_HANDLE;
		volatile uint8_t *theirs;
		uint32_t rights;

		ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
		EXPECT_NE(self->buffer, handle);
		EXPECT_EQ(FD_CLOEXEC, fcntl(handle, F_GETFD));
		EXPECT_EQ(0, probe_handle(handle, NULL, &rights));
		EXPECT_EQ(OCAP_DMA_READ | OCAP_DMA_WRITE | OCAP_HANDLE_GET_SID,
			  rights);
		theirs = buffer_map(handle, PAGE, &(Handle){ 0 });
		EXPECT_EQ(0x11, theirs[0]);
		theirs[0] = 0x22;
	}
	EXPECT_EQ(0x22, mem[0]);
	/* The child's death took its copy only. */
	mem[1] = 0x33;
	EXPECT_EQ(0x33, mem[1]);
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(carrier, gives_each_message_its_own_rights_and_order)
{
	static const uint32_t rights[] = {
		OCAP_DMA_READ, OCAP_DMA_WRITE, 0, OCAP_DMA_FULL,
		OCAP_HANDLE_TRANSFER,
	};
	Handle handle;
	uint32_t seen;

	for (size_t i = 0; i < ARRAY_SIZE(rights); i++)
		ASSERT_OK(KosHandleSend(self->sock[0], self->buffer,
					rights[i]));
	for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
		ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
		EXPECT_EQ(0, probe_handle(handle, NULL, &seen));
		EXPECT_EQ(rights[i], seen);
		EXPECT_OK(KnHandleClose(handle));
	}
	expect_nothing_came(self->sock[1]);
}

TEST_F(carrier, works_in_both_directions_and_back_home)
{
	Handle there, back;
	uint32_t sid[2];

	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, OCAP_DMA_FULL));
	ASSERT_OK(KosHandleReceive(self->sock[1], &there));
	ASSERT_OK(KosHandleSend(self->sock[1], there, OCAP_DMA_FULL));
	ASSERT_OK(KosHandleReceive(self->sock[0], &back));
	EXPECT_OK(KnHandleGetSidByHandle(self->buffer, &sid[0]));
	EXPECT_OK(KnHandleGetSidByHandle(back, &sid[1]));
	EXPECT_EQ(sid[0], sid[1]);
	/* It is a grandchild: the middle one may take it back. */
	EXPECT_OK(KnHandleRevokeEx(there, rtl_false));
	EXPECT_TRUE(revoked(back));
	EXPECT_FALSE(revoked(self->buffer));
	EXPECT_OK(KnHandleClose(there));
	EXPECT_OK(KnHandleClose(back));
}

TEST_F(carrier, needs_the_right_to_transfer)
{
	Handle kept = buffer_copy(self->buffer,
				  OCAP_DMA_FULL & ~OCAP_HANDLE_TRANSFER);

	EXPECT_RC(rcNoCapability,
		  KosHandleSend(self->sock[0], kept, OCAP_DMA_READ));
	EXPECT_RC(rcNoCapability, KosHandleSend(self->sock[0], kept, 0));
	expect_nothing_came(self->sock[1]);
	EXPECT_OK(KnHandleClose(kept));
}

/* And not the right to copy. */
TEST_F(carrier, needs_no_right_to_copy)
{
	Handle sendable = buffer_copy(self->buffer, OCAP_HANDLE_TRANSFER |
						    OCAP_DMA_READ);
	Handle handle;

	ASSERT_OK(KosHandleSend(self->sock[0], sendable, OCAP_DMA_READ));
	ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
	EXPECT_OK(KnHandleClose(handle));
	EXPECT_OK(KnHandleClose(sendable));
}

TEST_F(carrier, sender_can_forbid_further_transfer)
{
	Handle handle;

	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer,
				OCAP_DMA_FULL & ~OCAP_HANDLE_TRANSFER));
	ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
	EXPECT_RC(rcNoCapability, KosHandleSend(self->sock[1], handle, 0));
	EXPECT_RC(rcNoCapability,
		  KosHandleSend(self->sock[1], handle, OCAP_DMA_READ));
	expect_nothing_came(self->sock[0]);
	EXPECT_OK(KnHandleClose(handle));
}

TEST_F(carrier, never_adds_a_right)
{
	Handle readable = buffer_copy(self->buffer, OCAP_HANDLE_TRANSFER |
						    OCAP_DMA_READ);

	EXPECT_RC(rcNoCapability, KosHandleSend(self->sock[0], readable,
						OCAP_DMA_WRITE));
	EXPECT_RC(rcNoCapability, KosHandleSend(self->sock[0], readable,
						OCAP_DMA_FULL));
	EXPECT_RC(rcInvalidArgument, KosHandleSend(self->sock[0], readable,
						   1u << 31));
	expect_nothing_came(self->sock[1]);
	EXPECT_OK(KnHandleClose(readable));
}

TEST_F(carrier, handle_on_its_way_keeps_the_memory)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR), mapping, handle;
	volatile uint8_t *mem = buffer_map(buffer, PAGE, &mapping);

	mem[9] = 0x99;
	EXPECT_OK(KnHandleClose(mapping));
	ASSERT_OK(KosHandleSend(self->sock[0], buffer, OCAP_DMA_FULL));
	EXPECT_OK(KnHandleClose(buffer));
	ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
	mem = buffer_map(handle, PAGE, &mapping);
	EXPECT_EQ(0x99, mem[9]);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(handle));
}

TEST_F(carrier, handle_revoked_on_its_way_is_rcHandleRevoked)
{
	Handle handle = POISON_HANDLE;

	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, OCAP_DMA_FULL));
	ASSERT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	EXPECT_RC(rcHandleRevoked, KosHandleReceive(self->sock[1], &handle));
	EXPECT_EQ(NONE, handle);
	expect_nothing_came(self->sock[1]);
}

TEST_F(carrier, refuses_what_is_no_handle_and_closes_it)
{
	Handle handle = POISON_HANDLE;
	int pipes[2];

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	probe_send_fds(self->sock[0], &pipes[1], 1);
	close(pipes[1]);
	EXPECT_RC(rcResourceNotFound, KosHandleReceive(self->sock[1], &handle));
	EXPECT_EQ(NONE, handle);
	/* It was the last: the reader sees the end. */
	EXPECT_EQ(0, read(pipes[0], &handle, 1));
	close(pipes[0]);
}

TEST_F(carrier, refuses_private_kinds_and_dead_ones_and_closes_them)
{
	Handle mapping, handle = POISON_HANDLE;
	int fd;

	buffer_map(self->buffer, PAGE, &mapping);
	fd = mapping;
	probe_send_fds(self->sock[0], &fd, 1);
	probe_send_fds(self->sock[0], &fd, 1);
	IN_CHILD {
		int fds = probe_nr_fds();

		EXPECT_RC(rcNoCapability,
			  KosHandleReceive(self->sock[1], &handle));
		EXPECT_EQ(NONE, handle);
		EXPECT_EQ(fds, probe_nr_fds());
	}
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_RC(rcResourceNotFound, KosHandleReceive(self->sock[1], &handle));
	EXPECT_EQ(NONE, handle);
}

TEST_F(carrier, takes_the_first_of_several_descriptors_and_closes_the_others)
{
	int pipes[2], fds[4], before;
	Handle handle;
	char byte;

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	fds[0] = buffer_copy(self->buffer, OCAP_DMA_READ);
	fds[1] = pipes[1];
	fds[2] = buffer_copy(self->buffer, OCAP_DMA_WRITE);
	fds[3] = pipes[1];
	before = probe_nr_fds();
	probe_send_fds(self->sock[0], fds, 4);
	close(pipes[1]);
	ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
	EXPECT_EQ(before, probe_nr_fds()); /* one closed, one received */
	EXPECT_EQ(0, probe_handle(handle, NULL, (uint32_t *)&before));
	EXPECT_EQ(OCAP_DMA_READ, before);
	EXPECT_EQ(0, read(pipes[0], &byte, 1));
	close(pipes[0]);
	EXPECT_OK(KnHandleClose(handle));
	EXPECT_OK(KnHandleClose(fds[0]));
	EXPECT_OK(KnHandleClose(fds[2]));
}

TEST_F(carrier, message_without_a_handle_is_rcReceiveError)
{
	Handle handle = POISON_HANDLE;

	ASSERT_EQ(1, send(self->sock[0], "x", 1, 0));
	EXPECT_RC(rcReceiveError, KosHandleReceive(self->sock[1], &handle));
	EXPECT_EQ(NONE, handle);
	if (variant->type == SOCK_SEQPACKET) {
		ASSERT_EQ(2, send(self->sock[0], "xy", 2, 0));
		EXPECT_RC(rcReceiveError,
			  KosHandleReceive(self->sock[1], &handle));
		EXPECT_EQ(NONE, handle);
	}
	expect_nothing_came(self->sock[1]);
}

TEST_F(carrier, peer_that_has_closed_is_rcNotConnected)
{
	Handle handle = POISON_HANDLE;
	int pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, variant->type | SOCK_CLOEXEC, 0,
				pair));
	/* What was sent before still comes. */
	ASSERT_OK(KosHandleSend(pair[0], self->buffer, OCAP_DMA_READ));
	close(pair[0]);
	EXPECT_OK(KosHandleReceive(pair[1], &handle));
	EXPECT_OK(KnHandleClose(handle));
	handle = POISON_HANDLE;
	EXPECT_RC(rcNotConnected, KosHandleReceive(pair[1], &handle));
	EXPECT_EQ(NONE, handle);
	/* Without a SIGPIPE, which would end this process. */
	EXPECT_RC(rcNotConnected, KosHandleSend(pair[1], self->buffer, 0));
	close(pair[1]);
}

TEST_F(carrier, unconnected_socket_is_rcNotConnected)
{
	int sock = socket(AF_UNIX, variant->type | SOCK_CLOEXEC, 0);
	Handle handle = POISON_HANDLE;

	EXPECT_RC(rcNotConnected, KosHandleSend(sock, self->buffer, 0));
	EXPECT_RC(rcNotConnected, KosHandleReceive(sock, &handle));
	EXPECT_EQ(NONE, handle);
	close(sock);
}

TEST_F(carrier, nonblocking_socket_that_would_wait_is_rcInvalidOperation)
{
	Handle handle = POISON_HANDLE;
	Retcode rc = rcOk;
	int sent = 0;

	ASSERT_EQ(0, fcntl(self->sock[0], F_SETFL, O_NONBLOCK));
	ASSERT_EQ(0, fcntl(self->sock[1], F_SETFL, O_NONBLOCK));
	EXPECT_RC(rcInvalidOperation, KosHandleReceive(self->sock[1], &handle));
	EXPECT_EQ(NONE, handle);
	while (rc == rcOk && sent < 100000) {
		rc = KosHandleSend(self->sock[0], self->buffer, 0);
		sent += rc == rcOk;
	}
	/* The socket is full, or too many descriptors are on their way. */
	EXPECT_TRUE(rc == rcInvalidOperation || rc == rcQuotaExceeded);
	EXPECT_GT(sent, 0);
	EXPECT_EQ(self->fds, probe_nr_fds());
	for (int i = 0; i < sent; i++) {
		ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
		ASSERT_OK(KnHandleClose(handle));
	}
	EXPECT_RC(rcInvalidOperation, KosHandleReceive(self->sock[1], &handle));
	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, 0));
	ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
	EXPECT_OK(KnHandleClose(handle));
}

TEST_F(carrier, receive_waits_for_a_message)
{
	pid_t pid = test_fork();
	Handle handle;

	if (!pid) {
		usleep(300 * 1000);
		EXPECT_OK(KosHandleSend(self->sock[0], self->buffer, 0));
		test_child_exit();
	}
	EXPECT_OK(KosHandleReceive(self->sock[1], &handle));
	test_wait(pid);
	EXPECT_OK(KnHandleClose(handle));
}

TEST_F(carrier, receive_to_nowhere_leaves_the_message)
{
	Handle handle;

	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, 0));
	EXPECT_RC(rcInvalidArgument, KosHandleReceive(self->sock[1], NULL));
	ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
	EXPECT_OK(KnHandleClose(handle));
}

TEST_F(carrier, receive_without_a_free_descriptor_is_rcReceiveError)
{
	struct rlimit limit, none;
	Handle handle = POISON_HANDLE;
	Retcode rc;

	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer, 0));
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	rc = KosHandleReceive(self->sock[1], &handle);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_RC(rcReceiveError, rc);
	EXPECT_EQ(NONE, handle);
	expect_nothing_came(self->sock[1]);
}

TEST_F(carrier, send_without_a_free_descriptor_is_rcQuotaExceeded)
{
	struct rlimit limit, none;
	Retcode rc;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	rc = KosHandleSend(self->sock[0], self->buffer, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_RC(rcQuotaExceeded, rc);
	expect_nothing_came(self->sock[1]);
}

TEST(other_sockets_are_refused)
{
	int dgram[2], pipes[2], inet, file;
	Handle buffer, handle = POISON_HANDLE;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, dgram));
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_GE(inet, 0);
	file = open("/dev/null", O_RDWR | O_CLOEXEC);
	{
		const int bad[] = { dgram[0], pipes[0], pipes[1], inet, file,
				    (int)buffer };

		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			test_context("row %zu", i);
			EXPECT_RC(rcInvalidArgument,
				  KosHandleSend(bad[i], buffer, 0));
			EXPECT_RC(rcInvalidArgument,
				  KosHandleReceive(bad[i], &handle));
			EXPECT_EQ(NONE, handle);
			EXPECT_TRUE(probe_is_open(bad[i]));
		}
	}
	test_context("%s", "");
	EXPECT_RC(rcResourceNotFound, KosHandleSend(-1, buffer, 0));
	EXPECT_RC(rcResourceNotFound, KosHandleSend(1 << 20, buffer, 0));
	EXPECT_RC(rcResourceNotFound, KosHandleReceive(-1, &handle));
	EXPECT_EQ(NONE, handle);
	expect_nothing_came(dgram[1]);
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- KnHandleGetSidByHandle ---- */

TEST_F(kinds, sid_is_unlike_for_unlike_objects)
{
	uint32_t sid[NR_KINDS + 2];
	Handle second = buffer_create(0, PAGE, DMA_DIR_BIDIR), mapping;

	for (int kind = 0; kind < NR_KINDS; kind++)
		ASSERT_OK(KnHandleGetSidByHandle(self->h[kind], &sid[kind]));
	ASSERT_OK(KnHandleGetSidByHandle(second, &sid[NR_KINDS]));
	/* Two mappings of one buffer are two objects. */
	buffer_map(self->h[BUFFER], PAGE, &mapping);
	ASSERT_OK(KnHandleGetSidByHandle(mapping, &sid[NR_KINDS + 1]));
	for (size_t i = 0; i < ARRAY_SIZE(sid); i++) {
		EXPECT_NE(0, sid[i]);
		for (size_t j = 0; j < i; j++)
			EXPECT_NE(sid[i], sid[j]);
	}
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(second));
}

TEST_F(carrier, sid_is_the_same_for_copies_and_in_other_processes)
{
	Handle copy = buffer_copy(self->buffer, OCAP_HANDLE_GET_SID);
	uint32_t sid, of_copy;

	ASSERT_OK(KnHandleGetSidByHandle(self->buffer, &sid));
	ASSERT_OK(KnHandleGetSidByHandle(copy, &of_copy));
	EXPECT_EQ(sid, of_copy);
	EXPECT_OK(KnHandleClose(copy));
	ASSERT_OK(KosHandleSend(self->sock[0], self->buffer,
				OCAP_HANDLE_GET_SID));
	IN_CHILD {
		Handle handle;
		uint32_t theirs;

		ASSERT_OK(KosHandleReceive(self->sock[1], &handle));
		ASSERT_OK(KnHandleGetSidByHandle(handle, &theirs));
		EXPECT_EQ(sid, theirs);
	}
}

TEST(sid_without_the_right_is_rcNoCapability)
{
	Handle buffer, copy;
	uint32_t sid = 77;

	probe_require_module();
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	copy = buffer_copy(buffer, OCAP_DMA_FULL & ~OCAP_HANDLE_GET_SID);
	EXPECT_RC(rcNoCapability, KnHandleGetSidByHandle(copy, &sid));
	EXPECT_EQ(0, sid);
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- revocation ---- */

/* root -> child -> grandchild */
FIXTURE(tree)
{
	Handle root, child, grandchild;
	bool root_closed;
};

FIXTURE_SETUP(tree)
{
	probe_require_module();
	self->root = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	self->child = buffer_copy(self->root, OCAP_DMA_FULL);
	self->grandchild = buffer_copy(self->child, OCAP_DMA_FULL);
}

FIXTURE_TEARDOWN(tree)
{
	const Handle all[] = { self->root, self->child, self->grandchild };

	for (int i = 0; i < 3; i++)
		if (probe_is_open(all[i]))
			EXPECT_OK(KnHandleClose(all[i]));
}

TEST_F(tree, revoke_closes_the_handle_and_revokes_its_descendants)
{
	ASSERT_OK(KnHandleRevoke(self->root));
	EXPECT_FALSE(probe_is_open(self->root));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(self->root));
	EXPECT_TRUE(probe_is_open(self->child));
	EXPECT_TRUE(probe_is_open(self->grandchild));
	EXPECT_TRUE(revoked(self->child));
	EXPECT_TRUE(revoked(self->grandchild));
}

TEST_F(tree, revoke_ex_with_close_does_the_same)
{
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_true));
	EXPECT_FALSE(probe_is_open(self->root));
	EXPECT_TRUE(revoked(self->child));
	EXPECT_TRUE(revoked(self->grandchild));
}

TEST_F(tree, revoke_ex_without_close_keeps_the_handle)
{
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_TRUE(revoked(self->child));
	EXPECT_TRUE(revoked(self->grandchild));
	expect_rights(self->root, OCAP_DMA_FULL);
	/* What is derived from now on works. */
	EXPECT_OK(KnHandleClose(self->child));
	self->child = buffer_copy(self->root, OCAP_DMA_FULL);
	expect_rights(self->child, OCAP_DMA_FULL);
}

TEST_F(tree, revoke_reaches_neither_ancestors_nor_siblings)
{
	Handle sibling = buffer_copy(self->root, OCAP_DMA_FULL);

	ASSERT_OK(KnHandleRevokeEx(self->child, rtl_false));
	EXPECT_TRUE(revoked(self->grandchild));
	expect_rights(self->root, OCAP_DMA_FULL);
	expect_rights(self->child, OCAP_DMA_FULL);
	expect_rights(sibling, OCAP_DMA_FULL);
	EXPECT_OK(KnHandleClose(sibling));
}

TEST_F(tree, revoke_needs_no_right)
{
	Handle bare = buffer_copy(self->child, OCAP_HANDLE_COPY), last;

	last = buffer_copy(bare, 0);
	EXPECT_OK(KnHandleRevokeEx(bare, rtl_false));
	EXPECT_TRUE(probe_is_open(last));
	EXPECT_RC(rcHandleRevoked, KnHandleRevokeEx(last, rtl_false));
	EXPECT_OK(KnHandleClose(last));
	EXPECT_OK(KnHandleClose(bare));
	bare = buffer_copy(self->child, 0);
	EXPECT_OK(KnHandleRevoke(bare));
	EXPECT_FALSE(probe_is_open(bare));
}

TEST_F(tree, revoke_without_descendants_is_rcOk)
{
	EXPECT_OK(KnHandleRevokeEx(self->grandchild, rtl_false));
	EXPECT_OK(KnHandleRevokeEx(self->grandchild, rtl_false));
	EXPECT_FALSE(revoked(self->grandchild));
	EXPECT_OK(KnHandleRevoke(self->grandchild));
	EXPECT_FALSE(probe_is_open(self->grandchild));
}

TEST_F(tree, closing_an_intermediate_handle_does_not_save_its_children)
{
	Handle mapping;
	volatile uint8_t *mem = buffer_map(self->child, PAGE, &mapping);

	mem[0] = 1;
	ASSERT_OK(KnHandleClose(self->child));
	/* Until then both live on. */
	EXPECT_FALSE(revoked(self->grandchild));
	EXPECT_EQ(0, probe_write(mem));
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_TRUE(revoked(self->grandchild));
	EXPECT_EQ(SIGBUS, probe_read(mem));
	EXPECT_EQ(SIGBUS, probe_write(mem));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
}

TEST_F(tree, closing_a_chain_of_handles_does_not_save_the_last)
{
	Handle chain[16], mapping;
	volatile uint8_t *mem;

	chain[0] = buffer_copy(self->grandchild, OCAP_DMA_FULL);
	for (size_t i = 1; i < ARRAY_SIZE(chain); i++)
		chain[i] = buffer_copy(chain[i - 1], OCAP_DMA_FULL);
	mem = buffer_map(chain[15], PAGE, &mapping);
	for (size_t i = 0; i < ARRAY_SIZE(chain); i++)
		EXPECT_OK(KnHandleClose(chain[i]));
	EXPECT_EQ(0, probe_write(mem));
	ASSERT_OK(KnHandleRevokeEx(self->child, rtl_false));
	EXPECT_EQ(SIGBUS, probe_write(mem));
	EXPECT_TRUE(revoked(self->grandchild));
	EXPECT_FALSE(revoked(self->root));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(tree, revoke_works_below_a_closed_parent)
{
	ASSERT_OK(KnHandleClose(self->root));
	ASSERT_OK(KnHandleRevokeEx(self->child, rtl_false));
	EXPECT_TRUE(revoked(self->grandchild));
	EXPECT_FALSE(revoked(self->child));
}

TEST_F(tree, revoked_handle_stays_revoked_when_others_are_closed)
{
	ASSERT_OK(KnHandleRevoke(self->root));
	EXPECT_OK(KnHandleClose(self->child));
	EXPECT_TRUE(revoked(self->grandchild));
	EXPECT_RC(rcHandleRevoked, KnHandleRevoke(self->grandchild));
	EXPECT_TRUE(probe_is_open(self->grandchild));
	EXPECT_OK(KnHandleClose(self->grandchild));
	EXPECT_RC(rcResourceNotFound, KnHandleClose(self->grandchild));
}

TEST_F(tree, revokers_own_mappings_are_untouched)
{
	static const bool closes[] = { false, true };

	for (size_t i = 0; i < ARRAY_SIZE(closes); i++) {
		Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
		Handle copy = buffer_copy(buffer, OCAP_DMA_FULL);
		Handle own, taken;
		volatile uint8_t *mine = buffer_map(buffer, PAGE, &own);
		volatile uint8_t *theirs = buffer_map(copy, PAGE, &taken);

		test_context(closes[i] ? "revoke" : "revoke without close");
		theirs[5] = 0x55;
		ASSERT_OK(KnHandleRevokeEx(buffer, closes[i]));
		EXPECT_EQ(0x55, mine[5]);
		EXPECT_EQ(0, probe_write(mine));
		EXPECT_EQ(0x5a, mine[0]);
		EXPECT_EQ(SIGBUS, probe_read(theirs));
		/* It could be revoked only once. */
		EXPECT_RC(rcHandleRevoked, probe_sid(taken));
		EXPECT_OK(KnHandleClose(taken));
		EXPECT_EQ(SIGSEGV, probe_read(theirs));
		EXPECT_OK(KnHandleClose(own));
		EXPECT_OK(KnHandleClose(copy));
		if (!closes[i])
			EXPECT_OK(KnHandleClose(buffer));
	}
}

TEST_F(tree, revoke_takes_every_mapping_of_every_descendant)
{
	Handle mapping[8];
	volatile uint8_t *mem[8];

	for (int i = 0; i < 8; i++)
		mem[i] = buffer_map(i & 1 ? self->child : self->grandchild,
				    PAGE, &mapping[i]);
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_false));
	for (int i = 0; i < 8; i++) {
		test_context("mapping %d", i);
		EXPECT_EQ(SIGBUS, probe_read(mem[i]));
		EXPECT_OK(KnHandleClose(mapping[i]));
	}
}

/* Also pages never touched before. */
TEST(revoke_takes_large_mappings_whole)
{
	Handle buffer, copy, mapping;
	volatile uint8_t *mem;
	void *addr;

	probe_require_module();
	buffer = buffer_create(0, MiB(8), DMA_DIR_BIDIR);
	copy = buffer_copy(buffer, OCAP_DMA_FULL);
	ASSERT_OK(KnIoDmaMap(copy, MiB(1), MiB(6), NULL,
			     VMM_READ_WRITE | VMM_FLAG_LOW_GUARD |
			     VMM_FLAG_HIGH_GUARD, &addr, &mapping));
	mem = addr;
	for (size_t i = 0; i < MiB(6); i += MiB(2))
		mem[i] = 1;
	ASSERT_OK(KnHandleRevokeEx(buffer, rtl_false));
	for (size_t i = 0; i < MiB(6); i += KiB(256))
		EXPECT_EQ(SIGBUS, probe_read(mem + i));
	EXPECT_EQ(SIGBUS, probe_read(mem + MiB(6) - 1));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_EQ(SIGSEGV, probe_read(mem));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(tree, revoke_takes_mappings_in_every_process)
{
	enum { CHILDREN = 3 };
	int sock[CHILDREN][2], sync[CHILDREN][2];
	pid_t pid[CHILDREN];

	for (int i = 0; i < CHILDREN; i++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock[i]));
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync[i]));
		pid[i] = test_fork();
		if (!pid[i]) {
			volatile uint8_t *mem;
			Handle handle, mapping, again;
			void *addr;

			ASSERT_OK(KosHandleReceive(sock[i][1], &handle));
			mem = buffer_map(handle, PAGE, &mapping);
			mem[i] = i + 1;
			/* One of them tries to dodge. */
			if (i == 1)
				ASSERT_OK(KnHandleClose(handle));
			if (i == 2)
				ASSERT_OK(KnHandleClose(mapping));
			probe_signal(sync[i][1]);
			probe_await(sync[i][1]);
			if (i == 2)
				EXPECT_EQ(SIGSEGV, probe_read(mem));
			else
				EXPECT_EQ(SIGBUS, probe_read(mem));
			if (i != 1)
				EXPECT_RC(rcHandleRevoked,
					  KnIoDmaMap(handle, 0, PAGE, NULL,
						     VMM_FLAG_READ, &addr,
						     &again));
			test_child_exit();
		}
		/* One of them through a descendant of a descendant. */
		ASSERT_OK(KosHandleSend(sock[i][0],
					i ? self->grandchild : self->root,
					OCAP_DMA_READ | OCAP_DMA_WRITE));
		probe_await(sync[i][0]);
	}
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_false));
	for (int i = 0; i < CHILDREN; i++) {
		probe_signal(sync[i][0]);
		test_wait(pid[i]);
	}
}

TEST_F(tree, taking_back_from_a_process_leaves_it_what_it_has_otherwise)
{
	int sock[2], sync[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		Handle lent, kept, mapping[2];
		volatile uint8_t *mem[2];

		ASSERT_OK(KosHandleReceive(sock[1], &lent));
		ASSERT_OK(KosHandleReceive(sock[1], &kept));
		mem[0] = buffer_map(lent, PAGE, &mapping[0]);
		mem[1] = buffer_map(kept, PAGE, &mapping[1]);
		probe_signal(sync[1]);
		probe_await(sync[1]);
		EXPECT_EQ(SIGBUS, probe_read(mem[0]));
		EXPECT_EQ(0, probe_read(mem[1]));
		EXPECT_TRUE(revoked(lent));
		EXPECT_FALSE(revoked(kept));
		test_child_exit();
	}
	/* Two ways to the same buffer; the one below child is taken back. */
	ASSERT_OK(KosHandleSend(sock[0], self->child, OCAP_DMA_FULL));
	ASSERT_OK(KosHandleSend(sock[0], self->root, OCAP_DMA_FULL));
	probe_await(sync[0]);
	ASSERT_OK(KnHandleRevoke(self->child));
	probe_signal(sync[0]);
	test_wait(pid);
}

TEST_F(tree, memory_goes_when_the_last_revoked_handle_is_the_last_at_all)
{
	enum { ROUNDS = 32 };
	long before = 0;

	for (int i = 0; i < ROUNDS + 4; i++) {
		Handle buffer = buffer_create(0, MiB(4), DMA_DIR_BIDIR), copy;
		Handle mapping;

		if (i == 4)
			before = probe_free_memory();
		copy = buffer_copy(buffer, OCAP_DMA_FULL);
		buffer_map(copy, MiB(4), &mapping);
		ASSERT_OK(KnHandleRevoke(buffer));
		/* Both are still open, and hold no memory. */
		if (i >= 4 + ROUNDS / 2) {
			EXPECT_OK(KnHandleClose(mapping));
			EXPECT_OK(KnHandleClose(copy));
		}
	}
	EXPECT_TRUE(probe_memory_returns(before, KiB(8)));
}

/* ---- a revoked handle answers rcHandleRevoked to everything ---- */

TEST_F(kinds, revoked_handle_is_rcHandleRevoked_for_every_call_until_closed)
{
	Handle copy;

	ASSERT_OK(KnHandleCopy(self->h[BUFFER], OCAP_DMA_FULL, NONE, &copy));
	ASSERT_OK(KnHandleRevokeEx(self->h[BUFFER], rtl_false));
	/* Before the type is looked at, and before the rights. */
	expect_calls(self, BUFFER, copy, rcHandleRevoked, rcHandleRevoked);
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_RC(rcResourceNotFound, call_get_sid(self, copy));

	ASSERT_OK(KnHandleCopy(self->h[REGION], 0, NONE, &copy));
	ASSERT_OK(KnHandleRevokeEx(self->h[REGION], rtl_false));
	expect_calls(self, REGION, copy, rcHandleRevoked, rcHandleRevoked);
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(kinds, mapping_and_access_of_a_revoked_handle_are_rcHandleRevoked)
{
	Handle copy, mapping, access;

	ASSERT_OK(KnHandleCopy(self->h[BUFFER], OCAP_DMA_FULL, NONE, &copy));
	buffer_map(copy, PAGE, &mapping);
	access = access_begin_in(copy, self->h[DOMAIN]);
	ASSERT_OK(KnHandleRevokeEx(self->h[BUFFER], rtl_false));
	expect_calls(self, MAPPING, mapping, rcHandleRevoked, rcHandleRevoked);
	expect_calls(self, ACCESS, access, rcHandleRevoked, rcHandleRevoked);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(kinds, revoke_takes_the_mapping_of_a_region)
{
	Handle lent, mapping;
	void *addr;

	EXPECT_OK(KnHandleClose(self->h[REGION_MAPPING]));
	ASSERT_OK(KnHandleCopy(self->h[REGION], OCAP_MMIO_FULL, NONE, &lent));
	ASSERT_OK(KnIoMapMem(lent, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_EQ(0, probe_read(addr));
	ASSERT_OK(KnHandleRevokeEx(self->h[REGION], rtl_false));
	EXPECT_EQ(SIGBUS, probe_read(addr));
	/* The region is free for its owner's map, at once. */
	EXPECT_OK(KnIoMapMem(self->h[REGION], VMM_FLAG_READ, 0, &addr,
			     &self->h[REGION_MAPPING]));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(lent));
	EXPECT_EQ(0, probe_read(addr));
}

/* Kinds that have no descendants: revoking is closing, or nothing. */
TEST_F(kinds, private_kinds_can_be_revoked_and_have_nothing_below)
{
	static const enum kind kinds[] = { MAPPING, ACCESS, REGION_MAPPING,
					   DOMAIN, BADGE };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		Handle h = self->h[kinds[i]];

		test_context("%s", kind_names[kinds[i]]);
		EXPECT_OK(KnHandleRevokeEx(h, rtl_false));
		EXPECT_OK(call_get_sid(self, h));
	}
	test_context("%s", "");
	EXPECT_EQ(0, probe_read(self->mem));
	EXPECT_EQ(0xed, *self->regs & 0xff);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		Handle h = self->h[kinds[i]];

		test_context("%s", kind_names[kinds[i]]);
		EXPECT_OK(KnHandleRevoke(h));
		EXPECT_FALSE(probe_is_open(h));
	}
	EXPECT_EQ(SIGSEGV, probe_read(self->mem));
	EXPECT_EQ(SIGSEGV, probe_read((void *)self->regs));
}

/* ---- pollers ---- */

static short polled(Handle h, int timeout)
{
	struct pollfd pfd = { .fd = h, .events = POLLIN | POLLOUT };

	ASSERT_GE(poll(&pfd, 1, timeout), 0);
	return pfd.revents;
}

TEST_F(tree, live_handle_has_no_events)
{
	Handle mapping;

	buffer_map(self->child, PAGE, &mapping);
	EXPECT_EQ(0, polled(self->root, 0));
	EXPECT_EQ(0, polled(self->child, 50));
	EXPECT_EQ(0, polled(mapping, 0));
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_EQ(0, polled(self->root, 0));
	EXPECT_EQ(POLLHUP, polled(self->child, 0));
	EXPECT_EQ(POLLHUP, polled(self->grandchild, 0));
	EXPECT_EQ(POLLHUP, polled(mapping, 0));
	EXPECT_OK(KnHandleClose(mapping));
}

static void *poll_thread(void *arg)
{
	return (void *)(uintptr_t)polled(*(Handle *)arg, 20 * 1000);
}

static void *epoll_thread(void *arg)
{
	struct epoll_event event = { 0 };

	/* Timed out: no events. */
	if (epoll_wait(*(int *)arg, &event, 1, 20 * 1000) != 1)
		return NULL;
	return (void *)(uintptr_t)event.events;
}

TEST_F(tree, pollers_are_woken_with_hup)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	pthread_t threads[3];
	Handle access;
	void *result;

	ASSERT_OK(KnIoDmaBegin(self->grandchild, &access));
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, self->child, &event));
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, poll_thread,
				    &self->grandchild));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, epoll_thread, &epoll));
	ASSERT_EQ(0, pthread_create(&threads[2], NULL, poll_thread, &access));
	usleep(300 * 1000);
	ASSERT_OK(KnHandleRevokeEx(self->root, rtl_false));
	ASSERT_EQ(0, pthread_join(threads[0], &result));
	EXPECT_EQ(POLLHUP, (uintptr_t)result);
	ASSERT_EQ(0, pthread_join(threads[1], &result));
	EXPECT_EQ(EPOLLHUP, (uintptr_t)result);
	ASSERT_EQ(0, pthread_join(threads[2], &result));
	EXPECT_EQ(POLLHUP, (uintptr_t)result);
	EXPECT_OK(KnHandleClose(access));
	close(epoll);
}

/* ---- devices ---- */

FIXTURE(device)
{
	struct edu edu;
	struct begun from; /* the content that is sent */
};

FIXTURE_SETUP(device)
{
	probe_require_module();
	edu_require(&self->edu, 0);
	edu_require_translation(&self->edu);
	edu_open(&self->edu, 0);
	begun_open(&self->from, PAGE, NONE);
}

FIXTURE_TEARDOWN(device)
{
	begun_close(&self->from);
	edu_unmap_registers(&self->edu);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

TEST_F(device, revoke_cuts_off_what_descendants_opened_and_nothing_else)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR), mapping;
	Handle child = buffer_copy(buffer, OCAP_DMA_FULL);
	Handle grandchild = buffer_copy(child, OCAP_DMA_FULL);
	Handle own = access_begin(buffer), lent[2];
	volatile uint8_t *mem = buffer_map(buffer, PAGE, &mapping);
	uint64_t addr, lent_addr[2];

	lent[0] = access_begin(child);
	lent[1] = access_begin(grandchild);
	addr = access_addr(own);
	lent_addr[0] = access_addr(lent[0]);
	lent_addr[1] = access_addr(lent[1]);
	EXPECT_TRUE(probe_lands(&self->edu, &self->from, addr, mem));
	EXPECT_TRUE(probe_lands(&self->edu, &self->from, lent_addr[0], mem));
	EXPECT_TRUE(probe_lands(&self->edu, &self->from, lent_addr[1], mem));

	/* A closed handle's accesses are taken as well. */
	ASSERT_OK(KnHandleClose(child));
	ASSERT_OK(KnHandleRevokeEx(buffer, rtl_false));
	EXPECT_FALSE(probe_lands(&self->edu, &self->from, lent_addr[0], mem));
	EXPECT_FALSE(probe_lands(&self->edu, &self->from, lent_addr[1], mem));
	EXPECT_TRUE(probe_lands(&self->edu, &self->from, addr, mem));

	/* Closing the handle leaves what was opened through it. */
	ASSERT_OK(KnHandleRevoke(buffer));
	EXPECT_TRUE(probe_lands(&self->edu, &self->from, addr, mem));
	EXPECT_OK(KnHandleClose(own));
	EXPECT_FALSE(probe_lands(&self->edu, &self->from, addr, mem));
	EXPECT_OK(KnHandleClose(lent[0]));
	EXPECT_OK(KnHandleClose(lent[1]));
	EXPECT_OK(KnHandleClose(grandchild));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(device, badge_cuts_off_the_marked_copy_only)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR), badge, mapping;
	volatile uint8_t *mem = buffer_map(buffer, PAGE, &mapping);
	Handle marked, plain, access[2];
	uint64_t addr[2];

	ASSERT_OK(KnHandleCreateBadge(NONE, 0, NULL, &badge));
	ASSERT_OK(KnHandleCopy(buffer, OCAP_DMA_FULL, badge, &marked));
	plain = buffer_copy(buffer, OCAP_DMA_FULL);
	access[0] = access_begin(marked);
	access[1] = access_begin(plain);
	for (int i = 0; i < 2; i++)
		addr[i] = access_addr(access[i]);
	ASSERT_OK(KnHandleRevokeSubtree(buffer, badge));
	EXPECT_FALSE(probe_lands(&self->edu, &self->from, addr[0], mem));
	EXPECT_TRUE(probe_lands(&self->edu, &self->from, addr[1], mem));
	for (int i = 0; i < 2; i++)
		EXPECT_OK(KnHandleClose(access[i]));
	EXPECT_OK(KnHandleClose(plain));
	EXPECT_OK(KnHandleClose(marked));
	EXPECT_OK(KnHandleClose(badge));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(buffer));
}

/* The untrusted driver: gets a buffer, has the device, and loses it again. */
static void driver_process(int sock, int sync)
{
	struct edu edu;
	struct begun from;
	Handle handle, access, mapping;
	volatile uint8_t *mem;
	uint64_t addr;

	ASSERT_OK(KosHandleReceive(sock, &handle));
	edu_open(&edu, 0);
	begun_open(&from, PAGE, NONE);
	access = access_begin(handle);
	addr = access_addr(access);
	mem = buffer_map(handle, PAGE, &mapping);
	EXPECT_TRUE(probe_lands(&edu, &from, addr, mem));
	probe_signal(sync);

	probe_await(sync);
	EXPECT_EQ(SIGBUS, probe_read(mem));
	EXPECT_EQ(SIGBUS, probe_write(mem));
	EXPECT_TRUE(revoked(handle));
	EXPECT_RC(rcHandleRevoked, KnIoDmaBegin(handle, &access));
	memset((void *)from.mem, 0xbd, 16);
	edu_copy_in(&edu, from.addr, 0, 16);
	edu_copy_out(&edu, 0, addr, 16);
	probe_signal(sync);

	/* Its device still works. */
	probe_await(sync);
	EXPECT_TRUE(probe_lands(&edu, &from, from.addr + 512, from.mem + 512));
}

TEST(revoke_takes_a_buffer_back_from_a_driver_in_another_process)
{
	Handle buffer, mapping;
	volatile uint8_t *mem;
	struct edu edu;
	int sock[2], sync[2];
	pid_t pid;

	probe_require_module();
	edu_require(&edu, 0);
	edu_require_translation(&edu);
	buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	mem = buffer_map(buffer, PAGE, &mapping);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	pid = test_fork();
	if (!pid) {
		driver_process(sock[1], sync[1]);
		test_child_exit();
	}
	ASSERT_OK(KosHandleSend(sock[0], buffer, OCAP_DMA_DEVICE));
	probe_await(sync[0]);
	EXPECT_NE(0, mem[0]);

	ASSERT_OK(KnHandleRevokeEx(buffer, rtl_false));
	memset((void *)mem, 0x21, PAGE);
	probe_signal(sync[0]);
	probe_await(sync[0]);
	EXPECT_EQ(PAGE, first_not((void *)mem, PAGE, 0x21));
	probe_signal(sync[0]);
	test_wait(pid);
	EXPECT_EQ(PAGE, first_not((void *)mem, PAGE, 0x21));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(buffer));
}

/* ---- dup and raw descriptors ---- */

TEST_F(tree, dup_is_the_same_handle)
{
	Handle twin = dup(self->child);
	uint32_t sid[2];

	ASSERT_NE(NONE, twin);
	EXPECT_OK(KnHandleGetSidByHandle(self->child, &sid[0]));
	EXPECT_OK(KnHandleGetSidByHandle(twin, &sid[1]));
	EXPECT_EQ(sid[0], sid[1]);
	/* Closing one leaves the other alive, and its descendants. */
	EXPECT_OK(KnHandleClose(self->child));
	EXPECT_FALSE(probe_is_open(self->child));
	expect_rights(twin, OCAP_DMA_FULL);
	EXPECT_FALSE(revoked(self->grandchild));
	/* Revoking through it reaches what the other made. */
	EXPECT_OK(KnHandleRevokeEx(twin, rtl_false));
	EXPECT_TRUE(revoked(self->grandchild));
	self->child = dup(twin);
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_TRUE(revoked(self->child));
	EXPECT_TRUE(revoked(twin));
	EXPECT_OK(KnHandleClose(twin));
}

TEST_F(tree, bare_close_of_a_transferable_handle_is_KnHandleClose)
{
	Handle mapping;
	volatile uint8_t *mem = buffer_map(self->child, PAGE, &mapping);

	ASSERT_EQ(0, close(self->child));
	EXPECT_FALSE(revoked(self->grandchild));
	EXPECT_EQ(0, probe_write(mem));
	EXPECT_OK(KnHandleRevokeEx(self->root, rtl_false));
	EXPECT_TRUE(revoked(self->grandchild));
	EXPECT_EQ(SIGBUS, probe_write(mem));
	EXPECT_OK(KnHandleClose(mapping));
}

TEST_F(kinds, close_of_one_dup_ends_a_private_object_and_the_other_is_dead)
{
	static const enum kind kinds[] = { MAPPING, ACCESS, REGION_MAPPING,
					   DOMAIN, BADGE };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		enum kind kind = kinds[i];
		Handle twin = dup(self->h[kind]);

		ASSERT_NE(NONE, twin);
		EXPECT_OK(KnHandleClose(self->h[kind]));
		EXPECT_FALSE(probe_is_open(self->h[kind]));
		/* Before its type or its rights are looked at. */
		if (kind != DOMAIN) /* which the calls themselves need */
			expect_calls(self, kind, twin, rcResourceNotFound,
				     rcResourceNotFound);
		EXPECT_RC(rcResourceNotFound, call_get_sid(self, twin));
		EXPECT_EQ(POLLHUP, polled(twin, 0));
		EXPECT_TRUE(probe_is_open(twin));
		EXPECT_OK(KnHandleClose(twin));
		EXPECT_FALSE(probe_is_open(twin));
		EXPECT_RC(rcResourceNotFound, KnHandleClose(twin));
	}
	EXPECT_EQ(SIGSEGV, probe_read(self->mem));
	EXPECT_EQ(SIGSEGV, probe_read((void *)self->regs));
}

TEST_F(kinds, bare_close_ends_a_private_object_with_its_last_descriptor)
{
	Handle twin = dup(self->h[ACCESS]);
	DmaInfo *info;

	ASSERT_NE(NONE, twin);
	ASSERT_EQ(0, close(self->h[ACCESS]));
	info = buffer_info(twin);
	KosMemFree(info);
	/* The buffer is begun, and cannot be modified. */
	EXPECT_OK(KnHandleClose(self->h[MAPPING]));
	EXPECT_RC(rcInvalidOperation,
		  KnIoDmaModify(self->h[BUFFER], DMA_ATTR_WRITE_BACK));
	ASSERT_EQ(0, close(twin));
	EXPECT_OK(KnIoDmaModify(self->h[BUFFER], DMA_ATTR_WRITE_BACK));
}

TEST_F(kinds, raw_copy_of_a_private_handle_is_useless_elsewhere)
{
	static const enum kind kinds[] = { MAPPING, ACCESS, DOMAIN,
					   REGION_MAPPING, BADGE };
	int fds[ARRAY_SIZE(kinds)];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		fds[i] = self->h[kinds[i]];
	probe_send_fds(self->sock[0], fds, ARRAY_SIZE(kinds));
	IN_CHILD {
		int got[ARRAY_SIZE(kinds)];

		ASSERT_EQ(ARRAY_SIZE(kinds),
			  probe_receive_fds(self->sock[1], got,
					    ARRAY_SIZE(kinds)));
		/* A domain of its own, for the calls that need one. */
		self->h[DOMAIN] = domain_create();
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			/* The type is looked at first. */
			expect_calls(self, kinds[i], got[i], rcNoCapability,
				     rcInvalidArgument);
		/* Closing closes, and nothing else. */
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			EXPECT_OK(KnHandleClose(got[i]));
			EXPECT_FALSE(probe_is_open(got[i]));
		}
	}
	EXPECT_EQ(0, probe_write(self->mem));
	EXPECT_EQ(0xed, *self->regs & 0xff);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		test_context("%s", kind_names[kinds[i]]);
		EXPECT_OK(call_get_sid(self, self->h[kinds[i]]));
	}
}

/* A child has its parent's descriptors, and the same rule holds. */
TEST_F(kinds, inherited_private_handle_is_useless_in_a_child)
{
	IN_CHILD {
		static const enum kind kinds[] = { MAPPING, ACCESS,
						   REGION_MAPPING, BADGE };

		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			EXPECT_RC(rcNoCapability,
				  call_get_sid(self, self->h[kinds[i]]));
			EXPECT_OK(KnHandleClose(self->h[kinds[i]]));
		}
		EXPECT_RC(rcNoCapability,
			  call_attach(self, self->h[DOMAIN]));
		EXPECT_RC(rcNoCapability,
			  call_detach(self, self->h[DOMAIN]));
		EXPECT_RC(rcNoCapability,
			  call_begin_ex_domain(self, self->h[DOMAIN]));
		EXPECT_OK(KnHandleClose(self->h[DOMAIN]));
	}
	EXPECT_EQ(0, probe_write(self->mem));
	EXPECT_OK(call_get_info(self, self->h[ACCESS]));
	EXPECT_OK(KnIommuAttachDeviceToDomain(self->edu.bdf, self->h[DOMAIN]));
	EXPECT_OK(KnIommuDetachDeviceFromDomain(self->edu.bdf,
						self->h[DOMAIN]));
}

TEST_F(kinds, raw_copy_of_a_transferable_handle_works_elsewhere)
{
	int fds[2] = { self->h[BUFFER], self->h[REGION] };
	Handle child = buffer_copy(self->h[BUFFER], OCAP_DMA_READ);

	fds[0] = child;
	EXPECT_OK(KnHandleClose(self->h[REGION_MAPPING]));
	*self->mem = 0x42;
	probe_send_fds(self->sock[0], fds, 2);
	IN_CHILD {
		int got[2];
		uint32_t rights;
		Handle mapping;
		void *addr;

		ASSERT_EQ(2, probe_receive_fds(self->sock[1], got, 2));
		EXPECT_EQ(0, probe_handle(got[0], NULL, &rights));
		EXPECT_EQ(OCAP_DMA_READ, rights);
		ASSERT_OK(KnIoDmaMap(got[0], 0, PAGE, NULL, VMM_FLAG_READ,
				     &addr, &mapping));
		EXPECT_EQ(0x42, *(volatile uint8_t *)addr);
		EXPECT_RC(rcNoCapability,
			  KnIoDmaMap(got[0], 0, PAGE, NULL, VMM_READ_WRITE,
				     &addr, &mapping));
		ASSERT_OK(KnIoMapMem(got[1], VMM_FLAG_READ, 0, &addr,
				     &mapping));
		EXPECT_EQ(0xed, IoReadMmReg32(addr) & 0xff);
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(got[0]));
		EXPECT_OK(KnHandleClose(got[1]));
	}
	/* The child closed its copies, not ours. */
	EXPECT_OK(call_begin(self, self->h[BUFFER]));
	EXPECT_FALSE(revoked(child));
	EXPECT_OK(call_map_mem(self, self->h[REGION]));
	EXPECT_OK(KnHandleClose(child));
}

TEST_HARNESS_MAIN
