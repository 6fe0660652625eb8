"""What the status file is made of: what is held as it is now, the rest as it was last looked at."""

from __future__ import annotations

import heapq
import os
import time
from typing import TYPE_CHECKING

from pidwarden import __version__
from pidwarden.guard.files import IDLE_SECONDS
from pidwarden.guard.statustext import Family, Seen, status_text
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.moment import Clock
from pidwarden.model.record import GroupKind
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from pidwarden.guard.headroom import Headroom, Looks
    from pidwarden.guard.respond import Responder
    from pidwarden.guard.rules import Rules

_FAMILIES = 8
_FAMILIES_NS = 30_000_000_000  # to go over all families takes some milliseconds


class Overview:
    """Looks for the status file."""

    def __init__(self, responder: Responder, looks: Looks, directory: str, rules: Rules | None = None) -> None:
        self._responder, self._looks, self._directory, self._rules = responder, looks, directory, rules
        self._families: list[Family] = []
        self._families_ns = 0  # when they were looked at; 0: something has changed since
        self._room: Headroom | None = None

    def text(self, anew: bool) -> str:  # noqa: FBT001  (handed over as a callable)
        """The status file's text; `anew`: with limits looked at again, and families too, if it is time."""
        responder, now = self._responder, boot_ns()
        if anew or self._room is None:
            self._room = self._looks.room()
            if now - self._families_ns >= _FAMILIES_NS:
                self._families, self._families_ns = self._largest(), now
        else:
            self._families_ns = 0
        numbers = [i.guilty_family or i.family for i in responder.incidents]
        groups = {number: responder.source.group(number) for number in numbers}
        return status_text(
            Seen(
                pid=os.getpid(),
                mode=responder.settings.mode,
                version=__version__,
                directory=self._directory,
                clock=Clock(now, time.time_ns()),
                every_seconds=IDLE_SECONDS,
                room=self._room,
                incidents=responder.incidents,
                slots={number: max(0, group.slots) for number, group in groups.items() if group},
                families=self._families,
                past=tuple(responder.past),
                gate=responder.keeper.name,
                rules=self._rules.status() if self._rules else None,
            )
        )

    def _largest(self) -> list[Family]:
        source = self._responder.source
        families = (g for g in source.groups().values() if g.kind == GroupKind.FAMILY)
        found = []
        for group in heapq.nlargest(_FAMILIES, families, key=lambda g: g.slots):
            founder = source.record(group.founder)
            name = f"{escape(founder.comm) if founder else '?'} ({group.founder.tgid})"
            found.append(Family(group.id, name, group.slots, group.limit, group.held))
        return found
