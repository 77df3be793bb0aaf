// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/kosdma.h>

#include "../harness.h"
#include "probe.h"

/* Of the calling process: a descriptor carries no state, fork may keep it. */
static int device_fd(void)
{
	static int fd = -1;
	int new, expected = -1;

	if (__atomic_load_n(&fd, __ATOMIC_ACQUIRE) >= 0)
		return fd;
	new = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	if (new >= 0 && !__atomic_compare_exchange_n(&fd, &expected, new, false,
						     __ATOMIC_ACQ_REL,
						     __ATOMIC_ACQUIRE))
		close(new);
	ASSERT_GE(__atomic_load_n(&fd, __ATOMIC_ACQUIRE), 0);
	return fd;
}

void probe_require_module(void)
{
	if (access(KOSDMA_DEVICE, F_OK))
		SKIP("needs the module: there is no " KOSDMA_DEVICE);
	/* Now, and not in the place of a descriptor that a test closed. */
	device_fd();
}

int probe_ioctl(unsigned int cmd, void *arg)
{
	return ioctl(device_fd(), cmd, arg);
}

Retcode probe_sid(Handle handle)
{
	rtl_uint32_t sid;

	return KnHandleGetSidByHandle(handle, &sid);
}

int probe_handle(Handle handle, uint32_t *type, uint32_t *rights)
{
	struct kosdma_handle_info info = {
		.size = sizeof(info),
		.handle = handle,
	};

	if (probe_ioctl(KOSDMA_HANDLE_INFO, &info))
		return errno;
	if (type)
		*type = info.out_type;
	if (rights)
		*rights = info.out_rights;
	return 0;
}

bool probe_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int count(const char *path, bool entries)
{
	int nr = 0;

	if (entries) {
		DIR *dir = opendir(path);

		ASSERT_NOT_NULL(dir);
		while (readdir(dir))
			nr++;
		closedir(dir);
	} else {
		FILE *f = fopen(path, "re");
		int c;

		ASSERT_NOT_NULL(f);
		while ((c = getc(f)) != EOF)
			nr += c == '\n';
		fclose(f);
	}
	return nr;
}

int probe_nr_fds(void)
{
	return count("/proc/self/fd", true);
}

int probe_nr_maps(void)
{
	return count("/proc/self/maps", false);
}

long probe_meminfo(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char name[64];
	long value, found = -1;

	ASSERT_NOT_NULL(f);
	while (fscanf(f, "%63[^:]: %ld%*[^\n]\n", name, &value) == 2)
		if (!strcmp(name, key))
			found = value;
	fclose(f);
	ASSERT_GE(found, 0);
	return found;
}

/* Free pages that the kernel keeps for each CPU, which MemFree leaves out. */
static long per_cpu_pages(void)
{
	FILE *f = fopen("/proc/zoneinfo", "re");
	char line[256];
	long count, sum = 0;

	ASSERT_NOT_NULL(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %ld", &count) == 1)
			sum += count;
	fclose(f);
	return sum;
}

long probe_free_memory(void)
{
	return probe_meminfo("MemFree") + probe_meminfo("SReclaimable") +
	       per_cpu_pages() * (getpagesize() / 1024);
}

bool probe_memory_returns(long before, long tolerance)
{
	long free = 0;

	/* A debug kernel keeps what is freed for a while, and finds leaks. */
	if (!access("/sys/kernel/debug/kmemleak", F_OK))
		tolerance += 40 << 10;
	for (int i = 0; i < 50; i++) {
		free = probe_free_memory();
		if (free >= before - tolerance)
			return true;
		usleep(100 * 1000);
	}
	test_log("%ld KiB of memory were free before, %ld KiB are now", before,
		 free);
	return false;
}

static sigjmp_buf touched;

static void on_fault(int sig)
{
	siglongjmp(touched, sig);
}

/* Not for several threads at once. */
static int touch(volatile uint8_t *addr, bool write)
{
	struct sigaction act = { .sa_handler = on_fault }, bus, segv;
	int sig;

	sigaction(SIGBUS, &act, &bus);
	sigaction(SIGSEGV, &act, &segv);
	sig = sigsetjmp(touched, 1);
	if (!sig) {
		if (write)
			*addr = 0x5a;
		else
			(void)*addr;
	}
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig;
}

int probe_read(const volatile void *addr)
{
	return touch((volatile uint8_t *)addr, false);
}

int probe_write(volatile void *addr)
{
	return touch(addr, true);
}

void probe_become_nobody(void)
{
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(NOBODY, NOBODY, NOBODY));
	ASSERT_EQ(0, setresuid(NOBODY, NOBODY, NOBODY));
}

