"""`pidwarden status`: headroom first, as it can be had without a guard; then what the guard answers."""

from __future__ import annotations

import json
import textwrap
import time
from typing import TYPE_CHECKING, Any

from pidwarden.cli.table import table
from pidwarden.cli.where import no_guard, run_dir
from pidwarden.errors import PidwardenError
from pidwarden.guard.control import ask
from pidwarden.guard.headroom import DAY_HOURS, SECOND_NS, Headroom, duration, headroom_lines
from pidwarden.guard.statustext import rules_lines
from pidwarden.kernel import limits, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.container import short_name
from pidwarden.model.key import TICK_NS
from pidwarden.model.record import Rule
from pidwarden.settings import DEFAULT_RUN_DIR

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

_LOOK_SECONDS = 1.0
_SHOWN_FAMILIES = 10
_SHOWN_INCIDENTS = 5
_SHOWN_REASONS = 60
_SHORT = 10  # room is short when no more than this part of it is left
_DECIDABLE = "waiting"


# -- text --------------------------------------------------------------------------------------------------------------


def _founders(answer: Mapping[str, Any]) -> dict[int, str]:
    names = {}
    for family in answer["families"]:
        founder = family["founder"]
        names[family["family"]] = f"{founder['comm'] or '?'} ({founder['pid']})"
    return names


def held_lines(answer: Mapping[str, Any], option: str) -> list[str]:
    """What is held, and the two commands that decide about it; `option` names the run directory if need be."""
    lines = []
    founders = _founders(answer)
    slots = {family["family"]: family["slots"] for family in answer["families"]}
    for incident in answer["incidents"]:
        number = incident["family"]
        part = incident["guilty_family"] or number
        name = founders.get(part) or founders.get(number) or "?"
        size = f"{slots[part]} slots" if part in slots else f"{incident['members']} members"
        now = f" (its guilty part: {part})" if part != number else ""
        what = f"family {number} of {name}{now}: {size}, verdict {incident['verdict'] or 'not yet given'}"
        lines.append(
            f"HELD    {what}" if incident["state"] in ("held", _DECIDABLE) else f"{incident['state'].upper()} {what}"
        )
        lines += [f"        {reason}" for reason in incident["reasons"]]
        lines += [f"        {words}" for words in _where(incident)]
        if incident["state"] == _DECIDABLE:
            lines.append(f"        let it go:  pidwarden release {number}{option}")
            lines.append(f"        kill it:    pidwarden kill {number}{option}")
    return lines


def _where(incident: Mapping[str, Any]) -> list[str]:
    """In which container it is, and how it is frozen; .get, because the guard may be an older one."""
    guilty = incident.get("guilty") or incident.get("origin") or {}
    words = []
    if container := guilty.get("container"):
        inner = guilty.get("inner_pid")
        name = f"{guilty['comm'] or '?'} ({guilty['pid']}" + (f", inside: {inner})" if inner is not None else ")")
        words.append(f"in container {short_name(container)}: {name}")
    if incident.get("frozen_by"):
        again = f", {incident['woken']} times stopped again" if incident.get("woken") else ""
        words.append(f"frozen by {incident['frozen_by']}{again}")
    return words


def _families(answer: Mapping[str, Any]) -> list[str]:
    founders = _founders(answer)
    rows = [
        (f["family"], f["slots"], f["peak"], f["limit"], founders[f["family"]] + ("  HELD" if f["held"] else ""))
        for f in answer["families"][:_SHOWN_FAMILIES]
    ]
    return table(("FAMILY", "SLOTS", "PEAK", "LIMIT", "FOUNDER"), rows)


def _incidents(answer: Mapping[str, Any], now_ns: int) -> list[str]:
    rows = []
    for incident in list(answer["past"])[: -_SHOWN_INCIDENTS - 1 : -1]:
        why = "; ".join(incident["reasons"])
        ago = duration(max(0, now_ns - incident["alarm_ns"]) / 3.6e12) + " ago"
        rule = "order" if incident.get("ordered") else Rule(incident["rule"]).text
        short = why if len(why) <= _SHOWN_REASONS else why[: _SHOWN_REASONS - 1] + "…"
        row = (
            ago,
            incident["family"],
            incident.get("founder") or "?",
            rule,
            incident["verdict"] or "-",
            incident["members"],
        )
        rows.append((*row, short))
    return table(("WHEN", "FAMILY", "FOUNDER", "ALARM BY", "VERDICT", "MEMBERS", "WHY"), rows)


def losses(answer: Mapping[str, Any]) -> dict[str, int]:
    """The kernel side's counters of what it could not record, without the zeros."""
    return {name: n for name, n in answer["counters"].items() if name.startswith("lost_") and n}


