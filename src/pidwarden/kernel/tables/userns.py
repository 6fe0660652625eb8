"""User namespaces, as far as it matters for whom the kernel counts (user_namespaces(7), ioctl_ns(2))."""

from __future__ import annotations

import fcntl
import os
import struct

from pidwarden.kernel.namespaces import INIT_USER_NS, number_of
from pidwarden.kernel.tables.base import PROC

_GET_PARENT, _GET_OWNER = 0xB702, 0xB704
_LEVELS = 33


def is_initial(root: str = PROC) -> bool:
    """Whether ours is the machine's own, or there are none."""
    return number_of("user", root=root) in (INIT_USER_NS, None)


class Owners:
    """Whom the kernel charges in our user namespace for what a process made."""

    def __init__(self, root: str = PROC) -> None:
        self._root, self._own = root, number_of("user", root=root)
        self._known: dict[int, int | None] = {}

    def charged(self, pid: int, uid: int, number: int | None) -> int:
        """A uid: the process's own, or the owner of the namespace below ours that it is in, or below.

        `number`: that of the process's user namespace; None: it is not known.
        """
        if number is None or number == self._own:
            return uid
        if number not in self._known:
            self._known[number] = self._owner(pid)
        owner = self._known[number]
        return uid if owner is None else owner

    def _owner(self, pid: int) -> int | None:
        """Of the namespaces from that of a process up to ours, the owner of the last; None: it cannot be told."""
        try:
            fd = os.open(f"{self._root}/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            for _level in range(_LEVELS):
                above = fcntl.ioctl(fd, _GET_PARENT)
                if os.fstat(above).st_ino == self._own:
                    os.close(above)
                    return int(struct.unpack("=I", fcntl.ioctl(fd, _GET_OWNER, b"\0" * 4))[0])
                os.close(fd)
                fd = above
        except OSError:
            pass
        finally:
            os.close(fd)
        return None
