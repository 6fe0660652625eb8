"""What a trace costs: ns per system call, of who is traced and of a bystander, beside strace and perf trace, in turn.

Run as root: ``python bench/tracing.py [ROUNDS]``. Prints Markdown. Each measurement stands between two without a
tracer, against drift; a measurement is the median of many short batches, and a figure the median of the rounds. strace
and perf are left out, with a word, where they are not installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOP = Path(__file__).parent.parent / "tests" / "props" / "callloop.c"
BATCHES = 60
CALLS = {"getppid": 2000, "openat": 1000}  # of a batch
STOPPED_CALLS = 100  # of a batch under a tracer that stops the process at each call
SETTLE_SECONDS = 0.5  # after a tool has its hooks, until it knows whom it traces


class Goal(NamedTuple):
    """The most that a trace may add, in ns per call: to who is traced, and to a bystander."""

    traced: float
    bystander: float = 300


GOALS = {"pidwarden trace -c": Goal(700), "pidwarden trace": Goal(1500)}
TIMES_BELOW_STRACE = 15


class Loop:
    """A program that makes calls when it is told to, and says how long one took."""

    def __init__(self, *before: str) -> None:
        self.process = subprocess.Popen(
            [*before, LOOPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.pid = self.process.pid

    def measure(self, kind: str, calls: int) -> float:
        """Nanoseconds per call."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{kind} {calls}\n" * BATCHES)
        self.process.stdin.flush()
        return statistics.median(float(self.process.stdout.readline()) for _ in range(BATCHES))

    def end(self) -> None:
        """Ends it."""
        self.process.communicate("")


@contextlib.contextmanager
def looping(*before: str) -> Iterator[Loop]:
    """A loop; ended afterwards."""
    loop = Loop(*before)
    try:
        yield loop
    finally:
        loop.end()


def _ended(tool: subprocess.Popen[bytes]) -> None:
    tool.send_signal(2)
    try:
        tool.wait(10)
    except subprocess.TimeoutExpired:
        tool.kill()
        tool.wait()


@contextlib.contextmanager
def beside(ready: Callable[[int, int], bool], pid: int, *command: str) -> Iterator[None]:
    """With a tool that traces `pid`, once `ready` says so of its own process id and that one."""
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not ready(tool.pid, pid):
            if tool.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} did not attach")
            time.sleep(0.05)
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        _ended(tool)


def is_stopped_by(_tool: int, pid: int) -> bool:
    """Whether a process has a tracer (ptrace)."""
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


def has(what: str, more_than: int) -> Callable[[int, int], bool]:
    """Whether the tool has more descriptors of that kind than so many: it attaches with them."""

    def ready(tool: int, _pid: int) -> bool:
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{tool}/fd") if os.path.islink(entry.path)]
        return sum(what in link for link in links) > more_than

    return ready


OURS = (sys.executable, "-m", "pidwarden", "trace")
HOOKS = 5  # of six tracepoints


def attached() -> dict[str, Callable[[int], contextlib.AbstractContextManager[None]]]:
    """The tools that attach to a process, those that are installed."""
    ours = has("bpf_link", HOOKS)
    found: dict[str, Callable[[int], contextlib.AbstractContextManager[None]]] = {
        "pidwarden trace -c": lambda pid: beside(ours, pid, *OURS, "-c", "-q", "-p", str(pid)),
        "pidwarden trace": lambda pid: beside(ours, pid, *OURS, "-q", "-o", "/dev/null", "-p", str(pid)),
    }
    if shutil.which("strace"):
        found["strace"] = lambda pid: beside(is_stopped_by, pid, "strace", "-qq", "-o", "/dev/null", "-p", str(pid))
    if shutil.which("perf"):
        found["perf trace"] = lambda pid: beside(
            has("perf_event", 0), pid, "perf", "trace", "-o", "/dev/null", "-p", str(pid)
        )
    return found


