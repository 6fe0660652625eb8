"""`pidwarden why` by values: who is meant, whose rate counts, what is said first; and that names stay harmless."""

from __future__ import annotations

import argparse
import json

import pytest

from pidwarden.cli import status, why_look, why_more, why_text, why_who
from pidwarden.diagnose import message
from pidwarden.diagnose.limits import Binding, Kind, Seen
from pidwarden.errors import PidwardenError
from pidwarden.guard.headroom import Headroom
from pidwarden.kernel.limits import Limit
from pidwarden.kernel.procfs import Stat
from pidwarden.kernel.tasks import Process, Tasks

HOSTILE = b"\x1b[2J\n) Z 1 (\xff" + b" " * 15


def table(used, allowed, kind=Kind.PID_MAX, **more):
    return Binding(str(kind), used, allowed, allowed - used, kind=kind, **more)


def found(*bindings, line=None, **more):
    said = message.parse(line) if line else None
    return why_text.Found("process 1", sorted(bindings, key=lambda b: b.rank), said,
                          message.meaning(said) if said else None, **more)  # fmt: skip


def first(*bindings, line=None):
    return why_text.lines(found(*bindings, line=line))[0]


# -- the first line ----------------------------------------------------------------------------------------------------


def test_it_says_when_the_nearest_is_full():
    near = table(90, 100, seen=Seen(10.0, 0.5))
    assert (
        first(near) == "no limit is reached; nearest is pid_max: 90 of 100 used, fills in 1 second at the present rate"
    )


def test_it_names_another_that_fills_before_the_nearest():
    near, fast = table(90, 100), table(1000, 9000, Kind.THREADS_MAX, seen=Seen(400.0, 0.5))
    said = (
        "no limit is reached; nearest is pid_max: 90 of 100 used; threads-max fills in 20 seconds at the present rate"
    )
    assert first(near, fast) == said


def test_of_an_error_only_limits_that_answer_so_are_blamed():
    tasks = table(100, 100, Kind.PIDS, binds=True)
    memory = Binding("memory", 0, 1 << 34, 1 << 34, unit="bytes", kind=Kind.MEMORY)
    assert first(tasks, memory, line="EAGAIN") == "EAGAIN from an attempt to fork: pids.max is reached, 100 of 100 used"
    assert "no limit is reached; nearest is memory" in first(tasks, memory, line="ENOMEM")
    assert first(tasks, memory, line="EPERM").endswith("it is forbidden, not full: no limit answers that")


def test_of_an_error_that_nothing_explains_now_the_last_refusal_is_told():
    past = table(10, 100, Kind.PIDS, refused=93, evidence="refused 93 forks (pids.events.local)")
    assert first(past, line="EAGAIN").endswith("10 of 100 used; refused 93 forks (pids.events.local)")


def test_no_name_breaks_a_line_or_the_object():
    hostile = table(99, 100, Kind.PIDS, binds=True, names={HOSTILE: 99}, cgroup="/\x1b[2J\udcff", path="/\x1b/pids.max")
    logged = why_more.Logged("/\x1b[2J\udcff", 3.0, "rejected")
    answer = found(hostile._replace(name="pids.max of \x1b\udcff"), line="EAGAIN", logged=[logged], notes=["\x1b"])
    lines = why_text.lines(answer)
    assert all(line.isprintable() for line in lines)
    assert "  log     3 seconds ago: rejected" in lines
    text = json.dumps(why_text.json_object(answer), ensure_ascii=False)
    assert text.isprintable()
    text.encode()


def test_a_refusal_concerns_the_cgroup_it_names_and_those_above():
    logged = why_more.Logged("/a/b", None, "")
    paths = ("/a", "/a/b", "/a/bc", "/a/b/c", "/")
    concerned = [path for path in paths if logged.concerns(table(1, 2, Kind.PIDS, cgroup=path))]
    assert concerned == ["/a", "/a/b", "/"]
    assert not logged.concerns(table(1, 2, Kind.MEMORY_CGROUP, cgroup="/a"))


