// SPDX-License-Identifier: MIT
/*
 * Devices that have no driver: binding them, and giving them back
 *
 * What this process bound is remembered in a page that the kernel wipes in
 * every child that gets memory of its own, and that a child which shares our
 * memory shares: exactly what the driver takes for a process. No handler of
 * fork could say that for vfork, _Fork and clone.
 *
 * Threads and processes bind one at a time, by a lock on a file that only those
 * can open who may bind. So there is exactly one process that bound a device,
 * and only that one gives it back. Entries change under this lock.
 */
#define _GNU_SOURCE
#include "libkos.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PCI "/sys/bus/pci"
#define DRIVER "kosdma"

/* An entry of the page: flags, and the address in the low half. 0: free. */
#define BOUND (1ULL << 32)
#define OVERRIDE (1ULL << 33) /* driver_override was set by us too */
#define ENTRIES 512

#define LOCK_TRIES 200
#define LOCK_WAIT_NS 10000000

struct bound {
	_Atomic rtl_uint64_t entries[ENTRIES];
};

static_assert(sizeof(struct bound) <= PAGE_SIZE, "one page");

static struct bound *_Atomic bound;

static struct bound *get_bound(void)
{
	struct bound *page, *old = NULL;

	page = atomic_load(&bound);
	if (page)
		return page;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return NULL;
	if (!madvise(page, sizeof(*page), MADV_WIPEONFORK) &&
	    atomic_compare_exchange_strong(&bound, &old, page))
		return page;
	munmap(page, sizeof(*page));
	return old;
}

/* A device's entry, or a free one for 0. */
static _Atomic rtl_uint64_t *find_entry(struct bound *page, rtl_uint64_t key)
{
	size_t i;

	for (i = 0; i < ENTRIES; i++)
		if ((atomic_load(&page->entries[i]) & ~OVERRIDE) == key)
			return &page->entries[i];
	return NULL;
}

struct name {
	char bdf[sizeof("ffff:ff:1f.7")];
};

static struct name device_name(rtl_uint32_t address)
{
	struct name name;

	snprintf(name.bdf, sizeof(name.bdf), "%04x:%02x:%02x.%x",
		 address >> 16 & 0xffff, address >> 8 & 0xff,
		 address >> 3 & 0x1f, address & 7);
	return name;
}

static int open_file(const struct name *name, const char *file, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI "/devices/%s/%s", name->bdf, file);
	return open(path, flags | O_CLOEXEC);
}

static int write_file(int fd, const char *text)
{
	ssize_t len = (ssize_t)strlen(text);

	return fd >= 0 && write(fd, text, (size_t)len) == len ? 0 : -1;
}

static int set_override(const struct name *name, const char *driver)
{
	int fd = open_file(name, "driver_override", O_WRONLY);
	int ret = write_file(fd, driver);

	if (fd >= 0)
		close(fd);
	return ret;
}

/* An empty string stands for none. */
static int get_override(const struct name *name, char *text, size_t size)
{
	int fd = open_file(name, "driver_override", O_RDONLY);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = read(fd, text, size - 1);
	close(fd);
	if (len < 0)
		return -1;
	text[len] = 0;
	text[strcspn(text, "\n")] = 0;
	if (!strcmp(text, "(null)"))
		text[0] = 0;
	return 0;
}

enum driver { DRIVER_NONE, DRIVER_OURS, DRIVER_OTHER };

static enum driver get_driver(const struct name *name)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *base;
	ssize_t len;

	snprintf(path, sizeof(path), PCI "/devices/%s/driver", name->bdf);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return DRIVER_NONE;
	target[len] = 0;
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	return strcmp(base, DRIVER) ? DRIVER_OTHER : DRIVER_OURS;
}

/*
 * The lock is on drivers_probe, which binding needs anyway. It is given up
 * explicitly, because a child forked meanwhile has the file open as well.
 */
