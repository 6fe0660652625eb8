"""Zombies of every cause that can be made, with what takes the cause away: for the tests and for bench/zombies.py."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from kit import Child, child, stat_of, until

from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.zombies import diagnose
from pidwarden.kernel import cases, cgroup, freezer, socketpeer
from pidwarden.kernel.patience import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from pidwarden.diagnose.zombies import Finding

PAUSE = 0.03


class Made(NamedTuple):
    """A prop in place: the parent that owes, the other pid it spoke of, and what takes the cause away."""

    pid: int
    other: int
    cure: Callable[[], None]


class Prop(NamedTuple):
    """A cause made on purpose: what it should be named, and what it is named after the cure; empty: no zombie is left.

    ``says`` is a word of the evidence.
    """

    name: str
    cause: str
    after: tuple[str, ...]
    make: Callable[[Prop], contextlib.AbstractContextManager[Made]]
    says: str = ""
    what: str = ""


def findings(pids: Collection[int], pause: float = PAUSE) -> dict[int, list[Finding]]:
    """What is said of these parents now, but for what was only passing."""
    look = cases.look(Reader(), pause, lambda _table: pids)
    found = {case.ppid: [f for f in diagnose(case) if f.cause is not Cause.TRANSIENT] for case in look.cases}
    return {pid: found.get(pid, []) for pid in pids}


def causes(found: Iterable[Finding]) -> tuple[str, ...]:
    """Their names."""
    return tuple(str(f.cause) for f in found)


def signals(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def run(*arguments: str) -> Iterator[tuple[Child, int, int]]:
    """A prop that has said who it is."""
    with child("zombie", *arguments, group=True) as running:
        yield (running, *running.said())


def usr1(prop: Prop) -> contextlib.AbstractContextManager[Made]:
    """SIGUSR1 ends what holds it up."""
    return _with(prop, lambda pid, _other: signals(pid, signal.SIGUSR1))


def kill_other(prop: Prop) -> contextlib.AbstractContextManager[Made]:
    """The other process is what it hangs on."""
    return _with(prop, lambda _pid, other: signals(other, signal.SIGKILL))


@contextlib.contextmanager
def _with(prop: Prop, cure: Callable[[int, int], None]) -> Iterator[Made]:
    mode, *rest = (prop.what or prop.name).split()
    with tempfile.TemporaryDirectory() as folder, run(mode, *[w.replace("FILE", f"{folder}/it") for w in rest]) as it:
        _running, pid, other = it
        yield Made(pid, other, lambda: cure(pid, other))


def kill_sleeper(prop: Prop) -> contextlib.AbstractContextManager[Made]:
    """The child that lives is what it hangs on."""
    return _with(prop, lambda pid, _other: signals(_sleeper(pid), signal.SIGKILL))


def let_go(prop: Prop) -> contextlib.AbstractContextManager[Made]:
    """Its own parent traces somebody, until SIGUSR1."""
    return _with(prop, lambda pid, _other: signals(stat_of(pid).ppid, signal.SIGUSR1))


def notices(prop: Prop) -> contextlib.AbstractContextManager[Made]:
    """One SIGCHLD after the other, until the handler has taken all."""

    def cure(pid: int, left: int) -> None:
        for _ in range(left):
            before = len(_zombies(pid))
            signals(pid, signal.SIGCHLD)
            until(lambda before=before: len(_zombies(pid)) < before, "one more to be reaped")

    return _with(prop, cure)


def _zombies(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [c for c in map(int, file.read().split()) if (s := stat_of(c)) and s.state == "Z"]


@contextlib.contextmanager
def stopped(_prop: Prop) -> Iterator[Made]:
    """A parent that would reap, stopped before its child ends."""
    with run("reaper") as (_running, pid, other):
        signals(pid, signal.SIGSTOP)
        until(lambda: stat_of(pid).state == "T", "the stop")
        signals(other, signal.SIGKILL)
        yield Made(pid, other, lambda: signals(pid, signal.SIGCONT))


@contextlib.contextmanager
def held_by_tracer(_prop: Prop) -> Iterator[Made]:
    """The same, held by ptrace."""
    with run("reaper") as (_running, pid, other), run("tracer", str(pid)) as (_tracing, tracer, _pid):
        signals(other, signal.SIGKILL)
        yield Made(pid, other, lambda: signals(tracer, signal.SIGKILL))


def frozen(
    version: int, *, above: bool = False, stop: bool = False
) -> Callable[[Prop], contextlib.AbstractContextManager[Made]]:
    """The same, in a frozen cgroup; `above`: it is the one above that is frozen; `stop`: and stopped as well."""

    @contextlib.contextmanager
    def make(_prop: Prop) -> Iterator[Made]:
        with run("reaper") as (running, pid, other), _cgroup(version, running.pid) as (top, inner):
            assert cgroup.move(pid, inner)
            if stop:
                signals(pid, signal.SIGSTOP)
                until(lambda: stat_of(pid).state == "T", "the stop")
            target = top if above else inner
            assert freezer.freeze(target)
            until(lambda: freezer.is_frozen(inner), "the freeze")
            signals(other, signal.SIGKILL)
            yield Made(pid, other, lambda: freezer.thaw(target))
            freezer.thaw(target)
            signals(pid, signal.SIGKILL)

    return make


@contextlib.contextmanager
def _cgroup(version: int, number: int) -> Iterator[tuple[str, str]]:
    found = cgroup.mounts()
    root = found.v2 if version == 2 else found.v1.get("freezer")
    assert root, f"no cgroup v{version} with a freezer"
    top = f"{root}/pidwarden-zombies-{number}"
    inner = f"{top}/inner"
    os.makedirs(inner)
    try:
        yield top, inner
    finally:
        freezer.thaw(top)
        freezer.thaw(inner)
        for pid in cgroup.processes(inner) or ():
            signals(pid, signal.SIGKILL)
        for directory in (inner, top):
            until(lambda directory=directory: _removed(directory), "the cgroup to be empty")


def _removed(directory: str) -> bool:
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    return not os.path.exists(directory)


def has_freezer(version: int) -> bool:
    """Whether this machine has a freezer of that version."""
    found = cgroup.mounts()
    return bool(found.v2) if version == 2 else "freezer" in found.v1


PROPS = [
    Prop("never", "never-waits", (), usr1, "no thread of it waits"),
    Prop("many", "never-waits", (), usr1, "no thread of it waits", "never 100"),
    Prop("names", "never-waits", (), usr1),
    Prop("loop", "never-waits", (), usr1, "poll"),
    Prop("accept", "never-waits", (), usr1, "accept"),
    Prop("nocldwait", "never-waits", ("never-waits",), usr1),
    Prop("flag", "never-waits", ("never-waits",), usr1, "handler"),
    Prop("wait-pid", "waits-for-another", ("never-waits",), kill_other, "alone (wait4("),
    Prop("waitid-pid", "waits-for-another", ("never-waits",), kill_other, "alone (waitid(P_PID)"),
    Prop("waitid-pidfd", "waits-for-another", ("never-waits",), kill_other, "alone (waitid(P_PIDFD)"),
    Prop("wait-group", "waits-for-another", ("never-waits",), kill_other, "process group"),
    Prop("wait-32", "waits-for-another", ("never-waits",), kill_other, "alone"),
    Prop("wait-stops", "waits-for-another", (), usr1, "WEXITED"),
    Prop("wait-look", "waits-for-another", ("never-waits",), kill_other, "alone"),
    Prop("clone", "waits-for-another", (), usr1, "__WALL"),
    Prop("thread-waits", "waits-for-another", ("never-waits",), kill_other, "alone"),
    Prop("thread-only", "waits-for-another", ("never-waits",), kill_other, "__WNOTHREAD"),
    Prop("system", "waits-for-another", (), kill_sleeper),
    Prop("pipe", "blocked", ("never-waits",), kill_other, "holder"),
    Prop("write-pipe", "blocked", ("never-waits",), kill_other, "holder"),
    Prop("fifo", "blocked", ("never-waits",), kill_other, "holder", "fifo FILE"),
    Prop("socket", "blocked", ("never-waits",), kill_other, "holder" if socketpeer.unix_diag() else "socket:"),
    Prop("eventfd", "blocked", (), usr1, "holder"),
    Prop("tcp", "blocked", (), usr1, "127.0.0.1:"),
    Prop("open-fifo", "blocked", (), usr1, "open", "open-fifo FILE"),
    Prop("flock", "blocked", ("never-waits",), kill_other, "holder", "flock FILE"),
    Prop("fcntl", "blocked", ("never-waits",), kill_other, "holder", "fcntl FILE"),
    Prop("futex", "blocked", (), usr1, "futex"),
    Prop("join", "blocked", ("never-waits",), kill_other, "read"),
    Prop("msgrcv", "blocked", (), usr1, "msgrcv"),
    Prop("vfork", "blocked", ("never-waits",), kill_sleeper, "held by vforked ("),
    Prop("signalfd-pipe", "blocked", ("sigchld-blocked",), kill_other, "holder"),
    Prop("blocked", "sigchld-blocked", ("never-waits",), usr1, "pending"),
    Prop("blocked-plain", "sigchld-blocked", ("never-waits",), usr1, "pending"),
    Prop("signalfd-deaf", "sigchld-blocked", (), usr1, "signalfd"),
    Prop("ignored", "ignored-late", ("never-waits",), usr1, "SigIgn"),
    Prop("one-a-signal", "reaps-one-per-signal", (), notices, "SigCgt", "one-a-signal 5"),
    Prop("init", "container-init", (), usr1, "NSpid"),
    Prop("init-busy", "container-init", (), usr1, "NSpid"),
    Prop("init-waits", "waits-for-another", ("container-init",), kill_sleeper, "alone"),
    Prop("dying", "namespace-dying", (), let_go, "traced by"),
    Prop("dead-leader", "dead-leader", (), kill_other, "first thread ended"),
    Prop("traced", "traced", (), kill_other, "TracerPid tracer"),
    Prop("stopped", "parent-stopped", (), stopped, "state T"),
    Prop("tracer", "parent-stopped", (), held_by_tracer, "tracer"),
    Prop("busy", "unknown", (), usr1),
]  # fmt: skip
# Who reaps, only late: whatever is seen of them is gone at the second look.
NEAR = [Prop("slow", "transient", (), usr1), Prop("signalfd", "transient", (), usr1)]
ABSENT = []  # what this machine has no freezer for
(PROPS if has_freezer(2) else ABSENT).extend([
    Prop("frozen-v2", "parent-frozen", (), frozen(2), "frozen 1"),
    Prop("frozen-above", "parent-frozen", (), frozen(2, above=True), "above"),
    Prop("frozen-stopped", "parent-frozen", ("parent-stopped",), frozen(2, stop=True), "stopped"),
])  # fmt: skip
(PROPS if has_freezer(1) else ABSENT).append(Prop("frozen-v1", "parent-frozen", (), frozen(1), "FROZEN"))


def _sleeper(pid: int) -> int:
    """Its child that lives."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return next(c for c in map(int, file.read().split()) if stat_of(c).state != "Z")
