// SPDX-License-Identifier: GPL-2.0-only
/*
 * Numbers of the whole machine, and events
 *
 * Events of objects are frequent: with nobody listening they cost a look at a
 * bitmap, and are forgotten. Those of devices and faults are rare, and the last
 * of them are kept.
 *
 * All are told by a work item, in order of time, many in one message: whoever has
 * one to tell may be in any context, and never waits or fails for it.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/pid_namespace.h>
#include <linux/ratelimit.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include <linux/kosdma_netlink.h>

#include "inject.h"
#include "kosdma.h"
#include "netlink.h"

/* How many events are kept. */
#define KOSDMA_EVENTS 1024

/* How many events of objects can wait to be told, and how long all do, so that many go together. */
#define KOSDMA_OBJECT_EVENTS 4096
#define KOSDMA_EVENTS_DELAY (HZ / 50)

/* How many of them are told before their places are free again. */
#define KOSDMA_OBJECT_EVENTS_BATCH 64

/* So many refusals, and faults, are kept in so many seconds; users can cause any number of them. */
#define KOSDMA_EVENTS_BURST 100
#define KOSDMA_EVENTS_INTERVAL (5 * HZ)

DEFINE_PER_CPU(struct kosdma_stats, kosdma_stats);

static DEFINE_SPINLOCK(kosdma_events_lock);	/* leaf, in any context: guards what follows */
static struct kosdma_event kosdma_events[KOSDMA_EVENTS];
static u64 kosdma_events_kept;			/* number of the last one */
static u64 kosdma_events_told;			/* number of the last one that was told */
static bool kosdma_events_on;			/* there is a family to tell them by */
static struct kosdma_object_event kosdma_object_events[KOSDMA_OBJECT_EVENTS];
static unsigned int kosdma_objects_seen;	/* how many came while somebody listened */
static unsigned int kosdma_objects_told;	/* how many of these were told */

/* Some found no room; not guarded. */
static bool kosdma_objects_lost;
static bool kosdma_events_lost;

/* Each has its own, so that nobody hides the other kind by causing this one. */
static struct ratelimit_state kosdma_refusals_limit;
static struct ratelimit_state kosdma_faults_limit;

/* --- numbers ---------------------------------------------------------------- */

/* What one processor adds and another one subtracts may be seen in part: never below 0. */
u64 kosdma_stat_read(enum kosdma_stat stat)
{
	s64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(&kosdma_stats, cpu)->sum[stat]);
	return max_t(s64, sum, 0);
}

/* --- events that are kept ------------------------------------------------------ */

/**
 * kosdma_event_next() - look at the events that are kept
 * @number: of the last one that was looked at, at first 0; changed to that of
 *	@event, which is more than one larger if some have been forgotten
 * @event: gets the next one
 *
 * Return: whether there is a next one.
 */
bool kosdma_event_next(u64 *number, struct kosdma_event *event)
{
	unsigned long flags;
	u64 next;
	bool found;

	spin_lock_irqsave(&kosdma_events_lock, flags);
	next = *number + 1;
	if (kosdma_events_kept > KOSDMA_EVENTS)
		next = max(next, kosdma_events_kept - KOSDMA_EVENTS + 1);
	found = next <= kosdma_events_kept;
	if (found) {
		*event = kosdma_events[next % KOSDMA_EVENTS];
		*number = next;
	}
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
	return found;
}

/* The oldest that was not told, if it came before @time. */
static bool kosdma_event_untold(u64 time, struct kosdma_event *event)
{
	unsigned long flags;
	bool found;

	/* Whoever adds one now schedules the work anew. */
	if (READ_ONCE(kosdma_events_told) == READ_ONCE(kosdma_events_kept))
		return false;
	spin_lock_irqsave(&kosdma_events_lock, flags);
	if (kosdma_events_kept - kosdma_events_told > KOSDMA_EVENTS) {
		WRITE_ONCE(kosdma_events_told, kosdma_events_kept - KOSDMA_EVENTS);
		kosdma_events_lost = true;
	}
	*event = kosdma_events[(kosdma_events_told + 1) % KOSDMA_EVENTS];
	found = kosdma_events_told != kosdma_events_kept && event->time < time;
	if (found)
		WRITE_ONCE(kosdma_events_told, kosdma_events_told + 1);
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
	return found;
}

