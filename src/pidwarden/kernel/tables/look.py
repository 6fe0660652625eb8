"""One look at all tables; for commands, as it reads what the guard must not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pidwarden.kernel import namespaces as pidns
from pidwarden.kernel.tables import (
    aio,
    cgroups,
    conntrack,
    crowd,
    descriptors,
    files,
    inotify,
    keys,
    mounts,
    namespaces,
    neighbours,
    ports,
    ptys,
    tasks,
    timewait,
)
from pidwarden.kernel.tables.base import PROC, most
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.tables.crowd import Crowd
    from pidwarden.kernel.tables.descriptors import Held, Walk
    from pidwarden.model.gauge import Gauge, User


def counters(root: str = PROC) -> list[Gauge]:
    """What the kernel counts itself: some ms, however many processes there are."""
    found = [*tasks.machine(root=root), *cgroups.read(root), *files.machine(root=root), *keys.read(root)]
    found += [*ptys.read(root=root), *aio.read(root), *mounts.read(root=root)]
    return found + network(root=root)


def network(holders: dict[int, str] | None = None, root: str = PROC) -> list[Gauge]:
    """What our network namespace has. `holders` as for ``ports.read``; None: nobody is asked who uses most."""
    found = neighbours.read(who=holders is not None, root=root)
    found += ports.read(holders, root=root)
    return [*found, *timewait.read(root), *conntrack.read(root)]


class People:
    """Everybody, and what they hold: the part of a look that takes its time."""

    def __init__(self, seconds: float = descriptors.SECONDS, root: str = PROC) -> None:
        self._root = root
        self.crowd: Crowd = crowd.take(root)
        self.walk: Walk = descriptors.walk(self.crowd.members, root, seconds)

    @property
    def holders(self) -> dict[int, str]:
        """Who has a socket, by its inode number."""
        return {inode: _name(held) for held in self.walk.held for inode in held.sockets}

    def tables(self) -> list[Gauge]:
        """All but those of the network."""
        root, members = self._root, self.crowd.members
        found = [*tasks.machine(self.crowd, root=root), *tasks.users(members, root), *cgroups.read(root)]
        found += [*files.machine(members, root), *files.processes(members)]
        found += [*inotify.read(self.walk, root), *namespaces.read(self.walk, root), *keys.read(root)]
        found += [*ptys.read(self._terminals(), root), *aio.read(root), *mounts.read(self._mount_namespaces(), root)]
        return found

    def _terminals(self) -> tuple[User, ...]:
        return most(Counter({_name(held): held.ptys for held in self.walk.held if held.ptys}))

    def _mount_namespaces(self) -> Iterable[tuple[int, int]]:
        own = pidns.number_of("mnt", "self", self._root)
        found: dict[int, int] = {}
        for held in self.walk.held:
            number = held.namespaces.get("mnt", own)
            if number is not None and number != own:
                found.setdefault(number, held.member.pid)
        return found.items()


def _name(held: Held) -> str:
    return f"pid {held.member.pid} ({escape(held.member.name)})"
