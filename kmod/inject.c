// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters behind inject.h
 */
#include <linux/moduleparam.h>

#include "inject.h"

bool kosdma_inject_unquiet;
module_param_named(inject_unquiet, kosdma_inject_unquiet, bool, 0600);
