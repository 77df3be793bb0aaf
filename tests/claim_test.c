// SPDX-License-Identifier: GPL-2.0-only
/*
 * Claims: who may register which range against whom, what /proc/iomem and the
 * log say of it, and how a driver of the kernel's and user code meet.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/pci.h"
#include "lib/probe.h"

#define POISON_HANDLE ((Handle)0xcccc)
#define NONE INVALID_HANDLE
#define K MMIO_K_SHARED
#define U MMIO_U_SHARED
#define KU (MMIO_K_SHARED | MMIO_U_SHARED)

enum { RANGE_PAGES = 32 };

static const uint32_t all_flags[] = { 0, K, U, KU };

/* Pages [first, first + nr) of a range. */
struct span {
	int first, nr;
};

struct claim {
	struct span span;
	uint32_t flags;
	bool open;
	Handle region;
};

static Retcode span_register(uint64_t range, struct span span, uint32_t flags,
			     Handle *out)
{
	return KnRegisterPhyMem(range + PAGES(span.first), PAGES(span.nr),
				flags, out);
}

static bool spans_overlap(struct span a, struct span b)
{
	return a.first < b.first + b.nr && b.first < a.first + a.nr;
}

/* ---- /proc/iomem ---- */

static int by_first(const void *a, const void *b)
{
	return ((const struct span *)a)->first -
	       ((const struct span *)b)->first;
}

/* What /proc/iomem must list: overlapping claims are one entry. */
static int model_entries(const struct claim *claims, int nr, struct span *out)
{
	int n = 0, entries = 0;

	for (int i = 0; i < nr; i++)
		if (claims[i].open && !(claims[i].flags & K))
			out[n++] = claims[i].span;
	qsort(out, n, sizeof(*out), by_first);
	for (int i = 0; i < n; i++) {
		struct span *last = &out[entries - 1];

		if (entries && out[i].first < last->first + last->nr) {
			int end = out[i].first + out[i].nr;

			if (end > last->first + last->nr)
				last->nr = end - last->first;
		} else {
			out[entries++] = out[i];
		}
	}
	return entries;
}

static void check_entries(uint64_t range, const struct claim *claims, int nr)
{
	struct probe_range seen[16] = { 0 };
	struct span want[16];
	int n = model_entries(claims, nr, want);

	EXPECT_EQ(n, probe_iomem_all("kosdma", seen, 16));
	for (int i = 0; i < n; i++) {
		EXPECT_EQ(range + PAGES(want[i].first), seen[i].start);
		EXPECT_EQ(range + PAGES(want[i].first + want[i].nr) - 1,
			  seen[i].last);
	}
}

static bool anything_claimed(void)
{
	uint64_t start, last;

	return probe_iomem_find("kosdma", 0, &start, &last);
}

/* ---- another process that claims ---- */

struct peer {
	int sock;
	pid_t pid;
	uint64_t range;
};

struct order {
	struct span span; /* no pages: close */
	uint32_t flags;
};

static void peer_main(struct peer *peer, int sock)
{
	struct order order;
	Handle region = NONE;

	while (read(sock, &order, sizeof(order)) == sizeof(order)) {
		Retcode rc = rcOk;

		if (order.span.nr) {
			region = POISON_HANDLE;
			rc = span_register(peer->range, order.span, order.flags,
					   &region);
			if (rc != rcOk)
				EXPECT_EQ(NONE, region);
		} else if (region != NONE) {
			EXPECT_OK(KnHandleClose(region));
			region = NONE;
		}
		ASSERT_EQ(sizeof(rc), write(sock, &rc, sizeof(rc)));
	}
	test_child_exit();
}

static void peer_start(struct peer *peer, uint64_t range)
{
	int sock[2];

	peer->range = range;
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				sock));
	peer->pid = test_fork();
	if (!peer->pid) {
		close(sock[0]);
		peer_main(peer, sock[1]);
	}
	close(sock[1]);
	peer->sock = sock[0];
}

static Retcode peer_do(struct peer *peer, struct span span, uint32_t flags)
{
	struct order order = { .span = span, .flags = flags };
	Retcode rc;

	ASSERT_EQ(sizeof(order), write(peer->sock, &order, sizeof(order)));
	ASSERT_EQ(sizeof(rc), read(peer->sock, &rc, sizeof(rc)));
	return rc;
}

static void peer_close(struct peer *peer)
{
	EXPECT_OK(peer_do(peer, (struct span){ 0 }, 0));
}

static void peer_stop(struct peer *peer)
{
	close(peer->sock);
	test_wait(peer->pid);
}

/* ---- ranges ---- */

FIXTURE(claim)
{
	uint64_t range;
	bool in_bar;
};

FIXTURE_VARIANT(claim)
{
	bool in_bar;
};

FIXTURE_VARIANT_ADD(claim, hole) { .in_bar = false };
FIXTURE_VARIANT_ADD(claim, bar) { .in_bar = true };

FIXTURE_SETUP(claim)
{
	struct edu edu;

	probe_require_module();
	if (variant->in_bar) {
		edu_require(&edu, 0);
		self->range = edu.bar;
	} else if (!probe_free_range(PAGES(RANGE_PAGES), &self->range)) {
		SKIP("this machine has no free range in a window for PCI");
	}
	self->in_bar = variant->in_bar;
}

FIXTURE_TEARDOWN(claim)
{
	EXPECT_FALSE(anything_claimed());
}

static const struct {
	const char *name;
	struct span span;
	bool overlaps;
} shapes[] = {
	/* against pages 8 to 15 */
	{ "identical", { 8, 8 }, true },   { "partial, left", { 5, 6 }, true },
	{ "partial, right", { 12, 8 }, true }, { "inside", { 10, 3 }, true },
	{ "containing", { 6, 12 }, true }, { "same start", { 8, 2 }, true },
	{ "same end", { 14, 2 }, true },   { "adjacent, left", { 4, 4 }, false },
	{ "adjacent, right", { 16, 4 }, false },
	{ "disjoint", { 20, 4 }, false },
};

