"""A few bytes of another process's memory: the words of a futex, the structures that a call it sleeps in was given.

To read memory takes its lock (``mmap_lock``), and a page that is not there would be fetched: from a swap, from a FUSE
server that does not answer. So pages are looked up in ``pagemap`` first, which fetches none, and read only if they are
there; and all of it is called through :class:`pidwarden.kernel.patience.Reader`. It takes the right to attach to the
process (ptrace(2)).
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from pidwarden.kernel.procfs import PAGE, PROC

if TYPE_CHECKING:
    from pidwarden.kernel.evidence import Read

_PRESENT = 1 << 63  # Documentation/admin-guide/mm/pagemap.rst
_ENTRY = 8
_MOST = 4096  # bytes of memory
_MAPS_BYTES = 1 << 20


def asked(name: str) -> bytes:
    """A :data:`pidwarden.kernel.evidence.Read` of ``FOLDER/mem:ADDRESS:SIZE`` and of ``FOLDER/maps``.

    Raises:
        OSError: it may not be read, or is gone; EFAULT: it is not in memory.
    """
    if name.endswith("/maps"):
        return _maps(name)
    folder, address, size = name.rsplit(":", 2)
    return _memory(folder.removesuffix("/mem"), int(address), min(int(size), _MOST))


def memory(read: Read, pid: int, address: int, size: int, root: str = PROC) -> bytes:
    """So many bytes, or fewer if what follows is not in memory. `read` leads to :func:`asked`.

    Raises:
        OSError: none of them can be read.
    """
    return read(f"{root}/{pid}/mem:{address}:{size}")


def mapped(read: Read, pid: int, address: int, root: str = PROC) -> tuple[str, str]:
    """The device and inode of what is mapped there, if it is shared; empty if not.

    Raises:
        OSError: it may not be read, or is gone.
    """
    for line in read(f"{root}/{pid}/maps").decode("utf-8", "surrogateescape").split("\n"):
        words = line.split(None, 5)
        if len(words) > 4:  # noqa: PLR2004  (range, rights, offset, device, inode)
            first, _dash, end = words[0].partition("-")
            if int(first, 16) <= address < int(end, 16):
                return (words[3], words[4]) if "s" in words[1] else ("", "")
    return "", ""


def maps_it(read: Read, pid: int, what: tuple[str, str], root: str = PROC) -> bool:
    """Whether a process maps that as well, shared.

    Raises:
        OSError: it may not be read, or is gone.
    """
    lines = read(f"{root}/{pid}/maps").decode("utf-8", "surrogateescape").split("\n")
    fields = [words for line in lines if len(words := line.split(None, 5)) > 4]  # noqa: PLR2004
    return any((words[3], words[4]) == what and "s" in words[1] for words in fields)


def _memory(folder: str, address: int, size: int) -> bytes:
    size = _present(folder, address, size)
    fd = os.open(f"{folder}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def _present(folder: str, address: int, size: int) -> int:
    """How many of these bytes lie in pages that are there."""
    first, last = address // PAGE, (address + size - 1) // PAGE
    fd = os.open(f"{folder}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, _ENTRY * (last - first + 1), first * _ENTRY)
    finally:
        os.close(fd)
    pages = 0
    for (entry,) in struct.iter_unpack("=Q", data[: len(data) // _ENTRY * _ENTRY]):
        if not entry & _PRESENT:
            break
        pages += 1
    if not pages:
        raise OSError(errno.EFAULT, "it is not in memory just now", folder)
    return min(size, (first + pages) * PAGE - address)


def _maps(name: str) -> bytes:
    parts: list[bytes] = []
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while sum(map(len, parts)) < _MAPS_BYTES and (part := os.read(fd, 1 << 16)):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)
