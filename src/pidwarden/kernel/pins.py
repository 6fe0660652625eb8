"""Pins: what keeps a hold in force when the guard is killed, and what its successor takes over.

They lie in ``<bpf file system>/<instance>/<abi>``, the last being a digest of everything that crosses between the
kernel side and Python, so that a guard never adopts programs it does not understand, and an upgrade that changes
nothing of that loses nothing. They appear and go at once, by renaming the directory; a guard that ends in order
leaves none.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os

from pidwarden.errors import PidwardenError
from pidwarden.kernel import abi, foreign, procfs
from pidwarden.kernel.bpf import PINNED, Programs

_BPFFS = "/sys/fs/bpf"
_ALWAYS_THERE = {"maps.debug", "progs.debug"}
_PARTIAL = "partial-"  # begins the name of a directory that is being filled or emptied: nothing is held by it
_OURS = "mounted-by-pidwarden"  # an empty folder at the root: the file system was mounted for pins


def bpffs() -> str | None:
    """Where a bpf file system is mounted, None if none is."""
    found = [where for _device, where, kind, *_ in procfs.mounts() if kind == "bpf"]
    return _BPFFS if _BPFFS in found else (found[0] if found else None)


def _mount() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", _BPFFS.encode(), b"bpf", 0, b"mode=0700"):
        return None
    with contextlib.suppress(OSError):
        os.mkdir(f"{_BPFFS}/{_OURS}", mode=0o700)
    return _BPFFS


def abi_digest() -> str:
    """What programs and a guard have to agree on, as 16 hexadecimal digits."""
    constants = {name: value for name, value in vars(abi).items() if isinstance(value, int)}
    return hashlib.sha256(repr((PINNED, sorted(constants.items()), abi.LAYOUTS)).encode()).hexdigest()[:16]


class Pins:
    """The pins of one instance."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._abi = abi_digest()
        self._directory: str | None = None
        self.adopted = False
        self.notes: list[str] = []

    @property
    def directory(self) -> str | None:
        """Where everything is pinned, None if it is not."""
        return self._directory

    def adopt(self) -> Programs | None:
        """The programs that a guard of this version, or of one that agrees with it, left; None if there are none."""
        root = bpffs()
        if root is None or not os.path.isdir(f"{root}/{self._instance}"):
            return None
        for name in os.listdir(f"{root}/{self._instance}"):
            if name.startswith(_PARTIAL):
                remove_tree(f"{root}/{self._instance}/{name}")
        directory = f"{root}/{self._instance}/{self._abi}"
        if not os.listdir(f"{root}/{self._instance}"):
            os.rmdir(f"{root}/{self._instance}")
            return None
        if not os.path.isdir(directory):
            return None
        programs = Programs.adopt(directory)
        self._directory, self.adopted = directory, True
        self.notes.append(f"took over from a guard that was killed ({directory})")
        return programs

    def foreign(self) -> list[str]:
        """Where guards of versions that do not agree with this one have pins."""
        where = f"{bpffs()}/{self._instance}"
        if not os.path.isdir(where):
            return []
        return [
            f"{where}/{name}" for name in sorted(os.listdir(where)) if name not in (self._abi, _PARTIAL + self._abi)
        ]

    def drop(self, directory: str) -> None:
        """Removes the pins of another version, whose holds somebody else has by now."""
        self.notes.append(f"took over what a guard of another version held ({directory})")
        foreign.let_go(directory)
        remove_tree(directory)

    def pin(self, programs: Programs) -> None:
        """Pins everything, once; a machine where that is impossible gets a note instead."""
        if self._directory is not None:
            return
        root = bpffs()
        if root is None:
            root = _mount()
        if root is None:
            self.notes.append(
                f"no bpf file system at {_BPFFS} and none can be mounted: if the guard is killed, holds end"
            )
            return
        directory = f"{root}/{self._instance}/{self._abi}"
        self._directory = self._partial(directory)
        try:
            os.makedirs(self._directory, mode=0o700)
            programs.pin(self._directory)
            os.rename(self._directory, directory)
            self._directory = directory
        except (OSError, PidwardenError) as why:
            self.notes.append(f"cannot pin below {root} ({why}): if the guard is killed, holds end")
            self.remove()

    @staticmethod
    def _partial(directory: str) -> str:
        return f"{os.path.dirname(directory)}/{_PARTIAL}{os.path.basename(directory)}"

    def remove(self) -> None:
        """Removes the pins, and the mount if it was ours. What only they held is detached."""
        if self._directory is None:
            return
        with contextlib.suppress(OSError):  # half a set of pins must never be taken for a whole one
            os.rename(self._directory, self._partial(self._directory))
        remove_tree(os.path.dirname(self._directory))
        self._directory = None


def remove_tree(directory: str) -> None:
    """Removes a directory of pins, the one above if it is empty then, and and a mount made for pins."""
    for path, _folders, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(path, name))
        with contextlib.suppress(OSError):
            os.rmdir(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(directory))
    # Pins do not keep a mount busy: as long as anybody has some there, it stays, and whoever is last takes it away.
    if os.path.isdir(f"{_BPFFS}/{_OURS}") and set(os.listdir(_BPFFS)) <= {_OURS, *_ALWAYS_THERE}:
        os.rmdir(f"{_BPFFS}/{_OURS}")
        ctypes.CDLL(None).umount2(_BPFFS.encode(), 0)
