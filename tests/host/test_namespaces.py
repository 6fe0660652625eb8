"""Pid and cgroup namespaces and what looks like a container: contained across them, and shown with both numbers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from guardkit import GuardProcess, bomb, c_bomb, detach, guard, inside, leftovers, pen, start, stopped_in
from kit import prop, until

from pidwarden.guard.control import ask
from pidwarden.kernel import cgroup, namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.drill.pen import Pen

pytestmark = [pytest.mark.root, pytest.mark.bpf]


class Box(NamedTuple):
    """A pen, the way into the cgroup below it that is called like a container's, and that container's id."""

    pen: Pen
    enter: Callable[[], None]
    id: str


PATIENT = ["--config", str(Path(__file__).with_name("patient.toml"))]
NESTED = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]


def pidwarden(*arguments, prefix=(), enter=None, code=0):
    """What a command prints, out of this tree."""
    command = [*prefix, sys.executable, "-m", "pidwarden", *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, preexec_fn=enter, timeout=60
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def box():
    """A pen, a cgroup in it that is called like a container's, and the way in for a child."""
    number = os.urandom(32).hex()  # anew each time: zombies keep their cgroup's path
    with pen() as made:
        where = next(d for d in made.directories if os.path.exists(f"{d}/cgroup.procs"))
        if cgroup.mounts().v2:
            where = f"{cgroup.mounts().v2}/{made.name}"
        with inside(f"{where}/docker-{number}.scope") as directory:

            def enter():
                made.enter()
                assert cgroup.move(os.getpid(), directory)

            yield Box(made, enter, number)


@contextlib.contextmanager
def running(box, *argv):
    process = start(argv, box.enter)
    try:
        yield process
    finally:
        box.pen.kill()
        process.wait()


def only_child(pid):
    """Waits for the one child of a process that is there, and its pid."""
    path = f"/proc/{pid}/task/{pid}/children"

    def look():
        with open(path, encoding="ascii") as file:
            return file.read().split()

    return int(until(look, f"a child of {pid}")[0])


def test_a_bomb_in_a_pid_namespace_is_contained_and_shown_with_both_pids(box):
    with guard(*PATIENT) as watcher, running(box, *NESTED, *c_bomb("tight")) as outer:
        killed = watcher.wait("killed")
        assert (killed["survivors"], outer.wait() != 0) == (0, True)
        [verdict] = [e for e in watcher.events("verdict") if e["verdict"] == "bomb"]
        guilty = verdict["guilty"]
        assert guilty["inner_pid"] == 1
        assert guilty["pid"] > 1
        assert guilty["container"] == f"docker:{box.id}"
        assert guilty["cgroup"].endswith(f"/docker-{box.id}.scope")
        assert killed["guilty"] == guilty
        founder = watcher.events("alarm")[0]["founder"]
        assert (founder["pid"], founder["inner_pid"]) == (outer.pid, None)
        assert founder["container"] == f"docker:{box.id}"
        assert box.pen.peak() <= 600


def test_two_namespaces_deep(box):
    with guard("--mode", "hold", *PATIENT) as watcher, running(box, *NESTED, *NESTED, *c_bomb("setsid")):
        waiting = watcher.wait("waiting")
        guilty = watcher.events("verdict")[-1]["guilty"]
        assert guilty["inner_pid"] == 1
        assert len(namespaces.inner_pids(guilty["pid"])) == 3
        incident = ask(watcher.run_dir, "status")["incidents"][0]
        assert incident["guilty"]["container"] == f"docker:{box.id}"
        text = pidwarden("status", "--run-dir", watcher.run_dir)
        assert f"in container docker:{box.id[:12]}: bomb ({guilty['pid']}, inside: 1)" in text
        ask(watcher.run_dir, "kill", str(waiting["family"]))
        assert watcher.wait("killed")["survivors"] == 0


def test_a_family_crosses_into_a_namespace_and_its_neighbours_there_live(box):
    """The pid 1 of a namespace is a shell with a sleeper; the bomb in it comes later, and only that is killed."""
    script = f"sleep 100 & sleep 1.2; {prop('bomb')} tight & wait"
    with guard(*PATIENT) as watcher, running(box, *NESTED, "sh", "-c", script) as outer:
        assert watcher.wait("killed")["survivors"] == 0
        init = only_child(outer.pid)
        assert namespaces.inner_pids(init)[-1] == 1
        below = [cgroup.processes_below(directory) for directory in box.pen.directories]
        assert max(len(found or ()) for found in below) >= 3
        guilty = watcher.events("killed")[0]["guilty"]
        assert guilty["inner_pid"] not in (None, 1)
        assert guilty["pid"] != init


