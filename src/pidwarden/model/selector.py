"""Selectors: ``pid:N``, ``user:NAME``, ``cgroup:PATH``, ``container:ID`` … Parsing only; nothing is looked up here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

PID_MAX = 4_194_304


class SelectorKind(StrEnum):
    """What a selector names."""

    PID = "pid"
    USER = "user"
    CGROUP = "cgroup"
    CONTAINER = "container"
    FAMILY = "family"
    NSPID = "nspid"


# What a guard can be limited to, and what can be asked for: a family has a number only while a guard runs.
SCOPES = (SelectorKind.PID, SelectorKind.USER, SelectorKind.CGROUP, SelectorKind.CONTAINER)
ASKABLE = (*SCOPES, SelectorKind.FAMILY, SelectorKind.NSPID)
_TYPE = {"pid": "pid:N", "user": "user:NAME", "cgroup": "cgroup:PATH", "container": "container:ID"}
_TYPE |= {"family": "family:N", "nspid": "nspid:N"}
_LARGEST_NAMESPACE = 2**32 - 1  # the numbers of namespaces are inodes of 32 bits
_LARGEST_FAMILY = 2**64 - 1  # families are numbered in 64 bits


class Selector(NamedTuple):
    """One selector; ``value`` as it was typed."""

    kind: SelectorKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


def _number(text: str, largest: int) -> bool:
    """Whether it is one from 1 to `largest`, in plain digits; not more of them than Python converts."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(largest)) and 0 < int(text) <= largest


def parse_selector(text: str, kinds: Sequence[SelectorKind] = SCOPES) -> Selector:
    """Parses one selector, of one of these kinds.

    Raises:
        UsageError: it is none.
    """
    kind, colon, value = text.partition(":")
    if not colon or kind not in kinds or not value or "\0" in value:
        names = [_TYPE[k] for k in kinds]
        msg = f"{text!r} is not a selector; type {', '.join(names[:-1])} or {names[-1]}"
        raise UsageError(msg)
    if kind == SelectorKind.FAMILY and not _number(value, _LARGEST_FAMILY):
        msg = f"{text!r}: {value!r} is not the number of a family; `pidwarden tree` and `pidwarden status` show them"
        raise UsageError(msg)
    if kind == SelectorKind.PID and not _number(value, PID_MAX):
        msg = f"{text!r}: {value!r} is not a process id; type pid:N with N from 1 to {PID_MAX}"
        raise UsageError(msg)
    if kind == SelectorKind.CGROUP and (not value.startswith("/") or ".." in value.split("/")):
        msg = f"{text!r}: a cgroup path starts with a slash and has no `..`, as in /proc/PID/cgroup"
        raise UsageError(msg)
    if kind == SelectorKind.CONTAINER:
        from pidwarden.model.container import is_id  # noqa: PLC0415  (its patterns take longer than all else here)

        if not is_id(value):
            msg = f"{text!r}: {value!r} is no container's id or name; `pidwarden ps -o container,pid,comm` shows them"
            raise UsageError(msg)
    if kind == SelectorKind.NSPID:
        number, at, namespace = value.partition("@")
        if not _number(number, PID_MAX) or (at and not _number(namespace, _LARGEST_NAMESPACE)):
            msg = f"{text!r}: type nspid:N or nspid:N@NAMESPACE, as `pidwarden ps -o nspid,pidns` shows them"
            raise UsageError(msg)
    return Selector(SelectorKind(kind), value)
