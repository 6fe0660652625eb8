/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Everything that crosses between the kernel side and Python, and nothing else.
 *
 * Python's layouts (src/pidwarden/kernel/abi.py) are generated from the BTF of the object built from this header; the
 * loader compares them again with the object it loads, so a change here without `make abi` cannot go unnoticed.
 * All times are nanoseconds since boot (CLOCK_BOOTTIME), the clock of task_struct.start_boottime.
 */
#ifndef PIDWARDEN_ABI_H
#define PIDWARDEN_ABI_H

enum pw_size {
	PW_REVISION = 1, /* to be raised when something means something else, though no layout and no constant tells */
	PW_COMM_LEN = 16,
	PW_MAX_ONLY = 8,
	PW_MAX_UIDS = 8,
	PW_MAX_CGROUPS = 32,
};

/* The process key: a tgid means nothing without the time its process started. */
struct pw_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 pad;
};

/* Value of `tasks`, one per thread: which process it belongs to. The key is the address of its task_struct. */
struct pw_task {
	struct pw_key key;
	__u32 flags; /* enum pw_task_flag */
	__u32 depth; /* of a thread: threads that made threads before it came */
	__u32 walk;  /* the last walk that met it, or the one before it was born */
	__u32 pad;
	__u64 absent_ns; /* since when walks do not meet it, 0: they do */
	__u64 reserved_branch; /* groups in which it has reserved a slot for the fork it is in, 0: none */
	__u64 reserved_family;
	__u64 forking; /* address of the task it is making, where a gate knows that */
};

enum pw_task_flag {
	PW_TASK_EXITED = 1,
	PW_TASK_RELEASED = 2, /* its slot is free again, though its memory is not */
	PW_TASK_FOLDED = 4,   /* a process without a record: it counts as slots of its creator's */
	PW_TASK_STOPPED = 8,  /* such a one, stopped by a gate */
	PW_TASK_OUTSIDE = 16, /* not in scope: its slot counts for no limit */
};

/*
 * Value of `procs`, one per process, alive or dead. It stays while the process holds a slot or somebody descends from it,
 * and after that until a sweep finds it older than the window.
 */
struct pw_proc {
	struct pw_key parent; /* the creator: who called fork, whatever the parent is now */
	__u64 family;         /* group ids */
	__u64 branch;
	__u64 exec_ns; /* last exec, 0: never since it was forked */
	__u64 exit_ns; /* when its last thread exited, 0: alive */
	__u64 held_ns; /* when a gate stopped it, 0: not stopped by us */
	__u64 stopped_ns; /* how long gates had it stopped before that, in all */
	__u64 lost_ns;    /* the same of its ancestors, before each had the next */
	__u64 found_ns;     /* interactive shells: last time a child was forked … */
	__u64 found_family; /* … and the family it went to */
	__u64 leader;       /* address of its group leader's task_struct */
	__u64 tick_ns;      /* when the interval of `tick_forks` began */
	__s32 kids;         /* records whose parent this is */
	__s32 slots;        /* tasks not yet released: threads and zombies */
	__s32 live;         /* tasks that have not exited */
	__u32 forks;        /* processes it created, ever */
	__u32 execs;
	__u32 generation; /* forks between this process and the root of its branch */
	__u32 uid;
	__u32 exit_code; /* as wait(2) would give it */
	__u32 flags;     /* enum pw_proc_flag */
	__u32 stops;     /* times a gate stopped it */
	__u32 mark;         /* the last question for a lineage that it is an answer to */
	__s32 hidden;       /* living tasks among `live` that are processes of their own, without a record */
	__u32 folded;       /* descendants that have no record (any more), but are counted here */
	__u32 skipped;      /* dead ancestors that were left out between this record and `parent` */
	__u32 thread_forks; /* tasks made by threads other than the leader */
	__u32 thread_depth; /* the longest chain of threads that made threads */
	__u32 tick_forks;   /* tasks it made since tick_ns … */
	__u32 last_forks;   /* … and in the second before that */
	__s32 outside;      /* of its slots: those of tasks that are not in scope */
	__u32 refusals;     /* forks of its own that a gate refused */
	char comm[PW_COMM_LEN];
	__u64 exe_ino; /* the program it runs, as struct pw_exe */
	__u64 exe_dev;
};

