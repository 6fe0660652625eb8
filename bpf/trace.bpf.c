// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The kernel side of `pidwarden trace`: the system calls of those who are traced, counted and told. It is loaded while a
 * trace runs and nothing of it is pinned.
 *
 *   trace_abi.h      what crosses into Python       trace_capture.h  what arguments point to
 *   trace_maps.h     where it is kept               trace_send.h     into the rings
 *   trace_members.h  who is traced                  trace_regs.h     number and arguments of a call
 *   trace_life.h     fork, exec, signals, the end
 */
#include <stdbool.h>
#include <stddef.h>
#include "kernel.h"
#include "trace_abi.h"
#include "trace_maps.h"
#include "trace_members.h"
#include "trace_send.h"
#include "trace_regs.h"
#include "trace_capture.h"
#include "trace_life.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Puts the enums, and the event, into the BTF, from which Python's constants and layouts are generated. */
const volatile struct {
	enum tr_size size;
	enum tr_abi abi;
	enum tr_event_kind event_kind;
	enum tr_event_flag event_flag;
	enum tr_piece_flag piece_flag;
	enum tr_part part;
	enum tr_capture_kind capture_kind;
	enum tr_capture_when capture_when;
	enum tr_capture_by capture_by;
	enum tr_config_flag config_flag;
	enum tr_thread_flag thread_flag;
	struct tr_event event;
	struct tr_piece piece;
	struct tr_capture capture;
} trace_types = {};

/* -- entry ---------------------------------------------------------------------------------------------------------- */

static __always_inline void capture_all(__u32 nr, __u32 mask, __u32 *failed)
{
	for (__u32 i = 0; i < TR_ARGS; i++)
		if (mask >> i & 1 && !capture(nr, i))
			*failed |= 1u << i;
}

static __noinline int tell_entry(struct tr_thread *t, struct tr_plan *plan, __u64 id)
{
	struct scratch *s = get_scratch();
	__u32 nr = t->nr, failed = 0;

	if (!s)
		return 0;
	s->at = 0;
	head(&s->event, t, id, TR_ENTER);
	s->event.ns = s->event.enter_ns = t->enter_ns;
	s->event.nr = nr;
	__builtin_memcpy(s->event.args, t->args, sizeof(t->args));
	capture_all(nr, plan->at_entry, &failed);
	t->again = failed;
	t->flags |= send_scratch(s, t, NULL) ? TR_SENT : TR_UNSENT;
	return 0;
}

SEC("raw_tp/sys_enter")
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct tr_plan *plan;
	struct tr_thread *t;
	bool compat, told;
	__u32 nr;

	if (!is_traced(id))
		return 0;
	compat = in_compat_call();
	nr = number(ctx->args[1], compat);
	plan = bpf_map_lookup_elem(&plans, &nr);
	if (!plan || !(t = thread_of((__u32)id, 0)))
		return 0;
	if (t->flags & TR_MUTED) {
		if (nr != config.exec)
			return 0;
		t->flags &= ~TR_MUTED;
	}
	t->nr = nr;
	t->again = 0;
	t->enter_ns = bpf_ktime_get_boot_ns();
	told = config.flags & TR_STREAM && plan->traced;
	if (told)
		read_call((void *)ctx->args[0], t->args, compat);
	barrier(); /* who looks at it from outside sees a call that is whole, or none */
	t->flags = (t->flags & TR_SEEN) | TR_IN_CALL;
	if (!told)
		return 0;
	if (plan->at_entry && (plan->early || !(config.flags & TR_LATE)))
		tell_entry(t, plan, id);
	return 0;
}

/* -- return --------------------------------------------------------------------------------------------------------- */

static __always_inline void add(struct tr_count *c, __u64 took, bool failed)
{
	c->calls++;
	c->errors += failed;
	c->ns += took;
	if (took > c->max_ns)
		c->max_ns = took;
}

static __always_inline __u32 bucket(__u64 ns)
{
	__u32 n = 0;

	for (__u32 step = 32; step; step /= 2)
		if (ns >> step) {
			ns >>= step;
			n += step;
		}
	return n < TR_BUCKETS ? n : TR_BUCKETS - 1;
}

static __always_inline void count_of_process(__u32 tgid, __u32 nr, __u64 took, bool failed)
{
	struct tr_who who = { .tgid = tgid, .nr = nr };
	struct tr_count *c = bpf_map_lookup_elem(&counts, &who), fresh = {};
	struct tr_state *st;

	if (!c) {
		bpf_map_update_elem(&counts, &who, &fresh, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&counts, &who);
	}
	if (c)
		add(c, took, failed);
	else if ((st = get_state()))
		st->uncounted++;
}

