/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * One record per process, kept by fork, exec, exit and release.
 *
 * A task is known by the address of its task_struct, which is unique from its fork until sched_process_free, so a pid
 * that is used again cannot be mistaken, and the two commonest look-ups need no read of kernel memory.
 */
#ifndef PIDWARDEN_TRACK_H
#define PIDWARDEN_TRACK_H

#include "retain.h"

#define TICK_NS 1000000000ull
#define TELL_PASSED_NS 100000000ull

static __always_inline void read_key(task_p p, struct pw_key *key)
{
	task_p leader = BPF_CORE_READ(p, group_leader);

	key->tgid = BPF_CORE_READ(p, tgid);
	key->start_ns = BPF_CORE_READ(leader, start_boottime);
	key->pad = 0;
}

/* Notes the program of a process; what it says of it: SPAWNER, SHELL, PROTECTED or nothing. */
static __always_inline __u32 read_exe(task_p p, struct pw_proc *rec)
{
	struct mm_struct *mm = BPF_CORE_READ(p, mm);
	struct inode *inode = mm ? BPF_CORE_READ(mm, exe_file, f_inode) : NULL;
	struct pw_exe exe = {};
	__u32 *flags;

	if (!inode)
		return 0;
	exe.ino = BPF_CORE_READ(inode, i_ino);
	exe.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	rec->exe_ino = exe.ino;
	rec->exe_dev = exe.dev;
	flags = bpf_map_lookup_elem(&exes, &exe);
	return flags ? *flags : 0;
}

static __always_inline bool leads_terminal(task_p p)
{
	struct signal_struct *sig = BPF_CORE_READ(p, signal);

	return BPF_CORE_READ(sig, leader) && BPF_CORE_READ(sig, tty);
}

/* A gate does not hold it stopped any more. Time spent so is no part of its life. */
static __always_inline void unstop(struct pw_proc *rec)
{
	__u64 since = rec->held_ns;

	rec->held_ns = 0;
	if (since)
		rec->stopped_ns += bpf_ktime_get_boot_ns() - since;
}

/* Families and branches of a new process. `parent` is the creator's record, NULL when there is none. */
static __always_inline void join(struct pw_proc *rec, const struct pw_key *key, struct pw_proc *parent, task_p creator,
				 __u64 now)
{
	struct pw_config *cfg = get_config();
	struct pw_group *own;
	__u32 scoped = 0;
	bool shell;

	if (!cfg)
		return;
	shell = parent && (parent->flags & PW_PROC_SHELL) && leads_terminal(creator);
	if (parent && parent->family && !shell && !(parent->flags & PW_PROC_SPAWNER)) {
		rec->family = parent->family;
		if (now - rec->parent.start_ns - parent->stopped_ns < cfg->branch_age_ns) {
			rec->branch = parent->branch;
			rec->generation = parent->generation + 1;
		}
	} else if (shell && parent->found_family && now - parent->found_ns < cfg->job_gap_ns &&
		   bpf_map_lookup_elem(&groups, &parent->found_family)) {
		/* A pipeline, or a loop typed at the prompt: one job, one family. */
		rec->family = parent->found_family;
	}
	if (!(cfg->flags & PW_CONFIG_ONLY) || (parent && parent->flags & PW_PROC_SCOPE)) {
		scoped = PW_GROUP_SCOPED;
	} else if (parent) {
		own = bpf_map_lookup_elem(&groups, &parent->family);
		scoped = own ? own->flags & PW_GROUP_SCOPED : 0;
	}
	if (!rec->family)
		rec->family = new_group(0, key, &rec->parent, now, scoped);
	if (!rec->branch)
		rec->branch = new_group(rec->family, key, &rec->parent, now, scoped);
	if (shell) {
		parent->found_ns = now;
		parent->found_family = rec->family;
	}
}

