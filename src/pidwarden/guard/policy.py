"""What the settings say is done on a verdict, how large the next budget is, and how often there was one already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pidwarden.judge.case import SECOND, Rules
from pidwarden.model.record import Group, GroupKind
from pidwarden.model.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pidwarden.kernel.limits import Limit
    from pidwarden.settings import Settings

Do = Literal["kill", "hold", "release"]
_LARGE = 4  # a branch that has used this part of its budget may soon have used it all
_ROOM = 1.25  # of a branch's new budget for the family: what else is in it may grow as well


class Action(NamedTuple):
    """What is done; for `hold`: why, and after how many seconds what comes of itself (0: nothing, a person decides)."""

    do: Do
    why: str = ""
    seconds: float = 0.0
    then: Do = "kill"


def rules(settings: Settings) -> Rules:
    """The judge's numbers."""
    least = min(settings.min_members, max(2, settings.hold_at // 3))
    return Rules(
        min_members=least,
        branch_age_ns=int(settings.branch_age * SECOND),
        slow_ns=int(settings.slow_after * SECOND),
    )


def decide(settings: Settings, kind: Kind) -> Action:
    """What is done on a verdict; in mode `observe`: what would be done in mode `kill`."""
    if kind is Kind.BURST:
        return Action("release") if settings.on_burst == "release" else Action("hold", "a burst (on_burst)")
    if settings.mode == "hold":
        return Action("hold", "held by order (mode hold)" if kind is Kind.BOMB else "the judge is not sure")
    wanted = settings.on_bomb if kind is Kind.BOMB else settings.on_unsure
    if wanted == "kill" and settings.grace:
        return Action("hold", f"killed in {settings.grace:g} s unless released", settings.grace)
    return Action(wanted) if wanted != "hold" else _hold(settings, kind)


def _hold(settings: Settings, kind: Kind) -> Action:
    if kind is Kind.BOMB:
        return Action("hold", "a bomb (on_bomb)")
    if not settings.unsure_timeout:
        return Action("hold", "the judge is not sure")
    what = "killed" if settings.unsure_then == "kill" else "released"
    why = f"the judge is not sure; {what} in {settings.unsure_timeout:g} s"
    return Action("hold", why, settings.unsure_timeout, settings.unsure_then)


def budget(settings: Settings, limit: int, slots: int, tightest: Limit | None, *, doubtful: bool) -> int:
    """The slots that a group may have after a burst; at most half of what is free comes on top of what it has."""
    wanted = int(max(limit, slots) * settings.doubtful_growth) if doubtful else int(limit * settings.burst_growth)
    return max(slots + 1, min(wanted, slots + tightest.free // 2)) if tightest else wanted


def budgets(
    settings: Settings, groups: Mapping[int, Group], crossed: Iterable[Group], tightest: Limit | None, *, doubtful: bool
) -> dict[int, int]:
    """The new limits of a family and its branches, those that change, after some of these `groups` crossed theirs.

    They grow together, so that the use of one does not run into another a moment later.
    """
    crossed = list(crossed)
    found = {g.id: budget(settings, g.limit, g.counted, tightest, doubtful=doubtful) for g in crossed}
    for family in [g for g in groups.values() if g.kind == GroupKind.FAMILY]:
        if family.id not in found:
            wanted = (family.counted - g.counted + int(_ROOM * found[g.id]) for g in crossed)
            found[family.id] = max(family.limit, *wanted)
            continue
        for g in groups.values():
            if g.id not in found and g.counted * _LARGE > g.limit:
                found[g.id] = max(g.limit, min(found[family.id], int(g.limit * settings.burst_growth)))
    return found


class Strikes:
    """How often each group was released as a burst, as far as it is not long ago."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}  # group: (how often, when last)

    def count(self, groups: Iterable[int], now_ns: int, memory_seconds: float) -> int:
        """The most that one of the groups has."""
        for group, (_strikes, when) in list(self._known.items()):
            if now_ns - when > memory_seconds * SECOND:
                del self._known[group]
        return max((self._known[g][0] for g in groups if g in self._known), default=0)

    def add(self, groups: Iterable[int], strikes: int, now_ns: int) -> None:
        """They have so many from now on."""
        self._known.update((group, (strikes, now_ns)) for group in groups)
