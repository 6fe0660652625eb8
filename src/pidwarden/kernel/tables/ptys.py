"""Pseudo-terminals: kernel.pty of the machine, and any devpts mount that has a limit of its own (pty(7))."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs
from pidwarden.kernel.tables.base import PROC, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from pidwarden.model.gauge import User

_OCTAL = re.compile(r"\\([0-7]{3})")  # blanks in mount points (proc_pid_mounts(5))


def read(who: tuple[User, ...] = (), root: str = PROC) -> list[Gauge]:
    """The machine's, then those of mounts with a limit.

    The last ``kernel.pty.reserve`` are for the mounts that the machine's own init made (devpts_new_index() in
    fs/devpts/inode.c): who is in a container cannot have them. From here that is not told apart.
    """
    used, limit, reserve = (sysctl(f"kernel/pty/{name}", root) for name in ("nr", "max", "reserve"))
    found = []
    if used is not None:
        detail = f"the last {reserve} are not for containers" if reserve else ""
        found.append(Gauge(Table.PTYS, Scope.MACHINE, "", used, limit, 0, "kernel.pty.max", who=who, detail=detail))
    try:
        mounts = procfs.mounts(root)
    except OSError:
        return found
    for _device, where, kind, options, *_rest in mounts:
        own = [o for o in options.split(",") if o.startswith("max=")] if kind == "devpts" else []
        if own:
            place = _OCTAL.sub(lambda m: chr(int(m[1], 8)), where)
            found.append(_mount(os.fsencode(place), int(own[0][4:])))
    return found


def _mount(place: bytes, limit: int) -> Gauge:
    gauge = Gauge(Table.PTYS, Scope.MOUNT, escape(place), None, limit, 0, "the mount option max of devpts")
    try:
        return gauge._replace(used=sum(name.isdigit() for name in os.listdir(place)))
    except OSError:
        return gauge._replace(unseen="the mount cannot be listed: be root")
