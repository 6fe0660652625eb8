"""Layouts and constants of bpf/abi.h. Generated from the object's BTF by `make abi`; do not edit."""

from __future__ import annotations

from struct import Struct
from typing import Final

# enum pw_ask
ASK_PROCS: Final = 1
ASK_LINEAGE: Final = 2
ASK_STOPPED: Final = 3
ASK_PROC: Final = 4
ASK_GROUPS: Final = 5
ASK_GROUP: Final = 6
ASK_HIDDEN: Final = 7

# enum pw_config_flag
CONFIG_AUTOHOLD: Final = 1
CONFIG_ONLY: Final = 2
CONFIG_HISTORY: Final = 4
CONFIG_KEEP: Final = 8
CONFIG_LEAKY: Final = 16

# enum pw_event_kind
EVENT_ALARM: Final = 1
EVENT_EMPTY: Final = 2
EVENT_SHORT: Final = 3
EVENT_PASSED: Final = 4

# enum pw_group_flag
GROUP_SCOPED: Final = 1
GROUP_ALARMED: Final = 2
GROUP_HELD: Final = 4
GROUP_WATCHED: Final = 8
GROUP_DOUBTED: Final = 16

# enum pw_group_kind
FAMILY: Final = 1
BRANCH: Final = 2

# enum pw_op
OP_HOLD: Final = 1
OP_RELEASE: Final = 2
OP_NEW_FAMILY: Final = 3
OP_MOVE: Final = 4
OP_FLAG: Final = 5
OP_UNSTOP: Final = 6
OP_FORGET: Final = 7
OP_LIMIT: Final = 8
OP_SETTLE: Final = 9
OP_SEEN: Final = 10
OP_DOUBT: Final = 11
OP_STOPPED: Final = 12

# enum pw_proc_flag
PROC_SPAWNER: Final = 1
PROC_SHELL: Final = 2
PROC_KTHREAD: Final = 4
PROC_EXEMPT: Final = 8
PROC_SCOPE: Final = 16
PROC_GUESSED: Final = 32
PROC_PROTECTED: Final = 64
PROC_GOING: Final = 128
PROC_OUTSIDE: Final = 256

# enum pw_rule
RULE_BRANCH_SLOTS: Final = 1
RULE_FAMILY_SLOTS: Final = 2
RULE_GENERATIONS: Final = 3

# enum pw_size
REVISION: Final = 1
COMM_LEN: Final = 16
MAX_ONLY: Final = 8
MAX_UIDS: Final = 8
MAX_CGROUPS: Final = 32

# enum pw_task_flag
TASK_EXITED: Final = 1
TASK_RELEASED: Final = 2
TASK_FOLDED: Final = 4
TASK_STOPPED: Final = 8
TASK_OUTSIDE: Final = 16

CONFIG: Final = Struct("<QQQIIIII8IIIII8I4x32Q32I")
CONFIG_FIELDS: Final = (
    "branch_age_ns",
    "job_gap_ns",
    "lease_ns",
    "hold_at",
    "family_hold_at",
    "depth_limit",
    "flags",
    "max_records",
    "only",
    "refuse",
    "n_uids",
    "n_cgroups",
    "pad",
    "uids",
    "cgroups",
    "hierarchies",
)

DUMP: Final = Struct("<QIIQIIQQQQQQQQQQQiiiIIIIIIIIiIIIIIIiI16sQQII")
DUMP_FIELDS: Final = (
    "key_start_ns",
    "key_tgid",
    "key_pad",
    "proc_parent_start_ns",
    "proc_parent_tgid",
    "proc_parent_pad",
    "proc_family",
    "proc_branch",
    "proc_exec_ns",
    "proc_exit_ns",
    "proc_held_ns",
    "proc_stopped_ns",
    "proc_lost_ns",
    "proc_found_ns",
    "proc_found_family",
    "proc_leader",
    "proc_tick_ns",
    "proc_kids",
    "proc_slots",
    "proc_live",
    "proc_forks",
    "proc_execs",
    "proc_generation",
    "proc_uid",
    "proc_exit_code",
    "proc_flags",
    "proc_stops",
    "proc_mark",
    "proc_hidden",
    "proc_folded",
    "proc_skipped",
    "proc_thread_forks",
    "proc_thread_depth",
    "proc_tick_forks",
    "proc_last_forks",
    "proc_outside",
    "proc_refusals",
    "proc_comm",
    "proc_exe_ino",
    "proc_exe_dev",
    "ppid",
    "state",
)

