"""Records become objects, a line of JSON each. Pure: records in, values out; the same secrets are left out before."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, Protocol

from pidwarden.model.text import escape
from pidwarden.trace.abi import ENTER, ENTRY_LOST, EXEC, EXIT, FORK, NO_ENTRY, RETURN, SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pidwarden.trace.event import Event

_MAX_ERRNO: Final = 4095


class Decoder(Protocol):
    """What is needed of the decoder."""

    def name(self, nr: int) -> str:
        """Of a call."""

    def values(self, enter: Event | None, done: Event | None) -> Mapping[str, Any]:
        """Arguments by name."""

    def signal(self, event: Event) -> str:
        """``--- SIGCHLD {si_signo=SIGCHLD, …} ---``."""

    def ending(self, event: Event) -> str:
        """``+++ exited with 0 +++``, ``+++ killed by SIGKILL +++``."""


def _comm(event: Event) -> str:
    return escape(event.pieces[0].data.split(b"\0")[0]) if event.pieces else "?"


class Objects:
    """Give it records in order of time; it gives an object for each that says something."""

    def __init__(
        self,
        decoder: Decoder,
        ahead_ns: int,
        wanted: Callable[[str], bool],
        signals: Collection[int] | None = None,
    ) -> None:
        """`ahead_ns`: of UTC, before time since boot."""
        self._decoder, self._ahead, self._wanted, self._signals = decoder, ahead_ns, wanted, signals
        self._open: dict[int, Event] = {}

    def feed(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """Calls when they have returned, everything else as it comes."""
        out = []
        for event in events:
            if event.kind == ENTER:
                self._open[event.tid] = event
                if event.lost:
                    out.append(self._head(event, "lost"))
                continue
            found = self._one(event)
            if found is not None:
                out.append(found)
            elif event.lost:
                out.append(self._head(event, "lost"))
        return out

    def end(self) -> list[dict[str, Any]]:
        """Calls that are not finished when the trace ends, of those whose entry was told."""
        out = []
        for enter in self._open.values():
            if self._wanted(name := self._decoder.name(enter.nr)):
                known = dict(self._decoder.values(enter, None))
                out.append(self._head(enter, "unfinished") | {"call": name, "args": known})
        return out

    def _head(self, event: Event, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {"event": kind, "unix_ns": event.ns + self._ahead, "pid": event.tgid, "tid": event.tid}
        return found | {"lost": event.lost} if event.lost else found

    def _one(self, event: Event) -> dict[str, Any] | None:  # noqa: PLR0911  (one for each kind)
        if event.kind == RETURN:
            return self._call(event)
        if event.kind == FORK:
            return self._head(event, "fork") | {"child": event.args[1], "child_tid": event.args[0]}
        if event.kind == EXEC:
            return self._head(event, "exec") | {"old_tid": event.args[0], "comm": _comm(event)}
        if event.kind == SIGNAL:
            if self._signals is not None and event.args[0] not in self._signals:
                return None
            return self._head(event, "signal") | {
                "signal": event.args[0],
                "text": self._decoder.signal(event).strip("- "),
            }
        if event.kind == EXIT:
            self._open.pop(event.tid, None)
            return self._head(event, "exit") | {
                "status": event.ret,
                "last": bool(event.last),
                "text": self._decoder.ending(event).strip("+ "),
            }
        return None

    def _call(self, event: Event) -> dict[str, Any] | None:
        enter = self._open.pop(event.tid, None)
        if enter is not None and enter.ns != event.enter_ns:
            enter = None
        name = self._decoder.name(event.nr)
        if not self._wanted(name):
            return None
        failed = -_MAX_ERRNO <= event.ret < 0
        found = self._head(event, "call") | {
            "call": name,
            "args": dict(self._decoder.values(enter, event)),
            "ret": -1 if failed else event.ret,
            "errno": errno.errorcode.get(-event.ret, str(-event.ret)) if failed else None,
            "took_ns": event.ns - event.enter_ns if event.enter_ns else None,
        }
        if event.flags & (NO_ENTRY | ENTRY_LOST):
            found["entry"] = "lost" if event.flags & ENTRY_LOST else "not seen"
        return found
