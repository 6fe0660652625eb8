"""Who lost its parent, and whether it leaked: each row of the decision table, with and without its evidence."""

from __future__ import annotations

import pytest
from histories import SECOND
from views import dead, key, living

from pidwarden.diagnose.orphans import How, Lost, Verdict, below, by_history, by_shape, detached, judge, verdict
from pidwarden.model.container import Container
from pidwarden.model.orphan import Login, Std, Traces, Unit, names_of, terminal_name
from pidwarden.model.record import ProcFlag
from pidwarden.rescue.table import Proc

NULL = tuple(Std(fd, "/dev/null", gone=False) for fd in range(3))
PLAIN = Traces(login_uid=1000, stdio=NULL, cwd_deleted=False)
GUESS = Lost(How.GUESSED, "somehow")


def proc(pid, ppid=1, *, pgrp=0, session=0, exe="/usr/bin/x"):
    return Proc(pid, pid * 100, b"x", "S", ppid, pgrp or pid, session or pid, 0, -1, 0, 1, 1000, exe)


def table(*procs):
    return {p.pid: p for p in procs}


INIT = proc(1, 0, session=0)
JOB = proc(50, pgrp=40, session=30)  # whose shell, 30, is gone
DAEMON = proc(60, pgrp=59, session=59)


def judged(task, traces=PLAIN, lost=GUESS, *others):
    found = judge(task, lost, traces, table(INIT, task, *others))
    return found.verdict, {s.name for s in found.signs}


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_a_session_that_the_parent_never_was_in():
    sub = proc(20, 10, session=10)
    found = by_shape(JOB._replace(ppid=20), table(INIT, sub), reaper=False)
    assert (found.how, "session 30, whose leader is gone" in found.words) == (How.SESSION, True)
    assert by_shape(JOB._replace(ppid=20, session=10), table(INIT, sub), reaper=False) is None


def test_a_parent_that_leads_its_session_may_have_left_another_one():
    leads, shell = proc(20, 10, session=20), proc(30, 10)
    assert by_shape(JOB._replace(ppid=20), table(INIT, leads), reaper=False).how is How.GUESSED
    assert by_shape(JOB._replace(ppid=20), table(INIT, leads, shell), reaper=False) is None
    assert by_shape(JOB._replace(ppid=20), table(INIT, leads, shell), reaper=True).how is How.GUESSED


def test_one_that_leads_a_session_shows_nothing_but_that_its_parent_adopts():
    leads = proc(70, 20)
    assert by_shape(leads, table(proc(20, 1)), reaper=False) is None
    assert by_shape(leads, table(proc(20, 1)), reaper=True).how is How.GUESSED


def test_in_the_session_of_one_that_adopts_the_group_says_it():
    parent = proc(20, 1)
    kid = proc(70, 20, session=20, pgrp=66)
    assert by_shape(kid, table(parent), reaper=True).how is How.GUESSED
    assert by_shape(kid, table(parent), reaper=False) is None  # the rest of a pipeline
    assert by_shape(kid, table(parent, proc(66, 20)), reaper=True) is None
    assert by_shape(kid._replace(ppid=999), table(parent), reaper=True) is None


def history(record, *others):
    return by_history(record, {r.key: r for r in (record, *others)}, lambda k: k == key(77))


def test_history_knows_the_parent_its_end_and_when():
    record = living(50, 40, ppid=1)
    decided, lost = history(record, dead(40, code=9, exit_ns=51 * SECOND))
    assert decided
    assert (lost.parent, lost.exit_code, lost.exit_ns, lost.after_ns) == (key(40), 9, 51 * SECOND, SECOND)
    assert lost.killed
    assert lost.words == "its parent, sh (40), is dead: SIGKILL, 1s after it had made this one"
    assert history(record, living(40)) == (True, None)
    assert "no more is known" in history(record)[1].words
    assert history(living(50, 77)) == (True, None)  # no record, but it lives
    assert "its end was not seen" in history(record, dead(40, exit_ns=0))[1].words
    assert history(record._replace(skipped=2), living(40))[1].how is How.HISTORY
    assert history(living(50)) == (False, None)


def test_a_parent_that_was_there_before_the_guard_may_have_adopted():
    record = living(50, 40, flags=ProcFlag.GUESSED.value)
    assert history(record, living(40)) == (False, None)
    lost = history(record, dead(40, exit_ns=51 * SECOND))[1]
    assert "that it had when the guard started" in lost.words
    assert not lost.same_program


def test_a_double_fork_is_by_design():
    record, parent = living(50, 40, exe=(1, 2)), dead(40, exit_ns=50 * SECOND + 1000, exe=(1, 2))
    assert history(record, parent)[1].by_design
    assert not history(record, parent._replace(exe=(1, 3)))[1].by_design
    assert not history(record, parent._replace(exit_ns=52 * SECOND))[1].by_design
    assert not history(record, parent._replace(exit_code=9))[1].by_design


# -- the table ---------------------------------------------------------------------------------------------------------


def test_who_left_its_session():
    assert detached(DAEMON, table(INIT))
    assert detached(proc(70), table(INIT))
    assert not detached(JOB, table(INIT))
    assert not detached(DAEMON, table(INIT, proc(59)))  # it is led by somebody


CLOSED = Login("9", open=False, told="so")
ACTIVE, INACTIVE = Unit("x.service", active=True), Unit("x.service", active=False)
GONE = (Std(1, "pipe:[1]", gone=True),)


