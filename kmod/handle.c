// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handles: what names an object, with which rights, and who derived it from
 * whom
 *
 * The handles of an object form a tree: a copy is a child of its source. A
 * mapping or access is recorded at the handle through which it was opened. A
 * handle that is closed while it has children or uses stays in the tree as a
 * tombstone, without file and rights, so that a revoke from above still finds
 * what was opened through it.
 *
 * Invariant: below a revoked handle every handle is revoked, and no use of a
 * revoked handle is on its list; it is on obj->ending until it has ended.
 */
#include <linux/anon_inodes.h>
#include <linux/fdtable.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kosdma.h"
#include "netlink.h"
#include "trace.h"

static const struct file_operations kosdma_handle_fops;

static void *kosdma_handle_closed(struct kosdma_handle *handle, bool over);

/* --- the inheritance tree ------------------------------------------------- */

/* The handle after @handle in the subtree of @top, parents first, or NULL. */
static struct kosdma_handle *kosdma_handle_next(struct kosdma_handle *top,
						struct kosdma_handle *handle)
{
	if (!list_empty(&handle->children))
		return list_first_entry(&handle->children, struct kosdma_handle, sibling);
	while (handle != top) {
		struct kosdma_handle *parent = handle->parent;

		if (!list_is_last(&handle->sibling, &parent->children))
			return list_next_entry(handle, sibling);
		handle = parent;
	}
	return NULL;
}

/*
 * Take @handle out of the tree if nothing keeps it there, then its parent, and
 * so on. Returns them, chained.
 */
static struct kosdma_handle *kosdma_handle_reap_locked(struct kosdma_handle *handle)
{
	struct kosdma_handle *dead = NULL;

	while (handle && !handle->file && !handle->nuses && list_empty(&handle->children)) {
		struct kosdma_handle *parent = handle->parent;

		lockdep_assert_held(&handle->obj->tree);
		list_del(&handle->node);
		if (parent)
			list_del(&handle->sibling);
		handle->next = dead;
		dead = handle;
		handle = parent;
		cond_resched();
	}
	return dead;
}

/* What kosdma_handle_reap_locked() returned. The caller keeps the object. */
static void kosdma_handle_free(struct kosdma_handle *dead)
{
	while (dead) {
		struct kosdma_handle *handle = dead;
		bool first = handle == &handle->obj->first;

		dead = handle->next;
		if (handle->badge)
			kosdma_object_put(handle->badge);
		if (handle->owner)
			kosdma_process_put(handle->owner);
		if (handle->user)
			kosdma_user_uncount_objects(handle->user, 1);
		kosdma_object_put(handle->obj);
		if (!first)
			kfree(handle);
		kosdma_stat_add(KOSDMA_STAT_HANDLES_FREED, 1);
		cond_resched();
	}
}

/*
 * Make one handle useless. The call that revokes it reaches the object itself,
 * so it goes on. Pollers are woken by the caller: once, for however many handles.
 */
static void kosdma_handle_mark_locked(struct kosdma_handle *handle)
{
	struct kosdma_object *obj = handle->obj;

	lockdep_assert_held(&obj->tree);
	if (handle->revoked)
		return;
	WRITE_ONCE(handle->revoked, true);
	list_splice_tail_init(&handle->uses, &obj->ending);
	if (handle->file)
		WARN_ON_ONCE(kosdma_object_unreach_locked(obj));
}

/* End every use that a revoke has marked; when this returns they are over. */
static void kosdma_object_end_marked(struct kosdma_object *obj)
{
	mutex_lock(&obj->tree);
	while (!list_empty(&obj->ending)) {
		struct kosdma_use *use = list_first_entry(&obj->ending, struct kosdma_use, node);
		struct kosdma_object *user = kosdma_object_get(use->user);

		mutex_unlock(&obj->tree);
		user->ops->end(user, KOSDMA_REVOKED);
		kosdma_object_put(user);
		cond_resched();
		mutex_lock(&obj->tree);
	}
	mutex_unlock(&obj->tree);
}

