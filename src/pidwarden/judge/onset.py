"""When the growth began that rang the alarm. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Burst(NamedTuple):
    """Births close together."""

    first: int
    last: int
    weight: int


def onset(births: Iterable[tuple[int, int]], least: float, pause_ns: int) -> int:
    """When the growth that rang the alarm began, in ns since boot, from (birth, weight) pairs in any order.

    Back in time from the youngest, burst by burst (a pause of more than `pause_ns` ends one), until a pause is longer
    than all that came after it and at least `least` of the weight lies behind. So it matters neither how many those
    are that were there before, nor how long ago. A slow bomb, which doubles at every beat, is not cut at its beats.
    """
    bursts = _bursts(births, pause_ns)
    if not bursts:
        return 0
    began, youngest, got = bursts[0].first, bursts[0].last, bursts[0].weight
    for at, burst in enumerate(bursts[1:], 1):
        pause = began - burst.last
        if got >= least and pause > youngest - began and not _beat(bursts[at : at + 2], pause, got, youngest=at == 1):
            break
        began = burst.first
        got += burst.weight
    return began


def _beat(bursts: list[_Burst], pause: int, since: int, *, youngest: bool) -> bool:
    """Whether a pause is one of several alike, and what was born at each is a few times what was born before it.

    The youngest burst, which the alarm has cut short, may be smaller, if there were more each time until then.
    """
    if len(bursts) < 2:  # noqa: PLR2004  (the burst before the pause, and the one before that)
        return False
    burst, older = bursts
    alike = pause <= 2 * (burst.first - older.last) <= 4 * pause
    least = 1.5 * older.weight if youngest and since < burst.weight else older.weight
    most = 8 * older.weight if youngest else min(8 * older.weight, since)
    return alike and least <= burst.weight <= most and since <= 8 * burst.weight


def _bursts(births: Iterable[tuple[int, int]], pause_ns: int) -> list[_Burst]:
    """The youngest first."""
    found: list[_Burst] = []
    first = last = total = 0
    for birth, weight in sorted(births, reverse=True):
        if not last or first - birth > pause_ns:
            if last:
                found.append(_Burst(first, last, total))
            last, total = birth, 0
        first = birth
        total += weight
    if last:
        found.append(_Burst(first, last, total))
    return found
