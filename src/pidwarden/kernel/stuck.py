"""Finds the threads that look stuck, in two looks, and reads what the kernel tells of each. Waits for none of them.

The first look takes ``status`` alone, which no kernel holds back. What may not be answered is read within
:func:`pidwarden.kernel.patience.sweep`.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import cgroup, evidence, freezer, fuse, kmsg, since
from pidwarden.kernel.evidence import Unknown
from pidwarden.kernel.patience import sweep
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model import calls
from pidwarden.model.key import TICK_NS
from pidwarden.model.mount import Mount, parse_mounts
from pidwarden.model.stuck import INTERRUPTIBLE, Blocker, Connection, Someone, Thread, World
from pidwarden.model.task import NO_SYSCALL, Status, parse_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    _Mounts = dict[tuple[str, str], tuple[Mount, ...]]  # by mount namespace and root directory

LOOK_SECONDS = 0.2  # between the looks: what waits for a disk that works has woken by then
_STATUS_BYTES = 16384
_MOUNT_BYTES = 1 << 22
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h
_SWITCHES = re.compile(rb"\n(?:non)?voluntary_ctxt_switches:\t(\d+)")
_MESSAGES = 4000
_FUSE = ("request_wait", "fuse_", "__fuse_")
_BLOCKED = re.compile(
    rb"task .*:(\d+) (?:<\w+> |is )*blocked on an? ([\w-]+),? likely (?:last )?owned by task (.*):(\d+)(?: <\w+>)?\.?$"
)


class Glimpse(NamedTuple):
    """A thread that is to be looked at more closely."""

    pid: int
    tid: int
    status: Status
    switches: int
    kernel: bool

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
        chosen += [g for _pid, them in answers.left for g in them if g.status.state == "D"]
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
    if any("__refrigerator" in t.functions for t in threads):
        threads = [_with_cgroup(t, root) for t in threads]
    world = _world(threads, blind, root)
    threads = _with_blockers(threads, blind)
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
            is_kernel = _is_kernel(data)
            if is_kernel and data[at + 8] != ord("D"):
                continue
            status = parse_status(data)
            if status:
                found = Glimpse(int(name), int(tid), status, _switches(data), is_kernel)
                (kernels if is_kernel else sleepers).append(found)
    return kernels, sleepers, seen


def _is_kernel(status: bytes) -> bool:
    """Whether it is a thread of the kernel: newer kernels say so; those have no memory of their own."""
    return b"\nKthread:\t1" in status if b"\nKthread:\t" in status else b"\nVmSize:" not in status


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
        if glimpse.status.state == "D" or where.decode("ascii", "replace") in INTERRUPTIBLE:
            found.append(glimpse)
    return found


def _again(glimpse: Glimpse, root: str) -> Glimpse | None:
    """The same thread later, its switches negated if it ran meanwhile; None if it runs, or is gone."""
    data = read_bytes(f"{root}/{glimpse.folder}/status", _STATUS_BYTES) or b""
    status = parse_status(data)
    if status is None or status.state not in "DS" or (status.state == "S" and glimpse.status.state == "D"):
        return None
    count = _switches(data)
    return glimpse._replace(status=status, switches=count if count == glimpse.switches else -1)


# -- one thread --------------------------------------------------------------------------------------------------------


def _detail(glimpse: Glimpse, machine: str, known: _Mounts, root: str) -> _Detail | None:
    """All that its files tell; None if it is gone, or somebody else has its number. May wait."""
    folder = f"{root}/{glimpse.folder}"
    data = read_bytes(f"{folder}/stat")
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    thread = _base(glimpse, root)._replace(start_ns=int(fields[19]) * TICK_NS)
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
        thread = thread._replace(call=name or f"call {call.number}", descriptor=number, path_hidden=number is None)
    mounts = _mounts(folder, known)
    mount, target = None, ""
    if thread.descriptor is not None:
        link = evidence.descriptor(glimpse.pid, thread.descriptor, root)
        target = link if isinstance(link, str) else ""
        mount = _mount_of(f"{folder}/fdinfo/{thread.descriptor}", mounts)
    thread = thread._replace(mounts=mounts, mount=mount, target=target, waits_for=_waits_for(thread, root))
    return _Detail(thread, int(fields[36]), since.last_ran_ns(folder))


def _base(glimpse: Glimpse, root: str) -> Thread:
    """What is known without waiting."""
    status = glimpse.status
    name = (read_bytes(f"{root}/{glimpse.folder}/comm") or b"?\n")[:-1]
    return Thread(
        glimpse.pid, glimpse.tid, name, status.state, status.uid, status.ppid, kernel=glimpse.kernel,
        kill_pending=status.is_pending(9), same=glimpse.switches >= 0,
    )  # fmt: skip


def _silent(glimpse: Glimpse, root: str) -> _Detail | None:
    """One that the kernel does not answer for; None if it is gone."""
    again = _again(glimpse, root)
    if again is None:
        return None
    folder = f"{root}/{glimpse.folder}"
    data = _read_all(f"{folder}/mountinfo")
    thread = _base(again, root)._replace(silent=True, mounts=parse_mounts(data))
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
        return parse_mounts(_read_all(f"{folder}/mountinfo"))
    if which not in known:
        known[which] = parse_mounts(_read_all(f"{folder}/mountinfo"))
    return known[which]


def _mount_of(fdinfo: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount of an open file: ``mnt_id`` of its fdinfo (proc_pid_fdinfo(5))."""
    info = read_bytes(fdinfo) or b""
    at = info.find(b"mnt_id:")
    number = int(info[at + 7 :].split(None, 1)[0]) if at >= 0 else -1
    return next((m for m in mounts if m.number == number), None)


