"""For whom a thread waits, by the system call it sleeps in: children, locks in memory, times, signals, descriptors.

What it does with one descriptor is told by :mod:`pidwarden.kernel.blockedfd`.
"""

from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING

from pidwarden.kernel import blockedfd, evidence, futexowner, loops, since
from pidwarden.kernel.procfs import read_bytes
from pidwarden.kernel.sight import Facts, Told
from pidwarden.model import syscalls
from pidwarden.model.syscalls import signed
from pidwarden.model.waiter import Edge, End, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pidwarden.kernel.sight import Sight
    from pidwarden.model.task import Status

_WNOTHREAD, _WALL = 0x20000000, 0x40000000  # include/uapi/linux/wait.h
_P_ALL, _P_PID, _P_PGID, _P_PIDFD = range(4)
_CLOCKS = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME", 11: "CLOCK_TAI"}
_ABSOLUTE = 1  # TIMER_ABSTIME
_ACCESS = {0: ("O_RDONLY", "write into it"), 1: ("O_WRONLY", "read from it"), 2: ("O_RDWR", "open it")}
_PATH_BYTES = 256


def told(sight: Sight, facts: Facts) -> Told:
    """What a thread that sleeps in a system call waits for."""
    name = facts.name
    if name in _HOW:
        return _HOW[name](sight, facts)
    if name in loops.CALLS:
        return loops.told(sight, facts)
    if name in futexowner.CALLS:
        return futexowner.told(sight, facts)
    if name in blockedfd.CALLS:
        return blockedfd.told(sight, facts)
    where = f" (in {facts.wchan})" if facts.wchan else ""
    words = "in a call that is not followed" if name else "in a call that has no name here"
    return Told(words + where, end=End.UNTOLD, do=f"sudo pidwarden stuck pid:{facts.pid}")


def by_function(sight: Sight, facts: Facts) -> Told | None:
    """The same by the kernel's function, where the call is not shown; None if it says too little."""
    if facts.wchan == "do_wait":
        children = {p: s for p, s in sight.children(facts.pid).items() if sight.living(p)}
        edges = tuple(Edge(Ref(p), "child", sure=len(children) == 1) for p in children)
        return Told("waits for a child; for which one is not shown", edges) if edges else None
    if "nanosleep" in facts.wchan:
        return Told(f"sleeps; for how long is not shown: {facts.hidden}", end=End.SLEEPS)
    if "pipe_" in facts.wchan:
        return blockedfd.only_pipe(sight, facts)
    return None


# -- children ----------------------------------------------------------------------------------------------------------


def _wait4(sight: Sight, facts: Facts) -> Told:
    assert facts.call
    number, options = signed(facts.call.args[0]), facts.call.args[2]
    if number > 0:
        return _for_children(sight, facts, _P_PID, number, options)
    return _for_children(sight, facts, _P_ALL if number == -1 else _P_PGID, -number, options)


def _waitid(sight: Sight, facts: Facts) -> Told:
    assert facts.call
    kind, number, options = signed(facts.call.args[0]), signed(facts.call.args[1]), facts.call.args[3]
    return _for_children(sight, facts, kind, number, options)


def _for_children(sight: Sight, facts: Facts, kind: int, number: int, options: int) -> Told:
    call, words = _wait_words(facts, kind, number)
    if kind == _P_PIDFD:
        pid = blockedfd.pid_of(sight, facts.alive, number)
        return Told(words, (Edge(Ref(pid), "child"),) if pid else (), call=call, fd=number)
    candidates = sight.children(facts.pid, facts.tid if options & _WNOTHREAD else 0)
    found = _meant(sight, facts, candidates, kind, number)
    if options & _WALL or not found:  # it may be a tracer, whom tracees answer like children
        tracees = {p: s for p, s in sight.everybody().items() if s.tracer in (facts.pid, facts.tid)}
        found |= _meant(sight, facts, tracees, kind, number)
    edges = tuple(
        Edge(Ref(pid), "child" if pid in candidates else "whom it traces") for pid in sorted(found) if sight.living(pid)
    )
    if not edges:
        if dead := sorted(found):
            return Told(f"{words}, who has ended: it is about to wake, or another wait is in the way", call=call,
                        end=End.UNTOLD, do=f"pidwarden zombies pid:{facts.pid}", target=str(dead[0]))  # fmt: skip
        return Told(f"{words}, of whom none is seen: it is about to wake", call=call)
    left = [pid for pid in candidates if pid not in found and not sight.living(pid)]
    if left:
        words = f"has children that ended and that it does not wait for (`pidwarden zombies pid:{facts.pid}`); {words}"
    return Told(words, edges, call=call)


