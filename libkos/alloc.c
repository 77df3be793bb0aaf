// SPDX-License-Identifier: MIT
/*
 * Memory that the library allocates for its caller
 */
#include "libkos.h"

#include <stdlib.h>

void KosMemFree(void *ptr)
{
	free(ptr);
}
