// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which parts of the module ran, in a test build for coverage only (make
 * KOSDMA_COVERAGE=y): in any context, on kernels without KCOV. The compiler has
 * each basic block call the function below. When the module is unloaded, the log
 * tells which did; tests/coverage/report reads it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": coverage:" fmt

#include <linux/bitmap.h>
#include <linux/kernel.h>

#include "coverage.h"

void __sanitizer_cov_trace_pc(void);

/* Bit n: a block called from n - SPAN / 2 bytes behind the function. */
#define SPAN 0x100000
#define LINE_MAX 900	/* of a record of the log */

static DECLARE_BITMAP(kosdma_coverage, SPAN);

void notrace __sanitizer_cov_trace_pc(void)
{
	unsigned long n = (unsigned long)__builtin_return_address(0) -
			  (unsigned long)__sanitizer_cov_trace_pc + SPAN / 2;

	/* The code that initializes lies elsewhere. */
	if (n < SPAN && !test_bit(n, kosdma_coverage))
		set_bit(n, kosdma_coverage);
}

/* The last that the module does. */
void kosdma_coverage_tell(void)
{
	static char line[LINE_MAX];
	unsigned int len = 0;
	unsigned long n;

	for_each_set_bit(n, kosdma_coverage, SPAN) {
		len += scnprintf(line + len, LINE_MAX - len, " %ld", (long)n - SPAN / 2);
		if (len > LINE_MAX - 16) {
			pr_notice("%s\n", line);
			len = 0;
		}
	}
	if (len)
		pr_notice("%s\n", line);
}
