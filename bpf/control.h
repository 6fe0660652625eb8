/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What user space wants done. It never writes a record or a group itself: an element written from outside would undo
 * whatever the hooks had counted in between. It runs this program with five numbers instead.
 */
#ifndef PIDWARDEN_CONTROL_H
#define PIDWARDEN_CONTROL_H

#include "track.h"

static __always_inline int move(struct pw_proc *rec, struct pw_group *to)
{
	__u64 family = rec->family, branch = rec->branch;
	__s32 n = rec->slots, outside = rec->outside;

	if (family == to->id)
		return 0;
	count_member(family, -1);
	count_member(to->id, 1);
	rec->family = to->id;
	rec->branch = 0; /* or it would be counted twice */
	rec->generation = 0;
	__sync_fetch_and_add(&to->outside, outside);
	__sync_fetch_and_add(&to->slots, n);
	if (to->slots > (__s32)to->peak)
		to->peak = to->slots;
	uncharge(branch, n, outside);
	uncharge(family, n, outside);
	return 1;
}

/* Returns 1 if it was done, 0 if the group or the process is not (any more) there. */
SEC("raw_tp")
int control(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 op = ctx->args[0], id = ctx->args[1], limit = ctx->args[2], depth = ctx->args[3];
	struct pw_key key = {.tgid = ctx->args[2], .start_ns = ctx->args[3]};
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);
	struct pw_proc *rec = bpf_map_lookup_elem(&procs, &key);
	struct pw_state *st = get_state();

	if (op == PW_OP_SEEN && st) {
		st->seen_ns = bpf_ktime_get_ns();
		return 1;
	}
	if (op == PW_OP_FLAG && rec) {
		__sync_fetch_and_or(&rec->flags, (__u32)id);
		__sync_fetch_and_and(&rec->flags, ~(__u32)ctx->args[4]);
		return 1;
	}
	if (op == PW_OP_UNSTOP && rec) {
		unstop(rec);
		return 1;
	}
	if (op == PW_OP_STOPPED && rec) {
		rec->held_ns = bpf_ktime_get_boot_ns();
		return 1;
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
		g->settle_at = 0;
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
	case PW_OP_DOUBT:
		__sync_fetch_and_or(&g->flags, PW_GROUP_DOUBTED);
		return 1;
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
