"""The guard's socket: one packet in, one packet out, root only. `pidwarden status|release|kill` speak it.

A ``SOCK_SEQPACKET`` keeps packets whole, so there are no half lines to wait for and a client that never reads can block
nobody: every send and receive is non-blocking.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from pidwarden.errors import NoPermission, PidwardenError

NAME = "guard.sock"
_REQUEST, _ANSWER = 4096, 200_000
_TIMEOUT_SECONDS = 5.0
_CLIENTS = 16  # nobody needs more at a time, and descriptors are for pidfds

Handler = Callable[[list[str]], dict[str, Any]]


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
            try:
                answer = self._handler(words)
            except PidwardenError as why:
                answer = {"error": str(why)}
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ANSWER)
            client.send(json.dumps(answer).encode())

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
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(_TIMEOUT_SECONDS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ANSWER)
        try:
            client.connect(os.path.join(directory, NAME))
            client.send(" ".join(words).encode())
            answer: dict[str, Any] = json.loads(client.recv(4 * _ANSWER))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as why:
            msg = f"asking the guard in {directory}: {why.strerror}; type `sudo pidwarden …`"
            raise NoPermission(msg) from why
        except (TimeoutError, ValueError, OSError) as why:
            msg = f"the guard in {directory} does not answer ({why}); see its log, or `kill -TERM` it"
            raise PidwardenError(msg) from why
    if "error" in answer:
        raise PidwardenError(str(answer["error"]))
    return answer
