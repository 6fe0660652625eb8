"""Structures of the kernel's interface as strace writes them. Pure: bytes in, text out.

Layouts are those of include/uapi; they cannot change. `KINDS` says how many bytes of each are captured.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Final

from pidwarden.trace import constants as c
from pidwarden.trace import files
from pidwarden.trace.flags import BY_NAME
from pidwarden.trace.signals import handler, siginfo, signal_name, signal_set
from pidwarden.trace.text import flags, hexa, named, pointer, quote

if TYPE_CHECKING:
    from collections.abc import Callable

_INFINITY: Final = (1 << 64) - 1
_KIB: Final = 1024
_NOW, _OMIT = 0x3FFFFFFF, 0x3FFFFFFE  # UTIME_NOW, UTIME_OMIT

_two_longs = struct.Struct("<qq").unpack_from
_two_words = struct.Struct("<QQ").unpack_from
_four_longs = struct.Struct("<qqqq").unpack_from
_poll_flags = BY_NAME["poll"]
_epoll_flags = flags(c.EPOLL, "EPOLL???")


def timespec(data: bytes) -> str:
    """Struct timespec."""
    seconds, ns = _two_longs(data)
    return f"{{tv_sec={seconds}, tv_nsec={ns & _INFINITY}}}"


def timeval(data: bytes) -> str:
    """Struct timeval."""
    seconds, us = _two_longs(data)
    return f"{{tv_sec={seconds}, tv_usec={us & _INFINITY}}}"


def itimerspec(data: bytes) -> str:
    """Struct itimerspec."""
    return f"{{it_interval={timespec(data)}, it_value={timespec(data[16:])}}}"


def itimerval(data: bytes) -> str:
    """Struct itimerval."""
    return f"{{it_interval={timeval(data)}, it_value={timeval(data[16:])}}}"


def timezone(data: bytes) -> str:
    """Struct timezone."""
    west, dst = struct.unpack_from("<ii", data)
    return f"{{tz_minuteswest={west}, tz_dsttime={dst}}}"


def two_timevals(data: bytes) -> str:
    """The two times of utimes(2)."""
    return f"[{timeval(data)}, {timeval(data[16:])}]"


def rlimit(data: bytes) -> str:
    """Struct rlimit64."""
    now, most = (_limit(value) for value in _two_words(data))
    return f"{{rlim_cur={now}, rlim_max={most}}}"


def _limit(value: int) -> str:
    if value == _INFINITY:
        return "RLIM64_INFINITY"
    return f"{value // _KIB}*1024" if value > _KIB and not value % _KIB else str(value)


_LAST_SECOND: Final = 253402300799  # of the year 9999


def date(seconds: int, ns: int = 0) -> str:
    """A time of day where this runs."""
    if not 0 <= seconds <= _LAST_SECOND:
        return str(seconds)
    local = time.localtime(seconds)
    fraction = f".{ns:09}" if ns else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + time.strftime("%z", local)


def wait_status(data: bytes) -> str:
    """What wait4(2) gives: exit code or signal."""
    status = int.from_bytes(data[:4], "little")
    low, high = status & 0xFF, status >> 8 & 0xFF
    rest = status & ~0xFFFF
    if low == 0x7F:  # noqa: PLR2004
        text = f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(high & 0x7F)}{' | 0x80' if high & 0x80 else ''}}}"
    elif status == 0xFFFF:  # noqa: PLR2004
        return "[{WIFCONTINUED(s)}]"
    elif low & 0x7F:
        text = (
            f"{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(low & 0x7F)}{' && WCOREDUMP(s)' if low & 0x80 else ''}}}"
        )
        rest |= high << 8
    else:
        text = f"{{WIFEXITED(s) && WEXITSTATUS(s) == {high}}}"
    if rest >> 16:
        text += f"|{_ptrace_event(rest >> 16)}<<16"
    return f"[{text}|{rest & 0xFFFF:#x}]" if rest & 0xFFFF else f"[{text}]"


_ptrace_event = named({
    1: "PTRACE_EVENT_FORK", 2: "PTRACE_EVENT_VFORK", 3: "PTRACE_EVENT_CLONE", 4: "PTRACE_EVENT_EXEC",
    5: "PTRACE_EVENT_VFORK_DONE", 6: "PTRACE_EVENT_EXIT", 7: "PTRACE_EVENT_SECCOMP", 128: "PTRACE_EVENT_STOP",
}, "PTRACE_EVENT_???")  # fmt: skip


def rusage(data: bytes) -> str:
    """Struct rusage."""
    return f"{{ru_utime={timeval(data)}, ru_stime={timeval(data[16:])}, ...}}"


_LOADS = ("uptime", "totalram", "freeram", "sharedram", "bufferram", "totalswap", "freeswap")


def sysinfo(data: bytes) -> str:
    """Struct sysinfo."""
    uptime, one, five, fifteen, *memory, processes, high, free_high, unit = struct.unpack_from("<q3Q6QH6x2QI", data)
    names = ("totalram", "freeram", "sharedram", "bufferram", "totalswap", "freeswap")
    sizes = "".join(f"{name}={value}, " for name, value in zip(names, memory, strict=True))
    loads = f"uptime={uptime}, loads=[{one}, {five}, {fifteen}], "
    return f"{{{loads}{sizes}procs={processes}, totalhigh={high}, freehigh={free_high}, mem_unit={unit}}}"


def uname(data: bytes) -> str:
    """Struct new_utsname."""
    system, node = (data[at : at + 65].split(b"\0")[0] for at in (0, 65))
    return f"{{sysname={quote(system)}, nodename={quote(node)}, ...}}"


def sigaction(data: bytes) -> str:
    """The kernel's struct sigaction."""
    address, bits, restorer, mask = struct.unpack_from("<4Q", data)
    text = f"{{sa_handler={handler(address)}, sa_mask={signal_set(mask, 8)}, sa_flags={_sa(bits)}"
    return text + (f", sa_restorer={pointer(restorer)}}}" if bits & 0x4000000 else "}")


