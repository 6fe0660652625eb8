"""Reading files of /proc that may not answer: in a thread of its own, which is left behind if it takes too long.

The kernel waits killably there, so a thread that is left behind dies with the process. Commands only: the guard and the
rescue start no thread, and do without what cannot be read safely.

What may not answer is more than `syscall` and `stack`: of a process in the midst of execve(2) Linux 6.18.44 does not
answer `stat`, `wchan`, `io`, `personality` nor any link (`exe`, `cwd`, `root`, `fd/N`, `ns/…`) either, whoever asks.
`status`, `statm`, `comm`, `sched`, `schedstat`, `cgroup`, `mountinfo`, `fdinfo/N`, `limits`, `children` and the lists
of `fd` and `task` were answered (docs/stuck.md).
"""

from __future__ import annotations

import _thread
import errno
import os
from _queue import Empty, SimpleQueue  # `queue` brings `threading`, which no command needs
from typing import TYPE_CHECKING, Generic, NamedTuple, NoReturn, TypeVar, cast

from pidwarden.kernel import evidence
from pidwarden.kernel.procfs import PROC, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.kernel.evidence import Read

    Answers = SimpleQueue[bytes | OSError]
    Asked = SimpleQueue[tuple[str, Answers] | None]

SECONDS = 0.2  # a file of /proc takes microseconds; a loaded machine may take milliseconds to run the thread
Item = TypeVar("Item")
Answer = TypeVar("Answer")
_LOST = 8  # threads that may be left behind before nothing more is asked


class Reader:
    """Call it with a path. One thread reads for it; it is replaced when it does not come back.

    `read` is what may take long, given that path.

    Raises:
        OSError: the file cannot be read; TimeoutError: no answer in time; BlockingIOError: no thread can be started.
    """

    def __init__(self, seconds: float = SECONDS, read: Read = evidence.read) -> None:
        self._seconds, self._read = seconds, read
        self._asked: Asked | None = None
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

    def close(self) -> None:
        """Lets its thread end, if that is waiting for a question."""
        if self._asked is not None:
            self._asked.put(None)
            self._asked = None


def _late(path: str) -> NoReturn:
    raise TimeoutError(errno.ETIMEDOUT, "no answer", path)


def _start(read: Read) -> Asked:
    asked: Asked = SimpleQueue()
    try:
        _thread.start_new_thread(_serve, (asked, read))
    except RuntimeError as why:  # the table is full
        raise BlockingIOError(errno.EAGAIN, "no thread can be started") from why
    return asked


def _serve(asked: Asked, read: Read) -> None:
    while (question := asked.get()) is not None:
        path, answers = question
        try:
            answers.put(read(path))
        except OSError as why:
            answers.put(why)


# -- many looks --------------------------------------------------------------------------------------------------------

_MOST_LOST = 32  # a thread each, and 0.2 s


class Swept(NamedTuple, Generic[Item, Answer]):
    """What came of a :func:`sweep`: answers, what was not answered in time, and what was not asked any more."""

    found: list[tuple[Item, Answer]]
    lost: list[Item]
    left: list[Item]


class _Course(Generic[Item, Answer]):
    """One thread's way through the items from one of them on, until it is told to stop."""

    def __init__(self, items: Sequence[Item], start: int, look: Callable[[Item], Answer]) -> None:
        self._items, self._start, self._look = items, start, look
        self.at, self.stop = start, False
        self.found: list[tuple[Item, Answer]] = []
        self.ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(self) -> None:
        try:
            for at in range(self._start, len(self._items)):
                self.at = at
                self.found.append((self._items[at], self._look(self._items[at])))
                if self.stop:
                    return
        except BaseException as why:  # noqa: BLE001  (raised by whoever waits)
            self.ended.put(why)
        else:
            self.ended.put(None)

    def leave(self) -> tuple[int, list[tuple[Item, Answer]]]:
        """Gives it up: where it is, and what it found before; it may come back at any time."""
        self.stop = True
        at = self.at
        return at, self.found[: at - self._start]


def sweep(
    items: Sequence[Item], look: Callable[[Item], Answer], seconds: float = SECONDS, *, most_lost: int = _MOST_LOST
) -> Swept[Item, Answer]:
    """Looks at one after another in a thread; whom that does not come back from in `seconds` is passed over.

    After `most_lost` of them nobody more is asked. Costs next to nothing an item, unlike :class:`Reader`. What `look`
    raises is raised here.

    Raises:
        BlockingIOError: no thread can be started.
    """
    swept: Swept[Item, Answer] = Swept([], [], [])
    at = 0
    while at < len(items):
        if len(swept.lost) >= most_lost:
            swept.left.extend(items[at:])
            break
        course = _Course(items, at, look)
        try:
            _thread.start_new_thread(course.run, ())
        except RuntimeError as why:
            raise BlockingIOError(errno.EAGAIN, "no thread can be started") from why
        if _has_ended(course, seconds):
            swept.found.extend(course.found)
            break
        at, found = course.leave()
        swept.found.extend(found)
        swept.lost.append(items[at])
        at += 1
    return swept


def _has_ended(course: _Course[Item, Answer], seconds: float) -> bool:
    """Waits until it has looked at all (true), or stands still for so long."""
    seen = -1
    while course.at != seen:
        seen = course.at
        try:
            why = course.ended.get(timeout=seconds)
        except Empty:
            continue
        if why is not None:
            raise why
        return True
    return False


# -- one long look -----------------------------------------------------------------------------------------------------

_LONG = 1.0  # seconds for a whole look; twenty thousand processes take half of that


def past_the_stuck(look: Callable[[frozenset[int]], Answer], root: str = PROC) -> tuple[Answer, frozenset[int]]:
    """What `look` finds, and whom it had to leave out: it is given the pids that do not answer, none at first.

    It runs in a thread. When it takes long, everybody's ``stat`` is tried meanwhile; if some do not answer, it is left
    behind and begun again without them. Where no thread can be started it runs as it is. What it raises is raised here.

    Raises:
        OSError: /proc cannot be listed.
    """
    without: frozenset[int] = frozenset()
    while True:
        answers: SimpleQueue[tuple[Answer | None, BaseException | None]] = SimpleQueue()
        try:
            _thread.start_new_thread(_answer, (look, without, answers))
        except RuntimeError:
            return look(without), without
        while True:
            try:
                found, why = answers.get(timeout=_LONG)
            except Empty:
                if stuck := _who_is_stuck(root) - without:
                    without |= stuck
                    break
                continue
            if why is not None:
                raise why
            return cast("Answer", found), without


def _answer(
    look: Callable[[frozenset[int]], Answer],
    without: frozenset[int],
    answers: SimpleQueue[tuple[Answer | None, BaseException | None]],
) -> None:
    try:
        answers.put((look(without), None))
    except BaseException as why:  # noqa: BLE001  (raised by whoever waits)
        answers.put((None, why))


def _who_is_stuck(root: str) -> frozenset[int]:
    pids = [int(name) for name in os.listdir(root) if name.isdecimal()]
    return frozenset(sweep(pids, lambda pid: read_bytes(f"{root}/{pid}/stat")).lost)


def left_out(stuck: frozenset[int]) -> str:
    """What a person should know of those that were left out."""
    pids = ", ".join(map(str, sorted(stuck)[:10]))
    return (
        f"left out, as the kernel does not answer for them (stuck within execve): {pids}; type `sudo pidwarden stuck`"
    )
