/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who is in scope, where a guard is limited: its slots count, and it is held. Others are remembered and left alone.
 *
 * Whole families below a chosen process are; of all others the tasks of a chosen user, or in a chosen cgroup or below it.
 * That is asked of a task when it is made, when it forks, and with every walk. A slot keeps the answer, in
 * PW_TASK_OUTSIDE, so that it is taken off the books as it was put on them.
 */
#ifndef PIDWARDEN_SCOPE_H
#define PIDWARDEN_SCOPE_H

#include "maps.h"

#define MAX_USER_NAMESPACES 33 /* kernel/user_namespace.c refuses deeper ones */
#define MAX_CLIMB 1024	       /* cgroups above a task, in all hierarchies */

static __always_inline bool is_chosen_uid(const struct pw_config *cfg, __u32 uid)
{
	for (__u32 i = 0; i < PW_MAX_UIDS && i < cfg->n_uids; i++)
		if (cfg->uids[i] == uid)
			return true;
	return false;
}

static __always_inline bool is_chosen_cgroup(const struct pw_config *cfg, __u32 hierarchy, __u64 id)
{
	for (__u32 i = 0; i < PW_MAX_CGROUPS && i < cfg->n_cgroups; i++)
		if (cfg->hierarchies[i] == hierarchy && cfg->cgroups[i] == id)
			return true;
	return false;
}

static __always_inline bool is_chosen_hierarchy(const struct pw_config *cfg, __u32 hierarchy)
{
	for (__u32 i = 0; i < PW_MAX_CGROUPS && i < cfg->n_cgroups; i++)
		if (cfg->hierarchies[i] == hierarchy)
			return true;
	return false;
}

struct owners {
	__u64 ns; /* struct user_namespace */
	__u64 chosen;
};

static long climb_owners(__u32 i, struct owners *o)
{
	struct user_namespace *ns = (void *)o->ns;
	struct pw_config *cfg = get_config();
	__u64 above = (__u64)BPF_CORE_READ(ns, parent);

	if (!above || !cfg)
		return 1; /* the machine's own belongs to nobody in particular */
	o->ns = above;
	if (!is_chosen_uid(cfg, BPF_CORE_READ(ns, owner.val)))
		return 0;
	o->chosen = 1;
	return 1;
}

/*
 * A chosen user's: who runs as that user, or was started by it through a setuid program; and who runs as anybody in a
 * user namespace that it made (a rootless container has many uids).
 */
static __noinline int is_chosen_users(task_p p)
{
	struct pw_config *cfg = get_config();
	const struct cred *cred = BPF_CORE_READ(p, cred);
	struct owners o = {};

	if (!cfg || !cfg->n_uids)
		return 0;
	if (is_chosen_uid(cfg, BPF_CORE_READ(cred, uid.val)) || is_chosen_uid(cfg, BPF_CORE_READ(cred, euid.val)))
		return 1;
	o.ns = (__u64)BPF_CORE_READ(cred, user_ns);
	bpf_loop(MAX_USER_NAMESPACES, climb_owners, &o, 0);
	return o.chosen;
}

struct climb {
	__u64 link; /* struct list_head, in a struct cgrp_cset_link: the hierarchy that is next … */
	__u64 end;  /* … and where they end */
	__u64 css;  /* the cgroup that we are at, 0: at none */
	__u64 hierarchy;
	__u64 chosen;
};

/* A step up, or into the next hierarchy. */
static long climb_cgroups(__u32 i, struct climb *c)
{
	struct cgroup_subsys_state *css = (void *)c->css;
	struct list_head *link = (void *)c->link;
	struct pw_config *cfg = get_config();
	struct cgroup *cgrp;

	if (!cfg)
		return 1;
	if (css) {
		cgrp = container(css, struct cgroup, self);
		if (is_chosen_cgroup(cfg, c->hierarchy, BPF_CORE_READ(cgrp, kn, id))) {
			c->chosen = 1;
			return 1;
		}
		c->css = (__u64)BPF_CORE_READ(css, parent);
		return 0;
	}
	if (!link || c->link == c->end)
		return 1;
	cgrp = BPF_CORE_READ(container(link, struct cgrp_cset_link, cgrp_link), cgrp);
	c->link = (__u64)BPF_CORE_READ(link, next);
	c->hierarchy = (__u32)BPF_CORE_READ(cgrp, root, hierarchy_id);
	if (is_chosen_hierarchy(cfg, c->hierarchy))
		c->css = (__u64)cgrp + bpf_core_field_offset(struct cgroup, self);
	return 0;
}

static __noinline int is_in_chosen_cgroup(task_p p)
{
	struct pw_config *cfg = get_config();
	struct css_set *cset = BPF_CORE_READ(p, cgroups);
	struct climb c = {};

	if (!cfg || !cfg->n_cgroups || !cset)
		return 0;
	c.css = some_zero();
	c.end = (__u64)cset + bpf_core_field_offset(struct css_set, cgrp_links);
	c.link = (__u64)BPF_CORE_READ(cset, cgrp_links.next);
	bpf_loop(MAX_CLIMB, climb_cgroups, &c, 0);
	return c.chosen;
}

/*
 * Whether a task, by its address, of that family is in scope now. Not static: so the verifier looks at all this once, and not
 * for every way that leads here.
 */
__noinline int in_scope(__u64 task, __u64 family)
{
	struct pw_config *cfg = get_config();
	task_p p = (task_p)task;
	struct pw_group *g;

	if (!cfg || !(cfg->flags & PW_CONFIG_ONLY))
		return 1;
	g = bpf_map_lookup_elem(&groups, &family);
	if (g && g->flags & PW_GROUP_SCOPED)
		return 1;
	return is_chosen_users(p) || is_in_chosen_cgroup(p);
}

#endif
