// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dumps of objects
 *
 * They go by sid, so an object that lives all the time is shown exactly once,
 * however many come and go meanwhile; that some did is told by the flag that
 * says so. Each message costs what it shows, and a look at what it passes over.
 *
 * What is shown of an object is what its own lock says; no two are held at the
 * same time, but for an access, whose domain's it is.
 */
#include <linux/cred.h>

#include "kosdma.h"
#include "netlink.h"

/* The filters of requests, and what every object has, are at the same places in all nouns. */
#define KOSDMA_SAME(noun)							\
	static_assert((int)KOSDMA_A_##noun##_SID == (int)KOSDMA_A_BUFFER_SID &&	\
		      (int)KOSDMA_A_##noun##_PID == (int)KOSDMA_A_BUFFER_PID &&	\
		      (int)KOSDMA_A_##noun##_UID == (int)KOSDMA_A_BUFFER_UID &&	\
		      (int)KOSDMA_A_##noun##_STATE == (int)KOSDMA_A_BUFFER_STATE && \
		      (int)KOSDMA_A_##noun##_DEVICE == (int)KOSDMA_A_BUFFER_DEVICE && \
		      (int)KOSDMA_A_##noun##_PAD == (int)KOSDMA_A_BUFFER_PAD)
KOSDMA_SAME(MAPPING);
KOSDMA_SAME(ACCESS);
KOSDMA_SAME(DOMAIN);
KOSDMA_SAME(REGION);
KOSDMA_SAME(HANDLE);
KOSDMA_SAME(QUARANTINE);

/* What a fill function answers about an object that is not to be shown. */
#define KOSDMA_SKIP 1

typedef int kosdma_fill_fn(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			   struct kosdma_object *obj);

static int kosdma_put_u64(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put_u64_64bit(skb, attr, value, KOSDMA_A_BUFFER_PAD);
}

/* --- what is shown -------------------------------------------------------------- */

static u32 kosdma_object_state(struct kosdma_object *obj)
{
	enum kosdma_end ended = READ_ONCE(obj->ended);
	bool reached;

	if (ended)
		return ended == KOSDMA_REVOKED ? KOSDMA_NL_OBJECT_REVOKED : KOSDMA_NL_OBJECT_ENDED;
	/* The automatic domain has no handle, and lives. */
	if (!obj->ops->transferable)
		return KOSDMA_NL_OBJECT_LIVE;
	mutex_lock(&obj->tree);
	reached = obj->reach;
	mutex_unlock(&obj->tree);
	return reached ? KOSDMA_NL_OBJECT_LIVE : KOSDMA_NL_OBJECT_ENDED;
}

static int kosdma_put_object(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			     struct kosdma_object *obj, u32 state)
{
	if (nla_put_u32(skb, KOSDMA_A_BUFFER_SID, obj->sid) ||
	    kosdma_put_owner(skb, viewer, KOSDMA_A_BUFFER_PID, obj->pid, KOSDMA_A_BUFFER_UID,
			     obj->uid) ||
	    nla_put_u32(skb, KOSDMA_A_BUFFER_STATE, state))
		return -EMSGSIZE;
	return 0;
}

static int kosdma_fill_buffer(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			      struct kosdma_object *obj)
{
	struct kosdma_buffer *buffer = to_buffer(obj);
	unsigned int users;
	u32 attr;

	mutex_lock(&buffer->lock);
	users = buffer->users;
	attr = buffer->attr;
	mutex_unlock(&buffer->lock);
	if (kosdma_put_object(skb, viewer, obj, kosdma_object_state(obj)) ||
	    kosdma_put_u64(skb, KOSDMA_A_BUFFER_LENGTH, buffer->length) ||
	    kosdma_put_u64(skb, KOSDMA_A_BUFFER_PAGES, buffer->npages) ||
	    nla_put_u32(skb, KOSDMA_A_BUFFER_BLOCKS, kosdma_buffer_nr_blocks(buffer)) ||
	    nla_put_u32(skb, KOSDMA_A_BUFFER_ORDER, buffer->order) ||
	    nla_put_u32(skb, KOSDMA_A_BUFFER_ATTR, attr) ||
	    nla_put_u32(skb, KOSDMA_A_BUFFER_USERS, users))
		return -EMSGSIZE;
	return 0;
}

static int kosdma_fill_mapping(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			       struct kosdma_object *obj)
{
	struct kosdma_mapping *mapping = to_mapping(obj);

	if (kosdma_put_object(skb, viewer, obj, kosdma_object_state(obj)) ||
	    nla_put_u32(skb, KOSDMA_A_MAPPING_SOURCE, mapping->use.obj->sid) ||
	    nla_put_u32(skb, KOSDMA_A_MAPPING_SOURCE_TYPE, mapping->use.obj->ops->type) ||
	    kosdma_put_u64(skb, KOSDMA_A_MAPPING_ADDRESS, kosdma_mapping_start(mapping)) ||
	    kosdma_put_u64(skb, KOSDMA_A_MAPPING_OFFSET, mapping->offset) ||
	    kosdma_put_u64(skb, KOSDMA_A_MAPPING_LENGTH, mapping->length) ||
	    nla_put_u32(skb, KOSDMA_A_MAPPING_FLAGS, mapping->flags) ||
	    nla_put_u32(skb, KOSDMA_A_MAPPING_CACHE, mapping->cache))
		return -EMSGSIZE;
	return 0;
}

static int kosdma_fill_access(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			      struct kosdma_object *obj)
{
	struct kosdma_access *access = to_access(obj);
	struct kosdma_domain *domain = access->domain;
	u64 bytes = kosdma_buffer_bytes(access->buffer);
	u32 state, mode, suspect = KOSDMA_NO_ADDRESS;
	bool placed, lingers;
	u64 start = 0;

	mutex_lock(&domain->lock);
	mode = domain->mode;
	placed = access->placed;
	lingers = access->lingers;
	if (placed && mode == KOSDMA_MODE_TRANSLATED)
		start = access->iova.start;
	else if (placed)
		start = sg_phys(access->buffer->sgt.sgl);
	mutex_unlock(&domain->lock);
	state = kosdma_object_state(obj);
	if (kosdma_quarantine_look(access, &suspect))
		state = KOSDMA_NL_OBJECT_QUARANTINED;
	else if (lingers)
		state = KOSDMA_NL_OBJECT_LINGERING;

	if (kosdma_put_object(skb, viewer, obj, state) ||
	    nla_put_u32(skb, KOSDMA_A_ACCESS_BUFFER, access->buffer->obj.sid) ||
	    nla_put_u32(skb, KOSDMA_A_ACCESS_DOMAIN, domain->obj.sid) ||
	    nla_put_u32(skb, KOSDMA_A_ACCESS_ATTR, access->attr) ||
	    nla_put_u32(skb, KOSDMA_A_ACCESS_MODE, mode) ||
	    kosdma_put_u64(skb, KOSDMA_A_ACCESS_LENGTH, bytes))
		return -EMSGSIZE;
	if (placed && (mode == KOSDMA_MODE_TRANSLATED || viewer->raw) &&
	    kosdma_put_u64(skb, KOSDMA_A_ACCESS_IOVA, start))
		return -EMSGSIZE;
	return 0;
}

static int kosdma_fill_domain(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			      struct kosdma_object *obj)
{
	struct kosdma_domain *domain = to_domain(obj);
	struct kosdma_device *dev;
	bool automatic;
	int ret;

	mutex_lock(&domain->process->lock);
	automatic = domain->process->automatic == domain;
	mutex_unlock(&domain->process->lock);
	ret = kosdma_put_object(skb, viewer, obj, kosdma_object_state(obj));
	if (ret || (automatic && nla_put_flag(skb, KOSDMA_A_DOMAIN_AUTOMATIC)))
		return -EMSGSIZE;

	mutex_lock(&domain->lock);
	ret = -EMSGSIZE;
	if (nla_put_u32(skb, KOSDMA_A_DOMAIN_MODE, domain->mode) ||
	    nla_put_u32(skb, KOSDMA_A_DOMAIN_ACCESSES, domain->nr_accesses) ||
	    nla_put_u32(skb, KOSDMA_A_DOMAIN_PLACED, domain->placed) ||
	    kosdma_put_u64(skb, KOSDMA_A_DOMAIN_IOVA_BYTES, domain->iova_bytes) ||
	    kosdma_put_u64(skb, KOSDMA_A_DOMAIN_LINGERING, domain->lingering_pages) ||
	    kosdma_put_u64(skb, KOSDMA_A_DOMAIN_FAULTS, atomic64_read(&domain->faults)))
		goto out;
	list_for_each_entry(dev, &domain->devices, domain_node) {
		if (nla_put_u32(skb, KOSDMA_A_DOMAIN_MEMBER, dev->address))
			goto out;
	}
	ret = 0;
out:
	mutex_unlock(&domain->lock);
	return ret;
}

static int kosdma_fill_region(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			      struct kosdma_object *obj)
{
	struct kosdma_region *region = to_region(obj);
	u32 mapping;

	mutex_lock(&region->lock);
	mapping = region->mapping ? region->mapping->obj.sid : 0;
	mutex_unlock(&region->lock);
	if (kosdma_put_object(skb, viewer, obj, kosdma_object_state(obj)) ||
	    kosdma_put_u64(skb, KOSDMA_A_REGION_LENGTH, region->length) ||
	    nla_put_u32(skb, KOSDMA_A_REGION_FLAGS, region->claim.flags))
		return -EMSGSIZE;
	if (viewer->raw && kosdma_put_u64(skb, KOSDMA_A_REGION_ADDRESS, region->start))
		return -EMSGSIZE;
	if (region->dev && nla_put_u32(skb, KOSDMA_A_REGION_DEVICE, region->dev->address))
		return -EMSGSIZE;
	if (mapping && nla_put_u32(skb, KOSDMA_A_REGION_MAPPING, mapping))
		return -EMSGSIZE;
	return 0;
}

static int kosdma_fill_quarantine(struct sk_buff *skb, const struct kosdma_viewer *viewer,
				  struct kosdma_object *obj)
{
	struct kosdma_access *access = to_access(obj);
	u32 suspect;

	if (!kosdma_quarantine_look(access, &suspect))
		return KOSDMA_SKIP;
	if (kosdma_put_object(skb, viewer, obj, KOSDMA_NL_OBJECT_QUARANTINED) ||
	    nla_put_u32(skb, KOSDMA_A_QUARANTINE_BUFFER, access->buffer->obj.sid) ||
	    kosdma_put_u64(skb, KOSDMA_A_QUARANTINE_PAGES, access->buffer->npages))
		return -EMSGSIZE;
	if (suspect != KOSDMA_NO_ADDRESS && nla_put_u32(skb, KOSDMA_A_QUARANTINE_DEVICE, suspect))
		return -EMSGSIZE;
	return 0;
}

/* --- what is asked for ------------------------------------------------------------ */

static bool kosdma_buffer_in_domain(struct kosdma_buffer *buffer, u32 domain)
{
	struct kosdma_access *access;
	bool found = false;

	mutex_lock(&buffer->lock);
	list_for_each_entry(access, &buffer->accesses, buffer_node) {
		found = access->domain->obj.sid == domain;
		if (found)
			break;
	}
	mutex_unlock(&buffer->lock);
	return found;
}

/* Does the function that was asked for reach the object, or is it of its registers? */
static bool kosdma_object_reached(const struct kosdma_dump *dump, struct kosdma_object *obj)
{
	struct kosdma_access *access;
	u32 suspect;

	switch (obj->ops->type) {
	case KOSDMA_HANDLE_BUFFER:
		return dump->domain && kosdma_buffer_in_domain(to_buffer(obj), dump->domain);
	case KOSDMA_HANDLE_MAPPING:
		return kosdma_object_reached(dump, to_mapping(obj)->use.obj);
	case KOSDMA_HANDLE_ACCESS:
		access = to_access(obj);
		if (kosdma_quarantine_look(access, &suspect))
			return suspect == dump->address;
		return access->domain->obj.sid == dump->domain;
	case KOSDMA_HANDLE_DOMAIN:
		return obj->sid == dump->domain;
	case KOSDMA_HANDLE_REGION:
		return to_region(obj)->dev && to_region(obj)->dev->address == dump->address;
	default:
		return false;
	}
}

static bool kosdma_dump_wants_owner(const struct kosdma_dump *dump, pid_t pid, kuid_t uid)
{
	/* Who does not see the numbers of processes cannot find out about them either. */
	if (dump->pid && (dump->pid != pid || !dump->viewer.pids))
		return false;
	return kosdma_viewer_owns(&dump->viewer, uid);
}

/* A device moves only when nobody looks: each message asks anew where it is. */
static void kosdma_dump_begin(struct kosdma_dump *dump)
{
	if (dump->address != KOSDMA_NO_ADDRESS)
		dump->domain = kosdma_device_domain(dump->address);
}

/* From @sid on there is nothing. Netlink asks once more, and what was passed over is not again. */
static void kosdma_dump_end(struct kosdma_dump *dump, u32 sid)
{
	dump->sid = sid - 1;
}

/* --- the dumps ---------------------------------------------------------------------- */

static int kosdma_dump_object(struct sk_buff *skb, struct netlink_callback *cb,
			      struct kosdma_object *obj, u8 cmd, kosdma_fill_fn *fill)
{
	struct kosdma_dump *dump = kosdma_dump(cb);
	void *hdr;
	int ret;

	if (!kosdma_dump_wants_owner(dump, obj->pid, obj->uid) ||
	    (dump->address != KOSDMA_NO_ADDRESS && !kosdma_object_reached(dump, obj)))
		return 0;
	hdr = kosdma_dump_put(skb, cb, cmd);
	if (!hdr)
		return -EMSGSIZE;
	ret = fill(skb, &dump->viewer, obj);
	if (ret)
		genlmsg_cancel(skb, hdr);
	else
		genlmsg_end(skb, hdr);
	return ret < 0 ? ret : 0;
}

static int kosdma_dump_objects(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd,
			       enum kosdma_handle_type type, kosdma_fill_fn *fill)
{
	struct kosdma_dump *dump = kosdma_dump(cb);
	int ret = 0;

	cb->seq = kosdma_object_changes(type);
	kosdma_dump_begin(dump);
	while (!ret) {
		u32 sid = dump->sid + 1;
		struct kosdma_object *obj = kosdma_object_next(&sid, BIT(type));

		if (!obj) {
			kosdma_dump_end(dump, sid);
			break;
		}
		ret = kosdma_dump_object(skb, cb, obj, cmd, fill);
		kosdma_object_put(obj);
		if (!ret)
			dump->sid = sid;
		cond_resched();
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
	}
	/* An object that fits into no message ends the dump. */
	return skb->len ?: ret;
}

int kosdma_nl_buffer_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return kosdma_dump_objects(skb, cb, KOSDMA_CMD_BUFFER_GET, KOSDMA_HANDLE_BUFFER,
				   kosdma_fill_buffer);
}

