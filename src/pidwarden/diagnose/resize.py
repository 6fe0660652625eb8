"""The plan for another size of connection tracking, by values: order, memory, what speaks against it. Pure.

Every entry is in the hash twice, once for each direction: with as many buckets as entries a chain has two on average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.limit import CONNTRACK_BUCKETS, CONNTRACK_MAX, INT_MAX
from pidwarden.model.plan import Plan, amount
from pidwarden.model.undo import Kind, Step, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "conntrack"
KEYS = {CONNTRACK_MAX: f"net.netfilter.{CONNTRACK_MAX}", CONNTRACK_BUCKETS: f"net.netfilter.{CONNTRACK_BUCKETS}"}
_CHAIN = 2.0  # of entries in a bucket on average that one need not think about
_CHAIN_MOST = 50  # the kernel throws out what would lengthen a chain beyond 50 to 79 (MIN_CHAINLEN)
_HALF = 2
_ARRAY_MOST = 0xFFFFFFFF  # bytes of buckets that the kernel makes at most (nf_ct_alloc_hashtable())


class Facts(NamedTuple):
    """Sizes now; bytes of an entry (None: unknown) and a bucket; buckets come in steps of so many (a page of them)."""

    most: int
    buckets: int
    used: int | None
    entry_bytes: int | None
    available: int | None
    bucket_bytes: int = 8
    step: int = 512


class Wanted(NamedTuple):
    """What was asked for; None: not named."""

    most: int | None
    buckets: int | None


def sizes(facts: Facts, wanted: Wanted) -> tuple[int, int]:
    """Max and buckets as they will be: as many buckets as max at least, unless others are named.

    The kernel rounds buckets up to whole pages (nf_ct_alloc_hashtable()).
    """
    most = facts.most if wanted.most is None else wanted.most
    if wanted.buckets is not None:
        buckets = wanted.buckets
    else:
        buckets = facts.buckets if wanted.most is None else max(facts.buckets, min(most, buckets_most(facts)))
    return most, -(-buckets // facts.step) * facts.step if buckets != facts.buckets else buckets


def buckets_most(facts: Facts) -> int:
    """The most buckets that the kernel makes, in whole pages."""
    return _ARRAY_MOST // facts.bucket_bytes // facts.step * facts.step


def proposal(facts: Facts) -> Wanted:
    """A size with room for twice of what there is, in powers of two; that of now if it has that room."""
    most = 1024
    while most < _HALF * (facts.used or 0):
        most *= 2
    most = max(most, facts.most)
    return Wanted(most, max(facts.buckets, most))


def plan(facts: Facts, wanted: Wanted, folder: str, *, below_use: bool = False) -> Plan:
    """Steps in an order in which no moment is worse than before or after: more buckets, then max, then fewer buckets.

    `folder` is where the two files are.

    Raises:
        ValueError: a number is none that the kernel takes, in words for people.
    """
    most, buckets = sizes(facts, wanted)
    if not (1 <= most <= INT_MAX and 1 <= buckets <= max(facts.buckets, buckets_most(facts))):
        msg = f"max goes from 1 to {INT_MAX}, and buckets from 1 to {buckets_most(facts)}"
        raise ValueError(msg)
    steps = []
    to_max = _step(folder, CONNTRACK_MAX, facts.most, most)
    to_buckets = _step(folder, CONNTRACK_BUCKETS, facts.buckets, buckets)
    if buckets > facts.buckets:
        steps.append(to_buckets)
    if most != facts.most:
        steps.append(to_max)
    if buckets < facts.buckets:
        steps.append(to_buckets)
    if not steps:
        return Plan(NAME, (), (f"max is {most} and buckets are {buckets} already",))
    questions, refusals = _against(facts, most, buckets, below_use=below_use)
    return Plan(NAME, tuple(steps), tuple(_notes(facts, wanted, most, buckets)), tuple(questions), tuple(refusals))


def _step(folder: str, name: str, old: int, new: int) -> Step:
    return Step(Target(Kind.KERNEL, f"{folder}/{name}"), str(old), str(new))


class Cost(NamedTuple):
    """Bytes: entries if all are used, the buckets, and both arrays of buckets while there are two."""

    entries: int | None
    buckets: int
    peak_buckets: int


def cost(facts: Facts, most: int, buckets: int) -> Cost:
    """What a size takes."""
    entries = None if facts.entry_bytes is None else most * facts.entry_bytes
    size = buckets * facts.bucket_bytes
    return Cost(entries, size, size + (facts.buckets * facts.bucket_bytes if buckets != facts.buckets else 0))


def _notes(facts: Facts, wanted: Wanted, most: int, buckets: int) -> list[str]:
    then, now = cost(facts, most, buckets), cost(facts, facts.most, facts.buckets)
    available = f"; {amount(facts.available)} are available" if facts.available is not None else ""
    found = []
    if then.entries is not None and now.entries is not None:
        found.append(
            f"memory when full: {amount(then.entries + then.buckets)} ({facts.entry_bytes} bytes an entry, "
            f"{facts.bucket_bytes} a bucket), now at most {amount(now.entries + now.buckets)}{available}"
        )
    else:
        found.append(
            f"memory: {amount(then.buckets)} for buckets; what an entry takes is not known here: "
            f"/proc/slabinfo is for root, or does not name nf_conntrack{available}"
        )
    if buckets != facts.buckets:
        found.append(
            f"while it moves the entries the kernel keeps both arrays of buckets, {amount(then.peak_buckets)}, and "
            "holds up packets; 200,000 entries take a tenth of a second or less"
        )
    if wanted.buckets is not None and buckets != wanted.buckets:
        found.append(f"the kernel rounds {wanted.buckets} buckets up to whole pages: {buckets}")
    chain = _HALF * most / buckets
    if chain > _CHAIN:
        found.append(
            f"a full table would have {chain:.1f} entries in a bucket on average, 2.0 with as many buckets as entries"
        )
    if wanted.buckets is None and -(-most // facts.step) * facts.step < facts.buckets:
        found.append(f"the buckets stay {facts.buckets}: `--buckets {most}` gives their memory back")
    if most < facts.most and facts.used is not None:
        found.append(f"{facts.used} entries are in use here; those of other network namespaces are not counted")
    if most != facts.most:
        found.append("max holds in each network namespace by itself: several full ones take several times that memory")
    return found


def _against(facts: Facts, most: int, buckets: int, *, below_use: bool) -> tuple[list[str], list[str]]:
    """Questions and refusals."""
    questions, refusals = [], []
    if most < facts.most:
        questions.append(f"this lowers max from {facts.most} to {most}")
    if buckets < facts.buckets:
        questions.append(f"this lowers the buckets from {facts.buckets} to {buckets}")
    if facts.used is not None and most < facts.used and most < facts.most:
        text = f"{facts.used} entries are in use, more than {most}: none is thrown out, but new ones are dropped"
        if below_use:
            questions.append(text)
        else:
            refusals.append(f"{text}; add `--below-use` to set it all the same")
    if _HALF * most / buckets > _CHAIN_MOST:
        refusals.append(
            f"{buckets} buckets for {most} entries make chains longer than the kernel allows ({_CHAIN_MOST} or more): "
            f"connections would be dropped; name {most} buckets"
        )
    then, now = cost(facts, most, buckets), cost(facts, facts.most, facts.buckets)
    if facts.available is None:
        return questions, refusals
    # What is in use now is not available any more; the rest of what is allowed now may still come.
    more = then.peak_buckets - now.buckets
    if then.entries is not None and facts.entry_bytes is not None:
        more += max(0, then.entries - (facts.used or 0) * facts.entry_bytes)
    grows = most > facts.most or buckets > facts.buckets
    if grows and more > facts.available:
        refusals.append(
            f"it would take {amount(more)} more when full and {amount(facts.available)} are available: "
            f"{_fits(facts)} entries fit"
        )
    elif grows and more * _HALF > facts.available:
        questions.append(f"full, it would take more than half of the {amount(facts.available)} that are available")
    return questions, refusals


def _fits(facts: Facts) -> int:
    """How many entries fit into half of what is available, with as many buckets."""
    each = (facts.entry_bytes or 0) + facts.bucket_bytes
    return (facts.available or 0) // _HALF // each


def files_lines(most: int, buckets: int) -> list[tuple[str, str]]:
    """What sysctl.d is to hold: the buckets first, as they are changed first when it grows."""
    return [(KEYS[CONNTRACK_BUCKETS], str(buckets)), (KEYS[CONNTRACK_MAX], str(most))]


def values(most: int, buckets: int) -> Mapping[str, str]:
    """The same by key with slashes."""
    return {key.replace(".", "/"): value for key, value in files_lines(most, buckets)}
