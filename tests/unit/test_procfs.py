"""/proc, with the names that processes can give themselves, and with processes that are gone."""

from __future__ import annotations

import os
import subprocess

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.kernel import procfs

TAIL = b" S 7 8 9 1025 10 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456 1000 50"
HOSTILE = [b"plain", b"", b") R 1 (", b"a b", b"new\nline", b"((", b"))", b"\xff\xfe", b"\x1b[31m", b") Z 1 1 1 0 -1"]


@pytest.mark.parametrize("comm", HOSTILE)
def test_a_name_cannot_pretend_to_be_other_fields(comm):
    found = procfs.parse_stat(b"42 (" + comm + b")" + TAIL)
    assert found == procfs.Stat(42, comm, "S", 7, 8, 9, 1025, 10, 3, 123456)


@given(st.binary(max_size=15))
def test_any_name_comes_out_as_it_is(comm):
    found = procfs.parse_stat(b"1 (" + comm + b")" + TAIL)
    assert (found.comm, found.ppid, found.start_ticks) == (comm, 7, 123456)


def test_our_own_stat_agrees_with_psutil():
    found, other = procfs.stat(os.getpid()), psutil.Process()
    assert found.ppid == other.ppid()
    assert found.threads == other.num_threads()
    assert found.comm.decode() == other.name()[:15]
    assert procfs.resident_bytes(os.getpid()) == pytest.approx(other.memory_info().rss, rel=0.2)


def test_the_start_time_is_in_ticks_since_boot():
    boot = psutil.boot_time()
    expected = psutil.Process().create_time() - boot
    assert procfs.stat(os.getpid()).start_ticks / 100 == pytest.approx(expected, abs=1.5)


def test_a_process_that_is_gone():
    process = subprocess.Popen(["true"])
    process.wait()
    assert procfs.stat(process.pid) is None
    assert procfs.resident_bytes(process.pid) == 0


def test_a_zombie_still_has_a_stat():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert procfs.stat(process.pid).state == "Z"
    assert procfs.resident_bytes(process.pid) == 0
    process.wait()


def test_tasks_in_use_counts_threads_and_zombies_of_everybody(tmp_path):
    (tmp_path / "loadavg").write_text("1.00 0.50 0.25 3/417 12345\n")
    assert procfs.tasks_in_use(str(tmp_path)) == 417
    assert procfs.tasks_in_use() >= len(psutil.pids()) / 2


@pytest.mark.parametrize(("text", "number"), [("300\n", 300), ("max\n", None), ("", None), ("1 2\n", 1), ("\n", None)])
def test_the_first_number_of_a_file(tmp_path, text, number):
    (tmp_path / "file").write_text(text)
    assert procfs.read_int(str(tmp_path / "file")) == number


def test_a_file_that_is_not_there(tmp_path):
    assert procfs.read_int(str(tmp_path / "none")) is None
    assert procfs.tasks_in_use(str(tmp_path)) == 0


def test_ancestors_end_with_the_first_process():
    chain = procfs.ancestors(os.getpid())
    assert chain == [parent.pid for parent in psutil.Process().parents()]


def test_ancestors_end_though_two_processes_name_each_other(tmp_path):
    """A pid that was used again while we climbed can make a ring."""
    for pid, parent in ((10, 11), (11, 10)):
        (tmp_path / str(pid)).mkdir()
        tail = TAIL.replace(b" S 7", f" S {parent}".encode())
        (tmp_path / str(pid) / "stat").write_bytes(f"{pid} (x)".encode() + tail)
    assert procfs.ancestors(10, str(tmp_path)) == [11, 10]
