"""The books of bpf/ against the rules of the design: compiled natively, driven by random histories (tests/sim)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import Simulator
from steps import CROWD, ENTERED, GATES, LIFE, RARE, Gated, crowd_step, gated_step, step
from world import BRANCH_AGE, JOB_GAP, SHELL, World, books_are_consistent, note_groups

from pidwarden.kernel import abi
from pidwarden.model.key import NOBODY
from pidwarden.model.record import ProcFlag

NUMBERS = st.integers(0, 40)
ROOM = 32  # elements of a small map


def steps(*ops: str, most: int = 60):
    """Short lists to shrink to, long ones to find something with."""
    one = st.tuples(st.sampled_from(ops), NUMBERS, NUMBERS)
    return st.lists(one, max_size=most) | st.lists(one, min_size=most // 2, max_size=most)


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


@settings(max_examples=200)
@given(
    before=steps(*LIFE, *RARE, most=20),
    after=steps(*LIFE, *RARE, "sweep"),
    seed=st.integers(0, 3),
    history=st.booleans(),
)
def test_the_history_is_what_the_rules_say(before, after, seed, history):
    world, known, seen = World(seed=seed, flags=abi.CONFIG_HISTORY * history), {}, set()
    try:
        for one in before:
            step(world, *one)
        there = sum(t.state in ("alive", "zombie") for t in world.tasks)
        assert world.attach() == there
        history_is_true(world, known)
        seen |= world.sim.procs().keys()
        for one in after:
            step(world, *one)
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


@settings(max_examples=250)
@given(run=steps(*GATES, most=50), limits=st.tuples(st.integers(1, 31), st.integers(1, 31)), autohold=st.booleans())
def test_no_group_ever_has_more_slots_than_its_limit_and_each_crossing_is_one_alarm(run, limits, autohold):
    """Without the automatic hold there is the alarm alone."""
    world = Gated(hold_at=limits[0], family_hold_at=limits[1], depth_limit=4, autohold=autohold)
    try:
        for one in run:
            gated_step(world, *one)
            books_are_consistent(world.sim)
            world.one_alarm()
            groups = world.sim.groups()
            for number, slots in world.true_slots().items():
                if not slots:
                    continue
                assert slots <= groups[number].slots
                if slots > max(1, groups[number].limit):
                    assert not autohold, f"group {number} has {slots} slots"
                    assert world.alarms[number]
        for process in [p for p in world.processes if p.living and p is not world.init and p is not world.kthreadd]:
            world.exit_group(process, 9)
        assert not any(group.inflight for group in world.sim.groups().values())
    except BaseException as exception:
        retold(world, exception)
        raise


@settings(max_examples=150)
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


@settings(max_examples=100)
@given(
    run=steps(*CROWD),
    seed=st.integers(0, 3),
    room=st.tuples(st.integers(ROOM, 40), st.integers(ROOM, 200), st.integers(ROOM, 400)),
)
def test_what_does_not_fit_is_counted_and_gets_its_record_later(run, seed, room):
    procs, tasks, groups = room
    sizes = {"procs": procs, "tasks": tasks, "groups": groups}
    world = World(seed=seed, sizes=sizes, flags=abi.CONFIG_HISTORY, max_records=procs)
    sim = world.sim
    try:
        world.attach()
        seen = set(sim.procs())
        for one in run:
            crowd_step(world, *one)
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


@settings(max_examples=40)
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
        for what in shape:
            if what == "sweep":
                sim.sweep(world.sim.now - 10**9, world.sim.now)
                continue
            new, born = world.fork(tip.tasks[0]), born + 1
            if what == "chain" or len(kept) > 20:
                end(world, tip)
                tip = new
            elif what == "leaf":
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


@settings(max_examples=40)
@given(parts=st.lists(st.integers(0, 4), max_size=12), seed=st.integers(0, 3))
def test_a_service_that_goes_on_as_its_own_child_is_a_few_records_and_knows_how_many_it_was(parts, seed):
    world, known = World(seed=seed, flags=abi.CONFIG_HISTORY), {}
    try:
        world.attach()
        founder = tip = world.fork(world.init.tasks[0])
        for generations in parts:
            for _ in range(generations):
                child = world.fork(tip.tasks[0])
                end(world, tip)
                tip = child
            world.sim.sweep(world.sim.now + 1)
            history_is_true(world, known)
            records = world.sim.procs()
            key, passed = tip.key, 0
            while key != founder.key:
                key, passed = records[key].parent, passed + 1 + records[key].skipped
            assert passed == len(tip.ancestors()) - len(founder.ancestors())
            assert len(records) <= 5  # init, the father of kernel threads, the founder, and the tip
    except BaseException as exception:
        retold(world, exception)
        raise


@settings(max_examples=40)
@given(gaps=st.lists(st.sampled_from([1, JOB_GAP - 2, JOB_GAP - 1, JOB_GAP, BRANCH_AGE]), max_size=8), on=st.booleans())
def test_what_a_shell_starts_within_the_gap_is_one_job(gaps, on):
    world, known = World(), {}
    world.attach()
    shell = world.fork(world.init.tasks[0])
    world.exec(shell.tasks[0], SHELL, b"bash")
    world.terminal(shell, on=on)
    for gap in gaps:
        world.tick(gap)
        world.fork(shell.tasks[0])
        history_is_true(world, known)
