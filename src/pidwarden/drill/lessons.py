"""What clogs a process table, one function a cause. Run by path, as ``python -I -S lessons.py NAME COUNT FD``.

Nothing here grows: each makes its few hundred processes, stays as it is, and ends with its pen. FD gets one line of
JSON when that may be looked at: whom to ask about (``pid``), and how many there are (``count``). Refuses to run outside
a pen. Only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    Ready = Callable[[int, int], None]

PEN = "pidwarden-pen-"  # what the last part of a pen's path begins with; as in shapes.py, of which nothing is imported
_SYS_EXIT = {"x86_64": 60, "aarch64": 93}
_LOOK = 0.01  # seconds between looks at a state that nothing tells of
_GROWN_UP = 1.2  # seconds: a parent that dies sooner after a fork does so by design, as a daemon's


def _pause() -> NoReturn:
    while True:
        signal.pause()


def _child(*, then: Callable[[], object] = lambda: None) -> int:
    """A child that does something and ends."""
    pid = os.fork()
    if pid == 0:
        then()
        os._exit(0)
    return pid


def _ended(pids: list[int]) -> None:
    """Waits until they are zombies, and leaves them."""
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _zombies(count: int) -> None:
    """Children that have ended, and that nobody has waited for."""
    _ended([_child() for _ in range(count)])


def _reap_all(_number: int, _frame: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _reap_one(_number: int, _frame: object) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def zombie_maker(count: int, ready: Ready) -> NoReturn:
    """A parent that starts children and never waits for them: the bug of every first server."""
    _zombies(count)
    ready(os.getpid(), count)
    _pause()


def stopped_parent(count: int, ready: Ready) -> NoReturn:
    """A parent that waits for all its children, and was stopped (Ctrl-Z, SIGSTOP) before they ended."""
    signal.signal(signal.SIGCHLD, _reap_all)
    me = os.getpid()
    waiting, going = os.pipe()

    def until_stopped() -> None:
        while b") T " not in _stat(me):
            time.sleep(_LOOK)

    def until_told() -> None:
        os.close(going)
        os.read(waiting, 1)  # its end: the one who looks is gone

    for _ in range(count - 1):
        _child(then=until_told)
    _child(then=until_stopped)
    os.close(going)
    ready(me, count)
    os.kill(me, signal.SIGSTOP)
    _pause()


def blocked_sigchld(count: int, ready: Ready) -> NoReturn:
    """A parent whose handler would wait, but that holds SIGCHLD off and never lets it in."""
    signal.signal(signal.SIGCHLD, _reap_all)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    _zombies(count)
    ready(os.getpid(), count)
    _pause()


def waits_for_another(count: int, ready: Ready) -> NoReturn:
    """A parent that waits for one child, which does not end, and so never comes to the others."""
    one = _child(then=_pause)
    _zombies(count)
    ready(os.getpid(), count)
    os.waitpid(one, 0)
    _reap_all(0, None)
    _pause()


def one_per_signal(count: int, ready: Ready) -> NoReturn:
    """A parent whose handler waits once: signals that come together are one, and all children but one stay."""
    signal.signal(signal.SIGCHLD, _reap_one)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    _zombies(count + 1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    ready(os.getpid(), count)
    _pause()


def blocked_parent(count: int, ready: Ready) -> NoReturn:
    """A parent that reads a pipe before it waits, and the one who should write into it sleeps."""
    reading, _writing = os.pipe()
    _child(then=_pause)  # it has the other end as well
    _zombies(count)
    os.close(_writing)
    ready(os.getpid(), count)
    os.read(reading, 1)
    _reap_all(0, None)
    _pause()


def ignored_late(count: int, ready: Ready) -> NoReturn:
    """A parent that ignores SIGCHLD, so that nothing becomes a zombie any more; but these were there before."""
    _zombies(count)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ready(os.getpid(), count)
    _pause()


def dead_leader(_count: int, ready: Ready) -> NoReturn:
    """A process whose first thread has ended while others work on: it looks like a zombie, and is none."""

    def first_thread_ends() -> None:
        import _thread  # noqa: PLC0415  (only this one needs it)

        _thread.start_new_thread(time.sleep, (1e6,))
        ctypes.CDLL(None).syscall(_SYS_EXIT[platform.machine()], 0)

    child = _child(then=first_thread_ends)
    while b") Z " not in _stat(child):
        time.sleep(_LOOK)
    ready(os.getpid(), 1)
    os.waitpid(child, 0)
    _pause()


def orphan(_count: int, ready: Ready) -> NoReturn:
    """A job whose leader was killed: its workers go on for nobody, and write into a pipe that nobody reads."""
    telling, told = os.pipe()

    def job() -> None:
        os.setsid()
        reading, writing = os.pipe()
        os.dup2(writing, 1)

        def work() -> None:
            for fd in (reading, writing, telling, told):
                os.close(fd)
            _pause()

        workers = [_child(then=work) for _ in range(3)]
        time.sleep(_GROWN_UP)
        os.write(told, b"%d" % workers[0])
        _pause()

    leader = _child(then=job)
    worker = int(os.read(telling, 32))
    os.kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    ready(worker, 3)
    _pause()


def daemon(_count: int, ready: Ready) -> NoReturn:
    """For comparison, one that is meant to stay: it left its session, its terminal and its parent on purpose."""
    telling, told = os.pipe()

    def twice() -> None:
        os.setsid()

        def serve() -> None:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.write(told, b"%d" % os.getpid())
            _pause()

        _child(then=serve)

    os.waitpid(_child(then=twice), 0)
    ready(int(os.read(telling, 32)), 1)
    _pause()


LESSONS = {
    f.__name__.replace("_", "-"): f
    for f in (
        zombie_maker,
        stopped_parent,
        blocked_sigchld,
        waits_for_another,
        one_per_signal,
        blocked_parent,
        ignored_late,
        dead_leader,
        orphan,
        daemon,
    )
}


def _stat(pid: int) -> bytes:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read()


def in_pen(lines: list[str]) -> bool:
    """Whether ``/proc/self/cgroup`` shows a pen where the pids controller is: in v1 if it is there, else in v2."""
    pids = [line for line in lines if "pids" in line.split(":", 2)[1].split(",")]
    rule = pids or [line for line in lines if line.startswith("0::")]
    return any(os.path.basename(line.rstrip("\n")).startswith(PEN) for line in rule)


def main(argv: list[str]) -> int:
    """Makes it, and stays."""
    if len(argv) != 3 or argv[0] not in LESSONS:  # noqa: PLR2004
        sys.stderr.write(f"type lessons.py NAME COUNT FD, with NAME one of {', '.join(LESSONS)}\n")
        return 2
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        if not in_pen(file.readlines()):
            sys.stderr.write(f"this is made in a pen only; type `pidwarden drill --shape {argv[0]}`\n")
            return 4
    fd = int(argv[2])

    def ready(pid: int, count: int) -> None:
        os.write(fd, json.dumps({"pid": pid, "count": count}).encode() + b"\n")
        os.close(fd)

    return LESSONS[argv[0]](int(argv[1]), ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
