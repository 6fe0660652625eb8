"""Innocent workloads that are real programs of some size: servers, a database, a browser, installers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workload import Workload

SERVICES: tuple[Workload, ...] = ()
