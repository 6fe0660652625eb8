"""`pidwarden zombies`: who owes a wait, why he does not wait, and what helps."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from pidwarden.cli import source
from pidwarden.diagnose import account
from pidwarden.diagnose.account import GUARD, LOOKS, Account
from pidwarden.diagnose.words import count
from pidwarden.diagnose.zombies import diagnose
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel import cases, patience, procfs, slab, zombies
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.selector import ASKABLE, SelectorKind, parse_selector
from pidwarden.model.zombie import History

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping

    from pidwarden.kernel.slab import Cost
    from pidwarden.kernel.zombies import Table
    from pidwarden.model.record import Record
    from pidwarden.model.zombie import Case, Zombie

_WITHOUT = "ages, and what was forked before exec"
_WATCH = 2.0
_MOST_SECONDS = 86_400.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="*", metavar="SELECTOR",
        help="pid:N, user:NAME, cgroup:PATH, container:ID, nspid:N or family:N: parents that are meant, and parents "
        "of zombies that are; each is shown with all of its zombies",
    )  # fmt: skip
    parser.add_argument(
        "--watch", nargs="?", type=float, const=_WATCH, metavar="SECONDS",
        help=f"look again every so many seconds (default: {_WATCH:.0f}) until interrupted; ages are since the first",
    )  # fmt: skip
    source.arguments(parser)


class _Guard:
    """What the guard's history says of parents and zombies."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by_pid: Mapping[int, Record] = {r.key.tgid: r for r in records if r.slots > 0}

    def family(self, pid: int) -> int:
        """0 if it is not known."""
        return self.by_pid[pid].family if pid in self.by_pid else 0

    def history(self, ppid: int, found: Iterable[Zombie]) -> History | None:
        """Of one parent; None if it is not known."""
        from pidwarden.model.record import ProcFlag  # noqa: PLC0415

        parent = self.by_pid.get(ppid)
        if parent is None:
            return None
        known = [r for z in found if (r := self.by_pid.get(z.pid)) and r.key.start_ticks == z.key.start_ticks]
        sure = [r for r in known if not r.flags & ProcFlag.GUESSED]
        return History(
            parent.exec_ns,
            {r.key.tgid: r.key.start_ns for r in known},
            {r.key.tgid: r.exit_ns for r in known if r.exit_ns},
            frozenset(r.key.tgid for r in sure if r.parent == parent.key),
            frozenset(r.key.tgid for r in sure if r.parent != parent.key),
        )


def _guard(args: argparse.Namespace) -> tuple[source.Source, _Guard | None]:
    taken = source.take(args, _WITHOUT, as_asked="")
    if taken.answer is None:
        return taken, None
    from pidwarden.kernel.parse import parse_records  # noqa: PLC0415  (only with a guard)

    return taken, _Guard(parse_records(taken.data))


# -- who is meant ------------------------------------------------------------------------------------------------------


def _meant(texts: Iterable[str], guard: _Guard | None) -> Callable[[Table], Iterable[int]] | None:
    """Which parents the selectors pick; None for all.

    Raises:
        UsageError: a selector is malformed, or names no user.
        PidwardenError: a family is asked for without a guard, or there is no such cgroup.
    """
    tests = [_test(text, guard) for text in texts]
    if not tests:
        return None

    def pick(table: Table) -> list[int]:
        return [
            ppid
            for ppid, group in table.groups.items()
            if any(test(table, ppid) or any(test(table, z.pid) for z in group.rows) for test in tests)
        ]

    return pick


def _test(text: str, guard: _Guard | None) -> Callable[[Table, int], bool]:
    if text.startswith("pid:"):
        wanted, _start = source.parse_pid(text)
        if not procfs.exists(wanted):
            msg = f"{text}: there is no such process; `pidwarden ps` lists all that are"
            raise PidwardenError(msg)
        return lambda _table, pid: pid == wanted
    selector = parse_selector(text, ASKABLE)
    match = source.matcher(selector)
    if selector.kind is SelectorKind.FAMILY:
        if guard is None:
            msg = f"{text}: families are known only while a guard runs; type `sudo pidwarden guard`"
            raise PidwardenError(msg)
        return lambda _table, pid: match(pid, 0, guard.family(pid))
    if selector.kind is SelectorKind.USER:
        return lambda _table, pid: match(pid, procfs.owner(pid), 0)
    return lambda _table, pid: match(pid, 0, 0)


