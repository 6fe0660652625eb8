"""For whom a thread waits at one descriptor: pipes, fifos, sockets, event descriptors, terminals, locks of files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pidwarden.kernel import evidence, filelock, holders
from pidwarden.kernel.holders import READS, WRITES
from pidwarden.kernel.procfs import read_bytes
from pidwarden.kernel.sight import Told, as_root
from pidwarden.model.descriptors import EVENTFD, EVENTS, PIPE, SIGNALFD, SOCKET, TERMINALS, TIMERFD, is_pidfd
from pidwarden.model.syscalls import signed
from pidwarden.model.waiter import Edge, End, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pidwarden.kernel.holders import Held
    from pidwarden.kernel.sight import Facts, Sight

_OUT = frozenset(("write", "pwrite64", "writev", "sendto", "sendmsg", "sendfile", "mq_timedsend"))
_IN = frozenset(("read", "pread64", "readv", "recvfrom", "recvmsg", "recvmmsg", "splice", "mq_timedreceive", "ioctl"))
_QUEUES = ("mq_timedsend", "mq_timedreceive")
_DISK = ("fsync", "fdatasync", "syncfs")
_SOCKETS = frozenset(("accept", "accept4", "connect"))
CALLS = _OUT | _IN | _SOCKETS | filelock.CALLS | frozenset(_DISK)
_TIME = re.compile(rb"it_value: \((\d+), (\d+)\)")


def told(sight: Sight, facts: Facts) -> Told:
    """What a thread waits for in a call whose first argument is a descriptor."""
    assert facts.call
    fd = signed(facts.call.args[0])
    link = sight.link(facts.alive, fd)
    name = f"{fd} = {link}" if link else str(fd)
    if facts.name in filelock.CALLS:
        found = filelock.told(sight, facts, fd, link)
    elif facts.name in _SOCKETS:
        from pidwarden.kernel import blockedsocket  # noqa: PLC0415  (few sleep there)

        found = blockedsocket.called(sight, facts, link)
    else:
        found = at(sight, facts, fd, link, writes=facts.name in _OUT)
    return found._replace(call=found.call or f"{facts.name}({name})", fd=fd, target=link)


def at(sight: Sight, facts: Facts, fd: int, link: str, *, writes: bool) -> Told:  # noqa: PLR0911  (one for each kind)
    """Who could make a descriptor ready, to be read or to be written to."""
    if not link:
        return Told("waits for a descriptor that is not shown", end=End.HIDDEN, do=as_root(facts.pid))
    if link.startswith(SOCKET):
        from pidwarden.kernel import blockedsocket  # noqa: PLC0415  (few sleep there)

        return blockedsocket.told(sight, facts, link, writes=writes)
    if link.startswith(TERMINALS):
        return _terminal(link, writes=writes)
    if link in _ANONYMOUS or is_pidfd(link):
        return (_pidfd if is_pidfd(link) else _ANONYMOUS[link])(sight, facts, fd)
    if link.startswith(EVENTS):
        return Told("waits for something to happen there: it is idle", end=End.IDLE)
    polled = facts.name not in CALLS and _is_fifo(link)
    if link.startswith(PIPE) or facts.name in _QUEUES or "pipe_" in facts.wchan or polled:
        return _pipe(sight, facts, fd, link, writes=writes)
    where = f" (in {facts.wchan})" if facts.wchan else ""
    words = f"waits for this file{where}, and who could give it what it waits for is not known"
    return Told(words, end=End.UNTOLD, do=f"sudo pidwarden stuck pid:{facts.pid}")


def _terminal(link: str, *, writes: bool) -> Told:
    if writes:
        words = f"waits until the terminal {link} takes it: somebody has stopped its output, or nobody reads it"
        return Told(words, end=End.TYPING, do="type Ctrl-Q there")
    return Told(f"waits for somebody to type at {link}", end=End.TYPING, do="type there, or end its input: Ctrl-D")


def only_pipe(sight: Sight, facts: Facts) -> Told | None:
    """The pipe that a thread sleeps at, of which nothing but that is known, if it has just one of that kind open."""
    writes = "write" in facts.wchan
    wanted = WRITES if writes else READS
    links = {
        fd: link for fd, link in _open_pipes(sight, facts.alive) if holders.way(facts.alive, fd, sight.root) & wanted
    }
    if len(set(links.values())) != 1:
        return None
    fd, link = next(iter(links.items()))
    found = _pipe(sight, facts, fd, link, writes=writes)
    edges = tuple(edge._replace(sure=False) for edge in found.edges)
    call = f"{'write' if writes else 'read'}({fd} = {link})?"
    return found._replace(call=call, edges=edges, fd=fd, target=link, waits=f"{found.waits}, most likely: its only one")


def _open_pipes(sight: Sight, pid: int) -> list[tuple[int, str]]:
    nothing: dict[int, str] = {}
    found = sight.some(lambda: evidence.descriptors(pid, sight.root), nothing)
    return [(fd, link) for fd, link in sorted(found.items()) if link.startswith(PIPE)]


def pid_of(sight: Sight, pid: int, fd: int) -> int:
    """The process that a pidfd stands for; 0 if it is gone, or not in our namespace."""
    text = evidence.fdinfo(pid, fd, b"Pid", sight.root)
    return max(0, int(text)) if text.lstrip(b"-").isdigit() else 0


# -- pipes -------------------------------------------------------------------------------------------------------------


def _is_fifo(link: str) -> bool:
    """Whether a path that a loop of events waits for is a fifo: there is nothing to wait for at a regular file."""
    return link.startswith("/") and not link.startswith(("/dev/", "/proc/", "/sys/"))


def _pipe(sight: Sight, facts: Facts, fd: int, link: str, *, writes: bool) -> Told:
    wanted = READS if writes else WRITES
    inode = evidence.fdinfo(facts.alive, fd, b"ino", sight.root)  # Linux 5.14
    held = [
        h
        for h in sight.holding(link)
        if holders.way(h.pid, h.fd, sight.root) & wanted
        and (not inode or evidence.fdinfo(h.pid, h.fd, b"ino", sight.root) in (inode, b""))
    ]
    queue = facts.name in _QUEUES
    what = "queue" if queue else "pipe" if link.startswith(PIPE) else "fifo"
    if writes:
        words = f"the {what} is full: it waits for who can {'receive' if queue else 'read'} from it"
    else:
        words = f"waits for who can {'send to' if queue else 'write into'} it"
    return _held(sight, facts, words, held)


def _held(sight: Sight, facts: Facts, words: str, held: Iterable[Held]) -> Told:
    """Told of these holders: others first, the process itself only if it has other threads, or is the only one."""
    by_pid: dict[int, list[int]] = {}
    for one in held:
        by_pid.setdefault(one.pid, []).append(one.fd)
    own = by_pid.pop(facts.pid, [])
    edges = [Edge(Ref(pid), _numbers(fds)) for pid, fds in sorted(by_pid.items())]
    if own and (not edges or len(sight.living(facts.pid)) > 1):
        edges.append(Edge(Ref(facts.pid), f"itself, {_numbers(own)}", sure=not edges, weak=bool(edges)))
    if edges:
        return Told(words, tuple(edges), partial=not sight.holders.complete)
    return nobody(sight, facts, words)


def nobody(sight: Sight, facts: Facts, words: str) -> Told:
    """Where no holder was found: whether there is none, or not all could be seen."""
    seen = sight.holders
    if seen.unseen:
        words += f"; nobody that may be seen has it, and {seen.unseen} processes may not be looked at"
        return Told(words, end=End.HIDDEN, do=as_root(facts.pid))
    if seen.left or seen.silent:
        return Told(f"{words}; nobody has it of those who could be looked at in time", end=End.UNTOLD)
    words += "; nobody has it open: it is in a message on its way to somebody (SCM_RIGHTS), or was closed just now"
    return Told(words, end=End.UNTOLD)


def _numbers(fds: Iterable[int]) -> str:
    shown = sorted(fds)
    return f"fd {', '.join(map(str, shown[:4]))}" + (", …" if len(shown) > 4 else "")  # noqa: PLR2004


# -- event descriptors -------------------------------------------------------------------------------------------------


def _eventfd(sight: Sight, facts: Facts, fd: int) -> Told:
    number = evidence.fdinfo(facts.alive, fd, b"eventfd-id", sight.root)
    if not number:
        return Told("waits for an event; who could send it one is not told before Linux 5.2", end=End.UNTOLD)
    held = [h for h in sight.holding(EVENTFD) if evidence.fdinfo(h.pid, h.fd, b"eventfd-id", sight.root) == number]
    others = [h for h in held if h.pid != facts.pid]
    if not others and len(sight.living(facts.pid)) <= 1:
        words = "waits for an event that nobody else who may be seen could send"
        return Told(words, end=End.HIDDEN if sight.holders.unseen else End.NOBODY, do=as_root(facts.pid))
    return _held(sight, facts, "waits for an event from", held)


def _pidfd(sight: Sight, facts: Facts, fd: int) -> Told:
    pid = pid_of(sight, facts.alive, fd)
    if not pid:
        return Told("waits for the end of a process that is gone, or not shown here", end=End.UNTOLD)
    return Told("waits for the end of", (Edge(sight.ref(pid) or Ref(pid), "its end"),))


def _signalfd(_sight: Sight, _facts: Facts, _fd: int) -> Told:
    return Told("waits for a signal, from whoever may send it one", end=End.SIGNAL)


def _timer(sight: Sight, facts: Facts, fd: int) -> Told:
    data = read_bytes(f"{sight.root}/{facts.alive}/fdinfo/{fd}") or b""
    found = _TIME.search(data)
    seconds = int(found[1]) + int(found[2]) / 1e9 if found else 0
    if not seconds:
        return Told("waits for a timer that is not set", end=End.UNTOLD)
    return Told(f"waits for a timer, for another {seconds:.1f} s", end=End.SLEEPS, timed=True)


_ANONYMOUS: dict[str, Callable[[Sight, Facts, int], Told]] = {
    EVENTFD: _eventfd,
    TIMERFD: _timer,
    SIGNALFD: _signalfd,
}
