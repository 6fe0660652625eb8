"""`pidwarden guard`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.cli.where import user_run_dir
from pidwarden.errors import NoPermission, UsageError
from pidwarden.guard.detach import detach
from pidwarden.guard.loop import Guard
from pidwarden.guard.report import Reporter
from pidwarden.guard.scope import Scope
from pidwarden.model.selector import Selector, SelectorKind, parse_selector
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
        help="act only on families that children of pid:N found, or on user:NAME, cgroup:PATH or container:ID; "
        "may be repeated",
    )
    parser.add_argument("--hold-at", type=int, metavar="N", help="slots at which a branch is held (default: 300)")
    parser.add_argument(
        "--source",
        choices=["auto", "bpf", "connector", "poll"],
        help="how families are known (default: auto, the best that works here)",
    )
    parser.add_argument(
        "--user", action="store_true", help="guard one's own processes, as an ordinary user: no root, and no gate"
    )
    parser.add_argument(
        "--gate",
        choices=["auto", "lsm", "fmod_ret", "syscall"],
        help="where held forks are stopped (default: auto, the best that `pidwarden doctor` finds here)",
    )
    parser.add_argument("--run-dir", metavar="DIR", help="where its socket lies (default: /run/pidwarden)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    parser.add_argument(
        "--replace", action="store_true", help="take over from the guard that runs now; what it holds stays held"
    )
    parser.add_argument(
        "--detach", action="store_true", help="release and remove all that a killed guard left behind, and exit"
    )


def run(args: argparse.Namespace) -> int:
    """Guards until SIGTERM."""
    given = {
        name: getattr(args, name)
        for name in ("mode", "grace", "hold_at", "gate", "source", "run_dir")
        if getattr(args, name) is not None
    }
    default = DEFAULT_CONFIG if os.access(DEFAULT_CONFIG, os.R_OK) else None
    config = args.config or default
    if args.user:
        _check_user(args)
        given.setdefault("run_dir", user_run_dir())
    settings = replace(load(config) if config else Settings(), **given)
    selectors = [parse_selector(text) for text in args.only]
    report = Reporter(as_json=args.json)
    if args.user:
        own = [Selector(SelectorKind.USER, str(os.geteuid()))]
        return Guard(settings, Scope(selectors or own), report, config=config, overrides=given).run()
    if os.geteuid() != 0:
        msg = (
            "the guard loads BPF programs and signals other users' processes; type `sudo pidwarden guard …`, "
            "or `pidwarden guard --user` to guard your own processes without root"
        )
        raise NoPermission(msg)
    if args.detach:
        return detach(settings, report)
    return Guard(settings, Scope(selectors), report, config=config, overrides=given).run(replace=args.replace)


def _check_user(args: argparse.Namespace) -> None:
    if os.geteuid() == 0:
        msg = "--user guards an ordinary user's own processes, and you are root, who guards all; drop `--user`"
        raise UsageError(msg)
    if args.source == "bpf":
        msg = "--source bpf needs root; with --user families are known by `--source connector` or `poll`"
        raise UsageError(msg)
    if args.replace:
        msg = "--replace takes over what is pinned in the kernel; a guard with --user has nothing there: stop it"
        raise UsageError(msg)
    if args.detach:
        msg = "--detach removes what a guard of root's left in the kernel; a guard with --user leaves nothing there"
        raise UsageError(msg)
