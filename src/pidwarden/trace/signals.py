"""Signals, sets of them and what comes with one, as strace writes them. Pure."""

from __future__ import annotations

import errno
import os
import signal
import struct
from functools import lru_cache
from typing import Final

from pidwarden.trace import constants as c
from pidwarden.trace.text import hexa, pointer

_REAL_TIME: Final = 32  # the kernel's SIGRTMIN
_LAST: Final = 64
_NAMES: Final = {int(s): s.name for s in signal.Signals if s < _REAL_TIME} | {29: "SIGIO", 6: "SIGABRT", 17: "SIGCHLD"}
_ALL: Final = _NAMES | {n: f"SIGRT_{n - _REAL_TIME}" for n in range(_REAL_TIME, _LAST + 1)} | {32: "SIGRTMIN"}
_HANDLERS: Final = {0: "SIG_DFL", 1: "SIG_IGN", (1 << 64) - 1: "SIG_ERR"}
# What si_code means, by signal, where it is not one of SI_.
_CODES: Final = {
    signal.SIGTRAP: c.CODE_TRAP, signal.SIGCHLD: c.CODE_CLD, signal.SIGIO: c.CODE_POLL, signal.SIGILL: c.CODE_ILL,
    signal.SIGFPE: c.CODE_FPE, signal.SIGSEGV: c.CODE_SEGV, signal.SIGBUS: c.CODE_BUS,
    signal.SIGSYS: {1: "SYS_SECCOMP"},
}  # fmt: skip
_FAULTS: Final = (signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGSEGV, signal.SIGTRAP)
_SI_USER, _SI_TIMER, _SI_SIGIO, _SI_TKILL = 0, -2, -5, -6
_CLD_EXITED: Final = 1
_MOST: Final = 42  # of 64: with more of them a set is written as what is not in it


def signal_name(number: int) -> str:
    """``SIGTERM``; the number itself if it is none."""
    return _ALL.get(number) or str(number)


def handler(address: int) -> str:
    """SIG_DFL, SIG_IGN or the function."""
    return _HANDLERS.get(address) or pointer(address)


@lru_cache(maxsize=1024)
def signal_set(mask: int, size: int) -> str:
    """``[INT CHLD]``, ``~[…]`` for all but those; `mask` is of `size` bytes."""
    prefix = ""
    if mask.bit_count() >= size * 8 * 2 // 3:
        prefix, mask = "~", ~mask & (1 << size * 8) - 1
    names = [_ALL[n].removeprefix("SIG") for n in range(1, size * 8 + 1) if mask >> (n - 1) & 1]
    return f"{prefix}[{' '.join(names)}]"


def _ticks(value: int) -> str:
    per_second = os.sysconf("SC_CLK_TCK")
    return f"{value} /* {value / per_second:.2f} s */" if value else "0"


def siginfo(data: bytes) -> str:
    """A siginfo_t (include/uapi/asm-generic/siginfo.h)."""
    number, error, code = struct.unpack_from("<iii", data)
    if not number:
        return "{}"
    name = c.CODE_SI.get(code) or _CODES.get(number, {}).get(code) or hexa(code & 0xFFFFFFFF)
    fields = [f"si_signo={signal_name(number)}", f"si_code={name}"]
    if error:
        fields.append(f"si_errno={errno.errorcode.get(error, error)}")
    data = data.ljust(48, b"\0")
    first, second, third = struct.unpack_from("<iii", data, 16)
    source = [f"si_pid={first}", f"si_uid={second & 0xFFFFFFFF}"]
    address, value = struct.unpack_from("<QQ", data, 16)
    both = [f"si_int={third}", f"si_ptr={pointer(value)}"]
    if code in (_SI_USER, _SI_TKILL):
        fields += source
    elif code == _SI_TIMER:
        fields += [f"si_timerid={hexa(first & 0xFFFFFFFF)}", f"si_overrun={second}", *both]
    elif code <= 0 and code != _SI_SIGIO:
        fields += source + (both if value else [])
    elif number == signal.SIGCHLD:
        status = str(third) if code == _CLD_EXITED else signal_name(third)
        user, system = struct.unpack_from("<QQ", data, 32)
        fields += [*source, f"si_status={status}", f"si_utime={_ticks(user)}", f"si_stime={_ticks(system)}"]
    elif number in _FAULTS:
        fields.append(f"si_addr={pointer(address)}")
    elif number == signal.SIGIO or code == _SI_SIGIO:
        fields += [f"si_band={address}", f"si_fd={struct.unpack_from('<i', data, 24)[0]}"]
    elif number == signal.SIGSYS:
        call, machine = struct.unpack_from("<iI", data, 24)
        fields += [f"si_call_addr={pointer(address)}", f"si_syscall={call}", f"si_arch={hexa(machine)}"]
    else:
        fields += (source if first or second else []) + (both if value else [])
    return "{" + ", ".join(fields) + "}"
