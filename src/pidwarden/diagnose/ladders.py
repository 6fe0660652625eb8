"""Which steps help against which cause, in the order to try them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.diagnose import remedies, sleeping
from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.remedies import Rung, Step
from pidwarden.diagnose.words import who
from pidwarden.model.task import SIGCHLD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pidwarden.model.zombie import Case, Parent, Zombie

_INIT_WRAPPER = "start it below an init that reaps (docker run --init, tini, dumb-init)"


def unit_of(cgroup: str) -> tuple[str, bool]:
    """The service that a cgroup's path names, and whether it is a user's; empty if none."""
    parts = cgroup.split("/")
    service = next((p for p in reversed(parts) if p.endswith(".service") and not p.startswith("user@")), "")
    return service, any(p.startswith("user@") for p in parts)


def ladder(cause: Cause, case: Case, zombies: Sequence[Zombie]) -> tuple[Rung, ...]:
    """The rungs, the harmless first."""
    return tuple(_rungs(cause, case, zombies))


def _rungs(  # noqa: C901, PLR0912  (a table: one branch a row)
    cause: Cause, case: Case, zombies: Sequence[Zombie]
) -> Iterator[Rung]:
    parent, pid = case.parent, case.ppid
    if cause is Cause.TRANSIENT:
        yield remedies.wait("nothing is wrong")
        return
    if cause is Cause.DEAD_LEADER:
        yield from _dead_leaders(case, zombies)
        return
    if cause in (Cause.TRACED, Cause.NAMESPACE_DYING):
        yield from _tracers(case, zombies)
        if cause is Cause.NAMESPACE_DYING:
            yield Rung(Step.INSPECT, "pidwarden stuck: what the tasks in there wait for", "none", pid)
        return
    if parent is None:
        yield remedies.wait("the parent is gone or out of sight")
        return
    if parent.freeze:
        yield remedies.thaw(parent.freeze.asked)
    if sleeping.all_stopped(parent):
        tracers = {t.status.tracer for t in parent.threads if t.status.tracer}
        for tracer in sorted(tracers):
            name = who(tracer, parent.names.get(tracer, b""))
            yield remedies.detach(tracer, name)
            yield remedies.kill_tracer(tracer, name)
        if not tracers:
            yield remedies.cont(pid)
    if cause is Cause.WAITS_FOR_ANOTHER:
        for child in sorted({sleeping.awaited(t) for t in parent.threads} - {0}):
            yield remedies.awaited(child, who(child, parent.names.get(child, b"")))
    if cause is Cause.BLOCKED:
        yield from _blocked(parent)
    if cause is Cause.UNKNOWN:
        yield remedies.wait("what is not known may be by then")
    yield from _of_parent(cause, parent, zombies)


def _dead_leaders(case: Case, zombies: Sequence[Zombie]) -> Iterator[Rung]:
    for z in zombies[:3]:
        yield Rung(Step.INSPECT, f"ls /proc/{z.pid}/task: its living threads work on", "none", z.pid)
        if any(state == "D" for _tid, state in case.living.get(z.pid, ())):
            yield Rung(Step.INSPECT, "pidwarden stuck", "none", z.pid)
        risk = "the program ends, which may be at work; a thread in state D ends only when it wakes"
        yield Rung(Step.KILL_GROUP, f"kill -KILL {z.pid}", risk, z.pid)


def _tracers(case: Case, zombies: Sequence[Zombie]) -> Iterator[Rung]:
    names = case.parent.names if case.parent else {}
    for tracer in sorted({t for z in zombies if (t := case.tracers.get(z.pid, 0)) and t != case.ppid}):
        name = who(tracer, names.get(tracer, b""))
        yield remedies.detach(tracer, name)
        yield remedies.kill_tracer(tracer, name)


def _blocked(parent: Parent) -> Iterator[Rung]:
    thread = sleeping.held_thread(parent)
    if thread is None:
        return
    if thread.state == "D":
        yield Rung(Step.INSPECT, "pidwarden stuck: what it waits for, and what ends that", "none", parent.key.tgid)
    for holder in [h for h in thread.sleep.holders if h.pid != parent.key.tgid][:3]:
        risk = "it has the other end, and may be at work: its own work is lost"
        yield Rung(
            Step.UNBLOCK,
            f"find out why {who(holder.pid, holder.comm)} does not go on; kill {holder.pid}",
            risk,
            holder.pid,
        )


def _of_parent(cause: Cause, parent: Parent, zombies: Sequence[Zombie]) -> Iterator[Rung]:
    """What is left when nothing more gentle helped: the parent itself."""
    pid = parent.key.tgid
    if pid == 1:
        return  # nobody ends the machine's own init; a container's own view ends here as well
    if parent.status.is_caught(SIGCHLD) and cause is not Cause.SIGCHLD_BLOCKED:
        yield remedies.notify(pid, len(zombies) if cause is Cause.ONE_PER_SIGNAL else 1)
    if not any(t.status.tracer for t in parent.threads) and any(t.state != "D" for t in parent.threads):
        yield remedies.inject(pid)
    if cause is Cause.CONTAINER_INIT:
        yield Rung(Step.RESTART, f"recreate the container, and {_INIT_WRAPPER}", "all in the container ends", pid)
    else:
        unit, user = unit_of(parent.cgroup)
        if unit:
            yield remedies.restart(pid, unit, user=user)
        yield remedies.term(pid)
    yield remedies.kill(pid)
