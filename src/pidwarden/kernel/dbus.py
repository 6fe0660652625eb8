"""As much of D-Bus as it takes to ask systemd for a unit of a process, and to restart it; no process is started for it.

The format is that of the D-Bus specification, version 0.43, "Message Protocol"; the calls are those of
org.freedesktop.systemd1(5). systemd's own socket needs no bus; the system bus is the second choice.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple, Self

SOCKETS = ("/run/systemd/private", "/run/dbus/system_bus_socket")
SECONDS = 5.0  # for an answer
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_TO, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_LITTLE, _VERSION, _FIXED = b"l", 1, 16  # bytes of the header before its fields
_LARGEST = 1 << 20
_UNITS = "/org/freedesktop/systemd1/unit/"


class DbusError(Exception):
    """The other side refused, or is not there; the text says what it said."""


class _Message(NamedTuple):
    kind: int
    reply_to: int
    error: str
    signature: str
    body: bytes


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw + b"\0"


def _field(code: int, kind: str, text: str) -> bytes:
    value = bytes([len(text)]) + text.encode() + b"\0" if kind == "g" else _string(text)
    return bytes([code, 1]) + kind.encode() + b"\0" + value


def call(serial: int, to: tuple[str, str, str], member: str, signature: str = "", body: bytes = b"") -> bytes:
    """A method call; `to` is destination, object path and interface."""
    destination, path, interface = to
    fields = b""
    for code, kind, text in (
        (_PATH, "o", path),
        (_DESTINATION, "s", destination),
        (_INTERFACE, "s", interface),
        (_MEMBER, "s", member),
        (_SIGNATURE, "g", signature),
    ):
        if text:
            fields = _padded(fields, 8) + _field(code, kind, text)
    head = _LITTLE + bytes([_CALL, 0, _VERSION]) + struct.pack("<III", len(body), serial, len(fields))
    return _padded(head + fields, 8) + body


def strings(*texts: str) -> bytes:
    """The body of a call with these arguments."""
    body = b""
    for text in texts:
        body = _padded(body, 4) + _string(text)
    return body


def _size(head: bytes) -> int:
    """How long the message is that begins so.

    Raises:
        DbusError: it is none.
    """
    order = "<" if head[:1] == _LITTLE else ">"
    body, _serial, fields = struct.unpack_from(f"{order}III", head, 4)
    size = _FIXED + fields + -fields % 8 + body
    if head[:1] not in (b"l", b"B") or size > _LARGEST:
        raise DbusError("the answer is no D-Bus message")
    return int(size)


def parse(data: bytes) -> _Message:
    """Takes one whole message apart.

    Raises:
        DbusError: it is none.
    """
    order = "<" if data[:1] == _LITTLE else ">"
    try:
        body_size, _serial, fields_size = struct.unpack_from(f"{order}III", data, 4)
        end, at = _FIXED + fields_size, _FIXED
        found: dict[int, str | int] = {}
        while at < end:
            at += -at % 8
            code, size = data[at], data[at + 1]
            kind = data[at + 2 : at + 2 + size]
            at += 3 + size
            if kind == b"g":
                length = data[at]
                at += 1
            else:
                at += -at % 4
                (length,) = struct.unpack_from(f"{order}I", data, at)
                at += 4
            if kind in (b"u", b"h"):
                found[code] = int(length)
                continue
            found[code] = data[at : at + length].decode("utf-8", "replace")
            at += length + 1
    except (struct.error, IndexError) as why:
        raise DbusError("the answer is no D-Bus message") from why
    body = data[end + -end % 8 :][:body_size]
    reply = found.get(_REPLY_TO, 0)
    return _Message(
        data[1], reply if isinstance(reply, int) else 0, str(found.get(_ERROR_NAME, "")),
        str(found.get(_SIGNATURE, "")), body,
    )  # fmt: skip


def first_string(message: _Message) -> str:
    """The first argument, if it is a string or a path."""
    if message.signature[:1] not in ("s", "o"):
        return ""
    (size,) = struct.unpack_from("<I", message.body)
    return message.body[4 : 4 + size].decode("utf-8", "replace")


def unit_path(name: str) -> str:
    """The object path of a unit: anything but letters and digits as ``_xx``, and a digit in front too."""
    raw = name.encode()
    return _UNITS + "".join(
        chr(c) if chr(c).isascii() and chr(c).isalnum() and not (at == 0 and chr(c).isdigit()) else f"_{c:02x}"
        for at, c in enumerate(raw)
    )


class Systemd:
    """The service manager, a context. Raises :class:`DbusError` from everything."""

    def __init__(self, sockets: tuple[str, ...] = SOCKETS) -> None:
        self._serial = 0
        self._buffer = b""
        whys = []
        for path in sockets:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(SECONDS)
            try:
                self._socket.connect(path)
                self._begin()
                if path.endswith("bus_socket"):
                    self._call(_BUS, "Hello")
            except (OSError, DbusError) as why:
                self._socket.close()
                whys.append(f"{path}: {getattr(why, 'strerror', None) or why}")
                continue
            return
        raise DbusError("; ".join(whys))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def _begin(self) -> None:
        uid = str(os.geteuid()).encode().hex()
        self._socket.sendall(b"\0AUTH EXTERNAL " + uid.encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += self._more()
        if not answer.startswith(b"OK "):
            raise DbusError(f"not let in: {answer.decode('ascii', 'replace').strip()}")
        self._socket.sendall(b"BEGIN\r\n")

    def _more(self) -> bytes:
        try:
            data = self._socket.recv(4096)
        except OSError as why:
            raise DbusError(f"no answer: {why}") from why
        if not data:
            raise DbusError("it hung up")
        return data

    def _receive(self) -> _Message:
        while len(self._buffer) < _FIXED or len(self._buffer) < _size(self._buffer):
            self._buffer += self._more()
        size = _size(self._buffer)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return parse(data)

    def _call(self, to: tuple[str, str, str], member: str, signature: str = "", body: bytes = b"") -> _Message:
        self._serial += 1
        try:
            self._socket.sendall(call(self._serial, to, member, signature, body))
        except OSError as why:
            raise DbusError(f"{member}: {why.strerror or why}") from why
        while True:
            found = self._receive()
            if found.reply_to != self._serial:
                continue  # a signal
            if found.kind == _ERROR:
                raise DbusError(f"{member}: {first_string(found) or found.error}")
            if found.kind == _RETURN:
                return found

    def unit_of(self, pid: int) -> str:
        """The object path of the unit that systemd keeps a process in."""
        return first_string(self._call(_MANAGER, "GetUnitByPID", "u", struct.pack("<I", pid)))

    def restart(self, unit: str) -> str:
        """Queues the restart of a unit; the job's object path."""
        return first_string(self._call(_MANAGER, "RestartUnit", "ss", strings(unit, "replace")))
