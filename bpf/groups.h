/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Families and branches: their slots, their thresholds, the alarm, and whether they are held. */
#ifndef PIDWARDEN_GROUPS_H
#define PIDWARDEN_GROUPS_H

#include "scope.h"

#define SETTLE_NS 50000000ull /* no walk takes so long, unless something else has its processor */

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
	if (cfg->flags & PW_CONFIG_AUTOHOLD) /* by slots that are in scope, or it would not be crossed */
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

/* So many slots less, so many of them of tasks that are not in scope. */
static __always_inline void uncharge(__u64 id, __s32 by, __s32 outside)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);

	if (!g)
		return;
	if (outside) /* first: the last slot that goes takes the group with it */
		__sync_fetch_and_add(&g->outside, -outside);
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

static __always_inline void unreserve(__u64 id)
{
	struct pw_group *g = id ? bpf_map_lookup_elem(&groups, &id) : NULL;

	if (g)
		__sync_fetch_and_add(&g->inflight, -1);
}

/* The fork is done, or will never be. Two may want to give the same back: a walk, and the task itself. */
static __always_inline void give_back(struct pw_task *task)
{
	__u64 branch = __sync_lock_test_and_set(&task->reserved_branch, 0);
	__u64 family = __sync_lock_test_and_set(&task->reserved_family, 0);

	unreserve(branch);
	unreserve(family);
}

/*
 * At system call entry nobody says when a fork has failed, and the slot stays reserved. But a task that sleeps as one does
 * who waits, or is stopped, is in no fork: there it sleeps uninterruptibly, if at all.
 */
static __always_inline void settle_reservation(struct pw_task *task, task_p p)
{
	if (task->reserved_family && !task->forking &&
	    BPF_CORE_READ(p, __state) & (TASK_INTERRUPTIBLE | __TASK_STOPPED | __TASK_TRACED))
		give_back(task);
}

/* A slot less in the books of the process, and of its groups. */
static __always_inline void drop_slot(struct pw_proc *rec, __u32 task_flags)
{
	__s32 outside = !!(task_flags & PW_TASK_OUTSIDE);

	if (outside)
		__sync_fetch_and_add(&rec->outside, -1);
	__sync_fetch_and_add(&rec->slots, -1);
	uncharge(rec->branch, 1, outside);
	uncharge(rec->family, 1, outside);
}

/*
 * A task's slot is free when it is reaped, but sched_process_free comes an RCU grace period later: a fast loop of fork
 * and wait would seem to hold hundreds of slots. So before a threshold counts as crossed, every task that is reaped
 * already is taken off the books.
 */
static long settle_one(void *map, __u64 *addr, struct pw_task *task, void *ctx)
{
	task_p p = (task_p)*addr;
	struct pw_proc *rec;

	settle_reservation(task, p);
	if (!(task->flags & PW_TASK_EXITED) || task->flags & PW_TASK_RELEASED)
		return 0;
	if (BPF_CORE_READ(p, exit_state) != EXIT_DEAD)
		return 0;
	if (__sync_fetch_and_or(&task->flags, PW_TASK_RELEASED) & PW_TASK_RELEASED)
		return 0;
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (rec)
		drop_slot(rec, task->flags);
	return 0;
}

/* Not static, like others that many ways lead to: see in_scope(). */
__noinline int settle(void)
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
	st->settle_after = began + SETTLE_NS; /* nobody else at the same time, unless this is preempted for long */
	settle();
	ended = bpf_ktime_get_boot_ns();
	st->settle_after = ended + 16 * (ended - began);
}

static __always_inline __s32 room_in(const struct pw_group *g)
{
	return (__s32)g->limit - (g->slots - g->outside) - g->inflight;
}

/* Whether the group has more than its limit, reserved slots included, once the books are right. Ask for each slot once. */
static __always_inline bool is_over(struct pw_group *g)
{
	__u64 asked = __sync_fetch_and_add(&g->asks, 1) + 1;
	__s32 room = room_in(g);

	if (room >= 0 || asked < g->settle_at)
		return false;
	settle_if_due();
	room = room_in(g);
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

enum {
	RESERVED = 1, /* the slot was reserved here */
	OUTSIDE = 2,  /* it is not in scope */
};

/* One more task in the group. `by` is the process that made it. */
static __noinline int charge(__u64 id, struct pw_key *by, __u32 generation, __u32 how)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);

	if (!g || !by)
		return 0;
	__sync_fetch_and_add(&g->forks, 1);
	if (how & OUTSIDE)
		__sync_fetch_and_add(&g->outside, 1);
	__sync_fetch_and_add(&g->slots, 1);
	if (how & RESERVED)
		__sync_fetch_and_add(&g->inflight, -1);
	if (how & OUTSIDE)
		;
	else if (is_over(g)) /* only after a fork that passed no gate */
		cross(g, by, slots_rule(g));
	else if (g->kind == PW_BRANCH && generation >= g->depth_limit)
		cross(g, by, PW_RULE_GENERATIONS);
	if (g->slots > (__s32)g->peak)
		g->peak = g->slots;
	return 0;
}

static __always_inline bool is_held(__u64 id)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &id);

	return g && g->flags & PW_GROUP_HELD;
}

#endif
