/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The maps. All are allocated when the object is loaded: a guard that has to ask for memory in the middle of a bomb
 * would be refused. Their sum is the stated ceiling; user space may lower or raise max_entries before the load.
 */
#ifndef PIDWARDEN_MAPS_H
#define PIDWARDEN_MAPS_H

#include "kernel.h"
#include "abi.h"

#define DEFAULT_RECORDS 65536

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * DEFAULT_RECORDS);
	__type(key, __u64); /* address of the task_struct: unique from fork until sched_process_free */
	__type(value, struct pw_task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEFAULT_RECORDS);
	__type(key, struct pw_key);
	__type(value, struct pw_proc);
} procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * DEFAULT_RECORDS);
	__type(key, __u64);
	__type(value, struct pw_group);
} groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct pw_exe);
	__type(value, __u32);
} exes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pw_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pw_state);
} state SEC(".maps");

/*
 * Where `control` copies what user space asks for, to be read through mmap. The bpf(2) calls that read maps will not do:
 * they keep programs from running on their processor, the one in the RCU softirq among them, and a release would be
 * missed for good.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DEFAULT_RECORDS);
	__type(key, __u32);
	__type(value, struct pw_dump);
} dump SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

static const __u32 ZERO = 0;

/* Elements are made empty and filled where they lie: on the stack (512 bytes for all calls) they are too large. */
static const struct pw_proc NEW_PROC = {};
static const struct pw_group NEW_GROUP = {};

static __always_inline struct pw_config *get_config(void)
{
	return bpf_map_lookup_elem(&config, &ZERO);
}

/*
 * 0, and the verifier does not know it. Kernels before 6.7 look at the callback of a loop only once, with what its context
 * holds at first, and cut off what they think is never reached: what is to change from one turn to the next may not begin
 * as a number that is known.
 */
static __always_inline __u64 some_zero(void)
{
	struct pw_config *cfg = get_config();

	return cfg ? cfg->pad : 0;
}

static __always_inline struct pw_state *get_state(void)
{
	return bpf_map_lookup_elem(&state, &ZERO);
}

#endif
