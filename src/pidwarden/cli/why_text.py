"""What `pidwarden why` found, as text for people and as an object for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.act.places import shown
from pidwarden.cli.source import user_name
from pidwarden.cli.table import table
from pidwarden.diagnose import change, message
from pidwarden.diagnose.limits import Binding, Kind, amount, error_of, most, nearest, soonest
from pidwarden.guard.headroom import duration
from pidwarden.kernel import procfs
from pidwarden.model.text import escape
from pidwarden.rescue import why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.cli.why_more import Logged

_REAPERS = 3  # parents of zombies that are named
_TABLES = (Kind.PID_MAX, Kind.THREADS_MAX)


class Found(NamedTuple):
    """All that was found: who was asked about, the limits in order of rank, the message if there was one."""

    label: str
    bindings: Sequence[Binding]
    said: message.Message | None = None
    meant: message.Meaning | None = None
    logged: Sequence[Logged] = ()
    notes: Sequence[str] = ()
    systemd: bool = False

    @property
    def candidates(self) -> list[Binding]:
        """Those that can be what is asked about: all, or those that answer with the error of the message."""
        if self.meant is None:
            return list(self.bindings)
        return [b for b in self.bindings if b.kind in self.meant.kinds]

    @property
    def reached(self) -> list[Binding]:
        """Those of them that bind now."""
        return [b for b in self.candidates if b.binds]


def _in(seconds: float) -> str:
    return duration(seconds / 3600)


# -- for people --------------------------------------------------------------------------------------------------------


def lines(found: Found) -> list[str]:
    """The answer in the first line; then for whom, a table, and what is known of those that matter."""
    text = [_first(found), f"for {found.label}"]
    if found.said and found.meant:
        text += [found.meant.text, *(f"or else: {other}" for other in found.meant.besides)]
        if not found.reached and (others := [b for b in found.bindings if b.binds]):
            text.append(f"besides: {why.answer(found.bindings, others)}")
    text += table(("USED", "ALLOWED", "FREE", "FILLS", "LIMIT"), [_row(b) for b in found.candidates])
    for b in told(found):
        text += _details(b, found)
    if any(b.unit == "tasks" and b.allowed for b in found.reached):
        text.append("what makes room makes it for a bomb too: stop that first (`pidwarden guard`, `pidwarden rescue`)")
    return [shown(line) for line in [*text, *found.notes]]


def _first(found: Found) -> str:
    candidates, reached = found.candidates, found.reached
    text = why.answer(candidates, reached)
    if (first := soonest(candidates)) and not reached:
        fills = f"fills in {_in(first.fills_in or 0)} at the present rate"
        text += f", {fills}" if first is nearest(candidates) else f"; {first.name} {fills}"
    if found.said is None:
        return text
    program = f" ({found.said.program})" * bool(found.said.program)
    said = f"{found.said.error} from an attempt to {found.said.call}{program}"
    if not candidates:
        return f"{said}: {found.meant.text if found.meant else ''}"
    if reached:
        return f"{said}: {'; and '.join(b.cause for b in reached)}"
    refused = [b for b in candidates if b.refused]
    past = f"; {refused[0].evidence}" if refused else ""
    return f"{said}: {text}{past}"


def _row(b: Binding) -> tuple[str, ...]:
    state = " (reached)" * b.binds + f" (does not bind: {b.exempt})" * bool(b.exempt)
    if b.allowed is None:
        return (str(b.used) if b.used else "?", "?", "?", "", b.name)
    return (amount(b, b.used), amount(b, b.allowed), amount(b, b.free), _filling(b), b.name + state)


def _filling(b: Binding) -> str:
    if b.binds:
        return "full"
    if b.seen is None:
        return "?"
    if (seconds := b.fills_in) is not None:
        return f"in {_in(seconds)}"
    grown = round(b.seen.per_second * b.seen.seconds)
    return f"{'+' * (grown > 0)}{amount(b, grown)} in {b.seen.seconds:.3g} s" if grown > 0 else "not growing"


def told(found: Found) -> list[Binding]:
    """The limits of which more is said: those reached or near, the nearest, what fills first, what has refused."""
    candidates = found.candidates
    chosen = [nearest(candidates), soonest(candidates)]
    return [b for b in candidates if b.near or b.refused or b.unseen or b in chosen or _logged(b, found)]


def _logged(b: Binding, found: Found) -> list[Logged]:
    return [one for one in found.logged if one.concerns(b)]


def _details(b: Binding, found: Found) -> list[str]:
    parts = [("counts", _who(b)), ("zombies", _zombies(b)), ("refused", b.evidence), ("refused", _meanwhile(b))]
    for one in _logged(b, found):
        ago = "" if one.seconds is None else f"{_in(one.seconds)} ago: "
        parts.append(("log", f"{ago}{one.text}"))
    if b.unseen:
        parts.append(("unseen", b.unseen))
    elif b.near or b.fills_in is not None:
        advice = _change(b, found)
        parts += [("do", advice.do), ("undo", advice.undo), ("lasting", advice.lasting), ("note", advice.note)]
    body = [f"  {word:<8}{part}" for word, part in parts if part]
    return [f"{b.name}:", *body] if body else []


def _who(b: Binding) -> str:
    if b.kind in _TABLES and b.users:
        users = most({escape(user_name(uid).encode()): n for uid, n in b.users.items()})
        return users + "".join(b.who.partition("; ")[1:])
    return b.who


def _zombies(b: Binding) -> str:
    total = sum(b.reapers.values())
    if total < max(2, b.used // 10):
        return ""
    named = sorted(b.reapers.items(), key=lambda item: -item[1])[:_REAPERS]
    parents = ", ".join(f"{_name(pid)} ({pid}) has not waited for {n}" for pid, n in named)
    return f"{total} of them: {parents}; `pidwarden zombies` says why"


def _name(pid: int) -> str:
    found = procfs.stat(pid)
    return escape(found.comm) if found else "?"


def _meanwhile(b: Binding) -> str:
    if b.seen is None or not b.seen.refused:
        return ""
    return f"{b.seen.refused} more in the last {b.seen.seconds:.3g} s: it is refusing now"


def _change(b: Binding, found: Found) -> change.Change:
    user = escape(user_name(b.uid).encode()) if b.uid >= 0 else ""
    return change.of(b, change.Machine(found.systemd, procfs.PROC, user))


# -- for programs ------------------------------------------------------------------------------------------------------


def json_object(found: Found) -> dict[str, Any]:
    """The whole of it. Every key is always there."""
    reached, first, soon = found.reached, nearest(found.candidates), soonest(found.candidates)
    said = None
    if found.said and found.meant:
        said = {
            "error": found.said.error,
            "call": str(found.said.call),
            "program": found.said.program or None,
            "guessed": found.said.guessed,
            "means": found.meant.text,
            "can_be": [str(kind) for kind in found.meant.kinds],
            "or_else": list(found.meant.besides),
        }
    return {
        "answer": shown(_first(found)),
        "subject": shown(found.label),
        "fails": bool(reached),
        "error": error_of(reached) if reached and found.said is None else found.said and found.said.error,
        "binds": [shown(b.name) for b in reached],
        "nearest": first and shown(first.name),
        "fills_first": soon and shown(soon.name),
        "message": said,
        "limits": [_limit(b, found) for b in found.bindings],
        "notes": [shown(note) for note in found.notes],
    }


def _limit(b: Binding, found: Found) -> dict[str, Any]:
    advice = _change(b, found)
    return {
        "name": shown(b.name),
        "kind": b.kind and str(b.kind),
        "unit": b.unit,
        "used": b.used,
        "allowed": b.allowed,
        "free": b.free if b.allowed is not None else None,
        "binds": b.binds,
        "near": b.near,
        "exempt": b.exempt or None,
        "unseen": b.unseen or None,
        "pid": b.pid or None,
        "uid": b.uid if b.uid >= 0 else None,
        "cgroup": shown(b.cgroup) if b.kind in (Kind.PIDS, Kind.MEMORY_CGROUP) and b.cgroup else None,
        "path": shown(b.path) if b.path else None,
        "per_second": b.seen and round(b.seen.per_second, 2),
        "seen_seconds": b.seen and round(b.seen.seconds, 2),
        "rate_from": b.seen and b.seen.source,
        "fills_in_seconds": b.fills_in and round(b.fills_in, 1),
        "refused": b.refused,
        "refused_meanwhile": b.seen and b.seen.refused,
        "evidence": shown(b.evidence) or None,
        "log": [{"seconds_ago": one.seconds and round(one.seconds, 1), "text": one.text} for one in _logged(b, found)],
        "users": {user_name(uid): n for uid, n in b.users.items()},
        "names": {escape(name): n for name, n in b.names.items()},
        "unreaped": [{"parent": pid, "zombies": n} for pid, n in b.reapers.items()],
        "change": {key: value or None for key, value in advice._asdict().items()},
    }
