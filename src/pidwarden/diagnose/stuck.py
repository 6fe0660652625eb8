"""Threads that do not wake up: why, for what, who else waits for the same, and what can be done. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.sleeps import PATHS, Cause, cause_of, killable, lock_of, plain
from pidwarden.model import calls
from pidwarden.model.stuck import Someone, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pidwarden.model.mount import Mount
    from pidwarden.model.stuck import Thread

_BEHIND = {Cause.FUSE_BEHIND: Cause.FUSE_SILENT}  # whose cause is that of those they wait behind
_LEADS = (Cause.FUSE_SILENT, Cause.FROZEN_FILESYSTEM, Cause.NFS, Cause.NETWORK_FILESYSTEM)
_FOLLOW = (Cause.LOCK, Cause.BLOCK_IO, Cause.JOURNAL, Cause.WRITEBACK)  # may be behind one of those on the same mount
_MOST_CANDIDATES = 4


class Place(NamedTuple):
    """What is waited for: a mount, a device, a file, a process, a cgroup or a lock; ``certain``: the kernel said so.

    ``key`` is the same for the same thing, whoever waits for it.
    """

    kind: str
    name: str
    key: str
    certain: bool
    mount: Mount | None = None


NOWHERE = Place("", "", "", certain=False)


class Finding(NamedTuple):
    """One thread, why it does not wake up, and by which evidence. ``kill``: whether SIGKILL ends the wait, if known."""

    thread: Thread
    cause: Cause
    place: Place
    kill: bool | None
    evidence: tuple[str, ...]


class Group(NamedTuple):
    """Threads that wait for the same thing; who those are whom they wait for, and why nobody is named if none is."""

    cause: Cause
    place: Place
    findings: tuple[Finding, ...]
    waits_for: tuple[Someone, ...]
    nobody: str

    @property
    def waiters(self) -> int:
        """How many threads."""
        return len(self.findings)


def find(threads: Iterable[Thread], world: World) -> list[Finding]:
    """What each waits for; one that waits behind others on the same mount is counted to them."""
    first = [_finding(thread, world) for thread in threads]
    leads = [f for f in first if f.cause in _LEADS and f.place.mount]
    leads.sort(key=lambda f: f.place.certain)  # of one filesystem the last counts: whom the kernel was sure of
    return [_behind(f, leads) if f.cause in (*_FOLLOW, *_LEADS, Cause.FUSE_BEHIND) else f for f in first]


def group(findings: Iterable[Finding], world: World) -> list[Group]:
    """By what they wait for: most waiters first, those that wake up by themselves last."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        lead = _BEHIND.get(f.cause, f.cause)
        found.setdefault((lead.value, f.place.key or (f.evidence[0] if f.evidence else "")), []).append(f)
    groups = [_group(Cause(cause), members, world) for (cause, _key), members in found.items()]
    return sorted(groups, key=lambda g: (g.cause is Cause.TRANSIENT, -g.waiters, g.findings[0].thread.tid))


def _finding(thread: Thread, world: World) -> Finding:
    functions = [plain(f) for f in thread.functions]
    said = _said(thread)
    if thread.silent:
        note = "/proc does not answer for it: its exec_update_lock is held, which execve(2) does"
        owing = sorted({m.where for m in thread.mounts if _may_be_silent(m, world)})
        if 0 < len(owing) <= _MOST_CANDIDATES:
            note += f"; it can see filesystems that may owe an answer: {', '.join(owing)}"
        return Finding(thread, Cause.EXEC, _of(Someone(thread.pid, thread.comm)), None, (note, *said))
    if not functions:
        can = False if _is_past_killing(thread) else None
        return Finding(thread, Cause.UNKNOWN, NOWHERE, can, (f"no function: {thread.blind}", *said))
    cause, function = cause_of(functions, changes=calls.changes(thread.call))
    if thread.cgroup:
        cause, said = Cause.V1_FROZEN, ("its cgroup of v1's freezer is frozen", *said)
    if not thread.same:
        said = ("it woke up between two looks, and sleeps again", *said)
        cause = Cause.TRANSIENT
    evidence = (f"sleeps in {function or functions[0]}", *said)
    place = _place(thread, cause, functions, world)
    if cause is Cause.LOCK and place.kind == "":
        place = Place("lock", f"taken in {_taker(functions)}", f"lock:{_taker(functions)}", certain=False)
    can = killable(functions) if not thread.cgroup else False
    if cause is Cause.USERFAULTFD and thread.state == "S":
        can = True
    if cause is Cause.NFS and can is None and functions[0].startswith(("rpc_wait", "nfs_wait")):
        can = True
    return Finding(thread, cause, place, can if not _is_past_killing(thread) else False, evidence)


