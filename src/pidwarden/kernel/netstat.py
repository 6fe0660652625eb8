"""Files of /proc/net/stat: a line of names, then one of hexadecimal numbers for each possible processor."""

from __future__ import annotations

from pidwarden.kernel.tables.base import content


def rows(data: bytes) -> list[dict[str, int]]:
    """One for each processor, in order; those that are not whole are left out."""
    lines = data.decode("ascii", "replace").splitlines()
    names = lines[0].split() if lines else []
    found = []
    for line in lines[1:]:
        words = line.split()
        if len(words) == len(names):
            try:
                found.append({name: int(word, 16) for name, word in zip(names, words, strict=True)})
            except ValueError:
                continue
    return found


def totals(path: str) -> dict[str, int] | None:
    """All processors together; ``entries`` is the same in every line. None: it is not there."""
    found = rows(content(path) or b"")
    if not found:
        return None
    return {name: sum(row[name] for row in found) for name in found[0]} | {"entries": found[0].get("entries", 0)}
