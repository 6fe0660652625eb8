"""A lesson: one cause, made in a pen, looked at, held open for a person to try his hand at it, and cleared away."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.drill import lessons
from pidwarden.drill.lines import Ear
from pidwarden.drill.pen import DeadMan, Pen
from pidwarden.errors import PidwardenError
from pidwarden.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 200  # zombies: enough to be seen in any list, and nothing to a machine
_CAP = COUNT + 50
_READY_SECONDS = 30.0
_SLACK_SECONDS = 60.0  # of the dead-man switch, beyond the time for which it is held open
_LOOK_SECONDS = 0.1
_MOST_SECONDS = 86_400.0


class Expected(NamedTuple):
    """What a lesson should be told to be: which command says so, and in which word."""

    command: str
    cause: str


# By lesson. Its first paragraph of words is the docstring of its function.
EXPECTED = {
    "zombie-maker": Expected("zombies", "never-waits"),
    "stopped-parent": Expected("zombies", "parent-stopped"),
    "blocked-sigchld": Expected("zombies", "sigchld-blocked"),
    "waits-for-another": Expected("zombies", "waits-for-another"),
    "one-per-signal": Expected("zombies", "reaps-one-per-signal"),
    "blocked-parent": Expected("zombies", "blocked"),
    "ignored-late": Expected("zombies", "ignored-late"),
    "dead-leader": Expected("zombies", "dead-leader"),
    "orphan": Expected("orphans", "leaked"),
    "daemon": Expected("orphans", "intended"),
}


class Said(NamedTuple):
    """What a command says: its word for the cause, in other words, by which evidence, and what to type."""

    cause: str
    text: str
    evidence: tuple[str, ...]
    type_: tuple[str, ...]


@dataclass
class Lesson:
    """How one went. ``left`` is how many of those made were still there at its end."""

    shape: str
    pid: int
    made: int
    command: str
    expected: str
    cause: str = ""
    evidence: list[str] = field(default_factory=list)
    cleared_by_hand_s: float | None = None
    proven_empty: bool = False

    @property
    def passed(self) -> bool:
        """Whether the cause was named, and nothing is left."""
        return self.cause == self.expected and self.proven_empty

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"passed": self.passed}


class Teacher:
    """Gives lessons. `say` asks the command of that name about a pid; `tell` is called with what happens."""

    def __init__(
        self,
        *,
        say: Callable[[str, int], Said],
        tell: Callable[[str, dict[str, Any]], None],
        hold_open: float | None = None,
        ask: bool = False,
    ) -> None:
        self._say, self._tell, self._limit = say, tell, hold_open
        self._hold_open = min(hold_open or (_MOST_SECONDS if ask else 0.0), _MOST_SECONDS)
        self._ask = ask  # a person at a terminal may end it by Enter

    def give(self, name: str) -> Lesson:
        """Makes one, and takes it away again, whatever happens.

        Raises:
            PidwardenError: it could not be made.
            Interrupted: a signal came.
        """
        with contextlib.ExitStack() as stack:
            pen = Pen(_CAP, slow=False)
            stack.enter_context(DeadMan(pen.directories, self._hold_open + _SLACK_SECONDS + _READY_SECONDS))
            ear = stack.enter_context(Ear())
            stack.enter_context(pen)
            process = stack.enter_context(self._start(name, pen))
            stack.callback(pen.kill)
            lesson = self._made(name, process, ear)
            self._tell("lesson", {"shape": name, "cap": pen.cap, "lesson": lesson})
            said = self._say(lesson.command, lesson.pid)
            lesson.cause, lesson.evidence = said.cause, list(said.evidence)
            self._tell("said", {"lesson": lesson, "said": said})
            if self._hold_open:
                self._wait(lesson, ear)
            pen.kill()
            process.wait()
            lesson.proven_empty = not pen.populated()
        self._tell("ended", {"lesson": lesson})
        return lesson

    def _start(self, name: str, pen: Pen) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        self._reading = reading
        command = [sys.executable, "-I", "-S", lessons.__file__, name, str(COUNT), str(writing)]
        try:
            return subprocess.Popen(  # noqa: S603  (our own script)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[writing],
                start_new_session=True,
                preexec_fn=pen.enter,  # noqa: PLW1509  (one thread)
            )
        except (OSError, subprocess.SubprocessError) as why:
            os.close(reading)
            msg = f"{name}: it could not go into its pen ({why}); nothing was made"
            raise PidwardenError(msg) from why
        finally:
            os.close(writing)

    def _made(self, name: str, process: subprocess.Popen[bytes], ear: Ear) -> Lesson:
        """Waits until it says that it is there, and all zombies are."""
        end = time.monotonic() + _READY_SECONDS
        with os.fdopen(self._reading, "rb") as pipe:
            line = pipe.readline() if _readable(pipe.fileno(), _READY_SECONDS) else b""
        expected = EXPECTED[name]
        if line:
            found = json.loads(line)
            whom = found["pid"] if expected.command == "orphans" else process.pid
            lesson = Lesson(name, whom, found["count"], *expected)
            while time.monotonic() < end:
                if expected.command == "orphans" or zombies_of(whom) >= lesson.made:
                    return lesson
                ear.listen(_LOOK_SECONDS)
        msg = f"{name}: what it should make was not there within {_READY_SECONDS:.0f} s; nothing was learnt"
        raise PidwardenError(msg)

    def _wait(self, lesson: Lesson, ear: Ear) -> None:
        """Until the time is over, a person has pressed Enter, or has cleared it."""
        self._tell("open", {"lesson": lesson, "seconds": self._limit, "enter": self._ask})
        began = time.monotonic()
        while (now := time.monotonic()) < began + self._hold_open:
            if self._ask and _readable(0, 0.0):
                os.read(0, 4096)
                return
            if lesson.cleared_by_hand_s is None and is_cleared(lesson):
                lesson.cleared_by_hand_s = round(now - began, 1)
                self._tell("cleared-by-hand", {"lesson": lesson})
                if not self._ask:
                    return
            ear.listen(_LOOK_SECONDS)


def is_cleared(lesson: Lesson) -> bool:
    """Whether what was made is gone: the zombies, or the orphan that was asked about."""
    if lesson.command == "orphans":
        stat = procfs.stat(lesson.pid)
        return stat is None or stat.state == "Z"
    return zombies_of(lesson.pid) == 0


def zombies_of(pid: int) -> int:
    """How many children of a process nobody has waited for."""
    stats = (procfs.stat(int(name)) for name in os.listdir(procfs.PROC) if name.isdecimal())
    return sum(s is not None and s.ppid == pid and s.state == "Z" for s in stats)


def _readable(fd: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(fd, selectors.EVENT_READ)
        except OSError:  # a file, which always is
            return True
        return bool(selector.select(seconds))
