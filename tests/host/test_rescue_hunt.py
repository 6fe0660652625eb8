"""Pidfds of a rescue: whom they mean is known from a look after they were opened, and they tell who has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest
from kit import stat_of, until

from pidwarden.rescue.hunt import Hunt
from pidwarden.rescue.sparing import DEFAULTS, Sparing
from pidwarden.rescue.table import Table


class Gate:
    """Holds nobody."""

    def hold(self, _members):
        pass


@pytest.fixture
def pair():
    """Two processes that sleep, and the table."""
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(subprocess.Popen(["sleep", "1000"])) for _ in range(2)]
        for one in both:
            stack.callback(one.kill)
        until(lambda: all(stat_of(one.pid).comm == b"sleep" for one in both), "them to run")
        table = Table()
        stack.callback(table.close)
        yield both, table, {p.pid: p for p in table.read()}


def hunt(table, *members):
    return Hunt(table, members, Sparing(DEFAULTS))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_pid_that_is_somebody_elses_by_now_is_not_killed(pair):
    (one, other), table, procs = pair
    before = descriptors()
    mine, stale = procs[one.pid], procs[other.pid]._replace(start_ticks=procs[other.pid].start_ticks - 1)
    chase = hunt(table, mine, stale)
    assert chase.hold(Gate(), and_kill=True) == 1
    assert list(chase._pidfds) == [mine.key]
    assert not chase._taken
    done = chase.kill(held=True)
    assert (done.killed, done.left) == (1, ())
    assert one.wait() == -signal.SIGKILL
    assert other.poll() is None
    assert not chase.signal(stale, signal.SIGKILL)
    assert descriptors() == before


def test_who_is_dying_is_not_read_again_but_told_by_his_pidfd(pair):
    (one, other), table, procs = pair
    chase = hunt(table, procs[one.pid], procs[other.pid])
    chase.hold(Gate(), and_kill=True)
    for p in chase.living:
        chase._dying[p.pid] = p
    assert {p.pid for p in chase.look()} == {one.pid, other.pid}  # neither was signalled
    one.kill()
    until(lambda: stat_of(one.pid).state == "Z", "the zombie")
    assert {p.pid for p in chase.look()} == {other.pid}
    assert chase.zombies == 1
    one.wait()
    assert {p.pid for p in chase.look()} == {other.pid}
    assert chase.zombies == 0
    chase.kill()


def test_without_room_for_pidfds_it_goes_on_one_by_one(pair):
    (one, other), table, procs = pair
    chase = hunt(table, procs[one.pid], procs[other.pid])
    chase._most_pidfds = 1
    chase.hold(Gate(), and_kill=True)
    assert len(chase._pidfds) == 1
    done = chase.kill(held=True)
    assert (done.killed, done.left) == (2, ())
    assert {one.wait(), other.wait()} == {-signal.SIGKILL}


def test_a_line_that_changed_is_taken_apart_again(pair):
    (one, other), table, procs = pair
    os.kill(one.pid, signal.SIGSTOP)
    until(lambda: stat_of(one.pid).state == "T", "it to stop")
    again = {p.pid: p for p in table.read()}
    assert (procs[one.pid].state, again[one.pid].state) == ("S", "T")
    assert again[one.pid].exe == procs[one.pid].exe != ""
    assert again[other.pid] is procs[other.pid]
