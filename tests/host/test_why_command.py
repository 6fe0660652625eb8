"""`pidwarden why`: a pen for each limit. The limit named is the one that refuses, and raising it changes the answer."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from cli_kit import NOBODY, gone_pid, guard, nobody_cli, one_sentence, pidwarden_cli, sleeper
from guardkit import inside, pen, start
from kit import child, stat_of, until
from test_fork_refused import NEWPID

from pidwarden.cli import why_look
from pidwarden.cli.main import main
from pidwarden.kernel import cgroup, limits, procfs

pytestmark = pytest.mark.root

CAP = 21
RETRY = "-bash: fork: retry: Resource temporarily unavailable"
_users = itertools.count(54_321 + os.getpid() % 1000 * 5)


@pytest.fixture
def user():
    """A user who has no tasks."""
    return next(_users)


@pytest.fixture
def why(capsys, monkeypatch):
    """The command without its half a second; exit code and object, or lines."""
    monkeypatch.setattr(why_look, "_BETWEEN_SECONDS", 0.01)

    def run(*arguments, text=False):
        code = main(["why", *map(str, arguments), "--no-guard", *([] if text else ["--json"])])
        shown = capsys.readouterr()
        assert not shown.err
        return (code, shown.out.splitlines()) if text else (code, json.loads(shown.out))

    return run


def binding(answer):
    """The one limit that is said to bind."""
    (found,) = [limit for limit in answer["limits"] if limit["binds"]]
    assert answer["binds"] == [found["name"]]
    assert answer["fails"]
    return found


def shell(line):
    """What a person types who follows the advice."""
    return subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True).stdout


def fork_error(running):
    """Has the prop fork once more; its errno."""
    running.tell()
    return running.said()[0]


def limited(made, uid, soft, hard=None):
    """Enters the pen as that user, who may have so many tasks."""

    def enter():
        made.enter()
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard or soft))
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(uid)

    return enter


def into(directory):
    """Enters a cgroup."""

    def enter():
        assert cgroup.put(f"{directory}/cgroup.procs", "0")

    return enter


# -- cgroups -----------------------------------------------------------------------------------------------------------


def test_a_full_cgroup_with_what_to_type_and_how_to_take_it_back(why):
    with pen(CAP) as made, child("failing", str(CAP - 1), enter=made.enter) as running:
        assert running.said() == (running.pid, CAP - 1)
        code, answer = why(f"pid:{running.pid}")
        full = binding(answer)
        assert (code, answer["error"], full["kind"]) == (1, "EAGAIN", "pids.max")
        assert full["name"] == f"pids.max of /{made.name}"
        assert (full["used"], full["allowed"], full["free"], full["refused"]) == (CAP, CAP, 0, CAP - 1)
        assert full["names"] == {"failing": CAP}
        code, lines = why(running.pid, text=True)
        assert code == 1
        assert lines[0] == f"fork fails (EAGAIN) because {full['name']} is reached, {CAP} of {CAP} used"
        assert f"  do      {full['change']['do']}" in lines
        with open(full["path"], encoding="ascii") as file:
            before = file.read()
        shell(full["change"]["do"])
        code, answer = why(running.pid)
        assert (code, answer["fails"], answer["error"]) == (0, False, None)
        assert fork_error(running) == 0
        shell(full["change"]["undo"])
        with open(full["path"], encoding="ascii") as file:
            assert file.read() == before


def test_forks_that_are_refused_while_it_looks_are_told(why, monkeypatch):
    with pen(CAP) as made, child("failing", str(CAP - 1), enter=made.enter) as running:
        running.said()
        pause = SimpleNamespace(sleep=lambda _seconds: fork_error(running), monotonic=time.monotonic)
        monkeypatch.setattr(why_look, "time", pause)
        _code, lines = why(running.pid, text=True)
        assert any(line.startswith("  refused 1 more in the last ") for line in lines)


def test_the_kernels_log_says_where_it_has_refused(why):
    with pen(CAP) as made, child("failing", str(CAP - 1), enter=made.enter) as running:
        running.said()
        _code, answer = why(running.pid)
        if any("log is not looked at" in note for note in answer["notes"]):
            pytest.skip("the kernel's log is not ours to read")
        (logged,) = binding(answer)["log"]
        assert logged["text"].endswith(f"cgroup: fork rejected by pids controller in /{made.name}")


@contextlib.contextmanager
def within(made, most):
    """A cgroup inside of a pen, with a limit of its own."""
    cgroup.put(f"{made.directories[0]}/cgroup.subtree_control", "+pids")  # v2; v1 has it everywhere
    with inside(f"{made.directories[0]}/inner") as inner:
        assert cgroup.put(f"{inner}/pids.max", str(most))
        yield inner


@pytest.mark.parametrize(("inner", "full"), [("max", ""), (CAP + 30, ""), (CAP - 5, "/inner")])
def test_of_one_cgroup_in_another_the_one_that_binds_first_is_named(why, inner, full):
    """Only the one above has a limit; its limit is the lower one; that of the inner one is."""
    least = CAP - 5 if full else CAP
    with pen(CAP) as made, within(made, inner) as directory, contextlib.ExitStack() as stack:
        if running := stack.enter_context(child("failing", str(least - 1), enter=into(directory))):
            assert running.said() == (running.pid, least - 1)
            _code, answer = why(running.pid)
            found = binding(answer)
            assert found["name"] == f"pids.max of /{made.name}{full}"
            shell(found["change"]["do"])
            assert why(running.pid)[1]["binds"] == []
            assert fork_error(running) == 0


def test_a_cgroup_is_asked_about_by_its_path_with_nobody_in_it(why):
    with pen(CAP) as made:
        code, answer = why("--cgroup", f"/{made.name}")
        assert (code, answer["subject"], answer["notes"][0]) == (0, f"cgroup /{made.name}", "nobody is in it")
        assert answer["nearest"] == f"pids.max of /{made.name}"
        line = f"kernel: cgroup: fork rejected by pids controller in /{made.name}"
        _code, answer = why("--message", line)
        assert answer["nearest"] == f"pids.max of /{made.name}"
        assert answer["message"]["program"] == "the kernel"


def test_a_cgroups_name_can_neither_break_a_line_nor_be_run_by_the_shell(why):
    hostile = "in ) Z 1 (\x1b[2J$(touch x); 'q"
    with pen(CAP) as made, inside(f"{made.directories[0]}/{hostile}") as directory:
        assert cgroup.put(f"{directory}/pids.max", "2")
        with child("crowd", "1", enter=into(directory)) as running:
            running.said()
            _code, answer = why(running.pid)
            found = binding(answer)
            assert "\n" not in found["name"]
            assert "\x1b" not in json.dumps(answer)
            assert shlex.split(found["change"]["do"])[-1] == f"{directory}/pids.max"
            _code, lines = why(running.pid, text=True)
            assert all(line.isprintable() for line in lines)


# -- users -------------------------------------------------------------------------------------------------------------


def test_a_users_own_limit_and_not_the_cgroup_that_has_room(why, user):
    with pen(200) as made, child("failing", "15", enter=limited(made, user, 16)) as running:
        assert running.said() == (running.pid, 15)
        _code, answer = why(running.pid)
        full = binding(answer)
        assert (full["kind"], full["used"], full["allowed"], full["names"]) == ("nproc", 16, 16, {"failing": 16})
        assert full["change"]["do"] == f"prlimit --pid {running.pid} --nproc=272:272"
        assert full["change"]["undo"] == f"prlimit --pid {running.pid} --nproc=16:16"
        assert fork_error(running) == errno.EAGAIN
        _code, answer = why("--user", user)
        assert binding(answer)["used"] == 16
        assert answer["subject"] == f"user {user} (16 processes)"
        if shutil.which("prlimit") and int(limits.status("self")["CapEff"], 16) >> 24 & 1:  # not in many containers
            shell(full["change"]["do"])
            assert fork_error(running) == 0


def test_of_a_user_with_two_limits_only_the_lower_one_binds(why, user):
    with pen(200) as made, child("crowd", "9", enter=limited(made, user, 40)) as free:
        free.said()
        with child("failing", "5", enter=limited(made, user, 16)) as running:
            assert running.said() == (running.pid, 5)
            code, answer = why(f"user:{user}")
            full = binding(answer)
            assert (code, full["allowed"], full["used"]) == (1, 16, 16)
            assert any(limit["kind"] == "nproc" and limit["allowed"] == 40 for limit in answer["limits"])
            assert f"in process {running.pid} and of 5 like it" in full["name"]
            free.tell()  # ten tasks fewer, which is what removes the cause
            until(lambda: not why(f"user:{user}")[1]["fails"], "room for the user")
            assert fork_error(running) == 0


def test_who_has_not_reaped_what_fills_a_users_limit(why, user):
    with pen(200) as made, child("crowd", "15", "zombies", enter=limited(made, user, 16)) as running:
        running.said()
        _code, answer = why(running.pid)
        assert binding(answer)["unreaped"] == [{"parent": running.pid, "zombies": 15}]
        _code, lines = why(running.pid, text=True)
        assert (
            f"  zombies 15 of them: crowd ({running.pid}) has not waited for 15; `pidwarden zombies` says why" in lines
        )
        zombie = next(p for p in pids() if (s := stat_of(p)) and s.state == "Z" and s.ppid == running.pid)
        done = pidwarden_cli("why", f"pid:{zombie}")
        assert f"type `pidwarden why pid:{running.pid}`" in one_sentence(done, 1)


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def test_a_line_of_a_program_is_explained_by_what_is_reached(why, user):
    with pen(200) as made, child("failing", "15", enter=limited(made, user, 16)) as running:
        running.said()
        code, lines = why(running.pid, "--message", RETRY, text=True)
        assert code == 1
        assert lines[0].startswith(f"EAGAIN from an attempt to fork (bash): RLIMIT_NPROC of uid {user} in process ")
        code, answer = why(running.pid, "--message", "OSError: [Errno 12] Cannot allocate memory")
        assert code == 0, "what is reached answers with another error"
        assert answer["message"]["can_be"] == ["dead-namespace-init", "memory", "overcommit", "memory-cgroup"]
        code, lines = why(running.pid, "--message", "Cannot allocate memory", text=True)
        assert any(line.startswith("besides: fork fails (EAGAIN) because RLIMIT_NPROC") for line in lines)


def test_what_an_ordinary_user_can_know():
    with pen(200) as made, child("failing", "15", enter=limited(made, NOBODY, 16)) as running:
        running.said()
        done = nobody_cli("why", f"pid:{running.pid}", "--json")
        answer = json.loads(done.stdout)
        used = [limit["used"] for limit in answer["limits"] if limit["kind"] == "nproc"]
        assert "Traceback" not in done.stderr
        assert (done.returncode, used >= [16]) == (1, True)
        assert any(limit["kind"] == "pids.max" for limit in answer["limits"])


# -- pid namespaces ----------------------------------------------------------------------------------------------------

# The first process of a namespace fills it, and asks there, as nothing else could be started; then it does as told.
FILLS = """
import errno, json, os, signal, sys
from pidwarden.cli import why_look
from pidwarden.cli.main import main
why_look._BETWEEN_SECONDS = 0.01
def fork():
    try:
        pid = os.fork()
    except OSError as why:
        return errno.errorcode[why.errno]
    if pid == 0:
        signal.pause()
    return ""
