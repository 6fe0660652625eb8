"""`pidwarden orphans` on real orphans: the verdict is right, and without the evidence it is another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from cli_kit import NOBODY, nobody_cli
from kit import child
from orphankit import copy_of, group, orphan, take_away, written

from pidwarden.kernel import cgroup, procfs
from pidwarden.kernel.orphans import login_uid

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_copy_left")]
USER = 64123  # nobody's
UNIT = f"pidwarden-test-{os.getpid()}.service"
SESSION = f"9{os.getpid()}"
BARE = {"never-detached", *(["no-login"] if login_uid(os.getpid()) is None else [])}  # what speaks of any job


def test_the_job_of_a_shell_that_is_gone(asked):
    with orphan() as (_running, pid, parent):
        found = asked.of(pid)
        assert found["verdict"] == "unsure"
        assert {s["name"] for s in found["signs"]} == BARE
        assert found["lost"]["how"] in ("session", "guessed")
        assert f"session {found['session']}, whose leader is gone" in found["lost"]["words"]
        assert found["pgrp"] == parent
        assert any("only a guard" in why for why in found["unknown"])


def test_a_daemon_that_forked_twice(asked):
    with orphan("daemon") as (_running, pid, _parent):
        verdict, signs = asked.verdict(pid)
        assert verdict == "intended"
        assert "daemon-shape" in signs
        rows = json.loads(asked.run("--json"))
        assert pid not in {o["pid"] for o in rows["orphans"]}
        assert rows["intended_not_shown"] >= 1
        assert pid in {o["pid"] for o in json.loads(asked.run("--json", "--all"))["orphans"]}


def test_a_daemon_with_a_session_of_its_own(asked):
    with orphan("own", "inside") as (_running, pid, _parent):
        found = asked.of(pid)
        assert found["verdict"] == "intended"
        assert found["session"] == pid
        assert found["lost"]["how"] == "guessed"


def test_one_who_still_has_its_parent(asked):
    with child("orphan", "leader", "kids=1") as running:
        _pid, _parent = running.said()
        line = asked.refused(f"pid:{running.pid}")
        assert f"orphan ({running.pid}) is no orphan, as far as can be told without a guard" in line
        assert f"({os.getpid()}) lives" in line
    assert "no such process" in asked.refused(f"pid:{running.pid}")


@pytest.mark.parametrize(("end", "sign"), [("pipe", "pipe-alone"), ("terminal", "terminal-gone")])
def test_output_that_leads_nowhere_any_more(asked, end, sign):
    with orphan(end) as (running, pid, _parent):
        verdict, signs = asked.verdict(pid)
        assert (verdict, sign in signs) == ("unsure", False)
        take_away(running)
        verdict, signs = asked.verdict(pid)
        assert (verdict, sign in signs) == ("leaked", True)
        assert any(s["gone"] for s in asked.of(pid)["stdio"])


def test_an_input_at_its_end_is_no_leak(asked):
    with orphan("input") as (running, pid, _parent):
        assert "input-ended" not in asked.verdict(pid)[1]
        take_away(running)
        verdict, signs = asked.verdict(pid)
        assert (verdict, "input-ended" in signs) == ("unsure", True)


def test_a_daemon_with_a_dead_pipe_has_the_shape_of_none(asked):
    with orphan("daemon", "pipe") as (running, pid, _parent):
        assert asked.verdict(pid)[0] == "intended"
        take_away(running)
        assert asked.verdict(pid)[0] == "leaked"


def test_nohup(asked):
    with orphan("nohup", "pipe") as (running, pid, _parent):
        take_away(running)
        verdict, signs = asked.verdict(pid)
        assert verdict == "intended"
        assert {"nohup", "pipe-alone"} <= signs


def test_a_login_session_is_open_while_somebody_is_in_it(asked):
    with orphan("leader", f"login={USER}") as (running, pid, _parent):
        found = asked.of(pid)
        assert (found["verdict"], found["login_uid"], found["login"]["open"]) == ("unsure", USER, True)
        assert found["group"].endswith(f"(open), user {USER}")
        take_away(running)
        found = asked.of(pid)
        assert (found["verdict"], found["login"]["open"]) == ("leaked", False)
        assert "no-login" not in {s["name"] for s in found["signs"]}


@pytest.mark.parametrize(("words", "verdict"), [((), "leaked"), (("daemon",), "unsure"), (("nohup",), "intended")])
def test_what_is_left_of_a_login(asked, words, verdict):
    with orphan(f"login={USER}", *words) as (_running, pid, _parent):
        assert asked.verdict(pid)[0] == verdict
        assert "login-closed" in asked.verdict(pid)[1]


def test_a_service_that_is_active_or_not(asked):
    with (
        group(UNIT) as folder, orphan() as (_running, pid, _parent),
        written("/run/systemd/units", f"invocation:{UNIT}", "0" * 32) as link,
    ):  # fmt: skip
        assert asked.verdict(pid)[0] == "unsure"
        assert cgroup.move(pid, folder)
        found = asked.of(pid)
        assert (found["verdict"], found["unit"]["name"], found["unit"]["active"]) == ("intended", UNIT, True)
        link.unlink()
        verdict, signs = asked.verdict(pid)
        assert (verdict, "unit-inactive" in signs) == ("leaked", True)


def test_a_session_scope(asked):
    with (
        group(f"session-{SESSION}.scope") as folder, orphan() as (_running, pid, _parent),
        written("/run/systemd/sessions", SESSION, "STATE=active\nLEADER=1\n") as file,
    ):  # fmt: skip
        assert cgroup.move(pid, folder)
        found = asked.of(pid)
        assert (found["verdict"], found["login"]) == ("unsure", {"session": SESSION, "open": True})
        assert found["group"].startswith(f"login session {SESSION} (open)")
        file.write_text("STATE=closing\n")
        assert asked.verdict(pid)[0] == "leaked"
        file.unlink()
        assert asked.verdict(pid)[0] == "leaked"


def test_a_users_manager(asked):
    with (
        group(f"user@{USER}.service", "app.slice", "job.scope") as folder, orphan() as (_running, pid, _parent),
        written("/run/systemd/users", str(USER), "STATE=active\n") as file,
    ):  # fmt: skip
        assert cgroup.move(pid, folder)
        assert asked.verdict(pid) == ("intended", {"user-here", *BARE})
        file.unlink()
        assert asked.verdict(pid) == ("leaked", {"user-gone", *BARE})
        with written("/var/lib/systemd/linger", str(USER), ""):
            assert asked.verdict(pid) == ("intended", {"linger", *BARE})


def test_a_name_below_a_service_is_no_unit(asked):
    with (
        group(UNIT, "session-1.scope") as folder, orphan() as (_running, pid, _parent),
        written("/run/systemd/units", "pidwarden-test-other", ""),
    ):  # fmt: skip
        assert cgroup.move(pid, folder)
        found = asked.of(pid)
        assert (found["unit"]["name"], found["login"]) == (UNIT, None)


def test_a_program_and_a_folder_that_were_deleted(asked, tmp_path):
    with orphan() as (_running, pid, _parent):
        assert not {"exe-deleted", "cwd-deleted"} & asked.verdict(pid)[1]
    program = copy_of("orphan", tmp_path)
    with orphan("folder", program=program) as (_running, pid, _parent):
        assert "exe-deleted" not in asked.verdict(pid)[1]
        os.unlink(program)
        verdict, signs = asked.verdict(pid)
        assert {"exe-deleted", "cwd-deleted"} <= signs
        assert verdict == "unsure"  # upgrades do that as well


def test_a_subreaper_that_nothing_in_proc_tells_of(asked):
    with orphan("subreaper") as (running, pid, _parent):
        found = asked.of(pid)
        assert found["ppid"] == running.pid
        assert found["lost"]["how"] == "session"
        assert f"its parent now, orphan ({running.pid}), is not" in found["lost"]["words"]


def test_inside_a_container(asked):
    with orphan("inside") as (_running, pid, _parent):
        found = asked.of(pid)
        assert found["lost"]["how"] == "guessed"
        assert found["ppid"] == found["session"]  # the first process of the namespace
        assert "its process group lost its leader" in found["lost"]["words"]


def test_those_below_it_and_the_text(asked):
    with orphan("pipe", "kids=3") as (running, pid, _parent):
        take_away(running)
        assert len(asked.of(pid)["below"]) == 3
        text = asked.run(f"pid:{pid}")
        assert text.startswith("1 orphan: 1 leaked\n")
        assert f"  leaked    orphan ({pid}), user root, " in text
        assert "\n      leak      its output leads to a pipe that nobody reads any more\n" in text
        assert "\n      below it  3: orphan (" in text
        assert "--kill --dry-run" in text


def test_a_hostile_name_breaks_nothing(asked):
    with orphan("name") as (_running, pid, _parent):
        shown = ") Z 1 (\\n\\x1b[31m\\xff"
        assert asked.of(pid)["comm"] == shown
        for arguments in ((f"pid:{pid}",), ("--all",), (f"pid:{pid}", "--kill", "--dry-run")):
            text = asked.run(*arguments)
            assert f"{shown} ({pid})" in text
            assert all(line.isprintable() for line in text.splitlines())
        line = json.loads(asked.run(f"pid:{pid}", "--json"))
        assert line["count"] == 1


def test_selectors(asked):
    with orphan(f"user={USER}") as (_running, pid, _parent), orphan() as (_other, other, _its):
        pids = {o["pid"]: o for o in json.loads(asked.run(f"user:{USER}", "--json"))["orphans"]}
        assert pids.keys() == {pid}
        assert pids[pid]["uid"] == USER
        both = json.loads(asked.run(f"pid:{pid}", f"pid:{other}", "--json"))["orphans"]
        assert {o["pid"] for o in both} == {pid, other}
        start = pids[pid]["start_ns"]
        assert str(pid) in asked.run(f"pid:{pid}@{start}")
        assert "no such process" in asked.refused(f"pid:{pid}@{start + 10_000_000}")
    assert "families are known only while a guard runs" in asked.refused("family:1")
    asked.refused("nonsense", code=2)


def test_who_is_spared_is_not_listed(asked):
    assert "is spared: this program" in asked.refused(f"pid:{os.getpid()}")


def test_an_ordinary_user_is_told_what_is_not_known():
    with orphan("daemon") as (_running, pid, _parent):
        done = nobody_cli("orphans", f"pid:{pid}", "--json", "--no-guard")
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["orphans"]
        assert (found["stdio"], found["verdict"]) == (None, "unsure")
        assert any("where its input and output lead" in why and "root" in why for why in found["unknown"])


def test_an_ordinary_user_sees_what_is_his():
    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    with orphan("pipe", enter=drop) as (running, pid, _parent):
        take_away(running)
        done = nobody_cli("orphans", f"pid:{pid}", "--json", "--no-guard")
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["orphans"]
        assert found["user"] == "nobody"
        assert [s["link"][:6] for s in found["stdio"]] == ["/dev/n", "pipe:[", "/dev/n"]
        restricted = procfs.read_int("/proc/sys/kernel/yama/ptrace_scope")  # to children, where it is not 0
        assert found["verdict"] == ("unsure" if restricted else "leaked")


def test_watch_looks_again_until_it_is_interrupted():
    argv = [sys.executable, "-m", "pidwarden", "orphans", "--json", "--no-guard", "--watch", "0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        counts = [json.loads(process.stdout.readline())["count"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=20)[1]
    assert len(counts) == 3
    assert process.returncode == 130
    assert len(error.splitlines()) == 1  # that there is no guard is said once
