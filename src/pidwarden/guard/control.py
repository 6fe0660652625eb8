"""The guard's socket: one packet in, one packet out, root only. What the commands ask and are answered goes through it.

A ``SOCK_SEQPACKET`` keeps packets whole, so there are no half lines to wait for and a client that never reads can block
nobody: every send and receive is non-blocking. What is too much for a packet goes beside it as a sealed memfd
(memfd_create(2), SCM_RIGHTS in unix(7)): the client reads it when it likes, and nobody can change it meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pidwarden.errors import NoPermission, PidwardenError

NAME = "guard.sock"
_REQUEST, _ANSWER = 4096, 200_000
_TIMEOUT_SECONDS = 5
_CLIENTS = 16  # nobody needs more at a time, and descriptors are for pidfds

_NOEXEC_SEAL = 0x0008  # MFD_NOEXEC_SEAL (include/uapi/linux/memfd.h), since 6.3; Python 3.11 has no name for it
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Bulk(NamedTuple):
    """An answer with bytes beside it. ``data`` is let go of as soon as it is copied."""

    answer: dict[str, Any]
    data: memoryview


Handler = Callable[[list[str]], dict[str, Any] | Bulk]


def sealed(data: memoryview) -> int:
    """A memfd with these bytes that nobody can change, grow or shrink any more; the caller closes it.

    Raises:
        OSError: no memory, or no descriptor.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("pidwarden-records", flags | _NOEXEC_SEAL)
    except OSError:
        fd = os.memfd_create("pidwarden-records", flags)
    try:
        at = 0
        while at < len(data):
            at += os.write(fd, data[at:])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Server:
    """The listening end, in the guard."""

    def __init__(self, directory: str, handler: Handler) -> None:
        self._handler = handler
        self.path = os.path.join(directory, NAME)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.setblocking(False)
        self._listening.bind(self.path)
        os.chmod(self.path, 0o600)
        self._listening.listen(8)
        self._clients: dict[int, socket.socket] = {}

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._listening.fileno()

    def accept(self) -> int | None:
        """Takes a waiting client; its descriptor, to be watched and handed to :meth:`serve`."""
        try:
            client, _address = self._listening.accept()
        except OSError:
            return None
        client.setblocking(False)
        if len(self._clients) >= _CLIENTS:
            client.close()
            return None
        self._clients[client.fileno()] = client
        return client.fileno()

    def serve(self, fd: int) -> None:
        """Answers one client and lets it go."""
        client = self._clients.pop(fd)
        with client, contextlib.suppress(OSError):
            words = client.recv(_REQUEST).decode("utf-8", "replace").split()
            answer, memfd = self._answer(words)
            try:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ANSWER)
                socket.send_fds(client, [json.dumps(answer).encode()], [] if memfd is None else [memfd])
            finally:
                if memfd is not None:
                    os.close(memfd)

    def _answer(self, words: list[str]) -> tuple[dict[str, Any], int | None]:
        """What to say, and the descriptor to say it with."""
        try:
            answer = self._handler(words)
            if not isinstance(answer, Bulk):
                return answer, None
            with answer.data:
                return answer.answer, sealed(answer.data)
        except PidwardenError as why:
            return {"error": str(why)}, None
        except OSError as why:
            return {
                "error": f"answering {' '.join(words)!r}: {why.strerror}; try again when the machine has room"
            }, None

    def close(self) -> None:
        """Stops listening."""
        for client in self._clients.values():
            client.close()
        self._listening.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def ask(directory: str, *words: str) -> dict[str, Any] | None:
    """Asks the guard of a run directory; None if none is running there.

    Raises:
        NoPermission: the socket is not ours to use.
        PidwardenError: it refused, or does not answer.
    """
    found = ask_bulk(directory, *words)
    return found[0] if found else None


def ask_bulk(directory: str, *words: str) -> tuple[dict[str, Any], bytes] | None:
    """The same with what came beside the answer; no bytes if nothing did.

    Raises:
        NoPermission: the socket is not ours to use.
        PidwardenError: it refused, or does not answer.
    """
    found = _exchange(directory, words)
    if found is None:
        return None
    answer, fds = found
    try:
        return answer, b"".join(map(_contents, fds))
    finally:
        for fd in fds:
            os.close(fd)


def _contents(fd: int) -> bytes:
    """All bytes of a file. Read, not mapped: before Linux 6.7 a file sealed against writing cannot be mapped shared."""
    size, parts, at = os.fstat(fd).st_size, [], 0
    while part := os.pread(fd, size - at, at):
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _exchange(directory: str, words: tuple[str, ...]) -> tuple[dict[str, Any], list[int]] | None:
    fds: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        # Not settimeout(): with it connect(2) fails at once while eight others are being connected, instead of waiting.
        for way in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            client.setsockopt(socket.SOL_SOCKET, way, struct.pack("@ll", _TIMEOUT_SECONDS, 0))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ANSWER)
        try:
            client.connect(os.path.join(directory, NAME))
            client.send(" ".join(words).encode())
            data, fds, _flags, _address = socket.recv_fds(client, 4 * _ANSWER, 1, socket.MSG_CMSG_CLOEXEC)
            answer: dict[str, Any] = json.loads(data)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as why:
            msg = f"asking the guard in {directory}: {why.strerror}; type `sudo pidwarden …`"
            raise NoPermission(msg) from why
        except (ValueError, OSError) as why:
            what = f"nothing for {_TIMEOUT_SECONDS} s" if isinstance(why, BlockingIOError) else str(why)
            msg = f"the guard in {directory} does not answer ({what}); see its log, or `kill -TERM` it"
            raise PidwardenError(msg) from why
    if "error" in answer:
        raise PidwardenError(str(answer["error"]))
    return answer, fds