with open("/proc/sys/kernel/pid_max", "w") as file:
    file.write("301")
while not (error := fork()):
    pass
print(error)
main(["why", "pid:1", "--json", "--no-guard"])
with open("/proc/sys/kernel/pid_max", "w") as file:
    file.write("400")
main(["why", "pid:1", "--json", "--no-guard"])
print(fork() or "forked")
"""


def _own_pid_max():
    """Since 6.14 a pid namespace has a pid_max of its own; before, the test would change the machine's."""
    return tuple(map(int, platform.release().split("-")[0].split(".")[:2])) >= (6, 14)


@pytest.mark.skipif(not _own_pid_max(), reason="pid namespaces have no pid_max of their own here")
def test_a_pid_namespace_with_a_low_pid_max_is_known_inside_and_unknown_outside(why):
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", FILLS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    error, *objects = done.stdout.split("\n", 1)
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(objects[0])
    second, _end = decoder.raw_decode(objects[0][end:].lstrip())
    assert error == "EAGAIN"
    full = binding(first)
    assert (full["name"], full["allowed"], full["change"]["undo"]) == ("pid_max", 301, "sysctl -w kernel.pid_max=301")
    assert "pid_max of the pid namespaces around this one" in [limit["name"] for limit in first["limits"]]
    assert second["binds"] == []
    assert done.stdout.endswith("forked\n")
    with start(["unshare", "--pid", "--fork", "sleep", "60"], lambda: None) as outer:
        try:
            (inner,) = until(lambda: children(outer.pid), "its child")
            _code, answer = why(inner)
            (unseen,) = [limit for limit in answer["limits"] if limit["kind"] == "pid-namespace"]
            assert (unseen["allowed"], unseen["used"]) == (None, 1)
            assert shell(unseen["unseen"].split("`")[1]) == "4194304\n"
            assert "that can be seen from here" in answer["answer"]
        finally:
            os.kill(inner, 9)
            outer.wait()