def _read_all(path: str) -> bytes:
    parts: list[bytes] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        while sum(map(len, parts)) < _MOUNT_BYTES and (part := os.read(fd, 1 << 16)):
            parts.append(part)
    except OSError:
        pass
    finally:
        os.close(fd)
    return b"".join(parts)


def _someone(pid: int, root: str) -> Someone:
    state, name = fuse.state_and_name(pid, root)
    return Someone(pid, name, state)


def _waits_for(thread: Thread, root: str) -> tuple[Someone, ...]:
    """Who has to move for it to go on, where /proc says so."""
    if thread.functions and thread.call in calls.VFORKS:
        data = read_bytes(f"{root}/{thread.pid}/task/{thread.tid}/children", _STATUS_BYTES) or b""
        children = list(map(int, data.split()))
        return tuple(_someone(child, root) for child in children if len(children) == 1 or _never_ran_exec(child, root))
    if thread.call in ("execve", "execveat"):
        return _in_the_way(thread, root)
    reads = re.match(rf"{root}/(?:(\d+)/)?(?:task/)?(\d+)/\w+$", thread.target)
    return (_someone(int(reads[1] or reads[2]), root),) if reads else ()


def _never_ran_exec(pid: int, root: str) -> bool:
    data = read_bytes(f"{root}/{pid}/stat")
    return bool(data and int(data[data.rindex(b")") + 2 :].split()[6]) & _PF_FORKNOEXEC)


def _in_the_way(thread: Thread, root: str) -> tuple[Someone, ...]:
    """Tracers that do not take note of a dead thread's end, and other threads that do not end."""
    found = set()
    for tid in evidence.threads(thread.pid, root):
        other = evidence.status(f"{root}/{thread.pid}/task/{tid}")
        if other and tid != thread.tid:
            found.add(other.tracer if other.state in "ZX" and other.tracer else tid)
    return tuple(_someone(pid, root) for pid in sorted(found))


