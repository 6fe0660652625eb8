"""One run of one workload: a fresh guard, pens, the session, and the account of what happened."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from account import Run
from workload import ENTER, NotReady, Place, Workload, environment

from pidwarden.drill.guarded import GuardedBy
from pidwarden.drill.lines import Ear, Interrupted, Speaker
from pidwarden.drill.pen import DeadMan, Pen
from pidwarden.errors import PidwardenError

if TYPE_CHECKING:
    from collections.abc import Callable

CAP = 4000  # tasks, more than ten times hold_at: neither the bomb nor an innocent meets it
_SESSION = Path(__file__).parent / "session.py"
_READY_SECONDS = 30.0
_OLD_SECONDS = 1.3  # a session is older than what it starts, unless the workload says otherwise
_LOOK_SECONDS = 0.05
_AFTER_SECONDS = 0.3  # for what the guard says last
_QUIET_SECONDS = 1.0  # an empty pen and nothing open for so long: the bomb is over
_WAITING_SECONDS = 1.5  # held for a person: what else happens
_REAPED_SECONDS = 8.0  # for whoever owes it to reap the dead
_SPARE_SECONDS = 120.0  # of the dead-man switch, beyond the workload's own time
_numbers = itertools.count(1)


class _Guard(GuardedBy):
    """A guard with a run directory that tells where it comes from; default settings but for `options`."""

    def __init__(self, ear: Ear, options: list[str]) -> None:
        super().__init__(ear, options)
        self.run_dir = f"/run/pidwarden-corpus-{os.getpid()}-{next(_numbers)}"
        self._command[-1] = self.run_dir


class Stage:
    """Where one workload runs, from its preparation to its end."""

    def __init__(self, workload: Workload, options: list[str]) -> None:
        self._workload, self._options = workload, options
        self.run = Run(workload.name, workload.label)
        self._guard: _Guard | None = None
        self.run_dir = ""
        self._session: Speaker | None = None
        self._said: dict[str, Any] = {}
        self._events = 0

    def play(self) -> Run:
        """Runs it. Whatever happens, nothing of it is left afterwards.

        Raises:
            Interrupted: a signal came.
        """
        home = Path(tempfile.mkdtemp(prefix="pidwarden-corpus-"))
        try:
            home.chmod(0o755)  # other users run in it as well
            with contextlib.ExitStack() as stack:
                self._play(stack, home)
            self.run.hurt += self._guard.complaints if self._guard else []
        except NotReady as why:
            self.run.not_run = str(why)
        except Interrupted:
            raise
        except PidwardenError as why:  # the guard died, or a pen would not go: a row of the table, and not its end
            self.run.hurt.append(str(why))
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return self.run

    def _play(self, stack: contextlib.ExitStack, home: Path) -> None:
        workload = self._workload
        bomb, yard = Pen(CAP, slow=not workload.innocent), Pen(CAP, slow=False)
        place = Place(home, environment(home, [] if workload.innocent else bomb.entrances))
        if missing := workload.missing(place.env):
            msg = f"{', '.join(missing)} missing; type `make corpus`"
            raise NotReady(msg)
        workload.prepare(place)
        self._ear = stack.enter_context(Ear())
        self._guard = stack.enter_context(_Guard(self._ear, self._options))
        self.run_dir = self._guard.run_dir
        seconds = workload.seconds + _SPARE_SECONDS
        stack.enter_context(DeadMan([*bomb.directories, *yard.directories], seconds))
        stack.enter_context(bomb)
        stack.enter_context(yard)
        self._command = workload.command(place)
        command = [sys.executable, str(_SESSION), str(home / "output"), *self._command]
        self._session = Speaker("session", command, preexec_fn=yard.enter, env=place.env, cwd=home)
        stack.callback(self._session.close)
        stack.callback(self._session.end, 5.0)
        # Last in, first out: whatever happens from here on, everybody dies before anything is waited for.
        stack.callback(yard.kill)
        stack.callback(bomb.kill)
        self._ear.add(self._session)
        self._start()
        if workload.innocent:
            self._follow_innocent(yard)
        else:
            self._follow_bomb(bomb, yard)
        self._listen(_AFTER_SECONDS)
        self.run.peak = yard.peak()
        self.run.ended_ns = self._said.get("ended_ns") or time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._ask(place)

    # -- its course ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._until(lambda: "ready" in self._said, _READY_SECONDS):
            msg = f"the session was not ready within {_READY_SECONDS:.0f} s: {self._session.errors()}"
            raise NotReady(msg)
        if not self._workload.young:
            self._until(lambda: False, _OLD_SECONDS)
        self._session.order("go")
        self._until(lambda: "started" in self._said or "failed" in self._said, _READY_SECONDS)
        if "started" not in self._said:
            raise NotReady(self._said.get("failed", "the session does not answer"))
        self.run.started_ns = self._said["started_ns"]

    def _follow_innocent(self, yard: Pen) -> None:
        """Until it has ended, was harmed, or takes too long."""

        def over() -> bool:
            yard.current()
            return "ended" in self._said or self.run.killed > 0 or self.run.waiting

        if self._workload.stop:
            self._until(lambda: over() or self.run.waiting, self._workload.seconds)
        else:
            self._until(over, self._workload.seconds)
            if self.run.killed or self.run.waiting:
                self._until(lambda: "ended" in self._said, _WAITING_SECONDS)
        self.run.code = self._said.get("ended")
        if self._workload.stop:
            if self.run.code is not None:
                self.run.hurt.append(f"it ended with {self.run.code}, and has no end of its own")
        elif self.run.code is None:
            why = "" if self.run.waiting or self.run.killed else f" within {self._workload.seconds:.0f} s"
            self.run.hurt.append(f"it did not end{why}")
        elif self.run.code:
            self.run.hurt.append(f"it ended with {self.run.code}")

    def _follow_bomb(self, bomb: Pen, yard: Pen) -> None:
        """Until the bomb is over, or the guard's time is."""
        quiet_since = 0.0
        end = time.monotonic() + self._workload.seconds
        seen = False
        while (now := time.monotonic()) < end:
            yard.current()
            inside = bomb.current()
            seen = seen or inside > 0
            # A zombie of somebody who does not reap stays in the pen, and is no harm: ask who lives.
            over = seen and self.run.settled and (not inside or not bomb.populated())
            if not over or self._events:
                quiet_since = now
            self._events = 0
            if over and now - quiet_since >= _QUIET_SECONDS:
                break
            if self.run.waiting:
                self._until(lambda: False, _WAITING_SECONDS)
                break
            if any(e.held for e in self.run.episodes):
                bomb.ease()
            self._listen(_LOOK_SECONDS)
        self.run.bomb_peak = bomb.peak()
        self.run.bomb_left = bomb.current() if bomb.populated() else 0
        if not seen:
            self.run.hurt.append(f"no bomb went into the pen: {self._said}")
        if self.run.bomb_left:
            bomb.kill()
        self._until(lambda: not bomb.current(), _REAPED_SECONDS)
        self.run.code = self._said.get("ended")
        if self.run.code is not None and self.run.code < 0 and self._command[0] != ENTER:
            self.run.hurt.append(f"who started the bomb was killed by signal {-self.run.code}")

    def _ask(self, place: Place) -> None:
        """What became of the bystanders and of the innocent part."""
        self._session.order("report")
        if not self._until(lambda: "report" in self._said, _READY_SECONDS / 2):
            self.run.hurt.append("the session is dead or stopped")
            return
        self.run.hurt += self._said["report"]
        if wrong := self._workload.check(place):
            self.run.hurt.append(wrong)
        if self.run.missed() and (output := place.text("output").strip()):
            self.run.notes.append(f"it printed last: {' / '.join(output.splitlines()[-4:])[-400:]}")

    # -- listening -----------------------------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Listens until something is so; False if it is not within so many seconds."""
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._listen(min(left, _LOOK_SECONDS))
        return True

    def _listen(self, seconds: float) -> None:
        for speaker, message in self._ear.listen(seconds):
            if speaker is self._session:
                self._said |= message
            elif "ended" in message:
                raise self._guard.died()
            else:
                self._events += 1
                self.run.hear(message)
