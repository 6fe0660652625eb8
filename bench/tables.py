"""`pidwarden tables`: how long it takes beside thousands of processes, and how long sockets take to be listed.

Run as root: ``python bench/tables.py command [PROCESSES] [ROUNDS]`` starts so many that sleep and runs the command;
``python bench/tables.py sockets [CONNECTIONS]`` makes connections in a network namespace of its own and lists them with
our reader, with ``ss`` and, where it is installed, with pyroute2. Prints Markdown.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "host"), str(ROOT / "src")]

from pidwarden.kernel.tables import ports  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(work: Callable[[], object], rounds: int) -> str:
    """The median of some rounds, with the best and the worst, in ms."""
    taken = []
    for _round in range(rounds):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return f"{statistics.median(taken):.0f} ({min(taken):.0f} to {max(taken):.0f})"


def run(*argv: str) -> None:
    """One program, its output thrown away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, check=False)


def command(processes: int, rounds: int) -> None:
    """The whole command."""
    from kit import child  # noqa: PLC0415

    with child("crowd", str(processes)) as crowd:
        crowd.said()
        print(f"| beside {processes} processes | ms |\n|---|---|")
        for words in (("tables",), ("tables", "net"), ("tables", "--help")):
            argv = (sys.executable, "-m", "pidwarden", *words)
            print(f"| `pidwarden {' '.join(words)}` | {seconds(lambda argv=argv: run(*argv), rounds)} |")


def sockets(count: int) -> None:
    """The readers of sockets; in a network namespace that it is started in again."""
    if os.environ.get("PIDWARDEN_BENCH_NET") != "1":
        os.environ["PIDWARDEN_BENCH_NET"] = "1"
        start = 'ip link set lo up; exec "$@"'
        os.execvp("unshare", ["unshare", "-n", "sh", "-c", start, "sh", sys.executable, *sys.argv])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.create_server(("127.0.0.1", 1000), backlog=4096)
    held = []
    for _n in range(min(count, (most - 50) // 2)):
        held.append(socket.create_connection(("127.0.0.1", 1000)))
        held.append(listener.accept()[0])
    print(f"| {len(held)} sockets | ms |\n|---|---|\n| our reader | {seconds(ports.read, 5)} |")
    print(f"| `ss -tan` | {seconds(lambda: run('ss', '-tan'), 5)} |")
    try:
        began = time.perf_counter()
        from pyroute2.netlink.diag import DiagSocket  # noqa: PLC0415
    except ImportError:
        return
    print(f"| pyroute2, to load it | {(time.perf_counter() - began) * 1000:.0f} |")
    with DiagSocket() as diag:
        diag.bind()
        print(f"| pyroute2 | {seconds(lambda: list(diag.get_sock_stats(family=2)), 1)} |")


def main() -> int:
    """Measures what was asked for."""
    numbers = [int(word) for word in sys.argv[2:]]
    if sys.argv[1:2] == ["sockets"]:
        sockets(*(numbers or [10_000]))
    else:
        command(*([*numbers, *[5000, 5][len(numbers) :]]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
