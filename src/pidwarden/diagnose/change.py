"""The shell command that raises a limit, the one that undoes it, and what makes it last. Pure: nothing is done here."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.limits import Kind
from pidwarden.model.container import containers

if TYPE_CHECKING:
    from pidwarden.diagnose.limits import Binding

_SYSCTL_FILE = "/etc/sysctl.d/90-limits.conf"
_UNIT = re.compile(r"[^/]+\.(?:service|scope|slice)")
_MANAGER = re.compile(r"user@(\d+)\.service")
_CLIENTS = {"docker": "docker", "podman": "podman"}  # engines whose `update` changes the limits of a living container
_CONTAINER_OPTION = {"pids.max": "--pids-limit", "memory.max": "--memory", "memory.limit_in_bytes": "--memory"}
_UNIT_PROPERTY = {"pids.max": "TasksMax", "memory.max": "MemoryMax", "memory.limit_in_bytes": "MemoryMax"}


class Change(NamedTuple):
    """``do`` and ``undo`` are lines for a shell of root's, or empty; ``lasting`` says where it stays over a reboot.

    ``note`` says what to know before.
    """

    do: str = ""
    undo: str = ""
    lasting: str = ""
    note: str = ""


class Machine(NamedTuple):
    """What decides how a limit is changed here."""

    systemd: bool  # whether it is the init
    proc: str = "/proc"
    user: str = ""  # the name of the user whose limit it is


def of(binding: Binding, machine: Machine) -> Change:
    """What helps where this limit binds; with no ``do`` the note says why."""
    kind = binding.kind
    if kind in (Kind.PID_MAX, Kind.THREADS_MAX, Kind.NAMESPACES, Kind.FILE_MAX):
        return _sysctl(binding, machine)
    if kind in (Kind.NPROC, Kind.NOFILE):
        return _rlimit(binding, machine)
    if kind in (Kind.PIDS, Kind.MEMORY_CGROUP) and binding.path:
        return _cgroup(binding, machine)
    return _FIXED[kind] if kind in _FIXED else Change(note=binding.unseen or "it cannot be changed from here")


_FIXED: dict[Kind | None, Change] = {
    Kind.COMMIT: Change(
        "sysctl -w vm.overcommit_memory=0",
        "sysctl -w vm.overcommit_memory=2",
        f"vm.overcommit_memory = 0 in {_SYSCTL_FILE}, and out of the file that sets 2: `sysctl --system` names it",
        "strict accounting was chosen by somebody: more swap, or a higher vm.overcommit_ratio, keeps it",
    ),
    Kind.MEMORY: Change(
        "fallocate -l 1G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile",
        "swapoff /swapfile && rm /swapfile",
        "/swapfile none swap sw 0 0 in /etc/fstab",
        "or end what is large: `ps axo rss,pid,comm --sort=-rss | head`",
    ),
    Kind.DEAD_INIT: Change(
        "exec nsenter --no-fork --pid=/proc/self/ns/pid bash",
        note="in that very shell: nobody else can change where its children are born. Start the namespace with "
        "`unshare --pid --fork`, so that its first process stays",
    ),
}


def _sysctl(binding: Binding, machine: Machine) -> Change:
    name = binding.path.removeprefix(f"{machine.proc}/sys/").replace("/", ".")
    if binding.better <= (binding.allowed or 0):
        return Change(note="it is as high as it can be: end who fills it")
    return Change(
        f"sysctl -w {name}={binding.better}",
        f"sysctl -w {name}={binding.allowed}",
        f"{name} = {binding.better} in {_SYSCTL_FILE}",
    )


def _rlimit(binding: Binding, machine: Machine) -> Change:
    files = binding.kind is Kind.NOFILE
    option, item, unit_key = ("--nofile", "nofile", "LimitNOFILE") if files else ("--nproc", "nproc", "LimitNPROC")
    number = str(binding.better) if binding.better else "unlimited"
    old_hard = "unlimited" if binding.hard is None else str(binding.hard)
    above = binding.hard is not None and binding.better > binding.hard
    new = f"{binding.better}:{binding.better if above else old_hard}"
    unit = _unit(binding.cgroup)
    if unit and unit.endswith(".service") and machine.systemd:
        lasting = f"{unit_key}={binding.better or 'infinity'} below [Service]: `systemctl edit {quote(unit)}`"
    else:
        who = machine.user or "USER"
        lasting = f"{who} - {item} {number} in /etc/security/limits.d/90-{item}.conf, for logins from then on"
    return Change(
        f"prlimit --pid {binding.pid} {option}={new}",
        f"prlimit --pid {binding.pid} {option}={binding.allowed}:{old_hard}",
        lasting,
        "above the hard limit: takes CAP_SYS_RESOURCE" if above else "each process has its own: children inherit it",
    )


def _unit(path: str) -> str:
    """The unit that a cgroup is, empty if it is none of systemd's."""
    last = path.rpartition("/")[2]
    return last if _UNIT.fullmatch(last) else ""


def _cgroup(binding: Binding, machine: Machine) -> Change:
    file = binding.path.rpartition("/")[2]
    old = str(binding.allowed)
    inside = containers(binding.cgroup)
    own = inside[-1] if inside and containers(binding.cgroup.rpartition("/")[0]) != inside else None
    if own and (option := _CONTAINER_OPTION.get(file)) and own.engine in _CLIENTS:
        client = f"{_CLIENTS[own.engine]} update {option}"
        swap = " --memory-swap=-1" * (option == "--memory")
        return Change(
            f"{client}={binding.better}{swap} {own.short}",
            f"{client}={old}{swap} {own.short}",
            f"{client} stays with the container; for the next one: `{_CLIENTS[own.engine]} run {option}=…`",
        )
    unit, key = _unit(binding.cgroup), _UNIT_PROPERTY.get(file)
    if unit and key and machine.systemd and not inside:
        manager = next((m[1] for part in binding.cgroup.split("/")[:-1] if (m := _MANAGER.fullmatch(part))), "")
        control = "systemctl" + f" --user --machine={manager}@" * bool(manager)
        words = f"{control} set-property --runtime {quote(unit)} {key}"
        if unit.endswith(".scope"):
            lasting = "a scope goes with its session: set it where it is started, or for its slice"
        else:
            lasting = (
                f"the same without --runtime (in /etc/systemd/system.control/{unit}.d/50-{key}.conf)"
                if not manager
                else "the same without --runtime"
            )
        return Change(f"{words}={binding.better}", f"{words}={old}", lasting)
    target = quote(binding.path)
    note = "whoever made this cgroup may set it again"
    if inside and inside[0].pod:
        note = (
            "the kubelet made this cgroup and may set it again: podPidsLimit in its configuration, or the pod's limits"
        )
    return Change(f"echo {binding.better} > {target}", f"echo {old} > {target}", "", note)