static const struct span against = { 8, 8 };

/*
 * The rule, for claims of users among each other: what overlaps needs U on both
 * sides. What is shared with the kernel makes no difference to that.
 */
static Retcode rule(uint32_t first, uint32_t second, bool overlaps)
{
	return overlaps && !(first & second & U) ? rcAlreadyExists : rcOk;
}

TEST_F_TIMEOUT(claim, each_flag_meets_each_in_each_shape, 300)
{
	for (size_t row = 0; row < 4 * 4 * ARRAY_SIZE(shapes); row++) {
		size_t shape = row / 16;
		uint32_t first = all_flags[row / 4 % 4];
		uint32_t second = all_flags[row % 4];
		Retcode want = rule(first, second, shapes[shape].overlaps);
		struct claim claims[2] = {
			{ .span = against, .flags = first },
			{ .span = shapes[shape].span, .flags = second },
		};

		test_context("%s, flags %#x against %#x", shapes[shape].name,
			     second, first);
		for (int i = 0; i < 2; i++) {
			claims[i].region = POISON_HANDLE;
			EXPECT_RC(i ? want : rcOk,
				  span_register(self->range, claims[i].span,
						claims[i].flags,
						&claims[i].region));
			claims[i].open = claims[i].region != NONE;
			check_entries(self->range, claims, 2);
		}
		/* Sometimes the first goes first. */
		for (int i = 0; i < 2; i++) {
			struct claim *c = &claims[i ^ (row & 1)];

			if (!c->open)
				continue;
			EXPECT_OK(KnHandleClose(c->region));
			c->open = false;
			check_entries(self->range, claims, 2);
		}
		if (test_nr_failures())
			break;
	}
	test_context("%s", "");
}

/* Of a BAR, the other process may have nothing while this one holds the device. */
TEST_F_TIMEOUT(claim, each_flag_meets_each_in_each_shape_across_processes, 300)
{
	struct peer peer;

	peer_start(&peer, self->range);
	for (size_t row = 0; row < 4 * 4 * ARRAY_SIZE(shapes); row++) {
		size_t shape = row / 16;
		uint32_t first = all_flags[row / 4 % 4];
		uint32_t second = all_flags[row % 4];
		Retcode want = rule(first, second, shapes[shape].overlaps);
		struct claim claims[2] = {
			{ .span = against, .flags = first },
			{ .span = shapes[shape].span, .flags = second },
		};

		if (want == rcOk && self->in_bar)
			want = rcBusy;
		test_context("%s, flags %#x against %#x", shapes[shape].name,
			     second, first);
		ASSERT_OK(span_register(self->range, against, first,
					&claims[0].region));
		claims[0].open = true;
		EXPECT_RC(want, peer_do(&peer, claims[1].span, second));
		claims[1].open = want == rcOk;
		check_entries(self->range, claims, 2);
		if (row & 1 && want == rcOk) {
			peer_close(&peer);
			claims[1].open = false;
			check_entries(self->range, claims, 2);
		}
		EXPECT_OK(KnHandleClose(claims[0].region));
		claims[0].open = false;
		check_entries(self->range, claims, 2);
		if (claims[1].open) {
			peer_close(&peer);
			claims[1].open = false;
			check_entries(self->range, claims, 2);
		}
		if (test_nr_failures())
			break;
	}
	test_context("%s", "");
	peer_stop(&peer);
}

/* ---- unions ---- */

static const struct {
	const char *name;
	struct span spans[4];
} layouts[] = {
	{ "chain", { { 0, 3 }, { 2, 3 }, { 4, 3 }, { 6, 3 } } },
	{ "bridge", { { 0, 2 }, { 4, 2 }, { 1, 4 }, { 8, 2 } } },
	{ "two bridges", { { 0, 4 }, { 8, 4 }, { 3, 6 }, { 2, 9 } } },
	{ "nested", { { 0, 8 }, { 1, 2 }, { 4, 2 }, { 2, 3 } } },
	{ "identical", { { 2, 4 }, { 2, 4 }, { 2, 4 }, { 2, 4 } } },
	{ "star", { { 0, 8 }, { 0, 2 }, { 3, 2 }, { 6, 2 } } },
	{ "neighbours", { { 0, 4 }, { 4, 4 }, { 3, 2 }, { 8, 1 } } },
	{ "same ends", { { 0, 8 }, { 4, 4 }, { 0, 4 }, { 7, 1 } } },
};

static void permutation(int n, int order[4])
{
	int left[4] = { 0, 1, 2, 3 };

	for (int i = 0, base = 6; i < 4; i++) {
		int at = n / base;

		n %= base;
		order[i] = left[at];
		for (int j = at; j < 3; j++)
			left[j] = left[j + 1];
		base /= i < 3 ? 3 - i : 1;
	}
}

/* Claims of a layout come in one order and go in each order. */
static void check_orders(uint64_t range, const struct span spans[4],
			 uint32_t shared_with_kernel)
{
	/* A kernel that looks for leaks is slow. */
	int step = access("/sys/kernel/debug/kmemleak", F_OK) ? 1 : 7;

	for (int p = 0; p < 24 && !test_nr_failures(); p += step) {
		struct claim claims[4];
		int opened[4], closed[4];

		permutation(p, closed);
		permutation((p * 7 + 3) % 24, opened);
		for (int i = 0; i < 4; i++)
			claims[i] = (struct claim){
				.span = spans[i],
				.flags = shared_with_kernel & 1u << i ? KU : U,
			};
		for (int i = 0; i < 4; i++) {
			struct claim *c = &claims[opened[i]];

			ASSERT_OK(span_register(range, c->span, c->flags,
						&c->region));
			c->open = true;
			check_entries(range, claims, 4);
		}
		for (int i = 0; i < 4; i++) {
			struct claim *c = &claims[closed[i]];

			EXPECT_OK(KnHandleClose(c->region));
			c->open = false;
			check_entries(range, claims, 4);
		}
	}
}

