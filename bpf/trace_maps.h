/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The tracer's maps. All are of a fixed size, set before the load: a trace takes no more memory the longer it runs.
 */
#ifndef PIDWARDEN_TRACE_MAPS_H
#define PIDWARDEN_TRACE_MAPS_H

#include "kernel.h"
#include "trace_abi.h"

struct scratch {
	__u32 at; /* bytes of pieces so far */
	__u32 pad;
	struct tr_event event;
	__u8 data[TR_DATA_BYTES + sizeof(struct tr_piece) + TR_PIECE_BYTES + 8];
};

/* Set before the load, so that the verifier leaves out what is not asked for. */
const volatile struct tr_config config = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TR_ABIS * TR_CALLS);
	__type(key, __u32);
	__type(value, struct tr_plan);
} plans SEC(".maps");

/* One bit per thread id that there can be: whoever is not traced pays for one look, and no hash. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TR_PIDS / 64);
	__type(key, __u32);
	__type(value, __u64);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* thread id */
	__type(value, struct tr_thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TR_ABIS * TR_CALLS);
	__type(key, __u32);
	__type(value, struct tr_total);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tr_who);
	__type(value, struct tr_count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tr_state);
} state SEC(".maps");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* One for each processor, so that none waits for another to write. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

static __always_inline struct tr_state *get_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

static __always_inline struct scratch *get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

#endif
