"""All processes at one moment, a column a field: out of the guard's bytes, or out of /proc.

Twenty thousand rows are read here while somebody waits, so only the fields that are asked for are taken out of the
bytes, and only the files that hold them are opened.
"""

from __future__ import annotations

import os
import re
from struct import Struct
from typing import TYPE_CHECKING, Any

from pidwarden.kernel import abi
from pidwarden.kernel.procfs import PROC
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.record import ProcFlag, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

_PF_KTHREAD = 0x00200000  # include/linux/sched.h; field 9 of stat
_STAT_BYTES = 1500  # 52 numbers of at most 20 digits and a name of at most 64 bytes (proc_pid_stat(5))


class Frame:
    """Values by field, a sequence each, as long as there are processes. A field that nobody knows is not in it."""

    def __init__(self, fields: dict[str, Sequence[Any]], size: int) -> None:
        self.fields, self.size = fields, size

    def __contains__(self, field: object) -> bool:
        return field in self.fields

    def __getitem__(self, field: str) -> Sequence[Any]:
        return self.fields[field]


# -- the guard's bytes -------------------------------------------------------------------------------------------------

_TOKENS = re.findall(r"\d*[a-zA-Z]", abi.DUMP.format.lstrip("<"))


def _split_tokens(tokens: Iterable[str]) -> list[str]:
    """A token for each field: ``QII`` is three, ``16s`` is one."""
    found: list[str] = []
    for token in tokens:
        count, kind = token[:-1], token[-1]
        found += [token] if kind == "s" or not count else [kind] * int(count)
    return found


def _short(name: str) -> str:
    return name.removeprefix("key_").removeprefix("proc_")


_LAYOUT = dict(zip(map(_short, abi.DUMP_FIELDS), _split_tokens(_TOKENS), strict=True))


def layout(wanted: Iterable[str]) -> tuple[Struct, list[str]]:
    """A struct of the size of pw_dump that sees only those fields, and their names in its order."""
    wanted = set(wanted)
    tokens, names = ["<"], []
    for name, token in _LAYOUT.items():
        if name in wanted:
            names.append(name)
            tokens.append(token)
        else:
            tokens.append(f"{Struct('<' + token).size}x")
    return Struct("".join(tokens)), names


def from_guard(data: bytes, wanted: Iterable[str]) -> Frame:
    """The fields asked for, of every record; ``comm`` still has the zeros after its end."""
    struct, names = layout(wanted)
    columns = list(zip(*struct.iter_unpack(data), strict=True)) or [() for _ in names]
    return Frame(dict(zip(names, columns, strict=True)), len(data) // struct.size)


# -- /proc -------------------------------------------------------------------------------------------------------------

_FROM_NAME = frozenset({"tgid"})
_FROM_START = frozenset({"state", "ppid", "comm"})  # what stands in stat before anything has to be counted
_FROM_STAT = frozenset({"slots", "live", "start_ns", "flags"})
FROM_PROC = _FROM_NAME | _FROM_START | _FROM_STAT | {"uid"}


def _start_of_stat(data: bytes) -> tuple[int, int, bytes]:
    end = data.rindex(b")")
    return data[end + 2], int(data[end + 4 : data.index(b" ", end + 4)]), data[data.index(b"(") + 1 : end]


def _all_of_stat(data: bytes) -> tuple[int, int, bytes, int, int, int, int]:
    end = data.rindex(b")")
    rest = data[end + 2 :].split(None, 20)
    state, threads = rest[0][0], int(rest[17])
    live = 0 if state in b"ZX" and threads <= 1 else threads
    flags = ProcFlag.KTHREAD.value if int(rest[6]) & _PF_KTHREAD else 0
    name = data[data.index(b"(") + 1 : end]
    return state, int(rest[1]), name, max(threads, 1), live, int(rest[19]) * TICK_NS, flags


def from_proc(wanted: Iterable[str], root: str = PROC, without: Container[int] = ()) -> Frame:
    """The fields asked for, as far as /proc knows them, of every process that we may see, but those `without`."""
    wanted = set(wanted) & FROM_PROC
    parse: Callable[[bytes], tuple[Any, ...]] | None = None
    names: tuple[str, ...] = ()
    if wanted & _FROM_STAT:
        parse, names = _all_of_stat, ("state", "ppid", "comm", "slots", "live", "start_ns", "flags")
    elif wanted & _FROM_START:
        parse, names = _start_of_stat, ("state", "ppid", "comm")
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pids = [name for name in os.listdir(directory) if name.isdecimal()]
        if without:
            pids = [name for name in pids if int(name) not in without]
        rows = _rows(pids, directory, parse, uid="uid" in wanted)
    finally:
        os.close(directory)
    names = ("tgid", *names, *(("uid",) if "uid" in wanted else ()))
    columns = list(zip(*rows, strict=True)) or [() for _ in names]
    return Frame(dict(zip(names, columns, strict=True)), len(rows))


def _rows(
    pids: Iterable[str], directory: int, parse: Callable[[bytes], tuple[Any, ...]] | None, *, uid: bool
) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    opened, read, close, append = os.open, os.read, os.close, rows.append
    for pid in pids:
        row: tuple[Any, ...] = (int(pid),)
        try:
            if parse:
                fd = opened(pid + "/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                try:
                    row += parse(read(fd, _STAT_BYTES))
                finally:
                    close(fd)
            if uid:
                row += (os.stat(pid, dir_fd=directory).st_uid,)
        except (OSError, ValueError):  # gone meanwhile, or hidden
            continue
        append(row)
    return rows


def records_from_proc(root: str = PROC, without: Container[int] = ()) -> list[Record]:
    """The living and the zombies, each with its present parent where the creator would stand, marked as guessed."""
    frame = from_proc(FROM_PROC, root, without)
    started = dict(zip(frame["tgid"], frame["start_ns"], strict=True))
    names = ("tgid", "start_ns", "ppid", "slots", "live", "uid", "flags", "comm", "state")
    return [
        Record(
            ProcessKey(pid, start),
            ProcessKey(ppid, started.get(ppid, 0)),
            family=0, branch=0, exec_ns=0, exit_ns=0, held_ns=0, slots=slots, live=live, forks=0, execs=0, generation=0,
            uid=uid, exit_code=0, flags=flags | ProcFlag.GUESSED.value, stops=0, comm=comm, ppid=ppid, state=chr(state),
        )
        for pid, start, ppid, slots, live, uid, flags, comm, state in zip(*map(frame.__getitem__, names), strict=True)
    ]  # fmt: skip
