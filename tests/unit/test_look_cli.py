"""`pidwarden ps`, `tree` and `history` without a guard, over the processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest
from kit import stat_of

from pidwarden.cli import main as cli
from pidwarden.errors import UsageError
from pidwarden.kernel import procfs

SLEEP = "pidwarden-nap"  # a name of at most 15 characters that nobody else has


@contextlib.contextmanager
def naps(count=1):
    """So many children that sleep under a name of their own."""
    code = f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b"{SLEEP}", 0, 0, 0)
print("there", flush=True)
time.sleep(100)
"""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            child = stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
            stack.callback(child.kill)
            found.append(child)
        for child in found:
            assert child.stdout.readline() == b"there\n"
            while (stat := stat_of(child.pid)) and stat.state != "S":  # about to sleep
                time.sleep(0.001)
        yield [child.pid for child in found]


def run(capsys, *argv, code=0):
    assert cli.main(list(argv)) == code
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_ps_shows_everybody_that_proc_shows(capsys):
    out, err = run(capsys, "ps", "--no-guard", "-o", "pid,ppid,comm,user")
    rows = {int(line.split()[0]): line for line in out.splitlines()[1:]}
    stat = procfs.stat(os.getpid())
    assert rows[os.getpid()].split()[1] == str(stat.ppid)
    assert out.splitlines()[0].split() == ["PID", "PPID", "COMM", "USER"]
    assert sorted(rows) == list(rows)
    assert not err


def test_ps_agrees_with_procps(capsys):
    out, _ = run(capsys, "ps", "--no-guard", "-o", "pid,ppid,uid,comm", "--json")
    ours = {p["pid"]: p for p in json.loads(out)["processes"]}
    theirs = subprocess.run(["ps", "axo", "pid=,ppid=,uid="], capture_output=True, text=True, check=True).stdout
    both = [line.split() for line in theirs.splitlines() if int(line.split()[0]) in ours]
    assert len(both) > len(ours) / 2
    same = [ours[int(pid)]["ppid"] == int(ppid) and ours[int(pid)]["uid"] == int(uid) for pid, ppid, uid in both]
    assert sum(same) > 0.9 * len(same)  # somebody may have been re-parented in between


def test_the_subtree_and_its_slots(capsys):
    with naps(3) as pids:
        out, _ = run(capsys, "ps", "--no-guard", f"pid:{os.getpid()}", "-o", "pid,slots,own,comm", "--json")
        rows = {p["pid"]: p for p in json.loads(out)["processes"]}
    assert rows.keys() >= {os.getpid(), *pids}
    assert rows[os.getpid()]["slots"] == sum(p["own"] for p in rows.values())
    assert {rows[pid]["comm"] for pid in pids} == {SLEEP}


def test_zombies_and_states(capsys):
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        out, _ = run(capsys, "ps", "--no-guard", "--zombies", "-o", "pid,stat", "--no-headings")
        assert [str(child.pid), "Z"] in [line.split() for line in out.splitlines()]
        out, _ = run(capsys, "ps", "--no-guard", "--state", "SR", "-o", "pid,stat", "--no-headings")
        rows = dict(map(str.split, out.splitlines()))
        assert str(os.getpid()) in rows
        assert str(child.pid) not in rows
        assert set(rows.values()) <= {"S", "R"}


@pytest.mark.parametrize("column", ["pid", "age", "slots", "comm", "start", "threads", "family"])
def test_sorting(capsys, column):
    for sign in ("", "-"):
        out, _ = run(capsys, "ps", "--no-guard", f"--sort={sign}{column}", "-o", column, "--json")
        values = [p[column] for p in json.loads(out)["processes"]]
        if values[0] is not None:
            assert values == sorted(values, reverse=bool(sign))


def test_every_column_is_listed_and_can_be_shown(capsys):
    out, _ = run(capsys, "ps", "--list-columns")
    names = [line.split()[0] for line in out.splitlines()]
    out, _ = run(capsys, "ps", "--no-guard", "-o", ",".join(names))
    assert len(out.splitlines()) > 1