enum pw_proc_flag {
	PW_PROC_SPAWNER = 1,  /* each child founds a family */
	PW_PROC_SHELL = 2,    /* a spawner while it leads a session that has a terminal */
	PW_PROC_KTHREAD = 4,  /* never in a family */
	PW_PROC_EXEMPT = 8,   /* no gate ever stops it */
	PW_PROC_SCOPE = 16,   /* families its children found are in scope (--only pid:N) */
	PW_PROC_GUESSED = 32, /* found running: the creator was guessed from the parent */
	PW_PROC_PROTECTED = 64, /* its executable is one that is never killed */
	PW_PROC_GOING = 128,  /* somebody is about to remove the record, or to move it in the tree */
	PW_PROC_OUTSIDE = 256, /* only in answers: its user and cgroup of now are not in scope */
};

/* Value of `groups`: a family or a branch. */
struct pw_group {
	__u64 id;
	__u64 family; /* of a branch: the family it is part of; of a family: itself */
	struct pw_key founder;
	struct pw_key spawner; /* who forked the founder */
	__u64 born_ns;
	__u64 alarm_ns; /* last alarm */
	__u64 held_ns;  /* since when it is held, 0: not held */
	__u64 forks;    /* processes and threads created in it, ever */
	__u64 asks;      /* slots asked for, ever */
	__u64 settle_at; /* it cannot be over its limit before `asks` is here */
	__s32 slots;
	__s32 inflight;    /* slots reserved by forks that have passed the gate and are not done */
	__u32 peak;
	__u32 limit;       /* slots it may have: the fork that would make it more is held */
	__u32 depth_limit; /* generations at which it is held */
	__u32 kind;        /* enum pw_group_kind */
	__u32 flags;       /* enum pw_group_flag */
	__u32 rule;        /* enum pw_rule of the last alarm */
	__u32 stops;       /* times a gate stopped one of its tasks */
	__s32 records;     /* of a family: processes, alive or dead, that have a record */
	__s32 outside;     /* of its slots: those that count for no limit, as their tasks are not in scope */
	__u32 refusals;    /* forks that a gate refused one of its tasks */
};

/* One element of `dump`, when processes are dumped; groups are laid over it, one an element. */
struct pw_dump {
	struct pw_key key;
	struct pw_proc proc; /* uid and comm as they are now */
	__u32 ppid;          /* tgid of the parent it has now, 0: it holds no slot */
	__u32 state;         /* the letter that ps shows, 0 with it */
};

enum pw_group_kind {
	PW_FAMILY = 1,
	PW_BRANCH = 2,
};

enum pw_group_flag {
	PW_GROUP_SCOPED = 1,  /* the guard may act on it */
	PW_GROUP_ALARMED = 2, /* an alarm was raised and not yet answered */
	PW_GROUP_HELD = 4,    /* its forks do not happen */
	PW_GROUP_WATCHED = 8, /* tell when it is empty, and keep it until told to forget it */
	PW_GROUP_DOUBTED = 16, /* it was split off for a person to decide, not as a bomb */
};

enum pw_rule {
	PW_RULE_BRANCH_SLOTS = 1,
	PW_RULE_FAMILY_SLOTS = 2,
	PW_RULE_GENERATIONS = 3,
};

enum pw_event_kind {
	PW_EVENT_ALARM = 1,
	PW_EVENT_EMPTY = 2,
	PW_EVENT_SHORT = 3, /* records are running short: sweep */
	PW_EVENT_PASSED = 4, /* a fork went past the gate, in a group that has used half of its budget */
};

/* The one record that goes through the ring buffer. */
struct pw_event {
	__u64 time_ns;
	__u64 group;
	__u64 family;
	struct pw_key by; /* the process whose fork crossed the threshold */
	__u32 kind;       /* enum pw_event_kind */
	__u32 rule;       /* enum pw_rule */
	__u32 slots;
	__u32 flags; /* of the group, at that moment */
};

enum pw_config_flag {
	PW_CONFIG_AUTOHOLD = 1, /* crossing a threshold holds at once, in the kernel */
	PW_CONFIG_ONLY = 2,     /* in scope are only families founded below a PW_PROC_SCOPE process, and `uids`, `cgroups` */
	PW_CONFIG_HISTORY = 4,  /* dead records stay until they are swept */
	PW_CONFIG_KEEP = 8,     /* when the guard is lost, what is held stays so, and nothing new is held */
	PW_CONFIG_LEAKY = 16,   /* the gate does not see every way into fork: tell when one is used */
};

