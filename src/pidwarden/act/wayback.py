"""The way back of what was frozen, on disk before anything is done: whoever finds it can undo it.

One file a family in the guard's run directory. It names the boot it is of, because pids and start times mean nothing
after the next one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.act.cover import How, Step
from pidwarden.kernel.procfs import PROC
from pidwarden.model.key import ProcessKey

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX, _SUFFIX = "frozen-", ".json"


class WayBack(NamedTuple):
    """What was recorded for one family."""

    family: int
    steps: tuple[Step, ...]


def _boot_id(root: str = PROC) -> str:
    try:
        with open(f"{root}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _path(directory: str, family: int) -> str:
    return f"{directory}/{_PREFIX}{family}{_SUFFIX}"


def save(directory: str, family: int, steps: Iterable[Step]) -> bool:
    """Records steps that are about to be done, in place of what was recorded for that family. False if it cannot be."""
    path = _path(directory, family)
    text = json.dumps(
        {
            "family": family,
            "boot_id": _boot_id(),
            "steps": [
                {"how": s.how, "directory": s.directory, "members": [[k.tgid, k.start_ns] for k in s.members]}
                for s in steps
            ],
        }
    )
    try:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.rename(f"{path}.new", path)
    except OSError:
        return False
    return True


def forget(directory: str, family: int) -> None:
    """It has been undone."""
    for path in (_path(directory, family), f"{_path(directory, family)}.new"):
        with contextlib.suppress(OSError):
            os.unlink(path)


def find(directory: str) -> list[WayBack]:
    """All that are recorded there, of this boot. What cannot be read is removed: nothing can be done with it."""
    found = []
    for path in sorted(glob.glob(f"{glob.escape(directory)}/{_PREFIX}*{_SUFFIX}")):
        read = _read(path)
        if read is None:
            with contextlib.suppress(OSError):
                os.unlink(path)
        else:
            found.append(read)
    return found


def _read(path: str) -> WayBack | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            data = json.load(file)
        if data["boot_id"] != _boot_id():
            return None
        steps = [
            Step(How(s["how"]), str(s["directory"]), tuple(ProcessKey(int(t), int(n)) for t, n in s["members"]))
            for s in data["steps"]
        ]
        return WayBack(int(data["family"]), tuple(steps))
    except (OSError, ValueError, KeyError, TypeError):
        return None
