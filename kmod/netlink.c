// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family: see devices, give and take grants
 *
 * Documentation/netlink/specs/kosdma.yaml is the interface; netlink-gen.[ch]
 * are made from it. The family is in the initial network namespace only, since
 * a device belongs to none.
 *
 * Whether somebody may see or do something is decided when the request comes,
 * by who sends it and by who opened the socket: both must be privileged, so
 * that no privileged program can be made to write a request, or to read the
 * rest of a dump, by giving it a socket as its output or input.
 */
#include <linux/cred.h>
#include <linux/net.h>
#include <linux/notifier.h>
#include <linux/pid_namespace.h>
#include <linux/user_namespace.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "kosdma.h"
#include "netlink-gen.h"

static struct genl_family kosdma_nl_family __ro_after_init = {
	.name = KOSDMA_FAMILY_NAME,
	.version = KOSDMA_FAMILY_VERSION,
	.module = THIS_MODULE,
	.parallel_ops = true,
};

/* Changes with the set of PCI functions. */
static atomic_t kosdma_pci_changes = ATOMIC_INIT(1);

/* --- who asks -------------------------------------------------------------- */

/**
 * struct kosdma_viewer - who asks, and what it may see
 * @cred: its credentials, with a reference; NULL if it may only see what
 *	anybody may
 * @admin: it may see everything
 * @pids: it is in the initial PID namespace, where the numbers mean something
 */
struct kosdma_viewer {
	const struct cred *cred;
	bool admin;
	bool pids;
};

static void kosdma_viewer_get(struct kosdma_viewer *viewer, const struct sk_buff *skb)
{
	const struct cred *opener = NETLINK_CB(skb).sk->sk_socket->file->f_cred;

	viewer->admin = netlink_capable(skb, CAP_SYS_ADMIN);
	viewer->pids = task_active_pid_ns(current) == &init_pid_ns;
	viewer->cred = NULL;
	if (viewer->admin || uid_eq(opener->euid, current_euid()))
		viewer->cred = get_current_cred();
}

static void kosdma_viewer_put(struct kosdma_viewer *viewer)
{
	if (viewer->cred)
		put_cred(viewer->cred);
}

static bool kosdma_viewer_owns(const struct kosdma_viewer *viewer, kuid_t uid)
{
	return viewer->admin || (viewer->cred && uid_eq(viewer->cred->euid, uid));
}

/* --- dumps ------------------------------------------------------------------ */

/**
 * struct kosdma_dump - a dump in progress, in the context of its callback
 * @viewer: for whom
 * @grant: grants: the last one that was looked at
 * @index: devices: how many were looked at
 */
struct kosdma_dump {
	struct kosdma_viewer viewer;
	union {
		struct kosdma_grant_key grant;
		unsigned int index;
	};
};

static_assert(sizeof(struct kosdma_dump) <= sizeof_field(struct netlink_callback, ctx));

static struct kosdma_dump *kosdma_dump(struct netlink_callback *cb)
{
	return (struct kosdma_dump *)cb->ctx;
}

int kosdma_nl_dump_start(struct netlink_callback *cb)
{
	kosdma_viewer_get(&kosdma_dump(cb)->viewer, cb->skb);
	return 0;
}

int kosdma_nl_dump_done(struct netlink_callback *cb)
{
	kosdma_viewer_put(&kosdma_dump(cb)->viewer);
	return 0;
}

/*
 * Where a do and a dump share a policy, it lets the attributes of the do pass.
 * Not in the start: there, old kernels have no place for the message.
 */
static int kosdma_dump_check(struct netlink_callback *cb)
{
	if (!nlmsg_attrlen(cb->nlh, GENL_HDRLEN))
		return 0;
	NL_SET_ERR_MSG(cb->extack, "this dump takes no attributes");
	return -EINVAL;
}

/* The header of one more object of a dump, or NULL if there is no room. */
static void *kosdma_dump_put(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd)
{
	void *hdr;

	hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &kosdma_nl_family,
			  NLM_F_MULTI, cmd);
	if (hdr)
		genl_dump_check_consistent(cb, hdr);
	return hdr;
}

