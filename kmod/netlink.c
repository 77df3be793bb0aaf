// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family: see devices, give and take grants, be told of
 * events; dump.c shows objects
 *
 * Documentation/netlink/specs/kosdma.yaml is the interface; netlink-gen.[ch]
 * are made from it. The family is in the initial network namespace only, since
 * a device belongs to none.
 *
 * Whether somebody may see or do something is decided when the request comes,
 * by who sends it and by who opened the socket: both must be privileged, so
 * that no privileged program can be made to write a request, or to read the
 * rest of a dump, by giving it a socket as its output or input. (One that names
 * the kernel as the destination knows what it does: see netlink_capable().)
 *
 * While a request is answered nobody can register or remove a generic netlink
 * family, so nothing here waits for a driver of the kernel's.
 */
#include <linux/cred.h>
#include <linux/net.h>
#include <linux/notifier.h>
#include <linux/pid_namespace.h>
#include <linux/security.h>
#include <linux/user_namespace.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "kosdma.h"
#include "netlink.h"

/* What somebody else's process holds is for the administrator. */
static const struct genl_multicast_group kosdma_nl_groups[] = {
	[KOSDMA_NLGRP_OBJECTS] = { .name = "objects", .flags = GENL_MCAST_CAP_SYS_ADMIN },
	[KOSDMA_NLGRP_DEVICES] = { .name = "devices", .flags = GENL_MCAST_CAP_SYS_ADMIN },
	[KOSDMA_NLGRP_FAULTS] = { .name = "faults", .flags = GENL_MCAST_CAP_SYS_ADMIN },
};

struct genl_family kosdma_nl_family __ro_after_init = {
	.name = KOSDMA_FAMILY_NAME,
	.version = KOSDMA_FAMILY_VERSION,
	.module = THIS_MODULE,
	.parallel_ops = true,
	.mcgrps = kosdma_nl_groups,
	.n_mcgrps = ARRAY_SIZE(kosdma_nl_groups),
};

#define KOSDMA_NL_NOT_ADMIN \
	"it takes CAP_SYS_ADMIN in the initial user namespace, of the sender and of who opened the socket"
#define KOSDMA_NL_NO_DEVICE "there is no such PCI function"
#define KOSDMA_NL_NO_MEMORY "out of memory"
#define KOSDMA_NL_TOO_LONG "the answer does not fit into one message"

bool kosdma_nl_on;

/* Changes with the set of PCI functions. */
static atomic_t kosdma_pci_changes = ATOMIC_INIT(1);

/* --- who asks -------------------------------------------------------------- */

static void kosdma_viewer_get(struct kosdma_viewer *viewer, const struct sk_buff *skb)
{
	const struct cred *opener = NETLINK_CB(skb).sk->sk_socket->file->f_cred;

	viewer->admin = netlink_capable(skb, CAP_SYS_ADMIN);
	viewer->raw = netlink_capable(skb, CAP_SYS_RAWIO) &&
		      !security_locked_down(LOCKDOWN_DEV_MEM);
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

bool kosdma_viewer_owns(const struct kosdma_viewer *viewer, kuid_t uid)
{
	return viewer->admin || (viewer->cred && uid_eq(viewer->cred->euid, uid));
}

/* --- dumps ------------------------------------------------------------------ */

int kosdma_nl_dump_start(struct netlink_callback *cb)
{
	kosdma_viewer_get(&kosdma_dump(cb)->viewer, cb->skb);
	return 0;
}

int kosdma_nl_object_dump_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = kosdma_dump_attrs(cb);
	struct kosdma_dump *dump = kosdma_dump(cb);

	kosdma_viewer_get(&dump->viewer, cb->skb);
	/* All nouns have these two at the same places. */
	dump->pid = attrs[KOSDMA_A_BUFFER_PID] ? nla_get_u32(attrs[KOSDMA_A_BUFFER_PID]) : 0;
	dump->address = KOSDMA_NO_ADDRESS;
	if (attrs[KOSDMA_A_BUFFER_DEVICE]) {
		dump->address = nla_get_u32(attrs[KOSDMA_A_BUFFER_DEVICE]);
		/* No function has it: that is how no filter looks. */
		if (dump->address == KOSDMA_NO_ADDRESS) {
			kosdma_viewer_put(&dump->viewer);
			NL_SET_ERR_MSG_ATTR(cb->extack, attrs[KOSDMA_A_BUFFER_DEVICE],
					    KOSDMA_NL_NO_DEVICE);
			return -ENODEV;
		}
	}
	return 0;
}

