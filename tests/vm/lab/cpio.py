"""An initramfs as the kernel reads it: cpio "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO


class Archive:
    """A cpio archive under way; folders above what is added are made, and nothing is added twice."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._inode = out, 0
        self._have: set[str] = set()

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder and those above it."""
        path = path.strip("/")
        if path and path not in self._have:
            self.folder(os.path.dirname(path))
            self._entry(path, stat.S_IFDIR | mode, b"")

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def data(self, path: str, data: bytes, mode: int = 0o644, mtime: float = 0) -> None:
        """A file with these contents."""
        self._add(path, stat.S_IFREG | mode, data, mtime)

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device; only what is opened before devtmpfs is mounted."""
        self._add(path, stat.S_IFCHR | 0o600, b"", rdev=(major, minor))

    def file(self, path: str, source: str | os.PathLike[str]) -> None:
        """A file of this machine, symbolic links followed; readable by everybody."""
        with open(source, "rb") as file:
            about = os.fstat(file.fileno())
            mode = 0o755 if about.st_mode & 0o111 else 0o644
            self.data(path, file.read(), mode, about.st_mtime)

    def tree(self, path: str, source: str, skip: frozenset[str] = frozenset()) -> None:
        """A folder of this machine with all below it, but what is named in `skip` or made by other interpreters."""
        for where, folders, files in os.walk(source):
            folders[:] = sorted(f for f in folders if f not in skip)
            below = os.path.normpath(f"{path}/{os.path.relpath(where, source)}")
            self.folder(below)
            for name in sorted(files):
                if name not in skip and not name.endswith((".opt-1.pyc", ".opt-2.pyc")):
                    self.file(f"{below}/{name}", f"{where}/{name}")

    def end(self) -> None:
        """The trailer."""
        self._entry("TRAILER!!!", 0, b"")

    def _add(self, path: str, mode: int, data: bytes, mtime: float = 0, rdev: tuple[int, int] = (0, 0)) -> None:
        path = path.strip("/")
        if path not in self._have:
            self.folder(os.path.dirname(path))
            self._entry(path, mode, data, mtime, rdev)

    def _entry(self, path: str, mode: int, data: bytes, mtime: float = 0, rdev: tuple[int, int] = (0, 0)) -> None:
        self._have.add(path)
        self._inode += 1
        name = path.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, int(mtime), len(data), 0, 0, *rdev)
        head = b"070701" + b"".join(b"%08x" % n for n in (*numbers, len(name), 0)) + name
        self._out.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))
