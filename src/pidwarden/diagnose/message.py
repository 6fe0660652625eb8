"""What an error line means: which call failed with which error, and which limits can make it. Pure.

What the errors mean is in fork(2), clone(2), execve(2), unshare(2) and copy_process() in the kernel's kernel/fork.c.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.limits import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


class Call(StrEnum):
    """What was tried."""

    FORK = "fork"
    THREAD = "make a thread"
    EXEC = "execute a program"
    NAMESPACE = "make a namespace"
    OPEN = "open a file"


class Message(NamedTuple):
    """What a line says. ``guessed``: it names no error, and ``error`` is what it is as a rule."""

    error: str
    call: Call
    program: str = ""  # who writes like this, if that can be told
    guessed: bool = False
    cgroup: str = ""  # the cgroup that it names


class Meaning(NamedTuple):
    """What an error of a call says, the limits that give it, and what else does that no counter shows."""

    text: str
    kinds: tuple[Kind, ...] = ()
    besides: tuple[str, ...] = ()


# Linux's numbers, as on all but alpha, mips, parisc and sparc.
_NUMBERS = {1: "EPERM", 7: "E2BIG", 10: "ECHILD", 11: "EAGAIN", 12: "ENOMEM", 13: "EACCES", 16: "EBUSY", 22: "EINVAL"}
_NUMBERS |= {23: "ENFILE", 24: "EMFILE", 28: "ENOSPC", 38: "ENOSYS", 87: "EUSERS"}
_NAMES = frozenset((*_NUMBERS.values(), "EWOULDBLOCK"))

# What glibc, musl and programs of their own call them. The longer one first: "Too many open files in system".
_TEXTS = (
    ("too many open files in system", "ENFILE"),
    ("too many open files", "EMFILE"),
    ("no file descriptors available", "EMFILE"),
    ("resource temporarily unavailable", "EAGAIN"),
    ("resource unavailable, try again", "EAGAIN"),
    ("wouldblock", "EAGAIN"),
    ("cannot allocate memory", "ENOMEM"),
    ("not enough space", "ENOMEM"),
    ("out of memory", "ENOMEM"),
    ("no space left on device", "ENOSPC"),
    ("operation not permitted", "EPERM"),
    ("permission denied", "EACCES"),
    ("argument list too long", "E2BIG"),
    ("function not implemented", "ENOSYS"),
    ("invalid argument", "EINVAL"),
    ("device or resource busy", "EBUSY"),
    ("too many users", "EUSERS"),
)

# Lines of programs: what they look like, who writes them, what was tried, the error where the line has none (or lies).
_LINES: tuple[tuple[str, str, Call, str], ...] = (
    (r"cgroup: fork rejected by pids controller in (?P<cgroup>.+)", "the kernel", Call.FORK, "EAGAIN"),
    (r"VFS: file-max limit \d+ reached", "the kernel", Call.OPEN, "ENFILE"),
    (r"Out of memory: Kill(ed)? process|Memory cgroup out of memory|oom-kill:", "the kernel", Call.FORK, "ENOMEM"),
    # bash tries again after EAGAIN alone, and names the error of the wait in between.
    (r"fork: retry: (No child processes|Resource temp)", "bash", Call.FORK, "=EAGAIN"),
    (r"fork: retry:|\bbash: .*fork:", "bash", Call.FORK, "EAGAIN"),
    (r"(EAGAIN|EWOULDBLOCK): .*, (read|write|open|recv|send)\b", "Node.js", Call.OPEN, ""),
    (r"could not complete without blocking", "Python", Call.OPEN, "EAGAIN"),
    (r"unable to create (new )?native thread|pthread_create (failed )?\(E\w+\)", "Java", Call.THREAD, "EAGAIN"),
    (r"java\.io\.IOException: .*\berror=\d", "Java", Call.FORK, ""),
    (r"failed to create new OS thread|newosproc|increase max user processes", "Go", Call.THREAD, "EAGAIN"),
    (r"runtime/cgo: pthread_create failed", "Go", Call.THREAD, "EAGAIN"),
    (r"can't start new thread", "Python", Call.THREAD, "EAGAIN"),
    (r"BlockingIOError: \[Errno", "Python", Call.FORK, "EAGAIN"),
    (r"can't create (a new )?thread (\(errno|to handle)", "MySQL", Call.THREAD, "EAGAIN"),
    (r"can't create Thread", "Ruby", Call.THREAD, "EAGAIN"),
    (r"std::system_error", "C++", Call.THREAD, ""),
    (r"failed to spawn thread", "Rust", Call.THREAD, "EAGAIN"),
    (r"blas_thread_init", "OpenBLAS", Call.THREAD, "EAGAIN"),
    (r"libgomp: Thread creation failed", "OpenMP", Call.THREAD, "EAGAIN"),
    (r"\bspawn(Sync)? (\S+ )?(?-i:E[A-Z]{3,})", "Node.js", Call.FORK, ""),
    (r"uv_thread_create|node::.*thread", "Node.js", Call.THREAD, "EAGAIN"),
    (r"OCI runtime|runc(\[\d+\])?:|container_linux\.go|process_linux\.go", "a container runtime", Call.FORK, ""),
    (r"fork/exec \S+: ", "Go", Call.FORK, ""),
    (r"bwrap:|Creating new namespace failed", "bubblewrap", Call.NAMESPACE, ""),
    (r"unshare(\(|: | failed)|newuidmap|clone\S* (with )?(new)?(user |pid )?namespace", "unshare", Call.NAMESPACE, ""),
    (r"(failed|unable) to create (new )?\w* ?namespace", "", Call.NAMESPACE, ""),
    (r"CLONE_NEW\w+", "", Call.NAMESPACE, ""),
    (r"sshd\S*: .*fork|fork of unprivileged child failed", "sshd", Call.FORK, "EAGAIN"),
    (r"\bcron\S*: .*fork|\(CRON\) .*fork", "cron", Call.FORK, "EAGAIN"),
    (r"systemd\S*: .*(fork|spawn|task)\b|Failed to fork|Failed to spawn executor", "systemd", Call.FORK, "EAGAIN"),
    (r"unable to create threaded", "git", Call.THREAD, ""),
    (r"cannot fork\(\)|cannot create async process", "git", Call.FORK, ""),
    (r"make(\[\d+\])?: (\*\*\* )?v?fork", "make", Call.FORK, ""),
    (r"No more processes", "csh", Call.FORK, "EAGAIN"),
    (r"(\bzsh|^\S+:\d+): fork failed: ", "zsh", Call.FORK, ""),
    (r"^(\S*sh: )?(\d+: |line \d+: )?Cannot fork$", "dash", Call.FORK, "EAGAIN"),
    (r"sh: (.*: )?can't fork", "busybox", Call.FORK, "EAGAIN"),
    (r"(cannot|could not|can't|failed to|unable to) fork", "", Call.FORK, "EAGAIN"),
    (r"(cannot|could not|can't|failed to|unable to) (create|start)( a)?( new)? thread", "", Call.THREAD, "EAGAIN"),
    (r"thread_create|thread creation failed", "", Call.THREAD, "EAGAIN"),
    (r"\b(v?fork|clone3?|posix_spawn|popen)\b", "", Call.FORK, ""),
    (r"(failed to|unable to|cannot) exec|\bexecve?\b|cannot set user id|\bset(re|res)?uid\b", "", Call.EXEC, ""),
)
_SYMBOL = re.compile(r"(?<![A-Za-z0-9_])(E[A-Z0-9]{3,})(?![A-Za-z0-9_])")
_ALONE = re.compile(r"\W*(no space left on device|\w+|errno\W*\d+)\W*", re.IGNORECASE)  # a disk says it with a name
_NUMBER = re.compile(r"(?:errno\s*[=:]?\s*|error\s*[=:]\s*|code\s*[=:]?\s*|\(|^)-?(\d{1,3})(?:\)|\]|\b)", re.IGNORECASE)

_BY_ERROR_ALONE = {
    "ENOSPC": Call.NAMESPACE,
    "EUSERS": Call.NAMESPACE,
    "EMFILE": Call.OPEN,
    "ENFILE": Call.OPEN,
    "E2BIG": Call.EXEC,
}
_MOST_CHARACTERS = 4096

_TASKS = (Kind.NPROC, Kind.PIDS, Kind.PID_MAX, Kind.THREADS_MAX, Kind.PID_NAMESPACE)
_MEMORY = (Kind.MEMORY, Kind.COMMIT, Kind.MEMORY_CGROUP)
_SECCOMP = "a seccomp filter or a security module (AppArmor, SELinux) refuses it; no counter shows that"
_FORK: dict[str, Meaning] = {
    "EAGAIN": Meaning(
        "a limit on tasks is reached; memory is not the matter, whatever the message says",
        _TASKS,
        ("a thread with a SCHED_DEADLINE policy may not fork without its reset-on-fork flag",),
    ),
    "ENOMEM": Meaning(
        "there is no memory for it, or the pid namespace that the child would be born in has lost its first process",
        (Kind.DEAD_INIT, *_MEMORY),
    ),
    "EPERM": Meaning(
        "it is forbidden, not full: no limit answers that",
        (),
        (_SECCOMP, "new namespaces without the right to make them (CLONE_NEW…)"),
    ),
    "ENOSYS": Meaning("the call is not there, or a seccomp filter says so", (), (_SECCOMP,)),
    "EINVAL": Meaning(
        "the call asked for what does not go together, or for a pid in a namespace whose first process is not made yet"
    ),
    "EBUSY": Meaning("the cgroup asked for with CLONE_INTO_CGROUP passes controllers on, so nobody may be in it"),
    "ENOSPC": Meaning(
        "a new namespace is refused: too many of its kind, or 32 inside of each other; the disk is not full",
        (Kind.NAMESPACES,),
    ),
}
_OTHERS: dict[tuple[Call, str], Meaning] = {
    (Call.THREAD, "EAGAIN"): Meaning(
        "a limit on tasks is reached (a thread is one), or there was no room for its stack, which the C library "
        "answers with the same error",
        (*_TASKS, *_MEMORY),
        ("RLIMIT_AS (`ulimit -v`) or vm.max_map_count left no room for a stack of, as a rule, 8 MiB",),
    ),
    (Call.EXEC, "EAGAIN"): Meaning(
        "its user changed, and that user has more tasks than RLIMIT_NPROC allows: execve says it in place of setuid",
        (Kind.NPROC,),
    ),
    (Call.EXEC, "E2BIG"): Meaning(
        "arguments and environment together are too long (a quarter of RLIMIT_STACK, 128 KiB each): no table is full; "
        "use `xargs`"
    ),
    (Call.EXEC, "ENOMEM"): Meaning("there is no memory for the new program", _MEMORY),
    (Call.EXEC, "EPERM"): Meaning("it is forbidden, not full: no limit answers that", (), (_SECCOMP,)),
    (Call.EXEC, "EACCES"): Meaning(
        "the file may not be executed: its mode, a noexec mount or a security module; no limit answers that"
    ),
    (Call.NAMESPACE, "EPERM"): Meaning(
        "this user may not make that namespace",
        (),
        (
            "unprivileged user namespaces are switched off (kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces = 0)",
            _SECCOMP,
        ),
    ),
    (Call.NAMESPACE, "EUSERS"): Meaning("user namespaces are 32 inside of each other (before Linux 4.9)"),
    (Call.OPEN, "EMFILE"): Meaning(
        "this process has as many descriptors as RLIMIT_NOFILE allows; pipes of a fork need two more", (Kind.NOFILE,)
    ),
    (Call.OPEN, "ENFILE"): Meaning("the whole machine has as many open files as fs.file-max allows", (Kind.FILE_MAX,)),
    (Call.OPEN, "ENOSPC"): Meaning(
        "the disk is full, or its inodes, or inotify's watches; only of fork, clone or unshare "
        "would it mean that there are too many namespaces"
    ),
    (Call.OPEN, "EAGAIN"): Meaning("nothing was there to be read, or no room to write: no limit answers that"),
}
GIVEN = (
    "an error's name or number (EAGAIN, 11), or a whole line of a program's, such as `sh: 0: Cannot fork`, in English "
    "(run it with LC_ALL=C) or in the language that is set here"
)


def parse(line: str, own: Mapping[str, str] | None = None) -> Message | None:
    """What a line says; None if nothing in it is known. The first error wins that it names by a symbol, text, number.

    `own`: what the errors are called in the reader's language: texts in lower case, and names.

    Lines of any length are cut after 4,096 characters; they are somebody else's bytes and are never shown as they are.
    """
    line = line[:_MOST_CHARACTERS].strip()
    error = _error(line, own or {})
    for pattern, program, call, usual in _LINES:
        if (found := re.search(pattern, line, re.IGNORECASE)) and (error or usual):
            stated = bool(error) or program == "the kernel"
            named = usual[1:] if usual.startswith("=") else error or usual
            cgroup = found.groupdict().get("cgroup") or ""
            return Message(named, _really(call, named), program, guessed=not stated, cgroup=cgroup)
    if error == "ENOSPC" and not _ALONE.fullmatch(line):
        return Message(error, Call.OPEN)
    return Message(error, _BY_ERROR_ALONE.get(error, Call.FORK)) if error else None


def _really(call: Call, error: str) -> Call:
    """What failed: the pipes of a fork, or its new namespaces, are not the fork."""
    if error in ("EMFILE", "ENFILE"):
        return Call.OPEN
    return Call.NAMESPACE if error == "ENOSPC" and call is Call.FORK else call


def names() -> dict[int, str]:
    """The errors that are known, by number."""
    return dict(_NUMBERS)


def _error(line: str, own: Mapping[str, str]) -> str:
    for found in _SYMBOL.finditer(line if _SYMBOL.search(line) else line.upper() if line.isalpha() else ""):
        if found[1] in _NAMES:
            return "EAGAIN" if found[1] == "EWOULDBLOCK" else found[1]
    lower = line.lower()
    for text, name in (*_TEXTS, *own.items()):
        if text in lower and not (name == "ENOMEM" and "native thread" in lower):
            return name
    for number in _NUMBER.finditer(line):
        if (known := _NUMBERS.get(int(number[1]))) is not None:
            return known
    return ""


def meaning(message: Message) -> Meaning:
    """What that error of that call means. Of a line that names no error, what the other usual one means as well."""
    known = _OTHERS.get((message.call, message.error)) or _FORK.get(message.error)
    if known is None:
        return Meaning("no limit on processes answers that")
    if message.guessed and message.error == "EAGAIN":
        kinds = dict.fromkeys((*known.kinds, *_FORK["ENOMEM"].kinds))
        return known._replace(
            text="the line names no error: as a rule a limit on tasks is reached (EAGAIN), else memory is out (ENOMEM)",
            kinds=tuple(kinds),
        )
    return known
