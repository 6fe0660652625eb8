"""Entries of connection tracking out of ctnetlink's messages, in columns, some thousand at a time.

Hundreds of thousands of messages are of a dozen shapes: which attributes are in them, and where. The first of a shape
is taken apart attribute by attribute (include/uapi/linux/netfilter/nfnetlink_conntrack.h); all others of its length
whose every attribute header is the same, bit by bit, are read by the one ``struct`` that came out of that. One whose
headers differ is of another shape: nothing is ever read from where something else may be.
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel.netlink import HEADER
from pidwarden.kernel.nfnetlink import GET, PAYLOAD, Malformed, attributes
from pidwarden.model.conntrack import FIELDS, Columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pidwarden.kernel.nfnetlink import Link

BATCH = 4096  # entries of one shape in a batch, at most
_SHAPES = 256  # kinds of messages that are remembered; entries made to differ must not fill the memory
_ORIG, _REPLY, _STATUS, _PROTOINFO, _HELP, _TIMEOUT, _MARK, _ZONE = 1, 2, 3, 4, 5, 7, 8, 18
_TUPLE_IP, _TUPLE_PROTO, _TUPLE_ZONE = 1, 2, 3
_ADDRESSES = {1: "src", 2: "dst", 3: "src", 4: "dst"}  # CTA_IP_V4_SRC, …, CTA_IP_V6_DST
_PROTO_NUM = 1
_PORTS = {2: "sport", 3: "dport", 5: "icmp", 8: "icmp"}  # CTA_PROTO_SRC_PORT, …, the types of ICMP and ICMPv6
_STATE = 1  # CTA_PROTOINFO_{TCP,DCCP,SCTP}_STATE
_TYPE_BYTES = slice(0, 6)  # nlmsg_len and nlmsg_type
_FAMILY = HEADER.size
_HEADER_BYTES = 4
_ADDRESS_FORMATS = {4: "I", 16: "16s"}
_SIZES = {"status": 4, "timeout": 4, "mark": 4, "zone": 2, "sport": 2, "dport": 2, "icmp": 1, "state": 1}
_FORMATS = {1: "B", 2: "H", 4: "I"}  # network order


class _Shape(NamedTuple):
    """Bits that have to be as in the first message of it; where its values are; values that are the same in all."""

    mask: int
    expected: int
    values: Struct
    columns: tuple[str, ...]  # of `values`
    constants: dict[str, object]


class _Draft:
    """A shape in the making: which bytes are headers, and where the values are."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.fixed = bytearray(len(message))
        self.at: dict[str, tuple[int, str]] = {}
        self.constants: dict[str, object] = {}

    def header(self, first: int) -> None:
        """The attribute header before the value that begins there."""
        self.fixed[first - _HEADER_BYTES : first] = b"\xff" * _HEADER_BYTES

    def value(self, name: str, first: int, last: int) -> None:
        """A number in network order. One of another length than it should have is left out, as if it were not there."""
        if last - first == _SIZES.get(name, last - first) and last - first in _FORMATS:
            self.at[name] = (first, _FORMATS[last - first])

    def address(self, name: str, first: int, last: int) -> None:
        """An address: of IPv4 as a number, which is quicker to count than bytes."""
        if last - first in _ADDRESS_FORMATS:
            self.at[name] = (first, _ADDRESS_FORMATS[last - first])


def _tuple(draft: _Draft, first: int, last: int, prefix: str) -> None:
    for kind, begin, end in attributes(draft.message, first, last):
        draft.header(begin)
        if kind == _TUPLE_ZONE:
            draft.value("zone", begin, end)
        if kind not in (_TUPLE_IP, _TUPLE_PROTO):
            continue
        for inner, a, z in attributes(draft.message, begin, end):
            draft.header(a)
            if kind == _TUPLE_IP and inner in _ADDRESSES:
                draft.address(prefix + _ADDRESSES[inner], a, z)
            elif kind == _TUPLE_PROTO and inner == _PROTO_NUM and not prefix and z > a:
                draft.fixed[a:z] = b"\xff" * (z - a)
                draft.constants["proto"] = draft.message[a]
            elif kind == _TUPLE_PROTO and inner in _PORTS:
                draft.value(prefix + _PORTS[inner], a, z)


