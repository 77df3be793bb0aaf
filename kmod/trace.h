/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: one for each step of an object's life
 *
 * Objects are named by sid, devices by address, processes by the id of the
 * process that owns the object, in the initial PID namespace. No string is
 * recorded, and no physical address. Documentation/tracing.md tells of each
 * event; the linter compares.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kosdma

#if !defined(KOSDMA_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KOSDMA_TRACE_H

#include <linux/tracepoint.h>

#include "kosdma.h"

#ifndef KOSDMA_TRACE_ONCE
#define KOSDMA_TRACE_ONCE

/* For devices that are none, or several, what no device has. */
static inline u32 kosdma_trace_device(const struct kosdma_device *dev)
{
	return dev ? dev->address : KOSDMA_NO_ADDRESS;
}

static inline u32 kosdma_trace_sid(const struct kosdma_object *obj)
{
	return obj ? obj->sid : 0;
}

#endif /* KOSDMA_TRACE_ONCE */

/* An address as in struct kosdma_device. */
#define KOSDMA_TRACE_DEVICE_FMT "%04x:%02x:%02x.%u"
#define KOSDMA_TRACE_DEVICE_ARGS(address)						\
	(address) >> 16, (address) >> 8 & 0xff, (address) >> 3 & 0x1f, (address) & 7

TRACE_DEFINE_ENUM(KOSDMA_ENDED);
TRACE_DEFINE_ENUM(KOSDMA_REVOKED);

#define kosdma_trace_how(how)								\
	__print_symbolic(how, { KOSDMA_ENDED, "ended" }, { KOSDMA_REVOKED, "revoked" })

TRACE_DEFINE_ENUM(KOSDMA_HANDLE_BUFFER);
TRACE_DEFINE_ENUM(KOSDMA_HANDLE_MAPPING);
TRACE_DEFINE_ENUM(KOSDMA_HANDLE_ACCESS);
TRACE_DEFINE_ENUM(KOSDMA_HANDLE_DOMAIN);
TRACE_DEFINE_ENUM(KOSDMA_HANDLE_REGION);
TRACE_DEFINE_ENUM(KOSDMA_HANDLE_BADGE);

#define kosdma_trace_type(type)								\
	__print_symbolic(type, { KOSDMA_HANDLE_BUFFER, "buffer" },			\
			 { KOSDMA_HANDLE_MAPPING, "mapping" },				\
			 { KOSDMA_HANDLE_ACCESS, "access" },				\
			 { KOSDMA_HANDLE_DOMAIN, "domain" },				\
			 { KOSDMA_HANDLE_REGION, "region" },				\
			 { KOSDMA_HANDLE_BADGE, "badge" })

TRACE_DEFINE_ENUM(KOSDMA_CMD_INFO);
TRACE_DEFINE_ENUM(KOSDMA_CMD_BUFFER_CREATE);
TRACE_DEFINE_ENUM(KOSDMA_CMD_BUFFER_MODIFY);
TRACE_DEFINE_ENUM(KOSDMA_CMD_BUFFER_MAP);
TRACE_DEFINE_ENUM(KOSDMA_CMD_ACCESS_BEGIN);
TRACE_DEFINE_ENUM(KOSDMA_CMD_ACCESS_INFO);
TRACE_DEFINE_ENUM(KOSDMA_CMD_DOMAIN_CREATE);
TRACE_DEFINE_ENUM(KOSDMA_CMD_DEVICE_ATTACH);
TRACE_DEFINE_ENUM(KOSDMA_CMD_DEVICE_DETACH);
TRACE_DEFINE_ENUM(KOSDMA_CMD_DEVICE_SET_DMA_MASK);
TRACE_DEFINE_ENUM(KOSDMA_CMD_REGION_REGISTER);
TRACE_DEFINE_ENUM(KOSDMA_CMD_REGION_MAP);
TRACE_DEFINE_ENUM(KOSDMA_CMD_HANDLE_CLOSE);
TRACE_DEFINE_ENUM(KOSDMA_CMD_HANDLE_REVOKE);
TRACE_DEFINE_ENUM(KOSDMA_CMD_HANDLE_COPY);
TRACE_DEFINE_ENUM(KOSDMA_CMD_HANDLE_INFO);
TRACE_DEFINE_ENUM(KOSDMA_CMD_BADGE_CREATE);
TRACE_DEFINE_ENUM(KOSDMA_CMD_DEVICE_INFO);
TRACE_DEFINE_ENUM(KOSDMA_CMD_ACCESS_BEGIN_MANY);
TRACE_DEFINE_ENUM(KOSDMA_CMD_HANDLE_CLOSE_MANY);

