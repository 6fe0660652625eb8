"""The kernel side of a trace, beside real processes: who is traced, what is told of them, what is counted."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct

import pytest
from kit import child, until

from pidwarden.kernel.libbpf import library
from pidwarden.trace import abi, numbers
from pidwarden.trace.enlist import Enlisting, alone, parents, threads, tree
from pidwarden.trace.tracer import Settings, Tracer

pytestmark = [pytest.mark.root, pytest.mark.bpf]
NAMES = numbers.CALLS[platform.machine()][abi.NATIVE]
NR = {name: nr for nr, name in NAMES.items()}
PATH = abi.CAPTURE.pack(abi.STRING, abi.AT_ENTRY, 0, 0, 0, 4096)


def plan(*captures):
    words = [int.from_bytes(c, "little") for c in captures] + [0] * (abi.ARGS - len(captures))
    return abi.PLAN.pack(1, 0, 0, 0, 1, *words)


# Every call there may be, of each ABI; of access the path.
PLANS = {nr: plan() for nr in range(abi.ABIS * abi.CALLS)} | {
    NR[name]: plan(PATH) if name == "access" else plan(b"", PATH) for name in ("access", "faccessat") if name in NR
}


@contextlib.contextmanager
def tracing(*pids, settings=None):
    with Tracer(settings or Settings(), PLANS) as up:
        for pid in pids:
            up.enlist(threads(pid))
        yield up


def run(prop, up):
    """Has it do what it is to do; what it said, and what was told of it."""
    prop.tell()
    said = prop.said()
    up.detach()
    return said, up.read()


def returns(events, name):
    return [e for e in events if e.kind == abi.RETURN and e.nr == NR[name]]


def test_every_call_is_told_and_counted_alike():
    with child("calls", "many", "5000") as prop:
        prop.said()
        with tracing(prop.pid, settings=Settings(flags=abi.STREAM | abi.BY_PROCESS)) as up:
            _, events = run(prop, up)
            total, tallies = up.totals()[NR["getppid"]], up.tallies()
            mine = up.by_process()[prop.pid, NR["getppid"]]
    told = returns(events, "getppid")
    assert [e.ret for e in told] == [os.getpid()] * 5000
    assert total.sums.calls == mine.calls == sum(total.buckets) == 5000
    assert total.sums.ns == mine.ns == sum(e.ns - e.enter_ns for e in told)
    assert total.sums.max_ns == mine.max_ns == max(e.ns - e.enter_ns for e in told)
    assert total.sums.errors == tallies.lost == tallies.uncounted == tallies.untold == 0
    assert [e.ns for e in events] == sorted(e.ns for e in events)


def test_nobody_else_is_told_of():
    with child("calls", "many", "10") as prop, child("calls", "many", "10") as other:
        prop.said()
        other.said()
        with tracing(prop.pid) as up:
            other.tell()
            other.said()
            _, events = run(prop, up)
    assert {e.tgid for e in events} == {prop.pid}


def test_what_seccomp_denies_is_told_though_it_was_never_entered():
    with child("calls", "denied", "777") as prop:
        prop.said()
        with tracing(prop.pid) as up:
            said, events = run(prop, up)
            unmatched = up.tallies().unmatched
    assert said == (777, errno.EPERM)
    told = returns(events, "getpgid")
    assert [(e.ret, e.args[0], e.flags & abi.NO_ENTRY) for e in told] == [(-errno.EPERM, 1234, abi.NO_ENTRY)] * 777
    # The read it sat in when it was enlisted is the other one.
    assert unmatched == 778
    (sat_in,) = (e for e in events if e.flags & abi.NO_ENTRY and e.nr != NR["getpgid"])
    assert (NAMES[sat_in.nr], sat_in.flags & abi.FIRST) == ("read", abi.FIRST)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is of x86")
def test_a_32_bit_call_has_a_number_of_its_own():
    with child("calls", "int80", "50") as prop:
        prop.said()
        with tracing(prop.pid) as up:
            _, events = run(prop, up)
            counted = up.totals()[abi.COMPAT * abi.CALLS + 64].sums.calls
    assert sum(e.nr == abi.COMPAT * abi.CALLS + 64 for e in events if e.kind == abi.RETURN) == counted == 50


def test_a_thread_that_calls_exec_goes_on_under_the_number_of_its_process():
    with child("calls", "thread") as prop:
        prop.said()
        with tracing(prop.pid) as up:
            said, events = run(prop, up)
    assert said == (prop.pid, prop.pid)
    (execed,) = (e for e in events if e.kind == abi.EXEC)
    (born,) = (e for e in events if e.kind == abi.FORK)
    assert (execed.tid, execed.args[0], born.args[:2]) == (prop.pid, born.args[0], (execed.args[0], prop.pid))
    assert execed.pieces[0].data.rstrip(b"\0") == b"exe"
    (call,) = returns(events, "execve")
    assert (call.tid, call.ret, call.flags & abi.NO_ENTRY) == (prop.pid, 0, 0)
    assert [e.ret for e in returns(events, "gettid")] == [prop.pid]


def test_of_a_storm_of_forks_every_member_is_told():
    with child("calls", "storm", "70") as prop:
        prop.said()
        with tracing(prop.pid) as up:
            (marks, _), events = run(prop, up)
            tallies = up.tallies()
    assert (tallies.lost, tallies.untold) == (0, 0)
    paths = {e.pieces[0].data for e in events if e.kind == abi.ENTER}
    assert paths == {f"/marked/{who}/{i}".encode() for who in ("child", "grandchild", "thread") for i in range(70)}
    assert len(paths) == marks
    born = {e.args[0] for e in events if e.kind == abi.FORK}
    ended = {e.tid for e in events if e.kind == abi.EXIT}
    assert born == ended
    assert len(born) == marks
    # The second return of a fork, in the child, is none of its calls.
    assert not [e for e in events if e.flags & abi.NO_ENTRY and e.tid in born]


def test_a_child_is_told_of_only_if_it_is_followed():
    with child("calls", "storm", "3") as prop:
        prop.said()
        with tracing(prop.pid, settings=Settings(flags=abi.STREAM)) as up:
            _, events = run(prop, up)
    assert {e.tgid for e in events} == {prop.pid}


def test_a_signal_comes_with_its_siginfo():
    with child("calls", "signal") as prop:
        prop.said()
        with tracing(prop.pid) as up:
            said, events = run(prop, up)
    assert said == (signal.SIGUSR1, 1)
    (told,) = (e for e in events if e.kind == abi.SIGNAL)
    assert told.args[0] == signal.SIGUSR1
    number, _errno, _code, _pad, sender, _uid = struct.unpack_from("<6i", told.pieces[0].data)
    assert (number, sender) == (signal.SIGUSR1, prop.pid)


def test_a_call_that_does_not_return_is_pending():
    with child("calls", "blocked") as prop:
        prop.said()
        with tracing(prop.pid) as up:
            prop.tell()
            tid, fd = prop.said()
            found = until(lambda: [p for p in up.pending() if p.tid == tid and p.nr == NR["read"]], "the read")
            assert (found[0].args[0], found[0].args[2]) == (fd, 1)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (Settings(flags=abi.STREAM | abi.ONLY_FAILED), errno.EPERM),
        (Settings(errnos=frozenset({errno.EPERM})), errno.EPERM),
        (Settings(flags=abi.STREAM | abi.ONLY_DONE), 0),
        (Settings(errnos=frozenset({errno.ENOENT, 130})), None),
        (Settings(min_ns=3_600_000_000_000), None),
    ],
    ids=["failed", "errno", "done", "another errno", "slow"],
)
def test_the_stream_has_only_what_is_wanted_and_the_counts_have_all(settings, error):
    with child("calls", "denied", "20") as prop:
        prop.said()
        with tracing(prop.pid, settings=settings) as up:
            _, events = run(prop, up)
            assert up.totals()[NR["getpgid"]].sums.errors == 20
    wanted = (
        {-error} if error else {e.ret for e in events if e.kind == abi.RETURN and e.ret >= 0} if error == 0 else set()
    )
    assert {e.ret for e in events if e.kind == abi.RETURN} == wanted
    assert len(returns(events, "getpgid")) == (20 if error else 0)


def test_whoever_has_a_user_id_is_traced_from_his_first_call_on():
    user = 54_321

    def enter():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)

    with tracing(settings=Settings(uid=user)) as up, child("calls", "many", "30", enter=enter) as prop:
        prop.said()
        _, events = run(prop, up)
    assert {e.tgid for e in events} == {prop.pid}
    assert len(returns(events, "getppid")) == 30
    assert returns(events, "execve")


def test_a_full_ring_loses_records_and_says_of_whom_and_which():
    calls = 3000
    with child("calls", "many", str(calls)) as prop:
        prop.said()
        with tracing(prop.pid, settings=Settings(ring_bytes=4096)) as up:
            prop.tell()
            prop.said()  # nobody reads meanwhile
            before = up.read()
            prop.tell()  # it ends: records with room again, the first of which tells of the loss
            prop.process.wait()
            up.detach()
            events, totals, tallies = before + up.read(), up.totals(), up.tallies()
    told = len(returns(events, "getppid"))
    assert 0 < told < calls
    assert told + totals[NR["getppid"]].sums.lost == totals[NR["getppid"]].sums.calls == calls
    assert sum(e.lost for e in events) == tallies.lost
    assert tallies.records >= len(events)


def test_a_tree_is_enlisted_with_all_who_were_there_before():
    with child("calls", "blocked") as prop:
        prop.said()
        prop.tell()
        prop.said()
        table = parents()
        with tracing() as up:
            all_of_us = Enlisting(up, tree({os.getpid(): table[os.getpid()][1]}))
            assert all_of_us.run() > 1
            assert all_of_us.members[prop.pid] == table[prop.pid][1]
            assert set(threads(prop.pid)) <= all_of_us.tids
            somebody_else = Enlisting(up, alone({prop.pid: table[prop.pid][1] - 1}))
            somebody_else.run()
            assert not somebody_else.members


def test_nothing_is_left_behind():
    def programs():
        """Ids of all BPF programs that are loaded."""
        found, following = set(), ctypes.c_uint32(0)
        while not library().bpf_prog_get_next_id(following, ctypes.byref(following)):
            found.add(following.value)
        return found

    fds = len(os.listdir("/proc/self/fd"))
    before = programs()
    with tracing():
        during = programs()
        assert len(during - before) > 5
    until(lambda: not (programs() & (during - before)), "the programs to go")
    assert len(os.listdir("/proc/self/fd")) == fds
