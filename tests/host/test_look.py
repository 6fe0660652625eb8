"""`pidwarden ps`, `tree` and `history` over a guard's history: the dead, both parents, and what is not known."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cli_kit import forget_copy, nobody_cli, pidwarden_cli
from guardkit import bomb, c_bomb, guard, leftovers, pen, stopped_in
from kit import child, prop, stat_of, until

from pidwarden.guard.control import ask_bulk
from pidwarden.kernel import abi

pytestmark = [pytest.mark.root, pytest.mark.bpf]
RUN_DIR = f"/run/pidwarden-look-{os.getpid()}"
OPTIONS = ("--run-dir", RUN_DIR)


@pytest.fixture(autouse=True, scope="module")
def copy():
    yield
    forget_copy()
    assert not leftovers(RUN_DIR)


def ask(*argv, code=0):
    """A command's standard output, and nothing on standard error."""
    done = pidwarden_cli(*argv, *OPTIONS)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def processes(*argv):
    """What a command says with ``--json``, by pid."""
    return {p["pid"]: p for p in json.loads(ask(*argv, "--json"))["processes"]}


@pytest.fixture(scope="module")
def watching():
    """A guard that observes."""
    with guard("--mode", "observe", run_dir=RUN_DIR) as running:
        yield running


@pytest.mark.usefixtures("watching")
def test_a_double_fork_whose_middle_died():
    with child("odd", "orphan") as odd:
        pid, middle = odd.said()
        now = stat_of(pid).ppid
        assert now not in (odd.pid, middle)
        name = stat_of(now).comm.decode()
        tree = ask("tree", f"pid:{odd.pid}").splitlines()
        assert tree[0].startswith(f"odd {odd.pid} ")
        assert tree[1].startswith(f"└─ odd {middle} ")
        assert "DEAD (exit 7, " in tree[1]
        assert tree[2].startswith(f"   └─ odd {pid} ")
        assert f"now child of {name} ({now})" in tree[2]

        history = ask("history", str(pid))
        paragraphs = history.split("\nodd (")
        assert paragraphs[0].startswith(f"odd ({pid})")
        assert f"creator  odd ({middle})" in paragraphs[0]
        assert f"parent   {name} ({now}) now" in paragraphs[0]
        assert paragraphs[1].startswith(f"{middle})")
        assert "DEAD (exit 7)" in paragraphs[1].splitlines()[0]
        assert "made     1 process\n" in paragraphs[1]
        assert paragraphs[2].startswith(f"{odd.pid})")
        assert "founder of family " in paragraphs[2].splitlines()[0]
        assert f"({os.getpid()})  user root (0)" in history
        assert "made the founder" in history

        rows = processes("ps", f"pid:{odd.pid}", "--all", "-o", "pid,ppid,creator,exit,family,generation")
        assert rows.keys() == {odd.pid, middle, pid}
        assert (rows[pid]["creator"], rows[pid]["ppid"]) == (middle, now)
        assert (rows[middle]["exit"], rows[middle]["creator"]) == (7 << 8, odd.pid)
        assert rows[pid]["generation"] == rows[odd.pid]["generation"] + 2
        family = rows[pid]["family"]
        assert processes("ps", f"pid:{odd.pid}", "-o", "pid").keys() == {odd.pid, pid}
        assert processes("ps", f"family:{family}", "--dead", "-o", "pid").keys() == {middle}
        assert processes("tree", f"family:{family}").keys() == {odd.pid, middle, pid}
        assert f"family {family}: 2 slots, 2 processes, 1 dead, founded by odd ({odd.pid})" in ask("tree")


@pytest.mark.usefixtures("watching")
def test_history_of_the_dead():
    done = subprocess.run(["sh", "-c", "echo $$; exit 3"], check=False, stdout=subprocess.PIPE, text=True)
    pid = int(done.stdout)
    assert stat_of(pid) is None
    until(lambda: "DEAD (exit 3)" in ask("history", f"pid:{pid}"), "its slot to be off the books")
    assert "exec     " in ask("history", str(pid))
    assert ask("tree", f"pid:{pid}").startswith(f"sh {pid} root  lived ")


