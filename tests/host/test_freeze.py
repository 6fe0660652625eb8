"""Freezing: by the family's own cgroup, a quarantine, v1's freezer, a signal; and thawed in every end, a crash too."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from guardkit import GuardProcess, bomb, c_bomb, detach, guard, inside, leftovers, members, pen, start
from kit import prop, stat_of, until

from pidwarden.guard.control import ask
from pidwarden.kernel import cgroup, freezer, procfs

pytestmark = [pytest.mark.root, pytest.mark.bpf]

MOUNTS = cgroup.mounts()
needs_v2 = pytest.mark.skipif(MOUNTS.v2 is None, reason="no v2 hierarchy is mounted")
needs_v1 = pytest.mark.skipif("freezer" not in MOUNTS.v1, reason="no v1 freezer is mounted")
PATIENT = str(Path(__file__).with_name("patient.toml"))
HOLD = ("--mode", "hold", "--config", PATIENT)


def settings(tmp_path, text):
    path = tmp_path / "pidwarden.toml"
    path.write_text(Path(PATIENT).read_text() + text)
    return ["--config", str(path)]


def cpu_ticks(pids):
    """Processor time of processes, in ticks (proc_pid_stat(5), fields 14 and 15)."""
    total = 0
    for pid in pids:
        data = procfs.read_bytes(f"/proc/{pid}/stat") or b") R" + b" 0" * 50
        total += sum(map(int, data[data.rindex(b")") + 2 :].split()[11:13]))
    return total


def states(pids):
    return {s.state for pid in pids if (s := stat_of(pid))}


def stand_still(pids):
    """Whether they use no processor: two readings a while apart that are the same (it is time that must pass)."""
    before = cpu_ticks(pids)
    signal.sigtimedwait([], 0.2)
    return cpu_ticks(pids) == before


def frozen_by(running, how):
    """The event that says so; another may come before it, if somebody was just being born."""
    return until(lambda: [e for e in running.events("frozen") if e["frozen_by"] == how], f"it to be frozen by {how}")[0]


def v2_of(made):
    return f"{MOUNTS.v2}/{made.name}"


def quarantines():
    roots = [r for r in (MOUNTS.v2, MOUNTS.v1.get("freezer")) if r]
    return [p for r in roots for p in glob.glob(f"{r}/**/pidwarden-quarantine-*", recursive=True) if os.path.isdir(p)]


class Shared:
    """A cgroup below a pen's, with a bystander in it that is a child of the test."""

    def __init__(self, made, directory):
        self.made, self.directory = made, directory
        self.bystander = start(["sleep", "100"], self.enter)

    def enter(self):
        self.made.enter()
        cgroup.move(os.getpid(), self.directory)

    @contextlib.contextmanager
    def bomb(self, *argv):
        process = start(argv, self.enter)
        try:
            yield process
        finally:
            self.made.kill()
            process.wait()


@contextlib.contextmanager
def shared(made, *, hierarchy=None):
    directory = f"{hierarchy or MOUNTS.v2}/{made.name}/app"
    with inside(directory):
        here = Shared(made, directory)
        try:
            yield here
        finally:
            here.bystander.kill()
            here.bystander.wait()


class Tree:
    """62 copies of copies: judged to be a bomb, and complete and quiet some time after it was released."""

    def __init__(self, tmp_path, enter):
        self._path = tmp_path / "said"
        with self._path.open("w") as out:
            self.process = start([prop("odd"), "tree", "5"], enter, stdin=subprocess.PIPE, stdout=out, process_group=0)

    def __enter__(self):
        return self

    def is_complete(self):
        until(lambda: self._path.read_text() == f"{self.process.pid} 62\n", "all copies to be there")

    def __exit__(self, *_how):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


# -- each way ----------------------------------------------------------------------------------------------------------


