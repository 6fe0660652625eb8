"""How full a table is: one gauge for each and whoever has one of his own; and when that is too full. Values only."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Scope(StrEnum):
    """Who shares one table."""

    MACHINE = "machine"
    USER = "user"
    CGROUP = "cgroup"
    NETNS = "netns"
    USERNS = "userns"
    MOUNT = "mount"  # a mount namespace, or one mount
    PROCESS = "process"


class Table(StrEnum):
    """Every table that is looked at."""

    PIDS = "pids"
    THREADS = "threads"
    USER_TASKS = "user-tasks"
    CGROUP_PIDS = "cgroup-pids"
    FILES = "files"
    PROCESS_FILES = "process-files"
    INOTIFY_INSTANCES = "inotify-instances"
    INOTIFY_WATCHES = "inotify-watches"
    NAMESPACES = "namespaces"
    NEIGHBOURS4 = "neighbours-ipv4"
    NEIGHBOURS6 = "neighbours-ipv6"
    TCP_PORTS = "tcp-ports"
    UDP_PORTS = "udp-ports"
    TIME_WAIT = "time-wait"
    CONNTRACK = "conntrack"
    KEYS = "keys"
    KEY_BYTES = "key-bytes"
    PTYS = "ptys"
    AIO = "aio"
    MOUNTS = "mounts"


class User(NamedTuple):
    """One who uses a part of a table, in words that are safe to print, and how much."""

    name: str
    used: int


class Gauge(NamedTuple):
    """A table as one look found it; everything is counted in its own entries.

    ``used`` None: it cannot be seen from here; ``limit`` None: there is none, or it cannot be seen; ``unseen`` says
    why, and how to know it. ``reserved``: the part of the limit that nobody can have. ``peak`` and ``failures`` are the
    kernel's own: None where it keeps none.
    """

    table: Table
    scope: Scope
    of: str = ""  # which one, where there are several: "uid 1000", a cgroup's path, "pid 12 (name)", safe to print
    used: int | None = None
    limit: int | None = None
    reserved: int = 0
    setting: str = ""  # what holds the limit: a sysctl, a file or an RLIMIT
    peak: int | None = None
    failures: int | None = None
    since: str = "boot"  # what the failures are counted from
    who: tuple[User, ...] = ()  # who uses most, the largest first
    unseen: str = ""
    detail: str = ""  # what else bears on it, in words
    netns: str = ""  # the file of the network namespace that it is of, if that is not ours

    @property
    def free(self) -> int | None:
        """What is left; None: there is no limit, or it cannot be seen."""
        if self.used is None or self.limit is None:
            return None
        return max(0, self.limit - self.reserved - self.used)

    @property
    def share(self) -> float | None:
        """How much of what can be had is used, 1 at most; None as for ``free``."""
        if self.used is None or self.limit is None:
            return None
        room = self.limit - self.reserved
        return min(1.0, self.used / room) if room > 0 else 1.0

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in another look."""
        return self.table, self.of


class Thresholds(NamedTuple):
    """Shares of what can be had, and seconds until it is full; ``tables``: another share to be over, by table."""

    over: float = 0.9
    near: float = 0.75
    full_in: float = 1800.0
    rate_from: float = 0.25  # below this share no rate is believed: what has just begun levels off as a rule
    tables: Mapping[str, float] = {}

    def of(self, table: Table) -> tuple[float, float]:
        """The shares from which a table is over and near."""
        over = self.tables.get(table, self.over)
        return over, min(self.near, over)
