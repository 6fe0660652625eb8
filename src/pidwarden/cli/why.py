"""`pidwarden why`: which limit makes fork fail here, or will, who fills it, and what an error line means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.cli import options, source

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="?", metavar="SELECTOR",
        help="pid:N or N, user:NAME, cgroup:PATH, container:ID, family:N or nspid:N (default: the shell that calls)",
    )  # fmt: skip
    parser.add_argument("--user", metavar="NAME", help="the limits on the processes of this user, and on a login")
    parser.add_argument("--cgroup", metavar="PATH", help="the limits of this cgroup and of those above it")
    parser.add_argument(
        "--message", metavar="TEXT", help="explain an error: its name, its number, or a whole line of a program's"
    )
    options.watch(parser)
    source.arguments(parser)
    parser.epilog = "exit code: 0 no limit that can be seen is reached, 1 one is"


def run(args: argparse.Namespace) -> int:
    """Looks twice and says what was found; 1 if a limit is reached.

    Raises:
        UsageError: the selector is none.
        PidwardenError: nobody is meant, or he is gone.
    """
    from pidwarden.cli.why_look import run as look  # noqa: PLC0415  (what `--help` does not need)

    return look(args)
