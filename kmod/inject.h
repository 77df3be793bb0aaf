/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults on demand, in the test build only (make KOSDMA_TEST_BUILD=y): what no
 * emulated machine does by itself. Each is a parameter of the module.
 */
#ifndef KOSDMA_INJECT_H
#define KOSDMA_INJECT_H

#ifdef KOSDMA_TEST_BUILD
extern bool kosdma_inject_unquiet;	/* a device is not quiet when it leaves */
extern uint kosdma_inject_block_order;	/* no block is made or listed larger */
extern uint kosdma_inject_teardown_ms;	/* what a dead process left waits so long */
extern uint kosdma_inject_tell_ms;	/* the last events before a pause wait so long to be told */

#define kosdma_inject(fault) READ_ONCE(kosdma_inject_##fault)
#else
#define kosdma_inject_unquiet false
#define kosdma_inject_block_order UINT_MAX
#define kosdma_inject_teardown_ms 0
#define kosdma_inject_tell_ms 0

#define kosdma_inject(fault) kosdma_inject_##fault
#endif

#endif /* KOSDMA_INJECT_H */
