"""System calls that a process sleeps in, by number: what it means depends on the machine and the program's ABI.

Numbers are those of the kernel's own tables: arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl,
include/uapi/asm-generic/unistd.h (arm64), arch/arm64/tools/syscall_32.tbl. Calls that are not listed sleep for a moment
only, or belong to nobody who should wait for children.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pidwarden.model.task import Syscall

_X86_64 = {
    0: "read", 1: "write", 7: "poll", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev", 23: "select",
    34: "pause", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg",
    47: "recvmsg", 56: "clone", 57: "fork", 58: "vfork", 61: "wait4", 65: "semop", 69: "msgsnd", 70: "msgrcv",
    72: "fcntl", 73: "flock", 74: "fsync", 75: "fdatasync", 127: "rt_sigpending", 128: "rt_sigtimedwait",
    130: "rt_sigsuspend", 202: "futex", 208: "io_getevents", 219: "restart_syscall", 220: "semtimedop",
    230: "clock_nanosleep", 232: "epoll_wait", 242: "mq_timedsend", 243: "mq_timedreceive", 247: "waitid",
    257: "openat", 2: "open", 270: "pselect6", 271: "ppoll", 275: "splice", 281: "epoll_pwait", 288: "accept4",
    299: "recvmmsg", 333: "io_pgetevents", 426: "io_uring_enter", 435: "clone3", 441: "epoll_pwait2",
    449: "futex_waitv", 455: "futex_wait", 16: "ioctl", 40: "sendfile", 162: "sync", 306: "syncfs", 437: "openat2",
}  # fmt: skip
_GENERIC = {
    4: "io_getevents", 22: "epoll_pwait", 25: "fcntl", 29: "ioctl", 32: "flock", 56: "openat", 63: "read", 64: "write",
    65: "readv", 66: "writev", 67: "pread64", 68: "pwrite64", 71: "sendfile", 72: "pselect6", 73: "ppoll", 76: "splice",
    81: "sync", 82: "fsync", 83: "fdatasync", 95: "waitid", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep",
    128: "restart_syscall", 133: "rt_sigsuspend", 137: "rt_sigtimedwait", 182: "mq_timedsend", 183: "mq_timedreceive",
    188: "msgrcv", 189: "msgsnd", 192: "semtimedop", 193: "semop", 202: "accept", 203: "connect", 206: "sendto",
    207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 220: "clone", 242: "accept4", 243: "recvmmsg", 260: "wait4",
    267: "syncfs", 292: "io_pgetevents", 426: "io_uring_enter", 435: "clone3", 437: "openat2", 441: "epoll_pwait2",
    449: "futex_waitv", 455: "futex_wait",
}  # fmt: skip
_32_BIT = {
    0: "restart_syscall", 2: "fork", 3: "read", 4: "write", 5: "open", 29: "pause", 54: "ioctl", 55: "fcntl",
    114: "wait4", 118: "fsync", 120: "clone", 142: "select", 143: "flock", 145: "readv", 146: "writev",
    148: "fdatasync", 162: "nanosleep", 168: "poll", 190: "vfork", 435: "clone3", 441: "epoll_pwait2",
    426: "io_uring_enter", 407: "clock_nanosleep", 413: "pselect6", 414: "ppoll", 418: "mq_timedsend",
    419: "mq_timedreceive", 420: "semtimedop", 421: "rt_sigtimedwait", 422: "futex", 417: "recvmmsg",
    449: "futex_waitv", 455: "futex_wait",
}  # fmt: skip
_I386 = _32_BIT | {
    7: "waitpid", 36: "sync", 117: "ipc", 102: "socketcall", 177: "rt_sigtimedwait", 179: "rt_sigsuspend",
    221: "fcntl", 240: "futex", 256: "epoll_wait", 267: "clock_nanosleep", 284: "waitid", 295: "openat",
    308: "pselect6", 309: "ppoll", 319: "epoll_pwait", 362: "connect", 364: "accept4", 369: "sendto", 370: "sendmsg",
    371: "recvfrom", 372: "recvmsg",
}  # fmt: skip
_ARM = _32_BIT | {
    36: "sync", 177: "rt_sigtimedwait", 179: "rt_sigsuspend", 221: "fcntl", 240: "futex", 252: "epoll_wait",
    265: "clock_nanosleep", 280: "waitid", 283: "connect", 285: "accept", 290: "sendto", 292: "recvfrom",
    296: "sendmsg", 297: "recvmsg", 322: "openat", 335: "pselect6", 336: "ppoll", 346: "epoll_pwait", 366: "accept4",
}  # fmt: skip

# machine, as uname(2) has it: (its own calls, those of its 32-bit programs)
_TABLES = {"x86_64": (_X86_64, _I386), "aarch64": (_GENERIC, _ARM), "riscv64": (_GENERIC, {}), "i686": (_I386, _I386)}
_X32 = 0x40000000  # __X32_SYSCALL_BIT
_BITS_32 = 1 << 32


def is_32_bit(call: Syscall) -> bool:
    """Whether its thread runs a 32-bit program, by where its stack and its code lie."""
    return call.sp < _BITS_32 and call.pc < _BITS_32


WAITS = frozenset(("wait4", "waitpid", "waitid"))


def name_of(call: Syscall, machine: str, wchan: str = "") -> str:
    """What the call is named; empty if it is not one of those known here.

    A 64-bit program can make 32-bit calls too (``int 0x80``): where the kernel function it sleeps in is that of wait
    and the number is not, it is one of these.
    """
    own, compat = _TABLES.get(machine, ({}, {}))
    if own is _X86_64 and call.number >= _X32:
        return own.get(call.number & ~_X32, "")
    name, other = own.get(call.number, ""), compat.get(call.number, "")
    if is_32_bit(call) or (wchan == "do_wait" and name not in WAITS and other in WAITS):
        return other
    return name


def signed(value: int) -> int:
    """An argument that is an int in C."""
    value &= _BITS_32 - 1
    return value - _BITS_32 if value >> 31 else value
