"""Why fork fails: every limit that a process is under, which of them is reached, who fills it, what would make room.

Nothing here changes anything, starts anything or loads anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import PidwardenError
from pidwarden.kernel import cgroup, limits, memory, namespaces, pressure, procfs, tasks
from pidwarden.kernel.procfs import PROC
from pidwarden.model.text import escape
from pidwarden.rescue import limits as settable
from pidwarden.rescue.follow import failed, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MIB = 1 << 20
_PROCESS_BYTES = _MIB  # what a small new process takes: stack, page tables, first pages; with less, memory is out
_STEADY, _COUNTED = 8, 64  # tasks that come and go while a full table is read: from one counter, from all of /proc
_SHARE = 64  # … and never more than this part of the limit: a limit of 10 with 9 used has room
_AMPLE = 16  # of memory so small a part has to be left before it is compared with tasks
_SHOWN = 3  # of those who count against a limit


class Binding(NamedTuple):
    """A limit on what one process can fork, in tasks or bytes. ``allowed`` None: it cannot be seen from here."""

    name: str
    used: int
    allowed: int | None
    free: int
    binds: bool = False  # now: a fork is refused
    unit: str = "tasks"
    exempt: str = ""  # why it does not count for this process
    who: str = ""  # those who count against it
    evidence: str = ""  # that it has refused somebody
    path: str = ""  # the file that holds it
    help: str = ""  # what to type to make room, or why there is nothing to type
    undo: str = ""  # what to type to take that back

    @property
    def room(self) -> int:
        """How many small processes fit in what is free."""
        return self.free if self.unit == "tasks" else self.free // _PROCESS_BYTES

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        """Sorts those that bind first, then by what is free; ample memory, what does not bind us or is unseen, last."""
        ample = self.unit == "bytes" and self.free > (self.allowed or 0) // _AMPLE
        return not self.binds, self.allowed is None, bool(self.exempt), ample, self.room


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
        counted = tasks.count(root)
        found = [*_tables(counted, root), *_nproc(uid, pid, counted, root), *_cgroups(pid, root)]
        found += [*_memory(pid, root), *_memory_cgroups(pid, root), *_dead_namespace(pid, counted, root)]
    except (FileNotFoundError, ProcessLookupError) as why:
        msg = f"looked for process {pid}: it is gone, or /proc hides it from us; name one that lives, or be root"
        raise PidwardenError(msg) from why
    except OSError as why:
        raise failed(f"tried to read {why.filename or root}", why, "type it again") from why
    found.sort(key=lambda b: b.rank)
    # Who is in a cgroup takes a walk over all below it, so it is asked only where the answer matters.
    return [b._replace(who=_members(b, counted)) if b.binds or n == 0 else b for n, b in enumerate(found)]


def _is_out(free: int, allowed: int, unsteady: int) -> bool:
    return free <= min(unsteady, allowed // _SHARE)


def _most(counts: Mapping[str, int]) -> str:
    """The largest of some counts."""
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {n}" for name, n in largest[:_SHOWN]]
    rest = sum(n for _name, n in largest[_SHOWN:])
    return ", ".join(shown + [f"others {rest}"] * bool(rest))


# -- the whole machine -------------------------------------------------------------------------------------------------


def _tables(counted: tasks.Tasks, root: str) -> list[Binding]:
    nested = namespaces.pid_namespace("self", root) not in (namespaces.INIT_PID_NS, None)
    users = _most({f"uid {uid}": n for uid, n in counted.users().items()})
    found = []
    for limit in limits.table_limits(root):
        used, who, unsteady = limit.used, users, _STEADY
        if limit.name == "pid_max":
            if nested:  # of that namespace since 6.14, and then only those in it have its ids
                used, unsteady = counted.total, _COUNTED
            used += counted.kept
            who += f"; {counted.kept} ids kept by groups whose leader is gone" * bool(counted.kept)
        free = max(0, limit.limit - limit.reserved - used)
        path = f"{root}/sys/kernel/{limit.name}"
        help_, undo = _change(path, limit.limit, settable.more_tasks(limit.limit, settable.HIGHEST[limit.name]))
        binds = _is_out(free, limit.limit, unsteady)
        found.append(Binding(limit.name, used, limit.limit, free, binds, who=who, path=path, help=help_, undo=undo))
    return found


def _change(path: str, old: int, new: int) -> tuple[str, str]:
    """What to type to change a file, and to take that back."""
    if new <= old:
        return "it is as high as it can be", ""
    if not os.access(path, os.W_OK):
        return f"{shown(path)} cannot be written from here: it takes root, outside of containers", ""
    return f"write {path} {new}", f"write {path} {old}"


# -- the user ----------------------------------------------------------------------------------------------------------


def _nproc(uid: int, pid: int, counted: tasks.Tasks, root: str) -> list[Binding]:
    limit = limits.nproc(pid, root)
    if limit is None or limit.soft is None:
        return []
    mine = [p for p, process in counted.processes.items() if process.uid == uid]
    used = counted.users()[uid]
    exempt = limits.nproc_exempt(pid, root)
    free = max(0, limit.soft - used)
    who = _most({escape(name): n for name, n in counted.names(mine).items()})
    if counted.hidden:
        who += "; /proc hides others from us, so there may be more"
    name = f"{settable.NPROC}{pid}"
    better = settable.more_tasks(limit.soft)
    if limit.hard is not None and limit.hard < better:
        better = limit.hard if limit.hard > limit.soft else better  # above it takes CAP_SYS_RESOURCE
    return [
        Binding(
            f"RLIMIT_NPROC of uid {uid} in process {pid}",
            used,
            limit.soft,
            free,
            binds=not exempt and _is_out(free, limit.soft, _COUNTED),
            exempt=exempt,
            who=who,
            help=f"limits {name} {better}",
            undo=f"limits {name} {limit.soft}",
        )
    ]


# -- cgroups -----------------------------------------------------------------------------------------------------------


def _cgroups(pid: int, root: str) -> list[Binding]:
    mount, own = limits.pids_cgroup(pid, root)
    while mount and own != "/" and not os.path.exists(f"{mount}{own}/pids.events"):
        own = os.path.dirname(own)  # under v2 a cgroup without the controller counts in the one above
    refused = limits.refused_in(mount + own.rstrip("/")) if mount else 0
    # Where the kernel does not say whose limit it was that refused, all those above may have done it.
    from_here = f"{refused} forks in {shown(own)} were refused by its limit or one above (pids.events)" * bool(refused)
    found = []
    for c in limits.pids_cgroups(pid, root):
        by_it = limits.refused_by(c.directory)
        evidence = from_here if by_it is None else f"refused {by_it} forks (pids.events.local)" * bool(by_it)
        free = max(0, c.limit - c.used)
        path = f"{c.directory}/pids.max"
        help_, undo = _change(path, c.limit, settable.more_tasks(c.limit))
        name, binds = f"pids.max of {shown(c.path)}", _is_out(free, c.limit, _STEADY)
        found.append(Binding(name, c.used, c.limit, free, binds, evidence=evidence, path=path, help=help_, undo=undo))
    if _is_contained(root):
        found.append(Binding("pids.max of cgroups outside of this container", 0, None, 0, evidence=from_here))
    return found


def _is_contained(root: str) -> bool:
    """Whether we are in a cgroup namespace, so that limits above its root are not shown."""
    try:
        return os.readlink(f"{root}/self/ns/cgroup") != f"cgroup:[{namespaces.INIT_CGROUP_NS}]"
    except OSError:
        return False


def _members(binding: Binding, counted: tasks.Tasks) -> str:
    """Who counts against a limit; for a cgroup's, those in it and below it."""
    directory, _slash, file = binding.path.rpartition("/")
    if file != "pids.max":
        return binding.who
    names = counted.names(cgroup.processes_below(directory) or ())
    rest = binding.used - names.total()
    text = _most({escape(name): n for name, n in names.items()})
    return text + f"{'; ' * bool(text)}{rest} more that the cgroup does not list: zombies" * (rest > 0)