@pytest.mark.usefixtures("watching")
def test_a_process_that_is_not_known():
    free = next(pid for pid in range(300, 32_000) if not os.path.exists(f"/proc/{pid}"))
    known = {p["pid"] for p in json.loads(ask("ps", "--all", "-o", "pid", "--json"))["processes"]}
    free = next(pid for pid in range(free, 32_000) if pid not in known)
    done = pidwarden_cli("history", str(free), *OPTIONS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "`pidwarden ps --all` lists all that is known" in done.stderr


@pytest.mark.usefixtures("watching")
def test_a_pid_used_twice_has_to_be_chosen():
    first = subprocess.Popen(["true"])
    first.wait()
    with child("odd", "set-tid", str(first.pid)) as odd:
        pid, error = odd.said()
        assert (pid, error) == (first.pid, 0)
        text = ask("history", str(pid), code=1)
        lines = text.splitlines()
        assert lines[0] == f"{len(lines) - 1} processes have had this pid; choose one:"
        chosen = [line.split()[2] for line in lines[1:]]
        assert len(chosen) == 3
        assert all(key.startswith(f"{pid}@") for key in chosen)
        assert "in the process table" in lines[-1]
        assert "DEAD (exit 5)" in ask("history", chosen[1])
        assert "state S" in ask("history", f"pid:{chosen[2]}").splitlines()[0]
        assert ask("tree", f"pid:{pid}").startswith(f"odd {pid} root  ")  # the one that lives


@pytest.mark.usefixtures("watching")
def test_a_hostile_name_is_shown_harmless_everywhere():
    with child("odd", "names") as odd:
        pid, _ = odd.said()
        shown = ") R 1 (\\n\\x1b[31m\\xff"
        assert processes("ps", f"pid:{pid}", "-o", "pid,comm")[pid]["comm"] == shown
        for text in (ask("ps", f"pid:{odd.pid}"), ask("tree", f"pid:{odd.pid}"), ask("history", str(pid))):
            assert shown in text
            assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.usefixtures("watching")
def test_threads_zombies_and_the_slots_of_a_subtree():
    with child("odd", "threads", "12") as threads, child("odd", "zombie", "9") as zombies:
        threads.said()
        zombies.said()
        rows = processes("ps", f"pid:{os.getpid()}", "-o", "pid,slots,own,threads,stat,forks,exit")
        assert (rows[threads.pid]["threads"], rows[threads.pid]["own"]) == (13, 13)
        assert (rows[zombies.pid]["slots"], rows[zombies.pid]["forks"]) == (10, 9)
        assert rows[os.getpid()]["slots"] == sum(row["own"] for row in rows.values())
        dead = processes("ps", f"pid:{zombies.pid}", "--zombies", "-o", "pid,stat,exit")
        assert {(p["stat"], p["exit"]) for p in dead.values()} == {("Z", 3 << 8)}
        assert len(dead) == 9
        assert "odd ×9 (" in ask("tree", f"pid:{zombies.pid}")  # noqa: RUF001
        assert "not reaped" in ask("tree", f"pid:{zombies.pid}")


@pytest.mark.usefixtures("watching")
def test_ps_agrees_with_proc_about_states_and_parents():
    with child("odd", "zombie", "3") as odd:
        odd.said()
        for row in processes("ps", f"pid:{odd.pid}", "-o", "pid,ppid,state,comm,uid,start").values():
            stat = stat_of(row["pid"])
            assert (row["ppid"], row["state"], row["comm"].encode()) == (stat.ppid, stat.state, stat.comm)
            assert row["start"] // 10_000_000 == stat.start_ticks


@pytest.mark.usefixtures("watching")
def test_forks_a_second():
    with subprocess.Popen([prop("forkloop"), "400000"], stdout=subprocess.DEVNULL) as loop:

        def rate():
            return processes("ps", f"pid:{loop.pid}", "-o", "pid,rate")[loop.pid]["rate"]

        try:
            until(lambda: rate() > 10, "a rate")
        finally:
            loop.kill()


@pytest.mark.usefixtures("watching")
def test_found_running_is_marked_as_a_guess():
    assert f" {os.getpid()}? " in ask("tree", f"pid:{os.getpid()}")
    assert "was running before the guard" in ask("tree", f"pid:{os.getpid()}")
    history = ask("history", str(os.getpid()))
    assert "guessed: found running when the guard started" in history
    with child("odd", "wait") as odd:
        odd.said()
        assert "?" not in ask("tree", f"pid:{odd.pid}")


@pytest.mark.usefixtures("watching")
def test_by_user_and_by_cgroup():
    with child("odd", "wait") as odd:
        odd.said()
        assert odd.pid in processes("tree", "user:root")
        assert odd.pid in processes("ps", "user:0", "-o", "pid")
        assert not any("odd" in line for line in ask("ps", "user:nobody").splitlines())
        with pen() as made, child("odd", "wait", enter=made.enter) as inside:
            inside.said()
            path = "/" + made.name
            assert processes("ps", f"cgroup:{path}", "-o", "pid").keys() == {inside.pid}
            assert processes("tree", f"cgroup:{path}").keys() == {inside.pid}


@pytest.mark.usefixtures("watching")
def test_a_deep_chain_of_the_dead_stays_readable():
    with child("odd", "deep", "300") as odd:
        pid, _ = odd.said()
        text = ask("history", str(pid))
        assert f"({odd.pid})" in text
        assert "more ancestors" in text
        assert len(text.splitlines()) < 150
        assert ask("history", str(pid), "--full").count("\nodd (") >= 200
        until(lambda: "each made by the one before: odd " in ask("tree", f"pid:{odd.pid}"), "pid 1 to reap them")
        assert f"odd {pid} " in ask("tree", f"pid:{odd.pid}")
        odd.tell()


def test_what_is_held_is_marked():
    run_dir = f"{RUN_DIR}-held"
    with (
        guard("--mode", "hold", "--hold-at", "20", run_dir=run_dir) as running,
        pen() as made,
        bomb(made, *c_bomb("tight")),
    ):
        number = running.wait("held")["family"]
        until(lambda: stopped_in(made), "members that are stopped")
        tree = pidwarden_cli("tree", "--run-dir", run_dir).stdout
        rows = pidwarden_cli(
            "ps", f"cgroup:/{made.name}", "-o", "stat,held", "--no-headings", "--run-dir", run_dir
        ).stdout
        assert number
        assert "HELD" in tree
        assert any(line.split()[0] == "Th" and line.split()[1] != "-" for line in rows.splitlines())
        made.kill()
    assert not leftovers(run_dir)


def test_the_bytes_are_those_of_the_layout(watching):
    answer, data = ask_bulk(RUN_DIR, "records")
    assert len(data) == answer["count"] * abi.DUMP.size
    assert (answer["format"], answer["size"]) == (abi.DUMP.format, abi.DUMP.size)
    assert answer["pid"] == watching.process.pid
    assert answer["counters"]["forks"] > 0


def test_asking_leaves_nothing_in_the_guard(watching):
    fds = f"/proc/{watching.process.pid}/fd"
    ask_bulk(RUN_DIR, "records")
    before = len(os.listdir(fds))
    for _ in range(30):
        assert ask_bulk(RUN_DIR, "records")
    until(lambda: len(os.listdir(fds)) == before, "the guard to have let go of everything")


@pytest.mark.usefixtures("watching")
def test_an_ordinary_user_gets_what_proc_shows():
    done = nobody_cli("ps", "-o", "pid,comm,family", *OPTIONS)
    assert done.returncode == 0
    assert "Permission denied" in done.stderr
    assert "from /proc" in done.stderr
    assert len(done.stdout.splitlines()) > 1
    done = nobody_cli("history", str(os.getpid()), *OPTIONS)
    assert done.returncode in (0, 1)  # as /proc is mounted
    assert "Traceback" not in done.stderr


def test_hidden_processes_are_spoken_of():
    """In a mount namespace of its own, where /proc hides what belongs to others."""
    script = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    done = nobody_cli(
        "ps", "--no-guard", "-o", "pid,uid", "--no-headings", prefix=("unshare", "-m", "sh", "-c", script, "sh")
    )
    if "Traceback" not in done.stderr and done.returncode:
        pytest.skip(f"cannot mount /proc again: {done.stderr}")
    assert "hidepid=" in done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"65534"}


@pytest.mark.usefixtures("watching")
def test_a_reader_that_goes_away():
    argv = [sys.executable, "-m", "pidwarden", "ps", *OPTIONS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
