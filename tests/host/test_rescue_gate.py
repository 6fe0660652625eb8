"""The gate of a rescue: who is on its list does not fork by any way into the kernel, and everybody else does."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from kit import child, stat_of, until

from pidwarden.errors import PidwardenError
from pidwarden.kernel.libbpf import elements
from pidwarden.kernel.rescuegate import RescueGate
from pidwarden.model.key import TICK_NS, ProcessKey

pytestmark = [pytest.mark.root, pytest.mark.bpf]
NO_X32 = 38
WAYS = ("fork", "vfork", "clone", "clone3", "thread", "int80", "int80-clone", "int80-vfork", "x32")


@contextlib.contextmanager
def gate(tasks=10):
    up = RescueGate(tasks)
    try:
        yield up
    finally:
        up.close()


def key(pid):
    return ProcessKey(pid, stat_of(pid).start_ticks * TICK_NS)


def is_stopped(pid):
    return stat_of(pid).state == "T"


@pytest.mark.parametrize("way", WAYS)
def test_no_way_into_fork_leads_past_it(way):
    with gate() as up, child("entry", way, "2") as held, child("entry", way) as other:
        held.said()
        other.said()
        up.hold([key(held.pid)])
        other.tell()
        error, _ = other.said()
        assert error in (0, NO_X32)
        held.tell()
        if error == NO_X32:
            return
        until(lambda: is_stopped(held.pid), "the fork to be held")
        for _ in range(3):  # whoever wakes it
            os.kill(held.pid, signal.SIGCONT)
            until(lambda: is_stopped(held.pid), "the fork to be held again")
        up.close()
        os.kill(held.pid, signal.SIGCONT)
        assert held.said() == (0, 0)


def test_a_pid_that_is_somebody_elses_by_now_is_not_held():
    with gate() as up, child("entry", "fork") as other:
        other.said()
        up.hold([ProcessKey(other.pid, key(other.pid).start_ns - TICK_NS)])
        other.tell()
        assert other.said() == (0, 0)


def test_who_is_born_all_the_same_is_on_the_list():
    with gate() as up, child("entry", "fork") as held:
        held.said()
        up.hold([key(held.pid)])
        up._links.pop().destroy()  # forks pass, as one does that was under way
        held.tell()
        assert held.said() == (0, 0)
        listed = [int.from_bytes(pid, "little") for pid, _start in elements(up._held.fd, 8)]
        assert held.pid in listed
        assert len(listed) == 2


def test_a_list_that_is_full_is_said():
    with gate() as up, pytest.raises(PidwardenError, match="map held"):
        up.hold(ProcessKey(pid, 1) for pid in range(1, 10_000))
