"""The looks that `pidwarden tables` takes, and what it says of them."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pidwarden.act.places import failed
from pidwarden.cli import tables_text
from pidwarden.diagnose import tables
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel import netns
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.tables import look
from pidwarden.model import paths
from pidwarden.model.gauge import Scope, Table, Thresholds
from pidwarden.model.text import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pidwarden.diagnose.tables import Finding
    from pidwarden.kernel.netns import Namespace
    from pidwarden.model.gauge import Gauge

_BETWEEN_SECONDS = 0.25  # the two looks: long enough to see a table fill that is full soon
_NET = "net"
_OF_NET = frozenset({
    Table.NEIGHBOURS4, Table.NEIGHBOURS6, Table.TCP_PORTS, Table.UDP_PORTS, Table.TIME_WAIT, Table.CONNTRACK,
})  # fmt: skip
_PORTS = frozenset({Table.TCP_PORTS, Table.UDP_PORTS})
# Those that can be told of without a look at every process.
_ALONE = _OF_NET | {Table.KEYS, Table.KEY_BYTES, Table.AIO, Table.CGROUP_PIDS}
_WORTH = 0.25  # of the ports, from where on it matters who has them


def _wanted(args: argparse.Namespace) -> frozenset[Table]:
    found: set[Table] = set()
    for name in args.tables:
        if name == _NET:
            found |= _OF_NET
            continue
        try:
            found.add(Table(name))
        except ValueError:
            msg = f"there is no table {name!r}; type {_NET} or some of {', '.join(Table)}"
            raise UsageError(msg) from None
    if args.netns:
        if found - _OF_NET:
            msg = f"--netns: {', '.join(sorted(found - _OF_NET))} is not of a network namespace; leave one of both out"
            raise UsageError(msg)
        return frozenset(found or _OF_NET)
    return frozenset(found or Table)


def _thresholds(args: argparse.Namespace) -> Thresholds:
    """Those of the configuration, if there is one that is valid; else the defaults."""
    found = Thresholds()
    path = args.config or paths.CONFIG
    if args.config or os.path.exists(path):
        from pidwarden.settings import load  # noqa: PLC0415  (20 ms, and most machines have no such file)

        try:
            found = load(path).tables.thresholds
        except PidwardenError as why:
            if args.config:
                raise
            print(f"pidwarden {args.command}: the default thresholds are used: {why}", file=sys.stderr)
    if args.over is None:
        return found
    return found._replace(over=args.over, near=min(args.over, found.near), tables={})


class _Looks:
    """One look after the other."""

    def __init__(self, args: argparse.Namespace, wanted: frozenset[Table], there: Namespace | None) -> None:
        self._args, self._wanted, self._there = args, wanted, there
        self._before: tuple[float, list[Gauge]] = (0.0, [])

    def first(self) -> None:
        """What the kernel counts, to see later what grows."""
        found = look.network() if self._args.netns else look.counters()
        self._before = time.monotonic(), self._chosen(found)

    def second(self, thresholds: Thresholds) -> list[Finding]:
        """All of it, not too soon after the last one."""
        people = look.People(self._args.patience) if self._wanted - _ALONE else None
        then, before = self._before
        time.sleep(max(0.0, then + _BETWEEN_SECONDS - time.monotonic()))
        now = time.monotonic()
        found = look.network(people.holders if people else {}) if self._wanted & _OF_NET else []
        if people is None and any((g.share or 0) >= _WORTH for g in found if g.table in _PORTS):
            found = look.network(look.People(self._args.patience).holders)  # it takes longest, and here it matters
        if self._wanted - _OF_NET:
            found += people.tables() if people else look.counters()
        found = self._chosen(found)
        self._before = now, found
        return tables.judged(found, thresholds, tables.trends(before, found, now - then))

    def _chosen(self, found: Sequence[Gauge]) -> list[Gauge]:
        """Those that are wanted, with the network namespace if it is not ours."""
        chosen = [g for g in found if g.table in self._wanted]
        if self._there is None:
            return chosen
        name = f"netns {escape(os.fsencode(self._args.netns))}"
        path = self._there.path
        return [g._replace(of=g.of or name, netns=path) if g.scope is Scope.NETNS else g for g in chosen]


def _object(
    findings: Sequence[Finding], shown: Sequence[tuple[Finding, int]], thresholds: Thresholds
) -> dict[str, Any]:
    return {
        "boot_ns": boot_ns(),
        "thresholds": thresholds._asdict() | {"tables": {str(t): s for t, s in thresholds.tables.items()}},
        "over": sum(f.state is tables.State.OVER for f in findings),
        "near": sum(f.state is tables.State.NEAR for f in findings),
        "tables": [f.object() | {"more": more} for f, more in shown],
    }


def _hidden() -> list[str]:
    """Why processes are missing without a word from the kernel: numbers and names are of those that /proc shows."""
    from pidwarden.cli.source import hidden_by  # noqa: PLC0415  (only for this)

    if os.geteuid() and (hidden := hidden_by()):
        return [f"/proc is mounted with {hidden}: processes of others are not counted; type `sudo pidwarden tables`"]
    return []


def run(args: argparse.Namespace) -> int:
    """Looks twice and says what was found; 1 if a table is over its threshold.

    Raises:
        UsageError: there is no such table.
        PidwardenError: there is no such network namespace.
        NoPermission: it is not ours to enter.
    """
    wanted, thresholds = _wanted(args), _thresholds(args)
    notes = _hidden() if wanted - _ALONE else []
    there = netns.find(args.netns, args.command) if args.netns else None
    if there:
        netns.enter(there, args.command)
    looks = _Looks(args, wanted, there)
    try:
        looks.first()
        while True:
            findings = looks.second(thresholds)
            shown = [(f, 0) for f in findings] if args.all else tables.fullest(findings)
            if args.json:
                import json  # noqa: PLC0415

                print(json.dumps(_object(findings, shown, thresholds) | {"notes": notes}), flush=True)
            else:
                print("\n".join([*tables_text.lines(shown), *(f"note: {note}" for note in notes)]), flush=True)
            if args.watch is None:
                return int(any(f.state is tables.State.OVER for f in findings))
            time.sleep(args.watch)
            if not args.json:
                print(f"\n{time.strftime('%H:%M:%S')}")
    except OSError as why:
        if why.filename is None and why.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # of what was written
        raise failed(f"tried to read {why.filename or 'the tables'}", why, "type it again") from why
