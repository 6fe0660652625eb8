"""What `pidwarden tables` prints for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pidwarden.cli.table import table
from pidwarden.diagnose.tables import State, seconds
from pidwarden.diagnose.tabletext import ABOUT, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.diagnose.tables import Finding
    from pidwarden.model.gauge import Gauge

_UID = re.compile(r"\buid (\d+)\b")
_STEADY = 0.05  # entries a second below which a rate is not worth showing


def lines(shown: Sequence[tuple[Finding, int]]) -> list[str]:
    """The answer in the first line, the table, then a paragraph for each that is over or near, then what is unseen."""
    told = [f for f, _more in shown if f.is_told]
    text = [_answer(told), ""]
    rows = [_row(f, more) for f, more in shown if f.state is not State.UNSEEN]
    text += table(("TABLE", "USED", "LIMIT", "SHARE", "PER SECOND", "FULL IN", "PEAK", "REFUSED", "WHO MOST"), rows, "")
    for f in told:
        text += ["", *_paragraph(f)]
    unseen: dict[str, list[str]] = {}
    for f, _more in shown:
        if f.gauge.unseen:
            names = unseen.setdefault(f.gauge.unseen, [])
            if (title := ABOUT[f.gauge.table].title) not in names:
                names.append(title)
    if unseen:
        text += ["", "not seen:", *(f"  {', '.join(names)}: {why}" for why, names in unseen.items())]
    return text


def _answer(told: Sequence[Finding]) -> str:
    over = [f for f in told if f.state is State.OVER]
    if over:
        return f"OVER: {_named(over[0])}: {'; '.join(over[0].reasons)}" + _and(len(told) - 1)
    if told:
        return f"near: {_named(told[0])}: {'; '.join(told[0].reasons)}" + _and(len(told) - 1)
    return "no table is near its limit"


def _and(more: int) -> str:
    return f"; and {more} more" if more else ""


def _row(f: Finding, more: int) -> tuple[object, ...]:
    g = f.gauge
    name = _named(f) + f" (and {more} more)" * (more > 0)
    rate = "" if f.trend is None or abs(f.trend.per_second) < _STEADY else f"{f.trend.per_second:+.1f}"
    share = "" if g.share is None else f"{g.share:.1%}"
    soon = "" if f.full_in is None else seconds(f.full_in)
    limit = "none" if g.limit is None else str(g.limit)
    state = "" if f.state is State.FINE else f"{f.state} "
    counts = ["" if n is None else str(n) for n in (g.peak, g.failures)]
    return (state + name, str(g.used), limit, share, rate, soon, *counts, _who(g))


def _paragraph(f: Finding) -> list[str]:
    g, about = f.gauge, ABOUT[f.gauge.table]
    parts = [
        ("seen", about.symptom),
        ("refused", f"{g.failures} since {g.since}" if g.failures else ""),
        ("who", _who(g)),
        ("note", _names(g.detail)),
        ("limit", g.setting),
        ("helps", about.remedy),
        ("type", command(g)),
    ]
    head = f"{f.state.upper() if f.state is State.OVER else f.state}: {_named(f)}: {'; '.join(f.reasons)}"
    return [head, *(f"  {word:<8}{part}" for word, part in parts if part)]


def _named(f: Finding) -> str:
    return _names(f.title)


def _who(gauge: Gauge) -> str:
    return ", ".join(f"{_names(user.name)} {user.used}" for user in gauge.who)


def _names(text: str) -> str:
    """With the names of users, as far as there are any."""
    from pidwarden.cli.source import user_name  # noqa: PLC0415
    from pidwarden.model.text import escape  # noqa: PLC0415

    def name(found: re.Match[str]) -> str:
        known = user_name(int(found[1]))
        return found[0] if known == found[1] else f"user {escape(known.encode('utf-8', 'surrogateescape'))}"

    return _UID.sub(name, text)
