"""The session a workload runs in: its parent, and the parent of bystanders. ``python session.py OUTPUT COMMAND…``.

Orders come as lines on standard input (``go``, ``report``; its end is the end), answers go as JSON lines to standard
output: ``ready``, ``started``, ``ended`` and ``report``. What the workload prints goes to the file OUTPUT.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

from pidwarden.drill.stage import Company, say


class Session(Company):
    """The performer is the workload."""

    def __init__(self, output: str, command: list[str]) -> None:
        super().__init__()
        self._output, self._command = output, command

    def go(self) -> None:
        """Starts the workload, in a process group of its own."""
        with open(self._output, "wb") as output:
            started = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            try:
                self._performer = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
                )
            except OSError as why:
                say(failed=f"{self._command[0]}: {why}")
                return
        say(started=self._performer.pid, started_ns=started)

    def ended(self, code: int) -> None:
        """The workload has ended."""
        say(ended=code, ended_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def main(argv: list[str]) -> int:
    """OUTPUT COMMAND…"""
    os.setsid()
    with contextlib.suppress(BrokenPipeError):  # whoever started this is gone: there is nothing left to do
        return Session(argv[0], argv[1:]).run()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
