"""The rule for zombies: counted by the parent that owes the wait; what may help is done step by step, if allowed."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.diagnose.cause import Cause
from pidwarden.guard.rules import parents
from pidwarden.guard.rules.episodes import Episodes, Finding
from pidwarden.guard.rules.ladder import Parent, Plan, plan
from pidwarden.guard.rules.remind import Reminders
from pidwarden.guard.rules.surroundings import SECOND, described, lasting, named
from pidwarden.kernel import evidence, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.guard.report import Reporter
    from pidwarden.guard.rules.episodes import Told
    from pidwarden.guard.rules.surroundings import Surroundings
    from pidwarden.guard.rules.survey import Records, Task, Who
    from pidwarden.model.record import Record
    from pidwarden.settings.rules import Step, ZombieRule

_NAMES = 3  # of what they were, in an event
_SIGNALS: dict[Step, signal.Signals] = {
    "sigchld": signal.SIGCHLD,
    "sigcont": signal.SIGCONT,
    "sigterm": signal.SIGTERM,
    "sigkill": signal.SIGKILL,
}


class Owed(NamedTuple):
    """The zombies of one parent in one look: those that were there before, and their names."""

    zombies: list[Who]
    names: Counter[bytes]


class _Case:
    """A parent that was told of."""

    def __init__(self) -> None:
        self.tried: tuple[Step, ...] = ()
        self.said: Plan | None = None  # what was said to be possible, so that it is said once


class Zombies:
    """Takes the tasks of a look one by one, then ends the look."""

    def __init__(self, around: Surroundings, report: Reporter) -> None:
        self._around, self._report = around, report
        self._since: dict[Who, int] = {}  # each zombie: when it ended, or was first seen
        self._exact: set[Who] = set()  # of those: whose end the history knows
        self._fresh: dict[Who, int] = {}
        self._owed: dict[int, Owed] = {}
        self._parents: dict[Who, Record | None] = {}  # of those that are told of
        self._outside: set[int] = set()  # parents with too many that are not in scope
        self._cases: dict[Who, _Case] = {}
        self._reminders = Reminders()
        self.episodes = Episodes()

    # -- one look --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Forgets what a look took that was given up."""
        self._fresh, self._owed = {}, {}

    def take(self, task: Task, now_ns: int) -> None:
        """Notes a zombie. A dead leader whose threads live is none: it cannot be waited for."""
        stat = task.stat
        if stat.threads > 1 or stat.pid != task.tgid:
            return
        who = (stat.pid, stat.start_ticks)
        since = self._since.get(who)
        self._fresh[who] = now_ns if since is None else since
        if since is not None:  # who is seen once may be about to be waited for
            owed = self._owed.setdefault(stat.ppid, Owed([], Counter()))
            owed.zombies.append(who)
            owed.names[stat.comm] += 1

    def end(self, rule: ZombieRule, records: Records, now_ns: int) -> Iterator[None]:
        """Judges what was taken, tells it, and does what is allowed; in pieces."""
        owed, self._owed = self._owed, {}
        self._since, self._fresh = self._fresh, {}
        self._exact &= self._since.keys()
        loud = {p: o for p, o in owed.items() if self._beyond(o, rule, now_ns)}
        followed = {who[0] for who in self._parents}
        self._outside &= loud.keys()
        if loud.keys() - followed - self._outside:
            yield from records.load({*loud, *(z[0] for o in loud.values() for z in o.zombies)})
            self._learn(records)
        found: dict[Any, Finding] = {}
        for ppid in [*loud, *(p for p in owed if p in followed and p not in loud)]:
            stat = procfs.stat(ppid)
            if stat is None:
                continue
            who = (ppid, stat.start_ticks)
            if who not in self._parents:
                record = records.get(who)
                if ppid not in loud or ppid in self._outside:
                    continue
                if not self._around.covers(record):
                    self._outside.add(ppid)
                    continue
                self._parents[who] = record
            found[who] = self._finding(stat, owed[ppid], rule, now_ns)
            yield
        told = self.episodes.look(found, now_ns)
        for one in told:
            self._tell(one)
            yield
        self._parents = {who: r for who, r in self._parents.items() if who in self.episodes}
        self._cases = {who: self._cases.get(who) or _Case() for who in self._parents}
        for who, case in self._cases.items():
            if found.get(who) and found[who].beyond:
                self._climb(who, case, owed[who[0]], rule)
                yield

    def _learn(self, records: Records) -> None:
        """When they really ended, of those that the history saw end."""
        if self._around.source.name == "poll":  # it knows no better than this look
            return
        for who, record in records.found.items():
            if who in self._since and record.exit_ns:
                self._since[who] = record.exit_ns
                self._exact.add(who)

    def _beyond(self, owed: Owed, rule: ZombieRule, now_ns: int) -> bool:
        return len(owed.zombies) >= rule.count or (rule.age > 0 and now_ns - self._oldest(owed)[0] >= rule.age * SECOND)

    def _oldest(self, owed: Owed) -> tuple[int, Who]:
        return min((self._since[z], z) for z in owed.zombies)

    def _finding(self, stat: procfs.Stat, owed: Owed, rule: ZombieRule, now_ns: int) -> Finding:
        who, count = (stat.pid, stat.start_ticks), len(owed.zombies)
        since, oldest = self._oldest(owed)
        exact = oldest in self._exact
        diagnosis = parents.why(stat.pid, owed.zombies, self._parents[who])
        cause = diagnosis.cause if diagnosis else Cause.TRANSIENT
        names = {escape(name): n for name, n in owed.names.most_common(_NAMES)}
        text = (
            f"{named(stat)} owes {count} zombie{'s' * (count != 1)} a wait ({', '.join(names)}), the oldest dead for "
            f"{'' if exact else 'at least '}{lasting(now_ns - since)}: {cause.text}; "
            f"type `pidwarden zombies pid:{stat.pid}`"
        )
        facts = {
            "parent": described(stat, self._parents[who]),
            "count": count,
            "oldest_s": round((now_ns - since) / SECOND, 1),
            "oldest_exact": exact,
            "names": names,
            "cause": cause.value,
            "sure": diagnosis is not None and diagnosis.sure,
            "evidence": list(diagnosis.evidence) if diagnosis else [],
        }
        return Finding(count, self._beyond(owed, rule, now_ns), text, facts)

    def _tell(self, told: Told) -> None:
        finding = told.finding
        text = finding.text
        if told.what == "over":
            parent = finding.facts["parent"]
            left = f"{finding.size} left" if finding.size else "none left"
            text = f"{parent['comm']} ({parent['pid']}): over after {lasting(told.lasted_ns)}, {left}"
        elif told.what == "doubled":
            text = f"twice as many: {text}"
        facts = {**finding.facts, "count": finding.size}
        self._report("finding", rule="zombies", what=told.what, text=text, **facts)

    # -- the ladder ------------------------------------------------------------------------------------------------

    def _climb(self, who: Who, case: _Case, owed: Owed, rule: ZombieRule) -> None:
        """One step a look. Whether the last one helped, the next look says: then it is over."""
        held, untouched = self._around.hold(self._parents[who])
        try:
            status = evidence.status(evidence.path(who[0]))
            if status is None or (held is None and not untouched):
                return
            terminal = held is not None and held.stat.tty != 0
            cause = Cause(self.episodes.open[who].facts["cause"])
            allowed = plan(Parent(status, cause, terminal, untouched), rule.up_to, case.tried)
            dry = rule.mode != "act" or self._around.only_observes
            if (dry or not allowed.steps) and case.said == allowed:
                return
            if dry or not allowed.steps or held is None:
                case.said = allowed
                self._say(who, allowed, status.state, owed, dry=dry)
                return
            step = allowed.steps[0]
            if step == "sigchld" and self._reminders.full:
                return
            case.tried, case.said = (*case.tried, step), None
            done = self._do(held, step, owed)
            if step == "sigchld" and done:
                held = None  # the reminder has it now
            self._told_step(who, step, status.state, owed, done=done)
        finally:
            if held is not None:
                held.close()

    def _do(self, held: Any, step: Step, owed: Owed) -> bool:
        if step == "sigchld":
            self._reminders.begin(held, owed.zombies, boot_ns())
            return True
        return bool(held.signal(_SIGNALS[step]))

    def _say(self, who: Who, allowed: Plan, state: str, owed: Owed, *, dry: bool) -> None:
        """What would be done, or why nothing is."""
        if allowed.steps:
            what = f"would try {', then '.join(allowed.steps)}, each only if the one before did not help"
        else:
            what = f"nothing {'would be' if dry else 'more is'} done: {allowed.why_not}; `pidwarden reap pid:{who[0]}`"
            what += " knows more steps"
        self._remedy(who, what, state, owed, steps=list(allowed.steps), done=False, dry_run=dry)

    def _told_step(self, who: Who, step: Step, state: str, owed: Owed, *, done: bool) -> None:
        what = f"{step} sent" if done else f"{step} could not be sent: it has just ended"
        self._remedy(who, what, state, owed, steps=[step], done=done, dry_run=False)

    def _remedy(self, who: Who, what: str, state: str, owed: Owed, **facts: Any) -> None:
        parent = self.episodes.open[who].facts["parent"]
        before = {"zombies": len(owed.zombies), "state": state}
        text = f"{parent['comm']} ({parent['pid']}), state {state}, with {before['zombies']} zombies: {what}"
        self._report("remedy", rule="zombies", text=text, parent=parent, before=before, **facts)

    # -- between looks ---------------------------------------------------------------------------------------------

    @property
    def next_ns(self) -> int:
        """When :meth:`tick` is due, 0: not before the next look."""
        return self._reminders.next_ns

    def tick(self, now_ns: int) -> None:
        """Reminds again those whom it helps."""
        self._reminders.tick(now_ns)

    def close(self) -> None:
        """Gives the descriptors back."""
        self._reminders.close()
