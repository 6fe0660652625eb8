"""What `pidwarden reap` says: the plan, what came of each step, and what to change in the program."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pidwarden.act import reap
from pidwarden.diagnose import remedies
from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.fixes import fix
from pidwarden.diagnose.remedies import Step
from pidwarden.diagnose.words import count, who
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pidwarden.act.inject import Injection, Taken
    from pidwarden.act.reap import Bounds, Outcome, Rung
    from pidwarden.diagnose.zombies import Finding
    from pidwarden.model.zombie import Case, Zombie

# Nothing that is done to the parent clears these; the ladder has what a person can do.
_ELSEWHERE = (Cause.TRANSIENT, Cause.DEAD_LEADER, Cause.TRACED, Cause.NAMESPACE_DYING)
_RESTART = "systemctl restart "  # what this program can have done
_NAMED = 5  # zombies whose end is told one by one


def _key(zombie: Zombie) -> ProcessKey:
    """The same as its own, faster: there may be thousands."""
    data = zombie.stat
    return ProcessKey(zombie.pid, int(data[data.rindex(b")") + 2 :].split(None, 20)[19]) * TICK_NS)


def _for_whom(rung: Rung) -> Rung:
    """A container, or a user's service, has to be restarted by whoever has it."""
    if rung.step != reap.RESTART or rung.do.startswith(_RESTART):
        return rung
    return remedies.Rung(Step.UNBLOCK, rung.do, rung.risk, rung.target)


class Owing:
    """A parent, what is planned for it, and what came of that."""

    def __init__(self, case: Case, findings: Sequence[Finding], spared: str, bounds: Bounds) -> None:
        self.case, self.findings, self.spared, self.bounds = case, findings, spared, bounds
        self.outcome: Outcome | None = None

    @cached_property
    def keys(self) -> list[ProcessKey]:
        """Zombies that go when the parent waits for them."""
        return [_key(z) for f in self.findings if f.cause not in _ELSEWHERE for z in f.zombies]

    @cached_property
    def others(self) -> int:
        """Zombies that do not."""
        return sum(len(f.zombies) for f in self.findings if f.cause in _ELSEWHERE and f.cause is not Cause.TRANSIENT)

    @cached_property
    def rungs(self) -> list[Rung]:
        """The whole ladder."""
        ladders = (r for f in self.findings if f.cause is not Cause.TRANSIENT for r in f.ladder)
        return reap.ordered(map(_for_whom, ladders))

    @property
    def left(self) -> int:
        """Zombies that are still there."""
        return self.others + (self.outcome.left if self.outcome else len(self.keys))

    @property
    def name(self) -> str:
        """The parent, in words."""
        return who(self.case.ppid, self.case.comm)

    @property
    def next_rung(self) -> Rung | None:
        """The first step that was not taken."""
        tried = {t.step for t in self.outcome.tried} if self.outcome else set()
        return next((r for r in self.rungs if r.step in reap.STEPS and r.step not in tried), None)

    def plan_lines(self) -> list[str]:
        """What will be done, and what will not, and why."""
        causes = "; ".join(dict.fromkeys(f"{f.cause.text}" for f in self.findings if f.cause is not Cause.TRANSIENT))
        lines = [f"{self.name}: {count(len(self.keys) + self.others, 'zombie')}: {causes}"]
        if self.spared:
            return [*lines, f"  nothing: it is spared: {self.spared}"]
        for rung in self.rungs:
            why = self.bounds.why_not(rung.step)
            if rung.step not in reap.STEPS:
                lines.append(f"  by hand: {rung.do}")
            else:
                lines.append(f"  not done, {why}: {rung.do}" if why else f"  {rung.step}: {rung.do}")
            if not why and rung.step in reap.ASKED | {reap.INJECT}:
                lines.append(f"    risk: {rung.risk}")
        return lines

    def told_lines(self) -> list[str]:
        """What came of it."""
        found = self.outcome
        lines = [
            f"  {t.step}: {t.before} → {t.left}" + (f" ({t.remark})" if t.remark else "")
            for t in (found.tried if found else ())
        ]
        if found and found.injection and found.injection.taken:
            lines += _taken_lines(found.injection)
        lines += [f"  {text}" for text in found.undone] if found else []
        if not self.left:
            return [*lines, f"  all {len(self.keys)} cleared" if len(self.keys) > 1 else "  cleared"]
        lines.append(f"  {self.left} left" + (f": {found.why}" if found and found.why else ""))
        if self.spared:
            lines.append("  it is not touched: have its program, or whoever runs it, see to them")
        elif found is None:
            lines.append(f"  {self.case.why or 'nothing that is done to the parent clears them'}")
        elif rung := self.next_rung:
            lines.append(f"  next: {self.command(rung)}")
        return lines

    def command(self, rung: Rung) -> str:
        """What to type for a step."""
        option = "--inject" if rung.step == reap.INJECT else f"--up-to {rung.step}"
        if not self.bounds.why_not(rung.step):
            option = "--yes"  # it was not agreed to
        return f"pidwarden reap pid:{self.case.ppid} {option}"

    def fixes(self) -> list[str]:
        """What to change in the program."""
        return [text for cause in dict.fromkeys(f.cause for f in self.findings) if (text := fix(cause))]

    def object(self) -> dict[str, Any]:
        """All of it for programs."""
        found, parent = self.outcome, self.case.parent
        injected = found.injection if found else None
        return {
            "pid": self.case.ppid,
            "start_ns": parent.key.start_ns if parent else None,
            "comm": escape(self.case.comm),
            "spared": self.spared or None,
            "causes": [{"cause": f.cause, "zombies": len(f.zombies), "sure": f.sure} for f in self.findings],
            "plan": [
                {"step": r.step, "do": r.do, "risk": r.risk, "not_done": self.bounds.why_not(r.step) or None}
                for r in self.rungs
            ],
            "tried": [t._asdict() for t in found.tried] if found else [],
            "left": self.left,
            "why": (found.why if found else self.case.why) or None,
            "undone": list(found.undone) if found else [],
            "taken": [_taken_object(t) for t in injected.taken] if injected else [],
            "injected_ns": injected.ns if injected else None,
            "one_call_at_a_time": (injected.singly or None) if injected else None,
            "fixes": self.fixes(),
        }


