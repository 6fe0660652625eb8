"""The process connector: fork, exec, exit, uid, session and name events of every process, over netlink.

Only standard sockets. The layouts are those of include/uapi/linux/cn_proc.h and connector.h, in the machine's byte
order. Root may subscribe on every kernel; ordinary users since Linux 6.6. It speaks only in the first pid, user and
network namespace: elsewhere a subscription is refused or not acknowledged.

No filter is asked for, although newer kernels have one: messages are numbered before they are filtered, so with a
filter a gap in the numbers would not mean a loss.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from struct import Struct
from typing import NamedTuple

from pidwarden.errors import NoPermission, NotPossible
from pidwarden.kernel.namespaces import INIT_PID_NS, INIT_USER_NS
from pidwarden.kernel.procfs import PROC

FORK, EXEC, UID, SID, COMM, EXIT = 0x1, 0x2, 0x4, 0x80, 0x200, 0x80000000  # enum proc_cn_event
_ACK = 0
_NETLINK_CONNECTOR, _CN_IDX_PROC, _CN_VAL_PROC, _NLMSG_DONE = 11, 1, 1, 3
_LISTEN, _IGNORE = 1, 2  # enum proc_cn_mcast_op
_REQUEST = Struct("=IHHIIIIIIHHI")  # nlmsghdr, cn_msg, the operation
_MESSAGE = Struct("=16xIIIIHHIIQIIII")  # nlmsghdr; idx val seq ack len flags; what cpu time; four numbers
_COMM_AT, _COMM_LEN = 60, 16
_SO_RCVBUFFORCE = 33
BUFFER = 64 << 20  # bytes the kernel may queue; an event takes some 800 of them
_ANSWER_SECONDS = 2.0
_NUMBERS = 0xFFFFFFFF  # messages are numbered in 32 bits, by each processor
_PROCESSORS = 1 << 31  # an answer of older kernels has a processor of -1


class Event(NamedTuple):
    """One event. Time in ns of CLOCK_MONOTONIC; what the four numbers are depends on `what`.

    FORK: parent's pid and tgid (the real parent: with CLONE_PARENT not the creator), the child's pid and tgid.
    EXEC, SID: pid, tgid. UID: pid, tgid, real uid, effective uid. EXIT: pid, tgid, code as of wait(2), signal.
    COMM: pid, tgid, and the name in `comm`.
    """

    what: int
    time_ns: int
    a: int
    b: int
    c: int
    d: int
    comm: bytes = b""


class Connector:
    """A subscription. Close it.

    Raises:
        NoPermission: an ordinary user on a kernel before 6.6.
        NotPossible: not in the first namespaces, or the kernel has no process events.
    """

    def __init__(self, buffer_bytes: int = BUFFER) -> None:
        _check_namespaces()
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
        except OSError as why:
            raise NotPossible(f"the kernel has no connector ({why.strerror})") from why
        self.lost = 0  # events that were sent and did not reach us, by the gaps in their numbers
        self.overruns = 0  # times the buffer was full
        self._next: dict[int, int] = {}  # by processor: the number of the next message
        try:
            self.buffer_bytes = self._enlarge(buffer_bytes)
            self._subscribe()
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def _enlarge(self, wanted: int) -> int:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)  # up to net.core.rmem_max
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def _subscribe(self) -> None:
        try:
            self._socket.bind((0, _CN_IDX_PROC))
            self._send(_LISTEN)
        except PermissionError as why:
            msg = "this kernel gives process events to root only (before Linux 6.6); type `sudo pidwarden …`"
            raise NoPermission(msg) from why
        except OSError as why:
            msg = f"the kernel sends no process events here ({why.strerror}): no CONFIG_PROC_EVENTS, or a container"
            raise NotPossible(msg) from why
        poll, deadline = select.poll(), time.monotonic() + _ANSWER_SECONDS
        poll.register(self._socket.fileno(), select.POLLIN)
        while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            message = _MESSAGE.unpack_from(self._socket.recv(4096).ljust(_MESSAGE.size, b"\0"))
            if message[3] == os.getpid() + 1 and message[6] == _ACK:
                if code := message[9]:
                    refused = NoPermission if code in (errno.EPERM, errno.EACCES) else NotPossible
                    raise refused(f"the kernel refuses process events: {os.strerror(code)}; type `sudo pidwarden …`")
                return
        msg = "a subscription to process events is not answered: only the first pid and user namespace hears them"
        raise NotPossible(msg)

    def _send(self, operation: int) -> None:
        size, pid = _REQUEST.size, os.getpid()
        message = (size, _NLMSG_DONE, 0, 0, pid, _CN_IDX_PROC, _CN_VAL_PROC, 0, pid, 4, 0, operation)
        self._socket.sendto(_REQUEST.pack(*message), (0, 0))

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._socket.fileno()

    def read(self, most: int) -> list[Event]:
        """What waits, at most so many; `lost` and `overruns` say what did not come. Never blocks."""
        found: list[Event] = []
        receive, unpack, expected = self._socket.recv, _MESSAGE.unpack_from, self._next
        while len(found) < most:
            try:
                data = receive(128)
            except BlockingIOError:
                break
            except OSError as why:
                if why.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            if len(data) < _MESSAGE.size:
                continue
            _idx, _val, number, _ack, _len, _flags, what, cpu, time_ns, a, b, c, d = unpack(data)
            if cpu < _PROCESSORS:
                if (due := expected.get(cpu, number)) != number:
                    self.lost += (number - due) & _NUMBERS
                expected[cpu] = (number + 1) & _NUMBERS
            if what == _ACK:
                continue  # somebody else has subscribed; numbered like an event, on kernels before 6.6 not
            name = data[_COMM_AT : _COMM_AT + _COMM_LEN].split(b"\0", 1)[0] if what == COMM else b""
            found.append(Event(what, time_ns, a, b, c, d, name))
        return found

    def close(self) -> None:
        """Ends the subscription. May be called twice."""
        if self._socket.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._send(_IGNORE)
            self._socket.close()


def _check_namespaces() -> None:
    for kind, first in (("pid", INIT_PID_NS), ("user", INIT_USER_NS)):
        if os.stat(f"{PROC}/self/ns/{kind}").st_ino != first:
            msg = f"the process connector speaks in the machine's own {kind} namespace only, and this is another"
            raise NotPossible(msg)
