"""The contract that every source keeps: who belongs to whom, whatever is done to hide it, and what is counted.

What a source cannot tell is tested as well: the tests say where they differ.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from kit import Child, child, prop, stat_of, until
from sourcekit import SOURCES, opened, record_of

from pidwarden.model.record import ProcFlag, Rule

pytestmark = [pytest.mark.root, pytest.mark.parametrize("name", SOURCES)]

DISGUISED = """
import os, sys
sys.stdin.readline()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/proc/self/comm", "w").write("kworker/0:0")
        os.setresuid(61234, 61234, 61234)
        sys.stdout.write(f"{os.getpid()} 0\\n")
        sys.stdout.flush()
        os.execv("/bin/sleep", ["sleep", "1000"])
    os._exit(0)
os.wait()
sys.stdin.readline()
"""


def test_a_child_of_a_spawner_founds_a_family_and_its_key_is_that_of_proc(name):
    with opened(name) as source, child("odd", "wait") as odd:
        pid, _ = odd.said()
        record = record_of(source, pid)
        assert record.parent.tgid == os.getpid()
        assert record.key.start_ticks == stat_of(pid).start_ticks
        assert (record.slots, record.live, record.comm) == (1, 1, b"odd")
        family = source.group(record.family)
        assert family.founder == record.key
        assert source.record(record.key).key == record.key


def test_an_orphan_keeps_its_family_and_its_dead_creator_is_remembered(name):
    with opened(name) as source, child("odd", "orphan", group=True) as odd:
        pid, middle = odd.said()
        record = record_of(source, pid)
        assert record.family == record_of(source, odd.pid).family
        if name == "poll":  # it was not seen; a process group's leader is a likely creator
            assert record.flags & ProcFlag.GUESSED
            return
        assert record.parent.tgid == middle
        gone = source.record(record.parent)
        assert not gone.alive
        assert gone.exit_code == 7 << 8
        assert gone.parent.tgid == odd.pid


def test_a_family_is_not_left_by_session_name_user_program_or_the_death_of_the_parent(name):
    with opened(name) as source:
        odd = Child(sys.executable, "-c", DISGUISED, group=True)
        try:
            founder = record_of(source, odd.pid)
            odd.tell()
            pid, _ = odd.said()
            until(lambda: stat_of(pid).comm == b"sleep", "the disguised one to become another program")
            record = record_of(source, pid)
            if name == "poll":
                # A new session whose leader ended before anybody looked: nothing ties it to where it came from.
                assert record.family != founder.family
            else:
                assert record.family == founder.family
                assert record.execs == 1
            assert until(lambda: record_of(source, pid).comm == b"sleep", "its name")
            assert until(lambda: record_of(source, pid).uid == 61234, "its user")
            os.kill(pid, 9)
        finally:
            odd.end()


def test_exec_from_a_thread_keeps_the_key(name):
    with opened(name) as source, child("odd", "exec-thread") as odd:
        pid, _ = odd.said()  # printed by the new program
        record = record_of(source, pid)
        assert record.key.start_ticks == stat_of(pid).start_ticks
        until(lambda: (r := record_of(source, pid)).slots == r.live == 1, "one slot")


def test_a_leader_that_ends_before_its_thread_is_alive(name):
    with opened(name) as source, child("odd", "leader-first") as odd:
        pid, _ = odd.said()
        until(lambda: stat_of(pid).state == "Z", "the leader to be dead")
        record = record_of(source, pid)
        assert record.alive
        until(lambda: (r := record_of(source, pid)).slots == 2 and r.live == 1, "two slots, one alive")


def test_threads_count_as_slots(name):
    with opened(name) as source, child("odd", "threads", "40") as odd:
        pid, _ = odd.said()
        until(lambda: (record_of(source, pid).slots, record_of(source, pid).live) == (41, 41), "41 slots")
        record = record_of(source, pid)
        assert source.group(record.family).slots == 41


def test_zombies_keep_their_slots_until_they_are_reaped(name):
    with opened(name) as source:
        with child("odd", "zombie", "25") as odd:
            odd.said()
            parent = record_of(source, odd.pid)
            until(lambda: source.settle() or _zombies(source, parent) == 25, "25 zombies")
            assert source.group(parent.family).slots == 26
        until(lambda: source.settle() or source.group(parent.family) is None, "the family to go")


def _zombies(source, parent):
    if source.name == "poll":
        source.seed()
    return sum(r.parent == parent.key and r.zombie for r in source.records())


def test_an_alarm_is_raised_once_and_the_group_is_marked(name):
    with opened(name, hold_at=20, family_hold_at=1000) as source, child("odd", "threads", "40") as odd:
        pid, _ = odd.said()
        record = record_of(source, pid)
        alarms = []
        until(lambda: alarms.extend(s for s in source.signals() if s.group == record.branch) or alarms, "an alarm")
        assert [(s.by, s.rule, s.family) for s in alarms] == [(record.key, Rule.BRANCH_SLOTS, record.family)]
        assert source.group(record.branch).held
        assert source.release(record.branch, limit=100)
        assert not source.group(record.branch).held
        assert source.group(record.branch).limit == 100
        assert not [s for s in source.signals() if s.group == record.branch]


def test_a_subtree_is_split_off_and_tells_when_it_is_empty(name):
    with opened(name) as source, child("odd", "wait") as odd:
        pid, _ = odd.said()
        record = record_of(source, pid)
        new = source.split(record.family, record.key)
        assert source.move(record.key, new)
        assert source.group(new).slots == 1
        assert source.group(new).held
        assert source.group(record.family) is None
        odd.end()
        told = []
        until(lambda: source.settle() or told.extend(s for s in source.signals() if s.group == new) or told, "a signal")
        assert told[0].empty
        source.forget(new)
        assert source.group(new) is None


def test_a_child_that_is_its_creators_sibling_gets_away_where_only_parents_are_told(name):
    """CLONE_PARENT, from a copy that did not exec since: nothing but the kernel itself tells who the creator was."""
    with opened(name) as source, child("odd", "clone-parent") as odd:
        pid, ppid = odd.said()
        assert ppid == os.getpid()
        record = record_of(source, pid)
        if name == "poll":
            assert record.family != record_of(source, odd.pid).family
        else:  # the connector: it runs another program than its parent, and no exec was announced
            until(lambda: record_of(source, pid).family == record_of(source, odd.pid).family, "the family")
            assert record_of(source, pid).parent.tgid == odd.pid
        odd.tell()
        os.waitpid(pid, 0)


def test_who_started_nothing_costs_nothing(name):
    """Ten programs started and reaped leave no slot behind."""
    with opened(name) as source:
        before = subprocess.Popen([prop("odd"), "wait"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        family = record_of(source, before.pid).family
        before.communicate()
        for _ in range(10):
            subprocess.run(["true"], check=True)
        until(lambda: source.settle() or source.group(family) is None, "its family to go")
        assert not [r for r in source.lineage() if r.parent.tgid == os.getpid() and r.slots]
