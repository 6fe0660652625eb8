"""`pidwarden guard --user`: an ordinary user's guard over his own processes, without root and without a gate."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from guardkit import DEADLINE, IN_GUEST, members, pen
from kit import stat_of, until
from sourcekit import (
    OF_A_USER,
    UID,
    as_user,
    become_user,
    is_unhurt,
    public_directory,
    public_prop,
    python,
    user_guard,
    why_no_events,
)
from test_guard_rules import lesson, of, wait, zombies_of

from pidwarden.cli.where import user_run_dir
from pidwarden.guard.instance import is_private
from pidwarden.kernel import procfs

pytestmark = pytest.mark.root
CAP = 1000 if IN_GUEST else 2000  # where a processor is emulated, more that spin keep the guard from looking
RUN_DIR = f"/tmp/pidwarden-{UID}"
_CLONE_NEWNS, _MS_REC_PRIVATE = 0x20000, 0x4000 | 0x40000


@pytest.fixture(autouse=True)
def _nobody_left(request):
    """Whoever is dead counts against a user's limit until he is reaped. What root hears, the user may not."""
    if request.node.get_closest_marker("connector") and (why := why_no_events()):
        assert "connector" not in os.environ.get("PIDWARDEN_REQUIRE", "").split(","), why
        pytest.skip(why)
    yield
    until(lambda: not [p for p in os.listdir("/proc") if p.isdecimal() and procfs.owner(int(p)) == UID], "the end")


@pytest.fixture
def settings():
    with public_directory() as directory:
        path = directory / "pidwarden.toml"
        path.write_text("kill_timeout = 50.0\n")
        path.chmod(0o644)
        yield ["--config", str(path)]


@contextlib.contextmanager
def users(made, *argv, session=True, group=False):
    """A process of the user's, in the pen; `group`: all of its process group ends with it."""

    def enter():
        if made:
            made.enter()
        become_user()

    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, preexec_fn=enter, cwd="/", start_new_session=session, **quiet)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
        if made:
            made.kill()
        process.wait()


@pytest.fixture
def prop():
    with public_directory() as directory:
        yield public_prop("bomb", directory)


def contained(running, made, root):
    running.wait("killed")
    until(lambda: root.poll() is not None and not members(made), f"the pen to be empty: {running.said()}", DEADLINE)
    assert not [e for e in running.events("killed") if e["survivors"]]
    assert running.events("verdict")[-1]["verdict"] == "bomb"  # in doubt at first, if the guard hardly got to run


@pytest.mark.parametrize("shape", ["tight", "setsid"])
@pytest.mark.parametrize("name", OF_A_USER)
def test_a_bomb_of_the_users_is_killed_to_the_last_and_his_other_processes_live(name, shape, settings, prop):
    with users(None, "/bin/sleep", "1000") as job, user_guard("--source", name, *settings) as running, pen(CAP) as made:
        with users(made, prop, shape) as root:
            contained(running, made, root)
            print(f"{name} --user {shape}: peak {made.peak()}")
        assert is_unhurt(job)
        assert running.process.poll() is None


@pytest.mark.connector
@pytest.mark.parametrize("shape", ["chain", "signals"])
def test_where_forks_are_announced_even_those_who_do_not_stand_still(shape, settings, prop):
    with user_guard("--source", "connector", *settings) as running, pen(CAP) as made:
        with users(made, prop, shape) as root:
            contained(running, made, root)


@pytest.mark.connector
def test_who_shares_the_bombs_process_group_lives(settings, prop):
    """The group is not the family's alone: nobody may signal it as a whole."""
    with user_guard("--source", "connector", *settings) as running, pen(CAP) as made:
        with (
            users(None, "/bin/sleep", "1000", session=False) as beside,
            users(made, prop, "tight", session=False) as root,
        ):
            assert os.getpgid(beside.pid) == os.getpgid(root.pid)
            contained(running, made, root)
            assert is_unhurt(beside)


