"""The kernel side of a trace, ``bpf/trace.bpf.c``: loaded and attached while a :class:`Tracer` is open, and no longer.

Nothing is pinned: whatever ends this process ends the trace. Nobody is stopped by it at any time.
"""

from __future__ import annotations

import contextlib
import os
import select
from bisect import bisect_left
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple, Self

from pidwarden.errors import NotPossible
from pidwarden.kernel.btf import Btf
from pidwarden.kernel.built import object_path
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.libbpf import Link, Object, keys, new_ring, raw_btf, runner
from pidwarden.trace import abi
from pidwarden.trace.event import parse
from pidwarden.trace.rings import RingReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pidwarden.trace.event import Event

# Program and raw tracepoint. Who is born to a member is one, before its first call can be seen; calls last.
_HOOKS = (
    ("on_exit", "sched_process_exit"),
    ("on_fork", "sched_process_fork"),
    ("on_exec", "sched_process_exec"),
    ("on_signal", "signal_deliver"),
    ("on_return", "sys_exit"),
    ("on_enter", "sys_enter"),
)
_WORD, _SETTLED_NS = 4, 1_000_000  # a record has its time before it is in its ring: others wait so long for it
_BACKLOG_BYTES = 32 << 20  # of records that were taken out of the rings and not yet asked for
_EXECVE = {"x86_64": 59, "i686": 11, "armv7l": 11}  # asm/unistd.h; all that came after: asm-generic/unistd.h
_GENERIC_EXECVE = 221


class Settings(NamedTuple):
    """What is traced, and how much of it is kept."""

    flags: int = abi.STREAM | abi.FOLLOW
    uid: int | None = None  # whoever has this real user id
    cgroup: tuple[int, int] | None = None  # whoever is in it or below: id, depth below the root (v2)
    min_ns: int = 0  # of the stream only: calls that took at least so long …
    errnos: frozenset[int] = frozenset()  # … and that failed with one of these
    ring_bytes: int = 4 << 20  # of each processor; a power of two
    threads: int = 16384


class Pending(NamedTuple):
    """A call that a thread sits in."""

    tid: int
    nr: int
    enter_ns: int
    args: tuple[int, ...]


class Count(NamedTuple):
    """What became of one kind of call."""

    calls: int = 0
    errors: int = 0
    ns: int = 0
    max_ns: int = 0
    lost: int = 0  # of them, those that are not in the stream, as their record found no room in a ring

    def plus(self, other: Count) -> Count:
        """Both together."""
        sums = Count(*(a + b for a, b in zip(self, other, strict=True)))
        return sums._replace(max_ns=max(self.max_ns, other.max_ns))


class Total(NamedTuple):
    """The same, of all who are traced; bucket n counts calls of 2^n to 2^(n+1) ns."""

    sums: Count
    buckets: tuple[int, ...]


class Tallies(NamedTuple):
    """What the kernel side counted of its own work."""

    records: int
    lost: int
    lost_bytes: int
    uncounted: int  # calls that are in no process's counts, only in the totals
    untold: int  # looks for a thread's state that found no room: those calls are not seen
    unmatched: int  # returns without an entry: denied by seccomp, or under way when the trace began


def check_layouts(path: str) -> None:
    """Compares the structs of the object with those that :mod:`abi` was generated for.

    Raises:
        NotPossible: they differ, with the names.
    """
    built = {n: (la.size, la.format, la.fields) for n, la in Btf(raw_btf(path)).layouts("tr_").items()}
    if differing := [n for n in sorted(built.keys() | abi.LAYOUTS.keys()) if built.get(n) != abi.LAYOUTS.get(n)]:
        msg = f"{path} does not fit this version of pidwarden ({', '.join(differing)}); type `make abi` or reinstall"
        raise NotPossible(msg)


