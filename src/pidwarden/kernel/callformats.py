"""The arguments of all system calls as the running kernel names them: tracefs, events/syscalls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.errors import NotPossible
from pidwarden.kernel import tracefs

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVENTS = "events/syscalls"
_PREFIX = "sys_enter_"
_MOST = 16384  # bytes of one format; the longest has some 1,200


def read() -> dict[str, str]:
    """The text of each call's format, by the event's name without ``sys_enter_``; empty if this kernel has none."""
    try:
        with tracefs.root() as root:
            return dict(_formats(root))
    except (NotPossible, OSError):
        return {}


def _formats(root: int) -> Iterator[tuple[str, str]]:
    folder = os.open(_EVENTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        for name in os.listdir(folder):
            if name.startswith(_PREFIX):
                fd = os.open(f"{name}/format", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
                try:
                    yield name.removeprefix(_PREFIX), os.read(fd, _MOST).decode()
                finally:
                    os.close(fd)
    finally:
        os.close(folder)
