// SPDX-License-Identifier: MIT
/*
 * What KasperskyOS 1.1 had
 */
#include "libkos.h"

Retcode KnIoClose(Handle rid)
{
	return KnHandleClose(rid);
}
