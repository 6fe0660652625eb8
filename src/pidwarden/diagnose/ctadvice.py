"""What can be done about a table of connections, and what each would break. Advice: nothing of it is done. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.conntrack import KEEPALIVE, Kind, idle
from pidwarden.model import conntrack as ct
from pidwarden.model.cttally import address, protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pidwarden.diagnose.conntrack import Finding
    from pidwarden.model.conntrack import Memory, Reading
    from pidwarden.model.cttally import Tally

MIB = 1 << 20
_GROW = {Kind.FULL, Kind.FILLING, Kind.NEAR, Kind.CHAINS}
_WORTH = 0.1  # of the table: less is not worth a rule of its own
_RAW = -300  # the priority at which a packet can be kept from being tracked (NF_IP_PRI_RAW)
_REFUSE, _WHO = "pidwarden_refuse", "ss -tunap"
FLOW_FIELDS = ("family", "proto", "dst", "dport", "nat", "status")
_OF_NETNS = {"sysctl", "nft", "iptables", "ip6tables", "iptables-save", "ss"}
_SYN_SENT_SECONDS = 30  # three tries of a SYN: 1, 2 and 4 s apart, and an answer that is slow


class Advice(NamedTuple):
    """One thing to do: the reason that is in the table now, what to type, and what it would break."""

    what: str
    reason: str
    commands: tuple[str, ...]
    breaks: tuple[str, ...]


class FlowSet(NamedTuple):
    """Flows to one port, or by one protocol (``port`` -1); to one address if there is one, as in a tally."""

    proto: int
    port: int
    dst: int | bytes | None = None
    text: str = ""

    def holds(self, proto: int, dst: int | bytes, dport: int) -> bool:
        """Whether an entry is of it."""
        return proto == self.proto and self.port in (-1, dport) and self.dst in (None, dst)


def advise(findings: Sequence[Finding], reading: Reading, memory: Memory, tally: Tally | None) -> list[Advice]:
    """What helps against the findings, the gentlest first; nothing if all is fine."""
    kinds = {finding.kind for finding in findings}
    found: list[Advice] = []
    if tally is not None:
        found += _timeouts(findings, reading, tally)
        found += _scanned(kinds, reading, tally)
    if kinds & _GROW:
        found.append(_resize(reading, memory, asked=tally is not None))
    if Kind.NAT_RACE in kinds:
        found.append(_race())
    if tally is not None and kinds - {Kind.FINE} and not tally.translated:
        found.append(_off(tally))
    return found


def _timeouts(findings: Sequence[Finding], reading: Reading, tally: Tally) -> Iterator[Advice]:
    leaking = {finding.timeout for finding in findings if finding.kind is Kind.LEAKING}
    for group in tally.groups():
        known = idle(group, reading) if group.timeout in leaking else None
        if known is None:
            continue
        leaking.discard(group.timeout)
        old, timeout = known
        shorter = KEEPALIVE if group.timeout == "tcp_timeout_established" else max(60, timeout // 10)
        yield Advice(
            f"a shorter {group.timeout}",
            f"{old} entries are kept for {timeout} s although nothing has come for long",
            (f"sysctl -w net.netfilter.nf_conntrack_{group.timeout}={shorter}",),
            (
                f"connections that are silent for {shorter} s without keepalive are forgotten: behind NAT they break, "
                "elsewhere the next packet is taken as a new connection (nf_conntrack_tcp_loose)",
                "an entry that is there takes the new time with its next packet: what is idle stays until its old time "
                "is over, or is deleted (`conntrack -D`)",
            ),
        )


def _scanned(kinds: set[Kind], reading: Reading, tally: Tally) -> Iterator[Advice]:
    if not kinds & {Kind.SCANNED, Kind.FLOODED}:
        return
    now = reading.timeouts.get("tcp_timeout_syn_sent", 0)
    waiting = sum(g.size for g in tally.groups() if g.timeout == "tcp_timeout_syn_sent")
    if waiting >= _WORTH * tally.count and now > _SYN_SENT_SECONDS:
        yield Advice(
            "a shorter tcp_timeout_syn_sent",
            f"{waiting} entries wait for an answer to a SYN, {now} s each",
            (f"sysctl -w net.netfilter.nf_conntrack_tcp_timeout_syn_sent={_SYN_SENT_SECONDS}",),
            (f"a connection whose SYN is answered {_SYN_SENT_SECONDS} s after the last try fails behind NAT",),
        )
    sources = tally.sources.most(1)
    if Kind.SCANNED in kinds and sources:
        key, number = sources[0]
        family, who = ("ip6" if isinstance(key[0], bytes) else "ip"), address(key[0])
        if _is_loopback(key[0]):
            reason = f"{number} of {tally.unreplied} unanswered entries are of {who}: a process of this machine"
            yield Advice("find out who asks", reason, (_WHO,), ())
            return
        yield Advice(
            f"refuse {who} before it is tracked",
            f"{number} of {tally.unreplied} unanswered entries are of {who}",
            (
                f"nft add table inet {_REFUSE}",
                f"nft 'add chain inet {_REFUSE} prerouting {{ type filter hook prerouting priority {_RAW}; }}'",
                f"nft add rule inet {_REFUSE} prerouting {family} saddr {who} drop",
            ),
            (
                f"everything from {who} is refused, not only the scan; find out first who it is: if it is an address "
                f"of this machine, `{_WHO}` shows which process asks, and the rule does not see it",
                f"`nft delete table inet {_REFUSE}` takes it back",
            ),
        )


def _is_loopback(source: int | bytes) -> bool:
    if isinstance(source, bytes):
        return source == bytes(15) + b"\1"
    return source >> 24 == 127  # noqa: PLR2004  (127.0.0.0/8)


def _resize(reading: Reading, memory: Memory, *, asked: bool) -> Advice:
    most = reading.maximum or reading.buckets or reading.used
    wanted = 2 * max(most, reading.used)
    cost = memory.of(wanted)
    size = f", {cost // MIB} MiB of entries when it is full" if cost is not None else ""
    buckets = f" --buckets {wanted}" if reading.buckets is not None and reading.buckets < wanted else ""
    first = "" if asked else "; `pidwarden conntrack --walk` first: a table that leaks or is scanned fills at any size"
    return Advice(
        "a larger table",
        f"{reading.used} of {reading.maximum} entries{first}",
        (f"pidwarden conntrack resize --max {wanted}{buckets} --dry-run",),
        (f"nothing{size}: unswappable memory of the kernel's",),
    )


def _race() -> Advice:
    return Advice(
        "DNS in a way that does not race",
        "insert_failed rises while the table has room",
        (
            "options single-request-reopen   # in resolv.conf: A and AAAA from two sockets (glibc)",
            "options use-vc                  # or by TCP",
            "iptables -t nat … -j MASQUERADE --random-fully   # where NAT picks ports; nft: masquerade fully-random",
        ),
        ("a name is asked for in two steps, which takes a little longer; a resolver on the host does without NAT",),
    )


def _off(tally: Tally) -> Advice:
    return Advice(
        "no tracking at all",
        f"none of {tally.count} entries has an address translated, so nothing here needs them for NAT now",
        (
            "nft list ruleset | grep -nE 'ct |masquerade|snat|dnat|flow|notrack'",
            "iptables-save | grep -nE 'conntrack|-m state|-t nat|MASQUERADE|[SD]NAT|CT '",
        ),
        (
            "rules that accept what is established or related no longer match: answers are refused where nothing else "
            "lets them in; so tracking can go only when those commands find no such rule, in this network namespace",
            "it goes when the last of these rules is gone; taking the module out by force is no way",
        ),
    )


def there(advice: Advice, path: str) -> Advice:
    """The same for a network namespace that is not ours: what is set in it is typed within."""
    into = f"nsenter --net={shlex.quote(path)} "
    commands = tuple(into + c if c.split(" ", 1)[0] in _OF_NETNS else c for c in advice.commands)
    return advice._replace(commands=commands)


# -- NOTRACK -----------------------------------------------------------------------------------------------------------


class Flows(NamedTuple):
    """What a walk found of a flow set; numbers of entries."""

    entries: int
    translated: int
    answered: int
    total: int
    redirected: int = 0  # others of the protocol, whose answers come from elsewhere than they were sent to


def flows(wanted: FlowSet, tally: Tally) -> Flows:
    """Counts a flow set in a tally that has a breakdown by `FLOW_FIELDS`."""
    entries = translated = answered = redirected = 0
    for key, number in tally.values(FLOW_FIELDS):
        _family, proto, dst, dport, nat, status = key
        if wanted.holds(proto, dst, dport):
            entries += number
            translated += number if nat else 0
            answered += number if status & ct.REPLIED else 0
        elif proto == wanted.proto and nat & ct.DST_NAT:
            redirected += number
    return Flows(entries, translated, answered, tally.count, redirected)


def notrack(wanted: FlowSet, found: Flows) -> Advice:
    """Rules for nft and iptables that keep a flow set out of the table, both ways, and what they would break."""
    breaks = [
        "`ct state established,related accept` does not match these packets any more (they are untracked): let them in "
        "and out by address and port, both ways, before the rule is there",
        "what is in the table already stays until its time is over",
    ]
    if found.translated:
        breaks.insert(0, f"{found.translated} of them have an address translated: untracked they BREAK; do not")
    elif found.redirected:
        breaks.insert(
            0,
            f"{found.redirected} others have their destination translated: those whose real server is at this port or "
            "address answer from it, the answers match these rules, and they BREAK (`conntrack -L --dst-nat`)",
        )
    else:
        breaks.append("none of them has an address translated now; a NAT rule that would match them later is passed by")
    if wanted.proto in (ct.ICMP, ct.ICMPV6):
        breaks.append("errors about tracked connections (fragmentation needed) are ICMP too, and are no longer related")
    return Advice(
        f"NOTRACK for {wanted.text}",
        f"{found.entries} of {found.total} entries are of it, {found.answered} of them answered",
        tuple(dict.fromkeys((*_nft(wanted), *_iptables(wanted)))),  # without ports both directions are one rule
        tuple(breaks),
    )


def _matches() -> Iterator[tuple[str, str, str]]:
    """Of both directions: the chain, and whose port and address are looked at, d or s."""
    for way in "ds":
        for hook in ("prerouting", "output"):
            yield hook, way, "daddr" if way == "d" else "saddr"


def _nft(wanted: FlowSet) -> Iterator[str]:
    yield "nft add table inet pidwarden_notrack"
    for hook in ("prerouting", "output"):
        chain = f"{{ type filter hook {hook} priority {_RAW}; }}"
        yield f"nft 'add chain inet pidwarden_notrack {hook} {chain}'"
    name = protocol(wanted.proto)
    for hook, way, addr in _matches():
        where = ""
        if wanted.dst is not None:
            where = f"{'ip6' if isinstance(wanted.dst, bytes) else 'ip'} {addr} {address(wanted.dst)} "
        which = f"{name} {way}port {wanted.port}" if wanted.port >= 0 else f"meta l4proto {name}"
        yield f"nft add rule inet pidwarden_notrack {hook} {where}{which} notrack"


def _iptables(wanted: FlowSet) -> Iterator[str]:
    programs: tuple[str, ...] = ("iptables", "ip6tables")
    if wanted.dst is not None:
        programs = (programs[isinstance(wanted.dst, bytes)],)
    elif wanted.proto in (ct.ICMP, ct.ICMPV6):
        programs = (programs[wanted.proto == ct.ICMPV6],)
    name = protocol(wanted.proto)
    for program in programs:
        for hook, way, _addr in _matches():
            where = f" -{way} {address(wanted.dst)}" if wanted.dst is not None else ""
            which = f" --{way}port {wanted.port}" if wanted.port >= 0 else ""
            yield f"{program} -t raw -A {hook.upper()} -p {name}{where}{which} -j CT --notrack"


def plain(advice: Advice) -> dict[str, Any]:
    """For JSON."""
    return {
        "what": advice.what, "reason": advice.reason, "commands": list(advice.commands), "breaks": list(advice.breaks)
    }  # fmt: skip