TEST_F_TIMEOUT(claim, unions_merge_and_split_in_each_order, 600)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		test_context("%s", layouts[i].name);
		check_orders(self->range, layouts[i].spans, 0);
		test_context("%s, one of them shared with the kernel",
			     layouts[i].name);
		check_orders(self->range, layouts[i].spans, 1u << i % 4);
	}
	test_context("%s", "");
}

/* With a fixed seed. */
TEST_F_TIMEOUT(claim, unions_are_those_of_a_model_in_a_storm, 600)
{
	struct claim claims[12] = { 0 };
	uint32_t random = 20250531;

	for (int step = 0; step < 600 && !test_nr_failures(); step++) {
		struct claim *c;
		Retcode want = rcOk;

		random = random * 1664525 + 1013904223;
		c = &claims[(random >> 8) % ARRAY_SIZE(claims)];
		test_context("step %d", step);
		if (c->open) {
			EXPECT_OK(KnHandleClose(c->region));
			c->open = false;
		} else {
			c->span.first = (random >> 12) % (RANGE_PAGES - 8);
			c->span.nr = 1 + (random >> 17) % 8;
			/* Rarely without U: that mostly fails. */
			c->flags = (random >> 20) % 8 ? U : 0;
			c->flags |= (random >> 23) % 4 ? 0 : K;
			for (size_t i = 0; i < ARRAY_SIZE(claims); i++)
				if (claims[i].open &&
				    rule(claims[i].flags, c->flags,
					 spans_overlap(claims[i].span,
						       c->span)) != rcOk)
					want = rcAlreadyExists;
			EXPECT_RC(want, span_register(self->range, c->span,
						      c->flags, &c->region));
			c->open = c->region != NONE;
		}
		check_entries(self->range, claims, ARRAY_SIZE(claims));
	}
	test_context("%s", "");
	for (size_t i = 0; i < ARRAY_SIZE(claims); i++)
		if (claims[i].open)
			EXPECT_OK(KnHandleClose(claims[i].region));
}

static void claim_at_random(uint64_t range, uint32_t random)
{
	Handle held[6] = { NONE, NONE, NONE, NONE, NONE, NONE };

	for (;;) {
		Handle *region;
		struct span span;

		random = random * 1664525 + 1013904223;
		region = &held[(random >> 8) % ARRAY_SIZE(held)];
		span.first = (random >> 12) % (RANGE_PAGES - 8);
		span.nr = 1 + (random >> 17) % 8;
		if (*region != NONE) {
			ASSERT_OK(KnHandleClose(*region));
			*region = NONE;
		} else {
			ASSERT_OK(span_register(range, span,
						random >> 31 ? KU : U,
						region));
		}
	}
}

static bool nothing_claimed(void *arg __attribute__((unused)))
{
	return !anything_claimed();
}

/* Processes claim what overlaps, and are killed at any time. */
TEST_F_TIMEOUT(claim, unions_of_killed_processes_leave_nothing, 300)
{
	if (self->in_bar)
		return; /* one process holds the device */
	for (int round = 0; round < 5; round++) {
		Handle whole;
		pid_t pids[3];

		for (int i = 0; i < 3; i++) {
			pids[i] = test_fork();
			if (!pids[i])
				claim_at_random(self->range, 3 * round + i);
		}
		usleep(150 * 1000);
		for (int i = 0; i < 3; i++) {
			int status = 0;

			EXPECT_EQ(0, kill(pids[i], SIGKILL));
			EXPECT_EQ(pids[i], waitpid(pids[i], &status, 0));
			EXPECT_TRUE(WIFSIGNALED(status));
		}
		/* Who comes next waits for what is left of them. */
		EXPECT_OK(span_register(self->range,
					(struct span){ 0, RANGE_PAGES }, 0,
					&whole));
		EXPECT_TRUE(probe_iomem(self->range,
					self->range + PAGES(RANGE_PAGES) - 1,
					"kosdma"));
		EXPECT_OK(KnHandleClose(whole));
		EXPECT_TRUE(wait_until(nothing_claimed, NULL, 5));
	}
}

/* Each region of a shared range has its own mapping, also in another process. */
TEST_F(claim, shared_regions_are_mapped_side_by_side)
{
	Handle region[2], mapping[2];
	void *addr[2];

	for (int i = 0; i < 2; i++) {
		ASSERT_OK(span_register(self->range, against, U, &region[i]));
		ASSERT_OK(KnIoMapMem(region[i], VMM_FLAG_READ, 0, &addr[i],
				     &mapping[i]));
	}
	EXPECT_NE(addr[0], addr[1]);
	if (!self->in_bar)
		IN_CHILD {
			Handle theirs, out;
			void *p;

			ASSERT_OK(span_register(self->range, against, U,
						&theirs));
			ASSERT_OK(KnIoMapMem(theirs, VMM_FLAG_READ, 0, &p,
					     &out));
			EXPECT_EQ(0, probe_read(p));
		}
	EXPECT_EQ(0, probe_read(addr[0]));
	EXPECT_OK(KnHandleClose(mapping[0]));
	EXPECT_OK(KnHandleClose(region[0]));
	EXPECT_EQ(0, probe_read(addr[1]));
	EXPECT_OK(KnHandleClose(mapping[1]));
	EXPECT_OK(KnHandleClose(region[1]));
}

/* ---- MMIO_K_SHARED ---- */

