/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The handle tree and the revoke protocol of kmod, for spin
 *
 * tests/model/run checks each instance (-DINSTANCE=n, at the end of this file)
 * exhaustively, and that each wrong variant (-DBREAK_x) is caught.
 *
 * What is modelled: one object (a buffer), its handles, the uses of it
 * (mappings and accesses) with their own private handles, the processes and
 * domains that these belong to. Each inline or proctype follows the C function
 * named in the comment before it, step by step; `run' checks that those exist.
 *
 *   object.c	reach, pins
 *   handle.c	the tree: create, lookup, use_add, mark, end_marked, use_del,
 *		release, reap; close, revoke, copy
 *   mapping.c	finish, place, populate, fault, revoke, end, close
 *   access.c	open, end, place, unplace; keep, settle, release
 *   quarantine.c	add, release
 *   domain.c	add, remove, end, end_accesses
 *   buffer.c	use, unuse, end, modify
 *   process.c	die, teardown
 *   ioctl.c	the dispatcher's publish or abort
 *
 * Locks. process->lock, domain->lock and mapping->rwsem are variables, and what
 * is done below them is done in several steps. obj->tree and buffer->lock are
 * leaves below which nothing waits, so a section under them is one d_step; the
 * tree lock has a variable too in the variant that holds it for too long.
 *
 * Properties, as assertions (P1 to P4 below) and as spin's own "invalid end
 * state" (no deadlock):
 *
 *   P1	When a revoke returns, nothing that was opened through a handle that it
 *	revoked is mapped or placed, and nothing becomes so later.
 *   P2	The object ends once, and not before its last use; every handle, use and
 *	object is freed once, and not touched afterwards; when everything is
 *	closed, everything is freed. Pages are not freed while they are mapped
 *	or placed, a device may write them, or an ioctl looks at them.
 *   P3	No deadlock.
 *   P4	A revoke ends nothing that was opened through the revoker's own handle
 *	or through any other that is not revoked.
 *
 * Abstracted: rights, types and owners; errors other than "revoked" and a
 * failed copy_to_user(); regions (they use handle.c as buffers do); page
 * tables and IOMMU (one bit: mapped); the device lock (attach and detach are
 * one actor); the life of domains and processes, which nothing here ends. The order of
 * lists: whoever takes the first entry of one here takes any. A task's fput()
 * runs at once; that it may run later is the scheduler's freedom anyhow. A
 * descriptor is a count for each file, so who may close what is up to the
 * actors; that a call holds a private handle's object is left out. An index is
 * used once, so that reuse of memory shows as a use of something freed.
 */

#define MAP	0
#define ACC	1

#ifndef INSTANCE
#define INSTANCE 1
#endif
#ifndef KIND
#define KIND	MAP	/* what others open */
#endif
#ifndef OWN
#define OWN	KIND	/* what the owner, or a second process, opens */
#endif
#if INSTANCE == 6 || INSTANCE == 7 || OWN != KIND
#define BOTH_KINDS
#endif

#define NH	4	/* handles of the object */
#define NU	2	/* uses */
#define NP	3	/* processes */
#define NONE	7

#define LIVE	0	/* enum kosdma_end */
#define ENDED	1
#define REVOKED	2

#define NEW	1	/* states of a handle */
#define ENTERED	2
#define REAPED	3
#define FREED	4

#define WRITER	255	/* holder of the rwsem; else the number of readers */

#ifdef BREAK_TREE_HELD
bit tree;
#define TREE	(!tree)
#else
#define TREE	(1)
#endif

/* struct kosdma_handle, with its file (f: references, fds: descriptors) */
typedef handle_t {
	byte st;
	byte f;
	byte fds;
	bit file;
	bit revoked;
	bit badge;
	byte parent;
	byte children;
	byte nuses;
	bit gone;		/* ghost: a revoke of it has returned */
};

/* struct kosdma_mapping or kosdma_access, with its use and its private handle */
typedef use_t {
	bit kind;
	byte proc;
	bit born;
	bit freed;
	byte ref;
	byte handle;		/* use.handle */
	byte node;		/* 0: on no list, 1: handle->uses, 2: obj->ending */
	byte origin;		/* ghost: the handle that it was opened through */
	bit listed;		/* in process->mappings or domain->accesses */
	bit done;
	byte state;
	bit mapped;		/* pages entered, or placed */
	byte rwsem;
	byte file;		/* references on the internal file */
	bit vma;
	byte f;			/* references on the private handle's file */
	byte fds;
	bit reach;		/* obj.reach of the mapping or access */
};

handle_t H[NH];
use_t U[NU];

/* the object */
byte oref = 1;
byte reach;
byte users;
bit pages = 1;
bit ended;
bit ofreed;

/* processes and their domains */
bit plock[NP];
byte mmap[NP];		/* mmap_lock: readers; a writer's work is one step */
bit dlock[NP];
bit closed[NP];
#ifdef DIRECT
bit device;		/* attached to the domain of process 1 */
bit unquiet;
bit lingering[NU];
bit quarantine[NU];
#endif
#ifdef TRANSLATED
bit device;
#endif

byte running;		/* actors that have not finished */
#if INSTANCE == 4
bit copied;		/* the copy has been sent, or there is none */
#endif

#define LOCALS	byte i, j, k, dead, sub, v, w; bit ok, held, rel, last, mine; \
		bit written, drop, e, got, urel; byte done

/* --- objects ---------------------------------------------------------------- */

/* kosdma_object_get() */
inline object_get()
{
	assert(!ofreed && oref > 0);
	oref++
}

/* kosdma_object_put(), kosdma_object_drop(), kosdma_buffer_drop() */
inline object_put()
{
	assert(oref > 0);
	oref--;
	if
	:: oref == 0 ->
		assert(!ofreed && ended && !pages);		/* P2 */
		for (k : 0 .. NU - 1) {
			assert(U[k].node == 0)
		}
		k = 0;
		ofreed = 1
	:: else
	fi
}

/* kosdma_object_unreach_locked() */
inline object_unreach_locked(var)
{
	assert(reach > 0);
	reach--;
	var = (reach == 0)
}

/* kosdma_buffer_end(), kosdma_buffer_free_blocks() */
inline buffer_end()
{
	assert(users == 0);					/* its WARN_ON_ONCE() */
	d_step {
		assert(!ofreed && !ended && pages);		/* P2: once */
		ended = 1;
		for (k : 0 .. NU - 1) {
			assert(!U[k].mapped);			/* P2 */
#ifdef DIRECT
			assert(!lingering[k] && !quarantine[k])
#endif
		}
		k = 0;
		pages = 0
	}
}

/* kosdma_object_pin() */
inline object_pin()
{
	d_step {
		TREE ->
		assert(!ofreed && reach > 0);			/* its WARN_ON_ONCE() */
		reach++
	}
}

/* kosdma_object_unpin() */
inline object_unpin()
{
	d_step {
		TREE ->
		object_unreach_locked(last)
	}
	if
	:: last -> last = 0; buffer_end()
	:: else
	fi
}

/* kosdma_buffer_use() */
inline buffer_use()
{
	users++
}

/* kosdma_buffer_unuse() */
inline buffer_unuse()
{
	d_step {
		assert(!ofreed && users > 0);
		users--
	}
}

/* --- the tree ---------------------------------------------------------------- */

/* kosdma_handle_reap_locked(), from handle j */
inline handle_reap_locked()
{
	do
#ifdef BREAK_TOMBSTONE
	:: j != NONE && !H[j].file && H[j].children == 0 ->
#else
	:: j != NONE && !H[j].file && H[j].nuses == 0 && H[j].children == 0 ->
#endif
		assert(H[j].st == NEW || H[j].st == ENTERED);	/* P2: once */
		H[j].st = REAPED;
		dead = dead | (1 << j);
		j = H[j].parent;
		if
		:: j != NONE -> H[j].children--
		:: else
		fi
	:: else -> break
	od;
	j = 0
}

/* kosdma_handle_free() */
inline handle_free()
{
	if
	:: dead ->
		d_step {
			for (i : 0 .. NH - 1) {
				if
				:: dead & (1 << i) ->
					assert(H[i].st == REAPED && H[i].f == 0);	/* P2 */
					H[i].st = FREED;
					H[i].parent = NONE;
					object_put()
				:: else
				fi
			}
			i = 0;
			dead = 0
		}
	:: else
	fi
}

/* kosdma_use_add() */
inline use_add(u, h)
{
	d_step {
		TREE ->
		assert(H[h].st == ENTERED && H[h].file);
		U[u].origin = h;
#ifdef BREAK_USE_ADD
		if
		:: true ->
#else
		if
		:: !H[h].revoked ->
#endif
			U[u].handle = h;
			U[u].node = 1;
			H[h].nuses++;
#ifndef BREAK_REACH
			reach++;
#endif
			ok = 1
		:: else ->
			ok = 0
		fi
	}
}

/* kosdma_use_del() */
inline use_del(u)
{
	if
	:: U[u].handle == NONE ->
		/* Seen without the lock. */
		assert(!U[u].freed && !ofreed)
	:: else ->
		d_step {
			TREE ->
			assert(!U[u].freed && !ofreed);
			if
			:: U[u].handle != NONE ->
				assert(H[U[u].handle].st == ENTERED);	/* P2 */
				U[u].node = 0;
				H[U[u].handle].nuses--;
#ifndef BREAK_REACH
				object_unreach_locked(last);
#endif
				j = U[u].handle;
				U[u].handle = NONE;
				handle_reap_locked()
			:: else
			fi
		}
		if
		:: last -> last = 0; buffer_end()
		:: else
		fi;
		handle_free()
	fi
}

/* kosdma_handle_release(), kosdma_handle_closed(): the last fput() of a handle of the object */
inline handle_release(h)
{
	d_step { object_get() };
	d_step {
		TREE ->
		assert(H[h].st == NEW || H[h].st == ENTERED);
		if
		:: H[h].file && !H[h].revoked -> object_unreach_locked(last)
		:: else
		fi;
		H[h].file = 0;
		j = h;
		handle_reap_locked()
	}
	if
	:: last -> last = 0; buffer_end()
	:: else
	fi;
	handle_free();
	d_step { object_put() }
}

/* fput() of a handle's file */
inline handle_fput(h)
{
	d_step {
		assert(H[h].f > 0);
		H[h].f--;
		rel = (H[h].f == 0)
	}
	if
	:: rel -> rel = 0; handle_release(h)
	:: else
	fi
}

/* kosdma_handle_fget() */
inline handle_fget(h)
{
	d_step {
		if
		:: H[h].fds > 0 ->
			assert(H[h].st == ENTERED);
			H[h].f++;
			held = 1
		:: else ->
			held = 0
		fi
	}
}

/*
 * kosdma_handle_look(), kosdma_handle_check(). What is held is mine to put; ok,
 * that there was an unrevoked handle, is the beginning of the call's result.
 */
inline handle_look(h)
{
	handle_fget(h);
	ok = 0;
	if
	:: held -> ok = !H[h].revoked
	:: else
	fi
}

/* kosdma_handle_get_types(), kosdma_handle_reach() */
inline handle_get(h)
{
	handle_look(h);
	if
	:: ok ->
		d_step {
			TREE ->
			ok = !H[h].revoked;
#ifndef BREAK_HOLD
			if
			:: ok -> reach++; mine = 1
			:: else
			fi
#endif
		}
	:: else
	fi
}

/* kosdma_handle_put() */
inline handle_put(h)
{
	if
	:: mine -> mine = 0; object_unpin()
	:: else
	fi;
	ok = 0;
	if
	:: held -> held = 0; handle_fput(h)
	:: else
	fi
}

/* --- mappings and accesses: references --------------------------------------- */

/* kosdma_mapping_drop() and kosdma_access_drop(), at the last kosdma_object_put() */
inline user_put(u)
{
	d_step {
		assert(!U[u].freed && U[u].ref > 0);		/* P2 */
		U[u].ref--;
		if
		:: U[u].ref == 0 ->
			assert(U[u].handle == NONE && U[u].node == 0 && !U[u].listed);
			assert(!U[u].mapped && !U[u].vma && U[u].file == 0 && U[u].f == 0);
			assert(U[u].done);
			U[u].freed = 1;
			U[u].origin = NONE;
			U[u].state = LIVE;
			U[u].done = 0;
			object_put()
		:: else
		fi
	}
}

/* fput() of the mapping's internal file; kosdma_file_release() */
inline file_put(u)
{
	d_step {
		assert(U[u].file > 0);
		U[u].file--;
		urel = (U[u].file == 0)
	}
	if
	:: urel -> urel = 0; user_put(u)
	:: else
	fi
}

/* Pages get into a page table, of the CPU or of an IOMMU. */
#define ENTER(u)							\
	assert(pages);					/* P2 */	\
	assert(!H[U[u].origin].gone);			/* P1 */	\
	U[u].mapped = 1

/* --- mappings ------------------------------------------------------------------ */

/* kosdma_mapping_revoke() */
inline mapping_revoke(u, how)
{
	atomic { U[u].rwsem == 0 -> U[u].rwsem = WRITER };
	if
	:: !U[u].state ->
		U[u].state = how;
		U[u].mapped = 0
	:: else
	fi;
	U[u].rwsem = 0
}

/* kosdma_mapping_end() */
inline mapping_end(u, how)
{
#ifdef BREAK_DEL_FIRST
	use_del(u);
#endif
	mapping_revoke(u, how);
	atomic { !plock[U[u].proc] -> plock[U[u].proc] = 1 };
	if
#ifdef BREAK_ONCE
	:: true ->
#else
	:: !U[u].done ->
#endif
		U[u].done = 1;
		drop = (U[u].file > 0);
		U[u].listed = 0;
		buffer_unuse()
	:: else
	fi;
	plock[U[u].proc] = 0;
	if
	:: drop -> drop = 0; file_put(u)
	:: else
	fi;
	use_del(u)
}

/* munmap(), of kosdma_mapping_close() or at the end of the address space */
inline unmap_vma(u)
{
	if
	:: U[u].vma ->
		d_step { mmap[U[u].proc] == 0 -> U[u].mapped = 0; U[u].vma = 0 };
		file_put(u)
	:: else
	fi
}

/* --- accesses ------------------------------------------------------------------ */

#if defined(DIRECT) || defined(TRANSLATED)
#define HAS_DEVICE	(device)
#else
#define HAS_DEVICE	(1)	/* nobody detaches it */
#endif

/* kosdma_access_settle(): domain->lock is held */
#ifdef DIRECT
inline access_settle()
{
	if
	:: !device ->
		d_step {
			for (i : 0 .. NU - 1) {
				if
				:: lingering[i] && unquiet -> quarantine[i] = 1
				:: lingering[i] && !unquiet -> done = done | (1 << i)
				:: else
				fi;
				lingering[i] = 0
			}
			i = 0
		}
	:: else
	fi
}

/* kosdma_access_release() */
inline access_release()
{
	do
	:: done ->
		w = (done & 1 -> 0 : 1);
		done = done & ~(1 << w);
		buffer_unuse();
#ifndef BREAK_KEEP
		object_unpin();
#endif
		user_put(w);
		w = 0
	:: else -> break
	od;
	skip
}

/* kosdma_access_keep(): domain->lock is held */
inline access_keep(u)
{
	U[u].ref++;
#ifndef BREAK_KEEP
	object_pin();
#endif
	lingering[u] = 1
}
#endif

/* kosdma_access_end(), kosdma_access_unplace() */
inline access_end(u)
{
#ifdef BREAK_DEL_FIRST
	use_del(u);
#endif
	atomic { !dlock[U[u].proc] -> dlock[U[u].proc] = 1 };
	if
	:: !U[u].done ->
#ifdef DIRECT
		written = (U[u].mapped || unquiet);
#endif
		U[u].done = 1;
		U[u].mapped = 0;
		U[u].listed = 0;
#ifdef DIRECT
		if
		:: written ->
			written = 0;
			access_keep(u);
			access_settle()
		:: else ->
			buffer_unuse()
		fi
#else
		buffer_unuse()
#endif
	:: else
	fi;
	dlock[U[u].proc] = 0;
	use_del(u);
#ifdef DIRECT
	access_release()
#endif
}

/* kosdma_mapping_object_end() and kosdma_access_object_end(): ops->end */
inline user_end(u, how)
{
	assert(U[u].born && !U[u].freed);
	assert(how != REVOKED || H[U[u].origin].revoked);	/* P4 */
#ifdef BOTH_KINDS
	if
	:: U[u].kind == MAP -> mapping_end(u, how)
	:: else -> access_end(u)
	fi
#elif KIND == MAP
	mapping_end(u, how)
#else
	access_end(u)
#endif
}

/* --- revoke -------------------------------------------------------------------- */

/* kosdma_handle_mark_locked() */
inline handle_mark_locked(h)
{
	if
	:: !H[h].revoked ->
		H[h].revoked = 1;
#ifndef BREAK_MARK
		for (k : 0 .. NU - 1) {
			if
			:: U[k].handle == h -> U[k].node = 2
			:: else
			fi
		}
		k = 0;
#endif
		if
		:: H[h].file -> object_unreach_locked(last)
		:: else
		fi
	:: else
	fi
}

/* kosdma_object_end_marked() */
inline object_end_marked()
{
	do
	:: atomic {
		TREE && (U[0].node == 2 || U[1].node == 2) ->
		if
		:: U[0].node == 2 -> v = 0
		:: U[1].node == 2 -> v = 1
		fi;
		assert(!U[v].freed && U[v].ref > 0);
		U[v].ref++;
#ifdef BREAK_WAIT
		U[v].node = 0;
#endif
#ifdef BREAK_TREE_HELD
		tree = 1
#endif
	   }
	   user_end(v, REVOKED);
#ifdef BREAK_TREE_HELD
	   tree = 0;
#endif
	   user_put(v);
	   v = 0
	:: atomic { TREE && U[0].node != 2 && U[1].node != 2 -> break }
	od;
	skip
}

/* kosdma_handle_revoke(), kosdma_handle_next() */
inline handle_revoke(h, badged)
{
	d_step {
		TREE ->
		assert(H[h].st == ENTERED && H[h].file);
		sub = (1 << h);
#ifdef BREAK_OWN
		handle_mark_locked(h);
#endif
		/* A parent's index is below its children's: parents first. */
		for (i : 0 .. NH - 1) {
			if
			:: H[i].st == ENTERED && H[i].parent != NONE &&
			   (sub & (1 << H[i].parent)) ->
				sub = sub | (1 << i);
				if
				:: !badged || H[i].badge ||
				   (H[i].parent != h && H[H[i].parent].revoked) ->
					handle_mark_locked(i)
				:: else
				fi
			:: else
			fi
		}
		i = 0
	}
	/* `if (last)' in there: never so, the revoker's handle or whoever revoked it counts. */
	assert(!last);
	object_end_marked();
	d_step {
		sub = sub & ~(1 << h);
		for (i : 0 .. NH - 1) {
			if
			:: (sub & (1 << i)) && H[i].revoked -> H[i].gone = 1
			:: else
			fi;
			/* The invariant at the head of handle.c. */
			assert(H[i].st != ENTERED || H[i].parent == NONE ||
			       !H[H[i].parent].revoked || H[i].revoked)
		}
		i = 0;
		sub = 0;
		for (k : 0 .. NU - 1) {
			assert(U[k].origin == NONE || !H[U[k].origin].gone ||
			       !U[k].mapped);			/* P1 */
		}
		k = 0
	}
}