def _with_cgroup(thread: Thread, root: str) -> Thread:
    """With the cgroup that somebody has frozen, of v1's freezer: its own, or one above."""
    if "__refrigerator" not in thread.functions:
        return thread
    mounts = cgroup.mounts(root)
    directory = cgroup.directory_of(thread.pid, freezer.CONTROLLER, mounts, root)
    while directory and not cgroup.is_root(directory, mounts) and not freezer.is_asked(directory):
        directory = os.path.dirname(directory)
    return thread._replace(cgroup=directory if directory and freezer.is_asked(directory) else "")


# -- the world around --------------------------------------------------------------------------------------------------


def _world(threads: Sequence[Thread], blind: list[str], root: str) -> World:
    return World(_connections(threads, blind, root), _suspended(), tuple(m.number for m in _own_mounts(root)))


def _own_mounts(root: str) -> tuple[Mount, ...]:
    return parse_mounts(_read_all(f"{root}/self/mountinfo"))


def _connections(threads: Sequence[Thread], blind: list[str], root: str) -> dict[int, Connection]:
    """The FUSE connections that stuck threads can see, if any of them may wait for one."""
    if not any(t.silent or any(f.startswith(_FUSE) for f in t.functions) for t in threads):
        return {}
    numbers = {m.connection for t in threads for m in t.mounts if m.is_fuse}
    pids = sorted({int(name) for name in os.listdir(root) if name.isdecimal()} - {t.pid for t in threads if t.silent})
    holders: dict[int | None, list[int]] = {}
    for pid, held in sweep(pids, lambda pid: fuse.held_by(pid, root)).found:
        for number in set(held):
            holders.setdefault(number, []).append(pid)
    if numbers and not holders and os.geteuid():
        blind.append("who serves a FUSE filesystem is not shown of others' processes: type `sudo pidwarden stuck`")
    found = {}
    for number in numbers:
        exact = number in holders
        them = holders.get(number, holders.get(None, []))
        found[number] = Connection(fuse.waiting(number), tuple(_someone(pid, root) for pid in them), exact)
    return found


def _suspended(devices: str = "/sys/block") -> dict[str, str]:
    """Device-mapper devices that are suspended (Documentation/ABI/testing/sysfs-block-dm)."""
    found = {}
    try:
        names = [name for name in os.listdir(devices) if name.startswith("dm-")]
    except OSError:
        return {}
    for name in names:
        if (read_bytes(f"{devices}/{name}/dm/suspended") or b"").strip() == b"1":
            number = (read_bytes(f"{devices}/{name}/dev") or b"").strip().decode()
            found[number] = (read_bytes(f"{devices}/{name}/dm/name") or b"").strip().decode("utf-8", "surrogateescape")
    return found


def parse_blocked(text: bytes) -> tuple[int, Blocker] | None:
    """The thread that hangs and its blocker, of a line of the kernel's watch (kernel/hung_task.c); a name may lie."""
    found = _BLOCKED.search(text)
    if not found:
        return None
    return int(found[1]), Blocker(found[2].decode("ascii", "replace"), Someone(int(found[4]), found[3]))


def _with_blockers(threads: list[Thread], blind: list[str]) -> list[Thread]:
    """With the owners of locks that the kernel's log names, of sleeps that go on."""
    if not any(t.state == "D" for t in threads):
        return threads
    try:
        messages = kmsg.read(_MESSAGES)
    except OSError:
        blind.append("the kernel's log, which may name the owner of a lock, is not ours to read; type `sudo …`")
        return threads
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    named = {found[0]: (found[1], m.us) for m in messages if (found := parse_blocked(m.text))}
    result = []
    for thread in threads:
        blocker, us = named.get(thread.tid, (None, None))
        begun = now - thread.asleep_ns if thread.asleep_ns is not None else thread.start_ns
        valid = blocker is not None and us is not None and us * 1000 >= begun and thread.same
        result.append(thread._replace(blocker=blocker) if valid else thread)
    return result
