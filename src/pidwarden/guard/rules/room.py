"""The rule for what is left of the process table: a share of the tightest limit, or the time until it is full."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pidwarden.guard.headroom import TREND_SECONDS, Headroom, duration
from pidwarden.guard.rules.episodes import Episodes, Finding
from pidwarden.guard.rules.surroundings import SECOND, lasting
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.guard.report import Reporter
    from pidwarden.kernel.limits import Limit
    from pidwarden.settings.rules import HeadroomRule

_LOOKS = 120  # kept of the last ten minutes
_LEAST_PART = 10  # what was seen for less than this part of `full_in` foretells nothing


class Trend:
    """How much of the tightest limit was used in the last ten minutes. Pure."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()
        self._name = ""

    def note(self, now_ns: int, tight: Limit) -> None:
        """One look. Looks that come too thick are left out, so that memory is bounded; another limit begins anew."""
        if tight.name != self._name:
            self._name = tight.name
            self._seen.clear()
        while self._seen and now_ns - self._seen[0][0] > TREND_SECONDS * SECOND:
            self._seen.popleft()
        gap = TREND_SECONDS * SECOND / _LOOKS
        if not self._seen or now_ns - self._seen[-1][0] >= gap:
            self._seen.append((now_ns, tight.used))

    def headroom(self, limits: Sequence[Limit], now_ns: int) -> Headroom:
        """With the rate since the oldest look that is kept; there has to be one."""
        used = limits[0].used
        then_ns, before = self._seen[0]
        seconds = max(now_ns - then_ns, 1) / SECOND
        return Headroom(limits, round((used - before) * 3600 / seconds, 1), seconds)


def judge(room: Headroom, rule: HeadroomRule) -> Finding:
    """Whether too little is left. Its size doubles each time that half of what was free is gone."""
    tight = room.limits[0]
    few = tight.free < rule.free * tight.limit
    seconds = room.hours * 3600 if room.hours is not None else None
    long_enough = room.seconds >= min(TREND_SECONDS, rule.full_in / _LEAST_PART)
    soon = rule.full_in > 0 and long_enough and seconds is not None and seconds < rule.full_in
    when = ""
    if seconds is not None and (soon or tight.free == 0):
        when = "; FULL: fork fails" if tight.free == 0 else f"; full in {duration(seconds / 3600)} at this rate"
    text = (
        f"process table: {tight.used} of {tight.limit} used, {tight.free} free "
        f"({escape(tight.name.encode('utf-8', 'surrogateescape'))} binds){when}; type `pidwarden why`"
    )
    facts = {
        "limit": tight._asdict() | {"free": tight.free},
        "tasks_per_hour": room.per_hour,
        "full_in_s": None if seconds is None else round(seconds),
        "below_share": few,
        "soon_full": soon,
    }
    return Finding(1000 * tight.limit // max(1, tight.free), few or soon, text, facts)


class Room:
    """Looks at the limits."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._trend = Trend()
        self.episodes = Episodes()

    def look(self, limits: Sequence[Limit], rule: HeadroomRule, now_ns: int) -> None:
        """Judges one look, and tells it."""
        if not limits:  # /proc does not show them
            return
        self._trend.note(now_ns, limits[0])
        finding = judge(self._trend.headroom(limits, now_ns), rule)
        for told in self.episodes.look({"room": finding}, now_ns):
            text = told.finding.text
            if told.what == "over":
                text = f"over after {lasting(told.lasted_ns)}: {text}"
            self._report("finding", rule="headroom", what=told.what, text=text, **told.finding.facts)
