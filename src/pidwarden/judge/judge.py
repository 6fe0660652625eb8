"""The verdict on a family that crossed a threshold. Pure: model values in, a verdict with its reasons out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pidwarden.judge.guilt import SECOND, Rules, find_guilty
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import GroupKind, Record, Rule
from pidwarden.model.tree import Tree
from pidwarden.model.verdict import Kind, Verdict

MEMORY_UNIT = 4 << 20  # bytes of memory that weigh as much as one slot
_RECENT_NS = 30 * SECOND  # only memory taken since about the beginning of the trouble counts
_MOST = 0.8
_HALF = 0.5


class Case(NamedTuple):
    """What the judge is shown: the alarm, and the family's records at this moment."""

    records: tuple[Record, ...]
    group: int  # the family or branch that crossed
    kind: GroupKind
    rule: Rule
    now_ns: int
    strikes: int = 0  # times the same family was already released as a burst, not long ago
    memory: Mapping[ProcessKey, int] = {}  # resident bytes of members, as far as known
    spared: frozenset[ProcessKey] = frozenset()  # protected by rule; never members


class Evidence(NamedTuple):
    """What the members of the guilty subtrees look like, in numbers."""

    slots: int
    processes: int
    zombies: int
    threads: int
    copies: int  # processes, dead ancestors included, that never called exec
    known: int  # processes, dead ancestors included
    breeders: int  # copies that forked themselves
    generations: int
    since_ns: int  # how long ago the oldest root was born


def evidence(members: Iterable[Record], roots: Iterable[Record], now_ns: int) -> Evidence:
    """Counts over the guilty subtrees."""
    records = list(members)
    top = {r.key for r in roots}
    copies = [r for r in records if not r.execs]
    return Evidence(
        slots=sum(r.slots for r in records),
        processes=sum(r.alive for r in records),
        zombies=sum(r.slots for r in records if r.zombie),
        threads=sum(max(0, r.live - 1) for r in records),
        copies=len(copies),
        known=len(records),
        breeders=sum(r.forks > 0 for r in copies if r.key not in top),
        generations=max((r.generation for r in records), default=0),
        since_ns=now_ns - min((r.key.start_ns for r in roots), default=now_ns),
    )


def judge(case: Case, rules: Rules) -> Verdict:
    """Finds the guilty subtrees and says what they are."""
    tree = Tree(case.records)
    in_scope = _scope(tree, case)

    def score(record: Record) -> int:
        if record.key not in in_scope or record.key in case.spared:
            return 0
        recent = case.now_ns - record.key.start_ns < _RECENT_NS
        # A dead ancestor holds no slot, but a chain of them is all there is to see of a fork-and-exit bomb.
        dead = case.rule is Rule.GENERATIONS and record.slots <= 0
        return record.slots + dead + (case.memory.get(record.key, 0) // MEMORY_UNIT if recent else 0)

    roots = find_guilty(tree, score, rules)
    guilty = {r.key: r for root in roots for r in tree.subtree(root.key) if r.key not in case.spared}
    members = tuple(key for key, r in guilty.items() if r.slots > 0)
    alive = sum(r.alive for r in case.records)
    seen = evidence(guilty.values(), roots, case.now_ns)
    kind, why = _classify(case, seen)
    if not members:
        kind, why = Kind.UNSURE, "no subtree of at least min_members"
    spared = alive - sum(guilty[m].alive for m in members)
    return Verdict(kind, tuple(roots), members, seen.slots, spared, (_describe(seen), why))


def _scope(tree: Tree, case: Case) -> set[ProcessKey]:
    """A family alarm concerns everybody in it; a branch alarm the branch and what grew out of it."""
    if case.kind is GroupKind.FAMILY:
        return set(tree.by_key)
    scope: set[ProcessKey] = set()
    for record in sorted(tree.by_key.values(), key=lambda r: r.key.start_ns):
        if record.branch == case.group or record.parent in scope:
            scope.add(record.key)
    return scope


def _describe(seen: Evidence) -> str:
    return (
        f"{seen.slots} slots in {seen.since_ns / SECOND:.2f} s: {seen.processes} processes, {seen.threads} more "
        f"threads, {seen.zombies} zombies; {seen.copies} of {seen.known} never called exec, {seen.breeders} of those "
        f"forked again, {seen.generations} generations"
    )


def _classify(case: Case, seen: Evidence) -> tuple[Kind, str]:
    copying = seen.copies >= _MOST * max(1, seen.known)
    if case.rule is Rule.GENERATIONS and copying:
        return Kind.BOMB, f"a chain of copies of itself, {seen.generations} generations within seconds"
    if seen.zombies > _HALF * seen.slots:
        if copying:
            return Kind.BOMB, f"{seen.zombies} of its slots are children that ended and are not reaped"
        return Kind.UNSURE, f"{seen.zombies} of its slots are ended programs that their parent does not reap"
    if seen.threads > _HALF * seen.slots:
        if case.strikes:
            return Kind.BOMB, f"threads filled a larger budget at once as well ({case.strikes + 1} times)"
        return Kind.BURST, "many threads at once can be a pool: a larger budget, once, and watched again"
    if copying and seen.breeders >= max(2, seen.known // 20):
        return Kind.BOMB, f"copies that copy themselves: {seen.breeders} of {seen.known} forked without ever calling exec"
    if case.strikes < 3:  # noqa: PLR2004  (each strike enlarges the budget by burst_growth: about fourfold by now)
        return Kind.BURST, "members call exec, or one parent forks them all: a build, a pool, a script"
    return Kind.UNSURE, f"still growing after {case.strikes} larger budgets; a person decides"