def _dead_namespace(pid: int, counted: tasks.Tasks, root: str) -> list[Binding]:
    """The pid namespace that children would be born in, if its first process has ended: ENOMEM (pid_namespaces(7))."""
    try:
        own, children = (os.readlink(f"{root}/{pid}/ns/{name}") for name in ("pid", "pid_for_children"))
    except OSError:  # not ours to look at; or it has no first process yet, and then fork makes one
        return []
    if own == children:
        return []
    for other in counted.processes:
        try:
            if os.readlink(f"{root}/{other}/ns/pid") == children:
                return []
        except OSError:
            continue
    name = f"the pid namespace for children of process {pid}"
    evidence = "its first process has ended, so every fork into it fails with ENOMEM, whatever memory there is"
    help_ = "in that shell: exec nsenter --no-fork --pid=/proc/self/ns/pid bash"
    return [Binding(name, 0, 0, 0, binds=True, evidence=evidence, help=help_)]


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory(pid: int, root: str) -> list[Binding]:
    info = memory.meminfo(root)
    if "MemAvailable" not in info:
        return []
    allowed = info["MemTotal"] + info.get("SwapTotal", 0)
    free = info["MemAvailable"] + info.get("SwapFree", 0)
    killed = pressure.memory(root).oom_kills
    evidence = f"the kernel has killed {killed} for want of memory since boot" * bool(killed)
    help_ = "nothing to write: end what is large, or add swap"
    binds = free < _PROCESS_BYTES
    found = [Binding("memory and swap", allowed - free, allowed, free, binds, "bytes", evidence=evidence, help=help_)]
    path = f"{root}/sys/vm/overcommit_memory"
    if procfs.read_int(path) == memory.STRICT and "CommitLimit" in info:
        most, used = info["CommitLimit"], info["Committed_AS"]
        free = max(0, most - used)
        copy = memory.fork_bytes(pid, root)
        evidence = f"a fork of process {pid} promises {_mib(copy)} more (overcommit_memory is {memory.STRICT})"
        help_, undo = _change(path, 0, 1)
        if undo:
            help_, undo = f"write {path} 0", f"write {path} {memory.STRICT}"
        found.append(
            Binding("CommitLimit", used, most, free, free < copy, "bytes")._replace(
                evidence=evidence, path=path, help=help_, undo=undo
            )
        )
    return found