/*
 * Revoke the descendants of @handle: all of them, or those below a copy that
 * was marked with @badge. @handle is held by its file.
 */
static void kosdma_handle_revoke(struct kosdma_handle *handle, struct kosdma_object *badge)
{
	struct kosdma_object *obj = handle->obj;
	struct kosdma_handle *next;

	mutex_lock(&obj->tree);
	for (next = kosdma_handle_next(handle, handle); next;
	     next = kosdma_handle_next(handle, next)) {
		if (!badge || next->badge == badge ||
		    (next->parent != handle && next->parent->revoked))
			kosdma_handle_mark_locked(next);
		cond_resched();
	}
	mutex_unlock(&obj->tree);
	trace_handle_revoke(obj, badge);
	kosdma_object_end_marked(obj);
	wake_up_poll(&obj->wait, EPOLLHUP);
	kosdma_stat_add(KOSDMA_STAT_REVOKES, 1);
	kosdma_event_object(KOSDMA_NL_EVENT_REVOKE, obj);
}

/**
 * kosdma_handle_cursor_new() - for walks over the handles of objects, in parts
 *
 * Return: the cursor, or NULL.
 */
struct kosdma_handle *kosdma_handle_cursor_new(void)
{
	return kzalloc(sizeof(struct kosdma_handle), GFP_KERNEL_ACCOUNT);
}

static void kosdma_handle_walk_end(struct kosdma_handle *cursor)
{
	struct kosdma_object *obj = cursor->obj;

	mutex_lock(&obj->tree);
	list_del(&cursor->node);
	mutex_unlock(&obj->tree);
	cursor->obj = NULL;
	kosdma_object_put(obj);
}

/* Maybe within a walk. */
void kosdma_handle_cursor_free(struct kosdma_handle *cursor)
{
	if (cursor && cursor->obj)
		kosdma_handle_walk_end(cursor);
	kfree(cursor);
}

/**
 * kosdma_handle_walk_begin() - before the first handle of an object
 * @cursor: within no walk
 * @obj: with a reference, which the cursor takes over until the walk ends
 */
void kosdma_handle_walk_begin(struct kosdma_handle *cursor, struct kosdma_object *obj)
{
	cursor->obj = obj;
	mutex_lock(&obj->tree);
	list_add(&cursor->node, &obj->handles);
	mutex_unlock(&obj->tree);
}

/**
 * kosdma_handle_walk() - go on with a walk
 * @cursor: where it is; handles may come and go between two calls
 * @look: called for each handle, parents first, with obj->tree held; what is
 *	not 0 ends the call, and the next one begins with that handle
 * @data: for @look
 *
 * Return: what @look returned last, or 0; then the walk has ended.
 */
int kosdma_handle_walk(struct kosdma_handle *cursor,
		       int (*look)(struct kosdma_handle *handle, void *data), void *data)
{
	struct kosdma_object *obj = cursor->obj;
	int ret = 0;

	mutex_lock(&obj->tree);
	while (!list_is_last(&cursor->node, &obj->handles)) {
		struct kosdma_handle *handle = list_next_entry(cursor, node);

		/* Others have cursors here, too. */
		if (handle->number)
			ret = look(handle, data);
		if (ret)
			break;
		list_move(&cursor->node, &handle->node);
		cond_resched();
	}
	mutex_unlock(&obj->tree);
	if (!ret)
		kosdma_handle_walk_end(cursor);
	return ret;
}

/**
 * kosdma_use_add() - record that something was opened through a handle
 * @use: inside @user
 * @user: the mapping or access; from now on its @end may be called any time;
 *	holds a reference on the object used as long as it lives
 * @handle: held by the caller
 *
 * Return: 0, or -EKEYREVOKED.
 */
int kosdma_use_add(struct kosdma_use *use, struct kosdma_object *user,
		   struct kosdma_handle *handle)
{
	struct kosdma_object *obj = handle->obj;
	int ret = -EKEYREVOKED;

