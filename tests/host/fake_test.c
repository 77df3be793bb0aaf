// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: libkos against a kernel played by this program: what it asks,
 * how it takes each errno, lists that grow, handles through sockets, and
 * binding a device by files that look like sysfs.
 *
 * libkos is compiled for this test with some calls of libc renamed, see run.
 */
#define _GNU_SOURCE
#include "libkos.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

#define CHECK(what) \
	do { \
		if (!(what)) { \
			printf("# line %d: %s does not hold\n", __LINE__, #what); \
			failures++; \
		} \
	} while (0)

/* The kernel: answers the next call with an errno, or does as it is asked. */
static int next_errno;
static _Atomic int calls;
static unsigned long last_request;
static rtl_uint32_t blocks_now, blocks_later;
static char root[] = "/tmp/kos-fake-XXXXXX";

/* The device: what KOSDMA_DEVICE_INFO tells while it is bound. */
static rtl_uint32_t state;
/* What the next call of a bound device answers, and its state by then. */
static int refuse;
static rtl_uint32_t refuse_state;
/* Attachments tried by this process and its children. */
static _Atomic int *attaches;

#define DEV "0001:02:03.4"
#define ADDRESS 0x1021cU

static const char *in_root(const char *path, char *buf)
{
	if (strncmp(path, "/sys/bus/pci", 12))
		return path;
	snprintf(buf, PATH_MAX, "%s%s", root, path + 12);
	return buf;
}

int fake_open(const char *path, int flags, ...);
int fake_open(const char *path, int flags, ...)
{
	char buf[PATH_MAX];

	if (!strcmp(path, "/dev/kosdma"))
		path = "/dev/null";
	return open(in_root(path, buf), flags);
}

FILE *fake_fopen(const char *path, const char *mode);
FILE *fake_fopen(const char *path, const char *mode)
{
	char buf[PATH_MAX];

	return fopen(in_root(path, buf), mode);
}

DIR *fake_opendir(const char *path);
DIR *fake_opendir(const char *path)
{
	char buf[PATH_MAX];

	return opendir(in_root(path, buf));
}

ssize_t fake_readlink(const char *path, char *target, size_t size);
ssize_t fake_readlink(const char *path, char *target, size_t size)
{
	char buf[PATH_MAX];

	return readlink(in_root(path, buf), target, size);
}

int fake_stat(const char *path, struct stat *st);
int fake_stat(const char *path, struct stat *st)
{
	return stat(strcmp(path, "/dev/kosdma") ? path : "/dev/null", st);
}

static void dev_file(const char *file, char *path)
{
	snprintf(path, PATH_MAX, "%s/devices/" DEV "/%s", root, file);
}

static int is_bound(void)
{
	char path[PATH_MAX];

	dev_file("driver", path);
	return !faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	CHECK(file && fputs(text, file) >= 0 && !fclose(file));
}

static int override_is(const char *text)
{
	char path[PATH_MAX], line[64] = "";
	FILE *file;

	dev_file("driver_override", path);
	file = fopen(path, "r");
	CHECK(file && fgets(line, sizeof(line), file));
	fclose(file);
	line[strcspn(line, "\n")] = 0;
	return !strcmp(line, text);
}

ssize_t fake_write(int fd, const void *data, size_t size);
ssize_t fake_write(int fd, const void *data, size_t size)
{
	char link[64], path[PATH_MAX], driver[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return -1;
	path[len] = 0;
	dev_file("driver", driver);
	if (strstr(path, "/driver_override")) {
		put(path, size == 1 ? "(null)\n" : "kosdma\n");
	} else if (strstr(path, "/drivers_probe")) {
		CHECK(size == strlen(DEV) && !memcmp(data, DEV, size));
		if (override_is("kosdma") && !is_bound())
			CHECK(!symlink("../../drivers/kosdma", driver));
	} else if (strstr(path, "/unbind")) {
		CHECK(size == strlen(DEV) && !memcmp(data, DEV, size));
		unlink(driver);
		state = 0;
	}
	return (ssize_t)size;
}

static int new_handle(void)
{
	return memfd_create("kosdma-handle", MFD_CLOEXEC);
}

static int is_handle(int fd)
{
	char link[64], target[64] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, target, sizeof(target) - 1) > 0 &&
	       strstr(target, "/memfd:kosdma-handle");
}

static int info(struct kosdma_access_info *arg)
{
	rtl_uint64_t *out = (rtl_uint64_t *)(uintptr_t)arg->blocks;
	rtl_uint32_t i, count = blocks_now;

	if (arg->capacity && arg->capacity < count)
		return ENOSPC;
	for (i = 0; i < count && arg->capacity; i++)
		out[i] = (rtl_uint64_t)(i + 1) << 12 | 3;
	arg->out_length = 0x12345000;
	arg->out_count = count;
	arg->out_order_min = 3;
	arg->out_attr = DMA_DIR_BIDIR;
	arg->out_addr = 0x1000;
	arg->out_state = KOSDMA_ACCESS_CONTIGUOUS;
	/* It grows between the question for the count and for the list. */
	if (!arg->capacity && blocks_later) {
		blocks_now = blocks_later;
		blocks_later = 0;
	}
	return 0;
}

/* Attaches the device, or registers its registers. */
static int take(rtl_uint32_t taken)
{
	if (!is_bound())
		return EUNATCH;
	if (refuse) {
		state = refuse_state;
		return refuse;
	}
	state |= taken;
	return 0;
}

#define HELD (KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_USED)
#define MINE (HELD | KOSDMA_DEVICE_MINE)
#define ATTACHED (MINE | KOSDMA_DEVICE_ATTACHED)

static int serve(unsigned long request, void *data)
{
	struct kosdma_device_info *dinfo = data;
	struct kosdma_handle_info *hinfo = data;
	struct kosdma_handle_copy *hcopy = data;
	struct kosdma_region_map *rmap = data;

	if (next_errno)
		return next_errno;
	switch (request) {
	case KOSDMA_ACCESS_INFO:
		return info(data);
	case KOSDMA_REGION_MAP:
		CHECK(rmap->attr == KOSDMA_ATTR_CACHE_DISABLE);
		CHECK(rmap->flags == (KOSDMA_MAP_READ | KOSDMA_MAP_WRITE));
		rmap->out_addr = 0x5000;
		rmap->out_handle = 77;
		return 0;
	case KOSDMA_DEVICE_ATTACH:
		(*attaches)++;
		return take(ATTACHED);
	case KOSDMA_REGION_REGISTER:
		return take(MINE);
	case KOSDMA_DEVICE_DETACH:
		state = 0;
		return 0;
	case KOSDMA_DEVICE_INFO:
		CHECK(dinfo->address == ADDRESS);
		dinfo->out_state = is_bound() ? KOSDMA_DEVICE_BOUND | state : 0;
		return 0;
	case KOSDMA_HANDLE_COPY:
		if (!is_handle(hcopy->handle))
			return EBADF;
		CHECK(hcopy->flags == KOSDMA_COPY_TRANSFER);
		CHECK(hcopy->badge == KOSDMA_NO_HANDLE);
		hcopy->out_handle = new_handle();
		return 0;
	case KOSDMA_HANDLE_INFO:
		if (!is_handle(hinfo->handle))
			return EBADF;
		hinfo->out_sid = 5;
		return 0;
	default:
		return 0;
	}
}

int fake_ioctl(int fd, unsigned long request, ...);
int fake_ioctl(int fd, unsigned long request, ...)
{
	struct stat ours, null;
	va_list args;
	void *arg;
	int error;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	/* Whatever it is, it is no kosdma. */
	if (fd < 3 || fstat(fd, &ours) || stat("/dev/null", &null) ||
	    ours.st_rdev != null.st_rdev) {
		errno = ENOTTY;
		return -1;
	}
	calls++;
	last_request = request;
	CHECK(*(rtl_uint32_t *)arg >= 8);
	error = serve(request, arg);
	if (!error)
		return 0;
	errno = error;
	return -1;
}

static void errnos(void)
{
	static const struct {
		int error;
		Retcode rc;
	} want[] = {
		{ EINVAL, rcInvalidArgument }, { EFAULT, rcInvalidArgument },
		{ EBADF, rcResourceNotFound }, { EKEYREVOKED, rcHandleRevoked },
		{ EACCES, rcNoCapability },    { EPERM, rcSecurityDisallow },
		{ EEXIST, rcAlreadyExists },   { EBUSY, rcBusy },
		{ EBADFD, rcInvalidOperation }, { ENODEV, rcDeviceNotFound },
		{ EUNATCH, rcNotReady },       { ENOMEM, rcOutOfMemory },
		{ EDQUOT, rcQuotaExceeded },   { EMFILE, rcQuotaExceeded },
		{ ENFILE, rcQuotaExceeded },   { ENOSPC, rcBufferTooSmall },
		{ EFBIG, rcBufferTooLarge },   { EOPNOTSUPP, rcUnimplemented },
		{ ENOTTY, rcUnimplemented },   { E2BIG, rcUnimplemented },
		{ ETIMEDOUT, rcTimeout },      { ENOTCONN, rcNotConnected },
		{ EIO, rcFail },
	};
	size_t i;
	Handle h;

	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		next_errno = want[i].error;
		calls = 0;
		h = 5;
		CHECK(KnIoDmaCreate(0, PAGE_SIZE, 0, &h) == want[i].rc);
		CHECK(h == INVALID_HANDLE && calls == 1);
	}
	next_errno = 0;
}

