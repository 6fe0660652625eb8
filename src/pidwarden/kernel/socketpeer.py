"""What is at the other end of a socket: of a Unix socket the peer's inode (sock_diag(7)), of TCP the remote address."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import netlink
from pidwarden.kernel.procfs import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOCK_DIAG_BY_FAMILY = 20
_UDIAG_SHOW_PEER = 4
_UDIAG_SHOW_ICONS = 8
_UNIX_DIAG_PEER, _UNIX_DIAG_ICONS = 2, 3
_ACCEPTS = 0x10000  # __SO_ACCEPTCON, in the flags of /proc/net/unix
_NO_COOKIE = 0xFFFFFFFF
_HEADER, _MESSAGE, _ATTRIBUTE = 16, 16, 4  # bytes: nlmsghdr, unix_diag_msg, rtattr
_SECONDS = 0.2
_ANYWHERE = ("00000000:0000", f"{0:032X}:0000")  # as a socket that is not connected has it
ESTABLISHED, SYN_SENT, LISTEN = "01", "02", "0A"  # include/net/tcp_states.h
_TABLES = (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6), ("udp", socket.AF_INET), ("udp6", socket.AF_INET6))


class End(NamedTuple):
    """The other end in words, empty if it is not known. ``anybody``: there is none, whoever wants may send."""

    words: str = ""
    anybody: bool = False


def unix_peer(inode: int) -> int | None:
    """The inode of the socket that a Unix socket of our network namespace is connected to; 0 if there is none.

    None if the kernel knows no such socket, or does not tell.
    """
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _UDIAG_SHOW_PEER, _NO_COOKIE, _NO_COOKIE)
    try:
        with netlink.connect(netlink.SOCK_DIAG) as own:
            own.settimeout(_SECONDS)
            own.send(netlink.request(_SOCK_DIAG_BY_FAMILY, 0, body))
            answer = own.recv(8192)
    except OSError:
        return None
    return parse_unix_peer(answer)


def unix_diag() -> bool:
    """Whether the kernel tells of Unix sockets."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        return unix_peer(os.fstat(ours.fileno()).st_ino) is not None


