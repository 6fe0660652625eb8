"""How a guard comes to its source: opened, told the thresholds, and everybody enrolled who was there before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.guard import executables
from pidwarden.guard.harden import refuse_nested
from pidwarden.guard.succession import take_in
from pidwarden.judge.case import SECOND
from pidwarden.kernel import foreign
from pidwarden.kernel.bpf import Config, Programs
from pidwarden.kernel.gates import Gate, put_up
from pidwarden.kernel.pins import Pins
from pidwarden.watch.choose import Chosen, choose
from pidwarden.watch.connector import ConnectorSource
from pidwarden.watch.poll import PollSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.guard.scope import Scope
    from pidwarden.settings import Settings
    from pidwarden.watch.base import Source
    from pidwarden.watch.live import Live

UNLIMITED = 2**31 - 1


def thresholds(settings: Settings, scope: Scope, hold_at: int = 0, *, autohold: bool | None = None) -> Config:
    """What a source is told; with `hold_at` other limits than the configured ones."""
    return Config(
        branch_age_ns=int(settings.branch_age * SECOND),
        job_gap_ns=int(settings.job_gap * SECOND),
        lease_ns=int(settings.lost_after * SECOND),
        hold_at=hold_at or settings.hold_at,
        family_hold_at=hold_at or settings.family_limit,
        depth_limit=hold_at or settings.generations,
        autohold=settings.mode != "observe" if autohold is None else autohold,
        only_scoped=not scope.everything,
        history=settings.history,
        keep=settings.lost_then == "keep",
        only=tuple(scope.pids),
    )


class Beginning:
    """Opens the best source there is. Nothing is held while those are enrolled who were there before."""

    def __init__(self, settings: Settings, scope: Scope, instance: str) -> None:
        self._settings, self._scope, self._instance = settings, scope, instance
        self.pins: Pins | None = None
        self._taken_in = False
        self.gate: Gate | None = None

    @property
    def adopted(self) -> bool:
        """Whether anything of a guard before was taken over."""
        return self._taken_in or (self.pins is not None and self.pins.adopted)

    @property
    def notes(self) -> list[str]:
        """What a person should know about the pins."""
        return self.pins.notes if self.pins else []

    def open(self) -> Chosen:
        """The source, enrolled but not yet with its limits.

        Raises:
            PidwardenError: none works here, or not the one that was asked for.
        """
        openers: dict[str, Callable[[], Source]] = {
            "bpf": self._bpf,
            "connector": lambda: self._live(ConnectorSource(self._settings.max_records)),
            "poll": lambda: self._live(PollSource(self._settings.max_records)),
        }
        if os.geteuid() != 0:
            del openers["bpf"]
        return choose(self._settings.source, openers)

    def _calm(self) -> Config:
        return thresholds(self._settings, self._scope, UNLIMITED, autohold=False)

    def _live(self, source: Live) -> Source:
        source.configure(self._calm())
        source.set_executables(executables.identify(self._settings))
        source.seed()
        return source  # type: ignore[return-value]  # its `name` may change, the protocol's does not

    def _bpf(self) -> Source:
        refuse_nested()
        pins = Pins(self._instance)
        programs = pins.adopt()
        if programs is None:
            others = [(where, foreign.read(where)) for where in pins.foreign()]
            programs = Programs.load(max_records=self._settings.max_records)
            try:
                programs.set_executables(executables.identify(self._settings))
                programs.configure(self._calm())
                programs.attach_history()
                programs.seed()
                self.gate = put_up(programs)
                pins.pin(programs)  # before anybody can be held: whoever is stopped needs somebody to be woken by
                for where, found in others:
                    take_in(programs, found)
                    pins.drop(where)
                    self._taken_in = True
            except BaseException:
                pins.remove()
                programs.close()
                raise
        else:
            programs.set_executables(executables.identify(self._settings))
        self.pins = pins
        return programs
