"""`pidwarden zombies`: is every cause named what it is, and how long do 20,000 zombies take?

Run as root: ``python bench/zombies.py table`` makes every cause there is a prop for, asks the command once, and writes
cause made by cause named into docs/zombies.md. ``python bench/zombies.py speed [ZOMBIES] [ROUNDS]`` reads the same
zombies with a program in C and with the command, in turn, and prints Markdown.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "host"))

from cli_kit import guard  # noqa: E402
from zombiekit import NEAR, PROPS, Prop, run  # noqa: E402  (the props of the tests)

from pidwarden.diagnose.cause import Cause  # noqa: E402
from pidwarden.drill.pen import DeadMan, Pen  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE = ROOT / "docs" / "zombies.md"
BEGIN, END = "<!-- table: python bench/zombies.py table -->\n", "<!-- end of table -->"
TURNS = 20  # times to ask again for what only lives for a moment
SETTLE = 0.5  # seconds for all props to fall asleep
ZOMBIES, ROUNDS = 20_000, 5
TARGET = 2.0  # times the C program's time, at most
DEADLINE = 300.0
COMMAND = [sys.executable, "-m", "pidwarden", "zombies", "--json", "--no-guard"]
# The same without the start of an interpreter and of the package.
INSIDE = """
import io, sys, time
from pidwarden.cli import main, zombies
from pidwarden.kernel import patience, slab
import json
out, sys.stdout = sys.stdout, io.StringIO()
began = time.perf_counter()
main.main(["zombies", "--json", "--no-guard"])
print(1000 * (time.perf_counter() - began), file=out)
"""


# -- the table ---------------------------------------------------------------------------------------------------------


def ask(command: Sequence[str] = COMMAND) -> dict[int, list[str]]:
    """The causes by parent, out of one run of the command."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return {p["pid"]: [c["cause"] for c in p["causes"]] for p in json.loads(done.stdout)["parents"]}


def confusion() -> dict[tuple[str, str], list[str]]:
    """Props by cause made and cause named."""
    found: dict[tuple[str, str], list[str]] = {}
    with contextlib.ExitStack() as stack:
        made = [(prop, stack.enter_context(prop.make(prop))) for prop in [*PROPS, *NEAR]]
        time.sleep(SETTLE)
        answers = ask()
        for prop, it in made:
            named = answers.get(it.pid) or _again(prop, it.pid)
            found.setdefault((prop.cause, " and ".join(named) or "no zombie"), []).append(prop.name)
    named = with_history()
    found.setdefault((str(Cause.EXECED), " and ".join(named) or "no zombie"), []).append("exec")
    return found


def with_history() -> list[str]:
    """What is named where a parent called exec after it forked: only a guard can know."""
    run_dir = f"/run/pidwarden-bench-{os.getpid()}"
    command = [*COMMAND[:-1], "--run-dir", run_dir]
    with guard(run_dir, "--mode", "observe", only=os.getpid()), run("exec") as (_running, pid, _other):
        return ask(command).get(pid, [])


def _again(prop: Prop, pid: int) -> list[str]:
    for _ in range(TURNS if prop in NEAR else 0):
        if named := ask().get(pid):
            return named
    return []


def table(found: dict[tuple[str, str], list[str]]) -> str:
    """As Markdown: a row for each cause made, with what it was named and how often."""
    causes = sorted({made for made, _named in found})
    named = sorted({n for _made, n in found})
    lines = ["| made \\ named | " + " | ".join(named) + " |", "|---" * (len(named) + 1) + "|"]
    for cause in causes:
        cells = [str(len(found.get((cause, n), ())) or "") for n in named]
        lines.append(f"| **{cause}** | " + " | ".join(cells) + " |")
    wrong = {key: props for key, props in found.items() if key[0] != key[1]}
    total = sum(map(len, found.values()))
    words = "; ".join(f"{', '.join(p)}: {made}, named {n}" for (made, n), p in wrong.items()) or "none misnamed"
    props = {cause: sorted(p for (m, _n), ps in found.items() if m == cause for p in ps) for cause in causes}
    rows = "\n".join(f"- {cause}: {', '.join(names)}" for cause, names in props.items())
    return "\n".join([f"{total} props, {words}.\n", *lines, "\nThe props (`tests/props/zombie.c`):\n", rows]) + "\n"


