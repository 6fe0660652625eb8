"""Netlink dumps: one socket, one request, and the messages of the answer (netlink(7)).

By hand and not by a library: to load one takes ten times as long as the whole answer, and it makes objects of messages
of which one field is wanted (docs/tables.md).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTE, SOCK_DIAG = 0, 4
_REQUEST, _DUMP = 0x1, 0x300  # NLM_F_REQUEST, NLM_F_ROOT | NLM_F_MATCH
_ERROR, _DONE = 2, 3
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_START = struct.Struct("=IHH")
_BUFFER = 256 * 1024
_SECONDS = 5.0


def dump(protocol: int, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each message of a dump: a buffer, and where its payload begins and ends there.

    Raises:
        OSError: the kernel refuses (ENOENT: it lacks the module), or does not answer.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as own:
        own.settimeout(_SECONDS)
        own.send(HEADER.pack(HEADER.size + len(body), kind, _REQUEST | _DUMP, 1, 0) + body)
        unpack, size = _START.unpack_from, HEADER.size
        while True:
            data = own.recv(_BUFFER)
            at, end = 0, len(data)
            while at + size <= end:
                length, what, _flags = unpack(data, at)
                if what <= _DONE:
                    if what == _DONE:
                        return
                    if what == _ERROR:
                        code = -struct.unpack_from("=i", data, at + size)[0]
                        raise OSError(code, os.strerror(code))
                    if length < size:
                        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
                else:
                    yield data, at + size, at + length
                at += (length + 3) & ~3
