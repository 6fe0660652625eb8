"""One guard at a time: the run directory and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Self

from pidwarden.errors import NoPermission, PidwardenError
from pidwarden.guard import control, lines

if TYPE_CHECKING:
    from types import TracebackType

LOCK = "lock"
_LOOK_SECONDS = 0.01


def is_private(directory: str) -> bool:
    """Whether it is a directory, not a link to one, that is ours and nobody else may enter."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def is_ours(directory: str) -> bool:
    """Whether it is a directory, not a link to one, that is ours and in which nobody else may change anything."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


class Instance:
    """The run directory of a guard, locked while it runs; removed at its end.

    A guard that is limited by ``--only`` may run beside another: it then takes a directory of its own.
    """

    def __init__(self, run_dir: str, *, scoped: bool) -> None:
        self.directory, self._scoped = run_dir, scoped
        self.patience = 0.0  # seconds to wait for another guard that is about to go
        self._lock = -1

    @property
    def name(self) -> str:
        """What its pins are called below the bpf file system."""
        return os.path.basename(self.directory.rstrip("/"))

    def __enter__(self) -> Self:
        end = time.monotonic() + self.patience
        while not (locked := self._try_lock()) and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        if not locked:
            if not self._scoped:
                msg = f"a guard is already running ({self._holder()}, {self.directory}); `pidwarden status` shows it"
                raise PidwardenError(msg)
            self.directory = f"{self.directory.rstrip('/')}-{os.getpid()}"
            if not self._try_lock():
                msg = f"cannot lock {self.directory}; another process holds it"
                raise PidwardenError(msg)
        return self

    def _try_lock(self) -> bool:
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            if os.geteuid() != 0 and not is_private(self.directory):
                msg = (
                    f"{self.directory} is a link, or others may enter it, or it is not yours: no guard starts in it; "
                    "look who made it (`ls -ld`), or add `--run-dir DIR`"
                )
                raise NoPermission(msg)
            self._lock = os.open(f"{self.directory}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as why:
            what = f"cannot use the run directory {self.directory}: {why.strerror}"
            msg = f"{what}; set run_dir, or type `sudo pidwarden …`"
            raise (NoPermission if isinstance(why, PermissionError) else PidwardenError)(msg) from why
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            return False
        if not os.fstat(self._lock).st_nlink:  # its owner has just removed it
            os.close(self._lock)
            return self._try_lock()
        os.truncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        return True

    def _holder(self) -> str:
        with contextlib.suppress(OSError), open(f"{self.directory}/{LOCK}", encoding="ascii") as file:
            return f"pid {file.read().strip()}"
        return "pid unknown"

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = lines.NAMES if is_ours(self.directory) else ()  # else a guard made none there: they are somebody's
        for name in (control.NAME, *left, LOCK):  # a guard that was killed has left its socket and files
            with contextlib.suppress(OSError):
                os.unlink(f"{self.directory}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)
        os.close(self._lock)