def _said(thread: Thread) -> tuple[str, ...]:
    """The rest of the evidence, for a person."""
    found = []
    if thread.call:
        on = f" of descriptor {thread.descriptor}" if thread.descriptor is not None else ""
        found.append(f"system call {thread.call}{on}")
    if thread.kill_pending:
        found.append("SIGKILL waits already and has not ended it")
    if thread.functions and not thread.whole and not thread.silent:
        found.append("the rest of its stack takes root")
    return tuple(found)


def _is_past_killing(thread: Thread) -> bool:
    """A thread of the kernel always is; a SIGKILL that waits already and has not helped proves it of any other."""
    return thread.kernel or (thread.kill_pending and thread.same)


def _taker(functions: Sequence[str]) -> str:
    """The function that takes the lock: the first that is not a lock's own."""
    own = ("percpu_", "rwsem_", "down", "__down", "mutex_", "__mutex_", "rt_mutex")
    return next((f for f in functions if not f.startswith(own)), functions[0])


# -- what it waits for -------------------------------------------------------------------------------------------------


def on_mount(mount: Mount, *, certain: bool) -> Place:
    """A mount as what is waited for; the same filesystem is the same place wherever it is mounted."""
    return Place("mount", mount.where, f"mount:{mount.device}", certain, mount)


def _of(someone: Someone) -> Place:
    return Place("process", str(someone.pid), f"process:{someone.pid}", certain=True)


def _place(thread: Thread, cause: Cause, functions: Sequence[str], world: World) -> Place:
    if cause in _OWN:
        return _OWN[cause](thread)
    if thread.mount:
        if thread.target.startswith("/dev/"):
            return Place("device", thread.target, f"device:{thread.target}", certain=True)
        return on_mount(thread.mount, certain=True)
    if (test := _WHICH.get(cause)) is not None:
        return _only(thread, lambda m: test(m, world))
    lock = lock_of(functions)
    return Place("lock", lock, f"lock:{lock}", certain=True) if lock else NOWHERE


def _other(thread: Thread) -> Place:
    return _of(thread.waits_for[0]) if len(thread.waits_for) == 1 else NOWHERE


def _itself(thread: Thread) -> Place:
    return _of(Someone(thread.pid, thread.comm))


def _cgroup(thread: Thread) -> Place:
    return Place("cgroup", thread.cgroup, f"cgroup:{thread.cgroup}", certain=True) if thread.cgroup else NOWHERE


def _memory(thread: Thread) -> Place:
    return Place("memory", f"of process {thread.pid}", f"memory:{thread.pid}", certain=True)


# Those that do not wait for a file.
_OWN: dict[Cause, Callable[[Thread], Place]] = {
    Cause.VFORK: _other,
    Cause.EXEC_BEHIND: _other,
    Cause.EXEC: _itself,
    Cause.CORE_DUMP: _itself,
    Cause.V1_FROZEN: _cgroup,
    Cause.USERFAULTFD: _memory,
    Cause.MEMORY: lambda _thread: NOWHERE,
}


def _may_be_frozen(mount: Mount, world: World) -> bool:
    """Only such on a suspended device, if there are any."""
    return mount.device in world.suspended if world.suspended else mount.is_block and not mount.read_only


def _owes(mount: Mount, world: World) -> bool:
    """Whether its daemon owes an answer, or that cannot be told."""
    connection = world.connections.get(mount.connection)
    return connection is None or connection.waiting != 0


# Which filesystems may be meant, if the thread's files do not say.
_WHICH: dict[Cause, Callable[[Mount, World], bool]] = {
    Cause.FROZEN_FILESYSTEM: _may_be_frozen,
    Cause.FUSE_SILENT: lambda m, world: m.is_fuse and _owes(m, world),
    Cause.FUSE_BEHIND: lambda m, world: m.is_fuse and _owes(m, world),
    Cause.NFS: lambda m, _world: m.is_network,
    Cause.NETWORK_FILESYSTEM: lambda m, _world: m.is_network,
}


