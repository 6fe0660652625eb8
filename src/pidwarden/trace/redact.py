"""Takes the secrets out of records before anything is made of them: text, JSON and files never see them. Pure.

What :mod:`secrets` finds in one string is only the half: a secret may be split over two writes, follow a prompt that
another call wrote, or come again as a path. So there is a little memory here: of the end of what each descriptor
carried, of prompts that wait for an answer, and of secrets that were certain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pidwarden.trace import abi, secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.event import Event, Piece


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READ: Final = _words(
    "read pread64 readv preadv preadv2 recv recvfrom recvmsg recvmmsg mq_timedreceive msgrcv process_vm_readv"
)
_WRITE: Final = _words(
    "write pwrite64 writev pwritev pwritev2 send sendto sendmsg sendmmsg mq_timedsend msgsnd process_vm_writev vmsplice"
)
_KEYS = frozenset({"add_key", "keyctl", "request_key"})
_WORDS = rb"(?i)(?:pass(?:word|phrase|code|wd)|\bpin\b|\botp\b|token|secret|verification code|api key)"
_ASKS = re.compile(_WORDS)
_PROMPT = re.compile(_WORDS + rb"[^\r\n]{0,80}[:?>]?[ \t]*(?:\x1b\[[0-9;?]*[a-z])*$")
_CHALLENGE = re.compile(rb"(?:^|\n)(?:334 |\+ )[^\n]*\r?\n$")
_VALUE_END = re.compile(rb"[\s&\"';,\x00]")
_LINE_END = re.compile(rb"[\r\n\x00]")
NO_TEXT, BYTES, STRING = range(3)
_TAIL: Final = 256  # bytes kept of what a descriptor carried last
_STREAMS: Final = 4096  # descriptors remembered
_KNOWN: Final = 64  # secrets remembered
_SHORTEST: Final = 5  # a shorter one would hide half of all text where it comes again
_STDIO: Final = 2
_TCSETS = frozenset({0x5402, 0x5403, 0x5404, 0x402C542B, 0x402C542C, 0x402C542D})  # asm-generic/ioctls.h
_ECHO, _ICANON = 0o10, 0o2  # asm-generic/termbits.h, in c_lflag, the fourth word


class _Stream:
    """One direction of a descriptor."""

    __slots__ = ("answer", "open", "tail")

    def __init__(self) -> None:
        self.tail = b""
        self.open = False  # a secret reached the end of what came last
        self.answer = False  # the answer to a prompt is expected, up to the end of its line


class _Shown(NamedTuple):
    data: bytes
    spans: secrets.Spans


class Redactor:
    """Give it every record, in order, with the name of its call."""

    def __init__(self, kind: Callable[[int, int], int]) -> None:
        """`kind`: what an argument (number of the call, position) points to: STRING, BYTES or NO_TEXT.

        A string ends with a nul byte: its length is free. Of bytes the call's result or another argument says the
        length, and a secret is replaced by as many stars.
        """
        self._kind = kind
        self._streams: dict[tuple[int, int, bool], _Stream] = {}  # by tgid, descriptor, whether it is read
        self._stdin = False  # somebody asked on the terminal, and who reads it may be another
        self._known: list[bytes] = []

    def event(self, event: Event, name: str) -> Event:
        """The record without its secrets; itself if it has none."""
        if event.kind not in (abi.ENTER, abi.RETURN):
            name = ""
        if name == "ioctl":
            self._terminal(event)
        if not event.pieces:
            return event
        if name in _KEYS:
            return event._replace(pieces=tuple(p._replace(data=b"*" * len(p.data)) for p in event.pieces))
        if name in ("execve", "execveat"):
            return event._replace(pieces=self._arguments(event))
        if name in _READ or name in _WRITE:
            return event._replace(pieces=self._carried(event, read=name in _READ))
        pieces = tuple(self._piece(p, event, name) for p in event.pieces)
        return event if pieces == event.pieces else event._replace(pieces=pieces)

    def text(self, shown: str) -> str:
        """Text that comes from elsewhere, as a path out of /proc."""
        if self._known:
            for known in self._known:
                shown = shown.replace(known.decode("utf-8", "surrogateescape"), secrets.MARK.decode())
        return secrets.text(shown)

    # -- what stands by itself -----------------------------------------------------------------------------------------

    def _spans(self, data: bytes) -> secrets.Spans:
        found = secrets.spans(data)
        for known in self._known:
            at = data.find(known)
            while at >= 0:
                found = secrets.merged([*found, (at, at + len(known))])
                at = data.find(known, at + len(known))
        return found

    def _piece(self, piece: Piece, event: Event, name: str) -> Piece:
        kind = self._kind(event.nr, piece.arg) if name else BYTES
        if kind == NO_TEXT:
            return piece
        found = self._spans(piece.data)
        if not found:
            return piece
        free = bool(name) and (piece.part > 0 or kind == STRING)
        return piece._replace(data=secrets.without(piece.data, found, same_length=not free))

    def _arguments(self, event: Event) -> tuple[Piece, ...]:
        pieces = event.pieces
        lists: dict[int, list[int]] = {}
        for n, piece in enumerate(pieces):
            if piece.part and piece.part < abi.NAME:
                lists.setdefault(piece.arg, []).append(n)
        shown = list(pieces)
        for members in lists.values():
            words = [pieces[n].data for n in members]
            bare = [word.rstrip(b"\0") for word in words]
            clean = secrets.arguments(bare)
            for word in secrets.said(bare, clean):
                self._remember(word)
            for n, before, after in zip(members, bare, clean, strict=True):
                if before != after:
                    shown[n] = shown[n]._replace(data=after)
        return tuple(self._piece(piece, event, "execve") for piece in shown)

    def _remember(self, secret: bytes) -> None:
        if len(secret) >= _SHORTEST and secret not in self._known and len(self._known) < _KNOWN:
            self._known.append(secret)

    # -- what goes through a descriptor --------------------------------------------------------------------------------

    def _stream(self, tgid: int, fd: int, *, read: bool) -> _Stream:
        key = (tgid, fd, read)
        found = self._streams.get(key)
        if found is None:
            if len(self._streams) >= _STREAMS:
                del self._streams[next(iter(self._streams))]
            found = self._streams[key] = _Stream()
        return found

    def _carried(self, event: Event, *, read: bool) -> tuple[Piece, ...]:
        fd = event.args[0] & 0xFFFFFFFF
        stream, other = (self._stream(event.tgid, fd, read=way) for way in (read, not read))
        shown = []
        for piece in event.pieces:
            if piece.part in (abi.NAME, abi.CONTROL, abi.IOV) or self._is_address(event, piece):
                shown.append(self._piece(piece, event, ""))
                continue
            answer = stream.answer or (read and self._stdin and fd == 0)
            clean, ended = self._chunk(stream, piece, answer=answer)
            if answer and ended:
                stream.answer = False
                self._stdin = self._stdin and fd != 0
            if self._asks(stream, piece):
                other.answer = True
                self._stdin = self._stdin or (not read and fd <= _STDIO)
            shown.append(piece._replace(data=clean))
        return tuple(shown)

    @staticmethod
    def _asks(stream: _Stream, piece: Piece) -> bool:
        """Whether what came last is answered by a secret; if it was cut, whether it may be."""
        if piece.flags & abi.CUT:
            return bool(_ASKS.search(piece.data)) and not _LINE_END.search(piece.data)
        return bool(_PROMPT.search(stream.tail) or _CHALLENGE.search(stream.tail))

    @staticmethod
    def _is_address(event: Event, piece: Piece) -> bool:
        """Of sendto and recvfrom, whose fifth argument it is."""
        return piece.arg != 1 and len(piece.data) > 0 and piece.part == 0 and event.args[1] != 0 and piece.arg >= 4  # noqa: PLR2004

    def _chunk(self, stream: _Stream, piece: Piece, *, answer: bool) -> tuple[bytes, bool]:
        """What is shown of what came, and whether it had the end of a line, with which an answer ends."""
        data, tail = piece.data, stream.tail
        line = _LINE_END.search(data)
        found = [(a - len(tail), b - len(tail)) for a, b in self._spans(tail + data) if b > len(tail)]
        found = [(max(a, 0), b) for a, b in found]
        if stream.open and data:
            end = _VALUE_END.search(data)
            found.append((0, end.start() if end else len(data)))
        if answer and data:
            end_at = line.start() if line else len(data)
            found.append((0, end_at))
            self._remember(data[:end_at])
        found = [span for span in secrets.merged(found) if span[0] < span[1]]
        stream.open = bool(data) and any(end == len(data) for _start, end in found) and not line
        stream.tail = (tail + data)[-_TAIL:] if not piece.flags & abi.CUT else b""
        return secrets.without(data, found, same_length=True), line is not None

    def _terminal(self, event: Event) -> None:
        """Echo off in a terminal that still gives whole lines: what is typed now is a password (getpass(3))."""
        if event.args[1] not in _TCSETS:
            return
        for piece in event.pieces:
            if piece.arg == 2 and len(piece.data) >= 16:  # noqa: PLR2004
                flags = int.from_bytes(piece.data[12:16], "little")
                hidden = not flags & _ECHO and bool(flags & _ICANON)
                self._stream(event.tgid, event.args[0] & 0xFFFFFFFF, read=True).answer = hidden
