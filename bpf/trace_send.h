/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Into this processor's ring. What does not fit is counted: by processor, by call, and at its thread, whose next record
 * tells of it.
 */
#ifndef PIDWARDEN_TRACE_SEND_H
#define PIDWARDEN_TRACE_SEND_H

#include "trace_maps.h"

#define WAKE_EVERY 512 /* records after which it is looked how full the ring is */

static __always_inline void *this_ring(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&rings, &cpu);
}

/* User space looks several times a second by itself, and is woken in between if the ring is a quarter full. */
static __always_inline __u64 wake(void *ring, struct tr_state *st)
{
	if (st->records++ % WAKE_EVERY)
		return BPF_RB_NO_WAKEUP;
	if (bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) * 4 < bpf_ringbuf_query(ring, BPF_RB_RING_SIZE))
		return BPF_RB_NO_WAKEUP;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void note_loss(struct tr_state *st, struct tr_thread *t, struct tr_total *total, __u64 size)
{
	st->lost++;
	st->lost_bytes += size;
	if (t)
		t->lost++;
	if (total)
		total->count.lost++;
}

/* Fills in what all records of a thread have. */
static __always_inline void head(struct tr_event *e, struct tr_thread *t, __u64 id, __u32 kind)
{
	e->ns = bpf_ktime_get_boot_ns();
	e->enter_ns = 0;
	e->tid = (__u32)id;
	e->tgid = id >> 32;
	e->kind = kind;
	e->nr = 0;
	e->flags = t->flags & TR_SEEN ? 0 : TR_FIRST;
	e->size = 0;
	e->lost = t->lost;
	e->last = 0;
	e->ret = 0;
	for (int i = 0; i < TR_ARGS; i++)
		e->args[i] = 0;
}

static __always_inline void sent(struct tr_thread *t, __u32 lost)
{
	t->flags |= TR_SEEN;
	__sync_fetch_and_sub(&t->lost, lost);
}

/* Sends the scratch with the pieces it has. Whether it went. */
static __noinline int send_scratch(struct scratch *s, struct tr_thread *t, struct tr_total *total)
{
	struct tr_state *st = get_state();
	void *ring = this_ring();
	__u32 size = s->at;

	if (!st)
		return 0;
	if (size > TR_DATA_BYTES + TR_PIECE_BYTES + sizeof(struct tr_piece))
		size = TR_DATA_BYTES + TR_PIECE_BYTES + sizeof(struct tr_piece);
	s->event.size = size;
	size += sizeof(s->event);
	if (!ring || bpf_ringbuf_output(ring, &s->event, size, wake(ring, st))) {
		note_loss(st, t, total, size);
		return 0;
	}
	if (t)
		sent(t, s->event.lost);
	return 1;
}

#endif
