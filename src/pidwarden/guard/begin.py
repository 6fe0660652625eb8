"""How a guard comes to its source: opened, told the thresholds, and everybody enrolled who was there before."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pidwarden.errors import NotPossible
from pidwarden.guard import executables
from pidwarden.guard.harden import refuse_nested
from pidwarden.guard.succession import take_in
from pidwarden.judge.case import SECOND
from pidwarden.kernel import foreign
from pidwarden.kernel.config import Config
from pidwarden.kernel.gates import Choice, Gate, Passed, in_use
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


def thresholds(
    settings: Settings, scope: Scope, hold_at: int = 0, *, autohold: bool | None = None, leaky: bool = False
) -> Config:
    """What a source is told; with `hold_at` other limits than the configured ones; `leaky`: the gate has holes."""
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
        leaky=leaky and settings.mode != "observe",
        refuse=getattr(errno, settings.refuse_with) if settings.at_gate == "refuse" else 0,
        uids=tuple(scope.uids),
        cgroups=tuple(scope.cgroups),
    )


def check_refusal(settings: Settings, gate: Gate | None) -> None:
    """Refuses settings that want forks refused where that cannot be done.

    Raises:
        NotPossible: so it is.
    """
    if settings.at_gate == "refuse" and not (gate and gate.refuses):
        how = f"the gate in use ({gate.name}) can only stop a fork" if gate else "there is no gate in the kernel"
        msg = f'at_gate is "refuse", but {how}; set at_gate = "hold"'
        raise NotPossible(msg)


class Beginning:
    """Opens the best source there is. Nothing is held while those are enrolled who were there before."""

    def __init__(self, settings: Settings, scope: Scope, instance: str) -> None:
        self._settings, self._scope, self._instance = settings, scope, instance
        self.pins: Pins | None = None
        self._taken_in = False
        self.gate: Gate | None = None
        self.passed: list[Passed] = []  # better gates that are not used

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
        if self._settings.gate != "auto":
            msg = f'gate is {self._settings.gate!r}, but only the source bpf has gates; set gate = "auto"'
            raise NotPossible(msg)
        check_refusal(self._settings, None)
        source.configure(self._calm())
        source.set_executables(executables.identify(self._settings))
        source.seed()
        return source  # type: ignore[return-value]  # its `name` may change, the protocol's does not

    def _bpf(self) -> Source:
        refuse_nested()
        pins, settings = Pins(self._instance), self._settings
        programs = pins.adopt()
        if programs is None:
            others = [(where, foreign.read(where)) for where in pins.foreign()]
            choice = Choice(settings.gate, refuse=settings.at_gate == "refuse")
            programs = choice.load(max_records=settings.max_records)
            try:
                programs.set_executables(executables.identify(self._settings))
                programs.configure(self._calm())
                programs.attach_history()
                programs.seed()
                self.gate = choice.put_up(programs)
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
            choice, self.gate = Choice(), in_use(programs)
            try:
                check_refusal(settings, self.gate)
                programs.set_executables(executables.identify(settings))
            except BaseException:
                programs.close()
                raise
            if self.gate and settings.gate not in ("auto", self.gate.key):
                pins.notes.append(f"the gate stays as that guard left it ({self.gate.key}), not {settings.gate}")
        self.pins = pins
        self.passed = choice.better_than(self.gate) if self.gate else []
        return programs
