"""Local ports that connect(2) and bind(2) choose, of our network namespace (ip(7), sock_diag(7)).

A TCP port can be used once for each source and destination, so that one destination runs out while all others are fine;
a port that listens is left out for all (__inet_hash_connect() in net/ipv4/inet_hashtables.c). A UDP socket has its port
for itself.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import netlink, procfs
from pidwarden.kernel.tables import timewait
from pidwarden.kernel.tables.base import PROC, most, numbers
from pidwarden.model.gauge import Gauge, Scope, Table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from pidwarden.model.gauge import User

SETTING = "net.ipv4.ip_local_port_range"
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = struct.Struct("=BBBxI48s")  # inet_diag_req_v2 (linux/inet_diag.h)
_TIME_WAIT, _LISTEN = 6, 10
_STATES = 0xFFF & ~(1 << 3 | 1 << 7)  # all but SYN_RECV, which is a server's, and CLOSE
_ALL = 0xFFFFFFFF
_INODE = slice(68, 72)
_KEY, _PORT, _STATE, _END = slice(6, 40), slice(4, 6), 1, 72  # of inet_diag_msg: port, source, destination of a peer …
_MAPPED = bytes(10) + b"\xff\xff"
_NAMED = 3


class Range(NamedTuple):
    """The ports that the kernel chooses from, both ends included, without those that are reserved."""

    first: int
    last: int
    reserved: int

    @property
    def size(self) -> int:
        """How many."""
        return self.last - self.first + 1


def port_range(root: str = PROC) -> Range | None:
    """The range of our network namespace; None if it cannot be read."""
    words = numbers(f"{root}/sys/net/ipv4/ip_local_port_range")
    if len(words) != 2:  # noqa: PLR2004
        return None
    first, last = words
    text = (procfs.read_bytes(f"{root}/sys/net/ipv4/ip_local_reserved_ports", 65536) or b"").decode("ascii", "replace")
    reserved = 0
    for part in text.replace("\n", "").split(","):
        low, _dash, high = part.partition("-")
        if low:
            reserved += max(0, min(int(high or low), last) - max(int(low), first) + 1)
    return Range(first, last, reserved)


def read(holders: Mapping[int, str] | None = None, *, least: float = 0.0, root: str = PROC) -> list[Gauge]:
    """The TCP destinations that take most ports, and UDP. `holders`: who has a socket, by its inode number.

    `least`: a share of the range. Where all TCP sockets together are fewer, they are not looked at one by one: `used`
    is their number, which no destination can exceed. One by one they take 4 µs each.
    """
    return [gauge for gauge in steps(holders, least=least, root=root) if gauge is not None]


def steps(holders: Mapping[int, str] | None = None, *, least: float = 0.0, root: str = PROC) -> Iterator[Gauge | None]:
    """The same, with pauses for one who has other things to do: None after each few hundred sockets."""
    ports = port_range(root)
    if ports is None:
        return
    empty = Gauge(Table.TCP_PORTS, Scope.NETNS, "", None, ports.size, ports.reserved, SETTING)
    together = timewait.sockets(root)
    most_of_it = together.get("inuse", 0) + together.get("tw", 0)
    try:
        if least and most_of_it < least * (ports.size - ports.reserved):
            yield empty._replace(of="all together", used=most_of_it)
        else:
            yield from _tcp(empty, holders or {}, ports)
        yield from _udp(empty._replace(table=Table.UDP_PORTS), holders or {}, ports)
    except OSError as why:
        unseen = f"the kernel does not list sockets ({why.strerror}): `sudo modprobe -a tcp_diag udp_diag`"
        yield empty._replace(unseen=unseen)


class _Sockets(NamedTuple):
    """Sockets with a port of the range, by peer, each as (state, inode number); and the ports of listeners."""

    peers: dict[bytes, list[tuple[int, bytes]]]
    listening: set[bytes]


class _Peer(NamedTuple):
    """The sockets of one source and destination."""

    family: int
    key: bytes
    sockets: list[tuple[int, bytes]]


def _messages(protocol: int, family: int, states: int) -> Iterator[bytes | None]:
    """The sockets of a protocol as inet_diag_msg, and None after each buffer of them."""
    request, last = _REQUEST.pack(family, protocol, 0, states, bytes(48)), b""
    for data, at, _end in netlink.dump(netlink.SOCK_DIAG, _BY_FAMILY, request):
        if data is not last:
            yield None
            last = data
        yield data[at : at + _END]


def _dump(protocol: int, ports: Range, states: int) -> Generator[None, None, dict[int, _Sockets]]:
    low, high = (port.to_bytes(2, "big") for port in (ports.first, ports.last))
    found: dict[int, _Sockets] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        peers: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        listening: set[bytes] = set()
        for message in _messages(protocol, family, states):
            if message is None:
                yield
            elif low <= (port := message[_PORT]) <= high:
                if message[_STATE] == _LISTEN:
                    listening.add(port)
                else:
                    peers[message[_KEY]].append((message[_STATE], message[_INODE]))
        found[family] = _Sockets(peers, listening)
    return found


def _tcp(empty: Gauge, holders: Mapping[int, str], ports: Range) -> Iterator[Gauge | None]:
    found = yield from _dump(socket.IPPROTO_TCP, ports, _STATES)
    peers = found[socket.AF_INET].peers
    own6 = {}
    for key, sockets in found[socket.AF_INET6].peers.items():
        if key[18:30] == _MAPPED:  # an IPv6 socket that talks IPv4 uses up the same ports
            peers[key[:2] + key[14:18] + bytes(12) + key[30:34] + bytes(12)] += sockets
        else:
            own6[key] = sockets
    listening = len(found[socket.AF_INET].listening | found[socket.AF_INET6].listening)
    every = [_Peer(socket.AF_INET, key, s) for key, s in peers.items()]
    every += [_Peer(socket.AF_INET6, key, s) for key, s in own6.items()]
    every.sort(key=lambda peer: -len(peer.sockets))
    empty = empty._replace(used=listening)
    yield from [_destination(empty, peer, holders) for peer in every[:_NAMED]] or [empty]


def _destination(empty: Gauge, peer: _Peer, holders: Mapping[int, str]) -> Gauge:
    key, sockets = peer.key, peer.sockets
    size = 4 if peer.family == socket.AF_INET else 16
    source, target = (socket.inet_ntop(peer.family, key[at : at + size]) for at in (2, 18))
    port = int.from_bytes(key[:2], "big")
    of = f"{source} to {target}:{port}" if size == 4 else f"{source} to [{target}]:{port}"  # noqa: PLR2004
    waiting = sum(state == _TIME_WAIT for state, _inode in sockets)
    detail = f"{waiting} of them in TIME_WAIT" * bool(waiting)
    return empty._replace(of=of, used=len(sockets) + (empty.used or 0), who=_who(sockets, holders), detail=detail)


def _who(sockets: list[tuple[int, bytes]], holders: Mapping[int, str]) -> tuple[User, ...]:
    inodes = (int.from_bytes(inode, sys.byteorder) for state, inode in sockets if state != _TIME_WAIT)
    return most(Counter(holders[inode] for inode in inodes if inode in holders))


def _udp(empty: Gauge, holders: Mapping[int, str], ports: Range) -> Iterator[Gauge | None]:
    used: dict[bytes, bytes] = {}
    low, high = (port.to_bytes(2, "big") for port in (ports.first, ports.last))
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _messages(socket.IPPROTO_UDP, family, _ALL):
            if message is None:
                yield None
            elif low <= message[_PORT] <= high:
                used[message[_PORT]] = message[_INODE]
    yield empty._replace(used=len(used), who=_who([(0, inode) for inode in used.values()], holders))