/* --- ioctls and other system calls ----------------------------------------------- */

/* kosdma_ioctl_handle_revoke() */
inline op_revoke(h, badged)
{
	handle_get(h);
	if
	:: ok -> handle_revoke(h, badged)
	:: else
	fi;
	handle_put(h)
}

/*
 * kosdma_ioctl_handle_copy(), kosdma_handle_create(), kosdma_handle_publish() or
 * kosdma_handle_abort()
 */
inline op_copy(h, n)
{
	handle_get(h);
	if
	:: ok ->
		d_step {
			assert(H[n].st == 0);
			H[n].st = NEW;
			H[n].f = 1;
			object_get()
		}
		d_step {
			TREE ->
#ifdef BREAK_COPY
			if
			:: true ->
#else
			if
			:: !H[h].revoked ->
#endif
				H[n].st = ENTERED;
				H[n].file = 1;
				H[n].parent = h;
				H[h].children++;
				reach++;
				assert(!H[h].gone)			/* P1 */
			:: else ->
				ok = 0
			fi
		}
		if
		:: ok -> d_step { H[n].fds = 1 }
		:: true -> handle_fput(n)
		fi
	:: else
	fi;
	handle_put(h)
}

/* kosdma_ioctl_handle_close() of a transferable kind: close_fd() */
inline op_close(h)
{
	d_step {
		got = 0;
		if
		:: H[h].fds > 0 -> H[h].fds--; got = 1
		:: else
		fi
	}
	if
	:: got -> got = 0; handle_fput(h)
	:: else
	fi
}

