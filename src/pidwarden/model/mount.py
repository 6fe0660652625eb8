"""Mounts as ``/proc/PID/mountinfo`` has them. Values only."""

from __future__ import annotations

import re
from typing import NamedTuple

_ESCAPED = re.compile(r"\\([0-7]{3})")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "glusterfs", "lustre", "gfs2", "ocfs2", "beegfs")


class Mount(NamedTuple):
    """One line (proc_pid_mountinfo(5)). Paths are text with surrogates for bytes that are not UTF-8."""

    number: int
    device: str  # major:minor
    where: str  # seen from the root directory of the process
    kind: str
    source: str
    read_only: bool

    @property
    def is_fuse(self) -> bool:
        """Whether a process serves it through /dev/fuse; virtiofs is served by the host of the machine instead."""
        return self.kind in ("fuse", "fuseblk") or self.kind.startswith(("fuse.", "fuseblk."))

    @property
    def is_network(self) -> bool:
        """Whether a machine elsewhere serves it."""
        return self.kind in _NETWORK

    @property
    def is_block(self) -> bool:
        """Whether it lies on a block device of its own; btrfs has devices that it made up."""
        return not self.device.startswith("0:") or self.kind in ("btrfs", "zfs", "bcachefs")

    @property
    def connection(self) -> int:
        """The number of a FUSE connection in /sys/fs/fuse/connections: the device's minor number."""
        return int(self.device.partition(":")[2])


def parse_mounts(data: bytes) -> tuple[Mount, ...]:
    """All lines that can be understood."""
    found = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3 or not fields[0].isdecimal():  # noqa: PLR2004
            continue
        options = f"{fields[5]},{rest[2]}".split(",")
        found.append(Mount(int(fields[0]), fields[2], _plain(fields[4]), rest[0], _plain(rest[1]), "ro" in options))
    return tuple(found)


def _plain(text: str) -> str:
    r"""A path without the escapes of space, tab, newline and backslash."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
