"""What may help a parent of zombies, step by step, and what forbids it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.cause import Cause
from pidwarden.model.task import SIGCHLD
from pidwarden.settings.rules import STEPS

if TYPE_CHECKING:
    from pidwarden.model.task import Status
    from pidwarden.settings.rules import Step


# What no signal to the parent helps against.
_NOT_HERE = {
    Cause.TRACED: "somebody traces its zombies, and has to let them go first",
    Cause.FROZEN: "its cgroup is frozen, and has to be thawed first",
    Cause.NAMESPACE_DYING: "its pid namespace is dying, and somebody in there does not end",
}


class Parent(NamedTuple):
    """What is known of a parent at the moment of a step. `untouched`: why it is spared, or held; empty if it is not."""

    status: Status
    cause: Cause
    has_terminal: bool
    untouched: str = ""

    @property
    def is_init(self) -> bool:
        """Whether it is process 1 of a pid namespace: with it everybody in there ends."""
        return self.status.nspid[-1:] == (1,)


class Plan(NamedTuple):
    """The steps in order, without those that were tried; or why there is none."""

    steps: tuple[Step, ...]
    why_not: str = ""


def plan(parent: Parent, up_to: Step, tried: tuple[Step, ...] = ()) -> Plan:
    """What is allowed and may help. A step that cannot help is left out, so that nobody is disturbed for nothing."""
    status = parent.status
    if parent.untouched:
        return Plan((), f"not touched: {parent.untouched}")
    if status.tracer:
        return Plan((), f"process {status.tracer} traces it, and has to let it go first")
    if parent.cause in _NOT_HERE:
        return Plan((), _NOT_HERE[parent.cause])
    allowed = STEPS[: STEPS.index(up_to) + 1]
    stopped = status.state == "T"
    helps: dict[Step, str] = {
        "sigchld": _deaf(status),
        "sigcont": ""
        if stopped and not parent.has_terminal
        else "it is a terminal's job, which somebody may have paused"
        if stopped
        else "it is not stopped",
        "sigterm": "it is the init of a pid namespace, and all in there would end" if parent.is_init else "",
        "sigkill": "it is the init of a pid namespace, and all in there would end" if parent.is_init else "",
    }
    steps = tuple(step for step in _order(stopped=stopped) if step in allowed and step not in tried and not helps[step])
    if steps:
        return Plan(steps)
    if tried:
        return Plan((), f"{', '.join(tried)} did not help, and up_to allows no more ({up_to})")
    reasons = [f"{step}: {helps[step]}" for step in allowed if helps[step]]
    return Plan((), "; ".join(reasons) or f"up_to allows nothing that would help ({up_to})")


def _order(*, stopped: bool) -> tuple[Step, ...]:
    """Who is stopped takes no signal before he is continued."""
    return ("sigcont", "sigchld", "sigterm", "sigkill") if stopped else STEPS


def _deaf(status: Status) -> str:
    """Why SIGCHLD would not remind it; empty: it has a handler, which may wait."""
    if status.is_ignored(SIGCHLD):
        return "it ignores SIGCHLD"
    if not status.is_caught(SIGCHLD):
        return "it has no handler for SIGCHLD"
    if status.is_blocked(SIGCHLD):
        return "it blocks SIGCHLD"
    return "" if status.state != "T" else "it is stopped"
