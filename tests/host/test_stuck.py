"""`pidwarden stuck`: one prop a cause, named right; and once the evidence is gone, so is the answer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_kit import NOBODY, forget_copy, gone_pid, nobody_cli, one_sentence, pidwarden_cli
from kit import Child, prop, until

from pidwarden.kernel import cgroup, evidence, freezer, patience

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
MKFS = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
needs_loop = pytest.mark.skipif(
    not (os.path.exists("/dev/loop-control") and MKFS), reason="no loop device, or no mkfs.ext4"
)
needs_fuse = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse")


@pytest.fixture(autouse=True, scope="module")
def _no_copy_stays():
    yield
    forget_copy()


@contextlib.contextmanager
def stage(*arguments: str) -> Iterator[tuple[Child, list[tuple[int, int]]]]:
    """The prop, and what it says until its line of zeros; let go in order, as it may have frozen a filesystem."""
    running = Child(prop("stuck"), *arguments, group=True)
    try:
        said = []
        while (line := running.said()) != (0, 0):
            said.append(line)
        yield running, said
    finally:
        if arguments[0] == "frozen":
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                running.tell()
                running.process.wait(20)
        running.end()


def look(*selectors: str) -> list[dict]:
    done = pidwarden_cli("stuck", *selectors, "--json")
    groups = json.loads(done.stdout)["groups"]
    assert done.returncode == bool(groups), done.stderr
    return groups


def group_of(tid: int) -> dict | None:
    """The group that a thread is in, as all of the machine is shown."""
    return next((g for g in look() if tid in {t["tid"] for t in g["threads"]}), None)


def found(cause: str, *tids: int) -> dict:
    """The group of this cause that all of these are in, as soon as they are: on the way they may sleep elsewhere."""

    def there() -> dict | None:
        return next((g for g in look() if g["cause"] == cause and set(tids) <= {t["tid"] for t in g["threads"]}), None)

    return until(there, f"{tids} to be found as {cause}")


def thread(group: dict, tid: int) -> dict:
    return next(t for t in group["threads"] if t["tid"] == tid)


def commands(group: dict) -> list[str]:
    return [step["command"] for step in group["steps"]]


def state(pid: int) -> str:
    status = evidence.status(evidence.path(pid))
    return status.state if status else ""


# -- vfork -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["vfork", "vfork-thread"])
def test_a_vfork_child_that_stopped_is_named_and_woken(what):
    with stage(what) as (_running, [(waiter, child)]):
        group = found("vfork", waiter)
        assert group["place"] == {**group["place"], "kind": "process", "name": str(child), "certain": True}
        assert group["waits_for"] == [{"pid": child, "comm": "stuck", "state": "T"}]
        assert commands(group) == [f"kill -CONT {child}", f"kill -KILL {child}"]
        seen = thread(group, waiter)
        assert (seen["syscall"], seen["state"], seen["killable"], seen["same_sleep"]) == ("vfork", "D", True, True)
        assert seen["asleep_ns"] is not None
        os.kill(child, signal.SIGCONT)
        until(lambda: group_of(waiter) is None, "it to go on")


def test_who_sleeps_anew_at_every_look_is_no_cause_for_alarm():
    with stage("vfork-often") as (_running, [(waiter, _)]):
        group = found("transient", waiter)
        assert not thread(group, waiter)["same_sleep"]
        assert thread(group, waiter)["asleep_ns"] is None


def test_who_fell_asleep_first_has_slept_longer():
    with stage("vfork") as (_one, [(first, _)]):
        until(lambda: state(first) == "D", "it to wait")
        before = found("vfork", first)
        with stage("vfork") as (_two, [(second, _)]):
            found("vfork", second)
            groups = {t["tid"]: t["asleep_ns"] for g in look() for t in g["threads"]}
            assert groups[first] > thread(before, first)["asleep_ns"]
            assert groups[first] > groups[second]


# -- a frozen filesystem -----------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, 4 << 20)
    assert MKFS
    subprocess.run([MKFS, "-q", "-F", str(path)], check=True)
    (tmp_path / "mount").mkdir()
    return str(path), str(tmp_path / "mount")


@needs_loop
def test_a_frozen_filesystem_is_found_in_its_mount_namespace(image):
    path, where = image
    with stage("frozen", path, where) as (running, [(writer, number), (maker, _), _deadman]):
        group = found("frozen-filesystem", writer, maker)
        assert (group["place"]["name"], group["place"]["type"], group["place"]["certain"]) == (where, "ext4", True)
        assert not group["waits_for"]
        assert "does not tell who froze it" in group["nobody"]
        (command,) = commands(group)
        assert command.endswith(f"fsfreeze --unfreeze {where}")
        assert command.startswith("nsenter --mount=/proc/")
        seen = thread(group, writer)
        assert (seen["fd"], seen["file"], seen["killable"]) == (number, f"{where}/file", False)
        assert "would only stay pending" in group["sigkill"]
        os.kill(maker, signal.SIGKILL)
        again = found("frozen-filesystem", writer, maker)
        assert thread(again, maker)["sigkill_pending"]
        running.tell()
        until(lambda: group_of(writer) is None, "the filesystem to be thawed")


# -- FUSE --------------------------------------------------------------------------------------------------------------


@needs_fuse
def test_a_daemon_that_does_not_answer_and_who_waits_behind(tmp_path):
    with stage("fuse", str(tmp_path)) as (_running, [(daemon, _), (reader, number), (first, _), (same, _), (maker, _)]):
        group = found("fuse-silent", reader, first, same, maker)
        assert (group["place"]["name"], group["place"]["type"]) == (str(tmp_path), "fuse.silent")
        assert [who["pid"] for who in group["waits_for"]] == [daemon]
        assert {t["tid"]: (t["state"], t["cause"]) for t in group["threads"]} == {
            reader: ("S", "fuse-silent"), first: ("S", "fuse-silent"), same: ("D", "fuse-behind"),
            maker: ("D", "fuse-behind"),
        }  # fmt: skip
        assert thread(group, reader)["fd"] == number
        connection = group["place"]["device"].removeprefix("0:")
        assert commands(group)[0] == f"kill -KILL {daemon}"
        assert commands(group)[1].endswith(f"echo 1 > /sys/fs/fuse/connections/{connection}/abort")
        assert not any(t["killable"] for t in group["threads"])
        assert not any(str(pid) in text for pid in (reader, first, same, maker) for text in commands(group))
        os.kill(daemon, signal.SIGSTOP)
        assert commands(found("fuse-silent", reader))[0] == f"kill -CONT {daemon}"
        os.kill(daemon, signal.SIGKILL)
        until(lambda: not any(group_of(tid) for tid in (reader, first, same, maker)), "the connection to end")


@needs_fuse
def test_a_process_stuck_within_execve_holds_up_nobody(tmp_path):
    """Whoever reads its `stat` waits with it: so not for longer than it takes."""
    with stage("fuse-exec", str(tmp_path)) as (_running, [(daemon, _), (victim, _)]):
        reader = patience.Reader()
        until(lambda: _is_silent(reader, victim), "it to be within execve")
        behind = subprocess.Popen(["cat", f"/proc/{victim}/syscall"], stdout=subprocess.DEVNULL)
        until(lambda: state(behind.pid) == "D", "somebody to read of it")
        groups = look(f"pid:{victim}", f"pid:{behind.pid}")
        others = [pidwarden_cli(name, "--no-guard") for name in ("ps", "zombies")]
        orphans = pidwarden_cli("orphans", "--no-guard")
        tables = pidwarden_cli("tables", "--patience", "5")
        entered = [pidwarden_cli(name, "--netns", str(victim)) for name in ("tables", "conntrack")]
        every = pidwarden_cli("conntrack", "--netns", "all")
        os.kill(daemon, signal.SIGKILL)
        assert behind.wait(20) == 0
        assert f"the kernel does not answer for {victim}: `sudo pidwarden stuck`" in tables.stdout
        for done in entered:
            assert "the kernel does not answer for it" in one_sentence(done, 1)
        assert every.returncode in (0, 1, 4), every.stderr
        assert orphans.returncode in (0, 1), orphans.stderr  # it knows of him what `status` says
        for done in others:
            assert done.returncode == 0, done.stderr
            assert f"left out, as the kernel does not answer for them (stuck within execve): {victim};" in done.stderr
        group, other = sorted(groups, key=lambda g: g["cause"])
        assert (other["cause"], [who["pid"] for who in other["waits_for"]]) == ("exec-behind", [victim])
        assert group["cause"] == "exec"
        assert "/proc does not answer for it" in thread(group, victim)["evidence"][0]
        assert str(tmp_path) in thread(group, victim)["evidence"][0]
        assert thread(group, victim)["killable"] is None
        assert not any("kill" in text for text in commands(group))
        until(lambda: group_of(victim) is None, "it to go on")


def _is_silent(reader: patience.Reader, pid: int) -> bool:
    try:
        reader(f"/proc/{pid}/syscall")
    except TimeoutError:
        return True
    return False


# -- exec, memory, the freezer -----------------------------------------------------------------------------------------


def test_execve_that_waits_for_the_tracer_of_a_dead_thread():
    with stage("exec-traced") as (_running, [(victim, tracer)]):
        group = found("exec", victim)
        assert [who["pid"] for who in group["waits_for"]] == [tracer]
        assert commands(group) == [f"kill {tracer}"]
        assert thread(group, victim)["killable"]
        os.kill(tracer, signal.SIGTERM)
        until(lambda: group_of(victim) is None, "it to be let go")


def test_memory_that_nobody_fills():
    with stage("uffd") as (_running, [(reader, _)]):
        group = found("userfaultfd", reader)
        assert thread(group, reader)["state"] == "S"
        os.kill(reader, signal.SIGKILL)  # which it says ends the wait
        assert thread(group, reader)["killable"]
        until(lambda: group_of(reader) is None, "it to end")


MOUNTS = cgroup.mounts()


@pytest.mark.skipif("freezer" not in MOUNTS.v1, reason="no v1 freezer is mounted")
def test_a_cgroup_that_v1_froze():
    directory = f"{MOUNTS.v1['freezer']}/pidwarden-stuck-{os.getpid()}"
    os.makedirs(f"{directory}/inner")
    sleeper = subprocess.Popen(["sleep", "300"])
    try:
        assert cgroup.move(sleeper.pid, f"{directory}/inner")
        assert freezer.freeze(directory)
        assert freezer.wait([directory], 10) == []
        group = found("v1-frozen", sleeper.pid)
        assert group["place"]["name"] == directory
        assert commands(group) == [f"echo THAWED > {directory}/freezer.state"]
        assert not thread(group, sleeper.pid)["killable"]
        freezer.thaw(directory)
        until(lambda: group_of(sleeper.pid) is None, "it to be thawed")
    finally:
        freezer.thaw(directory)
        sleeper.kill()
        sleeper.wait()
        os.rmdir(f"{directory}/inner")
        os.rmdir(directory)


# -- the command -------------------------------------------------------------------------------------------------------

HOSTILE = b"\n) Z 1 (\x1b[2J\xff"
ESCAPED = r"\n) Z 1 (\x1b[2J\xff"


def test_names_users_selectors_and_text():
    with stage("vfork", os.fsdecode(HOSTILE)) as (_running, [(waiter, child)]):
        found("vfork", waiter)
        mine = look(f"pid:{waiter}")
        assert [t["tid"] for g in mine for t in g["threads"]] == [waiter]
        assert mine[0]["threads"][0]["comm"] == ESCAPED
        assert not look(f"pid:{child}")
        assert not look(f"user:{NOBODY}")
        text = pidwarden_cli("stuck", f"pid:{waiter}")
        assert text.returncode == 1
        assert "\x1b" not in text.stdout
        title, waits_for, named, why, *_rest = text.stdout.splitlines()
        assert title.startswith("1 thread waits for a vfork child")
        assert waits_for == f"  waits for: {child} {ESCAPED}, state T"
        assert named.startswith(f"  {waiter} {ESCAPED} (root) D, at least ")
        assert why == "    sleeps in kernel_clone; system call vfork"
        assert f"kill -CONT {child}" in text.stdout
        other = nobody_cli("stuck", f"pid:{waiter}", "--json")
        (group,) = json.loads(other.stdout)["groups"]
        assert group["cause"] == "unknown"
        assert "right to trace it" in group["no_remedy"]
        assert any("sudo pidwarden stuck" in note for note in json.loads(other.stdout)["notes"])


def test_what_is_asked_wrongly():
    one_sentence(pidwarden_cli("stuck", f"pid:{gone_pid()}"), 1)
    one_sentence(pidwarden_cli("stuck", "nothing"), 2)


def test_watching_looks_again():
    with stage("vfork") as (_running, [(waiter, child)]):
        found("vfork", waiter)
        argv = ["stuck", f"pid:{waiter}", "--watch", "0.1", "--json"]
        process = subprocess.Popen([sys.executable, "-m", "pidwarden", *argv], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["stuck"] == 1
            os.kill(child, signal.SIGCONT)
            while json.loads(process.stdout.readline())["stuck"]:
                pass
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            process.stdout.close()