def history_lines(answer: Mapping[str, Any]) -> list[str]:
    """How many processes the guard remembers, for how long, and what did not fit."""
    history = answer["history"]
    size = f"{history['records']} of {history['max_records']} records"
    ceiling = f"{history['ceiling_bytes'] / 1e6:.0f} MB, allocated at the start"
    lines = [f"history: {size} ({ceiling}); the dead stay for {history['window_seconds']:g} s"]
    if history["kept_because"]:
        lines.append(f"  they stay longer now: {history['kept_because']}")
    if history["contracted"]:
        lines.append(f"  left out of long chains: {history['contracted']} dead ancestors")
    if history["folded"]:
        counted = f"{history['folded']} processes, {history['without_record']} of them alive"
        lines.append(f"  only counted, for want of room: {counted}; raise max_records in the configuration")
    return lines


def guard_lines(answer: Mapping[str, Any], directory: str, now_ns: int) -> list[str]:
    """What the guard says of itself, of families, and of incidents that are over."""
    ways = answer["capabilities"]
    lines = [f"guard: pid {answer['pid']}, mode {answer['mode']}, version {answer['version']}, {directory}"]
    lines += [f"  {what + ':':<6} {way}" for what, way in ways.items()]
    if answer.get("not_promised"):
        lines += textwrap.wrap(
            f"not promised: {answer['not_promised']}", 110, initial_indent="  ", subsequent_indent="    "
        )
    lines += [f"  not known by {name}: {why}" for name, why in answer.get("refused", {}).items()]
    if gate := answer.get("gate"):
        lines += [f"         not seen: {gate['hole']}"] if gate["hole"] else []
        lines += [f"         not by {p['gate']}: {p['why']}; to have it: {p['change']}" for p in gate["better"]]
    lines += ["", *history_lines(answer), "", "families, by slots", *_families(answer)]
    if rules := rules_lines(answer.get("rules")):
        lines += ["", *rules]
    if past := _incidents(answer, now_ns):
        lines += ["", "last incidents", *past]
    if lost := losses(answer):
        named = ", ".join(f"{name} {n}" for name, n in lost.items())
        lines += [
            "",
            f"LOSSES: {named}: the history has gaps; raise max_records in the configuration and restart the guard",
        ]
    if left_out := answer.get("left_out"):
        lines += [
            "",
            f"LEFT OUT: {left_out} times the kernel did not run a program that was under way on that processor: a fork "
            "may have passed the gate, unless that is lsm; what was missed is found by looking",
        ]
    return lines


# -- the command -------------------------------------------------------------------------------------------------------


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--run-dir", metavar="DIR", help=f"where the guard's socket lies (default: {DEFAULT_RUN_DIR})")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _measure(answer: Mapping[str, Any] | None) -> Headroom:
    """The limits, and the rate: the guard's own, or that between two looks."""
    if answer is not None:
        stat = procfs.stat(answer["pid"])
        # The guard looks first when it starts, and keeps a day's looks.
        age = boot_ns() / SECOND_NS - stat.start_ticks * TICK_NS / SECOND_NS if stat else 0.0
        return Headroom(limits.machine_limits(), answer["tasks_per_hour"], min(age, DAY_HOURS * 3600))
    before = procfs.tasks_in_use()
    time.sleep(_LOOK_SECONDS)
    grown = procfs.tasks_in_use() - before
    return Headroom(limits.machine_limits(), grown * 3600 / _LOOK_SECONDS, _LOOK_SECONDS)


def _pointer(room: Headroom) -> list[str]:
    """Where to ask, when room is short."""
    short = bool(room.limits) and room.limits[0].free <= room.limits[0].limit // _SHORT
    return ["  who fills it, and what would help: `pidwarden why`"] * short


def _object(answer: Mapping[str, Any] | None, room: Headroom, directory: str, why: str) -> dict[str, Any]:
    return {
        "guard": answer,
        "run_dir": directory,
        "error": why or None,
        "headroom": {
            "limits": [limit._asdict() | {"free": limit.free} for limit in room.limits],
            "tasks_per_hour": room.per_hour,
            "seen_seconds": round(room.seconds, 1),
            "hours_to_full": room.hours,
        },
    }


def run(args: argparse.Namespace) -> int:
    """Shows the headroom and what the guard answers.

    Raises PidwardenError: there is a guard and it does not answer us; the headroom has been shown by then.
    """
    directory = run_dir(args.run_dir)
    answer: dict[str, Any] | None = None
    failure: PidwardenError | None = None
    try:
        answer = ask(directory, "status")
    except PidwardenError as why:
        failure = why
    room = _measure(answer)
    missing = no_guard(directory) if answer is None and failure is None else ""
    if args.json:
        print(json.dumps(_object(answer, room, directory, str(failure or missing)), indent=2))
    elif answer is None:
        print("\n".join([*headroom_lines(room), *_pointer(room), *([f"guard: {missing}"] if missing else [])]))
    else:
        option = "" if directory == run_dir(None) else f" --run-dir {directory}"
        held = held_lines(answer, option)
        print(
            "\n".join(
                [
                    *held,
                    *([""] if held else []),
                    *headroom_lines(room),
                    *_pointer(room),
                    "",
                    *guard_lines(answer, directory, boot_ns()),
                ]
            )
        )
    if failure is not None:
        raise failure
    return 0