_sa = flags(c.SA | {0x20000000: "SA_INTERRUPT"}, "SA_???", order=(
    "SA_RESTORER", "SA_ONSTACK", "SA_RESTART", "SA_INTERRUPT", "SA_NODEFER", "SA_RESETHAND", "SA_SIGINFO",
    "SA_NOCLDSTOP",
))  # fmt: skip
_ss = flags({1: "SS_ONSTACK", 2: "SS_DISABLE", 0x80000000: "SS_AUTODISARM"}, "SS_???", order=("SS_AUTODISARM",))


def sigaltstack(data: bytes) -> str:
    """stack_t."""
    address, bits, size = struct.unpack_from("<QI4xQ", data)
    return f"{{ss_sp={pointer(address)}, ss_flags={_ss(bits)}, ss_size={size}}}"


def clone_args(data: bytes) -> str:
    """What is given to clone3(2); its size differs between versions."""
    words = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & ~7])
    bits, pidfd, child_tid, parent_tid, signal, stack, stack_size, tls, *more = words
    fields = [f"flags={_clone3(bits)}"]
    if bits & 0x1000:
        fields.append(f"pidfd={pointer(pidfd)}")
    if bits & 0x1200000:
        fields.append(f"child_tid={pointer(child_tid)}")
    if bits & 0x100000:
        fields.append(f"parent_tid={pointer(parent_tid)}")
    fields += [f"exit_signal={signal_name(signal)}", f"stack={pointer(stack)}", f"stack_size={hexa(stack_size)}"]
    if bits & 0x80000:
        fields.append(f"tls={pointer(tls)}")
    if len(more) > 1 and any(more[:2]):
        fields += [f"set_tid={pointer(more[0])}", f"set_tid_size={more[1]}"]
    if len(more) > 2 and (more[2] or bits & 0x200000000):  # noqa: PLR2004
        fields.append(f"cgroup={more[2]}")
    return "{" + ", ".join(fields) + "}"


_clone3 = flags(c.CLONE | c.CLONE3, "CLONE_???", order=[c.CLONE[bits] for bits in c.CLONE])


def pollfd(data: bytes) -> str:
    """Struct pollfd, as it was given."""
    fd, events, _revents = struct.unpack_from("<iHH", data)
    return f"{{fd={fd}, events={_poll_flags(events)}}}" if fd >= 0 else f"{{fd={fd}}}"


def pollfd_ready(data: bytes) -> str:
    """What poll(2) found there; empty if nothing."""
    fd, _events, found = struct.unpack_from("<iHH", data)
    return f"{{fd={fd}, revents={_poll_flags(found)}}}" if found else ""


def epoll_event(data: bytes) -> str:
    """Struct epoll_event."""
    bits = int.from_bytes(data[:4], "little")
    value = int.from_bytes(data[-8:], "little")
    return f"{{events={_epoll_flags(bits)}, data={{u32={value & 0xFFFFFFFF}, u64={value}}}}}"


def in_brackets(data: bytes) -> str:
    """An int that is pointed to."""
    return f"[{int.from_bytes(data[:4], 'little', signed=True)}]"


def unsigned_in_brackets(data: bytes) -> str:
    """An unsigned int that is pointed to."""
    return f"[{int.from_bytes(data[:4], 'little')}]"


def long_in_brackets(data: bytes) -> str:
    """A long that is pointed to."""
    return f"[{int.from_bytes(data[:8], 'little', signed=True)}]"


_version = named({0x19980330: "_LINUX_CAPABILITY_VERSION_1", 0x20071026: "_LINUX_CAPABILITY_VERSION_2",
                  0x20080522: "_LINUX_CAPABILITY_VERSION_3"}, "_LINUX_CAPABILITY_VERSION_???")  # fmt: skip


def cap_header(data: bytes) -> str:
    """cap_user_header_t."""
    version, pid = struct.unpack_from("<Ii", data)
    return f"{{version={_version(version)}, pid={pid}}}"


