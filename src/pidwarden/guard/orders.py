"""What a person orders, by the socket or the control file: both come here, so that both do the same.

Who is spared by rule is spared here too, and nothing is killed that is not held and waits: so a person sees what he is
about to kill, and a bomb that is killed does not grow again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.act.spare import take, why_spared
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.guard.incident import Incident, State
from pidwarden.guard.lines import typed
from pidwarden.guard.policy import Action
from pidwarden.kernel import procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.key import NOBODY
from pidwarden.model.record import GroupFlag, GroupKind, ProcFlag, Rule, Signal, SignalKind
from pidwarden.model.selector import SelectorKind, parse_selector
from pidwarden.model.text import escape
from pidwarden.model.tree import Tree
from pidwarden.model.verdict import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.guard.respond import Responder
    from pidwarden.model.record import Group, Record

VERBS = ("hold", "kill", "release", "freeze", "thaw")
_UNTOUCHED = ProcFlag.EXEMPT | ProcFlag.KTHREAD
_WHY = "held by order"


class Orders:
    """Carries out what a person orders. `directory` is the guard's run directory, for what is to be typed next."""

    def __init__(self, responder: Responder, directory: str) -> None:
        self._responder, self._source, self._directory = responder, responder.source, directory

    def obey(self, words: Sequence[str]) -> str:
        """Does it; what was done, in words.

        Raises:
            UsageError: it is no order.
            PidwardenError: it was not done; with the reason.
        """
        match words:
            case ["hold" | "kill" | "release" | "freeze" | "thaw" as verb, target]:
                number, process = self._meant(target)
            case _:
                msg = f"the guard does not know {escape(' '.join(words).encode())!r}; type {self._typed('help')}"
                raise UsageError(msg)
        incident = self._responder.find(number)
        if process is not None:
            self._check_process(process, number, incident)
        if incident is None and verb in ("hold", "freeze"):
            incident = self._hold(self._group(number))
            if verb == "hold":
                return f"{self._held(incident)}; {self._next(incident)}"
        elif incident is None:
            raise self._not_held(number)
        if verb == "hold":
            return f"{self._held(incident)} already; {self._next(incident)}"
        if verb == "freeze":
            return self._freeze(incident)
        return self._thaw(incident) if verb == "thaw" else self._responder.decide(incident, verb)

    # -- who is meant ----------------------------------------------------------------------------------------------

    def _meant(self, target: str) -> tuple[int, Record | None]:
        """The number of a family, and the process if it was named by one."""
        selector = parse_selector(
            target if ":" in target else f"family:{target}", (SelectorKind.PID, SelectorKind.FAMILY)
        )
        number = int(selector.value)
        if selector.kind is SelectorKind.FAMILY:
            return number, None
        if not procfs.exists(number):
            msg = f"there is no process {number}"
            raise PidwardenError(msg)
        found = [r for r in self._source.records() if r.key.tgid == number and r.slots > 0]
        if not found:
            msg = f"process {number} is not in the history; name its family, or its parent"
            raise PidwardenError(msg)
        process = max(found, key=lambda r: r.key.start_ns)
        return process.family, process

    def _check_process(self, process: Record, number: int, incident: Incident | None) -> None:
        """Refuses one that is spared, and one that is not in the part of its family that is held."""
        name = f"process {process.key.tgid} ({escape(process.comm)})"
        if why := "kernel thread" if not number else self._why_spared(process):
            msg = f"{name} is spared: {why}"
            raise PidwardenError(msg)
        if incident is not None and number != (incident.guilty_family or incident.family):
            part = incident.guilty_family
            msg = f"{name} is in family {number}, but not in its guilty part, which is held as family {part}"
            raise PidwardenError(f"{msg}; {self._next(incident)}")

    def _why_spared(self, process: Record) -> str:
        scope = self._responder.scope
        if scope.by_member and not self._source.keeps_scope and not scope.covers(process):
            return "not in scope"
        held = take(process)
        if held is None:
            return ""
        try:
            return why_spared(held, self._responder.look.protection)
        finally:
            held.close()

    def _group(self, number: int) -> Group:
        """A family that may be held."""
        group = self._source.group(number)
        if group is None:
            msg = f"there is no family {number}; the status lists the largest, and pid:N finds that of a process"
            raise PidwardenError(msg)
        if group.kind == GroupKind.BRANCH:
            msg = f"{number} is a branch of family {group.family}; type {self._typed(f'hold {group.family}')}"
            raise PidwardenError(msg)
        return group

    # -- hold ------------------------------------------------------------------------------------------------------

    def _hold(self, group: Group) -> Incident:
        """All of a family that is not spared becomes one that is held and waits, as when the judge was not sure."""
        responder, source = self._responder, self._source
        if responder.settings.mode == "observe":
            msg = "this guard only observes; set mode = 'hold' in its configuration and send it SIGHUP"
            raise NotPossible(msg)
        self._check_members(group, [r for r in source.lineage(group.id) if r.slots > 0])
        signal = Signal(
            boot_ns(), group.id, group.id, NOBODY, SignalKind.ALARM, Rule.FAMILY_SLOTS, group.slots, group.flags
        )
        incident = Incident(signal)
        incident.ordered, incident.held_ns = True, signal.time_ns
        incident.founder = source.record(group.founder)
        incident.origin = responder.look.who(incident.founder, group.founder)
        note = responder.keeper.hold(group.id)
        incident.verdict = self._everybody(group, responder.look.standing_still(group.id))
        incident.roots = tuple(r.key for r in incident.verdict.roots)
        incident.guilty_family = source.split(group.id, incident.roots[0]) if incident.verdict.members else 0
        if not incident.guilty_family:
            source.release(group.id)
            responder.keeper.wake_soon()
            msg = f"family {group.id} is not held: it has just ended, or there is no room for another family"
            raise PidwardenError(msg)
        source.doubt(incident.guilty_family)  # a successor must not take it for a bomb
        responder.incidents.append(incident)
        responder.report("held", family=group.id, slots=incident.verdict.slots)
        responder.finish_split(incident)
        responder.keeper.wake_soon()  # whoever is spared
        if note:
            responder.report("note", text=f"family {group.id}: {note}")
        responder.wait(incident, Action("hold", _WHY))
        return incident

    def _check_members(self, group: Group, members: list[Record]) -> None:
        """Refuses a family that the machine or the guard depends on, and one of whom nobody may be touched."""
        name = f"family {group.id}"
        for record in members:
            if record.key.tgid == 1 or record.flags & _UNTOUCHED:
                who = f"{escape(record.comm)} ({record.key.tgid})"
                why = self._why_spared(record) or "it has just ended"
                msg = f"{name} is not to be held: {who} is in it, which is spared: {why}; stop one by `kill -STOP PID`"
                raise PidwardenError(msg)
        spared = self._responder.look.spared(members)
        touched = [r for r in members if r.key not in spared]
        if not touched:
            who = ", ".join(f"{escape(r.comm)} ({r.key.tgid}): {self._why_spared(r)}" for r in members[:3])
            msg = f"{name} is not to be held: all of it is spared: {who}" if members else f"{name} has just ended"
            raise PidwardenError(msg)
        scope = self._responder.scope
        # A source that keeps users and cgroups itself has marked who is outside: those are spared.
        marked = self._source.keeps_scope and (scope.uids or scope.cgroups)
        if not (scope.everything or group.flags & GroupFlag.SCOPED or marked) and not all(map(scope.covers, touched)):
            msg = f"{name} is not in scope: this guard is limited by --only"
            raise PidwardenError(msg)

    def _everybody(self, group: Group, records: list[Record]) -> Verdict:
        """What takes the place of a verdict: the judge was not asked."""
        spared = self._responder.look.spared(records)
        members = [r for r in records if r.slots > 0 and r.key not in spared]
        roots = sorted(Tree(records).roots, key=lambda r: r.key != group.founder)
        others = sum(r.alive for r in records) - sum(r.alive for r in members)
        slots = sum(r.slots for r in members)
        return Verdict(
            Kind.UNSURE, tuple(roots), tuple(r.key for r in members), slots, others, (f"{_WHY}, not judged",)
        )

    # -- freeze and thaw -------------------------------------------------------------------------------------------

    def _freeze(self, incident: Incident) -> str:
        self._check_waits(incident)
        if not incident.guilty_family:
            msg = f"family {incident.family} is held, but nobody in it was found guilty: there is nobody to freeze"
            raise PidwardenError(msg)
        self._responder.freezing.begin(incident, self._responder.settings, ordered=True)
        return f"{self._held(incident)}; {self._next(incident)}"

    def _thaw(self, incident: Incident) -> str:
        self._check_waits(incident)
        if self._responder.keeper.sweeper is not None:
            msg = (
                "without a gate in the kernel what is held stands still by SIGSTOP alone, so it cannot be held and "
                f"thawed; {self._next(incident)}"
            )
            raise NotPossible(msg)
        if incident.frozen is None:
            msg = f"family {incident.family} is not frozen, only held; {self._next(incident)}"
            raise PidwardenError(msg)
        self._responder.freezing.thaw(incident)
        return f"{self._held(incident)}; {self._next(incident)}"

    def _check_waits(self, incident: Incident) -> None:
        if incident.state is not State.WAITING:
            msg = f"family {incident.family} does not wait: it is {incident.state}"
            raise PidwardenError(msg)

    # -- words -----------------------------------------------------------------------------------------------------

    def _typed(self, command: str) -> str:
        return typed(command, self._directory)

    def _held(self, incident: Incident) -> str:
        """What an incident is: its numbers, its size, how it stands still."""
        founder, part = incident.origin or {}, incident.guilty_family
        group = self._source.group(part or incident.family)
        name = f"family {incident.family} of {founder.get('comm') or '?'} ({founder.get('pid', '?')})"
        if part not in (0, incident.family):
            name += f" (held: {part})"
        frozen = incident.frozen.frozen_by if incident.frozen else ""
        how = f"frozen by {frozen}" if frozen else "its forks wait, not frozen"
        spared = f", {incident.verdict.spared} spared" if incident.verdict and incident.verdict.spared else ""
        return f"{name} is {incident.state}: {max(0, group.slots) if group else 0} slots{spared}, {how}"

    def _next(self, incident: Incident) -> str:
        number = incident.family
        return f"to kill it: {self._typed(f'kill {number}')}; to let it go: {self._typed(f'release {number}')}"

    def _not_held(self, number: int) -> PidwardenError:
        if self._source.group(number) is None:
            return PidwardenError(f"family {number} is not held, and there is none of that number (any more)")
        what = f"hold it first, it then waits: {self._typed(f'hold {number}')}"
        return PidwardenError(f"family {number} is not held; `pidwarden status` lists what is; {what}")
