"""What a login gets: RLIMIT_NPROC as pam_limits sets it, out of limits.conf(5) and limits.d."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel.procfs import read_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

FOLDER = "/etc/security"
_FILE_BYTES = 65536


class Entry(NamedTuple):
    """One line that is meant for a user: soft, hard or - (both), its value as it stands there, and where it stands."""

    kind: str
    value: str
    where: str


def nproc(user: str, uid: int, groups: Collection[str], folder: str = FOLDER) -> list[Entry]:
    """The lines about nproc that are meant for this user, in the order in which pam_limits reads them.

    A user's own line wins over one for a group, and that over ``*`` (limits.conf(5)).
    """
    files = [f"{folder}/limits.conf", *sorted(glob.glob(f"{glob.escape(folder)}/limits.d/*.conf"))]
    ranked: list[tuple[int, Entry]] = []
    for path in files:
        text = (read_bytes(path, _FILE_BYTES) or b"").decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if len(words) == 4 and words[2] == "nproc" and (rank := _rank(words[0], user, uid, groups)):  # noqa: PLR2004
                ranked.append((rank, Entry(words[1], words[3], f"{os.path.normpath(path)} line {number}")))
    best = max((rank for rank, _entry in ranked), default=0)
    return [entry for rank, entry in ranked if rank == best]


def _rank(domain: str, user: str, uid: int, groups: Collection[str]) -> int:
    """How closely a line is meant for somebody; 0: it is not. Root is meant by name only."""
    if domain == user:
        return 3
    first, colon, last = domain.partition(":")
    if colon and all(part.isdecimal() or not part for part in (first, last)):
        return 3 * (int(first or 0) <= uid <= int(last or uid))
    if uid == 0:
        return 0
    if domain.startswith("@"):
        return 2 * (domain[1:] in groups)
    return int(domain == "*")
