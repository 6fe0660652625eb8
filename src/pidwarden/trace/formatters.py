"""How each kind of argument is written: makes the function that does it for one place of one call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pidwarden.trace import buffers, special
from pidwarden.trace.abi import CUT
from pidwarden.trace.buffers import how_many, ready
from pidwarden.trace.call import RESULT, Place
from pidwarden.trace.flags import BY_NAME, file_mode, protocol, socket_level, socket_option
from pidwarden.trace.signals import signal_name
from pidwarden.trace.structs import ARRAYS, KINDS
from pidwarden.trace.text import BITS_32, flags, hexa, mode, pointer, quote, signed32, signed64

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.call import Call, Formatter

_AT_FDCWD: Final = -100
_SIGN: Final = 1 << 31


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
    text = _make(kind, place)
    return _at_return(place.arg, text) if word.endswith("!") else text


def _at_return(index: int, text: Formatter) -> Formatter:
    """What is captured when the call returns."""

    def formatter(call: Call) -> str | None:
        if call.args[index]:
            call.finished()
        return text(call)

    return formatter


def _make(kind: str, place: Place) -> Formatter:
    if kind in MAKERS:
        return MAKERS[kind](place)
    if kind in KINDS:
        return _struct(place, *KINDS[kind])
    if kind in ARRAYS:
        return _array(place, *ARRAYS[kind])
    return _number(BY_NAME[kind])(place)


def _number(text: Callable[[int], str]) -> Callable[[Place], Formatter]:
    def maker(place: Place) -> Formatter:
        index = place.arg
        return lambda call: text(call.args[index])

    return maker


def _struct(place: Place, size: int, text: Callable[[bytes], str]) -> Formatter:
    index, late = place.arg, place.told and not place.given

    def formatter(call: Call) -> str:
        where = call.args[index]
        if late:
            call.finished()
            piece = None if call.failed else call.told(index)
        else:
            piece = call.given(index)
        return text(piece.data) if where and piece is not None and len(piece.data) >= size else pointer(where)

    return formatter


def _array(place: Place, size: int, text: Callable[[bytes], str]) -> Formatter:
    def formatter(call: Call) -> str:
        where = call.args[place.arg]
        if not ready(call, place) or not where:
            return pointer(where)
        count = how_many(call, place)
        if not count:
            return "[]"
        piece = call.given(place.arg)
        if piece is None:
            return pointer(where)
        found = [
            text(piece.data[at : at + size]) for at in range(0, min(len(piece.data), count * size) - size + 1, size)
        ]
        shown = found[: place.limit]
        return f"[{', '.join(shown)}{', ...' if count > len(shown) else ''}]"

    return formatter


def _dirfd(place: Place) -> Formatter:
    index = place.arg

    def formatter(call: Call) -> str:
        fd = ((call.args[index] & BITS_32) ^ _SIGN) - _SIGN
        return "AT_FDCWD" if fd == _AT_FDCWD else str(fd)

    return formatter


def _string(place: Place, limit: int | None) -> Formatter:
    index = place.arg

    def formatter(call: Call) -> str:
        where = call.args[index]
        piece = call.given(index)
        return quote(piece.data, limit, more=bool(piece.flags & CUT)) if where and piece is not None else pointer(where)

    return formatter


def _signed(place: Place) -> Formatter:
    index = place.arg
    return lambda call: str(((call.args[index] & BITS_32) ^ _SIGN) - _SIGN)


def _address(place: Place) -> Formatter:
    index = place.arg
    return lambda call: f"{call.args[index]:#x}" if call.args[index] else "NULL"


def _plain(place: Place) -> Formatter:
    index = place.arg
    return lambda call: str(call.args[index])


def _options(_place: Place) -> Formatter:
    return lambda call: socket_option(call.args[1], call.args[2])


def _wanted_protocol(_place: Place) -> Formatter:
    return lambda call: protocol(call.args[0], call.args[2])


def _device_number(place: Place) -> Formatter:
    """Of mknod(2), which strace leaves out for what is no device."""

    def formatter(call: Call) -> str | None:
        value, kind = call.args[place.arg], call.args[place.arg - 1] & 0o170000
        if kind not in (0o020000, 0o060000):
            return None
        return f"makedev({hexa(value >> 8 & 0xFFF)}, {hexa((value & 0xFF) | (value >> 12 & 0xFFF00))})"

    return formatter


_shm = flags({0o10000: "SHM_RDONLY", 0o20000: "SHM_RND", 0o40000: "SHM_REMAP", 0o100000: "SHM_EXEC"}, "SHM_???")

MAKERS: Final[dict[str, Callable[[Place], Formatter]]] = {
    "fd": _signed, "d": _signed, "dirfd": _dirfd,
    "u": _plain, "u32": _number(lambda value: str(value & BITS_32)), "ld": _number(lambda v: str(signed64(v))),
    "x": _number(hexa), "x32": _number(lambda value: hexa(value & BITS_32)), "addr": _address,
    "o": _number(lambda value: mode(value & 0xFFFF)),
    "id": _number(lambda value: "-1" if value & BITS_32 == BITS_32 else str(value & BITS_32)),
    "signal": _number(lambda value: signal_name(signed32(value))),
    "file_mode": _number(lambda value: file_mode(value & 0xFFFF)),
    "socket_level": _number(socket_level), "shm_flags": _number(_shm),
    "socket_option": _options, "protocol": _wanted_protocol,
    "path": lambda place: _string(place, None), "str": lambda place: _string(place, place.limit),
    "device": _device_number,
} | buffers.MAKERS | special.MAKERS  # fmt: skip
