"""Layouts and constants of bpf/trace_abi.h. Generated from the object's BTF by `make abi`; do not edit."""

from __future__ import annotations

from struct import Struct
from typing import Final

# enum tr_abi
NATIVE: Final = 0
COMPAT: Final = 1
X32: Final = 2
ABIS: Final = 3

# enum tr_capture_by
BY_NOTHING: Final = 0
BY_ARG: Final = 1
BY_RESULT: Final = 7
BY_WORD: Final = 8

# enum tr_capture_kind
NOTHING: Final = 0
STRING: Final = 1
BYTES: Final = 2
STRINGS: Final = 3
IOVEC: Final = 4
MSGHDR: Final = 5
ENTRIES: Final = 6

# enum tr_capture_when
AT_ENTRY: Final = 1
AT_RETURN: Final = 2
IF_DONE: Final = 4

# enum tr_config_flag
STREAM: Final = 1
BY_PROCESS: Final = 2
FOLLOW: Final = 4
ONLY_FAILED: Final = 8
ONLY_DONE: Final = 16
LATE: Final = 32

# enum tr_event_flag
NO_ENTRY: Final = 1
FIRST: Final = 2
ENTERED: Final = 4
ENTRY_LOST: Final = 8

# enum tr_event_kind
ENTER: Final = 1
RETURN: Final = 2
FORK: Final = 3
EXEC: Final = 4
SIGNAL: Final = 5
EXIT: Final = 6

# enum tr_part
NAME: Final = 1000
CONTROL: Final = 1001
IOV: Final = 1002

# enum tr_piece_flag
CUT: Final = 1
FAULT: Final = 2

# enum tr_size
REVISION: Final = 1
ARGS: Final = 6
CALLS: Final = 1024
BUCKETS: Final = 40
PIDS: Final = 4194304
DATA_BYTES: Final = 24576
PIECE_BYTES: Final = 4096
MANY: Final = 32

# enum tr_thread_flag
IN_CALL: Final = 1
SEEN: Final = 2
NEWBORN: Final = 4
MUTED: Final = 8
SENT: Final = 16
UNSENT: Final = 32

CAPTURE: Final = Struct("<BBBBHH")
CAPTURE_FIELDS: Final = (
    "kind",
    "when",
    "by",
    "unit",
    "size",
    "most",
)

CONFIG: Final = Struct("<IIIIQQ3QII")
CONFIG_FIELDS: Final = (
    "flags",
    "self",
    "has_uid",
    "uid",
    "cgroup",
    "min_ns",
    "errnos",
    "level",
    "exec",
)

COUNT: Final = Struct("<QQQQQ")
COUNT_FIELDS: Final = (
    "calls",
    "errors",
    "ns",
    "max_ns",
    "lost",
)

EVENT: Final = Struct("<QQIIHHHHIIq6Q")
EVENT_FIELDS: Final = (
    "ns",
    "enter_ns",
    "tid",
    "tgid",
    "kind",
    "nr",
    "flags",
    "size",
    "lost",
    "last",
    "ret",
    "args",
)

PIECE: Final = Struct("<BBHHH")
PIECE_FIELDS: Final = (
    "arg",
    "flags",
    "size",
    "part",
    "pad",
)

PLAN: Final = Struct("<BBBBI6Q")
PLAN_FIELDS: Final = (
    "traced",
    "at_entry",
    "at_return",
    "early",
    "counted",
    "args",
)

STATE: Final = Struct("<QQQQQQ")
STATE_FIELDS: Final = (
    "records",
    "lost",
    "lost_bytes",
    "uncounted",
    "untold",
    "unmatched",
)

THREAD: Final = Struct("<Q6QIIII")
THREAD_FIELDS: Final = (
    "enter_ns",
    "args",
    "nr",
    "flags",
    "lost",
    "again",
)

TOTAL: Final = Struct("<QQQQQ40Q")
TOTAL_FIELDS: Final = (
    "count_calls",
    "count_errors",
    "count_ns",
    "count_max_ns",
    "count_lost",
    "buckets",
)

WHO: Final = Struct("<II")
WHO_FIELDS: Final = (
    "tgid",
    "nr",
)

# struct name: (size in bytes, format, fields); the loader compares it with the object it loads.
LAYOUTS: Final = {
    "tr_capture": (8, "<BBBBHH", CAPTURE_FIELDS),
    "tr_config": (64, "<IIIIQQ3QII", CONFIG_FIELDS),
    "tr_count": (40, "<QQQQQ", COUNT_FIELDS),
    "tr_event": (96, "<QQIIHHHHIIq6Q", EVENT_FIELDS),
    "tr_piece": (8, "<BBHHH", PIECE_FIELDS),
    "tr_plan": (56, "<BBBBI6Q", PLAN_FIELDS),
    "tr_state": (48, "<QQQQQQ", STATE_FIELDS),
    "tr_thread": (72, "<Q6QIIII", THREAD_FIELDS),
    "tr_total": (360, "<QQQQQ40Q", TOTAL_FIELDS),
    "tr_who": (8, "<II", WHO_FIELDS),
}