/* dup(), or a file that is sent raw and received */
inline op_dup(h)
{
	d_step {
		if
		:: H[h].fds > 0 -> H[h].fds++; H[h].f++
		:: else
		fi
	}
}

/* kosdma_ioctl_buffer_modify(), or another look at the pages without a use */
inline op_modify(h)
{
	handle_get(h);
	if
	:: ok ->
		if
		:: d_step { users == 0 -> assert(pages) }	/* P2 */
		:: users > 0
		fi
	:: else
	fi;
	handle_put(h)
}

/*
 * kosdma_ioctl_buffer_map(), kosdma_mapping_new(), kosdma_mapping_set_buffer(),
 * kosdma_mapping_finish(), kosdma_mapping_enlist(), kosdma_mapping_open(),
 * kosdma_mapping_place(), kosdma_mapping_populate()
 */
inline map(u, h)
{
	d_step {
		assert(!U[u].born);
		U[u].born = 1;
		U[u].ref = 1;
		buffer_use();
		object_get()
	}
	atomic { !plock[U[u].proc] -> U[u].listed = 1 };
	d_step { U[u].file = 1; U[u].ref++ };
	use_add(u, h);
	if
	:: ok ->
		atomic { !plock[U[u].proc] -> plock[U[u].proc] = 1 };
		if
		:: !U[u].done -> U[u].file++
		:: else -> ok = 0
		fi;
		plock[U[u].proc] = 0
	:: else
	fi;
	if
	:: ok ->
		d_step { mmap[U[u].proc] == 0 -> U[u].vma = 1; U[u].file++ };
		file_put(u);
		mmap[U[u].proc]++;
		atomic { U[u].rwsem != WRITER -> U[u].rwsem++ };
#ifdef BREAK_FILL
		if
		:: true ->
#else
		if
		:: !U[u].state ->
#endif
			d_step { ENTER(u) }
		:: else -> ok = 0
		fi;
		U[u].rwsem--;
		mmap[U[u].proc]--
	:: else
	fi
}

