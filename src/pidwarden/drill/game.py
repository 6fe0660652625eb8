"""A game day: bombs of several shapes, one after the other, each in a pen, against the guard as it is shipped."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from pidwarden.drill import lessons, shapes, stage
from pidwarden.drill.account import Account, Result
from pidwarden.drill.guarded import GuardedBy
from pidwarden.drill.lines import Ear, Speaker
from pidwarden.drill.pen import DeadMan, Pen
from pidwarden.errors import NoPermission, NotPossible, PidwardenError, UsageError
from pidwarden.kernel.limits import machine_limits

if TYPE_CHECKING:
    from types import TracebackType

CAP = 3000  # ten times hold_at: a bomb that gets so far was not contained
_YARD_CAP = 500  # the stage and its bystanders need about ten
_SPARE_SLOTS = 2000  # what the machine keeps, should a bomb fill its pen
_LOOK_SECONDS = 0.05  # between looks at the pen, which has nothing to wait on
_STAGE_SECONDS = 30.0
_PROGRESS_SECONDS = 15.0  # without a word from the guard, it is taken not to manage; pid 1 here reaps 500 in up to 3 s
_MOST_SECONDS = 90.0  # for one shape
_DEADLINE_SECONDS = 240.0  # of the dead-man switch: more than all of the above together

Tell = Callable[[str, dict[str, Any]], None]


def check_shapes(names: list[str]) -> None:
    """Whether there are such bombs.

    Raises:
        UsageError: an unknown shape.
    """
    for name in names:
        if name not in shapes.SHAPES:
            known = ", ".join((*shapes.SHAPES, *lessons.LESSONS))
            msg = f"there is no shape {name!r}; type --shape with one of {known}"
            raise UsageError(msg)


def check_root() -> None:
    """Whether we may.

    Raises:
        NoPermission: not root.
    """
    if os.geteuid() != 0:
        msg = (
            "a drill makes cgroups, loads BPF programs and signals other users' processes; type `sudo pidwarden drill`"
        )
        raise NoPermission(msg)


def check(names: list[str], cap: int, hold_at: int) -> None:
    """Whether a drill makes sense and may be held here.

    Raises:
        UsageError: an unknown shape, or a cap that could not tell a contained bomb from one that got away.
        NoPermission: not root.
        NotPossible: the machine has too few free process ids for a pen of that size.
    """
    check_shapes(names)
    if cap < 2 * hold_at:
        msg = f"a pen of {cap} tells nothing about a guard that holds at {hold_at}; type --cap {2 * hold_at} or more"
        raise UsageError(msg)
    check_root()
    tightest = machine_limits()[0]
    if tightest.free < cap + _SPARE_SLOTS:
        most = tightest.free - _SPARE_SLOTS
        advice = f"type --cap {most}" if most >= 2 * hold_at else f"raise it, or lower what is in use ({tightest.used})"
        msg = f"a pen of {cap} is too large for this machine: {tightest.name} leaves {tightest.free} free; {advice}"
        raise NotPossible(msg)


class Game:
    """From ``with`` (the guard is ready) to its end (the guard has gone and left nothing).

    `tell` is called with what happens while it happens: a word and its facts. `options` go to the guard.
    """

    def __init__(self, *, cap: int = CAP, options: list[str] | None = None, tell: Tell) -> None:
        self._cap, self._options, self._tell = cap, options or [], tell
        self._queue: list[dict[str, Any]] = []  # the guard's events of this shape, not yet accounted for
        self._said: dict[str, Any] = {}  # the stage's words of this shape
        self._stage: Speaker | None = None
        self._heard_at = 0.0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._ear = stack.enter_context(Ear())
            self.guard = stack.enter_context(GuardedBy(self._ear, self._options))
            self._stack = stack.pop_all()
        self._tell("ready", self.guard.ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    # -- one shape -----------------------------------------------------------------------------------------------------

    def play(self, shape: str) -> Result:
        """Sets a bomb off and follows it to its end, which is the pen's if it is not the guard's.

        Raises:
            PidwardenError: the drill itself failed, or the guard died; the bomb is dead all the same.
        """
        self._queue.clear()
        self._said.clear()
        with contextlib.ExitStack() as stack:
            pen, yard = Pen(self._cap), Pen(_YARD_CAP, slow=False)
            stack.enter_context(DeadMan([*pen.directories, *yard.directories], _DEADLINE_SECONDS))
            stack.enter_context(pen)
            stack.enter_context(yard)
            self._start_stage(stack, shape, pen, yard)
            # Last in, first out: whatever happens from here on, the bomb dies before anything is waited for.
            stack.callback(pen.kill)
            account = self._detonate(shape, pen)
            if not self._follow(account, pen):
                account.result.notes.append(self._why_not(account, pen))
                self._tell("escaped", {"why": account.result.notes[-1]})
            alive, peak = pen.populated(), pen.peak()
            result = account.finish(pen_peak=peak, pen_left=pen.current(), alive=alive)
            if alive:
                pen.kill()
            self._ask_bystanders(result)
        self._stage = None
        self._tell("result", result.as_json())
        return result

    def _start_stage(self, stack: contextlib.ExitStack, shape: str, pen: Pen, yard: Pen) -> None:
        command = [sys.executable, "-I", "-S", stage.__file__, shapes.__file__, shape, *pen.entrances]
        speaker = self._stage = Speaker("stage", command, preexec_fn=yard.enter)
        stack.callback(speaker.close)
        stack.callback(speaker.end, 5.0)
        self._ear.add(speaker)
        stack.callback(self._ear.drop, speaker)
        if not self._until(lambda: "ready" in self._said, _STAGE_SECONDS):
            msg = (
                f"the bystanders were not ready within {_STAGE_SECONDS:.0f} s; nothing was set off. {speaker.errors()}"
            )
            raise PidwardenError(msg)

    def _detonate(self, shape: str, pen: Pen) -> Account:
        assert self._stage is not None
        self._tell("shape", {"shape": shape, "cap": pen.cap, "bystanders": len(self._said["ready"])})
        self._stage.order("go")
        self._until(lambda: "boot_ns" in self._said or "failed" in self._said, _STAGE_SECONDS)
        if "boot_ns" not in self._said:
            why = self._said.get("failed", f"no answer from the stage within {_STAGE_SECONDS:.0f} s")
            msg = f"{shape}: {why}; nothing was learnt. {self._stage.errors()}"
            raise PidwardenError(msg)
        return Account(shape, pen.cap, self._said["boot_ns"])

    def _follow(self, account: Account, pen: Pen) -> bool:
        """Whether the guard came to the end of it."""
        end = time.monotonic() + _MOST_SECONDS
        self._heard_at = time.monotonic()
        while not (account.cleared and not pen.current()):
            now = time.monotonic()
            if now >= min(end, self._heard_at + _PROGRESS_SECONDS):
                return False
            pen.current()
            self._listen(_LOOK_SECONDS)
            for event in self._queue:
                if event["event"] == "held":
                    pen.ease()
                alarm = account.hear(event)
                if alarm is not None:
                    self._tell(str(event["event"]), event | {"alarm": alarm})
            self._queue.clear()
        return True

    def _why_not(self, account: Account, pen: Pen) -> str:
        where = f"{pen.current()} tasks are in the pen of {pen.cap}, at most {pen.peak()} were"
        if not account.result.alarms:
            return f"the guard noticed nothing in {_PROGRESS_SECONDS:.0f} s; {where}"
        if not account.killed:
            verdicts = ", ".join(a.verdict or "none" for a in account.result.alarms)
            return f"the guard killed nobody (verdicts: {verdicts}); {where}"
        return f"the guard killed, but did not see the last of them off within {_PROGRESS_SECONDS:.0f} s; {where}"

    def _ask_bystanders(self, result: Result) -> None:
        assert self._stage is not None
        self._stage.order("report")
        self._until(lambda: "report" in self._said, _STAGE_SECONDS)
        report = self._said.get("report")
        if report is None:
            result.bystanders_hurt = ["the stage itself, parent of the bystanders, is dead or stopped"]
            return
        result.bystanders_hurt, result.worst_delay_ms = report["hurt"], report["worst_delay_ms"]

    # -- listening -----------------------------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Listens until something is so; False if it is not within so many seconds, or the stage has ended."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= end or "ended" in self._said:
                return False
            self._listen(end - time.monotonic())
        return True

    def _listen(self, seconds: float) -> None:
        for speaker, message in self._ear.listen(seconds):
            if speaker is self._stage:
                self._said |= message
            elif "ended" in message:
                raise self.guard.died()
            else:
                self._heard_at = time.monotonic()
                self._queue.append(message)