TEST_F(claim, sharing_with_the_kernel_needs_privilege)
{
	Handle out = POISON_HANDLE;

	/* Binds the device: otherwise the user would be told rcNotReady. */
	ASSERT_OK(span_register(self->range, against, 0, &out));
	EXPECT_OK(KnHandleClose(out));
	device_make_public();
	IN_CHILD {
		probe_become_nobody();
		for (size_t i = 0; i < ARRAY_SIZE(all_flags); i++) {
			out = POISON_HANDLE;
			EXPECT_RC(rcSecurityDisallow,
				  span_register(self->range, against,
						all_flags[i], &out));
			EXPECT_EQ(NONE, out);
		}
	}
	device_restore();
}

TEST_F(claim, range_shared_with_the_kernel_is_left_to_it)
{
	Handle region, mapping;
	void *addr;

	ASSERT_OK(span_register(self->range, against, K, &region));
	EXPECT_FALSE(anything_claimed());
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_EQ(0, probe_read(addr));
	if (self->in_bar) {
		/* sysfs may map what nobody keeps from it. */
		char path[128];
		struct edu edu;
		void *p;
		int fd;

		edu_require(&edu, 0);
		snprintf(path, sizeof(path), "%s/resource0", edu.path);
		fd = open(path, O_RDWR | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd,
			 PAGES(against.first));
		EXPECT_NE(MAP_FAILED, p);
		munmap(p, PAGE);
		close(fd);
	}
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
}

TEST(registers_of_a_driver_are_shared_with_it)
{
	struct pci_bar bar;
	char driver[64];
	struct pci pci;
	int n;

	probe_require_module();
	for (n = 0; pci_driven_bar(n, &pci, &bar, driver); n++) {
		const size_t size = bar.last + 1 - bar.start;
		Handle region, mapping, out = POISON_HANDLE, second;
		void *addr;

		test_context("%s, driver %s, BAR at %#llx", pci.name, driver,
			     (unsigned long long)bar.start);
		ASSERT_OK(KnRegisterPhyMem(bar.start, size, K, &region));
		EXPECT_TRUE(probe_iomem(bar.start, bar.last, driver));
		EXPECT_FALSE(anything_claimed());
		ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr,
				     &mapping));
		EXPECT_EQ(0, probe_read(addr));
		/* Among users it is exclusive, and against the driver U does not help. */
		EXPECT_RC(rcAlreadyExists,
			  KnRegisterPhyMem(bar.start, PAGE, K, &out));
		EXPECT_EQ(NONE, out);
		EXPECT_RC(rcAlreadyExists,
			  KnRegisterPhyMem(bar.start, PAGE, KU, &out));
		EXPECT_OK(KnHandleClose(mapping));
		EXPECT_OK(KnHandleClose(region));
		EXPECT_RC(rcAlreadyExists,
			  KnRegisterPhyMem(bar.start, PAGE, U, &out));
		ASSERT_OK(KnRegisterPhyMem(bar.start, size, KU, &region));
		ASSERT_OK(KnRegisterPhyMem(bar.start, PAGE, KU, &second));
		EXPECT_RC(rcAlreadyExists,
			  KnRegisterPhyMem(bar.start, PAGE, U, &out));
		EXPECT_OK(KnHandleClose(second));
		EXPECT_OK(KnHandleClose(region));
		EXPECT_TRUE(probe_iomem(bar.start, bar.last, driver));
	}
	test_context("%s", "");
	if (!n)
		SKIP("no driver of the kernel's has claimed registers here");
}

