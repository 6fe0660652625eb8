"""Text for people: names as their owners chose them, made harmless; numbers short enough to read."""

from __future__ import annotations


def escape(name: bytes) -> str:
    r"""A process's name for showing: anything but printable characters as ``\xNN`` or ``\uNNNN``."""
    text = name.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def milliseconds(ns: int) -> float:
    """Ns as ms with one decimal."""
    return round(ns / 1e6, 1)
