"""The columns of the process table: which fields each needs, its value for a row, and how that is shown. Pure.

A column is worked out for all rows at once: twenty thousand rows are shown while somebody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.model.container import short_name
from pidwarden.model.lineage import links, sums
from pidwarden.model.record import ProcFlag
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from pidwarden.model.moment import Clock

SECOND_NS = 1_000_000_000
UNKNOWN = "-"
_LETTERS = ["-", *map(chr, range(1, 128))]
_HELD_LETTERS = [f"{letter}h" for letter in _LETTERS]


class Rows:
    """What columns are worked out from. ``fields`` are those of the kernel side's records; the unknown is missing."""

    def __init__(
        self,
        fields: dict[str, Sequence[Any]],
        size: int,
        now_ns: int,
        clock: Callable[[], Clock],
        user: Callable[[int], str],
    ) -> None:
        self.fields, self.size, self.now_ns = fields, size, now_ns
        self.clock, self.user = clock, user
        self._above: list[int] | None = None

    def above(self) -> list[int]:
        """For each row that of its creator; of its parent where creators are not known."""
        if self._above is None:
            f = self.fields
            if "parent_tgid" in f:
                keys: Sequence[Any] = list(zip(f["tgid"], f["start_ns"], strict=True))
                self._above = links(keys, list(zip(f["parent_tgid"], f["parent_start_ns"], strict=True)))
            else:
                self._above = links(f["tgid"], f["ppid"])
        return self._above


Values = Sequence[Any]


class Column(NamedTuple):
    """One column. ``values`` gives one for each row, None for what is not known of it; ``show`` makes it text."""

    heading: str
    about: str
    fields: tuple[str, ...]  # without any of these it is unknown
    values: Callable[[Rows], Values]
    show: Callable[[Rows, Values], Sequence[Any]] | None = None  # None: numbers, and text that is harmless
    right: bool = True


LINKS = ("tgid", "start_ns", "parent_tgid", "parent_start_ns")  # with a guard; without one: tgid and ppid


def _plain(field: str) -> Callable[[Rows], Values]:
    return lambda rows: rows.fields[field]


def _stat(rows: Rows) -> Values:
    states = rows.fields["state"]
    if "held_ns" not in rows.fields:
        return [_LETTERS[s] for s in states]
    held = zip(states, rows.fields["held_ns"], strict=True)
    return [(_HELD_LETTERS if ns else _LETTERS)[s] for s, ns in held]


def _names(rows: Rows) -> Values:
    known: dict[bytes, str] = {}
    for name in set(rows.fields["comm"]):
        known[name] = escape(name.partition(b"\0")[0])
    return [known[name] for name in rows.fields["comm"]]


def _users(rows: Rows) -> Values:
    known = {uid: rows.user(uid) for uid in set(rows.fields["uid"])}
    return [known[uid] for uid in rows.fields["uid"]]


def _subtree(rows: Rows) -> Values:
    return sums(rows.above(), rows.fields["slots"])


def forks_per_second(now_ns: int, tick_ns: int, tick_forks: int, last_forks: int) -> float:
    """From what was counted since `tick_ns`, and in the second before that.

    While the interval is young the one before it says more, unless this one has more already.
    """
    age = now_ns - tick_ns
    if not tick_ns:
        return 0.0
    if age < SECOND_NS:
        return float(max(last_forks, tick_forks))
    return round(tick_forks * SECOND_NS / age, 1)


def _rate(rows: Rows) -> Values:
    now, f = rows.now_ns, rows.fields
    ticks = zip(f["tick_ns"], f["tick_forks"], f["last_forks"], strict=True)
    return [forks_per_second(now, *tick) if tick[0] else 0.0 for tick in ticks]


def _one_decimal(_rows: Rows, values: Values) -> Values:
    return ["0" if not v else f"{v:.1f}" if v < 10 else f"{v:.0f}" for v in values]  # noqa: PLR2004


