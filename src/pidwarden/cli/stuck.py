"""`pidwarden stuck`: threads that do not wake up, what they wait for, who waits behind it, and what helps."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pidwarden.cli import options, source
from pidwarden.diagnose import stuck, unstick
from pidwarden.diagnose.sleeps import TITLES
from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import patience, procfs
from pidwarden.kernel import stuck as reading
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.selector import ASKABLE, SelectorKind, parse_selector
from pidwarden.model.text import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from pidwarden.diagnose.stuck import Finding, Group
    from pidwarden.model.stuck import Someone, Thread, World

_SHOWN = 8  # threads of a group, in text; JSON has all
_SECOND_NS = 1_000_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selectors", nargs="*", metavar="SELECTOR",
        help="only what these wait for: pid:N, family:N, user:NAME, cgroup:PATH, container:ID or nspid:N",
    )  # fmt: skip
    options.watch(parser)
    source.arguments(parser)


# -- who is meant ------------------------------------------------------------------------------------------------------


def _tests(args: argparse.Namespace) -> list[Callable[[Thread], bool]]:
    """One function for each selector."""
    found: list[Callable[[Thread], bool]] = []
    for text in args.selectors:
        if text.startswith("pid:") or text.isdecimal():
            found.append(_is_process(*source.parse_pid(text), text))
            continue
        selector = parse_selector(text, ASKABLE)
        families = _families(args) if selector.kind is SelectorKind.FAMILY else {}
        found.append(_matches(source.matcher(selector), families))
    return found


def _is_process(pid: int, start: int, text: str) -> Callable[[Thread], bool]:
    if not procfs.exists(pid):
        msg = f"{text}: there is no such process (any more); `pidwarden stuck` lists all that is stuck"
        raise PidwardenError(msg)
    return lambda t: pid in (t.pid, t.tid) and (not start or not t.start_ns or t.start_ns == start // 10**7 * 10**7)


def _matches(match: Callable[[int, int, int], bool], families: dict[int, int]) -> Callable[[Thread], bool]:
    return lambda t: match(t.pid, t.uid, families.get(t.pid, 0))


def _families(args: argparse.Namespace) -> dict[int, int]:
    taken = source.take(args, "families")
    if taken.answer is None:
        msg = "families are known only while a guard runs; type `sudo pidwarden guard`"
        raise PidwardenError(msg)
    from pidwarden.kernel import snapshot  # noqa: PLC0415  (for this selector only)

    frame = snapshot.from_guard(taken.data, ("tgid", "slots", "family"))
    rows = zip(frame["tgid"], frame["slots"], frame["family"], strict=True)
    return {pid: family for pid, slots, family in rows if slots > 0}


def _chosen(groups: Sequence[Group], tests: Sequence[Callable[[Thread], bool]]) -> list[Group]:
    """The groups with somebody who is meant. What a selector reads may not be answered either."""
    if not tests:
        return list(groups)

    def has_one(group: Group) -> bool:
        return any(test(f.thread) for f in group.findings for test in tests)

    return [group for group, meant in patience.sweep(groups, has_one).found if meant]


# -- as JSON -----------------------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    return escape(name.encode("utf-8", "surrogateescape"))


def _someone(who: Someone) -> dict[str, Any]:
    return {"pid": who.pid, "comm": escape(who.comm), "state": who.state or None}


def _thread(finding: Finding) -> dict[str, Any]:
    t = finding.thread
    return {
        "pid": t.pid,
        "tid": t.tid,
        "start_ns": t.start_ns or None,
        "comm": escape(t.comm),
        "uid": t.uid,
        "state": t.state,
        "kernel": t.kernel,
        "cause": finding.cause.value,
        "certain": finding.place.certain,
        "asleep_ns": t.asleep_ns,
        "same_sleep": t.same,
        "functions": list(t.functions),
        "whole_stack": t.whole,
        "syscall": t.call or None,
        "fd": t.descriptor,
        "file": _text(t.target) or None,
        "sigkill_pending": t.kill_pending,
        "killable": finding.kill,
        "evidence": [_text(e) for e in finding.evidence],
    }


def _group(group: Group, world: World) -> dict[str, Any]:
    place, what = group.place, unstick.remedy(group, world)
    mount = place.mount
    return {
        "cause": group.cause.value,
        "waiters": group.waiters,
        "place": {
            "kind": place.kind or None,
            "name": _text(place.name) or None,
            "certain": place.certain,
            "device": mount.device if mount else None,
            "type": _text(mount.kind) if mount else None,
            "source": _text(mount.source) if mount else None,
        },
        "candidates": [_text(m.where) for m in stuck.candidates(group.findings[0], world)],
        "waits_for": [_someone(who) for who in group.waits_for],
        "nobody": group.nobody or None,
        "steps": [step._asdict() for step in what.steps],
        "no_remedy": what.none or None,
        "sigkill": what.kill,
        "threads": [_thread(f) for f in group.findings],
    }


# -- as text -----------------------------------------------------------------------------------------------------------


def _duration(ns: int | None) -> str:
    if ns is None:
        return "for how long is not known"
    seconds = ns / _SECOND_NS
    if seconds < 120:  # noqa: PLR2004
        return f"at least {seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"at least {hours} h {minutes} min" if hours else f"at least {minutes} min {rest} s"


def _headline(group: Group) -> str:
    place, mount = group.place, group.place.mount
    text = f"{group.waiters} thread{'s' if group.waiters > 1 else ''} wait{'' if group.waiters > 1 else 's'} for "
    text += TITLES[group.cause]
    if mount and place.kind == "mount":
        text += f": {_text(mount.where)} ({_text(mount.kind)} {_text(mount.source)}, device {mount.device})"
    elif place.kind:
        text += f": {place.kind} {_text(place.name)}"
    return text + ("" if place.certain or not place.kind else ", most likely")


def _lines(group: Group, world: World) -> list[str]:
    what = unstick.remedy(group, world)
    lines = [_headline(group)]
    if names := [_text(m.where) for m in stuck.candidates(group.findings[0], world)]:
        lines.append(f"  which one is not known, as a path is in the thread's memory; one of: {', '.join(names)}")
    for who in group.waits_for:
        state = f", state {who.state}" if who.state else ""
        lines.append(f"  waits for: {who.pid} {escape(who.comm)}{state}")
    if group.nobody:
        lines.append(f"  waits for: {group.nobody}")
    for finding in group.findings[:_SHOWN]:
        t = finding.thread
        number = str(t.pid) if t.tid == t.pid else f"{t.pid}/{t.tid}"
        file = f", {_text(t.target)}" if t.target else ""
        named = f"{number} {escape(t.comm)} ({source.user_name(t.uid)})"
        lines.append(f"  {named} {t.state}, {_duration(t.asleep_ns)}{file}")
        lines.append(f"    {_text('; '.join(finding.evidence))}")
    if (more := group.waiters - _SHOWN) > 0:
        lines.append(f"  … and {more} more; `--json` has all")
    for step in what.steps:
        lines.append(f"  do: {step.what}" + (f":  {step.command}" if step.command else ""))
        if step.risk != "none":
            lines.append(f"      risk: {step.risk}")
    if what.none:
        lines.append(f"  do: {what.none}")
    lines.append(f"  kill: {what.kill}")
    return lines


# -- the command -------------------------------------------------------------------------------------------------------


def _look(args: argparse.Namespace, tests: Sequence[Callable[[Thread], bool]]) -> int:
    """One look, printed; how many threads it shows."""
    try:
        found = reading.look()
    except BlockingIOError as why:
        msg = f"cannot read of what is stuck: {why.strerror}, and that must not wait; see `pidwarden rescue`"
        raise NotPossible(msg) from why
    groups = _chosen(stuck.group(stuck.find(found.threads, found.world), found.world), tests)
    threads = sum(g.waiters for g in groups)
    notes = list(found.world.blind)
    if os.geteuid() and any(f.thread.blind for g in groups for f in g.findings):
        notes.append("of other users' threads only the state is shown: type `sudo pidwarden stuck`")
    if args.json:
        head = {"source": "proc", "boot_ns": boot_ns(), "notes": notes, "seen": found.seen, "stuck": threads}
        print(json.dumps(head | {"groups": [_group(g, found.world) for g in groups]}), flush=True)
        return threads
    for note in notes:
        print(f"pidwarden stuck: {note}", file=sys.stderr)
    if not groups:
        print("nothing is stuck", flush=True)
    else:
        print("\n\n".join("\n".join(_lines(g, found.world)) for g in groups), flush=True)
    return threads


def run(args: argparse.Namespace) -> int:
    """Prints what is stuck. 1 if anything is, 0 if nothing is.

    Raises:
        PidwardenError: a selector names nobody. NotPossible: no thread can be started.
    """
    tests = _tests(args)
    stuck_now = _look(args, tests)
    while args.watch is not None:
        time.sleep(args.watch)
        if not args.json:
            print(f"\n-- {time.strftime('%H:%M:%S')}", flush=True)
        stuck_now = _look(args, tests)
    return 1 if stuck_now else 0
