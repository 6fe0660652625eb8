"""Why fork fails, told of processes whose forks the kernel really refuses; and that what is offered really helps."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import shlex
import shutil
import sys

import pytest
from guardkit import inside, pen, start
from kit import child, until

from pidwarden.errors import NoPermission
from pidwarden.kernel import cgroup, limits, procfs
from pidwarden.rescue import limits as settable
from pidwarden.rescue import sysfiles, why
from pidwarden.rescue.ledger import Ledger

pytestmark = pytest.mark.root

CAP = 21
_users = itertools.count(60_000 + os.getpid() % 1000 * 5)


@pytest.fixture
def user():
    """A user who has no tasks: zombies of a test that is over may still be waiting to be reaped."""
    return next(_users)


def binding(uid, pid):
    return [b for b in why.look(uid, pid) if b.binds]


def typed(command, ledger):
    """What a person types who follows the advice."""
    word, *rest = shlex.split(command)
    return {"write": sysfiles.write, "limits": settable.put}[word](*rest, ledger)


def fork_error(running):
    """Has a `failing` fork once more; its errno."""
    running.tell()
    return running.said()[0]


def test_a_full_cgroup_is_named_with_its_count_its_refusals_and_who_is_in_it():
    with pen(CAP) as made, child("failing", str(CAP - 1), enter=made.enter) as running:
        assert running.said() == (running.pid, CAP - 1)
        found = why.look(0, running.pid)
        (full,) = [b for b in found if b.binds]
        assert full.name == f"pids.max of /{made.name}"
        assert (full.used, full.allowed, full.free) == (CAP, CAP, 0)
        assert full.who == f"failing {CAP}"
        assert str(CAP - 1) in full.evidence
        assert why.lines(found)[0] == f"fork fails (EAGAIN) because {full.name} is reached, {CAP} of {CAP} used"
        ledger = Ledger()
        typed(full.help, ledger)
        assert binding(0, running.pid) == []
        assert fork_error(running) == 0
        ledger.undo()
        assert binding(0, running.pid)[0].allowed == CAP
        assert f"write {full.path} {procfs.read_int(full.path)}" == full.undo


def test_the_cgroup_above_is_the_full_one():
    with pen(CAP) as made:
        cgroup.put(f"{made.directories[0]}/cgroup.subtree_control", "+pids")  # v2; v1 has it everywhere
        with inside(f"{made.directories[0]}/inner") as inner:

            def enter():
                assert cgroup.put(f"{inner}/cgroup.procs", "0")

            with child("failing", str(CAP - 1), enter=enter) as running:
                running.said()
                (full,) = binding(0, running.pid)
                assert full.name == f"pids.max of /{made.name}"
                assert full.who == f"failing {CAP}"
                assert str(CAP - 1) in full.evidence


def test_zombies_fill_a_cgroup_that_does_not_list_them():
    with pen(CAP) as made, child("crowd", str(CAP - 1), "zombies", enter=made.enter) as running:
        running.said()
        (full,) = binding(0, running.pid)
        assert full.used == CAP
        assert full.who == f"crowd 1; {CAP - 1} more that the cgroup does not list: zombies"


def test_with_room_left_nothing_binds():
    with pen(CAP) as made, child("crowd", str(CAP - 3), enter=made.enter) as running:
        running.said()
        found = why.look(0, running.pid)
        assert not any(b.binds for b in found)
        assert found[0].name == f"pids.max of /{made.name}"
        assert found[0].free == 2
        assert "no limit is reached; nearest is pids.max of" in why.lines(found)[0]


def limited(made, uid, most):
    """A process of that user, which may have so many tasks."""

    def enter():
        made.enter()
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        os.setgroups([])
        os.setgid(65534)
        os.setuid(uid)

    return enter


def test_a_users_own_limit_is_named_and_not_the_cgroup_that_has_room(user):
    with pen(200) as made, child("failing", "15", enter=limited(made, user, 16)) as running:
        assert running.said() == (running.pid, 15)
        (full,) = binding(user, running.pid)
        assert full.name == f"RLIMIT_NPROC of uid {user} in process {running.pid}"
        assert (full.used, full.allowed, full.who) == (16, 16, "failing 16")
        ledger = Ledger()
        if not int(limits.status("self")["CapEff"], 16) >> 24 & 1:  # as in many containers
            with pytest.raises(NoPermission, match="CAP_SYS_RESOURCE"):
                typed(full.help, ledger)
            assert ledger.changes == []
            assert fork_error(running) == errno.EAGAIN
            return
        typed(full.help, ledger)
        assert binding(user, running.pid) == []
        assert fork_error(running) == 0
        ledger.undo()
        assert limits.nproc(running.pid) == (16, 16)


def test_threads_count_against_the_users_limit(user):
    with pen(200) as made, child("odd", "threads", "15", enter=limited(made, user, 16)) as running:
        running.said()
        (full,) = binding(user, running.pid)
        assert (full.used, full.who) == (16, "odd 16")


def test_root_may_go_over_the_users_limit():
    with pen(200) as made, child("failing", "15", enter=limited(made, 0, 1)) as running:
        assert running.said() == (running.pid, 0)
        found = {b.name.split()[0]: b for b in why.look(0, running.pid)}
        assert (found["RLIMIT_NPROC"].exempt, found["RLIMIT_NPROC"].binds) == ("root", False)


NEWPID = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000000) == 0
if os.fork() == 0:
    os._exit(0)
os.wait()
try:
    os.fork()
except OSError as why:
    print(errno.errorcode[why.errno], flush=True)
sys.stdin.readline()
os.execv(sys.argv[1], sys.argv[1:])
"""
FORKS = "import os\nif os.fork() == 0: os._exit(0)\nos.wait(); print('forked')"


