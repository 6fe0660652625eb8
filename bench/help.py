"""How long a tired person waits for `pidwarden --help`. Run: ``python bench/help.py``. Prints Markdown."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 20
TARGET_MS = 100
PROGRAM = Path(sys.executable).with_name("pidwarden")


def once() -> float:
    """Milliseconds from start to end."""
    began = time.perf_counter()
    subprocess.run([PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - began)


def main() -> int:
    """Measures and prints; 1 if the target is missed."""
    median = statistics.median(once() for _ in range(ROUNDS))
    print("| what | measured | target |\n|---|---|---|")
    print(f"| `pidwarden --help`, median of {ROUNDS} | {median:.0f} ms | ≤ {TARGET_MS} ms |")
    return int(median > TARGET_MS)


if __name__ == "__main__":
    raise SystemExit(main())