int kosdma_nl_handle_dump_start(struct netlink_callback *cb)
{
	struct kosdma_handle *cursor = kosdma_handle_cursor_new();
	int ret;

	if (!cursor) {
		NL_SET_ERR_MSG(cb->extack, KOSDMA_NL_NO_MEMORY);
		return -ENOMEM;
	}
	kosdma_dump(cb)->cursor = cursor;
	ret = kosdma_nl_object_dump_start(cb);
	/* Then nobody calls done. */
	if (ret)
		kosdma_handle_cursor_free(cursor);
	return ret;
}

int kosdma_nl_dump_done(struct netlink_callback *cb)
{
	kosdma_handle_cursor_free(kosdma_dump(cb)->cursor);
	kosdma_viewer_put(&kosdma_dump(cb)->viewer);
	return 0;
}

/* The header of one more object of a dump, or NULL if there is no room. */
void *kosdma_dump_put(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd)
{
	void *hdr;

	hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &kosdma_nl_family,
			  NLM_F_MULTI, cmd);
	if (hdr)
		genl_dump_check_consistent(cb, hdr);
	return hdr;
}

/* Whose something is; the number of the process only where it means something. */
int kosdma_put_owner(struct sk_buff *skb, const struct kosdma_viewer *viewer, int pid_attr,
		     pid_t pid, int uid_attr, kuid_t uid)
{
	if (viewer->pids && pid && nla_put_u32(skb, pid_attr, pid))
		return -EMSGSIZE;
	return nla_put_u32(skb, uid_attr, from_kuid_munged(viewer->cred->user_ns, uid));
}

/* --- replies ------------------------------------------------------------------ */

/* A reply in the making, or NULL. */
static struct sk_buff *kosdma_reply_new(struct genl_info *info, u8 cmd, void **hdr)
{
	struct sk_buff *msg = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);

	if (msg) {
		*hdr = genlmsg_put_reply(msg, info, &kosdma_nl_family, 0, cmd);
		if (*hdr)
			return msg;
		nlmsg_free(msg);
	}
	NL_SET_ERR_MSG(info->extack, KOSDMA_NL_NO_MEMORY);
	return NULL;
}

static int kosdma_reply_send(struct genl_info *info, struct sk_buff *msg, void *hdr, int ret)
{
	if (ret) {
		if (ret == -EMSGSIZE)
			NL_SET_ERR_MSG(info->extack, KOSDMA_NL_TOO_LONG);
		nlmsg_free(msg);
		return ret;
	}
	genlmsg_end(msg, hdr);
	return genlmsg_reply(msg, info);
}

/* For an operation without a policy, and for a dump whose do has one. */
static int kosdma_check_bare(const struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	if (!nlmsg_attrlen(nlh, GENL_HDRLEN))
		return 0;
	NL_SET_ERR_MSG(extack, "this request takes no attributes");
	return -EINVAL;
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
	char driver[KOSDMA_NAME_LEN];
	int group;
	bool owner;
	pid_t pid;
	kuid_t uid;
};

static void kosdma_device_look(struct kosdma_device_view *view, struct pci_dev *pdev,
			       const struct kosdma_viewer *viewer)
{
	struct iommu_group *iommu;
	struct kosdma_device *dev;

	kosdma_driver_name(pdev, view->driver);
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
		return;
	mutex_lock(&dev->group->lock);
	if (!dev->gone)
		view->state |= KOSDMA_NL_DEVICE_BOUND;
	if (dev->attached)
		view->state |= KOSDMA_NL_DEVICE_ATTACHED;
	if (dev->group->holder) {
		const struct kosdma_process *holder = dev->group->holder;

		view->state |= KOSDMA_NL_DEVICE_HELD;
		view->owner = kosdma_viewer_owns(viewer, holder->uid);
		/* That of a dead one may be another's by now. */
		view->pid = READ_ONCE(holder->dead) ? 0 : holder->pid;
		view->uid = holder->uid;
	}
	mutex_unlock(&dev->group->lock);
	kosdma_device_put(dev);
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
	return kosdma_put_owner(skb, viewer, KOSDMA_A_DEVICE_OWNER_PID, view->pid,
				KOSDMA_A_DEVICE_OWNER_UID, view->uid);
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
				    KOSDMA_NL_NO_DEVICE);
		return -ENODEV;
	}
	ret = -ENOMEM;
	msg = kosdma_reply_new(info, KOSDMA_CMD_DEVICE_GET, &hdr);
	if (!msg)
		goto out;
	kosdma_viewer_get(&viewer, skb);
	kosdma_device_look(&view, pdev, &viewer);
	ret = kosdma_device_fill(msg, &view, &viewer);
	kosdma_viewer_put(&viewer);
	ret = kosdma_reply_send(info, msg, hdr, ret);