static bool iomem_each(bool (*match)(uint64_t start, uint64_t last,
				     const char *name, void *arg), void *arg)
{
	FILE *f = fopen("/proc/iomem", "re");
	char line[256], name[200];
	unsigned long long start, last;
	bool found = false;

	ASSERT_NOT_NULL(f);
	while (!found && fgets(line, sizeof(line), f))
		if (sscanf(line, " %llx-%llx : %199[^\n]", &start, &last,
			   name) == 3)
			found = match(start, last, name, arg);
	fclose(f);
	return found;
}

struct iomem_query {
	uint64_t start, last;
	const char *name;
	int n;
};

static bool same_range(uint64_t start, uint64_t last, const char *name,
		       void *arg)
{
	struct iomem_query *q = arg;

	return start == q->start && last == q->last &&
	       (!q->name || strstr(name, q->name));
}

bool probe_iomem(uint64_t start, uint64_t last, const char *name)
{
	struct iomem_query q = { .start = start, .last = last, .name = name };

	return iomem_each(same_range, &q);
}

static bool nth_named(uint64_t start, uint64_t last, const char *name,
		      void *arg)
{
	struct iomem_query *q = arg;

	q->start = start;
	q->last = last;
	return strstr(name, q->name) && !q->n--;
}

bool probe_iomem_find(const char *name, int n, uint64_t *start, uint64_t *last)
{
	struct iomem_query q = { .name = name, .n = n };

	if (!iomem_each(nth_named, &q))
		return false;
	*start = q.start;
	*last = q.last;
	return true;
}

struct iomem_all {
	struct probe_range *ranges;
	const char *name;
	int nr, max;
};

static bool add_named(uint64_t start, uint64_t last, const char *name, void *arg)
{
	struct iomem_all *all = arg;

	if (strstr(name, all->name)) {
		if (all->nr < all->max)
			all->ranges[all->nr] = (struct probe_range){
				.start = start,
				.last = last,
			};
		all->nr++;
	}
	return false;
}

int probe_iomem_all(const char *name, struct probe_range *ranges, int max)
{
	struct iomem_all all = { .ranges = ranges, .name = name, .max = max };

	iomem_each(add_named, &all);
	return all.nr;
}

bool probe_free_range(uint64_t size, uint64_t *range)
{
	FILE *f = fopen("/proc/iomem", "re");
	uint64_t window_last = 0, at = 0;
	unsigned long long start, last;
	char line[256], name[200];
	bool inside = false;

	/* Children follow their window, in order of address. */
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %llx-%llx : %199[^\n]", &start, &last,
			   name) != 3)
			continue;
		if (line[0] != ' ') {
			if (inside && at + size - 1 <= window_last)
				break;
			inside = strstr(name, "PCI Bus") && start >= 1 << 24;
			at = start;
			window_last = last;
		} else if (inside) {
			if (start >= at + size)
				break;
			if (last >= at)
				at = (last | (PAGE - 1)) + 1;
		}
	}
	if (f)
		fclose(f);
	*range = at;
	return inside && at + size - 1 <= window_last;
}

int probe_log_open(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	ASSERT_GE(log, 0);
	lseek(log, 0, SEEK_END);
	return log;
}