int kosdma_nl_mapping_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return kosdma_dump_objects(skb, cb, KOSDMA_CMD_MAPPING_GET, KOSDMA_HANDLE_MAPPING,
				   kosdma_fill_mapping);
}

int kosdma_nl_access_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return kosdma_dump_objects(skb, cb, KOSDMA_CMD_ACCESS_GET, KOSDMA_HANDLE_ACCESS,
				   kosdma_fill_access);
}

int kosdma_nl_domain_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return kosdma_dump_objects(skb, cb, KOSDMA_CMD_DOMAIN_GET, KOSDMA_HANDLE_DOMAIN,
				   kosdma_fill_domain);
}

int kosdma_nl_region_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return kosdma_dump_objects(skb, cb, KOSDMA_CMD_REGION_GET, KOSDMA_HANDLE_REGION,
				   kosdma_fill_region);
}

int kosdma_nl_quarantine_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return kosdma_dump_objects(skb, cb, KOSDMA_CMD_QUARANTINE_GET, KOSDMA_HANDLE_ACCESS,
				   kosdma_fill_quarantine);
}

/* --- handles ------------------------------------------------------------------------- */

struct kosdma_handle_dump {
	struct sk_buff *skb;
	struct netlink_callback *cb;
};

static u32 kosdma_handle_state(const struct kosdma_handle *handle)
{
	enum kosdma_end ended = READ_ONCE(handle->obj->ended);

	if (handle->revoked || ended == KOSDMA_REVOKED)
		return KOSDMA_NL_OBJECT_REVOKED;
	if (!handle->file)
		return KOSDMA_NL_OBJECT_CLOSED;
	return ended ? KOSDMA_NL_OBJECT_ENDED : KOSDMA_NL_OBJECT_LIVE;
}

