"""Who waits for whom, at one moment: threads, what each of them sleeps in, and who could let it go on. Values only."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pidwarden.model.key import NOBODY, ProcessKey


class Ref(NamedTuple):
    """A thread; or with ``tid`` 0 a process: its only thread, or all of them."""

    pid: int
    tid: int = 0

    def __str__(self) -> str:
        return f"{self.pid}/{self.tid}" if self.tid else str(self.pid)


class End(StrEnum):
    """Why a chain goes no further."""

    STOPPED = "stopped"
    FROZEN = "frozen"
    SLEEPS = "sleeps"  # until a time
    RUNS = "runs"
    TYPING = "typing"  # a terminal
    IDLE = "idle"  # for whoever asks something of it
    SIGNAL = "signal"
    UNINTERRUPTIBLE = "uninterruptible"  # the kernel, a device, a filesystem
    NOBODY = "nobody"  # there is none who could let it go on
    OUTSIDE = "outside"  # another machine or network namespace
    UNTOLD = "untold"  # the kernel does not tell who
    HIDDEN = "hidden"  # not ours to see
    DEAD = "dead"
    GONE = "gone"


class Edge(NamedTuple):
    """Somebody who could let a waiter go on; ``how``: by which descriptor, lock, … of his, in words.

    ``sure`` where the kernel says so. ``weak``: any of them might, nothing speaks for this one.
    """

    to: Ref
    how: str = ""
    sure: bool = True
    weak: bool = False


class Waiter(NamedTuple):
    """A thread, or a process of several, and what it waits for. Texts are for a person; names in them are as found.

    ``call`` is what it sleeps in, as strace(1) writes it. ``every``: it goes on only when all of ``edges`` have done
    what they should; else one is enough. ``more``: how many edges were left out. ``partial``: there may be others, who
    are not shown. ``timed``: it wakes by itself in the end. ``do``: what to type. ``switches``: how often it gave up
    the processor, -1 if that is not known. ``moved``: it ran again while others were looked at.
    """

    ref: Ref
    key: ProcessKey = NOBODY
    comm: bytes = b""
    state: str = ""
    call: str = ""
    waits: str = ""
    edges: tuple[Edge, ...] = ()
    more: int = 0
    partial: bool = False
    every: bool = False
    timed: bool = False
    end: End | None = None
    do: str = ""
    syscall: str = ""
    fd: int | None = None
    target: str = ""
    wchan: str = ""
    switches: int = -1
    threads: int = 1
    moved: bool = False