@needs_v2
def test_a_bomb_alone_in_its_cgroup_is_frozen_there_and_killed_with_it():
    with guard(*HOLD) as running, pen() as made, bomb(made, prop("restless")) as root:
        frozen = frozen_by(running, "cgroup v2")
        assert 250 < frozen["members"] <= len(members(made))
        assert frozen["plan"][0].startswith(f"freeze {v2_of(made)} (")
        assert freezer.is_frozen(v2_of(made))
        assert ask(running.run_dir, "status")["incidents"][0]["frozen_by"] == "cgroup v2"
        everybody = members(made)
        os.kill(root.pid, signal.SIGCONT)
        assert stand_still(everybody)
        ask(running.run_dir, "kill", str(frozen["family"]))
        killed = running.wait("killed")
        assert (killed["killed_by"], killed["survivors"]) == ("cgroup.kill", 0)
        assert killed["killed"] >= len(everybody)
        assert not freezer.is_populated(v2_of(made))
        assert not freezer.is_asked(v2_of(made))  # whoever comes into it next is not frozen
        assert root.wait() == -signal.SIGKILL


@needs_v2
@pytest.mark.parametrize("by", ["a person", "the end of the guard"])
def test_released_it_is_thawed_and_every_fork_proceeds(tmp_path, by):
    with guard(*HOLD, "--hold-at", "30") as running, pen() as made, Tree(tmp_path, made.enter) as tree:
        frozen = frozen_by(running, "cgroup v2")
        assert freezer.is_frozen(v2_of(made))
        if by == "a person":
            ask(running.run_dir, "release", str(frozen["family"]))
        else:
            assert running.stop() == 0
        tree.is_complete()
        assert not freezer.is_asked(v2_of(made))
        assert "T" not in states(members(made))
    assert leftovers(running.run_dir) == []


@needs_v2
@pytest.mark.parametrize("by", ["a person", "the end of the guard"])
def test_out_of_quarantine_it_goes_back_where_it_was_and_every_fork_proceeds(tmp_path, by):
    config = settings(tmp_path, "quarantine = true\n")
    with (
        guard(*HOLD, "--hold-at", "30", *config) as running,
        pen() as made,
        shared(made) as app,
        Tree(tmp_path, app.enter) as tree,
    ):
        frozen = frozen_by(running, "quarantine")
        [where] = quarantines()
        moved = cgroup.processes(where)
        assert tree.process.pid in moved
        assert len(moved) > 25
        assert not moved & cgroup.processes(app.directory)
        if by == "a person":
            ask(running.run_dir, "release", str(frozen["family"]))
        else:
            assert running.stop() == 0
        tree.is_complete()
        assert quarantines() == []
        assert moved < cgroup.processes(app.directory)
        assert app.bystander.poll() is None
    assert leftovers(running.run_dir) == []


@needs_v2
def test_a_bomb_that_shares_its_cgroup_is_quarantined_and_killed_there(tmp_path):
    config = settings(tmp_path, "quarantine = true\n")
    with guard(*HOLD, *config) as running, pen() as made, shared(made) as app, app.bomb(prop("restless")) as root:
        frozen = frozen_by(running, "quarantine")
        where = f"{app.directory}/pidwarden-quarantine-{os.path.basename(running.run_dir)}-{_guilty(running)}"
        assert quarantines() == [where]
        assert freezer.is_frozen(where)
        assert cgroup.processes(app.directory) == {app.bystander.pid}
        assert stand_still(cgroup.processes(where))
        ask(running.run_dir, "kill", str(frozen["family"]))
        killed = running.wait("killed")
        assert (killed["killed_by"], killed["survivors"]) == ("cgroup.kill", 0)
        until(lambda: not quarantines(), "the quarantine to be gone")
        assert cgroup.processes(app.directory) == {app.bystander.pid}
        assert app.bystander.poll() is None
        assert root.wait() == -signal.SIGKILL


