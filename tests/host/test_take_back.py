"""Settings of the real kernel, written and taken back, in cgroups and children of the test's own; what is refused."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys

import pytest
from guardkit import inside, pen, start
from kit import child, until

from pidwarden.errors import NoPermission, PidwardenError, UsageError
from pidwarden.kernel import cgroup, freezer, kmsg, limits, procfs
from pidwarden.rescue import limits as settable
from pidwarden.rescue import log, sysfiles
from pidwarden.rescue.ledger import Ledger

pytestmark = pytest.mark.root
NOBODY = 65534


@pytest.fixture
def ledger():
    return Ledger()


@contextlib.contextmanager
def as_nobody():
    """An ordinary user, without capabilities, until the end."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_cgroups_limit(ledger):
    with pen(50) as made:
        path = f"{made.directories[0]}/pids.max"
        assert sysfiles.write(path, "70", ledger) == [f"{path}: 50 -> 70; `undo` takes it back"]
        assert procfs.read_int(path) == 70
        settable.put(f"pids.max:/{made.name}", "max", ledger)
        assert cgroup.read(path) == "max"
        ledger.undo()
        ledger.undo()
        assert procfs.read_int(path) == 50


def test_a_sysctl_with_the_value_that_it_has(ledger):
    for name in ("pid_max", "threads-max"):
        before = cgroup.read(f"/proc/sys/kernel/{name}")
        settable.put(name, before, ledger)
        assert ledger.undo() == [f"/proc/sys/kernel/{name}: {before} -> {before}, as it was"]


def test_a_value_that_the_kernel_does_not_take(ledger):
    with pen(50) as made:
        path = f"{made.directories[0]}/pids.max"
        with pytest.raises(PidwardenError, match=rf"tried to write many to {path}: Invalid argument; `cat {path}`"):
            sysfiles.write(path, "many", ledger)
        assert ledger.changes == []


def test_a_cgroup_that_is_gone_needs_no_undo(ledger):
    with pen(50) as made:
        path = f"{made.directories[0]}/pids.max"
        sysfiles.write(path, "70", ledger)
    assert ledger.undo() == [f"{path} is gone: there is nothing to take back"]


def test_what_kills_is_done_only_when_it_is_meant(ledger):
    v2 = cgroup.mounts().v2
    if v2 is None:
        pytest.skip("no v2 here")
    with inside(f"{v2}/pidwarden-kill-{os.getpid()}") as directory:
        path = f"{directory}/cgroup.kill"
        if not os.path.exists(path):
            pytest.skip("no cgroup.kill here")
        sleeper = start(["sleep", "1000"], lambda: assert_put(f"{directory}/cgroup.procs"))
        try:
            with pytest.raises(UsageError, match="cannot be undone; `write --once"):
                sysfiles.write(path, "1", ledger)
            assert sleeper.poll() is None
            sysfiles.write(path, "1", ledger, once=True)
            assert sleeper.wait(20) == -9
        finally:
            sleeper.kill()
            sleeper.wait()


def assert_put(path):
    assert cgroup.put(path, "0")


CONSOLE = """
import sys
from pidwarden.errors import UsageError
from pidwarden.rescue import sysfiles
from pidwarden.rescue.ledger import Ledger
try:
    sysfiles.write(sys.argv[1], sys.argv[2], Ledger())
except UsageError as why:
    print(why, flush=True)
"""


def test_the_console_does_not_freeze_itself():
    """A child of this test, which is killed if it does."""
    found = cgroup.mounts()
    where = found.v2 or found.v1["freezer"]
    name, value = ("cgroup.freeze", "1") if found.v2 else ("freezer.state", "FROZEN")
    with inside(f"{where}/pidwarden-self-{os.getpid()}") as directory:
        argv = [sys.executable, "-c", CONSOLE, f"{directory}/{name}", value]
        process = start(argv, lambda: assert_put(f"{directory}/cgroup.procs"), stdout=subprocess.PIPE, text=True)
        try:
            until(lambda: process.poll() is not None or freezer.is_asked(directory), "its answer")
            assert not freezer.is_asked(directory)
            assert "this console is in there itself" in process.stdout.read()
        finally:
            freezer.thaw(directory)
            process.kill()
            process.communicate()


