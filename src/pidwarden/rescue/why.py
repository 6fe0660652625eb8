"""Why fork fails: every limit that a process is under, which of them is reached, who fills it, what would make room.

Nothing here changes anything, starts anything or loads anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.act.places import failed, shown
from pidwarden.diagnose.limits import (
    COUNTED,
    MIB,
    PROCESS_BYTES,
    STEADY,
    Binding,
    Kind,
    amount,
    error_of,
    is_out,
    most,
    nearest,
)
from pidwarden.errors import PidwardenError
from pidwarden.kernel import cgroup, limits, memory, namespaces, pressure, procfs, tasks
from pidwarden.kernel.procfs import PROC
from pidwarden.kernel.subjects import Subject
from pidwarden.model.limit import NPROC
from pidwarden.model.text import escape
from pidwarden.rescue import limits as settable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def look(uid: int, pid: int, root: str = PROC) -> list[Binding]:
    """Every limit on what process `pid` of the real user `uid` can fork: those reached first, then the nearest.

    One pass over /proc counts the tasks of each user, 15 µs a process; all else takes a few ms. Inside of a container
    only what is in it is counted.

    Raises:
        PidwardenError: the process is gone.
        NoPermission, NotPossible: /proc cannot be read.
    """
    try:
        os.close(os.open(f"{root}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC))
        return survey([Subject(pid, uid)], tasks.count(root), root=root)
    except (FileNotFoundError, ProcessLookupError) as why:
        msg = f"looked for process {pid}: it is gone, or /proc hides it from us; name one that lives, or be root"
        raise PidwardenError(msg) from why
    except OSError as why:
        raise failed(f"tried to read {why.filename or root}", why, "type it again") from why


def survey(
    subjects: Iterable[Subject], counted: tasks.Tasks, *, paths: Iterable[str] = (), root: str = PROC
) -> list[Binding]:
    """The limits on all of these processes and on these cgroups, each once, in the same order.

    Raises:
        FileNotFoundError, ProcessLookupError: the only process is gone.
        OSError: /proc cannot be read.
    """
    found = [*_tables(counted, root), *_around(root), *_memory(root)]
    subjects = list(subjects)
    for subject in subjects:
        try:
            found += _of_process(subject, counted, root)
        except (FileNotFoundError, ProcessLookupError):
            if len(subjects) == 1:  # of many some may end meanwhile
                raise
    mounts = cgroup.mounts(root)
    for path in paths:
        mount = mounts.v1.get("pids") or mounts.v2
        if mount and os.path.isdir(mount + path):
            found += _pids(limits.pids_cgroups_at(mount, path), _refused(mount, path))
        mount = mounts.v1.get("memory") or mounts.v2
        if mount and os.path.isdir(mount + path):
            found += [_memory_cgroup(c) for c in memory.cgroups_at(path, root)]
    once = sorted({b.name: b for b in reversed(found)}.values(), key=lambda b: b.rank)
    # Who is in a cgroup takes a walk over all below it, so it is asked only where the answer matters.
    return [_members(b, counted) if b.binds or n == 0 else b for n, b in enumerate(once)]


def _of_process(subject: Subject, counted: tasks.Tasks, root: str) -> list[Binding]:
    found = [*_nproc(subject, counted, root), *_cgroups(subject.pid, root), *_inside(subject.pid, counted, root)]
    found += [*_promises(subject.pid, root), *map(_memory_cgroup, memory.cgroups(subject.pid, root))]
    return found + _dead_namespace(subject.pid, counted, root)


# -- the whole machine -------------------------------------------------------------------------------------------------


def _tables(counted: tasks.Tasks, root: str) -> list[Binding]:
    own = namespaces.pid_namespace("self", root)
    by_user = counted.users()
    users = most({f"uid {uid}": n for uid, n in by_user.items()})
    found = []
    for limit in limits.table_limits(root):
        used, who, unsteady = limit.used, users, STEADY
        if limit.name == "pid_max":
            if own not in (namespaces.INIT_PID_NS, None):  # of that namespace since 6.14: only those in it have its ids
                used, unsteady = counted.total, COUNTED
                if len(namespaces.inner_pids("self", root)) > 1:  # and this /proc is that of one around it
                    used = sum(counted.processes[p].threads for p in namespaces.members(own, counted.processes, root))
            used += counted.kept
            who += f"; {counted.kept} ids kept by groups whose leader is gone" * bool(counted.kept)
        free = max(0, limit.limit - limit.reserved - used)
        path = f"{root}/sys/kernel/{limit.name}"
        better = settable.more_tasks(limit.limit, settable.HIGHEST[limit.name])
        help_, undo = _change(path, limit.limit, better)
        one = Binding(
            limit.name,
            used,
            limit.limit,
            free,
            is_out(free, limit.limit, unsteady),
            who=who,
            path=path,
            help=help_,
            undo=undo,
            kind=Kind.PID_MAX if limit.name == "pid_max" else Kind.THREADS_MAX,
            better=better,
            users=by_user,
            reapers=counted.reapers(),
        )
        found.append(one)
    return found


def _around(root: str) -> list[Binding]:
    """The pid namespaces around ours, each of which gives everybody in it an id as well."""
    if namespaces.pid_namespace("self", root) in (namespaces.INIT_PID_NS, None):
        return []
    unseen = "the kernel shows it only there: on the host, `pidwarden why`"
    name = "pid_max of the pid namespaces around this one"
    return [Binding(name, 0, None, 0, kind=Kind.PID_NAMESPACE, unseen=unseen)]


def _inside(pid: int, counted: tasks.Tasks, root: str) -> list[Binding]:
    """The pid_max of a pid namespace below ours, in which a process is."""
    number = namespaces.pid_namespace(pid, root)
    if len(namespaces.inner_pids(pid, root)) < 2 or number in (None, namespaces.pid_namespace("self", root)):  # noqa: PLR2004
        return []
    used = sum(counted.processes[p].threads for p in namespaces.members(number, counted.processes, root))
    unseen = (
        "since Linux 6.14 each has its own, 4194304 unless somebody lowered it, and the kernel shows it only inside: "
        f"`nsenter -t {pid} -p cat /proc/sys/kernel/pid_max`"
    )
    name = f"pid_max of pid namespace {number}"
    return [Binding(name, used, None, 0, kind=Kind.PID_NAMESPACE, pid=pid, unseen=unseen)]


def _change(path: str, old: int, new: int) -> tuple[str, str]:
    """What to type to change a file, and to take that back."""
    if new <= old:
        return "it is as high as it can be", ""
    if not os.access(path, os.W_OK):
        return f"{shown(path)} cannot be written from here: it takes root, outside of containers", ""
    return f"write {path} {new}", f"write {path} {old}"


# -- the user ----------------------------------------------------------------------------------------------------------


def _nproc(subject: Subject, counted: tasks.Tasks, root: str) -> list[Binding]:
    pid, uid = subject.pid, subject.uid
    limit = limits.nproc(pid, root)
    if limit is None or limit.soft is None:
        return []
    used = counted.users()[uid]
    exempt = limits.nproc_exempt(pid, root)
    free = max(0, limit.soft - used)
    names = counted.names(p for p, process in counted.processes.items() if process.uid == uid)
    who = most({escape(name): n for name, n in names.items()})
    if counted.hidden:
        who += "; /proc hides others from us, so there may be more"
    elif namespaces.pid_namespace("self", root) not in (namespaces.INIT_PID_NS, None):
        who += "; and those outside of this container, which are not seen"
    name = f"{NPROC}{pid}"
    better = settable.more_tasks(limit.soft)
    if limit.hard is not None and limit.hard < better:
        better = limit.hard if limit.hard > limit.soft else better  # above it takes CAP_SYS_RESOURCE
    others = f" and of {subject.alike} like it" * bool(subject.alike)
    return [
        Binding(
            f"RLIMIT_NPROC of uid {uid} in process {pid}{others}",
            used,
            limit.soft,
            free,
            binds=not exempt and is_out(free, limit.soft, COUNTED),
            exempt=exempt,
            who=who,
            help=f"limits {name} {better}",
            undo=f"limits {name} {limit.soft}",
            kind=Kind.NPROC,
            pid=pid,
            uid=uid,
            cgroup=max(cgroup.paths(pid, root), key=len, default=""),
            hard=limit.hard,
            better=better,
            names=names,
            reapers=counted.reapers(uid=uid),
        )
    ]


# -- cgroups -----------------------------------------------------------------------------------------------------------


def _cgroups(pid: int, root: str) -> list[Binding]:
    mount, own = limits.pids_cgroup(pid, root)
    refused = _refused(mount, own) if mount else (0, "")
    found = _pids(limits.pids_cgroups_at(mount, own), refused) if mount else []
    if _is_contained(root):
        unseen = "a cgroup namespace hides them: on the host, `pidwarden why` of the same process"
        name = "pids.max of cgroups outside of this container"
        found.append(Binding(name, 0, None, 0, evidence=refused[1], kind=Kind.PIDS, refused=refused[0], unseen=unseen))
    return found


def _refused(mount: str, own: str) -> tuple[int, str]:
    """Forks that were refused in a cgroup, by it or one above; the same in words."""
    while own != "/" and not os.path.exists(f"{mount}{own}/pids.events"):
        own = os.path.dirname(own)  # under v2 a cgroup without the controller counts in the one above
    refused = limits.refused_in(mount + own.rstrip("/"))
    # Where the kernel does not say whose limit it was that refused, all those above may have done it.
    return refused, f"{refused} forks in {shown(own)} were refused by its limit or one above (pids.events)" * bool(
        refused
    )


def _pids(cgroups: Sequence[limits.PidsCgroup], refused: tuple[int, str]) -> list[Binding]:
    found = []
    for c in cgroups:
        by_it = limits.refused_by(c.directory)
        evidence = refused[1] if by_it is None else f"refused {by_it} forks (pids.events.local)" * bool(by_it)
        free = max(0, c.limit - c.used)
        path = f"{c.directory}/pids.max"
        better = settable.more_tasks(c.limit)
        help_, undo = _change(path, c.limit, better)
        one = Binding(
            f"pids.max of {shown(c.path)}",
            c.used,
            c.limit,
            free,
            is_out(free, c.limit, STEADY),
            evidence=evidence,
            path=path,
            help=help_,
            undo=undo,
            kind=Kind.PIDS,
            cgroup=c.path,
            better=better,
            refused=refused[0] if by_it is None else by_it,
        )
        found.append(one)
    return found


def _is_contained(root: str) -> bool:
    """Whether we are in a cgroup namespace, so that limits above its root are not shown."""
    try:
        return os.readlink(f"{root}/self/ns/cgroup") != f"cgroup:[{namespaces.INIT_CGROUP_NS}]"
    except OSError:
        return False


def _members(binding: Binding, counted: tasks.Tasks) -> Binding:
    """With those who count against it; for a cgroup's limit, those in it and below it."""
    directory, _slash, file = binding.path.rpartition("/")
    if file != "pids.max":
        return binding
    pids = cgroup.processes_below(directory) or ()
    names = counted.names(pids)
    rest = binding.used - names.total()
    text = most({escape(name): n for name, n in names.items()})
    text += f"{'; ' * bool(text)}{rest} more that the cgroup does not list: zombies" * (rest > 0)
    # A zombie is charged where it was, which is where its parent is as a rule.
    reapers = counted.reapers(among=frozenset(pids)) if rest > 0 else {}
    return binding._replace(who=text, names=names, reapers=reapers)