#define kosdma_trace_command(nr)							\
	__print_symbolic(nr, { KOSDMA_CMD_INFO, "INFO" },				\
			 { KOSDMA_CMD_BUFFER_CREATE, "BUFFER_CREATE" },			\
			 { KOSDMA_CMD_BUFFER_MODIFY, "BUFFER_MODIFY" },			\
			 { KOSDMA_CMD_BUFFER_MAP, "BUFFER_MAP" },			\
			 { KOSDMA_CMD_ACCESS_BEGIN, "ACCESS_BEGIN" },			\
			 { KOSDMA_CMD_ACCESS_INFO, "ACCESS_INFO" },			\
			 { KOSDMA_CMD_DOMAIN_CREATE, "DOMAIN_CREATE" },			\
			 { KOSDMA_CMD_DEVICE_ATTACH, "DEVICE_ATTACH" },			\
			 { KOSDMA_CMD_DEVICE_DETACH, "DEVICE_DETACH" },			\
			 { KOSDMA_CMD_DEVICE_SET_DMA_MASK, "DEVICE_SET_DMA_MASK" },	\
			 { KOSDMA_CMD_REGION_REGISTER, "REGION_REGISTER" },		\
			 { KOSDMA_CMD_REGION_MAP, "REGION_MAP" },			\
			 { KOSDMA_CMD_HANDLE_CLOSE, "HANDLE_CLOSE" },			\
			 { KOSDMA_CMD_HANDLE_REVOKE, "HANDLE_REVOKE" },			\
			 { KOSDMA_CMD_HANDLE_COPY, "HANDLE_COPY" },			\
			 { KOSDMA_CMD_HANDLE_INFO, "HANDLE_INFO" },			\
			 { KOSDMA_CMD_BADGE_CREATE, "BADGE_CREATE" },			\
			 { KOSDMA_CMD_DEVICE_INFO, "DEVICE_INFO" },			\
			 { KOSDMA_CMD_ACCESS_BEGIN_MANY, "ACCESS_BEGIN_MANY" },		\
			 { KOSDMA_CMD_HANDLE_CLOSE_MANY, "HANDLE_CLOSE_MANY" })

/* --- buffers -------------------------------------------------------------- */

TRACE_EVENT(buffer_create,
	TP_PROTO(const struct kosdma_buffer *buffer),
	TP_ARGS(buffer),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(pid_t, pid)
		__field(u64, bytes)
		__field(u64, pages)
		__field(u32, blocks)
		__field(u32, order)
		__field(u32, attr)
	),
	TP_fast_assign(
		__entry->sid = buffer->obj.sid;
		__entry->pid = task_tgid_nr(current);
		__entry->bytes = buffer->length;
		__entry->pages = buffer->npages;
		__entry->blocks = buffer->sgt.orig_nents;
		__entry->order = buffer->order;
		__entry->attr = buffer->attr;
	),
	TP_printk("sid=%u pid=%d bytes=%llu pages=%llu blocks=%u order=%u attr=%#x",
		  __entry->sid, __entry->pid, __entry->bytes, __entry->pages, __entry->blocks,
		  __entry->order, __entry->attr)
);

TRACE_EVENT(buffer_free,
	TP_PROTO(const struct kosdma_buffer *buffer),
	TP_ARGS(buffer),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u64, pages)
	),
	TP_fast_assign(
		__entry->sid = buffer->obj.sid;
		__entry->pages = buffer->npages;
	),
	TP_printk("sid=%u pages=%llu", __entry->sid, __entry->pages)
);

/* --- mappings ------------------------------------------------------------- */

TRACE_EVENT(mapping_map,
	TP_PROTO(const struct kosdma_mapping *mapping, u64 start),
	TP_ARGS(mapping, start),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, source)
		__field(pid_t, pid)
		__field(u64, start)
		__field(u64, bytes)
		__field(u64, offset)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->sid = mapping->obj.sid;
		__entry->source = mapping->use.obj->sid;
		__entry->pid = mapping->process->pid;
		__entry->start = start;
		__entry->bytes = mapping->length;
		__entry->offset = mapping->offset;
		__entry->flags = mapping->flags;
	),
	TP_printk("sid=%u source=%u pid=%d start=%#llx bytes=%llu offset=%llu flags=%#x",
		  __entry->sid, __entry->source, __entry->pid, __entry->start, __entry->bytes,
		  __entry->offset, __entry->flags)
);

