// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters behind inject.h
 */
#include <linux/limits.h>
#include <linux/moduleparam.h>

#include "inject.h"

bool kosdma_inject_unquiet;
module_param_named(inject_unquiet, kosdma_inject_unquiet, bool, 0600);

uint kosdma_inject_block_order = UINT_MAX;
module_param_named(inject_block_order, kosdma_inject_block_order, uint, 0600);

uint kosdma_inject_teardown_ms;
module_param_named(inject_teardown_ms, kosdma_inject_teardown_ms, uint, 0600);
