"""Where a process came from: one ancestor after the other, up to its founder and who made that one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.model import lineage
from pidwarden.model.moment import ending, span
from pidwarden.model.record import ProcFlag
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pidwarden.model.record import Record
    from pidwarden.model.view import View

_GUESS = " (guessed: found running when the guard started, this was its parent then)"
_SHOWN = 10  # ancestors at either end of a chain that is too long to be read


def ancestry(view: View, row: int) -> tuple[list[int], list[int]]:
    """The process and its ancestors up to the founder of its family and who made that one; and the rest above them.

    Without creators there are no families: the whole chain of parents, and no rest.
    """
    chain = lineage.chain(view.above, row)
    family = view.records[row].family
    if not view.creators:
        return chain, []
    for at, up in enumerate(chain):
        if view.records[up].family != family:
            return chain[: at + 1], chain[at + 1 :]
    return chain, []


def tell(view: View, row: int, *, full: bool = False) -> Iterator[str]:
    """The lines of one process's history."""
    chain, rest = ancestry(view, row)
    for at, up in enumerate(chain):
        if not full and len(chain) > 2 * _SHOWN + 1 and _SHOWN <= at < len(chain) - _SHOWN:
            if at == _SHOWN:
                yield from _left_out(view, chain[_SHOWN:-_SHOWN])
            continue
        yield _title(view, chain, at)
        yield from (f"    {line}" for line in _facts(view, up))
    if rest:
        yield "above it: " + ", ".join(view.who(up) for up in rest[:_SHOWN]) + (", …" if len(rest) > _SHOWN else "")


def _left_out(view: View, rows: Sequence[int]) -> Iterator[str]:
    dead = sum(view.records[row].slots <= 0 for row in rows)
    names = sorted({escape(view.records[row].comm) for row in rows})
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    yield f"… {len(rows)} more ancestors, {dead} of them dead: {shown}; --full shows each"


def _title(view: View, chain: Sequence[int], at: int) -> str:
    r = view.records[chain[at]]
    words = [f"{view.who(chain[at])}  user {view.user(r.uid)} ({r.uid}), {_state(view, r)}"]
    if view.creators and r.family:
        words.append(_role(view, chain[at]))
    if at and view.creators and r.family != view.records[chain[at - 1]].family:
        words.append("made the founder")
    return ", ".join(words)


def _role(view: View, row: int) -> str:
    r, above = view.records[row], view.above[row]
    if above >= 0 and view.records[above].family == r.family:
        return f"family {r.family}"
    # With its creator's record lost nobody can say whether that one was in the family.
    known = above >= 0 or not r.parent.tgid
    return f"founder of family {r.family}" if known else f"oldest known of family {r.family}"


def _state(view: View, r: Record) -> str:
    if r.slots <= 0:
        return f"DEAD ({ending(r.exit_code)})" if r.exit_ns else "DEAD (its end was not seen)"
    if r.zombie:
        return f"zombie ({ending(r.exit_code)}, not reaped)" if r.exit_ns else "zombie (not reaped)"
    return f"state {r.state or '?'}" + (", HELD" if view.is_held(r) else "")


def _facts(view: View, row: int) -> Iterator[str]:
    r, clock = view.records[row], view.clock
    yield f"started  {clock.wall(r.key.start_ns)} ({clock.since(r.key.start_ns)} ago)  {r.key}"
    if r.execs:
        yield f"exec     {clock.wall(r.exec_ns)} ({clock.since(r.exec_ns)} ago)" + (
            f", the last of {r.execs}" if r.execs > 1 else ""
        )
    if r.exit_ns:
        yield (
            f"ended    {clock.wall(r.exit_ns)} ({clock.since(r.exit_ns)} ago), "
            f"lived {span(r.exit_ns - r.key.start_ns)}, {ending(r.exit_code)}"
        )
    if r.forks or r.folded:
        folded = f", {r.folded} descendants folded into its counts" if r.folded else ""
        yield f"made     {r.forks} process{'es' * (r.forks != 1)}{folded}"
    if inside := view.inside(row):
        yield f"inside   {inside}"
    yield from _origin(view, row)


def _origin(view: View, row: int) -> Iterator[str]:
    """Who made it, who is its parent now, and how sure that is."""
    r, above = view.records[row], view.above[row]
    if not view.creators:
        yield "parent   " + (view.who(above) if above >= 0 else "none that can be seen")
        return
    if above >= 0 and r.skipped:
        yield f"creator  {r.skipped} ancestors left out here; the next one known is {view.who(above)}"
    elif above >= 0:
        yield f"creator  {view.who(above)}" + _GUESS * view.guessed(r)
    elif r.parent.tgid:
        yield f"creator  pid {r.parent.tgid}, of which nothing is known any more"
    elif r.flags & ProcFlag.GUESSED:
        yield "creator  unknown: found running when the guard started"
    else:
        yield "creator  unknown: none was recorded"
    if view.moved(r):
        yield f"parent   {view.who_has(r.ppid)} now"
