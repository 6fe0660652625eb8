"""Netlink: sockets, requests, and the dumps that are read for one field of each message (netlink(7)).

By hand and not by a library: to load one takes ten times as long as the whole answer, and it makes objects of messages
of which one field is wanted (docs/tables.md). A dump that has to be whole is read by
:mod:`pidwarden.kernel.nfnetlink`, on a socket of its own that is kept.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTE, SOCK_DIAG, NETFILTER = 0, 4, 12
REQUEST, DUMP = 0x1, 0x300  # NLM_F_REQUEST, NLM_F_ROOT | NLM_F_MATCH
ERROR, DONE = 2, 3
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
CODE = struct.Struct("=i")  # what an ERROR or a DONE begins with: an errno, negative, or 0
_START = struct.Struct("=IHH")
_BUFFER = 256 * 1024
_SECONDS = 5.0


def connect(protocol: int) -> socket.socket:
    """A socket of the network namespace that this thread is in, for ever.

    Raises:
        OSError: the kernel has no such protocol.
    """
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def request(kind: int, flags: int, body: bytes, number: int = 1) -> bytes:
    """One message to the kernel, with the sequence number that its answer will have."""
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, number, 0) + body


def dump(protocol: int, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each message of a dump: a buffer, and where its payload begins and ends there.

    Raises:
        OSError: the kernel refuses (ENOENT: it lacks the module), or does not answer.
    """
    with connect(protocol) as own:
        own.settimeout(_SECONDS)
        own.send(request(kind, DUMP, body))
        unpack, size = _START.unpack_from, HEADER.size
        while True:
            data = own.recv(_BUFFER)
            at, end = 0, len(data)
            while at + size <= end:
                length, what, _flags = unpack(data, at)
                if what <= DONE:
                    if what == DONE:
                        return
                    if what == ERROR:
                        code = -CODE.unpack_from(data, at + size)[0]
                        raise OSError(code, os.strerror(code))
                    if length < size:
                        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
                else:
                    yield data, at + size, at + length
                at += (length + 3) & ~3
