"""`pidwarden limits`: what can be raised, what it is now and who sets it; changing one, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.cli import options

if TYPE_CHECKING:
    import argparse

_NAMES = "see `pidwarden limits` for the names; also nproc:PID, nofile:PID and pids.max:/PATH/OF/CGROUP"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--pid", type=int, metavar="N", help="whose own limits are listed as well (default: the shell)")
    options.root(parser, "where files of settings are read (default: /)")
    options.record(parser)
    words = parser.add_subparsers(dest="action", metavar="set|undo", title="or")
    put = words.add_parser("set", help="change one", description="Changes a limit; the way back is written down first.")
    put.add_argument("name", metavar="NAME", help=_NAMES)
    put.add_argument("value", metavar="VALUE", help="a number; A,B,C for gc_thresh; LOW-HIGH for ports; SOFT:HARD")
    options.changes(put, inner=True)
    undo = words.add_parser("undo", help="take the last change back", description="Takes a change of a limit back.")
    options.undo(undo, inner=True)


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 done, 1 refused, or not as it was left."""
    if args.action == "undo":
        from pidwarden.cli import undoing  # noqa: PLC0415

        return undoing.run(args, "limits ")
    from pidwarden.cli import limiting  # noqa: PLC0415

    return limiting.put(args) if args.action == "set" else limiting.show(args)
