"""Numbers and names in the sentences of findings. Pure."""

from __future__ import annotations

from pidwarden.model.text import escape


def count(number: int, what: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def seconds(ns: int) -> str:
    """Ns as seconds with one decimal."""
    return f"{ns / 1e9:.1f} s"


def who(pid: int, comm: bytes = b"") -> str:
    """``name (pid)``."""
    return f"{escape(comm)} ({pid})" if comm else f"pid {pid}"
