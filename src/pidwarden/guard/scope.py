"""``--only``: whom the guard may act upon at all."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from pidwarden.act.spare import Protection
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel import abi, cgroup, place, procfs
from pidwarden.model.container import meant
from pidwarden.model.selector import Selector, SelectorKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.model.record import Record
    from pidwarden.settings import Settings


def uid_of(name: str) -> int:
    """The uid of a user name or a number.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return int(name) if name.isascii() and name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError as why:
        msg = f"there is no user {name!r}; `getent passwd` lists those there are"
        raise UsageError(msg) from why


def protection(settings: Settings) -> Protection:
    """Whom the configuration protects by user, cgroup or unit; looked up now, not in the middle of a bomb.

    Raises:
        UsageError: there is no such user.
    """
    found = cgroup.mounts()
    return Protection(
        uids=frozenset(map(uid_of, settings.protect_users)),
        cgroups=tuple(cgroup.relative(path, found).rstrip("/") for path in settings.protect_cgroups),
        units=frozenset(settings.protect_units),
    )


def container_id(selector: Selector) -> str:
    """The id of the one container that a selector means, of those that have a process now.

    Raises:
        PidwardenError: it is none, or several.
    """
    found = meant(selector.value, place.all_ids())
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"{selector}: {len(found)} containers begin like this ({', '.join(found[:3])} …); type more of the id"
        raise PidwardenError(msg)
    msg = f"{selector}: no container of that id or name has a process; `pidwarden ps -o container,pid,comm` shows them"
    raise PidwardenError(msg)


class Scope:
    """The selectors, looked up once, at start. Without any, everything is in scope.

    ``pid:N`` is kept by the kernel side, which marks the families that N's children found. The others
    are decided here, by the process whose fork crossed the threshold, and the family is then held from here.
    """

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self.pids: list[int] = []
        self._uids: set[int] = set()
        self._cgroups: list[str] = []
        self._containers: set[str] = set()
        for selector in selectors:
            if selector.kind is SelectorKind.PID:
                self._add_pid(selector)
            elif selector.kind is SelectorKind.USER:
                self._uids.add(uid_of(selector.value))
            elif selector.kind is SelectorKind.CONTAINER:
                self._containers.add(container_id(selector))
            else:
                self._add_cgroup(selector)
        told = bool(self._uids or self._cgroups or self._containers)
        self.by_member = told and not self.pids
        self.everything = not (self.pids or told)

    def _add_pid(self, selector: Selector) -> None:
        pid = int(selector.value)
        if procfs.stat(pid) is None:
            msg = f"{selector}: there is no such process (or /proc hides it); nothing was started"
            raise PidwardenError(msg)
        if len(self.pids) == abi.MAX_ONLY:
            msg = f"{selector}: at most {abi.MAX_ONLY} pid: selectors are possible; name their parent instead"
            raise UsageError(msg)
        self.pids.append(pid)

    def _add_cgroup(self, selector: Selector) -> None:
        found = cgroup.mounts()
        path = cgroup.relative(selector.value, found)
        if not any(os.path.isdir(root + path) for root in found.roots):
            msg = f"{selector}: there is no such cgroup in any hierarchy; see `cat /proc/PID/cgroup`"
            raise PidwardenError(msg)
        self._cgroups.append(path)

    def covers(self, record: Record | None) -> bool:
        """Whether the user, the cgroup or the container of a process is in scope."""
        if record is None:
            return False
        pid = record.key.tgid
        if record.uid in self._uids or any(cgroup.within(pid, p) for p in self._cgroups):
            return True
        return bool(self._containers) and place.is_in(pid, self._containers)
