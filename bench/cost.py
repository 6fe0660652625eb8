"""What the guard costs: fork + exit + wait with it and without, in turn, in one run; and at rest.

Run as root: ``python bench/cost.py [ROUNDS]``. Prints Markdown.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
LOOP = HERE.parent / "tests" / "props" / "forkloop.c"
FORKS = 3000
REST_SECONDS = 10
TARGET_RATIO, TARGET_CPU, TARGET_RSS = 1.05, 0.5, 60


class Guard:
    """A guard as shipped, watching the whole machine but acting only below this process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "pidwarden", "guard", "--json", "--only", f"pid:{os.getpid()}"]
        self.run_dir = f"/run/pidwarden-bench-{os.getpid()}"
        command += ["--run-dir", self.run_dir]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        while json.loads(self.process.stdout.readline())["event"] != "ready":
            pass

    def stop(self) -> None:
        """Ends it in order."""
        self.process.terminate()
        self.process.communicate()

    def cpu_seconds(self) -> float:
        """Processor time it has used, from /proc/PID/stat."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6


@contextlib.contextmanager
def build_loop() -> Iterator[Path]:
    """A program that forks, lets the child exit, and waits for it, as often as its argument says."""
    program = Path(tempfile.gettempdir()) / f"pidwarden-forkloop-{os.getpid()}"
    subprocess.run(["gcc", "-O2", "-o", program, LOOP], check=True)
    try:
        yield program
    finally:
        program.unlink()


def one_loop(program: Path) -> int:
    """Nanoseconds for one fork + exit + wait."""
    return int(subprocess.run([program, str(FORKS)], check=True, capture_output=True, text=True).stdout)


def fork_cost(rounds: int, program: Path) -> tuple[float, float, list[float]]:
    """Medians without and with a guard, and the ratio of each round: off, on and off again, against drift."""
    off, on, ratios = [], [], []
    for _ in range(rounds):
        before = one_loop(program)
        guard = Guard()
        between = one_loop(program)
        guard.stop()
        after = one_loop(program)
        off += [before, after]
        on.append(between)
        ratios.append(2 * between / (before + after))
    return statistics.median(off), statistics.median(on), ratios


def at_rest() -> tuple[float, float]:
    """Per cent of one core over ten seconds, and MB resident."""
    guard = Guard()
    began = guard.cpu_seconds()
    time.sleep(REST_SECONDS)
    used = 100 * (guard.cpu_seconds() - began) / REST_SECONDS
    resident = guard.resident_mb()
    guard.stop()
    return used, resident


def main() -> int:
    """Measures and prints; 1 if a target is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with build_loop() as program:
        off, on, ratios = fork_cost(rounds, program)
    used, resident = at_rest()
    ratio = statistics.median(ratios)
    low, high = statistics.quantiles(ratios, n=4)[::2]
    print("| what | measured | target |")
    print("|---|---|---|")
    print(f"| fork + exit + wait, no guard | {off / 1000:.1f} µs | |")
    print(f"| fork + exit + wait, guard on | {on / 1000:.1f} µs | |")
    print(f"| ratio, median of {rounds} (quartiles {low:.3f} to {high:.3f}) | {ratio:.3f} | ≤ {TARGET_RATIO} |")
    print(f"| guard at rest, share of one core over {REST_SECONDS} s | {used:.2f} % | ≤ {TARGET_CPU} % |")
    print(f"| guard's resident memory | {resident:.0f} MB | ≤ {TARGET_RSS} MB |")
    return int(ratio > TARGET_RATIO or used > TARGET_CPU or resident > TARGET_RSS)


if __name__ == "__main__":
    raise SystemExit(main())
