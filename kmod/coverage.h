/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which parts of the module ran; only a test build for coverage knows
 */
#ifndef KOSDMA_COVERAGE_H
#define KOSDMA_COVERAGE_H

#ifdef KOSDMA_COVERAGE
void kosdma_coverage_tell(void);
#else
static inline void kosdma_coverage_tell(void) {}
#endif

#endif /* KOSDMA_COVERAGE_H */
