"""The one clock of pidwarden: nanoseconds since boot, as the kernel stamps processes."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def boot_ns() -> int:
    """CLOCK_BOOTTIME in ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def rfc3339() -> str:
    """Now, as RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