def _wait_words(facts: Facts, kind: int, number: int) -> tuple[str, str]:
    if facts.name == "waitid":
        name = {_P_ALL: "P_ALL", _P_PID: "P_PID", _P_PGID: "P_PGID", _P_PIDFD: "P_PIDFD"}.get(kind, str(kind))
        call = f"waitid({name}, {number})"
    else:
        call = f"{facts.name}({number if kind == _P_PID else -1 if kind == _P_ALL else -number})"
    if kind == _P_ALL:
        return call, "waits for a child, any of"
    if kind == _P_PGID:
        return call, f"waits for a child of process group {number}" if number else "waits for a child of its own group"
    return call, "waits for its child"


def _meant(
    sight: Sight, facts: Facts, among: Mapping[int, Status], kind: int, number: int
) -> dict[int, Status]:  # as the namespace of who waits numbers them
    depth = max(1, len(facts.status.nspid))
    if kind == _P_PID:
        return {p: s for p, s in among.items() if number == (s.nspid[depth - 1] if len(s.nspid) >= depth else p)}
    if kind == _P_PGID:
        group = number or sight.group(facts.pid, depth)
        return {p: s for p, s in among.items() if sight.group(p, depth) == group}
    return dict(among)


# -- times and signals -------------------------------------------------------------------------------------------------


def _sleep(sight: Sight, facts: Facts) -> Told:
    assert facts.call
    clock, absolute, at = "", False, facts.call.args[0]
    if facts.name == "clock_nanosleep":
        clock, absolute = _CLOCKS.get(signed(facts.call.args[0]), "a clock"), bool(facts.call.args[1] & _ABSOLUTE)
        at = facts.call.args[2]
    data = "" if syscalls.is_32_bit(facts.call) else sight.memory(facts.alive, at, 16)
    if isinstance(data, str) or len(data) < 16:  # noqa: PLR2004  (struct timespec)
        return Told("sleeps; for how long is not shown", end=End.SLEEPS, call=f"{facts.name}({clock})", timed=True)
    seconds, ns = struct.unpack("=qq", data)
    span = f"{seconds + ns / 1e9:g} s"
    call = f"{facts.name}({clock + ', ' if clock else ''}{'until ' if absolute else ''}{span})"
    if absolute:
        with contextlib.suppress(OSError):
            left = max(0, seconds + ns / 1e9 - time.clock_gettime(signed(facts.call.args[0])))
            return Told(f"sleeps for another {left:.1f} s", end=End.SLEEPS, call=call, timed=True)
        return Told(f"sleeps until {clock} is {span}", end=End.SLEEPS, call=call, timed=True)
    asleep = _asleep(sight, facts)
    words = f"sleeps for {span}" + (f", of which {asleep:.0f} s have passed at least" if asleep >= 1 else "")
    return Told(words, end=End.SLEEPS, call=call, timed=True)


def _asleep(sight: Sight, facts: Facts) -> float:
    """For how many seconds it has slept, at least; 0 if that is not known."""
    folder = evidence.path(facts.pid, facts.tid, sight.root)
    ran = since.last_ran_ns(folder)
    try:
        fields = sight.read(f"{folder}/stat").rpartition(b")")[2].split()
        processor = int(fields[36])
        now = since.now_ns([processor]).get(processor)
    except (OSError, ValueError, IndexError):
        return 0
    return max(0, now - ran) / 1e9 if now and ran else 0


