"""The least that a kernel must do: load, attach, know a family, hold a bomb in a pen, kill it, and be left as it was."""

from __future__ import annotations

import os

import pytest
from guardkit import bomb, c_bomb, leftovers, members, pen
from kit import child, record_of, tracking, until
from scene import guard

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def test_it_loads_and_knows_who_forked(record_property):
    record_property("kernel", os.uname().release)
    with tracking(gate=True) as programs, child("odd", "zombie", "5") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        assert record.forks == 5
        assert programs.counters().lost_tasks == 0


@pytest.mark.parametrize("shape", ["tight", "int80", "threads"])
def test_a_bomb_is_contained(shape, record_property):
    with guard() as running, pen() as made, bomb(made, *c_bomb(shape)):
        killed = running.wait("killed", seconds=60)
        assert killed["survivors"] == 0
        until(lambda: not members(made), "the pen to be empty")
        record_property("gate", running.events("ready")[0]["capabilities"]["hold"])
        record_property("peak slots", made.peak())
        assert running.stop() == 0
        assert leftovers(running.run_dir) == []
