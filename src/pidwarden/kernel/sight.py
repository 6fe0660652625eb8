"""How others are looked at without waiting for any of them: their files, links, memory, descriptors, children.

``status``, ``statm``, ``comm``, ``sched``, ``cgroup``, ``fdinfo``, ``children`` and the lists of threads and of
descriptors are read at once; all else through :mod:`pidwarden.kernel.patience`, and no more of who did not answer.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pidwarden.kernel import evidence, patience, peek
from pidwarden.kernel.holders import Holders
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model.waiter import Edge, End, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.kernel.holders import Held
    from pidwarden.model.task import Status, Syscall

T = TypeVar("T")
_YAMA = "sys/kernel/yama/ptrace_scope"
_OWNER = re.compile(r"/(\d+)(?:/|$)")
_SECONDS = 0.5  # for a file; a machine that is short of processors takes its time
_STATUS_BYTES = 16384
DEAD = "ZX"
_MOST_HELD = 256  # descriptors that are looked at again


class Facts(NamedTuple):
    """What is known of one thread. ``hidden``: why its system call is not; ``name`` is empty then, or outside of one.

    ``alive`` is a thread of it that has descriptors: its leader may be dead.
    """

    ref: Ref
    pid: int
    tid: int
    alive: int
    status: Status
    wchan: str = ""
    call: Syscall | None = None
    name: str = ""
    hidden: str = ""
    tty: int = 0
    background: bool = False  # not in the foreground group of its terminal


class Told(NamedTuple):
    """What is told of a wait; as in :class:`pidwarden.model.waiter.Waiter`."""

    waits: str = ""
    edges: tuple[Edge, ...] = ()
    end: End | None = None
    do: str = ""
    call: str = ""
    every: bool = False
    timed: bool = False
    fd: int | None = None
    target: str = ""
    partial: bool = False


def as_root(pid: int) -> str:
    """What to type to see more; empty if we are root, and there is no more to be seen."""
    return f"sudo pidwarden trace --why {pid}" if os.geteuid() else ""


def _any(path: str) -> bytes:
    """A link, memory, or a file, by the path: one thread for all of them."""
    name = path.rpartition("/")[2]
    if name.startswith("mem:") or name == "maps":
        return peek.asked(path)
    return os.fsencode(os.readlink(path)) if name.isdecimal() else evidence.read(path)


class Sight:
    """One look at some processes. What it could not learn is in ``notes``, for a person."""

    def __init__(self, asked: Sequence[int] = (), root: str = PROC) -> None:
        self.root, self.machine = root, os.uname().machine
        self._asked = asked
        self._silent: set[tuple[int, bool]] = set()  # of which processes; whether it is about memory
        self._reader = patience.Reader(_SECONDS, _any)
        self.holders = Holders(self._near, root)
        self._everybody: dict[int, Status] | None = None

    # -- one process -----------------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes:
        """A :data:`pidwarden.kernel.evidence.Read`."""
        about = int(match[1]) if (match := _OWNER.search(path, len(self.root))) else 0
        which = about, "mem:" in path or path.endswith("/maps")
        if which in self._silent:
            raise TimeoutError
        try:
            return self._reader(path)
        except TimeoutError:
            self._silent.add(which)
            raise

    def close(self) -> None:
        """Ends what it keeps running."""
        self._reader.close()

    def memory(self, pid: int, address: int, size: int) -> bytes | str:
        """So many bytes of its memory; in words why not."""
        try:
            return peek.memory(self.read, pid, address, size, self.root)
        except PermissionError:
            return "its memory may not be read: it takes the right to trace it (ptrace(2))"
        except TimeoutError:
            return "its memory was not read: somebody holds the lock of it"
        except OSError as why:
            return f"its memory was not read: {why.strerror or why}"

    def shares(self, pid: int, address: int, other: int) -> bool | None:
        """Whether another process has that memory too; None if that is not shown."""
        try:
            what = peek.mapped(self.read, pid, address, self.root)
            return what != ("", "") and peek.maps_it(self.read, other, what, self.root)
        except OSError:
            return None

    def link(self, pid: int, fd: int) -> str:
        """Where a descriptor leads; empty if that is not shown."""
        try:
            return os.fsdecode(self.read(f"{self.root}/{pid}/fd/{fd}"))
        except OSError:
            return ""

    def some(self, look: Callable[[], T], default: T) -> T:
        """What a look at something that may not answer finds; the default if it does not."""
        found = patience.sweep([0], lambda _: look(), _SECONDS).found
        return found[0][1] if found else default

    def is_silent(self, pid: int) -> bool:
        """Whether the kernel did not answer for it."""
        return (pid, False) in self._silent

    # -- who is who ------------------------------------------------------------------------------------------------

    def status(self, pid: int, tid: int = 0) -> Status | None:
        """``status``; None if it is gone or hidden."""
        return evidence.status(evidence.path(pid, tid, self.root))

    def comm(self, pid: int, tid: int = 0) -> bytes:
        """Its name."""
        return (read_bytes(f"{evidence.path(pid, tid, self.root)}/comm", 64) or b"").removesuffix(b"\n")

    def is_kernel(self, pid: int) -> bool:
        """Whether it is a thread of the kernel."""
        return evidence.is_kernel(read_bytes(f"{self.root}/{pid}/status", _STATUS_BYTES) or b"\nVmSize:")

    def living(self, pid: int) -> list[int]:
        """The threads of a process that have not ended."""
        tids = evidence.threads(pid, self.root)
        return [t for t in tids if (status := self.status(pid, t)) and status.state not in DEAD]

    def ref(self, tid: int) -> Ref | None:
        """A thread by its number: its process, if it is the only one there; None if there is none."""
        status = self.status(tid)
        if status is None:
            return None
        alone = status.threads == 1 or len(self.living(status.tgid)) <= 1
        return Ref(status.tgid) if alone else Ref(status.tgid, tid)

    def named(self, number: int, like: Status, among: Sequence[int] = ()) -> int:
        """The thread or process that has this number in the pid namespace of another one; 0 if there is none.

        `among` are the threads to be looked at, if it is one of those.
        """
        depth = len(like.nspid)
        if depth <= 1:
            return number if self.status(number) else 0
        found = {t: s for t in among if (s := self.status(t))} if among else self.everybody()
        return next((t for t, s in found.items() if len(s.nspid) >= depth and s.nspid[depth - 1] == number), 0)

    def everybody(self) -> dict[int, Status]:
        """The ``status`` of all processes, read once."""
        if self._everybody is None:
            pids = [int(name) for name in os.listdir(self.root) if name.isdecimal()]
            self._everybody = {pid: status for pid in pids if (status := self.status(pid))}
        return self._everybody

    def children(self, pid: int, tid: int = 0) -> dict[int, Status]:
        """The children of a process, or of one thread, with their ``status``."""
        tids = [tid] if tid else evidence.threads(pid, self.root)
        born: list[int] = []
        for one in tids:
            try:
                with open(f"{self.root}/{pid}/task/{one}/children", "rb") as file:
                    born += map(int, file.read().split())
            except FileNotFoundError:  # or a kernel that was built without it
                if os.path.exists(f"{self.root}/{pid}/task/{one}/status"):
                    return {p: s for p, s in self.everybody().items() if s.ppid == pid}
            except OSError:
                continue
        return {child: status for child in sorted(born) if (status := self.status(child))}

    def group(self, pid: int, depth: int) -> int:
        """Its process group, as the pid namespace of that depth numbers it; 0 if it is gone."""
        data = read_bytes(f"{self.root}/{pid}/status", _STATUS_BYTES) or b""
        at = data.find(b"\nNSpgid:")
        numbers = data[at + 8 :].split(b"\n", 1)[0].split() if at >= 0 else []
        return int(numbers[depth - 1]) if len(numbers) >= depth else 0

    def holding(self, link: str) -> list[Held]:
        """Every descriptor that leads there, and still does.

        Raises:
            OSError: /proc cannot be listed. BlockingIOError: no thread can be started.
        """
        found = self.holders.of(link)
        return [held for held in found[:_MOST_HELD] if self.link(held.pid, held.fd) == link] + found[_MOST_HELD:]

    def _near(self) -> list[int]:
        """Who is asked about, and their parents and children."""
        found = dict.fromkeys(self._asked)
        for pid in self._asked:
            if status := self.status(pid):
                found.update(dict.fromkeys([status.ppid, *self.children(status.tgid), *self.children(status.ppid)]))
        return list(found)

    # -- rights ----------------------------------------------------------------------------------------------------

    def in_the_way(self, status: Status) -> str:
        """Which right is missing to look closer at it, in words."""
        own = os.geteuid()
        if own == 0:
            return "it takes the right to trace it (ptrace(2)), and it has a capability that we lack"
        if own != status.euid or own != status.uid:
            return f"it runs as another user (uid {status.euid}), and only root may look closer"
        scope = (read_bytes(f"{self.root}/{_YAMA}") or b"").strip().decode()
        if scope not in ("", "0"):
            return (
                f"kernel.yama.ptrace_scope is {scope}: even one's own processes are root's to look at, but for children"
            )
        return "it takes the right to trace it (ptrace(2)), and it changed its user or is in another user namespace"
