"""Times and endings in words. Records carry nanoseconds since boot; a person wants the clock on the wall. Pure."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import NamedTuple

SECOND_NS = 1_000_000_000
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
_CORE = 0x80  # WCOREFLAG
_SIGNAL = 0x7F


class Clock(NamedTuple):
    """One moment: ns since boot, and the same in ns since the epoch."""

    boot_ns: int
    epoch_ns: int

    def wall(self, boot_ns: int) -> str:
        """A time since boot as local time, to the second."""
        return self._at(boot_ns).astimezone().strftime("%Y-%m-%d %H:%M:%S")

    def rfc3339(self, boot_ns: int) -> str | None:
        """The same in UTC with milliseconds, for programs; None for 0, which means never."""
        if not boot_ns:
            return None
        return self._at(boot_ns).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _at(self, boot_ns: int) -> datetime:
        return datetime.fromtimestamp((self.epoch_ns - self.boot_ns + boot_ns) / SECOND_NS, UTC)

    def since(self, boot_ns: int) -> str:
        """How long ago, as :func:`span`."""
        return span(self.boot_ns - boot_ns)


def span(ns: int) -> str:
    """A length of time in its two largest units, milliseconds below one second: ``3d4h``, ``12s``, ``40ms``."""
    if ns < SECOND_NS:
        return f"{max(ns, 0) // 1_000_000}ms"
    seconds = ns // SECOND_NS
    for at, (unit, size) in enumerate(_UNITS):
        if seconds >= size:
            text, rest = f"{seconds // size}{unit}", seconds % size
            if rest and at + 1 < len(_UNITS) and (smaller := rest // _UNITS[at + 1][1]):
                text += f"{smaller}{_UNITS[at + 1][0]}"
            return text
    return "0s"


def ending(code: int) -> str:
    """A wait status in words (wait(2)): ``exit 7``, ``SIGKILL``, ``SIGSEGV (core dumped)``."""
    number = code & _SIGNAL
    if not number:
        return f"exit {code >> 8 & 0xFF}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return name + (" (core dumped)" if code & _CORE else "")
