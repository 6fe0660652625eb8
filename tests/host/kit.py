"""What the host tests share: props built from tests/props, children that say who they are, the kernel side loaded."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import loaded
import pytest

from pidwarden.kernel import procfs
from pidwarden.kernel.config import Config
from pidwarden.model.record import GroupFlag, ProcFlag, Record, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pidwarden.kernel.bpf import Programs

PROPS = Path(__file__).parent.parent / "props"
_BUILT = Path(tempfile.gettempdir()) / f"pidwarden-props-{os.getuid()}"
SECOND = 1_000_000_000
T = TypeVar("T")


def prop(name: str) -> str:
    """The path of a compiled prop, compiled again if its source is newer."""
    source, target = PROPS / f"{name}.c", _BUILT / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        _BUILT.mkdir(exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-static", "-o", str(fresh), str(source)], check=True)
        fresh.rename(target)
    return str(target)


def another(name: str) -> str:
    """A copy of a prop: forks of one program wait for each other, for the kernel's list of who maps its file."""
    target = _BUILT / f"{name}-too"
    fresh = target.with_suffix(f".{os.getpid()}")
    shutil.copy(prop(name), fresh)
    fresh.rename(target)
    return str(target)


def stat_of(pid: int) -> procfs.Stat | None:
    """A process's `stat`, None if it is gone. Waits while it is within execve, as who was just started may be.

    The kernel answers a moment before the new program is there, of which those who are tested want to see something.
    """
    while (data := procfs.read_bytes(f"/proc/{pid}/stat")) and procfs.within_exec(f"/proc/{pid}"):
        time.sleep(0.001)
    return procfs.parse_stat(data) if data else None


def until(look: Callable[[], T], what: str, seconds: float = 20.0) -> T:
    """Waits until `look` returns something true; fails with `what` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.005)
    return seen


class Child:
    """A prop that runs and talks; ended with the test."""

    def __init__(self, *argv: str, group: bool = False, enter: Callable[[], None] | None = None) -> None:
        self._group = group
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0 if group else None,
            preexec_fn=enter,  # noqa: PLW1509  (no threads here)
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> tuple[int, int]:
        """The two numbers of its next line."""
        first, second = _pipe(self.process.stdout).readline().split()
        return int(first), int(second)

    def tell(self) -> None:
        """One line on its standard input."""
        pipe = _pipe(self.process.stdin)
        pipe.write("\n")
        pipe.flush()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            _pipe(self.process.stdin).close()
        if self._group and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # its children outlive a test that fails
        self.process.kill()
        self.process.wait()
        _pipe(self.process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextlib.contextmanager
def child(name: str, *arguments: str, group: bool = False, enter: Callable[[], None] | None = None) -> Iterator[Child]:
    """A prop as a child of this test; `enter` is called in it before it becomes that program."""
    running = Child(prop(name), *arguments, group=group, enter=enter)
    try:
        yield running
    finally:
        running.end()


def configure(programs: Programs, **changes: object) -> None:
    """The thresholds of a guard, acting only on families that children of this test found."""
    values: dict[str, object] = {
        "branch_age_ns": SECOND,
        "job_gap_ns": SECOND,
        "hold_at": 300,
        "family_hold_at": 450,
        "depth_limit": 10_000,
        "autohold": True,
        "only_scoped": True,
        "lease_ns": 60 * SECOND,
        "only": (os.getpid(),),
    }
    programs.configure(Config(**(values | changes)))


@contextlib.contextmanager
def tracking(*, gate: bool | str = False, records: int = 16384, **changes: object) -> Iterator[Programs]:
    """The kernel side, seeded, with this test as a spawner; its children found families of their own.

    `gate`: none, the best there is, or that of a name.
    """
    key = gate if isinstance(gate, str) else "auto" if gate else ""
    choice, programs = loaded.take(key, records)
    try:
        configure(programs, **changes)
        programs.attach_history()
        programs.seed()
        if gate:
            choice.put_up(programs)
        yield programs
    except BaseException:
        programs.close()
        raise
    loaded.give_back(key, records, choice, programs)


def record_of(programs: Programs, pid: int) -> Record | None:
    """The record of the process that has this pid now."""
    found = [r for r in programs.records() if r.key.tgid == pid and r.slots > 0]
    return max(found, key=lambda r: r.key.start_ns, default=None)


def our_signals(programs: Programs) -> list[Signal]:
    """What the ring buffer says of families of this test; others on the machine may be busy as well."""
    return [s for s in programs.signals() if s.flags & GroupFlag.SCOPED]


def flags_of(record: Record) -> ProcFlag:
    return ProcFlag(record.flags)
