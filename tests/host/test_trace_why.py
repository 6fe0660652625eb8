"""`pidwarden trace --why`: real processes that wait for each other, each chain followed to its end or to its circle."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from cli_kit import pidwarden_cli
from kit import until
from whykit import ends_in, stage

from pidwarden.kernel import evidence, socketpeer

pytestmark = pytest.mark.root
# -- the cases that have to be shown -----------------------------------------------------------------------------------


def test_a_parent_in_wait4(ask):
    with stage("wait") as [(a, b), (_b, c)]:
        found = ask(a, ends_in(a, "signal"))
        assert found.code == 0
        assert found.chain(a) == [str(a), str(b), str(c)]
        assert found.waiter(a)["call"] == "wait4(-1)"
        assert found.waiter(b)["call"] == f"wait4({c})"
        lines = found.text.splitlines()
        assert [line.split()[0] for line in lines[:3]] == [str(a), str(b), str(c)]
        assert [len(line) - len(line.lstrip()) for line in lines[:3]] == [0, 2, 4]
        assert lines[3].startswith(f"the end: {c} blocked: ")


@pytest.mark.parametrize("what", ["pipe-stopped", "select", "poll", "epoll"])
def test_a_pipe_whose_writer_is_stopped(ask, what):
    with stage(what) as [(a, b)]:
        found = ask(a, ends_in(a, "stopped"))
        assert found.chain(a) == [str(a), str(b)]
        assert "pipe:[" in found.waiter(a)["call"]
        assert found.text.splitlines()[-1].endswith(f"do: kill -CONT {b}")
        os.kill(b, signal.SIGCONT)
        assert ask(a, ends_in(a, "signal")).chain(a) == [str(a), str(b)]


@pytest.mark.parametrize(("kind", "sure"), [("normal", False), ("pi", True), ("robust", False)])
def test_a_futex_whose_owner_sleeps(ask, kind, sure):
    with stage("mutex", kind) as [(a, b), (waits, owner)]:
        thread = f"{a}/{waits}"
        found = ask(waits, ends_in(thread, "sleeps"))
        assert found.json["asked"] == [thread]
        assert found.chain(thread) == [thread, f"{a}/{owner}", str(b)]
        assert [e["sure"] for e in found.waiter(thread)["waits_for"]] == [sure]
        assert ("most likely" in found.waiter(thread)["waits"]) is not sure
        assert "sleeps for 1000 s" in found.text.splitlines()[-1]
        whole = ask(a, lambda p: len(p.json["waiters"]) == 5)
        assert whole.waiter(a)["threads"] == 3
        assert ask(f"{a}/{a}", ends_in(f"{a}/{a}", "signal")).json["asked"] == [f"{a}/{a}"]


def test_a_mutex_shared_between_processes(ask):
    with stage("mutex", "shared") as [(a, b)]:
        found = ask(a, ends_in(a, "sleeps"))
        assert found.chain(a) == [str(a), str(b)]


@pytest.mark.parametrize(("what", "says"), [("fcntl", "POSIX WRITE, bytes 0 to 9"), ("ofd", "OFDLCK WRITE")])
def test_a_lock_of_a_file(ask, tmp_path, what, says):
    with stage(what, str(tmp_path / "lock")) as [(a, b)]:
        found = ask(a, ends_in(a, "sleeps"))
        assert found.chain(a) == [str(a), str(b)]
        assert [e["pid"] for e in found.waiter(a)["waits_for"]] == [b]
        assert says in found.waiter(a)["waits"]
        assert found.waiter(a)["target"] == str(tmp_path / "lock")


# -- others ------------------------------------------------------------------------------------------------------------


def test_three_behind_locks_of_flock(ask, tmp_path):
    with stage("flock", str(tmp_path / "lock")) as [(a, b), (c, _none)]:
        assert ask(a, ends_in(a, "signal")).chain(a) == [str(a), str(b), str(c)]


@pytest.mark.parametrize("what", ["pipes", "flocks"])
def test_two_who_wait_for_each_other(ask, tmp_path, what):
    with stage(what, str(tmp_path / "lock")) as [(a, b)]:
        found = ask(a, lambda p: p.json["cycles"])
        (cycle,) = found.json["cycles"]
        assert (cycle["ids"], cycle["deadlock"]) == ([str(a), str(b)], True)
        everybody_is_seen = not any("open" in note for note in found.json["notes"])
        assert cycle["sure"] == (what == "flocks" or everybody_is_seen)
        assert found.json["ends"] == []
        assert "a deadlock: " in found.text
        assert "full circle" in found.text


def test_two_mutexes(ask):
    with stage("mutexes") as [(a, _none), (first, second)]:
        found = ask(a, lambda p: p.json["cycles"])
        (cycle,) = found.json["cycles"]
        assert sorted(cycle["ids"]) == sorted((f"{a}/{first}", f"{a}/{second}"))
        assert (cycle["deadlock"], cycle["sure"]) == (True, False)
        assert "most likely a deadlock" in found.text


@pytest.mark.parametrize("what", ["relock", "own-pipe"])
def test_one_who_waits_for_itself(ask, what):
    with stage(what) as [(a, _none)]:
        found = ask(a, lambda p: p.json["cycles"])
        assert found.json["cycles"][0]["ids"] == [str(a)]
        assert f"deadlock: {a} {found.waiter(a)['comm']} waits for itself" in found.text


def test_an_owner_that_has_ended(ask):
    with stage("mutex", "dead") as [(a, _b), (waits, owner)]:
        found = ask(waits, ends_in(f"{a}/{waits}", "nobody"))
        assert f"thread {owner}, has ended without letting go" in found.text


@pytest.mark.parametrize(("what", "says"), [("rwlock", "read-write lock"), ("join", "pthread_join")])
def test_other_waits_for_a_thread(ask, what, says):
    with stage(what) as [(a, thread)]:
        found = ask(a, lambda p: p.waiter(f"{a}/{a}")["waits_for"] and p.ending(f"{a}/{a}") == "sleeps")
        assert found.chain(f"{a}/{a}") == [f"{a}/{a}", f"{a}/{thread}"]
        assert says in found.waiter(f"{a}/{a}")["waits"]


def test_what_has_no_owner_is_said_to_have_none(ask):
    with stage("cond") as [(a, thread)]:
        found = ask(a, lambda p: p.waiter(f"{a}/{a}")["waits_for"])
        assert [(e["id"], e["weak"]) for e in found.waiter(f"{a}/{a}")["waits_for"]] == [(str(a), True)]
        assert "no owner" in found.waiter(f"{a}/{a}")["waits"]
        assert found.json["cycles"] == []
        assert found.waiter(f"{a}/{thread}")["end"] == "sleeps"
    with stage("semaphore") as [(a, _none)]:
        assert "no other thread lives" in ask(a, ends_in(a, "nobody")).text


def test_a_chain_of_ten(ask):
    with stage("chain", "10") as [(first, last)]:
        found = ask(first, ends_in(first, "sleeps"))
        assert len(found.chain(first)) == 10
        assert found.chain(first)[-1] == str(last)
        assert len(found.text.splitlines()) == 11


def test_many_writers_are_a_tree_with_a_limit(ask):
    with stage("fan", "12") as [(a, _count)]:
        found = ask(a, lambda p: len(p.waiter(a)["waits_for"]) == 8 and p.ending(a) == "signal")
        assert found.waiter(a)["more"] == 4
        assert "… and 4 more" in found.text


@pytest.mark.parametrize("what", ["full", "eventfd", "pidfd", "unix", "tcp", "traced"])
def test_the_other_end(ask, what):
    if what == "unix" and not socketpeer.unix_diag():
        pytest.skip("this kernel does not tell of Unix sockets")
    with stage(what) as [(a, b)]:
        found = ask(a, ends_in(a, "signal"))
        assert found.chain(a) == [str(a), str(b)]
        assert [e["pid"] for e in found.waiter(a)["waits_for"]] == [b]


def test_a_connection_that_nobody_has_accepted(ask, tmp_path):
    if not socketpeer.unix_diag():
        pytest.skip("this kernel does not tell of Unix sockets")
    with stage("unaccepted", str(tmp_path / "socket")) as [(a, b)]:
        found = ask(a, ends_in(a, "signal"))
        assert found.chain(a) == [str(a), str(b)]
        assert "to be accepted by" in found.waiter(a)["waits"]


def test_who_serves_is_idle(ask):
    with stage("listen") as [(a, _none)]:
        assert "to connect to 127.0.0.1:" in ask(a, ends_in(a, "idle")).text


def test_a_fifo_that_nobody_opens(ask, tmp_path):
    path = tmp_path / "fi\nfo"
    with stage("fifo", str(path)) as [(a, _none)]:
        found = ask(a, ends_in(a, "nobody"))
        assert found.waiter(a)["call"] == f'openat("{tmp_path}/fi\\nfo", O_RDONLY)'
        assert "who will write into it" in found.waiter(a)["waits"]


def test_a_fifo_that_is_open_on_both_sides(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL) as reader, open(path, "wb") as _writer:
        me = os.getpid()
        there = until(lambda: evidence.syscall(f"/proc/{reader.pid}", evidence.read), "cat to read")
        assert there
        done = pidwarden_cli("trace", "--why", str(reader.pid), "--json")  # it leaves itself out, and not us
        waiter = json.loads(done.stdout)["waiters"][0]
        assert [e["pid"] for e in waiter["waits_for"]] == [me], done.stdout
        reader.kill()


def test_a_child_of_a_group(ask):
    with stage("group") as [(a, b), (c, _none)]:
        found = ask(a, ends_in(a, "signal"))
        assert [e["pid"] for e in found.waiter(a)["waits_for"]] == [b]
        assert str(c) not in {w["id"] for w in found.json["waiters"]}


def test_a_vfork_child(ask):
    with stage("vfork") as [(a, b)]:
        found = ask(a, ends_in(a, "stopped"))
        assert found.waiter(a)["state"] == "D"
        assert found.chain(a) == [str(a), str(b)]


def test_execve_behind_another_thread(ask):
    with stage("exec-traced") as [(a, b)]:
        found = ask(a, lambda p: p.chain(a) == [str(a), str(b)] and p.ending(a) == "signal")
        assert found.waiter(a)["syscall"] == "execve"


def test_what_only_the_kernel_ends_leads_to_stuck(ask):
    with stage("uffd") as [(a, _same)]:
        found = ask(a, ends_in(a, "uninterruptible"))
        assert f"do: sudo pidwarden stuck pid:{a}" in found.text
        assert "userfaultfd" in found.text


@pytest.mark.parametrize(("what", "tool"), [("semop", "ipcs -s -i"), ("msgrcv", "ipcs -q -i")])
def test_system_v(ask, what, tool):
    with stage(what) as [(a, number)]:
        found = ask(a, ends_in(a, "untold"))
        assert "it has no owner" in found.waiter(a)["waits"]
        assert found.waiter(a)["do"] == f"{tool} {number}"


def test_a_hostile_name(ask):
    with stage("name") as [(a, b)]:
        found = ask(a, ends_in(a, "signal"))
        assert found.waiter(b)["comm"] == ") Z 1 (\\n\\x1b[31m\\xff"
        assert all(line.isprintable() for line in found.text.splitlines())
        assert len(found.text.splitlines()) == 3


def test_a_zombie_is_its_parents(ask):
    child = subprocess.Popen(["true"])
    try:
        found = ask(child.pid, lambda p: p.waiter(child.pid)["state"] == "Z")
        assert found.waiter(child.pid)["waits_for"][0]["pid"] == os.getpid()
        assert found.waiter(child.pid)["do"] == f"pidwarden zombies pid:{os.getpid()}"
    finally:
        child.wait()


def test_the_commands_it_names_are_taken():
    me = str(os.getpid())
    assert pidwarden_cli("zombies", f"pid:{me}").returncode == 0
    assert pidwarden_cli("stuck", f"pid:{me}").returncode in (0, 1)
