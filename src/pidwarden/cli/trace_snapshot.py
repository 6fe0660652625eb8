"""The system call that each thread sits in at this moment: what a trace cannot show, as who sits makes no records.

Threads are read one after another in a thread of ours; whom the kernel does not answer for is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.errors import NotPossible
from pidwarden.kernel import evidence, patience, procfs
from pidwarden.model.task import NO_SYSCALL
from pidwarden.model.text import escape
from pidwarden.trace.abi import CALLS, ENTER, RETURN
from pidwarden.trace.event import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pidwarden.model.task import Syscall
    from pidwarden.trace.style import Decoder

HIDDEN = "is not shown"
_LOW = 1 << 32  # who has stack and code below is a 32-bit program


class Sight(NamedTuple):
    """One thread: the call it sits in, or in words why none is shown."""

    tid: int
    pid: int
    comm: str
    nr: int = -1
    args: tuple[int, ...] = ()
    call: str = ""
    where: str = ""  # the kernel's function
    why: str = ""

    def line(self) -> str:
        """For a person."""
        who = f"{self.tid} {self.comm}" if self.tid == self.pid else f"{self.tid} {self.comm} (of {self.pid})"
        if not self.call:
            return f"{who} {self.why}"
        return f"{who} sits in {self.call}" + (f" [{self.where}]" if self.where else "")

    def object(self) -> dict[str, Any]:
        """For a program."""
        found: dict[str, Any] = {"tid": self.tid, "pid": self.pid, "comm": self.comm, "call": self.call or None}
        return found | {"where": self.where or None, "why": self.why or None}


def _nr(call: Syscall) -> int:
    compat = 0 < call.sp < _LOW and 0 < call.pc < _LOW
    return CALLS * compat + call.number


def _look(tid: int, pid: int, decoder: Decoder) -> Sight:
    folder = evidence.path(pid, tid)
    status = evidence.read(f"{folder}/comm")
    comm = escape(status.rstrip(b"\n"))
    call = evidence.syscall(folder)
    if isinstance(call, evidence.Unknown):
        return Sight(tid, pid, comm, why=f"{HIDDEN}: {call.why}")
    where = evidence.wchan(folder)
    place = where if isinstance(where, str) else ""
    if call is None:
        return Sight(tid, pid, comm, why="runs")
    if not call.sp and not call.pc:  # no registers of a program are left, or ever were: noughts, which is no read(2)
        if (stat := procfs.stat(tid)) is not None and stat.state in "ZX":
            return Sight(tid, pid, comm, why=f"has ended and was not waited for; see `pidwarden zombies pid:{pid}`")
        return Sight(tid, pid, comm, why="is a thread of the kernel" + (f" [{place}]" if place else ""))
    if call.number == NO_SYSCALL:
        return Sight(tid, pid, comm, why="sleeps outside of a call" + (f" [{place}]" if place else ""))
    nr = _nr(call)
    event = Event(0, 0, tid, pid, ENTER, nr, 0, 0, 0, 0, call.args, ())
    shown = decoder.arguments(event, event._replace(kind=RETURN, ret=-512)) or ()
    return Sight(tid, pid, comm, nr, call.args, f"{decoder.name(nr)}({', '.join(shown)})", place)


def look(threads: Mapping[int, int], decoder: Decoder) -> tuple[list[Sight], int]:
    """What these threads (tid → pid) sit in, and for how many the kernel did not answer. Who has ended is left out.

    Raises:
        NotPossible: no thread of ours can be started to look.
    """

    def one(tid: int) -> Sight | None:
        try:
            return _look(tid, threads[tid], decoder)
        except OSError:
            return None

    try:
        swept = patience.sweep(list(threads), one)
    except BlockingIOError as why:
        msg = f"cannot look at what threads sit in: {why.strerror}, and that must not wait; see `pidwarden rescue`"
        raise NotPossible(msg) from why
    return [sight for _tid, sight in swept.found if sight is not None], len(swept.lost) + len(swept.left)


def lines(sights: Sequence[Sight], silent: int, most: int = 0) -> list[str]:
    """For a person; of more than `most` those who sit in a call first."""
    shown = sorted(sights, key=lambda s: (not s.call, s.pid, s.tid))[: most or len(sights)]
    out = [sight.line() for sight in shown]
    if more := len(sights) - len(shown):
        out.append(f"… and {more} threads more; `--snapshot` shows all")
    if silent:
        out.append(f"{silent} threads are not shown: the kernel does not answer for them; see `pidwarden stuck`")
    return out
