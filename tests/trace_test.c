// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tracepoints: each step is seen, with its numbers, by whoever switched its
 * event on, and by nobody else. Each test has an instance of tracefs to itself.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/fdinfo.h"
#include "lib/probe.h"

#define TRACEFS "/sys/kernel/tracing"
#define EVENTS TRACEFS "/events/kosdma"
#define UNQUIET "/sys/module/kosdma/parameters/inject_unquiet"
#define UNBIND "/sys/bus/pci/drivers/kosdma/unbind"
#define NO_DEVICE "ffff:ff:1f.7"

/* Every event and its fields, in order. */
static const struct {
	const char *name;
	const char *fields;
} events[] = {
	{ "access_begin", "sid buffer domain pid bytes attr" },
	{ "access_end", "sid buffer domain pid how lingers" },
	{ "access_place", "sid buffer domain pid iova bytes direct" },
	{ "access_unplace", "sid buffer domain pid iova bytes direct" },
	{ "badge_create", "sid pid" },
	{ "buffer_create", "sid pid bytes pages blocks order attr" },
	{ "buffer_free", "sid pages" },
	{ "device_attach", "device domain pid direct" },
	{ "device_detach", "device domain pid quiet" },
	{ "device_hold", "device pid" },
	{ "device_lost", "device pid" },
	{ "device_reset", "device error" },
	{ "device_unhold", "device pid" },
	{ "domain_create", "sid pid automatic" },
	{ "domain_end", "sid pid automatic" },
	{ "domain_flush", "sid pid iova bytes" },
	{ "handle_copy", "sid type pid rights badge" },
	{ "handle_revoke", "sid type pid badge" },
	{ "ioctl_refuse", "pid cmd nr error" },
	{ "mapping_end", "sid source pid bytes how" },
	{ "mapping_map", "sid source pid start bytes offset flags" },
	{ "process_end", "pid" },
	{ "quarantine_add", "sid buffer device pages" },
	{ "quarantine_release", "sid buffer device pages" },
	{ "region_create", "sid pid device bytes flags" },
	{ "region_end", "sid device bytes" },
};

enum { TRACE_MAX = 1 << 20 };

FIXTURE(trace) {
	char instance[96];
	char *text;
};

static bool instance_write(const struct fixture_data_trace *self,
			   const char *file, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", self->instance, file);
	return probe_write_file(path, text);
}

