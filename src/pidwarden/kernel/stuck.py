"""Finds the threads that look stuck, in two looks, and reads what the kernel tells of each. Waits for none of them.

The first look takes ``status`` alone, which no kernel holds back. What may not be answered is read within
:func:`pidwarden.kernel.patience.sweep`.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import cgroup, evidence, freezer, since, surroundings, vforks
from pidwarden.kernel.evidence import Unknown
from pidwarden.kernel.patience import sweep
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model import calls
from pidwarden.model.key import TICK_NS
from pidwarden.model.mount import Mount, parse_mounts
from pidwarden.model.stuck import INTERRUPTIBLE, SIGKILL, Someone, Thread, World
from pidwarden.model.task import NO_SYSCALL, parse_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    _Mounts = dict[tuple[str, str], tuple[Mount, ...]]  # by mount namespace and root directory

LOOK_SECONDS = 0.2  # between the looks: what waits for a disk that works has woken by then
_STATUS_BYTES = 16384
_CGROUPS = ("cgroup", "proc_cgroup", "freezer_")  # wait for a lock of all cgroups, uninterruptibly
_SWITCHES = re.compile(rb"\n(?:non)?voluntary_ctxt_switches:\t(\d+)")


class Glimpse(NamedTuple):
    """A thread that is to be looked at more closely, and its ``status`` at the first look."""

    pid: int
    tid: int
    data: bytes
    kernel: bool
    same: bool = True  # whether it has not run since the first look

    @property
    def is_d(self) -> bool:
        """Whether its state was D."""
        return b"\nState:\tD" in self.data

    @property
    def folder(self) -> str:
        """Below /proc."""
        return f"{self.pid}/task/{self.tid}"


class Found(NamedTuple):
    """The threads, what else was seen, and of how many threads."""

    threads: list[Thread]
    world: World
    seen: int


class _Detail(NamedTuple):
    """What a thread's files tell, and the processor and its clock when it last ran."""

    thread: Thread
    processor: int | None
    ran_ns: int | None


def look(root: str = PROC, seconds: float = LOOK_SECONDS) -> Found:
    """Both looks.

    Raises:
        OSError: /proc cannot be listed.
        BlockingIOError: no thread can be started.
    """
    kernels, sleepers, seen = _first(root)
    blind: list[str] = []
    answers = sweep(sorted(_by_process(sleepers).items()), lambda item: _sleeps(item[1], root))
    chosen = [g for _item, found in answers.found for g in found]
    silent = [g for _pid, them in answers.lost for g in them]
    if answers.left:
        blind.append(f"{len(answers.left)} processes were not looked at: too many do not answer")
        chosen += [g for _pid, them in answers.left for g in them if g.is_d]
    chosen += kernels
    if chosen:
        time.sleep(seconds)
    chosen = [again for g in chosen if (again := _again(g, root))]
    known: _Mounts = {}
    machine = os.uname().machine
    details = sweep(chosen, lambda g: _detail(g, machine, known, root))
    silent += details.lost
    found = [detail for _glimpse, detail in details.found if detail]
    found += [detail for g in silent if (detail := _silent(g, root))]
    processors = {d.processor for d in found if d.ran_ns}
    clocks = since.now_ns(os.sched_getaffinity(0) if None in processors else (p for p in processors if p is not None))
    threads = [_aged(d, clocks) for d in found]
    threads = _with_cgroups(threads, blind, root)
    world = surroundings.world(threads, blind, root)
    threads = surroundings.with_blockers(threads, blind)
    return Found(threads, world._replace(blind=tuple(blind)), seen)


# -- the looks ---------------------------------------------------------------------------------------------------------


def _first(root: str) -> tuple[list[Glimpse], list[Glimpse], int]:
    """Threads of the kernel in state D, all others that sleep, and how many threads there are."""
    kernels: list[Glimpse] = []
    sleepers: list[Glimpse] = []
    seen = 0
    for name in os.listdir(root):
        if not name.isdecimal():
            continue
        leader = read_bytes(f"{root}/{name}/status", _STATUS_BYTES)
        if not leader:
            continue
        tids = [name]
        if b"\nThreads:\t1\n" not in leader:
            tids = [str(tid) for tid in evidence.threads(int(name), root)] or tids
        for tid in tids:
            seen += 1
            own = tid == name
            data = leader if own else read_bytes(f"{root}/{name}/task/{tid}/status", _STATUS_BYTES)
            at = data.find(b"\nState:\t") if data else -1
            if not data or at < 0 or data[at + 8] not in b"DS":
                continue
            is_kernel = evidence.is_kernel(data)
            if is_kernel and data[at + 8] != ord("D"):
                continue
            (kernels if is_kernel else sleepers).append(Glimpse(int(name), int(tid), data, is_kernel))
    return kernels, sleepers, seen


