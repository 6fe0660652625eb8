"""Which subtree of a family is guilty. Pure: records in, suspects out.

Depth first from the founder, the dead included, as the kernel design of 2011 did; what differs is the question asked
at each step. Score alone would take the session along with the bomb whenever the bomb is most of the session. So only
what was born since the trouble began weighs anything, and a process whose subtree is heavy is passed over as soon as
something speaks for it: its heavy children are looked at instead, and all else that it started is spared. What is left
over of a bomb that way is caught by the next alarm; a wrong kill is not undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.record import ProcFlag, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.tree import Tree

SECOND = 1_000_000_000
MEMORY_UNIT = 16 << 20  # bytes that weigh as much as a slot
_GUESSED = int(ProcFlag.GUESSED)  # a plain number: an IntFlag's & takes a microsecond, 50,000 times over
_LIKE_ITS_CHILDREN = 4  # children that breed as it does: a bomb's first process has them, a server or script does not
_ALIKE = 3  # times as many children as the busiest of its copies: more of them are requests that it serves
_CAME_AND_WENT = 3  # children beyond those still known: somebody who runs one program after another
_SLOWER = 4  # a bomb's first process waits as long as its copies do before it forks; its parent waited longer than this


class Rules(NamedTuple):
    """The judge's numbers. ``min_members`` and ``branch_age_ns`` are settings, the others follow from measurements."""

    min_members: int = 10  # a subtree lighter than this is never guilty (the 2011 patch hard-coded ten)
    branch_age_ns: int = SECOND  # a parent that lived this long before is not part of what it started
    heavy_share: float = 0.15  # of the growth, and of the heaviest subtree: what is lighter is not why the alarm rang
    witness_ns: int = SECOND // 10  # a sibling this much older than the heavy one was there first


class Suspect(NamedTuple):
    """The root of a heavy subtree, and what speaks for it all the same; empty if nothing does."""

    root: Record
    excuse: str


def copied(record: Record, creator: Record | None) -> bool:
    """Whether a process is a plain copy of its creator: it never called exec.

    Of a process that was there before the guard nobody counted the execs; it passes for a copy if it runs the same
    program under the same name, which is what a copy inherits.
    """
    if record.execs:
        return False
    # The name as well: where one file is many programs (busybox, an interpreter) the file says little.
    return not record.flags & _GUESSED or (
        creator is not None and record.exe == creator.exe and record.comm == creator.comm
    )


def itself_again(record: Record, creator: Record | None) -> bool:
    """Whether a process called exec only to become what its creator is: a bomb may start itself instead of copying."""
    return record.execs > 0 and creator is not None and record.exe == creator.exe


class _Burst(NamedTuple):
    """Births close together."""

    first: int
    last: int
    weight: int


def onset(births: Iterable[tuple[int, int]], least: float, pause_ns: int) -> int:
    """When the growth that rang the alarm began, in ns since boot, from (birth, weight) pairs in any order.

    Back in time from the youngest, burst by burst (a pause of more than `pause_ns` ends one), until a pause is longer
    than all that came after it and at least `least` of the weight lies behind. So it matters neither how many those
    are that were there before, nor how long ago. A slow bomb, which doubles at every beat, is not cut at its beats.
    """
    bursts = _bursts(births, pause_ns)
    if not bursts:
        return 0
    began, youngest, got = bursts[0].first, bursts[0].last, bursts[0].weight
    for at, burst in enumerate(bursts[1:], 1):
        pause = began - burst.last
        if got >= least and pause > youngest - began and not _beat(bursts[at : at + 2], pause, got):
            break
        began = burst.first
        got += burst.weight
    return began


def _beat(bursts: list[_Burst], pause: int, since: int) -> bool:
    """Whether a pause is one of several alike, and what was born at each is a few times what was born before it."""
    if len(bursts) < 2:  # noqa: PLR2004  (the burst before the pause, and the one before that)
        return False
    burst, older = bursts
    alike = pause <= 2 * (burst.first - older.last) <= 4 * pause
    return alike and older.weight <= burst.weight <= min(8 * older.weight, since) and since <= 8 * burst.weight


def _bursts(births: Iterable[tuple[int, int]], pause_ns: int) -> list[_Burst]:
    """The youngest first."""
    found: list[_Burst] = []
    first = last = total = 0
    for birth, weight in sorted(births, reverse=True):
        if not last or first - birth > pause_ns:
            found += [_Burst(first, last, total)] if last else []
            last, total = birth, 0
        first, total = birth, total + weight
    return found + ([_Burst(first, last, total)] if last else [])


