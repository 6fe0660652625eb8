"""`pidwarden zombies`: who owes a wait, why he does not wait, and what helps."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from pidwarden.cli import debtors, options, source
from pidwarden.diagnose import account
from pidwarden.diagnose.account import GUARD, LOOKS, Account
from pidwarden.diagnose.words import count
from pidwarden.diagnose.zombies import diagnose
from pidwarden.kernel import cases, patience, procfs, slab, zombies
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.procfs import PROC

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from pidwarden.kernel.slab import Cost
    from pidwarden.model.zombie import Case

_WITHOUT = "ages, and what was forked before exec"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="*", metavar="SELECTOR",
        help="pid:N, user:NAME, cgroup:PATH, container:ID, nspid:N or family:N: parents that are meant, and parents "
        "of zombies that are; each is shown with all of its zombies",
    )  # fmt: skip
    options.watch(parser)
    source.arguments(parser)


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


def run(args: argparse.Namespace) -> int:
    """Tells; with ``--watch`` again and again.

    Raises:
        UsageError: a selector or a number is malformed.
        PidwardenError: a selector names nobody.
    """
    pause = zombies.PAUSE if args.watch is None else args.watch
    if args.watch is None:
        gc.disable()  # it ends soon, and to go through twenty thousand of them again and again takes a while
    reader, rounds = patience.Reader(), _Rounds(several=args.watch is not None)
    while True:
        taken, guard = debtors.ask(args, _WITHOUT)
        meant, history = debtors.meant(args.selector, guard), guard.history if guard else None
        look = source.past_the_stuck(args, partial(cases.look, reader, pause, meant, history, PROC))
        accounts, cost = rounds.accounts(look), slab.cost()
        if args.json:
            import json  # noqa: PLC0415

            sys.stdout.write(json.dumps(_object(accounts, cost, look, taken)) + "\n")
        else:
            sys.stdout.write(_text(accounts, cost, look) + ("\n" if args.watch else ""))
        sys.stdout.flush()
        if args.watch is None:
            return 0
