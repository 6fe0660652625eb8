/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who is traced: thread by thread, so that somebody who is not pays for little more than the tracepoint.
 */
#ifndef PIDWARDEN_TRACE_MEMBERS_H
#define PIDWARDEN_TRACE_MEMBERS_H

#include "trace_maps.h"

static __always_inline bool is_listed(__u32 tid)
{
	__u32 word = tid / 64;
	__u64 *bits = bpf_map_lookup_elem(&members, &word);

	return bits && *bits >> tid % 64 & 1;
}

static __always_inline void list(__u32 tid)
{
	__u32 word = tid / 64;
	__u64 *bits = bpf_map_lookup_elem(&members, &word);

	if (bits)
		__sync_fetch_and_or(bits, 1ull << tid % 64);
}

static __always_inline void unlist(__u32 tid)
{
	__u32 word = tid / 64;
	__u64 *bits = bpf_map_lookup_elem(&members, &word);

	if (bits)
		__sync_fetch_and_and(bits, ~(1ull << tid % 64));
}

/* Whether the current thread is traced. */
static __always_inline bool is_traced(__u64 id)
{
	if (is_listed((__u32)id))
		return true;
	if (!config.has_uid && !config.cgroup)
		return false;
	if (id >> 32 == config.self)
		return false;
	if (config.has_uid && (__u32)bpf_get_current_uid_gid() == config.uid)
		return true;
	return config.cgroup && bpf_get_current_ancestor_cgroup_id(config.level) == config.cgroup;
}

/* The state of a thread, made if it has none; NULL if there is no room. */
static __always_inline struct tr_thread *thread_of(__u32 tid, __u32 flags)
{
	struct tr_thread *t = bpf_map_lookup_elem(&threads, &tid);
	struct tr_thread fresh = { .flags = flags };
	struct tr_state *st;

	if (t)
		return t;
	bpf_map_update_elem(&threads, &tid, &fresh, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&threads, &tid);
	if (!t && (st = get_state()))
		st->untold++;
	return t;
}

#endif
