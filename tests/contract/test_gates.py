"""What every gate promises: a held family does not fork, its limit is exact, nobody sees an error."""

from __future__ import annotations

import contextlib
import errno
import os
import signal

import pytest
from guardkit import bomb, c_bomb, members, pen
from kit import child, our_signals, record_of, stat_of, tracking, until

from pidwarden.act import hold as holding
from pidwarden.kernel.gates import in_use

pytestmark = [pytest.mark.root, pytest.mark.bpf]

WAYS = ["fork", "vfork", "clone", "clone3", "thread"]
OTHER_ABIS = ["int80", "int80-clone", "int80-vfork", "x32"]
SHAPES = ["tight", "setsid", "vfork", "parent", "clone3", "threads"]
AWAKE = ["woken", "timers"]  # bombs whose members do not let each other sleep
LIMIT = 60


def limited(gate):
    """One limit for all: a slow machine's bomb is soon so old that it founds branches with their own budgets."""
    return tracking(gate=gate, hold_at=LIMIT, family_hold_at=LIMIT)


def state(pid):
    stat = stat_of(pid)
    return stat.state if stat else ""


def known(programs, pid):
    return until(lambda: record_of(programs, pid), "a record")


def no_x32(way, error):
    return way == "x32" and error == errno.ENOSYS


@pytest.mark.parametrize("way", [*WAYS, *OTHER_ABIS])
def test_no_way_into_fork_leads_past_it_and_a_release_lets_it_proceed(gate, way):
    with tracking(gate=gate) as programs, child("entry", way, "2") as entry:
        assert in_use(programs).key == gate
        entry.said()
        entry.tell()
        if no_x32(way, entry.said()[0]):
            pytest.skip("this kernel has no x32")
        record = known(programs, entry.pid)
        forks = programs.counters().forks, record.forks
        assert programs.hold(record.family)
        in_use(programs).tighten(programs, on=True)
        entry.tell()
        until(lambda: state(entry.pid) == "T", "the fork to be held")
        programs.settle()  # who was reaped is no slot
        held = record_of(programs, entry.pid)
        assert (held.stops, held.forks, held.slots) == (1, forks[1], 1)
        assert held.held_ns
        holding.release(programs, [record.family])
        assert holding.wake(programs, programs.records()) == 1
        assert entry.said() == (0, 0)
        assert programs.counters().forks > forks[0]
        family = programs.group(record.family)
        assert (family.inflight, record_of(programs, entry.pid).held_ns) == (0, 0)
        entry.tell()


@pytest.mark.parametrize("way", WAYS)
def test_sigcont_from_another_changes_nothing(gate, way):
    with tracking(gate=gate) as programs, child("entry", way) as entry:
        entry.said()
        record = known(programs, entry.pid)
        programs.hold(record.family)
        entry.tell()
        for stops in range(1, 40):
            until(lambda stops=stops: record_of(programs, entry.pid).stops >= stops, f"stop {stops}")
            until(lambda: state(entry.pid) == "T", "the task to be stopped")
            os.kill(entry.pid, signal.SIGCONT)
        now = record_of(programs, entry.pid)
        assert (now.forks, now.slots) == (0, 1)


def still(made):
    """Nobody runs; a vfork's parent waits for its child, which is stopped."""
    return {state(pid) for pid in members(made)} <= set("TD")


def is_settled(programs, alarm, made):
    """Nobody runs, and nobody sleeps in the middle of a fork, which may yet begin again, with a slot less meanwhile."""
    return not programs.group(alarm.family).inflight and still(made) and programs.group(alarm.group).stops


@pytest.mark.parametrize("shape", SHAPES)
def test_the_limit_is_exact(gate, shape, record_property):
    with limited(gate) as programs, pen(600) as made, bomb(made, *c_bomb(shape)) as root:
        signal_ = until(lambda: our_signals(programs), "the alarm")[0]
        until(lambda: is_settled(programs, signal_, made), "everybody to be stopped")
        record_property("peak", made.peak())
        assert made.current() == LIMIT
        assert made.peak() == LIMIT
        family = programs.group(signal_.family)  # a slow machine's bomb has several branches
        assert (family.slots, family.peak, family.inflight) == (LIMIT, LIMIT, 0)
        if shape != "parent":  # those are children of this test
            assert signal_.by.tgid == root.pid or programs.record(signal_.by).family == family.id


def test_whoever_wakes_others_before_it_is_held_is_held_as_well(hook):
    with limited(hook) as programs, pen(600) as made, bomb(made, *c_bomb("signals")):
        alarm = until(lambda: our_signals(programs), "the alarm")[0]
        until(lambda: programs.group(alarm.group).stops and still(made), "everybody to be stopped")
        assert made.current() == LIMIT
        assert made.peak() == LIMIT


