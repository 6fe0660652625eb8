"""Twenty thousand zombies of one parent, cleared in each way there is; and one zombie.

Run as root: ``python bench/reap.py [ZOMBIES] [ROUNDS]``. Prints Markdown. Times are those of the whole command, from
its start to its end; afterwards no zombie is left, and the parent, where it lives, answers and works.
"""

from __future__ import annotations

import contextlib
import os
import re
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

ZOMBIES, ROUNDS = 20_000, 5
PATIENCE = 120.0  # seconds, for whoever else fills the table
TARGET = 2.0  # seconds, by --inject
SOURCE = Path(__file__).parent.parent / "tests" / "props" / "parent.c"
REAP = [sys.executable, "-m", "pidwarden", "reap", "--no-guard", "--yes"]
# name: what the parent is told before, what is given to `pidwarden reap`, and whether the parent lives
WAYS = {
    "`reap --inject`": ((), ("--inject",), True),
    "`reap`: SIGCHLD, the handler takes all": (("reap-all",), (), True),
    "`reap`: SIGCHLD, the handler takes one": (("reap-one",), (), True),
    "`reap --up-to sigkill`: the parent is ended": ((), ("--up-to", "sigkill"), False),
}


class Parent:
    """The prop, told what to do a line at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.pid = process, process.pid
        self._answer()

    def _answer(self) -> list[int]:
        assert self._process.stdout
        return list(map(int, self._process.stdout.readline().split()))

    def ask(self, words: str) -> list[int]:
        """The two numbers it answers."""
        assert self._process.stdin
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        return self._answer()

    def zombies(self) -> int:
        """How many it owes a wait."""
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(b") Z " in Path(f"/proc/{pid}/stat").read_bytes() for pid in pids)


@contextlib.contextmanager
def parent(program: str) -> Iterator[Parent]:
    """One that waits for no child."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([program], text=True, **pipes) as process:
        try:
            yield Parent(process)
        finally:
            process.kill()


def room(count: int) -> bool:
    """Whether so many more fit into the table."""
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    used = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    return count + used + 2000 < limit


def processor() -> float:
    """Seconds of processor that commands have had."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(program: str, count: int, way: str) -> tuple[float, float, float]:
    """Seconds of the command, of the injection in it, and of the processor."""
    before, options, lives = WAYS[way]
    end = time.monotonic() + PATIENCE
    while not room(count):
        if time.monotonic() > end:
            sys.exit(f"there is no room for {count} zombies below pid_max")
        time.sleep(0.1)
    with parent(program) as owing:
        if owing.ask(f"make {count}") != [count, 0]:
            sys.exit("the parent could not make so many")
        for word in before:
            owing.ask(word)
        began, used = time.perf_counter(), processor()
        command = [*REAP, f"pid:{owing.pid}", *options]
        done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        took, used = time.perf_counter() - began, processor() - used
        if done.returncode:
            sys.exit(f"{way}: {done.stderr}{done.stdout}")
        if lives and (owing.zombies() or owing.ask("still") != [owing.pid, 1] or owing.ask("make 1") != [1, 0]):
            sys.exit(f"{way}: the parent is not what it was")
        inside = re.search(r"^ +in ([0-9.]+) s", done.stdout, re.MULTILINE)
        return took, float(inside[1]) if inside else 0.0, used


def main() -> int:
    """Measures and prints; 1 if the target is missed."""
    count, rounds = (int(a) if a else d for a, d in zip([*sys.argv[1:], "", ""][:2], (ZOMBIES, ROUNDS), strict=True))
    with tempfile.TemporaryDirectory(prefix="pidwarden-bench-") as folder:
        program = f"{folder}/parent"
        # as where it is installed: compiled
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        subprocess.run([*REAP, "pid:1", "--dry-run"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["gcc", "-O2", "-pthread", "-static", "-o", program, SOURCE], check=True)
        took: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                took[way].append(once(program, count, way))
        one = [once(program, 1, "`reap --inject`") for _ in range(rounds)]
    print(f"{count} zombies of one parent, medians of {rounds} rounds, the worst in brackets.\n")
    print("| way | s | target | of that the injection | processor, s |\n|---|---|---|---|---|")
    missed = False
    for way, times in took.items():
        total, inside, used = zip(*times, strict=True)
        median = statistics.median(total)
        target = f"< {TARGET:.0f}" if "inject" in way else ""
        missed |= bool(target) and median >= TARGET
        injected = f"{statistics.median(inside):.2f}" if any(inside) else ""
        print(f"| {way} | {median:.2f} ({max(total):.2f}) | {target} | {injected} | {statistics.median(used):.2f} |")
    total, inside, used = zip(*one, strict=True)
    print(f"| one zombie, `reap --inject` | {statistics.median(total):.2f} ({max(total):.2f}) | | "
          f"{statistics.median(inside):.4f} | {statistics.median(used):.2f} |")  # fmt: skip
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
