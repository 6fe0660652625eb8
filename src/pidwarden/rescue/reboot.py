"""The last resort: sync, then reboot(2), asked for twice; and what is left where that is not allowed."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NoPermission, NotPossible
from pidwarden.kernel import limits, memory, namespaces, procfs
from pidwarden.kernel.procfs import PROC

if TYPE_CHECKING:
    from collections.abc import Callable

WORD = "yes, reboot"
WITHIN_NS = 30_000_000_000
_RESTART = 0x01234567  # LINUX_REBOOT_CMD_RESTART (include/uapi/linux/reboot.h)
_CAP_SYS_BOOT = 22
_MIB = 1 << 20
# Bits of kernel.sysrq (Documentation/admin-guide/sysrq.rst).
_SYSRQ = {
    2: "the console's log level",
    4: "the keyboard (r, k)",
    8: "dumps of tasks and memory (t, w, m …)",
    16: "sync (s)",
    32: "read-only remount (u)",
    64: "signals to all (e, i, f)",
    128: "reboot and power-off (b, o)",
    256: "real-time tasks made ordinary (n)",
}
_KEYS = (
    "Alt-SysRq-e and -i (end, then kill all but init), or at last -s -u -b (sync, read-only, reboot) at the keyboard"
)
_libc = ctypes.CDLL(None, use_errno=True)


class Asked(NamedTuple):
    """Whether a reboot was asked for, in ns since boot."""

    at_ns: int | None = None


class Answer(NamedTuple):
    """What is known now, whether to go on with it, and what to say."""

    asked: Asked
    go: bool
    lines: list[str]


def restart() -> int:
    """reboot(2) through libc. Does not return if it works; else an errno."""
    _libc.reboot(_RESTART)
    return ctypes.get_errno()


def ask(asked: Asked, word: str, now_ns: int, lost: list[str]) -> Answer:
    """One step towards a reboot: it takes two, the second within 30 s and with the very words. Pure.

    Anything else begins anew. `lost`: what to say of what would be lost.
    """
    if asked.at_ns is not None and word == WORD and 0 <= now_ns - asked.at_ns <= WITHIN_NS:
        return Answer(Asked(), go=True, lines=[])
    late = asked.at_ns is not None and word == WORD
    first = ["that came too late, so it is asked again"] * late
    return Answer(Asked(now_ns), go=False, lines=[*first, *lost, f"type `reboot {WORD}` within 30 s to do it"])


def lost(root: str = PROC, *, sync: bool = True) -> list[str]:
    """What a reboot takes away, for :func:`ask`."""
    info = memory.meminfo(root)
    dirty = (info.get("Dirty", 0) + info.get("Writeback", 0)) / _MIB
    tasks = procfs.tasks_in_use(root)
    where = "this container" if _is_contained(root) else "the whole machine"
    text = [f"this restarts {where} at once: {tasks} tasks end unasked, and what they have not written is lost"]
    if sync:
        text.append(f"before that {dirty:.1f} MiB that wait for the disk are written; if a disk is dead that hangs for")
        text.append("ever, and this console with it: `reboot --no-sync` leaves it out")
    else:
        text.append(f"without sync: {dirty:.1f} MiB that wait for the disk are lost as well")
    return text


def reboot(call: Callable[[], int], sync: Callable[[], None] | None, root: str = PROC) -> None:
    """Does it: `sync` (None leaves it out), then `call`, which returns an errno if it returns.

    Raises:
        NoPermission: CAP_SYS_BOOT is missing; the message has what is left.
        NotPossible: the kernel refused for another reason.
    """
    if not _may_boot(root):
        raise _refused(errno.EPERM, root)
    if sync is not None:
        sync()
    raise _refused(call(), root)


def _may_boot(root: str) -> bool:
    return bool(int(limits.status("self", root).get("CapEff", "0"), 16) >> _CAP_SYS_BOOT & 1)


def _refused(code: int, root: str) -> NoPermission | NotPossible:
    tried = f"tried to reboot: {os.strerror(code)}"
    if code == errno.EPERM:
        return NoPermission(f"{tried}, it takes CAP_SYS_BOOT; {'; '.join(sysrq(root))}")
    return NotPossible(f"{tried}; {'; '.join(sysrq(root))}")


def _is_contained(root: str) -> bool:
    """In a pid namespace of its own reboot(2) ends that one only (pid_namespaces(7))."""
    return namespaces.pid_namespace("self", root) not in (namespaces.INIT_PID_NS, None)


def sysrq(root: str = PROC) -> list[str]:
    """What the magic keys may do here, whether they can be had without a keyboard, and what to type."""
    mask = procfs.read_int(f"{root}/sys/kernel/sysrq")
    if mask is None:
        return ["this kernel has no magic SysRq keys: the reset button is left"]
    if mask == 0:
        allowed = "nothing"
    elif mask == 1:
        allowed = "everything"
    else:
        allowed = ", ".join(what for bit, what in _SYSRQ.items() if mask & bit) or "nothing"
    trigger = f"{root}/sysrq-trigger"
    text = [f"{root}/sys/kernel/sysrq is {mask}: the keys may do {allowed}"]
    if os.access(trigger, os.W_OK):
        # What is written there is done whatever the mask says (drivers/tty/sysrq.c).
        text.append(
            f"type in a shell `echo s > {trigger}`, then u, then b, one after the other: echo starts no process"
        )
    else:
        text.append(f"{trigger} cannot be written from here: be root on the host")
    return [*text, f"or {_KEYS}"]
