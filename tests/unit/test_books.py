"""The books and the kernel side agree: the same events, told to both, leave the same records, groups and alarms."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from steps import LIFE, RARE, TIMES, pick, step
from world import BRANCH_AGE, JOB_GAP, PROGRAMS, World

from pidwarden.kernel import abi
from pidwarden.kernel.config import Config
from pidwarden.model.record import ProcFlag, SignalKind
from pidwarden.watch.books import Books, Found

FAR = 1 << 30
NUMBERS = st.integers(0, 63)
STEP = st.tuples(st.sampled_from([*LIFE, *LIFE, *RARE, "sweep"]), NUMBERS, NUMBERS)
STEPS = st.lists(STEP, max_size=60) | st.lists(STEP, min_size=30, max_size=80)
SAME = ("family", "branch", "slots", "live", "generation", "forks", "execs", "exit_ns", "folded", "skipped", "flags")
SAME_OF_GROUPS = ("family", "slots", "limit", "depth_limit", "kind", "flags", "rule", "founder", "spawner", "forks")


class Twin(World):
    """A machine whose events go to the kernel side and to the books."""

    def __init__(self, **config: int) -> None:
        self.books: Books | None = None
        super().__init__(flags=abi.CONFIG_AUTOHOLD | abi.CONFIG_HISTORY, **config)
        limits = {"hold_at": FAR, "family_hold_at": FAR, "depth_limit": FAR} | config
        self.books = Books(self._reaped, self._leads, lambda: self.sim.now)
        self.books.config = Config(BRANCH_AGE, JOB_GAP, 1, **limits, autohold=True, only_scoped=False, history=True)

    def _reaped(self, entry) -> bool:
        return not any(t.process.key == entry.key and t.state in ("alive", "zombie") for t in self.tasks)

    def _leads(self, entry) -> bool:
        return next(p for p in self.processes if p.key == entry.key).leads_terminal

    def of(self, process):
        assert self.books
        self.books.now_ns = self.sim.now
        return self.books.entries.get(process.key)

    def attach(self) -> int:
        found = super().attach()
        for process in [p for p in self.processes if p.slots]:
            creator = self.of(process.creator) if process.creator else None
            self.books.now_ns = self.sim.now
            flags = process.flags & ~int(ProcFlag.GUESSED) | int(ProcFlag.GUESSED)
            exe = (1, process.program) if process.program else (0, 0)
            entry = self.books.adopt(creator, Found(process.key, flags, process.uid, process.comm, exe))
            entry.execs = 0
            ended = process.leader.state != "alive"
            self.books.threads_are(entry, len(process.living), leader_ended=ended, met=True)
        return found

    def fork(self, task, *, sibling=False):
        creator = self.of(task.process) if self.attached else None
        by_thread = task is not task.process.leader
        child = super().fork(task, sibling=sibling)
        if creator:
            self.books.now_ns = self.sim.now
            entry = self.books.born(creator, child.key.tgid, child.key.start_ns, by_thread=by_thread)
            entry.comm = child.comm
        return child

    def kernel_thread(self):
        process = super().kernel_thread()
        if self.attached:
            self.books.born(self.of(self.kthreadd), process.key.tgid, process.key.start_ns)
        return process

    def thread(self, task):
        new = super().thread(task)
        if self.attached:
            self.books.thread(self.of(task.process))
        return new

    def exec(self, task, program, comm, *, delay=True) -> None:
        super().exec(task, program, comm, delay=delay)
        if self.attached:
            process = task.process
            exe = (1, program)
            self.books.exec(self.of(process), int(PROGRAMS[program]), process.comm, exe, process.uid)

    def exit_task(self, task, code, *, delay=True) -> None:
        leader = task is task.process.leader
        super().exit_task(task, code, delay=delay)
        if self.attached:
            self.books.exit(self.of(task.process), code, leader=leader)

    def setuid(self, process, uid) -> None:
        super().setuid(process, uid)
        if self.attached:
            self.of(process).uid = uid


def agree(world: Twin) -> None:
    """Every record and group, field by field, once both have looked for who is reaped."""
    books, sim = world.books, world.sim
    books.now_ns = sim.now
    sim.settle()
    books.settle()
    records = sim.procs()
    assert books.entries.keys() == records.keys()
    for key, theirs in records.items():
        ours = books.entries[key].record()
        assert ours.parent == theirs.parent
        for name in SAME if theirs.slots > 0 else [n for n in SAME if n != "exit_ns"]:
            assert getattr(ours, name) == getattr(theirs, name), f"{name} of {key}"
        assert books.entries[key].kids == theirs.kids
        if theirs.slots > 0 and not theirs.thread_forks:
            assert (ours.tick_forks, ours.last_forks) == (theirs.tick_forks, theirs.last_forks)
    groups = sim.groups()
    assert books.pools.keys() == groups.keys()
    for number, group in groups.items():
        ours = books.pools[number].group()
        for name in SAME_OF_GROUPS:
            assert getattr(ours, name) == getattr(group, name), f"{name} of group {number}"
    assert books.holds == sim.counters().holds


def live(world: Twin, op: str, a: int, b: int) -> None:
    """One step of both."""
    step(world, op, a, b)
    if op == "sweep":  # what one leaves depends on the order of its map, what none changes any more does not
        cutoff = world.sim.now - pick(TIMES, a)
        while world.sim.sweep(cutoff):
            pass
        while world.books.sweep(cutoff, 0):
            pass


@given(STEPS, STEPS)
@settings(max_examples=200)
def test_the_same_events_make_the_same_books(before, after):
    world = Twin()
    for op, a, b in before:
        if op != "sweep":
            step(world, op, a, b)
    world.attach()
    agree(world)
    for op, a, b in after:
        live(world, op, a, b)
        agree(world)


@given(STEPS, st.integers(2, 8), st.integers(2, 6))
@settings(max_examples=200)
def test_the_same_events_raise_the_same_alarms(after, hold_at, depth_limit):
    world = Twin(hold_at=hold_at, family_hold_at=hold_at + 3, depth_limit=depth_limit)
    world.attach()
    for op, a, b in after:
        live(world, op, a, b)
        agree(world)
        told = [(s.group, s.family, s.rule, s.by) for s, _by in world.books.signals if s.kind is SignalKind.ALARM]
        assert told == [(e.group, e.family, e.rule, e.by) for e in world.sim.events() if e.kind == abi.EVENT_ALARM]
        world.books.signals.clear()
