"""`pidwarden ps`: the process table, with families, subtrees and forks per second where a guard knows them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pidwarden.cli import source
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel import snapshot
from pidwarden.model import columns, lineage
from pidwarden.model.selector import ASKABLE, SelectorKind, parse_selector

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_WITHOUT = "families, creators, forks and the dead"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="?", metavar="SELECTOR",
        help="pid:N (it and all that descends from it), family:N, user:NAME, cgroup:PATH, container:ID or nspid:N",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--columns", action="append", metavar="A,B,…", help=f"columns (default: {','.join(columns.DEFAULT)})"
    )
    parser.add_argument("--list-columns", action="store_true", help="print all columns and what they mean")
    parser.add_argument("--sort", metavar="[-]COLUMN", help="sort by a column; --sort=-slots: the largest first")
    parser.add_argument("--zombies", action="store_true", help="only the dead that nobody has reaped")
    parser.add_argument("--state", metavar="LETTERS", help="only these states: D, or DR for both")
    parser.add_argument("--user", metavar="NAME", help="only this user's processes")
    parser.add_argument("--family", metavar="N", help="only members of this family")
    parser.add_argument("--all", action="store_true", help="also the dead that the history still knows")
    parser.add_argument("--dead", action="store_true", help="only those")
    parser.add_argument("--no-headings", action="store_true", help="leave the first line out")
    source.arguments(parser)


def column_names(given: Sequence[str] | None) -> list[str]:
    """The columns asked for.

    Raises UsageError: there is no such column.
    """
    if not given:
        return list(columns.DEFAULT)
    names = [part for text in given for part in text.replace(" ", ",").split(",") if part]
    return [_column(name) for name in names] or list(columns.DEFAULT)


def _column(name: str) -> str:
    found = columns.ALIASES.get(name.lower(), name.lower())
    if found not in columns.COLUMNS:
        msg = f"there is no column {name!r}; `pidwarden ps --list-columns` lists them all"
        raise UsageError(msg)
    return found


def _list_columns() -> str:
    lines = [f"{name:<10}  {column.heading:<8}  {column.about}" for name, column in columns.COLUMNS.items()]
    return "\n".join(lines) + "\n"


def _filters(args: argparse.Namespace) -> tuple[list[Callable[[columns.Rows], Sequence[Any]]], set[str]]:
    """One function for each condition that gives something true for each row to keep; and the fields they look at."""
    found: list[Callable[[columns.Rows], Sequence[Any]]] = []
    needed: set[str] = set()

    def add(test: Callable[[columns.Rows], Sequence[Any]], *fields: str) -> None:
        found.append(test)
        needed.update(fields)

    if args.dead:
        add(lambda r: [slots <= 0 for slots in r.fields["slots"]], "slots")
    elif not args.all and not args.zombies and not args.state:
        add(lambda r: [slots > 0 for slots in r.fields["slots"]] if "slots" in r.fields else [True] * r.size)
    if args.zombies:
        add(lambda r: [state == ord("Z") for state in r.fields["state"]], "state")
    if args.state:
        wanted = frozenset(map(ord, args.state))
        add(lambda r: [state in wanted for state in r.fields["state"]], "state")
    for selector in (f"user:{args.user}" if args.user else "", f"family:{args.family}" if args.family else ""):
        if selector:
            add(*_selected(selector))
    if args.selector:
        add(*_selected(args.selector))
    return found, needed


def _selected(text: str) -> tuple[Any, ...]:
    """The condition of a selector, and the fields it looks at."""
    if text.startswith("pid:"):
        pid, start = source.parse_pid(text)
        return (lambda r: _descends(r, pid, start, text)), "tgid", "slots", "start_ns", *columns.LINKS, "ppid"
    selector = parse_selector(text, ASKABLE)
    if selector.kind is SelectorKind.FAMILY:
        return (lambda r: _of_family(r, int(selector.value))), "family"
    match = source.matcher(selector)
    field = "uid" if selector.kind is SelectorKind.USER else "tgid"
    if field == "uid":
        return (lambda r: [match(0, uid, 0) for uid in r.fields["uid"]]), "uid"
    return (lambda r: [match(pid, 0, 0) for pid in r.fields["tgid"]]), "tgid"


def _of_family(rows: columns.Rows, number: int) -> Sequence[bool]:
    if "family" not in rows.fields:
        msg = f"family:{number}: families are known only while a guard runs; type `sudo pidwarden guard`"
        raise PidwardenError(msg)
    found = [family == number for family in rows.fields["family"]]
    if not any(found):
        msg = f"family {number} has no members (any more); `pidwarden tree` and `pidwarden status` show families"
        raise PidwardenError(msg)
    return found


def _descends(rows: columns.Rows, pid: int, start: int, text: str) -> Sequence[bool]:
    f = rows.fields
    everybody = zip(f["tgid"], f["slots"], f["start_ns"], strict=True)
    meant = [(row, s > 0, b) for row, (p, s, b) in enumerate(everybody) if p == pid and start in (0, b)]
    root = source.newest(meant)
    if root is None:
        msg = f"{text}: no such process is known; `pidwarden ps --all` lists all that are"
        raise PidwardenError(msg)
    inside = frozenset(lineage.below(rows.above(), [root]))
    return [row in inside for row in range(rows.size)]


def _order(values: Sequence[Any], rows: list[int], *, largest_first: bool) -> list[int]:
    """The rows by a column's values; what is not known comes last either way."""
    known = [row for row in rows if values[row] is not None]
    known.sort(key=values.__getitem__, reverse=largest_first)
    return known + [row for row in rows if values[row] is None]


