"""Whom `pidwarden trace` is about: targets become process ids, looked up again until no new ones come."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.cli import source
from pidwarden.errors import NoPermission, PidwardenError, UsageError
from pidwarden.kernel import cgroup, evidence, procfs
from pidwarden.model import lineage
from pidwarden.model.key import TICK_NS
from pidwarden.model.selector import PID_MAX, SelectorKind, parse_selector
from pidwarden.model.text import escape
from pidwarden.trace import enlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterable, Mapping

_KINDS = (SelectorKind.PID, SelectorKind.USER, SelectorKind.CGROUP, SelectorKind.CONTAINER, SelectorKind.FAMILY)
_TYPE = "type PID, tree:PID, family:N, branch:N, user:NAME, cgroup:PATH or container:ID"


class Whom(NamedTuple):
    """A target. Who is to be traced is looked up by `find`, or known to the kernel side by user or cgroup."""

    text: str
    find: Callable[[], Mapping[int, int]]  # starts in ticks by process id
    follow: bool
    uid: int | None = None
    cgroup: tuple[int, int] | None = None  # of v2: its id, and its depth below the root
    ends: bool = True  # there will be no more of them once all have ended


def parse(args: argparse.Namespace) -> list[Whom]:
    """The targets of a command line.

    Raises:
        UsageError: one cannot be understood. PidwardenError: there is nobody like this.
    """
    texts = [*args.targets, *(pid for word in args.p for pid in word.replace(",", " ").split())]
    found = [_one(args, text) for text in texts]
    if sum(whom.uid is not None for whom in found) > 1 or sum(whom.cgroup is not None for whom in found) > 1:
        msg = "one user and one cgroup at a time; trace the others by a second `pidwarden trace`"
        raise UsageError(msg)
    return found


def _one(args: argparse.Namespace, text: str) -> Whom:  # noqa: PLR0911  (one for each kind)
    kind, _colon, value = text.partition(":")
    if kind == "tree":
        pid, start = _process(value, text)
        return Whom(text, _tree(args, pid, start), follow=True)
    if kind == "branch":
        number = _number(value, text)
        return Whom(text, lambda: _of_guard(args, "branch", number, text), follow=True)
    if kind == "pid" or text.partition("@")[0].isdecimal():
        pid, start = _process(text, text)
        look = enlist.tree if args.f else enlist.alone
        return Whom(text, look({pid: start}), follow=bool(args.f))
    if not _colon:
        msg = f"{text!r} is no target: {_TYPE}; before a command to start stands `--`"
        raise UsageError(msg)
    selector = parse_selector(text, _KINDS)
    if selector.kind is SelectorKind.FAMILY:
        return Whom(text, lambda: _of_guard(args, "family", int(value), text), follow=True)
    match = source.matcher(selector)  # says who does not exist

    def find() -> dict[int, int]:
        return _starts(pid for pid in _pids() if match(pid, procfs.owner(pid), 0))

    if selector.kind is SelectorKind.USER:
        from pidwarden.guard.scope import uid_of  # noqa: PLC0415

        return Whom(text, dict, follow=True, uid=uid_of(value), ends=False)
    if selector.kind is SelectorKind.CGROUP and (place := _v2(value)):
        return Whom(text, dict, follow=True, cgroup=place, ends=False)
    return Whom(text, find, follow=True)


def _process(value: str, text: str) -> tuple[int, int]:
    """Its number and its start in ticks."""
    pid, start = source.parse_pid(value)
    found = procfs.stat(pid) or procfs.veiled(pid)
    if found is None:
        if procfs.exists(pid):
            msg = f"{text}: /proc hides that process from us; type `sudo pidwarden trace …`"
            raise NoPermission(msg)
        msg = f"{text}: there is no such process (any more); `pidwarden ps` lists those that are there"
        raise PidwardenError(msg)
    if start and found.start_ticks not in (start // TICK_NS, procfs.VEILED):
        msg = f"{text}: that process is gone, and pid {pid} is another one now"
        raise PidwardenError(msg)
    if pid == os.getpid():
        msg = f"{text} is this trace itself, which would trace its own tracing"
        raise UsageError(msg)
    return pid, found.start_ticks


def _starts(pids: Iterable[int]) -> dict[int, int]:
    found = {pid: procfs.stat(pid) or procfs.veiled(pid) for pid in pids}
    return {pid: stat.start_ticks for pid, stat in found.items() if stat is not None}


def _number(value: str, text: str) -> int:
    if value.isascii() and value.isdecimal() and len(value) <= 20:  # noqa: PLR2004  (64 bits)
        return int(value)
    msg = f"{text!r}: {value!r} is no number of a branch; `pidwarden status` shows them"
    raise UsageError(msg)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(procfs.PROC) if name.isdecimal() and int(name) <= PID_MAX]


def _tree(args: argparse.Namespace, root: int, start: int) -> Callable[[], Mapping[int, int]]:
    """It and its descendants; with a guard also those whose parents have ended since."""
    by_proc = enlist.tree({root: start})

    def look() -> dict[int, int]:
        found = dict(by_proc())
        if not args.no_guard:
            _taken, view = source.take_view(args, "children whose parents have ended")
            args.no_guard = _taken.answer is None  # said once
            rows = view.had_pid(root)[-1:]
            below = [view.records[row] for row in lineage.below(view.above, rows)] if view.creators else []
            found |= _starts(r.key.tgid for r in below if r.slots > 0 and r.key.tgid not in found)
        return found

    return look


def _of_guard(args: argparse.Namespace, field: str, number: int, text: str) -> dict[int, int]:
    from pidwarden.kernel import snapshot  # noqa: PLC0415

    taken = source.take(args, "families")
    if taken.answer is None:
        msg = f"{text}: families are known only while a guard runs; type `sudo pidwarden guard`, or trace tree:PID"
        raise PidwardenError(msg)
    frame = snapshot.from_guard(taken.data, ("tgid", "slots", field))
    rows = zip(frame["tgid"], frame["slots"], frame[field], strict=True)
    found = _starts(pid for pid, slots, value in rows if slots > 0 and value == number)
    if not found:
        msg = f"{text}: it has no members (any more); `pidwarden tree` shows those that have"
        raise PidwardenError(msg)
    return found


def _v2(value: str) -> tuple[int, int] | None:
    """What the kernel side knows a cgroup of the v2 hierarchy by; None if it is in another hierarchy only."""
    mounted = cgroup.mounts()
    if mounted.v2 is None:
        return None
    path = cgroup.relative(value, mounted).rstrip("/")
    if not path:
        return None  # the root: everybody, and in a hybrid layout everybody whom v1 has
    try:
        number = os.stat(mounted.v2.rstrip("/") + path).st_ino
    except OSError:
        return None
    return number, path.count("/")


# -- all of them, now --------------------------------------------------------------------------------------------------


def members(whom: Collection[Whom]) -> set[int]:
    """Process ids, without our own; also of those that the kernel side finds by itself."""
    found = by_kernel(whom)
    for target in whom:
        found.update(target.find())
    return found - {os.getpid()}


def by_kernel(whom: Collection[Whom]) -> set[int]:
    """Who is there now of those that the kernel side finds by itself: for what they sit in, and for their number."""
    found: set[int] = set()
    for target in whom:
        if target.uid is not None:
            found |= {pid for pid in _pids() if procfs.owner(pid) == target.uid}
        if target.cgroup is not None:
            match = source.matcher(parse_selector(target.text, _KINDS))
            found |= {pid for pid in _pids() if match(pid, -1, 0)}
    return found - {os.getpid()}


def threads(pids: Collection[int]) -> dict[int, int]:
    """Their threads: tid → pid. Who has ended has none."""
    return {tid: pid for pid in sorted(pids) for tid in evidence.threads(pid)}


def comm(pid: int) -> str:
    """A process's name, made harmless; ``?`` if it is gone."""
    name = procfs.read_bytes(f"{procfs.PROC}/{pid}/comm")
    return escape(name.rstrip(b"\n")) if name else "?"
