"""Requests of asynchronous I/O that io_setup(2) has promised, against fs.aio-max-nr."""

from __future__ import annotations

from pidwarden.kernel.tables.base import PROC, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table


def read(root: str = PROC) -> list[Gauge]:
    """One gauge. The kernel does not say who asked for them but in ``maps``, which may hang who reads it."""
    used, limit = sysctl("fs/aio-nr", root), sysctl("fs/aio-max-nr", root)
    return [] if used is None else [Gauge(Table.AIO, Scope.MACHINE, "", used, limit, 0, "fs.aio-max-nr")]
