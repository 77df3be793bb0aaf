// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctl table and its dispatcher
 *
 * A handler gets its struct in kernel memory, returns 0 or an errno, and may
 * leave new handles in the command. The dispatcher copies the result out and
 * then publishes the handles, which cannot fail; or aborts them.
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "kosdma.h"
#include "trace.h"

static int kosdma_ioctl_info(struct kosdma_ucmd *ucmd)
{
	struct kosdma_info *cmd = ucmd->cmd;

	cmd->out_abi = 1;
	cmd->out_features = 0;
	if (kosdma_machine_translates())
		cmd->out_features |= KOSDMA_FEATURE_TRANSLATION;
	if (kosdma_direct_allowed())
		cmd->out_features |= KOSDMA_FEATURE_DIRECT;
	cmd->out_page_shift = PAGE_SHIFT;
	cmd->out_max_block_order = KOSDMA_MAX_BLOCK_ORDER;
	cmd->out_max_objects = kosdma_max_objects();
	return 0;
}

/* Room for the largest struct. */
union kosdma_cmd {
	struct kosdma_info info;
	struct kosdma_buffer_create buffer_create;
	struct kosdma_buffer_modify buffer_modify;
	struct kosdma_buffer_map buffer_map;
	struct kosdma_access_begin access_begin;
	struct kosdma_access_begin_many access_begin_many;
	struct kosdma_access_info access_info;
	struct kosdma_domain_create domain_create;
	struct kosdma_device_attach device_attach;
	struct kosdma_device_set_dma_mask device_set_dma_mask;
	struct kosdma_device_info device_info;
	struct kosdma_region_register region_register;
	struct kosdma_region_map region_map;
	struct kosdma_handle_close handle_close;
	struct kosdma_handle_close_many handle_close_many;
	struct kosdma_handle_revoke handle_revoke;
	struct kosdma_handle_copy handle_copy;
	struct kosdma_handle_info handle_info;
	struct kosdma_badge_create badge_create;
};

/**
 * struct kosdma_ioctl - one ioctl
 * @cmd: full number
 * @size: of its struct
 * @min_size: of the first version of its struct
 * @replies: the struct has results; without, user space may keep it in
 *	read-only memory, and nothing can fail once the handler is done
 * @handler: does it
 */
struct kosdma_ioctl {
	unsigned int cmd;
	u32 size;
	u32 min_size;
	bool replies;
	int (*handler)(struct kosdma_ucmd *ucmd);
};

#define KOSDMA_IOCTL(_cmd, _handler, _struct, _last, _replies)				\
	[_IOC_NR(_cmd)] = {								\
		.cmd = _cmd,								\
		.size = sizeof(struct _struct) +					\
			BUILD_BUG_ON_ZERO(sizeof(union kosdma_cmd) < sizeof(struct _struct)), \
		.min_size = offsetofend(struct _struct, _last),				\
		.replies = _replies,							\
		.handler = _handler,							\
	}

static const struct kosdma_ioctl kosdma_ioctls[] = {
	KOSDMA_IOCTL(KOSDMA_INFO, kosdma_ioctl_info, kosdma_info, out_max_objects, true),
	KOSDMA_IOCTL(KOSDMA_BUFFER_CREATE, kosdma_ioctl_buffer_create, kosdma_buffer_create,
		     __reserved, true),
	KOSDMA_IOCTL(KOSDMA_BUFFER_MODIFY, kosdma_ioctl_buffer_modify, kosdma_buffer_modify,
		     __reserved, false),
	KOSDMA_IOCTL(KOSDMA_BUFFER_MAP, kosdma_ioctl_buffer_map, kosdma_buffer_map, __reserved2,
		     true),
	KOSDMA_IOCTL(KOSDMA_ACCESS_BEGIN, kosdma_ioctl_access_begin, kosdma_access_begin,
		     out_handle, true),
	KOSDMA_IOCTL(KOSDMA_ACCESS_INFO, kosdma_ioctl_access_info, kosdma_access_info, out_state,
		     true),
	KOSDMA_IOCTL(KOSDMA_DOMAIN_CREATE, kosdma_ioctl_domain_create, kosdma_domain_create,
		     out_handle, true),
	KOSDMA_IOCTL(KOSDMA_DEVICE_ATTACH, kosdma_ioctl_device_attach, kosdma_device_attach,
		     __reserved, false),
	KOSDMA_IOCTL(KOSDMA_DEVICE_DETACH, kosdma_ioctl_device_detach, kosdma_device_attach,
		     __reserved, false),
	KOSDMA_IOCTL(KOSDMA_DEVICE_SET_DMA_MASK, kosdma_ioctl_device_set_dma_mask,
		     kosdma_device_set_dma_mask, mask, false),
	KOSDMA_IOCTL(KOSDMA_REGION_REGISTER, kosdma_ioctl_region_register,
		     kosdma_region_register, __reserved, true),
	KOSDMA_IOCTL(KOSDMA_REGION_MAP, kosdma_ioctl_region_map, kosdma_region_map, __reserved,
		     true),
	KOSDMA_IOCTL(KOSDMA_HANDLE_CLOSE, kosdma_ioctl_handle_close, kosdma_handle_close, handle,
		     false),
	KOSDMA_IOCTL(KOSDMA_HANDLE_REVOKE, kosdma_ioctl_handle_revoke, kosdma_handle_revoke,
		     badge, false),
	KOSDMA_IOCTL(KOSDMA_HANDLE_COPY, kosdma_ioctl_handle_copy, kosdma_handle_copy,
		     out_handle, true),
	KOSDMA_IOCTL(KOSDMA_HANDLE_INFO, kosdma_ioctl_handle_info, kosdma_handle_info,
		     __reserved, true),
	KOSDMA_IOCTL(KOSDMA_BADGE_CREATE, kosdma_ioctl_badge_create, kosdma_badge_create,
		     out_handle, true),
	KOSDMA_IOCTL(KOSDMA_DEVICE_INFO, kosdma_ioctl_device_info, kosdma_device_info, __reserved,
		     true),
	KOSDMA_IOCTL(KOSDMA_ACCESS_BEGIN_MANY, kosdma_ioctl_access_begin_many,
		     kosdma_access_begin_many, out_failed, true),
	KOSDMA_IOCTL(KOSDMA_HANDLE_CLOSE_MANY, kosdma_ioctl_handle_close_many,
		     kosdma_handle_close_many, handles, false),
};

