"""Keys of each user against his quota (keyrings(7)): how many, and of how many bytes."""

from __future__ import annotations

from pidwarden.kernel.tables.base import PROC, content
from pidwarden.model.gauge import Gauge, Scope, Table

_FIELDS = 5  # "uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes" (proc_key-users(5))


def read(root: str = PROC) -> list[Gauge]:
    """Two for each user that has keys."""
    found = []
    for line in (content(f"{root}/key-users") or b"").decode("ascii", "replace").splitlines():
        fields = line.replace(":", " ", 1).split()
        if len(fields) != _FIELDS:
            continue
        uid = int(fields[0])
        for table, words, name in ((Table.KEYS, fields[3], "maxkeys"), (Table.KEY_BYTES, fields[4], "maxbytes")):
            used, _slash, limit = words.partition("/")
            setting = f"kernel.keys.{'root_' * (uid == 0)}{name}"
            found.append(Gauge(table, Scope.USER, f"uid {uid}", int(used), int(limit), 0, setting))
    return found
