"""Connection tracking: full, filling, scanned, leaking, racing, badly spread, or fine. By values. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.diagnose.words import count
from pidwarden.model import conntrack as ct
from pidwarden.model.cttally import GRAIN, address, port, protocol, state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pidwarden.model.conntrack import Memory, Reading
    from pidwarden.model.cttally import Group, Tally

BRIM = 0.999  # as full as it gets: what is thrown out for each that comes keeps it an entry or two below
FULL = 0.95  # from where the kernel throws out what is not assured as well (gc_worker())
NEAR = 0.8  # a table so full is worth a look, whatever its growth
FEW = 0.5  # below, a failed insert has nothing to do with the size
MEAN_LONG = 4.0  # entries in a mean chain; the kernel's own sizes give 2 in a full table
LEAST = 256  # entries of a sort that say something
SCAN_SHARE, TOP, TOP_SHARE = 0.5, 3, 0.5  # unreplied of all; so many sources have that part of them
LEAK_SHARE, IDLE_SHARE = 0.25, 0.5
# Without a packet for longer than keepalive takes to find that the other end is gone: 7200 s and 9 probes of 75 s
# (Documentation/networking/ip-sysctl.rst), rounded up.
KEEPALIVE = 8000
_IDLE_OTHER = 600  # of what has no keepalive
_AHEAD = 600.0  # a rate is believed for so many times as long as it was seen (diagnose/limits.py)
_GROWN, _GROWN_SHARE = 8, 10_000  # less growth than either is coming and going


class Kind(StrEnum):
    """What is the matter."""

    FULL = "full"
    FILLING = "filling"
    NEAR = "nearly-full"
    EARLY_DROP = "early-drop"
    DROPPED = "dropped"
    CHAINS = "hash-too-small"
    NAT_RACE = "nat-race"
    SCANNED = "scanned"
    FLOODED = "flooded"
    LEAKING = "leaking"
    FINE = "fine"


class Finding(NamedTuple):
    """What it is, in a sentence, and by which numbers. ``timeout``: the setting that keeps the entries."""

    kind: Kind
    sentence: str
    evidence: tuple[str, ...] = ()
    timeout: str = ""


class Change(NamedTuple):
    """From one look to the next. A counter is missing where either look does not have it."""

    seconds: float
    grown: int
    risen: dict[str, int]

    @property
    def per_second(self) -> float:
        """Entries a second."""
        return self.grown / self.seconds if self.seconds > 0 else 0.0


NO_CHANGE = Change(0.0, 0, {})


def change(before: Reading | None, after: Reading) -> Change:
    """What happened in between; nothing, if it is not the same namespace. Counters of 32 bits go round."""
    if before is None or before.inode != after.inode or after.ns <= before.ns:
        return NO_CHANGE
    risen = {}
    for name in ct.COUNTERS:
        old, new = before.total(name), after.total(name)
        if old is not None and new is not None:
            risen[name] = max(0, new - old)
    return Change((after.ns - before.ns) / 1e9, after.used - before.used, risen)


def fills_in(reading: Reading, seen: Change) -> float | None:
    """Seconds until it is full at the rate seen; None: it is not filling, or not so that it could be told."""
    if not reading.maximum or seen.grown < max(_GROWN, reading.maximum // _GROWN_SHARE):
        return None
    left = max(0, reading.maximum - reading.used) / seen.per_second
    return left if left <= seen.seconds * _AHEAD else None


def diagnose(reading: Reading, seen: Change, memory: Memory, tally: Tally | None) -> list[Finding]:
    """All that is the matter, what drops packets first; that it is fine if nothing is.

    ``tally`` None: the table was not walked, and who fills it is not known.
    """
    found = [*_room(reading, seen), *_chains(reading, seen, memory), *_race(reading, seen)]
    if tally is not None and tally.count:
        found += [*_scan(tally), *_leaks(tally, reading)]
    return found or [Finding(Kind.FINE, _fine(reading, tally))]


def _fine(reading: Reading, tally: Tally | None) -> str:
    if not reading.used and not any(reading.total(name) for name in ct.COUNTERS):
        return "nothing is tracked here: no rule in this network namespace asks for it, or nothing has come by"
    walked = "" if tally is not None else "; --walk tells who fills it"
    return f"nothing is the matter{walked}"


def _room(reading: Reading, seen: Change) -> list[Finding]:
    share, dropped, early = reading.share, seen.risen.get("drop", 0), seen.risen.get("early_drop", 0)
    evidence = tuple(
        f"{name} rose by {n} in {seen.seconds:.1f} s" for name, n in (("drop", dropped), ("early_drop", early)) if n
    )
    if share is not None and (share >= BRIM or (share >= FULL and (dropped or early))):
        what = f"the table is full, {reading.used} of {reading.maximum}"
        return [Finding(Kind.FULL, f"{what}: {_meant(reading, dropped, early)}", evidence)]
    found = []
    seconds = fills_in(reading, seen)
    if seconds is not None:
        growth = f"{seen.grown} entries more in {seen.seconds:.1f} s"
        found.append(Finding(Kind.FILLING, f"full in {_span(seconds)} at the rate seen", (growth,)))
    elif share is not None and share >= NEAR:
        found.append(Finding(Kind.NEAR, f"{100 * share:.0f} % of the table is used, {reading.maximum} entries"))
    if early:
        text = "entries that nobody had answered are thrown out before their time"
        found.append(Finding(Kind.EARLY_DROP, text, evidence))
    # A packet that lost a race, or found its chain too long, is counted in `drop` as well.
    if dropped > sum(seen.risen.get(name, 0) for name in ("insert_failed", "chain_too_long")):
        text = "packets are dropped because no entry could be made for them, although the table has room"
        found.append(Finding(Kind.DROPPED, text, evidence))
    return found


def _meant(reading: Reading, dropped: int, early: int) -> str:
    """What a full table does to new connections: those that nobody has answered go before any is dropped."""
    if dropped or not (early or (reading.total("early_drop") and not reading.total("drop"))):
        return "new connections are dropped, old ones go on and look healthy"
    return (
        "entries that nobody has answered are thrown out for new ones; when none is left, new connections are dropped"
    )


def _span(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004  (two minutes)
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004  (two hours)


def _chains(reading: Reading, seen: Change, memory: Memory) -> list[Finding]:
    if not reading.buckets:
        return []
    entries = memory.entries if memory.entries is not None else reading.used
    chains = ct.chains(max(entries, reading.used), reading.buckets, reading.total("chain_too_long"))
    rising = seen.risen.get("chain_too_long", 0)
    if chains.mean < MEAN_LONG and not rising:
        return []
    evidence = [f"mean chain {chains.mean:.1f}: {entries} entries, twice each, in {reading.buckets} buckets"]
    if rising:
        evidence.append(f"chain_too_long rose by {rising} in {seen.seconds:.1f} s: a chain had 50 entries or more")
    if rising and chains.mean < MEAN_LONG:
        text = "chains are too long although the mean is short: many entries that differ in too little to be spread"
        return [Finding(Kind.CHAINS, text, tuple(evidence))]
    return [Finding(Kind.CHAINS, "too few buckets: every packet walks a long chain", tuple(evidence))]


def _race(reading: Reading, seen: Change) -> list[Finding]:
    failed = seen.risen.get("insert_failed", 0)
    if not failed or (reading.share is not None and reading.share >= FEW):
        return []
    evidence = [f"insert_failed rose by {failed} in {seen.seconds:.1f} s with {reading.used} entries in the table"]
    if resolved := seen.risen.get("clash_resolve", 0):
        evidence.append(f"{count(resolved, 'clash')} more came out well")
    text = (
        "packets of one new connection race each other, and the loser is dropped: typical of DNS over UDP, which sends "
        "A and AAAA from one socket at once, and of NAT that picks a port twice; a larger table does not help"
    )
    return [Finding(Kind.NAT_RACE, text, tuple(evidence))]


# -- who fills it ------------------------------------------------------------------------------------------------------


def _scan(tally: Tally) -> list[Finding]:
    silent = tally.unreplied
    if silent < LEAST or silent < SCAN_SHARE * tally.count:
        return []
    share = f"{silent} of {tally.count} entries have never been answered"
    halves = [g for g in tally.groups() if not g.replied or g.state in (ct.SYN_SENT, ct.SYN_RECV)]
    sorts = ", ".join(f"{_sort(g)} {g.size}" for g in halves[:TOP])
    sources, targets = tally.sources.most(TOP), tally.targets.most(TOP)
    by_source = ", ".join(f"{address(key[0])} {n}" for key, n in sources)
    by_target = ", ".join(f"{_target(key)} {n}" for key, n in targets)
    if sum(n for _key, n in sources) >= TOP_SHARE * silent and len(tally.targets.all()) > TOP:
        text = f"a few sources ask many targets, which do not answer; most: {by_source}"
        return [Finding(Kind.SCANNED, text, (share, sorts))]
    if sum(n for _key, n in targets) >= TOP_SHARE * silent:
        text = f"many sources, which may be forged, ask few targets; most: {by_target}"
        return [Finding(Kind.FLOODED, text, (share, sorts))]
    text = f"most entries are unanswered, from many sources to many targets; most: {by_source}"
    return [Finding(Kind.SCANNED, text, (share, sorts))]


def _target(key: Sequence[Any]) -> str:
    dst, proto, dport = key
    return f"{address(dst)} {protocol(proto)}/{port(dport)}"


def _sort(group: Group) -> str:
    name = state(group.proto, group.state)
    return f"{protocol(group.proto)} {name if name != '-' else 'replied' if group.replied else 'unreplied'}"


def idle_limit(group: Group) -> int:
    """Seconds without a packet after which such an entry is likely to be of a connection that is no more."""
    return KEEPALIVE if group.proto == ct.TCP and group.state == ct.ESTABLISHED else _IDLE_OTHER


def idle(group: Group, reading: Reading) -> tuple[int, int] | None:
    """How many of a sort are idle for longer than that, and their timeout in seconds; None: it cannot be told."""
    timeout = reading.timeouts.get(group.timeout)
    if timeout is None or timeout <= idle_limit(group) + GRAIN:
        return None
    return group.idle_longer(idle_limit(group), timeout), timeout


def _leaks(tally: Tally, reading: Reading) -> list[Finding]:
    found = []
    for group in tally.groups():
        if group.size < LEAST or group.size < LEAK_SHARE * tally.count:
            continue
        known = idle(group, reading)
        if known is None or known[0] < IDLE_SHARE * group.size:
            continue
        old, timeout = known
        text = (
            f"{_sort(group)} entries outlive their connections: {old} of {group.size} have had no packet for over "
            f"{_span(idle_limit(group))}, and {group.timeout} keeps them for {_span(timeout)}"
        )
        evidence = f"{100 * group.size / tally.count:.0f} % of the table is {_sort(group)}"
        found.append(Finding(Kind.LEAKING, text, (evidence,), group.timeout))
    return found
