"""The session a workload runs in: its parent, and the parent of bystanders. ``python session.py OUTPUT COMMAND…``.

Orders come as lines on standard input (``go``, ``report``; its end is the end), answers go as JSON lines to standard
output: ``ready``, ``started``, ``ended`` and ``report``. What the workload prints goes to the file OUTPUT.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from functools import partial

from pidwarden.drill import stage
from pidwarden.drill.stage import Bystander, say

_ANSWER_SECONDS = 5.0
_SLEEPER = 'echo asleep; read -r x; echo "$x"; read -r x'
_PIPELINE = "while :; do echo x; sleep .1; done | cat"


class Session:
    """Starts the workload when told, and says what became of everybody."""

    def __init__(self, output: str, command: list[str]) -> None:
        self._output, self._command = output, command
        self._workload: subprocess.Popen[bytes] | None = None
        self._report_by: float | None = None
        self._ready = False
        ticker = [sys.executable, "-I", "-S", stage.__file__, "tick"]
        # Each with the number of lines that prove it works.
        self._bystanders = {
            Bystander("the one that forks 20 times a second", ticker): 2,
            Bystander("the sleeping shell", ["/bin/sh", "-c", _SLEEPER]): 1,
            Bystander("the pipeline", ["/bin/sh", "-c", _PIPELINE]): 2,
        }

    def run(self) -> int:
        """Until the end of standard input."""
        waking, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ, self._obey)
            selector.register(waking, selectors.EVENT_READ, partial(self._reap, waking))
            for bystander in self._bystanders:
                selector.register(bystander.out, selectors.EVENT_READ, partial(self._hear, bystander))
            while selector.get_map().get(0):
                wait = None if self._report_by is None else max(0.0, self._report_by - time.monotonic())
                for key, _events in selector.select(wait):
                    if not key.data():
                        selector.unregister(key.fileobj)  # at its end, which would be readable for ever
                self._speak()
        return 0

    def _obey(self) -> bool:
        orders = os.read(0, 4096).split()
        if b"go" in orders:
            self._go()
        if b"report" in orders:
            for bystander in self._bystanders:
                bystander.ask()
            self._report_by = time.monotonic() + _ANSWER_SECONDS
        return bool(orders)

    @staticmethod
    def _hear(bystander: Bystander) -> bool:
        return bystander.hear() != b""

    def _reap(self, waking: int) -> bool:
        os.read(waking, 4096)
        if self._workload is not None and self._workload.poll() is not None:
            say(ended=self._workload.returncode, ended_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            self._workload = None
        return True

    def _go(self) -> None:
        with open(self._output, "wb") as output:
            started = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            try:
                self._workload = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
                )
            except OSError as why:
                say(failed=f"{self._command[0]}: {why}")
                return
        say(started=self._workload.pid, started_ns=started)

    def _speak(self) -> None:
        if not self._ready and all(b.said for b in self._bystanders):
            self._ready = True
            say(ready={b.name: b.process.pid for b in self._bystanders})
        if self._report_by is None:
            return
        answered = all(b.answered(lines) or b.process.poll() is not None for b, lines in self._bystanders.items())
        if answered or time.monotonic() >= self._report_by:
            self._report_by = None
            say(report=[text for b, lines in self._bystanders.items() if (text := b.hurt(lines))])


def main(argv: list[str]) -> int:
    """OUTPUT COMMAND…"""
    os.setsid()
    with contextlib.suppress(BrokenPipeError):  # whoever started this is gone: there is nothing left to do
        return Session(argv[0], argv[1:]).run()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
