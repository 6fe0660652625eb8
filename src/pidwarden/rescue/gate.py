"""The gate in the kernel, for a rescue: from the moment it holds them no member forks, and one pass finds everybody.

It belongs to this process alone: nothing is pinned, and whatever ends this process takes the gate down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel.config import Config
from pidwarden.kernel.gates import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.gates import Gate
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record

_SECOND = 1_000_000_000
_UNLIMITED = 2**31 - 1
_ROUNDS = 20  # of moving who was born meanwhile; more only if something is wrong
# It lives as long as this process, not as long as signs of life come; and it holds only what it is told to.
_CONFIG = Config(
    branch_age_ns=_SECOND,
    job_gap_ns=_SECOND,
    lease_ns=2**62,
    hold_at=_UNLIMITED,
    family_hold_at=_UNLIMITED,
    depth_limit=_UNLIMITED,
    autohold=False,
    only_scoped=False,
)


class KernelGate:
    """The gate, up but holding nobody. Close it."""

    def __init__(self, tasks: int) -> None:
        """Loads it, with room for twice as many tasks as there are.

        Raises:
            PidwardenError: this kernel does not let us, and why.
        """
        choice = Choice()
        self._programs = choice.load(max_records=max(4096, 2 * tasks))
        try:
            self._programs.configure(_CONFIG)
            self._programs.attach_history()
            self._programs.seed()
            self._gate: Gate = choice.put_up(self._programs)
        except BaseException:
            self._programs.close()
            raise
        self._family = 0

    @property
    def name(self) -> str:
        """What it is called."""
        return self._gate.name

    def hold(self, members: Iterable[ProcessKey]) -> int:
        """None of them forks from now on, nor who descends from them; how many that are. Undo: :meth:`close`."""
        wanted = {(k.tgid, k.start_ticks) for k in members}
        moved: set[ProcessKey] = set()
        for _ in range(_ROUNDS):
            records = [r for r in self._programs.records() if r.key not in moved]
            new = [r for r in records if r.alive and ((r.key.tgid, r.key.start_ticks) in wanted or r.parent in moved)]
            if not new:
                break
            self._move(new)
            moved |= {r.key for r in new}
        return len(moved)

    def _move(self, records: list[Record]) -> None:
        if not self._family:
            self._family = self._programs.split(records[0].family, records[0].key)
        if self._family:
            for record in records:
                self._programs.move(record.key, self._family)

    def close(self) -> None:
        """Takes it down. Who it stopped stays so: he is among those that a freeze has stopped, or a kill will end."""
        self._programs.close()
