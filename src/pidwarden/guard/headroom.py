"""How full the process table is and where it is going, in words for people; and the guard's looks at it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import limits, procfs
from pidwarden.kernel.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

TREND_SECONDS = 600.0  # what was seen for a shorter time says how busy it is, not where it goes
DAY_HOURS = 24.0
SECOND_NS = 1_000_000_000


class Headroom(NamedTuple):
    """How full the process table is, and its growth in tasks an hour as seen in so many seconds."""

    limits: Sequence[limits.Limit]
    per_hour: float
    seconds: float

    @property
    def hours(self) -> float | None:
        """Hours until the tightest limit is reached at this rate; None: it is not filling."""
        return self.limits[0].free / self.per_hour if self.limits and self.per_hour > 0 else None


class Looks:
    """The last day's looks at how many tasks there are, one a minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=24 * 60)  # (boot_ns, tasks in use)
        self._reserved = 0

    def note(self) -> None:
        """Looks now."""
        self._seen.append((boot_ns(), procfs.tasks_in_use()))
        self._reserved = limits.never_used()

    def room(self) -> Headroom:
        """The limits now, and the rate since the oldest look; there has to be one."""
        then_ns, before = self._seen[0]
        seconds = max(boot_ns() - then_ns, SECOND_NS) / SECOND_NS
        grown = procfs.tasks_in_use() - before
        return Headroom(limits.machine_limits(reserved=self._reserved), round(grown * 3600 / seconds, 1), seconds)


# -- text --------------------------------------------------------------------------------------------------------------


def duration(hours: float) -> str:
    """Hours in words, in the unit a person thinks in."""
    for unit, size in (("days", DAY_HOURS), ("hours", 1.0), ("minutes", 1 / 60)):
        if hours >= 2 * size:
            return f"{hours / size:.0f} {unit}"
    seconds = round(hours * 3600)
    return f"{seconds} second" + "s" * (seconds != 1)


def trend(room: Headroom) -> str:
    """Where it is going, in words. A few tasks more in a few seconds are no trend, unless the table is full soon."""
    if room.limits[0].free == 0:
        return "FULL: fork fails"
    if room.hours is None:
        return "not filling"
    grown = f"{room.per_hour * room.seconds / 3600:+.0f} tasks in {duration(room.seconds / 3600)}"
    if room.seconds < TREND_SECONDS and room.hours > 1:
        return f"no trend to be seen yet ({grown})"
    return f"full in {duration(room.hours)} at this rate ({grown})"


def headroom_lines(room: Headroom) -> list[str]:
    """The process table's one line, and one for each other limit."""
    if not room.limits:
        return ["process table: /proc does not show its limits"]
    tight = room.limits[0]
    lines = [
        f"process table: {tight.used} of {tight.limit} used, {tight.free} free ({tight.name} binds); {trend(room)}"
    ]
    return lines + [f"  {other.name}: {other.used} of {other.limit} used" for other in room.limits[1:]]
