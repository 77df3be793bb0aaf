// SPDX-License-Identifier: GPL-2.0-only
/* What /proc/PID/fdinfo tells of each kind of handle, in each state. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/fdinfo.h"
#include "lib/probe.h"

#define UNBIND "/sys/bus/pci/drivers/kosdma/unbind"

/* Keys in their order; in brackets: not always there. */
#define COMMON_SHARED "type sid rights state user badge uses "
#define COMMON_PRIVATE "type sid rights state user owner badge uses "

static const struct {
	const char *type;
	const char *keys;
} kinds[] = {
	{ "[kosdma-buffer]",
	  COMMON_SHARED "length pages blocks order attr cache users" },
	{ "[kosdma-mapping]",
	  COMMON_PRIVATE "source start offset length flags cache" },
	{ "[kosdma-access]",
	  COMMON_PRIVATE "buffer domain length attr mode [iova]" },
	{ "[kosdma-domain]",
	  COMMON_PRIVATE "mode [limit] placed faults [device]" },
	{ "[kosdma-region]",
	  COMMON_SHARED "length range flags mapping [device] [lost]" },
	{ "[kosdma-badge]", COMMON_PRIVATE },
};

/* Are they the keys of the kind, each once and in order? */
static bool keys_are_right(const struct fdinfo *info)
{
	const char *type = fdinfo_find(info, "type");
	const char *word = NULL;
	int next = 0;

	for (size_t i = 0; type && i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].type, type))
			word = kinds[i].keys;
	while (word && *word) {
		size_t len = strcspn(word, " ");
		bool optional = *word == '[';
		const char *key = next < info->count ? info->key[next] : "";
		size_t want = len - 2 * optional;

		if (strlen(key) == want && !strncmp(key, word + optional, want))
			next++;
		else if (!optional)
			return false;
		word += len + strspn(word + len, " ");
	}
	return word && next == info->count;
}

static void expect_at(pid_t pid, int fd, const char *key, const char *value)
{
	struct fdinfo info;
	const char *seen;

	test_context("%s", key);
	ASSERT_EQ(0, fdinfo_read(&info, pid, fd));
	seen = fdinfo_find(&info, key);
	if (value)
		EXPECT_STREQ(value, seen);
	else
		EXPECT_NULL(seen);
	if (strcmp(key, "quarantined"))
		EXPECT_TRUE(keys_are_right(&info));
	test_context("%s", "");
}

/* The value of a key of this process' handle; NULL: there is none. */
static void expect(int fd, const char *key, const char *value)
{
	expect_at(0, fd, key, value);
}

