"""The bombs, one function each. Run by path, as ``python -I -S shapes.py NAME [FD]``, by the stage, inside a pen.

FD gets the time of the detonation, CLOCK_BOOTTIME in ns. Refuses to run outside a pen. Only the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from typing import NoReturn

PEN = "pidwarden-pen-"  # what the last part of a pen's path begins with
_HOSTILE = (b"sshd", b"systemd", b"kworker/0:0", b") R 1 (", b"a\nb", b"\x1b[2J", b"\xff\xfe", b"pidwarden")
_UIDS = range(61184, 65520)  # nobody's: systemd(1) keeps them for services without a user of their own
_STACK = 64 << 10  # bytes; address space is not what this is about


def in_pen(lines: list[str]) -> bool:
    """Whether ``/proc/self/cgroup`` shows a pen where the pids controller is: in v1 if it is there, else in v2."""
    pids = [line for line in lines if "pids" in line.split(":", 2)[1].split(",")]
    rule = pids or [line for line in lines if line.startswith("0::")]
    return any(os.path.basename(line.rstrip("\n")).startswith(PEN) for line in rule)


def shell() -> NoReturn:
    """The classic. Bash waits and tries again when fork fails, and every half of the pipe is a new process."""
    os.execvp("bash", ["bash", "-c", ":(){ :|:& };:"])  # noqa: S606, S607  (whichever bash this machine has)


def tight() -> NoReturn:
    """Every member forks as fast as it can and tries again when refused: killing one makes room for one."""
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def setsid() -> NoReturn:
    """Each member in a session and a process group of its own: gets around killpg, and around looking by session."""
    while True:
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                os.setsid()


def chain() -> NoReturn:
    """Fork and exit: one member at a time, each with a new pid, its parent already gone when anybody looks.

    Gets around every killer that lists first and signals then, and around counting members.
    """
    while True:
        with contextlib.suppress(OSError):
            if os.fork() != 0:
                os._exit(0)


def zombies() -> NoReturn:
    """Children that end at once and are never reaped: gets around counting what runs, and around SIGKILL."""
    while True:
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                os._exit(0)


def threads() -> NoReturn:
    """One process, thread upon thread, all staying: gets around counting processes."""
    import _thread  # noqa: PLC0415  (only this one needs it)

    stay = _thread.allocate_lock()
    stay.acquire()
    _thread.stack_size(_STACK)
    while True:
        with contextlib.suppress(RuntimeError):  # "can't start new thread", which is EAGAIN
            _thread.start_new_thread(stay.acquire, ())


def rename() -> NoReturn:
    """Another name all the time, some of them those of system services: gets around looking by name."""
    while True:
        with contextlib.suppress(OSError):
            os.fork()
        with contextlib.suppress(OSError), open("/proc/self/comm", "wb", buffering=0) as comm:
            dice = os.urandom(6)  # not `random`: a copy of this process would throw the same numbers
            comm.write(_HOSTILE[dice[0]] if dice[0] < len(_HOSTILE) else dice.hex().encode())


def setuid() -> NoReturn:
    """Each member another user: gets around counting and killing by user, and around a limit for each user.

    Zero stays as the saved uid, which is what lets every generation change again.
    """
    while True:
        with contextlib.suppress(OSError):
            os.fork()
        with contextlib.suppress(OSError):
            uid = _UIDS[int.from_bytes(os.urandom(4), "big") % len(_UIDS)]
            os.setresuid(-1, 0, -1)
            os.setresuid(uid, uid, 0)


SHAPES = {f.__name__: f for f in (shell, tight, setsid, chain, zombies, threads, rename, setuid)}


def main(argv: list[str]) -> int:
    """Detonates, and returns only if it could not."""
    if len(argv) not in (1, 2) or argv[0] not in SHAPES:
        sys.stderr.write(f"type shapes.py NAME [FD], with NAME one of {', '.join(SHAPES)}\n")
        return 2
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        if not in_pen(file.readlines()):
            sys.stderr.write("this is a bomb and goes off in a pen only; type `pidwarden drill`\n")
            return 4
    # A collection would copy pages that thousands of children share.
    gc.disable()
    gc.freeze()
    if len(argv) == 2:  # noqa: PLR2004
        fd = int(argv[1])
        os.write(fd, b"%d\n" % time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        os.close(fd)
    return SHAPES[argv[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
