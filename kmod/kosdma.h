/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kosdma: what its files share
 *
 * Lock order, outermost first. No mmap_lock and no copy to or from user space
 * below any of these:
 *
 *   kosdma_group::lock		"device lock"
 *     kosdma_process::lock
 *       kosdma_domain::lock
 *         kosdma_buffer::lock, kosdma_region::lock
 *           kosdma_object::tree
 *
 * Leaves, taken below any of them: the claim table (claim.c), the device table
 * (device.c), the grants (grant.c), the quarantine (quarantine.c), the user table
 * (process.c), the table of objects (object.c), the events kept (event.c).
 * Apart from them: mmap_lock > kosdma_mapping::rwsem (leaf).
 *
 * Two counts, never mixed. kosdma_object::ref keeps memory alive.
 * kosdma_object::reach says whether anybody can still reach the object: when
 * it drops to zero the object ends, whoever still holds a reference.
 */
#ifndef KOSDMA_H
#define KOSDMA_H

#include <linux/file.h>
#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/rwsem.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/user.h>
#include <linux/seq_file.h>
#include <linux/workqueue.h>

#include <linux/kosdma.h>

#include "blocks.h"
#include "compat.h"
#include "iova.h"
#include "rights.h"

struct kosdma_device;
struct kosdma_domain;
struct kosdma_group;
struct kosdma_handle;
struct kosdma_mapping;
struct kosdma_object;
struct kosdma_process;
struct kosdma_span;
struct kosdma_use;

#define KOSDMA_ATTR_CACHE	(KOSDMA_ATTR_WRITE_BACK | KOSDMA_ATTR_WRITE_THROUGH | \
				 KOSDMA_ATTR_CACHE_DISABLE | KOSDMA_ATTR_WRITE_COMBINE)
#define KOSDMA_MAP_PROT		(KOSDMA_MAP_READ | KOSDMA_MAP_WRITE)

/* Largest block order that any address space can hold. */
#define KOSDMA_MAX_ORDER	(63 - PAGE_SHIFT)

/* How long somebody waits for the teardown of a process that died. */
#define KOSDMA_TEARDOWN_TIMEOUT	(10 * HZ)

/* --- ioctl.c ------------------------------------------------------------ */

/**
 * struct kosdma_ucmd - one ioctl in progress
 * @cmd: the command's struct, in kernel memory; results go here
 * @spares: of the descriptor: what the call may use, and give back
 * @spare: a file for the next handle that it makes, or NULL
 * @process: the caller, with a reference, or NULL; see kosdma_ucmd_process()
 * @new: handles that the dispatcher publishes when @cmd has been copied out and
 *	nothing has failed, and aborts otherwise; chained by @next
 * @tail: where the next one is chained
 * @tell: @cmd goes out even if the handler fails
 */
struct kosdma_ucmd {
	void *cmd;
	struct kosdma_spares *spares;
	struct file *spare;
	struct kosdma_process *process;
	struct kosdma_handle *new;
	struct kosdma_handle **tail;
	bool tell;
};

extern const struct file_operations kosdma_fops;

struct kosdma_process *kosdma_ucmd_process(struct kosdma_ucmd *ucmd);

/* --- event.c: numbers and events ------------------------------------------ */

/**
 * enum kosdma_stat - numbers of the whole machine
 * @KOSDMA_STAT_PAGES: pages charged
 * @KOSDMA_STAT_LINGERING: pages of accesses that linger
 * @KOSDMA_STAT_IOVA_BYTES: bytes of I/O addresses in use
 * @KOSDMA_STAT_HANDLES_MADE: handles made; like those below, it only grows
 * @KOSDMA_STAT_HANDLES_FREED: handles gone, tombstones not
 * @KOSDMA_STAT_MAPS: mappings made
 * @KOSDMA_STAT_BEGINS: accesses begun
 * @KOSDMA_STAT_PLACES: accesses that got an address
 * @KOSDMA_STAT_UNPLACES: addresses that were taken back
 * @KOSDMA_STAT_REVOKES: revocations
 * @KOSDMA_STAT_REFUSALS: attaches and registrations refused
 * @KOSDMA_STAT_FAULTS: faults that an IOMMU told of
 * @KOSDMA_NR_STATS: how many there are
 */
enum kosdma_stat {
	KOSDMA_STAT_PAGES,
	KOSDMA_STAT_LINGERING,
	KOSDMA_STAT_IOVA_BYTES,
	KOSDMA_STAT_HANDLES_MADE,
	KOSDMA_STAT_HANDLES_FREED,
	KOSDMA_STAT_MAPS,
	KOSDMA_STAT_BEGINS,
	KOSDMA_STAT_PLACES,
	KOSDMA_STAT_UNPLACES,
	KOSDMA_STAT_REVOKES,
	KOSDMA_STAT_REFUSALS,
	KOSDMA_STAT_FAULTS,
	KOSDMA_NR_STATS,
};

/* Each processor adds to its own. Only the sum means something. */
struct kosdma_stats {
	u64 sum[KOSDMA_NR_STATS];
};

DECLARE_PER_CPU(struct kosdma_stats, kosdma_stats);

static inline void kosdma_stat_add(enum kosdma_stat stat, s64 n)
{
	this_cpu_add(kosdma_stats.sum[stat], n);
}

u64 kosdma_stat_read(enum kosdma_stat stat);

/* No function has this address: ff:1f.7 of the last segment is left out. */
#define KOSDMA_NO_ADDRESS U32_MAX

