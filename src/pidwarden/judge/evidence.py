"""What a suspect's subtree looks like, in numbers, and the same in words. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.judge.case import SECOND
from pidwarden.judge.kin import AGAIN, ALL_MARKS, BREEDS_COPIES, BREEDS_KIN, COPY, CYCLE, PROLIFIC, STRANGER, Kin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DOUBLING = 0.3  # of the time that the growth took: the younger half came in less of it
_FEWEST = 20  # births of which a rate says something


class Evidence(NamedTuple):
    """What a suspect's subtree looks like, in numbers."""

    slots: int
    processes: int
    zombies: int
    threads: int  # beyond the first of each process
    crowd: int  # the most of them in one process
    made_by_threads: int  # threads made by others than the first of their process …
    thread_depth: int  # … and how long a chain of them there is
    known: int  # processes below the root, dead ancestors included
    hidden: int  # of those: without a record, so that of what they did nothing is known
    copies: int  # of those: plain copies of their creator
    again: int  # of those: called exec, but run their creator's program again
    cycles: int  # of those: the same, but through another program, a shell mostly
    execs: int  # of those: ever called exec
    one_program: int  # of those: run the commonest program
    breeders: int  # of those: forked copies in their turn, or tried to and were stopped
    starters: int  # the same, starting the program again included
    prolific: int  # processes that have several children …
    prolific_programs: int  # … how many programs those are …
    prolific_levels: int  # … and on how many levels of the tree they are
    eager: int  # living copies that were stopped when they wanted to fork …
    living: int  # … of so many
    brood: int  # the most children that one process has
    idle: int  # slots of the root's own children that did not
    depth: int  # the most plain forks in a row
    generation: int  # the same as the kernel side counts it, those included that have no record any more
    repeats: int  # the same, exec of the same program included
    rounds: int  # the same, exec of the same program through a shell included
    asleep: int  # processes that wait for something, as far as that is known
    started: int  # processes that its members ever created
    since_ns: int  # how long ago the growth began: nine tenths of the slots are younger
    doubling: bool  # the younger half of the slots came in far less time than the older half
    memory: int  # bytes

    @property
    def strangers(self) -> int:
        """Those that are nobody's copy and do not start themselves again."""
        return self.known - self.copies - self.again - self.cycles

    @property
    def ended(self) -> float:
        """The share that has ended of all processes that its members ever created."""
        return max(0.0, 1 - self.processes / self.started) if self.started else 0.0

    @property
    def rate(self) -> float:
        """Births a second since the growth began; 0 if they are too few to say."""
        return self.known / (self.since_ns / SECOND) if self.known >= _FEWEST and self.since_ns else 0.0


def examine(kin: Kin, root: int, now_ns: int) -> Evidence:
    """Counts over the subtree of `root`, without the protected.

    There may be 50,000 of them: each line is one pass over a list, which Python does faster than one loop with it all.
    """
    tree = kin.tree
    everybody = tree.below(root)
    members = sorted([i for i in everybody if not kin.spared[i]])  # by birth
    pick = _picker(members)
    live, held, forks = pick(tree.column("live")), pick(kin.slots), pick(tree.column("forks"))
    dead = live.count(0) + len([n for n in live if n < 0])
    crowded = [tree.records[i] for i, n in zip(members, live, strict=True) if n > 1]
    threads = [max(0, r.live - 1 - r.hidden) for r in crowded]
    hidden = sum([r.hidden for r in crowded])
    prolific = [i for i in members if kin.breeds[i] & PROLIFIC]
    tenth, half, last = _moments(pick(tree.births), pick(tree.column("exec_ns")), held, (0.1, 0.5, 1.0))

    below = [i for i in members if i != root]
    pick = _picker(below)
    kinds, breeds, programs = bytes(pick(kin.kin)), bytes(pick(kin.breeds)), Counter(pick(tree.column("exe")))
    execs = pick(tree.column("execs"))
    copies_at_work = [
        stops
        for kind, n, stops in zip(kinds, pick(tree.column("live")), pick(tree.column("stops")), strict=True)
        if kind and n > 0
    ]
    depth = _deepest(kin, root, everybody, kin.depth, BREEDS_COPIES)
    only_copies = len(below) == kinds.count(COPY) + kinds.count(STRANGER)  # then all three rows are the same
    return Evidence(
        slots=sum(held),
        processes=len(members) - dead + sum([min(r.hidden, r.live - 1) for r in crowded]),
        zombies=sum([h for h, n in zip(held, live, strict=True) if n <= 0]) if dead else 0,
        threads=sum(threads),
        crowd=max(threads, default=0),
        made_by_threads=sum([r.thread_forks for r in crowded]),
        thread_depth=max([r.thread_depth for r in crowded], default=0),
        known=len(below) + hidden,
        hidden=hidden,
        copies=kinds.count(COPY) + hidden,
        again=kinds.count(AGAIN),
        cycles=kinds.count(CYCLE),
        execs=len(below) - execs.count(0),
        one_program=max(programs.values(), default=0),
        breeders=_with(breeds, BREEDS_COPIES),
        starters=_with(breeds, BREEDS_KIN),
        prolific=len(prolific),
        prolific_programs=len({tree.records[i].exe for i in prolific}),
        prolific_levels=len({kin.level[i] for i in prolific}),
        eager=len(copies_at_work) - copies_at_work.count(0),
        living=len(copies_at_work),
        brood=max([tree.broods[i] for i in members if kin.breeds[i]], default=0),
        idle=sum([_idle(kin, c) for c in tree.children(root)]),
        depth=depth,
        generation=max(pick(tree.column("generation")), default=0),
        repeats=depth if only_copies else _deepest(kin, root, everybody, kin.repeats, BREEDS_KIN),
        rounds=depth if only_copies else _deepest(kin, root, everybody, kin.rounds, BREEDS_KIN),
        asleep=pick(tree.column("state")).count("S") + (tree.records[root].state == "S" and not kin.spared[root]),
        started=sum(forks),
        since_ns=max(0, now_ns - tenth),
        doubling=len(below) >= _FEWEST and last - half < _DOUBLING * (last - tenth),
        memory=sum(pick(kin.memory)) + (0 if kin.spared[root] else kin.memory[root]),
    )