static int kosdma_fill_handle(struct sk_buff *skb, const struct kosdma_viewer *viewer,
			      const struct kosdma_handle *handle)
{
	if (nla_put_u32(skb, KOSDMA_A_HANDLE_SID, handle->obj->sid) ||
	    kosdma_put_owner(skb, viewer, KOSDMA_A_HANDLE_PID, handle->pid, KOSDMA_A_HANDLE_UID,
			     handle->uid) ||
	    nla_put_u32(skb, KOSDMA_A_HANDLE_STATE, kosdma_handle_state(handle)) ||
	    nla_put_u32(skb, KOSDMA_A_HANDLE_TYPE, handle->obj->ops->type) ||
	    nla_put_u32(skb, KOSDMA_A_HANDLE_NUMBER, handle->number) ||
	    nla_put_u32(skb, KOSDMA_A_HANDLE_RIGHTS, handle->rights) ||
	    nla_put_u32(skb, KOSDMA_A_HANDLE_USES, handle->nuses))
		return -EMSGSIZE;
	if (handle->parent && nla_put_u32(skb, KOSDMA_A_HANDLE_PARENT, handle->parent->number))
		return -EMSGSIZE;
	if (handle->badge && nla_put_u32(skb, KOSDMA_A_HANDLE_BADGE, handle->badge->sid))
		return -EMSGSIZE;
	return 0;
}