def _state(draft: _Draft, first: int, last: int) -> None:
    for _proto, begin, end in attributes(draft.message, first, last):
        draft.header(begin)
        for kind, a, z in attributes(draft.message, begin, end):
            draft.header(a)
            if kind == _STATE:
                draft.value("state", a, z)


def _shape(message: bytes, fields: Collection[str]) -> _Shape:
    """The shape of a message, of which only those fields are read.

    Raises:
        Malformed: an attribute is longer than what holds it, or it is no entry.
    """
    if len(message) < PAYLOAD:
        raise Malformed(f"an entry of {len(message)} bytes in an answer of the kernel's")
    draft = _Draft(message)
    draft.fixed[_TYPE_BYTES] = b"\xff" * 6
    draft.fixed[_FAMILY] = 0xFF
    draft.constants["family"] = message[_FAMILY]
    for kind, first, last in attributes(message, PAYLOAD, len(message)):
        draft.header(first)
        if kind in (_ORIG, _REPLY):
            _tuple(draft, first, last, "" if kind == _ORIG else "reply_")
        elif kind == _PROTOINFO:
            _state(draft, first, last)
        elif kind in _PLAIN:
            draft.value(_PLAIN[kind], first, last)
    wanted = {name: place for name, place in draft.at.items() if name in fields}
    columns = tuple(sorted(wanted, key=wanted.__getitem__))
    layout, at = ">", 0
    for name in columns:
        first, form = wanted[name]
        layout += f"{first - at}x{form}"
        at = first + Struct(">" + form).size
    values = Struct(f"{layout}{len(message) - at}x")
    mask = int.from_bytes(draft.fixed, "little")
    constants = {name: draft.constants.get(name, default) for name, default in FIELDS.items() if name not in draft.at}
    return _Shape(mask, int.from_bytes(message, "little") & mask, values, columns, constants)


_PLAIN = {_STATUS: "status", _TIMEOUT: "timeout", _MARK: "mark", _ZONE: "zone"}


class Parser:
    """Messages in, columns out: of those fields of `FIELDS` that are asked for.

    Attributes:
        malformed: messages that could not be taken apart, and were left out.
    """

    def __init__(self, fields: Collection[str] = tuple(FIELDS)) -> None:
        self.malformed = 0
        self._fields = frozenset(fields)
        self._shapes: dict[int, list[tuple[_Shape, list[bytes]]]] = {}  # by length of the message
        self._known = 0

    def feed(self, batch: list[bytes]) -> Iterator[Columns]:
        """Takes messages; gives columns when there is enough of a shape."""
        shapes, number = self._shapes, int.from_bytes
        for message in batch:
            for shape, waiting in shapes.get(len(message), ()):
                if number(message, "little") & shape.mask == shape.expected:
                    waiting.append(message)
                    break
            else:
                yield from self._first(message)
        for several in shapes.values():
            for shape, waiting in several:
                if len(waiting) >= BATCH:
                    yield _columns(shape, waiting)

    def rest(self) -> Iterator[Columns]:
        """What is left, at the end."""
        for several in self._shapes.values():
            for shape, waiting in several:
                if waiting:
                    yield _columns(shape, waiting)

    def _first(self, message: bytes) -> Iterator[Columns]:
        try:
            shape = _shape(message, self._fields)
        except Malformed:
            self.malformed += 1
            return
        if self._known >= _SHAPES:
            yield from self.rest()
            self._shapes.clear()
            self._known = 0
        self._known += 1
        self._shapes.setdefault(len(message), []).append((shape, [message]))


def _columns(shape: _Shape, waiting: list[bytes]) -> Columns:
    rows = shape.values.iter_unpack(b"".join(waiting))
    values = dict(zip(shape.columns, zip(*rows, strict=True), strict=True))
    found = Columns(len(waiting), values, shape.constants)
    waiting.clear()
    return found


def walk(link: Link, parser: Parser, family: int = socket.AF_UNSPEC) -> Iterator[Columns]:
    """The whole table of the link's network namespace.

    Raises:
        NoPermission: the caller lacks CAP_NET_ADMIN.
        NotPossible: the kernel has no ctnetlink.
        Malformed: what came is no answer.
    """
    for batch in link.dump(GET, family):
        yield from parser.feed(batch)
    yield from parser.rest()
