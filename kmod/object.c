// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects: what handles name, listed by a number, the sid
 *
 * An object lives as long as there are references, and ends when nobody can
 * reach it any more, or, a private one, when it is told to.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include <linux/kosdma_netlink.h>

#include "kosdma.h"
#include "netlink.h"

/*
 * Objects by sid. A chunk is a page of slots; the first one holds the sid that
 * belongs to it, which no object has. A slot holds an object, or, tagged, the
 * next free slot. Chunks stay until the module goes; when no object is left, sids
 * begin anew.
 */
#define KOSDMA_CHUNK_SLOTS ((u32)(PAGE_SIZE / sizeof(void *)))
#define KOSDMA_SLOT_FREE 1UL

static DEFINE_XARRAY(kosdma_chunks);
static DEFINE_MUTEX(kosdma_chunks_lock);
/* A leaf: guards what follows, and keeps what is found in a slot from being freed. */
static DEFINE_SPINLOCK(kosdma_slots_lock);
static u32 kosdma_nr_chunks;			/* changes under the mutex as well */
static u32 kosdma_nr_used;
static u32 kosdma_fresh_sid = 1;		/* from here on none was given out */
static void **kosdma_free_slot;			/* below that */

/* How many were listed, and how many of them are gone; each processor counts its own. */
struct kosdma_objects_count {
	unsigned int made[KOSDMA_NR_TYPES];
	unsigned int freed[KOSDMA_NR_TYPES];
};

static DEFINE_PER_CPU(struct kosdma_objects_count, kosdma_objects_count);

/* --- the table --------------------------------------------------------------- */

static bool kosdma_slot_is_free(void *entry)
{
	return !entry || (unsigned long)entry & KOSDMA_SLOT_FREE;
}

static u32 kosdma_slot_sid(void **slot)
{
	void **chunk = (void **)((unsigned long)slot & PAGE_MASK);

	return xa_to_value(chunk[0]) + (slot - chunk);
}

/* With the lock. */
static void kosdma_slot_give_back(void **slot)
{
	*slot = (void *)((unsigned long)kosdma_free_slot | KOSDMA_SLOT_FREE);
	kosdma_free_slot = slot;
	if (!--kosdma_nr_used) {
		kosdma_free_slot = NULL;
		kosdma_fresh_sid = 1;
	}
}

/* With the lock: a free slot, or NULL. */
static void **kosdma_slot_get(void)
{
	void **slot = kosdma_free_slot;
	u32 sid = kosdma_fresh_sid;
	void **chunk;

	if (slot) {
		kosdma_free_slot = (void **)((unsigned long)*slot & ~KOSDMA_SLOT_FREE);
	} else if (sid < kosdma_nr_chunks * KOSDMA_CHUNK_SLOTS) {
		chunk = xa_load(&kosdma_chunks, sid / KOSDMA_CHUNK_SLOTS);
		slot = &chunk[sid++ % KOSDMA_CHUNK_SLOTS];
		kosdma_fresh_sid = sid % KOSDMA_CHUNK_SLOTS ? sid : sid + 1;
	}
	return slot;
}

/* One chunk more than @nr, unless there is one already. */
static int kosdma_slots_grow(u32 nr)
{
	void **chunk;
	int ret = 0;

	mutex_lock(&kosdma_chunks_lock);
	if (kosdma_nr_chunks != nr)
		goto out;
	ret = -EDQUOT;
	if (nr == INT_MAX / KOSDMA_CHUNK_SLOTS)
		goto out;
	/* Aligned to its size. */
	chunk = kzalloc(PAGE_SIZE, GFP_KERNEL);
	ret = -ENOMEM;
	if (!chunk)
		goto out;
	chunk[0] = xa_mk_value(nr * KOSDMA_CHUNK_SLOTS);
	ret = xa_err(xa_store(&kosdma_chunks, nr, chunk, GFP_KERNEL));
	if (ret) {
		kfree(chunk);
		goto out;
	}
	spin_lock(&kosdma_slots_lock);
	kosdma_nr_chunks++;
	spin_unlock(&kosdma_slots_lock);
out:
	mutex_unlock(&kosdma_chunks_lock);
	return ret;
}

