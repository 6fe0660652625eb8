"""What the books keep of a process and of a group. Pure; the fields are those of bpf/abi.h."""

from __future__ import annotations

from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.record import Group, GroupFlag, GroupKind, Record


class Pool:
    """A family, or a branch of `family`."""

    __slots__ = (
        "alarm_ns", "asks", "born_ns", "depth_limit", "family", "flags", "forks", "founder", "gone", "held_ns", "id",
        "kind", "limit", "members", "peak", "records", "rule", "settle_at", "slots", "spawner", "stops",
    )  # fmt: skip

    def __init__(self, number: int, family: Pool | None, founder: Entry | None, born_ns: int) -> None:
        self.id = number
        self.family: Pool = family or self
        self.founder = founder
        self.spawner: Entry | ProcessKey | None = founder.parent if founder else None
        self.born_ns = born_ns
        self.kind = GroupKind.BRANCH if family else GroupKind.FAMILY
        self.alarm_ns = self.held_ns = self.forks = self.asks = self.settle_at = self.slots = self.peak = 0
        self.limit = self.depth_limit = self.flags = self.rule = self.stops = self.records = 0
        self.members: set[Entry] = set()  # of a family: who holds a slot in it
        self.gone = False

    @property
    def held(self) -> bool:
        """Whether its forks are not to happen."""
        return bool(self.flags & GroupFlag.HELD)

    def group(self) -> Group:
        """As a value."""
        spawner = self.spawner.key if isinstance(self.spawner, Entry) else self.spawner or NOBODY
        return Group(
            self.id, self.family.id, self.founder.key if self.founder else NOBODY, spawner,
            self.born_ns, self.alarm_ns, self.held_ns, self.forks, self.asks, self.settle_at, self.slots, 0, self.peak,
            self.limit, self.depth_limit, int(self.kind), self.flags, self.rule, self.stops, self.records,
        )  # fmt: skip


class Entry:
    """One process, alive or dead. ``pid`` is its tgid."""

    __slots__ = (
        "branch", "checked", "comm", "counted_ns", "ended", "exact", "exe", "exec_ns", "execs", "exit_code",
        "exit_ns", "family", "flags", "folded", "forks", "found_family", "found_ns", "generation", "held_ns", "key",
        "kids", "last_forks", "leads", "live", "lost_ns", "parent", "pid", "ppid", "skipped", "slots", "state",
        "stopped_ns", "stops", "thread_forks", "tick_forks", "tick_ns", "uid", "within_exec",
    )  # fmt: skip

    def __init__(self, key: ProcessKey, parent: Entry | None, *, exact: bool) -> None:
        self.key, self.pid, self.parent, self.exact = key, key.tgid, parent, exact
        self.family: Pool | None = None
        self.branch: Pool | None = None
        self.found_family: Pool | None = None
        self.exec_ns = self.exit_ns = self.held_ns = self.found_ns = self.slots = self.live = self.forks = 0
        self.execs = self.generation = self.uid = self.exit_code = self.flags = self.stops = self.folded = 0
        self.skipped = self.thread_forks = self.tick_ns = self.tick_forks = self.last_forks = self.kids = 0
        self.stopped_ns = self.lost_ns = 0
        self.ppid = self.counted_ns = self.checked = 0
        self.comm = b""
        self.state = ""
        self.exe = (0, 0)
        self.leads: bool | None = False  # its session; None: not known
        self.within_exec = False  # at the last look: who it is did not show
        self.ended = False  # its leader has exited, and holds a slot until it is reaped

    def groups(self) -> tuple[Pool, ...]:
        """Its family and its branch, as far as it has them."""
        return tuple(g for g in (self.family, self.branch) if g)

    def record(self) -> Record:
        """As a value."""
        return Record(
            self.key, self.parent.key if self.parent else NOBODY,
            self.family.id if self.family else 0, self.branch.id if self.branch else 0,
            self.exec_ns, self.exit_ns, self.held_ns, self.slots, self.live, self.forks, self.execs, self.generation,
            self.uid, self.exit_code, self.flags, self.stops, self.comm, self.exe, self.folded, self.skipped,
            self.thread_forks, 0, self.ppid, self.state if self.slots > 0 else "", self.tick_ns, self.tick_forks,
            self.last_forks, 0, self.stopped_ns, self.lost_ns,
        )  # fmt: skip