def _switches(status: bytes) -> int:
    """How often it gave the processor up or lost it: the same twice means that it has not run in between."""
    return sum(map(int, _SWITCHES.findall(status)))


def _by_process(them: Iterable[Glimpse]) -> dict[int, list[Glimpse]]:
    found: dict[int, list[Glimpse]] = {}
    for glimpse in them:
        found.setdefault(glimpse.pid, []).append(glimpse)
    return found


def _sleeps(them: Sequence[Glimpse], root: str) -> list[Glimpse]:
    """Those of a process in state D, or where nothing but an answer wakes them. May wait."""
    found = []
    for glimpse in them:
        where = read_bytes(f"{root}/{glimpse.folder}/wchan", 256) or b""
        if glimpse.is_d or where.decode("ascii", "replace") in INTERRUPTIBLE:
            found.append(glimpse)
    return found


def _again(glimpse: Glimpse, root: str) -> Glimpse | None:
    """The same thread later; None if it is gone, or neither in D nor as it was."""
    data = read_bytes(f"{root}/{glimpse.folder}/status", _STATUS_BYTES) or b""
    again = glimpse._replace(data=data, same=_switches(data) == _switches(glimpse.data))
    return again if again.is_d or (not glimpse.is_d and b"\nState:\tS" in data) else None


# -- one thread --------------------------------------------------------------------------------------------------------


def _detail(glimpse: Glimpse, machine: str, known: _Mounts, root: str) -> _Detail | None:
    """All that its files tell; None if it is gone, or somebody else has its number. May wait."""
    folder = f"{root}/{glimpse.folder}"
    data = read_bytes(f"{folder}/stat")
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    thread = _base(glimpse, root)
    if thread is None:
        return None
    thread = thread._replace(start_ns=int(fields[19]) * TICK_NS)
    wchan, stack = evidence.wchan(folder), evidence.stack(folder)
    if stack and not isinstance(stack, Unknown):
        thread = thread._replace(functions=stack, whole=True)
    elif isinstance(wchan, str):
        thread = thread._replace(functions=(wchan,))
    else:
        why = (
            wchan
            if isinstance(wchan, Unknown)
            else Unknown("the kernel tells no function: it has no symbols, or it ran")
        )
        thread = thread._replace(blind=why.why)
    if thread.state == "S" and not INTERRUPTIBLE & set(thread.functions):
        return None  # it was answered meanwhile
    call = evidence.syscall(folder)
    if call is not None and not isinstance(call, Unknown) and call.number != NO_SYSCALL:
        name = calls.name(call.number, machine)
        number = calls.descriptor(name, call.args)
        thread = thread._replace(call=name or str(call.number), descriptor=number, path_hidden=number is None)
    mounts = _mounts(folder, known)
    mount, target = None, ""
    if thread.descriptor is not None:
        link = evidence.descriptor(glimpse.pid, thread.descriptor, root)
        target = link if isinstance(link, str) else ""
        mount = _mount_of(f"{folder}/fdinfo/{thread.descriptor}", mounts)
    thread = thread._replace(mounts=mounts, mount=mount, target=target)
    return _Detail(thread._replace(waits_for=_waits_for(thread, root)), int(fields[36]), since.last_ran_ns(folder))


def _base(glimpse: Glimpse, root: str) -> Thread | None:
    """What is known without waiting; None if the kernel shows another kind of ``status``."""
    status = parse_status(glimpse.data)
    if status is None:
        return None
    name = (read_bytes(f"{root}/{glimpse.folder}/comm") or b"?\n")[:-1]
    return Thread(
        glimpse.pid, glimpse.tid, name, status.state, status.uid, status.ppid, kernel=glimpse.kernel,
        kill_pending=status.is_pending(SIGKILL), same=glimpse.same,
    )  # fmt: skip