def children(pid):
    return [p for p in pids() if (s := stat_of(p)) and s.ppid == pid]


def test_a_namespace_whose_first_process_has_ended_is_told_from_want_of_memory(why):
    command = [sys.executable, "-I", "-S", "-c", NEWPID, "sleep", "60"]
    with start(command, lambda: None, stdin=-1, stdout=-1, text=True) as process:
        try:
            assert process.stdout.readline() == "ENOMEM\n"
            code, answer = why(process.pid, "--message", "bash: fork: Cannot allocate memory")
            found = binding(answer)
            assert (code, found["kind"], answer["error"]) == (1, "dead-namespace-init", "ENOMEM")
            assert "has lost its first process" in answer["answer"]
            assert "nsenter --no-fork" in found["change"]["do"]
        finally:
            process.kill()
    with child("crowd", "1") as running:
        running.said()
        assert why(running.pid, "--message", "ENOMEM")[1]["binds"] == []


# -- memory, files, namespaces, filters --------------------------------------------------------------------------------


@contextlib.contextmanager
def memory_limited(most):
    """A cgroup with a limit on memory in which nobody is killed for want of it; v1's can do that."""
    where = cgroup.mounts().v1.get("memory")
    if not where:
        pytest.skip("no memory controller of v1 here")
    with inside(f"{where}/pidwarden-why-{os.getpid()}") as directory:
        assert cgroup.put(f"{directory}/memory.limit_in_bytes", str(most))
        assert cgroup.put(f"{directory}/memory.oom_control", "1")
        yield directory


