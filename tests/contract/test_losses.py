"""Losses are noticed and repaired, and a source that dies or is refused makes room for the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from guardkit import GuardProcess, guard
from kit import child, until
from sourcekit import opened, record_of

from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import connector, procfs
from pidwarden.kernel.config import Config
from pidwarden.model.record import ProcFlag
from pidwarden.watch.choose import ORDER, PROMISES, choose
from pidwarden.watch.connector import ConnectorSource

_SOL_NETLINK, _NETLINK_DROP_MEMBERSHIP = 270, 2  # netlink(7)
CROWD = """
import os, signal, sys
for _ in range(600):
    if os.fork() == 0:
        signal.pause()
print("0 0", flush=True)
sys.stdin.readline()
os.killpg(0, signal.SIGKILL)
"""


def configured(source: ConnectorSource) -> ConnectorSource:
    second = 10**9
    source.configure(
        Config(second, second, second, 10**6, 10**6, 10**6, autohold=False, only_scoped=False, history=True)
    )
    source.seed()
    return source


@pytest.mark.root
@pytest.mark.connector
def test_lost_events_are_counted_and_the_books_repaired_from_proc():
    source = configured(ConnectorSource(buffer_bytes=2048))  # the least that the kernel gives: a few events
    crowd = subprocess.Popen(
        [sys.executable, "-c", CROWD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    )
    try:
        assert crowd.stdout.readline() == b"0 0\n"
        until(lambda: source.settle() or source.counters().lost_events, "the loss to be noticed")
        mine = record_of(source, crowd.pid)
        until(lambda: len(_children(source, mine)) == 600, "all children to have a record")
        guessed = [r for r in _children(source, mine) if r.flags & ProcFlag.GUESSED]
        assert len(guessed) >= 300
        assert all(procfs.stat_of(r.key) for r in _children(source, mine))
        assert {r.family for r in _children(source, mine)} == {mine.family}
    finally:
        os.killpg(crowd.pid, signal.SIGKILL)
        crowd.wait()
        crowd.stdin.close()
        crowd.stdout.close()
    until(lambda: source.seed() and not _children(source, mine), "their slots to go")
    source.close()


def _children(source, record):
    return [r for r in source.lineage(record.family) if r.parent == record.key and r.slots]


@pytest.mark.root
@pytest.mark.connector
def test_nothing_is_lost_while_the_buffer_is_large():
    source = configured(ConnectorSource())
    for _ in range(300):
        subprocess.run(["true"], check=True)
    source.settle()
    assert source.counters().lost_events == 0
    assert not source._connector.lost
    source.close()


@pytest.mark.root
@pytest.mark.connector
def test_a_connector_that_fails_goes_on_as_looks_at_proc_with_all_it_knew():
    with opened("connector") as source, child("odd", "wait") as odd:
        pid, _ = odd.said()
        before = record_of(source, pid)
        source._connector._socket.close()  # as after an error that does not go away
        source.refresh()
        assert source.name == "poll"
        assert source.fileno() == -1
        assert "given up" in source.take_notes()[0]
        assert source.take_notes() == []
        assert record_of(source, pid).key == before.key
        assert record_of(source, pid).family == before.family
        with child("odd", "wait") as other:
            new, _ = other.said()
            assert record_of(source, new).parent.tgid == os.getpid()


@pytest.mark.root
@pytest.mark.connector
def test_a_connector_that_has_gone_silent_is_given_up():
    with opened("connector") as source, child("odd", "wait") as odd:
        odd.said()
        source.settle()
        drop = (_SOL_NETLINK, _NETLINK_DROP_MEMBERSHIP, connector._CN_IDX_PROC)
        source._connector._socket.setsockopt(*drop)  # it is sent nothing any more, and nobody says so
        _listen(source)  # what waited is read
        _listen(source)  # nothing: asks
        assert source._connector
        _listen(source)
        assert source._connector is None
        assert "silent" in source.take_notes()[0]


@pytest.mark.root
@pytest.mark.connector
def test_a_machine_that_is_silent_has_a_connector_that_answers():
    with opened("connector") as source, child("odd", "wait") as odd:
        pid, _ = odd.said()
        for _ in range(6):
            _listen(source)
        assert source._connector
        assert not source.take_notes()
        assert record_of(source, pid).comm == b"odd"


def _listen(source: ConnectorSource) -> None:
    source._listen_ns = 0
    source.refresh()


@pytest.mark.root
@pytest.mark.connector
def test_without_bpf_the_guard_takes_the_connector_and_says_why():
    """Root in a container that may not load BPF."""
    lose = ["setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon", "--inh-caps=-all"]
    with guard(before=lose) as running:
        ready = running.wait("ready")
        assert "process connector" in ready["capabilities"]["know"]
        _until_noted(running, "families are not known by bpf: ")


@pytest.mark.root
def test_without_bpf_and_without_the_connector_it_looks_at_proc():
    lose = ["unshare", "--net", "setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon", "--inh-caps=-all"]
    with guard(before=lose) as running:
        assert running.wait("ready")["capabilities"]["know"] == "differences of /proc"
        _until_noted(running, "families are not known by bpf: ")
        _until_noted(running, "families are not known by connector: ")


def _until_noted(running: GuardProcess, begin: str) -> None:
    """Notes come after `ready`, one by one."""
    until(lambda: any(e["text"].startswith(begin) for e in running.events("note")), f"a note: {begin}")


# -- the choice, without a kernel --------------------------------------------------------------------------------------


def _refuses(why: str):
    def opener():
        raise NotPossible(why)

    return opener


def test_the_first_that_opens_is_taken_and_the_others_reasons_are_kept():
    chosen = choose("auto", {"bpf": _refuses("no BPF"), "connector": lambda: "the connector", "poll": lambda: "looks"})
    assert chosen == ("the connector", {"bpf": "no BPF"})


def test_who_asks_for_one_gets_that_or_its_error():
    openers = {"bpf": _refuses("no BPF"), "poll": lambda: "looks"}
    assert choose("poll", openers).source == "looks"
    with pytest.raises(NotPossible, match="no BPF"):
        choose("bpf", openers)


def test_if_none_opens_all_reasons_are_told():
    with pytest.raises(PidwardenError, match="bpf: a; connector: b; poll: c"):
        choose("auto", dict(zip(ORDER, map(_refuses, "abc"), strict=True)))


def test_an_error_that_is_none_of_ours_is_not_hidden():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        choose("auto", {"bpf": broken, "poll": lambda: "looks"})


def test_every_source_says_what_it_promises():
    assert PROMISES.keys() == set(ORDER)
    assert all(p.promises for p in PROMISES.values())
