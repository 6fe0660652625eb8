"""`pidwarden drill --shape zombie-maker` and the like: what the commands say of a lesson, and its story."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pidwarden.drill.lessons import LESSONS
from pidwarden.drill.teach import Lesson, Said, Teacher

if TYPE_CHECKING:
    import argparse

_EVIDENCE, _TYPED = 4, 6  # lines


def give(names: list[str], args: argparse.Namespace) -> bool:
    """Gives these lessons, one after the other; whether each cause was named and nothing is left of any."""
    ask = not args.json and len(names) == 1 and all(map(os.isatty, (0, 1)))
    tell = _silent if args.json else _story
    teacher = Teacher(say=say, tell=tell, hold_open=args.hold_open, ask=ask)
    failed = []
    for name in names:
        lesson = teacher.give(name)
        failed += [] if lesson.passed else [name]
        if args.json:
            print(json.dumps(lesson.as_json()), flush=True)
    if args.json:
        print(json.dumps({"summary": {"passed": not failed, "lessons": len(names), "failed": failed}}), flush=True)
    else:
        result = f"FAILED: {', '.join(failed)}" if failed else "the cause was named and nothing is left"
        print(f"\n{len(names)} lesson{'s' * (len(names) != 1)}: {result}.", flush=True)
    return not failed


# -- what the commands say ---------------------------------------------------------------------------------------------


def say(command: str, pid: int) -> Said:
    """What `pidwarden zombies` or `pidwarden orphans` finds about a process, without a guard's history."""
    return _zombies(pid) if command == "zombies" else _orphans(pid)


def _zombies(pid: int) -> Said:
    from pidwarden.diagnose.zombies import diagnose  # noqa: PLC0415  (each command is read in when it is asked)
    from pidwarden.kernel import cases  # noqa: PLC0415
    from pidwarden.kernel.patience import Reader  # noqa: PLC0415

    found = [f for case in cases.look(Reader(), meant=lambda _table: [pid]).cases for f in diagnose(case)]
    if not found:
        return Said("none", "there are no zombies of it", (), ())
    most = max(found, key=lambda f: len(f.zombies))
    return Said(most.cause.value, most.cause.text, most.evidence, tuple(rung.do for rung in most.ladder))


def _orphans(pid: int) -> Said:
    from pidwarden.cli.source import user_name  # noqa: PLC0415
    from pidwarden.diagnose.orphans import Verdict  # noqa: PLC0415
    from pidwarden.guard.orphans import Search  # noqa: PLC0415
    from pidwarden.kernel import farend  # noqa: PLC0415
    from pidwarden.kernel.logind import Logind  # noqa: PLC0415
    from pidwarden.kernel.patience import Reader  # noqa: PLC0415
    from pidwarden.rescue.table import Table  # noqa: PLC0415

    search = Search(Table().read(), [], Logind(user_name), Reader(read=farend.asked))
    task = search.table.get(pid)
    orphan = search.look(task) if task and pid in search.lost() else None
    if orphan is None:
        return Said("none", "it is no orphan", (), ())
    evidence = (orphan.lost.words, *(sign.words for sign in orphan.signs))
    leaked = orphan.verdict is Verdict.LEAKED
    text = "nobody answers for it any more" if leaked else "it seems to be meant to stay"
    return Said(orphan.verdict.value, text, evidence, (f"pidwarden orphans --kill pid:{pid}",) if leaked else ())


# -- for people --------------------------------------------------------------------------------------------------------


def _silent(_what: str, _facts: dict[str, Any]) -> None:
    """With ``--json`` only results are printed."""


def _line(what: str, text: str) -> None:
    print(f"  {what:<9}{text}".rstrip(), flush=True)


def _story(what: str, facts: dict[str, Any]) -> None:
    """Tells what happens, while it happens."""
    lesson: Lesson = facts["lesson"]
    match what:
        case "lesson":
            print(f"\n{lesson.shape}: {(LESSONS[lesson.shape].__doc__ or '').splitlines()[0]}")
            _line("made", f"in a pen of at most {facts['cap']} tasks: {_made(lesson)}")
        case "said":
            _said(lesson, facts["said"])
        case "open":
            limit = f" for {facts['seconds']:g} s at the most" if facts["seconds"] else ""
            enter = "; press Enter to end it" if facts["enter"] else ""
            _line("open", f"try it in another terminal{limit}{enter}")
        case "cleared-by-hand":
            _line("cleared", f"by hand, after {lesson.cleared_by_hand_s:g} s")
        case "ended":
            _line("ended", "nothing is left in the pen" if lesson.proven_empty else "FAILED: somebody is left")


def _made(lesson: Lesson) -> str:
    if lesson.command == "orphans":
        return f"process {lesson.pid}" + (f" and {lesson.made - 1} like it" if lesson.made > 1 else "")
    return f"{lesson.made} zombie{'s' * (lesson.made != 1)} of process {lesson.pid}"


def _said(lesson: Lesson, said: Said) -> None:
    wrong = "" if said.cause == lesson.expected else f" (FAILED: it is {lesson.expected})"
    _line(lesson.command, f"{said.cause}: {said.text}{wrong}")
    for words in said.evidence[:_EVIDENCE]:
        _line("", f"  {words}")
    _line("type", f"pidwarden {lesson.command} pid:{lesson.pid}")
    if lesson.command == "zombies":
        _line("", f"pidwarden reap pid:{lesson.pid} --dry-run")
    for command in said.type_[:_TYPED]:
        _line("", command)
