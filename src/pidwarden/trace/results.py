"""What a call returned, as strace writes it: numbers, errors, what select and fcntl add. Pure."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from pidwarden.trace import structs
from pidwarden.trace.flags import BY_NAME, fcntl_flags, lock_type, opened, seals
from pidwarden.trace.signals import signal_name
from pidwarden.trace.text import BITS_32, BITS_64, bits, hexa, mode, signed32

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.call import Call

# include/linux/errno.h: never seen by programs
_RESTARTS: Final = {
    512: "? ERESTARTSYS (To be restarted if SA_RESTART is set)", 513: "? ERESTARTNOINTR (To be restarted)",
    514: "? ERESTARTNOHAND (To be restarted if no handler)", 516: "? ERESTART_RESTARTBLOCK (Interrupted by signal)",
}  # fmt: skip
_NAMES: Final = {**errno.errorcode, 11: "EAGAIN", 35: "EDEADLK", 95: "EOPNOTSUPP", 524: "ENOTSUPP"}
_NEVER: Final = frozenset(("exit", "exit_group"))
_memo: dict[int, str] = {}


def error(number: int) -> str:
    """Of -`number` that a call returned."""
    found = _memo.get(number)
    if found is None:
        name = _NAMES.get(number)
        found = _RESTARTS.get(number) or (f"-1 {name} ({os.strerror(number)})" if name else f"-1 (errno {number})")
        _memo[number] = found
    return found


def of_call(name: str) -> Callable[[Call], str]:
    """A function that says what follows the equals sign, of one kind of call."""
    if name in _NEVER:
        return lambda _call: "?"
    success = _MORE.get(name, _number)

    def text(call: Call) -> str:
        ret = call.ret
        if ret is None:
            return "?"
        if call.failed:
            return error(-ret)
        return success(call, ret)

    return text


def _number(_call: Call, ret: int) -> str:
    return str(ret & BITS_64)


def _address(_call: Call, ret: int) -> str:
    return hexa(ret & BITS_64)


_TIME: Final = 16  # bytes
_MOST_READY: Final = 32
_ROOM: Final = 998  # letters, for strace has so many


def _poll(call: Call, ret: int) -> str:
    if not ret:
        return "0 (Timeout)"
    piece = call.told(0)
    if piece is None:
        return str(ret)
    data, found, room = piece.data, list[str](), _ROOM
    for at in range(0, len(data) - 7, 8):
        if text := structs.pollfd_ready(data[at : at + 8]):
            room -= len(text) + 2
            if len(found) >= _MOST_READY or room < 0:
                found.append("...")
                break
            found.append(text)
    return f"{ret} ([{', '.join(found)}])" if found else str(ret)


def _ppoll(call: Call, ret: int) -> str:
    text, piece = _poll(call, ret), call.told(2)
    if not ret or not call.args[2] or piece is None or len(piece.data) < _TIME:
        return text
    left = f"left {structs.timespec(piece.data)}"
    return f"{text[:-1]}, {left})" if text.endswith(")") else f"{text} ({left})"


def _select(text: Callable[[bytes], str]) -> Callable[[Call, int], str]:
    def more(call: Call, ret: int) -> str:
        if not ret:
            return "0 (Timeout)"
        found, left = [], ret
        for index, what in ((1, "in"), (2, "out"), (3, "except")):
            piece = call.told(index) if call.args[index] else None
            if piece is not None:
                ready = bits(piece.data, signed32(call.args[0]))[:left]
                left -= len(ready)
                if ready:
                    found.append(f"{what} [{' '.join(map(str, ready))}]")
        piece = call.told(4) if call.args[4] else None
        if piece is not None and len(piece.data) >= _TIME:
            found.append(f"left {text(piece.data)}")
        return f"{ret} ({', '.join(found)})"

    return more


def _fcntl(call: Call, ret: int) -> str:
    command = call.args[1] & BITS_32
    if command == 3:  # noqa: PLR2004  (F_GETFL)
        return f"{hexa(ret)} (flags {opened(ret)})"
    if command == 1 and ret:
        return f"{hexa(ret)} (flags {fcntl_flags(ret)})"
    if command == 0x401:  # noqa: PLR2004  (F_GETLEASE)
        return f"{hexa(ret)} ({lock_type(ret)})"
    if command == 0x40A and ret:  # noqa: PLR2004  (F_GET_SEALS)
        return f"{hexa(ret)} (seals {seals(ret)})"
    return str(ret)


def _dumpable(call: Call, ret: int) -> str:
    if call.args[0] & BITS_32 != 3 or ret > 2:  # noqa: PLR2004  (PR_GET_DUMPABLE)
        return str(ret & BITS_64)
    return f"{ret} ({('SUID_DUMP_DISABLE', 'SUID_DUMP_USER', 'SUID_DUMP_ROOT')[ret]})"


def _scheduler(_call: Call, ret: int) -> str:
    return f"{ret} ({BY_NAME['scheduler'](ret)})"


def _personality(_call: Call, ret: int) -> str:
    return f"{hexa(ret & BITS_32)} ({BY_NAME['personality'](ret)})"


def _signal(_call: Call, ret: int) -> str:
    return f"{ret} ({signal_name(ret)})" if ret else "0"


_MORE: Final[dict[str, Callable[[Call, int], str]]] = {
    "poll": _poll, "ppoll": _ppoll, "select": _select(structs.timeval), "pselect6": _select(structs.timespec),
    "fcntl": _fcntl, "prctl": _dumpable, "sched_getscheduler": _scheduler, "personality": _personality,
    "rt_sigtimedwait": _signal,
    "mmap": _address, "mremap": _address, "brk": _address, "shmat": _address,
    "umask": lambda _call, ret: mode(ret & 0xFFFF), "time": lambda _call, ret: f"{ret} ({structs.date(ret)})",
}  # fmt: skip
