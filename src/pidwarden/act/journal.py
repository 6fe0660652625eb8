"""The undo record on disk: every change of a limit, before it is made, until it is undone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from typing import TYPE_CHECKING

from pidwarden.act import ondisk
from pidwarden.act.places import failed, shown
from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel.procfs import PROC
from pidwarden.model import paths, undo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.model.undo import Entry

FILE = "changes.json"
_UNDONE_KEPT = 50  # entries that are undone, to be read only
_MOST = 16 << 20


def boot_id(root: str = PROC) -> str:
    """The boot that values of the kernel's are of; empty if it does not tell."""
    try:
        with open(f"{root}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def state_dir(given: str | None = None) -> str:
    """Where the record lies: what was given, else PIDWARDEN_STATE_DIR, else the usual place."""
    return given or os.environ.get("PIDWARDEN_STATE_DIR") or paths.STATE_DIR


class Journal:
    """The record in one folder. Changes are made only within :meth:`locked`."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = f"{directory}/{FILE}"

    def read(self) -> list[Entry]:
        """All entries, the oldest first.

        Raises:
            NoPermission: only root may read it.
            PidwardenError: it cannot be read or understood; it is left as it is.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        except OSError as why:
            raise failed(f"tried to read the undo record {shown(self.path)}", why) from why
        with open(fd, "rb") as file:
            self._trusted(os.fstat(fd))
            data = file.read(_MOST)
        try:
            return undo.from_json(json.loads(data))
        except (ValueError, RecursionError) as why:
            msg = (
                f"tried to understand the undo record {shown(self.path)}: {why}; nothing was done: look at it, "
                "and move it away to begin a new one"
            )
            raise PidwardenError(msg) from why

    def _trusted(self, found: os.stat_result) -> None:
        """What stands in it is written back as root: it has to be ours."""
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            msg = (
                f"the undo record {shown(self.path)} is not a file that only root writes (uid {found.st_uid}, mode "
                f"{stat.S_IMODE(found.st_mode):o}): it is not believed; look at it, and move it away"
            )
            raise NotPossible(msg)

    @staticmethod
    def _lock(fd: int, tried: str) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as why:
            msg = f"{tried}: another pidwarden is changing a limit right now; type it again"
            raise NotPossible(msg) from why

    def write(self, entries: list[Entry]) -> None:
        """Replaces it, on the disk when this returns; of what is undone only the last are kept.

        Raises:
            NoPermission, NotPossible, PidwardenError: it cannot be written.
        """
        old = [e.number for e in entries if e.undone][:-_UNDONE_KEPT]
        kept = [e for e in entries if e.number not in old]
        ondisk.replace(self.path, json.dumps(undo.to_json(kept), indent=1) + "\n", 0o600)

    @contextlib.contextmanager
    def locked(self) -> Iterator[list[Entry]]:
        """The entries, with nobody else changing them or what they are about.

        Raises:
            NoPermission: only root may.
            NotPossible: another pidwarden is changing something right now, or the folder cannot be made.
            PidwardenError: as :meth:`read`.
        """
        tried = f"tried to open the undo record in {shown(self.directory)}"
        hint = "name another folder with --state-dir"
        try:
            for folder in ondisk.folders_missing(f"{self.directory}/x"):
                os.mkdir(folder, 0o700 if folder == self.directory else 0o755)
            fd = os.open(f"{self.directory}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError as why:
            msg = f"{tried}: {why.strerror}; without it nothing is changed: type `sudo pidwarden …`"
            raise NoPermission(msg) from why
        except OSError as why:
            raise failed(tried, why, hint) from why
        try:
            self._lock(fd, tried)
            yield self.read()
        finally:
            os.close(fd)
