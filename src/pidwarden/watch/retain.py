"""How long the books remember the dead. Pure; the rules are bpf/retain.h's, one thread's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.model.key import NOBODY
from pidwarden.model.record import Signal, SignalKind
from pidwarden.watch.pools import Pools

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.model.key import ProcessKey
    from pidwarden.watch.entries import Entry, Pool

_TELL_SHORT_NS = 100_000_000
_SHORT, _VERY_SHORT = 12, 15  # sixteenths of max_records
_FOR_EVER = 1 << 64


class Retained(Pools):
    """Groups, and the records of who is or was in them."""

    def __init__(self, reaped: Callable[[Entry], bool], clock: Callable[[], int], max_records: int) -> None:
        super().__init__(reaped, clock)
        self.max_records = max_records
        self.entries: dict[ProcessKey, Entry] = {}
        self.aged = self.contracted = self.folded = self.short_ns = self.stops = 0

    def add(self, entry: Entry) -> None:
        """One more record."""
        self.entries[entry.key] = entry
        if entry.family:
            entry.family.records += 1
        if self.sixteenths() >= _SHORT and self.now_ns - self.short_ns >= _TELL_SHORT_NS:
            self.short_ns = self.now_ns
            self.signals.append((Signal(self.now_ns, 0, 0, NOBODY, SignalKind.SHORT, 0, 0, 0), None))

    def rekey(self, entry: Entry, key: ProcessKey) -> None:
        """Its start time is known better now. Only before anybody was told the old one."""
        del self.entries[entry.key]
        entry.key = key
        self.entries[key] = entry

    def sixteenths(self) -> int:
        """How full the books are."""
        return len(self.entries) * 16 // self.max_records

    def retire(self, entry: Entry) -> None:
        """It holds no slot any more. Its record stays, unless history is off or records run short."""
        if entry.slots > 0 or entry.live > 0 or entry.kids > 0:
            return
        if not self.config.history:
            self._prune(entry, _FOR_EVER, 0, anybody=False)
        elif (full := self.sixteenths()) >= _SHORT:
            self._prune(entry, 0, _FOR_EVER, anybody=full >= _VERY_SHORT)

    def sweep(self, cutoff_ns: int, early_ns: int) -> int:
        """Forgets dead leaves that exited before `cutoff_ns`, in large families before `early_ns`; contracts chains."""
        before = len(self.entries)
        for entry in list(self.entries.values()):
            if self.entries.get(entry.key) is not entry:
                continue
            if not entry.kids and self._may_go(entry, cutoff_ns, early_ns, anybody=False):
                self._prune(entry, cutoff_ns, early_ns, anybody=False)
            else:
                self._contract(entry, cutoff_ns, early_ns)
        return before - len(self.entries)

    def _has_many(self, pool: Pool | None) -> bool:
        return bool(pool and not pool.gone and pool.records > self.max_records // 8)

    def _may_go(self, entry: Entry, cutoff_ns: int, early_ns: int, *, anybody: bool) -> bool:
        if entry.slots > 0 or entry.live > 0 or not entry.exit_ns:
            return False
        return entry.exit_ns < cutoff_ns or (entry.exit_ns < early_ns and (anybody or self._has_many(entry.family)))

    def _remove(self, entry: Entry) -> None:
        del self.entries[entry.key]
        if entry.family:
            entry.family.records -= 1

    def _prune(self, entry: Entry, cutoff_ns: int, early_ns: int, *, anybody: bool) -> None:
        """A dead leaf; its creator may be one now, so that is next."""
        at: Entry | None = entry
        while at and not at.kids and self._may_go(at, cutoff_ns, early_ns, anybody=anybody):
            early = at.exit_ns >= cutoff_ns
            self.folded += early
            self.aged += not early
            self._remove(at)
            above = at.parent
            if above:
                above.kids -= 1
                above.folded += (1 + at.folded) * early
            at = above

    def _contract(self, entry: Entry, cutoff_ns: int, early_ns: int) -> None:
        """Dead ancestors with one child are left out, but for who founded the family."""
        while (gone := entry.parent) and gone.kids == 1 and self._may_go(gone, cutoff_ns, early_ns, anybody=False):
            above = gone.parent
            if above is None or above.family is not gone.family:
                return
            entry.parent = above
            entry.skipped += 1 + gone.skipped
            above.folded += gone.folded
            self.contracted += 1
            self._remove(gone)
