"""Processes that speak JSON lines, and one place to wait for them and for the signals that end a drill."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from pidwarden.errors import PidwardenError

if TYPE_CHECKING:
    from types import TracebackType

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL = 4000  # bytes of standard error that a message quotes at most


class Interrupted(PidwardenError):  # noqa: N818  (named as those in errors.py)
    """A signal told the drill to end. The exit code is what a shell shows for that signal."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"ended by {signal.Signals(number).name}; the pen was emptied and removed, the guard stopped")


class Speaker:
    """A child process that writes JSON lines to its standard output and reads commands from its standard input.

    Its standard error goes to a file without a name, which cannot fill up as a pipe does while nobody reads it.
    """

    def __init__(self, name: str, command: list[str], **options: Any) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self.process = subprocess.Popen(  # noqa: S603  (our own programs)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, **options
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout
        self._rest = b""
        self.ended = False

    def read(self) -> list[dict[str, Any]]:
        """The messages there are now; :attr:`ended` once its output is closed. Lines that are no JSON are dropped."""
        data = os.read(self.out.fileno(), 65536)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    found.append(message)
        return found

    def order(self, command: str) -> None:
        """Sends a command. A process that is gone does not hear it, and will be missed when it does not answer."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            os.write(self.process.stdin.fileno(), command.encode() + b"\n")

    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        return self._errors.read().decode(errors="replace").strip()

    def end(self, seconds: float) -> int:
        """Closes its input, reads its output to the end, waits, and kills it if that takes longer; its exit code."""
        deadline = time.monotonic() + seconds
        assert self.process.stdin is not None
        self.process.stdin.close()
        with selectors.DefaultSelector() as selector:
            selector.register(self.out, selectors.EVENT_READ)
            while not self.ended and selector.select(max(0.0, deadline - time.monotonic())):
                self.read()
        try:
            return self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        """Gives the file descriptors back; after :meth:`end`."""
        self.out.close()
        self._errors.close()


class Ear:
    """Waits for several speakers at once. Signals are heeded here and nowhere else, so nothing is ever half done."""

    def __enter__(self) -> Self:
        self._selector = selectors.DefaultSelector()
        self._waking, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._waking, selectors.EVENT_READ)
        self._old_fd = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, lambda _number, _frame: None) for number in _ENDS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._selector.close()
        os.close(self._waking)
        os.close(self._wake)

    def add(self, speaker: Speaker) -> None:
        """Listens to it as well."""
        self._selector.register(speaker.out, selectors.EVENT_READ, speaker)

    def drop(self, speaker: Speaker) -> None:
        """Listens to it no longer."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(speaker.out)

    def listen(self, seconds: float) -> list[tuple[Speaker, dict[str, Any]]]:
        """What was said within so many seconds, at once if something was; an ended speaker says ``{"ended": True}``.

        Raises:
            Interrupted: a signal came.
        """
        heard: list[tuple[Speaker, dict[str, Any]]] = []
        for key, _events in self._selector.select(max(0.0, seconds)):
            if key.fd == self._waking:
                raise Interrupted(os.read(self._waking, 1)[0])
            speaker: Speaker = key.data
            heard += [(speaker, message) for message in speaker.read()]
            if speaker.ended:
                self.drop(speaker)
                heard.append((speaker, {"ended": True}))
        return heard