	mutex_lock(&obj->tree);
	if (!handle->revoked) {
		use->user = user;
		use->handle = handle;
		WRITE_ONCE(use->obj, obj);
		list_add_tail(&use->node, &handle->uses);
		handle->nuses++;
		obj->reach++;
		ret = 0;
	}
	mutex_unlock(&obj->tree);
	return ret;
}

/**
 * kosdma_use_del() - a use has ended
 * @use: if it was never recorded or has been deleted, nothing happens
 *
 * Called without locks. May end the object used.
 */
void kosdma_use_del(struct kosdma_use *use)
{
	struct kosdma_object *obj = use->obj;
	struct kosdma_handle *handle, *dead;
	bool last;

	/* Whoever cleared it has done what is to be done under the lock. */
	if (!obj || !smp_load_acquire(&use->handle))
		return;
	mutex_lock(&obj->tree);
	handle = use->handle;
	if (!handle) {
		mutex_unlock(&obj->tree);
		return;
	}
	list_del(&use->node);
	handle->nuses--;
	last = kosdma_object_unreach_locked(obj);
	dead = kosdma_handle_reap_locked(handle);
	/* Last: who sees it goes on without the lock. */
	smp_store_release(&use->handle, NULL);
	mutex_unlock(&obj->tree);

	if (last)
		kosdma_object_end(obj);
	kosdma_handle_free(dead);
}

/* --- spares ------------------------------------------------------------------ */

/*
 * To make and destroy a file costs more than all else that an access needs but
 * the IOMMU. So the file of one that is closed by its process is kept for the
 * next one, with the memory of the access, if nothing is left of its past: neither
 * a reference nor a trace of what user space can do with a descriptor.
 */

#define KOSDMA_HANDLE_FLAGS O_RDWR

struct kosdma_spares *kosdma_spares_new(void)
{
	struct kosdma_spares *spares = kzalloc(sizeof(*spares), GFP_KERNEL_ACCOUNT);

	if (spares)
		spin_lock_init(&spares->lock);
	return spares;
}

/* Nobody uses them. */
void kosdma_spares_free(struct kosdma_spares *spares)
{
	while (spares->count) {
		spares->count--;
		fput(spares->spare[spares->count].file);
		kfree(spares->spare[spares->count].memory);
	}
	kfree(spares);
}

/* Memory that an access had, and for its handle, a file: in @ucmd->spare. Or NULL. */
void *kosdma_spare_take(struct kosdma_ucmd *ucmd)
{
	struct kosdma_spares *spares = ucmd->spares;
	void *memory = NULL;
	unsigned int last;

	if (!READ_ONCE(spares->count))
		return NULL;
	spin_lock(&spares->lock);
	last = spares->count - 1;
	if (spares->count && spares->spare[last].file->f_cred == current_cred()) {
		WRITE_ONCE(spares->count, last);
		memory = spares->spare[last].memory;
		ucmd->spare = spares->spare[last].file;
	}
	spin_unlock(&spares->lock);
	return memory;
}

/*
 * Is the caller's reference the only one, and the file like new? A look-up that
 * has found it in a table before it was taken out there may hold it for moments,
 * but looks at nothing in it before it has seen that it is there no longer.
 */
static bool kosdma_spare_fits(struct file *file)
{
	struct inode *inode = file_inode(file);

	if (file_count(file) != 1)
		return false;
	/* Pairs with fput() by whoever did something with it. */
	smp_mb();
#ifdef CONFIG_EPOLL
	if (READ_ONCE(file->f_ep))
		return false;
#endif
	return file->f_flags == KOSDMA_HANDLE_FLAGS && file->f_cred == current_cred() &&
	       !kosdma_file_has_owner(file) && !vfs_inode_has_locks(inode);
}

