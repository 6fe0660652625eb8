"""What can be done about threads that do not wake up: steps, the gentlest first, and what each risks. Pure.

A signal that would only stay pending is never a step.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.sleeps import Cause
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.diagnose.stuck import Group
    from pidwarden.model.mount import Mount
    from pidwarden.model.stuck import Someone, World

_CONTROL = "/sys/fs/fuse/connections"
_STOPPED = "Tt"


class Step(NamedTuple):
    """One thing to do: in words, what to type (empty if there is nothing), what it risks."""

    what: str
    command: str
    risk: str


class Remedy(NamedTuple):
    """Steps; if none exists, ``none`` says so and why. ``kill`` says what SIGKILL would do, for a person."""

    steps: tuple[Step, ...]
    none: str
    kill: str


def remedy(group: Group, world: World) -> Remedy:
    """What helps against this cause, here."""
    steps, none = _STEPS.get(group.cause, _unknown)(group, world)
    verdict = {f.kill for f in group.findings}
    if group.cause is Cause.TRANSIENT:
        kill = "not needed"
    elif verdict == {True}:
        kill = "SIGKILL ends these threads' processes"
        if group.cause in (Cause.NFS, Cause.USERFAULTFD, Cause.MEMORY, Cause.WRITEBACK):
            pids = " ".join(str(p) for p in sorted({f.thread.pid for f in group.findings})[:8])
            steps = (*steps, Step("end those who wait", f"kill -KILL {pids}", "what they have not written is lost"))
    elif True not in verdict and None not in verdict:
        kill = "SIGKILL would only stay pending until the wait ends by itself: not offered"
    elif True in verdict:
        kill = "SIGKILL ends some of them only"
    else:
        kill = _KILL_UNKNOWN.get(group.cause, "whether SIGKILL ends the wait is not known: not offered")
    return Remedy(steps, none if not steps else "", kill)


_KILL_UNKNOWN = {
    Cause.FUSE_SILENT: "SIGKILL ends the wait only of those whose request the daemon has not taken yet, which is not "
    "shown; of the others it would stay pending: not offered",
}
_Advice = tuple[tuple[Step, ...], str]


def _inside(group: Group, world: World) -> str:
    """What goes before a command to run it where the mount is seen: nothing if we see it ourselves."""
    mount = group.place.mount
    if mount is None or mount.number in world.own_mounts:
        return ""
    at = next((f.thread for f in group.findings if mount in f.thread.mounts), group.findings[0].thread)
    return f"nsenter --mount=/proc/{at.pid}/ns/mnt "


def _where(mount: Mount) -> str:
    return shlex.quote(escape(mount.where.encode("utf-8", "surrogateescape")))


def _resume(someone: Someone) -> Step:
    who = f"{someone.pid} ({escape(someone.comm)})"
    risk = "somebody may have stopped it on purpose"
    return Step(f"let {who} go on: it is stopped", f"kill -CONT {someone.pid}", risk)


def _frozen(group: Group, world: World) -> _Advice:
    mount = group.place.mount
    if mount and (name := world.suspended.get(mount.device)):
        command = f"dmsetup resume {shlex.quote(escape(name.encode('utf-8', 'surrogateescape')))}"
        return (Step("resume the device below it", command, "whoever suspended it may count on it"),), ""
    risk = "a snapshot or backup under way may be of no use then"
    if mount is None:
        return (Step("thaw the filesystem, once it is known which one", "fsfreeze --unfreeze MOUNTPOINT", risk),), ""
    command = f"{_inside(group, world)}fsfreeze --unfreeze {_where(mount)}"
    return (Step("thaw the filesystem", command, risk),), ""


def _fuse(group: Group, world: World) -> _Advice:
    steps = [_resume(s) for s in group.waits_for if s.state in _STOPPED]
    mount = group.place.mount
    connection = world.connections.get(mount.connection) if mount else None
    lost = "whatever it has not stored is lost; the mount is dead until it is mounted again"
    if connection and connection.exact:
        pids = " ".join(str(s.pid) for s in connection.holders)
        steps.append(
            Step("restart its daemon; end it first, and every waiter gets an error", f"kill -KILL {pids}", lost)
        )
    if mount:
        number = mount.connection
        command = f"echo 1 > {_CONTROL}/{number}/abort"
        if connection is None or not connection.shown:
            command = f"mount -t fusectl none {_CONTROL} && {command}"
        steps.append(Step("abort the connection: every waiter gets an error", command, lost))
    else:
        command = f"grep . {_CONTROL}/*/waiting"
        steps.append(Step("see which connection owes answers", command, "none; it takes fusectl mounted there"))
    return tuple(steps), ""


def _nfs(group: Group, world: World) -> _Advice:
    mount = group.place.mount
    server = f" {escape(mount.source.encode('utf-8', 'surrogateescape'))}" if mount else ""
    steps = [Step(f"bring the server{server} or the way to it back", "", "none: the calls go on where they were")]
    if mount:
        command = f"{_inside(group, world)}umount -f {_where(mount)}"
        steps.append(Step("give up what it was asked", command, "what was not written is lost; programs see errors"))
    return tuple(steps), ""


def _vfork(group: Group, _world: World) -> _Advice:
    steps = []
    for child in group.waits_for:
        who = f"{child.pid} ({escape(child.comm)})"
        if child.state in _STOPPED:
            steps.append(_resume(child))
        steps.append(Step(f"end the child {who}", f"kill -KILL {child.pid}", "its parent sees that it was killed"))
    if not steps:
        return (Step("look at what its child does", "pidwarden tree", "none"),), ""
    return tuple(steps), ""


def _exec(group: Group, _world: World) -> _Advice:
    steps = []
    for other in group.waits_for:
        who = f"{other.pid} ({escape(other.comm)})"
        if other.state in _STOPPED:
            steps.append(_resume(other))
        elif other.pid not in {f.thread.pid for f in group.findings}:
            risk = "what it traces goes on without it"
            steps.append(Step(f"end {who}, or let it wait(2) for what it traces", f"kill {other.pid}", risk))
    why = "execve waits for something that is not shown; look for the cause among the other groups"
    return tuple(steps), f"none that is known here: {why}"


def _exec_behind(group: Group, _world: World) -> _Advice:
    names = ", ".join(str(s.pid) for s in group.waits_for) or "that process"
    return (Step(f"look at {names}, which is stuck within execve", "", "none"),), ""


def _v1(group: Group, _world: World) -> _Advice:
    if not group.place.name:
        return (), "not known: no frozen cgroup of v1 was found; a machine that is being suspended freezes all too"
    file = shlex.quote(f"{group.place.name}/freezer.state")
    return (Step("thaw the cgroup", f"echo THAWED > {file}", "somebody may have frozen it on purpose"),), ""


def _userfault(_group: Group, _world: World) -> _Advice:
    return (Step("look at whoever handles its memory's faults: it does not answer", "", "none"),), ""


def _core(_group: Group, _world: World) -> _Advice:
    return (Step("wait for the core dump, or look at the program that kernel.core_pattern names", "", "none"),), ""


def _device(group: Group, _world: World) -> _Advice:
    mount = group.place.mount
    device = f" ({escape(mount.source.encode('utf-8', 'surrogateescape'))})" if mount else ""
    return (
        (),
        f"none short of the device{device}: see `dmesg`, its path, cable and controller",
    )


def _journal(_group: Group, _world: World) -> _Advice:
    return (), "none but what it waits for: its journal or write-back waits for the device below; see `dmesg`"


def _memory(_group: Group, _world: World) -> _Advice:
    return (Step("free memory: end or limit who uses most", "", "whoever is ended"),), ""


def _lock(group: Group, _world: World) -> _Advice:
    steps = [
        Step(f"look at {owner.pid} ({escape(owner.comm)}), the lock's likely owner", "", "none")
        for owner in group.waits_for
    ]
    return tuple(steps), "act on whoever holds the lock; who that is, is not known"


def _transient(_group: Group, _world: World) -> _Advice:
    return (Step("wait: it makes way, if slowly", "", "none"),), ""


def _unknown(group: Group, _world: World) -> _Advice:
    reason = group.findings[0].thread.blind
    return (), f"not known: {reason or 'nothing is known here of the function that it sleeps in'}"


_STEPS: dict[Cause, Callable[[Group, World], _Advice]] = {
    Cause.FROZEN_FILESYSTEM: _frozen,
    Cause.FUSE_SILENT: _fuse,
    Cause.FUSE_BEHIND: _fuse,
    Cause.NFS: _nfs,
    Cause.NETWORK_FILESYSTEM: _nfs,
    Cause.VFORK: _vfork,
    Cause.EXEC: _exec,
    Cause.EXEC_BEHIND: _exec_behind,
    Cause.V1_FROZEN: _v1,
    Cause.USERFAULTFD: _userfault,
    Cause.CORE_DUMP: _core,
    Cause.JOURNAL: _journal,
    Cause.WRITEBACK: _journal,
    Cause.MEMORY: _memory,
    Cause.LOCK: _lock,
    Cause.BLOCK_IO: _device,
    Cause.DEVICE: _device,
    Cause.TRANSIENT: _transient,
}
