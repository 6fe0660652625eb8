"""Connection tracking as this network namespace has it: count, limit, buckets, timeouts, counters per processor.

Out of /proc/sys/net/netfilter, which shows the namespace of the reader, and of ctnetlink where the caller may use it,
else of /proc/net/stat/nf_conntrack. That file's columns have changed their meaning over the years without moving
(`searched` became `clashres`, `delete_list` became `chainlength`): they are found by the names in its first line.
Nothing here walks the table, and nothing makes the kernel load nf_conntrack.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING

from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel import namespaces, netstat
from pidwarden.kernel.procfs import PROC, read_int
from pidwarden.kernel.tables.base import content
from pidwarden.model.conntrack import COUNTERS, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

SYSCTL = "sys/net/netfilter"
_STAT = "net/stat/nf_conntrack"
_TIMEOUT = "_timeout"
# Columns of the file by the names they have had (net/netfilter/nf_conntrack_standalone.c).
_COLUMNS = {
    "found": "found", "invalid": "invalid", "insert": "insert", "insert_failed": "insert_failed", "drop": "drop",
    "early_drop": "early_drop", "icmp_error": "error", "search_restart": "search_restart",
    "clashres": "clash_resolve", "chainlength": "chain_too_long",
}  # fmt: skip
# enum ctattr_stats_cpu
_ATTRIBUTES = {
    2: "found", 4: "invalid", 8: "insert", 9: "insert_failed", 10: "drop", 11: "early_drop", 12: "error",
    13: "search_restart", 14: "clash_resolve", 15: "chain_too_long",
}  # fmt: skip
_NUMBER = Struct(">I")


def missing(root: str = PROC, modules: str = "/sys/module") -> str:
    """Why there is no connection tracking to read here; empty if there is."""
    if os.path.exists(f"{root}/{SYSCTL}/nf_conntrack_count"):
        return ""
    if os.path.exists(f"{modules}/nf_conntrack"):
        return (
            f"nf_conntrack is in the kernel but {root}/{SYSCTL} does not show it: the /proc here is of another network "
            "namespace, or hidden by a container; type the command on the host"
        )
    return (
        "nf_conntrack is not loaded: nothing on this machine tracks connections, so no table of them can be full; "
        "a rule that needs it loads it (`ct state` in nft, `-m conntrack` in iptables, NAT)"
    )


def read(root: str = PROC, *, clock_ns: int = 0) -> Reading:
    """One look, without walking the table.

    Raises:
        NotPossible: there is no connection tracking here.
    """
    if why := missing(root):
        raise NotPossible(why)
    place = f"{root}/{SYSCTL}/nf_conntrack_"
    numbers = {name: read_int(place + name) for name in ("count", "max", "buckets", "acct", "timestamp", "events")}
    count = numbers["count"]
    if count is None:
        raise NotPossible(f"{place}count cannot be read; see `ls -l {root}/{SYSCTL}`")
    cpus, source, notes = counters(root)
    here = namespaces.number_of("net", root=root) or 0
    return Reading(
        clock_ns, here, count, numbers["max"], numbers["buckets"], cpus, source, timeouts(root),
        {name: value for name in ("acct", "timestamp", "events") if (value := numbers[name]) is not None}, notes,
    )  # fmt: skip


def timeouts(root: str = PROC) -> dict[str, int]:
    """Seconds by name: ``tcp_timeout_established``, ``udp_timeout``, … of this network namespace."""
    found = {}
    try:
        names = os.listdir(f"{root}/{SYSCTL}")
    except OSError:
        return {}
    for name in names:
        if name.startswith("nf_conntrack_") and _TIMEOUT in name and "frag6" not in name:
            value = read_int(f"{root}/{SYSCTL}/{name}")
            if value is not None:
                found[name.removeprefix("nf_conntrack_")] = value
    return found


# -- counters ----------------------------------------------------------------------------------------------------------


def counters(root: str = PROC) -> tuple[dict[int, dict[str, int]], str, tuple[str, ...]]:
    """By processor; where they are from; and what could not be read. Names are those of `COUNTERS`.

    A counter that this kernel does not have is not in it.
    """
    try:
        return netlink_counters(), "ctnetlink", ()
    except (NoPermission, NotPossible):
        pass  # the file says the same, and to everybody
    except PidwardenError as why:
        return {}, "", (f"counters: {why}",)
    data = content(f"{root}/{_STAT}")
    if not data:
        text = (
            f"counters are unknown: no right to ctnetlink, and {root}/{_STAT} cannot be read; type `sudo pidwarden …`"
        )
        return {}, "", (text,)
    return parse_stat(data), f"{root}/{_STAT}", ()


def parse_stat(data: bytes) -> dict[int, dict[str, int]]:
    """``/proc/net/stat/nf_conntrack``, hexadecimal: a line for each possible processor, in order."""
    return {
        cpu: {_COLUMNS[name]: number for name, number in row.items() if name in _COLUMNS}
        for cpu, row in enumerate(netstat.rows(data))
    }


def netlink_counters() -> dict[int, dict[str, int]]:
    """The same by ctnetlink.

    Raises:
        NoPermission: the caller lacks CAP_NET_ADMIN.
        NotPossible: the kernel has no ctnetlink.
        PidwardenError: what came is no answer.
    """
    from pidwarden.kernel import nfnetlink  # noqa: PLC0415  (only where it may be asked)

    with nfnetlink.Link() as link:
        batches: Iterable[list[bytes]] = link.dump(nfnetlink.GET_STATS_CPU)
        return dict(parse_counters(message) for batch in batches for message in batch)


def parse_counters(message: bytes) -> tuple[int, dict[str, int]]:
    """The processor and its counters; the number of the processor is in the header's resource id.

    Raises:
        Malformed: an attribute is longer than the message.
    """
    from pidwarden.kernel.nfnetlink import PAYLOAD, Malformed, attributes  # noqa: PLC0415

    if len(message) < PAYLOAD:
        raise Malformed(f"counters in {len(message)} bytes in an answer of the kernel's")
    found = {}
    for kind, first, last in attributes(message, PAYLOAD, len(message)):
        if kind in _ATTRIBUTES and last - first == _NUMBER.size:
            found[_ATTRIBUTES[kind]] = _NUMBER.unpack_from(message, first)[0]
    return int.from_bytes(message[PAYLOAD - 2 : PAYLOAD], "big"), {n: found[n] for n in COUNTERS if n in found}