def _hide():
    """A mount namespace of its own, whose /proc shows nobody the processes of others."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0
    assert libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2") == 0


@pytest.mark.parametrize("name", OF_A_USER)
def test_with_hidepid(name, settings, prop):
    with user_guard("--source", name, *settings, before=_hide) as running, pen(CAP) as made:
        with users(made, prop, "tight") as root:
            contained(running, made, root)


@pytest.mark.connector
def test_when_the_user_may_start_no_more_processes(settings, prop):
    """RLIMIT_NPROC is used up by the bomb: the guard starts none."""

    def limit():
        resource.setrlimit(resource.RLIMIT_NPROC, (900, 900))

    with user_guard(*settings, "--hold-at", "700", before=limit) as running, pen(CAP) as made:

        def enter():
            limit()
            made.enter()
            become_user()

        root = subprocess.Popen([prop, "tight"], preexec_fn=enter, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            contained(running, made, root)
            assert made.peak() <= 901
        finally:
            made.kill()
            root.wait()


@pytest.mark.connector
def test_status_finds_it_and_a_held_bomb_can_be_released_and_killed(settings, prop):
    with user_guard("--mode", "hold", *settings) as running, pen(CAP) as made, users(made, prop, "tight") as root:
        family = running.wait("waiting")["family"]
        status = as_user("status")
        assert f"HELD    family {family}" in status.stdout
        assert "process connector" in status.stdout
        assert "not promised" in status.stdout
        until(lambda: all(stat_of(p).state == "T" for p in members(made)), "everybody to be stopped")
        assert "bomb" in as_user("ps").stdout
        assert as_user("kill", str(family)).returncode == 0
        until(lambda: root.poll() is not None and not members(made), "the pen to be empty", DEADLINE)


def typed(text):
    """By the user's shell."""
    subprocess.run(["/bin/sh", "-c", text], check=True, preexec_fn=become_user, cwd="/", timeout=20)


def answered(command):
    """The last answer to a command, once it is there."""

    def look():
        with open(f"{RUN_DIR}/answer", encoding="ascii") as file:
            return [line.split(f" {command}: ", 1)[1] for line in file if f" {command}: " in line]

    return until(look, f"the answer to {command}")[-1]


@pytest.mark.connector
def test_a_held_bomb_can_be_killed_by_the_control_file(settings, prop):
    with user_guard("--mode", "hold", *settings) as running, pen(CAP) as made, users(made, prop, "tight") as root:
        family = running.wait("waiting")["family"]
        typed(f"while read -r l; do case $l in *'to kill it:'*) eval \"${{l#*:}}\" ;; esac; done <{RUN_DIR}/status")
        until(lambda: root.poll() is not None and not members(made), "the pen to be empty", DEADLINE)
        assert " 0 survivors" in answered(f"kill {family}")


@pytest.mark.parametrize("name", OF_A_USER)
def test_what_is_held_by_order_stands_still_and_is_let_go(name, settings):
    with public_directory() as directory, contextlib.ExitStack() as stack:
        entrance = directory / "entrance"  # hidden from the user, as sshd's process for his session is
        shutil.copy(os.path.realpath("/bin/sh"), entrance)
        entrance.chmod(0o711)
        job = directory / "job"
        job.touch()
        job.chmod(0o666)
        stack.enter_context(users(None, str(entrance), "-c", f"/bin/sleep 1000 & echo $! >{job}; wait", group=True))
        pid = int(until(job.read_text, "the job"))
        stack.enter_context(user_guard("--source", name, "--mode", "hold", *settings))
        typed(f"echo 'hold pid:{pid}' >{RUN_DIR}/control")
        until(lambda: stat_of(pid).state == "T", f"it to be stopped: {answered(f'hold pid:{pid}')}")
        typed(f"echo 'thaw pid:{pid}' >{RUN_DIR}/control")
        assert "without a gate" in answered(f"thaw pid:{pid}")
        typed(f"echo 'release pid:{pid}' >{RUN_DIR}/control")
        until(lambda: stat_of(pid).state == "S", "it to go on")
        typed(f"echo 'hold pid:{os.getpid()}' >{RUN_DIR}/control")
        assert answered(f"hold pid:{os.getpid()}").startswith("not done: ")


