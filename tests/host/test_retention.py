"""How long the dead are remembered, by real processes: the window, contraction, folding, and what comes back."""

from __future__ import annotations

import os
import subprocess

import pytest
from guardkit import guard
from kit import child, prop, record_of, tracking, until

from pidwarden.guard.control import ask
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.record import ProcFlag
from pidwarden.model.tree import Tree

pytestmark = [pytest.mark.root, pytest.mark.bpf]

LATER = 1 << 62  # ns since boot: everybody exited before that


def small():
    """Records for everybody who is there, and some 900 more."""
    return 1024 + sum(name.isdecimal() for name in os.listdir("/proc"))


def family_of(programs, pid):
    return until(lambda: record_of(programs, pid), f"a record of {pid}").family


def dead_of(programs, family):
    """The dead of a family; releases that this machine did not tell of are looked up first."""
    programs.settle()
    programs.seed()
    return [r for r in programs.records(family) if not r.slots]


def found_room(programs):
    programs.settle()
    programs.sweep(LATER)
    programs.seed()
    return programs.counters().hidden == 0


def empty(programs, family):
    programs.settle()
    programs.seed()
    return programs.group(family) is None


def run_loop(forks):
    """A family of one process and as many children, one after the other, all dead and reaped by now."""
    process = subprocess.Popen([prop("forkloop"), str(forks)], stdout=subprocess.PIPE)
    process.communicate()
    return process.pid


def loop_family(programs, pid):
    return max((r for r in programs.records() if r.key.tgid == pid), key=lambda r: r.key.start_ns).family


def test_a_dead_leaf_stays_until_it_is_older_than_the_cutoff():
    with tracking(history=True) as programs:
        born = boot_ns()
        family = loop_family(programs, run_loop(1))
        until(lambda: len(dead_of(programs, family)) == 2, "both to be dead and remembered")
        programs.sweep(born)
        assert len(programs.records(family)) == 2
        aged = programs.counters().aged
        programs.sweep(LATER)
        assert programs.records(family) == []
        assert programs.counters().aged >= aged + 2


def test_without_history_a_dead_leaf_goes_at_once():
    with tracking(history=False) as programs:
        run_loop(3)
        until(lambda: not [r for r in programs.records() if r.comm == b"forkloop" and not r.slots], "the dead to go")


def test_an_exit_code_and_the_times_outlive_the_process():
    with tracking(history=True) as programs:
        process = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
        process.wait()
        dead = until(
            lambda: [r for r in programs.records() if r.key.tgid == process.pid and r.exit_ns], "the dead shell"
        )
        assert os.waitstatus_to_exitcode(dead[0].exit_code) == 7
        assert dead[0].key.start_ns <= dead[0].exec_ns <= dead[0].exit_ns <= boot_ns()
        assert (dead[0].state, dead[0].ppid) == ("", 0)


def test_ancestors_of_the_living_stay_whatever_their_age():
    with tracking(history=True) as programs, child("odd", "orphan") as odd:
        pid, middle = odd.said()
        orphan = until(lambda: record_of(programs, pid), "the orphan")
        until(lambda: [r for r in dead_of(programs, orphan.family) if r.key.tgid == middle], "the middle to be dead")
        # Its creator lives and founded the family, so the middle may be left out; both ends stay, and the way up.
        programs.sweep(LATER)
        orphan = record_of(programs, pid)
        assert orphan.skipped == 1
        assert orphan.parent.tgid == odd.pid
        assert orphan.ppid not in (middle, odd.pid)


def test_a_long_chain_is_contracted_and_the_last_still_finds_its_founder():
    with tracking(history=True) as programs, child("odd", "deep", "60") as odd:
        pid, _ = odd.said()
        last = until(lambda: record_of(programs, pid), "the last of the chain")
        founder = programs.group(last.family).founder
        until(lambda: len(dead_of(programs, last.family)) == 59, "the others to be dead")  # the first is our zombie
        programs.sweep(LATER)
        records = programs.records(last.family)
        assert {r.key.tgid for r in records} == {founder.tgid, pid}
        assert record_of(programs, pid).parent == founder
        assert record_of(programs, pid).skipped == 59
        assert programs.group(last.family).founder == founder


def test_a_branch_point_in_a_chain_is_not_left_out():
    with tracking(history=True) as programs, child("odd", "tree", "3", group=True) as odd:
        pid, count = odd.said()
        family = family_of(programs, pid)
        programs.sweep(LATER)
        assert len(programs.records(family)) == count + 1


