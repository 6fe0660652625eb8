"""The verdict on a family that crossed a threshold. Pure: model values in, a verdict with its reasons out.

:mod:`~pidwarden.judge.guilt` says where the growth sits; here each such subtree is called by its shape, on its own, so
that a build beside the bomb does not make the bomb look like a build, nor the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.judge.guilt import SECOND, Rules, Suspect, copied, find_suspects, itself_again, onset, weigher
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import GroupKind, Record, Rule
from pidwarden.model.tree import Tree
from pidwarden.model.verdict import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 0.8
_HALF = 0.5
_FEW = 0.05
_DEEP_PURE = 3  # copies of copies of copies: pools and prefork servers are two deep …
_DEEP_MIXED = 6  # … and nested subshells, which end in programs, four or five
_SLOW_NS = 10 * SECOND  # zombies or threads that took this long are a leak or a load, not an explosion
_PATIENCE = 3  # each burst enlarges the budget by burst_growth: threefold by now


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
    """What a suspect's subtree looks like, in numbers."""

    slots: int
    processes: int
    zombies: int
    threads: int  # beyond the first of each process
    known: int  # processes below the root, dead ancestors included
    copies: int  # of those: plain copies of their creator
    again: int  # of those: called exec, but run their creator's program again
    breeders: int  # of those: forked copies in their turn, or tried to and were stopped
    idle: int  # slots of the root's own children that did not
    depth: int  # the most plain forks in a row
    repeats: int  # the same, exec of the same program included
    since_ns: int  # how long ago the growth began: nine tenths of the slots are younger
    memory: int  # bytes


class _Opinion(NamedTuple):
    kind: Kind
    suspect: Suspect
    seen: Evidence
    why: str
    copying: bool = False


_Finding = tuple[Kind, str] | None


def evidence(tree: Tree, root: Record, case: Case) -> Evidence:
    """Counts over the subtree of `root`, without the protected."""
    depth, repeats, breeding = {root.key: 0}, {root.key: 0}, set[ProcessKey]()
    slots = processes = zombies = threads = known = copies = again = memory = 0
    births: list[tuple[int, int]] = []
    for record in tree.subtree(root.key):
        if record.key != root.key:
            creator = tree.by_key[record.parent]
            copy, anew = copied(record, creator), itself_again(record, creator)
            depth[record.key] = depth[record.parent] + 1 if copy else 0
            repeats[record.key] = repeats[record.parent] + 1 if copy or anew else 0
        if record.key in case.spared:
            continue
        held = max(0, record.slots)
        slots += held
        processes += record.alive
        zombies += held if record.zombie else 0
        threads += max(0, record.live - 1)
        memory += case.memory.get(record.key, 0)
        births.append((max(record.key.start_ns, record.exec_ns) if record.live > 1 else record.key.start_ns, held))
        if record.stops and depth[record.key]:
            breeding.add(record.key)
        if record.key != root.key:
            known += 1
            copies += copy
            again += anew
            if copy or anew:
                breeding.add(record.parent)
    # One that was stopped at the gate would have a copy by now, one deeper than itself.
    return Evidence(
        slots=slots,
        processes=processes,
        zombies=zombies,
        threads=threads,
        known=known,
        copies=copies,
        again=again,
        breeders=len(breeding - {root.key}),
        idle=sum(max(0, c.slots) for c in tree.kids(root.key) if c.key not in breeding and c.key not in case.spared),
        depth=max(d + (k in breeding) for k, d in depth.items()),
        repeats=max(d + (k in breeding) for k, d in repeats.items()),
        since_ns=max(0, case.now_ns - _tenth(births, slots)),
        memory=memory,
    )


def _tenth(births: list[tuple[int, int]], total: int) -> int:
    """The birth before which a tenth of the slots was there."""
    before = 0
    for birth, held in sorted(births):
        before += held
        if before * 10 > total:
            return birth
    return min(births)[0] if births else 0


def judge(case: Case, rules: Rules) -> Verdict:
    """Finds the subtrees that carry the growth and says what they are.

    One bomb makes the family's verdict `bomb`, whatever else grew; otherwise the heaviest subtree speaks for all.
    """
    tree = Tree(case.records)
    scope = _scope(tree, case)
    in_question = [tree.by_key[key] for key in scope if key not in case.spared]
    total = sum(max(0, r.slots) for r in in_question)
    births = ((r.key.start_ns, max(0, r.slots)) for r in in_question)
    least = min(max(rules.min_members, rules.heavy_share * total), _HALF * total)
    began = onset(births, least, rules.witness_ns)
    weight = weigher(scope, case.spared, began, case.memory, dead_count=case.rule is Rule.GENERATIONS)
    sums = tree.sums(weight)
    grown = sum(sums[r.key] for r in tree.roots)
    opinions = [
        _opinion(case, suspect, evidence(tree, suspect.root, case))
        for suspect in find_suspects(tree, sums, began, rules, case.spared)
    ]
    bombs = [o for o in opinions if o.kind is Kind.BOMB]
    # Copying is the clearest sign; whoever hoards beside it, or lighter than another, may do so for a reason.
    bombs = [o for o in bombs if o.copying] or bombs[:1]
    if sum(sums[o.suspect.root.key] for o in bombs) < rules.heavy_share * grown:
        # A few that look like one in the midst of something else: if they are one, the next alarm finds them grown.
        kind = _by_patience(case)
        opinions = [o._replace(kind=kind) if o.kind is Kind.BOMB else o for o in opinions]
        bombs = []
    chosen = bombs or [o for o in opinions if o.kind is opinions[0].kind]
    if chosen:
        least = rules.heavy_share * sums[chosen[0].suspect.root.key]
        chosen = [o for o in chosen if sums[o.suspect.root.key] >= least]
    return _verdict(case, tree, chosen)