/* A driver that has not claimed its registers has the device all the same. */
TEST(registers_that_a_driver_has_not_claimed_are_rcBusy_unless_shared_with_it)
{
	struct pci_bar bar;
	Handle out = POISON_HANDLE;
	char path[128], driver[64];
	struct pci pci;

	probe_require_module();
	pci_require(&pci, PCI_TESTDEV, 0, "pci-testdev");
	pci_require_bar(&pci, 0, &bar);
	if (system("modprobe pci_stub 2>/dev/null"))
		SKIP("this kernel has no pci-stub");
	probe_driver(pci.path, driver);
	if (driver[0])
		pci_unbind(&pci);
	snprintf(path, sizeof(path), "%s/driver_override", pci.path);
	ASSERT_TRUE(probe_write_file(path, "pci-stub"));
	ASSERT_TRUE(probe_write_file("/sys/bus/pci/drivers_probe", pci.name));
	probe_driver(pci.path, driver);
	EXPECT_STREQ("pci-stub", driver);

	EXPECT_RC(rcBusy, KnRegisterPhyMem(bar.start, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_RC(rcBusy, KnRegisterPhyMem(bar.start, PAGE, U, &out));
	EXPECT_FALSE(anything_claimed());
	EXPECT_OK(KnRegisterPhyMem(bar.start, PAGE, K, &out));
	EXPECT_OK(KnHandleClose(out));

	pci_unbind(&pci);
	ASSERT_TRUE(probe_write_file(path, "\n"));
	EXPECT_OK(KnRegisterPhyMem(bar.start, PAGE, 0, &out));
	EXPECT_OK(KnHandleClose(out));
}

/* What the machine runs by is not shared with anybody. */
TEST(machine_and_memory_are_not_shared)
{
	static const char *const names[] = {
		"IOAPIC", "Local APIC", "HPET", "MMCONFIG", "ECAM", "dmar",
		"amd_iommu", "Reserved", "System RAM", "ACPI", "Kernel code",
	};
	int nr = 0;

	probe_require_module();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		uint64_t start, last;

		for (int n = 0; probe_iomem_find(names[i], n, &start, &last);
		     n++) {
			const uint64_t page = start & ~(PAGE_SIZE - 1);
			Handle out = POISON_HANDLE;
			Retcode rc;

			test_context("%s at %#llx", names[i],
				     (unsigned long long)start);
			EXPECT_RC(rcSecurityDisallow,
				  KnRegisterPhyMem(page, PAGE, K, &out));
			EXPECT_EQ(NONE, out);
			EXPECT_RC(rcSecurityDisallow,
				  KnRegisterPhyMem(page, PAGE, KU, &out));
			EXPECT_EQ(NONE, out);
			rc = KnRegisterPhyMem(page, PAGE, U, &out);
			EXPECT_TRUE(rc == rcSecurityDisallow ||
				    rc == rcAlreadyExists);
			EXPECT_EQ(NONE, out);
			nr++;
		}
	}
	test_context("%s", "");
	EXPECT_GT(nr, 4);
	for (uint64_t addr = 0xfec00000; addr <= 0xfee00000; addr += 0x200000)
		EXPECT_RC(rcSecurityDisallow,
			  KnRegisterPhyMem(addr, PAGE, K, &(Handle){ 0 }));
}

/* ---- the line in the log ---- */

static void self_name(char *name, size_t size, pid_t pid)
{
	char comm[32] = "", path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	ASSERT_NOT_NULL(f);
	ASSERT_EQ(1, fscanf(f, "%31s", comm));
	fclose(f);
	snprintf(name, size, "%s[%d]", comm, pid);
}

/*
 * Register until a line with all these is there: after many refusals, lines are
 * left out for a while.
 */
static bool line_comes(uint64_t addr, uint32_t flags, Retcode want,
		       const char *second, const char *third)
{
	int log = probe_log_open();
	bool found = false;
	char text[64];

	snprintf(text, sizeof(text), "[mem %#llx-%#llx]",
		 (unsigned long long)addr, (unsigned long long)addr + PAGE - 1);
	for (int tries = 0; !found && tries < 15; tries++) {
		if (tries)
			usleep(500 * 1000);
		EXPECT_RC(want, KnRegisterPhyMem(addr, PAGE, flags,
						 &(Handle){ 0 }));
		found = probe_log_count(log, text, second, third);
	}
	close(log);
	return found;
}

TEST_F(claim, line_names_both_processes)
{
	const uint64_t page = self->range + PAGES(9);
	char ours[64], theirs[64], want[160];
	struct peer peer;
	Handle region;

	peer_start(&peer, self->range);
	self_name(ours, sizeof(ours), getpid());
	self_name(theirs, sizeof(theirs), peer.pid);
	/* Our own claim in our own way. */
	ASSERT_OK(span_register(self->range, against, 0, &region));
	snprintf(want, sizeof(want), "but %s has claimed it", ours);
	EXPECT_TRUE(line_comes(page, 0, rcAlreadyExists, ours, want));
	EXPECT_TRUE(line_comes(page, U, rcAlreadyExists, ours, want));
	EXPECT_OK(KnHandleClose(region));
	ASSERT_OK(peer_do(&peer, against, 0));
	snprintf(want, sizeof(want), "but %s has claimed it", theirs);
	EXPECT_TRUE(line_comes(page, 0, rcAlreadyExists, ours, want));
	peer_close(&peer);
	peer_stop(&peer);
}

TEST(line_names_the_driver)
{
	struct pci_bar bar;
	char ours[64], driver[64], want[160];
	struct pci pci;

	probe_require_module();
	if (!pci_driven_bar(0, &pci, &bar, driver))
		SKIP("no driver of the kernel's has claimed registers here");
	self_name(ours, sizeof(ours), getpid());
	snprintf(want, sizeof(want), "but driver %s has claimed it", driver);
	EXPECT_TRUE(line_comes(bar.start, 0, rcAlreadyExists, ours, want));
}

TEST(line_names_the_kernel)
{
	static const char *const names[] = { "IOAPIC", "HPET", "dmar",
					     "amd_iommu" };
	uint64_t start, last;
	char ours[64];
	int nr = 0;

	probe_require_module();
	self_name(ours, sizeof(ours), getpid());
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!probe_iomem_find(names[i], 0, &start, &last) ||
		    KnRegisterPhyMem(start, PAGE, 0, &(Handle){ 0 }) !=
			    rcAlreadyExists)
			continue;
		test_context("%s", names[i]);
		EXPECT_TRUE(line_comes(start, 0, rcAlreadyExists, ours,
				       "but the kernel has claimed it"));
		nr++;
	}
	test_context("%s", "");
	if (!nr)
		SKIP("the firmware keeps all that the kernel has claimed here");
}

TEST_F(claim, many_refusals_leave_few_lines)
{
	int log = probe_log_open(), lines;
	Handle region;

	ASSERT_OK(span_register(self->range, against, 0, &region));
	for (int i = 0; i < 300; i++)
		ASSERT_RC(rcAlreadyExists,
			  span_register(self->range, against, 0,
					&(Handle){ 0 }));
	lines = probe_log_count(log, "kosdma", "has claimed it", "");
	/* Ten in five seconds. */
	EXPECT_LE(lines, 40);
	EXPECT_OK(KnHandleClose(region));
	close(log);
}

/* A user's wrong arguments, and what succeeds, are nobody's news. */
TEST_F(claim, nothing_else_leaves_a_line)
{
	Handle region, mapping, out;
	int log = probe_log_open();
	void *addr;

	EXPECT_RC(rcInvalidArgument,
		  KnRegisterPhyMem(self->range + 1, PAGE, 0, &out));
	ASSERT_OK(span_register(self->range, against, U, &region));
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_RC(rcBusy,
		  KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &out));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_EQ(0, probe_log_count(log, "kosdma: ", "wants", ""));
	close(log);
}

/* ---- a driver of the kernel's comes second, or first ---- */

/* A driver that claims memory at an address of our choice. */
FIXTURE(ramoops)
{
	uint64_t range;
};

static bool ramoops_load(uint64_t start, size_t size)
{
	char command[160];

	snprintf(command, sizeof(command),
		 "modprobe ramoops mem_address=%#llx mem_size=%zu",
		 (unsigned long long)start, size);
	return !system(command);
}

static bool ramoops_has(uint64_t range, size_t size)
{
	uint64_t start, last;

	for (int n = 0; probe_iomem_find("ramoops", n, &start, &last); n++)
		if (start >= range && last < range + size)
			return true;
	return false;
}

