"""What `pidwarden orphans` finds and how it shows it. Read in when the arguments are known to be good."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.act.spare import UNPROTECTED
from pidwarden.cli import source
from pidwarden.diagnose.orphans import Orphan, Verdict, below, who
from pidwarden.errors import PidwardenError
from pidwarden.guard.orphans import Search
from pidwarden.guard.scope import protection
from pidwarden.kernel import farend
from pidwarden.kernel.logind import Logind
from pidwarden.kernel.parse import parse_records
from pidwarden.kernel.patience import Reader
from pidwarden.kernel.procfs import owner, resident_bytes
from pidwarden.model import paths
from pidwarden.model.container import str_or_none
from pidwarden.model.moment import ending, span
from pidwarden.model.orphan import terminal_name
from pidwarden.model.selector import ASKABLE, SelectorKind, parse_selector
from pidwarden.model.text import escape
from pidwarden.rescue.sparing import Sparing
from pidwarden.rescue.table import Proc, Table
from pidwarden.settings import load, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from pidwarden.cli.source import Source
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record

_WITHOUT = "birth parents: who lost one is guessed, and when and how that one died is not known"
_SHOWN = 8  # of those below an orphan
_MEGABYTE = 1 << 20
_ORDER = {Verdict.LEAKED: 0, Verdict.UNSURE: 1, Verdict.INTENDED: 2}


class Row(NamedTuple):
    """An orphan, those below it, and what it is shown with."""

    orphan: Orphan
    proc: Proc
    below: list[Proc]
    record: Record | None
    group: str
    uid: int


class Found(NamedTuple):
    """One look: the orphans that were asked for, and how many daemons are not among them."""

    rows: list[Row]
    hidden: int
    search: Search
    source: Source
    spared: dict[ProcessKey, str]


class Desk:
    """Looks, as often as it is asked to."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._table = Table()
        self._ask = Reader(read=farend.asked)
        self._logind = Logind(source.user_name)
        self.sparing = self._make_sparing(args.config)
        self._pids, self._fits = _wanted(args.selector)
        self._looked = False

    def _make_sparing(self, config: str) -> Sparing:
        try:
            settings = load(config) if config != paths.CONFIG or os.path.exists(config) else parse("", config)
            return Sparing(settings, protection(settings))
        except PidwardenError as why:
            if self._args.kill:
                raise
            print(f"pidwarden orphans: {why}; going on with the defaults", file=sys.stderr)
        return Sparing(parse("", config), UNPROTECTED)

    # -- looking -------------------------------------------------------------------------------------------------------

    def look(self) -> Found:
        """Everybody who was asked for.

        Raises:
            PidwardenError: one that was named by its pid is no orphan.
        """
        taken = self._take()
        records = parse_records(taken.data) if taken.answer else []
        search, spared, everybody = self.again(records)
        procs = {p.pid: p for p in everybody if not p.ended}
        self._explain(search, spared)
        rows, hidden = [], 0
        lost = [p for pid in search.lost() if (p := procs.get(pid)) and p.key not in spared]
        under = below(lost, [p for p in everybody if not p.ended])
        oldest = _oldest(records)
        for proc in lost:
            record = search.record(proc)
            if not self._asked_for(proc, record):
                continue
            orphan = search.look(proc)
            if orphan is None:
                continue
            if orphan.verdict is Verdict.INTENDED and not self._args.all and proc.pid not in self._pids:
                hidden += 1
                continue
            kids = [procs[task.pid] for task in under[proc.pid]]
            rows.append(Row(orphan, proc, kids, record, _group(orphan, record, oldest), owner(proc.pid)))
        rows.sort(key=lambda r: (_ORDER[r.orphan.verdict], r.proc.start_ticks, r.proc.pid))
        return Found(rows, hidden, search, taken, spared)

    def _take(self) -> Source:
        """The guard's word. What falls short of it is said the first time only."""
        with contextlib.redirect_stderr(io.StringIO() if self._looked else sys.stderr):
            taken = source.take(self._args, _WITHOUT)
        self._looked = True
        families = [text for text in self._args.selector if text.startswith(f"{SelectorKind.FAMILY}:")]
        if families and taken.answer is None:
            msg = f"{families[0]}: families are known only while a guard runs; type `sudo pidwarden guard`"
            raise PidwardenError(msg)
        return taken

    def again(self, records: Sequence[Record]) -> tuple[Search, dict[ProcessKey, str], list[Proc]]:
        """The table, who is spared, and who is there: now, with the history of before."""
        everybody = self._table.read()
        if self.sparing.protection.uids:  # of who is not dumpable the table knows no user (proc(5))
            everybody = [p if p.uid or p.kernel else p._replace(uid=owner(p.pid)) for p in everybody]
        return (
            Search(everybody, records, self._logind, self._ask),
            self.sparing.why(everybody),
            everybody,
        )

    @property
    def table(self) -> Table:
        """The process table."""
        return self._table

    def named(self, proc: Proc) -> bool:
        """Whether a person named just this process."""
        return proc.pid in self._pids

    def _asked_for(self, proc: Proc, record: Record | None) -> bool:
        if not self._args.selector:
            return True
        family = record.family if record else 0
        return proc.pid in self._pids or any(fits(proc.pid, owner(proc.pid), family) for fits in self._fits)

    def _explain(self, search: Search, spared: dict[ProcessKey, str]) -> None:
        """Says why one that was named is not shown."""
        for pid, start in self._pids.items():
            task = search.table.get(pid)
            if task is None or (start not in (0, task.key.start_ns) and start // 10_000_000 != task.start_ticks):
                msg = f"pid:{pid}: no such process lives, or it is a kernel thread; `pidwarden ps` lists them"
                raise PidwardenError(msg)
            if task.key in spared:
                msg = f"pid:{pid}: {who(task)} is spared: {spared[task.key]}"
                raise PidwardenError(msg)
            if pid not in search.lost():
                parent = search.table.get(task.ppid)
                whose = f"its parent {who(parent)} lives" if parent else "its parent is not to be seen"
                sure = "" if search.record(task) else ", as far as can be told without a guard"
                msg = f"pid:{pid}: {who(task)} is no orphan{sure}: {whose}; `pidwarden history {pid}` tells more"
                raise PidwardenError(msg)

    # -- showing -------------------------------------------------------------------------------------------------------

    def object(self, found: Found) -> dict[str, Any]:
        """For programs: stable names."""
        count = {v.value: sum(r.orphan.verdict is v for r in found.rows) for v in Verdict}
        return {
            **found.source.heading(),
            "count": len(found.rows),
            **count,
            "intended_not_shown": found.hidden,
            "orphans": [_object(row, found) for row in found.rows],
        }

    def lines(self, found: Found) -> Iterator[str]:
        """For people."""
        count = [(v.value, sum(r.orphan.verdict is v for r in found.rows)) for v in Verdict]
        words = ", ".join(f"{n} {name}" for name, n in count if n)
        total = f"{len(found.rows)} orphan{'s' * (len(found.rows) != 1)}" + (f": {words}" if words else "")
        hidden = f"; {found.hidden} that seem meant to stay are not shown (--all)" if found.hidden else ""
        yield total + hidden
        groups: dict[str, list[Row]] = {}
        for row in found.rows:
            groups.setdefault(row.group, []).append(row)
        for title, rows in groups.items():
            yield ""
            yield title
            for row in rows:
                yield from _paragraph(row, found)
        if any(r.orphan.verdict is Verdict.LEAKED for r in found.rows) and not self._args.kill:
            yield ""
            yield "`pidwarden orphans --kill --dry-run` says what would be ended"


def _wanted(selectors: Sequence[str]) -> tuple[dict[int, int], list[Callable[[int, int, int], bool]]]:
    """The processes that are named, with the start that was given, and what the other selectors say."""
    pids: dict[int, int] = {}
    fits = []
    for text in selectors:
        if text.startswith("pid:"):
            pid, start = source.parse_pid(text)
            pids[pid] = start
            continue
        selector = parse_selector(text, ASKABLE)
        fits.append(source.matcher(selector))
    return pids, fits


def _oldest(records: Sequence[Record]) -> dict[int, Record]:
    """The oldest record that is known of each family: its founder, as a rule."""
    found: dict[int, Record] = {}
    for record in records:
        if record.family and (record.family not in found or record.key.start_ns < found[record.family].key.start_ns):
            found[record.family] = record
    return found


def _text(value: str) -> str:
    return escape(value.encode("utf-8", "surrogateescape"))


def _group(orphan: Orphan, record: Record | None, oldest: dict[int, Record]) -> str:
    """Where it belongs, the first that is known of: family, login session, unit, container, terminal."""
    traces = orphan.traces
    if record and record.family:
        first = oldest[record.family]
        name = f"{escape(first.comm) or '?'} ({first.key.tgid})"
        return f"family {record.family}, the oldest known of it {name}, {'alive' if first.alive else 'dead'}"
    if traces.login and traces.manager is None:
        state = {True: "open", False: "closed", None: "open or not"}[traces.login.open]
        user = "" if traces.login_uid is None else f", user {_text(source.user_name(traces.login_uid))}"
        return f"login session {_text(traces.login.name)} ({state}){user}"
    if traces.unit:
        whose = "" if traces.unit.user is None else f" of user {_text(source.user_name(traces.unit.user))}"
        return f"unit {_text(traces.unit.name)}{whose}"
    if traces.container:
        return f"container {traces.container}"
    if terminal := _terminal(orphan):
        return f"terminal {terminal}"
    return "no login session, unit or terminal"


def _terminal(orphan: Orphan) -> str:
    """The terminal that it has or that its input and output lead to."""
    if name := terminal_name(orphan.task.tty):
        return name
    return next((_text(s.link.removeprefix("/dev/")) for s in orphan.traces.stdio or () if s.terminal), "")


def _paragraph(row: Row, found: Found) -> Iterator[str]:
    orphan, p = row.orphan, row.proc
    words = [f"user {_text(source.user_name(row.uid))}", f"{span(found.source.now_ns - p.key.start_ns)} old"]
    words += [f"{resident_bytes(p.pid) / _MEGABYTE:.1f} MB"]
    if terminal := _terminal(orphan):
        words.append(f"on {terminal}")
    yield f"  {orphan.verdict:<8}  {who(p)}, {', '.join(words)}"
    yield f"      lost      {orphan.lost.words}" + _when(orphan, found)
    for name, side in (("leak", Verdict.LEAKED), ("daemon", Verdict.INTENDED)):
        for sign in orphan.signs:
            if sign.side is side:
                yield f"      {name:<8}  {sign.words}"
    yield from (f"      unknown   {words}" for words in orphan.unknown)
    if row.below:
        names = ", ".join(who(kid) for kid in row.below[:_SHOWN]) + ", …" * (len(row.below) > _SHOWN)
        yield f"      below it  {len(row.below)}: {names}"


def _when(orphan: Orphan, found: Found) -> str:
    at = orphan.lost.exit_ns
    return f", {found.source.clock().since(at)} ago" if at else ""


def _object(row: Row, found: Found) -> dict[str, Any]:
    orphan, p, traces = row.orphan, row.proc, row.orphan.traces
    lost, clock = orphan.lost, found.source.clock()
    parent = lost.parent
    return {
        "pid": p.pid,
        "start_ns": row.record.key.start_ns if row.record else p.key.start_ns,
        "comm": escape(p.comm),
        "uid": row.uid,
        "user": _text(source.user_name(row.uid)),
        "state": p.state,
        "ppid": p.ppid,
        "pgrp": p.pgrp,
        "session": p.session,
        "terminal": _terminal(orphan) or None,
        "exe": _text(p.exe) or None,
        "started": clock.rfc3339(p.key.start_ns),
        "resident_bytes": resident_bytes(p.pid),
        "verdict": orphan.verdict.value,
        "lost": {
            "how": lost.how.value,
            "words": lost.words,
            "parent": parent and {"pid": parent.tgid, "start_ns": parent.start_ns, "comm": escape(lost.comm) or None},
            "ended": clock.rfc3339(lost.exit_ns or 0),
            "exit_code": lost.exit_code,
            "ending": None if lost.exit_code is None else ending(lost.exit_code),
            "after_ns": lost.after_ns,
        },
        "signs": [{**s._asdict(), "side": s.side.value} for s in orphan.signs],
        "unknown": list(orphan.unknown),
        "group": row.group,
        "family": row.record.family or None if row.record else None,
        "login_uid": traces.login_uid,
        "login": traces.login and {"session": _text(traces.login.name), "open": traces.login.open},
        "unit": traces.unit and {**traces.unit._asdict(), "name": _text(traces.unit.name)},
        "container": str_or_none(traces.container),
        "stdio": None if traces.stdio is None else [{**s._asdict(), "link": _text(s.link)} for s in traces.stdio],
        "below": [kid.pid for kid in row.below],
    }