static __always_inline int add_task(task_p p, const struct pw_key *key, __u32 flags, __u32 depth)
{
	struct pw_task task = {.key = *key, .flags = flags, .depth = depth};
	struct pw_state *st = get_state();
	__u64 addr = (__u64)p;

	if (st)
		task.walk = st->walks;
	return bpf_map_update_elem(&tasks, &addr, &task, BPF_NOEXIST);
}

/* A task of the process does not run any more. Whether that was the last of its own. */
static __always_inline bool end_task(struct pw_proc *rec, __u32 flags)
{
	__s32 live = __sync_fetch_and_add(&rec->live, -1) - 1;

	if (flags & PW_TASK_FOLDED) {
		__sync_fetch_and_add(&rec->hidden, -1);
		return false;
	}
	return live <= rec->hidden;
}

/* The last thread of a process has exited, `p`; the code is what wait(2) says. */
static __always_inline void note_exit(struct pw_proc *rec, task_p p)
{
	if (BPF_CORE_READ(p, signal, flags) & SIGNAL_GROUP_EXIT)
		rec->exit_code = BPF_CORE_READ(p, signal, group_exit_code);
	else
		rec->exit_code = BPF_CORE_READ(p, group_leader, exit_code);
	rec->exit_ns = bpf_ktime_get_boot_ns();
}

/* The task is gone: its slot, unless that is off the books already, and its part in its process's record. */
__noinline int forget_task(__u64 addr)
{
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &addr);
	struct pw_proc *rec;
	struct pw_key key;
	struct pw_state *st = get_state();
	__u32 flags;

	if (!task || !st)
		return 0;
	key = task->key;
	flags = __sync_fetch_and_or(&task->flags, PW_TASK_RELEASED);
	bpf_map_delete_elem(&tasks, &addr);
	if (flags & PW_TASK_FOLDED)
		__sync_fetch_and_add(&st->hidden, -1);
	rec = bpf_map_lookup_elem(&procs, &key);
	if (!rec)
		return 1;
	if (!(flags & PW_TASK_EXITED) && end_task(rec, flags) && !rec->exit_ns)
		rec->exit_ns = bpf_ktime_get_boot_ns(); /* its exit was missed as well */
	if (!(flags & PW_TASK_RELEASED))
		drop_slot(rec, flags);
	retire(&key, rec);
	return 1;
}

enum {
	ENROLLED,
	NO_ROOM,
	FOLDED, /* it gets no record of its own: it counts as a slot of its creator's */
};

/* A new process. `creator` is the task that forked it, `pkey` that task's process. Its own key says when it was born. */
static __noinline int enrol(task_p p, struct pw_key *key, struct pw_key *pkey, task_p creator, __u32 extra_flags)
{
	struct pw_state *st = get_state();
	struct pw_proc *parent, *rec;

	if (!st || !key || !pkey)
		return NO_ROOM;
	parent = pkey->tgid ? bpf_map_lookup_elem(&procs, pkey) : NULL;
	if (parent && !(extra_flags & (PW_PROC_KTHREAD | PW_PROC_SCOPE)) && is_crowded(parent))
		return FOLDED;
	bpf_map_update_elem(&procs, key, &NEW_PROC, BPF_NOEXIST);
	rec = bpf_map_lookup_elem(&procs, key);
	if (!rec) {
		count(&st->lost_procs);
		return NO_ROOM;
	}
	rec->uid = BPF_CORE_READ(p, cred, uid.val);
	rec->flags = extra_flags;
	rec->leader = (__u64)BPF_CORE_READ(p, group_leader);
	BPF_CORE_READ_STR_INTO(&rec->comm, p, comm);
	if (parent) {
		rec->parent = *pkey;
		rec->lost_ns = parent->lost_ns + parent->stopped_ns;
		if (!(extra_flags & PW_PROC_GUESSED)) /* a copy is still that program */
			rec->flags |= parent->flags & (PW_PROC_SHELL | PW_PROC_PROTECTED);
		rec->exe_ino = parent->exe_ino;
		rec->exe_dev = parent->exe_dev;
	}
	if (extra_flags & PW_PROC_GUESSED)
		rec->flags |= read_exe(p, rec);
	if (!(rec->flags & PW_PROC_KTHREAD))
		join(rec, key, parent, creator, key->start_ns);
	count_record(rec->family, 1);
	if (parent) {
		__sync_fetch_and_add(&parent->kids, 1);
		__sync_fetch_and_add(&parent->forks, 1);
		if (!(extra_flags & PW_PROC_GUESSED))
			parent->uid = rec->uid; /* just copied from it */
	}
	return ENROLLED;
}