def _processors() -> int:
    """How many there can be: per-processor maps have a value for each."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").rpartition("-")[2]) + 1


def _config(settings: Settings) -> bytes:
    """The ``struct tr_config``."""
    words = [0, 0, 0]
    for number in settings.errnos:
        words[number // 64] |= 1 << number % 64
    uid, (cgroup, level) = settings.uid, settings.cgroup or (0, 0)
    execve = _EXECVE.get(os.uname().machine, _GENERIC_EXECVE)
    who = os.getpid(), uid is not None, uid or 0, cgroup
    return abi.CONFIG.pack(settings.flags, *who, settings.min_ns, *words, level, execve)


def with_masks(plan: bytes) -> bytes:
    """A ``struct tr_plan`` with what its captures say of entry and return written in front."""
    traced, _entry, _return, _early, counted, *words = abi.PLAN.unpack(plan)
    at_entry = at_return = early = 0
    for i, word in enumerate(words):
        kind, when, *_rest = abi.CAPTURE.unpack(word.to_bytes(8, "little"))
        if kind != abi.NOTHING:
            at_entry |= bool(when & abi.AT_ENTRY) << i
            at_return |= bool(when & abi.AT_RETURN) << i
            early |= kind == abi.STRINGS  # of execve: its memory is gone afterwards
    return abi.PLAN.pack(traced, at_entry, at_return, early, counted, *words)


class Tracer:
    """A trace. A context manager; what it counted can be asked for until it is closed."""

    def __init__(self, settings: Settings, plans: Mapping[int, bytes]) -> None:
        """Loads it: `plans` are ``struct tr_plan`` by number. Nothing is attached yet.

        Raises:
            PidwardenError: this kernel does not let us, and why.
        """
        path = object_path("trace")
        check_layouts(path)
        self._object, self._links, self._rings = Object(path), list[Link](), list[RingReader]()
        self._fds: list[int] = []
        self._processors = _processors()
        self._kept: list[tuple[int, bytes]] = []  # by time
        self._kept_bytes, self._until = 0, 0
        try:
            self._object.set_constants(_config(settings))
            self._object.resize("rings", self._processors)
            self._object.resize("threads", settings.threads)
            self._object.load()
            self._maps = {name: self._object.map(name) for name in ("plans", "members", "threads", "totals", "counts")}
            self._state = self._object.map("state")
            self._enlist = runner(self._object.program("enlist"), "enlist")
            self._dismiss = runner(self._object.program("dismiss"), "dismiss")
            self._make_rings(settings.ring_bytes if settings.flags & abi.STREAM else 4096)
            self._set_plans(plans)
        except BaseException:
            self.close()
            raise

    def _make_rings(self, size: int) -> None:
        rings = self._object.map("rings")
        self._poll = select.epoll()
        for cpu in range(self._processors):
            fd = new_ring(f"ring{cpu}", size)
            self._fds.append(fd)
            rings.set(cpu.to_bytes(_WORD, "little"), fd.to_bytes(_WORD, "little"))
            self._rings.append(RingReader(fd, size))
            self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def _set_plans(self, plans: Mapping[int, bytes]) -> None:
        self._plans = dict(plans)
        for nr, plan in plans.items():
            self._maps["plans"].set(nr.to_bytes(_WORD, "little"), with_masks(plan))

    def __enter__(self) -> Self:
        """Attaches it: from now on whoever is enlisted is traced.

        Raises:
            PidwardenError: the kernel refuses.
        """
        try:
            for program, tracepoint in _HOOKS:
                self._links.append(self._object.attach_raw(program, tracepoint))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_why: object) -> None:
        """Detaches and frees it."""
        self.close()

    # -- who ---------------------------------------------------------------------------------------------------------

    def enlist(self, tids: Iterable[int], *, from_exec: bool = False) -> None:
        """Traces these threads; with `from_exec` from their next execve on, which is told of."""
        for tid in tids:
            self._enlist(tid, from_exec)

    def lists(self, tid: int) -> bool:
        """Whether that thread is on the list: it was enlisted, or born to one who was."""
        word = self._maps["members"].get((tid // 64).to_bytes(_WORD, "little")) or b""
        return bool(int.from_bytes(word, "little") >> tid % 64 & 1)

    def dismiss(self, tids: Iterable[int]) -> None:
        """Does not trace these threads any more."""
        for tid in tids:
            self._dismiss(tid)

    def detach(self) -> None:
        """Ends the trace; what was recorded and counted until then can still be read."""
        for link in self._links:
            link.destroy()
        self._links.clear()

    def close(self) -> None:
        """Detaches and frees everything. May be called twice."""
        self.detach()
        for ring in self._rings:
            ring.close()
        self._rings.clear()
        while self._fds:
            os.close(self._fds.pop())
        self._object.close()

    # -- what --------------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Returns after that time, or earlier when a ring begins to fill."""
        with contextlib.suppress(InterruptedError):
            self._poll.poll(seconds)

    def read(self, most: int | None = None) -> list[Event]:
        """What has come, by time. Records of the last millisecond are kept for the next call, or until it is detached.

        Each processor has a ring of its own: only when all were read can be said what came first. Of more than `most`
        records the oldest are given; the others are out of the rings, so that there is room for new ones, as long as
        they do not take too much memory.
        """
        if self._kept_bytes < _BACKLOG_BYTES:
            self._drain()
        end = len(self._kept)
        if self._links:
            while end and self._kept[end - 1][0] > self._until:
                end -= 1
        end = end if most is None else min(end, most)
        ready = self._kept[:end]
        del self._kept[:end]
        self._kept_bytes -= sum(len(data) for _ns, data in ready)
        return [parse(data) for _ns, data in ready]

    def _drain(self) -> None:
        self._until = boot_ns() - _SETTLED_NS
        fresh = [(int.from_bytes(data[:8], "little"), data) for ring in self._rings for data in ring.read()]
        if not fresh:
            return
        self._kept_bytes += sum(len(data) for _ns, data in fresh)
        fresh.sort()
        at = bisect_left(self._kept, fresh[0])  # only the end of a long list has to be put in order
        self._kept[at:] = sorted(self._kept[at:] + fresh)

    def pending(self) -> list[Pending]:
        """The calls that threads sit in now, of those in the stream with their arguments."""
        found = []
        threads = self._maps["threads"]
        for key in keys(threads.fd):
            if value := threads.get(key):
                enter_ns, *args, nr, flags, _lost, _again = abi.THREAD.unpack(value)
                if flags & abi.IN_CALL and threads.get(key) == value:  # else it was just being written
                    found.append(Pending(int.from_bytes(key, "little"), nr, enter_ns, tuple(args)))
        return found

    def met(self) -> set[int]:
        """Threads that have made a call, or returned from one, since they are on the list; or were born."""
        return {int.from_bytes(key, "little") for key in keys(self._maps["threads"].fd)}

    def known(self) -> int:
        """How many threads have made a call, or were born, since they are traced, and have not ended."""
        return sum(1 for _key in keys(self._maps["threads"].fd))

    def totals(self) -> dict[int, Total]:
        """Counts by number, of all who are traced; of calls that were made."""
        found = {}
        for nr in self._plans:
            sums, buckets = Count(), [0] * abi.BUCKETS
            for row in self._each("totals", nr.to_bytes(_WORD, "little"), abi.TOTAL.size):
                calls, errors, ns, longest, lost, *filled = abi.TOTAL.unpack(row)
                sums = sums.plus(Count(calls, errors, ns, longest, lost))
                buckets = [a + b for a, b in zip(buckets, filled, strict=True)]
            if sums.calls or sums.lost:
                found[nr] = Total(sums, tuple(buckets))
        return found

    def by_process(self) -> dict[tuple[int, int], Count]:
        """Counts by (tgid, number). A process id that was given out twice has one count."""
        found = {}
        for key in keys(self._maps["counts"].fd):
            rows = [Count(*abi.COUNT.unpack(row)) for row in self._each("counts", key, abi.COUNT.size)]
            found[abi.WHO.unpack(key)] = reduce(Count.plus, rows)
        return found

    def tallies(self) -> Tallies:
        """What it counted of its own work."""
        rows = (abi.STATE.unpack(row) for row in _rows(self._state.get(bytes(_WORD), self._processors), abi.STATE.size))
        return Tallies(*map(sum, zip(*rows, strict=True)))

    def _each(self, name: str, key: bytes, size: int) -> list[bytes]:
        return _rows(self._maps[name].get(key, self._processors), size)


def _rows(values: bytes | None, size: int) -> list[bytes]:
    """The value of each processor."""
    return [] if values is None else [values[at : at + size] for at in range(0, len(values), size)]
