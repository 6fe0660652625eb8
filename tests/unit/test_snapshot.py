"""All processes at one moment: the guard's bytes taken apart, and /proc read, with names that pretend to be fields."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.kernel import abi, snapshot
from pidwarden.kernel.parse import parse_records
from pidwarden.model.key import TICK_NS
from pidwarden.model.record import ProcFlag

HOSTILE = [b"plain", b"", b") R 1 (", b"a b", b"new\nline", b"((", b"))", b"\xff\xfe", b"\x1b[31m", b") Z 1 1 1 0 -1"]


def element(**values):
    """One pw_dump with these fields."""
    short = [name.removeprefix("key_").removeprefix("proc_") for name in abi.DUMP_FIELDS]
    blank = {name: b"" if name == "comm" else 0 for name in short}
    assert values.keys() <= blank.keys()
    return abi.DUMP.pack(*(blank | values).values())


def test_only_what_is_asked_for_is_taken_out():
    data = element(tgid=7, state=83, comm=b"a", ppid=1) + element(tgid=8, state=90, comm=b"b", ppid=7, slots=-1)
    found = snapshot.from_guard(data, {"tgid", "state", "comm", "slots", "unheard_of"})
    assert found.size == 2
    assert found["tgid"] == (7, 8)
    assert found["state"] == (83, 90)
    assert found["slots"] == (0, -1)
    assert [name.rstrip(b"\0") for name in found["comm"]] == [b"a", b"b"]
    assert "ppid" not in found
    assert "unheard_of" not in found


def test_no_records():
    found = snapshot.from_guard(b"", {"tgid"})
    assert (found.size, list(found["tgid"])) == (0, [])


@given(st.sets(st.sampled_from([n for n in abi.DUMP_FIELDS if "pad" not in n]), min_size=1), st.data())
def test_any_choice_of_fields_agrees_with_the_whole(wanted, data):
    raw = data.draw(st.binary(min_size=2 * abi.DUMP.size, max_size=2 * abi.DUMP.size))
    short = {name.removeprefix("key_").removeprefix("proc_") for name in wanted}
    found = snapshot.from_guard(raw, short)
    whole = [dict(zip(abi.DUMP_FIELDS, row, strict=True)) for row in abi.DUMP.iter_unpack(raw)]
    for name in wanted:
        values = found[name.removeprefix("key_").removeprefix("proc_")]
        assert list(values) == [row[name] for row in whole]


def test_it_agrees_with_the_records():
    data = element(tgid=7, start_ns=5, parent_tgid=3, parent_start_ns=2, comm=b"x", state=83, ppid=9, tick_forks=4)
    record, found = parse_records(data)[0], snapshot.from_guard(data, {"parent_start_ns", "tick_forks", "ppid"})
    assert (record.parent.start_ns, record.tick_forks, record.ppid) == tuple(
        found[name][0] for name in ("parent_start_ns", "tick_forks", "ppid")
    )


def fake(root, pid, comm, **given):
    """A process in a false /proc."""
    (root / str(pid)).mkdir()
    values = {"ppid": 1, "state": "S", "flags": 0, "threads": 1, "ticks": 100} | given
    rest = (
        "{state} {ppid} 1 1 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 {ticks} 1000 50".format(**values) + " 0" * 30
    )
    (root / str(pid) / "stat").write_bytes(f"{pid} (".encode() + comm + b") " + rest.encode())


@pytest.mark.parametrize("comm", HOSTILE)
@pytest.mark.parametrize("wanted", [{"comm", "ppid", "state"}, {"comm", "ppid", "state", "slots", "start_ns"}])
def test_a_name_cannot_pretend_to_be_other_fields(tmp_path, comm, wanted):
    fake(tmp_path, 42, comm, ppid=7, state="D", threads=3)
    found = snapshot.from_proc(wanted, str(tmp_path))
    assert (found["comm"], found["ppid"], found["state"]) == ((comm,), (7,), (ord("D"),))
    if "slots" in wanted:
        assert (found["slots"], found["start_ns"]) == ((3,), (100 * TICK_NS,))


def test_pids_alone_open_nothing(tmp_path):
    (tmp_path / "12").mkdir()
    (tmp_path / "self").mkdir()
    assert snapshot.from_proc({"tgid"}, str(tmp_path))["tgid"] == (12,)


def test_who_is_gone_meanwhile_or_makes_no_sense_is_passed_over(tmp_path):
    fake(tmp_path, 42, b"here")
    (tmp_path / "43").mkdir()
    (tmp_path / "44").mkdir()
    (tmp_path / "44" / "stat").write_bytes(b"")
    for wanted in ({"comm"}, {"slots"}):
        assert snapshot.from_proc(wanted, str(tmp_path))["tgid"] == (42,)


def test_an_empty_proc(tmp_path):
    found = snapshot.from_proc({"comm", "uid"}, str(tmp_path))
    assert (found.size, found["comm"]) == (0, ())
    assert snapshot.records_from_proc(str(tmp_path)) == []


def test_records_have_their_parent_for_creator_and_say_that_it_is_guessed(tmp_path):
    fake(tmp_path, 2, b"kthreadd", ppid=0, flags=0x00200000, ticks=3)
    fake(tmp_path, 5, b"kworker", ppid=2, flags=0x00200000)
    fake(tmp_path, 6, b"zombie", ppid=99, state="Z")
    fake(tmp_path, 7, b"leader gone", ppid=5, state="Z", threads=3)
    kthread, worker, zombie, busy = sorted(snapshot.records_from_proc(str(tmp_path)))
    assert kthread.parent.tgid == 0
    assert worker.parent == kthread.key
    assert worker.flags == ProcFlag.KTHREAD | ProcFlag.GUESSED
    assert (zombie.zombie, zombie.slots, zombie.parent.known) == (True, 1, False)
    assert (busy.alive, busy.slots, busy.live, busy.state) == (True, 3, 3, "Z")


def test_ourselves_as_we_are():
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            found = {r.key.tgid: r for r in snapshot.records_from_proc()}
            me, kid = found[os.getpid()], found[child.pid]
            assert kid.parent == me.key
            assert (kid.uid, kid.ppid, kid.slots) == (os.getuid(), os.getpid(), 1)
            assert me.slots == len(os.listdir("/proc/self/task"))
        finally:
            child.kill()
