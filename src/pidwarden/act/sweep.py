"""Holding without a gate: SIGSTOP, again and again, until two passes in a row find nobody who still grows.

Group signals come first, where they hit members of held families and nobody else: they are atomic against fork. Then
everybody by himself. A SIGSTOP goes out by number, from books that are microseconds old, and identity is checked
afterwards: a pid cannot come round again in that time unless the table is full, and whoever was hit by mistake gets his
SIGCONT at once. Nothing that cannot be undone is done that way. See docs/adr/0018.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pidwarden.act.kill import Execution
    from pidwarden.model.key import ProcessKey
    from pidwarden.watch.base import Swept

SECOND = 1_000_000_000
_QUIET = 2  # passes in a row that find nothing
_FEW, _PATIENCE_NS = 8, SECOND // 4  # found in a pass after so long: a chain of fork and exit, never to stand still
_LONGEST_NS = 5 * SECOND
_AGAIN_NS, _SHARE = 10_000_000, 10  # while something is held: look again so often, in at most this part of the time
_RECHECKED = 200  # stopped members looked at each time, whether somebody continued them


class Still(NamedTuple):
    """How a sweep ended."""

    still: bool  # two passes found nothing
    passes: int
    stopped: int
    groups: int  # signals that hit a whole group


class Sweeper:
    """Stops the held members of a source that has no gate. It stands where the gate would."""

    name = "none: SIGSTOP in sweeps"
    hole = (
        "a bomb may grow while it is swept, members may continue each other until they are killed, and a chain of fork "
        "and exit may not be caught while it moves"
    )

    def __init__(self, source: Swept) -> None:
        self.source = source
        self._due_ns = 0

    def stand_still(self) -> Still:
        """Stops everybody in held groups who grows, until nobody is left, or patience is."""
        source, began = self.source, boot_ns()
        passes = quiet = stopped = groups = 0
        doubtful: set[ProcessKey] = set()
        while quiet < _QUIET:
            source.refresh()
            passes += 1
            if passes in (1, 3):
                groups += self._stop_groups()
            new = _send({*source.loose(), *source.fresh()} - doubtful, signal.SIGSTOP)
            doubtful.update(new)
            quiet = 0 if new else quiet + 1
            if not new or passes % 4 == 0:
                stopped += self._confirm(doubtful)
                doubtful.clear()
            if boot_ns() - began > (_PATIENCE_NS if 0 < len(new) <= _FEW else _LONGEST_NS):
                break
        stopped += self._confirm(doubtful)
        self._interrupt()
        self._due_ns = boot_ns() + _AGAIN_NS
        return Still(quiet >= _QUIET, passes, stopped, groups)

    def next_ns(self) -> int | None:
        """When :meth:`tick` is due; None: nothing is held."""
        return self._due_ns or None

    def tick(self, *, held: bool) -> None:
        """While something is held: whoever was continued, or came since, is stopped again."""
        now = boot_ns()
        if not held:
            self._due_ns = 0
        elif now >= self._due_ns:
            self.source.recheck(_RECHECKED)
            self.source.refresh()
            self._confirm(_send(self.source.loose(), signal.SIGSTOP))
            self._interrupt()
            self._due_ns = boot_ns() + max(_AGAIN_NS, _SHARE * (boot_ns() - now))

    def chase(self, execution: Execution, families: set[int], seconds: float) -> int:
        """For so long: kills whoever is born into those families, within microseconds of the announcement.

        If nobody is, it waits for the signalled to end, and lets them have the processor. How many of them still run.
        """
        deadline = boot_ns() + int(seconds * SECOND)
        quiet = 0
        while quiet < _QUIET:
            self.source.refresh()
            born = self.source.fresh(families)
            for key in born:
                execution.strike_newborn(key)
            quiet = 0 if born else quiet + 1
            if boot_ns() >= deadline:
                return execution.running(0.0)
        return execution.running(max(0, deadline - boot_ns()) / SECOND)

    def _stop_groups(self) -> int:
        groups = self.source.whole_process_groups()
        for group in groups:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGSTOP)
        uid = os.geteuid() or None
        if uid is not None and self.source.is_whole_user(uid):
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGSTOP)
        else:
            uid = None
        if groups or uid is not None:
            _send(self.source.note_stopped(process_groups=groups, uid=uid), signal.SIGCONT)
        return len(groups) + (uid is not None)

    def _confirm(self, keys: Collection[ProcessKey]) -> int:
        wrong = [key for key in keys if not self.source.confirm(key)]
        _send(wrong, signal.SIGCONT)
        return len(keys) - len(wrong)

    def _interrupt(self) -> None:
        _send(self.source.interrupts(), signal.SIGINT)


def _send(keys: Iterable[ProcessKey], number: int) -> list[ProcessKey]:
    """Signals by number; who could be signalled."""
    reached = []
    for key in keys:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(key.tgid, number)
            reached.append(key)
    return reached
