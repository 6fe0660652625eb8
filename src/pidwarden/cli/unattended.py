"""`pidwarden rescue --auto`: finds them, asks, kills them, tells. Read in when the priority is raised already."""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import TYPE_CHECKING

from pidwarden.cli.asking import agreed
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.model.paths import CONFIG
from pidwarden.rescue.strength import strengthen
from pidwarden.rescue.table import First

if TYPE_CHECKING:
    import argparse

    from pidwarden.rescue.sparing import Sparing
    from pidwarden.rescue.suspects import Suspect


def spared(config: str) -> tuple[Sparing, list[str]]:
    """Whom a rescue spares; a configuration that cannot be read is a remark, not a reason to refuse."""
    from pidwarden.rescue.sparing import DEFAULTS, Sparing  # noqa: PLC0415  (after the first look)

    if config == CONFIG and not os.path.exists(config):
        return Sparing(DEFAULTS), []
    from pidwarden.guard.scope import protection  # noqa: PLC0415  (as cli/where.py: most machines have no such file)
    from pidwarden.settings import load  # noqa: PLC0415

    try:
        settings = load(config)
        return Sparing(settings, protection(settings)), []
    except PidwardenError as why:
        return Sparing(DEFAULTS), [f"{why}; going on with the defaults"]


def _say(text: str) -> None:
    print(text, flush=True)


def _quiet(_text: str) -> None:
    pass


def auto(args: argparse.Namespace) -> int:
    """Exit codes: 0 nobody of it is left, or nothing was to be done; 1 something is left, or nothing is certain."""
    if args.json and not (args.yes or args.dry_run):
        msg = "a program cannot be asked: type `--yes` or `--dry-run` as well"
        raise UsageError(msg)
    say = _quiet if args.json else _say
    strengthen()
    gc.disable()  # over within seconds; thousands of processes as objects would be looked through again and again
    first = First()
    # Only now, as a moment has to pass anyway: beside a bomb it takes as long as a look.
    from pidwarden.rescue.auto import Report, describe, host_name, plan, rescue, ticket  # noqa: PLC0415
    from pidwarden.rescue.desk import Desk  # noqa: PLC0415

    sparing, remarks = spared(args.config)
    for remark in remarks:
        print(f"pidwarden rescue: {remark}", file=sys.stderr)
    desk = Desk(sparing, first)
    room, suspects = desk.room(), desk.look()
    for line in describe(room, suspects):
        say(line)
    chosen = _chosen(args, suspects)
    for line in plan(chosen, gate=args.gate):
        say(f"{'would' if args.dry_run else 'plan'}: {line}")
    if chosen and not (args.dry_run or args.yes or agreed("freeze and kill them?")):
        say("nothing was done")
        return 1
    outcomes = () if args.dry_run else tuple(rescue(desk, s, say, gate=args.gate) for s in chosen)
    report = Report(room, tuple(suspects), outcomes, desk.room() if outcomes else None)
    if args.json:
        import json  # noqa: PLC0415

        print(json.dumps(report.as_dict(), indent=2))
    elif outcomes:
        for line in ticket(report, host_name(), time.strftime("%Y-%m-%d %H:%M:%S")):
            say(line)
    if args.dry_run:
        return 0
    return 0 if all(o.gone for o in outcomes) and (chosen or not suspects) else 1


def _chosen(args: argparse.Namespace, suspects: list[Suspect]) -> list[Suspect]:
    if args.suspect is None:
        chosen = [s for s in suspects if s.sure]
        if suspects and not chosen and not args.json:
            _say("none of them is certain to be a bomb; choose one with `--suspect N`, or look closer at the console")
        return chosen
    if not 1 <= args.suspect <= len(suspects):
        msg = f"there is no suspect {args.suspect}; `pidwarden rescue --auto --dry-run` lists them"
        raise UsageError(msg)
    return [suspects[args.suspect - 1]]
