"""The guard's files in its run directory: `status` to be read, `control` to be written, `answer` to be read.

They are for who can start nothing any more and has a shell's `read`, `echo` and redirection left. What he writes is
carried out by :mod:`~pidwarden.guard.orders`, as what comes through the socket is. Nothing here waits for anybody, and
nothing that goes wrong with a file ends the guard: it is a note, once. See docs/control-files.md.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import stat
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import PidwardenError, UsageError
from pidwarden.guard.instance import is_ours
from pidwarden.guard.lines import ANSWER, CONTROL, FRESH, HELP, LONGEST, NAMES, STATUS, Lines, harmless, words
from pidwarden.kernel.clock import boot_ns, rfc3339
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.guard.report import Reporter

IDLE_SECONDS = 5.0
_MS = 1_000_000
_IDLE_NS, _BUSY_NS = int(IDLE_SECONDS * 1000) * _MS, 1000 * _MS  # between two writings; after something has changed
_SHARE = 1000  # writing by the clock takes at most this part of the time
_KEPT_ANSWERS = 20
_LONGEST_ANSWER = 1000
# A writer that never ends keeps the guard busy for some two in seven milliseconds, and an alarm waits for no more.
_CHUNK = 4096
_TURN_NS, _REST_NS = 2 * _MS, 5 * _MS


class Answer(NamedTuple):
    """What became of a command."""

    number: int
    when: str
    command: str
    result: str
    nonsense: bool
    before: int = 0  # how many more that were no commands came just before this one

    @property
    def text(self) -> str:
        """Its line, or lines."""
        more = f" (and {self.before} lines before it)" if self.before else ""
        return f"{self.number} {self.when} {self.command}{more}: {self.result}\n"


class Answers:
    """The last ones. A flood of nonsense counts as one: somebody is looking for his answer."""

    def __init__(self) -> None:
        self._kept: deque[Answer] = deque(maxlen=_KEPT_ANSWERS)
        self._count = 0

    def add(self, command: str, result: str, *, nonsense: bool = False) -> None:
        """One more."""
        self._count += 1
        before = 0
        if nonsense and self._kept and self._kept[-1].nonsense:
            before = self._kept.pop().before + 1
        self._kept.append(Answer(self._count, rfc3339(), command, result[:_LONGEST_ANSWER], nonsense, before))

    def text(self) -> str:
        """The file's."""
        return "".join(["answers to what was written to control, the last ones last\n", *(a.text for a in self._kept)])


