"""What `limits` does: reads the limits and who sets them, and puts one through its plan."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from pidwarden.act import change, ondisk
from pidwarden.act.places import shown, word
from pidwarden.cli import changing
from pidwarden.cli.table import table
from pidwarden.diagnose import owners, persist, setting
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import sysctld, usage
from pidwarden.kernel.limits import pids_cgroups, pids_directory
from pidwarden.kernel.procfs import PROC
from pidwarden.model import limit
from pidwarden.model.limit import Named, Scope
from pidwarden.model.undo import Kind, Target

if TYPE_CHECKING:
    import argparse

# -- reading -----------------------------------------------------------------------------------------------------------


def targets(named: Named) -> tuple[Target, ...]:
    """Where a limit's values are.

    Raises:
        NotPossible: no cgroups are mounted that count tasks.
        PidwardenError: the process is gone.
    """
    if named.setting.scope is Scope.PROCESS:
        from pidwarden.act.places import Rlimit  # noqa: PLC0415

        which = named.setting.name.rstrip(":")
        try:
            start = Rlimit(which, named.pid).start_ticks
        except ProcessLookupError as why:
            msg = f"{named.name}: process {named.pid} is gone; name one that lives"
            raise PidwardenError(msg) from why
        return (Target(Kind.RLIMIT, which=which, pid=named.pid, start_ticks=start),)
    if named.setting.scope is Scope.CGROUP:
        directory = pids_directory(named.cgroup)
        if directory is None:
            msg = f"{shown(named.name)}: no cgroups with the pids controller are mounted; type `pidwarden doctor`"
            raise NotPossible(msg)
        if not os.path.exists(f"{directory}/pids.max"):
            msg = f"{shown(named.name)}: there is no {shown(directory)}/pids.max; `cat /proc/PID/cgroup` shows paths"
            raise PidwardenError(msg)
        return (Target(Kind.KERNEL, f"{directory}/pids.max"),)
    return tuple(Target(Kind.KERNEL, f"{PROC}/sys/{limit.path(key)}") for key in named.setting.keys)


def facts_of(named: Named) -> setting.Facts:
    """What is known of a limit now.

    Raises:
        PidwardenError: it is not there, or cannot be read.
    """
    places = targets(named)
    values = []
    for place in places:
        value = change.value_of(place)
        if value is None:
            changing.writable(place.path, named.name)
            msg = f"{shown(named.name)}: {shown(place.name)} is gone; type it again"
            raise PidwardenError(msg)
        values.append(value)
    used, each = usage.used(named), usage.each(named)
    return setting.Facts(named, places, tuple(values), used, each, usage.available(), usage.other_limits())


# -- changing ----------------------------------------------------------------------------------------------------------


def put(args: argparse.Namespace) -> int:
    """`limits set`. Exit codes: 0 done, or so already, or a rehearsal; 1 refused.

    Raises:
        UsageError: there is no such limit, or that is no value for it.
        NotPossible: it cannot be changed, or made to last, here.
        PidwardenError: it failed; nothing is changed.
    """
    try:
        named = limit.find(args.name)
    except ValueError as why:
        msg = f"{shown(args.name)!r} {why}"
        raise UsageError(msg) from why
    if named.setting.name in (limit.CONNTRACK_MAX, limit.CONNTRACK_BUCKETS):
        return _conntrack(named, args)
    facts = facts_of(named)
    for place in facts.targets:
        if place.kind is Kind.KERNEL and named.setting.keys:
            changing.writable(place.path, named.name)
    try:
        wanted = limit.parse(named.setting, args.value, facts.value)
    except ValueError as why:
        msg = f"tried to set {shown(named.name)} to {shown(args.value)!r}: {why}"
        raise UsageError(msg) from why
    command = command_line("limits set", named.name, wanted.replace(" ", "," if named.setting.keys else ":"), args=args)
    plan = setting.plan(facts, wanted, below_use=args.below_use)
    numbers = wanted.split() if len(facts.targets) > 1 else [wanted]
    lines, claims = changing.others(list(named.setting.keys), args.root)
    values = {limit.path(k): v for k, v in zip(named.setting.keys, numbers, strict=True)} if named.setting.keys else {}
    ours = owners.Ours(values, persist.sysctl_file(named.name, args.root), args.persist)
    notes = plan.notes + tuple(owners.warnings(ours, lines, claims))
    if not named.setting.keys:
        notes += (f"to make it last: {_lasting(named, facts, wanted)}",)
    steps, kind = plan.steps, limit.NAMESPACE.get(named.setting.scope, "")
    if args.persist:
        if not named.setting.keys:
            raise NotPossible(f"{shown(named.name)}: no file keeps this; {_lasting(named, facts, wanted)}")
        changing.of_the_machine(kind, named.name)
        keys = list(zip(named.setting.keys, numbers, strict=True))[::-1]  # the highest first, as when it is raised
        files = [persist.sysctl(named.name, command, keys, args.root)]
        steps += setting.file_steps(files, {f.path: ondisk.keep(f.path).text for f in files})
    kinds = (kind,) if kind else ()
    return changing.carry_out(plan._replace(steps=steps, notes=notes), args, command, kinds)


def command_line(*words: str, args: argparse.Namespace) -> str:
    """What was typed, as it stands in the record and in files."""
    return " ".join([words[0], *map(shlex.quote, words[1:])] + ["--persist"] * args.persist)


def _conntrack(named: Named, args: argparse.Namespace) -> int:
    """The two of connection tracking are changed together, in the right order."""
    from pidwarden.cli import resizing  # noqa: PLC0415

    try:
        number = int(limit.parse(named.setting, args.value))
    except ValueError as why:
        msg = f"tried to set {named.name} to {shown(args.value)!r}: {why}"
        raise UsageError(msg) from why
    args.max = number if named.setting.name == limit.CONNTRACK_MAX else None
    args.buckets = number if named.setting.name == limit.CONNTRACK_BUCKETS else None
    return resizing.run(args, f"limits set {named.name} {number}")


def _lasting(named: Named, facts: setting.Facts, wanted: str) -> str:
    """How a limit of a process or a cgroup is made to last."""
    from pidwarden.cli.source import user_name  # noqa: PLC0415
    from pidwarden.diagnose import change as shell  # noqa: PLC0415
    from pidwarden.diagnose.limits import Binding  # noqa: PLC0415
    from pidwarden.diagnose.limits import Kind as Which  # noqa: PLC0415
    from pidwarden.kernel import cgroup, procfs  # noqa: PLC0415

    kinds = {limit.NPROC: Which.NPROC, limit.NOFILE: Which.NOFILE, limit.PIDS: Which.PIDS}
    number = limit.order_of(wanted.split()[0])
    better = int(number) if number != float("inf") else 0
    where = named.cgroup or cgroup.path_in(named.pid, "name=systemd") or cgroup.path_in(named.pid, cgroup.V2) or ""
    binding = Binding(
        named.name, 0, None, 0, kind=kinds[named.setting.name], pid=named.pid, cgroup=where, better=better,
        path=facts.targets[0].path,
    )  # fmt: skip
    user = user_name(procfs.owner(named.pid)) if named.pid else ""
    found = shell.of(binding, shell.Machine(sysctld.booted_with_systemd(), user=user))
    return found.lasting or found.note or "set it where it is made"


# -- showing -----------------------------------------------------------------------------------------------------------


def show(args: argparse.Namespace) -> int:
    """`limits`: each name, its value, what is used of it, and who sets it at boot."""
    keys = [key for s in limit.CATALOGUE.values() for key in s.keys]
    lines, claims = changing.others(keys, args.root)
    rows: list[dict[str, Any]] = []
    for found in limit.CATALOGUE.values():
        who, value = owners.owner(found, lines, claims)
        rows.append({**_row(Named(found)), "set_by": who or None, "set_to": value or None})
    pid = args.pid if args.pid is not None else os.getppid()
    names = [Named(limit.find(f"{prefix}{pid}").setting, pid) for prefix in (limit.NPROC, limit.NOFILE) if pid > 0]
    try:
        names += [limit.find(f"{limit.PIDS}{c.path}") for c in pids_cgroups(pid)]
    except (OSError, ValueError) as why:
        if args.pid is not None:
            msg = f"looked for the limits of process {pid}: it is gone or hidden; name one that lives, or be root"
            raise PidwardenError(msg) from why
    rows += [{**_row(named), "set_by": None, "set_to": None} for named in names]
    notes = setting.relations(usage.other_limits(pid=pid))
    if args.json:
        print(json.dumps({"limits": [{**r, "name": shown(r["name"])} for r in rows], "notes": list(map(shown, notes))}))
        return 0
    cells = [[shown(r["name"]), r["value"] or f"({r['why']})", _blank(r["used"]), word(_setter(r))] for r in rows]
    print("\n".join(table(("NAME", "VALUE", "USED", "SET AT BOOT BY"), cells, "")))
    for note in notes:
        print(f"note: {word(note)}")
    return 0


def _row(named: Named) -> dict[str, Any]:
    row: dict[str, Any] = {"name": named.name, "what": named.setting.what, "value": None, "used": None, "why": ""}
    try:
        found = [change.value_of(place) for place in targets(named)]
    except PidwardenError as why:
        return {**row, "why": f"cannot be read: {why}".partition(";")[0]}
    if any(value is None for value in found):
        return {**row, "why": "not here"}
    return {**row, "value": " ".join(" ".join((v or "").split()) for v in found), "used": usage.used(named)}


def _blank(number: int | None) -> str:
    return "" if number is None else str(number)


def _setter(row: dict[str, Any]) -> str:
    if not row["set_by"]:
        return "-"
    differs = row["set_to"] and row["set_to"] != row["value"]
    return f"{row['set_by']} ({row['set_to']})" if differs else str(row["set_by"])
