"""What is known of zombies and of the parent that owes the wait. Values; :mod:`pidwarden.diagnose.zombies` judges."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.key import TICK_NS, ProcessKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pidwarden.model.task import Status, Syscall


class Zombie(NamedTuple):
    """One process in state Z: its pid and its ``stat``, taken apart when asked, as there may be thousands.

    See proc_pid_stat(5). Whoever makes one has seen that the line is whole.
    """

    pid: int
    stat: bytes

    @property
    def fields(self) -> list[bytes]:
        """What follows the name, from the state on: field 3 is the first."""
        return self.stat[self.stat.rindex(b")") + 2 :].split()

    @property
    def comm(self) -> bytes:
        """Its name: bytes its owner chose."""
        return self.stat[self.stat.index(b"(") + 1 : self.stat.rindex(b")")]

    @property
    def ppid(self) -> int:
        """Who owes the wait; 0 is somebody outside of our pid namespace."""
        return int(self.fields[1])

    @property
    def pgrp(self) -> int:
        """Its process group."""
        return int(self.fields[2])

    @property
    def threads(self) -> int:
        """Above 1 only its leader is dead."""
        return int(self.stat[self.stat.rindex(b")") + 2 :].split(None, 18)[17])

    @property
    def key(self) -> ProcessKey:
        """Who it is, for good."""
        return ProcessKey(self.pid, int(self.fields[19]) * TICK_NS)

    @property
    def exit_signal(self) -> int:
        """What its parent is sent; a wait without ``__WALL`` or ``__WCLONE`` passes over any but SIGCHLD."""
        return int(self.fields[35])

    @property
    def exit_code(self) -> int:
        """As wait(2) gives it; 0 for who may not ptrace it, which is not told from success."""
        return int(self.fields[49])


def kinds(zombies: Iterable[Zombie]) -> list[tuple[bytes, int, int]]:
    """What they were: (name, exit code, how many), most first."""
    found = Counter([s[s.index(b"(") + 1 : s.rindex(b")")] + s[s.rindex(b" ") :] for _pid, s in zombies])
    split = [(*kind.rpartition(b" "), n) for kind, n in found.items()]
    return sorted(((name, int(code), n) for name, _space, code, n in split), key=lambda k: (-k[2], k[:2]))


class Holder(NamedTuple):
    """Who has the other end of what a call waits for."""

    pid: int
    comm: bytes


class Sleep(NamedTuple):
    """Where a thread sleeps.

    ``call`` is None while it runs, or where it may not be seen; then ``hidden`` says why. ``name`` is the call's, empty
    if it is none of :mod:`pidwarden.model.syscalls`. ``target`` is what its first argument, a descriptor, leads to, and
    ``holders`` who has the other end, of those that were looked at (``searched``: whether anybody looked).
    """

    call: Syscall | None = None
    name: str = ""
    wchan: str = ""
    hidden: str = ""
    target: str = ""
    holders: Sequence[Holder] = ()
    searched: bool = False
    remark: str = ""  # what else is known of the other end, in words
    awaited: int = 0  # the pid that a wait with a pidfd is for, 0 if not known
    anybody: bool = False  # whether there is no other end: whoever wants may send there


class Thread(NamedTuple):
    """A living thread of a parent. ``state`` is the letter of ``stat``."""

    tid: int
    state: str
    status: Status
    sleep: Sleep = Sleep()


class Freeze(NamedTuple):
    """A frozen cgroup: ``version`` of its hierarchy, its directory, and the one that was asked for (it or above).

    ``whole``: everybody in it is frozen; else somebody in there cannot be yet, who is in state D.
    """

    version: int
    directory: str
    asked: str
    whole: bool = True


class Parent(NamedTuple):
    """What was seen of one parent. ``status`` is its leader's.

    ``waited``: whether it, or the program it was before exec, ever took a child's status: what children cost is added
    to their parent then only (``cminflt`` and ``cutime`` of ``stat``). ``copy``: it never called exec. ``exiting``: it
    has begun to end. ``signalfd``: whether it reads SIGCHLD from a descriptor; None if its descriptors may not be seen.
    ``unseen`` counts threads that were not looked at. ``members``: who is left in its pid namespace, if it is the init
    of one that dies.
    """

    key: ProcessKey
    comm: bytes
    ppid: int
    pgrp: int
    status: Status
    threads: Sequence[Thread]
    unseen: int = 0
    waited: bool = False
    copy: bool = False
    exiting: bool = False
    signalfd: bool | None = None
    freeze: Freeze | None = None
    pidns: int | None = None
    members: Sequence[tuple[int, bytes, str]] = ()  # of its pid namespace: pid, name, state
    cgroup: str = ""
    names: Mapping[int, bytes] = {}  # of processes that are spoken of: awaited children, tracers

    @property
    def running(self) -> bool:
        """Whether any thread of it is on a processor, or waits for one."""
        return any(t.state == "R" for t in self.threads)


class History(NamedTuple):
    """What the guard knows, in ns since boot. ``exec_ns`` of the parent, 0 for never or not known.

    By zombie: when it was born and when it ended; ``own``: those that the parent made itself; ``adopted``: those that
    somebody else made. Where that is a guess, a zombie is in neither.
    """

    exec_ns: int = 0
    born_ns: Mapping[int, int] = {}
    exit_ns: Mapping[int, int] = {}
    own: frozenset[int] = frozenset()
    adopted: frozenset[int] = frozenset()


class Case(NamedTuple):
    """One parent and its zombies. ``parent`` is None where ``why`` says: it is gone, or not in this pid namespace.

    ``zombies`` were there at both looks, ``watched_ns`` apart; ``gone`` only at the first. ``tracers``: by zombie who
    traces it, of the ``asked`` that were looked at. ``living``: by zombie that is only a dead leader its
    living threads, with their states.
    """

    ppid: int
    parent: Parent | None
    zombies: Sequence[Zombie]
    gone: Sequence[Zombie] = ()
    watched_ns: int = 0
    tracers: Mapping[int, int] = {}
    asked: int = 0
    living: Mapping[int, Sequence[tuple[int, str]]] = {}
    history: History | None = None
    why: str = ""
    comm: bytes = b""  # the parent's name, as far as the table has it