class Files:
    """The three files. `obey` carries a command out, `look` makes the status text.

    It is asked to look anew by the clock, and only for what the guard knows anyway when something has just changed.
    """

    def __init__(
        self, directory: str, obey: Callable[[Sequence[str]], str], look: Callable[[bool], str], report: Reporter
    ) -> None:
        self._directory, self._obey, self._look, self._report = directory, obey, look, report
        self._fd = self._left = -1
        self._lines, self._answers = Lines(), Answers()
        self._waiting: deque[bytes | None] = deque()
        self._listens = self._gone = False
        self._rest_ns = self._status_ns = 0
        self._troubled: set[str] = set()  # files that a note was made about
        self._notes: list[str] = []  # not told yet

    def open(self) -> None:
        """Makes them. Where others may write, or it cannot be done, there are none, and a note."""
        if not is_ours(self._directory):
            self._gone = True
            what = f"no status and control files in {self._directory}: it is a link, or others may write there"
            self._notes.append(f"{what}; type `chmod 700 {self._directory}` and start the guard again")
            return
        try:
            self._make_control()
        except OSError as why:
            self._note(CONTROL, why)
        self._write(ANSWER, self._answers.text())
        self.rewrite()

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _make_control(self) -> None:
        """A FIFO that has a reader before it has its name: who opens it to write never waits.

        One of a guard that was killed has none. Whoever waits there goes on when we open it, and lives: his write would
        end him with SIGPIPE once nobody has it open. What he wrote was meant for that guard, and is never read.
        """
        path, fresh = self._path(CONTROL), self._path(CONTROL + FRESH)
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.lstat(path).st_mode):
                self._left = os.open(path, flags)
        _clear(fresh)
        os.mkfifo(fresh, 0o600)
        self._fd = os.open(fresh, flags)
        _rename(fresh, path)

    # -- in the guard's loop ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """What :meth:`read` reads; -1: nothing."""
        return self._fd

    def next_ns(self) -> int:
        """When :meth:`tick` is due."""
        return self._status_ns if self._listens or self._fd < 0 else min(self._rest_ns, self._status_ns)

    def read(self) -> None:
        """Takes in what was written, or some of it."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return  # somebody else reads there as well
        self._waiting += self._lines.feed(data)
        self._rest_ns = boot_ns() + (0 if self._waiting else _REST_NS)

    def tick(self, selector: selectors.BaseSelector) -> None:
        """Carries out some of it, and writes the status when it is time."""
        now = boot_ns()
        if self._waiting and now >= self._rest_ns:
            self._work(now + _TURN_NS)
        if now >= self._status_ns:
            self.rewrite()
        if self._fd >= 0:
            self._listen(selector, wanted=not self._waiting and boot_ns() >= self._rest_ns)
        while self._notes:
            self._report("note", text=self._notes.pop(0))

    def _listen(self, selector: selectors.BaseSelector, *, wanted: bool) -> None:
        if wanted and not self._listens:
            selector.register(self._fd, selectors.EVENT_READ)
        elif self._listens and not wanted:
            selector.unregister(self._fd)
        self._listens = wanted

    def _work(self, until_ns: int) -> None:
        while self._waiting:
            self._answer(self._waiting.popleft())
            if boot_ns() >= until_ns:
                break
        self._write(ANSWER, self._answers.text())
        self._rest_ns = boot_ns() + _REST_NS

    def _answer(self, line: bytes | None) -> None:
        if line is None:
            self._answers.add("…", f"not done: a line of more than {LONGEST} bytes was thrown away", nonsense=True)
            return
        try:
            self._answers.add(escape(line), self._do(words(line)))
        except UsageError as why:
            self._answers.add(escape(line), f"not done: {why}", nonsense=True)
        except PidwardenError as why:
            self._answers.add(escape(line), f"not done: {why}")
        except OSError as why:
            self._answers.add(escape(line), f"not done: {why.strerror}; try again when the machine has room")

    def _do(self, command: Sequence[str]) -> str:
        if command == ["help"]:
            return "\n  ".join(["", *HELP]).rstrip()
        if command == ["status"]:
            self.changed()  # then families are looked at as well
            self.rewrite()
            return "done: written"
        done = f"done: {self._obey(command)}"
        self.rewrite()
        return done

    # -- files -----------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something has become of a family: the status says so at once, with the rest as it was last seen."""
        self._write_status(anew=False)
        self._status_ns = min(self._status_ns, boot_ns() + _BUSY_NS)

    def rewrite(self) -> None:
        """Writes the status with everything looked at anew."""
        began = boot_ns()
        self._write_status(anew=True)
        ended = boot_ns()
        self._status_ns = ended + max(_IDLE_NS, _SHARE * (ended - began))

    def _write_status(self, *, anew: bool) -> None:
        if self._gone:
            return
        try:
            text = self._look(anew)
        except (OSError, PidwardenError) as why:
            self._note(STATUS, why)
        else:
            self._write(STATUS, text)

    def _write(self, name: str, text: str) -> None:
        """Replaces a file: who reads it has the old one or the new one, whole."""
        path, fresh = self._path(name), self._path(name + FRESH)
        try:
            _clear(fresh)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(fd, "wb", buffering=0) as file:
                    data = memoryview(harmless(text))
                    while data:
                        data = data[file.write(data) :]
                _rename(fresh, path)
            except OSError:
                _clear(fresh)
                raise
        except OSError as why:
            self._note(name, why)

    def _note(self, name: str, why: Exception) -> None:
        if name not in self._troubled:
            self._troubled.add(name)
            self._notes.append(f"cannot write {self._path(name)} ({why}); the guard goes on without")

    # -- the end ---------------------------------------------------------------------------------------------------

    def withdraw(self) -> None:
        """Takes them away, first of all when the guard ends: nobody must find a FIFO without a reader."""
        if not self._gone:
            self._gone = True
            for name in NAMES:
                _clear(self._path(name))

    def close(self) -> None:
        """Last of all: who has opened the FIFO before has written by then, and is not ended by SIGPIPE."""
        for fd in (self._fd, self._left):
            if fd >= 0:
                os.close(fd)
        self._fd = self._left = -1


def _rename(fresh: str, path: str) -> None:
    """In place of what is there, an empty directory too."""
    try:
        os.rename(fresh, path)
    except IsADirectoryError:
        _clear(path)
        os.rename(fresh, path)


def _clear(path: str) -> None:
    """Removes what is there, unless it is a directory with something in it."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(path)
