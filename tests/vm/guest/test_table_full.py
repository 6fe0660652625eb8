"""The machine's own table full: it is named, room is made as advised, and that is taken back."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal

import pytest

from pidwarden.kernel import procfs
from pidwarden.rescue import limits, sysfiles, why
from pidwarden.rescue.ledger import Ledger

pytestmark = [pytest.mark.root]


@contextlib.contextmanager
def full():
    """Sleepers until not even root can fork; yields how many there are."""
    made = []
    try:
        with contextlib.suppress(BlockingIOError):
            while pid := os.fork():
                made.append(pid)
            signal.pause()
            os._exit(0)
        yield len(made)
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def can_fork():
    try:
        pid = os.fork()
    except BlockingIOError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


@pytest.mark.parametrize(("name", "room"), [("pid_max", 600), ("threads-max", 200)])
def test_the_full_table_is_named_and_what_is_advised_makes_room(name, room):
    ledger = Ledger()
    before = procfs.read_int(f"/proc/sys/kernel/{name}")
    limits.put(name, str(procfs.tasks_in_use() + room), ledger)
    try:
        with full() as sleepers:
            assert not can_fork()
            found = why.look(0, os.getpid())
            assert [b.name for b in found if b.binds] == [name]
            assert why.lines(found)[0].startswith(f"fork fails (EAGAIN) because {name} is reached")
            assert sleepers <= room
            _write, path, value = shlex.split(found[0].help)
            sysfiles.write(path, value, ledger)
            assert can_fork()
            assert not [b for b in why.look(0, os.getpid()) if b.binds]
            ledger.undo()
            assert not can_fork()
    finally:
        while any(not change.undone for change in ledger.changes):
            ledger.undo(force=True)
    assert procfs.read_int(f"/proc/sys/kernel/{name}") == before
    assert can_fork()
