"""The whole history for who asks: the kernel side's records as they are, and what is needed to read them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden import __version__
from pidwarden.guard.control import Bulk
from pidwarden.kernel import abi
from pidwarden.kernel.clock import boot_ns

if TYPE_CHECKING:
    from pidwarden.watch.base import Source

_MOST_HELD = 1000  # families and branches named in one packet


def everything_known(source: Source) -> Bulk:
    """Every record, in the bytes of struct pw_dump, and beside it when that was and what was lost.

    The client takes the bytes apart, so that a table of 20,000 processes costs the guard no more than a copy.
    """
    source.settle()
    counters = source.counters()
    held = [g.id for g in source.groups().values() if g.held] if counters.holds else []
    data = source.dump_records()  # last: the next question would write over it
    return Bulk(
        {
            "pid": os.getpid(),
            "version": __version__,
            "boot_ns": boot_ns(),
            "format": abi.DUMP.format,
            "size": abi.DUMP.size,
            "count": len(data) // abi.DUMP.size,
            "held": held[:_MOST_HELD],
            "counters": counters._asdict(),
        },
        data,
    )
