// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The kernel side of pidwarden compiled for this machine, and just enough of a kernel to call it: task_structs on the
 * lists they stand on, and each tracepoint called at the moment at which kernel/fork.c, fs/exec.c and kernel/exit.c call
 * it. Whoever drives this decides the order of things; a step that cannot happen in a kernel is the driver's mistake.
 */
#include "pidwarden.bpf.c"

#define MAX_TASKS 4096

enum sim_fork_flag {
	SIM_THREAD = 1,
	SIM_SIBLING = 2, /* CLONE_PARENT */
	SIM_KTHREAD = 4,
	SIM_SILENT = 8, /* the hook is not called: not attached yet, or missed */
};

#define SIM_HIERARCHIES 2 /* v2, and one of v1 */
#define SIM_CGROUPS 4	  /* in each: 0 is the root, 1 is in 0, 2 is in 1, 3 is in 0 */

/* What a task points at. Nothing of it is freed before the next boot: a stale read is legal, a crash is not. */
struct sim_task {
	struct task_struct t;
	struct cred cred;
	struct mm_struct mm;
	struct file exe;
	struct inode inode;
	struct super_block sb;
	struct user_namespace user_ns;
	struct css_set cset;
	struct cgrp_cset_link links[SIM_HIERARCHIES];
	struct task_struct embryo; /* what it is making, as long as that is not on any list */
};

static struct sim_task pool[MAX_TASKS];
static struct signal_struct signal_pool[MAX_TASKS * 16];
static int free_tasks[MAX_TASKS], n_free, n_signals;
static struct task_struct *init_task;
static struct cgroup_root roots[SIM_HIERARCHIES] = {{.hierarchy_id = 0}, {.hierarchy_id = 7}};
static struct cgroup cgroups[SIM_HIERARCHIES][SIM_CGROUPS];
static struct kernfs_node nodes[SIM_CGROUPS] = {{.id = 1}, {.id = 11}, {.id = 12}, {.id = 13}};
static long last_answer;

void sim_define(const void *id, const char *name, __u32 type, __u32 key_size, __u32 value_size, __u32 max_entries);
void sim_set_current(void *task);
__u64 sim_take_signals(void);
void sim_empty(__u32 seed);