# -- who is meant ------------------------------------------------------------------------------------------------------


def test_the_shell_is_found_through_sudo(monkeypatch):
    parents = {60: (b"python", 50), 50: (b"sudo", 40), 40: (b"sudo", 30), 30: (b"bash", 1)}

    def stat(pid):
        name, parent = parents[pid]
        return Stat(pid, name, "S", parent, 0, 0, 0, 0, 1, 1)

    monkeypatch.setattr(why_who.os, "readlink", lambda _path: "60")
    monkeypatch.setattr(why_who.procfs, "stat", stat)
    counted = Tasks({30: Process(1000, b"bash", 1), 50: Process(0, b"sudo", 1)}, 0, hidden=False)
    assert why_who.find(argparse.Namespace(), None, counted).subjects == ((30, 1000, 0),)
    parents[60] = (b"python", 0)  # its parent is outside of the container
    counted.processes[60] = Process(7, b"python", 1)
    assert why_who.find(argparse.Namespace(), None, counted).subjects == ((60, 7, 0),)


def test_a_zombie_forks_no_more():
    counted = Tasks({7: Process(0, HOSTILE, 1, zombie=True, parent=5)}, 0, hidden=False)
    args = argparse.Namespace(selector="7", user=None, cgroup=None)
    with pytest.raises(PidwardenError, match="type `pidwarden why pid:5`"):
        why_who.find(args, why_who.selector(args), counted)


def test_a_name_is_shown_harmless():
    counted = Tasks({7: Process(0, HOSTILE, 1)}, 0, hidden=False)
    args = argparse.Namespace(selector="pid:7", user=None, cgroup=None)
    assert why_who.find(args, why_who.selector(args), counted).label.isprintable()


# -- whose rate --------------------------------------------------------------------------------------------------------


def test_the_guard_has_seen_the_tables_for_longer(monkeypatch):
    monkeypatch.setattr(why_look, "ask", lambda *_words: {"pid": 9, "tasks_per_hour": 360.0})
    monkeypatch.setattr(why_look.procfs, "stat", lambda _pid: Stat(9, b"", "S", 1, 0, 0, 0, 0, 1, 100))
    monkeypatch.setattr(why_look, "boot_ns", lambda: 10**12)
    still, fast = table(1000, 2000, seen=Seen(0.0, 0.5)), table(1000, 2000, seen=Seen(100.0, 0.5))
    other = table(1000, 2000, Kind.PIDS, seen=Seen(0.0, 0.5))
    by_guard, ours, untouched = why_look._by_guard([still, fast, other], "/run/x")
    assert by_guard.seen == (0.1, 999.0, 0, "the guard")
    assert by_guard.fills_in == pytest.approx(10_000)
    assert (ours, untouched) == (fast, other)


def test_a_guard_that_does_not_answer_is_done_without(monkeypatch):
    def refuse(*_words):
        raise PidwardenError("no")

    monkeypatch.setattr(why_look, "ask", refuse)
    assert why_look._by_guard([table(1, 2)], "/run/x") == [table(1, 2)]


# -- status ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("used", "said"), [(90, True), (89, False)])
def test_status_says_where_to_ask_when_room_is_short(used, said):
    room = Headroom([Limit("pid_max", used, 100)], 0.0, 1.0)
    assert bool(status._pointer(room)) == said
    assert status._pointer(Headroom([], 0.0, 1.0)) == []


@pytest.mark.parametrize("kind", [Kind.PIDS, Kind.NPROC])
def test_a_limit_of_nothing_answers_as_any_other_limit_on_tasks(kind):
    assert first(table(1, 0, kind, binds=True)).startswith("fork fails (EAGAIN)")
    assert first(table(0, 0, Kind.DEAD_INIT, binds=True)).startswith("fork fails (ENOMEM)")
