// SPDX-License-Identifier: MIT
/*
 * /dev/kosdma: the one descriptor, and the one ioctl
 *
 * The descriptor confers nothing but the way in: the kernel takes the calling
 * address space for the process. So a child made by fork, _Fork, vfork or clone
 * may use the descriptor that it inherited, and still gets a context of its
 * own; no handler of fork is needed, and none could be run by all of them.
 */
#include "libkos.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE "/dev/kosdma"

/*
 * The descriptor + 1, or 0 while there is none, and above it how often it was
 * given up: a number that was closed behind our back soon names something else,
 * and most likely the device, just opened by another thread.
 */
static _Atomic rtl_uint64_t device;

#define GENERATION (1ULL << 32)

/* Its device number, as it was when it was opened: stable while a descriptor is open. */
static _Atomic rtl_uint64_t device_number;

/* Only a program that keeps closing what is not its own needs so many. */
#define TRIES 8

static int device_fd(rtl_uint64_t value)
{
	return (int)(rtl_uint32_t)value - 1;
}

/*
 * Opens the device away from the standard streams: a program that was started
 * with one of them closed would write its messages to the device.
 */
static int open_device(void)
{
	struct stat st;
	int fd, moved;

	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || !S_ISCHR(st.st_mode)) {
		close(fd);
		return -1;
	}
	atomic_store(&device_number, st.st_rdev);
	if (fd > STDERR_FILENO)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(fd);
	return moved;
}

/* The value's descriptor is -1 if there is no device. */
static rtl_uint64_t get_device(void)
{
	rtl_uint64_t value = atomic_load(&device), mine;
	int fd;

	if (device_fd(value) >= 0)
		return value;
	fd = open_device();
	if (fd < 0)
		return 0;
	for (;;) {
		mine = (value & ~(GENERATION - 1)) | (rtl_uint32_t)(fd + 1);
		if (atomic_compare_exchange_strong(&device, &value, mine))
			return mine;
		if (device_fd(value) >= 0)
			break;
	}
	close(fd);
	return value;
}

/*
 * Our number may name another file, which is not ours to close: a program that
 * makes a daemon of itself closes all descriptors; a child of vfork has our
 * memory but its own descriptors. So whatever fails is looked at twice.
 */
static int is_device(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == atomic_load(&device_number);
}

/**
 * kos_ioctl() - call the kernel
 * @request: KOSDMA_*
 * @arg: its struct
 *
 * Return: 0, a positive errno of the ABI, or ENOTCONN when there is no
 * device.
 */
int kos_ioctl(unsigned long request, void *arg)
{
	rtl_uint64_t value, none;
	int tries, fd, error = 0;

	for (tries = 0; tries < TRIES; tries++) {
		value = get_device();
		fd = device_fd(value);
		if (fd < 0)
			return ENOTCONN;
		do
			error = ioctl(fd, request, arg) ? errno : 0;
		while (error == EINTR);
		if (!error)
			return 0;
		/* In this order: who replaced it gave it up first. */
		if (is_device(fd) && atomic_load(&device) == value)
			return error;
		none = (value & ~(GENERATION - 1)) + GENERATION;
		atomic_compare_exchange_strong(&device, &value, none);
	}
	return error;
}

/**
 * kos_call() - call the kernel
 * @request: KOSDMA_*
 * @arg: its struct
 *
 * Return: a code of the contract.
 */
Retcode kos_call(unsigned long request, void *arg)
{
	return kos_retcode(kos_ioctl(request, arg));
}

/**
 * kos_device_check() - is there a way to the kernel?
 *
 * Return: rcOk or rcNotConnected.
 */
Retcode kos_device_check(void)
{
	return device_fd(get_device()) < 0 ? rcNotConnected : rcOk;
}
