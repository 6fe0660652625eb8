"""How long it takes to win a full pen back: `pidwarden rescue --auto` beside the classic loop of shell built-ins.

``bench/rescue.py [TASKS [ROUNDS [WAY …]]]``; without a WAY all of them, and the prompt. Each round fills a pen anew for
each of them, in turn, with tight loops. They run outside of it: in a cgroup of a kernel that groups real-time tasks as
well (RT_GROUP_SCHED) neither gets to run beside thousands. The time runs from the
start of the program to its end, with nobody left. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from pidwarden.drill import deadman
from pidwarden.drill.pen import DeadMan, Pen
from pidwarden.kernel import procfs
from pidwarden.rescue.prepare import prepare

BOMB = Path(__file__).parents[1] / "tests" / "props" / "bomb.c"
NICE = ("nice", "-n", "-20")  # as the runbook says
CONSOLE = [sys.executable, "-m", "pidwarden", "rescue"]
RESCUE = [*NICE, *CONSOLE, "--auto", "--yes"]
# What the how-tos say: stop everything of that name, again until nothing new is found, then kill it.
CLASSIC = """
stopped=" "; new=1
while [ $new -gt 0 ]; do
  new=0
  for d in /proc/[0-9]*; do
    p=${d#/proc/}
    read -r n <$d/comm && [ "$n" = "$1" ] || continue
    case $stopped in *" $p "*) continue;; esac
    kill -STOP $p && stopped="$stopped$p " new=$((new + 1))
  done
done 2>/dev/null
for p in $stopped; do kill -KILL $p; done
left=1
while [ $left -gt 0 ]; do
  left=0
  for d in /proc/[0-9]*; do
    read -r n <$d/comm && [ "$n" = "$1" ] || continue
    while read -r k v rest; do [ "$k" = State: ] && break; done <$d/status
    case $v in Z|X) ;; *) left=$((left + 1)); kill -KILL ${d#/proc/};; esac
  done
done 2>/dev/null
"""
TYPED, NICED = "classic, as typed", "classic, niced"
PREPARED = "kernel gate, with copies of its own"
PATIENCE = 60  # seconds for each: a shell beside thousands that spin may hardly get to run
WAYS = {
    TYPED: ["bash", "-c", CLASSIC, "classic", "pwrescued"],
    NICED: [*NICE, "bash", "-c", CLASSIC, "classic", "pwrescued"],
    "passes": [*RESCUE, "--no-gate"],
    "kernel gate": [*RESCUE, "--gate"],
    PREPARED: [],  # known once it is prepared
}
TARGET_RATIO, TARGET_SECONDS, TARGET_PROMPT = 10.0, 1.0, 300.0


def fill(pen: Pen, bomb: str, tasks: int) -> subprocess.Popen[bytes]:
    """Sets the bomb off and waits until no fork succeeds any more."""
    process = subprocess.Popen([bomb, "tight"], preexec_fn=pen.enter, stderr=subprocess.DEVNULL)  # noqa: PLW1509
    while pen.current() < tasks:
        time.sleep(0.01)
    return process


def told(command: list[str], bomb: str) -> list[str]:
    """The command with the number of just this bomb, whatever else is on the machine."""
    if "--auto" not in command:
        return command
    look = [*command[: command.index("--auto")], "--auto", "--dry-run", "--json"]
    found = json.loads(subprocess.run(look, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout)
    (number,) = (s["suspect"] for s in found["suspects"] if s["program"] == bomb)
    return [*command, "--suspect", str(number)]


def measure(command: list[str], bomb: str, tasks: int) -> float:
    """Seconds from the start of the program to its end, with the pen proven empty; infinite if it lost its patience."""
    pen = Pen(tasks, slow=False)
    with DeadMan(pen.directories, 300), pen:
        process = fill(pen, bomb, tasks)
        try:
            try:
                command = told(command, bomb)
                began = time.monotonic()
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                return math.inf
            took = time.monotonic() - began
            left = [pid for pid in deadman.members(pen.directories) if (s := procfs.stat(pid)) and s.state not in "ZX"]
            if done.returncode or left:
                raise SystemExit(f"{command[0]}: exit {done.returncode}, {len(left)} left\n{done.stdout}{done.stderr}")
        finally:
            pen.kill()
            process.wait()
    while any((s := procfs.stat(int(n))) and s.comm == b"pwrescued" for n in os.listdir("/proc") if n.isdecimal()):
        time.sleep(0.1)  # process 1 reaps them
    return took


def prompt(before: tuple[str, ...] = ()) -> float:
    """Milliseconds from the start of the program, by another one if that is given, to its prompt."""
    began = time.monotonic()
    with subprocess.Popen([*before, *CONSOLE, "--no-shell"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while b"rescue> " not in said:
            said += os.read(process.stdout.fileno(), 65536)
        took = time.monotonic() - began
        process.stdin.close()
    return 1000 * took


def prompts(bomb: str, tasks: int) -> tuple[list[float], list[float]]:
    """The same on an idle machine, and while a bomb in a pen forks in vain, as the runbook types it; 20 times each."""
    idle = [prompt() for _ in range(20)]
    pen = Pen(tasks, slow=False)
    with DeadMan(pen.directories, 300), pen:
        process = fill(pen, bomb, tasks)
        try:
            busy = [prompt(NICE) for _ in range(20)]
        finally:
            pen.kill()
            process.wait()
    return idle, busy


def main() -> int:
    """Measures and prints; 1 if a target is missed."""
    numbers = sys.argv[1:3]
    tasks, rounds = [*map(int, numbers), *(4000, 5)[len(numbers) :]]
    wanted = {name: command for name, command in WAYS.items() if name in sys.argv[3:] or not sys.argv[3:]}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found: dict[str, list[float]] = {name: [] for name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        bomb = f"{folder}/pwrescued"
        if PREPARED in wanted:
            wanted[PREPARED] = [*prepare(f"{folder}/rescue").command, "--auto", "--yes", "--gate"]
        subprocess.run(["gcc", "-O2", "-pthread", "-o", bomb, str(BOMB)], check=True)
        for _ in range(rounds):
            for name, command in wanted.items():
                found[name].append(measure(command, bomb, tasks))
                print(f"{name}: {found[name][-1]:.2f} s", file=sys.stderr, flush=True)
        idle, busy = prompts(bomb, tasks) if wanted.keys() == WAYS.keys() else ([], [])
    print(f"{tasks:,} tasks, {rounds} rounds, seconds (median, fastest, slowest)")
    for name, times in found.items():
        print(f"{name:<36} {statistics.median(times):7.2f} {min(times):7.2f} {max(times):7.2f}")
    if not idle:
        return 0
    for where, times in (("idle", idle), ("beside a running bomb", busy)):
        print(f"prompt, {where}: median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms")
    print(f"(target when idle: {TARGET_PROMPT:.0f} ms)")
    passes, gated = (statistics.median(found[name]) for name in ("passes", "kernel gate"))
    ratios = {}
    for name in (TYPED, NICED):
        classic = statistics.median(found[name])
        more, classic = ("more than ", float(PATIENCE)) if classic == math.inf else ("", classic)
        ratios[name] = classic / passes
        gates = f"with the gate {more}{classic / gated:.1f} times"
        print(f"{name}: passes are {more}{ratios[name]:.1f} times faster, {gates}")
    print(f"(targets: {TARGET_RATIO:.0f} times, with the gate {TARGET_SECONDS:.0f} s)")
    reached = statistics.median(idle) <= TARGET_PROMPT and ratios[TYPED] >= TARGET_RATIO
    return 0 if reached and gated < TARGET_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
