"""`pidwarden orphans --kill`: the plan, the word, each checked again, SIGTERM, SIGKILL, and the proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.act.end import ask, still_running
from pidwarden.act.spare import Held, take, why_spared
from pidwarden.cli.asking import agreed
from pidwarden.diagnose.orphans import Verdict, below, who
from pidwarden.kernel.parse import parse_records
from pidwarden.kernel.procfs import has_ended
from pidwarden.model.record import ProcFlag
from pidwarden.rescue.hunt import Hunt

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pidwarden.cli.orphaned import Desk, Found, Row
    from pidwarden.guard.orphans import Search
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record
    from pidwarden.rescue.table import Proc

_SHOWN = 10
_RIGHTS = "it is not ours to signal; type `sudo pidwarden orphans --kill`"


class Fate(NamedTuple):
    """What became of one process; ``outcome`` is stable: ended, killed, left, spared, changed, gone."""

    proc: Proc
    outcome: str
    words: str

    @property
    def fine(self) -> bool:
        """Whether nothing of it is left that was to go."""
        return self.outcome in ("ended", "killed", "gone")


def end(desk: Desk, args: argparse.Namespace) -> int:
    """Exit codes: 0 all are gone, or there was nobody to end; 1 some are left, or nobody agreed."""
    found = desk.look()
    chosen = [row for row in found.rows if _may(desk, row.proc, row.orphan.verdict)]
    if not args.json:
        for line in _plan(desk, found, chosen, args):
            print(line)
    fates: list[Fate] = []
    go_on = bool(chosen) and not args.dry_run and (args.yes or agreed("end them?"))
    if go_on:
        fates = _Ending(desk, found, args.grace).end(chosen)
    if args.json:
        import json  # noqa: PLC0415

        planned = [row.proc.pid for row in chosen]
        outcomes = [_object(fate) for fate in fates]
        print(json.dumps({**desk.object(found), "plan": planned, "dry_run": args.dry_run, "outcomes": outcomes}))
    elif go_on:
        for line in _report(fates):
            print(line)
    elif chosen and not args.dry_run:
        print("nothing was done")
    if args.dry_run or not chosen:
        return 0
    return 0 if go_on and all(fate.fine for fate in fates) else 1


def _may(desk: Desk, proc: Proc, verdict: Verdict) -> bool:
    """Whether one of this verdict may be ended: what leaked; what is unsure if a person named it."""
    return verdict is Verdict.LEAKED or (verdict is Verdict.UNSURE and desk.named(proc))


def _plan(desk: Desk, found: Found, chosen: Sequence[Row], args: argparse.Namespace) -> list[str]:
    lines = list(desk.lines(found)) if not args.yes else []
    word = "would" if args.dry_run else "plan:"
    lines += [""] * bool(lines)
    for row in chosen:
        kids = f" and the {len(row.below)} below it" if row.below else ""
        lines.append(f"{word} end {who(row.proc)}{kids}: SIGTERM, after {args.grace:g} s SIGKILL")
    for row in found.rows:
        if row in chosen:
            continue
        why = (
            "it is meant to stay, as it seems"
            if row.orphan.verdict is Verdict.INTENDED
            else f"that is not certain; name it with pid:{row.proc.pid} to end it all the same"
        )
        lines.append(f"{word} leave {who(row.proc)}: {why}")
    return lines if chosen else [*lines, "nobody is to be ended: nothing that leaked was found"]


class _Ending:
    """One run over those who were chosen."""

    def __init__(self, desk: Desk, found: Found, grace: float) -> None:
        self._desk, self._grace = desk, grace
        self._records = parse_records(found.source.data) if found.source.answer else []
        self._fates: dict[ProcessKey, Fate] = {}
        self._held: list[Held] = []
        self._procs: dict[int, Proc] = {}  # by descriptor: a guard's key is finer than one of /proc

    def end(self, chosen: Sequence[Row]) -> list[Fate]:
        """Ends them and those below; what became of each."""
        roots = []
        try:
            for row in chosen:
                held = self._take(row.proc, row.record)
                if held:
                    roots.append((row, held))
            # From here on none of them can become another one. What they are now decides.
            search, spared, everybody = self._desk.again(self._records)
            under = below([row.proc for row, _held in roots], [p for p in everybody if not p.ended])
            by_pid = {p.pid: p for p in everybody}
            asked: list[Held] = []
            for row, held in roots:
                if reason := self._changed(row, held, search, spared):
                    self._fate(row.proc, *reason)
                    continue
                asked += self._ask(row.proc, held)
                for task in under[row.proc.pid]:
                    asked += self._ask_below(by_pid[task.pid], search.record(task), spared)
            late = still_running(asked, self._grace)
            self._kill([self._procs[held.fd] for held in late])
            for held in asked:
                proc = self._procs[held.fd]
                self._fates.setdefault(proc.key, Fate(proc, "ended", "SIGTERM"))
        finally:
            for held in self._held:
                held.close()
        return list(self._fates.values())

    def _take(self, proc: Proc, record: Record | None) -> Held | None:
        """The process by a pidfd. What the guard has of it says whether it is spared; its scope is not ours."""
        known = record._replace(flags=record.flags & ~ProcFlag.OUTSIDE) if record else proc.record
        held = take(known)
        if held is None:
            self._fate(proc, "gone", "it ended by itself")
            return None
        self._held.append(held)
        self._procs[held.fd] = proc
        return held

    def _changed(self, row: Row, held: Held, search: Search, spared: dict[ProcessKey, str]) -> tuple[str, str] | None:
        """Why it is not to be ended after all, as of this moment."""
        proc = row.proc
        if reason := spared.get(proc.key) or why_spared(held, self._desk.sparing.protection):
            return "spared", reason
        task = search.table.get(proc.pid)
        if task is None or task.key != proc.key:
            return "gone", "it ended by itself"
        if proc.pid not in search.lost():
            return "changed", "it is no orphan any more"
        now = search.look(task)
        if now is None:
            return "changed", "it ended, or it is where it belongs"
        if not _may(self._desk, proc, now.verdict):
            return "changed", f"it is {now.verdict} now"
        return None

    def _ask_below(self, proc: Proc, record: Record | None, spared: dict[ProcessKey, str]) -> list[Held]:
        """SIGTERM to one below an orphan, unless it is spared."""
        held = self._take(proc, record)
        if held is None:
            return []
        if reason := spared.get(proc.key) or why_spared(held, self._desk.sparing.protection):
            self._fate(proc, "spared", reason)
            return []
        return self._ask(proc, held)

    def _ask(self, proc: Proc, held: Held) -> list[Held]:
        if ask(held):
            return [held]
        if has_ended(proc.key):
            self._fate(proc, "gone", "it ended by itself")
        else:
            self._fate(proc, "left", _RIGHTS)
        return []

    def _kill(self, late: list[Proc]) -> None:
        """SIGKILL to those that did not end, and to whoever descends from them by now."""
        if not late:
            return
        hunt = Hunt(self._desk.table, late, self._desk.sparing)
        hunt.freeze()
        left = {p.key: p for p in hunt.kill().left}
        for proc in [*late, *(p for key, p in hunt.members.items() if key not in {one.key for one in late})]:
            if proc.key in hunt.denied:
                self._fate(proc, "left", _RIGHTS)
            elif proc.key in left and not has_ended(proc.key):
                words = f"SIGKILL is pending, but it is in state {left[proc.key].state}; `pidwarden stuck` says why"
                self._fate(proc, "left", words)
            else:
                self._fate(proc, "killed", "SIGKILL")

    def _fate(self, proc: Proc, outcome: str, words: str) -> None:
        self._fates[proc.key] = Fate(proc, outcome, words)


def _report(fates: Sequence[Fate]) -> list[str]:
    lines = []
    for outcome, text in (("ended", "ended on SIGTERM"), ("killed", "killed by SIGKILL"), ("gone", "gone before")):
        some = [fate.proc for fate in fates if fate.outcome == outcome]
        if some:
            names = ", ".join(who(p) for p in some[:_SHOWN]) + ", …" * (len(some) > _SHOWN)
            lines.append(f"{len(some)} {text}: {names}")
    lines += [f"left {who(f.proc)}: {f.words}" for f in fates if not f.fine]
    left = sum(not fate.fine for fate in fates)
    return [*lines, f"{left} of {len(fates)} are left" if left else "nobody of them is left"]


def _object(fate: Fate) -> dict[str, Any]:
    return {"pid": fate.proc.pid, "start_ns": fate.proc.key.start_ns, "outcome": fate.outcome, "words": fate.words}