/**
 * struct kosdma_event - something happened
 * @kind: an enum kosdma_nl_event
 * @type: type of the object, or 0
 * @sid: the object, or 0
 * @pid: thread group that did it or whose object it is, or 0
 * @uid: its effective user, if @pid
 * @address: PCI function, or KOSDMA_NO_ADDRESS
 * @error: errno of a refusal, positive, or 0
 * @pages: quarantined or released
 * @time: ns since boot; set when it is told
 * @number: counts the events that are kept, from 1; 0 for others
 */
struct kosdma_event {
	u32 kind;
	u32 type;
	u32 sid;
	pid_t pid;
	kuid_t uid;
	u32 address;
	int error;
	u64 pages;
	u64 time;
	u64 number;
};

void kosdma_event_device(u32 kind, u32 address, struct kosdma_process *process, u32 sid);
void kosdma_event_refuse(u32 address, int error);
void kosdma_event_pages(u32 kind, u32 address, u64 pages);
void kosdma_event_fault(struct kosdma_object *domain, u32 address);
bool kosdma_event_next(u64 *number, struct kosdma_event *event);
void kosdma_event_init(void);
void kosdma_event_start(void);
void kosdma_event_stop(void);

/* --- object.c, handle.c: objects and their handles ----------------------- */

/* Why an object ended, and what its handle answers from then on. */
enum kosdma_end {
	KOSDMA_LIVE = 0,
	KOSDMA_ENDED,		/* closed, or its process died: EBADF */
	KOSDMA_REVOKED,		/* taken back: EKEYREVOKED */
};

/**
 * struct kosdma_object_ops - one kind of object
 * @type: see enum kosdma_handle_type
 * @rights: every right that a handle of this kind can have
 * @transferable: handles may be copied, sent and used by any process
 * @name: what /proc/PID/fd shows
 * @close: private kinds, optional: called in the owner's process before @end,
 *	when the handle is closed by ioctl or was never published
 * @end: nobody can reach the object any more, or it was revoked: give back
 *	everything but its memory. Called without locks, maybe more than once
 *	and concurrently; finished when any call returns.
 * @drop: optional: the last reference is gone: give back those that it has; its
 *	memory is freed then
 * @show: optional: lines for fdinfo
 */
struct kosdma_object_ops {
	enum kosdma_handle_type type;
	u32 rights;
	bool transferable;
	const char *name;
	void (*close)(struct kosdma_object *obj);
	void (*end)(struct kosdma_object *obj, enum kosdma_end how);
	void (*drop)(struct kosdma_object *obj);
	void (*show)(struct seq_file *m, struct kosdma_object *obj);
};

/**
 * struct kosdma_handle - one node of an object's inheritance tree
 * @obj: reference; immutable
 * @owner: reference to the only process that may use it, NULL for
 *	transferable kinds; immutable
 * @user: whom it is counted against; NULL for the first one, which is counted with
 *	its object; immutable
 * @rights: immutable
 * @badge: reference to the badge that marks it, or NULL; immutable
 * @number: identity among the handles of @obj, from 1; immutable; 0: this is
 *	no handle, but a cursor of kosdma_handle_walk()
 * @pid: thread group that made it; immutable
 * @uid: its effective user then; immutable
 * @fd: the descriptor reserved for it, until it is published or aborted; later
 *	for the call that closes it
 * @next: made, closed or freed by the same call
 * @file: its file, NULL once closed (a tombstone)
 * @revoked: useless from now on; so are all its descendants
 * @node: in obj->handles
 * @parent: NULL at the root
 * @children: its child handles, tombstones included
 * @sibling: in @parent's children
 * @uses: living uses that are not marked by a revoke
 * @nuses: living uses, marked or not
 *
 * From @file on, guarded by obj->tree. Exists while it has a file, a child or
 * a use; a handle that has a file is held by that file.
 */
struct kosdma_handle {
	struct kosdma_object *obj;
	struct kosdma_process *owner;
	struct kosdma_user *user;
	u32 rights;
	struct kosdma_object *badge;
	u32 number;
	pid_t pid;
	kuid_t uid;
	int fd;
	struct kosdma_handle *next;

	struct file *file;
	bool revoked;
	struct list_head node;
	struct kosdma_handle *parent;
	struct list_head children;
	struct list_head sibling;
	struct list_head uses;
	unsigned int nuses;
};

/**
 * struct kosdma_object - what a handle names; first member of every kind
 * @ops: immutable
 * @ref: keeps the memory
 * @user: whom it is counted against, with its first handle; immutable
 * @sid: identity, unique among living objects, never 0; immutable
 * @slot: its place in the table of objects; immutable
 * @pid: thread group that made it; immutable
 * @uid: its effective user then, who may see it; immutable
 * @lone: it never has a handle; immutable
 * @listed: it is complete, and those who may see it do; set once
 * @ended: an enum kosdma_end, see kosdma_object_set_ended()
 * @told: those who listen know that it has ended
 * @tree: guards @reach, @ending, @handles and the tree fields of its handles
 * @reach: open unrevoked handles + uses + pins
 * @ending: uses that a revoke has marked and that have not ended yet
 * @first: memory of the first handle, from which all others descend
 * @handles: all of them in order of number, so parents first, and cursors
 * @numbers: how many handles it has had
 * @wait: pollers of its handles
 * @events: what they are told while it lives; see kosdma_object_set_events()
 */