@pytest.mark.parametrize("shape", ["int80", "x32"])
def test_calls_of_another_abi_have_the_same_limit(hook, shape):
    with child("entry", shape) as entry:
        entry.said()
        entry.tell()
        if no_x32(shape, entry.said()[0]):
            pytest.skip("this kernel has no x32")
    with limited(hook) as programs, pen(600) as made, bomb(made, *c_bomb(shape)):
        until(lambda: our_signals(programs), "the alarm")
        until(lambda: still(made), "everybody to be stopped")
        assert made.current() == LIMIT
        assert made.peak() == LIMIT


@pytest.mark.parametrize("shape", AWAKE)
def test_members_that_wake_each_other_stay_held(hook, shape, record_property):
    with limited(hook) as programs, pen(600) as made, bomb(made, *c_bomb(shape)):
        alarm = until(lambda: our_signals(programs), "the alarm")[0]
        until(lambda: programs.group(alarm.group).stops > 5000, "thousands of tries", 60.0)
        record_property("tries", programs.group(alarm.group).stops)
        until(lambda: made.current() >= LIMIT, "those that were under way")
        assert made.current() == LIMIT
        assert made.peak() == LIMIT


def test_a_held_bomb_burns_no_processor_time(gate):
    with limited(gate) as programs, pen(600) as made, bomb(made, *c_bomb("tight")):
        alarm = until(lambda: our_signals(programs), "the alarm")[0]
        until(lambda: still(made), "everybody to be stopped")
        before = programs.group(alarm.group)
        with child("odd", "wait") as bystander:  # somebody else's life goes on
            bystander.said()
        after = programs.group(alarm.group)
        assert (after.asks, after.stops) == (before.asks, before.stops)


def test_a_worker_that_the_kernel_makes_is_not_held(gate):
    with tracking(gate=gate) as programs, child("entry", "worker") as entry:
        entry.said()
        record = known(programs, entry.pid)
        programs.hold(record.family)
        entry.tell()
        error, _ = entry.said()
        if error in (errno.ENOSYS, errno.EPERM):
            pytest.skip("no io_uring here")
        assert error == 0
        until(lambda: len(os.listdir(f"/proc/{entry.pid}/task")) > 1, "the worker")
        assert record_of(programs, entry.pid).stops == 0
        assert programs.group(record.family).inflight == 0


@contextlib.contextmanager
def failing_forks(programs, count):
    """So many tasks with a fork behind them that failed because their cgroup was full. It has room again."""
    with pen(count + 1) as made, child("failing", str(count), enter=made.enter) as failing:
        assert failing.said() == (failing.pid, count)
        with open(f"{made._pids}/pids.max", "w", encoding="ascii") as file:
            file.write(str(10 * count))
        yield failing, record_of(programs, failing.pid)


def test_a_fork_that_fails_gives_its_slot_back(gate):
    with tracking(gate=gate) as programs, failing_forks(programs, 40) as (_failing, record):
        programs.settle()  # at system call entry nobody says that a fork has failed: it is looked for
        assert programs.group(record.branch).slots == 41
        assert programs.group(record.branch).inflight == 0
        assert programs.group(record.family).inflight == 0


def test_failed_forks_raise_no_alarm_also_before_anybody_looks(gate):
    """One more fork, which is over the limit if what failed is counted."""
    with (
        tracking(gate=gate, hold_at=81, family_hold_at=81) as programs,
        failing_forks(programs, 40) as (failing, _record),
    ):
        failing.tell()
        assert failing.said() == (0, 0)
        assert not our_signals(programs)


def test_fatal_signals_end_a_held_task(gate):
    with tracking(gate=gate) as programs, child("entry", "fork") as entry:
        entry.said()
        record = known(programs, entry.pid)
        programs.hold(record.family)
        entry.tell()
        until(lambda: state(entry.pid) == "T", "the fork to be held")
        entry.process.kill()
        assert entry.process.wait() == -signal.SIGKILL
        assert record.forks == 0


def test_a_held_fork_is_restarted_around_a_handler(gate):
    """A signal that is handled interrupts no fork: its caller sees no error afterwards either."""
    with tracking(gate=gate) as programs, child("odd", "handler-fork") as odd:
        odd.said()
        record = known(programs, odd.pid)
        programs.hold(record.family)
        odd.tell()
        until(lambda: state(odd.pid) == "T", "the fork to be held")
        os.kill(odd.pid, signal.SIGUSR1)
        holding.release(programs, [record.family])
        holding.wake(programs, programs.records())
        assert odd.said() == (0, 1)  # no error, and the handler has run
        odd.tell()


def test_the_verifier_is_done_soon(gate):
    """Its work on one program; it gives up after a million."""
    with tracking(gate=gate):
        found = []
        for name in os.listdir("/proc/self/fdinfo"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/self/fdinfo/{name}", encoding="ascii") as file:
                found += [int(line.split()[1]) for line in file if line.startswith("verified_insns:")]
    if not found:
        pytest.skip("this kernel does not say")
    assert max(found) < 100_000
