/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Seeding: the tasks that were there before us, by one walk over the kernel's own list inside one RCU section.
 *
 * The hooks are attached first, and a walk goes before that, so that whoever forks in between is not met before his own
 * parent. A task forked since then is already known and is left alone; one that is freed while we
 * walk cannot reach sched_process_free before the walk's RCU section ends. So nothing is missed and nothing counted
 * twice. The list is in order of birth, so a creator comes before its children.
 *
 * Walked again, it sets the books right. Who was lost or folded while records ran short gets a record. And whoever is not
 * met for a while is gone: the kernel runs no BPF program on a processor that is inside a bpf(2) map call, not even the
 * softirq that frees tasks there, so a release can be missed for good.
 */
#ifndef PIDWARDEN_SEED_H
#define PIDWARDEN_SEED_H

#include "track.h"

#define ABSENT_NS 100000000ull /* longer than an RCU grace period: until then it may just wait to be freed */
#define MAX_WALK (1 << 22) /* PID_MAX_LIMIT: there cannot be more tasks */

struct walk {
	task_p head;   /* init_task, where the list begins and ends */
	task_p leader; /* the process we are in */
	__u64 end;     /* its signal_struct's list head, where the list of its threads ends */
	struct list_head *thread;
};

static __always_inline task_p next_process(task_p p)
{
	return container(BPF_CORE_READ(p, tasks.next), struct task_struct, tasks);
}

static long find_head(__u32 i, struct walk *w)
{
	task_p p = next_process(w->head);

	w->head = p;
	return !BPF_CORE_READ(p, pid);
}

/* Who has another user, or is in another cgroup, than when it was made. */
__noinline int rescope(__u64 addr)
{
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &addr);
	struct pw_config *cfg = get_config();
	struct pw_group *branch, *family;
	struct pw_proc *rec;
	__u32 was, outside;
	__s32 by;

	if (!cfg || !task || task->flags & (PW_TASK_EXITED | PW_TASK_RELEASED))
		return 0;
	if (!(cfg->flags & PW_CONFIG_ONLY) && !(task->flags & PW_TASK_OUTSIDE))
		return 0;
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (!rec)
		return 0;
	outside = in_scope(addr, rec->family) ? 0 : PW_TASK_OUTSIDE;
	if ((task->flags & PW_TASK_OUTSIDE) == outside)
		return 0;
	was = outside ? __sync_fetch_and_or(&task->flags, PW_TASK_OUTSIDE) :
			__sync_fetch_and_and(&task->flags, ~PW_TASK_OUTSIDE);
	if (was & PW_TASK_RELEASED || (was & PW_TASK_OUTSIDE) == outside)
		return 0;
	by = outside ? 1 : -1;
	__sync_fetch_and_add(&rec->outside, by);
	branch = bpf_map_lookup_elem(&groups, &rec->branch);
	if (branch) {
		__sync_fetch_and_add(&branch->outside, by);
		branch->settle_at = 0;
	}
	family = bpf_map_lookup_elem(&groups, &rec->family);
	if (family) {
		__sync_fetch_and_add(&family->outside, by);
		family->settle_at = 0;
	}
	return 0;
}

static __always_inline void seed_task(task_p p)
{
	__u64 addr = (__u64)p;
	struct pw_state *st = get_state();
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &addr);
	struct pw_key key = {};

	if (!st)
		return;
	if (task && !(task->flags & PW_TASK_FOLDED)) {
		read_key(p, &key);
		if (task->key.tgid != key.tgid || task->key.start_ns != key.start_ns) {
			forget_task(addr); /* its release was missed, and the memory has been used again */
			count(&st->missed_frees);
			task = NULL;
		}
	}
	if (task) {
		task->walk = st->walks;
		task->absent_ns = 0;
		rescope(addr);
		if (task->flags & PW_TASK_FOLDED)
			unfold(p, task);
		return;
	}
	/* One that is not yet woken for the first time is announced by the fork hook in a moment. */
	if (BPF_CORE_READ(p, __state) & TASK_NEW)
		return;
	if (adopt(addr))
		__sync_fetch_and_add(&st->seeded, 1);
}

static long walk_step(__u32 i, struct walk *w)
{
	struct signal_struct *sig;
	task_p p;

	if (w->thread && (__u64)w->thread != w->end) {
		p = container(w->thread, struct task_struct, thread_node);
		w->thread = BPF_CORE_READ(p, thread_node.next);
		if (p != w->leader)
			seed_task(p);
		return 0;
	}
	p = next_process(w->leader);
	w->leader = p;
	if (p == w->head)
		return 1;
	seed_task(p);
	sig = BPF_CORE_READ(p, signal);
	w->end = sig ? (__u64)sig + bpf_core_field_offset(struct signal_struct, thread_head) : 0;
	w->thread = sig ? BPF_CORE_READ(sig, thread_head.next) : NULL;
	return 0;
}

static long miss_one(void *map, __u64 *addr, struct pw_task *task, void *ctx)
{
	struct pw_state *st = get_state();
	__u64 now = bpf_ktime_get_boot_ns();

	if (!st || task->walk == (__u32)st->walks)
		return 0;
	if (!task->absent_ns) {
		task->absent_ns = now;
	} else if (now - task->absent_ns > ABSENT_NS) {
		forget_task(*addr);
		count(&st->missed_frees);
	}
	return 0;
}

SEC("raw_tp")
int seed(struct bpf_raw_tracepoint_args *ctx)
{
	task_p self = (task_p)bpf_get_current_task();
	struct pw_state *st = get_state();
	struct walk w = {};

	if (!st)
		return 0;
	st->walks++;
	w.head = BPF_CORE_READ(self, group_leader);
	bpf_loop(MAX_WALK, find_head, &w, 0);
	w.leader = w.head;
	w.thread = (struct list_head *)some_zero();
	bpf_loop(MAX_WALK, walk_step, &w, 0);
	bpf_for_each_map_elem(&tasks, miss_one, NULL, 0);
	return 0;
}

#endif
