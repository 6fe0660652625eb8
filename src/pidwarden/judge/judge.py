"""The verdict on a family that crossed a threshold. Pure: model values in, a verdict with its reasons out.

:mod:`~pidwarden.judge.guilt` says where the growth sits, :mod:`~pidwarden.judge.evidence` what is there in numbers,
:mod:`~pidwarden.judge.shape` what that is called; here it comes together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.judge.evidence import Evidence, describe, examine
from pidwarden.judge.guilt import Suspect, find_suspects, weights
from pidwarden.judge.kin import COPY, Kin
from pidwarden.judge.onset import onset
from pidwarden.judge.shape import Hoard, Opinion, by_patience, opinion
from pidwarden.model.record import GroupKind, Record, Rule
from pidwarden.model.text import escape
from pidwarden.model.tree import NO_PARENT, Tree
from pidwarden.model.verdict import Kind, Verdict

if TYPE_CHECKING:
    from pidwarden.judge.case import Case, Rules

_HALF = 0.5


class _Finding(NamedTuple):
    suspect: Suspect
    seen: Evidence
    opinion: Opinion

    @property
    def kind(self) -> Kind:
        return self.opinion.kind


def judge(case: Case, rules: Rules) -> Verdict:
    """Finds the subtrees that carry the growth and says what they are.

    One bomb makes the family's verdict `bomb`, whatever else grew; otherwise the heaviest subtree speaks for all.
    """
    tree = Tree(case.records)
    kin = Kin(tree, case.spared, case.memory)
    scope = _scope(tree, case)
    births = [
        (birth, held)
        for birth, held, inside, spared in zip(tree.births, kin.slots, scope, kin.spared, strict=True)
        if inside and not spared
    ]
    total = sum(held for _birth, held in births)
    least = min(max(rules.min_members, rules.heavy_share * total), _HALF * total)
    began = onset(births, least, rules.witness_ns)
    sums = tree.totals(weights(kin, scope, began, dead_count=case.rule is Rule.GENERATIONS))
    now_ns = case.now_ns - (tree.records[-1].lost_ns if tree.records else 0)  # as births are
    findings = []
    for suspect in find_suspects(kin, sums, began, rules):
        seen = examine(kin, suspect.root, now_ns)
        findings.append(_Finding(suspect, seen, opinion(case, rules, suspect, seen, _hoard(kin, suspect.root))))
    return _verdict(case, kin, _choose(case, rules, kin, sums, findings))


def _choose(case: Case, rules: Rules, kin: Kin, sums: list[int], findings: list[_Finding]) -> list[_Finding]:
    """Those of the findings that the verdict is about, the heaviest first; all of one kind."""
    bombs = [f for f in findings if f.kind is Kind.BOMB]
    # Copying is the clearest sign; whoever hoards beside it, or lighter than another, may do so for a reason.
    bombs = [f for f in bombs if f.opinion.copying] or bombs[:1]
    grown = sum(sums[i] for i in kin.tree.root_numbers)
    if sum(sums[f.suspect.root] for f in bombs) < rules.heavy_share * grown:
        # A few that look like one in the midst of something else: if they are one, the next alarm finds them grown.
        patience = by_patience(case, rules)
        findings = [f._replace(opinion=patience) if f.kind is Kind.BOMB else f for f in findings]
        bombs = []
    chosen = bombs or [f for f in findings if f.kind is findings[0].kind]
    if chosen:
        least = rules.heavy_share * sums[chosen[0].suspect.root]
        chosen = [f for f in chosen if sums[f.suspect.root] >= least]
    return chosen


def _scope(tree: Tree, case: Case) -> bytearray:
    """A family alarm concerns everybody in it; a branch alarm the branch and what grew out of it."""
    if case.kind is GroupKind.FAMILY:
        return bytearray(b"\1") * len(tree)
    scope = bytearray(len(tree))
    for i, (record, parent) in enumerate(zip(tree.records, tree.parents, strict=True)):
        if record.branch == case.group or (parent != NO_PARENT and scope[parent]):
            scope[i] = 1
    return scope


def _hoard(kin: Kin, root: int) -> Hoard:
    tree, records = kin.tree, kin.tree.records
    children = tree.children(root)
    ended = [c for c in children if not records[c].alive]
    programs: dict[tuple[int, int], int] = {}
    for child in children:
        programs[records[child].exe] = programs.get(records[child].exe, 0) + 1
    commonest = max(programs, key=lambda exe: programs[exe], default=None)
    left: dict[tuple[int, int], int] = {}
    for child in ended:
        for i in tree.children(child):
            left[records[i].exe] = left.get(records[i].exe, 0) + kin.slots[i]
    return Hoard(
        known=len(children),
        started=records[root].forks,
        ended=len(ended),
        one_program=max(programs.values(), default=0),
        at_work=sum(records[c].alive and kin.kin[c] != COPY and records[c].exe != commonest for c in children),
        orphans=sum(left.values()),
        orphans_alike=max(left.values(), default=0),
    )


def _verdict(case: Case, kin: Kin, chosen: list[_Finding]) -> Verdict:
    tree, records = kin.tree, kin.tree.records
    below = [i for f in chosen for i in tree.below(f.suspect.root)]
    numbers = [i for i in below if kin.slots[i] and not kin.spared[i]]
    guilty = [records[i] for i in numbers]
    live = tree.column("live")
    spared = len([n for n in live if n > 0]) - len([i for i in numbers if live[i] > 0])
    roots = tuple(records[f.suspect.root] for f in chosen)
    if not guilty:
        why = f"no subtree has the {len(tree)} processes' growth on it: none reaches min_members"
        return Verdict(Kind.UNSURE, roots, (), 0, spared, (why,))
    first = chosen[0]
    reasons = [f"{describe(first.seen)}: {first.opinion.why}", _origin(case, tree, first.suspect.root)]
    if first.suspect.excuse:
        reasons.append(f"for {roots[0].key.tgid} speaks that {first.suspect.excuse}")
    if len(chosen) > 1:
        reasons.append(f"{len(chosen) - 1} more subtrees like it")
    return Verdict(
        kind=first.kind,
        roots=roots,
        members=tuple([r[0] for r in guilty]),
        slots=sum([kin.slots[i] for i in numbers]),
        spared=spared,
        reasons=tuple(reasons),
        doubtful=any(f.opinion.doubtful for f in chosen),
    )


def _origin(case: Case, tree: Tree, root: int) -> str:
    """Who set it up: the root's creator, and the family's founder and who started that."""
    text = f"it began with {_name(tree.records[root])}"
    at = tree.parents[root]
    if at != NO_PARENT:
        text += f", started by {_name(tree.records[at])}"
        while tree.parents[at] != NO_PARENT:
            at = tree.parents[at]
        if at != tree.parents[root]:
            text += f", in the family of {_name(tree.records[at])}"
    return f"{text}, a child of {_name(case.spawner)}" if case.spawner else text


def _name(record: Record) -> str:
    return f"{escape(record.comm)} ({record.key.tgid}, user {record.uid})"
