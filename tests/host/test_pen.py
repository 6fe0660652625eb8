"""The pen and its dead-man switch, on this machine's cgroups, with live bombs in small pens."""

from __future__ import annotations

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

from pidwarden.drill import shapes
from pidwarden.drill.pen import DeadMan, Layout, Pen, choose
from pidwarden.kernel import cgroup, procfs

pytestmark = pytest.mark.root

CAP = 60
BOMB = [sys.executable, "-I", "-S", shapes.__file__]


def until(done, what, seconds=30):
    """Waits for a state of the machine."""
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.01)
    return found


def detonate(pen, shape):
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*BOMB, shape], preexec_fn=pen.enter, start_new_session=True, **streams)  # noqa: PLW1509


def living(pids):
    return [pid for pid in pids if (found := stat_of(pid)) and found.state not in "ZX"]


def members(pen):
    with open(pen.entrances[0]) as file:
        return list(map(int, file.read().split()))


def sweep_only():
    """The layout of a machine without v2, as far as this one has it."""
    layout = choose(cgroup.mounts())
    if layout.pids == layout.v2:
        pytest.skip("the pids controller is in v2 here")
    return Layout(layout.pids, layout.cpu)


@pytest.mark.parametrize("layout", [None, sweep_only], ids=["as here", "sweep in v1 only"])
@pytest.mark.parametrize("shape", ["tight", "chain", "shell"])
def test_a_bomb_fills_the_pen_and_not_the_machine_and_dies_with_it(shape, layout):
    with Pen(CAP, layout=layout and layout()) as pen:
        assert not pen.populated()
        assert pen.current() == 0
        with DeadMan(pen.directories, 60):
            bomb = detonate(pen, shape)
            try:
                if shape == "chain":
                    until(lambda: pen.peak() > 5, "a chain under way")
                else:
                    until(lambda: pen.peak() == CAP, "a full pen")
                assert pen.populated()
                known = members(pen)
                assert pen.kill()
                assert not pen.populated()
                assert living(known) == []
                assert pen.peak() <= CAP
            finally:
                pen.kill()
                bomb.wait(20)
    assert [d for d in pen.directories if os.path.exists(d)] == []


def test_nobody_is_born_in_a_pen_that_was_killed():
    with Pen(CAP) as pen:
        assert pen.kill()
        script = "import os\ntry: os.fork()\nexcept OSError: raise SystemExit(9)"
        command = [sys.executable, "-I", "-S", "-c", script]
        with subprocess.Popen(command, preexec_fn=pen.enter) as process:  # noqa: PLW1509  (one thread)
            assert process.wait(20) == 9


def test_zombies_count_in_the_pen_but_do_not_live_there():
    with Pen(CAP) as pen, DeadMan(pen.directories, 60):
        bomb = detonate(pen, "zombies")
        try:
            until(lambda: pen.current() == CAP, "a pen full of zombies")
            assert len(members(pen)) < CAP
            assert pen.kill()
            assert not pen.populated()
        finally:
            pen.kill()
            bomb.wait(20)


def test_threads_count_in_the_pen():
    with Pen(CAP) as pen, DeadMan(pen.directories, 60):
        bomb = detonate(pen, "threads")
        try:
            until(lambda: pen.current() == CAP, "a pen full of threads")
            assert members(pen) == [bomb.pid]
        finally:
            pen.kill()
            assert bomb.wait(20) == -signal.SIGKILL


def test_the_setuid_bomb_changes_its_user_in_every_generation():
    with Pen(CAP) as pen, DeadMan(pen.directories, 60):
        bomb = detonate(pen, "setuid")
        try:
            until(lambda: pen.current() == CAP, "a full pen")
            until(lambda: len({os.stat(f"/proc/{p}").st_uid for p in members(pen)} - {0}) > CAP // 4, "many users")
        finally:
            pen.kill()
            bomb.wait(20)


def test_the_setsid_bomb_leaves_its_session():
    with Pen(CAP) as pen, DeadMan(pen.directories, 60):
        bomb = detonate(pen, "setsid")
        try:
            until(lambda: len({s.session for p in members(pen) if (s := stat_of(p))}) > CAP // 2, "many sessions")
        finally:
            pen.kill()
            bomb.wait(20)


def test_a_child_that_cannot_go_in_is_not_started():
    pen = Pen(CAP)  # never entered: there are no directories
    with pytest.raises(subprocess.SubprocessError):
        subprocess.Popen([sys.executable, "-c", ""], preexec_fn=pen.enter)  # noqa: PLW1509  (one thread)


def test_the_pen_is_slow_until_it_is_eased():
    def share():
        found = [procfs.read_int(f"{d}/{f}") for d in pen.directories for f in ("cpu.shares", "cpu.weight")]
        return [n for n in found if n]

    with Pen(CAP) as pen:
        assert share() in ([128], [10])
        pen.ease()
        assert share() in ([1024], [100])


# -- the dead-man switch -----------------------------------------------------------------------------------------------

OWNER = """
import json, subprocess, sys, time
from pidwarden.drill import shapes
from pidwarden.drill.pen import DeadMan, Pen
pen = Pen(60)
with DeadMan(pen.directories, float(sys.argv[1])) as switch, pen:
    bomb = subprocess.Popen([sys.executable, "-I", "-S", shapes.__file__, sys.argv[2]], preexec_fn=pen.enter,
                            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while pen.peak() < (60 if sys.argv[2] != "chain" else 5):
        time.sleep(0.01)
    print(json.dumps({"directories": pen.directories, "switch": switch.pid}), flush=True)
    sys.stdin.read()
"""


def owner(seconds, shape):
    """A process that owns a full pen, and what it said of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(seconds), shape], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    ready, _, _ = select.select([process.stdout], [], [], 60)
    assert ready, "no full pen within 60 s"
    return process, json.loads(process.stdout.readline())


def gone(said):
    return not any(map(os.path.exists, said["directories"])) and not living([said["switch"]])


@pytest.mark.parametrize("shape", ["tight", "setsid", "chain"])
def test_an_owner_killed_by_sigkill_leaves_nothing(shape):
    process, said = owner(100, shape)
    with process:
        with open(f"{said['directories'][0]}/cgroup.procs") as file:
            bombs = list(map(int, file.read().split()))
        assert living([said["switch"]])
        process.kill()
        process.wait(20)
        until(lambda: gone(said), "the dead-man switch's work")
        assert living(bombs) == []


def test_an_owner_that_hangs_is_not_waited_for_longer_than_the_deadline():
    process, said = owner(4, "tight")
    with process:
        process.send_signal(signal.SIGSTOP)
        until(lambda: gone(said), "the dead-man switch's work")
        process.kill()


def test_an_owner_that_ends_in_order_leaves_nothing_to_do():
    process, said = owner(100, "tight")
    with process:
        process.stdin.close()
        assert process.wait(30) == 0
        assert gone(said)


def test_nothing_of_this_test_run_is_left():
    assert glob.glob(f"/sys/fs/cgroup/**/pidwarden-pen-{os.getpid()}-*", recursive=True) == []
