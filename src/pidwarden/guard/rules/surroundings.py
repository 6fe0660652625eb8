"""What the rules share of the guard: whom they may speak of, whom they may touch, and how they say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pidwarden.act.spare import Held, take, why_spared
from pidwarden.guard.report import who
from pidwarden.model.key import TICK_NS
from pidwarden.model.record import GroupFlag
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from pidwarden.guard.respond import Responder
    from pidwarden.guard.scope import Scope
    from pidwarden.kernel import procfs
    from pidwarden.model.record import Record
    from pidwarden.watch.base import Source

SECOND = 1_000_000_000


class Surroundings:
    """Asks the guard's other parts; changes nothing."""

    def __init__(self, source: Source, responder: Responder, scope: Scope) -> None:
        self.source, self._responder, self._scope = source, responder, scope

    @property
    def only_observes(self) -> bool:
        """Whether the guard may touch nobody at all."""
        return self._responder.settings.mode == "observe"

    def covers(self, record: Record | None) -> bool:
        """Whether a process is in scope. Of one without a record that is known only if everything is."""
        if self._scope.everything:
            return True
        if record is None:
            return False
        if self._scope.pids:
            group = self.source.group(record.family)
            return bool(group and group.flags & GroupFlag.SCOPED)
        return self._scope.covers(record)

    def hold(self, record: Record | None) -> tuple[Held | None, str]:
        """A process by its pidfd, and why it must not be touched; empty: it may be. None: it is gone."""
        if record is None:
            return None, "the history knows nothing of it"
        record = self.source.record(record.key) or record  # its marks and its family as they are now
        held = take(record)
        if held is None:
            return None, "it has just ended"
        return held, why_spared(held, self._responder.look.protection) or self._why_held(record)

    def _why_held(self, record: Record) -> str:
        """Who is held stands still because the guard, or a person, wants it."""
        ours = {record.family, record.branch} - {0}
        for number in ours:
            group = self.source.group(number)
            if group and group.held:
                return f"family {record.family} is held by this guard"
        if any({i.family, i.guilty_family} & ours for i in self._responder.incidents):
            return f"family {record.family} waits for a decision"
        return ""


def named(stat: procfs.Stat) -> str:
    """``name (pid)``, escaped."""
    return f"{escape(stat.comm)} ({stat.pid})"


def described(stat: procfs.Stat, record: Record | None) -> dict[str, Any]:
    """A process in an event; its start to the tick where the history does not know it better."""
    if record is not None:
        return who(record, record.key)
    return {"pid": stat.pid, "start_ns": stat.start_ticks * TICK_NS, "comm": escape(stat.comm)}


def lasting(ns: int) -> str:
    """A time in words."""
    seconds = ns / SECOND
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
