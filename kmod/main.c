// SPDX-License-Identifier: GPL-2.0-only
/*
 * kosdma: DMA buffers, IOMMU domains and device registers for drivers in user
 * space, after the driver API of KasperskyOS
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "coverage.h"
#include "kosdma.h"

/* Anybody may open it: every operation checks for itself. */
static struct miscdevice kosdma_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kosdma",
	.fops = &kosdma_fops,
	.mode = 0666,
};

static int __init kosdma_init(void)
{
	int ret;

	kosdma_event_init();
	ret = kosdma_process_init();
	if (ret)
		return ret;
	ret = kosdma_grant_init();
	if (ret)
		goto err_process;
	ret = kosdma_device_init();
	if (ret)
		goto err_grant;
	ret = kosdma_netlink_init();
	if (ret)
		goto err_device;
	/* From here on user space is in, and would not be waited for. */
	ret = misc_register(&kosdma_misc);
	if (ret)
		goto err_netlink;
	kosdma_buffer_init(kosdma_misc.this_device);
	return 0;

err_netlink:
	kosdma_netlink_exit();
err_device:
	kosdma_device_exit();
err_grant:
	kosdma_grant_exit();
err_process:
	kosdma_process_exit();
	return ret;
}

/* Only reached when no file, no attachment and no suspect page is left. */
static void __exit kosdma_exit(void)
{
	kosdma_netlink_exit();
	misc_deregister(&kosdma_misc);
	kosdma_process_exit();
	kosdma_device_exit();
	kosdma_quarantine_exit();
	kosdma_grant_exit();
	kosdma_object_exit();
	kosdma_coverage_tell();
}

module_init(kosdma_init);
module_exit(kosdma_exit);

MODULE_DESCRIPTION("DMA buffers, IOMMU domains and device registers for user-space drivers");
MODULE_LICENSE("GPL");
