"""The text of `pidwarden rescue --print-shell`, in shells that sit in a full pen with the bomb: no fork succeeds there.

It looks at the whole machine, so each bomb has a name and a file that nobody else has.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest
from guardkit import members, pen, start
from kit import prop, stat_of, until
from shellkit import SHELLS, Typed

pytestmark = pytest.mark.root

CAP = 60


@pytest.fixture(params=SHELLS)
def shell(request):
    command = SHELLS[request.param]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return command


@pytest.fixture
def unique(tmp_path):
    """A bomb under a name of its own, of at most 15 bytes."""
    path = str(tmp_path / f"pw{os.getpid() % 100_000}x{os.urandom(3).hex()}")
    shutil.copy(prop("bomb"), path)
    return path


@contextlib.contextmanager
def full_pen(shell, *bomb):
    """A pen with a shell, a neighbour and a bomb, in which nothing can be forked any more."""
    with pen(CAP) as made, contextlib.ExitStack() as stack:
        typed = Typed(shell, made)
        beside = start(["sleep", "1000"], made.enter)
        root = start(bomb, made.enter, stderr=subprocess.DEVNULL, start_new_session=True)
        stack.callback(reap)
        for wait in (typed.end, beside.wait, root.wait):
            stack.callback(wait)
        stack.callback(made.kill)
        until(lambda: made.current() >= CAP, "the pen to be full", 60)
        yield made, typed, beside, root
        assert stat_of(beside.pid).state == "S"
        assert "fork" not in typed.said
        assert "not found" not in typed.said


def reap():
    """With CLONE_PARENT the members are our children."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def text(*arguments):
    command = [sys.executable, "-m", "pidwarden", "rescue", "--print-shell", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def alive(made, *but):
    return [pid for pid in members(made) if pid not in but]


@pytest.mark.parametrize("shape", ["tight", "setsid", "parent", "threads"])
def test_by_name(shell, unique, shape):
    with full_pen(shell, unique, shape) as (made, typed, beside, _root):
        said = typed.type(text("--name", os.path.basename(unique)), "now type pw_kill")
        assert "more frozen" in said
        mine = (typed.process.pid, beside.pid)
        assert all(stat_of(pid).state in "TZ" for pid in alive(made, *mine))
        assert " 0 left" in typed.type("pw_kill", "left\n")
        until(lambda: not alive(made, *mine), "the bomb to be dead")


def test_by_file_whatever_they_are_called(shell, unique):
    """Each member of this one has started itself again, under another name."""
    with full_pen(shell, unique, "vfork") as (made, typed, beside, _root):
        typed.type(text("--exe", unique), "now type pw_kill")
        assert " 0 left" in typed.type("pw_kill", "left\n")
        until(lambda: not alive(made, typed.process.pid, beside.pid), "the bomb to be dead")


def test_by_process_group(shell, unique):
    with full_pen(shell, unique, "tight") as (made, typed, beside, root):
        typed.type(text("--pgrp", str(root.pid)), "now type pw_kill")
        assert " 0 left" in typed.type("pw_kill", "left\n")
        until(lambda: not alive(made, typed.process.pid, beside.pid), "the bomb to be dead")


def test_by_user(shell, unique):
    uid = 60_000 + os.getpid() % 5000  # nobody's
    os.chmod(os.path.dirname(unique), 0o755)
    become = ["setpriv", f"--reuid={uid}", "--clear-groups", unique]
    with full_pen(shell, *become, "tight") as (made, typed, beside, _root):
        typed.type(text("--user", str(uid)), "now type pw_kill")
        assert " 0 left" in typed.type("pw_kill", "left\n")
        until(lambda: not alive(made, typed.process.pid, beside.pid), "the bomb to be dead")


def test_what_was_frozen_can_be_let_go(shell, unique):
    with pen(CAP) as made:
        typed = Typed(shell, made)
        sleeper = start([unique, "timers"], made.enter)
        try:
            os.kill(sleeper.pid, signal.SIGSTOP)
            typed.type(text("--name", os.path.basename(unique)), "now type pw_kill")
            until(lambda: stat_of(sleeper.pid).state == "T", "it to be frozen")
            typed.type("pw_thaw", "continued")
            until(lambda: stat_of(sleeper.pid).state != "T", "it to go on")
        finally:
            made.kill()
            sleeper.wait()
            typed.end()


def test_its_own_ancestors_are_spared(shell, unique):
    """Even if they are meant: here the shell's parent bears the name, and is stopped by nobody."""
    shutil.copy(shutil.which("dash"), unique)
    with pen(CAP) as made:
        typed = Typed([unique, "-c", f"{' '.join(shell)}; exit"], made)
        try:
            said = typed.type(text("--name", os.path.basename(unique)), "now type pw_kill")
            assert "0 processes with name" in said
            assert stat_of(typed.process.pid).state == "S"
        finally:
            made.kill()
            typed.end()


def test_a_name_that_tries_to_be_a_line_of_stat(shell, tmp_path):
    """``) R 1 (`` in the name must not shift the fields: the process is found by its group all the same."""
    hostile = str(tmp_path / ") Z 2 (x")
    shutil.copy(shutil.which("sleep"), hostile)
    with pen(CAP) as made:
        typed = Typed(shell, made)
        victim = start([hostile, "1000"], made.enter, process_group=0)
        try:
            assert "1 processes with pgrp" in typed.type(text("--pgrp", str(victim.pid)), "now type pw_kill")
            assert "killed 1; 0 left" in typed.type("pw_kill", "left\n")
            assert victim.wait() == -signal.SIGKILL
        finally:
            made.kill()
            typed.end()
