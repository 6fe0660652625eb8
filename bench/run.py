"""All benches one after the other, into bench/results.md. Run as root: ``python bench/run.py``, or ``make bench``."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHES = ("contain.py", "lost.py", "cost.py", "memory.py", "judge.py", "ps.py", "zombies.py", "reap.py", "help.py")


def main() -> int:
    """Runs them all; 1 if any missed its target."""
    parts = [f"# Measured on {platform.system()} {platform.release()}, {platform.machine()}\n"]
    failed = 0
    for name in BENCHES:
        done = subprocess.run([sys.executable, str(HERE / name)], stdout=subprocess.PIPE, text=True, check=False)
        failed += done.returncode != 0
        parts.append(f"`python bench/{name}`\n\n{done.stdout}")
        print(parts[-1], flush=True)
    (HERE / "results.md").write_text("\n".join(parts))
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
