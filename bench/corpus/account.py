"""What one run adds up to: the guard's events in, what was missed out. Pure."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import Any

NS_PER_MS = 1e6
MOST_HELD_MS = 250.0  # in total, for an innocent
LEAST_APART_MS = 10_000.0  # between two holds of an innocent


@dataclass
class Episode:
    """One alarm and what came of it. Times are ns since boot."""

    family: int
    alarm_ns: int
    rule: str
    slots: int
    held: bool = False
    verdict: str = ""
    reasons: list[str] = field(default_factory=list)
    verdict_ns: int = 0
    freed_ns: int = 0
    killed: int | None = None
    survivors: int = 0
    waiting: str = ""
    cleared: bool = False

    @property
    def done(self) -> bool:
        """Whether the guard has come to the end of it."""
        return self.cleared or bool(self.freed_ns and self.verdict != "bomb")

    def held_ms(self, until_ns: int) -> float:
        """How long the family, or the innocent part of it, was held; until the end of the run if it still is."""
        if not self.held:
            return 0.0
        return max(0, (self.freed_ns or until_ns) - self.alarm_ns) / NS_PER_MS


@dataclass
class Run:
    """One run of one workload."""

    name: str
    label: str
    started_ns: int = 0
    ended_ns: int = 0
    code: int | None = None  # exit code of the command; None: it was ended by us, or never ended
    peak: int = 0
    bomb_peak: int = 0
    bomb_left: int = 0  # members of the bomb that live at the end
    hurt: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_run: str = ""
    episodes: list[Episode] = field(default_factory=list)

    # -- the guard's events --------------------------------------------------------------------------------------------

    def hear(self, event: dict[str, Any]) -> None:
        """Takes one event of the guard."""
        kind, now = event["event"], int(event.get("boot_ns", 0))
        if kind == "alarm":
            self.episodes.append(Episode(event["family"], now, event["rule"], event["slots"]))
        elif kind == "note":
            self.notes.append(event["text"])
        if (found := self._episode(event.get("family"))) is None:
            return
        match kind:
            case "held":
                found.held = True
            case "verdict":
                found.verdict, found.reasons, found.verdict_ns = event["verdict"], event["reasons"], now
            case "released":
                # The kernel's time of the alarm, which is a little before the guard speaks of it.
                found.freed_ns, found.alarm_ns = now, now - int(event["after_ms"] * NS_PER_MS)
            case "killed":
                found.killed = (found.killed or 0) + event["killed"]
                found.survivors, found.alarm_ns = event["survivors"], now - int(event["dead_ms"] * NS_PER_MS)
            case "waiting":
                found.waiting = event["why"]
            case "cleared":
                found.cleared = True

    def _episode(self, family: object) -> Episode | None:
        """The last episode of a family; an older one only if the guard is not done with it."""
        of_family = [e for e in self.episodes if e.family == family]
        return next((e for e in reversed(of_family) if not e.done), of_family[-1] if of_family else None)

    # -- what it adds up to --------------------------------------------------------------------------------------------

    @property
    def innocent(self) -> bool:
        """Whether nobody in it may be killed."""
        return self.label == "innocent"

    @property
    def killed(self) -> int:
        """Members killed."""
        return sum(e.killed or 0 for e in self.episodes)

    @property
    def waiting(self) -> bool:
        """Whether something is held for a person."""
        return any(e.waiting and not e.done for e in self.episodes)

    @property
    def settled(self) -> bool:
        """Whether the guard killed somebody and is done with every alarm; zombies may be left."""
        return any(e.killed is not None for e in self.episodes) and all(
            e.done or e.killed is not None for e in self.episodes
        )

    @property
    def held_ms(self) -> float:
        """The total of all holds, each family's on its own."""
        return sum(e.held_ms(self.ended_ns) for e in self.episodes)

    @property
    def holds(self) -> int:
        """How many times something was held."""
        return sum(e.held for e in self.episodes)

    def judged_ms(self) -> tuple[float, float] | None:
        """To the verdict that counts, from its alarm and from the start: the first `bomb`, else the last there is."""
        judged = [e for e in self.episodes if e.verdict_ns]
        if not judged:
            return None
        chosen = next((e for e in judged if e.verdict == "bomb"), judged[-1])
        return (
            (chosen.verdict_ns - chosen.alarm_ns) / NS_PER_MS,
            (chosen.verdict_ns - self.started_ns) / NS_PER_MS,
        )

    def missed(self) -> list[str]:
        """Every goal that this run missed, in words; empty if none."""
        if self.not_run:
            return [f"not run: {self.not_run}"]
        return [*(self._missed_innocent() if self.innocent else self._missed_guilty()), *self.hurt]

    def _missed_innocent(self) -> list[str]:
        found = [f"{self.killed} killed"] if self.killed else []
        if self.waiting:
            found.append("held for a person")
        elif self.held_ms > MOST_HELD_MS:
            found.append(f"held {self.held_ms:.0f} ms in total, more than {MOST_HELD_MS:.0f}")
        at = sorted(e.alarm_ns for e in self.episodes if e.held)
        pauses = [(b - a) / NS_PER_MS for a, b in itertools.pairwise(at)]
        if pauses and min(pauses) < LEAST_APART_MS:
            found.append(f"held again after {min(pauses) / 1000:.1f} s")
        return found

    def _missed_guilty(self) -> list[str]:
        if self.bomb_left:
            verdicts = ", ".join(e.verdict or "none" for e in self.episodes)
            why = f"verdicts: {verdicts}" if self.episodes else "no alarm"
            return [f"{self.bomb_left} members of the bomb live ({why})"]
        if not any(e.verdict == "bomb" for e in self.episodes):
            return ["no verdict bomb"]
        return []

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        judged = self.judged_ms()
        return asdict(self) | {
            "killed": self.killed,
            "holds": self.holds,
            "held_ms": round(self.held_ms, 1),
            "verdict_ms": judged and round(judged[0], 1),
            "from_start_ms": judged and round(judged[1], 1),
            "missed": self.missed(),
        }
