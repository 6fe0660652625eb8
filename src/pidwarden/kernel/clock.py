"""The one clock of pidwarden: nanoseconds since boot, as the kernel stamps processes."""

from __future__ import annotations

import time

_AT_ONCE_NS = 50_000


def boot_ns() -> int:
    """CLOCK_BOOTTIME in ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def asleep_ns() -> int:
    """What CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, in ns: how long the machine slept, or within 50 µs of it."""
    while True:
        before, boot, after = time.monotonic_ns(), boot_ns(), time.monotonic_ns()
        if after - before < _AT_ONCE_NS:  # or somebody else had the processor in between
            return boot - after


def rfc3339() -> str:
    """Now, as RFC 3339 in UTC with milliseconds."""
    seconds, ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ns // 1_000_000:03d}Z"
