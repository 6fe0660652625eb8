"""perf_event_open(2) for a tracepoint: the handle that a BPF program is attached to."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from pidwarden.errors import NotPossible, bpf_error

_NUMBERS = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_TYPE_TRACEPOINT = 2
_FLAG_CLOEXEC = 8
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0


def open_tracepoint(event_id: int) -> int:
    """A perf event descriptor for tracepoint `event_id`, on all processes.

    Raises:
        PidwardenError: refused, with the kernel's reason.
    """
    number = _NUMBERS.get(platform.machine())
    if number is None:
        msg = f"no perf_event_open number is known for {platform.machine()}"
        raise NotPossible(msg)
    # struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags, wakeup_events, …
    attr = struct.pack("<IIQQQQQII8x", _TYPE_TRACEPOINT, _ATTR_SIZE, event_id, 1, 0, 0, 0, 1, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(number, ctypes.create_string_buffer(attr, len(attr)), -1, 0, -1, _FLAG_CLOEXEC)
    if fd < 0:
        raise bpf_error("opening a perf event for a tracepoint", ctypes.get_errno())
    os.set_inheritable(fd, False)
    return fd