FIXTURE_SETUP(ramoops)
{
	probe_require_module();
	if (system("grep -qs ramoops /lib/modules/$(uname -r)/modules.dep"))
		SKIP("this kernel has no ramoops");
	if (!probe_free_range(PAGES(RANGE_PAGES), &self->range))
		SKIP("this machine has no free range in a window for PCI");
}

FIXTURE_TEARDOWN(ramoops)
{
	EXPECT_EQ(0, system("rmmod ramoops 2>/dev/null || ! grep -q ^ramoops /proc/modules"));
	EXPECT_FALSE(anything_claimed());
}

TEST_F(ramoops, comes_second_and_is_refused_with_a_line)
{
	const size_t size = PAGES(16);
	char at[32];
	Handle region;
	int log;

	ASSERT_OK(KnRegisterPhyMem(self->range, size, 0, &region));
	log = probe_log_open();
	/* Its module loads; its device does not come up. */
	ramoops_load(self->range, size);
	EXPECT_FALSE(ramoops_has(self->range, size));
	EXPECT_TRUE(probe_iomem(self->range, self->range + size - 1, "kosdma"));
	snprintf(at, sizeof(at), "%llx", (unsigned long long)self->range);
	EXPECT_GE(probe_log_count(log, "request mem region", at, "fail"), 1);
	close(log);
	EXPECT_EQ(0, system("rmmod ramoops"));

	EXPECT_OK(KnHandleClose(region));
	EXPECT_TRUE(ramoops_load(self->range, size));
	EXPECT_TRUE(ramoops_has(self->range, size));
}

TEST_F(ramoops, comes_second_to_a_shared_range_and_is_refused)
{
	const size_t size = PAGES(16);
	Handle region[2];

	/* A union that no single claim covers, and a part of its range. */
	ASSERT_OK(KnRegisterPhyMem(self->range, PAGES(6), U, &region[0]));
	ASSERT_OK(KnRegisterPhyMem(self->range + PAGES(4), PAGES(20), U,
				   &region[1]));
	ramoops_load(self->range, size);
	EXPECT_FALSE(ramoops_has(self->range, size));
	EXPECT_OK(KnHandleClose(region[0]));
	EXPECT_OK(KnHandleClose(region[1]));
}

TEST_F(ramoops, is_let_in_where_a_claim_is_shared_with_the_kernel)
{
	const size_t size = PAGES(16);
	Handle region;

	ASSERT_OK(KnRegisterPhyMem(self->range, size, K, &region));
	EXPECT_TRUE(ramoops_load(self->range, size));
	EXPECT_TRUE(ramoops_has(self->range, size));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_TRUE(ramoops_has(self->range, size));
}

TEST_F(ramoops, comes_first_and_keeps_it)
{
	const size_t size = PAGES(16);
	struct claim claim = { .span = { 0, 4 }, .flags = U };
	Handle out = POISON_HANDLE;
	char ours[64];

	self_name(ours, sizeof(ours), getpid());
	ASSERT_TRUE(ramoops_load(self->range + PAGES(8), size));
	ASSERT_TRUE(ramoops_has(self->range + PAGES(8), size));
	EXPECT_TRUE(line_comes(self->range + PAGES(8), 0, rcAlreadyExists,
			       ours, "but the kernel has claimed it"));
	/* In no BAR: shared or not, it is not ours. */
	EXPECT_RC(rcAlreadyExists, KnRegisterPhyMem(self->range + PAGES(8),
						    PAGE, U, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_RC(rcSecurityDisallow, KnRegisterPhyMem(self->range + PAGES(8),
						       PAGE, K, &out));
	/* A claim that would reach it gets nothing at all, and what is there stays. */
	ASSERT_OK(span_register(self->range, claim.span, U, &claim.region));
	claim.open = true;
	check_entries(self->range, &claim, 1);
	EXPECT_RC(rcAlreadyExists,
		  span_register(self->range, (struct span){ 2, 8 }, U, &out));
	EXPECT_RC(rcAlreadyExists,
		  span_register(self->range, (struct span){ 2, 30 }, U, &out));
	EXPECT_EQ(NONE, out);
	check_entries(self->range, &claim, 1);
	/* Up to it is ours. */
	EXPECT_OK(span_register(self->range, (struct span){ 2, 6 }, U, &out));
	EXPECT_TRUE(probe_iomem(self->range, self->range + PAGES(8) - 1,
				"kosdma"));
	EXPECT_OK(KnHandleClose(out));
	check_entries(self->range, &claim, 1);
	EXPECT_OK(KnHandleClose(claim.region));
	EXPECT_TRUE(ramoops_has(self->range + PAGES(8), size));
}

/* ---- policy: what a range may be ---- */

static void expect_refused(uint64_t addr, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(all_flags); i++) {
		Handle out = POISON_HANDLE;

		EXPECT_RC(rcSecurityDisallow,
			  KnRegisterPhyMem(addr, size, all_flags[i], &out));
		EXPECT_EQ(NONE, out);
	}
}

static int physical_bits(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];
	int bits = 0;

	while (f && !bits && fgets(line, sizeof(line), f))
		if (sscanf(line, "address sizes : %d bits physical", &bits) != 1)
			bits = 0;
	if (f)
		fclose(f);
	return bits;
}

