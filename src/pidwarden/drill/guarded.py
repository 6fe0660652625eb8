"""The guard as it is shipped, as a child of the drill, and the check that it leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from pidwarden.drill.lines import Ear, Speaker
from pidwarden.errors import PidwardenError
from pidwarden.kernel.pins import bpffs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_READY_SECONDS = 60.0
_END_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class GuardDied(PidwardenError):  # noqa: N818  (named as those in errors.py)
    """The guard ended although nobody had told it to; what it printed last."""

    def __init__(self, code: int, errors: str) -> None:
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        super().__init__(f"the guard ended in the middle of the drill ({how}); it printed:\n{errors or '(nothing)'}")


def _ends_with(parent: int) -> Callable[[], None]:
    """For the child before its exec: SIGTERM when the drill is gone, however it went, so that no guard stays behind."""
    libc = ctypes.CDLL(None, use_errno=True)

    def arm() -> None:
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) or os.getppid() != parent:
            os._exit(1)

    return arm


class GuardedBy:
    """A guard that acts on the drill's children only, from ``with`` (ready) to its end (left nothing).

    `options` are further arguments of ``pidwarden guard``. After the end, :attr:`complaints` says what was wrong.

    Raises (entering):
        GuardDied: it did not get ready.
    """

    def __init__(self, ear: Ear, options: list[str]) -> None:
        self._ear = ear
        self.run_dir = f"/run/pidwarden-drill-{os.getpid()}"
        self._command = [sys.executable, "-m", "pidwarden", "guard", "--json", "--run-dir", self.run_dir]
        self._options = ["--mode", "kill", "--grace", "0", "--only", f"pid:{os.getpid()}", *options]
        self.ready: dict[str, Any] = {}
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        # A session of its own: Ctrl-C is for the drill, which then ends the guard in order.
        self.speaker = Speaker(
            "guard", [*self._command, *self._options], preexec_fn=_ends_with(os.getpid()), start_new_session=True
        )
        self._ear.add(self.speaker)
        try:
            self._await_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _await_ready(self) -> None:
        end = time.monotonic() + _READY_SECONDS
        while not self.ready:
            for speaker, message in self._ear.listen(end - time.monotonic()):
                if speaker is self.speaker and message.get("event") == "ready":
                    self.ready = message
                elif speaker is self.speaker and "ended" in message:
                    raise self.died()
            if not self.ready and time.monotonic() >= end:
                msg = f"the guard was not ready in {_READY_SECONDS:.0f} s; nothing was set off. Type `pidwarden doctor`"
                raise PidwardenError(msg)

    def died(self) -> GuardDied:
        """The error, for whoever hears that it has ended."""
        return GuardDied(self.speaker.end(_END_SECONDS), self.speaker.errors())

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ear.drop(self.speaker)
        self.speaker.process.send_signal(signal.SIGTERM)
        code = self.speaker.end(_END_SECONDS)
        if code:
            self.complaints.append(f"the guard ended with {code} and printed: {self.speaker.errors() or '(nothing)'}")
        self.speaker.close()
        left = self._left()
        if left:
            self.complaints.append(f"the guard left {' and '.join(left)} behind")
            # What a killed guard holds stays held until somebody says otherwise; the drill must not.
            subprocess.run(  # noqa: S603  (our own program)
                [*self._command, "--detach"], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            # The directory is the drill's own, by its name; a killed guard's socket may still lie in it.
            shutil.rmtree(self.run_dir, ignore_errors=True)
            self.complaints += [f"{path} could not be removed either" for path in self._left()]

    def _left(self) -> list[str]:
        pins = f"{bpffs() or '/sys/fs/bpf'}/{os.path.basename(self.run_dir)}"
        return [path for path in (self.run_dir, pins) if os.path.exists(path)]
