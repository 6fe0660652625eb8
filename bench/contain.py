"""Every shape of the drill, several times: peak against the pen's cap, times from the alarm, bystanders.

Run as root: ``python bench/contain.py [RUNS]``. Prints Markdown; the guard has its default settings. Times are medians,
the worst in brackets.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

HOLD_AT = 300
TARGET_DEAD_MS = 250
GROWTH = {"threads": 4}  # times hold_at: many threads at once can be a pool (docs/adr/0011)


def drill() -> list[dict[str, object]]:
    """One drill of all shapes: a result each."""
    command = [sys.executable, "-m", "pidwarden", "drill", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return [r for r in map(json.loads, done.stdout.splitlines()) if "shape" in r]


def main() -> int:
    """Measures and prints; 1 if a target is missed."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    results: dict[str, list[dict[str, object]]] = {}
    for _ in range(runs):
        for result in drill():
            results.setdefault(str(result["shape"]), []).append(result)
    print("| shape | bomb's peak | pen's peak | pen's cap | survivors | dead ms | cleared ms | hurt | delay ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    missed = 0
    for shape, rows in results.items():

        def column(name: str, rows: list[dict[str, object]] = rows) -> list[float]:
            return [float(row[name] or 0) for row in rows]  # type: ignore[arg-type]

        peak, pen = max(column("peak")), max(column("pen_peak"))
        survivors, hurt = sum(column("survivors")), sum(len(row["bystanders_hurt"]) for row in rows)  # type: ignore[arg-type]
        dead, cleared, delay = column("dead_ms"), column("cleared_ms"), max(column("worst_delay_ms"))
        print(
            f"| {shape} | {peak:.0f} | {pen:.0f} | {rows[0]['pen_cap']} | {survivors:.0f} "
            f"| {statistics.median(dead):.0f} ({max(dead):.0f}) "
            f"| {statistics.median(cleared):.0f} ({max(cleared):.0f}) | {hurt} | {delay:.0f} |"
        )
        late = statistics.median(dead) > TARGET_DEAD_MS
        missed += late or bool(
            peak > GROWTH.get(shape, 2) * HOLD_AT or survivors or hurt or not all(row["passed"] for row in rows)
        )
    print(f"\n{runs} runs; {missed} of {len(results)} shapes missed a target")
    return int(missed > 0 or not results)


if __name__ == "__main__":
    raise SystemExit(main())
