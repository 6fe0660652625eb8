"""The text of the status file: for a person who has nothing left but a shell's `read` and `echo`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.guard.headroom import Headroom, headroom_lines
from pidwarden.guard.incident import Incident, State
from pidwarden.guard.lines import ANSWER, typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pidwarden.model.moment import Clock

LONGEST_LINE, MOST = 400, 16_000  # characters; few are such that take more than a byte
_INCIDENTS, _PAST, _REASONS = 12, 5, 3
_SECOND_NS = 1_000_000_000


class Family(NamedTuple):
    """One of the largest families; the founder's name is escaped."""

    number: int
    founder: str
    slots: int
    limit: int
    held: bool


class Seen(NamedTuple):
    """What there is to be said. `slots`: of each family or guilty part with an incident, as far as it is there."""

    pid: int
    mode: str
    version: str
    directory: str
    clock: Clock
    every_seconds: float  # the file is written at least as often
    room: Headroom
    incidents: Sequence[Incident]
    slots: Mapping[int, int]
    families: Sequence[Family]
    past: Sequence[Mapping[str, Any]]
    gate: str  # how families are held
    rules: Mapping[str, Any] | None = None  # what the rules found that goes on; None: all are off


def status_text(seen: Seen) -> str:
    """All of it, at most :data:`MOST` characters and a word that it was cut; ends with a line end."""
    now = f"{seen.clock.rfc3339(seen.clock.boot_ns)}, {seen.clock.boot_ns / _SECOND_NS:.1f} s since boot"
    lines = [
        f"pidwarden guard: pid {seen.pid}, mode {seen.mode}, version {seen.version}",
        f"written: {now}; anew with every change, and every {seen.every_seconds:g} s",
        "",
        *headroom_lines(seen.room),
        "",
        *_incidents(seen),
        *(["", *rules] if (rules := rules_lines(seen.rules)) else []),
        "",
        "largest families, looked at after a change and every 30 s: number, slots, limit, founder",
        *(f"  {f.number}  {f.slots}  {f.limit}  {f.founder}{'  HELD' if f.held else ''}" for f in seen.families),
        "",
        "last incidents",
        *(_past(incident, seen.clock) for incident in list(seen.past)[: -_PAST - 1 : -1]),
        "",
        f"forks of what is held: {seen.gate}",
        f"to hold a family: {typed('hold N', seen.directory)}  (or hold pid:N); all commands: "
        f"{typed('help', seen.directory)}",
        f"answers: {seen.directory}/{ANSWER}",
    ]
    text = "".join(line[:LONGEST_LINE] + "\n" for line in lines)
    return text if len(text) <= MOST else text[:MOST].rpartition("\n")[0] + "\n(cut here)\n"


def rules_lines(rules: Mapping[str, Any] | None) -> list[str]:
    """What the guard looks after besides runaways, and what it finds at present; nothing where no rule is on."""
    if not rules or not rules["on"]:
        return []
    look = rules["last_look"]
    took = f"; the last look at {look['tasks']} tasks took {look['busy_ms']:g} ms" if look else ""
    lines = [f"rules, every {rules['every']:g} s{took}"]
    for rule in rules["on"]:
        found = rule["going_on"] + rule["unfollowed"]
        more = found - len(rule["findings"])
        lines.append(f"  {rule['rule']} ({rule['mode']}): {found or 'nothing'} found")
        lines += [f"    {text}" for text in rule["findings"]] + ([f"    and {more} more"] if more > 0 else [])
    return lines


def _incidents(seen: Seen) -> list[str]:
    if not seen.incidents:
        return ["nothing is held"]
    waiting = sum(i.state is State.WAITING for i in seen.incidents)
    lines = [f"HELD: {len(seen.incidents)}, of which {waiting} wait for a decision"]
    for incident in seen.incidents[:_INCIDENTS]:
        lines += _incident(incident, seen)
    if (more := len(seen.incidents) - _INCIDENTS) > 0:
        lines.append(f"and {more} more, which are shown when these are decided")
    return lines


def _incident(incident: Incident, seen: Seen) -> list[str]:
    number, part, verdict = incident.family, incident.guilty_family, incident.verdict
    origin = incident.origin or {}
    held = f" (held: {part})" if part not in (0, number) else ""
    slots = seen.slots.get(part or number)
    size = f"{slots} slots" if slots is not None else f"{incident.signal.slots} slots at the alarm"
    words = [str(incident.state), size, f"verdict {verdict.kind}" if verdict else "not judged yet"]
    if incident.frozen and incident.frozen.frozen_by:
        words.append(f"frozen by {incident.frozen.frozen_by}")
    lines = [f"family {number} of {origin.get('comm') or '?'} ({origin.get('pid', '?')}){held}: {', '.join(words)}"]
    lines += [f"  {reason}" for reason in (verdict.reasons if verdict else ())[:_REASONS]]
    if incident.state is State.WAITING:
        if incident.deadline_ns:
            then = "killed" if incident.then == "kill" else "released"
            left = max(0, incident.deadline_ns - seen.clock.boot_ns) / _SECOND_NS
            lines.append(f"  {then} by itself in {left:.0f} s")
        lines.append(f"  to kill it:   {typed(f'kill {number}', seen.directory)}")
        lines.append(f"  to let it go: {typed(f'release {number}', seen.directory)}")
    return lines


def _past(incident: Mapping[str, Any], clock: Clock) -> str:
    killed = incident["killed"]
    what = "not killed" if killed is None else f"{killed} killed"
    why = "; ".join(incident["reasons"])
    when = clock.rfc3339(incident["alarm_ns"])
    return (
        f"  {when} family {incident['family']} of {incident['founder'] or '?'}: {incident['verdict'] or '-'}, "
        f"{incident['members']} members, {what}: {why}"
    )
