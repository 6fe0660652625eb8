"""`pidwarden trace`: the system calls of a whole family, as `strace -f` shows them, without stopping anybody."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pidwarden.cli import source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_USAGE = "%(prog)s [OPTION …] TARGET … | -p PID … | -- COMMAND …"
_EPILOG = (
    "-e: names (openat,read), !names, /REGEX, strace's groups (%%file, %%process …) and systemd's (@network-io …), "
    "status=failed, errno=ENOENT, took>10ms, signal=SIGCHLD. Exit code: 0 done, 3 no permission (what may be seen "
    "is shown), 4 not possible here; of a COMMAND its own."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.usage, parser.epilog = _USAGE, _EPILOG
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET",
        help="PID or pid:N, tree:PID (it and all that descends from it, now and later), family:N, branch:N, user:NAME, "
        "cgroup:PATH, container:ID",
    )  # fmt: skip
    parser.add_argument("-p", action="append", default=[], metavar="PID", help="the same as a TARGET; PID,PID also")
    parser.add_argument("-f", action="count", default=0, help="children of a PID as well, as of all other targets")
    _of_lines(parser)
    _of_counts(parser)
    _of_output(parser)
    parser.add_argument(
        "--why", metavar="PID[,PID]",
        help="the chain of waiting: what a process or thread sleeps in, who could let it go on, what that one waits "
        "for, and so on",
    )  # fmt: skip
    parser.add_argument("--snapshot", action="store_true", help="only the call that each thread sits in now")
    source.arguments(parser)
    parser.parse_args = partial(_parse, parser.parse_args)  # type: ignore[method-assign, assignment]


def _of_lines(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-e", action="append", default=[], metavar="EXPR", help="what is shown; see below")
    add("--slower", metavar="TIME", help="calls that took longer, as 10ms; the same as -e 'took>10ms'")
    add("-t", action="count", default=0, help="the time of day; -tt with microseconds, -ttt in seconds since 1970")
    add("-r", action="store_true", help="the time since the line before")
    add("-T", action="store_true", help="the time spent in each call")
    add("-y", action="store_true", help="what descriptors lead to")
    add("-s", type=int, default=32, metavar="N", help="bytes shown of a string (32)")
    add("-k", action="store_true", help="the kernel's stack of slow calls")
    add("--data", action="store_true", help="what is read and written, without what looks like a secret")
    add("--no-redact", action="store_true", help="secrets as well")
    add("--always-show-pid", action="store_true", help="the thread in every line, also if there is one only")


def _of_counts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-c", action="store_true", help="count calls, errors and time; no lines")
    add("-C", action="store_true", help="count, and lines as well")
    add("-S", default="time", metavar="BY", help="sort counts by time, calls, errors, mean, max, lost or name")
    add("--by-process", action="store_true", help="counts of each process as well")
    add("--histogram", action="store_true", help="how long each call took, in full")


def _of_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", metavar="FILE", help="write there, readable for its owner only")
    add("--rotate-size", metavar="SIZE", help="begin a new file when it is as long, as 10M")
    add("--rotate-keep", type=int, default=3, metavar="N", help="old files that are kept: FILE.1 … (3)")
    add("--duration", type=float, metavar="S", help="end after so many seconds")
    add("--limit", type=int, metavar="N", help="end after so many events")
    add("-q", "--quiet", action="count", default=0, help="say nothing of how it goes")


def _parse(
    parse: Callable[[Sequence[str]], argparse.Namespace], argv: Sequence[str], _namespace: object = None
) -> argparse.Namespace:
    """What stands after ``--`` is a command, with options of its own."""
    words = [*argv]
    at = words.index("--") if "--" in words else len(words)
    args = parse(words[:at])
    args.argv = words[at + 1 :] if at < len(words) else None
    return args


def run(args: argparse.Namespace) -> int:
    """Traces until it is interrupted, everybody has ended, or what was asked for is there.

    Raises:
        PidwardenError: nobody is meant, an option makes no sense, or it is not possible here.
    """
    if args.why is not None:
        from pidwarden.cli import trace_why  # noqa: PLC0415  (of this option only)

        return trace_why.run(args)
    from pidwarden.cli import tracing  # noqa: PLC0415  (what `--help` does not need)

    return tracing.run(args)
