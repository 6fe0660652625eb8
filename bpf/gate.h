/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The gates: where a held family does not get into fork. One of them is up; kernel/gates.py says which.
 *
 * SIGSTOP is sent to the caller, and its fork ends with the restart code: the task sleeps stopped and, once continued,
 * enters the same call again and meets the gate again. Nobody sees an error, no processor time is used, and SIGCONT from
 * another member changes nothing.
 */
#ifndef PIDWARDEN_GATE_H
#define PIDWARDEN_GATE_H

#include "calls.h"
#include "track.h"

/*
 * An interactive shell is never stopped: somebody may be typing in it. But a loop typed at its prompt that starts program
 * after program is this shell's own. So where the family of its jobs is held, it gets what Ctrl-C would send, which ends the
 * loop and brings back the prompt; the fork it is in, and what is typed next, are a job of their own.
 */
static __always_inline bool interrupt_shell(struct pw_proc *rec)
{
	struct pw_config *cfg = get_config();
	struct pw_group *g;

	if (!cfg || !(rec->flags & PW_PROC_SHELL) || !rec->found_family ||
	    bpf_ktime_get_boot_ns() - rec->found_ns >= cfg->job_gap_ns)
		return false;
	g = bpf_map_lookup_elem(&groups, &rec->found_family);
	if (!g || !(g->flags & PW_GROUP_HELD) || !leads_terminal((task_p)bpf_get_current_task()))
		return false;
	rec->found_family = 0;
	__sync_fetch_and_add(&g->stops, 1);
	bpf_send_signal(SIGINT);
	return true;
}

/* Slots in both groups of a process, or in neither. */
static __always_inline bool reserve_both(struct pw_task *task, struct pw_proc *rec)
{
	if (!reserve(rec->branch, &task->key))
		return false;
	task->reserved_branch = rec->branch;
	if (reserve(rec->family, &task->key)) {
		task->reserved_family = rec->family;
		return true;
	}
	give_back(task);
	return false;
}

/*
 * The last fork that went through a hook is neither charged nor given back: it was done, and the program that is told of
 * forks was left out. Where tracepoints can be preempted (7.x) that happens whenever somebody else on this processor was
 * stopped in the middle of it: a program that runs is not run again. So the child is asked instead.
 */
static __always_inline void enrol_missed(struct pw_task *task)
{
	__u64 child = task->forking;

	if (child && task->reserved_family && !bpf_map_lookup_elem(&tasks, &child))
		adopt(child);
}

/*
 * Whether the current task's fork is not to happen; if it is, its slots are reserved now. `child` is the address of the
 * task that it is making, as far as that is known: then give_back_failed() is called when it comes to nothing. Otherwise
 * the slots stay reserved until the task forks again, ends, or is found to wait for something else.
 */
static __noinline int is_shut(struct pw_task *task, struct pw_proc *rec, __u64 child)
{
	if (!task || !rec || rec->flags & PW_PROC_EXEMPT)
		return 0;
	if (interrupt_shell(rec))
		return 0;
	if (!(task->flags & PW_TASK_FOLDED))
		unstop(rec);
	enrol_missed(task);
	give_back(task); /* of a fork that failed, or that was interrupted and now begins again */
	if (!in_scope(bpf_get_current_task(), rec->family))
		return 0;
	task->forking = child;
	return !reserve_both(task, rec);
}

static __always_inline void note_stop(struct pw_task *task, struct pw_proc *rec)
{
	struct pw_state *st = get_state();

	if (task->flags & PW_TASK_FOLDED)
		__sync_fetch_and_or(&task->flags, PW_TASK_STOPPED);
	else
		rec->held_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&rec->stops, 1);
	if (st)
		count(&st->stops);
}

static __always_inline void note_refusal(struct pw_proc *rec, struct pw_state *st)
{
	struct pw_group *g = bpf_map_lookup_elem(&groups, &rec->family);

	if (g)
		__sync_fetch_and_add(&g->refusals, 1);
	__sync_fetch_and_add(&rec->refusals, 1);
	__sync_fetch_and_add(&rec->stops, 1); /* it was about to fork, which is what the judge wants to know */
	count(&st->refusals);
}

