/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What happens to those who are traced besides their calls: fork, exec, signals, the end.
 */
#ifndef PIDWARDEN_TRACE_LIFE_H
#define PIDWARDEN_TRACE_LIFE_H

#include "trace_capture.h"
#include "trace_members.h"
#include "trace_send.h"

#define SIGKILL 9
#define SIGINFO_BYTES 48 /* sizeof(struct kernel_siginfo), include/linux/signal_types.h */

/* The scratch with an event of the current thread in it, if that goes into the stream. */
static __always_inline struct scratch *begin_event(struct tr_thread *t, __u64 id, __u32 kind)
{
	struct scratch *s = get_scratch();

	if (!s || !t || t->flags & TR_MUTED || !(config.flags & TR_STREAM))
		return NULL;
	s->at = 0;
	head(&s->event, t, id, kind);
	return s;
}

SEC("raw_tp/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	task_p child = (task_p)ctx->args[1];
	__u32 tid = BPF_CORE_READ(child, pid), tgid = BPF_CORE_READ(child, tgid);
	struct scratch *s;

	if (!is_traced(id))
		return 0;
	if (tgid != id >> 32 && !(config.flags & TR_FOLLOW))
		return 0;
	if (is_listed((__u32)id))
		list(tid);
	bpf_map_delete_elem(&threads, &tid); /* of one who had that number, if its end was missed */
	thread_of(tid, TR_NEWBORN);
	s = begin_event(bpf_map_lookup_elem(&threads, (__u32 *)&id), id, TR_FORK);
	if (s) {
		s->event.args[0] = tid;
		s->event.args[1] = tgid;
		send_scratch(s, bpf_map_lookup_elem(&threads, (__u32 *)&id), NULL);
	}
	return 0;
}

/* Who calls exec in a thread gets the number of its process, once all others have ended. */
SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = (__u32)id, old = (__u32)ctx->args[1];
	struct tr_thread *t;
	struct scratch *s;

	if (old != tid) {
		if (is_listed(old)) {
			list(tid);
			unlist(old);
		}
		t = bpf_map_lookup_elem(&threads, &old);
		if (t) {
			bpf_map_update_elem(&threads, &tid, t, BPF_ANY);
			bpf_map_delete_elem(&threads, &old);
		}
	}
	if (!is_traced(id))
		return 0;
	t = bpf_map_lookup_elem(&threads, &tid);
	s = begin_event(t, id, TR_EXEC);
	if (s) {
		struct tr_piece *p = begin_piece(s);

		s->event.args[0] = old;
		if (p) {
			bpf_get_current_comm(p + 1, 16);
			end_piece(s, p, 0, 0, 16, 0);
		}
		send_scratch(s, t, NULL);
	}
	return 0;
}

SEC("raw_tp/signal_deliver")
int on_signal(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = (__u32)id;
	struct scratch *s;

	if (!is_traced(id) || ctx->args[0] == SIGKILL)
		return 0;
	s = begin_event(thread_of(tid, 0), id, TR_SIGNAL);
	if (s) {
		struct tr_piece *p = begin_piece(s);

		s->event.args[0] = ctx->args[0];
		if (p && !bpf_probe_read_kernel(p + 1, SIGINFO_BYTES, (void *)ctx->args[1]))
			end_piece(s, p, 0, 0, SIGINFO_BYTES, 0);
		send_scratch(s, bpf_map_lookup_elem(&threads, &tid), NULL);
	}
	return 0;
}

SEC("raw_tp/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	task_p self = (task_p)bpf_get_current_task();
	__u32 tid = (__u32)id;
	struct scratch *s;
	struct tr_thread *t;

	if (!is_traced(id))
		return 0;
	t = thread_of(tid, 0);
	s = begin_event(t, id, TR_EXIT);
	if (t && s) {
		s->event.ret = BPF_CORE_READ(self, exit_code);
		if (t->flags & TR_IN_CALL) {
			__u32 flags = s->event.flags;

			s->event.enter_ns = t->enter_ns;
			s->event.nr = t->nr;
			__builtin_memcpy(s->event.args, t->args, sizeof(t->args));
			s->event.flags = flags | (t->flags & TR_SENT ? TR_ENTERED : 0);
		} else {
			s->event.flags |= TR_NO_ENTRY;
		}
		s->event.last = !BPF_CORE_READ(self, signal, live.counter);
		send_scratch(s, t, NULL);
	}
	bpf_map_delete_elem(&threads, &tid);
	unlist(tid);
	return 0;
}

/* -- what user space asks for ----------------------------------------------------------------------------------------- */

/* args[0]: a thread that is to be traced; args[1]: whether it is told of only from its execve on. */
SEC("raw_tp")
int enlist(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tid = ctx->args[0];

	if (ctx->args[1])
		thread_of(tid, TR_MUTED);
	list(tid);
	return 0;
}

SEC("raw_tp")
int dismiss(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tid = ctx->args[0];

	unlist(tid);
	bpf_map_delete_elem(&threads, &tid);
	return 0;
}

#endif
