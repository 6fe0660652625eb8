"""Scope at every gate: of one family only the tasks of a chosen user, or in a chosen cgroup, are counted and held."""

from __future__ import annotations

import contextlib
import os

import pytest
from guardkit import bomb, c_bomb, members, pen
from kit import child, record_of, stat_of, tracking, until

from pidwarden.kernel import cgroup
from pidwarden.model.record import ProcFlag

pytestmark = [pytest.mark.root, pytest.mark.bpf]

NOBODY = 65534
LIMIT = 60


def become_nobody():
    os.setresuid(NOBODY, NOBODY, NOBODY)


def state(pid):
    return stat_of(pid).state


def told(process):
    process.said()
    return process


@contextlib.contextmanager
def two(programs, enter):
    """One in scope by what `enter` does, one not; both of this test's own family."""
    with child("entry", "fork", enter=enter) as inside, child("entry", "fork") as outside:
        for one in (inside, outside):
            one.said()
        records = [until(lambda pid=one.pid: record_of(programs, pid), "a record") for one in (inside, outside)]
        assert records[0].family == records[1].family == record_of(programs, os.getpid()).family
        assert [bool(r.flags & ProcFlag.OUTSIDE) for r in records] == [False, True]
        yield inside, outside


def only_the_first_is_held(programs, inside, outside):
    family = record_of(programs, inside.pid).family
    programs.seed()  # who became somebody else after its birth
    before = programs.group(family)
    assert before.counted == 1
    assert programs.hold(family)
    for one in (inside, outside):
        one.tell()
    assert outside.said() == (0, 0)
    until(lambda: state(inside.pid) == "T", "the fork to be held")
    assert [record_of(programs, one.pid).stops for one in (inside, outside)] == [1, 0]
    assert programs.group(family).inflight == 0


def test_of_a_user(gate):
    with (
        tracking(gate=gate, only=(), uids=(NOBODY,)) as programs,
        two(programs, become_nobody) as (inside, outside),
    ):
        only_the_first_is_held(programs, inside, outside)


def test_of_a_cgroup(gate):
    with pen() as made:
        inner = cgroup.identities(f"/{made.name}")
        assert inner
        with (
            tracking(gate=gate, only=(), cgroups=tuple(inner)) as programs,
            two(programs, made.enter) as (inside, outside),
        ):
            only_the_first_is_held(programs, inside, outside)


def test_in_a_cgroup_below_the_chosen_one(gate):
    with pen() as made, contextlib.ExitStack() as stack:
        below = [f"{directory}/below" for directory in made.directories]
        for directory in below:
            os.mkdir(directory)
            stack.callback(os.rmdir, directory)

        def enter():
            for directory in below:
                with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write("0")

        chosen = tuple(cgroup.identities(f"/{made.name}"))
        with (
            tracking(gate=gate, only=(), cgroups=chosen) as programs,
            child("entry", "fork", enter=enter) as inside,
        ):
            told(inside)
            record = until(lambda: record_of(programs, inside.pid), "a record")
            programs.hold(record.family)
            inside.tell()
            until(lambda: state(inside.pid) == "T", "the fork to be held")


def test_the_limit_is_that_of_those_in_scope_beside_many_who_are_not(gate):
    """Of the same family: some hundred that do not count, and a bomb that may have 60."""
    with pen() as made, pen() as other:
        chosen = tuple(cgroup.identities(f"/{made.name}"))
        with (
            tracking(gate=gate, only=(), cgroups=chosen, hold_at=LIMIT, family_hold_at=LIMIT) as programs,
            child("crowd", "100", enter=other.enter) as crowd,
        ):
            crowd.said()
            assert not list(programs.signals())
            with bomb(made, *c_bomb("tight")):
                alarm = until(lambda: [s for s in programs.signals() if s.group], "the alarm")[0]
                until(lambda: {state(pid) for pid in members(made)} == {"T"}, "everybody to be stopped")
                group = programs.group(alarm.group)
                # The first is born outside and goes in: it counts from the next walk on.
                assert LIMIT <= made.peak() <= LIMIT + 1
                assert group.held
                assert group.counted == LIMIT
                assert state(crowd.pid) == "S"
            crowd.tell()


def test_a_walk_finds_who_has_changed(gate):
    with (
        tracking(gate=gate, only=(), uids=(NOBODY,)) as programs,
        child("entry", "fork", enter=become_nobody) as process,
    ):
        told(process)
        family = record_of(programs, process.pid).family
        assert programs.group(family).counted == 0  # when it was forked it was ours
        programs.seed()
        assert programs.group(family).counted == 1
