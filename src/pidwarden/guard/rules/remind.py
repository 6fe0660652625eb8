"""SIGCHLD, again as long as it helps: a parent that waits once per signal takes one for each of its zombies."""

from __future__ import annotations

import signal
from collections import deque
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.act.spare import Held
    from pidwarden.guard.rules.survey import Who

PAUSE_NS = 10_000_000
_QUIET = 20  # pauses without one reaped, and it does not help
_LOOKED_AT = (
    8  # zombies looked at between two signals, at either end: parents wait in the order of birth, or against it
)
_TOGETHER = 8  # parents


def _is_there(who: Who) -> bool:
    stat = procfs.stat(who[0])
    return stat is not None and stat.start_ticks == who[1]


class Reminder:
    """One parent, held by its pidfd until it is done."""

    def __init__(self, held: Held, zombies: Iterable[Who]) -> None:
        self._held = held
        self._left = deque(zombies)
        self._signals_left = 2 * len(self._left) + _QUIET
        self._quiet = 0
        self._signal()

    def _signal(self) -> None:
        self._signals_left -= 1
        if not self._held.signal(signal.SIGCHLD):
            self._left.clear()

    def step(self) -> bool:
        """Looks what came of the last signal; whether there is any use in going on."""
        before = len(self._left)
        for take, keep in ((self._left.popleft, self._left.appendleft), (self._left.pop, self._left.append)):
            looked_at = [take() for _ in range(min(_LOOKED_AT, len(self._left)))]
            for who in reversed(looked_at):
                if _is_there(who):
                    keep(who)
        gone = len(self._left) < before
        self._left.rotate(0 if gone else _LOOKED_AT)
        self._quiet = 0 if gone else self._quiet + 1
        if not self._left or self._quiet >= _QUIET or self._signals_left <= 0:
            return False
        if gone:
            self._signal()
        return True

    def close(self) -> None:
        """Lets go of the parent."""
        self._held.close()


class Reminders:
    """All that are going on, a few at a time."""

    def __init__(self) -> None:
        self._going: list[Reminder] = []
        self.next_ns = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._going) >= _TOGETHER

    def begin(self, held: Held, zombies: Iterable[Who], now_ns: int) -> None:
        """Signals it now, and again while that helps. Takes the pidfd over."""
        self._going.append(Reminder(held, zombies))
        self.next_ns = now_ns + PAUSE_NS

    def tick(self, now_ns: int) -> None:
        """Goes on with each, when it is time."""
        if not self._going or now_ns < self.next_ns:
            return
        going = []
        for reminder in self._going:
            if reminder.step():
                going.append(reminder)
            else:
                reminder.close()
        self._going = going
        self.next_ns = now_ns + PAUSE_NS if going else 0

    def close(self) -> None:
        """Ends all."""
        for reminder in self._going:
            reminder.close()
        self._going = []
