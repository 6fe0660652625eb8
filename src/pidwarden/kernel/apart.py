"""Running something in a thread of its own: no signal gets there, and what the thread traced is let go at its end."""

from __future__ import annotations

import _thread
import queue
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

T = TypeVar("T")
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LATE = 15.0
_LOOK = 0.1  # seconds between looks for a signal: a wait without an end would not see one


def _nothing() -> None:
    pass


def run(
    function: Callable[[], T], on_interrupt: Callable[[], None] = _nothing, on_late: Callable[[], None] = _nothing
) -> T:
    """What it returns, or raises. A KeyboardInterrupt meanwhile is told `on_interrupt`, and raised when it is done.

    `on_late` is called once, if it takes longer than 15 s.

    Raises:
        BlockingIOError: no thread can be started.
    """
    found: list[tuple[bool, T | BaseException]] = []
    wake: SimpleQueue[None] = queue.SimpleQueue()

    def work() -> None:
        try:
            found.append((True, function()))
        except BaseException as why:  # noqa: BLE001  (raised where it was asked for)
            found.append((False, why))
        wake.put(None)

    interrupted: BaseException | None = None
    late = time.monotonic() + _LATE
    # Held off until we are where an interrupt is caught; the thread holds them off for good, so that we take them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTING)
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError as why:  # the table is full
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise BlockingIOError("no thread can be started") from why
    while not found:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            while not found:
                with suppress(queue.Empty):
                    wake.get(timeout=_LOOK)
                if not found and time.monotonic() > late:
                    late = float("inf")
                    on_late()
        except (KeyboardInterrupt, SystemExit) as why:
            interrupted = why
            on_interrupt()
    good, answer = found[0]
    if interrupted:
        raise interrupted
    if isinstance(answer, BaseException) and not good:
        raise answer
    return answer  # type: ignore[return-value]
