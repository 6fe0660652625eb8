"""What a trace says of itself: a line that is rewritten while it goes on, counts when it has ended."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pidwarden.cli import trace_whom
from pidwarden.model.text import escape
from pidwarden.trace import summary
from pidwarden.trace.abi import EXEC, FORK

if TYPE_CHECKING:
    import argparse

    from pidwarden.cli.trace_backend import Backend, Trace
    from pidwarden.trace.event import Event
    from pidwarden.trace.redact import Redactor

_EVERY_NS = 500_000_000
_SECOND_NS = 1_000_000_000


class Report:
    """Of one trace."""

    def __init__(self, args: argparse.Namespace, backend: Backend, trace: Trace, redactor: Redactor | None) -> None:
        self._args, self._backend, self._trace, self._redactor = args, backend, trace, redactor
        quiet = args.quiet or not sys.stderr.isatty()
        self._progress = not quiet and (args.c or args.o is not None)
        self._next_ns = 0
        self._last: tuple[int, int] | None = None  # ns, calls
        self._shown = False
        self._comms: dict[int, str] = {}

    def tick(self, now_ns: int) -> None:
        """Now and then: learns names while their owners are there, and says how it goes."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _EVERY_NS
        if self._args.by_process:
            self._learn()
        if self._progress:
            self._rewrite(now_ns)

    def _learn(self) -> None:
        for tgid, _nr in self._trace.by_process():
            if tgid not in self._comms:
                self._comms[tgid] = self._clean(trace_whom.comm(tgid))

    def _clean(self, name: str) -> str:
        return self._redactor.text(name) if self._redactor else name

    def note(self, event: Event) -> None:
        """A child has its parent's name until it becomes another program."""
        if event.kind == FORK and event.args[1] != event.tgid:
            parent = self._comms.get(event.tgid) or self._clean(trace_whom.comm(event.tgid))
            self._comms[event.args[1]] = parent
        elif event.kind == EXEC and event.pieces:
            self._comms[event.tgid] = self._clean(escape(event.pieces[0].data.partition(b"\0")[0]))

    def _rewrite(self, now_ns: int) -> None:
        calls = sum(total.sums.calls for total in self._trace.totals().values())
        rate = ""
        if self._last is not None and now_ns > self._last[0]:
            rate = f", {(calls - self._last[1]) * _SECOND_NS // (now_ns - self._last[0])}/s"
        self._last = (now_ns, calls)
        lost = self._trace.tallies().lost
        text = f"{calls} calls{rate}, {self._trace.known()} threads" + (f", {lost} records lost" if lost else "")
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = True

    def clear(self) -> None:
        """Takes the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False

    def summary(self) -> list[str]:
        """Counts, as text or as one object."""
        name, args = self._backend.decoder.name, self._args
        totals = self._trace.totals()
        buckets = {nr: total.buckets for nr, total in totals.items()}
        rows = summary.rows({nr: total.sums for nr, total in totals.items()}, name, args.S, buckets)
        by_process: list[summary.Process] = []
        if args.by_process:
            self._learn()
            by_process = summary.processes(
                self._trace.by_process(), name, lambda pid: self._comms.get(pid, "?"), args.S
            )
        if args.json:
            return [json.dumps(summary.as_json(rows, by_process))]
        utf8 = args.o is not None or (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        return summary.text(rows, by_process, full=args.histogram, utf8=utf8)