static void __attribute__((format(printf, 3, 4)))
expectf(int fd, const char *key, const char *fmt, ...)
{
	char value[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	expect(fd, key, value);
}

static uint32_t sid_of(Handle handle)
{
	rtl_uint32_t sid = 0;

	ASSERT_OK(KnHandleGetSidByHandle(handle, &sid));
	return sid;
}

static uint32_t rights_of(Handle handle)
{
	uint32_t rights = 0;

	ASSERT_EQ(0, probe_handle(handle, NULL, &rights));
	return rights;
}

static Handle badge_create(void)
{
	Handle badge = INVALID_HANDLE;

	ASSERT_OK(KnHandleCreateBadge((Notice)INVALID_HANDLE, 0, NULL, &badge));
	return badge;
}

/* What all kinds tell of a living handle. */
static void expect_live(Handle handle, const char *type, bool owned)
{
	expect(handle, "type", type);
	expectf(handle, "sid", "%u", sid_of(handle));
	expectf(handle, "rights", "%#x", rights_of(handle));
	expect(handle, "state", "live");
	expectf(handle, "user", "%u", getuid());
	if (owned)
		expectf(handle, "owner", "%d", getpid());
	else
		expect(handle, "owner", NULL);
}

/* Close a handle of which a copy of the descriptor is left, which is returned. */
static int close_but_for_descriptor(Handle handle)
{
	int fd = fcntl(handle, F_DUPFD_CLOEXEC, 0);

	ASSERT_GE(fd, 0);
	ASSERT_OK(KnHandleClose(handle));
	return fd;
}

FIXTURE(fdinfo) {
	Handle buffer;
	size_t size;
};

FIXTURE_SETUP(fdinfo)
{
	device_warm_up();
	self->size = PAGES(11);
	self->buffer = buffer_create(2, self->size, 0);
}

FIXTURE_TEARDOWN(fdinfo)
{
	EXPECT_OK(KnHandleClose(self->buffer));
}

TEST_F(fdinfo, of_the_device_node)
{
	int fd = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	expect(fd, "quarantined", "0");
	close(fd);
}

TEST_F(fdinfo, of_a_living_buffer)
{
	Handle buffer = self->buffer, access, mapping;

	expect_live(buffer, "[kosdma-buffer]", false);
	expect(buffer, "badge", "0");
	expect(buffer, "uses", "0");
	expectf(buffer, "length", "%zu", self->size);
	expect(buffer, "pages", "12");
	EXPECT_GE(fdinfo_number(buffer, "blocks"), 1);
	EXPECT_LE(fdinfo_number(buffer, "blocks"), 3);
	expect(buffer, "order", "2");
	expectf(buffer, "attr", "%#x",
		KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE |
			KOSDMA_ATTR_WRITE_BACK);
	expect(buffer, "cache", "write-back");
	expect(buffer, "users", "0");

	access = access_begin(buffer);
	expect(buffer, "uses", "1");
	buffer_map(buffer, self->size, &mapping);
	expect(buffer, "uses", "2");
	expect(buffer, "users", "2");
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(mapping));
	expect(buffer, "uses", "0");
	expect(buffer, "users", "0");

	ASSERT_OK(KnIoDmaModify(buffer, DMA_ATTR_CACHE_DISABLE));
	expect(buffer, "cache", "uncached");
}

TEST_F(fdinfo, of_a_copy_and_of_a_revoked_one)
{
	const uint32_t rights = OCAP_DMA_READ | OCAP_DMA_BEGIN |
				OCAP_HANDLE_GET_SID;
	Handle badge = badge_create(), copy, access;

	ASSERT_OK(KnHandleCopy(self->buffer, rights, badge, &copy));
	expect_live(copy, "[kosdma-buffer]", false);
	expectf(copy, "badge", "%u", sid_of(badge));
	access = access_begin(copy);
	/* Uses are the handle's, users the buffer's. */
	expect(copy, "uses", "1");
	expect(self->buffer, "uses", "0");
	expect(self->buffer, "users", "1");

	ASSERT_OK(KnHandleRevokeSubtree(self->buffer, badge));
	expect(copy, "state", "revoked");
	expectf(copy, "rights", "%#x", rights);
	expectf(copy, "sid", "%u", sid_of(self->buffer));
	expectf(copy, "badge", "%u", sid_of(badge));
	expect(copy, "uses", "0");
	expect(self->buffer, "state", "live");
	expect(access, "state", "revoked");
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(badge));
}

