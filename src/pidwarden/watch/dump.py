"""Records as bytes of struct pw_dump, so that whoever asks a guard need not know which source it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel import abi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.model.record import Record


def pack(records: Iterable[Record]) -> bytearray:
    """Elements of struct pw_dump; fields that a record does not have are 0."""
    names = [name.removeprefix("proc_") for name in abi.DUMP_FIELDS]
    size, found = abi.DUMP.size, bytearray()
    for record in records:
        values = record._asdict() | {
            "key_tgid": record.key.tgid,
            "key_start_ns": record.key.start_ns,
            "parent_tgid": record.parent.tgid,
            "parent_start_ns": record.parent.start_ns,
            "comm": record.comm[:15],
            "exe_dev": record.exe[0],
            "exe_ino": record.exe[1],
            "state": ord(record.state) if record.state else 0,
        }
        found += abi.DUMP.pack(*[values.get(name, 0) for name in names])
    assert len(found) % size == 0
    return found
