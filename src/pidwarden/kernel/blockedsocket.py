"""For whom a thread waits at a socket: who has the other end, of Unix sockets and of TCP within this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel import namespaces, socketpeer
from pidwarden.kernel.sight import Told, as_root
from pidwarden.model.descriptors import inode
from pidwarden.model.waiter import Edge, End, Ref

if TYPE_CHECKING:
    from pidwarden.kernel.sight import Facts, Sight

_AF_UNIX = 1
_ADDRESS_BYTES = 110  # struct sockaddr_un


def called(sight: Sight, facts: Facts, link: str) -> Told:
    """What a thread waits for in accept(2) or connect(2)."""
    if not link:
        return Told("waits for a socket that is not shown", end=End.HIDDEN, do=as_root(facts.pid))
    if facts.name != "connect":
        row = socketpeer.connection(facts.alive, inode(link), sight.root)
        where = f" to {socketpeer.address(row.local, row.family)}" if row else ""
        return Told(f"waits for somebody to connect{where}: it is idle", end=End.IDLE)
    row = socketpeer.connection(facts.alive, inode(link), sight.root)
    if row:
        return _tcp(sight, facts, row)
    return _unix_connect(sight, facts)


def told(sight: Sight, facts: Facts, link: str, *, writes: bool) -> Told:
    """Who could make a socket ready, to be read or to be written to."""
    number = inode(link)
    row = socketpeer.connection(facts.alive, number, sight.root)
    if row:
        return _tcp(sight, facts, row, writes=writes)
    peer = socketpeer.unix_peer(number)
    if peer is None:
        found = socketpeer.remote(facts.alive, number, sight.root)
        if found.words:
            return Told(f"waits for a message; {found.words}", end=End.IDLE if found.anybody else End.OUTSIDE)
        return _not_ours(sight, facts)
    if peer:
        return _held(sight, facts, "waits for the other end" + (" to read" if writes else ""), peer)
    if listener := socketpeer.waits_at(number):
        return _held(sight, facts, "is connected, and waits to be accepted by", listener)
    return Told("waits at a Unix socket that is connected to nobody: whoever wants may send there", end=End.IDLE)


def _not_ours(sight: Sight, facts: Facts) -> Told:
    """Of a socket that the kernel does not tell us of: it answers for one network namespace at a time."""
    theirs, ours = (namespaces.number_of("net", pid, sight.root) for pid in (facts.alive, "self"))
    if theirs is None or theirs == ours:
        return Told("waits at a socket of a kind that is not followed", end=End.OUTSIDE)
    do = f"sudo nsenter --net --target {facts.pid} pidwarden trace --why {facts.pid}"
    return Told("waits for the other end of a socket of another network namespace", end=End.OUTSIDE, do=do)


def _unix_connect(sight: Sight, facts: Facts) -> Told:
    assert facts.call
    size = min(facts.call.args[2], _ADDRESS_BYTES)
    data = sight.memory(facts.alive, facts.call.args[1], size)
    name = b""
    if isinstance(data, bytes) and int.from_bytes(data[:2], "little") == _AF_UNIX:
        name = data[2:]
        name = b"@" + name[1:size].rstrip(b"\0") if name[:1] == b"\0" else name.split(b"\0")[0]
    listener = socketpeer.listens_at(facts.alive, name, sight.root) if name else None
    words = "waits for room in the queue of who listens there, and accepts none"
    if name:
        words += f" ({name.decode('utf-8', 'surrogateescape')})"
    return _held(sight, facts, words, listener) if listener else Told(words, end=End.UNTOLD)


def _tcp(sight: Sight, facts: Facts, row: socketpeer.Row, *, writes: bool = False) -> Told:
    if row.state == socketpeer.LISTEN:
        where = socketpeer.address(row.local, row.family)
        return Told(f"waits for somebody to connect to {where}: it is idle", end=End.IDLE)
    other = socketpeer.opposite(facts.alive, row, sight.root)
    if other and other.inode:
        return _held(
            sight, facts, f"waits for the other end, {row.words}" + (", to read" if writes else ""), other.inode
        )
    listener = socketpeer.listener(facts.alive, row, sight.root)
    if listener and (other or row.state == socketpeer.SYN_SENT):
        return _held(sight, facts, f"waits to be accepted at {row.words} by", listener.inode)
    if row.state == socketpeer.SYN_SENT:
        return Told(f"waits for {row.words} to answer: nobody does yet", end=End.OUTSIDE, do=_ss(row))
    words = f"waits for {row.words}, which is another machine, or in another network namespace"
    if other:
        words = f"waits for {row.words}: whoever had the other end has closed it, or the kernel has"
    return Told(words, end=End.OUTSIDE, do=_ss(row))


def _ss(row: socketpeer.Row) -> str:
    return f"ss -tnpo dst {row.words}"


def _held(sight: Sight, facts: Facts, words: str, number: int) -> Told:
    found: dict[int, list[int]] = {}
    for held in sight.holding(f"socket:[{number}]"):
        found.setdefault(held.pid, []).append(held.fd)
    edges = tuple(Edge(Ref(pid), f"fd {min(fds)}") for pid, fds in sorted(found.items()))
    if edges:
        return Told(words, edges, partial=not sight.holders.complete)
    seen = sight.holders
    if seen.unseen:
        words += f"; nobody that may be seen has it, and {seen.unseen} processes may not be looked at"
        return Told(words, end=End.HIDDEN, do=as_root(facts.pid))
    return Told(f"{words}; nobody that was looked at has it open", end=End.UNTOLD)
