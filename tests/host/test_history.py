"""The kernel side keeps the truth: one record per process, by real processes doing unusual things."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest
from kit import child, flags_of, our_signals, prop, record_of, stat_of, tracking, until

from pidwarden.kernel.bpf import Programs
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import GroupKind, ProcFlag
from pidwarden.model.tree import Tree

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def found(programs, pid):
    return until(lambda: record_of(programs, pid), f"a record of {pid}")


def settled(programs, *families):
    """The records once the books are right: whoever is reaped but not freed, or whose release was missed, is off."""
    programs.settle()
    programs.seed()
    return programs.records(*families)


def test_a_child_of_a_spawner_founds_a_family_and_its_key_is_that_of_proc():
    with tracking() as programs, child("odd", "wait") as odd:
        pid, _ = odd.said()
        record = found(programs, pid)
        assert record.parent.tgid == os.getpid()
        assert record.key.start_ticks == stat_of(pid).start_ticks
        assert (record.slots, record.live, record.execs, record.comm) == (1, 1, 1, b"odd")
        family = programs.group(record.family)
        assert family.founder == record.key
        assert family.kind == GroupKind.FAMILY
        assert programs.group(record.branch).kind == GroupKind.BRANCH


def test_the_record_goes_when_the_process_is_released():
    with tracking() as programs:
        with child("odd", "wait") as odd:
            pid, _ = odd.said()
            record = found(programs, pid)
        until(lambda: not settled(programs, record.family), "the record to go")
        until(lambda: programs.group(record.family) is None, "the family to go")


def test_exec_from_a_thread_keeps_the_key():
    with tracking() as programs, child("odd", "exec-thread") as odd:
        pid, _ = odd.said()  # printed by the new program
        assert pid == odd.pid
        record = found(programs, pid)
        assert record.key.start_ticks == stat_of(pid).start_ticks
        assert record.execs == 2
        until(lambda: programs.settle() or found(programs, pid).slots == 1, "the old leader's slot to go")
        assert found(programs, pid).live == 1


def test_leader_exits_before_its_thread():
    with tracking() as programs, child("odd", "leader-first") as odd:
        pid, _ = odd.said()
        until(lambda: stat_of(pid).state == "Z", "the leader to be dead")
        record = found(programs, pid)
        assert record.alive
        assert not record.zombie
        assert (record.slots, record.live, record.exit_ns) == (2, 1, 0)
        odd.tell()
        until(lambda: not (r := record_of(programs, pid)) or r.exit_ns, "the process to end")


def test_vfork():
    with tracking() as programs, child("odd", "vfork") as odd:
        pid, _ = odd.said()
        record, creator = found(programs, pid), found(programs, odd.pid)
        assert record.parent == creator.key
        assert record.family == creator.family


def test_clone_parent_does_not_hide_the_creator():
    with tracking() as programs, child("odd", "clone-parent") as odd:
        pid, ppid = odd.said()
        assert ppid == os.getpid()  # the kernel says we are its parent
        record = found(programs, pid)
        assert record.parent.tgid == odd.pid
        assert record.family == found(programs, odd.pid).family
        odd.tell()
        os.waitpid(pid, 0)  # as its parent we owe it


def test_an_orphan_keeps_its_creator_and_its_family():
    with tracking() as programs, child("odd", "orphan") as odd:
        pid, middle = odd.said()
        record = found(programs, pid)
        assert record.parent.tgid == middle
        gone = programs.record(record.parent)
        assert gone is not None  # kept, as somebody descends from it
        assert not gone.alive
        assert gone.exit_code == 7 << 8
        assert gone.parent.tgid == odd.pid
        assert record.family == found(programs, odd.pid).family


def test_a_deep_chain_of_the_dead_leads_to_the_founder():
    with tracking(branch_age_ns=3600 * 10**9) as programs, child("odd", "deep", "500") as odd:
        pid, _ = odd.said()
        leaf = found(programs, pid)
        assert leaf.generation == 500
        key, steps = leaf.key, 0
        records = {r.key: r for r in programs.records()}
        while key.tgid != odd.pid:
            key, steps = records[key].parent, steps + 1
        assert steps == 500
        odd.tell()
        odd.process.wait()
        until(lambda: not settled(programs, leaf.family), "all 501 records to go")


def test_threads_count_as_slots():
    with tracking() as programs, child("odd", "threads", "40") as odd:
        pid, _ = odd.said()
        record = found(programs, pid)
        assert (record.slots, record.live) == (41, 41)
        assert programs.group(record.family).slots == 41


def test_zombies_keep_their_slots_until_they_are_reaped():
    with tracking() as programs, child("odd", "zombie", "25") as odd:
        odd.said()
        parent = found(programs, odd.pid)
        programs.settle()
        zombies = [r for r in programs.records() if r.parent == parent.key and r.zombie]
        assert len(zombies) == 25
        assert {r.exit_code for r in zombies} == {3 << 8}
        assert programs.group(parent.family).slots == 26
        assert parent.forks == 25


def test_reaped_tasks_are_not_slots_even_before_their_memory_is_freed():
    with tracking() as programs:
        subprocess.run([prop("forkloop"), "3000"], check=True, stdout=subprocess.DEVNULL)
        programs.settle()
        ours = [g for g in programs.groups().values() if g.spawner.tgid == os.getpid()]
        assert sum(g.slots for g in ours) == 0
        assert not our_signals(programs)  # 3,000 forks one after another are no alarm at a limit of 300


def test_a_pid_used_again_is_another_process():
    free = os.fork()
    if free == 0:
        os._exit(0)
    os.waitpid(free, 0)
    with tracking() as programs, child("odd", "set-tid", str(free)) as odd:
        pid, error = odd.said()
        assert (pid, error) == (free, 0)
        record = found(programs, pid)
        assert record.alive
        assert record.exit_ns == 0
        parent = found(programs, odd.pid)
        assert parent.forks == 2
        impostor = ProcessKey(pid, record.key.start_ns - 10_000_000)
        assert programs.record(impostor) is None


def test_a_hostile_name_arrives_as_bytes():
    with tracking() as programs, child("odd", "names") as odd:
        pid, _ = odd.said()
        assert record_of(programs, pid) is not None
        assert stat_of(pid).comm == b") R 1 (\n\x1b[31m\xff"
        assert stat_of(pid).ppid == odd.pid


def test_seeding_finds_every_task_once_with_its_family():
    with child("odd", "threads", "30") as threads, child("odd", "zombie", "20") as zombies:
        threads.said()
        zombies.said()
        with tracking() as programs:
            many, parent = found(programs, threads.pid), found(programs, zombies.pid)
            assert (many.slots, many.live) == (31, 31)
            assert ProcFlag.GUESSED in flags_of(many)
            assert programs.group(parent.family).slots == 21
            assert sum(r.zombie for r in programs.records() if r.parent == parent.key) == 20
            assert many.family != parent.family  # both were forked by us, a spawner
            tree = Tree(programs.records())
            assert all(r.key.tgid == 1 or r.flags & ProcFlag.KTHREAD for r in tree.roots if r.family)


def test_seeding_under_churn_loses_and_doubles_nobody():
    """Forks and exits all the time while the hooks are attached and the walk is on: afterwards the books are even."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            subprocess.run([prop("forkloop"), "200"], check=True, stdout=subprocess.DEVNULL)

    workers = [threading.Thread(target=churn) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(10):
            with tracking() as programs:
                # Ours are the only families that come and go here; all that is counted must be there.
                pass
        with tracking() as programs:
            stop.set()
            for worker in workers:
                worker.join()
            me = record_of(programs, os.getpid())

            def even():
                records = settled(programs)
                return not any(r.parent == me.key and r.slots for r in records)

            until(even, "every child of ours to be off the books")
            assert record_of(programs, os.getpid()).slots == len(os.listdir("/proc/self/task"))
            counters = programs.counters()
            assert counters.lost_tasks == counters.lost_procs == counters.lost_groups == 0
    finally:
        stop.set()


def test_a_full_map_is_counted_not_hidden():
    programs = Programs.load(max_records=128)
    try:
        programs.attach_history()
        programs.seed()
        with child("odd", "zombie", "300") as odd:
            odd.said()
            counters = programs.counters()
            assert counters.lost_procs + counters.lost_tasks > 100
    finally:
        programs.close()