def _silent(glimpse: Glimpse, root: str) -> _Detail | None:
    """One that the kernel does not answer for; None if it is gone."""
    again = _again(glimpse, root)
    thread = _base(again, root) if again else None
    if thread is None:
        return None
    folder = f"{root}/{glimpse.folder}"
    thread = thread._replace(silent=True, mounts=parse_mounts(surroundings.read_all(f"{folder}/mountinfo")))
    return _Detail(thread, None, since.last_ran_ns(folder))


def _aged(detail: _Detail, clocks: dict[int, int]) -> Thread:
    now = min(clocks.values(), default=None) if detail.processor is None else clocks.get(detail.processor)
    if now is None or not detail.ran_ns or not detail.thread.same:
        return detail.thread
    return detail.thread._replace(asleep_ns=max(0, now - detail.ran_ns))


def _mounts(folder: str, known: _Mounts) -> tuple[Mount, ...]:
    """The mounts that it sees, read once for those that see the same."""
    try:
        which = os.readlink(f"{folder}/ns/mnt"), os.readlink(f"{folder}/root")
    except OSError:
        return parse_mounts(surroundings.read_all(f"{folder}/mountinfo"))
    if which not in known:
        known[which] = parse_mounts(surroundings.read_all(f"{folder}/mountinfo"))
    return known[which]


def _mount_of(fdinfo: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount of an open file: ``mnt_id`` of its fdinfo (proc_pid_fdinfo(5))."""
    info = read_bytes(fdinfo) or b""
    at = info.find(b"mnt_id:")
    number = int(info[at + 7 :].split(None, 1)[0]) if at >= 0 else -1
    return next((m for m in mounts if m.number == number), None)


def _waits_for(thread: Thread, root: str) -> tuple[Someone, ...]:
    """Who has to move for it to go on, where /proc says so."""
    if thread.functions and thread.call in vforks.CALLS:
        return tuple(surroundings.someone(child, root) for child in vforks.children(thread.pid, thread.tid, root))
    if thread.call in ("execve", "execveat"):
        return tuple(surroundings.someone(pid, root) for pid in in_the_way(thread.pid, thread.tid, root))
    reads = re.match(rf"{root}/(?:(\d+)/)?(?:task/)?(\d+)/\w+$", thread.target)
    return (surroundings.someone(int(reads[1] or reads[2]), root),) if reads else ()


def in_the_way(pid: int, tid: int, root: str = PROC) -> list[int]:
    """Of a thread that calls execve: tracers that do not take note of a dead thread's end, threads that do not end."""
    found = set()
    for other in evidence.threads(pid, root):
        status = evidence.status(f"{root}/{pid}/task/{other}")
        if status and other != tid:
            found.add(status.tracer if status.state in "ZX" and status.tracer else other)
    return sorted(found)


def _with_cgroups(threads: list[Thread], blind: list[str], root: str) -> list[Thread]:
    mounts = cgroup.mounts(root)
    if freezer.CONTROLLER not in mounts.v1:
        return threads
    if any(t.functions and t.functions[0].startswith(_CGROUPS) for t in threads):
        blind.append("whether cgroups are frozen was not read: somebody is stuck at the lock that this takes")
        return threads
    swept = sweep(threads, lambda t: _with_cgroup(t, mounts, root))
    return [t for _before, t in swept.found] + swept.lost + swept.left


def _with_cgroup(thread: Thread, mounts: cgroup.Mounts, root: str) -> Thread:
    """With the cgroup of v1's freezer that somebody has frozen: its own, or one above.

    Since Linux 6.1 a thread that slept is frozen where it was, so that its functions do not tell. If not all have been
    frozen (``FREEZING``), it may be one that cannot be.
    """
    directory = cgroup.directory_of(thread.pid, freezer.CONTROLLER, mounts, root) if thread.state == "D" else None
    if directory is None or not (freezer.is_frozen(directory) or "__refrigerator" in thread.functions):
        return thread
    while not cgroup.is_root(directory, mounts) and not freezer.is_asked(directory):
        directory = os.path.dirname(directory)
    return thread._replace(cgroup=directory if freezer.is_asked(directory) else "")
