r"""The kernel's own messages: ``/dev/kmsg``, or syslog(2) where that is not there.

A record of ``/dev/kmsg`` is "priority,sequence,microseconds,flag[,…];text", then lines of a dictionary that begin with
a space; bytes that are not printable are ``\xNN`` (Documentation/ABI/testing/dev-kmsg).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KMSG = "/dev/kmsg"
_DEVICE = (1, 11)  # mem devices, kmsg (Documentation/admin-guide/devices.txt)
_RECORD_BYTES = 8192  # CONSOLE_EXT_LOG_MAX; a smaller buffer is refused with EINVAL
_MOST_READS = 500_000  # more than any buffer holds: it is being filled faster than we read
_READ_ALL, _BYTES = 3, 256 * 1024  # SYSLOG_ACTION_READ_ALL copies the last so many
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
_LINE = re.compile(rb"<(\d+)>(?:\[ *(\d+)\.(\d{6})\](?:\[ *[TC]\d+\])? ?)?")
_libc = ctypes.CDLL(None, use_errno=True)


class Message(NamedTuple):
    """One message: its level (0 emergency … 7 debug), µs since boot (None where the kernel stamps none), its bytes."""

    level: int
    us: int | None
    text: bytes


def read(count: int, path: str = KMSG) -> list[Message]:
    """The last `count` messages of ``/dev/kmsg``, the oldest first.

    Raises:
        PermissionError: kernel.dmesg_restrict, or no right to the file.
        OSError: it is not there, or something else is in its place (ENODEV).
    """
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(*_DEVICE):
        raise OSError(errno.ENODEV, "it is not the kernel's", path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return last(lambda: os.read(fd, _RECORD_BYTES), count)
    finally:
        os.close(fd)


def last(read_one: Callable[[], bytes], count: int) -> list[Message]:
    """The last `count` messages that a reader of ``/dev/kmsg`` has, until it has no more (EAGAIN)."""
    kept: deque[Message] = deque(maxlen=count)
    fragment = False
    for _n in range(_MOST_READS):
        try:
            record = read_one()
        except BlockingIOError:
            break
        except BrokenPipeError:  # it was overwritten before we came to it; the next read goes on with the oldest left
            fragment = False
            continue
        if not record:
            break
        parsed = parse(record)
        if parsed is None:
            continue
        message, flag = parsed
        # "c" is a piece of a line; before 4.9 only its first one, and "+" those that follow.
        if kept and (flag == "+" or (flag == "c" and fragment)):
            kept[-1] = kept[-1]._replace(text=kept[-1].text + message.text)
        else:
            kept.append(message)
        fragment = flag in ("c", "+")
    return list(kept)


def parse(record: bytes) -> tuple[Message, str] | None:
    """A record's message and its flag; None if it is not understood. The dictionary is left out."""
    head, semicolon, rest = record.partition(b";")
    fields = head.decode("latin-1").split(",")
    if not semicolon or len(fields) < 4 or not all(f.isdecimal() for f in fields[:3]):  # noqa: PLR2004
        return None
    text = _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), rest.split(b"\n", 1)[0])
    return Message(int(fields[0]) & 7, int(fields[2]), text), fields[3]


def klogctl() -> bytes:
    """The last 256 KiB of the buffer, as syslog(2) gives it.

    Raises:
        OSError: EPERM for kernel.dmesg_restrict, ENOSYS for a kernel without.
    """
    buffer = ctypes.create_string_buffer(_BYTES)
    length = _libc.klogctl(_READ_ALL, buffer, _BYTES)
    if length < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw[:length]


def parse_log(data: bytes, count: int) -> list[Message]:
    """The last `count` messages of what syslog(2) gives: lines "<priority>[seconds.microseconds] text"."""
    return list(deque(_log_lines(data.split(b"\n")), maxlen=count))


def _log_lines(lines: Iterable[bytes]) -> Iterable[Message]:
    for line in lines:
        if found := _LINE.match(line):
            us = int(found[2]) * 1_000_000 + int(found[3]) if found[2] else None
            yield Message(int(found[1]) & 7, us, line[found.end() :])
