/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How long the dead are remembered.
 *
 * A record stays while its process holds a slot or has the record of a child. After that it stays as well, until user
 * space sweeps: it alone knows whether there is trouble. A sweep removes leaves that exited before the cutoff, and leaves
 * a dead process with a single child out of the chain, so that a service which goes on as its own child for a year is
 * still two records. When records run short there is no time to wait for anybody: the dead leaves of a family that has
 * many are removed as they are released, and counted in their creator's `folded`; in the end even its new processes
 * are only counted. Whoever has few keeps all.
 *
 * Two may want to remove a record at once, or one to move what the other removes: whoever sets PW_PROC_GOING may.
 */
#ifndef PIDWARDEN_RETAIN_H
#define PIDWARDEN_RETAIN_H

#include "groups.h"

#define TELL_SHORT_NS 100000000ull

struct prune {
	struct pw_key key;
	__u64 cutoff; /* who exited before this may go … */
	__u64 early;  /* … and before this, if its family has many records */
	bool anybody; /* or not */
	__u32 n;      /* how many went */
};

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* A record more or less in a family. */
static __always_inline void count_member(__u64 family, __s32 by)
{
	struct pw_group *g = family ? bpf_map_lookup_elem(&groups, &family) : NULL;

	if (g)
		__sync_fetch_and_add(&g->records, by);
}

/* A record more or less. */
static __always_inline void count_record(__u64 family, __s32 by)
{
	struct pw_state *st = get_state();

	count_member(family, by);
	if (st)
		__sync_fetch_and_add(&st->records, by);
}

static __always_inline bool has_many(__u64 family, __u32 share)
{
	struct pw_group *g = family ? bpf_map_lookup_elem(&groups, &family) : NULL;
	struct pw_config *cfg = get_config();

	return g && cfg && g->records > (__s32)(cfg->max_records / share);
}

static __always_inline bool may_go(struct pw_proc *rec, const struct prune *s)
{
	if (rec->slots > 0 || rec->live > 0 || !rec->exit_ns)
		return false;
	if (rec->exit_ns < s->cutoff)
		return true;
	return rec->exit_ns < s->early && (s->anybody || has_many(rec->family, 8));
}

static __always_inline bool claim(struct pw_proc *rec)
{
	return !(__sync_fetch_and_or(&rec->flags, PW_PROC_GOING) & PW_PROC_GOING);
}

/* Removes one dead leaf; its creator may be one now, so that is next. */
static long prune_one(__u32 i, struct prune *s)
{
	struct pw_proc *rec = bpf_map_lookup_elem(&procs, &s->key), *parent;
	struct pw_state *st = get_state();
	struct pw_key above;
	__u32 folded;
	bool early;

	if (!rec || !st || rec->kids > 0 || !may_go(rec, s) || !claim(rec))
		return 1;
	above = rec->parent;
	early = rec->exit_ns >= s->cutoff;
	folded = rec->folded;
	count_record(rec->family, -1);
	count(early ? &st->folded : &st->aged);
	bpf_map_delete_elem(&procs, &s->key);
	s->n++;
	parent = above.tgid ? bpf_map_lookup_elem(&procs, &above) : NULL;
	if (!parent)
		return 1;
	if (early)
		__sync_fetch_and_add(&parent->folded, 1 + folded);
	__sync_fetch_and_add(&parent->kids, -1);
	s->key = above;
	return 0;
}

static __noinline int prune(struct prune *s)
{
	bpf_loop(DEFAULT_RECORDS, prune_one, s, 0);
	return 0;
}

/* Leaves the parent out of the chain, if it is dead, has no other child, and did not found the family. */
static long contract_one(__u32 i, struct prune *s)
{
	struct pw_proc *rec = bpf_map_lookup_elem(&procs, &s->key), *parent, *above;
	struct pw_state *st = get_state();
	struct pw_key gone;

	if (!rec || !st)
		return 1;
	gone = rec->parent;
	parent = bpf_map_lookup_elem(&procs, &gone);
	if (!parent || parent->kids != 1 || !may_go(parent, s))
		return 1;
	above = bpf_map_lookup_elem(&procs, &parent->parent);
	if (!above || above->family != parent->family || !claim(parent))
		return 1;
	rec->parent = parent->parent;
	rec->skipped += 1 + parent->skipped;
	__sync_fetch_and_add(&above->folded, parent->folded);
	count_record(parent->family, -1);
	count(&st->contracted);
	bpf_map_delete_elem(&procs, &gone);
	s->n++;
	return 0;
}

static long sweep_one(void *map, struct pw_key *key, struct pw_proc *rec, struct prune *s)
{
	s->key = *key;
	if (!rec->kids && may_go(rec, s)) {
		prune(s);
		return 0;
	}
	if (!claim(rec))
		return 0;
	bpf_loop(DEFAULT_RECORDS, contract_one, s, 0);
	__sync_fetch_and_and(&rec->flags, ~PW_PROC_GOING);
	return 0;
}

/* Run by BPF_PROG_TEST_RUN: cutoff, and the one for families that have many records. Returns how many went. */
SEC("raw_tp")
int sweep(struct bpf_raw_tracepoint_args *ctx)
{
	struct prune s = {.cutoff = ctx->args[0], .early = ctx->args[1]};

	bpf_for_each_map_elem(&procs, sweep_one, &s, 0);
	return s.n;
}

/* How full the map of records is, in sixteenths. */
static __always_inline __u32 sixteenths(void)
{
	struct pw_config *cfg = get_config();
	struct pw_state *st = get_state();

	return cfg && st && cfg->max_records ? st->records * 16 / cfg->max_records : 0;
}

/* A process holds no slot any more. Whether its record stays. */
static __always_inline void retire(const struct pw_key *key, struct pw_proc *rec)
{
	struct pw_config *cfg = get_config();
	struct prune s = {.key = *key};
	__u32 full;

	if (!cfg || rec->slots > 0 || rec->live > 0 || rec->kids > 0)
		return;
	full = sixteenths();
	if (!(cfg->flags & PW_CONFIG_HISTORY))
		s.cutoff = ~0ull;
	else if (full >= 12)
		s.early = ~0ull;
	else
		return;
	s.anybody = full >= 15;
	prune(&s);
}

/* Records run short: user space is told, but not for every fork. */
static __always_inline void tell_short(void)
{
	struct pw_state *st = get_state();
	__u64 now = bpf_ktime_get_boot_ns();
	struct pw_event *e;

	if (!st || now - st->short_ns < TELL_SHORT_NS)
		return;
	st->short_ns = now;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = now;
	e->kind = PW_EVENT_SHORT;
	bpf_ringbuf_submit(e, 0);
}

/* Whether a child gets no record, because its family has many. Who founds a family of his own is none of that one. */
static __always_inline bool is_crowded(const struct pw_proc *parent)
{
	__u32 full = sixteenths();

	if (full < 12)
		return false;
	tell_short();
	if (parent->flags & (PW_PROC_SPAWNER | PW_PROC_SHELL))
		return false;
	return full >= 16 || (full >= 15 && has_many(parent->family, 4));
}

#endif
