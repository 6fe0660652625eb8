"""Files on disk that are replaced as a whole: after a crash there is their new text or their old one, no mixture."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from pidwarden.act.places import failed, read_file, shown
from pidwarden.errors import NotPossible

_MOST = 1 << 20


class Kept(NamedTuple):
    """A file's text and mode; text None: there is none."""

    text: str | None
    mode: int = 0o644


def keep(path: str) -> Kept:
    """What is there now, to be put back later.

    Raises:
        UsageError, PidwardenError: it is no file, or cannot be read.
        NotPossible: it is too large to be a file of settings.
    """
    try:
        data = read_file(path, _MOST + 1)
        mode = stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return Kept(None)
    if len(data) > _MOST:
        msg = f"{shown(path)} is longer than {_MOST} bytes: that is no file of settings; look at it, and move it away"
        raise NotPossible(msg)
    return Kept(os.fsdecode(data), mode)


def folders_missing(path: str) -> list[str]:
    """The folders that have to be made for a file, the outermost first."""
    found = []
    folder = os.path.dirname(path)
    while folder and not os.path.lexists(folder):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found[::-1]


def replace(path: str, text: str, mode: int = 0o644) -> None:
    """Puts a file there, whole, and waits until it is on the disk. Folders are made.

    Raises:
        NoPermission, NotPossible, PidwardenError: it cannot be written.
    """
    fresh = f"{path}.{os.getpid()}.new"
    try:
        for folder in folders_missing(path):
            os.mkdir(folder, 0o755)
            _to_disk(os.path.dirname(folder))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            data = os.fsencode(text)
            while data:
                data = data[os.write(fd, data) :]
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(fresh, path)
        _to_disk(os.path.dirname(path))
    except OSError as why:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise failed(f"tried to write {shown(path)}", why, "look at its folder, and at `df` of it") from why


def restore(path: str, kept: Kept, made: tuple[str, ...] = ()) -> None:
    """Puts back what :func:`keep` said; folders that were made for it go if they are empty.

    Raises:
        NoPermission, NotPossible, PidwardenError: it cannot be written.
    """
    if kept.text is not None:
        replace(path, kept.text, kept.mode)
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            _to_disk(os.path.dirname(path))
    except OSError as why:
        raise failed(f"tried to remove {shown(path)}", why) from why
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # somebody else has put something there
            os.rmdir(folder)


def _to_disk(folder: str) -> None:
    fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
