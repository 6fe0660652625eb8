"""From an alarm to its end: judge, split, release, kill, prove. The policy of the guard, without its loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pidwarden.act.kill import Execution
from pidwarden.errors import PidwardenError
from pidwarden.guard import policy
from pidwarden.guard.freezing import Freezing
from pidwarden.guard.incident import Incident, State
from pidwarden.guard.keep import Keeper
from pidwarden.guard.look import Lookout
from pidwarden.judge.case import SECOND, Case
from pidwarden.judge.judge import judge
from pidwarden.kernel import limits, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.record import Group, GroupFlag, GroupKind, Record, Rule, Signal, SignalKind
from pidwarden.model.text import escape, milliseconds
from pidwarden.model.verdict import Kind, Verdict

if TYPE_CHECKING:
    from pidwarden.guard.report import Reporter
    from pidwarden.guard.scope import Scope
    from pidwarden.settings import Settings
    from pidwarden.watch.base import Source

_KEPT_INCIDENTS = 20
_MEMORY_READS = 1000  # members whose memory is read for a verdict; statm costs about 15 µs each
_BY_PERSON = 10  # whom a person released is not held again soon
_CLEARING_LOOK_NS = 125_000_000  # two looks tell of a release that was missed
_UNHELD = GroupFlag.ALARMED | GroupFlag.HELD


class Responder:
    """Holds the incidents that are going on and moves them forward."""

    def __init__(self, source: Source, settings: Settings, scope: Scope, report: Reporter, run_dir: str) -> None:
        self.source, self.settings, self.scope, self.report = source, settings, scope, report
        self.keeper = Keeper(source)
        self.look = Lookout(source, scope)
        self.freezing = Freezing(source, self.look, report, run_dir)
        self.incidents: list[Incident] = []
        self.past: deque[dict[str, object]] = deque(maxlen=_KEPT_INCIDENTS)
        self.observed: dict[int, Group] = {}  # as they were before observing raised their budgets
        self._strikes = policy.Strikes()

    # -- what the guard calls --------------------------------------------------------------------------------------

    def on_signal(self, signal: Signal) -> None:
        """An alarm, or a watched family that is now empty, or forks that went past the gate."""
        if signal.kind is SignalKind.PASSED:
            self.keeper.close_holes()
            return
        if signal.empty:
            for incident in self.incidents:
                if incident.guilty_family == signal.group and incident.state is State.CLEARING:
                    self._cleared(incident, signal.time_ns)
            self.drop_done()
            return
        for incident in self.incidents:
            if incident.state is State.HELD and incident.family == signal.family:
                incident.groups.add(signal.group)
                return
        group = self.source.group(signal.group)
        if group is None or not group.flags & GroupFlag.ALARMED:
            return  # gone, or answered with an earlier alarm of the same family
        covered = self.look.covers(signal, group)
        if covered is None or covered.id != group.id:
            self.source.release(group.id, limit=2 * (group.slots + group.inflight))
        if covered:
            self._open(signal._replace(group=covered.id), covered)
        self.drop_done()

    def tick(self) -> None:
        """Moves every incident on whose time has come."""
        now = boot_ns()
        for incident in self.incidents:
            if incident.state is State.WAITING and incident.deadline_ns and now >= incident.deadline_ns:
                self._overdue(incident)
            elif incident.state is State.KILLING:
                self._pursue(incident)
            elif incident.state is State.CLEARING and now >= incident.deadline_ns:
                incident.deadline_ns = now + _CLEARING_LOOK_NS
                self._look_again(incident)
        self.freezing.tick(now)
        self.drop_done()
        self.keeper.tick(held=any(i.state in (State.HELD, State.WAITING, State.KILLING) for i in self.incidents))

    def next_ns(self) -> int | None:
        """When :meth:`tick` is due, None if nothing is."""
        due = [*self.keeper.next_ns(), *self.freezing.next_ns()]
        for incident in self.incidents:
            if incident.state in (State.WAITING, State.CLEARING) and incident.deadline_ns:
                due.append(incident.deadline_ns)
            elif incident.state is State.KILLING:
                due.append(0)
        return min(due, default=None)

    def find(self, family: int) -> Incident | None:
        """The open incident of a family, by its number or by that of its guilty part."""
        return next((i for i in self.incidents if family in (i.family, i.guilty_family)), None)

    def decide(self, incident: Incident, action: str) -> str:
        """A person's decision on a held family; what was done, in words.

        Raises:
            PidwardenError: there is nothing to decide any more.
        """
        if incident.state is not State.WAITING:
            msg = f"family {incident.family} is not waiting for a decision: it is {incident.state}"
            raise PidwardenError(msg)
        if action == "kill":
            blamed = incident.guilty_family or incident.roots
            self.kill(incident)
            if not blamed:
                return f"released family {incident.family}: nobody in it is to blame, so nobody was killed"
            killed = len(incident.execution.killed) if incident.execution else 0
            return f"killed {killed} processes of family {incident.family}, {incident.survivors} survivors"
        self.release(incident)
        return f"released family {incident.family}; it is held again when it has grown {_BY_PERSON}-fold"

    # -- an incident, in order -------------------------------------------------------------------------------------

    def _open(self, signal: Signal, group: Group) -> None:
        incident = Incident(signal)
        self.incidents.append(incident)
        family = self.source.group(signal.family)
        founder = family.founder if family else group.founder
        incident.founder = self.source.record(founder)
        incident.origin = self.look.who(incident.founder, founder)
        observing = self.settings.mode == "observe"
        note = ""
        if not observing:
            note = self.keeper.hold(signal.group)
            group = self.source.group(signal.group) or group
        incident.held_ns = group.held_ns
        rule = Rule(signal.rule)
        self.report("alarm", family=signal.family, founder=incident.origin, slots=signal.slots, rule=rule.text)
        if not observing:
            self.report("held", family=signal.family, slots=max(signal.slots, group.slots))
        if note:
            self.report("note", text=f"family {signal.family}: {note}")
        self._judge(incident, group)

    def _judge(self, incident: Incident, group: Group) -> None:
        records = self.look.standing_still(incident.family)
        family = self.source.group(incident.family)
        tightest = next(iter(limits.machine_limits()), None)
        case = Case(
            records=tuple(records),
            group=group.id,
            kind=GroupKind(group.kind),
            rule=Rule(incident.signal.rule),
            # Not now, where it has been held since: a successor may judge what was held long ago.
            now_ns=incident.signal.time_ns if self.source.gated else boot_ns(),
            strikes=self._count_strikes(group) + self._outgrown(group),
            memory={r.key: procfs.resident_bytes(r.key.tgid) for r in records[-_MEMORY_READS:] if r.alive},
            spared=self.look.spared(records),
            pressure=tightest.used / max(1, tightest.limit) if tightest else 0.0,
            gated=self.settings.mode != "observe" and self.source.gated,
            spawner=self.source.record(family.spawner) if family else None,
        )
        verdict = judge(case, policy.rules(self.settings))
        incident.verdict, incident.roots = verdict, tuple(r.key for r in verdict.roots)
        if verdict.roots:
            first = verdict.roots[0]
            incident.guilty = self.look.who(first, first.key) | {"uid": first.uid}
        self.report(
            "verdict",
            family=incident.family,
            verdict=str(verdict.kind),
            guilty=incident.guilty,
            members=len(verdict.members),
            spared=verdict.spared,
            reasons=list(verdict.reasons),
        )
        self._apply(incident, verdict, group)

    def _apply(self, incident: Incident, verdict: Verdict, group: Group) -> None:
        action = policy.decide(self.settings, verdict.kind)
        if self.settings.mode == "observe":
            do = action.then if action.seconds else action.do
            self.report("would", family=incident.family, action=do, members=len(verdict.members))
            self._strikes.add([group.id], self._count_strikes(group) + 1, boot_ns())
            self.observed.setdefault(group.id, group)
            self.source.release(group.id, limit=max(group.limit, group.counted) * 2, depth_limit=group.depth_limit * 2)
            incident.state = State.DONE
        elif action.do == "release":
            self._enlarge(incident)
        elif not verdict.members and self._is_gone(group):
            self.source.release(group.id)
            self._released(incident)
            incident.state = State.DONE
        else:
            # All the growth is below the roots, whatever it is: it stays held there, and the others go on.
            if verdict.members:
                self._split(incident)
                if verdict.kind is not Kind.BOMB:
                    self.source.doubt(incident.guilty_family)
            if action.do == "hold":
                self.wait(incident, action)
            else:
                self.kill(incident)

    def wait(self, incident: Incident, action: policy.Action) -> None:
        """Leaves it held, for a person or until the time of `action` is over."""
        incident.state, incident.then = State.WAITING, action.then
        incident.deadline_ns = boot_ns() + int(action.seconds * SECOND) if action.seconds else 0
        self.report("waiting", family=incident.family, why=action.why)
        self.freezing.begin(incident, self.settings)

    def _overdue(self, incident: Incident) -> None:
        """Nobody has decided: what was announced happens."""
        if incident.then == "kill":
            self.kill(incident)
        else:
            self.release(incident, self.settings.burst_growth)

    def _enlarge(self, incident: Incident) -> None:
        """A burst: released with a larger budget, and watched again."""
        groups = {g.id: g for g in self.source.groups().values() if g.family == incident.family}
        crossed = [groups[g] for g in (incident.groups & groups.keys() or {incident.family} & groups.keys())]
        self._strikes.add((g.id for g in crossed), self._count_strikes(*crossed) + 1, boot_ns())
        limit: dict[int, int] = {}
        if incident.signal.rule != Rule.GENERATIONS:
            tightest = next(iter(limits.machine_limits()), None)
            doubtful = incident.verdict is not None and incident.verdict.doubtful
            limit = policy.budgets(self.settings, groups, crossed, tightest, doubtful=doubtful)
        for group in groups.values():
            if group in crossed or group.flags & _UNHELD:
                depth = int(group.depth_limit * self.settings.burst_growth)
                self.source.release(group.id, limit=limit.get(group.id, 0), depth_limit=depth)
            elif group.id in limit:
                self.source.set_limit(group.id, limit[group.id])
        if incident.verdict and incident.verdict.doubtful:
            self.keeper.doubt(g.id for g in crossed)
        self._released(incident)
        incident.state = State.DONE

    def _split(self, incident: Incident) -> None:
        """The guilty subtrees become a family of their own that stays held; the rest is released.

        Two passes close the set: a fork that was under way during the first is in the history by the second, and
        whoever was born since the hold cannot have got through the gate.
        """
        first = incident.roots[0]
        incident.guilty_family = self.source.split(incident.signal.group, first)
        if not incident.guilty_family:
            incident.guilty_family = incident.family  # no room for another group: the whole family stays held
            return
        self.finish_split(incident)
        self._released(incident)

    def finish_split(self, incident: Incident) -> None:
        """Moves who is not moved yet, and lets the others of the family go on."""
        while self._gather(incident, self.look.guilty(incident)):
            pass
        # Whatever else of the family crossed meanwhile is answered with this: it crossed because of these members.
        for group in self.source.groups().values():
            if group.family == incident.family and group.flags & _UNHELD:
                self.source.release(group.id)

    def _gather(self, incident: Incident, guilty: list[Record]) -> int:
        if incident.guilty_family == incident.family:
            return 0
        late = [r for r in guilty if r.slots > 0 and r.family != incident.guilty_family]
        return sum(self.source.move(r.key, incident.guilty_family) for r in late)

    def kill(self, incident: Incident) -> None:
        """Kills the guilty part, and does not return before it is dead or overdue."""
        incident.state = State.KILLING
        incident.execution = Execution(self.look.protection, self.look.lives)
        self.report.changed()  # it may take a while
        incident.deadline_ns = boot_ns() + int(self.settings.kill_timeout * SECOND)
        if not incident.guilty_family:
            self._split(incident) if incident.roots else self.release(incident)
        self._pursue(incident)

    def _pursue(self, incident: Incident) -> None:
        """Kills who is known, again and again, until the history has no living member."""
        execution = incident.execution
        while incident.state is State.KILLING and execution is not None:
            self.source.seen()
            guilty = self.look.guilty(incident)
            self._gather(incident, guilty)
            new = self.freezing.strike(incident, guilty)
            # To die takes some processor, which we must not use up by looking: after everybody is struck, look seldom.
            patience = 0.002 if new else 0.02
            left = execution.populated() + self.keeper.chase(execution, [incident.guilty_family], patience)
            alive = [r for r in guilty if r.alive and r.key not in execution.spared]
            hidden = sum(r.hidden for r in guilty)
            if not new and not left and not hidden and not self.look.alive(alive):
                self._dead(incident, 0)
            elif boot_ns() > incident.deadline_ns:
                self._dead(incident, len(self.look.alive(alive)) + hidden)

    def _dead(self, incident: Incident, survivors: int) -> None:
        now, alarm = boot_ns(), incident.signal.time_ns
        assert incident.execution is not None
        incident.execution.close()
        incident.survivors = survivors
        self.freezing.end(incident)
        self.source.settle()
        group = self.source.group(incident.guilty_family)
        slots = max(0, group.slots) if group else 0
        self.report(
            "killed",
            family=incident.family,
            founder=incident.origin,
            guilty=incident.guilty,
            killed=len(incident.execution.killed),
            killed_by=incident.execution.killed_by,
            survivors=survivors,
            unreaped=max(0, slots - survivors),
            peak_slots=max(group.peak if group else 0, incident.verdict.slots if incident.verdict else 0),
            held_ms=milliseconds(max(0, incident.held_ns - alarm)),
            dead_ms=milliseconds(now - alarm),
        )
        incident.state, incident.deadline_ns = State.CLEARING, now + _CLEARING_LOOK_NS
        if group is None or slots == 0:
            self._cleared(incident, boot_ns())
        elif incident.execution.spared and not survivors:
            names = ", ".join(f"{k.tgid} ({why})" for k, why in incident.execution.spared.items())
            self.report("note", text=f"family {incident.family}: spared by rule: {names}")
            self.source.release(incident.guilty_family)
            self.keeper.wake_soon()

    def _look_again(self, incident: Incident) -> None:
        """While the dead wait to be reaped: the books are set right, and whoever was not in them yet dies as well."""
        self.source.seed()
        if incident.execution and incident.guilty_family != incident.family:
            late = incident.execution.strike(self.look.guilty(incident))
            incident.execution.close()
            if late:
                self.report("note", text=f"family {incident.family}: {late} more members found and killed")

    def _cleared(self, incident: Incident, when_ns: int) -> None:
        self.report("cleared", family=incident.family, clear_ms=milliseconds(when_ns - incident.signal.time_ns))
        self.source.forget(incident.guilty_family)
        incident.state = State.DONE

    def release(self, incident: Incident, factor: float = _BY_PERSON) -> None:
        """Lets go of all of it, with budgets larger by `factor`."""
        for group in (*incident.groups, incident.guilty_family):
            found = self.source.group(group) if group else None
            if found:
                limit, depth = int(max(found.limit, found.counted) * factor), int(found.depth_limit * factor)
                self.source.release(group, limit=limit, depth_limit=depth)
                self.source.forget(group)
        self.freezing.end(incident)
        self._released(incident)
        incident.state = State.DONE

    def _released(self, incident: Incident) -> None:
        self.keeper.wake_soon()
        self.report("released", family=incident.family, after_ms=milliseconds(boot_ns() - incident.signal.time_ns))

    # -- small things ----------------------------------------------------------------------------------------------

    def _count_strikes(self, *groups: Group) -> int:
        """Those of the groups that crossed, and of a branch that is most of its family if that crossed."""
        asked = {g.id for g in groups}
        for family in [g for g in groups if g.kind == GroupKind.FAMILY]:
            branches = self.source.groups().values()
            asked |= {b.id for b in branches if b.family == family.id and 2 * b.counted > family.counted}
        return self._strikes.count(asked, boot_ns(), self.settings.burst_memory)

    def _outgrown(self, group: Group) -> bool:
        """Whether it filled a burst's budget before it stood still, as without a gate it may: that was its burst."""
        now = None if self.source.gated else self.source.group(group.id)
        return now is not None and now.slots >= now.limit * self.settings.burst_growth

    def _is_gone(self, group: Group) -> bool:
        """Whether what made it cross has ended meanwhile: nobody is to blame, and there is room again."""
        now = self.source.group(group.id)
        return now is None or 2 * now.counted <= now.limit

    def drop_done(self) -> None:
        """Files the incidents that have come to their end."""
        for incident in [i for i in self.incidents if i.state is State.DONE]:
            self.incidents.remove(incident)
            self.past.append(
                incident.summary() | {"founder": escape(incident.founder.comm) if incident.founder else ""}
            )
