"""`pidwarden conntrack`: what do a summary and a breakdown of 200,000 entries take, and is the memory estimate right?

Run as root: ``python bench/conntrack.py [ENTRIES] [ROUNDS]`` fills the table of a network namespace of its own by
ctnetlink, compares the estimate with /proc/slabinfo before and after, and times the summary, the breakdown and
``conntrack -L | wc -l`` in turn. Prints Markdown.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "host"))
sys.path.insert(0, str(ROOT / "src"))

from ctkit import SYSCTL, Space  # noqa: E402  (of the tests)

from pidwarden.kernel import ctmemory, slab  # noqa: E402

ENTRIES, ROUNDS = 200_000, 7
MIB = 1 << 20
WORK_MS, WITHIN = 50.0, 0.10  # what the summary may take, what the estimate may be off by
COMMAND = [sys.executable, "-m", "pidwarden", "conntrack"]
# The summary without the pause between its looks: processor time of what is done, start of the interpreter apart.
INSIDE = """
import sys, time
from pidwarden.cli import conntrack_look, main
conntrack_look.PAUSE = 0.0
began = time.process_time()
main.main(["conntrack", "--json", "--netns", sys.argv[1]])
print(1000 * (time.process_time() - began), file=sys.stderr)
"""
WALK = [*COMMAND, "--walk", "--json"]
TOOL = ["sh", "-c", "conntrack -L 2>/dev/null | wc -l"]


def slab_bytes() -> tuple[int, int]:
    """Bytes of the objects of conntrack's cache and of the cache of its blocks, as they are counted in use."""
    caches = slab.caches()
    plain = [c for name, c in caches.items() if ctmemory.is_plain(name) and c.size == ctmemory.PREALLOCATED]
    entries = caches[ctmemory.ENTRIES]
    return round(entries.active * entries.footprint), sum(round(c.active * c.footprint) for c in plain)


def summary_ms(pid: int) -> float:
    """Ms of processor time of one summary."""
    argv = [sys.executable, "-c", INSIDE, str(pid)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return float(done.stderr.split()[-1])


def timed(inside: Space, argv: list[str]) -> tuple[float, float]:
    """Seconds that passed, and of processor time, of a program inside."""
    before, began = os.times(), time.monotonic()
    inside.run(*argv, check=False)
    passed, after = time.monotonic() - began, os.times()
    return passed, sum(after[2:4]) - sum(before[2:4])


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def main() -> int:
    """Measures and prints; 1 if a promise is not kept."""
    entries, rounds = (int(given) for given in (*sys.argv[1:], *map(str, (ENTRIES, ROUNDS)[len(sys.argv) - 1 :])))
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    inside = Space()
    try:
        before = sum(slab_bytes())
        inside.fill(entries, sources=200, targets=5_000, timeout=432_000)
        after = sum(slab_bytes())
        found = inside.ask()
        count, memory = inside.count(), found["memory"]
        off = memory["bytes_entries"] / (after - before) - 1
        summaries, walks, tools = [], [], []
        for _n in range(rounds):
            summaries.append(summary_ms(inside.pid))
            walks.append(timed(inside, WALK))
            tools.append(timed(inside, TOOL))
    finally:
        inside.end()
    work = median(summaries)
    ours, theirs = (median([passed for passed, _cpu in several]) for several in (walks, tools))
    ours_cpu, theirs_cpu = (median([cpu for _passed, cpu in several]) for several in (walks, tools))
    limit = Path(SYSCTL + "max").read_text().strip()
    how = f"`python bench/conntrack.py {entries} {rounds}`"
    print(f"{count} entries of {limit}, {rounds} rounds in turn, medians; {how}\n")
    print("| what | passed | processor |\n|---|---|---|")
    print(f"| summary, two looks without the pause between | | {work:.1f} ms |")
    print(f"| `pidwarden conntrack --walk --json`, with its start | {ours:.2f} s | {ours_cpu:.2f} s |")
    print(f"| `conntrack -L \\| wc -l` | {theirs:.2f} s | {theirs_cpu:.2f} s |\n")
    estimate, grown = (number / MIB for number in (memory["bytes_entries"], after - before))
    print(f"Memory: estimate {estimate:.1f} MiB, slabs grew by {grown:.1f} MiB: {off:+.1%}.")
    kept = work < WORK_MS and ours_cpu < theirs_cpu and ours < theirs and abs(off) <= WITHIN
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