# -- one round ---------------------------------------------------------------------------------------------------------


class _Rounds:
    """Looks, and remembers when each zombie was seen first, if there is more than one round."""

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._seen: dict[int, tuple[bytes, int]] = {}  # pid: its stat then, ns since boot

    def accounts(self, look: cases.Look) -> list[Account]:
        """All parents, who owes most first."""
        now = boot_ns()
        before, self._seen = self._seen, {}
        return [self._account(case, look, now, before) for case in look.cases]

    def _account(self, case: Case, look: cases.Look, now: int, before: Mapping[int, tuple[bytes, int]]) -> Account:
        oldest = self._oldest(case, now, before) if self._several else case.watched_ns
        ended = case.history.exit_ns.values() if case.history else ()
        exact = max((now - ns for ns in ended), default=0)
        age = (exact, GUARD) if exact >= oldest and exact else (oldest, LOOKS)
        parent = case.parent
        user = source.user_name(parent.status.uid) if parent else ""
        codes = os.geteuid() == 0 or all(procfs.owner(z.pid) == os.geteuid() for z in zombies.sample(case.zombies))
        watched = max(case.watched_ns / 1e9, look.seconds)
        return Account(case, diagnose(case), look.fresh.get(case.ppid, 0), watched, *age, user, codes)

    def _oldest(self, case: Case, now: int, before: Mapping[int, tuple[bytes, int]]) -> int:
        """The age in ns of the one that has been seen for longest."""
        since = now - case.watched_ns
        for zombie in case.zombies:
            known = before.get(zombie.pid)
            self._seen[zombie.pid] = known if known and known[0] == zombie.stat else (zombie.stat, since)
        return max((now - self._seen[z.pid][1] for z in case.zombies), default=0)


def _object(accounts: list[Account], cost: Cost, look: cases.Look, taken: source.Source) -> dict[str, Any]:
    return {
        **taken.heading(),
        "seconds": round(look.seconds, 3),
        "zombies": sum(a.owed for a in accounts),
        "bytes_each": cost.each,
        "bytes_from": list(cost.counted),
        "bytes_unknown": cost.why or None,
        "parents": [a.object(cost.each) for a in accounts],
    }


def _text(accounts: list[Account], cost: Cost, look: cases.Look) -> str:
    owing = [a for a in accounts if a.owed]
    how = f"two looks, {look.seconds:.1f} s apart"
    transient = account.transients(accounts)
    if not owing:
        return "\n".join([f"no zombies ({how})", *transient]) + "\n"
    total = sum(a.owed for a in owing)
    size = f"{cost.each} bytes of kernel memory each, by /proc/slabinfo" if cost.each else f"memory unknown: {cost.why}"
    heading = f"{count(total, 'zombie')} of {count(len(owing), 'parent')} ({how}; {size})"
    blocks = ["\n".join(a.lines(cost.each)) for a in owing]
    return "\n\n".join([heading, *blocks, *(["\n".join(transient)] if transient else [])]) + "\n"


def _watch_seconds(given: float | None) -> float:
    if given is None:
        return zombies.PAUSE
    if not 0 < given <= _MOST_SECONDS:
        msg = f"--watch {given:g}: type seconds above 0, at most {_MOST_SECONDS:.0f}"
        raise UsageError(msg)
    return given


def run(args: argparse.Namespace) -> int:
    """Tells; with ``--watch`` again and again.

    Raises:
        UsageError: a selector or a number is malformed.
        PidwardenError: a selector names nobody.
    """
    pause = _watch_seconds(args.watch)
    if args.watch is None:
        gc.disable()  # it ends soon, and to go through twenty thousand of them again and again takes a while
    reader, rounds = patience.Reader(), _Rounds(several=args.watch is not None)
    while True:
        taken, guard = _guard(args)
        look = cases.look(reader, pause, _meant(args.selector, guard), guard.history if guard else None)
        accounts, cost = rounds.accounts(look), slab.cost()
        if args.json:
            import json  # noqa: PLC0415

            sys.stdout.write(json.dumps(_object(accounts, cost, look, taken)) + "\n")
        else:
            sys.stdout.write(_text(accounts, cost, look) + ("\n" if args.watch else ""))
        sys.stdout.flush()
        if args.watch is None:
            return 0
