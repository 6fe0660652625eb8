"""The guard over every gate: it says which it is, the gate outlives it, its successor knows it; refusing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest
from gatekit import BY_KEY, why_not
from guardkit import GuardProcess, bomb, c_bomb, detach, guard, leftovers, members, pen, stopped_in
from kit import child, record_of, tracking, until

from pidwarden.guard.control import ask
from pidwarden.kernel.gates import GATES

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLD_AT = 60
ERRORS = {"EAGAIN": errno.EAGAIN, "ENOMEM": errno.ENOMEM}


def still(made):
    until(lambda: members(made) and stopped_in(made) == len(members(made)), "every member to be stopped")
    return len(members(made))


def refusing(tmp_path, key, error="EAGAIN"):
    config = tmp_path / "pidwarden.toml"
    config.write_text(f'gate = "{key}"\nat_gate = "refuse"\nrefuse_with = "{error}"\nhold_at = {HOLD_AT}\n')
    return ["--config", str(config)]


def test_it_says_which_gate_is_in_use_and_why_no_better_one(gate):
    with guard("--gate", gate) as running:
        ready = running.wait("ready")
        said = until(lambda: ask(running.run_dir, "status"), "its answer")["gate"]
        assert said == ready["gate"]
        assert (said["key"], said["name"]) == (gate, ready["capabilities"]["hold"])
        assert len(said["better"]) == [g.key for g in GATES].index(gate)
        assert all(passed["why"] and passed["change"] for passed in said["better"])
        assert sum("not held by" in e["text"] for e in running.events("note")) == len(said["better"])


def test_of_its_own_it_takes_the_first_that_there_is():
    best = next(key for key in BY_KEY if not why_not(key))
    with guard() as running:
        assert running.wait("ready")["gate"]["key"] == best


@pytest.mark.parametrize("key", list(BY_KEY))
def test_a_gate_that_is_not_there_is_an_error_that_says_what_to_do(key):
    if not why_not(key):
        pytest.skip(f"there is a {key} gate here")
    run_dir = f"/run/pidwarden-test-{os.getpid()}"
    command = [sys.executable, "-m", "pidwarden", "guard", "--only", f"pid:{os.getpid()}", "--gate", key]
    done = subprocess.run([*command, "--run-dir", run_dir], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 4
    assert why_not(key) in done.stderr
    assert 'gate = "auto"' in done.stderr
    assert leftovers(run_dir) == []


@pytest.mark.parametrize("shape", ["tight", "threads"])
def test_a_bomb_is_contained(gate, shape, record_property):
    with guard("--gate", gate, "--hold-at", str(HOLD_AT)) as running, pen() as made, bomb(made, *c_bomb(shape)) as root:
        killed = running.wait("killed", seconds=60)
        record_property("peak", made.peak())
        assert killed["survivors"] == 0
        assert made.peak() <= (4 if shape == "threads" else 2) * HOLD_AT  # docs/adr/0011
        assert root.wait() == -signal.SIGKILL
        assert not members(made)


def test_a_killed_guards_gate_stays_up_and_its_successor_knows_it(gate):
    with pen() as made:
        running = GuardProcess("--mode", "hold", "--gate", gate, "--hold-at", str(HOLD_AT))
        try:
            running.wait("ready", seconds=60)
            with bomb(made, *c_bomb("tight")) as root:
                running.wait("waiting", seconds=60)
                running.process.kill()
                running.process.wait()
                count = still(made)
                for pid in members(made):
                    os.kill(pid, signal.SIGCONT)
                assert still(made) == count
                with guard(run_dir=running.run_dir) as successor:
                    assert successor.wait("ready")["gate"]["key"] == gate
                    assert successor.wait("killed", seconds=60)["survivors"] == 0
                    root.wait()
                    assert successor.stop() == 0
                assert leftovers(running.run_dir) == []
        finally:
            running.close()
            detach(running.run_dir)


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("way", ["fork", "vfork", "clone3", "thread", "int80"])
def test_a_refused_fork_gets_that_error_and_nobody_is_stopped(hook, way, name):
    with tracking(gate=hook, refuse=ERRORS[name]) as programs, child("entry", way, "2") as entry:
        entry.said()
        record = until(lambda: record_of(programs, entry.pid), "a record")
        programs.hold(record.family)
        entry.tell()
        # pthread_create(3) makes EAGAIN of whatever clone says.
        assert entry.said()[0] == (errno.EAGAIN if way == "thread" else ERRORS[name])
        refused = record_of(programs, entry.pid)
        assert (refused.stops, refused.held_ns, refused.slots, refused.forks) == (1, 0, 1, 0)
        assert programs.counters().refusals == programs.group(record.family).refusals == 1
        assert programs.group(record.family).inflight == 0
        programs.release(record.family)
        entry.tell()
        assert entry.said() == (0, 0)


def test_a_bomb_that_is_refused_is_killed_though_it_never_stops(hook, tmp_path, record_property):
    with guard(*refusing(tmp_path, hook)) as running, pen() as made, bomb(made, *c_bomb("tight")) as root:
        assert running.wait("ready")["capabilities"]["hold"].endswith("forks are refused with EAGAIN")
        killed = running.wait("killed", seconds=60)
        record_property("peak", made.peak())
        assert killed["survivors"] == 0
        assert made.peak() <= 2 * HOLD_AT
        assert root.wait() == -signal.SIGKILL
        assert not members(made)
        assert ask(running.run_dir, "status")["counters"]["refusals"] > 0


def test_where_it_cannot_refuse_it_says_so(gate, tmp_path):
    if BY_KEY[gate].refuses:
        pytest.skip(f"the {gate} gate can refuse")
    run_dir = f"/run/pidwarden-test-{os.getpid()}"
    command = [sys.executable, "-m", "pidwarden", "guard", "--only", f"pid:{os.getpid()}", *refusing(tmp_path, gate)]
    done = subprocess.run([*command, "--run-dir", run_dir], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 4
    assert 'at_gate = "hold"' in done.stderr
    assert leftovers(run_dir) == []


def test_a_running_guard_refuses_a_configuration_that_its_gate_cannot_do(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text(f"hold_at = {HOLD_AT}\n")
    with guard("--gate", "syscall", "--config", str(config)) as running:
        config.write_text('at_gate = "refuse"\n')
        running.process.send_signal(signal.SIGHUP)
        refused = until(lambda: [e["text"] for e in running.events("note") if "refused" in e["text"]], "the refusal")
        assert "stop at system call entry" in refused[0]