/* --- devices ------------------------------------------------------------------ */

/**
 * struct kosdma_device_view - what is told of a PCI function
 * @address: its address
 * @state: see enum kosdma_nl_device_state
 * @driver: name of its driver, maybe empty
 * @group: number of its IOMMU group, or negative
 * @owner: the viewer may see who holds it
 * @pid: if @owner
 * @uid: if @owner
 */
struct kosdma_device_view {
	u32 address;
	u32 state;
	char driver[32];
	int group;
	bool owner;
	pid_t pid;
	kuid_t uid;
};

static int kosdma_device_look(struct kosdma_device_view *view, struct pci_dev *pdev,
			      const struct kosdma_viewer *viewer)
{
	struct iommu_group *iommu;
	struct kosdma_device *dev;
	int ret;

	/* Not below the device lock of ours: the core's is outside of it. */
	ret = device_lock_interruptible(&pdev->dev);
	if (ret)
		return ret;
	strscpy(view->driver, pdev->dev.driver ? pdev->dev.driver->name : "",
		sizeof(view->driver));
	device_unlock(&pdev->dev);

	view->state = 0;
	view->group = -1;
	view->owner = false;
	iommu = iommu_group_get(&pdev->dev);
	if (iommu) {
		view->group = iommu_group_id(iommu);
		iommu_group_put(iommu);
	}
	if (device_iommu_mapped(&pdev->dev))
		view->state |= KOSDMA_NL_DEVICE_TRANSLATED;
	if (viewer->cred && kosdma_grant_allows(viewer->cred, view->address))
		view->state |= KOSDMA_NL_DEVICE_GRANTED;

	dev = kosdma_device_find(view->address);
	if (!dev)
		return 0;
	mutex_lock(&dev->group->lock);
	if (!dev->gone)
		view->state |= KOSDMA_NL_DEVICE_BOUND;
	if (dev->attached)
		view->state |= KOSDMA_NL_DEVICE_ATTACHED;
	if (dev->group->holder) {
		const struct kosdma_process *holder = dev->group->holder;

		view->state |= KOSDMA_NL_DEVICE_HELD;
		view->owner = kosdma_viewer_owns(viewer, holder->uid);
		view->pid = holder->pid;
		view->uid = holder->uid;
	}
	mutex_unlock(&dev->group->lock);
	kosdma_device_put(dev);
	return 0;
}

static int kosdma_device_fill(struct sk_buff *skb, const struct kosdma_device_view *view,
			      const struct kosdma_viewer *viewer)
{
	if (nla_put_u32(skb, KOSDMA_A_DEVICE_ADDRESS, view->address) ||
	    nla_put_u32(skb, KOSDMA_A_DEVICE_STATE, view->state))
		return -EMSGSIZE;
	if (view->driver[0] && nla_put_string(skb, KOSDMA_A_DEVICE_DRIVER, view->driver))
		return -EMSGSIZE;
	if (view->group >= 0 && nla_put_u32(skb, KOSDMA_A_DEVICE_IOMMU_GROUP, view->group))
		return -EMSGSIZE;
	if (!view->owner)
		return 0;
	if (viewer->pids && nla_put_u32(skb, KOSDMA_A_DEVICE_OWNER_PID, view->pid))
		return -EMSGSIZE;
	if (nla_put_u32(skb, KOSDMA_A_DEVICE_OWNER_UID,
			from_kuid_munged(viewer->cred->user_ns, view->uid)))
		return -EMSGSIZE;
	return 0;
}