def write_table() -> int:
    """Writes it into the documentation; 1 if anything was misnamed."""
    found = confusion()
    text = table(found)
    before, _begin, rest = PAGE.read_text().partition(BEGIN)
    _old, _end, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + text + END + after)
    print(text)
    return int(any(made != named for made, named in found))


# -- the speed ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def zombies(count: int) -> Iterator[str]:
    """So many zombies of one parent, and the program that reads them."""
    folder = tempfile.mkdtemp(prefix="pidwarden-bench-")
    try:
        for name in ("zombie", "statreader"):
            source = ROOT / "tests" / "props" / f"{name}.c"
            subprocess.run(["gcc", "-O2", "-pthread", "-static", "-o", f"{folder}/{name}", source], check=True)
        made = Pen(count + 1000, slow=False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(DeadMan(made.directories, DEADLINE))
            stack.enter_context(made)
            argv = [f"{folder}/zombie", "never", str(count)]
            process = subprocess.Popen(argv, preexec_fn=made.enter, stdout=subprocess.PIPE)  # noqa: PLW1509  (no threads)
            assert process.stdout
            process.stdout.readline()
            try:
                yield f"{folder}/statreader"
            finally:
                made.kill()
                process.wait()
    finally:
        shutil.rmtree(folder)


def _timed(argv: list[str], environment: dict[str, str]) -> tuple[float, bytes]:
    began = time.perf_counter()
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return 1000 * (time.perf_counter() - began), done.stdout


def measure(count: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by way, in turn."""
    took: dict[str, list[float]] = {"C": [], "C, whole": [], "command": [], "command, whole": []}
    with zombies(count) as reader, tempfile.TemporaryDirectory() as folder:
        # Compiled once, as an installed package is; who says PYTHONDONTWRITEBYTECODE does not want to measure that.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        _timed(COMMAND, environment)
        for _ in range(rounds):
            whole, out = _timed([reader], environment)
            seen, microseconds = map(int, out.split())
            took["C"].append(microseconds / 1000)
            took["C, whole"].append(whole)
            whole, out = _timed(COMMAND, environment)
            listed = json.loads(out)["zombies"]
            took["command, whole"].append(whole)
            took["command"].append(float(_timed([sys.executable, "-c", INSIDE], environment)[1]))
            if min(seen, listed) < count:
                sys.exit(f"of {count} zombies C read {seen} and the command listed {listed}")
    return took


def speed(count: int, rounds: int) -> int:
    """Measures and prints; 1 if the target is missed."""
    took = measure(count, rounds)
    medians = {way: statistics.median(times) for way, times in took.items()}
    print(f"{count} zombies, medians of {rounds} rounds, the worst in brackets.\n")
    print("| what | ms | times C | target |\n|---|---|---|---|")
    rows = (
        ("C: each `stat` read once", "C", ""),
        ("the same with the program's start", "C, whole", ""),
        ("`pidwarden zombies --json --no-guard`, with causes", "command", f"≤ {TARGET}"),
        ("the same with the interpreter's start", "command, whole", f"≤ {TARGET}"),
    )
    for name, way, target in rows:
        print(f"| {name} | {medians[way]:.0f} ({max(took[way]):.0f}) | {medians[way] / medians['C']:.2f} | {target} |")
    return int(medians["command, whole"] > TARGET * medians["C"])


def main() -> int:
    """Runs one of the two."""
    what, *numbers = sys.argv[1:] or ["speed"]
    if what == "table":
        return write_table()
    count, rounds = (int(a) if a else d for a, d in zip([*numbers, "", ""][:2], (ZOMBIES, ROUNDS), strict=True))
    return speed(count, rounds)


if __name__ == "__main__":
    raise SystemExit(main())
