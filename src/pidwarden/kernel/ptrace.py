"""ptrace(2) of one thread: seize it, stop it without a signal, its registers and its signal mask. Decides nothing.

The thread of ours that seizes another one is its tracer for good; when it ends, the kernel lets go of it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import time
from typing import NamedTuple

_CONT, _DETACH, _SYSCALL = 7, 17, 24
_GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT = 0x4204, 0x4205, 0x4206, 0x4207
_GETSIGMASK, _SETSIGMASK, _GET_RSEQ, _GET_DISPATCH = 0x420A, 0x420B, 0x420F, 0x4211
_O_TRACESYSGOOD = 1
_EVENT_STOP = 128
_SIGTRAP, _SYSCALL_STOP = 5, 5 | 0x80
_STOPPING = (19, 20, 21, 22)  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
_NT_PRSTATUS = 1
_WALL = 0x40000000
_BYTES = 4096
_SPINS = 300  # looks before it sleeps: most stops come within microseconds
_NAP = 0.0002  # seconds
ALL_SIGNALS = (1 << 64) - 1


class Stop(NamedTuple):
    """Why a thread stands still.

    ``trap`` as it was asked to, ``call`` at a system call, ``group`` with its process (job control), ``signal`` before
    it takes one, ``end``: it is dead.
    """

    kind: str
    signal: int = 0


class NoStopError(TimeoutError):
    """It did not stop in time."""


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    return libc


def _ptrace(request: int, tid: int, address: int = 0, data: object = 0) -> None:
    if _libc().ptrace(request, tid, address, data) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "ptrace")


def seize(tid: int) -> None:
    """Becomes its tracer; it goes on.

    Raises:
        OSError: EPERM: not allowed, or it has a tracer; ESRCH: it is gone.
    """
    _ptrace(_SEIZE, tid, 0, _O_TRACESYSGOOD)


def interrupt(tid: int) -> None:
    """Asks it to stop, if it stands still for something else: once more after that. Raises OSError."""
    _ptrace(_INTERRUPT, tid)


def go_on(tid: int, signal: int = 0) -> None:
    """Lets it run, with a signal. Raises OSError."""
    _ptrace(_CONT, tid, 0, signal)


def to_call(tid: int) -> None:
    """Lets it run until it enters a system call, or leaves it. Raises OSError."""
    _ptrace(_SYSCALL, tid)


def detach(tid: int, signal: int = 0) -> None:
    """Lets go of one that stands still. Raises OSError."""
    _ptrace(_DETACH, tid, 0, signal)


def _parse(status: int) -> Stop:
    if not os.WIFSTOPPED(status):
        return Stop("end")
    number = os.WSTOPSIG(status)
    if status >> 16 == _EVENT_STOP:
        return Stop("group", number) if number in _STOPPING else Stop("trap")
    return Stop("call") if number == _SYSCALL_STOP else Stop("signal", number)


def look(tid: int) -> Stop | None:
    """Its stop, if there is one that was not told yet."""
    try:
        pid, status = os.waitpid(tid, _WALL | os.WNOHANG)
    except ChildProcessError:
        return Stop("end")
    return _parse(status) if pid else None


def wait(tid: int, end: float) -> Stop:
    """Its next stop.

    Raises:
        NoStopError: there is none by `end`, of the monotonic clock.
    """
    for spin in range(1 << 62):
        if stop := look(tid):
            return stop
        if spin < _SPINS:
            os.sched_yield()
            continue
        if time.monotonic() > end:
            break
        time.sleep(_NAP)
    raise NoStopError


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def registers(tid: int) -> bytes:
    """The general registers of one that stands still. Raises OSError."""
    buffer = ctypes.create_string_buffer(_BYTES)
    vector = _Iovec(ctypes.addressof(buffer), _BYTES)
    _ptrace(_GETREGSET, tid, _NT_PRSTATUS, ctypes.byref(vector))
    return buffer.raw[: vector.length]


def set_registers(tid: int, data: bytes) -> None:
    """The reverse. Raises OSError."""
    buffer = ctypes.create_string_buffer(data, len(data))
    vector = _Iovec(ctypes.addressof(buffer), len(data))
    _ptrace(_SETREGSET, tid, _NT_PRSTATUS, ctypes.byref(vector))


def mask(tid: int) -> int:
    """The signals it holds off: while a call has others held off for as long as it lasts, those of before."""
    value = ctypes.c_uint64()
    _ptrace(_GETSIGMASK, tid, 8, ctypes.byref(value))
    return value.value


def set_mask(tid: int, value: int) -> None:
    """The reverse. SIGKILL and SIGSTOP cannot be held off. Raises OSError."""
    _ptrace(_SETSIGMASK, tid, 8, ctypes.byref(ctypes.c_uint64(value)))


def rseq(tid: int) -> int:
    """The address of its restartable sequences' state (rseq(2)), 0 if it has none, or the kernel does not tell."""
    buffer = ctypes.create_string_buffer(24)
    try:
        _ptrace(_GET_RSEQ, tid, len(buffer), ctypes.byref(buffer))
    except OSError:  # before 5.13
        return 0
    return int(struct.unpack_from("=Q", buffer.raw)[0])


def has_own_dispatch(tid: int) -> bool:
    """Whether it gets a signal for system calls made at the wrong place (prctl PR_SET_SYSCALL_USER_DISPATCH, wine)."""
    buffer = ctypes.create_string_buffer(32)
    try:
        _ptrace(_GET_DISPATCH, tid, len(buffer), ctypes.byref(buffer))
    except OSError:  # before 6.4
        return False
    return bool(struct.unpack_from("=Q", buffer.raw)[0])