/* Its pages are gone: nobody reached it but the handle that was revoked. */
TEST_F(fdinfo, of_a_revoked_handle_whose_buffer_has_ended)
{
	Handle buffer = buffer_create(0, PAGES(2), 0);
	Handle copy = buffer_copy(buffer, OCAP_DMA_FULL);

	ASSERT_OK(KnHandleRevokeEx(buffer, rtl_true));
	expect(copy, "state", "revoked");
	expectf(copy, "length", "%zu", PAGES(2));
	expect(copy, "pages", "2");
	/* What it was made of, or nothing: that depends on the kernel. */
	EXPECT_LE(fdinfo_number(copy, "blocks"), 1);
	expect(copy, "users", "0");
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(fdinfo, of_a_mapping)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL), mapping;
	uint32_t sid = sid_of(self->buffer);
	void *addr;
	int fd;

	ASSERT_OK(KnIoDmaMap(copy, PAGES(2), PAGES(3), NULL,
			     VMM_READ_WRITE | VMM_FLAG_LOW_GUARD, &addr,
			     &mapping));
	expect_live(mapping, "[kosdma-mapping]", true);
	expect(mapping, "badge", "0");
	expect(mapping, "uses", "0");
	expectf(mapping, "source", "%u", sid);
	expectf(mapping, "start", "%#lx", (unsigned long)addr);
	expectf(mapping, "offset", "%zu", PAGES(2));
	expectf(mapping, "length", "%zu", PAGES(3));
	expectf(mapping, "flags", "%#x",
		KOSDMA_MAP_READ | KOSDMA_MAP_WRITE | KOSDMA_MAP_LOW_GUARD);
	expect(mapping, "cache", "write-back");

	fd = close_but_for_descriptor(mapping);
	expect(fd, "state", "ended");
	expectf(fd, "source", "%u", sid);
	expectf(fd, "owner", "%d", getpid());
	close(fd);

	buffer_map(copy, self->size, &mapping);
	ASSERT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	expect(mapping, "state", "revoked");
	expectf(mapping, "source", "%u", sid);
	expectf(mapping, "length", "%zu", self->size);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(fdinfo, of_an_access_that_no_device_reaches)
{
	Handle copy = buffer_copy(self->buffer, OCAP_DMA_FULL);
	Handle domain = domain_create();
	Handle access = access_begin_in(copy, domain);
	int fd;

	expect_live(access, "[kosdma-access]", true);
	expect(access, "badge", "0");
	expect(access, "uses", "0");
	expectf(access, "buffer", "%u", sid_of(self->buffer));
	expectf(access, "domain", "%u", sid_of(domain));
	expectf(access, "length", "%zu", self->size);
	expectf(access, "attr", "%#x",
		KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE);
	expect(access, "mode", "none");
	expect(access, "iova", NULL);

	fd = close_but_for_descriptor(access);
	expect(fd, "state", "ended");
	expectf(fd, "domain", "%u", sid_of(domain));
	expect(fd, "mode", "none");
	close(fd);

	access = access_begin_in(copy, domain);
	ASSERT_OK(KnHandleRevokeEx(self->buffer, rtl_false));
	expect(access, "state", "revoked");
	expect(access, "mode", "none");
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(domain));
	EXPECT_OK(KnHandleClose(copy));
}

TEST_F(fdinfo, of_a_domain_with_a_device_and_its_access)
{
	Handle domain = domain_create(), access;
	bool translated;
	char range[64];
	struct edu edu;
	uint64_t addr;
	int fd;

	edu_require(&edu, 0);
	translated = edu_translated(&edu);
	expect_live(domain, "[kosdma-domain]", true);
	expect(domain, "badge", "0");
	expect(domain, "uses", "0");
	expect(domain, "mode", "none");
	expect(domain, "limit", NULL);
	expect(domain, "placed", "0");
	expect(domain, "faults", "0");
	expect(domain, "device", NULL);

	ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, domain));
	expect(domain, "mode", translated ? "translated" : "direct");
	expect(domain, "device", strrchr(edu.path, '/') + 1);
	EXPECT_GE(fdinfo_number(domain, "limit"), UINT32_MAX);
	access = access_begin_in(self->buffer, domain);
	expect(domain, "placed", "1");
	expect(access, "mode", translated ? "translated" : "direct");
	if (translated) {
		addr = access_addr(access);
		snprintf(range, sizeof(range), "%#llx-%#llx",
			 (unsigned long long)addr,
			 (unsigned long long)addr + PAGES(12) - 1);
		expect(access, "iova", range);
	} else {
		expect(access, "iova", NULL);
	}

	fd = close_but_for_descriptor(domain);
	expect(fd, "state", "ended");
	expect(fd, "placed", "0");
	expect(fd, "limit", NULL);
	expect(fd, "device", NULL);
	expect(access, "state", "live");
	expect(access, "mode", "none");
	expect(access, "iova", NULL);
	EXPECT_OK(KnHandleClose(access));
	close(fd);
}

