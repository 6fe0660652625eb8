"""Two looks at a table of zombies, out of a folder that looks like /proc; and what else is read about them."""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest
from zombieparts import PARENT, zombie

from pidwarden.kernel import slab, socketpeer, zombies
from pidwarden.model import syscalls
from pidwarden.model.task import Syscall
from pidwarden.model.zombie import Zombie, kinds

HIGH = 0x7FFC_0000_0000


class Proc:
    """A folder with one `stat` a process."""

    def __init__(self, root):
        self.root = root

    def put(self, pid, stat, status=b""):
        (self.root / str(pid)).mkdir(exist_ok=True)
        (self.root / str(pid) / "stat").write_bytes(stat)
        (self.root / str(pid) / "status").write_bytes(status)

    def drop(self, pid):
        for name in ("stat", "status"):
            (self.root / str(pid) / name).unlink()
        (self.root / str(pid)).rmdir()

    def first(self):
        return zombies.first(str(self.root))

    def second(self, table):
        return zombies.second(table, [PARENT], str(self.root))[PARENT]


def living(pid, ppid=PARENT):
    return zombie(pid).stat.replace(b") Z %d " % PARENT, b") S %d " % ppid)


@pytest.fixture
def proc(tmp_path):
    made = Proc(tmp_path)
    made.put(PARENT, living(PARENT, 1))
    for pid in (200, 201, 202):
        made.put(pid, zombie(pid, comm=b"x) Z 1 (").stat)
    return made


def test_zombies_are_found_by_parent_whatever_they_are_called(proc):
    (proc.root / "self").mkdir()
    (proc.root / "300").mkdir()  # gone meanwhile
    table = proc.first()
    assert {ppid: sorted(z.pid for z in group.rows) for ppid, group in table.groups.items()} == {
        PARENT: [200, 201, 202]
    }
    assert table.living.keys() == {PARENT}
    assert {(z.comm, z.ppid, z.threads, z.exit_signal) for z in table.groups[PARENT].rows} == {
        (b"x) Z 1 (", PARENT, 1, 17)
    }


def test_a_stat_longer_than_a_zombies_is_read_to_its_end(proc):
    long = living(400).replace(b" 0 0 0 0 ", b" 0 0 0 " + b"9" * 400 + b" ", 1)
    proc.put(400, long)
    assert proc.first().living[400] == long


def test_the_second_look_tells_who_is_gone_or_another(proc):
    table = proc.first()
    proc.drop(200)
    proc.put(201, zombie(201).stat.replace(b" 500 ", b" 501 "))  # another process with the same pid
    proc.put(203, zombie(203).stat)
    seen = proc.second(table)
    assert [z.pid for z in seen.stayed] == [202]
    assert sorted(z.pid for z in seen.gone) == [200, 201]
    assert seen.fresh == 1
    assert seen.watched_ns > 0


def test_a_child_that_lived_counts_as_new_when_it_ends(proc):
    proc.put(210, living(210))
    proc.put(211, living(211, 7))
    table = proc.first()
    for pid in (210, 211):
        proc.put(pid, zombie(pid).stat)
    assert proc.second(table).fresh == 1


def test_a_zombie_that_got_another_parent_is_no_longer_his(proc):
    table = proc.first()
    proc.put(200, zombie(200).stat.replace(b") Z 100 ", b") Z 1 "))
    assert [z.pid for z in proc.second(table).gone] == [200]


def test_of_many_a_sample_is_asked_for_tracers_and_all_if_one_has_one(proc):
    rows = [Zombie(pid, zombie(pid).stat) for pid in range(1000, 1500)]
    for pid in range(1000, 1500):
        proc.put(pid, zombie(pid).stat, b"Name:\tx\nTracerPid:\t0\nUid:\t0\n")
    found, asked = zombies.tracers(rows, str(proc.root))
    assert (found, asked) == ({}, zombies.SAMPLE)
    for pid in (1001, 1499):  # the last is in every sample
        proc.put(pid, zombie(pid).stat, b"Name:\tx\nTracerPid:\t77\nUid:\t0\n")
    assert zombies.tracers(rows, str(proc.root)) == ({1001: 77, 1499: 77}, 500)


def test_dead_leaders_are_those_with_threads():
    rows = [zombie(1), zombie(2, threads=2), zombie(3, threads=11)]
    assert zombies.dead_leaders(rows) == [2, 3]


