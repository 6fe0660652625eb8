"""Large families that something else keeps from growing: a cap of their cgroup, or of their user.

A bomb that was there before the guard may have used such a cap up. It then takes no slot more, so that it crosses no
budget of ours, or only once its forks that are under way are as many as that, half a minute later; and it spins: each
of its members forks, fails, and forks again. Nobody honest fails hundreds of times a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.judge.case import SECOND
from pidwarden.model.record import GroupKind

if TYPE_CHECKING:
    from pidwarden.model.record import Group
    from pidwarden.settings import Settings
    from pidwarden.watch.base import Source

_RARELY_NS = 5 * SECOND
_OFTEN_NS = SECOND // 2
_AT_FIRST_NS = 10 * SECOND  # who was there before the guard is looked at often for so long
_A_SECOND = 200  # failed forks


class Capped:
    """Takes back the budget of those, so that their next fork is answered like any that crosses a budget."""

    def __init__(self, source: Source, now_ns: int) -> None:
        self._source = source
        self._often_until_ns = now_ns + _AT_FIRST_NS
        self._seen: dict[int, int] = {}  # group: forks that failed, ever
        self._seen_ns = now_ns
        self._told: set[int] = set()  # groups, in mode observe, which would raise the limit again and again
        self.next_ns = now_ns

    def tick(self, settings: Settings, now_ns: int) -> list[Group]:
        """Looks, when it is time; the families and branches whose limit is now what they have."""
        if now_ns < self.next_ns:
            return []
        before, passed = self._seen, max(1, now_ns - self._seen_ns)
        large = [g for g in self._source.groups().values() if not g.held and g.counted >= _base(settings, g)]
        self._seen, self._seen_ns = {g.id: _failed(g) for g in large}, now_ns
        self._told &= self._seen.keys()
        spinning = [
            g
            for g in large
            if (self._seen[g.id] - before.get(g.id, self._seen[g.id])) * SECOND > _A_SECOND * passed
            and g.id not in self._told
        ]
        if settings.mode == "observe":
            self._told.update(g.id for g in spinning)
        for group in spinning:
            self._source.set_limit(group.id, group.counted)
        if spinning:
            self._often_until_ns = now_ns + _AT_FIRST_NS
        self.next_ns = now_ns + (_OFTEN_NS if large and now_ns < self._often_until_ns else _RARELY_NS)
        return spinning


def _base(settings: Settings, group: Group) -> int:
    return settings.hold_at if group.kind == GroupKind.BRANCH else settings.family_limit


def _failed(group: Group) -> int:
    """Forks that came to nothing: one that is done asks twice for room, on its way in and when it is there."""
    return group.asks - 2 * group.forks
