"""`pidwarden tables`: how full the kernel's tables are, when they will be full, who fills them, and what helps."""

from __future__ import annotations

import argparse

from pidwarden.cli import options
from pidwarden.model.gauge import Table

_PATIENCE = 0.5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help=f"only these: {', '.join(Table)}; or net, all of the network"
    )
    parser.add_argument("--all", action="store_true", help="every user, cgroup and process, not only the fullest")
    parser.add_argument(
        "--over", type=_share, metavar="SHARE",
        help="the share that is too much, 0.9 or 90%% (default: that of the configuration)",
    )  # fmt: skip
    options.netns(parser)
    options.watch(parser)
    parser.add_argument(
        "--patience", type=options.seconds, default=_PATIENCE, metavar="S",
        help=f"seconds for the open files of all processes (default: {_PATIENCE:g}); what takes longer is said",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="another configuration file, for its thresholds")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.epilog = "exit code: 0 no table is over its threshold, 1 one is"


def _share(text: str) -> float:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        msg = f"{text!r} is no share; type it as 0.9 or 90%"
        raise argparse.ArgumentTypeError(msg)
    return value


def run(args: argparse.Namespace) -> int:
    """Looks twice and says what was found; 1 if a table is over its threshold.

    Raises:
        UsageError: there is no such table.
        PidwardenError: there is no such network namespace.
        NoPermission: it is not ours to enter.
    """
    from pidwarden.cli.tables_look import run as look  # noqa: PLC0415  (what `--help` does not need)

    return look(args)
