"""What the commands that change limits have in common: showing a plan, asking, doing it, and saying what came of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pidwarden.act import change
from pidwarden.act.journal import Journal, state_dir
from pidwarden.act.places import shown, word
from pidwarden.cli.asking import agreed
from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import owners, sysctld
from pidwarden.kernel.namespaces import INIT_CGROUP_NS, INIT_PID_NS, INIT_USER_NS
from pidwarden.model.undo import Kind

if TYPE_CHECKING:
    import argparse

    from pidwarden.model.owner import Assignment, Claim
    from pidwarden.model.plan import Plan
    from pidwarden.model.undo import Step


def others(keys: list[str], root: str) -> tuple[list[Assignment], list[Claim]]:
    """The lines that set sysctls at boot, and who else sets these."""
    return sysctld.assignments(root), owners.claims(keys, root)


def carry_out(plan: Plan, args: argparse.Namespace, command: str, namespaces: tuple[str, ...] = ()) -> int:
    """Shows a plan and does it, unless it is a rehearsal. The exit code: 0 done or shown, 1 refused (a
    rehearsal is too) or not agreed to.

    Raises:
        UsageError: it has to ask, and there is no terminal.
        PidwardenError: it failed; all is as it was before.
    """
    number = None
    if not args.json:
        for line in lines(plan, dry=args.dry_run):
            print(line)
    go_on = bool(plan.steps) and not plan.refusals and not args.dry_run
    go_on = go_on and (not plan.questions or args.yes or agreed("do it?", by_program=args.json))
    if go_on:
        wanted = change.Wanted(plan.name, command, plan.steps, namespaces)
        number = change.carry_out(wanted, Journal(state_dir(args.state_dir))).number
    if args.json:
        print(json.dumps({**as_object(plan), "dry_run": args.dry_run, "done": go_on, "change": number}))
    elif number is not None:
        print(f"done, and read back; `{_undo(args, number)}` takes it back")
    elif plan.steps and not args.dry_run:
        print("nothing was done")
    return 0 if go_on or not plan.steps or (args.dry_run and not plan.refusals) else 1


def _undo(args: argparse.Namespace, number: int) -> str:
    return f"pidwarden undo {number}" + (f" --state-dir {shown(args.state_dir)}" if args.state_dir else "")


def lines(plan: Plan, *, dry: bool) -> list[str]:
    """The plan for people."""
    found = [
        step_line(step, "would set" if dry else "plan: set", "would write" if dry else "plan: write")
        for step in plan.steps
    ]
    text = [line for first, more in found for line in (first, *more)]
    text += [f"note: {word(note)}" for note in plan.notes]
    text += [f"ask: {word(question)}" for question in plan.questions]
    return text + [f"no: {word(refusal)}" for refusal in plan.refusals]


def step_line(step: Step, sets: str, writes: str) -> tuple[str, list[str]]:
    """One step, and the text of the file that it writes."""
    name = shown(step.target.name)
    if step.target.kind is not Kind.CONFIG:
        return f"{sets} {name}: {word(step.old or '')} -> {word(step.new or '')}", []
    there = "" if step.old is None else " (there is one, which is kept for the way back)"
    return f"{writes} {name}{there}:", [f"  | {shown(line)}" for line in (step.new or "").splitlines()]


def as_object(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it."""
    steps = [
        {"place": shown(s.target.name), "kind": s.target.kind, "old": plain(s.old), "new": plain(s.new)}
        for s in plan.steps
    ]
    return {
        "name": shown(plan.name),
        "steps": steps,
        "notes": list(plan.notes),
        "questions": list(plan.questions),
        "refusals": list(plan.refusals),
    }


def plain(text: str | None) -> str | None:
    r"""A value or a file's text as JSON can have it: what is no UTF-8 as ``\xNN``."""
    return None if text is None else os.fsencode(text).decode("utf-8", "backslashreplace")


def writable(path: str, name: str) -> None:
    """Checks that the kernel lets somebody write a sysctl here at all.

    Raises:
        NotPossible: it is not there, or may only be read in this namespace.
        PidwardenError: it cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as why:
        msg = f"{name}: there is no {shown(path)} here; {_missing(path)}"
        raise NotPossible(msg) from why
    except OSError as why:
        msg = f"tried to look at {shown(path)}: {why.strerror}; type `sudo pidwarden …`"
        raise PidwardenError(msg) from why
    if not mode & 0o222:
        msg = (
            f"{name}: {shown(path)} can only be read here: only the machine's first network namespace may write it; "
            "type it on the host, or `sudo nsenter --net=/proc/1/ns/net pidwarden …`"
        )
        raise NotPossible(msg)


def of_the_machine(kind: str, name: str) -> None:
    """Checks that we are in the namespace that files of settings are for: that of pid 1.

    Raises:
        NotPossible: we are not.
    """
    if not kind:
        return
    ours, first = change.namespace(kind), change.namespace(kind, who="1")
    if not first:  # as in a sandbox, where pid 1 is not to be looked at
        first = ours if _first(kind, ours) else "another"
    if ours and ours != first:
        msg = (
            f"{name}: files of settings are applied in the {kind} namespace of pid 1 and this is another, {ours}: "
            "leave --persist away, or type it on the host"
        )
        raise NotPossible(msg)


# The first of each kind; that of network has no fixed number.
_FIRST = {"user": INIT_USER_NS, "pid": INIT_PID_NS, "cgroup": INIT_CGROUP_NS}


def _first(kind: str, ours: str) -> bool:
    """Whether we are in the machine's first namespace of a kind; of network it alone has thresholds of neighbours."""
    if kind == "net":
        return os.path.exists("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    return ours == f"{kind}:[{_FIRST[kind]}]"


def _missing(path: str) -> str:
    if "nf_conntrack" in path:
        return "connection tracking is not loaded (`modprobe nf_conntrack`), or this kernel has none"
    if "/neigh/" in path:
        return "it is there in the machine's first network namespace only: type it on the host"
    return "this kernel has no such limit"
