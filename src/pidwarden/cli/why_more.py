"""Limits that fork itself does not meet, for error lines that name them: open files and namespaces. And the log."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.limits import Binding, Kind
from pidwarden.errors import NoPermission, PidwardenError
from pidwarden.kernel import limits, namespaces, procfs
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pidwarden.kernel.subjects import Subject
    from pidwarden.kernel.tasks import Tasks

# The kinds of namespaces: the name of the limit, and that of the link in /proc/PID/ns (namespaces(7)).
_NAMESPACES = {"user": "user", "pid": "pid", "mnt": "mnt", "net": "net", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup"}
_NAMESPACES |= {"time": "time"}
_LOG_LINES = 5000
_REJECTED = re.compile(rb"cgroup: fork rejected by pids controller in (.*)")
_OUT_OF_MEMORY = re.compile(rb"^(Out of memory: Killed|Memory cgroup out of memory)")


def found(kinds: Collection[Kind], subjects: Iterable[Subject], counted: Tasks) -> list[Binding]:
    """The limits of these kinds on those processes, in order of rank; empty if no kind is one of ours."""
    subjects = list(subjects)
    answers: list[Binding] = []
    if Kind.FILE_MAX in kinds:
        answers += _file_max()
    if Kind.NOFILE in kinds:
        answers += [b for subject in subjects for b in _nofile(subject)]
    if Kind.NAMESPACES in kinds:
        answers += [b for uid in dict.fromkeys(s.uid for s in subjects) for b in _namespaces(uid, counted)]
    return sorted(answers, key=lambda b: b.rank)


def _file_max() -> list[Binding]:
    path = f"{procfs.PROC}/sys/fs/file-nr"
    words = (procfs.read_bytes(path) or b"").split()
    if len(words) != 3:  # noqa: PLR2004  (proc_sys_fs(5): allocated, 0, the most)
        return []
    used, allowed = int(words[0]), int(words[2])
    free = max(0, allowed - used)
    better = min(allowed + max(1024, allowed // 4), (1 << 63) - 1)
    # Each processor counts some of its own before it tells the others.
    one = Binding("file-max", used, allowed, free, free <= min(64, allowed // 64), "files", kind=Kind.FILE_MAX)
    return [one._replace(path=f"{procfs.PROC}/sys/fs/file-max", better=better)]


def _nofile(subject: Subject) -> list[Binding]:
    limit = limits.rlimit(subject.pid, b"Max open files")
    if limit is None or limit.soft is None:
        return []
    name = f"RLIMIT_NOFILE of process {subject.pid}"
    try:
        used = len(os.listdir(f"{procfs.PROC}/{subject.pid}/fd"))
    except OSError:
        unseen = f"its descriptors are shown to its user and to root: `sudo ls /proc/{subject.pid}/fd | wc -l`"
        return [Binding(name, 0, None, 0, unit="files", kind=Kind.NOFILE, unseen=unseen)]
    free = max(0, limit.soft - used)
    more = max(64, limit.soft // 4)
    one = Binding(name, used, limit.soft, free, free <= 1, "files", kind=Kind.NOFILE, pid=subject.pid, uid=subject.uid)
    return [one._replace(hard=limit.hard, better=limit.soft + more)]


def _namespaces(uid: int, counted: Tasks) -> list[Binding]:
    mine = [pid for pid, p in counted.processes.items() if p.uid == uid]
    answers = []
    for name, link in _NAMESPACES.items():
        path = f"{procfs.PROC}/sys/user/max_{name}_namespaces"
        allowed = procfs.read_int(path)
        if allowed is None:
            continue
        used = namespaces.created(link, mine)
        free = max(0, allowed - used)
        one = Binding(f"max_{name}_namespaces of uid {uid}", used, allowed, free, free == 0, "namespaces", path=path)
        answers.append(one._replace(kind=Kind.NAMESPACES, uid=uid, better=allowed + max(16, allowed // 4)))
    return answers


# -- the kernel's log --------------------------------------------------------------------------------------------------


class Logged(NamedTuple):
    """A refusal that the kernel has logged: in which cgroup (empty: not said), how long ago, its words."""

    cgroup: str
    seconds: float | None
    text: str

    def concerns(self, binding: Binding) -> bool:
        """Whether it may have been that limit: of the cgroup that is named or one above it."""
        if binding.kind is Kind.PIDS and binding.cgroup and self.cgroup:
            own = binding.cgroup.rstrip("/")
            return self.cgroup == own or self.cgroup.startswith(own + "/")
        return binding.kind is Kind.MEMORY and not self.cgroup


def logged() -> tuple[list[Logged], str]:
    """The refusals that the kernel still has in its log; and why it cannot be read, empty if it can."""
    from pidwarden.rescue import log  # noqa: PLC0415

    try:
        messages = log.last(_LOG_LINES)
    except NoPermission:
        return [], "it takes root (kernel.dmesg_restrict): `sudo pidwarden why`"
    except PidwardenError as why:
        return [], str(why)
    answers = {}
    for message in messages:
        ago = None if message.us is None else max(0.0, time.monotonic() - message.us / 1e6)
        path = ""
        if rejected := _REJECTED.search(message.text):
            path = os.fsdecode(rejected[1])
        elif not _OUT_OF_MEMORY.match(message.text):
            continue
        answers[path] = Logged(path, ago, escape(message.text))  # the last of each
    return list(answers.values()), ""