def test_memory_of_a_cgroup_that_is_out(why):
    with memory_limited(16 << 20) as directory, child("full", enter=into(directory)) as running:
        running.said()
        running.said()
        code, answer = why(running.pid)
        full = binding(answer)
        assert (code, full["kind"], full["unit"], answer["error"]) == (1, "memory-cgroup", "bytes", "ENOMEM")
        assert full["evidence"].startswith("failcnt ")
        assert fork_error(running) == errno.ENOMEM
        shell(full["change"]["do"])
        assert why(running.pid)[1]["binds"] == []
        assert fork_error(running) == 0


def test_open_files_are_looked_at_for_a_line_that_speaks_of_them(why):
    def enter():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))

    said = "bash: pipe error: Too many open files"
    with child("failing", "0", enter=enter) as few:
        few.process.wait()  # its pipes do not fit
        assert few.process.returncode == 1
    with child("crowd", "0") as running:
        running.said()
        process = running.process
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, 4096))
        code, answer = why(process.pid, "--message", said)
        full = next(limit for limit in answer["limits"] if limit["binds"])
        assert (code, full["kind"], full["used"], full["allowed"]) == (1, "open-files", 3, 3)
        shell(full["change"]["do"]) if shutil.which("prlimit") else resource.prlimit(
            process.pid, resource.RLIMIT_NOFILE, (67, 4096)
        )
        assert why(process.pid, "--message", said)[0] == 0
        _code, answer = why(process.pid, "--message", "socket: Too many open files in system")
        (all_,) = [limit for limit in answer["limits"] if limit["kind"] == "file-max"]
        assert all_["allowed"] == procfs.read_int("/proc/sys/fs/file-max")


NO_NETS = """
import errno, os, sys
from pidwarden.cli import why_look
from pidwarden.cli.main import main
import ctypes
why_look._BETWEEN_SECONDS = 0.01
libc = ctypes.CDLL(None, use_errno=True)
def tried():
    return errno.errorcode.get(ctypes.get_errno()) if libc.unshare(0x40000000) else "made"
def most(number):
    with open("/proc/sys/user/max_net_namespaces", "w") as file:
        file.write(number)
    return main(["why", f"pid:{os.getpid()}", "--no-guard", "--message", "unshare: No space left on device"])
code = most("0"), tried(), most("10"), tried()
print(*code)
"""


