"""ctnetlink, as far as it is read: a socket of NETLINK_NETFILTER, its dumps and its answers, message by message.

Only standard sockets. Layouts are those of include/uapi/linux/netlink.h, netfilter/nfnetlink.h and
netfilter/nfnetlink_conntrack.h. The kernel wants CAP_NET_ADMIN in the user namespace that owns the network namespace,
for reading too (nfnetlink_rcv()). A socket belongs to the network namespace it was made in, for ever.
"""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct
from typing import TYPE_CHECKING

from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel import netlink
from pidwarden.kernel.netlink import CODE, DONE, DUMP, ERROR, HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_CTNETLINK = 1 << 8  # NFNL_SUBSYS_CTNETLINK
GET, GET_STATS_CPU, GET_STATS = _CTNETLINK | 1, _CTNETLINK | 4, _CTNETLINK | 5  # enum cntl_msg_types
_DUMP_INTR = 0x10  # NLM_F_DUMP_INTR
_OWN_MESSAGES = 16  # types below are netlink's own (NLMSG_MIN_TYPE)
_GENERIC = Struct(">BBH")  # family, version, resource id
_ATTRIBUTE = Struct("=HH")
PAYLOAD = HEADER.size + _GENERIC.size
_TYPE_BITS = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_ANSWER_SECONDS = 10.0
_BUFFER = 1 << 16  # the kernel fills what the reader has room for, up to 32 KiB (netlink_dump())


class Malformed(PidwardenError):  # noqa: N818  (what happened, as in errors.py)
    """The kernel, or what speaks for it, sent bytes that are no messages."""


class Link:
    """A socket for one network namespace: that of the thread which makes it. Close it.

    Attributes:
        interrupted: the kernel said that the table changed so much under a dump that entries may be missing or twice.
        overruns: times the kernel found no room to queue an answer.

    Raises:
        NotPossible: the kernel has no netlink for netfilter.
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.interrupted = False
        self.overruns = 0
        self._number = 0
        try:
            self._socket = sock or netlink.connect(netlink.NETFILTER)
        except OSError as why:
            raise NotPossible(f"the kernel has no netlink for netfilter ({why.strerror}): no CONFIG_NETFILTER") from why
        self._socket.settimeout(_ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_why: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the socket back; a dump that was not read to its end ends with it."""
        self._socket.close()

    def dump(self, kind: int, family: int = socket.AF_UNSPEC) -> Iterator[list[bytes]]:
        """The messages of a dump, whole, some hundred at a time.

        Raises:
            NoPermission: the caller lacks CAP_NET_ADMIN.
            NotPossible: the kernel has no ctnetlink.
            Malformed: what came is no answer.
        """
        self._send(kind, DUMP, family)
        over = False
        while not over:
            found, over = self._receive()
            if found:
                yield found

    def one(self, kind: int, family: int = socket.AF_UNSPEC) -> bytes:
        """The one message that answers a request, whole.

        Raises:
            NoPermission, NotPossible, Malformed: as for :meth:`dump`.
        """
        self._send(kind, 0, family)
        while True:
            found, over = self._receive()
            if found:
                return found[0]
            if over:
                raise Malformed("the kernel answered a question about connection tracking with nothing")

    def _send(self, kind: int, flags: int, family: int) -> None:
        self._number += 1
        self._socket.sendto(netlink.request(kind, flags, _GENERIC.pack(family, 0, 0), self._number), (0, 0))

    def _receive(self) -> tuple[list[bytes], bool]:
        """What a datagram brought of the answer, and whether that was its end."""
        try:
            data, _extra, flags, sender = self._socket.recvmsg(_BUFFER)
        except TimeoutError as why:
            msg = f"the kernel did not answer a question about connection tracking within {_ANSWER_SECONDS:.0f} s"
            raise PidwardenError(f"{msg}; type it again") from why
        except OSError as why:
            if why.errno != errno.ENOBUFS:
                raise _refusal(why.errno or 0) from why
            self.overruns += 1
            return [], False
        if sender and sender[0]:
            return [], False  # from a process, not from the kernel
        if flags & socket.MSG_TRUNC:
            raise Malformed(f"an answer of the kernel's is longer than {_BUFFER} bytes; please report it")
        return self._split(data)

    def _split(self, data: bytes) -> tuple[list[bytes], bool]:
        at, end, number = 0, len(data), self._number
        found: list[bytes] = []
        unpack, add = HEADER.unpack_from, found.append
        while at < end:
            if at + HEADER.size > end:
                raise Malformed(f"an answer of the kernel's breaks off at byte {at} of {end}")
            length, kind, flags, theirs, _port = unpack(data, at)
            if length < HEADER.size or at + length > end:
                raise Malformed(f"a message of {length} bytes at byte {at} of {end} in an answer of the kernel's")
            if theirs == number:  # else of a dump that was given up
                if flags & _DUMP_INTR:
                    self.interrupted = True
                if kind < _OWN_MESSAGES:
                    if kind in (DONE, ERROR):
                        _check(data[at : at + length])
                        return found, True
                else:
                    add(data[at : at + length])
            at += length + 3 & ~3
        return found, False


def _check(message: bytes) -> None:
    """Raises what the end of an answer says went wrong, if anything."""
    if len(message) >= HEADER.size + CODE.size and (code := CODE.unpack_from(message, HEADER.size)[0]):
        raise _refusal(-code)


def _refusal(code: int) -> PidwardenError:
    """The one place where an errno of ctnetlink becomes an error of ours."""
    if code in (errno.EPERM, errno.EACCES):
        msg = "entries of connection tracking are for CAP_NET_ADMIN in their network namespace"
        return NoPermission(f"{msg}: {os.strerror(code)}; type `sudo pidwarden conntrack …`")
    if code in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
        msg = f"the kernel has no netlink for connection tracking ({os.strerror(code)})"
        return NotPossible(f"{msg}: nf_conntrack_netlink is missing; type `sudo modprobe nf_conntrack_netlink`")
    return PidwardenError(f"netlink of connection tracking: {os.strerror(code)}; type it again")


def attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, and first and last byte of the value, of each attribute between two places (include/uapi/linux/netlink.h).

    Raises:
        Malformed: one is longer than what holds it.
    """
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > end:
            raise Malformed(f"an attribute of {length} bytes at byte {at} of {end} in an answer of the kernel's")
        yield kind & _TYPE_BITS, at + _ATTRIBUTE.size, at + length
        at += length + 3 & ~3
