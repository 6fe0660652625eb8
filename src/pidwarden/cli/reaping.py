"""What `pidwarden reap` does: looks for the causes, plans, climbs each parent's ladder, and reports."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pidwarden.act import reap
from pidwarden.cli import debtors, reaptext, source
from pidwarden.cli.asking import says_yes
from pidwarden.diagnose.zombies import diagnose
from pidwarden.errors import PidwardenError
from pidwarden.guard.scope import protection
from pidwarden.kernel import apart, cases, patience, procfs, zombies
from pidwarden.kernel.procfs import PROC
from pidwarden.rescue.sparing import Sparing
from pidwarden.rescue.table import parse as parse_stat
from pidwarden.settings import DEFAULT_CONFIG, load, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from pidwarden.act.inject import Injection
    from pidwarden.act.reap import Rung
    from pidwarden.kernel.evidence import Read
    from pidwarden.kernel.zombies import Table
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.zombie import Case
    from pidwarden.rescue.table import Proc
    from pidwarden.settings import Settings

_WITHOUT = "which zombies were adopted"
_HANGS = "pidwarden reap: process {} hangs in the midst; waiting to give it back: thaw it, and do not kill this program"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 no zombie is left of those meant, 1 some are.

    Raises:
        UsageError: a selector is malformed.
        PidwardenError: a selector names nobody, or the configuration cannot be read.
    """
    bounds = reap.Bounds(args.up_to, args.inject)
    settings = _settings(args.config)
    reader = patience.Reader()
    taken, guard = debtors.ask(args, _WITHOUT)
    seen: list[Table] = []
    pick = debtors.meant(args.selector, guard)

    def meant(table: Table) -> Sequence[int]:
        seen.append(table)
        return list(pick(table) if pick else table.groups)

    history = guard.history if guard else None
    look = source.past_the_stuck(args, partial(cases.look, reader, zombies.PAUSE, meant, history, PROC))
    owing = [case for case in look.cases if case.zombies]
    spared = _spared(owing, settings, seen[-1])
    parents = [reaptext.Owing(case, diagnose(case), spared.get(case.ppid, ""), bounds) for case in owing]
    asks = not (args.yes or (sys.stdin.isatty() and not args.json))
    goes_far = reap.STEPS.index(args.up_to) > reap.STEPS.index(reap.HARMLESS)
    only_plan = args.dry_run or (asks and goes_far)
    report = reaptext.Report(taken.heading(), parents, bounds, dry_run=only_plan, quiet=args.json)
    report.plan()
    if not only_plan:
        _climb(args, report, reap.Means(_injector(reader, owing), _agreement(args), protection(settings)))
    report.end()
    if only_plan and not args.dry_run and parents:
        print("pidwarden reap: nothing was done: there is no terminal to ask; type `--yes` as well", file=sys.stderr)
        return 1
    return 0 if only_plan or not report.left else 1


def _climb(args: argparse.Namespace, report: reaptext.Report, means: reap.Means) -> None:
    with _interruptible():
        for owing in report.parents:
            report.begin(owing)
            record = _record(owing.case)
            if record is None or owing.spared or not owing.keys:
                report.told(owing, None)
                continue
            try:
                report.told(owing, reap.Climb(record.record, owing.keys, owing.rungs, owing.bounds, means).run())
            except (KeyboardInterrupt, SystemExit):
                print(f"pidwarden {args.command}: interrupted; what was changed is as it was", file=sys.stderr)
                raise


@contextmanager
def _interruptible() -> Iterator[None]:
    """Signals that end us do it by an exception, so that what was changed is put back."""

    def end(number: int, _frame: object) -> NoReturn:
        for other in _ENDING:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _injector(read: Read, owing: Sequence[Case]) -> Callable[[ProcessKey, Sequence[ProcessKey]], Injection]:
    adopted = {c.parent.key: c.history.adopted if c.history else None for c in owing if c.parent}

    def through_ptrace(parent: ProcessKey, keys: Sequence[ProcessKey]) -> Injection:
        from pidwarden.act.inject import inject  # noqa: PLC0415  (only with --inject)

        pids = adopted.get(parent)
        known = None if pids is None else frozenset(k for k in keys if k.tgid in pids)
        over: list[bool] = []

        def work() -> Injection:
            return inject(parent, keys, read, known, is_over=lambda: bool(over))

        try:
            return apart.run(
                work, lambda: over.append(True), lambda: print(_HANGS.format(parent.tgid), file=sys.stderr)
            )
        except BlockingIOError:  # the table is full: here, then, and not to be interrupted
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                return work()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return through_ptrace


def _agreement(args: argparse.Namespace) -> Callable[[Rung, int], bool]:
    def agreed(rung: Rung, left: int) -> bool:
        if args.yes:
            return True
        if args.json or not sys.stdin.isatty():
            return False
        print(f"  {left} left. Next: {rung.do}\n  risk: {rung.risk}")
        return says_yes("  do it?")

    return agreed


# -- who is spared -----------------------------------------------------------------------------------------------------


def _settings(path: str) -> Settings:
    """Whom the configuration spares; where there is none, the defaults."""
    try:
        return load(path)
    except PidwardenError:
        if path != DEFAULT_CONFIG or os.path.exists(path):
            raise
        return parse("", path)


def _spared(owing: Sequence[Case], settings: Settings, table: Table) -> dict[int, str]:
    """By parent why it is not touched, of those that are not."""
    everybody = [p for pid, data in table.living.items() if (p := _proc(pid, data))]
    sparing = Sparing(settings, protection(settings))
    why = {key.tgid: text for key, text in sparing.why(everybody).items()}
    kernel = {p.pid: "a thread of the kernel" for p in everybody if p.kernel}
    return {c.ppid: text for c in owing if (text := why.get(c.ppid) or kernel.get(c.ppid))}


def _record(case: Case) -> Proc | None:
    """The parent for those who act, if it is still the one that was looked at."""
    if case.parent is None or procfs.stat_of(case.parent.key) is None:
        return None
    return _proc(case.ppid, procfs.read_bytes(f"{procfs.PROC}/{case.ppid}/stat") or b"")


def _proc(pid: int, data: bytes) -> Proc | None:
    try:
        one = parse_stat(pid, data, procfs.owner(pid))
    except (ValueError, IndexError):
        return None
    if not one.kernel:
        with suppress(OSError):
            return one._replace(exe=os.readlink(f"{procfs.PROC}/{pid}/exe"))
    return one
