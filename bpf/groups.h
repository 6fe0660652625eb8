/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Families and branches: their slots, their thresholds, the alarm, and whether they are held. */
#ifndef PIDWARDEN_GROUPS_H
#define PIDWARDEN_GROUPS_H

#include "maps.h"

/* Returns false if the event is lost: the caller leaves the group so that the next fork tries again. */
static __always_inline bool tell(const struct pw_group *g, __u32 kind, __u64 now, const struct pw_key *by)
{
	struct pw_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		struct pw_state *st = get_state();

		if (st)
			__sync_fetch_and_add(&st->lost_events, 1);
		return false;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = now;
	e->group = g->id;
	e->family = g->family;
	if (by)
		e->by = *by;
	e->kind = kind;
	e->rule = g->rule;
	e->slots = g->slots;
	e->flags = g->flags;
	bpf_ringbuf_submit(e, 0);
	return true;
}

static __always_inline void hold(struct pw_group *g, __u64 now)
{
	struct pw_state *st = get_state();
	__u32 old = __sync_fetch_and_or(&g->flags, PW_GROUP_HELD);

	if (old & PW_GROUP_HELD)
		return;
	g->held_ns = now;
	if (st)
		__sync_fetch_and_add(&st->holds, 1);
}

static __always_inline void release(struct pw_group *g)
{
	struct pw_state *st = get_state();
	__u32 old = __sync_fetch_and_and(&g->flags, ~(PW_GROUP_HELD | PW_GROUP_ALARMED));

	g->held_ns = 0;
	if ((old & PW_GROUP_HELD) && st)
		__sync_fetch_and_add(&st->holds, -1);
}

/* A threshold is crossed: hold first, then tell, so that nobody has to be awake for the hold. */
static __noinline int cross(struct pw_group *g, struct pw_key *by, __u32 rule)
{
	struct pw_config *cfg = get_config();
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 old;

	if (!g || !by || !cfg)
		return 0;
	old = __sync_fetch_and_or(&g->flags, PW_GROUP_ALARMED);
	if (old & PW_GROUP_ALARMED)
		return 0;
	g->rule = rule;
	g->alarm_ns = now;
	if ((cfg->flags & PW_CONFIG_AUTOHOLD) && (old & PW_GROUP_SCOPED))
		hold(g, now);
	if (!tell(g, PW_EVENT_ALARM, now, by))
		__sync_fetch_and_and(&g->flags, ~PW_GROUP_ALARMED);
	return 0;
}

static __always_inline __u64 new_group(__u64 family, const struct pw_key *founder, const struct pw_key *spawner,
				       __u64 now, __u32 scoped)
{
	struct pw_state *st = get_state();
	struct pw_config *cfg = get_config();
	struct pw_group *g;
	__u64 id;

	if (!st || !cfg)
		return 0;
	id = __sync_fetch_and_add(&st->next_id, 1) + 1;
	if (bpf_map_update_elem(&groups, &id, &NEW_GROUP, BPF_NOEXIST)) {
		__sync_fetch_and_add(&st->lost_groups, 1);
		return 0;
	}
	g = bpf_map_lookup_elem(&groups, &id);
	if (!g)
		return 0;
	g->id = id;
	g->family = family ? family : id;
	g->founder = *founder;
	g->spawner = *spawner;
	g->born_ns = now;
	g->kind = family ? PW_BRANCH : PW_FAMILY;
	g->limit = family ? cfg->hold_at : cfg->family_hold_at;
	g->depth_limit = cfg->depth_limit;
	g->flags = scoped;
	return id;
}

static __always_inline void uncharge(__u64 id, __s32 by)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);

	if (!g)
		return;
	if (__sync_fetch_and_add(&g->slots, -by) > by)
		return;
	/* Nobody is left in it, so nobody can fork into it. */
	if (g->flags & PW_GROUP_WATCHED) {
		tell(g, PW_EVENT_EMPTY, bpf_ktime_get_boot_ns(), NULL);
	} else {
		release(g);
		bpf_map_delete_elem(&groups, &id);
	}
}

/*
 * A task's slot is free when it is reaped, but sched_process_free comes an RCU grace period later: a fast loop of fork
 * and wait would seem to hold hundreds of slots. So before a threshold counts as crossed, every task that is reaped
 * already is taken off the books.
 */
