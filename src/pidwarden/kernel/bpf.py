"""pidwarden's own BPF object: load it, seed it, ask it, and the few things it can be told.

The kernel side is described in ``bpf/pidwarden.bpf.c``; this file turns its bytes into model values.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING

from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import abi, procfs
from pidwarden.kernel.btf import Btf
from pidwarden.kernel.built import object_path
from pidwarden.kernel.libbpf import (
    Link,
    Map,
    Object,
    attach_raw,
    has_kernel_function,
    left_out,
    max_entries,
    memory_of,
    open_pin,
    pin,
    raw_btf,
    runner,
)
from pidwarden.kernel.parse import parse_group, parse_records, parse_signal
from pidwarden.kernel.ring import Ring
from pidwarden.model.record import Counters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pidwarden.kernel.config import Config
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Group, Record, Signal

_HISTORY = (  # program, raw tracepoint; free last, so that nothing is released that was not counted
    ("on_free", "sched_process_free"),
    ("on_exit", "sched_process_exit"),
    ("on_exec", "sched_process_exec"),
    ("on_fork", "sched_process_fork"),
)
_ZERO = b"\0\0\0\0"


def check_layouts(path: str) -> None:
    """Compares the structs of an object with those this package was generated for.

    Raises:
        NotPossible: they differ, with the names.
    """
    built = {n: (la.size, la.format, la.fields) for n, la in Btf(raw_btf(path)).layouts("pw_").items()}
    if differing := [n for n in sorted(built.keys() | abi.LAYOUTS.keys()) if built.get(n) != abi.LAYOUTS.get(n)]:
        msg = f"{path} does not fit this version of pidwarden ({', '.join(differing)}); type `make abi` or reinstall"
        raise NotPossible(msg)


def wakes_others() -> bool:
    """Whether BPF programs of this kernel can signal other tasks (6.13 and later)."""
    return has_kernel_function("bpf_send_signal_task")


_MAPS = ("tasks", "procs", "groups", "dump", "exes", "config", "state", "events", "leases", "wakes")
_SIZES = {"tasks": (8, abi.TASK), "procs": (abi.KEY.size, abi.PROC), "groups": (8, abi.GROUP), "dump": (4, abi.DUMP)}
_SIZES |= {"exes": (abi.EXE.size, Struct("<I")), "config": (4, abi.CONFIG), "state": (4, abi.STATE)}
# More groups: each child of a spawner has a family and a branch. More tasks: for threads and for those only counted.
_TIMES_RECORDS, _TASKS_A_RECORD = {"procs": 1, "groups": 2, "dump": 1}, 2
_MANY_TASKS = 65_536
_SPARE = 4  # a quarter more than others may use is for founders, as the first of a bomb is one, and for who is held
_RUN = ("control", "ask", "sweep", "seed", "gate_every")
PINNED = (*_MAPS, *_RUN, "lease")  # what a successor finds
_LEASES = {True: "lease_waking", False: "lease_plain"}  # whether the kernel can wake those whose hold has lapsed
OPTIONAL = frozenset({"gate_lsm", "undo_lsm", "gate_fmod_ret", "undo_fmod_ret"})  # not every kernel takes them


def _most_tasks() -> int:
    """Who has no record is counted all the same, so the tasks must have room where records are few; within reason."""
    return min(procfs.read_int(f"{procfs.PROC}/sys/kernel/pid_max") or 0, _MANY_TASKS)


class Programs:
    """The programs and maps, loaded or adopted. Close it, or they stay attached as long as this process lives.

    This is a source of families (`watch.base.Source`), the one that has gates.
    """

    name, how, gated, keeps_scope = "bpf", "bpf raw tracepoints", True, True

    def __init__(
        self, maps: dict[str, Map], programs: dict[str, int], loaded: Object | None, attached: Iterable[str] = ()
    ) -> None:
        self.maps, self._programs, self._object = maps, programs, loaded
        self.links: list[Link] = []
        self._adopted = frozenset(attached)
        self._every = -1
        self._dump, self._state = maps["dump"].view(), maps["state"].view()
        self._known_exes: set[tuple[int, int]] = set()
        self.ring = Ring(maps["events"])
        self._control, self._ask = runner(programs["control"], "control"), runner(programs["ask"], "ask")
        self._sweep = runner(programs["sweep"], "sweep")
        self._lease = runner(programs["lease"], "lease")

    @classmethod
    def load(
        cls, path: str | None = None, *, max_records: int = 65536, optional: frozenset[str] = frozenset()
    ) -> Programs:
        """Loads the object into the kernel, with these of the :data:`OPTIONAL` programs. Nothing is attached yet.

        Raises:
            PidwardenError: the kernel refuses, or the object is not the one this package was made for.
        """
        path = path or object_path()
        check_layouts(path)
        loaded = Object(path)
        try:
            for name, times in _TIMES_RECORDS.items():
                loaded.resize(name, times * (max_records + max_records // _SPARE))
            loaded.resize("tasks", max(_TASKS_A_RECORD * max_records, _most_tasks()))
            for name in (*(OPTIONAL - optional), _LEASES[not wakes_others()]):
                loaded.leave_out(name)
            loaded.load()
            programs = {n: loaded.program(n) for n in _RUN} | {"lease": loaded.program(_LEASES[wakes_others()])}
            return cls({n: loaded.map(n) for n in _MAPS}, programs, loaded)
        except BaseException:
            loaded.close()
            raise

    @classmethod
    def adopt(cls, directory: str) -> Programs:
        """Takes over what another guard has pinned: programs stay attached, and not one event is missed.

        Raises:
            PidwardenError: a pin is missing or cannot be opened.
        """
        maps = {n: Map(n, open_pin(f"{directory}/map_{n}"), 0, 0, 0) for n in set(_MAPS) - _SIZES.keys()}
        for name, (key_size, value) in _SIZES.items():
            fd = open_pin(f"{directory}/map_{name}")
            maps[name] = Map(name, fd, key_size, value.size, max_entries(fd))
        attached = [n.removeprefix("link_") for n in os.listdir(directory) if n.startswith("link_")]
        return cls(maps, {n: open_pin(f"{directory}/prog_{n}") for n in (*_RUN, "lease")}, None, attached)

    def pin(self, directory: str) -> None:
        """Gives everything a second reference in a directory of a bpf file system, so that it outlives us."""
        for link in self.links:
            link.pin(f"{directory}/link_{link.name}")
        for name, found in self.maps.items():
            pin(found.fd, f"{directory}/map_{name}")
        for name, fd in self._programs.items():
            pin(fd, f"{directory}/prog_{name}")

    # -- set up ----------------------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """Sets the thresholds for groups born from now on."""
        self.maps["config"].set(_ZERO, config.packed(self.max_records))

    def begin_lease(self) -> bool:
        """From here on the kernel watches for signs of life (:meth:`seen`). False: it has no timers."""
        self.seen()
        return bool(self._lease())

    def seen(self) -> None:
        """A sign of life: renews the lease."""
        self._control(abi.OP_SEEN)

    def set_executables(self, flags: dict[tuple[int, int], int]) -> None:
        """Which executables are spawners or shells: (kernel device number, inode) to ProcFlag bits."""
        exes = self.maps["exes"]
        for dev, ino in self._known_exes - flags.keys():
            exes.delete(abi.EXE.pack(ino, dev))
        self._known_exes = set(flags)
        for (dev, ino), value in flags.items():
            exes.set(abi.EXE.pack(ino, dev), value.to_bytes(4, "little"))

    def attach_history(self) -> None:
        """From here on every fork, exec, exit and release is recorded. Seed afterwards.

        A walk goes before: a busy process that forks before the walk reaches it would be met before its own parent.
        """
        self.seed()
        for program, tracepoint in _HISTORY:
            self.links.append(self._loaded().attach_raw(program, tracepoint))

    def seed(self) -> int:
        """Walks over all tasks and sets the books right; how many were enrolled so far.

        Those nobody told us of are enrolled, those that records were too short for get one, and those that two walks
        more than 0.1 s apart do not meet are taken off.
        """
        runner(self._programs["seed"], "seed")()
        return self.counters().seeded

    @property
    def attached(self) -> frozenset[str]:
        """The programs that are attached by links, by us or by the guard before us."""
        return self._adopted | {link.name for link in self.links}

    def attach(self, *programs: str) -> None:
        """Attaches programs to what their sections name, all or none.

        Raises:
            PidwardenError: the kernel refuses one.
        """
        made: list[Link] = []
        try:
            made.extend(self._loaded().attach(name) for name in programs)
        except PidwardenError:
            for link in made:
                link.destroy()
            raise
        self.links += made

    def attach_perf(self, program: str, perf_fd: int) -> None:
        """Attaches one program to an open perf event, which from then on belongs to the link."""
        self.links.append(self._loaded().attach_perf(program, perf_fd))

    def watch_every_call(self, *, on: bool) -> None:
        """A gate at the entry of every system call of every process, 32-bit ones too; attached or not."""
        if on and self._every < 0:
            self._every = attach_raw(self._programs["gate_every"], "sys_enter")
        elif not on and self._every >= 0:
            os.close(self._every)
            self._every = -1

    def _loaded(self) -> Object:
        assert self._object is not None, "an adopted guard is attached already"
        return self._object

    def close(self) -> None:
        """Detaches and frees, but for what is pinned. May be called twice."""
        self.watch_every_call(on=False)
        for link in self.links:
            link.destroy()
        self.links.clear()
        self.ring.close()
        self._dump.close()
        self._state.close()
        if self._object:
            self._object.close()

    # -- ask -------------------------------------------------------------------------------------------------------

    def _dumped(self, count: int) -> bytes:
        return self._dump[: count * abi.DUMP.size]

    def records(self, *families: int) -> list[Record]:
        """Every process known, alive or dead; or those of up to three families."""
        return parse_records(self._dumped(self._ask(abi.ASK_PROCS, *families)))

    def lineage(self, *families: int) -> list[Record]:
        """Who holds a slot in up to three families (none: in any), and of the dead only their ancestors there."""
        return parse_records(self._dumped(self._ask(abi.ASK_LINEAGE, *families)))

    def hidden(self, *families: int) -> list[Record]:
        """The living of up to three families that have no record, for want of room: what is known of their creators."""
        if not self.counters().hidden:
            return []
        return parse_records(self._dumped(self._ask(abi.ASK_HIDDEN, *families)))

    def stopped(self) -> list[Record]:
        """Those that a gate stopped and nobody has continued since."""
        return parse_records(self._dumped(self._ask(abi.ASK_STOPPED)))

    def dump_records(self) -> memoryview:
        """Everybody, as bytes of struct pw_dump: good until the next question, to be released before :meth:`close`."""
        count = self._ask(abi.ASK_PROCS)
        return memoryview(self._dump)[: count * abi.DUMP.size]

    def groups(self) -> dict[int, Group]:
        """Families and branches by id."""
        data, size = self._dumped(self._ask(abi.ASK_GROUPS)), abi.DUMP.size
        return {g.id: g for g in (parse_group(data, at) for at in range(0, len(data), size))}

    def group(self, group: int) -> Group | None:
        """One family or branch, None if it is gone."""
        return parse_group(self._dumped(1), 0) if self._ask(abi.ASK_GROUP, group) else None

    def record(self, key: ProcessKey) -> Record | None:
        """One process, None if nothing is known of it."""
        known = self._ask(abi.ASK_PROC, 0, key.tgid, key.start_ns)
        return parse_records(self._dumped(1))[0] if known else None

    @property
    def max_records(self) -> int:
        """How many processes can have a record, without the reserve for founders and for who is held."""
        return -(-self.maps["procs"].max_entries * _SPARE // (_SPARE + 1))

    @property
    def ceiling(self) -> int:
        """Bytes of kernel memory that the maps take, as the kernel accounts them; they were allocated at the start."""
        return sum(memory_of(found.fd) for found in self.maps.values())

    def counters(self) -> Counters:
        """What the kernel side counted."""
        return Counters._make(abi.STATE.unpack_from(self._state))

    @property
    def left_out(self) -> int:
        """How often the kernel did not run one of the attached programs; later looks repair what that missed."""
        return sum(left_out(self._object.program(link.name)) for link in self.links) if self._object else 0

    def fileno(self) -> int:
        """Readable when something waits in the ring buffer."""
        return self.ring.fd

    def next_ns(self) -> None:
        """Nothing is due: the kernel side keeps the books by itself."""

    def take_notes(self) -> list[str]:
        """Nothing: it does not change its ways."""
        return []

    def signals(self) -> Iterator[Signal]:
        """What waits in the ring buffer; never blocks."""
        return map(parse_signal, self.ring.read())

    # -- tell ------------------------------------------------------------------------------------------------------

    def hold(self, group: int) -> bool:
        """Stops the group's forks. False if it is gone."""
        return bool(self._control(abi.OP_HOLD, group))

    def release(self, group: int, *, limit: int = 0, depth_limit: int = 0) -> bool:
        """Lets the group's forks proceed, with new limits if given; tasks already stopped want SIGCONT as well."""
        return bool(self._control(abi.OP_RELEASE, group, limit, depth_limit))

    def set_limit(self, group: int, limit: int = 0, depth_limit: int = 0) -> bool:
        """New limits; 0 leaves one as it is."""
        return bool(self._control(abi.OP_LIMIT, group, limit, depth_limit))

    def split(self, of: int, founder: ProcessKey) -> int:
        """A new family beside `of`, held and watched from birth; its id, 0 if that failed."""
        return self._control(abi.OP_NEW_FAMILY, of, founder.tgid, founder.start_ns)

    def move(self, key: ProcessKey, group: int) -> bool:
        """Moves a process and its slots into a family."""
        return bool(self._control(abi.OP_MOVE, group, key.tgid, key.start_ns))

    def settle(self) -> None:
        """Takes tasks that are reaped, though their memory is not yet freed, off every count of slots."""
        self._control(abi.OP_SETTLE)

    def sweep(self, cutoff_ns: int, early_ns: int = 0) -> int:
        """Removes dead leaves that exited before `cutoff_ns`, and leaves the dead with one child out of their chains.

        The same with families that have more than an eighth of all records before `early_ns`; those are folded. How
        many records went.
        """
        return self._sweep(cutoff_ns, early_ns)

    def unfold(self, now_ns: int) -> None:
        """Gives processes that are only counted records of their own again, as far as there is room for them."""
        if self.counters().hidden:
            self.sweep(0, now_ns)
            self.seed()

    def forget(self, group: int) -> None:
        """Stops watching a group; it goes when it is empty."""
        self._control(abi.OP_FORGET, group)

    def doubt(self, group: int) -> None:
        """Notes for a successor that a watched group is not held as a bomb, but for a person to decide."""
        self._control(abi.OP_DOUBT, group)

    def flag(self, key: ProcessKey, flags: int, clear: int = 0) -> bool:
        """Sets and clears marks of a process."""
        return bool(self._control(abi.OP_FLAG, flags, key.tgid, key.start_ns, clear))

    def mark_stopped(self, key: ProcessKey) -> None:
        """Notes that the process was stopped, by the guard or by a gate that is not one of these."""
        self._control(abi.OP_STOPPED, 0, key.tgid, key.start_ns)

    def unstop(self, key: ProcessKey) -> None:
        """Forgets that a gate stopped the process."""
        self._control(abi.OP_UNSTOP, 0, key.tgid, key.start_ns)
