"""A history to be shown: records by row, who made whom, and what is said of one, in text and as an object. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.model import lineage
from pidwarden.model.columns import marks
from pidwarden.model.container import NOWHERE, Place
from pidwarden.model.moment import ending
from pidwarden.model.record import ProcFlag
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pidwarden.model.moment import Clock
    from pidwarden.model.record import Record

GUESSED_LEGEND = "?  was running before the guard: its creator is taken from the parent it had then"


class View(NamedTuple):
    """Records with their links. ``creators`` says whether links are creators or, without a guard, present parents."""

    records: Sequence[Record]
    above: list[int]  # see model.lineage
    kids: dict[int, list[int]]  # oldest first
    in_table: dict[int, int]  # pid: the row that holds a slot under it now
    clock: Clock
    user: Callable[[int], str]
    held: Collection[int]  # ids of families and branches
    creators: bool
    place: Callable[[int], Place] = lambda _row: NOWHERE  # where the process of a row is

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        clock: Clock,
        user: Callable[[int], str],
        *,
        held: Collection[int] = (),
        creators: bool = True,
    ) -> View:
        """The view of some records, in any order."""
        records = sorted(records, key=lambda r: (r.key.start_ns, r.key.tgid))
        above = lineage.links([r.key for r in records], [r.parent for r in records])
        in_table = {r.key.tgid: row for row, r in enumerate(records) if r.slots > 0}
        known: dict[int, str] = {}

        def name(uid: int) -> str:
            if uid not in known:
                known[uid] = escape(user(uid).encode())
            return known[uid]

        return cls(records, above, lineage.children(above), in_table, clock, name, held, creators)

    def with_places(self, look: Callable[[int], Place]) -> View:
        """The same with where everybody is: `look` tells it of a living pid, and is asked once, if at all."""
        found: dict[int, Place] = {}

        def place(row: int) -> Place:
            if row not in found:
                record = self.records[row]
                found[row] = look(record.key.tgid) if record.slots > 0 else NOWHERE
            return found[row]

        return self._replace(place=place)

    def had_pid(self, pid: int, start_ns: int = 0) -> list[int]:
        """The rows of all processes that had this pid, or of the one that started then; oldest first."""
        return [row for row, r in enumerate(self.records) if r.key.tgid == pid and start_ns in (0, r.key.start_ns)]

    def who(self, row: int) -> str:
        """``comm (pid)``."""
        return f"{escape(self.records[row].comm) or '?'} ({self.records[row].key.tgid})"

    def who_has(self, pid: int) -> str:
        """The same for the process that has this pid now; the bare number if none is known."""
        return self.who(self.in_table[pid]) if pid in self.in_table else f"pid {pid}"

    def moved(self, record: Record) -> bool:
        """Whether its parent now is not who made it."""
        return self.creators and record.slots > 0 and record.ppid != record.parent.tgid and record.ppid > 0

    def guessed(self, record: Record) -> bool:
        """Whether its creator is a guess: without a guard all are, and there it is said once for all."""
        return self.creators and bool(record.flags & ProcFlag.GUESSED)

    def inside(self, row: int) -> str:
        """What its container is, and its pid in there; empty if it is in none and has no other pid."""
        place = self.place(row)
        words = [str(place.container)] if place.container else []
        words += [f"pid {place.inner_pid} inside"] if place.inner_pid is not None else []
        return ", ".join(words)

    def is_held(self, record: Record) -> bool:
        """Whether a gate has stopped it, or will at its next fork."""
        return record.slots > 0 and (record.family in self.held or record.branch in self.held or record.held_ns > 0)

    def ended(self, record: Record) -> str:
        """How and when it ended; empty if it lives, or if nobody noted it."""
        if not record.exit_ns:
            return "" if record.slots > 0 else "end not seen"
        return f"{ending(record.exit_code)}, {self.clock.since(record.exit_ns)} ago"

    def object(self, row: int) -> dict[str, Any]:
        """All that is known of one process, for programs. Times of day in UTC, null for never or not known."""
        r, wall = self.records[row], self.clock.rfc3339
        above = self.above[row]
        by: dict[str, Any] | None = {"pid": r.parent.tgid, "start_ns": r.parent.start_ns} if r.parent.tgid else None
        if by is not None:
            by["comm"] = escape(self.records[above].comm) if above >= 0 else None
        found: dict[str, Any] = {
            "pid": r.key.tgid,
            "start_ns": r.key.start_ns,
            "comm": escape(r.comm),
            "uid": r.uid,
            "user": self.user(r.uid),
            "state": r.state or None,
            "in_table": r.slots > 0,
            "alive": r.alive,
            "ppid": r.ppid or None,
            "started": wall(r.key.start_ns),
            "slots": r.slots,
            "threads": r.live,
        } | self.place(row).object()
        if not self.creators:
            return found | {"parent": by}
        return found | {
            "creator": by,
            "guessed": self.guessed(r),
            "skipped": r.skipped,
            "folded": r.folded,
            "family": r.family,
            "branch": r.branch,
            "generation": r.generation,
            "forks": r.forks,
            "execs": r.execs,
            "exec": wall(r.exec_ns),
            "ended": wall(r.exit_ns),
            "exit_code": r.exit_code if r.exit_ns else None,
            "ending": ending(r.exit_code) if r.exit_ns else None,
            "held": self.is_held(r),
            "marks": marks(r.flags).split(",") if r.flags else [],
        }
