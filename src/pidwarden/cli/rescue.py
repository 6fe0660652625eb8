"""`pidwarden rescue`: for a machine on which nothing can be started any more."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from typing import TYPE_CHECKING

from pidwarden.errors import UsageError
from pidwarden.model.paths import CONFIG, PREPARED
from pidwarden.rescue.strength import now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.rescue.shelltext import Wanted

_COMM_LEN = 15  # what the kernel keeps of a name (proc(5), comm)
_LONGEST_LINE = 1024  # of a paste; a terminal takes 4,095 bytes a line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        f"{parser.description or ''} Without an option: a console that replaces the shell it is typed in, `exec "
        "pidwarden rescue`. It never starts a process; `help` there tells the rest."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--auto", action="store_true", help="find who fills the process table, ask, freeze, kill, report")
    what.add_argument(
        "--print-shell",
        action="store_true",
        help="print a text to paste into the last shell that answers: it freezes and kills with built-ins alone",
    )
    what.add_argument(
        "--prepare",
        nargs="?",
        const=PREPARED,
        metavar="DIR",
        help=f"before the crisis: copy what a rescue would share with a bomb, so that `. {PREPARED}/start` starts one "
        "that need not wait for it (default: %(const)s)",
    )
    parser.add_argument(
        "--no-shell", action="store_true", help="console: end when it is left, and start no shell again"
    )
    auto = parser.add_argument_group("with --auto")
    auto.add_argument("--dry-run", action="store_true", help="only say what would be done")
    auto.add_argument("--yes", action="store_true", help="do not ask")
    auto.add_argument("--suspect", type=int, metavar="N", help="this one of those it lists, though it is not certain")
    auto.add_argument(
        "--gate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="hold their forks in the kernel first, if it lets us; without it they are frozen in passes",
    )
    auto.add_argument("--json", action="store_true", help="the report for programs; implies that nothing is asked")
    parser.add_argument("--config", metavar="FILE", default=CONFIG, help="whom to protect (%(default)s)")
    meant = parser.add_argument_group("with --print-shell").add_mutually_exclusive_group()
    meant.add_argument("--name", metavar="N", help="processes of this name, as ps shows it")
    meant.add_argument("--exe", metavar="PATH", help="processes that run this file, whatever they are called")
    meant.add_argument("--user", metavar="U", help="processes of this user, by name or number")
    meant.add_argument("--pgrp", metavar="G", help="processes of this process group")


def wanted(args: argparse.Namespace) -> Wanted:
    """Which processes are meant.

    Raises UsageError: there is no such user or group, or the word cannot be pasted.
    """
    from pidwarden.rescue.shelltext import UNKNOWN, Wanted  # noqa: PLC0415  (see `run`)

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
    """Runs what was asked for. Each is read in by itself: beside a bomb that takes many times as long."""
    if args.print_shell:
        from pidwarden.rescue.shelltext import shell_text  # noqa: PLC0415

        print(shell_text(wanted(args)), end="")
        return 0
    if args.prepare:
        from pidwarden.rescue.prepare import prepare  # noqa: PLC0415

        copied = prepare(args.prepare).copied
        print(f"copied {len(copied)} files to {args.prepare}; when nothing can be started any more, type")
        print(f"  . {args.prepare}/start")
        print("and type this command again whenever Python or the C library is upgraded: `pidwarden doctor` says when")
        return 0
    if args.auto:
        from pidwarden.cli.unattended import auto  # noqa: PLC0415

        return auto(args)
    from pidwarden.cli.rescuing import console  # noqa: PLC0415

    return console(args, now())


def _took_a_shells_place() -> bool:
    """Whether the session ends with this process: it leads one on a terminal, as only the shell did it replaced."""
    return os.getsid(0) == os.getpid() and os.isatty(0)


def with_a_shell_after(command: Callable[[], int], arguments: Sequence[str]) -> int:
    """Runs `command`; if it was typed as `exec pidwarden rescue …`, a shell comes back however it ends.

    A word that is spelled wrong must not close the last connection.
    """
    if "--no-shell" in arguments or not _took_a_shells_place():
        return command()
    from pidwarden.rescue.console import become_shell  # noqa: PLC0415  (now: later it may not be possible any more)

    before = now()
    try:
        code = command()
    except BaseException as why:  # noqa: BLE001  (see above)
        code = why.code if isinstance(why, SystemExit) and isinstance(why.code, int) else 1
        if not isinstance(why, SystemExit):
            print(f"pidwarden rescue: {why!r}", file=sys.stderr)
    print(f"pidwarden rescue ended with {code}; a shell again:")
    sys.stdout.flush()
    sys.stderr.flush()
    become_shell(before)
    return code
