"""inotify instances and watches of each user (inotify(7)).

The kernel counts both for the user who made the instance, in his user namespace and in all above it (ucounts(5)): in
those above for the owner of the namespace below.
"""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from typing import TYPE_CHECKING

from pidwarden.kernel.tables import userns
from pidwarden.kernel.tables.base import PROC, most, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.kernel.tables.descriptors import Held, Instance, Walk

_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
_FILE = 0  # KCMP_FILE
_libc = ctypes.CDLL(None, use_errno=True)


def read(walk: Walk, root: str = PROC) -> list[Gauge]:
    """Two for each user who has an instance; where there is none, two that say that nobody has."""
    owner = userns.Owners(root)
    instances: Counter[int] = Counter()
    watches: Counter[int] = Counter()
    who: dict[Table, dict[int, Counter[str]]] = {Table.INOTIFY_INSTANCES: {}, Table.INOTIFY_WATCHES: {}}
    for held, instance in _distinct(walk):
        uid = owner.charged(held.member.pid, held.member.uid, held.namespaces.get("user"))
        name = f"pid {held.member.pid} ({escape(held.member.name)})"
        instances[uid] += 1
        watches[uid] += instance.watches
        who[Table.INOTIFY_INSTANCES].setdefault(uid, Counter())[name] += 1
        who[Table.INOTIFY_WATCHES].setdefault(uid, Counter())[name] += instance.watches
    found = []
    for table, counts, name in (
        (Table.INOTIFY_INSTANCES, instances, "instances"),
        (Table.INOTIFY_WATCHES, watches, "watches"),
    ):
        setting, limit = _limit(name, root)
        for uid in counts or (os.getuid(),):
            users = most(who[table].get(uid, {}))
            one = Gauge(table, Scope.USER, f"uid {uid}", counts[uid], limit, 0, setting, who=users)
            found.append(one._replace(unseen=walk.unseen))
    return found


def _limit(name: str, root: str) -> tuple[str, int | None]:
    """That of our own user namespace; fs.inotify has that of the machine's own alone."""
    own = sysctl(f"user/max_inotify_{name}", root)
    if own is not None and not userns.is_initial(root):
        return f"user.max_inotify_{name}", own
    setting = f"fs.inotify.max_user_{name}"
    machine = sysctl(setting.replace(".", "/"), root)
    return setting, machine if machine is not None else own


def _distinct(walk: Walk) -> Iterator[tuple[Held, Instance]]:
    """Each instance once, though forks share it: with the first that has it, as a rule the one who made it."""
    seen: dict[bytes, list[tuple[int, int]]] = {}
    for held in sorted(walk.held, key=lambda h: h.member.pid):
        for instance in held.inotify:
            others = seen.setdefault(instance.content, [])
            if not any(_same((held.member.pid, instance.fd), other) for other in others):
                others.append((held.member.pid, instance.fd))
                yield held, instance


def _same(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two descriptors are one open file; where kcmp(2) does not tell, those of the same number are."""
    if _KCMP is not None:
        answer = _libc.syscall(_KCMP, one[0], other[0], _FILE, ctypes.c_ulong(one[1]), ctypes.c_ulong(other[1]))
        if answer >= 0:
            return bool(answer == 0)
    return one[0] != other[0] and one[1] == other[1]