TEST(end_of_the_physical_addresses)
{
	const int bits = physical_bits();
	const uint64_t end = 1ull << bits;
	Handle out = POISON_HANDLE;
	Retcode rc;

	probe_require_module();
	if (!bits)
		SKIP("/proc/cpuinfo does not say how long a physical address is");
	EXPECT_RC(rcInvalidArgument, KnRegisterPhyMem(end, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	EXPECT_RC(rcInvalidArgument,
		  KnRegisterPhyMem(end - PAGE, PAGES(2), 0, &out));
	EXPECT_RC(rcInvalidArgument, KnRegisterPhyMem(end - PAGE, end, 0, &out));
	EXPECT_RC(rcInvalidArgument, KnRegisterPhyMem(0, end + PAGE, 0, &out));
	EXPECT_RC(rcInvalidArgument,
		  KnRegisterPhyMem(PAGE, SIZE_MAX & ~(PAGE_SIZE - 1), 0, &out));
	/* All of it has RAM in it. */
	expect_refused(0, end);
	/* The last page may be kept by the firmware, or be anybody's. */
	out = POISON_HANDLE;
	rc = KnRegisterPhyMem(end - PAGE, PAGE, 0, &out);
	EXPECT_TRUE(rc == rcOk || rc == rcSecurityDisallow);
	if (rc == rcOk)
		EXPECT_OK(KnHandleClose(out));
	EXPECT_FALSE(anything_claimed());
}

/* Two BARs of the machine, of whole pages, of which the second follows the first. */
static bool find_neighbours(struct pci_bar *first, struct pci_bar *second)
{
	struct pci a, b;

	for (int i = 0; pci_nth(&a, i); i++)
		for (int j = 0; j < PCI_STD_BARS; j++)
			for (int k = 0; pci_bar(&a, j, first) && pci_nth(&b, k);
			     k++)
				for (int l = 0; l < PCI_STD_BARS; l++)
					if (pci_bar(&b, l, second) &&
					    second->start == first->last + 1 &&
					    !(second->start % PAGE))
						return true;
	return false;
}

TEST(range_over_two_bars_is_rcSecurityDisallow)
{
	struct pci_bar first, second;

	probe_require_module();
	if (!find_neighbours(&first, &second))
		SKIP("this machine has no two BARs side by side");
	test_context("BARs at %#llx and %#llx",
		     (unsigned long long)first.start,
		     (unsigned long long)second.start);
	expect_refused(second.start - PAGE, PAGES(2));
	EXPECT_FALSE(anything_claimed());
}

TEST_F(claim, range_that_leaves_a_bar_is_rcSecurityDisallow)
{
	if (!self->in_bar)
		return;
	expect_refused(self->range - PAGE, PAGES(2));
	expect_refused(self->range + EDU_BAR_SIZE - PAGE, PAGES(2));
	expect_refused(self->range - PAGE, EDU_BAR_SIZE + PAGES(2));
	expect_refused(self->range, EDU_BAR_SIZE + PAGE);
}

TEST(expansion_roms_are_rcSecurityDisallow)
{
	struct pci_bar rom;
	struct pci pci;
	int nr = 0;

	probe_require_module();
	for (int n = 0; pci_nth(&pci, n); n++) {
		if (!pci_bar(&pci, PCI_ROM, &rom))
			continue;
		test_context("%s", pci.name);
		expect_refused(rom.start & ~(PAGE_SIZE - 1), PAGE);
		nr++;
	}
	test_context("%s", "");
	if (!nr)
		SKIP("no device of this machine has an expansion ROM");
}

/* ---- BARs smaller than a page ---- */

TEST(small_bar_alone_in_its_page_is_registered_with_the_page)
{
	struct pci_bar bar;
	Handle region, mapping, out = POISON_HANDLE;
	struct pci pci;
	uint64_t last;
	void *addr;

	probe_require_module();
	pci_require(&pci, PCI_IVSHMEM, 0, "ivshmem-plain");
	pci_require_bar(&pci, 0, &bar);
	ASSERT_LT(bar.last + 1 - bar.start, PAGE);
	ASSERT_EQ(0, bar.start % PAGE);
	last = bar.start + PAGE - 1;

	ASSERT_OK(KnRegisterPhyMem(bar.start, PAGE, 0, &region));
	/* The page behind the BAR's end is nobody's, and stays so. */
	EXPECT_TRUE(probe_iomem(bar.start, bar.last, "kosdma"));
	EXPECT_TRUE(probe_iomem(bar.last + 1, last, "kosdma"));
	EXPECT_RC(rcAlreadyExists,
		  KnRegisterPhyMem(bar.start, PAGE, 0, &out));
	EXPECT_EQ(NONE, out);
	ASSERT_OK(KnIoMapMem(region, VMM_READ_WRITE, 0, &addr, &mapping));
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_EQ(0, probe_read((char *)addr + PAGE - 1));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_FALSE(anything_claimed());

	ASSERT_OK(KnRegisterPhyMem(bar.start, PAGE, U, &region));
	ASSERT_OK(KnRegisterPhyMem(bar.start, PAGE, U, &out));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_TRUE(probe_iomem(bar.start, bar.last, "kosdma"));
	EXPECT_TRUE(probe_iomem(bar.last + 1, last, "kosdma"));
	EXPECT_OK(KnHandleClose(out));
	EXPECT_FALSE(anything_claimed());
	/* A driver has no use for what is behind its BAR, nor may another BAR come there. */
	ASSERT_OK(KnRegisterPhyMem(bar.start, PAGE, K, &region));
	EXPECT_FALSE(probe_iomem(bar.start, bar.last, "kosdma"));
	EXPECT_TRUE(probe_iomem(bar.last + 1, last, "kosdma"));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_FALSE(anything_claimed());
	/* Its page and the next are not its pages. */
	expect_refused(bar.start, PAGES(2));
}

/*
 * Firmware gives each BAR a page; Linux, asked to place them, puts small ones
 * side by side.
 */
static bool share_a_page(struct pci pci[2], struct pci_bar bar[2])
{
	for (int i = 0; i < 2; i++) {
		pci_require(&pci[i], PCI_SDHCI, i, "sdhci-pci");
		pci_require_bar(&pci[i], 0, &bar[i]);
	}
	if (bar[0].start / PAGE != bar[1].start / PAGE) {
		pci_remove(&pci[1]);
		pci_remove(&pci[0]);
		pci_rescan();
		for (int i = 0; i < 2; i++) {
			pci_require(&pci[i], PCI_SDHCI, i, "sdhci-pci");
			pci_require_bar(&pci[i], 0, &bar[i]);
		}
	}
	return bar[0].start / PAGE == bar[1].start / PAGE;
}

TEST(page_that_bars_share_is_rcSecurityDisallow_with_a_line)
{
	char ours[64], line[96];
	struct pci_bar bar[2];
	struct pci pci[2];
	uint64_t page;

	probe_require_module();
	if (!share_a_page(pci, bar))
		SKIP("this kernel does not place two small BARs in one page");
	page = bar[0].start & ~(PAGE_SIZE - 1);
	test_context("%s and %s at %#llx", pci[0].name, pci[1].name,
		     (unsigned long long)page);
	expect_refused(page, PAGE);
	expect_refused(page, PAGES(2));
	EXPECT_FALSE(anything_claimed());
	self_name(ours, sizeof(ours), getpid());
	/* The first begins with the page, so it is the other that is in the way. */
	snprintf(line, sizeof(line), "%s has [mem %#llx-%#llx]", pci[1].name,
		 (unsigned long long)bar[1].start,
		 (unsigned long long)bar[1].last);
	EXPECT_TRUE(line_comes(page, 0, rcSecurityDisallow, ours, line));
}

/* ---- handles of regions in other hands ---- */

/* Give a child a region and see what it can do with it. */
TEST_F(claim, region_is_passed_on_with_fewer_rights)
{
	Handle region;
	int sock[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	ASSERT_OK(span_register(self->range, against, 0, &region));
	ASSERT_OK(KosHandleSend(sock[0], region, OCAP_MMIO_READ));
	device_make_public();
	IN_CHILD {
		Handle theirs, mapping = POISON_HANDLE;
		void *addr;

		ASSERT_OK(KosHandleReceive(sock[1], &theirs));
		probe_become_nobody();
		EXPECT_RC(rcNoCapability, KnIoMapMem(theirs, VMM_READ_WRITE, 0,
						     &addr, &mapping));
		EXPECT_EQ(NONE, mapping);
		/* To map what one was given needs no privilege. */
		ASSERT_OK(KnIoMapMem(theirs, VMM_FLAG_READ, 0, &addr,
				     &mapping));
		EXPECT_EQ(0, probe_read(addr));
		EXPECT_EQ(SIGSEGV, probe_write(addr));
	}
	device_restore();
	EXPECT_TRUE(anything_claimed());
	EXPECT_OK(KnHandleClose(region));
}

TEST_F(claim, revoke_takes_the_map_from_another_process)
{
	int sock[2], sync[2];
	Handle region, mapping;
	void *addr;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sync));
	ASSERT_OK(span_register(self->range, against, 0, &region));
	ASSERT_OK(KosHandleSend(sock[0], region, OCAP_MMIO_READ));
	pid = test_fork();
	if (!pid) {
		Handle theirs;

		ASSERT_OK(KosHandleReceive(sock[1], &theirs));
		ASSERT_OK(KnIoMapMem(theirs, VMM_FLAG_READ, 0, &addr,
				     &mapping));
		EXPECT_EQ(0, probe_read(addr));
		probe_signal(sync[1]);
		probe_await(sync[1]);
		EXPECT_EQ(SIGBUS, probe_read(addr));
		EXPECT_EQ(SIGBUS, probe_read((char *)addr +
					     PAGES(against.nr) - 1));
		EXPECT_RC(rcHandleRevoked, KnIoMapMem(theirs, VMM_FLAG_READ, 0,
						      &addr, &mapping));
		test_child_exit();
	}
	probe_await(sync[0]);
	EXPECT_OK(KnHandleRevokeEx(region, rtl_false));
	/* And it can be mapped at once. */
	EXPECT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	EXPECT_EQ(0, probe_read(addr));
	probe_signal(sync[0]);
	test_wait(pid);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
}

/* By fork it is the same handle, and there is one mapping for all. */
TEST_F(claim, region_is_inherited_and_mapped_by_one)
{
	Handle region, mapping;
	void *addr;

	ASSERT_OK(span_register(self->range, against, 0, &region));
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	IN_CHILD {
		Handle out;

		EXPECT_RC(rcBusy,
			  KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &out));
	}
	EXPECT_OK(KnHandleClose(mapping));
	IN_CHILD {
		ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr,
				     &mapping));
		EXPECT_EQ(0, probe_read(addr));
		EXPECT_OK(KnHandleClose(region));
	}
	/* The child is gone, and with it its mapping. */
	for (int i = 0; i < 100; i++) {
		Retcode rc = KnIoMapMem(region, VMM_FLAG_READ, 0, &addr,
					&mapping);

		if (rc == rcOk)
			break;
		ASSERT_RC(rcBusy, rc);
		usleep(20 * 1000);
	}
	EXPECT_EQ(0, probe_read(addr));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
}

/* A claim of a union lives with the process that was given it. */
TEST_F(claim, shared_claim_outlives_the_process_that_made_it)
{
	int sock[2];
	Handle ours, theirs;

	if (self->in_bar)
		return; /* another process cannot claim a part of the BAR */
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	ASSERT_OK(span_register(self->range, (struct span){ 0, 4 }, U, &ours));
	IN_CHILD {
		Handle region;

		ASSERT_OK(span_register(self->range, (struct span){ 3, 4 }, U,
					&region));
		ASSERT_OK(KosHandleSend(sock[0], region, OCAP_MMIO_READ));
	}
	ASSERT_OK(KosHandleReceive(sock[1], &theirs));
	EXPECT_TRUE(probe_iomem(self->range, self->range + PAGES(7) - 1,
				"kosdma"));
	EXPECT_OK(KnHandleClose(ours));
	EXPECT_TRUE(probe_iomem(self->range + PAGES(3),
				self->range + PAGES(7) - 1, "kosdma"));
	EXPECT_OK(KnHandleClose(theirs));
}

TEST_HARNESS_MAIN
