"""`pidwarden trace`: what processes are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.errors import UsageError

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--why", metavar="PID[,PID]",
        help="the chain of waiting: what a process or thread sleeps in, who could let it go on, what that one waits "
        "for, and so on",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Tells.

    Raises:
        UsageError: nobody is named.
    """
    if args.why is None:
        msg = "nobody is named; type `pidwarden trace --why PID`"
        raise UsageError(msg)
    from pidwarden.cli import trace_why  # noqa: PLC0415  (of this option only)

    return trace_why.run(args)