FIXTURE_SETUP(trace)
{
	device_warm_up();
	if (access(TRACEFS "/instances", W_OK))
		SKIP("needs tracefs at " TRACEFS " and root");
	/* Before anything is recorded: the process begins to exist. */
	EXPECT_OK(KnHandleClose(domain_create()));
	self->text = malloc(TRACE_MAX);
	ASSERT_NOT_NULL(self->text);
	snprintf(self->instance, sizeof(self->instance),
		 TRACEFS "/instances/kosdma-test-%d", getpid());
	ASSERT_ERRNO(0, mkdir(self->instance, 0700));
	EXPECT_TRUE(instance_write(self, "events/kosdma/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	if (!self->instance[0])
		return;
	EXPECT_TRUE(instance_write(self, "events/kosdma/enable", "0"));
	EXPECT_ERRNO(0, rmdir(self->instance));
	free(self->text);
}

/* What was recorded until now, from the beginning. */
static void take(struct fixture_data_trace *self)
{
	char path[128];
	size_t len = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/trace", self->instance);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	while ((n = read(fd, self->text + len, TRACE_MAX - 1 - len)) > 0)
		len += n;
	close(fd);
	ASSERT_LT(len, TRACE_MAX - 1);
	self->text[len] = '\0';
}

/* Forget what was recorded: that is what truncating the file means. */
static void clear(struct fixture_data_trace *self)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/trace", self->instance);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	EXPECT_GE(fd, 0);
	close(fd);
}

/*
 * How many of the taken events, of any process, match "name: fields", a shell
 * pattern; @at gets the number of the line of the first.
 */
static int count(const struct fixture_data_trace *self, const char *pattern,
		 int *at)
{
	const char *line = self->text;
	char whole[512];
	int n = 0, nr = 0;

	/* "comm-pid [cpu] flags time: name: fields" */
	snprintf(whole, sizeof(whole), "*: %s", pattern);
	while (*line) {
		size_t len = strcspn(line, "\n");
		char copy[512];

		snprintf(copy, sizeof(copy), "%.*s", (int)len, line);
		if (copy[0] != '#' && !fnmatch(whole, copy, 0) && !n++ && at)
			*at = nr;
		nr++;
		line += len + (line[len] == '\n');
	}
	return n;
}

static void show(const struct fixture_data_trace *self)
{
	const char *line = self->text;

	while (*line) {
		size_t len = strcspn(line, "\n");

		if (*line != '#')
			test_log("trace: %.*s", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

/* The number of the line of the one event that matches, among those taken. */
static int __attribute__((format(printf, 2, 3)))
found(const struct fixture_data_trace *self, const char *fmt, ...)
{
	char pattern[400];
	va_list ap;
	int at = -1, n;

	va_start(ap, fmt);
	vsnprintf(pattern, sizeof(pattern), fmt, ap);
	va_end(ap);
	n = count(self, pattern, &at);
	if (n != 1) {
		test_failed(false, __FILE__, __LINE__,
			    "%d events match \"%s\"", n, pattern);
		show(self);
	}
	return at;
}

static uint32_t sid_of(Handle handle)
{
	rtl_uint32_t sid = 0;

	ASSERT_OK(KnHandleGetSidByHandle(handle, &sid));
	return sid;
}

static const char *device_name(const struct edu *edu)
{
	return strrchr(edu->path, '/') + 1;
}

/* ---- what perf and trace-cmd read ---- */

static char *event_file(const char *event, const char *file)
{
	static char text[16384];
	char path[160];
	size_t len = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), EVENTS "/%s/%s", event, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = '\0';
	return text;
}

TEST_F(trace, the_events_are_these)
{
	struct dirent **names;
	int nr = scandir(EVENTS, &names, NULL, alphasort);
	size_t next = 0;

	ASSERT_GE(nr, 0);
	for (int i = 0; i < nr; i++) {
		if (names[i]->d_type == DT_DIR && names[i]->d_name[0] != '.') {
			ASSERT_LT(next, ARRAY_SIZE(events));
			EXPECT_STREQ(events[next++].name, names[i]->d_name);
		}
		free(names[i]);
	}
	free(names);
	EXPECT_EQ(ARRAY_SIZE(events), next);
}

/* Fields lie behind each other, and each value has its name in what is printed. */
TEST_F(trace, formats_can_be_parsed)
{
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		char fields[256] = "", *line, *save, *print = NULL;
		unsigned int end = 0, id = 0;
		char name[64] = "";

		test_context("%s", events[i].name);
		line = strtok_r(event_file(events[i].name, "format"), "\n",
				&save);
		for (; line; line = strtok_r(NULL, "\n", &save)) {
			unsigned int offset, size, is_signed;
			char declaration[64], *field;

			if (sscanf(line, "name: %63s", name) == 1 ||
			    sscanf(line, "ID: %u", &id) == 1)
				continue;
			if (!strncmp(line, "print fmt: ", 11))
				print = line + 11;
			if (sscanf(line, " field:%63[^;]; offset:%u; size:%u; signed:%u;",
				   declaration, &offset, &size, &is_signed) != 4)
				continue;
			EXPECT_GE(offset, end);
			end = offset + size;
			field = strrchr(declaration, ' ');
			ASSERT_NOT_NULL(field);
			/* No text, and nothing whose length varies. */
			EXPECT_FALSE(strpbrk(declaration, "[*"));
			if (strncmp(field + 1, "common_", 7))
				strcat(fields, field + !fields[0]);
		}
		EXPECT_STREQ(events[i].name, name);
		EXPECT_GT(id, 0);
		EXPECT_STREQ(events[i].fields, fields);
		ASSERT_NOT_NULL(print);
		EXPECT_EQ('"', print[0]);
		/* Names of the kernel's that no other program knows. */
		EXPECT_NULL(strstr(print, "KOSDMA_"));
	}
	test_context("%s", "");
}

TEST_F(trace, nobody_listens_unless_asked)
{
	Handle buffer;

	EXPECT_EQ('0', event_file(".", "enable")[0]);
	EXPECT_OK(KnHandleClose(buffer_create(0, PAGE, 0)));
	take(self);
	EXPECT_EQ(1, count(self, "buffer_create: *", NULL));
	EXPECT_TRUE(instance_write(self, "events/kosdma/enable", "0"));
	clear(self);
	buffer = buffer_create(0, PAGE, 0);
	EXPECT_OK(KnHandleClose(access_begin(buffer)));
	EXPECT_OK(KnHandleClose(buffer));
	take(self);
	EXPECT_EQ(0, count(self, "*", NULL));

	/* One event alone. */
	EXPECT_TRUE(instance_write(self, "events/kosdma/buffer_free/enable",
				   "1"));
	EXPECT_OK(KnHandleClose(buffer_create(0, PAGE, 0)));
	take(self);
	EXPECT_EQ(1, count(self, "*", NULL));
	EXPECT_EQ(1, count(self, "buffer_free: *", NULL));
}

/* The kernel's filters know the fields. */
TEST_F(trace, events_can_be_filtered)
{
	EXPECT_TRUE(instance_write(self, "events/kosdma/buffer_create/filter",
				   "pages > 4 && order == 1"));
	EXPECT_OK(KnHandleClose(buffer_create(0, PAGES(8), 0)));
	EXPECT_OK(KnHandleClose(buffer_create(1, PAGES(4), 0)));
	EXPECT_OK(KnHandleClose(buffer_create(1, PAGES(6), 0)));
	take(self);
	EXPECT_EQ(1, count(self, "buffer_create: *", NULL));
	found(self, "buffer_create: * pages=6 blocks=* order=1 *");
}

/* ---- steps ---- */

TEST_F(trace, a_buffer)
{
	Handle buffer = buffer_create(2, PAGES(11), 0);
	uint32_t sid = sid_of(buffer);
	int create, free;

	take(self);
	create = found(self, "buffer_create: sid=%u pid=%d bytes=%zu pages=12 blocks=[1-3] order=2 attr=%#x",
		       sid, getpid(), PAGES(11),
		       KOSDMA_ATTR_TO_DEVICE | KOSDMA_ATTR_FROM_DEVICE |
			       KOSDMA_ATTR_WRITE_BACK);
	EXPECT_EQ(0, count(self, "buffer_free: *", NULL));
	EXPECT_OK(KnHandleClose(buffer));
	take(self);
	free = found(self, "buffer_free: sid=%u pages=12", sid);
	EXPECT_LT(create, free);
}

TEST_F(trace, a_mapping)
{
	Handle buffer = buffer_create(0, PAGES(4), 0), mapping;
	uint32_t source = sid_of(buffer), sid;
	pid_t pid = getpid();
	void *addr;

	ASSERT_OK(KnIoDmaMap(buffer, PAGES(1), PAGES(2), NULL, VMM_READ_WRITE,
			     &addr, &mapping));
	sid = sid_of(mapping);
	EXPECT_OK(KnHandleClose(mapping));
	take(self);
	EXPECT_LT(found(self, "mapping_map: sid=%u source=%u pid=%d start=%#lx bytes=8192 offset=4096 flags=%#x",
			sid, source, pid, (unsigned long)addr,
			KOSDMA_MAP_READ | KOSDMA_MAP_WRITE),
		  found(self, "mapping_end: sid=%u source=%u pid=%d bytes=8192 how=ended",
			sid, source, pid));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(trace, a_copy_and_its_revocation)
{
	Handle buffer = buffer_create(0, PAGES(4), 0), badge, copy, second;
	Handle access, mapping;
	uint32_t sid = sid_of(buffer), badge_sid;
	pid_t pid = getpid();
	int revoke;

	ASSERT_OK(KnHandleCreateBadge((Notice)INVALID_HANDLE, 0, NULL, &badge));
	badge_sid = sid_of(badge);
	ASSERT_OK(KnHandleCopy(buffer, OCAP_DMA_FULL, badge, &copy));
	second = buffer_copy(buffer, OCAP_DMA_READ);
	access = access_begin(copy);
	buffer_map(copy, PAGES(4), &mapping);
	ASSERT_OK(KnHandleRevokeSubtree(buffer, badge));
	take(self);
	found(self, "badge_create: sid=%u pid=%d", badge_sid, pid);
	found(self, "handle_copy: sid=%u type=buffer pid=%d rights=%#x badge=%u",
	      sid, pid, OCAP_DMA_FULL, badge_sid);
	found(self, "handle_copy: sid=%u type=buffer pid=%d rights=%#x badge=0",
	      sid, pid, OCAP_DMA_READ);
	revoke = found(self, "handle_revoke: sid=%u type=buffer pid=%d badge=%u",
		       sid, pid, badge_sid);
	EXPECT_LT(revoke, found(self, "access_end: * buffer=%u * how=revoked lingers=0",
				sid));
	EXPECT_LT(revoke, found(self, "mapping_end: * source=%u pid=%d bytes=16384 how=revoked",
				sid, pid));
	clear(self);
	ASSERT_OK(KnHandleRevokeEx(buffer, rtl_false));
	take(self);
	found(self, "handle_revoke: sid=%u type=buffer pid=%d badge=0", sid,
	      pid);
	/* What has ended does not end again. */
	EXPECT_EQ(0, count(self, "*_end: *", NULL));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(access));
	EXPECT_OK(KnHandleClose(second));
	EXPECT_OK(KnHandleClose(copy));
	EXPECT_OK(KnHandleClose(badge));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(trace, an_access_before_any_attach)
{
	Handle buffer = buffer_create(1, PAGES(2), DMA_DIR_TO_DEVICE);
	Handle access = access_begin(buffer);
	uint32_t domain = fdinfo_number(access, "domain");
	uint32_t sid = sid_of(access);
	pid_t pid = getpid();

	EXPECT_OK(KnHandleClose(access));
	take(self);
	found(self, "domain_create: sid=%u pid=%d automatic=1", domain, pid);
	EXPECT_LT(found(self, "access_begin: sid=%u buffer=%u domain=%u pid=%d bytes=8192 attr=%#x",
			sid, sid_of(buffer), domain, pid,
			KOSDMA_ATTR_TO_DEVICE),
		  found(self, "access_end: sid=%u buffer=%u domain=%u pid=%d how=ended lingers=0",
			sid, sid_of(buffer), domain, pid));
	EXPECT_EQ(0, count(self, "access_*place: *", NULL));
	EXPECT_EQ(0, count(self, "domain_flush: *", NULL));
	EXPECT_OK(KnHandleClose(buffer));
}

/* What ends together is flushed together; what ends alone, alone. */
TEST_F(trace, a_flush_is_shared)
{
	Handle buffer = buffer_create(0, PAGE, 0), accesses[3];
	struct edu edu;

	edu_require(&edu, 0);
	if (!edu_translated(&edu))
		SKIP("without an IOMMU nothing is flushed");
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	for (size_t i = 0; i < ARRAY_SIZE(accesses); i++)
		accesses[i] = access_begin(buffer);
	take(self);
	EXPECT_EQ(0, count(self, "domain_flush: *", NULL));
	EXPECT_OK(KosHandleCloseMany(accesses, ARRAY_SIZE(accesses)));
	take(self);
	EXPECT_EQ(3, count(self, "access_unplace: *", NULL));
	EXPECT_EQ(1, count(self, "domain_flush: *", NULL));
	clear(self);
	for (size_t i = 0; i < ARRAY_SIZE(accesses); i++)
		EXPECT_OK(KnHandleClose(access_begin(buffer)));
	take(self);
	EXPECT_EQ(3, count(self, "domain_flush: *", NULL));
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(trace, a_device_in_a_domain)
{
	Handle buffer = buffer_create(1, PAGES(2), 0), domain = domain_create();
	Handle access = access_begin_in(buffer, domain);
	uint32_t sid = sid_of(access), buffer_sid = sid_of(buffer);
	uint32_t domain_sid = sid_of(domain);
	int hold, attach, place, unplace, detach, end;
	char range[64] = "0x0-0x0";
	pid_t pid = getpid();
	const char *device;
	struct edu edu;
	bool direct;

	edu_require(&edu, 0);
	device = device_name(&edu);
	direct = !edu_translated(&edu);
	ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, domain));
	if (!direct)
		snprintf(range, sizeof(range), "%#llx-%#llx",
			 (unsigned long long)access_addr(access),
			 (unsigned long long)access_addr(access) + 8191);
	EXPECT_OK(KnHandleClose(access));
	ASSERT_OK(KnIommuDetachDeviceFromDomain(edu.bdf, domain));
	EXPECT_OK(KnHandleClose(domain));
	take(self);

	found(self, "domain_create: sid=%u pid=%d automatic=0", domain_sid, pid);
	hold = found(self, "device_hold: device=%s pid=%d", device, pid);
	/* At the beginning of holding, and at the end. edu can be reset or cannot. */
	EXPECT_EQ(2, count(self, "device_reset: device=*", NULL));
	place = found(self, "access_place: sid=%u buffer=%u domain=%u pid=%d iova=%s bytes=8192 direct=%d",
		      sid, buffer_sid, domain_sid, pid, range, direct);
	attach = found(self, "device_attach: device=%s domain=%u pid=%d direct=%d",
		       device, domain_sid, pid, direct);
	unplace = found(self, "access_unplace: sid=%u buffer=%u domain=%u pid=%d iova=%s bytes=8192 direct=%d",
			sid, buffer_sid, domain_sid, pid, range, direct);
	end = found(self, "access_end: sid=%u buffer=%u domain=%u pid=%d how=ended lingers=%d",
		    sid, buffer_sid, domain_sid, pid, direct);
	detach = found(self, "device_detach: device=%s domain=%u pid=%d quiet=1",
		       device, domain_sid, pid);
	EXPECT_LT(hold, place);
	EXPECT_LT(place, attach);
	EXPECT_LT(attach, unplace);
	EXPECT_LT(unplace, end);
	EXPECT_LT(end, detach);
	/* One page table, so one flush, of what the access had; without an IOMMU none. */
	EXPECT_EQ(!direct, count(self, "domain_flush: *", NULL));
	if (!direct) {
		int flush = found(self, "domain_flush: sid=%u pid=%d iova=%s bytes=8192",
				  domain_sid, pid, range);

		EXPECT_LT(unplace, flush);
		EXPECT_LT(flush, end);
	}
	EXPECT_LT(detach, found(self, "device_unhold: device=%s pid=%d", device,
				pid));
	found(self, "domain_end: sid=%u pid=%d automatic=0", domain_sid, pid);
	EXPECT_EQ(0, count(self, "device_lost: *", NULL));
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(trace, a_region)
{
	Handle region, mapping;
	uint32_t sid, mapping_sid;
	pid_t pid = getpid();
	struct edu edu;
	void *addr;

	edu_require(&edu, 0);
	ASSERT_OK(KnRegisterPhyMem(edu.bar, PAGE, 0, &region));
	sid = sid_of(region);
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	mapping_sid = sid_of(mapping);
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
	take(self);
	found(self, "mapping_map: sid=%u source=%u pid=%d start=%#lx bytes=4096 offset=0 flags=%#x",
	      mapping_sid, sid, pid, (unsigned long)addr, KOSDMA_MAP_READ);
	EXPECT_LT(found(self, "region_create: sid=%u pid=%d device=%s bytes=4096 flags=0x0",
			sid, pid, device_name(&edu)),
		  found(self, "region_end: sid=%u device=%s bytes=4096", sid,
			device_name(&edu)));
	found(self, "device_hold: device=%s pid=%d", device_name(&edu), pid);
	found(self, "device_unhold: device=%s pid=%d", device_name(&edu), pid);
}

TEST_F(trace, a_device_that_is_taken_away)
{
	Handle domain = domain_create(), region, mapping;
	pid_t pid = getpid();
	const char *device;
	struct edu edu;
	void *addr;
	int lost;

	edu_require(&edu, 0);
	device = device_name(&edu);
	ASSERT_OK(KnIommuAttachDeviceToDomain(edu.bdf, domain));
	ASSERT_OK(KnRegisterPhyMem(edu.bar, PAGE, 0, &region));
	ASSERT_OK(KnIoMapMem(region, VMM_FLAG_READ, 0, &addr, &mapping));
	ASSERT_TRUE(probe_write_file(UNBIND, device));
	take(self);
	lost = found(self, "device_lost: device=%s pid=%d", device, pid);
	EXPECT_LT(lost, found(self, "device_detach: device=%s domain=%u pid=%d quiet=1",
			      device, sid_of(domain), pid));
	EXPECT_LT(lost, found(self, "mapping_end: * source=%u pid=%d bytes=4096 how=revoked",
			      sid_of(region), pid));
	EXPECT_LT(lost, found(self, "device_unhold: device=%s pid=%d", device,
			      pid));
	EXPECT_OK(KnHandleClose(mapping));
	EXPECT_OK(KnHandleClose(region));
	EXPECT_OK(KnHandleClose(domain));
	/* Nobody loses what nobody holds. */
	clear(self);
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	ASSERT_TRUE(probe_write_file(UNBIND, device));
	take(self);
	EXPECT_EQ(0, count(self, "device_lost: *", NULL));
}

/* Direct addresses are physical, and are told to those who may ask for them only. */
TEST_F(trace, no_physical_address)
{
	Handle buffer = buffer_create(0, PAGES(1), 0), access;
	char address[32], frame[32];
	struct edu edu;
	DmaInfo *info;

	edu_require(&edu, 0);
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	access = access_begin(buffer);
	ASSERT_OK(KnIoDmaGetPhysInfo(buffer, &info));
	snprintf(address, sizeof(address), "%llx",
		 (unsigned long long)info->descriptors[0].frame << PAGE_SHIFT);
	snprintf(frame, sizeof(frame), "=%#llx",
		 (unsigned long long)info->descriptors[0].frame);
	KosMemFree(info);
	EXPECT_OK(KnHandleClose(access));
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	EXPECT_OK(KnHandleClose(buffer));
	take(self);
	EXPECT_EQ(1, count(self, "access_place: *", NULL));
	EXPECT_NULL(strstr(self->text, address));
	EXPECT_NULL(strstr(self->text, frame));
}

/* How the trace shows the refusal of a call on a handle. */
TEST_F(trace, refusals)
{
	struct kosdma_buffer_create zero = { .size = sizeof(zero) };
	struct kosdma_access_begin begin = {
		.size = sizeof(begin),
		.handle = KOSDMA_NO_HANDLE,
		.domain = KOSDMA_NO_HANDLE,
	};
	struct kosdma_device_attach attach = {
		.size = sizeof(attach),
		.address = 0xfffff,
		.domain = KOSDMA_NO_HANDLE,
	};
	struct kosdma_info info = { .size = sizeof(info) };
	pid_t pid = getpid();

	EXPECT_ERRNO(EINVAL, probe_ioctl(KOSDMA_BUFFER_CREATE, &zero));
	EXPECT_ERRNO(EBADF, probe_ioctl(KOSDMA_ACCESS_BEGIN, &begin));
	EXPECT_ERRNO(ENODEV, probe_ioctl(KOSDMA_DEVICE_ATTACH, &attach));
	EXPECT_ERRNO(ENOTTY, probe_ioctl(_IO(KOSDMA_TYPE, 0xf0), &info));
	EXPECT_ERRNO(EFAULT, probe_ioctl(KOSDMA_INFO, NULL));
	EXPECT_ERRNO(0, probe_ioctl(KOSDMA_INFO, &info));
	take(self);
	EXPECT_EQ(5, count(self, "ioctl_refuse: *", NULL));
	found(self, "ioctl_refuse: pid=%d cmd=%#x name=BUFFER_CREATE error=-%d",
	      pid, KOSDMA_BUFFER_CREATE, EINVAL);
	found(self, "ioctl_refuse: pid=%d cmd=%#x name=ACCESS_BEGIN error=-%d",
	      pid, KOSDMA_ACCESS_BEGIN, EBADF);
	found(self, "ioctl_refuse: pid=%d cmd=%#x name=DEVICE_ATTACH error=-%d",
	      pid, KOSDMA_DEVICE_ATTACH, ENODEV);
	found(self, "ioctl_refuse: pid=%d cmd=%#x name=0xf0 error=-%d", pid,
	      _IO(KOSDMA_TYPE, 0xf0), ENOTTY);
	found(self, "ioctl_refuse: pid=%d cmd=%#x name=INFO error=-%d", pid,
	      KOSDMA_INFO, EFAULT);
}

static bool gone(void *arg)
{
	struct fixture_data_trace *self = arg;

	take(self);
	return count(self, "process_end: *", NULL);
}

/* Everything that it had is given back before it counts as gone. */
TEST_F(trace, a_process_that_is_killed)
{
	int sync[2], end;
	struct edu edu;
	bool have_edu = edu_find(&edu, 0);
	pid_t pid;

	ASSERT_ERRNO(0, pipe2(sync, O_CLOEXEC));
	pid = test_fork();
	if (!pid) {
		Handle mapping, buffer = buffer_create(0, PAGES(2), 0);

		if (have_edu)
			ASSERT_OK(KnIommuAttachDevice(edu.bdf));
		buffer_map(buffer, PAGES(2), &mapping);
		access_begin(buffer);
		probe_signal(sync[1]);
		pause();
	}
	probe_await(sync[0]);
	take(self);
	EXPECT_EQ(0, count(self, "process_end: *", NULL));
	ASSERT_ERRNO(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	ASSERT_TRUE(wait_until(gone, self, 30));
	end = found(self, "process_end: pid=%d", pid);
	EXPECT_GT(end, found(self, "mapping_end: * pid=%d bytes=8192 how=ended",
			     pid));
	EXPECT_GT(end, found(self, "access_end: * pid=%d how=ended *", pid));
	EXPECT_GT(end, found(self, "domain_end: sid=* pid=%d automatic=1", pid));
	if (have_edu)
		EXPECT_GT(end, found(self, "device_unhold: device=%s pid=%d",
				     device_name(&edu), pid));
}

/* The test build of the module lies about a device's being quiet. */
TEST_F(trace, quarantine)
{
	uint32_t sid, buffer_sid;
	struct begun b;
	struct edu edu;

	if (access(UNQUIET, W_OK))
		SKIP("this is not the test build of the module");
	edu_require(&edu, 0);
	if (edu_translated(&edu))
		SKIP("an IOMMU cuts the device off, quiet or not");
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	begun_open(&b, PAGES(16), INVALID_HANDLE);
	sid = sid_of(b.access);
	buffer_sid = sid_of(b.buffer);
	begun_close(&b);
	ASSERT_TRUE(probe_write_file(UNQUIET, "1"));
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	ASSERT_TRUE(probe_write_file(UNQUIET, "0"));
	take(self);
	found(self, "access_end: sid=%u * how=ended lingers=1", sid);
	found(self, "device_detach: device=%s * quiet=0", device_name(&edu));
	found(self, "quarantine_add: sid=%u buffer=%u device=%s pages=16", sid,
	      buffer_sid, device_name(&edu));
	EXPECT_EQ(0, count(self, "quarantine_release: *", NULL));
	EXPECT_EQ(0, count(self, "buffer_free: *", NULL));
	ASSERT_OK(KnIommuAttachDevice(edu.bdf));
	ASSERT_OK(KnIommuDetachDevice(edu.bdf));
	take(self);
	EXPECT_LT(found(self, "quarantine_release: sid=%u buffer=%u device=%s pages=16",
			sid, buffer_sid, device_name(&edu)),
		  found(self, "buffer_free: sid=%u pages=16", buffer_sid));
}

/* A range outside the BARs of devices belongs to none. */
TEST_F(trace, a_region_of_no_device)
{
	uint64_t start = 0, last;
	Handle region = INVALID_HANDLE;

	/* Behind RAM and before the chipset's registers there is nothing. */
	if (!probe_iomem_find("PCI ECAM", 0, &start, &last) &&
	    !probe_iomem_find("PCI MMCONFIG", 0, &start, &last))
		SKIP("no place is known where no device is");
	if (KnRegisterPhyMem(start - PAGES(16), PAGE, 0, &region) != rcOk)
		SKIP("the place where no device was expected is taken");
	take(self);
	found(self, "region_create: sid=%u pid=%d device=" NO_DEVICE " bytes=4096 flags=0x0",
	      sid_of(region), getpid());
	EXPECT_OK(KnHandleClose(region));
}

/* ---- trace-cmd ---- */

#define DATA "/tmp/kosdma-trace.dat"

/* The lines that a command prints: how many, and how many match the pattern. */
static int lines_of(const char *command, const char *pattern, int *nr)
{
	FILE *f = popen(command, "re");
	char line[512];
	int matches = 0;

	ASSERT_NOT_NULL(f);
	for (*nr = 0; fgets(line, sizeof(line), f); (*nr)++)
		matches += !fnmatch(pattern, line, 0);
	EXPECT_EQ(0, pclose(f));
	return matches;
}

/* As Documentation/tracing.md shows it: record a driver, and report with names and signs. */
TEST(trace_cmd_records_a_driver_and_reports_it)
{
	static const struct {
		const char *pattern;
		int times;
	} report[] = {
		{ "*: ioctl_refuse: * name=DEVICE_ATTACH error=-49\n", 1 },
		{ "*: device_attach: * device=0000:00:08.0 domain=* direct=?\n", 1 },
		{ "*: region_create: * device=0000:00:08.0 bytes=4096 flags=*\n", 1 },
		{ "*: access_place: * iova=0x*-0x*fff bytes=24576 direct=0\n", 2 },
		{ "*: buffer_free: * pages=6\n", 1 },
	};
	bool translated;
	struct edu edu;
	int nr;

	if (geteuid() || system("type trace-cmd kos-edu >/dev/null 2>&1"))
		SKIP("needs trace-cmd, kos-edu and root");
	edu_require(&edu, 0);
	translated = edu_translated(&edu);
	/* Its first attempt to attach is refused: nobody has the device. */
	probe_write_file(UNBIND, device_name(&edu));
	if (system("trace-cmd record -e kosdma -o " DATA " kos-edu >/dev/null 2>&1"))
		SKIP("kos-edu does not find its device here");
	for (size_t i = 0; i < ARRAY_SIZE(report); i++) {
		test_context("%s", report[i].pattern);
		if (strstr(report[i].pattern, "iova") && !translated)
			continue;
		EXPECT_EQ(report[i].times, lines_of("trace-cmd report -i " DATA,
						    report[i].pattern, &nr));
	}
	test_context("%s", "");
	EXPECT_GT(nr, 15);
	/* Filters know the fields. */
	EXPECT_EQ(0, system("trace-cmd record -e kosdma:buffer_create -f 'bytes > 24576' -o " DATA
			    " kos-edu >/dev/null 2>&1"));
	EXPECT_EQ(0, lines_of("trace-cmd report -i " DATA, "*buffer_create*", &nr));
	EXPECT_EQ(0, system("trace-cmd record -e kosdma:buffer_create -f 'bytes == 24576' -o " DATA
			    " kos-edu >/dev/null 2>&1"));
	EXPECT_EQ(1, lines_of("trace-cmd report -i " DATA, "*buffer_create*", &nr));
	unlink(DATA);
}

TEST_HARNESS_MAIN