struct kosdma_object {
	const struct kosdma_object_ops *ops;
	struct kref ref;
	struct kosdma_user *user;
	u32 sid;
	void **slot;
	pid_t pid;
	kuid_t uid;
	bool lone;
	bool listed;
	int ended;
	bool told;
	struct mutex tree;	/* guards what follows */
	unsigned int reach;
	struct list_head ending;
	struct kosdma_handle first;
	struct list_head handles;
	u32 numbers;
	wait_queue_head_t wait;
	__poll_t events;
};

/**
 * struct kosdma_use - a mapping or access, as recorded at the handle through
 *	which it was opened
 * @user: the mapping or access; the use lies inside it
 * @handle: NULL once the use has ended; guarded by obj->tree
 * @obj: the object used; @user holds a reference on it
 * @node: in handle->uses or obj->ending; guarded by obj->tree
 */
struct kosdma_use {
	struct kosdma_object *user;
	struct kosdma_handle *handle;
	struct kosdma_object *obj;
	struct list_head node;
};

#define KOSDMA_NR_TYPES (KOSDMA_HANDLE_BADGE + 1)

int kosdma_object_init(struct kosdma_object *obj, const struct kosdma_object_ops *ops,
		       struct kosdma_user *likely);
void kosdma_object_list(struct kosdma_object *obj);
struct kosdma_object *kosdma_object_next(u32 *sid, u32 types);
unsigned int kosdma_object_changes(enum kosdma_handle_type type);
unsigned int kosdma_object_count(enum kosdma_handle_type type);
void kosdma_object_put(struct kosdma_object *obj);
bool kosdma_object_put_memory(struct kosdma_object *obj);
void kosdma_object_set_ended(struct kosdma_object *obj, enum kosdma_end how);
void kosdma_object_set_events(struct kosdma_object *obj, __poll_t events);
void kosdma_object_pin(struct kosdma_object *obj);
void kosdma_object_unpin(struct kosdma_object *obj);
bool kosdma_object_unreach_locked(struct kosdma_object *obj);
void kosdma_object_end(struct kosdma_object *obj);
void kosdma_object_exit(void);

static inline struct kosdma_object *kosdma_object_get(struct kosdma_object *obj)
{
	kref_get(&obj->ref);
	return obj;
}

/* How many closed accesses a descriptor of the device keeps. */
#define KOSDMA_NR_SPARES 64

/**
 * struct kosdma_spares - what is left of closed accesses, for the next ones
 * @lock: guards what follows
 * @count: how many there are
 * @spare: their files, on which nobody else has a reference, and of which nothing
 *	is known but their name and their owner's credentials; and their memory
 */
struct kosdma_spares {
	spinlock_t lock;	/* guards what follows */
	unsigned int count;
	struct {
		struct file *file;
		void *memory;
	} spare[KOSDMA_NR_SPARES];
};

struct kosdma_spares *kosdma_spares_new(void);
void kosdma_spares_free(struct kosdma_spares *spares);
void *kosdma_spare_take(struct kosdma_ucmd *ucmd);

int kosdma_handle_create(struct kosdma_ucmd *ucmd, struct kosdma_object *obj, u32 rights,
			 struct kosdma_handle *parent, struct kosdma_object *badge, s32 *out_fd);
void kosdma_handle_publish(struct kosdma_handle *handle);
void kosdma_handle_abort(struct kosdma_handle *handle);
struct kosdma_handle *kosdma_handle_look(int fd, u32 types, u32 rights);
struct kosdma_handle *kosdma_handle_get_types(int fd, u32 types, u32 rights);
void kosdma_handle_put(struct kosdma_handle *handle);
struct kosdma_handle *kosdma_handle_cursor_new(void);
void kosdma_handle_cursor_free(struct kosdma_handle *cursor);
void kosdma_handle_walk_begin(struct kosdma_handle *cursor, struct kosdma_object *obj);
int kosdma_handle_walk(struct kosdma_handle *cursor,
		       int (*look)(struct kosdma_handle *handle, void *data), void *data);

#define KOSDMA_ANY_TYPE U32_MAX

static inline struct kosdma_handle *kosdma_handle_get(int fd, enum kosdma_handle_type type,
						      u32 rights)
{
	return kosdma_handle_get_types(fd, BIT(type), rights);
}

int kosdma_use_add(struct kosdma_use *use, struct kosdma_object *user,
		   struct kosdma_handle *handle);
void kosdma_use_del(struct kosdma_use *use);

