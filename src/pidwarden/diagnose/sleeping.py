"""What the place where a thread sleeps says of its process: it waits for a child, is held up, or is idle. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.words import who
from pidwarden.model import syscalls
from pidwarden.model.descriptors import EVENTS, TERMINALS
from pidwarden.model.task import SIGCHLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.model.zombie import Parent, Thread, Zombie

# include/uapi/linux/wait.h
_WNOHANG, _WEXITED, _WNOWAIT, _WNOTHREAD, _WALL, _WCLONE = 1, 4, 0x01000000, 0x20000000, 0x40000000, 0x80000000
_P_ALL, _P_PID, _P_PGID, _P_PIDFD = range(4)
_STOPPED = "Tt"
_FREEZER = ("__refrigerator", "do_freezer_trap", "get_signal")  # v1; v2 (kernel/freezer.c, kernel/signal.c)
_DYING = "zap_pid_ns_processes"

# Calls that hold a program up until somebody else does something, by what they are about.
_READS = frozenset(["read", "pread64", "readv", "recvfrom", "recvmsg", "recvmmsg", "splice", "ioctl"])
_WRITES = frozenset(["write", "pwrite64", "writev", "sendto", "sendmsg", "sendfile", "connect", "fsync", "fdatasync"])
_LOCKS = frozenset(("flock", "fcntl"))
_QUEUES = frozenset(["semop", "semtimedop", "msgsnd", "msgrcv", "mq_timedsend", "mq_timedreceive", "ipc"])
_OPENS = frozenset(("open", "openat", "openat2"))
_FORKS = frozenset(["clone", "clone3", "fork", "vfork"])
_FUTEX = frozenset(["futex", "futex_wait", "futex_waitv"])
# Where a loop of events comes back to; also accept: who serves has nothing better to do.
_LOOPS = frozenset(
    [
        "poll",
        "ppoll",
        "select",
        "pselect6",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "accept",
        "accept4",
        "io_uring_enter",
    ]
)
# The same by the kernel's functions, where the call has no name here.
_BLOCKED_IN = (
    "pipe_read",
    "pipe_write",
    "flock",
    "locks_lock",
    "fcntl_setlk",
    "unix_stream",
    "tcp_recvmsg",
    "wait_for_partner",
)


class Blocking(NamedTuple):
    """That a process is held up, and by what."""

    evidence: tuple[str, ...]
    sure: bool = True
    unknown: tuple[str, ...] = ()


def where(thread: Thread) -> str:
    """The kernel function it sleeps in; empty if that is not shown."""
    return thread.sleep.wchan


def is_frozen(thread: Thread) -> bool:
    """Whether it sleeps in a freezer."""
    return thread.sleep.wchan in _FREEZER


def is_dying(parent: Parent) -> bool:
    """Whether it is the init of a pid namespace that ends and waits for all who are in there.

    It sleeps in zap_pid_ns_processes, or in a wait that is called from there (kernel/pid_namespace.c).
    """
    return any(t.sleep.wchan == _DYING for t in parent.threads) or (
        parent.exiting and len(parent.status.nspid) > 1 and parent.status.nspid[-1] == 1
    )


def all_stopped(parent: Parent) -> bool:
    """Whether nothing of it runs for a stop, by a signal or by a tracer; its first thread's stop says it for all."""
    return bool(parent.threads) and (
        parent.threads[0].state in _STOPPED or all(t.state in _STOPPED for t in parent.threads)
    )


def is_waiting(thread: Thread) -> bool:
    """Whether it sleeps in a wait for a child."""
    return thread.sleep.name in syscalls.WAITS or thread.sleep.wchan == "do_wait"


def hidden(parent: Parent) -> str:
    """Why it is not known where its threads sleep; empty if it is known of all."""
    return next((t.sleep.hidden for t in parent.threads if t.sleep.hidden), "")


def rest(parent: Parent) -> list[str]:
    """Where its first thread sleeps, as evidence."""
    words = place(parent.threads[0]) if parent.threads else ""
    return [words] if words else []


