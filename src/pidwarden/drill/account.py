"""What a drill adds up to: the guard's events in, one result a shape out. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

_NS_PER_MS = 1e6


@dataclass
class Alarm:
    """One alarm of the guard and what came of it. Times are ms after the alarm, but `noticed_ms` (after the bomb)."""

    family: int
    at_ns: int
    rule: str
    slots: int
    noticed_ms: float
    held_ms: float | None = None
    judged_ms: float | None = None
    dead_ms: float | None = None
    cleared_ms: float | None = None
    verdict: str = ""
    reasons: list[str] = field(default_factory=list)
    killed: int = 0
    survivors: int = 0
    unreaped: int = 0
    released: bool = False

    @property
    def open(self) -> bool:
        """Whether the guard is not done with it: neither cleared, nor let go for good."""
        return self.cleared_ms is None and not (self.released and self.verdict != "bomb")


@dataclass
class Result:
    """How one shape went. Times are ms: `noticed_ms` after the bomb, the others after the last alarm, but
    `dead_after_first_ms`, which is after the first: a thread bomb is let go once before it is killed.
    """

    shape: str
    pen_cap: int
    noticed_ms: float | None = None
    held_ms: float | None = None
    judged_ms: float | None = None
    dead_ms: float | None = None
    dead_after_first_ms: float | None = None
    cleared_ms: float | None = None
    peak: int = 0
    pen_peak: int = 0
    killed: int = 0
    survivors: int = 0
    guilty: dict[str, Any] | None = None
    verdicts: list[str] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    bystanders_hurt: list[str] = field(default_factory=list)
    worst_delay_ms: float | None = None
    contained: bool = False
    proven_empty: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is to be wished for."""
        return self.contained and self.proven_empty and not self.bystanders_hurt

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"passed": self.passed}


class Account:
    """Follows the guard's events from the moment the bomb is off."""

    def __init__(self, shape: str, pen_cap: int, bomb_ns: int) -> None:
        self.result = Result(shape, pen_cap)
        self._bomb_ns = bomb_ns

    def hear(self, event: dict[str, Any]) -> Alarm | None:
        """Takes one event; the alarm it belongs to, None if it belongs to none of this shape's."""
        kind, now_ns = event.get("event"), int(event.get("boot_ns", 0))
        if kind == "alarm":
            noticed = _ms(now_ns - self._bomb_ns)
            alarm = Alarm(event["family"], now_ns, event["rule"], event["slots"], noticed)
            self.result.alarms.append(alarm)
            return alarm
        found = self._alarm(event.get("family"))
        if found is None:
            return None
        after = _ms(now_ns - found.at_ns)
        match kind:
            case "held":
                found.held_ms = after
            case "verdict":
                found.judged_ms, found.verdict, found.reasons = after, event["verdict"], event["reasons"]
                self.result.guilty = event["guilty"] or self.result.guilty
            case "released":
                found.released = True
            case "killed":
                found.dead_ms, found.killed, found.survivors = event["dead_ms"], event["killed"], event["survivors"]
                found.held_ms, found.unreaped = event["held_ms"], event["unreaped"]
                self.result.peak = max(self.result.peak, event["peak_slots"])
            case "cleared":
                found.cleared_ms = event["clear_ms"]
        return found

    def _alarm(self, family: object) -> Alarm | None:
        """The last alarm of a family; an older one only if the guard is not done with it."""
        of_family = [a for a in self.result.alarms if a.family == family]
        return next((a for a in reversed(of_family) if a.open), of_family[-1] if of_family else None)

    @property
    def killed(self) -> bool:
        """Whether the guard says that it killed a bomb, and is killing none at the moment."""
        return any(a.dead_ms is not None for a in self.result.alarms) and not any(
            a.dead_ms is None and a.open for a in self.result.alarms
        )

    @property
    def cleared(self) -> bool:
        """Whether the guard is done with every alarm, and killed somebody."""
        return self.killed and not any(a.open for a in self.result.alarms)

    def finish(self, *, pen_peak: int, pen_left: int, alive: bool) -> Result:
        """The result, with what the pen says: the most tasks there were, those left, whether any of them lives."""
        result = self.result
        dead = [a for a in result.alarms if a.dead_ms is not None]
        result.pen_peak = pen_peak
        result.verdicts = [a.verdict for a in result.alarms if a.verdict]
        result.killed = sum(a.killed for a in dead)
        result.survivors = sum(a.survivors for a in dead)
        if result.alarms:
            result.noticed_ms = result.alarms[0].noticed_ms
        if dead:
            last = dead[-1]
            assert last.dead_ms is not None
            result.held_ms, result.judged_ms = last.held_ms, last.judged_ms
            result.dead_ms, result.cleared_ms = last.dead_ms, last.cleared_ms
            result.dead_after_first_ms = round(last.dead_ms + last.noticed_ms - result.alarms[0].noticed_ms, 1)
        result.contained = self.killed and not alive and not result.survivors and pen_peak < result.pen_cap
        result.proven_empty = self.cleared and not pen_left
        return result


def _ms(ns: int) -> float:
    return round(ns / _NS_PER_MS, 1)
