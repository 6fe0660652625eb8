"""What `pidwarden stuck` costs: processor time of its looks, without the pause between them, by number of threads.

Run as root: ``python bench/stuck.py [THREADS]``. Prints Markdown; the best of five.
"""

from __future__ import annotations

import subprocess
import sys
import time

from pidwarden.kernel import procfs, stuck

_CHILD = """import sys, threading
threading.stack_size(65536)
for _ in range(int(sys.argv[1])): threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True); sys.stdin.read()"""


def cost() -> tuple[int, float]:
    """Threads that were looked at, and ms of processor time."""
    before = time.process_time()
    seen = stuck.look(seconds=0).seen
    return seen, (time.process_time() - before) * 1e3


def main() -> int:
    """Measures and prints."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    print("| threads seen | CPU ms | µs a thread |\n|---|---|---|")
    for wanted in (0, most // 4, most):
        command = [sys.executable, "-c", _CHILD, str(wanted)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdout.readline()
            assert procfs.stat(child.pid)
            seen, ms = min((cost() for _ in range(5)), key=lambda found: found[1])
            child.stdin.close()
            child.kill()
        print(f"| {seen} | {ms:.1f} | {ms * 1e3 / seen:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
