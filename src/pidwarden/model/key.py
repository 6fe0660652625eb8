"""Who a process is, for good: a number alone is given to somebody else as soon as it is free."""

from __future__ import annotations

from typing import NamedTuple

TICK_NS = 10_000_000  # /proc gives start times in ticks of 1/100 s (USER_HZ, the same on every architecture)


class ProcessKey(NamedTuple):
    """A tgid and the time the process started, in ns since boot. ``start_ns`` 0 means unknown: do not act."""

    tgid: int
    start_ns: int

    @property
    def start_ticks(self) -> int:
        """The start time as ``/proc/PID/stat`` shows it (field 22, proc(5))."""
        return self.start_ns // TICK_NS

    @property
    def known(self) -> bool:
        """Whether it may be acted upon."""
        return self.tgid > 0 and self.start_ns > 0

    def __str__(self) -> str:
        return f"{self.tgid}@{self.start_ns}"


NOBODY = ProcessKey(0, 0)