out:
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

	ret = kosdma_check_bare(cb->nlh, cb->extack);
	if (ret)
		return ret;
	cb->seq = atomic_read(&kosdma_pci_changes) ?: 1;
	for_each_pci_dev(pdev) {
		void *hdr;

		if (index++ < dump->index)
			continue;
		if (kosdma_pci_address(pdev, &view.address)) {
			kosdma_device_look(&view, pdev, &dump->viewer);
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
	return skb->len;
}

/* --- grants -------------------------------------------------------------------- */

/* The grant that a request names; with neither user nor group it names all. */
static int kosdma_grant_parse(const struct sk_buff *skb, struct genl_info *info,
			      struct kosdma_grant_key *key)
{
	struct nlattr *uid = info->attrs[KOSDMA_A_GRANT_UID];
	struct nlattr *gid = info->attrs[KOSDMA_A_GRANT_GID];

	if (!netlink_capable(skb, CAP_SYS_ADMIN)) {
		NL_SET_ERR_MSG(info->extack, KOSDMA_NL_NOT_ADMIN);
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
				    KOSDMA_NL_NO_DEVICE);
	else if (ret == -EEXIST)
		NL_SET_ERR_MSG(info->extack, "it is granted already");
	else if (ret)
		NL_SET_ERR_MSG(info->extack, KOSDMA_NL_NO_MEMORY);
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

	ret = kosdma_check_bare(cb->nlh, cb->extack);
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

/* --- why ------------------------------------------------------------------------ */

struct kosdma_why_reply {
	struct sk_buff *msg;
	const struct kosdma_viewer *viewer;
};

static int kosdma_reason_fill(const struct kosdma_why_reply *reply,
			      const struct kosdma_reason *reason)
{
	struct sk_buff *msg = reply->msg;

	if (nla_put_u32(msg, KOSDMA_A_REASON_OBSTACLE, reason->obstacle))
		return -EMSGSIZE;
	if (reason->address != KOSDMA_NO_ADDRESS &&
	    nla_put_u32(msg, KOSDMA_A_REASON_ADDRESS, reason->address))
		return -EMSGSIZE;
	if (reason->driver[0] && nla_put_string(msg, KOSDMA_A_REASON_DRIVER, reason->driver))
		return -EMSGSIZE;
	if (reason->pid && kosdma_viewer_owns(reply->viewer, reason->uid) &&
	    kosdma_put_owner(msg, reply->viewer, KOSDMA_A_REASON_PID, reason->pid,
			     KOSDMA_A_REASON_UID, reason->uid))
		return -EMSGSIZE;
	if (reason->last && reply->viewer->raw &&
	    (nla_put_u64_64bit(msg, KOSDMA_A_REASON_START, reason->start, KOSDMA_A_REASON_PAD) ||
	     nla_put_u64_64bit(msg, KOSDMA_A_REASON_LAST, reason->last, KOSDMA_A_REASON_PAD)))
		return -EMSGSIZE;
	return 0;
}

static void kosdma_why_reason(const struct kosdma_reason *reason, void *data)
{
	struct kosdma_why_reply *reply = data;
	struct nlattr *nest = nla_nest_start(reply->msg, KOSDMA_A_WHY_REASON);

	/* So many members has no group that the first ones do not say enough. */
	if (!nest)
		return;
	if (kosdma_reason_fill(reply, reason))
		nla_nest_cancel(reply->msg, nest);
	else
		nla_nest_end(reply->msg, nest);
}

int kosdma_nl_why_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct kosdma_why_reply reply;
	struct kosdma_viewer viewer;
	u32 address;
	void *hdr;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, KOSDMA_A_WHY_ADDRESS)) {
		NL_SET_ERR_MSG(info->extack, "which device? the address is missing");
		return -EINVAL;
	}
	address = nla_get_u32(info->attrs[KOSDMA_A_WHY_ADDRESS]);
	reply.msg = kosdma_reply_new(info, KOSDMA_CMD_WHY_GET, &hdr);
	if (!reply.msg)
		return -ENOMEM;
	kosdma_viewer_get(&viewer, skb);
	reply.viewer = &viewer;
	ret = nla_put_u32(reply.msg, KOSDMA_A_WHY_ADDRESS, address);
	if (!ret)
		ret = kosdma_device_why(address, kosdma_why_reason, &reply);
	if (ret == -ENODEV)
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[KOSDMA_A_WHY_ADDRESS],
				    KOSDMA_NL_NO_DEVICE);
	kosdma_viewer_put(&viewer);
	return kosdma_reply_send(info, reply.msg, hdr, ret);
}

