"""Mounts of each mount namespace against fs.mount-max."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel.tables.base import PROC, content, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def read(others: Mapping[int, int] | Iterable[tuple[int, int]] = (), root: str = PROC) -> list[Gauge]:
    """Our own mount namespace's, then those of `others`: a process in each, by its number.

    ``mountinfo`` has a line for each mount below the process's root; what lies above a chroot counts as well and is not
    shown.
    """
    limit = sysctl("fs/mount-max", root)
    pairs = dict(others)
    found = [_gauge("ours", "self", limit, root)]
    found += [_gauge(f"of pid {pid}", str(pid), limit, root) for pid in pairs.values()]
    return [g for g in found if g is not None]


def _gauge(of: str, pid: str, limit: int | None, root: str) -> Gauge | None:
    data = content(f"{root}/{pid}/mountinfo")
    if data is None:
        return None
    return Gauge(Table.MOUNTS, Scope.MOUNT, of, data.count(b"\n"), limit, 0, "fs.mount-max")
