// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The gate of a rescue: those on a list do not fork any more, nor do children that they get all the same. It keeps no
 * history and judges nothing, so that it is in the kernel within milliseconds, on a machine that has no time.
 *
 * As in gate.h, SIGSTOP is pending when the fork begins, and the kernel looks for that first: the task sleeps, and if it
 * is continued it makes the same call again. Every call of every process is looked at, of each ABI, which costs all of
 * them about 100 ns a call while this is up.
 */
#include <stdbool.h>
#include "kernel.h"
#include "calls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define TICK_NS 10000000 /* /proc shows start times in ticks of 1/100 s (USER_HZ) */

/* tgid to the start of its leader in ticks, as /proc shows it: a pid alone is given to somebody else when it is free. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192); /* set before loading */
	__type(key, __u32);
	__type(value, __u64);
} held SEC(".maps");

static __always_inline __u64 start_ticks(task_p p)
{
	return BPF_CORE_READ(p, group_leader, start_boottime) / TICK_NS;
}

static __always_inline bool is_held(task_p p)
{
	__u32 tgid = BPF_CORE_READ(p, tgid);
	__u64 *start = bpf_map_lookup_elem(&held, &tgid);

	return start && *start == start_ticks(p);
}

SEC("raw_tp/sys_enter")
int hold_fork(struct bpf_raw_tracepoint_args *ctx)
{
	task_p self = (task_p)bpf_get_current_task();
	__u64 nr = ctx->args[1];

	if ((is_native_fork(self, nr) || is_foreign_fork(self, nr)) && is_held(self))
		bpf_send_signal_thread(SIGSTOP);
	return 0;
}

/* Of forks that were under way, and of what a SIGCONT lets pass between the signal and the fork. */
SEC("raw_tp/sched_process_fork")
int hold_child(struct bpf_raw_tracepoint_args *ctx)
{
	task_p parent = (task_p)ctx->args[0], child = (task_p)ctx->args[1];
	__u32 tgid = BPF_CORE_READ(child, tgid);
	__u64 start = start_ticks(child);

	if (is_held(parent))
		bpf_map_update_elem(&held, &tgid, &start, BPF_ANY);
	return 0;
}
