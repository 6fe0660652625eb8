"""What a person writes into a guard's control file, and how he is told what to write. Pure.

A FIFO hands over bytes: half a line, three lines, or those of two writers. A write of at most PIPE_BUF (4,096) bytes is
never mixed with another (pipe(7)); a longer one may be.
"""

from __future__ import annotations

import re
import shlex

STATUS, CONTROL, ANSWER = "status", "control", "answer"
FRESH = ".new"  # behind a name while the file is made
NAMES = tuple(name + more for name in (STATUS, CONTROL, ANSWER) for more in ("", FRESH))
LONGEST = 256  # bytes of a line; the longest command has some 40

_ODD = re.compile(r"[^\n -~]")

HELP = (
    "help: this",
    "status: write the status anew, now",
    "hold N: family N stops before its next fork, and waits for kill or release",
    "kill N: kill family N, which is held and waits",
    "release N: let go family N, which is held and waits",
    "freeze N: its processes themselves stop; it is held first, if it is not yet",
    "thaw N: they go on, but for their forks: it stays held",
    "pid:4711 in place of N: the family of process 4711",
)


class Lines:
    """Puts lines together. What is not ended yet is kept, at most :data:`LONGEST` bytes of it."""

    def __init__(self) -> None:
        self._part = bytearray()
        self._skips = False  # to the end of a line that is too long

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that these bytes complete, empty ones left out; None for one that is too long to be kept."""
        found: list[bytes | None] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            found += self._keep(piece)
            if self._part.strip():
                found.append(bytes(self._part))
            self._part.clear()
            self._skips = False
        return found + self._keep(rest)

    def _keep(self, piece: bytes) -> list[None]:
        if self._skips:
            return []
        self._part += piece
        if len(self._part) <= LONGEST:
            return []
        self._part.clear()
        self._skips = True
        return [None]


def words(line: bytes) -> list[str]:
    """The words of a line. Bytes that no command has stay visible as such."""
    return [word.decode("ascii", "backslashreplace") for word in line.split()]


def harmless(text: str) -> bytes:
    r"""As it stands in a file that is read with ``echo "$line"``: printable ASCII, each backslash twice.

    The echo of dash and zsh takes what follows a single one for a command, and a process may be called ``\033[2J``. A
    terminal that is not set to UTF-8 may take the bytes of another letter for one.
    """
    return (
        _ODD.sub(lambda found: found[0].encode("unicode_escape").decode(), text).replace("\\", "\\\\").encode("ascii")
    )


def typed(command: str, directory: str) -> str:
    """What to type into a shell, so that the guard of that run directory gets the command."""
    return f"echo {shlex.quote(command)} >{shlex.quote(f'{directory}/{CONTROL}')}"
