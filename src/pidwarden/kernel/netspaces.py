"""Network namespaces: which there are, as far as processes and mounts show them, and reading inside one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NoPermission, NotPossible, PidwardenError, UsageError
from pidwarden.kernel.procfs import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMED = ("/run/netns", "/var/run/netns")  # where ip-netns(8) mounts them
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace(NamedTuple):
    """A network namespace: its inode number, a path that leads to it, and what a person calls it."""

    inode: int
    path: str
    name: str


def own(root: str = PROC) -> Namespace:
    """That of this process."""
    path = f"{root}/self/ns/net"
    return Namespace(os.stat(path).st_ino, path, "this network namespace")


def find(text: str, root: str = PROC) -> Namespace:
    """The one that is meant: a pid, a name as `ip netns` has it, or a path.

    Raises:
        UsageError: the text names nothing.
        NoPermission: the process is not ours to look at.
        PidwardenError: there is no such process or file.
    """
    if not text or "\0" in text:
        raise UsageError(f"--netns {text!r}: type a pid, a name of `ip netns`, a path, or `all`")
    if text.isascii() and text.isdecimal():
        path, name = f"{root}/{text}/ns/net", f"that of pid {text}"
    elif "/" in text:
        path = name = text
    else:
        path = next((p for p in (f"{d}/{text}" for d in NAMED) if os.path.exists(p)), f"{NAMED[0]}/{text}")
        name = text
    try:
        return Namespace(os.stat(path).st_ino, path, name)
    except PermissionError as why:
        hint = "type `sudo pidwarden …`" if os.geteuid() else "this container may not; type it on the host"
        raise NoPermission(f"--netns {text}: {path} is not ours to look at; {hint}") from why
    except OSError as why:
        hint = "`ip netns` lists those with a name, `lsns -t net` those of processes"
        raise PidwardenError(f"--netns {text}: {path}: {why.strerror}; {hint}") from why


def seen(root: str = PROC) -> list[Namespace]:
    """Every one that a process is in or that has a name; our own first. Those not ours to look at are not in it."""
    mine = own(root)
    found = {mine.inode: mine}
    for directory in NAMED:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory)):
                with contextlib.suppress(OSError):
                    inode = os.stat(f"{directory}/{name}").st_ino
                    found.setdefault(inode, Namespace(inode, f"{directory}/{name}", name))
    for pid in sorted(int(name) for name in os.listdir(root) if name.isdecimal()):
        with contextlib.suppress(OSError):
            path = f"{root}/{pid}/ns/net"
            inode = os.stat(path).st_ino
            if inode not in found:
                found[inode] = Namespace(inode, path, f"that of pid {pid}")
    return list(found.values())


@contextlib.contextmanager
def inside(namespace: Namespace, root: str = PROC) -> Iterator[None]:
    """With this thread in it: what it reads of /proc/sys/net and the sockets it makes are of there (setns(2)).

    Nothing is done for our own, so that it needs no right.

    Raises:
        NoPermission: the caller lacks CAP_SYS_ADMIN.
        NotPossible: what the path leads to is no network namespace.
        PidwardenError: it is gone.
    """
    home = os.open(f"{root}/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(home).st_ino == namespace.inode:
            yield
            return
        _enter_path(namespace)
        try:
            yield
        finally:
            _enter(home, "our own network namespace")
    finally:
        os.close(home)


def _enter_path(namespace: Namespace) -> None:
    try:
        fd = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as why:
        raise NoPermission(f"{namespace.path} is not ours to open; type `sudo pidwarden …`") from why
    except OSError as why:
        raise PidwardenError(f"{namespace.path}: {why.strerror}: that network namespace is gone") from why
    try:
        if os.fstat(fd).st_ino != namespace.inode:  # the pid belongs to another process by now
            raise PidwardenError(f"{namespace.path} leads to another network namespace than a moment ago")
        _enter(fd, namespace.path)
    finally:
        os.close(fd)


def _enter(fd: int, what: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise NoPermission(f"entering {what}: {os.strerror(code)}; type `sudo pidwarden …`")
    if code == errno.EINVAL:
        raise NotPossible(f"{what} is no network namespace; `ip netns` lists those with a name")
    raise PidwardenError(f"entering {what}: {os.strerror(code)}")
