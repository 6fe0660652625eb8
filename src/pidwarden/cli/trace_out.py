"""Where a trace goes: standard output or error, or a file of its owner's that is begun anew when it gets too long."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Protocol

from pidwarden.errors import NoPermission, PidwardenError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LEAST_BYTES = 4096
_MOST_KEPT = 999
_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


class Output(Protocol):
    """Takes lines without their ends."""

    def write(self, lines: Iterable[str]) -> None:
        """Writes them, all. Raises OSError."""

    def close(self) -> None:
        """May be called twice."""


def encoded(lines: Iterable[str]) -> bytes:
    """The bytes of lines; what is no Unicode goes out as it came in."""
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Stream:
    """A descriptor that is somebody else's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, lines: Iterable[str]) -> None:
        """Writes them. Raises BrokenPipeError: nobody reads any more."""
        if data := encoded(lines):
            _all(self._fd, data)

    def close(self) -> None:
        """Leaves it open."""


class File:
    """A file of mode 0600, that no link leads to; with a size it is renamed to FILE.1 when it would pass that."""

    def __init__(self, path: str, size: int = 0, keep: int = 3) -> None:
        """Opens it.

        Raises:
            PidwardenError: it is not ours to write, or there is something else of that name.
        """
        self._path, self._size, self._keep = path, size, keep
        self._fd = -1
        for old in [f"{path}.{n}" for n in range(1, keep + 1)] if size else []:
            _check(old)
        self._fd = _open(path)
        self._bytes = 0

    def write(self, lines: Iterable[str]) -> None:
        """Writes them; a line is not split over two files."""
        if not self._size:
            _all(self._fd, encoded(lines))
            return
        waiting = b""
        for line in lines:
            data = encoded([line])
            if self._bytes + len(waiting) and self._bytes + len(waiting) + len(data) > self._size:
                _all(self._fd, waiting)
                self._rotate()
                waiting = b""
            waiting += data
        _all(self._fd, waiting)
        self._bytes += len(waiting)

    def _rotate(self) -> None:
        self.close()
        for n in range(self._keep, 0, -1):
            _check(f"{self._path}.{n}")
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}.{n - 1}" if n > 1 else self._path, f"{self._path}.{n}")
        if not self._keep:
            os.unlink(self._path)
        self._fd, self._bytes = _open(self._path), 0

    def close(self) -> None:
        """Closes it. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _refuse(path: str, why: str) -> PidwardenError:
    return PidwardenError(f"-o {path}: {why}; type another name")


def _check(path: str) -> os.stat_result | None:
    """What has this name, None if nothing has. Raises PidwardenError: it is not ours to replace."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as why:
        raise _refuse(path, why.strerror or "it cannot be looked at") from why
    if stat.S_ISLNK(found.st_mode):
        raise _refuse(path, "that is a symbolic link, which is not followed")
    if stat.S_ISCHR(found.st_mode):
        return found
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(path, "that is no ordinary file")
    if found.st_uid != os.geteuid():
        raise _refuse(path, f"that file belongs to uid {found.st_uid}, and is not overwritten")
    if found.st_nlink > 1:
        raise _refuse(path, "that file has a second name, and is not overwritten")
    return found


def _open(path: str) -> int:
    found = _check(path)
    try:
        if found is None:
            return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        fd = os.open(path, _FLAGS)
    except PermissionError as why:
        msg = f"-o {path}: {why.strerror}; type a name in a folder of yours"
        raise NoPermission(msg) from why
    except OSError as why:
        raise _refuse(path, why.strerror or "it cannot be opened") from why
    now = os.fstat(fd)
    if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
        os.close(fd)
        raise _refuse(path, "it was replaced by another file at this moment")
    if stat.S_ISREG(now.st_mode):
        if now.st_size:
            age = max(0, int(time.time() - now.st_mtime))
            print(f"pidwarden trace: overwrites {path} ({now.st_size} bytes, written {age} s ago)", file=sys.stderr)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
    return fd


def size_of(text: str) -> int:
    """A size as ``10M``, in bytes.

    Raises:
        UsageError: it is none.
    """
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if number.isascii() and number.isdecimal() and len(number) < 16 and unit in _UNITS:  # noqa: PLR2004
        found = int(number) * _UNITS[unit]
        if found >= _LEAST_BYTES:
            return found
    msg = f"--rotate-size {text}: type a size of at least 4K, as 10M"
    raise UsageError(msg)


def of(path: str | None, rotate: str | None, keep: int, fd: int) -> Output:
    """The file of ``-o``, or that descriptor.

    Raises:
        UsageError: the options do not fit. PidwardenError: the file cannot be had.
    """
    if path is None:
        if rotate is not None:
            msg = "--rotate-size is for a file; type -o FILE"
            raise UsageError(msg)
        if (sys.stdout, sys.stderr)[fd - 1] is None:  # else the next file that is opened would be it
            msg = "standard output is closed; type -o FILE"
            raise PidwardenError(msg)
        return Stream(fd)
    if not 0 <= keep <= _MOST_KEPT:
        msg = f"--rotate-keep {keep}: type a number from 0 to {_MOST_KEPT}"
        raise UsageError(msg)
    return File(path, size_of(rotate) if rotate is not None else 0, keep)