def test_whoever_has_many_dead_is_folded_and_whoever_has_few_keeps_them():
    records = small()
    with tracking(history=True, records=records) as programs:
        honest = loop_family(programs, run_loop(5))
        before = programs.records(honest)
        with child("odd", "wait") as odd:
            pid, _ = odd.said()
            greedy = run_loop(4 * records)
            counters = programs.counters()
            assert counters.lost_procs == 0
            assert counters.records < records
            assert counters.folded > records
            assert record_of(programs, pid)  # somebody new found room
            assert {r.key for r in programs.records(honest)} >= {r.key for r in before}
            root = next(r for r in programs.records() if r.key.tgid == greedy)
            assert root.forks == 4 * records
            # The last of the dead are still being released by the kernel, and a dump is not one instant.
            until(lambda: _accounted(programs, greedy) == 4 * records, "each of them to be kept or folded, not both")


def _accounted(programs, root):
    """The children of a process that are remembered by a record, or as a number."""
    known = programs.records()
    found = next(r for r in known if r.key.tgid == root)
    return found.folded + sum(r.parent == found.key for r in known)


def test_the_living_of_a_full_history_are_counted_and_get_their_records_back():
    with tracking(history=True, records=small(), hold_at=5000, family_hold_at=5000) as programs:
        with child("odd", "tree", "9", group=True) as odd:
            pid, count = odd.said()
            family = family_of(programs, pid)
            counters = programs.counters()
            assert counters.folded_alive > 0
            assert counters.lost_procs == 0
            assert counters.hidden == counters.folded_alive
            assert programs.group(family).slots == count + 1  # exact, although not everybody has a record
            assert sum(r.slots for r in programs.records(family)) == count + 1
        until(lambda: empty(programs, family) and not programs.counters().hidden, "the family to go")


def test_a_folded_process_gets_a_record_once_there_is_room():
    with (
        tracking(history=True, records=small(), hold_at=5000, family_hold_at=5000) as programs,
        child("odd", "zombie", "700", group=True) as filler,  # so that the others find no room
    ):
        filler.said()
        with child("odd", "tree", "8", group=True) as odd:
            pid, count = odd.said()
            family = family_of(programs, pid)
            assert programs.counters().hidden > 0
            filler.tell()
            filler.process.wait()
            until(lambda: found_room(programs), "the filler's dead to be swept and everybody to have a record")
            records = programs.records(family)
            assert len(records) == count + 1
            assert sum(r.slots for r in records) == count + 1 == programs.group(family).slots
            assert [r for r in records if r.flags & ProcFlag.GUESSED]
            assert len(list(Tree(records).subtree(programs.group(family).founder))) == count + 1


def test_who_is_held_gets_records_out_of_the_reserve_and_is_counted_with_who_forked_it():
    """The whole tree was there before the kernel side: of most of it only the numbers are in somebody's record."""
    with child("odd", "tree", "10", group=True) as odd:
        pid, count = odd.said()
        with tracking(history=True, records=1024, hold_at=5000, family_hold_at=5000) as programs:
            family = family_of(programs, pid)
            before = {r.key for r in programs.records(family)}
            assert programs.counters().hidden > 0
            assert programs.hold(family)
            programs.seed()
            records = programs.records(family)
            fresh = [r for r in records if r.key not in before]
            assert fresh
            assert all(r.parent.tgid == r.ppid for r in fresh)
            assert sum(r.forks for r in records) == count == programs.group(family).slots - 1


def test_a_guard_forgets_after_the_window_and_says_how_much_it_remembers(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("history_window = 0.5\n")
    with guard("--config", str(config)) as running:
        run_loop(20)

        def aged():
            history = ask(running.run_dir, "status")["history"]
            return history if history["aged"] >= 20 else None

        history = until(aged, "the dead to age out")
        assert history["window_seconds"] == 0.5
        assert 0 < history["records"] < history["max_records"]
        assert history["ceiling_bytes"] > history["max_records"] * 200


def test_threads_that_make_threads_are_told_from_a_pool():
    with tracking(history=True) as programs, child("odd", "threads", "20") as odd:
        pid, _ = odd.said()
        record = until(lambda: record_of(programs, pid), "its record")
        assert (record.slots, record.thread_depth, record.thread_forks) == (21, 1, 0)
    with tracking(history=True) as programs, child("odd", "thread-chain", "20") as odd:
        pid, _ = odd.said()
        record = until(lambda: record_of(programs, pid), "its record")
        assert (record.slots, record.thread_depth, record.thread_forks) == (21, 20, 19)


def test_state_and_parent_are_those_of_now():
    with tracking(history=True) as programs:
        with child("odd", "zombie", "1") as odd:
            pid, _ = odd.said()
            family = family_of(programs, pid)

            def states():
                return {r.key.tgid == pid: (r.state, r.ppid) for r in programs.records(family)}

            wanted = {True: ("S", os.getpid()), False: ("Z", pid)}
            until(lambda: states() == wanted, "the one to wait and the other to be a zombie")
        with child("odd", "names") as odd:
            pid, _ = odd.said()
            assert record_of(programs, pid).comm.startswith(b") R 1 (")
            assert record_of(programs, pid).tick_forks == 0
            assert record_of(programs, odd.pid).tick_forks == 1