TEST_F(fdinfo, of_a_region_and_its_mapping)
{
	Handle region, copy, mapping;
	const char *name;
	struct edu edu;
	void *addr;

	edu_require(&edu, 0);
	name = strrchr(edu.path, '/') + 1;
	ASSERT_OK(KnRegisterPhyMem(edu.bar, PAGE, 0, &region));
	expect_live(region, "[kosdma-region]", false);
	expect(region, "badge", "0");
	expect(region, "uses", "0");
	expectf(region, "length", "%u", PAGE);
	expectf(region, "range", "%#llx-%#llx", (unsigned long long)edu.bar,
		(unsigned long long)edu.bar + PAGE - 1);
	expect(region, "flags", "0x0");
	expect(region, "mapping", "0");
	expect(region, "device", name);
	expect(region, "lost", "0");

	ASSERT_OK(KnHandleCopy(region, OCAP_MMIO_FULL, INVALID_HANDLE, &copy));
	ASSERT_OK(KnIoMapMem(copy, VMM_FLAG_READ, 0, &addr, &mapping));
	expectf(region, "mapping", "%u", sid_of(mapping));
	expect(region, "uses", "0");
	expect(copy, "uses", "1");
	expect(mapping, "cache", "uncached");
	expectf(mapping, "source", "%u", sid_of(region));
	expectf(mapping, "flags", "%#x", KOSDMA_MAP_READ);

	ASSERT_OK(KnHandleRevokeEx(region, rtl_false));
	expect(copy, "state", "revoked");
	expect(mapping, "state", "revoked");
	expect(region, "state", "live");
	expect(region, "mapping", "0");
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(copy));

	/* The device is taken away; the handle lives on, of no use. */
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	ASSERT_TRUE(probe_write_file(UNBIND, name));
	expect(region, "state", "live");
	expect(region, "lost", "1");
	expect(region, "device", name);
	expect(mapping, "state", "revoked");
	EXPECT_OK(KnHandleClose(mapping));
	expect(region, "mapping", "0");
	EXPECT_OK(KnHandleClose(region));
}

TEST_F(fdinfo, of_a_badge)
{
	Handle badge = badge_create();
	uint32_t sid = sid_of(badge);
	int fd;

	expect_live(badge, "[kosdma-badge]", true);
	expect(badge, "badge", "0");
	expect(badge, "uses", "0");
	fd = close_but_for_descriptor(badge);
	expect(fd, "state", "ended");
	expectf(fd, "sid", "%u", sid);
	close(fd);
}

/* A descriptor of a private handle does not make its holder the owner. */
TEST_F(fdinfo, the_owner_is_who_made_it_until_it_dies)
{
	int sock[2], fd, go[2];
	char owner[16];
	pid_t pid;

	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   sock));
	ASSERT_ERRNO(0, pipe2(go, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		int domain = domain_create();

		probe_send_fds(sock[1], &domain, 1);
		probe_await(go[0]);
		test_child_exit();
	}
	ASSERT_EQ(1, probe_receive_fds(sock[0], &fd, 1));
	snprintf(owner, sizeof(owner), "%d", pid);
	expect(fd, "owner", owner);
	expect(fd, "state", "live");
	probe_signal(go[1]);
	test_wait(pid);
	for (int i = 0; i < 500 && fdinfo_number(fd, "owner"); i++)
		usleep(10 * 1000);
	expect(fd, "owner", "0");
	for (int i = 0; i < 500; i++) {
		struct fdinfo info;

		ASSERT_EQ(0, fdinfo_read(&info, 0, fd));
		if (!strcmp(fdinfo_find(&info, "state") ?: "", "ended"))
			break;
		usleep(10 * 1000);
	}
	expect(fd, "state", "ended");
	close(fd);
}

TEST_F(fdinfo, the_user_is_who_is_charged)
{
	int sock[2], fd;
	pid_t pid;

	if (getuid())
		SKIP("needs root");
	device_make_public();
	ASSERT_ERRNO(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				   sock));
	pid = test_fork();
	if (!pid) {
		int buffer;

		probe_become_nobody();
		buffer = buffer_create(0, PAGE, 0);
		probe_send_fds(sock[1], &buffer, 1);
		test_child_exit();
	}
	ASSERT_EQ(1, probe_receive_fds(sock[0], &fd, 1));
	test_wait(pid);
	expectf(fd, "user", "%d", NOBODY);
	expect(self->buffer, "user", "0");
	close(fd);
	device_restore();
}

