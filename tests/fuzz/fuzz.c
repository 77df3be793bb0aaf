// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fuzzer of the module, guided by the module's own code that it reaches, as
 * KCOV tells. It needs the debug kernel, and a guest of its own:
 *
 *	tests/fuzz/run -h
 *	fuzz [-s SEED] [-n COUNT] [-t SECONDS] [PROGRAM...]
 *
 * Programs that are given it runs on a kernel without KCOV, too.
 *
 * A program is one line of text: calls, separated by semicolons, of processes
 * p0 to p2. Handles are in slots r0 to r15 of each process; of a call that
 * makes one, the first argument is its slot. "&" behind the process: the next
 * call does not wait for it. Programs that are given run first, then COUNT that
 * are made up: new ones, and changed ones of those that reached something new.
 * Each is in the kernel's log before it runs. When its processes are gone,
 * nothing of it may be left.
 *
 * Program i of a seed depends on nothing but the seed, i, and what was reached.
 * A run of SECONDS ends with the programs that were of use, each behind a "+".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/kcov.h>
#include <linux/kosdma.h>
#include <linux/netlink.h>

#include <coresrv/iommu/iommu_api.h>

#include "../lib/netlink.h"
#include "../lib/pci.h"
#include "../lib/probe.h"

enum {
	PROCESSES = 3,
	SLOTS = 16,
	ARGS_MAX = 7,
	CALLS_MAX = 24,
	TEXT_MAX = 900, /* a record of the kernel's log */
	CORPUS_MAX = 4096,
	COVER_WORDS = 64 << 10, /* of one call */
	COVER_BITS = 20,
	CALL_SECONDS = 60, /* a call that takes longer hangs */
	REST_SECONDS = 30, /* until nothing is left of a program */
	DEVICES = 2,
	PLACES_MIN = 1000, /* half of what the corpus reaches */
};

/* ---- calls ---- */

struct call {
	uint8_t op;
	uint8_t process;
	bool async;
	int64_t args[ARGS_MAX]; /* slots as their number */
};

struct program {
	int nr;
	struct call calls[CALLS_MAX];
};

/* What a process has, in itself. */
struct slot {
	int fd;
	uint8_t *addr;
	size_t len;
};

static struct slot slots[SLOTS];
static int device = -1;

/*
 * Memory on the bus, without interrupts: to route one, each attach would have
 * the kernel run the firmware's code for seconds.
 */
static struct {
	uint32_t address;
	uint64_t bar;
} devices[DEVICES];

static int inbox[PROCESSES][2];

static int64_t do_ioctl(unsigned int cmd, void *arg)
{
	return ioctl(device, cmd, arg) ? -errno : 0;
}

#define ARG(type, noun, ...) \
	struct kosdma_##type arg = { .size = sizeof(arg), __VA_ARGS__ }

static int fd_of(int64_t slot)
{
	return slot >= 0 && slot < SLOTS ? slots[slot].fd : -1;
}

static void put(int64_t slot, int fd, void *addr, size_t len)
{
	/* What was there stays open: nobody knows its number any more. */
	slots[slot % SLOTS] = (struct slot){ fd, addr, len };
}

static uint32_t address_of(int64_t dev)
{
	return dev >= 0 && dev < DEVICES ? devices[dev].address : (uint32_t)dev;
}

static int64_t run_info(const int64_t *a)
{
	ARG(info, info);

	(void)a;
	return do_ioctl(KOSDMA_INFO, &arg);
}

static int64_t run_create(const int64_t *a)
{
	ARG(buffer_create, buffer_create, .length = (uint64_t)a[1] * PAGE, .order = a[2],
	    .attr = a[3], .flags = a[4]);
	int64_t ret = do_ioctl(KOSDMA_BUFFER_CREATE, &arg);

	if (!ret)
		put(a[0], arg.out_handle, NULL, 0);
	return ret;
}

static int64_t run_modify(const int64_t *a)
{
	ARG(buffer_modify, buffer_modify, .handle = fd_of(a[0]), .attr = a[1]);

	return do_ioctl(KOSDMA_BUFFER_MODIFY, &arg);
}

static int64_t run_map(const int64_t *a)
{
	ARG(buffer_map, buffer_map, .handle = fd_of(a[1]), .offset = (uint64_t)a[2] * PAGE,
	    .length = (uint64_t)a[3] * PAGE, .flags = a[4]);
	int64_t ret;

	/* At or beside what is there, or anywhere. */
	if (a[5] > 0)
		arg.hint = (uintptr_t)slots[a[5] % SLOTS].addr + (a[5] & 32 ? PAGE : 0);
	ret = do_ioctl(KOSDMA_BUFFER_MAP, &arg);
	if (!ret)
		put(a[0], arg.out_handle, (void *)(uintptr_t)arg.out_addr, arg.length);
	return ret;
}

static int64_t run_begin(const int64_t *a)
{
	ARG(access_begin, access_begin, .handle = fd_of(a[1]), .domain = fd_of(a[2]));
	int64_t ret = do_ioctl(KOSDMA_ACCESS_BEGIN, &arg);

	if (!ret)
		put(a[0], arg.out_handle, NULL, 0);
	return ret;
}