def parse_unix_peer(answer: bytes) -> int | None:
    """The peer's inode out of one message of sock_diag(7); 0 if it names none, None if it is an error."""
    if len(answer) < _HEADER + _MESSAGE:
        return None
    length, kind = struct.unpack_from("=IH", answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    at, end = _HEADER + _MESSAGE, min(length, len(answer))
    while at + _ATTRIBUTE <= end:
        size, name = struct.unpack_from("=HH", answer, at)
        if size < _ATTRIBUTE:
            return 0
        if name == _UNIX_DIAG_PEER and size >= _ATTRIBUTE + 4:
            peer: int = struct.unpack_from("=I", answer, at + _ATTRIBUTE)[0]
            return peer
        at += (size + 3) & ~3
    return 0


def waits_at(inode: int) -> int | None:
    """The listening Unix socket at which a connection waits to be accepted; None if there is none, or not ours."""
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 1 << int(LISTEN, 16), 0, _UDIAG_SHOW_ICONS, 0, 0)
    try:
        for data, at, end in netlink.dump(netlink.SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, body):
            own: int = struct.unpack_from("=I", data, at + 4)[0]
            at += _MESSAGE  # noqa: PLW2901
            while at + _ATTRIBUTE <= end:
                size, name = struct.unpack_from("=HH", data, at)
                if size < _ATTRIBUTE:
                    break
                waiting = data[at + _ATTRIBUTE : at + size]
                if name == _UNIX_DIAG_ICONS and (inode,) in struct.iter_unpack("=I", waiting[: len(waiting) // 4 * 4]):
                    return own
                at += (size + 3) & ~3  # noqa: PLW2901
    except OSError:
        pass
    return None


def listens_at(pid: int, name: bytes, root: str = PROC) -> int | None:
    """The listening Unix socket of that name (``@`` first if it is abstract), as a process's namespace has them."""
    try:
        with open(f"{root}/{pid}/net/unix", "rb") as file:
            for line in file:
                fields = line.rstrip(b"\n").split(None, 7)
                if len(fields) > 7 and fields[7] == name and int(fields[3], 16) & _ACCEPTS:  # noqa: PLR2004
                    return int(fields[6])
    except (OSError, ValueError):
        pass
    return None


def remote(pid: int, inode: int, root: str = PROC) -> End:
    """Where a TCP, UDP or netlink socket of a process leads."""
    for name, family in _TABLES:
        if fields := _row(pid, name, 9, inode, root):
            if fields[2] in _ANYWHERE:
                return End(f"connected to nobody, bound to {address(fields[1], family)} ({name})", anybody=True)
            return End(f"connected to {address(fields[2], family)} ({name})")
    if _row(pid, "netlink", 9, inode, root):
        return End("a netlink socket: the kernel sends there, or another program", anybody=True)
    return End()


class Row(NamedTuple):
    """One TCP socket as its namespace's table has it; ``local`` and ``remote`` in the kernel's own writing."""

    local: str
    remote: str
    state: str
    inode: int
    family: int

    @property
    def words(self) -> str:
        """Where it leads."""
        return address(self.remote, self.family)


_MAPPED = "0000000000000000FFFF0000"  # ::ffff:0:0/96, as the kernel writes it


def connection(pid: int, inode: int, root: str = PROC) -> Row | None:
    """A TCP socket of the network namespace of a process, by its inode; None if there is none there."""
    return next((row for row in _tcp(pid, root) if row.inode == inode), None)


def opposite(pid: int, row: Row, root: str = PROC) -> Row | None:
    """The other end of a connection, if that is in the same network namespace. Its inode is 0 before it is accepted."""
    mirrored = _plain(row.remote), _plain(row.local)
    return next((r for r in _tcp(pid, root) if (_plain(r.local), _plain(r.remote)) == mirrored), None)


def listener(pid: int, row: Row, root: str = PROC) -> Row | None:
    """Who listens where a connection leads, in the same network namespace."""
    where, _colon, port = _plain(row.remote).rpartition(":")
    for other in _tcp(pid, root):
        here, _colon, its_port = _plain(other.local).rpartition(":")
        if other.state == LISTEN and its_port == port and (here == where or not here.strip("0")):
            return other
    return None


def _plain(text: str) -> str:
    return text.removeprefix(_MAPPED) if len(text) > len(_MAPPED) else text


def _tcp(pid: int, root: str) -> Iterator[Row]:
    for name, family in _TABLES[:2]:
        with contextlib.suppress(OSError), open(f"{root}/{pid}/net/{name}", encoding="ascii", errors="replace") as file:
            next(file, "")
            for line in file:
                fields = line.split(None, 10)
                if len(fields) > 9 and fields[9].isdecimal():  # noqa: PLR2004  (the inode is the tenth)
                    yield Row(fields[1], fields[2], fields[3], int(fields[9]), family)


def _row(pid: int, name: str, column: int, inode: int, root: str) -> list[str]:
    """The line of a table below ``/proc/PID/net`` that has the inode in that column; empty if none has."""
    try:
        with open(f"{root}/{pid}/net/{name}", encoding="ascii", errors="replace") as file:
            next(file)
            return next((fields for line in file if int((fields := line.split())[column]) == inode), [])
    except (OSError, ValueError, IndexError, StopIteration):
        return []


def address(text: str, family: int) -> str:
    """``0100007F:0016`` as ``127.0.0.1:22``: words of 32 bits in the machine's order (proc_pid_net(5))."""
    number, _colon, port = text.partition(":")
    words = [int(number[at : at + 8], 16) for at in range(0, len(number), 8)]
    shown = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
    return f"[{shown}]:{int(port, 16)}" if family == socket.AF_INET6 else f"{shown}:{int(port, 16)}"