def test_an_ordinary_user_is_told_that_it_takes_root(ledger, tmp_path):
    (tmp_path / "file").touch(0o600)
    with pen(50) as made, as_nobody():
        path = f"{made.directories[0]}/pids.max"
        with pytest.raises(NoPermission, match="Permission denied; it takes root"):
            sysfiles.write(path, "70", ledger)
        with pytest.raises(NoPermission, match="Permission denied; it takes root"):
            sysfiles.cat(str(tmp_path / "file"))


# -- RLIMIT_NPROC ------------------------------------------------------------------------------------------------------


def lowered():
    resource.setrlimit(resource.RLIMIT_NPROC, (500, 1000))


def test_a_processs_own_limit(ledger):
    with child("crowd", "1", enter=lowered) as running:
        running.said()
        name = f"nproc:{running.pid}"
        assert settable.put(name, "700", ledger) == [f"{name}: 500 1000 -> 700 1000; `undo` takes it back"]
        assert limits.nproc(running.pid) == (700, 1000)
        ledger.undo()
        assert limits.nproc(running.pid) == (500, 1000)


def test_a_hard_limit_takes_a_capability(ledger):
    with child("crowd", "1", enter=lowered) as running:
        running.said()
        if int(limits.status("self")["CapEff"], 16) >> 24 & 1:
            settable.put(f"nproc:{running.pid}", "unlimited", ledger)
            assert limits.nproc(running.pid) == (None, None)
            ledger.undo()
        else:
            with pytest.raises(NoPermission, match="CAP_SYS_RESOURCE"):
                settable.put(f"nproc:{running.pid}", "unlimited", ledger)
        assert limits.nproc(running.pid) == (500, 1000)


def test_a_process_that_ended_needs_no_undo(ledger):
    with child("crowd", "1", enter=lowered) as running:
        running.said()
        settable.put(f"nproc:{running.pid}", "700", ledger)
    assert ledger.undo() == [f"nproc:{running.pid} is gone: there is nothing to take back"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_what_of_another_process_is_read():
    with child("crowd", "1") as running:
        running.said()
        assert sysfiles.cat(f"/proc/{running.pid}/status")[0] == "Name:   crowd"
        assert sysfiles.cat("/proc/self/cmdline")
        for file in ("cmdline", "environ", "maps", "stack"):
            with pytest.raises(PidwardenError, match="comes out of the memory of process"):
                sysfiles.cat(f"/proc/{running.pid}/{file}")
        assert "crowd" in sysfiles.cat(f"/proc/{running.pid}/cmdline", force=True)[0]


# -- the kernel's messages ---------------------------------------------------------------------------------------------


def said(mark):
    with open("/dev/kmsg", "w", encoding="ascii") as file:
        file.write(f"<4>pidwarden test {mark}\n")


def test_what_the_kernel_was_told_is_read_back_both_ways():
    mark = os.urandom(8).hex()
    said(mark)
    (line,) = [line for line in log.lines(log.last(200)) if mark in line]
    assert line.endswith(f"warning: pidwarden test {mark}")
    now = float(cgroup.read("/proc/uptime").split()[0])
    assert now - 600 < float(line[1:].split("]")[0]) <= now + 1
    messages = until(lambda: kmsg.parse_log(kmsg.klogctl(), 200), "messages")
    assert [m.text for m in messages if mark.encode() in m.text] == [f"pidwarden test {mark}".encode()]
    assert len(log.last(3)) == 3


def test_an_ordinary_user_and_the_kernels_messages():
    restricted = procfs.read_int("/proc/sys/kernel/dmesg_restrict")
    with as_nobody():
        if restricted:
            with pytest.raises(NoPermission, match="dmesg_restrict is 1, so only CAP_SYSLOG may"):
                log.last(3)
        else:
            assert log.last(3)
