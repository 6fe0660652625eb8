"""The names of the causes for which zombies are there."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a zombie has not been reaped."""

    TRANSIENT = "transient"
    DEAD_LEADER = "dead-leader"
    TRACED = "traced"
    STOPPED = "parent-stopped"
    FROZEN = "parent-frozen"
    WAITS_FOR_ANOTHER = "waits-for-another"
    BLOCKED = "blocked"
    ONE_PER_SIGNAL = "reaps-one-per-signal"
    SIGCHLD_BLOCKED = "sigchld-blocked"
    IGNORED_LATE = "ignored-late"
    EXECED = "execed-after-fork"
    NEVER_WAITS = "never-waits"
    CONTAINER_INIT = "container-init"
    NAMESPACE_DYING = "namespace-dying"
    UNKNOWN = "unknown"

    @property
    def text(self) -> str:
        """In a few words."""
        return _TEXT[self]


_TEXT = {
    Cause.TRANSIENT: "gone at the second look: reaped as it should be",
    Cause.DEAD_LEADER: "no zombie: its first thread is dead, others live",
    Cause.TRACED: "somebody traces the zombie, and takes its status first",
    Cause.STOPPED: "the parent is stopped",
    Cause.FROZEN: "the parent is frozen",
    Cause.WAITS_FOR_ANOTHER: "the parent waits for another child",
    Cause.BLOCKED: "the parent is blocked, and cannot come to wait",
    Cause.ONE_PER_SIGNAL: "the parent reaps one child for a SIGCHLD, and signals that come together are one",
    Cause.SIGCHLD_BLOCKED: "the parent holds SIGCHLD off",
    Cause.IGNORED_LATE: "the parent ignores SIGCHLD, but only since they ended",
    Cause.EXECED: "the parent became another program, which does not know of them",
    Cause.NEVER_WAITS: "the parent does not wait",
    Cause.CONTAINER_INIT: "the parent is the first process of a container, and no init",
    Cause.NAMESPACE_DYING: "the pid namespace is dying, and somebody in there does not end",
    Cause.UNKNOWN: "not known",
}
