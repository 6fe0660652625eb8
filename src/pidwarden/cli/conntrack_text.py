"""`pidwarden conntrack` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.cli.table import table
from pidwarden.diagnose import conntrack as diagnosis
from pidwarden.model import conntrack as ct
from pidwarden.model.cttally import DIMENSIONS, protocol, state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.cli.conntrack_look import Account, Walked, Wish
    from pidwarden.diagnose.ctadvice import Advice
    from pidwarden.model.conntrack import Memory, Reading

MIB = 1 << 20
_GROUPS = 8  # sorts of entries that are shown
_SHOWN = (
    "tcp_timeout_established",
    "tcp_timeout_syn_sent",
    "tcp_timeout_time_wait",
    "udp_timeout",
    "udp_timeout_stream",
)


def dimensions() -> str:
    """What the table can be broken down by."""
    return "".join(f"{name:<10}  {dimension.about}\n" for name, dimension in DIMENSIONS.items())


def report(accounts: list[Account], wish: Wish) -> str:
    """A block for each namespace that has entries, or is the only one; the others in one line."""
    empty = [a for a in accounts if not a.reading.used and a.fine] if len(accounts) > 1 else []
    blocks = ["\n".join(_block(account, wish)) for account in accounts if account not in empty]
    if empty:
        names = ", ".join(a.namespace.name for a in empty)
        blocks.append(f"without entries: {names}")
    return "\n\n".join(blocks) + "\n"


def _block(account: Account, wish: Wish) -> Iterator[str]:
    reading = account.reading
    name = account.namespace.name
    share = f" ({100 * reading.share:.1f} %)" if reading.share is not None else ""
    limit = "unknown" if reading.maximum is None else reading.maximum or "no limit"
    yield f"{reading.used} of {limit} entries{share} in {name} (net:[{reading.inode}])"
    yield f"  change     {_change(account)}"
    yield f"  memory     {_memory(reading, account.memory)}"
    yield f"  chains     {_chains(reading, account.memory)}"
    yield from _counters(account)
    shown = [f"{n} {reading.timeouts[n]}" for n in _SHOWN if n in reading.timeouts]
    if shown:
        yield f"  timeouts   {', '.join(shown)} s"
    yield from (f"  note       {note}" for note in reading.notes)
    if account.walked:
        yield from _walked(account, account.walked, wish)
    yield ""
    for finding in account.findings:
        yield f"  {finding.kind}: {finding.sentence}"
        yield from (f"    {line}" for line in finding.evidence)
    for advice in account.advice:
        yield ""
        yield from _advice(advice)


def _change(account: Account) -> str:
    seen = account.seen
    if not seen.seconds:
        return "unknown: one look only"
    seconds = diagnosis.fills_in(account.reading, seen)
    when = f"; full in {seconds:.0f} s at this rate" if seconds is not None else ""
    return f"{seen.per_second:+.0f} entries a second (two looks, {seen.seconds:.1f} s apart){when}"


def _memory(reading: Reading, memory: Memory) -> str:
    array = f"buckets {_size(memory.array)}" if memory.array is not None else "buckets unknown"
    if memory.entries is None or memory.each is None:
        return f"{array}; entries unknown: {memory.why}"
    most = "" if memory.certain else "at most "
    full = memory.of(reading.maximum) if reading.maximum else None
    when = f"; {_size(full)} when this one is full" if full is not None else ""
    return (
        f"{_size(memory.total or 0)} for {memory.entries} entries of all network namespaces: {memory.each:.0f} bytes "
        f"each by /proc/slabinfo, and {memory.block} for what hangs on {most}{memory.extended} of them{when}; {array}"
    )


def _size(number: int) -> str:
    return f"{number / MIB:.1f} MiB"


def _chains(reading: Reading, memory: Memory) -> str:
    if not reading.buckets:
        return "unknown: nf_conntrack_buckets cannot be read"
    entries = max(memory.entries or 0, reading.used)
    chains = ct.chains(entries, reading.buckets, reading.total("chain_too_long"))
    if chains.too_long is None:
        counted = "this kernel does not count chains that are too long"
    else:
        counted = f"{chains.too_long} entries refused for chains of 50 and more"
    return (
        f"mean {chains.mean:.2f} in {reading.buckets} buckets; worst unknown (the hash has a secret seed), about "
        f"{chains.expected} if it spreads well; {counted}"
    )


def _counters(account: Account) -> Iterator[str]:
    reading, seen = account.reading, account.seen
    totals = {name: reading.total(name) for name in ct.COUNTERS}
    if not any(n is not None for n in totals.values()):
        return
    words = []
    for name, number in totals.items():
        if number:
            more = f" (+{seen.risen[name]})" if seen.risen.get(name) else ""
            words.append(f"{name} {number}{more}")
    zero = [name for name in ("drop", "early_drop", "insert_failed") if totals[name] == 0]
    none = [f"no {', no '.join(zero)}"] if zero else []
    yield f"  counters   {', '.join(words + none)}, since this namespace was made"
    names = [name for name, number in totals.items() if number]
    if names and len(reading.cpus) > 1:
        rows = [[cpu, *(c.get(n, 0) for n in names)] for cpu, c in sorted(reading.cpus.items()) if any(c.values())]
        yield from table(["cpu", *names], rows, "             ")


def _walked(account: Account, walked: Walked, wish: Wish) -> Iterator[str]:
    tally, reading = walked.tally, account.reading
    yield ""
    total = max(1, tally.count)
    parts = [f"{number} {name} ({100 * number / total:.0f} %)" for name, number in (
        ("unreplied", tally.unreplied), ("assured", tally.assured), ("translated", tally.translated),
    )]  # fmt: skip
    yield f"  walked     {tally.count} entries in {walked.seconds:.2f} s: {', '.join(parts)}"
    yield from (f"  note       {note}" for note in walked.notes)
    if not tally.count:
        return
    rows = []
    for group in tally.groups()[:_GROUPS]:
        known = diagnosis.idle(group, reading)
        old = f"{known[0]} for over {diagnosis.idle_limit(group)} s" if known else "-"
        seconds = reading.timeouts.get(group.timeout, "?")
        sort = state(group.proto, group.state)
        words = [protocol(group.proto), sort, "yes" if group.replied else "no", f"{group.timeout} {seconds}"]
        rows.append([group.size, *words, old])
    yield from table(["entries", "proto", "state", "answered", "timeout (s)", "idle"], rows, "    ")
    for names in wish.by:
        yield ""
        found = [[n, f"{100 * n / total:.1f} %", *map(str, values)] for n, values in tally.rows(names, wish.top)]
        yield from table(["entries", "share", *names], found, "    ")


def _advice(advice: Advice) -> Iterator[str]:
    yield f"  advice: {advice.what}: {advice.reason}"
    yield from (f"    type       {command}" for command in advice.commands)
    yield from (f"    breaks     {text}" for text in advice.breaks)
