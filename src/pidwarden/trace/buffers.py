"""How what an argument points to is written: buffers, lists, addresses, sets. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pidwarden.trace import special
from pidwarden.trace.abi import CUT, FAULT, MANY
from pidwarden.trace.call import RESULT
from pidwarden.trace.signals import signal_set
from pidwarden.trace.sockets import ADDRESS_BYTES, address, data_text, iovec, message
from pidwarden.trace.structs import clone_args
from pidwarden.trace.text import BITS_32, bits, pointer, quote, signed32

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.call import Call, Formatter, Place


def ready(call: Call, place: Place) -> bool:
    """Whether the call has filled it in.

    Raises:
        Unknown: it goes on.
    """
    if place.told and not place.given:
        call.finished()
        return not call.failed
    return True


def how_many(call: Call, place: Place) -> int:
    """What the argument or result says that counts it."""
    if place.by is None:
        return 0
    return max(call.ret or 0, 0) if place.by == RESULT else call.args[place.by] & BITS_32


def _data(*, coded: bool = False) -> Callable[[Place], Formatter]:
    """A buffer, whose content is captured only if that was asked for."""

    def maker(place: Place) -> Formatter:
        def formatter(call: Call) -> str:
            index = place.arg
            where = call.args[index]
            if not ready(call, place):
                return pointer(where)
            length = how_many(call, place)
            return data_text(call, index, 0, length, where, place.limit, after=not place.given, coded=coded)

        return formatter

    return maker


def _filled(place: Place) -> Formatter:
    """Bytes that a call fills in and that are no secret: a link, a list of names."""

    def formatter(call: Call) -> str:
        where = call.args[place.arg]
        done, length = ready(call, place), how_many(call, place)
        piece = call.told(place.arg) if done else None
        if done and where and not length and call.args[place.arg + 1]:
            return '""'
        if piece is None or not where:
            return pointer(where)
        return quote(piece.data[:length], place.limit, more=length > max(len(piece.data), place.limit))

    return formatter


def _cwd(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        piece = call.told(place.arg) if ready(call, place) else None
        return quote(piece.data.split(b"\0")[0]) if piece is not None else pointer(call.args[place.arg])

    return formatter


def _xattr(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, length = call.args[place.arg], how_many(call, place)
        if not ready(call, place) or not where:
            return pointer(where)
        piece = call.told(place.arg) if place.told else call.given(place.arg)
        if piece is None:
            return '""...' if length else '""'
        data = piece.data[:length]
        if length <= place.limit:
            data = data.removesuffix(b"\0")
        return quote(data, place.limit, more=length > max(len(piece.data), place.limit))

    return formatter


def _entries(place: Place) -> Formatter:
    """How many entries of a directory there are, as the kernel side counted them."""

    def formatter(call: Call) -> str:
        where = pointer(call.args[place.arg])
        if not ready(call, place):
            return where
        piece = call.told(place.arg)
        if piece is None:
            return where if how_many(call, place) else f"{where} /* 0 entries */"
        more = "+" if piece.flags & CUT else ""
        return f"{where} /* {int.from_bytes(piece.data, 'little')}{more} entries */"

    return formatter


def _iov(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        done = ready(call, place)
        late = place.told
        if not call.args[place.arg]:
            return "NULL"
        count = how_many(call, place)
        if not count:
            return "[]"
        left = call.ret if late and done else None
        return iovec(call, place.arg, count, place.limit, left, addresses=not done)

    return formatter


def _msg(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        if not place.told:
            return message(call, place.arg, place.limit, received=False)
        call.finished()
        if call.failed:
            before = call.given(place.arg)
            if before is None:
                return pointer(call.args[place.arg])
            return f"{{msg_namelen={int.from_bytes(before.data[8:12], 'little')}}}"
        return message(call, place.arg, place.limit, received=True)

    return formatter


def _set(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, size = call.args[place.arg], call.args[place.by or 0]
        piece = None
        if ready(call, place):
            piece = call.given(place.arg) if place.given else call.told(place.arg)
        if not where or piece is None or len(piece.data) < size or not (1 if place.told else 8) <= size <= 8:  # noqa: PLR2004
            return pointer(where)
        return signal_set(int.from_bytes(piece.data[:size], "little"), size)

    return formatter


def _descriptors(place: Place) -> Formatter:
    """An fd_set."""

    def formatter(call: Call) -> str:
        where, piece = call.args[place.arg], call.given(place.arg)
        if piece is None or not where:
            return pointer(where)
        return f"[{' '.join(map(str, bits(piece.data, signed32(call.args[place.by or 0]))))}]"

    return formatter


def _cpus(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where = call.args[place.arg]
        piece = None
        if ready(call, place):
            piece = call.given(place.arg) if place.given else call.told(place.arg)
        if piece is None or not where:
            return pointer(where)
        data = piece.data[: how_many(call, place)]
        return f"[{' '.join(map(str, bits(data, len(data) * 8)))}]"

    return formatter


def _groups(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, count = call.args[place.arg], how_many(call, place)
        if not ready(call, place) or not where:
            return pointer(where)
        piece = call.told(place.arg) if place.told else call.given(place.arg)
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
        where, by = call.args[place.arg], place.by or 0
        if not place.told:
            size = signed32(call.args[by])
            piece = call.given(place.arg)
        else:
            call.finished()
            length, before = call.told(by), call.given(by)
            if call.failed or length is None or before is None:
                return pointer(where)
            size = min(int.from_bytes(part.data[:4], "little", signed=True) for part in (length, before))
            piece = call.told(place.arg)
        return (
            address(piece.data[: min(size, ADDRESS_BYTES)])
            if where and piece is not None and size > 1
            else pointer(where)
        )

    return formatter


def _socklen(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        call.finished()
        where, before, after = call.args[place.arg], call.given(place.arg), call.told(place.arg)
        if before is None or not where:
            return pointer(where)
        given = int.from_bytes(before.data[:4], "little", signed=True)
        now = int.from_bytes(after.data[:4], "little", signed=True) if after is not None and not call.failed else given
        return f"[{given} => {now}]" if now != given else f"[{given}]"

    return formatter


def _pair(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        piece = call.told(place.arg) if ready(call, place) else None
        if piece is None or len(piece.data) < 8:  # noqa: PLR2004
            return pointer(call.args[place.arg])
        return f"[{', '.join(map(str, struct.unpack_from('<ii', piece.data)))}]"

    return formatter


def _offset(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, before, after = call.args[place.arg], call.given(place.arg), call.told(place.arg)
        if before is None or not where:
            return pointer(where)
        call.finished()
        old = int.from_bytes(before.data[:8], "little", signed=True)
        new = int.from_bytes(after.data[:8], "little", signed=True) if after is not None else old
        return f"[{old}] => [{new}]" if call.ret and not call.failed else f"[{old}]"

    return formatter


def _clone_args(place: Place) -> Formatter:
    def formatter(call: Call) -> str:
        where, piece = call.args[place.arg], call.given(place.arg)
        size = min(call.args[1], len(piece.data) if piece is not None else 0)
        if piece is None or size < 64:  # noqa: PLR2004
            return pointer(where)
        text = clone_args(piece.data[:size])
        if int.from_bytes(piece.data[:8], "little") & 0x101000:
            call.finished()
            if not call.failed:
                text += special.clone3_filled(call, piece.data)
        return text

    return formatter


def _argv(place: Place) -> Formatter:
    index = place.arg

    def formatter(call: Call) -> str:
        pieces = [piece for piece in call.before or call.after if piece.arg == index]
        where = call.args[index]
        if not where or (pieces and pieces[0].flags & FAULT and len(pieces) == 1):
            return pointer(where)
        strings = [
            "..." if p.flags & FAULT or p.part > MANY else quote(p.data, place.limit, more=bool(p.flags & CUT))
            for p in pieces
        ]
        return f"[{', '.join(strings)}]"

    return formatter


def _envp(place: Place) -> Formatter:
    """Only how many there are: what is in the environment is nobody's business."""
    index = place.arg

    def formatter(call: Call) -> str:
        where, piece = call.args[index], call.given(index)
        if piece is None or not where or len(piece.data) < 4:  # noqa: PLR2004
            return pointer(where)
        number, more = int.from_bytes(piece.data[:4], "little"), "+" if piece.flags & CUT else ""
        return f"{pointer(where)} /* {number}{more} var{'' if number == 1 and not more else 's'} */"

    return formatter


MAKERS: Final[dict[str, Callable[[Place], Formatter]]] = {
    "argv": _argv, "envp": _envp, "data": _data(), "random": _data(coded=True), "link": _filled, "list": _filled,
    "cwd": _cwd, "xvalue": _xattr, "dents": _entries, "dents64": _entries, "iov": _iov, "msghdr": _msg,
    "sigset": _set, "fdset": _descriptors, "cpus": _cpus, "groups": _groups, "sockaddr": _sockaddr, "socklen": _socklen,
    "pair": _pair, "offset": _offset, "clone_args": _clone_args,
}  # fmt: skip
