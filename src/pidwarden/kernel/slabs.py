"""The kernel's caches of objects, line by line of /proc/slabinfo (slabinfo(5))."""

from __future__ import annotations

from typing import NamedTuple

from pidwarden.kernel.procfs import PAGE

_WORDS = 6  # name, active objects, objects, size of one, objects in a slab, pages of a slab


class Cache(NamedTuple):
    """Objects in use, objects there is room for, bytes of one, bytes it really takes."""

    active: int
    objects: int
    size: int
    footprint: float


def caches(data: bytes) -> dict[str, Cache]:
    """Every line that is understood: objects lie in slabs of whole pages, and what is left of a slab is lost."""
    found = {}
    for line in data.splitlines():
        words = line.split()
        if len(words) >= _WORDS and all(word.isdigit() for word in words[1:_WORDS]):
            active, objects, size, per_slab, pages = map(int, words[1:_WORDS])
            footprint = pages * PAGE / per_slab if per_slab else size
            found[words[0].decode("ascii", "replace")] = Cache(active, objects, size, footprint)
    return found