/* --- quarantine and numbers --------------------------------------------------------- */

int kosdma_nl_quarantine_release_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *device = info->attrs[KOSDMA_A_QUARANTINE_DEVICE];
	struct sk_buff *msg;
	void *hdr;
	u64 pages;
	int ret;

	if (!netlink_capable(skb, CAP_SYS_ADMIN)) {
		NL_SET_ERR_MSG(info->extack, KOSDMA_NL_NOT_ADMIN);
		return -EPERM;
	}
	msg = kosdma_reply_new(info, KOSDMA_CMD_QUARANTINE_RELEASE, &hdr);
	if (!msg)
		return -ENOMEM;
	/* Only who names no device says so of all. */
	if (device && nla_get_u32(device) == KOSDMA_NO_ADDRESS)
		ret = -ENOENT;
	else
		ret = kosdma_quarantine_release_address(device ? nla_get_u32(device) :
							KOSDMA_NO_ADDRESS, &pages);
	if (ret)
		NL_SET_ERR_MSG(info->extack, "nothing is in quarantine for it");
	else
		ret = nla_put_u64_64bit(msg, KOSDMA_A_QUARANTINE_PAGES, pages,
					KOSDMA_A_QUARANTINE_PAD);
	return kosdma_reply_send(info, msg, hdr, ret);
}

int kosdma_nl_stats_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	/* In this order: what is made and freed meanwhile counts as made. */
	u64 freed = kosdma_stat_read(KOSDMA_STAT_HANDLES_FREED);
	u64 made = kosdma_stat_read(KOSDMA_STAT_HANDLES_MADE);
	const struct {
		int attr;
		u64 value;
	} values[] = {
		{ KOSDMA_A_STATS_PAGES, kosdma_stat_read(KOSDMA_STAT_PAGES) },
		{ KOSDMA_A_STATS_LINGERING, kosdma_stat_read(KOSDMA_STAT_LINGERING) },
		{ KOSDMA_A_STATS_QUARANTINED, kosdma_quarantine_pages() },
		{ KOSDMA_A_STATS_IOVA_BYTES, kosdma_stat_read(KOSDMA_STAT_IOVA_BYTES) },
		{ KOSDMA_A_STATS_BUFFERS, kosdma_object_count(KOSDMA_HANDLE_BUFFER) },
		{ KOSDMA_A_STATS_MAPPINGS, kosdma_object_count(KOSDMA_HANDLE_MAPPING) },
		{ KOSDMA_A_STATS_ACCESSES, kosdma_object_count(KOSDMA_HANDLE_ACCESS) },
		{ KOSDMA_A_STATS_DOMAINS, kosdma_object_count(KOSDMA_HANDLE_DOMAIN) },
		{ KOSDMA_A_STATS_REGIONS, kosdma_object_count(KOSDMA_HANDLE_REGION) },
		{ KOSDMA_A_STATS_HANDLES, made - min(made, freed) },
		{ KOSDMA_A_STATS_MAPS, kosdma_stat_read(KOSDMA_STAT_MAPS) },
		{ KOSDMA_A_STATS_BEGINS, kosdma_stat_read(KOSDMA_STAT_BEGINS) },
		{ KOSDMA_A_STATS_PLACES, kosdma_stat_read(KOSDMA_STAT_PLACES) },
		{ KOSDMA_A_STATS_UNPLACES, kosdma_stat_read(KOSDMA_STAT_UNPLACES) },
		{ KOSDMA_A_STATS_REVOKES, kosdma_stat_read(KOSDMA_STAT_REVOKES) },
		{ KOSDMA_A_STATS_REFUSALS, kosdma_stat_read(KOSDMA_STAT_REFUSALS) },
		{ KOSDMA_A_STATS_FAULTS, kosdma_stat_read(KOSDMA_STAT_FAULTS) },
	};
	struct sk_buff *msg;
	unsigned int i;
	void *hdr;
	int ret;

	ret = kosdma_check_bare(info->nlhdr, info->extack);
	if (ret)
		return ret;
	msg = kosdma_reply_new(info, KOSDMA_CMD_STATS_GET, &hdr);
	if (!msg)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(values) && !ret; i++)
		ret = nla_put_u64_64bit(msg, values[i].attr, values[i].value, KOSDMA_A_STATS_PAD);
	return kosdma_reply_send(info, msg, hdr, ret);
}

