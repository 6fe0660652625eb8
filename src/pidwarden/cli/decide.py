"""`pidwarden release FAMILY` and `pidwarden kill FAMILY`: a person's decision about what is held."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pidwarden.cli.where import no_guard, run_dir
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.guard.control import ask
from pidwarden.settings import DEFAULT_RUN_DIR

if TYPE_CHECKING:
    import argparse

_LARGEST = 2**64 - 1  # families are numbered in 64 bits


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("family", metavar="FAMILY", help="its number, as `pidwarden status` shows it")
    parser.add_argument("--run-dir", metavar="DIR", help=f"where the guard's socket lies (default: {DEFAULT_RUN_DIR})")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def family_number(text: str) -> int:
    """The number of a family.

    Raises UsageError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= _LARGEST):
        msg = f"{text!r} is not the number of a family; `pidwarden status` lists them"
        raise UsageError(msg)
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Tells the guard and prints what it did.

    Raises PidwardenError: no guard is running, or it refused: the family is not held, say.
    """
    family = family_number(args.family)
    directory = run_dir(args.run_dir)
    answer = ask(directory, args.command, str(family))
    if answer is None:
        raise PidwardenError(no_guard(directory))
    print(json.dumps(answer) if args.json else answer["done"])
    return 0