/*
 * A fork that the gate did not see. Where half of a budget is used user space is told, while there is time: it may close
 * what is open, at a price.
 */
static __always_inline void tell_passed(struct pw_proc *rec, struct pw_key *by)
{
	struct pw_config *cfg = get_config();
	struct pw_group *g = bpf_map_lookup_elem(&groups, &rec->family);
	struct pw_group *b = bpf_map_lookup_elem(&groups, &rec->branch);
	struct pw_state *st = get_state();
	__u64 now = bpf_ktime_get_boot_ns();
	struct pw_proc *creator;

	if (!cfg || !st || !g || !b || !(cfg->flags & PW_CONFIG_LEAKY) || now - st->passed_ns < TELL_PASSED_NS)
		return;
	if (2 * (g->slots - g->outside) < (__s32)g->limit && 2 * (b->slots - b->outside) < (__s32)b->limit)
		return;
	creator = bpf_map_lookup_elem(&procs, by);
	if (!creator || creator->flags & (PW_PROC_EXEMPT | PW_PROC_KTHREAD))
		return; /* the gate lets those pass */
	st->passed_ns = now;
	tell(g, PW_EVENT_PASSED, now, by);
}

/* One more task, process leader or thread, of the process `key`, made by `by`, which reserved slots in `from`. */
static __noinline int enlist(task_p p, struct pw_key *key, struct pw_key *by, struct pw_task *from, __u32 flags)
{
	struct pw_state *st = get_state();
	__u64 branch = 0, family = 0;
	struct pw_proc *rec;
	__u32 depth = 0, how;

	if (!key || !by || !st)
		return 0;
	rec = bpf_map_lookup_elem(&procs, key);
	if (!rec)
		return 0;
	/* What was reserved was in scope; of others the child itself is asked: it may be made in another cgroup. */
	if (!(from && from->reserved_family) && !in_scope((__u64)p, rec->family))
		flags |= PW_TASK_OUTSIDE;
	how = flags & PW_TASK_OUTSIDE ? OUTSIDE : 0;
	if (from && key->tgid == by->tgid && !(flags & PW_TASK_FOLDED))
		depth = from->depth + 1;
	if (add_task(p, key, flags, depth)) {
		/* The address is in use, so the release of the task that had it before was missed; or the map is full. */
		if (forget_task((__u64)p))
			count(&st->missed_frees);
		if (add_task(p, key, flags, depth)) {
			count(&st->lost_tasks);
			if (rec->slots <= 0) {
				rec->exit_ns = bpf_ktime_get_boot_ns(); /* nobody will tell us when */
				uncharge(rec->branch, 0, 0); /* gone, if it was made for this one */
				uncharge(rec->family, 0, 0);
			}
			return 0;
		}
	}
	__sync_fetch_and_add(&rec->slots, 1);
	if (how & OUTSIDE)
		__sync_fetch_and_add(&rec->outside, 1);
	if (!(flags & PW_TASK_EXITED)) {
		__sync_fetch_and_add(&rec->live, 1);
		if (!(flags & PW_TASK_FOLDED))
			rec->exit_ns = 0;
	} else if (rec->live <= 0 && !rec->exit_ns) {
		note_exit(rec, p);
	}
	if (depth > rec->thread_depth)
		rec->thread_depth = depth;
	if (flags & PW_TASK_FOLDED) {
		__sync_fetch_and_add(&rec->hidden, 1);
		count(&st->hidden);
	}
	if (from) {
		branch = __sync_lock_test_and_set(&from->reserved_branch, 0);
		family = __sync_lock_test_and_set(&from->reserved_family, 0);
		if (!family && !how)
			tell_passed(rec, by);
	}
	charge(rec->branch, by, rec->generation, branch == rec->branch ? how | RESERVED : how);
	charge(rec->family, by, 0, family == rec->family ? how | RESERVED : how);
	if (branch != rec->branch) /* the child founded a branch, or a family */
		unreserve(branch);
	if (family != rec->family)
		unreserve(family);
	return 1;
}