def _age(rows: Rows) -> Values:
    now, ends = rows.now_ns, rows.fields.get("exit_ns")
    starts = rows.fields["start_ns"]
    if ends is None:
        return [max(0, now - start) for start in starts]
    return [max(0, (end or now) - start) for start, end in zip(starts, ends, strict=True)]


def _spans(_rows: Rows, values: Values) -> Values:
    from pidwarden.model.moment import span  # noqa: PLC0415  (only where times are asked for)

    return list(map(span, values))


def _when(field: str) -> Callable[[Rows], Values]:
    return lambda rows: [ns or None for ns in rows.fields[field]]


def _wall(rows: Rows, values: Values) -> Values:
    clock = rows.clock()
    return [UNKNOWN if ns is None else clock.wall(ns) for ns in values]


def _exit(rows: Rows) -> Values:
    f = rows.fields
    return [code if end else None for code, end in zip(f["exit_code"], f["exit_ns"], strict=True)]


def _endings(_rows: Rows, values: Values) -> Values:
    from pidwarden.model.moment import ending  # noqa: PLC0415

    return [UNKNOWN if code is None else ending(code) for code in values]


def _held(rows: Rows) -> Values:
    now = rows.now_ns
    return [max(0, now - ns) if ns else None for ns in rows.fields["held_ns"]]


def _held_for(_rows: Rows, values: Values) -> Values:
    from pidwarden.model.moment import span  # noqa: PLC0415

    return [UNKNOWN if ns is None else span(ns) for ns in values]


def marks(flags: int) -> str:
    """The names of a process's marks, with commas between them; empty if it has none."""
    return ",".join(flag.name.lower() for flag in ProcFlag if flags & flag and flag.name)


def _marks(rows: Rows) -> Values:
    known = {flags: marks(flags) or UNKNOWN for flags in set(rows.fields["flags"])}
    return [known[flags] for flags in rows.fields["flags"]]


def _dashes(_rows: Rows, values: Values) -> Values:
    return [UNKNOWN if v is None else str(v) for v in values]


def _harmless(_rows: Rows, values: Values) -> Values:
    return [UNKNOWN if v is None else escape(v.encode("utf-8", "surrogateescape")) for v in values]


def _short_ids(_rows: Rows, values: Values) -> Values:
    return [UNKNOWN if v is None else short_name(v) for v in values]


def _number(heading: str, about: str, field: str) -> Column:
    return Column(heading, about, (field,), _plain(field))