EVENT: Final = Struct("<QQQQIIIIII")
EVENT_FIELDS: Final = (
    "time_ns",
    "group",
    "family",
    "by_start_ns",
    "by_tgid",
    "by_pad",
    "kind",
    "rule",
    "slots",
    "flags",
)

EXE: Final = Struct("<QQ")
EXE_FIELDS: Final = (
    "ino",
    "dev",
)

GROUP: Final = Struct("<QQQIIQIIQQQQQQiiIIIIIIIiiI")
GROUP_FIELDS: Final = (
    "id",
    "family",
    "founder_start_ns",
    "founder_tgid",
    "founder_pad",
    "spawner_start_ns",
    "spawner_tgid",
    "spawner_pad",
    "born_ns",
    "alarm_ns",
    "held_ns",
    "forks",
    "asks",
    "settle_at",
    "slots",
    "inflight",
    "peak",
    "limit",
    "depth_limit",
    "kind",
    "flags",
    "rule",
    "stops",
    "records",
    "outside",
    "refusals",
)

KEY: Final = Struct("<QII")
KEY_FIELDS: Final = (
    "start_ns",
    "tgid",
    "pad",
)

PROC: Final = Struct("<QIIQQQQQQQQQQQiiiIIIIIIIIiIIIIIIiI16sQQ")
PROC_FIELDS: Final = (
    "parent_start_ns",
    "parent_tgid",
    "parent_pad",
    "family",
    "branch",
    "exec_ns",
    "exit_ns",
    "held_ns",
    "stopped_ns",
    "lost_ns",
    "found_ns",
    "found_family",
    "leader",
    "tick_ns",
    "kids",
    "slots",
    "live",
    "forks",
    "execs",
    "generation",
    "uid",
    "exit_code",
    "flags",
    "stops",
    "mark",
    "hidden",
    "folded",
    "skipped",
    "thread_forks",
    "thread_depth",
    "tick_forks",
    "last_forks",
    "outside",
    "refusals",
    "comm",
    "exe_ino",
    "exe_dev",
)

STATE: Final = Struct("<QQQQQQQQQQQQQQQQQQQQQQQQQQQ")
STATE_FIELDS: Final = (
    "next_id",
    "holds",
    "seeded",
    "adopted",
    "forks",
    "stops",
    "lost_tasks",
    "lost_procs",
    "lost_groups",
    "lost_events",
    "missed_frees",
    "records",
    "aged",
    "contracted",
    "folded",
    "folded_alive",
    "hidden",
    "short_ns",
    "settle_after",
    "walks",
    "marks",
    "dumped",
    "seen_ns",
    "lapsed",
    "woken",
    "refusals",
    "passed_ns",
)

TASK: Final = Struct("<QIIIIIIQQQQ")
TASK_FIELDS: Final = (
    "key_start_ns",
    "key_tgid",
    "key_pad",
    "flags",
    "depth",
    "walk",
    "pad",
    "absent_ns",
    "reserved_branch",
    "reserved_family",
    "forking",
)

# struct name: (size in bytes, format, fields); the loader compares it with the object it loads.
LAYOUTS: Final = {
    "pw_config": (512, "<QQQIIIII8IIIII8I4x32Q32I", CONFIG_FIELDS),
    "pw_dump": (240, "<QIIQIIQQQQQQQQQQQiiiIIIIIIIIiIIIIIIiI16sQQII", DUMP_FIELDS),
    "pw_event": (56, "<QQQQIIIIII", EVENT_FIELDS),
    "pw_exe": (16, "<QQ", EXE_FIELDS),
    "pw_group": (144, "<QQQIIQIIQQQQQQiiIIIIIIIiiI", GROUP_FIELDS),
    "pw_key": (16, "<QII", KEY_FIELDS),
    "pw_proc": (216, "<QIIQQQQQQQQQQQiiiIIIIIIIIiIIIIIIiI16sQQ", PROC_FIELDS),
    "pw_state": (216, "<QQQQQQQQQQQQQQQQQQQQQQQQQQQ", STATE_FIELDS),
    "pw_task": (64, "<QIIIIIIQQQQ", TASK_FIELDS),
}
