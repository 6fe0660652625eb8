"""A guard as shipped, as a child of the test, and bombs in a pen for it to contain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from kit import Child, child, prop, stat_of, until

from pidwarden.drill.pen import DeadMan, Pen
from pidwarden.kernel import cgroup, freezer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Beside a bomb, where a processor is emulated, to load takes minutes, as to be killed does.
IN_GUEST = bool(os.environ.get("PIDWARDEN_IN_GUEST"))
DEADLINE = 150.0 if IN_GUEST else 60.0
_DEAD_MAN = 280.0 if IN_GUEST else DEADLINE  # a test there may take 300
_SECONDS = 150.0 if IN_GUEST else 20.0


class GuardProcess:
    """`pidwarden guard --json`, limited to families that children of this test found."""

    everything = False  # whether it guards the whole machine instead, which is for a machine of its own

    def __init__(
        self,
        *arguments: str,
        run_dir: str | None = None,
        program: Sequence[str] = ("-m", "pidwarden"),
        before: Sequence[str] = (),
    ) -> None:
        self.run_dir = run_dir or f"/run/pidwarden-test-{os.getpid()}"
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the guard)
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the guard)
        command = [*before, sys.executable, *program, "guard", "--json", "--run-dir", self.run_dir, *arguments]
        command += [] if self.everything else ["--only", f"pid:{os.getpid()}"]
        self.process = subprocess.Popen(command, stdout=self._out, stderr=self._err)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What it said so far, or only the events of one name."""
        text = os.pread(self._out.fileno(), 1 << 24, 0).decode()
        whole = [json.loads(line) for line in text.split("\n")[:-1]]
        return [e for e in whole if name in (None, e["event"])]

    def wait(self, name: str, count: int = 1, seconds: float = _SECONDS) -> dict[str, Any]:
        """The `count`-th event of that name."""

        def look() -> list[dict[str, Any]]:
            if self.process.poll() is not None and len(self.events(name)) < count:
                pytest.fail(f"the guard ended with {self.process.returncode}: {self.stderr()}\n{self.events()}")
            found = self.events(name)
            return found if len(found) >= count else []

        return until(look, f"event {name} from the guard, which said {self.events()}", seconds)[count - 1]

    def stderr(self) -> str:
        return os.pread(self._err.fileno(), 1 << 20, 0).decode()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()


@contextlib.contextmanager
def guard(*arguments: str, run_dir: str | None = None, before: Sequence[str] = ()) -> Iterator[GuardProcess]:
    """A guard that is ready, and afterwards gone with all it made. `before`: a command that executes the guard."""
    running = GuardProcess(*arguments, run_dir=run_dir, before=before)
    try:
        running.wait("ready", seconds=_SECONDS)
        yield running
    finally:
        killed = running.process.poll() not in (None, 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.stop()
        running.close()
        if killed:
            detach(running.run_dir)


def detach(run_dir: str) -> str:
    """Removes what a killed guard left in force."""
    command = [sys.executable, "-m", "pidwarden", "guard", "--detach", "--run-dir", run_dir]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def pen(cap: int = 3000, *, slow: bool = False) -> Iterator[Pen]:
    """A pen with a dead-man switch; a slow one for a bomb that nobody holds, or the others hardly get to run."""
    with contextlib.ExitStack() as stack:
        made = Pen(cap, slow=slow)
        stack.callback(reap_adopted)
        stack.enter_context(DeadMan(made.directories, _DEAD_MAN))
        yield stack.enter_context(made)


def reap_adopted() -> None:
    """Members that became children of this process by CLONE_PARENT: nobody here has a Popen of theirs."""
    for name in os.listdir("/proc"):
        found = stat_of(int(name)) if name.isdecimal() else None
        if found and found.ppid == os.getpid() and found.state == "Z" and found.comm in (b"bomb", b"escape"):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(found.pid, 0)


@contextlib.contextmanager
def bomb(made: Pen, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A bomb set off in a pen. The caller is its parent and reaps the root."""
    process = subprocess.Popen(argv, preexec_fn=made.enter, stdin=subprocess.DEVNULL)  # noqa: PLW1509  (no threads here)
    try:
        yield process
    finally:
        made.kill()
        process.wait()


def start(argv: Sequence[str], enter: Callable[[], None], **more: Any) -> subprocess.Popen[bytes]:
    """A child of the test that goes where it should before it is anything."""
    options = {"stdin": subprocess.DEVNULL} | more
    return subprocess.Popen(argv, preexec_fn=enter, **options)  # noqa: PLW1509  (no threads here)


@contextlib.contextmanager
def inside(directory: str) -> Iterator[str]:
    """A cgroup of its own below a pen, gone with the test."""
    os.mkdir(directory)
    try:
        yield directory
    finally:
        for pid in cgroup.processes_below(directory) or ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        freezer.thaw(directory)
        for where, _folders, _files in list(os.walk(directory, topdown=False)):
            until(lambda d=where: _removed(d), f"{where} to be removed")


def _removed(directory: str) -> bool:
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    return not os.path.isdir(directory)


def c_bomb(shape: str) -> list[str]:
    return [prop("bomb"), shape]


def stopped_in(made: Pen) -> int:
    """How many members of a pen stand still: each by itself, or all because their cgroup is frozen."""
    found = members(made)
    if is_frozen(made):
        return len(found)
    return sum((s := stat_of(pid)) is not None and s.state == "T" for pid in found)


@contextlib.contextmanager
def tree() -> Iterator[Child]:
    """62 copies of copies, in a process group of their own: a bomb to look at, and one that ends by itself."""
    with child("odd", "tree", "5", group=True) as odd:
        yield odd
        os.killpg(odd.pid, signal.SIGKILL)


def stopped_in_group(pgrp: int) -> int:
    """How many of a process group are stopped."""
    stats = [stat_of(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(s is not None and s.pgrp == pgrp and s.state == "T" for s in stats)


def is_frozen(made: Pen) -> bool:
    """Whether the pen's own freezer has stopped all of it."""
    return any(freezer.is_frozen(directory) for directory in made.directories if freezer.exists(directory))


def members(made: Pen) -> list[int]:
    """Living members."""
    with open(made.entrances[0], encoding="ascii") as file:
        pids = [int(line) for line in file]
    return [p for p in pids if (s := stat_of(p)) and s.state not in "ZX"]


def leftovers(run_dir: str) -> list[str]:
    """What a guard of that run directory has left on the machine."""
    name = os.path.basename(run_dir)
    return [p for p in (run_dir, f"/sys/fs/bpf/{name}") if os.path.exists(p)]