/* Close a descriptor, and let go of the file that it had; that of an access may be kept. */
static int kosdma_handle_close_fd(struct kosdma_ucmd *ucmd, int fd, struct file *file)
{
	struct kosdma_handle *handle = file->private_data;
	struct kosdma_spares *spares = ucmd->spares;
	int ret = close_fd(fd);
	void *memory = NULL;

	if (handle->obj->ops->type == KOSDMA_HANDLE_ACCESS &&
	    kosdma_access_is_over(to_access(handle->obj)) &&
	    READ_ONCE(spares->count) < KOSDMA_NR_SPARES && kosdma_spare_fits(file)) {
		file->private_data = NULL;
		memory = kosdma_handle_closed(handle, true);
	}
	if (memory) {
		spin_lock(&spares->lock);
		if (spares->count < KOSDMA_NR_SPARES) {
			spares->spare[spares->count].file = file;
			spares->spare[spares->count].memory = memory;
			WRITE_ONCE(spares->count, spares->count + 1);
			memory = NULL;
			file = NULL;
		}
		spin_unlock(&spares->lock);
	}
	if (file)
		fput(file);
	kfree(memory);
	return ret;
}

/* --- birth ---------------------------------------------------------------- */

/* Into the tree, with the lock, or of an object that nobody else knows. */
static void kosdma_handle_enter(struct kosdma_handle *handle, struct file *file)
{
	struct kosdma_object *obj = handle->obj;

	handle->file = file;
	/* Never 0, that of a cursor. */
	obj->numbers = obj->numbers == U32_MAX ? 1 : obj->numbers + 1;
	handle->number = obj->numbers;
	list_add_tail(&handle->node, &obj->handles);
	obj->reach++;
}

/**
 * kosdma_handle_create() - make a handle that the dispatcher will publish
 * @ucmd: gets the handle, behind those that it has
 * @obj: the handle takes a reference of its own
 * @rights: of the handle
 * @parent: handle that it descends from, held by the caller, or NULL
 * @badge: badge that marks it, or NULL
 * @out_fd: gets the descriptor's number
 *
 * Return: 0, or an errno; then nothing has happened.
 */
int kosdma_handle_create(struct kosdma_ucmd *ucmd, struct kosdma_object *obj, u32 rights,
			 struct kosdma_handle *parent, struct kosdma_object *badge, s32 *out_fd)
{
	struct kosdma_handle *handle;
	struct file *file;
	int fd, ret;

	if (parent) {
		handle = kzalloc(sizeof(*handle), GFP_KERNEL_ACCOUNT);
		if (!handle)
			return -ENOMEM;
		handle->user = kosdma_user_count_objects(parent->obj->user, 1);
		if (IS_ERR(handle->user)) {
			ret = PTR_ERR(handle->user);
			goto err_free;
		}
	} else {
		handle = &obj->first;
	}
	if (!obj->ops->transferable) {
		struct kosdma_process *process = kosdma_ucmd_process(ucmd);

		if (IS_ERR(process)) {
			ret = PTR_ERR(process);
			goto err_user;
		}
		handle->owner = kosdma_process_get(process);
	}
	handle->obj = kosdma_object_get(obj);
	handle->pid = task_tgid_nr(current);
	handle->uid = current_euid();
	handle->rights = rights;
	if (badge)
		handle->badge = kosdma_object_get(badge);
	INIT_LIST_HEAD(&handle->node);
	INIT_LIST_HEAD(&handle->children);
	INIT_LIST_HEAD(&handle->uses);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		ret = fd;
		goto err_put;
	}
	file = ucmd->spare;
	if (file) {
		ucmd->spare = NULL;
		file->private_data = handle;
	} else {
		file = anon_inode_getfile(obj->ops->name, &kosdma_handle_fops, handle,
					  KOSDMA_HANDLE_FLAGS);
	}
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto err_fd;
	}

	/* The file owns the handle from here, whether or not it gets into the tree. */
	if (parent) {
		mutex_lock(&obj->tree);
		ret = parent->revoked ? -EKEYREVOKED : 0;
		if (!ret) {
			kosdma_handle_enter(handle, file);
			handle->parent = parent;
			list_add_tail(&handle->sibling, &parent->children);
		}
		mutex_unlock(&obj->tree);
	} else {
		/* Nobody else knows the object. */
		kosdma_handle_enter(handle, file);
	}
	kosdma_stat_add(KOSDMA_STAT_HANDLES_MADE, 1);
	if (ret) {
		put_unused_fd(fd);
		fput(file);
		return ret;
	}

	handle->fd = fd;
	*ucmd->tail = handle;
	ucmd->tail = &handle->next;
	*out_fd = fd;
	return 0;

