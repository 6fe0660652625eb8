"""A change of limits before it is made: what would be done, in which order, and what a person should know. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pidwarden.model.undo import Step


class Plan(NamedTuple):
    """Steps in order, none if all is so already.

    ``notes`` are good to know. ``questions`` want a yes. ``refusals`` want more: what would be hurt, and the option
    that does it all the same.
    """

    name: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def amount(size: int) -> str:
    """Bytes for people."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 10 << bits:
            return f"{size / (1 << bits):,.0f} {unit}"
        if size >= 1 << bits:
            return f"{size / (1 << bits):.1f} {unit}"
    return f"{size} bytes"