def _restarted(sight: Sight, facts: Facts) -> Told:
    """After a stop the kernel takes up sleeps, polls and futexes without their arguments (restart_syscall(2))."""
    del sight
    if "nanosleep" in facts.wchan:
        return Told("sleeps (taken up after a stop); for how long is not shown", end=End.SLEEPS, timed=True)
    what = "futex" if "futex" in facts.wchan else "poll" if "poll" in facts.wchan else facts.wchan
    return Told(f"in {what}, taken up after a stop: for what is not shown", end=End.UNTOLD, timed=True)


def _signal(_sight: Sight, facts: Facts) -> Told:
    timed = facts.name == "rt_sigtimedwait" and facts.call is not None and bool(facts.call.args[2])
    words = "waits for a signal, from whoever may send it one"
    return Told(words, end=End.SIGNAL, call=f"{facts.name}()", timed=timed)


# -- others ------------------------------------------------------------------------------------------------------------


def _semaphore(sight: Sight, facts: Facts) -> Told:
    assert facts.call
    number = signed(facts.call.args[0])
    queue = facts.name.startswith("msg")
    what, letter = ("System V message queue", "q") if queue else ("System V semaphore set", "s")
    words = f"waits for {what} {number}; it has no owner: the kernel keeps only who used it last"
    if queue and (last := _last_of_queue(sight, number, sends=facts.name == "msgsnd")):
        words += f" ({last})"
    return Told(words, end=End.UNTOLD, do=f"ipcs -{letter} -i {number}", call=f"{facts.name}({number})")


def _last_of_queue(sight: Sight, number: int, *, sends: bool) -> str:
    """Who took from a queue last, or put something in (proc_sysvipc(5)); empty if that is not shown."""
    lines = (read_bytes(f"{sight.root}/sysvipc/msg", 1 << 16) or b"").decode("ascii", "replace").split("\n")
    rows = [dict(zip(lines[0].split(), line.split(), strict=False)) for line in lines[1:]]
    row = next((r for r in rows if r.get("msqid") == str(number)), {})
    pid = row.get("lrpid" if sends else "lspid", "0")
    return f"pid {pid}" if pid != "0" else ""


def _open(sight: Sight, facts: Facts) -> Told:
    assert facts.call
    at = 0 if facts.name == "open" else 1
    data = sight.memory(facts.alive, facts.call.args[at], _PATH_BYTES)
    path = data.split(b"\0")[0].decode("utf-8", "surrogateescape") if isinstance(data, bytes) else ""
    shown = f'"{path}"' if path else "a path that is not shown"
    if "wait_for_partner" not in facts.wchan and "fifo_open" not in facts.wchan:
        where = f" (in {facts.wchan})" if facts.wchan else ""
        do = f"sudo pidwarden stuck pid:{facts.pid}"
        return Told(f"opens it{where}", end=End.UNTOLD, do=do, call=f"{facts.name}({shown})", target=path)
    flags, other = "", "open its other end"
    if facts.name != "openat2":
        flags, other = _ACCESS.get(facts.call.args[at + 1] & 3, ("", other))
    call = f"{facts.name}({shown}{', ' + flags if flags else ''})"
    words = f"opens a fifo, and waits for somebody to open it who will {other}: nobody has"
    if flags == "O_RDWR" or not flags:
        words = "opens a fifo, and waits for somebody to open its other end: nobody has"
    return Told(words, end=End.NOBODY, do="start who should open its other end", call=call, target=path)


_HOW: dict[str, Callable[[Sight, Facts], Told]] = {
    "wait4": _wait4,
    "waitpid": _wait4,
    "waitid": _waitid,
    "nanosleep": _sleep,
    "clock_nanosleep": _sleep,
    "restart_syscall": _restarted,
    **dict.fromkeys(("pause", "rt_sigsuspend", "rt_sigtimedwait"), _signal),
    **dict.fromkeys(("semop", "semtimedop", "msgsnd", "msgrcv"), _semaphore),
    **dict.fromkeys(("open", "openat", "openat2"), _open),
}