int kosdma_nl_device_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct kosdma_device_view view;
	struct kosdma_viewer viewer;
	struct pci_dev *pdev;
	struct sk_buff *msg;
	void *hdr;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, KOSDMA_A_DEVICE_ADDRESS)) {
		NL_SET_ERR_MSG(info->extack, "which device? the address is missing");
		return -EINVAL;
	}
	view.address = nla_get_u32(info->attrs[KOSDMA_A_DEVICE_ADDRESS]);
	pdev = kosdma_pci_dev_get(view.address);
	if (!pdev) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[KOSDMA_A_DEVICE_ADDRESS],
				    "there is no such PCI function");
		return -ENODEV;
	}
	kosdma_viewer_get(&viewer, skb);
	ret = kosdma_device_look(&view, pdev, &viewer);
	if (ret)
		goto out;
	ret = -ENOMEM;
	msg = genlmsg_new(NLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg)
		goto out;
	hdr = genlmsg_put_reply(msg, info, &kosdma_nl_family, 0, KOSDMA_CMD_DEVICE_GET);
	ret = hdr ? kosdma_device_fill(msg, &view, &viewer) : -EMSGSIZE;
	if (ret) {
		nlmsg_free(msg);
		goto out;
	}
	genlmsg_end(msg, hdr);
	ret = genlmsg_reply(msg, info);
out:
	kosdma_viewer_put(&viewer);
	pci_dev_put(pdev);
	return ret;
}

/* Positions are numbers in the order of the bus; if they shift, the dump says so. */
int kosdma_nl_device_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct kosdma_dump *dump = kosdma_dump(cb);
	struct kosdma_device_view view;
	struct pci_dev *pdev = NULL;
	unsigned int index = 0;
	int ret;

	ret = kosdma_dump_check(cb);
	if (ret)
		return ret;
	cb->seq = atomic_read(&kosdma_pci_changes) ?: 1;
	for_each_pci_dev(pdev) {
		void *hdr;

		if (index++ < dump->index)
			continue;
		if (kosdma_pci_address(pdev, &view.address)) {
			ret = kosdma_device_look(&view, pdev, &dump->viewer);
			if (ret)
				break;
			hdr = kosdma_dump_put(skb, cb, KOSDMA_CMD_DEVICE_GET);
			if (!hdr || kosdma_device_fill(skb, &view, &dump->viewer)) {
				if (hdr)
					genlmsg_cancel(skb, hdr);
				break;
			}
			genlmsg_end(skb, hdr);
		}
		dump->index = index;
	}
	pci_dev_put(pdev);
	return ret ?: skb->len;
}

/* --- grants -------------------------------------------------------------------- */

/* The grant that a request names; with neither user nor group it names all. */
static int kosdma_grant_parse(const struct sk_buff *skb, struct genl_info *info,
			      struct kosdma_grant_key *key)
{
	struct nlattr *uid = info->attrs[KOSDMA_A_GRANT_UID];
	struct nlattr *gid = info->attrs[KOSDMA_A_GRANT_GID];

	if (!netlink_capable(skb, CAP_SYS_ADMIN)) {
		NL_SET_ERR_MSG(info->extack,
			       "it takes CAP_SYS_ADMIN in the initial user namespace, of the sender and of who opened the socket");
		return -EPERM;
	}
	if (GENL_REQ_ATTR_CHECK(info, KOSDMA_A_GRANT_ADDRESS)) {
		NL_SET_ERR_MSG(info->extack, "which device? the address is missing");
		return -EINVAL;
	}
	if (uid && gid) {
		NL_SET_ERR_MSG_ATTR(info->extack, gid,
				    "a grant names a user or a group, not both");
		return -EINVAL;
	}
	key->address = nla_get_u32(info->attrs[KOSDMA_A_GRANT_ADDRESS]);
	key->kind = KOSDMA_GRANT_ANY;
	key->id = 0;
	if (uid) {
		kuid_t kuid = make_kuid(&init_user_ns, nla_get_u32(uid));

		if (!uid_valid(kuid)) {
			NL_SET_ERR_MSG_ATTR(info->extack, uid, "no user has this number");
			return -EINVAL;
		}
		key->kind = KOSDMA_GRANT_USER;
		key->id = __kuid_val(kuid);
	} else if (gid) {
		kgid_t kgid = make_kgid(&init_user_ns, nla_get_u32(gid));

		if (!gid_valid(kgid)) {
			NL_SET_ERR_MSG_ATTR(info->extack, gid, "no group has this number");
			return -EINVAL;
		}
		key->kind = KOSDMA_GRANT_GROUP;
		key->id = __kgid_val(kgid);
	}
	return 0;
}

