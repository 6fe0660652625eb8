"""Protected by cgroup or unit, in each hierarchy this machine has; and what the policy does with real families."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from guardkit import bomb, c_bomb, guard, members, pen, stopped_in
from kit import stat_of, until

from pidwarden.act.kill import Execution
from pidwarden.act.spare import Protection
from pidwarden.kernel import cgroup
from pidwarden.model.key import NOBODY, TICK_NS, ProcessKey
from pidwarden.model.record import Record

pytestmark = [pytest.mark.root]


def record_of_process(pid: int) -> Record:
    key = ProcessKey(pid, stat_of(pid).start_ticks * TICK_NS)
    return Record(key, NOBODY, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, b"sleep")


@contextlib.contextmanager
def sleeper_in(directory: str):
    """A process in a cgroup that is made for it."""
    os.mkdir(directory)
    process = subprocess.Popen(["sleep", "1000"])
    try:
        with open(f"{directory}/cgroup.procs", "w") as file:
            file.write(str(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()
        until(lambda: not Path(directory, "cgroup.procs").read_text(), "the cgroup to be empty")
        os.rmdir(directory)


def hierarchies() -> list[str]:
    found = cgroup.mounts()
    return sorted({found.v1.get("pids") or found.v2, found.v2 or found.v1["pids"]})


@pytest.mark.parametrize("root", hierarchies())
def test_the_last_check_spares_a_cgroup_and_a_unit_in_each_hierarchy(root):
    unit = f"pidwarden-test-{os.getpid()}.service"
    with sleeper_in(f"{root}/{unit}") as process:
        record = record_of_process(process.pid)
        for protection in (Protection(cgroups=(f"/{unit}",)), Protection(units=frozenset([unit]))):
            execution = Execution(protection)
            assert execution.strike([record]) == 0
            assert unit in execution.spared[record.key]
            execution.close()
            assert process.poll() is None
        execution = Execution(Protection(cgroups=(f"/{unit}/below",), units=frozenset(["other.service"])))
        assert execution.strike([record]) == 1
        execution.close()
        assert process.wait() == -9


@pytest.mark.bpf
@pytest.mark.parametrize("which", [0, -1])
def test_a_protected_cgroup_is_held_but_never_killed_whatever_goes_off_in_it(tmp_path, which):
    config = tmp_path / "x.toml"
    with pen() as made:
        config.write_text(f'protect_cgroups = ["{made.directories[which]}"]\n')
        with guard("--config", str(config)) as running, bomb(made, *c_bomb("tight")) as root:
            running.wait("waiting")
            verdict = running.events("verdict")[-1]
            assert (verdict["verdict"], verdict["members"]) == ("unsure", 0)
            until(lambda: stopped_in(made) == len(members(made)), "every member to be stopped")
            assert root.poll() is None
            assert not running.events("killed")
            made.kill()
            root.wait()


@pytest.mark.bpf
def test_a_bomb_is_held_for_a_person_where_the_policy_says_so(tmp_path):
    config = tmp_path / "x.toml"
    config.write_text('on_bomb = "hold"\n')
    with guard("--config", str(config)) as running, pen() as made, bomb(made, *c_bomb("tight")):
        assert running.wait("waiting")["why"] == "a bomb (on_bomb)"
        until(lambda: stopped_in(made) == len(members(made)), "every member to be stopped")
        assert not running.events("killed")


@pytest.mark.bpf
@pytest.mark.parametrize("then", ["release", "kill"])
def test_a_hold_for_a_person_ends_by_itself_where_the_policy_says_so(tmp_path, then):
    """A script of programs: twice it is let go, then it waits for a person, and nobody comes."""
    config = tmp_path / "x.toml"
    config.write_text(
        f"hold_at = 20\nfamily_hold_at = 20\nburst_growth = 1.1\ndoubtful_growth = 1.1\n"
        f'unsure_timeout = 0.05\nunsure_then = "{then}"\n'
    )
    script = (
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & tail -f /dev/null & sleep 1000 & tail -f /dev/null & done; read x"
    )
    with guard("--config", str(config)) as running, pen() as made:
        stage = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, preexec_fn=made.enter)  # noqa: PLW1509
        try:
            assert f"{then}" in running.wait("waiting")["why"]
            if then == "kill":
                assert running.wait("killed")["survivors"] == 0
                assert stage.wait() == -9
            else:
                until(lambda: stopped_in(made) == 0 and len(members(made)) == 37, "all of it to go on")
                assert not running.events("killed")
        finally:
            made.kill()
            stage.wait()
            stage.stdin.close()
