"""Who has what open: the descriptors of everybody, gone through once, for a limited time, and remembered.

The kernel names no holder of a pipe, a socket or a file. What lies behind a descriptor is not looked at, only its link;
as links may not be answered (:mod:`pidwarden.kernel.patience`), those who do not answer are passed over.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import evidence
from pidwarden.kernel.evidence import fdinfo
from pidwarden.kernel.patience import sweep
from pidwarden.kernel.procfs import PROC, within_exec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pidwarden.kernel.patience import Swept

SECONDS = 2.0  # for all descriptors of everybody
_STANDSTILL = 0.5  # at one process, who may have many
_MOST_LOST = 3  # of those within execve, who may not answer
_O_ACCMODE, _O_WRONLY, _O_RDWR = 3, 1, 2  # fcntl.h; flags of fdinfo are octal
READS, WRITES = 1, 2
_DEAD = "ZX"


class Held(NamedTuple):
    """One descriptor of somebody."""

    pid: int
    fd: int


class _Seen(NamedTuple):
    links: dict[str, list[int]]
    refused: bool
    left: bool = False  # as time was up


class Holders:
    """Asks when the first question comes; `near` are looked at first, should time run out."""

    def __init__(self, near: Callable[[], Iterable[int]], root: str = PROC, seconds: float = SECONDS) -> None:
        self._near, self._root, self._seconds = near, root, seconds
        self._found: dict[str, list[Held]] | None = None
        self.unseen = 0  # processes whose descriptors are not ours to see
        self.left = 0  # processes that were not looked at, as time was up
        self.silent: list[int] = []  # for whom the kernel did not answer

    @property
    def searched(self) -> bool:
        """Whether anybody has asked."""
        return self._found is not None

    @property
    def complete(self) -> bool:
        """Whether everybody was seen."""
        return self.searched and not (self.unseen or self.left or self.silent)

    def of(self, link: str) -> list[Held]:
        """Every descriptor that leads there.

        Raises:
            OSError: /proc cannot be listed. BlockingIOError: no thread can be started.
        """
        if self._found is None:
            self._found = self._search()
        return self._found.get(link, [])

    def _search(self) -> dict[str, list[Held]]:
        own, end = os.getpid(), time.monotonic() + self._seconds
        pids = [int(name) for name in os.listdir(self._root) if name.isdecimal()]
        order = dict.fromkeys([*(p for p in self._near() if p in set(pids)), *pids])
        order.pop(own, None)
        late = [pid for pid in order if within_exec(f"{self._root}/{pid}")]
        prompt = [pid for pid in order if pid not in set(late)]
        found: dict[str, list[Held]] = {}
        self._take(sweep(prompt, lambda pid: self._look(pid, end), _STANDSTILL), found)
        self._take(sweep(late, lambda pid: self._look(pid, end), most_lost=_MOST_LOST), found)
        return found

    def _take(self, swept: Swept[int, _Seen], found: dict[str, list[Held]]) -> None:
        for pid, seen in swept.found:
            self.unseen += seen.refused
            self.left += seen.left
            for link, numbers in seen.links.items():
                found.setdefault(link, []).extend(Held(pid, number) for number in numbers)
        self.silent += [*swept.lost, *swept.left]

    def _look(self, pid: int, end: float) -> _Seen:
        if time.monotonic() > end:
            return _Seen({}, False, left=True)
        folder = f"{self._root}/{pid}/fd"
        links: dict[str, list[int]] = {}
        try:
            for name in os.listdir(folder):
                with contextlib.suppress(FileNotFoundError):
                    links.setdefault(os.readlink(f"{folder}/{name}"), []).append(int(name))
        except PermissionError:
            status = evidence.status(f"{self._root}/{pid}")
            return _Seen(links, status is not None and status.state not in _DEAD)
        except OSError:
            pass
        return _Seen(links, False)


def way(pid: int, fd: int, root: str = PROC) -> int:
    """How a descriptor was opened: :data:`READS`, :data:`WRITES` or both (``flags`` of fdinfo); 0 if it is gone."""
    text = fdinfo(pid, fd, b"flags", root)
    try:
        mode = int(text, 8) & _O_ACCMODE
    except ValueError:
        return 0
    return READS | WRITES if mode == _O_RDWR else WRITES if mode == _O_WRONLY else READS