static long settle_one(void *map, __u64 *addr, struct pw_task *task, void *ctx)
{
	struct task_struct *p;
	struct pw_proc *rec;

	if (!(task->flags & PW_TASK_EXITED) || task->flags & PW_TASK_RELEASED)
		return 0;
	p = (struct task_struct *)*addr;
	if (BPF_CORE_READ(p, exit_state) != EXIT_DEAD)
		return 0;
	if (__sync_fetch_and_or(&task->flags, PW_TASK_RELEASED) & PW_TASK_RELEASED)
		return 0;
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (!rec)
		return 0;
	__sync_fetch_and_add(&rec->slots, -1);
	uncharge(rec->branch, 1);
	uncharge(rec->family, 1);
	return 0;
}

static __noinline int settle(void)
{
	bpf_for_each_map_elem(&tasks, settle_one, NULL, 0);
	return 0;
}

/*
 * The same on the way into a fork, where it may take no more than a sixteenth of the time: a family that stays at its limit
 * would have it done for every fork. What is reaped meanwhile counts a few milliseconds longer.
 */
static __always_inline void settle_if_due(void)
{
	__u64 began = bpf_ktime_get_boot_ns(), ended;
	struct pw_state *st = get_state();

	if (!st || began < st->settle_after)
		return;
	st->settle_after = ~0ull; /* nobody else at the same time */
	settle();
	ended = bpf_ktime_get_boot_ns();
	st->settle_after = ended + 16 * (ended - began);
}

/* Whether the group has more than its limit, reserved slots included, once the books are right. Ask for each slot once. */
static __always_inline bool is_over(struct pw_group *g)
{
	__u64 asked = __sync_fetch_and_add(&g->asks, 1) + 1;
	__s32 room = (__s32)g->limit - g->slots - g->inflight;

	if (room >= 0 || asked < g->settle_at)
		return false;
	settle_if_due();
	room = (__s32)g->limit - g->slots - g->inflight;
	if (room < 0)
		return true;
	g->settle_at = g->asks + room;
	return false;
}

static __always_inline __u32 slots_rule(const struct pw_group *g)
{
	return g->kind == PW_FAMILY ? PW_RULE_FAMILY_SLOTS : PW_RULE_BRANCH_SLOTS;
}

/*
 * A slot for a fork that is about to happen. Reserving before looking makes the limit exact, however many tasks are on
 * their way at once. False if the group is held: then nothing is reserved.
 */
static __noinline int reserve(__u64 id, struct pw_key *by)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);

	if (!g || !by)
		return 1;
	__sync_fetch_and_add(&g->inflight, 1);
	/* A held one that has no alarm had one that found no room in the ring buffer. */
	if (g->flags & PW_GROUP_HELD ? !(g->flags & PW_GROUP_ALARMED) : is_over(g))
		cross(g, by, slots_rule(g));
	if (!(g->flags & PW_GROUP_HELD))
		return 1;
	__sync_fetch_and_add(&g->inflight, -1);
	__sync_fetch_and_add(&g->stops, 1);
	return 0;
}

static __always_inline void unreserve(__u64 id)
{
	struct pw_group *g = id ? bpf_map_lookup_elem(&groups, &id) : NULL;

	if (g)
		__sync_fetch_and_add(&g->inflight, -1);
}

/* The fork is done, or will never be. */
static __always_inline void give_back(struct pw_task *task)
{
	__u64 branch = task->reserved_branch, family = task->reserved_family;

	task->reserved_branch = 0;
	task->reserved_family = 0;
	unreserve(branch);
	unreserve(family);
}

/* One more task in the group. `by` is the process that made it; `reserved` if its slot was reserved here. */
static __noinline int charge(__u64 id, struct pw_key *by, __u32 generation, bool reserved)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);

	if (!g || !by)
		return 0;
	__sync_fetch_and_add(&g->forks, 1);
	__sync_fetch_and_add(&g->slots, 1);
	if (reserved)
		__sync_fetch_and_add(&g->inflight, -1);
	if (is_over(g)) /* only after a fork that passed no gate */
		cross(g, by, slots_rule(g));
	else if (g->kind == PW_BRANCH && generation >= g->depth_limit)
		cross(g, by, PW_RULE_GENERATIONS);
	if (g->slots > (__s32)g->peak)
		g->peak = g->slots;
	return 0;
}

#endif