/* The two buffers in turn; all handles stay open, two of them in slots. */
static int64_t run_beginmany(const int64_t *a)
{
	struct kosdma_begin_item items[8];
	ARG(access_begin_many, access_begin_many, .count = 2 + a[4] % 7,
	    .items = (uintptr_t)items, .domain = fd_of(a[3]));
	int64_t ret;

	for (uint32_t i = 0; i < arg.count; i++)
		items[i] = (struct kosdma_begin_item){ .handle = fd_of(a[1 + i % 2]) };
	ret = do_ioctl(KOSDMA_ACCESS_BEGIN_MANY, &arg);
	if (!ret) {
		put(a[0], items[0].out_handle, NULL, 0);
		put(a[0] + 1, items[1].out_handle, NULL, 0);
	}
	return ret;
}

static int64_t run_closemany(const int64_t *a)
{
	const int32_t handles[] = { fd_of(a[0]), fd_of(a[1]), fd_of(a[2]) };
	ARG(handle_close_many, handle_close_many, .count = 3, .handles = (uintptr_t)handles);

	return do_ioctl(KOSDMA_HANDLE_CLOSE_MANY, &arg);
}

static int64_t run_ask(const int64_t *a)
{
	uint64_t blocks[8];
	ARG(access_info, access_info, .handle = fd_of(a[0]), .flags = a[1], .capacity = a[2],
	    .blocks = (uintptr_t)blocks);

	if (arg.capacity > 8)
		arg.capacity = 8;
	return do_ioctl(KOSDMA_ACCESS_INFO, &arg);
}

static int64_t run_domain(const int64_t *a)
{
	ARG(domain_create, domain_create);
	int64_t ret = do_ioctl(KOSDMA_DOMAIN_CREATE, &arg);

	if (!ret)
		put(a[0], arg.out_handle, NULL, 0);
	return ret;
}

static int64_t run_attach(const int64_t *a)
{
	ARG(device_attach, device_attach, .address = address_of(a[0]), .domain = fd_of(a[1]));

	return do_ioctl(KOSDMA_DEVICE_ATTACH, &arg);
}

static int64_t run_detach(const int64_t *a)
{
	ARG(device_attach, device_attach, .address = address_of(a[0]), .domain = fd_of(a[1]));

	return do_ioctl(KOSDMA_DEVICE_DETACH, &arg);
}

static int64_t run_mask(const int64_t *a)
{
	ARG(device_set_dma_mask, device_set_dma_mask, .address = address_of(a[0]),
	    .mask = a[1] >= 64 ? UINT64_MAX : (1ull << (a[1] & 63)) - 1);

	return do_ioctl(KOSDMA_DEVICE_SET_DMA_MASK, &arg);
}

static int64_t run_state(const int64_t *a)
{
	ARG(device_info, device_info, .address = address_of(a[0]));

	return do_ioctl(KOSDMA_DEVICE_INFO, &arg);
}

static int64_t run_register(const int64_t *a)
{
	ARG(region_register, region_register, .length = (uint64_t)a[3] * PAGE, .flags = a[4]);
	int64_t ret;

	arg.addr = (a[1] >= 0 && a[1] < DEVICES ? devices[a[1]].bar : (uint64_t)a[1] * PAGE) +
		   (uint64_t)a[2] * PAGE;
	ret = do_ioctl(KOSDMA_REGION_REGISTER, &arg);
	if (!ret)
		put(a[0], arg.out_handle, NULL, 0);
	return ret;
}

static int64_t run_mapregs(const int64_t *a)
{
	ARG(region_map, region_map, .handle = fd_of(a[1]), .flags = a[2], .attr = a[3]);
	int64_t ret = do_ioctl(KOSDMA_REGION_MAP, &arg);

	if (!ret)
		put(a[0], arg.out_handle, (void *)(uintptr_t)arg.out_addr, PAGE);
	return ret;
}

static int64_t run_close(const int64_t *a)
{
	ARG(handle_close, handle_close, .handle = fd_of(a[0]));

	return do_ioctl(KOSDMA_HANDLE_CLOSE, &arg);
}

static int64_t run_bareclose(const int64_t *a)
{
	int fd = fd_of(a[0]);

	/* Not what the process itself lives by. */
	return fd > 2 && ioctl(fd, KOSDMA_INFO, NULL) && errno == ENOTTY ? close(fd) : -EBADF;
}

static int64_t run_revoke(const int64_t *a)
{
	ARG(handle_revoke, handle_revoke, .handle = fd_of(a[0]), .flags = a[1],
	    .badge = a[1] & KOSDMA_REVOKE_BADGE ? fd_of(a[2]) : KOSDMA_NO_HANDLE);

	return do_ioctl(KOSDMA_HANDLE_REVOKE, &arg);
}

static int64_t run_copy(const int64_t *a)
{
	ARG(handle_copy, handle_copy, .handle = fd_of(a[1]), .rights = a[2], .flags = a[3],
	    .badge = fd_of(a[4]));
	int64_t ret = do_ioctl(KOSDMA_HANDLE_COPY, &arg);

	if (!ret)
		put(a[0], arg.out_handle, NULL, 0);
	return ret;
}

static int64_t run_tell(const int64_t *a)
{
	ARG(handle_info, handle_info, .handle = fd_of(a[0]));

	return do_ioctl(KOSDMA_HANDLE_INFO, &arg);
}

