"""What every source promises of a runaway: stopped, killed to the last, and the neighbours unhurt.

How far it grows meanwhile only the gate can say: elsewhere the bound is the pen's, and each test notes what it was.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
from guardkit import DEADLINE, IN_GUEST, c_bomb, guard, members, pen
from kit import until
from sourcekit import SOURCES, is_unhurt

from pidwarden.drill import shapes

pytestmark = pytest.mark.root

HOLD_AT, CAP = 300, 3000
EVERY = ["shell", "tight", "setsid", "chain", "zombies", "threads", "rename", "setuid"]
C = {"tight", "setsid", "chain", "zombies", "threads", "parent", "signals"}
# Of looks alone: nobody whose ancestors have ended before they are looked at (shell, chain), who fights back (signals),
# or whose creator is not his parent (parent); threads and zombies only where the table is larger than this pen.
PROMISED = {
    "bpf": [*EVERY, "parent", "signals"],
    "connector": [*EVERY, "signals"],  # with CLONE_PARENT creators are guessed: mostly contained, not promised
    "poll": ["tight", "setsid", "rename", "setuid"],
}
CASES = [pytest.param(s.values[0], shape, marks=s.marks) for s in SOURCES for shape in PROMISED[s.values[0]]]


def command(shape: str) -> list[str]:
    return c_bomb(shape) if shape in C else [sys.executable, "-I", "-S", shapes.__file__, shape]


@contextlib.contextmanager
def patient(tmp_path):
    """A guard's configuration that gives the dying time: on a machine that is busy, an exit takes its time as well.

    Where a processor is emulated, a bomb's first process may be a second old when it has loaded.
    """
    path = tmp_path / "pidwarden.toml"
    path.write_text("kill_timeout = 50.0\n" + "branch_age = 10.0\n" * IN_GUEST)
    yield ["--config", str(path)]


@contextlib.contextmanager
def bomb(made, *argv):
    """A bomb in a session of its own, as a job or a service is, set off in a pen."""
    options = {"preexec_fn": made.enter, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, start_new_session=True, **options)
    try:
        yield process
    finally:
        made.kill()
        process.wait()


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_bomb_is_killed_to_the_last_and_its_neighbours_live(name, shape, tmp_path):
    neighbour = subprocess.Popen(["sleep", "1000"], process_group=0)
    try:
        with patient(tmp_path) as options, guard("--source", name, *options) as running, pen(CAP) as made:
            beside = subprocess.Popen(["sleep", "1000"], preexec_fn=made.enter)
            try:
                with bomb(made, *command(shape)) as root:
                    _contained(running, made, root, beside)
                    peak = made.peak()
                    assert is_unhurt(beside)
            finally:
                beside.kill()
                beside.wait()
            assert running.stop() == 0
            dead = running_ms(running)
        print(f"{name} {shape}: peak {peak}, dead {dead:.0f} ms after the first alarm")  # `pytest -rP` shows it
        assert peak <= (CAP if name != "bpf" else (4 if shape == "threads" else 2) * HOLD_AT + 1)
        assert is_unhurt(neighbour)
    finally:
        neighbour.kill()
        neighbour.wait()


def running_ms(running) -> float:
    """From the first alarm to the last kill, in ms."""
    events = running.events()
    began = next(e["boot_ns"] for e in events if e["event"] == "alarm")
    return (max(e["boot_ns"] for e in events if e["event"] == "killed") - began) / 1e6


def _contained(running, made, root, beside) -> None:
    """One or more verdicts; in the end nobody of the bomb lives, and that is what the guard says."""

    def over() -> bool:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # with CLONE_PARENT they are ours
                pass
        return bool(running.events("killed")) and not set(members(made)) - {beside.pid}

    running.wait("killed", seconds=DEADLINE)
    until(over, f"the pen to be empty; the guard said {running.events()}", DEADLINE)
    assert not [e for e in running.events("killed") if e["survivors"]], running.events()
    assert "bomb" in [e["verdict"] for e in running.events("verdict")]
    assert root.pid in [e["guilty"]["pid"] for e in running.events("verdict") if e["guilty"]]