int kosdma_ioctl_handle_close(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_handle_close_many(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_handle_revoke(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_handle_copy(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_handle_info(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_badge_create(struct kosdma_ucmd *ucmd);

/* --- process.c: processes and users ------------------------------------- */

/**
 * struct kosdma_user - a user's charges
 * @node: in the table of users
 * @ref: objects, and handles that are not the first of theirs
 * @user: the kernel's own, with a reference; holds locked_vm
 * @objects: objects and handles
 */
struct kosdma_user {
	struct hlist_node node;
	refcount_t ref;
	struct user_struct *user;
	atomic_t objects;
};

/**
 * struct kosdma_process - an address space that uses kosdma
 * @mn: tells when the address space ends
 * @mm: grabbed as long as this struct lives, so that the pointer names one
 *	address space and no later one
 * @node: in the table of processes, until torn down
 * @ref: keeps the memory
 * @pid: thread group that made it, for diagnostics
 * @uid: effective user who made it, for diagnostics
 * @published: it was entered into the table; set before anybody can see it
 * @teardown: everything of a dead process is given back here
 * @gone: it has been
 * @rcu: frees it
 * @lock: guards what follows
 * @dead: the address space is gone
 * @domains: its domains, closed ones included as long as they exist
 * @mappings: its mappings
 * @devices: devices attached to its domains
 * @automatic: its automatic domain, with a reference, or NULL
 */
struct kosdma_process {
	struct mmu_notifier mn;
	struct mm_struct *mm;
	struct hlist_node node;
	struct kref ref;
	pid_t pid;
	kuid_t uid;
	bool published;
	struct work_struct teardown;
	bool gone;
	struct rcu_head rcu;

	struct mutex lock;	/* guards what follows */
	bool dead;
	struct list_head domains;
	struct list_head mappings;
	struct list_head devices;
	struct kosdma_domain *automatic;
};

struct kosdma_process *kosdma_process_current(void);
void kosdma_process_put(struct kosdma_process *process);
bool kosdma_process_is_current(struct kosdma_process *process);
pid_t kosdma_process_shown_pid(struct kosdma_process *process);
int kosdma_process_wait_gone(struct kosdma_process *process);
int kosdma_process_wait_unheld(struct kosdma_group *group, const struct kosdma_process *holder);
void kosdma_process_unheld(void);
void kosdma_queue_later(struct delayed_work *work, unsigned long delay);
int kosdma_process_init(void);
void kosdma_process_exit(void);

static inline struct kosdma_process *kosdma_process_get(struct kosdma_process *process)
{
	kref_get(&process->ref);
	return process;
}

unsigned int kosdma_max_objects(void);
struct kosdma_user *kosdma_user_count_objects(struct kosdma_user *likely, int nr);
void kosdma_user_uncount_objects(struct kosdma_user *user, int nr);
int kosdma_user_charge(struct kosdma_user *user, unsigned long npages);
uid_t kosdma_user_id(struct kosdma_user *user, struct user_namespace *ns);
void kosdma_user_uncharge(struct kosdma_user *user, unsigned long npages);

/* --- buffer.c ------------------------------------------------------------ */

/**
 * struct kosdma_buffer - memory for devices
 * @obj: base; ends when the pages may be freed
 * @length: bytes asked for; immutable
 * @npages: pages in the blocks, charged; immutable
 * @order: smallest block order that devices may see; immutable
 * @physical: every block of that order is one physical piece; immutable
 * @sgt: the blocks, largest first, one entry a block; immutable
 * @contiguous: asked for as one block, by KOSDMA_BUFFER_CONTIGUOUS; immutable
 * @coherent: where the memory is from dma_alloc_coherent(): its address in
 *	the kernel and for the module's device; else NULL
 * @coherent_dma: goes with @coherent
 * @pinned: after the end: frees the blocks that the kernel had pinned for I/O
 * @pinned_delay: when it looks again
 * @lock: guards what follows
 * @attr: see enum kosdma_attr; the cache type changes only while @users is 0
 * @mixed: blocks may differ in cache type; nobody may use them
 * @split: see kosdma_buffer_split()
 * @users: mappings and accesses, lingering ones included
 * @accesses: its living accesses
 */
struct kosdma_buffer {
	struct kosdma_object obj;
	u64 length;
	unsigned long npages;
	unsigned int order;
	bool physical;
	bool contiguous;
	struct sg_table sgt;
	void *coherent;
	dma_addr_t coherent_dma;
	struct delayed_work pinned;
	unsigned long pinned_delay;

	struct mutex lock;	/* guards what follows */
	u32 attr;
	bool mixed;
	bool split;
	unsigned int users;
	struct list_head accesses;
};

static inline struct kosdma_buffer *to_buffer(struct kosdma_object *obj)
{
	return container_of(obj, struct kosdma_buffer, obj);
}

static inline u64 kosdma_buffer_bytes(const struct kosdma_buffer *buffer)
{
	return (u64)buffer->npages << PAGE_SHIFT;
}

/* For those who only tell it. */
static inline unsigned int kosdma_buffer_nr_blocks(const struct kosdma_buffer *buffer)
{
	/* If it is ending, any number will do. */
	return data_race(buffer->sgt.orig_nents);
}

int kosdma_buffer_use(struct kosdma_buffer *buffer);
void kosdma_buffer_split(struct kosdma_buffer *buffer);
void kosdma_buffer_unuse(struct kosdma_buffer *buffer);
int kosdma_ioctl_buffer_create(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_buffer_modify(struct kosdma_ucmd *ucmd);
void kosdma_buffer_init(struct device *dev);

/* --- memtype.c ----------------------------------------------------------- */

/**
 * struct kosdma_memtype - the memory type of device registers, while mapped
 * @addr: the kernel's mapping that reserves the type, or NULL
 * @bits: the cache bits of its page table entries (x86)
 */
struct kosdma_memtype {
	void __iomem *addr;
#if IS_ENABLED(CONFIG_X86)
	pgprotval_t bits;
#endif
};

u32 kosdma_attr_cache(u32 attr, u32 fallback);
const char *kosdma_memtype_name(u32 cache);
bool kosdma_memtype_ram_supported(u32 cache);
int kosdma_memtype_ram_set(struct page *page, int npages, u32 cache);
pgprot_t kosdma_memtype_ram_prot(pgprot_t prot, u32 cache);
int kosdma_memtype_reserve(struct kosdma_memtype *type, u64 start, u64 length, u32 cache);
void kosdma_memtype_release(struct kosdma_memtype *type);
pgprot_t kosdma_memtype_prot(const struct kosdma_memtype *type, pgprot_t prot, u32 cache);

/* --- mapping.c ----------------------------------------------------------- */

/**
 * struct kosdma_mapping - a buffer or region in an address space
 * @obj: base
 * @process: reference; the only address space in which it works; immutable
 * @node: in process->mappings, guarded by process->lock
 * @use: of the buffer or region
 * @file: internal file on an inode of its own; every VMA of the mapping holds
 *	it, and the mapping itself until it is @done; changes under
 *	process->lock
 * @offset: bytes into the source; immutable
 * @length: bytes without guards; immutable
 * @flags: see enum kosdma_map_flags; immutable
 * @cache: cache type, one bit of enum kosdma_attr; immutable
 * @memtype: of a region's registers; reserved until @state is set
 * @base: first address of the VMA, guard included; immutable once mapped
 * @rwsem: whoever enters pages holds it for read, whoever ends the mapping
 *	for write
 * @state: see enum kosdma_end; set once, under @rwsem
 * @done: its source and its process know that it has ended; guarded by
 *	process->lock
 * @huge: huge entries are possible
 */
struct kosdma_mapping {
	struct kosdma_object obj;
	struct kosdma_process *process;
	struct list_head node;
	struct kosdma_use use;
	struct file *file;
	u64 offset;
	u64 length;
	u32 flags;
	u32 cache;
	struct kosdma_memtype memtype;
	unsigned long base;
	struct rw_semaphore rwsem;
	enum kosdma_end state;
	bool done;
	bool huge;
};

static inline struct kosdma_mapping *to_mapping(struct kosdma_object *obj)
{
	return container_of(obj, struct kosdma_mapping, obj);
}

unsigned long kosdma_mapping_start(const struct kosdma_mapping *mapping);
int kosdma_mapping_fs_get(void);
void kosdma_mapping_fs_put(void);
void kosdma_mapping_revoke(struct kosdma_mapping *mapping, enum kosdma_end how);
void kosdma_mapping_end(struct kosdma_mapping *mapping, enum kosdma_end how);
int kosdma_ioctl_buffer_map(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_region_map(struct kosdma_ucmd *ucmd);

/* --- domain.c ------------------------------------------------------------ */

/**
 * struct kosdma_hwdom - one IOMMU's page table of a domain
 * @node: in domain->hwdoms
 * @iommu: the kernel's domain
 * @groups: groups attached to it
 * @unmap_may_fail: the driver needs memory to unmap; immutable
 * @stale: the driver has failed to unmap
 * @gather: what was unmapped since the last kosdma_domain_flush()
 */
struct kosdma_hwdom {
	struct list_head node;
	struct iommu_domain *iommu;
	unsigned int groups;
	bool unmap_may_fail;
	bool stale;
	struct iommu_iotlb_gather gather;
};

/* What addresses mean in a domain; fixed by its first attach. */
enum kosdma_mode {
	KOSDMA_MODE_NONE,
	KOSDMA_MODE_TRANSLATED,
	KOSDMA_MODE_DIRECT,
};

/**
 * struct kosdma_domain - an I/O address space and its devices
 * @obj: base; the automatic domain has no handle
 * @process: reference; immutable
 * @process_node: in process->domains, guarded by process->lock
 * @lock: guards what follows
 * @closed: reaches nobody any more
 * @mode: changes only while no device is attached, no access is placed and
 *	@unquiet is NULL
 * @space: where accesses and reserved ranges lie
 * @limit: last address that a placement may use
 * @hwdoms: IOMMU page tables; each holds every placed access
 * @groups: groups attached (kosdma_group::domain_node)
 * @devices: devices attached (kosdma_device::domain_node)
 * @accesses: living accesses
 * @nr_accesses: how many there are
 * @placed: how many of them have an address
 * @iova_bytes: that its accesses take of @space
 * @lingering: ended accesses whose pages a device may still reach
 * @lingering_pages: how many pages these have
 * @unquiet: a device that left without being proven quiet, with a reference;
 *	see kosdma_domain_unquiet()
 * @unquiet_more: there is another one besides, so one reset proves nothing
 * @faults: accesses that an IOMMU refused to its devices, as far as its driver
 *	tells; not guarded
 */
struct kosdma_domain {
	struct kosdma_object obj;
	struct kosdma_process *process;
	struct list_head process_node;

	struct mutex lock;	/* guards what follows */
	bool closed;
	enum kosdma_mode mode;
	struct kosdma_iova_space space;
	u64 limit;
	struct list_head hwdoms;
	struct list_head groups;
	struct list_head devices;
	struct list_head accesses;
	unsigned int nr_accesses;
	unsigned int placed;
	u64 iova_bytes;
	struct list_head lingering;
	u64 lingering_pages;
	struct kosdma_device *unquiet;
	bool unquiet_more;
	atomic64_t faults;
};

static inline struct kosdma_domain *to_domain(struct kosdma_object *obj)
{
	return container_of(obj, struct kosdma_domain, obj);
}

const char *kosdma_mode_name(enum kosdma_mode mode);
struct kosdma_domain *kosdma_domain_get(struct kosdma_ucmd *ucmd, int fd);
void kosdma_domain_put(struct kosdma_domain *domain);
void kosdma_domain_flush(struct kosdma_domain *domain);
int kosdma_domain_add(struct kosdma_domain *domain, struct kosdma_device *dev);
void kosdma_domain_remove(struct kosdma_domain *domain, struct kosdma_device *dev, bool quiet);
int kosdma_domain_set_mask(struct kosdma_domain *domain, struct kosdma_device *dev, u64 mask);
struct kosdma_device *kosdma_domain_unquiet(struct kosdma_domain *domain);
bool kosdma_domain_stale(struct kosdma_domain *domain);
void kosdma_domain_lost_device(struct kosdma_domain *domain);
void kosdma_domain_end(struct kosdma_domain *domain);
void kosdma_domain_end_accesses(struct kosdma_domain *domain);
bool kosdma_interrupts_unsafe(struct iommu_group *iommu);
bool kosdma_firmware_range(struct iommu_group *iommu, u64 *start, u64 *last);
int kosdma_ioctl_domain_create(struct kosdma_ucmd *ucmd);

/* --- access.c ------------------------------------------------------------ */

/**
 * struct kosdma_access - a buffer open for the devices of a domain
 * @obj: base
 * @domain: reference; immutable
 * @buffer: reference; in use by this access until it ended and no longer
 *	lingers; immutable
 * @use: of the buffer
 * @attr: direction bits that buffer and rights both allow; immutable
 * @domain_node: in domain->accesses or domain->lingering or the quarantine; in
 *	none until its ending is finished
 * @buffer_node: in buffer->accesses, guarded by buffer->lock
 * @iova: its range, valid if @placed in a translated domain; without @span, in
 *	domain->space
 * @span: that it is a member of, or NULL
 * @placed: it has an address, which is fixed until it ends or its domain does
 * @fresh: placed by the attach that is under way
 * @reached: in a direct domain: has been placed at some time
 * @done: not open yet, or ended
 * @kept: ended, but a device may go on to reach it: whoever releases it gives its
 *	use of the buffer back
 * @lingers: ended, and in domain->lingering
 * @quarantined: in the quarantine; guarded by its lock
 * @suspect: while in quarantine: the device that may still write, with a
 *	reference; NULL if there are several; guarded by the same lock
 *
 * Fields without a note are guarded by domain->lock.
 */
struct kosdma_access {
	struct kosdma_object obj;
	struct kosdma_domain *domain;
	struct kosdma_buffer *buffer;
	struct kosdma_use use;
	u32 attr;
	struct list_head domain_node;
	struct list_head buffer_node;
	struct kosdma_iova iova;
	struct kosdma_span *span;
	bool placed;
	bool fresh;
	bool reached;
	bool done;
	bool kept;
	bool lingers;
	bool quarantined;
	struct kosdma_device *suspect;
};

/**
 * struct kosdma_ending - accesses of one domain that end together, with one flush
 * @domain: its lock is held, from the first to kosdma_ending_finish(); or NULL
 * @how: why they end
 * @accesses: those that devices may reach until the flush, by buffer_node
 * @spans: of those of them that have one, see kosdma_span_unplace()
 * @released: those that lingered and are done
 */
struct kosdma_ending {
	struct kosdma_domain *domain;
	enum kosdma_end how;
	struct list_head accesses;
	struct list_head spans;
	struct list_head released;
};

static inline struct kosdma_access *to_access(struct kosdma_object *obj)
{
	return container_of(obj, struct kosdma_access, obj);
}

/**
 * struct kosdma_begin - an access in the making
 * @source: the buffer's handle, through which it is begun; its file is held
 * @access: the access, with a reference
 */
struct kosdma_begin {
	struct kosdma_handle *source;
	struct kosdma_access *access;
};

unsigned long kosdma_access_pgsizes(struct kosdma_domain *domain);
u64 kosdma_access_align(const struct kosdma_access *access, unsigned long pgsizes);
u64 kosdma_access_limit(const struct kosdma_access *access);
int kosdma_access_prot(const struct kosdma_access *access);
ssize_t kosdma_hwdom_map(struct kosdma_hwdom *hwdom, u64 addr, struct sg_table *sgt, int prot);
void kosdma_hwdom_undo(struct kosdma_hwdom *hwdom, u64 start, u64 bytes);
void kosdma_hwdoms_unmap(struct kosdma_domain *domain, const struct kosdma_hwdom *end, u64 start,
			 u64 bytes);
void kosdma_access_unmap(struct kosdma_access *access);
void kosdma_access_placed(struct kosdma_access *access);
void kosdma_access_unplaced(struct kosdma_access *access);
/* Has it ended, and has all come to pass that its end brings about? */
static inline bool kosdma_access_is_over(const struct kosdma_access *access)
{
	/* The use goes last; both pair with who did it. */
	return smp_load_acquire(&access->obj.ended) && !smp_load_acquire(&access->use.handle);
}

int kosdma_access_place(struct kosdma_access *access);
void kosdma_access_unplace(struct kosdma_access *access, struct list_head *spans);
int kosdma_access_map_hwdom(struct kosdma_access *access, struct kosdma_hwdom *hwdom);
int kosdma_access_map_device(struct kosdma_access *access, struct kosdma_device *dev);
void kosdma_access_unmap_device(struct kosdma_access *access, struct kosdma_device *dev);
u64 kosdma_access_last(const struct kosdma_access *access);
void kosdma_ending_init(struct kosdma_ending *ending, enum kosdma_end how);
bool kosdma_ending_add(struct kosdma_ending *ending, struct kosdma_access *access);
void kosdma_ending_finish(struct kosdma_ending *ending);
void kosdma_access_end(struct kosdma_access *access, enum kosdma_end how);
void kosdma_access_settle(struct kosdma_domain *domain, struct list_head *done);
void kosdma_access_release(struct list_head *done);
int kosdma_ioctl_access_begin(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_access_begin_many(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_access_info(struct kosdma_ucmd *ucmd);

/* --- span.c --------------------------------------------------------------- */

int kosdma_span_place(struct kosdma_domain *domain, const struct kosdma_begin *begins,
		      unsigned int count);
void kosdma_span_unplace(struct kosdma_access *access, struct list_head *spans);
void kosdma_span_finish(struct kosdma_domain *domain, struct list_head *spans);

/* --- quarantine.c --------------------------------------------------------- */

void kosdma_quarantine_suspect(struct kosdma_device *dev);
bool kosdma_quarantine_is_suspect(struct kosdma_device *dev);
bool kosdma_quarantine_add(struct kosdma_access *access, struct kosdma_device *suspect, bool more);
void kosdma_quarantine_release(struct pci_dev *pdev);
int kosdma_quarantine_release_address(u32 address, u64 *pages);
void kosdma_quarantine_exit(void);
bool kosdma_quarantine_look(struct kosdma_access *access, u32 *suspect);
unsigned long kosdma_quarantine_pages(void);

/* --- device.c ------------------------------------------------------------ */

/**
 * struct kosdma_group - functions that an IOMMU cannot tell apart
 * @node: in the table of groups, guarded by the device table's lock
 * @ref: members, and whoever works with it
 * @iommu: with a reference; NULL without IOMMU (a group of one); immutable
 * @lock: the device lock; guards what follows and the members' fields
 * @members: functions bound to kosdma
 * @holder: the process that holds it, with a reference, or NULL
 * @holds: attachments and BAR regions of all members
 * @domain: where its attached members are, with a reference, or NULL
 * @hwdom: its page table in there (domain->lock too)
 * @domain_node: in domain->groups (domain->lock too)
 * @attached: members attached
 */
struct kosdma_group {
	struct list_head node;
	struct kref ref;
	struct iommu_group *iommu;

	struct mutex lock;	/* guards what follows */
	struct list_head members;
	struct kosdma_process *holder;
	unsigned int holds;
	struct kosdma_domain *domain;
	struct kosdma_hwdom *hwdom;
	struct list_head domain_node;
	unsigned int attached;
};

/**
 * struct kosdma_device - a PCI function bound to kosdma
 * @ref: the binding, and whoever works with it
 * @pdev: valid until @gone; the struct holds a reference
 * @group: reference; immutable
 * @address: segment << 16 | bus << 8 | devfn; immutable
 * @member_node: in group->members
 * @holds: its attachment and its BAR regions
 * @reset: has been reset at the end of its attachment
 * @gone: unbound; no new hold
 * @core_locked: whoever has the group's lock has that of the driver core, too
 * @attached: in group->domain, bus mastering on
 * @domain_node: in domain->devices (domain->lock too)
 * @process_node: in process->devices (process->lock too)
 * @mask: last address that it can emit (domain->lock too)
 * @regions: registrations in its BARs
 * @suspect: has left a direct domain without being proven quiet; guarded by the
 *	quarantine's lock
 * @suspect_node: in the list of suspects, with a reference; the same lock
 *
 * Fields without a note are guarded by group->lock.
 */
struct kosdma_device {
	struct kref ref;
	struct pci_dev *pdev;
	struct kosdma_group *group;
	u32 address;
	struct list_head member_node;
	unsigned int holds;
	bool reset;
	bool gone;
	bool core_locked;
	bool attached;
	struct list_head domain_node;
	struct list_head process_node;
	u64 mask;
	struct list_head regions;
	bool suspect;
	struct list_head suspect_node;
};

/* Room for the name of a driver. */
#define KOSDMA_NAME_LEN 32

bool kosdma_machine_translates(void);
bool kosdma_machine_write_only(void);
bool kosdma_direct_allowed(void);
bool kosdma_unsafe_interrupts_allowed(void);
struct kosdma_device *kosdma_device_get_bound(struct pci_dev *pdev, char name[KOSDMA_NAME_LEN]);
void kosdma_driver_name(struct pci_dev *pdev, char name[KOSDMA_NAME_LEN]);
struct pci_dev *kosdma_pci_dev_get(u32 address);
bool kosdma_pci_address(struct pci_dev *pdev, u32 *address);
bool kosdma_pci_is_machine(struct pci_dev *pdev);
struct kosdma_device *kosdma_device_find(u32 address);
struct kosdma_device *kosdma_device_find_of(struct pci_dev *pdev);
u32 kosdma_device_domain(u32 address);
void kosdma_device_put(struct kosdma_device *dev);
int kosdma_device_hold(struct kosdma_device *dev, struct kosdma_process *process);
void kosdma_device_unhold(struct kosdma_device *dev);
void kosdma_group_detach(struct kosdma_group *group, struct kosdma_domain *domain);
struct kosdma_group *kosdma_group_find(struct iommu_group *iommu);
void kosdma_group_put(struct kosdma_group *group);
int kosdma_ioctl_device_attach(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_device_detach(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_device_set_dma_mask(struct kosdma_ucmd *ucmd);
int kosdma_ioctl_device_info(struct kosdma_ucmd *ucmd);
int kosdma_device_init(void);
void kosdma_device_exit(void);

/* --- why.c --------------------------------------------------------------- */

/**
 * struct kosdma_reason - one thing that keeps the caller from attaching a function
 * @obstacle: an enum kosdma_nl_obstacle
 * @address: the function that it is about
 * @driver: name of the driver that has it, or empty
 * @pid: process that holds it, or 0
 * @uid: its effective user, if @pid
 * @start: first physical address that the firmware needs, if @last
 * @last: last one
 */
struct kosdma_reason {
	u32 obstacle;
	u32 address;
	char driver[KOSDMA_NAME_LEN];
	pid_t pid;
	kuid_t uid;
	u64 start;
	u64 last;
};

typedef void kosdma_reason_fn(const struct kosdma_reason *reason, void *data);

int kosdma_device_why(u32 address, kosdma_reason_fn *tell, void *data);
void kosdma_group_explain(struct kosdma_device *dev, int error);
int kosdma_direct_obstacle(void);
int kosdma_device_may_hold(struct kosdma_device *dev);

/* --- bar.c --------------------------------------------------------------- */

/**
 * struct kosdma_bar - a base address register of a PCI function, as it was
 * @pdev: the function
 * @start: first physical address
 * @last: last physical address, inclusive
 */
struct kosdma_bar {
	struct pci_dev *pdev;
	u64 start;
	u64 last;
};

int kosdma_bar_find(u64 start, u64 last, struct kosdma_bar *found);
bool kosdma_range_stays(u64 start, u64 last, bool driven);

/* --- claim.c ------------------------------------------------------------- */

/**
 * struct kosdma_claimant - who claimed a range, for diagnostics
 * @comm: name of the task
 * @pid: thread group
 */
struct kosdma_claimant {
	char comm[TASK_COMM_LEN];
	pid_t pid;
};

/**
 * struct kosdma_claim - a physical range that user code wants for itself
 * @range: immutable; in the claim table while @claimed
 * @flags: see enum kosdma_region_flags; immutable
 * @owner: the object that it is a part of; immutable
 * @claimant: set when it is claimed
 * @claimed: it is in the claim table
 * @leader: the member of its union whose @entry stands for all of them
 * @entry: memory for an entry of the kernel's resource tree
 *
 * From @claimed on, guarded by the claim table's lock.
 */
struct kosdma_claim {
	struct interval_tree_node range;
	u32 flags;
	struct kosdma_object *owner;
	struct kosdma_claimant claimant;
	bool claimed;
	struct kosdma_claim *leader;
	struct resource entry;
};

int kosdma_claim_add(struct kosdma_claim *claim, struct kosdma_claimant *other,
		     struct kosdma_object **owner);
void kosdma_claim_remove(struct kosdma_claim *claim);
bool kosdma_claim_shareable(unsigned long start, unsigned long last);

/* --- grant.c ------------------------------------------------------------- */

enum kosdma_grant_kind {
	KOSDMA_GRANT_ANY = 0,	/* none has this; it comes before the others */
	KOSDMA_GRANT_USER,
	KOSDMA_GRANT_GROUP,
};

/**
 * struct kosdma_grant_key - who may have which device
 * @address: as in struct kosdma_device
 * @kind: an enum kosdma_grant_kind
 * @id: kernel id of the user or group
 */
struct kosdma_grant_key {
	u32 address;
	u32 kind;
	u32 id;
};

bool kosdma_grant_names(const struct kosdma_grant_key *key, const struct cred *cred);
bool kosdma_grant_allows(const struct cred *cred, u32 address);
int kosdma_grant_add(const struct kosdma_grant_key *key);
int kosdma_grant_del(const struct kosdma_grant_key *key);
bool kosdma_grant_next(struct kosdma_grant_key *key, unsigned int *changes);
int kosdma_grant_init(void);
void kosdma_grant_exit(void);

/* --- netlink.c ----------------------------------------------------------- */

int kosdma_netlink_init(void);
void kosdma_netlink_exit(void);

/* --- mmio.c -------------------------------------------------------------- */

/**
 * struct kosdma_region - a claimed range of device registers
 * @obj: base; ends when the claim may go
 * @start: first physical address; immutable
 * @length: bytes, whole pages; immutable
 * @claim: of the range, as far as a BAR goes
 * @tail: of the rest of a page whose BAR is smaller than that; else not claimed
 * @dev: the device whose BAR holds it, with a reference, or NULL; immutable
 * @dev_node: in dev->regions while it holds the device; guarded by the
 *	device lock
 * @lock: guards what follows
 * @gone: the device was taken away
 * @mapping: its mapping, or NULL; a mapping clears this when it ends
 */
struct kosdma_region {
	struct kosdma_object obj;
	u64 start;
	u64 length;
	struct kosdma_claim claim;
	struct kosdma_claim tail;
	struct kosdma_device *dev;
	struct list_head dev_node;

	struct mutex lock;	/* guards what follows */
	bool gone;
	struct kosdma_mapping *mapping;
};

static inline struct kosdma_region *to_region(struct kosdma_object *obj)
{
	return container_of(obj, struct kosdma_region, obj);
}

int kosdma_region_set_mapping(struct kosdma_region *region, struct kosdma_mapping *mapping);
void kosdma_region_clear_mapping(struct kosdma_region *region, struct kosdma_mapping *mapping);
void kosdma_region_device_gone(struct kosdma_device *dev);
int kosdma_ioctl_region_register(struct kosdma_ucmd *ucmd);

#endif /* KOSDMA_H */
