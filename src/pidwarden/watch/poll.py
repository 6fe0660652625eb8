"""Families from differences of /proc alone: the last resort, for anybody, in any namespace.

Between two looks nothing is known: who was born and died is missed, and who was born takes its parent of the moment for
its creator. The table's load tells cheaply when a look is worth it: the last pid that was given and the number of tasks
both stand in /proc/loadavg.
"""

from __future__ import annotations

from pidwarden.kernel import procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.watch.sweepable import Sweepable

_MS = 1_000_000
_GLANCE_NS, _CALM_NS = 10 * _MS, 40 * _MS  # between two looks at /proc/loadavg; where nothing happens for a second
_LONGEST_NS = 1000 * _MS  # between two looks at everybody
_WORTH = 16  # tasks more, or pids given, that are worth a look at everybody
_SHARE = 4  # looks at everybody take at most this part of the time


class PollSource(Sweepable):
    """The books, kept by looking again and again."""

    name = "poll"
    how = "differences of /proc"
    sees_parents = True

    def __init__(self, max_records: int = 65536) -> None:
        super().__init__(max_records)
        self._glance_ns = self._look_ns = self._earliest_ns = 0
        self._before = self._last = procfs.Load(0, 0)
        self._moved_ns = 0

    def fileno(self) -> int:
        """Nothing tells: see `next_ns`."""
        return -1

    def next_ns(self) -> int | None:
        """When the next glance is due."""
        return self._glance_ns

    def refresh(self) -> None:
        """Looks, if it is time; while something is held at every call."""
        now = boot_ns()
        if self.books.holds or now >= self._look_ns:
            self._look(now)
        elif now >= self._glance_ns:
            load = procfs.load()
            if load != self._last:
                self._last, self._moved_ns = load, now
            self._glance_ns = now + (_GLANCE_NS if now - self._moved_ns < _LONGEST_NS else _CALM_NS)
            given = load.last_pid - self._before.last_pid
            if (given < 0 or given + max(0, load.tasks - self._before.tasks) >= _WORTH) and now >= self._earliest_ns:
                self._look(now)

    def _look(self, began: int) -> None:
        self._before = procfs.load()
        self.seed()
        now = boot_ns()
        self._glance_ns, self._look_ns = now + _GLANCE_NS, now + _LONGEST_NS
        self._earliest_ns = now + _SHARE * (now - began)
