// SPDX-License-Identifier: GPL-2.0-only
/*
 * Order: what the accessors of registers promise to threads of a program and
 * between a program and its device. tests/host looks at the instructions.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/probe.h"

#define NONE INVALID_HANDLE

enum {
	ROUNDS = 200 * 1000,
	DOORBELLS = 12,
	/* Each in a cache line of its own. */
	LINE = 64,
	NR_DATA = 8,
};

FIXTURE(order)
{
	Handle buffer, mapping;
	volatile uint8_t *mem;
};

FIXTURE_VARIANT(order)
{
	DmaAttr attr;
};

FIXTURE_VARIANT_ADD(order, write_back) { .attr = DMA_ATTR_WRITE_BACK };
FIXTURE_VARIANT_ADD(order, uncached) { .attr = DMA_ATTR_CACHE_DISABLE };
FIXTURE_VARIANT_ADD(order, write_combining) { .attr = DMA_ATTR_WRITE_COMBINE };

FIXTURE_SETUP(order)
{
	device_warm_up();
	self->buffer = buffer_create(0, PAGE, variant->attr);
	self->mem = buffer_map(self->buffer, PAGE, &self->mapping);
}

FIXTURE_TEARDOWN(order)
{
	EXPECT_OK(KnHandleClose(self->mapping));
	EXPECT_OK(KnHandleClose(self->buffer));
}

struct run {
	volatile uint8_t *mem;
	bool stop;
};

static bool stopped(struct run *run)
{
	return __atomic_load_n(&run->stop, __ATOMIC_RELAXED);
}

static void set_cpus(pthread_t thread, int nr)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int i = 0; i < nr; i++)
		CPU_SET(i, &cpus);
	ASSERT_EQ(0, pthread_setaffinity_np(thread, sizeof(cpus), &cpus));
}

static pthread_t start(struct run *run, void *(*body)(void *), void *mem)
{
	pthread_t thread;

	*run = (struct run){ .mem = mem };
	ASSERT_EQ(0, pthread_create(&thread, NULL, body, run));
	return thread;
}

/*
 * The i-th round of a reader. For half of them both threads are on one CPU, and
 * take turns often even where processors are emulated one after the other.
 */
static void take_turn(pthread_t writer, int i)
{
	if (i == 0 || i == ROUNDS / 2) {
		int nr = i ? sysconf(_SC_NPROCESSORS_CONF) : 1;

		set_cpus(pthread_self(), nr);
		set_cpus(writer, nr);
	}
	if (!(i & 0xff))
		sched_yield();
}

static void stop(struct run *run, pthread_t thread)
{
	__atomic_store_n(&run->stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/*
 * Message passing: plain stores of data, then the flag by an accessor. Whoever
 * reads the flag by an accessor finds, in plain loads, data no older than it.
 */
static void *pass_messages(void *arg)
{
	struct run *run = arg;
	uint32_t *data = (uint32_t *)(run->mem + LINE);

	for (uint32_t i = 1; !stopped(run); i++) {
		for (int k = 0; k < NR_DATA; k++)
			data[k * LINE / 4] = i;
		IoWriteMmReg32(run->mem, i);
		if (!(i & 0xff))
			sched_yield();
	}
	return NULL;
}

TEST_F(order, flag_is_not_seen_before_the_data_that_it_announces)
{
	uint32_t *data = (uint32_t *)(self->mem + LINE);
	uint32_t last = 0, changes = 0;
	struct run run;
	pthread_t thread = start(&run, pass_messages, (void *)self->mem);

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t flag = IoReadMmReg32(self->mem);

		for (int k = 0; k < NR_DATA; k++) {
			uint32_t seen = data[k * LINE / 4];

			if ((int32_t)(seen - flag) < 0) {
				EXPECT_GE(seen, flag);
				goto out;
			}
		}
		changes += flag != last;
		last = flag;
		take_turn(thread, i);
	}
out:
	stop(&run, thread);
	/* Else nothing was tried. */
	EXPECT_GT(changes, 10);
}

/* Coherence: one place's values are seen in the order in which they were written. */
static void *count_up(void *arg)
{
	struct run *run = arg;

	for (uint64_t i = 1; !stopped(run); i++) {
		/* Both halves, and both kinds of bits, change each time. */
		uint64_t value = i << 32 | (uint32_t)~i;

		IoWriteMmReg64(run->mem, value);
		if (!(i & 0xff))
			sched_yield();
	}
	return NULL;
}

TEST_F(order, values_of_one_register_come_in_order_and_whole)
{
	uint64_t last = 0, changes = 0;
	struct run run;
	pthread_t thread;

	IoWriteMmReg64(self->mem, ~0u);
	thread = start(&run, count_up, (void *)self->mem);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t value = IoReadMmReg64(self->mem);
		uint32_t high = value >> 32;

		if ((uint32_t)value != ~high || (int32_t)(high - last) < 0) {
			EXPECT_EQ((uint32_t)value, ~high);
			EXPECT_GE(high, last);
			break;
		}
		changes += high != last;
		last = high;
		take_turn(thread, i);
	}
	stop(&run, thread);
	EXPECT_GT(changes, 10);
}

/* Two registers, written and read by accessors in opposite orders. */
static void *write_two(void *arg)
{
	struct run *run = arg;

	for (uint32_t i = 1; !stopped(run); i++) {
		IoWriteMmReg16(run->mem, i);
		IoWriteMmReg8(run->mem + LINE, i);
		if (!(i & 0x3f))
			sched_yield();
	}
	return NULL;
}

TEST_F(order, writes_of_two_registers_are_seen_in_order)
{
	struct run run;
	pthread_t thread = start(&run, write_two, (void *)self->mem);

	for (int i = 0; i < ROUNDS; i++) {
		uint8_t second = IoReadMmReg8(self->mem + LINE);
		uint16_t first = IoReadMmReg16(self->mem);

		/* The writer went on at most a little between the two reads. */
		if ((int8_t)((uint8_t)first - second) < 0) {
			/* Far on is possible; behind is not: ask again. */
			uint8_t again = IoReadMmReg8(self->mem + LINE);

			if (again == second) {
				EXPECT_GE((uint8_t)first, second);
				break;
			}
		}
		take_turn(thread, i);
	}
	stop(&run, thread);
}

/* What was stored before the doorbell is what the device reads. */
TEST_F(order, device_reads_what_was_written_before_the_doorbell)
{
	Handle access[2], target, mapping;
	struct edu edu;
	uint8_t *from = (uint8_t *)self->mem, *to;

	edu_open(&edu, 0);
	target = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	to = buffer_map(target, PAGE, &mapping);
	access[0] = access_begin(self->buffer);
	access[1] = access_begin(target);
	for (int i = 0; i < DOORBELLS; i++) {
		test_context("doorbell %d", i);
		pattern_fill(from, 512, i);
		edu_copy_in(&edu, access_addr(access[0]), 0, 512);
		/* Too late for the device. */
		pattern_fill(from, 512, i + 1000);
		edu_copy_out(&edu, 0, access_addr(access[1]), 512);
		pattern_check(to, 512, i);
		if (test_nr_failures())
			break;
	}
	test_context("%s", "");
	EXPECT_OK(KnHandleClose(access[0]));
	EXPECT_OK(KnHandleClose(access[1]));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(target));
	edu_unmap_registers(&edu);
	EXPECT_OK(KnIommuDetachDevice(edu.bdf));
}

TEST_HARNESS_MAIN
