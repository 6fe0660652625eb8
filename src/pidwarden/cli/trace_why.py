"""`pidwarden trace --why PID`: the chain of waiting in one picture, to its end or to a cycle."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from pidwarden.cli import source, trace_picture
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import blocked, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.sight import Sight
from pidwarden.model.key import TICK_NS
from pidwarden.model.waiter import End, Ref
from pidwarden.trace import chain

if TYPE_CHECKING:
    import argparse

    from pidwarden.model.waiter import Waiter
    from pidwarden.trace.chain import Graph

_MOST_ASKED = 32
_NO_PERMISSION = 3


def run(args: argparse.Namespace) -> int:
    """Prints the picture: 0, or 3 if nothing may be seen of who was asked about.

    Raises:
        UsageError: it is no number. PidwardenError: there is no such process.
        NotPossible: no thread can be started.
    """
    texts = args.why.split(",")
    if len(texts) > _MOST_ASKED:
        msg = f"--why takes {_MOST_ASKED} processes at most"
        raise UsageError(msg)
    roots = [_root(text.strip()) for text in texts]
    with contextlib.closing(Sight([ref.pid for ref in roots])) as sight:
        return _tell(args, sight, roots)


def _tell(args: argparse.Namespace, sight: Sight, roots: list[Ref]) -> int:
    try:
        graph = chain.build(roots, lambda ref: blocked.look(sight, ref))
        graph = graph._replace(waiters={ref: blocked.again(sight, w) for ref, w in graph.waiters.items()})
    except BlockingIOError as why:
        msg = f"cannot look at who waits: {why.strerror}, and that must not wait; see `pidwarden rescue`"
        raise NotPossible(msg) from why
    notes = _notes(sight, graph)
    if args.json:
        print(json.dumps(_object(graph, notes)), flush=True)
    else:
        for note in notes:
            print(f"pidwarden trace: {note}", file=sys.stderr)
        print("\n".join(trace_picture.lines(graph)), flush=True)
    blind = [w.end is End.HIDDEN and not w.wchan for w in graph.waiters.values() if w.threads == 1]
    return _NO_PERMISSION if all(blind) else 0


def _root(text: str) -> Ref:
    """Who is meant by ``PID``, ``TID``, ``PID/TID``, or a pid with its start time."""
    process, slash, thread = text.partition("/")
    pid, start = source.parse_pid(process)
    tid = source.parse_pid(thread)[0] if slash else 0
    if not procfs.exists(pid) or (tid and not os.path.exists(f"{procfs.PROC}/{pid}/task/{tid}")):
        msg = f"{text}: there is no such process or thread (any more); `pidwarden ps` lists those that are there"
        raise PidwardenError(msg)
    sight = Sight()
    status = sight.status(tid or pid)
    if status is None:
        return Ref(pid)
    if start and (found := procfs.stat(pid)) and found.start_ticks != start // TICK_NS:
        msg = f"{text}: that process is gone, and pid {pid} is another one now"
        raise PidwardenError(msg)
    if tid or status.tgid != pid:
        return sight.ref(tid or pid) or Ref(pid)
    return Ref(pid)


def _notes(sight: Sight, graph: Graph) -> list[str]:
    """What could not be learnt."""
    seen, notes = sight.holders, []
    if graph.cut:
        notes.append(f"only the nearest {chain.MOST} were looked at: the picture goes on")
    if seen.left:
        notes.append(
            f"who has the other ends was not searched to the end: {seen.left} processes were left when time was up"
        )
    if seen.silent:
        pids = ", ".join(map(str, seen.silent[:10]))
        notes.append(f"the kernel did not answer for {pids} (within execve): what they have open is not known")
    if seen.searched and seen.unseen:
        notes.append(
            f"what {seen.unseen} of others' processes have open may not be seen: they may have an end as well"
            + ("; type `sudo pidwarden trace --why …`" if os.geteuid() else "")
        )
    if any(w.moved for w in graph.waiters.values()):
        notes.append("some ran while others were looked at (marked): of these it is the picture of a moment")
    return notes


# -- as JSON -----------------------------------------------------------------------------------------------------------


def _waiter(waiter: Waiter) -> dict[str, Any]:
    return {
        "id": str(waiter.ref),
        "pid": waiter.ref.pid,
        "tid": waiter.ref.tid or None,
        "start_ns": waiter.key.start_ns or None,
        "comm": trace_picture.name(waiter),
        "state": waiter.state or None,
        "threads": waiter.threads,
        "call": trace_picture.text(waiter.call) or None,
        "syscall": waiter.syscall or None,
        "fd": waiter.fd,
        "target": trace_picture.text(waiter.target) or None,
        "wchan": waiter.wchan or None,
        "waits": trace_picture.text(waiter.waits) or None,
        "waits_for": [
            {"id": str(e.to), "pid": e.to.pid, "how": trace_picture.text(e.how), "sure": e.sure, "weak": e.weak}
            for e in waiter.edges
        ],
        "more": waiter.more,
        "needs_all": waiter.every,
        "wakes_by_itself": waiter.timed,
        "moved": waiter.moved,
        "end": waiter.end.value if waiter.end else None,
        "do": trace_picture.text(waiter.do) or None,
    }


def _object(graph: Graph, notes: list[str]) -> dict[str, Any]:
    return {
        "source": "proc",
        "boot_ns": boot_ns(),
        "notes": notes,
        "asked": [str(ref) for ref in graph.roots],
        "waiters": [_waiter(w) for w in chain.walk(graph)],
        "ends": [str(w.ref) for w in chain.ends(graph)],
        "cycles": [
            {"ids": [str(ref) for ref in c.refs], "deadlock": c.deadlock, "sure": c.sure} for c in chain.cycles(graph)
        ],
        "cut": graph.cut,
    }