FILTERED = "strace --seccomp-bpf, another call"  # it has to start the program itself


class Figures(NamedTuple):
    """Nanoseconds per call, and what a tool added to each."""

    bare: list[float]
    added: dict[tuple[str, str, str], list[float]]  # (tool, kind of call, "traced" or "bystander")


def calls_of(tool: str, calls: int) -> int:
    """How many calls a batch has beside a tool, instead of so many."""
    return STOPPED_CALLS if tool in ("strace", "perf trace") else calls


def one_round(figures: Figures, tools: dict[str, Callable[[int], contextlib.AbstractContextManager[None]]]) -> None:
    """Each tool once, each kind of call."""
    for kind, calls in CALLS.items():
        for name, attach in tools.items():
            with looping() as loop, looping() as other:
                before = loop.measure(kind, calls), other.measure(kind, calls)
                with attach(loop.pid):
                    during = loop.measure(kind, calls_of(name, calls)), other.measure(kind, calls)
                after = loop.measure(kind, calls), other.measure(kind, calls)
            for i, who in enumerate(("traced", "bystander")):
                bare = (before[i] + after[i]) / 2
                figures.added[name, kind, who].append(during[i] - bare)
                if kind == "getppid":
                    figures.bare.append(bare)
        if shutil.which("strace"):
            command = ["strace", "-qq", "-f", "--seccomp-bpf", "-e", "trace=execve", "-o", "/dev/null"]
            with looping() as loop, looping(*command) as filtered:
                bare = loop.measure(kind, calls)
                figures.added[FILTERED, kind, "traced"].append(filtered.measure(kind, calls) - bare)


def report(figures: Figures) -> int:
    """Prints the table; 1 if a goal was missed."""
    middle = {key: statistics.median(values) for key, values in figures.added.items()}
    print(
        f"A bare getppid took {statistics.median(figures.bare):.0f} ns. Added to a call, in ns (lowest to highest):\n"
    )
    print("| tool | getppid | openat, no such file | a bystander's getppid | goal |")
    print("|---|---|---|---|---|")
    missed = []
    for tool in dict.fromkeys(name for name, _kind, _who in figures.added):
        cells = []
        for key in ((tool, "getppid", "traced"), (tool, "openat", "traced"), (tool, "getppid", "bystander")):
            values = figures.added.get(key)
            cells.append(f"{middle[key]:.0f} ({min(values):.0f} to {max(values):.0f})" if values else "")
        goal = GOALS.get(tool)
        cells.append(f"≤ {goal.traced:.0f}, bystander ≤ {goal.bystander:.0f}" if goal else "")
        print("| " + " | ".join([f"`{tool}`", *cells]) + " |")
        if goal:
            missed += [tool] * (middle[tool, "getppid", "traced"] > goal.traced)
            missed += [f"{tool}: bystander"] * (middle[tool, "getppid", "bystander"] > goal.bystander)
    if ("strace", "getppid", "traced") in middle:
        times = middle["strace", "getppid", "traced"] / middle["pidwarden trace", "getppid", "traced"]
        print(f"\nstrace adds {times:.0f} times what `pidwarden trace` adds (goal: at least {TIMES_BELOW_STRACE}).")
        missed += ["times below strace"] * (times < TIMES_BELOW_STRACE)
    print(f"\nMissed: {', '.join(missed)}." if missed else "\nAll goals are met.")
    return int(bool(missed))


def main() -> int:
    """Runs it; 1 if a goal was missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    tools = attached()
    for name in ("strace", "perf"):
        if not shutil.which(name):
            print(f"{name} is not installed.\n")
    figures = Figures([], defaultdict(list))
    for _ in range(rounds):
        one_round(figures, tools)
    return report(figures)


LOOPED = ""

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        LOOPED = f"{folder}/callloop"
        subprocess.run(["gcc", "-O2", "-o", LOOPED, str(LOOP)], check=True)
        raise SystemExit(main())
