"""Which of many lines decides what a limit is after the next boot, and who else sets it. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.limit import path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pidwarden.model.limit import Setting
    from pidwarden.model.owner import Assignment, Claim

_PATTERN = frozenset("*?[")


class AtBoot(NamedTuple):
    """Who sets a key at boot: the line that decides, those that it overrides, and those that only a person applies."""

    decides: Assignment | None
    overridden: tuple[Assignment, ...]
    by_hand: tuple[Assignment, ...]


def is_pattern(key: str) -> bool:
    """Whether a key stands for several."""
    return bool(_PATTERN & set(key))


def _matches(pattern: str, key: str) -> bool:
    parts, wanted = pattern.split("/"), key.split("/")
    return len(parts) == len(wanted) and all(fnmatchcase(w, p) for p, w in zip(parts, wanted, strict=True))


def at_boot(lines: Iterable[Assignment], key: str) -> AtBoot:
    """Of lines in order of application those about one key, with slashes: the last decides.

    A line that names the key goes before patterns that match it, wherever they stand (sysctl.d(5)).
    """
    lines = list(lines)
    named = [a for a in lines if a.key == key]
    out = any(a.value is None and a.applied for a in named)
    named = [a for a in named if a.value is not None]
    patterns = [a for a in lines if is_pattern(a.key) and a.value is not None and _matches(a.key, key)]
    ranked = ([] if out else patterns) + named
    applied = [a for a in ranked if a.applied]
    decides = applied[-1] if applied else None
    overridden = tuple(a for a in applied[:-1] if a.value != applied[-1].value)
    return AtBoot(decides, overridden, tuple(a for a in ranked if not a.applied))


def before_us(lines: Sequence[Assignment], key: str, ours: str) -> list[Assignment]:
    """Those lines that are still applied after the file `ours`: they would take the value away from us.

    Names are compared as bytes are, and the file of /etc/sysctl.conf comes last where it is applied at all.
    """
    name = ours.rpartition("/")[2]
    later = [a for a in lines if a.key == key and a.value is not None and a.applied and a.path != ours]
    return [a for a in later if not a.path.rpartition("/")[0].endswith(".d") or a.path.rpartition("/")[2] > name]


class Ours(NamedTuple):
    """What we are about to set: the values by key, slashed; the file that keeps them; whether it will be written."""

    values: Mapping[str, str]
    file: str
    lasts: bool


def warnings(ours: Ours, lines: Sequence[Assignment], claims: Sequence[Claim]) -> list[str]:
    """What a person should know of others who set a limit, before we do."""
    found = []
    others = [a for a in lines if a.path != ours.file]
    for key, value in ours.values.items():
        name = key.replace("/", ".")
        state = at_boot(others, key)
        late = [a for a in before_us(others, key, ours.file) if a.value != value] if ours.lasts else []
        found += [
            f"{_line(a)} is applied after our file and sets {name} to {a.value}: with it the value is lost at the next "
            "boot; change that line"
            for a in late
        ]
        if state.decides and state.decides not in late and state.decides.value != value:
            then = "our file is applied after it" if ours.lasts else "so it will be again after the next boot"
            found.append(f"{_line(state.decides)} sets {name} to {state.decides.value}: {then}")
        found += [
            f"{_line(a)} sets {name} to {a.value} whenever somebody types `sysctl --system`"
            for a in state.by_hand
            if a.value != value
        ]
    found += [f"{c.who} ({c.where}) {c.does}" for c in claims if c.key in ours.values and c.value != ours.values[c.key]]
    return list(dict.fromkeys(found))


def owner(setting: Setting, lines: Sequence[Assignment], claims: Sequence[Claim]) -> tuple[str, str]:
    """Who sets a limit on this machine, in a few words, and to what; empty words if nobody but the kernel does."""
    last = [c for c in claims if c.last and c.key in {path(k) for k in setting.keys}]
    if last:
        return f"{last[-1].who} ({last[-1].where})", last[-1].value
    decided = [at_boot(lines, path(key)).decides for key in setting.keys]
    named = [a for a in decided if a is not None]
    if named:
        places = ", ".join(dict.fromkeys(_line(a) for a in named))
        return places, " ".join(a.value or "" for a in named)
    other = [c for c in claims if c.key in {path(k) for k in setting.keys}]
    return (f"{other[-1].who} ({other[-1].where})", other[-1].value) if other else ("", "")


def _line(line: Assignment) -> str:
    return f"{line.path}:{line.line}"
