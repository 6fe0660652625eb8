"""Climbing a parent's ladder: the gentlest step first, a look after each, and no step more than it takes.

What was frozen or stopped is so again when the climb ends, whatever ends it. Who is spared is not touched at all.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pidwarden.act.spare import UNPROTECTED, Held, Protection, take, why_spared
from pidwarden.kernel import evidence, freezer, procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pidwarden.act.inject import Injection
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record

THAW, CONTINUE, NOTIFY, INJECT = "thaw", "sigcont", "sigchld", "inject"
RESTART, TERM, KILL = "restart", "sigterm", "sigkill"
STEPS = (THAW, CONTINUE, NOTIFY, INJECT, RESTART, TERM, KILL)  # in this order, whatever the cause
HARMLESS = NOTIFY  # up to here nothing is lost
ASKED = frozenset((THAW, CONTINUE, RESTART, TERM, KILL))  # somebody has frozen or stopped it, or works with it

_HEED_SECONDS = 1.0  # for a handler to run, and for what was stopped to come to its wait
_END_SECONDS = 10.0  # for a program to end in order; a service manager is given as long again
_REAP_SECONDS = 0.002  # a zombie, for whoever reaps them when their parent is gone: slow ones take half of it
_NAP = 0.002
_FIRST_LOOK = 16  # zombies that are looked at before all are counted
_BURST = 2048  # signals between two counts
_SIGCHLD = int(signal.SIGCHLD)


class Rung(Protocol):
    """A step of a ladder, as :mod:`pidwarden.diagnose.remedies` makes them."""

    @property
    def step(self) -> str:
        """Its name; one of STEPS, or something for a person to do."""

    @property
    def do(self) -> str:
        """What is done, as a command or in words."""

    @property
    def risk(self) -> str:
        """What may be lost by it."""

    @property
    def target(self) -> int | str:
        """Whom or what it is done to."""


class Bounds(NamedTuple):
    """How far to go."""

    up_to: str = HARMLESS
    inject: bool = False

    def why_not(self, step: str) -> str:
        """Why a step is not taken; empty if it is."""
        if step not in STEPS:
            return "yours to do"
        if step == INJECT:
            return "" if self.inject else "only with --inject"
        return "" if STEPS.index(step) <= STEPS.index(self.up_to) else f"only with --up-to {step}"


class Tried(NamedTuple):
    """One step that was taken, or tried: how many zombies were left after it, and a remark if it went otherwise."""

    step: str
    do: str
    before: int
    left: int
    remark: str = ""


class Outcome(NamedTuple):
    """What came of a climb."""

    parent: ProcessKey
    tried: tuple[Tried, ...]
    left: int
    why: str = ""  # nothing, or no more, was done
    undone: tuple[str, ...] = ()  # what was put back as it had been
    injection: Injection | None = None


class Means(NamedTuple):
    """What a climb works with."""

    inject: Callable[[ProcessKey, Sequence[ProcessKey]], Injection]
    agreed: Callable[[Rung, int], bool]  # asked before a step of ASKED, with the number of zombies
    protection: Protection = UNPROTECTED
    restart: Callable[[ProcessKey, str], str] | None = None  # the parent's unit; None: by systemd


def ordered(rungs: Iterable[Rung]) -> list[Rung]:
    """The rungs of several findings as one ladder, each step once for each of whom it is done to."""
    seen: dict[tuple[str, int | str], Rung] = {}
    for rung in rungs:
        seen.setdefault((rung.step, rung.target), rung)
    return sorted(seen.values(), key=lambda r: STEPS.index(r.step) if r.step in STEPS else -1)


def remaining(keys: Iterable[ProcessKey]) -> list[ProcessKey]:
    """Those that are zombies still, whoever their parent is by now."""
    found = []
    for key, data in procfs.stats_of(keys):
        rest = data[data.rindex(b")") + 2 :].split(None, 20)
        if rest[0] == b"Z" and int(rest[19]) == key.start_ticks:
            found.append(key)
    return found


class Climb:
    """One parent's ladder. :meth:`run` climbs it; an exception on the way still puts back what was changed."""

    def __init__(
        self, parent: Record, zombies: Sequence[ProcessKey], rungs: Sequence[Rung], bounds: Bounds, means: Means
    ) -> None:
        self._parent, self._left, self._rungs, self._bounds, self._means = parent, list(zombies), rungs, bounds, means
        self._tried: list[Tried] = []
        self._undone: list[str] = []
        self._injection: Injection | None = None
        self._held: Held | None = None

    def run(self) -> Outcome:
        """Climbs until no zombie is left, or no step is."""
        why = ""
        self._held = take(self._parent)
        if self._held is None:
            return self._outcome("the parent is gone meanwhile, or it cannot be held on to")
        with contextlib.ExitStack() as stack:
            stack.callback(self._held.close)
            if spared := why_spared(self._held, self._means.protection):
                return self._outcome(f"the parent is spared: {spared}")
            for rung in self._rungs:
                if not self._left:
                    break
                if self._bounds.why_not(rung.step):
                    continue
                if rung.step in ASKED and not self._means.agreed(rung, len(self._left)):
                    why = f"{rung.step} was not agreed to"
                    break
                before = len(self._left)
                remark = self._take(rung, stack)
                self._left = remaining(self._left)
                self._tried.append(Tried(rung.step, rung.do, before, len(self._left), remark))
        return self._outcome(why)

    def _outcome(self, why: str) -> Outcome:
        return Outcome(self._parent.key, tuple(self._tried), len(self._left), why, tuple(self._undone), self._injection)

    def _take(self, rung: Rung, stack: contextlib.ExitStack) -> str:
        """Takes one step and waits for what comes of it; a remark."""
        if rung.step == THAW:
            return self._thaw(str(rung.target), stack)
        if rung.step == CONTINUE:
            return self._continue(stack)
        if rung.step == INJECT:
            self._injection = found = self._means.inject(self._parent.key, self._left)
            taken = {t.key for t in found.taken}
            self._left = [key for key in self._left if key not in taken]
            return found.why
        return self._notify() if rung.step == NOTIFY else self._end(rung)

    def _end(self, rung: Rung) -> str:
        """Ends the parent, and with it the debt."""
        if rung.step == RESTART:
            from pidwarden.act import unit  # noqa: PLC0415  (brings sockets: only where it comes to that)

            try:
                remark = (self._means.restart or unit.restart)(self._parent.key, rung.do.split()[-1])
            except unit.NotRestartedError as why:
                return str(why)
            return self._ending(2 * _END_SECONDS) or remark
        if not self._signal(signal.SIGTERM if rung.step == TERM else signal.SIGKILL):
            return self._not_signalled()
        return self._ending(_END_SECONDS)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _signal(self, number: int) -> bool:
        return self._held is not None and self._held.signal(number)

    def _thaw(self, directory: str, stack: contextlib.ExitStack) -> str:
        stack.callback(self._freeze_again, directory)
        if not freezer.thaw(directory):
            return f"{directory} could not be thawed; it takes root, or is gone"
        self._settle(_HEED_SECONDS)
        return ""

    def _freeze_again(self, directory: str) -> None:
        if freezer.is_asked(directory) or not os.path.isdir(directory):
            return
        done = freezer.freeze(directory)
        self._undone.append(f"frozen again: {directory}" if done else f"{directory} could not be frozen again")

    def _continue(self, stack: contextlib.ExitStack) -> str:
        stack.callback(self._stop_again)
        if not self._signal(signal.SIGCONT):
            return self._not_signalled()
        self._settle(_HEED_SECONDS)
        return ""

    def _stop_again(self) -> None:
        if not procfs.has_ended(self._parent.key) and self._signal(signal.SIGSTOP):
            self._undone.append("stopped again, as it was")

    def _notify(self) -> str:
        """SIGCHLD as long as it helps: a handler may take one child for each."""
        burst = 1
        while self._left:
            before = len(self._left)
            for _ in range(burst):
                if not self._signal(_SIGCHLD):
                    return self._not_signalled()
                if not self._until(lambda: not self._is_pending(), _HEED_SECONDS):
                    return "the signal stays pending: it is held off, or the program is too busy"
            self._settle(_HEED_SECONDS, below=before)
            if len(self._left) == before:
                return "no zombie less" if burst == 1 else ""
            burst = min(len(self._left), _BURST)
        return ""

    def _is_pending(self) -> bool:
        status = evidence.status(evidence.path(self._parent.key.tgid))
        return status is not None and status.is_pending(_SIGCHLD)

    def _ending(self, seconds: float) -> str:
        """Waits for the parent to end, and for the next reaper; why that did not happen."""
        assert self._held is not None
        poll = select.poll()
        poll.register(self._held.fd, select.POLLIN)
        if not poll.poll(1000 * seconds):
            return f"the parent has not ended within {seconds:g} s"
        self._settle(_END_SECONDS + _REAP_SECONDS * len(self._left))
        return ""

    def _not_signalled(self) -> str:
        gone = procfs.has_ended(self._parent.key)
        return "the parent ended meanwhile" if gone else "it may not be signalled by this user; type `sudo pidwarden …`"

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _until(self, happened: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end:
                return False
            time.sleep(_NAP)
        return True

    def _settle(self, seconds: float, below: int = 0) -> None:
        """Waits until none is left; with `below`, until fewer than that are left and no more are going."""
        some = self._left[:: max(1, len(self._left) // _FIRST_LOOK)]
        if not below:
            self._until(lambda: not remaining(some), seconds)
            self._left = remaining(self._left)
            return
        end = time.monotonic() + seconds
        while self._left and time.monotonic() < end:
            before = len(self._left)
            time.sleep(_NAP)
            self._left = remaining(self._left)
            if before == len(self._left) < below:
                break
