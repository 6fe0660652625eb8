"""Which parents a command about zombies means, and what the guard's history says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.cli import source
from pidwarden.errors import PidwardenError
from pidwarden.kernel import procfs
from pidwarden.model.selector import ASKABLE, SelectorKind, parse_selector
from pidwarden.model.zombie import History

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping

    from pidwarden.kernel.zombies import Table
    from pidwarden.model.record import Record
    from pidwarden.model.zombie import Zombie


class Guard:
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


def ask(args: argparse.Namespace, without: str) -> tuple[source.Source, Guard | None]:
    """What the guard knows, None without one; what falls short is said, as :func:`pidwarden.cli.source.take` does."""
    taken = source.take(args, without, as_asked="")
    if taken.answer is None:
        return taken, None
    from pidwarden.kernel.parse import parse_records  # noqa: PLC0415  (only with a guard)

    return taken, Guard(parse_records(taken.data))


def meant(texts: Iterable[str], guard: Guard | None) -> Callable[[Table], Iterable[int]] | None:
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


def _test(text: str, guard: Guard | None) -> Callable[[Table, int], bool]:
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