/* Give an object its sid. Zeroed, so not listed: those who find it pass it over. */
static int kosdma_slot_take(struct kosdma_object *obj)
{
	void **slot;
	int ret;
	u32 nr;

	for (;;) {
		spin_lock(&kosdma_slots_lock);
		slot = kosdma_slot_get();
		if (slot) {
			*slot = obj;
			kosdma_nr_used++;
		}
		nr = kosdma_nr_chunks;
		spin_unlock(&kosdma_slots_lock);
		if (slot)
			break;
		ret = kosdma_slots_grow(nr);
		if (ret)
			return ret;
	}
	obj->slot = slot;
	obj->sid = kosdma_slot_sid(slot);
	return 0;
}

/* --- life --------------------------------------------------------------------- */

/* Itself and its first handle. */
static int kosdma_object_cost(const struct kosdma_object *obj)
{
	return obj->lone ? 1 : 2;
}

/**
 * kosdma_object_init() - start an object's life, with one reference
 * @obj: zeroed memory, but for @obj->lone
 * @ops: its kind
 * @likely: user that the caller's probably is, as the maker of an object that is
 *	used here, or NULL
 *
 * Return: 0, -EDQUOT (the caller's user has too many), -ENOMEM. After success
 * the last kosdma_object_put() frees it.
 */
int kosdma_object_init(struct kosdma_object *obj, const struct kosdma_object_ops *ops,
		       struct kosdma_user *likely)
{
	struct kosdma_user *user;
	int ret;

	user = kosdma_user_count_objects(likely, kosdma_object_cost(obj));
	if (IS_ERR(user))
		return PTR_ERR(user);
	ret = kosdma_slot_take(obj);
	if (ret) {
		kosdma_user_uncount_objects(user, kosdma_object_cost(obj));
		return ret;
	}
	obj->ops = ops;
	obj->user = user;
	obj->pid = task_tgid_nr(current);
	obj->uid = current_euid();
	kref_init(&obj->ref);
	mutex_init(&obj->tree);
	INIT_LIST_HEAD(&obj->ending);
	INIT_LIST_HEAD(&obj->handles);
	init_waitqueue_head(&obj->wait);
	return 0;
}

/* It has ended, and those that saw it begin are told, once. */
static void kosdma_object_tell_end(struct kosdma_object *obj)
{
	if (READ_ONCE(obj->listed) && !xchg(&obj->told, true))
		kosdma_event_object(KOSDMA_NL_EVENT_END, obj);
}

/**
 * kosdma_object_list() - show an object to those who may see it
 * @obj: complete; not listed yet
 */
void kosdma_object_list(struct kosdma_object *obj)
{
	kosdma_event_object(KOSDMA_NL_EVENT_CREATE, obj);
	/* After all that the object is. */
	smp_store_release(&obj->listed, true);
	/* Then: was a revoke faster? Pairs with that of kosdma_object_set_ended(). */
	smp_mb();
	if (READ_ONCE(obj->ended))
		kosdma_object_tell_end(obj);
	/* Last: a dump that passed it by is told that something has changed. */
	this_cpu_inc(kosdma_objects_count.made[obj->ops->type]);
}

/**
 * kosdma_object_next() - walk the objects in order of sid
 * @sid: the first one that will do; changed to that of the object returned
 * @types: types that will do: bits numbered by enum kosdma_handle_type
 *
 * Return: the object, with a reference, or NULL.
 */
struct kosdma_object *kosdma_object_next(u32 *sid, u32 types)
{
	struct kosdma_object *found = NULL;
	u32 next = *sid, i;
	void **chunk;

	while (!found && (chunk = xa_load(&kosdma_chunks, next / KOSDMA_CHUNK_SLOTS))) {
		/* Under the lock nothing found here has been freed; but it may be about to be. */
		spin_lock(&kosdma_slots_lock);
		for (i = next % KOSDMA_CHUNK_SLOTS ?: 1; i < KOSDMA_CHUNK_SLOTS; i++) {
			struct kosdma_object *obj = chunk[i];

			if (kosdma_slot_is_free(obj))
				continue;
			/* Pairs with kosdma_object_list(): then it is complete. */
			if (smp_load_acquire(&obj->listed) && types & BIT(obj->ops->type) &&
			    kref_get_unless_zero(&obj->ref)) {
				found = obj;
				break;
			}
		}
		spin_unlock(&kosdma_slots_lock);
		next = round_down(next, KOSDMA_CHUNK_SLOTS) + i;
		cond_resched();
	}
	*sid = next;
	return found;
}

