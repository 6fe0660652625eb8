"""What was changed, what it was before, and the way back: the last change first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.act.places import Foreign, read_back, set_back, word
from pidwarden.errors import PidwardenError
from pidwarden.kernel import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.act.places import Place

_SECOND = 1_000_000_000


class Change(NamedTuple):
    """One change: ns since boot, what it held and what it holds. ``old`` None: it cannot be taken back."""

    when_ns: int
    place: Place
    old: str | None
    new: str
    undone: bool = False


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
            return [f"{word(place.name)}: wrote {word(value)}; this cannot be undone"]
        now = read_back(place)
        self.changes[-1] = self.changes[-1]._replace(new=now)
        text = f"{word(place.name)}: {word(old)} -> {word(now)}"
        if now.split()[: len(value.split())] != value.split():
            return [f"{text}; the kernel made that of {word(value)}; `undo` takes it back"]
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
        name, done = word(change.place.name), change._replace(undone=True)
        try:
            came = set_back(change.place, change.old, change.new, force=force)
        except Foreign as why:
            msg = (
                f"tried to set {name} back to {word(change.old)}: it holds {word(why.now)} and not, as we left it, "
                f"{word(change.new)}: somebody else has changed it; `undo --force` sets it back all the same"
            )
            raise PidwardenError(msg) from why
        self.changes[at] = done
        if came.before is None or came.after is None:
            return [f"{name} is gone: there is nothing to take back"]
        if came.after.split() != change.old.split():
            return [f"{name}: wrote {word(change.old)} back, but the kernel made {word(came.after)} of it"]
        return [f"{name}: {word(came.before)} -> {word(came.after)}, as it was"]

    def lines(self) -> list[str]:
        """What was changed, the last first, with seconds since boot as in the kernel's log."""
        found = []
        for change in reversed(self.changes):
            if change.old is None:
                what, state = f"wrote {word(change.new)}", "cannot be undone"
            else:
                what = f"{word(change.old)} -> {word(change.new)}"
                state = "taken back" if change.undone else "`undo` takes it back"
            found.append(f"[{change.when_ns / _SECOND:12.3f}] {word(change.place.name)}: {what} ({state})")
        return found or ["nothing was changed"]
