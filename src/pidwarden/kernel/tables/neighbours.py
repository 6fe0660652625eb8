"""Neighbour tables: ARP and NDISC, one table each for all network namespaces of the machine (net/core/neighbour.c)."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from typing import NamedTuple

from pidwarden.kernel import netlink, netstat
from pidwarden.kernel.tables.base import PROC, most, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table, User

_FAMILIES = (
    (Table.NEIGHBOURS4, "ipv4", "arp_cache", socket.AF_INET),
    (Table.NEIGHBOURS6, "ipv6", "ndisc_cache", socket.AF_INET6),
)
_GETNEIGH = 30
_NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type (linux/neighbour.h)
_PERMANENT, _EXTERNAL = 0x80, 0x10  # NUD_PERMANENT, NTF_EXT_LEARNED: neither counts against gc_thresh3 (since 5.0)
_ELSEWHERE = "other network namespaces"


class Neighbours(NamedTuple):
    """Those of our own network namespace: by device, and how many the limit does not count."""

    devices: Counter[str]
    exempt: int


def read(*, who: bool = True, root: str = PROC) -> list[Gauge]:
    """Both tables. `who`: also ask which device of our network namespace uses how much."""
    found = []
    for table, family, file, number in _FAMILIES:
        stat = netstat.totals(f"{root}/net/stat/{file}")
        limit = sysctl(f"net/{family}/neigh/default/gc_thresh3", root)
        setting = f"net.{family}.neigh.default.gc_thresh3"
        if stat is None:
            unseen = (
                "the kernel shows it only in the machine's own network namespace: "
                "`sudo nsenter -t 1 -n pidwarden tables`"
            )
            found.append(Gauge(table, Scope.MACHINE, "", None, limit, 0, setting, unseen=unseen))
            continue
        entries = stat["entries"]
        users: tuple[User, ...] = ()
        exempt = 0
        if who and entries:
            with contextlib.suppress(OSError):
                ours = dump(number)
                exempt = ours.exempt
                elsewhere = {_ELSEWHERE: max(0, entries - ours.devices.total() - ours.exempt)}
                users = most(ours.devices + Counter(elsewhere))
        found.append(
            Gauge(
                table, Scope.MACHINE, "", max(0, entries - exempt), limit, 0, setting,
                failures=stat["table_fulls"], who=users,
                detail=f"and {exempt} permanent, which the limit does not count" if exempt else "",
            )
        )  # fmt: skip
    return found


def dump(family: int) -> Neighbours:
    """The neighbours of our own network namespace.

    Raises:
        OSError: the kernel does not answer.
    """
    devices: Counter[int] = Counter()
    exempt = 0
    request = _NDMSG.pack(family, 0, 0, 0, 0)
    for data, at, _end in netlink.dump(netlink.ROUTE, _GETNEIGH, request):
        _family, device, state, flags, _type = _NDMSG.unpack_from(data, at)
        if state & _PERMANENT or flags & _EXTERNAL:
            exempt += 1
        else:
            devices[device] += 1
    return Neighbours(Counter({_device(number): n for number, n in devices.items()}), exempt)


def _device(number: int) -> str:
    try:
        return f"device {socket.if_indextoname(number)}"
    except OSError:
        return f"device number {number}"
