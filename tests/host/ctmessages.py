"""Messages of ctnetlink, made by hand; as a program it puts those of its standard input into its namespace's table."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

TCP, UDP, ICMP, GRE, ICMPV6, SCTP = 6, 17, 1, 47, 58, 132
NEW = 1 << 8
REQUEST, MULTI, INTERRUPTED, CREATE_ACK = 0x1, 0x2, 0x10, 0x1 | 0x4 | 0x400 | 0x200
ASSURED, REPLIED, SNAT = 4 | 2, 2, 16
CONFIRMED = 8


def attribute(kind, data, *, nested=False):
    size = 4 + len(data)
    return struct.pack("=HH", size, kind | (0x8000 if nested else 0)) + data + bytes(-size % 4)


def nest(kind, *parts):
    return attribute(kind, b"".join(parts), nested=True)


def number(kind, value, form=">I"):
    return attribute(kind, struct.pack(form, value))


def _tuple(  # noqa: PLR0913  (what an entry is made of)
    kind, proto, src, dst, ports, icmp, zone=None
):
    a, b = (ipaddress.ip_address(text) for text in (src, dst))
    first = 1 if a.version == 4 else 3
    parts = [number(1, proto, "B")]
    if proto in (ICMP, ICMPV6):
        at = 4 if proto == ICMP else 7
        parts += [number(at, ports[0], ">H"), number(at + 1, icmp, "B"), number(at + 2, 0, "B")]
    elif ports:
        parts += [number(2, ports[0], ">H"), number(3, ports[1], ">H")]
    more = [] if zone is None else [number(3, zone, ">H")]
    return nest(kind, nest(1, attribute(first, a.packed), attribute(first + 1, b.packed)), nest(2, *parts), *more)


def entry(  # noqa: PLR0913  (what an entry is made of)
    proto=TCP, src="10.0.0.1", dst="10.0.0.2", sport=1025, dport=80, *,
    state=None, status=CONFIRMED, timeout=600, mark=None, zone=None, reply_src=None, reply_dst=None,
    kind=NEW, flags=MULTI, sequence=1, extra=b"",
):  # fmt: skip
    """One entry as ctnetlink takes and gives it."""
    ports = () if proto == GRE else (sport, dport)
    back = ports if proto in (ICMP, ICMPV6) else ports[::-1]
    echo, answer = (8, 0) if proto == ICMP else (128, 129)
    parts = [
        _tuple(1, proto, src, dst, ports, echo),
        _tuple(2, proto, reply_src or dst, reply_dst or src, back, answer),
        number(3, status),
        number(7, timeout),
    ]
    if state is not None:
        which = 1 if proto == TCP else 3
        more = [number(2, 7), number(3, 9)] if proto == SCTP else []
        parts.append(nest(4, nest(which, number(1, state, "B"), *more)))
    if mark is not None:
        parts.append(number(8, mark))
    if zone is not None:
        parts.append(number(18, zone, ">H"))
    family = 2 if ipaddress.ip_address(src).version == 4 else 10
    return message(struct.pack(">BBH", family, 0, 0) + b"".join(parts) + extra, kind, flags, sequence)


def message(body, kind=NEW, flags=MULTI, sequence=1, port=0):
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, port) + body


def done(sequence=1, code=0, kind=3):
    return message(struct.pack("=i", code), kind, MULTI, sequence)


def main():
    """Messages as lines of hexadecimal digits; prints the kernel's answer to each, an errno or 0."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    lines = [bytes.fromhex(line) for line in sys.stdin]
    rounds = int(sys.argv[1])
    while rounds:
        for line in lines:
            link.send(line)
            answer = link.recv(65536)
            if rounds == 1:
                sys.stdout.write(f"{-struct.unpack_from('=i', answer, 16)[0]}\n")
        rounds -= 1


if __name__ == "__main__":
    main()
