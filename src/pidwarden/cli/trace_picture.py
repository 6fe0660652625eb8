"""The picture of a chain of waiting: a line a link, indented, the system call first; then how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.diagnose.sleeps import TITLES, Cause, cause_of
from pidwarden.diagnose.words import count
from pidwarden.model import calls
from pidwarden.model.text import escape
from pidwarden.model.waiter import End
from pidwarden.trace import chain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pidwarden.model.waiter import Ref, Waiter
    from pidwarden.trace.chain import Cycle, Graph

_MOST_ENDS = 8
_MOST_LINKS = 4
_ALIKE = 2  # threads in the same wait that are shown before the rest is only counted
_NAMED = 8
# What to do where no command helps.
_ADVICE = {
    End.SLEEPS: "nothing: it wakes by itself",
    End.IDLE: "nothing is wrong with it: it goes on when somebody asks something of it",
    End.SIGNAL: "it goes on when it gets the signal it waits for (`pidwarden history {pid}` says who made it)",
    End.OUTSIDE: "look there",
    End.GONE: "look again",
    End.DEAD: "look again",
    End.UNTOLD: "look again; if it stays, `sudo pidwarden stuck pid:{pid}`",
}


def text(name: str) -> str:
    """A text with names in it as they were found, made harmless."""
    return escape(name.encode("utf-8", "surrogateescape"))


def cause(waiter: Waiter) -> str:
    """For what a thread waits in the kernel, in words, as far as the function says it."""
    if waiter.end is not End.UNINTERRUPTIBLE or not waiter.wchan:
        return ""
    found = cause_of((waiter.wchan,), changes=calls.changes(waiter.syscall))[0]
    return "" if found in (Cause.UNKNOWN, Cause.TRANSIENT) else f"; that is a wait for {TITLES[found]}"


def name(waiter: Waiter) -> str:
    """Its name, made harmless."""
    return escape(waiter.comm)


def lines(graph: Graph) -> list[str]:
    """The whole picture."""
    drawn = _Drawing(graph)
    found = [line for ref in graph.roots for line in drawn.tree(ref)]
    return [*found, *_ends(graph)]


class _Drawing:
    """Draws each waiter once; later it is only named."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._drawn: set[Ref] = set()

    def tree(self, root: Ref) -> Iterator[str]:
        """A line for each of those it leads to."""
        todo: list[tuple[Ref | str, int, tuple[Ref, ...]]] = [(root, 0, ())]
        while todo:
            ref, depth, above = todo.pop()
            indent = "  " * depth
            if isinstance(ref, str):
                yield indent + ref
                continue
            waiter = self._graph.waiters.get(ref)
            if waiter is None:
                yield f"{indent}{ref}: not looked at any more"
            elif ref in above:
                yield f"{indent}{_who(waiter)}: see above: here it comes full circle"
            elif ref in self._drawn:
                yield f"{indent}{_who(waiter)}: see above"
            else:
                self._drawn.add(ref)
                yield indent + _line(waiter)
                below = [(item, depth + 1, (*above, ref)) for item in self._below(waiter, (*above, ref))]
                todo += reversed(below)

    def _below(self, waiter: Waiter, above: tuple[Ref, ...]) -> list[Ref | str]:
        found: list[Ref | str] = []
        alike: dict[object, list[Ref]] = {}
        for edge in waiter.edges:
            if edge.weak and edge.to in above:
                continue  # it is said in words
            other = self._graph.waiters.get(edge.to)
            if waiter.threads > 1 and other:
                same = alike.setdefault((other.waits, other.edges, other.end, other.syscall, other.comm), [])
                same.append(edge.to)
                if len(same) > _ALIKE:
                    continue
            found.append(edge.to)
        found += [
            f"… and {count(len(refs) - _ALIKE, 'more thread')} in the same wait as {refs[0]}: {_some(refs[_ALIKE:])}"
            for refs in alike.values()
            if len(refs) > _ALIKE
        ]
        if waiter.more:
            found.append(f"… and {waiter.more} more")
        return found


def _some(refs: Sequence[Ref]) -> str:
    return ", ".join(map(str, refs[:_NAMED])) + (", …" if len(refs) > _NAMED else "")


def _who(waiter: Waiter) -> str:
    return f"{waiter.ref} {name(waiter)}" if waiter.comm else str(waiter.ref)


def _line(waiter: Waiter) -> str:
    parts = [_who(waiter), text(waiter.call), text(waiter.waits)]
    if waiter.threads == 1:
        shown = [str(e.to) + (f" ({text(e.how)})" if e.how else "") for e in waiter.edges if not e.weak]
        more = [f"{waiter.more} more"] if waiter.more else []
        parts.append(", ".join([*shown[:_NAMED], *more]))
    words = ": ".join(part for part in parts if part)
    if waiter.timed and waiter.end is not End.SLEEPS:
        words += " [for a limited time]"
    return words + (" [has run since]" if waiter.moved else "")


# -- how it ends -------------------------------------------------------------------------------------------------------


def _ends(graph: Graph) -> list[str]:
    circles = [_circle(graph, cycle) for cycle in chain.cycles(graph)]
    alike: dict[object, list[Waiter]] = {}
    for waiter in chain.ends(graph):
        alike.setdefault(
            (waiter.end, waiter.waits, waiter.do if waiter.end is End.HIDDEN else "", waiter.comm), []
        ).append(waiter)
    groups = sorted(alike.values(), key=lambda group: group[0].end in (End.IDLE, End.RUNS))  # what may be wrong first
    found = circles + [_end(group) for group in groups[:_MOST_ENDS]]
    if (left := len(groups) - _MOST_ENDS) > 0:
        found.append(f"… and {count(left, 'more end')}; `--json` has all")
    links = dict.fromkeys(text(w.do) for w in chain.walk(graph) if w.edges and w.do)
    found += [f"see also: {do}" for do in list(links)[:_MOST_LINKS]]
    if graph.cut:
        found.append("the end is not reached: there are more than can be looked at")
    return found


def _end(group: Sequence[Waiter]) -> str:
    first = group[0]
    who = _who(first) if len(group) == 1 else f"{_some([w.ref for w in group])} {name(first)}"
    words = text(first.waits) + cause(first)
    verb = f" {'is' if len(group) == 1 else 'are'} " if first.end in (End.STOPPED, End.FROZEN) else ": "
    do = text(first.do) or _ADVICE.get(first.end or End.UNTOLD, "").format(pid=first.ref.pid)
    return f"the end: {who}{verb}{words}" + (f". do: {do}" if do else "")


def _circle(graph: Graph, cycle: Cycle) -> str:
    waiters = [graph.waiters[ref] for ref in cycle.refs]
    if len(waiters) == 1:
        words = f"{_who(waiters[0])} waits for itself"
    else:
        names = [_who(w) for w in [*waiters[1:], waiters[0]]]
        words = f"{_who(waiters[0])} waits for {', that for '.join(names)}"
    if not cycle.deadlock:
        return f"a circle, no deadlock as others may let one of them go on: {words}"
    pids = sorted({w.ref.pid for w in waiters})
    which = f"kill {pids[0]}" if len(pids) == 1 else f"let one of them let go, or end it, as by kill {pids[-1]}"
    return f"the end: {'' if cycle.sure else 'most likely '}a deadlock: {words}; none can go on by itself. do: {which}"