def run(args: argparse.Namespace) -> int:
    """Prints the table.

    Raises PidwardenError: the selector names nobody.
    """
    if args.list_columns:
        sys.stdout.write(_list_columns())
        return 0
    names = column_names(args.columns)
    sort = _column(args.sort.lstrip("-")) if args.sort else "pid"
    filters, needed = _filters(args)
    taken = source.take(args, _WITHOUT, as_asked="")
    needed |= columns.fields_of({*names, sort})
    if args.dead and taken.answer is None:
        msg = "--dead: the dead are known only while a guard runs; type `sudo pidwarden guard`"
        raise PidwardenError(msg)
    if taken.answer is None:
        frame = source.past_the_stuck(args, lambda without: snapshot.from_proc(needed | {"tgid"}, without=without))
    else:
        frame = snapshot.from_guard(taken.data, needed | {"tgid", "slots"})
    if places := needed & columns.PLACES:
        from pidwarden.kernel import place  # noqa: PLC0415

        slots = frame.fields.get("slots", [1] * frame.size)
        alive = [pid if own > 0 else 0 for pid, own in zip(frame["tgid"], slots, strict=True)]
        frame.fields.update(place.columns(alive, places))
    rows = columns.Rows(frame.fields, frame.size, taken.now_ns, taken.clock, source.user_name)
    keep = [test(rows) for test in filters]
    picked = [row for row in range(rows.size) if all(k[row] for k in keep)] if keep else list(range(rows.size))
    worked_out = {name: columns.values_of(name, rows) for name in {*names, sort}}
    picked = _order(worked_out[sort], picked, largest_first=bool(args.sort) and args.sort.startswith("-"))
    shown = [list(map(worked_out[name].__getitem__, picked)) for name in names]
    if args.json:
        import json  # noqa: PLC0415

        table = [dict(zip(names, row, strict=True)) for row in zip(*shown, strict=True)]
        sys.stdout.write(json.dumps({**taken.heading(), "count": len(table), "processes": table}) + "\n")
    else:
        sys.stdout.write(columns.lines(names, rows, shown, headings=not args.no_headings))
    return 0
