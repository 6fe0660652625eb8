"""`pidwarden drill` on this machine: real bombs, the real guard, and every way in which it can end."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest
from kit import stat_of

from pidwarden.drill import game
from pidwarden.drill.guarded import GuardDied
from pidwarden.drill.shapes import SHAPES

pytestmark = [pytest.mark.root, pytest.mark.bpf]

DRILL = [sys.executable, "-m", "pidwarden", "drill"]


def until(done, what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.02)
    return found


def traces(pid):
    """What a drill with this pid may have left on the machine."""
    return [
        *glob.glob(f"/sys/fs/cgroup/**/pidwarden-pen-{pid}-*", recursive=True),
        *glob.glob(f"/sys/fs/bpf/pidwarden-drill-{pid}*"),
        *glob.glob(f"/run/pidwarden-drill-{pid}*"),
    ]


def descendants(pid):
    """Everybody below a process, by current parent."""
    found = [s for p in os.listdir("/proc") if p.isdecimal() and (s := stat_of(int(p)))]
    below = {pid}
    while more := {s.pid for s in found if s.ppid in below} - below:
        below |= more
    return below - {pid}


def living(pids):
    return [pid for pid in pids if (found := stat_of(pid)) and found.state not in "ZX"]


@pytest.fixture(scope="module")
def all_shapes():
    """One drill of everything: its lines, exit code, and pid."""
    with subprocess.Popen([*DRILL, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, errors = process.communicate(timeout=170)
        lines = [json.loads(line) for line in out.splitlines()]
        return (
            {line["shape"]: line for line in lines[:-1]},
            lines[-1]["summary"],
            process.returncode,
            process.pid,
            errors,
        )


def test_a_drill_passes_and_leaves_nothing(all_shapes):
    shapes, summary, code, pid, errors = all_shapes
    assert (code, summary["passed"], summary["complaints"], errors) == (0, True, [], b"")
    assert list(shapes) == list(SHAPES)
    assert traces(pid) == []


@pytest.mark.parametrize("shape", list(SHAPES))
def test_each_shape_is_contained_far_below_the_cap(all_shapes, shape):
    found = all_shapes[0][shape]
    assert found["contained"]
    assert found["proven_empty"]
    assert found["bystanders_hurt"] == []
    assert found["verdicts"][-1] == "bomb"
    assert found["survivors"] == 0
    assert 0 < found["pen_peak"] <= (4 if shape == "threads" else 2) * 300 < found["pen_cap"]  # docs/adr/0011
    # The end of its first, beside members that are stopped, may end them before the guard does (docs/guarantees.md).
    assert found["killed"] >= 1 or (shape == "shell" and found["alarms"][-1]["unreaped"])
    assert 0 < found["noticed_ms"] < 10_000
    assert 0 <= found["held_ms"] <= found["dead_ms"] <= found["cleared_ms"]


def test_the_thread_bomb_was_let_go_once(all_shapes):
    found = all_shapes[0]["threads"]
    assert found["verdicts"] == ["burst", "bomb"]
    assert found["dead_after_first_ms"] > found["dead_ms"]


# -- when it does not go well ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--hold-at", "100000"], "noticed nothing"), (["--mode", "observe"], "killed nobody")],
    ids=["a guard that notices nothing", "a guard that only observes"],
)
def test_a_bomb_that_the_guard_does_not_stop_ends_in_its_pen_and_fails(monkeypatch, options, why):
    monkeypatch.setattr(game, "_PROGRESS_SECONDS", 3.0)
    moments = []
    with game.Game(cap=350, options=options, tell=lambda what, _facts: moments.append(what)) as played:
        result = played.play("tight")
    assert (result.contained, result.proven_empty, result.passed) == (False, False, False)
    assert result.pen_peak == 350
    assert why in result.notes[0]
    assert moments[-2:] == ["escaped", "result"]
    assert result.worst_delay_ms is not None  # the bystanders were asked all the same
    assert played.guard.complaints == []
    assert traces(os.getpid()) == []


def test_when_the_guard_dies_the_bomb_dies_and_what_the_guard_printed_is_told():
    guard = []

    def kill_the_guard(what, facts):
        if what == "ready":
            guard.append(facts["pid"])
        elif what == "shape":
            os.kill(guard[0], signal.SIGKILL)

    with pytest.raises(GuardDied, match="signal 9") as died, game.Game(cap=700, tell=kill_the_guard) as played:
        played.play("tight")
    assert died.value.exit_code == 1
    assert any("behind" in text for text in played.guard.complaints)  # its pins
    assert traces(os.getpid()) == []


def test_a_guard_that_cannot_start_is_quoted():
    with pytest.raises(GuardDied, match=r"--hold-at|hold_at"), game.Game(options=["--hold-at", "1"], tell=print):
        pytest.fail("went on without a guard")
    assert traces(os.getpid()) == []


@pytest.fixture
def under_way():
    """A drill whose bomb is going off this moment."""
    process = subprocess.Popen(
        [*DRILL, "--shape", "rename"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with process:
        lines = []
        while not any(b"set off" in line for line in lines):
            ready, _, _ = select.select([process.stdout], [], [], 60)
            assert ready, lines
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        yield process
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_cleans_everything_up(under_way, number, code):
    family = descendants(under_way.pid)
    assert len(family) >= 5
    if number == signal.SIGINT:
        os.killpg(under_way.pid, number)  # as a terminal does: the guard must not hear it, or it is gone too early
    else:
        under_way.send_signal(number)
    _out, errors = under_way.communicate(timeout=60)
    assert under_way.returncode == code
    assert signal.Signals(number).name.encode() in errors
    assert errors.count(b"\n") == 1
    assert traces(under_way.pid) == []
    assert living(family) == []


def test_a_drill_killed_by_sigkill_leaves_nothing(under_way):
    family = descendants(under_way.pid)
    assert len(family) >= 5
    under_way.kill()
    until(lambda: not traces(under_way.pid), "the end of pens, pins and run directory")
    until(lambda: not living(family), "the end of everybody")


def test_without_root_it_is_one_sentence_and_exit_3():
    # Imported before the change of user: the interpreter may lie where nobody else may look.
    code = (
        "import os, sys, pidwarden.cli.drill; from pidwarden.cli.main import main; "
        "os.setuid(65534); sys.exit(main(['drill']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert b"sudo pidwarden drill" in done.stderr
