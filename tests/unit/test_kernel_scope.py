"""Scope in the kernel: whose slots count and who is held, by user and by cgroup (bpf/scope.h, compiled natively)."""

from __future__ import annotations

from signal import SIGSTOP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import CGROUP_IDS, HOOKS, INMOST, INNER, OTHER, ROOT, V1_HIERARCHY, Simulator
from steps import LIFE, RARE, step
from world import World, books_are_consistent

from pidwarden.kernel import abi

ALICE, BOB, CAROL = 1000, 1001, 1002
ONLY = abi.CONFIG_ONLY | abi.CONFIG_AUTOHOLD
NUMBERS = st.integers(0, 40)


class Machine(Simulator):
    """Init, its child with pid 10, and everybody that forks from there."""

    def __init__(self, **config):
        super().__init__(branch_age_ns=1 << 60, **{"flags": ONLY} | config)
        self.pids = iter(range(11, 4000))
        self.first = self.fork(self.fork(self.init, 1, 8), 10, 8)
        self.seed(self.first)

    def forks(self, task):
        self.now += 1
        return self.fork(task, next(self.pids))

    def family(self):
        (family,) = [g for g in self.groups().values() if g.kind == abi.FAMILY and g.founder.tgid == 10]
        return family

    def is_outside(self, task):
        return bool(self.tasks()[task].flags & abi.TASK_OUTSIDE)


def test_without_scope_everybody_counts():
    machine = Machine(flags=abi.CONFIG_AUTOHOLD)
    assert not machine.is_outside(machine.forks(machine.first))
    assert machine.family().outside == 0


def test_only_the_chosen_users_slots_count_and_only_he_is_held():
    machine = Machine(uids=(ALICE,), family_hold_at=3)
    machine.setuid(machine.first, BOB)
    for _ in range(10):
        machine.forks(machine.first)
    assert (machine.family().slots, machine.family().outside) == (11, 11)
    assert not machine.events()
    mine = machine.forks(machine.first)
    machine.setuid(mine, ALICE)  # born as somebody else
    assert machine.is_outside(mine)
    for left in (3, 2, 1):
        assert machine.gate(mine) == 0, f"{left} left"
        assert not machine.is_outside(machine.forks(mine))
    assert machine.gate(mine) == SIGSTOP
    assert [e.kind for e in machine.events()] == [abi.EVENT_ALARM]
    assert machine.family().flags & abi.GROUP_HELD
    assert machine.gate(machine.first) == 0  # the same family, another user


@pytest.mark.parametrize("hook", HOOKS)
def test_the_hooks_know_scope_as_well(hook):
    machine = Machine(uids=(ALICE,), family_hold_at=1)
    machine.setuid(machine.first, ALICE)
    child = machine.forks(machine.first)
    machine.control(abi.OP_HOLD, machine.family().id)
    assert machine.gate(child, hook) == SIGSTOP
    machine.setuid(child, BOB)
    assert (machine.gate(child, hook), machine.answer()) == (0, 0)
    books_are_consistent(machine)


def test_a_setuid_program_is_still_its_users():
    machine = Machine(uids=(ALICE,))
    child = machine.forks(machine.first)
    for uid, euid, outside in ((ALICE, 0, False), (0, ALICE, False), (0, 0, True)):
        machine.setuid(child, uid)
        machine.seteuid(child, euid)
        assert machine.is_outside(machine.forks(child)) is outside


def test_whoever_is_in_a_user_namespace_that_he_made_is_his():
    machine = Machine(uids=(ALICE,))
    child = machine.forks(machine.first)
    machine.setuid(child, 100_000)
    assert machine.is_outside(machine.forks(child))
    machine.user_namespace(child, ALICE)
    assert not machine.is_outside(machine.forks(child))
    machine.user_namespace(child, BOB)
    assert machine.is_outside(machine.forks(child))


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize(
    ("chosen", "inside", "without"),
    [
        (ROOT, [ROOT, INNER, INMOST, OTHER], []),
        (INNER, [INNER, INMOST], [ROOT, OTHER]),
        (INMOST, [INMOST], [ROOT, INNER, OTHER]),
        (OTHER, [OTHER], [ROOT, INNER, INMOST]),
    ],
)
def test_a_cgroup_and_those_below_it(v1, chosen, inside, without):
    machine = Machine(cgroups=(CGROUP_IDS[chosen],), hierarchies=(V1_HIERARCHY * v1,))
    for place in (*inside, *without):
        machine.cgroup(machine.first, place, v1=v1)
        machine.cgroup(machine.first, ROOT if chosen != ROOT else INMOST, v1=not v1)
        assert machine.is_outside(machine.forks(machine.first)) is (place in without), place


