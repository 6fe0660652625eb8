"""The kernel side's books against the design's rules: bpf/ compiled natively and driven by random histories (tests/sim)."""

from __future__ import annotations

from signal import SIGSTOP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import Simulator
from world import BRANCH_AGE, ENTERED, JOB_GAP, MS, PLAIN, STOPPED, World, books_are_consistent, note_groups

from pidwarden.kernel import abi
from pidwarden.model.key import NOBODY
from pidwarden.model.record import ProcFlag

NUMBERS = st.integers(0, 40)
COMMS = [b"sh", b"a) R 1 (", b"\xff\n\x1b[2J", b"fifteen-bytes-x", b"more than fifteen bytes"]
TIMES = [1, MS, JOB_GAP - 1, JOB_GAP, BRANCH_AGE - 1, BRANCH_AGE, 60 * BRANCH_AGE]


def pick(choices, number):
    return choices[number % len(choices)] if choices else None


def do(world: World, op: str, a: int, b: int) -> None:
    """One step, if there is somebody who can take it."""
    task, zombie, dead = pick(world.living(), a), pick(world.zombies(), a), pick(world.dead(), a)
    victim = pick(world.mortal(), a)
    if op == "fork" and task:
        world.fork(task, sibling=b % 8 == 7 and task.process is not world.init)
    elif op == "thread" and task and task.process is not world.init:
        world.thread(task)
    elif op == "exec" and task and task.process is not world.init:
        world.exec(task, 1 + b % 4, COMMS[b % 5], delay=b % 3 != 0)
    elif op == "exit" and victim and not victim.process.flags & ProcFlag.KTHREAD:
        last = len(victim.process.living) == 1
        world.exit_task(victim, b % 3 << 8 if last else 0, delay=b % 2 != 0)
    elif op == "kill" and victim:
        world.exit_group(victim.process, b % 16, delay=b % 2 != 0)
    elif op == "reap" and zombie:
        world.reap(zombie, delay=b % 2 != 0)
    elif op == "free" and dead:
        world.free(dead, missed=b % 5 == 4)
    elif op == "wait":
        world.tick(pick(TIMES, a))
        world.say(f"now is {world.sim.now}")
    elif op == "setuid" and task:
        world.setuid(task.process, b)
    elif op == "rename" and task:
        world.rename(task, COMMS[b % 5])
    elif op == "terminal" and task:
        world.terminal(task.process, on=b % 3 != 0)
    elif op == "subreaper" and task:
        task.process.subreaper = True
        world.say(f"{task.process.key} is a subreaper")
    elif op == "sweep":
        cutoff = world.sim.now - pick(TIMES, a)
        world.say(f"sweep: who exited before {cutoff}")
        world.sim.sweep(cutoff)
    elif op == "kthread":
        helper = world.kernel_thread()
        if b % 2:
            world.exec(helper.tasks[0], 1 + b % 4, b"modprobe")


LIFE = ["fork", "fork", "fork", "thread", "exec", "exit", "kill", "reap", "free", "wait"]
RARE = ["setuid", "rename", "terminal", "subreaper", "kthread"]