/* A process that gets no record: its creator's stands for it. */
static __always_inline void count_folded(struct pw_proc *rec, struct pw_state *st)
{
	count(&st->folded_alive);
	if (rec) {
		__sync_fetch_and_add(&rec->folded, 1);
		__sync_fetch_and_add(&rec->forks, 1);
	}
}

/* A task that nobody told us about: it was there before us, or a map was full when it was born. */
__noinline int adopt(__u64 task)
{
	task_p p = (task_p)task;
	struct pw_state *st = get_state();
	struct pw_config *cfg = get_config();
	struct pw_key key = {}, pkey = {};
	task_p creator = BPF_CORE_READ(p, real_parent);
	__u32 flags = BPF_CORE_READ(p, flags), marks = PW_PROC_GUESSED;
	__u32 kind = flags & PF_EXITING ? PW_TASK_EXITED : 0;
	__u64 addr = (__u64)creator;
	struct pw_task *ptask;

	if (!st || !cfg)
		return 0;
	/* Who forks no more needs no room that others may need: the zombies of a bomb that was before us. */
	if (kind && sixteenths() >= 12)
		return 0;
	read_key(p, &key);
	if (!key.tgid)
		return 0;
	if (!bpf_map_lookup_elem(&procs, &key)) {
		ptask = bpf_map_lookup_elem(&tasks, &addr);
		if (ptask && ptask->key.tgid != key.tgid)
			pkey = ptask->key;
		marks |= flags & PF_KTHREAD ? PW_PROC_KTHREAD : 0;
#pragma unroll
		for (int i = 0; i < PW_MAX_ONLY; i++)
			if (cfg->only[i] == key.tgid)
				marks |= PW_PROC_SPAWNER | PW_PROC_SCOPE;
		if (key.tgid == 1)
			marks |= PW_PROC_SPAWNER;
		if (enrol(p, &key, &pkey, creator, marks) == FOLDED) {
			/* A crowd that was here first must not take the room of those who come. */
			key = pkey;
			kind |= PW_TASK_FOLDED;
			count_folded(bpf_map_lookup_elem(&procs, &key), st);
		}
	}
	return enlist(p, &key, &key, NULL, kind);
}

/*
 * Whether one without a record may be given one. What is held is to be judged: that has the reserve as well, but for the
 * last sixteenth of the twenty that the map has (_SPARE in kernel/bpf.py).
 */
static __always_inline bool has_room_for(const struct pw_proc *creator)
{
	return sixteenths() < (is_held(creator->family) || is_held(creator->branch) ? 19 : 15);
}

