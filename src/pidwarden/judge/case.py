"""What the judge is shown, and the numbers it judges by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import GroupKind, Record, Rule

SECOND = 1_000_000_000


class Rules(NamedTuple):
    """The judge's numbers. ``min_members`` and the first two times are settings, the rest is measured."""

    min_members: int = 10  # a subtree lighter than this is never guilty (the 2011 patch hard-coded ten)
    branch_age_ns: int = SECOND  # a parent that lived this long before is not part of what it started
    slow_ns: int = 10 * SECOND  # zombies or threads that took longer are a leak or a load, not an explosion
    heavy_share: float = 0.15  # of the growth, and of the heaviest subtree: what is lighter is not why the alarm rang
    witness_ns: int = SECOND // 10  # a sibling this much older than the heavy one was there first
    patience: int = 2  # a burst is released so many times, then a person decides
    full: float = 0.9  # of the process table: from here on once less


class Case(NamedTuple):
    """The alarm, and the family's records at this moment."""

    records: tuple[Record, ...]
    group: int  # the family or branch that crossed
    kind: GroupKind
    rule: Rule
    now_ns: int
    strikes: int = 0  # times the same group was already released as a burst, not long ago
    memory: Mapping[ProcessKey, int] = {}  # resident bytes of members, as far as known
    spared: frozenset[ProcessKey] = frozenset()  # protected by rule; never members
    pressure: float = 0.0  # share of the tightest limit on processes that is in use
    gated: bool = True  # who wanted to fork was stopped; False where nothing is held, as in mode observe
    spawner: Record | None = None  # who started the family, if that is known
