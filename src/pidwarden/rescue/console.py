"""The console that replaces a shell: reads a line, runs a command, comes back to its prompt whatever happens.

Nothing is imported from here on, no process and no thread is started: what a command needs is there before the prompt.
Leaving it puts a shell in its place.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import PidwardenError, UsageError
from pidwarden.rescue.choose import USERS
from pidwarden.rescue.strength import Before, weaken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Command(NamedTuple):
    """What a word does. ``run`` gets the words after it."""

    usage: str
    text: str
    run: Callable[[Sequence[str]], None]


PROMPT = "rescue> "
_SHELLS = ("/bin/bash", "/bin/sh", "/bin/busybox")
_FALLBACK = "/bin/sh"


class Leave(Exception):  # noqa: N818  (no error)
    """The person wants to go; ``shell`` to start instead of the usual one."""

    def __init__(self, *, shell: bool = True) -> None:
        super().__init__()
        self.shell = shell


class Console:
    """The loop. `commands` by name; `complete` gives what a word may become."""

    def __init__(
        self, commands: Mapping[str, Command], say: Callable[[str], None], complete: Callable[[str], list[str]]
    ) -> None:
        self._commands, self._say = commands, say
        self._complete = complete
        self._tty = sys.stdin.isatty()

    def run(self, *, shell_at_end: bool = True) -> bool:
        """Until it is left, or its input ends; whether a shell is wanted then."""
        self._prepare_terminal()
        while True:
            try:
                line = self._read()
                if line is None:
                    return shell_at_end
                self.obey(line)
            except Leave as leave:
                return leave.shell
            except KeyboardInterrupt:
                with contextlib.suppress(Exception):
                    self._say("")
            except BrokenPipeError:
                return shell_at_end  # nobody reads any more
            except BaseException as why:  # noqa: BLE001  (a closed connection would be worse than any error)
                self._fail(why)

    def obey(self, line: str) -> None:
        """Runs one line. What goes wrong becomes a message.

        Raises:
            Leave: it said so.
        """
        try:
            words = shlex.split(line)
        except ValueError as why:
            self._say(f"{line!r}: {why}; type it again")
            return
        if not words:
            return
        command = self._commands.get(words[0])
        if command is None:
            near = [name for name in self._commands if name.startswith(words[0][:2])]
            self._say(f"there is no {words[0]!r}; `help` lists what there is" + f" ({', '.join(near)}?)" * bool(near))
            return
        try:
            command.run(words[1:])
        except UsageError as why:
            self._say(f"{why}\ntype: {command.usage}")
        except PidwardenError as why:
            self._say(str(why))
        except OSError as why:
            self._say(f"{words[0]}: {why.filename or 'a system call'}: {why.strerror}; try again, or look at `why`")

    def _read(self) -> str | None:
        if self._tty:
            try:
                return input(PROMPT)
            except EOFError:
                return None
        sys.stdout.write(PROMPT)
        sys.stdout.flush()
        line = sys.stdin.readline()
        return line if line else None

    def _fail(self, why: BaseException) -> None:
        """Something is wrong with the program itself, or memory is out: said as shortly as can be, and on."""
        with contextlib.suppress(BaseException):
            os.write(2, b"\nthis went wrong: " + repr(why).encode("utf-8", "backslashreplace")[:500] + b"\n")

    def _prepare_terminal(self) -> None:
        # Ctrl-Z would leave a stopped program where the shell was, and nobody to continue it.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        readline = sys.modules.get("readline")
        if self._tty and readline is not None:
            readline.set_completer(self._completer)
            readline.set_completer_delims(" ")
            readline.parse_and_bind("tab: complete")
            readline.set_auto_history(True)

    def _completer(self, text: str, number: int) -> str | None:
        found: list[str] = []
        with contextlib.suppress(Exception):
            found = self._complete(text)
        return found[number] if number < len(found) else None


def shell_of(environment: Mapping[str, str], uid: int, users: str) -> list[str]:
    """The user's shells, the likeliest first: what SHELL says, what the machine's user file says, any that there is."""
    found = [environment.get("SHELL", "")]
    with contextlib.suppress(OSError), open(users, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if len(fields) == 7 and fields[2] == str(uid):  # noqa: PLR2004  (passwd(5))
                found.append(fields[6])
                break
    found += _SHELLS
    usable = [path for path in found if path.startswith("/") and os.access(path, os.X_OK)]
    return list(dict.fromkeys(usable)) or [_FALLBACK]


def become_shell(before: Before) -> str:
    """Puts one of the user's shells in this program's place. Returns only if none can be started: why."""
    for number in (signal.SIGTSTP, signal.SIGQUIT, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    weaken(before)
    why = ""
    for path in shell_of(os.environ, os.getuid(), USERS):
        name = os.path.basename(path)
        try:
            os.execv(path, ["sh" if name == "busybox" else name])  # noqa: S606  (the user's own)
        except OSError as failed:
            why = f"{path}: {failed.strerror}"
    return why