TRACE_EVENT(mapping_end,
	TP_PROTO(const struct kosdma_mapping *mapping, enum kosdma_end how),
	TP_ARGS(mapping, how),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, source)
		__field(pid_t, pid)
		__field(u64, bytes)
		__field(u32, how)
	),
	TP_fast_assign(
		__entry->sid = mapping->obj.sid;
		__entry->source = kosdma_trace_sid(READ_ONCE(mapping->use.obj));
		__entry->pid = mapping->process->pid;
		__entry->bytes = mapping->length;
		__entry->how = how;
	),
	TP_printk("sid=%u source=%u pid=%d bytes=%llu how=%s", __entry->sid, __entry->source,
		  __entry->pid, __entry->bytes, kosdma_trace_how(__entry->how))
);

/* --- accesses ------------------------------------------------------------- */

TRACE_EVENT(access_begin,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, buffer)
		__field(u32, domain)
		__field(pid_t, pid)
		__field(u64, bytes)
		__field(u32, attr)
	),
	TP_fast_assign(
		__entry->sid = access->obj.sid;
		__entry->buffer = access->buffer->obj.sid;
		__entry->domain = access->domain->obj.sid;
		__entry->pid = access->domain->process->pid;
		__entry->bytes = kosdma_buffer_bytes(access->buffer);
		__entry->attr = access->attr;
	),
	TP_printk("sid=%u buffer=%u domain=%u pid=%d bytes=%llu attr=%#x", __entry->sid,
		  __entry->buffer, __entry->domain, __entry->pid, __entry->bytes, __entry->attr)
);

/* The I/O addresses of a direct domain are physical, so they are left out: 0. */
DECLARE_EVENT_CLASS(kosdma_access_placement,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, buffer)
		__field(u32, domain)
		__field(pid_t, pid)
		__field(u64, iova)
		__field(u64, bytes)
		__field(bool, direct)
	),
	TP_fast_assign(
		__entry->sid = access->obj.sid;
		__entry->buffer = access->buffer->obj.sid;
		__entry->domain = access->domain->obj.sid;
		__entry->pid = access->domain->process->pid;
		__entry->direct = access->domain->mode == KOSDMA_MODE_DIRECT;
		__entry->iova = __entry->direct ? 0 : access->iova.start;
		__entry->bytes = kosdma_buffer_bytes(access->buffer);
	),
	TP_printk("sid=%u buffer=%u domain=%u pid=%d iova=%#llx-%#llx bytes=%llu direct=%d",
		  __entry->sid, __entry->buffer, __entry->domain, __entry->pid, __entry->iova,
		  __entry->direct ? 0 : __entry->iova + __entry->bytes - 1, __entry->bytes,
		  __entry->direct)
);

DEFINE_EVENT(kosdma_access_placement, access_place,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access)
);

DEFINE_EVENT(kosdma_access_placement, access_unplace,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access)
);

TRACE_EVENT(access_end,
	TP_PROTO(const struct kosdma_access *access, enum kosdma_end how, bool lingers),
	TP_ARGS(access, how, lingers),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, buffer)
		__field(u32, domain)
		__field(pid_t, pid)
		__field(u32, how)
		__field(bool, lingers)
	),
	TP_fast_assign(
		__entry->sid = access->obj.sid;
		__entry->buffer = access->buffer->obj.sid;
		__entry->domain = access->domain->obj.sid;
		__entry->pid = access->domain->process->pid;
		__entry->how = how;
		__entry->lingers = lingers;
	),
	TP_printk("sid=%u buffer=%u domain=%u pid=%d how=%s lingers=%d", __entry->sid,
		  __entry->buffer, __entry->domain, __entry->pid,
		  kosdma_trace_how(__entry->how), __entry->lingers)
);

/* --- domains -------------------------------------------------------------- */

DECLARE_EVENT_CLASS(kosdma_domain_life,
	TP_PROTO(const struct kosdma_domain *domain),
	TP_ARGS(domain),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(pid_t, pid)
		__field(bool, automatic)
	),
	TP_fast_assign(
		__entry->sid = domain->obj.sid;
		__entry->pid = domain->process->pid;
		__entry->automatic = READ_ONCE(domain->process->automatic) == domain;
	),
	TP_printk("sid=%u pid=%d automatic=%d", __entry->sid, __entry->pid, __entry->automatic)
);

DEFINE_EVENT(kosdma_domain_life, domain_create,
	TP_PROTO(const struct kosdma_domain *domain),
	TP_ARGS(domain)
);

DEFINE_EVENT(kosdma_domain_life, domain_end,
	TP_PROTO(const struct kosdma_domain *domain),
	TP_ARGS(domain)
);