def steps(*ops: str, most: int = 60):
    """Short lists to shrink to, long ones to find something with."""
    step = st.tuples(st.sampled_from(ops), NUMBERS, NUMBERS)
    return st.lists(step, max_size=most) | st.lists(step, min_size=most // 2, max_size=most)


def record_is_true(process, record, known):
    note_groups((process.family, process.branch), (record.family, record.branch), known)
    assert (record.slots, record.live) == (process.slots, len(process.living))
    assert record.generation == process.generation
    above = process.ancestors()[1 + record.skipped :]  # dead ones may be left out
    assert record.parent == (above[0].key if above else NOBODY)
    assert ProcFlag(record.flags) == ProcFlag(process.flags | ProcFlag.GUESSED * process.guessed)
    assert (record.forks, record.execs) == (process.forks, process.execs)
    assert (record.comm, record.uid) == (process.comm, process.noted_uid)
    if process.end_unseen:
        assert record.exit_ns
    else:
        assert (record.exit_ns, record.exit_code) == (process.exit_ns, process.exit_code)


def history_is_true(world: World, known: dict) -> None:
    sim = world.sim
    sim.settle()
    books_are_consistent(sim)
    records, groups, slots = sim.procs(), sim.groups(), {}
    everybody = {process.key: process for process in world.processes}
    for key, record in records.items():
        record_is_true(everybody[key], record, known)
        for number in {record.family, record.branch} - {0}:
            slots[number] = slots.get(number, 0) + everybody[key].slots
    assert {number: group.slots for number, group in groups.items()} == {g: n for g, n in slots.items() if n}
    for process in everybody.values():
        if process.slots and process.family:
            record = records[process.key]
            assert groups[record.family].founder == process.family.founder.key
            assert groups[record.branch].founder == process.branch.founder.key
            assert groups[record.branch].family == record.family
            the_founder_is_found(records, process)


def the_founder_is_found(records, process):
    """Or the shell whose job the family is: only the job's first process is its founder."""
    founder = process.family.founder
    goal = founder if founder in process.ancestors() else founder.creator
    key, seen = process.key, 0
    while key != goal.key:
        key, seen = records[key].parent, seen + 1
        assert key in records, f"{process.key} does not find {goal.key}"
        assert seen < 10_000


def retold(world: World, exception: BaseException) -> None:
    """Tells what happened, in words, below the failure."""
    exception.add_note("\n".join(world.log))


@settings(deadline=None, max_examples=250)
@given(before=steps(*LIFE, *RARE, most=20), after=steps(*LIFE, *RARE, "sweep"), seed=st.integers(0, 3), history=st.booleans())
def test_the_history_is_what_the_rules_say(before, after, seed, history):
    world, known, seen = World(seed=seed, flags=abi.CONFIG_HISTORY * history), {}, set()
    try:
        for step in before:
            do(world, *step)
        there = sum(t.state in ("alive", "zombie") for t in world.tasks)
        assert world.attach() == there
        history_is_true(world, known)
        seen |= world.sim.procs().keys()
        for step in after:
            do(world, *step)
            history_is_true(world, known)
            seen |= world.sim.procs().keys()
        counters = world.sim.counters()
        assert counters.missed_frees == world.missed
        assert (counters.adopted, counters.lost_tasks, counters.lost_procs, counters.lost_groups) == (0, 0, 0, 0)
        assert len(seen) == counters.records + counters.aged + counters.contracted
        swept_clean(world)
        history_is_true(world, known)
    except BaseException as exception:
        retold(world, exception)
        raise


def swept_clean(world: World) -> None:
    """Sweeps until nothing more goes: then what is dead is where two chains meet, or where a family begins."""
    world.say("sweep until nothing more goes")
    for _ in range(100):
        if not world.sim.sweep(world.sim.now + 1):
            break
    else:
        pytest.fail("it never ends")
    records = world.sim.procs()
    for key, record in records.items():
        if record.slots > 0 or record.kids > 1:
            continue
        above = records.get(record.parent)
        assert record.kids == 1, f"{key} is dead and nobody descends from it"
        assert not above or above.family != record.family, f"{key} is dead and has a single child"


@pytest.mark.parametrize(
    ("name", "layout"), [("tasks", abi.TASK), ("procs", abi.PROC), ("groups", abi.GROUP), ("dump", abi.DUMP)]
)
def test_this_machines_compiler_lays_out_as_the_bpf_one(name, layout):
    assert Simulator().sizes(name)[1] == layout.size


# -- gates -------------------------------------------------------------------------------------------------------------

LIMIT, FAMILY_LIMIT, DEPTH = 6, 9, 4
CALLS = ["fork", "vfork", "clone", "clone3", "every"]


class Gated(World):
    """Forks go through the gate; a task that is in a fork, or stopped, does nothing else."""

    def __init__(self, **config: int) -> None:
        super().__init__(flags=abi.CONFIG_AUTOHOLD, **config)
        self.attach()
        self.sim.control(abi.OP_FLAG, abi.PROC_EXEMPT, self.init.key.tgid, self.init.key.start_ns)
        self.alarms: dict[int, int] = {}  # since the last answer
        self.watched: dict[int, bool] = {}  # families that were split off: whether anybody is in them

    def enter(self, task, call):
        self.say(f"task {task.pid} of {task.process.key} enters {call}")
        self.sim.compat(task.address, on=call == "every")
        signal = self.sim.gate(task.address, call)
        record, groups = self.sim.procs()[task.process.key], self.sim.groups()
        held = any(groups[g].flags & abi.GROUP_HELD for g in {record.family, record.branch} & groups.keys())
        exempt = task.process is self.init
        assert signal == (SIGSTOP if held and not exempt else 0)
        task.doing = STOPPED if signal else ENTERED
        entry = self.sim.tasks()[task.address]
        reserved = (entry.reserved_branch, entry.reserved_family)
        assert reserved == ((0, 0) if signal or exempt else (record.branch, record.family))

    def leave(self, task, how):
        """Out of the fork: a process, a thread, or an error."""
        task.doing = 0
        if how == "error":
            self.say(f"the fork of task {task.pid} fails")
        elif how == "thread" and task.process is not self.init:
            self.thread(task)
        else:
            self.fork(task)
        if how != "error":
            entry = self.sim.tasks()[task.address]
            assert (entry.reserved_branch, entry.reserved_family) == (0, 0)

    def release(self, number, limit, depth):
        self.say(f"group {number} is released, with limit {limit}")
        assert self.sim.control(abi.OP_RELEASE, number, limit, depth)
        self.alarms[number] = 0
        for task in self.tasks:
            if task.doing == STOPPED:
                task.doing = 0  # SIGCONT; it enters the same call again

    def split(self, guilty):
        """A family of its own for a process and its living descendants; then it is forgotten again, to be let go."""
        key = guilty.key
        number = self.sim.control(abi.OP_NEW_FAMILY, self.sim.procs()[key].family, key.tgid, key.start_ns)
        moved = [p for p in self.processes if p.slots and guilty in p.ancestors()]
        self.say(f"{', '.join(str(p.key) for p in moved)} move into family {number}")
        for process in moved:
            assert self.sim.control(abi.OP_MOVE, number, process.key.tgid, process.key.start_ns)
        self.alarms[number] = 1
        self.watched[number] = True

    def one_alarm(self):
        for event in self.sim.events():
            if event.kind == abi.EVENT_ALARM:
                self.alarms[event.group] = self.alarms.get(event.group, 0) + 1
                assert self.alarms[event.group] == 1, f"a second alarm of group {event.group}"
            elif event.kind == abi.EVENT_EMPTY:
                assert self.watched[event.group]
                assert not self.true_slots().get(event.group), f"group {event.group} is not empty"
                self.watched[event.group] = False
        for number, group in self.sim.groups().items():
            assert bool(group.flags & abi.GROUP_ALARMED) == bool(self.alarms.get(number)), f"alarm of {number}"

    def true_slots(self):
        found = {}
        records = self.sim.procs()
        for process in self.processes:
            record = records.get(process.key)
            for number in {record.family, record.branch} - {0} if record else ():
                found[number] = found.get(number, 0) + process.slots
        return found


def gated_step(world: Gated, op: str, a: int, b: int) -> None:
    if op == "enter" and (task := pick(world.living(), a)):
        world.enter(task, CALLS[b % len(CALLS)])
    elif op == "leave" and (task := pick([t for t in world.tasks if t.doing == ENTERED and t.state == "alive"], a)):
        world.leave(task, ["fork", "fork", "thread", "error"][b % 4])
    elif op == "storm":  # as many at once as there are
        for task in world.living():
            world.enter(task, CALLS[b % 5])
    elif op == "calm":
        for task in [t for t in world.tasks if t.doing == ENTERED]:
            world.leave(task, ["fork", "fork", "thread", "error"][(a + task.pid) % 4])
    elif op == "harvest":
        for process in dict.fromkeys(task.process for task in world.mortal()[: a % 9]):
            world.exit_group(process, 0, delay=b % 4 != 0)
        for process in world.zombies():
            world.reap(process, delay=b % 4 != 0)
    elif op == "split" and (task := pick(world.living(), a)) and task.process is not world.init:
        world.split(task.process)
    elif op == "release" and (held := [n for n, g in world.sim.groups().items() if g.flags & abi.GROUP_HELD]):
        number = pick(sorted(held), a)
        group = world.sim.groups()[number]
        world.release(number, group.limit + b % 4, group.depth_limit + b % 3)
    elif op == "exec" and (task := pick(world.living(), a)) and task.process is not world.init:
        world.exec(task, PLAIN, b"sh", delay=b % 2 != 0)
    elif op not in ("exec", "enter", "leave", "release", "split"):
        do(world, op, a, b)


GATED = ["enter", "enter", "leave", "leave", "storm", "calm", "harvest", "kill", "reap", "free", "release", "wait", "exec"]


@settings(deadline=None, max_examples=500)
@given(run=steps(*GATED, "exit", "split", most=50), limits=st.tuples(st.integers(1, 31), st.integers(1, 31)))
def test_no_group_ever_has_more_slots_than_its_limit(run, limits):
    world = Gated(hold_at=limits[0], family_hold_at=limits[1], depth_limit=DEPTH)
    try:
        for step in run:
            gated_step(world, *step)
            books_are_consistent(world.sim)
            world.one_alarm()
            groups = world.sim.groups()
            for number, slots in world.true_slots().items():
                if slots:
                    assert slots <= groups[number].slots
                    assert slots <= groups[number].limit or slots == 1 or number <= 2, f"group {number} has {slots} slots"
        for process in [p for p in world.processes if p.living and p is not world.init and p is not world.kthreadd]:
            world.exit_group(process, 9)
        assert not any(group.inflight for group in world.sim.groups().values())
    except BaseException as exception:
        retold(world, exception)
        raise


@settings(deadline=None, max_examples=300)
@given(limit=st.integers(2, 31), rounds=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), max_size=8))
def test_the_limit_is_exact_also_when_all_fork_at_once_and_the_books_are_late(limit, rounds):
    world = Gated(hold_at=limit, family_hold_at=1 << 30, depth_limit=1 << 30)
    try:
        root = world.fork(world.init.tasks[0])
        for ends, single in [*rounds, (0, 0)]:
            for process in [p for p in world.processes if p.living and root in p.ancestors()][1 : 1 + ends]:
                world.exit_group(process, 0)
                world.reap(process)  # and not freed: the kernel side cannot know yet
            for _ in range(single):
                enter_and_fork(world, [root.tasks[0]])
            enter_and_fork(world, [t for t in world.living() if root in t.process.ancestors()])
            for number, slots in world.true_slots().items():
                assert slots <= world.sim.groups()[number].limit, f"group {number} has {slots} slots"
    except BaseException as exception:
        retold(world, exception)
        raise


