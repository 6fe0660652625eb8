"""What one thread, or one process, waits for at this moment, and for whom: the links of which chains are made.

Nothing is changed and nobody is stopped. The answer is of a moment: whoever is not stuck may have gone on since.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pidwarden.kernel import blockedcalls, evidence, procfs, vforks
from pidwarden.kernel.evidence import Unknown
from pidwarden.kernel.sight import DEAD, Facts, Told, as_root
from pidwarden.model import calls, syscalls
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.stuck import INTERRUPTIBLE
from pidwarden.model.task import NO_SYSCALL
from pidwarden.model.waiter import Edge, End, Ref, Waiter

if TYPE_CHECKING:
    from pidwarden.kernel.sight import Sight
    from pidwarden.model.task import Status

_SWITCHES = re.compile(rb"\n(?:non)?voluntary_ctxt_switches:\t(\d+)")
_FREEZERS = ("do_freezer_trap", "__refrigerator")
_STATUS_BYTES = 16384
_FUSE = ("request_wait_answer", "fuse_wait_answer")
_EXECS = ("execve", "execveat")
_PROC_FILE = re.compile(r"/(?:(\d+)/)?(?:task/)?(\d+)/\w+$")


def look(sight: Sight, ref: Ref) -> Waiter:
    """What it waits for. Who is gone, or not shown, comes back as such.

    Raises:
        OSError: /proc cannot be listed. BlockingIOError: no thread can be started.
    """
    status = sight.status(ref.pid, ref.tid)
    if status is None:
        return _absent(ref)
    base = Waiter(ref, ProcessKey(ref.pid, 0), sight.comm(ref.pid, ref.tid), status.state)
    stat = _stat(sight, ref.pid)
    if stat:
        base = base._replace(key=ProcessKey(ref.pid, stat.start_ticks * TICK_NS))
    base = base._replace(switches=switches(sight, ref))
    tids = [ref.tid] if ref.tid else sight.living(ref.pid)
    if not tids:
        return _dead(sight, base, status)
    if len(tids) > 1 and status.state != "T":
        return _several(base, tids)
    tid = tids[0]
    if status.state not in "TtD" and sight.is_kernel(ref.pid):
        return base._replace(waits="a thread of the kernel: it waits for work, or does some", end=End.IDLE)
    if tid != (ref.tid or ref.pid):  # the leader is dead, one thread lives
        status = sight.status(ref.pid, tid) or status
        base = base._replace(state=status.state)
    background = bool(stat and stat.tty and stat.tpgid > 0 and stat.pgrp != stat.tpgid)
    told, facts = _thread(sight, Facts(ref, ref.pid, tid, tid, status, background=background))
    return base._replace(
        call=told.call, waits=told.waits, edges=told.edges, partial=told.partial, every=told.every, timed=told.timed,
        end=told.end or (None if told.edges else End.UNTOLD), do=told.do, syscall=facts.name, fd=told.fd,
        target=told.target, wchan=facts.wchan,
    )  # fmt: skip


def switches(sight: Sight, ref: Ref) -> int:
    """How often it gave the processor up or lost it; -1 if it is gone. Of a process: its first living thread."""
    tid = ref.tid or next(iter(sight.living(ref.pid)), ref.pid)
    data = procfs.read_bytes(f"{sight.root}/{ref.pid}/task/{tid}/status", _STATUS_BYTES)
    return sum(map(int, _SWITCHES.findall(data))) if data else -1


def again(sight: Sight, waiter: Waiter) -> Waiter:
    """The same later: gone, or somebody else's number by now, or it has run since; else unchanged."""
    ref = waiter.ref
    if waiter.end in (End.GONE, End.HIDDEN) and not waiter.state:
        return waiter
    stat = None if sight.is_silent(ref.pid) else _stat(sight, ref.pid)
    other = stat is not None and waiter.key.known and stat.start_ticks != waiter.key.start_ticks
    status = sight.status(ref.pid, ref.tid)
    if other or status is None or (status.state in DEAD and waiter.state not in DEAD and waiter.threads == 1):
        return waiter._replace(
            state="", call="", waits="it ended while others were looked at", edges=(), end=End.GONE, do="", more=0
        )
    return waiter._replace(moved=waiter.threads == 1 and switches(sight, ref) != waiter.switches)


def _stat(sight: Sight, pid: int) -> procfs.Stat | None:
    try:
        data = sight.read(f"{sight.root}/{pid}/stat")
        return procfs.parse_stat(data) if data else None
    except (OSError, ValueError):
        return None


