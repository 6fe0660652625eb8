"""Why a parent does not reap: evidence in, causes out, each with what tells it, what would help, and what is not known.

Pure. The evidence is read by :mod:`pidwarden.kernel.parents` and :mod:`pidwarden.kernel.zombies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose import ladders, sleeping
from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.words import count, seconds, who
from pidwarden.model.task import SIGCHLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.diagnose.remedies import Rung
    from pidwarden.model.zombie import Case, Parent, Zombie

PATIENCE_NS = 5_000_000_000  # process 1 may take its time; some look only now and then
_V2 = 2
_ASKED = 64  # zombies whose end's signal is looked at
INIT_PID_NS = 0xEFFFFFFC  # PROC_PID_INIT_INO (include/linux/proc_ns.h)


class Finding(NamedTuple):
    """Zombies of one parent that have one cause. ``sure``: the evidence leaves no other.

    ``unknown`` is what cannot be told, and how it could be.
    """

    cause: Cause
    zombies: Sequence[Zombie]
    evidence: tuple[str, ...]
    sure: bool = True
    unknown: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()


class _Verdict(NamedTuple):
    """A cause, with what tells it."""

    cause: Cause
    evidence: list[str]
    sure: bool = True
    unknown: Sequence[str] = ()


def diagnose(case: Case) -> list[Finding]:
    """The causes of one parent's zombies, the parent's own last."""
    found = []
    if case.gone:
        what = f"reaped within {seconds(case.watched_ns)}" if case.watched_ns else "reaped meanwhile"
        found.append(Finding(Cause.TRANSIENT, case.gone, (what,)))
    by_others = {pid for pid, tracer in case.tracers.items() if tracer != case.ppid} - case.living.keys()
    apart = by_others | case.living.keys()
    leaders = [z for z in case.zombies if z.pid in case.living] if case.living else []
    traced = [z for z in case.zombies if z.pid in by_others] if by_others else []
    rest = [z for z in case.zombies if z.pid not in apart] if apart else case.zombies
    parent = case.parent
    if parent is not None and sleeping.is_dying(parent):
        found.append(_finding(case, case.zombies, _dying(case, parent)))
        return found
    if leaders:
        found.append(_finding(case, leaders, _dead_leader(case, leaders)))
    if traced:
        found.append(_finding(case, traced, _traced(case, traced)))
    if rest:
        found.append(_finding(case, rest, _of_parent(case, rest)))
    return found


def _finding(case: Case, zombies: Sequence[Zombie], verdict: _Verdict) -> Finding:
    ladder = ladders.ladder(verdict.cause, case, zombies)
    return Finding(verdict.cause, zombies, tuple(verdict.evidence), verdict.sure, tuple(verdict.unknown), ladder)


# -- what is the matter with the zombie itself -------------------------------------------------------------------------


def _dead_leader(case: Case, zombies: Sequence[Zombie]) -> _Verdict:
    evidence = []
    for z in zombies[:3]:
        threads = ", ".join(f"{tid} ({state})" for tid, state in list(case.living.get(z.pid, ()))[:5])
        listed = f": {threads}" if threads else ""
        evidence.append(
            f"{who(z.pid, z.comm)} is no zombie: its first thread ended, {count(z.threads - 1, 'thread')} live{listed}"
        )
    if any(state == "D" for z in zombies for _tid, state in case.living.get(z.pid, ())):
        evidence.append("a thread in state D keeps it: `pidwarden stuck` tells what it waits for")
    return _Verdict(Cause.DEAD_LEADER, evidence)


def _traced(case: Case, zombies: Sequence[Zombie]) -> _Verdict:
    names = case.parent.names if case.parent else {}
    tracers = {case.tracers[z.pid] for z in zombies}
    evidence = [
        f"TracerPid {who(t, names.get(t, b''))}: the tracer takes the status first, and has not"
        for t in sorted(tracers)
    ]
    return _Verdict(Cause.TRACED, evidence)


def _dying(case: Case, parent: Parent) -> _Verdict:
    evidence = [
        f"{who(case.ppid, parent.comm)} was the init of a pid namespace; it has ended, and waits in "
        "zap_pid_ns_processes until nobody is left in there"
    ]
    for pid, comm, state in list(parent.members)[:5]:
        evidence.append(f"still there: {who(pid, comm)}, {state}")
    evidence += [
        f"{who(z.pid, z.comm)} is traced by {who(tracer, parent.names.get(tracer, b''))}, who has not let go"
        for z in case.zombies
        if (tracer := case.tracers.get(z.pid))
    ]
    return _Verdict(Cause.NAMESPACE_DYING, evidence)


# -- what is the matter with the parent --------------------------------------------------------------------------------


def _of_parent(case: Case, zombies: Sequence[Zombie]) -> _Verdict:
    parent = case.parent
    if parent is None:
        return _Verdict(Cause.UNKNOWN, [], sure=False, unknown=[case.why or "the parent ended meanwhile; look again"])
    if not parent.threads:
        return _Verdict(Cause.UNKNOWN, [], sure=False, unknown=["the parent is ending just now; look again"])
    verdict = (
        _frozen(parent)
        or _stopped(parent)
        or _waits(case, parent, zombies)
        or _uninterruptible(parent)
        or _execed(case, zombies)
        or _ignored(parent)
        or _held_off(parent)
        or _one_per_signal(parent, zombies)
        or _init(case, parent)
        or _idle(case, parent, zombies)
    )
    if parent.status.state in "ZX":
        verdict.evidence.append(f"its first thread is dead, {count(len(parent.threads), 'thread')} live")
    if case.history and (adopted := sum(z.pid in case.history.adopted for z in zombies)):
        verdict.evidence.append(f"{adopted} of {len(zombies)} were adopted: others made them, and ended")
    if parent.unseen:
        verdict.evidence.append(
            f"{len(parent.threads)} of {len(parent.threads) + parent.unseen} threads were looked at"
        )
    if 0 < case.asked < len(case.zombies) and not case.tracers:
        verdict.evidence.append(f"none of {case.asked} of {len(case.zombies)} zombies that were asked is traced")
    return verdict


def _frozen(parent: Parent) -> _Verdict | None:
    freeze = parent.freeze
    if freeze is None:
        if all(sleeping.is_frozen(t) for t in parent.threads):
            where = sleeping.where(parent.threads[0])
            return _Verdict(
                Cause.FROZEN, [f"every thread is in the freezer ({where}); its cgroup is not to be seen from here"]
            )
        return None
    if freeze.version == _V2 and not freeze.whole and not any(sleeping.is_frozen(t) for t in parent.threads):
        return None  # it is what keeps the others from being frozen
    asks, has = ("cgroup.freeze: 1", "cgroup.events: frozen 1") if freeze.version == _V2 else (
        "freezer.state: FREEZING", "freezer.state: FROZEN")  # fmt: skip
    file = has if freeze.whole else f"{asks}, and not all in there are frozen yet"
    evidence = [f"{freeze.directory}: {file} (cgroup v{freeze.version})"]
    if freeze.asked != freeze.directory:
        evidence.append(f"asked for above it, by {freeze.asked}")
    if sleeping.all_stopped(parent):
        evidence.append("it is stopped as well, and has to be continued after the thaw")
    return _Verdict(Cause.FROZEN, evidence)


def _stopped(parent: Parent) -> _Verdict | None:
    if not sleeping.all_stopped(parent):
        return None
    tracers = {t.status.tracer for t in parent.threads if t.status.tracer}
    if tracers:
        names = ", ".join(who(t, parent.names.get(t, b"")) for t in sorted(tracers))
        return _Verdict(Cause.STOPPED, [f"state {parent.threads[0].state}: held by its tracer {names}"])
    return _Verdict(
        Cause.STOPPED, ["state T: stopped by a signal (SIGSTOP, Ctrl-Z, or a read of a terminal in the background)"]
    )


def _waits(case: Case, parent: Parent, zombies: Sequence[Zombie]) -> _Verdict | None:
    waiting = [t for t in parent.threads if sleeping.is_waiting(t)]
    if not waiting:
        return None
    evidence, sure, unexplained = [], True, False
    for thread in waiting:
        words, explained = sleeping.wait_words(thread, parent, zombies)
        evidence.append(words)
        unexplained |= explained is False
        sure &= explained is not None
    if unexplained:
        why = "it waits for any child and has not taken these: they may be traced, or were just coming; look again"
        if case.asked < len(zombies):
            why = f"only {case.asked} of {len(zombies)} were asked for a tracer; " + why
        return _Verdict(Cause.UNKNOWN, evidence, sure=False, unknown=[why])
    hint = [] if sure else ["which child it waits for is shown to who may trace it: type `sudo pidwarden zombies`"]
    return _Verdict(Cause.WAITS_FOR_ANOTHER, evidence, sure, hint)


def _uninterruptible(parent: Parent) -> _Verdict | None:
    leader = parent.threads[0]
    if leader.state != "D":
        return None
    where = f"state D, in {leader.sleep.wchan}" if leader.sleep.wchan else "state D, where is not shown to us"
    evidence = [f"{where}: it runs no code of its own until that ends; `pidwarden stuck` tells more"]
    return _Verdict(Cause.BLOCKED, evidence + sleeping.other_end(leader, parent))


def _execed(case: Case, zombies: Sequence[Zombie]) -> _Verdict | None:
    history = case.history
    if history is None or not history.exec_ns or not zombies:
        return None
    if not all(z.pid in history.own and history.born_ns[z.pid] < history.exec_ns for z in zombies):
        return None
    words = f"it forked {'them' if len(zombies) > 1 else 'it'} before it called exec: the program it is now never knew"
    return _Verdict(Cause.EXECED, [words])


def _ignored(parent: Parent) -> _Verdict | None:
    if not parent.status.is_ignored(SIGCHLD):
        return None
    words = "SigIgn has SIGCHLD: children that end now are reaped by the kernel, but these ended before it was ignored"
    return _Verdict(Cause.IGNORED_LATE, [words])


def _held_off(parent: Parent) -> _Verdict | None:
    if not all(t.status.is_blocked(SIGCHLD) for t in parent.threads):
        return None
    if not any(t.status.is_pending(SIGCHLD) for t in parent.threads):
        return None
    evidence = ["SigBlk of every thread has SIGCHLD, and one is pending (ShdPnd): it was told, and does not listen"]
    if hidden := sleeping.hidden(parent):
        why = f"it may as well be in system(3), which holds SIGCHLD off while it waits for one child: {hidden}"
        return _Verdict(Cause.UNKNOWN, evidence, sure=False, unknown=[why])
    if parent.signalfd:
        blocking = sleeping.blocking(parent)
        evidence.append("it has a signalfd for SIGCHLD, and has not read it")
        if blocking:
            return _Verdict(Cause.BLOCKED, [*blocking.evidence, *evidence], blocking.sure)
    evidence += sleeping.rest(parent)
    if parent.running:
        return _Verdict(Cause.SIGCHLD_BLOCKED, evidence, sure=False)
    return _Verdict(Cause.SIGCHLD_BLOCKED, evidence)


def _one_per_signal(parent: Parent, zombies: Sequence[Zombie]) -> _Verdict | None:
    takes = parent.status.is_caught(SIGCHLD) or bool(parent.signalfd)
    if not takes or not parent.waited:
        return None
    if len(zombies) == 1 and sleeping.blocking(parent):
        return None
    how = "has a handler for SIGCHLD (SigCgt)" if parent.status.is_caught(SIGCHLD) else "reads SIGCHLD from a signalfd"
    evidence = [
        f"it {how}, none is pending, and it has reaped before: signals that come together are one, and "
        "one child is taken for it"
    ]
    evidence += sleeping.rest(parent)
    unknown = [
        "whether the handler takes one status for a signal or only leaves a mark for a loop that does not come to it"
    ]
    return _Verdict(Cause.ONE_PER_SIGNAL, evidence, sure=False, unknown=unknown)


def is_container_init(parent: Parent) -> bool:
    """Whether it is the first process of a pid namespace other than the machine's."""
    inner = parent.status.nspid
    if len(inner) > 1:
        return inner[-1] == 1
    return parent.key.tgid == 1 and parent.pidns not in (None, INIT_PID_NS)


