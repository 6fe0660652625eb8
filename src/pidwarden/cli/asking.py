"""Asking a person before something is done that cannot be taken back."""

from __future__ import annotations

import sys

from pidwarden.errors import UsageError


def agreed(question: str, *, by_program: bool = False) -> bool:
    """Whether the person at the terminal types yes. `by_program`: with ``--json`` there is none.

    Raises:
        UsageError: there is no terminal to ask.
    """
    if by_program or not sys.stdin.isatty():
        msg = "nothing was done: there is no terminal to ask; type `--yes` to go on without, or `--dry-run` to look"
        raise UsageError(msg)
    return says_yes(question)


def says_yes(question: str) -> bool:
    """Whether what is typed next is yes."""
    try:
        return input(f"{question} type yes: ").strip() == "yes"
    except EOFError:
        return False
