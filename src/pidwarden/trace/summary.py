"""Counts of calls, as ``strace -c`` shows them, with how long they took as a histogram. Pure: counts in, text out."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = ".:-=+*#@"  # where there is no UTF-8
_WIDTH: Final = 40  # of the bars of a full histogram
_UNITS: Final = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))
_THREE_DIGITS: Final = 1000


class Count(Protocol):
    """What was counted of one call."""

    @property
    def calls(self) -> int: ...  # noqa: D102
    @property
    def errors(self) -> int: ...  # noqa: D102
    @property
    def ns(self) -> int: ...  # noqa: D102
    @property
    def max_ns(self) -> int: ...  # noqa: D102
    @property
    def lost(self) -> int: ...  # noqa: D102


class Row(NamedTuple):
    """One line of a summary. ``buckets``: number n counts calls of 2^n to 2^(n+1) ns; empty if not known."""

    name: str
    calls: int
    errors: int
    ns: int
    max_ns: int
    lost: int  # records that did not get into the stream; they are counted all the same
    buckets: tuple[int, ...] = ()

    @property
    def mean_ns(self) -> int:
        """Rounded down."""
        return self.ns // self.calls if self.calls else 0


class Process(NamedTuple):
    """The same for one process."""

    pid: int
    comm: str
    rows: list[Row]


# The words after -S, strace's and ours.
ORDERS: Final[Mapping[str, Callable[[Row], tuple[Any, ...]]]] = {
    "time": lambda row: (-row.ns, row.name),
    "calls": lambda row: (-row.calls, row.name),
    "errors": lambda row: (-row.errors, row.name),
    "max": lambda row: (-row.max_ns, row.name),
    "mean": lambda row: (-row.mean_ns, row.name),
    "lost": lambda row: (-row.lost, row.name),
    "name": lambda row: (row.name,),
}
ALIASES: Final = {
    "time-total": "time", "total-time": "time", "count": "calls", "error": "errors", "time-max": "max",
    "max-time": "max", "avg": "mean", "avg-time": "mean", "syscall": "name", "syscall-name": "name",
}  # fmt: skip


def rows(
    counts: Mapping[int, Count],
    name: Callable[[int], str],
    order: str = "time",
    buckets: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> list[Row]:
    """Of what was counted, by number of the call. Numbers of one name are one row."""
    found: dict[str, Row] = {}
    for nr, count in counts.items():
        if not count.calls and not count.lost:
            continue
        call = name(nr)
        row = Row(call, count.calls, count.errors, count.ns, count.max_ns, count.lost, buckets.get(nr, ()))
        found[call] = _sum(call, [found[call], row]) if call in found else row
    return sorted(found.values(), key=ORDERS[order])


def processes(
    counts: Mapping[tuple[int, int], Count],
    name: Callable[[int], str],
    comm: Callable[[int], str],
    order: str = "time",
) -> list[Process]:
    """By process, who spent most first."""
    by_pid: dict[int, dict[int, Count]] = {}
    for (tgid, nr), count in counts.items():
        by_pid.setdefault(tgid, {})[nr] = count
    found = [Process(pid, comm(pid), rows(mine, name, order)) for pid, mine in by_pid.items()]
    return sorted((p for p in found if p.rows), key=lambda p: (-sum(row.ns for row in p.rows), p.pid))


def _sum(name: str, those: Sequence[Row]) -> Row:
    length = max((len(row.buckets) for row in those), default=0)
    buckets = tuple(sum(row.buckets[n] for row in those if n < len(row.buckets)) for n in range(length))
    calls, errors, ns, lost = (sum(getattr(row, field) for row in those) for field in ("calls", "errors", "ns", "lost"))
    return Row(name, calls, errors, ns, max((row.max_ns for row in those), default=0), lost, buckets)


# -- as text -----------------------------------------------------------------------------------------------------------


def span(ns: int) -> str:
    """A time with three digits: ``12.3us``."""
    for unit, name in _UNITS:
        if ns >= unit:
            value = ns / unit
            if value >= 100 or unit == 1:  # noqa: PLR2004
                return f"{value:.0f}{name}" if value < _THREE_DIGITS else f"{ns // unit}{name}"
            return f"{value:.2f}{name}" if value < 10 else f"{value:.1f}{name}"  # noqa: PLR2004
    return "0"


def _range(those: Iterable[Row]) -> tuple[int, int]:
    """First and last bucket that anything is in, and one after."""
    filled = [n for row in those for n, calls in enumerate(row.buckets) if calls]
    return (min(filled), max(filled) + 1) if filled else (0, 0)


def bars(buckets: Sequence[int], *, utf8: bool = True) -> str:
    """A histogram in one line, its highest bar full; what has any call at all shows."""
    signs = _BARS if utf8 else _PLAIN_BARS
    most = max(buckets, default=0)
    return "".join(signs[(calls * len(signs) - 1) // most] if calls else " " for calls in buckets) if most else ""


def table(those: Sequence[Row], *, utf8: bool = True, total: bool = True) -> list[str]:
    """As ``strace -c`` has it, with mean, longest, records lost and a histogram."""
    whole = _sum("total", those)
    first, last = _range(those)
    scale = f"{span(1 << first)} .. {span(1 << last)}" if last else ""
    head = f"{'% time':>6} {'seconds':>11} {'mean':>9} {'max':>9} {'calls':>9} {'errors':>9}"
    rule = f"{'-' * 6} {'-' * 11} {'-' * 9} {'-' * 9} {'-' * 9} {'-' * 9}"
    loses = whole.lost > 0
    if loses:
        head, rule = f"{head} {'lost':>9}", f"{rule} {'-' * 9}"
    width = max([len(row.name) for row in those] + [16])
    # What is behind the name may be wide: nothing has to line up after it.
    lines = [f"{head} {'syscall':<{width}} {scale}".rstrip(), f"{rule} {'-' * width} {'-' * (last - first)}".rstrip()]
    for row in those:
        drawn = bars(row.buckets[first:last], utf8=utf8)
        lines.append(_line(row, whole.ns, loses, f"{row.name:<{width}} {drawn}"))
    if total:
        lines += [lines[1], _line(whole, whole.ns, loses, "total")]
    return lines


def _line(row: Row, whole_ns: int, loses: bool, name: str) -> str:  # noqa: FBT001
    share = 100 * row.ns / whole_ns if whole_ns else 0.0
    errors = str(row.errors) if row.errors else ""
    lost = f" {row.lost or '':>9}" if loses else ""
    seconds, mean, longest = f"{row.ns / 1e9:.6f}", span(row.mean_ns), span(row.max_ns)
    return f"{share:6.2f} {seconds:>11} {mean:>9} {longest:>9} {row.calls:>9} {errors:>9}{lost} {name}".rstrip()


def histogram(row: Row, *, utf8: bool = True) -> list[str]:
    """One call's histogram in full: a line for each bucket."""
    first, last = _range([row])
    most = max(row.buckets, default=0)
    sign = "█" if utf8 else "#"
    lines = [f"{row.name}: {row.calls} calls, mean {span(row.mean_ns)}, longest {span(row.max_ns)}"]
    for n in range(first, last):
        calls = row.buckets[n]
        bar = sign * max(calls * _WIDTH // most, 1 if calls else 0)
        lines.append(f"  {span(1 << n):>8} .. {span(1 << n + 1):<8} {calls:>9} {bar}".rstrip())
    return lines


def text(
    those: Sequence[Row],
    by_process: Sequence[Process] = (),
    *,
    full: bool = False,
    utf8: bool = True,
) -> list[str]:
    """The whole summary."""
    if not those:
        return ["no call was counted"]
    lines = table(those, utf8=utf8)
    for process in by_process:
        lines += ["", f"{process.pid} {process.comm}", *table(process.rows, utf8=utf8, total=len(process.rows) > 1)]
    if full:
        for row in those:
            lines += ["", *histogram(row, utf8=utf8)]
    return lines


# -- as JSON -----------------------------------------------------------------------------------------------------------


def _json(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "call": row.name,
        "calls": row.calls,
        "errors": row.errors,
        "ns": row.ns,
        "mean_ns": row.mean_ns,
        "max_ns": row.max_ns,
        "lost": row.lost,
    }
    if row.buckets:
        found["histogram"] = [{"from_ns": 1 << n, "calls": calls} for n, calls in enumerate(row.buckets) if calls]
    return found


def as_json(those: Sequence[Row], by_process: Sequence[Process] = ()) -> dict[str, Any]:
    """The same as one object."""
    whole = _json(_sum("total", those))
    del whole["call"]
    found: dict[str, Any] = {"event": "summary", "total": whole, "calls": [_json(row) for row in those]}
    if by_process:
        found["processes"] = [{"pid": p.pid, "comm": p.comm, "calls": [_json(r) for r in p.rows]} for p in by_process]
    return found
