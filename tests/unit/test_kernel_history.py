"""The kernel side's books against the design's rules: bpf/ compiled natively and driven by random histories (tests/sim)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import Simulator
from world import BRANCH_AGE, JOB_GAP, MS, World, books_are_consistent, note_groups

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


@settings(deadline=None, max_examples=120)
@given(before=steps(*LIFE, *RARE, most=20), after=steps(*LIFE, *RARE, "sweep"), seed=st.integers(0, 3), history=st.booleans())
def test_the_history_is_what_the_rules_say(before, after, seed, history):
    world, known, seen = World(seed=seed, flags=abi.CONFIG_HISTORY * history), {}, set()
    try:
        for step in before:
            do(world, *step)
        there = sum(t.state in ("alive", "zombie") for t in world.tasks)
        assert world.attach() == there
        history_is_true(world, known)
        for step in after:
            do(world, *step)
            history_is_true(world, known)
            seen |= world.sim.procs().keys()
        counters = world.sim.counters()
        assert counters.missed_frees == world.missed
        assert (counters.adopted, counters.lost_tasks, counters.lost_procs, counters.lost_groups) == (0, 0, 0, 0)
        if seen:
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
