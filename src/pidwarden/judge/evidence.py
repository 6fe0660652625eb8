"""What a suspect's subtree looks like, in numbers, and the same in words. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from typing import NamedTuple

from pidwarden.judge.case import SECOND
from pidwarden.judge.kin import AGAIN, ALL_MARKS, BREEDS_COPIES, BREEDS_KIN, COPY, CYCLE, PROLIFIC, Kin

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
    everybody = kin.tree.below(root)
    members = [i for i in everybody if not kin.spared[i]]
    members.sort()  # by birth
    below = [i for i in members if i != root]
    all_records, held = kin.tree.records, kin.slots
    records = [all_records[i] for i in members]
    others = [all_records[i] for i in below]
    kinds, breeds = bytes([kin.kin[i] for i in below]), bytes([kin.breeds[i] for i in below])
    lives = [r.live for r in records]
    living = [i for i in below if kin.kin[i] and all_records[i].live > 0]
    dead = [i for i, live in zip(members, lives, strict=True) if live <= 0]
    crowded = [r for r, live in zip(records, lives, strict=True) if live > 1]
    threads = [max(0, r.live - 1 - r.folded) for r in crowded]
    prolific = [i for i in members if kin.breeds[i] & PROLIFIC]
    folded = sum([r.folded for r in records])
    slots = sum([held[i] for i in members])
    tenth, half, last = _moments(kin, members, (0.1, 0.5, 1.0))
    return Evidence(
        slots=slots,
        processes=len(members) - len(dead) + sum([min(r.folded, r.live - 1) for r in crowded]),
        zombies=sum([held[i] for i in dead]),
        threads=sum(threads),
        crowd=max(threads, default=0),
        made_by_threads=sum([r.thread_forks for r in crowded]),
        thread_depth=max([r.thread_depth for r in crowded], default=0),
        known=len(below) + folded,
        copies=kinds.count(COPY) + folded,
        again=kinds.count(AGAIN),
        cycles=kinds.count(CYCLE),
        execs=len([r for r in others if r.execs]),
        one_program=max(Counter([r.exe for r in others]).values(), default=0),
        breeders=_with(breeds, BREEDS_COPIES),
        starters=_with(breeds, BREEDS_KIN),
        prolific=len(prolific),
        prolific_programs=len({all_records[i].exe for i in prolific}),
        prolific_levels=len({kin.level[i] for i in prolific}),
        eager=len([i for i in living if all_records[i].stops]),
        living=len(living),
        brood=max([len(kin.tree.children(i)) for i in members if kin.breeds[i]], default=0),
        idle=sum([held[c] for c in kin.tree.children(root) if not kin.breeds[c] & BREEDS_KIN and not kin.spared[c]]),
        depth=_deepest(kin, root, everybody, kin.depth, BREEDS_COPIES),
        repeats=_deepest(kin, root, everybody, kin.repeats, BREEDS_KIN),
        rounds=_deepest(kin, root, everybody, kin.rounds, BREEDS_KIN),
        asleep=len([r for r in records if r.state == "S"]),
        started=sum([r.forks for r in records]),
        since_ns=max(0, now_ns - tenth),
        doubling=len(below) >= _FEWEST and last - half < _DOUBLING * (last - tenth),
        memory=sum([kin.memory[i] for i in members]),
    )


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


def _moments(kin: Kin, members: list[int], shares: tuple[float, ...]) -> list[int]:
    """The births by which these shares of the slots were there."""
    records = kin.tree.records
    births = [records[i][0][1] for i in members]
    held = [kin.slots[i] for i in members]
    # Threads are not older than the program they run in: `sleep 60; exec bomb`.
    if later := [(at, records[i].exec_ns) for at, i in enumerate(members) if held[at] > 1]:
        for at, moment in later:
            births[at] = max(births[at], moment)
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