def _dead_namespace(pid: int, counted: tasks.Tasks, root: str) -> list[Binding]:
    """The pid namespace that children would be born in, if its first process has ended: ENOMEM (pid_namespaces(7))."""
    try:
        own, children = (procfs.link(pid, f"ns/{name}", root) for name in ("pid", "pid_for_children"))
    except OSError:  # not ours to look at; or it has no first process yet, and then fork makes one
        return []
    if own == children:
        return []
    for other in counted.processes:
        try:
            if procfs.link(other, "ns/pid", root) == children:
                return []
        except PermissionError:
            if namespaces.inner_pids(other, root)[-1:] == (1,) and other != 1:
                return []  # the first process of some namespace that we may not look at: maybe of this one
        except OSError:
            continue
    name = f"the pid namespace for children of process {pid}"
    evidence = "its first process has ended, so every fork into it fails with ENOMEM, whatever memory there is"
    help_ = "in that shell: exec nsenter --no-fork --pid=/proc/self/ns/pid bash"
    return [Binding(name, 0, 0, 0, binds=True, evidence=evidence, help=help_, kind=Kind.DEAD_INIT, pid=pid)]


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory(root: str) -> list[Binding]:
    info = memory.meminfo(root)
    if "MemAvailable" not in info:
        return []
    allowed = info["MemTotal"] + info.get("SwapTotal", 0)
    free = info["MemAvailable"] + info.get("SwapFree", 0)
    killed = pressure.memory(root).oom_kills
    evidence = f"the kernel has killed {killed} for want of memory since boot" * bool(killed)
    help_ = "nothing to write: end what is large, or add swap"
    one = Binding("memory and swap", allowed - free, allowed, free, free < PROCESS_BYTES, "bytes", kind=Kind.MEMORY)
    return [one._replace(evidence=evidence, help=help_)]


