"""A trace of 100,000 calls in a second for ten: are the counts exact, is every loss accounted for, is memory bounded?

Run as root: ``python bench/traceload.py [SECONDS]``. Prints Markdown; 1 if anything is not as it should be. Half of the
calls are getppid, half openat of a path that is not there; the program knows how many it made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tracing import HOOKS, LOOP, OURS, SETTLE_SECONDS, has

RATE = 100_000
MOST_MB = 250


class Run(NamedTuple):
    """What came of one trace."""

    name: str
    made: dict[str, int]
    seconds: float
    summary: dict[str, Any]
    told: Counter[str]
    lost_in_stream: int
    peak_mb: float

    def faults(self) -> list[str]:
        """What is not as it should be."""
        counted = {c["call"]: c for c in self.summary["calls"]}
        found = []
        for name, made in self.made.items():
            if counted[name]["calls"] != made:
                found.append(f"{name}: {counted[name]['calls']} counted, {made} made")
            if self.told and self.told[name] + counted[name]["lost"] != made:
                found.append(f"{name}: {self.told[name]} told and {counted[name]['lost']} lost of {made}")
        if self.peak_mb > MOST_MB:
            found.append(f"{self.peak_mb:.0f} MB of memory")
        return found


def measure(name: str, seconds: int, *options: str) -> Run:
    """One trace, of one program from its first paced call to its last."""
    calls = RATE * seconds
    with tempfile.TemporaryDirectory() as folder:
        program, lines = f"{folder}/callloop", Path(folder) / "trace.jsonl"
        subprocess.run(["gcc", "-O2", "-o", program, str(LOOP)], check=True)
        loop = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        command = [*OURS, "--json", "-o", str(lines), *options, "-p", str(loop.pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not has("bpf_link", HOOKS)(tracer.pid, loop.pid):
            time.sleep(0.05)
        time.sleep(SETTLE_SECONDS)
        assert loop.stdin
        assert loop.stdout
        loop.stdin.write(f"paced {calls}\n")
        loop.stdin.flush()
        each_ns = float(loop.stdout.readline())
        tracer.send_signal(2)
        _pid, status, used = os.wait4(tracer.pid, 0)  # it writes what is left
        tracer.returncode = os.waitstatus_to_exitcode(status)
        loop.communicate("")
        events = [json.loads(line) for line in lines.read_text().splitlines()]
    made = {"getppid": (calls + 1) // 2, "openat": calls // 2}
    told = Counter(e["call"] for e in events if e["event"] == "call")
    summary = next(e for e in events if e["event"] == "summary")
    lost = sum(e.get("records", 0) for e in events if e["event"] == "lost")
    return Run(name, made, each_ns * calls / 1e9, summary, told, lost, used.ru_maxrss / 1e3)


def main() -> int:
    """Runs it; 1 if anything is not as it should be."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print("| trace | calls made | in s | counted | told | lost, by call | memory, peak |")
    print("|---|---|---|---|---|---|---|")
    faults = []
    for run in (measure("`-c`", seconds, "-c"), measure("`-C`", seconds, "-C")):
        counted = sum(c["calls"] for c in run.summary["calls"] if c["call"] in run.made)
        lost = ", ".join(f"{c['call']} {c['lost']}" for c in run.summary["calls"] if c["call"] in run.made)
        made, told = sum(run.made.values()), sum(run.told[name] for name in run.made)
        print(f"| {run.name} | {made} | {run.seconds:.2f} | {counted} | {told} | {lost} | {run.peak_mb:.0f} MB |")
        faults += [f"{run.name}: {fault}" for fault in run.faults()]
    print(
        f"\nNot as it should be: {'; '.join(faults)}." if faults else "\nEvery call is counted, each loss by its call."
    )
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