err_fd:
	put_unused_fd(fd);
err_put:
	if (handle->badge)
		kosdma_object_put(handle->badge);
	kosdma_object_put(obj);
	if (handle->owner)
		kosdma_process_put(handle->owner);
err_user:
	if (handle->user)
		kosdma_user_uncount_objects(handle->user, 1);
err_free:
	if (parent)
		kfree(handle);
	return ret;
}

/* The last step of an ioctl that made a handle. Cannot fail. */
void kosdma_handle_publish(struct kosdma_handle *handle)
{
	if (!handle->parent)
		kosdma_object_list(handle->obj);
	fd_install(handle->fd, handle->file);
}

/* The ioctl failed after all: nobody has seen the handle. */
void kosdma_handle_abort(struct kosdma_handle *handle)
{
	struct kosdma_object *obj = handle->obj;

	if (obj->ops->close)
		obj->ops->close(obj);
	put_unused_fd(handle->fd);
	fput(handle->file);
}

/* --- lookup --------------------------------------------------------------- */

/*
 * The handle behind a descriptor, whatever its state; its file is held. The
 * file keeps handle->file valid, so no lock is needed to read it.
 */
static struct kosdma_handle *kosdma_handle_fget(int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op != &kosdma_handle_fops) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	/* A spare file may have been put to use at this number just now: see whose it is now. */
	smp_rmb();
	return file->private_data;
}

/* The one order of checks: alive, type, process, right. */
static int kosdma_handle_check(struct kosdma_handle *handle, u32 types, u32 rights)
{
	struct kosdma_object *obj = handle->obj;
	int ended = READ_ONCE(obj->ended);

	if (READ_ONCE(handle->revoked) || ended == KOSDMA_REVOKED)
		return -EKEYREVOKED;
	if (!obj->ops->transferable && ended)
		return -EBADF;
	if (!(types & BIT(obj->ops->type)))
		return -EINVAL;
	if (handle->owner && !kosdma_process_is_current(handle->owner))
		return -EACCES;
	if (rights & ~handle->rights)
		return -EACCES;
	return 0;
}

/* The call under way reaches the object: a revoke may not end it below the call. */
static int kosdma_handle_reach(struct kosdma_handle *handle)
{
	struct kosdma_object *obj = handle->obj;
	int ret = -EKEYREVOKED;

	mutex_lock(&obj->tree);
	if (!handle->revoked) {
		obj->reach++;
		ret = 0;
	}
	mutex_unlock(&obj->tree);
	return ret;
}

/**
 * kosdma_handle_look() - the handle that a descriptor of the caller names
 * @fd: descriptor
 * @types: types that it may have: bits numbered by enum kosdma_handle_type
 * @rights: rights that it must have
 *
 * A revoke may come at any time, and its object may end then.
 *
 * Return: the handle, whose file is to be given back by fput(); or -EBADF,
 * -EKEYREVOKED, -EINVAL, -EACCES.
 */
struct kosdma_handle *kosdma_handle_look(int fd, u32 types, u32 rights)
{
	struct kosdma_handle *handle = kosdma_handle_fget(fd);
	int ret;

	if (IS_ERR(handle))
		return handle;
	ret = kosdma_handle_check(handle, types, rights);
	if (ret) {
		fput(handle->file);
		return ERR_PTR(ret);
	}
	return handle;
}

/**
 * kosdma_handle_get_types() - the same, and its object does not end
 * @fd: descriptor
 * @types: types that it may have: bits numbered by enum kosdma_handle_type
 * @rights: rights that it must have
 *
 * Return: the handle, to be given back by kosdma_handle_put(); or -EBADF,
 * -EKEYREVOKED, -EINVAL, -EACCES.
 */
