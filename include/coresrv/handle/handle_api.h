/* SPDX-License-Identifier: MIT */
/*
 * Handles: closing, copying, sending, revoking
 */
#ifndef CORESRV_HANDLE_HANDLE_API_H
#define CORESRV_HANDLE_HANDLE_API_H

#include <handle/handletype.h>
#include <rtl/retcode.h>
#include <rtl/stdbool.h>
#include <services/ocap.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The handle of a notification receiver. None is offered: INVALID_HANDLE. */
typedef Handle Notice;

/**
 * KnHandleClose() - close a handle
 * @handle: any handle
 *
 * KasperskyOS guide: closes this handle only; its parent adopts its children,
 * and closing the handle of a mapping frees the virtual region. kosdma: closing
 * a mapping, Begin or domain handle ends the object at once, and other
 * descriptors of the same handle (dup, fork, SCM_RIGHTS) are dead then; other
 * descriptors of a buffer or region handle live on. A dead descriptor, and one
 * that belongs to another process, is closed and nothing else happens.
 *
 * Return: rcOk; rcResourceNotFound (not open, or no kosdma handle; nothing was
 * closed); rcNotConnected (no /dev/kosdma; nothing was closed).
 */
Retcode KnHandleClose(Handle handle);

/* The most that KosDmaBeginMany() and KosHandleCloseMany() take at once. */
#define KOS_BATCH_MAX 256

/**
 * KosHandleCloseMany() - close several handles at once
 * @handles: any handles
 * @count: how many, 1 to KOS_BATCH_MAX
 *
 * kosdma. As KnHandleClose() for each in turn, but Begin handles of one domain
 * that follow each other are cut off by one flush of the IOMMU. One that is not
 * open, or comes a second time, keeps none of the others from being closed.
 *
 * Return: rcOk; rcResourceNotFound (one was not open, or no kosdma handle; all
 * the others were closed); rcInvalidArgument (@handles is NULL or cannot be
 * read, @count; nothing was closed); rcNotConnected (no /dev/kosdma; nothing
 * was closed).
 */
Retcode KosHandleCloseMany(const Handle *handles, rtl_size_t count);

/**
 * KnHandleRevoke() - close a handle and revoke all its descendants
 * @handle: any handle; no right is needed
 *
 * KasperskyOS guide: every descendant becomes useless though still open, and
 * each call on it answers rcHandleRevoked until it is closed. kosdma: finished
 * when it returns: mappings made through descendants fault (SIGBUS), device
 * access opened through them is gone from the IOMMU, those who poll them get
 * EPOLLHUP.
 *
 * Return: rcOk; rcResourceNotFound (not open, or no kosdma handle);
 * rcHandleRevoked; rcNoCapability (belongs to another process);
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnHandleRevoke(Handle handle);

/**
 * KnHandleRevokeEx() - revoke all descendants of a handle
 * @handle: any handle; no right is needed
 * @close: rtl_true: close @handle as well
 *
 * KasperskyOS guide, as KnHandleRevoke().
 *
 * Return: rcOk; rcResourceNotFound (not open, or no kosdma handle);
 * rcHandleRevoked; rcNoCapability (belongs to another process);
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnHandleRevokeEx(Handle handle, rtl_bool close);

/**
 * KnHandleRevokeSubtree() - revoke the descendants that a badge marks
 * @handle: any handle; no right is needed
 * @badge: handle from KnHandleCreateBadge(), given to KnHandleCopy()
 *
 * KasperskyOS guide: revokes the copies of @handle marked with @badge, with
 * all that descends from them. kosdma: rcOk when it marks none.
 *
 * Return: rcOk; rcInvalidArgument (@badge is INVALID_HANDLE or no badge);
 * rcResourceNotFound (@handle or @badge is not open, or no kosdma handle);
 * rcHandleRevoked; rcNoCapability (@handle or @badge belongs to another
 * process); rcNotConnected (no /dev/kosdma).
 */
Retcode KnHandleRevokeSubtree(Handle handle, Handle badge);

/**
 * KnHandleCopy() - make a descendant of a handle
 * @in: a handle of a kind that may be transferred, with OCAP_HANDLE_COPY
 * @newRightsMask: rights of the descendant, none that @in lacks
 * @copyBadge: handle from KnHandleCreateBadge() to mark the copy with;
 *	INVALID_HANDLE: none
 * @out: the descendant; INVALID_HANDLE on failure
 *
 * KasperskyOS guide: rights only shrink. kosdma: handles that may not be
 * transferred may not be copied.
 *
 * Return: rcOk; rcInvalidArgument (unknown right, NULL @out, @copyBadge is no
 * badge); rcResourceNotFound (@in or @copyBadge is not open, or no kosdma
 * handle); rcHandleRevoked; rcNoCapability (rights; a kind that may not be
 * copied; a badge of another process); rcQuotaExceeded (objects, descriptors);
 * rcOutOfMemory; rcNotConnected (no /dev/kosdma).
 */
