"""The guard's life: its modes, its end in every manner, its configuration, and a person's decision."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from guardkit import (
    GuardProcess,
    bomb,
    c_bomb,
    detach,
    guard,
    leftovers,
    members,
    pen,
    stopped_in,
    tree,
)
from kit import another, prop, record_of, stat_of, until

from pidwarden.guard.control import ask
from pidwarden.kernel.clock import boot_ns

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def still(made):
    """The number of living members once nobody is born any more."""
    until(lambda: stopped_in(made) == len(members(made)), "every member to stand still")
    return len(members(made))


def test_observe_says_what_it_would_do_and_touches_nobody():
    with guard("--mode", "observe") as running, pen(900) as made, bomb(made, *c_bomb("tight")):
        # Nobody stops at a gate, so the first look may not tell who was about to fork: a little more, and watched.
        until(lambda: "kill" in {e["action"] for e in running.events("would")}, "the word that it would be killed")
        until(lambda: made.peak() == 900, "the bomb to fill its pen")
        assert stopped_in(made) == 0
        assert not {"held", "killed", "released"} & {e["event"] for e in running.events()}


def test_hold_waits_for_a_person_and_kill_obeys():
    with guard("--mode", "hold") as running, pen() as made, bomb(made, *c_bomb("tight")) as root:
        waiting = running.wait("waiting")
        assert 250 <= still(made) <= 600
        status = ask(running.run_dir, "status")
        assert status["incidents"][0]["state"] == "waiting"
        assert not running.events("killed")
        ask(running.run_dir, "kill", str(waiting["family"]))
        assert running.wait("killed")["survivors"] == 0
        assert root.wait() == -signal.SIGKILL


def test_hold_and_release_lets_every_fork_proceed():
    with guard("--mode", "hold", "--hold-at", "30") as running, tree() as odd:
        waiting = running.wait("waiting")
        until(lambda: stat_of(odd.pid).state in "TS", "it to be stopped or waiting")
        ask(running.run_dir, "release", str(waiting["family"]))
        pid, copies = odd.said()
        assert (pid, copies) == (odd.pid, 62)


def test_sigterm_in_the_middle_of_a_hold_releases():
    with guard("--mode", "hold", "--hold-at", "30") as running, tree() as odd:
        running.wait("waiting")
        assert running.stop() == 0
        assert odd.said() == (odd.pid, 62)
        assert leftovers(running.run_dir) == []
        assert running.events()[-1]["event"] == "stopped"


def test_grace_gives_a_person_time_to_release():
    with guard("--grace", "600") as running, pen() as made, bomb(made, *c_bomb("tight")):
        waiting = running.wait("waiting")
        assert len(members(made)) > 200
        assert not running.events("killed")
        ask(running.run_dir, "kill", str(waiting["family"]))
        running.wait("killed")


def test_grace_kills_by_itself_when_it_is_over():
    with guard("--grace", "0.5") as running, pen() as made, bomb(made, *c_bomb("tight")):
        assert running.wait("killed")["dead_ms"] >= 500


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.05, 0.2])
def test_sigkill_in_the_middle_of_a_hold_and_its_successor_takes_over(delay):
    """What is held stays held, with nobody watching; the next guard finds it and ends it."""
    with pen() as made:
        running = GuardProcess("--mode", "hold")
        try:
            running.wait("ready")
            with bomb(made, *c_bomb("tight")) as root:
                running.wait("alarm")
                time.sleep(delay)  # not a wait for a state: the moment of the kill is what varies
                running.process.kill()
                running.process.wait()
                count = still(made)
                assert count <= 600
                assert made.peak() <= 600, running.events()
                with guard(run_dir=running.run_dir) as successor:
                    killed = successor.wait("killed")
                    assert killed["survivors"] == 0
                    assert killed["killed"] >= count - 5
                    root.wait()
                    assert successor.stop() == 0
                assert leftovers(running.run_dir) == []
        finally:
            running.close()
            detach(running.run_dir)


def test_sighup_reads_the_configuration_again_and_refuses_a_broken_one(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("hold_at = 300\n")
    with guard("--config", str(config)) as running:
        config.write_text("\nhold_at = 'many'\n")
        running.process.send_signal(signal.SIGHUP)
        text = until(lambda: [e["text"] for e in running.events("note") if "refused" in e["text"]], "the refusal")[0]
        assert "line 2" in text
        assert "hold_at" in text
        config.write_text("hold_at = 30\nmode = 'hold'\n")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: [e for e in running.events("note") if "read from" in e["text"]], "the new configuration")
        with tree():
            assert running.wait("held")["slots"] <= 32
            running.wait("waiting")


def test_what_observing_has_let_grow_is_killed_once_the_guard_is_told_to(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("mode = 'observe'\nkill_timeout = 20.0\n")
    with guard("--config", str(config)) as running, pen(900) as made, bomb(made, *c_bomb("tight")):
        until(lambda: made.peak() == 900, "the bomb to fill its pen")
        running.wait("would")
        # Its budget has to be so large by now that nothing of it would be noticed again, forks under way included.
        until(lambda: boot_ns() - running.events("would")[-1]["boot_ns"] > 2_000_000_000, "no more alarms", 60)
        assert not running.events("killed")
        config.write_text("mode = 'kill'\nkill_timeout = 20.0\n")
        running.process.send_signal(signal.SIGHUP)
        assert running.wait("killed")["survivors"] == 0
        until(lambda: not members(made), "the pen to be empty")


def test_user_and_cgroup_selectors_act_only_on_their_own():
    nobody = 65534
    script = f"import os; os.setresuid({nobody},{nobody},{nobody}); os.execv({prop('bomb')!r}, ['bomb', 'tight'])"
    command = [sys.executable, "-m", "pidwarden", "guard", "--json", "--only", "user:nobody", "--run-dir"]
    with pen(900) as mine, pen(900) as theirs:
        running = GuardProcess()
        running.process.kill()
        running.process.wait()
        detach(running.run_dir)
        os.ftruncate(running._out.fileno(), 0)
        running.process = subprocess.Popen([*command, running.run_dir], stdout=running._out, stderr=running._err)
        try:
            running.wait("ready")
            with bomb(mine, another("bomb"), "tight"):
                until(lambda: mine.peak() == 900, "root's bomb to fill its pen unhindered")
                with bomb(theirs, sys.executable, "-c", script):
                    killed = running.wait("killed")
                    assert killed["survivors"] == 0
                    assert killed["held_ms"] == 0  # by the kernel side, the moment it crossed
                    assert theirs.peak() <= 600, running.events()
                assert stopped_in(mine) == 0
                assert len(running.events("killed")) == 1
            assert running.stop() == 0
        finally:
            running.close()
            detach(running.run_dir)


def test_cgroup_selector():
    with pen(900) as made, pen(900) as other:
        path = "/" + made.name
        running = GuardProcess()
        running.process.kill()
        running.process.wait()
        detach(running.run_dir)
        os.ftruncate(running._out.fileno(), 0)
        command = [sys.executable, "-m", "pidwarden", "guard", "--json", "--only", f"cgroup:{path}"]
        running.process = subprocess.Popen(
            [*command, "--run-dir", running.run_dir], stdout=running._out, stderr=running._err
        )
        try:
            running.wait("ready")
            with bomb(other, another("bomb"), "tight"), bomb(made, *c_bomb("tight")):
                assert running.wait("killed")["survivors"] == 0
                assert made.peak() <= 600, running.events()
                until(lambda: other.peak() == 900, "the other bomb to fill its pen unhindered")
            assert running.stop() == 0
        finally:
            running.close()
            detach(running.run_dir)


def test_two_bombs_at_once_are_two_incidents():
    with (
        guard() as running,
        pen() as one,
        pen() as two,
        bomb(one, *c_bomb("tight")) as a,
        bomb(two, *c_bomb("setsid")) as b,
    ):
        running.wait("killed", 2)
        guilty = {e["guilty"]["pid"] for e in running.events("verdict") if e["verdict"] == "bomb"}
        assert guilty == {a.pid, b.pid}
        assert a.wait() == b.wait() == -signal.SIGKILL
        assert one.peak() <= 600
        assert two.peak() <= 600


def test_a_second_guard_is_refused_and_a_limited_one_steps_aside():
    with guard() as running:
        again = subprocess.run(
            [sys.executable, "-m", "pidwarden", "guard", "--json", "--mode", "observe", "--run-dir", running.run_dir],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert again.returncode == 1
        assert f"pid {running.process.pid}" in again.stderr
        with guard(run_dir=running.run_dir) as second:
            assert os.path.isdir(f"{running.run_dir}-{second.process.pid}")


def test_the_guard_never_forks_and_its_ancestors_are_exempt():
    """The test is the guard's parent: held, it could not start anything. Its own burst passes."""
    with guard("--hold-at", "20") as running:
        processes = [subprocess.Popen(["sleep", "50"]) for _ in range(30)]
        for process in processes:
            process.kill()
            process.wait()
        status = stat_of(running.process.pid)
        assert status.threads == 1
        assert running.stop() == 0


def test_the_history_shows_the_guard_what_happened_after_the_bomb_is_gone():
    with guard() as running, pen() as made, bomb(made, *c_bomb("tight")) as root:
        running.wait("cleared") if root.wait() else None
        past = ask(running.run_dir, "status")["past"]
        assert past[0]["verdict"] == "bomb"
        assert past[0]["founder"] == "bomb"
        assert record_of is not None