/*
 * kosdma_ioctl_access_begin(), kosdma_access_new(), kosdma_access_open(),
 * kosdma_begin_place(), kosdma_access_place(). Nothing keeps the object from ending
 * before the use is recorded. What could not be recorded at its handle must never be
 * seen in domain->accesses, where an attach would place it.
 */
inline begin(u, h)
{
	d_step {
		assert(!U[u].born);
		U[u].born = 1;
		U[u].ref = 1;
		object_get()
	}
	atomic { !dlock[U[u].proc] -> dlock[U[u].proc] = 1 };
#ifdef BREAK_OPEN
	d_step { buffer_use(); U[u].listed = 1 };
	use_add(u, h);	/* a failure ends it below, after the lock was dropped */
	if
	:: ok && HAS_DEVICE -> d_step { ENTER(u) }
	:: else
	fi;
#else
	if
	:: closed[U[u].proc] -> ok = 0
	:: else -> use_add(u, h)
	fi;
	if
	:: ok ->
		d_step { buffer_use(); U[u].listed = 1 };
#ifdef BREAK_PLACE
		dlock[U[u].proc] = 0;
#endif
		if
		:: HAS_DEVICE -> d_step { ENTER(u) }
		:: else
		fi
	:: else ->
		U[u].done = 1
	fi;
#endif
	dlock[U[u].proc] = 0
}

