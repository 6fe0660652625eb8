"""Who sets a limit besides us: lines of files that are applied at boot, and programs that write it themselves. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Assignment(NamedTuple):
    """One line of a sysctl file, in the order in which they are applied. ``key`` has slashes, as below /proc/sys.

    ``value`` None: the key is only taken out of what patterns match (sysctl.d(5)). ``applied``: whether the init of
    this machine applies that file at boot; otherwise only `sysctl --system` does.
    """

    path: str
    line: int
    key: str
    value: str | None
    applied: bool = True


class Claim(NamedTuple):
    """Somebody else who sets a value.

    ``where`` is a file, with its line, or what runs; ``does`` says what it does and when, in words for people.
    ``value`` is what it sets, empty if that is not known; ``key`` as in :class:`Assignment`.
    """

    who: str
    where: str
    does: str
    key: str
    value: str = ""
    last: bool = False  # it comes after the sysctl files, and so decides
