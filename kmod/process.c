// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes and users
 *
 * A process is an address space (mm): threads, vfork and CLONE_VM siblings are
 * the same process, a fork child is another, exec ends it. Its end is told by
 * the mmu notifier, in the dying task; there, bus mastering is switched off,
 * and the rest is left to a work item, which may wait for devices.
 *
 * A user is charged for objects and for memory.
 */
#include <linux/capability.h>
#include <linux/delay.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pid_namespace.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "inject.h"
#include "kosdma.h"
#include "trace.h"

static unsigned int max_objects = 1U << 20;
module_param(max_objects, uint, 0644);
MODULE_PARM_DESC(max_objects, "objects and handles that one user may have");

static DEFINE_HASHTABLE(kosdma_processes, 8);	/* under RCU */
static DEFINE_SPINLOCK(kosdma_processes_lock);	/* writers */

static DEFINE_HASHTABLE(kosdma_users, 6);
static DEFINE_SPINLOCK(kosdma_users_lock);

static struct workqueue_struct *kosdma_wq;
static DECLARE_WAIT_QUEUE_HEAD(kosdma_teardown_done);

/* --- users ---------------------------------------------------------------- */

unsigned int kosdma_max_objects(void)
{
	return READ_ONCE(max_objects);
}

static struct kosdma_user *kosdma_user_find_locked(struct user_struct *key)
{
	struct kosdma_user *user;

	lockdep_assert_held(&kosdma_users_lock);
	hash_for_each_possible(kosdma_users, user, node, (unsigned long)key) {
		if (user->user == key)
			return user;
	}
	return NULL;
}

/* The caller's user, with a reference; @likely is it, or any other one, or NULL. */
static struct kosdma_user *kosdma_user_current(struct kosdma_user *likely)
{
	struct user_struct *key = current_user();
	struct kosdma_user *user, *new;

	if (likely && likely->user == key) {
		refcount_inc(&likely->ref);
		return likely;
	}
	spin_lock(&kosdma_users_lock);
	user = kosdma_user_find_locked(key);
	if (user)
		refcount_inc(&user->ref);
	spin_unlock(&kosdma_users_lock);
	if (user)
		return user;

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return ERR_PTR(-ENOMEM);
	refcount_set(&new->ref, 1);

	spin_lock(&kosdma_users_lock);
	user = kosdma_user_find_locked(key);
	if (user) {
		refcount_inc(&user->ref);
	} else {
		new->user = get_uid(key);
		hash_add(kosdma_users, &new->node, (unsigned long)key);
		user = new;
	}
	spin_unlock(&kosdma_users_lock);
	if (user != new)
		kfree(new);
	return user;
}

static void kosdma_user_put(struct kosdma_user *user)
{
	bool last;

	if (refcount_dec_not_one(&user->ref))
		return;
	spin_lock(&kosdma_users_lock);
	last = refcount_dec_and_test(&user->ref);
	if (last)
		hash_del(&user->node);
	spin_unlock(&kosdma_users_lock);
	if (last) {
		free_uid(user->user);
		kfree(user);
	}
}

/**
 * kosdma_user_count_objects() - the caller wants more objects or handles
 * @likely: a user that exists, and that the caller's probably is, or NULL
 * @nr: how many more
 *
 * Return: the user that they were counted against, -EDQUOT or -ENOMEM.
 */
struct kosdma_user *kosdma_user_count_objects(struct kosdma_user *likely, int nr)
{
	struct kosdma_user *user = kosdma_user_current(likely);
	int old;

	if (IS_ERR(user))
		return user;
	old = atomic_read(&user->objects);
	/* The limit may have been lowered below what the user has. */
	do {
		if (old > (int)min_t(u32, kosdma_max_objects(), INT_MAX) - nr) {
			kosdma_user_put(user);
			return ERR_PTR(-EDQUOT);
		}
	} while (!atomic_try_cmpxchg(&user->objects, &old, old + nr));
	return user;
}

/* Undo kosdma_user_count_objects(). */
void kosdma_user_uncount_objects(struct kosdma_user *user, int nr)
{
	atomic_sub(nr, &user->objects);
	kosdma_user_put(user);
}

/**
 * kosdma_user_charge() - charge memory to a user's RLIMIT_MEMLOCK
 * @user: of an object of the caller's
 * @npages: pages
 *
 * CAP_IPC_LOCK is charged but not limited.
 *
 * Return: 0 or -EDQUOT.
 */
int kosdma_user_charge(struct kosdma_user *user, unsigned long npages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	bool exempt = capable(CAP_IPC_LOCK);
	unsigned long new;
	long old = atomic_long_read(&user->user->locked_vm);

	do {
		if (check_add_overflow((unsigned long)old, npages, &new) ||
		    (!exempt && new > limit))
			return -EDQUOT;
	} while (!atomic_long_try_cmpxchg(&user->user->locked_vm, &old, new));
	kosdma_stat_add(KOSDMA_STAT_PAGES, npages);
	return 0;
}