/*
 * The fput() of a private handle's file that drops the last reference;
 * kosdma_handle_release() with the mapping or access as its object
 */
inline private_fput(u)
{
	d_step {
		assert(U[u].f > 0);
		U[u].f--;
		urel = (U[u].f == 0)
	}
	if
	:: urel ->
		urel = 0;
		d_step { assert(U[u].reach); U[u].reach = 0 };
		user_end(u, ENDED);
		user_put(u)
	:: else
	fi
}

/*
 * Map or begin, and kosdma_handle_create() of the private handle, which cannot
 * fail here; publish, or kosdma_handle_abort().
 */
inline op_open(u, h)
{
#ifdef BOTH_KINDS
	if
	:: U[u].kind == MAP -> handle_get(h)
	:: else -> handle_look(h)
	fi;
#elif KIND == MAP
	handle_get(h);
#else
	handle_look(h);
#endif
	if
	:: ok ->
#ifdef BOTH_KINDS
		if
		:: U[u].kind == MAP -> map(u, h)
		:: else -> begin(u, h)
		fi;
#elif KIND == MAP
		map(u, h);
#else
		begin(u, h);
#endif
		if
		:: ok -> d_step { U[u].f = 1; U[u].fds = 1; U[u].reach = 1; U[u].ref++ }
		:: else ->
			/* kosdma_mapping_close(), or kosdma_access_end() */
			user_end(u, ENDED);
			unmap_vma(u)
		fi;
		user_put(u)
	:: else
	fi;
	handle_put(h)
}

