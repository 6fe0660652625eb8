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
    from collections.abc import Mapping

    from pidwarden.cli.trace_backend import Backend, Trace
    from pidwarden.trace.event import Event
    from pidwarden.trace.redact import Redactor
    from pidwarden.trace.tracer import Tallies

_EVERY_NS = 500_000_000
_SECOND_NS = 1_000_000_000


def many(number: int, what: str) -> str:
    """As ``1 thread``, ``2 processes``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what[-1] == 's' else 's'}"


def shortfalls(tallies: Tallies) -> list[str]:
    """What is missing, in words."""
    found = []
    if tallies.lost:
        found.append(f"{tallies.lost} records were lost and are not shown; the counts of -c have them all")
    if tallies.untold:
        found.append(f"{tallies.untold} calls were not seen: there was no room for the state of their threads")
    if tallies.uncounted:
        found.append(f"{tallies.uncounted} calls are in the counts of no process, for want of room; the total has them")
    return found


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

    def names(self, known: Mapping[int, str]) -> None:
        """Of those that were there at the beginning."""
        self._comms.update({pid: self._clean(name) for pid, name in known.items()})

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
        text = f"{many(calls, 'call')}{rate}, {many(self._trace.known(), 'thread')}"
        text += f", {many(lost, 'record')} lost" if lost else ""
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
            found = summary.as_json(rows, by_process)
            return [json.dumps(found | {"kernel": self._trace.tallies()._asdict()})]
        utf8 = args.o is not None or (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        return summary.text(rows, by_process, full=args.histogram, utf8=utf8)
