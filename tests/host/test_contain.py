"""Real bombs in a pen, a guard as shipped: held, judged, killed, proven gone, and the neighbours spared."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from guardkit import bomb, c_bomb, guard, leftovers, members, pen
from kit import prop, until

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLD_AT = 300
C_SHAPES = ["tight", "setsid", "chain", "zombies", "threads", "vfork", "parent", "clone3", "signals", "int80"]


def reap_our_own():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.mark.parametrize("shape", C_SHAPES)
def test_every_shape_in_c_is_contained(shape):
    with guard() as running, pen() as made, bomb(made, *c_bomb(shape)) as root:
        killed = running.wait("killed")
        assert made.peak() <= (4 if shape == "threads" else 2) * HOLD_AT  # docs/adr/0011
        assert killed["survivors"] == 0
        assert killed["killed"] >= 1
        until(lambda: not members(made), "the pen to be empty")
        verdict = running.events("verdict")[-1]
        assert verdict["verdict"] == "bomb"
        assert verdict["guilty"]["pid"] == root.pid
        assert verdict["reasons"]
        root.wait()
        reap_our_own()  # with CLONE_PARENT they are ours
        running.wait("cleared")
        assert running.stop() == 0
        assert running.events()[-1]["event"] == "stopped"
        assert leftovers(running.run_dir) == []


def test_the_bomb_dies_and_its_young_parent_and_siblings_live():
    """The script is as young as the bomb: the branch holds both, the judge must tell them apart."""
    script = f"""
import os, subprocess, sys, time
sleeper = subprocess.Popen(["sleep", "1000"])
pipeline = subprocess.Popen("while :; do echo x; sleep 0.1; done | cat >/dev/null", shell=True)
def enter():
    for path in sys.argv[1:]:
        open(path, "w").write("0")
bomb = subprocess.Popen(["{prop("bomb")}", "tight"], preexec_fn=enter)
print(sleeper.pid, pipeline.pid, bomb.pid, flush=True)
sys.stdin.readline()
bomb.wait()
assert sleeper.poll() is None and pipeline.poll() is None
print("alive", flush=True)
sys.stdin.readline()
"""
    with guard() as running, pen() as made:
        command = [sys.executable, "-c", script, *made.entrances]
        stage = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            sleeper, pipeline, root = map(int, stage.stdout.readline().split())
            killed = running.wait("killed")
            verdict = running.events("verdict")[0]
            assert verdict["guilty"]["pid"] == root
            assert verdict["spared"] >= 3
            assert killed["survivors"] == 0
            stage.stdin.write("\n")
            stage.stdin.flush()
            assert stage.stdout.readline() == "alive\n"
            assert sleeper != pipeline
        finally:
            os.killpg(stage.pid, signal.SIGKILL)
            made.kill()
            stage.wait()
            stage.stdin.close()
            stage.stdout.close()


def test_a_hundred_innocent_programs_are_neither_held_nor_killed():
    with guard() as running:
        processes = [subprocess.Popen(["sleep", "100"]) for _ in range(100)]
        for process in processes:
            assert process.poll() is None
            process.kill()
            process.wait()
        assert running.stop() == 0
        assert [e["event"] for e in running.events() if e["event"] != "note"] == ["ready", "stopped"]


def test_a_burst_of_programs_is_released_and_everyone_lives(tmp_path):
    """Four hundred programs started at once by one young parent: held for a moment, then judged a burst."""
    config = tmp_path / "pidwarden.toml"
    config.write_text("branch_age = 60\n")  # young for as long as a slow machine takes to start them
    starter = """
import subprocess, sys
sleepers = [subprocess.Popen(["sleep", "100"]) for _ in range(400)]
print(len(sleepers), flush=True)
sys.stdin.read()
for sleeper in sleepers:
    sleeper.kill()
"""
    with guard("--config", str(config)) as running:
        stage = subprocess.Popen(
            [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert stage.stdout.readline() == "400\n"
            assert running.events("verdict")[0]["verdict"] == "burst"
            assert running.events("released")
            assert not running.events("killed")
        finally:
            stage.communicate()
