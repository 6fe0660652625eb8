"""The rule for orphans: those of a family whose creators died, and that no service, session or leader answers for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pidwarden.guard.rules.episodes import Episodes, Finding
from pidwarden.guard.rules.surroundings import SECOND, described, lasting, named
from pidwarden.kernel import cgroup, procfs
from pidwarden.model.record import ProcFlag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pidwarden.guard.report import Reporter
    from pidwarden.guard.rules.episodes import Told
    from pidwarden.guard.rules.surroundings import Surroundings
    from pidwarden.guard.rules.survey import Records
    from pidwarden.model.record import Record
    from pidwarden.settings.rules import OrphanRule

_AT_ONCE_NS = SECOND  # a creator that ends so soon after its child was born did so by design: that is a daemon
_NOT = ProcFlag.KTHREAD | ProcFlag.EXEMPT | ProcFlag.SPAWNER | ProcFlag.PROTECTED
_MOST = 2000  # candidates that are looked at


def may_be_orphan(record: Record, creator: Record | None) -> bool:
    """Whether a living process has another parent than its creator, who lived on for a while and is dead. Pure."""
    if not record.alive or record.flags & int(_NOT) or not record.ppid or record.ppid == record.parent.tgid:
        return False
    if creator is None:  # it is forgotten, so it died long ago; a tgid of 0 was never known
        return record.parent.tgid > 0
    return not creator.alive and creator.exit_ns - record.key.start_ns > _AT_ONCE_NS


def answered_for(stat: procfs.Stat, alive: set[int], paths: Iterator[str] | list[str]) -> str:
    """Who answers for an orphan: nobody, if empty. Pure."""
    if stat.session == stat.pid:
        return "it leads a session, as daemons do"
    if stat.session in alive:
        return "the leader of its session lives"
    for path in paths:
        if any(part.endswith(".service") for part in path.split("/")):
            return "it is in a service's cgroup"
    return ""


class Orphans:
    """Looks by the history, not by /proc: only that knows who created whom."""

    def __init__(self, around: Surroundings, report: Reporter) -> None:
        self._around, self._report = around, report
        self.episodes = Episodes()

    def look(self, rule: OrphanRule, records: Records, now_ns: int) -> Iterator[None]:
        """Judges everybody whose creator is dead, and tells it; in pieces."""
        yield from records.load(None)
        known = records.found
        keys = {record.key: record for record in known.values()}
        candidates = [
            (who, record)
            for who, record in known.items()
            if may_be_orphan(record, keys.get(record.parent)) and now_ns - record.key.start_ns >= rule.age * SECOND
        ]
        alive = {pid for (pid, _ticks), record in known.items() if record.alive}
        yield
        families: dict[int, list[tuple[procfs.Stat, Record]]] = {}
        for who, record in candidates[:_MOST]:
            stat = procfs.stat(who[0])
            if (
                stat is not None
                and stat.start_ticks == who[1]
                and self._around.covers(record)
                and not answered_for(stat, alive - {who[0]}, cgroup.paths(who[0]))
            ):
                families.setdefault(record.family, []).append((stat, record))
            yield
        found: Mapping[Any, Finding] = {f: self._finding(f, ms, keys, rule, now_ns) for f, ms in families.items()}
        for told in self.episodes.look(found, now_ns):
            self._tell(told)
            yield

    def _finding(
        self,
        family: int,
        members: list[tuple[procfs.Stat, Record]],
        keys: Mapping[Any, Record],
        rule: OrphanRule,
        now_ns: int,
    ) -> Finding:
        stat, record = min(members, key=lambda m: m[1].key.start_ns)
        count = len(members)
        creator = keys.get(record.parent)
        died = f", which died {lasting(now_ns - creator.exit_ns)} ago" if creator and creator.exit_ns else ""
        text = (
            f"family {family}: {count} orphan{'s' * (count != 1)} that nobody answers for, the oldest {named(stat)}, "
            f"born of {record.parent.tgid}{died}; type `pidwarden orphans`"
        )
        facts = {
            "family": family,
            "count": count,
            "oldest": described(stat, record),
            "creator": {"pid": record.parent.tgid, "start_ns": record.parent.start_ns},
        }
        return Finding(count, count >= rule.count, text, facts)

    def _tell(self, told: Told) -> None:
        text = told.finding.text
        if told.what == "over":
            family = told.finding.facts["family"]
            text = f"family {family}: over after {lasting(told.lasted_ns)}, {told.finding.size} left"
        facts: dict[str, Any] = {**told.finding.facts, "count": told.finding.size}
        self._report("finding", rule="orphans", what=told.what, text=text, **facts)