@pytest.mark.parametrize(
    "argv",
    [["ps", "-o", "nonsense"], ["ps", "--sort", "nonsense"], ["ps", "proc:1"], ["ps", "pid:x"], ["ps", "family:x"],
     ["ps", "--family", "0"], ["tree", "1"], ["tree", "pid:0"], ["history", "x"], ["history", "pid:1@"],
     ["history", "1@x"], ["ps", "--user", "nobody-of-this-name"], ["ps", "user:nobody-of-this-name"]],
)  # fmt: skip
def test_what_cannot_be_understood_is_usage(capsys, argv):
    _, err = run(capsys, *argv, "--no-guard", code=UsageError.exit_code)
    assert "Traceback" not in err
    assert err.startswith(f"pidwarden {argv[0]}: ")


@pytest.mark.parametrize(
    "argv", [["ps", "family:3"], ["tree", "family:3"], ["ps", "--dead"], ["ps", "cgroup:/none/such"],
             ["tree", "cgroup:/none/such"]],
)  # fmt: skip
def test_what_needs_a_guard_or_is_not_there_says_so(capsys, argv):
    _, err = run(capsys, *argv, "--no-guard", code=1)
    assert err.splitlines()[-1].startswith(f"pidwarden {argv[0]}: ")


@pytest.mark.parametrize("command", ["ps", "tree", "history"])
def test_without_a_guard_it_says_so_and_what_to_type(capsys, command, tmp_path):
    arguments = [str(os.getpid())] if command == "history" else []
    out, err = run(capsys, command, "--run-dir", str(tmp_path), *arguments)
    assert out
    assert f"no guard is running in {tmp_path}; type `sudo pidwarden guard`" in err
    assert len(err.splitlines()) == 1


def test_the_tree_has_box_characters_if_they_can_be_written():
    argv = [sys.executable, "-m", "pidwarden", "tree", "--no-guard", f"pid:{os.getpid()}"]
    for encoding, more, plain in (("utf-8", [], False), ("utf-8", ["--ascii"], True), ("ascii", [], True)):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run([*argv, *more], capture_output=True, check=True, env=environment)
        assert done.stdout.isascii() == plain
        assert b"python" in done.stdout or b"pytest" in done.stdout


def test_the_tree_sums_up_who_is_alike(capsys):
    with naps(4) as pids:
        out, _ = run(capsys, "tree", "--no-guard", f"pid:{os.getpid()}", "--ascii")
        assert f"{SLEEP} x4 ({min(pids)} .. {max(pids)})" in out
        out, _ = run(capsys, "tree", "--no-guard", f"pid:{os.getpid()}", "--full")
        assert out.count(SLEEP) == 4


def test_the_tree_of_a_user_and_of_a_cgroup(capsys):
    out, _ = run(capsys, "tree", "--no-guard", f"user:{os.getuid()}", "--json")
    assert os.getpid() in {p["pid"] for p in json.loads(out)["processes"]}
    out, _ = run(capsys, "tree", "--no-guard", "cgroup:/", "--json")
    found = [p["pid"] for p in json.loads(out)["processes"]]
    assert len(found) == len(set(found))
    assert os.getpid() in found


def test_kernel_threads_only_if_wanted(capsys):
    if procfs.stat(2) is None or procfs.stat(2).comm != b"kthreadd":
        pytest.skip("no kernel threads are to be seen here")
    out, _ = run(capsys, "tree", "--no-guard")
    assert "kthreadd" not in out
    out, _ = run(capsys, "tree", "--no-guard", "--all")
    assert "kthreadd" in out


def test_history_is_the_chain_of_parents_and_says_that_they_are_no_creators(capsys):
    out, err = run(capsys, "history", f"pid:{os.getpid()}", "--no-guard")
    titles = [line.split("(")[1].split(")")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert titles == [str(pid) for pid in (os.getpid(), *procfs.ancestors(os.getpid()))]
    assert "may have made none of these" in err
    out, _ = run(capsys, "history", str(os.getpid()), "--no-guard", "--json")
    found = json.loads(out)
    assert found["source"] == "proc"
    assert [p["pid"] for p in found["processes"][0]] == [os.getpid(), *procfs.ancestors(os.getpid())]


def test_history_of_one_that_is_gone(capsys):
    with subprocess.Popen(["true"]) as child:
        pass
    out, err = run(capsys, "history", str(child.pid), "--no-guard", code=1)
    assert not out
    assert "only a guard knows the dead" in err
