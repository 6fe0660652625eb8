"""`pidwarden conntrack --json`: stable names, numbers in seconds and bytes, null for what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pidwarden.diagnose import conntrack as diagnosis
from pidwarden.diagnose import ctadvice
from pidwarden.model import conntrack as ct
from pidwarden.model.cttally import protocol, state

if TYPE_CHECKING:
    from pidwarden.cli.conntrack_look import Account, Walked, Wish
    from pidwarden.model.conntrack import Memory, Reading


def document(accounts: list[Account], unseen: list[str], wish: Wish) -> dict[str, Any]:
    """One round."""
    memory = accounts[0].memory if accounts else None
    return {
        "namespaces": [_namespace(account, wish) for account in accounts],
        "memory": _memory(memory) if memory else None,
        "notes": unseen,
    }


def _namespace(account: Account, wish: Wish) -> dict[str, Any]:
    reading, seen = account.reading, account.seen
    return {
        "inode": reading.inode,
        "name": account.namespace.name,
        "count": reading.used,
        "max": reading.maximum,
        "buckets": reading.buckets,
        "share": reading.share,
        "per_second": round(seen.per_second, 3),
        "seconds": round(seen.seconds, 3),
        "full_in_seconds": diagnosis.fills_in(reading, seen),
        "chains": _chains(reading, account.memory),
        "counters": {name: reading.total(name) for name in ct.COUNTERS},
        "risen": seen.risen,
        "cpus": {str(cpu): dict(counters) for cpu, counters in reading.cpus.items()},
        "counters_from": reading.source or None,
        "timeouts": dict(sorted(reading.timeouts.items())),
        "settings": dict(reading.settings),
        "walk": _walk(account.walked, reading, wish) if account.walked else None,
        "findings": [
            {"kind": f.kind, "text": f.sentence, "evidence": list(f.evidence), "timeout": f.timeout or None}
            for f in account.findings
        ],
        "advice": [ctadvice.plain(advice) for advice in account.advice],
        "notes": [*reading.notes, *(account.walked.notes if account.walked else ())],
    }


def _chains(reading: Reading, memory: Memory) -> dict[str, Any] | None:
    """``entries`` are those of all namespaces where that is known: the buckets are everybody's."""
    if not reading.buckets:
        return None
    entries = max(memory.entries or 0, reading.used)
    chains = ct.chains(entries, reading.buckets, reading.total("chain_too_long"))
    return {
        "entries": entries,
        "mean": round(chains.mean, 3),
        "worst": None,
        "worst_expected": chains.expected,
        "too_long": chains.too_long,
    }


def _memory(memory: Memory) -> dict[str, Any]:
    return {
        "entries": memory.entries,
        "bytes_each": memory.each,
        "bytes_block": memory.block or None,
        "extended": memory.extended if memory.entries is not None else None,
        "extended_certain": memory.certain,
        "bytes_entries": memory.total,
        "bytes_buckets": memory.array,
        "unknown": memory.why or None,
    }


def _walk(walked: Walked, reading: Reading, wish: Wish) -> dict[str, Any]:
    tally = walked.tally
    groups = []
    for group in tally.groups():
        known = diagnosis.idle(group, reading)
        groups.append({
            "proto": protocol(group.proto), "state": state(group.proto, group.state), "replied": group.replied,
            "count": group.size, "timeout": group.timeout, "timeout_seconds": reading.timeouts.get(group.timeout),
            "idle_after_seconds": diagnosis.idle_limit(group) if known else None, "idle": known[0] if known else None,
        })  # fmt: skip
    return {
        "seconds": round(walked.seconds, 3),
        "count": tally.count,
        "unreplied": tally.unreplied,
        "assured": tally.assured,
        "translated": tally.translated,
        "groups": groups,
        "breakdowns": [
            {
                "by": list(names),
                "lost": tally.lost(names),
                "rows": [
                    {"count": number, **dict(zip(names, values, strict=True))}
                    for number, values in tally.rows(names, wish.top)
                ],
            }
            for names in wish.by
        ],
    }