#define SIZE_OF(map, field) (sizeof(*(map).field) / sizeof(int))
#define SIM_MAP(map) \
	sim_define(&map, #map, SIZE_OF(map, type), sizeof(*(map).key), sizeof(*(map).value), SIZE_OF(map, max_entries));
#define SIM_RING(map) sim_define(&map, #map, SIZE_OF(map, type), 0, 0, SIZE_OF(map, max_entries));

__attribute__((constructor)) static void define_maps(void)
{
	SIM_MAPS /* one SIM_MAP or SIM_RING for each map that maps.h defines; see simulator.py */
}

static void put_last(struct list_head *head, struct list_head *node)
{
	struct list_head *at = head;

	while (at->next != head)
		at = at->next;
	at->next = node;
	node->next = head;
}

/* Puts `by`, which may be nothing, where `node` stands. As in the kernel, `node` itself still leads on into the list. */
static void replace(struct list_head *node, struct list_head *by)
{
	struct list_head *at = node;

	while (at->next != node)
		at = at->next;
	if (by)
		by->next = node->next;
	at->next = by ? by : node->next;
}

static struct task_struct *new_task(void)
{
	struct sim_task *s;

	if (!n_free)
		return NULL;
	s = &pool[free_tasks[--n_free]];
	__builtin_memset(s, 0, sizeof(*s));
	s->inode.i_sb = &s->sb;
	s->exe.f_inode = &s->inode;
	s->mm.exe_file = &s->exe;
	s->t.cred = &s->cred;
	s->t.cgroups = &s->cset;
	struct list_head *at = &s->cset.cgrp_links;
	for (int h = 0; h < SIM_HIERARCHIES; h++) {
		s->links[h].cgrp = &cgroups[h][0];
		at = at->next = &s->links[h].cgrp_link;
	}
	at->next = &s->cset.cgrp_links;
	return &s->t;
}

static void make_cgroups(void)
{
	static const int above[SIM_CGROUPS] = {-1, 0, 1, 0};

	for (int h = 0; h < SIM_HIERARCHIES; h++)
		for (int i = 0; i < SIM_CGROUPS; i++)
			cgroups[h][i] = (struct cgroup){
				.self.parent = above[i] < 0 ? NULL : &cgroups[h][above[i]].self,
				.kn = &nodes[i],
				.root = &roots[h],
			};
}

/* A user namespace below the machine's own, made by that user. */
void sim_user_namespace(struct task_struct *p, unsigned int owner)
{
	static struct user_namespace first;
	struct sim_task *s = (void *)p;

	s->user_ns = (struct user_namespace){.parent = &first, .owner.val = owner};
	s->cred.user_ns = &s->user_ns;
}

/* Moves one task. */
void sim_cgroup(struct task_struct *p, int hierarchy, int number)
{
	((struct sim_task *)p)->links[hierarchy].cgrp = &cgroups[hierarchy][number];
}

static struct signal_struct *new_signal(void)
{
	struct signal_struct *sig = &signal_pool[n_signals++ % (MAX_TASKS * 16)];

	__builtin_memset(sig, 0, sizeof(*sig));
	sig->thread_head.next = &sig->thread_head;
	return sig;
}

/* An empty machine: maps are empty, the clock is at 0, and there is only task 0. */
struct task_struct *sim_boot(__u32 seed)
{
	__u32 zero = 0;
	struct pw_config no_config = {};
	struct pw_state no_state = {};

	sim_empty(seed);
	bpf_map_update_elem(&config, &zero, &no_config, BPF_ANY);
	bpf_map_update_elem(&state, &zero, &no_state, BPF_ANY);
	n_free = n_signals = 0;
	make_cgroups();
	for (int i = MAX_TASKS - 1; i >= 0; i--)
		free_tasks[n_free++] = i;
	init_task = new_task();
	init_task->real_parent = init_task->group_leader = init_task;
	init_task->flags = PF_KTHREAD;
	init_task->tasks.next = &init_task->tasks;
	init_task->signal = new_signal();
	put_last(&init_task->signal->thread_head, &init_task->thread_node);
	return init_task;
}

/* copy_process() and wake_up_new_task(). NULL: no memory left in the pool. */
struct task_struct *sim_fork(struct task_struct *creator, int pid, __u32 how)
{
	struct task_struct *p = new_task();
	struct sim_task *s = (void *)p, *from = (void *)creator;
	bool thread = how & SIM_THREAD;
	__u64 args[2] = {(__u64)creator, (__u64)p};

	if (!p)
		return NULL;
	p->pid = pid;
	p->tgid = thread ? creator->tgid : pid;
	p->group_leader = thread ? creator->group_leader : p;
	p->real_parent = how & (SIM_SIBLING | SIM_THREAD) ? creator->real_parent : creator;
	p->flags = how & SIM_KTHREAD ? PF_KTHREAD : 0;
	p->start_boottime = bpf_ktime_get_boot_ns();
	p->__state = TASK_NEW;
	s->cred = from->cred;
	for (int h = 0; h < SIM_HIERARCHIES; h++)
		s->links[h].cgrp = from->links[h].cgrp;
	s->inode.i_ino = from->inode.i_ino;
	s->sb = from->sb;
	p->mm = how & SIM_KTHREAD ? NULL : &s->mm;
	p->signal = thread ? creator->signal : new_signal();
	__builtin_memcpy(p->comm, creator->comm, sizeof(p->comm));
	if (!thread) {
		p->signal->tty = creator->signal->tty;
		put_last(&init_task->tasks, &p->tasks);
	}
	put_last(&p->signal->thread_head, &p->thread_node);
	sim_set_current(creator);
	if (!(how & SIM_SILENT))
		on_fork((void *)args);
	p->__state = 0;
	return p;
}

/* begin_new_exec(): every other thread has exited by now; `p` may be another one than the leader (de_thread()). */
void sim_exec(struct task_struct *p, const char *comm, unsigned long ino, unsigned int dev, unsigned int uid, bool silent)
{
	struct task_struct *leader = p->group_leader;
	struct sim_task *s = (void *)p;
	__u64 args[3] = {(__u64)p, p->pid, 0};
	int pid = p->pid;

	if (p != leader) {
		p->start_boottime = leader->start_boottime;
		p->pid = leader->pid;
		leader->pid = pid;
		replace(&leader->tasks, &p->tasks);
		p->group_leader = p;
		leader->group_leader = p;
		leader->exit_state = EXIT_DEAD;
		replace(&leader->thread_node, NULL);
	}
	p->mm = &s->mm;
	p->flags &= ~PF_KTHREAD;
	s->inode.i_ino = ino;
	s->sb.s_dev = dev;
	s->cred.uid.val = uid;
	__builtin_memset(p->comm, 0, sizeof(p->comm));
	__builtin_memcpy(p->comm, comm, __builtin_strnlen(comm, sizeof(p->comm) - 1));
	sim_set_current(p);
	if (!silent)
		on_exec((void *)args);
}

/* do_exit(), up to exit_notify(). */
void sim_exit(struct task_struct *p, int code, bool group_dead, bool silent)
{
	__u64 args[2] = {(__u64)p, group_dead};

	p->flags |= PF_EXITING;
	p->exit_code = code;
	if (group_dead) { /* synchronize_group_exit() */
		p->signal->group_exit_code = code;
		p->signal->flags |= SIGNAL_GROUP_EXIT;
	}
	sim_set_current(p);
	if (!silent)
		on_exit((void *)args);
	p->exit_state = 0x20; /* EXIT_ZOMBIE */
}

/* release_task(): its pid is free, its memory is not. */
void sim_reap(struct task_struct *p)
{
	p->exit_state = EXIT_DEAD;
	if (p->group_leader == p)
		replace(&p->tasks, NULL);
	replace(&p->thread_node, NULL);
}

/* delayed_put_task_struct(), and its memory goes back. */
void sim_free(struct task_struct *p, bool silent)
{
	__u64 args[1] = {(__u64)p};

	if (!silent)
		on_free((void *)args);
	free_tasks[n_free++] = (struct sim_task *)p - pool;
}

void sim_reparent(struct task_struct *p, struct task_struct *to)
{
	p->real_parent = to;
}

/* setsid(2), and a terminal or none. */
void sim_session(struct task_struct *p, int leader, bool tty)
{
	p->signal->leader = leader;
	p->signal->tty = tty ? (void *)init_task : NULL;
}

void sim_compat(struct task_struct *p, bool on)
{
	p->thread_info.status = on ? TS_COMPAT : 0;
}

void sim_setuid(struct task_struct *p, unsigned int uid)
{
	((struct sim_task *)p)->cred.uid.val = uid;
	((struct sim_task *)p)->cred.euid.val = uid;
}

/* As a setuid program, or as one that gives its rights up for a while. */
void sim_seteuid(struct task_struct *p, unsigned int uid)
{
	((struct sim_task *)p)->cred.euid.val = uid;
}

void sim_rename(struct task_struct *p, const char *comm)
{
	__builtin_memset(p->comm, 0, sizeof(p->comm));
	__builtin_memcpy(p->comm, comm, __builtin_strnlen(comm, sizeof(p->comm) - 1));
}

/*
 * Enters a system call that forks; `nr` as the gate of every call sees it. The last two are hooks in the middle of a fork.
 * Signals sent.
 */
__u64 sim_gate(struct task_struct *p, int which, unsigned long nr)
{
	__u64 args[2] = {0, nr};

	sim_set_current(p);
	sim_take_signals();
	switch (which) {
	case 0:
		gate_fork(args);
		break;
	case 1:
		gate_vfork(args);
		break;
	case 2:
		gate_clone(args);
		break;
	case 3:
		gate_clone3(args);
		break;
	case 4:
		gate_every((void *)args);
		break;
	default:
		((struct sim_task *)p)->embryo = *p;
		args[0] = (__u64) & ((struct sim_task *)p)->embryo;
		last_answer = which == 5 ? gate_lsm(args) : gate_fmod_ret(args);
	}
	return sim_take_signals();
}

/* What the hook returned. */
int sim_answer(void)
{
	return last_answer;
}

/* The fork comes to nothing, after the hook: what was made of it is freed. */
void sim_fail(struct task_struct *p, int which)
{
	__u64 args[1] = {(__u64) & ((struct sim_task *)p)->embryo};

	sim_set_current(p);
	if (which == 5)
		undo_lsm(args);
	else
		undo_fmod_ret(args);
}

int sim_seed(struct task_struct *by)
{
	__u64 none[1] = {0};

	sim_set_current(by);
	return seed((void *)none);
}

int sim_control(__u64 op, __u64 a, __u64 b, __u64 c, __u64 d)
{
	__u64 args[5] = {op, a, b, c, d};

	return control((void *)args);
}

int sim_ask(__u64 what, __u64 a, __u64 b, __u64 c)
{
	__u64 args[4] = {what, a, b, c};

	return ask((void *)args);
}

int sim_sweep(__u64 cutoff, __u64 early)
{
	__u64 args[2] = {cutoff, early};

	return sweep((void *)args);
}
