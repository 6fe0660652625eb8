"""``--only``: whom the guard may act upon at all."""

from __future__ import annotations

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
    """The selectors, looked up at start. Without any, everything is in scope.

    A source marks the families that the children of ``pid:N`` found. Of all other families the tasks of a user, and
    those in a cgroup or below it, as a container's are, are in scope: the kernel side keeps that as well
    (``bpf/scope.h``); for other sources it is decided here, by the process whose fork crossed the threshold.
    """

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self.pids: list[int] = []
        self.uids: list[int] = []
        self.cgroups: list[tuple[int, int]] = []  # (hierarchy, inode of the directory)
        self._paths: list[str] = []
        for selector in selectors:
            if selector.kind is SelectorKind.PID:
                self._add_pid(selector)
            elif selector.kind is SelectorKind.USER:
                self._add_user(selector)
            elif selector.kind is SelectorKind.CONTAINER:
                for path in place.roots_of(container_id(selector)):
                    self._add_path(selector, path)
            else:
                self._add_path(selector, cgroup.relative(selector.value, cgroup.mounts()))
        self.by_member = bool(self.uids or self._paths) and not self.pids
        self.everything = not (self.pids or self.uids or self._paths)

    def _add_pid(self, selector: Selector) -> None:
        pid = int(selector.value)
        if procfs.stat(pid) is None and procfs.veiled(pid) is None:
            msg = f"{selector}: there is no such process (or /proc hides it); nothing was started"
            raise PidwardenError(msg)
        if len(self.pids) == abi.MAX_ONLY:
            msg = f"{selector}: at most {abi.MAX_ONLY} pid: selectors are possible; name their parent instead"
            raise UsageError(msg)
        self.pids.append(pid)

    def _add_user(self, selector: Selector) -> None:
        uid = uid_of(selector.value)
        if uid in self.uids:
            return
        if len(self.uids) == abi.MAX_UIDS:
            msg = f"{selector}: at most {abi.MAX_UIDS} user: selectors are possible; start another guard for the rest"
            raise UsageError(msg)
        self.uids.append(uid)

    def _add_path(self, selector: Selector, path: str) -> None:
        found = cgroup.identities(path)
        if not found:
            msg = f"{selector}: there is no such cgroup in any hierarchy; see `cat /proc/PID/cgroup`"
            raise PidwardenError(msg)
        self._paths.append(path)
        self.cgroups += [one for one in found if one not in self.cgroups]
        if len(self.cgroups) > abi.MAX_CGROUPS:
            msg = (
                f"{selector}: at most {abi.MAX_CGROUPS} cgroups are possible, each counted once in every hierarchy "
                "that has it; name the one above them"
            )
            raise UsageError(msg)

    def look_again(self) -> bool:
        """Looks the cgroups up again: one that was made anew is another to the kernel. Whether anything changed."""
        found = dict.fromkeys(one for path in self._paths for one in cgroup.identities(path))
        before, self.cgroups = self.cgroups, list(found)[: abi.MAX_CGROUPS]
        return before != self.cgroups

    def covers(self, record: Record | None) -> bool:
        """Whether the user, the cgroup or the container of a process is in scope."""
        if record is None:
            return False
        return record.uid in self.uids or any(cgroup.within(record.key.tgid, p) for p in self._paths)
