"""`pidwarden conntrack`: how full the table of connections is, who fills it, what is the matter, what would help."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from pidwarden.cli import options
from pidwarden.errors import NotPossible

_TOP, _MOST_TOP = 10, 100_000
# name: (module below pidwarden.cli, what it does), each with `arguments` and `run` as every command
_ACTIONS = {"resize": ("conntrack_resize", "plan another size of the table, and set it")}


class _Later(argparse.ArgumentParser):
    """The parser of an action, which gets its arguments when they are to be parsed: nothing is imported before."""

    action = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever."""
        _module(self.action).arguments(self)
        return super().parse_known_args(args, namespace)


def _module(action: str) -> Any:
    name = f"pidwarden.cli.{_ACTIONS[action][0]}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as why:
        if why.name != name:
            raise
        raise NotPossible(f"this version of pidwarden has no `conntrack {action}`; type `pidwarden --version`") from why


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--walk", action="store_true", help="go through the table as well: who fills it, what is idle, what would help"
    )
    parser.add_argument(
        "--by", action="append", metavar="A,B,…",
        help="walk it, and break it down by these together; again for another table; `--by help` lists them",
    )  # fmt: skip
    parser.add_argument("--top", type=_top, default=_TOP, metavar="N", help=f"rows of a breakdown (default: {_TOP})")
    parser.add_argument(
        "--notrack", metavar="PROTO[/PORT][@ADDRESS]",
        help="walk it, and print the rules that would keep these flows out of the table, and what they would break",
    )  # fmt: skip
    options.netns(parser, "; or `all` that processes are in")
    options.watch(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    actions = parser.add_subparsers(dest="action", metavar="resize", title="actions", parser_class=_Later)
    for name, (_file, text) in _ACTIONS.items():
        actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".").action = name
    parser.epilog = "exit code: 0 nothing is the matter, 1 something is, 3 no permission, 4 nothing is tracked here"


def _top(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= _MOST_TOP):
        msg = f"{text!r} is no number of rows from 1 to {_MOST_TOP}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Looks twice and says what was found; 1 if something is the matter.

    Raises:
        UsageError: an argument is malformed.
        NoPermission: the table was to be walked, or another namespace entered, without the right to it.
        NotPossible: nothing is tracked here.
    """
    if args.action:
        code: int = _module(args.action).run(args)
        return code
    from pidwarden.cli.conntrack_look import run as look  # noqa: PLC0415  (what `--help` does not need)

    return look(args)