def test_a_pid_namespace_whose_first_process_has_ended_is_not_taken_for_want_of_memory():
    nsenter = shutil.which("nsenter")
    if not nsenter:
        pytest.skip("nsenter is not installed")
    advice = [nsenter, "--no-fork", "--pid=/proc/self/ns/pid", sys.executable, "-I", "-S", "-c", FORKS]
    command = [sys.executable, "-I", "-S", "-c", NEWPID, *advice]
    with start(command, lambda: None, stdin=-1, stdout=-1, text=True) as process:
        try:
            assert process.stdout.readline() == "ENOMEM\n"
            (full,) = binding(0, process.pid)
            assert full.name == f"the pid namespace for children of process {process.pid}"
            assert full.help == f"in that shell: exec {' '.join(['nsenter', *advice[1:3]])} bash"
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "forked\n"
        finally:
            process.kill()


@contextlib.contextmanager
def memory_limited(most):
    """A cgroup with a limit on memory, on a machine that has those."""
    found = cgroup.mounts()
    where, file = found.v1.get("memory"), "memory.limit_in_bytes"
    if not where:
        where, file = found.v2, "memory.max"
        cgroup.put(f"{where}/cgroup.subtree_control", "+memory")
    with inside(f"{where}/pidwarden-why-{os.getpid()}") as directory:
        if not cgroup.put(f"{directory}/{file}", str(most)):
            pytest.skip("no memory controller here")
        yield directory


def test_memory_that_a_cgroup_may_have_is_told_raised_and_taken_back():
    with memory_limited(64 << 20) as directory:

        def enter():
            assert cgroup.put(f"{directory}/cgroup.procs", "0")

        with child("crowd", "1", enter=enter) as running:
            running.said()
            name = f"memory of /{os.path.basename(directory)}"
            (found,) = [b for b in why.look(0, running.pid) if b.name == name]
            assert (found.allowed, found.binds, found.unit) == (64 << 20, False, "bytes")
            ledger = Ledger()
            typed(found.help, ledger)
            assert procfs.read_int(found.path) == 80 << 20
            ledger.undo()
            assert procfs.read_int(found.path) == 64 << 20


def test_what_is_told_of_this_machine_is_what_its_files_say():
    found = {b.name: b for b in why.look(os.getuid(), os.getpid())}
    for name in ("pid_max", "threads-max"):
        assert found[name].allowed == procfs.read_int(f"/proc/sys/kernel/{name}")
        assert found[name].used == pytest.approx(procfs.tasks_in_use(), abs=50)
    assert found["memory and swap"].allowed > 0


def test_a_process_that_ended_is_gone():
    process = start(["true"], lambda: None)
    process.wait()
    until(lambda: not procfs.exists(process.pid), "its end")
    with pytest.raises(Exception, match=f"process {process.pid}: it is gone"):
        why.look(0, process.pid)