def _scope(tree: Tree, case: Case) -> set[ProcessKey]:
    """A family alarm concerns everybody in it; a branch alarm the branch and what grew out of it."""
    if case.kind is GroupKind.FAMILY:
        return set(tree.by_key)
    scope: set[ProcessKey] = set()
    for record in sorted(tree.by_key.values(), key=lambda r: r.key.start_ns):
        if record.branch == case.group or record.parent in scope:
            scope.add(record.key)
    return scope


def _verdict(case: Case, tree: Tree, chosen: list[_Opinion]) -> Verdict:
    roots = tuple(o.suspect.root for o in chosen)
    guilty = {r.key: r for root in roots for r in tree.subtree(root.key) if r.key not in case.spared and r.slots > 0}
    alive = sum(r.alive for r in tree.by_key.values())
    spared = alive - sum(r.alive for r in guilty.values())
    if not guilty:
        why = f"no subtree has the {len(tree)} processes' growth on it: none reaches min_members"
        return Verdict(Kind.UNSURE, roots, (), 0, spared, (why,))
    reasons = [f"{_describe(chosen[0].seen)}: {chosen[0].why}"]
    if excuse := chosen[0].suspect.excuse:
        reasons.append(f"for {roots[0].key.tgid} speaks that {excuse}")
    if len(chosen) > 1:
        reasons.append(f"{len(chosen) - 1} more subtrees like it")
    return Verdict(chosen[0].kind, roots, tuple(guilty), sum(r.slots for r in guilty.values()), spared, tuple(reasons))


def _describe(seen: Evidence) -> str:
    memory = f", {seen.memory >> 20} MiB" if seen.memory else ""
    return (
        f"{seen.slots} slots in {seen.since_ns / SECOND:.2f} s, {seen.processes} processes, {seen.threads} more "
        f"threads, {seen.zombies} zombies{memory}; {seen.copies} of {seen.known} are plain copies, {seen.breeders} "
        f"of {seen.known} copied themselves again, {seen.depth} deep"
    )


def _opinion(case: Case, suspect: Suspect, seen: Evidence) -> _Opinion:
    # Somebody excused who is heavy by many small children: whatever they do, his own hands are clean.
    if not suspect.excuse and (why := _copies(case, seen)):
        return _Opinion(Kind.BOMB, suspect, seen, why, copying=True)
    if finding := _zombies(case, suspect, seen) or _threads(case, suspect, seen):
        return _Opinion(finding[0], suspect, seen, finding[1])
    if _by_patience(case) is Kind.BURST:
        why = "members call exec, or one parent forks them all: a build, a pool, a script"
    else:
        why = f"still growing after {case.strikes} larger budgets; a person decides"
    return _Opinion(_by_patience(case), suspect, seen, why)


def _by_patience(case: Case) -> Kind:
    return Kind.BURST if case.strikes < _PATIENCE else Kind.UNSURE


def _copies(case: Case, seen: Evidence) -> str:
    """Copies that copy themselves, many of them and deep: the shape that honest programs do not have."""
    if seen.breeders < max(2, _FEW * seen.known) or seen.idle > _HALF * seen.slots:
        return ""  # few, or most of it is one parent's workers
    pure = seen.known - seen.copies <= _FEW * seen.known
    if seen.depth >= (_DEEP_PURE if pure else _DEEP_MIXED) and seen.copies >= _HALF * seen.known:
        if case.rule is Rule.GENERATIONS:
            return f"a chain of copies of itself, {seen.depth} deep within seconds"
        return f"copies that copy themselves, {seen.depth} deep"
    strangers = seen.known - seen.copies - seen.again
    if case.strikes and seen.repeats >= _DEEP_PURE and strangers <= _FEW * seen.known:
        return f"a program that starts itself again, {seen.repeats} deep, in a larger budget as well"
    return ""


def _zombies(case: Case, suspect: Suspect, seen: Evidence) -> _Finding:
    """Slots taken by what has ended."""
    if seen.zombies <= _HALF * seen.slots:
        return None
    fast = seen.since_ns <= _SLOW_NS
    if fast and not suspect.excuse and seen.copies >= _MOST * seen.known:
        return Kind.BOMB, f"{seen.zombies} of its slots are children that ended and are not reaped"
    if fast and suspect.excuse and not case.strikes:
        return Kind.BURST, f"{seen.zombies} ended children may just not be reaped yet: a larger budget, once"
    return Kind.UNSURE, f"{seen.zombies} of its slots are ended processes that their parent does not reap"


def _threads(case: Case, suspect: Suspect, seen: Evidence) -> _Finding:
    """Slots taken by threads."""
    if seen.threads <= _HALF * seen.slots:
        return None
    if not case.strikes:
        return Kind.BURST, "many threads at once can be a pool: a larger budget, once, and watched again"
    if seen.since_ns <= _SLOW_NS and not suspect.excuse:
        return Kind.BOMB, f"threads filled a larger budget at once as well ({case.strikes + 1} times)"
    return Kind.UNSURE, f"threads filled {case.strikes + 1} budgets, but not at once; a person decides"