int kosdma_nl_grant_add_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct kosdma_grant_key key;
	int ret;

	ret = kosdma_grant_parse(skb, info, &key);
	if (ret)
		return ret;
	if (key.kind == KOSDMA_GRANT_ANY) {
		NL_SET_ERR_MSG(info->extack, "to whom? a user or a group is missing");
		return -EINVAL;
	}
	ret = kosdma_grant_add(&key);
	if (ret == -ENODEV)
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[KOSDMA_A_GRANT_ADDRESS],
				    "there is no such PCI function");
	else if (ret == -EEXIST)
		NL_SET_ERR_MSG(info->extack, "it is granted already");
	return ret;
}

int kosdma_nl_grant_del_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct kosdma_grant_key key;
	int ret;

	ret = kosdma_grant_parse(skb, info, &key);
	if (ret)
		return ret;
	ret = kosdma_grant_del(&key);
	if (ret)
		NL_SET_ERR_MSG(info->extack, "there is no such grant");
	return ret;
}

static int kosdma_grant_fill(struct sk_buff *skb, const struct kosdma_grant_key *key,
			     struct user_namespace *ns)
{
	if (nla_put_u32(skb, KOSDMA_A_GRANT_ADDRESS, key->address))
		return -EMSGSIZE;
	if (key->kind == KOSDMA_GRANT_USER)
		return nla_put_u32(skb, KOSDMA_A_GRANT_UID,
				   from_kuid_munged(ns, KUIDT_INIT(key->id)));
	return nla_put_u32(skb, KOSDMA_A_GRANT_GID, from_kgid_munged(ns, KGIDT_INIT(key->id)));
}

int kosdma_nl_grant_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct kosdma_dump *dump = kosdma_dump(cb);
	struct kosdma_grant_key key = dump->grant;
	const struct cred *cred = dump->viewer.cred;
	int ret;

	ret = kosdma_dump_check(cb);
	if (ret)
		return ret;
	while (kosdma_grant_next(&key, &cb->seq)) {
		void *hdr;

		if (cred && (dump->viewer.admin || kosdma_grant_names(&key, cred))) {
			hdr = kosdma_dump_put(skb, cb, KOSDMA_CMD_GRANT_GET);
			if (!hdr || kosdma_grant_fill(skb, &key, cred->user_ns)) {
				if (hdr)
					genlmsg_cancel(skb, hdr);
				break;
			}
			genlmsg_end(skb, hdr);
		}
		dump->grant = key;
	}
	return skb->len;
}

/* --- the family -------------------------------------------------------------------- */

static int kosdma_pci_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	if (action == BUS_NOTIFY_ADD_DEVICE || action == BUS_NOTIFY_REMOVED_DEVICE)
		atomic_inc(&kosdma_pci_changes);
	return NOTIFY_DONE;
}

static struct notifier_block kosdma_pci_notifier = {
	.notifier_call = kosdma_pci_notify,
};

int __init kosdma_netlink_init(void)
{
	int ret;

	ret = bus_register_notifier(&pci_bus_type, &kosdma_pci_notifier);
	if (ret)
		return ret;
	ret = kosdma_genl_register(&kosdma_nl_family, kosdma_nl_ops, ARRAY_SIZE(kosdma_nl_ops));
	if (ret)
		bus_unregister_notifier(&pci_bus_type, &kosdma_pci_notifier);
	return ret;
}

void kosdma_netlink_exit(void)
{
	kosdma_genl_unregister(&kosdma_nl_family);
	bus_unregister_notifier(&pci_bus_type, &kosdma_pci_notifier);
}