static void kosdma_events_tell_before(struct kosdma_message *message, u64 time)
{
	struct kosdma_event event;

	while (kosdma_event_untold(time, &event))
		kosdma_netlink_tell(message, &event);
}

/* Returns whether there may be more. */
static bool kosdma_events_tell_some(struct kosdma_message *message)
{
	const struct kosdma_object_event *object;
	unsigned int i, n, first;
	unsigned long flags;
	u64 now;

	spin_lock_irqsave(&kosdma_events_lock, flags);
	first = kosdma_objects_told;
	n = min(kosdma_objects_seen - first, KOSDMA_OBJECT_EVENTS_BATCH);
	now = ktime_get_boottime_ns();
	spin_unlock_irqrestore(&kosdma_events_lock, flags);

	for (i = 0; i < n; i++) {
		object = &kosdma_object_events[(first + i) % KOSDMA_OBJECT_EVENTS];
		kosdma_events_tell_before(message, object->time);
		kosdma_netlink_tell_object(message, object);
	}
	if (!n) {
		if (kosdma_inject(tell_ms))
			msleep(kosdma_inject(tell_ms));
		/* What came later may be behind an object's; it has scheduled the work anew. */
		kosdma_events_tell_before(message, now + 1);
	}

	/* Their places are free. */
	spin_lock_irqsave(&kosdma_events_lock, flags);
	kosdma_objects_told += n;
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
	return n;
}

static void kosdma_events_tell(struct work_struct *work)
{
	struct kosdma_message message = {};

	while (kosdma_events_tell_some(&message))
		cond_resched();
	kosdma_netlink_flush(&message);
	if (xchg(&kosdma_objects_lost, false))
		kosdma_netlink_lost(true);
	if (xchg(&kosdma_events_lost, false))
		kosdma_netlink_lost(false);
}

static DECLARE_DELAYED_WORK(kosdma_events_work, kosdma_events_tell);

static void kosdma_event_keep(struct kosdma_event *event)
{
	unsigned long flags;

	spin_lock_irqsave(&kosdma_events_lock, flags);
	event->time = ktime_get_boottime_ns();
	event->number = kosdma_events_kept + 1;
	WRITE_ONCE(kosdma_events_kept, event->number);
	kosdma_events[event->number % KOSDMA_EVENTS] = *event;
	if (kosdma_events_on && (kosdma_netlink_listens(KOSDMA_NLGRP_DEVICES) ||
				 kosdma_netlink_listens(KOSDMA_NLGRP_FAULTS)))
		schedule_delayed_work(&kosdma_events_work, KOSDMA_EVENTS_DELAY);
	else
		WRITE_ONCE(kosdma_events_told, event->number);
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
}

/**
 * kosdma_event_device() - something happened to a device
 * @kind: an enum kosdma_nl_event
 * @address: the function
 * @process: who holds it, or NULL
 * @sid: the domain, or 0
 */
void kosdma_event_device(u32 kind, u32 address, struct kosdma_process *process, u32 sid)
{
	struct kosdma_event event = {
		.kind = kind,
		.address = address,
		.sid = sid,
		.type = sid ? KOSDMA_HANDLE_DOMAIN : 0,
	};

	if (process) {
		event.pid = process->pid;
		event.uid = process->uid;
	}
	kosdma_event_keep(&event);
}

/**
 * kosdma_event_refuse() - the caller was refused a device or registers
 * @address: the function, or KOSDMA_NO_ADDRESS
 * @error: errno, positive; the caller's signal is none
 */
