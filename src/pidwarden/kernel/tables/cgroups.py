"""The cgroups with a limit on tasks: pids.max, with the high-water mark and the refused forks that the kernel keeps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel import cgroup, limits, procfs
from pidwarden.kernel.tables.base import PROC
from pidwarden.model.gauge import Gauge, Scope, Table
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 4096  # cgroups that are looked at


def read(root: str = PROC) -> Iterator[Gauge]:
    """One for each cgroup that has a limit, from the root of the hierarchy downwards; one at a time."""
    mounts = cgroup.mounts(root)
    top = mounts.v1.get("pids") or mounts.v2
    if top is None:
        return
    todo, seen = [top.rstrip("/")], 0
    while todo and seen < _MOST:
        here = todo.pop()
        seen += 1
        limit = procfs.read_int(f"{here}/pids.max")  # "max" is no number
        if limit is not None and (used := procfs.read_int(f"{here}/pids.current")) is not None:
            yield _gauge(here, here[len(top.rstrip("/")) :] or "/", used, limit)
        try:
            with os.scandir(here) as entries:
                todo += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:  # it was removed meanwhile
            continue
    if todo:
        unseen = f"only {_MOST} cgroups were looked at"
        yield Gauge(Table.CGROUP_PIDS, Scope.CGROUP, "others", unseen=unseen)


def _gauge(directory: str, path: str, used: int, limit: int) -> Gauge:
    by_it = limits.refused_by(directory)
    failures = limits.refused_in(directory) if by_it is None else by_it
    return Gauge(
        Table.CGROUP_PIDS,
        Scope.CGROUP,
        escape(os.fsencode(path)),
        used,
        limit,
        0,
        "pids.max",
        procfs.read_int(f"{directory}/pids.peak"),  # since Linux 6.6
        failures,
        "creation",
        detail="" if by_it is not None else "refused here by its limit or one above" * bool(failures),
    )
