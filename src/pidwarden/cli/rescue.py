"""`pidwarden rescue`: for a machine on which nothing can be started any more."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from pidwarden.errors import UsageError
from pidwarden.rescue.shelltext import UNKNOWN, Wanted, shell_text

if TYPE_CHECKING:
    import argparse

_COMM_LEN = 15  # what the kernel keeps of a name (proc(5), comm)
_LONGEST_LINE = 1024  # of a paste; a terminal takes 4,095 bytes a line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--print-shell",
        action="store_true",
        required=True,
        help="print a text to paste into the last shell that answers: it freezes and kills with built-ins alone",
    )
    meant = parser.add_mutually_exclusive_group()
    meant.add_argument("--name", metavar="N", help="processes of this name, as ps shows it")
    meant.add_argument("--exe", metavar="PATH", help="processes that run this file, whatever they are called")
    meant.add_argument("--user", metavar="U", help="processes of this user, by name or number")
    meant.add_argument("--pgrp", metavar="G", help="processes of this process group")


def wanted(args: argparse.Namespace) -> Wanted:
    """Which processes are meant.

    Raises UsageError: there is no such user or group, or the word cannot be pasted.
    """
    if args.name is not None:
        # What the kernel keeps may end in the middle of a character.
        return Wanted("name", _word(os.fsencode(args.name)[:_COMM_LEN].decode("utf-8", "surrogateescape")))
    if args.exe is not None:
        if not os.path.isabs(args.exe):
            msg = f"{args.exe!r} is no path of a program; type it with all its folders, like /usr/bin/python3.11"
            raise UsageError(msg)
        return Wanted("exe", _word(args.exe))
    if args.user is not None:
        return Wanted("user", str(_uid(args.user)))
    if args.pgrp is not None:
        if not (args.pgrp.isascii() and args.pgrp.isdecimal() and int(args.pgrp) > 1):
            msg = f"{args.pgrp!r} is not the number of a process group; `ps -o pgrp,comm` shows them"
            raise UsageError(msg)
        return Wanted("pgrp", str(int(args.pgrp)))
    return UNKNOWN


def _word(text: str) -> str:
    if not text or not text.isprintable() or len(text) > _LONGEST_LINE:
        msg = f"{text!r} cannot be pasted into a shell: it is empty, too long, or not all of it can be printed"
        raise UsageError(msg)
    return text


def _uid(text: str) -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        msg = f"there is no user {text!r} here; `--user` takes a number as well"
        raise UsageError(msg) from None


def run(args: argparse.Namespace) -> int:
    """Prints the text."""
    print(shell_text(wanted(args)), end="")
    return 0