def _promises(pid: int, root: str) -> list[Binding]:
    """What may be promised, where the kernel never promises more than it has."""
    info = memory.meminfo(root)
    path = f"{root}/sys/vm/overcommit_memory"
    if procfs.read_int(path) != memory.STRICT or "CommitLimit" not in info:
        return []
    allowed, used = info["CommitLimit"], info["Committed_AS"]
    free = max(0, allowed - used)
    copy = memory.fork_bytes(pid, root)
    evidence = f"a fork of process {pid} promises {copy // MIB} MiB more (overcommit_memory is {memory.STRICT})"
    help_, undo = _change(path, 0, 1)
    if undo:
        help_, undo = f"write {path} 0", f"write {path} {memory.STRICT}"
    one = Binding("CommitLimit", used, allowed, free, free < copy, "bytes", evidence=evidence, path=path)
    return [one._replace(help=help_, undo=undo, kind=Kind.COMMIT, pid=pid)]


def _memory_cgroup(c: memory.MemoryCgroup) -> Binding:
    used = max(0, c.used - c.reclaimable)
    free = max(0, c.limit - used)
    better = settable.more_bytes(c.limit)
    help_, undo = _change(c.file, c.limit, better)
    evidence = f"{c.refused} ({os.path.dirname(c.file)})" * bool(c.refused)
    name, binds = f"{c.what} of {shown(c.path)}", free < PROCESS_BYTES
    one = Binding(name, used, c.limit, free, binds, "bytes", evidence=evidence, path=c.file, help=help_, undo=undo)
    return one._replace(kind=Kind.MEMORY_CGROUP, cgroup=c.path, better=better)


