"""Network namespaces (network_namespaces(7)): which there are, as far as processes and mounts show, and being in one.

A process that is stuck within execve(2) is passed over, or said to be stuck if it is the one that is meant
(:mod:`pidwarden.kernel.patience`). `command` is what the person typed after `pidwarden`, for the words of an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NoPermission, NotPossible, PidwardenError, UsageError
from pidwarden.kernel import patience
from pidwarden.kernel.namespaces import number_of
from pidwarden.kernel.procfs import PROC
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAMED = ("/run/netns", "/var/run/netns")  # where ip-netns(8) mounts them
_NEWNET = 0x40000000  # CLONE_NEWNET (setns(2))
_HINT = "`ip netns` lists those with a name, `lsns -t net` those of processes; type --netns PID, a name or a path"
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace(NamedTuple):
    """A network namespace: its inode number, a path that leads to it, and what a person calls it, safe to print."""

    inode: int
    path: str
    name: str


def own(root: str = PROC) -> Namespace:
    """That of this process; its number is 0 where the kernel has no network namespaces."""
    return Namespace(number_of("net", "self", root) or 0, f"{root}/self/ns/net", "this network namespace")


def find(text: str, command: str, root: str = PROC) -> Namespace:
    """The one that is meant: a pid, a name as `ip netns` has it, or a path.

    Raises:
        UsageError: the text names nothing.
        NoPermission: the process is not ours to look at.
        PidwardenError: there is no such process or file, or the kernel does not answer for it.
    """
    if not text or "\0" in text:
        raise UsageError(f"--netns {text!r}: type a pid, a name of `ip netns`, or a path")
    shown = escape(os.fsencode(text))
    name = shown
    if text.isascii() and text.isdecimal():
        path, name = f"{root}/{text}/ns/net", f"that of pid {text}"
    elif "/" in text:
        path = text
    else:
        path = next((p for p in (f"{d}/{text}" for d in NAMED) if os.path.exists(p)), f"{NAMED[0]}/{text}")
    tried = f"--netns {shown}: {escape(os.fsencode(path))}"
    try:
        return Namespace(_number(path), path, name)
    except TimeoutError as why:
        hint = "see why: `sudo pidwarden stuck`, or name another process of that namespace"
        raise PidwardenError(f"{tried}: the kernel does not answer for it; {hint}") from why
    except PermissionError as why:
        raise NoPermission(f"{tried} is not ours to look at; {_right(command)}") from why
    except OSError as why:
        raise PidwardenError(f"{tried}: {why.strerror}; {_HINT}") from why


def _number(path: str) -> int:
    """The inode number of what a path leads to.

    Raises:
        OSError: there is none; TimeoutError: no answer in time.
    """
    try:
        return int(patience.Reader(read=_stat)(path))
    except BlockingIOError:  # no thread can be started: what we are asked for counts more than that it may wait
        return int(_stat(path))


def _stat(path: str) -> bytes:
    return b"%d" % os.stat(path).st_ino


def seen(root: str = PROC) -> list[Namespace]:
    """Every one that a process is in or that has a name; our own first. Those not ours to look at are not in it."""
    mine = own(root)
    found = {mine.inode: mine}
    for directory in NAMED:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory)):
                with contextlib.suppress(OSError):
                    path = f"{directory}/{name}"
                    inode = os.stat(path).st_ino
                    found.setdefault(inode, Namespace(inode, path, escape(os.fsencode(name))))
    for pid, number in _of_processes(root):
        if number is not None and number not in found:
            found[number] = Namespace(number, f"{root}/{pid}/ns/net", f"that of pid {pid}")
    return list(found.values())


def _of_processes(root: str) -> Iterable[tuple[int, int | None]]:
    def look(pid: int) -> int | None:
        return number_of("net", pid, root)

    pids = sorted(int(name) for name in os.listdir(root) if name.isdecimal())
    try:
        return patience.sweep(pids, look).found
    except BlockingIOError:
        return [(pid, look(pid)) for pid in pids]


# -- being in one ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def inside(namespace: Namespace, command: str, root: str = PROC) -> Iterator[None]:
    """With this thread in it: what it reads of /proc/sys/net and the sockets it makes are of there (setns(2)).

    So are threads that it starts meanwhile. Nothing is done for our own, so that it needs no right.

    Raises:
        NoPermission: the caller lacks CAP_SYS_ADMIN.
        NotPossible: the kernel has no network namespaces.
        PidwardenError: it is gone, or is no network namespace.
    """
    mine = own(root)
    if namespace.inode == mine.inode:
        yield
        return
    try:
        home = os.open(mine.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as why:
        raise NotPossible(f"{mine.path}: {why.strerror}: the kernel was built without network namespaces") from why
    try:
        enter(namespace, command)
        try:
            yield
        finally:
            _enter(home, "our own network namespace", command)
    finally:
        os.close(home)


def enter(namespace: Namespace, command: str) -> None:
    """Moves this thread into it for good.

    Raises:
        NoPermission, NotPossible, PidwardenError: as for :func:`inside`.
    """
    shown = escape(os.fsencode(namespace.path))
    try:
        fd = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as why:
        raise NoPermission(f"{shown} is not ours to open; {_right(command)}") from why
    except OSError as why:
        raise PidwardenError(f"{shown}: {why.strerror}: that network namespace is gone; {_HINT}") from why
    try:
        if os.fstat(fd).st_ino != namespace.inode:  # the pid belongs to another process by now
            raise PidwardenError(f"{shown} leads to another network namespace than a moment ago; type it again")
        _enter(fd, shown, command)
    finally:
        os.close(fd)


def _enter(fd: int, what: str, command: str) -> None:
    if _libc.setns(fd, _NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise NoPermission(f"entering {what}: {os.strerror(code)}; {_right(command)}")
    if code == errno.EINVAL:
        raise PidwardenError(f"{what} is no network namespace; {_HINT}")
    raise PidwardenError(f"entering {what}: {os.strerror(code)}; type it again")


def _right(command: str) -> str:
    """What to do without a right: root lacks it in a container alone."""
    return f"type `sudo pidwarden {command} …`" if os.geteuid() else "this container may not; type it on the host"
