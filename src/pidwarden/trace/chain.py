"""Chains of waiting: from one who is asked about, over those he waits for, to their ends or to a cycle. Pure.

A waiter with several who could let it go on needs one of them, or every one (:class:`pidwarden.model.waiter.Waiter`).
So a cycle alone is no deadlock: it is one if nobody in it has another way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pidwarden.model.waiter import Ref, Waiter

MOST = 256  # waiters that are looked at for one picture
WIDTH = 8  # of those that one waits for, how many are followed
THREADS = 4  # times as many threads of a process


class Graph(NamedTuple):
    """All that were looked at, in the order in which they were reached. ``cut``: there would have been more."""

    roots: tuple[Ref, ...]
    waiters: Mapping[Ref, Waiter]
    cut: bool = False


class Cycle(NamedTuple):
    """Some that wait for each other, each for the next and the last for the first.

    ``deadlock``: none of them can go on, whatever others do. ``sure``: each link is what the kernel says, no guess.
    """

    refs: tuple[Ref, ...]
    deadlock: bool
    sure: bool


def build(roots: Sequence[Ref], look: Callable[[Ref], Waiter], most: int = MOST, width: int = WIDTH) -> Graph:
    """Looks at these, at those they wait for, and so on: at each once, at `most` in all, nearest first."""
    found: dict[Ref, Waiter] = {}
    todo = list(dict.fromkeys(roots))
    reached = set(todo)
    while todo and len(found) < most:
        ref = todo.pop(0)
        waiter = look(ref)
        room = width * THREADS if waiter.threads > 1 else width
        left = len(waiter.edges) - room
        if left > 0:
            waiter = waiter._replace(edges=waiter.edges[:room], more=waiter.more + left)
        found[ref] = waiter
        fresh = [e.to for e in waiter.edges if e.to not in reached]
        todo += dict.fromkeys(fresh)
        reached.update(fresh)
    return Graph(tuple(dict.fromkeys(roots)), found, bool(todo))


def walk(graph: Graph) -> Iterator[Waiter]:
    """Each waiter once, as a picture shows them: who is waited for follows who waits."""
    seen: set[Ref] = set()
    todo = list(reversed(graph.roots))
    while todo:
        ref = todo.pop()
        if ref in seen or ref not in graph.waiters:
            continue
        seen.add(ref)
        waiter = graph.waiters[ref]
        yield waiter
        todo += [edge.to for edge in reversed(waiter.edges)]


def ends(graph: Graph) -> list[Waiter]:
    """Those who wait for nobody that is known."""
    return [waiter for waiter in walk(graph) if not waiter.edges]


# -- cycles ------------------------------------------------------------------------------------------------------------


def cycles(graph: Graph) -> list[Cycle]:
    """One for each set of waiters that all wait for each other, as its shortest way round.

    Those held together only by guesses that nothing speaks for count when they are deadlocked, else not.
    """
    locked = deadlocked(graph)
    found = [_cycle(graph, group, locked, weak=False) for group in _groups(graph, weak=False)]
    named = {ref for cycle in found for ref in cycle.refs}
    others = [group for group in _groups(graph, weak=True) if group <= locked and not group & named]
    return found + [_cycle(graph, group, locked, weak=True) for group in others]


def deadlocked(graph: Graph) -> frozenset[Ref]:
    """Those that cannot go on, as all who could let them do so are deadlocked too."""
    free = {ref for ref, w in graph.waiters.items() if not w.edges or w.timed or (w.more and not w.every)}
    changed = True
    while changed:
        changed = False
        for ref, waiter in graph.waiters.items():
            if ref not in free:
                ways = [e.to in free or e.to not in graph.waiters for e in waiter.edges]
                if all(ways) if waiter.every else any(ways):
                    free.add(ref)
                    changed = True
    return frozenset(graph.waiters.keys() - free)


def _next(graph: Graph, ref: Ref, *, weak: bool) -> list[Ref]:
    return [e.to for e in graph.waiters[ref].edges if e.to in graph.waiters and (weak or not e.weak)]


def _groups(graph: Graph, *, weak: bool) -> list[set[Ref]]:
    """Strongly connected components with a cycle in them (Tarjan 1972, without recursion)."""
    number: dict[Ref, int] = {}
    low: dict[Ref, int] = {}
    stack: list[Ref] = []
    open_: set[Ref] = set()
    found: list[set[Ref]] = []
    for start in graph.waiters:
        if start in number:
            continue
        work = [(start, iter(_next(graph, start, weak=weak)))]
        number[start] = low[start] = len(number)
        stack.append(start)
        open_.add(start)
        while work:
            ref, ways = work[-1]
            for other in ways:
                if other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    open_.add(other)
                    work.append((other, iter(_next(graph, other, weak=weak))))
                    break
                if other in open_:
                    low[ref] = min(low[ref], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[ref])
                if low[ref] == number[ref]:
                    at = stack.index(ref)
                    group = set(stack[at:])
                    del stack[at:]
                    open_ -= group
                    if len(group) > 1 or ref in _next(graph, ref, weak=weak):
                        found.append(group)
    return found


def _cycle(graph: Graph, group: Collection[Ref], locked: Collection[Ref], *, weak: bool) -> Cycle:
    refs = _shortest(graph, group, weak=weak)
    around = [*refs[1:], refs[0]]
    links = [e for ref, to in zip(refs, around, strict=True) for e in graph.waiters[ref].edges if e.to == to]
    inside = {ref for ref in group if ref in locked}
    # A deadlock is sure if every way on that was looked at is.
    ways = [e for ref in inside for e in graph.waiters[ref].edges]
    dead = inside >= set(refs)
    whole = not dead or not any(graph.waiters[ref].partial for ref in inside)
    return Cycle(tuple(refs), dead, whole and all(e.sure and not e.weak for e in (ways if dead else links)))


def _shortest(graph: Graph, group: Collection[Ref], *, weak: bool) -> list[Ref]:
    """The shortest way round within a group, from whoever of it was reached first."""
    start = next(ref for ref in graph.waiters if ref in group)
    ways: list[list[Ref]] = [[start]]
    seen: set[Ref] = set()
    while ways:
        way = ways.pop(0)
        for other in _next(graph, way[-1], weak=weak):
            if other == start:
                return way
            if other in group and other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return [start]  # not reached: all of a group reach each other
