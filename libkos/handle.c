// SPDX-License-Identifier: MIT
/*
 * Handles: closing, copying, sending, revoking
 */
#define _GNU_SOURCE
#include "libkos.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static_assert(OCAP_HANDLE_TRANSFER == KOSDMA_RIGHT_TRANSFER, "right");
static_assert(OCAP_HANDLE_COPY == KOSDMA_RIGHT_COPY, "right");
static_assert(OCAP_HANDLE_GET_SID == KOSDMA_RIGHT_GET_SID, "right");
static_assert(OCAP_DMA_READ == KOSDMA_RIGHT_DMA_READ, "right");
static_assert(OCAP_DMA_WRITE == KOSDMA_RIGHT_DMA_WRITE, "right");
static_assert(OCAP_DMA_BEGIN == KOSDMA_RIGHT_DMA_BEGIN, "right");
static_assert(OCAP_DMA_MODIFY == KOSDMA_RIGHT_DMA_MODIFY, "right");
static_assert(OCAP_DMA_IO == KOSDMA_RIGHT_DMA_IO, "right");
static_assert(OCAP_MMIO_READ == KOSDMA_RIGHT_MMIO_READ, "right");
static_assert(OCAP_MMIO_WRITE == KOSDMA_RIGHT_MMIO_WRITE, "right");

static_assert((int)INVALID_HANDLE == KOSDMA_NO_HANDLE, "handle");

/* The most descriptors that one message may carry, and its credentials. */
#define SCM_FDS 253
#define SCM_OTHER 512
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

Retcode KnHandleClose(Handle handle)
{
	struct kosdma_handle_close arg = {
		.size = sizeof(arg),
		.handle = kos_fd(handle),
	};

	return kos_call(KOSDMA_HANDLE_CLOSE, &arg);
}

Retcode KosHandleCloseMany(const Handle *handles, rtl_size_t count)
{
	struct kosdma_handle_close_many arg = {
		.size = sizeof(arg),
		.count = (__u32)count,
		.handles = (uintptr_t)handles,
	};

	if (!handles || !count || count > KOS_BATCH_MAX)
		return rcInvalidArgument;
	return kos_call(KOSDMA_HANDLE_CLOSE_MANY, &arg);
}

static Retcode call_revoke(Handle handle, __u32 flags, Handle badge)
{
	struct kosdma_handle_revoke arg = {
		.size = sizeof(arg),
		.handle = kos_fd(handle),
		.flags = flags,
		.badge = kos_fd(badge),
	};

	return kos_call(KOSDMA_HANDLE_REVOKE, &arg);
}

Retcode KnHandleRevoke(Handle handle)
{
	return KnHandleRevokeEx(handle, rtl_true);
}

Retcode KnHandleRevokeEx(Handle handle, rtl_bool close)
{
	return call_revoke(handle, close ? KOSDMA_REVOKE_CLOSE : 0,
			   INVALID_HANDLE);
}

Retcode KnHandleRevokeSubtree(Handle handle, Handle badge)
{
	if (badge == INVALID_HANDLE)
		return rcInvalidArgument;
	return call_revoke(handle, KOSDMA_REVOKE_BADGE, badge);
}

static Retcode call_copy(Handle in, rtl_uint32_t rights, __u32 flags,
			 Handle badge, int *out)
{
	struct kosdma_handle_copy arg = {
		.size = sizeof(arg),
		.handle = kos_fd(in),
		.rights = rights,
		.flags = flags,
		.badge = kos_fd(badge),
	};
	Retcode rc;

	rc = kos_call(KOSDMA_HANDLE_COPY, &arg);
	if (rc == rcOk)
		*out = arg.out_handle;
	return rc;
}

Retcode KnHandleCopy(Handle in, rtl_uint32_t newRightsMask, Handle copyBadge,
		     Handle *out)
{
	Retcode rc;
	int fd;

	if (!out)
		return rcInvalidArgument;
	*out = INVALID_HANDLE;
	rc = call_copy(in, newRightsMask, 0, copyBadge, &fd);
	if (rc == rcOk)
		*out = kos_handle(fd);
	return rc;
}

static Retcode get_sid(int fd, rtl_uint32_t *sid)
{
	struct kosdma_handle_info arg = {
		.size = sizeof(arg),
		.handle = fd,
	};
	Retcode rc;

	rc = kos_call(KOSDMA_HANDLE_INFO, &arg);
	if (rc == rcOk)
		*sid = arg.out_sid;
	return rc;
}

