"""Reading a BPF ring buffer through its memory, in one piece, without a call for each record.

The layout is the kernel's (kernel/bpf/ringbuf.c): a page with the reader's position, a page with the writer's, and the
data, mapped twice so that a record that goes over the end is in one piece.
"""

from __future__ import annotations

import mmap
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_POSITION, _HEADER = Struct("<Q"), Struct("<II")
_STEP = 1 << 16  # bytes after which the writer is told of the room
_BUSY, _DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT (include/uapi/linux/bpf.h)


class RingReader:
    """One ring, for one reader."""

    def __init__(self, fd: int, size: int) -> None:
        """Maps it; `size` in bytes, as it was made."""
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._reader = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._memory = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._page = page

    def read(self) -> Iterator[bytes]:
        """The records that are complete, oldest first; the room of each is given back when the next ones are taken."""
        memory, mask, page = self._memory, self._mask, self._page
        (at,) = _POSITION.unpack_from(self._reader)
        told = at
        (end,) = _POSITION.unpack_from(memory)
        while at < end:
            place = page + (at & mask)
            length, _pages = _HEADER.unpack_from(memory, place)
            if length & _BUSY:  # reserved, and not yet written
                break
            size = length & ~_DISCARDED
            if not length & _DISCARDED:
                yield memory[place + 8 : place + 8 + size]
            at += size + 15 & ~7
            if at - told > _STEP:
                told = at
                _POSITION.pack_into(self._reader, 0, at)
        _POSITION.pack_into(self._reader, 0, at)

    def close(self) -> None:
        """Unmaps it."""
        self._reader.close()
        self._memory.close()
