"""Who waits for a person is frozen, not only held: when, by which means, and thawed in every case in the end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.act import wayback
from pidwarden.act.cover import Ways, exact
from pidwarden.act.freeze import Frozen, abandoned, empty_quarantine, quarantine_name
from pidwarden.act.wayback import WayBack
from pidwarden.judge.case import SECOND
from pidwarden.kernel import cgroup
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.text import escape
from pidwarden.model.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pidwarden.guard.incident import Incident
    from pidwarden.guard.look import Lookout
    from pidwarden.guard.report import Reporter
    from pidwarden.model.record import Record
    from pidwarden.settings import Settings
    from pidwarden.watch.base import Source

_PASS_NS = SECOND  # between looks at who is frozen; who was continued by somebody runs for so long
_SOON_NS = SECOND // 20  # after one that found somebody who was


def ways_for(settings: Settings, verdict: Kind | None, name: str) -> Ways | None:
    """What may be used for a family with that verdict; None: it is not frozen at all.

    A frozen cgroup stays frozen when the guard is killed, and nothing in the kernel ends that: only a bomb may be left
    like this. Who may be innocent is stopped as the gate stops, by a signal that the kernel side has a note of.
    """
    if settings.freeze == "never" or verdict is Kind.BURST:
        return None
    return Ways(settings.freeze == "auto" and verdict is Kind.BOMB, settings.quarantine, name)


class Freezing:
    """The frozen families of one guard. What an earlier guard left recorded in the run directory is taken up."""

    def __init__(self, source: Source, look: Lookout, report: Reporter, run_dir: str) -> None:
        self._source, self._look, self._report, self._run_dir = source, look, report, run_dir
        self._instance = os.path.basename(run_dir.rstrip("/"))
        self._mounts = cgroup.mounts()
        self._frozen = {found.family: self._make(found, Ways(cgroups=False)) for found in wayback.find(run_dir)}
        self._waiting: list[Incident] = []

    def _make(self, back: WayBack, ways: Ways) -> Frozen:
        frozen = Frozen(back, self._run_dir, ways, self._look.protection, self._source.mark_stopped)
        frozen.lives = self._look.lives
        return frozen

    # -- while it waits --------------------------------------------------------------------------------------------

    def begin(self, incident: Incident, settings: Settings, *, ordered: bool = False) -> None:
        """Freezes the guilty part of a family that waits; `ordered`: by a person, whatever the settings say."""
        number = incident.guilty_family
        verdict = incident.verdict.kind if incident.verdict else None
        name = quarantine_name(self._instance, number)
        ways = ways_for(settings, verdict, name) or (Ways(cgroups=False, name=name) if ordered else None)
        if not number or ways is None or incident in self._waiting:
            return
        if number not in self._frozen:
            self._frozen[number] = self._make(WayBack(number, ()), ways)
        incident.frozen = self._frozen[number]
        self._waiting.append(incident)
        self._pass(incident)

    def _pass(self, incident: Incident) -> None:
        assert incident.frozen is not None
        frozen, before = incident.frozen, incident.frozen.frozen_by if incident.next_pass_ns else ""
        done = frozen.hold_still(lambda: self._look.guilty(incident))
        incident.woken += done.again
        incident.next_pass_ns = boot_ns() + (_SOON_NS if done.again or done.running else _PASS_NS)
        for where in (escape(os.fsencode(directory)) for directory in done.let_go):
            text = f"family {incident.family}: thawed {where}, others came into it; stopped by signal"
            self._report("note", text=text)
        if frozen.frozen_by != before:
            self._report(
                "frozen", family=incident.family, frozen_by=frozen.frozen_by, members=frozen.count, plan=frozen.lines()
            )

    def tick(self, now_ns: int) -> None:
        """Looks again at those that wait, when it is time."""
        for incident in self._waiting:
            if now_ns >= incident.next_pass_ns:
                self._pass(incident)

    def next_ns(self) -> Sequence[int]:
        """When :meth:`tick` is due, for each that waits."""
        return [incident.next_pass_ns for incident in self._waiting]

    # -- the end of it ---------------------------------------------------------------------------------------------

    def end(self, incident: Incident) -> None:
        """Thaws, whatever comes next. May be called for one that is not frozen."""
        self._waiting = [i for i in self._waiting if i is not incident]
        if incident.frozen is not None:
            self._undo(incident.frozen)

    def thaw(self, incident: Incident) -> None:
        """Thaws what stays held."""
        if incident.frozen is not None:
            for key in incident.frozen.stopped:
                self._source.unstop(key)  # before SIGCONT: whoever then meets the gate is marked by that
        self.end(incident)
        incident.frozen, incident.next_pass_ns = None, 0
        self._report("thawed", family=incident.family)

    def strike(self, incident: Incident, guilty: Sequence[Record]) -> int:
        """Kills, by cgroup.kill where cgroups hold exactly these, else one by one; how many are newly signalled."""
        execution = incident.execution
        assert execution is not None
        if incident.frozen is None:  # not frozen by us: by a guard before, perhaps
            incident.frozen = self._frozen.get(incident.guilty_family)
        new = 0
        if not execution.killed:
            living = {r.key.tgid: r.key for r in guilty if r.alive and r.key.known}
            cgroups = exact(living, self._mounts) if living else []
            new = execution.strike_whole(guilty, cgroups) if cgroups else 0
        new += execution.strike(guilty)
        if incident.frozen is not None:
            incident.frozen.let_die()
        return new

    def _undo(self, frozen: Frozen) -> None:
        for text in frozen.undo():
            self._report("note", text=f"family {frozen.family}: {text}")
        self._frozen.pop(frozen.family, None)

    def recover(self) -> int:
        """Thaws what was left frozen and nobody has taken over; how many families and quarantines that were."""
        claimed = {i.frozen.family for i in self._waiting if i.frozen}
        unclaimed = [frozen for family, frozen in self._frozen.items() if family not in claimed]
        for frozen in unclaimed:
            self._undo(frozen)
        known = [d for frozen in self._frozen.values() for d in frozen.directories]
        return _thawed(len(unclaimed) + _empty_abandoned(self._instance, known, self._report), self._report)


def thaw_left(run_dir: str, report: Reporter) -> int:
    """Thaws what a guard of that run directory has left frozen, without asking its maps; how many that were."""
    left = wayback.find(run_dir)
    for found in left:
        for text in Frozen(found, run_dir, Ways(cgroups=False)).undo():
            report("note", text=f"family {found.family}: {text}")
    instance = os.path.basename(run_dir.rstrip("/"))
    return _thawed(len(left) + _empty_abandoned(instance, (), report), report)


def _empty_abandoned(instance: str, but: Iterable[str], report: Reporter) -> int:
    left = abandoned(instance, but)
    for text in filter(None, map(empty_quarantine, left)):
        report("note", text=text)
    return len(left)


def _thawed(count: int, report: Reporter) -> int:
    if count:
        report("note", text=f"thawed {count} of what a guard that was killed had left frozen")
    return count
