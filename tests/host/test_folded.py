"""A bomb that the history has no room for: counted, held, judged, killed to the last; and let go to the last."""

from __future__ import annotations

import os

import pytest
from guardkit import bomb, c_bomb, guard, members, pen
from kit import until

from pidwarden.guard.control import ask
from pidwarden.kernel import procfs

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLD_AT = 1400


def everybody():
    return [s for name in os.listdir("/proc") if name.isdecimal() and (s := procfs.stat(int(name)))]


def of_a_bomb_before(one):
    return one.state in "ZX" or one.comm == b"bomb"


@pytest.fixture
def config(tmp_path):
    """Room for everybody who is there, and for two thirds of a bomb; nobody who is dead is there any more."""
    until(lambda: not any(map(of_a_bomb_before, everybody())), "the bombs before this one to be reaped", 60)
    records = 1024 + len(everybody())
    path = tmp_path / "pidwarden.toml"
    path.write_text(f"max_records = {records}\nhold_at = {HOLD_AT}\nkill_timeout = 20.0\n")
    return str(path)


def test_it_is_killed_to_the_last(config):
    with guard("--config", config) as running, pen() as made, bomb(made, *c_bomb("tight")):
        killed = running.wait("killed")
        assert killed["survivors"] == 0
        assert made.peak() <= HOLD_AT + 10
        assert not members(made)
        history = ask(running.run_dir, "status")["history"]
        assert history["folded"] > 0
        assert history["records"] <= history["max_records"]


def test_it_is_let_go_to_the_last(config):
    with guard("--config", config, "--mode", "hold") as running, pen(2000) as made, bomb(made, *c_bomb("tight")):
        waiting = running.wait("waiting")
        assert ask(running.run_dir, "status")["history"]["without_record"] > 0
        ask(running.run_dir, "release", str(waiting["family"]))
        until(lambda: made.peak() == 2000, "the bomb to go on")
        assert running.stop() == 0
        until(lambda: not any((s := procfs.stat(pid)) and s.state == "T" for pid in members(made)), "all to go on")