def _memory_cgroups(pid: int, root: str) -> list[Binding]:
    found = []
    for c in memory.cgroups(pid, root):
        used = max(0, c.used - c.reclaimable)
        free = max(0, c.limit - used)
        help_, undo = _change(c.file, c.limit, settable.more_bytes(c.limit))
        evidence = f"{c.refused} ({os.path.dirname(c.file)})" * bool(c.refused)
        name, binds = f"{c.what} of {shown(c.path)}", free < _PROCESS_BYTES
        found.append(
            Binding(name, used, c.limit, free, binds, "bytes", evidence=evidence, path=c.file, help=help_, undo=undo)
        )
    return found


# -- for people --------------------------------------------------------------------------------------------------------


def lines(bindings: Sequence[Binding]) -> list[str]:
    """The answer in the first line, then a table, then who fills the limits that matter and what would help."""
    binding = [b for b in bindings if b.binds]
    text = [_answer(bindings, binding)]
    rows: list[tuple[str, ...]] = [("USED", "ALLOWED", "FREE", "LIMIT")]
    for b in bindings:
        state = " (reached)" * b.binds + f" (does not bind: {b.exempt})" * bool(b.exempt)
        numbers = [_amount(b, n) if b.allowed is not None else "?" for n in (b.used, b.allowed or 0, b.free)]
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


def _answer(bindings: Sequence[Binding], binding: Sequence[Binding]) -> str:
    if binding:
        causes = [f"{b.name} is reached, {_amount(b, b.used)} of {_amount(b, b.allowed or 0)} used" for b in binding]
        error = "EAGAIN" if any(b.unit == "tasks" and b.allowed for b in binding) else "ENOMEM"
        return f"fork fails ({error}) because {'; and because '.join(causes)}"
    nearest = next((b for b in bindings if b.allowed is not None and not b.exempt), None)
    if nearest is None:
        return "no limit can be read here"
    used = f"{_amount(nearest, nearest.used)} of {_amount(nearest, nearest.allowed or 0)} used"
    unseen = any(b.allowed is None for b in bindings)
    return f"no limit is reached{' that can be seen from here' * unseen}; nearest is {nearest.name}: {used}"


def _amount(binding: Binding, number: int) -> str:
    return str(number) if binding.unit == "tasks" else _mib(number)


def _mib(number: int) -> str:
    return f"{number // _MIB} MiB"
