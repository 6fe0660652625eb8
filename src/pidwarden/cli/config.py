"""`pidwarden config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.settings import load, sample

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--check", metavar="F", help="check a file instead; exit 2 names the line that is wrong")


def run(args: argparse.Namespace) -> int:
    """Prints the sample, or checks a file."""
    if args.check:
        load(args.check)
        print(f"{args.check}: valid")
    else:
        print(sample())
    return 0
