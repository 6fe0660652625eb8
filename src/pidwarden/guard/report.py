"""What the guard says: one JSON object a line for programs, one line of text for people."""

from __future__ import annotations

import contextlib
import json
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

from pidwarden.kernel.clock import boot_ns, rfc3339
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record


def who(record: Record | None, key: ProcessKey) -> dict[str, Any]:
    """A process in an event; the name is escaped, and empty if it is not known any more."""
    comm = escape(record.comm) if record else ""
    return {"pid": key.tgid, "start_ns": key.start_ns, "comm": comm}


_TEXT = {
    "ready": "ready: knows families by {capabilities[know]}, hold: {capabilities[hold]}, kill: {capabilities[kill]}",
    "alarm": "family {family} of {founder[comm]} ({founder[pid]}): {slots} slots, alarm by {rule}",
    "held": "family {family}: held at {slots} slots",
    "verdict": "family {family}: {verdict}, {members} members, {spared} spared: {why}",
    "killed": "family {family}: killed {killed}, survivors {survivors}, unreaped {unreaped}, peak {peak_slots} slots; "
    "held {held_ms} ms, dead {dead_ms} ms after the alarm",
    "cleared": "family {family}: last zombie reaped {clear_ms} ms after the alarm",
    "released": "family {family}: released after {after_ms} ms",
    "would": "family {family}: would {action} ({members} members); observing only",
    "waiting": "family {family}: {why}; type `pidwarden kill {family}` or `pidwarden release {family}`",
    "frozen": "family {family}: {members} processes frozen by {frozen_by}",
    "thawed": "family {family}: its processes go on; forks are still held",
    "finding": "{rule}: {text}",
    "remedy": "{rule}: {text}",
    "note": "{text}",
    "stopped": "stopped",
}


# After an alarm the next event comes at once, after a verdict too: to write a status in between would only delay it.
_NO_CHANGE = ("note", "stopped", "alarm", "verdict")


class Reporter:
    """Writes events. Never blocks for long and never fails: a reader that went away must not end the guard."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None) -> None:
        self._json = as_json
        self._out = out or sys.stdout
        self.on_change: Callable[[], None] | None = None  # called after events that tell of a change of state
        self.dropped = 0  # events nobody could be told: the reader went away, or does not read
        self._poll: select.poll | None = None
        with contextlib.suppress(OSError, ValueError):  # not a file of the system: a test's buffer
            descriptor = self._out.fileno()
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def __call__(self, event: str, **fields: Any) -> None:
        """Writes one event with its time."""
        self._write(event, fields)
        if event not in _NO_CHANGE:
            self.changed()

    def changed(self) -> None:
        """Says that something has become of a family, with an event or without."""
        if self.on_change:
            self.on_change()

    def _write(self, event: str, fields: dict[str, Any]) -> None:
        if self._json:
            line = json.dumps({"event": event, "time": rfc3339(), "boot_ns": boot_ns(), **fields})
        else:
            why = "; ".join(fields.get("reasons", ())) or fields.get("why", "")
            line = f"{rfc3339()} " + _TEXT[event].format(**{**fields, "why": why})
        try:
            if self._has_room():
                self._out.write(line + "\n")
                self._out.flush()
                return
        except (OSError, ValueError):
            pass
        self.dropped += 1

    def _has_room(self) -> bool:
        """Whether a line can be written at once. A pipe is ready while a whole page fits (pipe(7))."""
        if self._poll is None:
            return True
        return any(events & select.POLLOUT for _fd, events in self._poll.poll(0))