# -- whole processes ---------------------------------------------------------------------------------------------------


def _absent(ref: Ref) -> Waiter:
    if procfs.exists(ref.pid):
        why = "/proc does not show it (hidepid, proc(5)): it is another user's"
        return Waiter(ref, waits=why, end=End.HIDDEN, do=as_root(ref.pid))
    return Waiter(ref, waits="it is gone", end=End.GONE)


def _dead(sight: Sight, base: Waiter, status: Status) -> Waiter:
    owes = status.tracer or status.ppid
    who = "its tracer" if status.tracer else "its parent"
    edges = (Edge(sight.ref(owes) or Ref(owes), who),) if owes else ()
    words = f"it has ended; {who} has not taken its status yet"
    return base._replace(waits=words, edges=edges, end=None if edges else End.DEAD, do=f"pidwarden zombies pid:{owes}")


def _several(base: Waiter, tids: list[int]) -> Waiter:
    edges = tuple(Edge(Ref(base.ref.pid, tid), "thread") for tid in tids)
    return base._replace(waits=f"{len(tids)} threads", edges=edges, threads=len(tids))


# -- one thread --------------------------------------------------------------------------------------------------------


def _thread(sight: Sight, facts: Facts) -> tuple[Told, Facts]:
    status = facts.status
    if status.state == "T":
        return _stopped(facts), facts
    if status.state == "t":
        return _traced(sight, facts), facts
    if status.state in DEAD:
        return Told("it has ended", end=End.DEAD), facts
    facts = _asleep(sight, facts)
    if (status.state == "D" or facts.wchan in _FREEZERS) and (told := _frozen(sight, facts)):
        return told, facts
    if status.state == "R" or (facts.call is None and not facts.hidden and not facts.wchan):
        return Told("it computes: nothing is in its way", end=End.RUNS, do=f"top -H -p {facts.pid}"), facts
    within = facts.call is not None and facts.call.number != NO_SYSCALL
    told = _call(sight, facts) if within else _by_function(sight, facts)
    if not told.call and facts.call and within:
        told = told._replace(call=f"{facts.name or facts.call.number}()")
    return told, facts


def _asleep(sight: Sight, facts: Facts) -> Facts:
    folder = evidence.path(facts.pid, facts.tid, sight.root)
    wchan = evidence.wchan(folder, sight.read)
    if isinstance(wchan, Unknown):
        return facts._replace(hidden=_why(sight, facts))
    call = evidence.syscall(folder, sight.read)
    if isinstance(call, Unknown):
        return facts._replace(wchan=wchan or "", hidden=_why(sight, facts))
    name = ""
    if call and call.number != NO_SYSCALL:
        name = syscalls.name_of(call, sight.machine, wchan or "") or calls.name(call.number, sight.machine)
    return facts._replace(wchan=wchan or "", call=call, name=name)


def _why(sight: Sight, facts: Facts) -> str:
    if sight.is_silent(facts.pid):
        return "the kernel does not answer for it, as when it is stuck in the midst of execve"
    return sight.in_the_way(facts.status)


def _stopped(facts: Facts) -> Told:
    if facts.background:
        words = "stopped by a signal, in the background of its terminal"
        return Told(
            words, end=End.STOPPED, do=f"kill -CONT {facts.pid}; or `fg` in its shell, if it wants the terminal"
        )
    return Told("stopped by a signal (SIGSTOP or one like it)", end=End.STOPPED, do=f"kill -CONT {facts.pid}")


def _traced(sight: Sight, facts: Facts) -> Told:
    tracer = sight.ref(facts.status.tracer) if facts.status.tracer else None
    if tracer is None:
        return Told("stopped by a tracer, which is gone or not shown", end=End.UNTOLD)
    return Told("stopped for its tracer", (Edge(tracer, "tracer"),))


def _frozen(sight: Sight, facts: Facts) -> Told | None:
    from pidwarden.kernel import parents  # noqa: PLC0415  (few are)

    freeze = sight.some(lambda: parents.frozen(facts.alive, sight.root), None)
    if freeze is None or (freeze.version > 1 and facts.wchan not in _FREEZERS):
        return None
    value, name = ("0", "cgroup.freeze") if freeze.version > 1 else ("THAWED", "freezer.state")
    words = f"frozen with its cgroup {freeze.asked}"
    return Told(words, end=End.FROZEN, do=f"echo {value} | sudo tee {_quoted(f'{freeze.asked}/{name}')}")


