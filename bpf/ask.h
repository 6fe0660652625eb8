/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What user space asks. The answer is copied into the map `dump`, which it reads through mmap; a process with what can only
 * be read from the kernel now: its parent, its state, and who and what it calls itself.
 */
#ifndef PIDWARDEN_ASK_H
#define PIDWARDEN_ASK_H

#include "track.h"

/* How many elements are copied is counted in a map: of a number on the stack the verifier would follow every value. */
static __always_inline struct pw_dump *dump_slot(void)
{
	struct pw_state *st = get_state();
	struct pw_dump *slot;
	__u32 i;

	if (!st)
		return NULL;
	i = st->dumped;
	slot = bpf_map_lookup_elem(&dump, &i);
	if (slot)
		st->dumped = i + 1;
	return slot;
}

/* The letter for a task's state, as fs/proc/array.c has it. Not static: so the verifier looks at it once, not per path. */
__noinline int letter(__u32 state, __u32 gone)
{
	if (gone)
		return gone & EXIT_DEAD ? 0 : 'Z'; /* reaped: it waits only for its memory to be freed */
	if ((state & TASK_IDLE) == TASK_IDLE)
		return 'I';
	if (state & TASK_UNINTERRUPTIBLE || state & (TASK_RTLOCK_WAIT | TASK_FROZEN))
		return 'D';
	if (state & TASK_INTERRUPTIBLE)
		return 'S';
	if (state & __TASK_STOPPED)
		return 'T';
	if (state & __TASK_TRACED)
		return 't';
	return state & TASK_PARKED ? 'P' : 'R';
}

/* What no hook tells: the parent it has now, its state, and who and what it calls itself. */
static __always_inline void read_now(struct pw_dump *slot)
{
	task_p p = (task_p)slot->proc.leader;
	struct pw_config *cfg = get_config();

	slot->ppid = 0;
	slot->state = 0;
	/* The address may have been given to another task, if a release was missed. */
	if (slot->proc.slots <= 0 || BPF_CORE_READ(p, tgid) != slot->key.tgid ||
	    BPF_CORE_READ(p, start_boottime) != slot->key.start_ns)
		return;
	slot->state = letter(BPF_CORE_READ(p, __state), BPF_CORE_READ(p, exit_state));
	if (slot->state)
		slot->ppid = BPF_CORE_READ(p, real_parent, tgid);
	slot->proc.uid = BPF_CORE_READ(p, cred, uid.val);
	if (cfg && (cfg->n_uids || cfg->n_cgroups) && !in_scope((__u64)p, slot->proc.family))
		slot->proc.flags |= PW_PROC_OUTSIDE;
	BPF_CORE_READ_STR_INTO(&slot->proc.comm, p, comm);
}

/* What is asked for. */
struct ask {
	__u64 families[3]; /* all 0: of every one */
	__u32 kind;        /* enum pw_ask */
	__u32 mark;
	struct pw_key key; /* the next ancestor to mark */
};

static __always_inline bool is_asked(const struct pw_proc *rec, const struct ask *a)
{
	__u64 f = rec->family;

	return !a->families[0] || (f && (f == a->families[0] || f == a->families[1] || f == a->families[2]));
}

static long mark_one(__u32 i, struct ask *a)
{
	struct pw_proc *rec = bpf_map_lookup_elem(&procs, &a->key);

	if (!rec || rec->mark == a->mark || !is_asked(rec, a))
		return 1;
	rec->mark = a->mark;
	a->key = rec->parent;
	return 0;
}

static long mark_proc(void *map, struct pw_key *key, struct pw_proc *rec, struct ask *a)
{
	if (rec->slots <= 0)
		return 0;
	a->key = *key;
	bpf_loop(DEFAULT_RECORDS, mark_one, a, 0);
	return 0;
}

