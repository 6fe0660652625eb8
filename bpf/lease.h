/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What becomes of holds when the guard is lost. It has a lease, which it renews by giving signs of life. When that runs
 * out, a timer of the kernel's lets each hold go that has lasted as long as the lease, with twice the room it had, so that
 * an innocent goes on and a bomb stops again a little later; and wakes who was stopped by it. By policy what is held stays
 * held.
 *
 * Signals to others than the current task need a kernel function that came with 6.13 (bpf_send_signal_task); elsewhere the
 * waking is left to user space. On x86 it refuses unless the timer interrupts somebody's program, and it takes one signal at
 * a time: so who is to be woken stands in a queue, and the timer ticks fast until that is empty. On a machine where nobody
 * runs that may be never, so a process of the guard's wakes them as well (guard/waker.py).
 */
#ifndef PIDWARDEN_LEASE_H
#define PIDWARDEN_LEASE_H

#include "track.h"

#define SIGCONT 18
#define CLOCK_MONOTONIC 1
#define EBUSY 16
#define EPERM 1
#define MAX_WAKES 4096
#define WAKES_A_TICK 4
#define WAKE_TICK_NS 1000000ull
#define LONGEST_TICK_NS 1000000000ull

enum pid_type {
	PIDTYPE_PID,
	PIDTYPE_TGID,
};

extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *p) __ksym __weak;
extern int bpf_send_signal_task(struct task_struct *p, int sig, enum pid_type type, __u64 value) __ksym __weak;

struct lease {
	struct bpf_timer timer;
	__u32 head; /* next to be woken … */
	__u32 tail; /* … and the end of the queue */
};

struct wake {
	struct pw_key key;
	__u64 folded; /* address of the task, if the process has no record */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lease);
} leases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_WAKES);
	__type(key, __u32);
	__type(value, struct wake);
} wakes SEC(".maps");

static __always_inline bool enqueue(const struct pw_key *key, __u64 folded)
{
	struct lease *lease = bpf_map_lookup_elem(&leases, &ZERO);
	struct wake *w;
	__u32 at;

	if (!lease)
		return false;
	at = lease->tail;
	w = bpf_map_lookup_elem(&wakes, &at);
	if (!w)
		return false; /* the rest next time */
	w->key = *key;
	w->folded = folded;
	lease->tail++;
	return true;
}

static long enqueue_stopped(void *map, struct pw_key *key, struct pw_proc *rec, void *ctx)
{
	if (!rec->held_ns || rec->exit_ns || is_held(rec->branch) || is_held(rec->family))
		return 0;
	return !enqueue(key, 0);
}

static long enqueue_folded(void *map, __u64 *addr, struct pw_task *task, void *ctx)
{
	struct pw_key key = {};
	struct pw_proc *rec;

	if (!(task->flags & PW_TASK_STOPPED) || task->flags & PW_TASK_EXITED)
		return 0;
	rec = bpf_map_lookup_elem(&procs, &task->key);
	if (!rec || is_held(rec->branch) || is_held(rec->family))
		return 0;
	read_key((task_p)*addr, &key);
	return !enqueue(&key, *addr);
}

static __always_inline __s32 counted_in(const struct pw_group *g)
{
	return g->slots - g->outside + g->inflight;
}

/* A branch that uses its room is to be held again by itself, not with everybody else in the family. */
static __noinline int grow_with_branch(__u64 id, __s32 room)
{
	struct pw_group *family = bpf_map_lookup_elem(&groups, &id);
	__s32 wanted;

	if (!family)
		return 0;
	wanted = counted_in(family) + room + (room >> 2);
	if ((__s32)family->limit < wanted)
		family->limit = wanted;
	return 0;
}

static long lapse_one(void *map, __u64 *id, struct pw_group *g, __u64 *after_ns)
{
	struct pw_state *st = get_state();
	__s32 counted;

	if (!st || !(g->flags & PW_GROUP_HELD) || bpf_ktime_get_boot_ns() - g->held_ns < *after_ns)
		return 0;
	counted = counted_in(g);
	g->limit += counted > (__s32)g->limit ? counted : (__s32)g->limit;
	g->depth_limit *= 2;
	g->settle_at = 0;
	if (g->family != *id)
		grow_with_branch(g->family, g->limit - counted);
	release(g);
	count(&st->lapsed);
	return 0;
}

