"""What a walk of connection tracking's table adds up to, in bounded memory. Pure."""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.model import conntrack as ct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pidwarden.model.conntrack import Columns

MOST, KEPT = 1 << 18, 1 << 16  # different values that are counted, and that stay when there are more
GRAIN = 64  # seconds that are counted as one when the rest of a timeout is looked at
_GRAIN_BITS = 6


class Counts:
    """How often each value was seen. Who is seen often is kept when there are too many; ``lost`` are the others.

    Values of a batch that are the same in all of its entries are kept apart, so that those of each entry are counted
    without a tuple for each.
    """

    def __init__(self) -> None:
        self.total = 0
        self.lost = 0
        self._parts: dict[tuple[tuple[bool, Any], ...], Counter[Any]] = {}
        self._width = 1

    def add(self, columns: Sequence[Iterable[Any]], count: int) -> None:
        """So many entries by some columns; a column that is a `repeat` is the same in all."""
        self.total += count
        self._width = len(columns)
        same = tuple((True, next(c)) if isinstance(c, repeat) else (False, None) for c in columns)
        part = self._parts.setdefault(same, Counter())
        varying = [column for column, (fixed, _value) in zip(columns, same, strict=True) if not fixed]
        if not varying:
            part[()] += count
        else:
            part.update(varying[0] if len(varying) == 1 else zip(*varying, strict=False))
        if sum(map(len, self._parts.values())) > MOST:
            self._shrink()

    def _shrink(self) -> None:
        for same, part in self._parts.items():
            self._parts[same] = Counter(dict(part.most_common(KEPT // len(self._parts) + 1)))
        self.lost = self.total - sum(part.total() for part in self._parts.values())

    def all(self) -> Counter[tuple[Any, ...]]:
        """Every value that is kept, as tuples in the order of the columns."""
        found: Counter[tuple[Any, ...]] = Counter()
        for same, part in self._parts.items():
            varying = [at for at, (fixed, _value) in enumerate(same) if not fixed]
            key: list[Any] = [value for _fixed, value in same]
            for value, number in part.items():
                if len(varying) == 1:
                    key[varying[0]] = value
                else:
                    for at, one in zip(varying, value, strict=True):
                        key[at] = one
                found[tuple(key)] += number
        return found

    def most(self, number: int) -> list[tuple[tuple[Any, ...], int]]:
        """The values that were seen most, the same every time."""
        found = self.all()
        least = min((n for _key, n in found.most_common(number)), default=0)
        candidates = [item for item in found.items() if item[1] >= least]
        return sorted(candidates, key=lambda item: (-item[1], repr(item[0])))[:number]


# -- what can be asked for ---------------------------------------------------------------------------------------------


class Dimension(NamedTuple):
    """Something to break the table down by: the field it is had from, how it is shown, what it means.

    ``bits`` of a number are all that counts, unless it is 0.
    """

    field: str
    show: Callable[[Any], Any]
    about: str
    bits: int = 0

    def of(self, columns: Columns) -> Iterable[Any]:
        """Its value of each entry."""
        found = columns.of(self.field)
        if not self.bits:
            return found
        bits = self.bits
        if isinstance(found, repeat):
            return repeat(next(found) & bits)
        return [value & bits for value in found]


def address(data: int | bytes) -> str:
    """An address as text (RFC 5952): of IPv4 a number, of IPv6 sixteen bytes; ``-`` if there is none."""
    if isinstance(data, int):
        return ".".join(map(str, data.to_bytes(4, "big")))
    if len(data) != 16:  # noqa: PLR2004  (IPv6)
        return "-"
    groups = [f"{data[at] << 8 | data[at + 1]:x}" for at in range(0, 16, 2)]
    for zeros in range(8, 1, -1):
        for at in range(9 - zeros):
            if groups[at : at + zeros] == ["0"] * zeros:
                return ":".join(groups[:at]) + "::" + ":".join(groups[at + zeros :])
    return ":".join(groups)


def protocol(number: int) -> str:
    """Its name, the number if it has none here."""
    return ct.PROTOCOLS.get(number, str(number))


def state(proto: int, number: int) -> str:
    """The state of a protocol that has states; ``-`` of others."""
    if number < 0:
        return "-"
    names = {ct.TCP: ct.TCP_STATES, ct.SCTP: ct.SCTP_STATES}.get(proto, ())
    return names[number] if number < len(names) else str(number)


def status(bits: int) -> str:
    """Whether somebody has answered, and whether the entry is kept when the table is full."""
    return "assured" if bits & ct.ASSURED else "replied" if bits & ct.REPLIED else "unreplied"


def nat(bits: int) -> str:
    """Whose address is translated."""
    found = [word for bit, word in ((ct.SRC_NAT, "source"), (ct.DST_NAT, "destination")) if bits & bit]
    return "+".join(found) or "-"


def port(number: int) -> int | str:
    """The port; ``-`` where the protocol has none."""
    return number if number >= 0 else "-"


DIMENSIONS = {
    "proto": Dimension("proto", protocol, "transport protocol"),
    "src": Dimension("src", address, "who sent the first packet"),
    "dst": Dimension("dst", address, "to whom, before any translation"),
    "sport": Dimension("sport", port, "port of who began it"),
    "dport": Dimension("dport", port, "port that was asked for, before any translation"),
    "reply_src": Dimension("reply_src", address, "who answers: behind DNAT the real server"),
    "reply_dst": Dimension("reply_dst", address, "to whom he answers: behind SNAT our outer address"),
    "state": Dimension("state", str, "state of TCP or SCTP as the packets seen show it"),
    "status": Dimension(
        "status",
        status,
        "unreplied, replied, or assured: not thrown out when the table is full",
        ct.REPLIED | ct.ASSURED,
    ),
    "nat": Dimension("status", nat, "whose address is translated", ct.SRC_NAT | ct.DST_NAT),
    "offload": Dimension("status", bool, "whether a flow table carries it past the rules", ct.OFFLOADED),
    "family": Dimension("family", {2: "ipv4", 10: "ipv6"}.get, "ipv4 or ipv6"),
    "icmp": Dimension("icmp", port, "type of ICMP or ICMPv6"),
    "mark": Dimension("mark", int, "mark that a rule has set"),
    "zone": Dimension("zone", int, "zone that a rule has set"),
}
DEFAULT = (("proto", "state", "status"), ("proto", "dport"), ("src",), ("dst",))


class Group(NamedTuple):
    """Entries of one protocol, state, and answered or not: how many have how many grains of their timeout left."""

    proto: int
    state: int
    replied: bool
    left: Counter[int]

    @property
    def size(self) -> int:
        """How many."""
        return self.left.total()

    @property
    def timeout(self) -> str:
        """The name of the setting that its entries' timeout was taken from (nf_conntrack-sysctl.rst)."""
        return timeout_of(self.proto, self.state, replied=self.replied)

    def idle_longer(self, seconds: float, timeout: int) -> int:
        """How many have had no packet for so long, by what is left of their timeout; in whole grains.

        One with more left than the setting gives was given its timeout by something else, and does not count.
        """
        most = (timeout - seconds) / GRAIN
        return sum(n for grains, n in self.left.items() if 0 <= grains < most)


_TCP_TIMEOUTS = {
    0: "close", 1: "syn_sent", 2: "syn_recv", 3: "established", 4: "fin_wait", 5: "close_wait", 6: "last_ack",
    7: "time_wait", 8: "close", 9: "syn_sent", 10: "max_retrans", 11: "unacknowledged",
}  # fmt: skip


def timeout_of(proto: int, state: int, *, replied: bool) -> str:
    """The setting that gives an entry its timeout, unless a rule or a program does."""
    if proto == ct.TCP:
        return f"tcp_timeout_{_TCP_TIMEOUTS.get(state, 'close')}"
    if proto == ct.SCTP and 0 < state < len(ct.SCTP_STATES):
        return f"sctp_timeout_{ct.SCTP_STATES[state].lower()}"
    stream = "_stream" if replied else ""
    names = {ct.UDP: f"udp_timeout{stream}", ct.GRE: f"gre_timeout{stream}"}
    names |= {136: f"udp_timeout{stream}", ct.ICMP: "icmp_timeout", ct.ICMPV6: "icmpv6_timeout"}
    return names.get(proto, "generic_timeout")


_NEEDED = ("family", "proto", "state", "status", "timeout", "src", "dst", "dport")


class Tally:
    """Everything that is counted in one walk."""

    def __init__(self, by: Sequence[tuple[str, ...]] = ()) -> None:
        self.count = 0
        self.statuses: Counter[int] = Counter()
        self.sources, self.targets = Counts(), Counts()  # of entries that nobody has answered
        self._breakdowns = {names: Counts() for names in by}
        self._left: dict[tuple[int, int, bool], Counter[int]] = {}

    @property
    def fields(self) -> frozenset[str]:
        """Of an entry, what has to be read of it."""
        return frozenset(_NEEDED) | {DIMENSIONS[name].field for names in self._breakdowns for name in names}

    def add(self, columns: Columns) -> None:
        """A batch of entries of one family and protocol."""
        of, count = columns.of, columns.size
        self.count += count
        proto = columns.constants["proto"]
        statuses = list(of("status"))
        grains = [left >> _GRAIN_BITS for left in of("timeout")]
        silent = 0
        # Few are different within a batch, so what is counted here is small, and what is put together rare.
        for (state_, bits, left), number in Counter(zip(of("state"), statuses, grains, strict=False)).items():
            self.statuses[bits] += number
            replied = bool(bits & ct.REPLIED)
            silent += 0 if replied else number
            key = (proto, state_, replied)
            if key not in self._left:
                self._left[key] = Counter()
            self._left[key][left] += number
        if silent:
            chosen = columns
            if silent < count:
                chosen = columns.where([not bits & ct.REPLIED for bits in statuses], ("src", "dst", "dport"))
            self.sources.add([chosen.of("src")], silent)
            self.targets.add([chosen.of("dst"), chosen.of("proto"), chosen.of("dport")], silent)
        for names, counts in self._breakdowns.items():
            fields = [DIMENSIONS[name].of(columns) for name in names]
            counts.add([*fields, of("proto")] if "state" in names else fields, count)

    def values(self, names: tuple[str, ...]) -> list[tuple[tuple[Any, ...], int]]:
        """Every value of a breakdown as it is in the kernel, and how many entries have it."""
        return [(key[: len(names)], number) for key, number in self._breakdowns[names].all().items()]

    def lost(self, names: tuple[str, ...]) -> int:
        """How many entries a breakdown lost because it had more different values than are counted."""
        return self._breakdowns[names].lost

    @property
    def by(self) -> list[tuple[str, ...]]:
        """The breakdowns."""
        return list(self._breakdowns)

    @property
    def unreplied(self) -> int:
        """Entries that nobody has answered."""
        return sum(n for bits, n in self.statuses.items() if not bits & ct.REPLIED)

    @property
    def assured(self) -> int:
        """Entries that are not thrown out to make room."""
        return sum(n for bits, n in self.statuses.items() if bits & ct.ASSURED)

    @property
    def translated(self) -> int:
        """Entries with an address translated."""
        return sum(n for bits, n in self.statuses.items() if bits & (ct.SRC_NAT | ct.DST_NAT))

    def groups(self) -> list[Group]:
        """The largest first."""
        several = [Group(*key, left) for key, left in self._left.items()]
        return sorted(several, key=lambda g: (-g.size, g.proto, g.state, g.replied))

    def rows(self, names: tuple[str, ...], top: int) -> list[tuple[int, tuple[Any, ...]]]:
        """How many, and the shown values, of the largest of a breakdown."""
        found = []
        for key, number in self._breakdowns[names].most(top):
            values = zip(names, key, strict=False)  # a state brings its protocol along, as the last value
            shown = (state(key[-1], v) if name == "state" else DIMENSIONS[name].show(v) for name, v in values)
            found.append((number, tuple(shown)))
        return found
