"""`pidwarden trace --why`: real programs, who may not be seen, who is gone, and what it leads to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from cli_kit import NOBODY, dropped, gone_pid, nobody_cli, one_sentence, pidwarden_cli
from kit import Child, prop, until
from whykit import ends_in, stage

from pidwarden.kernel import blocked, cgroup, evidence, freezer, holders, namespaces

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_copy_left")]

CHILD = "import subprocess; p = subprocess.Popen(['sleep', '1000'], stdout=-1, stderr=-1)\n"
BACKLOG = """
import os, socket
s = socket.socket(socket.{family})
s.bind({address})
s.listen(0)
name = s.getsockname()
if os.fork() == 0:
    s.close()
    keep = [socket.socket(socket.{family}) for _ in range(5)]
    [one.connect(name) for one in keep]
os.wait()
"""
PROGRAMS = {  # what its first thread sleeps in, how the chain ends, a word of the picture
    "output of a child": (CHILD + "p.communicate()", "poll", "sleeps", "waits for one of these to be ready, by: "),
    "pidfd of a child": (
        CHILD + "import os\nos.waitid(os.P_PIDFD, os.pidfd_open(p.pid), os.WEXITED)",
        "waitid", "sleeps", "P_PIDFD",
    ),
    "dead children": (
        CHILD + "q = subprocess.Popen(['true'])\np.wait()",
        "wait4", "sleeps", "children that ended and that it does not wait for",
    ),
    "a server": (
        "import asyncio\nasync def m(): await (await asyncio.start_server(print, '127.0.0.1', 0)).serve_forever()\n"
        "asyncio.run(m())",
        "epoll_wait", "idle", "any of 2 descriptors",
    ),
    "a loop that only it wakes": (
        "import asyncio\nasync def m(): await asyncio.Event().wait()\nasyncio.run(m())",
        "epoll_wait", "idle", "waits for this descriptor: it is idle",
    ),
    "a signal": (
        "import signal; signal.sigtimedwait([signal.SIGUSR1], 1000)",
        "rt_sigtimedwait", "signal", "limited time",
    ),
    "a sleep": ("import time; time.sleep(1000)", "clock_nanosleep", "sleeps", "for another "),
    "a timer": (
        "import ctypes, os; l = ctypes.CDLL(None); f = l.timerfd_create(1, 0)\n"
        "l.timerfd_settime(f, 0, (ctypes.c_long * 4)(0, 0, 999, 0), None); os.read(f, 8)",
        "read", "sleeps", "a timer, for",
    ),
    "a full Unix backlog": (
        BACKLOG.format(family="AF_UNIX", address="f'\\0pw-{os.getpid()}'"),
        "wait4", None, "accepts none (@pw-",
    ),
    "a full TCP backlog": (
        BACKLOG.format(family="AF_INET", address="('127.0.0.1', 0)"),
        "wait4", None, "to be accepted at 127.0.0.1:",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(ask, name):
    code, call, end, says = PROGRAMS[name]

    def is_there(picture):  # with a backlog: it waits for a child, who waits for it to accept
        first = picture.waiter(child.pid)
        return first["syscall"] == call and (picture.ending(child.pid) == end if end else picture.json["cycles"])

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, process_group=0) as child:
        try:
            assert says in ask(child.pid, is_there).text
        finally:
            os.killpg(child.pid, signal.SIGKILL)


def test_who_ran_meanwhile_is_marked(ask):
    code = "import time\nwhile True: time.sleep(0.0005)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as child:
        try:
            found = until(lambda: (p := ask.once(child.pid)).waiter(child.pid)["moved"] and p, "it to run meanwhile")
            assert any("the picture of a moment" in note for note in found.json["notes"])
        finally:
            child.kill()


def test_numbers_of_another_pid_namespace(ask):
    running = Child("unshare", "--pid", "--fork", prop("blockedlock"), "mutex", "normal", group=True)
    try:
        running.said()
        (inner, _owner), _zeros = running.said(), running.said()
        (init,) = children(running.pid)
        first = next(pid for pid in children(init) if len(evidence.threads(pid)) > 1)
        waits = next(t for t in evidence.threads(first) if namespaces.inner_pids(t)[-1] == inner)
        found = ask(waits, ends_in(f"{first}/{waits}", "sleeps"))
        assert len(found.chain(f"{first}/{waits}")) == 3
    finally:
        running.end()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return list(map(int, file.read().split()))


def test_a_pipeline_of_a_shell(ask):
    with subprocess.Popen(["sh", "-c", "sleep 1000 | cat | cat"], process_group=0) as shell:
        try:
            found = ask(shell.pid, ends_in(shell.pid, "sleeps"))
            assert [found.waiter(i)["comm"] for i in found.chain(shell.pid)][-1] == "sleep"
            last = max(e["pid"] for e in found.waiter(shell.pid)["waits_for"])
            assert [found.waiter(i)["comm"] for i in found.chain(last)] == ["cat", "cat", "sleep"]
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def test_flock_the_command_and_its_child(ask, tmp_path):
    path = str(tmp_path / "lock")
    argv = ["flock", path, "sleep", "1000"]
    with subprocess.Popen(argv, process_group=0) as holder, subprocess.Popen(argv, process_group=0) as waits:
        try:

            def who_waits(picture):  # who came first is not known: whoever got it waits for a child
                return next(w["id"] for w in picture.json["waiters"] if w["syscall"] == "flock")

            found = ask(f"{holder.pid},{waits.pid}", lambda p: p.ending(who_waits(p)) == "sleeps")
            assert found.waiter(found.chain(who_waits(found))[-1])["comm"] == "sleep"
        finally:
            for one in (holder, waits):
                os.killpg(one.pid, signal.SIGKILL)


def test_a_frozen_cgroup(ask):
    mounts = cgroup.mounts()
    where = mounts.v1.get(freezer.CONTROLLER) or mounts.v2
    if where is None:
        pytest.skip("no freezer")
    directory = f"{where}/pidwarden-why-{os.getpid()}"
    os.mkdir(directory)
    try:
        with subprocess.Popen(["sleep", "1000"]) as child:
            with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(child.pid))
            freezer.freeze(directory)
            try:
                found = ask(child.pid, ends_in(child.pid, "frozen"))
                assert directory in found.waiter(child.pid)["do"]
            finally:
                freezer.thaw(directory)
                child.kill()
    finally:
        until(lambda: not cgroup.processes(directory), "the cgroup to be empty")
        os.rmdir(directory)


def test_who_computes_and_who_waits_for_a_terminal(ask):
    master, slave = os.openpty()
    with (
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy,
        subprocess.Popen(["cat"], stdin=slave, stdout=subprocess.DEVNULL) as reader,
    ):
        try:
            assert ask(busy.pid, ends_in(busy.pid, "runs")).json["cycles"] == []
            found = ask(reader.pid, ends_in(reader.pid, "typing"))
            assert os.ttyname(slave) in found.text
        finally:
            busy.kill()
            reader.kill()
            os.close(master)
            os.close(slave)


# -- who is gone, and what may not be seen -----------------------------------------------------------------------------


def test_nobody_of_that_number():
    done = pidwarden_cli("trace", "--why", str(gone_pid()))
    assert "no such process" in one_sentence(done, 1)
    assert "is not a process id" in one_sentence(pidwarden_cli("trace", "--why", "x"), 2)
    assert "nobody is meant" in one_sentence(pidwarden_cli("trace"), 2)
    assert "another one now" in one_sentence(pidwarden_cli("trace", "--why", "1@77"), 1)


def test_an_ordinary_user_is_told_what_is_in_the_way():
    done = nobody_cli("trace", "--why", str(os.getpid()))
    assert done.returncode == 3, done.stderr
    assert "another user" in done.stdout
    assert f"do: sudo pidwarden trace --why {os.getpid()}" in done.stdout


def test_an_ordinary_user_sees_his_own():
    argv = [*dropped(NOBODY), "sh", "-c", "sleep 1000 | cat"]
    with subprocess.Popen(argv, process_group=0) as shell:
        try:

            def look():
                done = nobody_cli("trace", "--why", str(shell.pid), "--json")
                found = json.loads(done.stdout)
                return found if {"cat", "sleep"} <= {w["comm"] for w in found["waiters"]} else None

            found = until(look, "the pipeline")
            cat = next(w for w in found["waiters"] if w["comm"] == "cat")
            assert [e["how"] for e in cat["waits_for"]] == ["fd 1"]
            assert any("may not be seen" in note for note in found["notes"])
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def test_without_the_system_call_the_kernels_function_tells(ask, monkeypatch):
    """As where Yama lets nobody but root attach (kernel.yama.ptrace_scope)."""
    monkeypatch.setattr(evidence, "syscall", lambda *_args: evidence.Unknown("not allowed"))
    argv = ["sh", "-c", "sleep 1000 | cat; true"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, process_group=0) as shell:
        try:
            found = ask(shell.pid, lambda p: {w["comm"] for w in p.json["waiters"]} == {"sh", "sleep", "cat"})
            assert found.code == 0
            cat, sleep = (next(w for w in found.json["waiters"] if w["comm"] == name) for name in ("cat", "sleep"))
            assert [(e["pid"], e["sure"]) for e in cat["waits_for"]] == [(sleep["pid"], False)]
            assert "most likely" in cat["waits"]
            assert (sleep["end"], "not shown" in sleep["waits"]) == ("sleeps", True)
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def test_hidden_by_the_mount_of_proc():
    script = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    me = os.getpid()
    argv = ["trace", "--why", str(me)]
    done = nobody_cli(*argv, prefix=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert done.returncode == 3, done.stderr
    assert "hidepid" in done.stdout
    assert f"sudo pidwarden trace --why {me}" in done.stdout


def test_a_search_that_takes_too_long_is_cut_and_said_to_be(ask, monkeypatch):
    monkeypatch.setattr(holders.Holders.__init__, "__defaults__", (holders.PROC, 0.0))
    with stage("pipe-stopped") as [(a, _b)]:
        found = ask(a, ends_in(a, "untold"))
        assert "looked at in time" in found.text
        assert any("time was up" in note for note in found.json["notes"])


def test_who_ends_meanwhile_is_said_to_be_gone(ask, monkeypatch):
    with stage("pipe-stopped") as [(a, b)]:
        ask(a, ends_in(a, "stopped"))
        real = blocked.look

        def look(sight, ref):
            found = real(sight, ref)
            if ref.pid == b:
                os.kill(b, signal.SIGKILL)
                until(lambda: sight.status(b) is None or sight.status(b).state == "Z", "its end")
            return found

        monkeypatch.setattr(blocked, "look", look)
        found = ask.once(a)
        assert found.waiter(b)["end"] in ("gone", "dead")


def test_threads_in_the_same_wait_are_shown_as_one(ask):
    code = """
import threading
event = threading.Event()
for _ in range(20):
    threading.Thread(target=event.wait, daemon=True).start()
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        try:
            found = ask(child.pid, lambda p: p.waiter(child.pid)["threads"] == 21)
            assert "more threads in the same wait" in found.text
            assert len(found.text.splitlines()) < 12
        finally:
            child.kill()
