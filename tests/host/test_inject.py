"""A living parent is made to wait for its zombies, whatever it is doing, and never notices. Real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

import parentkit
import pytest
from kit import child, stat_of, until
from parentkit import READ, children, key_of

from pidwarden.act.inject import inject, refusal
from pidwarden.kernel import apart, borrow, cgroup, freezer, procfs, ptrace, registers
from pidwarden.kernel.registers import MACHINES
from pidwarden.model.key import TICK_NS

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(borrow.machine() is None, reason=f"not on this processor, but on {', '.join(MACHINES)}"),
]


class Parent(parentkit.Parent):
    """The same, with the zombies waited for through it."""

    def inject(self, **options):
        return apart.run(lambda: inject(self.key, self.zombies(), READ, **options))


@contextlib.contextmanager
def a_parent(*arguments):
    with child("parent", *arguments) as running:
        yield Parent(running)


@pytest.fixture(scope="module")
def one():
    """Serves test after test: what one of them spoils, a later one notices."""
    with a_parent() as parent:
        yield parent
        assert parent.ask("still") == (parent.pid, 1)


def cleared(parent, **options):
    """Has it wait for all, and compares what can be compared from outside."""
    before, owed = parent.state(), parent.zombies()
    result = parent.inject(**options)
    assert (result.why, result.left) == ("", 0)
    assert sorted(t.key for t in result.taken) == owed
    assert {t.status for t in result.taken} == {3 << 8}
    assert not parent.zombies()
    assert parent.state() == before
    return result


NR = {"read": 0, "poll": 7, "pause": 34, "nanosleep": 35, "futex": 202, "restart": 219, "epoll_wait": 232}
NR |= {"clock_nanosleep": 230, "sigsuspend": 130, "sigwait": 128}
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")


@x86_64
@pytest.mark.parametrize(
    ("word", "call", "answer"),
    [("nanosleep", "nanosleep", (0, 0)), ("poll", "poll", (0, 0)), ("futex", "futex", (-1, 110))],
)
def test_a_call_with_a_time_goes_on_for_the_rest_of_it(one, word, call, answer):
    one.begin(word, NR[call], NR["clock_nanosleep"])
    cleared(one)
    # restart_syscall(2) goes on with the time that is left; the call itself would begin anew
    until(lambda: one.call() and one.call().number == NR["restart"], "the call to go on")
    assert one.running.said() == answer


@x86_64
def test_it_goes_on_with_the_same_registers(one):
    one.begin("pause", NR["pause"])
    before, words = one.call(), words_of(one.pid)
    cleared(one)
    until(lambda: one.call() == before, "it to sleep as before")
    assert words_of(one.pid) == words
    os.kill(one.pid, signal.SIGUSR1)
    assert one.running.said() == (1, 4)  # EINTR, from the handler it has


def words_of(pid):
    """Of a thread that is stopped for a moment."""

    def look():
        ptrace.seize(pid)
        ptrace.interrupt(pid)
        try:
            stop = ptrace.wait(pid, float("inf"))
            assert stop.kind == "trap"
            return ptrace.registers(pid), ptrace.mask(pid)
        finally:
            ptrace.detach(pid)

    return apart.run(look)


@x86_64
def test_a_read_gets_its_bytes(one):
    one.begin("read", NR["read"])
    cleared(one)
    assert one.ask("hello") == (6, 0)


@x86_64
def test_a_call_that_the_kernel_would_end_is_begun_again(one):
    one.begin("epoll", NR["epoll_wait"])
    cleared(one)
    until(lambda: one.call() and one.call().number == NR["epoll_wait"], "it to wait again")
    assert one.ask("go") == (1, 0)


@x86_64
@pytest.mark.parametrize(("word", "answer"), [("sigsuspend", (1, 1)), ("sigwait", (10, 0))])
def test_signals_that_are_waited_for_come(one, word, answer):
    one.begin(word, NR[word])
    before = one.state()
    assert not one.inject().why
    until(lambda: one.call() and one.call().number == NR[word], "it to wait again")
    assert one.state() == before
    os.kill(one.pid, signal.SIGUSR1)
    assert one.running.said() == answer


def test_in_a_handler(one):
    one.begin("handler", 0, 63)
    cleared(one)
    assert one.ask("") == (1, 0)


def test_while_it_computes(one):
    assert one.ask("make 200") == (200, 0)
    assert one.ask("spin") == (0, 0)
    for _ in range(20):
        one.inject()
    cleared_by_then = one.zombies()
    os.kill(one.pid, signal.SIGUSR1)
    assert one.running.said() == (0, 1)
    assert not cleared_by_then


def test_two_thousand_and_the_answer_knows_them(one):
    assert one.ask("make 2000") == (2000, 0)
    owed = one.zombies()
    some = frozenset(owed[1000:1200])
    result = cleared(one, adopted=some)
    assert {t.key for t in result.taken[:200]} == some
    assert all(t.adopted == (t.key in some) for t in result.taken)
    assert not result.singly


def test_signals_that_come_meanwhile_are_not_lost(one):
    one.begin("pause", NR["pause"], zombies=2000)
    # SIGURG is ignored, but stops who is traced and does not hold it off
    sender = subprocess.Popen(["sh", "-c", f"for i in $(seq 400); do kill -URG {one.pid}; done; kill -USR1 {one.pid}"])
    result = one.inject()
    assert sender.wait() == 0
    assert (result.why, len(result.taken)) == ("", 2000)
    assert one.running.said() == (1, 4)


def test_being_stopped_in_the_midst_it_stays_stopped(one):
    assert one.ask("make 3000") == (3000, 0)
    stopper = threading.Timer(0.02, os.kill, (one.pid, signal.SIGSTOP))
    stopper.start()
    result = one.inject()
    stopper.join()
    until(lambda: stat_of(one.pid).state == "T", "it to stop")
    assert one.inject().why == f"it is stopped; type `kill -CONT {one.pid}` first"
    os.kill(one.pid, signal.SIGCONT)
    assert len(result.taken) + len(one.zombies()) == 3000
    cleared(one) if one.zombies() else None
    assert one.ask("make 1") == (1, 0)
    cleared(one)


def test_another_process_with_its_pid_is_left_alone(one):
    assert one.ask("make 1") == (1, 0)
    wrong = one.key._replace(start_ns=one.key.start_ns + TICK_NS)
    result = apart.run(lambda: inject(wrong, one.zombies(), READ))
    assert result.why == "it is gone"
    stale = [k._replace(start_ns=k.start_ns - TICK_NS) for k in one.zombies()]
    assert not apart.run(lambda: inject(one.key, stale, READ)).taken
    with child("odd", "wait") as other:
        key = key_of(other.pid)
        assert not apart.run(lambda: inject(one.key, [key], READ)).taken
    cleared(one)


def test_with_other_threads_at_work():
    with a_parent() as parent:
        assert parent.ask("make 500") == (500, 0)
        assert parent.ask("threads") == (4, 0)
        cleared(parent)
        before = parent.ask("counted")[0]
        until(lambda: parent.ask("counted")[0] > before, "its threads to go on")


def test_one_that_may_not_run_new_code_waits_call_by_call(one, monkeypatch):
    assert one.ask("make 300") == (300, 0)
    real = borrow.Borrowed._call

    def refuse(self, name, *args):
        return -13 if name == "mprotect" else real(self, name, *args)

    monkeypatch.setattr(borrow.Borrowed, "_call", refuse)
    assert cleared(one).singly == "it may not run new code: Permission denied"


@x86_64
def test_it_went_back_by_itself_before_we_looked(one, monkeypatch):
    one.begin("read", NR["read"], zombies=500)
    before = one.call()
    monkeypatch.setattr(registers, "_PATIENCE", 0)
    cleared(one)
    until(lambda: one.call() == before, "it to be back")
    assert one.ask("hello") == (6, 0)


@pytest.mark.parametrize(
    ("word", "why"), [("filter", "it runs under a seccomp filter"), ("traced", "it is traced by process")]
)
def test_who_is_refused(word, why):
    with a_parent() as parent:
        assert parent.ask("make 2") == (2, 0)
        assert parent.ask(word)[0] == 0
        before = parent.state()
        assert why in parent.inject().why
        assert parent.state() == before
        assert len(parent.zombies()) == 2
        assert parent.ask("still") == (parent.pid, 1)


@pytest.mark.parametrize(
    ("pid", "why"), [(1, "process 1 of this"), (0, "has started it"), (os.getppid(), "has started it"), (2, "kernel")]
)
def test_whom_nobody_may_borrow(pid, why):
    assert why in refusal(key_of(pid or os.getpid()))


SOURCE_32 = """
static int call(int nr, int a)
{
    int r;

    __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a) : "memory");
    return r;
}
void _start(void) { if (call(2, 0) == 0) call(1, 3); for (;;) call(29, 0); }
"""


@x86_64
def test_a_program_of_32_bits_is_refused(tmp_path):
    source, program = tmp_path / "small.c", str(tmp_path / "small")
    source.write_text(SOURCE_32)
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-o", program, source], check=True)
    with subprocess.Popen([program]) as running:
        try:
            owed = until(lambda: children(running.pid), "its zombie")
            result = apart.run(lambda: inject(key_of(running.pid), owed, READ))
            assert "it runs a program of 32 bits" in result.why
            assert children(running.pid) == owed
            until(lambda: stat_of(running.pid).state == "S", "it to sleep again")
        finally:
            running.kill()


@x86_64
def test_a_call_of_32_bits_is_refused():
    with child("zombie", "wait-32", group=True) as running:
        pid = running.said()[0]
        until(lambda: children(pid), "its zombie")
        result = apart.run(lambda: inject(key_of(pid), children(pid), READ))
        assert "it is in a system call of 32 bits" in result.why
        until(lambda: stat_of(pid).state == "S", "it to wait again")


def test_in_vfork_it_is_refused_and_goes_on():
    with a_parent() as parent:
        assert parent.ask("make 2") == (2, 0)
        parent.tell("vfork")
        until(lambda: stat_of(parent.pid).state == "D", "vfork")
        assert "D state" in parent.inject().why
        assert parent.ask("go") == (0, 0)
        cleared(parent)


def test_frozen_it_is_refused():
    root = cgroup.mounts().v2
    if not root:
        pytest.skip("no cgroup v2")
    directory = f"{root}/pidwarden-inject-{os.getpid()}"
    os.mkdir(directory)
    try:
        with a_parent() as parent:
            assert parent.ask("make 2") == (2, 0)
            assert cgroup.move(parent.pid, directory)
            assert freezer.freeze(directory)
            assert not freezer.wait([directory], 20)
            assert parent.inject().why == f"it is frozen, by {directory}"
            frozen_at_the_last_moment(parent)
            assert freezer.thaw(directory)
            assert parent.ask("still") == (parent.pid, 1)
            cleared(parent)
    finally:
        until(lambda: not cgroup.processes(directory), "it to be empty")
        os.rmdir(directory)


def frozen_at_the_last_moment(parent):
    """Nobody saw it before: the thread stops, but runs nothing; it is given back."""

    def borrow_it():
        with borrow.Borrowed(parent.pid, parent.pid, READ) as thread:
            return thread.wait_for([1], 0)

    with contextlib.suppress(borrow.RefusedError, borrow.LostError):
        apart.run(borrow_it)


@pytest.mark.parametrize("moment", range(0, 24, 2))
def test_killed_at_any_moment(moment):
    with a_parent() as parent:
        assert parent.ask("make 400") == (400, 0)
        killer = threading.Timer(moment / 1000, os.kill, (parent.pid, signal.SIGKILL))
        killer.start()
        result = parent.inject()
        killer.join()
        until(lambda: procfs.has_ended(parent.key), "it to end")
        # This test is both parent and tracer, and who has seen the end as the one does not see it as the other: then
        # Popen says 0.
        assert parent.running.process.wait(20) in (-signal.SIGKILL, 0)
        assert len(result.taken) <= 400


def test_the_tracer_is_killed_in_the_midst():
    """The program gives the registers back by itself, and the call goes on."""
    with a_parent() as parent:
        parent.begin("read", NR["read"])
        before = parent.call()
        code = (
            "import os, sys\n"
            "from pidwarden.kernel import borrow, evidence, registers\n"
            "registers._PATIENCE = 0\n"
            "run = borrow.ptrace.go_on\n"
            "borrow.ptrace.go_on = lambda *to: (run(*to), os.kill(os.getpid(), 9))\n"
            "with borrow.Borrowed(int(sys.argv[1]), int(sys.argv[1]), evidence.read) as thread:\n"
            "    thread.wait_for([int(p) for p in sys.argv[2:]] * 900, float('inf'))\n"
        )
        pids = [str(k.tgid) for k in parent.zombies()]
        done = subprocess.run([sys.executable, "-c", code, str(parent.pid), *pids], check=False)
        assert done.returncode == -signal.SIGKILL
        until(lambda: parent.call() == before, "it to be back")
        assert not parent.zombies()
        assert parent.state()[:2] == (0, 0)
        assert parent.ask("hello") == (6, 0)
