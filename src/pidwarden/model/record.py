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


class GroupFlag(IntFlag):
    """State of a family or branch."""

    SCOPED = 1
    ALARMED = 2
    HELD = 4
    WATCHED = 8


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
    refs: int
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
    folded: int = 0  # descendants that have no record of their own: they are in this one's counts
    skipped: int = 0  # dead ancestors left out between this record and that of its recorded parent
    thread_forks: int = 0  # tasks made by other threads than the leader
    thread_depth: int = 0  # the longest chain of threads made by threads
    ppid: int = 0  # the current parent
    state: str = ""  # R S D T Z I as ps shows it, empty when dead

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

    @property
    def held(self) -> bool:
        """Whether its forks do not happen."""
        return bool(self.flags & GroupFlag.HELD)


class Signal(NamedTuple):
    """What came through the ring buffer: an alarm, or a watched group that is now empty."""

    time_ns: int
    group: int
    family: int
    by: ProcessKey
    empty: bool
    rule: int
    slots: int
    flags: int


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