/* --- events ------------------------------------------------------------------------- */

/* For the administrator only. */
int kosdma_event_fill(struct sk_buff *skb, const struct kosdma_event *event)
{
	if (nla_put_u32(skb, KOSDMA_A_EVENT_EVENT, event->kind) ||
	    nla_put_u64_64bit(skb, KOSDMA_A_EVENT_TIME, event->time, KOSDMA_A_EVENT_PAD))
		return -EMSGSIZE;
	if (event->number && nla_put_u64_64bit(skb, KOSDMA_A_EVENT_NUMBER, event->number,
					       KOSDMA_A_EVENT_PAD))
		return -EMSGSIZE;
	if (event->sid && nla_put_u32(skb, KOSDMA_A_EVENT_SID, event->sid))
		return -EMSGSIZE;
	if (event->type && nla_put_u32(skb, KOSDMA_A_EVENT_TYPE, event->type))
		return -EMSGSIZE;
	if (event->pid && (nla_put_u32(skb, KOSDMA_A_EVENT_PID, event->pid) ||
			   nla_put_u32(skb, KOSDMA_A_EVENT_UID, __kuid_val(event->uid))))
		return -EMSGSIZE;
	if (event->address != KOSDMA_NO_ADDRESS &&
	    nla_put_u32(skb, KOSDMA_A_EVENT_DEVICE, event->address))
		return -EMSGSIZE;
	if (event->error && nla_put_u32(skb, KOSDMA_A_EVENT_ERROR, event->error))
		return -EMSGSIZE;
	if (event->pages && nla_put_u64_64bit(skb, KOSDMA_A_EVENT_PAGES, event->pages,
					      KOSDMA_A_EVENT_PAD))
		return -EMSGSIZE;
	return 0;
}

int kosdma_nl_event_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct kosdma_dump *dump = kosdma_dump(cb);
	struct kosdma_event event;
	u64 number = dump->number;
	void *hdr;
	int ret;

	if (!dump->viewer.admin) {
		NL_SET_ERR_MSG(cb->extack, KOSDMA_NL_NOT_ADMIN);
		return -EPERM;
	}
	ret = kosdma_check_bare(cb->nlh, cb->extack);
	if (ret)
		return ret;
	while (kosdma_event_next(&number, &event)) {
		hdr = kosdma_dump_put(skb, cb, KOSDMA_CMD_EVENT_GET);
		if (!hdr || kosdma_event_fill(skb, &event)) {
			if (hdr)
				genlmsg_cancel(skb, hdr);
			break;
		}
		genlmsg_end(skb, hdr);
		dump->number = number;
	}
	return skb->len;
}

static unsigned int kosdma_event_group(u32 kind)
{
	return kind == KOSDMA_NL_EVENT_FAULT ? KOSDMA_NLGRP_FAULTS : KOSDMA_NLGRP_DEVICES;
}

/* Those who listen have missed some: the next that they read is ENOBUFS. */
void kosdma_netlink_lost(bool objects)
{
	if (objects) {
		genl_set_err(&kosdma_nl_family, &init_net, 0, KOSDMA_NLGRP_OBJECTS, -ENOBUFS);
	} else {
		genl_set_err(&kosdma_nl_family, &init_net, 0, KOSDMA_NLGRP_DEVICES, -ENOBUFS);
		genl_set_err(&kosdma_nl_family, &init_net, 0, KOSDMA_NLGRP_FAULTS, -ENOBUFS);
	}
}

/* One who is too slow reads ENOBUFS. */
void kosdma_netlink_flush(struct kosdma_message *message)
{
	if (message->skb)
		genlmsg_multicast(&kosdma_nl_family, message->skb, 0, message->group, GFP_KERNEL);
	message->skb = NULL;
}

/* No event takes more. */
#define KOSDMA_EVENT_ROOM 160

/* Of a datagram with its bookkeeping; readers of netlink have room for that much. */
#define KOSDMA_MESSAGE_SIZE 8192

