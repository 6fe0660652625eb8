"""Has a living parent wait for its zombies, through ptrace: one of its threads is borrowed for the calls.

The parent never hears of these ends: whoever asks for one of them later gets ECHILD. So zombies that it never made,
but adopted, come first: it cannot be waiting for them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import borrow, evidence, parents, procfs
from pidwarden.kernel.registers import MOST

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pidwarden.model.key import ProcessKey

SECONDS = 10.0  # for one parent in all; twenty thousand take half a second
_PF_KTHREAD = 0x00200000  # include/linux/sched.h; field 9 of stat (proc_pid_stat(5))
_FAITHFUL = 64  # threads that are looked at to find one that waits for something
_FILTER = 2  # of `Seccomp:` in status; 1 is strict


class Taken(NamedTuple):
    """A zombie that the parent was made to wait for. ``status`` as wait(2) has it, None where /proc hides it."""

    key: ProcessKey
    comm: bytes
    status: int | None
    adopted: bool | None  # None: there is no history that tells


class Injection(NamedTuple):
    """What came of it."""

    parent: ProcessKey
    taken: tuple[Taken, ...] = ()
    left: int = 0  # zombies that it still owes a wait
    why: str = ""  # some are left, or all
    singly: str = ""  # why one call was made at a time, where it was
    kept: bool = False  # the parent hangs in the kernel and could not be given back
    ns: int = 0


class _Owed(NamedTuple):
    key: ProcessKey
    number: int  # its pid where the parent is
    comm: bytes
    status: int


def refusal(parent: ProcessKey) -> str:
    """Why this parent is never borrowed, or not as it stands now; empty if nothing speaks against it."""
    pid = parent.tgid
    if pid == 1:
        return "it is process 1 of this machine"
    if pid == os.getpid() or pid in procfs.ancestors(os.getpid()):
        return "it is this program, or has started it"
    if procfs.stat_of(parent) is None:
        return "it is gone"
    return "it is a thread of the kernel" if _flags(pid) & _PF_KTHREAD else _hindrance(pid)


def _hindrance(pid: int) -> str:
    """What of its present state keeps it from being borrowed, or an empty string."""
    status = evidence.status(evidence.path(pid))
    if status is None:
        return "it is gone"
    if status.tracer:
        return f"it is traced by process {status.tracer} already"
    if status.seccomp:
        kind = "a seccomp filter, which may kill it" if status.seccomp == _FILTER else "seccomp's strict mode"
        return f"it runs under {kind} for a call it is not meant to make"
    if status.state in "Tt":
        return f"it is stopped; type `kill -CONT {pid}` first"
    freeze = parents.frozen(pid)
    return f"it is frozen, by {freeze.asked}" if freeze else ""


def inject(  # noqa: PLR0913  (who, whom, how to look, what is known, for how long, and when not)
    parent: ProcessKey,
    zombies: Iterable[ProcessKey],
    read: evidence.Read,
    adopted: Collection[ProcessKey] | None = None,
    seconds: float = SECONDS,
    is_over: Callable[[], bool] = lambda: False,
) -> Injection:
    """Has `parent` wait for those of `zombies` that are its own and still zombies. Whoever calls ends afterwards.

    `adopted` are those it did not make, None if that is not known. `is_over` is asked between portions. The thread that
    runs this is the tracer: it has to end if :attr:`Injection.kept` is true, and should anyway.
    """
    began = time.monotonic()
    todo = sorted(zombies, key=lambda k: (adopted is not None and k not in adopted, k.start_ns, k.tgid))
    taken: list[Taken] = []
    why = singly = ""
    kept = False
    ahead = _Ahead(parent, todo)
    while not ahead.empty:
        if is_over() or time.monotonic() - began > seconds:
            why = "it was ended" if is_over() else f"the time for it, {seconds:g} s, was over"
            break
        if why := refusal(parent):
            break
        owed = ahead.take()
        if not owed:
            continue
        got, why, singly, kept = _portion(parent, owed, read, began + seconds, ahead.look)
        taken += [Taken(o.key, o.comm, o.status, None if adopted is None else o.key in adopted) for o in got]
        if why:
            break
    reaped = {t.key for t in taken}
    left = len(_all_owed(parent, [key for key in todo if key not in reaped]))
    if kept:
        why = "it hangs in the kernel, frozen or stuck; it goes back to what it did when that ends"
    elif left and not why:
        why = "the parent did not get them: somebody traces them, or another thread of it was faster"
    return Injection(parent, tuple(taken), left, why, singly, kept, int((time.monotonic() - began) * 1e9))


class _Ahead:
    """Portions of zombies, each looked at just before its turn: the next one while the parent waits for this one."""

    def __init__(self, parent: ProcessKey, todo: Sequence[ProcessKey]) -> None:
        self._parent, self._todo, self._at = parent, todo, 0
        self._seen: list[_Owed] | None = None

    @property
    def empty(self) -> bool:
        """Whether there are no more."""
        return self._seen is None and self._at >= len(self._todo)

    def look(self) -> None:
        """Looks at the next portion."""
        if self._seen is None and not self.empty:
            self._seen = _all_owed(self._parent, self._todo[self._at : self._at + MOST])
            self._at += MOST

    def take(self) -> list[_Owed]:
        """The next portion, those of it that are to be waited for."""
        self.look()
        found, self._seen = self._seen or [], None
        return found


def _portion(
    parent: ProcessKey, owed: Sequence[_Owed], read: evidence.Read, end: float, meanwhile: Callable[[], None]
) -> tuple[list[_Owed], str, str, bool]:
    """Those it got, why not all, why singly, and whether the thread hangs."""
    why = "no thread of it can be borrowed: all are stuck in the kernel (D state)"
    for tid in _willing(parent.tgid, read):
        thread: borrow.Borrowed | None = None
        try:
            thread = borrow.Borrowed(parent.tgid, tid, read)
            with thread:
                # Only now is it certain that the thread is of that process, and stays it.
                if procfs.stat_of(parent) is None or not os.path.exists(f"{procfs.PROC}/{parent.tgid}/task/{tid}"):
                    return [], "it is gone", "", False
                numbers = set(thread.wait_for([o.number for o in owed], end, meanwhile))
        except borrow.RefusedError as refused:
            why = f"thread {tid}: {refused}"
            continue
        except borrow.LostError:
            return _gone(parent, owed), "it ended meanwhile", "", bool(thread and thread.kept)
        return [o for o in owed if o.number in numbers], "", thread.singly, thread.kept
    return [], why, "", False


def _gone(parent: ProcessKey, owed: Sequence[_Owed]) -> list[_Owed]:
    """Those that are no zombies any more while the parent lives: they were taken."""
    if procfs.has_ended(parent):
        return []
    still = {o.key for o in _all_owed(parent, [o.key for o in owed])}
    return [o for o in owed if o.key not in still]


def _willing(pid: int, read: evidence.Read) -> list[int]:
    """Up to three threads to borrow, the best first: one that waits for something, then one that computes."""
    found = []
    for tid in evidence.threads(pid)[:_FAITHFUL]:
        folder = evidence.path(pid, tid)
        status = evidence.status(folder)
        if status is None or status.tracer or status.state not in "SR":
            continue
        waits = status.state == "S" and not isinstance(evidence.syscall(folder, read), evidence.Unknown)
        found.append((not waits, tid != pid, tid))
        if waits and len(found) > 2:  # noqa: PLR2004
            break
    return [tid for _computes, _leads, tid in sorted(found)[:3]]


def _depth(pid: int) -> int:
    """How many pid namespaces below ours a process is."""
    status = evidence.status(evidence.path(pid))
    return max(len(status.nspid) - 1, 0) if status else 0


def _flags(pid: int) -> int:
    data = procfs.read_bytes(f"{procfs.PROC}/{pid}/stat")
    return int(data[data.rindex(b")") + 2 :].split()[6]) if data else 0


def _all_owed(parent: ProcessKey, keys: Iterable[ProcessKey]) -> list[_Owed]:
    """Those of them that still are zombies, without living threads, and this parent's."""
    depth = _depth(parent.tgid)
    return [owed for key, data in procfs.stats_of(keys) if (owed := _owed(parent, key, depth, data))]


def _owed(parent: ProcessKey, key: ProcessKey, depth: int, data: bytes) -> _Owed | None:
    end = data.rindex(b")")
    rest = data[end + 2 :].split()
    if rest[0] != b"Z" or int(rest[1]) != parent.tgid or int(rest[17]) > 1 or int(rest[19]) != key.start_ticks:
        return None
    number = key.tgid
    if depth:
        status = evidence.status(evidence.path(key.tgid))
        if status is None or len(status.nspid) <= depth:
            return None
        number = status.nspid[depth]
    return _Owed(key, number, data[data.index(b"(") + 1 : end], int(rest[49]))