static Retcode lock(int *probe)
{
	const struct timespec wait = { .tv_nsec = LOCK_WAIT_NS };
	int tries;

	*probe = open(PCI "/drivers_probe", O_WRONLY | O_CLOEXEC);
	if (*probe < 0)
		return rcNotReady;
	for (tries = 0; flock(*probe, LOCK_EX | LOCK_NB); tries++) {
		if ((errno != EWOULDBLOCK && errno != EINTR) ||
		    tries == LOCK_TRIES) {
			close(*probe);
			return rcTimeout;
		}
		nanosleep(&wait, NULL);
	}
	return rcOk;
}

static void unlock(int probe)
{
	flock(probe, LOCK_UN);
	close(probe);
}

/* The lock is held. */
static Retcode bind_locked(const struct name *name, int probe,
			   _Atomic rtl_uint64_t *entry)
{
	char override[64];

	/* Another driver named there is an administrator's decision. */
	if (get_override(name, override, sizeof(override)) ||
	    (override[0] && strcmp(override, DRIVER)))
		return rcNotReady;
	if (!override[0]) {
		if (set_override(name, DRIVER))
			return rcNotReady;
		atomic_fetch_or(entry, OVERRIDE);
	}
	/* What it answers depends on the kernel; what it did does not. */
	(void)write_file(probe, name->bdf);
	return get_driver(name) == DRIVER_OURS ? rcOk : rcNotReady;
}

/* The lock is held. */
static void unbind_locked(const struct name *name, _Atomic rtl_uint64_t *entry)
{
	char override[64];
	int fd;

	if (get_driver(name) == DRIVER_OURS) {
		fd = open(PCI "/drivers/" DRIVER "/unbind",
			  O_WRONLY | O_CLOEXEC);
		(void)write_file(fd, name->bdf);
		if (fd >= 0)
			close(fd);
	}
	if (atomic_load(entry) & OVERRIDE && get_driver(name) != DRIVER_OURS &&
	    !get_override(name, override, sizeof(override)) &&
	    !strcmp(override, DRIVER))
		set_override(name, "\n");
	atomic_store(entry, 0);
}

/*
 * Binds a device. *mine tells whether this call did; another process may have
 * come first, which is as good.
 */
static Retcode bind_device(rtl_uint32_t address, int *mine)
{
	const struct name name = device_name(address);
	struct bound *page = get_bound();
	_Atomic rtl_uint64_t *entry;
	Retcode rc;
	int probe;

	*mine = 0;
	if (!page)
		return rcOutOfMemory;
	rc = lock(&probe);
	if (rc != rcOk)
		return rc;
	if (get_driver(&name) != DRIVER_NONE)
		goto out_unlock;
	/* Somebody unbound it behind our back: the entry serves again. */
	entry = find_entry(page, BOUND | address);
	if (!entry)
		entry = find_entry(page, 0);
	if (!entry) {
		rc = rcQuotaExceeded;
		goto out_unlock;
	}
	if (!atomic_load(entry))
		atomic_store(entry, BOUND | address);
	rc = bind_locked(&name, probe, entry);
	if (rc == rcOk)
		*mine = 1;
	else
		unbind_locked(&name, entry);
out_unlock:
	unlock(probe);
	return rc;
}

/*
 * Must a device that this process bound stay bound? So it must if another
 * process has it, or another thread, as the failure of this one's call tells.
 * Who takes it between this question and the unbinding loses it again.
 */
static int is_wanted(rtl_uint32_t address, int error)
{
	struct kosdma_device_info arg = {
		.size = sizeof(arg),
		.address = address,
	};

	/* That a sibling is in use, whose group it holds, does not need this one bound. */
	if (kos_ioctl(KOSDMA_DEVICE_INFO, &arg) ||
	    !(arg.out_state & KOSDMA_DEVICE_USED))
		return 0;
	/* A call that failed uses nothing itself. */
	return error || !(arg.out_state & KOSDMA_DEVICE_MINE);
}

