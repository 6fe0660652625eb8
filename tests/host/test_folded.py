"""A bomb that the history has no room for: counted, held, judged, killed to the last; and let go to the last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from guardkit import bomb, c_bomb, guard, members, pen
from kit import stat_of, until

from pidwarden.guard.control import ask

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLD_AT = 1400
SECOND = 1.9 * HOLD_AT  # where it is judged again, if it was in doubt

ZOMBIES = """
import os, sys
for i in range(3000):
    if os.fork() == 0:
        os._exit(0)
print("ready", flush=True)
"""


def alive():
    found = [stat_of(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return [one for one in found if one and one.state not in "ZX"]


@pytest.fixture
def config(tmp_path):
    """Room for everybody who is there, and for two thirds of a bomb."""
    path = tmp_path / "pidwarden.toml"
    path.write_text(f"max_records = {1024 + len(alive())}\nhold_at = {HOLD_AT}\nkill_timeout = 20.0\n")
    return str(path)


def test_it_is_killed_to_the_last(config):
    with guard("--config", config) as running, pen() as made, bomb(made, *c_bomb("tight")):
        killed = running.wait("killed")
        assert killed["survivors"] == 0
        assert made.peak() <= SECOND + 10
        assert not members(made)
        history = ask(running.run_dir, "status")["history"]
        assert history["folded"] > 0
        assert history["records"] <= history["max_records"] * 5 // 4  # a quarter more for who is held


def test_it_is_let_go_to_the_last(config):
    with guard("--config", config, "--mode", "hold") as running, pen(3000) as made, bomb(made, *c_bomb("tight")):
        waiting = running.wait("waiting")
        assert ask(running.run_dir, "status")["history"]["without_record"] > 0
        ask(running.run_dir, "release", str(waiting["family"]))
        until(lambda: made.peak() == 3000, "the bomb to go on")
        assert running.stop() == 0
        until(lambda: not any((s := stat_of(pid)) and s.state == "T" for pid in members(made)), "all to go on")


@pytest.mark.parametrize("orphans", [False, True], ids=["kept", "orphaned"])
def test_zombies_of_before_take_no_room_from_it(config, orphans):
    code = ZOMBIES + ("os._exit(0)" if orphans else "sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        if orphans:
            parent.wait()  # and pid 1 has not come to reap them
        Path(config).write_text("max_records = 1024\n")
        with guard("--config", config) as running, pen() as made, bomb(made, *c_bomb("tight")):
            assert running.wait("killed")["survivors"] == 0
            assert made.peak() < 600
        parent.kill()
