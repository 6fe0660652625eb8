"""`pidwarden rescue --auto` inside a pen that is full: every shape recovered, the neighbours in the same pen alive."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
from guardkit import members, pen, reap_adopted, start
from kit import prop, stat_of, until

from pidwarden.drill import shapes

pytestmark = pytest.mark.root

CAP = 300
RESCUE = [sys.executable, "-m", "pidwarden", "rescue"]
# The same program as most bombs here, as young, in the same session: only that it has no part in it tells them apart.
NEIGHBOUR = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]


@contextlib.contextmanager
def full_pen(argv, cap=CAP, filled=None):
    """A pen in which fork fails for everybody, with neighbours inside: (pen, neighbours)."""
    with pen(cap) as made, contextlib.ExitStack() as stack:
        beside = [start(command, made.enter) for command in (["sleep", "1000"], NEIGHBOUR, NEIGHBOUR)]
        bomb = start(argv, made.enter, stderr=subprocess.DEVNULL)
        stack.callback(lambda: until(lambda: not made.current(), "the dead to be reaped, who are suspects too", 60))
        stack.callback(reap_adopted)
        for one in (*beside, bomb):
            stack.callback(one.wait)
        stack.callback(made.kill)
        until(lambda: made.current() >= (filled or cap), "the pen to be full", 60)
        yield made, beside
        for one in beside:
            assert stat_of(one.pid).state == "S", "a neighbour is hurt"


def run(made, *arguments):
    """Runs the rescue in the pen; it replaces the shell there, so that it needs no slot more than that.

    With the priority that the runbook gives it: without, to start beside hundreds that spin takes seconds.
    """

    def enter():
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        made.enter()

    process = start(
        [*RESCUE, *arguments], enter, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


def alive(made, beside):
    others = {one.pid for one in beside}
    return [p for p in members(made) if p not in others and (s := stat_of(p)) and s.state not in "ZX"]


def drill_shape(name):
    return [sys.executable, "-I", "-S", shapes.__file__, name]


# The shapes in C below, and all else here, meet the gate.
GATES = [*((name, "--no-gate") for name in shapes.SHAPES), ("tight", "--gate"), ("setsid", "--gate")]


@pytest.mark.parametrize(("name", "gate"), GATES)
def test_every_drill_shape(name, gate):
    with full_pen(drill_shape(name)) as (made, beside):
        code, out, err = run(made, "--auto", "--yes", gate)
        assert (code, err) == (0, ""), out
        assert not alive(made, beside)
        assert "Nobody of it" in out
        assert ("held in the kernel" in out) == (gate == "--gate")
        assert ("frozen in" in out) == (gate == "--no-gate")


# Where few members had the processor, one or two may have made nearly all the others: that is no shape (2 of 130).
@pytest.mark.parametrize(
    ("name", "told"),
    [("parent", ()), ("signals", ()), ("woken", ("--suspect", "1")), ("vfork", ()), ("clone3", ("--suspect", "1"))],
)
def test_shapes_in_c(name, told):
    with full_pen([prop("bomb"), name]) as (made, beside):
        code, out, err = run(made, "--auto", "--yes", *told)
        assert (code, err) == (0, ""), out
        assert not alive(made, beside)


def test_a_rehearsal_changes_nothing():
    with full_pen([prop("bomb"), "vfork"]) as (made, _beside):
        before = set(members(made))
        code, out, err = run(made, "--auto", "--dry-run")
        assert (code, err) == (0, ""), out
        assert "would: hold the forks of" in out
        assert not [pid for pid in before if stat_of(pid).state == "T"]
        assert before <= set(members(made))


def test_for_programs():
    with full_pen([prop("bomb"), "vfork"]) as (made, beside):
        code, out, _err = run(made, "--auto", "--json")
        assert code == 2
        code, out, err = run(made, "--auto", "--json", "--yes")
        assert (code, err) == (0, "")
        report = json.loads(out)
        assert report["suspects"][0]["sure"]
        assert report["outcomes"][0]["gone"]
        assert report["outcomes"][0]["killed"] >= CAP - 10
        assert report["limit"]["used"] >= CAP
        assert not alive(made, beside)


def test_a_pool_is_not_certain():
    code = "import os, time\nfor i in range(200):\n    os.fork() or time.sleep(1000)\ntime.sleep(1000)"
    with full_pen([sys.executable, "-I", "-S", "-c", code], 220, 204) as (made, beside):
        before = alive(made, beside)
        status, out, err = run(made, "--auto", "--yes")
        assert (status, err) == (1, ""), out
        assert "none of them is certain" in out
        assert alive(made, beside) == before
        status, out, err = run(made, "--auto", "--yes", "--suspect", "1")
        assert (status, err) == (0, ""), out
        assert not alive(made, beside)


def test_a_machine_that_is_well():
    found = subprocess.run([*RESCUE, "--auto", "--dry-run"], capture_output=True, text=True, check=True)
    assert "slots are in use" in found.stdout
    assert "would" not in found.stdout


def test_threads_that_came_slowly_are_not_certain():
    code = (
        "import threading, time\n"
        "for i in range(100):\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "    time.sleep(0.2)\ntime.sleep(1000)"
    )
    with full_pen([sys.executable, "-I", "-S", "-c", code], 120, 60) as (made, beside):
        status, out, err = run(made, "--auto", "--yes")
        assert (status, err) == (1, ""), out
        assert "they came over" in out
        assert len(alive(made, beside)) == 1


def test_what_is_not_in_the_full_cgroup_is_not_its_trouble():
    with pen(CAP) as other, start([prop("bomb"), "tight"], other.enter) as bomb:
        until(lambda: other.current() >= CAP, "the other pen to be full", 60)
        with full_pen(NEIGHBOUR, 4) as (made, _beside):
            status, out, err = run(made, "--auto", "--yes")
            assert (status, err) == (1, ""), out
            assert "elsewhere" in out
        assert other.current() >= CAP
        other.kill()
        bomb.wait()
