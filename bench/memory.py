"""The guard's memory after a million forks, and what its history holds by then.

Run as root: ``python bench/memory.py [FORKS]``. Prints Markdown.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from cost import Guard, workshop
from pidwarden.guard.control import ask

if TYPE_CHECKING:
    from pathlib import Path

FORKS = 1_000_000
LOOPS = 2  # side by side, one a core
TARGET_MB = 100


def main() -> int:
    """Measures and prints; 1 if the target is missed."""
    forks = int(sys.argv[1]) if len(sys.argv) > 1 else FORKS
    with workshop() as folder:
        return measure(forks, folder / "forkloop")


def measure(forks: int, program: Path) -> int:
    """Forks under a guard with its default settings."""
    guard = Guard()
    try:
        before, began = guard.resident_mb(), time.monotonic()
        loops = [subprocess.Popen([program, str(forks // LOOPS)], stdout=subprocess.DEVNULL) for _ in range(LOOPS)]
        most = before
        while any(loop.poll() is None for loop in loops):
            most = max(most, guard.resident_mb())
            time.sleep(0.2)
        took = time.monotonic() - began
        after = guard.resident_mb()
        answer = ask(guard.run_dir, "status")
        assert answer is not None
        history = answer["history"]
    finally:
        guard.stop()
    print(f"{forks} forks in {took:.0f} s, {LOOPS} loops side by side\n")
    print("| what | measured | target |")
    print("|---|---|---|")
    print(f"| guard's resident memory before | {before:.0f} MB | |")
    print(f"| the most meanwhile | {most:.0f} MB | ≤ {TARGET_MB} MB |")
    print(f"| after | {after:.0f} MB | ≤ {TARGET_MB} MB |")
    print(f"| kernel memory of the maps, allocated at the start | {history['ceiling_bytes'] / 1e6:.0f} MB | |")
    print(f"| records by then | {history['records']} of {history['max_records']} | |")
    print(f"| removed by age / folded | {history['aged']} / {history['folded']} | |")
    return int(max(most, after) > TARGET_MB)


if __name__ == "__main__":
    raise SystemExit(main())