static void lists(void)
{
	static const rtl_uint32_t counts[] = { 0, 1, 8, 9, 1000 };
	DmaInfo *out;
	DmaAddr addr;
	size_t i, j;

	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		blocks_now = counts[i];
		calls = 0;
		CHECK(KnIoDmaGetInfo(3, &out) == rcOk);
		CHECK(out && out->count == counts[i] && out->orderMin == 3);
		CHECK(out->size == 0x12345000 && out->flags == DMA_DIR_BIDIR);
		for (j = 0; j < out->count; j++)
			CHECK(out->descriptors[j].frame == j + 1 &&
			      out->descriptors[j].order == 3);
		CHECK(calls == (counts[i] <= 8 ? 1 : 3));
		KosMemFree(out);
	}
	blocks_now = 100;
	blocks_later = 5000;
	CHECK(KnIoDmaGetInfo(3, &out) == rcOk && out->count == 5000);
	KosMemFree(out);
	blocks_now = 9;
	CHECK(KnIoDmaContinuousGetDmaAddr(3, &addr) == rcOk && addr == 0x1000);
	blocks_now = 0;
	CHECK(KnIoDmaContinuousGetDmaAddr(3, &addr) == rcInvalidOperation);
	CHECK(!addr);
}

static void arguments(void)
{
	Handle h;
	void *p;

	CHECK(KnIoMapMem(3, VMM_FLAG_READ | VMM_FLAG_WRITE,
			 VMM_FLAG_CACHE_DISABLE, &p, &h) == rcOk);
	CHECK(p == (void *)0x5000 && h == 77);
	/* These would name the automatic domain. */
	calls = 0;
	CHECK(KnIoDmaBeginEx(3, INVALID_HANDLE, &h) == rcResourceNotFound);
	CHECK(KnIommuAttachDeviceToDomain(1, INVALID_HANDLE) ==
	      rcResourceNotFound);
	CHECK(KnIommuDetachDeviceFromDomain(1, INVALID_HANDLE) ==
	      rcResourceNotFound);
	CHECK(!calls);
}

