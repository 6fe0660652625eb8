"""`pidwarden orphans`: what lost the parent that made it and is no daemon; and ending what leaked, by plan and word."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from pidwarden.cli import options, source
from pidwarden.errors import UsageError
from pidwarden.model import paths
from pidwarden.model.selector import ASKABLE, parse_selector

if TYPE_CHECKING:
    from pidwarden.cli.orphaned import Desk

_GRACE = 10.0  # seconds for a program to put its things in order; systemd gives 90, a person waits for this one


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="*", metavar="SELECTOR",
        help="pid:N, family:N, user:NAME, cgroup:PATH, container:ID or nspid:N; several mean any of these",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="also those that seem to be meant to stay: daemons")
    parser.add_argument(
        "--kill", action="store_true",
        help="end what leaked and what descends from it: says what it would do, asks, checks each again, SIGTERM, then "
        "SIGKILL. Who is unsure is ended only if named by pid:N, who is meant to stay never",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="with --kill: only say what would be done")
    parser.add_argument("--yes", action="store_true", help="with --kill: do not ask")
    parser.add_argument(
        "--grace", type=_seconds, default=_GRACE, metavar="S",
        help=f"with --kill: seconds between SIGTERM and SIGKILL (default: {_GRACE:g})",
    )  # fmt: skip
    options.watch(parser)
    parser.add_argument(
        "--config", metavar="FILE", default=paths.CONFIG, help=f"who is spared (default: {paths.CONFIG})"
    )
    source.arguments(parser)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 86_400:  # noqa: PLR2004  (a day)
        msg = f"{text!r} is no number of seconds from 0 to 86400"
        raise argparse.ArgumentTypeError(msg)
    return found


def _check(args: argparse.Namespace) -> None:
    for text in args.selector:
        if text.startswith("pid:"):
            source.parse_pid(text)
        else:
            parse_selector(text, ASKABLE)
    if args.watch is not None and args.kill:
        msg = "--watch only looks; leave it out to --kill"
        raise UsageError(msg)
    if (args.dry_run or args.yes) and not args.kill:
        msg = "--dry-run and --yes are about --kill; type `pidwarden orphans --kill --dry-run`"
        raise UsageError(msg)
    if args.kill and args.json and not (args.yes or args.dry_run):
        msg = "a program cannot be asked: type `--yes` or `--dry-run` as well"
        raise UsageError(msg)


def run(args: argparse.Namespace) -> int:
    """Lists, or ends. Exit codes: 0 listed, or all that was to be ended is gone; 1 something is left, or no word came.

    Raises:
        UsageError: the arguments do not go together.
        PidwardenError: pid:N is no orphan, or another selector names nobody that can be.
    """
    _check(args)
    from pidwarden.cli.orphaned import Desk  # noqa: PLC0415  (what --help does not need, it does not wait for)

    desk = Desk(args)
    if args.kill:
        from pidwarden.cli.orphanend import end  # noqa: PLC0415

        return end(desk, args)
    _show(desk, args)
    while args.watch is not None:
        sys.stdout.flush()
        time.sleep(args.watch)
        if not args.json:
            print(time.strftime("\n%Y-%m-%d %H:%M:%S"))
        _show(desk, args)
    return 0


def _show(desk: Desk, args: argparse.Namespace) -> None:
    found = desk.look()
    if args.json:
        import json  # noqa: PLC0415

        sys.stdout.write(json.dumps(desk.object(found)) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in desk.lines(found))