def enter_and_fork(world, tasks):
    for task in tasks:
        if not task.doing:
            world.enter(task, "clone")
    for task in tasks:
        if task.doing == ENTERED:
            world.leave(task, "fork")


# -- maps that are full ------------------------------------------------------------------------------------------------

ROOM = 32


def crowd_step(world: World, op: str, a: int, b: int) -> None:
    if op == "burst" and (task := pick(world.living(), a)):
        for _ in range(b % 12):
            world.fork(task)
    elif op == "reseed":
        world.say("seed")
        world.sim.seed(world.init.tasks[0].address)
    elif op == "drain":
        for process in [p for p in world.processes if p.living and p not in (world.init, world.kthreadd)][: a % 20]:
            world.exit_group(process, 0, delay=b % 2 != 0)
        for process in world.zombies():
            world.reap(process, delay=b % 2 != 0)
        for task in world.dead():
            world.free(task)
    else:
        do(world, op, a, b)


def make_room(world: World) -> None:
    """As user space does: sweep, then give a record to whoever has none."""
    world.say("all that is dead is swept, then seed")
    for task in world.dead():
        world.free(task)
    for _ in range(5):
        world.sim.sweep(world.sim.now + 1)
    world.sim.seed(world.init.tasks[0].address)
    world.sim.settle()


