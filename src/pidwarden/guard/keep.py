"""How a held family is kept still: by a gate in the kernel, or where there is none by sweeps; and how it is let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pidwarden.act import hold as holding
from pidwarden.act.sweep import Sweeper
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.gates import GATES, Gate, in_use

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.act.kill import Execution
    from pidwarden.kernel.bpf import Programs
    from pidwarden.watch.base import Source, Swept

WAKE_AGAIN_NS = 20_000_000
_TIGHT_NS = 10_000_000_000  # without another fork past the gate; then it costs everybody nothing again
_DOUBT_NS = 1_000_000_000


class Keeper:
    """Stands between the responder and whatever stops processes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.gate: Gate = (in_use(cast("Programs", source)) if source.gated else None) or GATES[-1]
        self.sweeper = None if source.gated else Sweeper(cast("Swept", source))
        self._wake_at_ns = self._tight_until_ns = 0
        self._again: tuple[int, list[int]] = (0, [])  # when to raise the alarm of which groups anew

    @property
    def name(self) -> str:
        """How families are held."""
        return self.sweeper.name if self.sweeper else self.gate.name

    def hold(self, group: int) -> str:
        """A group is held, or is to be: afterwards it stands still. A note if it does not."""
        holding.hold(self.source, group)
        if self.sweeper is None:
            self._tighten(on=True)
            return ""
        found = self.sweeper.stand_still()
        if found.still:
            return ""
        return f"after {found.passes} sweeps, which stopped {found.stopped}, there are still newcomers"

    def tick(self, *, held: bool) -> None:
        """Called whenever the guard has nothing else to do; `held`: an incident is open."""
        if self._wake_at_ns and boot_ns() >= self._wake_at_ns:
            self._wake_at_ns = 0
            self.wake_released()
        if self.sweeper:
            self.sweeper.tick(held=held)
            when, groups = self._again
            if groups and boot_ns() >= when:
                self._again = (0, [])
                for group in groups:
                    self.sweeper.source.alarm_again(group)
        elif not held and boot_ns() >= self._tight_until_ns:
            self._tight_until_ns = 0
            self._tighten(on=False)

    def next_ns(self) -> list[int]:
        """When :meth:`tick` is due."""
        due = (self._wake_at_ns, self._tight_until_ns, self._again[0], self.sweeper.next_ns() if self.sweeper else 0)
        return [at for at in due if at]

    def doubt(self, groups: Iterable[int]) -> None:
        """They are let go in doubt. Without a gate they may be far past their limits, and whatever else limits them may
        keep them from ever reaching the next: so those that are busy a moment later are judged again.
        """
        if self.sweeper:
            self._again = boot_ns() + _DOUBT_NS, [*self._again[1], *groups]

    def chase(self, execution: Execution, families: Iterable[int], seconds: float) -> int:
        """Waits for the signalled to end, at most so long; meanwhile kills newcomers where no gate keeps them out."""
        if self.sweeper is None:
            return execution.running(seconds)
        return self.sweeper.chase(execution, set(families), seconds)

    def wake_soon(self) -> None:
        """Continues who was stopped and is not held any more, now and once again."""
        self.wake_released()
        self._wake_at_ns = boot_ns() + WAKE_AGAIN_NS

    def wake_released(self) -> None:
        """Continues who was stopped and is not held any more."""
        self.source.unfold(boot_ns())
        holding.wake_released(self.source)

    def close_holes(self) -> None:
        """Forks go past the gate, and half of a budget is used: for a while it is tightened, though nothing is held."""
        self._tight_until_ns = boot_ns() + _TIGHT_NS
        self._tighten(on=True)

    def _tighten(self, *, on: bool) -> None:
        self.gate.tighten(cast("Programs", self.source), on=on)
