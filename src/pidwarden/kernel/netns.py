"""Another network namespace (network_namespaces(7)): this thread moves into it, and what it reads is of there."""

from __future__ import annotations

import ctypes
import os

from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel import patience
from pidwarden.kernel.procfs import PROC

_NEWNET = 0x40000000  # CLONE_NEWNET (setns(2))
_libc = ctypes.CDLL(None, use_errno=True)


def _link(path: str) -> bytes:
    """What a link says; nothing for a file."""
    return os.fsencode(os.readlink(path)) if os.path.islink(path) else b""


def enter(which: str, root: str = PROC) -> None:
    """Moves into the namespace of a process, or the one a file stands for; for good.

    Raises:
        PidwardenError: there is no such process or file, or it is no network namespace.
        NoPermission: CAP_SYS_ADMIN is missing.
        NotPossible: the kernel has no network namespaces.
    """
    path = f"{root}/{which}/ns/net" if which.isdecimal() else which
    hint = "type --netns PID or a file such as /run/netns/NAME"
    try:
        patience.Reader(read=_link)(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except TimeoutError as why:
        msg = f"--netns {which}: the kernel does not answer for it; name another of that namespace, or see why: "
        raise PidwardenError(f"{msg}`sudo pidwarden stuck pid:{which}`") from why
    except PermissionError as why:
        msg = f"--netns {which}: {path}: {why.strerror}; type `sudo pidwarden tables …`"
        raise NoPermission(msg) from why
    except OSError as why:
        msg = f"--netns {which}: {path}: {why.strerror}; {hint}"
        raise PidwardenError(msg) from why
    try:
        if _libc.setns(fd, _NEWNET) == 0:
            return
        code = ctypes.get_errno()
    finally:
        os.close(fd)
    text = f"--netns {which}: setns: {os.strerror(code)}"
    if isinstance(OSError(code, ""), PermissionError):
        msg = f"{text}; type `sudo pidwarden tables …`"
        raise NoPermission(msg)
    if not os.path.exists(f"{root}/self/ns/net"):
        msg = f"{text}; the kernel was built without network namespaces"
        raise NotPossible(msg)
    msg = f"{text}: it is no network namespace; {hint}"
    raise PidwardenError(msg)