def _quoted(path: str) -> str:
    return path if re.fullmatch(r"[\w@%+=:,./-]+", path, re.ASCII) else "'" + path.replace("'", "'\"'\"'") + "'"


def _call(sight: Sight, facts: Facts) -> Told:
    if facts.name in vforks.CALLS and facts.status.state == "D":
        none: list[int] = []
        children = sight.some(lambda: vforks.children(facts.pid, facts.tid, sight.root), none)
        edges = tuple(Edge(Ref(child), "child") for child in children)
        if edges:
            return Told("waits until its vfork child calls exec, or ends", edges, call=f"{facts.name}()")
    if facts.name in _EXECS:
        from pidwarden.kernel import stuck  # noqa: PLC0415  (few sleep there)

        others = stuck.in_the_way(facts.pid, facts.tid, sight.root)
        edges = tuple(Edge(ref, "in the way") for tid in others if (ref := sight.ref(tid)))
        if edges:
            return Told("waits until its other threads have ended", edges, call=f"{facts.name}()", every=True)
    if facts.status.state == "D" or facts.wchan in INTERRUPTIBLE:
        return _uninterruptible(sight, facts)
    return blockedcalls.told(sight, facts)


def _uninterruptible(sight: Sight, facts: Facts) -> Told:
    fd = calls.descriptor(facts.name, facts.call.args) if facts.call and facts.name else None
    link = sight.link(facts.alive, fd) if fd is not None else ""
    call = f"{facts.name}({fd}{' = ' + link if link else ''})" if fd is not None else ""
    reads = _PROC_FILE.match(link.removeprefix(sight.root)) if link.startswith(sight.root) else None
    if reads and (ref := sight.ref(int(reads[1] or reads[2]))):
        return Told(
            "waits until the kernel may tell of a process", (Edge(ref, "in execve"),), call=call, fd=fd, target=link
        )
    do = f"sudo pidwarden stuck pid:{facts.pid}"
    if facts.wchan in _FUSE and (edges := _daemons(sight, facts, fd)):
        words = "waits for the answer of who serves a FUSE filesystem"
        return Told(words, edges, do=do, call=call, fd=fd, target=link)
    words = f"in the kernel, in {facts.wchan or 'a function that is not shown'}: most signals do not end that"
    return Told(words, end=End.UNINTERRUPTIBLE, do=do, call=call, fd=fd, target=link)


def _daemons(sight: Sight, facts: Facts, fd: int | None) -> tuple[Edge, ...]:
    """Who serves the FUSE filesystem that it waits for: any that it sees, if its call takes a path."""
    from pidwarden.kernel import fuse, surroundings  # noqa: PLC0415  (few sleep there)
    from pidwarden.model.mount import parse_mounts  # noqa: PLC0415

    mounts = parse_mounts(surroundings.read_all(f"{sight.root}/{facts.pid}/mountinfo"))
    numbers = {m.connection for m in mounts if m.is_fuse and fuse.waiting(m.connection) != 0}
    if fd is not None:
        mount = evidence.fdinfo(facts.alive, fd, b"mnt_id", sight.root)
        numbers = {m.connection for m in mounts if m.is_fuse and str(m.number).encode() == mount}
    found: dict[int, Edge] = {}
    for held in sight.holding(fuse.DEVICE):
        served = evidence.fdinfo(held.pid, held.fd, fuse.KEY, sight.root)
        if numbers and (not served or int(served) in numbers):
            sure = bool(served) and fd is not None
            found.setdefault(held.pid, Edge(Ref(held.pid), f"fd {held.fd} = {fuse.DEVICE}", sure))
    return tuple(found[pid] for pid in sorted(found))


def _by_function(sight: Sight, facts: Facts) -> Told:
    """Where the call is not shown, or it is in none: what the kernel function says."""
    if facts.status.state == "D" or facts.wchan in INTERRUPTIBLE:
        return _uninterruptible(sight, facts)
    if not facts.hidden:
        return Told(f"sleeps in {facts.wchan}, in no system call", end=End.UNTOLD)
    do = as_root(facts.pid)
    if sight.is_silent(facts.pid):
        return Told(facts.hidden, end=End.UNINTERRUPTIBLE, do=f"sudo pidwarden stuck pid:{facts.pid}")
    if facts.wchan and (told := blockedcalls.by_function(sight, facts)):
        return told._replace(do=told.do or ("" if told.edges else do))
    where = f"sleeps in {facts.wchan}; " if facts.wchan else ""
    return Told(f"{where}in which call is not shown: {facts.hidden}", end=End.HIDDEN, do=do)
