"""What the guard looks at to decide: a family standing still, who is guilty by now, who is spared, who still runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from pidwarden.act.spare import UNPROTECTED, is_interactive
from pidwarden.guard.report import who
from pidwarden.kernel import place, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.container import NOWHERE, Place
from pidwarden.model.record import Group, GroupFlag, ProcFlag, Record, Signal
from pidwarden.model.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.guard.incident import Incident
    from pidwarden.guard.scope import Scope
    from pidwarden.model.key import ProcessKey
    from pidwarden.watch.base import Source, Swept

_SETTLING_SECONDS = 0.004  # who was about to fork is stopped by then, and so told from who just waits
_GOOD_PART = 4  # one part of so many
_LOOKS = 10  # in observe mode nothing stands still: judge what there is
_PLACES = 256  # processes whose place is remembered after they are dead
_CGROUP_READS = 4000  # processes whose cgroup is read for a verdict, the oldest first; each costs some 20 µs
_SPARED_FLAGS = ProcFlag.EXEMPT | ProcFlag.SPAWNER | ProcFlag.KTHREAD | ProcFlag.PROTECTED | ProcFlag.OUTSIDE


class Lookout:
    """Reads the history for the responder; changes nothing."""

    def __init__(self, source: Source, scope: Scope) -> None:
        self._source, self._scope = source, scope
        self.protection = UNPROTECTED
        self._places: dict[ProcessKey, Place] = {}  # of those named in events, the newest last
        self._scope_says: dict[ProcessKey, bool] = {}  # of this incident: is it in scope?
        self._cgroup_says: dict[ProcessKey, bool] = {}  # of this incident: is it protected by its cgroup?

    def who(self, record: Record | None, key: ProcessKey) -> dict[str, Any]:
        """A process in an event, with where it is; of one that is dead, where it was when it was last asked for."""
        found = self._places.pop(key, NOWHERE)
        if record is not None and record.alive:
            now = place.place_of(key.tgid)
            found = now if procfs.stat_of(key) is not None else found  # or the pid is another's by now
        self._places[key] = found
        while len(self._places) > _PLACES:
            del self._places[next(iter(self._places))]
        return who(record, key) | found.object()

    def covers(self, signal: Signal, group: Group) -> Group | None:
        """The group that is to be held for an alarm: none of it, if the alarm is out of scope.

        A source that keeps scope itself counts only who is in it, and holds nobody else. With the others a family may
        be shared by who is in scope and who is not. Where the one that crossed is of a branch that makes up a good part
        of it, only the branch is meant.
        """
        if self._source.keeps_scope or group.flags & GroupFlag.SCOPED:
            return group
        by = self._source.record(signal.by)
        if not self._scope.covers(by):
            return None
        branch = self._source.group(by.branch) if by and by.branch else None
        return branch if branch and _GOOD_PART * branch.slots >= group.slots else group

    def standing_still(self, family: int) -> list[Record]:
        """The family's records once they stand still: forks that were under way when it was held have come to an end.

        A dump is not one instant. A child may be in it whose creator was born behind its back; twice the same number
        says that nobody was born meanwhile.
        """
        self._cgroup_says.clear()
        self._scope_says.clear()
        time.sleep(_SETTLING_SECONDS)
        self._source.settle()
        self._source.unfold(boot_ns())
        records = self._source.lineage(family)
        for _ in range(_LOOKS):
            before = len(records)
            records = self._source.lineage(family)
            if len(records) == before:
                break
        return records

    def guilty(self, incident: Incident) -> list[Record]:
        """Everybody who now descends from the guilty roots, or is already in the guilty family."""
        self._source.unfold(boot_ns())
        records = self._source.lineage(incident.family, incident.guilty_family or incident.family)
        tree = Tree(records)
        found = {r.key: r for root in incident.roots for r in tree.subtree(root)}
        if incident.guilty_family != incident.family or not incident.roots:
            found.update((r.key, r) for r in records if r.family == incident.guilty_family)
        hidden = self._source.hidden(incident.family, incident.guilty_family or incident.family)
        found.update([(r.key, r) for r in hidden if r.parent in found])
        spared = self.spared(list(found.values()))
        return [r for key, r in found.items() if key not in spared]

    def alive(self, records: Iterable[Record]) -> list[Record]:
        """Those of `records` that still run, by the history and by /proc: an exit may have been missed."""
        known = map(self._source.record, (r.key for r in records))
        return [r for r in known if r is not None and r.alive and not procfs.has_ended(r.key)]

    def lives(self, key: ProcessKey) -> bool:
        """Whether a process has not ended, by the history alone: its pid is nobody else's then.

        The kernel side notes it when an exit begins, and the connector's events come in order. A source that looks at
        /proc knows no more than /proc.
        """
        if not self._source.gated and self._source.name != "poll":
            cast("Swept", self._source).refresh()
        if self._source.name == "poll":  # the connector's may have become one
            return False
        record = self._source.record(key)
        return record is not None and record.alive

    def spared(self, records: list[Record]) -> frozenset[ProcessKey]:
        """Who of `records` is protected by rule, whatever it has done."""
        uids, flags = self.protection.uids, int(_SPARED_FLAGS)
        spared = {r.key for r in records if r.flags & flags or r.uid in uids}
        if self.protection.by_cgroup:
            spared |= self._spared_by_cgroup([r for r in records if r.alive and r.key not in spared])
        if self._scope.by_member and not self._source.keeps_scope:
            # Families out of scope may share theirs with what is in scope: those members are bystanders.
            spared.update(r.key for r in records if r.slots > 0 and not self._is_covered(r))
        for record in records:
            # A shell program, not a copy of one: only such can be somebody's interactive shell.
            if record.flags & ProcFlag.SHELL and record.execs and record.alive:
                stat = procfs.stat_of(record.key)
                if stat and is_interactive(record, stat):
                    spared.add(record.key)
        return frozenset(spared)

    def _is_covered(self, record: Record) -> bool:
        """Asked once an incident: while a bomb forks, reading a cgroup waits for its locks."""
        said = self._scope_says
        if record.key not in said:
            said[record.key] = self._scope.covers(record)
        return said[record.key]

    def _spared_by_cgroup(self, records: list[Record]) -> set[ProcessKey]:
        """Those whose cgroup or unit is protected, asked once an incident.

        The oldest first: a service is older than the bomb that grew in it or beside it. Of those that were not asked
        here each is asked at the last check before its signal.
        """
        known = self._cgroup_says
        for record in sorted(records, key=lambda r: r.key.start_ns)[:_CGROUP_READS]:
            if record.key not in known:
                known[record.key] = bool(self.protection.why(record))
        return {r.key for r in records if known.get(r.key)}