static int64_t run_badge(const int64_t *a)
{
	ARG(badge_create, badge_create);
	int64_t ret = do_ioctl(KOSDMA_BADGE_CREATE, &arg);

	if (!ret)
		put(a[0], arg.out_handle, NULL, 0);
	return ret;
}

static int64_t run_dup(const int64_t *a)
{
	int fd = dup(fd_of(a[1]));

	if (fd >= 0)
		put(a[0], fd, slots[a[1] % SLOTS].addr, slots[a[1] % SLOTS].len);
	return fd < 0 ? -errno : 0;
}

/* ---- calls of others on what the module made ---- */

static sigjmp_buf touched;

static void on_fault(int sig)
{
	siglongjmp(touched, sig);
}

static int touch(volatile uint8_t *addr, bool write)
{
	int sig = sigsetjmp(touched, 1);

	if (!sig) {
		if (write)
			*addr = 0x5a;
		else
			(void)*addr;
	}
	return sig;
}

static int64_t run_touch(const int64_t *a)
{
	struct slot *s = &slots[a[0] % SLOTS];

	return s->addr ? touch(s->addr + a[1] * PAGE, a[2]) : -ENOENT;
}

static uint8_t *place(const int64_t *a)
{
	/* At most a page beside the mapping, where its guards would be. */
	return slots[a[0] % SLOTS].addr + (a[1] % 16 - 1) * PAGE;
}

static int64_t run_munmap(const int64_t *a)
{
	return slots[a[0] % SLOTS].addr ? munmap(place(a), (a[2] % 8) * PAGE) : -ENOENT;
}

static int64_t run_mremap(const int64_t *a)
{
	struct slot *s = &slots[a[0] % SLOTS];
	void *p;

	if (!s->addr)
		return -ENOENT;
	p = mremap(place(a), (a[2] % 8) * PAGE, (a[3] % 8) * PAGE,
		   a[4] & (MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
	return p == MAP_FAILED ? -errno : 0;
}

static int64_t run_madvise(const int64_t *a)
{
	return slots[a[0] % SLOTS].addr ? madvise(place(a), (a[2] % 8) * PAGE, a[3]) : -ENOENT;
}

static int64_t run_mprotect(const int64_t *a)
{
	return slots[a[0] % SLOTS].addr ? mprotect(place(a), (a[2] % 8) * PAGE, a[3] & 7) : -ENOENT;
}

static int64_t run_mlock(const int64_t *a)
{
	return slots[a[0] % SLOTS].addr ? mlock(place(a), (a[2] % 8) * PAGE) : -ENOENT;
}

static int64_t run_mmap(const int64_t *a)
{
	void *p = mmap(NULL, (a[1] % 8) * PAGE, a[2] & 7, a[3] & 1 ? MAP_SHARED : MAP_PRIVATE,
		       a[3] & 2 ? device : fd_of(a[0]), 0);

	return p == MAP_FAILED ? -errno : 0;
}

/* A child that touches what it was left, and closes it or not. */
static int64_t run_fork(const int64_t *a)
{
	pid_t pid = fork();

	if (!pid) {
		for (int i = 0; i < SLOTS; i++)
			if (slots[i].addr)
				touch(slots[i].addr, a[0] & 1);
		for (int i = 0; i < SLOTS && a[0] & 2; i++) {
			const int64_t args[ARGS_MAX] = { i };

			run_close(args);
		}
		_exit(0);
	}
	return pid < 0 || waitpid(pid, NULL, 0) != pid ? -errno : 0;
}

static int64_t run_fdinfo(const int64_t *a)
{
	char path[64], text[2048];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd_of(a[0]));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text));
	close(fd);
	return n < 0;
}

static int64_t run_poll(const int64_t *a)
{
	struct pollfd fd = { .fd = fd_of(a[0]), .events = POLLIN | POLLPRI };

	return poll(&fd, 1, 0);
}

