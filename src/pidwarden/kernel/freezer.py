"""The freezers of cgroups: v2's ``cgroup.freeze`` and v1's ``freezer.state``, behind one set of functions.

They differ. Under v2 a frozen task dies of SIGKILL and ``cgroup.events`` can be waited for; a stopped task counts as
frozen (Documentation/admin-guide/cgroup-v2.rst). Under v1 a frozen task stays until it is thawed, whatever signal waits
for it, and there is nothing to wait on (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from pidwarden.kernel.cgroup import put, read

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTROLLER = "freezer"  # v1's hierarchy
_LOOK_AGAIN = 0.002  # seconds


def is_v1(directory: str) -> bool:
    """Whether a cgroup has v1's freezer."""
    return os.path.exists(f"{directory}/freezer.state")


def exists(directory: str) -> bool:
    """Whether a cgroup has a freezer at all; no root has."""
    return is_v1(directory) or os.path.exists(f"{directory}/cgroup.freeze")


def freeze(directory: str) -> bool:
    """Asks for all of a cgroup to be frozen, whoever comes into it included. False if it refuses. Undo: `thaw`."""
    return put(f"{directory}/freezer.state", "FROZEN") if is_v1(directory) else put(f"{directory}/cgroup.freeze", "1")


def thaw(directory: str) -> bool:
    """Takes :func:`freeze` back. What an ancestor's freeze stops stays stopped."""
    return put(f"{directory}/freezer.state", "THAWED") if is_v1(directory) else put(f"{directory}/cgroup.freeze", "0")


def is_asked(directory: str) -> bool:
    """Whether somebody has asked for this very cgroup to be frozen."""
    if is_v1(directory):
        return read(f"{directory}/freezer.self_freezing") == "1"
    return read(f"{directory}/cgroup.freeze") == "1"


def is_frozen(directory: str) -> bool:
    """Whether every task in it stands still; one in D state that is not killable keeps it from that."""
    if is_v1(directory):
        return read(f"{directory}/freezer.state") == "FROZEN"
    return "frozen 1" in read(f"{directory}/cgroup.events").split("\n")


def is_populated(directory: str) -> bool:
    """Whether anybody lives in a v2 cgroup or below it; zombies do not."""
    return "populated 1" in read(f"{directory}/cgroup.events").split("\n")


def kill(directory: str) -> bool:
    """SIGKILL to all in a v2 cgroup and below, those being forked included (5.14). Proof: :func:`is_populated`.

    Some kernels let a child under way escape (fixed by b69bb476dee9, 2025): look, and do it again.
    """
    return put(f"{directory}/cgroup.kill", "1")


def wait(directories: Iterable[str], seconds: float) -> list[str]:
    """Waits until all are frozen, at most so long; those that are not."""
    end = time.monotonic() + seconds
    left = [d for d in directories if not is_frozen(d)]
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        for directory in left:
            if not is_v1(directory):
                with contextlib.suppress(OSError):
                    fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
                    stack.callback(os.close, fd)
                    os.pread(fd, 256, 0)  # from here on every change is told (cgroups(7))
                    poll.register(fd, select.POLLPRI)
        while left := [d for d in left if os.path.isdir(d) and not is_frozen(d)]:
            rest = end - time.monotonic()
            if rest <= 0:
                break
            for v1 in filter(is_v1, left):
                freeze(v1)  # FREEZING: some were not there yet; a second word goes through them again
            some_v1 = any(map(is_v1, left))
            for fd, _events in poll.poll(1000 * (min(_LOOK_AGAIN, rest) if some_v1 else rest)):
                try:
                    os.pread(fd, 256, 0)  # or it stays readable
                except OSError:  # ENODEV: the cgroup is gone, and everybody in it
                    poll.unregister(fd)
    return left