def living_processes(world: World):
    return [p for p in world.processes if p.slots]


def true_family(process, records):
    """The families of its creators on record: it has to be in that of one of them, or have one of its own."""
    return {records[above.key].family for above in process.ancestors() if above.key in records}


@settings(deadline=None, max_examples=200)
@given(
    run=steps("burst", "burst", "drain", "fork", "thread", "exec", "exit", "kill", "reap", "free", "wait", "reseed"),
    seed=st.integers(0, 3),
    room=st.tuples(st.integers(ROOM, 64), st.integers(ROOM, 200), st.integers(ROOM, 400)),
)
def test_what_does_not_fit_is_counted_and_gets_its_record_later(run, seed, room):
    procs, tasks, groups = room
    sizes = {"procs": procs, "tasks": tasks, "groups": groups}
    world = World(seed=seed, sizes=sizes, flags=abi.CONFIG_HISTORY, max_records=procs)
    sim = world.sim
    try:
        world.attach()
        seen = set(sim.procs())
        for step in run:
            crowd_step(world, *step)
            sim.settle()
            books_are_consistent(sim)
            seen |= sim.procs().keys()
        known, alive, counters = sim.tasks(), world.tasks, sim.counters()
        missing = [t for t in alive if t.address not in known and t.state in ("alive", "zombie")]
        assert len(missing) <= counters.lost_tasks + counters.lost_procs
        assert sim.count("procs") <= procs
        for task in [t for t in world.tasks if t.process not in (world.init, world.kthreadd)]:
            if len(living_processes(world)) > procs // 2 and task.state == "alive":
                world.exit_group(task.process, 0)
        for process in world.zombies():
            world.reap(process)
        make_room(world)
        books_are_consistent(sim)
        records = sim.procs()
        if len(living_processes(world)) < procs * 11 // 16 and sum(p.slots for p in living_processes(world)) < tasks:
            everybody_has_a_record(world, records)
    except BaseException as exception:
        retold(world, exception)
        raise