/*
 * kosdma_ioctl_handle_close() of a private kind, kosdma_handle_close_object(),
 * kosdma_mapping_close(); or kosdma_handle_abort(); or a bare close()
 */
inline op_close_use(u)
{
	if
	:: U[u].fds > 0 ->
		if
		:: true ->
			user_end(u, ENDED);
			unmap_vma(u)
		:: true
		fi;
		U[u].fds = 0;
		private_fput(u)
	:: else
	fi
}

/* kosdma_domain_end() */
inline domain_end(p)
{
	atomic { !dlock[p] -> dlock[p] = 1 };
	closed[p] = 1;
	d_step {
		for (i : 0 .. NU - 1) {
			if
			:: U[i].kind == ACC && U[i].listed && U[i].proc == p -> U[i].mapped = 0
			:: else
			fi
		}
		i = 0
	}
	dlock[p] = 0
}

/* The address space ends: exit_mmap() */
inline op_exit_mmap(u)
{
	unmap_vma(u)
}

/* --- actors ---------------------------------------------------------------------- */

#if INSTANCE != 6
/* A process that works with handle @h and use @u, in any order, each call once at most. */
proctype client(byte h; byte u)
{
	LOCALS;
	bit may_open = 1, may_close_use = 1, may_close = 1;

#if INSTANCE == 4
	(copied);
#endif
	do
	:: may_open -> may_open = 0; op_open(u, h)
	:: may_close_use && U[u].fds > 0 -> may_close_use = 0; op_close_use(u)
	:: may_close -> may_close = 0; op_close(h)
	:: !may_open && (!may_close_use || U[u].fds == 0) && !may_close -> break
	od;
	/* exit: what is left of a bare close() */
	op_exit_mmap(u);
	d_step { running-- }
}
#endif

#if INSTANCE == 7 || INSTANCE == 8
/* The same, each call once, in one order. */
proctype plain_client(byte h; byte u)
{
	LOCALS;

	op_open(u, h);
	op_close(h);
	op_close_use(u);
	op_exit_mmap(u);
	d_step { running-- }
}
#endif

#if INSTANCE == 2
/* Another thread that touches the mapping: kosdma_vma_fault() */
proctype toucher(byte u)
{
	if
	:: d_step { U[u].vma -> mmap[U[u].proc]++ };
		atomic { U[u].rwsem != WRITER -> U[u].rwsem++ };
		if
		:: !U[u].state -> d_step { ENTER(u) }
		:: else
		fi;
		U[u].rwsem--;
		mmap[U[u].proc]--
	:: running == 1
	fi;
	d_step { running-- }
}
#endif

#if INSTANCE == 4
/* A thread that copies @h to @n and closes @h. */
proctype copier(byte h; byte n)
{
	LOCALS;

	op_copy(h, n);
	copied = 1;
	op_close(h);
	d_step { running-- }
}
#endif

#if INSTANCE != 1
/* Whoever revokes through @h, and closes it. */
proctype revoker(byte h; bit badged)
{
	LOCALS;

	op_revoke(h, badged);
	op_close(h);
	d_step { running-- }
}
#endif

