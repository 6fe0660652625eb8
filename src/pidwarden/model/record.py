"""What the kernel side knows of a process and of a group, as values."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pidwarden.model.key import ProcessKey


class ProcFlag(IntFlag):
    """Marks of a process."""

    SPAWNER = 1
    SHELL = 2
    KTHREAD = 4
    EXEMPT = 8
    SCOPE = 16
    GUESSED = 32
    PROTECTED = 64
    GOING = 128
    OUTSIDE = 256  # its user and cgroup of now are not in scope


class GroupFlag(IntFlag):
    """State of a family or branch."""

    SCOPED = 1
    ALARMED = 2
    HELD = 4
    WATCHED = 8
    DOUBTED = 16


class GroupKind(IntEnum):
    """What a group is."""

    FAMILY = 1
    BRANCH = 2


class Rule(IntEnum):
    """Why an alarm was raised."""

    BRANCH_SLOTS = 1
    FAMILY_SLOTS = 2
    GENERATIONS = 3

    @property
    def text(self) -> str:
        """As it stands in events: ``branch-slots``."""
        return self.name.lower().replace("_", "-")


class Record(NamedTuple):
    """One process, alive or dead. Times in ns since boot; 0 means never. ``comm`` is bytes its owner chose."""

    key: ProcessKey
    parent: ProcessKey  # the creator, which stays when the parent changes
    family: int
    branch: int
    exec_ns: int
    exit_ns: int
    held_ns: int
    slots: int
    live: int
    forks: int
    execs: int
    generation: int
    uid: int
    exit_code: int
    flags: int
    stops: int
    comm: bytes
    exe: tuple[int, int] = (0, 0)  # its program: (kernel device number, inode)
    folded: int = 0  # descendants, dead or alive, that have no record (any more) and are counted here
    skipped: int = 0  # dead ancestors that were left out between this record and `parent`
    thread_forks: int = 0  # tasks made by threads other than the leader
    thread_depth: int = 0  # the longest chain of threads that made threads
    ppid: int = 0  # tgid of the parent it has now, 0: it holds no slot
    state: str = ""  # the letter that ps shows, empty: it holds no slot
    tick_ns: int = 0  # when the interval of `tick_forks` began
    tick_forks: int = 0  # tasks it made in this interval of a second or more …
    last_forks: int = 0  # … and in the second before that
    hidden: int = 0  # living tasks among `live` that are processes of their own, without a record
    stopped_ns: int = 0  # how long gates had it stopped, up to `held_ns` …
    lost_ns: int = 0  # … and its ancestors, before each had the next

    @property
    def alive(self) -> bool:
        """Whether any of its threads still runs."""
        return self.live > 0

    @property
    def zombie(self) -> bool:
        """Whether it has ended and still holds a slot."""
        return self.live <= 0 < self.slots


class Group(NamedTuple):
    """A family or a branch: a founder and who descends from it."""

    id: int
    family: int
    founder: ProcessKey
    spawner: ProcessKey
    born_ns: int
    alarm_ns: int
    held_ns: int
    forks: int
    asks: int
    settle_at: int
    slots: int
    inflight: int
    peak: int
    limit: int
    depth_limit: int
    kind: int
    flags: int
    rule: int
    stops: int
    records: int = 0  # of a family: processes, alive or dead, that have a record
    outside: int = 0  # of its slots: those that count for no limit, as their tasks are not in scope
    refusals: int = 0  # forks that a gate refused its tasks

    @property
    def counted(self) -> int:
        """Slots that count for its limit."""
        return self.slots - self.outside

    @property
    def held(self) -> bool:
        """Whether its forks do not happen."""
        return bool(self.flags & GroupFlag.HELD)


class SignalKind(IntEnum):
    """What the kernel side has to say."""

    ALARM = 1
    EMPTY = 2  # a watched group is
    SHORT = 3  # records are running; `group` and `family` are 0
    PASSED = 4  # a fork went past the gate, in a group that has used half of its budget


class Signal(NamedTuple):
    """What came through the ring buffer."""

    time_ns: int
    group: int
    family: int
    by: ProcessKey
    kind: SignalKind
    rule: int
    slots: int
    flags: int

    @property
    def empty(self) -> bool:
        """Whether a watched group is now empty."""
        return self.kind is SignalKind.EMPTY


class Counters(NamedTuple):
    """What the kernel side counted, losses included."""

    next_id: int
    holds: int
    seeded: int
    adopted: int
    forks: int
    stops: int
    lost_tasks: int
    lost_procs: int
    lost_groups: int
    lost_events: int
    missed_frees: int
    records: int  # processes that have one right now
    aged: int  # records removed because they were older than the window
    contracted: int  # dead ancestors left out of a chain
    folded: int  # processes that are only counted, because records ran short: dead ones …
    folded_alive: int  # … and living ones, that never had a record
    hidden: int  # of those: still without one right now
    short_ns: int  # when records last ran short
    settle_after: int  # until then reaped tasks are not looked for again
    walks: int  # over all tasks of the machine
    marks: int  # questions for a lineage
    dumped: int  # elements copied for the last question
    seen_ns: int  # when the guard was last seen, CLOCK_MONOTONIC
    lapsed: int  # holds that the kernel ended because there was no guard
    woken: int  # processes that it continued then
    refusals: int = 0  # forks that got an error because their family or branch is held
    passed_ns: int = 0  # when it was last told that forks go past the gate
