"""What may destroy the machine: the process table full, and the guard killed by the kernel while it holds a bomb."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guardkit import c_bomb
from kit import until
from scene import bomb, guard, settle, tasks

pytestmark = [pytest.mark.root, pytest.mark.bpf]

PATIENCE = 240
_PID_MAX = Path("/proc/sys/kernel/pid_max")


@pytest.fixture(autouse=True)
def prompt():
    """This process gets to run beside thousands that never wait; its children are ordinary ones."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def pid_max(number):
    """Another size of the table of process ids."""
    was = _PID_MAX.read_text()
    _PID_MAX.write_text(str(number))
    try:
        yield
    finally:
        _PID_MAX.write_text(was)


def table_is_full():
    """Whether not even root can start a process."""
    try:
        pid = os.fork()
    except BlockingIOError:
        return True
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    time.sleep(0.2)  # this process goes before all others: without a pause nobody else would get to fill the table
    return False


def assert_usable():
    """That anybody can start programs again."""
    for _ in range(50):
        assert subprocess.run(["/bin/true"], check=False).returncode == 0
    drop = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    done = subprocess.run([*drop, "bash", "-c", "echo a | cat; id -u"], check=True, capture_output=True, text=True)
    assert done.stdout == "a\n1000\n"


def test_a_full_table_is_won_back_when_an_observing_guard_is_told_to_kill(record_property):
    # A table that fits into the memory (about 170 KB a task): else the kernel kills for want of memory first.
    with guard("observe") as running, pid_max(2500), bomb("tight", "root", c_bomb("tight")) as burning:
        before = tasks()
        burning.light()
        burning.watch(table_is_full, "the process table to be full", PATIENCE)
        record_property("tasks at the end of the table", tasks())
        assert running.events("would")
        assert not running.events("killed")
        running.change_mode("kill")
        killed = running.wait("killed", seconds=PATIENCE)
        assert killed["survivors"] == 0
        record_property("killed", killed["killed"])
        burning.watch(lambda: not burning.living(), "nobody of it to live", PATIENCE)
        until(lambda: tasks() < before + 20, "the table to be as before", PATIENCE)
        assert_usable()


_ASKER = """
import sys
from pidwarden.cli.main import main
print("ready", flush=True)
sys.stdin.readline()
sys.exit(main(["status", "--json", "--run-dir", sys.argv[1]]))
"""


def test_a_full_table_is_no_reason_not_to_answer(record_property):
    # Who fills it then sleeps: thousands that fork in vain leave an emulated processor no time for anybody.
    filler = [sys.executable, "-I", "-S", str(Path(__file__).with_name("filler.py"))]
    with guard("observe") as running, pid_max(1500), bomb("filler", "root", filler) as burning:
        command = [sys.executable, "-c", _ASKER, running.run_dir]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
            assert asker.stdout.readline() == "ready\n"
            burning.light()
            burning.watch(table_is_full, "the process table to be full", PATIENCE)
            answer, _ = asker.communicate("\n", timeout=PATIENCE)
        assert asker.returncode == 0
        status = json.loads(answer)
        largest = status["guard"]["families"][0]
        record_property("slots of the largest family", largest["slots"])
        assert largest["slots"] > 1000
        assert min(limit["free"] for limit in status["headroom"]["limits"]) < 100


def test_what_is_held_stays_held_when_the_kernel_kills_the_guard(record_property):
    run_dir = f"/run/pidwarden-oom-{os.getpid()}"
    with bomb("tight", "user") as burning:
        with guard("hold", run_dir) as first:
            burning.light()
            first.wait("waiting", seconds=PATIENCE)
            # Forks that had begun when the hold came complete: until nobody is on the way, it may still grow.
            burning.watch(burning.stands_still, "every member to be stopped", PATIENCE)
            held = burning.current()
            with open(f"/proc/{first.process.pid}/oom_score_adj", "w", encoding="ascii") as file:
                file.write("1000")  # it asks for -1000, and then the kernel never chooses it
            with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
                file.write("f")
            assert first.process.wait(PATIENCE) == -signal.SIGKILL
        for pid in burning.living():
            os.kill(pid, signal.SIGCONT)
        burning.watch(burning.stands_still, "every member to be stopped again", PATIENCE)
        settle(3)
        record_property("held", held)
        assert burning.current() <= held
        assert burning.living()
        with guard("kill", run_dir) as second:
            killed = second.wait("killed", seconds=PATIENCE)
            assert killed["survivors"] == 0
            burning.watch(lambda: not burning.living(), "nobody of it to live", PATIENCE)
    assert_usable()