/* Gives a task of a process that has no record one, once there is room; what it did since its birth is not known. */
static __noinline int unfold(task_p p, struct pw_task *task)
{
	struct pw_state *st = get_state();
	struct pw_proc *rec, *creator, *parent;
	struct pw_key key = {}, pkey;
	struct pw_task *above;
	__u64 addr;
	bool alive;

	creator = bpf_map_lookup_elem(&procs, &task->key);
	if (!creator || !st)
		return 0;
	read_key(p, &key);
	rec = bpf_map_lookup_elem(&procs, &key);
	if (!rec) {
		if (!has_room_for(creator))
			return 0;
		bpf_map_update_elem(&procs, &key, &NEW_PROC, BPF_NOEXIST);
		rec = bpf_map_lookup_elem(&procs, &key);
		if (!rec)
			return 0;
		/* Counted with whom all of them were counted; forked by its parent, if that is one of the family still. */
		pkey = task->key;
		addr = (__u64)BPF_CORE_READ(p, real_parent);
		above = bpf_map_lookup_elem(&tasks, &addr);
		parent = above ? bpf_map_lookup_elem(&procs, &above->key) : NULL;
		if (parent && parent->family == creator->family)
			pkey = above->key;
		else
			parent = creator;
		rec->parent = pkey;
		rec->lost_ns = parent->lost_ns + parent->stopped_ns;
		rec->family = creator->family;
		rec->branch = creator->branch; /* where its slot was charged */
		rec->generation = parent->generation + 1;
		rec->uid = BPF_CORE_READ(p, cred, uid.val);
		rec->leader = (__u64)BPF_CORE_READ(p, group_leader);
		rec->flags = PW_PROC_GUESSED | (creator->flags & PW_PROC_KTHREAD) | read_exe(p, rec);
		BPF_CORE_READ_STR_INTO(&rec->comm, p, comm);
		count_record(rec->family, 1);
		__sync_fetch_and_add(&parent->kids, 1);
		__sync_fetch_and_add(&parent->forks, 1);
		__sync_fetch_and_add(&creator->forks, -1);
		__sync_fetch_and_add(&creator->folded, -1);
	}
	alive = !(task->flags & PW_TASK_EXITED);
	if (task->flags & PW_TASK_STOPPED) {
		rec->held_ns = bpf_ktime_get_boot_ns();
		__sync_fetch_and_add(&rec->stops, 1);
		__sync_fetch_and_add(&creator->stops, -1);
	}
	if (task->flags & PW_TASK_OUTSIDE) {
		__sync_fetch_and_add(&rec->outside, 1);
		__sync_fetch_and_add(&creator->outside, -1);
	}
	__sync_fetch_and_add(&rec->slots, 1);
	__sync_fetch_and_add(&creator->slots, -1);
	if (alive) {
		__sync_fetch_and_add(&rec->live, 1);
		end_task(creator, PW_TASK_FOLDED);
		rec->exit_ns = 0;
	} else if (rec->live <= 0 && !rec->exit_ns) {
		note_exit(rec, p);
	}
	__sync_fetch_and_add(&st->hidden, -1);
	task->key = key;
	__sync_fetch_and_and(&task->flags, ~(PW_TASK_FOLDED | PW_TASK_STOPPED));
	return 1;
}

static __always_inline struct pw_task *find_task(task_p p)
{
	__u64 addr = (__u64)p;
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &addr);
	struct pw_state *st;

	if (task)
		return task;
	st = get_state();
	if (st)
		count(&st->adopted);
	adopt(addr);
	return bpf_map_lookup_elem(&tasks, &addr);
}

/* How much it forks: by threads other than its leader, and in the last seconds. */
static __always_inline void count_fork(struct pw_proc *rec, task_p creator)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (BPF_CORE_READ(creator, pid) != BPF_CORE_READ(creator, tgid))
		__sync_fetch_and_add(&rec->thread_forks, 1);
	if (now - rec->tick_ns >= TICK_NS) {
		rec->last_forks = now - rec->tick_ns < 2 * TICK_NS ? rec->tick_forks : 0;
		rec->tick_forks = 0;
		rec->tick_ns = now;
	}
	__sync_fetch_and_add(&rec->tick_forks, 1);
}