def place(thread: Thread) -> str:
    """Where a thread sleeps, in words; empty if nothing is known."""
    sleep = thread.sleep
    if sleep.name:
        on = f" of {sleep.target}" if sleep.target else ""
        return f"thread {thread.tid} is in {sleep.name}{on}" + (f" ({sleep.wchan})" if sleep.wchan else "")
    if sleep.wchan:
        return f"thread {thread.tid} sleeps in {sleep.wchan}"
    return f"thread {thread.tid} runs" if thread.state == "R" else ""


# -- waits -------------------------------------------------------------------------------------------------------------


def wait_words(thread: Thread, parent: Parent, zombies: Sequence[Zombie]) -> tuple[str, bool | None]:
    """What a thread waits for, and whether that is why it passes these zombies over; None if it is not shown."""
    call, name = thread.sleep.call, thread.sleep.name
    if call is None or name not in syscalls.WAITS:
        return f"thread {thread.tid} sleeps in do_wait: it waits for a child", None
    if name == "waitid":
        kind, number, options = syscalls.signed(call.args[0]), syscalls.signed(call.args[1]), call.args[3]
        if kind == _P_PIDFD:
            number = thread.sleep.awaited
        text, only = _waitid_text(kind, number, parent)
        only = only and not _meant(_PID_KINDS.get(kind, ""), number, parent, zombies)
        if not options & _WEXITED:
            return f"thread {thread.tid} waits ({text}) without WEXITED: for stops, not for ends", True
        if options & _WNOWAIT:
            return f"thread {thread.tid} waits ({text}) with WNOWAIT: it looks and leaves them", True
    else:
        number, options = syscalls.signed(call.args[0]), call.args[2]
        text, kind_name = _wait4_text(number, parent)
        only = kind_name != "" and not _meant(kind_name, -number if number < 0 else number, parent, zombies)
    words = f"thread {thread.tid} waits for {text}"
    if only:
        return words, True
    if odd := _passed_over(thread, zombies, options):
        return f"{words}, {odd}", True
    return words, False


_PID_KINDS = {_P_PID: "pid", _P_PIDFD: "pid", _P_PGID: "group"}


def _named(pid: int, parent: Parent) -> str:
    return who(pid, parent.names.get(pid, b""))


def _waitid_text(kind: int, number: int, parent: Parent) -> tuple[str, bool]:
    if kind == _P_ALL:
        return "any child (waitid(P_ALL))", False
    if kind == _P_PGID:
        return f"its process group {number or parent.pgrp} (waitid(P_PGID))", True
    what = "P_PIDFD" if kind == _P_PIDFD else "P_PID"
    return f"its child {_named(number, parent) if number else 'of a pidfd'} alone (waitid({what}))", True


def _wait4_text(number: int, parent: Parent) -> tuple[str, str]:
    if number == -1:
        return "any child (wait4(-1))", ""
    if number > 0:
        return f"its child {_named(number, parent)} alone (wait4({number}))", "pid"
    group = -number or parent.pgrp
    return f"children of process group {group} (wait4({number}))", "group"


def _meant(kind: str, number: int, parent: Parent, zombies: Sequence[Zombie]) -> bool:
    """Whether the zombies are among those that are waited for."""
    if kind == "pid":
        return any(z.pid == number for z in zombies)
    if kind == "group":
        return any(z.pgrp == (number or parent.pgrp) for z in zombies)
    return True


def _passed_over(thread: Thread, zombies: Sequence[Zombie], options: int) -> str:
    """Why a wait for any child does not take these, by its options; empty if it should."""
    odd = {z.exit_signal for z in zombies[:1]} - {SIGCHLD}
    if odd and not options & (_WALL | _WCLONE):
        return f"without __WALL: it passes over children whose end sends {sent(odd.pop())} in place of SIGCHLD"
    if options & _WCLONE and not options & _WALL and not odd:
        return "with __WCLONE: only for children whose end does not send SIGCHLD"
    if options & _WNOTHREAD:
        return f"with __WNOTHREAD: only for children that thread {thread.tid} made itself"
    return ""


