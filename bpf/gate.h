/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The gate at system call entry: a held family does not get into fork.
 *
 * SIGSTOP is queued for the caller; the kernel looks for pending signals first thing in a fork and leaves it with the
 * restart code, so the task sleeps stopped and, once continued, enters the same call again and meets this gate again.
 * Nobody sees an error, no processor time is used, and SIGCONT from another member changes nothing. A fork that failed
 * keeps its reservation until its task forks again or ends: too careful by one, and no exit hook is needed.
 */
#ifndef PIDWARDEN_GATE_H
#define PIDWARDEN_GATE_H

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

static __noinline int stop_if_held(void *ctx)
{
	struct pw_state *st = get_state();
	struct pw_task *task = find_task((task_p)bpf_get_current_task());
	struct pw_proc *rec = task ? bpf_map_lookup_elem(&procs, &task->key) : NULL;

	if (!st || !rec || rec->flags & PW_PROC_EXEMPT)
		return 0;
	if (interrupt_shell(rec))
		return 0;
	if (!(task->flags & PW_TASK_FOLDED))
		unstop(rec);
	give_back(task); /* of a fork that failed, or that was interrupted and now begins again */
	if (reserve(rec->branch, &task->key)) {
		task->reserved_branch = rec->branch;
		if (reserve(rec->family, &task->key)) {
			task->reserved_family = rec->family;
			return 0;
		}
		give_back(task);
	}
	if (task->flags & PW_TASK_FOLDED)
		__sync_fetch_and_or(&task->flags, PW_TASK_STOPPED);
	else
		rec->held_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&rec->stops, 1);
	__sync_fetch_and_add(&st->stops, 1);
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
 * Per-call tracepoints do not see 32-bit entry (int 0x80). This one sees every call of every process, and costs all of
 * them, so it is attached only while something is held.
 */
SEC("raw_tp/sys_enter")
int gate_every(struct bpf_raw_tracepoint_args *ctx)
{
	task_p p = (task_p)bpf_get_current_task();
	__u64 nr = ctx->args[1];

	if (!(BPF_CORE_READ(p, thread_info.status) & TS_COMPAT))
		return 0;
	if (nr == 2 || nr == 120 || nr == 190 || nr == 435) /* i386: fork, clone, vfork, clone3 */
		stop_if_held(ctx);
	return 0;
}

#endif
