/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A test harness in the manner of the kernel's kselftest_harness.h, which no
 * package provides.
 *
 *	TEST(name) { ... }
 *
 *	FIXTURE(buf) { Handle h; };
 *	FIXTURE_VARIANT(buf) { size_t size; };		// optional
 *	FIXTURE_VARIANT_ADD(buf, small) { .size = 4096 };
 *	FIXTURE_SETUP(buf) { ... self->h, variant->size ... }
 *	FIXTURE_TEARDOWN(buf) { ... }
 *	TEST_F(buf, name) { ... }
 *
 *	TEST_HARNESS_MAIN
 *
 * Each test, its setup and its teardown run in a forked child that leads a
 * process group; what is left of the group is killed when the test ends. A
 * kernel splat in the log during a test fails the test. Output is KTAP. Exit
 * status: 0 all passed, 1 some failed, 4 all were skipped.
 *
 * ASSERT_x ends the test (its teardown still runs), EXPECT_x records the
 * failure and goes on. Both work in helper functions. In a process that the
 * test has forked, ASSERT ends that process with status 1; in a thread, it
 * ends the thread; the test fails if it waits by means of IN_CHILD or
 * test_wait(). Comparisons take the expected value first.
 *
 * Options: -l lists the tests, -t PATTERN (repeatable) runs those whose name
 * contains PATTERN or matches it as a shell pattern.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include <rtl/retcode.h>

/* Operands of EQ are as mixed as the literals that tests are written with. */
#pragma GCC diagnostic ignored "-Wsign-compare"

enum {
	TEST_EXIT_PASS = 0,
	TEST_EXIT_FAIL = 1,
	TEST_EXIT_SKIP = 4,
};

#define TEST_TIMEOUT_DEFAULT 120 /* seconds; guests are emulated */

struct test_fixture {
	const char *name;
	size_t size;
	void (*setup)(void *self, const void *variant);
	void (*teardown)(void *self, const void *variant);
};

struct test_variant {
	const struct test_fixture *fixture;
	const char *name;
	const void *data;
	int line;
	struct test_variant *next;
};

struct test_case {
	const struct test_fixture *fixture; /* NULL: none */
	const char *name;
	void (*run)(void *self, const void *variant);
	unsigned int timeout;
	int line;
	struct test_case *next;
};

void test_register_case(struct test_case *t);
void test_register_variant(struct test_variant *v);
int test_main(int argc, char **argv);

/* A line "# ..." of diagnostic output. */
void test_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What the following checks are about (a loop's iteration); "" ends it. */
void test_context(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void test_failed(bool fatal, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void test_skip(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));

/*
 * Processes of a test. test_child_exit() ends one with the status that its
 * checks ask for; test_wait() fails the test unless that was success.
 */
pid_t test_fork(void);
void test_child_exit(void) __attribute__((noreturn));
int test_nr_failures(void); /* of this process */
void test_wait_at(pid_t pid, const char *file, int line);
#define test_wait(pid) test_wait_at(pid, __FILE__, __LINE__)

int test_in_child_begin(const char *file, int line);
int test_in_child_end(void) __attribute__((noreturn));

/* IN_CHILD { ... }: run the block in a forked child and wait for it. */
#define IN_CHILD                                                               \
	for (int _in_child = test_in_child_begin(__FILE__, __LINE__);          \
	     _in_child; _in_child = test_in_child_end())

/* How long to wait on this kernel for what takes no more than @seconds. */
unsigned int test_seconds(unsigned int seconds);

/* The name of a code, such as "rcOk". */
const char *test_rc_name(Retcode rc);

#define TEST_TIMEOUT(test_name, seconds)                                       \
	static void test_run_##test_name(void);                                \
	static void test_call_##test_name(                                     \
		void *self __attribute__((unused)),                            \
		const void *variant __attribute__((unused)))                   \
	{                                                                      \
		test_run_##test_name();                                        \
	}                                                                      \
	static struct test_case test_case_##test_name = {                      \
		.name = #test_name,                                            \
		.run = test_call_##test_name,                                  \
		.timeout = seconds,                                            \
		.line = __LINE__,                                              \
	};                                                                     \
	static void __attribute__((constructor)) test_ctor_##test_name(void)   \
	{                                                                      \
		test_register_case(&test_case_##test_name);                    \
	}                                                                      \
	static void test_run_##test_name(void)

#define TEST(name) TEST_TIMEOUT(name, TEST_TIMEOUT_DEFAULT)

#define FIXTURE(fixture_name)                                                  \
	struct fixture_data_##fixture_name;                                    \
	struct fixture_variant_##fixture_name;                                 \
	static void fixture_setup_##fixture_name(void *self,                   \
						 const void *variant);         \
	static void fixture_teardown_##fixture_name(void *self,                \
						    const void *variant);      \
	static struct test_fixture fixture_##fixture_name = {                  \
		.name = #fixture_name,                                         \
		.setup = fixture_setup_##fixture_name,                         \
		.teardown = fixture_teardown_##fixture_name,                   \
	};                                                                     \
	struct fixture_data_##fixture_name