def awaited(thread: Thread) -> int:
    """The one child it waits for; 0 if it waits for more, or that is not known."""
    call, name = thread.sleep.call, thread.sleep.name
    if call is None or name not in syscalls.WAITS:
        return 0
    if name == "waitid":
        kind, number = syscalls.signed(call.args[0]), syscalls.signed(call.args[1])
        return number if kind == _P_PID else thread.sleep.awaited
    return max(0, syscalls.signed(call.args[0]))


def sent(signal: int) -> str:
    """The signal of a child's end, in words."""
    return f"signal {signal}" if signal else "no signal"


# -- hold-ups ----------------------------------------------------------------------------------------------------------


def blocking(parent: Parent) -> Blocking | None:  # noqa: PLR0911  (one for each answer)
    """By what a process is held up; None if it is idle, or that is not known.

    The first thread decides. If it waits for another thread or a lock (futex(2)), it is held up too, unless one of the
    others is in a loop of events: then that is how such a program idles.
    """
    if not parent.threads or hidden(parent):
        return None
    leader, *others = parent.threads
    words = _held(leader)
    if words:
        why = _perhaps_idle(leader)
        return Blocking((words, *other_end(leader, parent)), not why, (why,) if why else ())
    if leader.sleep.name not in _FUTEX:
        return None
    if not others:
        return Blocking((f"{place(leader)}: a lock in memory, held by somebody the kernel does not name",))
    if any(t.sleep.name in _LOOPS or t.state == "R" for t in others):
        return None
    found = [(t, held) for t in others if (held := _held(t))]
    if found:
        thread, held = found[0]
        return Blocking(
            (f"{place(leader)}: it waits for another of its threads", held, *other_end(thread, parent)), sure=False
        )
    why = "Go's and Java's programs idle like this as well: then it never waits"
    return Blocking((f"{place(leader)}: a lock in memory, or another of its threads",), False, (why,))


def _held(thread: Thread) -> str:
    """What holds one thread up, in words; empty if nothing does."""
    sleep = thread.sleep
    if thread.state == "D":
        return f"thread {thread.tid} is in state D, in {sleep.wchan or 'a function that is not shown'}"
    if sleep.target.startswith(EVENTS):
        return ""
    if sleep.name in _LOCKS and thread.state != "R":
        return f"{place(thread)}: it waits for a lock"
    if sleep.name in _READS | _WRITES | _QUEUES | _OPENS | _FORKS:
        return place(thread)
    if not sleep.name and sleep.wchan and any(f in sleep.wchan for f in _BLOCKED_IN):
        return place(thread)
    return ""


def _perhaps_idle(thread: Thread) -> str:
    """Why what it sleeps in may be where it is at home, in words; empty if it is not."""
    if thread.sleep.name in _READS and thread.sleep.anybody:
        return "a program that serves whoever writes to it idles like this as well: then it never waits"
    if thread.sleep.name in _READS and thread.sleep.target.startswith(TERMINALS):
        return "a program that waits for somebody to type idles like this as well: then it never waits"
    return ""


def other_end(thread: Thread, parent: Parent) -> list[str]:
    """Who could let it go on, in words."""
    sleep = thread.sleep
    found = [sleep.remark] if sleep.remark else []
    if sleep.holders and all(h.pid == parent.key.tgid for h in sleep.holders):
        found.append("nobody but itself that may be seen has the other end")
    elif sleep.holders:
        names = ", ".join(who(h.pid, h.comm) for h in sleep.holders[:5])
        more = f" and {len(sleep.holders) - 5} more" if len(sleep.holders) > 5 else ""  # noqa: PLR2004
        found.append(f"held by {names}{more}")
    elif sleep.searched:
        found.append("nobody that may be seen has the other end")
    return found


def held_thread(parent: Parent) -> Thread | None:
    """The thread that :func:`blocking` speaks of."""
    return next((t for t in parent.threads if _held(t)), None)