def _picker(numbers: list[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Takes the entries of these numbers out of a list, without a loop of ours."""
    if len(numbers) > 1:
        return itemgetter(*numbers)
    return lambda column: tuple(column[i] for i in numbers)


def _idle(kin: Kin, child: int) -> int:
    """The slots of a child of the suspect that has no children of its kind."""
    return 0 if kin.breeds[child] & BREEDS_KIN or kin.spared[child] else kin.slots[child]


def _with(marks: bytes, mark: int) -> int:
    return sum(marks.count(value) for value in range(ALL_MARKS + 1) if value & mark)


def _deepest(kin: Kin, root: int, members: list[int], rows: list[int], mark: int) -> int:
    """The longest row that ends in one of `members`, without what of it is above `root`.

    One that was stopped at the gate would have a copy by now, one deeper than itself: it has the mark.
    """
    breeds, row_of_root = kin.breeds, rows[root]
    if row_of_root:
        level, top = kin.level, kin.level[root]
        return max([min(rows[i], level[i] - top) + (breeds[i] & mark > 0) for i in members])
    return max([rows[i] + 1 if breeds[i] & mark else rows[i] for i in members])


def _moments(births: Sequence[int], execs: Sequence[int], held: Sequence[int], shares: tuple[float, ...]) -> list[int]:
    """The moments by which these shares of the slots were there."""
    if max(held, default=0) > 1:
        # Threads are not older than the program they run in: `sleep 60; exec bomb`.
        births = [max(b, e) if h > 1 else b for b, e, h in zip(births, execs, held, strict=True)]
    order = sorted(range(len(births)), key=births.__getitem__)
    births, held = [births[i] for i in order], [held[i] for i in order]
    before = list(accumulate(held))
    total = before[-1] if before else 0
    return [births[min(bisect_right(before, share * total), len(births) - 1)] if births else 0 for share in shares]


def describe(seen: Evidence) -> str:
    """The numbers, in words."""
    memory = f", {seen.memory >> 20} MiB" if seen.memory else ""
    text = (
        f"{seen.slots} slots in {seen.since_ns / SECOND:.2f} s, {seen.processes} processes, {seen.threads} more "
        f"threads, {seen.zombies} zombies{memory}"
    )
    if seen.known:
        text += (
            f"; {seen.copies} of {seen.known} are plain copies, {seen.breeders} of {seen.known} copied themselves "
            f"again, {seen.depth} deep; {seen.execs} called exec, {seen.one_program} run one program"
        )
    if seen.rate:
        text += f"; {seen.rate:,.0f} births a second, {'doubling' if seen.doubling else 'at a steady rate'}"
    if seen.started:
        text += f", {100 * seen.ended:.0f} % of {seen.started} have ended"
    return text
