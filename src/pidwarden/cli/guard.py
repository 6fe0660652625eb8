"""`pidwarden guard`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.errors import NoPermission
from pidwarden.guard.detach import detach
from pidwarden.guard.loop import Guard
from pidwarden.guard.report import Reporter
from pidwarden.guard.scope import Scope
from pidwarden.model.selector import parse_selector
from pidwarden.settings import DEFAULT_CONFIG, Settings, load, replace

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--config", metavar="F", help=f"configuration file (default: {DEFAULT_CONFIG}, if it is there)")
    parser.add_argument(
        "--mode", choices=["observe", "hold", "kill"], help="what to do about a runaway (default: kill)"
    )
    parser.add_argument("--grace", type=float, metavar="SECONDS", help="wait so long between verdict and kill")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SELECTOR",
        help="act only on families that children of pid:N found, or on user:NAME or cgroup:PATH; may be repeated",
    )
    parser.add_argument("--hold-at", type=int, metavar="N", help="slots at which a branch is held (default: 300)")
    parser.add_argument("--run-dir", metavar="DIR", help="where its socket lies (default: /run/pidwarden)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    parser.add_argument(
        "--detach", action="store_true", help="release and remove all that a killed guard left behind, and exit"
    )


def run(args: argparse.Namespace) -> int:
    """Guards until SIGTERM."""
    given = {
        name: getattr(args, name) for name in ("mode", "grace", "hold_at", "run_dir") if getattr(args, name) is not None
    }
    config = args.config or (DEFAULT_CONFIG if os.path.exists(DEFAULT_CONFIG) else None)
    settings = replace(load(config) if config else Settings(), **given)
    selectors = [parse_selector(text) for text in args.only]
    report = Reporter(as_json=args.json)
    if os.geteuid() != 0:
        msg = "the guard loads BPF programs and signals other users' processes; type `sudo pidwarden guard …`"
        raise NoPermission(msg)
    if args.detach:
        return detach(settings, report)
    return Guard(settings, Scope(selectors), report, config=config, overrides=given).run()
