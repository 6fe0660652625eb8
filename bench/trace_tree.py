"""A tree of which a part was forked before somebody traces it: how many of its marked calls does each tool see?

Run as root: ``python bench/trace_tree.py``. In turn: `pidwarden trace`, strace and perf trace, if they are there. The
tree forks all the time (tests/props/marks.c); each of its processes and threads makes one marked call when the tool is
attached. Prints Markdown.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
MARKS = ROOT / "tests" / "props" / "marks.c"
SHAPE = ("10", "3", "1000")  # processes, threads of each, most that are forked meanwhile
MORE, SETTLE_SECONDS = 50, 0.5
CALL = "access"


class Tool(NamedTuple):
    """How it is started, given a process and a file; whether it is attached, given its process, that one, its words."""

    name: str
    argv: Callable[[int, str], list[str]]
    is_there: Callable[[int, int, str], bool]


def children(pid: int) -> list[int]:
    """Of a process, of its first thread."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def below(pid: int) -> list[int]:
    """It and its descendants."""
    return [pid, *(found for child in children(pid) for found in below(child))]


def is_traced(_tool: int, pid: int, _said: str) -> bool:
    """Whether somebody traces it by ptrace."""
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")


def has_events(tool: int, _pid: int, _said: str) -> bool:
    """Whether perf has its descriptors."""
    return any("perf_event" in os.readlink(link) for link in Path(f"/proc/{tool}/fd").iterdir() if link.is_symlink())


def strace_all(pid: int, file: str) -> list[str]:
    """With all that there are now."""
    return ["strace", "-f", "-e", CALL, "-o", file, *(word for member in below(pid) for word in ("-p", str(member)))]


OURS = [sys.executable, "-m", "pidwarden", "trace", "-e", CALL, "-o"]
TOOLS = (
    Tool(
        "`pidwarden trace tree:PID`",
        lambda pid, file: [*OURS, file, f"tree:{pid}"],
        lambda _tool, _pid, said: " traces " in said,
    ),
    Tool("`strace -f -p PID`", lambda pid, file: ["strace", "-f", "-e", CALL, "-o", file, "-p", str(pid)], is_traced),
    Tool("`strace -f` with `-p` for each that a list had", strace_all, is_traced),
    Tool(
        "`perf trace -p PID`",
        lambda pid, file: ["perf", "trace", "-e", CALL, "-o", file, "-p", str(pid)],
        has_events,
    ),
)


def until(look: Callable[[], bool]) -> None:
    """Waits for it."""
    while not look():
        time.sleep(0.01)


def measure(tool: Tool, program: str, file: str) -> tuple[int, int]:
    """Marked calls that were made, and those that it saw."""
    with subprocess.Popen([program, *SHAPE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tree:
        assert tree.stdin is not None
        assert tree.stdout is not None
        _zero, pid = map(int, tree.stdout.readline().split())
        said = Path(f"{file}.said")
        with said.open("w") as errors, subprocess.Popen(tool.argv(pid, file), stderr=errors) as tracer:
            until(lambda: tracer.poll() is not None or tool.is_there(tracer.pid, pid, said.read_text()))
            time.sleep(SETTLE_SECONDS)
            there = len(children(pid))
            until(lambda: len(children(pid)) > there + MORE)
            tree.stdin.close()
            _one, made = map(int, tree.stdout.readline().split())
            tree.wait()
            time.sleep(SETTLE_SECONDS)
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
    lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    return made, sum(f"{CALL}(" in line and "resumed" not in line and "continued" not in line for line in lines)


def main() -> int:
    """Measures and prints; 1 if we missed one."""
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    missed = 0
    print("|tool|marked calls made|seen|missed|\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/marks"
        subprocess.run(["gcc", "-O2", "-pthread", "-o", program, str(MARKS)], check=True)
        for tool in TOOLS:
            if shutil.which(tool.argv(os.getpid(), "")[0]) is None:
                print(f"|{tool.name}|not there||")
                continue
            made, seen = measure(tool, program, f"{folder}/out")
            missed += made - seen if tool is TOOLS[0] else 0
            print(f"|{tool.name}|{made}|{seen}|{made - seen}|", flush=True)
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
