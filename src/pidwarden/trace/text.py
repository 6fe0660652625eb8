"""Numbers, strings and flags as strace writes them. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ODD = re.compile(rb"[^ !#-\[\]-~](?=([0-7]?))")
_SHORT: Final = {9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 34: r"\"", 92: r"\\"}
_MEMO: Final = 4096  # values of one kind whose text is kept
BITS_32: Final = 0xFFFFFFFF
BITS_64: Final = 0xFFFFFFFFFFFFFFFF


def _escaped(found: re.Match[bytes]) -> bytes:
    byte = found[0][0]
    short = _SHORT.get(byte)
    return (short or (f"\\{byte:03o}" if found[1] else f"\\{byte:o}")).encode()


def quote(data: bytes, limit: int | None = None, *, more: bool = False) -> str:
    """A C string; of more than `limit` bytes, or if there was `more`, as much as fits and three dots."""
    if limit is not None and len(data) > limit:
        data, more = data[:limit], True
    text = _ODD.sub(_escaped, data).decode("ascii")
    return f'"{text}"...' if more else f'"{text}"'


def signed32(value: int) -> int:
    """An int in C."""
    value &= BITS_32
    return value - (1 << 32) if value >> 31 else value


def signed64(value: int) -> int:
    """A long in C."""
    return value - (1 << 64) if value >> 63 else value


def hexa(value: int) -> str:
    """As ``%#x``: zero has no prefix."""
    return f"{value:#x}" if value else "0"


def pointer(value: int) -> str:
    """An address."""
    return f"{value:#x}" if value else "NULL"


def mode(value: int) -> str:
    """Permissions: at least three digits, as ``%#03o``."""
    return f"0{value:o}" if value > 7 else f"{value:03o}"  # noqa: PLR2004


def flags(
    table: Mapping[int, str], unknown: str = "", order: Iterable[str] = (), fits: Callable[[int], int] = int
) -> Callable[[int], str]:
    """A function from bits to their names; `order` says what comes first, the others by value."""
    first = list(order)
    rows = sorted(table.items(), key=lambda row: (first.index(row[1]) if row[1] in first else len(first), row[0]))
    rows = [(bits, name) for bits, name in rows if bits]
    memo: dict[int, str] = {}

    def text(value: int) -> str:
        found = memo.get(value)
        if found is None:
            found = _flags(fits(value), rows, table.get(0, "0"), unknown)
            if len(memo) < _MEMO:
                memo[value] = found
        return found

    return text


def _flags(value: int, rows: list[tuple[int, str]], zero: str, unknown: str) -> str:
    if not value:
        return zero
    names, left = [], value
    for bits, name in rows:
        if left & bits == bits:
            names.append(name)
            left &= ~bits
    if not names:
        return f"{value:#x} /* {unknown} */" if unknown else f"{value:#x}"
    return "|".join([*names, *([f"{left:#x}"] if left else [])])


def named(table: Mapping[int, str], unknown: str = "") -> Callable[[int], str]:
    """A function from a value to its name."""

    def text(value: int) -> str:
        name = table.get(value)
        if name is not None:
            return name
        return f"{hexa(value)} /* {unknown} */" if unknown else hexa(value)

    return text


def bits(data: bytes, most: int) -> list[int]:
    """The numbers of the bits that are set, below `most`."""
    value = int.from_bytes(data, "little")
    return [n for n in range(min(most, len(data) * 8)) if value >> n & 1]
