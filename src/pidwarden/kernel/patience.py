"""Reading files of /proc that may not answer: in a thread of its own, which is left behind if it takes too long.

The kernel waits killably there, so a thread that is left behind dies with the process. Commands only: the guard and the
rescue start no thread, and do without what cannot be read safely.
"""

from __future__ import annotations

import _thread
import errno
from _queue import Empty, SimpleQueue  # `queue` brings `threading`, which no command needs
from typing import TYPE_CHECKING, NoReturn

from pidwarden.kernel import evidence

if TYPE_CHECKING:
    from pidwarden.kernel.evidence import Read

    Answers = SimpleQueue[bytes | OSError]

SECONDS = 0.2  # a file of /proc takes microseconds; a loaded machine may take milliseconds to run the thread
_LOST = 8  # threads that may be left behind before nothing more is asked


class Reader:
    """Call it with a path. One thread reads for it; it is replaced when it does not come back.

    `read` is what may take long, given that path.

    Raises:
        OSError: the file cannot be read; TimeoutError: no answer in time; BlockingIOError: no thread can be started.
    """

    def __init__(self, seconds: float = SECONDS, read: Read = evidence.read) -> None:
        self._seconds, self._read = seconds, read
        self._asked: SimpleQueue[tuple[str, Answers]] | None = None
        self._lost = 0

    def __call__(self, path: str) -> bytes:
        """The file's bytes."""
        if self._lost >= _LOST:
            _late(path)
        if self._asked is None:
            self._asked = _start(self._read)
        answers: Answers = SimpleQueue()
        self._asked.put((path, answers))
        try:
            answer = answers.get(timeout=self._seconds)
        except Empty:
            self._asked = None
            self._lost += 1
            _late(path)
        if isinstance(answer, OSError):
            raise answer
        return answer


def _late(path: str) -> NoReturn:
    raise TimeoutError(errno.ETIMEDOUT, "no answer", path)


def _start(read: Read) -> SimpleQueue[tuple[str, Answers]]:
    asked: SimpleQueue[tuple[str, Answers]] = SimpleQueue()
    try:
        _thread.start_new_thread(_serve, (asked, read))
    except RuntimeError as why:  # the table is full
        raise BlockingIOError(errno.EAGAIN, "no thread can be started") from why
    return asked


def _serve(asked: SimpleQueue[tuple[str, Answers]], read: Read) -> None:
    while True:
        path, answers = asked.get()
        try:
            answers.put(read(path))
        except OSError as why:
            answers.put(why)
