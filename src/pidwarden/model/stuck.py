"""What is known of a thread that does not wake up, and of what it may wait for. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pidwarden.model.mount import Mount

SIGKILL = 9
# Where a thread sleeps in state S, though nothing but an answer wakes it: a signal is taken, and it sleeps on.
INTERRUPTIBLE = frozenset(("request_wait_answer", "fuse_get_req", "handle_userfault"))


class Someone(NamedTuple):
    """A process or thread that others wait for. ``state`` is empty where it is not known."""

    pid: int
    comm: bytes
    state: str = ""


class Blocker(NamedTuple):
    """What the kernel's log said of a task that hung: the kind of lock, and who owns it."""

    lock: str
    owner: Someone


class Thread(NamedTuple):
    """One thread that looks stuck, with all that the kernel told of it.

    ``functions`` are those of the kernel it sleeps in, innermost first: the whole stack as root, else one (``wchan``).
    ``start_ns`` is ns since boot, 0 if it is not known.
    """

    pid: int
    tid: int
    comm: bytes
    state: str
    uid: int
    ppid: int
    kernel: bool = False
    start_ns: int = 0
    functions: tuple[str, ...] = ()
    whole: bool = False  # whether those are all of its stack
    blind: str = ""  # why no function is known
    call: str = ""  # the name of its system call, or its number
    path_hidden: bool = False  # whether the call takes a path, which is in its memory
    descriptor: int | None = None
    target: str = ""  # what that descriptor leads to
    mount: Mount | None = None  # where that file is
    mounts: tuple[Mount, ...] = ()  # all that it sees
    kill_pending: bool = False
    same: bool = True  # whether both looks found it in one and the same sleep
    asleep_ns: int | None = None  # since it last ran, at least
    silent: bool = False  # the kernel does not answer for it: somebody holds its exec_update_lock
    waits_for: tuple[Someone, ...] = ()  # a vfork child, a tracer, a dead thread's tracer
    cgroup: str = ""  # the directory of the frozen v1 cgroup it is in
    blocker: Blocker | None = None


class Connection(NamedTuple):
    """A FUSE connection. ``waiting``: requests that are not answered, None if it cannot be read."""

    waiting: int | None
    holders: tuple[Someone, ...]
    exact: bool  # whether those hold this very connection; else they hold some
    shown: bool = True  # whether fusectl is mounted and shows it


class World(NamedTuple):
    """What is known beside the threads."""

    connections: Mapping[int, Connection]  # by number
    suspended: Mapping[str, str]  # device-mapper devices that are suspended, by major:minor, their names
    own_mounts: tuple[int, ...] = ()  # the mounts that we see ourselves, by number
    blind: tuple[str, ...] = ()  # what could not be learnt, and how to know it


NOTHING = World({}, {})
