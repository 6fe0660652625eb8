"""What is known of a process that lost its parent: values only, for :mod:`pidwarden.diagnose.orphans`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.model.container import Container
    from pidwarden.model.key import ProcessKey

_LEAVES = (".service", ".scope")  # units that have processes of their own
_MANAGER = re.compile(r"user@([0-9]{1,10})\.service")
_SESSION = re.compile(r"session-([A-Za-z0-9]{1,32})\.scope")
_PTS, _PTS_MAJORS, _CONSOLE, _SERIAL = 136, 8, 4, 64  # Documentation/admin-guide/devices.txt


class Task(Protocol):
    """One process as its ``stat`` has it. ``pidwarden.rescue.table.Proc`` is one."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def start_ticks(self) -> int: ...  # noqa: D102
    @property
    def comm(self) -> bytes: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def ppid(self) -> int: ...  # noqa: D102
    @property
    def pgrp(self) -> int: ...  # noqa: D102
    @property
    def session(self) -> int: ...  # noqa: D102
    @property
    def tty(self) -> int: ...  # noqa: D102
    @property
    def uid(self) -> int: ...  # noqa: D102
    @property
    def exe(self) -> str: ...  # noqa: D102
    @property
    def key(self) -> ProcessKey: ...  # noqa: D102
    @property
    def ended(self) -> bool: ...  # noqa: D102
    @property
    def kernel(self) -> bool: ...  # noqa: D102


class Std(NamedTuple):
    """A standard descriptor. ``gone``: whether nobody is at its other end; None where that was not to be learnt."""

    fd: int
    link: str  # as readlink(2) gives it, bytes that somebody chose
    gone: bool | None

    @property
    def terminal(self) -> bool:
        """Whether it is a terminal, there or not."""
        return self.link.startswith(("/dev/pts/", "/dev/tty", "/dev/console"))

    @property
    def pipe(self) -> bool:
        """Whether it is a pipe without a name."""
        return self.link.startswith("pipe:[")


class Unit(NamedTuple):
    """A service of systemd's. ``active`` is None where nobody tells; ``user`` is whose manager has it."""

    name: str
    active: bool | None
    user: int | None = None


class Login(NamedTuple):
    """A login session. ``open`` is None where nobody tells; ``leader`` is its first process, 0 where not known."""

    name: str
    open: bool | None
    leader: int = 0
    told: str = ""  # how that is known


class Traces(NamedTuple):
    """What the machine tells of one process beyond its ``stat``."""

    login_uid: int | None = None  # None: no login among its ancestors (or a kernel without audit)
    login: Login | None = None
    unit: Unit | None = None
    manager: int | None = None  # the user below whose manager (user@UID.service) it is
    lingers: bool = False  # whether that user's processes are to stay without a login
    user_open: bool | None = None  # whether that user is logged in
    container: Container | None = None
    inner_init: bool = False  # the first process of a pid namespace
    hup_ignored: bool = False
    stdio: tuple[Std, ...] | None = None  # those that are open; None: they may not be seen
    cwd_deleted: bool | None = None
    unknown: tuple[str, ...] = ()  # what could not be learnt and why, in words

    @property
    def exposed(self) -> bool:
        """Whether its standard descriptors may be seen."""
        return self.stdio is not None


class CgroupNames(NamedTuple):
    """What the names on a cgroup's path say."""

    unit: str = ""  # of the system's manager, or of the user's if `manager` is set
    manager: int | None = None
    session: str = ""


def names_of(paths: Iterable[str]) -> CgroupNames:
    """The unit and the login session of a process by its cgroups' paths, as ``/proc/PID/cgroup`` has them.

    What is below a service or a scope is delegated, its names are chosen by whom it is delegated to: only a user's
    manager is looked below.
    """
    for path in paths:
        parts = [part for part in path.split("/") if part]
        leaves = [at for at, part in enumerate(parts) if part.endswith(_LEAVES)]
        if not leaves:
            continue
        first = parts[leaves[0]]
        if found := _MANAGER.fullmatch(first):
            inner = next((parts[at] for at in leaves[1:]), first)
            return CgroupNames(inner, int(found[1]))
        if found := _SESSION.fullmatch(first):
            return CgroupNames(first, session=found[1])
        return CgroupNames(first)
    return CgroupNames()


def terminal_name(number: int) -> str:
    """The name of a controlling terminal by field 7 of ``stat`` (proc_pid_stat(5)), empty for none."""
    if not number:
        return ""
    major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
    if _PTS <= major < _PTS + _PTS_MAJORS:
        return f"pts/{minor + 256 * (major - _PTS)}"
    if major != _CONSOLE:
        return f"tty {major}:{minor}"
    return f"tty{minor}" if minor < _SERIAL else f"ttyS{minor - _SERIAL}"
