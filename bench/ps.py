"""`pidwarden ps` beside procps' `ps` over 20,000 processes, with the same columns, in turn, in one run.

Run as root: ``python bench/ps.py [PROCESSES] [ROUNDS]``. Prints Markdown. The processes sleep, children of one process
in a pen; the guard observes and holds nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pidwarden.drill.pen import DeadMan, Pen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROCESSES, ROUNDS = 20_000, 11
TARGET_GUARD, TARGET_PROC = 5.0, 1.0  # times as fast as ps
COLUMNS = "stat,ppid,pid,comm"
SOURCE = Path(__file__).parent.parent / "tests" / "props" / "crowd.c"
RUN_DIR = f"/run/pidwarden-bench-ps-{os.getpid()}"
PROGRAM = str(Path(sys.executable).with_name("pidwarden"))
DEADLINE = 600.0
OUR_PS = [PROGRAM, "ps", "-o", COLUMNS]
WAYS = {
    f"`ps axo {COLUMNS}`": ["ps", "axo", COLUMNS],
    f"`pidwarden ps -o {COLUMNS}`, with a guard": [*OUR_PS, "--run-dir", RUN_DIR],
    f"`pidwarden ps -o {COLUMNS} --no-guard`": [*OUR_PS, "--no-guard"],
    "`pidwarden ps` (eight columns), with a guard": [PROGRAM, "ps", "--run-dir", RUN_DIR],
    "`pidwarden ps` (eight columns) `--no-guard`": [PROGRAM, "ps", "--no-guard"],
}


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """A guard that knows everybody and holds nobody."""
    command = [sys.executable, "-m", "pidwarden", "guard", "--json", "--mode", "observe"]
    command += ["--only", f"pid:{os.getpid()}", "--run-dir", RUN_DIR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while json.loads(process.stdout.readline())["event"] != "ready":
            pass
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


@contextlib.contextmanager
def crowd(count: int) -> Iterator[None]:
    """So many processes that sleep."""
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    used = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    if count + used + 2000 > limit:
        sys.exit(f"pid_max is {limit} and {used} are in use: there is no room for {count} processes")
    folder = tempfile.mkdtemp(prefix="pidwarden-bench-")
    try:
        program = f"{folder}/crowd"
        subprocess.run(["gcc", "-O2", "-o", program, SOURCE], check=True)
        made = Pen(count + 1000, slow=False)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with contextlib.ExitStack() as stack:
            stack.enter_context(DeadMan(made.directories, DEADLINE))
            stack.enter_context(made)
            process = subprocess.Popen([program, str(count)], preexec_fn=made.enter, **pipes)  # noqa: PLW1509  (no threads here)
            assert process.stdout
            assert process.stdin
            process.stdout.readline()
            try:
                yield
            finally:
                made.kill()
                process.stdin.close()
                process.wait()
    finally:
        shutil.rmtree(folder)


def once(command: list[str]) -> tuple[float, int]:
    """Milliseconds from start to end, and how many lines were printed."""
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=out)
        took = 1000 * (time.perf_counter() - began)
        out.seek(0)
        return took, out.read().count(b"\n")


def measure(count: int, rounds: int, run: Callable[[list[str]], tuple[float, int]] = once) -> dict[str, list[float]]:
    """Milliseconds by way, one after the other in each round."""
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, command in WAYS.items():
            milliseconds, lines = run(command)
            if lines < count:
                sys.exit(f"{way} showed {lines} of {count} processes")
            took[way].append(milliseconds)
    return took


def main() -> int:
    """Measures and prints; 1 if a target is missed."""
    count, rounds = (int(a) if a else d for a, d in zip([*sys.argv[1:], "", ""][:2], (PROCESSES, ROUNDS), strict=True))
    with guard(), crowd(count):
        took = measure(count, rounds)
    medians = {way: statistics.median(times) for way, times in took.items()}
    theirs = next(iter(medians.values()))
    print(f"{count} processes, medians of {rounds} rounds, the worst in brackets.\n")
    print("| command | ms | times as fast as ps | target |\n|---|---|---|---|")
    missed = 0
    targets = ("", f"≥ {TARGET_GUARD:.0f}", f"≥ {TARGET_PROC:.0f}", "", "")
    for (way, ms), target in zip(medians.items(), targets, strict=True):
        missed += bool(target) and theirs / ms < float(target[2:])
        print(f"| {way} | {ms:.0f} ({max(took[way]):.0f}) | {theirs / ms:.1f} | {target} |")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
