"""Setting the books right from /proc: loss is data, but it must not stay.

The kernel does not run BPF programs everywhere: not on a processor that is inside a bpf(2) map call, say, not even in
the softirq that frees tasks there. A release that was missed so leaves a slot on the books that nobody holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel import procfs
from pidwarden.kernel.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.bpf import Programs
    from pidwarden.model.record import Record

GRACE_NS = 200_000_000  # younger zombies may just wait for their RCU grace period


def is_gone(record: Record) -> bool:
    """Whether /proc has no such process any more, not even as a zombie."""
    return procfs.stat_of(record.key) is None


def has_ended(record: Record) -> bool:
    """Whether no thread of it runs: it is gone, or a zombie without living threads."""
    stat = procfs.stat_of(record.key)
    return stat is None or (stat.state in "ZX" and stat.threads <= 1)


def repair(programs: Programs, records: Iterable[Record]) -> int:
    """Takes processes that /proc does not know off the books; how many of their tasks had been missed."""
    before = boot_ns() - GRACE_NS
    settled = [r for r in records if r.slots > 0 and max(r.key.start_ns, r.exit_ns) < before]
    return sum(programs.gone(r.key) for r in settled if is_gone(r))
