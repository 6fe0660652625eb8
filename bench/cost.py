"""What watching costs: five loads with nothing, a guard, forkstat or bcc's execsnoop beside them, in turn, in one run.

Run as root: ``python bench/cost.py [ROUNDS]``. Prints Markdown. Each measurement stands between two without a watcher,
against drift; ratios are medians. forkstat and execsnoop (packages ``forkstat`` and ``libbpf-tools``) are left out,
with a word, where they are not installed or do not start.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
LOOP = HERE.parent / "tests" / "props" / "forkloop.c"
TRACEFS = "/sys/kernel/tracing"
REST_SECONDS = 10
TARGET_CPU, TARGET_RSS = 0.5, 60
SOURCES = 60  # files of the compile job


class Load(NamedTuple):
    """What is measured: how it is called, how often in one measurement, and the most that a guard may cost."""

    name: str
    what: str  # argument of forkloop; empty: the compile job
    times: int
    target: float | None


LOADS = (
    Load("fork + exit + wait", "fork", 3000, 1.05),
    Load("fork + exec + wait", "exec", 800, None),
    Load("thread create + join", "thread", 10_000, None),
    Load("getppid", "getppid", 2_000_000, 1.03),
    Load(f"`make -j2` of {SOURCES} C files", "", 1, None),
)


class Guard:
    """A guard as shipped, watching the whole machine but acting only below this process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "pidwarden", "guard", "--json", "--only", f"pid:{os.getpid()}"]
        self.run_dir = f"/run/pidwarden-bench-{os.getpid()}"
        command += ["--run-dir", self.run_dir]
        self.process = subprocess.Popen(["stdbuf", "-oL", *command], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        while (event := json.loads(self.process.stdout.readline()))["event"] != "ready":
            pass
        self.gate = event["capabilities"]["hold"]

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
def guarded() -> Iterator[None]:
    """With a guard that is ready."""
    guard = Guard()
    try:
        yield
    finally:
        guard.stop()


@contextlib.contextmanager
def beside(*command: str) -> Iterator[None]:
    """With another watcher that has told of a process, so it watches."""
    process = subprocess.Popen(["stdbuf", "-oL", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    os.set_blocking(process.stdout.fileno(), False)
    try:
        said = b""
        for _ in range(200):
            subprocess.run(["/bin/true"], check=True)
            said += process.stdout.read() or b""
            if b"true" in said or process.poll() is not None:
                break
            time.sleep(0.05)
        if b"true" not in said:
            raise RuntimeError(said.decode(errors="replace").strip()[-200:] or "it says nothing")
        os.set_blocking(process.stdout.fileno(), True)
        with subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL) as sink:  # somebody reads it
            yield
            process.terminate()
            process.wait()
            sink.terminate()
    finally:
        process.kill()
        process.wait()


def watchers() -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    """What can be measured here; a word about what cannot."""
    found: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {"guard": guarded}
    for name, command in (("forkstat", ["forkstat", "-l"]), ("execsnoop", ["execsnoop"])):
        if not shutil.which(command[0]):
            print(f"{name} is not installed.\n")
            continue
        try:
            with beside(*command):
                found[name] = lambda command=command: beside(*command)
        except RuntimeError as why:
            print(f"{name} does not work here: {why}\n")
    return found


@contextlib.contextmanager
def tracefs() -> Iterator[None]:
    """Tracefs mounted: execsnoop looks for tracepoints there."""
    if os.path.isdir(f"{TRACEFS}/events"):
        yield
        return
    subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACEFS], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", TRACEFS], check=True)


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A folder with the loop compiled and the sources of the compile job."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["gcc", "-O2", "-pthread", "-o", folder / "forkloop", LOOP], check=True)
        for i in range(SOURCES):
            (folder / f"f{i}.c").write_text(
                f'#include <stdio.h>\nint f{i}(int n) {{ return printf("%d", n + {i}); }}\n'
            )
        objects = " ".join(f"f{i}.o" for i in range(SOURCES))
        (folder / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n")
        yield folder


def measure(load: Load, folder: Path) -> float:
    """Nanoseconds a round."""
    if load.what:
        command = [folder / "forkloop", str(load.times), load.what]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for path in folder.glob("*.o"):
        path.unlink()
    began = time.monotonic_ns()
    subprocess.run(["make", "-s", "-j2"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic_ns() - began


def compare(rounds: int, folder: Path) -> int:
    """The table; how many targets were missed."""
    everybody = watchers()
    alone: dict[str, list[float]] = {load.name: [] for load in LOADS}
    ratios: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for load in LOADS:
            before = measure(load, folder)
            for name, watcher in everybody.items():
                with watcher():
                    between = measure(load, folder)
                after = measure(load, folder)
                alone[load.name].append(before)
                ratios.setdefault((load.name, name), []).append(2 * between / (before + after))
                before = after
    print("| load | alone | " + " | ".join(f"with {n}" for n in everybody) + " | target for the guard |")
    print("|---|---|" + "---|" * len(everybody) + "---|")
    missed = 0
    for load in LOADS:
        median = {name: statistics.median(ratios[load.name, name]) for name in everybody}
        cells = []
        for name in everybody:
            low, _, high = statistics.quantiles(ratios[load.name, name], n=4)
            cells.append(f"{median[name]:.3f} ({low:.3f} to {high:.3f})")
        target = f"≤ {load.target}" if load.target else ""
        micros = statistics.median(alone[load.name]) / 1000
        shown = f"{micros:.3g} µs" if load.what else f"{micros / 1000:.0f} ms"
        print(f"| {load.name} | {shown} | {' | '.join(cells)} | {target} |")
        missed += load.target is not None and median["guard"] > load.target
    print(f"\nRatios to the same without a watcher: medians of {rounds}, quartiles in brackets.\n")
    return missed


def at_rest() -> int:
    """The guard with nothing to do; how many targets were missed."""
    guard = Guard()
    began = guard.cpu_seconds()
    time.sleep(REST_SECONDS)
    used = 100 * (guard.cpu_seconds() - began) / REST_SECONDS
    resident = guard.resident_mb()
    guard.stop()
    print("| what | measured | target |\n|---|---|---|")
    print(f"| gate in use | {guard.gate} | |")
    print(f"| guard at rest, share of one core over {REST_SECONDS} s | {used:.2f} % | ≤ {TARGET_CPU} % |")
    print(f"| guard's resident memory | {resident:.0f} MB | ≤ {TARGET_RSS} MB |")
    return (used > TARGET_CPU) + (resident > TARGET_RSS)


def main() -> int:
    """Measures and prints; 1 if a target is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with workshop() as folder, tracefs():
        missed = compare(rounds, folder)
    return int(missed + at_rest() > 0)


if __name__ == "__main__":
    raise SystemExit(main())
