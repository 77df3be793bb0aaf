// SPDX-License-Identifier: GPL-2.0-only
/*
 * PROGRAM [COUNT]: the cases, then COUNT scenarios of pseudo-random bytes, the
 * same ones each time
 * PROGRAM FILE...: the scenarios that the files hold
 */
#include "logic.h"

#define MAX_SIZE 2048

static uint64_t state;

/* SplitMix64 */
static uint64_t random64(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Exactly as many bytes as the file has, so that a sanitizer sees one too many. */
static void run_file(const char *name)
{
	FILE *file = fopen(name, "rb");
	uint8_t *data;
	long size;

	if (!file || fseek(file, 0, SEEK_END))
		goto err;
	size = ftell(file);
	if (size < 0)
		goto err;
	rewind(file);
	data = malloc(size ? size : 1);
	if (!data || fread(data, 1, size, file) != (size_t)size)
		goto err;
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return;
err:
	perror(name);
	exit(2);
}

int main(int argc, char **argv)
{
	unsigned long i, count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;

	if (argc > 1 && !count) {
		for (i = 1; i < (unsigned long)argc; i++)
			run_file(argv[i]);
		return 0;
	}
	logic_cases();
	for (i = 0; i < count; i++) {
		uint8_t data[MAX_SIZE];
		size_t size, j;

		state = i;
		size = random64() % sizeof(data);
		for (j = 0; j < size; j++)
			data[j] = random64();
		LLVMFuzzerTestOneInput(data, size);
	}
	printf("# %lu scenarios\n", count);
	return 0;
}
