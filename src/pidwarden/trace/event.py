"""What the kernel side of a trace tells, record by record (bpf/trace_abi.h). Pure: bytes in, values out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# enum tr_event_kind
ENTER, RETURN, FORK, EXEC, SIGNAL, EXIT = range(1, 7)
# enum tr_event_flag
NO_ENTRY: Final = 1
FIRST: Final = 2
ENTERED: Final = 4
ENTRY_LOST: Final = 8
# enum tr_piece_flag
CUT: Final = 1
FAULT: Final = 2
# enum tr_part
NAME: Final = 1000
CONTROL: Final = 1001
IOV: Final = 1002

CALLS: Final = 1024  # numbers of one ABI
_HEAD = struct.Struct("<QQIIHHHHI4xq6Q")
_PIECE = struct.Struct("<BBHH2x")
HEAD_BYTES: Final = _HEAD.size


class Piece(NamedTuple):
    """What an argument points to, or a part of it."""

    arg: int
    flags: int  # CUT, FAULT
    part: int  # 0, n for string or element n - 1, NAME, CONTROL, IOV
    data: bytes


class Event(NamedTuple):
    """One record; times in ns since boot, ids as in the first pid namespace."""

    ns: int
    enter_ns: int
    tid: int
    tgid: int
    kind: int
    nr: int  # CALLS * abi + number
    flags: int
    lost: int  # records of this thread that were lost before this one
    ret: int
    args: tuple[int, ...]
    pieces: tuple[Piece, ...]


def parse(data: bytes) -> Event:
    """One record as it came."""
    ns, enter_ns, tid, tgid, kind, nr, flags, size, lost, ret, *args = _HEAD.unpack_from(data)
    pieces = tuple(_pieces(data, HEAD_BYTES, HEAD_BYTES + size)) if size else ()
    return Event(ns, enter_ns, tid, tgid, kind, nr, flags, lost, ret, tuple(args), pieces)


def _pieces(data: bytes, at: int, end: int) -> Iterator[Piece]:
    while at < end:
        arg, flags, size, part = _PIECE.unpack_from(data, at)
        at += _PIECE.size
        yield Piece(arg, flags, part, data[at : at + size])
        at += size + 7 & ~7