/* -- system call entry ------------------------------------------------------------------------------------------------ */

/* The signal is pending when the fork begins, and the kernel looks for that first. */
static __noinline int stop_if_held(void *ctx)
{
	struct pw_task *task = find_task((task_p)bpf_get_current_task());
	struct pw_proc *rec = task ? bpf_map_lookup_elem(&procs, &task->key) : NULL;

	if (!task || !rec || !is_shut(task, rec, 0))
		return 0;
	note_stop(task, rec);
	bpf_send_signal_thread(SIGSTOP);
	return 0;
}

SEC("tp/syscalls/sys_enter_fork")
int gate_fork(void *ctx)
{
	return stop_if_held(ctx);
}

SEC("tp/syscalls/sys_enter_vfork")
int gate_vfork(void *ctx)
{
	return stop_if_held(ctx);
}

SEC("tp/syscalls/sys_enter_clone")
int gate_clone(void *ctx)
{
	return stop_if_held(ctx);
}

SEC("tp/syscalls/sys_enter_clone3")
int gate_clone3(void *ctx)
{
	return stop_if_held(ctx);
}

/*
 * Per-call tracepoints do not see calls of another ABI than the machine's own. This one sees every call of every
 * process, and costs all of them, so it is attached only while something is held or about to be.
 */
SEC("raw_tp/sys_enter")
int gate_every(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_foreign_fork((task_p)bpf_get_current_task(), ctx->args[1]))
		stop_if_held(ctx);
	return 0;
}

/* -- security_task_alloc: every way into fork leads through it -------------------------------------------------------- */

enum answer {
	PASS,
	RESTART,
	AGAIN,
	NO_MEMORY,
};

/*
 * What becomes of the fork that makes `child`. Tasks that the kernel makes for itself pass: its threads, the programs it
 * starts, and the workers of io_uring and vhost, which never fork.
 */
static __noinline int answer(task_p child)
{
	task_p self = (task_p)bpf_get_current_task();
	struct pw_config *cfg = get_config();
	struct pw_state *st = get_state();
	struct pw_task *task;
	struct pw_proc *rec;

	if (!cfg || !st || BPF_CORE_READ(self, flags) & PF_KTHREAD ||
	    BPF_CORE_READ(child, flags) & (PF_IO_WORKER | PF_USER_WORKER))
		return PASS;
	task = find_task(self);
	rec = task ? bpf_map_lookup_elem(&procs, &task->key) : NULL;
	if (!task || !rec || !is_shut(task, rec, (__u64)child))
		return PASS;
	if (cfg->refuse) {
		note_refusal(rec, st);
		return cfg->refuse == ENOMEM ? NO_MEMORY : AGAIN;
	}
	/* Without a signal nobody would turn the code into a restart. Init gets none, nor does who is about to end. */
	if (bpf_send_signal_thread(SIGSTOP))
		return PASS;
	note_stop(task, rec);
	return RESTART;
}

/* A task is freed: the one that the current task was about to make, if its fork has failed. */
static __always_inline int give_back_failed(__u64 freed)
{
	__u64 self = bpf_get_current_task();
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &self);

	if (task && task->forking == freed)
		give_back(task);
	return 0;
}

/* The verifier wants to see each number. */
#define ANSWER(child)                        \
	switch (answer((task_p)(child))) {   \
	case RESTART:                        \
		return -ERESTARTNOINTR;      \
	case AGAIN:                          \
		return -EAGAIN;              \
	case NO_MEMORY:                      \
		return -ENOMEM;              \
	default:                             \
		return 0;                    \
	}

SEC("lsm/task_alloc")
int gate_lsm(__u64 *ctx)
{
	ANSWER(ctx[0]);
}

SEC("lsm/task_free")
int undo_lsm(__u64 *ctx)
{
	return give_back_failed(ctx[0]);
}

SEC("fmod_ret/security_task_alloc")
int gate_fmod_ret(__u64 *ctx)
{
	ANSWER(ctx[0]);
}

SEC("fentry/security_task_free")
int undo_fmod_ret(__u64 *ctx)
{
	return give_back_failed(ctx[0]);
}

#endif
