"""What was changed, what it was before, and the way back: the last change first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pidwarden.errors import PidwardenError
from pidwarden.kernel import clock
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable

_SECOND = 1_000_000_000


class Place(Protocol):
    """Something that holds one value: a file of the kernel's, a limit of a process."""

    @property
    def name(self) -> str:
        """What a person knows it by."""

    def read(self) -> str:
        """The value now.

        Raises:
            FileNotFoundError, ProcessLookupError: it is gone.
            PidwardenError: it cannot be read.
        """

    def write(self, value: str) -> None:
        """Changes it. The same is raised."""


class Change(NamedTuple):
    """One change: ns since boot, what it held and what it holds. ``old`` None: it cannot be taken back."""

    when_ns: int
    place: Place
    old: str | None
    new: str
    undone: bool = False


def _value(value: str) -> str:
    """A value as one word for people."""
    return escape(os.fsencode(" ".join(value.split()))) or "nothing"


class Ledger:
    """Every change there was, in order."""

    def __init__(self, now: Callable[[], int] = clock.boot_ns) -> None:
        self.changes: list[Change] = []
        self._now = now

    def put(self, place: Place, value: str, *, once: bool = False) -> list[str]:
        """Changes a place and enters it. `once`: it cannot be read, so there is no way back.

        Raises:
            FileNotFoundError, ProcessLookupError: it is gone.
            PidwardenError: it cannot be read or changed; then nothing is entered.
        """
        old = None if once else place.read()
        self.changes.append(Change(self._now(), place, old, value))  # before it is done: Ctrl-C may come in between
        try:
            place.write(value)
        except (OSError, PidwardenError):
            self.changes.pop()
            raise
        if old is None:
            return [f"{_value(place.name)}: wrote {_value(value)}; this cannot be undone"]
        now = _read(place)
        self.changes[-1] = self.changes[-1]._replace(new=now)
        text = f"{_value(place.name)}: {_value(old)} -> {_value(now)}"
        if now.split()[: len(value.split())] != value.split():
            return [f"{text}; the kernel made that of {_value(value)}; `undo` takes it back"]
        return [f"{text}; `undo` takes it back"]

    def undo(self, *, force: bool = False) -> list[str]:
        """Takes the last change back that was not taken back yet; `force` also if somebody changed it since.

        Raises:
            PidwardenError: there is none; or it holds something else than what was written; or it cannot be changed.
        """
        at = next((n for n, c in reversed(list(enumerate(self.changes))) if c.old is not None and not c.undone), None)
        if at is None:
            msg = "looked for a change to take back: there is none; `changes` lists what was done"
            raise PidwardenError(msg)
        change = self.changes[at]
        assert change.old is not None
        name, done = _value(change.place.name), change._replace(undone=True)
        try:
            now = change.place.read()
            if now.split() != change.new.split() and not force:
                msg = (
                    f"tried to set {name} back to {_value(change.old)}: it holds {_value(now)} and not, as we left it, "
                    f"{_value(change.new)}: somebody else has changed it; `undo --force` sets it back all the same"
                )
                raise PidwardenError(msg)
            change.place.write(change.old)
        except (FileNotFoundError, ProcessLookupError):
            self.changes[at] = done
            return [f"{name} is gone: there is nothing to take back"]
        self.changes[at] = done
        after = _read(change.place)
        if after.split() != change.old.split():
            return [f"{name}: wrote {_value(change.old)} back, but the kernel made {_value(after)} of it"]
        return [f"{name}: {_value(now)} -> {_value(after)}, as it was"]

    def lines(self) -> list[str]:
        """What was changed, the last first, with seconds since boot as in the kernel's log."""
        found = []
        for change in reversed(self.changes):
            if change.old is None:
                what, state = f"wrote {_value(change.new)}", "cannot be undone"
            else:
                what = f"{_value(change.old)} -> {_value(change.new)}"
                state = "taken back" if change.undone else "`undo` takes it back"
            found.append(f"[{change.when_ns / _SECOND:12.3f}] {_value(change.place.name)}: {what} ({state})")
        return found or ["nothing was changed"]


def _read(place: Place) -> str:
    try:
        return place.read()
    except OSError:  # it went with what was written, or cannot be read now
        return ""
