"""Which processes a command of the console is about: ``pid:N``, ``comm:NAME``, ``user:U`` … or a suspect's number."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import UsageError
from pidwarden.kernel import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pidwarden.rescue.suspects import Suspect
    from pidwarden.rescue.table import Proc

_COMM_LEN = 15
USERS = "/etc/passwd"
KINDS = {
    "pid": "pid:N",
    "comm": "comm:NAME, as ps shows it",
    "exe": "exe:PATH of its program",
    "user": "user:NAME or its number",
    "pgrp": "pgrp:N, a process group",
    "session": "session:N",
    "cgroup": "cgroup:PATH, and below it",
    "family": "family:N, while a guard runs",
}
_NUMBERS = ("pid", "pgrp", "session", "family")


class Chosen(NamedTuple):
    """What a command is about: suspects of the last look, or whoever fits all of some conditions."""

    suspects: tuple[int, ...]  # from 1
    conditions: tuple[tuple[str, str], ...]

    @property
    def by_process(self) -> bool:
        """Whether single processes are named, so that nobody but they and their descendants is meant."""
        return any(kind in ("pid", "family") for kind, _value in self.conditions)


def parse(words: Sequence[str]) -> Chosen:
    """Several numbers are any of these suspects, several conditions have to hold all at once.

    Raises:
        UsageError: a word is neither, or both are mixed.
    """
    numbers, conditions = [], []
    for word in words:
        kind, colon, value = word.partition(":")
        if word.isascii() and word.isdecimal():
            numbers.append(int(word))
        elif not colon or kind not in KINDS or not value:
            msg = f"{word!r} names nobody; type a suspect's number from `who`, or {', '.join(KINDS.values())}"
            raise UsageError(msg)
        elif kind in _NUMBERS and not (value.isascii() and value.isdecimal()):
            msg = f"{word!r}: {value!r} is not a number"
            raise UsageError(msg)
        else:
            conditions.append((kind, value))
    if not numbers and not conditions:
        msg = "say whom: a suspect's number from `who`, or one of " + ", ".join(KINDS.values())
        raise UsageError(msg)
    if numbers and conditions:
        msg = "a suspect's number is enough; type numbers only, or conditions only"
        raise UsageError(msg)
    return Chosen(tuple(numbers), tuple(conditions))


def suspects_of(chosen: Chosen, known: Sequence[Suspect]) -> list[Suspect]:
    """The suspects meant.

    Raises:
        UsageError: there is no such suspect.
    """
    for number in chosen.suspects:
        if not 1 <= number <= len(known):
            msg = f"there is no suspect {number}; `who` looks and numbers them"
            raise UsageError(msg)
    return [known[number - 1] for number in chosen.suspects]


def matching(
    chosen: Chosen, everybody: Iterable[Proc], family: Callable[[int], frozenset[tuple[int, int]]]
) -> list[Proc]:
    """Those who fit all conditions, kernel threads left out. `family` gives (pid, start in ticks) of its members.

    Raises:
        UsageError: there is no such user.
        PidwardenError: no guard runs that knows the family.
    """
    tests = [_test(kind, value, family) for kind, value in chosen.conditions]
    return [p for p in everybody if not p.kernel and all(test(p) for test in tests)]


def _test(kind: str, value: str, family: Callable[[int], frozenset[tuple[int, int]]]) -> Callable[[Proc], bool]:
    if kind == "comm":
        name = os.fsencode(value)[:_COMM_LEN]
        return lambda p: p.comm == name
    if kind == "exe":
        return lambda p: p.exe in (value, f"{value} (deleted)")
    if kind == "user":
        uid = uid_of(value)
        return lambda p: p.uid == uid
    if kind == "cgroup":
        path = value.rstrip("/")
        return lambda p: cgroup.within(p.pid, path)
    number = int(value)
    if kind == "family":
        members = family(number)
        return lambda p: (p.pid, p.start_ticks) in members
    return lambda p: getattr(p, kind) == number  # pid, pgrp, session


def users(path: str = USERS) -> dict[str, int]:
    """The users of the machine's own file: no directory service is asked, which may not answer now (passwd(5))."""
    found: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split(":")
                if len(fields) > 2 and fields[2].isdecimal():  # noqa: PLR2004  (name:password:uid:…)
                    found.setdefault(fields[0], int(fields[2]))
    except OSError:
        pass
    return found


def uid_of(text: str) -> int:
    """The uid of a user's name or number.

    Raises:
        UsageError: /etc/passwd has no such user.
    """
    if text.isascii() and text.isdecimal():
        return int(text)
    uid = users().get(text)
    if uid is None:
        msg = f"/etc/passwd has no user {text!r}; type the number (`ps` shows them)"
        raise UsageError(msg)
    return uid