def _init(case: Case, parent: Parent) -> _Verdict | None:
    if is_container_init(parent):
        inner = " ".join(map(str, parent.status.nspid))
        evidence = [
            f"it is process 1 of a pid namespace (NSpid: {inner}): orphans in there are left to it, and it does not "
            "reap them"
        ]
        return _Verdict(Cause.CONTAINER_INIT, evidence + sleeping.rest(parent), sure=not sleeping.hidden(parent))
    if parent.key.tgid == 1 and parent.waited and case.watched_ns < PATIENCE_NS:
        why = "process 1 has reaped before and may at its next turn; look longer: pidwarden zombies --watch 10"
        return _Verdict(Cause.UNKNOWN, sleeping.rest(parent), sure=False, unknown=[why])
    return None


def _idle(case: Case, parent: Parent, zombies: Sequence[Zombie]) -> _Verdict:
    if hidden := sleeping.hidden(parent):
        why = f"it may wait for another child, be blocked, or never wait: {hidden}"
        return _Verdict(Cause.UNKNOWN, _signals(parent, hidden=True), sure=False, unknown=[why])
    if parent.threads[0].state == "R":
        why = "it runs: whether it waits when it is done only its program can tell; look again"
        return _Verdict(Cause.UNKNOWN, _signals(parent), sure=False, unknown=[why])
    if blocking := sleeping.blocking(parent):
        return _Verdict(Cause.BLOCKED, [*blocking.evidence], blocking.sure, blocking.unknown)
    unknown = ["a wait that comes later, and SA_NOCLDWAIT set after they ended, are not to be seen: its source tells"]
    if not parent.copy and case.history is None:
        unknown.append("whether it forked them before it became this program (exec): known while a guard runs")
    evidence = [*_signals(parent), *sleeping.rest(parent)]
    asked = zombies[:_ASKED]
    if odd := [signal for z in asked if (signal := z.exit_signal) != SIGCHLD]:
        some = f"{len(odd)} of {len(asked)} children" if len(odd) < len(asked) else "its children"
        sent = sleeping.sent(odd[0])
        evidence.append(f"{some} sent {sent} at their end, not SIGCHLD: only a wait with __WALL or __WCLONE takes them")
    return _Verdict(Cause.NEVER_WAITS, evidence, sure=False, unknown=unknown)


def _signals(parent: Parent, *, hidden: bool = False) -> list[str]:
    if parent.status.is_caught(SIGCHLD):
        return ["it has a handler for SIGCHLD, but has never taken a child's status"]
    reaped = (
        "it has taken statuses of other children before" if parent.waited else "it has never taken a child's status"
    )
    return [f"{'' if hidden else 'no thread of it waits, '}nothing is set for SIGCHLD, and {reaped}"]
