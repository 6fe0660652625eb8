"""The evidence about zombies, put together: two looks at the table, then a closer one at each parent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import ends, namespaces, parents, zombies
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model.zombie import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pidwarden.kernel.evidence import Read
    from pidwarden.model.zombie import History, Parent, Zombie

_OUTSIDE = "the parent is outside of this pid namespace; look from the machine itself, or from the namespace above"
_GONE = "the parent ended meanwhile: its zombies go to the next reaper; look again"
_STUCK = "the kernel does not answer for the parent, which is stuck within execve; `pidwarden stuck` tells more"
_MEMBERS = 16  # of a dying namespace, that are named
_COMM = 64


class Look(NamedTuple):
    """All zombies at one moment: those of one parent each, most first; and how many became zombies meanwhile."""

    cases: list[Case]
    fresh: Mapping[int, int]  # by parent
    seconds: float  # between the looks


def look(  # noqa: PLR0913  (each has a default, and who asks names what he wants)
    read: Read | None = None,
    pause: float = zombies.PAUSE,
    meant: Callable[[zombies.Table], Iterable[int]] | None = None,
    history: Callable[[int, Iterable[Zombie]], History | None] | None = None,
    root: str = PROC,
    without: frozenset[int] = frozenset(),
) -> Look:
    """Looks twice, `pause` seconds apart, and then at each parent that `meant` picks: all, if it is not given.

    Nothing is asked of those `without`: see :func:`pidwarden.kernel.patience.past_the_stuck`.

    Without `read`, system calls stay unknown; see :mod:`pidwarden.kernel.evidence`. Sleeps for the rest of `pause`.

    Raises:
        OSError: /proc cannot be listed.
    """
    began = time.monotonic()
    table = zombies.first(root, without)
    chosen = list(table.groups) if meant is None else [p for p in meant(table) if p in table.groups]
    time.sleep(max(0.0, zombies.wait_from(table, frozenset(chosen), pause)))
    again = zombies.second(table, chosen, root, without)
    seconds = time.monotonic() - began
    closer = _Closer(table, read, history, root, without)
    found = [closer.case(ppid, again[ppid]) for ppid in chosen]
    found.sort(key=lambda c: (-len(c.zombies), -len(c.gone), c.ppid))
    return Look(found, {p: s.fresh for p, s in again.items()}, seconds)


class _Closer(NamedTuple):
    """The closer look at parents."""

    table: zombies.Table
    read: Read | None
    history: Callable[[int, Iterable[Zombie]], History | None] | None
    root: str
    without: frozenset[int]

    def case(self, ppid: int, seen: zombies.Second) -> Case:
        """All about one of them."""
        plain = Case(ppid, None, seen.stayed, seen.gone, seen.watched_ns, comm=_comm(self.table.living.get(ppid, b"")))
        if not ppid:
            return plain._replace(why=_OUTSIDE)
        if ppid in self.without:
            return plain._replace(why=_STUCK)
        if not seen.stayed:
            return plain
        tracers, asked = zombies.tracers(seen.stayed, self.root)
        living = {pid: zombies.living_threads(pid, self.root) for pid in zombies.dead_leaders(seen.stayed)}
        plain = plain._replace(tracers=tracers, asked=asked, living=living)
        parent = parents.parent(ppid, self.read, root=self.root)
        if parent is None:
            return plain._replace(why=_GONE)
        parent = ends.with_ends(parent, self.table.living, self.root)
        parent = _with_names(_with_members(parent, self.table, self.root), tracers, self.root)
        return plain._replace(
            parent=parent, comm=parent.comm, history=self.history(ppid, seen.stayed) if self.history else None
        )


def _comm(stat: bytes) -> bytes:
    return stat[stat.index(b"(") + 1 : stat.rindex(b")")] if stat else b""


def _with_names(parent: Parent, tracers: Mapping[int, int], root: str) -> Parent:
    pids = {*tracers.values(), *(t.status.tracer for t in parent.threads), *map(parents.awaited, parent.threads)} - {0}
    return parent._replace(names={pid: name for pid in sorted(pids) if (name := _name(pid, root))})


def _name(pid: int, root: str) -> bytes:
    return (read_bytes(f"{root}/{pid}/comm", _COMM) or b"").removesuffix(b"\n")


def _with_members(parent: Parent, table: zombies.Table, root: str) -> Parent:
    """Names who is left in the pid namespace whose init this was."""
    if not parent.exiting or parent.status.nspid[-1:] != (1,):
        return parent
    depth, found = len(parent.status.nspid), []
    everybody = [(pid, stat) for pid, stat in table.living.items() if pid != parent.key.tgid]
    everybody += [(z.pid, z.stat) for group in table.groups.values() for z in group.rows]
    for pid, stat in everybody:
        if len(namespaces.inner_pids(pid, root)) < depth or namespaces.pid_namespace(pid, root) != parent.pidns:
            continue
        end = stat.rindex(b")")
        found.append((pid, stat[stat.index(b"(") + 1 : end], f"state {chr(stat[end + 2])}"))
        if len(found) == _MEMBERS:
            break
    return parent._replace(members=found)
