"""Connection tracking in plain values: counters, entries in columns, and what a walk of the table adds up to. Pure."""

from __future__ import annotations

from itertools import compress, repeat
from math import exp
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ICMP, TCP, UDP, GRE, ICMPV6, SCTP = 1, 6, 17, 47, 58, 132
PROTOCOLS = {
    ICMP: "icmp",
    TCP: "tcp",
    UDP: "udp",
    33: "dccp",
    GRE: "gre",
    ICMPV6: "icmpv6",
    SCTP: "sctp",
    136: "udplite",
}
# enum ip_conntrack_status (include/uapi/linux/netfilter/nf_conntrack_common.h)
EXPECTED, REPLIED, ASSURED, SRC_NAT, DST_NAT, DYING = 1, 2, 4, 16, 32, 512
OFFLOADED = 1 << 14 | 1 << 15  # IPS_OFFLOAD, IPS_HW_OFFLOAD
# enum tcp_conntrack, sctp_conntrack
TCP_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2", "RETRANS", "UNACK",
)  # fmt: skip
SCTP_STATES = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
)  # fmt: skip
SYN_SENT, SYN_RECV, ESTABLISHED = 1, 2, 3

# What is read of an entry, and what stands where it has none: addresses and ports are those of the first packet, and of
# the answer that is expected, which differ where addresses are translated.
FIELDS: dict[str, Any] = {
    "family": 0, "proto": 0, "src": b"", "dst": b"", "sport": -1, "dport": -1, "icmp": -1,
    "reply_src": b"", "reply_dst": b"", "status": 0, "state": -1, "timeout": -1, "mark": 0, "zone": 0,
}  # fmt: skip


class Columns(NamedTuple):
    """Entries: how many, the fields in which they differ, those that are the same in all."""

    size: int
    values: Mapping[str, Sequence[Any]]
    constants: Mapping[str, Any]

    def of(self, field: str) -> Iterable[Any]:
        """A field of each."""
        found = self.values.get(field)
        return repeat(self.constants[field], self.size) if found is None else found

    def where(self, wanted: Sequence[bool], fields: Sequence[str]) -> Columns:
        """Some fields of some of them."""
        values = {name: tuple(compress(self.values[name], wanted)) for name in fields if name in self.values}
        return Columns(sum(wanted), values, self.constants)


# -- what is known without walking the table ---------------------------------------------------------------------------

# What the kernel counts, per network namespace and processor, since that namespace was made.
COUNTERS = {
    "found": "looked up and found, counted only where a new entry met one that was there",
    "invalid": "packets that could not be tracked",
    "insert": "entries put in by a program (ctnetlink)",
    "insert_failed": "entries not put in, because one for the same connection was quicker",
    "drop": "packets dropped because no entry could be made for them",
    "early_drop": "entries thrown out to make room for a new one",
    "error": "ICMP errors that belong to no connection",
    "search_restart": "searches begun again, because the chain changed under them",
    "clash_resolve": "two entries for one connection made into one",
    "chain_too_long": "entries refused because their chain was too long",
}
BUCKET_TUPLES = 2  # every entry is in the table twice: by its packets, and by the answers to them
_MOST_MEAN, _MOST_LENGTH = 500.0, 2000  # beyond which an estimate says nothing more
_RANDOM_WORST = 0.5  # that so many buckets are longer than the worst chain that is to be expected


class Reading(NamedTuple):
    """One look at a network namespace; ``ns`` on any steady clock. None: not shown to us."""

    ns: int
    inode: int
    used: int
    maximum: int | None  # 0: no limit
    buckets: int | None
    cpus: Mapping[int, Mapping[str, int]]
    source: str  # of the counters
    timeouts: Mapping[str, int]  # seconds
    settings: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def total(self, counter: str) -> int | None:
        """A counter of all processors; None where the kernel does not have it or does not say."""
        values = [c[counter] for c in self.cpus.values() if counter in c]
        return sum(values) if values else None

    @property
    def share(self) -> float | None:
        """How full it is, 1 is full; None where there is no limit or it is not shown."""
        return self.used / self.maximum if self.maximum else None

    @property
    def extends_all(self) -> bool:
        """Whether a setting adds something to every entry that is made: events 2 does only while somebody listens."""
        return any(self.settings.get(name, 0) == 1 for name in ("acct", "timestamp", "events"))


class Memory(NamedTuple):
    """Of all network namespaces together. ``entries`` None: unknown, then ``why``; bytes.

    ``extended``: how many entries have a block besides; unless ``certain``, at most so many.
    """

    entries: int | None
    each: float | None
    array: int | None
    block: int = 0
    extended: int = 0
    certain: bool = False
    why: str = ""

    @property
    def total(self) -> int | None:
        """Bytes of the entries that are there, without the buckets."""
        if self.entries is None or self.each is None:
            return None
        return round(self.entries * self.each) + self.extended * self.block

    def of(self, entries: int) -> int | None:
        """Bytes that so many entries take, extended as those that are there, or all if there are none."""
        if self.each is None:
            return None
        share = self.extended / self.entries if self.entries else 1.0
        return round(entries * (self.each + share * self.block))


class Chains(NamedTuple):
    """How long the buckets' chains are. ``mean`` of all buckets; ``expected`` worst if the hash spreads well."""

    mean: float
    expected: int
    too_long: int | None  # refused inserts; None: this kernel does not count them


def chains(entries: int, buckets: int, too_long: int | None) -> Chains:
    """From entries of all namespaces, as the array is one for all.

    The hash is seeded by a secret of the kernel's: no chain can be computed from outside, and none is shown. With a
    good hash a chain's length is distributed by Poisson; the worst is where less than half a bucket is expected to be
    longer.
    """
    mean = BUCKET_TUPLES * entries / buckets
    length, probability = 0, exp(-min(mean, _MOST_MEAN))
    beyond = 1.0 - probability
    while beyond * buckets >= _RANDOM_WORST and length < _MOST_LENGTH:
        length += 1
        probability *= mean / length
        beyond -= probability
    return Chains(mean, length, too_long)
