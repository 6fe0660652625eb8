"""Bad input, missing rights, missing abilities: the exit code, one sentence, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from cli_kit import forget_copy, gone_pid, guard, left_behind, nobody_cli, one_sentence, pidwarden_cli, sleeper
from kit import until

from pidwarden.guard.control import ask

pytestmark = pytest.mark.root
NAME = f"pidwarden-badinput-{os.getpid()}"
RUN_DIR = f"/run/{NAME}"


@pytest.fixture(autouse=True, scope="module")
def copy():
    yield
    forget_copy()


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert left_behind(NAME) == []


def guard_cli(*arguments, **options):
    """A guard that must not start. Its scope is a process of ours in any case, should it start nevertheless."""
    with sleeper() as pid:
        return pidwarden_cli("guard", "--only", f"pid:{pid}", "--run-dir", RUN_DIR, *arguments, **options)


@pytest.mark.parametrize(
    ("selector", "named"),
    [
        ("pid:abc", "'abc' is not a process id"),
        ("pid:0", "'0' is not a process id"),
        ("pid:-1", "'-1' is not a process id"),
        ("pid:99999999999", "is not a process id"),
        ("pid:", "is not a selector"),
        ("user:", "is not a selector"),
        ("user:nobodyhere", "there is no user 'nobodyhere'"),
        ("cgroup:x", "a cgroup path starts with a slash"),
        ("foo:1", "is not a selector"),
        ("", "'' is not a selector"),
    ],
)
def test_a_malformed_selector(selector, named):
    assert named in one_sentence(guard_cli("--only", selector), 2)


def test_a_selector_of_a_process_that_is_gone():
    assert "there is no such process" in one_sentence(guard_cli("--only", f"pid:{gone_pid()}"), 1)


def test_a_selector_of_a_cgroup_that_is_not_there():
    assert "there is no such cgroup" in one_sentence(guard_cli("--only", "cgroup:/no/such/cgroup"), 1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("# fine\nhold_at =\n", "line 2"),
        ("# fine\n\nhold_att = 5\n", "line 3"),
        ('mode = "kill"\nhold_at = "many"\n', "line 2"),
        ("hold_at = 1\n", "line 1"),
        ('mode = "destroy"\n', "line 1"),
        ('spawners = "/sbin/init"\n', "line 1"),
    ],
    ids=["not-toml", "unknown-key", "wrong-type", "out-of-range", "no-such-choice", "not-a-list"],
)
@pytest.mark.parametrize("command", ["guard", "config"])
def test_a_broken_configuration_is_refused_with_its_line(tmp_path, command, text, named):
    path = tmp_path / "pidwarden.toml"
    path.write_text(text)
    if command == "guard":
        line = one_sentence(guard_cli("--config", str(path)), 2)
    else:
        line = one_sentence(pidwarden_cli("config", "--check", str(path)), 2)
    assert named in line
    assert str(path) in line
    assert "nothing was changed" in line


def test_a_configuration_that_is_not_there(tmp_path):
    missing = tmp_path / "none.toml"
    assert "No such file" in one_sentence(guard_cli("--config", str(missing)), 2)
    assert "No such file" in one_sentence(pidwarden_cli("config", "--check", str(missing)), 2)


def test_a_configuration_that_is_not_text(tmp_path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert str(path) in one_sentence(guard_cli("--config", str(path)), 2)


@pytest.mark.parametrize("value", ["0", "3", "-300", "1000001"])
def test_a_threshold_out_of_range(value):
    assert "hold_at" in one_sentence(guard_cli(f"--hold-at={value}"), 2)


@pytest.mark.parametrize("command", ["release", "kill"])
@pytest.mark.parametrize("family", ["abc", "0", "-1", "1.5", "", "²", "99999999999999999999999"])
def test_a_malformed_family(command, family):
    line = one_sentence(pidwarden_cli(command, "--run-dir", RUN_DIR, "--", family), 2)
    assert "is not the number of a family" in line


@pytest.mark.parametrize("command", ["release", "kill"])
def test_a_decision_without_a_guard_says_what_to_type(command):
    line = one_sentence(pidwarden_cli(command, "--run-dir", RUN_DIR, "7"), 1)
    assert f"no guard is running in {RUN_DIR}" in line
    assert "sudo pidwarden guard" in line


@pytest.mark.bpf
@pytest.mark.parametrize("command", ["release", "kill"])
def test_a_decision_about_a_family_that_is_not_held(command):
    with sleeper() as pid, guard(RUN_DIR, only=pid):
        assert "is not held" in one_sentence(pidwarden_cli(command, "--run-dir", RUN_DIR, "987654"), 1)


@pytest.mark.parametrize("option", [[], ["--detach"]], ids=["guard", "detach"])
def test_an_ordinary_user_cannot_guard(option):
    with sleeper() as pid:
        done = nobody_cli("guard", "--only", f"pid:{pid}", "--run-dir", RUN_DIR, *option)
    assert "sudo pidwarden guard" in one_sentence(done, 3)


@pytest.mark.parametrize("command", ["release", "kill"])
def test_an_ordinary_user_without_a_guard(command):
    assert "no guard is running" in one_sentence(nobody_cli(command, "--run-dir", RUN_DIR, "7"), 1)


@pytest.mark.bpf
@pytest.mark.parametrize("arguments", [["status"], ["release", "7"], ["kill", "7"]], ids=lambda a: a[0])
def test_an_ordinary_user_may_not_ask_the_guard(arguments):
    with sleeper() as pid, guard(RUN_DIR, only=pid):
        line = one_sentence(nobody_cli(*arguments, "--run-dir", RUN_DIR), 3)
    assert "Permission denied; type `sudo pidwarden" in line


def test_an_ordinary_user_may_read_the_sample_and_status_without_a_guard():
    for arguments in (["config"], ["status", "--run-dir", RUN_DIR]):
        done = nobody_cli(*arguments)
        assert (done.returncode, done.stderr) == (0, "")


def test_without_capabilities_root_is_told_what_refused():
    lacking = ("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin")
    line = one_sentence(guard_cli("--source", "bpf", prefix=lacking), 4)
    assert "Operation not permitted" in line
    assert "pidwarden doctor" in line


@pytest.mark.bpf
def test_a_second_guard_of_the_same_scope_is_refused():
    """Both without --only would act on the whole machine, so the first is a lock held by this test."""
    holder = (
        "import fcntl, os, sys; os.makedirs(sys.argv[1], 0o700); f = open(sys.argv[1] + '/lock', 'w');"
        "fcntl.flock(f, fcntl.LOCK_EX); f.write(str(os.getpid())); f.flush(); print('held', flush=True);"
        "sys.stdin.read();"
        "os.unlink(f.name); os.rmdir(sys.argv[1])"
    )
    argv = [sys.executable, "-c", holder, RUN_DIR]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        line = one_sentence(guard_cli("--detach"), 1)
        first.stdin.close()
        first.wait()
    assert f"already running (pid {first.pid}" in line


@pytest.mark.bpf
def test_two_limited_guards_run_beside_each_other_and_leave_nothing():
    with sleeper() as pid, guard(RUN_DIR, only=pid) as first, guard(f"{RUN_DIR}-b", only=pid) as second:
        assert os.path.isdir(first.run_dir)
        assert os.path.isdir(second.run_dir)


@pytest.mark.bpf
def test_a_limited_guard_takes_a_directory_of_its_own_beside_another():
    with sleeper() as pid, guard(RUN_DIR, only=pid):
        argv = [sys.executable, "-m", "pidwarden", "guard", "--only", f"pid:{pid}", "--json", "--run-dir", RUN_DIR]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as second:
            assert '"ready"' in second.stdout.readline()
            until(lambda: ask(f"{RUN_DIR}-{second.pid}", "status"), "its answer")
            second.terminate()
            second.communicate()
        assert second.returncode == 0


@pytest.mark.bpf
def test_a_guard_that_is_stopped_the_moment_it_is_ready_ends_in_order():
    with sleeper() as pid:
        argv = [sys.executable, "-m", "pidwarden", "guard", "--only", f"pid:{pid}", "--json", "--run-dir", RUN_DIR]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert '"ready"' in process.stdout.readline()
            process.terminate()
            process.communicate()
        try:
            assert process.returncode == 0
            assert left_behind(NAME) == []
        finally:
            guard_cli("--detach")
            shutil.rmtree(RUN_DIR, ignore_errors=True)


@pytest.mark.bpf
def test_a_guard_that_ends_leaves_the_pins_of_another():
    """Pins do not keep a bpf file system from being unmounted by the guard that mounted it."""
    with sleeper() as pid, guard(f"{RUN_DIR}-a", only=pid) as first, guard(f"{RUN_DIR}-b", only=pid):
        assert os.path.isdir(f"/sys/fs/bpf/{NAME}-b")
        first.end()
        assert os.path.isdir(f"/sys/fs/bpf/{NAME}-b")


def test_a_run_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    line = one_sentence(guard_cli("--run-dir", f"{tmp_path}/file/run"), 1)
    assert "cannot use the run directory" in line


def test_a_reader_that_goes_away_is_no_error():
    program = 'set -o pipefail; "$0" -m pidwarden config | true; "$0" -m pidwarden status --run-dir "$1" | true'
    argv = ["bash", "-c", program, sys.executable, RUN_DIR]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
