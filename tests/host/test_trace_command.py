"""`pidwarden trace` as it is typed: commands, trees that run already, counts, files, secrets, rights."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import nobody_cli, one_sentence, pidwarden_cli
from kit import child, prop, until

from pidwarden.trace import abi, groups, numbers

pytestmark = [pytest.mark.root, pytest.mark.bpf]
CANARY = "Xk7CANARY9q"
# Newer than strace 6.1, or of a group that it leaves them out of.
_NEWER = (
    "fchmodat2 file_getattr file_setattr getxattrat listxattrat open_tree_attr removexattrat setxattrat cachestat "
    "close_range"
)
NEWER = set(_NEWER.split())


def trace(*arguments, **options):
    return pidwarden_cli("trace", *arguments, **options)


@contextlib.contextmanager
def tracing(*arguments):
    """A trace that is under way; said on standard error: whom it traces."""
    argv = [sys.executable, "-m", "pidwarden", "trace", "--no-guard", *arguments]
    running = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "traces" in running.stderr.readline()
        yield running
    finally:
        running.kill()
        running.communicate()


@contextlib.contextmanager
def family():
    """A shell that waits for a child it had before, who forks when it is told to, as the shell does then."""
    script = "exec 3<&0; { read line; /bin/true; exit 0; } <&3 & wait; /bin/true; exit 0"
    shell = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    try:
        until(lambda: Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text(), "its child")
        yield shell
    finally:
        shell.stdin.close()
        shell.wait(20)


def test_a_command_is_shown_as_strace_shows_it_and_its_exit_code_is_ours():
    done = trace("-T", "--", "sh", "-c", "/bin/true; exit 7")
    assert done.returncode == 7
    lines = done.stderr.splitlines()
    assert re.fullmatch(
        r'execve\("\S+", \["sh", "-c", "/bin/true; exit 7"\], 0x\w+ /\* \d+ vars \*/\) = 0 <\d\.\d{6}>', lines[0]
    )
    assert any(re.match(r"\[pid +\d+\] openat\(AT_FDCWD, ", line) for line in lines)
    assert any(line.startswith("--- SIGCHLD {si_signo=SIGCHLD, ") for line in lines)
    assert lines[-2:] == ["exit_group(7)".ljust(39) + " = ?", "+++ exited with 7 +++"]
    assert not done.stdout


def test_a_command_that_is_killed_kills_us_alike_and_one_that_is_none_is_said():
    done = trace("-q", "-e", "%signal", "--", "sh", "-c", "kill -TERM $$")
    assert done.returncode == -signal.SIGTERM
    assert done.stderr.splitlines()[-1] == "+++ killed by SIGTERM +++"
    assert "no such program" in one_sentence(trace("--", "/nonexistent"), 1)
    assert "that is a folder" in one_sentence(trace("--", "/tmp"), 1)
    assert "may not be executed" in one_sentence(trace("--", "/etc/passwd"), 1)


def test_a_tree_that_runs_already_and_what_it_forks_later():
    with family() as shell, tracing(f"tree:{shell.pid}", "-e", "%process,read") as running:
        said = [running.stderr.readline() for _thread in range(2)]
        assert any(" sh sits in read(0, " in line for line in said)
        assert any(line.startswith(f"pidwarden trace: {shell.pid} sh sits in ") for line in said)
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        out, err = running.communicate(timeout=20)  # it ends as the family has
    assert running.returncode == 0, err
    lines = out.splitlines()
    assert sum('execve("/bin/true", ["/bin/true"]' in line for line in lines) == 2
    assert sum("+++ exited with 0 +++" in line for line in lines) == 4
    assert re.match(r"\[pid +\d+\] read\(0,  <unfinished \.\.\.>", lines[0])
    assert any(re.match(r"\[pid +\d+\] <\.\.\. read resumed>", line) for line in lines)


def test_interrupted_it_prints_its_counts_and_lets_everybody_go_on():
    with child("calls", "many", "3000") as working:
        working.said()
        with tracing("-c", "--json", "--by-process", "-p", str(working.pid)) as running:
            working.tell()
            working.said()
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=20)
        assert running.returncode == 0, err
        assert working.process.poll() is None
    found = json.loads(out)
    assert {row["call"]: row["calls"] for row in found["calls"]}["getppid"] == 3000
    assert [p["pid"] for p in found["processes"]] == [working.pid]
    assert sum(bucket["calls"] for bucket in found["total"]["histogram"]) >= 3000


def test_a_secret_is_in_no_output_unless_asked_for(tmp_path):
    script = (
        f": > {tmp_path}/token-$C; /bin/echo --password $C; /bin/true --token=$C; "
        "printf 'Authorization: Basic %s\\r\\n\\r\\nuser=x&pass=%s' $C $C; printf '{\"password\":\"%s\"}' $C"
    )
    environment = os.environ | {"C": CANARY, "MYSQL_PWD": CANARY}

    def outputs(*options):
        file = tmp_path / "trace"
        file.touch()
        file.chmod(0o644)
        done = trace(*options, "-o", str(file), "--", "sh", "-c", script, env=environment)
        assert done.returncode == 0, done.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        return file.read_text() + done.stderr

    shown = outputs("--data", "-s", "200")
    assert CANARY not in shown
    assert "/token-<redacted>" in shown
    assert '"--password", "<redacted>"' in shown
    assert r"Authorization: *****" in shown
    assert CANARY not in outputs("--data", "-s", "200", "--json")
    unredacted = outputs("--data", "-s", "200", "--no-redact")
    assert unredacted.count(CANARY) > 4
    assert "MYSQL_PWD" not in unredacted  # the environment is never captured
    assert "passwords, tokens and keys are shown" in unredacted


def test_files_are_rotated_and_nobody_elses_is_touched(tmp_path):
    file = tmp_path / "trace"
    done = trace("-q", "-o", str(file), "--rotate-size", "4K", "--rotate-keep", "2", "--", "ls", "-lR", "/etc/default")
    assert done.returncode == 0, done.stderr
    sizes = [path.stat().st_size for path in (file, tmp_path / "trace.1", tmp_path / "trace.2")]
    assert all(0 < size <= 4096 for size in sizes), sizes
    assert not (tmp_path / "trace.3").exists()
    assert all(re.match(r"\d+ +", line) for line in file.read_text().splitlines())
    link = tmp_path / "link"
    link.symlink_to(file)
    assert "symbolic link" in one_sentence(trace("-o", str(link), "--", "true"), 1)
    os.chown(file, 65534, -1)
    assert "belongs to uid 65534" in one_sentence(trace("-o", str(file), "--", "true"), 1)


def test_calls_are_chosen_by_result_and_those_denied_by_seccomp_say_so():
    done = trace("-q", "-e", "openat,close", "-e", "errno=ENOENT", "--", "ls", "/nonexistent")
    assert done.returncode == 2
    calls = [line for line in done.stderr.splitlines() if "(" in line and line[0] != "l"]
    assert calls
    assert all("ENOENT" in line and "unfinished" not in line for line in calls)
    denied = trace("-q", "-e", "getpid,socket", "--", prop("everycall"))
    assert denied.returncode == 0
    lines = [line for line in denied.stderr.splitlines() if line.startswith(("getpid", "socket"))]
    assert [line.split("(")[0] for line in lines] == ["getpid", "socket"]
    assert all(line.endswith("<never entered: denied, as by seccomp>") for line in lines)


def test_descriptors_have_names_and_who_sits_for_long_has_a_stack():
    script = "cat /etc/hostname; sleep 0.5"
    done = trace("-q", "-y", "-k", "-e", "read,clock_nanosleep", "--", "sh", "-c", script)
    assert done.returncode == 0
    assert re.search(r"read\(3</etc/hostname>, ", done.stderr)
    assert re.search(r"\[pid +\d+\] --- sits in clock_nanosleep for 0\.\d s: hrtimer_nanosleep < ", done.stderr)
    assert "openat(" not in done.stderr


def test_limits_end_a_trace():
    with child("calls", "many", "3000") as working:
        working.said()
        with tracing("--limit", "5", str(working.pid)) as running:
            working.tell()
            out, _err = running.communicate(timeout=20)
        assert running.returncode == 0
        assert out.count(" = ") == 5
    assert trace("-q", "--duration", "0.2", str(os.getpid())).returncode == 0


def test_without_rights_it_says_what_is_in_the_way_and_shows_what_it_may():
    done = nobody_cli("trace", "--no-guard", "1")
    assert done.returncode == 3
    assert "CAP_BPF" in done.stderr
    assert "CAP_PERFMON" in done.stderr
    assert "root are not yours" in done.stderr
    assert "Traceback" not in done.stderr
    refused = nobody_cli("trace", "--", "true")
    assert refused.returncode == 3
    assert "the command was not started" in refused.stderr


def test_in_a_container_it_says_so_and_starts_nothing(tmp_path):
    prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    done = trace("--", "touch", str(tmp_path / "started"), prefix=prefix)
    assert (done.returncode, done.stdout) == (3, "")
    assert "PID namespace of a container" in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_snapshot_shows_what_each_thread_sits_in():
    with child("calls", "many", "1") as sleeping:
        sleeping.said()
        found = json.loads(trace("--snapshot", "--json", str(sleeping.pid)).stdout)
    assert [(t["pid"], t["comm"]) for t in found["threads"]] == [(sleeping.pid, "calls")]
    assert found["threads"][0]["call"].startswith("read(0, ")
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert "has ended and was not waited for" in trace("--snapshot", str(ended.pid)).stdout


def test_without_a_standard_output_no_other_file_is_written_to():
    command = f"exec {sys.executable} -m pidwarden trace --duration 1 $$ >&-"
    done = subprocess.run(["sh", "-c", f"({command})"], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "pidwarden trace: standard output is closed; type -o FILE\n")


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace to compare with")
@pytest.mark.parametrize(
    "group", ["file", "desc", "process", "network", "signal", "memory", "ipc", "creds", "%stat", "clock"]
)
def test_groups_are_those_of_strace(group, calls):
    done = subprocess.run(
        ["strace", "-e", f"trace=%{group}", "-e", "signal=none", prop("everycall")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    theirs = set(re.findall(r"^([a-z]\w*)\(", done.stderr, re.MULTILINE)) & calls.keys()
    ours = groups.members(f"%{group}", calls)
    assert theirs - ours == set()
    assert (ours - theirs) - NEWER == set()


@pytest.fixture(scope="module")
def calls():
    from argparse import Namespace  # noqa: PLC0415

    from pidwarden.cli.trace_backend import Backend  # noqa: PLC0415

    own = set(numbers.CALLS[os.uname().machine][abi.NATIVE].values())
    return {name: kinds for name, kinds in Backend(Namespace(s=32)).calls().items() if name in own}