Retcode KnHandleGetSidByHandle(Handle handle, rtl_uint32_t *sid)
{
	Retcode rc;

	if (!sid)
		return rcInvalidArgument;
	*sid = 0;
	rc = get_sid(kos_fd(handle), sid);
	if (rc == rcOk && !*sid)
		rc = rcNoCapability;
	return rc;
}

Retcode KnHandleCreateBadge(Notice notice, rtl_uintptr_t eventId, void *context,
			    Handle *handle)
{
	struct kosdma_badge_create arg = { .size = sizeof(arg) };
	Retcode rc;

	(void)eventId;
	(void)context;
	if (!handle)
		return rcInvalidArgument;
	*handle = INVALID_HANDLE;
	if (notice != INVALID_HANDLE)
		return rcUnimplemented;
	rc = kos_call(KOSDMA_BADGE_CREATE, &arg);
	if (rc == rcOk)
		*handle = kos_handle(arg.out_handle);
	return rc;
}

/* Other sockets would take the byte and drop the descriptor in silence. */
static Retcode check_socket(int sock)
{
	int domain, type;
	socklen_t len = sizeof(int);

	if (getsockopt(sock, SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
	    getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len))
		return errno == EBADF ? rcResourceNotFound : rcInvalidArgument;
	if (domain != AF_UNIX ||
	    (type != SOCK_STREAM && type != SOCK_SEQPACKET))
		return rcInvalidArgument;
	return rcOk;
}

static Retcode socket_error(int error, Retcode other)
{
	switch (error) {
	case EAGAIN:
		return rcInvalidOperation;
	case ENOTCONN:
	case EPIPE:
	case ECONNRESET:
		return rcNotConnected;
	case ENOMEM:
	case ENOBUFS:
		return rcOutOfMemory;
	case ETOOMANYREFS:
		return rcQuotaExceeded;
	default:
		return other;
	}
}

static Retcode send_fd(int sock, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char payload = 0;
	struct iovec iov = { .iov_base = &payload, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	ssize_t sent;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	do
		sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? socket_error(errno, rcTransferError) : rcOk;
}

Retcode KosHandleSend(int sock, Handle handle, rtl_uint32_t rightsMask)
{
	Retcode rc;
	int fd;

	rc = kos_device_check();
	if (rc != rcOk)
		return rc;
	rc = check_socket(sock);
	if (rc != rcOk)
		return rc;
	rc = call_copy(handle, rightsMask, KOSDMA_COPY_TRANSFER, INVALID_HANDLE,
		       &fd);
	if (rc != rcOk)
		return rc;
	rc = send_fd(sock, fd);
	/* A message on its way has a reference of its own. */
	close(fd);
	return rc;
}

/*
 * Takes the first descriptor and closes the others, of every message that the
 * socket's options may add.
 */
static int take_fd(struct msghdr *msg)
{
	struct cmsghdr *cmsg;
	int fd, first = -1;
	size_t i, count;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET ||
		    (cmsg->cmsg_type != SCM_RIGHTS &&
		     cmsg->cmsg_type != SCM_PIDFD))
			continue;
		count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int),
			       sizeof(fd));
			if (first < 0 && cmsg->cmsg_type == SCM_RIGHTS)
				first = fd;
			else if (fd >= 0)
				close(fd);
		}
	}
	return first;
}

static Retcode receive_fd(int sock, int *out)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(SCM_FDS * sizeof(int)) + SCM_OTHER];
	} control;
	char payload;
	struct iovec iov = { .iov_base = &payload, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t got;
	int fd;

	do
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	/* A stream that was never connected is EINVAL, unlike all others. */
	if (got < 0)
		return errno == EINVAL ? rcNotConnected :
					 socket_error(errno, rcReceiveError);
	fd = take_fd(&msg);
	if (got == 1 && fd >= 0 && !(msg.msg_flags & MSG_TRUNC)) {
		*out = fd;
		return rcOk;
	}
	if (fd >= 0)
		close(fd);
	return got ? rcReceiveError : rcNotConnected;
}

Retcode KosHandleReceive(int sock, Handle *out)
{
	rtl_uint32_t sid;
	Retcode rc;
	int fd;

	if (!out)
		return rcInvalidArgument;
	*out = INVALID_HANDLE;
	rc = kos_device_check();
	if (rc != rcOk)
		return rc;
	rc = check_socket(sock);
	if (rc != rcOk)
		return rc;
	rc = receive_fd(sock, &fd);
	if (rc != rcOk)
		return rc;
	rc = get_sid(fd, &sid);
	if (rc == rcOk)
		*out = kos_handle(fd);
	else
		close(fd);
	return rc;
}