#define FIXTURE_VARIANT(fixture_name)                                          \
	struct fixture_variant_##fixture_name

#define FIXTURE_VARIANT_ADD(fixture_name, variant_name)                        \
	static const struct fixture_variant_##fixture_name                     \
		variant_data_##fixture_name##_##variant_name;                  \
	static struct test_variant                                             \
		test_variant_##fixture_name##_##variant_name = {               \
			.fixture = &fixture_##fixture_name,                    \
			.name = #variant_name,                                 \
			.data = &variant_data_##fixture_name##_##variant_name, \
			.line = __LINE__,                                      \
		};                                                             \
	static void __attribute__((constructor))                               \
	variant_ctor_##fixture_name##_##variant_name(void)                     \
	{                                                                      \
		test_register_variant(                                         \
			&test_variant_##fixture_name##_##variant_name);        \
	}                                                                      \
	static const struct fixture_variant_##fixture_name                     \
		variant_data_##fixture_name##_##variant_name =

#define FIXTURE_BODY_(fixture_name, what)                                      \
	static void fixture_do_##what##_##fixture_name(                        \
		struct fixture_data_##fixture_name *self,                      \
		const struct fixture_variant_##fixture_name *variant);         \
	static void fixture_##what##_##fixture_name(void *self,                \
						    const void *variant)       \
	{                                                                      \
		fixture_do_##what##_##fixture_name(self, variant);             \
	}                                                                      \
	static void fixture_do_##what##_##fixture_name(                        \
		struct fixture_data_##fixture_name *self                       \
		__attribute__((unused)),                                       \
		const struct fixture_variant_##fixture_name *variant           \
		__attribute__((unused)))

#define FIXTURE_SETUP(fixture_name)                                            \
	static void __attribute__((constructor))                               \
	fixture_ctor_##fixture_name(void)                                      \
	{                                                                      \
		fixture_##fixture_name.size =                                  \
			sizeof(struct fixture_data_##fixture_name);            \
	}                                                                      \
	FIXTURE_BODY_(fixture_name, setup)

#define FIXTURE_TEARDOWN(fixture_name) FIXTURE_BODY_(fixture_name, teardown)

#define TEST_F_TIMEOUT(fixture_name, test_name, seconds)                       \
	static void test_run_##fixture_name##_##test_name(                     \
		struct fixture_data_##fixture_name *self,                      \
		const struct fixture_variant_##fixture_name *variant);         \
	static void test_call_##fixture_name##_##test_name(                    \
		void *self, const void *variant)                               \
	{                                                                      \
		test_run_##fixture_name##_##test_name(self, variant);          \
	}                                                                      \
	static struct test_case test_case_##fixture_name##_##test_name = {     \
		.fixture = &fixture_##fixture_name,                            \
		.name = #test_name,                                            \
		.run = test_call_##fixture_name##_##test_name,                 \
		.timeout = seconds,                                            \
		.line = __LINE__,                                              \
	};                                                                     \
	static void __attribute__((constructor))                               \
	test_ctor_##fixture_name##_##test_name(void)                           \
	{                                                                      \
		test_register_case(&test_case_##fixture_name##_##test_name);   \
	}                                                                      \
	static void test_run_##fixture_name##_##test_name(                     \
		struct fixture_data_##fixture_name *self                       \
		__attribute__((unused)),                                       \
		const struct fixture_variant_##fixture_name *variant           \
		__attribute__((unused)))

#define TEST_F(fixture_name, test_name)                                        \
	TEST_F_TIMEOUT(fixture_name, test_name, TEST_TIMEOUT_DEFAULT)

#define TEST_HARNESS_MAIN                                                      \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		return test_main(argc, argv);                                  \
	}

#define SKIP(...) test_skip(__VA_ARGS__)

/* A fatal failure does not come back. */
#define TEST_FAILED_(fatal, ...)                                               \
	do {                                                                   \
		test_failed(fatal, __FILE__, __LINE__, __VA_ARGS__);           \
		if (fatal)                                                     \
			__builtin_unreachable();                               \
	} while (0)

#define TEST_CMP_(fatal, expected, op, seen)                                   \
	do {                                                                   \
		/* + 0: bit-fields have no type of their own. */               \
		__auto_type _exp = (expected) + 0;                             \
		__auto_type _seen = (seen) + 0;                                \
		if (!(_exp op _seen))                                          \
			TEST_FAILED_(fatal, "expected %s (%#llx) %s %s (%#llx)", \
				    #expected,                                 \
				    (unsigned long long)(uintptr_t)_exp, #op,  \
				    #seen,                                     \
				    (unsigned long long)(uintptr_t)_seen);     \
	} while (0)

