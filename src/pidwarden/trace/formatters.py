"""How each kind of argument is written: makes the function that does it for one place of one call. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pidwarden.trace import special
from pidwarden.trace.call import RESULT, Place
from pidwarden.trace.event import CUT
from pidwarden.trace.flags import BY_NAME, file_mode, protocol, socket_level, socket_option
from pidwarden.trace.signals import signal_name, signal_set
from pidwarden.trace.sockets import ADDRESS_BYTES, address, data_text, iovec, message
from pidwarden.trace.structs import ARRAYS, KINDS, clone_args
from pidwarden.trace.text import BITS_32, bits, hexa, mode, pointer, quote, signed32, signed64

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.call import Call, Formatter

_AT_FDCWD: Final = -100


def parse(word: str, position: int, limit: int) -> tuple[str, Place]:
    """Of a word of shapes.py: its kind and its place."""
    both, told = word.startswith("<>"), word.startswith(">")
    word = word.lstrip("<>").rstrip("!")
    word, _, at = word.partition("@")
    kind, _, by = word.partition("[")
    index = int(at) if at else position
    how = None if not by else RESULT if by[0] == "r" else int(by[0])
    return kind, Place(index, how, not told, told or both, limit)


def make(word: str, position: int, limit: int) -> Formatter:
    """The formatter of a word of shapes.py in that place; strings are cut at `limit` bytes."""
    kind, place = parse(word, position, limit)
    if kind in MAKERS:
        return MAKERS[kind](place)
    if kind in KINDS:
        return _struct(place, *KINDS[kind])
    if kind in ARRAYS:
        return _array(place, *ARRAYS[kind])
    return _number(BY_NAME[kind])(place)


def _number(text: Callable[[int], str]) -> Callable[[Place], Formatter]:
    def maker(place: Place) -> Formatter:
        index = place.index
        return lambda call: text(call.args[index])

    return maker


def _ready(call: Call, place: Place) -> bool:
    """Whether the call has filled it in.

    Raises:
        Unknown: it goes on.
    """
    if place.told and not place.given:
        call.finished()
        return not call.failed
    return True


def _struct(place: Place, size: int, text: Callable[[bytes], str]) -> Formatter:
    index, late = place.index, place.told and not place.given

    def formatter(call: Call) -> str:
        where = call.args[index]
        if late:
            call.finished()
            piece = None if call.failed else call.told(index)
        else:
            piece = call.given(index)
        return text(piece.data) if where and piece is not None and len(piece.data) >= size else pointer(where)

    return formatter


def _count(call: Call, place: Place) -> int:
    if place.by is None:
        return 0
    return max(call.ret or 0, 0) if place.by == RESULT else call.args[place.by] & BITS_32


def _array(place: Place, size: int, text: Callable[[bytes], str]) -> Formatter:
    def formatter(call: Call) -> str:
        where = call.args[place.index]
        if not _ready(call, place) or not where:
            return pointer(where)
        count = _count(call, place)
        if not count:
            return "[]"
        piece = call.given(place.index)
        if piece is None:
            return pointer(where)
        found = [text(piece.data[at : at + size]) for at in range(0, min(len(piece.data), count * size) - size + 1, size)]
        shown = found[: place.limit]
        return f"[{', '.join(shown)}{', ...' if count > len(shown) else ''}]"

    return formatter


def _dirfd(place: Place) -> Formatter:
    index = place.index

    def formatter(call: Call) -> str:
        fd = signed32(call.args[index])
        return "AT_FDCWD" if fd == _AT_FDCWD else str(fd)

    return formatter


def _string(place: Place, limit: int | None) -> Formatter:
    index = place.index

    def formatter(call: Call) -> str:
        where = call.args[index]
        piece = call.given(index)
        return quote(piece.data, limit, more=bool(piece.flags & CUT)) if where and piece is not None else pointer(where)

    return formatter


def _argv(place: Place) -> Formatter:
    index = place.index

    def formatter(call: Call) -> str:
        pieces = [piece for piece in call.before or call.after if piece.arg == index]
        if not call.args[index] or not pieces:
            return pointer(call.args[index])
        strings = [quote(p.data, place.limit, more=bool(p.flags & CUT)) for p in pieces if p.part]
        more = any(p.flags & CUT for p in pieces if not p.part)
        return f"[{', '.join([*strings, '...'] if more else strings)}]"

    return formatter


def _envp(place: Place) -> Formatter:
    """Only how many there are: what is in the environment is nobody's business."""
    index = place.index

    def formatter(call: Call) -> str:
        where, piece = call.args[index], call.given(index)
        if piece is None or not where:
            return pointer(where)
        words = struct.unpack(f"<{len(piece.data) // 8}Q", piece.data[: len(piece.data) & ~7])
        count = words.index(0) if 0 in words else len(words)
        more = "" if 0 in words else "+"
        return f"{pointer(where)} /* {count}{more} var{'s' if count != 1 or more else ''} */"

    return formatter