/* Undoes bind_device(): after a call that failed with @error, or at the end. */
static void unbind_device(struct bound *page, rtl_uint32_t address, int error)
{
	const struct name name = device_name(address);
	_Atomic rtl_uint64_t *entry;
	int probe;

	if (lock(&probe) != rcOk)
		return;
	entry = find_entry(page, BOUND | address);
	if (entry && !is_wanted(address, error))
		unbind_locked(&name, entry);
	unlock(probe);
}

static Retcode bind_and_call(unsigned long request, void *arg,
			     rtl_uint32_t address)
{
	int error, mine;
	Retcode rc;

	rc = bind_device(address, &mine);
	if (rc != rcOk)
		return rc;
	error = kos_ioctl(request, arg);
	if (error && mine)
		unbind_device(atomic_load(&bound), address, error);
	return kos_retcode(error);
}

/**
 * kos_call_bound() - call the kernel, binding the device if that is missing
 * @request: KOSDMA_*
 * @arg: its struct
 * @address: segment << 16 | bdf
 *
 * A failed call leaves the device unbound, unless somebody else has it by then.
 *
 * Return: a code of the contract.
 */
Retcode kos_call_bound(unsigned long request, void *arg, rtl_uint32_t address)
{
	int error = kos_ioctl(request, arg);

	return error == EUNATCH ? bind_and_call(request, arg, address) :
				  kos_retcode(error);
}

/* Does a memory BAR of the device hold the range? A small one has its page. */
static int has_range(const char *bdf, rtl_uint64_t first, rtl_uint64_t last)
{
	const unsigned int bars = 6;
	const unsigned long long memory = 0x200;
	unsigned long long start, end, flags;
	char path[PATH_MAX], line[128];
	unsigned int i;
	int found = 0;
	FILE *file;

	snprintf(path, sizeof(path), PCI "/devices/%s/resource", bdf);
	file = fopen(path, "re");
	if (!file)
		return 0;
	for (i = 0; i < bars && !found; i++) {
		if (!fgets(line, sizeof(line), file) ||
		    sscanf(line, "%llx %llx %llx", &start, &end, &flags) != 3)
			break;
		found = flags & memory && start <= first &&
			last <= (end | (PAGE_SIZE - 1));
	}
	fclose(file);
	return found;
}

static int find_device(rtl_uint64_t addr, rtl_uint64_t size,
		       rtl_uint32_t *address)
{
	unsigned int segment, bus, device, function;
	struct dirent *entry;
	int found = 0;
	DIR *dir;

	if (!size || addr > UINT64_MAX - (size - 1))
		return 0;
	dir = opendir(PCI "/devices");
	if (!dir)
		return 0;
	while (!found && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "%x:%x:%x.%x", &segment, &bus,
			   &device, &function) != 4 || segment > 0xffff)
			continue;
		*address = segment << 16 | bus << 8 | device << 3 | function;
		found = has_range(entry->d_name, addr, addr + (size - 1));
	}
	closedir(dir);
	return found;
}

/**
 * kos_call_bound_range() - the same, for the device that has certain registers
 * @request: KOSDMA_*
 * @arg: its struct
 * @addr: physical address
 * @size: bytes
 *
 * Return: a code of the contract.
 */
Retcode kos_call_bound_range(unsigned long request, void *arg,
			     rtl_uint64_t addr, rtl_uint64_t size)
{
	rtl_uint32_t address;
	int error;

	error = kos_ioctl(request, arg);
	if (error != EUNATCH)
		return kos_retcode(error);
	if (!find_device(addr, size, &address))
		return rcNotReady;
	return bind_and_call(request, arg, address);
}

/* The last of the destructors: the program's may still use its devices. */
static void __attribute__((destructor(101))) give_back(void)
{
	struct bound *page = atomic_load(&bound);
	rtl_uint64_t value;
	size_t i;

	for (i = 0; page && i < ENTRIES; i++) {
		value = atomic_load(&page->entries[i]);
		if (value)
			unbind_device(page, (rtl_uint32_t)value, 0);
	}
}
