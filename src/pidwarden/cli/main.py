"""The command line: finds the command, builds only its parser, and alone turns errors into messages and exit codes.

Exit codes: 0 done, 1 found or failed as documented, 2 usage, 3 no permission, 4 not possible here.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from pidwarden import __version__
from pidwarden.errors import NoPermission, PidwardenError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _DIGITS = 80, 5  # where there is no terminal; of a width that is believed

# name: (module below pidwarden.cli, what it does). Each module has `arguments(parser)` and `run(args) -> int`.
COMMANDS = {
    "guard": ("guard", "stay resident: hold, judge and kill runaway families"),
    "drill": ("drill", "a game day: detonate bombs in a pen and tell what happened"),
    "status": ("status", "headroom, families, what is held, last incidents"),
    "ps": ("ps", "the process table: states, families, subtrees, forks per second"),
    "tree": ("tree", "families as trees, with their dead: who created whom"),
    "history": ("history", "where a process came from, up to its family's founder"),
    "zombies": ("zombies", "who owes a wait, why he does not wait, and what helps"),
    "reap": ("reap", "clear zombies: the gentlest step that helps, and no other"),
    "orphans": ("orphans", "what lost the parent that made it and is no daemon; end what leaked"),
    "stuck": ("stuck", "threads that do not wake up: what they wait for, and what helps"),
    "trace": ("trace", "what a family is doing: its system calls, and whom who is blocked waits for"),
    "rescue": ("rescue", "bring back a machine where nothing can be started any more"),
    "why": ("why", "why a fork fails here, or will: which limit, who fills it, what helps"),
    "tables": ("tables", "the kernel's other tables: how full, who fills them, when, what helps"),
    "conntrack": ("conntrack", "the table of connections: how full, who fills it, what is the matter, what helps"),
    "limits": ("limits", "limits of the kernel: who sets them; change one, with a way back"),
    "undo": ("undo", "take a change back that pidwarden made, or list them"),
    "doctor": ("doctor", "what this machine can do, how, and what would improve it"),
    "release": ("decide", "let a held family go"),
    "kill": ("decide", "kill the guilty part of a held family"),
    "config": ("config", "print a configuration file with every setting and its default"),
}
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a write to standard output that has no room


def _formatter(kind: type[argparse.HelpFormatter]) -> partial[argparse.HelpFormatter]:
    """Makes one that knows how wide the terminal is: else each argument makes it import all that archives need.

    The width is found as :func:`shutil.get_terminal_size` does.
    """
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isascii() and given.isdecimal() and len(given) < _DIGITS else 0
    if not width:
        try:
            width = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns
        except (OSError, ValueError):  # no terminal, or closed
            width = 0
    return partial(kind, width=(width or _WIDTH) - 2)


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<9} {text}" for name, (_module, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="pidwarden",
        description="Keeps the process table of a Linux machine usable: contains fork bombs while they explode.",
        epilog=f"commands:\n{commands}\n\n`pidwarden COMMAND --help` tells more.",
        formatter_class=_formatter(argparse.RawDescriptionHelpFormatter),
    )
    parser.add_argument("--version", action="version", version=f"pidwarden {__version__}")
    parser.add_argument("command", choices=[*COMMANDS], metavar="COMMAND", help="what to do")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its arguments")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    words = [*(sys.argv[1:] if argv is None else argv)]
    chosen = _parser().parse_args(words[:1])
    chosen.arguments = words[1:]  # argparse would take a `--` away that is the command's own
    if chosen.command != "rescue":
        return _run(chosen)
    from pidwarden.cli.rescue import with_a_shell_after  # noqa: PLC0415  (of one command only)

    return with_a_shell_after(lambda: _run(chosen), chosen.arguments)


def _run(chosen: argparse.Namespace) -> int:
    name, text = COMMANDS[chosen.command]
    try:
        module = importlib.import_module(f"pidwarden.cli.{name}")
        parser = argparse.ArgumentParser(
            prog=f"pidwarden {chosen.command}", description=text[0].upper() + text[1:] + ".",
            formatter_class=_formatter(argparse.HelpFormatter),
        )  # fmt: skip
        module.arguments(parser)
        args = parser.parse_args(chosen.arguments)
        args.command = chosen.command
        code: int = module.run(args)
        sys.stdout.flush()
    except PidwardenError as why:
        print(f"pidwarden {chosen.command}: {why}", file=sys.stderr)
        return why.exit_code
    except PermissionError as why:
        error = NoPermission(f"{why.filename or 'a system call'}: {why.strerror}; type `sudo pidwarden …`")
        print(f"pidwarden {chosen.command}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as why:
        if why.filename is not None or why.errno not in _OF_OUTPUT:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes there
        print(
            f"pidwarden {chosen.command}: tried to write the answer: {why.strerror}; look at where it goes (`df`)",
            file=sys.stderr,
        )
        return 1
    return code
