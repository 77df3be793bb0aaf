/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pure logic of the module against reference models
 *
 * Each program has cases that somebody thought of, logic_cases(), and a
 * function that makes a scenario of any bytes, LLVMFuzzerTestOneInput(). The
 * bytes come from main.c: from fixed seeds, or from files that a fuzzer found;
 * or from libFuzzer itself.
 */
#ifndef LOGIC_H
#define LOGIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Stops, so that a fuzzer keeps the bytes. */
#define CHECK(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what); \
			abort(); \
		} \
	} while (0)

/* The bytes that a scenario is made of; zeros when they are used up. */
struct bytes {
	const uint8_t *next;
	size_t left;
};

static inline unsigned int take(struct bytes *bytes)
{
	if (!bytes->left)
		return 0;
	bytes->left--;
	return *bytes->next++;
}

static inline uint64_t take64(struct bytes *bytes)
{
	uint64_t value = 0;
	int i;

	for (i = 0; i < 8; i++)
		value = value << 8 | take(bytes);
	return value;
}

/* A number below @end, which is not 0. */
static inline uint64_t take_below(struct bytes *bytes, uint64_t end)
{
	uint64_t value = take(bytes);

	if (end > 256)
		value = value << 8 | take(bytes);
	return value % end;
}

/* Any number, often one that is near a power of two. */
static inline uint64_t take_edge(struct bytes *bytes)
{
	unsigned int how = take(bytes);

	if (how < 0xc0)
		return (1ULL << (how & 63)) + (uint64_t)(int8_t)take(bytes);
	return take64(bytes) >> (how & 63);
}

void logic_cases(void);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* LOGIC_H */
