"""What keeps somebody from tracing, and what to type: capabilities, BPF settings, whose processes they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.cli import source
from pidwarden.kernel import namespaces, procfs, trial

if TYPE_CHECKING:
    from collections.abc import Collection

_SYS_PTRACE, _SYS_ADMIN, _PERFMON, _BPF = 19, 21, 38, 39  # include/uapi/linux/capability.h
_SCOPES = {
    1: "only a process's ancestors may look into it",
    2: "only root (CAP_SYS_PTRACE) may look into a process",
    3: "nobody may look into a process until the next boot",
}


def capabilities() -> int:
    """Our effective ones, as bits."""
    data = procfs.read_bytes(f"{procfs.PROC}/self/status") or b""
    for line in data.split(b"\n"):
        if line.startswith(b"CapEff:"):
            return int(line.split()[1], 16)
    return 0


def may_load() -> bool:
    """Whether we have what the kernel asks for to load a tracing program."""
    have = capabilities()
    return bool(have >> _SYS_ADMIN & 1 or (have >> _BPF & 1 and have >> _PERFMON & 1))


def is_inside() -> bool:
    """Whether we are in a pid namespace of our own, where the kernel side knows everybody by another number."""
    return namespaces.pid_namespace("self") not in (namespaces.INIT_PID_NS, None)


def of_trace() -> list[str]:
    """Why system calls cannot be traced by us, a sentence each, with what to type."""
    have, found = capabilities(), []
    if not may_load():
        lacking = [name for name, bit in (("CAP_BPF", _BPF), ("CAP_PERFMON", _PERFMON)) if not have >> bit & 1]
        advice = "type `sudo pidwarden trace …`"
        if os.geteuid() == 0:
            advice = "give the service or container these capabilities, or CAP_SYS_ADMIN"
        found.append(f"tracing takes CAP_BPF and CAP_PERFMON, and we lack {' and '.join(lacking)}; {advice}")
    value = procfs.read_int(f"{procfs.PROC}/sys/kernel/unprivileged_bpf_disabled")
    if value and not may_load():
        found.append(f"ordinary users may not load BPF programs (kernel.unprivileged_bpf_disabled={value})")
    if _lockdown() == "confidentiality":
        found.append("kernel lockdown is at confidentiality: not even root's programs may read memory; boot without it")
    if is_inside():
        found.append("we are in a PID namespace of a container; run pidwarden on the host, or with `--pid=host`")
    return found


def _lockdown() -> str:
    try:
        modes = trial.security("lockdown")
        return modes[modes.index("[") + 1 : modes.index("]")]
    except (OSError, ValueError, trial.Absent):
        return ""


def of_snapshot(pids: Collection[int]) -> list[str]:
    """Why what these processes sit in may not be seen, a sentence each."""
    have, found = capabilities(), []
    if have >> _SYS_PTRACE & 1:
        return []
    if not os.geteuid():
        found.append("we lack CAP_SYS_PTRACE: give the service or container that capability")
    others = sorted({procfs.owner(pid) for pid in pids} - {os.geteuid(), -1})
    if others:
        names = ", ".join(source.user_name(uid) for uid in others[:5])
        found.append(f"processes of {names} are not yours (you are {source.user_name(os.geteuid())}): type `sudo …`")
    scope = procfs.read_int(f"{procfs.PROC}/sys/kernel/yama/ptrace_scope")
    if scope in _SCOPES:
        text = f"kernel.yama.ptrace_scope={scope}: {_SCOPES[scope]}"
        found.append(text + ("; type `sudo pidwarden trace …`" if scope < 3 else ""))  # noqa: PLR2004
    if hidden := source.hidden_by():
        found.append(f"/proc is mounted with {hidden}: processes of others are not shown; type `sudo …`")
    return found