def test_the_same_number_in_another_hierarchy_is_another_cgroup():
    machine = Machine(cgroups=(CGROUP_IDS[INNER],), hierarchies=(V1_HIERARCHY,))
    machine.cgroup(machine.first, INNER, v1=False)
    assert machine.is_outside(machine.forks(machine.first))


def test_several_users_and_cgroups_are_as_many_scopes():
    machine = Machine(uids=(ALICE, BOB), cgroups=(CGROUP_IDS[OTHER], CGROUP_IDS[INNER]), hierarchies=(0, V1_HIERARCHY))
    for uid, place, v1, outside in (
        (ALICE, ROOT, True, False), (BOB, ROOT, True, False), (CAROL, ROOT, True, True), (CAROL, INMOST, True, False),
        (CAROL, INMOST, False, True), (CAROL, OTHER, False, False),
    ):  # fmt: skip
        machine.setuid(machine.first, uid)
        machine.cgroup(machine.first, ROOT, v1=not v1)
        machine.cgroup(machine.first, place, v1=v1)
        assert machine.is_outside(machine.forks(machine.first)) is outside


def test_a_chosen_processs_families_are_in_scope_whoever_they_are():
    machine = Machine(uids=(ALICE,), only=(10,))
    machine.forks(machine.first)
    scoped = Machine(uids=(ALICE,))
    scoped.control(abi.OP_FLAG, abi.PROC_SPAWNER | abi.PROC_SCOPE, 10, scoped.family().founder.start_ns)
    child = scoped.forks(scoped.first)
    assert not scoped.is_outside(child)
    assert not scoped.is_outside(scoped.forks(child))


def test_split_off_they_take_with_them_what_does_not_count():
    machine = Machine(uids=(ALICE,))
    machine.setuid(machine.first, ALICE)
    children = [machine.forks(machine.first) for _ in range(4)]
    machine.setuid(machine.first, BOB)
    children += [machine.forks(machine.first) for _ in range(3)]
    family, founder = machine.family(), machine.tasks()[children[0]].key
    new = machine.control(abi.OP_NEW_FAMILY, family.id, founder.tgid, founder.start_ns)
    for child in children:
        key = machine.tasks()[child].key
        assert machine.control(abi.OP_MOVE, new, key.tgid, key.start_ns)
    assert (machine.groups()[new].slots, machine.groups()[new].outside) == (7, 3)
    assert (machine.family().slots, machine.family().outside) == (1, 1)
    books_are_consistent(machine)


@settings(max_examples=150)
@given(
    what=st.lists(
        st.tuples(st.sampled_from([*LIFE, *RARE, "setuid", "setuid", "reseed", "sweep"]), NUMBERS, NUMBERS), max_size=60
    ),
    seed=st.integers(0, 3),
)
def test_the_books_are_even_and_a_walk_knows_who_changed(what, seed):
    """Users 1 and 2 are in scope; everybody may become somebody else at any time."""
    world = World(seed=seed, flags=abi.CONFIG_ONLY, uids=(1, 2))
    world.attach()
    try:
        for op, a, b in what:
            if op == "reseed":
                world.sim.seed(world.init.tasks[0].address)
            else:
                step(world, op, a, b % 4 if op == "setuid" else b)
            books_are_consistent(world.sim)
        world.sim.seed(world.init.tasks[0].address)
    except BaseException as why:
        why.add_note("\n".join(world.log))
        raise
    tasks = world.sim.tasks()
    for task in world.living():
        assert bool(tasks[task.address].flags & abi.TASK_OUTSIDE) is (task.process.uid not in (1, 2))
    books_are_consistent(world.sim)