def test_ps_tree_and_history_show_where_a_process_is(box):
    with guard("--mode", "observe") as watcher, running(box, *NESTED, "sleep", "100") as outer:
        pid = only_child(outer.pid)
        until(lambda: namespaces.inner_pids(pid)[-1:] == (1,), "it to be there")
        for source in (["--run-dir", watcher.run_dir], ["--no-guard"]):
            columns = "pid,nspid,pidns,cgroup,container"
            found = json.loads(pidwarden("ps", f"container:{box.id[:12]}", "-o", columns, "--json", *source))[
                "processes"
            ]
            by_pid = {p["pid"]: p for p in found}
            assert by_pid.keys() == {outer.pid, pid}
            assert by_pid[outer.pid]["nspid"] == outer.pid
            assert by_pid[pid]["nspid"] == 1
            assert by_pid[pid]["pidns"] == namespaces.pid_namespace(pid) != namespaces.pid_namespace("self")
            assert by_pid[pid]["container"] == f"docker:{box.id}"
            assert by_pid[pid]["cgroup"].endswith(f"{box.pen.name}/docker-{box.id}.scope")
            named = f"nspid:1@{by_pid[pid]['pidns']}"
            assert json.loads(pidwarden("ps", named, "-o", "pid", "--json", *source))["processes"] == [{"pid": pid}]
            assert f"docker:{box.id[:12]}" in pidwarden("ps", f"container:{box.id}", "-o", "pid,container", *source)
            drawn = pidwarden("tree", f"container:{box.id}", *source)
            assert f"[docker:{box.id[:12]}]" in drawn
            assert f"[docker:{box.id[:12]}, pid 1 inside]" in drawn
            assert f"inside   docker:{box.id[:12]}, pid 1 inside" in pidwarden("history", str(pid), *source)
            [shown] = [
                p
                for p in json.loads(pidwarden("tree", "--json", f"pid:{pid}", *source))["processes"]
                if p["pid"] == pid
            ]
            assert (shown["inner_pid"], shown["container"]) == (1, f"docker:{box.id}")
        refused = pidwarden("ps", "container:ffffffffffff", code=1)
        assert "no container of that id" in refused


def test_a_guard_limited_to_a_container_acts_on_nobody_else(box):
    only = ["--only", f"container:{box.id[:16]}"]
    command = [sys.executable, "-m", "pidwarden", "guard", "--json", *only, *PATIENT]
    with running(box, "sleep", "100") as sleeper, pen(400, slow=True) as other:
        limited = GuardProcess()
        limited.process.kill()
        limited.process.wait()
        detach(limited.run_dir)
        os.ftruncate(limited._out.fileno(), 0)
        limited.process = subprocess.Popen(
            [*command, "--run-dir", limited.run_dir], stdout=limited._out, stderr=limited._err
        )
        try:
            limited.wait("ready")
            with bomb(other, *c_bomb("tight")):
                until(lambda: other.peak() == 400, "the bomb outside to fill its pen unhindered")
                with start([*NESTED, *c_bomb("tight")], box.enter) as inner:
                    assert limited.wait("killed", seconds=50)["survivors"] == 0
                    inner.wait()
                assert stopped_in(other) == 0
            assert sleeper.poll() is None
            assert len(limited.events("killed")) == 1
            assert limited.stop() == 0
        finally:
            limited.close()
            detach(limited.run_dir)
    assert leftovers(limited.run_dir) == []


def test_the_bpf_guard_is_refused_inside_a_pid_namespace_with_what_to_type(box, tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("source = 'bpf'\n")
    run_dir = f"/run/pidwarden-test-{os.getpid()}-in"
    arguments = ["guard", "--only", "pid:1", "--run-dir", run_dir, "--config", str(config)]
    text = pidwarden(*arguments, prefix=NESTED, enter=box.enter, code=4)
    assert "nested pid namespace" in text
    assert f"`sudo pidwarden guard --only container:{box.id[:12]}` on the host" in text
    assert "--pid=host" in text


def test_seen_from_a_cgroup_namespace_paths_outside_of_it_begin_with_dots(box):
    """Who looks is in a container's cgroup namespace: names count wherever they stand on the path."""
    with running(box, *NESTED, "sleep", "100") as outer:
        pid = only_child(outer.pid)
        argv = ["ps", "--no-guard", f"pid:{pid}", "-o", "pid,cgroup,container", "--json"]

        def beside():
            box.pen.enter()

        [found] = json.loads(pidwarden(*argv, prefix=["unshare", "--cgroup"], enter=beside))["processes"]
        assert found["cgroup"] == f"/docker-{box.id}.scope"
        assert found["container"] == f"docker:{box.id}"
        with inside(f"{cgroup.mounts().v2}/{box.pen.name}/beside") as directory:

            def deeper():
                box.pen.enter()
                assert cgroup.move(os.getpid(), directory)

            [found] = json.loads(pidwarden(*argv, prefix=["unshare", "--cgroup"], enter=deeper))["processes"]
            assert found["cgroup"] == f"/../docker-{box.id}.scope"
            assert found["container"] == f"docker:{box.id}"
        outer.send_signal(signal.SIGKILL)
