"""Arguments that commands share. Apart from what those do: `--help` does not wait for it."""

from __future__ import annotations

import argparse
from typing import Any

from pidwarden.model import paths

_WATCH_SECONDS = 2.0
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 86_400.0

# -- looking -----------------------------------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """A pause or a patience that a person typed.

    Raises:
        ArgumentTypeError: it is none, or too short, or more than a day.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _LEAST_SECONDS <= value <= _MOST_SECONDS:
        msg = f"{text!r} is no number of seconds from {_LEAST_SECONDS:g} to {_MOST_SECONDS:.0f}"
        raise argparse.ArgumentTypeError(msg)
    return value


def watch(parser: argparse.ArgumentParser) -> None:
    """Declares looking again and again."""
    parser.add_argument(
        "--watch", nargs="?", type=seconds, const=_WATCH_SECONDS, metavar="S",
        help=f"look again every S seconds (default: {_WATCH_SECONDS:g}), until interrupted",
    )  # fmt: skip


def netns(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Declares the network namespace that is meant. `also`: what else may be typed."""
    parser.add_argument(
        "--netns", metavar="NS", help=f"of another network namespace: a pid, a name of `ip netns`, or a path{also}"
    )


# -- changing ----------------------------------------------------------------------------------------------------------


def _default(value: Any, *, inner: bool) -> Any:
    """That of an option which the command and a word of it both have: the word's must not undo what came before it."""
    return argparse.SUPPRESS if inner else value


def changes(parser: argparse.ArgumentParser, *, inner: bool = False) -> None:
    """Declares what goes with a change. `inner`: the command declares the root and the record's options as well."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done, to the letter")
    parser.add_argument("--persist", action="store_true", help="write the files that make it last over a reboot")
    parser.add_argument("--yes", action="store_true", help="do not ask before something is lowered")
    parser.add_argument("--below-use", action="store_true", help="set it below what is in use all the same")
    root(parser, "where files of settings are read and written (default: /)", inner=inner)
    record(parser, inner=inner)


def root(parser: argparse.ArgumentParser, text: str, *, inner: bool = False) -> None:
    """Declares the tree of files of settings."""
    parser.add_argument("--root", metavar="DIR", default=_default("/", inner=inner), help=text)


def undo(parser: argparse.ArgumentParser, *, inner: bool = False) -> None:
    """Declares what goes with undoing."""
    parser.add_argument("which", nargs="?", metavar="CHANGE", help="its number or its name (default: the last one)")
    parser.add_argument("--list", action="store_true", help="only list what was changed")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--force", action="store_true", help="also what somebody else has changed since")
    parser.add_argument("--forget", action="store_true", help="set nothing back, only strike it from the record")
    record(parser, inner=inner)


def record(parser: argparse.ArgumentParser, *, inner: bool = False) -> None:
    """Declares where the undo record is, and in which form is answered."""
    text = f"where the undo record lies (default: {paths.STATE_DIR})"
    parser.add_argument("--state-dir", metavar="DIR", default=_default(None, inner=inner), help=text)
    text = "one JSON object on standard output"
    parser.add_argument("--json", action="store_true", default=_default(value=False, inner=inner), help=text)