struct kosdma_handle *kosdma_handle_get_types(int fd, u32 types, u32 rights)
{
	struct kosdma_handle *handle = kosdma_handle_look(fd, types, rights);
	int ret;

	if (IS_ERR(handle))
		return handle;
	ret = kosdma_handle_reach(handle);
	if (ret) {
		fput(handle->file);
		return ERR_PTR(ret);
	}
	return handle;
}

/* Undo kosdma_handle_get_types(). Called without locks. May end the object. */
void kosdma_handle_put(struct kosdma_handle *handle)
{
	kosdma_object_unpin(handle->obj);
	fput(handle->file);
}

/* --- the file ------------------------------------------------------------- */

/*
 * The handle has no file any more; its object may be @over. Returns the object's
 * memory if that was all of it.
 */
static void *kosdma_handle_closed(struct kosdma_handle *handle, bool over)
{
	struct kosdma_object *obj = kosdma_object_get(handle->obj);
	struct kosdma_handle *dead;
	bool last = false;

	mutex_lock(&obj->tree);
	/* A handle that was never entered into the tree has no file in it. */
	if (handle->file && !handle->revoked)
		last = kosdma_object_unreach_locked(obj);
	handle->file = NULL;
	dead = kosdma_handle_reap_locked(handle);
	mutex_unlock(&obj->tree);

	if (last && !over)
		kosdma_object_end(obj);
	kosdma_handle_free(dead);
	return kosdma_object_put_memory(obj) ? obj : NULL;
}

static int kosdma_handle_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		kfree(kosdma_handle_closed(file->private_data, false));
	return 0;
}

static __poll_t kosdma_handle_poll(struct file *file, poll_table *wait)
{
	struct kosdma_handle *handle;

	/* As in kosdma_handle_fget(): a spare file may have been put to use just now. */
	smp_rmb();
	handle = file->private_data;
	poll_wait(file, &handle->obj->wait, wait);
	/* Pairs with wq_has_sleeper(); poll_wait() has no barrier in each kernel. */
	smp_mb();
	if (READ_ONCE(handle->revoked) || READ_ONCE(handle->obj->ended))
		return EPOLLHUP;
	return READ_ONCE(handle->obj->events);
}

#ifdef CONFIG_PROC_FS
static void kosdma_handle_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct kosdma_handle *handle = file->private_data;
	struct kosdma_object *obj = handle->obj;
	unsigned int uses;

	mutex_lock(&obj->tree);
	uses = handle->nuses;
	mutex_unlock(&obj->tree);
	seq_printf(m, "kosdma-type:\t%s\n", obj->ops->name);
	seq_printf(m, "kosdma-sid:\t%u\n", obj->sid);
	seq_printf(m, "kosdma-rights:\t%#x\n", handle->rights);
	seq_printf(m, "kosdma-state:\t%s\n",
		   READ_ONCE(handle->revoked) || READ_ONCE(obj->ended) == KOSDMA_REVOKED ?
			   "revoked" : READ_ONCE(obj->ended) ? "ended" : "live");
	seq_printf(m, "kosdma-user:\t%u\n", kosdma_user_id(obj->user, seq_user_ns(m)));
	if (handle->owner)
		seq_printf(m, "kosdma-owner:\t%d\n", kosdma_process_shown_pid(handle->owner));
	seq_printf(m, "kosdma-badge:\t%u\n", handle->badge ? handle->badge->sid : 0);
	seq_printf(m, "kosdma-uses:\t%u\n", uses);
	if (obj->ops->show)
		obj->ops->show(m, obj);
}
#endif

static const struct file_operations kosdma_handle_fops = {
	.owner = THIS_MODULE,
	.release = kosdma_handle_release,
	.poll = kosdma_handle_poll,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = kosdma_handle_show_fdinfo,
#endif
};

/* --- ioctls --------------------------------------------------------------- */

