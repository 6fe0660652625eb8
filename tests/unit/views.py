"""Small histories to be drawn and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histories import SECOND, record

from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.moment import Clock
from pidwarden.model.view import View

if TYPE_CHECKING:
    from pidwarden.model.record import Record

NOW = 1000 * SECOND
CLOCK = Clock(NOW, 1_700_000_000 * SECOND)
HOSTILE = [b"", b") R 1 (", b"new\nline", b"\x1b[31m", b"\xff\xfe", "\u202egnp".encode(), b"a\tb"]


def key(pid: int, start_s: float = 0) -> ProcessKey:
    return ProcessKey(pid, int((start_s or pid) * SECOND))


def living(pid: int, parent: ProcessKey | int = 0, comm: bytes = b"sh", **changes: object) -> Record:
    """A process in state S whose creator is its parent still."""
    above = key(parent) if isinstance(parent, int) and parent else parent or NOBODY
    values: dict[str, object] = {"comm": comm, "state": "S", "ppid": above.tgid}
    return record(key(pid), above, **(values | changes))


def dead(pid: int, parent: ProcessKey | int = 0, comm: bytes = b"sh", code: int = 0, **changes: object) -> Record:
    """A process that ended ten seconds ago and was reaped."""
    values: dict[str, object] = {"slots": 0, "live": 0, "exit_ns": NOW - 10 * SECOND, "exit_code": code, "state": ""}
    return living(pid, parent, comm, **(values | {"ppid": 0} | changes))


def view(*records: Record, **options: object) -> View:
    return View.of(records, CLOCK, lambda uid: {0: "root"}.get(uid, f"user{uid}"), **options)  # type: ignore[arg-type]


def row(shown: View, pid: int) -> int:
    return next(at for at, r in enumerate(shown.records) if r.key.tgid == pid)