void kosdma_user_uncharge(struct kosdma_user *user, unsigned long npages)
{
	WARN_ON_ONCE(atomic_long_sub_return(npages, &user->user->locked_vm) < 0);
	kosdma_stat_add(KOSDMA_STAT_PAGES, -(s64)npages);
}

/* The user's id as somebody in the namespace @ns sees it. */
uid_t kosdma_user_id(struct kosdma_user *user, struct user_namespace *ns)
{
	return from_kuid_munged(ns, user->user->uid);
}

/* --- processes ------------------------------------------------------------ */

static void kosdma_process_free(struct kref *ref)
{
	struct kosdma_process *process = container_of(ref, struct kosdma_process, ref);

	WARN_ON_ONCE(!list_empty(&process->domains) || !list_empty(&process->mappings) ||
		     !list_empty(&process->devices) || process->automatic);
	mutex_destroy(&process->lock);
	mmdrop(process->mm);
	kfree_rcu(process, rcu);
}

void kosdma_process_put(struct kosdma_process *process)
{
	kref_put(&process->ref, kosdma_process_free);
}

static struct kosdma_process *kosdma_process_find(struct mm_struct *mm)
{
	struct kosdma_process *process;

	hash_for_each_possible_rcu(kosdma_processes, process, node, (unsigned long)mm,
				   lockdep_is_held(&kosdma_processes_lock)) {
		if (process->mm == mm)
			return process;
	}
	return NULL;
}

/* Everything that a process had goes, and the process with it. */
static void kosdma_process_teardown(struct work_struct *work)
{
	struct kosdma_process *process = container_of(work, struct kosdma_process, teardown);
	struct kosdma_domain *automatic;

	if (kosdma_inject(teardown_ms))
		msleep(kosdma_inject(teardown_ms));
	mutex_lock(&process->lock);
	while (!list_empty(&process->mappings)) {
		struct kosdma_mapping *mapping = list_first_entry(&process->mappings,
								  struct kosdma_mapping, node);

		kosdma_object_get(&mapping->obj);
		mutex_unlock(&process->lock);
		kosdma_mapping_end(mapping, KOSDMA_ENDED);
		kosdma_object_put(&mapping->obj);
		cond_resched();
		mutex_lock(&process->lock);
	}
	while (!list_empty(&process->domains)) {
		struct kosdma_domain *domain = list_first_entry(&process->domains,
								struct kosdma_domain,
								process_node);

		list_del_init(&domain->process_node);
		if (!kref_get_unless_zero(&domain->obj.ref))
			continue;
		mutex_unlock(&process->lock);
		kosdma_domain_end(domain);
		kosdma_domain_end_accesses(domain);
		kosdma_domain_put(domain);
		mutex_lock(&process->lock);
	}
	automatic = process->automatic;
	WRITE_ONCE(process->automatic, NULL);
	mutex_unlock(&process->lock);
	if (automatic)
		kosdma_domain_put(automatic);

	spin_lock(&kosdma_processes_lock);
	hash_del_rcu(&process->node);
	spin_unlock(&kosdma_processes_lock);
	mmu_notifier_unregister(&process->mn, process->mm);
	trace_process_end(process);
	WRITE_ONCE(process->gone, true);
	wake_up_all(&kosdma_teardown_done);
	kosdma_process_put(process);
	if (automatic)
		module_put(THIS_MODULE);
}

/* The process is over: its devices write no more than what is under way. */
static void kosdma_process_die(struct kosdma_process *process)
{
	struct kosdma_device *dev;

	mutex_lock(&process->lock);
	if (!process->dead) {
		WRITE_ONCE(process->dead, true);
		list_for_each_entry(dev, &process->devices, process_node)
			pci_clear_master(dev->pdev);
		queue_work(kosdma_wq, &process->teardown);
	}
	mutex_unlock(&process->lock);
}

/* The address space ends, in exit or exec; none of its threads is in an ioctl any more. */
static void kosdma_process_mm_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct kosdma_process *process = container_of(mn, struct kosdma_process, mn);

	if (process->published)
		kosdma_process_die(process);
}

static const struct mmu_notifier_ops kosdma_process_mn_ops = {
	.release = kosdma_process_mm_release,
};

/**
 * kosdma_process_current() - the calling process
 *
 * Return: the process, with a reference; -ENOMEM; -ERESTARTNOINTR (a signal came
 * first: the caller undoes what it did, and the call starts again); -ENOTCONN for
 * a task without an address space.
 */
struct kosdma_process *kosdma_process_current(void)
{
	struct mm_struct *mm = current->mm;
	struct kosdma_process *process, *old;
	int ret;