/* End a private object as its owner wants it: at once, and whoever has copies of the file. */
static void kosdma_handle_close_object(struct kosdma_handle *handle)
{
	struct kosdma_object *obj = handle->obj;

	if (!handle->owner || !kosdma_process_is_current(handle->owner))
		return;
	if (obj->ops->close)
		obj->ops->close(obj);
	obj->ops->end(obj, KOSDMA_ENDED);
}

int kosdma_ioctl_handle_close(struct kosdma_ucmd *ucmd)
{
	struct kosdma_handle_close *cmd = ucmd->cmd;
	struct kosdma_handle *handle;

	handle = kosdma_handle_fget(cmd->handle);
	if (IS_ERR(handle))
		return PTR_ERR(handle);
	kosdma_handle_close_object(handle);
	kosdma_handle_close_fd(ucmd, cmd->handle, handle->file);
	return 0;
}

/*
 * As if each were closed by itself, one after the other: what is wrong with one
 * keeps none from being closed. Only the flush is shared, by accesses that
 * follow each other and are of one domain.
 */
int kosdma_ioctl_handle_close_many(struct kosdma_ucmd *ucmd)
{
	struct kosdma_handle_close_many *cmd = ucmd->cmd;
	struct kosdma_handle *handle, *ended = NULL;
	struct kosdma_ending ending;
	s32 fds[KOSDMA_BATCH_MAX];
	int ret = 0;
	u32 i;

	if (!cmd->count || cmd->count > KOSDMA_BATCH_MAX)
		return -EINVAL;
	if (copy_from_user(fds, u64_to_user_ptr(cmd->handles), cmd->count * sizeof(*fds)))
		return -EFAULT;
	kosdma_ending_init(&ending, KOSDMA_ENDED);
	for (i = 0; i < cmd->count; i++) {
		cond_resched();
		handle = kosdma_handle_fget(fds[i]);
		if (IS_ERR(handle)) {
			fds[i] = KOSDMA_NO_HANDLE;
			ret = -EBADF;
			continue;
		}
		if (handle->obj->ops->type != KOSDMA_HANDLE_ACCESS) {
			kosdma_ending_finish(&ending);
			kosdma_handle_close_object(handle);
		} else if (kosdma_process_is_current(handle->owner)) {
			if (kosdma_ending_add(&ending, to_access(handle->obj))) {
				/* Only one is told so: ours to chain. The file is held. */
				handle->fd = fds[i];
				handle->next = ended;
				ended = handle;
				fds[i] = KOSDMA_NO_HANDLE;
				continue;
			}
			/* Wait for whoever ends it, with no lock. */
			kosdma_ending_finish(&ending);
			kosdma_handle_close_object(handle);
		}
		fput(handle->file);
	}
	kosdma_ending_finish(&ending);
	while ((handle = ended)) {
		ended = handle->next;
		if (kosdma_handle_close_fd(ucmd, handle->fd, handle->file))
			ret = -EBADF;
	}
	for (i = 0; i < cmd->count; i++) {
		if (fds[i] == KOSDMA_NO_HANDLE)
			continue;
		handle = kosdma_handle_fget(fds[i]);
		if (IS_ERR(handle) || kosdma_handle_close_fd(ucmd, fds[i], handle->file))
			ret = -EBADF;
	}
	return ret;
}

int kosdma_ioctl_handle_revoke(struct kosdma_ucmd *ucmd)
{
	struct kosdma_handle_revoke *cmd = ucmd->cmd;
	struct kosdma_handle *handle, *badge = NULL;

	switch (cmd->flags) {
	case 0:
	case KOSDMA_REVOKE_CLOSE:
		if (cmd->badge != KOSDMA_NO_HANDLE)
			return -EINVAL;
		break;
	case KOSDMA_REVOKE_BADGE:
		if (cmd->badge == KOSDMA_NO_HANDLE)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}

	handle = kosdma_handle_get_types(cmd->handle, KOSDMA_ANY_TYPE, 0);
	if (IS_ERR(handle))
		return PTR_ERR(handle);
	if (cmd->flags & KOSDMA_REVOKE_BADGE) {
		badge = kosdma_handle_get(cmd->badge, KOSDMA_HANDLE_BADGE, 0);
		if (IS_ERR(badge)) {
			kosdma_handle_put(handle);
			return PTR_ERR(badge);
		}
	}

	kosdma_handle_revoke(handle, badge ? badge->obj : NULL);

	if (badge)
		kosdma_handle_put(badge);
	if (cmd->flags & KOSDMA_REVOKE_CLOSE)
		kosdma_handle_close_object(handle);
	kosdma_handle_put(handle);
	if (cmd->flags & KOSDMA_REVOKE_CLOSE)
		close_fd(cmd->handle);
	return 0;
}

