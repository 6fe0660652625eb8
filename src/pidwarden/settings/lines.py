"""Which line of a TOML file sets something, as neither library says."""

from __future__ import annotations

import re


def line_of(text: str, message: str) -> str:
    """The line that sets what a message is about, or the table or list that it is in."""
    where, field = re.search(r"`\$\.?([^`]*)`", message), re.search(r"field `([^`]+)`", message)
    wanted = [*re.findall(r"[A-Za-z_]+", where[1] if where else ""), *([field[1]] if field else [])]
    found = [(_common(keys, wanted), number) for number, keys in _keys_of(text)]
    depth, number = max(found, key=lambda f: (f[0], -f[1]), default=(0, 0))
    return f", line {number}" if depth else ""


def _keys_of(text: str) -> list[tuple[int, list[str]]]:
    """Each line that names something, with the names on the way to it: tables and the key, or the table itself."""
    table: list[str] = []
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+([^\]=]+)\]", line):
            table = _names(header[1])
            found.append((number, table))
        elif key := re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line):
            found.append((number, [*table, *_names(key[1])]))
    return found


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _common(keys: list[str], wanted: list[str]) -> int:
    """How many of `wanted` they name, in order; 0 if they lead elsewhere."""
    return len(keys) if keys == wanted[: len(keys)] else 0
