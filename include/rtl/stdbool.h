/* SPDX-License-Identifier: MIT */
/*
 * rtl_bool, rtl_true, rtl_false
 */
#ifndef RTL_STDBOOL_H
#define RTL_STDBOOL_H

#include <kos/types.h>
#include <rtl/retcode.h>

#endif /* RTL_STDBOOL_H */
