"""Reading and writing files on machines made of files: what is shown, and what is refused."""

from __future__ import annotations

import os
import socket
import stat

import pytest
from machines import V2, Machine

from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.rescue import sysfiles
from pidwarden.rescue.ledger import Ledger

PID_MAX = "sys/kernel/pid_max"
OTHERS = ["file", "proc/1/oom_score_adj", "proc/sysrq-trigger", "cgx/pids.max"]
STOPS = [("cgroup.kill", "1"), ("cgroup.freeze", "1"), ("freezer.state", " FROZEN")]


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.cgroups([V2], [])
    made.inside(os.getpid(), "0::/own/deep")
    for name in ("cg/a", "cg/own/deep"):
        made.pids(name, 5, 100)
    return made


@pytest.fixture
def ledger():
    return Ledger(now=lambda: 1_500_000_000)


def cat(machine, path, **options):
    return sysfiles.cat(str(path), str(machine.proc), **options)


def write(machine, ledger, path, value, **options):
    return sysfiles.write(str(path), value, ledger, str(machine.proc), **options)


def text(path):
    return path.read_text().rstrip("\n")


# -- reading -----------------------------------------------------------------------------------------------------------


def test_lines_are_made_harmless_and_tabs_are_spaces(machine):
    (machine.root / "file").write_bytes(b"Name:\tx\n\x1b[2J\xff\n\nlast")
    assert cat(machine, machine.root / "file") == ["Name:   x", "\\x1b[2J\\xff", "", "last"]


@pytest.mark.parametrize(("size", "more"), [(0, False), (65536, False), (65537, True)])
def test_the_first_64_kib(machine, size, more):
    (machine.root / "file").write_bytes(b"x" * size)
    found = cat(machine, machine.root / "file")
    assert len("".join(found[: 1 if size else 0])) == min(size, 65536)
    assert (found[-1:] == ["(the first 64 KiB; there is more)"]) == more


def test_only_files_are_opened(machine):
    os.mkfifo(machine.root / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(machine.root / "socket"))
        for name, kind in (("fifo", "a pipe"), ("socket", "a socket"), ("cg", "a folder")):
            with pytest.raises(UsageError, match=f"is {kind}"):
                cat(machine, machine.root / name)
    with pytest.raises(UsageError, match="is a device"):
        sysfiles.cat("/dev/null")


@pytest.mark.parametrize("name", ["proc/kmsg", "tracing/trace_pipe"])
def test_what_would_be_taken_from_others_is_refused(machine, name):
    machine.write(name, "x")
    with pytest.raises(NotPossible, match="`log`"):
        cat(machine, machine.root / name)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_setting_is_written_and_taken_back(machine, ledger):
    path = machine.proc / PID_MAX
    assert write(machine, ledger, path, "40000") == [f"{path}: 32768 -> 40000; `undo` takes it back"]
    assert text(path) == "40000"
    assert ledger.lines() == [f"[       1.500] {path}: 32768 -> 40000 (`undo` takes it back)"]
    assert ledger.undo() == [f"{path}: 40000 -> 32768, as it was"]
    assert text(path) == "32768"
    assert ledger.lines() == [f"[       1.500] {path}: 32768 -> 40000 (taken back)"]


def test_a_cgroups_setting_is_written(machine, ledger):
    write(machine, ledger, machine.root / "cg/a/pids.max", "max")
    assert text(machine.root / "cg/a/pids.max") == "max"


@pytest.mark.parametrize("way", [*OTHERS, "cg/../file", "link"])
def test_nothing_else_is_written(machine, ledger, way):
    for name in OTHERS:
        machine.write(name, "before")
    os.symlink("../../../file", machine.proc / "sys/kernel/link")
    path = machine.proc / "sys/kernel/link" if way == "link" else machine.root / way
    with pytest.raises(UsageError, match="what can be written is below"):
        write(machine, ledger, path, "after")
    assert text(path) == "before"
    assert ledger.lines() == ["nothing was changed"]


def test_a_link_into_the_settings_is_followed(machine, ledger):
    os.symlink(f"proc/{PID_MAX}", machine.root / "link")
    write(machine, ledger, machine.root / "link", "40000")
    assert ledger.changes[0].place.name == f"{machine.proc}/{PID_MAX}"


@pytest.mark.parametrize("name", ["cgroup.kill", "cgroup.procs", "memory.reclaim", "memory.failcnt", "blind"])
def test_what_cannot_be_undone_is_refused_unless_it_is_meant(machine, ledger, name):
    machine.write(f"cg/a/{name}", "0")
    if name == "blind":
        (machine.root / "cg/a/blind").chmod(stat.S_IWUSR)
    path = machine.root / "cg/a" / name
    with pytest.raises(UsageError, match=r"cannot be undone; `write --once .* 1` does it"):
        write(machine, ledger, path, "1")
    assert write(machine, ledger, path, "1", once=True) == [f"{path}: wrote 1; this cannot be undone"]
    assert ledger.lines() == [f"[       1.500] {path}: wrote 1 (cannot be undone)"]
    with pytest.raises(PidwardenError, match="there is none"):
        ledger.undo()


def test_several_values_cannot_be_undone(machine, ledger):
    machine.write("cg/a/io.max", "8:0 rbps=1\n8:16 rbps=2\n")
    with pytest.raises(UsageError, match="several values"):
        write(machine, ledger, machine.root / "cg/a/io.max", "8:0 rbps=max")


def test_what_can_be_undone_is_entered_though_it_was_said_to_be_once(machine, ledger):
    write(machine, ledger, machine.proc / PID_MAX, "40000", once=True)
    ledger.undo()
    assert text(machine.proc / PID_MAX) == "32768"


@pytest.mark.parametrize("directory", ["cg/own", "cg/own/deep", "cg"])
@pytest.mark.parametrize(("name", "value"), STOPS)
def test_the_console_does_not_stop_itself(machine, ledger, directory, name, value):
    machine.write(f"{directory}/{name}", "0")
    with pytest.raises(UsageError, match="this console is in there itself"):
        write(machine, ledger, machine.root / directory / name, value, once=True)


def test_others_may_be_stopped_and_we_may_be_thawed(machine, ledger):
    machine.write("cg/a/cgroup.freeze", "0")
    machine.write("cg/own/cgroup.freeze", "1")
    write(machine, ledger, machine.root / "cg/a/cgroup.freeze", "1")
    write(machine, ledger, machine.root / "cg/own/cgroup.freeze", "0")


@pytest.mark.parametrize("value", ["1\n2", "1\0"])
def test_a_value_is_one_line(machine, ledger, value):
    with pytest.raises(UsageError, match="one line"):
        write(machine, ledger, machine.proc / PID_MAX, value)
