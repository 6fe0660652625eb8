"""Arguments whose meaning hangs on another one: of fcntl, futex, prctl, ioctl, clone and some more. Pure."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pidwarden.trace import constants as c
from pidwarden.trace import files, structs
from pidwarden.trace.abi import CUT
from pidwarden.trace.flags import CREATES, clone_flags, fcntl_flags, lock_type, opened, seals
from pidwarden.trace.signals import signal_name
from pidwarden.trace.text import BITS_32, hexa, mode, named, pointer, quote, signed32, signed64

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.call import Call, Formatter, Place

_TIME: Final = 16  # bytes
_INTERRUPTED: Final = (-512, -513, -514, -516)  # ERESTARTSYS, …NOINTR, …NOHAND, …_RESTARTBLOCK


def _with(text: Callable[[Call, int, Place], str | None]) -> Callable[[Place], Formatter]:
    """A maker out of a function that is given the call, the value and the place."""

    def maker(place: Place) -> Formatter:
        index = place.arg
        return lambda call: text(call, call.args[index], place)

    return maker


def _pointed(  # noqa: PLR0913
    call: Call, value: int, index: int, text: Callable[[bytes], str], size: int, *, late: bool = False
) -> str:
    if late:
        call.finished()
    piece = (None if call.failed else call.told(index)) if late else call.given(index)
    if piece is None and value:
        call.finished()  # it is captured at the return only
    return text(piece.data) if value and piece is not None and len(piece.data) >= size else pointer(value)


def _create(call: Call, value: int, place: Place) -> str | None:
    return mode(value & 0xFFFF) if call.args[place.arg - 1] & CREATES else None


def _left(call: Call, value: int, place: Place) -> str:
    """What was left to sleep, which is told only if that was interrupted."""
    call.finished()
    piece = call.told(place.arg) if call.ret in _INTERRUPTED else None
    return structs.timespec(piece.data) if piece is not None and len(piece.data) >= _TIME and value else pointer(value)


def _mremap_to(call: Call, value: int, _place: Place) -> str | None:
    return pointer(value) if call.args[3] & 2 and call.args[3] & 1 else None


_ARCH_SET: Final = (0x1001, 0x1002)
_ARCH_GET: Final = (0x1003, 0x1004)


def _arch(call: Call, value: int, place: Place) -> str | None:
    code = call.args[0] & BITS_32
    if code in _ARCH_GET:
        return _pointed(
            call, value, place.arg, lambda data: f"[{pointer(int.from_bytes(data[:8], 'little'))}]", 8, late=True
        )
    if code in _ARCH_SET:
        return pointer(value)
    if code == 0x1011:  # noqa: PLR2004  (ARCH_GET_CPUID)
        return None
    return hexa(value)


# What the third argument of fcntl(2) is.
_F_NONE: Final = (1, 3, 9, 11, 0x401, 0x408, 0x40A)
_F_NUMBER: Final = (0, 0x406, 0x407)
_F_SET_OWNER, _F_GET_OWNER = 15, 16
_F_LOCK: Final = (6, 7, 37, 38)
_F_FIND_LOCK: Final = (5, 36)


def _fcntl(call: Call, value: int, place: Place) -> str | None:
    command = call.args[1] & BITS_32
    if command in _F_NONE:
        return None
    if command in _F_NUMBER:
        return str(signed64(value))
    if command in _F_LOCK:
        return _pointed(call, value, place.arg, files.flock, 32)
    if command in _F_FIND_LOCK:
        return _pointed(call, value, place.arg, files.flock_found, 32, late=True)
    if command in (_F_SET_OWNER, _F_GET_OWNER):
        return _pointed(call, value, place.arg, files.f_owner, 8, late=command == _F_GET_OWNER)
    direct = _F_DIRECT.get(command)
    return direct(value) if direct else hexa(value)


_F_DIRECT: Final[dict[int, Callable[[int], str]]] = {
    2: fcntl_flags, 4: opened, 8: lambda value: str(signed32(value)), 10: lambda value: signal_name(signed32(value)),
    0x400: lock_type, 0x409: seals,
}  # fmt: skip

# What futex(2) takes after its number, by operation: v value, t timeout, n second number, a second address,
# c third value, b bit set, o operation.
_FUTEX: Final = {0: "vt", 1: "v", 2: "v", 3: "vna", 4: "vnac", 5: "vnao", 6: " t", 7: "", 8: "", 9: "vt b", 10: "v  b",
                 11: "vta", 12: "vnac", 13: " t"}  # fmt: skip
_futex_set = named({BITS_32: "FUTEX_BITSET_MATCH_ANY"})
_futex_operation = named(c.FUTEX_OP)
_futex_comparison = named(c.FUTEX_CMP)


def _futex(call: Call, value: int, place: Place) -> str | None:
    operation = call.args[1] & 0x7F
    kinds = _FUTEX.get(operation)
    if kinds is None:
        return (str(value & BITS_32), pointer(value), pointer(value), hexa(value & BITS_32))[place.arg - 2]
    at = place.arg - 2
    kind = kinds[at] if at < len(kinds) else " "
    if kind in "vnc":
        return str(value & BITS_32)
    if kind == "t":
        return _pointed(call, value, place.arg, structs.timespec, 16)
    if kind == "a":
        return pointer(value)
    if kind == "b":
        return _futex_set(value & BITS_32)
    return _wake_operation(value & BITS_32) if kind == "o" else None


def _wake_operation(value: int) -> str:
    operation, comparison = value >> 28 & 7, value >> 24 & 0xF
    shift = "FUTEX_OP_OPARG_SHIFT<<28|" if value >> 28 & 8 else ""
    first, second = hexa(value >> 12 & 0xFFF), hexa(value & 0xFFF)
    return (
        f"{shift}{_futex_operation(operation)}<<28|{first}<<12|"
        f"{_futex_comparison(comparison)}<<24|{second}"
    )  # fmt: skip


_SETTID, _SETTLS, _CHILD, _PIDFD = 0x100000, 0x80000, 0x1200000, 0x1000


def _clone_stack(_call: Call, value: int, _place: Place) -> str:
    return f"child_stack={pointer(value)}"


def _clone_flags(_call: Call, value: int, _place: Place) -> str:
    return f"flags={clone_flags(value, signal_name)}"


def _clone_parent(call: Call, value: int, place: Place) -> str | None:
    if not call.args[0] & (_SETTID | _PIDFD):
        return None
    return f"parent_tid={_pointed(call, value, place.arg, structs.in_brackets, 4, late=True)}"


def _clone_tls(call: Call, value: int, _place: Place) -> str | None:
    return f"tls={pointer(value)}" if call.args[0] & _SETTLS else None


def _clone_child(call: Call, value: int, _place: Place) -> str | None:
    return f"child_tidptr={pointer(value)}" if call.args[0] & _CHILD else None


def _epoll_ctl(call: Call, value: int, place: Place) -> str:
    return pointer(value) if call.args[1] == 2 else _pointed(call, value, place.arg, structs.epoll_event, 12)  # noqa: PLR2004


_ambient = named({1: "PR_CAP_AMBIENT_IS_SET", 2: "PR_CAP_AMBIENT_RAISE", 3: "PR_CAP_AMBIENT_LOWER",
                  4: "PR_CAP_AMBIENT_CLEAR_ALL"}, "PR_CAP_AMBIENT_???")  # fmt: skip
_tsc = named({1: "PR_TSC_ENABLE", 2: "PR_TSC_SIGSEGV"}, "PR_TSC_???")
_dump = named({0: "SUID_DUMP_DISABLE", 1: "SUID_DUMP_USER", 2: "SUID_DUMP_ROOT"}, "SUID_DUMP_???")
_capability = named(c.CAPABILITY, "CAP_???")
_vma = named({0: "PR_SET_VMA_ANON_NAME"}, "PR_SET_VMA_???")
_seccomp = named({0: "SECCOMP_MODE_DISABLED", 1: "SECCOMP_MODE_STRICT", 2: "SECCOMP_MODE_FILTER"}, "SECCOMP_MODE_???")
_COMM: Final = 16
_SET_SECCOMP, _FILTER = 22, 2
# What prctl(2) takes after its number: by option, a letter for each; - is none.
_PRCTL: Final = {
    1: "s", 2: "S", 3: "", 4: "d", 5: "I", 6: "x", 7: "", 8: "u", 9: "I", 10: "u", 11: "I", 12: "u", 13: "", 14: "u",
    15: "n", 16: "N", 19: "I", 20: "u", 21: "", 22: "eF", 23: "c", 24: "c", 25: "t", 26: "T", 27: "", 28: "x", 29: "i",
    30: "", 31: "", 32: "", 36: "u", 37: "I", 38: "uxxx", 39: "xxxx", 40: "A", 41: "uxxx", 42: "xxxx", 45: "x", 46: "",
    47: "bCxx", 50: "x", 51: "", 57: "uxxx", 63: "x", 64: "", 0x59616D61: "p", 0x53564D41: "vauq",
}  # fmt: skip


def _prctl(call: Call, value: int, place: Place) -> str | None:
    option = call.args[0] & BITS_32
    kinds = "e" if option == _SET_SECCOMP and call.args[1] != _FILTER else _PRCTL.get(option, "xxxx")
    at = place.arg - 1
    return _prctl_one(kinds[at], call, value, place) if at < len(kinds) else None


def _prctl_one(kind: str, call: Call, value: int, place: Place) -> str:  # noqa: PLR0911  (one table)
    direct = _PRCTL_DIRECT.get(kind)
    if direct is not None:
        return direct(value)
    if kind == "C":
        return _capability(value) if call.args[1] in (1, 2, 3) else hexa(value)
    if kind == "n":
        return _comm(call, value, place, _COMM - 1)
    if kind == "q":
        return _string(call, value, place)
    if kind == "N":
        call.finished()
        return _comm(call, value, place, _COMM) if not call.failed else pointer(value)
    if kind == "F":
        return _pointed(call, value, place.arg, structs.KINDS["filters"][1], 16)
    text = {
        "S": lambda data: f"[{signal_name(int.from_bytes(data[:4], 'little'))}]",
        "t": lambda data: f"[{_tsc(int.from_bytes(data[:4], 'little'))}]",
        "A": lambda data: f"[{pointer(int.from_bytes(data[:8], 'little'))}]",
    }.get(kind, structs.unsigned_in_brackets)
    return _pointed(call, value, place.arg, text, 8 if kind == "A" else 4, late=True)


_PRCTL_DIRECT: Final[dict[str, Callable[[int], str]]] = {
    "x": hexa, "u": str, "i": lambda value: str(signed64(value)), "d": _dump, "c": _capability, "v": _vma, "a": pointer,
    "b": _ambient, "T": _tsc, "e": _seccomp,
    "s": lambda value: signal_name(value) if value <= 128 else str(value),  # noqa: PLR2004
    "p": lambda value: "PR_SET_PTRACER_ANY" if value & BITS_32 == BITS_32 else str(signed32(value)),
}  # fmt: skip


def _comm(call: Call, value: int, place: Place, most: int) -> str:
    piece = call.given(place.arg)
    if piece is None or not value:
        return pointer(value)
    name, nul, _rest = piece.data[:most].partition(b"\0")
    return quote(name, more=not nul)


def _sigevent(call: Call, value: int, place: Place) -> str:
    return _pointed(call, value, place.arg, structs.sigevent, 64)


# How many arguments of ptrace(2) a request has, if not all.
_PTRACE: Final = {0: 0, 8: 1, 16: 1, 0x4207: 1, 0x4208: 1}


def _ptrace(call: Call, value: int, place: Place) -> str | None:
    if place.arg > _PTRACE.get(call.args[0] & BITS_32, 3):
        return None
    return str(signed32(value)) if place.arg == 1 else pointer(value)


# Of ioctl(2): what the request reads (<) or fills in (>), and how that is written.
_I: Final = structs.in_brackets
_IOCTL: Final[dict[int, tuple[str, int, Callable[[bytes], str]]]] = {
    0x5401: (">", 36, files.termios), 0x5402: ("<", 36, files.termios), 0x5403: ("<", 36, files.termios),
    0x5404: ("<", 36, files.termios), 0x5413: (">", 8, files.window_size), 0x5414: ("<", 8, files.window_size),
    0x540F: (">", 4, _I), 0x5410: ("<", 4, _I), 0x541B: (">", 4, _I), 0x5411: (">", 4, _I), 0x5421: ("<", 4, _I),
    0x5452: ("<", 4, _I), 0x5429: (">", 4, _I), 0x5420: ("<", 4, _I), 0x80045430: (">", 4, _I),
    0x40045431: ("<", 4, _I), 0x5423: ("<", 4, _I), 0x5424: (">", 4, _I),
}  # fmt: skip
IOCTL_BYTES: Final = 36
_IOCTL_NONE: Final = (0x5451, 0x5450, 0x540C, 0x540D, 0x5422, 0x5427, 0x5428, 0x5437, 0xB701, 0xB702, 0xB703)
_queue = named({0: "TCIFLUSH", 1: "TCOFLUSH", 2: "TCIOFLUSH"}, "TC???")
_flow = named({0: "TCOOFF", 1: "TCOON", 2: "TCIOFF", 3: "TCION"}, "TC???")
_IOCTL_DIRECT: Final[dict[int, Callable[[int], str]]] = {
    0x40049409: lambda v: str(signed32(v)),
    0x540B: _queue, 0x540A: _flow, 0x5409: lambda v: str(signed32(v)), 0x5425: lambda v: str(signed32(v)),
    0x540E: lambda v: str(signed32(v)),
}  # fmt: skip


def _ioctl(call: Call, value: int, place: Place) -> str | None:
    request = call.args[1] & BITS_32
    if request in _IOCTL_NONE:
        return None
    found = _IOCTL.get(request)
    if found is not None:
        direction, size, text = found
        return _pointed(call, value, place.arg, text, size, late=direction == ">")
    direct = _IOCTL_DIRECT.get(request)
    return direct(value) if direct else hexa(value)


_SOCKET, _SOL_NETLINK, _IP, _TCP, _IPV6 = 1, 270, 0, 6, 41
_LINGER, _PEERCRED, _ERROR, _BIND_DEVICE, _CONGESTION = 13, 17, 4, 25, 13
_TIMEOUTS: Final = (20, 21, 66, 67)


def _sockopt(call: Call, value: int, place: Place) -> str:
    """What getsockopt(2) told."""
    call.finished()
    length, piece = call.told(4), call.told(place.arg)
    if call.failed or length is None or piece is None or not value:
        return pointer(value)
    size = int.from_bytes(length.data[:4], "little")
    return _option(call.args[1], call.args[2], piece.data[:size], size, place.limit, told=True)


def _setsockopt(call: Call, value: int, place: Place) -> str:
    size, piece = call.args[4] & BITS_32, call.given(place.arg)
    if piece is None or not value or not size:
        return pointer(value)
    return _option(call.args[1], call.args[2], piece.data[:size], size, place.limit, told=False)


_SECRET: Final = (279, 282)  # SOL_ALG, SOL_TLS: keys


def _option(  # noqa: PLR0913
    level: int, name: int, data: bytes, size: int, limit: int, *, told: bool
) -> str:
    if level in _SECRET:
        return '""...'
    if level == _SOCKET and name == _LINGER and len(data) >= 8:  # noqa: PLR2004
        return structs.linger(data)
    if level == _SOCKET and name == _PEERCRED and len(data) >= 12 and told:  # noqa: PLR2004
        return structs.ucred(data)
    if level == _SOCKET and name == _ERROR and len(data) >= 4 and told:  # noqa: PLR2004
        return f"[{_error(int.from_bytes(data[:4], 'little'))}]"
    if size == 4 and len(data) == size:  # noqa: PLR2004
        return structs.in_brackets(data)
    return quote(data, limit, more=size > max(limit, len(data)))


def _error(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "0"


_MS_REMOUNT, _MS_BINDS = 0x20, 0x1E3000  # MS_BIND, MS_MOVE, MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE


def _mount_type(call: Call, value: int, place: Place) -> str:
    return _string(call, value, place, ignored=bool(call.args[3] & (_MS_REMOUNT | _MS_BINDS)))


def _mount_data(call: Call, value: int, place: Place) -> str:
    return _string(call, value, place, ignored=not call.args[3] & _MS_REMOUNT and bool(call.args[3] & _MS_BINDS))


def _string(call: Call, value: int, place: Place, *, ignored: bool = False) -> str:
    piece = None if ignored else call.given(place.arg)
    return (
        quote(piece.data, place.limit, more=bool(piece.flags & CUT)) if piece is not None and value else pointer(value)
    )


def _sigmask6(call: Call, value: int, place: Place) -> str:
    """The last argument of pselect6(2): where the set lies, and its size."""
    piece = call.given(place.arg)
    if piece is None or not value or len(piece.data) < _COMM:
        return pointer(value)
    where, size = (int.from_bytes(piece.data[at : at + 8], "little") for at in (0, 8))
    return f"{{sigmask={'NULL' if not where else pointer(where)}, sigsetsize={size}}}"


def _status(call: Call, value: int, place: Place) -> str:
    """What wait4(2) told of a child, if there was one."""
    text = _pointed(call, value, place.arg, structs.wait_status, 4, late=True)
    return text if call.ret else pointer(value)


def _usage(call: Call, value: int, place: Place) -> str:
    text = _pointed(call, value, place.arg, structs.rusage, 144, late=True)
    return text if call.ret else pointer(value)


def _sigreturn(_call: Call, _value: int, _place: Place) -> str | None:
    return None


def clone3_filled(call: Call, data: bytes) -> str:
    """What clone3(2) wrote: only the new thread's number is known, which is its result."""
    bits = int.from_bytes(data[:8], "little")
    fields = []
    if bits & _SETTID:
        fields.append(f"parent_tid=[{call.ret}]")
    return f" => {{{', '.join(fields)}}}" if fields else ""


MAKERS: Final[dict[str, Callable[[Place], Formatter]]] = {
    "create": _with(_create), "left": _with(_left), "mremap_to": _with(_mremap_to), "arch_arg": _with(_arch),
    "fcntl_arg": _with(_fcntl), "ptrace_arg": _with(_ptrace), "futex_arg": _with(_futex),
    "prctl_arg": _with(_prctl), "ioctl_arg": _with(_ioctl),
    "clone_stack": _with(_clone_stack), "clone_flags": _with(_clone_flags), "clone_parent": _with(_clone_parent),
    "clone_tls": _with(_clone_tls), "clone_child": _with(_clone_child), "epoll_ctl": _with(_epoll_ctl),
    "epoll_ctl_generic": _with(_epoll_ctl),
    "sockopt": _with(_sockopt), "setsockopt": _with(_setsockopt), "sigevent": _with(_sigevent),
    "sigmask6": _with(_sigmask6),
    "mount_type": _with(_mount_type), "mount_data": _with(_mount_data), "status": _with(_status),
    "child_usage": _with(_usage), "sigreturn": _with(_sigreturn),
}  # fmt: skip
