// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's that writes down the blocks of code that the guest
 * executes: a line "address instructions" for each, from the AFTERth execution
 * of the block at START on, COUNT of them. Arguments come by the environment.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* No package has qemu-plugin.h. This is its version 1, as far as it is used. */
struct qemu_plugin_tb;
struct qemu_info_t;

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
					  void (*cb)(unsigned int cpu, void *data), int flags,
					  void *data);

int qemu_plugin_version = 1;

struct block {
	uint64_t address;
	size_t instructions;
};

static uint64_t start;
static long after, count;
static FILE *out;

static void execute(unsigned int cpu, void *data)
{
	const struct block *block = data;

	(void)cpu;
	if (after && (block->address != start || --after))
		return;
	if (count <= 0)
		return;
	fprintf(out, "%" PRIx64 " %zu\n", block->address, block->instructions);
	if (!--count)
		fclose(out);
}

static void translate(uint64_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = malloc(sizeof(*block));

	(void)id;
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, execute, 0, block);
}

int qemu_plugin_install(uint64_t id, const struct qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	(void)argc;
	(void)argv;
	start = strtoull(getenv("START"), NULL, 16);
	after = atol(getenv("AFTER"));
	count = atol(getenv("COUNT"));
	out = fopen(getenv("TRACE"), "w");
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