Retcode KnHandleCopy(Handle in, rtl_uint32_t newRightsMask, Handle copyBadge,
		     Handle *out);

/**
 * KnHandleGetSidByHandle() - the identity of what a handle names
 * @handle: any handle, with OCAP_HANDLE_GET_SID
 * @sid: the identity, never 0; 0 on failure
 *
 * KasperskyOS guide: handles with equal SIDs name the same resource. kosdma:
 * in all processes.
 *
 * Return: rcOk; rcInvalidArgument (NULL @sid); rcResourceNotFound (not open, or
 * no kosdma handle); rcHandleRevoked; rcNoCapability (right; belongs to another
 * process); rcNotConnected (no /dev/kosdma).
 */
Retcode KnHandleGetSidByHandle(Handle handle, rtl_uint32_t *sid);

/**
 * KnHandleCreateBadge() - create a badge, which marks copies of handles
 * @notice: INVALID_HANDLE
 * @eventId: not used
 * @context: not used
 * @handle: the badge; INVALID_HANDLE on failure
 *
 * KasperskyOS guide; kosdma: without notification of revocation.
 *
 * The handle cannot be transferred.
 *
 * Return: rcOk; rcInvalidArgument (NULL @handle); rcUnimplemented (@notice is
 * not INVALID_HANDLE); rcQuotaExceeded (objects, descriptors); rcOutOfMemory;
 * rcNotConnected (no /dev/kosdma).
 */
Retcode KnHandleCreateBadge(Notice notice, rtl_uintptr_t eventId, void *context,
			    Handle *handle);

/**
 * KosHandleSend() - send a descendant of a handle to another process
 * @sock: a connected unix socket, stream or seqpacket
 * @handle: a handle of a kind that may be transferred, with
 *	OCAP_HANDLE_TRANSFER
 * @rightsMask: rights of the descendant, none that @handle lacks
 *
 * kosdma. Goes with one byte of data, to be taken by KosHandleReceive(). The
 * sender keeps @handle and no descriptor of the descendant. Waits while the
 * socket is full, unless it is non-blocking or has a timeout.
 *
 * Return: rcOk; rcInvalidArgument (unknown right; @sock is no socket or not of
 * these kinds); rcResourceNotFound (@handle is not open or no kosdma handle;
 * @sock is not open); rcHandleRevoked; rcNoCapability (rights; a kind that may
 * not be transferred); rcQuotaExceeded (objects, descriptors);
 * rcInvalidOperation (the socket is full now); rcNotConnected (the socket is
 * not connected, or the peer has gone; no /dev/kosdma); rcTransferError (the
 * socket failed otherwise); rcOutOfMemory.
 */
Retcode KosHandleSend(int sock, Handle handle, rtl_uint32_t rightsMask);

/**
 * KosHandleReceive() - receive a handle that KosHandleSend() sent
 * @sock: a connected unix socket, stream or seqpacket
 * @out: the handle; INVALID_HANDLE on failure
 *
 * kosdma. Takes one message, which is gone after a failure too, except
 * rcInvalidOperation, and rcNotConnected for want of /dev/kosdma. Waits for one
 * unless the socket is non-blocking or has a timeout. Of several descriptors in
 * a message the first counts and the others are closed. A descriptor that is no
 * handle is closed.
 *
 * Return: rcOk; rcInvalidArgument (NULL @out; @sock is no socket or not of
 * these kinds); rcResourceNotFound (what came is no kosdma handle, or its
 * object has ended; @sock is not open); rcHandleRevoked (it was revoked on its way);
 * rcNoCapability (a kind that may not be transferred came); rcInvalidOperation
 * (no message is there now); rcNotConnected (the peer has closed; the socket is
 * not connected; no /dev/kosdma); rcReceiveError (a message without a handle,
 * or longer than one byte; no descriptor left in this process; the socket
 * failed otherwise); rcOutOfMemory.
 */
Retcode KosHandleReceive(int sock, Handle *out);

#ifdef __cplusplus
}
#endif

#endif /* CORESRV_HANDLE_HANDLE_API_H */
