"""Ending processes the way that leaves them time: SIGTERM through a pidfd, and a wait until each has ended."""

from __future__ import annotations

import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.act.spare import Held

_STOPPED = "Tt"


def ask(held: Held) -> bool:
    """SIGTERM to one; if it is stopped, also SIGCONT, or it would not take it. False: it is gone, or not ours."""
    sent = held.signal(signal.SIGTERM)
    if sent and held.stat.state in _STOPPED:
        held.signal(signal.SIGCONT)
    return sent


def still_running(held: Iterable[Held], seconds: float) -> list[Held]:
    """Those of which a thread still runs, after waiting at most so long for all of them to end (pidfd_open(2))."""
    until = time.monotonic() + seconds
    waiting = {one.fd: one for one in held}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        for fd, _event in poll.poll(max(0.0, until - time.monotonic()) * 1000):
            poll.unregister(fd)
            del waiting[fd]
        if time.monotonic() >= until:
            break
    return list(waiting.values())
