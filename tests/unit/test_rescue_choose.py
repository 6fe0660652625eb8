"""Selectors of the rescue console, and its lines: hostile names stay in their column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.errors import PidwardenError, UsageError
from pidwarden.rescue import choose, show
from pidwarden.rescue.commands import no_family
from pidwarden.rescue.table import Proc


def proc(pid, **more):
    fields = {
        "start_ticks": 100, "comm": b"x", "state": "S", "ppid": 1, "pgrp": pid, "session": pid, "tty": 0, "tpgid": -1,
        "flags": 0, "threads": 1, "uid": 7, "exe": "/bin/x",
    }  # fmt: skip
    return Proc(pid=pid, **{**fields, **more})


def pids(*words, procs):
    return [p.pid for p in choose.matching(choose.parse(words), procs, no_family)]


def test_all_conditions_have_to_hold():
    procs = [proc(10), proc(11, uid=8), proc(12, comm=b"y", uid=8), proc(13, pgrp=10), proc(2, flags=0x200000)]
    assert pids("user:8", procs=procs) == [11, 12]
    assert pids("user:8", "comm:x", procs=procs) == [11]
    assert pids("pgrp:10", procs=procs) == [10, 13]
    assert pids("session:12", procs=procs) == [12]
    assert pids("pid:2", procs=procs) == []  # a kernel thread
    assert pids("exe:/bin/x", "pid:13", procs=procs) == [13]
    assert choose.parse(["1", "3"]).suspects == (1, 3)


def test_a_name_is_cut_as_the_kernel_cuts_it_and_a_program_may_be_deleted():
    procs = [proc(10, comm=b"fifteen-bytes-l", exe="/tmp/b (deleted)")]
    assert pids("comm:fifteen-bytes-long-or-more", procs=procs) == [10]
    assert pids("exe:/tmp/b", procs=procs) == [10]


@pytest.mark.parametrize("words", [[], ["x"], ["comm:"], ["pid:x"], ["pid:-1"], ["1", "pid:1"], ["colour:red"], [":"]])
def test_what_names_nobody_is_refused(words):
    with pytest.raises(UsageError):
        choose.parse(words)


def test_a_family_needs_a_guard():
    with pytest.raises(PidwardenError, match="no guard"):
        pids("family:3", procs=[proc(10)])


def test_users_come_from_the_file_alone(tmp_path):
    path = tmp_path / "passwd"
    path.write_bytes(
        b"root:x:0:0:r:/root:/bin/sh\nbroken\nno:number:x\nann:x:1000:1000::/home/ann:/bin/bash\n\xff:x:5:5\n"
    )
    assert choose.users(str(path)) == {"root": 0, "ann": 1000, "\udcff": 5}
    assert choose.users(str(tmp_path / "none")) == {}
    assert choose.uid_of("1234") == 1234
    with pytest.raises(UsageError, match="no user"):
        choose.uid_of("nobody-is-called-this")


@given(st.lists(st.binary(max_size=15), min_size=1, max_size=20))
def test_no_name_breaks_a_line(names):
    procs = [proc(10 + i, comm=name, ppid=1 if i % 3 else 9 + i) for i, name in enumerate(names)]
    table = show.table(procs, 10**12, lambda _pid: "-")
    assert len(table) == len(procs) + 1
    for line in (*table, *show.tree(procs, procs[:1]), *show.groups(procs, procs, "exe"), *show.zombies(procs, {})):
        assert line.isprintable()


def test_leaves_that_are_alike_are_one_line_and_a_long_chain_is_no_recursion():
    procs = [proc(10), *(proc(100 + i, ppid=10, comm=b"leaf") for i in range(500))]
    assert show.tree(procs, procs[:1])[1].endswith("and 499 more like it")
    ring = [proc(10, ppid=11), proc(11, ppid=10)]
    assert len(show.tree(ring, ring[:1])) == 2
    chain = [proc(10 + i, ppid=9 + i) for i in range(5000)]
    assert len(show.tree(chain, chain[:1])) == 5000


def test_zombies_by_their_parent():
    procs = [proc(10, comm=b"lazy", state="T"), *(proc(100 + i, ppid=10, state="Z") for i in range(30))]
    procs += [proc(200, ppid=77, state="Z")]
    text = "\n".join(show.zombies(procs, {procs[0].key: "spared"}))
    assert "30" in text
    assert "lazy (spared; it is stopped: `thaw pid:10`)" in text
    assert "gone by now" in text