def test_kinds_keep_names_apart():
    rows = [zombie(1, comm=b"a b"), zombie(2, comm=b"a b"), zombie(3, comm=b"a"), zombie(4, comm=b"")]
    assert kinds(rows) == [(b"a b", 0, 2), (b"", 0, 1), (b"a", 0, 1)]


def test_no_pause_for_who_has_many(proc):
    table = proc.first()
    assert zombies.wait_from(table, {PARENT}, 5.0) > 4
    assert zombies.wait_from(table, set(), 5.0) == 0
    table.groups[8] = zombies.Group(time.monotonic_ns(), [zombie(8)])
    assert zombies.wait_from(table, {8}) > zombies.BRIEF  # another parent, who is not meant, hurries nobody
    del table.groups[8]
    table.groups[PARENT].rows *= zombies.MANY
    assert zombies.wait_from(table, {PARENT}, 5.0) == 0
    table.groups[7] = zombies.Group(time.monotonic_ns(), [zombie(9)])
    assert zombies.wait_from(table, {PARENT, 7}, 5.0) > 4
    assert zombies.wait_from(table, {PARENT, 7}) <= zombies.BRIEF


SLABS = b"""slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab>
task_struct          126    133   4288    7    8 : tunables
signal_cache         118    168   1152   14    4 : tunables
pid                  378    378    192   21    1 : tunables
dentry               378    378    999   21    1 : tunables
"""


def test_the_cost_is_what_this_kernel_has(tmp_path):
    (tmp_path / "slabinfo").write_bytes(SLABS)
    found = slab.cost(str(tmp_path))
    assert (found.each, found.counted) == (4288 + 1152 + 192, ("task_struct", "signal_cache", "pid"))
    assert "sighand_cache" in found.missing
    (tmp_path / "slabinfo").write_bytes(SLABS.replace(b"task_struct", b"x"))
    assert slab.cost(str(tmp_path)).each is None
    assert "slabinfo" in slab.cost(str(tmp_path / "none")).why


@pytest.mark.parametrize(
    ("number", "machine", "sp", "wchan", "name"),
    [
        (61, "x86_64", HIGH, "", "wait4"),
        (247, "x86_64", HIGH, "", "waitid"),
        (7, "x86_64", HIGH, "", "poll"),
        (7, "x86_64", HIGH, "do_wait", "waitpid"),  # int 0x80 in a 64-bit program
        (114, "x86_64", 0xFFFF_0000, "", "wait4"),
        (0x40000000 + 61, "x86_64", HIGH, "", "wait4"),
        (260, "aarch64", HIGH, "", "wait4"),
        (95, "aarch64", HIGH, "", "waitid"),
        (280, "aarch64", 0xFFFF_0000, "", "waitid"),
        (63, "aarch64", HIGH, "", "read"),
        (61, "s390x", HIGH, "", ""),
        (9999, "x86_64", HIGH, "", ""),
    ],
)
def test_a_call_is_named_by_machine_and_abi(number, machine, sp, wchan, name):
    assert syscalls.name_of(Syscall(number, (0,) * 6, sp, sp), machine, wchan) == name


def test_arguments_are_signed():
    assert [syscalls.signed(v) for v in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 5, 0x80000000)] == [-1, -1, 5, -(1 << 31)]


def test_the_peer_of_a_unix_socket():
    ours, theirs = socket.socketpair()
    inode = os.fstat(ours.fileno()).st_ino
    if not socketpeer.unix_diag():
        pytest.skip("this kernel has no unix_diag")
    assert socketpeer.unix_peer(inode) == os.fstat(theirs.fileno()).st_ino
    ours.close()
    theirs.close()
    assert socketpeer.unix_peer(inode) is None


def test_an_answer_without_a_peer_is_not_an_answer_of_another_kind():
    assert [socketpeer.parse_unix_peer(answer) for answer in (b"", b"\0" * 40)] == [None, None]
    assert socketpeer.parse_unix_peer(struct.pack("=IHHII", 40, 20, 0, 1, 0) + b"\0" * 24) == 0


def test_addresses_are_read_as_the_kernel_writes_them():
    assert socketpeer.address("0100007F:0016", socket.AF_INET) == "127.0.0.1:22"
    assert socketpeer.address("00000000000000000000000001000000:0050", socket.AF_INET6) == "[::1]:80"