@needs_v2
def test_without_leave_to_move_it_it_is_stopped_by_signal_and_again_after_sigcont():
    with guard(*HOLD) as running, pen() as made, shared(made) as app, app.bomb(prop("restless")) as root:
        frozen_by(running, "signal")
        assert quarantines() == []
        everybody = sorted(cgroup.processes(app.directory) - {app.bystander.pid})
        until(lambda: states(everybody) == {"T"}, "everybody to be stopped")
        for _ in range(3):
            for pid in everybody:
                os.kill(pid, signal.SIGCONT)
            until(lambda: states(everybody) == {"T"}, "everybody to be stopped again")
        assert states([app.bystander.pid]) == {"S"}
        assert ask(running.run_dir, "status")["incidents"][0]["woken"] > 0
        ask(running.run_dir, "kill", str(running.events("frozen")[0]["family"]))
        killed = running.wait("killed")
        assert (killed["killed_by"], killed["survivors"]) == ("pidfd", 0)
        assert root.wait() == -signal.SIGKILL


@pytest.fixture
def alone_in_v1():
    """A pen, an entrance where the v2 cgroup is shared and v1's freezer has who enters alone, and that freezer."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(pen())
        app = stack.enter_context(shared(made)) if MOUNTS.v2 else None
        alone = stack.enter_context(inside(f"{MOUNTS.v1['freezer']}/{made.name}"))

        def enter():
            app.enter() if app else made.enter()
            assert cgroup.move(os.getpid(), alone)

        yield made, enter, alone


@needs_v1
def test_v1_freezer_and_the_frozen_die_although_v1_lets_none_die(alone_in_v1):
    made, enter, alone = alone_in_v1
    with guard(*HOLD) as running, start([prop("restless")], enter) as root:
        try:
            frozen = frozen_by(running, "cgroup v1")
            everybody = cgroup.processes(alone)
            assert stand_still(everybody)
            assert states(everybody) == {"D"}
            ask(running.run_dir, "kill", str(frozen["family"]))
            assert running.wait("killed")["survivors"] == 0
            assert not freezer.is_asked(alone)
        finally:
            made.kill()
            freezer.thaw(alone)
            root.wait()


@needs_v1
def test_v1_freezer_is_thawed_and_every_fork_proceeds(alone_in_v1, tmp_path):
    _made, enter, alone = alone_in_v1
    with guard(*HOLD, "--hold-at", "30") as running, Tree(tmp_path, enter) as tree:
        frozen = frozen_by(running, "cgroup v1")
        assert freezer.is_frozen(alone)
        ask(running.run_dir, "release", str(frozen["family"]))
        tree.is_complete()
        assert not freezer.is_asked(alone)


# -- who is not frozen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["freeze = 'never'\n", "on_bomb = 'kill'\n"])
def test_nobody_is_frozen_who_need_not_be(tmp_path, text):
    mode = "hold" if "never" in text else "kill"
    with guard("--mode", mode, *settings(tmp_path, text)) as running, pen() as made, bomb(made, *c_bomb("tight")):
        running.wait("waiting" if mode == "hold" else "killed")
        assert not running.events("frozen")


@needs_v2
def test_signal_is_used_where_freezers_are_not_wanted(tmp_path):
    config = settings(tmp_path, "freeze = 'signal'\n")
    with guard(*HOLD, *config) as running, pen() as made, bomb(made, prop("restless")):
        frozen_by(running, "signal")
        assert not freezer.is_asked(v2_of(made))


@needs_v2
def test_a_protected_member_is_neither_frozen_nor_moved(tmp_path):
    config = settings(tmp_path, "quarantine = true\nprotect_users = ['nobody']\n")
    script = f"""
import os
if os.fork() == 0:
    os.setresuid(65534, 65534, 65534)
    while True: os.getppid()
