"""Names of flags and choices, each as a function from the value of an argument to strace's text. Pure."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from pidwarden.trace import constants as c
from pidwarden.trace import ioctls
from pidwarden.trace import sockconstants as s
from pidwarden.trace.text import BITS_32, flags, hexa, mode, named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# In the order in which they are written. The numbers are the machine's own, so they are not generated.
_OPEN: Final = (
    "O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_DIRECT",
    "O_LARGEFILE", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC", "O_PATH", "O_TMPFILE", "__O_SYNC", "__O_TMPFILE",
    "O_DIRECTORY", "FASYNC",
)  # fmt: skip
_ACCESS_MODES: Final = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")
# O_LARGEFILE is 0 to 64-bit programs but set in what F_GETFL returns: include/uapi/asm-generic/fcntl.h, arch/arm64
_LARGEFILE: Final = {"aarch64": 0o400000}.get(os.uname().machine, 0o100000)
_OPEN_BITS: Final = {getattr(os, name): name for name in _OPEN if getattr(os, name, 0)} | {
    _LARGEFILE: "O_LARGEFILE",
    os.O_ASYNC: "FASYNC",
    os.O_SYNC & ~os.O_DSYNC: "__O_SYNC",
    os.O_TMPFILE & ~os.O_DIRECTORY: "__O_TMPFILE",
}
CREATES: Final = os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY)
_CLOEXEC: Final = os.O_CLOEXEC
_NONBLOCK: Final = os.O_NONBLOCK

_only_open = flags(_OPEN_BITS, "", order=_OPEN)


def opened(value: int) -> str:
    """Flags of open(2)."""
    access, rest = _ACCESS_MODES[value & 3], value & ~3
    return f"{access}|{_only_open(rest)}" if rest else access


def _int(value: int) -> int:
    return value & BITS_32


def _flags(table: Mapping[int, str], unknown: str = "", order: tuple[str, ...] = ()) -> Callable[[int], str]:
    return flags(table, unknown, order=order, fits=_int)


def _named(table: Mapping[int, str], unknown: str = "") -> Callable[[int], str]:
    return _of(named(table, unknown))


def _of(text: Callable[[int], str]) -> Callable[[int], str]:
    return lambda value: text(value & BITS_32)


def _signed(table: Mapping[int, str], unknown: str) -> Callable[[int], str]:
    by_value = {value & BITS_32: name for value, name in table.items()}
    return _named(by_value, unknown)


_FILTER_FLAGS: Final = {
    1 << n: f"SECCOMP_FILTER_FLAG_{name}"
    for n, name in enumerate(("TSYNC", "LOG", "SPEC_ALLOW", "NEW_LISTENER", "TSYNC_ESRCH", "WAIT_KILLABLE_RECV"))
}
_protection = flags(c.PROT | {0: "PROT_NONE"}, "PROT_???")
_map_bits = flags(
    c.MAP,
    order=("MAP_FIXED", "MAP_ANONYMOUS", "MAP_32BIT", "MAP_NORESERVE", "MAP_POPULATE", "MAP_NONBLOCK", "MAP_GROWSDOWN"),
)
_map_type = named(c.MAP_TYPE, "MAP_???")
_HUGE_SHIFT: Final = 26
_HUGE_MASK: Final = 0x3F << _HUGE_SHIFT


def mapped(value: int) -> str:
    """Flags of mmap(2)."""
    value &= BITS_32
    kind, huge, rest = value & 0xF, (value & _HUGE_MASK) >> _HUGE_SHIFT, value & ~0xF & ~_HUGE_MASK
    text = _map_type(kind)
    if rest:
        text += "|" + _map_bits(rest)
    return f"{text}|{huge}<<MAP_HUGE_SHIFT" if huge else text


_sock_bits = _flags({_CLOEXEC: "SOCK_CLOEXEC", _NONBLOCK: "SOCK_NONBLOCK"}, "SOCK_???", ("SOCK_CLOEXEC",))


def socket_type(value: int) -> str:
    """SOCK_STREAM and what else may be in there."""
    value &= BITS_32
    name = s.SOCK.get(value & 0xF)
    if name is None:
        return _sock_bits(value)
    return f"{name}|{_sock_bits(value & ~0xF)}" if value & ~0xF else name


_statx_sync = named(c.AT_STATX)
_at = _flags(c.AT, "AT_???")
_at_more = _flags(c.AT)


def statx_flags(value: int) -> str:
    """Flags of statx(2)."""
    sync, rest = value & 0x6000, value & BITS_32 & ~0x6000
    return f"{_statx_sync(sync)}|{_at_more(rest)}" if rest else _statx_sync(sync)


_lock = _flags(c.FLOCK, "LOCK_???", ("LOCK_SH", "LOCK_EX", "LOCK_UN", "LOCK_NB"))
_mount = flags(c.MOUNT, "MS_???")
_MAGIC: Final = 0xC0ED0000  # MS_MGC_VAL


def mount_flags(value: int) -> str:
    """Flags of mount(2)."""
    if value & 0xFFFF0000 == _MAGIC:
        rest = value & 0xFFFF
        return f"MS_MGC_VAL|{_mount(rest)}" if rest else "MS_MGC_VAL"
    return _mount(value)


_futex = _named(c.FUTEX, "FUTEX_???")
_FUTEX_REALTIME: Final = 0x100
_FUTEX_TIMED: Final = (9, 11, 13)  # FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2


def futex_op(value: int) -> str:
    """What futex(2) is to do."""
    value &= BITS_32
    if value & _FUTEX_REALTIME and value & 0x7F in _FUTEX_TIMED and value & ~_FUTEX_REALTIME in c.FUTEX:
        return f"{_futex(value & ~_FUTEX_REALTIME)}|FUTEX_CLOCK_REALTIME"
    return _futex(value)


# Bits above the lowest byte (include/uapi/linux/personality.h)
_personality = flags({
    0x20000: "UNAME26", 0x40000: "ADDR_NO_RANDOMIZE", 0x80000: "FDPIC_FUNCPTRS", 0x100000: "MMAP_PAGE_ZERO",
    0x200000: "ADDR_COMPAT_LAYOUT", 0x400000: "READ_IMPLIES_EXEC", 0x800000: "ADDR_LIMIT_32BIT",
    0x1000000: "SHORT_INODE",
    0x2000000: "WHOLE_SECONDS", 0x4000000: "STICKY_TIMEOUTS", 0x8000000: "ADDR_LIMIT_3GB",
})  # fmt: skip
_execution_domain = named({0: "PER_LINUX", 8: "PER_LINUX32"}, "PER_???")


def personality(value: int) -> str:
    """Domain and flags; all ones ask for them."""
    value &= BITS_32
    if value == BITS_32:
        return hexa(value)
    name, rest = _execution_domain(value & 0xFF), value & ~0xFF
    return f"{name}|{_personality(rest)}" if rest else name


_ipc = _flags({0o1000: "IPC_CREAT", 0o2000: "IPC_EXCL"})
_ipc_command = named({0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 3: "IPC_INFO", 11: "GETPID", 12: "GETVAL",
                      13: "GETALL",                      14: "GETNCNT", 15: "GETZCNT", 16: "SETVAL",
                      17: "SETALL"})  # fmt: skip


def ipc_flags(value: int) -> str:
    """Flags and permissions of shmget(2), semget(2), msgget(2)."""
    bits = value & BITS_32 & ~0o777
    return f"{_ipc(bits)}|{mode(value & 0o777)}" if bits else mode(value & 0o777)


def ipc_command(value: int) -> str:
    """What shmctl(2) and its like are to do."""
    return f"IPC_64|{_ipc_command(value & 0xFF)}" if value & 0x100 else _ipc_command(value & BITS_32)


def clone_flags(value: int, signal: Callable[[int], str]) -> str:
    """Flags of clone(2) and the signal in their lowest byte."""
    bits, number = value & ~0xFF, value & 0xFF
    if not bits:
        return signal(number)
    return f"{_clone(bits)}|{signal(number)}" if number else _clone(bits)


_SHARED: Final = {
    0x40049409: "BTRFS_IOC_CLONE or FICLONE", 0x4020940D: "BTRFS_IOC_CLONE_RANGE or FICLONERANGE",
    0x5402: "SNDCTL_TMR_START or TCSETS", 0x5403: "SNDCTL_TMR_STOP or TCSETSW",
    0x5404: "SNDCTL_TMR_CONTINUE or TCSETSF",
}  # fmt: skip


def ioctl_request(value: int) -> str:
    """The name of an ioctl, else its parts."""
    value &= BITS_32
    name = _SHARED.get(value) or ioctls.IOCTL.get(value)
    if name is not None:
        return name
    direction = ("_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE")[value >> 30]
    return f"_IOC({direction}, {hexa(value >> 8 & 0xFF)}, {hexa(value & 0xFF)}, {hexa(value >> 16 & 0x3FFF)})"


_clone = flags(c.CLONE, "CLONE_???")
_EVENTFD: Final = {1: "EFD_SEMAPHORE", _CLOEXEC: "EFD_CLOEXEC", _NONBLOCK: "EFD_NONBLOCK"}
# Of the kernel's own (include/linux/socket.h)
_MSG_KERNEL: Final = {
    0x10: "MSG_PROBE",
    0x80000000: "MSG_CMSG_COMPAT",
    0x20000: "MSG_SENDPAGE_NOTLAST",
    0x80000: "MSG_NO_SHARED_FRAGS",
}
_TIMERFD: Final = {
    1: "TFD_TIMER_ABSTIME", 2: "TFD_TIMER_CANCEL_ON_SET", _CLOEXEC: "TFD_CLOEXEC", _NONBLOCK: "TFD_NONBLOCK",
}  # fmt: skip
_NAMESPACES: Final = {bits: name for bits, name in (c.CLONE | c.CLONE3).items() if name.startswith("CLONE_NEW")}
_access = _flags(c.ACCESS, "?_OK", ("R_OK", "W_OK", "X_OK"))
_scheduler = {**c.SCHED, 0: "SCHED_OTHER"}

# Of an argument whose type is named so in shapes.py.
BY_NAME: Final[dict[str, Callable[[int], str]]] = {
    "open": opened,
    "access": _access,
    "arch": _named(c.ARCH, "ARCH_???"),
    "at": _at,
    "at_access": _flags({0x100: "AT_SYMLINK_NOFOLLOW", 0x200: "AT_EACCESS", 0x1000: "AT_EMPTY_PATH"}, "AT_???"),
    "clock": _named(c.CLOCK, "CLOCK_???"),
    "namespace": _flags(_NAMESPACES, "CLONE_NEW???"),
    "unshare": flags({0x80: "CLONE_NEWTIME", **c.CLONE}, "CLONE_???", order=list(c.CLONE.values())),
    "close_range": _flags({2: "CLOSE_RANGE_UNSHARE", 4: "CLOSE_RANGE_CLOEXEC"}, "CLOSE_RANGE_???"),
    "epoll_create": _flags({_CLOEXEC: "EPOLL_CLOEXEC"}, "EPOLL_???"),
    "epoll_op": _named(c.EPOLL_OP, "EPOLL_CTL_???"),
    "eventfd": _flags(_EVENTFD, "EFD_???", ("EFD_SEMAPHORE", "EFD_CLOEXEC", "EFD_NONBLOCK")),
    "fadvise": _named(c.FADVISE, "POSIX_FADV_???"),
    "fallocate": _flags(c.FALLOCATE, "FALLOC_FL_???"),
    "family": _named(s.ADDRESS_FAMILY, "AF_???"),
    "fcntl": _named(c.FCNTL | {12: "F_GETLK64", 13: "F_SETLK64", 14: "F_SETLKW64"}, "F_???"),
    "flock": _lock,
    "futex": futex_op,
    "getrandom": _flags(c.GETRANDOM, "GRND_???"),
    "inotify": _flags(c.INOTIFY, "IN_???"),
    "inotify_init": _flags({_NONBLOCK: "IN_NONBLOCK", _CLOEXEC: "IN_CLOEXEC"}, "IN_???", ("IN_NONBLOCK",)),
    "ioctl": ioctl_request,
    "ipc_command": ipc_command,
    "ipc_flags": ipc_flags,
    "ipc_key": lambda value: hexa(value & BITS_32) if value & BITS_32 else "IPC_PRIVATE",
    "itimer": _named(c.ITIMER, "ITIMER_???"),
    "madvise": _named(c.MADVISE, "MADV_???"),
    "map": mapped,
    "mcl": _flags(c.MCL, "MCL_???"),
    "memfd": _flags(c.MEMFD, "MFD_???"),
    "mount": mount_flags,
    "mremap": flags(c.MREMAP, "MREMAP_???"),
    "msg": _flags(s.MSG | _MSG_KERNEL, "MSG_???"),
    "msync": _flags(c.MSYNC, "MS_???"),
    "personality": personality,
    "pidfd": _flags({_NONBLOCK: "PIDFD_NONBLOCK"}, "PIDFD_???"),
    "pipe": _flags(_OPEN_BITS, "O_???", _OPEN),
    "poll": flags(c.POLL | {0x8000: "POLL_BUSY_LOOP"}, "POLL???", fits=lambda value: value & 0xFFFF),
    "prctl": _named(c.PR, "PR_???"),
    "priority": _named(c.PRIORITY, "PRIO_???"),
    "prot": _protection,
    "ptrace": _named(c.PTRACE | {3: "PTRACE_PEEKUSER", 6: "PTRACE_POKEUSER"}, "PTRACE_???"),
    "rename": _flags(c.RENAME, "RENAME_??"),
    "resource": _named(c.RLIMIT, "RLIMIT_???"),
    "usage": _signed(c.RUSAGE, "RUSAGE_???"),
    "rwf": _flags(c.RWF, "RWF_???"),
    "scheduler": _named(_scheduler, "SCHED_???"),
    "seek": _named(c.SEEK, "SEEK_???"),
    "seccomp": _named(c.SECCOMP, "SECCOMP_SET_MODE_???"),
    "seccomp_flags": _flags(_FILTER_FLAGS, "SECCOMP_FILTER_FLAG_???"),
    "shutdown": _named(s.SHUTDOWN, "SHUT_???"),
    "sig_how": _named(c.SIG_HOW, "SIG_???"),
    "signalfd": _flags({_NONBLOCK: "SFD_NONBLOCK", _CLOEXEC: "SFD_CLOEXEC"}, "SFD_???", ("SFD_CLOEXEC",)),
    "sock_flags": _sock_bits,
    "socket_type": socket_type,
    "splice": _flags(c.SPLICE, "SPLICE_F_???"),
    "statx_flags": statx_flags,
    "statx_mask": flags({0xFFF: "STATX_ALL", 0x7FF: "STATX_BASIC_STATS", **c.STATX}, "STATX_???", fits=_int,
                        order=("STATX_ALL", "STATX_BASIC_STATS")),
    "sync_range": _flags(c.SYNC_RANGE, "SYNC_FILE_RANGE_???"),
    "timer": _flags(c.TIMER, "TIMER_???"),
    "timerfd": _flags(_TIMERFD, "TFD_???", tuple(_TIMERFD.values())),
    "umount": _flags(c.UMOUNT, "MNT_???"),
    "wait": _flags(c.WAIT, "W???", ("WNOHANG", "WEXITED", "WSTOPPED", "WCONTINUED", "WNOWAIT", "__WCLONE", "__WALL")),
    "wait_id": _named(c.WAIT_ID, "P_???"),
    "xattr": _flags(c.XATTR, "XATTR_???"),
}  # fmt: skip

_protocol = _named(s.INET_PROTOCOL, "IPPROTO_???")
_netlink = _named(s.NETLINK, "NETLINK_???")
_ethernet = named(s.ETHERNET, "ETH_P_???")
_INET, _INET6, _NETLINK, _PACKET = 2, 10, 16, 17


def protocol(family: int, value: int) -> str:
    """The third argument of socket(2)."""
    if family in (_INET, _INET6):
        return _protocol(value)
    if family == _NETLINK:
        return _netlink(value)
    if family == _PACKET:
        number = (value & 0xFF) << 8 | value >> 8 & 0xFF
        return f"htons({_ethernet(number)})"
    return str(value & BITS_32)


_OPTIONS: Final = {
    1: _named(s.SOCKET_OPTION, "SO_???"),
    0: _named(s.IP, "IP_???"),
    6: _named(s.TCP, "TCP_???"),
    41: _named(s.IPV6, "IPV6_???"),
    270: _named(s.NETLINK_OPTION, "NETLINK_???"),
}
socket_level = _named(s.SOCKET_LEVEL, "SOL_??")


def socket_option(level: int, value: int) -> str:
    """The name of an option of that level."""
    found = _OPTIONS.get(level & BITS_32)
    return found(value) if found else str(value & BITS_32)


_FILE_TYPES: Final = {
    0o100000: "S_IFREG", 0o140000: "S_IFSOCK", 0o010000: "S_IFIFO", 0o120000: "S_IFLNK", 0o040000: "S_IFDIR",
    0o060000: "S_IFBLK", 0o020000: "S_IFCHR",
}  # fmt: skip
_SPECIAL: Final = ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX"))


def file_mode(value: int) -> str:
    """Type and permissions as stat(2) gives them."""
    kind = _FILE_TYPES.get(value & 0o170000)
    if kind is None:
        return mode(value)
    names = [kind, *(name for bit, name in _SPECIAL if value & bit), mode(value & 0o777)]
    return "|".join(names)


fcntl_flags = partial(_flags({1: "FD_CLOEXEC"}, "FD_???"))
seals = _flags(c.SEAL, "F_SEAL_???")
lock_type = _named(c.LOCK, "F_???")
seek = BY_NAME["seek"]