static int kosdma_dump_handle(struct kosdma_handle *handle, void *data)
{
	struct kosdma_handle_dump *to = data;
	struct kosdma_dump *dump = kosdma_dump(to->cb);
	void *hdr;

	/* Whose the object is sees what became of it. */
	if (!kosdma_dump_wants_owner(dump, handle->pid, handle->uid) &&
	    (dump->pid || !kosdma_viewer_owns(&dump->viewer, handle->obj->uid)))
		return 0;
	hdr = kosdma_dump_put(to->skb, to->cb, KOSDMA_CMD_HANDLE_GET);
	if (!hdr)
		return -EMSGSIZE;
	if (kosdma_fill_handle(to->skb, &dump->viewer, handle)) {
		genlmsg_cancel(to->skb, hdr);
		return -EMSGSIZE;
	}
	genlmsg_end(to->skb, hdr);
	return 0;
}

/* A number, not 0, that is another one after a handle comes or goes. */
static unsigned int kosdma_handle_changes(void)
{
	u64 sum = kosdma_stat_read(KOSDMA_STAT_HANDLES_MADE) +
		  kosdma_stat_read(KOSDMA_STAT_HANDLES_FREED);
	unsigned int type;

	/* An object's first handle can be found when the object can. */
	for (type = 0; type < KOSDMA_NR_TYPES; type++)
		sum += kosdma_object_changes(type);
	return (unsigned int)sum ?: 1;
}

int kosdma_nl_handle_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct kosdma_handle_dump to = { skb, cb };
	struct kosdma_dump *dump = kosdma_dump(cb);
	struct kosdma_handle *cursor = dump->cursor;
	int ret = 0;

	cb->seq = kosdma_handle_changes();
	kosdma_dump_begin(dump);
	while (!ret) {
		/* The last message may have ended within the handles of an object. */
		if (!cursor->obj) {
			u32 sid = dump->sid + 1;
			struct kosdma_object *obj = kosdma_object_next(&sid, U32_MAX);

			if (!obj) {
				kosdma_dump_end(dump, sid);
				break;
			}
			dump->sid = sid;
			if (dump->address != KOSDMA_NO_ADDRESS &&
			    !kosdma_object_reached(dump, obj)) {
				kosdma_object_put(obj);
				continue;
			}
			kosdma_handle_walk_begin(cursor, obj);
		}
		ret = kosdma_handle_walk(cursor, kosdma_dump_handle, &to);
		cond_resched();
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
	}
	return skb->len ?: ret;
}
