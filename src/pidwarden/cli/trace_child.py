"""The command that `pidwarden trace -- COMMAND` starts: held before its first instruction until it is traced."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

from pidwarden.errors import PidwardenError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_CANNOT = 127  # what a shell says
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them


def _program(name: str) -> str:
    """Where a command is found.

    Raises:
        PidwardenError: nowhere.
    """
    if "/" in name and os.path.exists(name):
        what = "that is a folder" if os.path.isdir(name) else "it may not be executed (`chmod +x`)"
        if os.path.isdir(name) or not os.access(name, os.X_OK):
            msg = f"cannot start {name!r}: {what}; type the path of a program"
            raise PidwardenError(msg)
    places = [""] if "/" in name else [f"{folder or '.'}/" for folder in os.get_exec_path()]
    for place in places:
        if os.path.isfile(place + name) and os.access(place + name, os.X_OK):
            return place + name
    msg = f"cannot start {name!r}: there is no such program" + ("" if "/" in name else " in PATH") + "; type its path"
    raise PidwardenError(msg)


class Child:
    """A process that waits for :meth:`go` and then becomes the command; ended with us if it does not come to that."""

    def __init__(self, argv: Sequence[str], blocked: Collection[signal.Signals]) -> None:
        """Forks. `blocked`: signals that are blocked here and must not be there.

        Raises:
            PidwardenError: there is no such program, or nothing can be started.
        """
        path = _program(argv[0])
        ready, self._go = os.pipe()
        self._failed, failed = os.pipe()
        try:
            self.pid = os.fork()
        except OSError as why:
            for fd in (ready, self._go, self._failed, failed):
                os.close(fd)
            msg = f"cannot start {argv[0]!r}: {why.strerror}; `pidwarden why` says which limit it is"
            raise PidwardenError(msg) from why
        if not self.pid:
            os.close(self._go)  # else it would never see that we are gone
            _become(path, [*argv], (ready, failed), blocked)
        os.close(ready)
        os.close(failed)
        self._argv = argv
        self.status: int | None = None

    def go(self) -> None:
        """Lets it become the command."""
        os.write(self._go, b"!")
        os.close(self._go)
        self._go = -1

    def poll(self) -> bool:
        """Whether it has ended.

        Raises:
            PidwardenError: it could not become the command.
        """
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _CANNOT:
                    self._check()
        return self.status is not None

    def _check(self) -> None:
        data = os.read(self._failed, 16)
        if data:
            msg = f"cannot start {self._argv[0]!r}: {os.strerror(int(data))}"
            raise PidwardenError(msg)

    def signal(self, number: int) -> None:
        """Passes one on; it is our child, so its number is its own."""
        if not self.poll():
            os.kill(self.pid, number)

    def close(self) -> None:
        """Ends it if it has not become the command; else leaves it alone."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
            os.waitpid(self.pid, 0)
        if self._failed >= 0:
            os.close(self._failed)
            self._failed = -1

    def end_alike(self) -> int:
        """Its exit code, to be ours. If a signal killed it, that kills us too, as with strace."""
        if self.status is None:
            return 0
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
        return os.waitstatus_to_exitcode(self.status)


def _become(path: str, argv: list[str], pipes: tuple[int, int], blocked: Collection[signal.Signals]) -> None:
    """In the child. Does not return."""
    ready, failed = pipes
    try:
        if not os.read(ready, 1):
            os._exit(0)
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        os.execv(path, argv)  # noqa: S606  (the command asked for)
    except OSError as why:
        os.write(failed, str(why.errno).encode())
    finally:
        os._exit(_CANNOT)
