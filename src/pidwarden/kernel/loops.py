"""What a loop of events waits for: the descriptors of poll(2), select(2), epoll(7), and who could make them ready.

Who serves waits for whoever comes, and is idle. Who waits for certain others only, as for the output of a child, is
held up by these.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import blockedfd
from pidwarden.kernel.procfs import read_bytes
from pidwarden.kernel.sight import Told
from pidwarden.model import syscalls
from pidwarden.model.syscalls import signed
from pidwarden.model.waiter import Edge, End

if TYPE_CHECKING:
    from pidwarden.kernel.sight import Facts, Sight

_POLLS = ("poll", "ppoll")
_SELECTS = ("select", "pselect6")
_EPOLLS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
_RINGS = ("io_uring_enter", "io_getevents", "io_pgetevents")
CALLS = frozenset((*_POLLS, *_SELECTS, *_EPOLLS, *_RINGS))
_POLLIN, _POLLOUT = 1, 4
_MOST = 256  # descriptors that are read
_FOLLOWED = 8  # more of them than these belong to a program that serves
_SHOWN = 4
_FDINFO_BYTES = 1 << 16


class Wanted(NamedTuple):
    """A descriptor, and whether it is to be written to."""

    fd: int
    writes: bool


def told(sight: Sight, facts: Facts) -> Told:
    """What a thread waits for that sleeps in one of these."""
    assert facts.call
    args = facts.call.args
    if facts.name in _RINGS:
        return Told("waits for what it asked the kernel to do for it", end=End.IDLE, call=f"{facts.name}()")
    found, timeout = _asked(sight, facts)
    timed = timeout is None or timeout >= 0
    limit = f", {timeout} ms" if timeout is not None and timeout >= 0 else ", with a time limit" if timed else ""
    if isinstance(found, str):
        call = f"{facts.name}({limit.removeprefix(', ')})"
        return Told(f"waits for descriptors; for which is not known: {found}", end=End.IDLE, call=call, timed=timed)
    links = {w.fd: sight.link(facts.alive, w.fd) for w in found}
    shown = [f"{fd} = {link}" if link else str(fd) for fd, link in list(links.items())[:_SHOWN]]
    more = f", … {len(links) - _SHOWN} more" if len(links) > _SHOWN else ""
    epoll = f"{signed(args[0])}: " if facts.name in _EPOLLS else ""
    call = f"{facts.name}({epoll}[{', '.join(shown)}{more}]{limit})"
    if not found:
        words = "sleeps: it waits for no descriptor"
        return Told(words, end=End.SLEEPS if timed else End.SIGNAL, call=call, timed=timed)
    told = _ready(sight, facts, found, links)
    return told._replace(call=call, timed=timed)


def _ready(sight: Sight, facts: Facts, found: list[Wanted], links: dict[int, str]) -> Told:
    """Who could make one of them ready; nobody in particular, if whoever comes could."""
    idle = Told(f"waits for any of {len(links)} descriptors: it is idle", end=End.IDLE)
    if len(links) == 1:
        idle = Told("waits for this descriptor: it is idle", end=End.IDLE)
    if len(links) > _FOLLOWED:
        return idle
    edges: dict[object, Edge] = {}
    words, partial = "", False
    for wanted in found:
        one = blockedfd.at(sight, facts, wanted.fd, links[wanted.fd], writes=wanted.writes)
        if one.end is End.TYPING:
            return one
        if one.end in (End.IDLE, End.SIGNAL, End.OUTSIDE, End.SLEEPS):
            return one if len(links) == 1 else idle
        partial = partial or one.partial
        words = one.waits if len(links) == 1 else ""
        for edge in one.edges:
            if edge.to.pid != facts.pid:  # what a loop has at both ends wakes it from within
                how = edge.how if len(links) == 1 else f"{edge.how} for {wanted.fd}"
                edges.setdefault(edge.to, edge._replace(how=how))
    if not edges:
        return idle
    return Told(words or "waits for one of these to be ready, by", tuple(edges.values()), partial=partial)


# -- what was asked for ------------------------------------------------------------------------------------------------


def _asked(sight: Sight, facts: Facts) -> tuple[list[Wanted] | str, int | None]:
    """The descriptors, in words why they are not known; the limit in ms, -1 for none, None if it is not known."""
    assert facts.call
    args, wide = facts.call.args, not syscalls.is_32_bit(facts.call)
    if facts.name in _EPOLLS:
        timeout = signed(args[3]) if facts.name != "epoll_pwait2" else None if args[3] else -1
        return _epoll(sight, facts, signed(args[0])), timeout
    if facts.name in _POLLS:
        timeout = signed(args[2]) if facts.name == "poll" else None if args[2] else -1
        return _poll(sight, facts, args[0], args[1]), timeout
    timeout = None if args[4] else -1
    if not wide:
        return "it is a 32-bit program", timeout
    return _select(sight, facts), timeout


def _epoll(sight: Sight, facts: Facts, fd: int) -> list[Wanted] | str:
    """Out of ``tfd:`` lines of fdinfo (proc_pid_fdinfo(5))."""
    found = []
    for line in (read_bytes(f"{sight.root}/{facts.alive}/fdinfo/{fd}", _FDINFO_BYTES) or b"").split(b"\n"):
        words = line.split()
        if len(words) > 3 and words[0] == b"tfd:":  # noqa: PLR2004  (tfd: N events: MASK)
            events = int(words[3], 16)
            found.append(Wanted(int(words[1]), bool(events & _POLLOUT) and not events & _POLLIN))
    return found


def _poll(sight: Sight, facts: Facts, address: int, count: int) -> list[Wanted] | str:
    if not count:
        return []
    data = sight.memory(facts.alive, address, 8 * min(count, _MOST))
    if isinstance(data, str):
        return data
    rows = struct.iter_unpack("=ihh", data[: len(data) // 8 * 8])
    return [Wanted(fd, bool(events & _POLLOUT) and not events & _POLLIN) for fd, events, _back in rows if fd >= 0]


def _select(sight: Sight, facts: Facts) -> list[Wanted] | str:
    assert facts.call
    count, sets = min(signed(facts.call.args[0]), 8 * _MOST), facts.call.args[1:3]
    found: dict[int, Wanted] = {}
    for address, writes in zip(sets, (False, True), strict=True):
        if not address or count <= 0:
            continue
        data = sight.memory(facts.alive, address, (count + 7) // 8)
        if isinstance(data, str):
            return data
        for fd in range(count):
            if fd // 8 < len(data) and data[fd // 8] >> (fd % 8) & 1:
                found.setdefault(fd, Wanted(fd, writes))
    return list(found.values())