@pytest.mark.parametrize(
    ("task", "change", "expected", "sign"),
    [
        (JOB, {}, "unsure", "never-detached"),
        (DAEMON, {}, "intended", "daemon-shape"),
        (JOB, {"login": CLOSED}, "leaked", "login-closed"),
        (JOB, {"login": Login("9", open=True)}, "unsure", "never-detached"),
        (JOB, {"login": Login("9", open=None)}, "unsure", "never-detached"),
        (DAEMON, {"login": CLOSED}, "unsure", "login-closed"),
        (JOB, {"login": CLOSED, "manager": 1000}, "unsure", "never-detached"),
        (JOB, {"unit": ACTIVE}, "intended", "unit"),
        (JOB, {"unit": ACTIVE, "stdio": GONE}, "unsure", "unit"),
        (DAEMON, {"unit": ACTIVE, "login": CLOSED}, "intended", "unit"),
        (DAEMON, {"unit": INACTIVE}, "leaked", "unit-inactive"),
        (DAEMON, {"unit": Unit("x.service", active=None)}, "intended", "unit-name"),
        (JOB, {"manager": 1000, "lingers": True}, "intended", "linger"),
        (JOB, {"manager": 1000, "user_open": True}, "intended", "user-here"),
        (JOB, {"manager": 1000, "user_open": False}, "leaked", "user-gone"),
        (JOB, {"manager": 1000, "user_open": False, "lingers": True}, "intended", "linger"),
        (JOB, {"hup_ignored": True, "login": CLOSED}, "intended", "nohup"),
        (JOB, {"stdio": GONE}, "leaked", "pipe-alone"),
        (DAEMON, {"stdio": GONE}, "leaked", "pipe-alone"),
        (JOB, {"stdio": (Std(1, "pipe:[1]", gone=None),)}, "unsure", "never-detached"),
        (DAEMON, {"stdio": (Std(1, "pipe:[1]", gone=None),)}, "unsure", None),
        (DAEMON, {"stdio": (Std(0, "pipe:[1]", gone=True),)}, "intended", "input-ended"),
        (JOB, {"stdio": (Std(1, "/dev/pts/3 (deleted)", gone=True),)}, "leaked", "terminal-gone"),
        (DAEMON, {"stdio": (Std(1, "/dev/pts/3", gone=False),)}, "unsure", None),
        (DAEMON, {"stdio": None}, "unsure", "own-session"),
        (JOB, {"cwd_deleted": True}, "unsure", "cwd-deleted"),
        (JOB._replace(exe="/x (deleted)"), {}, "unsure", "exe-deleted"),
        (proc(70), {"login": CLOSED}, "unsure", "login-closed"),
        (JOB, {"inner_init": True}, "intended", "container-init"),
        (JOB, {"login_uid": None}, "unsure", "no-login"),
    ],
)
def test_the_table(task, change, expected, sign):
    found, names = judged(task, PLAIN._replace(**change))
    assert found == expected
    assert sign is None or sign in names
    if sign and change and sign != "never-detached":
        assert sign not in judged(task._replace(exe="/usr/bin/x"))[1]


def test_without_a_login_in_a_container_it_says_nothing():
    inside = PLAIN._replace(login_uid=None, container=Container("docker", "a" * 64))
    assert "no-login" not in judged(JOB, inside)[1]


@pytest.mark.parametrize(
    ("task", "lost", "expected", "sign"),
    [
        (JOB, {"exit_code": 9}, "leaked", "parent-killed"),
        (JOB, {"exit_code": 256}, "unsure", "parent-failed"),
        (JOB, {"exit_code": 0}, "unsure", None),
        (DAEMON, {"exit_code": 9}, "unsure", "parent-killed"),
        (DAEMON, {"exit_code": 0, "after_ns": 5, "same_program": True}, "intended", "daemonised"),
        (DAEMON, {"exit_code": 0, "after_ns": 5}, "intended", "daemon-shape"),
    ],
)
def test_what_the_parents_end_says(task, lost, expected, sign):
    found, names = judged(task, PLAIN, Lost(How.HISTORY, "", key(40), **lost))
    assert (found, sign is None or sign in names) == (expected, True)


def test_a_daemon_by_history_outlives_its_login():
    lost = Lost(How.HISTORY, "", key(40), exit_code=0, after_ns=5, same_program=True)
    assert judged(DAEMON, PLAIN._replace(login=CLOSED), lost)[0] == "intended"


def test_nothing_is_no_verdict():
    assert verdict(()) is Verdict.UNSURE


def test_those_below_belong_to_the_nearest():
    root, kid, other, grandkid = proc(10), proc(11, 10), proc(12, 11), proc(13, 12)
    assert below([root], [root, kid, other, grandkid]) == {10: [kid, other, grandkid]}
    assert below([root, other], [root, kid, other, grandkid]) == {10: [kid], 12: [grandkid]}
    circle = [proc(20, 21), proc(21, 20)]
    assert below(circle[:1], circle) == {20: [circle[1]]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/system.slice/x.service", ("x.service", None, "")),
        ("/system.slice/x.service/session-4.scope", ("x.service", None, "")),
        ("/user.slice/user-7.slice/session-c2.scope", ("session-c2.scope", None, "c2")),
        ("/user.slice/user-7.slice/user@7.service/app.slice/y.service", ("y.service", 7, "")),
        ("/user.slice/user-7.slice/user@7.service", ("user@7.service", 7, "")),
        ("/docker/abc", ("", None, "")),
        ("/", ("", None, "")),
    ],
)
def test_what_a_cgroups_path_says(path, expected):
    assert names_of(["/", path]) == expected


@pytest.mark.parametrize(("number", "name"), [(0, ""), (0x8803, "pts/3"), (0x108800, "pts/256"), (0x401, "tty1"),
                                              (0x440, "ttyS0")])  # fmt: skip
def test_terminals(number, name):
    assert terminal_name(number) == name
