"""The dead-man switch as a process, on directories that only stand for cgroups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pidwarden.drill import deadman
from pidwarden.drill.pen import DeadMan
from pidwarden.errors import PidwardenError


def directories(root, count=2):
    made = [root / f"pidwarden-pen-0-{n}" for n in range(count)]
    for directory in made:
        directory.mkdir()
    return [str(d) for d in made]


def start(seconds, paths):
    """The switch, ready, and the write end of its pipe."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", deadman.__file__, str(reading), str(seconds), *paths],
        stdout=subprocess.PIPE,
        pass_fds=[reading],
    )
    os.close(reading)
    assert process.stdout.readline() == deadman.READY
    return process, writing


def test_it_fires_when_the_pipe_closes_and_not_before(tmp_path):
    paths = directories(tmp_path)
    process, writing = start(60, paths)
    with process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, paths))
        os.close(writing)
        assert process.wait(20) == 0
    assert os.listdir(tmp_path) == []


def test_it_fires_at_the_deadline_with_the_owner_still_there(tmp_path):
    process, writing = start(0.1, directories(tmp_path))
    with process:
        assert process.wait(20) == 0
    os.close(writing)
    assert os.listdir(tmp_path) == []


def test_it_is_deaf_to_what_ends_its_owner_and_in_a_session_of_its_own(tmp_path):
    paths = directories(tmp_path)
    process, writing = start(60, paths)
    with process:
        assert os.getsid(process.pid) == process.pid
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        os.close(writing)
        assert process.wait(20) == 0
    assert os.listdir(tmp_path) == []


def test_it_says_so_and_fails_when_a_directory_does_not_go(tmp_path):
    paths = directories(tmp_path, 1)
    with open(f"{paths[0]}/in-the-way", "w"):
        pass  # rmdir then fails, as it does while a cgroup has members
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", deadman.__file__, str(reading), "60", *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[reading],
    )
    os.close(reading)
    os.close(writing)
    _out, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert paths[0].encode() in errors


def test_the_owner_waits_until_the_switch_listens(tmp_path):
    with DeadMan([str(tmp_path / "pidwarden-pen-0-9")], 60) as switch:
        assert os.getsid(switch.pid) == switch.pid  # it has said ready, so setsid is behind it
    with pytest.raises(ProcessLookupError):
        os.kill(switch.pid, 0)  # gone, and reaped


def test_a_switch_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(deadman, "__file__", str(tmp_path / "not-there.py"))
    with pytest.raises(PidwardenError, match="nothing was set off"), DeadMan([str(tmp_path)], 60):
        pytest.fail("went on without a dead-man switch")


def test_removal_is_tried_until_it_works(tmp_path, monkeypatch):
    busy = directories(tmp_path, 1)
    left = [2]
    rmdir = os.rmdir

    def later(path):
        if left[0]:
            left[0] -= 1
            raise OSError(16, "busy", path)
        rmdir(path)

    monkeypatch.setattr(deadman.os, "rmdir", later)
    assert deadman.remove(busy, 10) == []
    assert os.listdir(tmp_path) == []


def test_only_members_are_struck(tmp_path):
    """A pid that is on the list but whose process is not in the cgroup is somebody else by now."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "pidwarden-pen-0-1").mkdir()
        (tmp_path / "pidwarden-pen-0-1/cgroup.procs").write_text(f"{bystander.pid}\n")
        assert deadman.empty([str(tmp_path / "pidwarden-pen-0-1")], 0.2) is False  # "left", as the list never changes
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_forking_is_stopped_before_anybody_is_killed_and_v2_kills_at_once(tmp_path, monkeypatch):
    paths = directories(tmp_path)
    for path, names in zip(paths, (["pids.max"], ["cgroup.kill"]), strict=True):
        for name in [*names, "cgroup.procs"]:
            with open(f"{path}/{name}", "w"):
                pass
    written = []
    put = deadman.put
    monkeypatch.setattr(deadman, "put", lambda path, text: (put(path, text) and written.append((path, text)), True)[1])
    assert deadman.empty(paths, 1)
    assert written == [(f"{paths[0]}/pids.max", "0"), (f"{paths[1]}/cgroup.kill", "1")]