def _ended(status: int | None) -> str:
    if status is None:
        return "how is not known"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _taken_lines(injection: Injection) -> list[str]:
    """The statuses that the parent does not get any more."""
    taken = injection.taken
    ends = Counter(t.status for t in taken)
    summary = ", ".join(f"{n} times {_ended(end)}" if n > 1 else _ended(end) for end, n in ends.most_common())
    lines = [
        f"    in {injection.ns / 1e9:.3f} s" + (f", call by call: {injection.singly}" if injection.singly else ""),
        f"    the parent does not learn of {count(len(taken), 'end')} ({summary}); a wait for one gives ECHILD",
    ]
    if len(taken) <= _NAMED:
        lines += [f"      {who(t.key.tgid, t.comm)}: {_ended(t.status)}" for t in taken]
    if all(t.adopted is None for t in taken):
        lines.append("    whether it made or adopted them is not known: no guard saw them begin")
    else:
        lines.append(f"    {sum(bool(t.adopted) for t in taken)} of them it had adopted, and took first")
    return lines


def _taken_object(taken: Taken) -> dict[str, Any]:
    return {
        "pid": taken.key.tgid,
        "start_ns": taken.key.start_ns,
        "comm": escape(taken.comm),
        "status": taken.status,
        "ended": _ended(taken.status),
        "adopted": taken.adopted,
    }


class Report:
    """Says things as they happen, or all at the end as JSON."""

    def __init__(
        self, heading: Mapping[str, Any], parents: Sequence[Owing], bounds: Bounds, *, dry_run: bool, quiet: bool
    ) -> None:
        self._heading, self.parents, self._bounds = heading, parents, bounds
        self._dry_run, self._quiet = dry_run, quiet

    @property
    def left(self) -> int:
        """Zombies that are still there."""
        return sum(p.left for p in self.parents)

    def _say(self, text: str) -> None:
        if not self._quiet:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def plan(self) -> None:
        """Says what will be done, if nothing will."""
        if not self.parents:
            self._say("no zombies")
        for parent in self.parents if self._dry_run else ():
            self._say("\n".join(parent.plan_lines()))

    def begin(self, parent: Owing) -> None:
        """Says which of them it is about from here on, questions included."""
        self._say(parent.plan_lines()[0])

    def told(self, parent: Owing, outcome: Outcome | None) -> None:
        """Says what came of it."""
        parent.outcome = outcome
        self._say("\n".join(parent.told_lines()))

    def end(self) -> None:
        """Says the rest."""
        if self._quiet:
            whole = {
                **self._heading,
                "dry_run": self._dry_run,
                "up_to": self._bounds.up_to,
                "inject": self._bounds.inject,
                "left": self.left,
                "parents": [p.object() for p in self.parents],
            }
            sys.stdout.write(json.dumps(whole) + "\n")
            return
        for parent in self.parents:
            for text in parent.fixes():
                self._say(f"to fix in {escape(parent.case.comm) or f'pid {parent.case.ppid}'}: {text}")