#if INSTANCE == 1
/* The owner with a use of its own; P4. */
proctype owner(byte u)
{
	LOCALS;

	op_open(u, 0);
	op_revoke(0, 0);
	d_step { assert(U[u].mapped && !U[u].done && H[0].file && !H[0].revoked) };
	op_close(0);
	op_close_use(u);
	op_exit_mmap(u);
	d_step { running-- }
}
#endif

#if INSTANCE == 6
/* kosdma_process_teardown(), kosdma_domain_end(), kosdma_domain_end_accesses() */
proctype teardown(byte p)
{
	LOCALS;

	do
	:: atomic {
		!plock[p] && (U[0].kind == MAP && U[0].listed && U[0].proc == p ||
			      U[1].kind == MAP && U[1].listed && U[1].proc == p) ->
		v = (U[0].kind == MAP && U[0].listed && U[0].proc == p -> 0 : 1);
		assert(!U[v].freed && U[v].ref > 0);
		U[v].ref++
	   }
	   mapping_end(v, ENDED);
	   user_put(v);
	   v = 0
	:: atomic {
		!plock[p] && !(U[0].kind == MAP && U[0].listed && U[0].proc == p ||
			       U[1].kind == MAP && U[1].listed && U[1].proc == p) -> break
	   }
	od;

	domain_end(p);

	do
	:: atomic {
		!dlock[p] && (U[0].kind == ACC && U[0].listed && U[0].proc == p ||
			      U[1].kind == ACC && U[1].listed && U[1].proc == p) ->
		v = (U[0].kind == ACC && U[0].listed && U[0].proc == p -> 0 : 1);
		assert(!U[v].freed && U[v].ref > 0);
		U[v].ref++
	   }
	   access_end(v);
	   user_put(v);
	   v = 0
	:: atomic {
		!dlock[p] && !(U[0].kind == ACC && U[0].listed && U[0].proc == p ||
			       U[1].kind == ACC && U[1].listed && U[1].proc == p) -> break
	   }
	od;
	skip;
	d_step { running-- }
}

/*
 * A process that opens two uses through @h and dies: kosdma_process_die() from
 * kosdma_process_mm_release(), then its pages, then its descriptors.
 */
proctype mortal(byte p; byte h)
{
	LOCALS;

	op_open(0, h);
	op_open(1, h);
	atomic { !plock[p] -> running++; run teardown(p) };
	op_exit_mmap(0);
	op_exit_mmap(1);
	op_close(h);
	d_step { drop = (U[0].fds > 0); U[0].fds = 0 };
	if
	:: drop -> drop = 0; private_fput(0)
	:: else
	fi;
	d_step { drop = (U[1].fds > 0); U[1].fds = 0 };
	if
	:: drop -> drop = 0; private_fput(1)
	:: else
	fi;
	d_step { running-- }
}
#endif

#if INSTANCE == 9
/* A process that changes the buffer's cache type. */
proctype modifier(byte h)
{
	LOCALS;

	op_modify(h);
	op_close(h);
	d_step { running-- }
}
#endif

#if INSTANCE == 11
/* A thread that closes the domain. */
proctype domain_closer(byte p)
{
	LOCALS;

	domain_end(p);
	d_step { running-- }
}
#endif

#if INSTANCE == 10
/* A thread that asks where its access is: kosdma_ioctl_access_info(), kosdma_access_where() */
proctype informer(byte u)
{
	LOCALS;

	if
	:: d_step { U[u].fds > 0 -> U[u].f++; U[u].ref++ };
		atomic { !dlock[U[u].proc] -> dlock[U[u].proc] = 1 };
		if
		:: U[u].mapped ->
			got = 1;
#ifndef BREAK_WHERE
			object_pin()
#endif
		:: else
		fi;
		dlock[U[u].proc] = 0;
		if
		:: got ->
			got = 0;
			assert(pages);				/* P2 */
#ifndef BREAK_WHERE
			object_unpin()
#endif
		:: else
		fi;
		user_put(u);
		private_fput(u)
	:: running == 1
	fi;
	d_step { running-- }
}
#endif

#if defined(DIRECT) || defined(TRANSLATED)
/*
 * A device comes and goes: kosdma_domain_add(), kosdma_domain_place_all(),
 * kosdma_domain_remove()
 */
proctype attacher(byte p)
{
	LOCALS;

	atomic { !dlock[p] -> dlock[p] = 1 };
	device = 1;
	d_step {
		for (i : 0 .. NU - 1) {
			if
			:: U[i].kind == ACC && U[i].listed && U[i].proc == p &&
			   !U[i].mapped -> ENTER(i)
			:: else
			fi
		}
		i = 0
	}
	dlock[p] = 0;
#ifdef DIRECT
	atomic { !dlock[p] -> dlock[p] = 1 };
	device = 0;
	if
	:: unquiet = 1
	:: true
	fi;
	access_settle();
	dlock[p] = 0;
	access_release();
	/* kosdma_quarantine_release(), when nothing else can come any more */
	(running == 1);
	d_step {
		unquiet = 0;
		for (i : 0 .. NU - 1) {
			if
			:: quarantine[i] -> quarantine[i] = 0; done = done | (1 << i)
			:: else
			fi
		}
		i = 0
	}
	access_release();
#endif
	d_step { running-- }
}
#endif

