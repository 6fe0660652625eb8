"""`pidwarden conntrack resize`: another size of connection tracking, planned, in order, and with a way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.cli import options

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--max", type=int, metavar="N", help="entries, in each network namespace")
    parser.add_argument("--buckets", type=int, metavar="N", help="hash buckets (default: as many as max, at least)")
    options.changes(parser, inner=True)  # `conntrack` itself has --json
    parser.set_defaults(root="/", state_dir=None)


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 done, or so already, or a rehearsal; 1 refused."""
    from pidwarden.cli import resizing  # noqa: PLC0415  (not for --help)

    args.json = getattr(args, "json", False)
    return resizing.run(args)
