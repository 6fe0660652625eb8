"""The kernel's last messages, for people."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pidwarden.errors import NoPermission, NotPossible
from pidwarden.kernel import kmsg, procfs
from pidwarden.kernel.procfs import PROC
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.kernel.kmsg import Message

_LEVELS = ("emergency", "alert", "critical", "error", "warning")  # what is shown; notice, info and debug are ordinary


def last(
    count: int, root: str = PROC, device: str = kmsg.KMSG, klogctl: Callable[[], bytes] = kmsg.klogctl
) -> list[Message]:
    """The last `count` messages, the oldest first: from /dev/kmsg, and from syslog(2) where that cannot be read.

    Raises:
        NoPermission: the kernel shows them to CAP_SYSLOG only.
        NotPossible: there are none to be had.
    """
    try:
        return kmsg.read(count, device)
    except OSError as why:
        first = f"{device}: {why.strerror}"
    try:
        return kmsg.parse_log(klogctl(), count)
    except OSError as why:
        tried = f"tried to read the kernel's messages from {first}; by syslog(2): {why.strerror}"
        if why.errno == errno.EPERM:
            path = f"{root}/sys/kernel/dmesg_restrict"
            state = f"{path} is {procfs.read_int(path)}, so " * (procfs.read_int(path) is not None)
            msg = f"{tried}; {state}only CAP_SYSLOG may: be root on the host, or there type `write {path} 0`"
            raise NoPermission(msg) from why
        msg = f"{tried}; this kernel keeps none (CONFIG_PRINTK), look at the machine's console"
        raise NotPossible(msg) from why


def lines(messages: Sequence[Message]) -> list[str]:
    """A line for each, with seconds since boot and with the level of what is a warning or worse."""
    found = []
    for message in messages:
        stamp = "" if message.us is None else f"[{message.us / 1e6:12.6f}] "
        level = f"{_LEVELS[message.level]}: " if message.level < len(_LEVELS) else ""
        found += [stamp + level + escape(line.expandtabs()) for line in message.text.split(b"\n")]
    return found
