"""What the kernel shows of one thread beyond its `stat`: masks, tracer, system call, where it sleeps. Values only."""

from __future__ import annotations

from typing import NamedTuple

SIGCHLD = 17
NO_SYSCALL = -1  # sleeps, but in no system call: a fault, or a thread of the kernel


class Status(NamedTuple):
    """Fields of ``/proc/PID/status`` (proc_pid_status(5)). Masks have bit N-1 for signal N.

    ``nspid`` is the number in each pid namespace, ours first, its own last. ``seccomp`` is 0, 1 or 2, None where the
    kernel was built without it.
    """

    tgid: int
    pid: int
    ppid: int
    tracer: int
    uid: int
    euid: int
    nspid: tuple[int, ...]
    threads: int
    pending: int  # of this thread
    shared_pending: int  # of the process
    blocked: int
    ignored: int
    caught: int
    seccomp: int | None
    state: str

    def is_blocked(self, number: int) -> bool:
        """Whether this thread holds the signal off."""
        return bool(self.blocked >> (number - 1) & 1)

    def is_ignored(self, number: int) -> bool:
        """Whether the process has it as SIG_IGN."""
        return bool(self.ignored >> (number - 1) & 1)

    def is_caught(self, number: int) -> bool:
        """Whether the process has a handler for it."""
        return bool(self.caught >> (number - 1) & 1)

    def is_pending(self, number: int) -> bool:
        """Whether one waits to be taken, by this thread or by the process."""
        return bool((self.pending | self.shared_pending) >> (number - 1) & 1)


class Syscall(NamedTuple):
    """What ``/proc/PID/syscall`` says of a thread that sleeps: the call's number and its six arguments.

    ``number`` is :data:`NO_SYSCALL` of one that sleeps outside of a call. Numbers are those of the machine's own ABI,
    or of the 32-bit one: the file does not tell which.
    """

    number: int
    args: tuple[int, ...]
    sp: int
    pc: int


def parse_status(data: bytes) -> Status | None:
    """Parses ``status``; None if a field that every kernel has is missing.

    A name cannot forge a line, as the kernel escapes its newlines (fs/proc/array.c).
    """
    fields: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        key, _colon, value = line.partition(b":")
        fields.setdefault(key, value.strip())
    try:
        uid, euid = map(int, fields[b"Uid"].split()[:2])
        pending, shared, blocked, ignored, caught = (
            int(fields[key], 16) for key in (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")
        )
        tgid, pid, ppid, tracer = (int(fields[key]) for key in (b"Tgid", b"Pid", b"PPid", b"TracerPid"))
        threads, state = int(fields[b"Threads"]), fields[b"State"][:1].decode()
        seccomp = fields.get(b"Seccomp")
        inner = tuple(map(int, fields.get(b"NSpid", b"").split()))
    except (KeyError, ValueError, IndexError):
        return None
    return Status(
        tgid, pid, ppid, tracer, uid, euid, inner, threads,
        pending, shared, blocked, ignored, caught, int(seccomp) if seccomp else None, state,
    )  # fmt: skip


def parse_syscall(data: bytes) -> Syscall | None:
    """Parses ``syscall``; None of one that runs, or is gone (proc_pid_syscall(5))."""
    words = data.split()
    try:
        number = int(words[0])
        if number == NO_SYSCALL:
            return Syscall(number, (), int(words[1], 16), int(words[2], 16))
        return Syscall(number, tuple(int(w, 16) for w in words[1:7]), int(words[7], 16), int(words[8], 16))
    except (ValueError, IndexError):  # "running"
        return None


def parse_stack(data: bytes) -> tuple[str, ...]:
    """The kernel functions a thread sleeps in, innermost first, out of ``stack`` (proc_pid_stack(5))."""
    names = []
    for line in data.split(b"\n"):
        words = line.split()
        if len(words) == 2:  # noqa: PLR2004  ([<0>] name+0x1/0x2)
            names.append(words[1].split(b"+", 1)[0].decode("ascii", "replace"))
    return tuple(names)