_TICKS = ("tick_ns", "tick_forks", "last_forks")
COLUMNS = {
    "stat": Column("STAT", "state as ps shows it; h: stopped by the guard", ("state",), _stat, right=False),
    "state": Column("S", "the state's letter alone", ("state",), lambda r: [_LETTERS[s] for s in r.fields["state"]],
                    right=False),
    "pid": _number("PID", "process id", "tgid"),
    "ppid": _number("PPID", "process id of the parent it has now", "ppid"),
    "creator": _number("CREATOR", "process id of its birth parent, who called fork", "parent_tgid"),
    "comm": Column("COMM", "its name; its owner chose it", ("comm",), _names, right=False),
    "user": Column("USER", "user", ("uid",), _users, right=False),
    "uid": _number("UID", "user id", "uid"),
    "family": _number("FAMILY", "number of its family", "family"),
    "branch": _number("BRANCH", "number of its branch", "branch"),
    "slots": Column("SLOTS", "slots of the process table held by it and its descendants", ("slots",), _subtree),
    "own": _number("OWN", "slots that it holds itself: threads, or one as a zombie", "slots"),
    "threads": _number("THREADS", "threads that have not exited", "live"),
    "rate": Column("FORKS/S", "tasks it makes a second", _TICKS, _rate, _one_decimal),
    "forks": _number("FORKS", "processes it has created", "forks"),
    "execs": _number("EXECS", "times it has called exec", "execs"),
    "generation": _number("GEN", "forks between it and the root of its branch", "generation"),
    "age": Column("AGE", "how long it has lived, or did live", ("start_ns",), _age, _spans),
    "start": Column("STARTED", "when it was forked", ("start_ns",), _when("start_ns"), _wall, right=False),
    "exec": Column("EXEC", "when it last called exec", ("exec_ns",), _when("exec_ns"), _wall, right=False),
    "end": Column("ENDED", "when its last thread exited", ("exit_ns",), _when("exit_ns"), _wall, right=False),
    "exit": Column("EXIT", "how it ended", ("exit_code", "exit_ns"), _exit, _endings, right=False),
    "held": Column("HELD", "for how long a gate has stopped it", ("held_ns",), _held, _held_for),
    "marks": Column("MARKS", "what the guard knows of it: spawner, shell, guessed …", ("flags",), _marks, right=False),
    "folded": _number("FOLDED", "descendants without a record, counted here", "folded"),
    "nspid": Column("NSPID", "its pid in its own pid namespace", ("nspid",), _plain("nspid"), _dashes),
    "pidns": Column("PIDNS", "number of its pid namespace", ("pidns",), _plain("pidns"), _dashes),
    "cgroup": Column("CGROUP", "its cgroup: v2's, or the longest path of v1's", ("cgroup",), _plain("cgroup"),
                     _harmless, right=False),
    "container": Column("CONTAINER", "its container, by the names of cgroups: engine and id", ("container",),
                        _plain("container"), _short_ids, right=False),
    "skipped": _number("SKIPPED", "dead ancestors left out above it", "skipped"),
}  # fmt: skip
ALIASES = {"forks/s": "rate", "gen": "generation", "ucmd": "comm", "s": "state", "tgid": "pid", "euser": "user",
           "euid": "uid", "nlwp": "threads", "started": "start", "etime": "age"}  # fmt: skip
PLACES = frozenset({"nspid", "pidns", "cgroup", "container"})  # what is read from /proc, guard or not
DEFAULT = ("stat", "ppid", "pid", "family", "slots", "rate", "user", "comm")
_TIMED = {"age": ("exit_ns",), "stat": ("held_ns",), "slots": (*LINKS, "ppid")}


def fields_of(names: Iterable[str]) -> set[str]:
    """The fields that those columns need, or can use."""
    found: set[str] = set()
    for name in names:
        found.update(COLUMNS[name].fields, _TIMED.get(name, ()))
    return found


def values_of(name: str, rows: Rows) -> Values:
    """One value for each row, None for each if nobody knows such a thing here."""
    column = COLUMNS[name]
    if any(field not in rows.fields for field in column.fields):
        return [None] * rows.size
    return column.values(rows)


def lines(names: Sequence[str], rows: Rows, picked: Sequence[Values], *, headings: bool = True) -> str:
    """The table as text: headings, then a line for each row; the last column as long as it is. Ends with a newline."""
    formats, cells = [], []
    for at, (name, values) in enumerate(zip(names, picked, strict=True)):
        column = COLUMNS[name]
        title = column.heading if headings else ""
        shown = values
        if values and values[0] is None and not any(v is not None for v in values):
            shown = [UNKNOWN] * len(values)
        elif column.show:
            shown = column.show(rows, values)
        if at == len(names) - 1 and not column.right:
            formats.append("%s")
        elif shown and isinstance(shown[0], int):
            width = max(len(str(max(shown))), len(str(min(shown))), len(title))
            formats.append(f"%{width}s")
        else:
            width = max(max(map(len, set(shown)), default=0), len(title))
            formats.append(f"%{width}s" if column.right else f"%-{width}s")
        cells.append(shown)
    line = " ".join(formats)
    found = [line % tuple(COLUMNS[name].heading for name in names)] if headings else []
    found += map(line.__mod__, zip(*cells, strict=True))
    return "\n".join(found) + "\n" if found else ""