os.execv({prop("restless")!r}, ["restless"])
"""
    with guard(*HOLD, *config) as running, pen() as made, inside(f"{v2_of(made)}/app") as app:

        def enter():
            made.enter()
            assert cgroup.move(os.getpid(), app)

        with start([sys.executable, "-c", script], enter) as root:
            frozen_by(running, "quarantine")
            left = cgroup.processes(app)
            assert [os.stat(f"/proc/{pid}").st_uid for pid in left] == [65534]
            assert states(left) == {"R"}
            assert not stand_still(left)
            made.kill()
            root.wait()
            running.stop()


@needs_v2
def test_who_comes_into_a_frozen_cgroup_is_not_frozen_for_long():
    with guard(*HOLD) as running, pen() as made, bomb(made, prop("restless")):
        frozen_by(running, "cgroup v2")
        everybody = members(made)
        with start(["sleep", "100"], made.enter) as late:
            until(lambda: not freezer.is_asked(v2_of(made)), "the cgroup to be thawed")
            until(lambda: states(everybody) == {"T"}, "its members to be stopped by signal")
            until(lambda: states([late.pid]) == {"S"}, "the other one to sleep")
            assert ask(running.run_dir, "status")["incidents"][0]["frozen_by"] == "signal"
            late.kill()


# -- crashes -----------------------------------------------------------------------------------------------------------


def _guilty(running):
    return ask(running.run_dir, "status")["incidents"][0]["guilty_family"]


@needs_v2
@pytest.mark.parametrize("recorded", [True, False])
def test_detach_thaws_and_moves_back_what_a_killed_guard_left(tmp_path, recorded):
    running = GuardProcess(*HOLD, "--hold-at", "30", *settings(tmp_path, "quarantine = true\n"))
    try:
        running.wait("ready")
        with pen() as made, shared(made) as app, Tree(tmp_path, app.enter) as tree:
            running.wait("frozen")
            running.process.kill()
            running.process.wait()
            [where] = quarantines()
            assert freezer.is_frozen(where)
            if not recorded:
                for path in glob.glob(f"{running.run_dir}/frozen-*"):
                    os.unlink(path)
            assert "had left frozen" in detach(running.run_dir)
            assert quarantines() == []
            tree.is_complete()
            assert tree.process.pid in cgroup.processes(app.directory)
        assert leftovers(running.run_dir) == []
    finally:
        running.close()
        detach(running.run_dir)


@needs_v2
@pytest.mark.parametrize("mode", ["hold", "kill"])
def test_the_next_guard_takes_over_who_is_frozen(mode):
    running = GuardProcess(*HOLD)
    try:
        running.wait("ready")
        with pen() as made, bomb(made, prop("restless")) as root:
            running.wait("frozen")
            running.process.kill()
            running.process.wait()
            everybody = members(made)
            with guard("--mode", mode, "--config", PATIENT, run_dir=running.run_dir) as successor:
                if mode == "hold":
                    frozen_by(successor, "cgroup v2")
                    assert freezer.is_frozen(v2_of(made))
                    assert stand_still(everybody)
                    ask(successor.run_dir, "kill", str(successor.events("waiting")[0]["family"]))
                assert successor.wait("killed")["survivors"] == 0
                root.wait()
                assert not freezer.is_asked(v2_of(made))
                assert successor.stop() == 0
            assert leftovers(running.run_dir) == []
    finally:
        running.close()
        detach(running.run_dir)


@needs_v2
def test_a_guard_that_finds_no_hold_thaws_what_is_recorded():
    """The pins are gone, as after a reload of the BPF side: nobody can take over, so nobody stays frozen."""
    run_dir = f"/run/pidwarden-test-{os.getpid()}"
    with pen() as made, start(["sleep", "100"], made.enter) as sleeper:
        os.makedirs(run_dir, mode=0o700)
        freezer.freeze(v2_of(made))
        until(lambda: freezer.is_frozen(v2_of(made)), "it to be frozen")
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        step = {"how": "cgroup v2", "directory": v2_of(made), "members": []}
        with open(f"{run_dir}/frozen-7.json", "w", encoding="ascii") as file:
            json.dump({"family": 7, "boot_id": boot, "steps": [step]}, file)
        with guard() as running:
            until(lambda: any("had left frozen" in e["text"] for e in running.events("note")), "the guard to thaw it")
            assert not freezer.is_asked(v2_of(made))
        sleeper.kill()
    assert leftovers(run_dir) == []
