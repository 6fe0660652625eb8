"""`pidwarden drill --shape zombie-maker` and the like on this machine: made, named, cleared by hand, and never left."""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys

import pytest
from kit import stat_of, until

from pidwarden.cli.main import main
from pidwarden.drill import teach
from pidwarden.drill.lessons import LESSONS

pytestmark = [pytest.mark.root]

DRILL = [sys.executable, "-m", "pidwarden", "drill"]


def pens(pid):
    return glob.glob(f"/sys/fs/cgroup/**/pidwarden-pen-{pid}-*", recursive=True)


@pytest.fixture(scope="module")
def all_lessons():
    """All of them in one drill, with few zombies each: the exit code and the lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teach, "COUNT", 20)
        lines = []
        patch.setattr("builtins.print", lambda text, **_options: lines.append(json.loads(text)))
        code = main(["drill", "--json", *(word for name in LESSONS for word in ("--shape", name))])
    return code, lines


def test_every_lesson_is_given_and_nothing_is_left(all_lessons):
    code, lines = all_lessons
    assert [line["shape"] for line in lines[:-1]] == list(LESSONS)
    assert (code, lines[-1]["summary"]) == (0, {"passed": True, "lessons": len(LESSONS), "failed": []})
    assert pens(os.getpid()) == []


@pytest.mark.parametrize("name", LESSONS)
def test_the_cause_that_was_made_is_the_cause_that_is_named(all_lessons, name):
    found = next(line for line in all_lessons[1] if line.get("shape") == name)
    assert (found["command"], found["cause"]) == tuple(teach.EXPECTED[name])
    assert found["proven_empty"]
    assert found["evidence"]


@pytest.fixture
def held_open():
    """A drill that holds a stopped parent open, and the parent's pid."""
    process = subprocess.Popen(
        [*DRILL, "--shape", "stopped-parent", "--hold-open", "300"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        lines = []
        while not lines or "another terminal" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        pid = next(int(line.split("pid:")[1]) for line in lines if "pidwarden zombies pid:" in line)
        yield process, pid, "".join(lines)
        process.kill()


def test_what_a_person_clears_by_hand_is_noticed(held_open):
    process, parent, story = held_open
    assert "stopped-parent: A parent that waits for all its children, and was stopped" in story
    assert f"200 zombies of process {parent}" in story
    assert "parent-stopped: the parent is stopped" in story
    assert f"kill -CONT {parent}" in story
    assert stat_of(parent).state == "T"
    os.kill(parent, signal.SIGCONT)
    rest, errors = process.communicate(timeout=60)
    assert "cleared  by hand, after " in rest
    assert rest.endswith("1 lesson: the cause was named and nothing is left.\n")
    assert (process.returncode, errors, pens(process.pid)) == (0, "", [])


def test_a_drill_killed_in_the_middle_of_a_lesson_leaves_nothing(held_open):
    process, parent, _story = held_open
    process.kill()
    until(lambda: not pens(process.pid), "the end of the pen")
    until(lambda: stat_of(parent) is None or stat_of(parent).state in "ZX", "the end of the parent")