def _may_be_silent(mount: Mount, world: World) -> bool:
    return mount.is_network or (mount.is_fuse and _owes(mount, world))


def _only(thread: Thread, test: Callable[[Mount], bool]) -> Place:
    """The one filesystem among those it sees that can be meant; nowhere if there are none, or several."""
    found = {m.device: m for m in thread.mounts if test(m)}
    return on_mount(next(iter(found.values())), certain=False) if len(found) == 1 else NOWHERE


def candidates(finding: Finding, world: World) -> list[Mount]:
    """The filesystems that may be meant where one is not known; empty if those are too many to help."""
    thread, cause = finding.thread, finding.cause
    if finding.place.kind or cause not in _WHICH:
        return []
    found = {m.device: m for m in thread.mounts if _WHICH[cause](m, world)}
    return list(found.values()) if len(found) <= _MOST_CANDIDATES else []


def _behind(finding: Finding, leads: Sequence[Finding]) -> Finding:
    """The same, as one of those who wait on a filesystem where others are known to be stuck, if it is.

    It is if it works on a file there; or if it may be any, as its path is not known, and there is just one.
    """
    thread, place = finding.thread, finding.place
    visible = {m.device for m in thread.mounts}
    near = {lead.place.key: lead for lead in leads if lead.place.mount and lead.place.mount.device in visible}
    if finding.cause in _LEADS or finding.cause is Cause.FUSE_BEHIND:
        wanted = _BEHIND.get(finding.cause, finding.cause)
        near = {key: lead for key, lead in near.items() if lead.cause is wanted}
        lead = _one(near) if not place.kind else None
        return finding._replace(place=lead.place._replace(certain=False)) if lead else finding
    if place.certain and place.mount:
        lead = near.get(place.key)
    else:
        lead = _one(near) if thread.functions and plain(thread.functions[0]) in PATHS else None
    if lead is None:
        return finding
    cause = Cause.FUSE_BEHIND if lead.cause is Cause.FUSE_SILENT else lead.cause
    note = f"behind thread {lead.thread.tid}, which waits on {'the same' if place.certain else 'that'} filesystem"
    where = lead.place._replace(certain=place.certain)
    return finding._replace(cause=cause, place=where, evidence=(*finding.evidence, note))


def _one(near: Mapping[str, Finding]) -> Finding | None:
    """The filesystem that is meant: the only one, or the only one that is certain."""
    certain = {key: lead for key, lead in near.items() if lead.place.certain}
    found = certain or near
    return next(iter(found.values())) if len(found) == 1 else None


# -- those who wait for the same ---------------------------------------------------------------------------------------

_NOBODY = {
    Cause.FROZEN_FILESYSTEM: "the kernel does not tell who froze it: look for a snapshot, a backup or a virtual "
    "machine's agent under way",
    Cause.LOCK: "the kernel does not show who holds the lock; where its watch for hung tasks is on, its log names the "
    "owner of a mutex, a semaphore or an rw-semaphore after two minutes (`dmesg | grep 'likely owned'`, newer kernels)",
    Cause.EXEC: "what holds it up within execve is not shown: its stack is behind the same lock",
    Cause.BLOCK_IO: "a device, not a process",
    Cause.MEMORY: "memory, not a process",
}


def _group(cause: Cause, members: Sequence[Finding], world: World) -> Group:
    place = max((f.place for f in members), key=lambda p: (p.certain, bool(p.kind)))
    ordered = tuple(sorted(members, key=lambda f: (f.cause in _BEHIND, -(f.thread.asleep_ns or 0), f.thread.tid)))
    blockers = {f.thread.blocker.owner for f in members if f.thread.blocker}
    them = {someone.pid: someone for f in members for someone in f.thread.waits_for} if cause in (
        Cause.VFORK, Cause.EXEC, Cause.EXEC_BEHIND) else {}  # fmt: skip
    them |= {someone.pid: someone for someone in blockers}
    nobody = _NOBODY.get(cause, "")
    if cause is Cause.FUSE_SILENT:
        connection = world.connections.get(place.mount.connection) if place.mount else None
        them |= {someone.pid: someone for someone in connection.holders} if connection else {}
        nobody = "who serves it is not known: no process that we may look at holds /dev/fuse open"
    return Group(cause, place, ordered, tuple(them.values()), "" if them else nobody)
