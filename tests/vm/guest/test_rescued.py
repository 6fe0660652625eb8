"""The whole process table full, no cap of any kind, no guard: one shell is left, and it becomes the rescue."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from guardkit import c_bomb
from kit import until
from scene import bomb, tasks
from test_recovery import PATIENCE, assert_usable, pid_max, table_is_full

pytestmark = [pytest.mark.root]

_RESCUE = f"exec nice -n -20 {sys.executable} -m pidwarden rescue"


@pytest.fixture(autouse=True)
def prompt():
    """This process gets to run beside thousands that never wait; its children are ordinary ones."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.parametrize(("shape", "how"), [("tight", "--auto --yes"), ("setsid", "--no-shell")])
def test_the_last_shell_wins_the_machine_back(shape, how, record_property):
    # A table that fits into the memory (about 170 KB a task): else the kernel kills for want of memory first.
    with (
        pid_max(1000),
        subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell,
        bomb(shape, "root", c_bomb(shape)) as burning,
    ):
        before = tasks()
        burning.light()
        burning.watch(table_is_full, "the process table to be full", PATIENCE)
        record_property("tasks at the end of the table", tasks())
        lines = "who\nfreeze 1\nkill\nquit\n" if how == "--no-shell" else ""
        said, _ = shell.communicate(f"{_RESCUE} {how}\n{lines}", timeout=PATIENCE)
        record_property("last lines", said.splitlines()[-4:])
        assert shell.returncode == 0, said
        burning.watch(lambda: not burning.living(), "nobody of it to live", PATIENCE)
        until(lambda: tasks() < before + 20, "the table to be as before", PATIENCE)
        assert_usable()