/* --- instances --------------------------------------------------------------------- */

inline handle_new(h, p, b)
{
	H[h].st = ENTERED;
	H[h].f = 1;
	H[h].fds = 1;
	H[h].file = 1;
	H[h].badge = b;
	H[h].parent = p;
	if
	:: p != NONE -> H[p].children++
	:: else
	fi;
	reach++;
	oref++
}

inline use_new(u, k, p)
{
	U[u].kind = k;
	U[u].proc = p
}

init
{
	byte n;

	d_step {
		for (n : 0 .. NH - 1) {
			H[n].parent = NONE
		}
		for (n : 0 .. NU - 1) {
			U[n].handle = NONE;
			U[n].origin = NONE
		}
		n = 0;
		handle_new(0, NONE, 0);
		oref--		/* the creator's */
	}
	atomic {
#if INSTANCE == 1
		/* map, begin or close against revoke; the owner has a use of its own */
		handle_new(1, 0, 0);
		use_new(0, OWN, 0);
		use_new(1, KIND, 1);
		running = 2;
		run owner(0);
		run client(1, 1)
#elif INSTANCE == 2
		/* the same with a second thread that touches the mapping */
		handle_new(1, 0, 0);
		use_new(1, KIND, 1);
		running = 3;
		run revoker(0, 0);
		run client(1, 1);
		run toucher(1)
#elif INSTANCE == 3
		/* a device is attached during begin and revoke */
		handle_new(1, 0, 0);
		use_new(1, KIND, 1);
		running = 3;
		run revoker(0, 0);
		run client(1, 1);
		run attacher(1)
#elif INSTANCE == 4
		/* copy and transfer against revoke: the copy is used by another process */
		handle_new(1, 0, 0);
		use_new(1, KIND, 2);
		running = 3;
		run revoker(0, 0);
		run copier(1, 2);
		run client(2, 1)
#elif INSTANCE == 5
		/* two revokes, one from above; use below both */
		handle_new(1, 0, 0);
		handle_new(2, 1, 0);
		use_new(1, KIND, 2);
		running = 3;
		run revoker(0, 0);
		run revoker(1, 0);
		run client(2, 1)
#elif INSTANCE == 6
		/* the process that has the uses dies */
		handle_new(1, 0, 0);
		use_new(0, MAP, 1);
		use_new(1, ACC, 1);
		running = 2;
		run revoker(0, 0);
		run mortal(1, 1)
#elif INSTANCE == 7
		/* badges: one child goes, with what is below it, the other stays */
		handle_new(1, 0, 1);
		handle_new(2, 1, 0);
		handle_new(3, 0, 0);
		use_new(0, MAP, 1);
		use_new(1, ACC, 2);
		running = 3;
		run revoker(0, 1);
		run client(2, 0);
		run plain_client(3, 1);
		H[1].fds = 0;
		H[1].f = 0;
		H[1].file = 0;		/* a tombstone */
		reach--
#elif INSTANCE == 8
		/* two processes share a descriptor's file (dup, raw SCM_RIGHTS) */
		handle_new(1, 0, 0);
		H[1].fds = 2;
		H[1].f = 2;
		use_new(0, KIND, 1);
		use_new(1, OWN, 2);
		running = 3;
		run revoker(0, 0);
		run client(1, 0);
		run plain_client(1, 1)
#elif INSTANCE == 9
		/* the cache type is changed while the buffer is taken back */
		handle_new(1, 0, 0);
		handle_new(2, 0, 0);
		use_new(1, KIND, 2);
		running = 3;
		run revoker(0, 0);
		run modifier(1);
		run client(2, 1)
#elif INSTANCE == 10
		/* where an access is, asked while it is taken back */
		handle_new(1, 0, 0);
		use_new(1, KIND, 1);
		running = 3;
		run revoker(0, 0);
		run client(1, 1);
		run informer(1)
#elif INSTANCE == 11
		/* the domain is closed */
		handle_new(1, 0, 0);
		use_new(1, KIND, 1);
		running = 3;
		run revoker(0, 0);
		run client(1, 1);
		run domain_closer(1)
#endif
	}
	(running == 0);
	/* P2: everything is freed. */
	d_step {
		assert(oref == 0 && ofreed && reach == 0 && users == 0);
		for (n : 0 .. NH - 1) {
			assert(H[n].st == 0 || H[n].st == FREED);
			assert(H[n].f == 0)
		}
		for (n : 0 .. NU - 1) {
			assert(!U[n].born || U[n].freed)
		}
		n = 0
	}
}
