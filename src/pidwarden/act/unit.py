"""Restarting the unit that a process belongs to, by the service manager that has it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.act.spare import system_units
from pidwarden.kernel import cgroup, procfs
from pidwarden.kernel.dbus import SOCKETS, DbusError, Systemd, unit_path

if TYPE_CHECKING:
    from pidwarden.model.key import ProcessKey


class NotRestartedError(Exception):
    """It was not restarted; the text says why, and what to type."""


def service_of(pid: int) -> str:
    """The service of systemd's own that a process is in, by its cgroup; empty if it is in none, or in a user's."""
    path = cgroup.path_in(pid, "name=systemd") or cgroup.path_in(pid, cgroup.V2) or ""
    unit = (system_units(path) or [""])[-1]
    return unit if unit.endswith(".service") and not unit.startswith("user@") else ""


def restart(key: ProcessKey, agreed: str, sockets: tuple[str, ...] = SOCKETS) -> str:
    """Has systemd restart the unit `agreed` upon, if that is the one it is in; what was done.

    It is queued when this returns: the process ends by that.

    Raises:
        NotRestartedError: it is in no service, we are in it as well, or systemd does not do it.
    """
    unit = service_of(key.tgid)
    if not unit:
        msg = "it is in no service of the system's; restart it by whatever has started it"
        raise NotRestartedError(msg)
    if unit != agreed:
        msg = f"it is in {unit}, though its cgroup is called {agreed}"
        raise NotRestartedError(msg)
    by_hand = f"type `systemctl restart {unit}`"
    if service_of(os.getpid()) == unit:
        msg = f"this program runs in {unit} as well and would end with it; {by_hand} elsewhere"
        raise NotRestartedError(msg)
    try:
        with Systemd(sockets) as systemd:
            found = systemd.unit_of(key.tgid)
            if found != unit_path(unit) or procfs.stat_of(key) is None:
                msg = (
                    f"its cgroup names {unit}, but systemd has it in {found.rpartition('/')[2] or 'no unit'}; {by_hand}"
                )
                raise NotRestartedError(msg)
            systemd.restart(unit)
    except DbusError as why:
        msg = f"systemd cannot be asked ({why}); {by_hand}"
        raise NotRestartedError(msg) from why
    return f"systemd restarts {unit}"
