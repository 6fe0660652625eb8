"""`pidwarden zombies` as it is typed: text and JSON, selectors, ordinary users, hostile names, a guard's history."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from cli_kit import DROP, forget_copy, gone_pid, guard, left_behind, nobody_cli, one_sentence, pidwarden_cli
from kit import prop, stat_of, until
from zombiekit import run, signals

from pidwarden.kernel import slab, zombies

pytestmark = pytest.mark.root
RUN_DIR = f"/run/pidwarden-zombies-{os.getpid()}"


@pytest.fixture(autouse=True, scope="module")
def copy():
    yield
    forget_copy()
    assert not left_behind(os.path.basename(RUN_DIR))


def ask(*argv):
    done = pidwarden_cli("zombies", "--no-guard", *argv)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def asked(*argv, ask=ask):
    """The one parent that is meant."""
    found = json.loads(ask("--json", *argv))
    assert len(found["parents"]) == 1
    return found, found["parents"][0]


def nobody(*argv):
    done = nobody_cli("zombies", "--no-guard", *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def all_zombies():
    return sum((s := stat_of(int(n))) is not None and s.state == "Z" for n in os.listdir("/proc") if n.isdecimal())


def test_one_parent_with_many_as_an_object_and_as_text():
    until(
        lambda: all_zombies() < zombies.MANY, "the dead of tests before to be reaped: beside many it looks briefly", 60
    )
    with run("never", "10") as (_running, pid, last):
        found, parent = asked(f"pid:{pid}")
        assert (found["zombies"], found["source"]) == (10, "proc")
        assert (parent["pid"], parent["comm"], parent["user"], parent["slots"]) == (pid, "zombie", "root", 10)
        assert parent["oldest_from"] == "two looks"
        assert parent["oldest_ns"] >= 200_000_000
        (cause,) = parent["causes"]
        assert (cause["cause"], cause["count"], len(cause["pids"])) == ("never-waits", 10, 10)
        assert {w["ending"]: w["count"] for w in cause["were"]} == {f"exit {n}": 1 + (n < 2) for n in range(8)}
        assert [s["step"] for s in cause["steps"]] == ["inject", "sigterm", "sigkill"]
        assert all(s["risk"] for s in cause["steps"])
        sizes = slab.cost()
        assert (found["bytes_each"], parent["bytes"]) == (sizes.each, 10 * sizes.each)
        assert last in cause["pids"]

        # a zombie names its parent, who is shown whole
        assert asked(f"pid:{last}")[1]["zombies"] == 10
        assert any(p["pid"] == pid for p in json.loads(ask("--json", "user:root", "pid:1"))["parents"])

        text = ask(f"pid:{pid}")
        assert f"zombie ({pid}), user root, owes 10 zombies" in text
        assert "never-waits" in text
        assert f"pidwarden reap pid:{pid} --inject" in text
        assert all(len(line) <= 120 for line in text.splitlines())


def test_hostile_names_break_no_line_and_no_object():
    with run("names") as (_running, pid, _other):
        text = ask(f"pid:{pid}")
        assert all(line.isprintable() for line in text.splitlines())
        assert text.splitlines()[2].startswith(f"x) Z 1 (\\n\\x1b[2J ({pid}), user root")
        _found, parent = asked(f"pid:{pid}")
        assert parent["comm"] == "x) Z 1 (\\n\\x1b[2J"
        (cause,) = parent["causes"]
        names = {w["comm"]: w["exit_code"] >> 8 for w in cause["were"]}
        assert names == {"a\\nb": 0, ") Z 1 (": 1, "\\x1b[31mred": 2, "\\xff\\xfe": 3, " " * 15: 4, "": 5}


def test_nobody_owes_anything():
    text = ask(f"pid:{os.getpid()}")
    assert text.startswith("no zombies (two looks, ")
    assert json.loads(ask(f"pid:{os.getpid()}", "--json"))["parents"] == []


@pytest.mark.parametrize(
    ("argument", "code", "says"),
    [
        ("pid:x", 2, "pid:N"),
        ("nonsense", 2, "selector"),
        ("family:3", 1, "guard"),
        ("user:no-such-user", 2, "no-such-user"),
        ("cgroup:/no/such", 1, "no such cgroup"),
    ],
)
def test_what_is_not_understood(argument, code, says):
    assert says in one_sentence(pidwarden_cli("zombies", "--no-guard", argument), code)


def test_a_process_that_is_gone():
    assert "no such process" in one_sentence(pidwarden_cli("zombies", "--no-guard", f"pid:{gone_pid()}"), 1)


@pytest.mark.parametrize("mode", ["slow", "signalfd"])
def test_who_reaps_is_not_blamed(mode):
    with run(mode) as (_running, pid, _other):
        for _ in range(3):
            parents = json.loads(ask("--json", f"pid:{pid}"))["parents"]
            assert {c["cause"] for p in parents for c in p["causes"]} <= {"transient"}


def test_watching_counts_the_age_from_the_first_look():
    with run("never") as (_running, pid, _other):
        argv = [sys.executable, "-m", "pidwarden", "zombies", "--no-guard", "--json", "--watch", "0.1", f"pid:{pid}"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching:
            ages = [json.loads(watching.stdout.readline())["parents"][0]["oldest_ns"] for _ in range(3)]
            watching.send_signal(signal.SIGINT)
        assert ages == sorted(ages)
        assert ages[2] >= 300_000_000


def test_an_ordinary_user_is_told_what_can_be_known_and_why_not_more():
    with run("never") as (_running, pid, _other):
        found, parent = asked(f"pid:{pid}", ask=nobody)
        assert found["bytes_each"] is None
        assert "sudo" in found["bytes_unknown"]
        (cause,) = parent["causes"]
        assert cause["cause"] == "unknown"
        assert "trace" in cause["unknown"][0]
        assert cause["were"][0]["ending"] is None
        signals(pid, signal.SIGSTOP)
        until(lambda: stat_of(pid).state == "T", "the stop")
        assert asked(f"pid:{pid}", ask=nobody)[1]["causes"][0]["cause"] == "parent-stopped"
        assert "sudo pidwarden zombies" in nobody(f"pid:{pid}")
    with run("ignored") as (_running, pid, _other):
        until(lambda: asked(f"pid:{pid}", ask=nobody)[1]["causes"][0]["cause"] == "ignored-late", "SIG_IGN")


def test_an_ordinary_user_is_told_all_of_his_own():
    os.chmod(prop("zombie"), 0o755)
    with subprocess.Popen([*DROP, prop("zombie"), "wait-pid"], stdout=subprocess.PIPE, text=True) as own:
        pid, other = map(int, own.stdout.readline().split())
        try:
            (cause,) = asked(f"pid:{pid}", ask=nobody)[1]["causes"]
            assert (cause["cause"], cause["were"][0]["ending"]) == ("waits-for-another", "exit 7")
            assert f"wait4({other})" in cause["evidence"][0]
        finally:
            own.kill()


@pytest.mark.bpf
def test_a_guard_knows_ages_and_what_was_forked_before_exec():
    with guard(RUN_DIR, "--mode", "observe", only=os.getpid()):
        with run("exec") as (_running, pid, _other):
            done = pidwarden_cli("zombies", "--run-dir", RUN_DIR, "--json", f"pid:{pid}")
            assert (done.returncode, done.stderr) == (0, "")
            (parent,) = json.loads(done.stdout)["parents"]
            assert (parent["causes"][0]["cause"], parent["oldest_from"]) == ("execed-after-fork", "exit events")
            assert asked(f"pid:{pid}")[1]["causes"][0]["cause"] == "never-waits"
            assert "known while a guard runs" in ask(f"pid:{pid}")
        done = pidwarden_cli("zombies", "--run-dir", RUN_DIR, "--json", "family:1")
        assert done.returncode == 0, done.stderr
