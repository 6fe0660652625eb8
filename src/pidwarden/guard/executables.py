"""Which files on this machine are spawners, shells or protected, by device and inode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel.devices import kernel_device
from pidwarden.model.record import ProcFlag

if TYPE_CHECKING:
    from pidwarden.settings import Settings


def identify(settings: Settings) -> dict[tuple[int, int], int]:
    """(kernel device number, inode) to ProcFlag bits, of those of the configured executables that exist."""
    found: dict[tuple[int, int], int] = {}
    for paths, flag in (
        (settings.spawners, ProcFlag.SPAWNER),
        (settings.shells, ProcFlag.SHELL),
        (settings.protect_executables, ProcFlag.PROTECTED),
    ):
        for path in paths:
            try:
                st = os.stat(path)
            except OSError:
                continue
            key = kernel_device(st.st_dev), st.st_ino
            found[key] = found.get(key, 0) | int(flag)
    return found
