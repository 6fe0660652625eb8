"""Namespaces that were made, against user.max_*_namespaces (namespaces(7))."""

from __future__ import annotations

import fcntl
import os
import re
from collections import Counter

from pidwarden.kernel import namespaces as pidns
from pidwarden.kernel.tables import userns
from pidwarden.kernel.tables.base import PROC, content, most, sysctl
from pidwarden.kernel.tables.descriptors import KINDS, Walk, number_of
from pidwarden.model.gauge import Gauge, Scope, Table

_GET_USERNS = 0xB701  # NS_GET_USERNS: of a user namespace its parent (ioctl_ns(2))
_DYNAMIC = 0xF0000000  # numbers below are of the namespaces that the machine began with (PROC_DYNAMIC_FIRST)
_KEPT = re.compile(rb" (\w+):\[(\d+)\] .* - nsfs ")  # a mount keeps it, as `ip netns add` does (nsfs)


def read(walk: Walk, root: str = PROC) -> list[Gauge]:
    """One for each kind: those that somebody is in or a mount of ours keeps, of all users together.

    The limit is that of each user in our user namespace, so no user has more than this.
    """
    kept = _kept(root)
    found = []
    for kind in KINDS:
        limit = sysctl(f"user/max_{kind}_namespaces", root)
        if limit is None:
            continue
        users: dict[int, int] = {}  # by number: the user of the process with the lowest pid
        for held in sorted(walk.held, key=lambda h: h.member.pid):
            if kind in held.namespaces:
                users.setdefault(held.namespaces[kind], held.member.uid)
        first = _first(kind, root)
        numbers = (users.keys() | kept.get(kind, set())) - {first}
        who = Counter(f"uid {users[n]}" if n in users else "a mount" for n in numbers)
        setting = f"user.max_{kind}_namespaces"
        one = Gauge(Table.NAMESPACES, Scope.USERNS, kind, len(numbers), limit, 0, setting, who=most(who))
        found.append(one._replace(unseen=walk.unseen, detail="of all users together; each may have as many"))
    return found


def _first(kind: str, root: str) -> int | None:
    """What was there before: the namespace of pid 1, or our own where that cannot be looked at.

    None: that one was made in our user namespace too, and counts, as in a container with one of its own.
    """
    for pid in ("1", "self"):
        path = f"{root}/{pid}/ns/{kind}"
        try:
            number = number_of(os.readlink(path))
        except OSError:
            continue
        return None if number is not None and number >= _DYNAMIC and _is_ours(path, root) else number
    return None


def _is_ours(path: str, root: str) -> bool:
    """Whether a namespace counts in our user namespace, and that is not the machine's, whose first ones do not."""
    if userns.is_initial(root):
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            above = fcntl.ioctl(fd, _GET_USERNS)
        finally:
            os.close(fd)
        try:
            return os.fstat(above).st_ino == pidns.number_of("user", root=root)
        finally:
            os.close(above)
    except OSError:
        return False


def _kept(root: str) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for kind, number in _KEPT.findall(content(f"{root}/self/mountinfo") or b""):
        found.setdefault(kind.decode("ascii", "replace"), set()).add(int(number))
    return found