int probe_log_count(int log, const char *text, const char *second,
		    const char *third)
{
	char record[8192];
	int nr = 0;
	ssize_t n;

	while ((n = read(log, record, sizeof(record) - 1)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		record[n] = '\0';
		if (strstr(record, text) && strstr(record, second) &&
		    strstr(record, third))
			nr++;
	}
	return nr;
}

static uint16_t pci_command(const char *path)
{
	char file[128];
	uint16_t command = 0;
	int fd;

	snprintf(file, sizeof(file), "%s/config", path);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(2, pread(fd, &command, 2, 4));
	close(fd);
	return command;
}

bool probe_bus_master(const char *path)
{
	return pci_command(path) & 1 << 2;
}

bool probe_memory_decode(const char *path)
{
	return pci_command(path) & 1 << 1;
}

void probe_driver(const char *path, char name[64])
{
	char file[128], target[256];
	ssize_t n;

	snprintf(file, sizeof(file), "%s/driver", path);
	n = readlink(file, target, sizeof(target) - 1);
	if (n < 0)
		n = 0;
	target[n] = '\0';
	snprintf(name, 64, "%.63s",
		 strrchr(target, '/') ? strrchr(target, '/') + 1 : "");
}

bool probe_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

enum { FDS_MAX = 16 };

void probe_send_fds(int sock, const int *fds, int nr)
{
	char byte = 'h', control[CMSG_SPACE(FDS_MAX * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	ASSERT_LE(nr, FDS_MAX);
	if (nr) {
		struct cmsghdr *c = (struct cmsghdr *)control;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr * sizeof(int));
	}
	ASSERT_EQ(1, sendmsg(sock, &msg, MSG_NOSIGNAL));
}

int probe_receive_fds(int sock, int *fds, int max)
{
	char byte, control[CMSG_SPACE(FDS_MAX * sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int nr = 0;

	ASSERT_EQ(1, recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c;
	     c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		ASSERT_LE(nr, max);
		memcpy(fds, CMSG_DATA(c), nr * sizeof(int));
	}
	return nr;
}

void probe_signal(int fd)
{
	ASSERT_EQ(1, write(fd, "", 1));
}

void probe_await(int fd)
{
	char byte;

	ASSERT_EQ(1, read(fd, &byte, 1));
}

void begun_open(struct begun *b, size_t size, Handle domain)
{
	DmaAddr addr;
	void *mem;

	*b = (struct begun){
		.buffer = INVALID_HANDLE,
		.access = INVALID_HANDLE,
		.mapping = INVALID_HANDLE,
		.size = size,
	};
	ASSERT_OK(KnIoDmaCreate(rtl_roundup_order(size >> PAGE_SHIFT), size,
				DMA_DIR_BIDIR, &b->buffer));
	if (domain == INVALID_HANDLE)
		ASSERT_OK(KnIoDmaBegin(b->buffer, &b->access));
	else
		ASSERT_OK(KnIoDmaBeginEx(b->buffer, domain, &b->access));
	ASSERT_OK(KnIoDmaMap(b->buffer, 0, size, NULL,
			     VMM_FLAG_READ | VMM_FLAG_WRITE, &mem,
			     &b->mapping));
	b->mem = mem;
	/* Before the domain's first attach there is no address yet. */
	if (KnIoDmaContinuousGetDmaAddr(b->access, &addr) == rcOk)
		b->addr = addr;
}

void begun_close(struct begun *b)
{
	EXPECT_OK(KnHandleClose(b->mapping));
	EXPECT_OK(KnHandleClose(b->access));
	EXPECT_OK(KnHandleClose(b->buffer));
}

bool probe_lands(struct edu *edu, const struct begun *from, uint64_t addr,
		 volatile uint8_t *mem)
{
	static uint8_t content;
	uint8_t old = *mem;

	/* Neither what is there nor what the device may hold from before. */
	do
		content += 37;
	while (content == old);
	memset((void *)from->mem, content, 16);
	edu_copy_in(edu, from->addr, 0, 16);
	edu_copy_out(edu, 0, addr, 16);
	ASSERT_TRUE(*mem == old || *mem == content);
	return *mem == content;
}

/* The virtio IOMMU, that is: others have no BAR. */
bool probe_is_iommu(const char *path)
{
	char file[300], id[16] = "";
	FILE *f;

	snprintf(file, sizeof(file), "%s/device", path);
	f = fopen(file, "re");
	if (f && !fgets(id, sizeof(id), f))
		id[0] = '\0';
	if (f)
		fclose(f);
	return !strncmp(id, "0x1057", 6);
}

bool probe_write_only(void)
{
	return access("/sys/class/iommu/dmar0", F_OK) != 0;
}

bool probe_virtio_iommu(void)
{
	glob_t found;
	bool virtio = !glob("/sys/bus/virtio/devices/*/iommu", 0, NULL, &found);

	globfree(&found);
	return virtio;
}

long probe_quarantined(void)
{
	char path[64], line[128];
	int fd = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	long pages = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && pages < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "kosdma-quarantined: %ld", &pages);
	if (f)
		fclose(f);
	close(fd);
	return pages;
}

void probe_shortage(void (*test)(void *arg), void *arg)
{
	for (int tries = 0; tries < 5; tries++) {
		int status;
		pid_t pid = test_fork();

		if (!pid) {
			EXPECT_TRUE(probe_write_file("/proc/self/oom_score_adj",
						     "1000"));
			test(arg);
			test_child_exit();
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			continue;
		EXPECT_EQ(0, status);
		return;
	}
	test_failed(false, __FILE__, __LINE__, "killed for want of memory");
}
