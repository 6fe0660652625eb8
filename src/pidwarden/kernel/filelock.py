"""Who has the lock of a file that a thread waits for: flock(2), and fcntl(2) by process or by open file.

``/proc/locks`` says which lock is in the way. Its pid is that of who asked for it: a lock of a process is his as
long as it is there, one of an open file passes on to whoever inherits the descriptor, and may outlive him. So the
descriptors of everybody are searched for such a one: their ``fdinfo`` shows it (proc_pid_fdinfo(5)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel import evidence
from pidwarden.kernel.procfs import read_bytes
from pidwarden.kernel.sight import Told, as_root
from pidwarden.model import filelocks
from pidwarden.model.waiter import Edge, End, Ref

if TYPE_CHECKING:
    from pidwarden.kernel.sight import Facts, Sight
    from pidwarden.model.filelocks import FileLock

CALLS = frozenset(("flock", "fcntl"))
_COMMANDS = {7: "F_SETLKW", 14: "F_SETLKW64", 38: "F_OFD_SETLKW"}
_MODES = {1: "LOCK_SH", 2: "LOCK_EX"}
_BYTES = 1 << 22
_FDINFO_BYTES = 1 << 16


def told(sight: Sight, facts: Facts, fd: int, link: str) -> Told:
    """What a thread waits for in one of these calls."""
    assert facts.call
    number = facts.call.args[1]
    how = _MODES.get(number & 3, str(number)) if facts.name == "flock" else _COMMANDS.get(number, str(number))
    call = f"{facts.name}({fd}{' = ' + link if link else ''}, {how})"
    inode = evidence.fdinfo(facts.alive, fd, b"ino", sight.root) or b"0"
    ways = filelocks.blocking(_lines(sight), facts.pid, int(inode)) if inode != b"0" else []
    wanted = "FLOCK" if facts.name == "flock" else "OFDLCK" if how == "F_OFD_SETLKW" else "POSIX"
    locks = list(dict.fromkeys(granted for asked, granted in ways if asked.kind == wanted))
    edges = _holders(sight, facts, fd, link, locks)
    what = f" ({locks[0].words})" if locks else ""
    if edges:
        return Told(f"waits for a lock of that file{what}, held by", edges, call=call, every=len(locks) > 1)
    if sight.holders.unseen:
        words = f"waits for a lock of that file{what}; {sight.holders.unseen} processes that may have it are not shown"
        return Told(words, end=End.HIDDEN, do=as_root(facts.pid), call=call)
    words = f"waits for a lock of that file{what}; nobody that is seen has it: it was let go of just now, or is held "
    return Told(words + "from another machine or pid namespace", end=End.UNTOLD, do="lslocks", call=call)


def _lines(sight: Sight) -> list[str]:
    try:
        with open(f"{sight.root}/locks", "rb") as file:
            data = file.read(_BYTES)
    except OSError:
        data = read_bytes(f"{sight.root}/locks", _BYTES) or b""
    return data.decode("ascii", "replace").split("\n")


def _holders(sight: Sight, facts: Facts, fd: int, link: str, locks: list[FileLock]) -> tuple[Edge, ...]:
    """Those who have these locks; all who have one of that file, if it is not known which are in the way."""
    found: dict[Ref, Edge] = {}
    for lock in locks:
        if lock.kind == "POSIX" and lock.pid > 0 and sight.status(lock.pid):
            found[Ref(lock.pid)] = Edge(Ref(lock.pid), "its lock")
    rest = [lock for lock in locks if Ref(lock.pid) not in found or lock.kind != "POSIX"]
    if locks and not rest:
        return tuple(found.values())
    for held in sight.holding(link):
        if (held.pid, held.fd) == (facts.pid, fd):
            continue
        theirs = [lock for lock in _locks_of(sight, held.pid, held.fd) if not locks or any(map(lock.is_same, rest))]
        if theirs:
            ref = Ref(held.pid)
            found.setdefault(ref, Edge(ref, f"fd {held.fd}", sure=bool(locks)))
    return tuple(found[ref] for ref in sorted(found))


def _locks_of(sight: Sight, pid: int, fd: int) -> list[FileLock]:
    """The locks that a descriptor's open file has, or its process on that file."""
    data = read_bytes(f"{sight.root}/{pid}/fdinfo/{fd}", _FDINFO_BYTES) or b""
    lines = [line.partition(b":")[2].decode("ascii", "replace") for line in data.split(b"\n") if line[:5] == b"lock:"]
    return [parsed[0] for line in lines if (parsed := filelocks.parse(line))]