/* Make room for one more event, by sending those before if need be. Returns whether there is. */
static bool kosdma_message_room(struct kosdma_message *message, unsigned int group)
{
	if (message->skb && message->group == group &&
	    skb_tailroom(message->skb) >= KOSDMA_EVENT_ROOM)
		return true;
	kosdma_netlink_flush(message);
	if (!kosdma_netlink_listens(group))
		return false;
	message->group = group;
	message->skb = alloc_skb(SKB_WITH_OVERHEAD(KOSDMA_MESSAGE_SIZE), GFP_KERNEL);
	if (!message->skb)
		genl_set_err(&kosdma_nl_family, &init_net, 0, group, -ENOBUFS);
	return message->skb;
}

/**
 * kosdma_netlink_tell() - tell an event to those who listen
 * @message: to which it is added; sent when it is full or for another group
 * @event: event, not of an object
 */
void kosdma_netlink_tell(struct kosdma_message *message, const struct kosdma_event *event)
{
	unsigned int group = kosdma_event_group(event->kind);
	void *hdr;

	if (!kosdma_message_room(message, group))
		return;
	hdr = genlmsg_put(message->skb, 0, 0, &kosdma_nl_family, 0,
			  group == KOSDMA_NLGRP_FAULTS ? KOSDMA_CMD_FAULT_NTF :
							 KOSDMA_CMD_DEVICE_NTF);
	if (WARN_ON_ONCE(!hdr || kosdma_event_fill(message->skb, event)))
		return;
	genlmsg_end(message->skb, hdr);
}

struct kosdma_attr_u32 {
	struct nlattr attr;
	u32 value;
};

/*
 * An event of an object, as it lies in its datagram. It is part of the fast path:
 * written in place it costs a third of what headers and attributes put one by one do.
 */
struct kosdma_object_message {
	struct nlmsghdr nlh;
	struct genlmsghdr genl;
	struct kosdma_attr_u32 event;
	struct kosdma_attr_u32 sid;
	struct kosdma_attr_u32 type;
	struct nlattr time;
	u64 ns;
	struct kosdma_attr_u32 pid;
	struct kosdma_attr_u32 uid;
} __packed __aligned(4);

static_assert(IS_ALIGNED(sizeof(struct kosdma_object_message), NLMSG_ALIGNTO));
static_assert(sizeof(struct kosdma_object_message) <= KOSDMA_EVENT_ROOM);

#define KOSDMA_ATTR_U32(name, number) \
	{ { nla_attr_size(sizeof(u32)), KOSDMA_A_EVENT_##name }, number }

/**
 * kosdma_netlink_tell_object() - the same for an event of an object
 * @message: to which it is added; sent when it is full or for another group
 * @event: event
 */
void kosdma_netlink_tell_object(struct kosdma_message *message,
				const struct kosdma_object_event *event)
{
	struct kosdma_object_message *to;

	if (!kosdma_message_room(message, KOSDMA_NLGRP_OBJECTS))
		return;
	to = skb_put(message->skb, sizeof(*to));
	*to = (struct kosdma_object_message) {
		.nlh = { .nlmsg_len = sizeof(*to), .nlmsg_type = kosdma_nl_family.id },
		.genl = { .cmd = KOSDMA_CMD_OBJECT_NTF, .version = KOSDMA_FAMILY_VERSION },
		.event = KOSDMA_ATTR_U32(EVENT, event->kind),
		.sid = KOSDMA_ATTR_U32(SID, event->sid),
		.type = KOSDMA_ATTR_U32(TYPE, event->type),
		.time = { nla_attr_size(sizeof(u64)), KOSDMA_A_EVENT_TIME },
		.ns = event->time,
		.pid = KOSDMA_ATTR_U32(PID, event->pid),
		.uid = KOSDMA_ATTR_U32(UID, __kuid_val(event->uid)),
	};
}

/* --- the family -------------------------------------------------------------------- */

static int kosdma_pci_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	/* A removal counts before and after the bus' list loses the function. */
	if (action == BUS_NOTIFY_ADD_DEVICE || action == BUS_NOTIFY_DEL_DEVICE ||
	    action == BUS_NOTIFY_REMOVED_DEVICE)
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
	if (ret) {
		bus_unregister_notifier(&pci_bus_type, &kosdma_pci_notifier);
		return ret;
	}
	WRITE_ONCE(kosdma_nl_on, true);
	kosdma_event_start();
	return 0;
}

void kosdma_netlink_exit(void)
{
	WRITE_ONCE(kosdma_nl_on, false);
	kosdma_event_stop();
	kosdma_genl_unregister(&kosdma_nl_family);
	bus_unregister_notifier(&pci_bus_type, &kosdma_pci_notifier);
}
