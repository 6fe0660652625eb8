/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What user space asks for. It never writes a record or a group itself: an element written from outside would undo
 * whatever the hooks had counted in between. It runs this program with five numbers instead.
 */
#ifndef PIDWARDEN_CONTROL_H
#define PIDWARDEN_CONTROL_H

#include "track.h"

static __always_inline int move(struct pw_proc *rec, struct pw_group *to)
{
	__u64 family = rec->family, branch = rec->branch;
	__s32 n = rec->slots;

	if (family == to->id)
		return 0;
	rec->family = to->id;
	rec->branch = to->id;
	rec->generation = 0;
	__sync_fetch_and_add(&to->slots, n);
	if (to->slots > (__s32)to->peak)
		to->peak = to->slots;
	uncharge(branch, n);
	uncharge(family, n);
	return 1;
}

struct dump {
	__u64 families[3]; /* all 0: every process */
	__u32 n;
};

static __always_inline struct pw_dump *dump_slot(struct dump *d)
{
	__u32 i = d->n;
	struct pw_dump *slot = bpf_map_lookup_elem(&dump, &i);

	if (slot)
		d->n = i + 1;
	return slot;
}

static long dump_proc(void *map, struct pw_key *key, struct pw_proc *rec, struct dump *d)
{
	struct pw_dump *slot;
	__u64 f = rec->family;

	if (d->families[0] && (!f || (f != d->families[0] && f != d->families[1] && f != d->families[2])))
		return 0;
	slot = dump_slot(d);
	if (!slot)
		return 1;
	slot->key = *key;
	slot->proc = *rec;
	return 0;
}

static long dump_group(void *map, __u64 *id, struct pw_group *g, struct dump *d)
{
	struct pw_dump *slot = dump_slot(d);

	if (!slot)
		return 1;
	*(struct pw_group *)slot = *g;
	return 0;
}

_Static_assert(sizeof(struct pw_group) <= sizeof(struct pw_dump), "a group is laid over an element of `dump`");

struct gone {
	struct pw_key key;
	__u32 n;
};

static long forget_if_gone(void *map, __u64 *addr, struct pw_task *task, struct gone *gone)
{
	if (task->key.tgid == gone->key.tgid && task->key.start_ns == gone->key.start_ns)
		gone->n += forget_task((task_p)*addr);
	return 0;
}

/* What user space reads; -1 if `op` is none of these. */
static __always_inline int answer(struct bpf_raw_tracepoint_args *ctx, struct pw_key *key, struct pw_proc *rec,
				  struct pw_group *g)
{
	struct dump d = {};

	switch (ctx->args[0]) {
	case PW_OP_DUMP_PROCS:
		d.families[0] = ctx->args[1];
		d.families[1] = ctx->args[2];
		d.families[2] = ctx->args[3];
		bpf_for_each_map_elem(&procs, dump_proc, &d, 0);
		return d.n;
	case PW_OP_DUMP_GROUPS:
		bpf_for_each_map_elem(&groups, dump_group, &d, 0);
		return d.n;
	case PW_OP_GET_PROC:
		if (rec)
			dump_proc(NULL, key, rec, &d);
		return d.n;
	case PW_OP_GET_GROUP:
		if (g)
			dump_group(NULL, NULL, g, &d);
		return d.n;
	}
	return -1;
}

/* Returns 1 if it was done, 0 if the group or the process is not (any more) there. */
SEC("raw_tp")
int control(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 op = ctx->args[0], id = ctx->args[1], limit = ctx->args[2], depth = ctx->args[3];
	struct pw_key key = {.tgid = ctx->args[2], .start_ns = ctx->args[3]};
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);
	struct pw_proc *rec = bpf_map_lookup_elem(&procs, &key);

	int n = answer(ctx, &key, rec, g);

	if (n >= 0)
		return n;
	if (op == PW_OP_FLAG && rec) {
		__sync_fetch_and_or(&rec->flags, (__u32)id);
		__sync_fetch_and_and(&rec->flags, ~(__u32)ctx->args[4]);
		return 1;
	}
	if (op == PW_OP_UNSTOP && rec) {
		rec->held_ns = 0;
		return 1;
	}
	if (op == PW_OP_GONE && rec) {
		struct gone gone = {.key = key};
		struct pw_state *st = get_state();

		bpf_for_each_map_elem(&tasks, forget_if_gone, &gone, 0);
		if (st)
			__sync_fetch_and_add(&st->missed_frees, gone.n);
		return gone.n;
	}
	if (op == PW_OP_SETTLE) {
		settle();
		return 1;
	}
	if (!g)
		return 0;
	switch (op) {
	case PW_OP_HOLD:
		hold(g, bpf_ktime_get_boot_ns());
		return 1;
	case PW_OP_RELEASE:
	case PW_OP_LIMIT:
		if (limit)
			g->limit = limit;
		if (depth)
			g->depth_limit = depth;
		if (op == PW_OP_RELEASE)
			release(g);
		return 1;
	case PW_OP_NEW_FAMILY: {
		/* A family of its own for a guilty subtree: born held and watched. */
		__u64 new_id = new_group(0, &key, &g->spawner, bpf_ktime_get_boot_ns(),
					 PW_GROUP_SCOPED | PW_GROUP_ALARMED | PW_GROUP_WATCHED);
		struct pw_group *born = bpf_map_lookup_elem(&groups, &new_id);

		if (!born)
			return 0;
		born->alarm_ns = g->alarm_ns;
		born->rule = g->rule;
		hold(born, bpf_ktime_get_boot_ns());
		return (int)new_id;
	}
	case PW_OP_MOVE:
		return rec ? move(rec, g) : 0;
	case PW_OP_FORGET:
		__sync_fetch_and_and(&g->flags, ~PW_GROUP_WATCHED);
		if (g->slots <= 0) {
			release(g);
			bpf_map_delete_elem(&groups, &id);
		}
		return 1;
	}
	return 0;
}

#endif
