"""Selectors: ``pid:N``, ``user:NAME``, ``cgroup:PATH``. Parsing only; nothing is looked up here."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pidwarden.errors import UsageError

PID_MAX = 4_194_304


class SelectorKind(StrEnum):
    """What a selector names."""

    PID = "pid"
    USER = "user"
    CGROUP = "cgroup"


class Selector(NamedTuple):
    """One selector; ``value`` as it was typed."""

    kind: SelectorKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


def parse_selector(text: str) -> Selector:
    """Parses one selector.

    Raises:
        UsageError: it is none.
    """
    kind, colon, value = text.partition(":")
    if not colon or kind not in list(SelectorKind) or not value or "\0" in value:
        msg = f"{text!r} is not a selector; type pid:N, user:NAME or cgroup:PATH"
        raise UsageError(msg)
    if kind == SelectorKind.PID and not (
        value.isascii() and value.isdecimal() and len(value) <= len(str(PID_MAX)) and 0 < int(value) <= PID_MAX
    ):
        msg = f"{text!r}: {value!r} is not a process id; type pid:N with N from 1 to {PID_MAX}"
        raise UsageError(msg)
    if kind == SelectorKind.CGROUP and not value.startswith("/"):
        msg = f"{text!r}: a cgroup path starts with a slash, as in /proc/PID/cgroup"
        raise UsageError(msg)
    return Selector(SelectorKind(kind), value)
