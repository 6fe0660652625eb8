"""The corpus: labelled workloads, run for real in pens, judged by the guard as it is shipped.

Run as root: ``python bench/corpus/run.py [NAME…]``, or ``make corpus``. Prints Markdown and, after a run of the whole
corpus, writes it to bench/corpus/results.md and its table into the README. Exit code 1 if a workload missed a goal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import table
from guilty import GUILTY
from innocent import INNOCENT
from stage import Stage

from pidwarden.errors import PidwardenError

if TYPE_CHECKING:
    from account import Run
    from workload import Workload

RESULTS = Path(__file__).parent / "results.md"
README = Path(__file__).parents[2] / "README.md"
_BEGIN, _END = "<!-- the table of bench/corpus/run.py -->\n", "<!-- its end -->\n"
CORPUS = {w.name: w for w in (*INNOCENT, *GUILTY)}
_GUARD_OPTIONS = ("hold-at", "mode", "grace", "config")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these workloads, or all of one label")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="so many runs of each (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object a run on standard output")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table to FILE as well, after each workload")
    parser.add_argument(
        "--guard-source", metavar="DIR", help="run the guard from this source tree: the directory with pidwarden in it"
    )
    for name in _GUARD_OPTIONS:
        parser.add_argument(f"--{name}", metavar="X", help="passed through to the guard")
    args = parser.parse_args(argv)
    labels = {w.label for w in CORPUS.values()}
    if unknown := [n for n in args.names if n not in CORPUS and n not in labels]:
        parser.error(f"there is no workload {', '.join(unknown)}; --list says what there is")
    return args


def _options(args: argparse.Namespace) -> list[str]:
    given = ((name, getattr(args, name.replace("-", "_"))) for name in _GUARD_OPTIONS)
    return [word for name, value in given if value is not None for word in (f"--{name}", value)]


def _report(rows: dict[str, list[Run]], args: argparse.Namespace) -> str:
    given = " ".join([*args.names, *_options(args), *(["--runs", str(args.runs)] if args.runs > 1 else [])])
    machine = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors"
    parts = [
        f"# The corpus, measured on {machine}\n",
        f"`python bench/corpus/run.py{' ' * bool(given)}{given}`: {table.summary(rows)}\n",
        table.table(rows),
    ]
    if why := table.reasons(rows):
        parts.append(f"\n## What was missed\n\n{why}")
    return "\n".join(parts) + "\n"


def _play(chosen: list[Workload], args: argparse.Namespace, rows: dict[str, list[Run]]) -> None:
    """Runs each as often as was asked for; what is known so far is in `rows`."""
    for workload in chosen:
        for _ in range(args.runs):
            began = time.monotonic()
            run = Stage(workload, _options(args)).play()
            rows.setdefault(workload.name, []).append(run)
            said = "; ".join(run.missed()) or "ok"
            print(f"{workload.name}: {said} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
            if args.json:
                print(json.dumps(run.as_json()), flush=True)
        if args.out:
            args.out.write_text(_report(rows, args))


def _publish(report: str) -> None:
    """The whole of it as the results, what stands before the reasons also in the README."""
    RESULTS.write_text(report)
    before, _, rest = README.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _title, _, table_and_summary = report.partition("\n\n## ")[0].partition("\n")
    README.write_text(f"{before}{_BEGIN}{table_and_summary.rstrip()}\n\n{_END}{after}")


def main(argv: list[str]) -> int:
    """Runs what was asked for; 1 if a workload missed a goal, 2 on a wrong name, otherwise as the guard ends."""
    args = _parse(argv)
    chosen = [w for w in CORPUS.values() if not args.names or w.name in args.names or w.label in args.names]
    if args.list:
        print(table.listing(chosen))
        return 0
    if args.guard_source:
        os.environ["PYTHONPATH"] = str(Path(args.guard_source).resolve())
    # Between two runs as well as in one: whatever ends us must run what cleans up.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    rows: dict[str, list[Run]] = {}
    code = 0
    try:
        _play(chosen, args, rows)
    except PidwardenError as why:
        print(f"corpus: {why}", file=sys.stderr)
        code = why.exit_code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    if rows and not args.json:
        print(_report(rows, args))
    if not code and len(rows) == len(CORPUS) and not _options(args) and not args.guard_source:
        _publish(_report(rows, args))
    return code or int(any(table.misses(runs) for runs in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
