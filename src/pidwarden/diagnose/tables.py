"""Tables of the kernel by values: which is over its threshold, which will be full and when, what to do. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.diagnose.limits import until_full
from pidwarden.diagnose.tabletext import ABOUT, command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pidwarden.model.gauge import Gauge, Table, Thresholds


class State(StrEnum):
    """What is to be thought of it, the worst first."""

    OVER = "over"
    NEAR = "near"
    FINE = "fine"
    UNSEEN = "unseen"


class Trend(NamedTuple):
    """What came of two looks so many seconds apart: growth in entries a second, and failures meanwhile."""

    per_second: float
    seconds: float
    failures: int


class Finding(NamedTuple):
    """One table, judged."""

    gauge: Gauge
    state: State
    trend: Trend | None
    full_in: float | None  # seconds
    reasons: tuple[str, ...]

    @property
    def title(self) -> str:
        """Its name for people."""
        title = ABOUT[self.gauge.table].title
        return f"{title}: {self.gauge.of}" if self.gauge.of else title

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Sorts the fullest first, those without a limit after them, and what cannot be seen last."""
        share = self.gauge.share
        return self.state is State.UNSEEN, -(share if share is not None else -1.0), self.full_in or float("inf")

    @property
    def is_told(self) -> bool:
        """Whether it is worth a word of its own."""
        return self.state in (State.OVER, State.NEAR)

    def object(self) -> dict[str, Any]:
        """The same for programs."""
        gauge, about, trend = self.gauge, ABOUT[self.gauge.table], self.trend
        return {
            "table": str(gauge.table),
            "scope": str(gauge.scope),
            "of": gauge.of or None,
            "state": str(self.state),
            "used": gauge.used,
            "limit": gauge.limit,
            "reserved": gauge.reserved,
            "free": gauge.free,
            "share": None if gauge.share is None else round(gauge.share, 4),
            "setting": gauge.setting,
            "peak": gauge.peak,
            "failures": gauge.failures,
            "failures_since": gauge.since if gauge.failures is not None else None,
            "trend": None if trend is None else trend._asdict() | {"per_second": round(trend.per_second, 3)},
            "full_in_s": None if self.full_in is None else round(self.full_in, 1),
            "who": [user._asdict() for user in gauge.who],
            "reasons": list(self.reasons),
            "symptom": about.symptom,
            "remedy": about.remedy,
            "type": command(gauge) or None,
            "detail": gauge.detail or None,
            "unseen": gauge.unseen or None,
        }


def judge(gauge: Gauge, thresholds: Thresholds, trend: Trend | None = None) -> Finding:
    """One table. Full soon is near, however small its share: who is called needs time to come."""
    share = gauge.share
    if gauge.used is None:
        return Finding(gauge, State.UNSEEN, None, None, ())
    full_in = None
    if trend is not None and gauge.free is not None:
        full_in = until_full(gauge.free, trend.per_second, trend.seconds)
    over, near = thresholds.of(gauge.table)
    state, reasons = State.FINE, []
    if share is not None and share >= over:
        state = State.OVER
        reasons.append("full" if gauge.free == 0 else f"{share:.0%} used, and {over:.0%} is too much")
    elif share is not None and share >= near:
        state = State.NEAR
        reasons.append(f"{share:.0%} used")
    if full_in is not None and gauge.free and full_in < thresholds.full_in and (share or 0) >= thresholds.rate_from:
        state = State.NEAR if state is State.FINE else state
        reasons.append(f"full in {seconds(full_in)} at this rate")
    if trend is not None and trend.failures > 0:
        state = State.NEAR if state is State.FINE else state
        reasons.append(f"{trend.failures} refused in the last {seconds(trend.seconds)}")
    return Finding(gauge, state, trend, full_in, tuple(reasons))


def seconds(value: float) -> str:
    """A time for people."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"  # noqa: PLR2004


def trends(before: Iterable[Gauge], after: Iterable[Gauge], passed: float) -> dict[tuple[str, str], Trend]:
    """What changed between two looks so many seconds apart, by :attr:`Gauge.key`; of what is in both."""
    then = {g.key: g for g in before}
    found = {}
    for g in after:
        old = then.get(g.key)
        if old is not None and old.used is not None and g.used is not None and passed > 0:
            failed = max(0, (g.failures or 0) - (old.failures or 0)) if old.failures is not None else 0
            found[g.key] = Trend((g.used - old.used) / passed, passed, failed)
    return found


def judged(
    gauges: Iterable[Gauge], thresholds: Thresholds, changes: Mapping[tuple[str, str], Trend] | None = None
) -> list[Finding]:
    """All of them, the fullest first."""
    changes = changes or {}
    return sorted((judge(g, thresholds, changes.get(g.key)) for g in gauges), key=lambda f: f.rank)


def fullest(findings: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """Of each table the first one and those that are over or near, and of how many more it was chosen."""
    counts: dict[Table, int] = {}
    for f in findings:
        counts[f.gauge.table] = counts.get(f.gauge.table, 0) + 1
    seen: set[Table] = set()
    shown = []
    for f in findings:
        first = f.gauge.table not in seen
        if first or f.is_told:
            shown.append((f, counts[f.gauge.table] - 1 if first else 0))
        seen.add(f.gauge.table)
    return shown