def test_namespaces_that_a_user_may_not_make_any_more():
    try_it = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*try_it, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        [*try_it, sys.executable, "-c", NO_NETS], capture_output=True, text=True, timeout=60, check=True
    )
    assert "max_net_namespaces of uid 0 is reached, 0 of 0 used" in done.stdout.splitlines()[0]
    assert "do      sysctl -w user.max_net_namespaces=16" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 ENOSPC 0 made"


def test_a_filter_that_may_refuse_is_named_where_no_limit_does(why):
    code = (
        "import ctypes, struct; libc = ctypes.CDLL(None); libc.prctl(38, 1, 0, 0, 0);"
        "b = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7FFF0000));"
        "libc.prctl(22, 2, struct.pack('HxxxxxxP', 1, ctypes.addressof(b)), 0, 0); print('on', flush=True); input()"
    )
    said = "clone: Operation not permitted"
    with start([sys.executable, "-I", "-S", "-c", code], lambda: None, stdin=-1, stdout=-1, text=True) as process:
        try:
            assert process.stdout.readline() == "on\n"
            answer = why(process.pid, "--message", said)[1]
            assert answer["message"]["can_be"] == []
            assert any(note.startswith(f"process {process.pid} is under a seccomp filter") for note in answer["notes"])
        finally:
            process.kill()
    with child("crowd", "1") as running:
        running.said()
        assert not any("seccomp" in note for note in why(running.pid, "--message", said)[1]["notes"])


# -- the command -------------------------------------------------------------------------------------------------------


def test_without_a_selector_it_is_about_the_shell_that_calls():
    done = pidwarden_cli("why", "--no-guard", prefix=["sh", "-c", '"$@"; exit $?', "shell"])
    assert done.returncode in (0, 1)
    assert " (sh) of " in done.stdout.splitlines()[1]


def test_it_looks_again_and_the_rate_is_that_of_all_the_time():
    command = [sys.executable, "-m", "pidwarden", "why", f"pid:{os.getpid()}", "--watch", "0.1", "--json", "--no-guard"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            seen = [json.loads(process.stdout.readline())["limits"][0]["seen_seconds"] for _n in range(2)]
            assert seen[1] > seen[0] > 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pid:1", "--user", "root"], 2, "type one of"),
        (["--cgroup", "here"], 2, "starts with a slash"),
        (["--cgroup", "/no\x1bsuch"], 1, "there is no such cgroup"),
        (["--user", "no-such-user"], 2, "there is no user"),
        (["family:7", "--no-guard"], 1, "families are known only while a guard runs"),
    ],
)
def test_what_cannot_be_asked(arguments, code, said, capsys):
    assert main(["why", *arguments]) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "\x1b" not in shown.err
    assert not shown.out


def test_a_process_that_is_gone(capsys):
    assert main(["why", str(gone_pid())]) == 1
    assert "it is gone" in capsys.readouterr().err


def test_a_family_is_asked_about_by_its_number():
    run_dir = f"/run/pidwarden-why-{os.getpid()}"
    with guard(run_dir, only=os.getpid()), sleeper() as pid:

        def number():
            done = pidwarden_cli("ps", f"pid:{pid}", "-o", "pid,family", "--run-dir", run_dir, "--json")
            return [p["family"] for p in json.loads(done.stdout)["processes"] if p["pid"] == pid]

        (family,) = until(number, "its family")
        done = pidwarden_cli("why", f"family:{family}", "--run-dir", run_dir)
        assert done.stdout.splitlines()[1] == f"for family:{family} (1 process)"
        assert f" in process {pid}" in done.stdout
        done = pidwarden_cli("why", f"family:{family + 10**9}", "--run-dir", run_dir)
        assert "no such process lives" in one_sentence(done, 1)


def test_a_line_that_is_not_known_is_said_to_be_so(why):
    _code, lines = why("--message", "it \x1b[2J does not work", text=True)
    assert lines[-1].startswith("--message: nothing in it is known; what can be given is an error's name")
    assert all(line.isprintable() for line in lines)