TEST_F(fdinfo, process_ids_are_shown_in_the_initial_namespace_only)
{
	Handle domain = domain_create();
	pid_t parent = getpid(), pid;

	expectf(domain, "owner", "%d", parent);
	pid = test_fork();
	if (!pid) {
		if (unshare(CLONE_NEWPID))
			SKIP("needs PID namespaces and root: %m");
		pid = test_fork();
		if (!pid) {
			expect_at(parent, domain, "owner", "0");
			test_child_exit();
		}
		test_wait(pid);
		test_child_exit();
	}
	test_wait(pid);
	EXPECT_OK(KnHandleClose(domain));
}

/* ---- a process that dies while it is looked at ---- */

enum { ROUNDS = 25, READERS = 2, LOOKS_MAX = 20000 };

/* Live, with handles of all kinds, and make and end some until killed. */
static void live(int ready, bool attach, uint16_t bdf)
{
	Handle buffer = buffer_create(1, PAGES(8), 0), domain = domain_create();
	Handle badge = badge_create(), copy, mapping, access;

	ASSERT_OK(KnHandleCopy(buffer, OCAP_DMA_FULL, badge, &copy));
	buffer_map(copy, PAGES(8), &mapping);
	access_begin(buffer);
	access_begin_in(copy, domain);
	if (attach)
		ASSERT_OK(KnIommuAttachDeviceToDomain(bdf, domain));
	probe_signal(ready);
	for (;;) {
		access = access_begin_in(buffer, domain);
		buffer_map(buffer, PAGES(8), &mapping);
		KnHandleRevokeSubtree(buffer, badge);
		KnHandleClose(copy);
		KnHandleCopy(buffer, OCAP_DMA_FULL, badge, &copy);
		KnHandleClose(access);
		KnHandleClose(mapping);
	}
}

/* Look at every descriptor of a process until it is gone. */
static void look(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	for (int looks = 0; looks < LOOKS_MAX;) {
		DIR *dir = opendir(path);
		struct dirent *entry;
		int seen = 0;

		if (!dir)
			return;
		while ((entry = readdir(dir))) {
			struct fdinfo info;
			const char *state;
			int error;

			if (entry->d_name[0] == '.')
				continue;
			seen++;
			looks++;
			/* Closed meanwhile, or dead. */
			error = fdinfo_read(&info, pid, atoi(entry->d_name));
			if (error) {
				EXPECT_TRUE(error == ENOENT || error == ESRCH ||
					    error == EACCES);
				continue;
			}
			state = fdinfo_find(&info, "state");
			if (!state)
				continue;
			EXPECT_TRUE(keys_are_right(&info));
			EXPECT_TRUE(!strcmp(state, "live") ||
				    !strcmp(state, "revoked") ||
				    !strcmp(state, "ended"));
		}
		closedir(dir);
		/* A zombie has no descriptors, and is there until it is waited for. */
		if (!seen)
			return;
	}
}

TEST_F_TIMEOUT(fdinfo, of_a_process_that_is_dying, 300)
{
	struct edu edu;
	bool have_edu = edu_find(&edu, 0);
	unsigned int seed = 7;

	for (int round = 0; round < ROUNDS && !test_nr_failures(); round++) {
		pid_t pid, readers[READERS];
		int ready[2];

		test_context("round %d", round);
		ASSERT_ERRNO(0, pipe2(ready, O_CLOEXEC));
		pid = test_fork();
		if (!pid)
			live(ready[1], have_edu && round % 4 == 0, edu.bdf);
		close(ready[1]);
		probe_await(ready[0]);
		close(ready[0]);
		for (int i = 0; i < READERS; i++) {
			readers[i] = test_fork();
			if (!readers[i]) {
				look(pid);
				test_child_exit();
			}
		}
		usleep(rand_r(&seed) % 60000);
		ASSERT_ERRNO(0, kill(pid, SIGKILL));
		for (int i = 0; i < READERS; i++)
			test_wait(readers[i]);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
}

TEST_HARNESS_MAIN