static int count_fds(void)
{
	int fd, count = 0;

	for (fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void send_raw(int sock, int *fds, size_t count, const char *text)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (count) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	}
	CHECK(sendmsg(sock, &msg, 0) == (ssize_t)strlen(text));
}

static void sockets_of(int type)
{
	int handle = new_handle(), pair[2], three[3], one = 1, fds, sent;
	Handle got;

	CHECK(!socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, pair));
	fds = count_fds();
	CHECK(KosHandleReceive(pair[1], &got) == rcInvalidOperation);
	CHECK(got == INVALID_HANDLE);
	CHECK(KosHandleSend(pair[0], kos_handle(handle), 0) == rcOk);
	CHECK(count_fds() == fds);
	CHECK(KosHandleReceive(pair[1], &got) == rcOk);
	CHECK(is_handle(kos_fd(got)));
	CHECK(fcntl(kos_fd(got), F_GETFD) == FD_CLOEXEC);
	close(kos_fd(got));

	/* Two in a row stay two. */
	CHECK(KosHandleSend(pair[0], kos_handle(handle), 0) == rcOk);
	CHECK(KosHandleSend(pair[0], kos_handle(handle), 0) == rcOk);
	CHECK(KosHandleReceive(pair[1], &got) == rcOk);
	close(kos_fd(got));
	CHECK(KosHandleReceive(pair[1], &got) == rcOk);
	close(kos_fd(got));
	CHECK(count_fds() == fds);

	/* Surplus descriptors, credentials among them. */
	CHECK(!setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	three[0] = handle;
	three[1] = three[2] = 0;
	send_raw(pair[0], three, 3, "x");
	CHECK(KosHandleReceive(pair[1], &got) == rcOk);
	CHECK(is_handle(kos_fd(got)));
	close(kos_fd(got));
	CHECK(count_fds() == fds);

	/* No handle; a foreign descriptor; nothing to send. */
	send_raw(pair[0], NULL, 0, "x");
	CHECK(KosHandleReceive(pair[1], &got) == rcReceiveError);
	three[0] = 0;
	send_raw(pair[0], three, 1, "x");
	CHECK(KosHandleReceive(pair[1], &got) == rcResourceNotFound);
	CHECK(KosHandleSend(pair[0], 0, 0) == rcResourceNotFound);
	if (type == SOCK_SEQPACKET) {
		three[0] = handle;
		send_raw(pair[0], three, 1, "long");
		CHECK(KosHandleReceive(pair[1], &got) == rcReceiveError);
	}
	CHECK(got == INVALID_HANDLE && count_fds() == fds);

	/* A full socket, then one whose peer has gone: no signal either. */
	for (sent = 0; sent < 100000; sent++)
		if (KosHandleSend(pair[0], kos_handle(handle), 0) != rcOk)
			break;
	CHECK(sent && sent < 100000 && count_fds() == fds);
	while (KosHandleReceive(pair[1], &got) == rcOk)
		close(kos_fd(got));
	close(pair[1]);
	CHECK(KosHandleSend(pair[0], kos_handle(handle), 0) == rcNotConnected);
	CHECK(KosHandleReceive(pair[0], &got) == rcNotConnected);
	close(pair[0]);
	close(handle);
}

