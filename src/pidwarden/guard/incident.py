"""One incident: from the alarm to the last zombie. The guard drives it; nothing here waits."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pidwarden.act.freeze import Frozen
    from pidwarden.act.kill import Execution
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record, Signal
    from pidwarden.model.verdict import Verdict


class State(StrEnum):
    """Where an incident stands."""

    HELD = "held"  # the family is held, the judge has not spoken
    WAITING = "waiting"  # for a person, or for the grace time to pass
    KILLING = "killing"
    CLEARING = "clearing"  # dead; zombies wait to be reaped by whoever owes it
    DONE = "done"


class Incident:
    """What happened to one family since an alarm. Times are ns since boot."""

    def __init__(self, signal: Signal) -> None:
        self.family = signal.family
        self.groups = {signal.group}  # what is held: the branch or the family that crossed
        self.signal = signal
        self.state = State.HELD
        self.verdict: Verdict | None = None
        self.founder: Record | None = None
        self.origin: dict[str, Any] | None = None  # the founder as events show it, and the first of the guilty
        self.guilty: dict[str, Any] | None = None
        self.guilty_family = 0  # the family of its own that the guilty subtree was split off into
        self.roots: tuple[ProcessKey, ...] = ()
        self.execution: Execution | None = None
        self.deadline_ns = 0  # of the state: end of the grace time, or of the kill timeout
        self.then = "kill"  # what comes of itself at the end of the wait, if it has one
        self.frozen: Frozen | None = None  # how the guilty part is frozen while it waits
        self.next_pass_ns = 0  # when that is looked at again
        self.woken = 0  # how often members that were continued by somebody had to be stopped again
        self.held_ns = 0  # since when it is held; the alarm's own time, if the kernel held it
        self.ordered = False  # whether a person had it held, without an alarm and a judge
        self.survivors = 0  # who was still alive when the kill was given up

    def summary(self) -> dict[str, object]:
        """For `pidwarden status`."""
        return {
            "family": self.family,
            "guilty_family": self.guilty_family,
            "state": str(self.state),
            "alarm_ns": self.signal.time_ns,
            "origin": self.origin,
            "guilty": self.guilty,
            "rule": self.signal.rule,
            "ordered": self.ordered,
            "verdict": str(self.verdict.kind) if self.verdict else None,
            "frozen_by": (self.frozen.frozen_by if self.frozen else "") or None,
            "woken": self.woken,
            "members": len(self.verdict.members) if self.verdict else 0,
            "reasons": list(self.verdict.reasons) if self.verdict else [],
            "killed": len(self.execution.killed) if self.execution else None,
        }
