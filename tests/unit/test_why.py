"""Why fork fails, on machines made of files: each limit alone, what it says, and that others are not blamed."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import V1, V2, Machine

from pidwarden.diagnose.limits import Binding, is_out, most
from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import tasks
from pidwarden.model.text import escape
from pidwarden.rescue import why

SHELL, UID, MIB = 500, 1000, 1024
SYS_ADMIN, SYS_RESOURCE = 1 << 21, 1 << 24


@pytest.fixture
def machine(tmp_path):
    """One with room, and the shell of a user in it."""
    made = Machine(tmp_path)
    made.process(1, comm="init")
    made.process(SHELL, comm="bash", uid=UID)
    made.memory(MemTotal=8192 * MIB, MemAvailable=4096 * MIB, SwapTotal=0, SwapFree=0)
    return made


def look(machine, uid=UID, pid=SHELL):
    return why.look(uid, pid, str(machine.proc))


def named(bindings, name):
    (found,) = [b for b in bindings if b.name.startswith(name)]
    return found


def answer(machine):
    return why.lines(look(machine))[0]


def bomb(machine, count, **more):
    for pid in range(1000, 1000 + count):
        machine.process(pid, comm="bomb", uid=UID, **more)


# -- nothing is full ---------------------------------------------------------------------------------------------------


def test_on_a_machine_with_room_the_nearest_limit_is_named(machine):
    assert not any(b.binds for b in look(machine))
    assert answer(machine) == "no limit is reached; nearest is threads-max: 345 of 15000 used"


def test_nothing_is_offered_to_be_changed_where_nothing_is_full(machine):
    assert not any("write" in line for line in why.lines(look(machine)))


def test_a_process_that_is_gone(machine):
    with pytest.raises(PidwardenError, match="process 77: it is gone"):
        look(machine, pid=77)


def test_without_a_descriptor_the_process_is_not_said_to_be_gone(machine, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotPossible, match="Too many open files; kill what holds so many files"):
        look(machine)


# -- the machine -------------------------------------------------------------------------------------------------------


def test_pid_max(machine):
    machine.write("proc/sys/kernel/pid_max", "641\n")
    found = look(machine)
    assert [b.name for b in found if b.binds] == ["pid_max"]
    assert found[0].help == f"write {machine.proc}/sys/kernel/pid_max 897"
    assert found[0].undo == f"write {machine.proc}/sys/kernel/pid_max 641"
    assert answer(machine) == "fork fails (EAGAIN) because pid_max is reached, 345 of 641 used"


def test_threads_max(machine):
    machine.write("proc/sys/kernel/threads-max", "345\n")
    assert [b.name for b in look(machine) if b.binds] == ["threads-max"]


def test_ids_that_groups_without_a_leader_go_by_are_used_as_well(machine):
    """The kernel gives no id out that is still a process group's or a session's."""
    free = named(look(machine), "pid_max").free
    machine.process(900, pgrp=800, session=700)
    machine.process(901, pgrp=800, session=901)
    found = named(look(machine), "pid_max")
    assert found.free == free - 2
    assert "2 ids kept by groups whose leader is gone" in found.who


def test_who_fills_the_table_is_counted_by_user_the_most_first(machine):
    bomb(machine, 3, threads=10)
    assert named(look(machine), "threads-max").who == "uid 1000 31, uid 0 1"


def test_a_limit_that_is_as_high_as_it_can_be(machine):
    machine.write("proc/sys/kernel/pid_max", f"{4 * 1024 * 1024}\n")
    machine.write("proc/loadavg", f"0 0 0 1/{4 * 1024 * 1024 - 299} 9\n")
    found = named(look(machine), "pid_max")
    assert (found.binds, found.help, found.undo) == (True, "it is as high as it can be", "")


# -- the user ----------------------------------------------------------------------------------------------------------


def test_the_users_own_limit_counts_threads_by_real_user(machine):
    machine.nproc(SHELL, 31)
    bomb(machine, 3, threads=10)
    machine.process(2000, uid=UID - 7)  # who has that effective user does not count
    (found,) = [b for b in look(machine) if b.binds]
    assert (found.name, found.used, found.allowed) == (f"RLIMIT_NPROC of uid {UID} in process {SHELL}", 31, 31)
    assert found.who == "bomb 30, bash 1"
    assert found.help == f"limits nproc:{SHELL} 287"
    assert found.undo == f"limits nproc:{SHELL} 31"


def test_what_is_offered_stays_below_the_hard_limit(machine):
    machine.nproc(SHELL, 1, 100)
    assert named(look(machine), "RLIMIT_NPROC").help == f"limits nproc:{SHELL} 100"


@pytest.mark.parametrize(
    ("uid", "capabilities", "reason"),
    [(0, 0, "root"), (UID, SYS_ADMIN, "CAP_SYS_ADMIN"), (UID, SYS_RESOURCE, "CAP_SYS_RESOURCE"), (UID, 1, "")],
)
def test_who_is_exempt(machine, uid, capabilities, reason):
    machine.process(SHELL, uid=uid, capabilities=capabilities)
    machine.nproc(SHELL, 1)
    found = named(look(machine, uid), "RLIMIT_NPROC")
    assert (found.exempt, found.binds) == (reason, not reason)


def test_root_of_a_container_is_not_exempt(machine):
    machine.process(SHELL, uid=0, capabilities=SYS_ADMIN)
    machine.nproc(SHELL, 1)
    machine.write(f"proc/{SHELL}/uid_map", "0 100000 65536\n")
    assert named(look(machine, 0), "RLIMIT_NPROC").binds


def test_no_limit_is_none(machine):
    machine.nproc(SHELL, "unlimited")
    assert not any(b.name.startswith("RLIMIT_NPROC") for b in look(machine))


def test_where_proc_hides_processes_the_count_says_so(machine):
    machine.nproc(SHELL, 50)
    (machine.proc / "1/status").unlink()
    assert "may be more" in named(look(machine), "RLIMIT_NPROC").who


def test_who_is_in_hundreds_of_groups_is_counted_with_his_threads(machine):
    machine.process(SHELL, uid=UID, threads=5, groups=" ".join(map(str, range(70000, 72000))))
    machine.nproc(SHELL, 50)
    assert named(look(machine), "RLIMIT_NPROC").used == 5


# -- cgroups -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["v1", "v2"])
def layout(machine, request):
    """The shell in /a/b, in either version."""
    mount, line = (V1, "8:pids:/a/b") if request.param == "v1" else (V2, "0::/a/b")
    machine.cgroups([mount], [])
    machine.inside(SHELL, line)
    return machine, mount[0].lstrip("/")


def test_every_cgroup_above_is_asked_and_the_full_one_is_named(layout):
    machine, cg = layout
    machine.pids(f"{cg}/a/b", 90, 1000)
    machine.pids(f"{cg}/a", 100, 100)
    bomb(machine, 2, threads=40)
    machine.write(f"{cg}/a/cgroup.procs", "1000\n")
    machine.write(f"{cg}/a/b/cgroup.procs", f"1001\n{SHELL}\n")
    (found,) = [b for b in look(machine) if b.binds]
    assert (found.name, found.used, found.allowed, found.free) == ("pids.max of /a", 100, 100, 0)
    assert found.who == "bomb 80, bash 1; 19 more that the cgroup does not list: zombies"
    assert found.help == f"write {machine.root}/{cg}/a/pids.max 356"
    assert found.undo == f"write {machine.root}/{cg}/a/pids.max 100"
    assert answer(machine) == "fork fails (EAGAIN) because pids.max of /a is reached, 100 of 100 used"


def test_refusals_that_are_counted_where_the_task_is(layout):
    """v1, and v2 before 6.11: the full cgroup itself has counted nothing."""
    machine, cg = layout
    machine.pids(f"{cg}/a/b", 90, 1000)
    machine.pids(f"{cg}/a", 100, 100)
    machine.write(f"{cg}/a/b/pids.events", "max 93\n")
    machine.write(f"{cg}/a/pids.events", "max 0\n")
    found = {b.name: b.evidence for b in look(machine)}
    assert found["pids.max of /a"] == "93 forks in /a/b were refused by its limit or one above (pids.events)"


def test_refusals_of_a_v2_cgroup_without_the_controller_are_counted_above_it(machine):
    machine.cgroups([V2], [])
    machine.inside(SHELL, "0::/a/b")
    machine.pids("cg/a", 100, 100)
    machine.write("cg/a/pids.events", "max 93\n")
    assert named(look(machine), "pids.max of /a").evidence.startswith("93 forks in /a were refused")


def test_refusals_that_are_counted_where_the_limit_is(machine):
    machine.cgroups([V2], [])
    machine.inside(SHELL, "0::/a/b")
    machine.pids("cg/a/b", 90, 1000)
    machine.pids("cg/a", 100, 100)
    for path, here, all_below in (("cg/a/b", 0, 0), ("cg/a", 93, 93)):
        machine.write(f"{path}/pids.events", f"max {all_below}\n")
        machine.write(f"{path}/pids.events.local", f"max {here}\n")
    found = {b.name: b.evidence for b in look(machine)}
    assert found["pids.max of /a"] == "refused 93 forks (pids.events.local)"
    assert found["pids.max of /a/b"] == ""


def test_in_a_container_what_is_above_is_said_to_be_unseen(machine):
    machine.cgroups([V2], [])
    machine.inside(SHELL, "0::/")
    machine.write("proc/self/ns/mnt", "")
    os.symlink("cgroup:[4026532345]", machine.proc / "self/ns/cgroup")
    machine.write("cg/pids.events", "max 7\n")
    found = look(machine)
    assert named(found, "pids.max of cgroups outside").evidence.startswith("7 forks in / were refused")
    assert "no limit is reached that can be seen from here" in why.lines(found)[0]
    assert any(line.split()[:3] == ["?", "?", "?"] for line in why.lines(found))


def test_in_the_machines_own_cgroup_namespace_nothing_is_unseen(machine):
    machine.write("proc/self/ns/mnt", "")
    os.symlink("cgroup:[4026531835]", machine.proc / "self/ns/cgroup")
    assert not any(b.allowed is None for b in look(machine))


def test_a_cgroups_name_cannot_write_to_the_terminal(machine):
    machine.cgroups([V2], [])
    machine.inside(SHELL, "0::/a\x1b[2J")
    machine.pids("cg/a\x1b[2J", 10, 10)
    text = why.lines(look(machine))
    assert any("\\x1b[2J" in line for line in text)
    assert all(line.isprintable() for line in text)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_that_is_out(machine):
    machine.memory(MemTotal=8192 * MIB, MemAvailable=900, SwapTotal=100 * MIB, SwapFree=0)
    machine.write("proc/vmstat", "oom_kill 4\n")
    (found,) = [b for b in look(machine) if b.binds]
    assert (found.name, found.unit) == ("memory and swap", "bytes")
    assert "killed 4" in found.evidence
    assert answer(machine) == ("fork fails (ENOMEM) because memory and swap is reached, 8291 MiB of 8292 MiB used")


def test_with_swap_left_memory_is_not_out(machine):
    machine.memory(MemTotal=8192 * MIB, MemAvailable=0, SwapTotal=100 * MIB, SwapFree=50 * MIB)
    assert not any(b.binds for b in look(machine))


@pytest.mark.parametrize(("left", "binds"), [(8 * MIB + 131, True), (8 * MIB + 132, False)])
def test_what_was_promised_binds_where_overcommitment_is_strict(machine, left, binds):
    """A fork promises what of the parent can be written again: 8 MiB and a stack of 132 KiB here."""
    machine.memory(MemTotal=8192 * MIB, MemAvailable=4096 * MIB, CommitLimit=1000 * MIB, Committed_AS=1000 * MIB - left)
    assert not any(b.name == "CommitLimit" for b in look(machine))
    machine.write("proc/sys/vm/overcommit_memory", "2\n")
    found = named(look(machine), "CommitLimit")
    assert found.binds == binds
    assert found.help == f"write {machine.proc}/sys/vm/overcommit_memory 0"
    assert found.undo == f"write {machine.proc}/sys/vm/overcommit_memory 2"


def test_memory_of_a_v2_cgroup_without_its_cache(machine):
    machine.cgroups([V2], [])
    machine.inside(SHELL, "0::/a")
    machine.write("cg/a/memory.max", f"{64 << 20}\n")
    machine.write("cg/a/memory.current", f"{64 << 20}\n")
    machine.write("cg/a/memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    machine.write(
        "cg/a/memory.stat",
        f"anon 1\nfile {60 << 20}\ninactive_file {30 << 20}\nactive_file {20 << 20}\nslab_reclaimable {4 << 20}\n",
    )
    found = named(look(machine), "memory of /a")
    assert (found.used, found.binds) == (10 << 20, False)
    machine.write("cg/a/memory.stat", "anon 1\n")
    found = named(look(machine), "memory of /a")
    assert found.binds
    assert found.evidence == f"max 12, oom 3, oom_kill 2 ({machine.root}/cg/a)"
    assert found.help == f"write {machine.root}/cg/a/memory.max {80 << 20}"


def test_memory_of_a_v1_cgroup_and_of_those_above(machine):
    machine.cgroups([("/cg/memory", "cgroup", "rw,memory")], [])
    machine.inside(SHELL, "4:memory:/a/b")
    for path, name, limit, used, failed in (
        ("a/b", "memory", 9223372036854771712, 5, 9),
        ("a", "memory", 64 << 20, 64 << 20, 7),
        ("a", "memory.kmem", 16 << 20, 1 << 20, 0),
    ):
        machine.write(f"cg/memory/{path}/{name}.limit_in_bytes", f"{limit}\n")
        machine.write(f"cg/memory/{path}/{name}.usage_in_bytes", f"{used}\n")
        machine.write(f"cg/memory/{path}/{name}.failcnt", f"{failed}\n")
    found = [b for b in look(machine) if " of /" in b.name]
    assert [(b.name, b.binds) for b in found] == [("memory of /a", True), ("kernel memory of /a", False)]
    assert found[0].evidence.startswith("failcnt 7 ")


# -- the namespace of the children -------------------------------------------------------------------------------------


def namespaces(machine, pid, own, children=None):
    folder = machine.proc / str(pid) / "ns"
    folder.mkdir(parents=True)
    os.symlink(own, folder / "pid")
    if children:
        os.symlink(children, folder / "pid_for_children")


def test_children_of_a_namespace_whose_first_process_is_gone(machine):
    namespaces(machine, SHELL, "pid:[1]", "pid:[2]")
    assert "ENOMEM" in answer(machine)
    assert "the pid namespace for children of process 500" in answer(machine)


def test_children_of_a_namespace_that_lives(machine):
    namespaces(machine, SHELL, "pid:[1]", "pid:[2]")
    machine.process(600)
    namespaces(machine, 600, "pid:[2]")
    assert not any(b.binds for b in look(machine))


# -- the rules, by values ----------------------------------------------------------------------------------------------


@given(st.integers(1, 1 << 22), st.integers(0, 1 << 22))
def test_what_binds_is_full_or_nearly(allowed, used):
    free = max(0, allowed - used)
    binds = is_out(free, allowed, 8)
    assert binds or free > 0
    assert not binds or free <= 8
    assert not binds or free <= allowed / 64


@given(
    st.lists(
        st.builds(
            Binding,
            name=st.text(max_size=20),
            used=st.integers(0, 1 << 40),
            allowed=st.none() | st.integers(0, 1 << 40),
            free=st.integers(0, 1 << 40),
            binds=st.booleans(),
            unit=st.sampled_from(["tasks", "bytes"]),
            exempt=st.sampled_from(["", "root"]),
            who=st.text(max_size=20),
        ),
        max_size=6,
    )
)
def test_every_line_can_be_shown_and_those_that_bind_come_first(found):
    found.sort(key=lambda b: b.rank)
    text = why.lines(found)
    assert all(line.isprintable() for line in text)
    assert text[0].startswith("fork fails") == any(b.binds for b in found)
    assert [b.binds for b in found] == sorted((b.binds for b in found), reverse=True)


def test_ample_memory_is_not_the_nearest_limit():
    table = Binding("pid_max", 100, 32768, 32368)
    memory = Binding("memory and swap", 3 << 30, 4 << 30, 1 << 30, unit="bytes")
    scarce = memory._replace(used=4 << 30, free=20 << 20)
    assert table.rank < memory.rank
    assert scarce.rank < table.rank


def test_the_largest_are_shown_and_the_rest_added_up():
    assert most({"a": 5, "b": 7, "c": 1, "d": 2, "e": 1}) == "b 7, a 5, d 2, others 2"
    assert most({}) == ""


# -- the count ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("comm", ["Uid:\\t0", "x Threads: 99", ") R 1 (", "\\n"])
def test_a_name_cannot_pretend_to_be_another_field(machine, comm):
    machine.process(600, comm=comm, uid=UID, threads=3)
    assert tasks.count(str(machine.proc)).processes[600] == tasks.Process(UID, comm.encode(), 3)


def test_the_count_is_that_of_the_kernel():
    counted = tasks.count()
    assert counted.processes[os.getpid()].uid == os.getuid()
    assert counted.total == sum(counted.users().values())
    assert not counted.hidden
    with open("/proc/loadavg", encoding="ascii") as file:
        assert counted.total == pytest.approx(int(file.read().split()[3].split("/")[1]), abs=50)


def test_names_are_shown_harmless(machine):
    machine.process(600, comm="\x1b[2J", uid=UID)
    machine.nproc(SHELL, 50)
    assert escape(b"\x1b[2J") in named(look(machine), "RLIMIT_NPROC").who