static void sockets(void)
{
	int pair[2], dgram[2], udp;
	Handle got;

	sockets_of(SOCK_STREAM);
	sockets_of(SOCK_SEQPACKET);
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	CHECK(KosHandleSend(dgram[0], 1, 0) == rcInvalidArgument);
	CHECK(KosHandleReceive(dgram[0], &got) == rcInvalidArgument);
	udp = socket(AF_INET, SOCK_STREAM, 0);
	if (udp >= 0) {
		CHECK(KosHandleSend(udp, 1, 0) == rcInvalidArgument);
		close(udp);
	}
	CHECK(!pipe(pair));
	CHECK(KosHandleReceive(pair[0], &got) == rcInvalidArgument);
	CHECK(KosHandleReceive(-1, &got) == rcResourceNotFound);
	CHECK(KosHandleSend(-1, 1, 0) == rcResourceNotFound);
	close(pair[0]);
	close(pair[1]);
	close(dgram[0]);
	close(dgram[1]);
}

static void make_sysfs(void)
{
	static const char *const dirs[] = { "", "/devices", "/devices/" DEV,
					    "/drivers", "/drivers/kosdma" };
	char path[PATH_MAX];
	size_t i;

	CHECK(mkdtemp(root));
	for (i = 1; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", root, dirs[i]);
		CHECK(!mkdir(path, 0700));
	}
	dev_file("driver_override", path);
	put(path, "(null)\n");
	dev_file("resource", path);
	put(path, "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n"
		  "0x00000000fea00000 0x00000000feafffff 0x0000000000040200\n"
		  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	snprintf(path, sizeof(path), "%s/drivers_probe", root);
	put(path, "");
	snprintf(path, sizeof(path), "%s/drivers/kosdma/unbind", root);
	put(path, "");
}

/* Runs in a child, which ends regularly, and so gives back what it bound. */
static void in_child(void (*body)(void))
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		failures = 0;
		body();
		fflush(stdout);
		exit(failures != 0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
}

static void end_at_once(void)
{
}

static void bind_attach(void)
{
	CHECK(KosIommuAttachDeviceEx(ADDRESS) == rcOk);
	CHECK(is_bound() && override_is("kosdma"));
	/* A child has bound nothing, and so unbinds nothing. */
	in_child(end_at_once);
	CHECK(is_bound());
}

static void bind_detach(void)
{
	CHECK(KosIommuAttachDeviceEx(ADDRESS) == rcOk);
	CHECK(KosIommuDetachDeviceEx(ADDRESS) == rcOk);
	CHECK(is_bound());
}

/* The region keeps holding the device to the end. */
static void bind_register(void)
{
	Handle h;

	CHECK(KnRegisterPhyMem(0xc000, PAGE_SIZE, 0, &h) == rcNotReady);
	CHECK(KnRegisterPhyMem(0xfeb00000, PAGE_SIZE, 0, &h) == rcNotReady);
	CHECK(!is_bound());
	calls = 0;
	CHECK(KnRegisterPhyMem(0xfea01000, PAGE_SIZE, 0, &h) == rcOk);
	CHECK(calls == 2 && is_bound());
}

/* The call fails after the binding. Does that change anything? */
static void refused(int error, rtl_uint32_t by_then, Retcode rc, int bound)
{
	Handle h;

	refuse = error;
	refuse_state = by_then;
	*attaches = 0;
	if (error == EEXIST)
		CHECK(KnRegisterPhyMem(0xfea01000, PAGE_SIZE, 0, &h) == rc);
	else
		CHECK(KosIommuAttachDeviceEx(ADDRESS) == rc);
	/* Once without a driver, once with ours. */
	CHECK(*attaches == (error == EEXIST ? 0 : 2));
	CHECK(is_bound() == bound);
	CHECK(override_is(bound ? "kosdma" : "(null)"));
}

static void bind_refused(void)
{
	refused(EPERM, 0, rcSecurityDisallow, 0);
	/* A kernel driver has a member of its group, or the registers. */
	refused(EBUSY, 0, rcBusy, 0);
	refused(EEXIST, 0, rcAlreadyExists, 0);
	/* A member of its group is ours, in another domain; or another process has it. */
	refused(EBUSY, KOSDMA_DEVICE_HELD | KOSDMA_DEVICE_MINE, rcBusy, 0);
	refused(EBUSY, KOSDMA_DEVICE_HELD, rcBusy, 0);
}

/* Another process took it when it was bound, and keeps it. */
static void bind_refused_by_other(void)
{
	refused(EBUSY, HELD, rcBusy, 1);
}

/* So did another thread, but it ends with this one. */
static void bind_refused_attached(void)
{
	refused(EBUSY, ATTACHED, rcBusy, 1);
}

static void bind_refused_registered(void)
{
	refused(EEXIST, MINE, rcAlreadyExists, 1);
}

/* It names another driver: that is not ours to change. */
static void bind_forbidden(void)
{
	char path[PATH_MAX];

	dev_file("driver_override", path);
	put(path, "vfio-pci\n");
	CHECK(KosIommuAttachDeviceEx(ADDRESS) == rcNotReady);
	CHECK(!is_bound() && override_is("vfio-pci"));
	put(path, "(null)\n");
}

static void bind_lost(void)
{
	bind_detach();
	state = HELD;
}

/* More often than there are entries, each time unbound by somebody else. */
static void bind_many(void)
{
	char driver[PATH_MAX];
	int i;

	dev_file("driver", driver);
	for (i = 0; i < 1500; i++) {
		CHECK(KosIommuAttachDeviceEx(ADDRESS) == rcOk);
		CHECK(!unlink(driver));
		state = 0;
	}
}

static void binding(void)
{
	static void (*const undone[])(void) = {
		bind_attach, bind_detach, bind_register, bind_refused,
		bind_refused_attached, bind_refused_registered, bind_forbidden,
	};
	static void (*const kept[])(void) = {
		bind_lost, bind_refused_by_other,
	};
	char path[PATH_MAX];
	size_t i;

	make_sysfs();
	for (i = 0; i < sizeof(undone) / sizeof(undone[0]); i++) {
		*attaches = 0;
		in_child(undone[i]);
		CHECK(!is_bound() && override_is("(null)"));
		/* To find out who has the device, none is attached. */
		CHECK(*attaches <= 2);
	}
	for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		*attaches = 0;
		in_child(kept[i]);
		CHECK(is_bound() && override_is("kosdma"));
		CHECK(*attaches == 2);
		dev_file("driver", path);
		unlink(path);
		dev_file("driver_override", path);
		put(path, "(null)\n");
	}
	in_child(bind_many);
	CHECK(override_is("(null)"));
}

