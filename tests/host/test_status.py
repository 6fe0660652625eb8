"""`pidwarden status`, `release` and `kill`: with a guard, without one, and as an ordinary user."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from cli_kit import forget_copy, guard, nobody_cli, one_sentence, pidwarden_cli, sleeper
from kit import stat_of, until

from pidwarden.guard.control import ask
from pidwarden.kernel import procfs

pytestmark = pytest.mark.root
NAME = f"pidwarden-status-{os.getpid()}"
RUN_DIR = f"/run/{NAME}"
HOLD_AT = 8
WANTED = 24
# On a line of input, copies of a shell one below the other: more than the guard allows, bounded, and far from a bomb.
FORKER = (
    f'f() {{ if [ "$1" -gt 0 ]; then f $(($1 - 1)) & wait; else exec sleep 120; fi; }}; read go; f {WANTED} & read go'
)


@pytest.fixture(autouse=True, scope="module")
def copy():
    yield
    forget_copy()


@contextlib.contextmanager
def forker():
    """A shell that forks when it is told to; its whole session is killed with the test."""
    process = subprocess.Popen(["sh", "-c", FORKER], stdin=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdin.close()
        process.wait()


@contextlib.contextmanager
def held():
    """A guard in mode hold with a family waiting for a decision: the forking shell and the incident."""
    with forker() as shell, guard(RUN_DIR, "--mode", "hold", "--hold-at", str(HOLD_AT), only=shell.pid):
        shell.stdin.write("\n")
        shell.stdin.flush()
        yield shell, until(waiting, "a family that is held")


def waiting():
    answer = ask(RUN_DIR, "status")
    return next((i for i in answer["incidents"] if i["state"] == "waiting"), None)


def copies(shell):
    """Live processes of a shell's session but itself."""
    stats = [stat_of(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(1 for s in stats if s and s.session == shell.pid != s.pid and s.state not in "ZX")


def test_without_a_guard_it_shows_headroom_and_what_to_type():
    done = pidwarden_cli("status", "--run-dir", RUN_DIR)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("process table: ")
    assert f"no guard is running in {RUN_DIR}; type `sudo pidwarden guard`" in done.stdout


def test_the_headroom_is_the_kernels():
    found = json.loads(pidwarden_cli("status", "--run-dir", RUN_DIR, "--json").stdout)
    assert found["guard"] is None
    limits = {limit["name"]: limit for limit in found["headroom"]["limits"]}
    assert limits["pid_max"]["limit"] == procfs.read_int("/proc/sys/kernel/pid_max")
    assert limits["threads-max"]["limit"] == procfs.read_int("/proc/sys/kernel/threads-max")
    assert all(i["free"] == i["limit"] - i["used"] - i["reserved"] for i in limits.values())


@pytest.mark.bpf
def test_a_running_guard_is_shown():
    with sleeper() as pid, guard(RUN_DIR, "--mode", "observe", only=pid) as running:
        found = json.loads(pidwarden_cli("status", "--run-dir", RUN_DIR, "--json").stdout)
        text = pidwarden_cli("status", "--run-dir", RUN_DIR).stdout
    assert found["guard"]["pid"] == running.process.pid
    assert found["error"] is None
    assert found["headroom"]["limits"]
    assert f"guard: pid {running.process.pid}, mode observe" in text
    assert "hold:  none (observe)" in text
    assert "FOUNDER" in text
    assert "HELD" not in text


@pytest.mark.bpf
def test_a_guard_elsewhere_is_pointed_out():
    with sleeper() as pid, guard(RUN_DIR, only=pid):
        text = pidwarden_cli("status", "--run-dir", f"{RUN_DIR}-none").stdout
    assert "no guard is running" in text
    assert RUN_DIR in text.split("add `--run-dir DIR`")[1]


@pytest.mark.bpf
def test_an_ordinary_user_sees_headroom_and_is_sent_to_sudo():
    with sleeper() as pid, guard(RUN_DIR, only=pid):
        text = nobody_cli("status", "--run-dir", RUN_DIR)
        found = nobody_cli("status", "--run-dir", RUN_DIR, "--json")
    one_sentence(text, 3)
    assert text.stdout.startswith("process table: ")
    one_sentence(found, 3)
    assert json.loads(found.stdout)["guard"] is None
    assert "Permission denied" in json.loads(found.stdout)["error"]


@pytest.mark.bpf
def test_what_is_held_is_shown_with_what_to_type_and_released():
    with held() as (shell, incident):
        before = copies(shell)
        assert before < WANTED
        text = pidwarden_cli("status", "--run-dir", RUN_DIR).stdout
        number = incident["family"]
        assert text.startswith(f"HELD    family {number} of ")
        assert f"pidwarden release {number} --run-dir {RUN_DIR}" in text
        assert f"pidwarden kill {number} --run-dir {RUN_DIR}" in text
        done = pidwarden_cli("release", str(number), "--run-dir", RUN_DIR)
        assert done.returncode == 0
        assert done.stdout.startswith(f"released family {number}; ")
        until(lambda: copies(shell) > before, "the family to go on")
        after = pidwarden_cli("status", "--run-dir", RUN_DIR).stdout
        assert "last incidents" in after


@pytest.mark.bpf
def test_what_is_held_can_be_killed():
    with held() as (shell, incident):
        number = incident["family"]
        done = pidwarden_cli("kill", str(number), "--run-dir", RUN_DIR, "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["done"].endswith(f" processes of family {number}, 0 survivors")
        until(lambda: not copies(shell), "the family's end")
        assert shell.poll() is None


HELP = """
import sys
from pidwarden.cli import main
try:
    main.main(["--help"])
except SystemExit:
    print([m for m in sys.modules if m.startswith("pidwarden.cli.") and m != "pidwarden.cli.main"])
"""


def test_help_loads_no_command():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