def _data(place: Place) -> Formatter:
    """A buffer, whose content is captured only if that was asked for."""

    def formatter(call: Call) -> str:
        where = call.args[place.index]
        if not _ready(call, place):
            return pointer(where)
        return data_text(call, place.index, 0, _count(call, place), where, place.limit, after=not place.given)

    return formatter


def _filled(place: Place) -> Formatter:
    """Bytes that a call fills in and that are no secret: a link, a list of names."""

    def formatter(call: Call) -> str:
        where = call.args[place.index]
        piece = call.told(place.index) if _ready(call, place) else None
        if piece is None or not where:
            return pointer(where)
        length = _count(call, place)
        return quote(piece.data[:length], place.limit, more=length > max(len(piece.data), place.limit))

    return formatter


def _cwd(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        piece = call.told(place.index) if _ready(call, place) else None
        return quote(piece.data.split(b"\0")[0]) if piece is not None else pointer(call.args[place.index])

    return formatter


def _xattr(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, length = call.args[place.index], _count(call, place)
        if not _ready(call, place) or not where:
            return pointer(where)
        piece = call.told(place.index) if place.told else call.given(place.index)
        if piece is None:
            return '""...' if length else '""'
        data = piece.data[:length]
        if length <= place.limit:
            data = data.removesuffix(b"\0")
        return quote(data, place.limit, more=length > max(len(piece.data), place.limit))

    return formatter


def _entries(record: int) -> Callable[[Place], Formatter]:
    """How many entries of a directory there are; `record`: where the length of one lies."""

    def maker(place: Place) -> Formatter:
        def formatter(call: Call) -> str:
            where = call.args[place.index]
            piece = call.told(place.index) if _ready(call, place) else None
            length = _count(call, place)
            if piece is None and length:
                return pointer(where)
            data = piece.data[:length] if piece is not None else b""
            count = at = 0
            while at + record + 2 <= len(data):
                size = int.from_bytes(data[at + record : at + record + 2], "little")
                if not size:
                    break
                at += size
                count += 1
            return f"{pointer(where)} /* {count}{'+' if at < length else ''} entries */"

        return formatter

    return maker


def _iov(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        done = _ready(call, place)
        late = place.told
        if not call.args[place.index]:
            return "NULL"
        count = _count(call, place)
        if not count:
            return "[]"
        left = call.ret if late and done else None
        return iovec(call, place.index, count, place.limit, left, addresses=not done)

    return formatter


def _msg(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        if not place.told:
            return message(call, place.index, place.limit, received=False)
        call.finished()
        if call.failed:
            before = call.given(place.index)
            if before is None:
                return pointer(call.args[place.index])
            return f"{{msg_namelen={int.from_bytes(before.data[8:12], 'little')}}}"
        return message(call, place.index, place.limit, received=True)

    return formatter


def _set(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, size = call.args[place.index], call.args[place.by or 0]
        piece = None
        if _ready(call, place):
            piece = call.given(place.index) if place.given else call.told(place.index)
        if not where or piece is None or len(piece.data) < size or not 0 < size <= 8:  # noqa: PLR2004
            return pointer(where)
        return signal_set(int.from_bytes(piece.data[:size], "little"), size)

    return formatter


def _descriptors(place: Place) -> Formatter:
    """An fd_set."""

    def formatter(call: Call) -> str:
        where, piece = call.args[place.index], call.given(place.index)
        if piece is None or not where:
            return pointer(where)
        return f"[{' '.join(map(str, bits(piece.data, signed32(call.args[place.by or 0]))))}]"

    return formatter


def _cpus(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where = call.args[place.index]
        piece = None
        if _ready(call, place):
            piece = call.given(place.index) if place.given else call.told(place.index)
        if piece is None or not where:
            return pointer(where)
        data = piece.data[: _count(call, place)]
        return f"[{' '.join(map(str, bits(data, len(data) * 8)))}]"

    return formatter


def _groups(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, count = call.args[place.index], _count(call, place)
        if not _ready(call, place) or not where:
            return pointer(where)
        piece = call.told(place.index) if place.told else call.given(place.index)
        if not count or not call.args[0]:
            return "[]"
        if piece is None:
            return pointer(where)
        ids = struct.unpack(f"<{len(piece.data) // 4}I", piece.data[: len(piece.data) & ~3])[: min(count, place.limit)]
        return f"[{', '.join(map(str, ids))}{', ...' if count > len(ids) else ''}]"

    return formatter


def _sockaddr(place: Place) -> Formatter:
    """A struct sockaddr; what is filled in has its length where argument `by` points to."""

    def formatter(call: Call) -> str:
        where, by = call.args[place.index], place.by or 0
        if not place.told:
            size = signed32(call.args[by])
            piece = call.given(place.index)
        else:
            call.finished()
            length, before = call.told(by), call.given(by)
            if call.failed or length is None or before is None:
                return pointer(where)
            size = min(int.from_bytes(part.data[:4], "little", signed=True) for part in (length, before))
            piece = call.told(place.index)
        return address(piece.data[: min(size, ADDRESS_BYTES)]) if where and piece is not None and size > 1 else pointer(where)

    return formatter


def _socklen(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        call.finished()
        where, before, after = call.args[place.index], call.given(place.index), call.told(place.index)
        if before is None or not where:
            return pointer(where)
        given = int.from_bytes(before.data[:4], "little", signed=True)
        now = int.from_bytes(after.data[:4], "little", signed=True) if after is not None and not call.failed else given
        return f"[{given} => {now}]" if now != given else f"[{given}]"

    return formatter


def _pair(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        piece = call.told(place.index) if _ready(call, place) else None
        if piece is None or len(piece.data) < 8:  # noqa: PLR2004
            return pointer(call.args[place.index])
        return f"[{', '.join(map(str, struct.unpack_from('<ii', piece.data)))}]"

    return formatter


def _offset(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, before, after = call.args[place.index], call.given(place.index), call.told(place.index)
        if before is None or not where:
            return pointer(where)
        call.finished()
        old = int.from_bytes(before.data[:8], "little", signed=True)
        new = int.from_bytes(after.data[:8], "little", signed=True) if after is not None else old
        return f"[{old}] => [{new}]" if call.ret and not call.failed else f"[{old}]"

    return formatter


def _clone_args(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, piece = call.args[place.index], call.given(place.index)
        size = min(call.args[1], len(piece.data) if piece is not None else 0)
        if piece is None or size < 64:  # noqa: PLR2004
            return pointer(where)
        text = clone_args(piece.data[:size])
        if int.from_bytes(piece.data[:8], "little") & 0x101000:  # noqa: PLR2004  (what it fills in)
            call.finished()
            if not call.failed:
                text += special.clone3_filled(call, piece.data)
        return text

    return formatter


def _signed(place: Place) -> Formatter:
    index = place.index
    return lambda call: str(signed32(call.args[index]))


def _options(place: Place) -> Formatter:
    return lambda call: socket_option(call.args[1], call.args[2])


def _wanted_protocol(place: Place) -> Formatter:
    return lambda call: protocol(call.args[0], call.args[2])


def _device_number(place: Place) -> Formatter:
    """Of mknod(2), which strace leaves out for what is no device."""

    def formatter(call: Call) -> str | None:
        value, kind = call.args[place.index], call.args[place.index - 1] & 0o170000
        if kind not in (0o020000, 0o060000):
            return None
        return f"makedev({hexa(value >> 8 & 0xFFF)}, {hexa((value & 0xFF) | (value >> 12 & 0xFFF00))})"

    return formatter


MAKERS: Final[dict[str, Callable[[Place], Formatter]]] = {
    "fd": _signed, "d": _signed, "dirfd": _dirfd,
    "u": _number(str), "u32": _number(lambda value: str(value & BITS_32)), "ld": _number(lambda v: str(signed64(v))),
    "x": _number(hexa), "x32": _number(lambda value: hexa(value & BITS_32)), "addr": _number(pointer),
    "o": _number(lambda value: mode(value & 0xFFFF)),
    "id": _number(lambda value: "-1" if value & BITS_32 == BITS_32 else str(value & BITS_32)),
    "signal": _number(lambda value: signal_name(signed32(value))), "file_mode": _number(lambda v: file_mode(v & 0xFFFF)),
    "socket_level": _number(socket_level), "socket_option": _options, "protocol": _wanted_protocol,
    "path": lambda place: _string(place, None), "str": lambda place: _string(place, place.limit),
    "argv": _argv, "envp": _envp, "data": _data, "random": _data, "link": _filled, "list": _filled, "cwd": _cwd,
    "xattr": _xattr, "dents": _entries(16), "dents64": _entries(16), "iov": _iov, "msghdr": _msg, "sigset": _set,
    "fdset": _descriptors, "cpus": _cpus, "groups": _groups, "sockaddr": _sockaddr, "socklen": _socklen, "pair": _pair,
    "offset": _offset, "clone_args": _clone_args, "device": _device_number,
}  # fmt: skip
MAKERS |= special.MAKERS
