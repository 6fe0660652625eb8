"""How long the dead stay in the history: a window while all is well, longer while there is trouble.

The rules are those of the kernel design of 2011: whoever exited longer ago than the window goes, unless the number of
slots rises, memory is short, an out-of-memory kill has happened, or a family is held; somebody may be about to ask.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.pressure import Memory, memory
from pidwarden.kernel.procfs import tasks_in_use

if TYPE_CHECKING:
    from pidwarden.guard.report import Reporter
    from pidwarden.watch.base import Source

SECOND = 1_000_000_000
_LONGEST_PERIOD_NS, _SHORTEST_PERIOD_NS = 5 * SECOND, SECOND // 4
_RISE, _RISE_SHARE = 32, 8  # slots beyond the least of the window: 32, or an eighth of it
_WAITING_PERCENT = 10.0
_YOUNGEST_NS = SECOND // 10
_FULL = 12  # sixteenths of the records: the kernel side calls that short


class Look(NamedTuple):
    """One look at the machine. Time in ns since boot."""

    now_ns: int
    slots: int
    memory: Memory
    held: int  # groups


class Watch:
    """Looks one after another; says whether there is trouble. Pure."""

    def __init__(self, window_ns: int) -> None:
        self.window_ns = window_ns
        self._looks: deque[Look] = deque()

    def trouble(self, look: Look) -> str:
        """Why the dead had better stay, in words; empty if nothing speaks for it."""
        while self._looks and self._looks[0].now_ns < look.now_ns - self.window_ns:
            self._looks.popleft()
        before = list(self._looks)
        self._looks.append(look)
        if look.held:
            return f"{look.held} held"
        if not before:
            return ""
        least = min(b.slots for b in before)
        if look.slots >= least + max(_RISE, least // _RISE_SHARE):
            return f"the number of slots rises: {least} to {look.slots}"
        if kills := look.memory.oom_kills - before[0].memory.oom_kills:
            return f"{kills} out-of-memory kills"
        return _short_of_memory(before[-1].memory, look.memory)


def _short_of_memory(before: Memory, now: Memory) -> str:
    if stalls := now.stalls - before.stalls:
        return f"{stalls} allocations had to wait for memory"
    if scanned := now.scanned - before.scanned:
        return f"kswapd looked for memory ({scanned} pages)"
    return f"tasks waited for memory {now.waiting:g} % of the time" if now.waiting >= _WAITING_PERCENT else ""


class Retention:
    """Sweeps the history when it is time, and makes room when records run short."""

    def __init__(self, source: Source, report: Reporter) -> None:
        self._source, self._report = source, report
        self._watch = Watch(0)
        self._trouble = ""
        self.next_ns = boot_ns()

    def configure(self, window_seconds: float) -> None:
        """A new window; takes effect with the next sweep, which is now."""
        self._watch.window_ns = int(window_seconds * SECOND)
        self.next_ns = boot_ns()

    def tick(self) -> None:
        """Looks and sweeps, if it is time."""
        now, window = boot_ns(), self._watch.window_ns
        if now < self.next_ns:
            return
        self.next_ns = now + max(_SHORTEST_PERIOD_NS, min(_LONGEST_PERIOD_NS, window // 4))
        self._trouble = self._watch.trouble(Look(now, tasks_in_use(), memory(), self._source.counters().holds))
        if not self._trouble:
            self._source.sweep(now - window)
        self._source.seed()  # not for the first time: it sets the books right

    def make_room(self) -> None:
        """Records run short: families that have many are folded; if that is not enough, the window gets shorter."""
        now, window = boot_ns(), self._watch.window_ns
        self._source.sweep(now - window, now)
        while self._sixteenths() >= _FULL and window > _YOUNGEST_NS:
            window //= 2
            self._source.sweep(now - window, now)
        if window < self._watch.window_ns:
            self._report("note", text=f"records run short: who exited {window / SECOND:.1f} s ago is forgotten already")
        self._source.seed()

    def _sixteenths(self) -> int:
        return self._source.counters().records * 16 // self._source.max_records

    def status(self) -> dict[str, Any]:
        """For `pidwarden status`."""
        counters = self._source.counters()
        return {
            "records": counters.records,
            "max_records": self._source.max_records,
            "ceiling_bytes": self._source.ceiling,
            "window_seconds": self._watch.window_ns / SECOND,
            "kept_because": self._trouble,
            "aged": counters.aged,
            "contracted": counters.contracted,
            "folded": counters.folded + counters.folded_alive,
            "without_record": counters.hidden,
        }
