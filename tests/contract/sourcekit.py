"""What the contract's tests of sources share: each source opened in the test, and a guard of an ordinary user's."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from guardkit import DEADLINE
from kit import prop, stat_of, tracking, until

import pidwarden
from pidwarden.kernel.config import Config
from pidwarden.watch.connector import ConnectorSource
from pidwarden.watch.poll import PollSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.watch.base import Source

SECOND = 1_000_000_000
UID = 64999  # nobody else's: what a guard with --user does is done to its processes only
SOURCES = [
    pytest.param("bpf", marks=pytest.mark.bpf),
    pytest.param("connector", marks=pytest.mark.connector),
    pytest.param("poll"),
]
OF_A_USER = SOURCES[1:]


@contextlib.contextmanager
def opened(name: str, **changes: Any) -> Iterator[Source]:
    """A source, seeded, with this test as a spawner: its children found families, and only those are in scope."""
    if name == "bpf":
        with tracking(**changes) as programs:
            yield programs
        return
    source = ConnectorSource() if name == "connector" else PollSource()
    values = {"branch_age_ns": SECOND, "job_gap_ns": SECOND, "lease_ns": SECOND, "hold_at": 300, "family_hold_at": 450}
    values |= {"depth_limit": 10_000, "autohold": True, "only_scoped": True, "only": (os.getpid(),), "history": True}
    try:
        source.configure(Config(**(values | changes)))
        source.seed()
        yield source
    finally:
        source.close()


def record_of(source: Source, pid: int):
    """The record of the process that has this pid now, once the source knows it."""

    def look():
        if source.name == "poll":
            source.seed()
        source.settle()
        found = [r for r in source.records() if r.key.tgid == pid and r.slots > 0]
        return max(found, key=lambda r: r.key.start_ns, default=None)

    return until(look, f"a record of {pid}")


@functools.cache
def python() -> str:
    """An interpreter that an ordinary user may run: ours may lie where only root may look."""
    for path in (os.path.realpath(sys.executable), f"/usr/bin/python3.{sys.version_info.minor}"):
        parts = [path, *map(str, Path(path).parents)]
        if os.path.exists(path) and all(os.stat(p).st_mode & 0o001 for p in parts):
            return path
    pytest.fail(f"no Python 3.{sys.version_info.minor} that an ordinary user may run")


def environment() -> dict[str, str]:
    """For that interpreter: where the package and what it needs are."""
    found = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
    places = [str(Path(pidwarden.__file__).parents[1]), sysconfig.get_path("purelib")]
    return found | {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that everybody may read; pytest's own are closed again by the next run."""
    with tempfile.TemporaryDirectory(prefix="pidwarden-test-") as found:
        Path(found).chmod(0o755)
        yield Path(found)


def public_prop(name: str, directory: Path) -> str:
    """A copy of a prop that everybody may run."""
    return shutil.copy(prop(name), directory)


def become_user() -> None:
    """For a child between fork and exec."""
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)


def as_user(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """One of pidwarden's commands, run by the ordinary user."""
    command = [python(), "-m", "pidwarden", *arguments]
    values = {"env": environment(), "cwd": "/", "capture_output": True, "text": True, "preexec_fn": become_user}
    return subprocess.run(command, check=False, **(values | options))


@functools.cache
def why_no_events() -> str:
    """Why an ordinary user hears no process events here; empty if he does. Before Linux 6.6 only root does."""
    command = [python(), "-c", "from pidwarden.kernel.connector import Connector; Connector().close()"]
    options = {"env": environment(), "cwd": "/", "capture_output": True, "text": True, "preexec_fn": become_user}
    done = subprocess.run(command, check=False, **options)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


class UserGuard:
    """`pidwarden guard --user`, of the ordinary user."""

    def __init__(self, *arguments: str, before: Any = None) -> None:
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the guard)
        command = [python(), "-m", "pidwarden", "guard", "--user", "--json", *arguments]

        def enter() -> None:
            if before:
                before()
            become_user()

        self.process = subprocess.Popen(
            command, stdout=self._out, stderr=self._out, env=environment(), cwd="/", preexec_fn=enter
        )

    def said(self) -> str:
        return os.pread(self._out.fileno(), 1 << 24, 0).decode()

    stderr = said

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.said().split("\n")[:-1] if line.startswith("{")]
        return [e for e in map(json.loads, lines) if e["event"] == name]

    def wait(self, name: str) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            if self.process.poll() is not None and not self.events(name):
                pytest.fail(f"the guard ended: {self.said()}")
            return self.events(name)

        try:
            return until(look, f"event {name} from the guard", DEADLINE)[0]
        except pytest.fail.Exception as why:
            pytest.fail(f"{why}, which said {self.said()}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self._out.close()


@contextlib.contextmanager
def user_guard(*arguments: str, before: Any = None) -> Iterator[UserGuard]:
    """A guard that is ready, and afterwards gone."""
    running = UserGuard(*arguments, before=before)
    try:
        running.wait("ready")
        yield running
    finally:
        running.close()


def is_unhurt(process: subprocess.Popen[Any]) -> bool:
    """Whether it runs and is not stopped."""
    stat = stat_of(process.pid)
    return process.poll() is None and stat is not None and stat.state == "S"