def cap_data(data: bytes) -> str:
    """Both halves of cap_user_data_t."""
    low, high = struct.unpack_from("<3I", data), struct.unpack_from("<3I", data, 12)
    sets = (_capabilities(one | two << 32) for one, two in zip(low, high, strict=True))
    return "{effective=%s, permitted=%s, inheritable=%s}" % tuple(sets)  # noqa: UP031


def _capabilities(value: int) -> str:
    names = [f"1<<{c.CAPABILITY.get(n, n)}" for n in range(64) if value >> n & 1]
    return "|".join(names) or "0"


_semaphore = flags({0o4000: "IPC_NOWAIT", 0x1000: "SEM_UNDO"}, "SEM_???", order=("SEM_UNDO",))


def sembuf(data: bytes) -> str:
    """Struct sembuf."""
    number, operation, bits = struct.unpack_from("<Hhh", data)
    return f"{{sem_num={number}, sem_op={operation}, sem_flg={_semaphore(bits & 0xFFFF)}}}"


_notify = named(c.SIGEV, "SIGEV_???")
_SIGEV_NONE, _SIGEV_THREAD, _SIGEV_THREAD_ID = 1, 2, 4


def sigevent(data: bytes) -> str:
    """Struct sigevent."""
    number, (value, signal, notify, thread) = struct.unpack_from("<i", data)[0], struct.unpack_from("<Qiii", data)
    fields = [f"sigev_value={{sival_int={number}, sival_ptr={pointer(value)}}}"] if value else []
    fields += [
        f"sigev_signo={signal if notify == _SIGEV_NONE else signal_name(signal)}",
        f"sigev_notify={_notify(notify)}",
    ]
    if notify == _SIGEV_THREAD_ID:
        fields.append(f"sigev_notify_thread_id={thread}")
    if notify == _SIGEV_THREAD:
        function, attributes = struct.unpack_from("<QQ", data, 16)
        fields += [f"sigev_notify_function={pointer(function)}", f"sigev_notify_attributes={pointer(attributes)}"]
    return "{" + ", ".join(fields) + "}"


def linger(data: bytes) -> str:
    """Struct linger."""
    on, seconds = struct.unpack_from("<ii", data)
    return f"{{l_onoff={on}, l_linger={seconds}}}"


def ucred(data: bytes) -> str:
    """Struct ucred."""
    pid, uid, gid = struct.unpack_from("<iii", data)
    return f"{{pid={pid}, uid={uid}, gid={gid}}}"


def tms(data: bytes) -> str:
    """Struct tms."""
    values = struct.unpack_from("<4q", data)
    names = ("tms_utime", "tms_stime", "tms_cutime", "tms_cstime")
    return "{" + ", ".join(f"{name}={_ticks(value)}" for name, value in zip(names, values, strict=True)) + "}"


def _ticks(value: int) -> str:
    return f"{value} /* {value // 100}.{value % 100:02} s */" if value else "0"


def utimes(data: bytes) -> str:
    """The two times of utimensat(2)."""
    return f"[{_utime(data)}, {_utime(data[16:])}]"


def _utime(data: bytes) -> str:
    ns = _two_longs(data)[1]
    return {_NOW: "UTIME_NOW", _OMIT: "UTIME_OMIT"}.get(ns) or timespec(data) + _date(data)


def _date(data: bytes) -> str:
    seconds, ns = _two_longs(data)
    return f" /* {date(seconds, ns)} */" if seconds or ns else ""


# Bytes of each, and how it is written.
KINDS: Final[dict[str, tuple[int, Callable[[bytes], str]]]] = {
    "timespec": (16, timespec), "timeval": (16, timeval), "itimerspec": (32, itimerspec), "itimerval": (32, itimerval),
    "timezone": (8, timezone), "two_timevals": (32, two_timevals), "utimes": (32, utimes), "rlimit": (16, rlimit),
    "stat": (144, files.stat_x86), "stat_generic": (128, files.stat_generic), "statx": (256,
    files.statx), "rusage": (144, rusage),
    "sysinfo": (112, sysinfo), "uname": (390, uname), "sigaction": (32, sigaction), "sigaltstack": (24, sigaltstack),
    "open_how": (24, files.open_how), "siginfo": (48, siginfo), "cap_header": (8, cap_header),
    "cap_data": (24, cap_data), "statfs": (120, files.statfs),
    "int": (4, in_brackets), "unsigned": (4, unsigned_in_brackets), "long": (8, long_in_brackets), "tms": (32, tms),
    "filters": (16, lambda data: "{{len={}, filter={:#x}}}".format(*struct.unpack_from("<H6xQ", data))),
}  # fmt: skip
# The same of one element.
ARRAYS: Final[dict[str, tuple[int, Callable[[bytes], str]]]] = {
    "pollfd": (8, pollfd), "epoll_event": (12, epoll_event), "epoll_event_generic": (16, epoll_event),
    "sembuf": (6, sembuf),
}  # fmt: skip
