"""`pidwarden history PID`: where a process came from, alive or dead, up to its family's founder."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pidwarden.cli import source
from pidwarden.errors import PidwardenError
from pidwarden.model import lineage, story

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pidwarden.model.view import View

_WITHOUT = "creators and the dead: what follows are the parents of this moment, who may have made none of these"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("pid", metavar="PID", help="PID or pid:N, of a living or a dead process; PID@START_NS chooses")
    parser.add_argument("--full", action="store_true", help="each ancestor, however many there are")
    source.arguments(parser)


def _several(view: View, rows: Sequence[int], command: str) -> str:
    lines = [f"{len(rows)} processes have had this pid; choose one:"]
    for row in rows:
        r = view.records[row]
        what = "in the process table" if r.slots > 0 else f"dead: {view.ended(r)}"
        lines.append(
            f"  pidwarden {command} {r.key}  {view.who(row)}, started {view.clock.wall(r.key.start_ns)}, {what}"
        )
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Tells.

    Raises PidwardenError: nothing is known of such a process, or several had this pid.
    """
    pid, start = source.parse_pid(args.pid)
    taken, view = source.take_view(args, _WITHOUT)
    rows = view.had_pid(pid, start)
    if not rows:
        msg = f"nothing is known of a process {args.pid}; " + (
            "it may have ended longer ago than the history goes back; `pidwarden ps --all` lists all that is known"
            if view.creators
            else "only a guard knows the dead; `pidwarden ps` lists the living"
        )
        raise PidwardenError(msg)
    if args.json:
        import json  # noqa: PLC0415

        chains = [[view.object(up) for up in lineage.chain(view.above, row)] for row in rows]
        sys.stdout.write(json.dumps({**taken.heading(), "processes": chains}) + "\n")
        return 0 if len(rows) == 1 else 1
    if len(rows) > 1:
        print(_several(view, rows, args.command))
        return 1
    sys.stdout.writelines(f"{line}\n" for line in story.tell(view, rows[0], full=args.full))
    return 0
