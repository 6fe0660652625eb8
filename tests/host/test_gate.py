"""The gate: a held family does not fork, nobody sees an error, and a release lets every fork proceed."""

from __future__ import annotations

import os
import signal

import pytest
from kit import child, our_signals, record_of, stat_of, tracking, until

from pidwarden.act import hold as holding
from pidwarden.model.record import GroupFlag

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def state(pid):
    return stat_of(pid).state


def test_a_held_fork_waits_and_then_proceeds_without_an_error():
    with tracking(gate=True) as programs, child("odd", "held-fork") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        assert programs.hold(record.family)
        odd.tell()
        until(lambda: state(odd.pid) == "T", "the fork to be held")
        assert record_of(programs, odd.pid).stops == 1
        holding.release(programs, [record.family])
        assert holding.wake(programs, programs.records()) == 1
        error, _ms = odd.said()
        assert error == 0
        assert record_of(programs, odd.pid).held_ns == 0
        odd.tell()


def test_sigcont_from_anybody_does_not_get_a_task_past_the_gate():
    with tracking(gate=True) as programs, child("odd", "held-fork") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        programs.hold(record.family)
        odd.tell()
        for stops in range(1, 20):
            until(lambda stops=stops: record_of(programs, odd.pid).stops >= stops, f"stop {stops}")
            until(lambda: state(odd.pid) == "T", "the task to be stopped")
            os.kill(odd.pid, signal.SIGCONT)
        assert record_of(programs, odd.pid).forks == 0


def test_wake_leaves_alone_whom_a_person_stopped():
    with tracking(gate=True) as programs, child("odd", "wait") as odd:
        odd.said()
        os.kill(odd.pid, signal.SIGSTOP)
        until(lambda: state(odd.pid) == "T", "the stop")
        assert holding.wake(programs, programs.records()) == 0
        assert state(odd.pid) == "T"


def test_crossing_the_threshold_holds_in_the_kernel_and_tells_once():
    with tracking(gate=True, hold_at=20) as programs, child("odd", "threads", "60") as odd:
        until(lambda: state(odd.pid) == "T", "the thread maker to be held")
        events = our_signals(programs)
        assert len(events) == 1
        record = record_of(programs, odd.pid)
        assert events[0].group == record.branch
        assert events[0].family == record.family
        assert 20 <= record.slots <= 22
        assert programs.group(record.branch).flags & GroupFlag.HELD
        assert not programs.group(record.family).held


def test_without_autohold_it_tells_and_does_not_hold():
    with tracking(gate=True, hold_at=20, autohold=False) as programs, child("odd", "threads", "60") as odd:
        odd.said()
        assert len(our_signals(programs)) == 1
        record = record_of(programs, odd.pid)
        assert record.slots == 61
        assert not programs.group(record.branch).held


def test_32_bit_entry_is_seen_while_something_is_held():
    with tracking(gate=True) as programs, child("bomb", "wait32") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        programs.hold(record.family)
        programs.watch_every_call(on=True)
        odd.tell()
        until(lambda: state(odd.pid) == "T", "the 32-bit fork to be held")
        assert record_of(programs, odd.pid).forks == 0


def test_exempt_processes_are_never_stopped():
    with tracking(gate=True) as programs, child("odd", "held-fork") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        programs.flag(record.key, 8)
        programs.hold(record.family)
        odd.tell()
        error, _ms = odd.said()
        assert error == 0
        odd.tell()


def test_a_split_family_is_held_and_the_rest_is_not():
    with tracking(gate=True) as programs, child("odd", "zombie", "5") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        new = programs.split(record.family, record.key)
        members = [r for r in programs.records() if r.family == record.family]
        assert len(members) == 6
        assert all(programs.move(r.key, new) for r in members)
        group = programs.group(new)
        assert (group.slots, group.held) == (6, True)
        assert programs.group(record.family) is None  # empty, so gone
        odd.tell()
        odd.process.wait()

        def is_empty():
            programs.seed()  # a release may have been missed
            return any(e.empty and e.group == new for e in programs.signals())

        until(is_empty, "word that it is empty")
        programs.forget(new)
        assert programs.group(new) is None
        assert programs.counters().holds == 0
