"""A BPF ring buffer through libbpf, record by record."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from pidwarden.kernel.libbpf import SAMPLE, checked, library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.kernel.libbpf import Map


class Ring:
    """A ring buffer: :attr:`fd` becomes readable, :meth:`read` yields what has come."""

    def __init__(self, ring_map: Map) -> None:
        self._got: list[bytes] = []
        self._callback = SAMPLE(self._sample)  # kept: C holds only a pointer to it
        self._lib = library()
        pointer = self._lib.ring_buffer__new(ring_map.fd, self._callback, None, None)
        self._pointer: int | None = checked(pointer, "opening the ring buffer")
        self.fd: int = self._lib.ring_buffer__epoll_fd(self._pointer)

    def _sample(self, _ctx: int, data: int, size: int) -> int:
        self._got.append(ctypes.string_at(data, size))
        return 0

    def read(self) -> Iterator[bytes]:
        """The records that are waiting, oldest first; never blocks."""
        self._lib.ring_buffer__consume(self._pointer)
        got, self._got = self._got, []
        return iter(got)

    def close(self) -> None:
        """Frees it. May be called twice."""
        if self._pointer:
            self._lib.ring_buffer__free(self._pointer)
            self._pointer = None
