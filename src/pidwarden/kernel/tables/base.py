"""What the readers of tables share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs
from pidwarden.model.gauge import User

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROC = procfs.PROC
SHOWN = 3  # of those who use most
_LARGE = 1 << 20


def sysctl(name: str, root: str = PROC) -> int | None:
    """The first number of a sysctl, named with slashes; None if there is none or it is not ours to read."""
    return procfs.read_int(f"{root}/sys/{name}")


def numbers(path: str) -> list[int]:
    """The numbers of a file of one line; none if it cannot be read."""
    try:
        return [int(word) for word in (procfs.read_bytes(path) or b"").split()]
    except ValueError:
        return []


def content(path: str) -> bytes | None:
    """A whole file, as long as it is; None if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    parts = []
    try:
        while part := os.read(fd, _LARGE):
            parts.append(part)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts)


def most(counts: Mapping[str, int] | Iterable[tuple[str, int]], shown: int = SHOWN) -> tuple[User, ...]:
    """The largest of some counts."""
    pairs = counts if not hasattr(counts, "items") else counts.items()
    return tuple(User(name, used) for name, used in sorted(pairs, key=lambda p: (-p[1], p[0]))[:shown] if used)
