"""What the kernel says of a system call in its event's format: the names and C types of its arguments. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_FIELD = re.compile(r"field:(.+?)(\w+);\s*offset:(\d+)")
_HEAD = 8  # bytes of the fields that every event has; the number of the call follows

# Calls whose function in the kernel, and so whose event, is named otherwise.
EVENTS: Final = {
    "stat": "newstat", "fstat": "newfstat", "lstat": "newlstat", "uname": "newuname", "sendfile": "sendfile64",
    "umount2": "umount",
}  # fmt: skip


class Signature(NamedTuple):
    """A call: its arguments as (C type, name)."""

    name: str
    args: tuple[tuple[str, str], ...]


def parse_format(name: str, text: str) -> Signature:
    """Of the content of ``events/syscalls/sys_enter_*/format``."""
    fields = [(kind.strip(), field) for kind, field, offset in _FIELD.findall(text) if int(offset) > _HEAD]
    return Signature(name, tuple(fields))


def unnamed(name: str) -> Signature:
    """Of a call of which only the name is known."""
    return Signature(name, tuple(("unsigned long", f"a{n}") for n in range(6)))