/* The one element of `config`. */
struct pw_config {
	__u64 branch_age_ns; /* a parent this old founds a branch with each child */
	__u64 job_gap_ns;    /* children an interactive shell forks closer together than this are one job */
	__u64 lease_ns;      /* the guard is lost when it has not been seen for so long */
	__u32 hold_at;       /* slots of a branch */
	__u32 family_hold_at;
	__u32 depth_limit; /* generations in one branch */
	__u32 flags;       /* enum pw_config_flag */
	__u32 max_records; /* elements of `procs`, 0: never fold */
	__u32 only[PW_MAX_ONLY]; /* tgids that become PW_PROC_SPAWNER | PW_PROC_SCOPE when seeded */
	__u32 refuse;            /* the error that a held fork gets, 0: it is stopped instead */
	__u32 n_uids;
	__u32 n_cgroups;
	__u32 pad;
	__u32 uids[PW_MAX_UIDS];
	__u64 cgroups[PW_MAX_CGROUPS];     /* inode numbers of their directories … */
	__u32 hierarchies[PW_MAX_CGROUPS]; /* … and the hierarchy each is in, 0: v2 */
};

/* The one element of `state`: counters, written by the kernel side only. Loss is data. */
struct pw_state {
	__u64 next_id;
	__u64 holds; /* groups held right now */
	__u64 seeded;
	__u64 adopted; /* tasks met that nobody had told us about */
	__u64 forks;
	__u64 stops;
	__u64 lost_tasks; /* a map was full */
	__u64 lost_procs;
	__u64 lost_groups;
	__u64 lost_events;
	__u64 missed_frees; /* releases nobody told us about, noticed by a walk or when the memory was used again */
	__u64 records;      /* processes that have a record right now */
	__u64 aged;         /* records removed because they were older than the window */
	__u64 contracted;   /* dead ancestors left out of a chain */
	__u64 folded;       /* processes that are only counted, because records ran short: dead ones … */
	__u64 folded_alive; /* … and living ones, that never had a record */
	__u64 hidden;       /* of those: still without one right now */
	__u64 short_ns;     /* when user space was last told that records run short */
	__u64 settle_after; /* not before this, or looking for who is reaped would be all that is done */
	__u64 walks;        /* over all tasks */
	__u64 marks;        /* questions for a lineage */
	__u64 dumped;       /* elements of `dump` that answer the last question */
	__u64 seen_ns;      /* last sign of life of the guard; CLOCK_MONOTONIC, which stands while the machine sleeps */
	__u64 lapsed;       /* holds that ended because there was no guard to answer them */
	__u64 woken;        /* processes continued for want of a guard that would */
	__u64 refusals;     /* forks that got an error because their group is held */
	__u64 passed_ns;    /* when user space was last told that forks go past the gate */
};

/* Key of `exes`: an executable as the kernel knows it; the value is a set of enum pw_proc_flag. */
struct pw_exe {
	__u64 ino;
	__u64 dev; /* the kernel's dev_t: major << 20 | minor */
};

/* Arguments of the `control` program, run by BPF_PROG_TEST_RUN: five u64. */
enum pw_op {
	PW_OP_HOLD = 1,       /* group */
	PW_OP_RELEASE = 2,    /* group, new limit (0: as it is), new depth limit (0: as it is) */
	PW_OP_NEW_FAMILY = 3, /* of family, founder tgid, founder start_ns; returns via state.next_id */
	PW_OP_MOVE = 4,       /* group, tgid, start_ns: process joins that family and branch */
	PW_OP_FLAG = 5,       /* set, tgid, start_ns, clear: flags of a process */
	PW_OP_UNSTOP = 6,     /* -, tgid, start_ns: forget that a gate stopped it */
	PW_OP_FORGET = 7,     /* group: no longer watched; gone when empty */
	PW_OP_LIMIT = 8,      /* group, new limit, new depth limit */
	PW_OP_SETTLE = 9,     /* -: count no slot that is already free */
	PW_OP_SEEN = 10,      /* -: a sign of life of the guard */
	PW_OP_DOUBT = 11,     /* group: it gets PW_GROUP_DOUBTED */
	PW_OP_STOPPED = 12,   /* -, tgid, start_ns: another gate has stopped it */
};

/* Arguments of the `ask` program, likewise: the answer is in `dump`. */
enum pw_ask {
	PW_ASK_PROCS = 1,   /* of up to three families (0: all): every record */
	PW_ASK_LINEAGE = 2, /* the same, but of the dead only those from whom somebody with a slot descends */
	PW_ASK_STOPPED = 3, /* -: those that a gate stopped */
	PW_ASK_PROC = 4,    /* -, tgid, start_ns: one record, if it is there */
	PW_ASK_GROUPS = 5,  /* - */
	PW_ASK_GROUP = 6,   /* group: one group, if it is there */
	PW_ASK_HIDDEN = 7,  /* of up to three families (0: all): the living without a record, as children of their creators */
};

#endif
