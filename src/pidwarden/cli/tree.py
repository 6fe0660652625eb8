"""`pidwarden tree [SELECTOR]`: families as trees of who created whom, with the dead in them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.cli import source
from pidwarden.errors import PidwardenError
from pidwarden.model import drawing, lineage
from pidwarden.model.record import ProcFlag
from pidwarden.model.selector import ASKABLE, SelectorKind, parse_selector
from pidwarden.model.view import GUESSED_LEGEND

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator, Sequence

    from pidwarden.model.record import Record
    from pidwarden.model.view import View

_WITHOUT = "the dead and who created whom: parents are those of this moment"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="?", metavar="SELECTOR",
        help="pid:N (it and all that descends from it), family:N, user:NAME, cgroup:PATH, container:ID or nspid:N "
        "(those and all that descends from them); without one: every family, the biggest first",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="also kernel threads, and families with nobody left alive")
    parser.add_argument("--full", action="store_true", help="a line for each process, also where many are alike")
    parser.add_argument("--ascii", action="store_true", help="draw without box characters")
    source.arguments(parser)


class Tree(NamedTuple):
    """Roots that are drawn below one heading, and the rows they are limited to, if they are."""

    heading: str
    roots: Sequence[int]
    inside: Collection[int] | None


def _chosen(view: View, text: str) -> Tree:
    """The tree of a selector.

    Raises PidwardenError: it names nobody.
    """
    if text.startswith("pid:"):
        pid, start = source.parse_pid(text)
        rows = view.had_pid(pid, start)
        root = source.newest((row, view.records[row].slots > 0, view.records[row].key.start_ns) for row in rows)
        if root is None:
            msg = f"{text}: no such process is known" + (
                "" if view.creators else "; the dead are known only to a guard"
            )
            raise PidwardenError(msg)
        return Tree("", [root], None)
    selector = parse_selector(text, ASKABLE)
    if selector.kind is SelectorKind.FAMILY:
        if not view.creators:
            msg = f"{text}: families are known only while a guard runs; type `sudo pidwarden guard`"
            raise PidwardenError(msg)
        rows = [row for row, r in enumerate(view.records) if r.family == int(selector.value)]
        if not rows:
            msg = f"family {selector.value} has no members (any more); `pidwarden tree` shows those that have"
            raise PidwardenError(msg)
        return _family(view, int(selector.value), rows)
    match = source.matcher(selector)
    found = {row for row, r in enumerate(view.records) if match(r.key.tgid if r.slots > 0 else 0, r.uid, r.family)}
    if not found:
        msg = f"{text}: nobody that is known"
        raise PidwardenError(msg)
    return Tree("", _tops(view, found), None)


def _tops(view: View, rows: Collection[int]) -> list[int]:
    """Those of `rows` that descend from no other of them."""
    covered = set(lineage.below(view.above, (kid for row in rows for kid in view.kids.get(row, ()))))
    return sorted(row for row in rows if row not in covered)


def _family(view: View, number: int, rows: Sequence[int]) -> Tree:
    inside = frozenset(rows)
    roots = [row for row in rows if view.above[row] not in inside]
    return Tree(_heading(view, number, [view.records[row] for row in rows], roots[0]), roots, inside)


def _heading(view: View, number: int, records: Sequence[Record], founder: int) -> str:
    present = [r for r in records if r.slots > 0]
    r, above = view.records[founder], view.above[founder]
    zombies, dead = sum(p.zombie for p in present), len(records) - len(present)
    words = [f"family {number}: {sum(p.slots for p in present)} slots, {len(present)} processes"]
    words += [f"{zombies} zombies"] * bool(zombies) + [f"{dead} dead"] * bool(dead)
    words.append(f"founded by {view.who(founder)} {view.clock.since(r.key.start_ns)} ago")
    words += [f"a child of {view.who(above)}"] * (above >= 0) + ["HELD"] * (number in view.held)
    return ", ".join(words)


def _every_family(view: View, *, everything: bool) -> tuple[list[Tree], int]:
    """All families, the biggest first, then who is in none; and how many were left out."""
    if not view.creators:
        return [Tree("", _all_tops(view, everything=everything), None)], 0
    families: dict[int, list[int]] = {}
    for row, r in enumerate(view.records):
        if everything or r.family or not r.flags & ProcFlag.KTHREAD:
            families.setdefault(r.family, []).append(row)
    slots = {number: sum(max(0, view.records[row].slots) for row in rows) for number, rows in families.items()}
    loners = families.pop(0, [])
    shown = [number for number in families if everything or slots[number]]
    shown.sort(key=lambda number: (-slots[number], number))
    trees = [_family(view, number, families[number]) for number in shown]
    if loners:
        inside = frozenset(loners)
        trees.append(Tree("in no family", [row for row in loners if view.above[row] not in inside], inside))
    return trees, len(families) - len(shown)


def _all_tops(view: View, *, everything: bool) -> list[int]:
    tops = [row for row, above in enumerate(view.above) if above < 0]
    return [row for row in tops if everything or not view.records[row].flags & ProcFlag.KTHREAD]


def _style(args: argparse.Namespace) -> drawing.Style:
    try:
        "".join(drawing.BOX).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return drawing.ASCII
    return drawing.ASCII if args.ascii else drawing.BOX


def _text(view: View, trees: Sequence[Tree], left_out: int, args: argparse.Namespace) -> Iterator[str]:
    style = _style(args)
    for at, tree in enumerate(trees):
        if at and tree.heading:
            yield ""
        if tree.heading:
            yield tree.heading
        for root in tree.roots:
            yield from drawing.draw(view, root, style, full=args.full, inside=tree.inside)
    if left_out:
        yield f"\n{left_out} families have nobody left alive; --all shows them"
    if any(view.guessed(view.records[row]) for row, _tree in _drawn(view, trees)):
        yield f"\n{GUESSED_LEGEND}"


def _drawn(view: View, trees: Sequence[Tree]) -> Iterator[tuple[int, int]]:
    """Every row of every tree, once a tree, creators first; with the number of the tree."""
    for number, tree in enumerate(trees):
        for row in lineage.below(view.above, tree.roots):
            if tree.inside is None or row in tree.inside:
                yield row, number


def run(args: argparse.Namespace) -> int:
    """Draws.

    Raises PidwardenError: the selector names nobody.
    """
    if args.selector and not args.selector.startswith("pid:"):
        parse_selector(args.selector, ASKABLE)  # what is malformed is said before anybody is asked
    elif args.selector:
        source.parse_pid(args.selector)
    taken, view = source.take_view(args, _WITHOUT)
    if args.selector:
        trees, left_out = [_chosen(view, args.selector)], 0
    else:
        trees, left_out = _every_family(view, everything=args.all)
    if args.json:
        import json  # noqa: PLC0415

        found = [view.object(row) | {"tree": number} for row, number in _drawn(view, trees)]
        sys.stdout.write(json.dumps({**taken.heading(), "count": len(found), "processes": found}) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _text(view, trees, left_out, args))
    return 0
