"""What the kernel side of a trace tells, record by record (bpf/trace_abi.h). Pure: bytes in, values out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.trace import abi

if TYPE_CHECKING:
    from collections.abc import Iterator


class Piece(NamedTuple):
    """What an argument points to, or a part of it."""

    arg: int
    flags: int  # abi.CUT, abi.FAULT
    part: int  # 0, n for string or element n - 1, abi.NAME, abi.CONTROL, abi.IOV
    data: bytes


class Event(NamedTuple):
    """One record; times in ns since boot, ids as in the first pid namespace."""

    ns: int
    enter_ns: int
    tid: int
    tgid: int
    kind: int  # abi.ENTER, RETURN, FORK, EXEC, SIGNAL, EXIT
    nr: int  # abi.CALLS * ABI + number
    flags: int  # abi.NO_ENTRY, FIRST, ENTERED, ENTRY_LOST
    lost: int  # records of this thread that were lost before this one
    last: int  # of an EXIT: the thread was the last of its process
    ret: int
    args: tuple[int, ...]
    pieces: tuple[Piece, ...]


def parse(data: bytes) -> Event:
    """One record as it came."""
    ns, enter_ns, tid, tgid, kind, nr, flags, size, lost, last, ret, *args = abi.EVENT.unpack_from(data)
    pieces = tuple(_pieces(data, abi.EVENT.size, abi.EVENT.size + size)) if size else ()
    return Event(ns, enter_ns, tid, tgid, kind, nr, flags, lost, last, ret, tuple(args), pieces)


def _pieces(data: bytes, at: int, end: int) -> Iterator[Piece]:
    while at < end:
        arg, flags, size, part, _pad = abi.PIECE.unpack_from(data, at)
        at += abi.PIECE.size
        yield Piece(arg, flags, part, data[at : at + size])
        at += size + 7 & ~7
