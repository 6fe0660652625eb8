"""What error lines of real programs mean: the error, what was tried, whose line it is; and which limits can do that."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.diagnose import message
from pidwarden.diagnose.limits import Kind
from pidwarden.diagnose.message import Call, parse

FORK, THREAD, EXEC, NAMESPACE, OPEN = Call
AGAIN = "Resource temporarily unavailable"
LINES = [
    (f"fork: retry: {AGAIN}", "EAGAIN", FORK, "bash"),
    (f"-bash: fork: {AGAIN}", "EAGAIN", FORK, "bash"),
    ("-bash: fork: retry: No child processes", "EAGAIN", FORK, "bash"),
    ("bash: fork: Cannot allocate memory", "ENOMEM", FORK, "bash"),
    ("sh: 1: Cannot fork", "EAGAIN", FORK, "dash"),
    ("/bin/sh: 12: Cannot fork", "EAGAIN", FORK, "dash"),
    ("zsh: fork failed: resource temporarily unavailable", "EAGAIN", FORK, "zsh"),
    (f"ssh: fork failed: {AGAIN}", "EAGAIN", FORK, ""),
    ("No more processes.", "EAGAIN", FORK, "csh"),
    ("/bin/sh: can't fork: Out of memory", "ENOMEM", FORK, "busybox"),
    (f"BlockingIOError: [Errno 11] {AGAIN}", "EAGAIN", FORK, "Python"),
    ("OSError: [Errno 12] Cannot allocate memory", "ENOMEM", FORK, ""),
    ("RuntimeError: can't start new thread", "EAGAIN", THREAD, "Python"),
    ("java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits "
     "reached", "EAGAIN", THREAD, "Java"),
    ('[warning][os,thread] Failed to start thread "GC Thread#1" - pthread_create failed (EAGAIN) for attributes: '
     "stacksize: 1024k, guardsize: 4k, detached.", "EAGAIN", THREAD, "Java"),
    ('java.io.IOException: Cannot run program "ls": error=12, Cannot allocate memory', "ENOMEM", FORK, "Java"),
    ("fatal error: newosproc", "EAGAIN", THREAD, "Go"),
    ("runtime: may need to increase max user processes (ulimit -u)", "EAGAIN", THREAD, "Go"),
    ("Error: EAGAIN: resource temporarily unavailable, read", "EAGAIN", OPEN, "Node.js"),
    ("BlockingIOError: [Errno 11] write could not complete without blocking", "EAGAIN", OPEN, "Python"),
    ("Can't create a new thread (errno 11); if you are not out of available memory", "EAGAIN", THREAD, "MySQL"),
    ("Can't create thread to handle new connection(errno= 11)", "EAGAIN", THREAD, "MySQL"),
    (f"terminate called after throwing 'std::system_error' what():  {AGAIN}", "EAGAIN", THREAD, "C++"),
    (f"libgomp: Thread creation failed: {AGAIN}", "EAGAIN", THREAD, "OpenMP"),
    (f"qemu: qemu_thread_create: {AGAIN}", "EAGAIN", THREAD, ""),
    (f"setuid: {AGAIN}", "EAGAIN", EXEC, ""),
    ("systemd[1]: foo.service: Failed to run 'start' task: Cannot allocate memory", "ENOMEM", FORK, "systemd"),
    ("eagain", "EAGAIN", FORK, ""),
    ("fork/exec /bin/x: resource temporarily unavailable", "EAGAIN", FORK, "Go"),
    ("fork/exec /usr/bin/git: cannot allocate memory", "ENOMEM", FORK, "Go"),
    (f"runtime/cgo: pthread_create failed: {AGAIN}", "EAGAIN", THREAD, "Go"),
    ("runtime: failed to create new OS thread (have 12 already; errno=11)", "EAGAIN", THREAD, "Go"),
    ("Error: spawn EAGAIN", "EAGAIN", FORK, "Node.js"),
    ("Error: spawn /usr/bin/git ENOMEM", "ENOMEM", FORK, "Node.js"),
    (f"sshd[812]: error: fork: {AGAIN}", "EAGAIN", FORK, "sshd"),
    ("sshd[812]: fatal: fork of unprivileged child failed", "EAGAIN", FORK, "sshd"),
    ("cron[77]: (CRON) error (can't fork)", "EAGAIN", FORK, "cron"),
    ("systemd[1]: foo.service: Failed to fork: Cannot allocate memory", "ENOMEM", FORK, "systemd"),
    (f"systemd[1]: Failed to spawn executor: {AGAIN}", "EAGAIN", FORK, "systemd"),
    ("error: cannot fork() for index-pack: Cannot allocate memory", "ENOMEM", FORK, "git"),
    (f"fatal: unable to create threaded lstat: {AGAIN}", "EAGAIN", THREAD, "git"),
    (f"make: vfork: {AGAIN}", "EAGAIN", FORK, "make"),
    (f"make[2]: fork: {AGAIN}", "EAGAIN", FORK, "make"),
    ("docker: Error response from daemon: OCI runtime create failed: unable to start container process: fork/exec "
     "/proc/self/exe: resource temporarily unavailable: unknown.", "EAGAIN", FORK, "a container runtime"),
    (f"OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: {AGAIN}", "EAGAIN", THREAD, "OpenBLAS"),
    (f"ThreadError: can't create Thread: {AGAIN}", "EAGAIN", THREAD, "Ruby"),
    (f'failed to spawn thread: Os {{ code: 11, kind: WouldBlock, message: "{AGAIN}" }}', "EAGAIN", THREAD, "Rust"),
    (f"su: failed to execute /bin/bash: {AGAIN}", "EAGAIN", EXEC, ""),
    ("bash: /bin/ls: Argument list too long", "E2BIG", EXEC, ""),
    ("bash: pipe error: Too many open files", "EMFILE", OPEN, ""),
    ("accept: Too many open files in system", "ENFILE", OPEN, ""),
    ("kernel: VFS: file-max limit 1024 reached", "ENFILE", OPEN, "the kernel"),
    ("unshare: unshare failed: No space left on device", "ENOSPC", NAMESPACE, "unshare"),
    ("bwrap: Creating new namespace failed: No space left on device", "ENOSPC", NAMESPACE, "bubblewrap"),
    ("clone: No space left on device", "ENOSPC", NAMESPACE, ""),
    ("cp: error writing 'x': No space left on device", "ENOSPC", OPEN, ""),
    ("clone: Operation not permitted", "EPERM", FORK, ""),
    ("perl: Can't fork: Resource temporarily unavailable at x line 3.", "EAGAIN", FORK, ""),
    ("EAGAIN", "EAGAIN", FORK, ""),
    ("11", "EAGAIN", FORK, ""),
    ("-12", "ENOMEM", FORK, ""),
    ("errno 24", "EMFILE", OPEN, ""),
    ("ENOSPC", "ENOSPC", NAMESPACE, ""),
    ("No space left on device", "ENOSPC", NAMESPACE, ""),
    ("EWOULDBLOCK", "EAGAIN", FORK, ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "error", "call", "program"), LINES)
def test_lines_of_real_programs(line, error, call, program):
    found = parse(line)
    assert (found.error, found.call, found.program) == (error, call, program)


@pytest.mark.parametrize(
    "line", ["", "it took 11 seconds", "hello", "EVERYTHING is fine", "404 not found", "exit 1", "99"]
)
def test_what_says_nothing(line):
    assert parse(line) is None


def test_the_kernel_names_the_cgroup():
    found = parse("[ 12.3] cgroup: fork rejected by pids controller in /user.slice/user-1000.slice/session-2.scope")
    assert (found.cgroup, found.error, found.guessed) == (
        "/user.slice/user-1000.slice/session-2.scope",
        "EAGAIN",
        False,
    )


def test_a_line_that_names_no_error_may_be_either():
    found = parse("sh: 1: Cannot fork")
    assert found.guessed
    kinds = message.meaning(found).kinds
    assert {Kind.NPROC, Kind.PIDS, Kind.MEMORY, Kind.DEAD_INIT} <= set(kinds)
    assert not parse(f"sh: 1: Cannot fork: {AGAIN}").guessed


def test_memory_is_not_blamed_for_a_limit_on_tasks_nor_the_other_way_round():
    tasks, memory = (set(message.meaning(parse(line)).kinds) for line in ("EAGAIN", "ENOMEM"))
    assert Kind.MEMORY not in tasks
    assert Kind.PIDS not in memory
    assert Kind.DEAD_INIT in memory
    assert message.meaning(parse("clone: Operation not permitted")).kinds == ()


def test_for_a_new_program_only_the_limit_of_the_user_counts():
    assert message.meaning(parse(f"su: failed to execute /bin/bash: {AGAIN}")).kinds == (Kind.NPROC,)


@pytest.mark.parametrize(("number", "name"), sorted(message._NUMBERS.items()))
def test_the_numbers_are_those_of_the_machine(number, name):
    assert errno.errorcode[number] == name
    assert parse(str(number)).error == name


@given(st.text() | st.sampled_from([line for line, *_ in LINES]).map(lambda line: "\x1b[2J" + line + "\n\0"))
def test_any_line_is_understood_or_not_and_nothing_else(line):
    found = parse(line)
    assert found is None or message.meaning(found).text


def test_of_a_line_without_end_the_beginning_counts():
    assert parse("x" * 10_000_000 + " EAGAIN") is None
    assert parse("EAGAIN" + " x" * 5_000_000).error == "EAGAIN"


def test_what_errors_are_called_in_the_language_of_the_reader():
    line = "bash: fork: Nicht genügend Hauptspeicher verfügbar"
    found = parse(line, {"nicht genügend hauptspeicher verfügbar": "ENOMEM"})
    assert found == message.Message("ENOMEM", FORK, "bash")
    assert parse(line) == message.Message("EAGAIN", FORK, "bash", guessed=True)


def test_the_path_of_a_cgroup_may_have_spaces():
    found = parse("[12.3] cgroup: fork rejected by pids controller in /a b/c d\n")
    assert found is not None
    assert found.cgroup == "/a b/c d"
