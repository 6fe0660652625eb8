"""The stage and its bystanders, with a firecracker in place of a bomb and a file in place of a pen."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from kit import stat_of

from pidwarden.drill import stage
from pidwarden.drill.lines import Ear, Speaker
from pidwarden.drill.stage import BASELINE, Rounds

FIRECRACKER = """
import os, sys, time
open(sys.argv[0] + ".went-off", "w").close()
os.write(int(sys.argv[2]), b"%d\\n" % time.clock_gettime_ns(time.CLOCK_BOOTTIME))
"""


class Run:
    """A stage that runs; ``say(command, key)`` returns its answer."""

    def __init__(self, ear, root, entrance):
        self.ear, self.said = ear, {}
        self.shapes = root / "shapes.py"
        self.shapes.write_text(FIRECRACKER)
        command = [sys.executable, "-I", "-S", stage.__file__, str(self.shapes), "tight", str(entrance)]
        self.speaker = Speaker("stage", command)
        ear.add(self.speaker)

    def until(self, *keys, seconds=30):
        end = time.monotonic() + seconds
        while not set(keys) & set(self.said):
            assert time.monotonic() < end, (self.said, self.speaker.errors())
            for _speaker, message in self.ear.listen(0.5):
                self.said |= message
        return self.said

    def order(self, command, *keys):
        self.speaker.order(command)
        return self.until(*keys)

    def went_off(self):
        return os.path.exists(f"{self.shapes}.went-off")


@pytest.fixture
def run(tmp_path):
    entrance = tmp_path / "cgroup.procs"
    entrance.touch()
    with Ear() as ear:
        running = Run(ear, tmp_path, entrance)
        running.entrance = entrance
        yield running
        code = running.speaker.end(20)
        running.speaker.close()
        for pid in running.said.get("ready", {}).values():
            gone_by = time.monotonic() + 20
            while (found := stat_of(pid)) and found.state != "Z":
                assert time.monotonic() < gone_by, f"bystander {pid} outlived its stage"
                time.sleep(0.02)
        assert code == 0


def test_nobody_is_hurt_where_nothing_happens(run):
    pids = run.until("ready")["ready"]
    assert len(pids) == 3
    assert not run.went_off()
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    said = run.order("go", "boot_ns", "failed")
    assert before <= said["boot_ns"] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert run.went_off()
    assert run.entrance.read_text() == "0"  # it had gone in before it went off
    assert run.until("bomb_ended")["bomb_ended"] == 0
    report = run.order("report", "report")["report"]
    assert report["hurt"] == []
    assert report["rounds"] >= 2  # at least one that began after the question
    assert 0 <= report["worst_delay_ms"] < 5000


def test_everybody_is_in_one_session_with_the_stage_at_its_head(run):
    pids = [run.speaker.process.pid, *run.until("ready")["ready"].values()]
    assert {os.getsid(pid) for pid in pids} == {run.speaker.process.pid}


def test_a_bomb_that_cannot_go_in_does_not_go_off(run):
    run.until("ready")
    run.entrance.unlink()
    run.entrance.mkdir()  # opening it fails
    assert "pen" in run.order("go", "boot_ns", "failed")["failed"]
    assert not run.went_off()


def test_a_bomb_that_does_not_go_off_is_said(run):
    run.until("ready")
    run.shapes.write_text("raise SystemExit(4)")
    assert "ended with 4" in run.order("go", "boot_ns", "failed")["failed"]


@pytest.mark.parametrize(
    ("which", "number", "expected"),
    [
        ("the pipeline", signal.SIGKILL, "is dead (signal 9)"),
        ("the sleeping shell", signal.SIGTERM, "is dead (signal 15)"),
        ("the one that forks 20 times a second", signal.SIGKILL, "is dead (signal 9)"),
        ("the sleeping shell", signal.SIGSTOP, "does not move any more"),
        ("the one that forks 20 times a second", signal.SIGSTOP, "does not move any more"),
    ],
)
def test_a_hurt_bystander_is_named(run, which, number, expected):
    pids = run.until("ready")["ready"]
    run.order("go", "boot_ns")
    os.kill(pids[which], number)
    try:
        assert run.order("report", "report")["report"]["hurt"] == [f"{which} {expected}"]
    finally:
        if number == signal.SIGSTOP:
            os.kill(pids[which], signal.SIGKILL)


def test_a_bystander_that_was_stopped_for_a_while_was_delayed(run):
    pid = run.until("ready")["ready"]["the one that forks 20 times a second"]
    run.order("go", "boot_ns")
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        run.ear.listen(0.05)
    os.kill(pid, signal.SIGCONT)
    report = run.order("report", "report")["report"]
    assert report["hurt"] == []
    assert 300 < report["worst_delay_ms"] < 5000


def test_rounds_tell_the_usual_from_what_came_after():
    rounds = Rounds()
    for number in range(BASELINE):
        assert not rounds.settled
        rounds.feed(b"%d ok\n" % (1000 + number % 3))
    assert rounds.settled
    rounds.bomb_is_off = True
    rounds.feed(b"1500 ok\n90")
    rounds.feed(b"00 ok\n700 fork-failed:no\n")
    assert (rounds.usual_us, rounds.worst_us, rounds.done) == (1001, 9000, 3)
    assert rounds.failures == {"fork-failed:no": 1}


def test_a_failure_before_the_bomb_counts_as_one():
    rounds = Rounds()
    rounds.feed(b"1000 /bin/true-ended-with-1\n")
    assert rounds.failures == {"/bin/true-ended-with-1": 1}


def test_the_ticker_reports_a_refused_fork_and_goes_on(monkeypatch):
    lines = []

    def write(fd, data):
        assert fd == 1
        lines.append(data)
        if len(lines) == 3:
            raise BrokenPipeError
        return len(data)

    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(stage.os, "write", write)
    monkeypatch.setattr(stage.os, "fork", refuse)
    assert stage.tick() == 0
    assert [line.split()[1] for line in lines] == [b"fork-failed:Resource-temporarily-unavailable"] * 3


def test_the_ticker_keeps_its_pace_and_counts_a_round_from_when_it_was_due(monkeypatch):
    """By a clock that only moves while it sleeps, or is made to wait: 7 ms before the first fork, 1 s in the third."""
    clock, took, waits = [100.0], [], [0.0, 0.0, 1.0, 0.0, 0.0]

    def sleep(seconds):
        clock[0] += seconds + (0.007 if not took else 0.0)

    def waitpid(_pid, _options):
        clock[0] += waits[len(took)]
        return 4711, 0

    def write(_fd, data):
        took.append(int(data.split()[0]))
        if len(took) == len(waits):
            raise BrokenPipeError
        return len(data)

    for name, fake in (("fork", lambda: 4711), ("waitpid", waitpid), ("write", write)):
        monkeypatch.setattr(stage.os, name, fake)
    monkeypatch.setattr(stage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stage.time, "sleep", sleep)
    stage.tick()
    # The round after a long one is due at once, and the lateness of one is not counted again in the next.
    assert [round(us, -2) for us in took] == [7000, 0, 1_000_000, 0, 0]
    assert clock[0] == pytest.approx(100.0 + 2 / stage.ROUNDS_A_SECOND + 1.0 + 1 / stage.ROUNDS_A_SECOND)
