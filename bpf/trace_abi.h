/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What crosses between the tracer's kernel side and Python. `make abi` generates src/pidwarden/trace/abi.py from it.
 * All times are nanoseconds since boot (CLOCK_BOOTTIME); process and thread ids are those of the first pid namespace.
 */
#ifndef PIDWARDEN_TRACE_ABI_H
#define PIDWARDEN_TRACE_ABI_H

enum tr_size {
	TR_REVISION = 1,
	TR_ARGS = 6,
	TR_CALLS = 1024,   /* numbers of one ABI that are told apart; the machine's own calls end far below */
	TR_BUCKETS = 40,   /* of the histogram: bucket n counts calls of 2^n to 2^(n+1) ns, the last one all longer ones */
	TR_PIDS = 4194304, /* PID_MAX_LIMIT (include/linux/threads.h) */
	TR_DATA_BYTES = 24576,   /* bytes of pieces in one record */
	TR_PIECE_BYTES = 4096,   /* bytes of one piece, PATH_MAX */
	TR_MANY = 32,      /* strings of an array (argv), elements of an iovec */
};

/* Of which ABI a number is; `nr` of a call is TR_CALLS * abi + the number. */
enum tr_abi {
	TR_NATIVE = 0,
	TR_COMPAT = 1, /* a 32-bit call: i386, arm */
	TR_X32 = 2,
	TR_ABIS = 3,
};

enum tr_event_kind {
	TR_ENTER = 1,  /* a call was entered; sent only if something was captured there. args, pieces */
	TR_RETURN = 2, /* a call returned: ret, enter_ns, args, pieces */
	TR_FORK = 3,   /* args[0] = tid, args[1] = tgid of the child; pieces: none */
	TR_EXEC = 4,   /* args[0] = the thread id that it had before; piece 0: comm */
	TR_SIGNAL = 5, /* args[0] = number; piece 0: its kernel_siginfo (48 bytes) */
	TR_EXIT = 6,   /* a thread ended: ret = exit code as wait(2) gives it, last; nr, enter_ns and args of the call that it
			  was in, unless TR_NO_ENTRY */
};

enum tr_event_flag {
	TR_NO_ENTRY = 1, /* its entry was not seen: it was in the call when the trace began, or seccomp denied it */
	TR_FIRST = 2,    /* the first record of this thread */
	TR_ENTERED = 4,  /* of a return: a TR_ENTER was sent before. Else this record has all there is of the call */
	TR_ENTRY_LOST = 8, /* of a return: its TR_ENTER was lost; what could be is captured again */
};

/* One record of the ring, followed by `size` bytes of pieces. */
struct tr_event {
	__u64 ns;
	__u64 enter_ns; /* of a call: when it was entered, 0: not seen */
	__u32 tid;
	__u32 tgid;
	__u16 kind;  /* enum tr_event_kind */
	__u16 nr;    /* of a call: TR_CALLS * enum tr_abi + number */
	__u16 flags; /* enum tr_event_flag */
	__u16 size;
	__u32 lost; /* records of this thread that were lost since the last one that came */
	__u32 last; /* of an exit: it was the last thread of its process */
	__s64 ret;
	__u64 args[TR_ARGS];
};

enum tr_piece_flag {
	TR_CUT = 1,   /* there was more */
	TR_FAULT = 2, /* it could not be read: a bad address, or a page that was not there (then it may come at the return) */
};

/* What an argument points to, or a part of that; followed by `size` bytes, and filled up to a multiple of 8. */
struct tr_piece {
	__u8 arg;   /* 0 to 5 */
	__u8 flags; /* enum tr_piece_flag */
	__u16 size;
	__u16 part; /* 0: what the argument points to; n: string n - 1 of an array, bytes of element n - 1 of an iovec;
		       TR_NAME: msg_name, TR_CONTROL: msg_control */
	__u16 pad;
};

enum tr_part {
	TR_NAME = 1000,
	TR_CONTROL = 1001,
	TR_IOV = 1002, /* the iovec of a msghdr */
};