def everybody_has_a_record(world, records):
    for process in living_processes(world):
        assert process.key in records, f"{process.key} has no record though there is room"
        record = records[process.key]
        assert (record.slots, record.live) == (process.slots, len(process.living)), f"slots and live of {process.key}"
        ancestors = [above.key for above in process.ancestors()]
        assert record.parent in [*ancestors[1:], NOBODY] or process.parent.process.key == record.parent
        if process.creator is world.init and record.family:
            assert record.family != records[world.init.key].family, f"{process.key} is in its spawner's family"
    assert world.sim.counters().hidden == 0
    for process in world.processes:
        record = records.get(process.key)
        if record and not process.living and not record.flags & abi.PROC_GUESSED:
            assert record.exit_code == process.exit_code, f"exit code of {process.key}"


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.sampled_from(["chain", "chain", "leaf", "keep", "sweep"]), min_size=80, max_size=160),
    honest=st.integers(1, 6),
    seed=st.integers(0, 3),
)
def test_a_bomb_is_folded_and_an_honest_familys_dead_stay(shape, honest, seed):
    world = World(seed=seed, sizes={"procs": 64}, flags=abi.CONFIG_HISTORY, max_records=64)
    sim, kept = world.sim, []
    try:
        world.attach()
        good, bomb = world.fork(world.init.tasks[0]), world.fork(world.init.tasks[0])
        dead = [world.fork(good.tasks[0]) for _ in range(honest)]
        for process in dead:
            end(world, process)
        born, tip = 4 + honest, bomb
        for step in shape:
            if step == "sweep":
                sim.sweep(world.sim.now - 10**9, world.sim.now)
                continue
            new, born = world.fork(tip.tasks[0]), born + 1
            if step == "chain" or len(kept) > 20:
                end(world, tip)
                tip = new
            elif step == "leaf":
                end(world, new)
            else:
                kept.append(new)
            books_are_consistent(sim)
            assert sim.count("procs") <= 64
            assert {good.key, *(process.key for process in dead)} <= sim.procs().keys()
        counters = sim.counters()
        assert counters.lost_procs == 0
        assert born == counters.records + counters.aged + counters.contracted + counters.folded + counters.folded_alive
        families = {record.family for record in (sim.procs()[p.key] for p in (bomb, *kept) if p.key in sim.procs())}
        assert len(families) <= 1
    except BaseException as exception:
        retold(world, exception)
        raise


def end(world, process):
    world.exit_group(process, 0)
    world.reap(process, delay=False)
