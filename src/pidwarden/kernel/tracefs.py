"""Tracepoint ids, also where tracefs is not mounted; nothing is mounted for it and nothing left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

from pidwarden.errors import NotPossible

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOUNTED = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
# The same numbers on every architecture (since Linux 5.2).
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1


def detached(kind: str) -> int:
    """A descriptor of the root of a file system that no path leads to (fsopen(2)); the mount goes when it is closed.

    Raises:
        OSError: refused, or the kernel does not have that file system.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        result: int = libc.syscall(*arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    context = call(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)
    try:
        call(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return call(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


@contextlib.contextmanager
def root() -> Iterator[int]:
    """A directory descriptor of tracefs.

    Raises:
        NotPossible: it is neither mounted nor can it be opened.
    """
    fd = -1
    for path in _MOUNTED:
        if os.path.isdir(os.path.join(path, "events")):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            break
    if fd < 0:
        try:
            fd = detached("tracefs")
        except OSError as why:
            what = f"tracefs is not mounted and cannot be opened ({why.strerror})"
            msg = f"{what}; type `mount -t tracefs tracefs {_MOUNTED[0]}`"
            raise NotPossible(msg) from why
    try:
        yield fd
    finally:
        os.close(fd)


def event_id(tracefs: int, category: str, name: str) -> int | None:
    """The id that perf_event_open(2) wants for a tracepoint, None if the kernel does not have it."""
    try:
        fd = os.open(f"events/{category}/{name}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=tracefs)
    except FileNotFoundError:
        return None
    try:
        return int(os.read(fd, 32))
    finally:
        os.close(fd)