def find_suspects(
    tree: Tree, sums: dict[ProcessKey, int], began: int, rules: Rules, protected: frozenset[ProcessKey] = frozenset()
) -> list[Suspect]:
    """The roots of the subtrees that carry the growth, the heaviest first.

    `sums` holds the weight of each subtree, `began` the onset. Empty if no subtree reaches ``min_members``.
    """
    found: list[Suspect] = []
    todo = [r for r in tree.roots if sums[r.key] >= rules.min_members]
    while todo:
        record = todo.pop()
        heavy = [c for c in tree.kids(record.key) if sums[c.key] >= rules.min_members]
        excuse = "it is protected" if record.key in protected else _excuse(tree, record, heavy, began, rules)
        if excuse and heavy:
            todo.extend(heavy)
        else:
            found.append(Suspect(record, excuse))
    return sorted(found, key=lambda s: sums[s.root.key], reverse=True)


def _excuse(tree: Tree, parent: Record, heavy: list[Record], began: int, rules: Rules) -> str:
    """What speaks for the parent of heavy children, or for a process that is heavy without any; empty if nothing."""
    if _like_its_children(tree, parent, began):
        return ""
    return _lived_before(tree, parent, heavy, began, rules) or _other_work(tree, parent, heavy, rules)


def _lived_before(tree: Tree, parent: Record, heavy: list[Record], began: int, rules: Rules) -> str:
    """A bomb's parent is older than the bomb; a slow bomb's first process is only as slow as its copies."""
    age = began - parent.key.start_ns
    if age < rules.branch_age_ns and heavy:
        age = min(h.key.start_ns for h in heavy) - parent.key.start_ns
        if age < _SLOWER * min(_before_its_first_copy(tree, h) for h in heavy):
            return ""
    return f"it lived {age / SECOND:.1f} s before that began" if age >= rules.branch_age_ns else ""


def _before_its_first_copy(tree: Tree, record: Record) -> int:
    births = [c.key.start_ns for c in tree.kids(record.key) if copied(c, record)]
    return max(0, min(births, default=0) - record.key.start_ns)


def _other_work(tree: Tree, parent: Record, heavy: list[Record], rules: Rules) -> str:
    """A bomb does nothing but copy itself; whoever starts programs, or has other children at work, is not one."""
    same = _same if _again_and_again(tree, parent) else copied
    if any(not same(h, parent) for h in heavy):
        return "it started another program"
    first = min((h.key.start_ns for h in heavy), default=0)
    known = {h.key for h in heavy}
    # A copy at the head of a heavy subtree may be a subshell that runs a build: that makes the parent a script as well.
    for child in tree.kids(parent.key):
        kids = tree.kids(child.key)
        if not same(child, parent) or any(not same(k, child) for k in kids):
            return "it has children that run other programs"
        if child.key in known or not child.alive:
            continue
        if child.forks >= len(kids) + _CAME_AND_WENT:
            return "it has a child whose own children come and go"
        if first - child.key.start_ns >= rules.witness_ns:
            return "it has a child that was there before that began"
    return ""


def _again_and_again(tree: Tree, parent: Record) -> bool:
    """Whether children of it start themselves again, and theirs in turn: not a script that starts a script."""
    return any(
        itself_again(child, parent) and any(itself_again(k, child) for k in tree.kids(child.key))
        for child in tree.kids(parent.key)
    )


def _like_its_children(tree: Tree, parent: Record, began: int) -> bool:
    """Whether a process is the first of its copies, however old: all it ever forked is itself, and that breeds."""
    kids = tree.kids(parent.key)
    if len(kids) < _LIKE_ITS_CHILDREN or parent.flags & _GUESSED or parent.forks > 2 * len(kids):
        return False
    broods = []
    for child in kids:
        own = tree.kids(child.key)
        if child.key.start_ns < began or not _same(child, parent) or not all(_same(k, child) for k in own):
            return False
        broods.append(len(own))
    breeding = len(broods) - broods.count(0)
    return breeding >= _LIKE_ITS_CHILDREN and _ALIKE * max(broods) >= len(kids)


def _same(record: Record, creator: Record) -> bool:
    return copied(record, creator) or itself_again(record, creator)


def weigher(
    scope: set[ProcessKey],
    protected: frozenset[ProcessKey],
    began: int,
    memory: Mapping[ProcessKey, int],
    *,
    dead_count: bool,
) -> Callable[[Record], int]:
    """The weight of one process: its slots and its memory, if it is in question at all and was born since the onset.

    Memory at most doubles what the slots weigh: one large program beside the bomb must not hide it.

    A dead ancestor holds no slot, but a chain of them (`dead_count`) is all there is to see of a fork-and-exit bomb.
    """

    def weight(record: Record) -> int:
        if record.key.start_ns < began or record.key not in scope or record.key in protected:
            return 0
        slots = max(0, record.slots)
        return (slots or int(dead_count)) + min(slots, memory.get(record.key, 0) // MEMORY_UNIT)

    return weight