/* Of one hardware domain. I/O addresses of a translated domain are not physical. */
TRACE_EVENT(domain_flush,
	TP_PROTO(const struct kosdma_domain *domain, u64 start, u64 last),
	TP_ARGS(domain, start, last),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(pid_t, pid)
		__field(u64, iova)
		__field(u64, bytes)
	),
	TP_fast_assign(
		__entry->sid = domain->obj.sid;
		__entry->pid = domain->process->pid;
		__entry->iova = start;
		__entry->bytes = last - start + 1;
	),
	TP_printk("sid=%u pid=%d iova=%#llx-%#llx bytes=%llu", __entry->sid, __entry->pid,
		  __entry->iova, __entry->iova + __entry->bytes - 1, __entry->bytes)
);

/* --- devices -------------------------------------------------------------- */

/* All are called under the group's lock, while it has a holder. */
DECLARE_EVENT_CLASS(kosdma_device_holder,
	TP_PROTO(const struct kosdma_device *dev),
	TP_ARGS(dev),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(pid_t, pid)
	),
	TP_fast_assign(
		__entry->device = dev->address;
		__entry->pid = dev->group->holder->pid;
	),
	TP_printk("device=" KOSDMA_TRACE_DEVICE_FMT " pid=%d",
		  KOSDMA_TRACE_DEVICE_ARGS(__entry->device), __entry->pid)
);

DEFINE_EVENT(kosdma_device_holder, device_hold,
	TP_PROTO(const struct kosdma_device *dev),
	TP_ARGS(dev)
);

DEFINE_EVENT(kosdma_device_holder, device_unhold,
	TP_PROTO(const struct kosdma_device *dev),
	TP_ARGS(dev)
);

DEFINE_EVENT(kosdma_device_holder, device_lost,
	TP_PROTO(const struct kosdma_device *dev),
	TP_ARGS(dev)
);

TRACE_EVENT(device_attach,
	TP_PROTO(const struct kosdma_device *dev, const struct kosdma_domain *domain),
	TP_ARGS(dev, domain),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(u32, domain)
		__field(pid_t, pid)
		__field(bool, direct)
	),
	TP_fast_assign(
		__entry->device = dev->address;
		__entry->domain = domain->obj.sid;
		__entry->pid = domain->process->pid;
		__entry->direct = !dev->group->iommu;
	),
	TP_printk("device=" KOSDMA_TRACE_DEVICE_FMT " domain=%u pid=%d direct=%d",
		  KOSDMA_TRACE_DEVICE_ARGS(__entry->device), __entry->domain, __entry->pid,
		  __entry->direct)
);

TRACE_EVENT(device_detach,
	TP_PROTO(const struct kosdma_device *dev, const struct kosdma_domain *domain, bool quiet),
	TP_ARGS(dev, domain, quiet),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(u32, domain)
		__field(pid_t, pid)
		__field(bool, quiet)
	),
	TP_fast_assign(
		__entry->device = dev->address;
		__entry->domain = domain->obj.sid;
		__entry->pid = domain->process->pid;
		__entry->quiet = quiet;
	),
	TP_printk("device=" KOSDMA_TRACE_DEVICE_FMT " domain=%u pid=%d quiet=%d",
		  KOSDMA_TRACE_DEVICE_ARGS(__entry->device), __entry->domain, __entry->pid,
		  __entry->quiet)
);

TRACE_EVENT(device_reset,
	TP_PROTO(const struct kosdma_device *dev, int error),
	TP_ARGS(dev, error),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->device = dev->address;
		__entry->error = error;
	),
	TP_printk("device=" KOSDMA_TRACE_DEVICE_FMT " error=%d",
		  KOSDMA_TRACE_DEVICE_ARGS(__entry->device), __entry->error)
);

/* --- regions -------------------------------------------------------------- */

TRACE_EVENT(region_create,
	TP_PROTO(const struct kosdma_region *region),
	TP_ARGS(region),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(pid_t, pid)
		__field(u32, device)
		__field(u64, bytes)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->sid = region->obj.sid;
		__entry->pid = task_tgid_nr(current);
		__entry->device = kosdma_trace_device(region->dev);
		__entry->bytes = region->length;
		__entry->flags = region->claim.flags;
	),
	TP_printk("sid=%u pid=%d device=" KOSDMA_TRACE_DEVICE_FMT " bytes=%llu flags=%#x",
		  __entry->sid, __entry->pid, KOSDMA_TRACE_DEVICE_ARGS(__entry->device),
		  __entry->bytes, __entry->flags)
);