static void *open_many(void *arg)
{
	rtl_uint32_t sid;
	int h = *(int *)arg;

	CHECK(KnHandleGetSidByHandle(kos_handle(h), &sid) == rcOk && sid == 5);
	return NULL;
}

/* As a program that makes a daemon of itself does it. */
static void close_device(void)
{
	char link[32], to[64];
	int fd;

	for (fd = 3; fd < 256; fd++) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		memset(to, 0, sizeof(to));
		if (readlink(link, to, sizeof(to) - 1) > 0 &&
		    !strcmp(to, "/dev/null"))
			close(fd);
	}
}

/* Many threads at once open one descriptor. */
static void open_together(void)
{
	enum { THREADS = 16 };
	pthread_t threads[THREADS];
	int h = new_handle(), i, fds = count_fds();

	for (i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, open_many, &h));
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(count_fds() == fds + 1);
	close(h);
}

/* Closing it is survived. */
static void device(void)
{
	int h = new_handle(), i, fds, saved;
	rtl_uint32_t sid;

	/* To that sanitizer, to use a number that is just reopened is a race. */
#ifndef __SANITIZE_THREAD__
	for (i = 0; i < 200; i++) {
		close_device();
		open_together();
	}
#endif
	/* Its number names another file now, which is left alone. */
	for (i = 3; i < 256; i++)
		if (fcntl(i, F_GETFD) >= 0 && i != h)
			dup2(h, i);
	fds = count_fds();
	CHECK(KnHandleGetSidByHandle(kos_handle(h), &sid) == rcOk);
	CHECK(count_fds() == fds + 1);
	/* A standard stream is closed: the device does not take its place. */
	close_device();
	saved = dup(0);
	close(0);
	CHECK(KnHandleGetSidByHandle(kos_handle(h), &sid) == rcOk);
	CHECK(fcntl(0, F_GETFD) < 0);
	dup2(saved, 0);
	close(saved);
	close(h);
}

int main(void)
{
	char command[PATH_MAX];
	int i;

	attaches = mmap(NULL, sizeof(*attaches), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(attaches != MAP_FAILED);
	/* Before this process opens the device. */
	for (i = 0; i < 20; i++)
		in_child(open_together);
	errnos();
	lists();
	arguments();
	sockets();
	binding();
	snprintf(command, sizeof(command), "rm -rf %s", root);
	CHECK(!system(command));
	device();
	return failures != 0;
}