/* A number, not 0, that is another one after an object of the type comes or goes. */
unsigned int kosdma_object_changes(enum kosdma_handle_type type)
{
	unsigned int sum = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct kosdma_objects_count *count = per_cpu_ptr(&kosdma_objects_count, cpu);

		sum += READ_ONCE(count->made[type]) + READ_ONCE(count->freed[type]);
	}
	return sum ?: UINT_MAX;
}

/* How many objects of the type there are; what comes and goes meanwhile may be seen in part. */
unsigned int kosdma_object_count(enum kosdma_handle_type type)
{
	int cpu, sum = 0;

	for_each_possible_cpu(cpu) {
		const struct kosdma_objects_count *count = per_cpu_ptr(&kosdma_objects_count, cpu);

		sum += READ_ONCE(count->made[type]) - READ_ONCE(count->freed[type]);
	}
	return max(sum, 0);
}

static void kosdma_object_unlist(struct kosdma_object *obj)
{
	spin_lock(&kosdma_slots_lock);
	kosdma_slot_give_back(obj->slot);
	spin_unlock(&kosdma_slots_lock);
	if (obj->listed)
		this_cpu_inc(kosdma_objects_count.freed[obj->ops->type]);
}

/**
 * kosdma_object_set_ended() - what a private object's handle answers from now
 * @obj: a private object; the first call counts
 * @how: not KOSDMA_LIVE
 */
void kosdma_object_set_ended(struct kosdma_object *obj, enum kosdma_end how)
{
	/* A full barrier: kosdma_object_list() sees it, or is seen here. */
	if (cmpxchg(&obj->ended, KOSDMA_LIVE, how) != KOSDMA_LIVE)
		return;
	if (wq_has_sleeper(&obj->wait))
		wake_up_poll(&obj->wait, EPOLLHUP);
	kosdma_object_tell_end(obj);
}

/**
 * kosdma_object_set_events() - tell pollers about a living object
 * @obj: object
 * @events: what poll() says from now on, besides EPOLLHUP for the dead; 0: nothing
 */
void kosdma_object_set_events(struct kosdma_object *obj, __poll_t events)
{
	WRITE_ONCE(obj->events, events);
	if (events)
		wake_up_poll(&obj->wait, events);
}

/* What is left is memory. */
static void kosdma_object_drop(struct kref *ref)
{
	struct kosdma_object *obj = container_of(ref, struct kosdma_object, ref);

	WARN_ON_ONCE(!list_empty(&obj->ending));
	mutex_destroy(&obj->tree);
	kosdma_object_unlist(obj);
	kosdma_user_uncount_objects(obj->user, kosdma_object_cost(obj));
	if (obj->ops->drop)
		obj->ops->drop(obj);
}

/* As kosdma_object_put(). Returns whether it was the last; then the caller has the memory. */
bool kosdma_object_put_memory(struct kosdma_object *obj)
{
	return kref_put(&obj->ref, kosdma_object_drop);
}

void kosdma_object_put(struct kosdma_object *obj)
{
	if (kosdma_object_put_memory(obj))
		kfree(obj);
}

/* One reason less to live. Returns whether it was the last; then the caller ends the object. */
bool kosdma_object_unreach_locked(struct kosdma_object *obj)
{
	lockdep_assert_held(&obj->tree);
	WARN_ON_ONCE(!obj->reach);
	return !--obj->reach;
}

/* Nobody can reach the object any more. */
void kosdma_object_end(struct kosdma_object *obj)
{
	obj->ops->end(obj, KOSDMA_ENDED);
	if (obj->ops->transferable)
		kosdma_object_tell_end(obj);
}

/**
 * kosdma_object_pin() - keep an object from ending without using a handle
 * @obj: an object that cannot end now, because the caller uses it
 */
void kosdma_object_pin(struct kosdma_object *obj)
{
	mutex_lock(&obj->tree);
	WARN_ON_ONCE(!obj->reach);
	obj->reach++;
	mutex_unlock(&obj->tree);
}

/**
 * kosdma_object_unpin() - undo kosdma_object_pin()
 * @obj: with a reference of the caller's
 */
void kosdma_object_unpin(struct kosdma_object *obj)
{
	bool last;

	mutex_lock(&obj->tree);
	last = kosdma_object_unreach_locked(obj);
	mutex_unlock(&obj->tree);
	if (last)
		kosdma_object_end(obj);
}

void kosdma_object_exit(void)
{
	unsigned long n;
	void **chunk;

	xa_for_each(&kosdma_chunks, n, chunk)
		kfree(chunk);
	xa_destroy(&kosdma_chunks);
}
