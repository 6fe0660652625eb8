"""How long the judge takes over 50,000 records: one large bomb, and a bomb in a family that does much else.

Run: ``python bench/judge.py [RUNS]``. Prints Markdown. The histories are those of the unit tests.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pidwarden.judge.case import Case

TESTS = Path(__file__).parent.parent / "tests" / "unit"
RECORDS = 50_000
TARGET_MS = 300


def cases() -> dict[str, Case]:
    """What is judged, by name."""
    sys.path.insert(0, str(TESTS))
    from histories import BOMBS, MS, SECOND, STARTS, History, tight  # noqa: PLC0415

    bomb = History()
    tight(bomb, STARTS["beside_bystanders"](bomb), RECORDS)

    mixed = History()
    session = mixed.found(b"bash", age=3600 * SECOND)
    make = mixed.run(session, b"make")
    for _ in range(RECORDS // 13):
        mixed.wait(MS)
        mixed.run(mixed.run(make, b"sh"), b"cc1")
    server = mixed.run(session, b"server", age=600 * SECOND)
    for _ in range(RECORDS // 6):
        mixed.fork(server, age=60 * SECOND)
    mixed.wait(SECOND)
    for name in ("shell", "setsid", "queued"):
        BOMBS[name](mixed, mixed.run(session, name.encode()), RECORDS // 6)
    found = {"one bomb": bomb.case(), "three bombs, a build, a server": mixed.case()}
    memory = {name: dict.fromkeys((r.key for r in case.records[:1000]), 1 << 20) for name, case in found.items()}
    return {name: case._replace(memory=memory[name]) for name, case in found.items()}


def main() -> int:
    """Measures and prints; 1 if the target is missed."""
    from pidwarden.judge.case import Rules  # noqa: PLC0415
    from pidwarden.judge.judge import judge  # noqa: PLC0415

    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    missed = 0
    print("| what | records | verdict | members | median ms | worst ms | target ms |\n|---|---|---|---|---|---|---|")
    for name, case in cases().items():
        times = []
        for _ in range(runs):
            gc.collect()
            gc.disable()  # as the guard has it
            began = time.perf_counter()
            verdict = judge(case, Rules())
            times.append(1000 * (time.perf_counter() - began))
            gc.enable()
        median = statistics.median(times)
        missed += median > TARGET_MS
        print(
            f"| {name} | {len(case.records)} | {verdict.kind} | {len(verdict.members)} | {median:.0f} "
            f"| {max(times):.0f} | ≤ {TARGET_MS} |"
        )
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