void kosdma_event_refuse(u32 address, int error)
{
	struct kosdma_event event = {
		.kind = KOSDMA_NL_EVENT_REFUSE,
		.address = address,
		.pid = task_tgid_nr(current),
		.uid = current_euid(),
		.error = error,
	};

	if (error == ERESTARTNOINTR)
		return;
	kosdma_stat_add(KOSDMA_STAT_REFUSALS, 1);
	if (__ratelimit(&kosdma_refusals_limit))
		kosdma_event_keep(&event);
}

/**
 * kosdma_event_pages() - pages were quarantined or released
 * @kind: which of these, an enum kosdma_nl_event
 * @address: the function that may write them, or KOSDMA_NO_ADDRESS
 * @pages: how many
 */
void kosdma_event_pages(u32 kind, u32 address, u64 pages)
{
	struct kosdma_event event = { .kind = kind, .address = address, .pages = pages };

	kosdma_event_keep(&event);
}

/**
 * kosdma_event_fault() - an IOMMU refused an access
 * @domain: of the device that tried
 * @address: the device, or KOSDMA_NO_ADDRESS
 *
 * In any context.
 */
void kosdma_event_fault(struct kosdma_object *domain, u32 address)
{
	struct kosdma_event event = {
		.kind = KOSDMA_NL_EVENT_FAULT,
		.address = address,
		.sid = domain->sid,
		.type = domain->ops->type,
		.pid = domain->pid,
		.uid = domain->uid,
	};

	kosdma_stat_add(KOSDMA_STAT_FAULTS, 1);
	if (__ratelimit(&kosdma_faults_limit))
		kosdma_event_keep(&event);
}

/* --- those of objects ----------------------------------------------------------- */

/* What kosdma_event_object() does when somebody listens. */
void kosdma_event_object_tell(u32 kind, struct kosdma_object *obj)
{
	struct kosdma_object_event *event;
	unsigned int waiting;
	unsigned long flags;

	spin_lock_irqsave(&kosdma_events_lock, flags);
	waiting = kosdma_objects_seen - kosdma_objects_told;
	if (!kosdma_events_on || waiting == KOSDMA_OBJECT_EVENTS) {
		WRITE_ONCE(kosdma_objects_lost, true);
	} else {
		event = &kosdma_object_events[kosdma_objects_seen++ % KOSDMA_OBJECT_EVENTS];
		event->time = ktime_get_boottime_ns();
		event->sid = obj->sid;
		event->pid = obj->pid;
		event->uid = obj->uid;
		event->kind = kind;
		event->type = obj->ops->type;
		/* If others wait already, it has been scheduled; half full, it shall run now. */
		if (!waiting)
			schedule_delayed_work(&kosdma_events_work, KOSDMA_EVENTS_DELAY);
		else if (waiting == KOSDMA_OBJECT_EVENTS / 2)
			kosdma_hurry(&kosdma_events_work);
	}
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
}

/* --- life ------------------------------------------------------------------------- */

static void kosdma_event_limit_init(struct ratelimit_state *limit)
{
	ratelimit_state_init(limit, KOSDMA_EVENTS_INTERVAL, KOSDMA_EVENTS_BURST);
	/* What it passes over is counted by us, and is not the log's. */
	ratelimit_set_flags(limit, RATELIMIT_MSG_ON_RELEASE);
}

/* Before the first event. */
void kosdma_event_init(void)
{
	kosdma_event_limit_init(&kosdma_refusals_limit);
	kosdma_event_limit_init(&kosdma_faults_limit);
}

/* There is a family to tell events by. */
void kosdma_event_start(void)
{
	unsigned long flags;

	spin_lock_irqsave(&kosdma_events_lock, flags);
	kosdma_events_on = true;
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
}

/* There is none soon. */
void kosdma_event_stop(void)
{
	unsigned long flags;

	spin_lock_irqsave(&kosdma_events_lock, flags);
	kosdma_events_on = false;
	spin_unlock_irqrestore(&kosdma_events_lock, flags);
	cancel_delayed_work_sync(&kosdma_events_work);
}
