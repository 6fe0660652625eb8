"""`pidwarden doctor`: what this machine can do, which way, and what would improve it.

Only rules and text are here; what is looked at, and how, is in ``kernel/probe.py``.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden import __version__
from pidwarden.act.sweep import Sweeper
from pidwarden.kernel.probe import Fact, State, probe
from pidwarden.rescue import prepared
from pidwarden.watch.choose import PROMISES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

_WIDTH = 110


class Way(NamedTuple):
    """One way to do something: the facts it rests on, whether this version does it, what it keeps, what gets away."""

    name: str
    needs: tuple[str, ...]
    built: bool
    guarantees: str = ""
    escapes: str = ""


class Capability(NamedTuple):
    """Something pidwarden has to do, and the ways to do it, the best first."""

    name: str
    ways: tuple[Way, ...]


class Passed(NamedTuple):
    """A better way that is not taken: why, and what would change that."""

    way: Way
    reason: str
    change: str


class Finding(NamedTuple):
    """How a capability is had here. ``used`` None: not at all; ``sure`` False: something it needs was not tried."""

    capability: str
    used: Way | None
    sure: bool
    passed: tuple[Passed, ...]


_BPF = ("libbpf", "kernel BTF", "raw tracepoints", "pidwarden's BPF object")
_HOOKED = (
    "a task of a held family that makes a task, by whatever system call of whatever ABI, stops before that has a "
    "process id; no user space has to be awake for it; released, the same call proceeds; the budget is exact, SIGCONT "
    "changes nothing, and a fork that fails gives its slot back; forks can be refused instead (at_gate)"
)
_PAST_EVERY_GATE = (
    "a spawner outside the family still starts what it is asked to; workers of io_uring are made by the kernel and "
    "neither held nor counted"
)
TABLE = (
    Capability(
        "know the families",
        (
            Way(
                "BPF raw tracepoints, history in kernel maps",
                _BPF,
                built=True,
                guarantees="every fork, exec, exit and release since the guard started is recorded as it happens; "
                "membership survives setsid, double forks, setuid and renaming; what a full map loses is counted",
                escapes="who gets a spawner (cron, sshd, a service manager, a container runtime) to start each task "
                "founds a new family each time; of what ran before the guard only the parents of that moment are known",
            ),
            Way(
                "netlink process connector",
                ("process connector",),
                built=True,
                guarantees=PROMISES["connector"].promises,
                escapes=f"not promised: {PROMISES['connector'].not_promised}",
            ),
            Way(
                "comparing /proc with a moment ago",
                ("/proc",),
                built=True,
                guarantees=PROMISES["poll"].promises,
                escapes=f"not promised: {PROMISES['poll'].not_promised}",
            ),
        ),
    ),
    Capability(
        "hold",
        (
            Way(
                "BPF LSM hook task_alloc",
                (*_BPF, "LSM programs", "BPF among the LSMs"),
                built=True,
                guarantees=f"{_HOOKED}; the program is never left out, whatever else runs",
                escapes=_PAST_EVERY_GATE,
            ),
            Way(
                "fmod_ret on security_task_alloc",
                (*_BPF, "fmod_ret programs"),
                built=True,
                guarantees=_HOOKED,
                escapes="a kernel with full preemption leaves the program out for a fork on the same processor while "
                f"another fork is stopped in the middle of it, so that one passes and is counted; {_PAST_EVERY_GATE}",
            ),
            Way(
                "stop at system call entry",
                (*_BPF, "tracefs", "system call tracepoints"),
                built=True,
                guarantees="a task of a held family that calls fork, vfork, clone or clone3 stops before the kernel "
                "does anything; no user space has to be awake for it; released, the same call proceeds; the budget is "
                "exact",
                escapes="a SIGCONT that comes in the microsecond between the stop and the fork lets that fork pass: "
                "members that send each other nothing else leak until they are killed; a fork that failed keeps its "
                f"slot until it is looked for; {_PAST_EVERY_GATE}",
            ),
            Way(
                "none: SIGSTOP in sweeps, then the kill",
                ("/proc",),
                built=True,
                guarantees="members that grow are stopped until two sweeps in a row find none, whole process groups at "
                "once where nobody else is in them",
                escapes=Sweeper.hole,
            ),
        ),
    ),
    Capability(
        "kill and prove",
        (
            Way(
                "the family's own cgroup: cgroup.kill, then populated 0",
                ("cgroup.kill",),
                built=True,
                guarantees="where v2 cgroups hold exactly the guilty, all of them die at once, no fork gets between, "
                "and an empty cgroup proves it; where they hold others too, each member is opened as a pidfd, compared "
                "with its start time, signalled, and seen to end",
                escapes="a third party that moves a stranger in between the last look and the kill has it killed too",
            ),
            Way(
                "closed set by pidfd",
                ("/proc", "pidfd"),
                built=True,
                guarantees="with the family held its members are a closed set: each is opened as a pidfd, compared "
                "with its start time, signalled, and seen to end; nobody else can be hit through a reused process id",
                escapes="a member in uninterruptible sleep (D) ends only when it wakes: it is reported as a survivor "
                "and stays held; members that a rule protects are left alive and named",
            ),
        ),
    ),
    Capability(
        "list processes",
        (
            Way("BPF task iterator", (*_BPF, "task iterator"), built=False),
            Way(
                "the guard's map",
                _BPF,
                built=True,
                guarantees="the dead who have living children or hold a slot are listed too, with their creators",
                escapes="nothing is listed without a running guard, nor what did not fit into its map (lost_* in "
                "`pidwarden status`)",
            ),
            Way(
                "/proc",
                ("/proc",),
                built=True,
                guarantees="the living and the zombies, with the parents that they have now",
                escapes="who lives for less than a look takes; the dead, and who created whom",
            ),
        ),
    ),
)
_HOLE_CLOSED = (
    "32-bit calls (int 0x80) and x32 ones are not seen until the guard attaches sys_enter, as it does once such forks "
    "have used half of a budget, and whenever something is held: a bomb that uses up the other half before the guard "
    "has run passes its budget by what it forks meanwhile"
)
_HOLE_OPEN = "32-bit calls (int 0x80) are not seen, and that cannot be closed here: such a bomb is not held"
# Without one of these nobody can be known, or nobody killed for sure …
_REQUIRED = ("/proc", "pidfd")
# … without these no gate can be put up, in the order of what causes what …
_GATED = ("capabilities", "PID namespace", *_BPF)
# … nor without these, unless a better one than that at system call entry can.
_LAST_GATE = ("tracefs", "system call tracepoints")


# -- rules: facts in, findings out -------------------------------------------------------------------------------------


def find(capability: Capability, facts: dict[str, Fact]) -> Finding:
    """The way taken, and for each better one why it is not."""
    passed: list[Passed] = []
    for way in capability.ways:
        missing = [facts[name] for name in way.needs if facts[name].state is State.NO]
        untried = [facts[name] for name in way.needs if facts[name].state is State.UNKNOWN]
        if way.built and not missing:
            return Finding(capability.name, way, not untried, tuple(passed))
        if missing:
            change = "; ".join(dict.fromkeys(fact.remedy for fact in missing if fact.remedy))
            built = "" if way.built else "; nor is it used yet"
            reason = "not here: " + ", ".join(f"{fact.name} ({fact.detail})" for fact in missing) + built
            passed.append(Passed(way, reason, change))
        elif untried:
            reason = "not tried without root; nor is it used yet"
            passed.append(Passed(way, reason, "a later version of pidwarden"))
        else:
            reason = "the kernel has it, but this version of pidwarden does not use it yet"
            passed.append(Passed(way, reason, "a later version of pidwarden"))
    return Finding(capability.name, None, sure=True, passed=tuple(passed))


def blockers(facts: Iterable[Fact]) -> list[Fact]:
    """What keeps the guard from working here, or from putting up a gate, causes before effects."""
    by_name = {fact.name: fact for fact in facts}
    return [by_name[name] for name in (*_REQUIRED, *_gated(by_name)) if by_name[name].state is State.NO]


def _gated(facts: dict[str, Fact]) -> tuple[str, ...]:
    hold = next(capability for capability in TABLE if capability.name == "hold")
    better = [way for way in hold.ways if "task_alloc" in way.name]
    hooked = any(all(facts[name].state is State.YES for name in way.needs) for way in better)
    return _GATED if hooked else (*_GATED, *_LAST_GATE)


def can_guard(facts: Sequence[Fact]) -> bool | None:
    """Whether a guard of the machine can work here, with a gate or without; None: not to be told without root."""
    by_name = {fact.name: fact for fact in facts}
    if any(by_name[name].state is State.NO for name in _REQUIRED):
        return False
    return True if by_name["root"].state is State.YES else None


def can_hold(facts: Sequence[Fact]) -> bool | None:
    """Whether it can put up a gate, so that forks do not happen; None: not to be told without root."""
    if blockers(facts):
        return False
    by_name = {fact.name: fact for fact in facts}
    tried = all(by_name[name].state is State.YES for name in ("root", *_gated(by_name)))
    return True if tried else None


def ways_out(way: Way, facts: dict[str, Fact]) -> str:
    """How a bomb gets away from a way. For the gates that depends on what else is here."""
    texts = []
    if "task_alloc" not in way.name and "system call tracepoints" not in way.needs:
        return way.escapes
    if "system call tracepoints" in way.needs and facts["32-bit calls"].state is not State.NO:
        closed = facts["every-call tracepoint"].state is not State.NO
        texts.append(_HOLE_CLOSED if closed else _HOLE_OPEN)
    if facts["bpf file system"].state is State.NO:
        texts.append("the hold ends if the guard is killed, as nothing can be pinned here")
    return "; ".join([*texts, way.escapes])


# -- output ------------------------------------------------------------------------------------------------------------


def as_json(facts: Sequence[Fact]) -> dict[str, Any]:
    """The diagnosis as one object."""
    by_name = {fact.name: fact for fact in facts}
    findings = [find(capability, by_name) for capability in TABLE]
    return {
        "version": __version__,
        "can_guard": can_guard(facts),
        "can_hold": can_hold(facts),
        "blockers": [fact._asdict() for fact in blockers(facts)],
        "capabilities": [
            {
                "capability": finding.capability,
                "used": finding.used.name if finding.used else None,
                "sure": finding.sure,
                "guarantees": finding.used.guarantees if finding.used else "",
                "escapes": ways_out(finding.used, by_name) if finding.used else "",
                "better": [{"way": p.way.name, "reason": p.reason, "change": p.change} for p in finding.passed],
            }
            for finding in findings
        ],
        "facts": [fact._asdict() for fact in facts],
    }


def _labelled(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"  {label:<16}", subsequent_indent=" " * 18, break_on_hyphens=False
    )


def _verdict(facts: Sequence[Fact]) -> str:
    possible, missing = can_guard(facts), blockers(facts)
    why = ""
    if missing:
        first = missing[0]
        why = f"{first.name}: {first.detail}" + (f"; {first.remedy}" if first.remedy else "")
    if possible is False:
        return f"the guard cannot work here: {why}"
    if missing and possible:
        return f"the guard can work here, but without a gate, so that a bomb grows until it is caught: {why}"
    if possible:
        return "the guard can work here"
    text = "`pidwarden guard --user` can guard your own processes; for the whole machine"
    if missing:
        return f"{text} there is no gate here, and a bomb would grow until it is caught: {why}"
    return f"{text} nothing seen so far is in the way; type `sudo pidwarden doctor` to be sure"


def _finding_lines(finding: Finding, facts: dict[str, Fact]) -> list[str]:
    unsure = "" if finding.sure else "  (not tried without root)"
    lines = ["", f"{finding.capability}: {finding.used.name if finding.used else 'NOT POSSIBLE HERE'}{unsure}"]
    if finding.used:
        lines += _labelled("guarantees", finding.used.guarantees)
        lines += _labelled("gets away", ways_out(finding.used, facts))
    for passed in finding.passed:
        lines += _labelled("better" if finding.used else "tried", f"{passed.way.name}: {passed.reason}")
        if passed.change:
            lines += _labelled("  would change", passed.change)
    return lines


def as_text(facts: Sequence[Fact]) -> str:
    """The diagnosis for people."""
    by_name = {fact.name: fact for fact in facts}
    lines = textwrap.wrap(f"pidwarden {__version__}: {_verdict(facts)}", _WIDTH)
    for capability in TABLE:
        lines += _finding_lines(find(capability, by_name), by_name)
    lines += ["", "what this rests on"]
    width = max(len(fact.name) for fact in facts)
    marks = {State.YES: "yes", State.NO: "no", State.UNKNOWN: "?"}
    for fact in facts:
        remedy = f" -> {fact.remedy}" if fact.remedy and fact.state is State.NO else ""
        lines += textwrap.wrap(
            fact.detail + remedy,
            _WIDTH,
            initial_indent=f"  {marks[fact.state]:<5}{fact.name:<{width}}  ",
            subsequent_indent=" " * (width + 9),
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def rescue_lines(found: prepared.Preparation) -> list[str]:
    """Whether a rescue is prepared, for people."""
    if found.state is prepared.State.READY:
        text = f"`. {found.directory}/{prepared.START}` starts it when nothing can be started any more"
        return [f"prepared rescue: {found.state}", *_labelled("type", text)]
    use = f"`{found.remedy}`, before the crisis: beside a bomb a rescue may wait for the files that both of them map"
    return [
        f"prepared rescue: {found.state.upper()}",
        *_labelled("reason", found.reason),
        *_labelled("would change", use),
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = "What this machine can do, how, and what would improve it. Exit 1: the guard cannot work here."
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Tries everything and prints what was found; 1 if the guard cannot work here."""
    facts, rescue = probe(), prepared.look()
    if args.json:
        print(json.dumps(as_json(facts) | {"rescue": rescue._asdict()}, indent=2))
    else:
        print(as_text(facts), "", *rescue_lines(rescue), sep="\n")
    return 1 if can_guard(facts) is False else 0