enum tr_capture_kind {
	TR_NOTHING = 0,
	TR_STRING = 1,  /* up to the nul byte, at most `most` bytes */
	TR_BYTES = 2,   /* `size` bytes; with `unit`: `unit` bytes for each of what argument `by` counts */
	TR_STRINGS = 3, /* a list of pointers to strings that ends with NULL: `most` bytes of each string, TR_MANY at most;
			   with `most` 0: only how many there are, as a __u32 */
	TR_IOVEC = 4,   /* as many iovecs as argument `by` says, at most TR_MANY; and `most` bytes of what they point to */
	TR_MSGHDR = 5,  /* a struct msghdr, its name, its iovec, and `most` bytes of what that points to */
	TR_ENTRIES = 6, /* how many entries of a directory there are in what `by` says, as a __u32; `size`: where each has its
			   length, a __u16 (struct linux_dirent64) */
};

/* When something is captured. */
enum tr_capture_when {
	TR_AT_ENTRY = 1,
	TR_AT_RETURN = 2,
	TR_IF_DONE = 4, /* at the return only if the call did not fail */
};

/* Where the count or length comes from, in `by`. */
enum tr_capture_by {
	TR_BY_NOTHING = 0, /* `size` alone */
	TR_BY_ARG = 1,     /* … + i: the value of argument i */
	TR_BY_RESULT = 7,  /* what the call returned */
	TR_BY_WORD = 8,    /* … + i: the __u32 that argument i points to */
};

struct tr_capture {
	__u8 kind; /* enum tr_capture_kind */
	__u8 when; /* enum tr_capture_when */
	__u8 by;   /* enum tr_capture_by */
	__u8 unit; /* bytes of one element, 0: it is `size` bytes long */
	__u16 size;
	__u16 most; /* at most so many bytes, up to TR_PIECE_BYTES */
};

/* Value of `plans`, by nr. */
struct tr_plan {
	__u8 traced;    /* it goes into the stream */
	__u8 at_entry;  /* bit i: argument i is captured then; both set by the loader */
	__u8 at_return;
	__u8 early;     /* what is captured at its entry is gone when it returns (execve) */
	__u32 counted;
	struct tr_capture args[TR_ARGS];
};

enum tr_config_flag {
	TR_STREAM = 1,
	TR_BY_PROCESS = 2, /* counts of each process as well */
	TR_FOLLOW = 4,     /* children of those who are traced are traced too */
	TR_ONLY_FAILED = 8,
	TR_ONLY_DONE = 16,
	TR_LATE = 32, /* most calls will not be shown: capture what they were given when they return, not at their entry */
};

struct tr_config {
	__u32 flags; /* enum tr_config_flag */
	__u32 self;  /* the tracer's own tgid, which is never traced */
	__u32 has_uid; /* trace by user */
	__u32 uid;
	__u64 cgroup;  /* trace by cgroup of v2: its id, 0: none */
	__u64 min_ns;  /* calls that took less are not in the stream */
	__u64 errnos[3]; /* bit n: calls that failed with errno n; all 0: whatever their result was */
	__u32 level;   /* depth of that cgroup below the root */
	__u32 exec; /* number of execve, with which a command that is started begins */
};

/* Counts of one call; per processor. */
struct tr_count {
	__u64 calls;
	__u64 errors;
	__u64 ns;
	__u64 max_ns;
	__u64 lost; /* returns of it that did not get into the ring */
};

struct tr_total {
	struct tr_count count;
	__u64 buckets[TR_BUCKETS];
};

struct tr_who {
	__u32 tgid;
	__u32 nr;
};

enum tr_thread_flag {
	TR_IN_CALL = 1,
	TR_SEEN = 2,    /* a record of it was sent */
	TR_NEWBORN = 4, /* it returns from its parent's fork, a call that it never made */
	TR_MUTED = 8,   /* a command to be started: nothing is told until it calls execve */
	TR_SENT = 16,   /* of the call it is in: the TR_ENTER was sent … */
	TR_UNSENT = 32, /* … or lost */
};

/* Value of `threads`, by thread id: the call it is in, or was in last. */
struct tr_thread {
	__u64 enter_ns;
	__u64 args[TR_ARGS];
	__u32 nr;
	__u32 flags; /* enum tr_thread_flag */
	__u32 lost;
	__u32 again; /* bit i: argument i could not be read at the entry */
};

/* One per processor. */
struct tr_state {
	__u64 records;
	__u64 lost;        /* records that did not get into the ring */
	__u64 lost_bytes;
	__u64 uncounted;   /* calls that are in no process's counts, as there was no room; they are in the totals */
	__u64 untold;      /* threads whose state found no room: their calls are counted, but for time */
	__u64 unmatched;   /* returns without an entry: denied by seccomp, or under way when the trace began */
};

#endif
