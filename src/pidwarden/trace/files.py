"""Structures of files and terminals as strace writes them (layouts: include/uapi). Pure: bytes in, text out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pidwarden.trace import constants as c
from pidwarden.trace import ioctls
from pidwarden.trace.flags import BY_NAME, CREATES, file_mode, lock_type, seek
from pidwarden.trace.text import flags, hexa, mode, named

if TYPE_CHECKING:
    from collections.abc import Callable


def _device(value: int) -> str:
    major = (value >> 8 & 0xFFF) | (value >> 32 & 0xFFFFF000)
    return f"makedev({hexa(major)}, {hexa((value & 0xFF) | (value >> 12 & 0xFFFFFF00))})"


def _stat(at_mode: str) -> Callable[[bytes], str]:
    unpack = struct.Struct(at_mode).unpack_from

    def text(data: bytes) -> str:
        kind, device, size = unpack(data)
        if kind & 0o170000 in (0o020000, 0o060000):
            return f"{{st_mode={file_mode(kind)}, st_rdev={_device(device)}, ...}}"
        return f"{{st_mode={file_mode(kind)}, st_size={size}, ...}}"

    return text


stat_x86 = _stat("<24xI12xQQ")
stat_generic = _stat("<16xI12xQ8xQ")
_statx_mask = BY_NAME["statx_mask"]
_statx_attributes = flags(c.STATX_ATTR, "STATX_ATTR_???")


def statx(data: bytes) -> str:
    """Struct statx."""
    mask, attributes, kind, size = struct.unpack_from("<I4xQ12xH10xQ", data)
    text = f"{{stx_mask={_statx_mask(mask)}, stx_attributes={_statx_attributes(attributes)}"
    if mask & 3:
        text += f", stx_mode={file_mode(kind)}"
    if mask & 0x200:
        text += f", stx_size={size}"
    return text + ", ...}"


def open_how(data: bytes) -> str:
    """Struct open_how."""
    bits, permissions, resolve = struct.unpack_from("<3Q", data)
    text = f"{{flags={BY_NAME['open'](bits)}"
    if permissions or bits & CREATES:
        text += f", mode={mode(permissions)}"
    return f"{text}, resolve={_resolve(resolve)}}}"


_resolve = flags(c.RESOLVE, "RESOLVE_???")


def flock(data: bytes) -> str:
    """Struct flock."""
    kind, whence, start, length = struct.unpack_from("<HH4xqq", data)
    return f"{{l_type={lock_type(kind)}, l_whence={seek(whence)}, l_start={start}, l_len={length}}}"


def flock_found(data: bytes) -> str:
    """As F_GETLK gives it: with the owner."""
    return f"{flock(data)[:-1]}, l_pid={struct.unpack_from('<i', data, 24)[0]}}}"


_owner = named({0: "F_OWNER_TID", 1: "F_OWNER_PID", 2: "F_OWNER_PGRP"}, "F_OWNER_???")


def f_owner(data: bytes) -> str:
    """Struct f_owner_ex."""
    kind, pid = struct.unpack_from("<Ii", data)
    return f"{{type={_owner(kind)}, pid={pid}}}"


def window_size(data: bytes) -> str:
    """Struct winsize."""
    rows, columns, x, y = struct.unpack_from("<4H", data)
    return f"{{ws_row={rows}, ws_col={columns}, ws_xpixel={x}, ws_ypixel={y}}}"


_LOCAL = ("ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "IEXTEN", "ECHOCTL", "ECHOPRT",
          "ECHOKE", "FLUSHO", "PENDIN", "TOSTOP", "EXTPROC")  # fmt: skip
_input = flags({0: ""} | ioctls.TERMIOS_I)
_output = flags({0: ""} | ioctls.TERMIOS_O)
_control = flags({0: ""} | ioctls.TERMIOS_C)
_local = flags({0: ""} | ioctls.TERMIOS_L, order=_LOCAL)
_speed = named(ioctls.TERMIOS_SPEED, "B???")
# Of c_oflag: shift, mask, name; each is a small number after its name.
_DELAYS = ((8, 1, "NL"), (9, 3, "CR"), (11, 3, "TAB"), (13, 1, "BS"), (14, 1, "VT"), (15, 1, "FF"))


def termios(data: bytes) -> str:
    """Flags of a terminal (asm-generic/termbits.h)."""
    bits_in, bits_out, control, local = struct.unpack_from("<4I", data)
    delays = [f"{name}{bits_out >> shift & mask}" for shift, mask, name in _DELAYS]
    rest_out = bits_out & ~sum(mask << shift for shift, mask, _name in _DELAYS)
    out = "|".join([*delays, _output(rest_out)])
    speed, input_speed = control & 0o10017, control >> 16 & 0o10017
    words = [
        _speed(speed),
        *([f"{_speed(input_speed)}<<IBSHIFT"] if input_speed else []),
        f"CS{5 + (control >> 4 & 3)}",
    ]
    words.append(_control(control & ~0o10017 & ~(0o10017 << 16) & ~0o60))
    return f"{{c_iflag={_input(bits_in)}, c_oflag={out}, c_cflag={'|'.join(words)}, c_lflag={_local(local)}, ...}}"


def statfs(data: bytes) -> str:
    """Struct statfs."""
    kind, size, *blocks, low, high, name_max, fragment, bits = struct.unpack_from("<qq5Qiiqqq", data)
    names = ("f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")
    counts = ", ".join(f"{name}={value}" for name, value in zip(names, blocks, strict=True))
    ids = f"f_fsid={{val=[{hexa(low & 0xFFFFFFFF)}, {hexa(high & 0xFFFFFFFF)}]}}"
    end = f"f_namelen={name_max}, f_frsize={fragment}, f_flags={_statfs_flags(bits)}"
    return f"{{f_type={_magic(kind)}, f_bsize={size}, {counts}, {ids}, {end}}}"


_statfs_flags = flags(c.STATFS | {0x20: "ST_VALID"}, "ST_???", order=("ST_VALID",))
_magic = named(c.FILE_SYSTEM)