SEC("raw_tp/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	task_p creator = (task_p)ctx->args[0], child = (task_p)ctx->args[1];
	struct pw_state *st = get_state();
	struct pw_task *task = find_task(creator);
	struct pw_key key = {}, by;
	struct pw_proc *rec;
	__u32 flags = 0;

	if (!task || !st)
		return 0;
	count(&st->forks);
	by = task->key;
	rec = bpf_map_lookup_elem(&procs, &by);
	if (rec)
		count_fork(rec, creator);
	key.tgid = BPF_CORE_READ(child, tgid);
	if (key.tgid == (__u32)BPF_CORE_READ(child, pid)) {
		key.start_ns = BPF_CORE_READ(child, start_boottime);
		__u32 kthread = BPF_CORE_READ(child, flags) & PF_KTHREAD ? PW_PROC_KTHREAD : 0;

		switch (enrol(child, &key, &by, creator, kthread)) {
		case NO_ROOM:
			give_back(task);
			return 0;
		case FOLDED:
			key = by;
			flags = PW_TASK_FOLDED;
			count_folded(rec, st);
		}
	} else {
		key = by; /* CLONE_THREAD: the same process, the same record */
		flags = task->flags & PW_TASK_FOLDED;
	}
	if (!enlist(child, &key, &by, task, flags))
		give_back(task);
	return 0;
}

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	/* An exec by another thread than the leader: the kernel has already given it the leader's pid and start time. */
	task_p p = (task_p)ctx->args[0];
	struct pw_task *task = find_task(p);
	struct pw_proc *rec;

	if (!task || (task->flags & PW_TASK_FOLDED && !unfold(p, task)))
		return 0;
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (!rec)
		return 0;
	rec->leader = (__u64)p;
	rec->exec_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&rec->execs, 1);
	rec->uid = BPF_CORE_READ(p, cred, uid.val);
	BPF_CORE_READ_STR_INTO(&rec->comm, p, comm);
	if (rec->flags & PW_PROC_KTHREAD) {
		/* A helper program that the kernel itself starts (modprobe, core dump): from now on an ordinary process. */
		struct pw_key key = task->key;

		rec->flags &= ~PW_PROC_KTHREAD;
		join(rec, &key, NULL, p, key.start_ns);
		count_member(rec->family, 1);
		charge(rec->branch, &key, 0, task->flags & PW_TASK_OUTSIDE ? OUTSIDE : 0);
		charge(rec->family, &key, 0, task->flags & PW_TASK_OUTSIDE ? OUTSIDE : 0);
	}
	/* Forking again as another program: what SCOPE and EXEMPT say is about the process, the rest about its program. */
	rec->flags &= ~(PW_PROC_SHELL | PW_PROC_PROTECTED);
	if (!(rec->flags & PW_PROC_SCOPE) && task->key.tgid != 1)
		rec->flags &= ~PW_PROC_SPAWNER;
	rec->flags |= read_exe(p, rec);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	task_p p = (task_p)ctx->args[0];
	__u64 addr = (__u64)p;
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &addr);
	struct pw_proc *rec;

	if (!task || __sync_fetch_and_or(&task->flags, PW_TASK_EXITED) & PW_TASK_EXITED)
		return 0;
	give_back(task);
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (!rec)
		return 0;
	/*
	 * A thread that nobody traces has nobody to reap it: its slot is free now, and told of some 20 ms later. A loop that
	 * makes a thread and waits for it would have hundreds by then.
	 */
	if (BPF_CORE_READ(p, group_leader) != p && !BPF_CORE_READ(p, ptrace) &&
	    !(__sync_fetch_and_or(&task->flags, PW_TASK_RELEASED) & PW_TASK_RELEASED))
		drop_slot(rec, task->flags);
	if (end_task(rec, task->flags))
		note_exit(rec, p);
	return 0;
}

SEC("raw_tp/sched_process_free")
int on_free(struct bpf_raw_tracepoint_args *ctx)
{
	forget_task(ctx->args[0]);
	return 0;
}

#endif
