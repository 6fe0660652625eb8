"""`pidwarden reap`: each step of the ladder on a real parent; what was changed for it is as it was afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from cli_kit import NOBODY, forget_copy, guard, left_behind, nobody_cli
from kit import prop, until
from parentkit import a_parent

from pidwarden.act import reap
from pidwarden.cli.main import main
from pidwarden.diagnose.remedies import Rung, Step
from pidwarden.kernel import apart, borrow, cgroup, freezer, procfs
from pidwarden.kernel.snapshot import records_from_proc

pytestmark = pytest.mark.root
borrows = pytest.mark.skipif(borrow.machine() is None, reason="the registers of this processor are not known")
HOSTILE = ") Z 1 (\x1b[3\n\udcff"


@pytest.fixture
def run(capsys):
    """The command, in this process, for one parent: the exit code and what it said."""

    def command(parent, *options):
        capsys.readouterr()
        code = main(["reap", f"pid:{parent.pid}", "--no-guard", *options])
        return code, capsys.readouterr().out

    return command


@pytest.fixture(scope="module", autouse=True)
def _no_copy_is_left():
    yield
    forget_copy()


@pytest.fixture
def parent():
    with a_parent() as made:
        yield made


def owing(parent, count=4):
    assert parent.ask(f"make {count}") == (count, 0)
    return parent


@pytest.mark.parametrize("handler", ["reap-one", "reap-all"])
def test_who_listens_is_told_until_none_is_left(parent, run, handler):
    owing(parent, 9)
    assert parent.ask(handler) == (0, 0)
    code, said = run(parent)
    assert code == 0
    assert "sigchld: 9 → 0" in said
    assert not parent.zombies()


def test_by_itself_it_does_nothing_that_loses_anything(parent, run):
    owing(parent)
    before = parent.state()
    code, said = run(parent)
    assert code == 1
    assert f"next: pidwarden reap pid:{parent.pid} --inject" in said
    assert "to fix in parent: " in said
    assert (len(parent.zombies()), parent.state()) == (4, before)


def test_a_dry_run_says_the_plan_and_does_nothing(parent, run):
    owing(parent)
    assert parent.ask("reap-all") == (0, 0)
    code, said = run(parent, "--dry-run", "--up-to", "sigterm")
    assert code == 0
    assert "  sigchld: " in said
    assert "  sigterm: " in said
    assert "  not done, only with --up-to sigkill: " in said
    assert "  not done, only with --inject: " in said
    assert len(parent.zombies()) == 4
    assert json.loads(run(parent, "--dry-run", "--json")[1])["dry_run"]


def test_nobody_owes_anything(parent, run):
    assert run(parent) == (0, "no zombies\n")


@borrows
def test_injection_clears_them_and_says_what_it_took():
    with a_parent(HOSTILE) as parent:
        owing(parent)
        argv = [sys.executable, "-m", "pidwarden", "reap", f"pid:{parent.pid}", "--no-guard", "--inject"]
        keys = {(k.tgid, k.start_ns) for k in parent.zombies()}
        done = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        (told,) = json.loads(done.stdout)["parents"]
        assert {(t["pid"], t["start_ns"]) for t in told["taken"]} == keys
        assert {(t["status"], t["ended"], t["adopted"]) for t in told["taken"]} == {(768, "exit 3", None)}
        assert told["comm"] == told["taken"][0]["comm"] == ") Z 1 (\\x1b[3\\n\\xff"
        assert (told["left"], told["tried"][-1]["step"]) == (0, "inject")
        owing(parent)
        done = subprocess.run(argv, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        assert all(line.isprintable() for line in done.stdout.splitlines())
        assert "does not learn of 4 ends (4 times exit 3)" in done.stdout
        assert parent.ask("still") == (parent.pid, 1)


@borrows
def test_injection_without_a_thread_to_be_had(parent, run, monkeypatch):
    owing(parent)

    def none(*_arguments):
        raise BlockingIOError

    monkeypatch.setattr(apart, "run", none)
    assert run(parent, "--inject")[0] == 0
    assert parent.ask("still") == (parent.pid, 1)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@borrows
@pytest.mark.bpf
def test_a_guard_knows_which_were_adopted(capsys, tmp_path):
    run_dir = f"/run/{tmp_path.name}-reap"
    with a_parent() as parent, guard(run_dir, only=parent.pid):
        owing(parent, 2)
        adopted = parent.ask("adopt")[0]
        code = main(["reap", f"pid:{parent.pid}", "--run-dir", run_dir, "--inject", "--json"])
        (told,) = json.loads(capsys.readouterr().out)["parents"]
    assert code == 0
    assert [(t["pid"] == adopted, t["adopted"]) for t in told["taken"]] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    assert not left_behind(run_dir)


def test_what_was_stopped_is_so_again(parent, run):
    owing(parent)
    assert parent.ask("reap-all") == (0, 0)
    os.kill(parent.pid, signal.SIGSTOP)
    until(parent.is_stopped, "it to stop")
    code, said = run(parent)
    assert code == 1
    assert "sigcont was not agreed to" in said
    assert f"next: pidwarden reap pid:{parent.pid} --yes" in said
    assert len(parent.zombies()) == 4
    code, said = run(parent, "--yes")
    assert code == 0
    assert "sigchld: 4 → 0" in said
    assert "stopped again, as it was" in said
    until(parent.is_stopped, "it to be stopped again")
    os.kill(parent.pid, signal.SIGCONT)


@contextlib.contextmanager
def frozen(parent):
    root = cgroup.mounts().v2
    if not root:
        pytest.skip("no cgroup v2")
    directory = f"{root}/pidwarden-reap-{os.getpid()}"
    os.mkdir(directory)
    try:
        assert cgroup.move(parent.pid, directory)
        assert freezer.freeze(directory)
        assert not freezer.wait([directory], 20)
        yield directory
    finally:
        freezer.thaw(directory)
        cgroup.move(parent.pid, root)
        until(lambda: not cgroup.processes(directory), "it to be empty")
        os.rmdir(directory)


def test_what_was_frozen_is_so_again(parent, run):
    owing(parent)
    assert parent.ask("reap-all") == (0, 0)
    with frozen(parent) as directory:
        assert run(parent, "--up-to", "thaw")[0] == 1
        assert freezer.is_frozen(directory)
        code, said = run(parent, "--yes")
        assert code == 0
        assert f"frozen again: {directory}" in said
        assert freezer.is_asked(directory)
        assert not parent.zombies()


def test_the_parent_is_ended_only_as_far_as_it_takes(parent, run, monkeypatch):
    owing(parent)
    assert parent.ask("ignore-term") == (0, 0)
    keys = parent.zombies()
    with monkeypatch.context() as brief:
        brief.setattr(reap, "_END_SECONDS", 0.2)
        code, said = run(parent, "--yes", "--up-to", "sigterm")
    assert (code, reap.remaining(keys)) == (1, keys)
    assert "sigterm: 4 → 4 (the parent has not ended within 0.2 s)" in said
    assert f"next: pidwarden reap pid:{parent.pid} --inject" in said
    code, said = run(parent, "--yes", "--up-to", "sigkill")
    assert (code, reap.remaining(keys)) == (0, [])
    assert "sigkill: 4 → 0" in said


def test_the_unit_is_restarted_where_there_is_one(parent):
    owing(parent)
    keys = parent.zombies()
    rungs = [Rung(Step.RESTART, "restart it", "", parent.pid), Rung(Step.KILL, "kill it", "", parent.pid)]
    asked = []

    def restart(key, _unit):
        os.kill(key.tgid, signal.SIGTERM)
        return "it is being restarted"

    def agreed(rung, left):
        asked.append((rung.step, left))
        return True

    means = reap.Means(lambda _parent, _keys: pytest.fail("no injection was allowed"), agreed, restart=restart)
    record = next(r for r in records_from_proc() if r.key == parent.key)
    found = reap.Climb(record, keys, rungs, reap.Bounds("sigkill"), means).run()
    assert (found.left, asked) == (0, [("restart", 4)])
    assert [(t.step, t.before, t.left, t.remark) for t in found.tried] == [("restart", 4, 0, "it is being restarted")]


def test_nobody_is_ended_where_nobody_can_be_asked(parent, run):
    owing(parent)
    code, said = run(parent, "--up-to", "sigkill")
    assert code == 1
    assert "  sigkill: kill -KILL" in said
    assert not procfs.has_ended(parent.key)
    assert len(parent.zombies()) == 4


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 1)])
def test_a_person_is_asked_before(parent, answer, code):
    owing(parent)
    keys = parent.zombies()
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "pidwarden", "reap", f"pid:{parent.pid}", "--no-guard", "--up-to", "sigterm"]
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(argv, stdin=theirs, capture_output=True, text=True, check=False, timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, len(reap.remaining(keys))) == (code, 4 * code), done.stderr
    lines = done.stdout.splitlines()
    [asked] = [n for n, line in enumerate(lines) if "risk: it ends" in line]
    assert f" ({parent.pid}): 4 zombies: " in lines[asked - 2], "it asks, and has not said of whom"


def test_who_is_spared_is_left_alone(parent, run, tmp_path):
    owing(parent)
    assert parent.ask("reap-all") == (0, 0)
    config = tmp_path / "spare.toml"
    config.write_text(f'protect_executables = ["{prop("parent")}"]\n')
    code, said = run(parent, "--yes", "--up-to", "sigkill", "--inject", "--config", str(config))
    assert code == 1
    assert "it is not touched" in said
    assert len(parent.zombies()) == 4
    assert json.loads(run(parent, "--json", "--config", str(config))[1])["parents"][0]["spared"].endswith(
        "is protected"
    )


def test_ended_in_the_midst_it_puts_back_what_it_changed(parent):
    owing(parent)
    assert parent.ask("ignore-term") == (0, 0)
    os.kill(parent.pid, signal.SIGSTOP)
    until(parent.is_stopped, "it to stop")
    argv = [sys.executable, "-m", "pidwarden", "reap", f"pid:{parent.pid}", "--no-guard", "--yes", "--up-to", "sigterm"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: not parent.is_stopped(), "it to be continued")
        running.terminate()
        _out, err = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "interrupted" in err
    until(parent.is_stopped, "it to be stopped again")
    os.kill(parent.pid, signal.SIGCONT)
    assert parent.ask("still") == (parent.pid, 1)


def become_nobody():
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def test_an_ordinary_user_is_told_what_he_may_not_do(parent):
    owing(parent)
    assert parent.ask("reap-all") == (0, 0)
    done = nobody_cli("reap", f"pid:{parent.pid}", "--no-guard")
    assert done.returncode == 1, done.stderr
    assert "may not be signalled by this user" in done.stdout
    assert len(parent.zombies()) == 4


@borrows
def test_an_ordinary_user_clears_his_own():
    with a_parent(enter=become_nobody) as parent:
        owing(parent)
        done = nobody_cli("reap", f"pid:{parent.pid}", "--no-guard", "--inject")
        assert (done.returncode, parent.zombies()) == (0, []), done.stdout + done.stderr
        assert parent.ask("still") == (parent.pid, 1)
