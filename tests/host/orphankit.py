"""Orphans for the tests of `pidwarden orphans`, and what that says of one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from kit import Child, child, prop, stat_of, until

from pidwarden.cli.main import main
from pidwarden.kernel import cgroup


@contextlib.contextmanager
def orphan(*words, program="", **options):
    """A prop that made an orphan: the prop, the pids of the orphan and of its parent. All end with the test."""
    with contextlib.ExitStack() as stack:
        if program:
            running = Child(program, *words, **options)
            stack.callback(running.end)
        else:
            running = stack.enter_context(child("orphan", *words, **options))
        line = running.process.stdout.readline().split()
        if not line:
            pytest.skip("the kernel refuses what this orphan needs")
        pid, parent = map(int, line)
        yield running, pid, parent
    until(lambda: (s := stat_of(pid)) is None or s.state == "Z", "the orphan to go with the prop")


def take_away(running):
    """What it leads to is gone when this returns."""
    running.tell()
    running.said()


class Asked:
    """`pidwarden orphans` in this process: what it printed."""

    def __init__(self, capsys, *options):
        self._capsys, self._options = capsys, options

    def run(self, *arguments, code=0):
        """Its standard output."""
        self._capsys.readouterr()
        assert main(["orphans", *arguments, *self._options]) == code
        return self._capsys.readouterr().out

    def refused(self, *arguments, code=1):
        """The one line that it says on standard error."""
        self._capsys.readouterr()
        assert main(["orphans", *arguments, *self._options]) == code
        shown = self._capsys.readouterr()
        assert not shown.out
        return shown.err.splitlines()[-1]

    def of(self, pid):
        """What it says of one."""
        (found,) = json.loads(self.run(f"pid:{pid}", "--json"))["orphans"]
        assert found["pid"] == pid
        return found

    def verdict(self, pid):
        """Its verdict and the names of its signs."""
        found = self.of(pid)
        return found["verdict"], {sign["name"] for sign in found["signs"]}


@contextlib.contextmanager
def group(*names):
    """A v2 cgroup of its own, removed with the test: its folder. `names` lead to it from the root."""
    top = cgroup.mounts().v2
    if top is None or not os.access(top, os.W_OK):
        pytest.skip("no v2 hierarchy that may be written to")
    made, folder = [], Path(top)
    try:
        for name in names:
            folder /= name
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                made.append(folder)
        yield str(folder)
    finally:
        for one in reversed(made):
            until(lambda one=one: not cgroup.processes(str(one)), "its processes to go")
            one.rmdir()


@contextlib.contextmanager
def written(folder, name, text):
    """A file as systemd or logind would write it, in its own folder; what was not there is removed again."""
    folder = Path(folder)
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    assert not path.is_symlink()
    assert not path.exists()
    if name.startswith("invocation:"):
        path.symlink_to(text)
    else:
        path.write_text(text)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        for one in missing:
            with contextlib.suppress(OSError):
                one.rmdir()


def copy_of(name, folder):
    """A prop's file of its own."""
    return shutil.copy(prop(name), folder)