static long dump_proc(void *map, struct pw_key *key, struct pw_proc *rec, struct ask *a)
{
	struct pw_dump *slot;

	if (!is_asked(rec, a))
		return 0;
	if ((a->kind == PW_ASK_LINEAGE && rec->mark != a->mark) || (a->kind == PW_ASK_STOPPED && !rec->held_ns))
		return 0;
	slot = dump_slot();
	if (!slot)
		return 1;
	slot->key = *key;
	slot->proc = *rec;
	read_now(slot);
	return 0;
}

static long dump_hidden(void *map, __u64 *addr, struct pw_task *task, struct ask *a)
{
	struct pw_dump *slot;
	struct pw_proc *rec;

	if (!(task->flags & PW_TASK_FOLDED) || task->flags & PW_TASK_EXITED)
		return 0;
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (!rec || !is_asked(rec, a))
		return 0;
	slot = dump_slot();
	if (!slot)
		return 1;
	slot->proc = *rec;
	slot->proc.parent = task->key;
	slot->proc.leader = (__u64)BPF_CORE_READ((task_p)*addr, group_leader);
	slot->proc.flags = PW_PROC_GUESSED | (rec->flags & PW_PROC_PROTECTED);
	slot->proc.slots = slot->proc.live = 1;
	slot->proc.hidden = 0;
	read_key((task_p)*addr, &slot->key);
	read_now(slot);
	return 0;
}

static long dump_group(void *map, __u64 *id, struct pw_group *g, void *ctx)
{
	struct pw_dump *slot = dump_slot();

	if (!slot)
		return 1;
	*(struct pw_group *)slot = *g;
	return 0;
}

_Static_assert(sizeof(struct pw_group) <= sizeof(struct pw_dump), "a group is laid over an element of `dump`");

/* Functions, or the compiler makes one call out of calls for different maps, which kernels before 6.3 refuse. */
static __noinline int ask_procs(struct ask *a)
{
	struct pw_state *st = get_state();

	if (st && a->kind == PW_ASK_LINEAGE) {
		a->mark = ++st->marks;
		bpf_for_each_map_elem(&procs, mark_proc, a, 0);
	}
	bpf_for_each_map_elem(&procs, dump_proc, a, 0);
	return 0;
}

static __noinline int ask_hidden(struct ask *a)
{
	bpf_for_each_map_elem(&tasks, dump_hidden, a, 0);
	return 0;
}

static __noinline int ask_groups(void)
{
	bpf_for_each_map_elem(&groups, dump_group, NULL, 0);
	return 0;
}

/* Returns how many elements it copied. */
SEC("raw_tp")
int ask(struct bpf_raw_tracepoint_args *ctx)
{
	struct ask a = {.kind = ctx->args[0]};
	struct pw_state *st = get_state();
	__u64 id = ctx->args[1];
	struct pw_proc *rec;
	struct pw_group *g;

	if (!st)
		return 0;
	st->dumped = 0;
	switch (a.kind) {
	case PW_ASK_LINEAGE:
	case PW_ASK_PROCS:
		a.families[0] = ctx->args[1];
		a.families[1] = ctx->args[2];
		a.families[2] = ctx->args[3];
		/* fall through */
	case PW_ASK_STOPPED:
		ask_procs(&a);
		break;
	case PW_ASK_HIDDEN:
		a.families[0] = ctx->args[1];
		a.families[1] = ctx->args[2];
		a.families[2] = ctx->args[3];
		ask_hidden(&a);
		break;
	case PW_ASK_PROC:
		a.key.tgid = ctx->args[2];
		a.key.start_ns = ctx->args[3];
		rec = bpf_map_lookup_elem(&procs, &a.key);
		if (rec)
			dump_proc(NULL, &a.key, rec, &a);
		break;
	case PW_ASK_GROUPS:
		ask_groups();
		break;
	case PW_ASK_GROUP:
		g = bpf_map_lookup_elem(&groups, &id);
		if (g)
			dump_group(NULL, NULL, g, NULL);
	}
	return st->dumped;
}

#endif
