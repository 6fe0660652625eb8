"""bombs.py SHAPE: bombs that the drill does not have. Runs in a pen only."""

import _thread
import contextlib
import os
import signal
import sys
import time

from penned import require_pen


def slow() -> None:
    """Doubles every two seconds: never fast, never done."""
    while True:
        time.sleep(2)
        with contextlib.suppress(OSError):
            os.fork()


def sleeper() -> None:
    """Waits for three seconds, as somebody does who wants to be taken for old, then goes off."""
    time.sleep(3)
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def nap() -> None:
    """Each member sleeps before each fork, so that no process is ever busy."""
    while True:
        time.sleep(0.15)
        with contextlib.suppress(OSError):
            os.fork()


def mixed() -> None:
    """Each member starts a thread and a child in turn: neither the processes nor the threads are most of it."""
    stay = _thread.allocate_lock()
    stay.acquire()
    _thread.stack_size(64 << 10)
    while True:
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(time.sleep, (1000,))
        with contextlib.suppress(OSError):
            os.fork()


def deaf() -> None:
    """Every signal that can be is ignored, and the others blocked."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def corpses() -> None:
    """One process whose zombies double every half second; nothing but it ever lives for long."""
    brood = 1
    while True:
        for _ in range(brood):
            with contextlib.suppress(OSError):
                if os.fork() == 0:
                    os._exit(0)
        brood = min(2 * brood, 4096)
        time.sleep(0.5)


def orphans() -> None:
    """Goes to the background as a daemon does, so that its parent is pid 1, then goes off."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(0.2)
    while True:
        with contextlib.suppress(OSError):
            os.fork()


SHAPES = {f.__name__: f for f in (slow, sleeper, nap, mixed, deaf, corpses, orphans)}

if __name__ == "__main__":
    require_pen()
    SHAPES[sys.argv[1]]()
