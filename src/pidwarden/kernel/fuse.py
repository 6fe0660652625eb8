"""FUSE connections: who serves one, and whether it owes answers (Documentation/filesystems/fuse/fuse.rst)."""

from __future__ import annotations

import os

from pidwarden.kernel.procfs import PROC, read_bytes, read_int
from pidwarden.model.task import parse_status

CONTROL = "/sys/fs/fuse/connections"
DEVICE = "/dev/fuse"
KEY = b"fuse_connection"  # of fdinfo, on newer kernels


def waiting(number: int, control: str = CONTROL) -> int | None:
    """Requests of a connection that nobody has answered; None without fusectl or the right to read it."""
    return read_int(f"{control}/{number}/waiting")


def is_controllable(number: int, control: str = CONTROL) -> bool:
    """Whether fusectl is mounted and shows the connection."""
    return os.path.exists(f"{control}/{number}/abort")


def held_by(pid: int, root: str = PROC) -> list[int | None]:
    """The connections that a process holds open, None for one whose number the kernel does not tell. May wait."""
    found: list[int | None] = []
    try:
        descriptors = os.listdir(f"{root}/{pid}/fd")
    except OSError:
        return []
    for name in descriptors:
        try:
            if not os.readlink(f"{root}/{pid}/fd/{name}").endswith(DEVICE):
                continue
        except OSError:
            continue
        info = read_bytes(f"{root}/{pid}/fdinfo/{name}") or b""
        at = info.find(KEY + b":")
        found.append(int(info[at + len(KEY) + 1 :].split(None, 1)[0]) if at >= 0 else None)
    return found


def state_and_name(pid: int, root: str = PROC) -> tuple[str, bytes]:
    """The state and name of a process out of files that wait for nobody; empty if it is gone."""
    found = parse_status(read_bytes(f"{root}/{pid}/status", 16384) or b"")
    name = read_bytes(f"{root}/{pid}/comm") or b""
    return (found.state if found else ""), name[:-1]