# -- for people --------------------------------------------------------------------------------------------------------


def lines(bindings: Sequence[Binding]) -> list[str]:
    """The answer in the first line, then a table, then who fills the limits that matter and what would help."""
    binding = [b for b in bindings if b.binds]
    text = [answer(bindings, binding)]
    rows: list[tuple[str, ...]] = [("USED", "ALLOWED", "FREE", "LIMIT")]
    for b in bindings:
        state = " (reached)" * b.binds + f" (does not bind: {b.exempt})" * bool(b.exempt)
        numbers = [amount(b, n) if b.allowed is not None else "?" for n in (b.used, b.allowed or 0, b.free)]
        rows.append((*numbers, b.name + state))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    text += ["  " + "  ".join([*(cell.rjust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    for b in binding or bindings[:1]:
        text.append(f"{b.name}:")
        parts = [("counts", b.who), ("refused", b.evidence)]
        parts += [("helps", b.help), ("undo", b.undo)] if b.binds else []
        text += [f"  {word:<8}{part}" for word, part in parts if part]
    if any(b.unit == "tasks" and b.undo for b in binding):
        text.append("what makes room makes it for the bomb too: freeze it first")
    return [shown(line) for line in text]


def answer(bindings: Sequence[Binding], binding: Sequence[Binding]) -> str:
    """What binds, else what is nearest, in one line; names in it are escaped."""
    if binding:
        return f"fork fails ({error_of(binding)}) because {'; and because '.join(b.cause for b in binding)}"
    first = nearest(bindings)
    if first is None:
        return "no limit can be read here"
    used = f"{amount(first, first.used)} of {amount(first, first.allowed or 0)} used"
    unseen = any(b.allowed is None for b in bindings)
    return f"no limit is reached{' that can be seen from here' * unseen}; nearest is {first.name}: {used}"