@pytest.mark.connector
def test_who_was_stopped_goes_on_when_the_guard_ends(settings, prop):
    with pen(CAP) as made, users(made, "/bin/sleep", "1000"):
        with user_guard("--mode", "hold", *settings) as running, users(made, prop, "tight"):
            running.wait("waiting")
            running.process.terminate()
            running.process.wait(60)  # a bomb that is let go leaves it little of the processor
            until(lambda: [p for p in members(made) if stat_of(p).state != "T"], "somebody to go on")


RULES = """
[rules]
every = 0.2
[rules.zombies]
mode = "act"
count = 10
up_to = "sigcont"
[rules.orphans]
mode = "warn"
count = 3
age = 0
"""


@pytest.mark.parametrize("name", OF_A_USER)
def test_its_rules_find_what_the_user_owes_and_lost_and_touch_nobody_elses(name, settings):
    with open(settings[1], "a") as file:
        file.write(RULES)
    own = {"python": python(), "preexec_fn": become_user, "cwd": "/"}
    with user_guard("--source", name, *settings) as running, lesson("stopped-parent") as roots:
        with lesson("stopped-parent", **own) as parent:
            began = wait(running, "zombies", "begins", parent.pid)
            assert (began["count"], began["cause"]) == (12, "parent-stopped")
            wait(running, "zombies", "over", parent.pid)
            assert of(running, parent.pid, "remedy")[-1]["steps"] == ["sigcont"]
            assert (zombies_of(parent.pid), parent.state) == (0, "S")
        with lesson("orphan", **own) as job:
            found = wait(running, "orphans", "begins")
            assert (found["count"], found["oldest"]["pid"]) == (3, job.about)
        assert (zombies_of(roots.pid), roots.state) == (12, "T")
        assert not of(running, roots.pid)


def test_root_is_told_to_drop_user_and_others_are_told_of_it():
    command = [sys.executable, "-m", "pidwarden", "guard", "--user"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 2
    assert "drop `--user`" in found.stderr
    found = as_user("guard")
    assert found.returncode == 3
    assert "pidwarden guard --user" in found.stderr
    assert as_user("guard", "--user", "--source", "bpf").returncode == 2
    assert "guard --user" in as_user("status").stdout


# -- the run directory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["of another", "a link", "open to others"])
def test_no_guard_starts_in_a_run_directory_that_is_not_the_users_own(kind):
    with public_directory() as directory:
        _refused(kind, directory)


def _refused(kind, tmp_path):
    place = tmp_path / "run"
    place.mkdir(mode=0o700)
    if kind == "a link":
        os.chown(place, UID, UID)
        (tmp_path / "link").symlink_to(place)
        place = tmp_path / "link"
    elif kind == "open to others":
        os.chown(place, UID, UID)
        place.chmod(0o750)
    found = as_user("guard", "--user", "--run-dir", str(place))
    assert found.returncode == 3
    assert str(place) in found.stderr
    assert not list(tmp_path.rglob("lock"))


def test_where_an_ordinary_users_guard_is(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid)
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert user_run_dir() == f"{tmp_path}/pidwarden"
    tmp_path.chmod(0o755)
    assert user_run_dir() == f"/tmp/pidwarden-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert user_run_dir() == f"/tmp/pidwarden-{os.geteuid()}"
    assert not is_private(str(tmp_path / "nothing"))


def test_nothing_is_left_behind(settings):
    with user_guard(*settings):
        assert is_private_of_user()
    assert not os.path.exists(RUN_DIR)


def is_private_of_user() -> bool:
    found = os.lstat(RUN_DIR)
    return (found.st_uid, found.st_mode & 0o777) == (UID, 0o700)
