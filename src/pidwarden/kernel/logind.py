"""What systemd and its login manager wrote down, read without asking them: sessions, users, units.

``/run/systemd/sessions/ID`` and ``users/UID`` are logind's (sd-login(3) reads them as well). A unit has
``/run/systemd/units/invocation:NAME`` from when it starts until it is inactive or has failed (systemd's core/unit.c,
``unit_unlink_state_files``), for a user's units below his runtime directory. Linger is a file in ``/var/lib``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = 8192


class Logind:
    """The files below `root`, which tests put somewhere else; `name_of` gives the name of a user."""

    def __init__(self, name_of: Callable[[int], str], root: str = "") -> None:
        self._name_of = name_of
        self._run, self._linger = f"{root}/run", f"{root}/var/lib/systemd/linger"

    def session(self, name: str) -> tuple[bool | None, int]:
        """Whether a login session is open, None where no login manager keeps any; and its first process, 0 unknown.

        A session that is closing has processes left and nobody who logged in: it is not open.
        """
        directory = f"{self._run}/systemd/sessions"
        found = _pairs(f"{directory}/{name}")
        if found is None:
            return (False if os.path.isdir(directory) else None), 0
        leader = found.get("LEADER", "")
        return found.get("STATE") != "closing", int(leader) if leader.isdecimal() else 0

    def user(self, uid: int) -> bool | None:
        """Whether a user is logged in; None where no login manager keeps users."""
        directory = f"{self._run}/systemd/users"
        found = _pairs(f"{directory}/{uid}")
        if found is None:
            return False if os.path.isdir(directory) else None
        return found.get("STATE") not in ("closing", "offline", "lingering")

    def lingers(self, uid: int) -> bool:
        """Whether the user's manager and what it started stay without a login (loginctl(1), enable-linger)."""
        name = self._name_of(uid)
        return "/" not in name and os.path.exists(f"{self._linger}/{name}")

    def active(self, unit: str, user: int | None = None) -> bool | None:
        """Whether a unit is active, or on its way to it or from it; None where that is not to be seen."""
        directory = f"{self._run}/systemd/units" if user is None else f"{self._run}/user/{user}/systemd/units"
        try:
            os.readlink(f"{directory}/invocation:{unit}")
        except FileNotFoundError:
            return False if os.path.isdir(directory) else None
        except OSError:
            return None
        return True


def _pairs(path: str) -> dict[str, str] | None:
    """The ``KEY=VALUE`` lines of a file; None if it is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(_BYTES).splitlines()
    except OSError:
        return None
    return {key: value.strip('"') for key, _is, value in (line.partition("=") for line in lines)}
