"""How the lines of a trace look, and what is needed to write them. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.trace.event import Event

_COLUMN: Final = 40  # where results begin (strace -a)
SECOND: Final = 1_000_000_000


class Decoder(Protocol):
    """What is needed of the decoder."""

    def name(self, nr: int) -> str:
        """Of a call."""

    def arguments(self, enter: Event | None, done: Event | None) -> Sequence[str]:
        """As text; without `done`, those that are known at the entry."""

    def result(self, event: Event) -> str:
        """What it returned, as `` = -1 ENOENT (No such file or directory)``."""

    def signal(self, event: Event) -> str:
        """``--- SIGCHLD {si_signo=SIGCHLD, …} ---``."""

    def ending(self, event: Event) -> str:
        """``+++ exited with 0 +++``, ``+++ killed by SIGKILL +++``."""


class Follower(Protocol):
    """Who has to know of calls that are not shown."""

    def unseen(self, enter: Event | None, done: Event) -> None:
        """A call."""

    def forked(self, parent: int, child: int) -> None:
        """A process made another one."""


class Stamp(IntEnum):
    """-t, -tt, -ttt."""

    NONE = 0
    SECONDS = 1
    MICROSECONDS = 2
    UNIX = 3


class Style(NamedTuple):
    """How lines look."""

    always_pid: bool = False
    to_file: bool = False  # `4711  openat(…`, always with its number; else `[pid  4711] openat(…`
    stamp: Stamp = Stamp.NONE
    relative: bool = False  # -r
    took: bool = False  # -T
    whole: bool = False  # a call is shown when it has ended, in one line
    attached: bool = True  # say who was forked
    ahead_ns: int = 0  # of the clock that is shown, before time since boot: UTC for -ttt, else local time
    column: int = _COLUMN


class Pending(Protocol):
    """A call that a thread sits in."""

    @property
    def tid(self) -> int: ...  # noqa: D102
    @property
    def nr(self) -> int: ...  # noqa: D102
    @property
    def enter_ns(self) -> int: ...  # noqa: D102
    @property
    def args(self) -> tuple[int, ...]: ...  # noqa: D102


class Sitting(NamedTuple):
    """A thread that is in a call when the trace begins."""

    tid: int
    nr: int
    args: tuple[int, ...]


def seconds_text(ns: int) -> str:
    """As it stands behind a result (-T)."""
    return f"{ns // SECOND}.{ns % SECOND // 1000:06}"


def clock_text(ns: int, stamp: Stamp) -> str:
    """As it stands before a call (-t)."""
    seconds, part = divmod(ns, SECOND)
    if stamp is Stamp.UNIX:
        return f"{seconds}.{part // 1000:06}"
    text = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return text if stamp is Stamp.SECONDS else f"{text}.{part // 1000:06}"