/* To the process of the first argument; the parent has that one receive it. */
static int64_t run_send(const int64_t *a)
{
	int fd = fd_of(a[0]);
	char byte = 0, control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = (struct cmsghdr *)control;

	if (fd < 3)
		return -EBADF;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(inbox[a[1] % PROCESSES][1], &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno :
											 0;
}

static int64_t run_receive(const int64_t *a, int self)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int fd;

	if (recvmsg(inbox[self][0], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (!c)
		return -ENODATA;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	put(a[0], fd, NULL, 0);
	return 0;
}

static int64_t run_netlink(const int64_t *a)
{
	struct netlink_request req;
	struct netlink_result result;
	int sock = netlink_open();

	netlink_request(&req, a[0], a[1] & 1);
	if (a[2])
		netlink_u32(&req, a[2] & 31, a[3]);
	if (a[4])
		netlink_u32(&req, a[4] & 31, address_of(a[5]));
	result = netlink_send(sock, &req, NULL, NULL);
	close(sock);
	return -result.error;
}

static void garbled_attr(struct netlink_request *req, int64_t type, int64_t len, int64_t word)
{
	uint32_t value[16];

	for (int i = 0; i < 16; i++)
		value[i] = word;
	netlink_attr(req, (type & 31) | (type & 32 ? NLA_F_NESTED : 0), value, len & 63);
}

/*
 * Attributes of any type and length, and messages that end too early. The
 * kernel works on it in send(), and may have nothing to say.
 */
static int64_t run_garble(const int64_t *a)
{
	struct netlink_request req;
	int sock = netlink_open();
	char answer[4096];
	int64_t ret;

	netlink_request(&req, a[0], a[6] & 1);
	garbled_attr(&req, a[1], a[2], a[3]);
	garbled_attr(&req, a[4], a[5], a[3]);
	if (a[6] & 2)
		((struct nlmsghdr *)req.data)->nlmsg_len -= a[6] >> 2 & 7;
	ret = send(sock, req.data, req.len, 0) < 0 ? -errno : 0;
	while (recv(sock, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
	close(sock);
	return ret;
}

/* The socket stays, and gets events. */
static int64_t run_listen(const int64_t *a)
{
	static const char *const groups[] = { KOSDMA_MCGRP_OBJECTS, KOSDMA_MCGRP_DEVICES,
					      KOSDMA_MCGRP_FAULTS };
	int sock = netlink_open();

	return -netlink_join(sock, netlink_group(sock, groups[(uint64_t)a[0] % 3]));
}

/* Words of any kind as the struct of any ioctl. */
static int64_t run_raw(const int64_t *a)
{
	uint32_t words[64] = { a[1] };

	for (int i = 2; i < ARGS_MAX; i++)
		words[i - 1] = a[i];
	return do_ioctl(_IO(KOSDMA_TYPE, a[0] & 0xff), words);
}

/* What an argument is: of which kind its slot, or how its value is found. */
enum kind {
	END,
	NEW_BUFFER, /* a slot that gets a handle */
	NEW_MAPPING,
	NEW_ACCESS,
	NEW_DOMAIN,
	NEW_REGION,
	NEW_REGISTERS,
	NEW_BADGE,
	NEW_COPY,
	ANY,
	BUFFER,
	MAPPING,
	ACCESS,
	DOMAIN, /* or none */
	REGION,
	BADGE, /* or none */
	PROCESS,
	DEVICE,
	LENGTH,
	OFFSET,
	ORDER,
	ATTR,
	FLAGS,
	RIGHTS,
	BITS,
	ADVICE,
	NUMBER,
	COMMAND,
	SIZE,
	WORD,
};

enum { RECEIVE, KILL };

static const struct op {
	const char *name;
	int weight;
	int64_t (*run)(const int64_t *args);
	enum kind args[ARGS_MAX];
} ops[] = {
	/* These two are for the parent to see to. */
	[RECEIVE] = { "receive", 0, NULL, { NEW_COPY } },
	[KILL] = { "kill", 2, NULL, { PROCESS } },
	{ "info", 1, run_info, { END } },
	{ "create", 12, run_create, { NEW_BUFFER, LENGTH, ORDER, ATTR, FLAGS } },
	{ "modify", 5, run_modify, { BUFFER, ATTR } },
	{ "map", 10, run_map, { NEW_MAPPING, BUFFER, OFFSET, LENGTH, FLAGS, NUMBER } },
	{ "begin", 10, run_begin, { NEW_ACCESS, BUFFER, DOMAIN } },
	{ "beginmany", 6, run_beginmany, { NEW_ACCESS, BUFFER, BUFFER, DOMAIN, NUMBER } },
	{ "ask", 5, run_ask, { ACCESS, FLAGS, NUMBER } },
	{ "domain", 5, run_domain, { NEW_DOMAIN } },
	{ "attach", 8, run_attach, { DEVICE, DOMAIN } },
	{ "detach", 5, run_detach, { DEVICE, DOMAIN } },
	{ "mask", 3, run_mask, { DEVICE, BITS } },
	{ "state", 2, run_state, { DEVICE } },
	{ "register", 6, run_register, { NEW_REGION, DEVICE, OFFSET, LENGTH, FLAGS } },
	{ "mapregs", 5, run_mapregs, { NEW_REGISTERS, REGION, FLAGS, ATTR } },
	{ "close", 8, run_close, { ANY } },
	{ "closemany", 3, run_closemany, { ANY, ANY, ANY } },
	{ "bareclose", 3, run_bareclose, { ANY } },
	{ "revoke", 8, run_revoke, { ANY, FLAGS, BADGE } },
	{ "copy", 8, run_copy, { NEW_COPY, ANY, RIGHTS, FLAGS, BADGE } },
	{ "tell", 2, run_tell, { ANY } },
	{ "badge", 3, run_badge, { NEW_BADGE } },
	{ "dup", 2, run_dup, { NEW_COPY, ANY } },
	{ "touch", 5, run_touch, { MAPPING, OFFSET, NUMBER } },
	{ "munmap", 3, run_munmap, { MAPPING, OFFSET, LENGTH } },
	{ "mremap", 3, run_mremap, { MAPPING, OFFSET, LENGTH, LENGTH, FLAGS } },
	{ "madvise", 3, run_madvise, { MAPPING, OFFSET, LENGTH, ADVICE } },
	{ "mprotect", 3, run_mprotect, { MAPPING, OFFSET, LENGTH, FLAGS } },
	{ "mlock", 1, run_mlock, { MAPPING, OFFSET, LENGTH } },
	{ "mmap", 1, run_mmap, { ANY, LENGTH, FLAGS, NUMBER } },
	{ "fork", 2, run_fork, { FLAGS } },
	{ "fdinfo", 3, run_fdinfo, { ANY } },
	{ "poll", 1, run_poll, { ANY } },
	{ "send", 6, run_send, { ANY, PROCESS } },
	{ "netlink", 6, run_netlink, { COMMAND, NUMBER, NUMBER, WORD, NUMBER, DEVICE } },
	{ "garble", 3, run_garble, { COMMAND, NUMBER, NUMBER, WORD, NUMBER, NUMBER, NUMBER } },
	{ "listen", 1, run_listen, { NUMBER } },
	{ "raw", 3, run_raw, { COMMAND, SIZE, WORD, WORD, WORD, WORD, WORD } },
};

enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static bool is_slot(enum kind kind)
{
	return kind >= NEW_BUFFER && kind <= BADGE;
}

/* ---- text ---- */

static void print_program(const struct program *p, char text[TEXT_MAX])
{
	size_t len = 0;

	text[0] = '\0';
	for (int i = 0; i < p->nr; i++) {
		const struct call *c = &p->calls[i];

		len += snprintf(text + len, TEXT_MAX - len, "%sp%d%s %s", i ? "; " : "", c->process,
				c->async ? "&" : "", ops[c->op].name);
		for (int k = 0; k < ARGS_MAX && ops[c->op].args[k] && len < TEXT_MAX; k++)
			len += snprintf(text + len, TEXT_MAX - len,
					is_slot(ops[c->op].args[k]) && c->args[k] >= 0 ? " r%lld" :
											 " %lld",
					(long long)c->args[k]);
		if (len >= TEXT_MAX)
			len = TEXT_MAX;
	}
}

static bool parse_call(char *text, struct call *c)
{
	char *save, *word = strtok_r(text, " ", &save);

	*c = (struct call){ 0 };
	if (!word || word[0] != 'p' || word[1] < '0' || word[1] >= '0' + PROCESSES)
		return false;
	c->process = word[1] - '0';
	c->async = word[2] == '&';
	word = strtok_r(NULL, " ", &save);
	for (c->op = 0; word && c->op < OPS && strcmp(ops[c->op].name, word);)
		c->op++;
	if (!word || c->op == OPS)
		return false;
	for (int k = 0; k < ARGS_MAX && ops[c->op].args[k]; k++) {
		word = strtok_r(NULL, " ", &save);
		if (!word)
			return false;
		c->args[k] = strtoll(word + (word[0] == 'r'), NULL, 0);
		if (is_slot(ops[c->op].args[k]) && (c->args[k] < -1 || c->args[k] >= SLOTS))
			return false;
		if (ops[c->op].args[k] <= NEW_COPY && c->args[k] < 0)
			return false;
		if (ops[c->op].args[k] == PROCESS && (c->args[k] < 0 || c->args[k] >= PROCESSES))
			return false;
	}
	return true;
}

static bool parse_program(const char *text, struct program *p)
{
	char copy[4096], *save;

	snprintf(copy, sizeof(copy), "%s", text);
	p->nr = 0;
	for (char *one = strtok_r(copy, ";", &save); one; one = strtok_r(NULL, ";", &save))
		if (p->nr == CALLS_MAX || !parse_call(one, &p->calls[p->nr++]))
			return false;
	return p->nr;
}

/* ---- making programs up ---- */

static uint64_t random_state;

static uint64_t random_word(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static unsigned int below(unsigned int n)
{
	return random_word() % n;
}

#define PICK(array) ((array)[below(sizeof(array) / sizeof((array)[0]))])

/* Which kind each slot of each process has when the first @nr calls were made. */
static void kinds_after(const struct program *p, int nr, uint8_t kinds[PROCESSES][SLOTS])
{
	static const uint8_t made[] = {
		[NEW_BUFFER] = BUFFER, [NEW_MAPPING] = MAPPING, [NEW_ACCESS] = ACCESS,
		[NEW_DOMAIN] = DOMAIN, [NEW_REGION] = REGION, [NEW_REGISTERS] = MAPPING,
		[NEW_BADGE] = BADGE,
	};
	uint8_t sent[PROCESSES] = { BUFFER, BUFFER, BUFFER };

	memset(kinds, END, PROCESSES * SLOTS);
	for (int i = 0; i < nr; i++) {
		const struct call *c = &p->calls[i];
		enum kind kind = ops[c->op].args[0];
		uint8_t *own = kinds[c->process];

		if (c->op == KILL)
			memset(kinds[c->args[0]], END, SLOTS);
		else if (c->op == RECEIVE)
			own[c->args[0]] = sent[c->process];
		else if (ops[c->op].run == run_send && c->args[0] >= 0)
			sent[c->args[1]] = own[c->args[0]];
		else if (kind == NEW_COPY && c->args[1] >= 0)
			own[c->args[0]] = own[c->args[1]];
		else if (kind >= NEW_BUFFER && kind < NEW_COPY)
			own[c->args[0]] = made[kind];
		if (ops[c->op].run == run_beginmany)
			own[(c->args[0] + 1) % SLOTS] = ACCESS;
	}
}

static int64_t random_slot(enum kind kind, const uint8_t kinds[SLOTS])
{
	int found[SLOTS], nr = 0;

	if (below(24) == 0)
		return below(SLOTS);
	if ((kind == DOMAIN || kind == BADGE) && below(2))
		return -1;
	for (int i = 0; i < SLOTS; i++)
		if (kind == ANY ? kinds[i] != END : kinds[i] == kind)
			found[nr++] = i;
	/* Access' question is good for buffers, too. */
	if (!nr)
		for (int i = 0; i < SLOTS; i++)
			if (kinds[i] != END)
				found[nr++] = i;
	return nr ? found[below(nr)] : (int)below(SLOTS);
}

static int64_t random_arg(enum kind kind, const uint8_t kinds[SLOTS])
{
	static const int64_t lengths[] = { 1, 1, 2, 3, 4, 5, 7, 8, 16, 64, 512, 513, 0, -1,
					   1ll << 40 };
	static const int64_t attrs[] = { 0, 0, 1, 2, 3, 4, 0x10, 0x40, 0x80, 0x41, 0x83, 0x20, 0xc0,
					 8 };
	static const int64_t rights[] = { 0x1f0007, 0x1f0007, 0x70000, 0x10003, 0x1f0000, 3, 0,
					  0x30007, 0x200000, -1 };
	static const int64_t words[] = { 0, 1, 2, 3, 4, 8, 16, 0x1000, 0xb5, 0x7fffffff, -1,
					 0x80000000 };
	static const int64_t advice[] = { 0, 3, 4, 8, 9, 10, 11, 12, 14, 16, 17, 18, 19, 20, 21, 22,
					  23, 24 };

	switch (kind) {
	case PROCESS:
		return below(PROCESSES);
	case DEVICE:
		return below(10) ? (int64_t)below(DEVICES) : PICK(words);
	case LENGTH:
		return PICK(lengths);
	case OFFSET:
		return below(4) ? 0 : below(8);
	case ORDER:
		return below(3) ? 0 : below(13);
	case ATTR:
		return PICK(attrs);
	case FLAGS:
		/* Those of maps are the most, and need at least one of the lowest. */
		return below(8) ? below(4) | (below(2) ? below(32) : 0) : PICK(words);
	case RIGHTS:
		return below(4) ? PICK(rights) : (int64_t)(random_word() & 0x1f0007);
	case BITS:
		return below(2) ? 64 : below(65);
	case ADVICE:
		return PICK(advice);
	case NUMBER:
		return below(2) ? below(4) : below(64);
	case COMMAND:
		return below(20);
	case SIZE:
		return below(4) ? 8 * (1 + below(7)) : PICK(words);
	case WORD:
		return below(2) ? PICK(words) : below(40);
	default:
		if (kind >= NEW_BUFFER && kind <= NEW_COPY)
			return below(SLOTS);
		return random_slot(kind, kinds);
	}
}

static struct call random_call(const struct program *p, int at)
{
	uint8_t kinds[PROCESSES][SLOTS];
	struct call c = { .process = below(3) ? 0 : below(PROCESSES), .async = !below(12) };
	int sum = 0, weight;

	kinds_after(p, at, kinds);
	for (int i = 0; i < OPS; i++)
		sum += ops[i].weight;
	weight = below(sum);
	while (weight >= ops[c.op].weight)
		weight -= ops[c.op++].weight;
	for (int k = 0; k < ARGS_MAX && ops[c.op].args[k]; k++)
		c.args[k] = random_arg(ops[c.op].args[k], kinds[c.process]);
	return c;
}

static void insert(struct program *p, int at, struct call c)
{
	if (p->nr == CALLS_MAX)
		return;
	memmove(&p->calls[at + 1], &p->calls[at], (p->nr - at) * sizeof(c));
	p->calls[at] = c;
	p->nr++;
}

static void append(struct program *p)
{
	insert(p, p->nr, random_call(p, p->nr));
	/* What is sent is received. */
	if (p->nr && ops[p->calls[p->nr - 1].op].run == run_send)
		insert(p, p->nr, (struct call){ .op = RECEIVE,
						.process = p->calls[p->nr - 1].args[1],
						.args = { below(SLOTS) } });
}

static void make_up(struct program *p)
{
	int nr = 6 + below(CALLS_MAX - 6);

	p->nr = 0;
	while (p->nr < nr)
		append(p);
}

/* As much of it as the kernel's log takes whole. */
static void trim(struct program *p)
{
	char text[TEXT_MAX];

	while (print_program(p, text), strlen(text) >= TEXT_MAX - 1)
		p->nr--;
}

static void change(struct program *p, const struct program *other)
{
	int at, k;

	for (int n = 1 + below(4); n; n--) {
		at = p->nr ? below(p->nr) : 0;
		switch (p->nr ? below(6) : 0) {
		case 0:
		case 1:
			insert(p, at, random_call(p, at));
			break;
		case 2:
			memmove(&p->calls[at], &p->calls[at + 1],
				(--p->nr - at) * sizeof(p->calls[0]));
			break;
		case 3:
			for (k = at; k < other->nr && p->nr < CALLS_MAX && k < at + 6; k++)
				insert(p, p->nr, other->calls[k]);
			break;
		case 4:
			append(p);
			break;
		default: {
			uint8_t kinds[PROCESSES][SLOTS];
			struct call *c = &p->calls[at];

			kinds_after(p, at, kinds);
			k = below(ARGS_MAX);
			if (ops[c->op].args[k])
				c->args[k] = random_arg(ops[c->op].args[k], kinds[c->process]);
			else
				c->async = !c->async;
		}
		}
	}
}

/* ---- running them ---- */

/* What was reached, by the program under way or ever: places, and steps from one to the next. */
struct cover {
	uint64_t places[(1 << COVER_BITS) / 64], steps[(1 << COVER_BITS) / 64];
};

static struct cover *now, *ever; /* now: shared with the processes */
static bool guided; /* by KCOV */

static void cover_add(const uint64_t *pcs)
{
	uint32_t last = 0;

	for (uint64_t i = 1; i <= pcs[0] && i < COVER_WORDS; i++) {
		uint32_t place = pcs[i] & ((1 << COVER_BITS) - 1);
		uint32_t step = (place ^ (last * 0x9e3779b1u)) >> 3 & ((1 << COVER_BITS) - 1);

		__atomic_fetch_or(&now->places[place / 64], 1ull << place % 64, __ATOMIC_RELAXED);
		__atomic_fetch_or(&now->steps[step / 64], 1ull << step % 64, __ATOMIC_RELAXED);
		last = place;
	}
}

/* How many steps were new; they no longer are. */
static int cover_take(void)
{
	int new = 0;

	for (size_t i = 0; i < sizeof(*now) / 8; i++) {
		uint64_t *n = (uint64_t *)now + i, *e = (uint64_t *)ever + i;

		new += __builtin_popcountll(*n & ~*e);
		*e |= *n;
		*n = 0;
	}
	return new;
}

static int cover_places(void)
{
	int nr = 0;

	for (size_t i = 0; i < sizeof(ever->places) / 8; i++)
		nr += __builtin_popcountll(ever->places[i]);
	return nr;
}

static struct worker {
	pid_t pid;
	int in, out; /* calls; one byte for each that is over */
	int pending;
} workers[PROCESSES];

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static void worker_main(int self, int in, int out)
{
	struct sigaction act = { .sa_handler = on_fault };
	int kcov = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	uint64_t *pcs = MAP_FAILED;
	struct call c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	for (int i = 0; i < SLOTS; i++)
		slots[i].fd = -1;
	device = open(KOSDMA_DEVICE, O_RDWR | O_CLOEXEC);
	if (kcov >= 0 && !ioctl(kcov, KCOV_INIT_TRACE, (unsigned long)COVER_WORDS))
		pcs = mmap(NULL, COVER_WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, kcov, 0);
	if (device < 0)
		_exit(1);
	if (guided && (pcs == MAP_FAILED || ioctl(kcov, KCOV_ENABLE, KCOV_TRACE_PC)))
		_exit(1);
	while (read(in, &c, sizeof(c)) == sizeof(c)) {
		if (guided)
			__atomic_store_n(&pcs[0], 0, __ATOMIC_RELAXED);
		if (c.op == RECEIVE)
			run_receive(c.args, self);
		else
			ops[c.op].run(c.args);
		if (guided)
			cover_add(pcs);
		if (write(out, "", 1) != 1)
			_exit(1);
	}
	_exit(0);
}

static void worker_start(int self)
{
	int calls[2], over[2];

	if (pipe2(calls, O_CLOEXEC) || pipe2(over, O_CLOEXEC))
		die("pipe: %m");
	workers[self] = (struct worker){ .pid = fork(), .in = calls[1], .out = over[0] };
	if (workers[self].pid < 0)
		die("fork: %m");
	if (!workers[self].pid) {
		close(calls[1]);
		close(over[0]);
		worker_main(self, calls[0], over[1]);
	}
	close(calls[0]);
	close(over[1]);
}

static void worker_stop(int self)
{
	if (!workers[self].pid)
		return;
	kill(workers[self].pid, SIGKILL);
	waitpid(workers[self].pid, NULL, 0);
	close(workers[self].in);
	close(workers[self].out);
	workers[self] = (struct worker){ 0 };
}

/* Wait until at most @pending calls are under way. One that died is replaced with its next call. */
static void worker_await(int self, int pending)
{
	struct worker *w = &workers[self];
	char byte;

	while (w->pending > pending) {
		struct pollfd fd = { .fd = w->out, .events = POLLIN };

		if (poll(&fd, 1, CALL_SECONDS * 1000) == 0)
			die("a call of process %d (%d) does not end", self, w->pid);
		if (read(w->out, &byte, 1) != 1) {
			worker_stop(self);
			return;
		}
		w->pending--;
	}
}

static void run_call(const struct call *c)
{
	struct worker *w = &workers[c->process];

	if (c->op == KILL) {
		worker_stop(c->args[0]);
		return;
	}
	if (!w->pid)
		worker_start(c->process);
	/* What is asynchronous is so for other processes; each makes its calls in order. */
	if (write(w->in, c, sizeof(*c)) == sizeof(*c))
		w->pending++;
	else
		w->pending = 1; /* dead: the wait finds it out */
	if (!c->async)
		worker_await(c->process, 0);
}

static const int gauges[] = {
	KOSDMA_A_STATS_PAGES, KOSDMA_A_STATS_LINGERING, KOSDMA_A_STATS_QUARANTINED,
	KOSDMA_A_STATS_IOVA_BYTES, KOSDMA_A_STATS_BUFFERS, KOSDMA_A_STATS_MAPPINGS,
	KOSDMA_A_STATS_ACCESSES, KOSDMA_A_STATS_DOMAINS, KOSDMA_A_STATS_REGIONS,
	KOSDMA_A_STATS_HANDLES,
};

static void take(const struct netlink_reply *reply, void *arg)
{
	*(struct netlink_reply *)arg = *reply;
}

/* The first call is for what there is before any program: this process' own domain. */
static bool nothing_is_left(char *what, size_t size)
{
	static uint32_t before[sizeof(gauges) / sizeof(gauges[0])];
	static struct netlink_request req;
	static int sock = -1;
	struct netlink_reply reply = { 0 };
	bool nothing = true;
	size_t len = 0;

	if (sock < 0) {
		netlink_request(&req, KOSDMA_CMD_STATS_GET, false);
		sock = netlink_open();
	}
	netlink_send(sock, &req, take, &reply);
	for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++) {
		if (!what)
			before[i] = reply.number[gauges[i]];
		else
			len += snprintf(what + len, size - len, " %d",
					(int)(reply.number[gauges[i]] - before[i]));
		nothing = nothing && reply.number[gauges[i]] == before[i];
	}
	return nothing;
}

/* Run it; false if something of it is left. */
static bool run_program(const struct program *p, const char *name)
{
	char text[TEXT_MAX], left[256], line[TEXT_MAX + 64];
	time_t end;
	int log;

	print_program(p, text);
	snprintf(line, sizeof(line), "kosdma fuzz: %s: %s\n", name, text);
	log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (log < 0 || write(log, line, strlen(line)) < 0)
		die("cannot write the log: %m");
	close(log);

	for (int i = 0; i < PROCESSES; i++) {
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, inbox[i]))
			die("socketpair: %m");
	}
	for (int i = 0; i < p->nr; i++)
		run_call(&p->calls[i]);
	for (int i = 0; i < PROCESSES; i++)
		worker_await(i, 0);
	for (int i = 0; i < PROCESSES; i++)
		worker_stop(i);
	for (int i = 0; i < PROCESSES; i++) {
		close(inbox[i][0]);
		close(inbox[i][1]);
	}

	for (end = time(NULL) + REST_SECONDS; !nothing_is_left(left, sizeof(left)); usleep(1000))
		if (time(NULL) > end) {
			printf("left of %s:%s\n%s\n", name, left, text);
			return false;
		}
	return true;
}

static void device_open(int i)
{
	struct pci_bar bar;
	struct pci pci;

	if (!pci_find(&pci, PCI_IVSHMEM, i) || !pci_bar(&pci, IVSHMEM_MEMORY, &bar))
		die("needs %d ivshmem devices", DEVICES);
	devices[i].address = pci.bdf;
	devices[i].bar = bar.start;
	/* The ioctls leave binding to libkos. */
	if (KnIommuAttachDevice(pci.bdf) != rcOk || KnIommuDetachDevice(pci.bdf) != rcOk)
		die("%s cannot be attached", pci.name);
}

int main(int argc, char **argv)
{
	static struct program corpus[CORPUS_MAX], p;
	uint64_t seed = 1;
	long count = 0, seconds = 0, done = 0;
	time_t begin = time(NULL);
	int nr = 0, opt;

	while ((opt = getopt(argc, argv, "s:n:t:")) > 0) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			count = atol(optarg);
		else if (opt == 't')
			seconds = atol(optarg);
		else
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	guided = !access("/sys/kernel/debug/kcov", F_OK);
	if (!guided && (count || seconds))
		die("needs a kernel with KCOV to make programs up");
	for (int i = 0; i < DEVICES; i++)
		device_open(i);
	now = mmap(NULL, 2 * sizeof(*now), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		   0);
	if (now == MAP_FAILED)
		die("mmap: %m");
	ever = now + 1;
	nothing_is_left(NULL, 0);

	for (; optind < argc && (!seconds || time(NULL) - begin < seconds); optind++, done++) {
		char name[64];

		if (!parse_program(argv[optind], &p))
			die("no program: %s", argv[optind]);
		snprintf(name, sizeof(name), "given %ld", done);
		if (!run_program(&p, name))
			return 1;
		if (cover_take() && nr < CORPUS_MAX)
			corpus[nr++] = p;
	}
	if (done)
		printf("# %ld programs were given; they reach %d places\n", done, cover_places());
	for (long i = 0; seconds ? time(NULL) - begin < seconds : i < count; i++) {
		char name[64];

		random_state = seed * 0x100000001b3ull + i;
		if (nr && below(5)) {
			p = corpus[below(nr)];
			change(&p, &corpus[below(nr)]);
		} else {
			make_up(&p);
		}
		trim(&p);
		snprintf(name, sizeof(name), "seed %llu number %ld", (unsigned long long)seed, i);
		if (!run_program(&p, name))
			return 1;
		if (cover_take() && nr < CORPUS_MAX)
			corpus[nr++] = p;
		if (i % 100 == 99)
			printf("# %ld programs, %d of them of use, %d places, %ld s\n", i + 1, nr,
			       cover_places(), (long)(time(NULL) - begin));
	}
	printf("# %d programs were of use; %d places were reached\n", nr, cover_places());
	if ((count || seconds) && cover_places() < PLACES_MIN)
		die("KCOV tells of too few places: nothing guides this");
	for (int i = 0; i < nr && seconds; i++) {
		char text[TEXT_MAX];

		print_program(&corpus[i], text);
		printf("+ %s\n", text);
	}
	return 0;
}