#define TEST_BOOL_(fatal, want, cond)                                          \
	do {                                                                   \
		if (((cond) ? true : false) != (want))                         \
			TEST_FAILED_(fatal, "expected %s to be %s", #cond,     \
				    (want) ? "true" : "false");                \
	} while (0)

#define TEST_STR_(fatal, expected, seen)                                       \
	do {                                                                   \
		const char *_exp = (expected), *_seen = (seen);                \
		if (!_exp || !_seen || strcmp(_exp, _seen))                    \
			TEST_FAILED_(fatal, "expected \"%s\", %s is \"%s\"",   \
				    _exp ? _exp : "(null)", #seen,             \
				    _seen ? _seen : "(null)");                 \
	} while (0)

#define TEST_RC_(fatal, expected, call)                                        \
	do {                                                                   \
		Retcode _exp = (expected), _seen = (call);                     \
		if (_exp != _seen)                                             \
			TEST_FAILED_(fatal, "expected %s, got %s from %s",     \
				    test_rc_name(_exp), test_rc_name(_seen),   \
				    #call);                                    \
	} while (0)

/* The call returns -1 and sets errno to the code; 0: it does not return -1. */
#define TEST_ERRNO_(fatal, expected, call)                                     \
	do {                                                                   \
		int _exp = (expected), _seen;                                  \
		errno = 0;                                                     \
		_seen = (call) == -1 ? errno : 0;                              \
		if (_exp != _seen)                                             \
			TEST_FAILED_(fatal, "expected errno %d (%s), got %d (%s) from %s", \
				    _exp, strerrorname_np(_exp), _seen,        \
				    strerrorname_np(_seen), #call);            \
	} while (0)

#define ASSERT_EQ(expected, seen) TEST_CMP_(true, expected, ==, seen)
#define ASSERT_NE(expected, seen) TEST_CMP_(true, expected, !=, seen)
#define ASSERT_LT(expected, seen) TEST_CMP_(true, expected, <, seen)
#define ASSERT_LE(expected, seen) TEST_CMP_(true, expected, <=, seen)
#define ASSERT_GT(expected, seen) TEST_CMP_(true, expected, >, seen)
#define ASSERT_GE(expected, seen) TEST_CMP_(true, expected, >=, seen)
#define ASSERT_TRUE(cond) TEST_BOOL_(true, true, cond)
#define ASSERT_FALSE(cond) TEST_BOOL_(true, false, cond)
#define ASSERT_NULL(ptr) TEST_CMP_(true, (const void *)0, ==, (const volatile void *)(ptr))
#define ASSERT_NOT_NULL(ptr) TEST_CMP_(true, (const void *)0, !=, (const volatile void *)(ptr))
#define ASSERT_STREQ(expected, seen) TEST_STR_(true, expected, seen)
#define ASSERT_RC(expected, call) TEST_RC_(true, expected, call)
#define ASSERT_OK(call) TEST_RC_(true, rcOk, call)
#define ASSERT_ERRNO(expected, call) TEST_ERRNO_(true, expected, call)

#define EXPECT_EQ(expected, seen) TEST_CMP_(false, expected, ==, seen)
#define EXPECT_NE(expected, seen) TEST_CMP_(false, expected, !=, seen)
#define EXPECT_LT(expected, seen) TEST_CMP_(false, expected, <, seen)
#define EXPECT_LE(expected, seen) TEST_CMP_(false, expected, <=, seen)
#define EXPECT_GT(expected, seen) TEST_CMP_(false, expected, >, seen)
#define EXPECT_GE(expected, seen) TEST_CMP_(false, expected, >=, seen)
#define EXPECT_TRUE(cond) TEST_BOOL_(false, true, cond)
#define EXPECT_FALSE(cond) TEST_BOOL_(false, false, cond)
#define EXPECT_NULL(ptr) TEST_CMP_(false, (const void *)0, ==, (const volatile void *)(ptr))
#define EXPECT_NOT_NULL(ptr) TEST_CMP_(false, (const void *)0, !=, (const volatile void *)(ptr))
#define EXPECT_STREQ(expected, seen) TEST_STR_(false, expected, seen)
#define EXPECT_RC(expected, call) TEST_RC_(false, expected, call)
#define EXPECT_OK(call) TEST_RC_(false, rcOk, call)
#define EXPECT_ERRNO(expected, call) TEST_ERRNO_(false, expected, call)

#endif /* TESTS_HARNESS_H */
