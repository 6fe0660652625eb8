"""Families and branches in the books: their slots, their thresholds, the alarm. Pure; the rules are bpf/groups.h's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.record import GroupFlag, GroupKind, Rule, Signal, SignalKind
from pidwarden.watch.entries import Entry, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.kernel.config import Config

_SETTLE_SHARE = 16  # looking for who is reaped takes at most this part of the time


class Pools:
    """All groups. ``now_ns`` is set by who tells what happened."""

    def __init__(self, reaped: Callable[[Entry], bool], clock: Callable[[], int]) -> None:
        self._reaped, self._clock = reaped, clock
        self.config: Config
        self.now_ns = 0
        self.pools: dict[int, Pool] = {}
        self.ended: dict[int, Entry] = {}  # by pid: leaders that have exited and were not reaped when last looked at
        self.signals: list[tuple[Signal, Entry | None]] = []  # and by whom: his key may become better known
        self.holds = self._next_id = self._settle_after = 0

    def new(self, family: Pool | None, founder: Entry, *, scoped: bool) -> Pool:
        """A new family, or a branch of one."""
        self._next_id += 1
        pool = Pool(self._next_id, family, founder, self.now_ns)
        pool.limit = self.config.hold_at if family else self.config.family_hold_at
        pool.depth_limit = self.config.depth_limit
        pool.flags = int(GroupFlag.SCOPED) if scoped else 0
        self.pools[pool.id] = pool
        return pool

    def hold(self, pool: Pool) -> None:
        """Its forks are not to happen."""
        if not pool.flags & GroupFlag.HELD:
            pool.flags |= GroupFlag.HELD
            pool.held_ns = self.now_ns
            self.holds += 1

    def release(self, pool: Pool) -> None:
        """Its forks may happen again."""
        self.holds -= pool.held
        pool.flags &= ~(GroupFlag.HELD | GroupFlag.ALARMED)
        pool.held_ns = 0

    def split(self, of: Pool, founder: Entry | None, key: ProcessKey) -> Pool:
        """A family beside `of`, born held and watched."""
        self._next_id += 1
        pool = Pool(self._next_id, None, founder or Entry(key, None, exact=True), self.now_ns)
        pool.spawner = of.spawner
        pool.limit, pool.depth_limit = self.config.family_hold_at, self.config.depth_limit
        pool.flags = int(GroupFlag.SCOPED | GroupFlag.ALARMED | GroupFlag.WATCHED)
        pool.alarm_ns, pool.rule = of.alarm_ns, of.rule
        self.pools[pool.id] = pool
        self.hold(pool)
        return pool

    def limit(self, pool: Pool, limit: int, depth_limit: int) -> None:
        """New limits; 0 leaves one as it is."""
        pool.limit = limit or pool.limit
        pool.depth_limit = depth_limit or pool.depth_limit
        pool.settle_at = 0

    def charge(self, pool: Pool | None, by: Entry, generation: int) -> None:
        """One more task in it, made by `by`."""
        if pool is None or pool.gone:
            return
        pool.forks += 1
        pool.slots += 1
        if self._is_over(pool):
            self.cross(pool, by, Rule.FAMILY_SLOTS if pool.kind is GroupKind.FAMILY else Rule.BRANCH_SLOTS)
        elif pool.kind is GroupKind.BRANCH and generation >= pool.depth_limit:
            self.cross(pool, by, Rule.GENERATIONS)
        pool.peak = max(pool.peak, pool.slots)

    def uncharge(self, pool: Pool | None, by: int) -> None:
        """So many slots less; it goes with its last, unless it is watched."""
        if pool is None or pool.gone:
            return
        pool.slots -= by
        if pool.slots > 0:
            return
        if pool.flags & GroupFlag.WATCHED:
            self._tell(pool, SignalKind.EMPTY, None)
        else:
            self.drop(pool)

    def forget(self, pool: Pool) -> None:
        """It is not watched any more; it goes when it is empty."""
        pool.flags &= ~GroupFlag.WATCHED
        if pool.slots <= 0:
            self.drop(pool)

    def drop(self, pool: Pool) -> None:
        """It is no more."""
        self.release(pool)
        pool.gone = True
        del self.pools[pool.id]

    def settle(self) -> None:
        """Takes those that are reaped off every count."""
        for entry in [e for e in self.ended.values() if self._reaped(e)]:
            self.free(entry)

    def free(self, entry: Entry) -> None:
        """The process is reaped: its slots are free."""
        if self.ended.get(entry.pid) is entry:
            del self.ended[entry.pid]
        slots, entry.slots, entry.live = entry.slots, 0, 0
        if entry.family:
            entry.family.members.discard(entry)
        if slots > 0:
            self.uncharge(entry.branch, slots)
            self.uncharge(entry.family, slots)

    def _is_over(self, pool: Pool) -> bool:
        pool.asks += 1
        if pool.limit >= pool.slots or pool.asks < pool.settle_at:
            return False
        self._settle_if_due()
        if pool.limit < pool.slots:
            return True
        pool.settle_at = pool.asks + pool.limit - pool.slots
        return False

    def _settle_if_due(self) -> None:
        began = self._clock()
        if began >= self._settle_after:
            self.settle()
            ended = self._clock()
            self._settle_after = ended + _SETTLE_SHARE * (ended - began)

    def cross(self, pool: Pool, by: Entry, rule: Rule) -> None:
        """A threshold is crossed: hold first, then tell."""
        if pool.flags & GroupFlag.ALARMED:
            return
        pool.flags |= GroupFlag.ALARMED
        pool.rule, pool.alarm_ns = int(rule), self.now_ns
        if self.config.autohold and pool.flags & GroupFlag.SCOPED:
            self.hold(pool)
        self._tell(pool, SignalKind.ALARM, by)

    def _tell(self, pool: Pool, kind: SignalKind, by: Entry | None) -> None:
        numbers = (pool.rule, pool.slots, int(pool.flags))
        signal = Signal(self.now_ns, pool.id, pool.family.id, by.key if by else NOBODY, kind, *numbers)
        self.signals.append((signal, by))