TRACE_EVENT(region_end,
	TP_PROTO(const struct kosdma_region *region),
	TP_ARGS(region),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, device)
		__field(u64, bytes)
	),
	TP_fast_assign(
		__entry->sid = region->obj.sid;
		__entry->device = kosdma_trace_device(region->dev);
		__entry->bytes = region->length;
	),
	TP_printk("sid=%u device=" KOSDMA_TRACE_DEVICE_FMT " bytes=%llu", __entry->sid,
		  KOSDMA_TRACE_DEVICE_ARGS(__entry->device), __entry->bytes)
);

/* --- handles -------------------------------------------------------------- */

TRACE_EVENT(badge_create,
	TP_PROTO(const struct kosdma_object *badge),
	TP_ARGS(badge),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(pid_t, pid)
	),
	TP_fast_assign(
		__entry->sid = badge->sid;
		__entry->pid = task_tgid_nr(current);
	),
	TP_printk("sid=%u pid=%d", __entry->sid, __entry->pid)
);

TRACE_EVENT(handle_copy,
	TP_PROTO(const struct kosdma_handle *copy),
	TP_ARGS(copy),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, type)
		__field(pid_t, pid)
		__field(u32, rights)
		__field(u32, badge)
	),
	TP_fast_assign(
		__entry->sid = copy->obj->sid;
		__entry->type = copy->obj->ops->type;
		__entry->pid = task_tgid_nr(current);
		__entry->rights = copy->rights;
		__entry->badge = kosdma_trace_sid(copy->badge);
	),
	TP_printk("sid=%u type=%s pid=%d rights=%#x badge=%u", __entry->sid,
		  kosdma_trace_type(__entry->type), __entry->pid, __entry->rights,
		  __entry->badge)
);

TRACE_EVENT(handle_revoke,
	TP_PROTO(const struct kosdma_object *obj, const struct kosdma_object *badge),
	TP_ARGS(obj, badge),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, type)
		__field(pid_t, pid)
		__field(u32, badge)
	),
	TP_fast_assign(
		__entry->sid = obj->sid;
		__entry->type = obj->ops->type;
		__entry->pid = task_tgid_nr(current);
		__entry->badge = kosdma_trace_sid(badge);
	),
	TP_printk("sid=%u type=%s pid=%d badge=%u", __entry->sid,
		  kosdma_trace_type(__entry->type), __entry->pid, __entry->badge)
);

/* --- quarantine ----------------------------------------------------------- */

DECLARE_EVENT_CLASS(kosdma_quarantine,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access),
	TP_STRUCT__entry(
		__field(u32, sid)
		__field(u32, buffer)
		__field(u32, device)
		__field(u64, pages)
	),
	TP_fast_assign(
		__entry->sid = access->obj.sid;
		__entry->buffer = access->buffer->obj.sid;
		__entry->device = kosdma_trace_device(access->suspect);
		__entry->pages = access->buffer->npages;
	),
	TP_printk("sid=%u buffer=%u device=" KOSDMA_TRACE_DEVICE_FMT " pages=%llu", __entry->sid,
		  __entry->buffer, KOSDMA_TRACE_DEVICE_ARGS(__entry->device), __entry->pages)
);

DEFINE_EVENT(kosdma_quarantine, quarantine_add,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access)
);

DEFINE_EVENT(kosdma_quarantine, quarantine_release,
	TP_PROTO(const struct kosdma_access *access),
	TP_ARGS(access)
);

/* --- processes and calls ---------------------------------------------------- */

TRACE_EVENT(process_end,
	TP_PROTO(const struct kosdma_process *process),
	TP_ARGS(process),
	TP_STRUCT__entry(
		__field(pid_t, pid)
	),
	TP_fast_assign(
		__entry->pid = process->pid;
	),
	TP_printk("pid=%d", __entry->pid)
);

/* What a call answers is looked at only while somebody listens. */
TRACE_EVENT_CONDITION(ioctl_refuse,
	TP_PROTO(u32 cmd, int error),
	TP_ARGS(cmd, error),
	TP_CONDITION(error),
	TP_STRUCT__entry(
		__field(pid_t, pid)
		__field(u32, cmd)
		__field(u32, nr)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->pid = task_tgid_nr(current);
		__entry->cmd = cmd;
		__entry->nr = _IOC_NR(cmd);
		__entry->error = error;
	),
	TP_printk("pid=%d cmd=%#x name=%s error=%d", __entry->pid, __entry->cmd,
		  kosdma_trace_command(__entry->nr), __entry->error)
);

#endif /* KOSDMA_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