	if (!mm)
		return ERR_PTR(-ENOTCONN);
	/* In the table as long as the mm lives, and it lives as we run in it. */
	rcu_read_lock();
	process = kosdma_process_find(mm);
	if (process)
		kosdma_process_get(process);
	rcu_read_unlock();
	if (process)
		return process;

	process = kzalloc(sizeof(*process), GFP_KERNEL_ACCOUNT);
	if (!process)
		return ERR_PTR(-ENOMEM);
	kref_init(&process->ref);
	mutex_init(&process->lock);
	INIT_LIST_HEAD(&process->domains);
	INIT_LIST_HEAD(&process->mappings);
	INIT_LIST_HEAD(&process->devices);
	INIT_WORK(&process->teardown, kosdma_process_teardown);
	process->pid = task_tgid_nr(current);
	process->uid = current_euid();
	process->mn.ops = &kosdma_process_mn_ops;
	process->mm = mm;
	mmgrab(mm);
	ret = mmu_notifier_register(&process->mn, mm);
	if (ret) {
		kosdma_process_put(process);
		return ERR_PTR(ret == -EINTR ? -ERESTARTNOINTR : ret);
	}

	spin_lock(&kosdma_processes_lock);
	old = kosdma_process_find(mm);
	if (old) {
		kosdma_process_get(old);
	} else {
		process->published = true;
		kosdma_process_get(process);	/* the table's, until teardown */
		hash_add_rcu(kosdma_processes, &process->node, (unsigned long)mm);
	}
	spin_unlock(&kosdma_processes_lock);
	if (!old)
		return process;

	/* Another thread was faster. */
	mmu_notifier_unregister(&process->mn, mm);
	kosdma_process_put(process);
	return old;
}

/* Is this the calling process? */
bool kosdma_process_is_current(struct kosdma_process *process)
{
	return process->mm == current->mm && !READ_ONCE(process->dead);
}

/*
 * The id of a process as the caller may see it, 0 if it is dead: the number may
 * be another's by now. It means something in the initial PID namespace only.
 */
pid_t kosdma_process_shown_pid(struct kosdma_process *process)
{
	if (READ_ONCE(process->dead) || task_active_pid_ns(current) != &init_pid_ns)
		return 0;
	return process->pid;
}

/**
 * kosdma_process_wait_gone() - wait until a dead process has let go of everything
 * @process: dead
 *
 * Return: 0 or -ETIMEDOUT.
 */
int kosdma_process_wait_gone(struct kosdma_process *process)
{
	if (!wait_event_timeout(kosdma_teardown_done, READ_ONCE(process->gone),
				KOSDMA_TEARDOWN_TIMEOUT))
		return -ETIMEDOUT;
	return 0;
}

/**
 * kosdma_process_wait_unheld() - wait until a dead process no longer holds a group
 * @group: with a reference
 * @holder: its holder, dead; with a reference, so that no other one looks like it
 *
 * The teardown ends its attachments; the end of its descriptors, a little later,
 * its registers, unless another process has them by now.
 *
 * Return: 0; -ETIMEDOUT (it is not torn down in time); -EBUSY (somebody has its
 * registers); -EINTR (the caller was killed).
 */
int kosdma_process_wait_unheld(struct kosdma_group *group, const struct kosdma_process *holder)
{
	long left = wait_event_killable_timeout(kosdma_teardown_done,
						READ_ONCE(group->holder) != holder,
						KOSDMA_TEARDOWN_TIMEOUT);

	if (left < 0)
		return -EINTR;
	if (left)
		return 0;
	return READ_ONCE(holder->gone) ? -EBUSY : -ETIMEDOUT;
}

/* Somebody no longer holds a group. */
void kosdma_process_unheld(void)
{
	wake_up_all(&kosdma_teardown_done);
}

/* Have the module's own workqueue do something, which module exit waits for. */
void kosdma_queue_later(struct delayed_work *work, unsigned long delay)
{
	queue_delayed_work(kosdma_wq, work, delay);
}

int kosdma_process_init(void)
{
	kosdma_wq = alloc_workqueue("kosdma", WQ_UNBOUND, 0);
	return kosdma_wq ? 0 : -ENOMEM;
}

/*
 * No file is open any more and no process has an automatic domain, so those
 * that are left have nothing but their notifier. They may be dying just now.
 */
void kosdma_process_exit(void)
{
	struct kosdma_process *process;
	int bucket;

	for (;;) {
		bool found = false;

		rcu_read_lock();
		hash_for_each_rcu(kosdma_processes, bucket, process, node) {
			if (kref_get_unless_zero(&process->ref)) {
				found = true;
				break;
			}
		}
		rcu_read_unlock();
		if (!found)
			break;
		kosdma_process_die(process);
		flush_work(&process->teardown);
		kosdma_process_put(process);
	}
	destroy_workqueue(kosdma_wq);
	rcu_barrier();
}
