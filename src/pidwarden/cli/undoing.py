"""What `undo` and `limits undo` do: which change is meant, and what became of its steps."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pidwarden.act import change
from pidwarden.act.change import State
from pidwarden.act.journal import Journal, state_dir
from pidwarden.act.places import shown, word
from pidwarden.cli.changing import plain
from pidwarden.cli.table import table
from pidwarden.diagnose.resize import NAME as CONNTRACK
from pidwarden.errors import PidwardenError
from pidwarden.kernel import usage
from pidwarden.model import limit
from pidwarden.model.limit import CONNTRACK_BUCKETS, CONNTRACK_MAX, Scope
from pidwarden.model.undo import Kind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pidwarden.act.change import Found
    from pidwarden.model.undo import Entry, Step

_WORDS = {
    State.GONE: "gone, with the process, the cgroup, the namespace or the boot that it was of",
    State.BEFORE: "as it was before already",
    State.UNDONE: "undone before",
}


def run(args: argparse.Namespace, only: str = "") -> int:
    """Undoes one change, or lists all; `only` those whose command begins so.

    Raises:
        PidwardenError: there is no such change, or it cannot be undone.
    """
    where = Journal(state_dir(args.state_dir))
    entries = [e for e in where.read() if e.command.startswith(only)]
    if args.list:
        _list(entries, as_json=args.json)
        return 0
    entry = _meant(entries, args.which)
    if args.forget:
        change.forget(entry.number, where)
        print(json.dumps(_object(entry)) if args.json else f"change {entry.number} is forgotten: nothing was set back")
        return 0
    if not args.force:
        _room(entry)
    found = change.look(entry) if args.dry_run else change.undo(entry.number, where, force=args.force)
    if args.json:
        print(json.dumps({**_object(entry), "dry_run": args.dry_run, "found": [_step_object(f) for f in found]}))
    else:
        verb = "would undo" if args.dry_run else "undid"
        print(f"{verb} change {entry.number}: {word(entry.command)}")
        for f in found:
            print(f"  {_line(f, dry=args.dry_run)}")
    foreign = args.dry_run and not args.force and any(f.state is State.FOREIGN for f in found)
    return 1 if foreign else 0


def _meant(entries: Sequence[Entry], which: str | None) -> Entry:
    """The last change that is not undone, of those that are meant."""
    name = _recorded(which)
    left = [e for e in entries if not e.undone and (which in (None, str(e.number)) or e.name == name)]
    if left:
        return left[-1]
    gone = [e for e in entries if which == str(e.number) or e.name == name]
    if gone:
        msg = f"looked for change {shown(which or '')}: it is undone already; `pidwarden undo --list` shows all"
    elif which:
        msg = f"looked for change {shown(which)}: there is none; `pidwarden undo --list` shows all"
    else:
        msg = "looked for a change to take back: there is none; `pidwarden undo --list` shows what was done"
    raise PidwardenError(msg)


def _recorded(which: str | None) -> str | None:
    """The name by which the record knows a limit: sysctls have several, and connection tracking is one change."""
    try:
        name = limit.find(which or "").name
    except ValueError:
        return which
    return CONNTRACK if name in (CONNTRACK_MAX, CONNTRACK_BUCKETS) else name


def _room(entry: Entry) -> None:
    """Checks that what is in use has room in what was before.

    Raises:
        PidwardenError: it has not.
    """
    name = CONNTRACK_MAX if entry.name == CONNTRACK else entry.name
    try:
        named = limit.find(name)
    except ValueError:
        return  # of another version
    last = limit.path(named.setting.keys[-1]) if named.setting.keys else ""
    found = [s for s in entry.steps if s.target.kind is not Kind.CONFIG and s.target.path.endswith(last)]
    if named.setting.scope is Scope.PROCESS or not found or found[0].old is None or found[0].new is None:
        return  # who has a limit of a process changed counts for others as well
    old, new = (limit.allows(named.setting, value) for value in (found[0].old, found[0].new))
    used = usage.used(named)
    if used is not None and old < used and old < new:
        msg = (
            f"tried to undo change {entry.number}: {used} are in use and {found[0].old} would allow fewer; nothing was "
            f"done: `pidwarden undo {entry.number} --force` does it all the same"
        )
        raise PidwardenError(msg)


def _line(found: Found, *, dry: bool) -> str:
    step, name = found.step, shown(found.step.target.name)
    if found.state in _WORDS:
        return f"{name}: {_WORDS[found.state]}"
    if found.state is State.FOREIGN and dry:
        return f"{name}: somebody else has changed it since; `--force` takes it back all the same"
    if step.target.kind is Kind.CONFIG:
        return f"{name}: " + ("removed" if step.old is None else "its text of before")
    return f"{name}: {word(found.now or '')} -> {word(step.old or '')}, as it was"


def _list(entries: Sequence[Entry], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"changes": [_object(e) for e in entries]}))
        return
    rows = [[e.number, _when(e), _state(e), word(_values(e.steps)), word(e.command)] for e in reversed(entries)]
    print("\n".join(table(("CHANGE", "WHEN", "STATE", "WHAT", "COMMAND"), rows, "")) or "nothing was changed")


def _state(entry: Entry) -> str:
    if entry.undone:
        return "undone"
    if any(step.undone for step in entry.steps):
        return "half undone"
    return "can be undone" if entry.done else "cut short"


def _when(entry: Entry) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.when))


def _values(steps: Sequence[Step]) -> str:
    live = [f"{s.old} -> {s.new}" for s in steps if s.target.kind is not Kind.CONFIG]
    files = sum(s.target.kind is Kind.CONFIG for s in steps)
    return ", ".join(live + [f"{files} file{'s' * (files > 1)}"] * bool(files))


def _object(entry: Entry) -> dict[str, Any]:
    steps = [
        {"place": shown(s.target.name), "old": plain(s.old), "new": plain(s.new), "undone": s.undone}
        for s in entry.steps
    ]
    return {
        "change": entry.number, "when": entry.when, "name": shown(entry.name), "command": shown(entry.command),
        "state": _state(entry), "steps": steps,
    }  # fmt: skip


def _step_object(found: Found) -> dict[str, Any]:
    step = found.step
    return {"place": shown(step.target.name), "state": found.state, "now": plain(found.now), "old": plain(step.old)}