/* One signal that is on its way a processor: false if it has to be tried again. */
static __always_inline bool wake(struct wake *w)
{
	struct pw_proc *rec = bpf_map_lookup_elem(&procs, &w->key);
	struct pw_task *task = bpf_map_lookup_elem(&tasks, &w->folded);
	struct pw_state *st = get_state();
	struct task_struct *p = bpf_task_from_pid(w->key.tgid);
	__u64 held_ns = rec ? rec->held_ns : 0;
	struct pw_key key = {};
	int err = 0;

	if (!p)
		return true;
	read_key(p, &key);
	if (key.start_ns == w->key.start_ns && key.tgid != 1 && !(p->flags & PF_EXITING)) {
		/* First the note, then the signal: who is stopped once more in between gets a note of its own. */
		if (rec)
			rec->held_ns = 0;
		err = bpf_send_signal_task(p, SIGCONT, PIDTYPE_TGID, 0);
		if (err == -EBUSY || err == -EPERM) {
			if (rec)
				rec->held_ns = held_ns;
		} else {
			if (rec)
				rec->stopped_ns += bpf_ktime_get_boot_ns() - held_ns;
			if (task)
				__sync_fetch_and_and(&task->flags, ~PW_TASK_STOPPED);
			if (st)
				count(&st->woken);
		}
	}
	bpf_task_release(p);
	return err != -EBUSY && err != -EPERM;
}

static __noinline int lapse_all(__u64 after_ns)
{
	bpf_for_each_map_elem(&groups, lapse_one, &after_ns, 0);
	return 0;
}

static __noinline int enqueue_all(void)
{
	struct pw_state *st = get_state();

	bpf_for_each_map_elem(&procs, enqueue_stopped, NULL, 0);
	return st && st->hidden;
}

static __noinline int enqueue_all_folded(void)
{
	bpf_for_each_map_elem(&tasks, enqueue_folded, NULL, 0);
	return 0;
}

/* What is due now; in how many ns to look again. */
static __always_inline __u64 tick(struct lease *lease, bool wakes_others)
{
	struct pw_config *cfg = get_config();
	struct pw_state *st = get_state();
	__u64 period, unseen;

	if (!cfg || !st)
		return LONGEST_TICK_NS;
	period = cfg->lease_ns / 8;
	if (period > LONGEST_TICK_NS || !period)
		period = LONGEST_TICK_NS;
	unseen = bpf_ktime_get_ns() - st->seen_ns;
	/* Two ticks early, so that waking everybody is done by then. */
	if (unseen < cfg->lease_ns - 2 * period) {
		lease->head = lease->tail = 0;
		return period;
	}
	if (wakes_others) {
		for (int i = 0; i < WAKES_A_TICK && lease->head < lease->tail; i++) {
			__u32 at = lease->head;
			struct wake *w = bpf_map_lookup_elem(&wakes, &at);

			if (w && !wake(w))
				return WAKE_TICK_NS;
			lease->head++;
		}
		if (lease->head < lease->tail)
			return WAKE_TICK_NS;
	}
	lease->head = lease->tail = 0;
	if (cfg->flags & PW_CONFIG_KEEP)
		__sync_fetch_and_and(&cfg->flags, ~PW_CONFIG_AUTOHOLD);
	else if (st->holds)
		lapse_all(cfg->lease_ns - 2 * period);
	if (wakes_others && enqueue_all())
		enqueue_all_folded();
	return lease->tail ? WAKE_TICK_NS : period;
}

static int tick_waking(void *map, __u32 *key, struct lease *lease)
{
	bpf_timer_start(&lease->timer, tick(lease, true), 0);
	return 0;
}

static int tick_plain(void *map, __u32 *key, struct lease *lease)
{
	bpf_timer_start(&lease->timer, tick(lease, false), 0);
	return 0;
}

/* Starts the timer, or sets it going again. Returns 1, or 0 if there is no timer to be had. */
SEC("syscall")
int lease_waking(void *ctx)
{
	struct lease *lease = bpf_map_lookup_elem(&leases, &ZERO);

	if (!lease)
		return 0;
	bpf_timer_init(&lease->timer, &leases, CLOCK_MONOTONIC);
	if (bpf_timer_set_callback(&lease->timer, tick_waking))
		return 0;
	return !bpf_timer_start(&lease->timer, WAKE_TICK_NS, 0);
}

SEC("syscall")
int lease_plain(void *ctx)
{
	struct lease *lease = bpf_map_lookup_elem(&leases, &ZERO);

	if (!lease)
		return 0;
	bpf_timer_init(&lease->timer, &leases, CLOCK_MONOTONIC);
	if (bpf_timer_set_callback(&lease->timer, tick_plain))
		return 0;
	return !bpf_timer_start(&lease->timer, WAKE_TICK_NS, 0);
}

#endif