/* The caller, looked up once for each ioctl; or an error pointer of kosdma_process_current(). */
struct kosdma_process *kosdma_ucmd_process(struct kosdma_ucmd *ucmd)
{
	struct kosdma_process *process = ucmd->process;

	if (!process) {
		process = kosdma_process_current();
		if (!IS_ERR(process))
			ucmd->process = process;
	}
	return process;
}

static int kosdma_dispatch(struct kosdma_spares *spares, unsigned int nr, unsigned long arg)
{
	void __user *ubuf = (void __user *)arg;
	struct kosdma_ucmd ucmd = { .tail = &ucmd.new, .spares = spares };
	const struct kosdma_ioctl *op;
	struct kosdma_handle *handle;
	union kosdma_cmd cmd;
	u32 usize;
	int ret;

	if (_IOC_NR(nr) >= ARRAY_SIZE(kosdma_ioctls) || nr != kosdma_ioctls[_IOC_NR(nr)].cmd)
		return -ENOTTY;
	op = &kosdma_ioctls[array_index_nospec(_IOC_NR(nr), ARRAY_SIZE(kosdma_ioctls))];

	if (get_user(usize, (u32 __user *)ubuf))
		return -EFAULT;
	if (usize < op->min_size)
		return -EINVAL;
	/* No struct gets that long; and its tail is not worth the walk. */
	if (usize > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&cmd, op->size, ubuf, usize);
	if (ret)
		return ret;

	ucmd.cmd = &cmd;
	ret = op->handler(&ucmd);
	/* The size field stays what user space wrote, also if it changed since. */
	if (op->replies && (!ret || ucmd.tell) &&
	    copy_to_user(ubuf + sizeof(u32), (u8 *)&cmd + sizeof(u32),
			 min(usize, op->size) - sizeof(u32)) && !ret)
		ret = -EFAULT;
	while ((handle = ucmd.new)) {
		ucmd.new = handle->next;
		if (ret)
			kosdma_handle_abort(handle);
		else
			kosdma_handle_publish(handle);
	}
	if (ucmd.spare)
		fput(ucmd.spare);
	if (ucmd.process)
		kosdma_process_put(ucmd.process);
	return ret;
}

static long kosdma_unlocked_ioctl(struct file *file, unsigned int nr, unsigned long arg)
{
	int ret = kosdma_dispatch(file->private_data, nr, arg);

	trace_ioctl_refuse(nr, ret);
	return ret;
}

/*
 * The descriptor has no state, for a process is known by its mm: it keeps spare
 * parts, and the mappings' file system.
 */
static int kosdma_open(struct inode *inode, struct file *file)
{
	int ret = kosdma_mapping_fs_get();

	if (ret)
		return ret;
	file->private_data = kosdma_spares_new();
	if (!file->private_data) {
		kosdma_mapping_fs_put();
		return -ENOMEM;
	}
	return nonseekable_open(inode, file);
}

static int kosdma_release(struct inode *inode, struct file *file)
{
	kosdma_spares_free(file->private_data);
	kosdma_mapping_fs_put();
	return 0;
}

#ifdef CONFIG_PROC_FS
static void kosdma_show_fdinfo(struct seq_file *m, struct file *file)
{
	seq_printf(m, "kosdma-quarantined:\t%lu\n", kosdma_quarantine_pages());
}
#endif

const struct file_operations kosdma_fops = {
	.owner = THIS_MODULE,
	.open = kosdma_open,
	.release = kosdma_release,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = kosdma_show_fdinfo,
#endif
	.unlocked_ioctl = kosdma_unlocked_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