static __always_inline bool is_error(__s64 ret)
{
	return ret < 0 && ret >= -4095;
}

static __always_inline bool is_wanted(__s64 ret, __u64 took)
{
	__u64 error = is_error(ret) ? -ret : 0;

	if (took < config.min_ns)
		return false;
	if (config.flags & TR_ONLY_FAILED && !error)
		return false;
	if (config.flags & TR_ONLY_DONE && error)
		return false;
	if (config.errnos[0] | config.errnos[1] | config.errnos[2]) {
		if (!error || error >= 192)
			return false;
		if (error < 64)
			return config.errnos[0] >> error & 1;
		return (error < 128 ? config.errnos[1] : config.errnos[2]) >> error % 64 & 1;
	}
	return true;
}

/* Bits of the arguments that are to be captured now. */
static __always_inline __u32 due(struct tr_thread *t, struct tr_plan *plan, __s64 ret)
{
	__u32 mask = t->again;

	if (!(t->flags & TR_SENT))
		mask |= plan->at_entry;
	for (__u32 i = 0; i < TR_ARGS; i++)
		if (plan->at_return >> i & 1 && !(plan->args[i].when & TR_IF_DONE && is_error(ret)))
			mask |= 1u << i;
	return mask;
}

static __always_inline void fill_return(struct tr_event *e, struct tr_thread *t, __u64 id, __u64 now, __s64 ret)
{
	head(e, t, id, TR_RETURN);
	e->ns = now;
	e->nr = t->nr;
	e->ret = ret;
	if (t->flags & TR_IN_CALL)
		e->enter_ns = t->enter_ns;
	else
		e->flags |= TR_NO_ENTRY;
	if (t->flags & TR_SENT)
		e->flags |= TR_ENTERED;
	if (t->flags & TR_UNSENT)
		e->flags |= TR_ENTRY_LOST;
	__builtin_memcpy(e->args, t->args, sizeof(t->args));
}

static __noinline int tell_with_pieces(struct tr_thread *t, __u64 now, __s64 ret, __u32 mask)
{
	struct scratch *s = get_scratch();
	__u32 nr = t->nr, failed = 0;

	if (!s)
		return 0;
	s->at = 0;
	fill_return(&s->event, t, bpf_get_current_pid_tgid(), now, ret);
	capture_all(nr, mask, &failed);
	return send_scratch(s, t, bpf_map_lookup_elem(&totals, &nr));
}

static __always_inline void tell_plainly(struct tr_thread *t, struct tr_total *total, __u64 id, __u64 now, __s64 ret)
{
	struct tr_state *st = get_state();
	void *ring = this_ring();
	struct tr_event *e = NULL;

	if (!st)
		return;
	if (ring)
		e = bpf_ringbuf_reserve(ring, sizeof(*e), 0);
	if (!e) {
		note_loss(st, t, total, sizeof(*e));
		return;
	}
	fill_return(e, t, id, now, ret);
	sent(t, e->lost);
	bpf_ringbuf_submit(e, wake(ring, st));
}

SEC("raw_tp/sys_exit")
int on_return(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), now, took = 0;
	struct tr_total *total;
	struct tr_plan *plan;
	struct tr_state *st;
	__s64 ret = ctx->args[1];
	struct tr_thread *t;
	__u32 mask, nr;

	if (!is_traced(id))
		return 0;
	t = thread_of((__u32)id, 0);
	if (!t || t->flags & TR_MUTED)
		return 0;
	if (t->flags & TR_NEWBORN) {
		t->flags &= ~TR_NEWBORN;
		return 0;
	}
	now = bpf_ktime_get_boot_ns();
	if (t->flags & TR_IN_CALL) {
		took = now - t->enter_ns;
	} else {
		bool compat = in_compat_call();

		t->nr = number(read_call((void *)ctx->args[0], t->args, compat), compat);
		t->again = 0;
		if ((st = get_state()))
			st->unmatched++;
	}
	nr = t->nr;
	plan = bpf_map_lookup_elem(&plans, &nr);
	total = bpf_map_lookup_elem(&totals, &nr);
	if (plan && total && plan->counted) {
		add(&total->count, took, is_error(ret));
		if (t->flags & TR_IN_CALL)
			total->buckets[bucket(took)]++;
		if (config.flags & TR_BY_PROCESS)
			count_of_process(id >> 32, nr, took, is_error(ret));
	}
	if (plan && config.flags & TR_STREAM && plan->traced && is_wanted(ret, took)) {
		mask = due(t, plan, ret);
		if (mask)
			tell_with_pieces(t, now, ret, mask);
		else
			tell_plainly(t, total, id, now, ret);
	}
	t->flags &= TR_SEEN;
	return 0;
}
