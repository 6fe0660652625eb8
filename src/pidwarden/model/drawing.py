"""The family tree as lines of text, the dead among the living. Pure; no recursion, as a tree may be a long chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.moment import span
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pidwarden.model.record import Record
    from pidwarden.model.view import View

_ALIKE = 3  # so many leaves that differ only in pid and age are one line
_RUN = 4  # so many dead one below the other, with nobody else beside them, are one line
_DEEPEST = 40  # levels that are indented; below, the depth stands as a number: lines must not grow without end
_NAMED = 3


class Style(NamedTuple):
    """What lines are made of."""

    tee: str
    last: str
    bar: str
    space: str
    times: str
    to: str
    down: str


BOX = Style("├─ ", "└─ ", "│  ", "   ", "×", "…", "⋮")  # noqa: RUF001  (a multiplication sign is meant)
ASCII = Style("|- ", "`- ", "|  ", "   ", "x", "..", ":")


class _Node(NamedTuple):
    """Something to draw: one row, or several alike; or several dead in a row, each made by the one before."""

    rows: Sequence[int]
    prefix: str
    last: bool | None  # None: a root
    depth: int


def draw(
    view: View, root: int, style: Style, *, full: bool = False, inside: Collection[int] | None = None
) -> Iterator[str]:
    """The lines of one tree. `inside` limits it to some rows; `full` shows each process on a line of its own."""
    todo = [_Node((root,), "", None, 0)]
    while todo:
        node = todo.pop()
        row = node.rows[0]
        alike = len(node.rows) > 1
        run = [] if full or alike else _run_of_dead(view, row, inside)
        if run:
            text, below = _run_text(view, run, style), run[-1]
        else:
            text, below = (
                _alike_text(view, node.rows, style) if alike else describe(view, row, headed=inside is not None),
                row,
            )
        yield node.prefix + _joint(node, style) + text
        if alike:
            continue
        prefix = node.prefix
        if node.last is not None and node.depth <= _DEEPEST:
            prefix += style.space if node.last else style.bar
        groups = _groups(view, _kids(view, below, inside), inside, full=full)
        for at, group in reversed(list(enumerate(groups))):
            todo.append(_Node(group, prefix, at == len(groups) - 1, node.depth + 1))


def _joint(node: _Node, style: Style) -> str:
    if node.last is None:
        return ""
    joint = style.last if node.last else style.tee
    return joint if node.depth <= _DEEPEST else f"{joint}[{node.depth}] "


def _kids(view: View, row: int, inside: Collection[int] | None) -> list[int]:
    kids = view.kids.get(row, [])
    return kids if inside is None else [kid for kid in kids if kid in inside]


def _run_of_dead(view: View, row: int, inside: Collection[int] | None) -> list[int]:
    """From `row` down, the dead with exactly one child each; empty if there are too few to be worth it."""
    run: list[int] = []
    while view.records[row].slots <= 0 and len(kids := _kids(view, row, inside)) == 1:
        run.append(row)
        row = kids[0]
    return run if len(run) >= _RUN else []


def _run_text(view: View, run: Sequence[int], style: Style) -> str:
    names: dict[str, int] = {}
    for row in run:
        name = escape(view.records[row].comm)
        names[name] = names.get(name, 0) + 1
    most = sorted(names.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {style.times}{count}" for name, count in most[:_NAMED])
    more = f" and {len(most) - _NAMED} other names" if len(most) > _NAMED else ""
    first, last = (view.records[row].key.tgid for row in (run[0], run[-1]))
    left_out = sum(view.records[row].skipped for row in run)
    gap = f", {left_out} more of them left out" if left_out else ""
    return f"{style.down} {len(run)} dead, each made by the one before: {shown}{more} ({first} {style.to} {last}){gap}"


def _groups(
    view: View, kids: Sequence[int], inside: Collection[int] | None, *, full: bool
) -> list[tuple[int, ...]]:  # fmt: skip
    """Children to draw: leaves that are alike together, at the place of the first of them; anybody else alone."""
    if full:
        return [(kid,) for kid in kids]
    alike: dict[object, list[int]] = {}
    for kid in kids:
        record = view.records[kid]
        leaf = not record.folded and not record.skipped and not _kids(view, kid, inside)
        alike.setdefault(_likeness(view, record) if leaf else kid, []).append(kid)
    found: list[tuple[int, ...]] = []
    for group in alike.values():
        found += [tuple(group)] if len(group) >= _ALIKE else [(kid,) for kid in group]
    found.sort(key=lambda group: group[0])  # rows are in the order of birth
    return found


def _likeness(view: View, r: Record) -> tuple[object, ...]:
    end = r.exit_code if r.exit_ns else -1
    return r.comm, r.uid, r.state, r.slots, end, r.family, view.moved(r) and r.ppid, view.guessed(r), view.is_held(r)


def describe(view: View, row: int, *, headed: bool = False) -> str:
    """One process in one line: ``name pid user age state`` and whatever is unusual about it.

    `headed` says that the number of its family stands above.
    """
    r = view.records[row]
    return f"{escape(r.comm) or '?'} {r.key.tgid}{_tail(view, row, span(_lived(view, r)), headed=headed)}"


def _alike_text(view: View, rows: Sequence[int], style: Style) -> str:
    first, last = view.records[rows[0]], view.records[rows[-1]]
    ages = [_lived(view, view.records[row]) for row in rows]
    youngest, oldest = span(min(ages)), span(max(ages))
    age = youngest if youngest == oldest else f"{youngest} {style.to} {oldest}"
    pids = f"({first.key.tgid} {style.to} {last.key.tgid})"
    return f"{escape(first.comm) or '?'} {style.times}{len(rows)} {pids}{_tail(view, rows[0], age, headed=True)}"


def _lived(view: View, r: Record) -> int:
    return (r.exit_ns or view.clock.boot_ns) - r.key.start_ns


def _tail(view: View, row: int, age: str, *, headed: bool) -> str:
    """All after the name and the pid."""
    r, above = view.records[row], view.above[row]
    dead = r.slots <= 0
    words = [view.user(r.uid), f"lived {age}" if dead and r.exit_ns else age]
    if dead:
        words.append(f"DEAD ({view.ended(r)})")
    elif r.zombie:
        end = view.ended(r)
        words.append(f"{r.state or 'Z'} ({end}, not reaped)" if end else f"{r.state or 'Z'} (not reaped)")
    else:
        words.append(r.state or "?")
    if r.live > 1:
        words.append(f"{r.live} threads")
    if view.is_held(r):
        words.append("HELD")
    if above < 0 or view.inside(above) != view.inside(row):
        words += [f"[{inside}]" for inside in [view.inside(row)] if inside]
    if view.moved(r):
        words.append(f"now child of {view.who_has(r.ppid)}")
    if not headed and above >= 0 and r.family and r.family != view.records[above].family:
        words.append(f"founded family {r.family}")
    if r.skipped:
        words.append(f"{r.skipped} ancestors left out above it")
    if r.folded:
        words.append(f"+{r.folded} folded")
    return ("?" if view.guessed(r) else "") + " " + "  ".join(words)
