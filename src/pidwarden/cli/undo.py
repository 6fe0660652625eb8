"""`pidwarden undo`: takes a change back that pidwarden made, and lists those that can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.cli import options

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    options.undo(parser)


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 done or listed, 1 there is nothing to undo, or it is not as it was left."""
    from pidwarden.cli import undoing  # noqa: PLC0415

    return undoing.run(args)
