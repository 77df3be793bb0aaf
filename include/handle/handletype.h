/* SPDX-License-Identifier: MIT */
/*
 * Handle, INVALID_HANDLE
 */
#ifndef HANDLE_HANDLETYPE_H
#define HANDLE_HANDLETYPE_H

#include <kos/types.h>
#include <rtl/retcode.h>

#endif /* HANDLE_HANDLETYPE_H */
