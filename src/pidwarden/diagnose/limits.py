"""Limits on what can be forked, by values: which binds, which is nearest, which fills and when. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MIB = 1 << 20
PROCESS_BYTES = MIB  # what a small new process takes: stack, page tables, first pages; with less, memory is out
STEADY, COUNTED = 8, 64  # tasks that come and go while a full table is read: from one counter, from all of /proc
SHARE = 64  # … and never more than this part of the limit: a limit of 10 with 9 used has room
AMPLE = 16  # of memory so small a part has to be left before it is compared with tasks
NEAR = 10  # a limit is near when no more than this part of it is left
SHOWN = 3  # of those who count against a limit
_NOISE_BYTES = 16 * MIB  # what memory goes up and down by in a moment
_NOISE_SHARE = 8  # … or this part of what is free: a table with five left does fill by two
_AHEAD = 600.0  # a rate is believed for so many times as long as it was seen: half a second tells of five minutes …
_AHEAD_BYTES = 60.0  # … for memory, where caches and what programs keep for themselves level off, of half a minute
_TREND_SECONDS = 600.0  # and one seen for so long, for ever


class Kind(StrEnum):
    """What sort of limit it is."""

    PID_MAX = "pid_max"
    THREADS_MAX = "threads-max"
    NPROC = "nproc"
    PIDS = "pids.max"
    PID_NAMESPACE = "pid-namespace"  # one whose pid_max is not shown to us
    DEAD_INIT = "dead-namespace-init"
    MEMORY = "memory"
    COMMIT = "overcommit"
    MEMORY_CGROUP = "memory-cgroup"
    NAMESPACES = "namespaces"  # user.max_*_namespaces
    NOFILE = "open-files"
    FILE_MAX = "file-max"


class Seen(NamedTuple):
    """What a second look added: growth in units a second, over so many seconds, and the forks refused meanwhile."""

    per_second: float
    seconds: float
    refused: int = 0
    source: str = "two looks"


class Binding(NamedTuple):
    """A limit on what one process can fork, in tasks or bytes. ``allowed`` None: it cannot be seen from here."""

    name: str
    used: int
    allowed: int | None
    free: int
    binds: bool = False  # now: a fork is refused
    unit: str = "tasks"
    exempt: str = ""  # why it does not count for this process
    who: str = ""  # those who count against it
    evidence: str = ""  # that it has refused somebody
    path: str = ""  # the file that holds it
    help: str = ""  # what to type at the console to make room, or why there is nothing to type
    undo: str = ""  # what to type there to take that back
    kind: Kind | None = None
    pid: int = 0  # the process whose limit it is
    uid: int = -1  # the user whose tasks count
    cgroup: str = ""  # the cgroup's path in its hierarchy
    hard: int | None = None  # what the soft limit of a process may be raised to without a capability
    better: int = 0  # a limit with some room; 0: none is possible
    refused: int = 0  # forks that were refused, as the kernel counts them
    users: Mapping[int, int] = {}  # tasks that count, by uid
    names: Mapping[bytes, int] = {}  # … by name
    reapers: Mapping[int, int] = {}  # zombies that count, by the parent that has not waited for them
    unseen: str = ""  # why ``allowed`` is None, and how to know it
    seen: Seen | None = None

    @property
    def room(self) -> int:
        """How many small processes fit in what is free."""
        return self.free if self.unit != "bytes" else self.free // PROCESS_BYTES

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        """Sorts those that bind first, then by what is free; ample memory, what does not bind us or is unseen, last."""
        ample = self.unit == "bytes" and self.free > (self.allowed or 0) // AMPLE
        return not self.binds, self.allowed is None, bool(self.exempt), ample, self.room

    @property
    def cause(self) -> str:
        """That it is reached, in words."""
        if self.kind is Kind.DEAD_INIT:
            return f"{self.name} has lost its first process"
        return f"{self.name} is reached, {amount(self, self.used)} of {amount(self, self.allowed or 0)} used"

    @property
    def near(self) -> bool:
        """Whether it binds, or hardly anything is left."""
        return self.binds or (self.allowed is not None and not self.exempt and self.free <= self.allowed // NEAR)

    @property
    def fills_in(self) -> float | None:
        """Seconds until it is full at the rate seen; None: it is not filling, or not so that it could be told."""
        if self.seen is None or self.allowed is None or self.binds:
            return None
        noise, ahead = (_NOISE_BYTES, _AHEAD_BYTES) if self.unit == "bytes" else (STEADY, _AHEAD)
        return until_full(self.free, self.seen.per_second, self.seen.seconds, noise, ahead)


def until_full(
    free: int, per_second: float, seconds: float, noise: int = STEADY, ahead: float = _AHEAD
) -> float | None:
    """Seconds until what is free is used up, at a rate seen for so many; None: that foretells nothing.

    `noise`: what comes and goes in a moment; `ahead`: for how many times as long as it was seen a rate is believed.
    """
    if per_second <= 0 or per_second * seconds < min(noise, max(1, free // _NOISE_SHARE)):
        return None
    left = free / per_second
    return left if left <= seconds * ahead or seconds >= _TREND_SECONDS else None


def is_out(free: int, allowed: int, unsteady: int) -> bool:
    """Whether a limit counts as reached, where so many of what is counted come and go meanwhile."""
    return free <= min(unsteady, allowed // SHARE)


def most(counts: Mapping[str, int]) -> str:
    """The largest of some counts."""
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {n}" for name, n in largest[:SHOWN]]
    rest = sum(n for _name, n in largest[SHOWN:])
    return ", ".join(shown + [f"others {rest}"] * bool(rest))


def nearest(bindings: Iterable[Binding]) -> Binding | None:
    """The limit that will bind first, of those in order of rank; None: none can be seen."""
    return next((b for b in bindings if b.allowed is not None and not b.exempt), None)


def soonest(bindings: Iterable[Binding]) -> Binding | None:
    """The one that is full first at the rates seen; None: none is filling."""
    filling = [(seconds, b) for b in bindings if not b.exempt and (seconds := b.fills_in) is not None]
    return min(filling, key=lambda pair: pair[0])[1] if filling else None


def error_of(binding: Sequence[Binding]) -> str:
    """What fork(2) answers where these bind: it checks users and threads before memory (copy_process())."""
    return "EAGAIN" if any(b.unit == "tasks" and b.kind is not Kind.DEAD_INIT for b in binding) else "ENOMEM"


def amount(binding: Binding, number: int) -> str:
    """A number of it for people."""
    return f"{number // MIB} MiB" if binding.unit == "bytes" else str(number)


def _same(b: Binding) -> tuple[object, ...]:
    """What a limit is known by in another look; a user's is named after one of his processes, which may be gone."""
    return (b.kind, b.uid, b.allowed) if b.kind is Kind.NPROC else (b.kind, b.name)


def grown(before: Iterable[Binding], after: Iterable[Binding], seconds: float) -> list[Binding]:
    """The later look, with what changed since the earlier one so many seconds ago. What is new has no rate."""
    then = {_same(b): b for b in before}
    found = []
    for b in after:
        old = then.get(_same(b))
        if old is not None and seconds > 0 and b.kind is not Kind.DEAD_INIT:
            more = max(0, b.refused - old.refused)
            found.append(b._replace(seen=Seen((b.used - old.used) / seconds, seconds, more)))
        else:
            found.append(b)
    return found
