"""Whether anybody is at the other end of a process's pipe or terminal: asked of the kernel, not searched for.

pidfd_getfd(2) gives a descriptor to the same open pipe, and poll(2) says whether its last reader or writer has gone,
or whether the terminal was hung up. That takes the right to attach to the process (ptrace(2)), and the lock that
execve(2) holds: it is called through :mod:`pidwarden.kernel.patience`. Nothing is read or written.
"""

from __future__ import annotations

import ctypes
import os
import select

_GETFD = 438  # the same on every architecture that Python runs on here
GONE, THERE = b"gone", b"there"
_libc = ctypes.CDLL(None, use_errno=True)


def asked(path: str) -> bytes:
    """:data:`GONE` or :data:`THERE`, for ``/proc/PID/fd/N``.

    Raises:
        OSError: the process or the descriptor is gone, or may not be looked at.
    """
    pid, _fd, number = path.rsplit("/", 3)[1:]
    process = os.pidfd_open(int(pid))
    try:
        fd: int = _libc.syscall(_GETFD, process, int(number), 0)
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(process)
    try:
        poll = select.poll()
        poll.register(fd, 0)
        return GONE if any(event & (select.POLLERR | select.POLLHUP) for _fd, event in poll.poll(0)) else THERE
    finally:
        os.close(fd)
