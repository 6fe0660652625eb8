"""The least that a kernel must do: load, attach, know a family, hold a bomb in a pen, kill it, be left as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from guardkit import bomb, c_bomb, leftovers, members, pen
from kit import child, record_of, tracking, until
from scene import guard

pytestmark = [pytest.mark.root]

_LOAD = "from pidwarden.kernel.bpf import Programs; Programs.load(max_records=1024)"


def test_what_this_kernel_has(record_property):
    """What `pidwarden doctor` finds; never a failure, but where nothing loads libbpf's own words are kept."""
    record_property("kernel", os.uname().release)
    done = subprocess.run([sys.executable, "-m", "pidwarden", "doctor", "--json"], capture_output=True, check=False)
    found = json.loads(done.stdout)
    record_property("can hold", found["can_hold"])
    for capability in found["capabilities"]:
        for way in capability["better"]:
            record_property(f"not {way['way']}", way["reason"])
    if not found["can_hold"]:
        loud = os.environ | {"PIDWARDEN_DEBUG": "1"}
        said = subprocess.run([sys.executable, "-c", _LOAD], env=loud, capture_output=True, text=True, check=False)
        record_property("libbpf", said.stderr.splitlines()[-80:])


@pytest.mark.bpf
def test_it_loads_and_knows_who_forked():
    with tracking(gate=True) as programs, child("odd", "zombie", "5") as odd:
        odd.said()
        record = until(lambda: record_of(programs, odd.pid), "a record")
        assert record.forks == 5
        assert programs.counters().lost_tasks == 0


@pytest.mark.bpf
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
