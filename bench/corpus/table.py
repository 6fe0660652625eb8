"""Runs of the corpus as Markdown. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from account import Run
    from workload import Workload

_HEAD = (
    "| workload | label | verdicts | alarm → verdict ms | start → verdict ms | peak | killed | hurt | holds | held ms "
    "| missed |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def _median(values: Iterable[float]) -> str:
    found = list(values)
    return f"{statistics.median(found):.0f}" if found else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def misses(runs: list[Run]) -> list[str]:
    """What the runs of one workload missed, each once, with how many runs did if there were several."""
    words: dict[str, int] = {}
    for run in runs:
        for word in run.missed():
            words[word] = words.get(word, 0) + 1
    return [w if len(runs) == 1 else f"{w} ({n} of {len(runs)})" for w, n in words.items()]


def row(runs: list[Run]) -> str:
    """One line of the table: medians of the times, sums of the harm, the most of the holds."""
    first = runs[0]
    verdicts = "; ".join(
        ", ".join(e.verdict or "none" for e in r.episodes) or "no alarm" for r in runs if not r.not_run
    )
    judged = [j for j in (r.judged_ms() for r in runs) if j]
    cells = [
        first.name,
        first.label,
        verdicts if len(set(verdicts.split("; "))) > 1 else verdicts.partition("; ")[0],
        _median(j[0] for j in judged),
        _median(j[1] for j in judged),
        str(max(max(r.peak, r.bomb_peak) for r in runs)),
        str(sum(r.killed for r in runs)),
        str(sum(len(r.hurt) + (r.killed if r.innocent else 0) for r in runs)),
        str(max(r.holds for r in runs)),
        f"{max(r.held_ms for r in runs):.0f}",
        "; ".join(misses(runs)),
    ]
    return "| " + " | ".join(map(_cell, cells)) + " |"


def table(rows: dict[str, list[Run]]) -> str:
    """Every workload, innocents first."""
    ordered = sorted(rows.values(), key=lambda runs: not runs[0].innocent)
    return "\n".join([_HEAD, *map(row, ordered)])


def summary(rows: dict[str, list[Run]]) -> str:
    """One sentence."""
    missed = [runs[0].name for runs in rows.values() if misses(runs)]
    innocents = sum(runs[0].innocent for runs in rows.values())
    text = f"{innocents} innocent and {len(rows) - innocents} guilty workloads; {len(missed)} missed a goal"
    return f"{text}: {', '.join(missed)}." if missed else f"{text}."


def reasons(rows: dict[str, list[Run]]) -> str:
    """For each workload that missed a goal: what the judge said to each alarm, and what else was noted."""
    parts = []
    for runs in rows.values():
        if not misses(runs):
            continue
        lines = [f"### {runs[0].name}: {'; '.join(misses(runs))}\n"]
        run = next(r for r in runs if r.missed())
        for e in run.episodes:
            after = (e.alarm_ns - run.started_ns) / 1e6
            lines.append(
                f"- {after:.0f} ms: {e.rule} at {e.slots} slots, `{e.verdict or 'none'}`: {'; '.join(e.reasons)}"
            )
        lines += [f"- {note}" for note in run.notes]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def listing(workloads: Iterable[Workload]) -> str:
    """For ``--list``."""
    return "\n".join(f"{w.name:18} {w.label:8}  {w.what}" for w in workloads)