int kosdma_ioctl_handle_copy(struct kosdma_ucmd *ucmd)
{
	struct kosdma_handle_copy *cmd = ucmd->cmd;
	struct kosdma_handle *handle, *badge = NULL;
	int ret;

	if (cmd->flags & ~KOSDMA_COPY_TRANSFER)
		return -EINVAL;
	handle = kosdma_handle_get_types(cmd->handle, KOSDMA_ANY_TYPE, 0);
	if (IS_ERR(handle))
		return PTR_ERR(handle);

	if (!handle->obj->ops->transferable) {
		ret = -EACCES;
		goto out_handle;
	}
	ret = kosdma_rights_copy(handle->rights, handle->obj->ops->rights, cmd->flags,
				 cmd->rights);
	if (ret)
		goto out_handle;
	if (cmd->badge != KOSDMA_NO_HANDLE) {
		badge = kosdma_handle_get(cmd->badge, KOSDMA_HANDLE_BADGE, 0);
		if (IS_ERR(badge)) {
			ret = PTR_ERR(badge);
			goto out_handle;
		}
	}
	ret = kosdma_handle_create(ucmd, handle->obj, cmd->rights, handle,
				   badge ? badge->obj : NULL, &cmd->out_handle);
	if (!ret)
		trace_handle_copy(ucmd->new);
	if (badge)
		kosdma_handle_put(badge);
out_handle:
	kosdma_handle_put(handle);
	return ret;
}

int kosdma_ioctl_handle_info(struct kosdma_ucmd *ucmd)
{
	struct kosdma_handle_info *cmd = ucmd->cmd;
	struct kosdma_handle *handle;

	if (cmd->__reserved)
		return -EINVAL;
	handle = kosdma_handle_get_types(cmd->handle, KOSDMA_ANY_TYPE, 0);
	if (IS_ERR(handle))
		return PTR_ERR(handle);
	cmd->out_type = handle->obj->ops->type;
	cmd->out_rights = handle->rights;
	cmd->out_sid = handle->rights & KOSDMA_RIGHT_GET_SID ? handle->obj->sid : 0;
	kosdma_handle_put(handle);
	return 0;
}

/* --- badges: objects that only mark copies --------------------------------- */

static void kosdma_badge_end(struct kosdma_object *obj, enum kosdma_end how)
{
	kosdma_object_set_ended(obj, how);
}

static const struct kosdma_object_ops kosdma_badge_ops = {
	.type = KOSDMA_HANDLE_BADGE,
	.name = "[kosdma-badge]",
	.end = kosdma_badge_end,
};

int kosdma_ioctl_badge_create(struct kosdma_ucmd *ucmd)
{
	struct kosdma_badge_create *cmd = ucmd->cmd;
	struct kosdma_object *badge;
	int ret;

	badge = kzalloc(sizeof(*badge), GFP_KERNEL_ACCOUNT);
	if (!badge)
		return -ENOMEM;
	ret = kosdma_object_init(badge, &kosdma_badge_ops, NULL);
	if (ret) {
		kfree(badge);
		return ret;
	}
	trace_badge_create(badge);
	ret = kosdma_handle_create(ucmd, badge, KOSDMA_RIGHT_GET_SID, NULL, NULL,
				   &cmd->out_handle);
	kosdma_object_put(badge);
	return ret;
}
